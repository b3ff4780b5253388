"""Pools whose members are processes (W1)."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import pytest
import trio

import actorvisor as av

pytestmark = pytest.mark.process

DEADLINE = 60


class Worker(av.Service):
    def __init__(self) -> None:
        self.seen: list[int] = []

    def process(self) -> int:
        return os.getpid()

    def note(self, number: int) -> tuple[int, int]:
        self.seen.append(number)
        return os.getpid(), number

    def numbers(self, key: str) -> list[int]:
        return self.seen

    def keyed(self, key: str, number: int) -> int:
        self.seen.append(number)
        return os.getpid()

    def die(self, unless: str) -> str:
        """Die, unless a file is there that says that it was done before."""
        try:
            os.close(os.open(unless, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return "survived"
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    def path(self) -> str:
        return self.ref.path


class Reader(av.Service):
    def __init__(self, recorder: av.Ref[Recorder]) -> None:
        self.recorder = recorder

    def run(self) -> None:
        for message in self.mailbox:
            self.recorder.blocking.ask(Recorder.note, os.getpid(), message)


class Recorder(av.Service):
    def __init__(self) -> None:
        self.notes: list[tuple[int, int]] = []

    def note(self, process: int, number: int) -> None:
        self.notes.append((process, number))

    def all(self) -> list[tuple[int, int]]:
        return self.notes


EXECUTORS = [av.ProcessExecutor(), av.AsyncProcessExecutor()]
each_executor = pytest.mark.parametrize("executor", EXECUTORS, ids=["sync", "async"])


def check_account(host: av.Host) -> av.MailStatistics:
    """M7: every account is exact."""
    statistics = host.statistics()
    for mail in (*statistics.mailboxes.values(), statistics.mail):
        settled = mail.handled + mail.rejected + mail.withdrawn + mail.dead_letters
        assert mail.accepted == settled + mail.waiting + mail.in_hand, mail
    return statistics.mail


@each_executor
async def test_members_compete(executor: Any) -> None:
    # W1: one ref, n processes, each message handled by one of them
    with trio.fail_after(DEADLINE):
        async with av.open_host() as host:
            pool = await host.start(av.Pool(av.Application(Worker, executor=executor), size=3))
            answers: list[tuple[int, int]] = []

            async def ask(number: int) -> None:
                answers.append(await pool.ask(Worker.note, number))
                check_account(host)

            async with trio.open_nursery() as nursery:
                for number in range(60):
                    nursery.start_soon(ask, number)
            assert sorted(number for _, number in answers) == list(range(60))
            assert len({process for process, _ in answers}) == 3
            mail = check_account(host)
            assert (mail.accepted, mail.handled) == (60, 60)


@each_executor
async def test_a_kill_takes_one_member_and_one_message(executor: Any, tmp_path: Any) -> None:
    # W1, M5: the others go on, what was not begun is handled by whoever is free
    with trio.fail_after(DEADLINE):
        async with av.open_host() as host:
            pool = await host.start(av.Pool(av.Application(Worker, executor=executor), size=2))
            with pytest.raises(av.ServiceCrashed) as caught:
                await pool.ask(Worker.die, str(tmp_path / "once"))
            assert caught.value.reason == av.Killed(-signal.SIGKILL)
            for number in range(20):
                assert (await pool.ask(Worker.note, number))[1] == number
            mail = check_account(host)
            assert (mail.handled, mail.dead_letters) == (20, 1)


@each_executor
async def test_what_is_redelivered_comes_first_and_to_whoever_is_free(
    executor: Any, tmp_path: Any
) -> None:
    # W1, M5: with redeliver= the asker waits on, and another member may handle it
    with trio.fail_after(DEADLINE):
        async with av.open_host() as host:
            app = av.Application(Worker, executor=executor, redeliver=1)
            pool = await host.start(av.Pool(app, size=2))
            assert await pool.ask(Worker.die, str(tmp_path / "once")) == "survived"
            assert check_account(host).dead_letters == 0


@each_executor
async def test_equal_keys_go_to_one_member_in_order(executor: Any) -> None:
    # W1: M2 holds for each key
    with trio.fail_after(DEADLINE):
        async with av.open_host() as host:
            app = av.Application(Worker, executor=executor)
            pool = await host.start(av.Pool(app, size=3, key=lambda key, *_: key))
            for number in range(30):
                await pool.tell(Worker.keyed, "abcdef"[number % 6], number)
            for key in "abcdef":
                seen = await pool.ask(Worker.numbers, key)
                mine = [one for one in seen if one < 30 and "abcdef"[one % 6] == key]
                assert mine == sorted(mine)
                assert len(mine) == 5
                assert len({await pool.ask(Worker.keyed, key, 99) for _ in range(3)}) == 1


async def test_what_cannot_be_pickled_is_the_senders_error() -> None:
    # P4: nothing was accepted, and nobody crashes
    with trio.fail_after(DEADLINE):
        async with av.open_host() as host:
            pool = await host.start(
                av.Pool(av.Application(Worker, executor=av.ProcessExecutor()), size=2)
            )
            lock: Any = threading.Lock()
            for send in (pool.ask, pool.tell):
                with pytest.raises(TypeError, match=r"lock.* cannot be pickled"):
                    await send(Worker.note, lock)
            assert check_account(host).accepted == 0
            large = bytes(3 << 20)
            ask: Any = pool.ask
            assert (await ask(Worker.note, large))[1] == large


async def test_its_ref_in_a_member_is_the_pools() -> None:
    # W1: drain and self.ref are the pool's
    with trio.fail_after(DEADLINE):
        async with av.open_host() as host:
            app = av.Application(Worker, name="pool", executor=av.ProcessExecutor())
            pool = await host.start(av.Pool(app, size=2))
            assert await pool.ask(Worker.path) == pool.path == "host/pool"


async def test_a_rolling_restart_gives_fresh_processes() -> None:
    # W1: one member at a time
    with trio.fail_after(DEADLINE):
        async with av.open_host() as host:
            app = av.Application(Worker, name="pool", executor=av.ProcessExecutor())
            pool = await host.start(av.Pool(app, size=2))
            members = [host.find(f"pool/{number}", Worker) for number in range(2)]
            before = {await member.ask(Worker.process) for member in members}
            await pool.restart()
            after = {await member.ask(Worker.process) for member in members}
            assert not before & after
            assert [member.incarnation for member in members] == [2, 2]


async def test_loops_in_processes_compete_for_what_they_read() -> None:
    # W1: each read of a `run` takes one message
    with trio.fail_after(DEADLINE):
        async with av.open_host() as host:
            recorder = await host.start(av.Application(Recorder))
            app = av.Application(Reader, recorder, executor=av.ProcessExecutor())
            pool = await host.start(av.Pool(app, size=2))
            for number in range(40):
                await pool.send(number)
            while len(notes := await recorder.ask(Recorder.all)) < 40:
                await trio.lowlevel.checkpoint()
            assert sorted(number for _, number in notes) == list(range(40))
            assert len({process for process, _ in notes}) == 2
