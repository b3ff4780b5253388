"""What a death leaves is decided from shared memory, and from what came, alone (P3).

A worker is a list of single stores: into a word, into the ring, into the socket. It can die
between any two of them, so that is where everything is looked at, each time as if it had.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from unittest import mock

import pytest
from hypothesis import example, given, strategies as st

from actorvisor._errors import Rejection
from actorvisor.bridge import _ledger as ledger
from actorvisor.bridge._child._mail import Mail
from actorvisor.bridge._child._port import Port
from actorvisor.bridge._ledger import Ledger, Left, Outbox, what_is_left
from actorvisor.bridge._wire import _frames as f
from actorvisor.bridge._wire._codec import Codec
from actorvisor.bridge._wire._ends import WINDOW, HostEnd, WorkerEnd
from tests.bridge.streams import FROM_WORKER, frame, naive

if TYPE_CHECKING:
    from actorvisor.bridge._wire._frames import Frame

HELLO = frame(f.HELLO, 17)
ANSWERS = (f.REPLY, f.REJECTION, f.FAILURE)


@contextlib.contextmanager
def shared(ring: int = ledger.RING_SIZE) -> Iterator[Ledger]:
    """The memory, with a ring of that size."""
    start = ledger.SIZE - ledger.RING_SIZE
    with (
        mock.patch.object(ledger, "RING_SIZE", ring),
        mock.patch.object(ledger, "SIZE", start + ring),
    ):
        found = Ledger(mmap.mmap(-1, start + ring))
        try:
            yield found
        finally:
            found.close()


# --- the decision itself ------------------------------------------------------------------


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 12), st.integers(0, 12))
@example(5, 3, 2, 3)  # the reply of 3 was framed, and `done` was not stored
@example(5, 1, 3, 0)  # 2 and 3 were skipped: they were never taken
def test_every_message_has_one_fate(sent: int, taken: int, done: int, replied: int) -> None:
    # P3, M7: for whatever is stored, what was sent is done, in hand or comes back
    sent = max(sent, taken, done, replied)
    left = what_is_left(sent, taken, done, replied)
    fates: dict[int, str] = {}
    for number in range(1, sent + 1):
        if number <= done or number <= replied:
            fates[number] = "done"
        elif number == taken:
            fates[number] = "in hand"
        elif number > taken:
            fates[number] = "back"
    assert left.done == max([n for n, fate in fates.items() if fate == "done"], default=0)
    in_hand = [n for n, fate in fates.items() if fate == "in hand"]
    assert left.in_hand == (in_hand[0] if in_hand else None)
    assert list(left.back) == [n for n, fate in fates.items() if fate == "back"]


# --- a worker of single stores ------------------------------------------------------------

TALES = st.tuples(
    st.booleans(),  # whether an answer is wanted
    st.sampled_from(["handled", "handled", "handled", "rejected", "skipped", "broken", "later"]),
    st.lists(st.integers(0, 30), max_size=3),  # what its handler tells others, in bytes
)
RING = 200


class Simulated:
    """A worker by P3's order, store by store, and the plain truth of what it has done."""

    def __init__(self, memory: Ledger, ready: Iterator[int]) -> None:
        self.memory = memory
        self.ready = ready
        self.outbox = Outbox(memory, self.take)
        self.came = HELLO
        self.framed: list[Frame] = []
        self.fates: dict[int, str] = {}
        self.verdicts: dict[int, int] = {}
        self.bytes = 0
        self.count = 0

    def take(self, part: memoryview) -> int:
        """The socket takes as much as it likes."""
        count = min(next(self.ready), len(part))
        self.came += bytes(part[:count])
        return count

    def frame(self, kind: int, number: int, size: int, then: Callable[[], None]) -> Iterator[None]:
        """Bytes into the ring, in two parts; then they count."""
        data = frame(kind, number, b"%d" % self.count + bytes(size))
        self.count += 1
        while len(data) > self.outbox.room:
            with pytest.raises(BufferError, match=f"no room in the ring for {len(data)} bytes"):
                self.outbox.frame(data)
            self.outbox.flush()
            yield
        half = len(data) // 2
        self.memory.write(self.bytes, data[:half])
        yield
        self.memory.write(self.bytes + half, data[half:])
        yield
        self.outbox.frame(data)
        self.bytes += len(data)
        self.framed += naive(data, FROM_WORKER)[0]
        then()
        yield
        self.outbox.flush()
        yield

    def nothing(self) -> None:
        pass

    def work(self, number: int, asked: bool, how: str, tells: list[int]) -> Iterator[None]:
        words, verdicts = self.memory.words, self.memory.verdicts

        def done() -> None:
            self.fates[number] = "done"

        if how != "skipped":
            words[ledger.TAKEN] = number
            self.fates[number] = "in hand"
            yield
        for size in tells:
            yield from self.frame(f.SEND, 3, size, self.nothing)
        verdict = {
            "rejected": ledger.REJECTED,
            "skipped": ledger.SKIPPED,
            "broken": ledger.BROKEN,
        }.get(how, ledger.HANDLED)
        if verdict:
            verdicts[number & ledger.MASK] = verdict
            yield
        self.verdicts[number] = verdict
        if asked and how == "later":
            yield from self.frame(f.LATER, number, 0, self.nothing)
        elif asked and how != "skipped":
            kind = {"rejected": f.REJECTION, "broken": f.FAILURE}.get(how, f.REPLY)
            yield from self.frame(kind, number, 5, done)
        words[ledger.DONE] = number
        done()
        yield


