"""Simulations: crashes and restarts of them in a second; and what they cost who does not use them."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from time import perf_counter
from typing import Any, Final

import trio

import actorvisor as av

from .measure import MICROSECONDS, MILLISECONDS, Measure, Ratio, compare

RATE: Final = 600.0
"""Crashes and restarts a second that a simulation must go through."""

HOUR: Final = 1.0
"""Seconds that an hour of two services that crash may take."""


class Fragile(av.Service):
    """Crashes whenever it is asked."""

    def crash(self) -> None:
        raise ConnectionError


class Ticking(av.Service):
    """Crashes by itself, now and then."""

    def __init__(self, period: float) -> None:
        self.period = period

    def setup(self) -> None:
        self.after(self.period, Ticking.crash)

    def crash(self) -> None:
        raise ConnectionError


EXECUTORS: Final[dict[str, av.Executor]] = {
    "coroutine": av.AsyncExecutor(),
    "thread": av.ThreadExecutor(),
    "process with a loop": av.AsyncProcessExecutor(),
    "process": av.ProcessExecutor(),
}


async def simulation(quick: bool) -> list[Ratio]:
    """Simulated crashes and restarts, and an hour of them; rules are checked of each run."""
    # It is imported by nobody who does not simulate.
    from actorvisor.testing import simulate

    count, rounds = (100, 3) if quick else (1_000, 5)
    max_steps = 100 * 1_000

    def crashes_of(executor: av.Executor) -> Measure:
        tree = av.Supervisor(
            [av.Application(Fragile, name="fragile", executor=executor)],
            name="s",
            max_restarts=2 * count,
            within=1.0,
        )

        async def system(open_host: Any) -> None:
            async with open_host([tree]) as host:
                fragile = host.find("s/fragile", Fragile)
                for _ in range(count):
                    try:
                        await fragile.ask(Fragile.crash)
                    except av.ServiceCrashed:
                        continue

        def run() -> float:
            begin = perf_counter()
            simulate(system, max_steps=max_steps)
            return (perf_counter() - begin) / count

        async def measure() -> float:
            return await trio.to_thread.run_sync(run)

        return measure

    async def hour(open_host: Any) -> None:
        apps = [
            av.Application(Ticking, 10.0, name="one", backoff=av.Fixed(0.3)),
            av.Application(Ticking, 11.0, name="two", backoff=av.Fixed(0.3)),
        ]
        tree = av.Supervisor(apps, name="s", max_restarts=1000, within=3600.0)
        async with open_host([tree]):
            await trio.sleep(3600)

    async def measure_hour() -> float:
        def run() -> float:
            begin = perf_counter()
            run = simulate(hour)
            assert run.seconds >= 3600
            assert len(run.trace.kinds("restarting")) > 600
            return perf_counter() - begin

        return await trio.to_thread.run_sync(run)

    found = [
        await compare(
            f"simulated restarts, {name}",
            crashes_of(executor),
            _fixed(1 / RATE),
            rounds=rounds,
            against=f"{RATE:g} a second",
            at_most=1,
            unit=MILLISECONDS,
        )
        for name, executor in EXECUTORS.items()
    ]
    return [
        *found,
        await compare(
            "a simulated hour, 670 restarts",
            measure_hour,
            _fixed(HOUR),
            rounds=rounds,
            against=f"{HOUR:g} second",
            at_most=1,
            unit=MILLISECONDS,
        ),
    ]


def _fixed(cost: float) -> Measure:
    async def measure() -> float:  # noqa: ASYNC124 - it is what the target allows
        return cost

    return measure


UNUSED: Final = """
import gc, json, sys, trio
from benchmarks import lives, messages

async def main():
    return [
        await messages.flood(20_000, "plain"),
        await messages.converse(5_000, "plain"),
        await lives.time_services(2_000),
    ]

def fastest():
    # How much is alive decides when the collector looks at all of it: any import shifts that, to
    # either side, by more than what is measured here.
    gc.collect()
    gc.freeze()
    return [min(each) for each in zip(*(trio.run(main) for _ in range(5)))]

with lives.quiet():
    trio.run(main)
    before = fastest()
    if sys.argv[1] == "with":
        import actorvisor.testing
    print(json.dumps([before, fastest()]))
"""
"""Each process is compared to itself: two of them differ by more than what is looked for."""


async def unused(quick: bool) -> list[Ratio]:
    """`tell`, `ask` and start before `actorvisor.testing` is imported, and after."""
    rounds = 3 if quick else 15
    costs: dict[str, list[tuple[list[float], list[float]]]] = {"with": [], "without": []}
    for number in range(rounds):
        for how in sorted(costs, reverse=bool(number % 2)):
            done = await trio.run_process(
                [sys.executable, "-c", UNUSED, how],
                capture_stdout=True,
                stdin=subprocess.DEVNULL,
            )
            costs[how].append(json.loads(done.stdout))
    found = []
    for place, name in enumerate(("tell", "ask", "start")):
        # What disturbs one measurement does not disturb the median; that the second one is faster
        # anyway shows in those that import nothing.
        ours, floor = (
            statistics.median(after[place] / before[place] for before, after in costs[how])
            for how in ("with", "without")
        )
        cost = statistics.median(before[place] for before, _ in costs["with"])
        found.append(
            Ratio(
                name=f"{name}, with actorvisor.testing imported",
                ratio=ours / floor,
                bound="at most",
                limit=1.02,
                ours=ours / floor * cost * MICROSECONDS.scale,
                floor=cost * MICROSECONDS.scale,
                unit=MICROSECONDS.name,
                against="the same before that import",
            )
        )
    return found
