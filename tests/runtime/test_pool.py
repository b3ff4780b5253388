"""Pools: one child, one ref, one mailbox, several members (W1)."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import actorvisor as av
from actorvisor._core._dispatch import lane_of
from tests.runtime.account import check_account


def me() -> str:
    """The name of the member whose code runs here: a life's task bears its path."""
    return trio.lowlevel.current_task().name.rpartition("/")[2]


class Worker(av.Service):
    """Notes who did what when."""

    log: list[tuple[object, str, float]]

    def __init__(self, log: list[tuple[object, str, float]] | None = None) -> None:
        self.log = [] if log is None else log

    async def work(self, value: object, seconds: float = 1.0) -> object:
        self.log.append((value, me(), trio.current_time()))
        await trio.sleep(seconds)
        return value

    def who(self) -> str:
        return me()

    def crash(self, error: BaseException) -> None:
        raise error

    def leave(self) -> None:
        self.stop()

    async def receive(self, message: object) -> None:
        await self.work(message)

    async def do(self, function: Callable[[Worker], Any]) -> Any:
        """Whatever a test wants, inside."""
        result = function(self)
        return await result if hasattr(result, "__await__") else result


def pool(size: int = 2, *args: Any, key: Any = None, **options: Any) -> av.Pool[Worker]:
    """A pool of the name ``pool``: options are those of `Pool` where it has them."""
    own = {"max_restarts", "significant"} & set(options)
    mine = {name: options.pop(name) for name in own}
    app: av.Application[Worker] = av.Application(Worker, *args, name="pool", **options)
    return av.Pool(app, size=size, key=key, **mine)


@asynccontextmanager
async def hosting(*args: Any, **options: Any) -> AsyncIterator[tuple[av.Host, av.Ref[Worker]]]:
    async with av.open_host(drain=0) as host:
        yield host, await host.start(pool(*args, **options))
        check_account(host)


def member(host: av.Host, number: int) -> av.Ref[Worker]:
    return host.find(f"host/pool/{number}", Worker)


async def busy(ref: av.Ref[Worker], count: int, seconds: float = 1000) -> None:
    """Let that many members be busy."""
    for number in range(count):
        await ref.tell(Worker.work, f"busy {number}", seconds)
    await wait_all_tasks_blocked()


# --- one child ------------------------------------------------------------------------------


async def test_one_child_with_one_ref(autojump_clock: MockClock) -> None:
    # W1, I1
    async with hosting(3) as (host, ref):
        assert isinstance(ref, av.Ref)
        assert repr(ref) == "<Ref host/pool running>"
        assert host.children() == (ref,)
        assert host.find("host/pool", Worker) == ref
        assert [member(host, i).path for i in range(3)] == [f"host/pool/{i}" for i in range(3)]
        with pytest.raises(TypeError, match="host/pool is a Worker, not a Supervisor"):
            host.find("host/pool", av.Supervisor)  # type: ignore[type-abstract, unused-ignore]
        with pytest.raises(LookupError, match="host/pool has: 0, 1, 2"):
            host.find("host/pool/3", Worker)
        node = host.tree().children[0]
        assert (node.path, node.kind, node.state) == ("host/pool", "pool", "running")
        assert [child.kind for child in node.children] == ["service"] * 3
        assert "pool  running, pool of 3" in str(host.tree())
        assert await ref.stop() == av.Stopped()
        assert host.children() == ()
        assert host.statistics().actors == 0


async def test_its_name(autojump_clock: MockClock) -> None:
    # I1
    async with av.open_host() as host:
        app = av.Application(Worker)
        names = [(await host.start(av.Pool(app, size=1))).path for _ in range(3)]
        assert names == ["host/Worker", "host/Worker-2", "host/Worker-3"]
        assert (await host.start(av.Pool(app, size=1, name="mine"))).path == "host/mine"
        with pytest.raises(av.ControlRefused, match="already running"):
            await host.start(av.Pool(app, size=1, name="mine"))


async def test_it_is_up_when_all_members_are(autojump_clock: MockClock) -> None:
    # W1, L3: they start together.
    class Slow(av.Service):
        async def setup(self) -> None:
            await trio.sleep(int(me()))

    async with av.open_host() as host:
        await host.start(av.Pool(av.Application(Slow), size=4))
        assert trio.current_time() == 3


async def test_a_member_that_does_not_start(autojump_clock: MockClock) -> None:
    # L3: it is the pool's failed start, its own exception, and nothing is left.
    class Fails(av.Service):
        async def setup(self) -> None:
            if me() == "1":
                await trio.sleep(1)
                raise OSError("no connection")

    async with av.open_host() as host:
        with pytest.raises(OSError, match="no connection") as caught:
            await host.start(av.Pool(av.Application(Fails, name="pool"), size=3))
        assert caught.value.__notes__ == ["it reached host/pool from host/pool/1"]
        assert host.statistics().actors == 0


async def test_a_cancelled_start_ends_all_members(autojump_clock: MockClock) -> None:
    # L3
    class Never(av.Service):
        async def setup(self) -> None:
            await trio.sleep_forever()

    async with av.open_host() as host:
        with trio.move_on_after(1):
            await host.start(av.Pool(av.Application(Never), size=3))
        assert host.statistics().actors == 0


def test_everything_takes_it() -> None:
    # W1
    log: list[tuple[object, str, float]] = []

    class Once(av.Service):
        def setup(self) -> None:
            log.append(("up", me(), 0))
            self.stop()

    av.run([av.Pool(av.Application(Once), size=2), pool_that_ends(log)])
    assert len(log) == 4
    av.Supervisor([pool_that_ends(log), av.Supervisor([pool_that_ends(log)])])
    assert repr(pool_that_ends(log)).startswith("Pool(Application(Ends, name='Ends'), size=2,")


def pool_that_ends(log: list[tuple[object, str, float]]) -> av.Pool[Any]:
    class Ends(av.Service):
        async def run(self) -> None:
            log.append(("ran", me(), 0))

    return av.Pool(av.Application(Ends, restart="transient"), size=2)


# --- who gets what --------------------------------------------------------------------------


async def test_a_message_goes_to_who_is_free(autojump_clock: MockClock) -> None:
    # W1: nothing waits at a busy one while another is free.
    log: list[tuple[object, str, float]] = []
    async with hosting(3, log) as (_, ref):
        for value, seconds in enumerate([10, 1, 1, 1, 1, 1]):
            await ref.tell(Worker.work, value, seconds)
        await trio.sleep(4)
    found = sorted(log)
    assert [(value, time) for value, _, time in found] == [
        (0, 0),
        (1, 0),
        (2, 0),
        (3, 1),
        (4, 1),
        (5, 2),
    ]
    assert found[0][1] not in {name for _, name, _ in found[1:]}


