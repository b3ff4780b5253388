"""A decision costs as much as the children that it concerns, whatever there is besides (S9, S10)."""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest

from actorvisor._core import _commands as c
from actorvisor._core._messages import Stopped
from actorvisor._core._spec import ChildSpec, SupervisorSpec
from actorvisor._core._supervision import Phase, Supervision
from tests.core.desk import BOOM

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from actorvisor._core._strategy import Strategy


def play(supervision: Supervision, event: c.Event) -> None:
    """Take an event, and carry out at once what follows."""
    events = deque([event])
    while events:
        for command in supervision.decide(events.popleft(), 0.0):
            match command:
                case c.StartLife(name, incarnation):
                    events.append(c.ChildUp(name, incarnation))
                case c.StopLife(name, incarnation):
                    events.append(c.ChildExit(name, incarnation, Stopped()))
                case _:
                    pass


def crash(supervision: Supervision, name: str) -> None:
    play(supervision, c.ChildExit(name, supervision.children[name].incarnation, BOOM))


def full(strategy: Strategy, count: int, *, declared: bool) -> Supervision:
    specs = [ChildSpec(name=f"c{index}") for index in range(count)]
    spec = SupervisorSpec(strategy=strategy, max_restarts=1_000_000)
    supervision = Supervision(spec, "host/s", specs if declared else ())
    play(supervision, c.Begin())
    if not declared:
        for child in specs:
            play(supervision, c.StartNew(child, child.name))
    assert supervision.phase is Phase.UP
    assert supervision.active == count
    return supervision


def lines(work: Callable[[], object]) -> int:
    """How many lines of ours are executed, turns of loops and comprehensions included.

    What the garbage collector calls, whenever it happens to run, is nobody's: Hypothesis has a
    callback there.
    """
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if not str(frame.f_globals.get("__name__")).startswith(("actorvisor.", "tests.")):
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def newest(supervision: Supervision) -> str:
    return list(supervision.children)[-1]


@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one"])
@pytest.mark.parametrize("what", ["crash", "stop", "start", "restart", "start new", "remove"])
def test_decision_costs_what_it_concerns(strategy: Strategy, what: str) -> None:
    # S9: with 20 children as with 2,000
    costs = set()
    for count in (20, 2_000):
        supervision = full(strategy, count, declared=True)
        name = newest(supervision)
        if what == "start":
            play(supervision, c.Stop(name, 0))
        events: dict[str, c.Event] = {
            "crash": c.ChildExit(name, 1, BOOM),
            "stop": c.Stop(name, 1),
            "start": c.Start(name, 1),
            "restart": c.Restart(name, 1),
            "start new": c.StartNew(ChildSpec(name="new"), 1),
            "remove": c.Remove(name, 1),
        }
        costs.add(lines(lambda: play(supervision, events[what])))  # noqa: B023
    assert len(costs) == 1


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one"])
def test_crashes_among_100_000_children(strategy: Strategy) -> None:
    # S9, S10: 1,000 crashes cost a hundredth of 100,000 starts, and some
    begun = time.perf_counter()
    supervision = full(strategy, 100_000, declared=True)
    name = newest(supervision)
    started = time.perf_counter()
    for _ in range(1_000):
        crash(supervision, name)
    crashed = time.perf_counter()
    assert crashed - started < (started - begun) / 4
    assert supervision.children[name].restarts == 1_000


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
@pytest.mark.parametrize("declared", [True, False])
def test_whole_supervisor_is_linear(strategy: Strategy, declared: bool) -> None:
    # S10: start and stop; OTP's scale_start_stop_many_children
    def life(count: int) -> None:
        supervision = full(strategy, count, declared=declared)
        play(supervision, c.ShutDown(True))
        assert supervision.phase is Phase.DOWN

    small, large = lines(lambda: life(50)), lines(lambda: life(500))
    assert large < 11 * small


def test_one_for_all_is_linear() -> None:
    # S9
    costs = []
    for count in (50, 500):
        supervision = full("one_for_all", count, declared=True)
        costs.append(lines(lambda: crash(supervision, "c7")))  # noqa: B023
        assert supervision.active == count
    assert costs[1] < 11 * costs[0]


def test_temporary_children_one_by_one() -> None:
    # S10, S7; OTP's simple_one_for_one_scale_many_temporary_children, count_children
    costs = []
    for count in (50, 500):
        supervision = full("one_for_one", 0, declared=True)
        for index in range(count):
            play(supervision, c.StartNew(ChildSpec(name=f"x{index}", restart="temporary"), index))
        assert supervision.active == len(supervision.children) == count
        names = list(supervision.children)

        def stop_all() -> None:
            for name in names:  # noqa: B023
                play(supervision, c.Stop(name, -1))  # noqa: B023

        costs.append(lines(stop_all))
        assert supervision.active == len(supervision.children) == 0
    assert costs[1] < 11 * costs[0]


def test_nothing_is_kept_of_a_million_short_children() -> None:
    # S10: no leak; a thousand stand for the million
    supervision = full("rest_for_one", 1, declared=True)
    before = supervision.copy()
    for index in range(1_000):
        play(supervision, c.StartNew(ChildSpec(name="x", restart="temporary"), index))
        play(supervision, c.ChildExit("x", 1, BOOM))
    assert supervision == before
