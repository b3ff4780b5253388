"""What a child and a supervisor are declared to be."""

from __future__ import annotations

import inspect
import itertools
import math
import time
import warnings
from typing import Any, get_args

import pytest
from hypothesis import example, given, strategies as st

from actorvisor._core._backoff import Backoff, Exponential, Fixed, Immediate, Linear
from actorvisor._core._messages import (
    Abandoned,
    Completed,
    Crashed,
    ExitReason,
    GaveUp,
    Killed,
    Stopped,
    TimedOut,
)
from actorvisor._core._spec import AutoShutdown, ChildSpec, SupervisorSpec
from actorvisor._core._strategy import STRATEGIES

ends: list[ExitReason] = [
    Completed(),
    Completed(ValueError()),
    Stopped(),
    Crashed(ValueError()),
    Killed(-9),
    TimedOut("handler"),
    Abandoned(),
    GaveUp(Killed()),
]


def test_the_defaults() -> None:
    # S1 (services), S3, S4, S5, S6
    child = ChildSpec(name="a")
    assert (child.restart, child.backoff, child.significant) == ("permanent", Immediate(), False)
    assert (child.reset_after, child.steady_after) == (None, 0)
    spec = SupervisorSpec()
    assert (spec.strategy, spec.max_restarts, spec.within) == ("one_for_one", 3, 5.0)
    assert (spec.on_limit, spec.root, spec.auto_shutdown) == ("end", False, "never")
    assert spec.start == "in_order"


class Unreadable:
    def __repr__(self) -> str:
        raise SystemExit


CHILD: list[tuple[dict[str, Any], type[Exception], list[str]]] = [
    # I1
    ({"name": ""}, ValueError, ["name must not be empty", "leave it out"]),
    ({"name": "a/b"}, ValueError, ["'a/b'", "must not hold a '/'"]),
    ({"name": 3}, TypeError, ["name must be a string", "3"]),
    # S1
    (
        {"restart": "always"},
        ValueError,
        ["restart=", "'permanent', 'transient', 'temp", "'always'"],
    ),
    ({"restart": True}, ValueError, ["restart= must be one of 'permanent'", "True"]),
    # S4
    (
        {"backoff": 3},
        TypeError,
        ["backoff=", "Immediate(), Fixed(...), Linear(...) or Exp", "not 3"],
    ),
    ({"backoff": None}, TypeError, ["backoff=", "Immediate()", "not None"]),
    ({"backoff": Fixed}, TypeError, ["backoff=", "Fixed(...)", "not <class"]),
    ({"backoff": Unreadable()}, TypeError, ["not <Unreadable: repr raised SystemExit>"]),
    ({"reset_after": -1}, ValueError, ["reset_after=", "seconds that is not negative", "-1"]),
    ({"reset_after": "1"}, TypeError, ["reset_after=", "number of seconds", "'1'"]),
    ({"reset_after": math.inf}, ValueError, ["reset_after=", "finite", "inf"]),
    # S6
    ({"significant": 1}, TypeError, ["significant=", "True or False", "1"]),
    (
        {"significant": True},
        ValueError,
        ["'a'", "significant and permanent", 'use restart="transient" or "temporary"'],
    ),
]

