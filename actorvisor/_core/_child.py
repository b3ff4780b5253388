"""The record of one child: all that decisions know of it."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, ClassVar

from ._lifecycle import FINAL, LIVE, State

if TYPE_CHECKING:
    from ._intensity import RestartWindow
    from ._messages import ExitReason
    from ._spec import ChildSpec


class Intent(enum.IntEnum):
    """Why a child was told to stop, which decides what follows its exit; the greater wins."""

    NONE = 0
    HOLD = 1
    RESTART = 2
    STOP = 3


class Child:
    """One child. Only its `Supervision` changes it; everybody may look.

    Attributes:
        spec: what it is declared to be.
        declared: whether it belongs to the declaration, or was started at run time.
        state: where it is in its life.
        incarnation: lives that began, this one included.
        reason: how the present or last life ended, or None.
        intent: why it was told to stop.
        pending: whether it waits for its turn to start.
        held: whether a group restart takes it down.
        timing: whether the timer of its backoff is set.
        condemned: whether a bug of ours ends it.
        removing: whether it is taken out at its end.
        up_at: when the present life came up, or None.
        attempt: restarts in a row since the backoff last started over.
        restarts: restarts in all that its own ends led to.
        starters: who waits for it to come up: if it fails to, it is not retried.
        stoppers: who waits for it to end.
        window: its own restart window, or None.
    """

    __slots__ = (
        "attempt",
        "condemned",
        "declared",
        "held",
        "incarnation",
        "intent",
        "pending",
        "reason",
        "removing",
        "restarts",
        "spec",
        "starters",
        "state",
        "stoppers",
        "timing",
        "up_at",
        "window",
    )

    def __init__(self, spec: ChildSpec, *, declared: bool, window: RestartWindow | None) -> None:
        self.spec: ChildSpec = spec
        self.declared: bool = declared
        self.state: State = State.WAITING
        self.incarnation: int = 0
        self.reason: ExitReason | None = None
        self.intent: Intent = Intent.NONE
        self.pending: bool = False
        self.held: bool = False
        self.timing: bool = False
        self.condemned: bool = False
        self.removing: bool = False
        self.up_at: float | None = None
        self.attempt: int = 0
        self.restarts: int = 0
        self.starters: tuple[object, ...] = ()
        self.stoppers: tuple[object, ...] = ()
        self.window: RestartWindow | None = window

    @property
    def name(self) -> str:
        """Its name."""
        return self.spec.name

    @property
    def live(self) -> bool:
        """Whether it has an incarnation."""
        return self.state in LIVE

    @property
    def final(self) -> bool:
        """Whether only a start brings it back."""
        return self.state in FINAL

    @property
    def kept(self) -> bool:
        """Whether it stays declared after its end (I5)."""
        return self.declared and self.spec.restart != "temporary"

    @property
    def passing(self) -> bool:
        """Whether a group that stops it stops it for good (S2)."""
        return self.spec.restart == "temporary" and not self.starters

    def copy(self) -> Child:
        """A record of the same values that is changed by itself."""
        other = object.__new__(Child)
        for slot in self.__slots__:
            setattr(other, slot, getattr(self, slot))
        other.window = None if self.window is None else self.window.copy()
        return other

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Child):
            return NotImplemented
        return all(getattr(self, slot) == getattr(other, slot) for slot in self.__slots__)

    __hash__: ClassVar[None] = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Child {self.name!r} {self.state.value} #{self.incarnation}>"
