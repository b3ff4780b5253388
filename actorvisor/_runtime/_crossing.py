"""How threads and a loop reach each other: a value, in whose stead a simulation puts its own."""

from __future__ import annotations

import contextlib
import math
import queue
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final, Protocol, TypeVar, TypeVarTuple, Unpack

import outcome
import trio

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


class Answers(Protocol):
    """Where the answer goes that a thread waits for; on the loop only."""

    def put(self, answer: outcome.Outcome[Any], /) -> None:
        """It has come; once."""


class Crossing(Protocol):
    """What threads do on a loop, and a loop in threads."""

    # --- in a thread ----------------------------------------------------------------------

    def call(
        self,
        token: trio.lowlevel.TrioToken,
        begin: Callable[[Unpack[_Ts], Answers], object],
        *args: *_Ts,
    ) -> outcome.Outcome[Any]:
        """Have the loop call ``begin(*args, answers)``, and block for what is put into those.

        Raises:
            trio.RunFinishedError: there is no loop any more.
        """
        ...

    def sleep(self, seconds: float) -> None:
        """Block for so many seconds; `inf` for ever."""

    # --- on the loop ----------------------------------------------------------------------

    async def run(
        self,
        function: Callable[[], object],
        ended: Callable[[outcome.Outcome[Any]], object],
        *,
        limiter: trio.CapacityLimiter,
        name: str,
    ) -> None:
        """Run a function in a thread until it ends; cancelled, it is left behind.

        Args:
            function: what is run, in a copy of the context.
            ended: called on the loop with how it ended, before this returns, or long after it was
                left behind.
            limiter: how many threads there may be.
            name: of the thread.

        Raises:
            OSError: no thread could be made.
            RuntimeError: no thread could be made.
        """

    async def off_loop(self, function: Callable[[Unpack[_Ts]], _T], *args: *_Ts) -> _T:
        """Have something computed that would hold up the loop; a checkpoint."""
        ...


class _Threads:
    """The real thing."""

    def call(
        self,
        token: trio.lowlevel.TrioToken,
        begin: Callable[[Unpack[_Ts], Answers], object],
        *args: *_Ts,
    ) -> outcome.Outcome[Any]:
        queued: queue.SimpleQueue[outcome.Outcome[Any]] = queue.SimpleQueue()
        answers: Answers = queued
        token.run_sync_soon(begin, *args, answers)
        return queued.get()

    def sleep(self, seconds: float) -> None:
        threading.Event().wait(None if seconds == math.inf else seconds)

    async def run(
        self,
        function: Callable[[], object],
        ended: Callable[[outcome.Outcome[Any]], object],
        *,
        limiter: trio.CapacityLimiter,
        name: str,
    ) -> None:
        token = trio.lowlevel.current_trio_token()

        def in_thread() -> None:
            result = outcome.capture(function)
            with contextlib.suppress(trio.RunFinishedError):  # left behind, and its host is gone
                token.run_sync_soon(ended, result)

        await trio.to_thread.run_sync(
            in_thread, abandon_on_cancel=True, limiter=limiter, thread_name=name
        )

    async def off_loop(self, function: Callable[[Unpack[_Ts]], _T], *args: *_Ts) -> _T:
        return await trio.to_thread.run_sync(function, *args)


THREADS: Final[Crossing] = _Threads()
"""The real thing: threads."""

crossing: Final[ContextVar[Crossing]] = ContextVar("actorvisor.crossing", default=THREADS)
"""How the threads of what runs here, and of the hosts that are opened here, reach its loop."""
