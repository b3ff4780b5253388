"""Simulations: a system on virtual time, one thing at a time, the same every time (T2, T3, T8)."""

from __future__ import annotations

import contextlib
import contextvars
import gc
import inspect
import os
import random
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar, final

import trio

from ..._core._checks import check_count
from ..._core._describe import describe
from ..._runtime._kind import is_async
from ..._runtime._origin import add_note
from .._check import ALL, Rule, check
from .._failures import OutsideSimulation
from .._faults import Fault, FaultPlan, plan_of
from .._trace import Trace
from .._violations import RuleBroken
from ._arena import Arena
from ._choices import Chooser, RandomWalk, Recorded, Scheduled
from ._recipe import Recipe
from ._schedule import Schedule

if TYPE_CHECKING:
    from ._gate import Gate

_T = TypeVar("_T")

MAX_STEPS: Final = 100_000
"""Steps that a simulation may take."""

TRIES: Final = 300
"""Simulations that may be run to find a smaller plan and schedule for what a seed has found."""

DEMOTIONS: Final = 100
"""Choices at which a demotion is tried in the stead of all that a walk did."""

System: TypeAlias = Callable[..., Awaitable[_T]]

replayed: contextvars.ContextVar[Recipe | None] = contextvars.ContextVar(
    "actorvisor.replayed", default=None
)
"""What every `simulate` here runs again, whatever it is given; None: what it is given."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Generic[_T]):
    """One simulation, as it went.

    Attributes:
        value: what the system returned; None if it raised.
        error: what it raised, which rule was broken, or what was wrong with the simulation; None
            if nothing.
        trace: what happened in its hosts.
        faults: what went wrong.
        schedule: in which order things ran, as data: with the faults it gives this run again.
        steps: how many steps it took.
        seconds: how long it took, of its own time.
        lanes: the name of the task of each step.
    """

    value: _T
    error: BaseException | None
    trace: Trace
    faults: FaultPlan
    schedule: Schedule
    steps: int
    seconds: float
    lanes: tuple[str, ...] = field(repr=False)


def simulate(
    system: System[_T],
    *,
    seed: int | None = None,
    schedule: Schedule | None = None,
    faults: FaultPlan | Iterable[Fault] = (),
    replay: Run[Any] | Trace | str | os.PathLike[str] | None = None,
    rules: Iterable[Rule] = ALL,
    max_steps: int = MAX_STEPS,
) -> Run[_T]:
    """Run a system on virtual time, one thing at a time: the same every time.

    Services in threads and in processes are simulated with the rest. What is outside of the
    program cannot be: other threads, sockets, the wall clock, the global random generator. The
    system may be run several times, so nothing outside of it should remember.

    Args:
        system: an async function. It is called with what opens its hosts, which takes what
            `actorvisor.open_host` takes; one without parameters is any trio program.
        seed: of a random walk through what could run; None: as `schedule` says.
        schedule: in which order what is ready runs; default: first in, first out.
        faults: what goes wrong in its hosts.
        replay: a run to be gone through again, choice by choice: a `Run`, its `Trace`, or the
            file that this was written to.
        rules: what is checked of its trace in the end.
        max_steps: steps that it may take.

    Returns:
        How it went.

    Raises:
        Exception: what the system raised, with a note of how to get there again. What a seed has
            found is expressed as a plan and a schedule first, the smallest that were found.
        RuleBroken: the runtime, or a rule of yours, was found broken.
        FaultPlanError: a fault is for nobody, or does not fit.
        SimulationError: it cannot be simulated, never ends, or is not what was recorded.
        TraceError: the file to be replayed is no trace of a simulation.

    Example:
        ::

            async def system(open_host):
                async with open_host([Application(Counter, name="counter")]) as host:
                    ...

            simulate(system, faults=[Fault("host/counter", 1, Before(1), Raise())], seed=1)
    """
    if sum(one is not None for one in (seed, schedule, replay)) > 1:
        raise TypeError("simulate() takes one of seed=, schedule= and replay=")
    plan = plan_of(faults)
    if plan.faults and replay is not None:
        raise TypeError("simulate(replay=) brings its own faults; leave faults= out")
    if seed is not None:
        check_count("seed=", seed, least=0)
    if schedule is not None and not isinstance(schedule, Schedule):
        raise TypeError(f"schedule= must be a Schedule, not {describe(schedule)}")
    simulation = _Simulation(system, plan, rules, max_steps)
    contested = 0
    recipe = _recipe_of(replay) if replay is not None else replayed.get()
    if recipe is not None:
        run = simulation.replay(recipe)
    elif seed is not None:
        run, contested = simulation.walked(seed)
    else:
        given = schedule or Schedule()
        run = simulation.run(Scheduled(given), plan, given)
    if run.error is None:
        return run
    if recipe is None and seed is not None:
        run = simulation.shrunk(run, contested)
    error = run.error
    assert error is not None
    add_note(error, f"simulated with faults={run.faults!r}, schedule={run.schedule!r}")
    error.__dict__["actorvisor_run"] = run
    raise error


def _recipe_of(replay: object) -> Recipe:
    match replay:
        case Run():
            return Recipe.of(replay.trace)
        case Trace():
            return Recipe.of(replay)
        case str() | os.PathLike():
            return Recipe.read(replay)
        case _:
            raise TypeError(f"replay= must be a Run, a Trace or a file, not {describe(replay)}")


class Exploration(Iterator[Run[_T]]):
    """All schedules of up to so many demotions, one run each; iterate it.

    Attributes:
        runs: how many there were so far.
    """

    def __init__(self, simulation: _Simulation[_T], demotions: int) -> None:
        self.runs: int = 0
        self._seen: set[int] = set()
        self._runs = self._explore(simulation, demotions)

    @property
    def distinct(self) -> int:
        """How many runs had a trace that none before had; without a host: an order of steps."""
        return len(self._seen)

    def __next__(self) -> Run[_T]:
        run = next(self._runs)
        self.runs += 1
        # The same things at the same times; a step more in between makes no difference.
        told = tuple(str(one) for one in run.trace.entries)
        self._seen.add(hash(told or run.lanes))
        return run

    def _explore(self, simulation: _Simulation[_T], demotions: int) -> Iterator[Run[_T]]:
        # Each schedule once: points are added behind those there are.
        stack: list[tuple[int, ...]] = [()]
        while stack:
            points = stack.pop()
            schedule = Schedule(demote=points)
            run, contested = simulation.counted(schedule)
            yield run
            if len(points) < demotions:
                first = points[-1] + 1 if points else 0
                stack += [(*points, point) for point in reversed(range(first, contested))]


def explore(
    system: System[_T],
    *,
    demotions: int,
    faults: FaultPlan | Iterable[Fault] = (),
    rules: Iterable[Rule] = ALL,
    max_steps: int = MAX_STEPS,
) -> Exploration[_T]:
    """Run a system under every schedule of up to so many demotions.

    Args:
        system: as for `simulate`.
        demotions: how many; the number of runs grows with its power.
        faults: as for `simulate`.
        rules: as for `simulate`.
        max_steps: steps that each run may take.

    Returns:
        The runs, to be iterated. One that failed has an `Run.error`, and does not raise.
    """
    check_count("demotions=", demotions, least=0)
    return Exploration(_Simulation(system, plan_of(faults), rules, max_steps), demotions)


@contextlib.contextmanager
def _collected_by_step() -> Generator[None, None, None]:
    """What nobody refers to is collected by the gate: finalisers run at the same step every time."""
    enabled = gc.isenabled()
    gc.disable()
    gc.collect(1)  # what was left before does not end within
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Simulation(Generic[_T]):
    """A system that is run any number of times.

    Attributes:
        faults: what goes wrong in it, if nothing else is said.
    """

    def __init__(
        self, system: System[_T], faults: FaultPlan, rules: Iterable[Rule], max_steps: int
    ) -> None:
        if not is_async(system):
            raise TypeError(
                f"simulate() takes an async function such as `async def system(open_host)`, "
                f"not {describe(system)}"
            )
        takes = len(inspect.signature(system).parameters)
        if takes > 1:
            raise TypeError(
                f"{describe(system)} takes {takes} arguments; a system takes what opens its hosts, "
                "or nothing"
            )
        if faults.faults and not takes:
            raise TypeError(
                f"faults are for the hosts of a system, and {describe(system)} has none: let it "
                "take open_host, and open its hosts with that"
            )
        self._system = system
        self._takes_host = bool(takes)
        self.faults: FaultPlan = faults
        self._rules = tuple(rules)
        self._max_steps = check_count("max_steps=", max_steps, least=1)

    def run(
        self,
        chooser: Chooser,
        faults: FaultPlan,
        schedule: Schedule,
    ) -> Run[_T]:
        """One run; it raises nothing.

        Args:
            chooser: what runs next.
            faults: what goes wrong.
            schedule: what the chooser goes by.
        """
        return self._run(chooser, faults, schedule, schedule.draws)[0]

    def counted(self, schedule: Schedule) -> tuple[Run[_T], int]:
        """One run, and how many contested choices there were."""
        run, gate = self._run(Scheduled(schedule), self.faults, schedule, schedule.draws)
        return run, len(gate.choices)

    def walked(self, seed: int) -> tuple[Run[_T], int]:
        """One run at random, and how many contested choices there were; it raises nothing."""
        run, gate = self._run(RandomWalk(seed), self.faults, None, seed)
        return run, len(gate.choices)

    def replay(self, recipe: Recipe) -> Run[_T]:
        """A run that was recorded, once more."""
        recorded = Recorded(recipe.choices, recipe.schedule.skip_time)
        return self.run(recorded, recipe.faults, recipe.schedule)

    @_collected_by_step()
    def _run(
        self, chooser: Chooser, faults: FaultPlan, schedule: Schedule | None, draws: int
    ) -> tuple[Run[_T], Gate]:
        arena = Arena(chooser, faults, max_steps=self._max_steps, draws=draws)
        gate = arena.gate
        value: Any = None
        error: BaseException | None = None
        seconds = 0.0

        async def main() -> None:
            nonlocal value, error, seconds
            try:
                value = await self._system(*([arena.open_host] if self._takes_host else ()))
            except trio.Cancelled:
                raise
            except BaseException as raised:  # noqa: ASYNC103 - it is kept
                error = raised
            finally:
                if gate.failure is None:
                    seconds = trio.current_time()

        generator = random.getstate()
        trio.run(arena.enter, main, clock=arena.clock, instruments=[gate])
        error = gate.failure or error
        if error is None and random.getstate() != generator:
            error = OutsideSimulation(
                "it drew from the global random generator, which no seed of ours reaches; "
                "give it a random.Random of its own"
            )
        if schedule is None:
            schedule = _schedule_of(gate, draws)
        recipe = Recipe(faults=faults, schedule=schedule, choices=tuple(gate.choices))
        name = f"{self._system.__module__}.{getattr(self._system, '__qualname__', '')}"
        trace = arena.open_host.trace(system=name, **recipe.header())
        if error is None:
            try:
                check(trace, self._rules)
            except RuleBroken as broken:
                error = broken
        run = Run(
            value=value,
            error=error,
            trace=trace,
            faults=faults,
            schedule=schedule,
            steps=gate.steps,
            seconds=seconds,
            lanes=tuple(gate.lanes),
        )
        return run, gate

    def shrunk(self, run: Run[_T], contested: int) -> Run[_T]:
        """A run that fails in the same way, with the smallest plan and schedule found (T3).

        Args:
            run: the one that failed.
            contested: how many contested choices it had.
        """
        tries = 0

        def attempt(parts: Sequence[_Part]) -> Run[_T] | None:
            nonlocal tries
            tries += 1
            schedule = _schedule_from(parts)
            faults = FaultPlan(part for part in parts if isinstance(part, Fault))
            found = self.run(Scheduled(schedule), faults, schedule)
            return found if _is_same(found.error, run.error) else None

        # Most races need one task to be late, which says more than all that ran otherwise.
        order, draws = _parts_of(run.schedule)
        parts: list[_Part] = [*run.faults, *order, *draws]
        if order:
            for point in [None, *range(min(contested, DEMOTIONS))]:
                demoted: list[_Part] = [] if point is None else [("demote", point)]
                tried = [*run.faults, *demoted, *draws]
                found = attempt(tried)
                if found is not None:
                    run, parts = found, tried
                    break
        # Delta debugging (Zeller, Hildebrandt: "Simplifying and Isolating Failure-Inducing Input").
        size = len(parts)
        while size >= 1 and parts and tries < TRIES:
            start = 0
            while start < len(parts) and tries < TRIES:
                kept = parts[:start] + parts[start + size :]
                found = attempt(kept)
                if found is not None:
                    run, parts = found, kept
                else:
                    start += size
            size = size // 2 if size > 1 else 0
        return run


_Part: TypeAlias = Fault | tuple[str, Any]
"""Something that can be left out of a plan and its schedule."""


def _parts_of(schedule: Schedule) -> tuple[list[_Part], list[_Part]]:
    """In which order things run; and what is drawn."""
    names = ("demote", "skip_time", "picks")
    order: list[_Part] = [(name, one) for name in names for one in getattr(schedule, name)]
    return order, [("draws", schedule.draws)] if schedule.draws else []


def _schedule_from(parts: Iterable[_Part]) -> Schedule:
    draws = 0
    points: dict[str, list[Any]] = {}
    for part in parts:
        if isinstance(part, Fault):
            continue
        name, value = part
        if name == "draws":
            draws = value
        else:
            points.setdefault(name, []).append(value)
    return Schedule(draws=draws, **{name: tuple(found) for name, found in points.items()})


def _is_same(found: BaseException | None, wanted: BaseException | None) -> bool:
    """Whether two runs failed in the same way."""
    if isinstance(found, RuleBroken) and isinstance(wanted, RuleBroken):
        return found.rule == wanted.rule
    return found is not None and type(found) is type(wanted)


def _schedule_of(gate: Gate, draws: int) -> Schedule:
    """What was chosen otherwise than first in, first out."""
    picks: Iterable[tuple[int, int]] = (
        (number, choice.picked) for number, choice in enumerate(gate.choices) if choice.picked
    )
    return Schedule(skip_time=tuple(gate.early), picks=tuple(picks), draws=draws)
