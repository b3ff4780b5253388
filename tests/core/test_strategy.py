"""Which siblings a restart concerns (S2)."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given, strategies as st

from actorvisor._core._strategy import STRATEGIES, Strategy, concerned


def naive(strategy: Strategy, order: list[str], failing: str) -> set[str]:
    """S2, as a set."""
    if strategy == "one_for_one":
        return {failing}
    if strategy == "one_for_all":
        return set(order)
    return {name for name in order if order.index(name) >= order.index(failing)}


@given(
    strategy=st.sampled_from(STRATEGIES),
    order=st.lists(st.text(max_size=2), min_size=1, max_size=8, unique=True),
    data=st.data(),
)
def test_against_the_rule(strategy: Strategy, order: list[str], data: st.DataObject) -> None:
    # S2: newest first
    failing = data.draw(st.sampled_from(order))
    found = list(concerned(strategy, dict.fromkeys(order), failing))
    wanted = naive(strategy, order, failing)
    assert found == sorted(wanted, key=order.index, reverse=True)


def test_examples() -> None:
    # S2
    order = dict.fromkeys("abcd")
    assert list(concerned("one_for_one", order, "b")) == ["b"]
    assert list(concerned("one_for_all", order, "b")) == ["d", "c", "b", "a"]
    assert list(concerned("rest_for_one", order, "b")) == ["d", "c", "b"]
    assert STRATEGIES == ("one_for_one", "one_for_all", "rest_for_one")


def test_no_more_is_looked_at_than_is_concerned() -> None:
    # S9: O(children affected)
    class Order:
        looked = 0

        def __iter__(self) -> Iterator[str]:
            self.looked += 1
            return iter("abc")

        def __reversed__(self) -> Iterator[str]:
            self.looked += 1
            return iter("cba")

    order = Order()
    assert list(concerned("one_for_one", order, "b")) == ["b"]
    assert order.looked == 0
    lazily = concerned("rest_for_one", order, "b")
    assert next(lazily) == "c"
    assert order.looked == 1
