"""The bound of mail, who waits for room, what is dropped, and when senders yield (M1, M3, M7)."""

from __future__ import annotations

from typing import Literal

import pytest
import trio
from trio.testing import (
    MockClock,
    assert_checkpoints,
    assert_no_checkpoints,
    wait_all_tasks_blocked,
)

import actorvisor as av
from tests.runtime.account import check_account


class Slow(av.Service):
    """Handles a message at a time, when it is let."""

    gate: trio.Event
    seen: list[object]

    def __init__(self, seen: list[object], gate: trio.Event | None = None) -> None:
        self.seen = seen
        self.gate = trio.Event() if gate is None else gate

    async def hold(self) -> str:
        self.seen.append("hold")
        await self.gate.wait()
        return "held"

    def note(self, value: object) -> object:
        self.seen.append(value)
        return value

    async def receive(self, message: object) -> None:
        self.seen.append(message)


class Deaf(av.Service):
    def add(self) -> None:
        pass


async def busy(
    host: av.Host, *, mailbox: int = 2, overflow: Literal["wait", "drop_oldest"] = "wait"
) -> tuple[av.Ref[Slow], trio.Event, list[object]]:
    """A service that has a message in hand until its event is set."""
    seen: list[object] = []
    gate = trio.Event()
    ref = await host.start(av.Application(Slow, seen, gate, mailbox=mailbox, overflow=overflow))
    await ref.tell(Slow.hold)
    await wait_all_tasks_blocked()
    assert seen == ["hold"]
    return ref, gate, seen


async def test_a_full_mailbox_lets_its_senders_wait_in_turn(autojump_clock: MockClock) -> None:
    # M1: waiting senders are served in turn. M3: they wait while mail is full.
    async with av.open_host() as host:
        ref, gate, seen = await busy(host)
        await ref.tell(Slow.note, 1)
        await ref.tell(Slow.note, 2)
        async with trio.open_nursery() as nursery:
            for value in (3, 4, 5):
                nursery.start_soon(ref.tell, Slow.note, value)
                await wait_all_tasks_blocked()
            assert check_account(host).waiting == 2
            gate.set()
        await ref.ask(Slow.note, 6)
        assert seen == ["hold", 1, 2, 3, 4, 5, 6]


async def test_an_ask_that_waited_for_room_is_answered_before_its_asker_runs_again(
    autojump_clock: MockClock,
) -> None:
    # M1, M3: its message is let in, taken up and answered in one go of the service.
    async with av.open_host() as host:
        ref, gate, seen = await busy(host, mailbox=1)
        await ref.tell(Slow.note, 0)
        answers: list[int] = []

        async def ask(value: int) -> None:
            with assert_checkpoints():
                assert await ref.ask(Slow.note, value) == value
                answers.append(value)

        async with trio.open_nursery() as nursery:
            for value in range(1, 6):
                nursery.start_soon(ask, value)
                await wait_all_tasks_blocked()
            gate.set()
        assert sorted(answers) == [1, 2, 3, 4, 5]  # in whichever order trio wakes them
        assert seen == ["hold", 0, 1, 2, 3, 4, 5]
        assert check_account(host).late_replies == 0


async def test_an_ask_that_waited_for_room_and_crashes_the_service_at_once(
    autojump_clock: MockClock,
) -> None:
    # M5: its asker is told, though it has not run again since it got room.
    async with av.open_host() as host:

        class Frail(Slow):
            def fail(self) -> None:
                raise ValueError("frail")

        gate = trio.Event()
        ref = await host.start(av.Application(Frail, [], gate, mailbox=1))
        await ref.tell(Frail.hold)
        await wait_all_tasks_blocked()
        await ref.tell(Frail.note, 0)
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(av.ServiceCrashed) as caught:
                    await ref.ask(Frail.fail)
                assert isinstance(caught.value.__cause__, ValueError)

            nursery.start_soon(ask)
            await wait_all_tasks_blocked()
            gate.set()


async def test_an_ask_that_got_room_and_is_cancelled_is_withdrawn_or_answered(
    autojump_clock: MockClock,
) -> None:
    # M8: between getting room and being taken up it can still be withdrawn.
    async with av.open_host() as host:
        ref, gate, seen = await busy(host, mailbox=1)
        await ref.tell(Slow.hold)
        scope = trio.CancelScope()
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                with scope:
                    await ref.ask(Slow.note, "late")

            nursery.start_soon(ask)
            await wait_all_tasks_blocked()
            scope.cancel()
            gate.set()
        await ref.ask(Slow.note, "end")
        assert scope.cancelled_caught
        assert seen == ["hold", "hold", "end"]
        assert check_account(host).accepted == 3  # the ask was never accepted


