"""Faults and plans of them: data, checked where it is made, whose repr is code (T1)."""

from __future__ import annotations

import copy
import enum
import math
import pickle
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, strategies as st

import actorvisor as av
import actorvisor.testing._faults as faults_module
from actorvisor.testing._faults import (
    EVERY,
    After,
    Before,
    Drop,
    Every,
    Exit,
    Fault,
    FaultPlan,
    FaultPlanError,
    Hang,
    InjectedFault,
    Kill,
    Raise,
    Setup,
    Slow,
    Teardown,
    Time,
    plan_of,
)

seconds = st.floats(0, 1e9) | st.integers(0, 10**9)
counts = st.integers(1, 10**9)
names = st.text(min_size=1, max_size=8).filter(lambda name: "/" not in name and name.strip("."))
paths = st.lists(names, min_size=1, max_size=3).map(lambda parts: "/".join(["host", *parts]))
moments = st.one_of(
    st.just(Setup()),
    st.builds(Before, counts),
    st.builds(After, counts),
    st.just(Teardown()),
    st.builds(Time, seconds),
)
actions = st.one_of(
    st.builds(Raise, st.text(), after=seconds),
    st.builds(Exit, st.integers(0, 255), after=seconds),
    st.builds(Kill, after=seconds),
    st.builds(Drop, after=seconds),
    st.builds(Slow, seconds, after=seconds),
    st.builds(Hang, after=seconds),
)
faults = st.builds(Fault, paths, counts | st.just(EVERY), moments, actions)
plans = st.lists(faults, max_size=4, unique_by=lambda one: (one.path, one.incarnation, one.at)).map(
    FaultPlan
)


@given(plans)
def test_the_repr_of_a_plan_is_code_that_gives_it_again(plan: FaultPlan) -> None:
    # T1
    again = eval(repr(plan), vars(faults_module))
    assert again == plan
    assert hash(again) == hash(plan)
    assert repr(again) == repr(plan)


@given(plans)
def test_a_plan_goes_to_other_processes(plan: FaultPlan) -> None:
    assert pickle.loads(pickle.dumps(plan)) == plan
    assert copy.deepcopy(plan) == plan


def test_what_is_as_by_default_is_not_said() -> None:
    plan = FaultPlan([Fault("host/a", 1, Before(3), Raise())])
    assert repr(plan) == "FaultPlan((Fault('host/a', 1, Before(3), Raise()),))"
    assert repr(FaultPlan()) == "FaultPlan()"
    assert repr(Raise("no", after=0.5)) == "Raise('no', after=0.5)"
    assert repr(Raise(after=0.5)) == "Raise(after=0.5)"
    assert repr(Slow(2)) == "Slow(2.0)"
    assert repr(Slow(after=2)) == "Slow(after=2.0)"
    assert repr(Fault("host/a", EVERY, Time(1), Kill())) == (
        "Fault('host/a', EVERY, Time(1.0), Kill())"
    )


def test_what_is_the_same_is_equal_however_it_was_written() -> None:
    class Two(enum.IntEnum):
        TWO = 2

    class Float(float):
        pass

    assert Slow(1) == Slow(1.0) == Slow(Float(1))
    assert repr(Slow(Float(2))) == "Slow(2.0)"
    assert repr(Before(Two.TWO)) == "Before(2)"
    assert len({Kill(), Kill(after=0), Kill(after=0.0)}) == 1
    assert Kill() != Drop()  # type: ignore[comparison-overlap]
    assert FaultPlan(iter([Fault("host/a", 1, Setup(), Hang())])) == FaultPlan(
        (Fault("host/a", 1, Setup(), Hang()),)
    )


def test_every_is_one_value() -> None:
    assert list(Every) == [EVERY]
    assert pickle.loads(pickle.dumps(EVERY)) is EVERY
    assert copy.deepcopy(EVERY) is EVERY


def test_the_error_that_is_raised_goes_to_other_processes() -> None:
    error = pickle.loads(pickle.dumps(InjectedFault("text")))
    assert (type(error), error.message, str(error)) == (InjectedFault, "text", "text")
    assert str(InjectedFault()) == "injected"


