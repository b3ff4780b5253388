"""Refs: how everybody talks to an actor, wherever and in whichever life it is (I2)."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from threading import get_ident
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Final,
    Generic,
    ParamSpec,
    TypeVar,
    final,
    overload,
)

import trio

from .._core import _commands as c
from .._core._describe import describe
from .._core._lifecycle import State
from .._core._messages import ExitReason, Stopped
from .._errors import (
    ControlRefused,
    MailboxFull,
    ServiceStopped,
)
from ..abc import Service
from ._blocking import Blocking
from ._envelope import Bulky, Envelope, Reply
from ._requests import Call, StopRequest
from ._waits import ASKS, ENDS, ROOM, begin_wait, handling

if TYPE_CHECKING:
    from ._cell import Cell
    from ._declaration import Application, Supervisor
    from ._kind import ServiceKind
    from ._mailbox import Mailbox
    from ._pool import Pool

_P = ParamSpec("_P")
_R = TypeVar("_R")
_T = TypeVar("_T")
_S = TypeVar("_S", bound=Service)
S_co = TypeVar("S_co", covariant=True)

DRAIN: Final = 5.0


class _Control:
    """What every ref can do with what it names."""

    __slots__ = ("_cell",)

    _cell: Cell

    def __init__(self, *_: object) -> None:
        raise TypeError(f"a {type(self).__name__} is what start() and find() give back")

    def __reduce__(self) -> tuple[Any, ...]:
        from ._commons import restore

        cell = self._cell
        return restore, (*cell.commons.name_of(cell), cell.path, self._target)

    @property
    def _target(self) -> Any:
        """The class or function that it refers to; None for a supervisor."""
        return None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._cell.path} {self._cell.record.state.value}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Control):
            return NotImplemented
        return self._cell is other._cell

    def __hash__(self) -> int:
        return hash(id(self._cell))

    @property
    def path(self) -> str:
        """Where it is; never raises."""
        return self._cell.path

    @property
    def state(self) -> str:
        """Where it is in its life; never raises.

        ``waiting``, ``starting``, ``running``, ``stopping``, ``exited``, ``backing_off``,
        ``stopped`` or ``failed``.
        """
        return self._cell.record.state.value

    @property
    def incarnation(self) -> int:
        """Which of its lives it is in, counted from 1, or 0 before the first."""
        return self._cell.record.incarnation

    async def stop(self, *, drain: float = DRAIN, grace: float | None = None) -> ExitReason:
        """Stop it for good, what is below it included; a checkpoint.

        Args:
            drain: seconds for what is on its way to be handled first; 0 skips it.
            grace: seconds for each service to end in, or None for what each declares; 0: at
                once, without teardown.

        Returns:
            How it ended; of what has ended already, how it had.

        Raises:
            WaitCycle: it would wait for itself; use ``self.stop()``.
        """
        return await self._stop("stop", drain, grace, remove=False)

    async def remove(self, *, drain: float = DRAIN, grace: float | None = None) -> ExitReason:
        """Stop it, and take it out of its supervisor: its name is free; a checkpoint.

        Args:
            drain: as in `stop`.
            grace: as in `stop`.

        Returns:
            How it ended.
        """
        return await self._stop("remove", drain, grace, remove=True)

    async def _stop(
        self, call: str, drain: float, grace: float | None, *, remove: bool
    ) -> ExitReason:
        from ._declaration import check_drain, check_grace

        drain, grace = check_drain(drain), check_grace(grace)
        cell = self._cell
        if cell.remote:
            stopped: ExitReason = await _control(cell, call, drain, grace)
            return stopped
        self._here()
        if cell.supervisor is None:
            raise ControlRefused(cell.path, f"the host itself cannot {call}; leave its block")
        if cell.record.final and not cell.record.pending and (not remove or cell.forgotten):
            await trio.lowlevel.checkpoint()
            return cell.record.reason or Stopped()
        drain = 0.0 if grace == 0 else drain
        await trio.lowlevel.checkpoint_if_cancelled()
        request = StopRequest(cell, Call(cell.path, cell), drain, grace, remove)
        request.call.wait = begin_wait(cell, "kill" if grace == 0 else "end", ENDS)
        cell.supervisor.request(cell, request)
        reason: ExitReason = await request.call.answered()
        return reason

    async def stopped(self) -> ExitReason:
        """Wait until it has ended for good; a checkpoint.

        Returns:
            How it ended.

        Raises:
            WaitCycle: it would wait for itself.
        """
        cell = self._cell
        if cell.remote:
            ended: ExitReason = await _control(cell, "stopped")
            return ended
        self._here()
        if cell.forgotten or (cell.record.final and not cell.record.pending):
            await trio.lowlevel.checkpoint()
            return cell.record.reason or Stopped()
        if cell.supervisor is None:
            raise ControlRefused(cell.path, "the host itself ends with its block; leave that")
        return await cell.supervisor.await_end(cell)

    async def start(self) -> None:
        """Start it again after its end; returns when its setup has finished.

        Raises:
            ControlRefused: it is not down.
            Exception: what its setup raised.
        """
        await self._start(c.Start)

    async def restart(self) -> None:
        """Stop it and start it again, or start it at once if it is down or backs off.

        It is not counted as a restart, and returns when the new setup has finished. A pool that
        is up restarts its members one by one, while the others go on.

        Raises:
            ControlRefused: it cannot be restarted now.
            Exception: what its setup raised; it is not tried again.
        """
        await self._start(c.Restart)

    def _here(self) -> bool:
        """Whether this is the host's thread.

        Raises:
            RuntimeError: it is not.
        """
        if get_ident() != self._cell.commons.thread:
            raise RuntimeError(
                f"{self!r} is used outside its host's loop; in a thread use ref.blocking"
            )
        return True

    async def _start(self, event: type[c.Start | c.Restart]) -> None:
        cell = self._cell
        if cell.remote:
            await _control(cell, "restart" if event is c.Restart else "start")
            return
        self._here()
        if cell.supervisor is None:
            raise ControlRefused(cell.path, "the host itself is started by its block")
        await start_and_wait(cell, event)


async def _control(cell: Any, call: str, *args: Any) -> Any:
    """Have the process of its host carry out a control call."""
    return await cell.commons.call(call, cell, *args)


async def start_and_wait(cell: Cell, event: type[c.Start | c.Restart]) -> None:
    """Start or restart an identity; a cancelled start ends what is half-started (L3)."""
    supervisor = cell.supervisor
    assert supervisor is not None
    await trio.lowlevel.checkpoint_if_cancelled()
    call = Call(cell.path, cell)
    if event is c.Restart:
        call.wait = begin_wait(cell, "end", "waits for the restart of")
    else:
        call.wait = begin_wait(cell, "up", "waits for the start of")
    supervisor.request(cell, event(cell.name, call))
    if event is c.Restart:
        await call.answered()
    else:
        await call.answered(lambda: supervisor.request(cell, c.CancelStart(cell.name, call)))


@final
class Ref(_Control, Generic[S_co]):
    """Names one service, over all its lives. Pass it around, also in messages.

    Its methods are for the host's loop; `blocking` has the same ones for threads.
    """

    __slots__ = ("_kind", "_mailbox")

    _mailbox: Mailbox
    _kind: ServiceKind

    @property
    def _target(self) -> Any:
        return self._kind.target

    @overload
    async def ask(
        self: Ref[_T],
        method: Callable[Concatenate[_T, _P], Coroutine[Any, Any, _R]],
        /,
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _R: ...

    @overload
    async def ask(
        self: Ref[_T],
        method: Callable[Concatenate[_T, _P], _R],
        /,
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _R: ...

    @trio.lowlevel.enable_ki_protection
    async def ask(self, method: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a method, and wait for what it returns; always a checkpoint.

        The message is sent by the method's name, so that an override is called. When the call is
        cancelled before the handler was entered, it is withdrawn and not handled.

        Args:
            method: a method of the service's class.
            *args: what it is called with.
            **kwargs: what it is called with.

        Returns:
            What the handler returned.

        Raises:
            TypeError: the class has no such method to call, or it takes other arguments.
            Rejection: the handler raised it.
            ServiceCrashed: it crashed with this message in hand; the cause is its exception.
            ServiceStopped: it has ended for good.
            MailboxFull: it was dropped from a full mailbox (``overflow="drop_oldest"``).
            WaitCycle: a service asks itself.
        """
        called = self._kind.method(method)
        if kwargs or not called.least <= len(args) <= called.most:
            called.check(args, kwargs)
        await trio.lowlevel.checkpoint_if_cancelled()
        task = trio.lowlevel.current_task()
        reply = Reply(task)
        envelope = Envelope(called.name, args, kwargs, reply)
        mailbox = self._mailbox
        if mailbox.gate is None and mailbox.waiting < mailbox.limit and self._here():
            if handling.get() is not None:
                reply.wait = begin_wait(self._cell, "answer", ASKS)
            try:
                mailbox.put(envelope)
            except Bulky:
                reply.end_wait()
                await self._ask_slowly(envelope, reply)  # noqa: ASYNC120
            except BaseException:
                reply.end_wait()
                raise
        else:
            await self._ask_slowly(envelope, reply)
        if reply.result is not None:
            return reply.result.unwrap()

        def abort(_: object) -> trio.lowlevel.Abort:
            reply.task = None
            reply.end_wait()
            if envelope.reply is reply and envelope is not mailbox.in_hand:
                mailbox.withdraw(envelope)
            return trio.lowlevel.Abort.SUCCEEDED

        return await trio.lowlevel.wait_task_rescheduled(abort)

    async def _ask_slowly(self, envelope: Envelope, reply: Reply) -> None:
        """Post an ask; when it had to wait for room, its answer may be there already."""
        self._here()
        member = self._mailbox.sort(envelope)
        reply.wait = begin_wait(self._cell if member is None else member, "answer", ASKS)
        task, reply.task, reply.early = reply.task, None, True
        try:
            await self._mailbox.post(envelope)
        except BaseException as error:
            reply.end_wait()
            if isinstance(error, ServiceStopped):
                await trio.lowlevel.checkpoint()  # noqa: ASYNC102, ASYNC120
            raise
        if reply.early:
            reply.task, reply.early = task, False

    @trio.lowlevel.enable_ki_protection
    async def tell(
        self: Ref[_T],
        method: Callable[Concatenate[_T, _P], object],
        /,
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> None:
        """Call a method, and do not wait for it.

        It waits only while the mailbox is full; then, and at every 64th message sent on the host's
        loop, it is a checkpoint. Otherwise it neither yields nor sees a cancellation. When
        `trio.Cancelled` is raised the message was not accepted.

        Args:
            method: a method of the service's class.
            *args: what it is called with.
            **kwargs: what it is called with.

        Raises:
            TypeError: the class has no such method to call, or it takes other arguments.
            ServiceStopped: it has ended for good.
            WaitCycle: a service waits for room in its own mailbox.
        """
        try:
            called = self._kind.methods[method]
        except (KeyError, TypeError):  # it was not sent before, or is none
            called = self._kind.method(method)
        if kwargs or not called.least <= len(args) <= called.most:
            called.check(args, kwargs)
        commons = self._cell.commons
        commons.sends += 1
        if not commons.sends & 63:
            await trio.lowlevel.checkpoint()
        mailbox = self._mailbox
        if (
            mailbox.gate is None
            and mailbox.waiting < mailbox.limit
            and get_ident() == commons.thread
        ):
            try:
                mailbox.put_tell(called.name, args, kwargs)
            except Bulky as bulky:
                await self._post(bulky.envelope)
        else:
            await self._post(Envelope(called.name, args, kwargs))

    async def _post(self, envelope: Envelope) -> None:
        self._here()
        mailbox = self._mailbox
        mailbox.sort(envelope)
        wait = None
        if mailbox.full and not mailbox.drops:
            if mailbox.gate is not None:
                mailbox.gate.admit(mailbox)
            wait = begin_wait(self._cell, "answer", ROOM)
        try:
            await mailbox.post(envelope, wait)
        except BaseException:
            if wait is not None:
                wait.end()
            raise

    @trio.lowlevel.enable_ki_protection
    def tell_nowait(
        self: Ref[_T],
        method: Callable[Concatenate[_T, _P], object],
        /,
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> None:
        """Call a method, and wait for nothing.

        Args:
            method: a method of the service's class.
            *args: what it is called with.
            **kwargs: what it is called with.

        Raises:
            MailboxFull: there is no room; the message was not accepted.
            ServiceStopped: it has ended for good.
        """
        called = self._kind.method(method)
        if kwargs or not called.least <= len(args) <= called.most:
            called.check(args, kwargs)
        self._here()
        mailbox, envelope = self._mailbox, Envelope(called.name, args, kwargs)
        mailbox.sort(envelope)
        if not mailbox.post_nowait(envelope):
            raise MailboxFull(self._cell.path, mailbox.capacity)

    @trio.lowlevel.enable_ki_protection
    async def send(self, message: object) -> None:
        """Send any object to `Service.receive`, or to the loop that reads the mailbox.

        It waits as `tell` does. To a service without either, it is a dead letter and a warning.

        Args:
            message: what is sent; it is not copied.

        Raises:
            ServiceStopped: it has ended for good.
        """
        commons = self._cell.commons
        commons.sends += 1
        if not commons.sends & 63:
            await trio.lowlevel.checkpoint()
        mailbox, kind = self._mailbox, self._kind
        if not (kind.has_receive or kind.has_run):
            self._here()
            if mailbox.gate is not None:
                mailbox.gate.admit(mailbox)
            envelope = Envelope("receive", (message,), _NOTHING)
            mailbox.refuse(envelope, f"{kind.title} has no receive()")
        elif (
            mailbox.gate is None
            and mailbox.waiting < mailbox.limit
            and get_ident() == commons.thread
        ):
            try:
                mailbox.put_tell("receive", (message,), _NOTHING)
            except Bulky as bulky:
                await self._post(bulky.envelope)
        else:
            await self._post(Envelope("receive", (message,), _NOTHING))

    @property
    def if_running(self) -> IfRunning[S_co]:
        """``ask`` and ``tell`` that raise at once unless it is running now."""
        return IfRunning(self)

    @property
    def blocking(self) -> Blocking[S_co]:
        """``ask``, ``tell`` and ``send`` for code in threads."""
        return Blocking(self)


_NOTHING: Final[dict[str, Any]] = {}


@final
class IfRunning(Generic[S_co]):
    """``ask`` and ``tell`` of a ref that raise at once unless the service is running now (M6)."""

    __slots__ = ("_ref",)

    def __init__(self, ref: Ref[S_co]) -> None:
        if not isinstance(ref, Ref):
            raise TypeError(f"it is what `ref.if_running` gives; {describe(ref)} is no ref")
        self._ref = ref

    def _check(self) -> None:
        record = self._ref._cell.record
        if record.state is not State.RUNNING:
            raise ServiceStopped(
                self._ref.path,
                record.reason,
                f"is not running now: {record.state.value}",
            )

    @overload
    async def ask(
        self: IfRunning[_T],
        method: Callable[Concatenate[_T, _P], Coroutine[Any, Any, _R]],
        /,
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _R: ...

    @overload
    async def ask(
        self: IfRunning[_T],
        method: Callable[Concatenate[_T, _P], _R],
        /,
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _R: ...

    async def ask(self, method: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """As `Ref.ask`, if it is running now.

        Raises:
            ServiceStopped: it is not running now.
        """
        try:
            self._check()
        except ServiceStopped:
            await trio.lowlevel.checkpoint()  # noqa: ASYNC120
            raise
        return await self._ref.ask(method, *args, **kwargs)

    async def tell(
        self: IfRunning[_T],
        method: Callable[Concatenate[_T, _P], object],
        /,
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> None:
        """As `Ref.tell`, if it is running now.

        Raises:
            ServiceStopped: it is not running now.
        """
        self._check()
        await self._ref.tell(method, *args, **kwargs)


@final
class SupervisorRef(_Control):
    """Names one supervisor, over all its lives."""

    __slots__ = ()

    @overload
    async def start(self, app: Application[_S] | Pool[_S]) -> Ref[_S]: ...
    @overload
    async def start(self, app: Supervisor) -> SupervisorRef: ...
    @overload
    async def start(self, app: None = None) -> None: ...

    async def start(
        self, app: Application[_S] | Pool[_S] | Supervisor | None = None
    ) -> Ref[_S] | SupervisorRef | None:
        """Start a child under it; without one, start this supervisor itself after its end.

        Args:
            app: what to start. Without a name of its own it gets its class's, with ``-2``,
                ``-3`` as needed.

        Returns:
            A ref to the child, once its setup has finished.

        Raises:
            ControlRefused: the name is taken, or the supervisor is stopping.
            Exception: what its setup raised; it is not tried again.
        """
        if app is None:
            await super().start()
            return None
        if self._cell.remote:
            child: Ref[_S] | SupervisorRef = await _control(self._cell, "start_child", app)
            return child
        actor = self._cell.actor
        assert actor is not None
        self._here()
        started: Ref[_S] | SupervisorRef = await actor.start(app)
        return started

    def children(self) -> tuple[Ref[Any] | SupervisorRef, ...]:
        """Refs to its children, oldest first."""
        commons: Any = self._cell.commons
        if self._cell.remote:
            found: tuple[Ref[Any] | SupervisorRef, ...] = commons.sync_call("children", self._cell)
            return found
        actor = self._cell.actor
        assert actor is not None
        return tuple(ref_to(cell) for cell in actor.cells.values())


def ref_to(cell: Cell, kind: type[Any] | None = None) -> Any:
    """A ref to an identity.

    Args:
        cell: the identity.
        kind: the class that it must be, or None.

    Raises:
        TypeError: it is of another class.
    """
    if cell.mailbox is None:
        if kind is not None and kind is not SupervisorRef:
            from ._declaration import Supervisor

            if kind is not Supervisor:
                raise TypeError(f"{cell.path} is a supervisor, not a {kind.__name__}")
        return make_ref(cell, None, None)
    app: Any = cell.declaration
    if kind is not None:
        from ._kind import FunctionService

        if not issubclass(FunctionService if app.kind.is_function else app.kind.target, kind):
            raise TypeError(f"{cell.path} is a {app.kind.title}, not a {kind.__name__}")
    return make_ref(cell, app.kind, cell.mailbox)


def make_ref(cell: Any, kind: ServiceKind | None, mailbox: Any) -> Ref[Any] | SupervisorRef:
    """A ref of these parts; without a kind, one to a supervisor."""
    if kind is None:
        supervisor = object.__new__(SupervisorRef)
        supervisor._cell = cell
        return supervisor
    ref: Ref[Any] = object.__new__(Ref)
    ref._cell, ref._mailbox, ref._kind = cell, mailbox, kind
    return ref


def checked_ref(ref: object) -> _Control:
    """Give back a ref.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(ref, _Control):
        raise TypeError(f"{describe(ref)} is no ref")
    return ref