SUPERVISOR: list[tuple[dict[str, Any], type[Exception], list[str]]] = [
    # S2
    (
        {"strategy": "simple"},
        ValueError,
        ["strategy=", "'one_for_all', 'rest_for_one'", "'simple'"],
    ),
    # S3
    ({"max_restarts": -1}, ValueError, ["max_restarts=", "at least 0", "-1"]),
    ({"max_restarts": 1.5}, TypeError, ["max_restarts=", "whole number", "1.5"]),
    ({"max_restarts": True}, TypeError, ["max_restarts=", "whole number", "True"]),
    ({"within": 0}, ValueError, ["within=", "more than 0 seconds", "not 0"]),
    ({"within": -1}, ValueError, ["within=", "not negative", "-1"]),
    ({"within": "5"}, TypeError, ["within=", "number of seconds", "'5'"]),
    ({"on_limit": "ignore"}, ValueError, ["on_limit=", "'end', 'drop'", "'ignore'"]),
    (
        {"on_limit": "drop", "strategy": "one_for_all"},
        ValueError,
        ['on_limit="drop" needs strategy="one_for_one", not \'one_for_all\'', "together"],
    ),
    ({"root": None}, TypeError, ["root=", "True or False", "None"]),
    # S5
    ({"start": "at_once"}, ValueError, ["start=", "'in_order', 'together'", "'at_once'"]),
    (
        {"start": "together", "strategy": "rest_for_one"},
        ValueError,
        ['start="together" needs strategy="one_for_one", not \'rest_for_one\'', "keep an order"],
    ),
    # S6
    ({"auto_shutdown": None}, ValueError, ["auto_shutdown=", "'never', 'any', 'all'", "None"]),
]


@pytest.mark.parametrize(("options", "error", "said"), CHILD)
def test_bad_children(options: dict[str, Any], error: type[Exception], said: list[str]) -> None:
    with pytest.raises(error) as caught:
        ChildSpec(**{"name": "a"} | options)
    assert [text for text in said if text not in str(caught.value)] == []


@pytest.mark.parametrize(("options", "error", "said"), SUPERVISOR)
def test_bad_supervisors(options: dict[str, Any], error: type[Exception], said: list[str]) -> None:
    with pytest.raises(error) as caught:
        SupervisorSpec(**options)
    assert [text for text in said if text not in str(caught.value)] == []


WORD_FOR_WORD: list[tuple[str, dict[str, Any]]] = [
    (
        "backoff= must be Immediate(), Fixed(...), Linear(...) or Exponential(...), not 1",
        {"backoff": 1},
    ),
    ("reset_after= must be a number of seconds that is not negative, not -1", {"reset_after": -1}),
    ("significant= must be True or False, not 1", {"significant": 1}),
    (
        "child 'a' is significant and permanent: it never ends for good; "
        'use restart="transient" or "temporary"',
        {"significant": True},
    ),
    (
        "strategy= must be one of 'one_for_one', 'one_for_all', 'rest_for_one', not 'x'",
        {"strategy": "x"},
    ),
    ("max_restarts= must be at least 0, not -1", {"max_restarts": -1}),
    ("within= must be a number of seconds that is not negative, not -1", {"within": -1}),
    ("within= must be more than 0 seconds, not 0", {"within": 0}),
    ("on_limit= must be one of 'end', 'drop', not 'x'", {"on_limit": "x"}),
    (
        'on_limit="drop" needs strategy="one_for_one", not \'one_for_all\': '
        "the others restart children together",
        {"on_limit": "drop", "strategy": "one_for_all"},
    ),
    ("root= must be True or False, not 1", {"root": 1}),
    ("start= must be one of 'in_order', 'together', not 'x'", {"start": "x"}),
    (
        'start="together" needs strategy="one_for_one", not \'rest_for_one\': '
        "the others keep an order",
        {"start": "together", "strategy": "rest_for_one"},
    ),
    ("auto_shutdown= must be one of 'never', 'any', 'all', not 'x'", {"auto_shutdown": "x"}),
]


@pytest.mark.parametrize(("said", "options"), WORD_FOR_WORD)
def test_the_errors_word_for_word(said: str, options: dict[str, Any]) -> None:
    of_a_child = not options.keys().isdisjoint({"backoff", "reset_after", "significant"})
    with pytest.raises((TypeError, ValueError)) as caught:
        ChildSpec(name="a", **options) if of_a_child else SupervisorSpec(**options)
    assert str(caught.value) == said


