"""Observing: monitors, event streams, logging, statistics, trees (O1-O5, M7, L2)."""

from __future__ import annotations

import gc
import itertools
import logging
import weakref
from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypothesis import given, settings, strategies as st
from trio.testing import wait_all_tasks_blocked

import actorvisor as av
from tests.runtime.account import check_account
from tests.runtime.paths import check_paths
from tests.runtime.player import Fault, Player, in_virtual_time, player, recorded_host

if TYPE_CHECKING:
    from trio.testing import MockClock

KEPT = 1000


class Watcher(av.Service):
    """Notes all that it gets, in order; crashes when told to."""

    def __init__(self, got: list[object]) -> None:
        self.got = got

    def watch(self, ref: av.Ref[Any] | av.SupervisorRef, times: int = 1) -> None:
        for _ in range(times):
            self.monitor(ref)

    def note(self, value: object) -> None:
        self.got.append(value)

    def receive(self, message: object) -> None:
        self.got.append(message)

    async def pause(self, seconds: float) -> None:
        await trio.sleep(seconds)

    def crash(self) -> None:
        raise Fault("watcher")

    def end(self) -> None:
        self.stop()


class LoopWatcher(av.Service):
    """The same as a loop of its own."""

    def __init__(self, got: list[object], ref: av.Ref[Any]) -> None:
        self.got = got
        self.other = ref

    async def run(self) -> None:
        self.monitor(self.other)
        async for message in self.mailbox:
            self.got.append(message)


class Source(av.Service):
    """Sends numbers to a watcher, and ends in some way."""

    async def burst(self, to: av.Ref[Watcher], count: int) -> None:
        for number in range(count):
            await to.tell(Watcher.note, number)

    async def burst_and_crash(self, to: av.Ref[Watcher], count: int) -> None:
        await self.burst(to, count)
        raise Fault("source")

    async def burst_and_end(self, to: av.Ref[Watcher], count: int) -> None:
        await self.burst(to, count)
        self.stop()

    def teardown(self, reason: av.ExitReason) -> None:
        pass


def kinds(got: list[object]) -> list[str]:
    return [type(one).__name__ for one in got if isinstance(one, av.Notification)]


# --- monitors -----------------------------------------------------------------------------

RESTART = ["Stopping", "Exited", "Restarting", "Starting", "Started"]


@given(
    count=st.integers(0, 150),
    room=st.sampled_from([1, 5, 1000]),
    how=st.sampled_from(["crash", "end", "stop", "restart"]),
    busy=st.booleans(),
)
@settings(deadline=None)
def test_notifications_come_after_what_was_sent_before(
    count: int, room: int, how: str, busy: bool
) -> None:
    # O2, M1, M2
    async def main() -> None:
        got: list[object] = []
        async with av.open_host() as host:
            watcher = await host.start(av.Application(Watcher, got, mailbox=room))
            source = await host.start(av.Application(Source, restart="transient"))
            await watcher.ask(Watcher.watch, source, 3)  # twice is once
            if busy:
                await watcher.tell(Watcher.pause, 1)
            match how:
                case "crash":
                    await source.tell(Source.burst_and_crash, watcher, count)
                case "end":
                    await source.tell(Source.burst_and_end, watcher, count)
                case _:
                    await source.ask(Source.burst, watcher, count)
                    await (source.stop() if how == "stop" else source.restart())
            await trio.sleep(2)
            told = {
                "crash": RESTART,
                "end": ["Stopping", "Exited", "Ended"],
                "stop": ["Stopping", "Exited", "Ended"],
                "restart": ["Stopping", "Exited", "Starting", "Started"],
            }
            assert got[:count] == list(range(count))
            assert kinds(got[count:]) == told[how]
            assert len(got) == count + len(told[how])

    in_virtual_time(main)


