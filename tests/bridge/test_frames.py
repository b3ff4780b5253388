"""Frames: any stream, cut anywhere, is read as a naive reader reads the whole of it."""

from __future__ import annotations

import pytest
from hypothesis import example, given, strategies as st

from actorvisor.bridge._wire import _frames as f
from actorvisor.bridge._wire._frames import FrameReader, ProtocolError
from tests.bridge.streams import (
    BIG,
    CUTS,
    FROM_HOST,
    FROM_WORKER,
    HARM,
    HEADER,
    MOST,
    NUMBERS,
    VALUES,
    apart,
    frame,
    kinds_of,
    naive,
    number,
    pieces,
    spoil,
    together,
    whole,
)

DIRECTIONS = st.sampled_from([FROM_HOST, FROM_WORKER])


def read(stream: bytes, direction: list[int], cuts: list[int]) -> tuple[list[f.Frame], FrameReader]:
    reader = FrameReader(f.FROM_HOST if direction is FROM_HOST else f.FROM_WORKER)
    frames = []
    for piece in pieces(stream, cuts):
        broken = reader.broken
        got = reader.feed(piece)
        assert not (broken and got)
        frames += got
        assert not broken or reader.broken is broken
    return frames, reader


def check(stream: bytes, direction: list[int], cuts: list[int]) -> None:
    wanted, wrong = naive(stream, direction)
    frames, reader = read(stream, direction, cuts)
    assert frames == wanted
    assert (reader.broken is not None) == wrong
    assert reader.large == any(large for *_, large in wanted)
    if reader.broken is not None:
        assert isinstance(reader.broken, ProtocolError)
        assert str(reader.broken) == reader.broken.what
        assert "frame" in reader.broken.what or "the most is" in reader.broken.what
    else:
        used = sum(HEADER + len(payload) for _, _, payload, _ in wanted)
        assert reader.pending == len(stream) - used


@given(DIRECTIONS, st.data(), CUTS)
def test_frames_cut_anywhere(direction: list[int], data: st.DataObject, cuts: list[int]) -> None:
    # P3: whatever the socket makes of them, frames arrive whole, in order, once
    stream = b"".join(data.draw(st.lists(whole(direction), max_size=12)))
    check(stream, direction, cuts)


@given(DIRECTIONS, st.data(), CUTS, st.lists(HARM, min_size=1, max_size=3))
def test_spoiled_frames(
    direction: list[int], data: st.DataObject, cuts: list[int], harm: list[tuple[str, int, int]]
) -> None:
    # P2: what is corrupt breaks the connection; what came before it is delivered
    stream = b"".join(data.draw(st.lists(whole(direction), max_size=12)))
    for one in harm:
        stream = spoil(stream, one)
    check(stream, direction, cuts)


@given(DIRECTIONS, st.data(), st.binary(min_size=HEADER, max_size=200), CUTS)
def test_garbage(
    direction: list[int], data: st.DataObject, garbage: bytes, cuts: list[int]
) -> None:
    # P2
    stream = b"".join(data.draw(st.lists(whole(direction), max_size=4))) + garbage
    check(stream, direction, cuts)


@given(st.lists(st.integers(0, 255), min_size=1, max_size=20), NUMBERS)
@example([0, BIG], 0)
def test_no_kind_but_those_of_the_direction(kinds: list[int], numbered: int) -> None:
    # P2: a frame of the other direction, or one that is too small to come beside the stream
    for direction in (FROM_HOST, FROM_WORKER):
        for kind in kinds:
            frames, reader = read(number(0, 4) + bytes([kind]) + number(numbered, 8), direction, [])
            assert bool(frames) == (kind in kinds_of(direction))
            assert bool(frames) == (reader.broken is None)


@pytest.mark.parametrize("kind", sorted(set(FROM_HOST + FROM_WORKER)))
def test_an_unexpected_frame_is_named(kind: int) -> None:
    # P2: a clear text
    other = FROM_WORKER if kind in FROM_HOST else FROM_HOST
    _, reader = read(frame(kind, 1), other, [])
    assert str(reader.broken) == f"an unexpected frame: {f.name_of(kind)}"
    assert f.name_of(kind).isupper()
    if kind not in VALUES:
        own = FROM_HOST if kind in FROM_HOST else FROM_WORKER
        _, reader = read(frame(kind, 1, b"", large=True), own, [])
        assert str(reader.broken) == f"an unexpected frame: a large {f.name_of(kind)}"


