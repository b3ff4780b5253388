"""What a recorded host tells: every notification, message and decision, in order (T4)."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import actorvisor as av
from actorvisor._runtime._mailbox import Mailbox
from actorvisor.testing import simulate
from actorvisor.testing._check import check
from actorvisor.testing._recording import Recorder, record
from actorvisor.testing._trace import Entry, Trace

if TYPE_CHECKING:
    from actorvisor._runtime._envelope import Envelope


class Boom(Exception):
    """What crashes on purpose."""


class Clerk(av.Service):
    """Does what it is told."""

    def __init__(self, start: str = "") -> None:
        self.start = start

    def setup(self) -> None:
        if self.start == "crash":
            raise Boom("setup")
        if self.start == "timer":
            self.after(0.1, Clerk.note, 0)

    def note(self, value: int) -> int:
        return value

    def crash(self) -> None:
        raise Boom(self)

    def refuse(self) -> None:
        raise av.Rejection

    def later(self) -> None:
        self.after(0.5, Clerk.answer, self.reply_later())

    def answer(self, later: av.LaterReply) -> None:
        later.send(1)

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)

    def beside(self) -> None:
        self.start_soon(self.ref.tell, Clerk.note, 1)

    async def pass_on(self, other: av.Ref[Clerk]) -> None:
        await other.tell(Clerk.note, 1)

    def watch(self, other: av.Ref[Clerk]) -> None:
        self.monitor(other)

    def receive(self, message: object) -> None:
        pass


def clerk(name: str = "a", *args: Any, **options: Any) -> av.Application[Clerk]:
    return av.Application(Clerk, *args, name=name, **options)


def recorded(system: Callable[[Recorder], Awaitable[None]], **facts: Any) -> Trace:
    """The trace of a system, on virtual time; it keeps the rules."""
    recorder = record(**facts)
    trio.run(system, recorder, clock=MockClock(autojump_threshold=0))
    trace = recorder.trace()
    check(trace)
    assert Trace.from_lines(trace.to_lines()) == trace
    return trace


def story(trace: Trace, message: int) -> list[str]:
    """What became of a message, and where."""
    return [f"{one.kind} {one.path}#{one.incarnation}" for one in trace.message(message)]


def only(entries: tuple[Entry, ...]) -> Any:
    (entry,) = entries
    return entry


# --- messages -----------------------------------------------------------------------------


def test_a_message_that_is_handled_and_one_that_is_rejected() -> None:
    # M7
    async def system(open_host: Recorder) -> None:
        async with open_host([clerk()]) as host:
            ref = host.find("a", Clerk)
            await ref.ask(Clerk.note, 1)
            with contextlib.suppress(av.Rejection):
                await ref.ask(Clerk.refuse)

    trace = recorded(system)
    assert story(trace, 1) == ["accepted host/a#1", "taken host/a#1", "handled host/a#1"]
    assert story(trace, 2) == ["accepted host/a#1", "taken host/a#1", "rejected host/a#1"]
    detail = trace.message(1)[0].detail
    assert (detail["name"], detail["ask"], detail["sender"]) == ("note", True, "")
    assert trace.message(2)[2].detail["exception"] == "Rejection"
    account: Any = only(trace.kinds("closed")).detail["account"]
    assert (account["accepted"], account["handled"], account["rejected"]) == (2, 1, 1)


def test_the_message_in_hand_at_a_crash_is_blamed_or_given_back() -> None:
    # M5
    async def system(open_host: Recorder) -> None:
        async with open_host([clerk("a"), clerk("b", redeliver=1)]) as host:
            for name in ("a", "b"):
                with contextlib.suppress(av.ServiceCrashed):
                    await host.find(name, Clerk).ask(Clerk.crash)

    trace = recorded(system)
    assert story(trace, 1) == ["accepted host/a#1", "taken host/a#1", "dead-letter host/a#1"]
    assert story(trace, 2) == [
        "accepted host/b#1",
        "taken host/b#1",
        "given-back host/b#1",
        "taken host/b#2",
        "dead-letter host/b#2",
    ]
    given_back: Any = trace.message(2)[2].detail
    assert given_back["entered"] is True
    assert given_back["final"] is False
    assert given_back["reason"]["exception"] == "Boom"
    # T2: no address in it, though the exception holds an object whose repr has one.
    assert "at 0x..." in given_back["reason"]["text"]


def test_what_its_asker_takes_back_is_withdrawn_and_a_late_reply_is_dropped() -> None:
    # M8
    async def system(open_host: Recorder) -> None:
        async with open_host([clerk()]) as host:
            ref = host.find("a", Clerk)
            async with trio.open_nursery() as nursery:
                nursery.cancel_scope.deadline = 0.5
                nursery.start_soon(ref.ask, Clerk.sleep, 1)
                await wait_all_tasks_blocked()
                nursery.start_soon(ref.ask, Clerk.note, 1)

    trace = recorded(system)
    assert story(trace, 1) == [
        "accepted host/a#1",
        "taken host/a#1",
        "handled host/a#1",
        "dropped-reply host/a#1",
    ]
    assert story(trace, 2) == ["accepted host/a#1", "withdrawn host/a#1"]


def test_a_promise_that_nobody_waits_for_any_more_is_a_dropped_reply() -> None:
    # M8
    async def system(open_host: Recorder) -> None:
        async with open_host([clerk()]) as host:
            with trio.move_on_after(0.1):
                await host.find("a", Clerk).ask(Clerk.later)
            await trio.sleep(1)

    trace = recorded(system)
    assert story(trace, 1)[-1] == "handled host/a#1"
    assert only(trace.kinds("dropped-reply")).detail == {}


def test_what_waits_at_the_end_is_dead_letters() -> None:
    # M6
    async def system(open_host: Recorder) -> None:
        async with open_host([clerk()], drain=0) as host:
            for _ in range(3):
                await host.find("a", Clerk).tell(Clerk.note, 1)

    trace = recorded(system)
    assert [one.detail["why"] for one in trace.kinds("dead-letter")] == [
        "its service has ended"
    ] * 3
    ended = only(tuple(one for one in trace.of("host/a") if one.kind == "ended"))
    assert all(one.number < ended.number for one in trace.kinds("dead-letter"))


def test_what_a_full_mailbox_drops_and_what_nobody_can_receive() -> None:
    # M3, M11
    async def system(open_host: Recorder) -> None:
        apps = [
            clerk("a", mailbox=1, overflow="drop_oldest"),
            av.Application(Deaf, name="deaf"),
        ]
        async with open_host(apps) as host:
            await host.find("a", Clerk).tell(Clerk.sleep, 1)
            await wait_all_tasks_blocked()
            for value in (1, 2):
                await host.find("a", Clerk).tell(Clerk.note, value)
            await host.find("deaf", Deaf).send(1)

    trace = recorded(system)
    assert story(trace, 2) == ["accepted host/a#1", "dead-letter host/a#1"]
    assert "full" in str(trace.message(2)[1].detail["why"])
    assert story(trace, 3)[-1] == "handled host/a#1"
    assert story(trace, 4) == ["accepted host/deaf#1", "dead-letter host/deaf#1"]


class Deaf(av.Service):
    def note(self) -> None:
        pass


def test_a_sender_that_waits_for_room_is_the_one_that_is_told_of() -> None:
    # M2, M3
    async def system(open_host: Recorder) -> None:
        async with open_host([clerk("a", mailbox=1)]) as host:
            ref = host.find("a", Clerk)
            await ref.tell(Clerk.sleep, 1)
            await wait_all_tasks_blocked()
            await ref.tell(Clerk.note, 1)
            await ref.tell(Clerk.note, 2)

    trace = recorded(system)
    accepted = [one.detail for one in trace.kinds("accepted")]
    assert [one.get("waited", False) for one in accepted] == [False, False, True]
    # It is let in by the service's own step, and is another task's.
    assert len({one["task"] for one in accepted}) == 1


def test_who_sends_is_told_with_its_life() -> None:
    # L8, L4
    async def system(open_host: Recorder) -> None:
        async with open_host([clerk("a"), clerk("b")]) as host:
            a, b = host.find("a", Clerk), host.find("b", Clerk)
            await a.tell(Clerk.crash)
            await a.ask(Clerk.pass_on, b)
            await a.ask(Clerk.beside)
            await trio.sleep(1)

    trace = recorded(system)
    accepted = [(one.path, one.detail) for one in trace.kinds("accepted")]
    senders = [(path, one["sender"], one.get("life")) for path, one in accepted]
    assert senders == [
        ("host/a", "", None),
        ("host/a", "", None),
        ("host/b", "host/a", 2),
        ("host/a", "", None),
        ("host/a", "host/a", 2),
    ]
    tasks = [one["task"] for _, one in accepted]
    assert tasks == [1, 1, 2, 1, 3]


def test_a_task_that_a_service_starts_in_a_nursery_of_others_is_no_part_of_its_life() -> None:
    # L8
    async def system(open_host: Recorder) -> None:
        async with trio.open_nursery() as nursery:
            async with open_host([av.Application(Stranger, nursery, name="a")]) as host:
                ref = host.find("a", Stranger)
                await ref.ask(Stranger.work)
                await ref.restart()
                await trio.sleep(1)

    trace = recorded(system)
    last = trace.kinds("accepted")[-1]
    assert (last.time, last.detail["sender"]) == (0.5, "host/a")
    assert "life" not in last.detail


class Stranger(av.Service):
    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery

    def work(self) -> None:
        self.nursery.start_soon(self.send_later, self.ref)

    async def send_later(self, ref: av.Ref[Stranger]) -> None:
        await trio.sleep(0.5)
        await ref.tell(Stranger.nothing)

    def nothing(self) -> None:
        pass


def test_timers_and_notifications_are_nobodys_and_those_of_a_past_life_are_withdrawn() -> None:
    # L8, O2
    async def system(open_host: Recorder) -> None:
        async with open_host([clerk("a", "timer"), clerk("b")]) as host:
            a, b = host.find("a", Clerk), host.find("b", Clerk)
            await b.ask(Clerk.watch, a)
            await a.tell(Clerk.sleep, 0.2)
            await a.tell(Clerk.crash)
            await trio.sleep(1)
            await a.ask(Clerk.note, 1)

    trace = recorded(system)
    exempt = [one for one in trace.kinds("accepted") if "exempt" in one.detail]
    timers = [one for one in exempt if one.detail["exempt"] == "timer"]
    assert [(one.path, one.detail["timer"]) for one in timers] == [("host/a", 1), ("host/a", 2)]
    assert story(trace, timers[0].detail["message"])[-1] == "withdrawn host/a#2"  # type: ignore[arg-type]
    assert {one.path for one in exempt if one not in timers} == {"host/b"}
    assert all((one.detail["sender"], one.detail["task"]) == ("", 0) for one in exempt)


def test_timers_that_wait_at_the_end_for_good_are_withdrawn() -> None:
    # M7
    async def system(open_host: Recorder) -> None:
        async with open_host([clerk("a", "timer", grace=0.1)]) as host:
            ref = host.find("a", Clerk)
            await ref.tell(Clerk.sleep, 5)
            await trio.sleep(0.2)
            await ref.stop(drain=0)

    trace = recorded(system)
    assert story(trace, 2) == ["accepted host/a#1", "withdrawn host/a#1"]
    assert story(trace, 1)[-1] == "dead-letter host/a#1"


def test_a_pool_hands_over_and_gets_back() -> None:
    # W1
    async def system(open_host: Recorder) -> None:
        app = av.Pool(clerk(redeliver=1), size=2, name="p")
        async with open_host([app], max_restarts=9) as host:
            pool = host.find("p", Clerk)
            await pool.tell(Clerk.sleep, 1)
            await wait_all_tasks_blocked()
            with contextlib.suppress(av.ServiceCrashed):
                await pool.ask(Clerk.crash)

    trace = recorded(system)
    first = trace.message(1)
    assert [one.kind for one in first] == ["accepted", "handed-over", "taken", "handled"]
    assert first[0].path == "host/p"
    member = first[1].path
    other = {"host/p/0": "host/p/1", "host/p/1": "host/p/0"}[member]
    assert story(trace, 2) == [
        "accepted host/p#1",
        f"handed-over {other}#1",
        f"taken {other}#1",
        "given-back host/p#1",
        f"handed-over {other}#2",
        f"taken {other}#2",
        f"dead-letter {other}#2",
    ]


def test_a_pool_with_a_key_tells_which_member_a_message_is_for() -> None:
    # W1
    async def system(open_host: Recorder) -> None:
        async with open_host([av.Pool(clerk(), size=7, key=int, name="p")]) as host:
            for value in (1, 2, 1):
                await host.find("p", Clerk).ask(Clerk.note, value)

    lanes = [one.detail["lane"] for one in recorded(system).kinds("accepted")]
    assert lanes[0] == lanes[2] != lanes[1]


def test_what_cannot_be_sent_to_a_process_is_not_accepted() -> None:
    # P4
    async def system(open_host: Recorder) -> None:
        executor = av.AsyncProcessExecutor()
        async with open_host([], executors=_nowhere) as host:
            supervisor = host
            with contextlib.suppress(Boom):
                await supervisor.start(av.Application(Clerk, name="a", executor=executor))

    assert not recorded(system).kinds("accepted")


def _nowhere(executor: av.Executor) -> av.Executor:
    raise Boom("no executor")


# --- lives and decisions ------------------------------------------------------------------


def test_every_notification_is_told_in_the_order_in_which_readers_get_them() -> None:
    # O3
    told: list[av.Notification] = []

    async def read(events: av.Events) -> None:
        told.extend([one async for one in events])

    async def system(open_host: Recorder) -> None:
        async with trio.open_nursery() as nursery:
            async with open_host() as host:
                nursery.start_soon(read, host.events())
                ref = await host.start(clerk(backoff=av.Fixed(0.5)))
                with contextlib.suppress(av.ServiceCrashed):
                    await ref.ask(Clerk.crash)
                await trio.sleep(1)

    trace = recorded(system)
    kinds = ("starting", "started", "stopping", "exited", "restarting", "ended", "dead-letter")
    entries = trace.kinds(*kinds)
    names = [type(one).__name__ for one in told]
    assert [one.kind.replace("-", "") for one in entries] == [one.lower() for one in names]
    for entry, one in zip(entries, told, strict=True):
        assert (entry.path, entry.incarnation, entry.time) == (one.path, one.incarnation, one.time)
        if entry.kind != "dead-letter":
            assert entry.detail["sequence"] == one.sequence
        if isinstance(one, av.Restarting):
            assert (entry.detail["delay"], entry.detail["attempt"]) == (0.5, 1)
        if isinstance(one, av.Exited | av.Ended):
            reason: Any = entry.detail["reason"]
            assert reason["kind"] == type(one.reason).__name__


def test_the_tree_is_told_first_with_what_checks_need() -> None:
    # T4
    async def system(open_host: Recorder) -> None:
        tree: list[Any] = [
            clerk(
                "a",
                redeliver=2,
                mailbox=7,
                overflow="drop_oldest",
                grace=float("inf"),
                restart="transient",
                backoff=av.Exponential(base=0.5),
                on_crash={Boom: "stop"},
            ),
            av.Supervisor(
                [av.Pool(clerk("m"), size=2, key=int, max_restarts=9, within=1.5, name="p")],
                strategy="rest_for_one",
                max_restarts=4,
                within=float("inf"),
                name="s",
            ),
        ]
        async with open_host(tree, max_restarts=2, on_limit="drop"):
            pass

    trace = recorded(system)
    assert trace.entries[0].kind == "opened"
    tree: Any = trace.entries[0].detail["tree"]
    assert list(tree) == ["host", "host/a", "host/s", "host/s/p", "host/s/p/0", "host/s/p/1"]
    assert {name: tree["host"][name] for name in ("kind", "max_restarts", "windows")} == {
        "kind": "host",
        "max_restarts": 2,
        "windows": "each",
    }
    assert tree["host/a"] == {
        "kind": "service",
        "target": "Clerk",
        "executor": "AsyncExecutor",
        "remote": False,
        "loop": False,
        "restart": "transient",
        "backoff": "Exponential(base=0.5, factor=2.0, cap=30.0, jitter=0.1)",
        "reset_after": 60.0,
        "significant": False,
        "mailbox": 7,
        "overflow": "drop_oldest",
        "redeliver": 2,
        "grace": "inf",
        "start_timeout": 30.0,
        "on_crash": {"Boom": "stop"},
        "declared": True,
        "place": 0,
    }
    assert tree["host/s"]["within"] == "inf"
    assert (tree["host/s"]["strategy"], tree["host/s"]["place"]) == ("rest_for_one", 1)
    assert (tree["host/s/p"]["size"], tree["host/s/p"]["keyed"]) == (2, True)
    # What is in the tree is not declared once more.
    assert not trace.kinds("declared")


def test_what_is_started_at_run_time_is_declared_then_and_so_is_what_has_an_old_name() -> None:
    # I2, S8
    async def system(open_host: Recorder) -> None:
        tree = [av.Supervisor([clerk("t", restart="temporary")], name="s")]
        async with open_host(tree) as host:
            await host.start(av.Supervisor([clerk("x")], name="r"))
            await host.find("s/t", Clerk).stop()
            await host.find("s", av.Supervisor).restart()

    trace = recorded(system)
    declared = [(one.path, one.detail["declared"]) for one in trace.kinds("declared")]
    assert declared == [("host/r", False), ("host/r/x", True), ("host/s/t", True)]


def test_a_supervisor_that_was_removed_before_it_ever_began_is_declared_with_all_below_it() -> None:
    # S8
    async def system(open_host: Recorder) -> None:
        inner = av.Supervisor([clerk("x")], name="inner")
        outer = av.Supervisor([clerk("a", "crash"), inner], name="outer", restart="temporary")
        with contextlib.suppress(ExceptionGroup):
            async with open_host([clerk("b"), outer]):
                pass

    trace = recorded(system)
    assert not trace.of("host/outer/inner/x")


def test_calls_are_told_and_why_they_are_refused() -> None:
    # S7
    async def system(open_host: Recorder) -> None:
        async with open_host([clerk("a"), av.Pool(clerk("m"), size=1, name="p")]) as host:
            ref = host.find("a", Clerk)
            with contextlib.suppress(av.ControlRefused):
                await ref.start()
            await ref.restart()
            await host.find("p", Clerk).restart()
            await ref.remove(grace=0)
            with trio.move_on_after(0.5):
                await host.start(clerk("slow", start_timeout=1))
                await host.find("slow", Clerk).restart()

    trace = recorded(system)
    asked = [(one.path, one.incarnation, dict(one.detail)) for one in trace.kinds("asked")]
    assert asked == [
        ("host/a", 1, {"what": "start", "refused": "already running"}),
        ("host/a", 1, {"what": "restart"}),
        ("host/p", 1, {"what": "restart", "rolls": True}),
        ("host/p/0", 1, {"what": "restart"}),
        ("host/a", 2, {"what": "remove"}),
        ("host/slow", 1, {"what": "restart"}),
    ]
    told = {one.path: one.detail for one in trace.kinds("told") if one.incarnation == 2}
    assert told["host/a"] == {"final": True, "grace": 0}


def test_a_cancelled_start_is_a_call() -> None:
    # L3
    async def system(open_host: Recorder) -> None:
        async with open_host() as host:
            with trio.move_on_after(0.5):
                await host.start(av.Application(Slow, name="a"))
            await trio.sleep(1)

    assert only(recorded(system).kinds("asked")).detail == {"what": "cancel-start"}


class Slow(av.Service):
    async def setup(self) -> None:
        await trio.sleep(10)


def test_the_end_of_a_supervisor_is_told_between_its_cause_and_its_consequences() -> None:
    # S3
    async def system(open_host: Recorder) -> None:
        apps = [clerk("a"), clerk("b")]
        async with open_host([av.Supervisor(apps, max_restarts=0, name="s")]) as host:
            await host.find("s/a", Clerk).tell(Clerk.crash)
            await trio.sleep(1)

    trace = recorded(system)
    kinds = [f"{one.kind} {one.path}" for one in trace if one.kind in {"exited", "ending", "told"}]
    assert kinds[:4] == [
        "exited host/s/a",
        "ending host/s",
        "told host/s/b",
        "exited host/s/b",
    ]
    ending: Any = trace.kinds("ending")[0].detail["reason"]
    assert ending["exception"] == "RestartLimitExceeded"
    assert ending["failure"] is True


def test_the_verdict_of_on_crash_is_told_with_the_end() -> None:
    # S11
    async def system(open_host: Recorder) -> None:
        async with open_host([clerk(on_crash={Boom: "stop"})]) as host:
            await host.find("a", Clerk).tell(Clerk.crash)
            await trio.sleep(1)

    exited = only(recorded(system).kinds("exited"))
    assert exited.detail["verdict"] == "stop"


class Failing(av.Executor):
    """An executor that fails once it is told to."""

    has_loop = True
    has_thread = False

    def __init__(self) -> None:
        self.fail = trio.Event()

    @contextlib.asynccontextmanager
    async def open(self, nursery: trio.Nursery) -> Any:
        async with av.AsyncExecutor().open(nursery) as place:
            if not self.fail.is_set():
                nursery.start_soon(self._fail)
            yield place

    async def _fail(self) -> None:
        await self.fail.wait()
        raise Boom("executor")


def test_what_a_failed_executor_takes_down_is_told_before() -> None:
    # E1
    async def system(open_host: Recorder) -> None:
        executor = Failing()
        apps = [clerk(name, executor=executor) for name in "ab"]
        async with open_host([av.Supervisor(apps, name="s")]) as host:
            executor.fail.set()
            await trio.sleep(1)
            assert host.find("s/b", Clerk).incarnation == 2

    trace = recorded(system)
    lost = only(trace.kinds("lost"))
    assert lost.detail["actors"] == ["host/s/a", "host/s/b"]
    assert [one.kind for one in trace.entries[lost.number : lost.number + 2]] == ["exited"] * 2


def test_the_host_tells_its_account_when_all_has_ended() -> None:
    # M7, H1
    async def system(open_host: Recorder) -> None:
        async with open_host([clerk()]) as host:
            await host.find("a", Clerk).tell(Clerk.note, 1)

    trace = recorded(system)
    closed = trace.entries[-1]
    assert closed.kind == "closed"
    account: Any = closed.detail["account"]
    assert account == {
        "accepted": 1,
        "handled": 1,
        "rejected": 0,
        "withdrawn": 0,
        "dead_letters": 0,
        "waiting": 0,
        "in_hand": 0,
        "late_replies": 0,
    }
    assert closed.detail["mailboxes"] == {"host/a": account}
    assert (closed.detail["running"], closed.detail["abandoned"]) == (0, 0)


def test_a_host_that_fails_to_start_is_told_of_to_its_end() -> None:
    # S5
    async def system(open_host: Recorder) -> None:
        with contextlib.suppress(Boom, ExceptionGroup):
            async with open_host([clerk("a"), clerk("b", "crash")]):
                pass

    trace = recorded(system)
    assert trace.entries[0].kind == "opened"
    assert trace.entries[-1].kind == "closed"


# --- recorders ----------------------------------------------------------------------------


def test_several_hosts_tell_one_trace_under_different_names() -> None:
    # H5
    async def system(open_host: Recorder) -> None:
        async with open_host([clerk()]) as one:
            async with open_host([clerk()]) as two:
                await one.find("a", Clerk).ask(Clerk.pass_on, two.find("a", Clerk))
                await trio.sleep(0.1)
        async with open_host([clerk()]):
            pass

    trace = recorded(system)
    assert [one.path for one in trace.kinds("opened")] == ["host", "host-2", "host-3"]
    passed_on = trace.kinds("accepted")[1]
    assert (passed_on.path, passed_on.detail["sender"]) == ("host-2/a", "host/a")
    closed: Any = only(tuple(one for one in trace.kinds("closed") if one.path == "host-2"))
    assert list(closed.detail["mailboxes"]) == ["host-2/a"]


def test_a_recorder_gives_what_there_is_so_far_and_is_silent_when_it_is_muted() -> None:
    # T4
    recorder = record(seed=3)
    lengths: list[int] = []

    async def system() -> None:
        assert len(recorder.trace()) == 0
        async with recorder([clerk()]) as host:
            lengths.append(len(recorder.trace()))
            await host.find("a", Clerk).ask(Clerk.note, 1)
            lengths.append(len(recorder.trace()))
            recorder.fault("host/a", 1, f"Raise({object()!r})")
            recorder.mute()
            await host.find("a", Clerk).ask(Clerk.note, 1)

    trio.run(system)
    trace = recorder.trace(choices=[1, 2])
    assert lengths[0] < lengths[1] == len(trace) - 1
    assert trace.entries[-1].kind == "fault"
    assert trace.entries[-1].detail == {"what": "Raise(<object object at 0x...>)"}
    assert (trace.header["seed"], trace.header["choices"]) == (3, [1, 2])
    assert trace.header.keys() >= {"actorvisor", "python", "trio"}
    check(trace)


def test_a_recorder_opens_whatever_host_it_is_given() -> None:
    # T6
    def open_quietly(*args: Any, **options: Any) -> av.open_host:
        return av.open_host(*args, **{"drain": 0, **options})

    async def system() -> None:
        async with recorder([clerk()]) as host:
            await host.find("a", Clerk).tell(Clerk.note, 1)

    recorder = record(open_quietly)
    trio.run(system)
    assert len(recorder.trace().kinds("dead-letter")) == 1
    with pytest.raises(TypeError, match="what opens a host"):
        record(lambda *_: 1)([])  # type: ignore[arg-type]


def test_what_is_not_recorded_is_as_it_was() -> None:
    # T7: no class is changed, only objects of recorded hosts are others.
    seen: list[type] = []

    async def look(open_host: Any) -> None:
        async with open_host([clerk(), av.Pool(clerk("m"), size=1, name="p")]) as host:
            cells = host._commons.cells
            seen.extend(type(cells[path].mailbox) for path in ("host/a", "host/p", "host/p/0"))

    recorder = record()
    trio.run(look, recorder)
    trio.run(look, av.open_host)
    assert [one.__name__ for one in seen] == [
        *("RecordedMailbox", "RecordedPoolMailbox", "RecordedMailbox"),
        *("Mailbox", "PoolMailbox", "Mailbox"),
    ]
    assert issubclass(seen[0], seen[3])


class Odd(Mailbox):
    """A mailbox of an executor's own, with attributes of its own."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.seen: list[str] = []

    def put(self, envelope: Envelope) -> None:
        self.seen.append(envelope.name)
        super().put(envelope)