async def test_a_watch_outlives_restarts_of_both(autojump_clock: MockClock) -> None:
    # O2
    got: list[object] = []
    async with av.open_host(max_restarts=100) as host:
        watcher = await host.start(av.Application(Watcher, got))
        ref = await host.start(player("c"))
        await watcher.ask(Watcher.watch, ref)
        for _ in range(3):
            await watcher.tell(Watcher.crash)
            await watcher.restart()
            await ref.tell(Player.crash)
            await ref.ask(Player.work, 0)
        await wait_all_tasks_blocked()
        assert kinds(got) == RESTART * 3
        # What comes while the watcher is down waits for it.
        await watcher.tell(Watcher.pause, 5)
        await watcher.tell(Watcher.crash)
        await ref.tell(Player.crash)
        await trio.sleep(10)
        assert kinds(got) == RESTART * 4
        # The end of what is watched is the end of the watch, though it is started again.
        group = await host.start(av.Supervisor([player("d")], name="t"))
        (other,) = group.children()
        await watcher.ask(Watcher.watch, other)
        del got[:]
        await other.stop()
        await other.start()
        await wait_all_tasks_blocked()
        assert kinds(got) == ["Stopping", "Exited", "Ended"]


@pytest.mark.parametrize("how", ["stop", "end", "remove", "forgotten"])
async def test_a_watch_ends_with_its_watcher(how: str, autojump_clock: MockClock) -> None:
    # O2, M7: it gets nothing any more, not even when it is started again.
    got: list[object] = []
    restart: Any = "temporary" if how == "forgotten" else "transient"
    app = av.Application(Watcher, got, name="w", restart=restart)
    async with av.open_host() as host:
        group = await host.start(av.Supervisor([app], name="t"))
        watcher = host.find("t/w", Watcher)
        ref = await host.start(player("c"))
        await watcher.ask(Watcher.watch, ref)
        if how in {"stop", "remove"}:
            await getattr(watcher, how)()
        else:
            await watcher.tell(Watcher.end)
            await watcher.stopped()
        await ref.tell(Player.crash)
        await ref.ask(Player.work, 0)
        if how in {"stop", "end"}:
            await watcher.start()
            await ref.restart()
            await watcher.ask(Watcher.note, None)
        else:
            assert group.children() == ()
        await wait_all_tasks_blocked()
        assert kinds(got) == []
        assert check_account(host).waiting == 0


async def test_watching_what_is_gone_or_going(autojump_clock: MockClock) -> None:
    # O2: its final notification, with the reason; of a supervisor, too.
    got: list[object] = []
    async with av.open_host() as host:
        watcher = await host.start(av.Application(Watcher, got))
        declared = [player("down"), player("never"), player("once", restart="temporary")]
        group = await host.start(av.Supervisor(declared, name="t"))
        down, never, once = (host.find(f"t/{name}", Player) for name in ("down", "never", "once"))
        await down.stop()
        await never.remove()
        await once.tell(Player.crash)
        await once.stopped()
        refs = [down, never, once]
        for ref in refs:
            await watcher.ask(Watcher.watch, ref)
        await wait_all_tasks_blocked()
        finals = [one for one in got if isinstance(one, av.Ended)]
        assert [one.path for one in finals] == [ref.path for ref in refs]
        assert [one.reason for one in finals] == [await ref.stopped() for ref in refs]
        assert [one.incarnation for one in finals] == [1, 1, 1]
        del got[:]
        slow = await host.start(player("slow", 0, 3))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(slow.stop)
            await trio.sleep(1)
            await watcher.ask(Watcher.watch, slow)
        await wait_all_tasks_blocked()
        assert kinds(got) == ["Exited", "Ended"]
        del got[:]
        await watcher.ask(Watcher.watch, group)
        await group.restart()
        await group.stop()
        await watcher.ask(Watcher.watch, group)
        await wait_all_tasks_blocked()
        told = "Stopping Exited Starting Started Stopping Exited Ended Ended"
        assert kinds(got) == told.split()
        assert {one.path for one in got if isinstance(one, av.Notification)} == {"host/t"}


async def test_who_watches_itself_and_each_other(autojump_clock: MockClock) -> None:
    # O2, M7: nothing is left over.
    one, two = [], []  # type: ignore[var-annotated]
    async with av.open_host() as host:
        first = await host.start(av.Application(Watcher, one))
        second = await host.start(av.Application(Watcher, two, name="second"))
        for watcher, other in itertools.product((first, second), repeat=2):
            await watcher.ask(Watcher.watch, other)
        await first.tell(Watcher.crash)
        await first.ask(Watcher.note, 0)
        await wait_all_tasks_blocked()
        assert kinds(one) == kinds(two) == RESTART
        await first.stop()
        await wait_all_tasks_blocked()
        assert kinds(two) == [*RESTART, "Stopping", "Exited", "Ended"]
        assert kinds(one) == RESTART
    mail = check_account(host)
    assert mail.waiting == mail.in_hand == 0


