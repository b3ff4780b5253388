"""Refs and delivery: what is accepted, in which order it is handled, who is told what (I, M)."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from hypothesis import given, settings, strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

import actorvisor as av
from tests.runtime.account import check_account
from tests.runtime.naive import Naive, Sending


class Fault(Exception):
    """What crashes on purpose."""


class Refused(av.Rejection):
    """What is answered on purpose."""


class Desk(av.Service):
    """Does as it is told, and keeps what it was told outside of itself."""

    def __init__(self, seen: list[object] | None = None) -> None:
        self.seen = [] if seen is None else seen

    async def work(self, seconds: float, value: object = None) -> object:
        self.seen.append(value)
        await trio.sleep(seconds)
        return value

    async def crash(self, error: BaseException | None = None, seconds: float = 0) -> None:
        self.seen.append("crash")
        await trio.sleep(seconds)
        raise Fault("boom") if error is None else error

    def do(self, function: Callable[[Any], Any]) -> Any:
        return function(self)

    async def do_async(self, function: Callable[[Any], Awaitable[Any]]) -> Any:
        return await function(self)

    def life(self) -> int:
        return self.ref.incarnation

    def end(self) -> None:
        self.stop()

    def receive(self, message: object) -> None:
        self.seen.append(message)


def desk(*args: Any, **options: Any) -> av.Application[Desk]:
    declare: Any = av.Application
    app: av.Application[Desk] = declare(Desk, *args, **{"name": "desk", "grace": 10} | options)
    return app


@asynccontextmanager
async def opened(*children: Any, **options: Any) -> AsyncGenerator[av.Host, None]:
    """A host whose account is right at its end (M7)."""
    with trio.fail_after(100_000):
        async with av.open_host(children, **{"max_restarts": 1000} | options) as host:
            yield host
    mail = check_account(host)
    assert mail.waiting == mail.in_hand == 0


class Asking:
    """An ask in a task of its own."""

    def __init__(self, nursery: trio.Nursery, ref: av.Ref[Any], *call: Any) -> None:
        self.over = False
        self.result: Any = None
        self.time = math.nan
        nursery.start_soon(self._run, ref, call)

    async def _run(self, ref: av.Ref[Any], call: Any) -> None:
        try:
            self.result = await ref.ask(*call)
        except Exception as error:
            self.result = error
        self.over = True
        self.time = trio.current_time()


# --- who a ref names ---------------------------------------------------------------------------


async def test_a_ref_survives_restarts(autojump_clock: MockClock) -> None:
    # I2: it names an identity, not an incarnation.
    async with opened(desk()) as host:
        ref = host.find("desk", Desk)
        for life in range(1, 4):
            assert await ref.ask(Desk.life) == ref.incarnation == life
            with pytest.raises(av.ServiceCrashed):
                await ref.ask(Desk.crash)
        assert host.find("desk", Desk) == ref
        assert hash(host.find("desk", Desk)) == hash(ref)
        await ref.restart()
        assert await ref.ask(Desk.life) == 5
        assert ref.path == "host/desk"


async def test_a_new_child_of_an_old_name_is_somebody_else(autojump_clock: MockClock) -> None:
    # I2: old refs raise. I4: the name is free when `stopped()` returns. I5: forgotten.
    async with opened() as host:
        old = await host.start(desk())
        await old.stop()
        new = await host.start(desk())
        assert old != new
        assert (old.path, new.path) == ("host/desk", "host/desk")
        for call in (
            old.ask(Desk.life),
            old.tell(Desk.life),
            old.send(1),
            old.if_running.ask(Desk.life),
            old.if_running.tell(Desk.life),
        ):
            with pytest.raises(av.ServiceStopped) as stopped:
                await call
            assert stopped.value.path == "host/desk"
        with pytest.raises(av.ServiceStopped):
            old.tell_nowait(Desk.life)
        assert await new.ask(Desk.life) == 1
        assert (old.state, new.state) == ("stopped", "running")
        assert host.find("desk", Desk) == new


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
async def test_a_declared_child_can_be_started_again(
    restart: str, autojump_clock: MockClock
) -> None:
    # I5: a temporary one excepted; its ref then works again.
    async with opened(av.Supervisor([desk(restart=restart)], name="tree")) as host:
        ref = host.find("tree/desk", Desk)
        await ref.stop()
        with pytest.raises(av.ServiceStopped):
            await ref.ask(Desk.life)
        if restart == "temporary":
            with pytest.raises(av.ServiceStopped):
                await ref.start()
            with pytest.raises(LookupError):
                host.find("tree/desk", Desk)
        else:
            await ref.start()
            assert await ref.ask(Desk.life) == 2
            assert host.find("tree/desk", Desk) == ref


async def test_what_a_ref_says_of_itself_never_raises(autojump_clock: MockClock) -> None:
    # I2
    said: list[tuple[str, str, str, int]] = []

    def note(ref: av.Ref[Desk]) -> None:
        said.append((repr(ref), ref.state, ref.path, ref.incarnation))

    async with opened(desk(), on_limit="drop", max_restarts=0) as host:
        ref = host.find("desk", Desk)
        note(ref)
        await ref.tell(Desk.crash)
        await ref.stopped()
        note(ref)
    note(ref)
    assert said == [
        ("<Ref host/desk running>", "running", "host/desk", 1),
        ("<Ref host/desk failed>", "failed", "host/desk", 1),
        ("<Ref host/desk failed>", "failed", "host/desk", 1),
    ]


async def test_refs_travel_in_messages(autojump_clock: MockClock) -> None:
    # I3: to a parent, to a sibling, to itself, and back in an answer.
    async with opened() as host:
        tree = av.Supervisor([desk(name="left"), desk(name="right")], name="tree")
        await host.start(tree)
        left, right = host.find("tree/left", Desk), host.find("tree/right", Desk)

        async def use(self: Desk, ref: av.Ref[Desk]) -> int:
            return await ref.ask(Desk.life)

        await left.restart()
        ref = await left.ask(Desk.do, lambda self: self.ref)
        assert ref == left
        assert await right.ask(Desk.do_async, lambda self: use(self, ref)) == 2

        def tell_itself(self: Desk) -> None:
            self.ref.tell_nowait(Desk.work, 0, "to itself")
            self.find("../right", Desk).tell_nowait(Desk.do, lambda _: ref.tell_nowait(Desk.end))

        before = await left.ask(Desk.do, lambda self: self.seen)
        await left.tell(Desk.do, tell_itself)
        await trio.sleep(1)
        assert before == ["to itself"]
        assert left.incarnation == 3


# --- order and dead letters ------------------------------------------------------------------------


async def test_one_task_is_heard_in_order_whatever_it_uses(autojump_clock: MockClock) -> None:
    # M2: tell, send, tell_nowait, ask, from one task, over restarts.
    seen: list[object] = []
    async with opened(desk(seen)) as host:
        ref = host.find("desk", Desk)
        expected: list[object] = []
        for number in range(60):
            match number % 6:
                case 0:
                    await ref.tell(Desk.work, 0.1, number)
                case 1:
                    await ref.send(number)
                case 2:
                    ref.tell_nowait(Desk.work, 0, number)
                case 3:
                    await ref.tell(Desk.crash)
                case 4:
                    await ref.if_running.tell(Desk.work, 0, number)
                case _:
                    assert await ref.ask(Desk.work, 0.1, number) == number
            expected.append("crash" if number % 6 == 3 else number)
        await ref.ask(Desk.life)
        assert seen == expected
        assert ref.incarnation == 11


async def test_each_dead_letter_is_told_with_its_reason(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    # M7, O1: no message disappears without a trace: a notification and a warning for each.
    async with opened(desk(), desk(name="full", mailbox=1, overflow="drop_oldest")) as host:
        ref, full = host.find("desk", Desk), host.find("full", Desk)
        with host.events() as events:
            await ref.tell(Desk.crash)  # in hand at a crash
            assert await ref.ask(Desk.life) == 2
            await ref.tell(Desk.work, 1000, "cut")  # in hand at a restart
            await wait_all_tasks_blocked()
            await ref.tell(Desk.work, 1000, "cut for good")  # in hand at a stop
            await ref.tell(Desk.work, 0, "left")
            await ref.restart()
            await wait_all_tasks_blocked()
            await ref.stop(drain=0)
            await full.tell(Desk.work, 1)
            await wait_all_tasks_blocked()
            await full.send("oldest")
            await full.send("newest")
            await full.ask(Desk.life)
        letters = [one async for one in events if isinstance(one, av.DeadLetter)]
    assert [(one.path, one.incarnation, one.message, one.why) for one in letters] == [
        ("host/desk", 1, "crash()", "in hand at the end: Crashed(exception=Fault('boom'))"),
        ("host/desk", 2, "work(1000, 'cut')", "in hand at the end: TimedOut(phase='handler')"),
        ("host/desk", 3, "work(1000, 'cut for good')", "cut off by a stop"),
        ("host/desk", 3, "work(0, 'left')", "its service has ended"),
        ("host/full", 1, "'oldest'", "mailbox full, the oldest is dropped"),
        ("host/full", 1, "'newest'", "mailbox full, the oldest is dropped"),
    ]
    warnings = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert len(warnings) == 6
    for letter, warning in zip(letters, warnings, strict=True):
        assert letter.path in warning
        assert letter.message in warning
        assert letter.why in warning


async def test_a_hostile_message_is_a_dead_letter_as_any(autojump_clock: MockClock) -> None:
    # O5, M7: a repr that raises or is huge breaks nothing.
    class Hostile:
        def __repr__(self) -> str:
            raise Fault("repr")

    async with opened(desk(), max_restarts=0, on_limit="drop") as host:
        ref = host.find("desk", Desk)
        with host.events() as events:
            await ref.tell(Desk.crash)
            await ref.send(Hostile())
            await ref.send("x" * 1_000_000)
            await ref.stopped()
        letters = [one async for one in events if isinstance(one, av.DeadLetter)]
    assert len(letters) == 3
    assert all(len(one.message) < 1000 for one in letters)


# --- answers --------------------------------------------------------------------------------------


async def test_the_asker_gets_the_very_object(autojump_clock: MockClock) -> None:
    # M9: the user's own exception; a Rejection as it is. L2: any value is a value.
    async with opened(desk()) as host:
        ref = host.find("desk", Desk)
        value = object()
        assert await ref.ask(Desk.work, 0, value) is value
        error = Fault("own")
        assert await ref.ask(Desk.work, 0, error) is error
        with pytest.raises(av.ServiceCrashed) as crash:
            await ref.ask(Desk.crash, error)
        assert crash.value.__cause__ is error
        assert crash.value.path == "host/desk"
        assert isinstance(crash.value.reason, av.Crashed)
        assert crash.value.reason.exception is error
        refusal = Refused("no", 3)
        with pytest.raises(Refused) as refused:
            await ref.ask(Desk.crash, refusal)
        assert refused.value is refusal
        assert ref.incarnation == 2


async def test_groups_of_the_runtime_are_taken_off_and_of_users_are_kept(
    autojump_clock: MockClock,
) -> None:
    # M9: any Exception or group is a crash; several at once: the first.
    async with opened(desk()) as host:
        ref = host.find("desk", Desk)
        group = ExceptionGroup("own", [Fault(1), ExceptionGroup("inner", [Fault(2)])])
        with pytest.raises(av.ServiceCrashed) as crash:
            await ref.ask(Desk.crash, group)
        assert crash.value.__cause__ is group
        refusals = ExceptionGroup("refusals", [Refused("no")])
        with pytest.raises(av.ServiceCrashed) as crash:  # a bare Rejection only is an answer
            await ref.ask(Desk.crash, refusals)
        assert crash.value.__cause__ is refusals

        async def beside(error: Exception) -> None:
            await trio.sleep(1)
            raise error

        def start_two(self: Desk) -> None:
            for number in range(2):
                self.start_soon(beside, Fault(number))

        await ref.ask(Desk.do, start_two)
        with pytest.raises(av.ServiceCrashed) as crash:
            await ref.ask(Desk.work, 2)
        assert isinstance(crash.value.__cause__, Fault)


@pytest.mark.parametrize("redeliver", [0, 1])
async def test_an_asker_that_timed_out_is_counted_when_its_answer_comes(
    redeliver: int, autojump_clock: MockClock
) -> None:
    # M8: after it was taken up, the late reply is dropped and counted, whichever it is.
    async with opened(desk(redeliver=redeliver)) as host:
        ref = host.find("desk", Desk)
        for number, call in enumerate(
            [(Desk.work, 2.0), (Desk.crash, Refused("late"), 2.0), (Desk.crash, None, 2.0)]
        ):
            with trio.move_on_after(1) as scope:
                await ref.ask(*call)  # type: ignore[call-overload]
            assert scope.cancelled_caught
            assert check_account(host).late_replies == number
            assert await ref.ask(Desk.work, 0, "next") == "next"
            assert check_account(host).late_replies == number + 1
        mail = check_account(host)
        assert (mail.handled, mail.rejected, mail.dead_letters, mail.withdrawn) == (4, 1, 1, 0)


ENDS: dict[str, tuple[Callable[[av.Ref[Desk]], Awaitable[object]], type[Exception] | None]] = {
    # How the target ends while an ask waits in its mailbox, and what the asker gets.
    "stopped for good": (lambda ref: ref.stop(drain=0), av.ServiceStopped),
    "stopped without grace": (lambda ref: ref.stop(grace=0), av.ServiceStopped),
    "removed": (lambda ref: ref.remove(drain=0), av.ServiceStopped),
    "drained": (lambda ref: ref.stop(drain=100), None),
    "restarted": (lambda ref: ref.restart(), None),
    "crashed": (lambda ref: ref.tell(Desk.life), None),
}


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("in_hand", [False, True])
async def test_what_ends_while_an_ask_waits(
    how: str, in_hand: bool, autojump_clock: MockClock
) -> None:
    # M4, M5, M6
    end, kind = ENDS[how]
    async with opened(desk()) as host, trio.open_nursery() as nursery:
        ref = host.find("desk", Desk)
        if in_hand:
            # Within its grace it is finished, and answered.
            call: Any = (Desk.crash, None, 2) if how == "crashed" else (Desk.work, 2, "done")
            kind = av.ServiceStopped if how == "stopped without grace" else None
        else:
            if how == "crashed":
                await ref.tell(Desk.crash, None, 2)
            else:
                await ref.tell(Desk.work, 2)
            await wait_all_tasks_blocked()
            call = (Desk.work, 1, "done")
        asking = Asking(nursery, ref, *call)
        await trio.sleep(1)
        await end(ref)
        await trio.sleep(20)
        if in_hand and how == "crashed":
            assert isinstance(asking.result, av.ServiceCrashed)
            assert isinstance(asking.result.__cause__, Fault)
        elif kind is None:
            assert asking.result == "done"
        else:
            assert isinstance(asking.result, kind)
            # At once: when it has ended.
            assert asking.time == (1 if how == "stopped without grace" else 2)


async def test_a_backlog_is_kept_while_it_backs_off_and_settled_when_it_gives_up(
    autojump_clock: MockClock,
) -> None:
    # M6: mail waits while it backs off; when it ends for good, by whichever way, all are told.
    async with (
        opened(desk(backoff=av.Fixed(10)), max_restarts=1, within=100, on_limit="drop") as host,
        trio.open_nursery() as nursery,
    ):
        ref = host.find("desk", Desk)
        await ref.tell(Desk.crash)
        await trio.sleep(1)
        assert ref.state == "backing_off"
        calls: list[Any] = [(Desk.work, 1, 0), (Desk.work, 1, 1), (Desk.crash,)]
        asking = []
        for call in [*calls, (Desk.work, 1, 2), (Desk.work, 1, 3)]:
            asking.append(Asking(nursery, ref, *call))
            await wait_all_tasks_blocked()
        assert not any(one.over for one in asking)
        reason = await ref.stopped()
        assert isinstance(reason, av.GaveUp)
        await trio.sleep(1)
        assert [(one.result, one.time) for one in asking[:2]] == [(0, 11), (1, 12)]
        assert isinstance(asking[2].result, av.ServiceCrashed)
        for lost in asking[3:]:
            assert isinstance(lost.result, av.ServiceStopped)
            assert lost.result.reason == reason
            assert lost.time == 12


# --- redelivery -----------------------------------------------------------------------------------


async def test_redelivery_is_counted_by_entries(autojump_clock: MockClock) -> None:
    # M5: first, up to n times; a try counts when the handler is entered.
    seen: list[object] = []
    app = desk(seen, redeliver=2, backoff=av.Fixed(1))
    async with opened(app, max_restarts=3, within=100) as host:
        ref = host.find("desk", Desk)
        async with trio.open_nursery() as nursery:
            asking = Asking(nursery, ref, Desk.crash)
            await trio.sleep(0.5)
            # It is not entered in a life that ends before it is up: that is no try.
            await ref.restart()
            await ref.restart()
            await ref.tell(Desk.work, 0, "behind")
        assert isinstance(asking.result, av.ServiceCrashed)
        await ref.ask(Desk.life)
        assert seen.count("crash") == 3
        assert seen[-1] == "behind"
        mail = check_account(host)
        assert (mail.accepted, mail.handled, mail.dead_letters) == (3, 2, 1)


async def test_a_message_cut_off_by_a_restart_is_handled_again(autojump_clock: MockClock) -> None:
    # M5: one cut off by grace is treated as at a crash in a restart; in a final stop it is a
    # dead letter whose asker gets ServiceStopped.
    async with opened(desk(redeliver=1, grace=1)) as host, trio.open_nursery() as nursery:
        ref = host.find("desk", Desk)
        asking = Asking(nursery, ref, Desk.work, 5, "done")
        await wait_all_tasks_blocked()
        await ref.restart()
        assert trio.current_time() == 1
        await trio.sleep(10)
        assert (asking.result, asking.time) == ("done", 6)
        asking = Asking(nursery, ref, Desk.work, 5, "done")
        await wait_all_tasks_blocked()
        assert await ref.stop(drain=0) == av.TimedOut("handler")
        await wait_all_tasks_blocked()
        assert isinstance(asking.result, av.ServiceStopped)
        assert asking.result.reason == av.TimedOut("handler")


async def test_what_is_redelivered_comes_before_all_other_mail_and_needs_no_room(
    autojump_clock: MockClock,
) -> None:
    # M1, M4, M5: the front slot is read before mail; a full mailbox takes it back.
    seen: list[object] = []
    async with opened(desk(seen, redeliver=1, mailbox=1)) as host:
        ref = host.find("desk", Desk)
        async with trio.open_nursery() as nursery:
            Asking(nursery, ref, Desk.crash, None, 1)
            await wait_all_tasks_blocked()
            await ref.send("waits")
            nursery.start_soon(ref.send, "waits for room")
            await trio.sleep(1.5)
            assert (check_account(host).waiting, check_account(host).in_hand) == (1, 1)
        await ref.ask(Desk.life)
        assert seen == ["crash", "crash", "waits", "waits for room"]


# --- promised answers -------------------------------------------------------------------------------


class Later(Desk):
    """Promises answers."""

    def promise(self, promises: list[av.LaterReply]) -> str:
        promises.append(self.reply_later())
        return "not the answer"


async def test_a_promise_of_an_asker_that_is_gone(autojump_clock: MockClock) -> None:
    # M8: the late reply is dropped and counted. M5: a promise is kept once.
    promises: list[av.LaterReply] = []
    async with opened(av.Application(Later, name="later")) as host:
        ref = host.find("later", Later)
        with trio.move_on_after(1):
            await ref.ask(Later.promise, promises)
        mail = check_account(host)
        assert (mail.handled, mail.withdrawn, mail.late_replies) == (1, 0, 0)
        promises[0].send(1)
        assert check_account(host).late_replies == 1
        with pytest.raises(RuntimeError, match="answered already, or its service has ended"):
            promises[0].send(2)
        assert check_account(host).late_replies == 1


async def test_a_promise_lasts_as_long_as_its_life(autojump_clock: MockClock) -> None:
    # M5: unanswered at the end: ServiceCrashed or ServiceStopped; L8: it belongs to its life.
    promises: list[av.LaterReply] = []
    async with opened(av.Application(Later, name="later")) as host:
        ref = host.find("later", Later)
        ends: list[tuple[Callable[[], Awaitable[object]], type[Exception]]] = [
            (lambda: ref.tell(Desk.crash), av.ServiceCrashed),
            (ref.restart, av.ServiceCrashed),
            (lambda: ref.tell(Desk.end), av.ServiceCrashed),
            (lambda: ref.stop(drain=0), av.ServiceStopped),
        ]
        for end, kind in ends:
            async with trio.open_nursery() as nursery:
                asking = Asking(nursery, ref, Later.promise, promises)
                await wait_all_tasks_blocked()
                assert not asking.over
                await end()
            assert isinstance(asking.result, kind)
            with pytest.raises(RuntimeError):
                promises[-1].send(1)


async def test_promises_are_kept_in_any_order_while_others_are_handled(
    autojump_clock: MockClock,
) -> None:
    # M5, M10: reply_later ends the ask's edge: the service goes on.
    promises: list[av.LaterReply] = []
    async with opened(av.Application(Later, name="later")) as host:
        ref = host.find("later", Later)
        async with trio.open_nursery() as nursery:
            asking = [Asking(nursery, ref, Later.promise, promises) for _ in range(3)]
            await wait_all_tasks_blocked()
            assert len(promises) == 3
            assert await ref.ask(Desk.life) == 1
            for number in (2, 0, 1):
                promises[number].send(number)
        # Which task asked first is trio's affair: each has got the answer of its own promise.
        assert sorted(one.result for one in asking) == [0, 1, 2]


# --- a model ----------------------------------------------------------------------------------------

PRIMES = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]


NAMES = {Refused: "rejected", av.ServiceCrashed: "crashed", av.ServiceStopped: "stopped"}


class Acting(av.Service):
    """What the model's service is in fact."""

    def __init__(self, entered: list[tuple[tuple[int, int], float]]) -> None:
        self.entered = entered

    async def act(self, what: str, seconds: float, number: int, index: int) -> str:
        self.entered.append(((number, index), trio.current_time()))
        await trio.sleep(seconds)
        if what == "crash":
            raise Fault(number)
        if what == "reject":
            raise Refused(number)
        return what


