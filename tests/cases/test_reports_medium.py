"""Reports on systems like ours that a fresh implementation may well repeat, case by case."""

from __future__ import annotations

import gc
import logging
import math
import subprocess
import sys
import weakref
from collections import Counter
from typing import Any

import pytest
import trio

import actorvisor as av
from tests.cases.reports import (
    COROUTINES,
    THREADS,
    Fault,
    Gate,
    Place,
    Worker,
    app,
    call,
    error_of,
    in_its_time,
    opened,
    opened_and_heard,
    service_threads,
    settled,
    then,
    under_each_executor,
    until,
)


@under_each_executor
async def test_chaos_spawn_19_a_supervisor_ends_with_its_last_child(place: Place) -> None:
    # S8: not before, and only then it is started again: no names clash.
    gate = Gate(place, shield=True)

    class Slow(Worker):
        def teardown(self, reason: av.ExitReason) -> Any:
            return gate.pass_through()

    slow = app(Slow, name="slow", executor=place, grace=math.inf)
    quick = app(Worker, name="quick", executor=place)
    inner = av.Supervisor([slow, quick], name="inner", max_restarts=0)
    async with opened_and_heard(av.Supervisor([inner], name="s")) as (host, told):
        supervisor = host.find("s/inner", av.Supervisor)
        await host.find("s/inner/quick", Worker).tell(Worker.crash)
        await gate.reached.wait()
        await settled()
        assert (supervisor.state, supervisor.incarnation) == ("stopping", 1)
        assert not told.exits("host/s/inner")
        gate.open()
        await until(lambda: supervisor.state == "running" and supervisor.incarnation == 2)
        assert await host.find("s/inner/slow", Slow).ask(Worker.life) == 2
        assert await host.find("s/inner/quick", Worker).ask(Worker.life) == 2
        assert host.find("s", av.Supervisor).incarnation == 1
        assert [type(one) for one in told.exits("host/s/inner")] == [av.Crashed]


@under_each_executor
async def test_suture_37_who_did_not_end_is_told(place: Place) -> None:
    # L2, H1: by the stop, by `stopped()`, and by the host's exit.
    gates = [Gate(place), Gate(place)]
    late = av.TimedOut("handler") if place.has_loop else av.Abandoned("handler")

    class Hanging(Worker):
        def hang(self, number: int) -> Any:
            return gates[number].pass_through()

    apps = [app(Hanging, name=f"c{n}", executor=place, grace=0.02) for n in range(2)]
    with trio.fail_after(20):
        async with av.open_host(apps, drain=0) as host:
            reader = host.events()
            refs = [host.find(f"c{n}", Hanging) for n in range(2)]
            for number, ref in enumerate(refs):
                await ref.tell(Hanging.hang, number)
                await gates[number].reached.wait()
            async with trio.open_nursery() as nursery:
                ends: list[Any] = []
                nursery.start_soon(error_of(refs[0].stopped, ends))
                await settled()
                assert await refs[0].stop(drain=0) == late
            assert ends == [late]
            assert await refs[0].stopped() == late
        told = [one async for one in reader if isinstance(one, av.Ended)]
        assert [(one.path, one.reason) for one in told] == [("host/c0", late), ("host/c1", late)]
        assert await refs[1].stopped() == late
        for gate in gates:
            gate.open()
        await until(lambda: not service_threads())


@under_each_executor
async def test_async_service_41_children_are_stopped_when_the_host_is_cancelled(
    place: Place,
) -> None:
    # H2, L4: in order, newest first, with teardown and the reason; nobody is just cut off.
    log: list[tuple[str, av.ExitReason]] = []

    class Child(Worker):
        def teardown(self, reason: av.ExitReason) -> None:
            log.append((self.ref.path, reason))

    def child(name: str) -> Any:
        return app(Child, name=name, executor=place)

    class Parent(Child):
        def adopt(self) -> Any:
            return call(place, self.find("..", av.Supervisor).start, child("adopted"))

    tree = av.Supervisor(
        [app(Parent, name="parent", executor=place), av.Supervisor([child("a")], name="inner")],
        name="s",
        strategy="one_for_all",
    )
    with trio.fail_after(20):
        with trio.CancelScope() as scope:
            async with av.open_host([tree]) as host:
                await host.find("s/parent", Parent).ask(Parent.adopt)
                scope.cancel()
                await trio.sleep_forever()
        assert scope.cancelled_caught
    paths = ["host/s/adopted", "host/s/inner/a", "host/s/parent"]
    assert log == [(path, av.Stopped()) for path in paths]