async def test_a_loop_gets_them_from_its_mailbox(autojump_clock: MockClock) -> None:
    # O2
    got: list[object] = []
    async with av.open_host() as host:
        ref = await host.start(player("c"))
        await host.start(av.Application(LoopWatcher, got, ref))
        await ref.tell(Player.crash)
        await ref.ask(Player.work, 0)
        await ref.stop()
        await wait_all_tasks_blocked()
    assert kinds(got) == [*RESTART, "Stopping", "Exited", "Ended"]


# --- event streams ------------------------------------------------------------------------


class Deaf(av.Service):
    """Has no receive: what is sent to it is a dead letter each."""


async def make_noise(ref: av.Ref[Deaf], count: int) -> None:
    for _ in range(count):
        await ref.send("x")


@pytest.fixture
def quiet() -> Any:
    logger = logging.getLogger("actorvisor")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)


@given(
    turns=st.lists(
        st.tuples(st.sampled_from([0, 1, 3, 900, 999, 1001, 1500]), st.integers(0, 1600)),
        min_size=1,
        max_size=4,
    )
)
@settings(deadline=None, max_examples=30)
@pytest.mark.usefixtures("quiet")
def test_a_slow_reader_is_told_how_much_it_missed(turns: list[tuple[int, int]]) -> None:
    # O3: 1,000 are kept, in order; what is not is counted, and nothing is lost without a trace.
    async def main() -> None:
        async with av.open_host() as host:
            ref = await host.start(av.Application(Deaf))
            start = host.statistics().events
            events = host.events()
            got: list[av.Notification] = []
            others: list[av.Notification] = []
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read_on, host.events(), others)
                for noise, reads in turns:
                    unread = host.statistics().events - seen(got, start)
                    before = len(got)
                    for _ in range(noise):
                        await ref.send("x")
                        await wait_all_tasks_blocked()
                    with trio.move_on_after(1):
                        for _ in range(reads):
                            got.append(await anext(events))  # noqa: PERF401
                    new = got[before:]
                    if not unread and reads >= noise:
                        # Nobody misses anything within what is kept.
                        plain = [one for one in new if not isinstance(one, av.Missed)]
                        assert len(plain) == min(noise, KEPT) or noise > KEPT
                nursery.cancel_scope.cancel()
        with trio.fail_after(1):
            got += [one async for one in events]
        assert seen(got, start) == host.statistics().events
        assert not any(isinstance(one, av.Missed) for one in others)

    in_virtual_time(main)


async def read_on(events: av.Events, got: list[av.Notification]) -> None:
    async for one in events:
        got.append(one)  # noqa: PERF401 - somebody looks at it meanwhile


def seen(got: list[av.Notification], start: int) -> int:
    """Up to which notification a reader knows; each is there, or is missed."""
    last = start
    for one in got:
        if isinstance(one, av.Missed):
            last += one.count
        else:
            last += 1
        assert one.sequence == last, one
    return last


@pytest.mark.usefixtures("quiet")
async def test_a_thousand_are_kept_and_a_gap_is_told_as_soon_as_it_is_reached(
    autojump_clock: MockClock,
) -> None:
    # O3
    async with av.open_host() as host:
        ref = await host.start(av.Application(Deaf))
        with host.events() as events:
            for _ in range(2):
                start = host.statistics().events
                await make_noise(ref, KEPT + 2)
                with trio.fail_after(1):  # noqa: ASYNC100
                    got = [await anext(events) for _ in range(KEPT + 1)]
                assert [one.sequence for one in got[:-1]] == list(
                    range(start + 1, start + KEPT + 1)
                )
                gap = got[-1]
                assert isinstance(gap, av.Missed)
                assert (gap.count, gap.sequence) == (2, start + KEPT + 2)
                await make_noise(ref, 1)
                assert isinstance(await anext(events), av.DeadLetter)


