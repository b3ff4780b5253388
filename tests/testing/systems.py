"""Random systems: trees of services of every kind, and a driver that keeps them busy.

A system is drawn from a number and from nothing else, and everything that it does is in the
messages that it is sent: so the same number is the same system, in any process.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import trio

import actorvisor as av

Step: TypeAlias = "tuple[str, Any, Any]"
Script: TypeAlias = tuple[Step, ...]


class Broken(Exception):
    """What a script raises."""


class LoopActor(av.Service):
    """Does what its messages say, where there is a loop."""

    def __init__(self) -> None:
        self.seen = 0

    async def setup(self) -> None:
        await trio.lowlevel.checkpoint()

    async def act(self, script: Script) -> int:
        self.seen += 1
        for verb, what, more in script:
            match verb:
                case "sleep":
                    await trio.sleep(what)
                case "tell":
                    with contextlib.suppress(av.ActorvisorError):
                        await self.find(what, av.Service).tell(method_of(what), more)
                case "ask":
                    with contextlib.suppress(av.ActorvisorError), trio.move_on_after(1):
                        await self.find(what, av.Service).ask(method_of(what), more)
                case "background":
                    self.start_soon(trio.sleep, what)
                case "after":
                    self.after(what, LoopActor.act, more)
                case _:
                    self._rest(verb)
        return self.seen

    def _rest(self, verb: str) -> None:
        match verb:
            case "raise":
                raise Broken
            case "reject":
                raise av.Rejection
            case "stop":
                self.stop()
            case _:
                pass  # it has no meaning here

    async def teardown(self, reason: av.ExitReason) -> None:
        await trio.lowlevel.checkpoint()


class BlockingActor(av.Service):
    """Does what its messages say, where it may block."""

    def __init__(self) -> None:
        self.seen = 0

    def setup(self) -> None:
        assert not self.stopping

    def act(self, script: Script) -> int:
        self.seen += 1
        for verb, what, more in script:
            match verb:
                case "tell":
                    with contextlib.suppress(av.ActorvisorError):
                        self.find(what, av.Service).blocking.tell(method_of(what), more)
                case "ask":
                    with contextlib.suppress(av.ActorvisorError):
                        self.find(what, av.Service).blocking.ask(method_of(what), more)
                case "after":
                    self.after(what, BlockingActor.act, more)
                case "raise":
                    raise Broken
                case "reject":
                    raise av.Rejection
                case "stop":
                    self.stop()
                case _:
                    pass  # it has no meaning here
        return self.seen


def method_of(path: str) -> Any:
    return BlockingActor.act if path[-1] in "tp" else LoopActor.act


EXECUTORS: dict[str, av.Executor] = {
    "c": av.AsyncExecutor(),
    "t": av.ThreadExecutor(),
    "a": av.AsyncProcessExecutor(standby=0),
    "p": av.ProcessExecutor(),
}
"""By the last letter of a service's name."""


def draw_system(number: int, kinds: str = "ctap") -> Callable[..., Awaitable[list[str]]]:
    """The system of that number.

    Args:
        number: which one.
        kinds: the executors of its services, by their letters.
    """
    draw = random.Random(number)
    paths: list[str] = []
    tree = [
        _draw_supervisor(draw, f"s{place}", paths, kinds, 0) for place in range(draw.randint(1, 2))
    ]
    errands = [
        [(draw.uniform(0, 2), draw.choice(paths), draw_script(draw, paths, 0)) for _ in range(8)]
        for _ in range(3)
    ]
    controls = [
        (draw.uniform(0, 3), draw.choice(paths), draw.choice(["restart", "stop", "start"]))
        for _ in range(draw.randint(0, 3))
    ]

    async def system(open_host: Any) -> list[str]:
        said: list[str] = []

        async def run_errands(host: av.Host, todo: list[tuple[float, str, Script]]) -> None:
            for pause, path, script in todo:
                await trio.sleep(pause)
                try:
                    with trio.move_on_after(2) as scope:
                        value = await host.find(path, av.Service).ask(method_of(path), script)
                        said.append(f"{path}: {value}")
                    if scope.cancelled_caught:
                        said.append(f"{path}: too late")
                except (av.ActorvisorError, LookupError) as error:
                    said.append(f"{path}: {type(error).__name__}")

        async def control(host: av.Host, pause: float, path: str, what: str) -> None:
            await trio.sleep(pause)
            with contextlib.suppress(av.ActorvisorError, LookupError, Broken):
                await getattr(host.find(path, av.Service), what)()

        with contextlib.suppress(BaseExceptionGroup):
            async with open_host(tree, max_restarts=2, within=1.0) as host:
                async with trio.open_nursery() as nursery:
                    for todo in errands:
                        nursery.start_soon(run_errands, host, todo)
                    for one in controls:
                        nursery.start_soon(control, host, *one)
        return said

    return system


def _draw_supervisor(
    draw: random.Random, name: str, paths: list[str], kinds: str, depth: int, above: str = "host"
) -> av.Supervisor:
    path = f"{above}/{name}"
    children: list[Any] = []
    for place in range(draw.randint(1, 3)):
        if depth < 1 and draw.random() < 0.25:
            children.append(_draw_supervisor(draw, f"n{place}", paths, kinds, depth + 1, path))
            continue
        kind = draw.choice(kinds)
        options: dict[str, Any] = {}
        if draw.random() < 0.5:
            options["backoff"] = av.Exponential(base=draw.choice([0.1, 0.5]), cap=2.0)
        children.append(
            av.Application(
                BlockingActor if kind in "tp" else LoopActor,
                name=f"w{place}{kind}",
                executor=EXECUTORS[kind],
                restart=draw.choice(["permanent", "permanent", "transient", "temporary"]),
                redeliver=draw.choice([0, 0, 1, 2]),
                mailbox=draw.choice([1, 3, 1000]),
                grace=draw.choice([0.0, 0.5, 5.0]),
                **options,
            )
        )
        paths.append(f"{path}/{children[-1].name}")
    return av.Supervisor(
        children,
        name=name,
        strategy=draw.choice(["one_for_one", "one_for_one", "one_for_all", "rest_for_one"]),
        max_restarts=draw.choice([1, 3, 10]),
        within=draw.choice([1.0, 5.0]),
    )


def draw_script(draw: random.Random, paths: list[str], depth: int) -> Script:
    steps: list[Step] = []
    for _ in range(draw.randint(0, 3)):
        verb = draw.choice(
            ["sleep", "sleep", "tell", "ask", "background", "after", "raise", "reject", "stop"]
        )
        match verb:
            case "sleep" | "background":
                steps.append((verb, round(draw.uniform(0, 1), 2), None))
            case "tell" | "ask" | "after" if depth < 2:
                what = round(draw.uniform(0, 1), 2) if verb == "after" else draw.choice(paths)
                steps.append((verb, what, draw_script(draw, paths, depth + 1)))
            case "raise" | "reject" | "stop" if draw.random() < 0.4:
                steps.append((verb, None, None))
            case _:
                pass
    return tuple(steps)
