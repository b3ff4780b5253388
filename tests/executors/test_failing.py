"""An executor that fails itself, and what becomes of what it carried (E1)."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import actorvisor as av
from actorvisor.abc import Life, Place
from tests.runtime.account import check_account

Where = Literal["task", "life", "begin", "open"]


class Broken(Exception):
    """What an executor fails with."""


@dataclass
class Breaker:
    """Makes executors fail.

    Attributes:
        nurseries: those of the executors that stand.
        where: what fails next, once; None: nothing.
    """

    nurseries: list[trio.Nursery] = field(default_factory=list)
    where: Where | None = None

    def fail(self) -> None:
        """A task of the executor's own crashes."""

        async def crash() -> None:
            await trio.lowlevel.checkpoint()
            raise Broken("task")

        self.nurseries[-1].start_soon(crash)

    def check(self, where: Where) -> None:
        if self.where == where:
            self.where = None
            raise Broken(where)


@dataclass(frozen=True)
class Failing(av.Executor):
    """As the executor that it is given, until it fails."""

    executor: av.Executor
    breaker: Breaker = field(default_factory=Breaker, compare=False)
    has_loop: Any = field(init=False, compare=False)  # type: ignore[misc]
    has_thread: Any = field(init=False, compare=False)  # type: ignore[misc]

    def __post_init__(self) -> None:
        object.__setattr__(self, "has_loop", self.executor.has_loop)
        object.__setattr__(self, "has_thread", self.executor.has_thread)

    def __repr__(self) -> str:
        return f"Failing({self.executor!r})"

    @asynccontextmanager
    async def open(self, nursery: trio.Nursery) -> AsyncGenerator[Place, None]:
        self.breaker.check("open")
        self.breaker.nurseries.append(nursery)
        async with self.executor.open(nursery) as place:
            yield FailingPlace(place, self.breaker)


class FailingPlace(Place):
    def __init__(self, place: Place, breaker: Breaker) -> None:
        self.place = place
        self.breaker = breaker

    def begin(self, incarnation: Any) -> Life:
        self.breaker.check("begin")
        return FailingLife(self.place.begin(incarnation), self.breaker)


class FailingLife(Life):
    def __init__(self, life: Life, breaker: Breaker) -> None:
        self.life = life
        self.breaker = breaker

    @property
    def incarnation(self) -> Any:
        return self.life.incarnation

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        self.breaker.check("life")
        await self.life.run()

    def stop_life(self, final: bool, grace: float) -> None:
        self.life.stop_life(final, grace)

    def lost(self, reason: av.ExitReason) -> None:
        self.life.lost(reason)


class Carried(av.Service):
    """Something that an executor carries; it fits every one."""

    def __init__(self, name: str, seen: list[str]) -> None:
        self.name = name
        self.seen = seen

    def setup(self) -> None:
        self.seen.append(f"setup {self.name}")

    def note(self, value: str) -> str:
        self.seen.append(value)
        return value

    def later(self) -> str:
        self.reply_later()
        self.after(5, self.note, "timer of a life that is gone")
        return ""


class Slow(Carried):
    async def hold(self) -> None:
        await trio.sleep_forever()


def tree(
    executor: av.Executor, seen: list[str], strategy: Any, kind: Any = Slow, **options: Any
) -> av.Supervisor:
    return av.Supervisor(
        [
            av.Application(kind, "a", seen, name="a", executor=executor, **options),
            av.Application(Carried, "other", seen, name="other"),
            av.Application(kind, "b", seen, name="b", executor=executor, **options),
        ],
        name="tree",
        strategy=strategy,
        max_restarts=1,
        within=1000,
    )


@asynccontextmanager
async def opened(*children: Any) -> AsyncGenerator[av.Host, None]:
    with trio.fail_after(100_000):
        async with av.open_host(children, max_restarts=0) as host:
            yield host
        mail = check_account(host)
        assert mail.waiting == mail.in_hand == 0


@pytest.mark.parametrize(
    ("strategy", "restarted"),
    [
        ("one_for_one", ["a", "b"]),
        ("one_for_all", ["a", "other", "b"]),
        ("rest_for_one", ["a", "other", "b"]),
    ],
)
async def test_all_that_it_carried_ends_and_that_is_one_decision(
    strategy: str, restarted: list[str], autojump_clock: MockClock
) -> None:
    # E1: ended as Crashed(ExecutorFailed); one restart decision (max_restarts=1 bears it).
    executor, seen = Failing(av.AsyncExecutor()), list[str]()
    async with opened(tree(executor, seen, strategy)) as host:
        a, b = host.find("tree/a", Slow), host.find("tree/b", Slow)
        other = host.find("tree/other", Carried)
        await b.tell(Slow.hold)
        await b.tell(Slow.note, "kept")
        await wait_all_tasks_blocked()
        seen.clear()
        with host.events() as events:
            executor.breaker.fail()
            await trio.sleep(1)
        exits = [one async for one in events if isinstance(one, av.Exited)]
        crashes = [one for one in exits if isinstance(one.reason, av.Crashed)]
        assert {one.path for one in crashes} == {"host/tree/a", "host/tree/b"}
        for one in crashes:
            assert isinstance(one.reason, av.Crashed)
            assert isinstance(one.reason.exception, av.ExecutorFailed)
            assert isinstance(one.reason.exception.__cause__, Broken)
            assert one.reason.exception.executor == "Failing(AsyncExecutor())"
        # M4, M5: what waited is handled by the next life, what was in hand is a dead letter.
        again = [*(f"setup {name}" for name in restarted), "kept"]
        # one_for_one starts them at once, in trio's order.
        assert seen == again or (strategy == "one_for_one" and sorted(seen) == sorted(again))
        assert [ref.state for ref in (a, other, b)] == ["running"] * 3
        assert (a.incarnation, b.incarnation) == (2, 2)
        assert host.statistics().mailboxes["host/tree/b"].dead_letters == 1
        assert len(executor.breaker.nurseries) == 2  # a new one stands, one for both
        assert await a.ask(Slow.note, "a") == "a"


