"""Streams of frames, cut anywhere, and a naive reader of them: what the wire's format says.

A frame is four bytes of its payload's length, one of its kind, eight of its number, and the
payload; nothing is between two frames. Each direction has kinds of its own; some may carry a table
of what came beside the stream, which the highest bit of the kind says.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from actorvisor.bridge._wire import _frames as f

if TYPE_CHECKING:
    from collections.abc import Iterator

    from actorvisor.bridge._wire._frames import Frame

HEADER = 13
MOST = 256 * 1024
BIG = 128
FROM_HOST = [f.JOB, f.TELL, f.ASK, f.ANSWER, f.ERROR, f.CREDIT, f.CLOSED, f.STOP, f.WAKE, f.TELLS]
FROM_WORKER = [
    f.HELLO,
    f.UP,
    f.REPLY,
    f.REJECTION,
    f.FAILURE,
    f.ACK,
    f.LATER,
    f.SEND,
    f.REQUEST,
    f.CALL,
    f.WITHDRAW,
    f.TIMER,
    f.CANCEL,
    f.LOG,
    f.ECHO,
    f.ENDING,
    f.EXIT,
]
# What carries a value of the user's; all else is small, or cut to size.
VALUES = [f.JOB, f.TELL, f.ASK, f.ANSWER, f.REPLY, f.SEND, f.REQUEST, f.CALL, f.ENDING, f.EXIT]


def number(value: int, size: int) -> bytes:
    return value.to_bytes(size, sys.byteorder)


def frame(kind: int, numbered: int, payload: bytes = b"", large: bool = False) -> bytes:
    """A frame, put together by hand."""
    return number(len(payload), 4) + bytes([kind | BIG * large]) + number(numbered, 8) + payload


def together(payloads: list[bytes]) -> bytes:
    """The payload of many tells in one frame: how many, the length of each, and theirs."""
    lengths = [len(payloads), *map(len, payloads)]
    return b"".join([number(one, 4) for one in lengths] + payloads)


def apart(payload: bytes) -> list[bytes] | None:
    """What was put together so; None if it was not."""
    numbers = [
        int.from_bytes(payload[place : place + 4], sys.byteorder)
        for place in range(0, len(payload) // 4 * 4, 4)
    ]
    if not numbers or not 0 < numbers[0] < len(numbers):
        return None
    lengths = numbers[1 : numbers[0] + 1]
    rest, parts = payload[4 * len(lengths) + 4 :], []
    for length in lengths:
        parts.append(rest[:length])
        rest = rest[length:]
    return parts if together(parts) == payload else None


def kinds_of(direction: list[int]) -> list[int]:
    """The bytes that may stand for a kind."""
    return direction + [kind | BIG for kind in direction if kind in VALUES]


def naive(stream: bytes, direction: list[int]) -> tuple[list[Frame], bool]:
    """The frames of a whole stream, and whether what follows them is none of this direction."""
    frames: list[Frame] = []
    allowed = kinds_of(direction)
    while len(stream) >= HEADER:
        length = int.from_bytes(stream[:4], sys.byteorder)
        kind = stream[4]
        if kind not in allowed or length > MOST:
            return frames, True
        if len(stream) < HEADER + length:
            break
        where = int.from_bytes(stream[5:13], sys.byteorder)
        payload = stream[HEADER : HEADER + length]
        frames.append((kind % BIG, where, payload, kind >= BIG))
        stream = stream[HEADER + length :]
    return frames, False


def pieces(stream: bytes, cuts: list[int]) -> Iterator[bytes]:
    """The same bytes, cut there."""
    before = 0
    for cut in sorted(cut % (len(stream) + 1) for cut in cuts):
        yield stream[before:cut]
        before = cut
    yield stream[before:]


CUTS = st.lists(st.integers(0, 1 << 20), max_size=30)
NUMBERS = st.integers(0, 5) | st.integers(0, (1 << 64) - 1)


@st.composite
def whole(draw: st.DrawFn, direction: list[int]) -> bytes:
    """A frame of a direction."""
    kind = draw(st.sampled_from(direction))
    large = kind in VALUES and draw(st.booleans())
    return frame(kind, draw(NUMBERS), draw(st.binary(max_size=40)), large)


def spoil(stream: bytes, how: tuple[str, int, int]) -> bytes:
    """A stream with one thing wrong in it, as far as that can be seen."""
    what, where, bits = how
    if not stream:
        return bytes([bits])
    where %= len(stream)
    match what:
        case "flip":
            return stream[:where] + bytes([stream[where] ^ bits]) + stream[where + 1 :]
        case "lose":
            return stream[:where] + stream[where + 1 :]
        case "add":
            return stream[:where] + bytes([bits]) + stream[where:]
        case _:
            return stream[:where]


HARM: Any = st.tuples(
    st.sampled_from(["flip", "lose", "add", "truncate"]),
    st.integers(0, 1 << 20),
    st.integers(1, 255),
)
