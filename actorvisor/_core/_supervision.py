"""The sans-IO supervision object: every decision of a supervisor, and nothing else (S9).

`Supervision.decide` takes an event, the time and a random draw, changes the records of the
children concerned, and returns the commands that carry the decision out. It never waits and
never looks at a clock; a supervisor's shell feeds it and does as it says, in order.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, ClassVar, assert_never

from .._errors import RestartLimitExceeded
from . import _commands as c
from ._child import Child, Intent
from ._intensity import RestartWindow
from ._lifecycle import REFUSALS, Event as On, State, step
from ._messages import Completed, Crashed, ExitReason, GaveUp, Stopped, is_failure
from ._plan import Ending, Plan, Stage
from ._roster import Roster

if TYPE_CHECKING:
    from ._spec import ChildSpec, SupervisorSpec, Verdict

SUPERVISOR_STOPPING = "supervisor stopping"
NO_SUCH_CHILD = "no such child"


class Phase(enum.Enum):
    """Where a supervisor is in its own life."""

    IDLE = "idle"
    STARTING = "starting"
    UP = "up"
    ENDING = "ending"
    DOWN = "down"


class Supervision:
    """What a supervisor knows and decides. It outlives the supervisor's own incarnations.

    Attributes:
        spec: how it supervises.
        path: the supervisor's path, for errors.
        declaration: the children it was declared with.
        phase: where the supervisor is.
        stale: events that came too late, and were dropped.
    """

    def __init__(
        self, spec: SupervisorSpec, path: str, declaration: Iterable[ChildSpec] = ()
    ) -> None:
        self.spec = spec
        self.path = path
        self.declaration: tuple[ChildSpec, ...] = tuple(declaration)
        self.phase: Phase = Phase.IDLE
        self.stale: int = 0
        self._roster = Roster()
        self._plan = Plan()
        self._window = RestartWindow(spec.max_restarts, spec.within)
        self._refusing = False
        self._now = 0.0
        self._draw = 0.0

    @property
    def children(self) -> Mapping[str, Child]:
        """The records, oldest first. Look, do not change."""
        return self._roster.children

    @property
    def active(self) -> int:
        """How many children are not in a final state."""
        return self._roster.active

    @property
    def ending(self) -> ExitReason | None:
        """Why it ends or has ended, as soon as that is decided; None in a life that goes on."""
        ending = self._plan.ending
        return None if ending is None else ending.reason

    @property
    def ahead(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Who starts now, and who is to stop, before a child that is down gets its turn (M10)."""
        plan = self._plan
        stops = [*plan.told, *(name for batch in reversed(plan.stops) for name in batch)]
        # Plans are names only: who was taken out meanwhile is waited for by nobody.
        return tuple(plan.starting), tuple(name for name in stops if name in self.children)

    def copy(self) -> Supervision:
        """A supervision of the same state that is changed by itself."""
        other = object.__new__(Supervision)
        vars(other).update(vars(self))
        other._roster = self._roster.copy()
        other._plan = self._plan.copy()
        other._window = self._window.copy()
        return other

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Supervision):
            return NotImplemented
        passing = {"_now", "_draw"}
        mine, theirs = vars(self), vars(other)
        return all(mine[name] == theirs[name] for name in mine if name not in passing)

    __hash__: ClassVar[None] = None  # type: ignore[assignment]

    # --- the one entry --------------------------------------------------------------------

    def decide(self, event: c.Event, now: float, draw: float = 0.5) -> list[c.Command]:
        """Take one event, and say what is to be done.

        Args:
            event: what happened.
            now: the time, in seconds; it must not go back.
            draw: a random number from 0 up to, not including, 1, for jitter.

        Returns:
            What to do, in order. O(children affected).
        """
        self._now, self._draw = now, draw
        self._roster.out = []
        match event:
            case c.ChildUp() | c.ChildEnding() | c.ChildExit() | c.Due():
                self._hear(event)
            case c.StartNew() | c.Start() | c.Restart():
                self._wanted_up(event)
            case c.Stop() | c.Remove() | c.AwaitEnd() | c.CancelStart():
                self._wanted_down(event)
            case c.ExecutorLost(names, reason):
                self._executor_lost(frozenset(names), reason)
            case c.Begin():
                self._begin_all()
            case c.ShutDown(final, grace):
                self._shut_down_asked(final, grace)
            case c.RefuseStarts():
                self._refusing = True
            case c.Drop():
                self._drop()
            case _:  # pragma: no cover
                assert_never(event)
        if self.spec.pool and not self._roster.active:
            self._end_if_empty(event)
        self._advance()
        # Not kept: a command names who is answered, and that may be all that keeps its data alive.
        commands, self._roster.out = self._roster.out, []
        return commands

    # --- what incarnations report ---------------------------------------------------------

    def _hear(self, event: c.ChildUp | c.ChildEnding | c.ChildExit | c.Due) -> None:
        child = self.children.get(event.name)
        if child is None or child.incarnation != event.incarnation:
            self.stale += 1
            return
        match event:
            case c.ChildUp():
                self._up(child)
            case c.ChildEnding(reason=reason):
                self._report(child, On.ENDING, reason)
            case c.ChildExit(reason=reason, verdict=verdict):
                if self._record_exit(child, reason):
                    self._after_exit(child, reason, verdict)
            case c.Due():
                self._due(child)
            case _:  # pragma: no cover
                assert_never(event)

    def _report(self, child: Child, event: On, reason: ExitReason | None = None) -> bool:
        """Take a report to the table; one without a row is a bug of ours (L1)."""
        if self._roster.move(child, event, reason):
            return True
        if child.final and self._plan.is_waited_for(child):
            self._plan.end_group(self._roster)
        return False

    def _up(self, child: Child) -> None:
        if self._report(child, On.UP) and child.state is State.RUNNING:
            child.up_at = self._now
            self._roster.missing.discard(child.name)
            self._roster.answer_starters(child, None)
            self._plan.came_up(child.name)

    def _due(self, child: Child) -> None:
        # A timer crosses with whatever took the child out of its backoff: no bug, just late.
        if not child.timing:
            self.stale += 1
            return
        child.timing = False
        if self._plan.group is None:
            self._begin(child, On.DUE)
        else:
            self._plan.group.stage = Stage.STARTING

    def _record_exit(self, child: Child, reason: ExitReason) -> bool:
        """Note that an incarnation is gone; whether there is something left to decide."""
        if not self._report(child, On.EXIT, reason):
            return False
        child.reason = reason
        self._plan.gone(child.name)
        if child.up_at is not None and self._now - child.up_at >= child.spec.steady_after:
            child.attempt = 0
        if child.condemned:
            self._end(child, On.FAIL, reason)
        return not child.condemned

    def _after_exit(self, child: Child, reason: ExitReason, verdict: Verdict | None) -> None:
        interrupted = verdict == "escalate" and _is_interrupt(reason)
        ending = self._plan.ending
        if interrupted and ending is not None:
            ending.reason, ending.cause = reason, child.name
        if child.intent is Intent.STOP:
            self._roster.end(child, On.STOP, reason, _why_not_started(child))
            if interrupted and ending is None:
                self._shut_down(reason, cause=child)
        elif ending is not None:
            self._leave_to_supervisor(child, On.STOP, _why_not_started(child))
        elif interrupted:
            self._shut_down(reason, cause=child)
        elif child.held:
            self._after_hold(child, reason)
        elif child.intent is Intent.RESTART:
            self._queue(child, On.RESTART)
        else:
            self._after_own_end(child, reason, verdict)

    def _after_hold(self, child: Child, reason: ExitReason) -> None:
        """A group takes it down: no decision, and it waits for its turn to start (S2)."""
        completed = isinstance(reason, Completed) and not child.spec.wants_restart(reason)
        if child.starters or not (completed or child.passing):
            child.pending = True
            return
        by_itself = child.intent is Intent.NONE
        self._over(child, reason)
        if by_itself:
            self._shut_down_if_significant(child)

    def _after_own_end(self, child: Child, reason: ExitReason, verdict: Verdict | None) -> None:
        """It ended by itself: the one place where a restart is decided (S1, S11)."""
        if child.up_at is None and isinstance(reason, Completed):  # it declined (L7)
            self._roster.end(child, On.OVER, reason, None)
        elif self._roster.is_asked_start(child):
            self._fail_start(child, reason)
        elif verdict == "escalate":
            self._shut_down(reason, cause=child)
        elif verdict == "restart" or (verdict is None and child.spec.wants_restart(reason)):
            self._restart_by_itself(child, reason)
        else:
            self._over(child, reason)
            self._shut_down_if_significant(child)

    def _over(self, child: Child, reason: ExitReason) -> None:
        """No restart, by decision; nobody waits for a start of it."""
        self._roster.end(child, On.FAIL if is_failure(reason) else On.OVER, reason, reason)

    def _fail_start(self, child: Child, reason: ExitReason) -> None:
        """A start that was asked for is not retried; the supervisor's own one ends it (L3, S5)."""
        if child.name in self._roster.missing:
            self._shut_down(reason, cause=child)
        else:
            self._end(child, On.FAIL, reason)

    def _end(self, child: Child, event: On, reason: ExitReason) -> None:
        """It is over for good, and with it a group restart that waits for it (S2)."""
        waited_for = self._plan.is_waited_for(child)
        self._roster.end(child, event, reason, reason)
        if waited_for:
            self._plan.end_group(self._roster)

    # --- restarts -------------------------------------------------------------------------

    def _restart_by_itself(self, child: Child, reason: ExitReason) -> None:
        if self._note(child, reason):
            self._restart_these([child])

    def _restart_these(self, children: list[Child]) -> None:
        """One decision: the strategy says who is concerned by the first of them (S2)."""
        if self.spec.ordered:
            self._plan.begin_group(self._roster, self.spec.strategy, children[0])
            return
        for child in children:
            if self._roster.back_off(child, self._draw) <= 0:
                self._begin(child, On.DUE)

    def _note(self, child: Child, reason: ExitReason) -> bool:
        """Note a restart decision; whether the limit allows it (S3)."""
        window = self._window if child.window is None else child.window
        if not window.note(child.name, self._now):
            return True
        if self.spec.on_limit == "drop":
            self._over(child, GaveUp(reason))
            self._shut_down_if_significant(child)
            return False
        path = self.path if child.window is None else f"{self.path}/{child.name}"
        limit = Crashed(RestartLimitExceeded(path, reason))
        self._shut_down(limit, cause=child)
        return False

    def _executor_lost(self, names: frozenset[str], reason: ExitReason) -> None:
        """All that an executor carried is gone; that is one decision of the oldest (E1)."""
        carried = [child for name, child in self.children.items() if name in names and child.live]
        gone = [child for child in carried if self._record_exit(child, reason)]
        to_restart: list[Child] = []
        for child in gone:
            if self._is_restarted(child, reason):
                to_restart.append(child)
            elif child.state is State.EXITED:
                self._after_exit(child, reason, None)
        for index, child in enumerate(to_restart):
            if self.phase is Phase.ENDING:
                return
            if self._note(child, reason):
                self._restart_these(to_restart[index:])
                return

    def _is_restarted(self, child: Child, reason: ExitReason) -> bool:
        """Whether its executor's end leads to a decision to restart it."""
        undecided = child.intent is Intent.NONE and not child.held
        if self.phase is Phase.ENDING or not undecided or self._roster.is_asked_start(child):
            return False
        return child.spec.wants_restart(reason)

    # --- starts that somebody asked for ---------------------------------------------------

    def _wanted_up(self, event: c.StartNew | c.Start | c.Restart) -> None:
        child = self.children.get(event.spec.name if isinstance(event, c.StartNew) else event.name)
        why = self._why_not_up(event, child)
        if why is not None:
            self._roster.out.append(c.Refused(event.token, why))
            return
        if isinstance(event, c.StartNew):
            child = self._adopt(event.spec, declared=False)
        assert child is not None
        # An explicit start is not counted, and starts the counting over (S3).
        child.attempt = 0
        (self._window if child.window is None else child.window).clear(child.name)
        rolling = child.spec.rolling and child.state is State.RUNNING and not child.held
        if rolling and isinstance(event, c.Restart):
            # It stays up, whatever becomes of its members: nobody waits for a start of it (W1).
            self._roster.out.append(c.Roll(child.name, event.token))
            return
        child.starters = (*child.starters, event.token)
        if isinstance(event, c.Restart):
            self._restart(child)
        else:
            self._queue(child, On.BEGIN if isinstance(event, c.StartNew) else On.START)

    def _why_not_up(
        self, event: c.StartNew | c.Start | c.Restart, child: Child | None
    ) -> str | None:
        """Why such a call is refused, in words, or None (S7)."""
        if self._refusing or self.phase not in {Phase.STARTING, Phase.UP}:
            return SUPERVISOR_STOPPING
        if isinstance(event, c.StartNew):
            if child is None:
                return None
            return REFUSALS.get(child.state, "already declared; start it by its ref")
        if child is None:
            return NO_SUCH_CHILD
        if isinstance(event, c.Start):
            return REFUSALS.get(child.state, "already starting" if child.pending else None)
        stopping = child.live and child.intent is Intent.STOP
        if stopping or step(child.state, On.RESTART).refused:
            return REFUSALS[child.state]
        return None

    def _restart(self, child: Child) -> None:
        if child.held:
            # The group tells it when its turn has come; if the group ends, this is left to do.
            child.intent = max(child.intent, Intent.RESTART)
            self._plan.hurry(self._roster)
        elif child.live:
            if child.intent is not Intent.RESTART:
                self._roster.tell(child, Intent.RESTART, None)
        elif not child.pending:
            self._roster.cancel_timer(child)
            self._queue(child, On.RESTART)

    def _queue(self, child: Child, event: On) -> None:
        """Begin at once under one_for_one, else when the line comes to it (S7)."""
        if not self.spec.ordered:
            self._begin(child, event)
            return
        child.pending = True
        if child.name in self._roster.missing:
            self._plan.line.appendleft(child.name)
        else:
            self._plan.line.append(child.name)

    def _begin(self, child: Child, event: On) -> None:
        if self.spec.ordered or child.name in self._roster.missing:
            self._plan.starting[child.name] = None
        self._roster.begin(child, event)

    # --- ends that somebody asked for -----------------------------------------------------

    def _wanted_down(self, event: c.Stop | c.Remove | c.AwaitEnd | c.CancelStart) -> None:
        child = self.children.get(event.name)
        if isinstance(event, c.CancelStart):
            # It crosses with the answer to that start: then there is nothing to cancel.
            if child is not None and event.token in child.starters:
                self._stop(child, None)
            return
        if child is None:
            self._roster.out.append(c.Refused(event.token, NO_SUCH_CHILD))
            return
        child.stoppers = (*child.stoppers, event.token)
        if not isinstance(event, c.AwaitEnd):
            child.removing |= isinstance(event, c.Remove)
            self._stop(child, event.grace)
        elif child.final and not child.pending:
            self._roster.answer_stoppers(child)

    def _stop(self, child: Child, grace: float | None) -> None:
        if child.live:
            child.pending = child.held = False
            self._roster.tell(child, Intent.STOP, grace)
            if self._plan.is_waited_for(child):
                self._plan.end_group(self._roster)
        elif child.final:
            self._roster.call_off(child)
        else:
            self._end(child, On.STOP, Stopped())

    # --- the supervisor's own life --------------------------------------------------------

    def _begin_all(self) -> None:
        """Start the whole declaration, whatever had become of each child (S8)."""
        self.phase = Phase.STARTING
        self._refusing = False
        self._plan.ending = None
        self._window.reset()
        known = self._roster.children
        self._roster.children = {}
        for spec in self.declaration:
            child = known.get(spec.name)
            if child is None:
                child = self._adopt(spec, declared=True)
            self._roster.children[spec.name] = child
            self._roster.missing.add(spec.name)
            self._plan.line.append(spec.name)
            child.pending = True
            child.attempt = 0
            if child.window is not None:
                child.window.reset()

    def _adopt(self, spec: ChildSpec, *, declared: bool) -> Child:
        window = None
        if self.spec.has_window_each:
            window = RestartWindow(self.spec.max_restarts, self.spec.within)
        return self._roster.adopt(spec, declared=declared, window=window)

    def _shut_down_asked(self, final: bool, grace: float | None) -> None:
        ending = self._plan.ending
        if ending is None:
            self._shut_down(Stopped(), final=final, grace=grace)
            return
        ending.final |= final
        ending.grace = ending.grace if grace is None else grace
        self._plan.tell_again(self._roster, hurry=grace is not None)
        if final:
            self._drop()

    def _end_if_empty(self, event: c.Event) -> None:
        """No member is left that is, or will be, up: the pool ends as the last one did (W1)."""
        if self._roster.missing or self.phase not in {Phase.STARTING, Phase.UP}:
            return
        if isinstance(event, c.ChildExit | c.ExecutorLost):
            self._shut_down(event.reason)
        else:
            self._shut_down(Stopped())

    def _shut_down_if_significant(self, child: Child) -> None:
        """OTP's auto_shutdown, after a significant child ended by itself (S6)."""
        last = self.spec.auto_shutdown == "any" or not self._roster.significant
        if child.spec.significant and last:
            self._shut_down(Completed(), cause=child)

    def _shut_down(
        self,
        reason: ExitReason,
        *,
        final: bool = False,
        grace: float | None = None,
        cause: Child | None = None,
    ) -> None:
        """Stop all children, newest first, and end (S3, S5)."""
        self.phase = Phase.ENDING
        cause_name = None if cause is None else cause.name
        self._plan.ending = Ending(reason, cause_name, final or self.spec.root, grace)
        together: list[str] = []
        alone: list[list[str]] = []
        for child in reversed(list(self.children.values())):
            why = _why_not_started(child)
            child.pending = child.held = False
            if child.live and not self.spec.pool and (child.declared or self.spec.ordered):
                alone.append([child.name])
            elif child.live:
                together.append(child.name)
            elif child.final:
                self._roster.call_off(child)
            else:
                self._leave_to_supervisor(child, On.FAIL if child is cause else On.STOP, why)
        self._plan.stop_all([together, *alone])
        self._roster.missing.clear()
        self._plan.tell_again(self._roster, hurry=grace is not None)

    def _leave_to_supervisor(self, child: Child, event: On, why: ExitReason) -> None:
        """It is down while the supervisor ends: over, or left to the decision on that (M6)."""
        if self._plan.is_final_for(child):
            self._roster.end(child, event, child.reason or Stopped(), why)
        else:
            self._roster.cancel_timer(child)
            self._roster.move(child, On.HOLD)
            self._roster.answer_starters(child, why)

    def _drop(self) -> None:
        """It is for good: what waited for a decision is over."""
        for child in list(self.children.values()):
            if not child.live and not child.final:
                self._roster.end(child, On.DROP, child.reason or Stopped(), Stopped())

    # --- one thing after the other --------------------------------------------------------

    def _advance(self) -> None:
        """Go on with what is under way: first stops, then the group's backoff, then starts."""
        if self.phase is Phase.STARTING and not self._roster.missing:
            self.phase = Phase.UP
            self._roster.out.append(c.Up())
        self._plan.stop_next(self._roster)
        if self._plan.told:
            return
        if self.phase is Phase.ENDING:
            assert self._plan.ending is not None
            self.phase = Phase.DOWN
            self._roster.out.append(c.Finished(self._plan.ending.reason, self._plan.ending.cause))
        elif self._plan.may_start(self._roster, self._draw):
            self._plan.start_next(self._roster, together=self.spec.start == "together")


def _is_interrupt(reason: ExitReason) -> bool:
    """Whether it is a Ctrl-C: whatever was under way, that reaches the host (M9)."""
    return isinstance(reason, Crashed) and isinstance(reason.exception, KeyboardInterrupt)


def _why_not_started(child: Child) -> ExitReason:
    """What came in the way of a start of a child that is down, for whoever asked for it (L3)."""
    tried = child.up_at is None and not child.pending
    return child.reason if tried and child.reason is not None else Stopped()
