"""A worker's end of the connection: frames in and out."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
from typing import TYPE_CHECKING, Final, NoReturn

from .. import _memory
from .._ledger import RING_SIZE, Ledger, Outbox
from .._sockets import receive, send_with
from .._wire import _frames as f
from .._wire._codec import Codec, Draft
from .._wire._ends import WorkerEnd

if TYPE_CHECKING:
    from .._wire._frames import Frame

HIGH: Final = 1 << 16
"""Bytes that may be framed before they are sent without waiting for more."""


def leave() -> NoReturn:
    """The host has gone, or wants this process gone: with all that it has started.

    The kernel kills the group when the host's process ends, but only while this process is there:
    whoever notices that end first must not leave the others behind.
    """
    if os.getpgrp() == os.getpid():
        with contextlib.suppress(OSError):
            os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


class Port:
    """The connection, as a worker has it. Used by one thread at a time.

    Attributes:
        sock: the connection; it blocks unless it is told not to.
        ledger: the memory shared with the executor.
        end: what was sent, and what may come.
        codec: of this worker.
        outbox: what is framed, and sent.
    """

    def __init__(self, sock: socket.socket, ledger: Ledger) -> None:
        self.sock: socket.socket = sock
        self.ledger: Ledger = ledger
        self.end: WorkerEnd = WorkerEnd()
        self.codec: Codec = Codec()
        self.outbox: Outbox = Outbox(ledger, self._send_some)
        self._fds: list[int] = []

    def _send_some(self, part: memoryview) -> int:
        try:
            return self.sock.send(part, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        except (BrokenPipeError, ConnectionResetError):
            leave()

    @property
    def pending(self) -> int:
        """Bytes that are framed and not sent."""
        return self.outbox.pending

    def frame(self, kind: int, number: int, payload: bytes | Draft = b"") -> None:
        """Frame something: from now on it is sent, whatever becomes of this process."""
        if isinstance(payload, Draft):
            self._frame_large(kind, number, _memory.copy(payload))
            return
        data = f.HEADER.pack(len(payload), kind, number) + payload
        try:
            self.outbox.frame(data)
        except BufferError:
            self.flush_all(RING_SIZE // 2)
            self.outbox.frame(data)

    def _frame_large(self, kind: int, number: int, bulk: _memory.Bulk) -> None:
        """What came beside the stream must be away before its frame counts."""
        data = f.encode(kind | f.LARGE, number, bulk.table)
        self.flush_all()
        while True:
            try:
                sent = send_with(self.sock, data, bulk.fd)
                break
            except BlockingIOError:
                self.wait_writable()
            except (BrokenPipeError, ConnectionResetError):
                leave()
        self.outbox.frame(data)
        self.outbox.sent(sent)
        self.flush_all()

    def flush(self) -> bool:
        """Send what the socket takes; whether that was all."""
        return self.outbox.flush()

    def flush_all(self, most: int = 0) -> None:
        """Send, and wait for the socket, until at most so many bytes are left."""
        while not self.outbox.flush() and self.outbox.pending > most:
            self.wait_writable()

    def wait_writable(self) -> None:
        """Block until the socket takes more; the host's end never keeps it waiting for long."""
        select.select((), (self.sock,), ())

    def receive(self, block: bool) -> list[Frame]:
        """What came.

        Args:
            block: whether to wait for something.

        Raises:
            BlockingIOError: there is nothing now.
            EOFError: the connection is closed, or carried what it must not.
        """
        data = receive(self.sock, self._fds, 0 if block else socket.MSG_DONTWAIT)
        if not data:
            raise EOFError("the executor has closed the connection")
        end = self.end
        frames = end.receive(data)
        if end.broken is not None:
            raise EOFError(f"the executor's end is broken: {end.broken}")
        if end.large:
            return _memory.attach(frames, self._fds)
        return frames
