"""In which order what is ready runs: data, which shrinks to nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, final

from ..._core._checks import check_count


@final
@dataclass(frozen=True, slots=True, repr=False)
class Schedule:
    """In which order what is ready runs, where it is not first in, first out.

    A choice is contested when more than one task is ready; contested choices are counted from 0,
    and so are steps. A demotion puts the task that would run behind all others, for good: the
    priority change points of PCT (Burckhardt et al., "A Randomized Scheduler with Probabilistic
    Guarantees of Finding Bugs", 2010), as data.

    Attributes:
        demote: contested choices at which the task that would run is demoted.
        skip_time: steps before which the next deadline fires early.
        picks: contested choices, and which of those ready runs there, counted from 0.
        draws: the seed of what draws the jitter of backoffs, for hosts without a generator.
    """

    demote: tuple[int, ...] = ()
    skip_time: tuple[int, ...] = ()
    picks: tuple[tuple[int, int], ...] = ()
    draws: int = 0

    def __post_init__(self) -> None:
        for name in ("demote", "skip_time"):
            object.__setattr__(self, name, _numbers(f"Schedule({name}=)", getattr(self, name)))
        picks: dict[int, int] = {}
        given: Iterable[Any] = self.picks
        for pick in given:
            if not isinstance(pick, tuple) or len(pick) != 2:
                raise TypeError(
                    f"Schedule(picks=) takes pairs of a choice and a pick, not {pick!r}"
                )
            choice, picked = (check_count("Schedule(picks=)", one, least=0) for one in pick)
            if choice in picks:
                raise ValueError(f"Schedule(picks=) has two picks for choice {choice}")
            picks[choice] = picked
        object.__setattr__(self, "picks", tuple(sorted(picks.items())))
        check_count("Schedule(draws=)", self.draws, least=0)

    def __repr__(self) -> str:
        said = [
            f"{name}={value!r}"
            for name in ("demote", "skip_time", "picks", "draws")
            if (value := getattr(self, name))
        ]
        return f"Schedule({', '.join(said)})"


def _numbers(what: str, numbers: Iterable[int]) -> tuple[int, ...]:
    if isinstance(numbers, str | bytes) or not isinstance(numbers, Iterable):
        raise TypeError(f"{what} takes numbers, counted from 0, not {numbers!r}")
    return tuple(sorted({check_count(what, number, least=0) for number in numbers}))
