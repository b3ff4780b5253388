"""What a supervisor still has to do: first stops, then the pause of a group, then starts."""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ._child import Intent
from ._lifecycle import Event as On, State
from ._messages import Stopped
from ._strategy import Strategy, concerned

if TYPE_CHECKING:
    from ._child import Child
    from ._messages import ExitReason
    from ._roster import Roster


class Stage(enum.Enum):
    """Where a group restart is: a group is stopped, then backs off, then starts (S2)."""

    STOPPING = "stopping"
    BACKING_OFF = "backing_off"
    STARTING = "starting"


@dataclass(slots=True)
class Group:
    """A restart of several children that is under way.

    Attributes:
        failing: the child whose end was the reason.
        waits_for: the child that it waits for: the failing one, then whichever of it starts;
            None while the line waits for one that is none of the group's.
        stage: how far it is.
        hurry: whether an explicit restart skips the backoff.
    """

    failing: str
    waits_for: str | None
    stage: Stage = Stage.STOPPING
    hurry: bool = False


@dataclass(slots=True)
class Ending:
    """How a supervisor ends.

    Attributes:
        reason: why.
        cause: the child whose end is the reason, or None.
        final: whether it is for good, or for a decision of its own supervisor.
        grace: seconds for each child, or None for what each declares.
    """

    reason: ExitReason
    cause: str | None
    final: bool
    grace: float | None


@dataclass(slots=True)
class Plan:
    """Stops, then a pause, then starts. Names only: the records say whether each still applies.

    Attributes:
        stops: batches still to be told to stop, the next one last.
        told: who was told, and has not exited yet; the next batch waits for them. (A dict is
            a set that keeps its order: nothing may depend on the hashes of names.)
        group: the group restart that is under way, or None.
        line: who waits for a turn to start, in order.
        starting: whose start the line waits for.
        ending: how the supervisor ends or has ended, or None.
    """

    stops: list[list[str]] = field(default_factory=list)
    told: dict[str, None] = field(default_factory=dict)
    group: Group | None = None
    line: deque[str] = field(default_factory=deque)
    starting: dict[str, None] = field(default_factory=dict)
    ending: Ending | None = None

    def came_up(self, name: str) -> None:
        """A start has succeeded: nothing waits for it any more."""
        self.starting.pop(name, None)
        if self.group is not None and self.group.waits_for == name:
            self.group.waits_for = None

    def gone(self, name: str) -> None:
        """An incarnation has exited: nothing waits for it any more."""
        self.told.pop(name, None)
        self.starting.pop(name, None)

    def copy(self) -> Plan:
        """The same plan, changed by itself."""
        return Plan(
            [batch.copy() for batch in self.stops],
            self.told.copy(),
            None if self.group is None else replace(self.group),
            self.line.copy(),
            self.starting.copy(),
            None if self.ending is None else replace(self.ending),
        )

    # --- stops ----------------------------------------------------------------------------

    def stop_all(self, batches: list[list[str]]) -> None:
        """Stop, and start nothing any more (S5).

        Args:
            batches: who stops together; the first one first.
        """
        self.stops = batches[::-1]
        self.line.clear()
        self.group = None

    def stop_next(self, roster: Roster) -> None:
        """Tell the next batch to stop, once the one before is gone."""
        while self.stops and not self.told:
            for name in self.stops.pop():
                child = roster.children.get(name)
                if child is None or not child.live:
                    continue
                # A group does not wait for a child that somebody has stopped meanwhile.
                if self.ending is not None or child.intent is not Intent.STOP:
                    self.told[name] = None
                    self._tell(roster, child)

    def tell_again(self, roster: Roster, *, hurry: bool) -> None:
        """Who was told to stop already learns that it is for good, and of a new grace (M5).

        Args:
            roster: the records.
            hurry: whether there is a new grace.
        """
        for name in self.told:
            child = roster.children[name]
            if hurry or (self.is_final_for(child) and child.intent is not Intent.STOP):
                self._tell(roster, child)

    def _tell(self, roster: Roster, child: Child) -> None:
        grace = None if self.ending is None else self.ending.grace
        # Who was asked to stop already may have a grace of its own.
        if child.intent is not Intent.STOP or grace is not None:
            intent = Intent.STOP if self.is_final_for(child) else Intent.HOLD
            roster.tell(child, intent, grace)

    def is_final_for(self, child: Child) -> bool:
        """Whether the supervisor's end is the child's end for good (M6)."""
        return self.ending is not None and (self.ending.final or not child.kept)

    # --- group restarts -------------------------------------------------------------------

    def begin_group(self, roster: Roster, strategy: Strategy, failing: Child) -> None:
        """Stop what the strategy says, newest first, then start it before all who wait (S2)."""
        stops: list[list[str]] = []
        members: list[str] = []
        for name in concerned(strategy, roster.children, failing.name):
            child = roster.children[name]
            if child.final or child.intent is Intent.STOP or _is_still_to_begin(roster, child):
                continue
            if child.live:
                stops.append([name])
            roster.cancel_timer(child)
            child.held = True
            child.pending = not child.live
            members.append(name)
        chosen = set(members)
        others = [name for name in self.line if name not in chosen]
        self.stops = stops[::-1]
        self.line = deque([*reversed(members), *others])
        self.group = Group(failing.name, failing.name)

    def end_group(self, roster: Roster) -> None:
        """The child that a group waits for is down for good: the others stay down (S2).

        Who was not told to stop yet stays up; who was asked for in the meantime is started, or
        restarted.
        """
        self.group = None
        self.stops.clear()
        for name in list(self.line):
            child = roster.children.get(name)
            if child is None or not child.held:
                continue
            child.held = False
            if not child.live:
                if not child.starters:
                    roster.end(child, On.STOP, Stopped(), Stopped())
            elif name in self.told or child.intent is Intent.RESTART:
                roster.tell(child, Intent.RESTART if child.starters else Intent.STOP, None)

    def is_waited_for(self, child: Child) -> bool:
        """Whether a group restart waits for this child."""
        return self.group is not None and self.group.waits_for == child.name

    def hurry(self, roster: Roster) -> None:
        """Somebody wants what a group restarts: what is left of its backoff is skipped."""
        assert self.group is not None
        self.group.hurry = True
        if self.group.stage is Stage.BACKING_OFF:
            self.group.stage = Stage.STARTING
            roster.cancel_timer(roster.children[self.group.failing])

    # --- turns ----------------------------------------------------------------------------

    def may_start(self, roster: Roster, draw: float) -> bool:
        """Whether starts can go on: a group that was stopped backs off first (S2)."""
        group = self.group
        if group is None:
            return True
        if group.stage is Stage.STOPPING:
            failing = roster.children[group.failing]
            delay = 0.0 if group.hurry else roster.back_off(failing, draw)
            group.stage = Stage.BACKING_OFF if delay > 0 else Stage.STARTING
        return group.stage is Stage.STARTING

    def start_next(self, roster: Roster, *, together: bool) -> None:
        """Begin what comes next in line, if it has not to wait for the one before (S5)."""
        while self.line and (together or not self.starting):
            child = roster.children.get(self.line.popleft())
            if child is None or not child.pending:
                continue
            if child.held and self.group is not None:
                self.group.waits_for = child.name
            self.starting[child.name] = None
            roster.begin(child, On.BEGIN)
        if not self.line and not self.starting:
            self.group = None


def _is_still_to_begin(roster: Roster, child: Child) -> bool:
    """Whether its first turn has not come yet: no group changes its place."""
    missing = child.name in roster.missing and not child.live
    return missing or child.state is State.WAITING
