"""The life of a coroutine service, on virtual time: each step at its time (L1-L9)."""

from __future__ import annotations

import gc
import logging
import math
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import actorvisor as av
from tests.runtime.account import check_account


class Fault(Exception):
    """What crashes on purpose."""


Diary = list[tuple[str, float]]


class Life(av.Service):
    """Notes what happens to it, and when; does what it is told to."""

    def __init__(self, diary: Diary, **plan: Any) -> None:
        self.diary = diary
        self.plan = plan
        self.note("init")

    def note(self, what: str) -> None:
        self.diary.append((what, trio.current_time()))

    async def play(self, what: str) -> Any:
        """Its own part of the plan, if it has one."""
        part = self.plan.get(what)
        if part is not None:
            result = part(self)
            return await result if isinstance(result, Awaitable) else result
        return None

    async def setup(self) -> None:
        self.note("setup")
        await self.play("setup")
        self.note("set up")

    async def teardown(self, reason: av.ExitReason) -> None:
        self.note(f"teardown {type(reason).__name__}")
        await self.play("teardown")
        self.note("torn down")

    async def do(self, work: Callable[[Any], Any]) -> Any:
        self.note("handler")
        result = work(self)
        if isinstance(result, Awaitable):
            result = await result
        self.note("handled")
        return result

    def end(self) -> None:
        self.stop()

    def tick(self, what: str = "tick") -> None:
        self.note(what)


class Planned(Life):
    """As `Life`, declared by its diary and its plan."""

    def __init__(self, diary: Diary, plan: dict[str, Any]) -> None:
        super().__init__(diary, **plan)


def life(diary: Diary, _options: dict[str, Any] | None = None, **plan: Any) -> Any:
    declare: Any = av.Application
    return declare(Planned, diary, plan, name="life", **(_options or {}))


@asynccontextmanager
async def opened(*children: Any, **options: Any) -> AsyncGenerator[av.Host, None]:
    with trio.fail_after(100_000):
        async with av.open_host(children, **{"max_restarts": 100} | options) as host:
            yield host
    check_account(host)


def sleep(seconds: float) -> Callable[[Any], Awaitable[None]]:
    """Part of a plan: take that long."""

    async def part(self: Any) -> None:
        await trio.sleep(seconds)

    return part


def fail(*_: object) -> None:
    raise Fault("boom")


async def stubborn(self: Life, seconds: float = math.inf) -> str:
    """Notes that it is cancelled, and goes on as if nothing had happened."""
    try:
        await trio.sleep(seconds)
    except trio.Cancelled:  # noqa: ASYNC103
        self.note("cancelled")
    return "as if nothing had happened"  # noqa: ASYNC104


async def shielded(self: Life, seconds: float) -> str:
    """Cannot be ended."""
    with trio.CancelScope(shield=True):
        await trio.sleep(seconds)
    self.note("shielded over")
    return "shielded"


# --- setup -----------------------------------------------------------------------------------


async def test_the_order_of_a_life(autojump_clock: MockClock) -> None:
    # L3, L4, L5: init, setup, handlers, teardown; start returns when setup has finished.
    diary: Diary = []
    async with opened() as host:
        ref = await host.start(life(diary, setup=sleep(2), teardown=sleep(3)))
        assert trio.current_time() == 2
        assert ref.state == "running"
        await ref.ask(Life.do, sleep(1))
        assert await ref.stop() == av.Stopped()
        assert trio.current_time() == 6
    assert diary == [
        ("init", 0),
        ("setup", 0),
        ("set up", 2),
        ("handler", 2),
        ("handled", 3),
        ("teardown Stopped", 3),
        ("torn down", 6),
    ]


async def test_it_knows_its_inside_from_the_first(autojump_clock: MockClock) -> None:
    # I2, L6: in __init__ already.
    found: list[object] = []

    class Early(av.Service):
        def __init__(self) -> None:
            found.extend((self.ref.path, self.ref.incarnation, self.ref.state, self.stopping))
            self.after(1, self.tick)

        def tick(self) -> None:
            found.append(trio.current_time())

    async with opened(av.Application(Early)):
        await trio.sleep(2)
    assert found == ["host/Early", 1, "starting", False, 1]
    with pytest.raises(RuntimeError, match=r"not run by a host: start it with host\.start"):
        Life([]).stop()


