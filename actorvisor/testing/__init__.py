"""What tests of services and of executors need; it imports neither pytest nor hypothesis."""

from __future__ import annotations

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
from ._simulation._schedule import Schedule as Schedule
from ._simulation._simulate import (
    Exploration as Exploration,
    Run as Run,
    explore as explore,
    simulate as simulate,
)
