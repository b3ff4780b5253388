"""Services as coroutines on the host's loop: `AsyncExecutor`, the default."""

from __future__ import annotations

import inspect
import math
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import CoroutineType
from typing import TYPE_CHECKING, Any, ClassVar, final

import trio

from .._core._describe import describe
from .._core._messages import Completed, Crashed, ExitReason, Stopped, TimedOut
from .._errors import Rejection
from ..abc import Executor, Life, Place, Service
from ._incarnation import Incarnation, crashed, is_passing
from ._inside import Bench
from ._timers import Timers
from ._waits import handling, sender

if TYPE_CHECKING:
    from ._envelope import Envelope


@final
@dataclass(frozen=True, slots=True)
class AsyncExecutor(Executor):
    """Runs services as coroutines on the host's own loop; the default.

    Plain methods run inline and must not block. A service costs a task and a few KiB.
    """

    has_loop: ClassVar[bool] = True
    has_thread: ClassVar[bool] = False

    @asynccontextmanager
    async def open(self, nursery: trio.Nursery) -> AsyncGenerator[Place, None]:
        """Nothing is shared but the nursery and the timers; no checkpoint."""
        yield CoroutinePlace(nursery)


class CoroutinePlace(Place):
    """The host's loop, as far as one supervisor's services use it."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._timers = Timers(nursery)

    def begin(self, incarnation: Incarnation) -> CoroutineLife:
        """A life in a task."""
        return CoroutineLife(incarnation, self._nursery, self._timers)


class CoroutineMail:
    """A service's mail, for a `run` that is a coroutine."""

    __slots__ = ("_life",)

    def __init__(self, life: CoroutineLife) -> None:
        self._life = life

    def __aiter__(self) -> CoroutineMail:
        return self

    async def __anext__(self) -> Any:
        envelope = await self._life.read()
        if envelope is None:
            raise StopAsyncIteration
        return envelope.args[0]

    def __iter__(self) -> Any:
        raise TypeError("this service runs on a loop: read its mailbox with `async for`")

    async def receive(self) -> Any:
        """The next message.

        Raises:
            trio.EndOfChannel: the service is to stop.
        """
        envelope = await self._life.read()
        if envelope is None:
            raise trio.EndOfChannel
        return envelope.args[0]