async def test_who_has_been_free_longest_is_first(autojump_clock: MockClock) -> None:
    # W1
    async with hosting(3) as (_, ref):
        found = [await ref.ask(Worker.who) for _ in range(6)]
        assert sorted(found[:3]) == ["0", "1", "2"]
        assert found[3:] == found[:3]


async def test_what_waits_waits_in_the_pool(autojump_clock: MockClock) -> None:
    # W1: credit 1.
    async with hosting(2) as (host, ref):
        await busy(ref, 5)
        boxes = host.statistics().mailboxes
        assert boxes["host/pool"].waiting == 3
        assert [boxes[f"host/pool/{i}"].in_hand for i in range(2)] == [1, 1]
        assert [boxes[f"host/pool/{i}"].waiting for i in range(2)] == [0, 0]
        assert check_account(host).accepted == 5


async def test_the_bound_is_the_pools(autojump_clock: MockClock) -> None:
    # W1, M3
    async with hosting(2, mailbox=3) as (host, ref):
        await busy(ref, 5)
        with pytest.raises(av.MailboxFull):
            ref.tell_nowait(Worker.who)
        with trio.move_on_after(1) as scope:
            await ref.tell(Worker.who)
        assert scope.cancelled_caught
        assert check_account(host).accepted == 5
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ref.ask, Worker.who)  # it waits for room, then for its turn
            await wait_all_tasks_blocked()
            await trio.sleep(10_000)


async def test_the_oldest_is_dropped(autojump_clock: MockClock) -> None:
    # M3
    log: list[tuple[object, str, float]] = []
    async with hosting(1, log, mailbox=2, overflow="drop_oldest") as (host, ref):
        await busy(ref, 1, 10)

        async def dropped() -> None:
            with pytest.raises(av.MailboxFull):
                await ref.ask(Worker.work, "asked")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(dropped)
            await wait_all_tasks_blocked()
            for value in range(3):
                await ref.tell(Worker.work, value)
        await trio.sleep(20)
        assert [value for value, _, _ in log] == ["busy 0", 1, 2]
        assert check_account(host).dead_letters == 2


@pytest.mark.parametrize("at", ["pool", "on its way", "in hand"])
async def test_a_withdrawn_ask(at: str, autojump_clock: MockClock) -> None:
    # M8: wherever it is.
    log: list[tuple[object, str, float]] = []
    async with hosting(1, log) as (host, ref):
        if at == "pool":
            await busy(ref, 1, 10)
        with trio.CancelScope() as scope:
            if at == "on its way":
                scope.cancel()
            scope.deadline = trio.current_time() + 0.5
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ref.ask, Worker.work, "asked")
                if at == "on its way":
                    # Not at its first checkpoint, but when it waits for its answer.
                    with trio.CancelScope(shield=True):
                        await trio.lowlevel.cancel_shielded_checkpoint()
                await trio.sleep_forever()
        await trio.sleep(30)
        mail = check_account(host)
        assert mail.withdrawn == (at == "pool")
        assert mail.late_replies == (at == "in hand")
        assert ("asked" in {value for value, _, _ in log}) == (at == "in hand")
        assert await ref.ask(Worker.who) == "0"


async def test_an_ask_is_withdrawn_between_hand_over_and_handler(
    autojump_clock: MockClock,
) -> None:
    # M8: the member is free again.
    log: list[tuple[object, str, float]] = []
    async with hosting(1, log) as (host, ref):
        scope = trio.CancelScope()

        async def ask() -> None:
            with scope:
                # In the step in which it is handed over; the member has not run since.
                trio.lowlevel.current_trio_token().run_sync_soon(scope.cancel)
                await ref.ask(Worker.work, "asked")

        for _ in range(20):
            scope = trio.CancelScope()
            await ask()
        mail = check_account(host)
        assert mail.withdrawn + mail.late_replies + mail.in_hand >= 20
        assert await ref.ask(Worker.who) == "0"


# --- crashes --------------------------------------------------------------------------------


async def test_a_crash_takes_one_member_and_one_message(autojump_clock: MockClock) -> None:
    # W1, M5
    log: list[tuple[object, str, float]] = []
    async with hosting(2, log) as (host, ref):
        await busy(ref, 1, 10)
        await trio.sleep(1)
        error = ValueError("bad")

        async def crash() -> None:
            with pytest.raises(av.ServiceCrashed) as caught:
                await ref.ask(Worker.crash, error)
            assert caught.value.path.startswith("host/pool/")
            assert caught.value.__cause__ is error

        async with trio.open_nursery() as nursery:
            nursery.start_soon(crash)
            nursery.start_soon(ref.ask, Worker.work, "after", 1)
        assert sorted(member(host, i).incarnation for i in range(2)) == [1, 2]
        assert ref.state == "running"
        assert ref.incarnation == 1
        await trio.sleep(10)
        mail = check_account(host)
        assert (mail.handled, mail.dead_letters) == (2, 1)


async def test_what_is_redelivered_goes_first_and_to_who_is_free(
    autojump_clock: MockClock,
) -> None:
    # W1, M4, M5: another member may have it; its tries are kept.
    tries: list[str] = []

    class Fragile(av.Service):
        async def setup(self) -> None:
            if tries:
                await trio.sleep(100)

        async def work(self) -> str:
            tries.append(me())
            await trio.sleep(1)
            if len(tries) < 3:
                raise ValueError
            return me()

        def ping(self) -> str:
            return me()

    async with av.open_host() as host:
        app = av.Application(Fragile, redeliver=2)
        ref = await host.start(av.Pool(app, size=3))
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def ask() -> None:
                assert await ref.ask(Fragile.work) == tries[-1]

        assert sorted(tries) == ["0", "1", "2"]
        assert trio.current_time() == 3  # nobody waited for a restart
        mail = check_account(host)
        assert (mail.accepted, mail.handled, mail.dead_letters) == (1, 1, 0)


async def test_tries_are_counted_over_members(autojump_clock: MockClock) -> None:
    # M5
    async with hosting(3, redeliver=1) as (host, ref):
        with pytest.raises(av.ServiceCrashed):
            await ref.ask(Worker.crash, ValueError())
        assert sum(member(host, i).incarnation - 1 for i in range(3)) == 2


