"""What tests of services and of executors need; it imports neither pytest nor hypothesis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._conformance import (
    ExecutorCheck as ExecutorCheck,
    RuleBroken as RuleBroken,
    check_executor as check_executor,
    executor_checks as executor_checks,
)
from ._failures import (
    Deadlock as Deadlock,
    OutsideSimulation as OutsideSimulation,
    ReplayDiverged as ReplayDiverged,
    SimulationError as SimulationError,
    StepLimit as StepLimit,
)
from ._faults import (
    EVERY as EVERY,
    After as After,
    Before as Before,
    Drop as Drop,
    Every as Every,
    Exit as Exit,
    Fault as Fault,
    FaultPlan as FaultPlan,
    FaultPlanError as FaultPlanError,
    Hang as Hang,
    InjectedFault as InjectedFault,
    Kill as Kill,
    Raise as Raise,
    Setup as Setup,
    Slow as Slow,
    Teardown as Teardown,
    Time as Time,
)
from ._probe import Probe as Probe
from ._simulation._schedule import Schedule as Schedule
from ._simulation._simulate import (
    Exploration as Exploration,
    Run as Run,
    explore as explore,
    simulate as simulate,
)

if TYPE_CHECKING:
    from ._strategies import plans as plans, schedules as schedules

_OF_HYPOTHESIS = ("plans", "schedules")


def __getattr__(name: str) -> Any:
    """Strategies are imported when they are asked for: hypothesis takes longer than all else."""
    if name in _OF_HYPOTHESIS:
        from . import _strategies

        return getattr(_strategies, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
