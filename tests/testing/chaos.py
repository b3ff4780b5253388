"""Chaos: random trees, driven at random, under random plans and schedules; no rule may be broken.

    python -m tests.testing.chaos --examples 20000   prints how many there were in a second
    python -m tests.testing.chaos --number 4711      of one tree only

What is found is printed as a test of `tests.testing.test_found` has it.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import logging
import random
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import hypothesis
import trio
from hypothesis import HealthCheck, Phase, given, settings, strategies as st

import actorvisor as av
from actorvisor.testing import Fault, FaultPlan, FaultPlanError, Run, Schedule, simulate
from actorvisor.testing._strategies import plans, schedules
from actorvisor.testing._tree import services
from tests.testing.systems import BlockingActor, Broken, LoopActor, draw_script, method_of

if TYPE_CHECKING:
    from collections.abc import Iterable

BATCH: Final = 500
"""Examples of one search: each begins anew, so that one finding does not hide the next."""

TREES: Final = 100
"""Trees of one search."""

NUMBERS: Final = 10**6
"""Trees that there are."""

EXECUTORS: Final[dict[str, av.Executor]] = {
    "c": av.AsyncExecutor(),
    "t": av.ThreadExecutor(),
    "a": av.AsyncProcessExecutor(standby=1),
    "p": av.ProcessExecutor(standby=0, hang_timeout=3.0),
}
"""By the last letter of a service's name."""


class Reader(av.Service):
    """A loop that reads its mail."""

    async def run(self) -> None:
        async for _ in self.mailbox:
            await trio.sleep(0.05)


async def visit(seconds: float) -> None:
    """A function that takes some time, and fails every other time."""
    await trio.sleep(seconds)
    if int(seconds * 100) % 2:
        raise Broken


def lane(script: Any) -> str:
    """The key of a message."""
    return str(len(script))


