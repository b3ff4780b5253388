"""OTP's supervisor_SUITE: start, and start with declarations."""

from __future__ import annotations

import traceback
from typing import Any

import pytest
import trio

import actorvisor as av
from tests.cases.stage import (
    TASKS,
    Actor,
    Fault,
    Gate,
    Script,
    Stage,
    TaskActor,
    counts,
    everywhere,
    names,
    play,
    tree,
)


@everywhere
async def test_sup_start_normal(stage: Stage) -> None:
    # S5, H3
    async with stage.play() as scene:
        group = await scene.host.start(tree())
        assert (group.state, group.children()) == ("running", ())
        assert await group.stop(drain=0) == av.Stopped()
        assert scene.host.children() == ()


@everywhere
async def test_sup_start_ignore_child(stage: Stage) -> None:
    # L7, S1, I5: started at run time it would be forgotten; declared, it stays declared.
    async with stage.play(
        tree([stage.app("first", Script(declines=True)), stage.app("second")])
    ) as scene:
        group = scene.supervisor()
        first, second = scene.actors(["first", "second"])
        assert (first.state, first.incarnation) == ("stopped", 1)
        assert await first.stopped() == av.Completed()
        assert second.state == "running"
        assert counts(group) == (2, 1)
        third = await group.start(stage.app("third", Script(declines=True)))
        assert await third.stopped() == av.Completed()
        assert names(group) == ["first", "second"]
        await stage.quiet()
        assert first.incarnation == third.incarnation == 1


@everywhere
async def test_sup_start_ignore_temporary_child(stage: Stage) -> None:
    # S1, L7
    declining = stage.app("a", Script(declines=True), restart="temporary")
    async with stage.play(tree([declining, stage.app("b", restart="temporary")])) as scene:
        assert names(scene.supervisor()) == ["b"]


@everywhere
async def test_sup_start_ignore_temporary_child_start_child(stage: Stage) -> None:
    # S1, L7
    async with stage.play(tree()) as scene:
        group = scene.supervisor()
        a = await group.start(stage.app("a", Script(declines=True), restart="temporary"))
        await group.start(stage.app("b", restart="temporary"))
        assert a.state == "stopped"
        assert names(group) == ["b"]
        await group.start(stage.app("a"))  # I4: its name is free
        with pytest.raises(av.ServiceStopped):  # I2: that is another identity
            await a.tell(Actor.life)


@everywhere
async def test_sup_start_ignore_temporary_child_start_child_simple(stage: Stage) -> None:
    # S1, L7
    async with stage.play(tree()) as scene:
        group = scene.supervisor()
        script = Script(declines=True)
        template = stage.app(None, script, restart="temporary")
        await group.start(template)
        assert names(group) == []
        script.declines = False
        await group.start(template)
        await group.start(template)
        assert names(group) == [stage.actor.__name__, f"{stage.actor.__name__}-2"]


@everywhere
async def test_sup_start_ignore_permanent_child_start_child_simple(stage: Stage) -> None:
    # L7, S1, S5
    async with stage.play(tree()) as scene:
        group = scene.supervisor()
        script = Script()
        template = stage.app("child", script)
        await group.start(template)
        declining = await group.start(stage.app("other", Script(declines=True)))
        assert await declining.stopped() == av.Completed()
        assert names(group) == ["child"]
        assert await group.stop(drain=0) == av.Stopped()
        await stage.until(lambda: scene.told(av.Exited) == ["t/other", "t/child", "t"])
        assert scene.reasons("t") == [av.Stopped()]


@play(TASKS)
async def test_sup_start_error_return(stage: Stage) -> None:
    # I1
    rubbish: Any = ["rubbish"]
    with pytest.raises(
        TypeError, match="'rubbish' is neither an Application, a Pool nor a Supervisor"
    ):
        av.Supervisor(rubbish)
    with pytest.raises(TypeError, match="not 42"):
        av.Supervisor(42)  # type: ignore[arg-type]
    async with stage.play() as scene:
        with pytest.raises(TypeError, match="'rubbish' is neither an Application, a Pool"):
            await scene.host.start("rubbish")  # type: ignore[call-overload]
        await stage.quiet()
        assert scene.record == []


