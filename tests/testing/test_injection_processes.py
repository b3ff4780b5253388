"""Faults happen in real worker processes, too (T6)."""

from __future__ import annotations

from typing import Any

import pytest
import trio

import actorvisor as av
from actorvisor.testing._faults import EVERY, After, Before, Fault, FaultPlan, Raise, Time
from actorvisor.testing._injection import inject
from tests.testing.players import Peculiar, look
from tests.testing.suffering import REAL, actions, check, live, moments

pytestmark = pytest.mark.process

EXECUTORS = [av.ProcessExecutor(), av.AsyncProcessExecutor()]


@pytest.mark.parametrize("do", actions(REAL), ids=repr)
@pytest.mark.parametrize("at", moments(REAL), ids=repr)
@pytest.mark.parametrize("executor", EXECUTORS, ids=["plain", "async"])
async def test_every_fault_at_every_moment(executor: Any, at: Any, do: Any) -> None:
    # T1, T6
    with trio.fail_after(20):
        life = await live(executor, at, do, REAL)
    check(life, executor, at, do, REAL)


@pytest.mark.parametrize("executor", EXECUTORS, ids=["plain", "async"])
async def test_the_service_sees_itself_as_it_is(executor: Any) -> None:
    # T7: nothing but what the plan says
    found = []
    moments = (Before(10**6), After(10**6), Time(10**6))
    faults = [Fault("host/worker", EVERY, at, Raise()) for at in moments]
    for plan in (FaultPlan(faults), FaultPlan()):
        children = [av.Application(Peculiar, 5, name="worker", executor=executor)]
        async with inject(plan)(children) as host:
            found.append(await look(host))
    assert found[0] == found[1]
    first, second, later, _ = found[0]
    assert first["is"]
    assert (first["ticks"], second["ticks"], later) == (0, 11, "later")