@st.composite
def sendings(draw: st.DrawFn) -> list[Sending]:
    """No two things at the same time: the order of what is simultaneous is trio's affair."""
    result = []
    for number in range(draw(st.integers(1, 10))):
        shift = 0.1 * math.sqrt(PRIMES[number])  # incommensurable: sums never meet
        ask = draw(st.booleans())
        result.append(
            Sending(
                number=number,
                at=draw(st.integers(0, 8)) + shift / 100,
                ask=ask,
                act=draw(st.sampled_from(["return", "return", "crash", "reject"])),
                seconds=draw(st.integers(0, 3)) + shift,
                patience=draw(st.sampled_from([None, None, 0.3, 1.3, 2.3, 4.3])),
                burst=1 if ask else draw(st.integers(1, 3)),
            )
        )
    return result


async def act(plan: list[Sending], model: Naive, stop_at: float) -> None:
    """The plan, in fact; then all is as the model says."""
    entered: list[tuple[tuple[int, int], float]] = []
    results: dict[tuple[int, int], str] = {}
    own: dict[tuple[int, int], object] = {}
    app = av.Application(
        Acting,
        entered,
        name="acting",
        mailbox=model.capacity,
        redeliver=model.redeliver,
        backoff=av.Fixed(model.delay) if model.delay else av.Immediate(),
        grace=math.inf,
    )
    with trio.fail_after(10_000):
        async with av.open_host(max_restarts=1000) as host:
            ref = await host.start(app)

            async def send(what: Sending) -> None:
                await trio.sleep_until(what.at)
                patience = math.inf if what.patience is None else what.patience
                with trio.move_on_after(patience):
                    for index in range(what.burst):
                        name = (what.number, index)
                        results[name] = "cancelled"
                        call: Any = (Acting.act, what.act, what.seconds, *name)
                        try:
                            if what.ask:
                                assert await ref.ask(*call) == "return"
                            else:
                                await ref.tell(*call)
                            results[name] = "returned" if what.ask else "told"
                        except Exception as error:
                            results[name] = NAMES[type(error)]
                            whose = error.__cause__ if results[name] == "crashed" else error
                            if results[name] == "stopped":
                                return
                            own[name] = getattr(whose, "args", None)

            async with trio.open_nursery() as nursery:
                for one in plan:
                    nursery.start_soon(send, one)
                await trio.sleep_until(stop_at)
                lives = ref.incarnation
                check_account(host)
                await ref.stop(drain=0)
            mail = check_account(host)
    assert [name for name, _ in entered] == [name for name, _ in model.entered]
    for (_, time), (_, expected) in zip(entered, model.entered, strict=True):
        assert time == pytest.approx(expected)
    assert results == model.results
    assert own == {name: (name[0],) for name in own}  # each asker got its own exception
    assert lives <= model.lives
    for key in ("accepted", "handled", "rejected", "withdrawn", "dead_letters", "late_replies"):
        assert getattr(mail, key) == model.count[key], key


@given(
    plan=sendings(),
    capacity=st.sampled_from([1, 2, 1000]),
    redeliver=st.integers(0, 2),
    delay=st.sampled_from([0.0, 0.7 * math.sqrt(31), 2.3 * math.sqrt(37)]),
    stop_at=st.integers(9, 20),
    random=st.random_module(),
)
@settings(deadline=None, max_examples=300)
def test_a_naive_model_says_the_same(
    plan: list[Sending],
    capacity: int,
    redeliver: int,
    delay: float,
    stop_at: int,
    random: object,
) -> None:
    # M1-M8: who is handled when and how often, who is told what, and the whole account.
    end = stop_at + 0.01 * math.sqrt(41)
    model = Naive(capacity, redeliver, delay)
    model.play(plan, end)
    logger = logging.getLogger("actorvisor")
    logger.disabled = True
    try:
        trio.run(act, plan, model, end, clock=MockClock(autojump_threshold=0))
    finally:
        logger.disabled = False
