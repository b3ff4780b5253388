"""Both ends of a connection, against naive models of the rules, and against each other (P3)."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from actorvisor.bridge._wire import _frames as f
from actorvisor.bridge._wire._ends import HostEnd, WorkerEnd
from actorvisor.bridge._wire._frames import ProtocolError
from tests.bridge.streams import FROM_HOST, FROM_WORKER, HEADER, apart, frame, naive, together

if TYPE_CHECKING:
    from actorvisor.bridge._wire._frames import Frame

WINDOW = 4
REPLIES = (f.REPLY, f.REJECTION, f.FAILURE)


# --- the rules, naively -------------------------------------------------------------------


class HostRules:
    """What may come from a worker: all that ever happened is kept, and looked through each time."""

    def __init__(self) -> None:
        self.sent: list[bool] = []  # whether an answer is wanted, of message 1, 2, ...
        self.heard: list[tuple[int, int]] = []
        self.stream = b""
        self.has_job = False
        self.broken = False

    def said(self, *kinds: int) -> list[int]:
        return [number for kind, number in self.heard if kind in kinds]

    @property
    def done(self) -> int:
        """Up to which message all is known to be done."""
        promised: set[int] = set()
        done = 0
        for kind, number in self.heard:
            if kind == f.LATER:
                promised.add(number)
            elif kind == f.ACK or (kind in REPLIES and number not in promised):
                done = max(done, number)
        return done

    @property
    def replied(self) -> int:
        promised = self.said(f.LATER)
        return max([n for n in self.said(*REPLIES) if n not in promised], default=0)

    def is_open(self, number: int) -> bool:
        """Whether it was asked, and neither answered nor promised nor done without either."""
        asked = 1 <= number <= len(self.sent) and self.sent[number - 1]
        return asked and number not in self.said(*REPLIES, f.LATER) and number > self.done

    def allows(self, kind: int, number: int) -> bool:
        hello, ending, over = (bool(self.said(one)) for one in (f.HELLO, f.ENDING, f.EXIT))
        if kind == f.HELLO or not hello:
            return kind == f.HELLO and not hello
        if kind == f.LOG:
            return True
        if over or not self.has_job:
            return False
        if kind in REPLIES:
            kept = number in self.said(f.LATER) and number not in self.said(*REPLIES)
            return kept or (self.is_open(number) and not ending)
        if kind == f.LATER:
            return self.is_open(number)
        if kind == f.ACK:
            return self.done <= number <= len(self.sent)
        if kind in (f.REQUEST, f.CALL):
            before = [f.parts(one)[0] for one in self.said(f.REQUEST, f.CALL)]
            return f.parts(number)[0] > max(before, default=0)
        if kind == f.UP:
            return not ending and not self.said(f.UP)
        if kind == f.ENDING:
            return not ending
        if kind == f.EXIT:
            return ending
        return True

    def receive(self, data: bytes) -> list[Frame]:
        if self.broken:
            return []
        frames, garbage = naive(self.stream + data, FROM_WORKER)
        self.stream = (self.stream + data)[sum(HEADER + len(one[2]) for one in frames) :]
        for index, (kind, number, _, _) in enumerate(frames):
            if not self.allows(kind, number):
                self.broken = True
                return frames[:index]
            self.heard.append((kind, number))
        self.broken = garbage
        return frames

    @property
    def phase(self) -> str:
        if self.said(f.EXIT):
            return "over"
        if self.said(f.ENDING):
            return "ending"
        if self.has_job:
            return "working"
        return "greeted" if self.said(f.HELLO) else "new"


class WorkerRules:
    """What may come from a host."""

    def __init__(self, window: float) -> None:
        self.window = window
        self.heard: list[tuple[int, int]] = []
        self.asked: list[int] = []
        self.done = 0
        self.stream = b""
        self.broken = False

    def said(self, *kinds: int) -> list[int]:
        return [number for kind, number in self.heard if kind in kinds]

    def allows(self, kind: int, number: int) -> bool:
        has_job = bool(self.said(f.JOB))
        if kind == f.JOB or not has_job:
            return kind == f.JOB and not has_job
        if kind in (f.TELL, f.ASK):
            last = len(self.said(f.TELL, f.ASK))
            return number == last + 1 and number - self.done <= self.window
        if kind == f.TELLS:
            return False  # not in its place, or not cut
        if kind in (f.ANSWER, f.ERROR):
            return number in self.asked and number not in self.said(f.ANSWER, f.ERROR)
        return True

    def receive(self, data: bytes) -> list[Frame]:
        if self.broken:
            return []
        frames, garbage = naive(self.stream + data, FROM_HOST)
        self.stream = (self.stream + data)[sum(HEADER + len(one[2]) for one in frames) :]
        for index, (kind, number, payload, _) in enumerate(frames):
            parts = apart(payload) if kind == f.TELLS else None
            several = [(f.TELL, number + place) for place in range(len(parts or ()))]
            before = list(self.heard)
            for one in several or [(kind, number)]:
                if not self.allows(*one):
                    self.broken, self.heard = True, before
                    return frames[:index]
                self.heard.append(one)
            if parts is not None:
                tells = [(f.TELL, number + place, part, False) for place, part in enumerate(parts)]
                frames[index] = (f.TELLS, number, tells, False)
        self.broken = garbage
        return frames


def check_text(broken: ProtocolError | None) -> None:
    """A clear text: what came, and what is wrong with it."""
    assert type(broken) is ProtocolError
    assert re.fullmatch(
        r"a \w+ of number \d+: .{8,}|an unexpected frame: .+|a \w+ of \d+ bytes; the most is \d+",
        broken.what,
    )


# --- each end against its rules -----------------------------------------------------------

SMALL = st.integers(0, 7)
OF_REQUESTS = st.builds(f.request_number, st.integers(0, 6), st.integers(0, 2), st.booleans())
PAYLOAD = st.binary(max_size=3)


def likely(kinds: list[int], often: list[int]) -> st.SearchStrategy[int]:
    return st.sampled_from(often * 4 + kinds)


@st.composite
def from_worker(draw: st.DrawFn) -> bytes:
    often = [f.REPLY, f.REPLY, f.REJECTION, f.ACK, f.LATER, f.SEND, f.REQUEST]
    kind = draw(likely(FROM_WORKER, often))
    number = draw(OF_REQUESTS if kind in (f.REQUEST, f.CALL) else SMALL)
    return frame(kind, number, draw(PAYLOAD))


HOST_STEPS = st.one_of(
    st.tuples(st.just("message"), st.booleans()),
    st.tuples(st.just("message"), st.booleans()),
    st.tuples(st.just("right reply"), st.sampled_from(REPLIES)),
    st.tuples(st.just("frame"), from_worker()),
    st.tuples(st.just("frame"), from_worker()),
    st.tuples(st.just("frame"), st.sampled_from([frame(f.UP, 0), frame(f.ENDING, 0)])),
    st.tuples(st.just("frame"), st.sampled_from([frame(f.EXIT, 0), frame(f.LOG, 0)])),
    st.tuples(st.just("bytes"), st.binary(min_size=1, max_size=20)),
    st.tuples(st.just("flip"), st.integers(0, 7)),
    st.tuples(st.just("arrive"), st.integers(1, 60)),
    st.tuples(st.just("arrive"), st.integers(1, 60)),
)


class HostSide:
    """The end and the rules, fed with the same; it takes out what the listener of a link would."""

    def __init__(self) -> None:
        self.end = HostEnd(WINDOW)
        self.rules = HostRules()
        self.way = b""
        self.taken_out: list[int] = []

    def arrive(self, count: int) -> None:
        data, self.way = self.way[:count], self.way[count:]
        frames = self.end.receive(data)
        assert frames == self.rules.receive(data)
        for kind, number, _, _ in frames:
            if kind in REPLIES:
                where = self.end.asks if number in self.end.asks else self.end.promised
                assert where.pop(number) == number
                self.taken_out.append(number)
            elif kind == f.LATER:
                assert self.end.promised[number] == number
        self.compare()

    def compare(self) -> None:
        end, rules = self.end, self.rules
        assert (end.broken is not None) == rules.broken
        if rules.broken:
            check_text(end.broken)
            return
        assert end.phase == rules.phase
        assert end.up == bool(rules.said(f.UP))
        assert end.sequence == len(rules.sent)
        assert end.acknowledged == rules.done
        assert end.replied == rules.replied
        assert self.taken_out == rules.said(*REPLIES)
        later = rules.said(f.LATER)
        wanted = [n for n, asked in enumerate(rules.sent, 1) if asked and n not in self.taken_out]
        assert sorted(end.asks) == [n for n in wanted if n not in later]
        assert sorted(end.promised) == [n for n in wanted if n in later]

    def step(self, what: str, how: Any) -> None:
        end, rules = self.end, self.rules
        match what:
            case "message":
                end.settle(end.acknowledged)
                if len(rules.sent) - rules.done < WINDOW and end.broken is None:
                    assert end.credit == WINDOW - len(rules.sent) + rules.done
                    number = len(rules.sent) + 1
                    assert end.next(number, how) == number
                    rules.sent.append(how)
                elif end.broken is None:
                    assert end.credit == 0
                    with pytest.raises(ProtocolError, match=f"window of {WINDOW} .* is full"):
                        end.next(None, how)
            case "right reply":
                kept = [n for n in rules.said(f.LATER) if n not in rules.said(*REPLIES)]
                some = [n for n in range(1, len(rules.sent) + 1) if rules.is_open(n)]
                for number in (kept + some)[:1]:
                    self.way += frame(how, number, b"x")
            case "frame" | "bytes":
                self.way += how
            case "flip":
                if self.way:
                    self.way = self.way[:-1] + bytes([self.way[-1] ^ 1 << how])
            case _:
                self.arrive(how)


@given(st.lists(HOST_STEPS, max_size=40), st.sampled_from(["greeted", "working", "working"]))
def test_the_executors_end(steps: list[tuple[str, Any]], start: str) -> None:
    # P3, P2: what comes is what the rules allow, up to the first thing that they do not
    side = HostSide()
    side.way = frame(f.HELLO, 17)
    side.arrive(HEADER)
    if start == "working":
        side.end.job()
        side.rules.has_job = True
    for step in steps:
        side.step(*step)
    side.arrive(len(side.way))
    assert side.end.receive(b"") == []


@given(st.lists(from_worker(), min_size=1, max_size=5), st.integers(1, 60))
def test_nothing_before_a_hello(frames: list[bytes], cut: int) -> None:
    # P1, P2: nobody is there before that
    side = HostSide()
    side.way = b"".join(frames)
    with pytest.raises(ProtocolError, match=r"a job in phase 'new'"):
        side.end.job()
    while side.way:
        side.arrive(cut)


@given(st.lists(HOST_STEPS, max_size=30), st.lists(st.integers(1, 40), max_size=20))
def test_how_it_is_cut_changes_nothing(steps: list[tuple[str, Any]], cuts: list[int]) -> None:
    # P3: neither what is delivered, nor where it breaks, nor how that is told
    sides = HostSide(), HostSide()
    for side in sides:
        side.way = frame(f.HELLO, 17)
        side.arrive(HEADER)
        side.end.job()
        side.rules.has_job = True
        for asked in (True, False, True, True):
            side.step("message", asked)
        for what, how in steps:
            if what in ("frame", "bytes", "flip"):
                side.step(what, how)
    for cut in cuts:
        sides[1].arrive(cut)
    for side in sides:
        side.arrive(len(side.way))
    one, other = sides
    assert one.rules.heard == other.rules.heard
    assert str(one.end.broken) == str(other.end.broken)
    assert vars(one.end).keys() == vars(other.end).keys()


@st.composite
def from_host(draw: st.DrawFn) -> bytes:
    kind = draw(likely(FROM_HOST, [f.TELL, f.ASK, f.ANSWER, f.TELLS]))
    payload = draw(PAYLOAD)
    if kind == f.TELLS and draw(st.booleans()):
        payload = together(draw(st.lists(PAYLOAD, max_size=4)))
    return frame(kind, draw(SMALL), payload)


WORKER_STEPS = st.one_of(
    st.tuples(st.just("right message"), st.sampled_from([f.TELL, f.ASK])),
    st.tuples(st.just("right message"), st.sampled_from([f.TELL, f.ASK])),
    st.tuples(st.just("right tells"), st.lists(PAYLOAD, min_size=1, max_size=4)),
    st.tuples(st.just("frame"), from_host()),
    st.tuples(st.just("bytes"), st.binary(min_size=1, max_size=20)),
    st.tuples(st.just("request"), st.none()),
    st.tuples(st.just("done"), st.booleans()),
    st.tuples(st.just("done"), st.booleans()),
    st.tuples(st.just("arrive"), st.integers(1, 60)),
    st.tuples(st.just("arrive"), st.integers(1, 60)),
)


@given(st.lists(WORKER_STEPS, max_size=60), st.integers(0, 3), st.sampled_from([1, WINDOW, 9]))
def test_the_workers_end(steps: list[tuple[str, Any]], job: int, window: int) -> None:
    # P3, P2
    end, rules = WorkerEnd(window), WorkerRules(window)
    way = b"" if job == 0 else frame(f.JOB, 0, b"job")
    framed = told = 0
    for what, how in [*steps, ("arrive", math.inf)]:
        match what:
            case "right message":
                framed += 1
                way += frame(how, framed, b"m")
            case "right tells":
                way += f.encode_tells(framed + 1, how)
                framed += len(how)
            case "frame" | "bytes":
                way += how
            case "request":
                rules.asked.append(len(rules.asked) + 1)
                assert end.request(rules.asked[-1]) == rules.asked[-1]
            case "done":
                if rules.done < len(rules.said(f.TELL, f.ASK)):
                    rules.done += 1
                    due = end.done(rules.done, how)
                    if how:
                        told = rules.done
                    # P3, BRIDGE: credit goes back at a quarter of the window
                    assert due == (not how and rules.done - told >= window // 4)
                    if due:
                        assert end.acknowledge() == rules.done
                        told = rules.done
                        assert end.acknowledge() is None
            case _:
                count = min(how, len(way))
                data, way = way[:count], way[count:]
                frames = end.receive(data)
                assert frames == rules.receive(data)
                for kind, number, _, _ in frames:
                    if kind in (f.ANSWER, f.ERROR):
                        assert end.answered.pop(number) == number
        assert (end.broken is not None) == rules.broken
        if rules.broken:
            check_text(end.broken)
        else:
            answered = rules.said(f.ANSWER, f.ERROR)
            assert list(end.requests) == [one for one in rules.asked if one not in answered]
            assert not end.answered
    assert end.acknowledge() == (None if told == rules.done else rules.done)


# --- both, back to back -------------------------------------------------------------------


class Connection(RuleBasedStateMachine):
    """Two ends, and the bytes between them, which come in any pieces; what each does is right."""

    def __init__(self) -> None:
        super().__init__()
        self.host, self.worker = HostEnd(WINDOW), WorkerEnd(WINDOW)
        self.down, self.up = b"", b""
        self.framed = self.received = 0
        self.count = 0
        self.told: list[tuple[int, int, bytes]] = []  # all messages
        self.queue: list[Frame] = []
        self.taken: list[tuple[int, int, bytes]] = []
        self.stored = 0  # the word in shared memory that says what is done
        self.handled: list[bytes] = []
        self.open: list[int] = []
        self.replies: dict[int, bytes] = {}
        self.heard: dict[int, bytes] = {}
        self.kept: set[int] = set()
        self.requests: list[tuple[int, bytes]] = []
        self.served: list[tuple[int, bytes]] = []
        self.waits: list[int] = []
        self.sends: list[bytes] = []
        self.got: list[bytes] = []
        self.answers: dict[int, bytes] = {}
        self.answered: dict[int, bytes] = {}
        self.stops = self.stops_seen = 0
        self.ended = False

    def fresh(self) -> bytes:
        self.count += 1
        return b"%d" % self.count

    def worker_says(self, kind: int, number: int, payload: bytes = b"") -> None:
        data = f.encode(kind, number, payload)
        self.framed += len(data)
        self.up += data

    @initialize()
    def greet(self) -> None:
        self.worker_says(f.HELLO, 17)
        self.carry_up(len(self.up))
        self.host.job()
        self.down += f.encode(f.JOB, 0, b"job")

    # --- the host's side

    @precondition(lambda self: not self.ended)
    @rule(asked=st.booleans())
    def message(self, asked: bool) -> None:
        """As far as there is credit."""
        if self.host.credit <= 0:
            with pytest.raises(ProtocolError):
                self.host.next(None, asked)
            return
        payload = self.fresh()
        number = self.host.next(payload, asked)
        kind = f.ASK if asked else f.TELL
        self.told.append((kind, number, payload))
        self.down += f.encode(kind, number, payload)

    @precondition(lambda self: not self.ended and self.host.credit > 0)
    @rule(count=st.integers(1, WINDOW))
    def messages(self, count: int) -> None:
        """Many in one frame."""
        first = self.host.sequence + 1
        payloads = [self.fresh() for _ in range(min(count, self.host.credit))]
        self.host.under_way += payloads
        self.told += [(f.TELL, number, one) for number, one in enumerate(payloads, first)]
        self.down += f.encode_tells(first, payloads)

    @rule(which=st.integers(0, 5), kind=st.sampled_from([f.ANSWER, f.ERROR]))
    def answer(self, which: int, kind: int) -> None:
        """In any order."""
        if self.waits:
            number = self.waits.pop(which % len(self.waits))
            self.answers[number] = payload = self.fresh()
            self.down += f.encode(kind, number, payload)

    @rule()
    def stop(self) -> None:
        self.stops += 1
        self.down += f.encode(f.STOP, 0)

    @rule()
    def look(self) -> None:
        """What is stored counts once all came that was framed before."""
        done = self.host.acknowledged
        if self.framed == self.received:
            done = max(done, self.stored)
        self.host.settle(done)

    @rule(count=st.integers(1, 80))
    def carry_up(self, count: int) -> None:
        data, self.up = self.up[:count], self.up[count:]
        self.received += len(data)
        for kind, number, payload, _ in self.host.receive(data):
            match kind:
                case f.REPLY | f.REJECTION:
                    assert number not in self.heard
                    self.heard[number] = payload
                    if number in self.host.asks:
                        del self.host.asks[number]
                        assert number not in self.kept
                    else:
                        del self.host.promised[number]
                        assert number in self.kept
                case f.LATER:
                    assert number in self.host.promised
                case f.REQUEST:
                    request, target, waits = f.parts(number)
                    assert (target, waits) == (5, bool(request % 2))
                    self.served.append((request, payload))
                    self.waits.append(request)
                case f.SEND:
                    self.got.append(payload)
                case _:
                    assert kind in (f.HELLO, f.ACK, f.UP, f.ENDING, f.EXIT)

    # --- the worker's side

    @rule(count=st.integers(1, 80))
    def carry_down(self, count: int) -> None:
        data, self.down = self.down[:count], self.down[count:]
        for one in self.worker.receive(data):
            kind, number, payload, _ = one
            match kind:
                case f.TELL | f.ASK:
                    self.queue.append(one)
                    self.taken.append((kind, number, payload))
                case f.TELLS:
                    self.queue += payload
                    self.taken += [tell[:3] for tell in payload]
                case f.ANSWER | f.ERROR:
                    assert number not in self.answered
                    assert self.worker.answered.pop(number) == number
                    self.answered[number] = payload
                case f.STOP:
                    self.stops_seen += 1
                case _:
                    assert kind == f.JOB
        assert len(self.queue) <= WINDOW

    def acknowledge(self) -> None:
        number = self.worker.acknowledge()
        if number is not None:
            self.worker_says(f.ACK, number)

    @precondition(lambda self: self.queue and not self.ended)
    @rule(how=st.sampled_from(["reply", "reply", "later", "reject"]), sends=st.booleans())
    def handle(self, how: str, sends: bool) -> None:
        kind, number, payload, _ = self.queue.pop(0)
        self.handled.append(payload)
        if sends:
            self.sends.append(self.fresh())
            self.worker_says(f.SEND, 5, self.sends[-1])
        replied = kind == f.ASK and how != "later"
        if replied:
            self.replies[number] = self.fresh()
            self.worker_says(
                f.REPLY if how == "reply" else f.REJECTION, number, self.replies[number]
            )
        elif kind == f.ASK:
            self.worker_says(f.LATER, number)
            self.open.append(number)
            self.kept.add(number)
        due = self.worker.done(number, replied)
        self.stored = number
        if due:
            self.acknowledge()

    @rule()
    def idle(self) -> None:
        """Nothing is left to do: it says how far it is."""
        if not self.queue and not self.ended:
            self.acknowledge()

    @precondition(lambda self: self.host.phase in ("working", "ending"))
    @rule(which=st.integers(0, 5))
    def keep_a_promise(self, which: int) -> None:
        if self.open:
            number = self.open.pop(which % len(self.open))
            self.replies[number] = self.fresh()
            self.worker_says(f.REPLY, number, self.replies[number])

    @rule()
    def request(self) -> None:
        number = self.worker.request(len(self.requests) + 1)
        self.requests.append((number, self.fresh()))
        self.worker_says(
            f.REQUEST, f.request_number(number, 5, bool(number % 2)), self.requests[-1][1]
        )

    @precondition(lambda self: not self.ended and self.stops_seen)
    @rule()
    def end(self) -> None:
        self.ended = True
        self.acknowledge()
        self.worker_says(f.ENDING, 0)

    # --- what holds

    @invariant()
    def nothing_is_broken(self) -> None:
        assert self.host.broken is None
        assert self.worker.broken is None

    @invariant()
    def credit_is_kept(self) -> None:
        # P3: never more than the window beyond what is done
        assert 0 <= self.host.credit <= WINDOW
        assert self.host.sequence - self.stored <= WINDOW
        assert self.host.acknowledged <= self.stored

    @invariant()
    def in_order_and_once(self) -> None:
        # M2: a prefix of what was sent, each way
        assert self.taken == self.told[: len(self.taken)]
        assert self.handled == [payload for *_, payload in self.told[: len(self.handled)]]
        assert self.served == self.requests[: len(self.served)]
        assert self.got == self.sends[: len(self.got)]
        assert self.heard.items() <= self.replies.items()
        assert self.answered.items() <= self.answers.items()

    def teardown(self) -> None:
        """All arrives, and then nothing is under way that should not be."""
        while self.up or self.down:
            self.carry_up(7)
            self.carry_down(7)
        self.nothing_is_broken()
        self.credit_is_kept()
        assert self.taken == self.told
        assert self.heard == self.replies
        assert self.served == self.requests
        assert self.got == self.sends
        assert self.answered == self.answers
        assert self.stops_seen == self.stops
        assert sorted(self.host.promised) == sorted(self.open)
        assert sorted(self.worker.requests) == sorted(
            {number for number, _ in self.requests} - set(self.answers)
        )
        self.look()
        assert self.host.credit == WINDOW - len(self.queue)
        unanswered = [number for kind, number, *_ in self.queue if kind == f.ASK]
        assert sorted(self.host.asks) == unanswered


TestConnection = Connection.TestCase


# --- single cases, each with its words ----------------------------------------------------


def at_work(*asked: bool) -> HostEnd:
    end = HostEnd(WINDOW)
    end.receive(frame(f.HELLO, 17))
    end.job()
    for one in asked:
        end.next("message", one)
    return end


@pytest.mark.parametrize(
    ("frames", "text"),
    [
        ([(f.HELLO, 1)], "a HELLO of number 1: it was said before"),
        ([(f.ACK, 3)], "a ACK of number 3: between 0 and 2 was to be acknowledged"),
        ([(f.ACK, 2), (f.ACK, 1)], "a ACK of number 1: between 2 and 2 was to be acknowledged"),
        ([(f.REPLY, 1)], "a REPLY of number 1: nothing that was asked so is open"),
        ([(f.REPLY, 9)], "a REPLY of number 9: nothing that was asked so is open"),
        ([(f.REPLY, 2), (f.REPLY, 2)], "a REPLY of number 2: it was done before"),
        ([(f.ACK, 2), (f.REPLY, 2)], "a REPLY of number 2: it was done before"),
        ([(f.REPLY, 2), (f.LATER, 2)], "a LATER of number 2: nothing that was asked so is open"),
        (
            [(f.LATER, 2), (f.REPLY, 2), (f.REPLY, 2)],
            "a REPLY of number 2: nothing that was asked so is open",
        ),
        ([(f.ENDING, 0), (f.REPLY, 2)], "a REPLY of number 2: it has said that it ends"),
        ([(f.ENDING, 0), (f.UP, 0)], "a UP of number 0: it has said that it ends"),
        ([(f.UP, 0), (f.UP, 0)], "a UP of number 0: it was up before"),
        ([(f.EXIT, 0)], "a EXIT of number 0: it has not said why it ends"),
        (
            [(f.ENDING, 0), (f.EXIT, 0), (f.SEND, 1)],
            "a SEND of number 1: it has said that it is over",
        ),
        (
            [(f.REQUEST, f.request_number(1, 1, True)), (f.CALL, f.request_number(1, 2, True))],
            f"a CALL of number {f.request_number(1, 2, True)}: requests after 1 were to come",
        ),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_what_must_not_come_from_a_worker(
    frames: list[tuple[int, int]], text: str, at_once: bool
) -> None:
    # P2: a tell and an ask are under way. In one piece or frame by frame, it is the same.
    end = at_work(False, True)
    parts = [frame(*one) for one in frames]
    delivered = 0
    for part in [b"".join(parts)] if at_once else parts:
        for kind, number, *_ in end.receive(part):
            delivered += 1
            if kind == f.REPLY:  # as the listener of a link does
                (end.asks if number in end.asks else end.promised).pop(number)
    assert delivered == len(frames) - 1
    assert str(end.broken) == text
    assert end.receive(frame(f.LOG, 0)) == []


TWO = together([b"a", b"bc"])


def test_a_job_is_sent_once() -> None:
    end = at_work()
    with pytest.raises(ProtocolError, match="a job in phase 'working'"):
        end.job()


@pytest.mark.parametrize(
    ("frames", "text"),
    [
        ([(f.TELL, 1)], "a TELL of number 1: there is no job yet"),
        ([(f.JOB, 0), (f.JOB, 0)], "a JOB of number 0: there is a job already"),
        ([(f.JOB, 0), (f.TELL, 2)], "a TELL of number 2: number 1 was to come"),
        ([(f.JOB, 0), (f.TELL, 1), (f.ASK, 1)], "a ASK of number 1: number 2 was to come"),
        (
            [(f.JOB, 0), *[(f.TELL, number) for number in range(1, WINDOW + 2)]],
            f"a TELL of number {WINDOW + 1}: more than the window of {WINDOW}",
        ),
        ([(f.TELLS, 1, TWO)], "a TELLS of number 1: there is no job yet"),
        ([(f.JOB, 0), (f.TELLS, 2, TWO)], "a TELLS of number 2: number 1 was to come"),
        (
            [(f.JOB, 0), (f.TELLS, 1, TWO), (f.TELL, 2)],
            "a TELL of number 2: number 3 was to come",
        ),
        (
            [(f.JOB, 0), (f.TELLS, 1, TWO), (f.TELL, 3), (f.TELLS, 4, TWO)],
            f"a TELLS of number 4: more than the window of {WINDOW}",
        ),
        (
            [(f.JOB, 0), (f.TELLS, 1, TWO[:-1])],
            "a TELLS of number 1: 14 bytes are no 2 tells and their lengths",
        ),
        (
            [(f.JOB, 0), (f.TELLS, 1, b"abc")],
            "a TELLS of number 1: 3 bytes are no 0 tells and their lengths",
        ),
        ([(f.JOB, 0), (f.ANSWER, 2)], "a ANSWER of number 2: nothing was asked so"),
        (
            [(f.JOB, 0), (f.ANSWER, 1), (f.ERROR, 1)],
            "a ERROR of number 1: nothing was asked so",
        ),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_what_must_not_come_from_a_host(
    frames: list[tuple[Any, ...]], text: str, at_once: bool
) -> None:
    # P2
    end = WorkerEnd(WINDOW)
    end.request("waiter")
    parts = [frame(*one) for one in frames]
    before = [end.receive(part) for part in ([b"".join(parts)] if at_once else parts)]
    assert sum(map(len, before)) == len(frames) - 1
    assert str(end.broken) == text
    assert end.receive(frame(f.STOP, 0)) == []
