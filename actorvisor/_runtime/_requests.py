"""What the runtime's own actors put into each other's mailboxes, besides the core's events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._core._commands import record
from ._envelope import Reply

if TYPE_CHECKING:
    from .._core import _commands as c
    from .._core._messages import ExitReason
    from ..abc import Executor
    from ._cell import Cell
    from ._pool import Declaration


class Call(Reply):
    """Who waits for the answer to a control call.

    Attributes:
        path: what it is about, for errors.
        cell: its identity, once it has one.
    """

    __slots__ = ("cell", "path")

    def __init__(self, path: str, cell: Cell | None = None) -> None:
        super().__init__()
        self.path: str = path
        self.cell: Cell | None = cell


@record
class Control:
    """A control call about a child, as an event for the decisions."""

    cell: Cell
    event: c.Start | c.Restart | c.AwaitEnd | c.CancelStart


@record
class StartRequest:
    """Start a child that was not declared."""

    declaration: Declaration
    call: Call


@record
class CancelRequest:
    """Whoever asked for a child does not want it any more."""

    call: Call


@record
class StopRequest:
    """Drain and stop a child."""

    cell: Cell
    call: Call
    drain: float
    grace: float | None
    remove: bool


@record
class Drained:
    """The drain of a stop is over, or its time is up."""

    request: StopRequest | DrainRequest


@record
class DrainRequest:
    """Drain and stop all: the host's normal end."""

    drain: float


@record
class RollRequest:
    """Restart a pool's members one by one."""

    call: Call


@record
class Rolled:
    """The restart of one of them is over: go on with the next."""


@record
class Carry:
    """Carry out an incarnation."""

    cell: Cell
    number: int


@record
class Overdue:
    """Look whether an incarnation has ended since its time was up."""

    name: str
    number: int
    every: float


@record
class Close:
    """Nothing more is to come: end."""


@record
class ExecutorGone:
    """An executor's actor has failed."""

    executor: Executor
    names: tuple[str, ...]
    reason: ExitReason