def judge(
    memory: Ledger, came: bytes, asked: list[bool]
) -> tuple[HostEnd, list[Frame], dict[int, str]]:
    """What the executor makes of a death, with nothing but the memory and the bytes."""
    end = HostEnd()
    end.receive(came[: len(HELLO)])
    end.job()
    for one in asked:
        end.next("message", one)
    frames = end.receive(came[len(HELLO) :])
    frames += end.receive(memory.tail(len(came) - len(HELLO)))
    assert end.broken is None
    left = what_is_left(
        end.sequence, memory.words[ledger.TAKEN], memory.words[ledger.DONE], end.replied
    )
    fates = dict.fromkeys(range(1, left.done + 1), "done")
    if left.in_hand is not None:
        assert left.in_hand not in fates
        fates[left.in_hand] = "in hand"
    for number in left.back:
        assert number not in fates
        fates[number] = "back"
    assert list(fates) == sorted(fates)
    return end, frames, fates


@given(st.lists(TALES, min_size=1, max_size=6), st.data())
def test_death_between_any_two_stores(
    tales: list[tuple[bool, str, list[int]]], data: st.DataObject
) -> None:
    # P3, M4, M5: framed is sent, done (or answered) is handled, taken and not done is in hand,
    # the rest comes back; the ring wraps around, and is full now and then
    speeds = data.draw(st.lists(st.integers(0, 90), min_size=1, max_size=8))
    speeds.append(17)

    def ready() -> Iterator[int]:
        while True:
            yield from speeds

    with shared(RING) as memory:
        worker = Simulated(memory, ready())
        asked = [one for one, *_ in tales]

        def check() -> None:
            _, frames, fates = judge(memory, worker.came, asked)
            assert frames == worker.framed
            truth = {n: worker.fates.get(n, "back") for n in range(1, len(tales) + 1)}
            assert fates == truth
            for number, fate in fates.items():
                if fate == "done":
                    assert memory.verdicts[number & ledger.MASK] == worker.verdicts[number]

        check()
        for number, (one, how, tells) in enumerate(tales, 1):
            for _ in worker.work(number, one, how, tells):
                check()
        while not worker.outbox.flush():
            check()
        check()
        assert worker.outbox.pending == 0


# --- the real worker's mail, stopped at each of its stores --------------------------------


class Watched:
    """Memory that tells of each store."""

    def __init__(self, view: memoryview, told: Callable[[], None]) -> None:
        self._view, self._told = view, told

    def __getitem__(self, index: int) -> int:
        return self._view[index]

    def __setitem__(self, index: int, value: int) -> None:
        self._view[index] = value
        self._told()


class WatchedLedger(Ledger):
    """A worker's memory that tells of each store; a copy into the ring is two."""

    def __init__(self, memory: mmap.mmap, told: Callable[[], None]) -> None:
        super().__init__(memory)
        self._told = told
        self.words = Watched(self.words, told)  # type: ignore[assignment]
        self.verdicts = Watched(self.verdicts, told)  # type: ignore[assignment]
        self.withdrawn = memoryview(bytearray(WINDOW))

    def write(self, position: int, data: bytes) -> None:
        half = len(data) // 2
        super().write(position, data[:half])
        self._told()
        super().write(position + half, data[half:])
        self._told()


class Socket:
    """Takes as many bytes as it likes."""

    def __init__(self, speeds: list[int], told: Callable[[], None]) -> None:
        self.came = HELLO
        self._speeds, self._told, self._turn = speeds, told, 0

    def send(self, part: memoryview, flags: int) -> int:
        self._turn += 1
        count = self._speeds[self._turn % len(self._speeds)]
        if not count:
            raise BlockingIOError
        self.came += bytes(part[:count])
        self._told()
        return min(count, len(part))


class No(Rejection):
    pass


REAL = st.tuples(
    st.booleans(),
    st.sampled_from(["handled", "handled", "rejected", "withdrawn", "garbage", "unsendable"]),
    st.integers(0, 3),
)


