"""Simulations: a system on virtual time, one thing at a time, the same every time (T2, T3, T8)."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar, final

import trio

from ..._core._checks import check_count
from ..._core._describe import describe
from ..._runtime._declaration import is_async
from .._failures import OutsideSimulation
from ._arena import Arena
from ._choices import Choice, Chooser, RandomWalk, Recorded, Scheduled
from ._schedule import Schedule

if TYPE_CHECKING:
    from ._gate import Gate

_T = TypeVar("_T")

MAX_STEPS: Final = 100_000
"""Steps that a simulation may take."""

TRIES: Final = 200
"""Simulations that may be run to find a smaller schedule for what a seed has found."""

System: TypeAlias = Callable[..., Awaitable[_T]]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Generic[_T]):
    """One simulation, as it went.

    Attributes:
        value: what the system returned; None if it raised.
        error: what it raised, or what was wrong with the simulation; None if nothing.
        schedule: in which order things ran, as data: it gives this run again.
        steps: how many steps it took.
        seconds: how long it took, of its own time.
        choices: its contested choices.
        lanes: the name of the task of each step.
    """

    value: _T
    error: BaseException | None
    schedule: Schedule
    steps: int
    seconds: float
    choices: tuple[Choice, ...] = field(repr=False)
    lanes: tuple[str, ...] = field(repr=False)


def simulate(
    system: System[_T],
    *,
    seed: int | None = None,
    schedule: Schedule | None = None,
    replay: Run[Any] | None = None,
    max_steps: int = MAX_STEPS,
) -> Run[_T]:
    """Run a system on virtual time, one thing at a time: the same every time.

    Args:
        system: an async function.
        seed: of a random walk through what could run; None: as `schedule` says.
        schedule: in which order what is ready runs; default: first in, first out.
        replay: a run to be gone through again, choice by choice.
        max_steps: steps that it may take.

    Returns:
        How it went.

    Raises:
        Exception: what the system raised, with a note of how to get there again. What a seed has
            found is expressed as a schedule first, the smallest that was found.
        SimulationError: it cannot be simulated, never ends, or is not what was recorded.
    """
    if sum(one is not None for one in (seed, schedule, replay)) > 1:
        raise TypeError("simulate() takes one of seed=, schedule= and replay=")
    if seed is not None:
        check_count("seed=", seed, least=0)
    if schedule is not None and not isinstance(schedule, Schedule):
        raise TypeError(f"schedule= must be a Schedule, not {describe(schedule)}")
    if replay is not None and not isinstance(replay, Run):
        raise TypeError(f"replay= must be a Run, not {describe(replay)}")
    check_count("max_steps=", max_steps, least=1)
    simulation = _Simulation(system, max_steps)
    if replay is not None:
        run = simulation.run(Recorded(replay.choices, replay.schedule.skip_time))
    elif seed is not None:
        run = simulation.run(RandomWalk(seed))
    else:
        run = simulation.run(Scheduled(schedule or Schedule()))
    if run.error is None:
        return run
    if seed is not None:
        run = simulation.shrunk(run)
    assert run.error is not None
    run.error.add_note(f"simulated with schedule={run.schedule!r}")
    raise run.error


class Exploration(Iterator[Run[_T]]):
    """All schedules of up to so many demotions, one run each; iterate it.

    Attributes:
        runs: how many there were so far.
        distinct: how many of them differed from all before.
    """

    def __init__(self, simulation: _Simulation[_T], demotions: int) -> None:
        self.runs: int = 0
        self._seen: set[int] = set()
        self._runs = self._explore(simulation, demotions)

    @property
    def distinct(self) -> int:
        """How many runs differed from all before, in what happened and in which order."""
        return len(self._seen)

    def __next__(self) -> Run[_T]:
        run = next(self._runs)
        self.runs += 1
        self._seen.add(hash(run.lanes))
        return run

    def _explore(self, simulation: _Simulation[_T], demotions: int) -> Iterator[Run[_T]]:
        # Each schedule once: points are added behind those there are.
        stack: list[tuple[int, ...]] = [()]
        while stack:
            points = stack.pop()
            run = simulation.run(Scheduled(Schedule(demote=points)), Schedule(demote=points))
            yield run
            if len(points) < demotions:
                first = points[-1] + 1 if points else 0
                stack += [(*points, point) for point in reversed(range(first, len(run.choices)))]


def explore(system: System[_T], *, demotions: int, max_steps: int = MAX_STEPS) -> Exploration[_T]:
    """Run a system under every schedule of up to so many demotions.

    Args:
        system: as for `simulate`.
        demotions: how many; the number of runs grows with its power.
        max_steps: steps that each run may take.

    Returns:
        The runs, to be iterated. One that failed has an `Run.error`, and does not raise.
    """
    check_count("demotions=", demotions, least=0)
    check_count("max_steps=", max_steps, least=1)
    return Exploration(_Simulation(system, max_steps), demotions)


class _Simulation(Generic[_T]):
    """A system that is run any number of times."""

    def __init__(self, system: System[_T], max_steps: int) -> None:
        if not is_async(system):
            raise TypeError(
                f"simulate() takes an async function such as `async def system(open_host)`, "
                f"not {describe(system)}"
            )
        self._system = system
        self._max_steps = max_steps

    def run(self, chooser: Chooser, schedule: Schedule | None = None) -> Run[_T]:
        """One run; it raises nothing."""
        arena = Arena(chooser, max_steps=self._max_steps, draws=0)
        gate = arena.gate
        value: Any = None
        error: BaseException | None = None
        seconds = 0.0

        async def main() -> None:
            nonlocal value, error, seconds
            try:
                value = await self._system()
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
        return Run(
            value=value,
            error=error,
            schedule=_schedule_of(gate) if schedule is None else schedule,
            steps=gate.steps,
            seconds=seconds,
            choices=tuple(gate.choices),
            lanes=tuple(gate.lanes or ()),
        )

    def shrunk(self, run: Run[_T]) -> Run[_T]:
        """A run that fails in the same way, with the smallest schedule that was found (T3)."""
        picks, skips = run.schedule.picks, run.schedule.skip_time
        deviations: list[tuple[int, int] | int] = [*picks, *skips]
        tries = 0

        def attempt(kept: Sequence[tuple[int, int] | int]) -> bool:
            nonlocal run, tries
            tries += 1
            schedule = Schedule(
                skip_time=tuple(one for one in kept if isinstance(one, int)),
                picks=tuple(one for one in kept if not isinstance(one, int)),
            )
            found = self.run(Scheduled(schedule), schedule)
            if found.error is None or type(found.error) is not type(run.error):
                return False
            run = found
            return True

        # Delta debugging (Zeller, Hildebrandt: "Simplifying and Isolating Failure-Inducing Input").
        size = len(deviations)
        while size >= 1 and deviations and tries < TRIES:
            start = 0
            while start < len(deviations) and tries < TRIES:
                kept = deviations[:start] + deviations[start + size :]
                if attempt(kept):
                    deviations = kept
                else:
                    start += size
            size = size // 2 if size > 1 else 0
        return run


def _schedule_of(gate: Gate) -> Schedule:
    """What was chosen otherwise than first in, first out."""
    picks: Iterable[tuple[int, int]] = (
        (number, choice.picked) for number, choice in enumerate(gate.choices) if choice.picked
    )
    return Schedule(skip_time=tuple(gate.early), picks=tuple(picks))
