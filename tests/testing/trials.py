"""Small systems, each with one invariant of its own where the trace alone cannot tell."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import trio

import actorvisor as av
from actorvisor.testing import (
    ALL,
    Fault,
    Hang,
    Rule,
    RuleBroken,
    Run,
    Schedule,
    Slow,
    Teardown,
    Time,
    Trace,
    Violation,
    simulate,
)
from actorvisor.testing._strategies import schedules

if TYPE_CHECKING:
    from hypothesis import strategies as st

Log: TypeAlias = list[tuple[Any, ...]]
"""What the services of a trial note, in one run of it."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A system that is to suffer.

    Attributes:
        name: what it is called.
        tree: what it is, noting into a log.
        drive: what keeps it busy.
        rules: its own ones.
        judge: what has to hold of a run and its log.
        timely: whether that is about time, so that no deadline may fire early.
    """

    name: str
    tree: Callable[[Log], list[Any]]
    drive: Callable[[av.Host, Log], Awaitable[None]]
    rules: tuple[Rule, ...] = ()
    judge: Callable[[Run[Log]], None] | None = None
    timely: bool = False

    def schedules(self) -> st.SearchStrategy[Schedule]:
        """The schedules under which it has to hold."""
        if self.timely:
            return schedules().map(lambda found: Schedule(demote=found.demote))
        return schedules()

    def run(self, faults: Iterable[Fault], schedule: Schedule | None = None) -> Run[Log]:
        """Let it suffer a plan, and judge."""

        async def system(open_host: Any) -> Log:
            log: Log = []
            # What comes to the host of what was injected is no error of the system's.
            with contextlib.suppress(BaseExceptionGroup):
                async with open_host(self.tree(log)) as host:
                    await self.drive(host, log)
            return log

        run = simulate(system, faults=faults, schedule=schedule, rules=(*ALL, *self.rules))
        if self.judge is not None:
            self.judge(run)
        return run


def unless_slow(rule: Rule) -> Callable[[Run[Log]], None]:
    """Judge by a rule, unless a fault may take any time."""

    def judge(run: Run[Log]) -> None:
        if any(isinstance(one.do, Hang | Slow) or one.do.after for one in run.faults):
            return
        violations = tuple(rule(run.trace))
        if violations:
            raise RuleBroken(*violations)

    return judge


# --- services ------------------------------------------------------------------------------


class Worker(av.Service):
    """Takes some time for each message."""

    async def work(self, number: int) -> int:
        await trio.sleep(0.1)
        return number


async def tell_all(host: av.Host, paths: Iterable[str], numbers: Iterable[int]) -> None:
    """Tell each of them all numbers, as long as it goes."""
    with contextlib.suppress(av.ActorvisorError):
        for path in paths:
            for number in numbers:
                await host.find(path, Worker).tell(Worker.work, number)


async def _rounds(host: av.Host, log: Log) -> None:
    for _ in range(3):
        await tell_all(host, ["s/a", "s/b", "s/c"], range(3))
        await trio.sleep(2)


GROUP: Final = Trial(
    name="a group",
    tree=lambda log: [
        av.Supervisor(
            [av.Application(Worker, name=name, redeliver=1) for name in "abc"],
            name="s",
            strategy="one_for_all",
        )
    ],
    drive=_rounds,
)
"""A group that is restarted as one."""


async def _long(host: av.Host, log: Log) -> None:
    for _ in range(4):
        await tell_all(host, ["s/a", "s/b", "s/c"], range(2))
        await trio.sleep(6)


WINDOW: Final = Trial(
    name="a window",
    tree=lambda log: [
        av.Supervisor(
            # Few times of their own: one of them is that of the window.
            [av.Application(Worker, name=name, start_timeout=5.0) for name in "abc"],
            name="s",
            max_restarts=1,
            within=5.0,
        )
    ],
    drive=_long,
)
"""Services of which few restarts are allowed."""


async def _stop_it(host: av.Host, log: Log) -> None:
    for number in range(3):
        with contextlib.suppress(av.ActorvisorError), trio.move_on_after(1):
            await host.find("a", Worker).ask(Worker.work, number)
    await tell_all(host, ["a"], range(3))
    await host.find("a", Worker).stop(drain=0)
    await trio.sleep(10)


STOPPED: Final = Trial(
    name="a stop",
    tree=lambda log: [av.Application(Worker, name="a", backoff=av.Fixed(1.0), grace=1.0)],
    drive=_stop_it,
)
"""One service that is stopped, whatever it is about."""


# --- askers --------------------------------------------------------------------------------


async def _ask_impatiently(host: av.Host, log: Log) -> None:
    for number in range(10):
        await tell_all(host, ["a"], [-1])
        with contextlib.suppress(av.ActorvisorError), trio.move_on_after(1):
            log.append((number, await host.find("a", Worker).ask(Worker.work, number)))


def _each_answered_once(run: Run[Log]) -> None:
    """Each ask has its own answer; one that was handled too late is counted as such."""
    assert all(asked == answered for asked, answered in run.value), run.value
    asks = {one.detail["message"] for one in run.trace.kinds("accepted") if one.detail["ask"]}
    handled = sum(one.detail["message"] in asks for one in run.trace.kinds("handled"))
    late = len(run.trace.kinds("dropped-reply"))
    assert handled <= len(run.value) + late, f"{len(run.value)} answers of {handled}, {late} late"


IMPATIENT: Final = Trial(
    name="an impatient asker",
    tree=lambda log: [av.Application(Worker, name="a")],
    drive=_ask_impatiently,
    judge=_each_answered_once,
)
"""One service, and somebody who asks it things and does not wait long."""


class First(av.Service):
    """Asks the second one."""

    async def begin(self) -> str:
        with contextlib.suppress(av.ActorvisorError):
            return await self.find("../second", Second).ask(Second.go_on)
        return "it could not be asked"

    def restore(self) -> str:
        return "what there was"


class Second(av.Service):
    """Asks the first one, but only what it needs after a crash."""

    def __init__(self) -> None:
        self.known = ""

    async def go_on(self) -> str:
        if self.ref.incarnation > 1 and not self.known:
            self.known = await self.find("../first", First).ask(First.restore)
        return self.known


async def _begin(host: av.Host, log: Log) -> None:
    for _ in range(3):
        with contextlib.suppress(av.ActorvisorError), trio.move_on_after(5):
            await host.find("first", First).ask(First.begin)


def nobody_waits_for_itself(trace: Trace) -> Iterator[Violation]:
    """No handler takes more than three seconds."""
    taken = {}
    for entry in trace:
        number = entry.detail.get("message")
        if entry.kind == "taken":
            taken[number] = entry
        elif entry.kind in {"handled", "rejected", "dead-letter", "given-back"}:
            begun = taken.pop(number, None)
            if begun is not None and entry.time - begun.time > 3:
                yield Violation("no cycle", "it is over soon", "it waits", (begun, entry))


CYCLE: Final = Trial(
    name="a cycle",
    tree=lambda log: [
        av.Application(First, name="first"),
        av.Application(Second, name="second"),
    ],
    drive=_begin,
    judge=unless_slow(nobody_waits_for_itself),
    timely=True,
)
"""Two services that ask each other, which one of them does only after a crash."""


# --- processes -----------------------------------------------------------------------------


def nothing_waits_for_nothing(trace: Trace) -> Iterator[Violation]:
    """A service that runs and has nothing in hand takes up what waits, within three seconds."""
    idle: dict[str, Any] = {}
    running: set[str] = set()
    waiting: dict[str, set[Any]] = {}
    for entry in trace:
        path, number = entry.path, entry.detail.get("message")
        since = idle.get(path)
        if since is not None and entry.time - since.time > 3:
            expected = f"{path} takes up what waits"
            yield Violation("no waiting", expected, "it waits", (since, entry))
        match entry.kind:
            case "started":
                running.add(path)
            case "stopping" | "exited" | "ended":
                running.discard(path)
            case "accepted" | "given-back":
                waiting.setdefault(path, set()).add(number)
            case "taken" | "withdrawn" | "dead-letter":
                waiting.setdefault(path, set()).discard(number)
            case _:
                continue
        if path in running and waiting.get(path):
            idle[path] = entry
        else:
            idle.pop(path, None)


async def _bursts(host: av.Host, log: Log) -> None:
    for _ in range(3):
        await tell_all(host, ["a"], range(4))
        await trio.sleep(5)


REMOTE: Final = Trial(
    name="a process",
    tree=lambda log: [av.Application(Worker, name="a", executor=av.AsyncProcessExecutor())],
    drive=_bursts,
    judge=unless_slow(nothing_waits_for_nothing),
    timely=True,
)
"""One service in a process, with mail under way."""

ONE_AT_A_TIME: Final = Trial(
    name="credit for one",
    tree=lambda log: [
        av.Application(
            Worker,
            name="a",
            executor=av.AsyncProcessExecutor(standby=0),
            mailbox=10,
            overflow="drop_oldest",
        )
    ],
    drive=_bursts,
    judge=unless_slow(nothing_waits_for_nothing),
    timely=True,
)
"""The same, with credit for one message at a time."""


def only_faults_end_lives(trace: Trace) -> Iterator[Violation]:
    """Nothing crashes but what a fault was injected into."""
    for entry in trace.kinds("exited"):
        reason: Any = entry.detail["reason"]
        allowed = {"InjectedFault", "SystemExit", "ConnectionLost", "RestartLimitExceeded"}
        if reason["kind"] == "Crashed" and reason["exception"] not in allowed:
            yield Violation("no other crash", "a fault", str(reason), (entry,))


async def _two(host: av.Host, log: Log) -> None:
    for _ in range(4):
        await tell_all(host, ["a", "b"], range(2))
        await trio.sleep(1)


STANDBYS: Final = Trial(
    name="standbys",
    tree=lambda log: [
        av.Application(Worker, name=name, executor=av.AsyncProcessExecutor(standby=1))
        for name in "ab"
    ],
    drive=_two,
    rules=(only_faults_end_lives,),
)
"""Two services that get their processes from one place."""


# --- lives ---------------------------------------------------------------------------------


class Beside(Worker):
    """Has a background task that needs some time to end, and a timer."""

    def __init__(self, log: Log) -> None:
        self.log = log

    async def setup(self) -> None:
        self.log.append(("begins", self.ref.incarnation))
        self.start_soon(self.go_on)
        self.after(0.15, Beside.tick)

    async def go_on(self) -> None:
        number = self.ref.incarnation
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.5)
            self.log.append(("is over", number))

    def tick(self) -> None:
        pass


def _one_after_the_other(run: Run[Log]) -> None:
    """Each life's background task is over before the next life begins."""
    over = {one[1] for one in run.value if one[0] == "is over"}
    assert over == {one[1] for one in run.value if one[0] == "begins"}, run.value
    assert [one[0] for one in run.value] == ["begins", "is over"] * len(over), run.value


