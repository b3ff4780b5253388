"""Every way a process can end is one restart decision, with its reason, idle or busy (P2)."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import select
import signal
import weakref
from collections.abc import AsyncGenerator, Callable
from multiprocessing import forkserver
from typing import Any

import pytest
import trio
import trio.testing
import trio_parallel

import actorvisor as av
from tests.executors import process_services as acts
from tests.executors.process_services import Fault, Stage, Worker
from tests.executors.processes import (
    Executor,
    both,
    caught,
    death,
    is_gone,
    next_of,
    opened,
    stage_of,
    until,
    worker,
)

pytestmark = pytest.mark.process
Make = Callable[..., Executor]

LIMIT = 5.0
"""Seconds within which a death must have been noticed and mended, on a busy machine."""


def is_crash(kind: type[BaseException], text: str) -> Callable[[av.ExitReason], bool]:
    def check(reason: av.ExitReason) -> bool:
        return (
            isinstance(reason, av.Crashed)
            and type(reason.exception) is kind
            and str(reason.exception) == text
            and text in reason.traceback_text
        )

    return check


def is_killed(status: int) -> Callable[[av.ExitReason], bool]:
    return lambda reason: reason == av.Killed(status)


DEATHS: dict[str, tuple[acts.Act, Any, Callable[[av.ExitReason], bool]]] = {
    "exception": (acts.crash, "boom", is_crash(Fault, "boom")),
    "sys.exit": (acts.give_up, 3, is_crash(SystemExit, "3")),
    "sys.exit(0)": (acts.give_up, 0, is_crash(SystemExit, "0")),
    "_exit(0)": (acts.leave, 0, is_killed(0)),
    "_exit(7)": (acts.leave, 7, is_killed(7)),
    "SIGKILL": (acts.die, signal.SIGKILL, is_killed(-9)),
    "SIGTERM": (acts.die, signal.SIGTERM, is_killed(-15)),
    "SIGSEGV": (acts.die, signal.SIGSEGV, is_killed(-11)),
    "segfault": (acts.segfault, None, is_killed(-11)),
}
all_deaths = pytest.mark.parametrize(("act", "arg", "is_right"), DEATHS.values(), ids=DEATHS)


@both
@all_deaths
async def test_in_a_handler(make: Make, act: acts.Act, arg: Any, is_right: Any) -> None:
    async with opened(worker(make)) as host:
        ref = host.find("worker", Worker)
        with trio.fail_after(LIMIT):
            found = await death(host, ref, lambda: ref.ask(Worker.do, act, arg))
        # P2, M5
        assert is_right(found.reason), found.reason
        assert isinstance(found.answer, av.ServiceCrashed)
        assert found.answer.path == "host/worker"
        assert found.answer.reason == found.reason
        if isinstance(found.reason, av.Crashed):
            assert found.answer.__cause__ is found.reason.exception
        account = host.statistics().mailboxes["host/worker"]
        assert (account.accepted, account.handled, account.dead_letters) == (2, 1, 1)


@both
@all_deaths
async def test_in_the_background(make: Make, act: acts.Act, arg: Any, is_right: Any) -> None:
    async with opened(worker(make)) as host:
        ref = host.find("worker", Worker)
        with trio.fail_after(LIMIT):
            found = await death(host, ref, lambda: ref.tell(Worker.do, acts.beside, act, arg))
        assert is_right(found.reason), found.reason  # P2


@both
@all_deaths
async def test_in_a_setup(make: Make, act: acts.Act, arg: Any, is_right: Any) -> None:
    async with opened() as host:
        with trio.fail_after(LIMIT):
            error = await caught(host.start(worker(make, act, acts.nothing, arg)))
        # L3: a failed start, with its cause, and it is not tried again.
        if isinstance(error, av.StartFailed):
            assert is_right(error.reason), error.reason
        else:
            assert is_right(av.Crashed(error, str(error))), error
        with pytest.raises(LookupError):
            host.find("worker", Worker)


@both
@all_deaths
async def test_in_the_setup_of_a_restart(
    make: Make, act: acts.Act, arg: Any, is_right: Any
) -> None:
    app = worker(make, acts.in_life, acts.nothing, 2, act, arg)
    async with opened(app, max_restarts=9) as host:
        ref = host.find("worker", Worker)
        with trio.fail_after(LIMIT), host.events() as events:
            await ref.tell(Worker.do, acts.leave)
            assert (await next_of(events, av.Exited)).reason == av.Killed(7)
            exited = await next_of(events, av.Exited)
            await next_of(events, av.Started)
        assert exited.incarnation == 2
        assert is_right(exited.reason), exited.reason  # L3: it counts as a crash
        assert await ref.ask(Worker.take, 1) == 1


@both
@all_deaths
async def test_in_a_teardown(make: Make, act: acts.Act, arg: Any, is_right: Any) -> None:
    async with opened(worker(make, acts.nothing, acts.in_life, 1, act, arg)) as host:
        ref = host.find("worker", Worker)
        with trio.fail_after(LIMIT):
            found = await death(host, ref, lambda: ref.ask(Worker.do, acts.stop))
        assert is_right(found.reason), found.reason  # L5
        assert found.answer is None  # L7: the reply is still delivered


@both
@all_deaths
async def test_in_the_teardown_of_a_crash(
    make: Make, act: acts.Act, arg: Any, is_right: Any
) -> None:
    async with opened(worker(make, acts.nothing, acts.in_life, 1, act, arg)) as host:
        ref = host.find("worker", Worker)
        with trio.fail_after(LIMIT):
            found = await death(host, ref, lambda: ref.ask(Worker.do, acts.crash, "first"))
        # L5: it never hides the first error.
        assert is_crash(Fault, "first")(found.reason), found.reason


@both
@all_deaths
async def test_in_the_teardown_of_a_stop(
    make: Make, act: acts.Act, arg: Any, is_right: Any
) -> None:
    async with opened(worker(make, acts.nothing, act, arg)) as host:
        ref = host.find("worker", Worker)
        with trio.fail_after(LIMIT):
            reason = await ref.stop()
        if isinstance(reason, av.Killed):
            assert is_right(reason), reason  # P2
        else:
            assert reason == av.Stopped()  # L5
        assert ref.state in {"stopped", "failed"}


@both
async def test_a_restart_does_not_wait_until_all_is_cleared_away(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    # P5, W1: and a limit of processes counts those that live.
    closing, may_close = trio.Event(), trio.Event()
    real = trio_parallel.open_worker_context

    @contextlib.asynccontextmanager
    async def slow_to_close(**options: Any) -> AsyncGenerator[Any, None]:
        async with real(**options) as context:
            yield context
        closing.set()
        with trio.CancelScope(shield=True):
            await may_close.wait()

    monkeypatch.setattr(trio_parallel, "open_worker_context", slow_to_close)
    async with opened(worker(make, standby=0, max_processes=1)) as host:
        ref = host.find("worker", Worker)
        try:
            with trio.fail_after(LIMIT):
                os.kill(await ref.ask(Worker.pid), signal.SIGKILL)
                assert await ref.ask(Worker.take, 1) == 1
                assert ref.incarnation == 2
                await closing.wait()
        finally:
            may_close.set()


@both
async def test_a_status_that_comes_late_wakes_nobody_else(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    # P2: what was waited for it with is out of trio's hands before another has its number
    copies: list[int] = []
    real = os.dup

    def dup(fd: int) -> int:
        copies.append(real(fd))
        return copies[-1]

    async with opened() as host:
        app = worker(make, standby=0, start_method="forkserver", restart="temporary")
        ref = await host.start(app)
        pid = await ref.ask(Worker.pid)
        (process,) = multiprocessing.active_children()
        sentinel = process.sentinel
        server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
        here, there = os.pipe()
        monkeypatch.setattr(os, "dup", dup)
        os.kill(server, signal.SIGSTOP)
        try:
            os.kill(pid, signal.SIGKILL)
            with trio.fail_after(LIMIT):
                await until(lambda: bool(copies))
                while copies:
                    try:
                        os.fstat(copies[-1])
                    except OSError:
                        break
                    await trio.sleep(0.001)
            number = os.dup2(here, copies[-1])
            woken = trio.Event()

            async def wait() -> None:
                await trio.lowlevel.wait_readable(number)
                woken.set()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                os.kill(server, signal.SIGCONT)
                with trio.fail_after(LIMIT):
                    await ref.stopped()
                    await until(lambda: bool(select.select([sentinel], [], [], 0)[0]))
                await trio.testing.wait_all_tasks_blocked()
                assert not woken.is_set()
                os.write(there, b"x")
            assert woken.is_set()
            for fd in (here, there, number):
                os.close(fd)
        finally:
            os.kill(server, signal.SIGCONT)


@both
async def test_what_is_cleared_away_later_holds_nothing(make: Make) -> None:
    # L2: not the declaration of what died
    held = acts.Fault("held")
    watched = weakref.ref(held)
    async with opened() as host:
        app = worker(make, acts.nothing, acts.nothing, held, standby=0, restart="temporary")
        ref = await host.start(app)
        del app, held
        with trio.fail_after(LIMIT):
            os.kill(await ref.ask(Worker.pid), signal.SIGKILL)
            assert await ref.stopped() == av.Killed(-9)
        del ref
        gc.collect()
        assert watched() is None


@both
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
async def test_of_a_signal_from_outside(make: Make, signum: int, busy: bool) -> None:
    async with opened(worker(make)) as host:
        ref, stage = host.find("worker", Worker), await stage_of(host)
        pid = await ref.ask(Worker.pid)

        async def kill() -> None:
            if busy:
                await ref.tell(Worker.do, acts.say_and, stage, "busy", acts.block)
                await stage.ask(Stage.heard, "busy")
            os.kill(pid, signum)

        with trio.fail_after(LIMIT):
            found = await death(host, ref, kill)
        assert found.reason == av.Killed(-signum)  # P2
        assert is_gone(pid)


@both
async def test_an_interrupt_is_for_the_host_alone(make: Make) -> None:
    async with opened(worker(make)) as host:
        ref = host.find("worker", Worker)
        pid = await ref.ask(Worker.pid)
        os.kill(pid, signal.SIGINT)  # H4
        assert await ref.ask(Worker.pid) == pid


@both
async def test_a_crash_shows_the_traceback_of_its_process(make: Make) -> None:
    async with opened(worker(make)) as host:
        ref = host.find("worker", Worker)
        with trio.fail_after(LIMIT):
            found = await death(host, ref, lambda: ref.ask(Worker.do, acts.crash, "here"))
        assert isinstance(found.reason, av.Crashed)
        error = found.reason.exception
        # P2, L2
        assert "process_services.py" in found.reason.traceback_text
        assert "in crash" in found.reason.traceback_text
        assert isinstance(error.__cause__, av.RemoteTraceback)
        assert error.__cause__.traceback_text == found.reason.traceback_text
        # M5, M9: the asker's error leads to the user's own, and that to where it was raised.
        assert found.answer.__cause__ is error


@both
async def test_a_message_that_kills_is_given_again_as_often_as_declared(make: Make) -> None:
    async with opened(worker(make, redeliver=2), max_restarts=9) as host:
        ref = host.find("worker", Worker)
        with trio.fail_after(2 * LIMIT):
            error = await caught(ref.ask(Worker.do, acts.die))
        assert isinstance(error, av.ServiceCrashed)  # M5
        await until(lambda: ref.state == "running")
        assert ref.incarnation == 4
        account = host.statistics().mailboxes["host/worker"]
        assert (account.accepted, account.dead_letters) == (1, 1)  # M7


@both
async def test_a_limit_of_deaths_ends_the_host(make: Make) -> None:
    with pytest.RaisesGroup(av.RestartLimitExceeded) as raised:
        async with opened(worker(make), max_restarts=1, within=60.0) as host:
            ref = host.find("worker", Worker)
            for _ in range(9):
                await ref.tell(Worker.do, acts.leave)
            await trio.sleep_forever()
    (error,) = raised.value.exceptions
    assert isinstance(error, av.RestartLimitExceeded)
    assert error.last_reason == av.Killed(7)  # S3
