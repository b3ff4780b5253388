"""What a worker's service is connected to: its mail, other actors, answers, timers, logging."""

from __future__ import annotations

import logging
import math
import os
from abc import ABC, abstractmethod
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final

import outcome

from ..._core import _commands as c
from ..._core._describe import describe
from ..._core._messages import Completed
from ..._errors import Rejection, RemoteError
from ..._runtime._commons import numbers
from ..._runtime._incarnation import Incarnation, crashed
from ..._runtime._kind import kind_of
from ..._runtime._logging import traceback_text
from ..._runtime._ref import Ref, SupervisorRef, make_ref
from ..._runtime._waits import handling
from .. import _ledger as ledger, _memory
from .._job import Job
from .._wire import _frames as f
from ._refs import RemoteCell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ..._core._messages import ExitReason
    from ..._core._spec import Verdict
    from ..._runtime._blocking import Blocking
    from ..._runtime._declaration import Application
    from ..._runtime._envelope import Reply
    from .._wire._codec import Draft
    from .._wire._frames import Frame
    from ._mail import Mail
    from ._port import Port

IDLE: Final = 0.02
"""Seconds without a job after which a worker takes it that it stands by."""

_TEXT: Final = 10_000


def job_in(port: Port, frame: Frame) -> Job:
    """The job that a frame brings; this process logs from now on what its host does."""
    job = Job(*_memory.decode(port.codec, frame[2]))
    root = logging.getLogger()
    if root.level != job.log_level:
        root.setLevel(job.log_level)
    return job