class CoroutineLife(Bench, Life):
    """One incarnation in one task; it is the inside of its service, too.

    Attributes:
        stopping: whether it was told to stop, or has told so itself.
    """

    __slots__ = (
        "_alone",
        "_background",
        "_deadline",
        "_final",
        "_forced",
        "_nursery",
        "_phase",
        "_reading",
        "_reason",
        "_scope",
        "_told",
        "stopping",
    )

    def __init__(self, incarnation: Incarnation, nursery: trio.Nursery, timers: Timers) -> None:
        super().__init__(incarnation, timers)
        self._nursery = nursery
        # Around what is awaited of the service: how that is limited, and ended by force. A service
        # that has nothing but plain handlers never needs one.
        self._scope: trio.CancelScope | None = None
        self._phase = "setup"
        self.stopping = False
        self._told = False
        # Whether a task waits for the next message of a `run`.
        self._reading = False
        self._final = False
        self._forced = False
        # When the end by force comes, by trio's clock.
        self._deadline = math.inf
        # The first reason to end, if it does not come from the task itself.
        self._reason: ExitReason | None = None
        self._background: set[trio.CancelScope] | None = None
        self._alone: trio.Event | None = None

    # --- from the executor ----------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    def stop_life(self, final: bool, grace: float) -> None:
        """See `Life.stop`."""
        self.stopping = self._told = True
        self._final |= final
        self._forced |= grace == 0
        self._deadline = min(self._deadline, trio.current_time() + grace)
        scope = self._limits()
        if self._phase == "setup" or self._forced or (self._phase == "work" and self._is_deaf()):
            scope.cancel()
        else:
            scope.deadline = min(scope.deadline, self._deadline)
        self._incarnation.mailbox.wake()

    def _limits(self) -> trio.CancelScope:
        """The scope around what is awaited, or will be."""
        if self._scope is None:
            self._scope = trio.CancelScope()
        return self._scope

    def _is_deaf(self) -> bool:
        """Whether it never reads its mail, so that nothing but a cancellation reaches it."""
        return self._incarnation.application.kind.is_loop and not self._incarnation.mailbox.reads

    def lost(self, reason: ExitReason) -> None:
        """See `Life.lost`."""
        self.close(lambda: self.broken_promise(reason, self._final))

    # --- from the service -----------------------------------------------------------------

    @property
    def mailbox(self) -> CoroutineMail:
        """The mail, for a `run`."""
        return CoroutineMail(self)

    @trio.lowlevel.enable_ki_protection
    def stop(self) -> None:
        """See `Service.stop`."""
        self.check_thread()
        if not self.stopping:
            self.stopping = True
            if self._phase == "work" and self._is_deaf():
                self._limits().cancel()
            else:
                self._incarnation.mailbox.wake()

    @trio.lowlevel.enable_ki_protection
    def start_soon(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """See `Service.start_soon`."""
        from ._kind import is_async, unprotect

        self.check_thread()
        if not is_async(function):
            if isinstance(function, CoroutineType):
                function.close()
            raise TypeError(
                f"start_soon() takes an async function and its arguments, not {describe(function)}"
                "; what blocks belongs into trio.to_thread.run_sync, or a service in a thread"
            )
        try:
            inspect.signature(function).bind(*args)
        except TypeError as error:
            raise TypeError(
                f"start_soon() cannot call {describe(function)} with {describe(args)}: {error}"
            ) from None
        if self._phase in {"teardown", "over"}:
            raise RuntimeError(f"{self._incarnation.path} is ending; it starts nothing more")
        unprotect(function)
        if self._background is None:
            self._background = set()
        scope = trio.CancelScope()
        self._background.add(scope)
        self._nursery.start_soon(
            self._run_background, scope, function, args, name=f"{self._incarnation.path}:background"
        )

    @trio.lowlevel.enable_ki_protection
    async def _run_background(
        self, scope: trio.CancelScope, function: Callable[..., Any], args: tuple[Any, ...]
    ) -> None:
        sender.set(self._incarnation.cell)
        handling.set(None)
        assert self._background is not None
        try:
            with scope:
                await function(*args)
        except BaseException as error:  # noqa: ASYNC103
            if is_passing(error):
                raise
            self._crash(error)
        finally:
            self._background.discard(scope)
            if self._alone is not None and not self._background:
                self._alone.set()

    def _crash(self, error: BaseException) -> None:
        """A background task crashed, and with it the service."""
        if self._reason is not None or self._phase in {"teardown", "over"}:
            self._incarnation.aside(error, "another error, after the first one")
            return
        self._reason = crashed(error)
        self.stopping = True
        self._limits().cancel()
        self._incarnation.mailbox.wake()

    @trio.lowlevel.enable_ki_protection
    async def read(self) -> Envelope | None:
        """The next message of a `run`; None when it is to stop. What was read before is done."""
        self.check_reads()
        self.check_life()
        if self._reading:
            raise trio.BusyResourceError(
                f"another task of {self._incarnation.path} reads its mailbox"
            )
        mailbox = self._incarnation.mailbox
        mailbox.reads += 1
        if mailbox.in_hand is not None:
            mailbox.done(mailbox.in_hand, None)
        self._reading = True
        try:
            while not self.stopping:
                envelope = await mailbox.take(self._incarnation.number)
                if envelope is not None:
                    if self.stopping:
                        mailbox.give_back([envelope])
                        break
                    return envelope
        except BaseException:
            if mailbox.feeder is not None:
                mailbox.feeder.resting()
            raise
        finally:
            self._reading = False
        await trio.lowlevel.checkpoint()
        return None

    # --- the life -------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """See `Life.run`."""
        incarnation = self._incarnation
        sender.set(incarnation.cell)
        handling.set(incarnation.cell)
        instance: Service | None = None
        reason: ExitReason | None = None
        app = incarnation.application
        if app.kind.is_loop:
            incarnation.mailbox.reads = 0
        try:
            if not app.kind.is_function:
                instance = incarnation.build(self)
                if app.kind.has_setup:
                    await self._set_up(instance)
            value: Any = None
            if not self._is_cut():
                if not self.stopping:
                    # Setup is over: it is started, and only a stop limits it now.
                    self._phase = "work"
                    incarnation.started()
                    if instance is None or app.kind.has_run:
                        value = await self._loop(instance)
                    else:
                        begun = await self._handle(instance, None)
                        if begun is not None:
                            with self._limits():
                                await self._handle(instance, begun)
                elif self._told or self._reason is not None:
                    self._phase = "work"  # its setup has finished: that is torn down (L5)
            if not self._is_cut():
                # It came to its end: because it was told to, or by itself.
                reason = Stopped() if self._told else Completed(value)
        except BaseException as error:  # noqa: ASYNC103
            if is_passing(error):
                raise
            reason = crashed(error)
        if self._reason is not None:
            if isinstance(reason, Crashed):
                incarnation.aside(reason.exception, "another error, after the first one")
            reason = self._reason
        elif reason is None:
            reason = self._why_cut()
        # Not kept: this frame is one of the exception's, and as it runs its locals stay (L2).
        ending = self._end(instance, reason)
        instance = value = None
        await ending

    def _finish(self) -> None:
        """A `run` returned, and was not cut off: the message that it read last is done."""
        mailbox = self._incarnation.mailbox
        if mailbox.in_hand is not None:
            mailbox.done(mailbox.in_hand, None)

    async def _set_up(self, instance: Service) -> None:
        begun = trio.current_time()
        result = instance.setup()
        if isinstance(result, CoroutineType):
            scope = self._limits()
            scope.deadline = begun + self._incarnation.application.start_timeout
            with scope:
                await result
            if not scope.cancelled_caught:
                self._scope = None
                if scope.cancel_called and not self.stopping:
                    # It made something else of its cancellation, but its time was up (L3).
                    self.stopping = True
                    self._reason = TimedOut("setup")

    def _is_cut(self) -> bool:
        """Whether what was awaited was cancelled, and did not come to its end."""
        return self._scope is not None and self._scope.cancelled_caught

    async def _loop(self, instance: Service | None) -> Any:
        """A function, or a `run` of the service's own; what it returns."""
        app = self._incarnation.application
        value = app.target(*app.args) if instance is None else instance.run()
        if isinstance(value, CoroutineType):
            with self._limits():
                value = await value
        if instance is not None and self._reason is None and not self._is_cut():
            self._finish()
        return value

    @trio.lowlevel.enable_ki_protection
    async def _handle(
        self, instance: Service, begun: tuple[Envelope, Any] | None
    ) -> tuple[Envelope, Any] | None:
        """One message at a time. What is waiting is taken without a reschedule for each.

        Args:
            instance: whose handlers.
            begun: a message, and what is to be awaited of it; this runs in a scope then.

        Returns:
            The first message of which something is to be awaited, if this runs in no scope.
        """
        mailbox = self._incarnation.mailbox
        number = self._incarnation.number
        batch = budget = mailbox.batch
        scoped = begun is not None
        while begun is not None or not self.stopping:
            if begun is not None:
                (envelope, result), begun = begun, None
            else:
                if not mailbox.waiting:
                    budget = batch - 1
                    found = mailbox.found(await mailbox.find(), number)
                    if found is not None and self.stopping:
                        mailbox.give_back((found,))
                        break
                elif budget:
                    budget -= 1
                    found = mailbox.take_nowait(number)
                else:
                    await trio.lowlevel.checkpoint()
                    budget = batch
                    continue
                if found is None:
                    continue
                envelope = found
                try:
                    handler, kwargs = getattr(instance, envelope.name), envelope.kwargs
                    # An empty `**` would be merged into a new dict all the same.
                    result = (
                        handler(*envelope.args, **kwargs) if kwargs else handler(*envelope.args)
                    )
                except Rejection as error:
                    mailbox.reject(envelope, error)
                    continue
            if type(result) is CoroutineType:
                if not scoped:
                    return envelope, result
                try:
                    result = await result
                except Rejection as error:
                    mailbox.reject(envelope, error)
                    continue
            mailbox.done(envelope, result)
        return None

    def _why_cut(self) -> ExitReason:
        """Its own scope was cancelled: by whom, and in which phase."""
        phase = self._phase
        if phase == "setup":
            if self._told:
                return Stopped()
            return TimedOut("setup")
        if not self._told:
            return Completed()
        if self._forced or self._is_deaf():
            return Stopped()
        return TimedOut("handler")

    async def _end(self, instance: Service | None, reason: ExitReason) -> None:
        """Account for what is in hand, end what runs beside, tear down, report."""
        incarnation = self._incarnation
        app = incarnation.application
        working = self._phase == "work"
        self._phase = "teardown"
        self.stopping = True
        incarnation.account_for((), reason, self._final)
        incarnation.ending(reason)
        if not isinstance(reason, Stopped):
            # A stop's time runs already; an own end has the declared grace to tear down.
            self._deadline = min(self._deadline, trio.current_time() + app.grace)
            self._forced |= app.grace == 0
        if self._background:
            self._alone = trio.Event()
            for scope in list(self._background):
                scope.cancel()
            await self._alone.wait()
        if instance is not None and working and app.kind.has_teardown and not self._forced:
            reason = await self._tear_down(instance, reason)
        self._phase = "over"
        self.close(lambda: self.broken_promise(reason, self._final))
        incarnation.exited(reason)

    async def _tear_down(self, instance: Service, reason: ExitReason) -> ExitReason:
        error: BaseException | None = None
        scope = self._scope = trio.CancelScope(deadline=self._deadline)
        try:
            with scope:
                result: Any = instance.teardown(reason)
                if isinstance(result, CoroutineType):
                    await result
        except BaseException as caught:  # noqa: ASYNC103
            if is_passing(caught):
                raise
            error = caught
        if error is not None:
            if isinstance(reason, Completed):
                return crashed(error)
            self._incarnation.aside(error, "teardown failed")
        elif scope.cancelled_caught and (
            isinstance(reason, Completed) or (isinstance(reason, Stopped) and not self._forced)
        ):
            return TimedOut("teardown")
        return reason
