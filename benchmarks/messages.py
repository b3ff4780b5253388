"""`tell` and `ask`, against a trio channel and against two bare reschedules."""

from __future__ import annotations

from time import perf_counter

import outcome
import trio
import trio.testing

import actorvisor as av

from .measure import Ratio, compare


class Sink(av.Service):
    """Takes messages, and says when the last one came."""

    def __init__(self, count: int, done: trio.Event) -> None:
        self.left = count
        self.done = done

    def plain(self, number: int) -> None:
        self.left -= 1
        if not self.left:
            self.done.set()

    async def coroutine(self, number: int) -> None:
        self.left -= 1
        if not self.left:
            self.done.set()


class Adder(av.Service):
    def plain(self, number: int) -> int:
        return number + 1

    async def coroutine(self, number: int) -> int:
        return number + 1


async def channel_with_async_for(count: int) -> float:
    """The floor of `tell`: one task sends, one takes with a plain `async for`."""
    send, receive = trio.open_memory_channel[int](1000)

    async def consume() -> None:
        left = count
        async for _ in receive:
            left -= 1
            if not left:
                return

    begin = perf_counter()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(consume)
        for number in range(count):
            await send.send(number)
    return (perf_counter() - begin) / count


async def two_reschedules(count: int) -> float:
    """The floor of `ask`: a task wakes another one, which wakes it again; nothing else."""
    tasks: list[trio.lowlevel.Task] = []

    def abort(_: object) -> trio.lowlevel.Abort:
        return trio.lowlevel.Abort.SUCCEEDED

    async def answer() -> None:
        tasks.append(trio.lowlevel.current_task())
        while True:
            asker = await trio.lowlevel.wait_task_rescheduled(abort)
            trio.lowlevel.reschedule(asker)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        await trio.testing.wait_all_tasks_blocked()
        me, other = trio.lowlevel.current_task(), tasks[0]
        begin = perf_counter()
        for _ in range(count):
            trio.lowlevel.reschedule(other, outcome.Value(me))
            await trio.lowlevel.wait_task_rescheduled(abort)
        took = perf_counter() - begin
        nursery.cancel_scope.cancel()
    return took / count


async def flood(count: int, method: str) -> float:
    """So many messages by `tell`; what each took."""
    done = trio.Event()
    async with av.open_host() as host:
        sink = await host.start(av.Application(Sink, count, done))
        handler = getattr(Sink, method)
        begin = perf_counter()
        for number in range(count):
            await sink.tell(handler, number)
        await done.wait()
        took = perf_counter() - begin
    return took / count


async def tell(quick: bool) -> list[Ratio]:
    """`tell`: one sender floods one service, against a channel with a buffer of 1,000."""
    count, rounds = (20_000, 3) if quick else (100_000, 7)

    against = "a plain `async for` over a trio memory channel with a buffer of 1,000"
    return [
        await compare(
            f"tell ({what})",
            lambda method=method: flood(count, method),  # type: ignore[misc]
            lambda: channel_with_async_for(count),
            rounds=rounds,
            against=against,
            at_least=3,
        )
        for method, what in (("coroutine", "async handler"), ("plain", "plain handler"))
    ]


async def converse(count: int, method: str) -> float:
    """So many messages by `ask`, one after the other; what each took."""
    async with av.open_host() as host:
        adder = await host.start(av.Application(Adder))
        handler = getattr(Adder, method)
        begin = perf_counter()
        for number in range(count):
            await adder.ask(handler, number)
        took = perf_counter() - begin
    return took / count


async def ask(quick: bool) -> list[Ratio]:
    """`ask`: one message there and its answer back, against two bare one-shot reschedules."""
    count, rounds = (3_000, 3) if quick else (20_000, 7)

    return [
        await compare(
            f"ask ({what})",
            lambda method=method: converse(count, method),  # type: ignore[misc]
            lambda: two_reschedules(count),
            rounds=rounds,
            against="two bare one-shot reschedules",
            at_most=2,
        )
        for method, what in (("coroutine", "async handler"), ("plain", "plain handler"))
    ]
