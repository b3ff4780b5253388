"""Soak: a random tree under random calls and crashes for as long as you like; nothing may grow.

    python -m tests.soak chaos --seconds 600       starts, crashes, stops, restarts, asks
    python -m tests.soak restarts --count 1000000  one service, restarted again and again
    python -m tests.soak children --count 1000000  short children, one after the other

Each says what it saw, and fails when a rule is broken: M7's sum, O4, H1, S10. `--seed` repeats the
choices of a chaos; how threads interleave with them stays the machine's.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import logging
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import trio

import actorvisor as av
from tests.runtime.account import check_account
from tests.runtime.paths import FOLLOWS

ROUND: Final = 5.0
"""Seconds that one host of a chaos lives."""
MOST: Final = 60
"""Actors that a chaos lets live at once."""
CALLS: Final = (
    *("ask", "ask", "tell", "tell", "crash", "crash", "slow", "beside", "between", "leave"),
    *("stop", "restart", "remove", "start", "new", "tree", "under", "force"),
)
PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class Fault(Exception):
    """What crashes on purpose."""


@dataclass(frozen=True)
class Footprint:
    """What this process holds.

    Attributes:
        memory: resident, in bytes.
        descriptors: open ones.
        threads: live ones, those that trio keeps for the next call not counted.
    """

    memory: int
    descriptors: int
    threads: int

    @classmethod
    def now(cls) -> Footprint:
        """After what can be collected is."""
        gc.collect()
        with open("/proc/self/statm") as statm:
            memory = int(statm.read().split()[1]) * PAGE
        names = [thread.name for thread in threading.enumerate()]
        busy = [name for name in names if not name.startswith("Trio thread")]
        return cls(memory, len(os.listdir("/proc/self/fd")), len(busy))

    def __str__(self) -> str:
        return (
            f"{self.memory / 2**20:.1f} MiB, {self.descriptors} descriptors, {self.threads} threads"
        )


class Paths:
    """Checks each actor's notifications against the lifecycle table as they come (O1, O4)."""

    def __init__(self) -> None:
        self.last: dict[str, type[av.Notification]] = {}
        self.sequence = 0
        self.count: Counter[str] = Counter()

    async def read(self, events: av.Events) -> None:
        """Read until the host has ended."""
        async for one in events:
            self.count[type(one).__name__] += 1
            if isinstance(one, av.Missed):
                self.last.clear()
            elif not isinstance(one, av.DeadLetter) and one.path in self.last:
                before = self.last[one.path]
                assert isinstance(one, FOLLOWS[before]), (before, one)
            assert one.sequence > self.sequence, one
            self.sequence = one.sequence
            if not isinstance(one, av.DeadLetter | av.Missed):
                self.last[one.path] = type(one)


# --- chaos --------------------------------------------------------------------------------