async def test_cancelled_waiting_for_room_means_not_accepted(autojump_clock: MockClock) -> None:
    # M3
    async with av.open_host() as host:
        ref, gate, seen = await busy(host, mailbox=1)
        await ref.tell(Slow.note, 1)
        before = check_account(host)

        async def tell() -> None:
            await ref.tell(Slow.note, 2)

        async def send_plain() -> None:
            await ref.send(2)

        async def ask() -> None:
            await ref.ask(Slow.note, 2)

        for send in (tell, send_plain, ask):
            with trio.move_on_after(1) as scope:
                await send()
            assert scope.cancelled_caught
            assert check_account(host) == before
            with trio.CancelScope() as scope:
                scope.cancel()
                await send()
            assert scope.cancelled_caught
            assert check_account(host) == before
        gate.set()
        await ref.ask(Slow.note, 3)
        assert seen == ["hold", 1, 3]


async def test_tell_and_send_do_not_yield_but_every_64th_on_the_loop(
    autojump_clock: MockClock,
) -> None:
    # M3: the count is the host's, whoever sends and by whichever call.
    async with av.open_host() as host:
        ref = await host.start(av.Application(Slow, []))
        other = await host.start(av.Application(Slow, [], name="other"))
        sends = 0

        async def send(number: int) -> None:
            if number % 3 == 0:
                await ref.tell(Slow.note, number)
            elif number % 3 == 1:
                await ref.send(number)
            else:
                await other.tell(Slow.note, number)

        while sends < 63:
            sends += 1
            with assert_no_checkpoints():
                await send(sends)
        with assert_checkpoints():
            await send(64)
        with assert_no_checkpoints():
            await send(65)


async def test_a_cancelled_tell_is_accepted_unless_it_is_a_checkpoint(
    autojump_clock: MockClock,
) -> None:
    # M3: raised Cancelled means that nothing was accepted; else tell sees no cancellation.
    async with av.open_host() as host:
        seen: list[object] = []
        ref = await host.start(av.Application(Slow, seen))
        with trio.CancelScope() as scope:
            scope.cancel()
            for number in range(100):
                await ref.tell(Slow.note, number)
        assert scope.cancelled_caught
        await ref.ask(Slow.note, "end")
        assert seen == [*range(63), "end"]
        assert check_account(host).accepted == 64


async def test_what_waits_for_room_is_a_checkpoint(autojump_clock: MockClock) -> None:
    # M3
    async with av.open_host() as host:
        ref, gate, _ = await busy(host, mailbox=1)
        await ref.tell(Slow.note, 1)
        async with trio.open_nursery() as nursery:

            async def open_gate() -> None:
                await trio.sleep(1)
                gate.set()

            nursery.start_soon(open_gate)
            with assert_checkpoints():
                await ref.tell(Slow.note, 2)
        await ref.ask(Slow.note, 3)


async def test_ask_is_always_a_checkpoint(autojump_clock: MockClock) -> None:
    # M3: answered, rejected, crashed, stopped, to a mailbox that is closed, when cancelled.
    class No(av.Rejection):
        pass

    class Moody(av.Service):
        def ok(self) -> int:
            return 1

        def no(self) -> None:
            raise No

        def crash(self) -> None:
            raise ValueError("crash")

    async with av.open_host() as host:
        ref = await host.start(av.Application(Moody))
        with assert_checkpoints():
            assert await ref.ask(Moody.ok) == 1
        with assert_checkpoints(), pytest.raises(No):
            await ref.ask(Moody.no)
        with assert_checkpoints(), pytest.raises(av.ServiceCrashed):
            await ref.ask(Moody.crash)
        with trio.CancelScope() as scope, assert_checkpoints():
            scope.cancel()
            await ref.ask(Moody.ok)
        assert scope.cancelled_caught
        await ref.stop()
        with assert_checkpoints(), pytest.raises(av.ServiceStopped):
            await ref.ask(Moody.ok)
        with assert_checkpoints(), pytest.raises(av.ServiceStopped):
            await ref.if_running.ask(Moody.ok)
        assert check_account(host).withdrawn == 0


async def test_control_calls_are_checkpoints(autojump_clock: MockClock) -> None:
    # STYLE 8: async means that it can block, and then always a checkpoint.
    async with av.open_host() as host:
        with assert_checkpoints():
            ref = await host.start(av.Application(Slow, []))
        with assert_checkpoints(), pytest.raises(av.ControlRefused):
            await ref.start()
        with assert_checkpoints():
            await ref.restart()
        with assert_checkpoints():
            await ref.stop()
        for call in (ref.stop, ref.stopped, ref.remove):
            with assert_checkpoints():
                assert await call() == av.Stopped()  # what has ended already returns at once
        with assert_checkpoints(), pytest.raises(av.ServiceStopped):
            await ref.start()
        with assert_checkpoints():
            await host.wait()


