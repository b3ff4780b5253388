"""Draining, sentence by sentence (L4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import actorvisor as av
from tests.runtime.account import check_account


class Work(av.Service):
    """Takes its time for each message."""

    def __init__(self, done: list[object], seconds: float = 1.0) -> None:
        self.done = done
        self.seconds = seconds

    async def work(self, value: object) -> object:
        await trio.sleep(self.seconds)
        self.done.append(value)
        return value

    async def crash(self, value: object) -> None:
        await trio.sleep(self.seconds)
        raise ValueError(value)

    def teardown(self, reason: av.ExitReason) -> None:
        self.done.append(type(reason).__name__)


class Relay(av.Service):
    """Passes on what it gets, after a second."""

    def __init__(self, to: av.Ref[Work]) -> None:
        self.to = to

    async def relay(self, value: object) -> None:
        await trio.sleep(1)
        await self.to.tell(Work.work, value)

    async def relay_in_background(self, value: object) -> None:
        self.start_soon(self.relay, value)

    async def relay_by_timer(self, value: object) -> None:
        self.after(0, Relay.relay, value)
        await trio.sleep(0.5)

    async def begin(self, value: object) -> object:
        return await self.to.ask(Work.work, value)


async def test_a_hosts_normal_end_drains(autojump_clock: MockClock) -> None:
    # L4, H3: a tell just before the end is handled.
    done: list[object] = []
    async with av.open_host() as host:
        ref = await host.start(av.Application(Work, done))
        for value in range(3):
            await ref.tell(Work.work, value)
    assert done == [0, 1, 2, "Stopped"]
    assert trio.current_time() == 3


async def test_a_stop_that_was_asked_for_drains(autojump_clock: MockClock) -> None:
    # L4
    async with av.open_host() as host:
        done: list[object] = []
        ref = await host.start(av.Application(Work, done))
        for value in range(3):
            await ref.tell(Work.work, value)
        assert await ref.stop() == av.Stopped()
        assert done == [0, 1, 2, "Stopped"]
        assert trio.current_time() == 3


@pytest.mark.parametrize("remove", [False, True])
async def test_the_drain_has_its_own_limit(remove: bool, autojump_clock: MockClock) -> None:
    # L4: for up to `drain` seconds; what is left is dead letters, and its askers are told.
    async with av.open_host() as host:
        done: list[object] = []
        ref = await host.start(av.Application(Work, done))
        async with trio.open_nursery() as nursery:

            async def ask(value: object) -> None:
                with pytest.raises(av.ServiceStopped):
                    await ref.ask(Work.work, value)

            for value in range(2):
                await ref.tell(Work.work, value)
            await wait_all_tasks_blocked()
            for _ in range(2):
                nursery.start_soon(ask, "never")
            await wait_all_tasks_blocked()
            stop = ref.remove if remove else ref.stop
            assert await stop(drain=1.5) == av.Stopped()
        # The one in hand at 1.5 s was finished within the grace.
        assert done == [0, 1, "Stopped"]
        assert trio.current_time() == 2
        mail = check_account(host)
        assert (mail.handled, mail.dead_letters) == (2, 2)


@pytest.mark.parametrize("options", [{"drain": 0}, {"grace": 0}])
async def test_no_drain(options: dict[str, float], autojump_clock: MockClock) -> None:
    # L4: 0 skips it; not with grace=0.
    async with av.open_host() as host:
        done: list[object] = []
        ref = await host.start(av.Application(Work, done))
        for value in range(3):
            await ref.tell(Work.work, value)
        await wait_all_tasks_blocked()
        assert await ref.stop(**options) == av.Stopped()
        assert done == ([] if "grace" in options else [0, "Stopped"])
        assert check_account(host).dead_letters == 3 - len([one for one in done if one == 0])


async def test_a_host_without_drain(autojump_clock: MockClock) -> None:
    # L4: an argument of open_host, too.
    done: list[object] = []
    async with av.open_host(drain=0) as host:
        ref = await host.start(av.Application(Work, done))
        for value in range(3):
            await ref.tell(Work.work, value)
        await wait_all_tasks_blocked()
    assert done == [0, "Stopped"]


def test_a_declaration_takes_no_drain() -> None:
    # L4: never of a declaration.
    with pytest.raises(TypeError, match="drain"):
        av.Application(Work, [], drain=1)  # type: ignore[call-overload]


@pytest.mark.parametrize("how", [Relay.relay, Relay.relay_in_background, Relay.relay_by_timer])
async def test_one_drain_covers_the_tree_and_who_is_inside_still_sends(
    how: Callable[..., Any], autojump_clock: MockClock
) -> None:
    # L4: what a service, its background task or its timer sends on is handled.
    done: list[object] = []
    async with av.open_host() as host:
        work = await host.start(av.Application(Work, done))
        for number in range(3):
            relay = await host.start(av.Application(Relay, work, name=f"relay{number}"))
            await relay.tell(how, number)
    if how is Relay.relay_in_background:
        # Background tasks that nobody waits for hold no drain up; their services are stopped.
        assert done == ["Stopped"]
    else:
        assert sorted(done[:-1], key=str) == [0, 1, 2]
        assert done[-1] == "Stopped"


async def test_a_background_task_sends_as_its_service(autojump_clock: MockClock) -> None:
    # L4: start_soon keeps who sends. (The drain lasts: something else is in hand.)
    done: list[object] = []
    async with av.open_host() as host:
        work = await host.start(av.Application(Work, done, 1.0))
        relay = await host.start(av.Application(Relay, work))
        await relay.ask(Relay.relay_in_background, "relayed")
        for _ in range(2):
            await work.tell(Work.work, "held")
    assert done == ["held", "held", "relayed", "Stopped"]


async def test_mail_and_starts_from_outside_are_refused(autojump_clock: MockClock) -> None:
    # L4: with ServiceStopped.
    async with av.open_host() as host:
        done: list[object] = []
        group = await host.start(av.Supervisor([av.Application(Work, done)], name="group"))
        ref = host.find("group/Work", Work)
        await ref.tell(Work.work, 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(group.stop)
            await wait_all_tasks_blocked()
            assert (group.state, ref.state) == ("running", "running")  # a drain is no state
            with pytest.raises(av.ServiceStopped, match="is stopping"):
                await ref.ask(Work.work, 2)
            with pytest.raises(av.ServiceStopped, match="is stopping"):
                await ref.tell(Work.work, 2)
            with pytest.raises(av.ServiceStopped, match="is stopping"):
                await ref.if_running.ask(Work.work, 2)
            with pytest.raises(av.ServiceStopped, match="is stopping"):
                await ref.send(2)
            with pytest.raises(av.ServiceStopped):
                ref.tell_nowait(Work.work, 2)
            with pytest.raises(av.ControlRefused, match="supervisor stopping"):
                await group.start(av.Application(Work, done, name="late"))
        assert done == [1, "Stopped"]


async def test_who_waits_for_room_from_outside_is_refused_and_who_is_inside_is_not(
    autojump_clock: MockClock,
) -> None:
    # L4
    done: list[object] = []
    async with trio.open_nursery() as nursery:
        async with av.open_host() as host:
            work = await host.start(av.Application(Work, done, mailbox=1))
            relay = await host.start(av.Application(Relay, work))
            await work.tell(Work.work, 1)
            await wait_all_tasks_blocked()
            await work.tell(Work.work, 2)

            async def outside(send: Callable[..., Any]) -> None:
                with pytest.raises(av.ServiceStopped):
                    await send(Work.work, "outside")

            nursery.start_soon(outside, work.tell)
            nursery.start_soon(outside, work.ask)
            await relay.tell(Relay.begin, "inside")
            await wait_all_tasks_blocked()
    assert done == [1, 2, "inside", "Stopped"]


async def test_a_crash_during_the_drain_is_restarted(autojump_clock: MockClock) -> None:
    # L4: supervision goes on in it.
    done: list[object] = []
    async with av.open_host() as host:
        ref = await host.start(av.Application(Work, done))
        await ref.tell(Work.work, 1)
        await ref.tell(Work.crash, 2)
        await ref.tell(Work.work, 3)
        await ref.stop()
        assert done == [1, "Crashed", 3, "Stopped"]
        assert ref.incarnation == 2


async def test_a_service_that_backs_off_with_mail_is_waited_for(autojump_clock: MockClock) -> None:
    # L4
    done: list[object] = []
    async with av.open_host() as host:
        ref = await host.start(av.Application(Work, done, backoff=av.Fixed(2)))
        await ref.tell(Work.crash, 1)
        await ref.tell(Work.work, 2)
        await ref.stop(drain=10)
        assert done == ["Crashed", 2, "Stopped"]
        assert trio.current_time() == 1 + 2 + 1


async def test_a_service_that_backs_off_without_mail_is_not(autojump_clock: MockClock) -> None:
    # L4, S4: a stop is obeyed at once.
    done: list[object] = []
    async with av.open_host() as host:
        ref = await host.start(av.Application(Work, done, backoff=av.Fixed(2)))
        await ref.tell(Work.crash, 1)
        await trio.sleep(1.5)
        assert ref.state == "backing_off"
        await ref.stop()
        assert trio.current_time() == 1.5


async def test_the_last_message_crashes_and_the_drain_is_over(autojump_clock: MockClock) -> None:
    # L4: nothing waits and nothing is in hand, whichever way the message went.
    async with av.open_host() as host:
        ref = await host.start(av.Application(Work, []))
        await ref.tell(Work.crash, 1)
        await ref.stop()
        assert trio.current_time() == 1


async def test_a_child_that_ends_for_good_ends_its_part_of_the_drain(
    autojump_clock: MockClock,
) -> None:
    # L4, M6: its dead letters wait no more.
    async with av.open_host() as host:
        app = av.Application(Work, [], restart="temporary")
        group = await host.start(av.Supervisor([app], name="group"))
        ref = host.find("group/Work", Work)
        await ref.tell(Work.crash, 1)
        await ref.tell(Work.work, 2)
        await group.stop()
        assert trio.current_time() == 1
        assert check_account(host).dead_letters == 2


async def test_a_limit_exceeded_ends_the_drain(autojump_clock: MockClock) -> None:
    # L4: limits drain nothing.
    async with av.open_host(on_limit="drop") as host:
        group = await host.start(
            av.Supervisor([av.Application(Work, [])], max_restarts=0, name="group")
        )
        ref = host.find("group/Work", Work)
        await ref.tell(Work.crash, 1)
        await ref.tell(Work.work, 2)
        reason = await group.stop()
        assert trio.current_time() <= 2
        assert isinstance(reason, av.Crashed | av.Stopped)
        assert check_account(host).waiting == 0


async def test_a_stop_within_a_drain(autojump_clock: MockClock) -> None:
    # L4: the outer drain does not wait for what the inner one has ended.
    done: list[object] = []

    class Boss(av.Service):
        def __init__(self, work: av.Ref[Work]) -> None:
            self.work = work

        async def end(self) -> None:
            await self.work.stop()

    async with av.open_host() as host:
        work = await host.start(av.Application(Work, done))
        boss = await host.start(av.Application(Boss, work))
        for value in range(2):
            await work.tell(Work.work, value)
        await boss.tell(Boss.end)
    assert done == [0, 1, "Stopped"]
    assert trio.current_time() == 2


async def test_a_drain_within_a_stop(autojump_clock: MockClock) -> None:
    # L4: the inner one has begun before, and both end when nothing is left.
    done: list[object] = []
    async with trio.open_nursery() as nursery:
        async with av.open_host() as host:
            work = await host.start(av.Application(Work, done))
            for value in range(2):
                await work.tell(Work.work, value)
            nursery.start_soon(work.stop)
            await wait_all_tasks_blocked()
    assert done == [0, 1, "Stopped"]
    assert trio.current_time() == 2


async def test_an_open_promise_holds_the_drain_up(autojump_clock: MockClock) -> None:
    # L4: no reply_later is open.
    class Later(av.Service):
        def ask_me(self) -> None:
            self.start_soon(self._answer, self.reply_later())

        async def _answer(self, reply: av.LaterReply) -> None:
            await trio.sleep(2)
            reply.send("later")

    answers: list[object] = []
    async with trio.open_nursery() as nursery:
        async with av.open_host() as host:
            ref = await host.start(av.Application(Later))

            async def ask() -> None:
                answers.append(await ref.ask(Later.ask_me))

            nursery.start_soon(ask)
            await wait_all_tasks_blocked()
    assert answers == ["later"]
    assert trio.current_time() == 2


async def test_timers_that_have_not_fired_are_dropped(autojump_clock: MockClock) -> None:
    # L4: as no dead letters.
    class Ticking(Work):
        def setup(self) -> None:
            self.after(2, Ticking.work, "late")
            self.every(2, Ticking.work, "late")

    done: list[object] = []
    async with av.open_host() as host:
        events = host.events()
        await host.start(av.Application(Ticking, done))
    assert done == ["Stopped"]
    assert trio.current_time() == 0
    assert [type(one) async for one in events if isinstance(one, av.DeadLetter)] == []


async def test_a_timer_that_fires_during_the_drain_is_handled_and_does_not_prolong_it_for_ever(
    autojump_clock: MockClock,
) -> None:
    # L4: it ends in the moment in which nothing waits.
    class Ticking(Work):
        def setup(self) -> None:
            self.every(0.4, Ticking.note)

        def note(self) -> None:
            self.done.append("tick")

    done: list[object] = []
    async with av.open_host() as host:
        ref = await host.start(av.Application(Ticking, done))
        await ref.tell(Ticking.work, 1)
    assert done == [1, "tick", "Stopped"]
    assert trio.current_time() == 1


async def test_loops_that_read_no_mail_hold_nothing_up(autojump_clock: MockClock) -> None:
    # L4: whatever lies in their mailboxes, before and during the drain.
    class Loop(av.Service):
        async def run(self) -> None:
            await trio.sleep_forever()

    class Sender(Work):
        def __init__(self, done: list[object], loop: av.Ref[Loop]) -> None:
            super().__init__(done)
            self.loop = loop

        async def pass_on(self) -> None:
            await trio.sleep(1)
            await self.loop.send("in the drain")

    done: list[object] = []
    async with av.open_host() as host:
        loop = await host.start(av.Application(Loop))
        await loop.send("before it")
        sender = await host.start(av.Application(Sender, done, loop))
        await sender.tell(Sender.pass_on)
    assert trio.current_time() == 1


async def test_a_loop_that_reads_its_mail_is_drained(autojump_clock: MockClock) -> None:
    # L4, M7: what it has read is in hand until its next read.
    read: list[object] = []

    class Loop(av.Service):
        async def run(self) -> str:
            async for message in self.mailbox:
                await trio.sleep(1)
                read.append(message)
            return "end"

    async with av.open_host() as host:
        ref = await host.start(av.Application(Loop))
        for number in range(3):
            await ref.send(number)
        await wait_all_tasks_blocked()
        assert await ref.stop() == av.Stopped()
        assert read == [0, 1, 2]
        assert trio.current_time() == 3
        mail = check_account(host)
        assert (mail.handled, mail.dead_letters) == (3, 0)


async def test_a_restart_drains_nothing(autojump_clock: MockClock) -> None:
    # L4, M4: mail waits for the next incarnation.
    async with av.open_host() as host:
        done: list[object] = []
        ref = await host.start(av.Application(Work, done))
        for value in range(3):
            await ref.tell(Work.work, value)
        await wait_all_tasks_blocked()
        await ref.restart()
        assert done == [0, "Stopped"]
        await ref.stop()
        assert done == [0, "Stopped", 1, 2, "Stopped"]


async def test_a_cancelled_block_drains_nothing(autojump_clock: MockClock) -> None:
    # L4, H2
    done: list[object] = []
    with trio.CancelScope() as scope:
        async with av.open_host() as host:
            ref = await host.start(av.Application(Work, done))
            for value in range(3):
                await ref.tell(Work.work, value)
            await wait_all_tasks_blocked()
            scope.cancel()
    assert done == [0, "Stopped"]


async def test_a_drain_of_nothing_takes_no_time(autojump_clock: MockClock) -> None:
    # L4: an idle service stops at once.
    async with av.open_host() as host:
        ref = await host.start(av.Application(Work, []))
        group = await host.start(av.Supervisor([av.Application(Work, [])], name="group"))
        await ref.stop()
        await group.stop()
        assert trio.current_time() == 0


async def test_drop_oldest_does_not_end_a_drain_between_two_messages(
    autojump_clock: MockClock,
) -> None:
    # L4: a mailbox that is empty only while one message replaces another is not empty.
    class Source(av.Service):
        def __init__(self, work: av.Ref[Work]) -> None:
            self.work = work

        async def produce(self) -> None:
            for number in range(3):
                await self.work.tell(Work.work, number)
            # in hand until after the work began
            await trio.sleep(0.1)

    done: list[object] = []
    async with av.open_host() as host:
        work = await host.start(av.Application(Work, done, mailbox=1, overflow="drop_oldest"))
        source = await host.start(av.Application(Source, work))
        await work.tell(Work.work, "first")
        await wait_all_tasks_blocked()
        await source.tell(Source.produce)
    assert done == ["first", 2, "Stopped"]
