"""The memory that a worker shares with its executor, and what a death leaves (P3).

The worker stores how far it is, word by word, and frames what it sends into a ring before the
socket carries it. Whenever it dies, this memory says exactly what was handled, what was in hand,
and what was sent.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import Final, NamedTuple

from ._wire._ends import WINDOW

# Words that the worker stores.
TAKEN: Final = 0
"""The number of the message whose handler was entered last."""
DONE: Final = 1
"""The number of the message that is done last."""
FRAMED: Final = 2
"""Bytes that were framed into the ring so far."""
BEATS: Final = 3
"""Counts up while it lives, and while its loop turns."""
READS: Final = 4
"""How often a `run` of its own has read its mail."""
PHASE: Final = 5
"""What it does: `SETUP`, `WORK` or `TEARDOWN`."""
BUSY: Final = 6
"""Whether it runs code of the user's that may hang."""
BEFORE: Final = 7
"""Bytes that were framed when a message was done last: what is done counts once these have come."""
# Words that the executor stores.
STOPPING: Final = 8
"""Whether it is told to stop: 1, or 2 for good."""
GRACE: Final = 9
"""Microseconds that it has for that; `FOREVER` for any number."""
FOREVER: Final = (1 << 64) - 1

SETUP: Final = 0
WORK: Final = 1
TEARDOWN: Final = 2

# What has become of a message, if it was not handled.
HANDLED: Final = 0
REJECTED: Final = 1
SKIPPED: Final = 2
BROKEN: Final = 3

ALL_HANDLED: Final = bytes([HANDLED]) * WINDOW
"""The verdicts where there is none but that."""

MASK: Final = WINDOW - 1
_WORDS: Final = 128
_WITHDRAWN: Final = _WORDS
_VERDICTS: Final = _WITHDRAWN + WINDOW
_RING: Final = 4096
RING_SIZE: Final = (1 << 20) - _RING
SIZE: Final = _RING + RING_SIZE
assert _VERDICTS + WINDOW <= _RING
assert WINDOW & MASK == 0


class Left(NamedTuple):
    """What a death leaves of the messages that were sent.

    Attributes:
        done: the highest number that is done.
        in_hand: the number of the one whose handler was entered and did not come back, or None.
        back: the numbers that were not taken up.
    """

    done: int
    in_hand: int | None
    back: range


def what_is_left(sent: int, taken: int, done: int, replied: int) -> Left:
    """Decide what has become of the messages that were sent to a worker which is gone.

    Args:
        sent: the number of the last one.
        taken: what the worker stored before it entered a handler.
        done: what it stored after one.
        replied: the highest number whose reply was framed: that was handled, though the worker
            may have died before it stored so.
    """
    done = max(done, replied)
    in_hand = taken if taken > done else None
    return Left(done, in_hand, range(max(taken, done) + 1, sent + 1))


class Ledger:
    """One worker's shared memory.

    Attributes:
        words: 16 words of 8 bytes, each stored by one side only.
        withdrawn: a byte for each number modulo the window, stored by the executor: its asker has
            taken it back.
        verdicts: the same, stored by the worker before it is done: what has become of it.
    """

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self._view = memoryview(memory)
        self.words: memoryview = self._view[:_WORDS].cast("Q")
        self.withdrawn: memoryview = self._view[_WITHDRAWN : _WITHDRAWN + WINDOW]
        self.verdicts: memoryview = self._view[_VERDICTS : _VERDICTS + WINDOW]
        self._ring = self._view[_RING:SIZE]

    def close(self) -> None:
        """Give the memory back; what it says is lost."""
        for view in (self.words, self.withdrawn, self.verdicts, self._ring, self._view):
            view.release()
        self._memory.close()

    def write(self, position: int, data: bytes) -> None:
        """Copy bytes into the ring; they count once `FRAMED` is stored.

        Args:
            position: bytes framed before.
            data: at most a ring's size of them, into room that was sent already.
        """
        start = position % RING_SIZE
        end = start + len(data)
        if end <= RING_SIZE:
            self._ring[start:end] = data
        else:
            cut = RING_SIZE - start
            self._ring[start:] = data[:cut]
            self._ring[: end - RING_SIZE] = data[cut:]

    def part(self, begin: int, end: int) -> memoryview:
        """The bytes of the ring from one position on, as far as they lie in one piece."""
        start = begin % RING_SIZE
        return self._ring[start : min(RING_SIZE, start + end - begin)]

    def tail(self, received: int) -> bytes:
        """What was framed, and did not come by the socket.

        Nothing, if what the worker stored cannot be: it may have died of a broken memory.

        Args:
            received: bytes that came.
        """
        framed: int = self.words[FRAMED]
        data = b""
        if framed - received > RING_SIZE:
            return data
        while received < framed:
            part = bytes(self.part(received, framed))
            data += part
            received += len(part)
        return data


class Outbox:
    """The worker's side of the ring: what is framed there goes out by the socket.

    Args:
        ledger: the shared memory.
        send: writes some of the bytes it is given to the socket, and says how many; 0 when the
            socket takes none now.

    Attributes:
        framed: bytes that were framed so far.
    """

    def __init__(self, ledger: Ledger, send: Callable[[memoryview], int]) -> None:
        self._ledger = ledger
        self._send = send
        self.framed: int = 0
        self._sent = 0

    @property
    def pending(self) -> int:
        """Bytes that are framed and not sent."""
        return self.framed - self._sent

    @property
    def room(self) -> int:
        """Bytes that can be framed now."""
        return RING_SIZE - self.pending

    def frame(self, data: bytes) -> None:
        """Frame something: from now on it is sent, whatever becomes of the worker.

        Raises:
            BufferError: there is no room: flush first.
        """
        framed, size = self.framed, len(data)
        if size > RING_SIZE - framed + self._sent:
            raise BufferError(f"no room in the ring for {size} bytes")
        self._ledger.write(framed, data)
        self.framed = self._ledger.words[FRAMED] = framed + size

    def sent(self, count: int) -> None:
        """So many bytes were sent by another way."""
        self._sent += count

    def flush(self) -> bool:
        """Send what the socket takes; whether that was all."""
        while self._sent < self.framed:
            count = self._send(self._ledger.part(self._sent, self.framed))
            if not count:
                return False
            self._sent += count
        return True
