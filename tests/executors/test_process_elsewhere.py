"""What a worker cannot reach: a host in another thread, a mailbox without room."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trio

import actorvisor as av

pytestmark = pytest.mark.process


class Target(av.Service):
    def __init__(self) -> None:
        self.numbers: list[int] = []

    def note(self, number: int) -> int:
        self.numbers.append(number)
        return number


class Busy(av.Service):
    def __init__(self) -> None:
        self.go = trio.Event()

    async def hold(self) -> None:
        await self.go.wait()

    async def note(self, number: int) -> None:
        pass


class Blocking(av.Service):
    def ask(self, target: av.Ref[Target]) -> str:
        try:
            return str(target.blocking.ask(Target.note, 1))
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    def tell(self, target: av.Ref[Target]) -> str:
        try:
            target.blocking.tell(Target.note, 1)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "told"


class Looping(av.Service):
    async def ask(self, target: av.Ref[Target]) -> str:
        try:
            return str(await target.ask(Target.note, 1))
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    async def tell(self, target: av.Ref[Target]) -> str:
        try:
            await target.tell(Target.note, 1)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "told"

    async def fill(self, target: av.Ref[Busy]) -> str:
        try:
            for number in range(100):
                target.tell_nowait(Busy.note, number)
        except av.MailboxFull as error:
            return str(error)
        return "never full"


@contextmanager
def in_another_thread() -> Iterator[av.Ref[Target]]:
    """A ref to a service whose host runs in another thread."""
    found: list[Any] = []
    ready = threading.Event()

    async def live() -> None:
        async with av.open_host() as host:
            over = trio.Event()
            found.extend((await host.start(av.Application(Target, name="far")), over))
            found.append(trio.lowlevel.current_trio_token())
            ready.set()
            await over.wait()

    thread = threading.Thread(target=trio.run, args=(live,))
    thread.start()
    assert ready.wait(20)
    ref, over, token = found
    try:
        yield ref
    finally:
        token.run_sync_soon(over.set)
        thread.join(20)
        assert not thread.is_alive()


@pytest.mark.parametrize(
    ("kind", "executor"),
    [(Blocking, av.ProcessExecutor()), (Looping, av.AsyncProcessExecutor())],
    ids=["sync", "async"],
)
async def test_a_host_in_another_thread(kind: Any, executor: Any) -> None:
    # I3, P4: it is an error to who sends there, and ends neither the service nor its connection
    with in_another_thread() as far, trio.fail_after(30):
        async with av.open_host() as host:
            worker = await host.start(av.Application(kind, executor=executor))
            for call in (kind.ask, kind.tell):
                told = await worker.ask(call, far)
                assert told.startswith("RuntimeError: host/far is of a host in another thread")
            assert await worker.ask(kind.ask, far)
            assert worker.incarnation == 1


async def test_a_full_mailbox_is_named_with_its_size() -> None:
    # M3: as in the host's process
    with trio.fail_after(30):
        async with av.open_host(drain=0) as host:
            busy = await host.start(av.Application(Busy, name="busy", mailbox=7))
            await busy.tell(Busy.hold)
            executor = av.AsyncProcessExecutor()
            worker = await host.start(av.Application(Looping, executor=executor))
            told = await worker.ask(Looping.fill, busy)
            assert told == str(av.MailboxFull("host/busy", 7))
            await busy.stop(grace=0)