class Chaos:
    """One tree, and what drives it.

    Args:
        number: which one.

    Attributes:
        tree: its declaration.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self._draw = draw = random.Random(number)
        self.tree: list[Any] = [self._any(f"{place}", 0) for place in range(draw.randint(1, 3))]
        self._paths = [one.path for one in services(self.tree) if not one.app.is_loop]
        self._options: dict[str, Any] = {
            "max_restarts": draw.choice([1, 5, 50]),
            "within": draw.choice([1.0, 5.0]),
            "on_limit": draw.choice(["end", "drop", "drop"]),
            "drain": draw.choice([0.0, 1.0, 5.0]),
            "cancel_grace": 1.0,
        }

    # --- the tree -------------------------------------------------------------------------

    def _any(self, name: str, depth: int, significant: bool = False) -> Any:
        draw = self._draw
        kind = draw.random()
        if depth < 2 and kind < 0.5 - depth / 5:
            return self._supervisor(f"{name}s", depth)
        if kind < 0.6:
            return self._pool(f"{name}m")
        if kind < 0.65:
            seconds = round(draw.random(), 2)
            return av.Application(visit, seconds, name=f"{name}f", **self._common())
        if kind < 0.7:
            return av.Application(Reader, name=f"{name}r", **self._common())
        return self._service(name, "ccctap", significant=significant)

    def _common(self) -> dict[str, Any]:
        draw = self._draw
        backoffs = [av.Immediate(), av.Immediate(), av.Fixed(0.2), av.Exponential(0.1, jitter=0.5)]
        return {
            "restart": draw.choice(["permanent", "permanent", "transient", "temporary"]),
            "backoff": draw.choice(backoffs),
        }

    def _service(self, name: str, kinds: str, *, significant: bool = False) -> Any:
        draw = self._draw
        kind = draw.choice(kinds)
        options = self._common()
        if significant and options["restart"] != "permanent":
            options["significant"] = True
        if draw.random() < 0.2:
            options["on_crash"] = {Broken: draw.choice(["escalate", "stop"])}
        return av.Application(
            BlockingActor if kind in "tp" else LoopActor,
            name=f"{name}{kind}",
            executor=EXECUTORS[kind],
            redeliver=draw.choice([0, 0, 1, 2]),
            mailbox=draw.choice([1, 3, 1000]),
            overflow=draw.choice(["wait", "wait", "wait", "drop_oldest"]),
            grace=draw.choice([0.0, 0.5, 5.0]),
            start_timeout=draw.choice([0.5, 30.0]),
            **options,
        )

    def _pool(self, name: str) -> Any:
        draw = self._draw
        member = self._service("m", "cca")
        return av.Pool(
            member,
            size=draw.randint(1, 3),
            key=draw.choice([None, lane]),
            max_restarts=draw.choice([1, 5, 50]),
            within=draw.choice([0.5, 5.0]),
            name=f"{name}c",
        )

    def _supervisor(self, name: str, depth: int) -> Any:
        draw = self._draw
        strategy: Any = draw.choice(["one_for_one", "one_for_all", "rest_for_one"])
        alone = strategy == "one_for_one"
        auto: Any = draw.choice(["never", "never", "any", "all"])
        children = [
            self._any(f"{place}", depth + 1, significant=auto != "never" and draw.random() < 0.5)
            for place in range(draw.randint(1, 3))
        ]
        return av.Supervisor(
            children,
            strategy=strategy,
            max_restarts=draw.choice([0, 1, 3, 20, 20]),
            within=draw.choice([0.5, 5.0]),
            on_limit=draw.choice(["end", "drop"]) if alone else "end",
            auto_shutdown=auto,
            start=draw.choice(["in_order", "together"]) if alone else "in_order",
            name=name,
            **self._common(),
        )

    # --- what happens ---------------------------------------------------------------------

    def run(self, faults: Iterable[Fault] = (), schedule: Schedule | None = None) -> Run[list[str]]:
        """Let it happen under a plan and a schedule, and check all rules."""
        return simulate(self.system, faults=faults, schedule=schedule)

    async def system(self, open_host: Any) -> list[str]:
        """Open a host, keep it busy, and close it in one of several ways."""
        draw, said = random.Random(self.number), list[str]()
        # What crashes in its start, with a backoff that keeps it from any limit, starts for ever.
        with (
            contextlib.suppress(BaseExceptionGroup, av.ActorvisorError, Broken),
            trio.move_on_after(100),
        ):
            async with open_host(self.tree, **self._options) as host:
                with trio.move_on_after(draw.choice([1.5, 30.0])):
                    async with trio.open_nursery() as nursery:
                        for _ in range(3):
                            nursery.start_soon(self._send, host, random.Random(draw.random()), said)
                        nursery.start_soon(self._control, host, random.Random(draw.random()))
                if draw.random() < 0.2:
                    with trio.CancelScope() as scope:
                        scope.cancel()
                        await trio.lowlevel.checkpoint()
        return said

    async def _send(self, host: av.Host, draw: random.Random, said: list[str]) -> None:
        for _ in range(8 if self._paths else 0):
            await trio.sleep(draw.choice([0, 0, 0.05, 0.3, 1.0]))
            path = draw.choice(self._paths)
            script = draw_script(draw, self._paths, 0)
            call, patience = draw.choice(["ask", "ask", "tell", "burst"]), draw.choice([0.1, 2.0])
            with contextlib.suppress(av.ActorvisorError, LookupError):
                with trio.move_on_after(patience):
                    ref = host.find(path, av.Service)
                    if call == "ask":
                        said.append(f"{path}: {await ref.ask(method_of(path), script)}")
                    for _ in range({"ask": 0, "tell": 1, "burst": 4}[call]):
                        await ref.tell(method_of(path), script)

    async def _control(self, host: av.Host, draw: random.Random) -> None:
        for _ in range(draw.randint(0, 4)):
            await trio.sleep(draw.choice([0, 0.1, 0.5, 1.0]))
            paths = [node.path for node in host.tree().walk()][1:]
            path = draw.choice(paths) if paths else ""
            with contextlib.suppress(av.ActorvisorError, LookupError, Broken, TypeError):
                with trio.move_on_after(draw.choice([0.01, 1.0, 10.0])):
                    await self._call(host, draw, path)

    async def _call(self, host: av.Host, draw: random.Random, path: str) -> None:
        call = draw.choice(["stop", "stop", "kill", "restart", "restart", "start", "remove", "new"])
        if call == "new":
            await host.start(av.Application(LoopActor, name=draw.choice(["x", "y"])))
            return
        node = host.tree().find(path)
        kind: Any = av.Supervisor if node is not None and node.kind == "supervisor" else av.Service
        ref: Any = host.find(path, kind)
        match call:
            case "stop":
                await ref.stop(drain=draw.choice([0, 1]))
            case "kill":
                await ref.stop(grace=0)
            case _:
                await getattr(ref, call)()


class Broke(Exception):
    """Something is wrong."""


def search(
    examples: int, seed: int, number: int | None = None
) -> tuple[int, tuple[int, FaultPlan, Schedule, BaseException] | None]:
    """Let hypothesis look for something wrong, and shrink it.

    Args:
        examples: how many there are to be.
        seed: hypothesis's.
        number: of one tree only; None: of any.

    Returns:
        How many there were, and what was found: tree, plan, schedule and error.
    """
    found: tuple[int, FaultPlan, Schedule, BaseException] | None = None
    tries = 0

    @functools.cache
    def all_of(one: int) -> st.SearchStrategy[tuple[int, FaultPlan, Schedule]]:
        return st.tuples(st.just(one), plans(Chaos(one).tree), schedules())

    # Numbers are drawn as by dice: hypothesis would rather have small ones.
    dice = random.Random(seed)
    numbers = [dice.randrange(NUMBERS) for _ in range(TREES)] if number is None else [number]

    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(numbers).flatmap(all_of))
    def one(example: tuple[int, FaultPlan, Schedule]) -> None:
        nonlocal found, tries
        tries += 1
        drawn, plan, schedule = example
        try:
            Chaos(drawn).run(plan, schedule)
        except FaultPlanError:
            return  # who it is for never came to be
        except Exception as error:
            found = drawn, plan, schedule, error
        else:
            return
        raise Broke  # one and the same, for one bug is seen in several ways

    with contextlib.suppress(Broke), quiet():
        hypothesis.seed(seed)(one)()
    return tries, found


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what a host says of trees that nobody would declare, and of crashes on purpose."""
    before = logging.root.manager.disable
    logging.disable()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "the backoff", UserWarning)
            yield
    finally:
        logging.disable(before)


def main() -> int:
    """Search for so many examples, and print what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--examples", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first search")
    parser.add_argument("--number", type=int, help="of one tree only")
    options = parser.parse_args()
    began, done, seed, broken = time.perf_counter(), 0, options.seed, 0
    while done < options.examples:
        size = min(BATCH, options.examples - done)
        tries, found = search(size, seed, options.number)
        done += tries
        seed += 1
        if found is not None:
            broken += 1
            number, plan, schedule, error = found
            print(f"Chaos({number}).run(\n    {plan!r},\n    {schedule!r},\n)")
            print("".join(traceback.format_exception(error, limit=-4))[:6000], flush=True)
    took = time.perf_counter() - began
    print(f"{done} examples in {took:.0f} s, {done / took:.0f} a second; {broken} findings")
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
