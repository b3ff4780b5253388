"""Reports on systems like ours that a fresh implementation most likely repeats, case by case."""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import logging
import math
import sys
import threading
from collections.abc import Callable
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
    opened,
    opened_and_heard,
    service_threads,
    settled,
    then,
    under_each_executor,
    until,
)


@pytest.mark.parametrize("how", ["end", "crash"])
@under_each_executor
async def test_otp_5193_a_stop_crosses_an_own_end(
    place: Place, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    # L1, L2, S7, S5: one exit with the child's own reason, and the stop returns just that.
    method: Any = getattr(Worker, how)
    gate = Gate(place, shield=True)

    class Slow(Worker):
        def teardown(self, reason: av.ExitReason) -> Any:
            return gate.pass_through()

    reasons: dict[str, av.ExitReason] = {}

    async def cross(host: av.Host, name: str, turns: int, drain: float) -> None:
        ref = await host.start(app(Worker, name=name, executor=place, restart="temporary"))
        await ref.tell(method)
        for _ in range(turns):
            await trio.lowlevel.checkpoint()
        reasons[ref.path] = await ref.stop(drain=drain)

    async with opened_and_heard() as (host, told):
        # Its end is recorded, and it is still tearing down.
        slow = await host.start(app(Slow, name="slow", executor=place, restart="temporary"))
        await slow.tell(method)
        await gate.reached.wait()
        async with trio.open_nursery() as nursery:
            stops: list[Any] = []
            nursery.start_soon(error_of(slow.stop, stops))
            await settled()
            gate.open()
        reasons[slow.path] = stops[0]
        assert not isinstance(stops[0], av.Stopped)
        # Any order of the two, many times.
        for batch in range(6):
            async with trio.open_nursery() as nursery:
                for turns in range(10):
                    for drain in (0, 5):
                        nursery.start_soon(cross, host, f"c{batch}-{turns}-{drain}", turns, drain)
    assert len(reasons) == 121
    for path, reason in reasons.items():
        assert told.exits(path) == told.ends(path) == [reason]
        if isinstance(reason, av.Crashed):
            assert how == "crash"
            assert isinstance(reason.exception, Fault)
        elif isinstance(reason, av.Completed):
            assert how == "end"
        else:
            assert reason == av.Stopped()  # it came first
    errors = [one for one in caplog.records if one.levelno >= logging.ERROR]
    assert all("Fault" in one.getMessage() for one in errors)
    assert bool(errors) == (how == "crash")


@under_each_executor
async def test_supervisor_1387_restart_calls_in_a_crash_loop(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    # S7, L1, S5: each call restarts or says in words why not, and the supervisor survives.
    caplog.set_level(logging.CRITICAL, "actorvisor")  # the loop is quicker than its log
    lives = itertools.count()

    async def crash_soon() -> None:
        life = next(lives)
        for _ in range(life % 5):
            await trio.lowlevel.checkpoint()
        if life % 10 == 0:
            await trio.sleep(0.01)
        raise Fault("soon")

    def crash_at_once() -> None:
        raise Fault("at once")

    crashing = crash_soon if place.has_loop else crash_at_once
    looping = [
        app(crashing, name=name, executor=place, restart="permanent") for name in ("one", "two")
    ]
    times = 10_000 if place.has_loop else 200  # the threads were run with as many, by hand
    outcomes: dict[str, int] = {}
    async with opened(av.Supervisor(looping, name="s", max_restarts=10**9, within=0.001)) as host:
        supervisor = host.find("s", av.Supervisor)
        ref = host.find("s/one", av.FunctionService)
        for _ in range(times):
            try:
                await ref.restart()
                why = "restarted"
            except av.ControlRefused as error:
                why = error.why
            outcomes[why] = outcomes.get(why, 0) + 1
        assert (supervisor.state, supervisor.incarnation) == ("running", 1)
        before = host.find("s/two", av.FunctionService).incarnation
        await until(lambda: host.find("s/two", av.FunctionService).incarnation > before)
        assert outcomes.keys() <= {"restarted", "restarting", "stopping", "already starting"}
        assert outcomes["restarted"]
        await supervisor.stop(drain=0)


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
@pytest.mark.parametrize("how", ["end", "crash"])
@pytest.mark.parametrize("first", ["the end", "the restart"])
@under_each_executor
async def test_distributed_7312_a_restart_crosses_an_own_end(
    place: Place, first: str, how: str, restart: Any
) -> None:
    # S7, L1: the restart wins over a concurrent end, exactly one new life, whatever the order.
    handlers = [Gate(place) for _ in range(3)]
    teardowns = [Gate(place) for _ in range(3)]

    class Closing(Worker):
        def __init__(self, number: int) -> None:
            self.number = number

        def close(self) -> Any:
            do = self.stop if how == "end" else self.crash
            return then(handlers[self.number].pass_through(), do)

        def teardown(self, reason: av.ExitReason) -> Any:
            return teardowns[self.number].pass_through()

    apps = [app(Closing, n, name=f"w{n}", executor=place, restart=restart) for n in range(3)]
    async with opened_and_heard(av.Supervisor(apps, name="s", max_restarts=0)) as (host, told):
        refs = [host.find(f"s/w{n}", Closing) for n in range(3)]
        for ref in refs:
            await ref.tell(Closing.close)
        for gate in handlers:
            await gate.reached.wait()
        async with trio.open_nursery() as nursery:
            if first == "the end":
                for gate in handlers:
                    gate.open()
                for gate in teardowns:
                    await gate.reached.wait()
            for ref in refs:
                nursery.start_soon(ref.restart)
            await settled()
            for gate in handlers + teardowns:
                gate.open()
        for ref in refs:
            assert (ref.state, ref.incarnation) == ("running", 2)
            assert await ref.ask(Worker.life) == 2
            assert told.kinds(ref.path).count(av.Restarting) == 0
            assert not told.ends(ref.path)
        assert host.find("s", av.Supervisor).incarnation == 1


@under_each_executor
async def test_kameo_387_restarts_one_after_the_other(place: Place) -> None:
    # L8, L5, L6: the next life begins when nothing of the last is left, background included.
    log: list[str] = []
    background, teardown = Gate(place, shield=True), Gate(place)

    class Holder(Worker):
        def __init__(self) -> None:
            log.append("new")

        def setup(self) -> None:
            log.append("setup")
            if self.ref.incarnation == 1:
                self.start_soon(self.beside)
                self.every(0.001, Worker.life)

        if place.has_loop:

            async def beside(self) -> None:
                try:
                    await trio.sleep_forever()
                finally:
                    await background.pass_through()  # noqa: ASYNC102
                    log.append("background over")
        else:

            def beside(self) -> None:  # type: ignore[misc]
                background.pass_through()
                log.append("background over")

        def teardown(self, reason: av.ExitReason) -> Any:
            log.append("teardown")
            return then(teardown.pass_through(), lambda: log.append("torn down"))

    async with opened(app(Holder, name="c", executor=place)) as host:
        ref = host.find("c", Holder)
        await ref.tell(Worker.crash)
        await background.reached.wait()
        await settled()
        assert log == ["new", "setup"]
        background.open()
        await teardown.reached.wait()
        await settled()
        assert log == ["new", "setup", "background over", "teardown"]
        assert ref.state == "stopping"
        teardown.open()
        assert await ref.ask(Worker.life) == 2
        assert log[4:] == ["torn down", "new", "setup"]


@under_each_executor
async def test_akka_core_22873_a_timer_of_the_life_before(place: Place) -> None:
    # M4, L8: its message is dropped and counted by a later life; ordinary mail is not.
    gate = Gate(place)
    log: list[tuple[str, int]] = []

    class Timed(Worker):
        def note(self, what: str) -> None:
            log.append((what, self.ref.incarnation))

        def fall(self) -> Any:
            self.after(0.01, Timed.note, "timer")
            return then(gate.pass_through(), self.crash)

    async with opened(app(Timed, name="c", executor=place)) as host:
        ref = host.find("c", Timed)
        await ref.tell(Timed.fall)
        await ref.tell(Timed.note, "mail")
        await gate.reached.wait()
        await until(lambda: host.statistics().mailboxes["host/c"].waiting == 2)
        gate.open()
        await ref.ask(Worker.life)
        assert log == [("mail", 2)]
        assert host.statistics().mailboxes["host/c"].withdrawn == 1


@under_each_executor
async def test_akka_net_145_not_one_message_more_after_a_crash(place: Place) -> None:
    # M4, M5: the backlog is the next life's, also what was taken out already.
    gate = Gate(place)
    log: list[tuple[int, int]] = []

    class Reader(Worker):
        def __init__(self) -> None:
            self.fallen = False

        def hold(self) -> Any:
            return gate.pass_through()

        def note(self, number: int) -> None:
            assert not self.fallen
            if number == 3:
                self.fallen = True
                raise Fault("the third")
            log.append((number, self.ref.incarnation))

    async with opened(app(Reader, name="c", executor=place)) as host:
        ref = host.find("c", Reader)
        await ref.tell(Reader.hold)
        for number in range(1, 101):
            await ref.tell(Reader.note, number)
        gate.open()
        assert await ref.ask(Worker.life) == 2
        assert log == [(n, 1 if n < 3 else 2) for n in range(1, 101) if n != 3]


@under_each_executor
async def test_akka_core_31814_mail_of_a_backoff_outlasts_crashes(place: Place) -> None:
    # M4, S4: nine are still there, in order, after any number of crashes in a row.
    log: list[int] = []

    class Reader(Worker):
        def note(self, number: int) -> None:
            if number in {1, 2, 3, 7}:
                raise Fault(f"message {number}")
            log.append(number)

    delay = av.Fixed(10 if place.has_loop else 0.01)
    async with opened(
        app(Reader, name="c", executor=place, backoff=delay), within=1e6, max_restarts=20
    ) as host:
        ref = host.find("c", Reader)
        await ref.tell(Worker.crash)
        await until(lambda: ref.incarnation == 1 and ref.state == "backing_off")
        for number in range(1, 11):
            ref.tell_nowait(Reader.note, number)
        assert await ref.ask(Worker.life) == 6
        assert log == [4, 5, 6, 8, 9, 10]


async def _exceed(host: av.Host, ref: av.Ref[Any], gate: Gate) -> None:
    gate.open()
    await ref.stopped()


async def _stop(host: av.Host, ref: av.Ref[Any], gate: Gate) -> None:
    await ref.stop(grace=0)


async def _remove(host: av.Host, ref: av.Ref[Any], gate: Gate) -> None:
    await ref.remove(grace=0)


async def _stop_supervisor(host: av.Host, ref: av.Ref[Any], gate: Gate) -> None:
    await host.find("s", av.Supervisor).stop(grace=0)


async def _leave(host: av.Host, ref: av.Ref[Any], gate: Gate) -> None:
    """The host's own end, whose drain finds a message that does not end."""


WAYS: dict[str, tuple[Any, dict[str, Any], type[av.ActorvisorError]]] = {
    # how it is ended, under which supervisor, what the asker in hand is told
    "limit": (_exceed, {"max_restarts": 0, "restart": "temporary"}, av.ServiceCrashed),
    "gave up": (_exceed, {"max_restarts": 0, "on_limit": "drop"}, av.ServiceCrashed),
    "stop": (_stop, {}, av.ServiceStopped),
    "removal": (_remove, {}, av.ServiceStopped),
    "its supervisor": (_stop_supervisor, {}, av.ServiceStopped),
    "its host": (_leave, {}, av.ServiceStopped),
}


@pytest.mark.parametrize("way", WAYS)
@under_each_executor
async def test_kameo_364_what_is_left_is_told_however_it_ends(place: Place, way: str) -> None:
    # M6, M7, S3: 50 + 1 dead letters, and each asker is told.
    end, options, in_hand = WAYS[way]
    gate = Gate(place)
    answers: list[Any] = []

    class Holder(Worker):
        def hold(self) -> Any:
            return then(gate.pass_through(), self.crash)

    holder = app(Holder, name="c", executor=place, grace=0.05)
    async with trio.open_nursery() as nursery:
        async with opened_and_heard(av.Supervisor([holder], name="s", **options), drain=0.05) as (
            host,
            told,
        ):
            ref = host.find("s/c", Holder)
            held: list[Any] = []
            nursery.start_soon(error_of(ref.ask, held), Holder.hold)
            await gate.reached.wait()
            for _ in range(25):
                await ref.tell(Worker.life)
                nursery.start_soon(error_of(ref.ask, answers), Worker.life)
            await settled()
            await end(host, ref, gate)
            if way == "its host":
                nursery.start_soon(_open_later, gate)
            else:
                await settled()
                assert len(answers) == 25  # at once
                gate.open()
        assert len(told.dead_letters) == 51
        assert {one.path for one in told.dead_letters} == {"host/s/c"}
        mail = host.statistics().mail
        assert (mail.accepted, mail.dead_letters, mail.handled) == (51, 51, 0)
        assert [type(one) for one in answers] == [av.ServiceStopped] * 25
        assert [type(one) for one in held] == [in_hand]


async def _open_later(gate: Gate) -> None:
    """An abandoned thread is let go when the host has ended, that its end can be seen."""
    await trio.sleep(0.5)
    gate.open()


@under_each_executor
async def test_pykka_231_whoever_waits_for_an_end_sees_it(place: Place) -> None:
    # I2, I4: every way to wait returns after teardown, and when the thread is gone.
    gate = Gate(place)
    log: list[str] = []

    class Slow(Worker):
        def teardown(self, reason: av.ExitReason) -> Any:
            return then(gate.pass_through(), lambda: log.append("torn down"))

    class Watcher(av.Service):
        def setup(self) -> None:
            self.monitor(self.find("../c", Slow))

        def receive(self, message: object) -> None:
            if isinstance(message, av.Ended):
                log.append("Ended")

    async def wait(name: str, way: Callable[[], Any]) -> None:
        await way()
        assert [one for one in service_threads() if one.startswith("host/c")] == []
        log.append(name)

    async with opened_and_heard(
        app(Slow, name="c", executor=place), app(Watcher, name="watcher", executor=place)
    ) as (host, told):
        ref = host.find("c", Slow)
        waits = {"stop": ref.stop, "remove": ref.remove, "stopped": ref.stopped, "again": ref.stop}
        async with trio.open_nursery() as nursery:
            for name, way in waits.items():
                nursery.start_soon(wait, name, way)
            await gate.reached.wait()
            await settled()
            assert log == []
            assert not told.exits("host/c")
            gate.open()
        await until(lambda: "Ended" in log)
        assert log[0] == "torn down"
        assert sorted(log[1:]) == sorted([*waits, "Ended"])
        await settled()
        assert told.ends("host/c") == [av.Stopped()]


CALLS = ["start a child", "start", "stop", "restart", "remove", "stopped"]


@pytest.mark.parametrize("what", CALLS)
@pytest.mark.parametrize("when", ["setup", "declared setup", "teardown", "teardown of all"])
@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
@under_each_executor
async def test_raxol_733_control_from_the_hooks_of_a_child(
    place: Place, strategy: Any, when: str, what: str
) -> None:
    # M10, S7: refused at once in words, or done; never a hang.
    log: list[Any] = []

    class Nested(Worker):
        def setup(self) -> Any:
            return self.nest("setup")

        def teardown(self, reason: av.ExitReason) -> Any:
            return self.nest("teardown")

        def nest(self, hook: str) -> Any:
            if hook not in when or log:
                return None
            if what == "start a child":
                supervisor = self.find("..", av.Supervisor)
                child = app(Worker, name="b", executor=place)
                return call(place, error_of(supervisor.start, log), child)
            return call(place, error_of(getattr(self.ref, what), log))

    nested = app(Nested, name="a", executor=place, grace=math.inf, start_timeout=math.inf)
    declared = [nested] if when == "declared setup" else []
    with trio.fail_after(10):
        async with opened(av.Supervisor(declared, name="s", strategy=strategy)) as host:
            supervisor = host.find("s", av.Supervisor)
            begun: list[Any] = []
            if not declared:
                await error_of(supervisor.start, begun)(nested)
                assert isinstance(begun[0], av.Ref)
            if when == "teardown":
                await begun[0].stop()
            elif when == "teardown of all":
                await supervisor.stop()
            assert len(log) == 1
            answer = log[0]
            words = (av.WaitCycle, av.ControlRefused)
            assert isinstance(answer, (*words, av.Ref)), answer
            if isinstance(answer, Exception):
                assert "host/s" in str(answer)
            if when == "teardown of all":
                assert isinstance(answer, words)
                await supervisor.start()
            assert supervisor.state == "running"
            after = await supervisor.start(app(Worker, name="after", executor=place))
            assert await after.ask(Worker.life) == 1


@under_each_executor
async def test_trusty_tools_6600_a_start_that_fails_is_not_waited_for(place: Place) -> None:
    # L3: raised at once, with its cause, not after start_timeout.
    gate = Gate(place)
    failure = ImportError("no module named nothing")

    class Broken(Worker):
        def setup(self) -> Any:
            return then(gate.pass_through(), self.fail)

        def fail(self) -> None:
            raise failure

    async with opened() as host:
        async with trio.open_nursery() as nursery:
            raised: list[Any] = []
            nursery.start_soon(
                error_of(host.start, raised),
                app(Broken, name="c", executor=place, start_timeout=3600),
            )
            await gate.reached.wait()
            gate.open()
            with trio.fail_after(10):
                await until(lambda: raised)
        assert raised == [failure]
        assert "in fail" in "".join(_traceback(failure))


def _traceback(error: BaseException) -> list[str]:
    import traceback

    return traceback.format_exception(error)


@pytest.mark.parametrize("how", ["left", "left without drain", "cancelled", "by an error"])
@under_each_executor
async def test_thespian_27_a_start_crosses_the_end_of_all(place: Place, how: str) -> None:
    # H1, S7: it is refused, or the child is stopped with the rest.
    live: list[int] = []
    answers: list[Any] = []

    async def child() -> None:
        live.append(1)
        try:
            await trio.sleep_forever()
        finally:
            live.pop()

    def child_in_thread() -> None:
        live.append(1)
        while not av.stopping():
            threading.Event().wait(0.001)
        live.pop()

    declared = app(child if place.has_loop else child_in_thread, executor=place, name="child")

    class Parent(Worker):
        def spawn(self, host: av.Host) -> Any:
            return call(place, error_of(host.start, answers), declared)

    for turns in range(12):
        drain = 0 if how == "left without drain" else 5
        with trio.CancelScope() as scope, contextlib.suppress(Fault):
            async with av.open_host([app(Parent, name="p", executor=place)], drain=drain) as host:
                host.find("p", Parent).tell_nowait(Parent.spawn, host)
                for _ in range(turns):
                    await trio.lowlevel.checkpoint()
                if how == "cancelled":
                    scope.cancel()
                elif how == "by an error":
                    raise Fault("the block's own")
        assert live == []
        assert service_threads() == [] or not place.has_loop
        assert host.statistics().running == 0
        with trio.fail_after(10):
            await until(lambda: not service_threads())
    for one in answers:
        assert isinstance(one, av.Ref | av.ControlRefused | av.ServiceStopped), one


async def test_suture_77_a_cancellation_of_something_else(autojump_clock: object) -> None:
    # M9: only a cancellation of the runtime's own scope is a stop. Coroutines only.
    class Leaky(Worker):
        async def leak(self) -> None:
            kept: list[trio.Cancelled] = []
            with trio.CancelScope() as scope:
                scope.cancel()
                try:
                    await trio.lowlevel.checkpoint()
                except trio.Cancelled as error:
                    kept.append(error)
                    raise
            raise kept[0]

    async with opened_and_heard(app(Leaky, name="c", restart="transient")) as (host, told):
        ref = host.find("c", Leaky)
        with pytest.raises(av.ServiceCrashed) as crash:
            await ref.ask(Leaky.leak)
        assert isinstance(crash.value.__cause__, trio.Cancelled)
        assert await ref.ask(Worker.life) == 2
        await settled()
        (reason,) = told.exits("host/c")
        assert isinstance(reason, av.Crashed)
        assert isinstance(reason.exception, trio.Cancelled)


class Exiting(Worker):
    def exit(self, code: int) -> None:
        sys.exit(code)


@under_each_executor
async def test_faust_324_an_exit_is_a_crash(place: Place) -> None:
    # M9: restarted as after any crash.
    async with opened_and_heard(app(Exiting, name="c", executor=place)) as (host, told):
        ref = host.find("c", Exiting)
        for code in (1, 0):
            with pytest.raises(av.ServiceCrashed) as crash:
                await ref.ask(Exiting.exit, code)
            assert isinstance(crash.value.__cause__, SystemExit)
            assert crash.value.__cause__.code == code
        assert await ref.ask(Worker.life) == 3
        await settled()
        assert [type(one) for one in told.exits("host/c")] == [av.Crashed] * 2


@pytest.mark.parametrize("code", [1, 7])
@pytest.mark.parametrize("place", [COROUTINES, THREADS], ids=["coroutine", "thread"])
def test_faust_324_and_the_programs_exit_when_it_reaches_the_host(place: Place, code: int) -> None:
    # H4: the program ends with its code, and is not in stopping for ever.
    async def use(host: av.Host) -> None:
        await host.find("s/c", Exiting).tell(Exiting.exit, code)

    children = [app(Exiting, name="c", executor=place)]
    with pytest.raises(SystemExit) as exited:
        av.run([av.Supervisor(children, name="s", max_restarts=0)], observe=use, max_restarts=0)
    assert exited.value.code == code


async def test_burla_162_ctrl_c_of_a_threads_own() -> None:
    # M9: in a thread it is a crash like any other, with its traceback.
    class Interrupted(Worker):
        def interrupt(self) -> None:
            raise KeyboardInterrupt("my own")

    async with opened_and_heard(app(Interrupted, name="c", executor=THREADS)) as (host, told):
        ref = host.find("c", Interrupted)
        with pytest.raises(av.ServiceCrashed) as crash:
            await ref.ask(Interrupted.interrupt)
        assert isinstance(crash.value.__cause__, KeyboardInterrupt)
        assert await ref.ask(Worker.life) == 2
        await settled()
        (reason,) = told.exits("host/c")
        assert isinstance(reason, av.Crashed)
        assert isinstance(reason.exception, KeyboardInterrupt)
        assert "in interrupt" in reason.traceback_text


@pytest.mark.parametrize("where", ["handler", "background", "setup", "run"])
@under_each_executor
async def test_trio_2301_the_users_own_exception_comes_out(place: Place, where: str) -> None:
    # S8, M9: no group of ours around it; open_host: one group, one level, one entry.
    error = ValueError("the user's own")

    def fail(*_: object) -> None:
        raise error

    async def fail_in_task() -> None:
        await trio.lowlevel.checkpoint()
        raise error

    class Plain(Worker):
        def setup(self) -> None:
            if where == "setup":
                raise error

        def fall(self) -> None:
            if where == "background":
                self.start_soon(fail_in_task if place.has_loop else fail)
            else:
                raise error

    async def loop() -> None:
        await trio.lowlevel.checkpoint()
        raise error

    with trio.fail_after(20), pytest.RaisesGroup(ValueError) as caught:
        async with av.open_host(max_restarts=0) as host:
            reader = host.events()
            if where == "setup":
                with pytest.raises(ValueError, match="own") as raised:
                    await host.start(app(Plain, name="c", executor=place))
                assert raised.value is error
                raise ExceptionGroup("the same", [error])
            if where == "run":
                await host.start(app(loop if place.has_loop else fail, name="c", executor=place))
                await host.wait()
                await trio.sleep_forever()
            ref = await host.start(app(Plain, name="c", executor=place))
            if where == "handler":
                with pytest.raises(av.ServiceCrashed) as crash:
                    await ref.ask(Plain.fall)
                assert crash.value.__cause__ is error
            else:
                await ref.tell(Plain.fall)
            await trio.sleep_forever()
    assert caught.value.exceptions == (error,)
    crashes = [
        one.reason
        async for one in reader
        if isinstance(one, av.Exited) and isinstance(one.reason, av.Crashed)
    ]
    assert all(one.exception is error for one in crashes)
    assert bool(crashes)


async def test_trio_2301_and_out_of_the_supervised_nurserys_start(autojump_clock: object) -> None:
    # H7, S8: start raises the task's own exception, bare.
    error = ValueError("the user's own")

    async def fail(  # noqa: ASYNC114, ASYNC128
        *, task_status: trio.TaskStatus[None]
    ) -> None:
        await trio.lowlevel.checkpoint()
        raise error

    async with av.open_supervised_nursery() as nursery:
        with pytest.raises(ValueError, match="own") as raised:
            await nursery.start(fail)
        assert raised.value is error


@pytest.mark.parametrize("overflow", ["wait", "drop_oldest"])
@under_each_executor
async def test_ergo_96_a_full_mailbox_drops_nothing_silently(place: Place, overflow: Any) -> None:
    # M3, M7: senders wait; by choice the oldest is a dead letter, and an asker is told at once.
    gate = Gate(place)
    log: list[tuple[int, int]] = []

    class Reader(Worker):
        def hold(self) -> Any:
            return gate.pass_through()

        def note(self, sender: int, number: int) -> None:
            log.append((sender, number))

    reader = app(Reader, name="c", executor=place, mailbox=3, overflow=overflow)
    async with opened_and_heard(reader) as (host, told):
        ref = host.find("c", Reader)
        await ref.tell(Reader.hold)
        await gate.reached.wait()

        def send(sender: int) -> None:
            for number in range(20):
                ref.blocking.tell(Reader.note, sender, number)

        async def send_here(sender: int) -> None:
            for number in range(20):
                await ref.tell(Reader.note, sender, number)

        async with trio.open_nursery() as nursery:
            asked: list[Any] = []
            nursery.start_soon(error_of(ref.ask, asked), Worker.life)
            await settled()
            for sender in range(3):
                if place.has_loop:
                    nursery.start_soon(send_here, sender)
                else:
                    nursery.start_soon(trio.to_thread.run_sync, send, sender)
            if overflow == "wait":
                await until(lambda: host.statistics().mailboxes["host/c"].waiting == 3)
                assert (log, asked) == ([], [])
                gate.open()
            else:
                await until(lambda: len(told.dead_letters) == 58)
                assert [type(one) for one in asked] == [av.MailboxFull]
                gate.open()
        await until(lambda: len(log) == (60 if overflow == "wait" else 3))
        for sender in range(3):
            numbers = [n for s, n in log if s == sender]
            assert numbers == sorted(numbers)  # M2
        if overflow == "wait":
            assert (asked, told.dead_letters) == ([1], [])


@pytest.mark.parametrize("state", ["starting", "backing_off"])
@under_each_executor
async def test_ray_15045_an_ask_of_a_service_that_is_down(place: Place, state: str) -> None:
    # S4, M6, M8: it waits, a deadline works, and by choice it fails at once with the state.
    gate = Gate(place)

    class Slow(Worker):
        def setup(self) -> Any:
            wait = state == "starting" and self.ref.incarnation == 2
            return gate.pass_through() if wait else None

    backoff = av.Fixed(60) if state == "backing_off" else av.Immediate()
    declared = app(Slow, name="c", executor=place, backoff=backoff)
    async with opened(declared, within=1000) as host:
        ref = host.find("c", Slow)
        await ref.tell(Worker.crash)
        await until(lambda: ref.state == state)
        with trio.fail_after(5):
            with pytest.raises(av.ServiceStopped, match=state):
                await ref.if_running.ask(Worker.life)
            with pytest.raises(av.ServiceStopped, match=state):
                await ref.if_running.tell(Worker.life)
        with trio.move_on_after(0.05) as patience:
            await ref.ask(Worker.life)
        assert patience.cancelled_caught
        async with trio.open_nursery() as nursery:
            answers: list[Any] = []
            nursery.start_soon(error_of(ref.ask, answers), Worker.life)
            await settled()
            assert answers == []
            gate.open()
            if state == "backing_off" and not place.has_loop:
                await ref.restart()  # not a minute of real time
        assert answers == [2]
        mail = host.statistics().mailboxes["host/c"]
        assert (mail.withdrawn, mail.handled, mail.dead_letters) == (1, 1, 1)


@under_each_executor
async def test_otp_11245_a_timed_out_ask_is_not_handled(place: Place) -> None:
    # M8, M6: withdrawn before it was taken up, and counted as such.
    gate = Gate(place)
    moved: list[int] = []

    class Bank(Worker):
        def hold(self) -> Any:
            return gate.pass_through()

        def move(self, amount: int) -> None:
            moved.append(amount)

    async with opened(app(Bank, name="c", executor=place)) as host:
        ref = host.find("c", Bank)
        await ref.tell(Bank.hold)
        await gate.reached.wait()
        with pytest.raises(trio.TooSlowError):
            with trio.fail_after(0.02):
                await ref.ask(Bank.move, 100)
        gate.open()
        await ref.ask(Bank.move, 7)
        assert moved == [7]
        mail = host.statistics().mailboxes["host/c"]
        assert (mail.withdrawn, mail.handled) == (1, 2)


VALUES: list[Any] = [
    None, False, 0, "", ..., NotImplemented, ValueError("a value"), StopIteration("a value"),
    trio.EndOfChannel, av.Stopped(), av.Rejection("a value"), trio.TASK_STATUS_IGNORED,
]  # fmt: skip


@under_each_executor
async def test_tractor_264_any_value_is_a_value(place: Place) -> None:
    # M9, L2: as a reply, as a promised reply, and as Completed(value).
    class Echo(Worker):
        def give(self, value: Any) -> Any:
            return value

        def promise(self, value: Any) -> Any:
            self.reply_later().send(value)

    async def returns(value: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return value

    def returns_at_once(value: Any) -> Any:
        return value

    function = returns if place.has_loop else returns_at_once
    async with opened_and_heard(app(Echo, name="c", executor=place)) as (host, told):
        ref = host.find("c", Echo)
        with trio.fail_after(10):
            for number, value in enumerate(VALUES):
                assert await ref.ask(Echo.give, value) is value
                assert await ref.ask(Echo.promise, value) is value
                ended = await host.start(
                    app(function, value, name=f"f{number}", executor=place, restart="temporary")
                )
                reason = await ended.stopped()
                assert isinstance(reason, av.Completed)
                assert reason.value is value
        assert ref.incarnation == 1
    for number, value in enumerate(VALUES):
        (reason,) = told.ends(f"host/f{number}")
        assert isinstance(reason, av.Completed)
        assert reason.value is value


@pytest.mark.parametrize("busy", ["setup", "teardown", "handler"])
@pytest.mark.parametrize("strategy", ["one_for_one", "limit"])
@under_each_executor
async def test_tractor_287_a_crash_is_acted_upon_when_it_happens(
    place: Place, strategy: str, busy: str
) -> None:
    # S3, S5, S7: whatever the supervisor is waiting for: a setup, a teardown, a stop.
    gate = Gate(place, shield=busy == "teardown")

    class Slow(Worker):
        def setup(self) -> Any:
            return gate.pass_through() if busy == "setup" else None

        def teardown(self, reason: av.ExitReason) -> Any:
            return gate.pass_through() if busy == "teardown" else None

        def hold(self) -> Any:
            return gate.pass_through()

    limit = 3 if strategy == "one_for_one" else 0
    quick = app(Worker, name="quick", executor=place)
    group = av.Supervisor([quick], name="s", max_restarts=limit, restart="temporary")
    async with opened_and_heard(group) as (host, told):
        supervisor, ref = host.find("s", av.Supervisor), host.find("s/quick", Worker)
        async with trio.open_nursery() as nursery:
            slow = app(Slow, name="slow", executor=place, grace=math.inf, start_timeout=math.inf)
            calls: list[Any] = []
            if busy == "setup":
                nursery.start_soon(error_of(supervisor.start, calls), slow)
            else:
                other = await supervisor.start(slow)
                if busy == "handler":
                    await other.tell(Slow.hold)
                    await gate.reached.wait()
                nursery.start_soon(error_of(other.stop, calls))
            await gate.reached.wait()
            await settled()
            with trio.fail_after(10):
                await ref.tell(Worker.crash)
                if strategy == "one_for_one":
                    await until(lambda: ref.incarnation == 2 and ref.state == "running")
                    assert calls == []
                else:
                    await until(lambda: told.exits("host/s/quick"))
                    await settled()
                    # It is told to stop at once: a setup on the loop is cancelled, the rest ends.
                    ended = busy == "setup" and place.has_loop
                    assert av.Stopping in told.kinds("host/s/slow")
                    assert (av.Exited in told.kinds("host/s/slow")) == ended
            gate.open()
        assert len(calls) == 1
        if strategy == "limit":
            reason = await supervisor.stopped()
            assert isinstance(reason, av.Crashed)
            assert isinstance(reason.exception, av.RestartLimitExceeded)


@pytest.mark.parametrize("how", ["stop", "remove", "its supervisor"])
@under_each_executor
async def test_supervisor_118_stopped_while_it_backs_off(place: Place, how: str) -> None:
    # S4, S7: at once, the timer is dead, and remove works.
    class Failing(Worker):
        def setup(self) -> None:
            if self.ref.incarnation > 1:
                raise Fault("cannot start")

    # It fails to start again, and then backs off for ever.
    backoff = av.Exponential(base=0.001, factor=10**6, cap=1000, jitter=0)
    failing = app(Failing, name="c", executor=place, backoff=backoff)
    group = av.Supervisor([failing], name="s", within=10_000)
    async with opened_and_heard(group) as (host, told):
        ref = host.find("s/c", Failing)
        await ref.tell(Worker.crash)
        await until(lambda: ref.state == "backing_off" and ref.incarnation == 2)
        begun = trio.current_time()
        if how == "its supervisor":
            assert await host.find("s", av.Supervisor).stop() == av.Stopped()
        else:
            assert await getattr(ref, how)() == av.Stopped()
        assert trio.current_time() - begun < (0.001 if place.has_loop else 5)
        assert ref.state == "stopped"
        if place.has_loop:
            await trio.sleep(5000)
        assert (ref.state, ref.incarnation) == ("stopped", 2)
        # With its supervisor, its end is called what it backed off from.
        reason = await ref.remove()
        assert isinstance(reason, av.Crashed if how == "its supervisor" else av.Stopped)
        if how != "its supervisor":
            with pytest.raises(LookupError):
                host.find("s/c", Failing)
        await settled()
        assert told.ends("host/s/c") == [reason]


@under_each_executor
async def test_protoactor_go_214_a_teardown_that_fails_is_no_restart(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    # L5, S1: it ends, and the error is reported.
    class Broken(Worker):
        def teardown(self, reason: av.ExitReason) -> None:
            raise Fault("in teardown")

    async with opened_and_heard(app(Broken, name="c", executor=place)) as (host, told):
        ref = host.find("c", Broken)
        assert await ref.stop() == av.Stopped()
        assert (ref.state, ref.incarnation) == ("stopped", 1)
        await settled()
        assert told.kinds("host/c")[-2:] == [av.Exited, av.Ended]
    (record,) = [one for one in caplog.records if "in teardown" in one.getMessage()]
    assert record.levelno == logging.ERROR
    assert record.path == "host/c"  # type: ignore[attr-defined]


FAILURES: dict[str, list[type[Any]]] = {
    "setup": [Fault],
    "factory": [Fault],
    "timeout": [av.StartTimeout],
    "cancelled": [],
    "declines": [av.Ref],
}


@pytest.mark.parametrize("how", FAILURES)
@under_each_executor
async def test_ractor_243_the_name_of_what_never_lived_is_free(place: Place, how: str) -> None:
    # I1, I2, I4, L3, L4: when start raises.
    gate = Gate(place)

    class Failing(Worker):
        def __init__(self) -> None:
            if how == "factory":
                raise Fault("in the factory")

        def setup(self) -> Any:
            if how == "setup":
                raise Fault("in setup")
            if how == "declines":
                return self.stop()
            return gate.pass_through()

    # A thread that does not end is abandoned: it is let go in time where it is not the point.
    limit = 0.02 if how == "timeout" else math.inf
    failing = app(Failing, name="c", executor=place, start_timeout=limit, grace=0.02)
    good = app(Worker, name="c", executor=place)
    async with opened(av.Supervisor(name="s")) as host:
        supervisor = host.find("s", av.Supervisor)
        for _ in range(2):
            raised: list[Any] = []
            with trio.CancelScope() as scope:
                if how == "cancelled":
                    scope.deadline = trio.current_time() + 0.01
                await error_of(supervisor.start, raised)(failing)
            assert [type(one) for one in raised] == FAILURES[how]
            assert scope.cancelled_caught == (how == "cancelled")
            ref = await supervisor.start(good)
            assert await ref.ask(Worker.life) == 1
            assert [one.path for one in supervisor.children()] == ["host/s/c"]
            await ref.remove()
            with pytest.raises(LookupError):
                host.find("s/c", Worker)
        gate.open()


@under_each_executor
async def test_elixir_7655_a_limit_counts_identities(place: Place) -> None:
    # M7, S7: whatever comes and goes, there is still one.
    times = 300 if place.has_loop else 50
    declared = app(Worker, name="c", executor=place)
    async with opened(av.Supervisor([declared], name="s", max_restarts=10**6)) as host:
        supervisor, ref = host.find("s", av.Supervisor), host.find("s/c", Worker)
        for number in range(times):
            await ref.tell(Worker.crash)
            assert await ref.ask(Worker.life) == number + 2
        statistics = host.statistics()
        assert (statistics.actors, statistics.running, statistics.restarts) == (2, 2, times)
        assert len(supervisor.children()) == 1
        for _ in range(times):
            short = await supervisor.start(app(Worker, name="short", executor=place))
            assert host.statistics().actors == 3
            await short.remove()
        assert (host.statistics().actors, len(supervisor.children())) == (2, 1)


async def test_elixir_7655_and_a_limit_of_threads() -> None:
    # The limit that there is: crashed and restarted, there is room for no other.
    place = av.ThreadExecutor(max_threads=1)
    async with opened(av.Supervisor([app(Worker, name="c", executor=place)], name="s")) as host:
        supervisor, ref = host.find("s", av.Supervisor), host.find("s/c", Worker)
        for life in (2, 3):
            await ref.tell(Worker.crash)
            assert await ref.ask(Worker.life) == life
            with pytest.raises(av.ThreadLimitReached):
                await supervisor.start(app(Worker, name="other", executor=place))
        await ref.remove()
        other = await supervisor.start(app(Worker, name="other", executor=place))
        assert await other.ask(Worker.life) == 1


@under_each_executor
async def test_ogx_5168_a_service_is_not_its_starters(place: Place) -> None:
    # H6: it runs in the host's context, in each life; a message carries none.
    trace: contextvars.ContextVar[str] = contextvars.ContextVar("trace", default="nobody")
    seen: list[tuple[str, str]] = []

    class Tracing(Worker):
        def setup(self) -> None:
            seen.append(("setup", trace.get()))

        def note(self) -> str:
            seen.append(("handler", trace.get()))
            return trace.get()

    trace.set("the host's")
    async with opened() as host:
        trace.set("first request")
        ref = await host.start(app(Tracing, name="c", executor=place))
        assert await ref.ask(Tracing.note) == "the host's"
        trace.set("second request")
        await ref.tell(Worker.crash)
        assert await ref.ask(Tracing.note) == "the host's"
        assert len(seen) == 4
        assert {found for _, found in seen} == {"the host's"}
