"""Where a service with faults runs, and what a fault does there: a coroutine, a thread, a process."""

from __future__ import annotations

import contextvars
import os
import signal
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, cast

import outcome
import trio

from .._runtime._commons import apart, numbers
from .._runtime._crossing import crossing

if TYPE_CHECKING:
    from .._runtime._crossing import Answers
    from .._runtime._declaration import Application
    from ..abc import Inside
    from ..executors._thread import ThreadInside
    from ._faults import Fault


class HostSide(ABC):
    """The host's side of a life with faults; used on its loop only, but for its constants.

    Attributes:
        began: when the life began, by the host's clock.
        clock: that.
        token: of the host's loop.
    """

    began: float
    clock: trio.abc.Clock
    token: trio.lowlevel.TrioToken

    @abstractmethod
    def tell(self, fault: Fault) -> None:
        """A fault happens now."""

    @abstractmethod
    def hold(self, seconds: float, answers: Answers) -> None:
        """Answer after so many seconds; or that it was left behind, once all is over."""

    @abstractmethod
    def kill(self) -> None:
        """Kill its process."""

    @abstractmethod
    def exit(self, status: int) -> None:
        """End its simulated process."""

    @abstractmethod
    def drop(self) -> None:
        """Drop the connection of its simulated process."""


class Site(ABC):
    """Where a life goes on, as its faults see it.

    Attributes:
        has_loop: whether it is a coroutine, which waits by itself; else it can `block`.
        is_apart: whether it is in another process than its host, if only in a simulated one.
    """

    has_loop: bool
    is_apart: bool = False

    @abstractmethod
    def now(self) -> float:
        """The time that its life is counted by, in seconds."""

    def block(self, seconds: float) -> None:
        """Wait."""
        raise NotImplementedError

    @abstractmethod
    def tell(self, fault: Fault) -> None:
        """Tell the host that a fault happens now, where that can be."""

    def exit(self, status: int) -> None:
        """End, as `sys.exit` does."""
        raise SystemExit(status)

    def kill(self) -> None:
        """Kill its process; it may return once."""
        raise NotImplementedError

    def drop(self) -> None:
        """Drop its connection; it may return once."""
        raise NotImplementedError

    def start_thread(self, function: Callable[[], None]) -> None:
        """Run something in a thread that nobody waits for."""
        raise NotImplementedError


class LoopSite(Site):
    """A coroutine on the host's loop."""

    has_loop = True

    def __init__(self, host: HostSide) -> None:
        self._host = host

    def now(self) -> float:
        return trio.current_time()

    def tell(self, fault: Fault) -> None:
        self._host.tell(fault)


class ThreadSite(Site):
    """A thread of the host's process. What it waits for is the loop's, and is its clock's."""

    has_loop = False

    def __init__(self, host: HostSide, inside: ThreadInside) -> None:
        self._host = host
        self._inside = inside

    def now(self) -> float:
        now: float = self._inside.call(trio.current_time)
        return now

    def block(self, seconds: float) -> None:
        self._inside.ask(partial(self._host.hold, seconds))

    def tell(self, fault: Fault) -> None:
        self._inside.call(self._host.tell, fault)


class SimulatedLoopSite(LoopSite):
    """A coroutine of a simulated process."""

    is_apart = True

    def exit(self, status: int) -> None:
        self._host.exit(status)

    def kill(self) -> None:
        self._host.kill()

    def drop(self) -> None:
        self._host.drop()


class SimulatedThreadSite(Site):
    """A thread of a simulated process."""

    has_loop = False
    is_apart = True

    def __init__(self, host: HostSide) -> None:
        self._host = host

    def now(self) -> float:
        return self._host.clock.current_time()

    def block(self, seconds: float) -> None:
        crossing.get().sleep(seconds)

    def tell(self, fault: Fault) -> None:
        def begin(answers: Answers) -> None:
            answers.put(outcome.capture(self._host.tell, fault))

        crossing.get().call(self._host.token, begin).unwrap()

    def exit(self, status: int) -> None:
        self._end(partial(self._host.exit, status))

    def kill(self) -> None:
        self._end(self._host.kill)

    def drop(self) -> None:
        self._end(self._host.drop)

    def _end(self, end: Callable[[], None]) -> None:
        """Do something on the loop that this thread does not live to see the end of."""
        crossing.get().call(self._host.token, lambda _: end())

    def start_thread(self, function: Callable[[], None]) -> None:
        _start_thread(function)


class WorkerSite(Site):
    """A worker process.

    Args:
        has_loop: whether it runs a loop; else this is its main thread, or one beside that.
    """

    is_apart = True

    def __init__(self, has_loop: bool) -> None:
        self.has_loop = has_loop

    def now(self) -> float:
        return time.monotonic()

    def block(self, seconds: float) -> None:
        crossing.get().sleep(seconds)

    def tell(self, fault: Fault) -> None:
        """Nobody is told: what happens in there is seen by what becomes of the process."""

    def exit(self, status: int) -> NoReturn:
        os._exit(status)

    def kill(self) -> NoReturn:
        os.kill(os.getpid(), signal.SIGKILL)
        _never_return()

    def drop(self) -> NoReturn:
        station: Any = numbers.station
        # Whoever would send something now would notice it, and end the process.
        station.lock.__enter__()
        station.port.sock.shutdown(socket.SHUT_WR)
        _never_return()

    def start_thread(self, function: Callable[[], None]) -> None:
        _start_thread(function)


def _start_thread(function: Callable[[], None]) -> None:
    station: Any = apart.get() or numbers.station
    station.start_thread(partial(contextvars.copy_context().run, function))


def _never_return() -> NoReturn:
    while True:
        threading.Event().wait()


def site_of(app: Application[Any], host: HostSide | None, inside: Inside | None) -> Site:
    """Where a life goes on.

    Args:
        app: what it is of.
        host: the host's side; None in a worker process.
        inside: what it can do from inside.
    """
    executor = app.executor
    if host is None:
        return WorkerSite(executor.has_loop)
    if executor.is_remote:
        return SimulatedLoopSite(host) if executor.has_loop else SimulatedThreadSite(host)
    return LoopSite(host) if executor.has_loop else ThreadSite(host, cast("ThreadInside", inside))


def worker_life() -> Inside | None:
    """The inside of what runs in this worker's loop; None elsewhere."""
    station: Any = apart.get() or numbers.station
    life: Inside | None = getattr(station, "life", None)
    return life
