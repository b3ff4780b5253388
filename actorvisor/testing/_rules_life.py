"""The rules of lives, notifications and the host, as functions over a trace (L1, L8, O4, H1)."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from .._core._lifecycle import TABLE, Notice, State
from ._violations import Violation

if TYPE_CHECKING:
    from ._trace import Entry, Trace

_NOTICES: Final[Mapping[str, Notice]] = {
    "starting": Notice.STARTING,
    "started": Notice.STARTED,
    "stopping": Notice.STOPPING,
    "exited": Notice.EXITED,
    "restarting": Notice.RESTARTING,
    "ended": Notice.ENDED,
}

Life: TypeAlias = "tuple[str, int]"
"""An actor, and which of its lives."""


@functools.cache
def _notified(states: frozenset[State], notice: Notice) -> frozenset[State]:
    """Where an actor may be once that was told of it; nothing silent changes its state."""
    return frozenset(
        step.state
        for (state, _), step in TABLE.items()
        if state in states and step.notice is notice
    )


def rule_o4(trace: Trace) -> Iterator[Violation]:
    """O4: what is told of an actor is a path through the table of lives, in order (O1).

    Checked: of each identity, each notification is one that the table has in a state that it can
    be in after those before; and the sequence numbers of a host's notifications increase.
    """
    waiting = frozenset({State.WAITING})
    states: dict[str, frozenset[State]] = {}
    last: dict[str, Entry] = {}
    sequence: dict[str, int] = {}
    for entry in trace:
        if entry.kind == "declared":
            states.pop(entry.path, None)
            last.pop(entry.path, None)
        notice = _NOTICES.get(entry.kind)
        if notice is None:
            continue
        before = states.get(entry.path, waiting)
        after = _notified(before, notice)
        if not after:
            what = "+".join(sorted(state.value for state in before))
            expected = f"{entry.path}: what the table of lives has in state {what}"
            entries = (last[entry.path], entry) if entry.path in last else (entry,)
            yield Violation("O4", expected, entry.kind, entries)
            # From here on, as if it were where that is told.
            after = _notified(frozenset(State), notice)
        states[entry.path], last[entry.path] = after, entry
        host, number = entry.path.partition("/")[0], _sequence(entry)
        if number <= sequence.get(host, 0):
            expected = f"notification {sequence[host] + 1} or a later one"
            yield Violation("O4", expected, f"number {number}", (entry,))
        sequence[host] = number


def _sequence(entry: Entry) -> int:
    sequence: Any = entry.detail.get("sequence", 0)
    return int(sequence)


def rule_l1(trace: Trace) -> Iterator[Violation]:
    """L1: every notification is of the life that there is, and nothing happens without a row.

    Checked: ``starting`` tells of the next incarnation, everything else of the present one; and
    the runtime has found no pair of state and event that its table lacks.
    """
    lives: dict[str, int] = {}
    for entry in trace:
        if entry.kind == "declared":
            lives.pop(entry.path, None)
        elif entry.kind == "bug":
            expected = f"{entry.path}: a row of the table for whatever happens"
            found = f"{entry.detail.get('event')} came in {entry.detail.get('state')}"
            yield Violation("L1", expected, found, (entry,))
        elif entry.kind in _NOTICES:
            present = lives.get(entry.path, 0)
            if entry.kind == "starting":
                lives[entry.path] = entry.incarnation
                present += 1
            if entry.incarnation != present:
                expected = f"{entry.path}: {entry.kind} of incarnation {present}"
                yield Violation("L1", expected, f"incarnation {entry.incarnation}", (entry,))


@dataclass
class _Lives:
    """Which lives there are.

    Attributes:
        begun: those that have begun and not exited, by actor.
        exited: when each exited, of those that have.
    """

    begun: dict[str, Entry] = field(default_factory=dict)
    exited: dict[Life, Entry] = field(default_factory=dict)

    def take(self, entry: Entry) -> None:
        """Change the facts as an entry says."""
        match entry.kind:
            case "starting":
                self.begun[entry.path] = entry
            case "exited":
                self.begun.pop(entry.path, None)
                self.exited[entry.path, entry.incarnation] = entry
            case "declared":
                # Another identity of that name.
                for life in [one for one in self.exited if one[0] == entry.path]:
                    del self.exited[life]
            case _:
                pass


def rule_l8(trace: Trace) -> Iterator[Violation]:
    """L8: the next life begins when nothing is left of the last one.

    Checked: no life begins before the one before it has exited; after its exit it takes up no
    message, ends none, and sends none (but what a thread that was left behind waited to send);
    and the message of a timer is taken up by no other life than the one that had set it.
    """
    lives = _Lives()
    timers: dict[object, int] = {}
    for entry in trace:
        detail: Mapping[str, Any] = entry.detail
        gone = lives.exited.get((entry.path, entry.incarnation))
        match entry.kind:
            case "starting" if entry.path in lives.begun:
                expected = f"{entry.path}: a life begins when the one before has exited"
                before = lives.begun[entry.path]
                yield Violation("L8", expected, "two at a time", (before, entry))
            case "taken" | "handled" | "rejected" if gone is not None:
                expected = f"{entry.path}: incarnation {entry.incarnation} has exited"
                yield Violation("L8", expected, f"a message is {entry.kind}", (gone, entry))
            case "accepted":
                yield from _judge_sender(entry, detail, lives)
                if "timer" in detail:
                    timers[detail["message"]] = detail["timer"]
            case _:
                pass
        setter = timers.get(detail.get("message"), entry.incarnation)
        if entry.kind == "taken" and setter != entry.incarnation:
            expected = f"{entry.path}: a timer of incarnation {setter} is for nobody else"
            yield Violation("L8", expected, "its message is taken up", (entry,))
        lives.take(entry)


def _judge_sender(entry: Entry, detail: Mapping[str, Any], lives: _Lives) -> Iterator[Violation]:
    if "timer" in detail:
        sender = entry.path, detail["timer"]
    elif "life" in detail and not detail.get("waited"):
        sender = detail["sender"], detail["life"]
    else:
        return
    gone = lives.exited.get(sender)
    if gone is None:
        return
    reason: Any = gone.detail.get("reason")
    if (reason or {}).get("kind") != "Abandoned":
        expected = f"nothing is left of incarnation {sender[1]} of {sender[0]}: it has exited"
        yield Violation("L8", expected, "it sends a message", (gone, entry))


def rule_h1(trace: Trace) -> Iterator[Violation]:
    """H1: nothing outlives its host.

    Checked: when a host has closed, every actor that ever lived under it has ended, none runs, and
    no message waits or is in hand; and after that nothing more is told of it.
    """
    last: dict[str, dict[str, Entry]] = {}
    closed: dict[str, Entry] = {}
    for entry in trace:
        host = entry.path.partition("/")[0]
        if host in closed:
            expected = f"{host} has closed: nothing is left of it"
            yield Violation("H1", expected, entry.kind, (closed[host], entry))
        if entry.kind in _NOTICES:
            last.setdefault(host, {})[entry.path] = entry
        elif entry.kind == "closed":
            closed[host] = entry
            for path, told in last.get(host, {}).items():
                if told.kind != "ended":
                    expected = f"{path} has ended when its host has closed"
                    yield Violation("H1", expected, told.kind, (told, entry))
            yield from _judge_rest(entry)


def _judge_rest(closed: Entry) -> Iterator[Violation]:
    detail: Any = closed.detail
    for name, count in (
        ("actors that run", detail["running"]),
        ("messages that wait", detail["account"]["waiting"]),
        ("messages in hand", detail["account"]["in_hand"]),
    ):
        if count:
            yield Violation("H1", f"a host that has closed has no {name}", str(count), (closed,))
