"""Refs in processes: whom a worker can reach, and what it may wait for (I3, M10)."""

from __future__ import annotations

import logging
import pickle
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

import actorvisor as av
from tests.executors import process_peers as peers, process_services as acts
from tests.executors.process_services import AsyncWorker, Fault, Refused, Stage, Worker
from tests.executors.processes import (
    Executor,
    both,
    caught,
    death,
    next_of,
    opened,
    stage_of,
    until,
    worker,
)

pytestmark = pytest.mark.process
Make = Callable[..., Executor]


@asynccontextmanager
async def cast(make: Make) -> AsyncGenerator[tuple[av.Host, Any, Any, Any], None]:
    """A host, two workers in processes, and one in the host's own."""
    home = av.Application(AsyncWorker, name="home", mailbox=4)
    async with opened(worker(make, grace=0.3), worker(make, name="other"), home) as host:
        ref, other, found = (host.find(name, Worker) for name in ("worker", "other", "home"))
        yield host, ref, other, found


@both
async def test_a_worker_asks(make: Make) -> None:
    async with cast(make) as (_, ref, other, home):
        for target in (other, home):
            assert await ref.ask(Worker.do, peers.ask, target, Worker.take, [1]) == [1]  # I3
        assert await home.ask(Worker.do, peers.ask, ref, Worker.take, 2) == 2
        # By way of all of them.
        args = (peers.ask, home, Worker.do, peers.ask, other, Worker.take, 3)
        assert await ref.ask(Worker.do, *args) == 3


@both
async def test_what_an_ask_of_a_worker_raises(make: Make) -> None:
    async with cast(make) as (host, ref, other, home):
        for target in (other, home):
            args = (target, Worker.do, acts.refuse, "not so")
            error = await ref.ask(Worker.do, peers.try_ask, *args)
            assert isinstance(error, Refused)  # M9
            assert str(error) == "not so"
            args = (target, Worker.do, acts.crash, "boom")
            error = await ref.ask(Worker.do, peers.try_ask, *args)
            assert isinstance(error, av.ServiceCrashed)  # M5
            assert error.path == target.path
            assert isinstance(error.reason, av.Crashed)
            assert type(error.reason.exception) is Fault
            error = await ref.ask(
                Worker.do, peers.try_ask, target, Worker.do, acts.give, acts.Stubborn
            )
            assert isinstance(error, av.RemoteError)  # P4
            assert await target.ask(Worker.take, 1) == 1
        error = await ref.ask(Worker.do, peers.try_ask, other, Worker.do, acts.leave, 7)
        assert isinstance(error, av.ServiceCrashed)
        assert error.reason == av.Killed(7)  # P2
        await other.stop()
        error = await ref.ask(Worker.do, peers.try_ask, other, Worker.take, 1)
        assert isinstance(error, av.ServiceStopped)  # M6
        error = await ref.ask(Worker.do, peers.try_ask, home, Stage.say, 1)
        assert isinstance(error, TypeError)  # M11
        assert ref.incarnation == 1
        assert host.statistics().mailboxes["host/worker"].dead_letters == 0


@both
async def test_nothing_waits_for_itself(make: Make) -> None:
    async with cast(make) as (_, ref, other, home):
        error = await ref.ask(Worker.do, peers.try_ask, ref, Worker.take, 1)
        assert isinstance(error, av.WaitCycle)  # M10
        assert error.chain == ("host/worker", "host/worker")
        for target in (other, home):
            back = (target, Worker.do, peers.try_ask, ref, Worker.take, 1)
            error = await ref.ask(Worker.do, peers.ask, *back)
            assert isinstance(error, av.WaitCycle)
            assert error.chain == (target.path, "host/worker", target.path)
            assert "asks" in str(error)
        # From the parent, over a worker, to the parent.
        error = await home.ask(
            Worker.do, peers.ask, ref, Worker.do, peers.try_ask, home, Worker.take, 1
        )
        assert isinstance(error, av.WaitCycle)
        # What does not wait may tell itself.
        assert await ref.ask(Worker.do, peers.tell_often, ref, Worker.take, 3) is None


@both
async def test_a_full_mailbox_is_waited_for_unless_it_waits_too(make: Make) -> None:
    async with cast(make) as (host, ref, _, home):
        count = 200
        assert await ref.ask(Worker.do, peers.tell_often, home, Worker.take, count) is None
        await until(lambda: host.statistics().mailboxes["host/home"].handled == count)  # M3
        # While it waits for the worker, it makes no room.
        error = await home.ask(
            Worker.do, peers.ask, ref, Worker.do, peers.tell_often, home, Worker.take, count
        )
        assert isinstance(error, av.WaitCycle)  # M10
        assert error.chain[0] == error.chain[-1]
        assert set(error.chain) == {"host/worker", "host/home"}
        assert await home.ask(Worker.take, 1) == 1


