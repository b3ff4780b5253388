"""A service that does as it is told, and a host whose notifications are kept."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import actorvisor as av
from tests.runtime.paths import check_paths


class Fault(Exception):
    """What crashes on purpose."""


class Player(av.Service):
    """Takes its time to come and to go, and ends as it is told to."""

    def __init__(
        self,
        setup: float = 0,
        teardown: float = 0,
        fails: tuple[int, ...] = (),
        told: list[object] | None = None,
    ) -> None:
        self.times = setup, teardown
        self.fails = fails
        self.told = [] if told is None else told

    async def setup(self) -> None:
        await trio.sleep(self.times[0])
        if self.ref.incarnation in self.fails:
            raise Fault(f"setup {self.ref.incarnation}")

    async def teardown(self, reason: av.ExitReason) -> None:
        await trio.sleep(self.times[1])

    async def work(self, seconds: float) -> int:
        await trio.sleep(seconds)
        return self.ref.incarnation

    def note(self, value: object) -> int:
        self.told.append(value)
        return self.ref.incarnation

    def crash(self) -> None:
        raise Fault("crash")

    def exit(self) -> None:
        raise SystemExit(0)

    def end(self) -> None:
        self.stop()

    def run_on(self) -> None:
        self.times = 0, 60

    def trip(self) -> None:
        self.teardown = self.crash  # type: ignore[assignment, method-assign]
        self.stop()


def player(name: str, *args: Any, **options: Any) -> av.Application[Player]:
    return av.Application(Player, *args, name=name, **options)


Told: TypeAlias = tuple[str, str, float]
"""A notification, short: what, of whom, and when."""


def short(notification: av.Notification) -> Told:
    name = notification.path.removeprefix("host/")
    return type(notification).__name__, name, notification.time


class Record:
    """What a host told."""

    def __init__(self) -> None:
        self.all: list[av.Notification] = []
        self._seen = 0

    async def listen(self, events: av.Events) -> None:
        async for one in events:
            self.all.append(one)

    async def since(self) -> list[Told]:
        """What was told since the last look, dead letters left out."""
        await wait_all_tasks_blocked()
        check_paths(self.all, late=True)  # O1, O4
        new, self._seen = self.all[self._seen :], len(self.all)
        return [short(one) for one in new if not isinstance(one, av.DeadLetter)]


@asynccontextmanager
async def recorded_host(**options: Any) -> AsyncGenerator[tuple[av.Host, Record], None]:
    record = Record()
    async with trio.open_nursery() as nursery:
        async with av.open_host(**options) as host:
            nursery.start_soon(record.listen, host.events())  # noqa: ASYNC111
            yield host, record


def in_virtual_time(function: Callable[..., Awaitable[None]], *args: Any) -> None:
    trio.run(function, *args, clock=MockClock(autojump_threshold=0))
