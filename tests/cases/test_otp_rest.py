"""OTP's supervisor_SUITE: the rest."""

from __future__ import annotations

import gc
import logging
import math
import time
import weakref
from typing import Any, get_args

import pytest
import trio

import actorvisor as av
from tests.cases.process_services import Large
from tests.cases.stage import (
    TASKS,
    THREADS,
    Actor,
    Fault,
    Gate,
    How,
    Script,
    Stage,
    at_most_places,
    counts,
    everywhere,
    names,
    play,
    tree,
)

WAYS: tuple[How, ...] = get_args(How)
STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one")
LATER = av.Fixed(1000)
"""A backoff that nobody lives to see the end of: what happens before is what counts."""


# --- counts -------------------------------------------------------------------------------


@at_most_places
async def test_count_children(stage: Stage) -> None:
    # S7, I5
    many = 1_000 if stage.virtual else 20
    async with stage.play(tree(), watched=False) as scene:
        group = scene.supervisor()
        for round_ in (1, 2):
            for _ in range(many):
                await group.start(stage.app(None, restart="temporary"))
            assert counts(group) == (round_ * many, round_ * many)
        refs = [scene.actor(child.path) for child in group.children()]
        for ref in refs:
            await scene.end(ref, "killed")
        for ref in refs:
            await ref.stopped()
        assert counts(group) == (0, 0)
        assert group.state == "running"


@play(TASKS)
async def test_count_children_supervisor(stage: Stage) -> None:
    # S7
    async with stage.play(tree(), watched=False) as scene:
        group = scene.supervisor()
        for round_ in (1, 2):
            for _ in range(1_000):
                await group.start(av.Supervisor(restart="temporary"))
            assert counts(group) == (round_ * 1_000, round_ * 1_000)
            node = scene.host.tree().find("host/t")
            assert node is not None
            assert {child.kind for child in node.children} == {"supervisor"}
        for ref in group.children():
            await ref.stop(drain=0)
        assert counts(group) == (0, 0)


@everywhere
async def test_count_restarting_children(stage: Stage) -> None:
    # S7, S4
    scripts = [Script() for _ in range(3)]
    async with stage.play(tree(max_restarts=100_000, within=1)) as scene:
        group = scene.supervisor()
        refs = [
            await group.start(stage.app(None, script, backoff=av.Fixed(0.01))) for script in scripts
        ]
        scripts[0].fails = scripts[1].fails = True
        for ref in refs:
            await scene.end(ref, "killed")
        await scene.up(refs[2], 2)
        await stage.until(lambda: min(one.setups for one in scripts[:2]) > 3)
        assert counts(group) == (3, 1)
        await refs[1].stop(drain=0)
        assert counts(group) == (2, 1)
        scripts[0].fails = False
        await stage.until(lambda: counts(group) == (2, 2))
        await stage.quiet()
        assert refs[1].state == "stopped"


# --- what is kept of whom -----------------------------------------------------------------


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
@pytest.mark.parametrize("strategy", STRATEGIES)
@at_most_places
async def test_do_not_save_start_parameters_for_temporary_children(
    stage: Stage, strategy: Any, restart: Any
) -> None:
    # S1, I5: what was started at run time, or is temporary, is forgotten, and its arguments too
    many = 100 if stage.virtual else 3 if stage.remote else 10
    larges = [Large(range(100)) for _ in range(many)]
    watched = [weakref.ref(large) for large in larges]

    async def live_and_end(group: av.SupervisorRef) -> None:
        apps = [stage.app(None, Script(), one, restart=restart) for one in larges]
        refs = [await group.start(app) for app in apps]
        larges.clear()
        for ref in refs:
            if restart == "temporary":
                await ref.tell(Actor.exit)
                await ref.stopped()
            else:
                await ref.stop(drain=0)

    async with stage.play(tree(strategy=strategy), watched=False) as scene:
        group = scene.supervisor()
        await live_and_end(group)
        assert names(group) == []
        await stage.quiet()
        gc.collect()
        assert not [one for one in watched if one() is not None]


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("strategy", STRATEGIES)
@at_most_places
async def test_do_not_save_child_specs_for_temporary_children(
    stage: Stage, strategy: Any, how: How
) -> None:
    # S1, S7, I2, I4, I5, L4
    kinds = ("permanent", "transient", "temporary")
    children = [stage.app(kind, restart=kind) for kind in kinds]
    group = tree(children, strategy=strategy, max_restarts=9, within=60)
    async with stage.play(group) as scene:
        ref = scene.supervisor()
        for kind in kinds:
            child = scene.actor(f"t/{kind}") if kind in names(ref) else None
            if child is None:  # a group restart has ended the temporary one
                assert (kind, strategy != "one_for_one") == ("temporary", True)
            elif kind == "temporary" or how == "request" or (kind, how) == ("transient", "normal"):
                await scene.end(child, how)
                await child.stopped()
            else:
                life = child.incarnation
                await scene.end(child, how)
                await scene.up(child, life + 1)
                await stage.until(lambda: not {"exited", "stopping", "starting"} & states(ref))
        for kind in kinds:
            if kind == "temporary":
                await ref.start(stage.app(kind, restart="temporary"))
            else:
                with pytest.raises(av.ControlRefused, match=r"already (declared|running)"):
                    await ref.start(stage.app(kind))
        assert names(ref) == list(kinds)