@everywhere
async def test_sup_start_fail(stage: Stage) -> None:
    # L3, S5, M9
    async with stage.play() as scene:
        with pytest.raises(Fault, match="setup") as caught:
            await scene.host.start(tree([stage.app("a"), stage.app("b", Script(fails=True))]))
        assert "in _set_up" in "".join(traceback.format_exception(caught.value))
        assert caught.value.__notes__ == ["it reached host/t from host/t/b"]
        assert scene.host.children() == ()
        await stage.until(lambda: scene.told(av.Exited) == ["t/b", "t/a", "t"])


@pytest.mark.parametrize("how", ["raises", "too slow"])
@everywhere
async def test_sup_start_child_returns_error(stage: Stage, how: str) -> None:
    # S5, I2, I4, L4, L3
    limit = 0.5 if stage.remote else 0.05  # a process has to come up first
    async with stage.play(tree()) as scene:
        group = scene.supervisor()
        script = Script(fails=True)
        if how == "too slow":
            script.coming = Gate()
        app = stage.app("a", script, start_timeout=30 if how == "raises" else limit, grace=0.05)
        with pytest.raises(Fault if how == "raises" else av.StartTimeout):
            await group.start(app)
        assert names(group) == []
        assert script.setups == 1
        if script.coming is not None:
            script.coming.open()  # for the thread that was left behind
        await group.start(stage.app("a"))  # its name is free


@everywhere
async def test_sup_start_restart_child_returns_error(stage: Stage) -> None:
    # S7, S3, S4, L3
    script = Script()
    async with stage.play(tree([stage.app("a", script)], max_restarts=0)) as scene:
        (a,) = scene.actors("a")
        await a.stop(drain=0)
        script.fails = True
        for again in (a.restart, a.start):
            with pytest.raises(Fault):
                await again()
            assert a.state == "failed"
        await stage.quiet()
        assert script.setups == 3
        assert counts(scene.supervisor()) == (1, 0)  # and it is not counted
        script.fails = False
        await a.restart()
        assert a.state == "running"


@everywhere
async def test_sup_start_child_returns_error_simple(stage: Stage) -> None:
    # S5, I2, I4, L4
    async with stage.play(tree()) as scene:
        group = scene.supervisor()
        for _ in range(2):
            with pytest.raises(Fault):
                await group.start(stage.app(None, Script(fails=True)))
        assert names(group) == []


# --- with declarations --------------------------------------------------------------------


@play(TASKS)
async def test_sup_start_map(stage: Stage) -> None:
    # L4, S5, H2: what is not said is permanent, with 5 s of grace; a supervisor takes what it takes
    scripts = [Script(going=Gate()), Script(going=Gate()), Script()]
    children = [stage.app(name, script) for name, script in zip("abc", scripts, strict=True)]
    async with stage.play(tree([av.Supervisor(children, name="inner")])) as scene:
        c = scene.actor("t/inner/c")
        await c.tell(Actor.end)
        await scene.up(c, 2)
        with pytest.raises(LookupError, match="d"):
            scene.actor("t/inner/d")
        started = trio.current_time()
        assert await scene.supervisor().stop(drain=0) == av.Stopped()
        assert trio.current_time() - started == 10
        await scene.heard()
        assert scene.reasons("t/inner/a") == [av.TimedOut("teardown")]
        assert scene.reasons("t/inner/c") == [av.Completed(), av.Stopped()]


@everywhere
async def test_sup_start_map_simple(stage: Stage) -> None:
    # S7
    async with stage.play(tree()) as scene:
        group = scene.supervisor()
        template = stage.app(None, restart="transient")
        refs = [await group.start(template) for _ in range(3)]
        assert list(group.children()) == refs
        node = scene.host.tree().find("host/t")
        assert node is not None
        assert {(one.kind, one.detail) for one in node.children} == {
            ("service", type(stage.executor).__name__)
        }
        for ref in refs:
            assert scene.host.find(ref.path, stage.actor) == ref
            await ref.tell(Actor.end)
            assert await ref.stopped() == av.Completed()
        with pytest.raises(LookupError):
            scene.actor("t/stranger")


def test_sup_start_map_faulty_specs() -> None:
    # I1: a name is optional here, an unknown key is not ignored
    wrong: Any = av.Application
    with pytest.raises(TypeError, match="target"):
        wrong(name="a")
    with pytest.raises(TypeError, match="'rubbish' is neither a Service class nor a function"):
        wrong("rubbish")
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        wrong(TaskActor, Script(), colour="red")
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        av.Supervisor([], colour="red")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="neither an Application, a Pool nor a Supervisor"):
        av.Supervisor([TaskActor(Script())])  # type: ignore[list-item]
    assert wrong(TaskActor, Script()).name == "TaskActor"
