"""Recordings of services in real processes, killed and not: told as exactly as the host knows (T4, T6)."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from typing import TYPE_CHECKING, Any

import pytest
import trio

import actorvisor as av
from actorvisor.testing import ExecutorCheck, _scene, executor_checks
from actorvisor.testing._check import check
from actorvisor.testing._recording import Recorder, record
from tests.executors.process_services import (
    AsyncWorker,
    Unloadable,
    Worker,
    crash,
    die,
    refuse,
)
from tests.executors.processes import both, worker

if TYPE_CHECKING:
    from actorvisor.testing._trace import Trace

pytestmark = pytest.mark.process

MESSAGES = 300
KILLS = 5


class Listener(av.Service):
    """What is told by workers."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def hear(self, value: object) -> None:
        self.heard.append(value)


def tell(self: Any, listener: av.Ref[Listener], count: int) -> Any:
    """Have a worker tell something, wherever it runs."""
    if isinstance(self, AsyncWorker):
        return _tell(listener, count)
    for value in range(count):
        listener.blocking.tell(Listener.hear, value)
    return None


async def _tell(listener: av.Ref[Listener], count: int) -> None:
    for value in range(count):
        await listener.tell(Listener.hear, value)


def of(make: Any) -> Any:
    return AsyncWorker if make().has_loop else Worker


def checked(recorder: Recorder) -> Trace:
    trace = recorder.trace()
    assert trace.entries[-1].kind == "closed"
    check(trace)
    return trace


@both
async def test_what_becomes_of_messages_in_a_process(make: Any) -> None:
    # M5, M7, P3
    recorder = record()
    service = of(make)
    with trio.fail_after(30):
        async with recorder([worker(make, redeliver=1)], max_restarts=10) as host:
            ref = host.find("worker", service)
            assert await ref.ask(service.take, 1) == 1
            with pytest.raises(av.Rejection):
                await ref.ask(service.do, refuse)
            with pytest.raises(av.ServiceCrashed):
                await ref.ask(service.do, die)
            assert await ref.ask(service.take, 2) == 2
    trace = checked(recorder)
    kinds = {number: [one.kind for one in trace.message(number)] for number in range(1, 5)}
    assert kinds == {
        1: ["accepted", "taken", "handled"],
        2: ["accepted", "taken", "rejected"],
        3: ["accepted", "taken", "given-back", "taken", "dead-letter"],
        4: ["accepted", "taken", "handled"],
    }
    lives = [one.incarnation for one in trace.message(3) if one.kind == "taken"]
    assert lives == [1, 2]
    reasons: list[Any] = [one.detail["reason"] for one in trace.kinds("exited")]
    assert [one["kind"] for one in reasons] == ["Killed", "Killed", "Stopped"]


@both
async def test_what_a_worker_sends_is_its_lifes(make: Any) -> None:
    # M2, L8, I3
    recorder = record()
    service = of(make)
    with trio.fail_after(30):
        async with recorder(
            [av.Application(Listener, name="listener"), worker(make)], max_restarts=10
        ) as host:
            listener, ref = host.find("listener", Listener), host.find("worker", service)
            await ref.ask(service.do, tell, listener, 3)
            with contextlib.suppress(av.ServiceCrashed):
                await ref.ask(service.do, crash)
            await ref.ask(service.do, tell, listener, 2)
    trace = checked(recorder)
    sent = [one.detail for one in trace.kinds("accepted") if one.path == "host/listener"]
    assert [(one["sender"], one["life"]) for one in sent] == [("host/worker", 1)] * 3 + [
        ("host/worker", 2)
    ] * 2
    assert len({one["task"] for one in sent}) == 2


@both
async def test_what_is_withdrawn_on_its_way_to_a_worker(make: Any) -> None:
    # M8, P3
    recorder = record()
    service = of(make)
    with trio.fail_after(30):
        async with recorder([worker(make)]) as host:
            ref = host.find("worker", service)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ref.ask, service.do, _nap, 0.5)
                await trio.sleep(0.1)
                with trio.move_on_after(0.1):
                    await ref.ask(service.take, 1)
    trace = checked(recorder)
    assert [one.kind for one in trace.message(2)] == ["accepted", "withdrawn"]


def _nap(self: Any, seconds: float) -> Any:
    nap = trio.sleep if isinstance(self, AsyncWorker) else _block
    return nap(seconds)