async def test_what_was_handed_over_to_a_dying_member_comes_back(
    autojump_clock: MockClock,
) -> None:
    # M4, W1: its background task has crashed, and nobody knows yet.
    async def boom() -> None:
        raise ValueError

    log: list[tuple[object, str, float]] = []
    async with hosting(1, log) as (host, ref):
        for value in range(20):
            await ref.ask(Worker.do, lambda self: self.start_soon(boom))
            await ref.tell(Worker.work, value, 0)
            await wait_all_tasks_blocked()
            await ref.restart()  # it clears the notes of the limit
        await wait_all_tasks_blocked()
        mail = check_account(host)
        assert mail.handled + mail.dead_letters == mail.accepted
        assert {value for value, _, _ in log} == set(range(20))


async def test_a_member_that_leaves_takes_no_mail(autojump_clock: MockClock) -> None:
    # L7: a permanent member that ends itself is there again; no message is lost with it.
    log: list[tuple[object, str, float]] = []
    async with hosting(2, log, max_restarts=1000) as (host, ref):
        for value in range(50):
            await ref.tell(Worker.leave)
            await ref.tell(Worker.work, value, 0.5)
        await trio.sleep(100)
        assert Counter(value for value, _, _ in log) == Counter(range(50))
        assert check_account(host).handled == 100


async def test_what_a_stopped_member_has_not_begun_is_for_the_others(
    autojump_clock: MockClock,
) -> None:
    # W1, M4: it lies in that member's mailbox, which has let others run after 32 messages.
    handled: list[int] = []

    class Quick(av.Service):
        def work(self, number: int) -> None:
            handled.append(number)
            if number == 20:
                self.start_soon(stop, me())

        async def sleep(self) -> None:
            await trio.sleep(1)

    async def stop(name: str) -> None:
        await host.find(f"pool/{name}", Quick).stop(drain=0)

    async with av.open_host() as host:
        for _ in range(30):
            handled.clear()
            ref = await host.start(av.Pool(av.Application(Quick, name="pool"), size=2))
            await ref.tell(Quick.sleep)
            for number in range(50):
                await ref.tell(Quick.work, number)
            await trio.sleep(2)
            assert handled == list(range(50))
            await ref.remove()
        assert check_account(host).dead_letters == 0


async def test_its_limit_is_its_crash(autojump_clock: MockClock) -> None:
    # W1, S3, M4: its supervisor restarts it; what waits is kept, and so is its identity.
    log: list[tuple[object, str, float]] = []
    async with av.open_host() as host:
        top = await host.start(av.Supervisor([pool(2, log, max_restarts=0)], name="top"))
        ref = host.find("top/pool", Worker)
        await busy(ref, 1, 5)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def crash() -> None:
                with pytest.raises(av.ServiceCrashed):
                    await ref.ask(Worker.crash, ValueError())

            await wait_all_tasks_blocked()
            nursery.start_soon(ref.ask, Worker.work, "waited")
        await trio.sleep(10)
        assert (ref.incarnation, ref.state) == (2, "running")
        assert top.incarnation == 1
        assert "waited" in {value for value, _, _ in log}
        assert host.find("top/pool", Worker) == ref
        check_account(host)


async def test_its_limit_reaches_the_host(autojump_clock: MockClock) -> None:
    # S8
    error = ValueError("bad")
    with pytest.raises(BaseExceptionGroup) as caught:
        async with av.open_host(max_restarts=0) as host:
            ref = await host.start(pool(2, max_restarts=0))
            await ref.tell(Worker.crash, error)
            await trio.sleep_forever()
    assert caught.value.exceptions == (error,)
    assert error.__notes__[0].startswith("it reached host from host/pool/")


async def test_an_escalated_crash_is_the_pools(autojump_clock: MockClock) -> None:
    # S11
    async with hosting(3, on_crash={KeyError: "escalate"}) as (_, ref):
        await ref.tell(Worker.crash, KeyError())
        await trio.sleep(1)
        assert (ref.incarnation, ref.state) == (2, "running")


async def test_members_that_are_not_to_be_restarted(autojump_clock: MockClock) -> None:
    # S11, W1: the pool goes on with the others, and ends as the last one did.
    async with av.open_host() as host:
        top = await host.start(av.Supervisor([pool(2, on_crash={KeyError: "stop"})], name="top"))
        ref = host.find("top/pool", Worker)
        error = KeyError()
        await ref.tell(Worker.crash, error)
        await trio.sleep(1)
        states = [host.find(f"top/pool/{i}", Worker).state for i in range(2)]
        assert sorted(states) == ["failed", "running"]
        assert await ref.ask(Worker.who) == str(states.index("running"))
        await ref.tell(Worker.crash, error)
        reason = await ref.stopped()
        assert isinstance(reason, av.Crashed)
        assert reason.exception is error
        assert (ref.state, top.state) == ("failed", "running")
        with pytest.raises(av.ServiceStopped):
            await ref.tell(Worker.who)
        await ref.start()
        assert await ref.ask(Worker.who) in {"0", "1"}


async def test_an_interrupt_goes_up_to_the_host(autojump_clock: MockClock) -> None:
    # M9: whatever `on_crash` says.
    with pytest.raises(KeyboardInterrupt):
        async with hosting(1, on_crash={BaseException: "stop"}) as (_, ref):
            await ref.tell(Worker.crash, KeyboardInterrupt())
            await trio.sleep_forever()


@pytest.mark.parametrize("restart", ["transient", "temporary"])
async def test_members_that_end_normally(
    restart: Literal["transient", "temporary"], autojump_clock: MockClock
) -> None:
    # S1, M6: what waits when the last is gone is dead letters.
    async with hosting(2, restart=restart) as (host, ref):
        await ref.tell(Worker.leave)
        await trio.sleep(1)
        assert ref.state == "running"
        assert await ref.ask(Worker.who) in {"0", "1"}
        await ref.tell(Worker.leave)
        await ref.tell(Worker.who)
        assert isinstance(await ref.stopped(), av.Completed)
        assert check_account(host).dead_letters == 1
    async with hosting(2, restart="permanent") as (_, ref):
        await ref.tell(Worker.leave)
        await ref.tell(Worker.leave)
        assert await ref.ask(Worker.who) in {"0", "1"}


