"""One service, one fault: what becomes of it, whatever it runs under."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import trio

import actorvisor as av
from actorvisor.testing._faults import (
    After,
    Before,
    Drop,
    Exit,
    Fault,
    FaultPlan,
    Hang,
    InjectedFault,
    Kill,
    Raise,
    Setup,
    Slow,
    Teardown,
    Time,
    What,
    When,
)
from actorvisor.testing._injection import inject
from tests.testing.players import Loop, Notes, Plain

PATH = "host/worker"


@dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds, of whichever clock."""

    start_timeout: float = 30.0
    grace: float = 5.0
    slow: float = 2.0
    patience: float = 1.0
    at: float = 10.0


VIRTUAL = Times()
REAL = Times(start_timeout=4.0, grace=0.5, slow=0.2, patience=0.4, at=1.5)


@dataclass
class Life:
    """How an incarnation went.

    Attributes:
        started: how its start went: "up", or the error.
        answers: what each ask gave: a number, an error, or None when it took too long.
        took: seconds that each ask took.
        reason: how it ended.
        lines: what it noted.
        told: faults that were told, and when.
    """

    started: Any = None
    answers: list[Any] = field(default_factory=list)
    took: list[float] = field(default_factory=list)
    reason: Any = None
    lines: list[str] = field(default_factory=list)
    told: list[tuple[float, str, int, Fault]] = field(default_factory=list)


async def live(
    executor: Any, at: When, do: What, times: Times, stand_in: Callable[[Any], Any] | None = None
) -> Life:
    """Start a service with a fault, ask it three things, stop it."""
    life = Life()
    plan = FaultPlan([Fault(PATH, 1, at, do)])
    opened = trio.current_time()

    def told(path: str, incarnation: int, fault: Fault) -> None:
        life.told.append((round(trio.current_time() - opened, 6), path, incarnation, fault))

    children = [av.Application(Notes, name="notes")]
    async with inject(plan, told)(children, drain=0, executors=stand_in) as host:
        notes = host.find("notes", Notes)
        events = host.events()
        target: Any = Loop if executor.has_loop else Plain
        app: Any = av.Application(
            target,
            notes,
            name="worker",
            executor=executor,
            restart="temporary",
            grace=times.grace,
            start_timeout=times.start_timeout,
        )
        opened = trio.current_time()
        try:
            ref = await host.start(app)
        except (Exception, SystemExit) as error:
            life.started = error
        else:
            life.started = "up"
            if isinstance(at, Time):
                await trio.sleep_until(opened + at.seconds + 0.1)
            # Nobody waits for what hangs; for the rest, as long as a busy machine takes.
            patience = times.patience if isinstance(do, Hang) else 15
            for number in (1, 2, 3):
                await ask(life, ref, target.work, number, patience)
            await ref.stop(drain=0)
        async for event in events:
            if event.path == PATH and isinstance(event, av.Exited):
                life.reason = event.reason
                break
        life.lines = list(await notes.ask(Notes.all))
    return life


async def ask(life: Life, ref: Any, method: Any, number: int, patience: float) -> None:
    begun = trio.current_time()
    answer: Any = None
    try:
        with trio.move_on_after(patience):
            answer = await ref.ask(method, number)
    except av.ActorvisorError as error:
        answer = error
    life.answers.append(answer)
    life.took.append(trio.current_time() - begun)


def check(life: Life, executor: Any, at: When, do: What, times: Times) -> None:
    """It went as it had to."""
    CHECKS[type(at)](life, executor, at, do, times)


