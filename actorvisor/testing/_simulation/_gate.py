"""The gate: every task of a simulation is stepped by it, one at a time, on virtual time.

An instrument puts a driver around the coroutine of each task that is spawned in a simulation.
After every resumption the driver parks its task at the gate, and one scheduler lets one task
through at a time: trio's own order matters no more. Nothing of trio, of the runtime or of the
user is patched; ``Task.coro`` is public, and a test tells if it is no longer writable.
"""

from __future__ import annotations

import contextvars
import gc
import math
from collections.abc import Awaitable, Callable, Coroutine
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

STEPS_BETWEEN_COLLECTIONS: Final = 1000
"""Steps after which what nobody refers to is collected."""

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
        # Set when one of its tasks has something to do while everything unwinds.
        self._stirred: trio.Event | None = None
        self._spawned = 0
        self._any_dead = False
        self._scheduler: trio.lowlevel.Task | None = None
        # Tasks of trio's own, and others beside the simulation, that have something to do.
        self._strangers: set[trio.lowlevel.Task] = set()
        # Whether the scheduler waits for the steps, and whether one is under way.
        self._waiting = False
        self._stepping = False
        # Whether the next deadline fires before the next step; None: not asked yet.
        self._is_early: bool | None = None
        # Why the chooser chooses no more.
        self._refusal: Exception | None = None
        self._held: trio.Event | None = None
        self._collect_at = STEPS_BETWEEN_COLLECTIONS
        # Tasks that wait for files, trio's own one included.
        self._waiting_for_files = 0

    # --- the instrument -------------------------------------------------------------------

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        """Put the driver around a task of the simulation."""
        nursery = task.parent_nursery
        parent = None if nursery is None else nursery.parent_task
        if parent is None or parent is trio.lowlevel.current_root_task():
            return  # one of trio's own, whatever its context says
        if task.context.get(_gate) is not self:
            if parent not in self._numbers:
                return
            # Started by way of trio's own tasks, or in a bare context.
            task.context.run(_gate.set, self)
            task.context.run(_process.set, parent.context.get(_process))
        self._numbers[task] = self._spawned
        self._spawned += 1
        task.coro = _Driver(self, task, task.coro)  # type: ignore[assignment]

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        """A task has something to do: one of the simulation comes to the gate with it."""
        if task in self._numbers:
            self._coming += 1
            if self._stirred is not None:
                self._stirred.set()
        elif task is not self._scheduler:
            self._strangers.add(task)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """All whom a step has woken are known, but those whose time has come with it."""
        self._strangers.discard(task)
        if self._waiting and not (self._stepping or self._coming or self._strangers):
            self._wake()

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        """Forget a task."""
        if self._numbers.pop(task, None) is not None:
            self._traps.pop(task, None)
            # Else it would keep itself alive.
            task.coro = task.coro._inner  # type: ignore[attr-defined]
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

    @trio.lowlevel.enable_ki_protection
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
        for number in range(ROUNDS):
            await self._all_blocked()
            self._stirred = trio.Event()
            threads = False
            for task, trap in list(self._traps.items()):
                # As trio does when what a task waits for is cancelled. Nobody is left to answer
                # what a dead process waits for, come what may, but a thread: that answers itself.
                aborted = trap.abort_func(_unwind) is trio.lowlevel.Abort.SUCCEEDED
                hopeless = _is_dead(task) or number >= ROUNDS // 2
                if aborted or (hopeless and not _is_of_thread(trap)):
                    trio.lowlevel.reschedule(task, outcome.Error(Unwound()))
                else:
                    threads |= _is_of_thread(trap)
            if threads:
                await self._stirred.wait()

    def hold(self) -> None:
        """Step nothing until `go` is called; the clock stands, too."""
        self._held = trio.Event()

    def go(self) -> None:
        """Go on."""
        if self._held is not None:
            self._held.set()
            self._held = None

    async def _schedule(self) -> None:
        while True:
            if self._held is not None:
                await self._held.wait()
            elif self._coming or self._strangers:
                await self._let_them_go_on()
            elif (task := self._choose()) is not None:
                self._let_through(task)
                await self._let_them_go_on()
            elif self._refusal is not None:
                raise self._refusal
            elif self.steps >= self._collect_at:
                self._collect_at = self.steps + STEPS_BETWEEN_COLLECTIONS
                gc.collect(1)
            elif self._is_early:
                self._is_early = False
                if await self._skip_time():
                    self.early.append(self.steps)
            elif self._ready:
                raise StepLimit(self._max_steps, tuple(dict.fromkeys(self.lanes[-SHOWN:])))
            else:
                await self._all_blocked()
                if self._is_still():
                    await self._pass_time()

    def _is_still(self) -> bool:
        return not (self._fresh or self._coming or self._strangers)

    async def _let_them_go_on(self) -> None:
        """Tasks let each other through, until nobody can be chosen."""
        self._waiting = True
        await trio.lowlevel.wait_task_rescheduled(self._abort)

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._waiting = False
        return trio.lowlevel.Abort.SUCCEEDED

    def _take_fresh(self) -> None:
        fresh = self._fresh
        if fresh:
            if len(fresh) > 1:
                fresh.sort(key=self._numbers.__getitem__)
            self._ready += fresh
            fresh.clear()
        if self._any_dead:
            dead = [task for task in self._ready if _is_dead(task)]
            self._buried += dead
            for task in dead:
                self._ready.remove(task)

    def _choose(self) -> trio.lowlevel.Task | None:
        """Whose step is the next; None: the scheduler has to see to something before."""
        self._take_fresh()
        if not self._ready or self._held is not None or self._refusal is not None:
            return None
        steps = len(self.lanes)
        if steps >= self._collect_at or steps >= self._max_steps:
            return None
        try:
            if self._is_early is None:
                self._is_early = self._chooser.early(steps)
            if self._is_early:
                return None
            task = self._ready.pop(self._pick() if len(self._ready) > 1 else 0)
        except Exception as error:
            self._refusal = error  # not into the task that happens to ask
            return None
        self._is_early = None
        self.lanes.append(task.name)
        self._stepping = True
        return task

    def _let_through(self, task: trio.lowlevel.Task) -> None:
        trio.lowlevel.reschedule(task)
        self._coming -= 1  # it has been at the gate

    def _wake(self) -> None:
        """Have the scheduler go on, in the next turn of the loop."""
        assert self._scheduler is not None
        self._waiting = False
        trio.lowlevel.reschedule(self._scheduler)

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
        await self._jump(max(seconds, 0.0))

    async def _skip_time(self) -> bool:
        seconds = trio.lowlevel.current_statistics().seconds_to_next_deadline
        if not 0 < seconds < math.inf:
            return False
        await self._jump(seconds)
        return True

    async def _jump(self, seconds: float) -> None:
        self._clock.jump(seconds)
        # Whom that wakes is known when we run again, though some may park later in that batch.
        await trio.lowlevel.cancel_shielded_checkpoint()

    def _explain_stillness(self) -> None:
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
        if _is_of_thread(trap) and not self.open:
            self.fail(
                OutsideSimulation(
                    "it waits for a thread of trio.to_thread.run_sync(), which cannot be "
                    "simulated; what blocks belongs into a service under ThreadExecutor, or is "
                    "stubbed"
                )
            )

    def park(self, task: trio.lowlevel.Task) -> bool:
        """A task has come to the gate; whether it may go through at once."""
        self._coming -= 1
        self._fresh.append(task)
        if self._coming or self._strangers or self._stepping or not self._waiting:
            return False
        chosen = self._choose()
        if chosen is task:
            return True
        if chosen is None:
            self._wake()
        else:
            self._let_through(chosen)
        return False

    def stepped(self) -> None:
        """A task's step is over."""
        self._stepping = False