@under_each_executor
async def test_bastion_287_a_ref_of_before_the_crash(place: Place) -> None:
    # I2, I3: it reaches each later life, also from a thread that holds it.
    async with opened(app(Worker, name="c", executor=place), max_restarts=100) as host:
        held = host.find("c", Worker)

        class Friend(av.Service):
            def __init__(self) -> None:
                self.other = held

            def life_of_other(self) -> Any:
                if place.has_loop:
                    return self.other.ask(Worker.life)
                return self.other.blocking.ask(Worker.life)

        friend = await host.start(app(Friend, name="friend", executor=place))
        for life in range(2, 8):
            await held.tell(Worker.crash)
            assert await held.ask(Worker.life) == life
            assert await friend.ask(Friend.life_of_other) == life
        assert host.find("c", Worker) == held


STEPS = [
    (COROUTINES, "factory"),
    (COROUTINES, "setup"),
    (COROUTINES, "background"),
    (THREADS, "factory"),
    (THREADS, "setup"),
    (THREADS, "thread"),
]


@pytest.mark.parametrize("declared", [False, True], ids=["run time", "declared"])
@pytest.mark.parametrize(("place", "step"), STEPS, ids=str)
@in_its_time
async def test_supervisor_445_a_start_that_fails_half_way(
    place: Place, step: str, declared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # L3: a clean failed start, whichever step fails. Each step: issue 10.
    broken = True
    error = OSError("log file not writable")

    def step_of(name: str) -> None:
        if broken and step == name:
            raise error

    async def fail_soon() -> None:
        await trio.sleep(1)
        step_of("background")

    class Failing(Worker):
        def __init__(self) -> None:
            step_of("factory")

        def setup(self) -> Any:
            step_of("setup")
            if broken and step == "background":
                self.start_soon(fail_soon)
                return Gate(place).pass_through()
            return None

    real = trio.to_thread.run_sync

    async def run_sync(*args: Any, **options: Any) -> Any:
        await trio.lowlevel.checkpoint()
        step_of("thread")
        return await real(*args, **options)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)
    failing = app(Failing, name="c", executor=place)
    async with opened_and_heard() as (host, told):
        for attempt in range(3):
            broken = attempt < 2
            raised: list[Any] = []
            if declared:
                group = av.Supervisor([failing], name="s")
                await error_of(host.start, raised)(group)
            else:
                if not attempt:
                    await host.start(av.Supervisor(name="s"))
                await error_of(host.find("s", av.Supervisor).start, raised)(failing)
            if not broken:
                break
            assert raised == [error]
            with pytest.raises(LookupError):
                host.find("s/c", Failing)
            assert not service_threads()
        ref = host.find("s/c", Failing)
        assert await ref.ask(Worker.life) == 1
        assert await ref.stop() == av.Stopped()
        assert await ref.remove() == av.Stopped()
        await settled()
        assert told.kinds("host/s/c").count(av.Started) == 1


