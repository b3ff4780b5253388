"""`run`: a whole program as one call, with signals and exit codes (H4)."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import nullcontext
from typing import Any

import trio

from .._core._describe import describe
from ._host import Host, open_host
from ._kind import is_async
from ._pool import Declaration  # noqa: TC001 - the docs resolve annotations at run time

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Signals:
    """What signals have come."""

    def __init__(self) -> None:
        self.first: int | None = None

    async def watch(self, source: AsyncIterator[int], opener: open_host) -> None:
        """The first signal stops gently, any other by force."""
        async for number in source:
            if self.first is None:
                self.first = number
                opener.stop_gently()
            else:
                opener.stop_by_force()


def run(
    children: Iterable[Declaration],
    *,
    observe: Callable[[Host], Any] | None = None,
    **options: Any,
) -> None:
    """Run a program: start what is declared, and return when all of it has ended by itself.

    In the main thread SIGINT and SIGTERM stop it gracefully, a second one by force.

    Args:
        children: what to start, in order.
        observe: an async function that is called with the host and runs beside the program; it
            is cancelled at the end.
        **options: those of `open_host`.

    Raises:
        SystemExit: a signal came (code 128 + its number), or a service's own SystemExit reached
            the host (its code).
        BaseExceptionGroup: something that crashed reached the host.
    """
    if observe is not None and not is_async(observe):
        raise TypeError(f"observe= must be an async function, not {describe(observe)}")
    opener = open_host(children, **options)
    signals = _Signals()
    failure = trio.run(_run, opener, signals, observe)
    if signals.first is not None:
        sys.exit(128 + signals.first)
    if isinstance(failure, BaseExceptionGroup):
        for error in failure.exceptions:
            if isinstance(error, SystemExit):
                raise SystemExit(error.code) from failure
    if failure is not None:
        raise failure


async def _run(
    opener: open_host, signals: _Signals, observe: Callable[[Host], Any] | None
) -> BaseException | None:
    in_main = threading.current_thread() is threading.main_thread()
    receiver: Any = trio.open_signal_receiver(*SIGNALS) if in_main else nullcontext()
    with receiver as source:
        async with trio.open_nursery() as nursery:
            if source is not None:
                # Invariant: its first step comes at our first checkpoint, which is in the host's
                # start: a signal that is there already finds something to stop.
                nursery.start_soon(signals.watch, source, opener)
            try:
                async with opener as host:
                    if observe is not None:
                        nursery.start_soon(observe, host)  # noqa: ASYNC111
                    await host.wait()
            except BaseException as error:  # noqa: ASYNC103
                # Raised inside the nursery it would come out in one group more. A cancellation is
                # the observer's crash, which the nursery raises.
                return error  # noqa: ASYNC104, ASYNC121
            finally:
                nursery.cancel_scope.cancel()
    return None
