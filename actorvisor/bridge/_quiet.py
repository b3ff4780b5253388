"""A Ctrl-C at a terminal goes to all of its processes: those that boot must not hear of it.

They ignore it later on. What they boot with is the mask of the thread that starts them.
"""

from __future__ import annotations

import functools
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trio_parallel import WorkerContext


@contextmanager
def interrupts_held(*, is_tracked: bool = False) -> Generator[None, None, None]:
    """Block SIGINT in this thread, and in what it starts meanwhile, which has to unblock it.

    Args:
        is_tracked: whether multiprocessing's resource tracker is known to run: to look wakes it.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    if not is_tracked:
        # The tracker comes first: its start ends with a mask that lets it through.
        resource_tracker.ensure_running()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def start_quietly(context: WorkerContext) -> None:
    """Have the workers of a context start so, and keep the status of each for who waits for it.

    Each is started in some thread of trio's, so that only the start itself can do it.
    """
    fields = vars(context)
    # With the fork server the tracker was started, too.
    fields["_worker_class"] = _quiet(fields["_worker_class"], context.worker_type.value != "spawn")


@functools.cache
def _quiet(kind: Any, is_tracked: bool) -> Any:
    class Quiet(kind):  # type: ignore[misc]
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            process = self.proc
            start = process.start

            def start_it() -> None:
                del process.start  # the process is pickled, as it was
                with interrupts_held(is_tracked=is_tracked):
                    start()
                _poll_in_turn(process._popen)

            process.start = start_it

    return Quiet


def _poll_in_turn(popen: Any) -> None:
    """Let one thread at a time look for a process's end.

    The start of any other process looks for the ends of all, in its thread. Who comes second while
    the first one reads the status would find it gone, and make up another.
    """
    popen.turn = threading.Lock()
    kind: Any = type(popen)
    popen.__class__ = _in_turn(kind)  # not a closure: that and it would hold each other


@functools.cache
def _in_turn(kind: Any) -> Any:
    class InTurn(kind):  # type: ignore[misc]
        def poll(self, *args: Any) -> Any:
            with self.turn:
                return super().poll(*args)

    return InTurn