@pytest.mark.parametrize("again", [True, False], ids=["room again", "never"])
async def test_thespian_38_mail_at_the_limit_of_threads(again: bool) -> None:
    # M7, L3: nothing vanishes: it is handled when there is room, or senders are told.
    place = av.ThreadExecutor(max_threads=1)
    backoff = av.Fixed(0.05)
    c = app(Worker, name="c", executor=place, backoff=backoff)
    group = av.Supervisor([c], name="s", max_restarts=3, within=3600, on_limit="drop")
    async with opened_and_heard(group) as (host, told):
        supervisor, ref = host.find("s", av.Supervisor), host.find("s/c", Worker)
        await ref.tell(Worker.crash)
        await until(lambda: ref.state == "backing_off")
        other = await supervisor.start(app(Worker, name="other", executor=place))
        async with trio.open_nursery() as nursery:
            answers: list[Any] = []
            for _ in range(5):
                await ref.tell(Worker.life)
                nursery.start_soon(error_of(ref.ask, answers), Worker.life)
            await until(
                lambda: any(
                    isinstance(one, av.Crashed) and isinstance(one.exception, av.ThreadLimitReached)
                    for one in told.exits("host/s/c")
                )
            )
            if again:
                await other.remove()
        await settled()
        if again:
            assert len(set(answers)) == 1
            assert isinstance(answers[0], int)
            assert len(told.dead_letters) == 1
        else:
            assert [type(one) for one in answers] == [av.ServiceStopped] * 5
            assert len(told.dead_letters) == 1 + 10
            with pytest.raises(av.ServiceStopped):
                await ref.tell(Worker.life)
            (reason,) = told.ends("host/s/c")
            assert isinstance(reason, av.GaveUp)


@pytest.mark.parametrize("how", ["stop", "kill", "end", "crash", "gave up", "remove"])
@under_each_executor
async def test_kameo_201_stopping_what_has_ended(place: Place, how: str) -> None:
    # S7, I2, I4, L4: the same final reason, any number of times, never an error.
    restart = "temporary" if how in {"end", "crash"} else "permanent"
    c = app(Worker, name="c", executor=place, restart=restart)
    group = av.Supervisor([c], name="s", max_restarts=0, on_limit="drop")
    async with opened_and_heard(group) as (host, told):
        ref = host.find("s/c", Worker)
        if how == "stop":
            await ref.stop()
        elif how == "kill":
            await ref.stop(grace=0)
        elif how == "remove":
            await ref.remove()
        else:
            await ref.tell(Worker.end if how == "end" else Worker.crash)
        final = await ref.stopped()
        async with trio.open_nursery() as nursery:
            reasons: list[Any] = []
            for _ in range(10):
                nursery.start_soon(error_of(ref.stop, reasons))
                nursery.start_soon(error_of(ref.stopped, reasons))
        assert reasons == [final] * 20
        await settled()
        assert told.ends("host/s/c") == [final]
        assert await ref.remove() == final
    assert await ref.stop() == final


@under_each_executor
async def test_trio_1638_nothing_holds_the_life_before(place: Place) -> None:
    # L6, S10, L2: collectable as soon as it has ended, what its crash's frames held included.
    lives: list[weakref.ref[Any]] = []
    crashes: list[av.ExitReason] = []

    class State:
        pass

    class Large(Worker):
        def __init__(self) -> None:
            self.state = State()
            lives.append(weakref.ref(self))
            lives.append(weakref.ref(self.state))

        def fall(self) -> None:
            held = State()
            lives.append(weakref.ref(held))
            raise Fault("with a local")

    times = 100 if place.has_loop else 30
    async with opened_and_heard(app(Large, name="c", executor=place), max_restarts=1000) as (
        host,
        told,
    ):
        ref = host.find("c", Large)
        for turn in range(times):
            if turn % 2:
                await ref.restart()
            else:
                await ref.tell(Large.fall)
            assert await ref.ask(Worker.life) == turn + 2
        gc.collect()
        alive = [one() for one in lives if one() is not None]
        assert len(alive) == 2
        del alive
        await ref.stop()
        await settled()
        gc.collect()
        assert all(one() is None for one in lives)
        # They are kept, by whoever listens, and hold nothing.
        crashes += [one for one in told.exits("host/c") if isinstance(one, av.Crashed)]
        assert len(crashes) == times // 2


