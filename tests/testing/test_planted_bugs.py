"""Each deliberately broken variant of the runtime is found, and shrinks to little (issue 10)."""

from __future__ import annotations

import dataclasses

import pytest

from tests.testing.bugs import BUGS, MOST, Bug, hunt
from tests.testing.trials import TRIALS, Trial


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_found_and_shrinks_to_little(bug: Bug) -> None:
    # T1, T3, T4
    with bug.planted():
        found = hunt(bug.trial)
    assert found is not None, f"not within {MOST} examples"
    assert found.example <= MOST
    # Of one seed, which hypothesis may shrink into a corner: `python -m tests.testing.bugs` has the
    # medians over several, which are two faults at most.
    assert len(found.plan.faults) <= 4, found.plan
    assert found.points <= 4, found.schedule


@pytest.mark.slow
@pytest.mark.parametrize("trial", TRIALS, ids=[trial.name for trial in TRIALS])
def test_where_no_bug_is_planted_none_is_found(trial: Trial) -> None:
    # T4
    found = hunt(trial, most=100)
    assert found is None, found


def test_a_planted_bug_is_gone_afterwards() -> None:
    for bug in BUGS:
        function = bug.function
        before = function.__code__
        with bug.planted():
            assert function.__code__ is not before
        assert function.__code__ is before


def test_a_slip_needs_the_line_that_it_is_in() -> None:
    # So that whoever changes the runtime is told that a planted bug is none any more.
    bug = dataclasses.replace(BUGS[0], line="no such line")
    with pytest.raises(ValueError, match="no such line"):
        with bug.planted():
            pass  # pragma: no cover
