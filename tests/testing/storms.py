"""Storms: random trees with every option there is, and random calls, crashes and cancellations."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from typing import Any, Final

import trio

import actorvisor as av


class Lightning(Exception):
    """What strikes."""


class Thunder(Exception):
    """What strikes with a verdict of its own (S11)."""


class Sailor(av.Service):
    """Bears what its messages bring, and comes and goes as its numbers say."""

    def __init__(self, seed: int, harshness: float) -> None:
        self.draw = random.Random(seed)
        self.harshness = harshness

    async def setup(self) -> None:
        self.draw.seed(self.draw.random() + self.ref.incarnation)
        if self.draw.random() < 0.2:
            await trio.sleep(self.draw.choice([0, 0.1, 0.5]))
        if self.draw.random() < self.harshness / 2 and self.ref.incarnation > 1:
            raise Lightning("setup")
        if self.draw.random() < self.harshness / 10:
            self.stop()
        if self.draw.random() < 0.2:
            self.every(0.3, Sailor.tick)
        if self.draw.random() < 0.2:
            self.after(0.2, Sailor.tick)
        if self.draw.random() < 0.2:
            self.start_soon(self.drift)

    async def teardown(self, reason: av.ExitReason) -> None:
        if self.draw.random() < 0.2:
            await trio.sleep(self.draw.choice([0, 0.1, 2]))
        if self.draw.random() < self.harshness / 5:
            raise Lightning("teardown")

    def tick(self) -> None:
        pass

    async def drift(self) -> None:
        await trio.sleep(self.draw.random())
        with contextlib.suppress(av.ActorvisorError):
            await self.ref.tell(Sailor.tick)
        if self.draw.random() < self.harshness:
            raise Lightning("background")
        await trio.sleep(self.draw.random())

    def receive(self, message: object) -> None:
        pass

    async def work(self, seconds: float, what: str, other: str) -> object:
        await trio.sleep(seconds)
        match what:
            case "crash":
                raise Lightning("handler")
            case "thunder":
                raise Thunder
            case "reject":
                raise av.Rejection
            case "stop":
                self.stop()
            case "later":
                with contextlib.suppress(RuntimeError):
                    self.after(0.1, Sailor.answer, self.reply_later())
            case "tell" | "ask" | "watch":
                with contextlib.suppress(av.ActorvisorError, LookupError, TypeError):
                    ref: av.Ref[Any] = self.find(other, av.Service)
                    if what == "tell":
                        await ref.tell(Sailor.tick)
                    elif what == "watch":
                        self.monitor(ref)
                    else:
                        with trio.move_on_after(0.3):
                            await ref.ask(Sailor.work, 0.1, "", "")
            case "background":
                self.start_soon(self.drift)
            case _:
                pass
        return seconds

    def answer(self, later: av.LaterReply) -> None:
        with contextlib.suppress(RuntimeError):
            later.send(1)


class Reader(av.Service):
    """A loop that reads its mail."""

    async def run(self) -> None:
        async for message in self.mailbox:
            await trio.sleep(0.05)
            if message == "crash":
                raise Lightning("loop")
            if message == "leave":
                return


async def visit(seed: int) -> int:
    """A function."""
    draw = random.Random(seed)
    await trio.sleep(draw.random() * 2)
    if draw.random() < 0.5:
        raise Lightning("function")
    return seed


WHAT: Final = (
    *("", "", "crash", "crash", "crash", "thunder", "reject", "stop", "later", "tell", "ask"),
    *("watch", "background"),
)
CONTROLS: Final = ("stop", "restart", "restart", "start", "remove", "kill", "cancelled start")
CALLS: Final = (
    *("ask", "ask", "tell", "tell", "nowait", "send", "burst") * 6,
    *CONTROLS,
    *("new", "new"),
)


class Storm:
    """One storm.

    Args:
        seed: of all that happens in it.
        executor: where its services run.
        harshness: how often something goes wrong by itself.
        calls: how many there are, at most.
    """

    def __init__(
        self,
        seed: int,
        *,
        executor: av.Executor | None = None,
        harshness: float = 0.1,
        calls: int = 90,
    ) -> None:
        self.calls = calls
        self.draw = random.Random(seed)
        self.executor = executor or av.AsyncExecutor()
        self.harshness = harshness
        self.tree = [self.any(f"{place}", 0) for place in range(self.draw.randint(2, 5))]
        self.options: dict[str, Any] = {
            "max_restarts": self.draw.choice([0, 3, 20, 20]),
            "within": self.draw.choice([0.5, 2.0]),
            "on_limit": self.draw.choice(["end", "drop", "drop", "drop"]),
            "random": random.Random(seed),
            "drain": self.draw.choice([0.0, 1.0]),
            "cancel_grace": 1.0,
        }

    # --- the tree -------------------------------------------------------------------------

    def any(self, name: str, depth: int) -> Any:
        kind = self.draw.random()
        if depth < 3 and kind < 0.45 - depth / 10:
            return self.supervisor(name, depth)
        if kind < 0.6 and depth:
            return self.pool(name)
        if kind < 0.65:
            return av.Application(visit, self.draw.randrange(10**6), name=name, **self.common())
        if kind < 0.7:
            return av.Application(Reader, name=name, **self.common())
        return self.sailor(name)

    def common(self, significant: bool = False) -> dict[str, Any]:
        options: dict[str, Any] = {
            "restart": self.draw.choice(["permanent", "permanent", "transient", "temporary"]),
            "backoff": self.draw.choice(
                [av.Immediate(), av.Immediate(), av.Fixed(0.2), av.Exponential(0.1, jitter=0.5)]
            ),
        }
        if significant and options["restart"] != "permanent":
            options["significant"] = self.draw.random() < 0.5
        return options

    def sailor(self, name: str, significant: bool = False) -> av.Application[Sailor]:
        options = self.common(significant)
        if self.draw.random() < 0.3:
            verdicts = ["escalate", "stop"]
            if options["restart"] != "temporary":
                verdicts.append("restart")
            options["on_crash"] = {Thunder: self.draw.choice(verdicts)}
        return av.Application(
            Sailor,
            self.draw.randrange(10**6),
            self.harshness,
            name=name,
            executor=self.executor,
            redeliver=self.draw.choice([0, 0, 1, 3]),
            mailbox=self.draw.choice([1, 2, 1000]),
            overflow=self.draw.choice(["wait", "wait", "drop_oldest"]),
            grace=self.draw.choice([0.0, 0.2, 5.0]),
            start_timeout=self.draw.choice([0.3, 30.0]),
            **options,
        )

    def pool(self, name: str) -> av.Pool[Sailor]:
        return av.Pool(
            self.sailor("member"),
            size=self.draw.randint(1, 3),
            key=self.draw.choice([None, key_of]),
            max_restarts=self.draw.choice([1, 5, 50]),
            within=self.draw.choice([0.5, 5.0]),
            name=name,
        )

    def supervisor(self, name: str, depth: int) -> av.Supervisor:
        strategy: Any = self.draw.choice(["one_for_one", "one_for_all", "rest_for_one"])
        alone = strategy == "one_for_one"
        auto: Any = self.draw.choice(["never", "any", "all"])
        children = []
        for place in range(self.draw.randint(0, 4)):
            if auto != "never" and self.draw.random() < 0.5:
                children.append(self.sailor(f"{place}", significant=True))
            else:
                children.append(self.any(f"{place}", depth + 1))
        options = self.common()
        return av.Supervisor(
            children,
            strategy=strategy,
            max_restarts=self.draw.choice([0, 1, 2, 5, 50]),
            within=self.draw.choice([0.2, 1.0, 5.0]),
            on_limit=self.draw.choice(["end", "drop"]) if alone else "end",
            auto_shutdown=auto,
            start=self.draw.choice(["in_order", "together"]) if alone else "in_order",
            name=name,
            **options,
        )

    # --- what happens ---------------------------------------------------------------------

    async def rage(self, open_host: Callable[..., Any]) -> None:
        """Open a host, and let it happen."""
        with contextlib.suppress(ExceptionGroup, av.ActorvisorError, Lightning):
            async with open_host(self.tree, **self.options) as host:
                with trio.move_on_after(self.draw.choice([2.0, 30.0])):
                    async with trio.open_nursery() as nursery:
                        for _ in range(3):
                            nursery.start_soon(self._sail, host, nursery, self.calls // 3)

    async def _sail(self, host: av.Host, nursery: trio.Nursery, calls: int) -> None:
        for _ in range(calls):
            await trio.sleep(self.draw.choice([0, 0, 0.05, 0.1, 0.3]))
            call = self.draw.choice(CALLS)
            if self.draw.random() < 0.5:
                await self._call(host, call)
            else:
                nursery.start_soon(self._call, host, call)

    async def _call(self, host: av.Host, call: str) -> None:
        paths = [node.path for node in host.tree().walk()][1:]
        if not paths:
            call = "new"
        target = self.draw.choice(paths) if paths else ""
        patience = self.draw.choice([0.05, 0.2, 1.0, 3.0])
        with contextlib.suppress(av.ActorvisorError, LookupError, TypeError, ValueError, Lightning):
            with trio.move_on_after(patience):
                await self._do(host, call, target)

    async def _do(self, host: av.Host, call: str, path: str) -> None:
        what, other = self.draw.choice(WHAT), path
        seconds = self.draw.choice([0, 0, 0.1, 1.0])
        match call:
            case "new":
                above = self._ref(host, path.rpartition("/")[0])
                where: Any = above if isinstance(above, av.SupervisorRef) else host
                name = self.draw.choice(["x", "y", None])
                app = self.any(name or "z", 2)
                await where.start(app)
                return
            case _:
                ref = self._ref(host, path)
        if isinstance(ref, av.SupervisorRef) and call not in CONTROLS:
            call = self.draw.choice(CONTROLS)
        match call:
            case "stop":
                await ref.stop(drain=self.draw.choice([0, 1]))
            case "kill":
                await ref.stop(grace=0)
            case "remove":
                await ref.remove(drain=0)
            case "restart" | "start":
                await getattr(ref, call)()
            case "cancelled start":
                with trio.move_on_after(0.01):
                    await ref.restart()
            case "ask":
                await ref.ask(Sailor.work, seconds, what, other)
            case "tell":
                await ref.tell(Sailor.work, seconds, what, other)
            case "nowait":
                ref.tell_nowait(Sailor.work, seconds, what, other)
            case "send":
                await ref.send(self.draw.choice(["crash", "leave", "", ""]))
            case "burst":
                for _ in range(5):
                    await ref.tell(Sailor.work, 0, "", "")
            case _:
                pass

    def _ref(self, host: av.Host, path: str) -> Any:
        node = host.tree().find(path)
        kind: Any = av.Supervisor if node is not None and node.kind == "supervisor" else av.Service
        return host.find(path, kind)


def key_of(*args: object, **_: object) -> str:
    """The key of a message."""
    return repr(args)