@pytest.mark.parametrize("how", ["stop", "kill", "end", "crash", "gave up", "remove"])
@under_each_executor
async def test_akka_net_7692_timers_die_with_their_service(place: Place, how: str) -> None:
    # L8: not one message after the end.
    restart = "temporary" if how in {"end", "crash"} else "permanent"
    ticks: list[int] = []

    class Ticking(Worker):
        def setup(self) -> None:
            self.every(0.001, Ticking.tick)
            self.after(3, Ticking.tick)

        def tick(self) -> None:
            ticks.append(self.ref.incarnation)

    c = app(Ticking, name="c", executor=place, restart=restart)
    group = av.Supervisor([c], name="s", max_restarts=0, on_limit="drop")
    async with opened_and_heard(group) as (host, told):
        ref = host.find("s/c", Ticking)
        await until(lambda: len(ticks) > 2)
        if how == "stop":
            await ref.stop()
        elif how == "kill":
            await ref.stop(grace=0)
        elif how == "remove":
            await ref.remove()
        else:
            await ref.tell(Worker.end if how == "end" else Worker.crash)
            await ref.stopped()
        await settled()
        count, before = len(ticks), (host.statistics().mail, host.statistics().events)
        await trio.sleep(60 if place.has_loop else 0.05)
        assert len(ticks) == count
        assert (host.statistics().mail, host.statistics().events) == before
        # Only what was in hand at the end: the crash, or a tick that a thread was at when killed.
        letters = len(told.dead_letters)
        assert letters in ({0, 1} if how == "kill" else {int(how in {"crash", "gave up"})})


@pytest.mark.parametrize("promised", [False, True])
@under_each_executor
async def test_rabbitmq_server_922_a_late_reply_is_dropped(place: Place, promised: bool) -> None:
    # M8: and counted; it never comes as a message to who asked.
    gate = Gate(place)
    got: list[object] = []

    class Slow(Worker):
        def answer(self) -> Any:
            if promised:
                promise = self.reply_later()
                return then(gate.pass_through(), lambda: promise.send("late"))
            return then(gate.pass_through(), lambda: "late")

    class Asker(av.Service):
        def receive(self, message: object) -> None:
            got.append(message)

        def ask_slow(self, slow: av.Ref[Slow]) -> Any:
            return call(place, self.patiently, slow)

        @staticmethod
        async def patiently(slow: av.Ref[Slow]) -> str:
            with trio.move_on_after(0.02):
                await slow.ask(Slow.answer)
                return "answered"
            return "timed out"

    async with opened(
        app(Slow, name="slow", executor=place), app(Asker, name="asker", executor=place)
    ) as host:
        slow, asker = host.find("slow", Slow), host.find("asker", Asker)
        assert await asker.ask(Asker.ask_slow, slow) == "timed out"
        gate.open()
        assert await slow.ask(Worker.life) == 1
        await settled()
        assert host.statistics().mailboxes["host/slow"].late_replies == 1
        assert host.statistics().mailboxes["host/asker"].accepted == 1
        assert got == []


DELAYS = [1, 2, 4, 8, 16, 32, 60, 60, 60]


async def test_akka_core_19246_a_backoff_that_climbs(autojump_clock: object) -> None:
    # S4, S3: it starts over after a long life only, whatever its shortest delay is. The decision
    # is the core's; it has nothing to do with where the service runs.
    class Short(Worker):
        def setup(self) -> None:
            self.after(2, Worker.crash)

    backoff = av.Exponential(base=1, factor=2, cap=60, jitter=0)
    c = app(Short, name="c", backoff=backoff)
    async with opened_and_heard(max_restarts=1000, within=10**6) as (host, told):
        await until_life(await host.start(c), len(DELAYS) + 1)
        delays = [one.delay for one in told.of("host/c") if isinstance(one, av.Restarting)]
        assert delays == DELAYS


async def until_life(ref: av.Ref[Any], number: int) -> None:
    while ref.incarnation < number:  # noqa: ASYNC110
        await trio.sleep(0.5)


@pytest.mark.parametrize(("life", "starts_over"), [(119, False), (121, True)])
async def test_akka_core_19246_and_starts_over(
    life: float, starts_over: bool, autojump_clock: object
) -> None:
    # S4: the default of reset_after is twice the longest delay.
    begun: list[float] = []

    async def noted() -> None:
        begun.append(trio.current_time())
        await trio.sleep(life if len(begun) == 6 else 0)
        raise Fault("again")

    backoff = av.Exponential(base=1, factor=2, cap=60, jitter=0)
    c = app(noted, name="c", backoff=backoff)
    async with opened_and_heard(max_restarts=1000, within=10**6) as (host, told):
        await until_life(await host.start(c), 7)
        delays = [one.delay for one in told.of("host/c") if isinstance(one, av.Restarting)]
        assert delays[:6] == [1, 2, 4, 8, 16, 1 if starts_over else 32]


