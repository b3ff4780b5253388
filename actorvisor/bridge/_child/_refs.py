"""Other actors, as a worker sees them: their refs are the same class, what is behind is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..._core._lifecycle import State
from ..._runtime._waits import handling
from .._wire import _frames as f

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..._core._messages import ExitReason
    from ..._runtime._envelope import Envelope
    from ..._runtime._waits import Wait
    from ._station import Station

ROOM: Final = "room"


class Record(NamedTuple):
    """What the host said of an actor when it was asked.

    Attributes:
        state: where it is in its life.
        incarnation: which of its lives it is in.
        final: whether it has ended for good.
        reason: how its present or last life ended.
    """

    state: State
    incarnation: int
    final: bool
    reason: ExitReason | None


GONE: Final = Record(State.STOPPED, 0, True, None)


class RemoteMailbox:
    """The mailbox of an actor in the host's process, as far as a ref looks at it.

    What is sent takes a credit of the target, and is framed at once.

    Attributes:
        waiting: messages that were sent.
        limit: messages that may be sent, in all.
        gate: none: the host's end knows.
        in_hand: not known here.
        drops: not known here.
        full: not known here: without credit the host's end is asked.
    """

    gate: Final = None
    in_hand: Final = None
    drops: Final = False
    full: Final = False

    def __init__(self, cell: RemoteCell) -> None:
        self.waiting: int = 0
        self.limit: int = 0
        self._cell = cell

    def put(self, envelope: Envelope) -> None:
        """Send a message; the caller has seen that there is credit.

        Raises:
            TypeError: something in it cannot be pickled.
        """
        if envelope.reply is None:
            self.put_tell(envelope.name, envelope.args, envelope.kwargs)
            return
        cell = self._cell
        station = cell.commons
        payload = station.port.codec.encode_message(
            envelope.name, envelope.args, envelope.kwargs, cell.path
        )
        with station.lock:
            self.waiting += 1
            number = station.port.end.request(envelope.reply)
            waits = handling.get() is not None
            envelope.wire = number
            station.frame(f.REQUEST, f.request_number(number, cell.number, waits), payload, True)

    def put_tell(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """As `put`, of a tell."""
        cell = self._cell
        station = cell.commons
        payload = station.port.codec.encode_message(name, args, kwargs, cell.path)
        with station.lock:
            self.waiting += 1
            station.frame(f.SEND, cell.number, payload)

    def sort(self, envelope: Envelope) -> None:
        """For which member of a pool it is: the host's end knows."""

    def post_nowait(self, envelope: Envelope) -> bool:
        """Send a message; True.

        Raises:
            MailboxFull: there is no credit, nor room for any.
        """
        if self.waiting >= self.limit:
            more = self._cell.commons.sync_call("room_nowait", self._cell)
            self.limit += more
        self.put(envelope)
        return True

    async def post(self, envelope: Envelope, wait: Wait | None = None) -> None:
        """Send a message, and wait for credit if there is none."""
        while self.waiting >= self.limit:
            # Credit may come meanwhile: `+=` around the call would lose it.
            more = await self._cell.commons.call(ROOM, self._cell)
            self.limit += more
        self.put(envelope)

    def post_blocking(self, envelope: Envelope) -> None:
        """As `post`, in a thread."""
        while self.waiting >= self.limit:
            more = self._cell.commons.sync_call(ROOM, self._cell)
            self.limit += more
        self.put(envelope)

    def withdraw(self, envelope: Envelope) -> None:
        """Its asker is gone; the host's end decides whether it is in time (M8)."""
        self._cell.commons.frame(f.WITHDRAW, envelope.wire, b"", True)

    def refuse(self, envelope: Envelope, why: str) -> None:
        """It can never be handled: the host's end says so to whom it concerns."""
        self.put(envelope)


class RemoteCell:
    """An identity of the host's process.

    Attributes:
        number: it, for the host's end.
        path: where it is.
        declaration: the class or function, or None for a supervisor.
        commons: the worker's station, in the stead of what a host's actors share.
        mailbox: its mail, or None for a supervisor.
        actor: whether it is a supervisor.
        remote: that it is not of this process.
        waits: none: the host's end knows.
    """

    remote: Final = True
    waits: Any = None

    def __init__(self, number: int, path: str, target: Any, station: Station) -> None:
        self.number: int = number
        self.path: str = path
        self.declaration: Any = target
        self.commons: Station = station
        self.mailbox: RemoteMailbox | None = None if target is None else RemoteMailbox(self)
        self.actor: Any = True if target is None else None

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]

    @property
    def record(self) -> Record:
        """Where it is in its life, by the host; never raises."""
        try:
            return Record(*self.commons.sync_call("record", self))
        except Exception:
            return GONE