@pytest.mark.parametrize(
    "error", [Fault("own"), SystemExit(0), GeneratorExit(), ExceptionGroup("own", [Fault()])]
)
@pytest.mark.parametrize("where", ["init", "setup", "background"])
async def test_what_setup_raises_is_raised_by_start(
    where: str, error: BaseException, autojump_clock: MockClock
) -> None:
    # L3, M9: the very exception, at once; it is not tried again, and nothing is torn down.
    diary: Diary = []

    def crash(*_: object) -> None:
        raise error

    async def beside() -> None:
        await trio.sleep(1)
        crash()

    class Broken(Planned):
        def __init__(self, diary: Diary, plan: dict[str, Any]) -> None:
            super().__init__(diary, plan)
            if where == "init":
                crash()

        async def setup(self) -> None:
            if where == "background":
                self.start_soon(beside)
                await trio.sleep(2)
            crash()

    async with opened() as host:
        with pytest.raises(type(error)) as raised:
            await host.start(av.Application(Broken, diary, {}))
        assert raised.value is error
        assert trio.current_time() == (1 if where == "background" else 0)
        await trio.sleep(100)
        assert host.children() == ()
    assert diary == [("init", 0)]


@pytest.mark.parametrize("catches", [False, True])
async def test_a_setup_that_takes_too_long(catches: bool, autojump_clock: MockClock) -> None:
    # L3: a failed start, whatever setup makes of its cancellation.
    diary: Diary = []
    async with opened() as host:
        slow = stubborn if catches else sleep(100)
        with pytest.raises(av.StartTimeout) as late:
            await host.start(life(diary, {"start_timeout": 3}, setup=slow))
        assert (late.value.path, late.value.seconds) == ("host/life", 3)
        assert trio.current_time() == 3
    # L5: if it has finished nevertheless, there is something to tear down.
    end = ["teardown TimedOut"] if catches else []
    assert [what for what, _ in diary if what.startswith("teardown")] == end


async def test_start_timeout_limits_setup_only(autojump_clock: MockClock) -> None:
    # L3
    diary: Diary = []
    async with opened(life(diary, {"start_timeout": 3}, setup=sleep(2.9))) as host:
        ref = host.find("life", Planned)
        await ref.ask(Life.do, sleep(100))
        await trio.sleep(100)
        assert ref.incarnation == 1


async def test_a_background_crash_ends_a_setup_that_goes_on(autojump_clock: MockClock) -> None:
    # L3, M5: whatever setup makes of its cancellation; nothing of it is started.
    async def crash() -> None:
        await trio.sleep(1)
        raise Fault("beside")

    async def setup(self: Life) -> None:
        self.start_soon(crash)
        await stubborn(self)

    diary: Diary = []
    async with opened() as host:
        with host.events() as events:
            with pytest.raises(Fault, match="beside"):
                await host.start(life(diary, setup=setup))
            assert trio.current_time() == 1
        assert not [one async for one in events if isinstance(one, av.Started)]
    assert [what for what, _ in diary][-3:] == ["set up", "teardown Crashed", "torn down"]


@pytest.mark.parametrize("catches", [False, True])
async def test_a_stop_cancels_a_running_setup(catches: bool, autojump_clock: MockClock) -> None:
    # L4. L5: a setup that finishes nevertheless has something to tear down.
    diary: Diary = []
    async with opened() as host, trio.open_nursery() as nursery:

        async def start() -> None:
            with pytest.raises(av.ServiceStopped):
                await host.start(life(diary, setup=stubborn if catches else sleep(100)))
            assert trio.current_time() == 1

        nursery.start_soon(start)
        await trio.sleep(1)
        assert await host.find("life", Planned).stop() == av.Stopped()
        assert trio.current_time() == 1
    end = [("cancelled", 1), ("set up", 1), ("teardown Stopped", 1), ("torn down", 1)]
    assert diary[2:] == (end if catches else [])


# --- the end ---------------------------------------------------------------------------------


async def test_a_busy_service_finishes_its_message(autojump_clock: MockClock) -> None:
    # L4: its message, then background tasks are cancelled, then teardown, within grace.
    diary: Diary = []

    async def beside(self: Life) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self.note("background over")

    async with opened(life(diary, {"grace": 5}, teardown=sleep(1))) as host:
        ref = host.find("life", Planned)
        await ref.ask(Life.do, lambda self: self.start_soon(beside, self))
        await ref.tell(Life.do, sleep(3))
        await trio.sleep(1)
        diary.clear()
        assert await ref.stop(drain=0) == av.Stopped()
        assert trio.current_time() == 4
    assert diary == [
        ("handled", 3),
        ("background over", 3),
        ("teardown Stopped", 3),
        ("torn down", 4),
    ]


