"""How a plan of faults is carried out: an executor that is what it was, but for the lives it names.

Services that no fault names are untouched. The others' declarations are replaced, for the lives
that a fault is for, by ones whose instances suffer them (`_injected`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, cast, final

import outcome
import trio

from .._errors import ServiceAbandoned
from .._runtime._coroutine import CoroutineLife
from .._runtime._declaration import check_children
from .._runtime._host import Host, open_host
from .._runtime._origin import add_note
from ..executors._process import AsyncProcessExecutor, ProcessExecutor
from ..executors._thread import ThreadLife
from . import _injected
from ._assignment import Assignment, Told
from ._faults import (
    Exit,
    Fault,
    FaultPlan,
    Hang,
    InjectedFault,
    Kill,
    Raise,
    Slow,
    Time,
    What,
    plan_of,
)
from ._injected import Injected
from ._sites import HostSide
from ._wrapping import WrappedLife, Wrapping

if TYPE_CHECKING:
    from .._runtime._crossing import Answers
    from .._runtime._declaration import Application
    from .._runtime._incarnation import Incarnation
    from .._runtime._mailbox import Mailbox, Post
    from .._runtime._pool import Declaration
    from ..abc import Executor, Life, Place

_OVER: Final = frozenset({"teardown", "over"})


@final
@dataclass(frozen=True, repr=False)
class Injecting(Wrapping):
    """An executor as it is, but for the faults that its lives suffer.

    Attributes:
        assignment: the faults.
    """

    assignment: Assignment = field(compare=False, kw_only=True)

    def mailbox(self, path: str, capacity: int, overflow: str, post: Post) -> Mailbox | None:
        """The other one's."""
        self.assignment.see(path)
        return super().mailbox(path, capacity, overflow, post)

    def inner(self) -> Executor:
        """See `Wrapping.inner`."""
        executor = self.executor
        if isinstance(executor, ProcessExecutor | AsyncProcessExecutor):
            # Else each worker would import it with its job.
            preload = (*executor.preload, _injected.__name__)
            return dataclasses.replace(executor, preload=preload)
        return executor

    def begin(self, place: Place, incarnation: Incarnation, nursery: trio.Nursery) -> Life:
        """See `Wrapping.begin`; a life that has no faults is as it is."""
        faults = self.assignment.of(incarnation)
        life = place.begin(incarnation)
        if not faults:
            return life
        if not isinstance(life, _lives(incarnation.application.executor)):
            why = f"it is for actorvisor's own executors, and {type(life).__name__} is of another"
            self.assignment.refuse(faults, why)
            return life
        return InjectedLife(life, faults, self.assignment, nursery)


def _lives(executor: Executor) -> tuple[type[Life], ...]:
    """The kinds of lives that can be made to suffer."""
    if not executor.is_remote:
        return CoroutineLife, ThreadLife
    # It is not light, and is there already if it is needed.
    from ..bridge._life import ProcessLife

    return (ProcessLife,)


class InjectedLife(WrappedLife, HostSide):
    """A life with faults, as its executor sees it."""

    def __init__(
        self,
        life: Life,
        faults: tuple[Fault, ...],
        assignment: Assignment,
        nursery: trio.Nursery,
    ) -> None:
        super().__init__(life)
        self.began = trio.current_time()
        self.clock = trio.lowlevel.current_clock()
        self.token = trio.lowlevel.current_trio_token()
        self._assignment = assignment
        self._nursery = nursery
        self._scopes: list[trio.CancelScope] = []
        app = self.incarnation.application
        injected: Any = Injected(app, faults, self, self.began)
        # It has not begun to run, and has not looked at it.
        self.incarnation.application = cast("Application[Any]", injected)
        # Of a process, what it can do to itself strikes in there.
        self._timed = [
            (fault.at.seconds, fault)
            for fault in faults
            if isinstance(fault.at, Time)
            and not isinstance(fault.do, Slow | Hang)
            and (isinstance(fault.do, Kill) or not app.executor.is_remote)
        ]

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """See `Life.run`."""
        for seconds, fault in self._timed:
            scope = trio.CancelScope()
            self._scopes.append(scope)
            name = f"{self.incarnation.path}: {fault!r}"
            self._nursery.start_soon(self._strike_later, scope, seconds, fault, name=name)
        try:
            await self._life.run()
        finally:
            for scope in self._scopes:
                scope.cancel()

    # --- faults at a time -----------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def _strike_later(self, scope: trio.CancelScope, seconds: float, fault: Fault) -> None:
        with scope:
            await trio.sleep_until(self.began + seconds + fault.do.after)
            if not self.incarnation.over:
                self._strike(fault)

    def _strike(self, fault: Fault) -> None:
        if not isinstance(fault.do, Kill) and is_ending(self._life):
            return
        self.tell(fault)
        strike(self._life, fault.do)

    # --- for what happens inside ----------------------------------------------------------

    def tell(self, fault: Fault) -> None:
        """See `HostSide.tell`."""
        self._assignment.tell(self.incarnation, fault)

    def hold(self, seconds: float, answers: Answers) -> None:
        """See `HostSide.hold`."""
        # Not the life's own: a thread that was left behind still hangs.
        name = f"{self.incarnation.path}: held up"
        self._nursery.start_soon(self._hold, seconds, answers, name=name)

    @trio.lowlevel.enable_ki_protection
    async def _hold(self, seconds: float, answers: Answers) -> None:
        answer: outcome.Outcome[Any] = outcome.Error(ServiceAbandoned(self.incarnation.path))
        try:
            await trio.sleep(seconds)
            answer = outcome.Value(None)
        finally:
            answers.put(answer)

    def kill(self) -> None:
        """See `HostSide.kill`."""
        strike(self._life, Kill())

    def exit(self, status: int) -> None:
        """See `HostSide.exit`."""
        self._simulated.exit(status)

    def drop(self) -> None:
        """See `HostSide.drop`."""
        self._simulated.drop()

    @property
    def _simulated(self) -> Any:
        return self._life


