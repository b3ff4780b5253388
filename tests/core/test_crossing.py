"""Crashes that are pickled: what cannot be brought over is told in words, but a Ctrl-C passes (P4)."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from actorvisor._core._messages import Crashed, text_of
from actorvisor._errors import RemoteError


class Reduced(Exception):
    """Raises while it is pickled."""

    what: type[BaseException] = RuntimeError

    def __reduce__(self) -> Any:
        raise self.what


class Revived(Exception):
    """Raises while it is unpickled."""

    what: type[BaseException] = RuntimeError

    def __reduce__(self) -> Any:
        return revive, (self.what,)


class Mute(Exception):
    """Raises when it is asked for its text."""

    what: type[BaseException] = RuntimeError

    def __str__(self) -> str:
        raise self.what


def revive(what: type[BaseException]) -> Any:
    raise what


@pytest.mark.parametrize("kind", [Reduced, Revived], ids=["pickling", "unpickling"])
def test_what_cannot_be_brought_over_is_told_in_words(kind: type[Exception]) -> None:
    # P4
    found = pickle.loads(pickle.dumps(Crashed(kind("why"), "its traceback"))).exception
    assert isinstance(found, RemoteError)
    assert (found.type_name, found.text) == (kind.__qualname__, "why")
    assert found.traceback_text == "its traceback"


def test_a_text_that_raises() -> None:
    assert "Mute" in text_of(Mute())


def interrupted(kind: Any) -> Exception:
    error: Exception = type(kind.__name__, (kind,), {"what": KeyboardInterrupt})()
    return error


@pytest.mark.parametrize("kind", [Reduced, Revived, Mute], ids=["pickling", "unpickling", "text"])
def test_a_ctrl_c_passes(kind: type[Exception]) -> None:
    # M9
    with pytest.raises(KeyboardInterrupt):
        pickle.loads(pickle.dumps(Crashed(interrupted(kind))))