@pytest.mark.parametrize("grace", [0.0, 1.0, 10.0, math.inf])
async def test_grace_is_for_the_handler_and_teardown_together(
    grace: float, autojump_clock: MockClock
) -> None:
    # L4, L5, L2: after grace a task is cancelled; with 0 there is no teardown.
    diary: Diary = []
    async with opened(life(diary, {"grace": 1000}, teardown=sleep(8))) as host:
        ref = host.find("life", Planned)
        await ref.tell(Life.do, sleep(4))
        await wait_all_tasks_blocked()
        diary.clear()
        reason = await ref.stop(drain=0, grace=grace)
        time = trio.current_time()
    match grace:
        case 0.0:
            assert (reason, time, diary) == (av.Stopped(), 0, [])
        case 1.0:
            # No time is left to tear down in, but what takes none is done.
            assert (reason, time) == (av.TimedOut("handler"), 1)
            assert diary == [("teardown TimedOut", 1)]
        case 10.0:
            assert (reason, time) == (av.TimedOut("teardown"), 10)
            assert diary == [("handled", 4), ("teardown Stopped", 4)]
        case _:
            assert (reason, time) == (av.Stopped(), 12)
            assert diary[-1] == ("torn down", 12)


async def test_a_teardown_that_fails_makes_a_crash_of_a_normal_end(
    autojump_clock: MockClock,
) -> None:
    # L5: of a normal end only; a stop that was asked for stays Stopped.
    async with opened(av.Supervisor([life([], {"restart": "temporary"}, teardown=fail)])) as host:
        ref = host.find("Supervisor/life", Planned)
        await ref.ask(Life.do, lambda self: self.stop())
        reason = await ref.stopped()
        assert isinstance(reason, av.Crashed)
        assert isinstance(reason.exception, Fault)
    async with opened(life([], teardown=fail)) as host:
        assert await host.find("life", Planned).stop() == av.Stopped()


async def test_a_crash_has_the_declared_grace_to_tear_down(autojump_clock: MockClock) -> None:
    # L4, L5: within grace; the crash stays the reason. L8: then comes the next life.
    diary: Diary = []
    async with opened(life(diary, {"grace": 2}, teardown=sleep(8))) as host:
        ref = host.find("life", Planned)
        with host.events() as events:
            await ref.tell(Life.do, fail)
            await trio.sleep(5)
        reasons = [one.reason async for one in events if isinstance(one, av.Exited)]
        (reason,) = reasons
        assert isinstance(reason, av.Crashed)
        assert isinstance(reason.exception, Fault)
        # Told to stop, it has grace to tear down, once more.
        assert await ref.stop() == av.TimedOut("teardown")
    assert [one for one in diary if one[0] in {"teardown Crashed", "init"}] == [
        ("init", 0),
        ("teardown Crashed", 0),
        ("init", 2),
    ]


@pytest.mark.parametrize("how", ["stop", "restart", "host"])
async def test_a_handler_that_swallows_its_cancellation(
    how: str, autojump_clock: MockClock
) -> None:
    # L4: it is cancelled once its grace is over; what it then returns is its answer.
    diary: Diary = []
    answers: list[object] = []

    async with trio.open_nursery() as nursery:
        async with opened(life(diary, {"grace": 2}), drain=0) as host:
            ref = host.find("life", Planned)

            async def ask() -> None:
                answers.append(await ref.ask(Life.do, stubborn))

            nursery.start_soon(ask)
            await trio.sleep(1)
            if how == "stop":
                assert await ref.stop(drain=0) == av.Stopped()
            elif how == "restart":
                await ref.restart()
                assert ref.incarnation == 2
        assert trio.current_time() == 3
    assert answers == ["as if nothing had happened"]
    assert ("cancelled", 3) in diary
    assert check_account(host).dead_letters == 0


async def test_a_handler_that_makes_an_error_of_its_cancellation(
    autojump_clock: MockClock,
) -> None:
    # M9: what it raises instead is its crash. M5: its asker gets that.
    async def rude(self: Life) -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            raise Fault("rude") from None  # noqa: ASYNC104

    async with opened(life([], {"grace": 2})) as host, trio.open_nursery() as nursery:
        ref = host.find("life", Planned)

        async def ask() -> None:
            with pytest.raises(av.ServiceCrashed) as crash:
                await ref.ask(Life.do, rude)
            assert isinstance(crash.value.__cause__, Fault)

        nursery.start_soon(ask)
        await trio.sleep(1)
        reason = await ref.stop(drain=0)
        assert isinstance(reason, av.Crashed)
        assert ref.state == "stopped"  # it was asked for


