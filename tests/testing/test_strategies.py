"""Plans and schedules for hypothesis: from the tree's own numbers, and shrunk to little (T1)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings, strategies as st

import actorvisor as av
from actorvisor.testing._faults import (
    EVERY,
    After,
    Before,
    Drop,
    Exit,
    Fault,
    FaultPlan,
    Hang,
    Kill,
    Raise,
    Setup,
    Slow,
    Teardown,
    Time,
)
from actorvisor.testing._simulation._schedule import Schedule
from actorvisor.testing._strategies import plans, schedules, times_of
from actorvisor.testing._tree import services


class Worker(av.Service):
    def work(self) -> None:
        pass


async def wander() -> None:
    pass


def plain(name: str = "plain", **options: Any) -> av.Application[Any]:
    return av.Application(Worker, name=name, **options)


def remote(name: str = "remote", **options: Any) -> av.Application[Any]:
    return plain(name, executor=av.ProcessExecutor(**options))


TREE: list[Any] = [
    plain(),
    av.Supervisor([remote(), plain("second")], name="inner"),
    av.Pool(av.Application(Worker, executor=av.ThreadExecutor()), size=2, name="pool"),
    av.Application(wander),
]


def minimal(strategy: st.SearchStrategy[Any], wanted: Callable[[Any], bool]) -> Any:
    """The simplest example of something, whatever was found before."""
    options = settings(
        max_examples=5_000,
        database=None,
        derandomize=True,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    return find(strategy, wanted, settings=options)


@given(plans(TREE))
def test_every_plan_fits_its_tree(plan: FaultPlan) -> None:
    # T1
    plan.check(TREE)
    for path in {fault.path for fault in plan}:
        assert len([fault for fault in plan if fault.path == path]) <= 2


@given(plans(TREE, per_child=1, messages=2, incarnations=1))
def test_how_much_there_is_of_it_can_be_told(plan: FaultPlan) -> None:
    assert len({fault.path for fault in plan}) == len(plan)
    for fault in plan:
        assert fault.incarnation in {1, EVERY}
        if isinstance(fault.at, Before | After):
            assert fault.at.message <= 2


@given(plans(TREE))
def test_faults_come_in_the_order_of_the_tree(plan: FaultPlan) -> None:
    order = [one.path for one in services(TREE)]
    assert [fault.path for fault in plan] == sorted((fault.path for fault in plan), key=order.index)


def test_a_tree_without_services_has_no_faults() -> None:
    assert minimal(plans([av.Supervisor()]), lambda _: True) == FaultPlan()
    assert minimal(plans(TREE, per_child=0), lambda _: True) == FaultPlan()


# --- everything comes -------------------------------------------------------------------------


def an_at(kind: type[Any]) -> Callable[[FaultPlan], bool]:
    return lambda plan: any(isinstance(fault.at, kind) for fault in plan)


def a_do(kind: type[Any], path: str) -> Callable[[FaultPlan], bool]:
    return lambda plan: any(isinstance(one.do, kind) and one.path == path for one in plan)


@pytest.mark.parametrize("kind", [Before, After, Setup, Teardown, Time])
def test_every_moment_comes(kind: type[Any]) -> None:
    assert an_at(kind)(minimal(plans(TREE), an_at(kind)))


@pytest.mark.parametrize("kind", [Raise, Exit, Kill, Drop, Slow, Hang])
def test_every_fault_comes(kind: type[Any]) -> None:
    # Those that do not fit do not come: see above.
    assert minimal(plans(TREE), a_do(kind, "host/inner/remote"))
    if kind not in {Kill, Drop}:
        assert minimal(plans(TREE), a_do(kind, "host/pool/1"))


# --- what it shrinks to -----------------------------------------------------------------------


def some(plan: FaultPlan) -> bool:
    return len(plan) > 0


SMALLEST: list[tuple[Callable[[FaultPlan], bool], str]] = [
    (lambda plan: True, "FaultPlan()"),
    # T1: fewer
    (some, "FaultPlan((Fault('host/wander', 1, Setup(), Raise()),))"),
    (
        lambda plan: any(fault.path == "host/inner/remote" for fault in plan),
        "FaultPlan((Fault('host/inner/remote', 1, Before(1), Raise()),))",
    ),
    (
        lambda plan: [fault.path for fault in plan].count("host/plain") == 2,
        "FaultPlan((Fault('host/plain', 1, Before(1), Raise()), "
        "Fault('host/plain', 1, After(1), Raise())))",
    ),
    # earlier
    (
        lambda plan: any(isinstance(one.at, Before) and one.at.message > 2 for one in plan),
        "FaultPlan((Fault('host/pool/1', 1, Before(3), Raise()),))",
    ),
    (an_at(After), "FaultPlan((Fault('host/pool/1', 1, After(1), Raise()),))"),
    (an_at(Time), "FaultPlan((Fault('host/wander', 1, Time(0.001), Raise()),))"),
    (
        lambda plan: any(isinstance(one.at, Time) and one.at.seconds > 5 for one in plan),
        "FaultPlan((Fault('host/wander', 1, Time(5.001), Raise()),))",
    ),
    (
        lambda plan: any(one.incarnation is EVERY for one in plan),
        "FaultPlan((Fault('host/wander', EVERY, Setup(), Raise()),))",
    ),
    # simpler
    (a_do(Hang, "host/plain"), "FaultPlan((Fault('host/plain', 1, Before(1), Hang()),))"),
    (a_do(Slow, "host/plain"), "FaultPlan((Fault('host/plain', 1, Before(1), Slow(0.001)),))"),
    (
        lambda plan: any(one.do.after > 0 for one in plan if one.path == "host/plain"),
        "FaultPlan((Fault('host/plain', 1, Before(1), Raise(after=0.001)),))",
    ),
]


@pytest.mark.parametrize(("wanted", "code"), SMALLEST, ids=[str(i) for i in range(len(SMALLEST))])
def test_what_plans_shrink_to(wanted: Callable[[FaultPlan], bool], code: str) -> None:
    # T1
    assert repr(minimal(plans(TREE), wanted)) == code


@pytest.mark.parametrize("seed", range(20))
def test_what_is_not_needed_is_dropped(seed: int) -> None:
    # T1: fewer, also of one service's
    def wanted(plan: FaultPlan) -> bool:
        late = [one for one in plan if one.incarnation == 2 and one.path == "host/plain"]
        return any(isinstance(one.do, Raise) for one in late)

    smallest: FaultPlan | None = None

    @hypothesis.seed(seed)
    @settings(
        max_examples=5_000,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(plans(TREE))
    def search(plan: FaultPlan) -> None:
        nonlocal smallest
        # Any one of one service's faults will do, but it is with two that it is found.
        if wanted(plan) and (smallest is not None or len(plan) > 1):
            smallest = plan
            raise LookupError

    with pytest.raises(LookupError):
        search()
    assert smallest is not None
    assert len(smallest) == 1, smallest


def test_no_copies_are_left() -> None:
    # Two faults at different services are needed, and nothing else is kept.
    def both(plan: FaultPlan) -> bool:
        return {"host/plain", "host/inner/second"} <= {fault.path for fault in plan}

    assert minimal(plans(TREE), both) == FaultPlan(
        [
            Fault("host/plain", 1, Before(1), Raise()),
            Fault("host/inner/second", 1, Before(1), Raise()),
        ]
    )


# --- times ------------------------------------------------------------------------------------


def test_times_are_the_own_ones_of_the_tree() -> None:
    app = plain(
        grace=0.7,
        start_timeout=4,
        backoff=av.Fixed(0.25),
        executor=av.ProcessExecutor(hang_timeout=1.5),
    )
    tree = [av.Supervisor([app], name="inner", within=60, backoff=av.Linear(3, 7), max_restarts=99)]
    (one,) = services(tree)
    times = times_of(one)
    assert times == sorted(set(times))
    own = {0.7, 4, 0.25, 0.5, 1.5, 60, 3, 6, 7, 5}
    assert own <= set(times)
    for time in own:
        assert round(time - 0.001, 6) in times
        assert round(time + 0.001, 6) in times
        for other in own:
            assert round(time + other, 6) in times
    assert min(times) == 0.001


def test_times_without_an_end_are_left_out() -> None:
    (one,) = services([plain(grace=float("inf"), start_timeout=float("inf"))])
    assert 0 < min(times_of(one)) < max(times_of(one)) < 100
    (one,) = services([plain(grace=0, backoff=av.Fixed(1e-9))])
    assert min(times_of(one)) == 0.001


# --- schedules --------------------------------------------------------------------------------


@given(schedules(points=3, upto=10))
def test_schedules_are_within_what_was_told(schedule: Schedule) -> None:
    assert len(schedule.demote) <= 3
    assert len(schedule.skip_time) <= 3
    assert all(0 <= point <= 10 for point in (*schedule.demote, *schedule.skip_time))
    assert not schedule.picks


def test_schedules_shrink_to_first_in_first_out() -> None:
    # T3
    assert minimal(schedules(), lambda _: True) == Schedule()
    assert minimal(schedules(), lambda one: len(one.demote) > 1) == Schedule(demote=(0, 1))
    assert minimal(schedules(), lambda one: max(one.demote, default=0) > 41) == Schedule(
        demote=(42,)
    )
    assert minimal(schedules(), lambda one: bool(one.skip_time)) == Schedule(skip_time=(0,))


# --- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: plans(TREE, per_child=-1), "per_child= must be at least 0"),
        (lambda: plans(TREE, messages=0), "messages= must be at least 1"),
        (lambda: plans(TREE, incarnations=0), "incarnations= must be at least 1"),
        (lambda: schedules(points=-1), "points= must be at least 0"),
        (lambda: schedules(upto=-1), "upto= must be at least 0"),
    ],
)
def test_bad_numbers_are_told_at_once(make: Callable[[], Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()


def test_a_tree_is_a_list_of_declarations() -> None:
    with pytest.raises(TypeError, match="neither an Application"):
        plans([Worker])  # type: ignore[list-item]


# --- hypothesis is optional -------------------------------------------------------------------


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_hypothesis_is_imported_when_a_strategy_is_asked_for() -> None:
    assert run(
        "import sys, actorvisor.testing as t\n"
        "print('hypothesis' in sys.modules)\n"
        "t.plans, t.schedules\n"
        "print('hypothesis' in sys.modules)\n"
    ).split() == ["False", "True"]


def test_pytest_is_imported_when_something_is_simulated() -> None:
    # T7: trio.testing brings it in, and a worker with faults has no use for that
    assert run(
        "import sys, actorvisor.testing as t\n"
        "async def system(): pass\n"
        "print('pytest' in sys.modules or '_pytest' in sys.modules)\n"
        "t.simulate(system)\n"
        "print('trio.testing' in sys.modules)\n"
    ).split() == ["False", "True"]


def test_without_hypothesis_it_is_said_what_is_missing() -> None:
    said = run(
        "import sys\n"
        "sys.modules['hypothesis'] = None\n"
        "import actorvisor.testing as t\n"
        "try:\n"
        "    t.plans\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    assert "pip install 'actorvisor[testing]'" in said
