"""Services in threads: each incarnation has a thread of its own, and may block in it.

The thread asks, the loop answers: everything that counts happens by synchronous calls on the
loop, one at a time. The thread itself holds no state that anybody else looks at, so that it can
be left behind at any moment.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import math
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from threading import get_ident
from types import CoroutineType
from typing import TYPE_CHECKING, Any, ClassVar, final

import outcome
import trio

from .._core._checks import check_count
from .._core._messages import Abandoned, Completed, Crashed, ExitReason, Stopped
from .._errors import Rejection, ServiceAbandoned, ThreadLimitReached
from .._runtime._channel import Channel
from .._runtime._crossing import Answers, Crossing, crossing
from .._runtime._incarnation import Incarnation, clear_frames, crashed
from .._runtime._inside import Bench, Promise, current
from .._runtime._kind import is_async
from .._runtime._logging import logger
from .._runtime._timers import Timer, Timers
from .._runtime._waits import fence, handling, sender
from ..abc import Executor, Life, Place

if TYPE_CHECKING:
    from .._runtime._declaration import Application
    from .._runtime._envelope import Envelope
    from .._runtime._ref import Ref, SupervisorRef
    from ..abc import Service


@final
@dataclass(frozen=True, slots=True)
class ThreadExecutor(Executor):
    """Runs each service in a thread of its own; handlers are plain methods and may block.

    A stop is cooperative: a wait for mail ends at once, a busy handler is let finish, and one that
    looks at `Service.stopping` can end early. A thread that has not ended after its grace is
    abandoned: whatever it still does through its service raises `ServiceAbandoned`.

    Attributes:
        max_threads: threads that the services under one supervisor may have at a time, those of
            `Service.start_soon` included; None: any number. One more is a failed start.
    """

    max_threads: int | None = None

    has_loop: ClassVar[bool] = False
    has_thread: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.max_threads is not None:
            check_count("ThreadExecutor(max_threads=)", self.max_threads, least=1)

    @asynccontextmanager
    async def open(self, nursery: trio.Nursery) -> AsyncGenerator[Place, None]:
        """A limiter of its own: trio's default one has 40 tokens, for everybody; no checkpoint."""
        yield ThreadPlace(self, nursery)


class ThreadPlace(Place):
    """The threads of one supervisor's services.

    Attributes:
        threads: how many there are, abandoned ones not counted.
    """

    def __init__(self, executor: ThreadExecutor, nursery: trio.Nursery) -> None:
        self._executor = executor
        self.nursery = nursery
        self.timers = Timers(nursery)
        self.threads = 0
        # The count is ours: trio's would keep an abandoned thread's token.
        self.limiter = trio.CapacityLimiter(math.inf)

    def begin(self, incarnation: Incarnation) -> ThreadLife:
        """A life in a thread."""
        return ThreadLife(incarnation, self)

    def claim(self, incarnation: Incarnation) -> None:
        """Count one more thread, or refuse it.

        Raises:
            ThreadLimitReached: there are as many as there may be, or too many abandoned ones.
        """
        commons = incarnation.cell.commons
        if commons.abandoned > commons.max_abandoned:
            raise ThreadLimitReached(incarnation.path, commons.max_abandoned, "abandoned")
        limit = self._executor.max_threads
        if limit is not None and self.threads >= limit:
            raise ThreadLimitReached(incarnation.path, limit, "running")
        self.threads += 1


class _Thread:
    """One thread of a life.

    Attributes:
        result: how it ended; None before.
        left: whether it was left behind.
    """

    __slots__ = ("left", "result")

    def __init__(self) -> None:
        self.result: outcome.Outcome[Any] | None = None
        self.left = False