def test_what_is_allowed() -> None:
    # S3: 0 restarts are allowed; S5, S6
    for strategy in STRATEGIES:
        SupervisorSpec(strategy=strategy, max_restarts=0, within=math.inf)
    SupervisorSpec(on_limit="drop", start="together", root=True)
    for shutdown in get_args(AutoShutdown):
        SupervisorSpec(auto_shutdown=shutdown)
    ChildSpec(name="a", restart="transient", significant=True)
    ChildSpec(name="a", restart="temporary", significant=True, reset_after=0)


def test_they_are_values() -> None:
    assert ChildSpec(name="a") == ChildSpec(name="a") != ChildSpec(name="b")
    assert hash(SupervisorSpec()) == hash(SupervisorSpec())
    with pytest.raises(AttributeError):
        ChildSpec(name="a").name = "b"  # type: ignore[misc]
    with pytest.raises(TypeError):
        ChildSpec("a")  # type: ignore[call-arg]


@pytest.mark.parametrize("end", ends, ids=repr)
def test_who_is_restarted(end: ExitReason) -> None:
    # S1: permanent after any end that was not asked for, transient after failures, temporary never
    assert ChildSpec(name="a", restart="permanent").wants_restart(end) is True
    abnormal = type(end) in {Crashed, Killed, TimedOut, Abandoned, GaveUp}
    assert ChildSpec(name="a", restart="transient").wants_restart(end) is abnormal
    assert ChildSpec(name="a", restart="temporary").wants_restart(end) is False


def test_when_the_backoff_starts_over() -> None:
    # S4: by default after twice the longest delay
    assert ChildSpec(name="a", backoff=Exponential(cap=7)).steady_after == 14
    assert ChildSpec(name="a", backoff=Exponential(cap=7), reset_after=3).steady_after == 3
    assert ChildSpec(name="a", backoff=Exponential(cap=7), reset_after=0).steady_after == 0


def test_who_has_a_window_of_its_own() -> None:
    # S3, S8
    assert not SupervisorSpec().has_window_each
    assert SupervisorSpec(on_limit="drop").has_window_each
    assert SupervisorSpec(root=True).has_window_each


def test_who_waits_for_a_turn() -> None:
    # S7
    assert not SupervisorSpec().ordered
    assert SupervisorSpec(strategy="one_for_all").ordered
    assert SupervisorSpec(strategy="rest_for_one").ordered


def test_significant_children() -> None:
    # S6
    child = ChildSpec(name="a", restart="transient", significant=True)
    for check in ("check_child", "check_children"):
        with pytest.raises(ValueError, match="child 'a' of host/x is significant") as caught:
            argument = child if check == "check_child" else (ChildSpec(name="b"), child)
            getattr(SupervisorSpec(), check)(argument, "host/x")
        assert str(caught.value).endswith(
            """, but the supervisor's auto_shutdown is "never"; use auto_shutdown="any" or "all\""""
        )
    SupervisorSpec().check_child(ChildSpec(name="a"), "host/x")
    SupervisorSpec(auto_shutdown="any").check_children((child,), "host/x")
    SupervisorSpec(auto_shutdown="all").check_child(child, "host/x")


def test_two_children_of_one_name() -> None:
    # I1
    with pytest.raises(ValueError, match="two children of host/x are named 'a'; give one another"):
        SupervisorSpec().check_children((ChildSpec(name="a"), ChildSpec(name="a")), "host/x")
    SupervisorSpec().check_children((ChildSpec(name="a"), ChildSpec(name="b")), "host/x")


# --- a limit that the backoff makes unreachable -------------------------------------------


def can_exceed(child: ChildSpec, max_restarts: int, within: float) -> bool:
    """Whether a child that fails as it likes can exceed the limit: tries all ways."""
    for steady in itertools.product([False, True], repeat=max_restarts):
        now, attempt, notes = 0.0, 0, [0.0]
        for runs_long in steady:
            now += child.backoff.delay(attempt, 0.0)
            attempt += 1
            if runs_long:
                now += child.steady_after
            if child.steady_after == 0 or runs_long:
                attempt = 0
            notes.append(now)
            if len([note for note in notes if note >= now - within]) > max_restarts:
                return True
    return max_restarts == 0


