"""The gate: every task of a simulation is stepped by it, one at a time, on virtual time.

An instrument puts a driver around the coroutine of each task that is spawned in a simulation.
After every resumption the driver parks its task at the gate, and one scheduler lets one task
through at a time: trio's own order matters no more. Nothing of trio, of the runtime or of the
user is patched; ``Task.coro`` is public, and a test tells if it is no longer writable.
"""

from __future__ import annotations

import contextvars
import math
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVarTuple, Unpack

import outcome
import trio

from .._failures import Deadlock, OutsideSimulation, StepLimit
from ._choices import Choice

if TYPE_CHECKING:
    from trio.testing import MockClock

    from ._choices import Chooser

_Ts = TypeVarTuple("_Ts")

SHOWN: Final = 8
"""Tasks that are named when a simulation goes round and round."""

UNWINDING: Final = 600.0
"""Seconds, of its own time, that a simulation has to unwind in when it is over."""

ROUNDS: Final = 100
"""How often what does not unwind is made to."""


class Unwound(BaseException):
    """What is raised where a task waits that does not end when it is cancelled."""


_gate: contextvars.ContextVar[Gate | None] = contextvars.ContextVar("actorvisor.gate", default=None)
_process: contextvars.ContextVar[Process | None] = contextvars.ContextVar(
    "actorvisor.process", default=None
)


def current_gate() -> Gate | None:
    """The gate of the simulation that this runs in; None outside of any."""
    return _gate.get()


def current_process() -> Process | None:
    """The simulated process that this runs in; None in that of the host."""
    return _process.get()


class Process:
    """A simulated process: tasks that can be killed as SIGKILL kills.

    Attributes:
        name: what it is called in errors.
        dead: whether it was killed.
    """

    def __init__(self, gate: Gate, name: str) -> None:
        self._gate = gate
        self.name = name
        self.dead = False
        self._scopes: set[trio.CancelScope] = set()

    def start_soon(
        self,
        function: Callable[[Unpack[_Ts]], Awaitable[object]],
        *args: *_Ts,
        name: str | None = None,
    ) -> None:
        """Start a task of it; what that starts is of it, too.

        What it raises ends the simulation, unless the process was killed.
        """
        context = contextvars.copy_context()
        context.run(_process.set, self)
        start: Callable[..., None] = self._gate.nursery.start_soon
        context.run(start, self._run, function, args, name=name or self.name)

    async def _run(
        self, function: Callable[..., Awaitable[object]], args: tuple[object, ...]
    ) -> None:
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                await function(*args)
            except BaseException as error:  # noqa: ASYNC103
                # What is killed unwinds after the simulation, where nothing is as it was.
                if not self.dead or isinstance(error, trio.Cancelled):
                    raise
            finally:
                self._scopes.discard(scope)

    def kill(self) -> None:
        """SIGKILL: none of its tasks is stepped again, and nobody waits in its name."""
        self.dead = True
        self._gate.bury()
        for scope in tuple(self._scopes):
            scope.cancel()


