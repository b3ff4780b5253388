"""Messages to services in processes: order, room, withdrawal, large ones, and the account (M2-M9)."""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

import actorvisor as av
from tests.executors import process_peers as peers, process_services as acts
from tests.executors.process_services import AsyncWorker, Stage, Worker
from tests.executors.processes import Executor, both, caught, opened, stage_of, until, worker
from tests.runtime.account import check_account

pytestmark = pytest.mark.process
Make = Callable[..., Executor]


def mail(host: av.Host, path: str = "host/worker") -> av.MailStatistics:
    check_account(host)  # M7: at every step
    return host.statistics().mailboxes[path]


class Busy:
    """A worker that is busy until it is let go."""

    def __init__(self, host: av.Host, ref: av.Ref[Any], stage: av.Ref[Stage]) -> None:
        self.host, self.ref, self.stage = host, ref, stage

    async def let_go(self) -> None:
        await self.stage.tell(Stage.say, "go")


async def accepted(host: av.Host, count: int) -> None:
    await until(lambda: mail(host).accepted == count)


@asynccontextmanager
async def busy(make: Make, **options: Any) -> AsyncGenerator[Busy, None]:
    async with opened(worker(make, **options)) as host:
        ref, stage = host.find("worker", Worker), await stage_of(host)
        await ref.tell(Worker.do, acts.say_and, stage, "in", acts.wait_for, stage, "go")
        await stage.ask(Stage.heard, "in")
        here = Busy(host, ref, stage)
        yield here
        await here.let_go()


@both
async def test_every_way_to_send(make: Make) -> None:
    async with opened(worker(make)) as host:
        ref = host.find("worker", Worker)
        assert await ref.ask(Worker.take, 1) == 1
        await ref.tell(Worker.note, 2)
        ref.tell_nowait(Worker.note, message=3)
        await ref.send(4)
        assert await ref.if_running.ask(Worker.take, 5) == 5
        await ref.if_running.tell(Worker.note, 6)

        def in_a_thread() -> int:
            ref.blocking.tell(Worker.note, 7)
            ref.blocking.send(8)
            found: int = ref.blocking.ask(Worker.take, 9)
            return found

        assert await trio.to_thread.run_sync(in_a_thread) == 9
        assert await ref.ask(Worker.received) == [2, 3, 4, 6, 7, 8]  # M2
        assert (mail(host).accepted, mail(host).handled) == (10, 10)
        await ref.stop()
        for call in (ref.if_running.ask, ref.if_running.tell, ref.ask, ref.tell):
            assert isinstance(await caught(call(Worker.take, 1)), av.ServiceStopped)  # M6
        assert isinstance(await caught(ref.send(1)), av.ServiceStopped)
        with pytest.raises(av.ServiceStopped):
            ref.tell_nowait(Worker.take, 1)


@both
async def test_a_full_mailbox(make: Make) -> None:
    async with busy(make, mailbox=3) as here, trio.open_nursery() as nursery:
        host, ref = here.host, here.ref
        for number in range(3):
            ref.tell_nowait(Worker.note, number)
        assert mail(host).waiting == 3
        with pytest.raises(av.MailboxFull):
            ref.tell_nowait(Worker.note, 9)  # M3
        with trio.move_on_after(0.02) as scope:
            await ref.tell(Worker.note, 9)
        assert scope.cancelled_caught  # M3: nothing was accepted
        assert mail(host).accepted == 4
        for number in (3, 4, 5):
            nursery.start_soon(ref.tell, Worker.note, number)
            await trio.testing.wait_all_tasks_blocked()
        assert mail(host).waiting == 3
        await here.let_go()
        await until(lambda: mail(host).handled == 7)
        assert await ref.ask(Worker.received) == [0, 1, 2, 3, 4, 5]  # M1: in turn


@both
async def test_dropping_the_oldest(make: Make) -> None:
    async with busy(make, mailbox=3, overflow="drop_oldest") as here:
        host, ref = here.host, here.ref
        with host.events() as events:
            for number in range(8):
                await ref.tell(Worker.note, number)
                assert mail(host).waiting <= 3
        letters = [one async for one in events if isinstance(one, av.DeadLetter)]
        assert len(letters) == mail(host).dead_letters == 5  # M3
        await here.let_go()
        await until(lambda: not mail(host).waiting)
        assert await ref.ask(Worker.received) == [5, 6, 7]  # M2


