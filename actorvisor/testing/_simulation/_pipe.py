"""The connection between a host and a simulated process: bytes in memory, instead of a socket.

What is framed, how it is numbered, credited, withdrawn and accounted for is the product's own code;
here is what carries it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import trio

from ...bridge._child._port import Port
from ...bridge._link import Link
from ...bridge._wire import _frames as f

if TYPE_CHECKING:
    from ...bridge import _memory
    from ...bridge._ledger import Ledger
    from ...bridge._wire._codec import Draft
    from ...bridge._wire._frames import Frame

_Part: TypeAlias = "bytes | tuple[bytes, _memory.Bulk]"


class Pipe:
    """One direction of a connection.

    Args:
        on_loop: calls something on the loop, for whoever puts something in may be a thread.

    Attributes:
        closed: whether nothing comes any more.
    """

    def __init__(self, on_loop: Callable[[Callable[[], object]], None]) -> None:
        self._on_loop = on_loop
        self.closed: bool = False
        self._parts: deque[_Part] = deque()
        # Who is told, once, that something is there.
        self._waiting: list[Callable[[], object]] = []

    def put(self, part: _Part) -> None:
        """Add something; what is closed takes nothing."""
        if not self.closed:
            self._parts.append(part)
            self._on_loop(self._tell)

    def close(self) -> None:
        """Nothing comes any more; what is there may be taken."""
        self.closed = True
        self._on_loop(self._tell)

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        for tell in waiting:
            tell()

    @property
    def ready(self) -> bool:
        """Whether something is there, or never will be."""
        return bool(self._parts) or self.closed

    def take(self, bulks: list[_memory.Bulk]) -> bytes:
        """All that is there, and what goes with it; ``b""`` at the end.

        Raises:
            BlockingIOError: there is nothing now.
        """
        if not self._parts:
            if self.closed:
                return b""
            raise BlockingIOError
        data = []
        for part in self._parts:
            if isinstance(part, tuple):
                part, bulk = part
                bulks.append(bulk)
            data.append(part)
        self._parts.clear()
        return b"".join(data)

    def when_ready(self, tell: Callable[[], object]) -> None:
        """Tell somebody once something is there: at once, if it is."""
        if self.ready:
            tell()
        else:
            self._waiting.append(tell)

    async def await_ready(self) -> None:
        """Wait until something is there; a checkpoint."""
        if self.ready:
            await trio.lowlevel.checkpoint()
            return
        task = trio.lowlevel.current_task()

        def tell() -> None:
            trio.lowlevel.reschedule(task)

        def abort(_: object) -> trio.lowlevel.Abort:
            self._waiting.remove(tell)
            return trio.lowlevel.Abort.SUCCEEDED

        self._waiting.append(tell)
        await trio.lowlevel.wait_task_rescheduled(abort)


def _attach(frames: list[Frame], bulks: list[_memory.Bulk]) -> list[Frame]:
    """Give each large frame what came beside it, which is taken out of the list."""
    return [
        (kind, number, bulks.pop(0) if large else payload, large)
        for kind, number, payload, large in frames
    ]


class SimulatedLink(Link):
    """The host's end; who holds it takes in what comes.

    Args:
        shared: the memory that both ends see.
        sent: what goes to the process.
        came: what comes from it.
    """

    def __init__(self, shared: Ledger, sent: Pipe, came: Pipe) -> None:
        self._sent = sent
        self._came = came
        self._beside: list[_memory.Bulk] = []
        super().__init__(None, shared, None)  # type: ignore[arg-type]

    def _start(self, nursery: trio.Nursery) -> None:
        # It has no tasks. Invariant: as long as it is open there is somebody to be kicked.
        self._writer = trio.lowlevel.current_task()

    def _kick(self) -> None:
        self.flush()

    def _write_some(self) -> bool:
        for part in self._out:
            self._sent.put(part if isinstance(part, tuple) else bytes(part))
        self._out.clear()
        self._bulks = 0
        return True

    async def take_all(self) -> None:
        """Take in all that comes, until nothing does."""
        while not self._came.closed:
            await self._came.await_ready()
            if not self._came.closed:
                self._read_some()

    def take_end(self) -> None:
        """It was closed under a process that lives: take in what has come, and that it is lost."""
        while self.broken is None:
            self._read_some()

    def take_in(self) -> None:
        """Take in what has come."""
        self._read_some()

    def _read_some(self) -> bool:
        try:
            data = self._came.take(self._beside)
        except BlockingIOError:
            return False
        if data:
            self.received += len(data)
            self._take_in(data)
        else:
            self._lose("the worker has closed it")
        return False

    def _attach(self, frames: list[Frame]) -> list[Frame]:
        return _attach(frames, self._beside)

    def _close(self) -> None:
        self._sent.close()
        self._came.close()


class SimulatedPort(Port):
    """The process's end.

    Args:
        shared: the memory that both ends see.
        came: what comes from the host.
        sent: what goes to it.

    Attributes:
        came: what comes from the host.
        over: whether the process has ended: what still unwinds of it says nothing.
        dropped: whether the connection was dropped: nothing more goes through it.
    """

    def __init__(self, shared: Ledger, came: Pipe, sent: Pipe) -> None:
        super().__init__(None, shared)  # type: ignore[arg-type]
        self.over: bool = False
        self.dropped: bool = False
        self.came: Pipe = came
        self._sent = sent
        self._beside: list[_memory.Bulk] = []

    def frame(self, kind: int, number: int, payload: bytes | Draft = b"") -> None:
        """See `Port.frame`."""
        if not self.over and not self.dropped:
            super().frame(kind, number, payload)

    def _send_some(self, part: memoryview) -> int:
        self._sent.put(bytes(part))
        return part.nbytes

    def close(self) -> None:
        """The process has ended: what it has sent is all."""
        self._sent.close()

    def drop(self) -> None:
        """The connection is closed, though the process lives: what was sent before arrives."""
        self.dropped = True
        self._sent.close()

    def _frame_large(self, kind: int, number: int, bulk: _memory.Bulk) -> None:
        data = f.encode(kind | f.LARGE, number, bulk.table)
        self.flush()
        self._sent.put((data, bulk))
        self.outbox.frame(data)
        self.outbox.sent(len(data))

    def receive(self, block: bool) -> list[Frame]:
        """See `Port.receive`; it never blocks.

        Raises:
            BlockingIOError: there is nothing now.
            EOFError: the connection is closed.
        """
        data = self.came.take(self._beside)
        if not data:
            raise EOFError("the executor has closed the connection")
        frames = self.end.receive(data)
        if self.end.broken is not None:
            raise EOFError(f"the executor's end is broken: {self.end.broken}")
        return _attach(frames, self._beside) if self.end.large else frames
