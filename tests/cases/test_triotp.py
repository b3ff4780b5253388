"""What triotp tests of itself, asked of ours."""

from __future__ import annotations

import logging
from typing import Any, Literal

import pytest
import trio

import actorvisor as av
from tests.cases.process_services import (
    AsyncProcessServer,
    LoopServer,
    PlainReader,
    PlainServer,
    ProcessServer,
    Reader,
    Server,
    Store,
    once,
    once_in_a_loop,
)
from tests.cases.stage import (
    LOOPS,
    PROCESSES,
    TASKS,
    THREADS,
    Actor,
    Fault,
    Gate,
    Script,
    Stage,
    TaskActor,
    ThreadActor,
    at_most_places,
    everywhere,
    fault_of,
    play,
)

Restart = Literal["permanent", "transient", "temporary"]
limits = pytest.mark.parametrize("limit", [1, 3, 5])
crash_restarts = pytest.mark.parametrize("restart", ["permanent", "transient"])
no_restarts = pytest.mark.parametrize("restart", ["temporary", "transient"])


def task(stage: Stage, runs: Script, restart: Restart) -> av.Application[Any]:
    """A function that returns, or raises, at once; its runs are the script's setups."""

    def in_a_thread(script: Script) -> None:
        script.setups += 1
        if script.fails:
            raise Fault("task")

    async def in_a_task(script: Script) -> None:  # noqa: ASYNC124 - it returns at once
        in_a_thread(script)

    if stage.remote:
        target: Any = once_in_a_loop if stage.executor.has_loop else once
    else:
        target = in_a_task if stage.executor.has_loop else in_a_thread
    return stage.app("task", runs, target=target, restart=restart)


# --- test_supervisor ----------------------------------------------------------------------
#
# triotp's supervisor is the root: here that is the host.


async def exceeds(stage: Stage, runs: Script, *children: Any, limit: int) -> BaseException:
    """Run to the end what is restarted too often; what is raised."""
    with pytest.RaisesGroup(Fault if runs.fails else av.RestartLimitExceeded) as caught:
        async with stage.play(*children, max_restarts=limit, within=60) as scene:
            await scene.host.wait()
    assert runs.setups == limit + 1
    error: BaseException = caught.value.exceptions[0]
    return error


@limits
@at_most_places
async def test_supervisor_automatic_restart_permanent(stage: Stage, limit: int) -> None:
    # S3, S8: unlike triotp, who restarted something too often says so
    error = await exceeds(stage, runs := Script(), task(stage, runs, "permanent"), limit=limit)
    assert isinstance(error, av.RestartLimitExceeded)
    assert (error.path, error.last_reason) == ("host/task", av.Completed())


@limits
@crash_restarts
@at_most_places
async def test_supervisor_automatic_restart_crash(
    stage: Stage, restart: Restart, limit: int
) -> None:
    # S3, S8, M9: the task's own error, one level deep
    runs = Script(fails=True)
    error = await exceeds(stage, runs, task(stage, runs, restart), limit=limit)
    assert error.__notes__ == ["it reached host from host/task"]


@no_restarts
@everywhere
async def test_supervisor_no_restart(
    stage: Stage, restart: Restart, caplog: pytest.LogCaptureFixture
) -> None:
    # S1, O5
    runs = Script()
    async with stage.play(task(stage, runs, restart)) as scene:
        await scene.host.wait()
        await stage.quiet()
    assert runs.setups == 1
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]


# --- test_dynamic_supervisor --------------------------------------------------------------


async def exceeds_dynamic(stage: Stage, runs: Script, restart: Restart, limit: int) -> None:
    """The same, of a child that is started at run time under a supervisor."""
    app = av.Supervisor(name="app", max_restarts=limit, within=60, restart="temporary")
    async with stage.play(app) as scene:
        group = scene.supervisor("app")
        await group.start(task(stage, runs, restart))
        reason = await group.stopped()
    error = fault_of(reason)
    assert isinstance(error, av.RestartLimitExceeded)
    assert isinstance(error.last_reason, av.Crashed if runs.fails else av.Completed)
    assert runs.setups == limit + 1


