"""The rules of mail, as functions over a trace (M2, M4-M8)."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ._courses import ENDS, Course, Courses, follow
from ._letters import BROKEN
from ._violations import Violation

if TYPE_CHECKING:
    from ._trace import Entry, Trace

Stream: TypeAlias = "tuple[str, int, int | None]"
"""What keeps its order: a receiver, a sending task and, of a pool with a key, a member."""

_STEPS: Final[dict[str, frozenset[str]]] = {
    "handed-over": frozenset({"waiting"}),
    "taken": frozenset({"waiting"}),
    "given-back": frozenset({"waiting", "in hand"}),
    "handled": frozenset({"in hand"}),
    "rejected": frozenset({"in hand"}),
    "withdrawn": frozenset({"waiting", "in hand"}),
    "dead-letter": frozenset({"waiting", "in hand"}),
}

# What is counted under which name, for all mail.
_COUNTED: Final = {
    "accepted": "accepted",
    "handled": "handled",
    "rejected": "rejected",
    "withdrawn": "withdrawn",
    "dead-letter": "dead_letters",
    "dropped-reply": "late_replies",
}


def rule_m2(trace: Trace) -> Iterator[Violation]:
    """M2: what one task sends to one receiver is taken up in the order sent.

    Checked, over restarts and processes: when a message is taken up, none that the same task has
    sent to the same receiver before still waits there. (A second try of one counts, too.) Of a
    pool it is handing over that counts, with a key for each member. All that a worker sends counts
    as one task's, and all that a service's threads do. Notifications and timers are nobody's.
    """
    streams: dict[Stream, list[int]] = {}
    for entry, courses in follow(trace):
        if entry.kind == "accepted":
            stream = _stream_of(entry)
            if stream is not None:
                streams.setdefault(stream, []).append(_number(entry))
        if entry.kind not in {"taken", "handed-over"}:
            continue
        course = courses.of(entry)
        stream = None if course is None else _stream_of(course.accepted)
        # What a member takes, it was handed over before.
        if course is None or stream is None or course.where != stream[0]:
            continue
        first = _first_waiting(streams[stream], stream[0], courses)
        if first is not None and first.number < course.number:
            expected = f"what one task sends to {stream[0]} is taken up in order"
            found = f"message {course.number} before message {first.number}"
            yield Violation("M2", expected, found, (first.accepted, course.accepted, entry))


def _stream_of(accepted: Entry) -> Stream | None:
    detail: Any = accepted.detail
    return (accepted.path, detail["task"], detail.get("lane")) if detail.get("task") else None


def _first_waiting(numbers: list[int], receiver: str, courses: Courses) -> Course | None:
    """The message of a stream that has waited longest at its receiver, of those that do."""
    away: list[int] = []
    first: Course | None = None
    while numbers and first is None:
        course = courses.all[numbers[0]]
        if course.state == "over":
            heapq.heappop(numbers)
        elif course.state == "waiting" and course.where == receiver:
            first = course
        else:  # in hand, or a member's: it may come back
            away.append(heapq.heappop(numbers))
    for number in away:
        heapq.heappush(numbers, number)
    return first


def rule_m4(trace: Trace) -> Iterator[Violation]:
    """M4: mail belongs to the identity, and what comes back from a life goes in front, in order.

    Checked: what was given back is taken up before all other mail of that mailbox, in the order in
    which it was given back (of a pool before all other, with a key for its member); and what waits
    becomes a dead letter only if its receiver ends for good (of a pool with a key, that member),
    if a mailbox with ``overflow="drop_oldest"`` is full, or if it cannot be handled at all.
    """
    settled: dict[str, list[Entry]] = {}
    for entry, courses in follow(trace):
        course = courses.of(entry)
        match entry.kind:
            case "taken" | "handed-over" if course is not None:
                yield from _judge_front(course, entry, courses)
            case "dead-letter" if course is not None and course.state == "waiting":
                if not _is_hopeless(course, entry, courses):
                    settled.setdefault(entry.path, []).append(entry)
            case "ended":
                settled.pop(entry.path, None)
                settled.pop(entry.path.rpartition("/")[0], None)  # its pool's, with a key
            case "starting" if entry.path in settled:
                yield _not_ended(entry.path, (*settled.pop(entry.path), entry))
            case "closed":
                for path, entries in settled.items():
                    yield _not_ended(path, (*entries, entry))
                settled.clear()
            case _:
                pass


def _judge_front(course: Course, entry: Entry, courses: Courses) -> Iterator[Violation]:
    front = courses.front.get(course.where)
    if not front:
        return
    is_pool = courses.fact(course.where, "kind", "") == "pool"
    if is_pool:
        front = [one for one in front if one.lane == course.lane]
    if not front or front[0] is course or (is_pool and course in front):
        return
    expected = f"what was given back to {course.where} is taken up first, in order"
    found = f"message {course.number} before message {front[0].number}"
    entries = (front[0].last, course.accepted, entry)
    yield Violation("M4", expected, found, tuple(one for one in entries if one is not None))


def _is_hopeless(course: Course, entry: Entry, courses: Courses) -> bool:
    """Whether a message could not be handled, whatever became of its receiver."""
    why = str(entry.detail.get("why", ""))
    if courses.fact(entry.path, "overflow", "") == "drop_oldest" and "full" in why:
        return True
    if courses.fact(entry.path, "remote", False) and why == BROKEN:
        return True
    return course.last is course.accepted and entry.number == course.accepted.number + 1


def _not_ended(path: str, entries: tuple[Entry, ...]) -> Violation:
    expected = (
        f"what waits in the mailbox of {path} is kept, as long as that has not ended for good"
    )
    return Violation("M4", expected, f"dead letters: {len(entries) - 1}", entries)


def rule_m5(trace: Trace) -> Iterator[Violation]:
    """M5: the one message in hand at the end of a life is handled again as often as declared.

    Checked: when an incarnation has exited, it has nothing in hand any more; the message that it
    had was given back not more than ``redeliver`` times, and never by a thread that was left
    behind; and it is a dead letter only if that was so often, or if it was cut off by a stop for
    good that the incarnation was told of.
    """
    final: set[tuple[str, int]] = set()
    for entry, courses in follow(trace):
        course = courses.of(entry)
        detail: Mapping[str, Any] = entry.detail
        life = entry.path, entry.incarnation
        match entry.kind:
            case "told" if detail.get("final"):
                final.add(life)
            case "declared":
                final = {one for one in final if one[0] != entry.path}
            case "exited":
                for left in courses.in_hand.get(entry.path, {}).values():
                    if left.taken is not None and left.taken.incarnation == entry.incarnation:
                        expected = f"{entry.path}: what is in hand at the end is accounted for"
                        found = f"message {left.number} is in hand still"
                        yield Violation("M5", expected, found, (left.taken, entry))
            case "given-back" if detail.get("entered") and course is not None:
                yield from _judge_again(course, entry, courses)
            case "dead-letter" if "final" in detail and course is not None:
                yield from _judge_blamed(course, entry, courses, life in final)
            case _:
                pass


def _handler_of(course: Course, entry: Entry) -> str:
    """Whose handler it was: of what a member gave back, that member's."""
    return entry.path if course.taken is None else course.taken.path