BAD: list[tuple[Any, type[Exception], list[str]]] = [
    (lambda: Before(0), ValueError, ["Before(message=)", "at least 1", "0"]),
    (lambda: After(True), TypeError, ["After(message=)", "whole number", "True"]),
    (lambda: Time(-1), ValueError, ["Time(seconds=)", "not negative", "-1"]),
    (lambda: Time(math.inf), ValueError, ["Time(seconds=)", "finite"]),
    (lambda: Time("1"), TypeError, ["Time(seconds=)", "'1'"]),  # type: ignore[arg-type]
    (lambda: Raise(1), TypeError, ["Raise(message=)", "string"]),  # type: ignore[arg-type]
    (lambda: Raise(after=math.nan), ValueError, ["Raise(after=)"]),
    (lambda: Exit(256), ValueError, ["Exit(status=)", "0 to 255", "256"]),
    (lambda: Exit(-1), ValueError, ["Exit(status=)", "at least 0"]),
    (lambda: Exit(after=-1), ValueError, ["Exit(after=)"]),
    (lambda: Kill(after=-1), ValueError, ["Kill(after=)"]),
    (lambda: Drop(after=-1), ValueError, ["Drop(after=)"]),
    (lambda: Slow(-1), ValueError, ["Slow(seconds=)"]),
    (lambda: Slow(1, after=-1), ValueError, ["Slow(after=)"]),
    (lambda: Hang(after=math.inf), ValueError, ["Hang(after=)"]),
    (lambda: fault(path=1), TypeError, ["Fault(path=)", "string"]),
    (lambda: fault(path="parser"), ValueError, ["whole path", "'host/parser'", "'parser'"]),
    (lambda: fault(path="host"), ValueError, ["whole path", "'host'"]),
    (lambda: fault(path="host/"), ValueError, ["Fault(path=)", "empty"]),
    (lambda: fault(path="host/../a"), ValueError, ["Fault(path=)", "'..'"]),
    (lambda: fault(incarnation=0), ValueError, ["Fault(incarnation=)", "at least 1"]),
    (lambda: fault(incarnation="1"), TypeError, ["Fault(incarnation=)", "EVERY", "'1'"]),
    (lambda: fault(at=3), TypeError, ["Fault(at=)", "Before", "Teardown", "3"]),
    (lambda: fault(at=Setup), TypeError, ["Fault(at=)", "write Setup(...)"]),
    (lambda: fault(at=Raise()), TypeError, ["Fault(at=)", "Raise()"]),
    # T1: an unknown fault
    (lambda: fault(do="explode"), TypeError, ["Fault(do=)", "Raise, Exit, Kill", "'explode'"]),
    (lambda: fault(do=Kill), TypeError, ["Fault(do=)", "write Kill(...)"]),
    (lambda: FaultPlan(fault()), TypeError, ["list", "write FaultPlan([Fault("]),  # type: ignore[arg-type]
    (lambda: FaultPlan(3), TypeError, ["list of faults", "3"]),  # type: ignore[arg-type]
    (lambda: FaultPlan([Raise()]), TypeError, ["Raise() is none"]),  # type: ignore[list-item]
    (
        lambda: FaultPlan([fault(do=Hang()), fault(do=Raise())]),
        ValueError,
        ["same moment", "Before(1) in incarnation 1 of host/a"],
    ),
]


def fault(**changes: Any) -> Fault:
    options: dict[str, Any] = {"path": "host/a", "incarnation": 1, "at": Before(1), "do": Raise()}
    return Fault(**{**options, **changes})


@pytest.mark.parametrize(("make", "kind", "parts"), BAD, ids=[str(i) for i in range(len(BAD))])
def test_what_is_wrong_is_told_where_it_is_made(
    make: Any, kind: type[Exception], parts: list[str]
) -> None:
    with pytest.raises(kind) as caught:
        make()
    for part in parts:
        assert part in str(caught.value)


# --- which faults a life has ------------------------------------------------------------------


def test_a_fault_that_names_the_incarnation_comes_before_one_for_every() -> None:
    special = Fault("host/a", 2, Before(1), Hang())
    every = Fault("host/a", EVERY, Before(1), Raise())
    other = Fault("host/a", EVERY, Setup(), Slow())
    elsewhere = Fault("host/b", EVERY, Before(1), Exit())
    for order in ([special, every, other, elsewhere], [elsewhere, other, every, special]):
        plan = FaultPlan(order)
        assert set(plan.of("host/a", 1)) == {every, other}
        assert set(plan.of("host/a", 2)) == {special, other}
        assert plan.of("host/b", 7) == (elsewhere,)
        assert plan.of("host/c", 1) == ()