async def test_a_significant_pool(autojump_clock: MockClock) -> None:
    # S6
    async with av.open_host() as host:
        children = [pool(2, restart="transient", significant=True)]
        top = await host.start(
            av.Supervisor(children, auto_shutdown="any", name="top", restart="transient")
        )
        ref = host.find("top/pool", Worker)
        await ref.tell(Worker.leave)
        await ref.tell(Worker.leave)
        assert isinstance(await top.stopped(), av.Completed)


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
async def test_it_is_restarted_with_its_siblings(
    strategy: Literal["one_for_all", "rest_for_one"], autojump_clock: MockClock
) -> None:
    # S2, M4
    log: list[tuple[object, str, float]] = []
    async with av.open_host() as host:
        first = av.Application(Worker, name="first")
        await host.start(av.Supervisor([first, pool(2, log)], strategy=strategy, name="top"))
        ref = host.find("top/pool", Worker)
        await busy(ref, 4, 1)
        await host.find("top/first", Worker).tell(Worker.crash, ValueError())
        await trio.sleep(10)
        assert ref.incarnation == 2
        assert [host.find(f"top/pool/{i}", Worker).incarnation for i in range(2)] == [2, 2]
        assert {value for value, _, _ in log} == {f"busy {i}" for i in range(4)}
        check_account(host)


# --- its end --------------------------------------------------------------------------------


async def test_a_stop_drains_and_stops_members_together(autojump_clock: MockClock) -> None:
    # W1, L4
    log: list[tuple[object, str, float]] = []
    async with hosting(4, log) as (host, ref):
        await busy(ref, 8, 2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ref.stop)
            await trio.sleep(1)
            with pytest.raises(av.ServiceStopped):
                await ref.tell(Worker.who)
        assert trio.current_time() == 4
        assert len(log) == 8
        assert check_account(host).handled == 8
    async with hosting(4) as (host, ref):
        await busy(ref, 8, 2)
        start = trio.current_time()
        assert await ref.stop(drain=0) == av.Stopped()
        assert trio.current_time() == start + 2  # not one after the other
        mail = check_account(host)
        assert (mail.handled, mail.dead_letters) == (4, 4)


async def test_a_drain_lets_members_talk_to_their_pool(autojump_clock: MockClock) -> None:
    # W1, L4
    log: list[tuple[object, str, float]] = []

    async def pass_on(self: Worker) -> None:
        await trio.sleep(1)
        await self.ref.tell(Worker.work, "passed on")

    async with hosting(2, log) as (host, ref):
        await ref.tell(Worker.do, pass_on)
        await wait_all_tasks_blocked()
        await ref.stop()
        assert [value for value, _, _ in log] == ["passed on"]
        assert check_account(host).dead_letters == 0


async def test_what_members_tell_their_pool_while_it_ends(autojump_clock: MockClock) -> None:
    # M6: no error of theirs; it is a dead letter. From outside it is refused.
    told: list[str] = []

    async def tell_late(self: Worker) -> None:
        await trio.sleep(1)
        await self.ref.tell(Worker.who)
        told.append(me())

    async with hosting(2) as (host, ref):
        await ref.tell(Worker.do, tell_late)
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: ref.stop(drain=0))
            await wait_all_tasks_blocked()
            with pytest.raises(av.ServiceStopped):
                await ref.tell(Worker.who)
        assert len(told) == 1
        assert check_account(host).dead_letters == 1


async def test_an_end_by_force(autojump_clock: MockClock) -> None:
    # M6: every asker is told.
    async with hosting(2) as (host, ref):
        async with trio.open_nursery() as nursery:
            for _ in range(5):

                @nursery.start_soon
                async def ask() -> None:
                    with pytest.raises(av.ServiceStopped):
                        await ref.ask(Worker.work, 1, 1000)

            await wait_all_tasks_blocked()
            await ref.stop(grace=0)
        mail = check_account(host)
        assert (mail.dead_letters, mail.waiting, mail.in_hand) == (5, 0, 0)


# --- rolling restarts -----------------------------------------------------------------------


async def test_a_restart_is_rolling(autojump_clock: MockClock) -> None:
    # W1: one member at a time, each waiting for the one before; the others go on.
    class Slow(Worker):
        async def setup(self) -> None:
            await trio.sleep(1)

    async with av.open_host() as host:
        ref = await host.start(av.Pool(av.Application(Slow, name="pool"), size=3))
        events = host.events()
        asked: list[str] = []
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def ask() -> None:
                while True:
                    asked.append(await ref.ask(Worker.who))
                    await trio.sleep(0.25)

            start = trio.current_time()
            await ref.restart()
            assert trio.current_time() == start + 3
            nursery.cancel_scope.cancel()
        events.close()
        seen = [(type(event).__name__, event.path[-1]) async for event in events]
        steps = ("Stopping", "Exited", "Starting", "Started")
        assert seen == [(step, name) for name in "012" for step in steps]
        assert len(asked) >= 12  # nobody waited
        assert (ref.state, ref.incarnation) == ("running", 1)
        assert host.statistics().restarts == 0