@given(
    st.lists(REAL, min_size=1, max_size=8),
    st.lists(st.integers(0, 90), min_size=1, max_size=8),
    st.booleans(),
)
def test_the_workers_mail_at_any_store(
    tales: list[tuple[bool, str, int]], speeds: list[int], flushes: bool
) -> None:
    # P3: as above, with what a worker runs. The truth is what its caller knows: which handler was
    # entered, which came back, and what it had framed by then.
    entered: list[int] = []
    returned: list[int] = []
    wanted: dict[int, int] = {}
    asked = [one for one, *_ in tales]
    seen: list[dict[int, str]] = [dict.fromkeys(range(1, len(tales) + 1), "back")]
    tells: list[bytes] = []
    looks = 0

    def look() -> None:
        nonlocal looks
        looks += 1
        _, frames, fates = judge(plain, sock.came, asked)
        # Each goes its way, one step after the other, and never back.
        order = ["back", "in hand", "done"]
        for number, fate in fates.items():
            before = seen[-1][number]
            assert order.index(fate) >= order.index(before)
            if fate == "done":
                assert plain.verdicts[number & ledger.MASK] == wanted[number]
                answered = [kind for kind, n, *_ in frames if n == number and kind in ANSWERS]
                assert len(answered) == (asked[number - 1] and wanted[number] != ledger.SKIPPED)
            if fate == "back":
                assert number not in entered
        assert sum(fate == "in hand" for fate in fates.values()) <= 1
        assert all(fates[number] != "back" for number in entered)
        assert all(fates[number] == "done" for number in returned)
        # What was framed before is there, in order; at most one more is on its way.
        told = [payload for kind, _, payload, _ in frames if kind == f.SEND]
        assert told == tells[: len(told)]
        assert len(tells) - len(told) <= 1
        seen.append(fates)

    raw = mmap.mmap(-1, ledger.SIZE)
    plain, memory = Ledger(raw), WatchedLedger(raw, look)
    sock = Socket([*speeds, 40], look)
    port = Port(sock, memory)  # type: ignore[arg-type]

    def kick() -> None:
        if flushes:
            port.flush()

    mail = Mail(port, "host/s", kick)
    codec = Codec()
    stream = frame(f.JOB, 0)
    for number, (one, how, _) in enumerate(tales, 1):
        call = codec.encode_message("handle", (number,), {}, "a call")
        assert isinstance(call, bytes)
        payload = b"garbage" if how == "garbage" else call
        stream += frame(f.ASK if one else f.TELL, number, payload)
        wanted[number] = {
            "rejected": ledger.REJECTED,
            "withdrawn": ledger.SKIPPED,
            "garbage": ledger.BROKEN,
        }.get(how, ledger.HANDLED)
        if how == "withdrawn":
            memory.withdrawn[number & ledger.MASK] = 1
    for each in port.end.receive(stream)[1:]:
        mail.arrive(each)
    for number, (_, how, count) in enumerate(tales, 1):
        taken = mail.take_up()
        if how in ("withdrawn", "garbage"):
            assert taken is None
        else:
            assert taken is not None
            assert (taken.number, taken.args) == (number, (number,))
            entered.append(number)
            for index in range(count):
                tells.append(b"%d of %d" % (index, number))
                port.frame(f.SEND, 3, tells[-1])
            if how == "rejected":
                mail.reject(taken, No("no"))
            else:
                mail.done(taken, (lambda: 0) if how == "unsendable" else number)
        returned.append(number)
        look()
    mail.acknowledge()
    while not port.flush():
        pass
    end, frames, _ = judge(plain, sock.came, asked)
    assert looks > 2 * len(tales)
    assert end.acknowledged == len(tales) or not frames


@pytest.mark.parametrize("window", [1, 2, 7])
@pytest.mark.parametrize("how", ["handled", "rejected", "withdrawn", "garbage"])
def test_credit_from_the_store_on(window: int, how: str) -> None:
    # P3: the executor sends one more as soon as it sees that one more is done, and another thread
    # of the worker may take that in before the one that stored it goes on
    sent = 0

    def told() -> None:
        nonlocal sent
        while sent < min(plain.words[ledger.DONE] + window, 20):
            sent += 1
            if how == "withdrawn":
                memory.withdrawn[sent & ledger.MASK] = 1
            for one in port.end.receive(frame(f.TELL, sent, call)):
                mail.arrive(one)
            assert port.end.broken is None

    raw = mmap.mmap(-1, ledger.SIZE)
    plain, memory = Ledger(raw), WatchedLedger(raw, told)
    port = Port(Socket([40], told), memory)  # type: ignore[arg-type]
    port.end = WorkerEnd(window)
    mail = Mail(port, "host/s", lambda: None)
    call = b"garbage"
    if how != "garbage":
        encoded = Codec().encode_message("handle", (), {}, "a call")
        assert isinstance(encoded, bytes)
        call = encoded
    port.end.receive(frame(f.JOB, 0))
    told()
    for _ in range(20):
        taken = mail.take_up()
        if taken is not None and how == "rejected":
            mail.reject(taken, No("no"))
        elif taken is not None:
            mail.done(taken, None)
    assert sent == plain.words[ledger.DONE] == 20


