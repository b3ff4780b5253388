"""One worker process, from its start until nothing of it is left."""

from __future__ import annotations

import contextlib
import logging
import math
import multiprocessing.process
import os
import secrets
import select
import signal
import socket
import sys
from typing import TYPE_CHECKING, Final

import trio
import trio_parallel

from . import _handover as handover, _ledger as ledger, _memory
from ._child._main import main
from ._link import Link
from ._quiet import start_quietly

if TYPE_CHECKING:
    from ._job import Setting

logger = logging.getLogger("actorvisor.bridge")

HANDSHAKE: Final = 5.0
"""Seconds that whoever connects has to prove the token."""

STRANGERS: Final = 16
"""Connections that may be about to prove it; of more, the oldest is refused."""

LEAVING: Final = 2.0
"""Seconds that a process may take to leave after its job is over."""

DEAD: Final = 0.1
"""Seconds that the status, and the pipes, of one that is dead are waited for.

What it has left behind may hold the pipes.
"""

HEAD_START: Final = 0.02
"""Seconds that a restart has for itself, before what is left of the last one is cleared away."""


class Worker:
    """One worker process.

    Attributes:
        ready: set once it has connected and said hello, or never will.
        gone: set once it is dead, its group is killed, and its status is known if it ever will be.
        link: the connection; None before.
        status: its exit status; negative: a signal; None when unknown.
        failure: why it could not be started, or None.
    """

    def __init__(self, setting: Setting, start_method: str) -> None:
        self.ready: trio.Event = trio.Event()
        self.gone: trio.Event = trio.Event()
        self.link: Link | None = None
        self.status: int | None = None
        self.failure: BaseException | None = None
        self._setting = setting
        self._start_method = start_method
        self._job = trio.CancelScope()
        self._over = trio.Event()
        self._killed = False
        self._dead = False
        # What stands for it, once it has said hello: its status is read there.
        self._process: multiprocessing.process.BaseProcess | None = None

    @property
    def doomed(self) -> bool:
        """Whether it was killed, or was seen to be dead, though not all of it may be gone."""
        return self._killed

    def kill(self) -> None:
        """Kill it and its group; never waits."""
        self._killed = True
        link = self.link
        if link is not None and link.pid and not self.gone.is_set():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(link.pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(link.pid, signal.SIGKILL)
        else:
            self._job.cancel()

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Start it, and wait until nothing is left of it; cancelled, it is killed first."""
        try:
            with contextlib.ExitStack() as stack:
                await self._run(stack)
        except* (OSError, RuntimeError) as group:
            self.failure = _first(group)
        finally:
            self.ready.set()
            self.gone.set()

    async def _run(self, stack: contextlib.ExitStack) -> None:
        mine, lifeline = socket.socketpair()
        stack.callback(mine.close)
        stack.callback(lifeline.close)
        memory = _memory.create(ledger.SIZE)
        stack.callback(os.close, memory)
        shared = ledger.Ledger(_memory.share(os.dup(memory), ledger.SIZE))
        listener, address = stack.enter_context(handover.listen())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._carry, address, name="actorvisor worker")
            try:
                with trio.CancelScope() as self._hello:
                    sock = await _accept(listener, address.token)
                    stack.callback(sock.close)
                    listener.close()
                    socket.send_fds(sock, [b"\0"], [lifeline.fileno(), memory])
                    lifeline.close()
                    self.link = Link(sock, shared, nursery)
                    await self.link.greeted.wait()
                    # Now: once it has ended it is forgotten with the next start of another one.
                    self._process = _process_of(self.link.pid)
                    self.ready.set()
                    if self._killed:
                        self.kill()
                    await self._await_death(self.link)
            finally:
                with trio.CancelScope(shield=True):
                    await self._end()
            nursery.cancel_scope.cancel()

    async def _await_death(self, link: Link) -> None:
        if link.pidfd < 0:
            await self._over.wait()
            return
        try:
            # Whoever leaves a descriptor in epoll that is closed wakes whoever has its number next.
            while not _is_readable(link.pidfd):
                await trio.lowlevel.wait_readable(link.pidfd)
        finally:
            trio.lowlevel.notify_closing(link.pidfd)
            os.close(link.pidfd)
            link.pidfd = -1
        self._dead = True

    async def _hear_status(self) -> None:
        """Its status is known, or the fork server is about to say it: wait for that, if not long.

        And not for the context: to close that takes half as long as a whole restart.
        """
        process = self._process
        self._note_status(self._taken_status())
        if self.status is not None or process is None or self._start_method != "forkserver":
            return
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            # trio lets one task wait for a descriptor, and that is trio-parallel's.
            sentinel = os.dup(process.sentinel)
            stack.callback(os.close, sentinel)
            stack.callback(trio.lowlevel.notify_closing, sentinel)
            with trio.move_on_after(DEAD):
                await trio.lowlevel.wait_readable(sentinel)
        self._note_status(self._taken_status())

    async def _end(self) -> None:
        """It is dead, or has to be: its group too, and whatever waits for it must not hang."""
        self.kill()
        if self.link is not None:
            self.link.finish()
        if self._dead:
            await self._hear_status()
        if self.status:
            # Who waits for one that was to go on need not wait until its context is closed.
            self.gone.set()
        patience = DEAD if self._dead else LEAVING
        with trio.move_on_after(patience):
            await self._over.wait()
        if not self._over.is_set():
            # What it has left behind holds its pipes: the waits for them are broken.
            self._job.cancel()
            with trio.move_on_after(patience):
                await self._over.wait()
        if not self._over.is_set() and self._process is not None:
            trio.lowlevel.notify_closing(self._process.sentinel)
        await self._over.wait()
        self._process = None

    def _taken_status(self) -> int | None:
        return None if self._process is None else self._process.exitcode

    def _note_status(self, status: int | None) -> None:
        if self.status is None:
            self.status = status

    async def _carry(self, address: handover.Address) -> None:
        """The one job of this worker's own context: until the process has ended."""
        _forget_stdin()
        try:
            async with trio_parallel.open_worker_context(
                idle_timeout=math.inf,
                retire=object,  # true: it has one job only
                grace_period=LEAVING,
                worker_type=trio_parallel.WorkerType(self._start_method),
            ) as context:
                start_quietly(context)
                with self._job:
                    try:
                        await context.run_sync(
                            main,
                            address,
                            self._setting,
                            kill_on_cancel=True,
                            limiter=trio.CapacityLimiter(1),
                        )
                    except trio_parallel.BrokenWorkerError as error:
                        self._note_status(getattr(error.args[-1], "exitcode", None))
                    if self.gone.is_set():
                        await trio.sleep(HEAD_START)
            self._note_status(self._taken_status())
        except trio.ClosedResourceError:
            self._note_status(self._taken_status())
        except trio_parallel.BrokenWorkerError as error:
            self._note_status(getattr(error.args[-1], "exitcode", None))
        except Exception as error:
            # It could not be started, or the job could not be loaded there: that is its end only.
            self.failure = error
        finally:
            self._over.set()
            if self.link is None or not self.link.greeted.is_set():
                self._hello.cancel()


def _forget_stdin() -> None:
    """A program that came by stdin has a name as of a file, which its workers would look for."""
    main = sys.modules.get("__main__")
    if getattr(main, "__file__", None) == "<stdin>":
        del main.__file__  # type: ignore[union-attr]


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error in it."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def _is_readable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def _process_of(pid: int) -> multiprocessing.process.BaseProcess | None:
    """The object that stands for a worker: trio-parallel tells of none while it is under way."""
    # Not active_children(): that forgets those that have just ended.
    children: set[multiprocessing.process.BaseProcess] = multiprocessing.process._children  # type: ignore[attr-defined]
    return next((one for one in tuple(children) if one.pid == pid), None)


async def _accept(listener: socket.socket, token: bytes) -> socket.socket:
    """The first connection that proves the token; strangers are refused, and cost nothing."""
    found: list[socket.socket] = []
    proving: dict[socket.socket, trio.CancelScope] = {}

    async def prove(sock: socket.socket) -> None:
        proved = b""
        try:
            with proving[sock], contextlib.suppress(OSError):
                while len(proved) < len(token):
                    try:
                        part = sock.recv(len(token) - len(proved))
                    except BlockingIOError:
                        await trio.lowlevel.wait_readable(sock)
                        continue
                    if not part:
                        break
                    proved += part
        finally:
            del proving[sock]
            if not found and secrets.compare_digest(proved, token):
                found.append(sock)
                nursery.cancel_scope.cancel()
            else:
                trio.lowlevel.notify_closing(sock)
                sock.close()
        if sock not in found:
            logger.warning("a stranger connected to a worker's socket, and was refused")

    try:
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    sock, _ = listener.accept()
                except BlockingIOError:
                    await trio.lowlevel.wait_readable(listener)
                    continue
                sock.setblocking(False)
                if len(proving) >= STRANGERS:
                    next(iter(proving.values())).cancel()  # a worker proves it at once
                    await trio.lowlevel.checkpoint()
                proving[sock] = trio.CancelScope(deadline=trio.current_time() + HANDSHAKE)
                nursery.start_soon(prove, sock)
    except BaseException:
        # It came just when nobody wants it any more.
        for sock in found:
            sock.close()
        raise
    return found[0]
