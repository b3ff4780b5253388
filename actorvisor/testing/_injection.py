"""How a plan of faults is carried out: an executor that is what it was, but for the lives it names.

Services that no fault names are untouched. The others' declarations are replaced, for the lives
that a fault is for, by ones whose instances suffer them (`_injected`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast, final

import outcome
import trio

from .._errors import ServiceAbandoned
from .._runtime._coroutine import CoroutineLife
from .._runtime._host import open_host
from .._runtime._ref import add_note
from ..abc import Executor, Life, Place
from ..executors._process import AsyncProcessExecutor, ProcessExecutor
from ..executors._thread import ThreadLife
from . import _injected
from ._faults import (
    Exit,
    Fault,
    FaultPlan,
    FaultPlanError,
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
from ._tree import check_fault, check_plan, services, why_unknown

if TYPE_CHECKING:
    from .._core._messages import ExitReason
    from .._runtime._crossing import Answers
    from .._runtime._declaration import Application
    from .._runtime._incarnation import Incarnation
    from .._runtime._mailbox import Mailbox, Post
    from .._runtime._pool import Declaration

Told: TypeAlias = Callable[[str, int, Fault], object]
"""Who is told of a fault when it happens: in which path, which incarnation, and which one."""

_OVER: Final = frozenset({"teardown", "over"})


@final
class Injection:
    """The faults of one run: what `open_host` takes as ``executors=``.

    Args:
        plan: the faults.
        told: who is told of each where it happens, on the host's loop. What happens inside of a
            real worker process is not told.
    """

    def __init__(self, plan: FaultPlan | Iterable[Fault], told: Told | None = None) -> None:
        self.plan: FaultPlan = plan_of(plan)
        self._told = told
        self._seen: set[str] = set()
        self._misfits: list[FaultPlanError] = []

    def __call__(self, executor: Executor) -> Executor:
        """What carries out in an executor's stead; that itself if nothing is to go wrong."""
        return Injecting(executor, self) if self.plan.faults else executor

    def check_tree(self, tree: Iterable[Declaration]) -> None:
        """Check what can be seen of a plan before the run: others may be started in it.

        Raises:
            FaultPlanError: a fault does not fit what is declared.
        """
        declared = tuple(tree)
        check_plan(self.plan, declared, whole=False)
        # Also if its supervisor never comes to start it.
        self._seen.update(one.path for one in services(declared))

    def finish(self) -> None:
        """Check, when the run is over, what could not be seen before.

        A life that never began, and a message that never came, are no errors.

        Raises:
            FaultPlanError: a fault is for a path that no service ever had, or did not fit it.
        """
        if self._misfits:
            raise self._misfits[0]
        # A pool has a mailbox, too; what has something below it is no service.
        above = {path.rpartition("/")[0] for path in self._seen}
        for fault in self.plan:
            if fault.path not in self._seen or fault.path in above:
                raise FaultPlanError(fault, why_unknown(fault.path, sorted(self._seen - above)))

    def see(self, path: str) -> None:
        """A service, or a pool, has come to be."""
        self._seen.add(path)

    def of(self, incarnation: Incarnation) -> tuple[Fault, ...]:
        """The faults of a life that fit it; those that do not are told in the end."""
        found: list[Fault] = []
        for fault in self.plan.of(incarnation.path, incarnation.number):
            try:
                check_fault(fault, incarnation.application)
            except FaultPlanError as error:
                self._misfits.append(error)
            else:
                found.append(fault)
        return tuple(found)

    def refuse(self, faults: Iterable[Fault], why: str) -> None:
        """Faults cannot be injected; that is told in the end."""
        self._misfits.extend(FaultPlanError(fault, why) for fault in faults)

    def tell(self, incarnation: Incarnation, fault: Fault) -> None:
        """A fault happens now."""
        if self._told is not None:
            self._told(incarnation.path, incarnation.number, fault)


@final
@dataclass(frozen=True)
class Injecting(Executor):
    """An executor as it is, but for the faults that its lives suffer.

    Attributes:
        executor: that one.
        injection: the faults.
    """

    executor: Executor
    injection: Injection = field(compare=False)
    has_loop: bool = field(init=False, compare=False)  # type: ignore[misc]
    has_thread: bool = field(init=False, compare=False)  # type: ignore[misc]
    is_remote: bool = field(init=False, compare=False)  # type: ignore[misc]

    def __post_init__(self) -> None:
        object.__setattr__(self, "has_loop", self.executor.has_loop)
        object.__setattr__(self, "has_thread", self.executor.has_thread)
        object.__setattr__(self, "is_remote", self.executor.is_remote)

    def __repr__(self) -> str:
        return repr(self.executor)

    def mailbox(self, path: str, capacity: int, overflow: str, post: Post) -> Mailbox | None:
        """The other one's."""
        self.injection.see(path)
        return self.executor.mailbox(path, capacity, overflow, post)

    @asynccontextmanager
    async def open(self, nursery: trio.Nursery) -> AsyncGenerator[Place, None]:
        """The other one, opened."""
        executor = self.executor
        if isinstance(executor, ProcessExecutor | AsyncProcessExecutor):
            # Else each worker would import it with its job.
            preload = (*executor.preload, _injected.__name__)
            executor = dataclasses.replace(executor, preload=preload)
        async with executor.open(nursery) as place:
            yield InjectingPlace(place, self.injection, nursery)


