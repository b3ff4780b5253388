"""How long to wait before a restart (S4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, example, given, strategies as st

from actorvisor._core._backoff import (
    Backoff,
    Exponential,
    Fixed,
    Immediate,
    Linear,
    shortest_time,
)

seconds = st.floats(0, 1e9) | st.integers(0, 10**6)
# Any that may be declared.
extreme = st.floats(0, allow_infinity=False, allow_nan=False) | st.integers(0, 10**308)
factors = st.floats(1, allow_infinity=False, allow_nan=False) | st.integers(1, 10**300)
shares = st.floats(0, 1)
draws = st.floats(0, 1, exclude_max=True)
attempts = st.integers(0, 100) | st.integers(0, 2**70) | st.sampled_from([1023, 1024, 10**400])
backoffs: st.SearchStrategy[Backoff] = st.one_of(
    st.just(Immediate()),
    st.builds(Fixed, extreme),
    st.builds(Linear, extreme, extreme),
    st.builds(Exponential, extreme, factors, extreme, shares),
)


def test_the_defaults() -> None:
    # S4
    assert Exponential() == Exponential(base=0.1, factor=2, cap=30, jitter=0.1)
    assert Linear(1).cap == 30


def test_examples() -> None:
    # S4
    assert Immediate().delay(7, 0.3) == 0
    assert [Fixed(2).delay(n, 0.3) for n in range(3)] == [2, 2, 2]
    assert [Linear(2, cap=5).delay(n, 0.3) for n in range(4)] == [2, 4, 5, 5]
    plain = Exponential(1, 3, cap=20, jitter=0)
    assert [plain.delay(n, 0.3) for n in range(5)] == [1, 3, 9, 20, 20]
    jittered = Exponential(1, 2, jitter=0.5)
    assert [jittered.delay(1, draw) for draw in (0, 0.25, 0.5, 0.75)] == [1, 1.5, 2, 2.5]
    assert Exponential(1, 2, cap=2, jitter=0.5).delay(1, 0.75) == 2  # the cap includes the jitter
    assert Exponential(1, 2, cap=2, jitter=0.5).delay(9, 0) == 1
    assert Exponential(1, 1, cap=5).delay(10**9, 0.5) == 1
    assert Exponential(0, 2).delay(10**9, 0.5) == 0


@given(
    base=st.floats(1e-6, 1e6),
    factor=st.floats(1, 10) | st.integers(1, 10),
    cap=st.floats(0, 1e6),
    jitter=shares,
    attempt=st.integers(0, 60),
    draw=draws,
)
def test_exponential_is_what_it_says(
    base: float, factor: float, cap: float, jitter: float, attempt: int, draw: float
) -> None:
    # S4, computed with fractions
    plain = min(Fraction(cap), Fraction(base) * Fraction(factor) ** attempt)
    wanted = min(Fraction(cap), plain * (1 + Fraction(jitter) * (2 * Fraction(draw) - 1)))
    found = Exponential(base, factor, cap, jitter).delay(attempt, draw)
    assert found == pytest.approx(float(wanted), rel=1e-9, abs=float(plain) * 1e-9)


@given(step=seconds, cap=seconds, attempt=st.integers(0, 10**6), draw=draws)
def test_linear_is_what_it_says(step: float, cap: float, attempt: int, draw: float) -> None:
    # S4
    wanted = min(Fraction(cap), Fraction(step) * (attempt + 1))
    assert Linear(step, cap).delay(attempt, draw) == pytest.approx(float(wanted), rel=1e-12)


@given(backoff=backoffs, attempt=attempts, draw=draws)
@example(Exponential(base=5e-324), 2000, 0.5)
@example(Exponential(factor=2), 10**9, 0.5)
@example(Exponential(cap=1e308, jitter=1), 5000, 0.99)
@example(Linear(1e308, 1e308), 10**400, 0.5)
def test_a_delay_is_never_longer_than_the_longest(
    backoff: Backoff, attempt: int, draw: float
) -> None:
    # S4: however long the night, no overflow
    delay = backoff.delay(attempt, draw)
    assert 0 <= delay <= backoff.longest < math.inf


@given(backoff=backoffs, attempt=attempts, more=attempts, draw=draws, higher=draws)
def test_no_delay_is_shorter_than_the_one_before(
    backoff: Backoff, attempt: int, more: int, draw: float, higher: float
) -> None:
    # S4; what shortest_time builds on
    low, high = sorted([draw, higher])
    assert backoff.delay(attempt, draw) <= backoff.delay(attempt + more, draw)
    assert backoff.delay(attempt, low) <= backoff.delay(attempt, high)


@given(backoff=backoffs)
@example(Linear(0, 5))
@example(Exponential(0, 2))
@example(Exponential(1, 1, jitter=0.5))
@example(Exponential(1, 1, cap=1.2, jitter=0.5))
def test_the_longest_is_reached(backoff: Backoff) -> None:
    # S4: reset_after is twice the longest
    if isinstance(backoff, Exponential):
        assume(backoff.factor == 1 or backoff.factor > 1.001)
        assume(backoff.base == 0 or backoff.base > 1e-300)
    if isinstance(backoff, Linear):
        assume(backoff.step == 0 or backoff.step > 1e-10)
        assume(backoff.cap < 1e5)
    most = backoff.delay(10**16, 1 - 2**-53)
    assert most == pytest.approx(backoff.longest, rel=1e-12)


NO_NUMBER: Any = "1"
NOTHING: Any = None


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: Fixed(-1), ValueError, "Fixed(seconds=) must be a number of seconds that is"),
        (lambda: Fixed(math.inf), ValueError, "Fixed(seconds=) must be a finite number of seconds"),
        (
            lambda: Linear(NO_NUMBER),
            TypeError,
            "Linear(step=) must be a number of seconds, not '1'",
        ),
        (lambda: Linear(-1), ValueError, "Linear(step=) must be a number of seconds that is not"),
        (
            lambda: Linear(1, cap=NOTHING),
            TypeError,
            "Linear(cap=) must be a number of seconds, not",
        ),
        (lambda: Linear(1, cap=math.inf), ValueError, "Linear(cap=) must be a finite number"),
        (
            lambda: Exponential(base=-1),
            ValueError,
            "Exponential(base=) must be a number of seconds",
        ),
        (lambda: Exponential(cap=math.nan), ValueError, "Exponential(cap=) must be a number of"),
        (
            lambda: Exponential(factor=NO_NUMBER),
            TypeError,
            "Exponential(factor=) must be a number, not",
        ),
        (lambda: Exponential(factor=0.99), ValueError, "(factor=) must be at least 1, not 0.99"),
        (
            lambda: Exponential(factor=math.inf),
            ValueError,
            "(factor=) must be a finite number, not",
        ),
        (lambda: Exponential(jitter=1.01), ValueError, "(jitter=) must be from 0 to 1, not 1.01"),
        (lambda: Exponential(jitter=-0.1), ValueError, "(jitter=) must be a number that is not"),
        (
            lambda: Exponential(jitter=True),
            TypeError,
            "Exponential(jitter=) must be a number, not True",
        ),
    ],
)
def test_bad_values(make: Any, error: type[Exception], said: str) -> None:
    # S4
    with pytest.raises(error) as caught:
        make()
    assert said in str(caught.value)


def test_the_edges_are_allowed() -> None:
    # S4
    Fixed(0)
    Linear(0, cap=0)
    Exponential(base=0, factor=1, cap=0, jitter=0)
    Exponential(jitter=1)


def test_they_are_values() -> None:
    assert Exponential(1) == Exponential(1) != Exponential(2)
    assert len({Fixed(1), Fixed(1), Fixed(2), Immediate(), Immediate()}) == 3
    assert repr(Linear(1)) == "Linear(step=1, cap=30.0)"
    with pytest.raises(AttributeError):
        Fixed(1).seconds = 2  # type: ignore[misc]
    with pytest.raises(TypeError, match="abstract"):
        Backoff()  # type: ignore[abstract]


class Own(Backoff):
    """As a user may write one."""

    def __init__(self, delays: Sequence[float]) -> None:
        self.delays = delays

    def delay(self, attempt: int, draw: float) -> float:
        return self.delays[min(attempt, len(self.delays) - 1)]

    @property
    def longest(self) -> float:
        return max(self.delays)


def test_one_of_a_users_own() -> None:
    assert Own([1]) != Own([2])
    assert Own([1, 2]).delay(5, 0.5) == 2


# --- shortest_time ------------------------------------------------------------------------


def naive_shortest(backoff: Backoff, restarts: int, steady_after: float) -> float:
    """The best of all ways to end: at once, or after a run that starts the backoff over."""
    # least[a]: the least time so far, with a waits in a row since the backoff started over
    least = {0: 0.0}
    for _ in range(restarts):
        step: dict[int, float] = {}
        for row, time in least.items():
            at_once = time + backoff.delay(row, 0.0)
            steady = time + steady_after + backoff.delay(0, 0.0)
            for now, spent in ((row + 1, at_once), (1, steady)):
                step[now] = min(spent, step.get(now, math.inf))
        least = step
    return min(least.values())


whole: st.SearchStrategy[Backoff] = st.one_of(
    st.just(Immediate()),
    st.builds(Fixed, st.integers(0, 5)),
    st.builds(Linear, st.integers(0, 3), st.integers(0, 50)),
    st.builds(
        Exponential,
        st.integers(0, 3),
        st.integers(1, 3),
        st.integers(0, 50),
        st.sampled_from([0, 1]),
    ),
    st.lists(st.integers(0, 9), min_size=1, max_size=9).map(lambda delays: Own(sorted(delays))),
)


@given(backoff=whole, restarts=st.integers(1, 14), steady_after=st.integers(0, 60))
@example(Linear(1, 100), 100, 20)
def test_the_shortest_time(backoff: Backoff, restarts: int, steady_after: int) -> None:
    # S3: what makes a limit unreachable
    assert shortest_time(backoff, restarts, steady_after) == naive_shortest(
        backoff, restarts, steady_after
    )


@given(backoff=whole, restarts=st.integers(95, 160), steady_after=st.integers(0, 60))
@example(Linear(1, 200), 101, 400)
@example(Linear(1, 200), 150, 3)
@example(Own([0] * 99 + [9]), 101, 0)
@example(Own([0] * 99 + [9_000]), 198, 5)  # two rows of 99
@example(Linear(1, 200), 150, 0)  # rows of 1
def test_of_many_restarts_it_is_never_too_long(
    backoff: Backoff, restarts: int, steady_after: int
) -> None:
    # S3: no false warning
    found = shortest_time(backoff, restarts, steady_after)
    wanted = naive_shortest(backoff, restarts, steady_after)
    assert found <= wanted * (1 + 1e-12)
    if restarts <= 100:
        assert found == wanted


def test_of_many_restarts_it_is_not_far_off() -> None:
    assert shortest_time(Fixed(2), 10**9, 4) == pytest.approx(2e9, rel=1e-6)
    assert shortest_time(Linear(1, 10), 1000, 20) > 0.9 * naive_shortest(Linear(1, 10), 1000, 20)
    assert shortest_time(Linear(1, 50), 1000, 5) == pytest.approx(
        naive_shortest(Linear(1, 50), 1000, 5), rel=0.01
    )