@pytest.mark.usefixtures("quiet")
async def test_many_readers_each_get_all_from_their_making_on(autojump_clock: MockClock) -> None:
    # O3
    async with av.open_host() as host:
        readers = [(host.statistics().events, host.events())]
        for number in range(5):
            await host.start(player(f"c{number}"))
            readers.append((host.statistics().events, host.events()))
        total = host.statistics().events
        assert [start for start, _ in readers] == [2 * number for number in range(6)]
        closed = readers.pop(2)[1]
        with closed:
            pass
        await host.start(player("late"))
        assert [type(one).__name__ for one in [one async for one in closed]] == [
            "Starting",
            "Started",
        ] * 3
    for start, events in readers:
        got = [one async for one in events]
        assert [one.sequence for one in got] == list(range(start + 1, host.statistics().events + 1))
        check_paths(got, late=True)
    assert total == 10


@pytest.mark.usefixtures("quiet")
async def test_who_reads_nothing_slows_nothing_and_who_is_dropped_is_gone(
    autojump_clock: MockClock,
) -> None:
    # O3, S10
    async with av.open_host() as host:
        ref = await host.start(av.Application(Deaf))
        events = host.events()
        gone = weakref.ref(events)
        await make_noise(ref, 5000)
        assert trio.current_time() == 0
        del events
        gc.collect()
        assert gone() is None


async def test_a_cancelled_read_loses_nothing(autojump_clock: MockClock) -> None:
    # O3
    async with av.open_host() as host:
        with host.events() as events:
            got: list[av.Notification] = []
            for number in range(10):
                with trio.move_on_after(0.5):
                    await anext(events)
                    raise AssertionError("nothing has happened")
                await host.start(player(f"c{number}"))
                with trio.CancelScope() as scope:
                    scope.cancel()
                    got.append(await anext(events))
                got += [await anext(events), await anext(events)]
            assert [one.sequence for one in got] == list(range(1, 21))


# --- logging ------------------------------------------------------------------------------


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in caplog.records]


