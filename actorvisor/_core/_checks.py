"""Checks of what users declare: each error names the value and the remedy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

from ._describe import describe

_T = TypeVar("_T")


def check_seconds(
    what: str, value: object, *, infinite: bool = False, unit: str = " of seconds"
) -> float:
    """Give back a number that is not negative.

    Args:
        what: how the message calls it.
        value: what the user gave.
        infinite: whether infinity is allowed.
        unit: what the number counts, for the message.

    Raises:
        TypeError: it is no number.
        ValueError: it is negative, not a number, infinite where that is not allowed, or a whole
            number beyond the largest float.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{what} must be a number{unit}, not {describe(value)}")
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(f"{what} must be a finite number{unit}, not {describe(value)}") from None
    if math.isnan(number) or number < 0:
        raise ValueError(
            f"{what} must be a number{unit} that is not negative, not {describe(value)}"
        )
    if math.isinf(number) and not infinite:
        raise ValueError(f"{what} must be a finite number{unit}, not {describe(value)}")
    return value


def check_count(what: str, value: object, *, least: int) -> int:
    """Give back a whole number of at least ``least``.

    Raises:
        TypeError: it is no whole number.
        ValueError: it is smaller.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} must be a whole number, not {describe(value)}")
    if value < least:
        raise ValueError(f"{what} must be at least {least}, not {describe(value)}")
    return value


def check_choice(what: str, value: _T, choices: Sequence[_T]) -> _T:
    """Give back one of the choices.

    Raises:
        ValueError: it is none of them; the message lists them.
    """
    for choice in choices:
        if type(value) is type(choice) and value == choice:
            return value
    names = ", ".join(describe(choice) for choice in choices)
    raise ValueError(f"{what} must be one of {names}, not {describe(value)}")


def check_flag(what: str, value: object) -> bool:
    """Give back True or False.

    Raises:
        TypeError: it is neither.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{what} must be True or False, not {describe(value)}")
    return value
