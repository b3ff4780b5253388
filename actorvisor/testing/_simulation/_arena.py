"""Where a simulation takes place: its clock, its gate, and the hosts that are opened in it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import trio
from trio.testing import MockClock

from ..._runtime._crossing import crossing
from ._baton import Baton
from ._gate import Gate

if TYPE_CHECKING:
    from ._choices import Chooser


class Arena:
    """One simulation, from nothing.

    Attributes:
        clock: the time in there.
        gate: what steps its tasks.
    """

    def __init__(self, chooser: Chooser, *, max_steps: int, draws: int) -> None:
        self.clock: MockClock = MockClock()
        self.gate: Gate = Gate(chooser, self.clock, max_steps, keep_lanes=True)
        self._draws = draws

    async def enter(self, main: Callable[[], Awaitable[object]]) -> None:
        """Run it until its first task has ended."""
        gate = self.gate

        async def body() -> None:
            try:
                await main()
            finally:
                gate.nursery.cancel_scope.cancel()

        crossing.set(Baton(gate))
        async with trio.open_nursery() as gate.nursery:
            gate.nursery.start_soon(gate.run, name="gate")
            gate.start(body)
