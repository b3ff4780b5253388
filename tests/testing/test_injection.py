"""Faults happen where and when a plan says, and nobody can tell before (T1)."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

import actorvisor as av
from actorvisor.testing import simulate
from actorvisor.testing._faults import Drop, Fault, Kill, Time
from actorvisor.testing._simulation._process import simulated
from tests.testing.suffering import REAL, VIRTUAL, actions, check, live, moments

ACTIONS = actions(VIRTUAL)
ANYWHERE = [do for do in ACTIONS if not isinstance(do, Kill | Drop)]
MOMENTS = moments(VIRTUAL)
EXECUTORS: list[Any] = [
    av.AsyncExecutor(),
    av.ThreadExecutor(),
    av.ProcessExecutor(),
    av.AsyncProcessExecutor(),
]
FITTING = [
    pytest.param(executor, do, id=f"{type(executor).__name__}-{do!r}")
    for executor in EXECUTORS
    for do in (ACTIONS if executor.is_remote else ANYWHERE)
]


@pytest.mark.parametrize("at", MOMENTS, ids=repr)
@pytest.mark.parametrize(("executor", "do"), FITTING)
def test_every_fault_at_every_moment(executor: Any, at: Any, do: Any) -> None:
    # T1, T2
    async def system() -> Any:
        return await live(executor, at, do, VIRTUAL, simulated)

    life = simulate(system).value
    check(life, executor, at, do, VIRTUAL)
    # It is told where it happens, in simulated processes, too.
    (told,) = life.told
    assert told[1:] == ("host/worker", 1, Fault("host/worker", 1, at, do))
    if isinstance(at, Time):
        assert told[0] >= at.seconds


@pytest.mark.parametrize("do", ANYWHERE, ids=repr)
@pytest.mark.parametrize("at", MOMENTS, ids=repr)
def test_every_fault_at_every_moment_of_a_coroutine_that_is_not_simulated(at: Any, do: Any) -> None:
    # T6
    executor = av.AsyncExecutor()
    life = trio.run(live, executor, at, do, VIRTUAL, clock=MockClock(autojump_threshold=0))
    check(life, executor, at, do, VIRTUAL)


@pytest.mark.parametrize(
    "do", [do for do in actions(REAL) if not isinstance(do, Kill | Drop)], ids=repr
)
@pytest.mark.parametrize("at", moments(REAL), ids=repr)
async def test_every_fault_at_every_moment_of_a_real_thread(at: Any, do: Any) -> None:
    # T6
    executor = av.ThreadExecutor()
    with trio.fail_after(20):
        life = await live(executor, at, do, REAL)
    check(life, executor, at, do, REAL)