class Actor(av.Service):
    """What both kinds of services of a chaos share."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def add(self, number: int) -> int:
        return number + 1

    def crash(self) -> None:
        raise Fault

    def leave(self) -> None:
        self.stop()

    def teardown(self, reason: av.ExitReason) -> None:
        if self.random.random() < 0.05:
            raise Fault("teardown")


class Coroutine(Actor):
    async def setup(self) -> None:
        if self.random.random() < 0.1:
            await trio.sleep(self.random.random() * 0.01)

    async def slow(self) -> None:
        await trio.sleep(self.random.random() * 0.01)

    async def beside(self) -> None:
        self.start_soon(self.slow)

    async def ask(self, other: av.Ref[Any]) -> None:
        with contextlib.suppress(av.ActorvisorError), trio.move_on_after(0.02):
            await other.ask(Actor.add, 1)


class Thread(Actor):
    def slow(self) -> None:
        deadline = time.monotonic() + self.random.random() * 0.005
        while time.monotonic() < deadline and not self.stopping:
            pass

    def beside(self) -> None:
        self.start_soon(self.slow)

    def ask(self, other: av.Ref[Any]) -> None:
        with contextlib.suppress(av.ActorvisorError):
            other.blocking.tell(Actor.add, 1)


class Chaos:
    """Random calls on the actors of one host."""

    def __init__(self, host: av.Host, choices: random.Random) -> None:
        self.host = host
        self.choices = choices
        self.executor = av.ThreadExecutor()
        self.calls: Counter[str] = Counter()

    def application(self) -> av.Application[Any]:
        """A random service."""
        choices = self.choices
        threads = choices.random() < 0.3
        return av.Application(
            Thread if threads else Coroutine,
            choices.randrange(2**32),
            executor=self.executor if threads else av.AsyncExecutor(),
            restart=choices.choice(("permanent", "permanent", "transient", "temporary")),
            backoff=choices.choice(
                (av.Immediate(), av.Fixed(0.01), av.Exponential(base=0.005, cap=0.02))
            ),
            mailbox=choices.choice((1, 5, 1000)),
            redeliver=choices.choice((0, 0, 2)),
            grace=choices.choice((0.02, 1.0)) if not threads else 5.0,
        )

    def tree(self, depth: int = 2) -> av.Supervisor:
        """A random supervisor."""
        choices = self.choices
        children = [
            self.tree(depth - 1) if depth and choices.random() < 0.3 else self.application()
            for _ in range(choices.randrange(1, 5))
        ]
        return av.Supervisor(
            [_named(child, f"c{number}") for number, child in enumerate(children)],
            name=f"s{choices.randrange(10**9)}",
            strategy=choices.choice(("one_for_one", "one_for_all", "rest_for_one")),
            max_restarts=choices.choice((3, 40)),
            within=1.0,
            restart=choices.choice(("permanent", "transient", "temporary")),
        )

    def actors(self) -> list[Any]:
        """Refs to all that there is."""
        found: list[Any] = []
        stack: list[Any] = list(self.host.children())
        while stack:
            ref = stack.pop()
            found.append(ref)
            if isinstance(ref, av.SupervisorRef):
                stack.extend(ref.children())
        return found

    async def drive(self) -> None:
        """Call something, again and again, until it is cancelled."""
        while True:
            actors = self.actors()
            ref = self.choices.choice(actors) if actors else None
            call = self.choices.choice(CALLS)
            with (
                contextlib.suppress(av.ActorvisorError, Fault, LookupError),
                trio.move_on_after(self.choices.choice((0.001, 0.05, 1.0))),
            ):
                await self.call(call, ref, actors)
                self.calls[call] += 1
            await trio.sleep(self.choices.random() * 0.002)

    async def call(self, call: str, ref: Any, actors: list[Any]) -> None:
        """One call."""
        few = len(actors) < MOST
        service = isinstance(ref, av.Ref)
        match call:
            case "new" if few:
                await self.host.start(self.application())
            case "tree" if few:
                await self.host.start(self.tree())
            case "under" if few and isinstance(ref, av.SupervisorRef):
                await ref.start(self.application())
            case "ask" if service:
                assert await ref.ask(Actor.add, 41) == 42
            case "tell" if service:
                for number in range(self.choices.randrange(10)):
                    await ref.tell(Actor.add, number)
            case "crash" if service:
                await ref.tell(Actor.crash)
            case "slow" | "beside" | "leave" if service:
                # Looked up by name, since the two classes have them each for itself.
                for kind in (Coroutine, Thread):
                    with contextlib.suppress(TypeError):
                        await ref.tell(getattr(kind, call))
            case "between" if service:
                for kind in (Coroutine, Thread):
                    with contextlib.suppress(TypeError):
                        await ref.tell(kind.ask, self.choice_of_service(actors))
            case "stop" | "remove" if ref is not None:
                await getattr(ref, call)(drain=self.choices.choice((0, 0.01, 0.1)))
            case "force" if ref is not None:
                await ref.stop(grace=0)
            case "restart" | "start" if ref is not None:
                await getattr(ref, call)()
            case _:
                pass

    def choice_of_service(self, actors: list[Any]) -> av.Ref[Any]:
        """A service."""
        ref: av.Ref[Any] = self.choices.choice([one for one in actors if isinstance(one, av.Ref)])
        return ref


def _named(child: Any, name: str) -> Any:
    """The same declaration by another name."""
    if isinstance(child, av.Supervisor):
        return child
    return av.Application(
        child.target,
        *child.args,
        name=name,
        executor=child.executor,
        restart=child.spec.restart,
        backoff=child.spec.backoff,
        mailbox=child.mailbox,
        redeliver=child.redeliver,
        grace=child.grace,
    )


async def one_host(choices: random.Random, seconds: float) -> tuple[Counter[str], Paths]:
    """A host under chaos for some seconds."""
    paths = Paths()
    tasks = trio.lowlevel.current_statistics().tasks_living
    async with trio.open_nursery() as outside:
        async with av.open_host(
            on_limit="drop",
            drain=choices.choice((0, 0.1)),
            random=random.Random(choices.randrange(2**32)),
            max_abandoned=1000,
        ) as host:
            outside.start_soon(paths.read, host.events())  # noqa: ASYNC111
            chaos = Chaos(host, choices)
            with trio.move_on_after(seconds) as scope:
                async with trio.open_nursery() as drivers:
                    for _ in range(5):
                        drivers.start_soon(chaos.drive)
                    while True:
                        await trio.sleep(0.25)
                        check_account(host)  # M7
            assert scope.cancelled_caught
        account = check_account(host)
        assert account.waiting == account.in_hand == 0
        assert host.children() == ()
    # H1: nothing is left of it.
    assert trio.lowlevel.current_statistics().tasks_living == tasks
    abandoned = host.statistics().abandoned
    assert not abandoned, f"{abandoned} threads were left behind"
    return chaos.calls, paths


def chaos(seconds: float, seed: int) -> None:
    """Hosts under chaos, one after the other; what they leave must not grow."""
    print(f"seed {seed}", flush=True)
    choices = random.Random(seed)
    begin = time.monotonic()
    calls: Counter[str] = Counter()
    told: Counter[str] = Counter()
    footprints: list[Footprint] = []
    while time.monotonic() - begin < seconds:
        left = seconds - (time.monotonic() - begin)
        length = min(ROUND, max(left, 0.5))
        made, paths = trio.run(one_host, choices, length)
        calls += made
        told += paths.count
        footprints.append(Footprint.now())
    print(f"{len(footprints)} hosts, calls: {dict(calls)}")
    print(f"notifications: {dict(told)}")
    # The first third fills caches: of trio, of modules, of the allocator.
    settled = footprints[len(footprints) // 3]
    print(f"after a third: {settled}\nat the end:    {footprints[-1]}")
    check_flat(settled, footprints[-1], tolerance=0.05)


def check_flat(before: Footprint, after: Footprint, tolerance: float) -> None:
    """Fail if what is held has grown (S10)."""
    growth = after.memory / before.memory - 1
    print(f"memory grew by {growth:+.2%}")
    assert growth <= tolerance, f"memory grew by {growth:.2%}"
    assert after.descriptors == before.descriptors
    assert after.threads == before.threads


# --- a million ----------------------------------------------------------------------------


class Fragile(av.Service):
    """Says when it is up, and crashes when it is told to."""

    def __init__(self, ups: trio.MemorySendChannel[None]) -> None:
        self.ups = ups

    def setup(self) -> None:
        self.ups.send_nowait(None)

    def crash(self) -> None:
        raise Fault


class Short(av.Service):
    """Lives for one answer."""

    def only(self) -> str:
        self.stop()
        return "done"


async def many_restarts(count: int) -> tuple[Footprint, Footprint]:
    """One service, restarted that often; what was held after a tenth, and at the end."""
    early = None
    ups, up = trio.open_memory_channel[None](1)
    async with av.open_host(max_restarts=10**6, within=0.01) as host:
        fragile = await host.start(av.Application(Fragile, ups))
        await up.receive()
        for number in range(1, count + 1):
            await fragile.tell(Fragile.crash)
            await up.receive()
            if number == count // 10:
                early = Footprint.now()
        assert host.statistics().restarts == count
        assert check_account(host).dead_letters == count
        late = Footprint.now()
    assert early is not None
    return early, late


async def many_children(count: int) -> tuple[Footprint, Footprint]:
    """That many short children, one after the other."""
    early = None
    async with av.open_host() as host:
        for number in range(1, count + 1):
            short = await host.start(av.Application(Short, restart="temporary"))
            assert await short.ask(Short.only) == "done"
            await short.stopped()
            if number == count // 10:
                early = Footprint.now()
        assert host.children() == ()
        assert check_account(host).handled == count
        late = Footprint.now()
    assert early is not None
    return early, late


def million(kind: str, count: int) -> None:
    """Run one of the two, and say how much was held after a tenth and at the end."""
    logging.getLogger("actorvisor").disabled = True
    begin = time.monotonic()
    function = many_restarts if kind == "restarts" else many_children
    early, late = trio.run(functools.partial(function, count))
    took = (time.monotonic() - begin) / count
    print(f"{count:,} {kind}, {took * 1e6:.0f} us each")
    print(f"after {count // 10:,}: {early}\nafter {count:,}: {late}")
    # A short run has not filled all caches after a tenth of it.
    check_flat(early, late, tolerance=0.02 if count >= 1_000_000 else 0.2)


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=("chaos", "restarts", "children"))
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options = parser.parse_args(argv)
    if options.what == "chaos":
        logging.getLogger("actorvisor").addHandler(logging.NullHandler())
        logging.getLogger("actorvisor").propagate = False
        chaos(options.seconds, options.seed)
    else:
        million(options.what, options.count)


if __name__ == "__main__":
    main()