class InjectingPlace(Place):
    """An executor at work, as it is but for the lives that have faults."""

    def __init__(self, place: Place, injection: Injection, nursery: trio.Nursery) -> None:
        self._place = place
        self._injection = injection
        self._nursery = nursery

    def begin(self, incarnation: Incarnation) -> Life:
        """A life; as it is if it has no faults."""
        faults = self._injection.of(incarnation)
        life = self._place.begin(incarnation)
        if not faults:
            return life
        if not isinstance(life, _lives(incarnation.application.executor)):
            why = f"it is for actorvisor's own executors, and {type(life).__name__} is of another"
            self._injection.refuse(faults, why)
            return life
        return InjectedLife(life, incarnation, faults, self._injection, self._nursery)


def _lives(executor: Executor) -> tuple[type[Life], ...]:
    """The kinds of lives that can be made to suffer."""
    if not executor.is_remote:
        return CoroutineLife, ThreadLife
    # It is not light, and is there already if it is needed.
    from ..bridge._life import ProcessLife

    return (ProcessLife,)


class InjectedLife(HostSide, Life):
    """A life with faults, as its executor sees it."""

    def __init__(
        self,
        life: Life,
        incarnation: Incarnation,
        faults: tuple[Fault, ...],
        injection: Injection,
        nursery: trio.Nursery,
    ) -> None:
        self.began = trio.current_time()
        self.clock = trio.lowlevel.current_clock()
        self.token = trio.lowlevel.current_trio_token()
        self._incarnation = incarnation
        self._injection = injection
        self._nursery = nursery
        self._scopes: list[trio.CancelScope] = []
        app = incarnation.application
        injected: Any = Injected(app, faults, self, self.began)
        # It has not begun to run, and has not looked at it.
        incarnation.application = cast("Application[Any]", injected)
        self._life = life
        # Of a process, what it can do to itself strikes in there.
        self._timed = [
            (fault.at.seconds, fault)
            for fault in faults
            if isinstance(fault.at, Time)
            and not isinstance(fault.do, Slow | Hang)
            and (isinstance(fault.do, Kill) or not app.executor.is_remote)
        ]

    @property
    def incarnation(self) -> Incarnation:
        """See `Life.incarnation`."""
        return self._incarnation

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """See `Life.run`."""
        for seconds, fault in self._timed:
            scope = trio.CancelScope()
            self._scopes.append(scope)
            name = f"{self._incarnation.path}: {fault!r}"
            self._nursery.start_soon(self._strike_later, scope, seconds, fault, name=name)
        try:
            await self._life.run()
        finally:
            for scope in self._scopes:
                scope.cancel()

    def stop_life(self, final: bool, grace: float) -> None:
        """See `Life.stop_life`."""
        self._life.stop_life(final, grace)

    def lost(self, reason: ExitReason) -> None:
        """See `Life.lost`."""
        self._life.lost(reason)

    # --- faults at a time -----------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def _strike_later(self, scope: trio.CancelScope, seconds: float, fault: Fault) -> None:
        with scope:
            await trio.sleep_until(self.began + seconds + fault.do.after)
            if not self._incarnation.over:
                self._strike(fault)

    def _strike(self, fault: Fault) -> None:
        if not isinstance(fault.do, Kill) and is_ending(self._life):
            return
        self.tell(fault)
        strike(self._life, fault.do)

    # --- for what happens inside ----------------------------------------------------------

    def tell(self, fault: Fault) -> None:
        """See `HostSide.tell`."""
        self._injection.tell(self._incarnation, fault)

    def hold(self, seconds: float, answers: Answers) -> None:
        """See `HostSide.hold`."""
        # Not the life's own: a thread that was left behind still hangs.
        name = f"{self._incarnation.path}: held up"
        self._nursery.start_soon(self._hold, seconds, answers, name=name)

    @trio.lowlevel.enable_ki_protection
    async def _hold(self, seconds: float, answers: Answers) -> None:
        answer: outcome.Outcome[Any] = outcome.Error(ServiceAbandoned(self._incarnation.path))
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
        told: who is told of each where it happens; see `Injection`.
    """

    def __init__(self, plan: FaultPlan, told: Told | None) -> None:
        self.plan: FaultPlan = plan
        self.told: Told | None = told

    def __call__(self, children: Iterable[Declaration] = (), **options: Any) -> open_host:
        """See `open_host`.

        Raises:
            FaultPlanError: a fault does not fit what is declared; of what is started later it is
                raised when the block has been left normally.
        """
        declared = tuple(children)
        injection = Injection(self.plan, self._tell)
        injection.check_tree(declared)
        own: Callable[[Executor], Executor] | None = options.pop("executors", None)

        def substitute(executor: Executor) -> Executor:
            return injection(executor if own is None else own(executor))

        return _InjectedHost(injection, declared, executors=substitute, **options)

    def _tell(self, path: str, incarnation: int, fault: Fault) -> None:
        if self.told is not None:
            self.told(path, incarnation, fault)


class _InjectedHost(open_host):  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
    """An `open_host` that looks at its end for faults that were for nobody."""

    def __init__(self, injection: Injection, children: Any, **options: Any) -> None:
        super().__init__(children, **options)
        self._injection = injection

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        note = f"with faults={self._injection.plan!r}"
        try:
            left = await super().__aexit__(kind, error, traceback)
        except BaseException as raised:
            add_note(raised, note)
            raise
        if error is None or left:
            self._injection.finish()
        else:
            add_note(error, note)
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
