"""One life of one identity, as the executor that carries it out sees it (E2)."""

from __future__ import annotations

import contextlib
import functools
import gc
import inspect
import math
from collections.abc import Iterable
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import trio

from .._core import _commands as c
from .._core._describe import describe
from .._core._messages import Abandoned, Completed, Crashed, ExitReason
from .._errors import ServiceCrashed, ServiceStopped
from ._logging import logger, traceback_text

if TYPE_CHECKING:
    from .._core._spec import Verdict
    from ..abc import Inside, Service
    from ._cell import Cell
    from ._declaration import Application
    from ._envelope import Envelope
    from ._inbox import Inbox
    from ._mailbox import Mailbox

_CAN_SUSPEND: Final = inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR

Report: TypeAlias = c.ChildUp | c.ChildEnding | c.ChildExit


class Incarnation:
    """One life of one identity: what an executor is given to carry out.

    `Mailbox.take` (or ``take_nowait``), ``done``, ``reject`` and ``give_back`` of `mailbox` move
    messages; `started`, `ending` and `exited` report; `account_for` settles what is in hand.

    Attributes:
        cell: the identity.
        application: its declaration.
        mailbox: its mail.
        number: which of its lives, counted from 1.
        came_up: whether its setup has finished.
        over: whether its end was reported.
    """

    __slots__ = (
        "_interrupt",
        "_reports",
        "application",
        "came_up",
        "cell",
        "mailbox",
        "number",
        "over",
    )

    def __init__(self, cell: Cell, number: int, reports: Inbox[Any]) -> None:
        assert cell.mailbox is not None
        self.cell: Cell = cell
        self.application: Application[Any] = cell.declaration  # type: ignore[assignment]
        self.mailbox: Mailbox = cell.mailbox
        self.number: int = number
        self.came_up: bool = False
        self.over: bool = False
        self._interrupt: KeyboardInterrupt | None = None
        self._reports = reports

    @property
    def path(self) -> str:
        """Whose life it is."""
        return self.cell.path

    def build(self, inside: Inside) -> Service:
        """A fresh instance of the service (L6)."""
        return instance_of(self.application, inside)

    def started(self) -> None:
        """Report that setup has finished."""
        self.came_up = True
        self._reports.put(c.ChildUp(self.cell.name, self.number))

    def ending(self, reason: ExitReason) -> None:
        """Report that there is a reason to end, and that teardown begins."""
        self._reports.put(c.ChildEnding(self.cell.name, self.number, reason))

    def exited(self, reason: ExitReason, verdict: Verdict | None = None) -> None:
        """Report that nothing of this life is left; the last of all reports.

        Args:
            reason: why it ended.
            verdict: what ``on_crash`` said of it where the exception was raised, if not here.
        """
        self.over = True
        self.cell.waits = None
        if isinstance(reason, Crashed):
            self._note_interrupt(reason.exception)
        if self._interrupt is not None:
            # Ctrl-C is no crash to be mended: it goes up to the host (M9).
            if isinstance(reason, Crashed) and reason.exception is not self._interrupt:
                self._log_aside(reason.exception, "an error beside a Ctrl-C")
            reason, verdict = crashed(self._interrupt), "escalate"
            clear_frames(self._interrupt)
        elif isinstance(reason, Crashed):
            clear_frames(reason.exception)
            verdict = verdict or self.application.verdict(reason.exception)
        self._reports.put(c.ChildExit(self.cell.name, self.number, reason, verdict))

    def account_for(self, envelopes: Iterable[Envelope], reason: ExitReason, final: bool) -> None:
        """Settle the message in hand, and give back what was taken out and not entered (M4, M5).

        Args:
            envelopes: taken out and not entered, in order.
            reason: how the life ended.
            final: whether it was told to stop for good.
        """
        mailbox = self.mailbox
        if mailbox.feeder is not None:
            mailbox.feeder.leaving()
        entered = mailbox.in_hand
        back = list(envelopes)
        if entered is not None:
            if isinstance(reason, Completed):
                mailbox.done(entered, None)
            elif final and not isinstance(reason, Crashed):
                mailbox.fail(entered, ServiceStopped(self.path, reason))
                mailbox.dead_letter(entered, "cut off by a stop")
            elif (
                entered.tries < self.application.redeliver
                # What was left behind may still be at it: it would be handled twice at once (L8).
                and not isinstance(reason, Abandoned)
            ):
                entered.tries += 1
                back.insert(0, entered)
            else:
                mailbox.fail(entered, crashed_error(self.path, reason))
                mailbox.dead_letter(entered, "in hand at the end", reason)
        if back:
            mailbox.give_back(back)
        if mailbox.gate is not None:
            mailbox.gate.changed(mailbox)

    def aside(self, error: BaseException, what: str) -> None:
        """Log an error that came after the first one, which counts; a Ctrl-C counts more (M9)."""
        self._note_interrupt(error)
        if error is not self._interrupt:
            self._log_aside(error, what)

    def _note_interrupt(self, error: BaseException) -> None:
        """Remember a Ctrl-C, also one that a nursery of the service's own has put into a group."""
        executor = self.application.executor
        if self._interrupt is None and executor.has_loop and not executor.is_remote:
            self._interrupt = interrupt_in(error)

    def _log_aside(self, error: BaseException, what: str) -> None:
        fields = {"path": self.path, "incarnation": self.number}
        logger.error("%s: %s\n%s", self.path, what, traceback_text(error), extra=fields)


