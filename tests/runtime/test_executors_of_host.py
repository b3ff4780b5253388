"""What carries out in an executor's stead is a value given to the host (T7)."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import trio

import actorvisor as av
from actorvisor.abc import Executor, Life, Place


class Echo(av.Service):
    def echo(self, text: str) -> str:
        return text


begun: list[str] = []


@dataclass(frozen=True)
class Noting(Executor):
    """Another executor, which notes what it begins."""

    executor: Executor
    has_loop: ClassVar[bool] = True
    has_thread: ClassVar[bool] = False

    @asynccontextmanager
    async def open(self, nursery: trio.Nursery) -> AsyncGenerator[Place, None]:
        async with self.executor.open(nursery) as place:
            yield _NotingPlace(place)


class _NotingPlace(Place):
    def __init__(self, place: Place) -> None:
        self._place = place

    def begin(self, incarnation: Any) -> Life:
        begun.append(f"{incarnation.path} {incarnation.number}")
        return self._place.begin(incarnation)


async def test_static_children_run_time_children_and_members_of_pools() -> None:
    # T7
    begun.clear()
    asked: list[Executor] = []

    def substitute(executor: Executor) -> Executor:
        asked.append(executor)
        return Noting(executor)

    tree: list[Any] = [
        av.Supervisor([av.Application(Echo, name="a")], name="s"),
        av.Pool(av.Application(Echo), size=2, name="p"),
    ]
    async with av.open_host(tree, executors=substitute) as host:
        await host.start(av.Application(Echo, name="b"))
        await host.find("s", av.Supervisor).start(av.Application(Echo, name="c"))
        assert await host.find("s/c", Echo).ask(Echo.echo, "here") == "here"
        await host.find("b", Echo).restart()
    assert begun == [
        "host/s/a 1", "host/p/0 1", "host/p/1 1", "host/b 1", "host/s/c 1", "host/b 2",
    ]  # fmt: skip
    assert asked == [av.AsyncExecutor()]  # once for each value


@pytest.mark.parametrize(
    ("gives", "what"), [(None, "must give an Executor's value"), (av.ThreadExecutor(), "the same")]
)
async def test_what_is_no_substitute_is_a_clear_error(gives: Any, what: str) -> None:
    # T7
    with trio.fail_after(5):
        with pytest.raises(TypeError, match=what):
            async with av.open_host([av.Application(Echo)], executors=lambda _: gives):
                raise AssertionError("it began")  # pragma: no cover
        async with av.open_host(executors=lambda _: gives) as host:
            with pytest.raises(TypeError, match=what):
                await host.start(av.Application(Echo))
            with pytest.raises(TypeError, match=what):
                await host.start(av.Pool(av.Application(Echo), size=2))


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(TypeError, match="executors= must be a function"):
        av.open_host(executors=5)  # type: ignore[arg-type]