class OddExecutor(av.Executor):
    has_loop = True
    has_thread = False

    def mailbox(self, path: str, capacity: int, overflow: str, post: Any) -> Odd:
        return Odd(path, capacity, overflow, post)

    def open(self, nursery: trio.Nursery) -> Any:
        return av.AsyncExecutor().open(nursery)


def test_a_mailbox_of_another_kind_stays_of_that_kind() -> None:
    # E2
    seen: list[Any] = []

    async def system(open_host: Recorder) -> None:
        async with open_host([clerk("a", executor=OddExecutor())]) as host:
            await host.find("a", Clerk).ask(Clerk.note, 1)
            seen.append(host._commons.cells["host/a"].mailbox)

    trace = recorded(system)
    assert story(trace, 1)[-1] == "handled host/a#1"
    assert seen[0].seen == ["note"]


# --- threads ------------------------------------------------------------------------------


class Blocking(av.Service):
    def __init__(self, other: av.Ref[Clerk]) -> None:
        self.other = other

    def work(self, count: int) -> None:
        for value in range(count):
            self.other.blocking.tell(Clerk.note, value)

    def crash(self) -> None:
        raise Boom

    def hang(self, release: threading.Event) -> None:
        release.wait()


async def test_what_a_thread_sends_is_one_tasks_though_each_call_has_its_own() -> None:
    # M2
    recorder = record()
    async with recorder([clerk()]) as host:
        app = av.Application(
            Blocking, host.find("a", Clerk), name="t", executor=av.ThreadExecutor()
        )
        ref = await host.start(app)
        await ref.ask(Blocking.work, 3)
        await ref.tell(Blocking.crash)
        await ref.ask(Blocking.work, 2)
    trace = recorder.trace()
    check(trace)
    sent = [one.detail for one in trace.kinds("accepted") if one.path == "host/a"]
    assert [(one["sender"], one["life"]) for one in sent] == [("host/t", 1)] * 3 + [
        ("host/t", 2)
    ] * 2
    assert len({one["task"] for one in sent[:3]}) == len({one["task"] for one in sent[3:]}) == 1
    assert sent[0]["task"] != sent[3]["task"]


