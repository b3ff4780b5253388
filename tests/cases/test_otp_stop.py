"""OTP's supervisor_SUITE: stop."""

from __future__ import annotations

import itertools
import math

import trio

import actorvisor as av
from tests.cases.stage import (
    Actor,
    Fault,
    Gate,
    How,
    Script,
    Stage,
    everywhere,
    fault_of,
    tree,
)
from tests.executors.processes import is_gone


@everywhere
async def test_sup_stop_infinity(stage: Stage) -> None:
    # L4
    slow, inner = Script(going=Gate()), Script(going=Gate())
    children = [
        stage.app("worker", slow, grace=math.inf),
        av.Supervisor([stage.app("below", inner, grace=math.inf)], name="inner"),
    ]
    async with stage.play(tree(children)) as scene, trio.open_nursery() as nursery:
        group = scene.supervisor()
        nursery.start_soon(lambda: group.stop(drain=0))
        below, worker = scene.actors(["inner/below", "worker"])
        await stage.until(lambda: below.state == "stopping")
        await stage.quiet()
        assert (below.state, worker.state) == ("stopping", "running")
        assert inner.going is not None
        inner.going.open()
        await stage.until(lambda: worker.state == "stopping")
        await stage.quiet()
        assert group.state == "stopping"
        assert slow.going is not None
        slow.going.open()
        assert await group.stopped() == av.Stopped()
        assert slow.reasons == inner.reasons == [av.Stopped()]


@everywhere
async def test_sup_stop_timeout(stage: Stage) -> None:
    # L4, L2, L5
    await _one_in_a_handler(stage, declared=True)


@everywhere
async def test_sup_stop_timeout_dynamic(stage: Stage) -> None:
    # L4
    await _one_in_a_handler(stage, declared=False)


async def _one_in_a_handler(stage: Stage, *, declared: bool) -> None:
    """Stop two, of whom the second sits in a handler for longer than its grace."""
    grace = 1.0 if stage.virtual else 0.1
    first, second = Script(), Script(staying=Gate())
    apps = [stage.app("a", first, grace=grace), stage.app("b", second, grace=grace)]
    async with stage.play(tree(apps if declared else [])) as scene:
        group = scene.supervisor()
        for app in () if declared else apps:
            await group.start(app)
        await scene.actor("t/b").tell(Actor.hold)
        await stage.until(lambda: second.held)
        began = trio.current_time()
        assert await group.stop(drain=0) == av.Stopped()
        passed = trio.current_time() - began
        assert passed == grace if stage.virtual else passed >= grace
        await scene.heard()
        assert scene.reasons("t/a") == [av.Stopped()]
        assert first.reasons == [av.Stopped()]
        (reason,) = scene.reasons("t/b")
        assert isinstance(reason, stage.overdue)
        assert reason.phase == "handler"
        assert not stage.remote or is_gone(second.pids[0])  # killed, whatever it waits for
        assert second.staying is not None
        second.staying.open()  # for the thread that was left behind


@everywhere
async def test_sup_stop_brutal_kill(stage: Stage) -> None:
    # L4, L5
    first, second = Script(), Script(going=Gate())
    async with stage.play(tree([stage.app("a", first), stage.app("b", second, grace=0)])) as scene:
        began = trio.current_time()
        assert await scene.supervisor().stop(drain=0) == av.Stopped()
        assert trio.current_time() - began < 5  # less than any grace
        assert first.reasons == [av.Stopped()]
        assert second.teardowns == 0
        assert not stage.remote or is_gone(second.pids[0])
        await scene.heard()
        assert scene.reasons("t/b") == [av.Stopped()]