def is_ending(life: Life) -> bool:
    """Whether a coroutine's or a thread's life has a reason to end, so that it crashes no more."""
    assert isinstance(life, CoroutineLife | ThreadLife)
    return life._phase in _OVER or life._reason is not None


def strike(life: Life, do: What) -> None:
    """Let a life suffer something now, whatever it is doing.

    Args:
        life: one that is not ending. `Kill` is for one in a process, the others are not.
        do: `Raise`, `Exit` or `Kill`.
    """
    match do:
        case Kill():
            worker = cast("Any", life)._worker
            if worker is not None:
                worker.kill()
        case Raise():
            cast("Any", life)._crash(InjectedFault(do.message))
        case Exit():
            cast("Any", life)._crash(SystemExit(do.status))
        case _:
            raise TypeError(f"{do!r} does not strike from outside")


# --- real runs ----------------------------------------------------------------------------


@final
class Injector:
    """Opens hosts in which faults happen: what `inject` gives. Call it as `open_host`.

    Attributes:
        plan: the faults, of each host that is opened.
        told: who is told of each where it happens; see `inject`.
    """

    def __init__(self, plan: FaultPlan, told: Told | None) -> None:
        self.plan: FaultPlan = plan
        self.told: Told | None = told
        self._assignment = Assignment(plan, self._tell)
        self._open: set[open_host] = set()

    def __call__(self, children: Iterable[Declaration] = (), **options: Any) -> open_host:
        """See `open_host`.

        Raises:
            FaultPlanError: a fault does not fit what is declared; of what is started later it is
                raised when the block has been left normally.
        """
        declared = check_children(children)
        self._assignment.check_tree(declared)
        own: Callable[[Executor], Executor] | None = options.pop("executors", None)

        def substitute(executor: Executor) -> Executor:
            found = executor if own is None else own(executor)
            return Injecting(found, assignment=self._assignment) if self.plan.faults else found

        return _InjectedHost(self, declared, executors=substitute, **options)

    def _tell(self, path: str, incarnation: int, fault: Fault) -> None:
        if self.told is not None:
            self.told(path, incarnation, fault)

    def opened(self, host: open_host) -> None:
        """A host is opened."""
        self._open.add(host)

    def closed(self, host: open_host, normally: bool) -> None:
        """A host is closed.

        Raises:
            FaultPlanError: it was the last one, and a fault was nobody's.
        """
        self._open.discard(host)
        if normally and not self._open:
            self._assignment.finish()


class _InjectedHost(open_host):  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
    """An `open_host` that looks at its end for faults that were for nobody."""

    def __init__(self, injector: Injector, children: Any, **options: Any) -> None:
        super().__init__(children, **options)
        self._injector = injector

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> Host:
        self._injector.opened(self)
        return await super().__aenter__()

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        normally = False
        try:
            left = await super().__aexit__(kind, error, traceback)  # noqa: ASYNC102
            normally = error is None or bool(left)
        except BaseException as raised:
            add_note(raised, f"with faults={self._injector.plan!r}")
            raise
        finally:
            if not normally and error is not None:
                add_note(error, f"with faults={self._injector.plan!r}")
            self._injector.closed(self, normally)
        return left


def inject(faults: FaultPlan | Iterable[Fault], told: Told | None = None) -> Injector:
    """Have faults happen on real threads and processes: the plans that `simulate` takes (T6).

    Args:
        faults: what goes wrong; paths are the host's own, ``host/...``.
        told: who is told of each where it happens: in which path, which incarnation, which fault.
            What happens inside of a worker process is not told.

    Returns:
        What is called as `open_host` is.

    Example:
        >>> plan = FaultPlan([Fault("host/worker", 1, Before(3), Kill())])
        >>> async with inject(plan)([Application(Worker, name="worker")]) as host:
        ...     ...
    """
    return Injector(plan_of(faults), told)
