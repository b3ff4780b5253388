"""Process executors in a simulation: the same semantics, no processes (T2)."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from ..._core._describe import describe
from ...executors._process import AsyncProcessExecutor, ProcessExecutor
from .._failures import OutsideSimulation
from .._wrapping import Wrapping
from ._gate import current_gate

if TYPE_CHECKING:
    import trio

    from ...abc import Executor, Place


@final
@dataclass(frozen=True, repr=False)
class SimulatedProcessExecutor(Wrapping):
    """What carries out in a process executor's stead in a simulation.

    Each service runs in tasks of its own, by the code that runs in real workers, joined to its
    executor by the code that joins real ones: copies of all that crosses, credit, withdrawal,
    redelivery and what a death leaves are the same. A process takes time to start, loses all it had
    when it ends, and when it is killed not one of its statements is run any more. What is not
    simulated: that each has modules, globals and memory of its own; ``max_memory_bytes=``,
    ``preload=``; a loop that hangs.

    Attributes:
        executor: that one.
    """

    executor: ProcessExecutor | AsyncProcessExecutor

    def __post_init__(self) -> None:
        if not isinstance(self.executor, ProcessExecutor | AsyncProcessExecutor):
            raise TypeError(
                "SimulatedProcessExecutor(executor=) must be a ProcessExecutor's or an "
                f"AsyncProcessExecutor's value, not {describe(self.executor)}"
            )
        super().__post_init__()

    @asynccontextmanager
    async def open(self, nursery: trio.Nursery) -> AsyncGenerator[Place, None]:
        """See `Executor.open`; no checkpoint.

        Raises:
            OutsideSimulation: it is used outside of any.
        """
        gate = current_gate()
        if gate is None:
            raise OutsideSimulation(
                f"{self!r} is simulated, which works in simulate() only; use the real one elsewhere"
            )
        # What runs workers is imported when the first is needed: it is not light.
        from ._worker import SimulatedPlace

        place = SimulatedPlace(self.executor, nursery, gate)
        try:
            yield place
        finally:
            place.close()


def simulated(executor: Executor) -> Executor:
    """What carries out in an executor's stead in a simulation.

    Args:
        executor: as it was declared.

    Returns:
        For one of processes, one of simulated processes; else that itself.
    """
    if isinstance(executor, ProcessExecutor | AsyncProcessExecutor):
        return SimulatedProcessExecutor(executor)
    return executor