class Station(ABC):
    """The hub of a worker; to refs it stands for what the actors of a host share.

    Attributes:
        port: the connection.
        job: what this worker carries out.
        cells: the identities of other actors that are known here, by number.
        mail: what came for the service.
        identity: the host's.
        thread: the thread of its loop; 0 where there is none.
        sends: messages sent on its loop.
        lock: held while something is framed.
    """

    def __init__(self, port: Port, job: Job) -> None:
        self.port: Port = port
        self.job: Job = job
        self.cells: dict[int, RemoteCell] = {}
        self._words = port.ledger.words
        self.mail: Mail
        self.identity: bytes = job.host
        self.thread: int = 0
        self.sends: int = 0
        self.lock: Any = nullcontext()
        self.closed = False
        self._timers = 0

    def open(self) -> Application[Any] | None:
        """What is to be carried out; None if it cannot be loaded here, which is its end."""
        self.settle_in()
        try:
            application: Application[Any] = self.port.codec.decode(self.job.application)
        except BaseException as error:  # noqa: ASYNC103 - nothing is cancelled here
            payload = self._encode_end(crashed(error), None)
            self.port.frame(f.ENDING, 0, payload)
            self.port.frame(f.EXIT, 0, payload)
            self.port.flush_all()
            return None  # noqa: ASYNC104
        self.ref(self.job.identity, self.job.path, application.kind.target)
        return application

    def settle_in(self) -> None:
        """Refs that come to this process work by this connection from now on."""
        numbers.station = self

    # --- frames ---------------------------------------------------------------------------

    @abstractmethod
    def frame(
        self, kind: int, number: int, payload: bytes | Draft = b"", urgent: bool = False
    ) -> None:
        """Frame something, and see to it that it is sent soon; at once if it is urgent."""

    @abstractmethod
    def sync_call(self, call: str, cell: RemoteCell, *args: Any) -> Any:
        """Have the host's end do something, and block for its answer, which comes soon."""

    @abstractmethod
    async def call(self, call: str, cell: RemoteCell, *args: Any) -> Any:
        """Have the host's end do something that may take its time."""

    @abstractmethod
    def blocking(
        self, ref: Blocking[Any], call: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """What `Ref.blocking` does."""

    @abstractmethod
    def stop_seen(self, final: bool, grace: float) -> None:
        """The service is told to stop."""

    def look(self) -> bool:
        """Whether the service is told to stop; looked at before each message."""
        words = self._words
        told = words[ledger.STOPPING]
        if not told:
            return False
        grace = words[ledger.GRACE]
        self.stop_seen(told > 1, math.inf if grace == ledger.FOREVER else grace / 1_000_000)
        return True

    def dispatch(self, frames: list[Frame]) -> None:
        """Take in what came."""
        mail: list[Frame] = []
        for frame in frames:
            kind, number, payload, _ = frame
            match kind:
                case f.TELLS:
                    mail += payload
                case f.ASK | f.TELL:
                    mail.append(frame)
                case f.ANSWER | f.ERROR:
                    self._answer(kind, number, payload)
                case f.CREDIT:
                    mailbox = self.cells[number].mailbox
                    assert mailbox is not None
                    mailbox.limit += int.from_bytes(payload, "little")
                case f.CLOSED:
                    mailbox = self.cells[number].mailbox
                    assert mailbox is not None
                    mailbox.limit = mailbox.waiting
                case f.STOP:
                    self.look()
                case f.WAKE:
                    self.mail.cancelled.discard(number)
                case _:
                    raise EOFError(f"a {f.name_of(kind)} is not for a service")
        self.mail.arrive(*mail)

    def _answer(self, kind: int, number: int, payload: Any) -> None:
        waiter: Reply = self.port.end.answered.pop(number)
        codec = self.port.codec
        try:
            if kind == f.ERROR:
                result: outcome.Outcome[Any] = outcome.Error(codec.decode_error(payload))
            else:
                result = outcome.Value(_memory.decode(codec, payload))
        except Exception as error:
            text = f"an answer could not be decoded: {error}"
            result = outcome.Error(
                RemoteError(type(error).__qualname__, text, traceback_text(error))
            )
        waiter.answer(result)

    def request(self, call: str, cell: RemoteCell, args: tuple[Any, ...], reply: Any) -> int:
        """Frame a call; the number of its request."""
        payload = self.port.codec.encode((call, args), f"{call} of {cell.path}")
        with self.lock:
            number = self.port.end.request(reply)
            waits = handling.get() is not None
            self.frame(f.CALL, f.request_number(number, cell.number, waits), payload, True)
        return number

    # --- other actors ---------------------------------------------------------------------

    def ref(self, number: int, path: str, target: Any) -> Ref[Any] | SupervisorRef:
        """A ref to an actor of the host's process."""
        cell = self.cells.get(number)
        if cell is None:
            cell = self.cells[number] = RemoteCell(number, path, target, self)
        return make_ref(cell, None if target is None else kind_of(target), cell.mailbox)

    def name_of(self, cell: RemoteCell) -> tuple[bytes, int]:
        """What names an actor in a ref that is sent on."""
        return self.identity, cell.number

    # --- what the service can do from inside ----------------------------------------------

    @property
    def own(self) -> RemoteCell:
        """The service's own identity."""
        return self.cells[self.job.identity]

    @property
    def face(self) -> Ref[Any]:
        """A ref to what others see of the service: itself, or the pool that it is a member of."""
        job, target = self.job, self.own.declaration
        ref: Ref[Any] = self.ref(job.face, job.face_path, target)  # type: ignore[assignment]
        return ref

    def timer(
        self, delay: float, period: float | None, name: str, args: Any, kwargs: Any
    ) -> RemoteTimer:
        """Set a timer; the host's end keeps it, and sends the message."""
        self._timers += 1
        number = self._timers
        codec, what = self.port.codec, f"{name} of a timer"
        call = codec.encode((name, args, kwargs, number), what)
        payload = codec.encode((delay, period, name, call), what) if type(call) is bytes else call
        if type(payload) is not bytes:
            raise ValueError(f"{what}: its arguments are too large for a timer; keep them instead")
        with self.lock:
            self.frame(f.TIMER, number, payload, True)
        return RemoteTimer(self, number)

    def promise(self, number: int) -> RemotePromise:
        """Promise an answer to a message."""
        with self.lock:
            self.frame(f.LATER, number, b"", True)
        return RemotePromise(self, number)

    # --- its life -------------------------------------------------------------------------

    def put(self, report: c.ChildUp | c.ChildEnding | c.ChildExit) -> None:
        """What an incarnation reports."""
        with self.lock:
            match report:
                case c.ChildUp():
                    self.port.ledger.words[ledger.PHASE] = ledger.WORK
                    self.frame(f.UP, 0, b"", True)
                case c.ChildEnding(reason=reason):
                    self.port.ledger.words[ledger.PHASE] = ledger.TEARDOWN
                    self.mail.acknowledge()
                    self.frame(f.ENDING, 0, self._encode_end(reason, None), True)
                case c.ChildExit(reason=reason, verdict=verdict):
                    self.closed = True
                    self.frame(f.EXIT, 0, self._encode_end(reason, verdict), True)
                    self.port.flush_all()

    def _encode_end(self, reason: ExitReason, verdict: Verdict | None) -> bytes | Draft:
        try:
            return self.port.codec.encode((reason, verdict), "its end")
        except TypeError as error:
            # Only a value can be at fault: what crashed is brought over in any case.
            assert isinstance(reason, Completed)
            value = RemoteError(type(reason.value).__qualname__, str(error))
            return self.port.codec.encode((Completed(value), verdict), "its end")


class RemoteTimer:
    """A timer's handle in a worker."""

    def __init__(self, station: Station, number: int) -> None:
        self._station = station
        self._number = number

    def cancel(self) -> None:
        """It will not happen; nothing if it has already."""
        self._station.mail.cancelled.add(self._number)
        with self._station.lock:
            self._station.frame(f.CANCEL, self._number, b"", True)


class RemotePromise:
    """A promised answer, in a worker."""

    def __init__(self, station: Station, number: int) -> None:
        self._station = station
        self._number = number
        self._open = True

    def send(self, value: object) -> None:
        """Answer with a value."""
        self._close()
        with self._station.lock:
            self._station.mail.reply(self._number, value)

    def reject(self, error: Rejection) -> None:
        """Answer with an error that is no crash."""
        if not isinstance(error, Rejection):
            raise TypeError(f"reject() takes a Rejection, not {describe(error)}")
        self._close()
        with self._station.lock:
            self._station.mail.reject_reply(self._number, error)

    def _close(self) -> None:
        if not self._open or self._station.closed:
            raise RuntimeError("this ask was answered already, or its service has ended")
        self._open = False


class WorkerIncarnation(Incarnation):
    """One life, as it is carried out in its worker: it reports over the connection."""

    __slots__ = ()

    def __init__(self, station: Station, application: Application[Any], mailbox: Any) -> None:
        self.cell = station.own  # type: ignore[assignment]
        self.application = application
        self.mailbox = mailbox
        self.number = station.job.incarnation
        self.came_up = False
        self.over = False
        self._interrupt = None
        self._reports = station  # type: ignore[assignment]

    def account_for(self, envelopes: Iterable[Any], reason: ExitReason, final: bool) -> None:
        """What was not finished is settled at the host's end, by what is stored (P3)."""
        taken = self.mailbox.in_hand
        if taken is not None and isinstance(reason, Completed):
            self.mailbox.done(taken, None)

    def _note_interrupt(self, error: BaseException) -> None:
        """In a process a Ctrl-C is a crash like any other (M9)."""


class LogHandler(logging.Handler):
    """Hands what is logged here to the host's logging (O5)."""

    def __init__(self, station: Station, send: Callable[[bytes], None]) -> None:
        super().__init__()
        self._send = send
        self._codec = station.port.codec
        self._fields = {"path": station.job.path, "incarnation": station.job.incarnation}

    def emit(self, record: logging.LogRecord) -> None:
        """Send it, in bounded text."""
        try:
            text = record.getMessage()[:_TEXT]
            if record.exc_info and record.exc_info[1] is not None:
                text += "\n" + traceback_text(record.exc_info[1])[-_TEXT:]
            extra = {
                key: value[:_TEXT] if isinstance(value, str) else value
                for key, value in vars(record).items()
                if key not in _STANDARD and isinstance(value, str | int | float | bool | None)
            }
            fields = {
                **self._fields,
                **extra,
                "name": record.name,
                "levelno": record.levelno,
                "levelname": record.levelname,
                "msg": text,
                "created": record.created,
                "pathname": record.pathname,
                "lineno": record.lineno,
                "funcName": record.funcName,
                "process": os.getpid(),
                "processName": record.processName,
                "thread": record.thread,
                "threadName": record.threadName,
            }
            payload = self._codec.encode(fields, "a log record")
            if type(payload) is bytes:
                self._send(payload)
        except Exception:
            self.handleError(record)


_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
