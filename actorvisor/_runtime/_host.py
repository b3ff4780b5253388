"""The host: the root supervisor, and the block that nothing outlives (H1-H3, S8)."""

from __future__ import annotations

import math
import random as random_module
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import get_ident
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar, final, overload

import trio

from .._core import _commands as c
from .._core._checks import check_count, check_seconds
from .._core._child import Child
from .._core._ids import resolve
from .._core._lifecycle import State
from .._core._messages import Stopped, is_failure
from .._core._spec import MAX_RESTARTS, WITHIN, ChildSpec, OnLimit, SupervisorSpec
from .._errors import StartFailed
from ..abc import Executor, Service
from ._cell import Cell
from ._commons import MAX_ABANDONED, Commons
from ._declaration import DRAIN, Application, Supervisor, check_children, check_drain
from ._guard import check_main_guard
from ._inside import find
from ._origin import note_origin, root_error, start_error
from ._pool import Declaration, Pool  # noqa: TC001 - the docs resolve annotations at run time
from ._ref import Ref, SupervisorRef, ref_to
from ._requests import DrainRequest
from ._supervisor import SupervisorActor, below

if TYPE_CHECKING:
    from .._core._tree import TreeNode
    from ._events import Events
    from ._mailbox import MailStatistics

_S = TypeVar("_S", bound=Service)

CANCEL_GRACE: Final = 5.0
NAME: Final = "host"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostStatistics:
    """A host's account at one moment.

    Attributes:
        actors: identities that have a name now, the host itself not counted.
        running: how many of them are running.
        failed: how many of them are down for good, by a failure; see `Host.tree` for which.
        restarts: restarts of those, in all.
        abandoned: threads that were left behind and have not ended yet.
        events: notifications so far.
        mail: the account of all mail, of forgotten identities too, in messages.
        mailboxes: the account of each mailbox, by path.
        stale: reports of earlier incarnations that were dropped.
    """

    actors: int
    running: int
    failed: int
    restarts: int
    abandoned: int
    events: int
    mail: MailStatistics
    mailboxes: dict[str, MailStatistics]
    stale: int


@final
class Host:
    """A running host: what `open_host` gives. It has no public constructor."""

    def __init__(self) -> None:
        raise TypeError("a Host is what `async with open_host() as host` gives")

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(f"{self!r} cannot be pickled: it works inside its own process only")

    _root: SupervisorActor
    _commons: Commons

    def __repr__(self) -> str:
        return f"<Host {self._root.cell.record.state.value}, {len(self._root.cells)} children>"

    @property
    def path(self) -> str:
        """Its path, the root of all others."""
        return self._root.cell.path

    @overload
    async def start(self, app: Application[_S] | Pool[_S]) -> Ref[_S]: ...
    @overload
    async def start(self, app: Supervisor) -> SupervisorRef: ...

    async def start(self, app: Application[_S] | Pool[_S] | Supervisor) -> Ref[_S] | SupervisorRef:
        """Start a service, a pool or a supervisor under the host.

        Args:
            app: what to start. Without a name of its own it gets its class's, with ``-2``,
                ``-3`` as needed.

        Returns:
            A ref to it, once its setup has finished.

        Raises:
            ControlRefused: the name is taken, or the host is stopping.
            Exception: what its setup raised; it is not tried again.
        """
        return await self._root.start(app)  # type: ignore[no-any-return]

    @overload
    def find(self, path: str, kind: type[_S]) -> Ref[_S]: ...
    @overload
    def find(self, path: str, kind: type[Supervisor]) -> SupervisorRef: ...

    def find(self, path: str, kind: type[Any]) -> Ref[Any] | SupervisorRef:
        """A ref to an actor by its path, such as ``host/ingest/parser`` or ``ingest/parser``.

        Args:
            path: where it is.
            kind: the class that it must be; `Supervisor` for one.

        Raises:
            LookupError: there is no such actor.
            TypeError: it is of another class.
        """
        found: Ref[Any] | SupervisorRef = find(self._commons.cells, resolve(self.path, path), kind)
        return found

    def children(self) -> tuple[Ref[Any] | SupervisorRef, ...]:
        """Refs to what it hosts, oldest first."""
        return tuple(ref_to(cell) for cell in self._root.cells.values())

    def events(self) -> Events:
        """A new reader of all notifications, from now on; iterate it with ``async for``."""
        return self._commons.events.reader()

    async def wait(self) -> None:
        """Wait until everything under the host has ended by itself; at once if there is nothing.

        Raises:
            RuntimeError: it is called outside the host's loop.
        """
        if get_ident() != self._commons.thread:
            raise RuntimeError(f"{self!r} is waited for outside its host's loop")
        await trio.lowlevel.checkpoint()
        if self._root.supervision.active:
            if self._root.idle is None or self._root.idle.is_set():
                self._root.idle = trio.Event()
            await self._root.idle.wait()

    def tree(self) -> TreeNode:
        """A snapshot of all actors; ``print`` it."""
        return self._root.cell.node()

    def statistics(self) -> HostStatistics:
        """The account at this moment (M7)."""
        cells = [cell for cell in below(self._root.cell) if cell is not self._root.cell]
        mailboxes = {
            cell.path: cell.mailbox.statistics() for cell in cells if cell.mailbox is not None
        }
        actors = [self._root, *(cell.actor for cell in cells if cell.actor is not None)]
        return HostStatistics(
            actors=len(cells),
            running=sum(cell.record.state is State.RUNNING for cell in cells),
            failed=sum(cell.record.state is State.FAILED for cell in cells),
            restarts=sum(cell.record.restarts for cell in cells),
            abandoned=self._commons.abandoned,
            events=self._commons.events.sequence,
            mail=sum(mailboxes.values(), self._commons.past),
            mailboxes=mailboxes,
            stale=sum(actor.supervision.stale for actor in actors),
        )


