"""Which siblings a restart concerns, and in which order (S2)."""

from __future__ import annotations

from collections.abc import Iterator, Reversible
from typing import Literal, TypeAlias

Strategy: TypeAlias = Literal["one_for_one", "one_for_all", "rest_for_one"]
STRATEGIES: tuple[Strategy, ...] = ("one_for_one", "one_for_all", "rest_for_one")


def concerned(strategy: Strategy, order: Reversible[str], failing: str) -> Iterator[str]:
    """The siblings that go down with a child, newest first, the child itself included.

    Args:
        strategy: the supervisor's.
        order: all children, oldest first.
        failing: the child whose end is the reason.
    """
    if strategy == "one_for_one":
        yield failing
        return
    for name in reversed(order):
        yield name
        if strategy == "rest_for_one" and name == failing:
            return
