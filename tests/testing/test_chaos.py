"""Chaos runs: a little of it here, 20,000 examples by `nox -s chaos` (T4)."""

from __future__ import annotations

import pytest

from actorvisor import testing
from actorvisor.testing._tree import services
from tests.testing.bugs import BUGS
from tests.testing.chaos import Chaos, quiet, search


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_random_trees_under_random_plans_keep_the_rules(seed: int) -> None:
    # T4
    _, found = search(200, seed)
    assert found is None, found


def test_the_same_number_is_the_same_tree_and_the_same_run() -> None:
    # T2
    with quiet():
        one, other = Chaos(7).run(), Chaos(7).run()
    assert one.trace == other.trace
    assert len(one.trace) > 20


def test_there_is_everything() -> None:
    with quiet():
        trees = [Chaos(number).tree for number in range(200)]
    apps = [one.app for tree in trees for one in services(tree)]
    assert {type(app.executor).__name__ for app in apps} == {
        "AsyncExecutor",
        "AsyncProcessExecutor",
        "ProcessExecutor",
        "ThreadExecutor",
    }
    assert {app.overflow for app in apps} == {"wait", "drop_oldest"}
    assert any(app.spec.significant for app in apps)
    assert any(app.redeliver for app in apps)
    assert any(app.kind.is_function for app in apps)
    above = [each for tree in trees for one in services(tree) for each in one.above]
    assert {type(each).__name__ for each in above} == {"Supervisor", "Pool"}
    assert {each.rules.strategy for each in above} == {
        "one_for_all",
        "one_for_one",
        "rest_for_one",
    }


@pytest.mark.slow
def test_what_is_found_comes_with_all_that_is_needed_to_see_it_again() -> None:
    # T3
    bug = next(one for one in BUGS if one.name == "wrong stop order")
    with bug.planted():
        tries, found = search(500, 4)
        assert found is not None
        number, plan, schedule, error = found
        assert tries < 500
        code = f"Chaos({number}).run({plan!r}, {schedule!r})"
        with quiet(), pytest.raises(type(error)):
            eval(code, {**vars(testing), "Chaos": Chaos})
