"""OTP's supervisor_SUITE: child control."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import trio

import actorvisor as av
from tests.cases.stage import (
    TASKS,
    Actor,
    Stage,
    at_most_places,
    counts,
    everywhere,
    names,
    play,
    tree,
)

RESTARTS = ("permanent", "transient", "temporary")


def refused(why: str) -> pytest.RaisesExc[av.ControlRefused]:
    return pytest.raises(av.ControlRefused, match=f"^host/t.*: {why}")


@at_most_places
async def test_child_adm(stage: Stage) -> None:
    # S7, I2, I4, I5, L4
    async with stage.play(tree([stage.app("a")])) as scene:
        group, (a,) = scene.supervisor(), scene.actors("a")

        def check(declared: int, active: int) -> None:
            assert counts(group) == (declared, active)

        check(1, 1)
        with refused("already running"):
            await group.start(stage.app("a"))
        with refused("already running"):
            await a.start()
        assert await a.stop(drain=0) == av.Stopped()
        check(1, 0)
        assert await a.stop(drain=0) == av.Stopped()  # idempotent
        check(1, 0)
        with refused("already declared; start it by its ref"):
            await group.start(stage.app("a"))
        await a.start()
        check(1, 1)
        await a.stop(drain=0)
        await a.restart()
        check(1, 1)
        await a.restart()  # OTP refuses that of one that runs; here it is stopped for it
        check(1, 1)
        assert a.incarnation == 4
        # OTP refuses to remove what runs; here it is stopped first.
        assert await a.remove(drain=0) == av.Stopped()
        check(0, 0)
        assert await a.remove(drain=0) == av.Stopped()
        for again in (a.start, a.restart):
            with pytest.raises(av.ServiceStopped, match="host/t/a has ended for good"):
                await again()
        b = await group.start(stage.app("a"))
        check(1, 1)
        assert await a.stop(drain=0) == av.Stopped()  # the wrong handle: the other one lives
        assert (b.state, b.incarnation) == ("running", 1)
        with pytest.raises(LookupError, match="host/nobody"):
            scene.supervisor("nobody")


@everywhere
async def test_child_adm_simple(stage: Stage) -> None:
    # S7, I2
    async with stage.play(tree(), stage.app("stranger")) as scene:
        group = scene.supervisor()
        first = await group.start(stage.app(None))
        second = await group.start(stage.app(None))
        assert counts(group) == (2, 2)
        assert await first.stop(drain=0) == av.Stopped()
        assert list(group.children()) == [second]
        assert await first.stop(drain=0) == av.Stopped()  # twice
        assert counts(group) == (1, 1)
        assert scene.actor("stranger").state == "running"
        with pytest.raises(LookupError, match="host/t/stranger"):
            scene.actor("t/stranger")


@play(TASKS)
async def test_child_specs(stage: Stage) -> None:
    # I1
    app: Any = stage.app
    declare: Any = av.Application
    for target in ("none", None, 5, av.Service, int):
        with pytest.raises(TypeError, match="Service"):
            declare(target)
    with pytest.raises(ValueError, match=r"restart=.*'prmanent'"):
        app("a", restart="prmanent")
    for wrong in (-1, math.nan):
        with pytest.raises(ValueError, match="grace="):
            app("a", grace=wrong)
    with pytest.raises(TypeError, match=r"grace=.*'brutal_kill'"):
        app("a", grace="brutal_kill")
    with pytest.raises(TypeError, match="executor="):
        app("a", executor="wrker")
    with pytest.raises(TypeError, match="name"):
        app(5)
    good = itertools.product(RESTARTS, (0, 1, 5.5, math.inf), (1, 1000), (1, 30.0), (0, 2))
    declared = [
        app(
            f"c{index}",
            restart=restart,
            grace=grace,
            mailbox=mailbox,
            start_timeout=start_timeout,
            redeliver=redeliver,
        )
        for index, (restart, grace, mailbox, start_timeout, redeliver) in enumerate(good)
    ]
    assert len(declared) == 96
    async with stage.play(tree(declared), watched=False) as scene:
        group = scene.supervisor()
        assert counts(group) == (96, 96)
        with pytest.raises(ValueError, match="'c5'"):
            tree([*declared, app("c5")])
        with refused("already running"):
            await group.start(app("c5"))


@play(TASKS)
async def test_child_specs_map(stage: Stage) -> None:
    # S6, I1: the 96 good ones were tried above; here is what depends on the supervisor
    app: Any = stage.app
    for how, restart in itertools.product(("never", "any", "all"), RESTARTS):
        for significant in (False, True):
            if significant and restart == "permanent":
                with pytest.raises(ValueError, match="'a' is significant and permanent"):
                    app("a", restart=restart, significant=True)
                continue
            child = app("a", restart=restart, significant=significant)
            async with stage.play(tree(name="u", auto_shutdown=how)) as scene:
                group = scene.supervisor("u")
                if significant and how == "never":
                    with pytest.raises(ValueError, match='auto_shutdown is "never"'):
                        tree([child], auto_shutdown=how)
                    with pytest.raises(ValueError, match='auto_shutdown is "never"'):
                        await group.start(child)
                else:
                    tree([child], auto_shutdown=how)
                    await group.start(child)
                    assert names(group) == ["a"]
    with pytest.raises(TypeError, match="significant="):
        app("a", restart="transient", significant="yes")


@pytest.mark.parametrize(
    ("field", "value", "kind"),
    [
        ("strategy", "one_for_nobody", ValueError),
        ("strategy", None, ValueError),
        ("max_restarts", -1, ValueError),
        ("max_restarts", math.inf, TypeError),
        ("max_restarts", "many", TypeError),
        ("within", 0, ValueError),
        ("within", -5, ValueError),
        ("within", "long", TypeError),
        ("auto_shutdown", "sometimes", ValueError),
        ("auto_shutdown", None, ValueError),
        ("start", "at random", ValueError),
        ("on_limit", "explode", ValueError),
        ("restart", "prmanent", ValueError),
        ("backoff", 5, TypeError),
    ],
)
def test_sup_flags(field: str, value: Any, kind: type[Exception]) -> None:
    # I1, S6: an infinite period is allowed here
    with pytest.raises(kind, match=f"{field}="):
        av.Supervisor([], **{field: value})
    av.Supervisor([], within=math.inf)


@at_most_places
async def test_multiple_restarts(stage: Stage) -> None:
    # S3: notes older than the period are forgotten
    period = 1.0 if stage.virtual else 0.05
    group = tree([stage.app("a"), stage.app("b")], max_restarts=1, within=period)
    async with stage.play(group) as scene:
        (a,) = scene.actors("a")
        for life in range(1, 5):
            await a.tell(Actor.crash)
            await scene.up(a, life + 1)
            await trio.sleep(2.1 * period)
        assert (scene.supervisor().state, scene.supervisor().incarnation) == ("running", 1)
        assert scene.actor("t/b").incarnation == 1
