"""What the process executors are declared with: bad input is refused, and values are values (E1)."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import actorvisor as av
from tests.executors import process_services as acts
from tests.executors.process_services import AsyncWorker, Worker
from tests.executors.processes import EXECUTORS, both, caught, opened, worker

Make = Callable[..., Any]

REFUSED: dict[str, tuple[dict[str, Any], type[Exception], tuple[str, ...]]] = {
    "no such start method": ({"start_method": "thread"}, ValueError, ("start_method", "'thread'")),
    "fork": ({"start_method": "fork"}, ValueError, ("start_method", "'fork'", "'spawn'")),
    "a start method of no type": ({"start_method": 1}, ValueError, ("start_method", "1")),
    "one name to preload": ({"preload": "numpy"}, TypeError, ("preload", "('numpy',)", "'numpy'")),
    "a module to preload": ({"preload": math}, TypeError, ("preload", "names of modules")),
    "modules to preload": ({"preload": (math,)}, TypeError, ("preload", "math")),
    "bytes to preload": ({"preload": [b"math"]}, TypeError, ("preload", "b'math'")),
    "nothing to preload": ({"preload": [""]}, ValueError, ("preload", "''")),
    "no name to preload": ({"preload": ["a b"]}, ValueError, ("preload", "'a b'")),
    "a relative name": ({"preload": [".sibling"]}, ValueError, ("preload", "'.sibling'")),
    "None to preload": ({"preload": None}, TypeError, ("preload", "None")),
    "standby below 0": ({"standby": -1}, ValueError, ("standby", "at least 0", "-1")),
    "half a standby": ({"standby": 0.5}, TypeError, ("standby", "0.5")),
    "a flag for standby": ({"standby": True}, TypeError, ("standby", "True")),
    "no processes": ({"max_processes": 0}, ValueError, ("max_processes", "at least 1", "0")),
    "endless processes": ({"max_processes": math.inf}, TypeError, ("max_processes", "inf")),
    "a text of processes": ({"max_processes": "2"}, TypeError, ("max_processes", "'2'")),
    "hangs at once": ({"hang_timeout": 0}, ValueError, ("hang_timeout", "more than 0")),
    "hangs before": ({"hang_timeout": -1.0}, ValueError, ("hang_timeout", "-1.0")),
    "hangs never": ({"hang_timeout": math.inf}, ValueError, ("hang_timeout", "inf")),
    "hangs nowhen": ({"hang_timeout": math.nan}, ValueError, ("hang_timeout", "nan")),
    "a text of hangs": ({"hang_timeout": "1s"}, TypeError, ("hang_timeout", "'1s'")),
    "no memory": ({"max_memory_bytes": 0}, ValueError, ("max_memory_bytes", "at least 1")),
    "memory as a float": ({"max_memory_bytes": 1e9}, TypeError, ("max_memory_bytes", "1000000000")),
    "memory as a text": ({"max_memory_bytes": "1G"}, TypeError, ("max_memory_bytes", "'1G'")),
    "memory as a flag": ({"max_memory_bytes": True}, TypeError, ("max_memory_bytes", "True")),
}


@both
@pytest.mark.parametrize(("options", "kind", "texts"), REFUSED.values(), ids=REFUSED)
def test_bad_input(
    make: Make, options: dict[str, Any], kind: type[Exception], texts: tuple[str, ...]
) -> None:
    with pytest.raises(kind) as raised:
        make(**options)
    for text in (make.__name__, *texts):
        assert text in str(raised.value)


@both
def test_what_it_does_not_know(make: Make) -> None:
    with pytest.raises(TypeError, match="threads"):
        make(threads=2)


@both
def test_memory_where_there_are_no_limits(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ValueError, match="no limits for a process's memory"):
        make(max_memory_bytes=1 << 30)  # P2


@both
def test_values(make: Make) -> None:
    options = {
        "start_method": "spawn",
        "preload": ["math", "json"],
        "standby": 2,
        "max_processes": 3,
        "hang_timeout": 4.0,
        "max_memory_bytes": 5 << 30,
    }
    one, other = make(**options), make(**{**options, "preload": (x for x in ("math", "json"))})
    assert one == other  # E1
    assert hash(one) == hash(other)
    assert copy.deepcopy(one) == pickle.loads(pickle.dumps(one)) == one
    assert one != make()
    assert one.preload == ("math", "json")
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.standby = 1
    for key, value in options.items():
        assert make(**{key: value}) != make(), key
    assert eval(repr(one), vars(av)) == one


def test_the_two_are_not_one() -> None:
    assert EXECUTORS["plain"]() != EXECUTORS["async"]()


@both
def test_what_fits(make: Make) -> None:
    declare: Any = av.Application
    executor = make()
    declare(Worker, executor=executor)  # E3: plain methods, under both
    fits: tuple[Any, ...]
    others: tuple[Any, ...]
    fits, others = (acts.just_async, AsyncWorker), (acts.just,)
    if not executor.has_loop:
        fits, others = others, fits
    for target in fits:
        declare(target, int, executor=executor)
    for target in others:
        with pytest.raises(TypeError, match="ProcessExecutor"):  # it names those that fit
            declare(target, int, executor=executor)


@pytest.mark.process
@both
@pytest.mark.parametrize("size", [1 << 62, (1 << 63) - 1, 1 << 63, 1 << 64, 1 << 80])
async def test_more_memory_than_there_is(make: Make, size: int) -> None:
    async with opened() as host:
        ref = await host.start(worker(make, max_memory_bytes=size, standby=0))
        assert await ref.ask(Worker.take, 1) == 1


@pytest.mark.process
@both
async def test_modules_that_are_not_there_are_not_missed(make: Make) -> None:
    async with opened() as host:
        ref = await host.start(worker(make, preload=["no_such_module"], standby=0))
        assert await ref.ask(Worker.take, 1) == 1
        error = await caught(host.start(worker(make, acts.crash, name="other")))
        assert type(error) is acts.Fault
