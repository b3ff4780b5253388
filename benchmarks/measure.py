"""Ratios: ours and a floor, measured in turn in one process, so that a slow machine slows both."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

Measure: TypeAlias = Callable[[], Awaitable[float]]
"""One round; its cost for each message, start or crash, in seconds or bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """What one thing costs, against its floor.

    Attributes:
        name: what it is.
        ratio: the median of the ratios of all rounds.
        bound: ``at least`` or ``at most``, or None where it is measured for information.
        limit: what the ratio must be, by `bound`.
        ours: the median cost of ours.
        floor: the median cost of the floor.
        unit: of the two.
        against: what the floor is.
    """

    name: str
    ratio: float
    bound: Literal["at least", "at most"] | None
    limit: float
    ours: float
    floor: float
    unit: str
    against: str

    @property
    def holds(self) -> bool:
        """Whether it is within its limit."""
        match self.bound:
            case "at least":
                return self.ratio >= self.limit
            case "at most":
                return self.ratio <= self.limit
            case None:
                return True

    @property
    def wanted(self) -> str:
        """Its limit in words."""
        if self.bound is None:
            return "-"
        return f"{'>=' if self.bound == 'at least' else '<='} {self.limit:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """How a cost is shown."""

    name: str
    scale: float


MICROSECONDS = Unit(name="us", scale=1e6)
MILLISECONDS = Unit(name="ms", scale=1e3)
KIBIBYTES = Unit(name="KiB", scale=1 / 1024)


async def compare(
    name: str,
    ours: Measure,
    floor: Measure,
    *,
    rounds: int,
    against: str,
    at_most: float | None = None,
    at_least: float | None = None,
    unit: Unit = MICROSECONDS,
) -> Ratio:
    """Measure both, in turn, and compare them round by round.

    Args:
        name: what is measured.
        ours: a round of ours.
        floor: a round of the floor.
        rounds: how many count; one more warms up.
        against: what the floor is.
        at_most: how much more ours may cost.
        at_least: how many times as fast ours must be; the ratio is then one of throughputs.
        unit: of what the rounds return.
    """
    mine: list[float] = []
    bare: list[float] = []
    for number in range(rounds + 1):
        for measure, costs in ((floor, bare), (ours, mine))[:: -1 if number % 2 else 1]:
            gc.collect()
            cost = await measure()
            if number:
                costs.append(cost)
    inverted = at_least is not None
    ratios = [b / m if inverted else m / b for m, b in zip(mine, bare, strict=True)]
    limit = at_least if at_least is not None else at_most
    return Ratio(
        name=name,
        ratio=statistics.median(ratios),
        bound=None if limit is None else "at least" if inverted else "at most",
        limit=0.0 if limit is None else limit,
        ours=statistics.median(mine) * unit.scale,
        floor=statistics.median(bare) * unit.scale,
        unit=unit.name,
        against=against,
    )
