"""A state machine for hypothesis that drives a simulated host, to be subclassed (T5)."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Final,
    TypeAlias,
    TypeVar,
    TypeVarTuple,
    Unpack,
    cast,
    final,
)

import trio

try:
    from hypothesis import note, strategies as st
    from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
except ImportError as error:
    raise ImportError(
        "SupervisionMachine is a state machine of hypothesis, which is not installed: "
        "pip install 'actorvisor[testing]'"
    ) from error

from .._errors import ActorvisorError, RestartLimitExceeded
from .._runtime._pool import Pool
from .._runtime._ref import ref_to
from ._check import ALL, Rule, check
from ._faults import Exit, FaultPlan, InjectedFault, Kill, Raise, What
from ._injection import is_ending, strike
from ._simulation._arena import Arena
from ._simulation._choices import Scheduled
from ._simulation._pump import Pump
from ._simulation._schedule import Schedule
from ._simulation._simulate import MAX_STEPS
from ._strategies import schedules, times_of
from ._tree import services, walk
from ._violations import RuleBroken, Violation
from ._wrapping import Wrapping

if TYPE_CHECKING:
    from .._runtime._host import Host
    from .._runtime._incarnation import Incarnation
    from .._runtime._pool import Declaration
    from ..abc import Executor, Life, Place
    from ._trace import Trace

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

ANSWER: Final = 10.0
"""Seconds, of simulated time, that an ask waits for its answer, and a call for its end."""

Message: TypeAlias = tuple[Any, ...]
"""A method, and the arguments that it is called with."""


def _runner() -> st.SearchStrategy[Any]:
    return st.runner()


_services: Final = _runner().flatmap(lambda machine: st.sampled_from(machine.service_paths))
_actors: Final = _runner().flatmap(lambda machine: st.sampled_from(machine.actor_paths))
_processes: Final = _runner().flatmap(lambda machine: st.sampled_from(machine.process_paths))
_seconds: Final = _runner().flatmap(lambda machine: st.sampled_from(machine.times))
_messages: Final = _runner().flatmap(lambda machine: machine.any_message())


class SupervisionMachine(RuleBasedStateMachine):
    """Starts, stops, crashes, kills and asks what is in a tree, in any order, and checks it.

    Subclass it, give it a tree and the messages that its services take, and add rules and
    invariants of your own::

        class Bank(SupervisionMachine):
            tree = [av.Application(Account, name="ann"), av.Application(Account, name="bob")]
            messages = {
                "host/ann": st.tuples(st.just(Account.deposit), st.integers(1, 9)),
            }

            @invariant()
            def nothing_is_owed(self):
                assert self.call(self.host.find("ann", Account).ask, Account.balance) >= 0

        TestBank = Bank.TestCase

    The host is simulated: time passes only while a rule waits for something, and a schedule is
    drawn with the rules. When the machine is done the host is stopped, and its trace checked.

    Attributes:
        tree: what the host starts with.
        messages: by path, what a service can be sent: strategies of a method and its arguments.
        options: of the host, as `actorvisor.open_host` takes them.
        checked: the rules that its trace is checked by.
        host: the host.
        answers: what asks have brought: the path, the message, and the answer or the error.
    """

    tree: ClassVar[Sequence[Declaration]] = ()
    messages: ClassVar[Mapping[str, st.SearchStrategy[Message]]] = {}
    options: ClassVar[Mapping[str, Any]] = {}
    checked: ClassVar[Sequence[Rule]] = ALL

    host: Host

    def __init__(self) -> None:
        super().__init__()
        declared = list(services(self.tree))
        unknown = sorted(set(self.messages) - {one.path for one in declared} - _pools(self.tree))
        if unknown:
            raise LookupError(
                f"{type(self).__name__}.messages names {unknown[0]!r}, and its tree has "
                f"{', '.join(one.path for one in declared) or 'no services'}"
            )
        self.answers: list[tuple[str, Message, object]] = []
        self.service_paths: list[str] = [one.path for one in declared]
        self.process_paths: list[str] = [one.path for one in declared if one.app.executor.is_remote]
        self.actor_paths: list[str] = [path for path, _, _ in walk(self.tree)]
        self.times: list[float] = sorted({time for one in declared for time in times_of(one)})
        self._arena: Arena
        self._pump: Pump | None = None
        self._over: trio.Event
        self._ended: trio.Event
        self._lives: dict[str, Life] = {}

    def call(self, function: Callable[[Unpack[_Ts]], Awaitable[_T]], *args: *_Ts) -> _T:
        """Run an async function in the simulation, until it has returned; what it returned.

        Raises:
            Exception: what it raised.
            SimulationError: the simulation cannot go on.
        """
        assert self._pump is not None
        return self._pump.call(function, *args)

    def trace(self) -> Trace:
        """What happened so far."""
        return self._arena.open_host.trace()

    def any_message(self) -> st.SearchStrategy[tuple[str, Message]]:
        """A path, and what can be sent there."""
        return st.one_of(
            *(
                st.tuples(st.just(path), strategy)
                for path, strategy in sorted(self.messages.items())
            )
        )

    # --- rules ----------------------------------------------------------------------------

    # No deadline fires early: that would be a start that times out, and no machine.
    @initialize(schedule=schedules().map(lambda drawn: Schedule(demote=drawn.demote)))
    def open(self, schedule: Schedule) -> None:
        """Open the host."""
        self._arena = Arena(Scheduled(schedule), FaultPlan(), max_steps=MAX_STEPS, draws=0)
        self._pump = Pump(self._arena)
        self.call(self._open)

    async def _open(self) -> None:
        self._over = trio.Event()
        start: Any = self._arena.gate.nursery.start
        self.host = await start(self._keep)

    async def _keep(self, task_status: trio.TaskStatus[Host]) -> None:  # noqa: ASYNC114
        reached: BaseException | None = None
        self._ended = trio.Event()
        block = self._arena.open_host(self.tree, executors=self._reach, **self.options)
        try:
            async with block as host:
                task_status.started(host)
                await self._over.wait()
        except BaseExceptionGroup as group:
            # What has exceeded its limit ends the host: that is how it should be.
            reached = group.split(_is_expected)[1]
        finally:
            self._ended.set()
        if reached is not None:
            raise reached

    def _reach(self, executor: Executor) -> Executor:
        return Reached(executor, lives=self._lives)

    @rule(path=_actors)
    def start(self, path: str) -> None:
        """Start what was stopped."""
        self._control(path, "start")

    @rule(path=_actors)
    def stop(self, path: str) -> None:
        """Stop something."""
        self._control(path, "stop")

    @rule(path=_actors)
    def restart(self, path: str) -> None:
        """Restart something."""
        self._control(path, "restart")

    def _control(self, path: str, what: str) -> None:
        async def control() -> None:
            with trio.move_on_after(ANSWER):
                ref = self._ref(path)
                if ref is not None:
                    await getattr(ref, what)()

        self._tolerate(control)

    @precondition(lambda self: self.service_paths)
    @rule(path=_services, error=st.sampled_from([Raise(), Exit()]))
    def crash(self, path: str, error: What) -> None:
        """Let a service crash, whatever it is doing."""
        self._strike(path, error)

    @precondition(lambda self: self.process_paths)
    @rule(path=_processes)
    def kill(self, path: str) -> None:
        """Kill the process of a service."""
        self._strike(path, Kill())

    def _strike(self, path: str, do: What) -> None:
        async def strike_now() -> None:
            life = self._lives.get(path)
            if life is None or life.incarnation.over:
                return
            remote = life.incarnation.application.executor.is_remote
            if remote and not isinstance(do, Kill):
                # Nobody reaches into a process but by its end.
                cast("Any", life).exit(1)
            elif remote or not is_ending(life):
                strike(life, do)
            await trio.lowlevel.checkpoint()

        self.call(strike_now)

    @precondition(lambda self: self.messages)
    @rule(sent=_messages)
    def send(self, sent: tuple[str, Message]) -> None:
        """Tell a service something."""
        path, (method, *args) = sent

        async def tell() -> None:
            with trio.move_on_after(ANSWER):
                ref = self._ref(path)
                if ref is not None:
                    await ref.tell(method, *args)

        self._tolerate(tell)

    @precondition(lambda self: self.messages)
    @rule(sent=_messages)
    def ask(self, sent: tuple[str, Message]) -> None:
        """Ask a service something; what comes of it is in `answers`."""
        path, (method, *args) = sent

        async def ask() -> None:
            ref = self._ref(path)
            if ref is None:
                return
            answer: object = trio.TooSlowError()
            with trio.move_on_after(ANSWER):
                try:
                    answer = await ref.ask(method, *args)
                except ActorvisorError as error:
                    answer = error
            self.answers.append((path, sent[1], answer))

        self.call(ask)

    @rule(seconds=_seconds)
    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.call(trio.sleep, seconds)

    def _ref(self, path: str) -> Any:
        """Who is there; None if nobody is, any more."""
        cell = self.host._commons.cells.get(path)
        return None if cell is None else ref_to(cell)

    def _tolerate(self, function: Callable[[], Awaitable[None]]) -> None:
        """Call something that may be refused, or fail because of what was injected."""
        with contextlib.suppress(ActorvisorError, InjectedFault, SystemExit):
            self.call(function)

    # --- what holds always ----------------------------------------------------------------

    @invariant()
    def every_message_is_accounted_for(self) -> None:
        """M7, at every moment."""
        if self._pump is None:
            return
        for path, mail in self.host.statistics().mailboxes.items():
            parts = (
                mail.handled + mail.rejected + mail.withdrawn + mail.dead_letters
                + mail.waiting + mail.in_hand
            )  # fmt: skip
            if mail.accepted != parts:
                raise RuleBroken(
                    Violation("M7", "accepted is the sum of all others", f"{path}: {mail}")
                )

    def teardown(self) -> None:
        """End the simulation, and check its trace."""
        pump, self._pump = self._pump, None
        if pump is None:
            return
        try:
            try:
                pump.call(self._close)
            finally:
                pump.close()
            check(self.trace(), self.checked)
        finally:
            note(_Shown(self.trace()))

    async def _close(self) -> None:
        self._over.set()
        await self._ended.wait()


class _Shown:
    """A trace that is made text only where that is printed."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    def __repr__(self) -> str:
        return str(self._trace)


def _is_expected(error: BaseException) -> bool:
    """Whether something reached the host because of what was injected."""
    return isinstance(error, InjectedFault | SystemExit | RestartLimitExceeded)


def _pools(tree: Iterable[Declaration]) -> set[str]:
    """The paths of pools, which take messages, too."""
    return {path for path, declaration, _ in walk(tree) if isinstance(declaration, Pool)}


@final
@dataclass(frozen=True, repr=False)
class Reached(Wrapping):
    """An executor as it is, but that its lives can be reached by path.

    Attributes:
        lives: the last life of each path.
    """

    lives: dict[str, Life] = field(compare=False, kw_only=True)

    def begin(self, place: Place, incarnation: Incarnation, nursery: trio.Nursery) -> Life:
        """See `Wrapping.begin`."""
        life = self.lives[incarnation.path] = place.begin(incarnation)
        return life