async def test_what_shields_itself_is_waited_for_and_named(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    # L9: named with its stack in the log every grace period.
    diary: Diary = []
    async with opened(life(diary, {"grace": 10})) as host:
        ref = host.find("life", Planned)
        await ref.tell(Life.do, lambda self: shielded(self, 35))
        await wait_all_tasks_blocked()
        await ref.stop(drain=0)
        assert trio.current_time() == 35
    assert ("shielded over", 35) in diary
    overdue = [one for one in caplog.records if "has not ended" in one.getMessage()]
    assert len(overdue) == 3
    for one in overdue:
        assert one.levelno == logging.ERROR
        assert "host/life was told to stop" in one.getMessage()
        assert "in shielded" in one.getMessage()
        assert one.path == "host/life"  # type: ignore[attr-defined]


async def test_a_cancelled_that_is_not_its_own_is_a_crash(autojump_clock: MockClock) -> None:
    # M9: the cancellation of something else, kept and raised later.
    kept: list[trio.Cancelled] = []

    async def keep() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as error:
                kept.append(error)
                raise

    def raise_it(*_: object) -> None:
        raise kept[0]

    async def raise_it_later() -> None:
        await trio.sleep(1)
        raise kept[0]

    await keep()
    async with opened(life([])) as host:
        ref = host.find("life", Planned)
        with pytest.raises(av.ServiceCrashed) as crash:
            await ref.ask(Life.do, raise_it)
        assert isinstance(crash.value.__cause__, trio.Cancelled)
        await ref.ask(Life.do, lambda self: self.start_soon(raise_it_later))
        with pytest.raises(av.ServiceCrashed) as crash:
            await ref.ask(Life.do, sleep(2))
        assert isinstance(crash.value.__cause__, trio.Cancelled)
        assert trio.current_time() == 1
        await trio.sleep(1)
        assert ref.incarnation == 3


async def test_a_scope_of_the_handlers_own_is_its_own_affair(autojump_clock: MockClock) -> None:
    async def in_time(self: Life) -> str:
        with trio.move_on_after(1):
            await trio.sleep_forever()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.cancel_scope.cancel()
        return "in time"

    async with opened(life([])) as host:
        ref = host.find("life", Planned)
        assert await ref.ask(Life.do, in_time) == "in time"
        assert (ref.incarnation, trio.current_time()) == (1, 1)


async def test_a_crash_keeps_no_locals_alive(autojump_clock: MockClock) -> None:
    # L2: the locals of its frames are cleared; its text has the traceback all the same.
    class Big:
        pass

    found: list[weakref.ref[Big]] = []

    def crash(self: Life) -> None:
        big = Big()
        found.append(weakref.ref(big))
        raise Fault("boom")

    async with opened(life([])) as host:
        ref = host.find("life", Planned)
        with host.events() as events:
            await ref.tell(Life.do, crash)
            await trio.sleep(1)
        (reason,) = [one.reason async for one in events if isinstance(one, av.Exited)]
        gc.collect()
        assert found[0]() is None
        assert isinstance(reason, av.Crashed)
        assert "in crash" in reason.traceback_text
        assert "Fault: boom" in reason.traceback_text


async def test_a_crash_ends_nobody_who_caught_its_error_before(autojump_clock: MockClock) -> None:
    # L2: it was raised in a handler that goes on; the frame of that one is not done.
    class Witness(av.Service):
        async def hand_over(self, to: av.Ref[Planned]) -> str:
            def crash(life: Life) -> None:
                raise caught

            try:
                raise Fault("boom")
            except Fault as error:
                caught = error
                await to.tell(Life.do, crash)
                await trio.sleep(1)
                return f"it is still {error}"

    async with opened(life([])) as host:
        ref = host.find("life", Planned)
        witness = await host.start(av.Application(Witness))
        with trio.fail_after(5):
            assert await witness.ask(Witness.hand_over, ref) == "it is still boom"
        assert (ref.incarnation, witness.incarnation) == (2, 1)


# --- self.stop() ----------------------------------------------------------------------------------


async def test_it_may_stop_itself_anywhere(autojump_clock: MockClock) -> None:
    # L7: its end is its own, `Completed`; the reply of that handler is delivered.
    async def beside(self: Life) -> None:
        await trio.sleep(1)
        self.stop()
        self.stop()

    def in_handler(self: Life) -> str:
        self.stop()
        assert self.stopping
        return "answered"

    diary: Diary = []
    options = {"restart": "transient"}
    app = life(diary, options, teardown=lambda self: self.stop())
    async with opened(av.Supervisor([app], name="tree")) as host:
        ref = host.find("tree/life", Planned)
        assert await ref.ask(Life.do, in_handler) == "answered"
        assert await ref.stopped() == av.Completed()
        await ref.start()
        assert await ref.ask(Life.do, lambda self: self.start_soon(beside, self)) is None
        assert await ref.stopped() == av.Completed()
        assert trio.current_time() == 1
        await ref.start()
        await ref.ask(Life.do, lambda self: self.after(1, Life.end))
        assert await ref.stopped() == av.Completed()
        assert trio.current_time() == 2
        assert [what for what, _ in diary].count("teardown Completed") == 3


async def test_declining_in_setup(autojump_clock: MockClock) -> None:
    # L7: `start` returns, no `Started`, `Completed(None)`, not restarted whatever the kind.
    for restart in ("permanent", "transient", "temporary"):
        diary: Diary = []
        async with opened() as host:
            with host.events() as events:
                ref = await host.start(
                    life(diary, {"restart": restart}, setup=lambda self: self.stop())
                )
                assert ref.state == "stopped"
                assert await ref.stopped() == av.Completed()
            told = [type(one).__name__ async for one in events]
            assert told == ["Starting", "Stopping", "Exited", "Ended"]
        assert [what for what, _ in diary] == ["init", "setup", "set up"]


async def test_a_stop_of_its_own_and_one_that_is_asked_for(autojump_clock: MockClock) -> None:
    # L7, L1: whichever row, it ends once; only what was asked for is `Stopped`.
    diary: Diary = []
    async with opened(life(diary, teardown=sleep(1))) as host:
        ref = host.find("life", Planned)
        await ref.ask(Life.do, lambda self: self.stop())
        assert await ref.stop(drain=0) == av.Completed()
        assert ref.state == "stopped"
    assert [what for what, _ in diary if what.startswith("teardown")] == ["teardown Completed"]


# --- background tasks -----------------------------------------------------------------------------


async def test_background_tasks_may_end_and_start_others(autojump_clock: MockClock) -> None:
    # L8: they run beside handlers, and belong to their life.
    diary: Diary = []

    async def first(self: Life) -> None:
        await trio.sleep(1)
        self.note("first")
        self.start_soon(second, self)

    async def second(self: Life) -> None:
        await trio.sleep(1)
        self.note("second")

    async with opened(life(diary)) as host:
        ref = host.find("life", Planned)
        await ref.ask(Life.do, lambda self: self.start_soon(first, self))
        await ref.ask(Life.do, sleep(3))
        assert ref.incarnation == 1
    assert diary[5:9] == [("handler", 0), ("first", 1), ("second", 2), ("handled", 3)]


@pytest.mark.parametrize("busy", [False, True])
async def test_a_background_crash_is_the_services(busy: bool, autojump_clock: MockClock) -> None:
    # M5: the message in hand is blamed. L8: the others end before teardown, and the next life.
    diary: Diary = []

    async def crash() -> None:
        await trio.sleep(1)
        raise Fault("beside")

    async def slow_to_go(self: Life) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(2)
            self.note("slow over")

    def begin(self: Life) -> None:
        self.start_soon(slow_to_go, self)
        self.start_soon(crash)

    async with opened(life(diary)) as host:
        ref = host.find("life", Planned)
        await ref.ask(Life.do, begin)
        if busy:
            with pytest.raises(av.ServiceCrashed) as raised:
                await ref.ask(Life.do, sleep(100))
            assert isinstance(raised.value.__cause__, Fault)
            assert trio.current_time() == 1
        await trio.sleep_until(10)
        assert ref.incarnation == 2
        assert check_account(host).dead_letters == busy
    end = [one for one in diary if one[0] in {"slow over", "teardown Crashed", "init"}]
    assert end == [("init", 0), ("slow over", 3), ("teardown Crashed", 3), ("init", 3)]


async def test_a_crash_hides_no_other_error(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    # M9, L5: several at once: the first counts, the others are logged.
    async def crash(self: Life, what: str) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise KeyError(what)

    def begin(self: Life) -> None:
        self.start_soon(crash, self, "in the background")

    def late(self: Life) -> None:
        raise ValueError("in teardown")

    app = life([], {"restart": "temporary"}, teardown=late)
    async with opened(app) as host:
        ref = host.find("life", Planned)
        await ref.ask(Life.do, begin)
        await ref.tell(Life.do, fail)
        reason = await ref.stopped()
        assert isinstance(reason, av.Crashed)
        assert isinstance(reason.exception, Fault)
    texts = [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR]
    assert any("another error" in one and "in the background" in one for one in texts)
    assert any("teardown failed" in one and "in teardown" in one for one in texts)


async def test_a_background_crash_while_it_stops_leaves_the_stop(
    autojump_clock: MockClock,
) -> None:
    # L5: what is raised in an asked-for stop's teardown leaves it Stopped; L1: the first reason.
    async def crash(self: Life) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise KeyError("while it ends")

    async with opened(life([], teardown=fail)) as host:
        ref = host.find("life", Planned)
        await ref.ask(Life.do, lambda self: self.start_soon(crash, self))
        assert await ref.stop() == av.Stopped()


async def test_nothing_is_started_in_teardown(autojump_clock: MockClock) -> None:
    # L8: nothing outlives its life.
    errors: list[object] = []

    def late(self: Life) -> None:
        try:
            self.start_soon(trio.sleep_forever)
        except RuntimeError as error:
            errors.append(str(error))

    kept: list[Life] = []
    async with opened(life([], teardown=late)) as host:
        ref = host.find("life", Planned)
        await ref.ask(Life.do, kept.append)
        await ref.restart()
        late(kept[0])
    assert errors == ["host/life is ending; it starts nothing more"] * 3


# --- timers -----------------------------------------------------------------------------------------


async def test_timers_keep_their_times(autojump_clock: MockClock) -> None:
    # `every` does not drift: its times are multiples of the period, however long a handler takes.
    diary: Diary = []

    def begin(self: Life) -> None:
        self.after(2.5, Life.tick, what="after")
        self.after(0, self.tick, "now")
        self.every(1, Life.tick)

    async with opened(life(diary)) as host:
        ref = host.find("life", Planned)
        await ref.ask(Life.do, begin)
        await trio.sleep(3.5)
        await ref.tell(Life.do, sleep(3))
        await trio.sleep_until(8.5)
        assert [one for one in diary if one[0] in {"now", "after", "tick"}] == [
            ("now", 0),
            ("tick", 1),
            ("tick", 2),
            ("after", 2.5),
            ("tick", 3),
            # Those of 4, 5 and 6: one waits, the others are left out.
            ("tick", 6.5),
            ("tick", 7),
            ("tick", 8),
        ]


async def test_a_loop_that_was_late_makes_no_timer_drift(autojump_clock: MockClock) -> None:
    diary: Diary = []

    async def block(self: Life) -> None:
        await trio.sleep(0.9)
        autojump_clock.jump(0.5)  # as a handler that blocks the loop

    async with opened(life(diary)) as host:
        ref = host.find("life", Planned)
        await ref.ask(Life.do, lambda self: self.every(1, Life.tick))
        await ref.ask(Life.do, block)
        await trio.sleep(2)
    ticks = [time for what, time in diary if what == "tick"]
    assert ticks == pytest.approx([1.4, 2, 3])


async def test_a_cancelled_timer_does_nothing_more(autojump_clock: MockClock) -> None:
    diary: Diary = []
    timers: list[av.Timer] = []

    def begin(self: Life) -> None:
        timers.append(self.after(2, Life.tick, "never"))
        timers.append(self.every(1, Life.tick, "often"))
        timers.append(self.after(0.5, Life.tick, "early"))

    async with opened(life(diary)) as host:
        ref = host.find("life", Planned)
        await ref.ask(Life.do, begin)
        await trio.sleep(1.5)
        for timer in timers:
            timer.cancel()
            timer.cancel()  # nothing if it has already
        await trio.sleep(10)
        # One that waits already is a message as any: it is not taken back.
        await ref.ask(Life.do, begin)
        await ref.tell(Life.do, sleep(5))
        await trio.sleep(4)
        for timer in timers[3:]:
            timer.cancel()
        await trio.sleep(10)
    ticks = [one for one in diary if one[0] in {"early", "often", "never"}]
    assert ticks == [
        ("early", 0.5),
        ("often", 1),
        ("early", 16.5),
        ("often", 16.5),
        ("never", 16.5),
    ]


@pytest.mark.parametrize("how", ["crash", "restart", "stop"])
async def test_timers_end_with_their_life(how: str, autojump_clock: MockClock) -> None:
    # L8: also one whose message waits already; it counts as withdrawn.
    diary: Diary = []

    def begin(self: Life) -> None:
        self.every(2, Life.tick, "every")
        self.after(3, Life.tick, "after")
        self.after(0.5, Life.tick, "waits")

    async with opened(av.Supervisor([life(diary)], name="tree")) as host:
        ref = host.find("tree/life", Planned)
        await ref.ask(Life.do, begin)
        if how == "crash":

            async def crash(self: Life) -> None:
                await trio.sleep(1)
                fail()

            await ref.tell(Life.do, crash)
            await trio.sleep(1)
        else:
            await ref.tell(Life.do, sleep(1))
            await wait_all_tasks_blocked()
            await (ref.restart() if how == "restart" else ref.stop(drain=0))
            if how == "stop":
                await ref.start()
        assert trio.current_time() == 1
        await trio.sleep(10)
        assert ref.incarnation == 2
        mail = check_account(host)
        assert (mail.withdrawn, mail.waiting) == (1, 0)
    assert not {"every", "after", "waits"} & {what for what, _ in diary}


async def test_many_timers_leave_nothing(autojump_clock: MockClock) -> None:
    # S10: a timer that is set and cancelled again and again costs nothing.
    def churn(self: Life) -> int:
        for _ in range(10_000):
            self.after(1000, Life.tick).cancel()
        kind = type(self.after(2000, Life.tick))
        return sum(isinstance(one, kind) for one in gc.get_objects())

    async with opened(life([])) as host:
        ref = host.find("life", Planned)
        assert await ref.ask(Life.do, churn) < 300


# --- loops of their own, and functions ----------------------------------------------------------------


class Loop(Planned):
    """Reads its mail itself."""

    async def run(self) -> Any:
        self.note("run")
        try:
            return await self.play("run")
        finally:
            self.note("run over")


def loop(diary: Diary, run: Callable[[Any], Any], **options: Any) -> Any:
    declare: Any = av.Application
    return declare(Loop, diary, {"run": run}, name="loop", **options)


async def read(self: Loop) -> str:
    async for message in self.mailbox:
        self.note(f"read {message}")
        if message == "crash":
            fail()
        if message == "leave":
            return "left"
        if message == "stop":
            self.stop()
        if isinstance(message, int):
            await trio.sleep(message)
            self.note("slept")
    return "read out"


async def test_a_loop_that_reads_is_ended_by_its_mailbox(autojump_clock: MockClock) -> None:
    # L4: idle, at once; busy, it finishes its message. L5: teardown follows.
    diary: Diary = []
    app = loop(diary, read, restart="transient", grace=5)
    async with opened(av.Supervisor([app], name="tree")) as host:
        ref = host.find("tree/loop", Loop)
        await ref.send("one")
        await trio.sleep(1)
        assert await ref.stop() == av.Stopped()
        assert trio.current_time() == 1
        await ref.start()
        await ref.send(3)
        await ref.send("unread")
        await wait_all_tasks_blocked()
        assert await ref.stop(drain=0) == av.Stopped()
        assert trio.current_time() == 4
        await ref.start()
        await ref.send("leave")
        assert await ref.stopped() == av.Completed("left")
        await ref.start()
        await ref.send("stop")
        assert await ref.stopped() == av.Completed("read out")
        mail = check_account(host)
        assert (mail.handled, mail.dead_letters) == (4, 1)
    steps = [what for what, _ in diary]
    assert "read unread" not in steps
    assert steps.count("teardown Stopped") == steps.count("teardown Completed") == 2


async def test_a_loop_that_reads_has_its_grace_and_is_then_cancelled(
    autojump_clock: MockClock,
) -> None:
    # L4, M5
    diary: Diary = []
    async with opened(loop(diary, read, grace=2)) as host:
        ref = host.find("loop", Loop)
        await ref.send(10)
        await wait_all_tasks_blocked()
        assert await ref.stop(drain=0) == av.TimedOut("handler")
        assert trio.current_time() == 2
        assert host.statistics().mail.dead_letters == 1
    assert [what for what, _ in diary] == [
        *("init", "setup", "set up", "run", "read 10", "run over", "teardown TimedOut", "torn down")
    ]


async def test_receive_says_that_it_is_over(autojump_clock: MockClock) -> None:
    # L4: `receive` raises EndOfChannel, again and again.
    async def run(self: Loop) -> list[object]:
        got: list[object] = []
        while len(got) < 3:
            try:
                got.append(await self.mailbox.receive())
            except trio.EndOfChannel:
                got.append("end")
                assert self.stopping
        self.diary.append((str(got), 0))
        return got

    diary: Diary = []
    async with opened(loop(diary, run)) as host:
        ref = host.find("loop", Loop)
        await ref.send("one")
        await wait_all_tasks_blocked()
        assert await ref.stop() == av.Stopped()
    assert "['one', 'end', 'end']" in [what for what, _ in diary]


@pytest.mark.parametrize("unwinding", [1.0, 3.0])
async def test_what_never_reads_mail_is_cancelled_at_once(
    unwinding: float, autojump_clock: MockClock
) -> None:
    # L4: functions, and a `run` that never reads, have `grace` to unwind.
    diary: Diary = []

    async def run(self: Any) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(unwinding)

    async with opened(av.Supervisor([loop(diary, run, grace=2)], name="tree")) as host:
        ref = host.find("tree/loop", Loop)
        function = await host.start(av.Application(run, None, grace=2))
        await trio.sleep(1)
        assert await ref.stop() == av.Stopped()
        assert trio.current_time() == 1 + unwinding
        assert await function.stop() == av.Stopped()
        assert trio.current_time() == 1 + 2 * unwinding
    # No grace is left for a teardown that waits, but it is called.
    assert ("teardown Stopped", 1 + unwinding) in diary


async def test_the_value_of_what_returns(autojump_clock: MockClock) -> None:
    # L2: any value is a value. S1: a function is transient.
    async def give(value: object) -> object:
        await trio.sleep(1)
        return value

    error = Fault("a value")
    async with opened() as host:
        for value in (None, False, 0, error, av.Stopped()):
            ref = await host.start(av.Application(give, value))
            assert await ref.stopped() == av.Completed(value)
            assert ref.incarnation == 1


async def test_a_loop_that_crashes_or_returns_leaves_the_rest_to_the_next_life(
    autojump_clock: MockClock,
) -> None:
    # M4, M5, M7: what it read last is in hand until the next read.
    diary: Diary = []
    async with opened(loop(diary, read)) as host:
        ref = host.find("loop", Loop)
        for message in ("one", "crash", "two", "leave", "three"):
            await ref.send(message)
        await trio.sleep(1)
        assert [what for what, _ in diary if what.startswith(("read", "teardown"))] == [
            "read one",
            "read crash",
            "teardown Crashed",
            "read two",
            "read leave",
            "teardown Completed",
            "read three",
        ]
        mail = check_account(host)
        assert (mail.handled, mail.dead_letters, mail.in_hand) == (4, 1, 0)


async def test_a_loop_that_swallows_its_cancellation(autojump_clock: MockClock) -> None:
    # L4: told to stop it is cancelled; what it returns then is of no use, and it is `Stopped`.
    diary: Diary = []
    async with opened(loop(diary, stubborn)) as host:
        ref = host.find("loop", Loop)
        await trio.sleep(1)
        assert await ref.stop() == av.Stopped()
        assert trio.current_time() == 1
    assert [what for what, _ in diary][-4:] == [
        "cancelled",
        "run over",
        "teardown Stopped",
        "torn down",
    ]


# --- lives in a row -----------------------------------------------------------------------------------


async def test_the_next_life_begins_when_nothing_of_the_last_is_left(
    autojump_clock: MockClock,
) -> None:
    # L6, L8: a fresh instance, from the declared arguments, after teardown and background tasks.
    diary: Diary = []
    kept: list[Life] = []

    async def beside(self: Life) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(2)
            self.note("background over")

    def begin(self: Life) -> None:
        kept.append(self)
        self.start_soon(beside, self)

    async with opened(life(diary, teardown=sleep(1))) as host:
        ref = host.find("life", Planned)
        await ref.ask(Life.do, begin)
        diary.clear()
        await ref.restart()
        assert trio.current_time() == 3
        await ref.ask(Life.do, begin)
        assert kept[0] is not kept[1]
        assert kept[0].diary is kept[1].diary
    assert diary[:6] == [
        ("background over", 2),
        ("teardown Stopped", 2),
        ("torn down", 3),
        ("init", 3),
        ("setup", 3),
        ("set up", 3),
    ]


async def test_a_setup_that_fails_on_a_restart_counts_as_a_crash(
    autojump_clock: MockClock,
) -> None:
    # L3, S3: and is tried again; a restart that somebody asked for is not.
    diary: Diary = []
    fails = [False]

    def setup(self: Life) -> None:
        if fails[0]:
            fail()

    async with opened(life(diary, setup=setup)) as host:
        ref = host.find("life", Planned)
        fails[0] = True
        with pytest.raises(Fault):
            await ref.restart()
        assert ref.state == "failed"
        fails[0] = False
        await ref.start()
        assert await ref.ask(Life.do, lambda self: self.ref.incarnation) == 3