async def _on_and_on(host: av.Host, log: Log) -> None:
    for _ in range(3):
        await tell_all(host, ["a"], range(3))
        await trio.sleep(2)


BUSY_BESIDE: Final = Trial(
    name="background tasks",
    tree=lambda log: [av.Application(Beside, log, name="a")],
    drive=_on_and_on,
    judge=_one_after_the_other,
)
"""One service with a background task and a timer."""


class TornDown(Worker):
    """Notes that it was up, and that it was torn down."""

    def __init__(self, log: Log) -> None:
        self.log = log

    async def setup(self) -> None:
        self.log.append(("up", self.ref.incarnation))

    async def teardown(self, reason: av.ExitReason) -> None:
        self.log.append(("down", self.ref.incarnation))


def _each_torn_down(run: Run[Log]) -> None:
    """What was up is torn down, unless a fault is in its teardown."""
    late = [
        isinstance(one.at, Teardown)
        or (isinstance(one.at, Time) and isinstance(one.do, Hang | Slow))
        for one in run.faults
    ]
    if not any(late):
        assert [one[0] for one in run.value] == ["up", "down"] * (len(run.value) // 2), run.value


TORN_DOWN: Final = Trial(
    name="a teardown",
    tree=lambda log: [av.Application(TornDown, log, name="a")],
    drive=_on_and_on,
    judge=_each_torn_down,
)
"""One service with a teardown."""

TRIALS: Final = (
    *(GROUP, WINDOW, STOPPED, IMPATIENT, CYCLE, REMOTE, ONE_AT_A_TIME, STANDBYS),
    *(BUSY_BESIDE, TORN_DOWN),
)