def _block(seconds: float) -> None:
    signal.sigtimedwait([], seconds)


@both
async def test_what_cannot_be_pickled_is_not_accepted(make: Any) -> None:
    # P4
    recorder = record()
    service = of(make)
    with trio.fail_after(30):
        async with recorder([worker(make)]) as host:
            with pytest.raises(TypeError):
                await host.find("worker", service).tell(service.take, lambda: 1)
    assert not checked(recorder).kinds("accepted")


@both
async def test_what_a_worker_cannot_decode_is_a_dead_letter_in_its_turn(make: Any) -> None:
    # P4, M2
    recorder = record()
    service = of(make)
    with trio.fail_after(30):
        async with recorder([worker(make)]) as host:
            ref = host.find("worker", service)
            await ref.tell(service.take, Unloadable())
            assert await ref.ask(service.take, 1) == 1
    trace = checked(recorder)
    assert [one.kind for one in trace.message(1)] == ["accepted", "dead-letter"]
    assert trace.message(1)[-1].number < trace.message(2)[1].number


@both
async def test_large_messages_and_full_mailboxes(make: Any) -> None:
    # P6, M3
    recorder = record()
    service = of(make)
    bulk = bytes(3 << 20)
    with trio.fail_after(60):
        async with recorder([worker(make, mailbox=2)]) as host:
            ref = host.find("worker", service)
            async with trio.open_nursery() as nursery:
                for _ in range(8):
                    nursery.start_soon(ref.tell, service.note, bulk)
                    nursery.start_soon(ref.ask, service.take, 1)
    trace = checked(recorder)
    assert len(trace.kinds("handled")) == 16


@both
@pytest.mark.parametrize("redeliver", [0, 2])
async def test_a_stream_of_messages_with_kills(make: Any, redeliver: int) -> None:
    # P3, M2-M8, T6
    recorder = record()
    draw = random.Random(redeliver)
    service = of(make)
    with trio.fail_after(100):
        async with recorder([worker(make, redeliver=redeliver)], max_restarts=10**6) as host:
            ref = host.find("worker", service)

            async def tells() -> None:
                for number in range(MESSAGES):
                    await ref.tell(service.note, number)

            async def asks() -> None:
                for number in range(MESSAGES // 10):
                    with contextlib.suppress(av.ServiceCrashed):
                        with trio.move_on_after(draw.choice([0.001, 60])):
                            assert await ref.ask(service.take, number) == number

            async def kills() -> None:
                for _ in range(KILLS):
                    with contextlib.suppress(av.ServiceCrashed, ProcessLookupError):
                        pid = await ref.ask(service.pid)
                        await trio.sleep(draw.random() * 0.01)
                        os.kill(pid, signal.SIGKILL)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(kills)
                nursery.start_soon(tells)
                for _ in range(5):
                    nursery.start_soon(asks)
    trace = checked(recorder)
    killed: list[Any] = [one.detail["reason"] for one in trace.kinds("exited")]
    assert sum(one["kind"] == "Killed" for one in killed) >= KILLS - 1


@both
async def test_a_pool_of_processes_with_kills(make: Any) -> None:
    # W1, T6
    recorder = record()
    service = of(make)
    with trio.fail_after(100):
        pool = av.Pool(worker(make, redeliver=1), size=2, max_restarts=100, name="pool")
        async with recorder([pool]) as host:
            ref = host.find("pool", service)
            async with trio.open_nursery() as nursery:
                for number in range(20):
                    nursery.start_soon(ref.tell, service.note, number)
                    if number % 7 == 0:
                        nursery.start_soon(ref.tell, service.do, die)
    trace = checked(recorder)
    assert len(trace.kinds("dead-letter")) == 3


# With a loop only: the host's end, which is what is recorded, is the same for both.
PLAYS = executor_checks(av.AsyncProcessExecutor(), patience=60)


@pytest.mark.slow
@pytest.mark.parametrize("play", PLAYS, ids=lambda one: f"{type(one.executor).__name__}-{one}")
async def test_what_the_suite_for_executors_plays_keeps_the_rules(
    play: ExecutorCheck, monkeypatch: pytest.MonkeyPatch
) -> None:
    # E2, T4
    recorder = record()
    monkeypatch.setattr(_scene, "open_host", recorder)
    await play()
    checked(recorder)