@both
async def test_a_dropped_ask(make: Make) -> None:
    async with (
        busy(make, mailbox=1, overflow="drop_oldest") as here,
        trio.open_nursery() as nursery,
    ):
        errors: list[Any] = []

        async def ask() -> None:
            errors.append(await caught(here.ref.ask(Worker.take, 1)))

        nursery.start_soon(ask)
        await until(lambda: mail(here.host).waiting == 1)
        await here.ref.tell(Worker.note, 1)
        await here.ref.tell(Worker.note, 2)
        with trio.fail_after(2):
            await until(lambda: bool(errors))
        assert isinstance(errors[0], av.MailboxFull)  # M3
        await here.let_go()


@both
async def test_an_ask_that_is_taken_back(make: Make) -> None:
    async with busy(make) as here:
        host, ref = here.host, here.ref
        for number in range(5):
            with trio.move_on_after(0.01):
                await ref.ask(Worker.note, number)
                pytest.fail("it is busy")
        await ref.tell(Worker.note, "told")
        await here.let_go()
        assert await ref.ask(Worker.received) == ["told"]  # M8: in the worker, too
        account = mail(host)
        assert (account.withdrawn, account.handled, account.late_replies) == (5, 3, 0)
        # They take no room.
        assert account.waiting == 0


@both
async def test_room_of_asks_that_are_taken_back(make: Make) -> None:
    async with busy(make, mailbox=2) as here, trio.open_nursery() as nursery:
        nursery.start_soon(caught_asks, here.ref)
        await until(lambda: mail(here.host).waiting == 2)
        with pytest.raises(av.MailboxFull):
            here.ref.tell_nowait(Worker.note, 1)
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True), trio.fail_after(2):
            await trio.testing.wait_all_tasks_blocked()
            here.ref.tell_nowait(Worker.note, 1)  # M1, M8
            await here.let_go()
            assert await here.ref.ask(Worker.received) == [1]


async def caught_asks(ref: av.Ref[Any]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ref.ask, Worker.note, "one")
        nursery.start_soon(ref.ask, Worker.note, "two")


@both
async def test_a_late_reply(make: Make) -> None:
    async with opened(worker(make)) as host, trio.open_nursery() as nursery:
        ref, stage = host.find("worker", Worker), await stage_of(host)
        nursery.start_soon(
            ref.ask, Worker.do, acts.say_and, stage, "in", acts.wait_for, stage, "go"
        )
        await stage.ask(Stage.heard, "in")
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True), trio.fail_after(5):
            await trio.testing.wait_all_tasks_blocked()
            await stage.tell(Stage.say, "go")
            assert await ref.ask(Worker.take, 1) == 1
            account = mail(host)
            assert (account.late_replies, account.handled, account.withdrawn) == (1, 2, 0)  # M8


@both
async def test_order_over_deaths(make: Make) -> None:
    async with opened(worker(make), max_restarts=99, within=60) as host:
        ref, stage = host.find("worker", Worker), await stage_of(host)
        count, told = 300, 0
        for round_ in range(6):
            for _ in range(count):
                await ref.tell(Worker.do, acts.say, stage, told)
                told += 1
            mail(host)
            act = (acts.leave, acts.die, acts.crash)[round_ % 3]
            await ref.tell(Worker.do, act)
        await ref.ask(Worker.take, 1)
        lines = await stage.ask(Stage.all)
        assert lines == list(range(told))  # M2, M4: none lost, in order
        account = mail(host)
        assert account.dead_letters == 6  # M5
        assert account.accepted == told + 7


@both
async def test_what_waits_at_a_death_waits_on(make: Make) -> None:
    async with busy(make, mailbox=50, grace=0.1) as here, trio.open_nursery() as nursery:
        host, ref = here.host, here.ref
        answers: list[int] = []

        async def ask(number: int) -> None:
            answers.append(await ref.ask(Worker.do, acts.say, here.stage, number))

        for number in range(10):
            nursery.start_soon(ask, number)
            await accepted(host, number + 2)
        for _ in range(3):
            await ref.restart()
            mail(host)
        await until(lambda: len(answers) == 10)
        lines = await here.stage.ask(Stage.all)
        assert lines[1:] == list(range(10))  # M4
        assert mail(host).dead_letters == 1  # M5: what was in hand at the first