# --- the ring -----------------------------------------------------------------------------


@given(
    st.integers(1, 64),
    st.lists(st.tuples(st.binary(max_size=70), st.integers(0, 70)), max_size=40),
    st.integers(0, 64),
)
def test_the_ring_is_a_queue(size: int, steps: list[tuple[bytes, int]], late: int) -> None:
    # P3: what was framed and did not come is in the ring, wherever it wraps around
    with shared(size) as memory:
        came = b""
        all_of_it = b""
        room = 0

        def take(part: memoryview) -> int:
            nonlocal came, room
            count = min(room, len(part))
            room -= count
            came += bytes(part[:count])
            return count

        outbox = Outbox(memory, take)
        for data, ready in steps:
            if len(data) <= size - (len(all_of_it) - len(came)):
                assert outbox.room >= len(data)
                outbox.frame(data)
                all_of_it += data
            else:
                assert outbox.room < len(data)
                with pytest.raises(BufferError):
                    outbox.frame(data)
            assert came + memory.tail(len(came)) == all_of_it
            room = ready
            assert outbox.flush() == (came == all_of_it)
            assert outbox.pending == len(all_of_it) - len(came)
            assert outbox.room == size - outbox.pending
            assert came + memory.tail(len(came)) == all_of_it
            assert memory.words[ledger.FRAMED] == len(all_of_it)
        # What was sent by another way than `flush` counts, too.
        rest = memory.tail(len(came))[:late]
        outbox.sent(len(rest))
        came += rest
        room = size
        assert outbox.flush()
        assert came == all_of_it


def test_a_full_ring() -> None:
    # P3: at every position, the one that wraps around too
    for position in range(10):
        with shared(8) as memory:
            outbox = Outbox(memory, len)
            outbox.frame(b"x" * min(position, 8))
            outbox.flush()
            outbox.frame(b"x" * max(position - 8, 0))
            outbox.flush()
            outbox.frame(b"abcdefgh")
            assert outbox.room == 0
            assert memory.tail(position) == b"abcdefgh"
            assert memory.tail(position + 3) == b"defgh"
            with pytest.raises(BufferError, match="no room in the ring for 1 bytes"):
                outbox.frame(b"i")
            assert memory.tail(position) == b"abcdefgh"
            outbox.frame(b"")
            assert outbox.flush()
            assert outbox.room == 8


@pytest.mark.parametrize("framed", [2**64 - 1, 2**40, 9, 5])
def test_a_memory_that_lies(framed: int) -> None:
    # P2, P3: a worker that dies of its own broken memory costs the host nothing
    with shared(8) as memory:
        memory.words[ledger.FRAMED] = framed
        assert len(memory.tail(0)) == (framed if framed <= 8 else 0)
        assert memory.tail(framed) == b""
        assert memory.tail(framed + 1) == b""


def test_it_is_as_large_as_what_it_holds() -> None:
    # A number's slot is its own as long as it may be under way.
    assert WINDOW == ledger.MASK + 1
    with shared() as memory:
        assert len(memory.words) == 16
        assert len(memory.withdrawn) == len(memory.verdicts) == WINDOW
        memory.words[ledger.GRACE] = ledger.FOREVER
        memory.withdrawn[ledger.MASK] = 1
        memory.verdicts[0] = ledger.BROKEN
        memory.verdicts[ledger.MASK] = ledger.REJECTED
        memory.write(0, b"\xff" * ledger.RING_SIZE)
        memory.words[ledger.FRAMED] = ledger.RING_SIZE
        assert memory.tail(0) == b"\xff" * ledger.RING_SIZE
        assert sum(memory.withdrawn) == 1
        assert sum(memory.verdicts) == ledger.BROKEN + ledger.REJECTED
        assert memory.words[ledger.TAKEN] == memory.words[ledger.STOPPING] == 0


def test_what_is_left_says_it_in_numbers() -> None:
    assert what_is_left(5, 3, 2, 0) == Left(2, 3, range(4, 6))
    assert what_is_left(5, 3, 2, 3) == Left(3, None, range(4, 6))
    assert what_is_left(0, 0, 0, 0) == Left(0, None, range(1, 1))