@limits
@at_most_places
async def test_dynamic_supervisor_automatic_restart_permanent(stage: Stage, limit: int) -> None:
    # S7, S1, S3
    await exceeds_dynamic(stage, Script(), "permanent", limit)


@limits
@crash_restarts
@at_most_places
async def test_dynamic_supervisor_automatic_restart_crash(
    stage: Stage, restart: Restart, limit: int
) -> None:
    # S7, S1, S3
    await exceeds_dynamic(stage, Script(fails=True), restart, limit)


@no_restarts
@everywhere
async def test_dynamic_supervisor_no_restart(stage: Stage, restart: Restart) -> None:
    # S7, S1
    runs = Script()
    async with stage.play(av.Supervisor(name="app")) as scene:
        group = scene.supervisor("app")
        ref = await group.start(task(stage, runs, restart))
        assert await ref.stopped() == av.Completed()
        await stage.quiet()
        assert (runs.setups, group.state, group.children()) == (1, "running", ())


# --- test_application ---------------------------------------------------------------------


def application(stage: Stage, runs: Script, restart: Restart, limit: int = 3) -> av.Supervisor:
    return av.Supervisor(
        [task(stage, runs, restart)], name="app", max_restarts=limit, within=60, restart=restart
    )


async def app_exceeds(stage: Stage, runs: Script, limit: int) -> BaseException:
    with pytest.RaisesGroup(Fault if runs.fails else av.RestartLimitExceeded) as caught:
        async with stage.play(
            application(stage, runs, "permanent", limit), max_restarts=0
        ) as scene:
            await scene.host.wait()
    assert runs.setups == limit + 1
    error: BaseException = caught.value.exceptions[0]
    return error


@limits
@at_most_places
async def test_app_automatic_restart_permanent(stage: Stage, limit: int) -> None:
    # S1, S3
    error = await app_exceeds(stage, Script(), limit)
    assert isinstance(error, av.RestartLimitExceeded)
    assert error.last_reason == av.Completed()


@limits
@at_most_places
async def test_app_automatic_restart_crash(stage: Stage, limit: int) -> None:
    # S1, S3, S8
    error = await app_exceeds(stage, Script(fails=True), limit)
    assert error.__notes__ == ["it reached host from host/app/task"]


@no_restarts
@everywhere
async def test_app_no_automatic_restart(stage: Stage, restart: Restart) -> None:
    # S1
    runs = Script()
    async with stage.play(application(stage, runs, restart)) as scene:
        await stage.until(lambda: runs.setups)
        await stage.quiet()
        assert runs.setups == 1
        assert scene.supervisor("app").state == "running"


@everywhere
async def test_app_stop(stage: Stage) -> None:
    # S1, S7
    script = Script()
    group = av.Supervisor([stage.app("a", script)], name="app")
    async with stage.play(group) as scene:
        assert await scene.supervisor("app").stop(drain=0) == av.Stopped()
        await scene.host.wait()
        await stage.quiet()
        assert (script.setups, script.reasons) == (1, [av.Stopped()])


# --- test_gen_server ----------------------------------------------------------------------


@everywhere
async def test_kvstore_api(stage: Stage) -> None:
    # M9, M11: what it does not have is an error at the caller
    async with stage.play() as scene:
        store = await scene.host.start(av.Application(Store, executor=stage.executor))
        assert await store.ask(Store.get, "foo") is None
        assert await store.ask(Store.put, "foo", "bar") is None
        assert await store.ask(Store.put, key="foo", value=2) == "bar"
        unknown: Any = store.ask
        with pytest.raises(TypeError, match="Store has no method 'life' to call"):
            await unknown(Actor.life)
        with pytest.raises(TypeError, match="missing a required argument: 'key'"):
            await unknown(Store.get)
        assert await store.ask(Store.get, "foo") == 2
        assert store.incarnation == 1


class TaskServer(LoopServer, TaskActor):
    """In a coroutine."""


class ThreadServer(PlainServer, ThreadActor):
    """In a thread."""


