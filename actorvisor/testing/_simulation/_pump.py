"""A simulation that is given its steps from outside, call by call, as a state machine does."""

from __future__ import annotations

import contextvars
import queue
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeVar, TypeVarTuple, Unpack

import outcome
import trio

from .._failures import SimulationError

if TYPE_CHECKING:
    from ._arena import Arena

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

PATIENCE: Final = 60.0
"""Seconds of real time in which something has to happen, before a simulation counts as stuck."""


class Pump:
    """Runs a simulation in guest mode, as long as a call is under way and no longer.

    Between two calls nothing is stepped and no time passes.
    """

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._due: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._end: outcome.Outcome[None] | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._context: contextvars.Context
        self._finish: trio.Event
        trio.lowlevel.start_guest_run(
            arena.enter,
            self._main,
            run_sync_soon_threadsafe=self._due.put,
            done_callback=self._done,
            clock=arena.clock,
            instruments=[arena.gate],
        )
        self._until(lambda: self._token is not None)

    async def _main(self) -> None:
        self._context = contextvars.copy_context()
        self._finish = trio.Event()
        self._arena.gate.hold()
        self._token = trio.lowlevel.current_trio_token()
        await self._finish.wait()

    def _done(self, end: outcome.Outcome[None]) -> None:
        self._end = end

    def _until(self, reached: Callable[[], bool]) -> None:
        while not reached() and self._end is None:
            try:
                due = self._due.get(timeout=PATIENCE)
            except queue.Empty:
                raise SimulationError(
                    f"nothing has happened for {PATIENCE:g} seconds: something blocks outside of "
                    "the simulation"
                ) from None
            due()

    def call(self, function: Callable[[Unpack[_Ts]], Awaitable[_T]], *args: *_Ts) -> _T:
        """Run an async function in the simulation, until it has returned.

        Raises:
            Exception: what it raised.
            SimulationError: the simulation has ended, or cannot go on.
        """
        gate, found = self._arena.gate, []

        async def carry_out() -> None:
            result = await outcome.acapture(function, *args)
            if gate.open:
                return  # it was cancelled: the simulation has ended under it
            found.append(result)
            gate.hold()

        def begin() -> None:
            start: Callable[..., None] = gate.nursery.start_soon
            self._context.run(start, carry_out, name="call")
            gate.go()

        if self._end is None:
            assert self._token is not None
            self._token.run_sync_soon(begin)
            self._until(lambda: bool(found))
        if found:
            return found[0].unwrap()
        raise gate.failure or SimulationError("the simulation has ended")

    def close(self) -> None:
        """End the simulation, and wait for that.

        Raises:
            Exception: something in it crashed that nobody waited for.
        """

        def finish() -> None:
            self._finish.set()
            self._arena.gate.go()

        if self._end is None:
            assert self._token is not None
            self._token.run_sync_soon(finish)
            self._until(lambda: False)
        assert self._end is not None
        self._end.unwrap()
        if self._arena.gate.failure is not None:
            raise self._arena.gate.failure