def states(group: av.SupervisorRef) -> set[str]:
    return {child.state for child in group.children()}


# --- how it scales ------------------------------------------------------------------------


@at_most_places
async def test_simple_one_for_one_scale_many_temporary_children(stage: Stage) -> None:
    # S10: OTP allows 50 times the time for 10 times as many
    few = 300 if stage.virtual else 3 if stage.remote else 20

    async def took(many: int) -> float:
        async with stage.play(tree(), watched=False) as scene:
            group = scene.supervisor()
            template = stage.app(None, restart="temporary")
            refs = [await group.start(template) for _ in range(many)]
            began = time.perf_counter()
            for ref in refs:
                await ref.stop(drain=0)
            passed = time.perf_counter() - began
            assert counts(group) == (0, 0)
            return passed

    assert await took(10 * few) < 50 * max(await took(few), 0.005)


@play(TASKS)
async def test_scale_start_stop_many_children(stage: Stage) -> None:
    # S10; benchmarks/scale.py has 100,000
    async def took(many: int) -> float:
        async with stage.play(tree(strategy="rest_for_one"), watched=False) as scene:
            group = scene.supervisor()
            template = stage.app(None)
            began = time.perf_counter()
            for _ in range(many):
                await group.start(template)
            assert counts(group) == (many, many)
            await group.stop(drain=0)
            return time.perf_counter() - began

    assert await took(5_000) < 25 * 4 * max(await took(200), 0.005)


# --- bystanders ---------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
@everywhere
async def test_temporary_bystander(stage: Stage, strategy: Any) -> None:
    # S1, S2
    children = [stage.app("permanent"), stage.app("temporary", restart="temporary")]
    async with stage.play(tree(children, strategy=strategy)) as scene:
        group = scene.supervisor()
        permanent, temporary = scene.actors(["permanent", "temporary"])
        await scene.end(permanent, "abnormal")
        await scene.up(permanent, 2)
        assert await temporary.stopped() == av.Stopped()
        await stage.quiet()
        assert names(group) == ["permanent"]
        assert (group.state, group.incarnation) == ("running", 1)


@everywhere
async def test_simple_global_supervisor(stage: Stage) -> None:
    # I2, S8: the names, and the refs, are good over all restarts
    group = tree([stage.app("server")], name="global", restart="permanent", max_restarts=1)
    async with stage.play(group, max_restarts=9) as scene:
        supervisor, server = scene.supervisor("global"), scene.actor("global/server")

        async def check(lives: tuple[int, int]) -> None:
            await stage.until(lambda: (supervisor.incarnation, server.incarnation) == lives)
            assert await server.ask(Actor.life) == lives[1]
            assert scene.supervisor("global") == supervisor
            assert scene.actor("global/server") == server

        await scene.end(server, "killed")
        await check((1, 2))
        await scene.end(server, "killed")  # and with it the supervisor
        await check((2, 3))
        await scene.end(server, "normal")
        await check((2, 4))
        await server.restart()
        await check((2, 5))
        await supervisor.restart()
        await check((3, 6))
        assert scene.host.children() == (supervisor,)


# --- a child that cannot come up again ----------------------------------------------------


