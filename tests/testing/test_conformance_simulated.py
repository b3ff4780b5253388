"""Every executor keeps its contract in a simulation, too (E2, T2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import actorvisor as av
from actorvisor.testing import ExecutorCheck, executor_checks, simulate
from actorvisor.testing._simulation._process import simulated

if TYPE_CHECKING:
    from actorvisor.abc import Executor

EXECUTORS = [
    av.AsyncExecutor(),
    av.ThreadExecutor(),
    av.ProcessExecutor(),
    av.AsyncProcessExecutor(),
]


def checks_of(executor: Executor) -> list[object]:
    name = type(executor).__name__
    return [
        pytest.param(check, id=f"{name}: {check}") for check in executor_checks(simulated(executor))
    ]


@pytest.mark.parametrize("check", [one for executor in EXECUTORS for one in checks_of(executor)])
def test_conformance(check: ExecutorCheck) -> None:
    simulate(check)