class ThreadInside:
    """What a service in a thread can do from inside: each call goes through the loop.

    Attributes:
        stopping: whether it was told to stop, or has told so itself; also for a thread that was
            left behind, so that it ends.
        abandoned: whether it was left behind.
        crossing: how its threads and its host's loop reach each other.
    """

    def __init__(self, life: ThreadLife) -> None:
        self.crossing: Crossing = crossing.get()
        self._life = life
        self._token = trio.lowlevel.current_trio_token()
        self._loop_thread = get_ident()
        self.stopping = False
        self.abandoned = False

    @property
    def ref(self) -> Ref[Any]:
        """The service's own; fenced like all that goes through its service."""
        self.check_fence()
        return self._life.ref

    def check_fence(self) -> None:
        """Refuse what a thread that was left behind still sends (L8); for any loop.

        Raises:
            ServiceAbandoned: it was.
        """
        if self.abandoned:
            raise ServiceAbandoned(self._life.path)

    def ask(self, function: Callable[[Answers], None]) -> Any:
        """Let the loop do something that puts its answer where we wait for it.

        Raises:
            ServiceAbandoned: the thread was left behind.
            RuntimeError: it is the loop itself that asks: it would wait for itself.
        """
        self.check_fence()
        if get_ident() == self._loop_thread:
            raise RuntimeError(
                f"{self._life.path} runs in a thread: what its service can do from inside is not "
                "for the host's loop, which it would block for ever"
            )
        try:
            answer = self.crossing.call(self._token, self._life.hear, function)
        except trio.RunFinishedError:
            raise ServiceAbandoned(self._life.path) from None
        return answer.unwrap()

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Let the loop call a function, and wait for what it returns."""
        return self.ask(lambda answers: answers.put(outcome.capture(function, *args)))

    @property
    def mailbox(self) -> ThreadMail:
        """The mail, for a `run`."""
        self._life.check_reads()
        return ThreadMail(self, self._life)

    def find(self, path: str, kind: type[Any]) -> Ref[Any]:
        """See `Service.find`."""
        found: Ref[Any] = self.call(self._life.find, path, kind)
        return found

    def start_soon(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """See `Service.start_soon`."""
        if is_async(function) or not callable(function):
            raise TypeError(
                f"start_soon() takes a plain function under ThreadExecutor, not {function!r}"
            )
        context = contextvars.copy_context()
        self.call(self._life.start_background, context, function, args)

    def after(
        self, delay: float, period: float | None, method: Any, args: Any, kwargs: Any
    ) -> ThreadTimer:
        """See `Service.after` and `Service.every`."""
        return ThreadTimer(self, self.call(self._life.after, delay, period, method, args, kwargs))

    def stop(self) -> None:
        """See `Service.stop`."""
        self.call(self._life.stop_self)

    def monitor(self, ref: Ref[Any] | SupervisorRef) -> None:
        """See `Service.monitor`."""
        self.call(self._life.monitor, ref)

    def heartbeat(self) -> None:
        """See `Service.heartbeat`: only a process is watched."""

    def reply_later(self) -> ThreadReply:
        """See `Service.reply_later`."""
        return ThreadReply(self, self.call(self._life.reply_later))


class ThreadTimer:
    """A timer's handle for a thread."""

    def __init__(self, inside: ThreadInside, timer: Timer) -> None:
        self._inside = inside
        self._timer = timer

    def cancel(self) -> None:
        """It will not happen; nothing if it has already."""
        self._inside.call(self._timer.cancel)


class ThreadReply:
    """A promised answer, for a thread."""

    def __init__(self, inside: ThreadInside, promise: Promise) -> None:
        self._inside = inside
        self._promise = promise

    def send(self, value: object) -> None:
        """Answer with a value."""
        self._inside.call(self._promise.send, value)

    def reject(self, error: Rejection) -> None:
        """Answer with an error that is no crash."""
        self._inside.call(self._promise.reject, error)


class ThreadMail:
    """A service's mail, for a `run` in a thread."""

    __slots__ = ("_inside", "_life")

    def __init__(self, inside: ThreadInside, life: ThreadLife) -> None:
        self._inside = inside
        self._life = life

    def __iter__(self) -> Iterator[Any]:
        while (envelope := self._inside.ask(self._life.read)) is not None:
            yield envelope.args[0]

    def __aiter__(self) -> Any:
        raise TypeError("this service runs in a thread: read its mailbox with a plain `for`")

    def receive(self) -> Any:
        """The next message.

        Raises:
            trio.EndOfChannel: the service is to stop.
        """
        envelope = self._inside.ask(self._life.read)
        if envelope is None:
            raise trio.EndOfChannel
        return envelope.args[0]


