"""Control: each call in each state of what it is about, answered, refused or cancelled (S7, L3, L4).

What is refused where by the decisions alone is shown in tests/core; here it is who is answered,
when, and what is left.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypothesis import given, settings, strategies as st
from trio.testing import wait_all_tasks_blocked

import actorvisor as av
from tests.runtime.account import check_account
from tests.runtime.player import Fault, Player, in_virtual_time, player, recorded_host

if TYPE_CHECKING:
    from trio.testing import MockClock

LONG = 50.0
"""Seconds that it stays in a state."""


class Stage:
    """A child ``host/t/c``, brought into some state."""

    def __init__(self, host: av.Host, nursery: trio.Nursery) -> None:
        self.host = host
        self.nursery = nursery

    @property
    def ref(self) -> av.Ref[Player]:
        return self.host.find("t/c", Player)

    @property
    def group(self) -> av.SupervisorRef:
        return self.host.find("t", av.Supervisor)

    async def declare(self, *children: av.Application[Any], **options: Any) -> None:
        """Start them; an hour is enough for whatever they do."""
        self.nursery.start_soon(
            self.host.start, av.Supervisor(children, name="t", within=3600, **options)
        )
        await wait_all_tasks_blocked()

    async def soon(self, call: Callable[[], Awaitable[object]]) -> None:
        async def carry_out() -> None:
            with suppress(av.ServiceStopped, av.ControlRefused):
                await call()

        self.nursery.start_soon(carry_out)
        await wait_all_tasks_blocked()

    async def crash(self) -> None:
        await self.ref.tell(Player.crash)
        await wait_all_tasks_blocked()

    async def waiting(self) -> None:
        slow = player("slow", LONG, start_timeout=math.inf)
        await self.declare(slow, player("c"))

    async def starting(self) -> None:
        await self.declare(player("c", LONG, start_timeout=math.inf))

    async def starting_again(self) -> None:
        await self.starting()
        await trio.sleep(LONG)
        await self.crash()

    async def running(self) -> None:
        await self.declare(player("c"))

    async def stopping(self) -> None:
        await self.declare(player("c", 0, LONG, grace=math.inf))
        await self.soon(lambda: self.ref.stop())

    async def stopping_without_drain(self) -> None:
        await self.declare(player("c", 0, LONG, grace=math.inf))
        await self.soon(lambda: self.ref.stop(drain=0))

    async def stopping_with_supervisor(self) -> None:
        await self.declare(player("c", 0, LONG, grace=math.inf))
        await self.soon(lambda: self.group.stop(drain=0))

    async def stopping_to_restart(self) -> None:
        await self.declare(player("c", 0, LONG, grace=math.inf))
        await self.soon(lambda: self.ref.restart())

    async def stopping_by_itself(self) -> None:
        await self.declare(player("c", 0, LONG, grace=math.inf))
        await self.crash()

    async def exited(self) -> None:
        beside = player("beside", 0, LONG, grace=math.inf)
        await self.declare(beside, player("c"), strategy="one_for_all")
        await self.crash()

    async def backing_off(self) -> None:
        await self.declare(player("c", backoff=av.Fixed(LONG)))
        await self.crash()

    async def stopped(self) -> None:
        await self.running()
        await self.ref.stop()

    async def failed(self) -> None:
        await self.declare(player("c"), on_limit="drop", max_restarts=0)
        await self.crash()


DECLARED = "already declared; start it by its ref"
STATES: dict[str, tuple[str, str | None, str | None, str, type[av.ExitReason], bool]] = {
    # how: the state, why start and restart are refused, why another of its name is refused,
    # how its end is called, whether mail is let in.
    "waiting": (
        "waiting",
        "already starting",
        "already starting",
        "already starting",
        av.Stopped,
        True,
    ),
    "starting": ("starting", "already starting", None, "already starting", av.Stopped, True),
    "starting_again": ("starting", "already starting", None, "already starting", av.Stopped, True),
    "running": ("running", "already running", None, "already running", av.Stopped, True),
    "stopping": ("stopping", "stopping", "stopping", "stopping", av.Stopped, False),
    "stopping_without_drain": ("stopping", "stopping", "stopping", "stopping", av.Stopped, False),
    "stopping_to_restart": ("stopping", "stopping", None, "stopping", av.Stopped, True),
    "stopping_by_itself": ("stopping", "stopping", None, "stopping", av.Crashed, True),
    "exited": ("exited", "restarting", None, "restarting", av.Stopped, True),
    "backing_off": ("backing_off", "restarting", None, "restarting", av.Stopped, True),
    "stopped": ("stopped", None, None, DECLARED, av.Stopped, False),
    "failed": ("failed", None, None, DECLARED, av.GaveUp, False),
}


async def on_stage(how: str, play: Callable[[Stage], Awaitable[None]]) -> None:
    async with recorded_host() as (host, record):
        async with trio.open_nursery() as nursery:
            stage = Stage(host, nursery)
            await getattr(stage, how)()
            assert stage.ref.state == STATES[how][0]
            await play(stage)
        await record.since()
        check_account(host)


@pytest.mark.parametrize("how", STATES)
async def test_start_in_each_state(how: str, autojump_clock: MockClock) -> None:
    # S7
    async def play(stage: Stage) -> None:
        ref, now = stage.ref, trio.current_time()
        number = ref.incarnation
        if why is None:
            await ref.start()
            assert (ref.state, ref.incarnation) == ("running", number + 1)
            assert await ref.ask(Player.work, 0) == number + 1
            return
        with pytest.raises(av.ControlRefused) as caught:
            await ref.start()
        assert (caught.value.path, caught.value.why) == ("host/t/c", why)
        assert trio.current_time() == now  # at once
        assert (ref.state, ref.incarnation) == (STATES[how][0], number)

    why = STATES[how][1]
    await on_stage(how, play)


@pytest.mark.parametrize("how", STATES)
async def test_restart_in_each_state(how: str, autojump_clock: MockClock) -> None:
    # S7, S4: at once if it backs off.
    async def play(stage: Stage) -> None:
        ref, now = stage.ref, trio.current_time()
        number = ref.incarnation
        if why is not None:
            with pytest.raises(av.ControlRefused) as caught:
                await ref.restart()
            assert (caught.value.path, caught.value.why) == ("host/t/c", why)
            assert trio.current_time() == now
            assert (ref.state, ref.incarnation) == (STATES[how][0], number)
            return
        await ref.restart()
        assert (ref.state, ref.incarnation) == ("running", number + 1)
        slow = {"starting", "starting_again", "stopping_to_restart", "stopping_by_itself", "exited"}
        assert trio.current_time() == now + (LONG if how in slow else 0)
        assert await ref.ask(Player.work, 0) == number + 1

    why = STATES[how][2]
    await on_stage(how, play)


@pytest.mark.parametrize("how", STATES)
async def test_another_of_its_name_in_each_state(how: str, autojump_clock: MockClock) -> None:
    # S7, I1
    async def play(stage: Stage) -> None:
        with pytest.raises(av.ControlRefused) as caught:
            await stage.group.start(player("c"))
        assert (caught.value.path, caught.value.why) == ("host/t/c", STATES[how][3])

    await on_stage(how, play)


@pytest.mark.parametrize("remove", [False, True])
@pytest.mark.parametrize("how", STATES)
async def test_the_end_in_each_state(how: str, remove: bool, autojump_clock: MockClock) -> None:
    # S4, S7, L4, I5: stop and remove work in every state.
    async def play(stage: Stage) -> None:
        ref, group, now = stage.ref, stage.group, trio.current_time()
        number = ref.incarnation
        with trio.fail_after(LONG + 1):
            reason = await (ref.remove() if remove else ref.stop())
        assert type(reason) is STATES[how][4]
        slow = {one for one, row in STATES.items() if row[0] == "stopping"}
        assert trio.current_time() == now + (LONG if how in slow else 0)
        assert ref.state == ("failed" if how == "failed" else "stopped")
        assert await ref.stopped() == reason
        with pytest.raises(av.ServiceStopped) as caught:
            await ref.tell(Player.work, 0)
        assert caught.value.reason == reason
        await trio.sleep(10 * LONG)
        assert (ref.state, ref.incarnation) == ("failed" if how == "failed" else "stopped", number)
        if remove:
            assert ref not in group.children()
            new = await group.start(player("c"))
            assert (new != ref, new.incarnation) == (True, 1)
            with pytest.raises(av.ServiceStopped):
                await ref.start()
        else:
            assert ref in group.children()
            await ref.start()
            assert await ref.ask(Player.work, 0) == number + 1

    await on_stage(how, play)


@pytest.mark.parametrize("how", STATES)
async def test_mail_in_each_state(how: str, autojump_clock: MockClock) -> None:
    # M6: it waits, or is refused when the end is for good; if_running wants it running.
    async def play(stage: Stage) -> None:
        ref = stage.ref
        if how != "running":
            for call in (ref.if_running.ask, ref.if_running.tell):
                with pytest.raises(av.ServiceStopped):
                    await call(Player.work, 0)
        if not STATES[how][5]:
            with pytest.raises(av.ServiceStopped):
                ref.tell_nowait(Player.work, 0)
            with pytest.raises(av.ServiceStopped):
                await ref.ask(Player.work, 0)
            return
        ref.tell_nowait(Player.work, 0)
        assert await ref.ask(Player.work, 0) == ref.incarnation
        assert ref.state == "running"

    await on_stage(how, play)


@pytest.mark.parametrize("call", ["stop", "remove", "restart", "stopped"])
@pytest.mark.parametrize("how", STATES)
async def test_a_cancelled_call_goes_on(how: str, call: str, autojump_clock: MockClock) -> None:
    # L3: all but a start; whoever was cancelled is not held up.
    async def play(stage: Stage) -> None:
        ref, now = stage.ref, trio.current_time()
        number, answered = ref.incarnation, False
        with trio.move_on_after(1) as scope:
            try:
                await getattr(ref, call)()
                answered = True
            except av.ControlRefused:
                assert STATES[how][2] is not None
                return
        assert scope.cancelled_caught is not answered
        assert trio.current_time() == now + (0 if answered else 1)
        await trio.sleep(3 * LONG)
        match call:
            case "restart":
                assert (ref.state, ref.incarnation) == ("running", number + 1)
            case "stop" | "remove":
                assert ref.state in {"stopped", "failed"}
                assert ref.incarnation == number
                assert (ref in stage.group.children()) == (call == "stop")
            case _:
                final = not STATES[how][5]
                assert ref.state in {"stopped", "failed"} if final else "running"

    await on_stage(how, play)


@pytest.mark.parametrize("call", ["stop", "remove", "restart", "stopped", "start"])
@pytest.mark.parametrize("how", STATES)
async def test_a_call_that_is_cancelled_before_it_begins_does_nothing(
    how: str, call: str, autojump_clock: MockClock
) -> None:
    # L3: raised Cancelled at the first checkpoint means that nothing was asked for.
    async def play(stage: Stage) -> None:
        ref = stage.ref
        before = ref.state, ref.incarnation
        with trio.CancelScope() as scope:
            scope.cancel()
            await getattr(ref, call)()
        assert scope.cancelled_caught
        await wait_all_tasks_blocked()
        assert (ref.state, ref.incarnation) == before

    await on_stage(how, play)


# --- starts at run time -------------------------------------------------------------------


@given(
    setup=st.sampled_from([0.0, 1.0, 2.0]),
    cancelled=st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 3.0]),
    kind=st.sampled_from(["host", "group", "tree", "again", "group of all"]),
    fails=st.booleans(),
)
@settings(deadline=None)
def test_a_cancelled_start_leaves_nothing_half_started(
    setup: float, cancelled: float, kind: str, fails: bool
) -> None:
    # L3, I4: it is up and there is a ref, or it is gone, its name is free, and there is none.
    async def main() -> None:
        async with recorded_host() as (host, record):
            strategy: Any = "one_for_all" if kind == "group of all" else "one_for_one"
            group = await host.start(av.Supervisor(name="g", strategy=strategy))
            app: Any = player("c", setup, 0.25, (1,) if fails else ())
            if kind == "tree":
                app = av.Supervisor([player("d", 0, 0.25), app], name="c")
            parent: Any = host if kind in {"host", "tree"} else group
            up: Any = None
            if kind == "again":
                app = player("c", setup, 0.25, (2,) if fails else ())
                up = await group.start(player("e"))
                tree = await host.start(av.Supervisor([app], name="t"))
                (up,) = tree.children()
                await up.stop()
            now = trio.current_time()
            result: Any = None
            with trio.move_on_after(cancelled) as scope:
                try:
                    result = await (up.start() if up is not None else parent.start(app))
                    result = result or up
                except Fault:
                    assert fails
            torn_down = (kind == "tree") + (setup == cancelled)
            late = 0.25 * torn_down if result is None else 0
            assert trio.current_time() <= now + min(setup, cancelled) + late
            if result is not None:
                assert (result.state, fails) == ("running", False)
                assert setup <= cancelled
            elif up is not None:
                assert up.state in {"stopped", "failed"}
                await up.remove()
            else:
                assert scope.cancelled_caught or fails
                assert "c" not in [ref.path[-1] for ref in parent.children()]
                await parent.start(player("c"))
            await record.since()

    in_virtual_time(main)


async def test_a_setup_that_is_cancelled_is_waited_for(autojump_clock: MockClock) -> None:
    # L3, L9: a cancelled start returns when nothing is left of the child.
    class Slow(av.Service):
        async def setup(self) -> None:
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(3)

    async with av.open_host() as host:
        with trio.move_on_after(1) as scope:
            await host.start(av.Application(Slow))
        assert scope.cancelled_caught
        assert trio.current_time() == 4
        assert host.children() == ()


async def test_names_of_run_time_children(autojump_clock: MockClock) -> None:
    # I1, I4: the class's name, with -2, -3; a name of its own is its own.
    async with av.open_host() as host:
        app = av.Application(Player)
        refs = [await host.start(app) for _ in range(3)]
        assert [ref.path for ref in refs] == ["host/Player", "host/Player-2", "host/Player-3"]
        with pytest.raises(av.ControlRefused, match="already running"):
            await host.start(player("Player-2"))
        await refs[1].stop()
        await host.start(player("Player-2"))
        assert (await host.start(app)).path == "host/Player-4"
        group = await host.start(av.Supervisor())
        assert group.path == "host/Supervisor"
        assert (await host.start(av.Supervisor())).path == "host/Supervisor-2"
        assert (await group.start(app)).path == "host/Supervisor/Player"
        # Many at once.
        new: list[str] = []

        async def start() -> None:
            new.append((await host.start(player_unnamed)).path)

        player_unnamed = av.Application(Player, 1)
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(start)
        assert len(set(new)) == 10


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
async def test_starts_at_run_time_wait_for_their_turn_or_for_nobody(
    strategy: Any, autojump_clock: MockClock
) -> None:
    # S7: under one_for_one no sibling is waited for.
    up: list[tuple[str, float]] = []

    async def start(name: str, setup: float) -> None:
        await group.start(player(name, setup))
        up.append((name, trio.current_time()))

    async with av.open_host() as host:
        group = await host.start(av.Supervisor(strategy=strategy))
        async with trio.open_nursery() as nursery:
            for name, setup in [("a", 3), ("b", 1), ("c", 2)]:
                nursery.start_soon(start, name, setup)
                await wait_all_tasks_blocked()
        if strategy == "one_for_one":
            assert up == [("b", 1), ("c", 2), ("a", 3)]
        else:
            assert up == [("a", 3), ("b", 4), ("c", 6)]


async def test_a_supervisor_acts_while_children_start_and_stop(autojump_clock: MockClock) -> None:
    # S7: it never waits inside a message.
    async with av.open_host() as host:
        group = await host.start(av.Supervisor([player("a"), player("b", 0, 100, grace=200)]))
        a, b = group.children()
        assert isinstance(a, av.Ref)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(group.start, player("slow", 100, start_timeout=math.inf))
            nursery.start_soon(b.stop)
            await wait_all_tasks_blocked()
            assert [ref.state for ref in group.children()] == ["running", "stopping", "starting"]
            await a.tell(Player.crash)
            assert await a.ask(Player.work, 0) == 2
            await a.stop()
            await a.start()
            other = await group.start(player("other"))
            assert await other.remove() == av.Stopped()
            with pytest.raises(Fault):
                await group.start(player("bad", 0, 0, (1,)))
            assert trio.current_time() == 0
            assert [ref.path[-4:] for ref in group.children()] == ["or/a", "or/b", "slow"]
        assert trio.current_time() == 100


# --- stops --------------------------------------------------------------------------------


async def test_stop_by_several_callers_is_one_stop(autojump_clock: MockClock) -> None:
    # L4: the same reason for all, and the least grace counts.
    answers: list[tuple[object, float]] = []

    async def call(delay: float, name: str, **options: Any) -> None:
        await trio.sleep(delay)
        answers.append((await getattr(ref, name)(**options), trio.current_time()))

    async with recorded_host() as (host, record):
        ref = await host.start(player("c", 0, 60, grace=math.inf))
        await record.since()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, 0, "stopped")
            for delay in (0, 1, 2):
                nursery.start_soon(call, delay, "stop")
            nursery.start_soon(call, 3, "remove")
            nursery.start_soon(lambda: call(4, "stop", grace=2))
            nursery.start_soon(call, 5, "stop")
        assert answers == [(av.TimedOut("teardown"), 6.0)] * 7
        told = [what for what, _, _ in await record.since()]
        assert told == ["Stopping", "Exited", "Ended"]


async def test_no_grace_after_some_grace(autojump_clock: MockClock) -> None:
    # L4: 0 does not wait.
    async with av.open_host() as host, trio.open_nursery() as nursery:
        ref = await host.start(player("c", 0, 60, grace=math.inf))
        nursery.start_soon(ref.stop)
        await trio.sleep(1)
        assert await ref.stop(grace=0) == av.Stopped()
        assert trio.current_time() == 1


async def test_a_crash_during_a_stop_keeps_its_reason(autojump_clock: MockClock) -> None:
    # S5, L2, M5: it is not restarted, and its asker knows.
    async def ask() -> None:
        with pytest.raises(av.ServiceCrashed):
            await ref.ask(Late.late)

    class Late(av.Service):
        async def late(self) -> None:
            await trio.sleep(2)
            raise Fault("late")

    async with recorded_host() as (host, record):
        ref = await host.start(av.Application(Late))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(1)
            reason = await ref.stop(drain=0)
        assert isinstance(reason, av.Crashed)
        assert trio.current_time() == 2
        assert [what for what, _, _ in await record.since()][2:] == ["Stopping", "Exited", "Ended"]
        assert ref.state == "stopped"


async def test_a_stop_of_a_supervisor_that_is_starting(autojump_clock: MockClock) -> None:
    # S5, L4: what is up is stopped, what starts is cancelled, what waits never lives.
    tree = av.Supervisor([player("a", 0, 1), player("b", LONG), player("c")], name="t")
    failed: list[BaseException] = []

    async def start() -> None:
        try:
            await host.start(tree)
        except av.ServiceStopped as error:
            failed.append(error)

    async with recorded_host() as (host, record), trio.open_nursery() as nursery:
        nursery.start_soon(start)
        await trio.sleep(2)
        group = host.find("t", av.Supervisor)
        assert await group.stop() == av.Stopped()
        assert trio.current_time() == 3
        told = [(what, name) for what, name, _ in await record.since()]
        assert told[4:] == [
            ("Stopping", "t"),
            ("Ended", "t/c"),
            ("Stopping", "t/b"),
            ("Exited", "t/b"),
            ("Ended", "t/b"),
            ("Stopping", "t/a"),
            ("Exited", "t/a"),
            ("Ended", "t/a"),
            ("Exited", "t"),
            ("Ended", "t"),
        ]
    assert [str(error) for error in failed] == ["host/t was stopped while it started"]


async def test_what_a_stop_says_everything_says(autojump_clock: MockClock) -> None:
    # I4: names, state, tree and statistics when stop() returns, and at the last notification.
    async with av.open_host() as host:
        group = await host.start(av.Supervisor([player("c")], name="t"))
        new = await group.start(player("new"))
        with host.events() as events:
            await group.stop()
            assert group.state == new.state == "stopped"
            assert host.children() == ()
            assert host.statistics().actors == 0
            assert host.tree().children == ()
            with pytest.raises(LookupError):
                host.find("t/new", Player)
        assert [type(one) async for one in events][-1] is av.Ended
        ref = await host.start(player("x"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ref.stop)
            async for one in host.events():
                if isinstance(one, av.Ended):
                    assert ref.state == "stopped"
                    assert host.children() == ()
                    break


async def test_mail_for_what_stops_for_good_is_refused_at_once(autojump_clock: MockClock) -> None:
    # M6: without a drain, too, and in the midst of a wait for room.
    refused: list[float] = []

    async def tell() -> None:
        with pytest.raises(av.ServiceStopped, match="is stopping and takes no more messages"):
            await ref.tell(Player.work, 0)
        refused.append(trio.current_time())

    async with av.open_host() as host:
        ref = await host.start(player("c", mailbox=1))
        await ref.tell(Player.work, 3)
        await wait_all_tasks_blocked()
        await ref.tell(Player.work, 0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell)
            await trio.sleep(1)
            nursery.start_soon(tell)
            assert await ref.stop(drain=0) == av.Stopped()
        assert (refused, trio.current_time()) == ([1, 1], 3)
        mail = check_account(host)
        assert (mail.accepted, mail.dead_letters) == (2, 1)


@pytest.mark.parametrize("drain", [0, 1])
async def test_what_it_tells_itself_while_it_stops_is_no_crash(
    drain: float, autojump_clock: MockClock
) -> None:
    # M6: it is a dead letter; M10: but it never waits for room in its own mailbox.
    class Talks(av.Service):
        async def talk(self, seconds: float) -> None:
            await trio.sleep(seconds)
            await self.ref.tell(Talks.talk, 10)

    async with av.open_host() as host:
        ref = await host.start(av.Application(Talks))
        await ref.tell(Talks.talk, 3)
        await wait_all_tasks_blocked()
        assert await ref.stop(drain=drain) == av.Stopped()
        assert check_account(host).dead_letters == 1
        ref = await host.start(av.Application(Talks, mailbox=1))
        await ref.tell(Talks.talk, 3)
        await wait_all_tasks_blocked()
        await ref.tell(Talks.talk, 0)
        reason = await ref.stop(drain=drain)
        assert isinstance(reason, av.Crashed)
        assert isinstance(reason.exception, av.WaitCycle)
