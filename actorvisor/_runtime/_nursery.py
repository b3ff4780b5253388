"""The supervised nursery: a trio nursery whose tasks are restarted (H7)."""

from __future__ import annotations

import contextvars
import dataclasses
import math
import random as random_module
from collections.abc import Awaitable, Callable, Coroutine
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, TypeVarTuple, Unpack, final

import trio

from .._core import _commands as c
from .._core._backoff import Backoff, Immediate
from .._core._describe import describe
from .._core._ids import check_name, free_name
from .._core._messages import Completed, Crashed, ExitReason
from .._core._spec import MAX_RESTARTS, WITHIN, ChildSpec, Restart, SupervisorSpec
from .._core._supervision import Phase, Supervision
from .._errors import RestartLimitExceeded
from ._events import build
from ._incarnation import clear_frames, crashed
from ._kind import name_of
from ._logging import NotificationLog, log_bug, wanted
from ._origin import add_note

if TYPE_CHECKING:
    from types import TracebackType

NAME: Final = "nursery"
_Ts = TypeVarTuple("_Ts")


class _Child:
    """A function that was started, over all its lives.

    Attributes:
        key: its name in the nursery's decisions; no other child ever has it.
        name: unique among those that are in the nursery.
        function: what was started.
        args: what it is called with.
        takes_status: whether it is called with a ``task_status`` besides.
        context: what each of its lives runs in a copy of.
        adopted: whether its first life has begun to be a task of the nursery.
    """

    __slots__ = ("adopted", "args", "context", "function", "key", "name", "takes_status")

    def __init__(
        self,
        key: str,
        name: str,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        *,
        status: bool,
    ) -> None:
        self.key: str = key
        self.name: str = name
        self.function: Callable[..., Any] = function
        self.args: tuple[Any, ...] = args
        self.takes_status: bool = status
        self.context: contextvars.Context = contextvars.copy_context()
        self.adopted = False

    @trio.lowlevel.disable_ki_protection
    def call(self, **kwargs: Any) -> Any:
        """The coroutine of one life."""
        if self.takes_status:
            kwargs.setdefault("task_status", trio.TASK_STATUS_IGNORED)
        result = self.function(*self.args, **kwargs)
        if not isinstance(result, Coroutine):
            raise TypeError(
                f"a nursery starts async functions, and {describe(self.function)} gave "
                f"{describe(result)}; use trio.to_thread.run_sync for what blocks"
            )
        return result


class _Status:
    """Hears that a task has started, and passes it on."""

    def __init__(self, status: trio.TaskStatus[Any], started: Callable[[], None]) -> None:
        self._status = status
        self._started = started
        self._done = False

    @trio.lowlevel.enable_ki_protection
    def started(self, value: Any = None) -> None:
        """See `trio.TaskStatus.started`; only the first call counts (H7)."""
        if self._done:
            return
        self._done = True
        self._status.started(value)
        self._started()


