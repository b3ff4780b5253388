"""OTP's supervisor_SUITE: restart kinds, and the odds."""

from __future__ import annotations

import logging

import pytest
import trio

import actorvisor as av
from tests.cases.stage import (
    TASKS,
    Actor,
    Gate,
    Scene,
    Script,
    Stage,
    TaskActor,
    counts,
    everywhere,
    limit_of,
    names,
    play,
    tree,
)


@everywhere
async def test_external_start_no_progress_log(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    # O5: a restart is told, and is no second start
    caplog.set_level(logging.INFO, "actorvisor")
    async with stage.play(tree([stage.app("a")])) as scene:
        (a,) = scene.actors("a")
        await scene.end(a, "normal")
        await scene.up(a, 2)
        told = [one.getMessage() for one in caplog.records if getattr(one, "path", "") == a.path]
        assert told == ["host/t/a started", "host/t/a restarts in 0 s (attempt 1)"]
        assert {one.levelno for one in caplog.records} == {logging.INFO}


async def lone(stage: Stage, scene: Scene, restart: str) -> av.Ref[Actor]:
    """One child beside another, both declared."""
    children = [stage.app("a", restart=restart), stage.app("b")]
    await scene.host.start(tree(children, within=60))
    return scene.actor("t/a")


async def remains(stage: Stage, scene: Scene, expected: list[str]) -> None:
    """It is not restarted, and listed or not; b does not notice."""
    await stage.quiet()
    assert names(scene.supervisor()) == expected
    assert scene.actor("t/b").incarnation == 1
    assert not scene.told(av.Restarting)


# --- a normal end -------------------------------------------------------------------------


@everywhere
async def test_permanent_normal(stage: Stage) -> None:
    # S1, L7
    async with stage.play() as scene:
        a = await lone(stage, scene, "permanent")
        await scene.end(a, "normal")
        await scene.up(a, 2)
        assert scene.reasons("t/a") == [av.Completed()]


@everywhere
async def test_transient_normal(stage: Stage) -> None:
    # S1, I5
    async with stage.play() as scene:
        a = await lone(stage, scene, "transient")
        await scene.end(a, "normal")
        assert await a.stopped() == av.Completed()
        await remains(stage, scene, ["a", "b"])
        assert (a.state, a.incarnation) == ("stopped", 1)


@everywhere
async def test_temporary_normal(stage: Stage) -> None:
    # S1
    async with stage.play() as scene:
        a = await lone(stage, scene, "temporary")
        await scene.end(a, "normal")
        assert await a.stopped() == av.Completed()
        await remains(stage, scene, ["b"])


# --- told to shut down by somebody else ---------------------------------------------------
#
# Here a stop is asked for through host, supervisor or ref; all else is an end of its own (L7).


@everywhere
async def test_permanent_shutdown(stage: Stage) -> None:
    # S1, L7
    async with stage.play() as scene:
        a = await lone(stage, scene, "permanent")
        for life in (1, 2):
            await scene.end(a, "normal")
            await scene.up(a, life + 1)


@everywhere
async def test_transient_shutdown(stage: Stage) -> None:
    # S1, S7
    async with stage.play() as scene:
        a = await lone(stage, scene, "transient")
        await scene.end(a, "normal")
        assert await a.stopped() == av.Completed()
        await remains(stage, scene, ["a", "b"])
        await a.restart()
        await scene.up(a, 2)
        await scene.end(a, "normal")
        assert await a.stopped() == av.Completed()
        await remains(stage, scene, ["a", "b"])


@everywhere
async def test_temporary_shutdown(stage: Stage) -> None:
    # S1, I1, I2, I4, L4
    async with stage.play() as scene:
        a = await lone(stage, scene, "temporary")
        await scene.end(a, "normal")
        assert await a.stopped() == av.Completed()
        await remains(stage, scene, ["b"])
        again = await scene.supervisor().start(stage.app("a", restart="temporary"))
        assert (again.path, again.state) == (a.path, "running")
        assert again != a
        assert a.state == "stopped"
        await again.tell(Actor.end)
        assert await again.stopped() == av.Completed()


@play(TASKS)
async def test_faulty_application_shutdown(stage: Stage) -> None:
    # S5, S8: the path of the child, and its traceback
    class Faulty(av.Service):
        def setup(self) -> None:
            an_undefined_module.start()  # type: ignore[name-defined]  # noqa: F821

    program = [av.Supervisor([av.Application(Faulty)], name="app")]
    with pytest.RaisesGroup(NameError) as caught:
        async with av.open_host(program):
            pytest.fail("it did not come up")
    (error,) = caught.value.exceptions
    assert error.__notes__ == ["it reached host from host/app/Faulty"]
    assert pytest.ExceptionInfo.from_exception(error).traceback[-1].name == "setup"


# --- an abnormal end ----------------------------------------------------------------------


@everywhere
async def test_permanent_abnormal(stage: Stage) -> None:
    # S1
    await abnormal(stage, "permanent")


@everywhere
async def test_transient_abnormal(stage: Stage) -> None:
    # S1
    await abnormal(stage, "transient")


async def abnormal(stage: Stage, restart: str) -> None:
    async with stage.play() as scene:
        a = await lone(stage, scene, restart)
        await scene.end(a, "abnormal")
        await scene.up(a, 2)
        await scene.end(a, "killed")
        await scene.up(a, 3)
        assert scene.actor("t/b").incarnation == 1


@everywhere
async def test_temporary_abnormal(stage: Stage) -> None:
    # S1
    async with stage.play() as scene:
        a = await lone(stage, scene, "temporary")
        await scene.end(a, "abnormal")
        assert isinstance(await a.stopped(), av.Crashed)
        await remains(stage, scene, ["b"])
        assert a.state == "failed"


# --- odds ---------------------------------------------------------------------------------


class Loner(TaskActor):
    """Will not be cancelled."""

    async def hold(self, then: str = "life") -> object:
        result = None
        with trio.CancelScope(shield=True):
            result = await super().hold(then)
        return result


@everywhere
async def test_child_unlink(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    # L4, S7, L9: what cannot be stopped by force keeps its supervisor from nothing
    script = Script(staying=Gate())
    loner = stage.app("loner", script, target=Loner if stage is TASKS else None, grace=0.1)
    async with stage.play(tree([loner, stage.app("b")])) as scene, trio.open_nursery() as nursery:
        group = scene.supervisor()
        ref = scene.actor("t/loner")
        await ref.tell(Actor.hold)
        await stage.until(lambda: script.held)
        nursery.start_soon(lambda: ref.stop(drain=0))
        await group.start(stage.app("c"))
        await scene.actor("t/b").restart()
        assert counts(group)[0] == 3
        await stage.until(lambda: "and has not ended" in caplog.text or ref.state == "stopped")
        await scene.actor("t/c").stop(drain=0)
        assert names(group) == ["loner", "b"]
        assert script.staying is not None
        script.staying.open()
        reason = await ref.stopped()
        assert isinstance(reason, av.Stopped if stage is TASKS else stage.overdue)


@everywhere
async def test_tree(stage: Stage) -> None:
    # S2, S8: unlike OTP, what was stopped by request stays down in a group restart
    script = Script()
    top = tree(
        [
            av.Supervisor(stage.apps("xy"), name="static", restart="permanent"),
            av.Supervisor([], name="dynamic", max_restarts=2, within=60),
            av.Supervisor([], name="third", restart="transient"),
        ],
        strategy="one_for_all",
        max_restarts=1,
        within=60,
    )
    async with stage.play(top) as scene:
        static, dynamic, third = (
            scene.supervisor(f"t/{name}") for name in ("static", "dynamic", "third")
        )
        first = await dynamic.start(stage.app("first", script))
        second = await dynamic.start(stage.app("second"))
        assert await third.stop(drain=0) == av.Stopped()
        await first.tell(Actor.crash)
        await scene.up(first, 2)
        assert (second.incarnation, scene.actor("t/static/x").incarnation) == (1, 1)
        script.fails = True
        await first.tell(Actor.crash)
        await stage.until(lambda: (dynamic.incarnation, dynamic.state) == (2, "running"))
        assert (static.incarnation, static.state) == (2, "running")
        assert [ref.incarnation for ref in scene.actors("xy", "t/static")] == [2, 2]
        assert names(dynamic) == []
        assert (third.state, third.incarnation) == ("stopped", 1)
        assert limit_of(scene.reasons("t/dynamic")[0]).path == "host/t/dynamic"
        for gone in (first, second):
            with pytest.raises(av.ServiceStopped):
                await gone.tell(Actor.life)
        # The declaration is started again when a supervisor above is restarted (S8).
        await scene.supervisor().restart()
        assert (third.state, third.incarnation) == ("running", 2)
