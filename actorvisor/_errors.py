"""Every error that actorvisor raises: flat, one root, each with its data as attributes.

Misuse that is the caller's bug (a wrong type, a wrong value) is a plain `TypeError` or
`ValueError`; what is below is what the world, a service or a race can do to correct code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._core._messages import ExitReason


class ActorvisorError(Exception):
    """The root of every error that actorvisor raises by itself."""


class ServiceStopped(ActorvisorError):
    """The service has ended for good, or is being stopped and takes nothing from outside.

    Attributes:
        path: the path of the service.
        reason: why it ended, or None while it is still stopping.
    """

    def __init__(self, path: str, reason: ExitReason | None = None, note: str = "") -> None:
        super().__init__(path, reason, note)
        self.path = path
        self.reason = reason
        self.note = note

    def __str__(self) -> str:
        if self.note:
            return f"{self.path} {self.note}"
        if self.reason is None:
            return f"{self.path} is stopping and takes no more messages"
        return f"{self.path} has ended for good: {self.reason}"


class ServiceCrashed(ActorvisorError):
    """The service crashed with this message in hand; ``__cause__`` is the user's own exception.

    Attributes:
        path: the path of the service.
        reason: how that incarnation ended.
    """

    def __init__(self, path: str, reason: ExitReason) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path} ended with this message in hand: {self.reason}"


class ServiceAbandoned(ActorvisorError):
    """Raised inside a thread whose incarnation was given up on: nothing it does counts any more.

    Attributes:
        path: the path of the service.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"this thread of {self.path} did not stop in time and was abandoned; let it return"


class MailboxFull(ActorvisorError):
    """The mailbox has no room; the message was not accepted (or, for an ask, was dropped).

    Attributes:
        path: the path of the service.
        capacity: messages that its mailbox holds.
    """

    def __init__(self, path: str, capacity: int) -> None:
        super().__init__(path, capacity)
        self.path = path
        self.capacity = capacity

    def __str__(self) -> str:
        return f"the mailbox of {self.path} is full ({self.capacity} messages)"


class Rejection(ActorvisorError):
    """An answer that is an error but no crash: raise a subclass of it in a handler.

    It reaches the asker as it is, and the service goes on.
    """


class WaitCycle(ActorvisorError):
    """A call that would wait for itself.

    Attributes:
        chain: the paths that wait for each other; the first is the last too.
        verbs: in words, how each waits for the next: ``asks``, ``waits for the end of`` ...
    """

    def __init__(self, chain: tuple[str, ...], verbs: tuple[str, ...]) -> None:
        super().__init__(chain, verbs)
        self.chain = chain
        self.verbs = verbs

    def __str__(self) -> str:
        steps = [f" {verb} {path}" for verb, path in zip(self.verbs, self.chain[1:], strict=True)]
        return (
            f"this would wait for itself for ever: {self.chain[0]}{''.join(steps)}; "
            "use tell, self.stop(), or start_soon for what must wait"
        )


class ControlRefused(ActorvisorError):
    """A start, restart or other control call that cannot be carried out now.

    Attributes:
        path: the path of what was to be controlled.
        why: in words: ``already running``, ``restarting``, ``no such child`` ...
    """

    def __init__(self, path: str, why: str) -> None:
        super().__init__(path, why)
        self.path = path
        self.why = why

    def __str__(self) -> str:
        return f"{self.path}: {self.why}"


class StartTimeout(ActorvisorError):
    """`setup` took longer than ``start_timeout``.

    Attributes:
        path: the path of the service.
        seconds: the limit, in seconds.
    """

    def __init__(self, path: str, seconds: float) -> None:
        super().__init__(path, seconds)
        self.path = path
        self.seconds = seconds

    def __str__(self) -> str:
        return (
            f"{self.path} was not up after start_timeout={self.seconds:g} seconds; "
            "make setup faster or declare a longer start_timeout"
        )


class StartFailed(ActorvisorError):
    """A start ended without an exception of the user's own to raise.

    Attributes:
        path: the path of what was to be started.
        reason: how it ended.
    """

    def __init__(self, path: str, reason: ExitReason) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path} did not start: {self.reason}"


class RestartLimitExceeded(ActorvisorError):
    """More restarts than ``max_restarts`` within ``within`` seconds (OTP's restart intensity).

    Attributes:
        path: whose limit it was.
        last_reason: how the last incarnation ended.
    """

    def __init__(self, path: str, last_reason: ExitReason) -> None:
        super().__init__(path, last_reason)
        self.path = path
        self.last_reason = last_reason

    def __str__(self) -> str:
        return f"{self.path} was restarted too often; the last end: {self.last_reason}"


class ExecutorFailed(ActorvisorError):
    """An executor failed, and with it every incarnation that it carried.

    Attributes:
        executor: the repr of the executor.
    """

    def __init__(self, executor: str) -> None:
        super().__init__(executor)
        self.executor = executor

    def __str__(self) -> str:
        return f"{self.executor} failed"


class ThreadLimitReached(ActorvisorError):
    """A thread service could not start: too many threads, or too many abandoned ones.

    Attributes:
        path: the path of the service.
        limit: how many there may be.
        what: ``running`` or ``abandoned``.
    """

    def __init__(self, path: str, limit: int, what: str) -> None:
        super().__init__(path, limit, what)
        self.path = path
        self.limit = limit
        self.what = what

    def __str__(self) -> str:
        return f"{self.path} needs a thread, and there are {self.limit} {self.what} ones already"


class ProcessLimitReached(ActorvisorError):
    """A process service could not start: there are as many processes as there may be.

    Attributes:
        path: the path of the service.
        limit: how many there may be.
    """

    def __init__(self, path: str, limit: int) -> None:
        super().__init__(path, limit)
        self.path = path
        self.limit = limit

    def __str__(self) -> str:
        return f"{self.path} needs a process, and there are {self.limit} already (max_processes)"


class RemoteError(ActorvisorError):
    """Stands for an exception or a value of another process that cannot be brought over.

    Attributes:
        type_name: the name of its class.
        text: its own text.
        traceback_text: its traceback as text, or what kept it from being brought over.
    """

    def __init__(self, type_name: str, text: str, traceback_text: str = "") -> None:
        super().__init__(type_name, text, traceback_text)
        self.type_name = type_name
        self.text = text
        self.traceback_text = traceback_text

    def __str__(self) -> str:
        return f"{self.type_name}: {self.text}"


class RemoteTraceback(ActorvisorError):
    """The cause of an exception that was raised in another process: its traceback there, as text.

    Attributes:
        traceback_text: the traceback.
    """

    def __init__(self, traceback_text: str) -> None:
        super().__init__(traceback_text)
        self.traceback_text = traceback_text

    def __str__(self) -> str:
        return f"in another process\n{self.traceback_text}"


class ConnectionLost(ActorvisorError):
    """The connection to a worker process broke, or carried what it must not; the worker is killed.

    Attributes:
        path: the path of the service.
        what: what was wrong, in words.
    """

    def __init__(self, path: str, what: str) -> None:
        super().__init__(path, what)
        self.path = path
        self.what = what

    def __str__(self) -> str:
        return f"the connection to the process of {self.path} was lost: {self.what}"