@both
async def test_messages_of_a_worker_come_in_order(make: Make) -> None:
    async with cast(make) as (host, ref, other, _):
        stage = await stage_of(host)
        for target in (stage, other):
            await ref.ask(Worker.do, peers.send_often, target, 500)
        lines = await stage.ask(Stage.all)
        assert lines == list(range(500))  # M2
        await until(lambda: host.statistics().mailboxes["host/other"].handled >= 500)
        assert await other.ask(Worker.received) == list(range(500))


@both
async def test_refs_that_come_back(make: Make) -> None:
    async with cast(make) as (_, ref, other, home):
        found = await ref.ask(Worker.do, peers.own_ref)
        assert found == ref  # I3
        assert hash(found) == hash(ref)
        for one in (other, home, ref):
            # By way of two processes.
            found = await ref.ask(Worker.do, peers.ask, other, Worker.do, peers.pass_on, one)
            assert found == one
            assert await found.ask(Worker.take, 4) == 4
        assert pickle.loads(pickle.dumps(ref)) == ref


async def test_a_ref_in_a_process_of_its_own_is_of_no_use() -> None:
    async with opened(worker(av.ProcessExecutor)) as host:
        data = pickle.dumps(host.find("worker", Worker))
        code = f"import pickle; pickle.loads({data!r})"
        done = await trio.run_process(
            [sys.executable, "-c", code], check=False, capture_stderr=True
        )
        assert done.returncode == 1
        assert b"works in its host's process and in the host's workers only" in done.stderr  # I3


@both
async def test_how_an_actor_looks_from_a_worker(make: Make) -> None:
    async with cast(make) as (_, ref, other, home):
        for one in (other, home):
            path = one.path
            assert await ref.ask(Worker.do, peers.look, one) == (
                path,
                "running",
                1,
                f"<Ref {path} running>",
                False,
                True,
            )
        assert (await ref.ask(Worker.do, peers.look, ref))[4]
        await home.stop()
        assert (await ref.ask(Worker.do, peers.look, home))[:3] == ("host/home", "stopped", 1)  # I2


@both
async def test_how_a_look_at_what_ended_with_an_odd_value(make: Make) -> None:
    async with opened(worker(make)) as host:
        ref = host.find("worker", Worker)
        app = av.Application(acts.just_async, acts.Stubborn, name="odd", restart="transient")
        odd = await host.start(app)
        await odd.stopped()
        looked = await ref.ask(Worker.do, peers.look, odd)
        assert looked[:3] == ("host/odd", "stopped", 1)  # I2


@both
async def test_finding(make: Make) -> None:
    tree = av.Supervisor([worker(make), av.Application(AsyncWorker, name="home")], name="group")
    async with opened(tree) as host:
        ref = host.find("group/worker", Worker)
        for path in ("../home", "host/group/home"):
            args = (peers.find_and_ask, path, Worker, Worker.take, 5)
            assert await ref.ask(Worker.do, *args) == 5  # I3
        found = await ref.ask(Worker.do, peers.find, "..", av.Supervisor)
        assert found == host.find("group", av.Supervisor)
        error = await ref.ask(Worker.do, peers.find, "../nobody", Worker)
        assert isinstance(error, LookupError)
        assert "nobody" in str(error)
        error = await ref.ask(Worker.do, peers.find, "../home", Stage)
        assert isinstance(error, TypeError)
        assert await ref.ask(Worker.do, peers.names_of_children, found) == [
            "host/group/worker",
            "host/group/home",
        ]


