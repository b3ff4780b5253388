"""The host: its block, its end, and what reaches it (H1-H3, H5, S8, M9)."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import actorvisor as av
from tests.runtime.account import check_account


class Fault(Exception):
    """What crashes on purpose."""


class Work(av.Service):
    """Takes its time, and tells what happens to it."""

    def __init__(
        self,
        told: list[object],
        name: str = "",
        setup: float = 0,
        teardown: float = 0,
        fails: bool = False,
    ) -> None:
        self.told = told
        self.name = name
        self.times = setup, teardown
        self.fails = fails

    async def setup(self) -> None:
        await trio.sleep(self.times[0])
        if self.fails:
            raise Fault(self.name)
        self.told.append(f"up {self.name}")

    async def teardown(self, reason: av.ExitReason) -> None:
        await trio.sleep(self.times[1])
        self.told.append(f"{type(reason).__name__} {self.name}")

    async def work(self, seconds: float) -> None:
        await trio.sleep(seconds)
        self.told.append(f"worked {self.name}")

    async def crash(self, error: BaseException) -> None:
        raise error


def app(told: list[object], name: str, *args: Any, **options: Any) -> av.Application[Work]:
    return av.Application(Work, told, name, *args, name=name, **options)


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() <= before + 1  # trio's cache may keep one idle


def own_tasks() -> int:
    """Tasks of this trio run."""
    statistics = trio.lowlevel.current_statistics()
    return statistics.tasks_living


# --- the normal end -----------------------------------------------------------------------


async def test_leaving_the_block_handles_what_was_told_and_stops_newest_first(
    autojump_clock: MockClock,
) -> None:
    # H3, S5
    told: list[object] = []
    tasks = own_tasks()
    async with av.open_host([app(told, "a"), app(told, "b")]) as host:
        assert told == ["up a", "up b"]
        await host.find("a", Work).tell(Work.work, 1)
        await host.find("b", Work).tell(Work.work, 2)
    assert told == ["up a", "up b", "worked a", "worked b", "Stopped b", "Stopped a"]
    assert trio.current_time() == 2
    assert own_tasks() == tasks  # H1


async def test_what_the_host_starts_is_its_run_time_child_and_stops_together(
    autojump_clock: MockClock,
) -> None:
    # S8, S5
    told: list[object] = []
    async with av.open_host() as host:
        for name in "abc":
            ref = await host.start(app(told, name, 0.0, 1.0))
            assert ref.path == f"host/{name}"
    assert trio.current_time() == 1
    assert sorted(map(str, told[3:])) == ["Stopped a", "Stopped b", "Stopped c"]


async def test_wait_returns_when_all_has_ended_by_itself(autojump_clock: MockClock) -> None:
    # H3
    async def task(seconds: float) -> None:
        await trio.sleep(seconds)

    async with av.open_host() as host:
        await host.wait()  # nothing to wait for
        assert trio.current_time() == 0
        for seconds in (1, 3, 2):
            await host.start(av.Application(task, seconds))
        await host.wait()
        assert trio.current_time() == 3
        await host.start(av.Application(task, 4))
        with trio.move_on_after(1) as scope:
            await host.wait()
        assert scope.cancelled_caught
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.wait)
            await host.wait()
        assert trio.current_time() == 7
        await host.wait()


async def test_wait_outlasts_a_backoff_and_a_restart(autojump_clock: MockClock) -> None:
    # H3, S4
    runs = 0

    async def twice() -> None:
        nonlocal runs
        await trio.lowlevel.checkpoint()
        runs += 1
        if runs < 3:
            raise Fault

    async with av.open_host() as host:
        await host.start(av.Application(twice, backoff=av.Fixed(10)))
        await host.wait()
        assert runs == 3
        assert trio.current_time() == 20


async def test_the_hosts_own_stop_of_nothing_is_quick(autojump_clock: MockClock) -> None:
    # H3
    async with av.open_host():
        pass
    async with av.open_host([av.Supervisor([], name="s")]) as host:
        assert host.find("s", av.Supervisor).state == "running"
    assert trio.current_time() == 0


# --- exceptions of the block --------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [Fault("x"), ExceptionGroup("own", [Fault()]), SystemExit(3), GeneratorExit(), Exception()],
)
async def test_the_blocks_own_exception_passes_unwrapped(
    error: BaseException, autojump_clock: MockClock
) -> None:
    # S8, H1: and everything is stopped in order.
    told: list[object] = []
    tasks = own_tasks()
    with pytest.raises(type(error)) as caught:
        async with av.open_host([app(told, "a"), app(told, "b")]):
            raise error
    assert caught.value is error
    assert not hasattr(error, "__notes__")
    assert told[2:] == ["Stopped b", "Stopped a"]
    assert own_tasks() == tasks


async def test_an_exception_of_the_block_drains_nothing(autojump_clock: MockClock) -> None:
    # L4: only a stop that was asked for and a normal end drain.
    told: list[object] = []
    with pytest.raises(Fault):
        async with av.open_host([app(told, "a")]) as host:
            ref = host.find("a", Work)
            await ref.tell(Work.work, 1)
            await ref.tell(Work.work, 1)
            await wait_all_tasks_blocked()
            raise Fault
    assert told == ["up a", "worked a", "Stopped a"]
    assert check_account(host).dead_letters == 1


async def test_both_fail(autojump_clock: MockClock) -> None:
    # S8: what reached the host, and the block's own, side by side.
    with pytest.RaisesGroup(KeyError, Fault) as caught:
        async with av.open_host(max_restarts=0) as host:
            ref = await host.start(app([], "a"))
            await ref.tell(Work.crash, Fault("service"))
            try:
                await trio.sleep_forever()
            finally:
                raise KeyError("block")
    assert [repr(one) for one in caught.value.exceptions] == [
        "KeyError('block')",
        "Fault('service')",
    ]


async def test_a_crash_that_reaches_the_host_cancels_the_body(autojump_clock: MockClock) -> None:
    # S8: one group, one level, with a note of the path.
    told: list[object] = []
    error = Fault("mine")
    with pytest.RaisesGroup(Fault) as caught:
        async with av.open_host([app(told, "a"), app(told, "b")], max_restarts=0) as host:
            await host.find("a", Work).tell(Work.crash, error)
            await trio.sleep_forever()
    assert caught.value.exceptions == (error,)
    assert error.__notes__ == ["it reached host from host/a"]
    assert told[2:] == ["Crashed a", "Stopped b"]


async def test_a_base_exception_needs_a_base_group(autojump_clock: MockClock) -> None:
    # S8, M9
    with pytest.RaisesGroup(SystemExit) as caught:
        async with av.open_host([app([], "a")], max_restarts=0) as host:
            await host.find("a", Work).tell(Work.crash, SystemExit(3))
            await trio.sleep_forever()
    assert not isinstance(caught.value, ExceptionGroup)
    (error,) = caught.value.exceptions
    assert isinstance(error, SystemExit)
    assert error.code == 3


async def test_the_note_names_the_innermost(autojump_clock: MockClock) -> None:
    # S8: the service, not only the supervisor whose limit it was.
    deep = av.Supervisor([app([], "Counter")], name="s", max_restarts=0)
    error = Fault()
    with pytest.RaisesGroup(Fault) as caught:
        async with av.open_host([av.Supervisor([deep], name="top", max_restarts=0)]) as host:
            for _ in range(4):
                ref = host.find("top/s/Counter", Work)
                await ref.tell(Work.crash, error)
                await trio.sleep(0.1)
            await trio.sleep_forever()
    assert caught.value.exceptions == (error,)
    assert error.__notes__ == ["it reached host from host/top/s/Counter"]


@pytest.mark.parametrize("nested", [False, True])
async def test_an_end_that_is_no_exception_is_a_limit(
    nested: bool, autojump_clock: MockClock
) -> None:
    # S8: RestartLimitExceeded(path, last_reason).
    async def task() -> None:
        await trio.sleep(0.1)

    child: Any = av.Application(task, restart="permanent")
    if nested:
        child = av.Supervisor([child], name="s")
    with pytest.RaisesGroup(av.RestartLimitExceeded) as caught:
        async with av.open_host([child]):
            await trio.sleep_forever()
    (error,) = caught.value.exceptions
    assert isinstance(error, av.RestartLimitExceeded)
    assert error.path == ("host/s" if nested else "host/task")
    assert error.last_reason == av.Completed()
    place = "host/s/task" if nested else "host/task"
    assert error.__notes__ == [f"it reached host from {place}"]
    assert (
        str(error) == f"{error.path} was restarted too often; the last end: Completed(value=None)"
    )


async def test_each_child_of_the_host_has_a_window_of_its_own(autojump_clock: MockClock) -> None:
    # S8: unrelated crashes end nothing.
    async with av.open_host(max_restarts=1) as host:
        refs = [await host.start(app([], str(number))) for number in range(10)]
        for ref in refs:
            await ref.tell(Work.crash, Fault())
        await wait_all_tasks_blocked()
        assert {ref.incarnation for ref in refs} == {2}
        assert {ref.state for ref in refs} == {"running"}


async def test_drop_lets_the_rest_go_on(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    # S8, S3, I5: GaveUp, logged at error, and nothing reaches the host.
    async with av.open_host(max_restarts=0, on_limit="drop") as host:
        one, other = [await host.start(app([], name)) for name in "ab"]
        await one.tell(Work.crash, Fault("x"))
        reason = await one.stopped()
        assert isinstance(reason, av.GaveUp)
        assert isinstance(reason.last, av.Crashed)
        assert (one.state, other.state) == ("failed", "running")
        with pytest.raises(av.ServiceStopped):
            await one.ask(Work.work, 1)
        assert host.children() == (other,)
        assert any(
            "GaveUp" in record.getMessage() and record.levelname == "ERROR"
            for record in caplog.records
        )


async def test_temporary_ends_and_failed_starts_never_reach_the_host(
    autojump_clock: MockClock,
) -> None:
    # S8, L3
    async with av.open_host(max_restarts=0) as host:
        ref = await host.start(app([], "a", restart="temporary"))
        await ref.tell(Work.crash, Fault())
        assert isinstance(await ref.stopped(), av.Crashed)
        with pytest.raises(Fault, match="b"):
            await host.start(app([], "b", 0.0, 0.0, True))
        assert host.children() == ()


# --- a start that fails -------------------------------------------------------------------


async def test_a_failed_start_of_the_host_stops_what_is_up_newest_first(
    autojump_clock: MockClock,
) -> None:
    # S5, S8
    told: list[object] = []
    tasks = own_tasks()
    children = [app(told, "a"), app(told, "b"), app(told, "c", 1.0, 0.0, True), app(told, "d")]
    with pytest.RaisesGroup(Fault) as caught:
        async with av.open_host(children):
            raise AssertionError("the block must not begin")
    (error,) = caught.value.exceptions
    assert isinstance(error, Fault)
    assert error.__notes__ == ["it reached host from host/c"]
    assert told == ["up a", "up b", "Stopped b", "Stopped a"]
    assert own_tasks() == tasks


async def test_a_start_of_the_host_that_takes_too_long(autojump_clock: MockClock) -> None:
    # L3, S8: said as such, with the path and the time.
    slow = app([], "slow", 60.0, start_timeout=3)
    with pytest.RaisesGroup(av.StartTimeout) as caught:
        async with av.open_host([av.Supervisor([slow], name="s")]):
            raise AssertionError("the block must not begin")
    (error,) = caught.value.exceptions
    assert isinstance(error, av.StartTimeout)
    assert (error.path, error.seconds) == ("host/s/slow", 3)
    assert trio.current_time() == 3


async def test_a_failed_start_of_a_supervisor_names_the_child(autojump_clock: MockClock) -> None:
    # S5, S8: faulty_application_shutdown.
    async with av.open_host() as host:
        with pytest.raises(Fault) as caught:
            await host.start(
                av.Supervisor([app([], "ok"), app([], "bad", 0.0, 0.0, True)], name="s")
            )
        assert caught.value.__notes__ == ["it reached host/s from host/s/bad"]
        with pytest.raises(av.StartTimeout, match="host/s/slow was not up after start_timeout=2"):
            await host.start(av.Supervisor([app([], "slow", 5.0, start_timeout=2)], name="s"))
        assert host.children() == ()


# --- cancellation -------------------------------------------------------------------------


async def test_outer_cancellation_stops_in_order_without_draining(
    autojump_clock: MockClock,
) -> None:
    # H2, L4
    told: list[object] = []
    tasks = own_tasks()
    with trio.move_on_after(1) as scope:
        async with av.open_host([app(told, "a", 0.0, 1.0), app(told, "b", 0.0, 1.0)]) as host:
            ref = host.find("b", Work)
            await ref.tell(Work.work, 2)
            await ref.tell(Work.work, 2)
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert told[2:] == ["worked b", "Stopped b", "Stopped a"]
    assert trio.current_time() == 4
    assert check_account(host).dead_letters == 1
    assert own_tasks() == tasks


async def test_cancelled_it_has_one_deadline_for_all_then_force(autojump_clock: MockClock) -> None:
    # H2: not one for each.
    told: list[object] = []
    with trio.move_on_after(1):
        async with av.open_host(
            [app(told, name, 0.0, 3.0, grace=30) for name in "abcd"], cancel_grace=7
        ):
            await trio.sleep_forever()
    assert trio.current_time() == 1 + 7
    assert told[4:] == ["Stopped d", "Stopped c"]


@pytest.mark.parametrize("seconds", [0.5 * n + 0.25 for n in range(24)])
async def test_cancelled_at_any_moment_nothing_is_left(
    seconds: float, autojump_clock: MockClock
) -> None:
    # H1, H2: during the start, the block, the drain and the stop.
    told: list[object] = []
    tasks = own_tasks()
    with trio.move_on_after(seconds) as scope:
        children: list[Any] = [
            app(told, "a", 1.0, 1.0),
            av.Supervisor([app(told, "b", 1.0, 1.0)], name="s", strategy="one_for_all"),
        ]
        async with av.open_host(children, cancel_grace=1.75) as host:
            ref = host.find("s/b", Work)
            for _ in range(2):
                await ref.tell(Work.work, 1.5)
            await trio.sleep(1)
    # start: 2 s, block: 1 s, drain: 2 s more, stop: 2 s
    assert scope.cancelled_caught == (seconds < 7)
    assert trio.current_time() <= min(seconds + 1.75, 7)
    assert own_tasks() == tasks
    ups = [one for one in map(str, told) if one.startswith("up")]
    assert len(ups) <= 2
    if seconds < 7:
        assert "".join(map(str, told)).count("Stopped") <= len(ups)


async def test_cancelled_before_it_begins(autojump_clock: MockClock) -> None:
    # H1
    told: list[object] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        async with av.open_host([app(told, "a", 1.0)]):
            raise AssertionError("the block must not begin")
    assert scope.cancelled_caught
    assert told == []


async def test_a_cancellation_while_it_ends_by_an_exception_hides_nothing(
    autojump_clock: MockClock,
) -> None:
    # H2, S8: the first error stays.
    with trio.move_on_after(1) as scope:
        with pytest.raises(Fault):
            async with av.open_host([app([], "a", 0.0, 60.0, grace=60)]):
                raise Fault
        assert trio.current_time() == 1 + 5
        await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught


async def test_a_body_that_catches_its_cancellation(autojump_clock: MockClock) -> None:
    # S8: the group is raised all the same.
    with pytest.RaisesGroup(Fault, match="what reached it"):
        async with av.open_host([app([], "a")], max_restarts=0) as host:
            await host.find("a", Work).tell(Work.crash, Fault())
            with suppress(trio.Cancelled):
                await trio.sleep_forever()


# --- Ctrl-C -------------------------------------------------------------------------------


async def test_ctrl_c_in_a_service_comes_out_bare(autojump_clock: MockClock) -> None:
    # M9: it stops the host, whatever `restart` says, and is raised from it.
    told: list[object] = []
    error = KeyboardInterrupt()
    nested = av.Supervisor([av.Supervisor([app(told, "b")], name="t")], name="s")
    with pytest.raises(KeyboardInterrupt) as caught:
        async with av.open_host([app(told, "a"), nested]) as host:
            await host.find("s/t/b", Work).tell(Work.crash, error)
            await trio.sleep_forever()
    assert caught.value is error
    assert told[2:] == ["Crashed b", "Stopped a"]


@pytest.mark.parametrize("beside", [(), (Fault(),)])
async def test_ctrl_c_in_a_nursery_of_a_service(
    beside: tuple[BaseException, ...], autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    # M9: a nursery of the service's own has put it into a group; it is no crash for all that.
    error = KeyboardInterrupt()
    group = BaseExceptionGroup("outer", [*beside, BaseExceptionGroup("inner", [error])])
    told: list[object] = []
    with pytest.raises(KeyboardInterrupt) as caught:
        async with av.open_host([app(told, "a")]) as host:
            await host.find("a", Work).tell(Work.crash, group)
            await trio.sleep_forever()
    assert caught.value is error
    assert told.count("up a") == 1
    assert ("Fault" in caplog.text) == bool(beside)


@pytest.mark.parametrize("where", ["block", "handler", "setup", "teardown", "background"])
def test_ctrl_c_for_real(where: str) -> None:
    # M9: in the block and in a service's code.
    def strike() -> None:
        signal.raise_signal(signal.SIGINT)

    class Struck(av.Service):
        def setup(self) -> None:
            if where == "setup":
                strike()

        def handle(self) -> None:
            if where == "handler":
                strike()

        async def beside(self) -> None:
            async def background() -> None:
                await trio.lowlevel.checkpoint()
                strike()

            if where == "background":
                self.start_soon(background)

        def teardown(self, reason: av.ExitReason) -> None:
            if where == "teardown":
                strike()

    told: list[object] = []

    async def main() -> None:
        with trio.fail_after(20):
            async with av.open_host([app(told, "a"), av.Application(Struck)]) as host:
                ref = host.find("Struck", Struck)
                await ref.tell(Struck.handle)
                await ref.tell(Struck.beside)
                if where == "teardown":
                    return
                if where == "block":
                    strike()
                await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt) as caught:
        trio.run(main)
    origin = [] if where == "block" else ["it reached host from host/Struck"]
    assert getattr(caught.value, "__notes__", []) == origin
    assert told == ["up a", "Stopped a"]


# --- several hosts ------------------------------------------------------------------------


async def test_hosts_can_be_nested_and_side_by_side(autojump_clock: MockClock) -> None:
    # H5
    told: list[object] = []
    async with av.open_host() as outer, av.open_host() as beside:
        async with av.open_host([app(told, "a")]) as inner:
            refs = [await host.start(app(told, "x")) for host in (outer, beside, inner)]
            assert {ref.path for ref in refs} == {"host/x"}
            assert len(set(refs)) == 3
            for ref in refs:
                await ref.ask(Work.work, 1)
            # A service of one asks that of another.
            assert refs[0] != refs[1]
        assert [ref.state for ref in refs] == ["running", "running", "stopped"]
    assert [ref.state for ref in refs] == ["stopped"] * 3


async def test_a_host_in_a_service_of_a_host(autojump_clock: MockClock) -> None:
    # H5, S8: a crash that reaches the inner one is the crash of that service.
    class Inner(av.Service):
        async def run(self) -> None:
            async with av.open_host([app([], "x")], max_restarts=0) as host:
                await host.find("x", Work).tell(Work.crash, Fault("inner"))
                await host.wait()

    with pytest.RaisesGroup(pytest.RaisesGroup(Fault)) as caught:
        async with av.open_host([av.Application(Inner)], max_restarts=0):
            await trio.sleep_forever()
    (inner,) = caught.value.exceptions
    assert inner.__notes__ == ["it reached host from host/Inner"]
    assert repr(inner.exceptions[0]) == "Fault('inner')"


async def test_two_hosts_at_once_in_one_run(autojump_clock: MockClock) -> None:
    # H5: the failure of one is nothing to the other.
    async def one(fails: bool) -> None:
        async with av.open_host([app([], "x")], max_restarts=0) as host:
            if fails:
                await host.find("x", Work).tell(Work.crash, Fault())
            await trio.sleep(3)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, False)
        with pytest.RaisesGroup(Fault):
            await one(True)


def test_a_host_in_another_thread() -> None:
    # H5: not the main thread; and two at once.
    told: list[object] = []

    async def main() -> None:
        with trio.fail_after(20):
            async with av.open_host([app(told, "a")]) as host:
                await host.find("a", Work).ask(Work.work, 0)

    def in_thread() -> None:
        trio.run(main)

    threads = [threading.Thread(target=in_thread) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert sorted(map(str, told)) == sorted(["up a", "worked a", "Stopped a"] * 2)


def test_a_ref_of_a_host_in_another_thread_is_refused() -> None:
    # I3: a channel of trio must never be touched from there.
    refs: list[Any] = []
    ready, over = threading.Event(), threading.Event()

    async def main() -> None:
        with trio.fail_after(20):
            async with av.open_host([av.Supervisor([app([], "a")], name="s")]) as host:
                refs.extend([host, host.find("s", av.Supervisor), host.find("s/a", Work)])
                ready.set()
                await trio.to_thread.run_sync(over.wait)

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    assert ready.wait(20)
    host, group, ref = refs

    async def elsewhere() -> None:
        calls: list[Callable[[], Any]] = [
            lambda: ref.ask(Work.work, 0),
            lambda: ref.tell(Work.work, 0),
            lambda: ref.send(0),
            lambda: ref.stop(),
            lambda: ref.remove(),
            lambda: ref.restart(),
            lambda: ref.start(),
            lambda: ref.stopped(),
            lambda: group.start(app([], "b")),
            lambda: group.start(),
            lambda: group.stop(),
            lambda: host.start(app([], "c")),
            lambda: host.wait(),
        ]
        for call in calls:
            with pytest.raises(RuntimeError, match="outside its host's loop"):
                await call()
        with pytest.raises(RuntimeError, match="outside its host's loop"):
            ref.tell_nowait(Work.work, 0)
        assert (ref.state, ref.path) == ("running", "host/s/a")
        assert "running" in repr(ref)

    try:
        trio.run(elsewhere)
    finally:
        over.set()
        thread.join(20)
    assert not thread.is_alive()


# --- misuse -------------------------------------------------------------------------------


async def test_entering_twice_is_refused(autojump_clock: MockClock) -> None:
    opener = av.open_host()
    async with opener:
        with pytest.raises(RuntimeError, match="was entered before"):
            await opener.__aenter__()
    with pytest.raises(RuntimeError, match="was entered before"):
        await opener.__aenter__()


def test_a_host_has_no_constructor() -> None:
    with pytest.raises(TypeError, match="open_host"):
        av.Host()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"children": app([], "a")}, TypeError),
        ({"children": [Work]}, TypeError),
        ({"children": [app([], "a"), app([], "a")]}, ValueError),
        ({"max_restarts": -1}, ValueError),
        ({"within": 0}, ValueError),
        ({"on_limit": "rest"}, ValueError),
        ({"drain": -1}, ValueError),
        ({"cancel_grace": -1}, ValueError),
        ({"random": 3}, TypeError),
        ({"max_abandoned": -1}, ValueError),
    ],
)
def test_wrong_arguments_are_refused_at_once(
    options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        av.open_host(**options)


async def test_the_root_itself_is_controlled_by_its_block(autojump_clock: MockClock) -> None:
    # S7: said at once, in words.
    async with av.open_host() as host:
        root = host.find("host", av.Supervisor)
        for call in (root.stop, root.remove, root.restart, root.start, root.stopped):
            with pytest.raises(av.ControlRefused, match="the host itself"):
                await call()
        ref = await root.start(app([], "a"))
        assert root.children() == host.children() == (ref,)
        assert "host running" in repr(root)


async def test_after_the_end_every_call_raises_at_once(autojump_clock: MockClock) -> None:
    # S7, I2
    async with av.open_host([av.Supervisor([app([], "a")], name="s")]) as host:
        group, ref = host.find("s", av.Supervisor), host.find("s/a", Work)
        temporary = await host.start(app([], "t"))
        events = host.events()
    with trio.fail_after(1):
        for one in (ref, temporary):
            for call in (one.ask, one.tell, one.if_running.ask, one.if_running.tell):
                with pytest.raises(av.ServiceStopped):
                    await call(Work.work, 0)
            with pytest.raises(av.ServiceStopped):
                await one.send(0)
            with pytest.raises(av.ServiceStopped):
                one.tell_nowait(Work.work, 0)
        for any_ref in (ref, temporary, group):
            for control in (any_ref.start, any_ref.restart):
                with pytest.raises((av.ServiceStopped, av.ControlRefused)):
                    await control()
            # What has ended says how (L4).
            assert await any_ref.stop() == av.Stopped()
            assert await any_ref.remove() == av.Stopped()
            assert await any_ref.stopped() == av.Stopped()
            assert any_ref.state == "stopped"
            assert any_ref.path.startswith("host/")
            assert "stopped" in repr(any_ref)
            assert any_ref.incarnation == 1
        for start in (host.start, group.start):
            with pytest.raises(av.ControlRefused):
                await start(app([], "late"))
        with pytest.raises(av.ControlRefused, match="the host has ended"):
            await host.start(app([], "late"))
        await host.wait()
        # What is kept for a reader, and then the end; for a new one: the end.
        assert [type(one) async for one in events][-1] is av.Ended
        assert [one async for one in host.events()] == []
    assert host.statistics().running == 0
    assert host.tree().state == "stopped"
    assert repr(host) == "<Host stopped, 1 children>"


async def test_calls_that_wait_are_answered_at_the_end(autojump_clock: MockClock) -> None:
    # H1, S7: whoever is outside.
    answers: list[object] = []

    async def call(what: Callable[..., Any], *args: Any) -> None:
        try:
            answers.append(await what(*args))
        except av.ActorvisorError as error:
            answers.append(type(error).__name__)

    async with trio.open_nursery() as nursery:
        async with av.open_host([app([], "a")], drain=0) as host:
            ref = host.find("a", Work)
            for _ in range(2):
                nursery.start_soon(call, ref.ask, Work.work, 100)
            nursery.start_soon(call, ref.stopped)
            nursery.start_soon(call, host.start, app([], "b", 100.0))  # noqa: ASYNC111
            nursery.start_soon(call, host.wait)  # noqa: ASYNC111
            await wait_all_tasks_blocked()
    assert sorted(map(str, answers)) == [
        "None",
        *["ServiceStopped"] * 3,
        "TimedOut(phase='handler')",
    ]


async def test_the_context_is_that_of_open_host(autojump_clock: MockClock) -> None:
    # H6: never the starter's.
    from contextvars import ContextVar

    variable = ContextVar("variable", default="none")

    class Sees(av.Service):
        def see(self) -> str:
            return variable.get()

    variable.set("at open_host")
    async with av.open_host() as host:
        variable.set("at start")
        ref = await host.start(av.Application(Sees))
        variable.set("at ask")
        assert await ref.ask(Sees.see) == "at open_host"
        await ref.restart()
        assert await ref.ask(Sees.see) == "at open_host"
        group = await host.start(av.Supervisor([av.Application(Sees)], name="s"))
        late = await group.start(av.Application(Sees, name="late"))
        assert await late.ask(Sees.see) == "at open_host"
