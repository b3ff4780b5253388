"""What goes into `Supervision.decide`, and what comes out of it.

Events are what a supervisor's mailbox brings; commands are what its shell has to carry out, in
order. A ``token`` is whoever waits for an answer: the core only hands it back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar, dataclass_transform

if TYPE_CHECKING:
    from ._lifecycle import Event as LifeEvent, Notice, State
    from ._messages import ExitReason
    from ._spec import ChildSpec, Verdict

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True)
def record(cls: type[_T]) -> type[_T]:
    """A frozen dataclass to type checkers; at run time freezing would triple what one costs."""
    return dataclass(slots=True, unsafe_hash=True)(cls)


# --- events -------------------------------------------------------------------------------


@record
class Begin:
    """The supervisor starts, or starts again: the whole declaration comes up."""


@record
class ChildUp:
    """The setup of an incarnation has finished."""

    name: str
    incarnation: int


@record
class ChildEnding:
    """An incarnation has a reason to end, and its teardown begins."""

    name: str
    incarnation: int
    reason: ExitReason


@record
class ChildExit:
    """All of an incarnation is gone.

    Attributes:
        verdict: what ``on_crash`` says of it, or None (S11).
    """

    name: str
    incarnation: int
    reason: ExitReason
    verdict: Verdict | None = None


@record
class Due:
    """The backoff of a child is over."""

    name: str
    incarnation: int


@record
class ExecutorLost:
    """An executor failed with all the incarnations that it carried (E1)."""

    names: tuple[str, ...]
    reason: ExitReason


@record
class StartNew:
    """Somebody starts a child that was not declared."""

    spec: ChildSpec
    token: object


@record
class Start:
    """Somebody starts a child that is down."""

    name: str
    token: object


@record
class Restart:
    """Somebody restarts a child."""

    name: str
    token: object


@record
class Stop:
    """Somebody stops a child, for good.

    Attributes:
        grace: seconds, or None for what the child declares.
    """

    name: str
    token: object
    grace: float | None = None


@record
class Remove:
    """Somebody stops a child and takes it out of the supervisor."""

    name: str
    token: object
    grace: float | None = None


@record
class AwaitEnd:
    """Somebody waits until a child has ended for good."""

    name: str
    token: object


@record
class CancelStart:
    """Whoever asked for a start or restart does not want it any more."""

    name: str
    token: object


@record
class ShutDown:
    """The supervisor is to stop all of its children and end.

    Attributes:
        final: whether it is for good, or for a restart or a decision of its own supervisor.
        grace: seconds for each child, or None for what each declares.
    """

    final: bool
    grace: float | None = None


@record
class RefuseStarts:
    """A stop was accepted and drains: from now on nothing new is started."""


@record
class Drop:
    """The supervisor has ended for good: what waited for that decision is over."""


Event: TypeAlias = (
    Begin
    | ChildUp
    | ChildEnding
    | ChildExit
    | Due
    | ExecutorLost
    | StartNew
    | Start
    | Restart
    | Stop
    | Remove
    | AwaitEnd
    | CancelStart
    | ShutDown
    | RefuseStarts
    | Drop
)

# --- commands -----------------------------------------------------------------------------


@record
class Adopt:
    """A child has come into being; it has no life yet."""

    name: str


@record
class StartLife:
    """Begin an incarnation."""

    name: str
    incarnation: int


@record
class StopLife:
    """Tell an incarnation to stop.

    Attributes:
        final: whether the child stays down, as far as is known now.
        grace: seconds, or None for what the child declares.
    """

    name: str
    incarnation: int
    final: bool
    grace: float | None = None


@record
class Roll:
    """Restart a pool's members one by one, and answer then."""

    name: str
    token: object


@record
class SetTimer:
    """Send `Due` after a delay."""

    name: str
    incarnation: int
    delay: float


@record
class CancelTimer:
    """Forget the timer of a child."""

    name: str


@record
class Announce:
    """Tell observers of a transition."""

    name: str
    incarnation: int
    notice: Notice
    reason: ExitReason | None = None
    delay: float = 0.0
    attempt: int = 0


@record
class Settle:
    """The child has ended for good: its mail is dead letters, its askers are told (M6)."""

    name: str
    reason: ExitReason


@record
class Forget:
    """The name is free."""

    name: str


@record
class Done:
    """A control call was carried out.

    Attributes:
        reason: how the child ended, for calls that wait for an end; None for starts.
    """

    token: object
    reason: ExitReason | None = None


@record
class Refused:
    """A control call cannot be carried out.

    Attributes:
        why: in words.
    """

    token: object
    why: str


@record
class Failed:
    """A start that somebody asked for failed."""

    token: object
    reason: ExitReason


@record
class Up:
    """The whole declaration is up."""


@record
class Finished:
    """All below the supervisor is down.

    Attributes:
        reason: how the supervisor ends.
        child: whose end was the reason, or None.
    """

    reason: ExitReason
    child: str | None = None


@record
class Bug:
    """A pair of state and event without a row in the table: a bug of ours (L1)."""

    name: str
    state: State
    event: LifeEvent


Command: TypeAlias = (
    Adopt
    | StartLife
    | StopLife
    | Roll
    | SetTimer
    | CancelTimer
    | Announce
    | Settle
    | Forget
    | Done
    | Refused
    | Failed
    | Up
    | Finished
    | Bug
)