@both
async def test_a_stop_for_good_leaves_dead_letters(make: Make) -> None:
    async with busy(make, grace=0.1) as here, trio.open_nursery() as nursery:
        host, ref = here.host, here.ref
        errors: list[Any] = []

        async def ask() -> None:
            errors.append(await caught(ref.ask(Worker.take, 1)))

        for _ in range(3):
            nursery.start_soon(ask)
        await until(lambda: mail(host).waiting == 3)
        with trio.fail_after(3):
            reason = await ref.stop(drain=0)
        assert isinstance(reason, av.TimedOut | av.Killed)  # L4
        await until(lambda: len(errors) == 3)
        assert all(isinstance(one, av.ServiceStopped) for one in errors)  # M6
        account = check_account(host)
        assert account.dead_letters == 4


# --- large ones --------------------------------------------------------------------------------

SIZES = (1 << 18, 1 << 20, 1 << 22)
KINDS = ("bytes", "bytearray", "memoryview", "array")
large = pytest.mark.parametrize("kind", KINDS)


def expected(kind: str, size: int) -> tuple[str, int, int]:
    data = bytes(range(256)) * (size // 256)
    return "bytearray" if kind == "array" else kind, len(data), zlib.crc32(data)


@both
@large
async def test_large_messages(make: Make, kind: str) -> None:
    async with opened(worker(make)) as host:
        ref = host.find("worker", Worker)
        for size in SIZES:
            value = peers.make_large(None, kind, size)
            found = await ref.ask(Worker.do, peers.digest, value)
            wanted = expected(kind, size)
            assert found[1:] == wanted[1:]
            if kind != "array":
                assert found == wanted  # P6: what was sent
            assert (await ref.ask(Worker.do, peers.digest, value))[1:] == wanted[1:]
            await ref.send(value)
            ref.tell_nowait(Worker.note, value)
        assert [one[1:] for one in await ref.ask(Worker.do, peers.digests)] == [
            expected(kind, size)[1:] for size in SIZES for _ in range(2)
        ]
        mail(host)


@both
@large
async def test_large_replies(make: Make, kind: str) -> None:
    async with opened(worker(make)) as host:
        ref = host.find("worker", Worker)
        for size in SIZES:
            found = await ref.ask(Worker.do, peers.make_large, kind, size)
            assert peers.digest(None, found)[1:] == expected(kind, size)[1:]
            if kind != "array":
                assert type(found).__name__ == kind  # P6


@both
@large
async def test_large_ones_between_siblings_and_the_parent(make: Make, kind: str) -> None:
    home = av.Application(AsyncWorker, name="home")
    async with opened(worker(make), worker(make, name="other"), home) as host:
        ref = host.find("worker", Worker)
        for name in ("other", "home"):
            target = host.find(name, Worker)
            for size in SIZES:
                found = await ref.ask(Worker.do, peers.ask_large, target, kind, size)
                assert found[1:] == expected(kind, size)[1:]  # P6
                args = (target, Worker.do, peers.make_large, kind, size)
                found = await ref.ask(Worker.do, peers.ask, *args)
                assert peers.digest(None, found)[1:] == expected(kind, size)[1:]


@both
async def test_what_came_is_the_receivers_own(make: Make) -> None:
    async with opened(worker(make)) as host:
        ref = host.find("worker", Worker)
        value = bytearray(1 << 21)
        assert await ref.ask(Worker.do, peers.change, value) == 77  # P6
        assert value[0] == 0
        found = await ref.ask(Worker.do, peers.make_large, "bytearray", 1 << 21)
        found[0] = 5
        assert found[0] == 5


@both
async def test_large_ones_over_a_death(make: Make) -> None:
    async with busy(make, grace=0.1) as here:
        value = bytes(1 << 21)
        for _ in range(4):
            await here.ref.tell(Worker.note, value)
        await here.ref.restart()
        got = await here.ref.ask(Worker.received)
        assert [len(one) for one in got] == [1 << 21] * 4  # M4
        assert mail(here.host).dead_letters == 1