def is_reason(life: Life, executor: Any, do: What, phase: str) -> bool:
    """Whether that life ended by that fault."""
    reason = life.reason
    match do:
        case Raise(message):
            return (
                isinstance(reason, av.Crashed)
                and isinstance(reason.exception, InjectedFault)
                and reason.exception.message == message
            )
        case Exit(status):
            if executor.is_remote:
                return bool(reason == av.Killed(status))
            return isinstance(reason, av.Crashed) and (
                isinstance(reason.exception, SystemExit) and reason.exception.code == status
            )
        case Kill():
            return bool(reason == av.Killed(-9))
        case Drop():
            return isinstance(reason, av.Crashed) and isinstance(
                reason.exception, av.ConnectionLost
            )
        case Hang():
            if executor.has_thread and not executor.is_remote:
                return bool(reason == av.Abandoned(phase))
            return bool(reason == av.TimedOut(phase))
        case Slow():
            return bool(reason == av.Stopped())


def _check_setup(life: Life, executor: Any, at: When, do: What, times: Times) -> None:
    if isinstance(do, Slow):
        assert life.started == "up"
        assert life.answers == [1, 2, 3]
        assert life.lines == ["setup", "work 1", "work 2", "work 3", "teardown Stopped"]
        return
    # L3: a failed start, at once
    assert isinstance(life.started, Exception | SystemExit), life.started
    assert life.lines == []
    assert is_reason(life, executor, do, "setup"), life


def _check_message(life: Life, executor: Any, at: Any, do: What, times: Times) -> None:
    entered = isinstance(at, After)
    worked = ["setup", "work 1", *(["work 2"] if entered else [])]
    assert life.started == "up"
    if isinstance(do, Slow):
        assert life.answers == [1, 2, 3]
        assert life.took[1] >= do.seconds
        assert life.lines == ["setup", "work 1", "work 2", "work 3", "teardown Stopped"]
        return
    assert life.answers[0] == 1
    if isinstance(do, Hang):
        assert life.answers[1:] == [None, None]
    else:
        # M5: its asker gets that at once
        assert isinstance(life.answers[1], av.ServiceCrashed), life.answers
        assert life.answers[1].reason == life.reason
        assert isinstance(life.answers[2], av.ServiceStopped), life.answers
    assert is_reason(life, executor, do, "handler"), life
    if isinstance(do, Drop):
        assert life.lines == worked  # P3: what was framed before has been sent
        return
    assert life.lines[: len(worked)] == worked
    # L5: torn down, unless there is nothing left that could be
    if isinstance(do, Hang):
        torn_down = executor.has_loop
    else:
        torn_down = isinstance(do, Raise) or not executor.is_remote
    assert len(life.lines) == len(worked) + torn_down, life.lines


def _check_teardown(life: Life, executor: Any, at: When, do: What, times: Times) -> None:
    assert life.answers == [1, 2, 3]
    assert life.lines[:4] == ["setup", "work 1", "work 2", "work 3"]
    if isinstance(do, Slow):
        assert life.lines[4:] == ["teardown Stopped"]
    else:
        assert life.lines[4:] == []
    # L5: what teardown raises does not hide that it was stopped
    raised = isinstance(do, Raise | Slow) or (isinstance(do, Exit) and not executor.is_remote)
    assert life.reason == av.Stopped() if raised else is_reason(life, executor, do, "teardown"), (
        life.reason
    )


def _check_time(life: Life, executor: Any, at: Any, do: What, times: Times) -> None:
    assert life.started == "up"
    if isinstance(do, Slow):
        assert life.answers == [1, 2, 3]
        assert life.took[0] >= do.seconds
        assert max(life.took[1:]) < do.seconds
        return
    if isinstance(do, Hang):
        assert life.answers == [None, None, None]
    else:
        assert all(isinstance(one, av.ServiceStopped) for one in life.answers), life.answers
    assert is_reason(life, executor, do, "handler"), life


CHECKS: dict[type[Any], Callable[[Life, Any, Any, What, Times], None]] = {
    Setup: _check_setup,
    Before: _check_message,
    After: _check_message,
    Teardown: _check_teardown,
    Time: _check_time,
}


def moments(times: Times) -> list[When]:
    return [Setup(), Before(2), After(2), Teardown(), Time(times.at)]


def actions(times: Times) -> list[What]:
    return [Raise("on purpose"), Exit(3), Slow(times.slow), Hang(), Kill(), Drop()]