class ThreadLife(Bench, Life):
    """One incarnation: a task on the loop that holds its thread, and does what that asks for.

    Attributes:
        told: whether it was told to stop from outside.
    """

    def __init__(self, incarnation: Incarnation, place: ThreadPlace) -> None:
        super().__init__(incarnation, place.timers)
        self._place = place
        self._inside = ThreadInside(self)
        self.told = False
        self._final = False
        self._forced = False
        # What the thread does: setup, handler or teardown.
        self._phase = "setup"
        # Whether setup has finished, so that there is something to tear down (L5).
        self._set_up = False
        # Whether only the runtime's own code is left to run in the thread: no time limits that.
        self._leaving = False
        self._over = False
        # The wait for the thread, and when it is given up.
        self._wait = trio.CancelScope()
        # Invariant: once it is set, what was in hand is accounted for.
        self._reason: ExitReason | None = None
        # Errors that came after the reason.
        self._late_errors: list[BaseException] = []
        # Who waits for the next message, and hands over to the reader's task.
        self._wanted: Channel[Answers] = Channel()
        self._waiting: Answers | None = None
        # Threads of start_soon that have not ended, and who waits for that.
        self._background = 0
        self._alone: Answers | None = None
        self._nursery: trio.Nursery | None = None

    @property
    def path(self) -> str:
        """Whose life it is."""
        return self._incarnation.path

    @property
    def inside(self) -> ThreadInside:
        """What its instance was given; this life itself is for the loop only."""
        return self._inside

    # --- from the executor ----------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    def stop_life(self, final: bool, grace: float) -> None:
        """See `Life.stop_life`."""
        self.told = True
        self._final |= final
        self._forced |= grace == 0
        self._inside.stopping = True
        if grace == 0 and self._is_idle():
            self._leaving = True  # it ends at once by itself: it runs no teardown
        if not self._leaving:
            self._wait.deadline = min(self._wait.deadline, trio.current_time() + grace)
        self._incarnation.mailbox.wake()

    def _is_idle(self) -> bool:
        """Whether no user's code runs in it: it waits for mail, or is about to."""
        incarnation = self._incarnation
        busy = self._phase != "handler" or incarnation.mailbox.in_hand is not None
        settled = self._reason is not None  # then what was in hand is in hand no more
        return not (busy or settled or self._background or incarnation.application.kind.is_loop)

    def lost(self, reason: ExitReason) -> None:
        """See `Life.lost`."""
        self._abandon()
        self.close(lambda: self.broken_promise(reason, self._final))

    # --- from the thread, on the loop -----------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    def hear(self, function: Callable[[Answers], None], answers: Answers) -> None:
        """Do what the thread asks for, unless it was left behind meanwhile.

        Invariant: every call is answered, now or by `_read_mail`, `_answer_alone` or `_abandon`.
        """
        # Its time may be up while nobody has done anything about that yet.
        if self._inside.abandoned or self._wait.cancel_called:
            answers.put(outcome.Error(ServiceAbandoned(self.path)))
        elif self._over:
            error = RuntimeError(f"this life of {self.path} has ended; what it was is of no use")
            answers.put(outcome.Error(error))
        else:
            try:
                function(answers)
            except Exception as error:
                answers.put(outcome.Error(error))

    def up(self) -> bool:
        """Setup has finished; whether the work may begin."""
        declined = self._inside.stopping and not self.told and self._reason is None
        self._set_up = not declined
        if self._inside.stopping:
            return False
        self._phase = "handler"
        self._wait.deadline = math.inf
        self._incarnation.started()
        return True

    def stop_self(self) -> None:
        """The service itself wants to end, after what it has in hand."""
        self._inside.stopping = True
        self._incarnation.mailbox.wake()

    def next(self, answers: Answers) -> None:
        """Answer with the next message, as soon as there is one; None when it is to stop."""
        mailbox = self._incarnation.mailbox
        while not self._inside.stopping and mailbox.waiting:
            envelope = mailbox.take_nowait(self._incarnation.number)
            if envelope is not None:
                answers.put(outcome.Value(envelope))
                return
        if self._inside.stopping:
            answers.put(outcome.Value(None))
        else:
            self._waiting = answers
            self._wanted.put(answers)

    def read(self, answers: Answers) -> None:
        """As `next`, for a `run`: what was read before is done."""
        if self._waiting is not None:
            raise trio.BusyResourceError(f"another thread of {self.path} reads its mailbox")
        mailbox = self._incarnation.mailbox
        mailbox.reads += 1
        if mailbox.in_hand is not None:
            mailbox.done(mailbox.in_hand, None)
        self.next(answers)

    def finish(self, envelope: Envelope, result: outcome.Outcome[Any], answers: Answers) -> None:
        """A handler has returned or rejected: account for it, and go on to the next message."""
        mailbox = self._incarnation.mailbox
        if envelope is mailbox.in_hand:  # else it was blamed for a background thread's crash
            if isinstance(result, outcome.Error):
                mailbox.reject(envelope, result.error)
            else:
                mailbox.done(envelope, result.unwrap())
        self.next(answers)

    def ending(self, reason: ExitReason, answers: Answers) -> None:
        """The work is over: account for it; answer once the background threads have ended too.

        The answer is the reason for `teardown`, or None when there is to be none.
        """
        self._phase = "teardown"
        if self._reason is None:
            mailbox = self._incarnation.mailbox
            if isinstance(reason, Completed):
                if mailbox.in_hand is not None:  # a `run` returned: that was not cut off
                    mailbox.done(mailbox.in_hand, None)
                if self.told:
                    reason = Stopped()
            self._settle(reason)
        elif isinstance(reason, Crashed):
            self._aside(reason.exception, "another error, after the first one")
        if self._background:
            self._alone = answers
        else:
            self._answer_alone(answers)

    def _settle(self, reason: ExitReason) -> None:
        """The reason is known: blame the message in hand, and limit the time that is left."""
        self._reason = reason
        self._inside.stopping = True
        self._incarnation.account_for((), reason, self._final)
        self._incarnation.ending(reason)
        if not isinstance(reason, Stopped):
            # A stop's time runs already; an own end has the declared grace to tear down.
            grace = self._incarnation.application.grace
            self._forced |= grace == 0
            self._wait.deadline = min(self._wait.deadline, trio.current_time() + grace)

    def _answer_alone(self, answers: Answers) -> None:
        has_teardown = self._incarnation.application.kind.has_teardown
        torn_down = has_teardown and self._set_up and not self._forced
        if not torn_down:
            self._leaving = True
            self._wait.deadline = math.inf
        answers.put(outcome.Value(self._reason if torn_down else None))

    def torn_down(self, error: BaseException) -> None:
        """Teardown raised: it counts only after a normal end (L5)."""
        if isinstance(self._reason, Completed):
            self._reason = crashed(error)
        else:
            self._aside(error, "teardown failed")

    def _aside(self, error: BaseException, what: str) -> None:
        self._incarnation.aside(error, what)
        self._late_errors.append(error)

    # --- background threads ---------------------------------------------------------------

    def start_background(
        self, context: contextvars.Context, function: Callable[..., Any], args: tuple[Any, ...]
    ) -> None:
        """Run a plain function in a thread of its own, beside the service's."""
        if self._reason is not None or self._nursery is None:
            raise RuntimeError(f"{self.path} is ending; it starts nothing more")
        self._place.claim(self._incarnation)
        self._background += 1
        context.run(handling.set, None)
        context.run(self._nursery.start_soon, self._run_background, function, args)

    @trio.lowlevel.enable_ki_protection
    async def _run_background(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        thread = _Thread()
        await self._hold(thread, functools.partial(function, *args))
        self._background -= 1
        if isinstance(thread.result, outcome.Error):
            self._crash(thread.result.error)
        if self._alone is not None and not self._background:
            answers, self._alone = self._alone, None
            self._answer_alone(answers)

    def _crash(self, error: BaseException) -> None:
        """A background thread crashed, and with it the service."""
        if self._reason is None:
            self._settle(crashed(error))
            self._incarnation.mailbox.wake()
        else:
            self._aside(error, "another error, after the first one")

    async def _hold(self, thread: _Thread, function: Callable[[], Any]) -> None:
        """Run something in a thread until it ends, or until it is left behind.

        The place has counted the thread already; what is left behind is counted by the host.
        """
        place, commons, path = self._place, self._incarnation.cell.commons, self.path

        def ended(result: outcome.Outcome[Any]) -> None:
            thread.result = result
            if thread.left:
                commons.abandoned -= 1
                logger.info("an abandoned thread of %s has ended", path)

        made = False
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            made = True  # nothing can cancel it between here and there
            await self._inside.crossing.run(function, ended, limiter=place.limiter, name=path)
        except (OSError, RuntimeError) as error:  # no thread could be made (L3)
            thread.result = outcome.Error(error)
        except trio.Cancelled:
            if made and thread.result is None:
                thread.left = True
                commons.abandoned += 1
            raise
        finally:
            place.threads -= 1

    # --- the life, on the loop ------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """See `Life.run`."""
        incarnation, app = self._incarnation, self._incarnation.application
        sender.set(incarnation.cell)
        handling.set(incarnation.cell)
        fence.set(self._inside.check_fence)
        current.set(self._inside)
        if app.kind.is_loop:
            incarnation.mailbox.reads = 0
        try:
            await self._run_thread(app)
        except BaseException:
            # Its executor is failing, and nobody would answer the thread any more.
            self._abandon()
            raise
        self._over = True
        reason = self._reason
        assert reason is not None
        for error in self._late_errors:
            clear_frames(error)
        self.close(lambda: self.broken_promise(reason, self._final))
        incarnation.exited(reason)

    async def _run_thread(self, app: Application[Any]) -> None:
        if self.told:
            self._reason = Stopped()
            return
        try:
            self._place.claim(self._incarnation)
        except ThreadLimitReached as error:
            self._reason = crashed(error)
            return
        thread = _Thread()
        self._wait.deadline = trio.current_time() + app.start_timeout
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._read_mail)
            with self._wait:
                await self._hold(thread, functools.partial(_thread_main, self._inside, self, app))
            if isinstance(thread.result, outcome.Error) and self._reason is None:
                self._settle(crashed(thread.result.error))
            elif thread.result is None or self._background or self._reason is None:
                self._give_up()
            self._nursery = None
            nursery.cancel_scope.cancel()

    def _give_up(self) -> None:
        """It has not ended in time: fence it off, and go on without it (L8)."""
        self._abandon()
        if self._reason is None:
            self._settle(Abandoned(self._phase))
        elif not isinstance(self._reason, Crashed):  # what crashed first stays the reason
            self._reason = Abandoned(self._phase)
        logger.error(
            "%s: a thread did not end in time (in its %s) and was abandoned",
            self.path,
            self._phase,
            extra={"path": self.path, "incarnation": self._incarnation.number},
        )

    def _abandon(self) -> None:
        self._inside.abandoned = self._inside.stopping = True
        for answers in (self._waiting, self._alone):
            if answers is not None:
                answers.put(outcome.Error(ServiceAbandoned(self.path)))
        self._waiting = self._alone = None

    @trio.lowlevel.enable_ki_protection
    async def _read_mail(self) -> None:
        """Wait for mail in the thread's stead."""
        mailbox = self._incarnation.mailbox
        while True:
            answers = await self._wanted.take()
            envelope: Envelope | None = None
            while envelope is None and not self._inside.stopping:
                envelope = await mailbox.take(self._incarnation.number)
            if envelope is not None and self._inside.stopping:
                mailbox.give_back([envelope])
                envelope = None
            if answers is self._waiting:
                self._waiting = None
                answers.put(outcome.Value(envelope))