SERVERS = {
    TASKS: TaskServer,
    THREADS: ThreadServer,
    PROCESSES: ProcessServer,
    LOOPS: AsyncProcessServer,
}


def server(stage: Stage, script: Script | None = None) -> av.Application[Server]:
    return stage.app(
        "server", script, target=SERVERS[stage], restart="transient", on_crash={Fault: "stop"}
    )


@everywhere
async def test_call_delayed(stage: Stage) -> None:
    # the reply is promised, and the server is free meanwhile
    script = Script(staying=Gate())
    async with stage.play() as scene, trio.open_nursery() as nursery:
        ref = await scene.host.start(server(stage, script))
        replies: list[object] = []

        async def call() -> None:
            replies.append(await ref.ask(Server.delayed))

        nursery.start_soon(call)
        assert await ref.ask(Server.life) == 1
        await stage.quiet()
        assert replies == []
        assert script.staying is not None
        script.staying.open()
        await stage.until(lambda: replies)
        assert replies == ["done"]


@everywhere
async def test_call_timeout(stage: Stage) -> None:
    # M8: it is the caller's alone, and the reply that comes later is dropped and counted
    script = Script(staying=Gate())
    async with stage.play() as scene:
        ref = await scene.host.start(server(stage, script))
        with pytest.raises(trio.TooSlowError):
            with trio.fail_after(0.01):
                await ref.ask(Server.hold)
        assert script.staying is not None
        script.staying.open()
        assert await ref.ask(Server.life) == 1
        # A thread may not have taken it up in time: then it was withdrawn, and never handled.
        mail = scene.host.statistics().mail
        assert (mail.late_replies, mail.withdrawn) == (script.held, 1 - script.held)


@everywhere
async def test_call_stopped(stage: Stage) -> None:
    # M6, L7, S1: its end is its own, whatever is decided on it
    async with stage.play() as scene:
        ref = await scene.host.start(server(stage))
        with pytest.raises(av.ServiceCrashed, match="host/server ended with this mess") as caught:
            await ref.ask(Server.stop_unanswered)
        assert caught.value.reason == av.Completed()
        assert await ref.stopped() == av.Completed()


@everywhere
async def test_call_failure(stage: Stage) -> None:
    # M5, M9
    async with stage.play() as scene:
        ref = await scene.host.start(server(stage))
        with pytest.raises(av.ServiceCrashed, match="host/server") as caught:
            await ref.ask(Server.crash)
        error = fault_of(await ref.stopped())
        assert isinstance(error, Fault)
        assert caught.value.__cause__ is error


@everywhere
async def test_cast_normal(stage: Stage) -> None:
    # M9
    script = Script(staying=Gate())
    async with stage.play() as scene:
        ref = await scene.host.start(server(stage, script))
        assert script.staying is not None
        script.staying.open()
        await ref.tell(Server.hold)
        assert await ref.ask(Server.life) == 1
        assert script.held == 1


@everywhere
async def test_cast_stop(stage: Stage) -> None:
    # L7
    async with stage.play() as scene:
        ref = await scene.host.start(server(stage))
        await ref.tell(Server.end)
        assert await ref.stopped() == av.Completed()


@everywhere
async def test_cast_fail(stage: Stage) -> None:
    # M9
    async with stage.play() as scene:
        ref = await scene.host.start(server(stage))
        await ref.tell(Server.crash)
        assert isinstance(fault_of(await ref.stopped()), Fault)


@everywhere
async def test_info_stop(stage: Stage) -> None:
    # L7
    async with stage.play() as scene:
        ref = await scene.host.start(server(stage))
        await ref.send("stop")
        assert await ref.stopped() == av.Completed()


@everywhere
async def test_info_fail(stage: Stage) -> None:
    # M9
    async with stage.play() as scene:
        ref = await scene.host.start(server(stage))
        await ref.send("fail")
        assert isinstance(fault_of(await ref.stopped()), Fault)


@everywhere
async def test_info_matched(stage: Stage) -> None:
    # M9
    script = Script()
    async with stage.play() as scene:
        ref = await scene.host.start(server(stage, script))
        await ref.send("matched")
        assert await ref.ask(Server.life) == 1
        assert script.held == 1