async def hang(stage: Stage, child: av.Ref[Actor], script: Script) -> None:
    """Crash it, and let it not come up again."""
    script.fails = True
    await child.tell(Actor.crash)
    await stage.until(lambda: child.state == "backing_off")


async def start_and_be_stopped(child: av.Ref[Actor]) -> None:
    with pytest.raises(av.ServiceStopped, match="was stopped while it started"):
        await child.restart()


def restarting() -> Any:
    return pytest.raises(av.ControlRefused, match=r": restarting$")


@everywhere
async def test_hanging_restart_loop(stage: Stage) -> None:
    # S4, S7
    script = Script()
    app = stage.app("a", script, backoff=LATER, grace=0.1)
    async with stage.play(tree([app], max_restarts=9, within=math.inf)) as scene:
        group, (a,) = scene.supervisor(), scene.actors("a")
        await hang(stage, a, script)
        with restarting():
            await group.start(stage.app("a"))
        with restarting():
            await a.start()
        assert (names(group), counts(group)) == (["a"], (1, 0))
        assert await a.stop(drain=0) == av.Stopped()
        assert a.state == "stopped"
        script.fails = False
        await a.restart()
        await hang(stage, a, script)
        # OTP refuses it; here a restart does not wait for the backoff, and is not tried again.
        with pytest.raises(Fault, match="setup"):
            await a.restart()
        assert a.state == "failed"
        script.fails = False
        await a.restart()
        # One that hangs in its setup is stopped, too.
        script.coming = Gate()
        await a.tell(Actor.crash)
        await stage.until(lambda: a.state == "backing_off")
        setups = script.setups
        async with trio.open_nursery() as nursery:
            nursery.start_soon(start_and_be_stopped, a)
            await stage.until(lambda: script.setups > setups)
            with pytest.raises(av.ControlRefused, match="already starting"):
                await a.start()
            reason = await a.stop(drain=0)
            assert isinstance(reason, av.Abandoned if stage is THREADS else av.Stopped)
        script.coming.open()
        script.coming = None
        await a.start()
        await hang(stage, a, script)
        assert await group.stop(drain=0) == av.Stopped()
        assert a.state == "stopped"


@everywhere
async def test_hanging_restart_loop_rest_for_one(stage: Stage) -> None:
    # S4, S2
    script = Script()
    children = [stage.app("a"), stage.app("b", script, backoff=LATER), stage.app("c")]
    group = tree(children, strategy="rest_for_one", max_restarts=9, within=math.inf)
    async with stage.play(group) as scene:
        ref, (a, b, c) = scene.supervisor(), scene.actors("abc")
        await hang(stage, b, script)
        for child in (b, c):
            with restarting():
                await child.start()
        assert (a.state, b.state, c.state) == ("running", "backing_off", "exited")
        assert counts(ref) == (3, 1)
        assert await b.stop(drain=0) == av.Stopped()
        assert await c.stopped() == av.Stopped()
        await stage.quiet()
        assert (a.incarnation, b.state, c.state) == (1, "stopped", "stopped")
        script.fails = False
        await b.restart()
        assert (b.state, c.state) == ("running", "stopped")
        await c.start()
        await hang(stage, b, script)
        assert await ref.stop(drain=0) == av.Stopped()
        assert a.incarnation == 1


@everywhere
async def test_hanging_restart_loop_simple(stage: Stage) -> None:
    # S4, I5
    script = Script()
    async with stage.play(tree(max_restarts=9, within=math.inf)) as scene:
        group = scene.supervisor()
        a = await group.start(stage.app("a", script, backoff=LATER))
        b = await group.start(stage.app("b"))
        await hang(stage, a, script)
        assert [(child.path, child.state) for child in group.children()] == [
            ("host/t/a", "backing_off"),
            ("host/t/b", "running"),
        ]
        assert await a.stop(drain=0) == av.Stopped()
        assert names(group) == ["b"]
        assert b.incarnation == 1
        script.fails = False
        a = await group.start(stage.app("a", script, backoff=LATER))
        await hang(stage, a, script)
        assert await group.stop(drain=0) == av.Stopped()


# --- order, and lists ---------------------------------------------------------------------


