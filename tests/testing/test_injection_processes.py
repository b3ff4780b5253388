"""Faults happen in real worker processes, too (T6)."""

from __future__ import annotations

from typing import Any

import pytest
import trio

import actorvisor as av
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