def instance_of(app: Application[Any], inside: Inside) -> Service:
    """A fresh instance of a service; it knows its inside before ``__init__``."""
    cls: Any = app.target
    instance = cls.__new__(cls, *app.args)
    if not isinstance(instance, cls):
        raise TypeError(f"{cls.__name__}.__new__ gave {describe(instance)}, which is none")
    # Past a `__setattr__` of its own: a frozen dataclass has one.
    object.__setattr__(instance, "_actorvisor_inside", inside)
    instance.__init__(*app.args)
    return instance  # type: ignore[no-any-return]


def interrupt_in(error: BaseException) -> KeyboardInterrupt | None:
    """The first Ctrl-C that an exception is, or holds as a group."""
    if isinstance(error, KeyboardInterrupt):
        return error
    if isinstance(error, BaseExceptionGroup) and not isinstance(error, ExceptionGroup):
        return next(filter(None, map(interrupt_in, error.exceptions)), None)
    return None


def is_passing(error: BaseException) -> bool:
    """Whether it is a cancellation from outside: what carries it is failing (M9)."""
    if isinstance(error, BaseExceptionGroup):
        passing = error.split(trio.Cancelled)[1] is None
    else:
        passing = isinstance(error, trio.Cancelled)
    return passing and trio.current_effective_deadline() == -math.inf


def crashed_error(path: str, reason: ExitReason) -> ServiceCrashed:
    """What an asker gets whose message was in hand at a crash."""
    error = ServiceCrashed(path, reason)
    if isinstance(reason, Crashed):
        error.__cause__ = reason.exception
    return error


def crashed(error: BaseException) -> Crashed:
    """The reason of a life that an exception ended; its text is made when it is first read."""
    return Crashed(error, functools.partial(traceback_text, error))


def clear_frames(error: BaseException) -> None:
    """Drop the locals of an exception's frames: what crashed must not keep its data alive (L2)."""
    seen: set[int] = set()
    stack = [error]
    while stack:
        found = stack.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        trace = found.__traceback__
        while trace is not None:
            if not _is_suspended(trace.tb_frame):
                with contextlib.suppress(RuntimeError):  # it runs
                    trace.tb_frame.clear()
            trace = trace.tb_next
        if isinstance(found, BaseExceptionGroup):
            stack.extend(found.exceptions)
        stack.extend(one for one in (found.__cause__, found.__context__) if one is not None)


def _is_suspended(frame: FrameType) -> bool:
    """Whether a coroutine or generator goes on in this frame, as where an exception was caught.

    Before Python 3.13 clear() would end it, and with it a task that has nothing to do with the
    crash. What a frame owns is what gc sees of it: as long as it can go on, its owner has it all.
    """
    code = frame.f_code
    return bool(code.co_flags & _CAN_SUSPEND) and all(
        one is not code for one in gc.get_referents(frame)
    )
