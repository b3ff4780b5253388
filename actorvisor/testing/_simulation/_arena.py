"""Where a simulation takes place: its clock, its gate, and the hosts that are opened in it."""

from __future__ import annotations

import logging
import random as random_module
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

import trio

from ..._runtime._crossing import crossing
from ..._runtime._incarnation import interrupt_in
from ..._runtime._logging import logger
from .._injection import inject
from .._recording import Recorder, record
from ._baton import Baton
from ._gate import Gate, current_process
from ._process import simulated

if TYPE_CHECKING:
    from trio.testing import MockClock

    from ..._runtime._host import open_host
    from ..._runtime._pool import Declaration
    from ...abc import Executor
    from .._faults import Fault, FaultPlan
    from ._choices import Chooser


class Arena:
    """One simulation, from nothing.

    Attributes:
        clock: the time in there.
        gate: what steps its tasks.
        open_host: opens hosts in there; as `actorvisor.open_host`.
    """

    def __init__(self, chooser: Chooser, faults: FaultPlan, *, max_steps: int, draws: int) -> None:
        from trio.testing import MockClock

        self.clock: MockClock = MockClock()
        self.gate: Gate = Gate(chooser, self.clock, max_steps)
        self.open_host: Recorder = record(self._open)
        # There may be thousands of runs, and each has its trace.
        self.open_host.logs = False
        self._inject = inject(faults, self._tell)
        # Draws the jitter of backoffs, unless a host is given a generator of its own.
        self._random = random_module.Random(draws)

    def _open(
        self,
        children: Iterable[Declaration] = (),
        *,
        random: random_module.Random | None = None,
        executors: Callable[[Executor], Executor] | None = None,
        **options: Any,
    ) -> open_host:
        def substitute(executor: Executor) -> Executor:
            found = simulated(executor)
            return found if executors is None else simulated(executors(found))

        generator = self._random if random is None else random
        return self._inject(children, random=generator, executors=substitute, **options)

    def _tell(self, path: str, incarnation: int, fault: Fault) -> None:
        self.open_host.fault(path, incarnation, f"{fault.at!r}: {fault.do!r}")

    async def enter(self, main: Callable[[], Awaitable[object]]) -> None:
        """Run it until its first task has ended."""
        gate = self.gate

        async def body() -> None:
            try:
                await main()
            finally:
                self.open_host.mute()  # what was killed unwinds, and that is no part of it
                gate.nursery.cancel_scope.cancel()

        crossing.set(Baton(gate))
        logger.logger.addFilter(self._is_heard)
        try:
            async with trio.open_nursery() as gate.nursery:
                gate.nursery.start_soon(gate.run, name="gate")
                gate.start(body)
        except (Exception, BaseExceptionGroup) as error:
            interrupt = interrupt_in(error)
            if interrupt is not None:
                raise interrupt from None
            # Of what is ended by force nothing counts, but why it had to be.
            if not gate.forced:
                raise
        finally:
            logger.logger.removeFilter(self._is_heard)

    def _is_heard(self, _: logging.LogRecord) -> bool:
        """What unwinds, because it was killed or all is over, is heard of no more."""
        process = current_process()
        return not (self.gate.open or (process is not None and process.dead))
