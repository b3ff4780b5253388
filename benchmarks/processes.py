"""Services in processes, against bare sockets, copies in memory, and a bare fork."""

from __future__ import annotations

import array
import contextlib
import os
import pickle
import signal
import statistics
from collections.abc import AsyncGenerator
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import trio

import actorvisor as av

from . import bare
from .lives import quiet
from .measure import MILLISECONDS, Ratio, compare

if TYPE_CHECKING:
    from actorvisor.abc import Executor

MESSAGE: Final = bytes(range(100))
LARGE: Final = 64 << 20

Processes: TypeAlias = av.ProcessExecutor | av.AsyncProcessExecutor


class Sink(av.Service):
    """Takes messages, and counts them."""

    def __init__(self) -> None:
        self.count = 0

    def plain(self, data: bytes) -> None:
        self.count += 1

    def how_many(self) -> int:
        return self.count


class AsyncSink(Sink):
    async def coroutine(self, data: bytes) -> None:
        self.count += 1


REST: Final = 0.1
"""Seconds of rest before what is timed: a standby is there again, if there is to be one.

A processor that rests takes longer for whatever comes next: so there is as much before a fork.
"""


class Echo(av.Service):
    """Answers with what it is asked."""

    def echo(self, data: bytes) -> bytes:
        return data

    def size_of(self, data: Any) -> int:
        """How large it is, in bytes; its last one is looked at."""
        view = memoryview(data).cast("B")
        return view.nbytes + view[-1]

    def pid(self) -> int:
        return os.getpid()

    def fork(self) -> float:
        """How long it takes to fork this process and to wait for the end of that."""
        begin = perf_counter()
        pid = os.fork()
        if not pid:
            os._exit(0)
        os.waitpid(pid, 0)
        return perf_counter() - begin


class Counter(av.Service):
    """Has something to compute."""

    def primes(self, first: int, last: int) -> int:
        """How many there are in a range."""
        return sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(first, last))


class Numbers(array.array):  # type: ignore[type-arg]
    """An array that pickles as those of numerical libraries do: its buffer may go beside."""

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return memoryview, (pickle.PickleBuffer(self),)


KINDS: Final[tuple[tuple[str, Processes], ...]] = (
    ("async", av.AsyncProcessExecutor(standby=0)),
    ("sync", av.ProcessExecutor(standby=0)),
)


@contextlib.asynccontextmanager
async def one(service: type[av.Service], executor: Executor) -> AsyncGenerator[Any, None]:
    """One service, under an executor."""
    async with av.open_host(max_restarts=10**9) as host:
        yield await host.start(av.Application(service, executor=executor))


async def ours_first() -> None:
    """Have the fork server started by a service, so that it has imported what those need."""
    async with one(Echo, KINDS[0][1]) as echo:
        await echo.ask(Echo.pid)


async def process_tell(quick: bool) -> list[Ratio]:
    """Messages of 100 bytes one way, against bare sockets that send them in batches."""
    count, rounds = (30_000, 3) if quick else (200_000, 7)

    async def flood(executor: Processes) -> float:
        service: type[Sink] = AsyncSink if executor.has_loop else Sink
        method: Any = AsyncSink.coroutine if executor.has_loop else Sink.plain
        async with one(service, executor) as sink:
            begin = perf_counter()
            for _ in range(count):
                await sink.tell(method, MESSAGE)
            assert await sink.ask(Sink.how_many) == count
            return (perf_counter() - begin) / count

    await ours_first()
    with quiet():
        return [
            await compare(
                f"tell to a process ({name})",
                lambda executor=executor: flood(executor),  # type: ignore[misc]
                lambda executor=executor: bare.flood(count, MESSAGE, executor.has_loop),  # type: ignore[misc]
                rounds=rounds,
                against="bare sockets with the same pickles, in batches of 64 KiB",
                at_least=0.5,
            )
            for name, executor in KINDS
        ]


async def process_ask(quick: bool) -> list[Ratio]:
    """One ask after the other, against a bare round trip: the medians of their times."""
    count, rounds = (1_000, 3) if quick else (5_000, 7)

    async def converse(executor: Processes) -> float:
        took = []
        async with one(Echo, executor) as echo:
            for _ in range(count):
                begin = perf_counter()
                assert await echo.ask(Echo.echo, MESSAGE) == MESSAGE
                took.append(perf_counter() - begin)
        return statistics.median(took)

    async def bare_trips(in_loop: bool) -> float:
        return statistics.median(await bare.round_trips(count, MESSAGE, in_loop))

    await ours_first()
    results = []
    with quiet():
        for name, executor in KINDS:
            for child, in_loop, limit in (("trio", True, 1.6), ("blocking", False, None)):
                if executor.has_loop and not in_loop:
                    continue
                result = await compare(
                    f"ask of a process ({name}), bare: {child}",
                    lambda executor=executor: converse(executor),  # type: ignore[misc]
                    lambda in_loop=in_loop: bare_trips(in_loop),  # type: ignore[misc]
                    rounds=rounds,
                    against=f"a bare round trip of the same pickles behind their length; trio here, "
                    f"{'trio' if in_loop else 'a socket that blocks'} there",
                    at_most=limit,
                )
                results.append(result)
    return results


