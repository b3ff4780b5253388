"""OTP's supervisor_SUITE: significant children (S6)."""

from __future__ import annotations

import itertools
from typing import Any, get_args

import pytest

import actorvisor as av
from tests.cases.stage import (
    Actor,
    How,
    Scene,
    Stage,
    at_most_places,
    everywhere,
    names,
    tree,
)

WAYS: tuple[How, ...] = get_args(How)
MODES = ("any", "all")


async def ended(scene: Scene, ref: av.Ref[Actor], how: How) -> None:
    """End it, and wait until that is decided."""
    await scene.end(ref, how)
    await ref.stopped()


@pytest.mark.parametrize("mode", ["never", *MODES])
@everywhere
async def test_nonsignificant_temporary(stage: Stage, mode: Any) -> None:
    # S6
    for how in WAYS:
        children = stage.apps("ab", restart="temporary")
        async with stage.play(tree(children, auto_shutdown=mode)) as scene:
            group, (a, b) = scene.supervisor(), scene.actors("ab")
            await ended(scene, a, how)
            await ended(scene, b, how)
            await stage.quiet()
            assert (group.state, names(group)) == ("running", [])


@pytest.mark.parametrize("mode", ["never", *MODES])
@everywhere
async def test_nonsignificant_transient(stage: Stage, mode: Any) -> None:
    # S6, S1
    for how in WAYS:
        children = stage.apps("ab", restart="transient")
        async with stage.play(tree(children, auto_shutdown=mode)) as scene:
            group, (a, b) = scene.supervisor(), scene.actors("ab")
            await scene.end(a, how)
            if how in {"abnormal", "killed"}:
                await scene.up(a, 2)
            else:
                await a.stopped()
            await stage.quiet()
            assert a.state == ("running" if how in {"abnormal", "killed"} else "stopped")
            assert (group.state, names(group), b.incarnation) == ("running", ["a", "b"], 1)


def significant(stage: Stage, restart: str) -> list[av.Application[Actor]]:
    plain = stage.app("plain")
    return [plain, *stage.apps("ab", restart=restart, significant=True)]


@pytest.mark.parametrize("mode", MODES)
@everywhere
async def test_significant_temporary(stage: Stage, mode: Any) -> None:
    # S6
    for how in WAYS:
        children = significant(stage, "temporary")
        async with stage.play(tree(children, auto_shutdown=mode)) as scene:
            group, (a, b, plain) = scene.supervisor(), scene.actors(["a", "b", "plain"])
            await ended(scene, a, how)
            by_itself = how != "request"
            if mode == "all" or not by_itself:
                await stage.quiet()
                assert (group.state, names(group)) == ("running", ["plain", "b"])
                await ended(scene, b, how)
            if by_itself:
                assert await group.stopped() == av.Completed()
                assert await plain.stopped() == av.Stopped()
            else:
                await stage.quiet()
                assert (group.state, names(group)) == ("running", ["plain"])


@pytest.mark.parametrize("mode", MODES)
@everywhere
async def test_significant_transient(stage: Stage, mode: Any) -> None:
    # S6, S1
    for how in WAYS:
        children = significant(stage, "transient")
        group = tree(children, auto_shutdown=mode, within=60)
        async with stage.play(group) as scene:
            ref, (a, b, plain) = scene.supervisor(), scene.actors(["a", "b", "plain"])
            if how in {"abnormal", "killed"}:
                for one in (a, b):
                    await scene.end(one, how)
                    await scene.up(one, 2)
                await stage.quiet()
                assert (ref.state, plain.incarnation) == ("running", 1)
                continue
            await ended(scene, a, how)
            if mode == "all" or how == "request":
                await stage.quiet()
                assert (ref.state, b.state) == ("running", "running")
                await ended(scene, b, how)
            if how == "normal":
                assert await ref.stopped() == av.Completed()
                assert await plain.stopped() == av.Stopped()
            else:
                await stage.quiet()
                assert (ref.state, plain.state) == ("running", "running")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
@everywhere
async def test_significant_bystander(stage: Stage, strategy: Any, mode: Any) -> None:
    # S6: an end by the strategy is no end of their own
    children = [
        stage.app("plain"),
        stage.app("transient", restart="transient", significant=True),
        stage.app("temporary", restart="temporary", significant=True),
    ]
    group = tree(children, strategy=strategy, auto_shutdown=mode, within=60)
    async with stage.play(group) as scene:
        ref = scene.supervisor()
        plain, transient, temporary = scene.actors(["plain", "transient", "temporary"])
        await scene.end(plain, "killed")
        await scene.up(plain, 2)
        if strategy == "one_for_one":
            assert (transient.incarnation, temporary.incarnation) == (1, 1)
        else:
            await scene.up(transient, 2)
            assert await temporary.stopped() == av.Stopped()
        await stage.quiet()
        assert (ref.state, ref.incarnation) == ("running", 1)
        # And one that is left still counts.
        await scene.end(transient, "normal")
        if mode == "all" and strategy == "one_for_one":
            await transient.stopped()
            await scene.end(temporary, "normal")
        assert await ref.stopped() == av.Completed()


@at_most_places
async def test_significant_escalation(stage: Stage) -> None:
    # S6, S8
    for b_is, restart in itertools.product((True, False), ("transient", "temporary")):
        inner = av.Supervisor(
            [stage.app("c", restart="transient", significant=True), stage.app("d")],
            name="b",
            restart=restart,  # type: ignore[arg-type]
            significant=b_is,
            auto_shutdown="any",
        )
        async with stage.play(tree([inner, stage.app("e")], auto_shutdown="any")) as scene:
            a, b = scene.supervisor(), scene.supervisor("t/b")
            e = scene.actor("t/e")
            await scene.end(scene.actor("t/b/c"), "normal")
            assert await b.stopped() == av.Completed()
            if b_is:
                assert await a.stopped() == av.Completed()
                assert await e.stopped() == av.Stopped()
            else:
                await stage.quiet()
                assert (a.state, e.state) == ("running", "running")