def warns(spec: SupervisorSpec, child: ChildSpec) -> bool:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        spec.check_children((child,), "host/x")
    return len(caught) == 1


# Whole seconds: sums of them are exact.
backoffs: st.SearchStrategy[Backoff] = st.one_of(
    st.just(Immediate()),
    st.builds(Fixed, st.integers(0, 4)),
    st.builds(Linear, st.integers(0, 3), st.integers(0, 9)),
    st.builds(
        Exponential,
        st.integers(0, 3),
        st.integers(1, 3),
        st.integers(0, 20),
        st.sampled_from([0, 1]),
    ),
)


@given(
    backoff=backoffs,
    reset_after=st.none() | st.integers(0, 9),
    max_restarts=st.integers(0, 6),
    within=st.integers(1, 40) | st.just(math.inf),
)
@example(Fixed(2), None, 3, 6)  # at exactly that age a note still counts
@example(Fixed(2), None, 3, 5.9)
@example(Linear(1, 9), 9, 3, 6)
@example(Linear(1, 9), 9, 3, 5.9)
@example(Exponential(1, 3, 99, 0), 0, 4, 5)  # waits 1 second each time
@example(Immediate(), None, 0, 1)
def test_an_unreachable_limit_is_warned_of(
    backoff: Backoff, reset_after: float | None, max_restarts: int, within: float
) -> None:
    # S3
    child = ChildSpec(name="a", backoff=backoff, reset_after=reset_after)
    spec = SupervisorSpec(max_restarts=max_restarts, within=within)
    assert warns(spec, child) == (not can_exceed(child, max_restarts, within))


def test_the_warning() -> None:
    # S3: at declaration
    spec = SupervisorSpec(max_restarts=3, within=5.0)
    child = ChildSpec(name="a", backoff=Fixed(2.0))
    with pytest.warns(UserWarning, match="unreachable") as caught:
        spec.check_children((ChildSpec(name="b"), child), "host/x")
    (warning,) = caught
    assert type(warning.message) is UserWarning
    assert str(warning.message) == (
        "the backoff Fixed(seconds=2.0) of child 'a' makes the limit of host/x unreachable: "
        "3 restarts take longer than 5 seconds, so it may fail for ever; raise within= or lower "
        "max_restarts="
    )


def test_the_warning_shows_who_called_what_declares() -> None:
    # S3; mutmut's own frames are in the way of this one, so it leaves it out
    spec = SupervisorSpec(max_restarts=3, within=5.0)

    def declare() -> None:
        spec.check_children((ChildSpec(name="a", backoff=Fixed(2.0)),), "host/x")

    with pytest.warns(UserWarning, match="unreachable") as caught:
        declare()
    source, first = inspect.getsourcelines(test_the_warning_shows_who_called_what_declares)
    (warning,) = caught
    assert warning.filename == __file__
    assert warning.lineno == first + source.index("        declare()\n")


def test_temporary_children_are_not_warned_of() -> None:
    # S3
    spec = SupervisorSpec(max_restarts=3, within=5.0)
    for restart, expected in (("permanent", True), ("transient", True), ("temporary", False)):
        child = ChildSpec(name="a", restart=restart, backoff=Fixed(60))  # type: ignore[arg-type]
        assert warns(spec, child) is expected


def test_any_limit_is_checked_in_no_time() -> None:
    # S10
    begin = time.perf_counter()
    for max_restarts in (10**6, 10**9, 10**400):
        spec = SupervisorSpec(max_restarts=max_restarts, within=60.0)
        assert warns(spec, ChildSpec(name="a", backoff=Fixed(0.1)))
        assert not warns(spec, ChildSpec(name="a"))
        assert not warns(
            SupervisorSpec(max_restarts=max_restarts, within=math.inf),
            ChildSpec(name="a", backoff=Fixed(1)),
        )
    assert time.perf_counter() - begin < 1
