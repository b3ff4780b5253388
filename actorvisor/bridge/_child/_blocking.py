"""A worker without a loop: a service whose handlers block, in the process's main thread.

Whoever waits for something reads the connection, if nobody else does: the main thread while it
waits for mail or for an answer, else a background thread that waits for an answer.
"""

from __future__ import annotations

import contextvars
import inspect
import logging
import select
import threading
from collections.abc import Callable, Iterator, Mapping
from threading import get_ident
from types import CoroutineType
from typing import TYPE_CHECKING, Any

import trio

from ..._core._describe import describe
from ..._core._messages import Completed, Crashed, ExitReason, Stopped
from ..._errors import Rejection
from ..._runtime._envelope import Envelope
from ..._runtime._incarnation import crashed
from ..._runtime._inside import check_monitor, checked_timer, current, refuse_promise
from ..._runtime._kind import is_async
from ..._runtime._waits import handling, sender
from .. import _ledger as ledger
from .._wire import _frames as f
from ._mail import Mail, Taken
from ._port import leave
from ._refs import RemoteMailbox
from ._station import (
    IDLE,
    LogHandler,
    RemotePromise,
    RemoteTimer,
    Station,
    WorkerIncarnation,
    job_in,
)

if TYPE_CHECKING:
    import outcome

    from ..._runtime._blocking import Blocking
    from ..._runtime._declaration import Application
    from ..._runtime._ref import Ref, SupervisorRef
    from ...abc import Service
    from .._job import Job
    from .._wire._codec import Draft
    from .._wire._frames import Frame
    from ._port import Port
    from ._refs import RemoteCell


class Answer:
    """What a thread waits for.

    Attributes:
        result: None until it has come.
    """

    __slots__ = ("result",)

    def __init__(self) -> None:
        self.result: outcome.Outcome[Any] | None = None

    def answer(self, result: outcome.Outcome[Any]) -> bool:
        """It has come."""
        self.result = result
        return True

    def end_wait(self) -> None:
        """Who waits is known to the host's end."""


def serve(port: Port, stand_by: Callable[[], None]) -> None:
    """Wait for a job, and carry it out in this thread.

    Args:
        port: the connection.
        stand_by: called if none comes for a while.
    """
    if not select.select((port.sock,), (), (), IDLE)[0]:
        stand_by()
    frames: list[Frame] = []
    while not frames:
        try:
            frames = port.receive(block=True)
        except (EOFError, OSError):
            leave()  # nobody needs this process any more
    station = BlockingStation(port, job_in(port, frames[0]))
    application = station.open()
    if application is not None:
        station.work(application, frames[1:])