class Gate(trio.abc.Instrument):
    """Steps the tasks of one simulation.

    Attributes:
        nursery: the simulation's own, outside of every host.
        choices: the contested ones that were made.
        early: the steps before which a deadline fired early.
        lanes: the name of the task of each step.
        failure: why the simulation could not go on, or None.
        open: whether the simulation is over, and everything unwinds.
        forced: whether that took too long, and was ended by force.
    """

    def __init__(self, chooser: Chooser, clock: MockClock, max_steps: int) -> None:
        # It brings pytest in: whoever simulates nothing, as a worker with faults, does without.
        from trio.testing import wait_all_tasks_blocked

        self.nursery: trio.Nursery
        self.choices: list[Choice] = []
        self.early: list[int] = []
        self.lanes: list[str] = []
        self.failure: Exception | None = None
        self.open = False
        self.forced = False
        self._all_blocked = wait_all_tasks_blocked
        self._chooser = chooser
        self._clock = clock
        self._max_steps = max_steps
        # Parked tasks: in the order in which they run, and since the last look.
        self._ready: list[trio.lowlevel.Task] = []
        self._fresh: list[trio.lowlevel.Task] = []
        # Parked tasks of processes that were killed.
        self._buried: list[trio.lowlevel.Task] = []
        # Tasks that have something to do, and have not come with it yet.
        self._coming = 0
        self._numbers: dict[trio.lowlevel.Task, int] = {}
        # What each waits for, as it has said to trio.
        self._traps: dict[trio.lowlevel.Task, Any] = {}
        self._unwinding: trio.CancelScope | None = None
        self._spawned = 0
        self._any_dead = False
        self._scheduler: trio.lowlevel.Task
        self._waiting = False
        self._held: trio.Event | None = None
        # Tasks that wait for files, trio's own one included.
        self._waiting_for_files = 0

    # --- the instrument -------------------------------------------------------------------

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        """Put the driver around a task of the simulation."""
        if task.context.get(_gate) is self:
            self._numbers[task] = self._spawned
            self._spawned += 1
            task.coro = _outer(self, task, task.coro)  # type: ignore[assignment]

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        """A task has something to do: it comes to the gate with it."""
        if task in self._numbers:
            self._coming += 1

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        """Forget a task."""
        self._numbers.pop(task, None)
        self._traps.pop(task, None)
        if self._unwinding is not None and not self._numbers:
            self._unwinding.cancel()

    # --- what runs in it ------------------------------------------------------------------

    def process(self, name: str) -> Process:
        """A simulated process."""
        return Process(self, name)

    def bare_context(self) -> contextvars.Context:
        """A context of the simulation, and of nothing else: for what begins in another process."""
        context = contextvars.Context()
        context.run(_gate.set, self)
        return context

    def bury(self) -> None:
        """A process was killed: look for what of it is parked."""
        self._any_dead = True

    @property
    def steps(self) -> int:
        """How many were taken so far."""
        return len(self.lanes)

    def fail(self, error: Exception) -> None:
        """The simulation cannot go on."""
        if self.failure is None:
            self.failure = error
        self.nursery.cancel_scope.cancel()

    def start(self, function: Callable[[], Awaitable[object]]) -> None:
        """Start the first task of the simulation."""
        context = contextvars.copy_context()
        context.run(_gate.set, self)
        start: Callable[..., None] = self.nursery.start_soon
        context.run(start, function, name="main")

    # --- the scheduler --------------------------------------------------------------------

    async def run(self) -> None:
        """Step tasks until it is cancelled, or cannot go on; then let everything unwind."""
        self._scheduler = trio.lowlevel.current_task()
        self._waiting_for_files = _waiting_for_files()
        try:
            await self._schedule()
        except Exception as error:
            self.failure = error
        finally:
            # Shielded clean-up may sleep, and nobody else moves the clock any more.
            self._clock.autojump_threshold = 0
            self.open = True
            self._fresh.sort(key=self._numbers.__getitem__)
            for task in (*self._buried, *self._ready, *self._fresh):
                trio.lowlevel.reschedule(task)
            if self.failure is not None:
                self.nursery.cancel_scope.cancel()
            if self._numbers:
                with trio.CancelScope(shield=True) as self._unwinding:
                    await self._see_out()

    async def _see_out(self) -> None:
        """What shields itself for ever would keep the simulation from its end."""
        await trio.sleep(UNWINDING)
        living = tuple(task.name for task in self._numbers if not _is_dead(task))
        if living:
            self.forced = True
            self.fail(Deadlock(living))
        for _ in range(ROUNDS):
            await self._all_blocked()
            for task, trap in list(self._traps.items()):
                # As trio does when what a task waits for is cancelled. Nobody is left to answer
                # what a dead process waits for, come what may.
                aborted = trap.abort_func(_unwind) is trio.lowlevel.Abort.SUCCEEDED
                if aborted or _is_dead(task):
                    trio.lowlevel.reschedule(task, outcome.Error(Unwound()))

    def hold(self) -> None:
        """Step nothing until `go` is called; the clock stands, too."""
        self._held = trio.Event()

    def go(self) -> None:
        """Go on."""
        if self._held is not None:
            self._held.set()
            self._held = None

    async def _schedule(self) -> None:
        ready, chooser = self._ready, self._chooser
        while True:
            while self._held is not None:
                await self._held.wait()
            self._take_fresh()
            if not ready:
                await self._all_blocked()
                if not self._fresh:
                    await self._pass_time()
                continue
            if chooser.early(self.steps) and await self._skip_time():
                self.early.append(self.steps)
                continue
            if self.steps >= self._max_steps:
                raise StepLimit(self._max_steps, tuple(dict.fromkeys(self.lanes[-SHOWN:])))
            task = ready.pop(self._pick() if len(ready) > 1 else 0)
            self.lanes.append(task.name)
            trio.lowlevel.reschedule(task)
            self._coming -= 1  # that one goes through
            self._waiting = True
            await trio.lowlevel.wait_task_rescheduled(self._abort)
            while self._coming:
                # Whoever that step woke parks meanwhile.
                await trio.lowlevel.cancel_shielded_checkpoint()

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._waiting = False
        return trio.lowlevel.Abort.SUCCEEDED

    def _take_fresh(self) -> None:
        if self._fresh:
            self._fresh.sort(key=self._numbers.__getitem__)
            self._ready += self._fresh
            self._fresh.clear()
        if self._any_dead:
            dead = [task for task in self._ready if _is_dead(task)]
            self._buried += dead
            for task in dead:
                self._ready.remove(task)

    def _pick(self) -> int:
        ready = self._ready
        names = [task.name for task in ready]
        picked = self._chooser.pick([self._numbers[task] for task in ready], names)
        self.choices.append(Choice(len(ready), picked, names[picked]))
        return picked

    async def _pass_time(self) -> None:
        """Nothing is ready: the next deadline is due."""
        seconds = trio.lowlevel.current_statistics().seconds_to_next_deadline
        if seconds == math.inf:
            self._explain_stillness()
        self._clock.jump(max(seconds, 0.0))
        # Not one checkpoint: those that it wakes run in the same batch as we do.
        await self._all_blocked()

    async def _skip_time(self) -> bool:
        seconds = trio.lowlevel.current_statistics().seconds_to_next_deadline
        if not 0 < seconds < math.inf:
            return False
        self._clock.jump(seconds)
        await self._all_blocked()
        return True

    def _explain_stillness(self) -> None:
        if trio.to_thread.current_default_thread_limiter().borrowed_tokens:
            raise OutsideSimulation(
                "it waits for a thread of trio.to_thread.run_sync(), which cannot be simulated; "
                "what blocks belongs into a service under ThreadExecutor, or is stubbed"
            )
        if _waiting_for_files() > self._waiting_for_files:
            raise OutsideSimulation(
                "it waits for a socket, a pipe or a process, which cannot be simulated; use memory "
                "channels or trio.testing.memory_stream_pair() instead"
            )
        raise Deadlock(tuple(task.name for task in self._numbers if not _is_dead(task)))

    # --- for the drivers ------------------------------------------------------------------

    def waits(self, task: trio.lowlevel.Task, trap: object) -> None:
        """What a task waits for from now on."""
        self._traps[task] = trap

    def park(self, task: trio.lowlevel.Task) -> None:
        """A task has come to the gate."""
        self._coming -= 1
        self._fresh.append(task)

    def stepped(self) -> None:
        """A task's step is over."""
        if self._waiting:
            self._waiting = False
            trio.lowlevel.reschedule(self._scheduler)


