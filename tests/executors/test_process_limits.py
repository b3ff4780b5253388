"""Processes that hang, grow, leave something behind, or break their connection (P2)."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import trio

import actorvisor as av
from actorvisor.bridge._wire import _frames as frames
from tests.executors import process_services as acts
from tests.executors.process_services import Stage, Worker
from tests.executors.processes import (
    Executor,
    both,
    caught,
    death,
    is_gone,
    opened,
    stage_of,
    until,
    worker,
)

pytestmark = pytest.mark.process
Make = Callable[..., Executor]
LIMIT = 5.0
HANG = 0.3


# --- hangs -------------------------------------------------------------------------------------


@both
async def test_a_handler_that_hangs(make: Make) -> None:
    async with opened(worker(make, hang_timeout=HANG)) as host:
        ref = host.find("worker", Worker)
        with trio.fail_after(LIMIT):
            begun = trio.current_time()
            found = await death(host, ref, lambda: ref.ask(Worker.do, acts.block))
        assert trio.current_time() - begun >= HANG
        assert found.reason == av.TimedOut("hang")  # P2
        assert isinstance(found.answer, av.ServiceCrashed)  # M5
        assert found.answer.reason == found.reason


@both
async def test_a_setup_that_hangs(make: Make) -> None:
    async with opened() as host:
        with trio.fail_after(LIMIT):
            error = await caught(host.start(worker(make, acts.block, hang_timeout=HANG)))
        assert isinstance(error, av.StartFailed)  # L3
        assert error.reason == av.TimedOut("hang")


@both
async def test_a_teardown_that_hangs(make: Make) -> None:
    async with opened() as host:
        ref = await host.start(worker(make, acts.nothing, acts.block, hang_timeout=HANG))
        with trio.fail_after(LIMIT):
            assert await ref.stop(grace=math.inf) == av.TimedOut("hang")


async def test_signs_of_life_in_a_long_handler() -> None:
    async with opened(worker(av.ProcessExecutor, hang_timeout=HANG)) as host:
        ref = host.find("worker", Worker)
        assert await ref.ask(Worker.do, acts.beat, 4 * HANG) == "done"  # P2
        assert ref.incarnation == 1


async def test_signs_of_life_of_a_function() -> None:
    async with opened() as host:
        stage = await stage_of(host)
        executor = av.ProcessExecutor(hang_timeout=HANG)
        ref = await host.start(av.Application(acts.beat_alone, stage, 4 * HANG, executor=executor))
        await stage.ask(Stage.heard, "done")  # P2
        assert await ref.stop() == av.Stopped()


async def test_a_loop_that_waits_does_not_hang() -> None:
    async with opened(worker(av.AsyncProcessExecutor, hang_timeout=HANG)) as host:
        ref = host.find("worker", Worker)
        assert await ref.ask(Worker.do, acts.wait, 4 * HANG) == "done"  # P2
        assert ref.incarnation == 1


@both
async def test_what_is_idle_does_not_hang(make: Make) -> None:
    async with opened(worker(make, hang_timeout=HANG)) as host:
        ref = host.find("worker", Worker)
        pid = await ref.ask(Worker.pid)
        await trio.sleep(4 * HANG)  # not to wait for something: nothing shall happen
        assert await ref.ask(Worker.pid) == pid  # P2


@both
async def test_many_short_messages_do_not_hang(make: Make) -> None:
    async with opened(worker(make, hang_timeout=HANG)) as host:
        ref = host.find("worker", Worker)
        pid = await ref.ask(Worker.pid)
        for _ in range(40):
            await ref.tell(Worker.do, acts.block, HANG / 10)
        assert await ref.ask(Worker.pid) == pid  # P2


# --- memory ------------------------------------------------------------------------------------

MEMORY = 400 << 20


@both
async def test_a_limit_for_memory(make: Make) -> None:
    async with opened(worker(make, max_memory_bytes=MEMORY)) as host:
        ref = host.find("worker", Worker)
        assert await ref.ask(Worker.do, acts.eat, 1 << 20) == 1 << 20
        with trio.fail_after(LIMIT):
            found = await death(host, ref, lambda: ref.ask(Worker.do, acts.eat, 2 * MEMORY))
        assert isinstance(found.reason, av.Crashed)  # P2
        assert isinstance(found.reason.exception, MemoryError)
        assert isinstance(found.answer.__cause__, MemoryError)
        assert await ref.ask(Worker.do, acts.eat, 1 << 20) == 1 << 20


# --- what is left behind -----------------------------------------------------------------------


@contextmanager
def killed(pids: list[int]) -> Iterator[None]:
    """Kill what a test has left at its end."""
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@both
@pytest.mark.parametrize("leave", [acts.leave_subprocess, acts.leave_fork])
@pytest.mark.parametrize("how", ["death", "crash", "stop", "end", "restart", "host"])
async def test_what_a_service_has_started_goes_with_it(
    make: Make, leave: acts.Act, how: str
) -> None:
    pids: list[int] = []
    with killed(pids), trio.fail_after(2 * LIMIT):
        async with opened(worker(make)) as host:
            ref = host.find("worker", Worker)
            pids.append(await ref.ask(Worker.do, leave))
            assert not is_gone(pids[0])
            match how:
                case "death":
                    assert (
                        await death(host, ref, lambda: ref.ask(Worker.do, acts.leave, 7))
                    ).reason == av.Killed(7)
                case "crash":
                    found = await death(host, ref, lambda: ref.ask(Worker.do, acts.crash))
                    assert isinstance(found.reason, av.Crashed)
                case "stop":
                    assert await ref.stop() == av.Stopped()
                case "end":
                    found = await death(host, ref, lambda: ref.ask(Worker.do, acts.stop))
                    assert found.reason == av.Completed()
                case "restart":
                    await ref.restart()
                case _:
                    pass
            if how != "host":
                await until(lambda: is_gone(pids[0]))  # P2: the group is killed
        await until(lambda: is_gone(pids[0]))  # H1


@both
@pytest.mark.parametrize(
    ("start_method", "how"),
    [
        *(("forkserver", how) for how in ("death", "kill", "stop", "end", "host")),
        *(("spawn", how) for how in ("death", "stop")),
    ],
)
async def test_a_daemon_that_holds_the_pipes(make: Make, start_method: str, how: str) -> None:
    pids: list[int] = []
    with killed(pids):
        async with opened(worker(make, start_method=start_method)) as host:
            ref = host.find("worker", Worker)
            pids.append(await ref.ask(Worker.do, acts.leave_daemon))
            begun = trio.current_time()
            with trio.fail_after(LIMIT):
                match how:
                    case "death":
                        found = await death(host, ref, lambda: ref.ask(Worker.do, acts.leave, 7))
                        assert found.reason == av.Killed(7)  # P2
                    case "kill":
                        found = await death(host, ref, lambda: ref.ask(Worker.do, acts.die))
                        assert found.reason == av.Killed(-9)
                    case "stop":
                        assert await ref.stop() == av.Stopped()
                    case "end":
                        found = await death(host, ref, lambda: ref.ask(Worker.do, acts.stop))
                        assert found.reason == av.Completed()
                    case _:
                        pass
        # P2, H2: a death is noticed at once; trio-parallel waits for the pipes of a spawned one.
        waits = start_method == "spawn" and how not in {"death", "kill"}
        assert trio.current_time() - begun < (4.0 if waits else 2.0)
        assert not is_gone(pids[0])  # it made a session of its own (H1)


@both
@pytest.mark.slow
@pytest.mark.parametrize("how", ["stop", "end", "crash"])
async def test_a_thread_that_does_not_end(make: Make, how: str) -> None:
    async with opened(worker(make)) as host:
        ref = host.find("worker", Worker)
        await ref.ask(Worker.do, acts.leave_thread)
        with trio.fail_after(2 * LIMIT):
            if how == "stop":
                assert await ref.stop() == av.Stopped()
            elif how == "end":
                found = await death(host, ref, lambda: ref.ask(Worker.do, acts.stop))
                assert found.reason == av.Completed()
            else:
                found = await death(host, ref, lambda: ref.ask(Worker.do, acts.crash))
                assert isinstance(found.reason, av.Crashed)


# --- the connection ----------------------------------------------------------------------------

GARBAGE = {
    "noise": b"\xff" * 100,
    "a kind of the other direction": frames.encode(frames.ANSWER, 1),
    "too long": frames.HEADER.pack(1 << 30, frames.SEND, 1),
    "hello again": frames.encode(frames.HELLO, 1),
    "up again": frames.encode(frames.UP, 0),
    "an answer to nothing": frames.encode(frames.REPLY, 99),
    "an acknowledgement of the future": frames.encode(frames.ACK, 1 << 40),
    "an end without a reason": frames.encode(frames.EXIT, 0),
}


@both
@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
async def test_garbage_on_the_connection(make: Make, data: bytes) -> None:
    async with opened(worker(make)) as host:
        ref = host.find("worker", Worker)
        with trio.fail_after(LIMIT):
            found = await death(host, ref, lambda: ref.tell(Worker.do, acts.spoil_and_block, data))
        assert isinstance(found.reason, av.Crashed), found.reason  # L2
        assert isinstance(found.reason.exception, av.ConnectionLost)
        assert found.reason.exception.path == "host/worker"


@both
async def test_a_connection_that_is_closed(make: Make) -> None:
    async with opened(worker(make)) as host:
        ref = host.find("worker", Worker)
        with trio.fail_after(LIMIT):
            found = await death(host, ref, lambda: ref.ask(Worker.do, acts.hang_up))
        assert isinstance(found.reason, av.Crashed), found.reason  # L2
        assert isinstance(found.reason.exception, av.ConnectionLost)
        assert found.answer.__cause__ is found.reason.exception


@both
async def test_a_status_that_somebody_else_took(make: Make) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system takes it
    try:
        async with opened(worker(make, start_method="spawn", standby=0)) as host:
            ref = host.find("worker", Worker)
            found = await death(host, ref, lambda: ref.ask(Worker.do, acts.leave, 7))
            assert found.reason == av.Killed(None)  # P2, L2
    finally:
        signal.signal(signal.SIGCHLD, before)


@both
@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
async def test_a_status_that_others_look_for_too(make: Make, start_method: str) -> None:
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            multiprocessing.active_children()

    thread = threading.Thread(target=look)
    async with opened(worker(make, start_method=start_method), max_restarts=99) as host:
        ref = host.find("worker", Worker)
        thread.start()
        try:
            for _ in range(20 if start_method == "forkserver" else 3):
                found = await death(host, ref, lambda: ref.ask(Worker.do, acts.leave, 7))
                assert found.reason == av.Killed(7)  # P2
        finally:
            over.set()
            thread.join()