async def test_a_thread_that_is_left_behind_breaks_no_rule() -> None:
    # L8
    release = threading.Event()
    recorder = record()
    async with recorder([clerk()]) as host:
        app = av.Application(
            Blocking,
            host.find("a", Clerk),
            name="t",
            executor=av.ThreadExecutor(),
            grace=0.05,
            redeliver=1,
        )
        ref = await host.start(app)
        await ref.tell(Blocking.hang, release)
        while not recorder.trace().kinds("taken"):  # noqa: ASYNC110 - a thread takes it
            await trio.sleep(0.01)
        await ref.restart()
        release.set()
        await ref.ask(Blocking.work, 1)
    trace = recorder.trace()
    check(trace)
    exited: Any = next(one for one in trace.of("host/t") if one.kind == "exited").detail
    assert exited["reason"]["kind"] == "Abandoned"


# --- the same every time ------------------------------------------------------------------

_SCRIPT = """
import hashlib, logging, warnings
logging.disable(logging.CRITICAL)
warnings.simplefilter("ignore")
from actorvisor.testing import simulate
from tests.testing.storms import Storm
for seed in range(5):
    run = simulate(Storm(seed).rage, seed=seed)
    print(len(run.trace), hashlib.sha256("".join(run.trace.to_lines()).encode()).hexdigest())
"""


def test_the_same_simulation_is_the_same_trace_whatever_the_hash_seed() -> None:
    # T2
    outputs = [
        subprocess.run(
            [sys.executable, "-c", _SCRIPT],
            env={"PYTHONHASHSEED": seed, "PATH": "", "PYTHONPATH": "."},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1]
    assert len(outputs[0].splitlines()) == 5


def test_a_simulation_is_recorded() -> None:
    # T2, T4
    async def system(open_host: Any) -> None:
        async with open_host([clerk()]) as host:
            await host.find("a", Clerk).ask(Clerk.note, 1)

    trace = simulate(system).trace
    assert story(trace, 1) == ["accepted host/a#1", "taken host/a#1", "handled host/a#1"]
    assert json.loads(next(iter(trace.to_lines())))["trace"] == 1