@under_each_executor
async def test_homex_64_one_poisoned_child_of_many(place: Place) -> None:
    # S3: it ends as GaveUp, and its siblings are not disturbed.
    many = 1000 if place.has_loop else 40
    children = [app(Worker, name=f"c{n}", executor=place) for n in range(many)]
    group = av.Supervisor(children, name="s", on_limit="drop", start="together")
    async with opened_and_heard(group) as (host, told):
        poisoned = host.find("s/c7", Worker)
        async with trio.open_nursery() as nursery:
            answers: list[Any] = []
            for _ in range(4):
                nursery.start_soon(error_of(poisoned.ask, answers), Worker.crash)
            await settled()
            for _ in range(3):
                nursery.start_soon(error_of(poisoned.ask, answers), Worker.life)
        reason = await poisoned.stopped()
        assert isinstance(reason, av.GaveUp)
        assert poisoned.state == "failed"
        kinds = Counter(type(one) for one in answers)
        assert kinds == {av.ServiceCrashed: 4, av.ServiceStopped: 3}
        refs = [host.find(f"s/c{n}", Worker) for n in range(many) if n != 7]
        assert {(ref.state, ref.incarnation) for ref in refs} == {("running", 1)}
        assert await refs[-1].ask(Worker.life) == 1
        assert host.find("s", av.Supervisor).incarnation == 1
        await settled()
        assert {one.path for one in told.dead_letters} <= {"host/s/c7"}


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
@pytest.mark.parametrize("how", ["end", "crash"])
@under_each_executor
async def test_akka_net_5945_a_stop_of_its_own_is_a_normal_end(
    place: Place, how: str, restart: Any
) -> None:
    # S1, L7: what is restarted is said by one table of reasons and kinds.
    restarted = {
        "permanent": {"end": True, "crash": True},
        "transient": {"end": False, "crash": True},
        "temporary": {"end": False, "crash": False},
    }
    c = app(Worker, name="c", executor=place, restart=restart)
    async with opened_and_heard(av.Supervisor([c], name="s")) as (host, told):
        ref = host.find("s/c", Worker)
        await error_of(ref.ask, [])(Worker.end if how == "end" else Worker.crash)
        if restarted[restart][how]:
            assert await ref.ask(Worker.life) == 2
        else:
            reason = await ref.stopped()
            assert isinstance(reason, av.Completed if how == "end" else av.Crashed)
            assert ref.state == ("stopped" if how == "end" else "failed")
            assert ref.incarnation == 1
        supervisor = host.find("s", av.Supervisor)
        assert (supervisor.state, supervisor.incarnation) == ("running", 1)
        await settled()
        kind = av.Completed if how == "end" else av.Crashed
        assert isinstance(told.exits("host/s/c")[0], kind)


@pytest.mark.parametrize("calls", [("stop", "stop"), ("stop", "remove"), ("remove", "remove")])
@pytest.mark.parametrize("ending", [False, True], ids=["running", "ending by itself"])
@under_each_executor
async def test_logflare_2270_two_tasks_stop_one_child(
    place: Place, calls: tuple[str, str], ending: bool
) -> None:
    # S7, I2, I4, L4: both return, with one reason.
    for turns in range(6):
        gate = Gate(place, shield=True)

        class Slow(Worker):
            def teardown(self, reason: av.ExitReason) -> Any:
                return gate.pass_through()  # noqa: B023 - of this turn

        slow = app(Slow, name="c", executor=place)
        async with opened(av.Supervisor(name="s")) as host:
            supervisor = host.find("s", av.Supervisor)
            ref = await supervisor.start(slow)
            reasons: list[Any] = []
            async with trio.open_nursery() as nursery:
                if ending:
                    await ref.tell(Worker.end)
                    await gate.reached.wait()
                for name in calls:
                    nursery.start_soon(error_of(getattr(ref, name), reasons))
                    for _ in range(turns):
                        await trio.lowlevel.checkpoint()
                await gate.reached.wait()
                gate.open()
            assert len(reasons) == 2
            assert reasons[0] == reasons[1]
            # The first reason stays, but a stop that comes while it restarts ends it.
            assert isinstance(reasons[0], av.Stopped | av.Completed)
            assert supervisor.children() == ()
            assert (supervisor.state, supervisor.incarnation) == ("running", 1)