@final
class SupervisedNursery:
    """A nursery that restarts: what `open_supervised_nursery` gives. No public constructor."""

    def __init__(self) -> None:
        raise TypeError(
            "a SupervisedNursery is what `async with open_supervised_nursery() as nursery` gives"
        )

    _nursery: trio.Nursery
    _supervision: Supervision
    _spec: ChildSpec
    _random: random_module.Random
    _children: dict[str, _Child]
    _names: set[str]
    _keys: int
    _hints: dict[str, int]
    _log: NotificationLog
    _sequence: int

    def __repr__(self) -> str:
        return f"<SupervisedNursery {self._supervision.path!r}, {len(self._children)} tasks>"

    @property
    def cancel_scope(self) -> trio.CancelScope:
        """Its cancel scope; cancelled, it restarts nothing any more."""
        return self._nursery.cancel_scope

    @property
    def child_tasks(self) -> frozenset[trio.lowlevel.Task]:
        """The tasks in it now, one that waits for a restart included."""
        return self._nursery.child_tasks

    @property
    def parent_task(self) -> trio.lowlevel.Task:
        """The task that opened it."""
        return self._nursery.parent_task

    @trio.lowlevel.enable_ki_protection
    def start_soon(
        self,
        async_fn: Callable[[Unpack[_Ts]], Awaitable[object]],
        *args: *_Ts,
        name: str | None = None,
    ) -> None:
        """Start a task, and restart it as the nursery was told to.

        Args:
            async_fn: an async function; each life is a call of it.
            *args: what it is called with.
            name: for logs and errors; default: the function's own. Taken ones get ``-2``, ``-3``.

        Raises:
            TypeError: it is no async function, or does not take these arguments.
            RuntimeError: the nursery is closed.
        """
        child = self._child(async_fn, args, name, status=False)
        coroutine = None
        try:
            coroutine = child.call()
            self._nursery.start_soon(self._live, child, 1, coroutine, name=self._title(child))
        except BaseException:
            self._names.discard(child.name)
            if coroutine is not None:
                coroutine.close()
            raise
        self._adopt(child)

    async def start(
        self, async_fn: Callable[..., Awaitable[object]], *args: Any, name: str | None = None
    ) -> Any:
        """Start a task, and wait until it says that it has started.

        Until then it is no task of the nursery: what it raises is raised here and it is not tried
        again. After that it is restarted; its later calls of ``started()`` are ignored.

        Args:
            async_fn: an async function that takes ``task_status``, as for `trio.Nursery.start`.
            *args: what it is called with besides.
            name: as in `start_soon`.

        Returns:
            What it gave to ``task_status.started()``.

        Raises:
            TypeError: it is no async function, or does not take these arguments.
            RuntimeError: it returned without a call of ``started()``, or the nursery is closed.
            Exception: what it raised before.
        """
        child = self._child(async_fn, args, name, status=True)
        try:
            return await self._nursery.start(self._first_life, child, name=self._title(child))
        finally:
            if not child.adopted:
                self._names.discard(child.name)

    # --- its tasks ------------------------------------------------------------------------

    def _child(
        self, function: Any, args: tuple[Any, ...], name: str | None, *, status: bool
    ) -> _Child:
        if isinstance(function, CoroutineType):
            function.close()
            raise TypeError(
                f"{describe(function)} was called already; pass the function itself and its "
                "arguments"
            )
        if not callable(function):
            raise TypeError(f"a nursery starts async functions, not {describe(function)}")
        wish = _wish(function) if name is None else check_name(name, "name=")
        free, hint = free_name(wish, self._names, self._hints.get(wish, 2))
        if free != wish:
            self._hints[wish] = hint
        self._names.add(free)
        self._keys += 1
        return _Child(str(self._keys), free, function, args, status=status)

    def _title(self, child: _Child) -> str:
        return f"{self._supervision.path}/{child.name}"

    def _adopt(self, child: _Child) -> None:
        """It is a task of the nursery from now on: its first life is up."""
        child.adopted = True
        self._children[child.key] = child
        self._decide(c.StartNew(dataclasses.replace(self._spec, name=child.key), None))
        self._decide(c.ChildUp(child.key, 1))

    @trio.lowlevel.enable_ki_protection
    async def _first_life(  # noqa: ASYNC114, ASYNC128 - the child says that it has started
        self, child: _Child, *, task_status: trio.TaskStatus[Any]
    ) -> None:
        task = trio.lowlevel.current_task()

        def started() -> None:
            # If it is not, `start` was cancelled before, and it stays in there until its end.
            if task.parent_nursery is self._nursery:
                self._adopt(child)

        await self._live(child, 1, child.call(task_status=_Status(task_status, started)))

    @trio.lowlevel.enable_ki_protection
    async def _live(self, child: _Child, number: int, coroutine: Any = None) -> None:
        """One life; what follows it is decided at its end."""
        if number > 1:
            self._decide(c.ChildUp(child.key, number))
        try:
            reason: ExitReason = Completed(await _run(child, coroutine))
        except Exception as error:
            if not child.adopted or (self._spec.restart != "temporary" and _is_cancelled()):
                raise
            reason = crashed(error)
        if not child.adopted:
            return  # trio says what that means
        failure = self._ended(child, number, reason)
        del reason  # what it holds has a traceback that has this frame
        if failure is not None:
            try:
                raise failure
            finally:
                del failure

    def _ended(self, child: _Child, number: int, reason: ExitReason) -> BaseException | None:
        """Decide what follows a life; what is to be raised, if that is the end of all."""
        failed = reason.exception if isinstance(reason, Crashed) else None
        if self._is_over():
            return failed
        if failed is None and _is_cancelled():
            self._decide(c.Stop(child.key, None, None))  # it is not to be restarted
        self._decide(c.ChildExit(child.key, number, reason))
        if not self._is_over():
            if failed is not None:
                clear_frames(failed)
            return None
        spec = self._supervision.spec
        error = RestartLimitExceeded(self._supervision.path, reason) if failed is None else failed
        add_note(
            error,
            f"{self._title(child)} is not restarted: more than {spec.max_restarts} restarts "
            f"within {spec.within} s",
        )
        return error

    def _is_over(self) -> bool:
        """Whether a task has exceeded the limit, and all are being cancelled."""
        return self._supervision.phase in {Phase.ENDING, Phase.DOWN}

    @trio.lowlevel.enable_ki_protection
    async def _back_off(self, key: str, number: int, delay: float) -> None:
        await trio.sleep(delay)
        self._decide(c.Due(key, number))

    # --- decisions ------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    def _decide(self, event: c.Event) -> None:
        if self._is_over():
            return
        for command in self._supervision.decide(event, trio.current_time(), self._random.random()):
            self._perform(command)

    def _perform(self, command: c.Command) -> None:
        match command:
            case c.Announce(key):
                self._sequence += 1
                if wanted(command.notice, command.reason):
                    told = build(self._title(self._children[key]), command, self._sequence)
                    self._log(told, command.incarnation > 1)
            case c.StartLife(key, number) if number > 1:
                self._spawn(self._children[key], self._live, self._children[key], number)
            case c.SetTimer(key, number, delay):
                self._spawn(self._children[key], self._back_off, key, number, delay)
            case c.Forget(key):
                self._names.discard(self._children.pop(key).name)
            case c.Bug(key, state, event):
                title = self._title(self._children[key])
                log_bug(title, 0, f"{event.value!r} came in {state.value!r}")
            case _:
                pass  # mailboxes and callers, of which a nursery has none

    def _spawn(self, child: _Child, function: Callable[..., Any], *args: Any) -> None:
        child.context.run(self._nursery.start_soon, function, *args, name=self._title(child))