def _judge_again(course: Course, entry: Entry, courses: Courses) -> Iterator[Violation]:
    most = courses.fact(_handler_of(course, entry), "redeliver", 0)
    kind = _reason(entry).get("kind")
    if course.entered >= most:
        expected = f"{entry.path}: a message is handled again at most {most} times"
        found = f"once more after {course.entered} times"
        yield Violation("M5", expected, found, (course.accepted, entry))
    elif kind == "Abandoned":
        expected = f"{entry.path}: what a thread that was left behind has in hand is not given back"
        yield Violation("M5", expected, "it is", (course.accepted, entry))


def _judge_blamed(
    course: Course, entry: Entry, courses: Courses, told_final: bool
) -> Iterator[Violation]:
    most = courses.fact(_handler_of(course, entry), "redeliver", 0)
    kind = _reason(entry).get("kind")
    if entry.detail["final"] and kind != "Crashed":
        if not told_final:
            expected = f"{entry.path}: a message is cut off by a stop for good that was told"
            yield Violation("M5", expected, "nobody told so", (course.accepted, entry))
    elif course.entered < most and kind != "Abandoned":
        expected = f"{entry.path}: a message is handled again {most} times"
        found = f"a dead letter after {course.entered} times"
        yield Violation("M5", expected, found, (course.accepted, entry))


