"""What a worker process does, from its start to its end."""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import multiprocessing
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any, Final

from ..._runtime._declaration import Application
from ..._runtime._kind import kind_of
from ...abc import Service
from .. import _ledger as ledger, _memory
from .._handover import connect
from .._wire import _frames as f

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

    from .._handover import Address
    from .._job import Setting
    from ._port import Port

STANDING_BY: Final = 3
"""Lives that a worker rehearses that stands by."""

_F_SETSIG: Final = 10  # of Linux; the module has no name for it

# Modules that need no second look: what the fork server has seen, its workers have, too.
_acquainted: Final[set[str]] = set()


def main(address: Address, setting: Setting) -> None:
    """Connect, say hello, wait for a job, carry it out.

    It is the one job of a trio-parallel worker, and raises nothing: what happens in here is told
    over the connection, or by the end of the process.
    """
    # It may have children of its own: they are of its group, and go with it.
    multiprocessing.current_process()._config.pop("daemon", None)  # type: ignore[attr-defined]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    try:
        sock = connect(address)
    except OSError:
        os._exit(1)  # the host has gone meanwhile
    try:
        _, fds, _, _ = socket.recv_fds(sock, 1, 2)
    except OSError:
        os._exit(1)
    if len(fds) < 2:
        os._exit(1)
    lifeline, memory = fds
    for fd in (lifeline, memory, sock.fileno()):
        os.set_inheritable(fd, False)
    with contextlib.suppress(OSError):
        os.setsid()
    hold_to_life(lifeline)
    if setting.max_memory is not None:
        limit_memory(setting.max_memory)
    from ._port import Port, leave

    port = Port(sock, ledger.Ledger(_memory.share(memory, ledger.SIZE)))
    try:
        work(port, setting)
    except EOFError:
        leave()
    sys.stdout.flush()


def work(port: Port, setting: Setting) -> None:
    """Say hello, wait for a job, carry it out.

    Raises:
        EOFError: the connection is of no use any more.
    """
    prepare(setting)
    _say_hello(port)
    if setting.has_loop:
        from ._loop import serve
    else:
        from ._blocking import serve

    def stand_by() -> None:
        from .._rehearsal import rehearse

        # Not for what it finds out: a life then writes to memory that is this process's own.
        rehearse((setting.has_loop,), STANDING_BY)

    serve(port, stand_by)


def limit_memory(most: int) -> None:
    """Limit the data of this process, unless it is limited to less."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    if most < 1 << 63:  # what the system can count
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def prepare(setting: Setting) -> None:
    """Import what the first message will need; what fails fails again, with the job."""
    import_ahead(setting.modules)
    with contextlib.suppress(Exception):
        importlib.import_module("actorvisor.bridge._child._station")
        importlib.import_module(
            "actorvisor.bridge._child._loop"
            if setting.has_loop
            else "actorvisor.bridge._child._blocking"
        )


def import_ahead(modules: Iterable[str]) -> None:
    """Import modules, and look at their services; what fails fails again when it is needed."""
    for name in modules:
        if name not in _acquainted:
            with contextlib.suppress(BaseException):
                acquaint(importlib.import_module(name))
                _acquainted.add(name)


def acquaint(module: ModuleType) -> None:
    """Look at the services of a module once, as their first declaration would."""
    for value in list(vars(module).values()):
        with contextlib.suppress(Exception):
            if isinstance(value, type) and issubclass(value, Service):
                kind_of(value).asynchronous  # noqa: B018 - it is found out once
                Application(value)


def hold_to_life(lifeline: int) -> None:
    """Let the kernel kill this process and its group when the host's process ends.

    On Linux it needs nothing of this process, so that it works in a call that holds the GIL too.
    Elsewhere a thread waits for it.
    """
    if sys.platform == "linux":
        fcntl.fcntl(lifeline, _F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
        flags = fcntl.fcntl(lifeline, fcntl.F_GETFL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, flags | os.O_ASYNC | os.O_NONBLOCK)
        # Armed after the host's end had closed, it would never give a signal.
        try:
            if os.read(lifeline, 1) == b"":
                os._exit(1)
        except BlockingIOError:
            return
    else:  # pragma: no cover - tested by hand
        watch(lifeline)


def watch(lifeline: int) -> None:
    """Wait for the end of the host's process in a thread, which needs the GIL now and then."""
    import threading

    def wait() -> None:
        with contextlib.suppress(OSError):
            os.read(lifeline, 1)
        with contextlib.suppress(OSError):
            os.killpg(os.getpgrp(), signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=wait, daemon=True, name="actorvisor lifeline").start()


def _say_hello(port: Any) -> None:
    """Say which process this is, by a descriptor of it where there are any."""
    from .._sockets import send_with
    from ._port import leave

    data = f.encode(f.HELLO, os.getpid())
    port.outbox.frame(data)
    if hasattr(os, "pidfd_open"):
        fd = os.pidfd_open(os.getpid())
        try:
            port.outbox.sent(send_with(port.sock, data, fd))
        except OSError:
            leave()
        finally:
            os.close(fd)
    port.flush_all()
