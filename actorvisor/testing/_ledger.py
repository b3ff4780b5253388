"""What one supervisor knows of its children, and what has to follow from each end (S1-S3, S5).

A naive book-keeping, written from the rules and not from the runtime's decisions: it keeps a few
plain facts of each child, and says after each end what has to follow from it. It judges nothing;
the rules do.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from ._trace import Entry

Facts: TypeAlias = "Mapping[str, Any]"

Due: TypeAlias = Literal[
    "restart",  # a restart decision of its own
    "restart too",  # its executor failed, and the decision is that of an older one (E1)
    "waits",  # a group takes it down, and starts it again
    "again",  # somebody asked for a restart
    "over",  # it stays down: by its restart type, or because of what its end was
    "declined",  # it stopped itself in setup (L7)
    "failed start",  # a start that was asked for is not retried (L3)
    "no start",  # the supervisor's own start of it failed (S5)
    "stopped",  # somebody asked for that, or a group stops it for good
    "left down",  # the group that took it down came to nothing (S2)
    "escalate",  # its end is the supervisor's
    "limit",  # there were too many restarts (S3)
    "gave up",  # there were too many of it (S3)
    "held",  # its supervisor ends
]
"""What has to follow an end."""

ENDS_ALL: frozenset[Due] = frozenset({"no start", "escalate", "limit"})
"""What ends the supervisor."""


@dataclass(eq=False)
class Kid:
    """The facts of one child.

    Attributes:
        path: which one.
        facts: what it was declared to be.
        state: as an observer sees it; ``over`` for stopped and failed.
        incarnation: its present or last life.
        alive: whether that has begun and not exited.
        told: whether that was told to stop.
        came_up: whether its setup has finished.
        initial: whether it has not come up since its supervisor began.
        wanted_down: whether somebody asked for its end.
        wanted_again: whether somebody asked for a restart of what was alive.
        asked: whether its present start was asked for.
        starters: who waits for a start.
        removing: whether it is taken out at its end.
        doomed: whether a group restart takes it down.
        was_doomed: whether its present start is a group's.
        restarting: whether the decision on its end was to restart it.
        bug: whether the runtime has found a bug of its own.
        due: what has to follow its last end; None: that has come, or it lives.
        last: the notification that was last.
        exit: that of its last end.
    """

    path: str
    facts: Facts
    state: str = "waiting"
    incarnation: int = 0
    alive: bool = False
    told: bool = False
    came_up: bool = False
    initial: bool = False
    wanted_down: bool = False
    wanted_again: bool = False
    asked: bool = False
    starters: int = 0
    removing: bool = False
    doomed: bool = False
    was_doomed: bool = False
    restarting: bool = False
    bug: bool = False
    due: Due | None = None
    last: Entry | None = None
    exit: Entry | None = None

    @property
    def declared(self) -> bool:
        """Whether it was declared, and not started at run time."""
        return bool(self.facts.get("declared"))

    @property
    def temporary(self) -> bool:
        """Whether it is never restarted."""
        return self.facts.get("restart") == "temporary"

    @property
    def kept(self) -> bool:
        """Whether it stays declared after its end (I5)."""
        return self.declared and not self.temporary

    def wants_restart(self, failure: bool) -> bool:
        """Whether it is restarted after an end of its own (S1)."""
        kind = self.facts.get("restart")
        return kind == "permanent" or (kind == "transient" and failure)


@dataclass(eq=False)
class Ledger:
    """The facts of one supervisor, a pool or the host.

    Attributes:
        path: which one.
        facts: what it was declared to be.
        kids: its children, oldest first.
        phase: ``idle``, ``on``, ``ending`` or ``down``.
        notes: its restart decisions: when, and whose.
        waits: the child that a group restart waits for, or None.
        lost: the children that its executor took down with it, while that is decided upon.
    """

    path: str
    facts: Facts
    kids: dict[str, Kid] = field(default_factory=dict)
    phase: Literal["idle", "on", "ending", "down"] = "idle"
    notes: list[tuple[float, str]] = field(default_factory=list)
    waits: str | None = None
    lost: set[str] = field(default_factory=set)

    @property
    def ordered(self) -> bool:
        """Whether its children start and stop one after the other."""
        return self.facts.get("strategy") in {"one_for_all", "rest_for_one"}

    @property
    def is_pool(self) -> bool:
        """Whether its children are a pool's members."""
        return self.facts.get("kind") == "pool"

    def older(self, kid: Kid) -> Iterator[Kid]:
        """Those before a child, oldest first."""
        for other in self.kids.values():
            if other is kid:
                return
            yield other

    def newer(self, kid: Kid) -> Iterator[Kid]:
        """Those after a child, newest first."""
        for other in reversed(self.kids.values()):
            if other is kid:
                return
            yield other

    def doomed(self) -> Iterator[Kid]:
        """Those that live and that a group restart takes down."""
        return (kid for kid in self.kids.values() if kid.alive and kid.doomed)

    def note(self, kid: Kid, now: float) -> int:
        """Note a restart decision of a child; how many count for it now (S3)."""
        within = float(self.facts.get("within", "inf"))
        self.notes.append((now, kid.path))
        self.notes = [note for note in self.notes if now - note[0] <= within]
        if self.facts.get("windows") == "each":
            return sum(path == kid.path for _, path in self.notes)
        return len(self.notes)

    # --- what happens ---------------------------------------------------------------------

    def begin(self) -> None:
        """A life of the supervisor begins."""
        self.phase = "on"
        self.notes.clear()
        self.waits = None
        self.lost.clear()
        for kid in self.kids.values():
            kid.initial = kid.declared
            kid.doomed = kid.wanted_down = kid.wanted_again = kid.restarting = False
            kid.due = None

    def adopt(self, kid: Kid) -> None:
        """A child comes to be."""
        self.notes = [note for note in self.notes if note[1] != kid.path]
        self.kids.pop(kid.path, None)
        kid.initial = kid.declared
        kid.starters = 0 if kid.declared else 1
        place = kid.facts.get("place")
        last = next(reversed(self.kids.values()), None)
        if place is None or last is None or place_of(last.facts) < place:
            self.kids[kid.path] = kid
            return
        kids = [*self.kids.values(), kid]
        kids.sort(key=lambda one: place_of(one.facts))
        self.kids = {one.path: one for one in kids}

    def end(self) -> None:
        """The supervisor begins to end."""
        self.phase = "ending"
        self.waits = None
        for kid in self.kids.values():
            kid.due = None

    def ask(self, kid: Kid, what: str, rolls: bool) -> None:
        """Somebody asked for something, and was not refused."""
        if what in {"start", "restart"}:
            self.notes = [note for note in self.notes if note[1] != kid.path]
            if not rolls:
                kid.starters += 1
                kid.wanted_again = kid.alive
            return
        kid.removing = kid.removing or what == "remove"
        self.leave_down(kid)
        if kid.alive:
            kid.wanted_down, kid.doomed = True, False
        else:
            kid.initial = False
            kid.due = "stopped"

    def leave_down(self, kid: Kid) -> None:
        """If a group restart waits for a child that stays down, the others stay down, too (S2).

        Those that were not told to stop yet stay up; those that somebody has asked for in the
        meantime are started.
        """
        if kid.path != self.waits or not (kid.doomed or kid.was_doomed):
            return
        if kid.state == "running" or (kid.came_up and not kid.doomed):
            return
        self.waits = None
        for other in self.kids.values():
            if other.doomed and other is not kid:
                other.doomed = False
                if other.alive and other.told and other.starters:
                    other.wanted_again = True
                elif other.alive and other.told:
                    other.wanted_down = True
                elif not other.alive and not other.starters:
                    other.due = "left down"
        kid.doomed = kid.was_doomed = False

    def start(self, kid: Kid) -> None:
        """A life of a child begins."""
        kid.alive = True
        kid.asked = kid.starters > 0
        kid.was_doomed = kid.doomed
        kid.came_up = kid.told = kid.doomed = kid.wanted_down = kid.wanted_again = False
        kid.restarting = False
        kid.due = None
        if kid.was_doomed:
            self.waits = kid.path

    def came_up(self, kid: Kid) -> None:
        """The setup of a child has finished."""
        kid.came_up = True
        kid.initial = False
        kid.starters = 0

    def exit(self, kid: Kid, reason: Facts, verdict: str | None, now: float) -> None:
        """A life of a child is gone: say what has to follow."""
        kid.alive = False
        kid.due = self._what_follows(kid, reason, verdict)
        if kid.due == "restart":
            kid.due = self._decide(kid, now)
        if kid.due == "failed start":
            self.leave_down(kid)

    def lose(self, lost: Iterable[Kid], reason: Facts, now: float) -> None:
        """An executor has failed: that is one decision, of the oldest (E1)."""
        gone = list(lost)
        self.lost = {kid.path for kid in gone}
        for kid in gone:
            kid.alive = False
        ends = decided = False
        follows: list[tuple[Due, Kid]] = [
            (self._what_follows(kid, reason, None), kid) for kid in gone
        ]
        for due, kid in sorted(follows, key=lambda one: one[0] == "restart"):
            kid.due = due
            if ends and due != "stopped":
                kid.due = "held"
            elif due == "restart" and decided:
                kid.due = "waits" if self.ordered else "restart too"
                kid.restarting = True
            elif due == "restart":
                kid.due = self._decide(kid, now)
                decided = kid.due == "restart"
            ends = ends or kid.due in ENDS_ALL

    def over(self, kid: Kid) -> None:
        """A child has ended for good."""
        kid.initial = kid.doomed = kid.restarting = False
        kid.starters = 0
        kid.due = None
        if kid.removing or not kid.kept:
            self.kids.pop(kid.path, None)

    def _what_follows(self, kid: Kid, reason: Facts, verdict: str | None) -> Due:
        """What follows an end, but for the limit."""
        failure = bool(reason.get("failure"))
        completed = reason.get("kind") == "Completed"
        if kid.wanted_down:
            return "stopped"
        if self.phase == "ending":
            return "held"
        if kid.doomed:
            # S2: an end while being stopped is no new decision.
            done = completed and not kid.wants_restart(failure)
            return "stopped" if (kid.temporary or done) and not kid.starters else "waits"
        if kid.wanted_again:
            return "again"
        if not kid.came_up and completed:
            return "declined"
        if not kid.came_up and kid.initial:
            return "no start"
        if not kid.came_up and kid.asked:
            return "failed start"
        if verdict is not None:  # S11
            verdicts: dict[str, Due] = {"restart": "restart", "escalate": "escalate"}
            return verdicts.get(verdict, "over")
        return "restart" if kid.wants_restart(failure) else "over"

    def _decide(self, kid: Kid, now: float) -> Due:
        """Note a restart decision; whether the limit allows it, and who is concerned (S2, S3)."""
        if self.note(kid, now) > self.facts.get("max_restarts", 0):
            return "gave up" if self.facts.get("on_limit") == "drop" else "limit"
        kid.restarting = True
        if self.ordered:
            self.waits = kid.path
            newer = {id(other) for other in self.newer(kid)}
            for other in self.kids.values():
                concerned = (
                    self.facts.get("strategy") == "one_for_all"
                    or other is kid
                    or id(other) in newer
                )
                still_to_begin = other.state == "waiting" or (other.initial and not other.alive)
                down = other.state == "over" or other.wanted_down
                if concerned and not (down or still_to_begin):
                    other.doomed = True
        return "restart"


def place_of(facts: Facts) -> float:
    """Its place among its siblings: those that were started at run time are the newest."""
    place: float = facts.get("place", math.inf)
    return place
