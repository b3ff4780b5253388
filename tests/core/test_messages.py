"""Exit reasons and notifications (L2, O1)."""

from __future__ import annotations

import dataclasses
import inspect
import pickle
from typing import Any, get_args

import pytest
from hypothesis import given, strategies as st

from actorvisor._core import _messages
from actorvisor._core._messages import (
    Abandoned,
    Completed,
    Crashed,
    DeadLetter,
    Ended,
    Exited,
    ExitReason,
    GaveUp,
    Killed,
    Missed,
    Notification,
    Restarting,
    Started,
    Starting,
    Stopped,
    Stopping,
    TimedOut,
    is_failure,
)

BOOM = ValueError("boom")
REASONS: list[ExitReason] = [
    Completed(),
    Completed(3),
    Stopped(),
    Crashed(BOOM),
    Killed(-9),
    Killed(None),
    TimedOut("setup"),
    Abandoned("teardown"),
    GaveUp(Killed(1)),
]


class Evil:
    """Nothing can be done with it."""

    def __repr__(self) -> str:
        raise SystemExit("no")


class EvilError(Exception):
    def __repr__(self) -> str:
        raise GeneratorExit


def test_there_are_seven_reasons() -> None:
    # L2
    assert {type(reason) for reason in REASONS} == set(get_args(ExitReason))
    assert [cls.__name__ for cls in get_args(ExitReason)] == [
        "Completed",
        "Stopped",
        "Crashed",
        "Killed",
        "TimedOut",
        "Abandoned",
        "GaveUp",
    ]


@pytest.mark.parametrize("reason", REASONS, ids=repr)
def test_what_is_a_failure(reason: ExitReason) -> None:
    # S1, and OTP: anything but normal and shutdown
    normal = type(reason).__name__ in {"Completed", "Stopped"}
    assert is_failure(reason) is not normal


@pytest.mark.parametrize("value", [None, False, 0, "", (), ValueError(), Crashed(BOOM)])
def test_any_value_is_a_value(value: object) -> None:
    # L2: also what is false, and an exception that was returned
    assert Completed(value).value is value
    assert not is_failure(Completed(value))
    assert Completed(value) == Completed(value)


def test_defaults() -> None:
    # L2
    assert Completed() == Completed(None)
    assert Killed().status is None
    assert Abandoned().phase == "handler"
    assert Crashed(BOOM).traceback_text == ""


@pytest.mark.parametrize("reason", REASONS, ids=repr)
def test_reasons_are_values(reason: ExitReason) -> None:
    # L2
    assert [reason == other for other in REASONS].count(True) == 1
    assert hash(reason) == hash(dataclasses.replace(reason))
    assert not hasattr(reason, "__dict__")
    for field in dataclasses.fields(reason):
        with pytest.raises(AttributeError):
            setattr(reason, field.name, None)


def test_the_traceback_text_is_made_when_it_is_first_read() -> None:
    # L2
    made: list[str] = []

    def make() -> str:
        made.append("once")
        return "Traceback"

    reason = Crashed(BOOM, make)
    assert reason == Crashed(BOOM, "other")
    assert hash(reason) == hash(Crashed(BOOM))
    assert "make" not in repr(reason)
    assert made == []
    assert reason.traceback_text == reason.traceback_text == "Traceback"
    assert made == ["once"]


def test_the_traceback_text_is_made_when_it_crosses_a_process() -> None:
    # L2: what makes it stays behind
    for text in (lambda: "Traceback", "Traceback"):
        other = pickle.loads(pickle.dumps(Crashed(ValueError("boom"), text)))
        assert type(other) is Crashed
        assert repr(other.exception) == "ValueError('boom')"
        assert other.traceback_text == "Traceback"


@pytest.mark.parametrize("reason", [r for r in REASONS if type(r) is not Crashed], ids=repr)
def test_reasons_cross_processes(reason: ExitReason) -> None:
    # L2
    assert pickle.loads(pickle.dumps(reason)) == reason


@given(st.recursive(st.integers() | st.text(max_size=5), st.lists, max_leaves=5))
def test_how_reasons_print(value: object) -> None:
    # O5: as a dataclass does, as long as that is short
    if len(repr(value)) <= 200:
        assert repr(Completed(value)) == f"Completed(value={value!r})"
        assert repr(Crashed(ValueError(value))) in {
            f"Crashed(exception={ValueError(value)!r})",
            repr(Crashed(ValueError(value))) if len(repr(value)) > 180 else None,
        }


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (Completed(Evil()), "Completed(value=<Evil: repr raised SystemExit>)"),
        (Crashed(EvilError()), "Crashed(exception=<EvilError: repr raised GeneratorExit>)"),
        (GaveUp(Crashed(EvilError())), "GaveUp(last=Crashed(exception=<EvilError: repr raised G"),
        (Completed("x" * 10**6), "Completed(value='xxxx"),
        (Crashed(ValueError("x" * 10**6)), "Crashed(exception=ValueError('xxxx"),
    ],
)
def test_what_is_huge_or_raises_breaks_no_text(reason: ExitReason, said: str) -> None:
    # O5: not that of a notification either
    text = f"{reason}"
    assert text.startswith(said)
    assert len(text) < 300
    assert said in repr(Exited(path="host/a", incarnation=1, sequence=1, time=0.0, reason=reason))


# --- notifications ------------------------------------------------------------------------

OWN: dict[type[Notification], dict[str, Any]] = {
    Starting: {},
    Started: {},
    Stopping: {},
    Exited: {"reason": Stopped()},
    Restarting: {"delay": 0.5, "attempt": 2},
    Ended: {"reason": Stopped()},
    DeadLetter: {"message": "add(1)", "why": "it has ended"},
    Missed: {"count": 3},
}
COMMON: dict[str, Any] = {"path": "host/a", "incarnation": 1, "sequence": 7, "time": 1.5}


def test_there_are_eight_notifications() -> None:
    # O1
    found = {
        cls
        for _, cls in inspect.getmembers(_messages, inspect.isclass)
        if issubclass(cls, Notification) and cls is not Notification
    }
    assert found == set(OWN)


@pytest.mark.parametrize(("cls", "own"), OWN.items())
def test_a_notification(cls: type[Notification], own: dict[str, Any]) -> None:
    # O1: an immutable message that says whose it is, of which incarnation, its number and time
    values = COMMON | own
    one = cls(**values)
    assert {field.name: getattr(one, field.name) for field in dataclasses.fields(one)} == values
    assert one == cls(**values) != cls(**values | {"sequence": 8})
    assert hash(one) == hash(cls(**values))
    assert pickle.loads(pickle.dumps(one)) == one
    assert not hasattr(one, "__dict__")
    with pytest.raises(AttributeError):
        one.path = "host/b"  # type: ignore[misc]
    with pytest.raises(TypeError):
        cls(*values.values())  # type: ignore[call-arg]
    for name in values:
        with pytest.raises(TypeError, match=name):
            cls(**{key: value for key, value in values.items() if key != name})