async def test_control_from_a_worker_with_a_loop() -> None:
    make = av.AsyncProcessExecutor
    tree = av.Supervisor([worker(make), worker(make, name="other")], name="group")
    async with opened(tree) as host:
        ref, other = host.find("group/worker", Worker), host.find("group/other", Worker)
        group = host.find("group", av.Supervisor)
        do = Worker.do
        assert await ref.ask(do, peers.control, other, "restart") is None
        assert other.incarnation == 2
        assert await ref.ask(do, peers.control, other, "stop") == av.Stopped()
        assert other.state == "stopped"
        assert await ref.ask(do, peers.control, other, "stopped") == av.Stopped()
        assert await ref.ask(do, peers.control, other, "start") is None
        error = await ref.ask(do, peers.control, other, "start")
        assert isinstance(error, av.ControlRefused)
        app = av.Application(AsyncWorker, name="child")
        child = await ref.ask(do, peers.control, group, "start", app)
        assert child == host.find("group/child", Worker)
        error = await ref.ask(do, peers.control, group, "start", app)
        assert isinstance(error, av.ControlRefused)
        app = worker(make, acts.crash, name="wrong")
        error = await ref.ask(do, peers.control, group, "start", app)
        assert type(error) is Fault  # L3
        assert await ref.ask(do, peers.control, child, "remove") == av.Stopped()
        # M10
        for call in ("stop", "restart", "stopped"):
            for one in (ref, group):
                error = await ref.ask(do, peers.control, one, call)
                assert isinstance(error, av.WaitCycle), (call, one)


async def test_control_needs_a_loop() -> None:
    make = av.ProcessExecutor
    async with cast(make) as (_, ref, other, _):
        for call in ("stop", "restart", "start", "stopped", "remove"):
            error = await ref.ask(Worker.do, peers.control, other, call)
            assert isinstance(error, RuntimeError), (call, error)
            assert "loop" in str(error)
        assert other.incarnation == 1
        assert ref.incarnation == 1


@both
async def test_monitoring_from_a_worker(make: Make) -> None:
    async with cast(make) as (_, ref, other, home):
        for one in (other, home):
            await ref.ask(Worker.do, acts.monitor, one)
            await ref.ask(Worker.do, acts.monitor, one)  # O2: twice is once
            assert await one.ask(Worker.do, peers.send_often, ref, 3) is None
            with trio.fail_after(5):
                await one.restart()
                await one.stop()
            kinds: list[str] = []
            while "Ended" not in kinds:
                got = await ref.ask(Worker.received)
                kinds = [str(m) if isinstance(m, int) else type(m).__name__ for m in got]
            assert kinds == [
                "0",
                "1",
                "2",  # O2: after what it sent before
                "Stopping",
                "Exited",
                "Starting",
                "Started",
                "Stopping",
                "Exited",
                "Ended",
            ]
            assert {m.path for m in got if not isinstance(m, int)} == {one.path}
            await ref.restart()
            # O2: of what has ended, the final one; the new life has new mail.
            await ref.ask(Worker.do, acts.monitor, one)
            got = []
            while not got:
                got = await ref.ask(Worker.received)
            assert [type(m).__name__ for m in got] == ["Ended"]
            await ref.restart()


@both
async def test_timers(make: Make) -> None:
    async with opened(worker(make)) as host:
        ref = host.find("worker", Worker)
        await ref.ask(Worker.do, peers.put_later, 0.02, "later")
        await ref.ask(Worker.do, peers.put_often, 0.01, "often")
        got: list[Any] = []
        while got.count("often") < 3 or ("later",) not in got:
            got = await ref.ask(Worker.received)
        assert got.count(("later",)) == 1
        await ref.ask(Worker.do, peers.cancel, "often")
        await ref.ask(Worker.do, peers.put_and_cancel, "never")
        await ref.ask(Worker.do, peers.put_later, 0.05, "last")
        count = (await ref.ask(Worker.received)).count("often")
        while ("last",) not in (got := await ref.ask(Worker.received)):
            pass
        assert got.count("often") == count
        assert "never" not in got
        await ref.ask(Worker.do, peers.put_later, 0.02, "lost")
        await death(host, ref, lambda: ref.ask(Worker.do, acts.die))
        await ref.ask(Worker.do, peers.put_later, 0.04, "new")
        while not (got := await ref.ask(Worker.received)):
            pass
        assert got == [("new",)]  # L8


@both
async def test_answers_for_later(make: Make) -> None:
    async with opened(worker(make)) as host, trio.open_nursery() as nursery:
        ref = host.find("worker", Worker)
        answers: dict[str, Any] = {}

        async def ask(name: str) -> None:
            try:
                answers[name] = await ref.ask(Worker.do, peers.promise, name)
            except Exception as error:
                answers[name] = error

        for name in ("kept", "rejected", "broken", "left"):
            nursery.start_soon(ask, name)
        mail = host.statistics
        await until(lambda: mail().mailboxes["host/worker"].handled == 4)
        assert not answers
        assert await ref.ask(Worker.do, peers.keep, "kept", 1) is None
        assert isinstance(await ref.ask(Worker.do, peers.keep, "kept", 2), RuntimeError)
        await ref.ask(Worker.do, peers.keep, "rejected", "no", True)
        await until(lambda: len(answers) == 2)
        assert answers["kept"] == 1
        assert isinstance(answers["rejected"], Refused)
        await death(host, ref, lambda: ref.tell(Worker.do, acts.leave))
        await until(lambda: len(answers) == 4)
        assert isinstance(answers["broken"], av.ServiceCrashed)
        assert answers["broken"].reason == av.Killed(7)


