"""What actors tell each other: exit reasons, and the notifications that observers get (L2, O1)."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from .._errors import RemoteError
from ._describe import describe

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Completed:
    """It ended by itself, normally.

    Attributes:
        value: what a function or `run` returned; any value is a value, None too.
    """

    value: object = None

    def __repr__(self) -> str:
        return f"Completed(value={describe(self.value)})"


@dataclass(frozen=True, slots=True)
class Stopped:
    """It was stopped: by request, by its supervisor's strategy or with its host."""


@dataclass(frozen=True, slots=True)
class Crashed:
    """An exception ended it.

    Attributes:
        exception: the user's own exception, without the runtime's groups.
    """

    exception: BaseException
    _text: Callable[[], str] | str = field(default="", repr=False, compare=False)

    def __repr__(self) -> str:
        return f"Crashed(exception={describe(self.exception)})"

    def __reduce__(self) -> tuple[Callable[..., Crashed], tuple[object, ...]]:
        # What makes the text stays where the frames are (L2). What cannot be brought over must
        # not keep the rest of a message from it (P4).
        error = self.exception
        try:
            pickled = pickle.dumps(error)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: ASYNC103
            pickled = b""
        return _revive, (pickled, type(error).__qualname__, text_of(error), self.traceback_text)

    @property
    def traceback_text(self) -> str:
        """The traceback as text, made when it is first read; at once, it would double a restart."""
        if not isinstance(self._text, str):
            object.__setattr__(self, "_text", self._text())
        assert isinstance(self._text, str)
        return self._text


def text_of(error: BaseException) -> str:
    """An exception's own text, bounded; of an exception whose text raises, what it is."""
    try:
        return str.__str__(str(error))[:10_000]  # a subclass of str can override what comes next
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: ASYNC103
        return describe(error)  # noqa: ASYNC104


def _revive(pickled: bytes, name: str, text: str, traceback_text: str) -> Crashed:
    """A `Crashed` that came from another process, or from this one."""
    try:
        error = pickle.loads(pickled)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: ASYNC103
        error = None
    if not isinstance(error, BaseException):
        error = RemoteError(name, text, traceback_text)
    return Crashed(error, traceback_text)


@dataclass(frozen=True, slots=True)
class Killed:
    """Its process is gone.

    Attributes:
        status: the exit status; negative: a signal; None when somebody else took it.
    """

    status: int | None = None


@dataclass(frozen=True, slots=True)
class TimedOut:
    """It was cut off because a time was up.

    Attributes:
        phase: ``setup``, ``handler``, ``teardown`` or ``hang``.
    """

    phase: str


@dataclass(frozen=True, slots=True)
class Abandoned:
    """Its thread did not stop within the grace and was left behind, fenced off.

    Attributes:
        phase: ``setup``, ``handler`` or ``teardown``.
    """

    phase: str = "handler"


@dataclass(frozen=True, slots=True)
class GaveUp:
    """It exceeded a restart window of its own (``on_limit="drop"``).

    Attributes:
        last: how its last incarnation ended.
    """

    last: ExitReason


ExitReason: TypeAlias = Completed | Stopped | Crashed | Killed | TimedOut | Abandoned | GaveUp


def is_failure(reason: ExitReason) -> bool:
    """Whether an end is abnormal (OTP: anything but normal and shutdown)."""
    return not isinstance(reason, Completed | Stopped)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """Something that happened to an actor, as observers see it.

    Attributes:
        path: whose it is.
        incarnation: which of its lives, counted from 1 (0: before the first).
        sequence: its place among all notifications of the host, counted from 1.
        time: the host's clock, in seconds.
    """

    path: str
    incarnation: int
    sequence: int
    time: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Starting(Notification):
    """An incarnation begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started(Notification):
    """Its `setup` has finished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping(Notification):
    """It has begun to end: a reason is recorded, or it was told to stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exited(Notification):
    """All of the incarnation is gone.

    Attributes:
        reason: why.
    """

    reason: ExitReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Restarting(Notification):
    """It will be started again.

    Attributes:
        delay: seconds until then.
        attempt: restarts in a row, this one included, since the backoff last started over.
    """

    delay: float
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended(Notification):
    """It is over, for good unless somebody starts it.

    Attributes:
        reason: why.
    """

    reason: ExitReason


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter(Notification):
    """A message that will not be handled.

    Attributes:
        message: a bounded description of it.
        why: in words.
    """

    message: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed(Notification):
    """A reader of events was too slow.

    Attributes:
        count: notifications that it did not get.
    """

    count: int
