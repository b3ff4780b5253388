"""The children of a supervisor: every step of a record is taken, and told, here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from . import _commands as c
from ._child import Child, Intent
from ._lifecycle import FINAL, Event as On, IllegalTransition, Notice, State, step
from ._messages import ExitReason, Stopped

if TYPE_CHECKING:
    from ._intensity import RestartWindow
    from ._spec import ChildSpec

TELLING: Final = {Intent.HOLD: On.HOLD, Intent.RESTART: On.RESTART, Intent.STOP: On.STOP}


class Roster:
    """The records of all children, and what is said of them in the present decision.

    Attributes:
        children: the records, oldest first.
        active: how many are not in a final state.
        significant: how many of those are significant.
        missing: the declared children that have not come up since their supervisor began.
        out: the commands of the present decision.
    """

    def __init__(self) -> None:
        self.children: dict[str, Child] = {}
        self.active = 0
        self.significant = 0
        self.missing: set[str] = set()
        self.out: list[c.Command] = []

    def copy(self) -> Roster:
        """A roster of the same state that is changed by itself."""
        other = Roster()
        other.children = {name: child.copy() for name, child in self.children.items()}
        other.active, other.significant = self.active, self.significant
        other.missing = self.missing.copy()
        return other

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Roster):
            return NotImplemented
        return (self.missing, self.active, self.significant) == (
            other.missing,
            other.active,
            other.significant,
        ) and list(self.children.items()) == list(other.children.items())

    __hash__ = None  # type: ignore[assignment]

    def adopt(self, spec: ChildSpec, *, declared: bool, window: RestartWindow | None) -> Child:
        """A child comes into being, without a life yet."""
        child = Child(spec, declared=declared, window=window)
        self.children[spec.name] = child
        self.active += 1
        self.significant += spec.significant
        self.out.append(c.Adopt(spec.name))
        return child

    def is_asked_start(self, child: Child) -> bool:
        """Whether somebody asked for its present start, and it has not come up."""
        return child.up_at is None and (bool(child.starters) or child.name in self.missing)

    # --- lives ----------------------------------------------------------------------------

    def begin(self, child: Child, event: On) -> None:
        """An incarnation begins."""
        child.pending = child.held = False
        child.intent = Intent.NONE
        child.reason = None
        child.up_at = None
        child.incarnation += 1
        self.move(child, event)
        self.out.append(c.StartLife(child.name, child.incarnation))

    def tell(self, child: Child, intent: Intent, grace: float | None) -> None:
        """Tell an incarnation to stop, and remember what is to follow: the strongest wish."""
        child.intent = max(child.intent, intent)
        self.move(child, TELLING[intent])
        final = child.intent is Intent.STOP or (child.held and child.passing)
        self.out.append(c.StopLife(child.name, child.incarnation, final, grace))

    def back_off(self, child: Child, draw: float) -> float:
        """It is to be restarted, after a delay: set its timer, unless that is 0 (S4)."""
        delay = child.spec.backoff.delay(child.attempt, draw)
        child.attempt += 1
        child.restarts += 1
        self.move(child, On.AGAIN, delay=delay, attempt=child.attempt)
        if delay > 0:
            child.timing = True
            self.out.append(c.SetTimer(child.name, child.incarnation, delay))
        return delay

    def cancel_timer(self, child: Child) -> None:
        """Whatever it waits for now, it is not its timer."""
        if child.timing:
            child.timing = False
            self.out.append(c.CancelTimer(child.name))

    # --- ends -----------------------------------------------------------------------------

    def end(self, child: Child, event: On, reason: ExitReason, why: ExitReason | None) -> None:
        """It is over for good: settle its mail, tell observers, answer whoever waits (M6, I4).

        Args:
            child: whose end it is; it has no incarnation.
            event: by which row of the table it ends.
            reason: what its end is called.
            why: what came in the way of a start that was asked for; None: it was granted (L7).
        """
        self.cancel_timer(child)
        child.reason = reason
        self.out.append(c.Settle(child.name, reason))
        self.move(child, event, reason)
        self._close(child, why)

    def call_off(self, child: Child) -> None:
        """It is down and stays so: a start that waits for its turn is called off."""
        self._close(child, Stopped())

    def _close(self, child: Child, why: ExitReason | None) -> None:
        child.pending = child.held = False
        self.missing.discard(child.name)
        if child.removing or not child.kept:
            del self.children[child.name]
            self.out.append(c.Forget(child.name))
        self.answer_starters(child, why)
        self.answer_stoppers(child)

    def answer_starters(self, child: Child, why: ExitReason | None) -> None:
        """Tell whoever asked for its start that it is up, or why it is not."""
        for token in child.starters:
            self.out.append(c.Done(token) if why is None else c.Failed(token, why))
        child.starters = ()

    def answer_stoppers(self, child: Child) -> None:
        """Tell whoever waits for its end how it ended."""
        for token in child.stoppers:
            self.out.append(c.Done(token, child.reason))
        child.stoppers = ()

    # --- the table ------------------------------------------------------------------------

    def move(
        self,
        child: Child,
        event: On,
        reason: ExitReason | None = None,
        delay: float = 0.0,
        attempt: int = 0,
    ) -> bool:
        """Take one step of the lifecycle table; whether it has one."""
        try:
            found = step(child.state, event)
        except IllegalTransition:
            self._bug(child, event)
            return False
        self._enter(child, found.state)
        if found.notice is not None:
            self.out.append(
                c.Announce(child.name, child.incarnation, found.notice, reason, delay, attempt)
            )
        return True

    def _enter(self, child: Child, state: State) -> None:
        change = (child.state in FINAL) - (state in FINAL)
        child.state = state
        self.active += change
        self.significant += change * child.spec.significant

    def _bug(self, child: Child, event: On) -> None:
        """What has no row is a bug of ours: it ends that one child (L1)."""
        self.out.append(c.Bug(child.name, child.state, event))
        if child.live:
            child.condemned = True
            child.pending = child.held = False
            child.intent = Intent.STOP
            self.out.append(c.StopLife(child.name, child.incarnation, True, 0.0))
        elif not child.final:
            self.cancel_timer(child)
            reason = child.reason = child.reason or Stopped()
            self._enter(child, State.FAILED)
            self.out.append(c.Settle(child.name, reason))
            self.out.append(c.Announce(child.name, child.incarnation, Notice.ENDED, reason))
            self._close(child, reason)
