"""Declarations that are copied, or pickled for another process: nothing of them is lost (I3, L6)."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import actorvisor as av


class Worker(av.Service):
    def __init__(self, first: int, second: str) -> None:
        self.values = (first, second)

    def work(self, key: str) -> None:
        pass


def key(text: str, *_: object) -> str:
    return text


# Each option with a value that is not the default.
COMMON: dict[str, Any] = {
    "name": "given",
    "restart": "transient",
    "backoff": av.Fixed(3),
    "reset_after": 17.0,
    "significant": True,
}
OPTIONS: dict[Any, dict[str, Any]] = {
    av.Application: {
        **COMMON,
        "executor": av.ThreadExecutor(max_threads=3),
        "mailbox": 5,
        "overflow": "drop_oldest",
        "redeliver": 2,
        "grace": 1.5,
        "start_timeout": 2.5,
        "on_crash": {ValueError: "stop"},
    },
    av.Supervisor: {
        **COMMON,
        "strategy": "one_for_one",
        "max_restarts": 7,
        "within": 8.0,
        "on_limit": "drop",
        "auto_shutdown": "any",
        "start": "together",
    },
    av.Pool: {**COMMON, "size": 3, "key": key, "max_restarts": 7, "within": 8.0},
}
FIRST: dict[Any, tuple[Any, ...]] = {
    av.Application: (Worker, 1, "two"),
    av.Supervisor: ([av.Application(Worker, 1, "two", restart="transient", significant=True)],),
    av.Pool: (av.Application(Worker, 1, "two"),),
}
PLAIN: dict[Any, tuple[Any, ...]] = {av.Supervisor: ([av.Application(Worker, 1, "two")],)}
# The strategy is here: others than the default allow neither `drop` nor `together`.
NEEDED: dict[Any, dict[str, Any]] = {
    av.Supervisor: {"strategy": "rest_for_one"},
    av.Pool: {"size": 2},
}
COPIES: dict[str, Callable[[Any], Any]] = {
    "pickled": lambda one: pickle.loads(pickle.dumps(one)),
    "copied": copy.copy,
    "copied deeply": copy.deepcopy,
}


def parts(one: Any) -> Any:
    """All that a declaration holds, as far as it can be compared."""
    if isinstance(one, av.Application | av.Supervisor | av.Pool):
        return type(one), {name: parts(getattr(one, name)) for name in type(one).__slots__}
    if isinstance(one, tuple):
        return tuple(parts(each) for each in one)
    return dict(one) if hasattr(one, "keys") else one


@pytest.mark.parametrize("make", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("kind", OPTIONS, ids=lambda kind: kind.__name__)
def test_a_copy_has_every_option(kind: Any, make: Callable[[Any], Any]) -> None:
    # I3, L6
    one = kind(*FIRST[kind], **OPTIONS[kind])
    assert parts(make(one)) == parts(one)


@pytest.mark.parametrize("make", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("kind", OPTIONS, ids=lambda kind: kind.__name__)
def test_a_copy_without_options(kind: Any, make: Callable[[Any], Any]) -> None:
    # I1: what has no name of its own has none in a copy
    one = kind(*PLAIN.get(kind, FIRST[kind]), **NEEDED.get(kind, {}))
    assert parts(make(one)) == parts(one)


@pytest.mark.parametrize("kind", OPTIONS, ids=lambda kind: kind.__name__)
def test_no_option_is_left_out_here(kind: Any) -> None:
    parameters = inspect.signature(kind.__init__).parameters.values()
    options = {one.name: one.default for one in parameters if one.kind is one.KEYWORD_ONLY}
    assert options.keys() == OPTIONS[kind].keys()
    assert all(
        options[name] != value for name, value in OPTIONS[kind].items() if name != "strategy"
    )