async def test_what_is_logged_of_a_life(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    # O5: levels, fields, the traceback; a restart is no second start.
    caplog.set_level(logging.INFO, "actorvisor")
    async with av.open_host() as host:
        ref = await host.start(player("c", backoff=av.Fixed(2)))
        await ref.tell(Player.crash)
        await ref.ask(Player.work, 0)
        await ref.stop()
    told = lines(caplog)
    assert [level for level, _ in told] == ["INFO", "WARNING", "ERROR", "INFO", "INFO"]
    texts = [text for _, text in told]
    assert texts[0] == "host/c started"
    assert texts[1].startswith("host/c: dead letter (in hand at the end: Crashed(")
    assert texts[2].startswith("host/c crashed\nTraceback (most recent call last):\n")
    assert 'raise Fault("crash")' in texts[2]
    assert texts[3] == "host/c restarts in 2 s (attempt 1)"
    assert texts[4] == "host/c ended: Stopped()"
    fields = [
        (record.__dict__["path"], record.__dict__["incarnation"]) for record in caplog.records
    ]
    assert fields == [("host/c", 1)] * 4 + [("host/c", 2)]
    assert {record.name.partition(".")[0] for record in caplog.records} == {"actorvisor"}


async def test_a_traceback_begins_in_the_code_of_the_service(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    # O5: how the runtime came to call it says nothing; what it raised itself is shown whole.
    class Wrong(av.Service):
        def fail(self) -> None:
            raise OSError("as planned")

        def misuse(self) -> None:
            self.after(-1, Wrong.fail)

    texts = {}
    async with av.open_host(max_restarts=99) as host:
        ref = await host.start(av.Application(Wrong))
        for method in (Wrong.fail, Wrong.misuse):
            caplog.clear()
            await ref.tell(method)
            await trio.sleep(1)
            (texts[method.__name__],) = (
                text for _, text in lines(caplog) if text.startswith("host/Wrong crashed")
            )
    frames = {
        name: [
            (line.split('"')[1].rpartition("/")[2], line.rpartition(" in ")[2])
            for line in text.splitlines()
            if line.startswith("  File ")
        ]
        for name, text in texts.items()
    }
    assert frames["fail"] == [("test_observing.py", "fail")]
    assert frames["misuse"][0] == ("test_observing.py", "misuse")
    assert frames["misuse"][-1] == ("_checks.py", "check_seconds")


async def test_a_traceback_of_the_runtime_alone_is_whole() -> None:
    # O5: no code of the service is in it
    class Forgetful(av.Service):
        def forget(self) -> Any:
            return later()

    async def later() -> None:
        """Awaited by nobody."""

    async with av.open_host() as host:
        app = av.Application(Forgetful, executor=av.ThreadExecutor(), restart="temporary")
        ref = await host.start(app)
        await ref.tell(Forgetful.forget)
        reason = await ref.stopped()
    assert isinstance(reason, av.Crashed)
    assert reason.traceback_text.count('  File "') > 1
    assert "_thread.py" in reason.traceback_text


async def test_a_limit_is_logged_with_its_reason(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    # O5: an end without a traceback says what it was.
    tree = av.Supervisor([player("c")], name="t", max_restarts=0, restart="temporary")
    async with av.open_host() as host:
        group = await host.start(tree)
        await host.find("t/c", Player).tell(Player.crash)
        await group.stopped()
    (text,) = (text for _, text in lines(caplog) if text.startswith("host/t crashed"))
    assert "RestartLimitExceeded" in text
    assert "Fault('crash')" in text


async def test_a_crash_loop_is_logged_in_full_once_a_minute(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    # O5: with a count between.
    options: dict[str, Any] = {"max_restarts": 10_000, "within": 1}
    async with av.open_host(**options) as host:
        ref = await host.start(player("c"))
        for _ in range(24):
            await ref.tell(Player.crash)
            await trio.sleep(10)
    crashed = [text for _, text in lines(caplog) if text.startswith("host/c crashed")]
    full = [number for number, text in enumerate(crashed) if "Traceback" in text]
    assert full == [0, 6, 12, 18]
    assert crashed[6].startswith("host/c crashed (5 times in between)\nTraceback")
    assert crashed[5] == (
        "host/c crashed again: Fault('crash') (same traceback as before, 5 times since)"
    )
    # Another traceback is another one.
    caplog.clear()
    async with av.open_host(**options) as host:
        ref = await host.start(player("c"))
        for method in (Player.crash, Player.exit, Player.crash, Player.exit):
            await ref.tell(method)
        await trio.sleep(1)
    crashed = [text for _, text in lines(caplog) if text.startswith("host/c crashed")]
    assert ["Traceback" in text for text in crashed] == [True, True, False, False]


class Nasty(Exception):
    """Cannot be shown."""

    def __str__(self) -> str:
        raise ValueError("no str")

    __repr__ = __str__


class Huge(Exception):
    """Shows itself at length."""

    def __str__(self) -> str:
        return "x" * 3_000_000

    __repr__ = __str__


class Unshown:
    """A message that cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class Long:
    """A message that shows itself at length."""

    def __repr__(self) -> str:
        return "y" * 3_000_000


class Bad(av.Service):
    """Crashes with what it is given."""

    def crash(self, error: BaseException, *args: object) -> None:
        raise error

    def end(self) -> str:
        return "z" * 3_000_000


@pytest.mark.parametrize("error", [Nasty(), Huge(), ExceptionGroup("g", [Nasty(), Huge()])])
@pytest.mark.parametrize("message", [Unshown(), Long()])
async def test_a_repr_that_fails_or_is_huge_breaks_nothing(
    error: BaseException,
    message: object,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: MockClock,
) -> None:
    # O5, L2, I2: text is bounded, everywhere.
    caplog.set_level(logging.INFO, "actorvisor")
    async with recorded_host() as (host, record):
        ref = await host.start(av.Application(Bad, redeliver=0))
        with pytest.raises(av.ServiceCrashed) as caught:
            await ref.ask(Bad.crash, error, message)
        assert caught.value.__cause__ is error
        await ref.send(message)
        tree = av.Supervisor(
            [av.Application(Bad, name="b", backoff=av.Fixed(5))],
            name="t",
            max_restarts=1,
            within=100,
        )
        await host.start(tree)
        bad = host.find("t/b", Bad)
        await bad.tell(Bad.crash, error, message)
        await trio.sleep(1)
        texts = [str(host.tree()), repr(bad), str(caught.value), repr(host.tree())]
        await bad.tell(Bad.crash, error, message)
        await trio.sleep(100)
        assert bad.incarnation == 3
        await record.since()
        texts += [one.message for one in record.all if isinstance(one, av.DeadLetter)]
        texts += [repr(one) for one in record.all]
        texts += [record.getMessage() for record in caplog.records]
        assert max(map(len, texts)) < 45_000
        assert len([one for one in record.all if isinstance(one, av.Exited)]) == 4


# --- statistics and trees -----------------------------------------------------------------


async def test_statistics_at_different_moments(autojump_clock: MockClock) -> None:
    # M7, I4
    async with av.open_host() as host:
        empty = host.statistics()
        assert (empty.actors, empty.running, empty.restarts, empty.events) == (0, 0, 0, 0)
        tree = av.Supervisor([player("a"), player("b", backoff=av.Fixed(9))], within=90, name="t")
        group = await host.start(tree)
        ref = host.find("t/b", Player)
        found = host.statistics()
        assert (found.actors, found.running, found.restarts) == (3, 3, 0)
        assert found.events == 6
        assert sorted(found.mailboxes) == ["host/t/a", "host/t/b"]
        await ref.tell(Player.crash)
        for _ in range(3):
            ref.tell_nowait(Player.work, 1)
        await wait_all_tasks_blocked()
        found = host.statistics()
        assert (found.actors, found.running, found.restarts) == (3, 2, 1)
        mail = found.mailboxes["host/t/b"]
        assert (mail.accepted, mail.dead_letters, mail.waiting, mail.in_hand) == (4, 1, 3, 0)
        await trio.sleep(9.5)
        mail = host.statistics().mailboxes["host/t/b"]
        assert (mail.waiting, mail.in_hand) == (2, 1)
        assert check_account(host) == mail
        await group.stop(drain=0)
        found = host.statistics()
        assert (found.actors, found.running, found.mailboxes) == (0, 0, {})
        assert (found.mail.accepted, found.mail.handled, found.mail.dead_letters) == (4, 1, 3)
        assert check_account(host) == found.mail
        assert (found.abandoned, found.stale) == (0, 0)
    assert host.statistics().mail == found.mail


async def test_trees_at_different_moments(autojump_clock: MockClock) -> None:
    # H1, I4: a snapshot, which stays as it is.
    async with av.open_host() as host:
        before = host.tree()
        assert str(before) == "host  running, one_for_one"
        slow = player("b", 5, backoff=av.Fixed(3))
        tree = av.Supervisor([player("a"), slow], within=100, name="t", strategy="rest_for_one")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.start, tree)
            await trio.sleep(1)
            assert states(host) == ["running", "starting", "running", "starting"]
        up = host.tree()
        assert states(host) == ["running"] * 4
        ref = host.find("t/b", Player)
        await ref.tell(Player.crash)
        await trio.sleep(1)
        assert str(host.tree()).splitlines()[1:] == [
            "└── t  running, rest_for_one",
            "    ├── a  running, AsyncExecutor",
            "    └── b  backing_off, AsyncExecutor, 1 restart: Fault('crash')",
        ]
        await trio.sleep(3)
        assert states(host)[-1] == "starting"
        await trio.sleep(5)
        node = host.tree().find("host/t/b")
        assert node is not None
        assert (node.state, node.incarnation, node.restarts) == ("running", 2, 1)
        assert [str(one) for one in av.difference(up, host.tree())] == [
            "host/t/b: incarnation 1 -> 2, restarts 0 -> 1"
        ]
        await ref.stop()
        node = host.tree().find("host/t/b")
        assert node is not None
        assert (node.state, node.reason) == ("stopped", av.Stopped())
        await ref.remove()
        assert host.tree().find("host/t/b") is None
        changes = av.difference(before, host.tree())
        assert [(one.what, one.path) for one in changes][-2:] == [
            ("added", "host/t"),
            ("added", "host/t/a"),
        ]
    assert str(host.tree()).startswith("host  stopped")
    assert [node.state for node in up.walk()] == ["running"] * 4


def states(host: av.Host) -> list[str]:
    return [node.state for node in host.tree().walk()]
