"""Reports on systems like ours that a fresh implementation less likely repeats, case by case."""

from __future__ import annotations

from typing import Any

import pytest
import trio

import actorvisor as av
from tests.cases.reports import (
    Fault,
    Place,
    Worker,
    app,
    error_of,
    opened,
    opened_and_heard,
    settled,
    under_each_executor,
    until,
)


@pytest.mark.parametrize("how", ["stop", "kill", "remove", "crash", "never started"])
@under_each_executor
async def test_pykka_3_what_is_said_of_the_dead(place: Place, how: str) -> None:
    # I2: state, path and repr never raise, after the host's end neither.
    states = {"crash": "failed"}
    failing = how == "never started"
    refs: list[av.Ref[Any]] = []

    class Dying(Worker):
        def setup(self) -> None:
            refs.append(self.ref)
            if failing:
                raise Fault("in setup")

    def check() -> None:
        state = states.get(how, "failed" if failing else "stopped")
        assert (ref.path, ref.state, ref.incarnation) == ("host/c", state, 1)
        assert repr(ref) == f"<Ref host/c {state}>"
        assert f"{ref}" == repr(ref)
        assert ref == refs[0]
        assert len({ref, refs[0]}) == 1

    async with opened() as host:
        dying = app(Dying, name="c", executor=place, restart="temporary")
        await error_of(host.start, [])(dying)
        ref = refs[0]
        if how == "crash":
            await ref.tell(Worker.crash)
            await ref.stopped()
        elif how == "remove":
            await ref.remove()
        elif not failing:
            await ref.stop(grace=0 if how == "kill" else None)
        check()
    check()


@under_each_executor
async def test_akka_core_30172_watching_twice(place: Place) -> None:
    # O2: it is once, in one life and over the restarts of both.
    got: list[tuple[type[av.Notification], int]] = []

    class Watcher(Worker):
        def setup(self) -> None:
            for _ in range(2):
                self.monitor(self.find("../helper", Worker))

        def receive(self, message: object) -> None:
            assert isinstance(message, av.Notification)
            got.append((type(message), self.ref.incarnation))

    helper, watcher = (
        app(kind, name=name, executor=place)
        for kind, name in ((Worker, "helper"), (Watcher, "watcher"))
    )
    async with opened(helper, watcher) as host:
        watched, ref = host.find("helper", Worker), host.find("watcher", Watcher)
        for life in (2, 3):
            await ref.tell(Worker.crash)
            assert await ref.ask(Worker.life) == life
            got.clear()
            await watched.tell(Worker.crash)
            assert await watched.ask(Worker.life) == life
            kinds = [av.Stopping, av.Exited, av.Restarting, av.Starting, av.Started]
            await until(lambda: len(got) >= 5)
            await settled()
            await ref.ask(Worker.life)
            assert got == [(kind, life) for kind in kinds]
        got.clear()
        await watched.stop()
        await until(lambda: len(got) >= 3)
        await settled()
        assert got == [(kind, 3) for kind in (av.Stopping, av.Exited, av.Ended)]


@under_each_executor
async def test_langwatch_6203_who_was_not_restarted_is_seen(place: Place) -> None:
    # S1, S3: restarted, with a bounded backoff; and who gave up is seen.
    backoff = av.Exponential(base=0.001, cap=0.004, jitter=0)
    worker = app(Worker, name="worker", executor=place, backoff=backoff, reset_after=60)
    beside = app(Worker, name="beside", executor=place)
    group = av.Supervisor([worker, beside], name="s", on_limit="drop", max_restarts=3, within=3600)
    async with opened_and_heard(group) as (host, told):
        ref = host.find("s/worker", Worker)
        for life in (2, 3, 4):
            await ref.tell(Worker.crash)
            with trio.fail_after(10):
                assert await ref.ask(Worker.life) == life
        statistics = host.statistics()
        assert (statistics.running, statistics.failed, statistics.restarts) == (3, 0, 3)
        await ref.tell(Worker.crash)
        reason = await ref.stopped()
        assert isinstance(reason, av.GaveUp)
        statistics = host.statistics()
        assert (statistics.actors, statistics.running, statistics.failed) == (3, 2, 1)
        (seen,) = [one for one in host.tree().children[0].children if one.state == "failed"]
        assert (seen.path, seen.reason) == ("host/s/worker", reason)
        assert "failed" in str(host.tree())
        await settled()
        delays = [one.delay for one in told.of("host/s/worker") if isinstance(one, av.Restarting)]
        assert delays == [0.001, 0.002, 0.004]