@final
class open_host:  # it is used like a function, and must be a class (H7)
    """Open a host: ``async with open_host([...]) as host``.

    When the block ends, everything in it is stopped, newest first, and gone. Left normally, what
    is on its way is handled first. Cancelled from outside, everything is stopped in order within
    ``cancel_grace`` seconds, then by force.

    Args:
        children: what to start first, in order; the block begins when all are up.
        max_restarts: restarts of one child of the host that are allowed within ``within`` seconds;
            exceeding it is a crash that reached the host, and ends it.
        within: seconds.
        on_limit: ``end``, or ``drop``: only the child that exceeds its limit ends.
        drain: seconds for what is on its way to be handled when the block is left normally; 0
            skips it.
        cancel_grace: seconds for an orderly stop when the block is cancelled.
        random: draws the jitter of backoffs; give a seeded one for reproducible delays.
        max_abandoned: abandoned threads that it bears before thread services fail to start.
        executors: what carries out in an executor's stead, of the same kind; asked once for each
            that is declared. For tests, which simulate, record, or inject faults.

    Raises:
        BaseExceptionGroup: something that crashed reached the host; an ExceptionGroup where
            possible, one level, each entry with a note of the path.
    """

    def __init__(
        self,
        children: Iterable[Declaration] = (),
        *,
        max_restarts: int = MAX_RESTARTS,
        within: float = WITHIN,
        on_limit: OnLimit = "end",
        drain: float = DRAIN,
        cancel_grace: float = CANCEL_GRACE,
        random: random_module.Random | None = None,
        max_abandoned: int = MAX_ABANDONED,
        executors: Callable[[Executor], Executor] | None = None,
    ) -> None:
        self._children = check_children(children)
        self._rules = SupervisorSpec(
            max_restarts=max_restarts, within=within, on_limit=on_limit, root=True
        )
        self._rules.check_children(tuple(child.spec for child in self._children), NAME)
        self._drain = check_drain(drain)
        self._cancel_grace = check_seconds("cancel_grace=", cancel_grace, infinite=True)
        if random is not None and not isinstance(random, random_module.Random):
            raise TypeError(f"random= must be a random.Random, not {random!r}")
        self._random = random
        self._max_abandoned = check_count("max_abandoned=", max_abandoned, least=0)
        if executors is not None and not callable(executors):
            raise TypeError(f"executors= must be a function of an executor, not {executors!r}")
        self._executors = executors
        # A recording gives another one, which tells of what happens (`actorvisor.testing`).
        self._commons: Callable[..., Commons] = Commons
        self._manager: Any = None
        self._root: SupervisorActor
        self._ended: trio.Event
        # The block's body: cancelled when something reached the host.
        self._body: trio.CancelScope

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> Host:
        if self._manager is not None:
            raise RuntimeError("this open_host() was entered before; call open_host() again")
        check_main_guard()
        commons = self._commons(self._random, self._max_abandoned, self._executors)
        commons.find_executors(self._children)
        self._manager = trio.open_nursery()
        nursery: trio.Nursery = await self._manager.__aenter__()
        record = Child(ChildSpec(name=NAME), declared=True, window=None)
        cell = Cell(Supervisor(name=NAME), record, None, NAME, commons)
        root = cell.actor = SupervisorActor(cell, self._rules, self._children, "host")
        root.up = trio.Event()
        commons.adopt(cell)
        self._root, self._ended, self._body = root, trio.Event(), trio.CancelScope()
        nursery.start_soon(self._live, name=NAME)
        self._body.__enter__()
        try:
            await root.up.wait()
        except BaseException as error:
            if not await self.__aexit__(type(error), error, error.__traceback__):  # noqa: ASYNC102
                raise
            raise StartFailed(NAME, Stopped()) from None  # noqa: ASYNC104
        host = object.__new__(Host)
        host._root, host._commons = root, commons
        return host

    @trio.lowlevel.enable_ki_protection
    async def _live(self) -> None:
        """The root's task. Nothing from outside cancels it: it is told to stop, and does."""
        root = self._root
        commons, record = root.cell.commons, root.cell.record
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as calls:
                commons.nursery = calls
                calls.start_soon(commons.turns.run, name=f"{NAME}:turns")
                record.state, record.incarnation = State.RUNNING, 1
                record.reason = await root.live()
                record.state = State.FAILED if is_failure(record.reason) else State.STOPPED
                commons.nursery = None
                calls.cancel_scope.cancel()
        commons.events.close()
        self._ended.set()
        assert root.up is not None
        assert record.reason is not None
        if is_failure(record.reason) or not root.up.is_set():
            self._body.cancel()

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        left = error
        try:
            if self._body.__exit__(kind, error, traceback):
                left = None  # cancelled because of what reached the host
        except BaseException as others:  # noqa: ASYNC103
            left = others
        left = await self._stop(left)  # noqa: ASYNC102
        try:
            await self._manager.__aexit__(None, None, None)  # noqa: ASYNC102
        except BaseException as late:  # noqa: ASYNC103
            left = late if left is None else left
        failure = self._failure()
        if failure is not None:
            # A start that was asked for may have raised the very same one out of the block.
            causes = [failure] if left is None or left is failure else [left, failure]
            if isinstance(failure, KeyboardInterrupt) and len(causes) == 1:
                raise failure
            raise BaseExceptionGroup("the host ended because of what reached it", causes)
        if left is not None and left is not error:
            raise left
        return left is None

    async def _stop(self, error: BaseException | None) -> BaseException | None:
        """Stop everything and wait for its end; what is to be raised then."""
        try:
            if error is None:
                self.stop_gently()
            elif isinstance(error, Exception):
                self._root.inbox.put(c.ShutDown(True))
            if error is None or isinstance(error, Exception):
                await self._ended.wait()
        except BaseException as interrupted:  # noqa: ASYNC103
            error = interrupted if error is None else error
        if not self._ended.is_set():
            self._root.inbox.put(c.ShutDown(True))
            error = await self._await_end(self._cancel_grace, error)
        while not self._ended.is_set():
            self.stop_by_force()
            error = await self._await_end(math.inf, error)
        return error

    async def _await_end(self, seconds: float, error: BaseException | None) -> BaseException | None:
        """Wait for the end, shielded; one more Ctrl-C ends the wait."""
        with trio.CancelScope(shield=True) as scope:
            scope.deadline = trio.current_time() + seconds
            try:
                await self._ended.wait()
            except KeyboardInterrupt as interrupt:
                return interrupt
        return error

    def stop_gently(self) -> None:
        """Begin the normal end: drain, then stop; never waits."""
        assert self._root.up is not None
        if self._drain > 0 and self._root.up.is_set():
            self._root.inbox.put(DrainRequest(self._drain))
        else:
            self._root.inbox.put(c.ShutDown(True))

    def stop_by_force(self) -> None:
        """End all that is left at once, without teardown; never waits."""
        self._root.inbox.put(c.ShutDown(True, 0.0))

    def _failure(self) -> BaseException | None:
        """What reached the host, with a note of its path (S8)."""
        finished = self._root.finished
        assert finished is not None
        if not is_failure(finished.reason):
            return None
        root = self._root
        found = root_error(finished.reason) or start_error(
            root.cell.path, finished.reason, root.culprit
        )
        note_origin(found, root.culprit.path, root.cell.path)
        return found
