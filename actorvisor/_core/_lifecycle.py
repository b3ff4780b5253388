"""The life of a child: states, events, and the one table of what follows what (L1).

The table has a row for every pair that can cross on its way between two actors. A pair without
a row is a bug of ours: `step` raises, and the state is untouched (h11's idea).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, TypeVar

_E = TypeVar("_E", bound=enum.Enum)


def _hashed_by_identity(members: type[_E]) -> type[_E]:
    """Enum's own hash runs in Python, many times a step."""
    members.__hash__ = object.__hash__  # type: ignore[method-assign]
    return members


@_hashed_by_identity
class State(enum.Enum):
    """Where a child is in its life."""

    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    EXITED = "exited"
    BACKING_OFF = "backing_off"
    STOPPED = "stopped"
    FAILED = "failed"


LIVE: Final = frozenset({State.STARTING, State.RUNNING, State.STOPPING})
"""The states in which there is an incarnation."""

FINAL: Final = frozenset({State.STOPPED, State.FAILED})
"""The states that only a start leaves."""


@_hashed_by_identity
class Event(enum.Enum):
    """What can happen to a child."""

    BEGIN = "begin"
    """Its turn to start has come."""
    UP = "up"
    """Its setup has finished."""
    ENDING = "ending"
    """A reason to end is recorded, and its teardown begins."""
    EXIT = "exit"
    """All of the incarnation is gone."""
    STOP = "stop"
    """Somebody asked for its end."""
    HOLD = "hold"
    """A strategy or its supervisor stops it, for a restart or a decision."""
    START = "start"
    """Somebody asked to start it."""
    RESTART = "restart"
    """Somebody asked to restart it."""
    AGAIN = "again"
    """The decision is to restart it after a delay."""
    DUE = "due"
    """That delay is over."""
    OVER = "over"
    """The decision is no restart, after a normal end."""
    FAIL = "fail"
    """The decision is no restart, after a failure that nobody asked for."""
    DROP = "drop"
    """Its supervisor is gone for good."""


@_hashed_by_identity
class Notice(enum.Enum):
    """Which notification a transition sends."""

    STARTING = "S"
    STARTED = "U"
    STOPPING = "P"
    EXITED = "X"
    RESTARTING = "R"
    ENDED = "E"


class Step(NamedTuple):
    """One transition.

    Attributes:
        state: the next state.
        notice: what observers are told, or None.
        refused: whether a caller is refused and nothing changes.
    """

    state: State
    notice: Notice | None = None
    refused: bool = False


class IllegalTransition(Exception):
    """A pair of state and event without a row: a bug of ours."""

    def __init__(self, state: State, event: Event) -> None:
        super().__init__(state, event)
        self.state = state
        self.event = event

    def __str__(self) -> str:
        return f"no row for {self.event.value!r} in state {self.state.value!r}"


_W, _S, _R, _P, _X, _B, _D, _F = State
_BEGIN: Final = Step(_S, Notice.STARTING)
_END: Final = Step(_P, Notice.STOPPING)
_GONE: Final = Step(_X, Notice.EXITED)
_OVER: Final = Step(_D, Notice.ENDED)


def _stay(state: State) -> Step:
    return Step(state)


def _refuse(state: State) -> Step:
    return Step(state, refused=True)


TABLE: Final[Mapping[tuple[State, Event], Step]] = MappingProxyType(
    {
        (_W, Event.BEGIN): _BEGIN,
        (_W, Event.STOP): _OVER,
        (_W, Event.DROP): _OVER,
        (_W, Event.HOLD): _stay(_W),
        (_W, Event.START): _refuse(_W),
        (_W, Event.RESTART): _refuse(_W),
        (_S, Event.UP): Step(_R, Notice.STARTED),
        (_S, Event.ENDING): _END,
        (_S, Event.STOP): _END,
        (_S, Event.HOLD): _END,
        (_S, Event.RESTART): _END,
        (_S, Event.EXIT): _GONE,
        (_S, Event.START): _refuse(_S),
        (_R, Event.ENDING): _END,
        (_R, Event.STOP): _END,
        (_R, Event.HOLD): _END,
        (_R, Event.RESTART): _END,
        (_R, Event.EXIT): _GONE,
        (_R, Event.START): _refuse(_R),
        (_P, Event.EXIT): _GONE,
        (_P, Event.UP): _stay(_P),
        (_P, Event.ENDING): _stay(_P),
        (_P, Event.HOLD): _stay(_P),
        (_P, Event.STOP): _stay(_P),
        (_P, Event.RESTART): _stay(_P),
        (_P, Event.START): _refuse(_P),
        (_X, Event.AGAIN): Step(_B, Notice.RESTARTING),
        (_X, Event.BEGIN): _BEGIN,
        (_X, Event.RESTART): _BEGIN,
        (_X, Event.OVER): _OVER,
        (_X, Event.FAIL): Step(_F, Notice.ENDED),
        (_X, Event.STOP): _OVER,
        (_X, Event.DROP): _OVER,
        (_X, Event.HOLD): _stay(_X),
        (_X, Event.START): _refuse(_X),
        (_B, Event.DUE): _BEGIN,
        (_B, Event.BEGIN): _BEGIN,
        (_B, Event.RESTART): _BEGIN,
        (_B, Event.STOP): _OVER,
        (_B, Event.DROP): _OVER,
        (_B, Event.HOLD): _stay(_B),
        (_B, Event.START): _refuse(_B),
        (_D, Event.BEGIN): _BEGIN,
        (_D, Event.START): _BEGIN,
        (_D, Event.RESTART): _BEGIN,
        (_D, Event.STOP): _stay(_D),
        (_D, Event.HOLD): _stay(_D),
        (_D, Event.DROP): _stay(_D),
        (_F, Event.BEGIN): _BEGIN,
        (_F, Event.START): _BEGIN,
        (_F, Event.RESTART): _BEGIN,
        (_F, Event.STOP): _stay(_F),
        (_F, Event.HOLD): _stay(_F),
        (_F, Event.DROP): _stay(_F),
    }
)
"""Every legal pair of state and event, and what follows."""

REFUSALS: Final[Mapping[State, str]] = MappingProxyType(
    {
        _W: "already starting",
        _S: "already starting",
        _R: "already running",
        _P: "stopping",
        _X: "restarting",
        _B: "restarting",
    }
)
"""Why a start is refused in a state, in words."""


def step(state: State, event: Event) -> Step:
    """What follows.

    Raises:
        IllegalTransition: the pair has no row.
    """
    found = TABLE.get((state, event))
    if found is None:
        raise IllegalTransition(state, event)
    return found