# --- in the thread ------------------------------------------------------------------------


def _thread_main(inside: ThreadInside, life: ThreadLife, app: Application[Any]) -> None:
    """All of an incarnation's life that is the user's code; it raises nothing of that."""
    service: Service | None = None
    try:
        if app.kind.is_function:
            reason: ExitReason = _call_function(inside, life, app)
        else:
            service = life._incarnation.build(inside)
            reason = _serve(inside, life, app, service)
    except BaseException as error:  # noqa: ASYNC103 - nothing is cancelled in a thread
        reason = crashed(error)
    with contextlib.suppress(ServiceAbandoned):
        last: ExitReason | None = inside.ask(functools.partial(life.ending, reason))
        if last is not None and service is not None:
            _tear_down(inside, life, service, last)


def _tear_down(
    inside: ThreadInside, life: ThreadLife, service: Service, reason: ExitReason
) -> None:
    try:
        service.teardown(reason)
    except BaseException as error:  # noqa: ASYNC103 - nothing is cancelled in a thread
        inside.call(life.torn_down, error)


def _call_function(inside: ThreadInside, life: ThreadLife, app: Application[Any]) -> ExitReason:
    if not inside.call(life.up):
        return Completed()
    return Completed(app.target(*app.args))


def _serve(
    inside: ThreadInside, life: ThreadLife, app: Application[Any], service: Service
) -> ExitReason:
    """The normal end; the loop knows whether it was told to."""
    if app.kind.has_setup:
        service.setup()
    if not inside.call(life.up):
        return Completed()
    if app.kind.has_run:
        return Completed(service.run())
    envelope: Envelope | None = inside.ask(life.next)
    while envelope is not None:
        result = _handle(service, envelope)
        envelope = inside.ask(functools.partial(life.finish, envelope, result))
    return Completed()


def _handle(service: Service, envelope: Envelope) -> outcome.Outcome[Any]:
    try:
        result = getattr(service, envelope.name)(*envelope.args, **envelope.kwargs)
    except Rejection as error:
        return outcome.Error(error)
    if type(result) is CoroutineType:
        result.close()
        raise TypeError(
            f"{type(service).__name__}.{envelope.name} returned a coroutine, "
            "which nothing awaits in a thread"
        )
    return outcome.Value(result)