def rule_m6(trace: Trace) -> Iterator[Violation]:
    """M6: who ends for good leaves nothing in its mailbox.

    Checked: when ``ended`` is told of an actor, nothing waits in its mailbox or is in hand.
    """
    for entry, courses in follow(trace):
        if entry.kind == "ended":
            for kind, found in (("waits", courses.waiting), ("is in hand", courses.in_hand)):
                for course in found.get(entry.path, {}).values():
                    expected = f"{entry.path} has ended for good: nothing is left in its mailbox"
                    entries = (course.accepted, entry)
                    yield Violation("M6", expected, f"message {course.number} {kind}", entries)


def rule_m7(trace: Trace) -> Iterator[Violation]:
    """M7: no message disappears without a trace, and none is counted twice.

    Checked: each message is accepted once, taken up only while it waits, and ends once; when the
    host has closed, what it has counted is what the trace has, of each kind, and its sum is right,
    in all and for each mailbox: accepted = handled + rejected + withdrawn + dead letters + waiting
    + in hand.
    """
    hosts: dict[str, Counter[str]] = {}
    for entry, courses in follow(trace):
        if entry.kind in _COUNTED:
            host = entry.path.partition("/")[0]
            hosts.setdefault(host, Counter())[_COUNTED[entry.kind]] += 1
        if entry.kind in _STEPS or entry.kind == "accepted":
            yield from _judge_step(entry, courses)
        elif entry.kind == "closed":
            yield from _judge_account(entry, hosts.get(entry.path, Counter()))


def _judge_step(entry: Entry, courses: Courses) -> Iterator[Violation]:
    course = courses.of(entry)
    number = entry.detail.get("message")
    if entry.kind == "accepted":
        if course is not None:
            expected = f"message {number} is accepted once"
            yield Violation("M7", expected, "it is accepted again", (course.accepted, entry))
    elif course is None:
        expected = f"message {number} is accepted before anything becomes of it"
        yield Violation("M7", expected, f"it is {entry.kind}", (entry,))
    elif course.state not in _STEPS[entry.kind]:
        what = "ends once" if entry.kind in ENDS else "is taken up once, unless it is given back"
        assert course.last is not None
        entries = (course.accepted, course.last, entry)
        found = f"it is {entry.kind}, and was {course.last.kind}"
        yield Violation("M7", f"message {number} {what}", found, entries)


def _judge_account(closed: Entry, counted: Counter[str]) -> Iterator[Violation]:
    detail: Any = closed.detail
    whole: Mapping[str, int] = detail["account"]
    for name in _COUNTED.values():
        if counted[name] != whole.get(name):
            expected = f"the host has counted {counted[name]} {name}, as many as there were"
            yield Violation("M7", expected, f"{whole.get(name)}", (closed,))
    for path, mail in {"all mail": whole, **detail["mailboxes"]}.items():
        parts = ("handled", "rejected", "withdrawn", "dead_letters", "waiting", "in_hand")
        if mail["accepted"] != sum(mail[part] for part in parts):
            expected = (
                "accepted = handled + rejected + withdrawn + dead letters + waiting + in hand"
            )
            yield Violation("M7", expected, f"{path}: {dict(mail)}", (closed,))


def rule_m8(trace: Trace) -> Iterator[Violation]:
    """M8: only an ask can be taken back, and only while it waits.

    Checked: what is withdrawn waits (also between two tries), and is an ask, or a timer's message
    that a later life finds. (Of a process the host may learn that it takes a message up before it
    learns that it leaves that out.)
    """
    for entry, courses in follow(trace):
        course = courses.of(entry)
        if entry.kind != "withdrawn" or course is None:
            continue
        detail: Mapping[str, Any] = course.accepted.detail
        if course.state == "in hand" and not courses.fact(entry.path, "remote", False):
            expected = f"message {course.number} is withdrawn only while it waits"
            yield Violation("M8", expected, "it is in hand", (course.accepted, entry))
        elif not (detail.get("ask") or detail.get("exempt") == "timer"):
            expected = "only what somebody waits for can be taken back"
            found = f"message {course.number} is a tell"
            yield Violation("M8", expected, found, (course.accepted, entry))


def _number(entry: Entry) -> int:
    number: Any = entry.detail["message"]
    return int(number)


def _reason(entry: Entry) -> Mapping[str, Any]:
    reason: Any = entry.detail.get("reason")
    return reason or {}
