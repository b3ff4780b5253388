"""What holds without what only Linux has, and with workers that are spawned (P1, P2)."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio

import actorvisor as av
from actorvisor.bridge import _handover as handover
from actorvisor.bridge._worker import Worker as Process
from actorvisor.testing import ExecutorCheck, executor_checks
from tests.executors import process_peers as peers, process_services as acts
from tests.executors.process_services import AsyncWorker, Worker
from tests.executors.processes import Executor, both, caught, death, opened, worker

pytestmark = pytest.mark.process
Make = Callable[..., Executor]
PLAIN, ASYNC = av.ProcessExecutor(), av.AsyncProcessExecutor()
SPAWNED = [
    check
    for check in executor_checks(av.ProcessExecutor(start_method="spawn"), patience=60)
    if not str(check).startswith("many")  # a hundred interpreters take their time
]


@pytest.fixture
def no_abstract_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "has_abstract_sockets", False)


@pytest.fixture
def no_pidfds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The descriptor that a worker sends of itself is not used."""
    wait = Process._await_death

    async def wait_without(self: Process, link: Any) -> None:
        if link.pidfd >= 0:
            os.close(link.pidfd)
            link.pidfd = -1
        await wait(self, link)

    monkeypatch.setattr(Process, "_await_death", wait_without)


@pytest.mark.usefixtures("no_abstract_sockets", "no_pidfds")
@pytest.mark.parametrize(
    "check",
    [*executor_checks(PLAIN, patience=60), *executor_checks(ASYNC, patience=60)],
    ids=str,
)
async def test_the_portable_way(check: ExecutorCheck) -> None:
    await check()


@pytest.mark.slow
@pytest.mark.parametrize("check", SPAWNED, ids=str)
async def test_workers_that_are_spawned(check: ExecutorCheck) -> None:
    await check()


WAYS = {
    "no abstract sockets": (("no_abstract_sockets",), "forkserver"),
    "no pidfds": (("no_pidfds",), "forkserver"),
    "neither": (("no_abstract_sockets", "no_pidfds"), "forkserver"),
    "neither, spawned": (("no_abstract_sockets", "no_pidfds"), "spawn"),
    "spawned": ((), "spawn"),
}


@pytest.fixture(params=list(WAYS.values()), ids=list(WAYS))
def start_method(request: pytest.FixtureRequest) -> str:
    fixtures, method = request.param
    for fixture in fixtures:
        request.getfixturevalue(fixture)
    found: str = method
    return found


@pytest.mark.slow
@both
async def test_deaths(make: Make, start_method: str) -> None:
    app = worker(make, start_method=start_method)
    async with opened(app, max_restarts=99) as host:
        ref = host.find("worker", Worker)
        for act, arg, reason in (
            (acts.leave, 0, av.Killed(0)),
            (acts.leave, 7, av.Killed(7)),
            (acts.die, signal.SIGKILL, av.Killed(-9)),
            (acts.segfault, None, av.Killed(-11)),
            (acts.crash, "boom", None),
        ):
            with trio.fail_after(5):
                found = await death(host, ref, partial(ref.ask, Worker.do, act, arg))
            if reason is None:
                assert isinstance(found.reason, av.Crashed)
            else:
                assert found.reason == reason  # P2
            assert isinstance(found.answer, av.ServiceCrashed)
        pid = await ref.ask(Worker.pid)
        with trio.fail_after(5):
            found = await death(host, ref, lambda: kill(pid))
        assert found.reason == av.Killed(-9)
        with trio.fail_after(5):
            error = await caught(host.start(worker(make, acts.leave, name="wrong")))
        assert isinstance(error, av.StartFailed)  # L3
        assert error.reason == av.Killed(7)


async def kill(pid: int) -> None:  # noqa: ASYNC124
    os.kill(pid, signal.SIGKILL)


@both
async def test_messages(make: Make, start_method: str) -> None:
    home = av.Application(AsyncWorker, name="home")
    async with opened(worker(make, start_method=start_method), home) as host:
        ref, home_ref = host.find("worker", Worker), host.find("home", Worker)
        assert await ref.ask(Worker.do, peers.ask, home_ref, Worker.take, 1) == 1
        value = bytes(1 << 21)
        assert (await ref.ask(Worker.do, peers.digest, value))[1] == len(value)
        assert len(await ref.ask(Worker.do, peers.make_large, "bytes", 1 << 21)) == 1 << 21
        for number in range(2000):
            await ref.tell(Worker.note, number)
        assert await ref.ask(Worker.received) == list(range(2000))  # M2
        await ref.restart()
        assert await ref.stop() == av.Stopped()
