"""The restart window (S3)."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given, strategies as st

from actorvisor._core._intensity import RestartWindow


class Naive:
    """Remembers all, and filters."""

    def __init__(self, max_restarts: int, within: float) -> None:
        self.max_restarts, self.within = max_restarts, within
        self.notes: list[tuple[float, str]] = []

    def note(self, name: str, now: float) -> bool:
        self.notes.append((now, name))
        recent = [time for time, _ in self.notes if not now - time > self.within]
        return len(recent) > self.max_restarts

    def clear(self, name: str) -> None:
        self.notes = [note for note in self.notes if note[1] != name]


names = st.sampled_from(["a", "b", "c"])
# Whole seconds, so that the exact edge is hit; and any other.
waits = st.integers(0, 6) | st.floats(0, 10)
steps = st.lists(
    st.tuples(st.sampled_from(["note", "note", "note", "clear"]), names, waits), max_size=40
)


@given(
    max_restarts=st.integers(0, 4),
    within=st.sampled_from([1, 3, 5.0, 0.1, math.inf]) | st.floats(0.01, 10),
    steps=steps,
)
@example(1, 5.0, [("note", "a", 0), ("note", "a", 5)])  # exactly that old: counts
@example(0, 5.0, [("note", "a", 0)])
def test_against_a_filter_over_all_notes(
    max_restarts: int, within: float, steps: list[tuple[str, str, float]]
) -> None:
    # S3
    window, naive = RestartWindow(max_restarts, within), Naive(max_restarts, within)
    now = 0.0
    for step, name, wait in steps:
        now += wait
        if step == "clear":
            window.clear(name)
            naive.clear(name)
            continue
        wanted = naive.note(name, now)
        assert window.note(name, now) == wanted
        if wanted:
            break  # whose limit it was ends


@given(
    max_restarts=st.integers(0, 4),
    within=st.integers(1, 5),
    waits=st.lists(st.integers(0, 6), max_size=60),
)
def test_beyond_the_limit_it_still_says_so(
    max_restarts: int, within: int, waits: list[int]
) -> None:
    # S3; and it keeps no more notes than it needs (S10)
    window, naive = RestartWindow(max_restarts, within), Naive(max_restarts, within)
    now = 0
    for wait in waits:
        now += wait
        assert window.note("a", now) == naive.note("a", now)
        assert window._notes is not None
        assert len(window._notes) <= max_restarts


def test_the_exact_edge() -> None:
    # S3: notes older than `within` are forgotten; one of exactly that age is not
    window = RestartWindow(1, 5.0)
    assert not window.note("a", 10.0)
    assert not window.copy().note("a", math.nextafter(15.0, 16.0))
    assert window.copy().note("a", 15.0)


def test_the_default_limit() -> None:
    # S3: three restarts in five seconds are allowed, a fourth is not
    window = RestartWindow(3, 5.0)
    assert [window.note("a", time) for time in (0, 1, 2, 3)] == [False, False, False, True]
    assert window.max_restarts == 3
    assert window.within == 5.0


def test_reset() -> None:
    # S8: a supervisor that is restarted begins without notes
    window = RestartWindow(1, 5.0)
    window.note("a", 0)
    window.reset()
    assert window == RestartWindow(1, 5.0)
    assert not window.note("a", 0)


def test_clearing_one_child_leaves_the_others() -> None:
    # S3: an explicit start clears that child's notes
    window = RestartWindow(2, 5.0)
    window.note("a", 0)
    window.note("b", 0)
    window.clear("c")
    window.clear("a")
    assert not window.copy().note("c", 1)
    window.note("c", 1)
    assert window.note("d", 1)


def test_a_copy_is_changed_by_itself() -> None:
    # S9
    window = RestartWindow(2, 5.0)
    window.note("a", 0)
    other = window.copy()
    assert other == window
    other.note("a", 1)
    assert other != window
    assert window.copy() == window


@pytest.mark.parametrize(
    "other",
    [RestartWindow(1, 5.0), RestartWindow(2, 4.0), 3, None],
)
def test_it_differs_from(other: object) -> None:
    # S9
    assert RestartWindow(2, 5.0) != other


def test_it_has_no_hash() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(RestartWindow(1, 1))
