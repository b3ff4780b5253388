"""Starting services and restarting them, against bare tasks of trio."""

from __future__ import annotations

import contextlib
import gc
import logging
import math
import tracemalloc
from collections.abc import AsyncGenerator, Generator
from time import perf_counter

import trio

import actorvisor as av

from .measure import KIBIBYTES, Ratio, compare


class Idle(av.Service):
    """Does nothing unless it is asked to."""

    def echo(self, number: int) -> int:
        return number


async def task_with_channel(  # noqa: ASYNC114
    task_status: trio.TaskStatus[trio.MemorySendChannel[tuple[int, trio.Event]]],
) -> None:
    """What a service is made of: a task that takes from a channel of its own."""
    send, receive = trio.open_memory_channel[tuple[int, trio.Event]](math.inf)
    task_status.started(send)
    async for _, answered in receive:
        answered.set()


@contextlib.contextmanager
def quiet() -> Generator[None, None, None]:
    """With the loggers off."""
    logger = logging.getLogger("actorvisor")
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = False


@contextlib.asynccontextmanager
async def services(count: int) -> AsyncGenerator[list[av.Ref[Idle]], None]:
    """That many services, each started by a call of its own."""
    async with av.open_host() as host:
        yield [
            await host.start(av.Application(Idle, name=f"idle-{number}")) for number in range(count)
        ]


@contextlib.asynccontextmanager
async def bare_tasks(
    count: int,
) -> AsyncGenerator[list[trio.MemorySendChannel[tuple[int, trio.Event]]], None]:
    """That many tasks, each started by a call of its own."""
    async with trio.open_nursery() as nursery:
        yield [await nursery.start(task_with_channel) for _ in range(count)]
        nursery.cancel_scope.cancel()


async def time_services(count: int) -> float:
    """So many services, each started by a call of its own; what each took."""
    begin = perf_counter()
    async with services(count):
        return (perf_counter() - begin) / count


async def start(quick: bool) -> list[Ratio]:
    """10,000 idle services, each `await host.start(...)`-ed, against as many bare tasks."""
    count, rounds = (1_000, 3) if quick else (10_000, 5)

    async def time_tasks() -> float:
        begin = perf_counter()
        async with bare_tasks(count):
            return (perf_counter() - begin) / count

    @contextlib.contextmanager
    def memory(sizes: list[int]) -> Generator[None, None, None]:
        gc.collect()
        tracemalloc.start()
        try:
            yield
        finally:
            tracemalloc.stop()

    async def memory_of_services() -> float:
        with memory([]):
            async with services(count):
                gc.collect()
                return tracemalloc.get_traced_memory()[0] / count

    async def memory_of_tasks() -> float:
        with memory([]):
            async with bare_tasks(count):
                gc.collect()
                return tracemalloc.get_traced_memory()[0] / count

    against = "`await nursery.start(...)` of a task with a channel of its own"
    with quiet():
        return [
            await compare(
                f"start, time ({count:,} services)",
                lambda: time_services(count),
                time_tasks,
                rounds=rounds,
                against=against,
                at_most=2,
            ),
            await compare(
                f"start, memory ({count:,} services)",
                memory_of_services,
                memory_of_tasks,
                rounds=1,
                against=against,
                at_most=2,
                unit=KIBIBYTES,
            ),
        ]


class Fragile(av.Service):
    """Says when it is up, and crashes when it is told to."""

    def __init__(self, ups: trio.MemorySendChannel[None]) -> None:
        self.ups = ups

    def setup(self) -> None:
        self.ups.send_nowait(None)

    def crash(self) -> None:
        raise ConnectionError


async def restart(quick: bool) -> list[Ratio]:
    """From a crash to the next life's start, against a bare loop around a nursery."""
    count, rounds = (500, 3) if quick else (5_000, 7)

    async def crash_services() -> float:
        ups, up = trio.open_memory_channel[None](math.inf)
        async with av.open_host(max_restarts=10**9) as host:
            fragile = await host.start(av.Application(Fragile, ups))
            await up.receive()
            begin = perf_counter()
            for _ in range(count):
                await fragile.tell(Fragile.crash)
                await up.receive()
            took = perf_counter() - begin
        return took / count

    async def crash_tasks() -> float:
        ups, up = trio.open_memory_channel[None](math.inf)
        orders, order = trio.open_memory_channel[None](math.inf)

        async def fragile() -> None:
            ups.send_nowait(None)
            async for _ in order:
                raise ConnectionError

        async def supervise() -> None:
            while True:
                try:
                    async with trio.open_nursery() as nursery:  # noqa: ASYNC112 - it is the floor
                        nursery.start_soon(fragile)
                except* ConnectionError:
                    pass

        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervise)
            await up.receive()
            begin = perf_counter()
            for _ in range(count):
                orders.send_nowait(None)
                await up.receive()
            took = perf_counter() - begin
            nursery.cancel_scope.cancel()
        return took / count

    with quiet():
        return [
            await compare(
                "crash to restarted (Immediate, loggers off)",
                crash_services,
                crash_tasks,
                rounds=rounds,
                against="a loop that opens a nursery, catches and starts again",
                at_most=2,
            )
        ]