@under_each_executor
async def test_ractor_226_children_of_a_supervisor_that_fails(place: Place) -> None:
    # S3, L4, L5: they are stopped gracefully, newest first, and are told so.
    gate = Gate(place)
    log: list[Any] = []

    class Child(Worker):
        def hold(self) -> Any:
            return then(gate.pass_through(), lambda: log.append("message done"))

        def teardown(self, reason: av.ExitReason) -> None:
            log.append((self.ref.path[-1], reason))

    children = [app(Child, name=name, executor=place) for name in "abc"]
    failing = app(Worker, name="failing", executor=place)
    inner = av.Supervisor([*children, failing], name="s", max_restarts=0, restart="temporary")
    async with opened_and_heard(inner) as (host, told):
        held = host.find("s/b", Child)
        async with trio.open_nursery() as nursery:
            answers: list[Any] = []
            nursery.start_soon(error_of(held.ask, answers), Child.hold)
            await gate.reached.wait()
            await host.find("s/failing", Worker).tell(Worker.crash)
            await until(lambda: host.find("s/b", Child).state == "stopping")
            assert log == [("c", av.Stopped())]
            gate.open()
        assert isinstance(await host.find("s", av.Supervisor).stopped(), av.Crashed)
        stopped = av.Stopped()
        assert log == [("c", stopped), "message done", ("b", stopped), ("a", stopped)]
        assert answers == [None]
        await settled()
        assert [told.exits(f"host/s/{name}") for name in "abc"] == [[stopped]] * 3


WAYS = ["stop", "remove", "kill", "end", "crash", "hang", "give up", "the host's end"]


