"""The same plans, simulated and on real threads and processes: `python -m tests.testing.real`.

Each plan is drawn from the tree, simulated, and carried out for real; the rules that hold for
every host are checked of both traces. What is real mostly waits, so many are run side by side.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
from collections.abc import Sequence
from time import perf_counter
from typing import Any, Final

import trio
from hypothesis import HealthCheck, Phase, given, settings

import actorvisor as av
from actorvisor.testing import (
    FaultPlan,
    InjectedFault,
    RuleBroken,
    check,
    inject,
    plans,
    record,
    simulate,
)

SIDE_BY_SIDE: Final = 24


class LoopCounter(av.Service):
    """Counts, on a loop."""

    def __init__(self) -> None:
        self.value = 0

    async def add(self, amount: int) -> int:
        await trio.sleep(0.01)
        self.value += amount
        return self.value


class BlockingCounter(av.Service):
    """Counts, in a thread."""

    def __init__(self) -> None:
        self.value = 0

    def add(self, amount: int) -> int:
        self.value += amount
        return self.value


KINDS: Final[dict[str, tuple[type[av.Service], av.Executor, int]]] = {
    "coroutine": (LoopCounter, av.AsyncExecutor(), 0),
    "thread": (BlockingCounter, av.ThreadExecutor(), 1),
    "loop": (LoopCounter, av.AsyncProcessExecutor(), 1),
    "process": (BlockingCounter, av.ProcessExecutor(standby=0), 0),
}

TREE: Final = (
    av.Supervisor(
        [
            av.Application(
                target, name=name, executor=executor, redeliver=again, grace=0.3, start_timeout=5.0
            )
            for name, (target, executor, again) in KINDS.items()
        ],
        name="s",
        strategy="rest_for_one",
        max_restarts=4,
        within=2.0,
    ),
)


async def system(open_host: Any) -> None:
    """Ask each of them some things, whatever becomes of that; then let the host end."""

    async def ask(host: av.Host, name: str) -> None:
        method: Any = KINDS[name][0].add  # type: ignore[attr-defined]
        for amount in range(1, 6):
            with contextlib.suppress(av.ActorvisorError, LookupError), trio.move_on_after(1):
                ref = host.find(f"s/{name}", av.Service)
                await ref.tell(method, amount)
                await ref.ask(method, amount)
            await trio.sleep(0.2)

    try:
        async with open_host(TREE, drain=1.0, cancel_grace=1.0) as host:
            async with trio.open_nursery() as nursery:
                for name in KINDS:
                    nursery.start_soon(ask, host, name)
    except* (InjectedFault, SystemExit, av.ActorvisorError):
        pass  # it did not come up, or reached its limit


def draw(count: int) -> list[FaultPlan]:
    """So many plans, the same every time."""
    found: list[FaultPlan] = []

    @settings(
        max_examples=count,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(plans(TREE, per_child=1))
    def collect(plan: FaultPlan) -> None:
        found.append(plan)

    collect()
    return found[:count]


async def carry_out(plan: FaultPlan) -> RuleBroken | None:
    """One plan, on real threads and processes; which rules were broken."""
    recorded = record(inject(plan))
    await system(recorded)
    try:
        check(recorded.trace())
    except RuleBroken as broken:
        return broken
    return None


async def carry_out_all(todo: Sequence[FaultPlan]) -> list[tuple[FaultPlan, RuleBroken]]:
    """All of them, some side by side; those that broke rules."""
    broken: list[tuple[FaultPlan, RuleBroken]] = []
    limiter = trio.CapacityLimiter(SIDE_BY_SIDE)

    async def run(plan: FaultPlan) -> None:
        async with limiter:
            found = await carry_out(plan)
        if found is not None:
            broken.append((plan, found))

    async with trio.open_nursery() as nursery:
        for plan in todo:
            nursery.start_soon(run, plan)
    return broken


def main(argv: Sequence[str] | None = None) -> int:
    """Run them, and say what broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.testing.real")
    parser.add_argument("--plans", type=int, default=500)
    options = parser.parse_args(argv)
    logging.getLogger("actorvisor").disabled = True
    todo = draw(options.plans)
    faults = sum(map(len, todo))
    begin = perf_counter()
    for plan in todo:
        simulate(system, faults=plan)
    print(f"{len(todo)} plans, {faults} faults; simulated in {perf_counter() - begin:.1f} s")
    begin = perf_counter()
    broken = trio.run(carry_out_all, todo)
    print(f"for real in {perf_counter() - begin:.1f} s, {SIDE_BY_SIDE} side by side")
    for plan, error in broken:
        print(f"\n{plan!r}\n{error}")
    print(f"{len(broken)} of {len(todo)} broke a rule")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