class BlockingStation(Station):
    """The hub of a worker without a loop."""

    def __init__(self, port: Port, job: Job) -> None:
        super().__init__(port, job)
        self.lock: Any = threading.RLock()
        self.mail: Mail = Mail(port, job.path, self.kick)
        self._reader = threading.Condition(threading.Lock())
        self._reading = False
        # Threads that wait while another one reads.
        self._others = 0

    def work(self, application: Application[Any], early: list[Frame]) -> None:
        """Carry an incarnation out in this thread."""
        self.dispatch(early)
        logging.getLogger().handlers[:] = [LogHandler(self, self._log)]
        BlockingLife(self, application).run()

    def _log(self, payload: bytes) -> None:
        self.frame(f.LOG, 0, payload)

    def frame(
        self, kind: int, number: int, payload: bytes | Draft = b"", urgent: bool = False
    ) -> None:
        """See `Station.frame`; nobody would send it later, so it is sent now."""
        with self.lock:
            self.port.frame(kind, number, payload)
            self.port.flush_all()

    def kick(self) -> None:
        """Send what is framed."""
        with self.lock:
            self.port.flush_all()

    def stop_seen(self, final: bool, grace: float) -> None:
        """See `Station.stop_seen`: its life looks at what is stored."""

    def start_thread(self, function: Callable[[], object]) -> Callable[[], object]:
        """Run something in a thread beside the main one; what waits for its end."""
        thread = threading.Thread(target=function, daemon=True)
        thread.start()
        return thread.join

    def wait(self, ready: Callable[[], object]) -> None:
        """Wait until something has come, and take in all that comes meanwhile."""
        reader = self._reader
        with reader:
            while not ready():
                if self._reading:
                    self._others += 1
                    reader.wait()
                    self._others -= 1
                    continue
                self._reading = True
                reader.release()
                try:
                    frames = self.port.receive(block=True)
                except (EOFError, OSError):
                    leave()
                finally:
                    reader.acquire()
                    self._reading = False
                self.dispatch(frames)
                if self._others:
                    reader.notify_all()
            if self._others:
                reader.notify_all()  # somebody else has to read now

    def sync_call(self, call: str, cell: RemoteCell, *args: Any) -> Any:
        """See `Station.sync_call`."""
        answer = Answer()
        self.request(call, cell, args, answer)
        self.wait(lambda: answer.result is not None)
        assert answer.result is not None
        return answer.result.unwrap()

    async def call(self, call: str, cell: RemoteCell, *args: Any) -> Any:
        """See `Station.call`."""
        raise RuntimeError(f"{self.job.path} has no loop; {call}() is for services that have one")

    def blocking(
        self, ref: Blocking[Any], call: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """See `Station.blocking`."""
        target = ref._ref
        mailbox: Any = target._mailbox
        assert isinstance(mailbox, RemoteMailbox)
        if call == "send":
            mailbox.post_blocking(Envelope("receive", args, {}))
            return None
        called = target._kind.method(args[0])
        called.check(args[1:], kwargs)
        answer: Any = Answer() if call == "ask" else None
        mailbox.post_blocking(Envelope(called.name, args[1:], kwargs, answer))
        if answer is None:
            return None
        self.wait(lambda: answer.result is not None)
        return answer.result.unwrap()


class BlockingReader:
    """A service's mail, for a `run` that blocks."""

    __slots__ = ("_life",)

    def __init__(self, life: BlockingLife) -> None:
        self._life = life

    def __iter__(self) -> Iterator[Any]:
        while (taken := self._life.read()) is not None:
            yield taken.args[0]

    def __aiter__(self) -> Any:
        raise TypeError("this service has no loop: read its mailbox with a plain `for`")

    def receive(self) -> Any:
        """The next message.

        Raises:
            trio.EndOfChannel: the service is to stop.
        """
        taken = self._life.read()
        if taken is None:
            raise trio.EndOfChannel
        return taken.args[0]


class BlockingLife:
    """One incarnation in the main thread of its process; it is the inside of its service, too."""

    def __init__(self, station: BlockingStation, application: Application[Any]) -> None:
        self._station = station
        self._app = application
        self._mail = station.mail
        self._words = station.port.ledger.words
        self._lock = station.lock
        self._incarnation = WorkerIncarnation(station, application, station.mail)
        self._service: Service | None = None
        self._stopped = False
        self._set_up = False
        self._reason: ExitReason | None = None
        self._thread = 0
        # What waits for the end of each background thread.
        self._joins: list[Callable[[], object]] = []
        self._reading = False

    # --- the inside -----------------------------------------------------------------------

    @property
    def ref(self) -> Ref[Any]:
        """The service's own."""
        return self._station.face

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop, or has told so itself."""
        return self._stopped or self._told

    @property
    def _told(self) -> bool:
        return bool(self._words[ledger.STOPPING])

    @property
    def mailbox(self) -> BlockingReader:
        """The mail, for a `run`."""
        if not self._app.kind.has_run:
            raise RuntimeError(
                f"{self._station.job.path} has handlers, which get its mail; "
                "`mailbox` is for a run() of its own"
            )
        return BlockingReader(self)

    def check_life(self) -> None:
        """Refuse a service whose life is over.

        Raises:
            RuntimeError: it is.
        """
        if self._station.closed:
            raise RuntimeError(f"this life of {self._station.job.path} has ended")

    def find(self, path: str, kind: type[Any]) -> Ref[Any] | SupervisorRef:
        """See `Service.find`."""
        found: Ref[Any] = self._station.sync_call("find", self._station.own, path, kind)
        return found

    def start_soon(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """See `Service.start_soon`."""
        if is_async(function) or not callable(function):
            raise TypeError(
                f"start_soon() takes a plain function under ProcessExecutor, not {function!r}"
            )
        try:
            inspect.signature(function).bind(*args)
        except TypeError as error:
            raise TypeError(
                f"start_soon() cannot call {describe(function)} with {describe(args)}: {error}"
            ) from None
        except ValueError:
            pass  # some builtins have no signature; calling them will tell
        if self._reason is not None:
            raise RuntimeError(f"{self._station.job.path} is ending; it starts nothing more")
        context = contextvars.copy_context()
        context.run(handling.set, None)
        self._joins.append(
            self._station.start_thread(lambda: context.run(self._beside, function, args))
        )

    def _beside(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        try:
            function(*args)
        except BaseException as error:  # noqa: ASYNC103
            if not self._settle(crashed(error)):
                self._incarnation.aside(error, "another error, after the first one")

    def after(
        self, delay: float, period: float | None, method: Any, args: Any, kwargs: Any
    ) -> RemoteTimer:
        """See `Service.after` and `Service.every`."""
        self.check_life()
        name = checked_timer(self, self._app.kind, delay, period, method, args, kwargs)
        return self._station.timer(delay, period, name, args, kwargs)

    def stop(self) -> None:
        """See `Service.stop`."""
        self._stopped = True
        if get_ident() != self._thread:
            self._station.frame(f.ECHO, 0)  # the main thread may wait for mail

    def monitor(self, ref: Any) -> None:
        """See `Service.monitor`."""
        self.check_life()
        check_monitor(self._app.kind, ref)
        self._station.sync_call("monitor", ref._cell)

    def reply_later(self) -> RemotePromise:
        """See `Service.reply_later`."""
        self.check_life()
        taken = self._mail.in_hand
        if taken is None or not taken.asked:
            refuse_promise()
        taken.asked = False
        return self._station.promise(taken.number)

    def heartbeat(self) -> None:
        """See `Service.heartbeat`."""
        self._words[ledger.BEATS] += 1

    # --- the life -------------------------------------------------------------------------

    def run(self) -> None:
        """Carry it out, from the factory to the end of teardown; a user's exception ends here."""
        self._thread = get_ident()
        cell: Any = self._station.own
        sender.set(cell)
        handling.set(cell)
        current.set(self)
        self._words[ledger.BUSY] = 1
        self.heartbeat()
        try:
            reason = self._live()
        except BaseException as error:  # noqa: ASYNC103 - nothing is cancelled here
            reason = crashed(error)
        if isinstance(reason, Completed) and self._told:
            reason = Stopped()
        if not self._settle(reason) and isinstance(reason, Crashed):
            self._incarnation.aside(reason.exception, "another error, after the first one")
        assert self._reason is not None
        for join in self._joins:
            join()
        reason = self._reason
        forced = self._app.grace == 0 and not isinstance(reason, Stopped)
        torn_down = self._app.kind.has_teardown and self._set_up and not forced
        if self._service is not None and torn_down:
            reason = self._tear_down(self._service, reason)
        self._words[ledger.BUSY] = 0
        self._incarnation.exited(reason)

    def _settle(self, reason: ExitReason) -> bool:
        """The reason is known, if none was before; whether it counts."""
        with self._station.lock:
            if self._reason is not None:
                return False
            self._incarnation.account_for((), reason, False)
            self._reason = reason
            self._stopped = True
            self._incarnation.ending(reason)
        if get_ident() != self._thread:
            self._station.frame(f.ECHO, 0)
        return True

    def _live(self) -> ExitReason:
        app, incarnation = self._app, self._incarnation
        if app.kind.is_function:
            return Completed(app.target(*app.args) if self._up() else None)
        service = self._service = incarnation.build(self)
        if app.kind.has_setup:
            service.setup()
        if not self._up():
            return Completed()
        if app.kind.has_run:
            value = service.run()
            if self._mail.in_hand is not None and self._reason is None:
                self._mail.done(self._mail.in_hand, None)  # it was not cut off
            return Completed(value)
        self._handle(service)
        return Completed()

    def _up(self) -> bool:
        """Setup has finished; whether the work may begin."""
        declined = self._stopped and not self._told and self._reason is None
        self._set_up = not declined
        if self.stopping:
            return False
        self._incarnation.started()
        return True

    def _next(self) -> Taken | None:
        """The next message; None when it is to stop."""
        mail, words = self._mail, self._words
        while not (self._stopped or words[ledger.STOPPING]):
            if mail.waiting:
                with self._lock:
                    if self._reason is not None:
                        break  # a background thread's crash: what waits has gone back
                    # That a message is taken up is stored, and is a sign of life, too.
                    taken = mail.take_up()
                if taken is not None:
                    return taken
            else:
                with self._lock:
                    mail.acknowledge()
                words[ledger.BUSY] = 0
                self._station.wait(self._has_news)
                words[ledger.BEATS] += 1
                words[ledger.BUSY] = 1
        return None

    def _has_news(self) -> object:
        """Whether a message waits, or it is to stop."""
        return self._mail.waiting or self._stopped or self._words[ledger.STOPPING]

    def read(self) -> Taken | None:
        """As `_next`, for a `run`: what was read before is done."""
        self.check_life()
        if self._reading:
            raise trio.BusyResourceError(
                f"another thread of {self._station.job.path} reads its mailbox"
            )
        self._reading = True
        try:
            with self._station.lock:
                if self._reason is None:
                    self._mail.read()
            return self._next()
        finally:
            self._reading = False

    def _handle(self, service: Service) -> None:
        """One message at a time, until it is to stop."""
        mail, words = self._mail, self._words
        # A `with` would look both up for each message, which takes longer than to call them.
        acquire, release = self._lock.acquire, self._lock.release
        result: Any
        rejected: Rejection | None
        taken = self._next()
        while taken is not None:
            result = rejected = None
            try:
                handler, kwargs = getattr(service, taken.name), taken.kwargs
                # An empty `**` would be merged into a new dict all the same.
                result = handler(*taken.args, **kwargs) if kwargs else handler(*taken.args)
            except Rejection as error:
                rejected = error
            if type(result) is CoroutineType:
                result.close()
                raise TypeError(
                    f"{type(service).__name__}.{taken.name} returned a coroutine, "
                    "which nothing awaits in this process"
                )
            acquire()
            try:
                if self._reason is not None:
                    return  # it was blamed for a background thread's crash
                if rejected is not None:
                    mail.reject(taken, rejected)
                else:
                    mail.done(taken, result)
                # The next one under the same lock: another time took a tenth of a message.
                ready = mail.waiting and not (self._stopped or words[ledger.STOPPING])
                taken = mail.take_up() if ready else None
            finally:
                release()
            if taken is None:
                result = rejected = None  # not kept while it waits
                taken = self._next()

    def _tear_down(self, service: Service, reason: ExitReason) -> ExitReason:
        try:
            service.teardown(reason)
        except BaseException as error:  # noqa: ASYNC103 - nothing is cancelled here
            if isinstance(reason, Completed):
                return crashed(error)  # noqa: ASYNC104
            self._incarnation.aside(error, "teardown failed")
        return reason
