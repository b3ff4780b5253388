"""Frames: how a stream of bytes is cut into what was sent.

A frame is a header (length of the payload, kind, number) and a payload. The number is a message's
place in its direction, a request's, or a target's, as the kind says.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

HEADER: Final = struct.Struct("=IBQ")
HEADER_SIZE: Final = HEADER.size
_LENGTH: Final = struct.Struct("=I")

MAX_PAYLOAD: Final = 1 << 18
"""Bytes in one frame's payload; what is larger goes beside the stream, in memory of its own."""

LARGE: Final = 0x80
"""The bit of a kind that says that the payload is a table of what came beside the stream."""

# From the host's end.
JOB: Final = 1
TELL: Final = 2
ASK: Final = 3
ANSWER: Final = 4
ERROR: Final = 5
CREDIT: Final = 6
CLOSED: Final = 7
STOP: Final = 8
WAKE: Final = 9
TELLS: Final = 10

# From the worker's end.
HELLO: Final = 32
UP: Final = 33
REPLY: Final = 34
REJECTION: Final = 35
FAILURE: Final = 36
ACK: Final = 37
LATER: Final = 38
SEND: Final = 39
REQUEST: Final = 40
CALL: Final = 41
WITHDRAW: Final = 42
TIMER: Final = 43
CANCEL: Final = 44
LOG: Final = 45
ECHO: Final = 46
ENDING: Final = 47
EXIT: Final = 48

FROM_HOST: Final = frozenset(range(JOB, TELLS + 1))
FROM_WORKER: Final = frozenset(range(HELLO, EXIT + 1))
MESSAGES: Final = frozenset((TELL, ASK))
"""The kinds that are for the service itself, and numbered without a gap; `TELLS` are many."""
# The kinds whose payload may come beside the stream.
_BULKY: Final = frozenset((JOB, TELL, ASK, ANSWER, REPLY, SEND, REQUEST, CALL, ENDING, EXIT))
_NAMES: Final = {
    value: name
    for name, value in tuple(globals().items())
    if type(value) is int and (value in FROM_HOST or value in FROM_WORKER)
}


Frame: TypeAlias = tuple[int, int, Any, bool]
"""Its kind without the bit for large ones, its number, its payload, and whether that is the table
of what comes beside the stream. A plain tuple: there is one for each message."""


class ProtocolError(Exception):
    """The other end sent what it must not: the connection is of no use any more.

    Attributes:
        what: what is wrong, in words.
    """

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


# A process that lives for months names many actors, each once; a request's number is of one
# incarnation.
_TARGET_BITS: Final = 28
REQUEST_SHIFT: Final = _TARGET_BITS + 1
"""Where in the number of a `REQUEST` or a `CALL` its own begins."""


def request_number(request: int, target: int, handling: bool) -> int:
    """The number of a `REQUEST` or a `CALL`: which one, about whom, and whether a handler waits."""
    return (request << REQUEST_SHIFT) | target << 1 | handling


def parts(number: int) -> tuple[int, int, bool]:
    """What `request_number` was made of."""
    return (
        number >> REQUEST_SHIFT,
        (number >> 1) & ((1 << _TARGET_BITS) - 1),
        bool(number & 1),
    )


def name_of(kind: int) -> str:
    """The name of a kind, for errors."""
    return _NAMES.get(kind & ~LARGE, f"kind {kind}")


def encode(kind: int, number: int, payload: bytes = b"") -> bytes:
    """A whole frame.

    Raises:
        ProtocolError: the payload is too long for one.
    """
    if len(payload) > MAX_PAYLOAD:
        raise ProtocolError(f"a payload of {len(payload)} bytes; the most is {MAX_PAYLOAD}")
    return HEADER.pack(len(payload), kind, number) + payload


def encode_tells(first: int, payloads: Sequence[bytes]) -> bytes:
    """One frame for tells with numbers in a row: a header for each takes both ends a tenth longer.

    Args:
        first: the number of the first of them.
        payloads: theirs, at least one.

    Raises:
        ProtocolError: they are too long for one.
    """
    count = len(payloads)
    if count == 1:
        return encode(TELL, first, payloads[0])
    table = struct.pack(f"={count + 1}I", count, *map(len, payloads))
    return encode(TELLS, first, b"".join((table, *payloads)))


def cut_tells(first: int, payload: bytes) -> list[Frame]:
    """The frames of the tells that are in one of `TELLS`.

    Raises:
        ValueError: its table does not fit it.
    """
    size, read = len(payload), io.BytesIO(payload).read
    count = _LENGTH.unpack(read(_LENGTH.size))[0] if size >= _LENGTH.size else 0
    begin = _LENGTH.size * (count + 1)
    lengths = struct.unpack(f"={count}I", read(_LENGTH.size * count)) if begin <= size else ()
    if not lengths or begin + sum(lengths) != size:
        raise ValueError(f"{size} bytes are no {count} tells and their lengths")
    return [(TELL, number, read(length), False) for number, length in enumerate(lengths, first)]


class FrameReader:
    """Cuts a stream into frames, wherever it was cut on its way.

    Args:
        expected: the kinds that this direction has.

    Attributes:
        broken: what came that is no frame of this direction; nothing is read after it.
        large: whether a frame came that something goes with beside the stream.
    """

    def __init__(self, expected: frozenset[int]) -> None:
        self.broken: ProtocolError | None = None
        self.large: bool = False
        self._kinds = expected | {kind | LARGE for kind in expected & _BULKY}
        self._tail = b""

    @property
    def pending(self) -> int:
        """Bytes of a frame that is not complete yet."""
        return len(self._tail)

    def feed(self, data: bytes) -> list[Frame]:
        """Take bytes in; the frames that are complete now, in order, up to what is broken."""
        frames: list[Frame] = []
        if self.broken is not None:
            return frames
        if self._tail:
            data = self._tail + data
        unpack, kinds = HEADER.unpack_from, self._kinds
        append = frames.append
        size, position = len(data), 0
        last = size - HEADER_SIZE
        while position <= last:
            length, kind, number = unpack(data, position)
            if kind not in kinds or length > MAX_PAYLOAD:
                self._break(kind, length)
                return frames
            start = position + HEADER_SIZE
            end = start + length
            if end > size:
                break
            if kind > LARGE:
                self.large = True
                append((kind & ~LARGE, number, data[start:end], True))
            else:
                append((kind, number, data[start:end], False))
            position = end
        self._tail = data[position:]
        return frames

    def _break(self, kind: int, length: int) -> None:
        if kind in self._kinds:
            what = f"a {name_of(kind)} of {length} bytes; the most is {MAX_PAYLOAD}"
        else:
            large = "a large " if kind & LARGE and kind & ~LARGE in self._kinds else ""
            what = f"an unexpected frame: {large}{name_of(kind)}"
        self.broken = ProtocolError(what)
        self._tail = b""