@everywhere
async def test_order_of_children(stage: Stage) -> None:
    # S2, S5, O1
    group = tree(stage.apps("12345"), strategy="rest_for_one")
    async with stage.play(group) as scene:
        ref, (one, two, three, four, five) = scene.supervisor(), scene.actors("12345")
        await scene.heard()
        assert scene.told(av.Started, "t") == names(ref) == list("12345")
        await scene.end(three, "abnormal")
        await scene.up(five, 2)
        await scene.heard()
        assert scene.told(av.Exited, "t") == list("354")  # the third by itself
        assert scene.told(av.Started, "t") == list("12345345")
        assert [child.incarnation for child in (one, two, three, four, five)] == [1, 1, 2, 2, 2]
        await ref.stop(drain=0)
        await scene.heard()
        assert scene.told(av.Exited, "t") == list("35454321")


@everywhere
async def test_which_children(stage: Stage) -> None:
    # S7, I2, I5
    async with stage.play(tree([stage.app("a")])) as scene:
        group, (a,) = scene.supervisor(), scene.actors("a")
        b = await group.start(stage.app("b"))
        assert group.children() == (a, b)
        assert (scene.actor("t/a"), scene.actor("t/b")) == (a, b)
        await a.stop(drain=0)
        assert group.children() == (a, b)
        assert scene.actor("t/a").state == "stopped"
        await b.stop(drain=0)  # it was started at run time, and is forgotten
        assert group.children() == (a,)
        await a.remove(drain=0)
        assert group.children() == ()
        for path in ("t/a", "t/b", "t/c"):
            with pytest.raises(LookupError, match=f"no actor 'host/{path}'"):
                scene.actor(path)


@everywhere
async def test_which_children_simple_one_for_one(stage: Stage) -> None:
    # S7, I2
    async with stage.play(tree()) as scene:
        group = scene.supervisor()
        template = stage.app(None, restart="temporary")
        refs = [await group.start(template) for _ in range(3)]
        assert list(group.children()) == refs
        for ref in refs:
            assert scene.actor(ref.path) == ref
        gone = refs.pop(1)
        await gone.stop(drain=0)
        assert list(group.children()) == refs
        with pytest.raises(LookupError):
            scene.actor(gone.path)
        assert gone.state == "stopped"


@everywhere
async def test_already_started_outside_supervisor(stage: Stage) -> None:
    # I1: who has the name is named; under another supervisor it is another name
    async with stage.play(tree([stage.app("a")]), stage.app("b")) as scene:
        group = scene.supervisor()
        with pytest.raises(av.ControlRefused, match="host/t/a: already running") as caught:
            await group.start(stage.app("a"))
        assert caught.value.path == scene.actor("t/a").path
        b = await group.start(stage.app("b"))
        assert b != scene.actor("b")
        with pytest.raises(ValueError, match="'a'"):
            tree(stage.apps("aa"))


# --- reports ------------------------------------------------------------------------------


async def crash_with(
    stage: Stage, caplog: pytest.LogCaptureFixture, size: int
) -> list[logging.LogRecord]:
    """What is logged of a crash with that much of a reason, of a message and of arguments."""

    caplog.clear()
    caplog.set_level(logging.INFO, "actorvisor")
    state = ["x" * size] * 10
    app = stage.app("a", None, state, restart="temporary")
    async with stage.play(tree([app])) as scene:
        a = scene.actor("t/a")
        await a.tell(Actor.complain, ["message" * size])
        assert isinstance(await a.stopped(), av.Crashed)
    return [one for one in caplog.records if one.levelno >= logging.WARNING]


@everywhere
async def test_format_log_1(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    # O5: what is long is cut off, and what comes first stays
    short, long = [await crash_with(stage, caplog, size) for size in (1, 100_000)]
    assert [one.levelname for one in short] == [one.levelname for one in long]
    for one, other in zip(short, long, strict=True):
        text = other.getMessage()
        assert text[:16] == one.getMessage()[:16]
        assert text.startswith("host/t/a")
        assert len(text) < 25_000
    (crash,) = [one.getMessage() for one in long if "Traceback" in one.getMessage()]
    assert crash.startswith("host/t/a crashed\nTraceback (most recent call last):")
    assert "characters left out" in crash


@everywhere
async def test_format_log_2(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    # O5: all but tracebacks is one short line each
    for record in await crash_with(stage, caplog, 100_000):
        text = record.getMessage()
        if "Traceback" not in text:
            assert text.startswith("host/t/a")
            assert "\n" not in text
            assert len(text) < 500