async def test_the_second_time_is_the_second_decision(autojump_clock: MockClock) -> None:
    # E1, S3: it counts, once.
    executor = Failing(av.AsyncExecutor())
    app = tree(executor, [], "one_for_one")
    supervisor = av.Supervisor([app], name="top", on_limit="drop", max_restarts=0)
    async with opened(supervisor) as host:
        ref = host.find("top/tree", av.Supervisor)
        executor.breaker.fail()
        await trio.sleep(1)
        assert ref.state == "running"
        executor.breaker.fail()
        reason = await ref.stopped()
        assert isinstance(reason, av.GaveUp)
        assert isinstance(reason.last, av.Crashed)
        assert isinstance(reason.last.exception, av.RestartLimitExceeded)


@pytest.mark.parametrize("threads", [False, True])
async def test_askers_are_told_and_promises_and_timers_end(threads: bool) -> None:
    # E1, M5, L8. Real time, for the threads.
    inner: av.Executor = av.ThreadExecutor() if threads else av.AsyncExecutor()
    executor, seen = Failing(inner), list[str]()
    errors: list[Exception] = []
    with trio.fail_after(20):
        async with opened(tree(executor, seen, "one_for_one", Carried)) as host:
            a = host.find("tree/a", Carried)

            async def ask() -> None:
                with pytest.raises(av.ServiceCrashed) as crash:
                    await a.ask(Carried.later)
                errors.append(crash.value)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                while not check_account(host).handled:  # noqa: ASYNC110
                    await trio.sleep(0.001)
                executor.breaker.fail()
            (error,) = errors
            assert isinstance(error.__cause__, av.ExecutorFailed)
            assert await a.ask(Carried.note, "again") == "again"
            assert a.incarnation == 2


@pytest.mark.parametrize("where", ["open", "begin", "life"])
async def test_it_fails_as_it_begins(where: Where, autojump_clock: MockClock) -> None:
    # E1, L3: the start of what it was to carry fails, with its cause.
    executor, seen = Failing(av.AsyncExecutor()), list[str]()
    supervisor = av.Supervisor([], name="tree", max_restarts=1)
    async with opened(supervisor) as host:
        ref = host.find("tree", av.Supervisor)
        if where != "open":
            standing = await ref.start(av.Application(Slow, "s", seen, name="s", executor=executor))
        executor.breaker.where = where
        with pytest.raises(av.ExecutorFailed) as failed:
            await ref.start(av.Application(Slow, "a", seen, name="a", executor=executor))
        assert isinstance(failed.value.__cause__, Broken)
        with pytest.raises(LookupError):  # I4
            host.find("tree/a", Slow)
        if where != "open":
            # What it carried already has crashed with it.
            assert await standing.ask(Slow.note, "again") == "again"
            assert standing.incarnation == 2
        again = await ref.start(av.Application(Slow, "a", seen, name="a", executor=executor))
        assert await again.ask(Slow.note, "up") == "up"


async def test_what_reaches_the_host_names_the_oldest_that_it_carried(
    autojump_clock: MockClock,
) -> None:
    # E1, S8: with a note of its path.
    executor = Failing(av.AsyncExecutor())
    with pytest.RaisesGroup(av.ExecutorFailed) as group:
        async with av.open_host(max_restarts=0) as host:
            for name in ("first", "second"):
                app = av.Application(Slow, name, [], name=name, executor=executor)
                await host.start(app)
            executor.breaker.fail()
            await trio.sleep_forever()
    (error,) = group.value.exceptions
    assert isinstance(error.__cause__, Broken)
    assert error.__notes__ == ["it reached host from host/first"]


async def test_it_fails_while_what_it_carries_is_stopped(autojump_clock: MockClock) -> None:
    # E1, L1: a stop that was asked for stays one; it is answered.
    executor = Failing(av.AsyncExecutor())
    app = tree(executor, [], "one_for_one", grace=math.inf)
    async with opened(app) as host:
        a, b = host.find("tree/a", Slow), host.find("tree/b", Slow)
        await a.tell(Slow.hold)
        await wait_all_tasks_blocked()
        reasons: list[av.ExitReason] = []

        async def stop() -> None:
            reasons.append(await a.stop(drain=0))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop)
            await trio.sleep(1)
            assert a.state == "stopping"
            executor.breaker.fail()
        await trio.sleep(1)
        assert isinstance(reasons[0], av.Crashed)
        assert (a.state, b.state) == ("stopped", "running")
        await a.start()
        assert await a.ask(Slow.note, "up") == "up"


async def test_a_pool_goes_on(autojump_clock: MockClock) -> None:
    # E1, W1, M4, M7: one decision restarts all members; what waits is kept.
    class Slow(av.Service):
        async def work(self) -> None:
            await trio.sleep(2)

    failing = Failing(av.AsyncExecutor())
    async with av.open_host(drain=0) as host:
        app = av.Application(Slow, executor=failing)
        ref = await host.start(av.Pool(app, size=3, name="pool", max_restarts=1))
        for _ in range(6):
            await ref.tell(Slow.work)
        await wait_all_tasks_blocked()
        failing.breaker.fail()
        await trio.sleep(20)
        members = [host.find(f"pool/{i}", Slow) for i in range(3)]
        assert [member.incarnation for member in members] == [2, 2, 2]
        assert ref.incarnation == 1
        mail = check_account(host)
        assert (mail.handled, mail.dead_letters) == (3, 3)