def test_what_stands_for_a_plan() -> None:
    plan = FaultPlan([fault()])
    assert plan_of(plan) is plan
    assert plan_of([fault()]) == plan
    assert list(plan) == [fault()]
    assert len(plan) == 1


# --- whether it fits a tree -------------------------------------------------------------------


class Worker(av.Service):
    def work(self) -> None:
        pass


async def wander() -> None:
    pass


TREE: list[Any] = [
    av.Application(Worker, name="plain"),
    av.Supervisor(
        [
            av.Application(Worker, name="threaded", executor=av.ThreadExecutor()),
            av.Supervisor(
                [av.Application(Worker, name="remote", executor=av.ProcessExecutor())],
                name="inner",
            ),
        ],
        name="outer",
    ),
    av.Pool(av.Application(Worker), size=2, name="pool"),
    av.Supervisor(name="bare"),
    av.Application(wander),
]

MOMENTS = [Setup(), Before(1), After(1), Teardown(), Time(1)]
ACTIONS = [Raise(), Exit(), Kill(), Drop(), Slow(), Hang()]
PROCESS = {Kill, Drop}


@pytest.mark.parametrize("at", MOMENTS, ids=repr)
@pytest.mark.parametrize("do", ACTIONS, ids=repr)
@pytest.mark.parametrize(
    "path", ["plain", "outer/threaded", "outer/inner/remote", "pool/0", "pool/1", "wander"]
)
def test_what_fits_where(path: str, at: Any, do: Any) -> None:
    fits = type(do) not in PROCESS or path.endswith("remote")
    if path == "wander":
        fits = fits and type(at) in {Setup, Time}
        fits = fits and not (isinstance(at, Time) and isinstance(do, Slow | Hang))
    plan = FaultPlan([Fault(f"host/{path}", 1, at, do)])
    if fits:
        plan.check(TREE)
        return
    with pytest.raises(FaultPlanError) as caught:
        plan.check(TREE)
    assert caught.value.fault is plan.faults[0]
    assert f"Fault('host/{path}', 1" in str(caught.value)
    assert (
        f"{type(do).__name__} " in caught.value.why or f"{type(at).__name__} " in caught.value.why
    )


def test_a_fault_names_a_service_that_is_there() -> None:
    # T1, and issue 10: a plan that names no such actor
    for path, parts in {
        "host/plan": ["there is no host/plan", "'host/plain'", "'host/pool/1'"],
        "host/outer/inner/remote/0": ["there is no host/outer/inner/remote/0"],
        "host/pool/2": ["there is no host/pool/2"],
        "host/outer": ["is a Supervisor", "below it: 'host/outer/threaded', 'host/outer/inner/re"],
        "host/pool": ["is a Pool", "'host/pool/0', 'host/pool/1'"],
        "host/bare": ["is a Supervisor", "below it: none"],
    }.items():
        with pytest.raises(FaultPlanError) as caught:
            FaultPlan([Fault(path, 1, Setup(), Raise())]).check(TREE)
        for part in parts:
            assert part in str(caught.value)


def test_the_error_lists_no_more_than_can_be_read() -> None:
    tree = [av.Application(Worker, name=f"w{i}") for i in range(20)]
    with pytest.raises(FaultPlanError, match=r"'host/w11' and 8 more$"):
        FaultPlan([fault(path="host/x")]).check(tree)
    with pytest.raises(FaultPlanError, match=r"no services at all$"):
        FaultPlan([fault(path="host/x")]).check([])


def test_a_tree_is_a_list_of_declarations() -> None:
    with pytest.raises(TypeError, match="write \\[Application"):
        FaultPlan().check(TREE[0])


def test_the_data_needs_no_loop() -> None:
    # It is data: what it is made of imports neither trio nor hypothesis.
    code = (
        "import sys, importlib.machinery, types\n"
        "for name in ('actorvisor', 'actorvisor.testing'):\n"
        "    package = types.ModuleType(name)\n"
        "    package.__path__ = [name.replace('.', '/')]\n"
        "    sys.modules[name] = package\n"
        "import actorvisor.testing._faults\n"
        "print(sorted({'trio', 'hypothesis'} & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
