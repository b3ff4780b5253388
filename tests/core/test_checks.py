"""Checks of what users declare."""

from __future__ import annotations

import math
import sys
from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from actorvisor._core._checks import check_choice, check_count, check_flag, check_seconds


class Unreadable:
    """A value that cannot even be told."""

    def __repr__(self) -> str:
        raise SystemExit("no")


anything = st.one_of(
    st.floats(),
    st.integers(),
    st.booleans(),
    st.none(),
    st.text(),
    st.complex_numbers(),
    st.sampled_from([10**400, -(10**400), sys.float_info.max, math.inf, -math.inf, Unreadable()]),
)


@given(value=anything, infinite=st.booleans())
@example(-0.0, False)
@example(math.nan, True)
def test_seconds(value: object, infinite: bool) -> None:
    kind = type(value)
    if kind not in {int, float}:
        with pytest.raises(TypeError, match=r"^grace= must be a number of seconds, not "):
            check_seconds("grace=", value, infinite=infinite)
        return
    number: Any = value
    if 0 <= number <= sys.float_info.max or (infinite and number == math.inf):
        assert check_seconds("grace=", value, infinite=infinite) is value
    else:
        with pytest.raises(ValueError, match=r"^grace= must be a (finite )?number of seconds"):
            check_seconds("grace=", value, infinite=infinite)


@given(value=anything, least=st.integers(-3, 3))
def test_count(value: object, least: int) -> None:
    if type(value) is not int:
        with pytest.raises(TypeError, match=r"^size= must be a whole number, not "):
            check_count("size=", value, least=least)
    elif value >= least:
        assert check_count("size=", value, least=least) is value
    else:
        with pytest.raises(ValueError, match=rf"^size= must be at least {least}, not "):
            check_count("size=", value, least=least)


@given(value=st.sampled_from(["a", "b", "", 1, True, 1.0, None, ("a",)]))
def test_choice(value: object) -> None:
    choices = ["a", 1, None]
    if (type(value), value) in [(str, "a"), (int, 1), (type(None), None)]:
        assert check_choice("x=", value, choices) is value
    else:
        with pytest.raises(ValueError, match=r"^x= must be one of 'a', 1, None, not ") as caught:
            check_choice("x=", value, choices)
        assert str(caught.value).endswith(f", not {value!r}")


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: check_seconds("x=", "5"), TypeError, "x= must be a number of seconds, not '5'"),
        (lambda: check_seconds("x=", None), TypeError, "x= must be a number of seconds, not None"),
        (lambda: check_seconds("x=", True), TypeError, "x= must be a number of seconds, not True"),
        (
            lambda: check_seconds("x=", -1),
            ValueError,
            "x= must be a number of seconds that is not negative, not -1",
        ),
        (
            lambda: check_seconds("x=", math.nan),
            ValueError,
            "x= must be a number of seconds that is not negative, not nan",
        ),
        (
            lambda: check_seconds("x=", -math.inf),
            ValueError,
            "x= must be a number of seconds that is not negative, not -inf",
        ),
        (
            lambda: check_seconds("x=", math.inf),
            ValueError,
            "x= must be a finite number of seconds, not inf",
        ),
        (
            lambda: check_seconds("x=", 10**400, infinite=True),
            ValueError,
            "x= must be a finite number of seconds, not <int of 1329 bits>",
        ),
        (
            lambda: check_seconds("x=", "5", unit=""),
            TypeError,
            "x= must be a number, not '5'",
        ),
        (
            lambda: check_seconds("x=", Unreadable()),
            TypeError,
            "x= must be a number of seconds, not <Unreadable: repr raised SystemExit>",
        ),
        (lambda: check_count("x=", 1.0, least=0), TypeError, "x= must be a whole number, not 1.0"),
        (
            lambda: check_count("x=", False, least=0),
            TypeError,
            "x= must be a whole number, not False",
        ),
        (lambda: check_count("x=", 0, least=1), ValueError, "x= must be at least 1, not 0"),
        (
            lambda: check_choice("x=", "c", ["a", "b"]),
            ValueError,
            "x= must be one of 'a', 'b', not 'c'",
        ),
        (
            lambda: check_choice("x=", ["a"], [["b"]]),
            ValueError,
            "x= must be one of ['b'], not ['a']",
        ),
        (lambda: check_flag("x=", 1), TypeError, "x= must be True or False, not 1"),
        (lambda: check_flag("x=", None), TypeError, "x= must be True or False, not None"),
        (lambda: check_flag("x=", "yes"), TypeError, "x= must be True or False, not 'yes'"),
    ],
)
def test_bad_values(call: Any, error: type[Exception], said: str) -> None:
    # Each error names the value and the remedy.
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == said
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_flags() -> None:
    assert check_flag("x=", True) is True
    assert check_flag("x=", False) is False
