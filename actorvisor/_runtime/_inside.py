"""What a service sees of itself: its ref, timers, promised replies, and its mail as a loop."""

from __future__ import annotations

from contextvars import ContextVar
from threading import get_ident
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, final

import outcome
import trio

from .._core._checks import check_seconds
from .._core._describe import describe
from .._core._ids import resolve
from .._core._messages import Crashed
from .._errors import Rejection, ServiceStopped
from ..abc import Service
from ._envelope import Envelope, Reply
from ._events import notify
from ._ref import Ref, checked_ref, ref_to

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from .._core._messages import ExitReason
    from ..abc import Inside
    from ._cell import Cell
    from ._incarnation import Incarnation
    from ._kind import ServiceKind
    from ._mailbox import Mailbox
    from ._ref import SupervisorRef
    from ._timers import Timer, Timers


class MailReader(Protocol):
    """A service's mail, for a `run` of its own.

    Iterate it: ``async for`` under executors with a loop, plain ``for`` in threads. It ends when
    the service is told to stop. A message that was read is in hand until the next read.
    """

    def __aiter__(self) -> AsyncIterator[Any]:
        """The messages, until a stop."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """The messages, until a stop."""
        ...

    def receive(self) -> Any:
        """The next message: awaitable under executors with a loop.

        Raises:
            trio.EndOfChannel: the service is to stop.
        """


@final
class Promise:
    """A promise to answer an ask after its handler has returned."""

    def __init__(
        self, mailbox: Mailbox, reply: Reply, promises: set[Promise], check: Callable[[], None]
    ) -> None:
        self._mailbox = mailbox
        self._check = check
        self._reply = reply
        self._promises = promises
        promises.add(self)
        mailbox.open_replies += 1

    def send(self, value: object) -> None:
        """Answer with a value.

        Raises:
            RuntimeError: it was answered already, or its service has ended, or this is not the
                host's thread.
        """
        self._answer(outcome.Value(value))

    def reject(self, error: Rejection) -> None:
        """Answer with an error that is no crash.

        Raises:
            RuntimeError: it was answered already, or its service has ended, or this is not the
                host's thread.
        """
        if not isinstance(error, Rejection):
            raise TypeError(f"reject() takes a Rejection, not {describe(error)}")
        self._answer(outcome.Error(error))

    def _answer(self, result: outcome.Outcome[Any]) -> None:
        self._check()
        if self not in self._promises:
            raise RuntimeError("this ask was answered already, or its service has ended")
        self._promises.discard(self)
        mailbox = self._mailbox
        mailbox.open_replies -= 1
        if not self._reply.answer(result):
            mailbox.late()
        if mailbox.gate is not None:
            mailbox.gate.changed(mailbox)


class Bench:
    """The parts of a service's inside that all executors share; used on the host's loop only."""

    __slots__ = ("_incarnation", "_promises", "_set", "_timers")

    def __init__(self, incarnation: Incarnation, timers: Timers) -> None:
        self._incarnation = incarnation
        self._timers = timers
        self._set: dict[Timer, None] | None = None
        self._promises: set[Promise] | None = None

    @property
    def incarnation(self) -> Incarnation:
        """What it is the inside of."""
        return self._incarnation

    @property
    def inside(self) -> object:
        """What its instance was given as its inside; mostly this very object."""
        return self

    def check_thread(self) -> None:
        """Refuse another thread than the host's: nothing here is for that.

        Raises:
            RuntimeError: this is one.
        """
        if get_ident() != self._incarnation.cell.commons.thread:
            raise RuntimeError(
                f"{self._incarnation.path} runs on its host's loop, and what its service can do "
                "from inside is not for another thread; there, use trio.from_thread.run_sync()"
            )

    def check_life(self) -> None:
        """Refuse another thread, and a service whose life is over: the mail is another one's.

        Raises:
            RuntimeError: it is so.
        """
        self.check_thread()
        if self._incarnation.over:
            raise RuntimeError(
                f"this life of {self._incarnation.path} has ended; what it was is of no use"
            )

    def check_reads(self) -> None:
        """Refuse a mailbox to a service whose mail goes to its handlers.

        Raises:
            RuntimeError: it has no `run`.
        """
        if not self._incarnation.application.kind.has_run:
            raise RuntimeError(
                f"{self._incarnation.path} has handlers, which get its mail; "
                "`mailbox` is for a run() of its own"
            )

    @property
    def ref(self) -> Ref[Any]:
        """The service's own; made when it is asked for, since most services never ask."""
        ref: Ref[Any] = ref_to(self._incarnation.cell.face)
        return ref

    def find(self, path: str, kind: type[Any]) -> Ref[Any] | SupervisorRef:
        """A ref to another actor."""
        cell = self._incarnation.cell
        found: Ref[Any] | SupervisorRef = find(
            cell.commons.cells, resolve(cell.face.path, path), kind
        )
        return found

    def after(
        self,
        delay: float,
        period: float | None,
        method: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Timer:
        """Set a timer that puts a message into the mail."""
        self.check_life()
        kind = self._incarnation.application.kind
        name = checked_timer(self.inside, kind, delay, period, method, args, kwargs)
        number = self._incarnation.number
        return self.set_timer(
            delay, period, lambda: Envelope(name, args, kwargs, exempt=True, timer=number)
        )

    def set_timer(self, delay: float, period: float | None, make: Callable[[], Envelope]) -> Timer:
        """Set a timer that puts what is made into the mail."""
        timers, mailbox = self._timers, self._incarnation.mailbox
        last: list[Envelope | None] = [None]

        @trio.lowlevel.enable_ki_protection
        def fire() -> None:
            assert self._set is not None
            if period is None:
                self._set.pop(timer, None)
            else:
                timer.again(period)
            waiting = last[0]
            if waiting is None or not waiting.unread:
                envelope = make()
                last[0] = envelope if period is not None else None
                mailbox.put_exempt(envelope)

        timer = timers.set(trio.current_time() + delay, fire)
        if self._set is None:
            self._set = {}
        self._set[timer] = None
        timer.owner = self._set
        return timer

    def monitor(self, ref: Ref[Any] | SupervisorRef) -> None:
        """Watch another actor (O2)."""
        self.check_life()
        check_monitor(self._incarnation.application.kind, ref)
        mine, other = self._incarnation.cell, ref._cell
        if other.record.final or other.forgotten:
            notify(mine.mailbox, mine.commons.events.final(other))
            return
        if other.watchers is None:
            other.watchers = {}
        if mine.watching is None:
            mine.watching = {}
        other.watchers[mine] = None
        mine.watching[other] = None

    def reply_later(self) -> Promise:
        """Promise an answer to the ask in hand."""
        self.check_life()
        mailbox = self._incarnation.mailbox
        envelope = mailbox.in_hand
        if envelope is None or envelope.reply is None:
            refuse_promise()
        reply, envelope.reply = envelope.reply, None
        reply.end_wait()  # whoever asked may be asked back before it is answered
        if self._promises is None:
            self._promises = set()
        return Promise(mailbox, reply, self._promises, self.check_thread)

    def heartbeat(self) -> None:
        """See `Service.heartbeat`: only a process is watched."""

    def close(self, error: Callable[[], BaseException]) -> None:
        """The life is over: its timers are dropped, its promises are broken."""
        timers, self._set = self._set, None
        for timer in tuple(timers or ()):
            timer.cancel()
        mailbox = self._incarnation.mailbox
        for promise in self._promises or ():
            mailbox.open_replies -= 1
            promise._reply.answer(outcome.Error(error()))
        if self._promises:
            self._promises.clear()
            if mailbox.gate is not None:
                mailbox.gate.changed(mailbox)

    def broken_promise(self, reason: ExitReason, final: bool) -> BaseException:
        """What an asker gets whose promised answer will not come.

        Args:
            reason: how the life ended.
            final: whether it was told to stop for good.
        """
        from ._incarnation import crashed_error

        incarnation = self._incarnation
        if final and not isinstance(reason, Crashed):
            return ServiceStopped(incarnation.path, reason)
        return crashed_error(incarnation.path, reason)


def checked_timer(
    inside: object,
    kind: ServiceKind,
    delay: float,
    period: float | None,
    method: Any,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> str:
    """The name of the method that a timer calls.

    Raises:
        TypeError: it is none of the service's own, or takes other arguments.
        ValueError: the time is out of range.
    """
    check_seconds("delay" if period is None else "period", delay)
    if period == 0:
        raise ValueError("period must be more than 0 seconds, not 0")
    bound_to = getattr(method, "__self__", None)
    if isinstance(bound_to, Service):
        if getattr(bound_to, "_actorvisor_inside", None) is not inside:
            raise TypeError(f"{describe(method)} is bound to another service")
        method = method.__func__
    called = kind.method(method, own=True)
    called.check(args, kwargs)
    return called.name


def check_monitor(kind: ServiceKind, ref: object) -> None:
    """Refuse to monitor for a class that could not take the notifications, and what is no ref.

    Raises:
        TypeError: it is so.
    """
    if not (kind.has_receive or kind.has_run):
        raise TypeError(
            f"{kind.target.__name__} has neither receive() nor run(): it could not take "
            "the notifications of what it monitors"
        )
    checked_ref(ref)


def refuse_promise() -> NoReturn:
    """Refuse an answer for later.

    Raises:
        RuntimeError: always.
    """
    raise RuntimeError(
        "reply_later() is for a handler of an ask, once: what is in hand was told, "
        "or its answer is promised already"
    )


current: ContextVar[Inside | None] = ContextVar("actorvisor.current", default=None)
"""The inside of the service whose code runs in this thread, where services have threads."""


def stopping() -> bool:
    """Whether the service whose code runs here was told to stop; for functions that block.

    Returns:
        False outside of any service in a thread or a process.
    """
    inside = current.get()
    return inside is not None and inside.stopping


def heartbeat() -> None:
    """Say that the service whose code runs here is well; for functions that block.

    See `Service.heartbeat`; nothing outside of any service in a process.
    """
    inside = current.get()
    if inside is not None:
        inside.heartbeat()


def find(cells: Mapping[str, Cell], path: str, kind: type[Any]) -> Any:
    """A ref to the actor of an absolute path, checked.

    Raises:
        LookupError: there is none; it names what is there instead.
        TypeError: it is of another class.
    """
    if not isinstance(kind, type):
        raise TypeError(
            f"find() takes the class that it must be, such as find({path!r}, MyService), "
            f"not {describe(kind)}"
        )
    cell = cells.get(path)
    if cell is None:
        above = path.rpartition("/")[0]
        parent = cells.get(above)
        siblings = [] if parent is None or parent.actor is None else list(parent.actor.cells)
        known = ", ".join(siblings[:10]) + (", ..." if len(siblings) > 10 else "")
        where = f"{above} has: {known or 'no children'}" if parent else f"there is no {above!r}"
        raise LookupError(f"no actor {path!r}; {where}")
    return ref_to(cell, kind)