@everywhere
async def test_info_no_match(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    # M11: one without receive() makes a dead letter of it, and goes on
    script = Script()
    async with stage.play() as scene:
        ref = await scene.host.start(server(stage, script))
        await ref.send({"un": "known"})
        assert (await ref.ask(Server.life), script.held) == (1, 0)
        store = await scene.host.start(av.Application(Store, executor=stage.executor))
        await store.send({"un": "known"})
        assert await store.ask(Store.get, "foo") is None
        assert store.incarnation == 1
        assert scene.host.statistics().mail.dead_letters == 1
    (warning,) = [one for one in caplog.records if one.levelno >= logging.WARNING]
    assert "Store has no receive()" in warning.getMessage()


# --- test_mailbox -------------------------------------------------------------------------


@everywhere
async def test_receive_no_timeout(stage: Stage) -> None:
    # L2: the value is that of its end
    options: Any = {"restart": "temporary", "executor": stage.executor}
    async with stage.play() as scene:
        for message in ("foo", None):
            ref: av.Ref[Any]
            if stage.executor.has_loop:
                ref = await scene.host.start(av.Application(Reader, 1000, "no", **options))
            else:
                ref = await scene.host.start(av.Application(PlainReader, **options))
            await ref.send(message)
            assert await ref.stopped() == av.Completed(message)


@play(TASKS)
async def test_receive_on_timeout(stage: Stage) -> None:
    # A thread has no timeout of its own for this; a timer sends it a message.
    async with stage.play() as scene:
        app = av.Application(Reader, 0.5, "nothing came", restart="temporary")
        ref = await scene.host.start(app)
        assert await ref.stopped() == av.Completed("nothing came")


@play(TASKS)
async def test_receive_too_slow(stage: Stage) -> None:
    # M9
    async with stage.play() as scene:
        ref = await scene.host.start(av.Application(Reader, 0.5, None, restart="temporary"))
        assert isinstance(fault_of(await ref.stopped()), trio.TooSlowError)


@everywhere
async def test_no_mailbox(stage: Stage) -> None:
    # M6, I2
    async with stage.play() as scene:
        with pytest.raises(LookupError, match="no actor 'host/nobody'"):
            scene.actor("nobody")


@everywhere
async def test_direct(stage: Stage) -> None:
    # I2: a ref is enough
    script = Script()
    async with stage.play() as scene:
        ref = await scene.host.start(server(stage, script))
        await ref.send("matched")
        await ref.ask(Server.life)
        assert script.held == 1


@everywhere
async def test_register(stage: Stage) -> None:
    # I1
    script = Script()
    async with stage.play(server(stage, script)) as scene:
        with pytest.raises(av.ControlRefused, match="host/server: already running"):
            await scene.host.start(server(stage))
        await scene.host.find("server", Server).send("matched")
        await scene.host.find("host/server", Server).ask(Server.life)
        assert script.held == 1


@everywhere
async def test_unregister(stage: Stage) -> None:
    # M6, I4, L4: a name goes with its service; removing it twice is as good as once
    async with stage.play(server(stage)) as scene:
        ref = scene.host.find("server", Server)
        assert await ref.remove(drain=0) == av.Stopped()
        assert await ref.remove(drain=0) == av.Stopped()
        with pytest.raises(av.ServiceStopped, match="host/server has ended for good"):
            await ref.send("matched")
        with pytest.raises(LookupError):
            scene.host.find("server", Server)
        await scene.host.start(server(stage))


@everywhere
async def test_destroy_unknown(stage: Stage) -> None:
    # M6, I1
    async with stage.play() as scene:
        for path in ("unknown", "host/unknown/deeper"):
            with pytest.raises(LookupError, match=rf"no actor .*{path}"):
                await scene.actor(path).remove()


# --- test_node ----------------------------------------------------------------------------


@pytest.mark.parametrize("stage", [TASKS, THREADS], ids=lambda stage: stage.name)
def test_node_run(stage: Stage) -> None:
    # H3
    runs = Script()
    av.run([task(stage, runs, "temporary")])
    assert runs.setups == 1