def _is_dead(task: trio.lowlevel.Task) -> bool:
    process = task.context.get(_process)
    return process is not None and process.dead


_THREADS: Final = trio.to_thread.run_sync.__code__.co_filename


def _is_of_thread(trap: object) -> bool:
    """Whether that is what `trio.to_thread.run_sync` waits with."""
    code = getattr(getattr(trap, "abort_func", None), "__code__", None)
    return code is not None and code.co_filename == _THREADS


def _waiting_for_files() -> int:
    statistics = trio.lowlevel.current_statistics().io_statistics
    return sum(
        getattr(statistics, name, 0) for name in ("tasks_waiting_read", "tasks_waiting_write")
    )


def _unwind() -> NoReturn:
    raise Unwound


def _no_abort(_: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED


_PARKED: Final = (
    trio.lowlevel.wait_task_rescheduled(_no_abort).__await__().send(None)  # noqa: ASYNC105
)
"""What a task says to trio that waits at the gate."""


class _Driver:
    """Stands for the coroutine of a task, and stops at the gate before each of its steps.

    Whoever looks at the task, as trio does for a stack, sees the coroutine itself.
    """

    __slots__ = ("_error", "_gate", "_inner", "_is_parked", "_task", "_value")

    def __init__(
        self, gate: Gate, task: trio.lowlevel.Task, inner: Coroutine[Any, Any, Any]
    ) -> None:
        self._gate = gate
        self._task = task
        self._inner = inner
        self._is_parked = False
        # What the task goes on with.
        self._value: Any = None
        self._error: BaseException | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def send(self, value: Any) -> Any:
        """See `Coroutine.send`."""
        if self._is_parked:
            self._is_parked = False
            return self._step()
        self._value = value
        return self._arrive()

    def throw(self, error: BaseException) -> Any:
        """See `Coroutine.throw`."""
        self._error = error
        return self._arrive()

    def _arrive(self) -> Any:
        if self._gate.open or self._gate.park(self._task):
            return self._step()
        self._is_parked = True
        return _PARKED

    def _step(self) -> Any:
        gate, value, error = self._gate, self._value, self._error
        self._value = self._error = None
        try:
            trap = self._inner.send(value) if error is None else self._inner.throw(error)
        finally:
            error = None
            gate.stepped()
        gate.waits(self._task, trap)
        return trap