@both
async def test_background_tasks(make: Make) -> None:
    async with opened(worker(make)) as host:
        ref, stage = host.find("worker", Worker), await stage_of(host)
        await ref.ask(Worker.do, peers.say_in_background, stage, 1, 2, 3)
        await stage.ask(Stage.heard, 3)
        assert await stage.ask(Stage.all) == [1, 2, 3]


@both
async def test_blocking_calls_from_threads_of_a_worker(make: Make) -> None:
    async with cast(make) as (_, ref, other, home):
        for one in (other, home):
            args = (peers.ask, one, Worker.take, 6)
            assert await ref.ask(Worker.do, peers.in_thread, *args) == 6  # I3
            args = (peers.tell_often, one, Worker.take, 100)
            assert await ref.ask(Worker.do, peers.in_thread, *args) is None
        error = await ref.ask(
            Worker.do, peers.in_thread, peers.try_ask, home, Worker.do, acts.refuse, "no"
        )
        assert isinstance(error, Refused)


@both
@pytest.mark.parametrize("how", ["kill", "stop", "crash"])
async def test_asks_of_what_is_gone_are_withdrawn(make: Make, how: str) -> None:
    async with cast(make) as (host, ref, other, home):
        stage = await stage_of(host)
        for one in (home, other):
            await one.tell(Worker.do, acts.say_and, stage, one.path, acts.wait_for, stage, how)
            await stage.ask(Stage.heard, one.path)
            await ref.tell(
                Worker.do, acts.beside, peers.ask, one, Worker.do, acts.say, stage, "handled"
            )
        waiting = ("host/home", "host/other")
        mail = host.statistics
        await until(lambda: all(mail().mailboxes[one].waiting for one in waiting))
        if how == "kill":
            await death(host, ref, lambda: ref.ask(Worker.do, acts.die))
        elif how == "crash":
            await death(host, ref, lambda: ref.ask(Worker.do, acts.crash))
        else:
            await ref.restart()
        await until(lambda: not any(mail().mailboxes[one].waiting for one in waiting[:1]))
        await stage.tell(Stage.say, how)
        for one in (home, other):
            assert await one.ask(Worker.take, 1) == 1
        for path in waiting:
            account = mail().mailboxes[path]
            assert (account.withdrawn, account.handled) == (1, 2), path  # M8
        assert "handled" not in await stage.ask(Stage.all)


@both
async def test_logging_from_a_worker(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with opened(worker(make)) as host:
        ref = host.find("worker", Worker)
        pid = await ref.ask(Worker.do, peers.write)
        found: list[logging.LogRecord] = []
        while len(found) < 2:
            await ref.ask(Worker.take, 1)
            found = [one for one in caplog.records if one.name == "of.a.worker"]
        # O5
        assert [one.levelno for one in found] == [logging.WARNING, logging.ERROR]
        fields = [vars(one) for one in found]
        assert {one["path"] for one in fields} == {"host/worker"}
        assert {one["incarnation"] for one in fields} == {1}
        assert {one["process"] for one in fields} == {pid}
        assert found[0].getMessage() == "said this"
        assert fields[0]["order"] == 5
        assert found[1].getMessage().startswith("it failed\n")
        assert "Fault: logged" in found[1].getMessage()
        assert "in write" in found[1].getMessage()
        await ref.ask(Worker.do, peers.write_oddly)
        while "well" not in (texts := [one.getMessage() for one in caplog.records]):
            await ref.ask(Worker.take, 1)
        assert max(map(len, texts)) < 20_000
        assert ref.incarnation == 1


@both
async def test_the_last_words_of_a_worker_are_logged(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(worker(make)) as host:
        ref = host.find("worker", Worker)
        with host.events() as events:
            await ref.tell(Worker.do, acts.log_and_leave, "goodbye")
            await next_of(events, av.Exited)
        assert "said goodbye" in [one.getMessage() for one in caplog.records]  # O5, P3
        assert await caught(ref.ask(Worker.do, acts.crash))
