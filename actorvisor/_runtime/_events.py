"""The event stream of a host: every notification, to every reader, watcher and log (O1-O5)."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, final

import trio

from .._core._describe import describe
from .._core._lifecycle import Notice
from .._core._messages import (
    DeadLetter,
    Ended,
    Exited,
    ExitReason,
    Missed,
    Notification,
    Restarting,
    Started,
    Starting,
    Stopped,
    Stopping,
)
from ._envelope import Envelope

if TYPE_CHECKING:
    from types import TracebackType

    from .._core import _commands as c
    from ._cell import Cell
    from ._logging import NotificationLog
    from ._mailbox import Mailbox

KEPT: Final = 1000
"""Notifications that are kept for a reader that is slow."""

_PLAIN: Final[dict[Notice, type[Starting | Started | Stopping]]] = {
    Notice.STARTING: Starting,
    Notice.STARTED: Started,
    Notice.STOPPING: Stopping,
}


@final
class Events:
    """One reader of a host's notifications: iterate it with ``async for``.

    It gets what happens from its making on. 1,000 notifications are kept for it; when it is
    slower than that, a `Missed` stands for what it did not get. It ends with the host. Use it as
    a context manager, or just drop it, to stop the keeping.
    """

    def __init__(self, stream: EventStream) -> None:
        if not isinstance(stream, EventStream):
            raise TypeError("Events are what host.events() gives")
        self._stream = stream
        self._send, self._receive = trio.open_memory_channel[Notification](math.inf)
        # Not got since the last one that was kept: how many, and the last of them.
        self._missed = 0
        self._last: Notification | None = None
        self._kept = 0

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> Notification:
        if not self._kept:
            self._tell_missed()
        try:
            notification = await self._receive.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError):
            raise StopAsyncIteration from None
        self._kept -= 1
        return notification

    def __enter__(self) -> Events:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Keep nothing more for this reader; what is kept can still be read."""
        self._stream.leave(self)
        self._tell_missed()
        self._send.close()

    def _offer(self, notification: Notification) -> None:
        """Keep one more, or count it as missed."""
        if self._kept < KEPT:
            self._tell_missed()
            self._keep(notification)
        else:
            self._missed += 1
            self._last = notification

    def _tell_missed(self) -> None:
        """One that stands for all that was missed, in their place."""
        last, self._last = self._last, None
        if last is not None:
            count, self._missed = self._missed, 0
            self._keep(
                Missed(
                    path=last.path,
                    incarnation=last.incarnation,
                    sequence=last.sequence,
                    time=last.time,
                    count=count,
                )
            )

    def _keep(self, notification: Notification) -> None:
        self._kept += 1
        self._send.send_nowait(notification)


class EventStream:
    """What a host's actors announce.

    Attributes:
        sequence: the number of the last notification.
    """

    def __init__(
        self,
        log: NotificationLog,
        wanted: Callable[[Notice | None, ExitReason | None], bool],
    ) -> None:
        self.sequence: int = 0
        self._log = log
        self._wanted = wanted
        self._closed = False
        # Weak, so that a reader that is dropped keeps nothing.
        self._readers: set[weakref.ref[Events]] = set()

    def reader(self) -> Events:
        """A new reader, from now on."""
        events = Events(self)
        if self._closed:
            events.close()
        else:
            self._readers.add(weakref.ref(events, self._readers.discard))
        return events

    def leave(self, events: Events) -> None:
        """A reader wants nothing more."""
        self._readers.discard(weakref.ref(events))

    def close(self) -> None:
        """The host has ended: readers get what is kept for them, and then the end."""
        self._closed = True
        for reader in list(self._readers):
            events = reader()
            if events is not None:
                events.close()

    def announce(self, cell: Cell, said: c.Announce) -> None:
        """Tell everybody of a transition."""
        self.sequence += 1
        wanted = self._wanted(said.notice, said.reason)
        # Nobody looks: the number is all that anybody could tell.
        if not wanted and not cell.watchers and not self._readers:
            return
        notification = build(cell.path, said, self.sequence)
        if wanted:
            self._log(notification, cell.record.restarts > 0)
        self._publish(cell, notification)

    def dead_letter(
        self, cell: Cell, envelope: Envelope, why: str, reason: ExitReason | None
    ) -> None:
        """Tell everybody of a message that will not be handled."""
        self.sequence += 1
        now = trio.current_time()
        wanted = self._wanted(None, None) and self._log.admits_letter(cell.path, now)
        if not wanted and not self._readers:
            return
        letter = DeadLetter(
            path=cell.path,
            incarnation=cell.record.incarnation,
            sequence=self.sequence,
            time=now,
            message=envelope.describe(),
            why=why if reason is None else f"{why}: {describe(reason, 100)}",
        )
        if wanted:
            self._log(letter, False)
        self._offer(letter)

    def final(self, cell: Cell) -> Ended:
        """What is said to who begins to watch after the end."""
        return Ended(
            path=cell.path,
            incarnation=cell.record.incarnation,
            sequence=self.sequence,
            time=trio.current_time(),
            reason=cell.record.reason or Stopped(),
        )

    def _publish(self, cell: Cell, notification: Notification) -> None:
        self._offer(notification)
        for watcher in list(cell.watchers or ()):
            notify(watcher.mailbox, notification)

    def _offer(self, notification: Notification) -> None:
        for reader in list(self._readers):
            events = reader()
            if events is not None:
                events._offer(notification)


def notify(mailbox: Mailbox | None, notification: Notification) -> None:
    """Put a notification into the mail of a watcher; it takes no room (M1)."""
    if mailbox is not None:
        mailbox.put_exempt(Envelope("receive", (notification,), {}, exempt=True))


def build(path: str, said: c.Announce, sequence: int) -> Notification:
    """The notification of a transition."""
    incarnation, time = said.incarnation, trio.current_time()
    plain = _PLAIN.get(said.notice)
    if plain is not None:
        return plain(path=path, incarnation=incarnation, sequence=sequence, time=time)
    if said.notice is Notice.RESTARTING:
        return Restarting(
            path=path,
            incarnation=incarnation,
            sequence=sequence,
            time=time,
            delay=said.delay,
            attempt=said.attempt,
        )
    kind = Exited if said.notice is Notice.EXITED else Ended
    return kind(
        path=path,
        incarnation=incarnation,
        sequence=sequence,
        time=time,
        reason=said.reason or Stopped(),
    )