@under_each_executor
async def test_pykka_187_no_end_without_its_record(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    # O1, O4, O5: each end is one notification and one record with its reason, at its level.
    caplog.set_level(logging.INFO, "actorvisor")
    gate = Gate(place)

    class Hanging(Worker):
        def hang(self) -> Any:
            return gate.pass_through()

    many = 24 if place.has_loop else 5
    refs: dict[str, av.Ref[Hanging]] = {}
    async with opened_and_heard(max_abandoned=100) as (host, told):
        group = await host.start(av.Supervisor(name="s", on_limit="drop", max_restarts=0))
        for way in WAYS:
            kind = "permanent" if way == "give up" else "temporary"
            for number in range(many):
                name = f"{way}-{number}".replace("'", "").replace(" ", "-")
                declared = app(Hanging, name=name, executor=place, restart=kind, grace=0.01)
                refs[name] = ref = await group.start(declared)
                if way == "stop":
                    await ref.stop()
                elif way == "remove":
                    await ref.remove()
                elif way == "kill":
                    await ref.stop(grace=0)
                elif way == "end":
                    await ref.tell(Worker.end)
                elif way in {"crash", "give up"}:
                    await ref.tell(Worker.crash)
                elif way == "hang":
                    await ref.tell(Hanging.hang)
                    await until(lambda: host.statistics().mail.in_hand)
                    await ref.stop(drain=0)
        gate.open()
    assert len(refs) == len(WAYS) * many
    for ref in refs.values():
        reason = await ref.stopped()
        assert told.ends(ref.path) == [reason]
        records = [
            one for one in caplog.records if one.getMessage().startswith(f"{ref.path} ended: ")
        ]
        assert [one.getMessage() for one in records] == [f"{ref.path} ended: {reason!r}"]
        wanted = isinstance(reason, av.Completed | av.Stopped)
        assert records[0].levelno == (logging.INFO if wanted else logging.ERROR)
        assert records[0].__dict__["path"] == ref.path
        if isinstance(reason, av.Crashed):
            (crash,) = [
                one for one in caplog.records if one.getMessage().startswith(f"{ref.path} crashed")
            ]
            assert "Fault: crash" in crash.getMessage()


@under_each_executor
async def test_ergo_94_what_is_dropped_is_counted(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    # M3, M7: by choice only; the count is exact, and the log does not grow with it.
    gate = Gate(place)

    class Slow(Worker):
        def hold(self) -> Any:
            return gate.pass_through()

        def note(self, sender: int) -> None:
            pass

    waiting = app(Slow, name="waiting", executor=place, mailbox=10)
    dropping = app(Slow, name="dropping", executor=place, mailbox=10, overflow="drop_oldest")

    async def send(ref: av.Ref[Slow], number: int) -> None:
        for _ in range(50):
            await ref.tell(Slow.note, number)

    async with opened(waiting, dropping) as host:
        refs = [host.find(name, Slow) for name in ("waiting", "dropping")]
        for ref in refs:
            await ref.tell(Slow.hold)
        await until(lambda: host.statistics().mail.in_hand == 2)
        async with trio.open_nursery() as nursery:
            for ref in refs:
                for number in range(40):
                    nursery.start_soon(send, ref, number)
            await settled()
            mails = host.statistics().mailboxes
            assert (mails["host/waiting"].accepted, mails["host/waiting"].dead_letters) == (11, 0)
            dropped = mails["host/dropping"]
            assert (dropped.accepted, dropped.dead_letters) == (2001, 1990)
            gate.open()
        for ref in refs:
            await ref.ask(Worker.life)
        assert host.statistics().mailboxes["host/waiting"].handled == 2002
        assert host.statistics().mailboxes["host/dropping"].handled == 12
    lines = [one.getMessage() for one in caplog.records if "dead letter" in one.getMessage()]
    assert len(lines) == 10
    assert "more of them are counted" in lines[-1]


async def test_ergo_94_and_the_log_goes_on_after_a_minute(
    caplog: pytest.LogCaptureFixture, autojump_clock: object
) -> None:
    # O5: ten a minute of each actor, and how many there were in between.
    async with opened(app(Worker, name="a"), app(Worker, name="b")) as host:
        for _ in range(25):
            await host.find("a", Worker).send("nobody takes it")
        await host.find("b", Worker).send("nobody takes it")
        await trio.sleep(60)
        for _ in range(2):
            await host.find("a", Worker).send("nobody takes it")
    lines = [one.getMessage() for one in caplog.records]
    assert [one.partition(":")[0] for one in lines] == ["host/a"] * 10 + ["host/b"] + ["host/a"] * 2
    assert "(15 more in between)" in lines[-2]
    assert "in between" not in lines[-1]


async def test_tractor_261_started_is_called_again(autojump_clock: object) -> None:
    # H7: a later life's `started` is ignored; a crash before the first is start's, and the end.
    values: list[int] = []

    async def serve(*, task_status: trio.TaskStatus[int]) -> None:
        values.append(len(values))
        task_status.started(len(values))
        if len(values) < 4:
            await trio.sleep(1)
            raise Fault("after started")

    async def fail_early(  # noqa: ASYNC114
        *, task_status: trio.TaskStatus[int]
    ) -> None:
        values.append(0)
        await trio.lowlevel.checkpoint()
        if values:
            raise Fault("before started")
        task_status.started(0)

    async with av.open_supervised_nursery(max_restarts=3, within=60) as nursery:
        assert await nursery.start(serve) == 1
    assert len(values) == 4
    values.clear()
    async with av.open_supervised_nursery() as nursery:
        with pytest.raises(Fault, match="before started"):
            await nursery.start(fail_early)
        await trio.sleep(1)
    assert len(values) == 1


async def test_trio_2878_a_thread_that_is_no_task() -> None:
    # I3: what is for the loop says so in a thread, at once, and nothing else is disturbed.
    class Careless(Worker):
        def touch(self, ref: av.Ref[Worker], how: str) -> object:
            if how == "await it":
                coroutine = ref.tell(Worker.life)
                return coroutine.send(None)
            if how == "no wait":
                return ref.tell_nowait(Worker.life)
            return ref.blocking.ask(Worker.life)

    async with opened(
        app(Careless, name="c", executor=THREADS, redeliver=0), app(Worker, name="other")
    ) as host:
        ref, other = host.find("c", Careless), host.find("other", Worker)
        for how in ("await it", "no wait"):
            with pytest.raises(av.ServiceCrashed) as crash:
                await ref.ask(Careless.touch, other, how)
            assert isinstance(crash.value.__cause__, RuntimeError)
        assert await ref.ask(Careless.touch, other, "right") == 1
        assert (ref.incarnation, other.incarnation) == (3, 1)


PROGRAM = """
import logging, os, signal, sys, threading
import actorvisor as av

class Service(av.Service):
    def teardown(self, reason):
        print("torn down", reason, flush=True)

class Storm(logging.Handler):
    inside = 0
    deepest = 0
    def emit(self, record):
        self.inside += 1
        self.deepest = max(self.deepest, self.inside)
        for _ in range(signals):
            signal.raise_signal(signal.SIGTERM)
        self.inside -= 1

async def ready(host):
    print("ready", flush=True)
    if signals:
        await host.find("s/a", Service).send("a dead letter, which is logged")

signals = int(sys.argv[2])
storm = Storm()
logger = logging.getLogger("actorvisor")
logger.addHandler(storm)
place = av.ThreadExecutor() if sys.argv[1] == "thread" else av.AsyncExecutor()
children = [av.Application(Service, name=name, executor=place) for name in "ab"]
try:
    av.run([av.Supervisor(children, name="s")], observe=ready)
finally:
    print("deepest", storm.deepest, flush=True)
"""


def start_program(place: Place, signals: int) -> subprocess.Popen[str]:
    where = "coroutine" if place.has_loop else "thread"
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, where, str(signals)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.process
@pytest.mark.parametrize("place", [COROUTINES, THREADS], ids=["coroutine", "thread"])
def test_uvicorn_852_sigterm_to_the_parent_only(place: Place) -> None:
    # H4: a graceful stop of all, and 143.
    with start_program(place, 0) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        program.terminate()
        out, errors = program.communicate(timeout=30)
    assert program.returncode == 143, errors
    assert out.splitlines()[:2] == ["torn down Stopped()"] * 2
    assert errors == ""


@pytest.mark.process
@pytest.mark.parametrize("signals", [1, 40])
@pytest.mark.parametrize("place", [COROUTINES, THREADS], ids=["coroutine", "thread"])
def test_gunicorn_2564_signals_while_a_record_is_written(place: Place, signals: int) -> None:
    # H4: they only wake the loop; nothing is logged in a handler.
    with start_program(place, signals) as program:
        out, errors = program.communicate(timeout=30)
    assert program.returncode == 143, errors
    assert "deepest 1" in out
    assert "Traceback" not in errors


class Heavy:
    """A message whose repr is large, or raises; how often it was asked for is counted."""

    asked = 0

    def __init__(self, number: int) -> None:
        self.number = number

    def __repr__(self) -> str:
        Heavy.asked += 1
        if self.number % 2:
            raise Fault("no repr")
        return "x" * 1_000_000


@under_each_executor
async def test_gen_batch_server_28_a_crash_with_a_long_mailbox(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    # O5: counts and bounded text; a repr that raises, or is large, breaks nothing.
    many = 20_000
    gate = Gate(place)
    Heavy.asked = 0

    class Reader(Worker):
        def hold(self, message: Heavy) -> Any:
            def fail() -> None:
                raise Fault(message, "x" * 1_000_000)

            return then(gate.pass_through(), fail)

        def take(self, message: Heavy) -> None:
            pass

    reader = app(Reader, name="c", executor=place, mailbox=many)
    group = av.Supervisor([reader], name="s", max_restarts=0, on_limit="drop")
    with trio.fail_after(60):
        async with av.open_host([group]) as host:
            ref = host.find("s/c", Reader)
            await ref.tell(Reader.hold, Heavy(1))
            for number in range(many):
                await ref.tell(Reader.take, Heavy(number))
            gate.open()
            reason = await ref.stopped()
            assert isinstance(reason, av.GaveUp)
            assert host.statistics().mail.dead_letters == many + 1
            assert len(repr(reason)) < 1000
    assert sum(len(one.getMessage()) for one in caplog.records) < 60_000
    assert Heavy.asked < 100