def _is_dead(task: trio.lowlevel.Task) -> bool:
    process = task.context.get(_process)
    return process is not None and process.dead


def _waiting_for_files() -> int:
    statistics = trio.lowlevel.current_statistics().io_statistics
    return sum(
        getattr(statistics, name, 0) for name in ("tasks_waiting_read", "tasks_waiting_write")
    )


def _unwind() -> NoReturn:
    raise Unwound


def _no_abort(_: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED


def _at_gate(gate: Gate, task: trio.lowlevel.Task) -> Generator[Any, Any, None]:
    if not gate.open:
        gate.park(task)
        yield from trio.lowlevel.wait_task_rescheduled(_no_abort).__await__()  # noqa: ASYNC105


@types.coroutine
def _drive(
    gate: Gate, task: trio.lowlevel.Task, inner: Coroutine[Any, Any, Any]
) -> Generator[Any, Any, Any]:
    yield from _at_gate(gate, task)
    value: Any = None
    error: BaseException | None = None
    while True:
        try:
            trap = inner.send(value) if error is None else inner.throw(error)
        except StopIteration as stop:
            return stop.value
        finally:
            gate.stepped()
            error = None
        gate.waits(task, trap)
        try:
            value = yield trap
        except BaseException as thrown:  # noqa: ASYNC103 - it is thrown on, into the task
            error = thrown
        yield from _at_gate(gate, task)


async def _outer(gate: Gate, task: trio.lowlevel.Task, inner: Coroutine[Any, Any, Any]) -> Any:
    return await _drive(gate, task, inner)