def test_a_kind_without_a_name() -> None:
    _, reader = read(number(0, 4) + bytes([31]) + number(0, 8), FROM_HOST, [])
    assert str(reader.broken) == "an unexpected frame: kind 31"


@pytest.mark.parametrize("size", [MOST - 1, MOST, MOST + 1, 2**32 - 1])
@pytest.mark.parametrize("cuts", [[], [5], [HEADER], [HEADER, HEADER + 1, 70_000, 200_000]])
def test_the_largest_frame(size: int, cuts: list[int]) -> None:
    # P2: an oversized frame breaks the connection at its header: nothing of it is collected
    before = frame(f.TELL, 1, b"before")
    header = number(size, 4) + bytes([f.TELL]) + number(2, 8)
    body = b"x" * min(size, MOST + 1)
    frames, reader = read(before + header + body, FROM_HOST, [len(before) + cut for cut in cuts])
    assert frames[0] == (f.TELL, 1, b"before", False)
    if size <= MOST:
        assert frames[1:] == [(f.TELL, 2, body, False)]
        assert reader.broken is None
        assert f.encode(f.TELL, 2, body) == header + body
    else:
        assert len(frames) == 1
        assert str(reader.broken) == f"a TELL of {size} bytes; the most is {MOST}"
        assert reader.pending == 0


def test_what_is_too_long_is_not_framed() -> None:
    with pytest.raises(ProtocolError, match=f"a payload of {MOST + 1} bytes; the most is {MOST}"):
        f.encode(f.TELL, 1, bytes(MOST + 1))


@given(st.sampled_from(FROM_HOST + FROM_WORKER), NUMBERS, st.binary(max_size=40))
def test_encode(kind: int, numbered: int, payload: bytes) -> None:
    assert f.encode(kind, numbered, payload) == frame(kind, numbered, payload)
    if kind in VALUES:
        assert f.encode(kind | f.LARGE, numbered, payload) == frame(kind, numbered, payload, True)


@given(NUMBERS, st.lists(st.binary(max_size=40), min_size=1, max_size=9))
def test_many_tells_in_one_frame(first: int, payloads: list[bytes]) -> None:
    # P3, M2: in order, each with its number, and each to be decoded alone (P4)
    data = f.encode_tells(first % 2**63, payloads)
    ((kind, numbered, payload, large),) = FrameReader(f.FROM_HOST).feed(data)
    assert (numbered, large) == (first % 2**63, False)
    if len(payloads) == 1:  # as one that comes alone
        assert (kind, payload) == (f.TELL, payloads[0])
        return
    assert (kind, payload) == (f.TELLS, together(payloads))
    tells = f.cut_tells(numbered, payload)
    assert tells == [(f.TELL, numbered + n, one, False) for n, one in enumerate(payloads)]


@given(st.lists(st.binary(max_size=9), max_size=5).map(together) | st.binary(max_size=30), HARM)
def test_spoiled_tells(payload: bytes, harm: tuple[str, int, int]) -> None:
    # P2
    for one in (payload, spoil(payload, harm)):
        wanted = apart(one)
        if wanted is None:
            with pytest.raises(ValueError, match=rf"{len(one)} bytes are no \d+ tells"):
                f.cut_tells(1, one)
        else:
            assert [tell[2] for tell in f.cut_tells(1, one)] == wanted


@given(
    st.tuples(st.integers(0, 2**35 - 1), st.integers(0, 2**28 - 1), st.booleans()),
    st.tuples(st.integers(0, 2**35 - 1), st.integers(0, 2**28 - 1), st.booleans()),
)
def test_the_number_of_a_request(one: tuple[int, int, bool], other: tuple[int, int, bool]) -> None:
    # I3: it says which, about whom, and whether a handler waits
    numbered = f.request_number(*one)
    assert f.parts(numbered) == one
    assert 0 <= numbered < 1 << 64
    assert (numbered < f.request_number(*other)) == (one < other)