@trio.lowlevel.disable_ki_protection
async def _run(child: _Child, coroutine: Any) -> Any:
    """Users' code is as protected against Ctrl-C as it says itself; what calls it here, always."""
    return await (child.call() if coroutine is None else coroutine)


def _wish(function: object) -> str:
    """What it is called if nobody gives it a name: its own, if that will do."""
    try:
        return check_name(name_of(function))
    except ValueError:
        return type(function).__name__


def _is_cancelled() -> bool:
    return trio.current_effective_deadline() == -math.inf


@final
class open_supervised_nursery:  # it is used like a function, and must be a class (H7)
    """Open a nursery that restarts its tasks: ``async with open_supervised_nursery() as nursery``.

    It is a trio nursery: no task outlives the block, an exception of the block or a failure that
    is not restarted cancels all, what was raised comes in one group, and a cancellation stops
    everything at once. Only Exceptions are restarted: `trio.Cancelled`, `KeyboardInterrupt` and
    `SystemExit` are not.

    Args:
        restart: ``transient`` (default): a task that raises is started again; ``permanent``: one
            that returns, too; ``temporary``: neither, and what it raises is logged, not raised.
        backoff: the wait before a restart; default: none.
        reset_after: seconds of running after which the backoff starts over; default: twice its
            longest delay.
        max_restarts: restarts of all its tasks that are allowed within ``within`` seconds; with
            one more, the exception of that task is raised, as a plain nursery would.
        within: seconds.
        name: for logs, and the names of its tasks.
        random: draws the jitter of backoffs; give a seeded one for reproducible delays.

    Raises:
        BaseExceptionGroup: as of a trio nursery; an ExceptionGroup where possible.
    """

    def __init__(
        self,
        *,
        restart: Restart = "transient",
        backoff: Backoff = Immediate(),  # noqa: B008 - a frozen value
        reset_after: float | None = None,
        max_restarts: int = MAX_RESTARTS,
        within: float = WITHIN,
        name: str = NAME,
        random: random_module.Random | None = None,
    ) -> None:
        if random is not None and not isinstance(random, random_module.Random):
            raise TypeError(f"random= must be a random.Random, not {describe(random)}")
        check_name(name, "name=")
        rules = SupervisorSpec(max_restarts=max_restarts, within=within)
        self._spec = ChildSpec(name=name, restart=restart, backoff=backoff, reset_after=reset_after)
        rules.check_child(self._spec, name)
        self._supervision = Supervision(rules, name, ())
        self._random = random_module.Random() if random is None else random
        self._manager: Any = None

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> SupervisedNursery:
        if self._manager is not None:
            raise RuntimeError(
                "this open_supervised_nursery() was entered before; call it again for another one"
            )
        self._manager = trio.open_nursery()
        nursery = object.__new__(SupervisedNursery)
        nursery._nursery = await self._manager.__aenter__()
        nursery._supervision, nursery._random = self._supervision, self._random
        nursery._spec = self._spec
        nursery._children, nursery._names, nursery._keys, nursery._hints = {}, set(), 0, {}
        nursery._log, nursery._sequence = NotificationLog(), 0
        self._supervision.decide(c.Begin(), trio.current_time())
        return nursery

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:  # as of trio's: checkers take a bool for a block that swallows exceptions
        # trio's own __aexit__ is no checkpoint that a cancellation could come out of.
        swallowed: bool = await self._manager.__aexit__(kind, error, traceback)  # noqa: ASYNC102
        return swallowed