async def process_large(quick: bool) -> list[Ratio]:
    """64 MiB in one message, against a copy of them into fresh memory."""
    rounds = 5 if quick else 15
    source = bytes(os.urandom(1 << 20)) * (LARGE >> 20)
    expected = LARGE + source[-1]

    async def fresh_copy() -> float:  # noqa: ASYNC124
        begin = perf_counter()
        copy = bytearray(source)
        took = perf_counter() - begin
        assert len(copy) == LARGE
        return took

    results = []
    with quiet():
        for kind, executor in KINDS:
            async with one(Echo, executor) as echo:

                async def send(value: Any, echo: Any = echo) -> float:
                    begin = perf_counter()
                    assert await echo.ask(Echo.size_of, value) == expected
                    return perf_counter() - begin

                for name, value, limit in (
                    ("memoryview", memoryview(source), 0.85),
                    ("array", Numbers("d", source), 0.85),
                    ("bytes", source, 0.4),
                ):
                    result = await compare(
                        f"64 MiB to a process ({kind}), as {name}",
                        lambda send=send, value=value: send(value),  # type: ignore[misc]
                        fresh_copy,
                        rounds=rounds,
                        against="a copy of them in memory, to fresh pages",
                        at_least=limit,
                        unit=MILLISECONDS,
                    )
                    results.append(result)
    return results


async def process_restart(quick: bool) -> list[Ratio]:
    """From a SIGKILL to the reply of the first message after it, against a bare fork."""
    count, rounds = (5, 2) if quick else (20, 5)

    async def kill_one(executor: Processes, kills: int) -> float:
        took = []
        async with one(Echo, executor) as echo:
            for _ in range(kills):
                pid = await echo.ask(Echo.pid)
                await trio.sleep(REST)
                begin = perf_counter()
                os.kill(pid, signal.SIGKILL)
                assert await echo.ask(Echo.pid) != pid
                took.append(perf_counter() - begin)
        return statistics.median(took)

    async def bare_forks() -> float:
        async with one(Echo, av.ProcessExecutor(standby=0)) as echo:
            took: list[float] = []
            for _ in range(count):
                await trio.sleep(REST)
                took.append(await echo.ask(Echo.fork))
            return statistics.median(took)

    async def stated() -> float:  # noqa: ASYNC124
        return 0.005

    results = []
    with quiet():
        await ours_first()
        for kind, make in (("async", av.AsyncProcessExecutor), ("sync", av.ProcessExecutor)):
            for what, executor, floor, limit, kills in (
                ("standby", make(), stated, 1.0, count),
                ("fork server", make(standby=0), bare_forks, 5.0, count),
                ("spawn", make(standby=0, start_method="spawn"), bare_forks, None, 3),
            ):
                result = await compare(
                    f"kill to first message ({kind}), {what}",
                    lambda executor=executor, kills=kills: kill_one(executor, kills),  # type: ignore[misc]
                    floor,
                    rounds=rounds,
                    against="5 ms"
                    if floor is stated
                    else "a fork of a process like it, and its end",
                    at_most=limit,
                    unit=MILLISECONDS,
                )
                results.append(result)
    return results


async def process_pool(quick: bool) -> list[Ratio]:
    """Work for the processor in two process services, against the same in a thread."""
    last, rounds = (100_000, 3) if quick else (300_000, 7)
    step = last // 40
    ranges = [(first, first + step) for first in range(2, last, step)]

    async def work(workers: av.Application[Counter] | av.Pool[Counter]) -> float:
        async with av.open_host() as host:
            counter = await host.start(workers)

            async def take(first: int, last: int) -> None:
                await counter.ask(Counter.primes, first, last)

            begin = perf_counter()
            async with trio.open_nursery() as nursery:
                for first, last in ranges:
                    nursery.start_soon(take, first, last)
            return perf_counter() - begin

    await ours_first()
    with quiet():
        return [
            await compare(
                "work of a pool of 2 processes",
                lambda: work(
                    av.Pool(av.Application(Counter, executor=av.ProcessExecutor(standby=0)), size=2)
                ),
                lambda: work(av.Application(Counter, executor=av.ThreadExecutor())),
                rounds=rounds,
                against="the same work of one service in a thread",
                at_most=0.6,
                unit=MILLISECONDS,
            )
        ]
