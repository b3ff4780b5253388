# pyright: strict
"""What must be accepted, and what is inferred from it. Only checked, never run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, assert_type

import actorvisor as av

from .samples import Adder, Counter, Log, LoudCounter, crunch, nothing, poll


def declarations() -> None:
    assert_type(av.Application(Counter), av.Application[Counter])
    assert_type(av.Application(Counter, 10), av.Application[Counter])
    assert_type(av.Application(Log, "a", 3, name="log"), av.Application[Log])
    assert_type(
        av.Application(
            Log,
            "a",
            3,
            name="log",
            executor=av.ThreadExecutor(),
            restart="transient",
            backoff=av.Exponential(),
            reset_after=3,
            mailbox=10,
            overflow="drop_oldest",
            redeliver=2,
            grace=1.5,
            start_timeout=3,
            significant=True,
            on_crash={ValueError: "stop", KeyError: "escalate", OSError: "restart"},
        ),
        av.Application[Log],
    )
    av.Supervisor([av.Application(Counter), av.Supervisor([av.Application(Log, "a", 1)])])
    av.Supervisor(
        (),
        strategy="rest_for_one",
        max_restarts=0,
        within=1,
        on_limit="end",
        auto_shutdown="all",
        start="in_order",
        name="x",
    )


def by_user(user: str, *_: object, **__: object) -> str:
    return user


async def pools(host: av.Host, tree: av.SupervisorRef) -> None:
    assert_type(av.Pool(av.Application(Counter), size=2), av.Pool[Counter])
    pool = av.Pool(
        av.Application(Log, "a", 3),
        size=4,
        key=by_user,
        max_restarts=1,
        within=2,
        name="logs",
        restart="transient",
        backoff=av.Fixed(1),
        reset_after=3,
        significant=True,
    )
    assert_type(pool, av.Pool[Log])
    av.Pool(av.Application(Counter), size=2, key=str)
    assert_type(await host.start(pool), av.Ref[Log])
    assert_type(await tree.start(pool), av.Ref[Log])
    av.Supervisor([pool, av.Application(Counter), av.Supervisor([pool])])
    av.open_host([pool, av.Application(Counter)])
    av.run([pool])
    wider: av.Pool[Counter] = av.Pool(av.Application(LoudCounter), size=1)
    ref: av.Ref[Counter] = await host.start(wider)
    assert_type(ref.path, str)
    pooled: list[av.Pool[av.Service]] = [av.Pool(av.Application(LoudCounter), size=1)]
    av.Supervisor(pooled)


def functions_are_applications() -> None:
    assert_type(av.Application(poll, "url", 1.0), av.Application[av.FunctionService])
    assert_type(
        av.Application(crunch, 3, executor=av.ThreadExecutor()),
        av.Application[av.FunctionService],
    )
    assert_type(
        av.Application(nothing, executor=av.ThreadExecutor()), av.Application[av.FunctionService]
    )


async def asking(ref: av.Ref[Counter], loud: av.Ref[LoudCounter]) -> None:
    assert_type(await ref.ask(Counter.add, 1), int)
    assert_type(await ref.ask(Counter.add, amount=1), int)
    assert_type(await ref.ask(Counter.read), str)
    assert_type(await ref.ask(Counter.reset, 3, quietly=True), None)
    assert_type(await ref.ask(Counter.pair, 1, second="a"), tuple[int, str])
    # Only what an async handler's coroutine returns is awaited for the asker.
    assert_type(await ref.ask(Counter.promise), Awaitable[int])  # type: ignore[unused-awaitable]
    # Of a subclass: its own methods, and what it inherits, by either name.
    assert_type(await loud.ask(LoudCounter.shout), bytes)
    assert_type(await loud.ask(Counter.add, 1), int)
    assert_type(await loud.ask(LoudCounter.add, 1), int)


async def telling(ref: av.Ref[Counter], log: av.Ref[Log]) -> None:
    assert_type(await ref.tell(Counter.add, 1), None)
    await ref.tell(Counter.add, amount=1)
    await ref.tell(Counter.reset)
    await ref.tell(Counter.reset, quietly=True)
    assert_type(ref.tell_nowait(Counter.pair, 1, "a"), None)
    assert_type(await log.send({"any": "object"}), None)


async def asking_if_running(ref: av.Ref[Counter]) -> None:
    assert_type(await ref.if_running.ask(Counter.add, 1), int)
    assert_type(await ref.if_running.ask(Counter.read), str)
    assert_type(await ref.if_running.tell(Counter.add, amount=1), None)


def asking_from_a_thread(ref: av.Ref[Counter]) -> None:
    assert_type(ref.blocking.ask(Counter.add, 1), int)
    assert_type(ref.blocking.ask(Counter.read), str)
    assert_type(ref.blocking.tell(Counter.reset, 1, quietly=True), None)
    assert_type(ref.blocking.send(1), None)


def covariance(loud: av.Ref[LoudCounter]) -> None:
    wider: av.Ref[Counter] = loud
    any_service: av.Ref[av.Service] = wider
    anything: av.Ref[Any] = any_service
    applications: list[av.Application[av.Service]] = [av.Application(Counter)]
    av.Supervisor(applications)
    assert_type(anything.path, str)


async def protocols(loud: av.Ref[LoudCounter]) -> None:
    adder: av.Ref[Adder] = loud
    assert_type(await adder.ask(Adder.add, 1), int)
    await adder.tell(Adder.add, 1)
    assert_type(adder.blocking.ask(Adder.add, 1), int)


async def hosting() -> None:
    async with av.open_host([av.Application(Counter)], max_restarts=1) as host:
        assert_type(host, av.Host)
        assert_type(await host.start(av.Application(Counter, 10)), av.Ref[Counter])
        assert_type(await host.start(av.Application(poll, "u", 1.0)), av.Ref[av.FunctionService])
        assert_type(await host.start(av.Supervisor([])), av.SupervisorRef)
        assert_type(host.find("counter", Counter), av.Ref[Counter])
        assert_type(host.find("ingest", av.Supervisor), av.SupervisorRef)
        assert_type(host.children(), tuple[av.Ref[Any] | av.SupervisorRef, ...])
        assert_type(host.tree(), av.TreeNode)
        assert_type(host.statistics(), av.HostStatistics)
        async for event in host.events():
            assert_type(event, av.Notification)


async def controlling(ref: av.Ref[Counter], tree: av.SupervisorRef) -> None:
    assert_type(await ref.stop(drain=1, grace=2.0), av.ExitReason)
    assert_type(await ref.stop(grace=None), av.ExitReason)
    assert_type(await ref.remove(), av.ExitReason)
    assert_type(await ref.stopped(), av.ExitReason)
    assert_type(await ref.restart(), None)
    assert_type(await ref.start(), None)
    assert_type(ref.state, str)
    assert_type(ref.incarnation, int)
    assert_type(await tree.start(av.Application(Counter, 10)), av.Ref[Counter])
    assert_type(await tree.start(av.Supervisor([])), av.SupervisorRef)
    assert_type(await tree.start(), None)
    assert_type(await tree.stop(), av.ExitReason)
    assert_type(tree.children(), tuple[av.Ref[Any] | av.SupervisorRef, ...])


class Inside(av.Service):
    """What a service sees of itself."""

    async def setup(self) -> None:
        mine: av.Ref[Inside] = self.ref
        assert_type(await mine.ask(Inside.tick, 1), int)
        assert_type(self.find("../counter", Counter), av.Ref[Counter])
        assert_type(self.find("..", av.Supervisor), av.SupervisorRef)
        assert_type(self.after(1.0, self.tick, 3), av.Timer)
        assert_type(self.every(1, Inside.tick, 3), av.Timer)
        assert_type(self.after(1.0, self.tick, 3).cancel(), None)
        assert_type(self.stopping, bool)
        self.start_soon(poll, "url", 1.0)
        self.monitor(self.find("..", av.Supervisor))

    def tick(self, number: int) -> int:
        assert_type(self.reply_later(), av.LaterReply)
        return number

    async def teardown(self, reason: av.ExitReason) -> None:
        match reason:
            case av.Crashed(exception=error):
                assert_type(error, BaseException)
            case av.Completed(value=value):
                assert_type(value, object)
            case _:
                pass

    async def run(self) -> str:
        async for message in self.mailbox:
            self.ref.tell_nowait(Inside.tick, message)
        return "done"


async def supervised_nursery(work: Callable[[str, int], Awaitable[None]]) -> int:
    async with av.open_supervised_nursery(restart="permanent", backoff=av.Fixed(1)) as nursery:
        assert_type(nursery, av.SupervisedNursery)
        nursery.start_soon(work, "a", 1)
        assert_type(await nursery.start(work, "a"), Any)
        return 1  # nothing is missing after the block: as trio's, it swallows no exception