async def test_who_asks_for_a_restart_meanwhile_gets_another(autojump_clock: MockClock) -> None:
    # W1
    class Slow(Worker):
        async def setup(self) -> None:
            await trio.sleep(1)

    async with av.open_host() as host:
        ref = await host.start(av.Pool(av.Application(Slow, name="pool"), size=2))
        ends: list[float] = []

        async def restart() -> None:
            await ref.restart()
            ends.append(trio.current_time() - 1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(restart)
            await trio.sleep(0.5)
            nursery.start_soon(restart)
            nursery.start_soon(restart)
        assert ends == [2, 4, 4]
        assert [member(host, i).incarnation for i in range(2)] == [3, 3]


async def test_a_rolling_restart_stops_at_a_member_that_does_not_start(
    autojump_clock: MockClock,
) -> None:
    # W1: the rest is left alone; a later one tries again.
    broken = False

    class Breakable(Worker):
        def setup(self) -> None:
            if broken and me() == "1":
                raise OSError("new version")

    async with av.open_host() as host:
        ref = await host.start(av.Pool(av.Application(Breakable, name="pool"), size=3))
        broken = True
        with pytest.raises(OSError, match="new version"):
            await ref.restart()
        assert [member(host, i).incarnation for i in range(3)] == [2, 2, 1]
        assert [member(host, i).state for i in range(3)] == ["running", "failed", "running"]
        assert {await ref.ask(Worker.who) for _ in range(4)} == {"0", "2"}
        broken = False
        await ref.restart()
        assert [member(host, i).incarnation for i in range(3)] == [3, 3, 2]


async def test_the_only_member_that_does_not_start(autojump_clock: MockClock) -> None:
    # W1, L3: the pool ends with it, and whoever asked for that restart knows why.
    broken = False

    class Breakable(Worker):
        def setup(self) -> None:
            if broken:
                raise OSError("new version")

    async with av.open_host() as host:
        ref = await host.start(av.Pool(av.Application(Breakable), size=1, restart="temporary"))
        broken = True
        with pytest.raises(OSError, match="new version"):
            await ref.restart()
        assert isinstance(await ref.stopped(), av.Crashed)


async def test_a_rolling_restart_ends_with_the_pool(autojump_clock: MockClock) -> None:
    # S5, S7
    async with hosting(3) as (_, ref):
        await busy(ref, 3, 3)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def restart() -> None:
                with pytest.raises((av.ControlRefused, av.ServiceStopped)):
                    await ref.restart()

            await trio.sleep(1)
            await ref.stop(drain=0)
        assert ref.state == "stopped"
        with pytest.raises(av.ServiceStopped):
            await ref.restart()


async def test_a_cancelled_rolling_restart_goes_on(autojump_clock: MockClock) -> None:
    # L3
    async with hosting(2) as (host, ref):
        await busy(ref, 2, 2)
        with trio.move_on_after(1):
            await ref.restart()
        await trio.sleep(5)
        assert [member(host, i).incarnation for i in range(2)] == [2, 2]


async def test_what_is_down_is_restarted_as_a_whole(autojump_clock: MockClock) -> None:
    # S7
    async with av.open_host() as host:
        await host.start(av.Supervisor([pool(2)], name="top"))
        ref = host.find("top/pool", Worker)
        await ref.stop()
        await ref.restart()
        assert [host.find(f"top/pool/{i}", Worker).incarnation for i in range(2)] == [2, 2]
        assert await ref.ask(Worker.who) in {"0", "1"}


# --- keys -----------------------------------------------------------------------------------


async def test_equal_keys_go_to_one_member_in_order(autojump_clock: MockClock) -> None:
    # W1, M2
    log: list[tuple[object, str, float]] = []
    async with hosting(3, log, key=lambda value, *_: value[0]) as (host, ref):
        for value in ("a1", "b1", "a2", "c1", "a3", "b2"):
            await ref.tell(Worker.work, value)
        await trio.sleep(5)
        for key in "abc":
            mine = [(value, name) for value, name, _ in log if str(value)[0] == key]
            assert [value for value, _ in mine] == sorted(str(value) for value, _ in mine)
            assert {name for _, name in mine} == {str(lane_of(key, 3))}
        check_account(host)


async def test_the_key_gets_what_the_handler_gets(autojump_clock: MockClock) -> None:
    # W1
    seen: list[tuple[tuple[object, ...], dict[str, object]]] = []

    def key(*args: object, **kwargs: object) -> int:
        seen.append((args, kwargs))
        return 0

    async with hosting(2, key=key) as (_, ref):
        await ref.tell(Worker.work, 1, 0)
        await ref.ask(Worker.work, 1, seconds=0)
        ref.tell_nowait(Worker.work, value=1, seconds=0)
        await ref.send("message")
        await ref.if_running.ask(Worker.who)
        await trio.to_thread.run_sync(ref.blocking.ask, Worker.work, 2, 0)
    assert seen == [
        ((1, 0), {}),
        ((1,), {"seconds": 0}),
        ((), {"value": 1, "seconds": 0}),
        (("message",), {}),
        ((), {}),
        ((2, 0), {}),
    ]


@pytest.mark.parametrize("full", [False, True])
async def test_a_bad_key_is_an_error_at_the_sender(full: bool, autojump_clock: MockClock) -> None:
    # W1: before anything is accepted, or dropped for it, or waits for room.
    def key(value: object, *_: object) -> Any:
        if value == "raises":
            raise LookupError("who?")
        return 0 if isinstance(value, str) else value

    overflow: Literal["drop_oldest"] = "drop_oldest"
    async with hosting(1, key=key, mailbox=1, overflow=overflow) as (host, ref):
        if full:
            await busy(ref, 2)
        before = host.statistics()
        sends: list[Callable[[object], Any]] = [
            lambda value: ref.tell(Worker.work, value),
            lambda value: ref.ask(Worker.work, value),
            ref.send,
        ]
        for send in sends:
            with pytest.raises(TypeError, match=r"key= of host/pool, for .*1\.5.*must be a str"):
                await send(1.5)
            with pytest.raises(LookupError, match=r"who\?") as caught:
                await send("raises")
            (note,) = caught.value.__notes__
            assert note.startswith("raised by the key= of host/pool for ")
            assert "'raises'" in note
        with pytest.raises(TypeError, match="must be a str"):
            ref.tell_nowait(Worker.work, None)
        assert host.statistics().mail == before.mail


async def test_a_member_that_is_down_for_good_is_its_keys_end(autojump_clock: MockClock) -> None:
    # M6, W1: nobody else may have them.
    log: list[tuple[object, str, float]] = []
    async with hosting(2, log, key=lambda value, *_: int(value)) as (host, ref):
        mine = next(i for i in range(100) if lane_of(i, 2) == 0)
        other = next(i for i in range(100) if lane_of(i, 2) == 1)
        await ref.tell(Worker.work, mine, 3)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def ask() -> None:
                with pytest.raises(av.ServiceStopped, match="host/pool/0"):
                    await ref.ask(Worker.work, mine)

            await wait_all_tasks_blocked()
            await member(host, 0).stop(drain=0)
        with pytest.raises(av.ServiceStopped, match="host/pool/0"):
            await ref.tell(Worker.work, mine)
        assert await ref.ask(Worker.work, other) == other
        assert check_account(host).dead_letters == 1
        await member(host, 0).start()
        assert await ref.ask(Worker.work, mine) == mine


async def test_who_waits_for_room_for_a_member_that_ends(autojump_clock: MockClock) -> None:
    # M6, M7: an asker is told; what was told is a dead letter.
    async with hosting(2, key=lambda key, *_: key, mailbox=1) as (host, ref):
        mine = next(i for i in range(100) if lane_of(i, 2) == 0)
        for _ in range(2):
            await ref.tell(Worker.work, mine, 3)
        results: list[str] = []

        async def ask() -> None:
            with pytest.raises(av.ServiceStopped, match="host/pool/0"):
                await ref.ask(Worker.work, mine)
            results.append("asked")

        async def tell() -> None:
            await ref.tell(Worker.work, mine)
            results.append("told")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(tell)
            await wait_all_tasks_blocked()
            await member(host, 0).stop(drain=0)
        assert sorted(results) == ["asked", "told"]
        mail = check_account(host)
        assert (mail.handled, mail.dead_letters) == (1, 3)


async def test_keys_wait_while_the_pool_restarts(autojump_clock: MockClock) -> None:
    # M6: also those of a member that is not restarted by itself.
    log: list[tuple[object, str, float]] = []
    options: dict[str, Any] = {"restart": "temporary", "on_crash": {KeyError: "escalate"}}
    async with av.open_host(drain=0) as host:
        app = av.Application(Worker, log, **options)
        ref = await host.start(
            av.Pool(app, size=2, key=lambda *_: 0, restart="permanent", name="pool")
        )
        await ref.tell(Worker.crash, KeyError())
        for value in range(3):
            await ref.tell(Worker.work, value)
        await trio.sleep(10)
        assert ref.incarnation == 2
        assert [value for value, _, _ in log] == [0, 1, 2]
        assert check_account(host).dead_letters == 1


async def test_keys_wait_while_their_member_restarts(autojump_clock: MockClock) -> None:
    # M4, M6
    log: list[tuple[object, str, float]] = []
    async with hosting(2, log, key=lambda *_: 0) as (host, ref):
        await ref.tell(Worker.crash, ValueError())
        for value in range(3):
            await ref.tell(Worker.work, value)
        await trio.sleep(10)
        assert [value for value, _, _ in log] == [0, 1, 2]
        assert check_account(host).dead_letters == 1


# --- members --------------------------------------------------------------------------------


async def test_a_members_ref_and_paths_are_the_pools(autojump_clock: MockClock) -> None:
    # W1: a class runs unchanged in a pool.
    async with hosting(2) as (host, ref):
        other = await host.start(av.Application(Worker, name="other"))
        assert await ref.ask(Worker.do, lambda self: self.ref) == ref
        assert await ref.ask(Worker.do, lambda self: self.find("../other", Worker)) == other
        assert await ref.ask(Worker.do, lambda self: self.find("1", Worker)) == member(host, 1)
        assert await other.ask(Worker.do, lambda self: self.find("../pool", Worker)) == ref


async def test_timers_and_notifications_are_a_members_own(autojump_clock: MockClock) -> None:
    # W1
    log: list[tuple[object, str, float]] = []
    async with hosting(3, log) as (host, ref):
        other = await host.start(av.Application(Worker, name="other"))

        def begin(self: Worker) -> str:
            self.monitor(other)
            self.after(5, Worker.work, "timer")
            return me()

        name = await ref.ask(Worker.do, begin)
        for value in range(6):
            await ref.tell(Worker.work, value, 10)
        await other.stop()
        await trio.sleep(100)
        own = [(value, who) for value, who, _ in log if not isinstance(value, int)]
        assert ("timer", name) in own
        assert {type(value) for value, _ in own} == {str, av.Stopping, av.Exited, av.Ended}
        assert {who for _, who in own} == {name}
        assert check_account(host).handled == 1 + 6 + 1 + 3


async def test_a_member_is_free_when_its_own_mail_is_done(autojump_clock: MockClock) -> None:
    # W1
    log: list[tuple[object, str, float]] = []
    async with hosting(2, log) as (host, ref):
        await member(host, 0).tell(Worker.work, "own", 5)
        for value in range(3):
            await ref.tell(Worker.work, value)
        await trio.sleep(10)
        assert [(value, name) for value, name, _ in log if value != "own"] == [
            (0, "1"),
            (1, "1"),
            (2, "1"),
        ]
        await member(host, 0).tell(Worker.work, "own", 1)
        await wait_all_tasks_blocked()
        await busy(ref, 2, 1)  # the second one waits for whichever is done first
        check_account(host)
        await trio.sleep(3)
        assert check_account(host).handled == 7


async def test_monitoring_a_pool(autojump_clock: MockClock) -> None:
    # O2
    log: list[tuple[object, str, float]] = []
    async with hosting(2) as (host, ref):
        watcher = await host.start(av.Application(Worker, log, name="watcher"))
        await watcher.ask(Worker.do, lambda self: self.monitor(ref))
        with pytest.raises(av.ServiceCrashed):
            await ref.ask(Worker.crash, ValueError())
        await ref.stop()
        await trio.sleep(10)
        assert [
            (type(value), value.path) for value, _, _ in log if isinstance(value, av.Notification)
        ] == [(kind, "host/pool") for kind in (av.Stopping, av.Exited, av.Ended)]


async def test_a_member_is_stopped_and_started(autojump_clock: MockClock) -> None:
    # S7, L4: what it has in hand is done first; the rest is the others'.
    async with hosting(2) as (host, ref):
        await busy(ref, 1, 3)
        in_hand = [host.statistics().mailboxes[f"host/pool/{i}"].in_hand for i in range(2)]
        mine, other = in_hand.index(1), in_hand.index(0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(member(host, mine).stop)
            await wait_all_tasks_blocked()
            assert [await ref.ask(Worker.who) for _ in range(2)] == [str(other)] * 2
            assert trio.current_time() == 0
        assert trio.current_time() == 3
        assert member(host, mine).state == "stopped"
        with pytest.raises(av.ControlRefused, match="cannot be removed from host/pool"):
            await member(host, other).remove()
        await member(host, mine).start()
        assert {await ref.ask(Worker.who) for _ in range(2)} == {"0", "1"}


async def test_a_member_that_drains_gets_nothing_new(autojump_clock: MockClock) -> None:
    # L4, W1: it is idle, but owes an answer.
    class Promises(Worker):
        def promise(self) -> str:
            self.start_soon(self.answer, self.reply_later(), me())
            return ""

        async def answer(self, reply: av.LaterReply, name: str) -> None:
            await trio.sleep(5)
            reply.send(name)

    async with av.open_host() as host:
        ref = await host.start(av.Pool(av.Application(Promises), size=2, name="pool"))
        names: list[str] = []

        async def ask() -> None:
            names.append(await ref.ask(Promises.promise))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await wait_all_tasks_blocked()
            boxes = host.statistics().mailboxes
            mine = next(i for i in range(2) if boxes[f"host/pool/{i}"].handled)
            nursery.start_soon(member(host, mine).stop)
            await wait_all_tasks_blocked()
            assert [await ref.ask(Worker.who) for _ in range(3)] == [str(1 - mine)] * 3
        assert names == [str(mine)]


async def test_the_last_member_that_is_stopped_stops_the_pool(autojump_clock: MockClock) -> None:
    # W1, M6
    async with av.open_host() as host:
        await host.start(av.Supervisor([pool(2)], name="top"))
        ref = host.find("top/pool", Worker)
        for number in range(2):
            assert ref.state == "running"
            await host.find(f"top/pool/{number}", Worker).stop()
        assert await ref.stopped() == av.Stopped()
        with pytest.raises(av.ServiceStopped):
            await ref.ask(Worker.who)
        await ref.start()
        assert await ref.ask(Worker.who) in {"0", "1"}


async def test_promised_answers(autojump_clock: MockClock) -> None:
    # W1: a member is free while it owes an answer.
    class Promises(av.Service):
        async def promise(self) -> str:
            reply = self.reply_later()

            async def answer(name: str) -> None:
                await trio.sleep(5)
                reply.send(name)

            self.start_soon(answer, me())
            return ""

    async with av.open_host() as host:
        ref = await host.start(av.Pool(av.Application(Promises), size=2))
        answers: list[str] = []

        async def ask() -> None:
            answers.append(await ref.ask(Promises.promise))

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(ask)
        assert set(answers) == {"0", "1"}
        assert len(answers) == 4
        assert trio.current_time() == 5
        check_account(host)


async def test_a_member_without_receive(autojump_clock: MockClock) -> None:
    # M11
    class Deaf(av.Service):
        pass

    async with av.open_host() as host:
        ref = await host.start(av.Pool(av.Application(Deaf), size=2, key=lambda message: 0))
        await ref.send("x")
        assert check_account(host).dead_letters == 1


# --- loops ----------------------------------------------------------------------------------


class Reader(av.Service):
    """A loop that competes for the pool's mail."""

    def __init__(self, log: list[tuple[object, str, float]], delay: float = 0) -> None:
        self.log = log
        self.delay = delay

    async def run(self) -> None:
        if me() == "0":
            await trio.sleep(self.delay)
        async for message in self.mailbox:
            self.log.append((message, me(), trio.current_time()))
            await trio.sleep(1)
            if message == "crash":
                raise ValueError


async def test_each_read_of_a_loop_is_a_credit(autojump_clock: MockClock) -> None:
    # W1
    log: list[tuple[object, str, float]] = []
    async with av.open_host() as host:
        ref = await host.start(av.Pool(av.Application(Reader, log), size=3))
        for value in range(6):
            await ref.send(value)
        await trio.sleep(0.5)
        mail = check_account(host)
        assert (mail.in_hand, mail.waiting) == (3, 3)
        await trio.sleep(1)
        assert [time for _, _, time in log] == [0, 0, 0, 1, 1, 1]
        await trio.sleep(1)
        assert check_account(host).handled == 6


async def test_a_loop_that_does_not_read_gets_nothing(autojump_clock: MockClock) -> None:
    # W1
    log: list[tuple[object, str, float]] = []
    async with av.open_host() as host:
        ref = await host.start(av.Pool(av.Application(Reader, log, 3.5), size=2))
        for value in range(8):
            await ref.send(value)
        await trio.sleep(3)
        assert {name for _, name, _ in log} == {"1"}
        await trio.sleep(3)
        assert {name for _, name, _ in log} == {"0", "1"}
        assert [value for value, _, _ in log] == list(range(8))


async def test_a_loop_that_stops_reading_gives_its_credit_back(autojump_clock: MockClock) -> None:
    # W1
    log: list[tuple[object, str, float]] = []

    class Impatient(Reader):
        async def run(self) -> None:
            while True:
                with trio.move_on_after(0.5):
                    self.log.append((await self.mailbox.receive(), me(), trio.current_time()))
                await trio.sleep(10 if me() == "0" else 0)

    async with av.open_host(drain=0) as host:
        ref = await host.start(av.Pool(av.Application(Impatient, log), size=2))
        await trio.sleep(1)
        for value in range(5):
            await ref.send(value)
            await wait_all_tasks_blocked()
        assert [(value, name) for value, name, _ in log] == [(value, "1") for value in range(5)]
        check_account(host)


async def test_a_loop_that_crashes(autojump_clock: MockClock) -> None:
    # M5, M7
    log: list[tuple[object, str, float]] = []
    async with av.open_host() as host:
        ref = await host.start(av.Pool(av.Application(Reader, log), size=2))
        for value in ("crash", 1, "crash", 2, 3):
            await ref.send(value)
        await trio.sleep(5)
        mail = check_account(host)
        assert (mail.handled, mail.dead_letters) == (3, 2)
        assert await ref.stop() == av.Stopped()


# --- waits (M10) ----------------------------------------------------------------------------


async def ask_pool(self: Worker) -> Any:
    return await self.ref.ask(Worker.who)


@pytest.mark.parametrize("size", [1, 2])
async def test_a_member_that_asks_its_pool(size: int, autojump_clock: MockClock) -> None:
    # M10: it closes a cycle only if there is nobody else.
    async with hosting(size) as (_, ref):
        if size == 2:
            assert await ref.ask(Worker.do, ask_pool) in {"0", "1"}
            return
        with pytest.raises(av.ServiceCrashed) as caught:
            await ref.ask(Worker.do, ask_pool)
        assert isinstance(caught.value.__cause__, av.WaitCycle)
        assert caught.value.__cause__.chain == ("host/pool/0", "host/pool", "host/pool/0")


@pytest.mark.parametrize("size", [2, 3])
async def test_members_that_all_ask_their_pool(size: int, autojump_clock: MockClock) -> None:
    # M10: the last of them would wait for all.
    async def ask_later(self: Worker) -> Any:
        await trio.sleep(int(me()) + 1)
        return await self.ref.ask(Worker.work, "inner", 100)

    async with hosting(size) as (host, ref):
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                try:
                    await ref.ask(Worker.do, ask_later)
                    results.append("answered")
                except av.ServiceCrashed as error:
                    errors.append(error.__cause__)
                    results.append("cycle")

            results: list[str] = []
            errors: list[BaseException | None] = []
            for _ in range(size):
                nursery.start_soon(ask)
        assert all(error is None or isinstance(error, av.WaitCycle) for error in errors)
        assert results.count("cycle") == 1
        assert results.count("answered") == size - 1
        check_account(host)


async def test_an_ask_waits_for_the_member_that_has_it(autojump_clock: MockClock) -> None:
    # M10: though another member is free.
    async with hosting(2) as (host, ref):
        other = await host.start(av.Application(Worker, name="other"))

        async def ask_back(self: Worker) -> object:
            return await other.ask(Worker.who)

        async def ask_pool_to_ask_back(self: Worker) -> object:
            return await ref.ask(Worker.do, ask_back)

        with pytest.raises(av.ServiceCrashed) as caught:
            await other.ask(Worker.do, ask_pool_to_ask_back)
        cause = caught.value.__cause__
        assert isinstance(cause, av.ServiceCrashed)
        assert isinstance(cause.__cause__, av.WaitCycle)
        first, second, third = cause.__cause__.chain
        assert (first, second) == (third, "host/other")
        assert first in {"host/pool/0", "host/pool/1"}


async def test_a_wait_for_a_pool_whose_members_all_wait(autojump_clock: MockClock) -> None:
    # M10
    async with hosting(2) as (host, ref):
        other = await host.start(av.Application(Worker, name="other"))

        async def ask_other(self: Worker) -> object:
            return await other.ask(Worker.who)

        async def ask(self: Worker) -> object:
            await trio.sleep(1)
            return await ref.ask(Worker.who)

        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def caller() -> None:
                with pytest.raises(av.ServiceCrashed) as caught:
                    await other.ask(Worker.do, ask)
                cycle = caught.value.__cause__
                assert isinstance(cycle, av.WaitCycle)
                assert cycle.chain[:2] == ("host/other", "host/pool")
                assert cycle.chain[-1] == "host/other"
                assert "asks host/pool where each member waits, as host/pool/" in str(cycle)

            await wait_all_tasks_blocked()
            for _ in range(2):
                nursery.start_soon(ref.ask, Worker.do, ask_other)


async def test_a_wait_for_a_pool_that_one_member_can_answer(autojump_clock: MockClock) -> None:
    # M10: a busy one is enough.
    async with hosting(2) as (host, ref):
        other = await host.start(av.Application(Worker, name="other"))

        async def ask_other(self: Worker) -> object:
            return await other.ask(Worker.who)

        async def ask(self: Worker) -> object:
            await trio.sleep(1)
            return await ref.ask(Worker.who)

        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def caller() -> None:
                assert await other.ask(Worker.do, ask) in {"0", "1"}

            await wait_all_tasks_blocked()
            nursery.start_soon(ref.ask, Worker.do, ask_other)
            await wait_all_tasks_blocked()
            nursery.start_soon(ref.ask, Worker.work, "busy", 10)


async def test_with_a_key_only_that_member_counts(autojump_clock: MockClock) -> None:
    # M10
    def key(function: Any, *_: object) -> int:
        return 0

    async with hosting(2, key=key) as (host, ref):
        other = await host.start(av.Application(Worker, name="other"))

        async def ask_other(self: Worker) -> object:
            return await other.ask(Worker.who)

        async def ask(self: Worker) -> object:
            await trio.sleep(1)
            return await ref.ask(Worker.work, "x")

        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def caller() -> None:
                with pytest.raises(av.ServiceCrashed) as caught:
                    await other.ask(Worker.do, ask)
                cycle = caught.value.__cause__
                assert isinstance(cycle, av.WaitCycle)
                name = f"host/pool/{lane_of(0, 2)}"
                assert cycle.chain == ("host/other", name, "host/other")

            await wait_all_tasks_blocked()
            nursery.start_soon(ref.ask, Worker.do, ask_other)


@pytest.mark.parametrize("call", ["stop", "restart", "stopped"])
async def test_a_member_that_waits_for_its_pools_end(call: str, autojump_clock: MockClock) -> None:
    # M10
    async with hosting(2) as (_, ref):
        with pytest.raises(av.ServiceCrashed) as caught:
            await ref.ask(Worker.do, lambda self: getattr(self.ref, call)())
        assert isinstance(caught.value.__cause__, av.WaitCycle)


async def test_a_member_whose_setup_asks_who_starts_the_pool(autojump_clock: MockClock) -> None:
    # M10: a start waits for every member, not for any.
    class Asks(av.Service):
        def __init__(self, other: av.Ref[Worker]) -> None:
            self.other = other

        async def setup(self) -> None:
            if me() == "1":
                await self.other.ask(Worker.who)

    async with av.open_host() as host:
        other = await host.start(av.Application(Worker, name="other"))

        async def start(self: Worker) -> object:
            return await host.start(av.Pool(av.Application(Asks, other), size=3))

        with pytest.raises(av.ServiceCrashed) as caught:
            await other.ask(Worker.do, start)
        assert isinstance(caught.value.__cause__, av.WaitCycle)


# --- threads --------------------------------------------------------------------------------


class Blocks(av.Service):
    def __init__(self, gate: threading.Barrier) -> None:
        self.gate = gate

    def meet(self) -> int:
        """It returns when as many threads are here as there are members."""
        self.gate.wait(timeout=10)
        return threading.get_ident()

    def add(self, value: int) -> int:
        return value + 1

    def crash(self) -> None:
        raise ValueError

    def ask_pool(self) -> int:
        return self.ref.blocking.ask(Blocks.add, 1)


def threads(size: int, **options: Any) -> av.Pool[Blocks]:
    app = av.Application(
        Blocks, threading.Barrier(size), name="pool", executor=av.ThreadExecutor(), **options
    )
    return av.Pool(app, size=size, max_restarts=1000)


async def test_a_pool_of_threads() -> None:
    # W1
    with trio.fail_after(30):
        async with av.open_host() as host:
            ref = await host.start(threads(4))
            found: set[int] = set()

            async def meet() -> None:
                found.add(await ref.ask(Blocks.meet))

            async with trio.open_nursery() as nursery:
                for _ in range(8):
                    nursery.start_soon(meet)
            assert len(found) == 4
            assert await ref.ask(Blocks.ask_pool) == 2
            results: Counter[object] = Counter()

            async def ask(value: int) -> None:
                if value % 10 == 0:
                    with pytest.raises(av.ServiceCrashed):
                        await ref.ask(Blocks.crash)
                    results["crash"] += 1
                else:
                    assert await ref.ask(Blocks.add, value) == value + 1
                    results["add"] += 1

            async with trio.open_nursery() as nursery:
                for value in range(100):
                    nursery.start_soon(ask, value)
            assert results == {"crash": 10, "add": 90}
            await ref.restart()
            assert await ref.ask(Blocks.add, 1) == 2
            mail = check_account(host)
            assert (mail.handled, mail.dead_letters) == (8 + 2 + 90 + 1, 10)
