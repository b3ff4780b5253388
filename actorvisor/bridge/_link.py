"""The executor's end of a connection to a worker: bytes, descriptors, and who may use them."""

from __future__ import annotations

import contextlib
import itertools
import socket
from typing import TYPE_CHECKING, Any, Final, Protocol

import trio

from . import _ledger as ledger, _memory
from ._sockets import CHUNK, receive, send_with
from ._wire import _frames as f
from ._wire._ends import WINDOW, HostEnd

if TYPE_CHECKING:
    from .._runtime._envelope import Envelope

HIGH: Final = 1 << 16
"""Bytes that wait to be written before that is tried without waiting for more."""


LINGER: Final = 0.001
"""Seconds at most that tells wait for more of them; one that comes alone does not wait."""


class Listener(Protocol):
    """Who is told of what comes."""

    def hear(self, kind: int, number: int, payload: Any) -> None:
        """A frame came."""


class Link:
    """One connection to one worker. On the host's loop only.

    Attributes:
        ledger: the memory that both share.
        words: its words.
        end: what was sent, and what may come.
        incarnation: which life of its service uses it.
        listener: who is told of what comes; None before there is a job.
        pid: the worker's, once it has said hello.
        pidfd: a descriptor of the worker's process, or -1.
        greeted: set once it has.
        received: bytes that came.
        broken: why the connection is of no use any more, or None.
    """

    def __init__(self, sock: socket.socket, shared: ledger.Ledger, nursery: trio.Nursery) -> None:
        self.ledger: ledger.Ledger = shared
        self.words: memoryview = shared.words
        self.end: HostEnd = HostEnd(WINDOW)
        self.incarnation: int = 0
        self.listener: Listener | None = None
        self.pid: int = 0
        self.pidfd: int = -1
        self.greeted: trio.Event = trio.Event()
        self.broken: str | None = None
        self._sock = sock
        self._fds: list[int] = []
        self.received: int = 0
        # What waits to be written; with a descriptor, where one goes along.
        self._out: list[bytes | memoryview | tuple[bytes, _memory.Bulk]] = []
        # Invariant: tells that gather for one frame have the last numbers of all that was sent.
        self._tells: list[bytes] = []
        self._gathered = 0
        self._bulks = 0
        self._writer: trio.lowlevel.Task | None = None
        self._blocked = False
        self._closed = False
        self._start(nursery)

    def _start(self, nursery: trio.Nursery) -> None:
        nursery.start_soon(self._read, name="actorvisor link: reader")
        nursery.start_soon(self._write, name="actorvisor link: writer")

    @property
    def credit(self) -> int:
        """Messages that may still be sent."""
        end = self.end
        return end.window - len(end.under_way)

    # --- out ------------------------------------------------------------------------------

    def push(self, envelope: Envelope) -> bool:
        """Frame a message if there is credit; whether there was."""
        wire, asked = envelope.wire, envelope.reply is not None
        if type(wire) is bytes and not asked:
            return self.push_tell(envelope, wire)
        if self.credit <= 0:
            return False
        self._seal()
        alone = not self.end.asks
        envelope.number = number = self.end.next(envelope, asked)
        self._send(f.ASK if asked else f.TELL, number, wire, alone)
        return True

    def push_tell(self, message: object, wire: bytes) -> bool:
        """As `push`, of a tell that is not large.

        Args:
            message: it, for whoever asks what is under way.
            wire: its payload.
        """
        end = self.end
        if len(end.under_way) >= end.window:
            return False
        gathered = self._gathered + len(wire)
        if gathered > HIGH:
            self.flush()
            gathered = len(wire)
        end.under_way.append(message)
        self._tells.append(wire)
        self._gathered = gathered
        if self._writer is not None:
            self._kick()
        return True

    def _seal(self) -> None:
        """Frame the tells that have gathered: nothing more goes into that frame."""
        tells = self._tells
        if tells:
            self._out.append(f.encode_tells(self.end.sequence - len(tells) + 1, tells))
            tells.clear()
            self._gathered = 0

    def send(
        self, kind: int, number: int, payload: bytes | _memory.Bulk = b"", more: bool = False
    ) -> None:
        """Frame something that is no message.

        Args:
            kind: of the frame.
            number: of the frame.
            payload: of the frame.
            more: whether messages follow at once, and then `flush`: they go in one piece.
        """
        self._seal()
        self._send(kind, number, payload, not more)

    def _send(self, kind: int, number: int, payload: bytes | _memory.Bulk, at_once: bool) -> None:
        idle = at_once and not self._out
        if isinstance(payload, _memory.Bulk):
            self._out.append((f.encode(kind | f.LARGE, number, payload.table), payload))
            self._bulks += 1
            idle = False
        else:
            self._out.append(f.encode(kind, number, payload))
        if idle:
            self.flush()
        else:
            self._kick()

    def number_of(self, envelope: Envelope) -> int | None:
        """The number of an ask that is under way, or None."""
        number: int | None = getattr(envelope, "number", None)
        if number is not None and self.end.asks.get(number) is envelope:
            return number
        return None

    def _kick(self) -> None:
        """Have the writer write at the next turn of the loop."""
        if self._writer is not None:
            trio.lowlevel.reschedule(self._writer)
            self._writer = None

    def flush(self) -> None:
        """Write what the socket takes now; the rest is the writer's."""
        self._seal()
        # After a full socket, only the one task that waits for it tries again.
        if not self._blocked and not self._write_some():
            self._blocked = True
            self._kick()

    def _write_some(self) -> bool:
        """Write what the socket takes; whether that was all."""
        out = self._out
        while out and not self._closed:
            first = out[0]
            count = 1
            data: bytes | memoryview
            if isinstance(first, tuple):
                data = first[0]
            else:
                whole: list[Any] = out
                if self._bulks:
                    whole = list(itertools.takewhile(_is_plain, out))
                count = len(whole)
                data = first if count == 1 else b"".join(whole)
            try:
                if isinstance(first, tuple):
                    sent = send_with(self._sock, data, first[1].fd)
                    self._bulks -= 1
                else:
                    sent = self._sock.send(data)
            except BlockingIOError:
                if count > 1:
                    out[:count] = [data]
                return False
            except OSError:
                # The worker has closed it, or is gone: its end will be noticed.
                out.clear()
                break
            out[:count] = [memoryview(data)[sent:]] if sent < len(data) else ()
        return True

    async def _write(self) -> None:
        while True:
            self._seal()
            self._blocked = not self._write_some()
            if self._blocked:
                try:
                    await trio.lowlevel.wait_writable(self._sock)
                except (OSError, trio.ClosedResourceError):
                    return
            else:
                self._writer = trio.lowlevel.current_task()

                def abort(_: object) -> trio.lowlevel.Abort:
                    self._writer = None
                    return trio.lowlevel.Abort.SUCCEEDED

                await trio.lowlevel.wait_task_rescheduled(abort)
                await self._linger()

    async def _linger(self) -> None:
        """Let tells gather while they come at every turn of the loop; an ask is not kept waiting."""
        most, gathered = trio.current_time() + LINGER, 0
        while self._gathered > gathered and not self.end.asks and trio.current_time() < most:
            gathered = self._gathered
            await trio.lowlevel.checkpoint()

    # --- in -------------------------------------------------------------------------------

    async def _read(self) -> None:
        while not self._closed and self.broken is None:
            if self._read_some():
                await trio.lowlevel.checkpoint()
                continue
            try:
                await trio.lowlevel.wait_readable(self._sock)
            except (OSError, trio.ClosedResourceError):
                return

    def _read_some(self) -> bool:
        """Take in what has come; whether there may be more at once."""
        try:
            data = receive(self._sock, self._fds)
        except BlockingIOError:
            return False
        except OSError as error:
            self._lose(f"reading failed: {error}")
            return False
        if not data:
            self._lose("the worker has closed it")
            return False
        self.received += len(data)
        self._take_in(data)
        return len(data) == CHUNK

    def _lose(self, why: str) -> None:
        if self.broken is None:
            self.broken = why
            if self.listener is not None:
                self.listener.hear(0, 0, why)

    def _take_in(self, data: bytes) -> None:
        end = self.end
        frames = end.receive(data)
        if end.large:
            frames = self._attach(frames)
        for kind, number, payload, _ in frames:
            if self.listener is not None:
                self.listener.hear(kind, number, payload)
            elif kind == f.HELLO:
                self.pid = number
                if self._fds:
                    self.pidfd = self._fds.pop(0)
                self.greeted.set()
        if end.broken is not None:
            self._lose(str(end.broken))

    def _attach(self, frames: list[f.Frame]) -> list[f.Frame]:
        return _memory.attach(frames, self._fds)

    def finish(self) -> None:
        """The worker is gone: take in what it has sent, and what it has framed (P3)."""
        if self._closed:
            return
        # Whoever else holds the other end open shall not keep us: what is there is all.
        while self.broken is None or not self.end.broken:
            before = self.received
            self._read_some()
            if self.received == before:
                break
        self._writer = None
        self._closed = True
        self._out.clear()
        self._tells.clear()
        if self.end.broken is None:
            self._take_in(self.ledger.tail(self.received))
        self._close()

    def release(self) -> None:
        """Nobody looks at it any more, though its worker may not all be cleared away yet."""
        self.listener = None
        for held in (self.end.under_way, self.end.asks, self.end.promised):
            held.clear()
        self.ledger.close()  # not when the collector comes by: there may be many in a second

    def _close(self) -> None:
        trio.lowlevel.notify_closing(self._sock)
        self._sock.close()
        for fd in self._fds:
            with contextlib.suppress(OSError):
                socket.close(fd)
        self._fds.clear()


def _is_plain(one: object) -> bool:
    return not isinstance(one, tuple)
