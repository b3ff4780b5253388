"""OTP's supervisor_SUITE: one for one, one for all, template supervisors, rest for one.

OTP's template supervisor (simple_one_for_one) is here a supervisor whose children are all started
at run time.
"""

from __future__ import annotations

import gc
import weakref

import trio

import actorvisor as av
from tests.cases.process_services import Large
from tests.cases.stage import (
    Actor,
    Fault,
    Gate,
    Scene,
    Script,
    Stage,
    everywhere,
    fault_of,
    limit_of,
    names,
    tree,
)


def lives(refs: list[av.Ref[Actor]]) -> list[int]:
    return [ref.incarnation for ref in refs]


async def crash(scene: Scene, failing: av.Ref[Actor], *concerned: av.Ref[Actor]) -> None:
    """Crash one, and wait until it and all that is restarted with it are up again."""
    wanted = [(ref, ref.incarnation + 1) for ref in (failing, *concerned)]
    await failing.tell(Actor.crash)
    for ref, life in wanted:
        await scene.up(ref, life)


async def limit(scene: Scene, failing: av.Ref[Actor]) -> None:
    """Crash one, which is once too often."""
    group = scene.supervisor()
    await failing.tell(Actor.crash)
    exceeded = limit_of(await group.stopped())
    assert exceeded.path == "host/t"
    assert isinstance(fault_of(exceeded.last_reason), Fault)
    assert {ref.state for ref in group.children()} <= {"stopped", "failed"}


# --- one for one --------------------------------------------------------------------------


@everywhere
async def test_one_for_one(stage: Stage) -> None:
    # S2, S3
    async with stage.play(tree(stage.apps("ab"), max_restarts=2, within=60)) as scene:
        a, b = scene.actors("ab")
        await crash(scene, a)
        assert lives([a, b]) == [2, 1]
        await crash(scene, b)
        assert lives([a, b]) == [2, 2]
        await limit(scene, a)
        assert lives([a, b]) == [2, 2]


@everywhere
async def test_one_for_one_escalation(stage: Stage) -> None:
    # S3: a start that fails on a restart is one more crash
    script = Script()
    children = [stage.app("a", script), stage.app("b")]
    async with stage.play(tree(children, max_restarts=4, within=60)) as scene:
        a, b = scene.actors("ab")
        script.fails = True
        await limit(scene, a)
        assert script.setups == 5
        assert (a.state, b.state, b.incarnation) == ("stopped", "stopped", 1)


# --- one for all --------------------------------------------------------------------------


@everywhere
async def test_one_for_all(stage: Stage) -> None:
    # S2, S3
    group = tree(stage.apps("ab"), strategy="one_for_all", max_restarts=2, within=60)
    async with stage.play(group) as scene:
        a, b = scene.actors("ab")
        await crash(scene, a, b)
        assert lives([a, b]) == [2, 2]
        await crash(scene, b, a)
        assert lives([a, b]) == [3, 3]
        await limit(scene, a)


@everywhere
async def test_one_for_all_escalation(stage: Stage) -> None:
    # S2, S3: a comes up each time, b never
    script = Script()
    children = [stage.app("a"), stage.app("b", script)]
    group = tree(children, strategy="one_for_all", max_restarts=4, within=60)
    async with stage.play(group) as scene:
        a, b = scene.actors("ab")
        script.fails = True
        await limit(scene, a)
        assert lives([a, b]) == [5, 5]
        assert (a.state, b.state) == ("stopped", "stopped")


@everywhere
async def test_one_for_all_other_child_fails_restart(stage: Stage) -> None:
    # S2: a is up, and is stopped again
    script = Script()
    children = [stage.app("a"), stage.app("b", script, backoff=av.Fixed(0.02))]
    group = tree(children, strategy="one_for_all", max_restarts=3, within=1)
    async with stage.play(group) as scene:
        a, b = scene.actors("ab")
        script.fails = True
        await a.tell(Actor.crash)
        await stage.until(lambda: b.state == "backing_off")
        assert a.state == "exited"
        script.fails = False
        await scene.up(b, 3)
        await scene.up(a, 3)
        await scene.heard()
        assert scene.told(av.Started, "t") == ["a", "b", "a", "a", "b"]


# --- template supervisors -----------------------------------------------------------------


@everywhere
async def test_simple_one_for_one(stage: Stage) -> None:
    # S2, S3
    async with stage.play(tree(max_restarts=2, within=60)) as scene:
        group = scene.supervisor()
        template = stage.app(None)
        a, b = [await group.start(template) for _ in range(2)]
        await crash(scene, a)
        await crash(scene, b)
        assert lives([a, b]) == [2, 2]
        await limit(scene, b)
        assert names(group) == []


