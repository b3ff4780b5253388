"""How long to wait before a restart (S4). The random draw is an argument."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from ._checks import check_seconds

MANY: Final = 2**53
"""More restarts than anybody lives to see; beyond it a float cannot count them."""


# No dataclass: a subclass of a user's own would inherit that all of its objects are equal.
class Backoff(ABC):
    """How long to wait before a restart. No delay may be shorter than the one before."""

    __slots__ = ()

    @abstractmethod
    def delay(self, attempt: int, draw: float) -> float:
        """Seconds to wait.

        Args:
            attempt: restarts in a row before this one, counted from 0.
            draw: a random number from 0 up to, not including, 1.
        """

    @property
    @abstractmethod
    def longest(self) -> float:
        """The longest delay it can give, in seconds."""


@dataclass(frozen=True, slots=True)
class Immediate(Backoff):
    """No wait at all (OTP's way, and the default)."""

    def delay(self, attempt: int, draw: float) -> float:
        """Always 0."""
        return 0.0

    @property
    def longest(self) -> float:
        """Always 0."""
        return 0.0


@dataclass(frozen=True, slots=True)
class Fixed(Backoff):
    """The same wait each time.

    Attributes:
        seconds: how long.
    """

    seconds: float

    def __post_init__(self) -> None:
        check_seconds("Fixed(seconds=)", self.seconds)

    def delay(self, attempt: int, draw: float) -> float:
        """The same each time."""
        return self.seconds

    @property
    def longest(self) -> float:
        """The same each time."""
        return self.seconds


@dataclass(frozen=True, slots=True)
class Linear(Backoff):
    """One step longer each time, up to a cap.

    Attributes:
        step: seconds that each attempt adds; the first waits one step.
        cap: the longest wait, in seconds.
    """

    step: float
    cap: float = 30.0

    def __post_init__(self) -> None:
        check_seconds("Linear(step=)", self.step)
        check_seconds("Linear(cap=)", self.cap)

    def delay(self, attempt: int, draw: float) -> float:
        """``step * (attempt + 1)``, at most ``cap``."""
        return min(self.cap, self.step * (min(attempt, MANY) + 1))

    @property
    def longest(self) -> float:
        """The cap, or 0 when a step is 0."""
        return self.cap if self.step else 0.0


@dataclass(frozen=True, slots=True)
class Exponential(Backoff):
    """Longer by a factor each time, up to a cap, with jitter.

    Attributes:
        base: the first wait, in seconds.
        factor: what each attempt multiplies it with, at least 1.
        cap: the longest wait, jitter included, in seconds.
        jitter: the share of the wait, from 0 to 1, that the random draw may add or take.
    """

    base: float = 0.1
    factor: float = 2.0
    cap: float = 30.0
    jitter: float = 0.1

    def __post_init__(self) -> None:
        check_seconds("Exponential(base=)", self.base)
        check_seconds("Exponential(cap=)", self.cap)
        factor = check_seconds("Exponential(factor=)", self.factor, unit="")
        if factor < 1:
            raise ValueError(f"Exponential(factor=) must be at least 1, not {self.factor!r}")
        if check_seconds("Exponential(jitter=)", self.jitter, unit="") > 1:
            raise ValueError(f"Exponential(jitter=) must be from 0 to 1, not {self.jitter!r}")

    def delay(self, attempt: int, draw: float) -> float:
        """``base * factor ** attempt``, at most ``cap``, then jittered, at most ``cap`` again."""
        if self.base == 0:
            return 0.0
        try:
            # As a float even where the factor is whole: 2 ** 1_000_000_000 would take a while.
            plain = min(self.cap, self.base * float(self.factor) ** min(attempt, MANY))
        except OverflowError:  # 2.0 ** 1024, after a long night
            plain = self.cap
        return min(self.cap, plain * (1 + self.jitter * (2 * draw - 1)))

    @property
    def longest(self) -> float:
        """The cap, unless it never grows up to it."""
        if self.factor == 1:
            return min(self.cap, self.base * (1 + self.jitter))
        return self.cap if self.base else 0.0


_EXACT: Final = 100


def shortest_time(backoff: Backoff, restarts: int, steady_after: float) -> float:
    """The least time, in seconds, in which one child can be restarted so often.

    Args:
        backoff: its waits.
        restarts: how often, at least 1.
        steady_after: seconds of running after which the backoff starts over.

    Returns:
        The time from the first decision to the last of ``restarts + 1``; exact up to 100
        restarts, beyond that never too long.
    """
    counted = min(restarts, _EXACT)
    # How long 0, 1, 2 ... restarts in a row take, if the child fails as fast as it can.
    sums = [0.0, *accumulate(backoff.delay(attempt, 0.0) for attempt in range(counted))]
    # It can also run for steady_after now and then, after which the waits are short again. That
    # splits the restarts into rows; as no wait is shorter than the one before, rows of equal
    # length take least.
    if restarts == counted:
        best = sums[restarts]
        for rows in range(2, restarts + 1):
            length, longer = divmod(restarts, rows)
            waits = (rows - longer) * sums[length] + longer * sums[length + 1]
            best = min(best, (rows - 1) * steady_after + waits)
        return best
    rate = min((steady_after + sums[length]) / length for length in range(1, counted + 1))
    return restarts * min(rate, sums[counted] / counted) - steady_after