@everywhere
async def test_sup_stop_brutal_kill_dynamic(stage: Stage) -> None:
    # L4
    scripts = [Script(going=Gate(), staying=Gate()) for _ in range(10)]
    async with stage.play(tree(), max_abandoned=10) as scene:
        group = scene.supervisor()
        for index, script in enumerate(scripts):
            ref = await group.start(stage.app(None, script, grace=0))
            if index % 2:
                await ref.tell(Actor.hold)
        await stage.until(lambda: sum(script.held for script in scripts) == 5)
        began = trio.current_time()
        assert await group.stop(drain=0) == av.Stopped()
        assert trio.current_time() - began < 5
        assert not any(script.teardowns for script in scripts)
        assert all(is_gone(pid) for script in scripts for pid in script.pids)
        await scene.heard()
        assert len(scene.told(av.Exited, "t")) == 10
        for script in scripts:
            assert script.staying is not None
            script.staying.open()  # for the threads that were left behind


@everywhere
async def test_sup_stop_race(stage: Stage) -> None:
    # S5, L2, L1: each is in a handler when the stop comes, and that ends it by itself
    kinds = ("permanent", "transient", "temporary")
    ends: tuple[How, ...] = ("normal", "request", "abnormal", "killed")
    pairs = {f"{kind}-{how}": (kind, how) for kind, how in itertools.product(kinds, ends)}
    between = [stage.app(name, restart=kind) for name, (kind, _) in pairs.items()]
    first, last = Script(going=Gate()), Script(going=Gate())
    children = [stage.app("first", first), *between, stage.app("last", last)]
    async with stage.play(tree(children, max_restarts=0)) as scene, trio.open_nursery() as nursery:
        group = scene.supervisor()
        nursery.start_soon(lambda: group.stop(drain=0))
        await stage.until(lambda: scene.actor("t/last").state == "stopping")
        refs = {name: scene.actor(f"t/{name}") for name in pairs}
        for name, (_, how) in pairs.items():
            await scene.end(refs[name], how)
        await stage.until(lambda: all(ref.state in {"stopped", "failed"} for ref in refs.values()))
        assert last.going is not None
        last.going.open()
        await stage.until(lambda: scene.actor("t/first").state == "stopping")
        assert first.going is not None
        first.going.open()
        assert await group.stopped() == av.Stopped()
        await scene.heard()
        for name, (_, how) in pairs.items():
            (reason,) = scene.reasons(f"t/{name}")
            match how:
                case "normal":
                    assert reason == av.Completed()
                case "request":
                    assert reason == av.Stopped()
                case "abnormal":
                    assert isinstance(fault_of(reason), Fault)
                case "killed":
                    assert stage.is_kill(reason)
        assert not scene.told(av.Restarting)
        assert not [one for one in scene.record if one.incarnation > 1]


@everywhere
async def test_sup_stop_non_shutdown_exit_dynamic(stage: Stage) -> None:
    # L2, L5: each is in a handler when the stop comes, and leaves it in a way of its own
    gate = Gate()
    async with stage.play(tree()) as scene, trio.open_nursery() as nursery:
        group = scene.supervisor()
        scripts = {name: Script(staying=gate) for name in ("crash", "exit", "end", "life")}
        for name, script in scripts.items():
            ref = await group.start(stage.app(name, script))
            await ref.tell(Actor.hold, then=name)
        await stage.until(lambda: all(script.held for script in scripts.values()))
        nursery.start_soon(lambda: group.stop(drain=0))
        await stage.until(lambda: len(scene.told(av.Stopping, "t")) == 4)
        gate.open()
        assert await group.stopped() == av.Stopped()
        await scene.heard()
        reasons = {name: scene.reasons(f"t/{name}")[-1] for name in scripts}
        assert isinstance(fault_of(reasons["crash"]), Fault)
        assert isinstance(fault_of(reasons["exit"]), SystemExit)
        assert reasons["end"] == reasons["life"] == av.Stopped()
        for name, script in scripts.items():
            if stage.remote:  # it is the same over there, and no exception is equal to another
                assert repr(script.reasons) == repr([reasons[name]])
            else:
                assert script.reasons == [reasons[name]]
        assert not scene.told(av.Restarting)
