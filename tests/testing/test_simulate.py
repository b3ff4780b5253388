"""Whole hosts in a simulation: what is found, how it is said, and how it is gone through again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

import actorvisor as av
from actorvisor.testing import (
    EVERY,
    Before,
    Fault,
    FaultPlan,
    FaultPlanError,
    Kill,
    Raise,
    RuleBroken,
    Schedule,
    Setup,
    Slow,
    Trace,
    TraceError,
    Violation,
    explore,
    simulate,
)
from actorvisor.testing._simulation._recipe import Recipe, read_code


class Counter(av.Service):
    def __init__(self) -> None:
        self.value = 0

    def add(self, amount: int) -> int:
        self.value += amount
        return self.value


class Till(av.Service):
    """Takes in what another one counts; with a race of its own."""

    def __init__(self) -> None:
        self.total = 0

    def setup(self) -> None:
        self.counter = self.find("../counter", Counter)

    def take_in(self, amount: int) -> None:
        self.start_soon(self._take_in, amount)

    async def _take_in(self, amount: int) -> None:
        before = self.total
        await self.counter.ask(Counter.add, amount)
        self.total = before + amount  # what another task has added meanwhile is lost

    def balance(self) -> int:
        return self.total


TWO = (
    av.Supervisor(
        [av.Application(Counter, name="counter"), av.Application(Till, name="till")], name="s"
    ),
)
CRASH = FaultPlan([Fault("host/s/counter", 1, Before(4), Raise())])


async def two_services(open_host: Any) -> tuple[int, int]:
    async with open_host(TWO) as host:
        counter, till = host.find("s/counter", Counter), host.find("s/till", Till)
        await till.ask(Till.take_in, 1)
        await counter.ask(Counter.add, 0)  # mostly, the first is taken in by then
        await till.ask(Till.take_in, 2)
        await trio.sleep(1)
        total = await till.ask(Till.balance)
        try:
            return total, await counter.ask(Counter.add, 0)
        except av.ServiceCrashed:
            return total, -1


def test_what_a_simulation_gives() -> None:
    # T2
    run = simulate(two_services, faults=CRASH)
    assert run.value == (3, -1)
    assert run.error is None
    assert run.seconds == 1
    assert run.faults == CRASH
    assert [one.detail["what"] for one in run.trace.kinds("fault")] == ["Before(4): Raise()"]
    (exited,) = (one for one in run.trace.kinds("exited") if one.incarnation == 1 and one.time < 1.5
                 and one.path == "host/s/counter")  # fmt: skip
    assert "InjectedFault" in str(exited)
    assert run.trace.entries[0].kind == "opened"
    assert run.trace.entries[-1].kind == "closed"


def test_a_race_in_a_service_is_found_by_exploring() -> None:
    # T8: two services, one crash, two demotions
    exploration = explore(two_services, demotions=2, faults=CRASH)
    values = {run.value for run in exploration}
    assert (3, -1) in values
    assert {total for total, _ in values} > {3}  # an update was lost in some
    assert 1 < exploration.distinct <= exploration.runs
    assert all(run.error is None for run in explore(two_services, demotions=1))


def test_a_failure_says_how_to_get_there_again(tmp_path: Path) -> None:
    # T3
    async def system(open_host: Any) -> None:
        total, _ = await two_services(open_host)
        assert total == 3

    for seed in range(200):
        try:
            simulate(system, seed=seed)
        except AssertionError as error:
            (note,) = (one for one in error.__notes__ if "simulated with" in one)
            found: Any = error.__dict__["actorvisor_run"]
            break
    else:
        raise AssertionError("no seed has found it")
    assert note == f"simulated with faults=FaultPlan(), schedule={found.schedule!r}"
    points = found.schedule.demote + found.schedule.picks + found.schedule.skip_time
    assert len(points) <= 2
    with pytest.raises(AssertionError):
        simulate(system, schedule=found.schedule)
    file = tmp_path / "trace.jsonl"
    found.trace.write(file)
    for replay in (found, found.trace, file, str(file)):
        with pytest.raises(AssertionError) as caught:
            simulate(system, replay=replay)
        again: Any = caught.value.__dict__["actorvisor_run"]
        assert again.trace.entries == found.trace.entries


def test_a_plan_is_made_smaller_with_the_schedule() -> None:
    # T3: of what a seed has found, faults that do not matter are left out
    plan = FaultPlan(
        [
            Fault("host/s/counter", 1, Before(1), Slow(0.1)),
            Fault("host/s/till", 1, Before(3), Raise("what matters")),
            Fault("host/s/counter", 2, Setup(), Raise()),
        ]
    )

    async def system(open_host: Any) -> None:
        try:
            await two_services(open_host)
        except av.ServiceCrashed as crash:
            found = str(crash.__cause__)
        else:
            found = ""
        assert found != "what matters"

    with pytest.raises(AssertionError) as caught:
        simulate(system, seed=1, faults=plan)
    found: Any = caught.value.__dict__["actorvisor_run"]
    assert found.faults == FaultPlan(plan.faults[1:2])
    assert found.schedule == Schedule()


def test_a_rule_of_ones_own_is_checked() -> None:
    # T4
    def nobody_crashes(trace: Trace) -> list[Violation]:
        return [
            Violation("mine", "nobody crashes", one.path, (one,))
            for one in trace.kinds("restarting")
        ]

    assert simulate(two_services, faults=CRASH, rules=()).error is None
    with pytest.raises(RuleBroken, match="mine is broken: nobody crashes; found: host/s/counter"):
        simulate(two_services, faults=CRASH, rules=[nobody_crashes])


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (Fault("host/s/nobody", 1, Before(1), Raise()), "there is no host/s/nobody; there are"),
        (Fault("host/s", 1, Before(1), Raise()), "host/s is a [sS]upervisor; faults are for"),
        (Fault("host/s/till", 1, Before(1), Kill()), "Kill is for a service in a process"),
    ],
    ids=["nobody", "a supervisor", "no process"],
)
def test_a_fault_for_nobody_is_one_clear_error(fault: Fault, text: str) -> None:
    # T1
    with pytest.raises(FaultPlanError, match=text):
        simulate(two_services, faults=[fault])


async def no_host() -> None:
    pass


async def too_many(open_host: Any, other: Any) -> None:
    pass


@pytest.mark.parametrize(
    ("system", "arguments", "text"),
    [
        (no_host, {"faults": CRASH}, "faults are for the hosts of a system"),
        (too_many, {}, "takes 2 arguments"),
        (two_services, {"faults": "crash"}, "takes faults, and 'c' is none"),
        (two_services, {"faults": CRASH, "replay": "file"}, "brings its own faults"),
    ],
)
def test_bad_arguments_are_refused(system: Any, arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(TypeError, match=text):
        simulate(system, **arguments)


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ({}, "its header has no 'faults'"),
        ({"faults": "FaultPlan()", "schedule": "Schedule("}, "cannot be read"),
        ({"faults": "exit()", "schedule": "Schedule()"}, "is no part of a plan or a schedule"),
        ({"faults": "Schedule()", "schedule": "Schedule()", "choices": []}, "cannot"),
        (
            {"faults": "FaultPlan()", "schedule": "Schedule()", "choices": [[1]]},
            "canno",
        ),
        (
            {"faults": "FaultPlan()", "schedule": "Schedule(draws='x')", "choices": []},
            "draws=",
        ),
    ],
)
def test_a_header_that_cannot_be_read_is_one_clear_error(header: dict[str, Any], text: str) -> None:
    # T3: nothing of a file is run as code but the constructors of plans and schedules
    with pytest.raises(TraceError, match=text):
        Recipe.of(Trace(header, ()))


def test_what_is_printed_is_read_back() -> None:
    # T1, T3
    plan = FaultPlan([Fault("host/a", EVERY, Before(2), Raise("x", after=0.5))])
    schedule = Schedule(demote=(1, 2), skip_time=(3,), picks=((4, 1), (7, 2)))
    assert read_code(repr(plan)) == plan
    assert read_code(repr(schedule)) == schedule
    assert eval(repr(schedule), {"Schedule": Schedule}) == schedule


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        ({"demote": 3}, TypeError, "takes numbers, counted from 0, not 3"),
        ({"demote": (-1,)}, ValueError, "at least 0"),
        ({"skip_time": ("x",)}, TypeError, "whole number"),
        ({"picks": ((1, 2), (1, 3))}, ValueError, "two picks for choice 1"),
        ({"picks": (1,)}, TypeError, "pairs of a choice and a pick"),
    ],
)
def test_a_schedule_is_checked(arguments: dict[str, Any], kind: type[Exception], text: str) -> None:
    # T3
    with pytest.raises(kind, match=text):
        Schedule(**arguments)


def test_a_schedule_has_all_that_a_seed_decides() -> None:
    # T3: the jitter of backoffs, too
    tree = av.Application(Counter, name="counter", backoff=av.Exponential(1))

    async def system(open_host: Any) -> float:
        async with open_host([tree], within=60) as host:
            counter = host.find("counter", Counter)
            for _ in range(3):
                with pytest.raises(av.ServiceCrashed):
                    await counter.ask(Counter.add, "x")
            await counter.ask(Counter.add, 1)
            return trio.current_time()

    runs = [simulate(system, seed=seed) for seed in range(5)]
    assert len({run.value for run in runs}) == 5
    for run in runs:
        assert f"draws={run.schedule.draws}" in repr(run.schedule) or not run.schedule.draws
        again = simulate(system, schedule=run.schedule)
        assert (again.value, again.lanes) == (run.value, run.lanes)
        assert simulate(system, replay=run).value == run.value


def test_schedules_are_values() -> None:
    # T3: as sets of points, whatever the order they were given in
    assert Schedule(demote=(3, 1, 3)) == Schedule(demote=[1, 3])  # type: ignore[arg-type]
    assert repr(Schedule()) == "Schedule()"
    assert len({Schedule(), Schedule(demote=())}) == 1
