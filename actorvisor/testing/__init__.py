"""What tests of services, of whole systems and of executors need.

It imports neither pytest nor hypothesis: `plans`, `schedules` and `SupervisionMachine` bring
hypothesis in when they are asked for. What each part is:

    simulate, explore          a system on virtual time, one thing at a time
    FaultPlan, Schedule        what goes wrong, and in which order things run: data
    inject, record             the same plans, and traces, on real threads and processes
    Trace, check               what happened, and the rules that hold for every host
    SupervisionMachine         a state machine of hypothesis, over a tree of yours
    executor_checks            the contract of executors
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ._check import ALL as ALL, Rule as Rule, check as check
from ._conformance import (
    ExecutorCheck as ExecutorCheck,
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
from ._injection import Injector as Injector, inject as inject
from ._probe import Probe as Probe
from ._recording import Recorder as Recorder, record as record
from ._simulation._schedule import Schedule as Schedule
from ._simulation._simulate import (
    Exploration as Exploration,
    Run as Run,
    explore as explore,
    simulate as simulate,
)
from ._trace import (
    Entry as Entry,
    Trace as Trace,
    TraceDifference as TraceDifference,
    TraceError as TraceError,
)
from ._violations import RuleBroken as RuleBroken, Violation as Violation

if TYPE_CHECKING:
    from ._machine import SupervisionMachine as SupervisionMachine
    from ._strategies import plans as plans, schedules as schedules

_OF_HYPOTHESIS: Final = {
    "SupervisionMachine": "_machine",
    "plans": "_strategies",
    "schedules": "_strategies",
}


def __getattr__(name: str) -> Any:
    """Import what needs hypothesis when it is asked for: that takes longer than all else."""
    module = _OF_HYPOTHESIS.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{module}"), name)