async def test_tell_nowait_raises_mailbox_full(autojump_clock: MockClock) -> None:
    # M3
    async with av.open_host() as host:
        ref, gate, seen = await busy(host, mailbox=2)
        ref.tell_nowait(Slow.note, 1)
        ref.tell_nowait(Slow.note, 2)
        before = check_account(host)
        with pytest.raises(av.MailboxFull, match=r"host/Slow is full \(2 messages\)") as caught:
            ref.tell_nowait(Slow.note, 3)
        assert (caught.value.path, caught.value.capacity) == ("host/Slow", 2)
        assert check_account(host) == before
        gate.set()
        await ref.ask(Slow.note, 4)
        assert seen == ["hold", 1, 2, 4]
        await ref.stop()
        with pytest.raises(av.ServiceStopped):
            ref.tell_nowait(Slow.note, 5)


async def test_drop_oldest_makes_dead_letters_and_tells_askers(autojump_clock: MockClock) -> None:
    # M3: each drop is a dead letter, and a dropped ask raises MailboxFull at its asker.
    async with av.open_host() as host:
        ref, gate, seen = await busy(host, mailbox=2, overflow="drop_oldest")
        events = host.events()
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                with assert_checkpoints(), pytest.raises(av.MailboxFull):
                    await ref.ask(Slow.note, "asked")

            nursery.start_soon(ask)
            await wait_all_tasks_blocked()
            with assert_no_checkpoints():
                await ref.tell(Slow.note, 1)
                await ref.tell(Slow.note, 2)  # the ask goes
            ref.tell_nowait(Slow.note, 3)  # 1 goes
        assert check_account(host).dead_letters == 2
        letters = [await anext(events), await anext(events)]
        assert all(isinstance(letter, av.DeadLetter) for letter in letters)
        assert [letter.message for letter in letters if isinstance(letter, av.DeadLetter)] == [
            "note('asked')",
            "note(1)",
        ]
        gate.set()
        await wait_all_tasks_blocked()
        assert seen == ["hold", 2, 3]


@pytest.mark.parametrize("capacity", [1, 2, 3])
async def test_drop_oldest_drops_no_timers_and_no_notifications(
    capacity: int, autojump_clock: MockClock
) -> None:
    # M1: the bound is a count of user messages; what takes no room does not make room either.
    class Watching(Slow):
        async def setup(self) -> None:
            self.after(1, Watching.note, "timer")

        def watch(self, ref: av.Ref[Slow]) -> None:
            self.monitor(ref)

        async def receive(self, message: object) -> None:
            self.seen.append(type(message).__name__)

    async with av.open_host() as host:
        seen: list[object] = []
        gate = trio.Event()
        other = await host.start(av.Application(Slow, [], name="other"))
        ref = await host.start(
            av.Application(Watching, seen, gate, mailbox=capacity, overflow="drop_oldest")
        )
        await ref.ask(Watching.watch, other)
        await ref.tell(Watching.hold)
        await trio.sleep(2)
        await other.stop()  # Stopping, Exited, Ended
        for number in range(10):
            await ref.tell(Watching.note, number)
            assert check_account(host).waiting == 4 + min(capacity, number + 1)
        gate.set()
        await wait_all_tasks_blocked()
        kept = list(range(10 - capacity, 10))
        assert seen == ["hold", "timer", "Stopping", "Exited", "Ended", *kept]
        assert check_account(host).dead_letters == 10 - capacity


async def test_what_takes_no_room_takes_no_room(autojump_clock: MockClock) -> None:
    # M1: notifications and timers
    class Ticking(Slow):
        async def setup(self) -> None:
            for _ in range(5):
                self.after(1, Ticking.note, "tick")

    async with av.open_host() as host:
        seen: list[object] = []
        gate = trio.Event()
        ref = await host.start(av.Application(Ticking, seen, gate, mailbox=1))
        await ref.tell(Ticking.hold)
        await trio.sleep(2)
        assert check_account(host).waiting == 5
        ref.tell_nowait(Ticking.note, 1)
        with pytest.raises(av.MailboxFull):
            ref.tell_nowait(Ticking.note, 2)
        gate.set()
        await ref.ask(Ticking.note, 3)
        assert seen == ["hold", *["tick"] * 5, 1, 3]


