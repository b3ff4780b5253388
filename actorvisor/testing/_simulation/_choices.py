"""Who chooses what runs next: all that is random in a simulation, or nothing of it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from .._failures import ReplayDiverged

if TYPE_CHECKING:
    from ._schedule import Schedule

EARLY: Final = 0.01
"""How often a random walk lets a deadline fire early: as often as not, timeouts would win all."""


class Chooser(Protocol):
    """Makes the choices of a simulation; the plain one is 0: first in, first out."""

    def pick(self, ready: Sequence[int], names: Sequence[str]) -> int:
        """Which of the tasks that are ready runs: a place in `ready`.

        Args:
            ready: their numbers, longest ready first; two at least.
            names: their names.
        """
        ...

    def early(self, step: int) -> bool:
        """Whether the next deadline fires now, before the step of that number."""
        ...


@dataclass(frozen=True, slots=True)
class Choice:
    """A contested choice that was made.

    Attributes:
        ready: how many were ready.
        picked: which of them ran.
        name: the name of its task.
    """

    ready: int
    picked: int
    name: str


class RandomWalk:
    """Any of those that are ready, with equal odds; now and then a deadline fires early."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def pick(self, ready: Sequence[int], names: Sequence[str]) -> int:
        """See `Chooser.pick`."""
        return self._random.randrange(len(ready))

    def early(self, step: int) -> bool:
        """See `Chooser.early`."""
        return self._random.random() < EARLY


class Scheduled:
    """As a schedule says; first in, first out elsewhere."""

    def __init__(self, schedule: Schedule) -> None:
        self._demote = frozenset(schedule.demote)
        self._skip = frozenset(schedule.skip_time)
        self._picks = dict(schedule.picks)
        self._choice = -1
        # How far behind all others a task is.
        self._behind: dict[int, int] = {}

    def pick(self, ready: Sequence[int], names: Sequence[str]) -> int:
        """See `Chooser.pick`."""
        self._choice += 1
        picked = self._picks.get(self._choice)
        if picked is not None:
            return min(picked, len(ready) - 1)
        place = self._first(ready)
        if self._choice in self._demote:
            self._behind[ready[place]] = (
                len(self._behind) + 1 + max(self._behind.values(), default=0)
            )
            place = self._first(ready)
        return place

    def _first(self, ready: Sequence[int]) -> int:
        if not self._behind:
            return 0
        return min(range(len(ready)), key=lambda place: (self._behind.get(ready[place], 0), place))

    def early(self, step: int) -> bool:
        """See `Chooser.early`."""
        return step in self._skip


class Recorded:
    """As it was chosen before; that it still fits is checked at every choice."""

    def __init__(self, choices: Sequence[Choice], early: Sequence[int]) -> None:
        self._choices = choices
        self._early = frozenset(early)
        self._next = 0

    def pick(self, ready: Sequence[int], names: Sequence[str]) -> int:
        """See `Chooser.pick`.

        Raises:
            ReplayDiverged: what is replayed has changed.
        """
        number, self._next = self._next, self._next + 1
        if number >= len(self._choices):
            raise ReplayDiverged(number, "there were no more choices", ", ".join(names))
        choice = self._choices[number]
        found = f"{len(ready)} tasks are ready ({', '.join(names)})"
        if choice.ready != len(ready):
            raise ReplayDiverged(number, f"{choice.ready} tasks were ready", found)
        if names[choice.picked] != choice.name:
            raise ReplayDiverged(number, f"{choice.name} ran, as number {choice.picked}", found)
        return choice.picked

    def early(self, step: int) -> bool:
        """See `Chooser.early`."""
        return step in self._early
