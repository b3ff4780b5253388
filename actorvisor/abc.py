"""What users implement or plug in: services, and places to run them.

`Service` is what everybody writes. `Executor`, `Place` and `Life` are for who brings a new place
to run services (a cluster, a subinterpreter); the conformance suite in `actorvisor.testing` tells
whether it keeps the contract.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar, TypeVarTuple, Unpack, overload

if TYPE_CHECKING:
    from typing import Self

    import trio

    from ._core._messages import ExitReason
    from ._errors import Rejection
    from ._runtime._declaration import Supervisor
    from ._runtime._incarnation import Incarnation
    from ._runtime._inside import MailReader
    from ._runtime._mailbox import Mailbox, Post
    from ._runtime._ref import Ref, SupervisorRef

_S = TypeVar("_S", bound="Service")
_Ts = TypeVarTuple("_Ts")


class Timer(Protocol):
    """What `Service.after` and `Service.every` give: a handle of what will happen."""

    def cancel(self) -> None:
        """It will not happen (any more); nothing if it has already."""


class LaterReply(Protocol):
    """What `Service.reply_later` gives: a promise to answer after the handler has returned."""

    def send(self, value: Any) -> None:
        """Answer with a value.

        Raises:
            RuntimeError: it was answered already, or its service has ended.
        """

    def reject(self, error: Rejection) -> None:
        """Answer with an error that is no crash.

        Raises:
            RuntimeError: it was answered already, or its service has ended.
        """


class Inside(Protocol):
    """What a service can do from inside; every life gives its instance one of these."""

    @property
    def ref(self) -> Ref[Any]:
        """See `Service.ref`."""
        ...

    @property
    def mailbox(self) -> MailReader:
        """See `Service.mailbox`."""
        ...

    @property
    def stopping(self) -> bool:
        """See `Service.stopping`."""
        ...

    def find(self, path: str, kind: type[Any]) -> Any:
        """See `Service.find`."""

    def start_soon(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """See `Service.start_soon`."""

    def after(
        self, delay: float, period: float | None, method: Any, args: Any, kwargs: Any
    ) -> Timer:
        """See `Service.after` and `Service.every`."""
        ...

    def stop(self) -> None:
        """See `Service.stop`."""

    def monitor(self, ref: Ref[Any] | SupervisorRef) -> None:
        """See `Service.monitor`."""

    def reply_later(self) -> LaterReply:
        """See `Service.reply_later`."""
        ...

    def heartbeat(self) -> None:
        """See `Service.heartbeat`."""


class Service:
    """An actor: state, handlers, background tasks. Subclass it.

    Each public method is a handler: ``ref.ask(Counter.add, 1)`` calls it on the instance, one
    message at a time. Every incarnation is a fresh instance. Override what you need of `setup`,
    `teardown`, `receive` and `run`; each may be a plain method or, under executors with a loop,
    an ``async`` one.
    """

    _actorvisor_inside: Inside | None = None

    def setup(self) -> Any:
        """Called before the first message; when it has finished, the service is started.

        What it raises is a failed start, or, on a restart, a crash.
        """

    def teardown(self, reason: ExitReason) -> Any:
        """Called at the end of every life whose `setup` finished, also after a crash.

        Args:
            reason: why this life ends.
        """

    def receive(self, message: Any) -> Any:
        """Called with what `Ref.send` sent, and with notifications of what it monitors."""
        raise NotImplementedError

    def run(self) -> Any:
        """Override it to be a loop of your own that reads `mailbox`, or nothing.

        What it returns is the value of its `Completed`.
        """
        raise NotImplementedError

    @property
    def _inside(self) -> Inside:
        inside = self._actorvisor_inside
        if inside is None:
            raise RuntimeError(
                f"this {type(self).__name__} is not run by a host: start it with "
                f"host.start(Application({type(self).__name__}, ...))"
            )
        return inside

    @property
    def ref(self) -> Ref[Self]:
        """A ref to this service itself."""
        return self._inside.ref

    @property
    def mailbox(self) -> MailReader:
        """The mail, for a `run` of your own."""
        return self._inside.mailbox

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop; long handlers in threads look at it."""
        return self._inside.stopping

    @overload
    def find(self, path: str, kind: type[_S]) -> Ref[_S]: ...
    @overload
    def find(self, path: str, kind: type[Supervisor]) -> SupervisorRef: ...

    def find(self, path: str, kind: type[Any]) -> Ref[Any] | SupervisorRef:
        """A ref to another actor, by its path: absolute, or relative to this one.

        Args:
            path: such as ``host/ingest/parser`` or ``../parser``.
            kind: the class that it must be; `Supervisor` for one.

        Raises:
            LookupError: there is no such actor.
            TypeError: it is of another class.
        """
        found: Ref[Any] | SupervisorRef = self._inside.find(path, kind)
        return found

    def start_soon(self, function: Callable[[Unpack[_Ts]], Any], *args: *_Ts) -> None:
        """Run a background task of this life; its crash is the service's crash.

        Args:
            function: async under executors with a loop; plain, and run in a thread of its
                own, under the others.
            *args: what it is called with.
        """
        self._inside.start_soon(function, args)

    def after(self, delay: float, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Timer:
        """Call one of this service's methods later, as a message that takes no room.

        Args:
            delay: seconds from now.
            method: a method of its class, or a bound one of itself.
            *args: what it is called with.
            **kwargs: what it is called with.

        Returns:
            A handle with ``cancel()``.
        """
        return self._inside.after(delay, None, method, args, kwargs)

    def every(self, period: float, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Timer:
        """Call one of this service's methods again and again, first after one period.

        A call is left out while the one before still waits: a slow service is not flooded.

        Args:
            period: seconds, more than 0.
            method: a method of its class, or a bound one of itself.
            *args: what it is called with.
            **kwargs: what it is called with.

        Returns:
            A handle with ``cancel()``.
        """
        return self._inside.after(period, period, method, args, kwargs)

    def stop(self) -> None:
        """End this life normally, once the handler has returned; never waits.

        The end is its own (`Completed`): a permanent service is restarted, as in OTP. In `setup`
        it declines: it is not started, and not restarted.
        """
        self._inside.stop()

    def monitor(self, ref: Ref[Any] | SupervisorRef) -> None:
        """Get the notifications of another actor in `receive`, or from `mailbox`.

        Over restarts of both, until either has ended for good. Twice is once.

        Raises:
            TypeError: this class has neither a `receive` nor a `run`.
        """
        self._inside.monitor(ref)

    def reply_later(self) -> LaterReply:
        """Answer the ask in hand after its handler has returned.

        Raises:
            RuntimeError: what is in hand is no ask, or its answer was promised already.
        """
        return self._inside.reply_later()

    def heartbeat(self) -> None:
        """Say that a long handler is well, in a process that is watched (``hang_timeout``).

        Nothing under other executors, or when nobody watches.
        """
        self._inside.heartbeat()


class Life(ABC):
    """One incarnation, as an executor carries it out."""

    __slots__ = ()

    @property
    @abstractmethod
    def incarnation(self) -> Incarnation:
        """What it carries out."""

    @abstractmethod
    async def run(self) -> None:
        """Carry it out, from the factory to the end of teardown; it runs in a task of its own.

        It calls ``incarnation.started()`` when setup has finished, ``incarnation.ending(reason)``
        when a reason to end is known, and ``incarnation.exited(reason)`` last of all, when nothing
        of it is left. A user's exception never leaves it. If it is cancelled from outside, the
        executor is failing: it lets that pass. It needs the mark of
        `trio.lowlevel.enable_ki_protection`, for a Ctrl-C in it would be its executor's failure.
        """

    @abstractmethod
    def stop_life(self, final: bool, grace: float) -> None:
        """Begin to end; never waits. It may be called again with less grace.

        Args:
            final: whether it is for good; else it is for a restart.
            grace: seconds until it is ended by force; 0: at once, and without teardown.
        """

    def lost(self, reason: ExitReason) -> None:  # noqa: B027 - nothing to do is an answer
        """The executor failed under it, and its task is gone: break promises, drop timers."""


class Place(ABC):
    """An executor at work, under one supervisor."""

    @abstractmethod
    def begin(self, incarnation: Incarnation) -> Life:
        """A life for one incarnation; it has not begun to run.

        Args:
            incarnation: what is to be carried out, and where to report.
        """


class Executor(ABC):
    """Where services run: a frozen value, usable any number of times.

    One actor stands for each distinct value under one supervisor.

    Attributes:
        has_loop: whether async handlers fit.
        has_thread: whether a sync function or a sync `run` fits: it may block.
        is_remote: whether services run in another process than their host.
    """

    has_loop: ClassVar[bool]
    has_thread: ClassVar[bool]
    is_remote: ClassVar[bool] = False

    def mailbox(self, path: str, capacity: int, overflow: str, post: Post) -> Mailbox | None:
        """The mail of a service that runs here, or None for the usual one.

        Args:
            path: whose it is.
            capacity: messages that may wait.
            overflow: ``wait`` or ``drop_oldest``.
            post: who is told of dead letters.
        """
        return None

    @abstractmethod
    def open(self, nursery: trio.Nursery) -> AbstractAsyncContextManager[Place]:
        """Make what the services under one supervisor share; left when the last has ended.

        Args:
            nursery: the executor actor's: background tasks of lives belong in it.
        """
