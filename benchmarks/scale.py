"""What a child costs among many: start, ask and stop of 100,000 against 1,000."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Awaitable, Callable
from time import perf_counter

import trio

from .lives import Idle, bare_tasks, quiet, services
from .measure import Ratio

FEW = 1_000


async def live_services(count: int) -> float:
    """Start that many services, ask each, stop all; seconds for each."""
    begin = perf_counter()
    async with services(count) as refs:
        for number, ref in enumerate(refs):
            assert await ref.ask(Idle.echo, number) == number
    return (perf_counter() - begin) / count


async def live_tasks(count: int) -> float:
    """The same of bare tasks, each with a channel of its own."""
    begin = perf_counter()
    async with bare_tasks(count) as sends:
        for number, send in enumerate(sends):
            answered = trio.Event()
            await send.send((number, answered))
            await answered.wait()
    return (perf_counter() - begin) / count


async def growth(live: Callable[[int], Awaitable[float]], many: int, rounds: int) -> float:
    """How many times as much one costs among many as among few."""
    costs: dict[int, list[float]] = {FEW: [], many: []}
    for _ in range(rounds):
        for count, times in ((FEW, 5), (many, 1)):
            for _ in range(times):
                gc.collect()
                costs[count].append(await live(count))
    return statistics.median(costs[many]) / statistics.median(costs[FEW])


async def scale(quick: bool) -> list[Ratio]:
    """From 1,000 to 100,000 children: how the cost of each grows, against that of bare tasks."""
    many, rounds = (10_000, 1) if quick else (100_000, 3)
    with quiet():
        await live_services(FEW)
        floor = await growth(live_tasks, many, rounds)
        ours = await growth(live_services, many, rounds)
    return [
        Ratio(
            name=f"growth from {FEW:,} to {many:,} children",
            ratio=ours / floor,
            bound="at most",
            limit=1.2,
            ours=ours,
            floor=floor,
            unit="x",
            against="the growth of as many bare tasks, each with a channel of its own",
        )
    ]
