"""What all actors of one host share: the paths, the event stream, the random generator."""

from __future__ import annotations

import random
import secrets
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Protocol

import trio

from .._core._describe import describe
from .._errors import ServiceStopped
from ..abc import Executor
from ._blocking import block_on
from ._crossing import Crossing, crossing
from ._events import EventStream
from ._inbox import Turns
from ._logging import NotificationLog, wanted
from ._mailbox import Mailbox, MailStatistics
from ._pool import applications
from ._ref import ref_to

if TYPE_CHECKING:
    from .._core._messages import ExitReason
    from ._cell import Cell
    from ._envelope import Envelope
    from ._pool import Declaration

MAX_ABANDONED: Final = 8
"""Abandoned threads that a host bears before thread starts fail."""


class Station(Protocol):
    """A worker's connection to the process of its host.

    Attributes:
        identity: that process.
    """

    identity: bytes

    def ref(self, number: int, path: str, target: Any) -> Any:
        """A ref to the actor of that number."""


class _Numbers:
    """What refs name when they cross a process: pickle has no other way to tell who is meant.

    Attributes:
        identity: this process; made when the first ref is sent.
        cells: the identities of all hosts here that a ref was sent to, by number.
        station: the connection of this process, if it is a worker.
    """

    def __init__(self) -> None:
        self.identity: bytes = b""
        self.cells: weakref.WeakValueDictionary[int, Cell] = weakref.WeakValueDictionary()
        self.station: Station | None = None
        self._next = count(1)

    def of(self, cell: Cell) -> int:
        """The number of an identity."""
        if not self.identity:
            self.identity = secrets.token_bytes(16)
        if not cell.number:
            cell.number = next(self._next)
            self.cells[cell.number] = cell
        return cell.number


numbers: Final = _Numbers()

apart: Final[ContextVar[Station | None]] = ContextVar("actorvisor.apart", default=None)
"""The connection of what runs here as if in another process, in a simulation."""


def restore(identity: bytes, number: int, path: str, target: Any) -> Any:
    """A ref that was pickled.

    Raises:
        ServiceStopped: what it names is gone for good.
        RuntimeError: this process has nothing to do with its host's.
    """
    station = apart.get()
    if station is None and identity == numbers.identity:
        cell = numbers.cells.get(number)
        if cell is None:
            raise ServiceStopped(path, None, "has ended for good and is forgotten")
        return ref_to(cell)
    if station is None:
        station = numbers.station
    if station is None or identity != station.identity:
        raise RuntimeError(
            f"a ref to {path} works in its host's process and in the host's workers only"
        )
    return station.ref(number, path, target)


class Commons:
    """What all actors of one host share. Used on the host's loop only, but for its constants.

    Attributes:
        cells: every identity that has a name now, by path.
        events: the event stream.
        random: draws the jitter of backoffs.
        token: of the host's trio run.
        thread: the host's thread.
        sends: messages sent on the host's loop: every 64th is a checkpoint (M3).
        past: the account of identities that are forgotten.
        abandoned: threads that were left behind and have not ended yet.
        max_abandoned: how many of them it bears.
        turns: gives the actors their turns.
        nursery: where calls from threads are carried out; None before and after.
        crossing: how threads reach the host's loop.
        standbys: worker processes that wait for a job.
    """

    def __init__(
        self,
        generator: random.Random | None,
        max_abandoned: int,
        executors: Callable[[Executor], Executor] | None,
    ) -> None:
        self.cells: dict[str, Cell] = {}
        self.events: EventStream = EventStream(NotificationLog(), wanted)
        self.random: random.Random = random.Random() if generator is None else generator
        self.token: trio.lowlevel.TrioToken = trio.lowlevel.current_trio_token()
        self.thread: int = threading.get_ident()
        self.sends: int = 0
        self.past: MailStatistics = MailStatistics()
        self.abandoned: int = 0
        self.max_abandoned: int = max_abandoned
        self.turns: Turns = Turns()
        self.nursery: trio.Nursery | None = None
        self.crossing: Crossing = crossing.get()
        self.standbys: int = 0
        self._substitute = executors
        self._substitutes: dict[Executor, Executor] = {}

    def executor_for(self, declared: Executor) -> Executor:
        """What carries out what was declared with an executor: that one, or its substitute.

        Raises:
            TypeError: the substitute is no executor, or not of the same kind.
        """
        if self._substitute is None:
            return declared
        found = self._substitutes.get(declared)
        if found is None:
            found = self._substitute(declared)
            if not isinstance(found, Executor):
                raise TypeError(f"executors= must give an Executor's value, not {describe(found)}")
            if _kind(found) != _kind(declared):
                raise TypeError(
                    f"executors= gave {describe(found)} for {describe(declared)}: has_loop, "
                    "has_thread and is_remote must be the same"
                )
            self._substitutes[declared] = found
        return found

    def find_executors(self, declarations: Iterable[Declaration]) -> None:
        """Find out what carries out all that is declared, before anything of it begins.

        Raises:
            TypeError: a substitute cannot.
        """
        if self._substitute is not None:
            for app in applications(declarations):
                self.executor_for(app.executor)

    def name_of(self, cell: Cell) -> tuple[bytes, int]:
        """What names an identity in a ref that is sent to another process."""
        number = numbers.of(cell)
        return numbers.identity, number

    def blocking(
        self, blocking: Any, call: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """What `Ref.blocking` does: carry a call out on the loop, and block until it is."""
        return block_on(self, blocking, call, args, kwargs)

    def dead_letter(
        self, mailbox: Mailbox, envelope: Envelope, why: str, reason: ExitReason | None
    ) -> None:
        """Tell observers of a message that will not be handled."""
        cell = self.cells.get(mailbox.path)
        # Not another identity that has that name now.
        if cell is not None and cell.mailbox is mailbox:
            self.events.dead_letter(cell, envelope, why, reason)

    def refuse(self, cell: Cell, envelope: Envelope, why: str) -> None:
        """A message was sent, and will not be handled; whoever it is for may be forgotten."""
        assert cell.mailbox is not None
        cell.mailbox.refuse(envelope, why)
        if cell.forgotten:
            # Its account is closed, and nobody finds it by its path (M7).
            self.past += MailStatistics(accepted=1, dead_letters=1)
            self.events.dead_letter(cell, envelope, why, None)

    def adopt(self, cell: Cell) -> None:
        """An identity comes to be; it has a name from now on."""
        self.cells[cell.path] = cell

    def forget(self, cell: Cell) -> None:
        """A name is free; its account is added to that of the past."""
        cell.forgotten = True
        if self.cells.get(cell.path) is cell:
            del self.cells[cell.path]
        if cell.mailbox is not None:
            self.past += cell.mailbox.statistics()


def _kind(executor: Executor) -> tuple[bool, bool, bool]:
    return executor.has_loop, executor.has_thread, executor.is_remote
