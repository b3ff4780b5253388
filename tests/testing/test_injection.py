"""Faults happen where and when a plan says, and nobody can tell before (T1)."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

import actorvisor as av
from actorvisor.testing import simulate
from actorvisor.testing._faults import Drop, Kill, Time
from tests.testing.suffering import REAL, VIRTUAL, actions, check, live, moments

ACTIONS = [do for do in actions(VIRTUAL) if not isinstance(do, Kill | Drop)]
MOMENTS = moments(VIRTUAL)
EXECUTORS = [av.AsyncExecutor(), av.ThreadExecutor()]


@pytest.mark.parametrize("do", ACTIONS, ids=repr)
@pytest.mark.parametrize("at", MOMENTS, ids=repr)
@pytest.mark.parametrize("executor", EXECUTORS, ids=repr)
def test_every_fault_at_every_moment(executor: Any, at: Any, do: Any) -> None:
    # T1, T2
    async def system() -> Any:
        return await live(executor, at, do, VIRTUAL)

    life = simulate(system).value
    check(life, executor, at, do, VIRTUAL)
    (told,) = life.told
    assert told[1:] == ("host/worker", 1, told[3])
    if isinstance(at, Time):
        assert told[0] >= at.seconds


@pytest.mark.parametrize("do", ACTIONS, ids=repr)
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
