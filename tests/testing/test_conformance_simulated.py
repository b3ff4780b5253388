"""Every executor keeps its contract in a simulation, too (E2, T2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import actorvisor as av
from actorvisor.testing import ExecutorCheck, executor_checks, simulate
from actorvisor.testing._simulation import _choices
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


CHECKS = [one for executor in EXECUTORS for one in checks_of(executor)]


@pytest.mark.parametrize("check", CHECKS)
def test_conformance(check: ExecutorCheck) -> None:
    simulate(check)


@pytest.mark.parametrize("check", CHECKS)
def test_conformance_in_any_order(
    check: ExecutorCheck, monkeypatch: pytest.MonkeyPatch
) -> None:  # T2
    monkeypatch.setattr(_choices, "EARLY", 0.0)  # patience that is lost at once proves nothing
    first, second = (simulate(check, seed=1) for _ in range(2))
    assert first.lanes == second.lanes