async def test_withdrawn_asks_take_no_room_and_are_swept(autojump_clock: MockClock) -> None:
    # M1, M8
    async with av.open_host() as host:
        ref, gate, seen = await busy(host, mailbox=50)
        for number in range(500):
            with trio.move_on_after(1) as scope:
                await ref.ask(Slow.note, f"withdrawn {number}")
            assert scope.cancelled_caught
            if number % 100 == 0:
                await ref.tell(Slow.note, number)
        assert check_account(host).withdrawn == 500
        # All that is kept of them is less than what waits.
        assert ref._mailbox._receive.statistics().current_buffer_used <= 2 * 5
        gate.set()
        await ref.ask(Slow.note, "end")
        assert seen == ["hold", 0, 100, 200, 300, 400, "end"]


async def test_a_withdrawn_ask_lets_the_next_sender_in(autojump_clock: MockClock) -> None:
    # M1, M8
    async with av.open_host() as host:
        ref, gate, seen = await busy(host, mailbox=1)
        scope = trio.CancelScope()
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                with scope:
                    await ref.ask(Slow.note, "asked")

            nursery.start_soon(ask)
            await wait_all_tasks_blocked()
            nursery.start_soon(ref.tell, Slow.note, "told")
            await wait_all_tasks_blocked()
            scope.cancel()
            await wait_all_tasks_blocked()
            assert check_account(host).waiting == 1
            gate.set()
        await ref.ask(Slow.note, "end")
        assert seen == ["hold", "told", "end"]


async def test_withdrawn_while_it_is_on_its_way_to_an_idle_service(
    autojump_clock: MockClock,
) -> None:
    # M8: handed over, but its handler was not entered.
    async with av.open_host() as host:
        seen: list[object] = []
        ref = await host.start(av.Application(Slow, seen))
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:

            async def ask(scope: trio.CancelScope) -> None:
                with scope:
                    await ref.ask(Slow.note, "asked")

            # In whichever order trio lets the asker and the service run.
            for _ in range(20):
                scope = trio.CancelScope()
                nursery.start_soon(ask, scope)
                await trio.lowlevel.checkpoint()
                scope.cancel()
                await wait_all_tasks_blocked()
                mail = check_account(host)
                assert mail.handled == len(seen)
                assert mail.waiting == 0
        await ref.ask(Slow.note, "end")
        mail = check_account(host)
        assert mail.handled + mail.withdrawn == mail.accepted


async def test_a_flooded_service_lets_others_run(autojump_clock: MockClock) -> None:
    # Issue 7: another task's sleep(0) loop turns at least once per 64 messages.
    handled = 0

    class Count(av.Service):
        def one(self) -> None:
            nonlocal handled
            handled += 1

    async with av.open_host() as host:
        ref = await host.start(av.Application(Count, mailbox=6_400))
        await wait_all_tasks_blocked()
        for _ in range(6_400):
            ref.tell_nowait(Count.one)
        turns = most = before = 0
        while handled < 6_400:
            await trio.lowlevel.checkpoint()
            turns += 1
            most, before = max(most, handled - before), handled
        assert turns >= 100
        # Trio may let two turns of the service follow each other, one at the end of a round.
        assert most <= 64


async def test_a_flooded_run_loop_lets_others_run(autojump_clock: MockClock) -> None:
    # Issue 7: the same for a loop of its own.
    read: list[object] = []
    start = trio.Event()

    class Reader(av.Service):
        async def run(self) -> None:
            nonlocal read
            await start.wait()
            async for message in self.mailbox:
                read += [message]

    async with av.open_host() as host:
        ref = await host.start(av.Application(Reader, mailbox=6_400))
        for number in range(6_400):
            await ref.send(number)
        start.set()
        turns = most = before = 0
        while len(read) < 6_400:
            await trio.lowlevel.checkpoint()
            turns += 1
            most, before = max(most, len(read) - before), len(read)
        assert turns >= 100
        assert most <= 64
        assert read == list(range(6_400))


async def test_send_to_a_service_without_receive_is_a_dead_letter(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    # M11: and a warning, never a crash.
    async with av.open_host() as host:
        ref = await host.start(av.Application(Deaf))
        with assert_no_checkpoints():
            await ref.send("hello")
        mail = check_account(host)
        assert (mail.accepted, mail.dead_letters) == (1, 1)
        assert "Deaf has no receive()" in caplog.text
        assert ref.state == "running"
        assert ref.incarnation == 1
        await ref.stop()
        with pytest.raises(av.ServiceStopped):
            await ref.send("hello")
        assert check_account(host).accepted == 1


async def test_the_account_survives_its_identity(autojump_clock: MockClock) -> None:
    # M7: of forgotten identities too.
    async with av.open_host() as host:
        ref, _gate, _ = await busy(host)
        await ref.tell(Slow.note, 1)
        assert check_account(host).waiting == 1
        await ref.stop(drain=0, grace=0)
        mail = check_account(host)
        assert host.statistics().mailboxes == {}
        assert (mail.accepted, mail.dead_letters) == (2, 2)
