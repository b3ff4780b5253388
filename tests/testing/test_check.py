"""Real runs of every kind, recorded: none of them breaks a rule (T4)."""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings, strategies as st
from trio.testing import MockClock

import actorvisor as av
from actorvisor.testing import ExecutorCheck, _scene, executor_checks, simulate
from actorvisor.testing._check import check
from actorvisor.testing._recording import record
from actorvisor.testing._rules_mail import rule_m2
from actorvisor.testing._trace import Trace
from actorvisor.testing._violations import RuleBroken
from tests.testing.storms import Storm


@pytest.mark.filterwarnings("ignore:the backoff:UserWarning")
@given(
    seed=st.integers(0, 2**32),
    harshness=st.sampled_from([0.0, 0.1, 0.3]),
    calls=st.sampled_from([10, 30, 90]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_random_systems_with_random_crashes_keep_the_rules(
    seed: int, harshness: float, calls: int
) -> None:
    # T4
    run_and_check(Storm(seed, harshness=harshness, calls=calls).rage)


@pytest.mark.parametrize("seed", range(20))
def test_storms_of_pools_keep_the_rules(seed: int) -> None:
    # W1, T4
    async def system(open_host: Any) -> None:
        draw = random.Random(seed)
        pools = [
            av.Pool(
                av.Application(Worker, redeliver=draw.choice([0, 1]), mailbox=draw.choice([1, 9])),
                size=3,
                key=draw.choice([None, int]),
                max_restarts=50,
                name=f"{place}",
            )
            for place in range(2)
        ]
        async with open_host(pools, max_restarts=50) as host:
            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(send, host, draw)

    async def send(host: av.Host, draw: random.Random) -> None:
        for number in range(20):
            ref = host.find(draw.choice("01"), Worker)
            await trio.sleep(draw.choice([0, 0, 0.1]))
            with (
                contextlib.suppress(av.ActorvisorError),
                trio.move_on_after(draw.choice([0.05, 1])),
            ):
                match draw.randrange(12):
                    case 0:
                        await ref.restart()
                    case 1 | 2:
                        await ref.ask(Worker.crash, number)
                    case 3 | 4:
                        await ref.ask(Worker.work, number)
                    case _:
                        await ref.tell(Worker.work, number)

    run_and_check(system)


class Worker(av.Service):
    async def work(self, number: int) -> None:
        await trio.sleep(number % 3 / 10)

    def crash(self, number: int) -> None:
        raise RuntimeError(number)


def run_and_check(system: Callable[[Any], Awaitable[None]]) -> Trace:
    """Record a system on virtual time, to its end, and check it."""
    recorder = record()
    trio.run(system, recorder, clock=MockClock(autojump_threshold=0))
    trace = recorder.trace()
    assert trace.entries[-1].kind == "closed"
    check(trace)
    return trace


def test_a_pool_that_is_restarted_as_a_whole_hands_out_in_order() -> None:
    # M2, W1
    async def system(open_host: Any) -> None:
        pool = av.Pool(av.Application(Worker, name="m"), size=3, name="p")
        async with open_host([av.Supervisor([pool], name="s")]) as host:
            for number in range(3):
                await host.find("s/p", Worker).tell(Worker.work, number)
            await host.find("s", av.Supervisor).restart()

    simulate(system, rules=[rule_m2])


@pytest.mark.parametrize("play", executor_checks(av.AsyncExecutor()), ids=str)
async def test_what_the_suite_for_executors_plays_keeps_the_rules(
    play: ExecutorCheck, monkeypatch: pytest.MonkeyPatch
) -> None:
    # E2, T4
    await play_recorded(play, monkeypatch)


@pytest.mark.parametrize("play", executor_checks(av.ThreadExecutor()), ids=str)
async def test_what_it_plays_in_threads_keeps_the_rules(
    play: ExecutorCheck, monkeypatch: pytest.MonkeyPatch
) -> None:
    # E2, T4
    await play_recorded(play, monkeypatch)


async def play_recorded(play: ExecutorCheck, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a check of an executor play in a recorded host."""
    recorder = record()
    monkeypatch.setattr(_scene, "open_host", recorder)
    await play()
    trace = recorder.trace()
    assert trace.entries[-1].kind == "closed"
    check(trace)


def test_a_run_that_is_cut_short_is_checked_as_far_as_it_went() -> None:
    # T4
    async def system(open_host: Any) -> None:
        async with open_host([av.Application(Worker, name="a")]) as host:
            await host.find("a", Worker).tell(Worker.crash, 1)
            await host.find("a", Worker).ask(Worker.work, 1)

    trace = run_and_check(system)
    for length in range(len(trace)):
        check(Trace({}, trace.entries[:length]))


@pytest.mark.parametrize("kind", ["taken", "handled", "exited", "accepted", "starting", "ended"])
def test_a_real_run_from_which_something_is_left_out_breaks_a_rule(kind: str) -> None:
    # T4
    async def system(open_host: Any) -> None:
        async with open_host([av.Application(Worker, name="a")]) as host:
            for number in (1, 2):
                await host.find("a", Worker).tell(Worker.work, number)

    trace = run_and_check(system)
    left = [one for one in trace if one is not trace.kinds(kind)[-1]]
    entries = [dataclasses.replace(one, number=number) for number, one in enumerate(left, 1)]
    with pytest.raises(RuleBroken):
        check(Trace({}, tuple(entries)))