@everywhere
async def test_simple_one_for_one_shutdown(stage: Stage) -> None:
    # S5, H2: all at once; two are let go while the third outstays its grace
    grace = 2.0 if stage.virtual else 0.2
    scripts = [Script(going=Gate()) for _ in range(3)]
    async with stage.play(tree()) as scene, trio.open_nursery() as nursery:
        group = scene.supervisor()
        for script in scripts:
            await group.start(stage.app(None, script, grace=grace))
        refs = group.children()
        began = trio.current_time()
        nursery.start_soon(lambda: group.stop(drain=0))
        await stage.until(lambda: [ref.state for ref in refs] == ["stopping"] * 3)
        for script in scripts:
            assert script.going is not None
            if script is not scripts[2]:
                script.going.open()
        assert await group.stopped() == av.Stopped()
        passed = trio.current_time() - began
        assert passed == grace if stage.virtual else passed >= grace
        first, second, third = [await ref.stopped() for ref in refs]
        assert first == second == av.Stopped()
        assert isinstance(third, stage.overdue)
        assert third.phase == "teardown"
        assert scripts[2].going is not None
        scripts[2].going.open()  # for the thread that was left behind


@everywhere
async def test_simple_one_for_one_escalation(stage: Stage) -> None:
    # S3
    async with stage.play(tree(max_restarts=4, within=60)) as scene:
        group, script = scene.supervisor(), Script()
        a = await group.start(stage.app(None, script))
        b = await group.start(stage.app(None))
        script.fails = True
        await limit(scene, a)
        assert (script.setups, b.state, b.incarnation) == (5, "stopped", 1)


@everywhere
async def test_simple_one_for_one_corruption(stage: Stage) -> None:
    # S1, L2, L6: nothing keeps what a temporary child was given, once it is gone; and what is
    # known of a crash does not keep the instance.
    instances: list[weakref.ref[Actor]] = []

    class Watched(stage.actor):  # type: ignore[name-defined, misc]
        def setup(self) -> None:
            instances.append(weakref.ref(self))

        def teardown(self, reason: av.ExitReason) -> None:
            pass

    async with stage.play(tree(), watched=False) as scene:
        group = scene.supervisor()
        first = await group.start(stage.app(None, restart="temporary"))
        await first.tell(Actor.exit)
        await first.stopped()
        baggage = Large(range(50_000))
        weak = weakref.ref(baggage)
        target = None if stage.remote else Watched
        second = await group.start(
            stage.app(None, None, baggage, target=target, restart="temporary")
        )
        del baggage
        await second.tell(Actor.crash)
        reason = await second.stopped()
        await stage.quiet()
        gc.collect()
        assert stage.remote or instances[0]() is None
        assert isinstance(fault_of(reason), Fault)
        del second, reason
        gc.collect()
        assert weak() is None
        assert names(group) == []


@everywhere
async def test_simple_one_for_one_restart_ignore(stage: Stage) -> None:
    # L7, S1, I5
    async with stage.play(tree(within=60)) as scene:
        group, script = scene.supervisor(), Script()
        a = await group.start(stage.app(None, script))
        await crash(scene, a)
        assert names(group) == [stage.actor.__name__]
        script.declines = True
        await a.tell(Actor.crash)
        assert await a.stopped() == av.Completed()
        assert names(group) == []
        await stage.quiet()
        assert script.setups == 3
        assert await group.stop(drain=0) == av.Stopped()


# --- rest for one -------------------------------------------------------------------------


@everywhere
async def test_rest_for_one(stage: Stage) -> None:
    # S2, S3
    group = tree(stage.apps("abc"), strategy="rest_for_one", max_restarts=2, within=60)
    async with stage.play(group) as scene:
        a, b, c = scene.actors("abc")
        await crash(scene, b, c)
        assert lives([a, b, c]) == [1, 2, 2]
        await crash(scene, c)
        assert lives([a, b, c]) == [1, 2, 3]
        await limit(scene, b)
        assert lives([a, b, c]) == [1, 2, 3]


@everywhere
async def test_rest_for_one_escalation(stage: Stage) -> None:
    # S2, S3: only b is tried again
    script = Script()
    children = [stage.app("a"), stage.app("b", script)]
    group = tree(children, strategy="rest_for_one", max_restarts=4, within=60)
    async with stage.play(group) as scene:
        a, b = scene.actors("ab")
        script.fails = True
        await limit(scene, a)
        assert lives([a, b]) == [2, 5]
        assert (a.state, b.state) == ("stopped", "stopped")


@everywhere
async def test_rest_for_one_other_child_fails_restart(stage: Stage) -> None:
    # S2: a stays up
    script = Script()
    children = [stage.app("a"), stage.app("b", script, backoff=av.Fixed(0.02))]
    group = tree(children, strategy="rest_for_one", max_restarts=3, within=1)
    async with stage.play(group) as scene:
        a, b = scene.actors("ab")
        script.fails = True
        await a.tell(Actor.crash)
        await stage.until(lambda: b.state == "backing_off")
        assert (a.state, a.incarnation) == ("running", 2)
        script.fails = False
        await stage.until(lambda: b.state == "running")
        await scene.heard()
        assert a.incarnation == 2
        assert scene.told(av.Started, "t") == ["a", "b", "a", "b"]
