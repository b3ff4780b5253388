"""What the cases of the reports are played with: under each executor that fits, in its own time.

Coroutines have a virtual clock, which nothing but their own waits moves. Threads are real: they
have real time, and a deadline.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import actorvisor as av
from tests.runtime.account import check_account
from tests.runtime.paths import check_paths

COROUTINES = av.AsyncExecutor()
THREADS = av.ThreadExecutor()
Place: TypeAlias = av.AsyncExecutor | av.ThreadExecutor
Play: TypeAlias = Callable[..., Coroutine[Any, Any, None]]


class Fault(Exception):
    """What crashes on purpose."""


def in_its_time(play: Play) -> Callable[..., None]:
    """A test whose first argument is an executor, in the time that is right for that."""

    @functools.wraps(play)
    def test(place: Place, **kwargs: Any) -> None:
        clock = MockClock(autojump_threshold=0) if place.has_loop else None
        trio.run(functools.partial(play, place, **kwargs), clock=clock)

    return test


def under_each_executor(play: Play) -> Callable[..., None]:
    """A test that is run under each executor, which is its first argument."""
    places = pytest.mark.parametrize("place", [COROUTINES, THREADS], ids=["coroutine", "thread"])
    marked: Callable[..., None] = places(in_its_time(play))
    return marked


def is_virtual() -> bool:
    return isinstance(trio.lowlevel.current_clock(), MockClock)


async def until(true: Callable[[], object]) -> None:
    with trio.fail_after(20):
        while not true():  # noqa: ASYNC110
            await trio.sleep(0.001)


def service_threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("host/")]


class Told(list[av.Notification]):
    """What a host told."""

    def of(self, path: str) -> list[av.Notification]:
        """What it told of one actor, dead letters left out."""
        return [one for one in self if one.path == path and not isinstance(one, av.DeadLetter)]

    def kinds(self, path: str) -> list[type[av.Notification]]:
        return [type(one) for one in self.of(path)]

    def ends(self, path: str) -> list[av.ExitReason]:
        return [one.reason for one in self.of(path) if isinstance(one, av.Ended)]

    def exits(self, path: str) -> list[av.ExitReason]:
        return [one.reason for one in self.of(path) if isinstance(one, av.Exited)]

    @property
    def dead_letters(self) -> list[av.DeadLetter]:
        return [one for one in self if isinstance(one, av.DeadLetter)]


@asynccontextmanager
async def opened(*children: Any, **options: Any) -> AsyncGenerator[av.Host, None]:
    """A host with a deadline; at its end the account is right, and no thread is left."""
    async with opened_and_heard(*children, **options) as (host, _):
        yield host


@asynccontextmanager
async def opened_and_heard(
    *children: Any, **options: Any
) -> AsyncGenerator[tuple[av.Host, Told], None]:
    """The same, and what it tells."""
    told = Told()

    async def listen(events: av.Events) -> None:
        async for one in events:
            told.append(one)

    with trio.fail_after(100_000 if is_virtual() else 20):
        async with trio.open_nursery() as nursery:
            async with av.open_host(children, **options) as host:
                nursery.start_soon(listen, host.events())  # noqa: ASYNC111
                yield host, told
        check_account(host)  # M7
        if not any(isinstance(one, av.Missed) for one in told):
            check_paths(told, late=True)  # O4
        await until(lambda: not service_threads())  # H1


class Gate:
    """Where a service waits until it is let through, in its thread or on the loop."""

    def __init__(self, place: Place, *, shield: bool = False) -> None:
        self._on_loop = place.has_loop
        self._shield = shield
        self._token = trio.lowlevel.current_trio_token()
        self._walkers = trio.Event()
        self._threads = threading.Event()
        self.reached = trio.Event()
        """Somebody stands at it."""

    def pass_through(self) -> Any:
        """Wait; a handler gives back what this does."""
        if self._on_loop:
            return self._walk()
        self._token.run_sync_soon(self.reached.set)
        assert self._threads.wait(20)
        return None

    async def _walk(self) -> None:
        self.reached.set()
        # A test that fails leaves it closed: even then its host shall end.
        with trio.CancelScope(shield=self._shield), trio.fail_after(10_000):
            await self._walkers.wait()

    def open(self) -> None:
        self._walkers.set()
        self._threads.set()

    @property
    def is_open(self) -> bool:
        return self._threads.is_set()


def then(first: Any, do: Callable[[], Any]) -> Any:
    """Do something after what a gate gave back, whichever way that is waited for."""
    if not isinstance(first, Coroutine):
        return do()

    async def both() -> Any:
        await first
        return do()

    return both()


class Worker(av.Service):
    """Does what it is told to do."""

    def do(self, work: Callable[[Any], Any]) -> Any:
        return work(self)

    def crash(self) -> None:
        raise Fault("crash")

    def end(self) -> None:
        self.stop()

    def life(self) -> int:
        return self.ref.incarnation


def app(target: Any, *args: Any, **options: Any) -> Any:
    """A declaration whose arguments are checked when it is made, not before."""
    return av.Application(target, *args, **options)


def call(place: Place, function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    """Call something of the host's loop from inside; a handler gives back what this does."""
    return function(*args) if place.has_loop else trio.from_thread.run(function, *args)


def error_of(function: Callable[..., Awaitable[Any]], log: list[Any]) -> Callable[..., Any]:
    """The same function; what it returns or raises is noted."""

    async def noted(*args: Any, **kwargs: Any) -> None:
        try:
            log.append(await function(*args, **kwargs))
        except Exception as error:
            log.append(error)

    return noted


async def settled() -> None:
    """Everybody on the loop waits."""
    await wait_all_tasks_blocked()
