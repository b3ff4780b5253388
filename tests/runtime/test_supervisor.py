"""Supervisors at work: what their shell makes of the decisions (S1-S8, L3-L5, I4, I5).

The decisions themselves are shown in tests/core; here are times, notifications, and answers.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pytest
import trio
from hypothesis import given, settings, strategies as st

import actorvisor as av
from tests.runtime.account import check_account
from tests.runtime.player import Fault, Player, Told, in_virtual_time, player, recorded_host

if TYPE_CHECKING:
    from trio.testing import MockClock

# --- start and stop -----------------------------------------------------------------------


@dataclass(frozen=True)
class Leaf:
    """A service of some tree."""

    setup: float
    teardown: float
    grace: float

    def declare(self, name: str) -> av.Application[Player]:
        return player(name, self.setup, self.teardown, grace=self.grace)

    def start(self, path: str, now: float, told: list[Told]) -> float:
        told += [("Starting", path, now), ("Started", path, now + self.setup)]
        return now + self.setup

    def stop(self, path: str, now: float, told: list[Told]) -> float:
        end = now + min(self.teardown, self.grace)
        told += [("Stopping", path, now), ("Exited", path, end), ("Ended", path, end)]
        return end


@dataclass(frozen=True)
class Branch:
    """A supervisor of some tree."""

    strategy: Literal["one_for_one", "one_for_all", "rest_for_one"]
    together: bool
    children: tuple[Leaf | Branch, ...]

    def declare(self, name: str) -> av.Supervisor:
        return av.Supervisor(
            [child.declare(f"c{number}") for number, child in enumerate(self.children)],
            name=name,
            strategy=self.strategy,
            start="together" if self.together else "in_order",
        )

    def start(self, path: str, now: float, told: list[Told]) -> float:
        told.append(("Starting", path, now))
        up = now
        for number, child in enumerate(self.children):
            end = child.start(f"{path}/c{number}", now if self.together else up, told)
            up = max(up, end)
        told.append(("Started", path, up))
        return up

    def stop(self, path: str, now: float, told: list[Told]) -> float:
        told.append(("Stopping", path, now))
        end = now
        for number, child in reversed(list(enumerate(self.children))):
            end = child.stop(f"{path}/c{number}", end, told)
        told += [("Exited", path, end), ("Ended", path, end)]
        return end


leaves = st.builds(
    Leaf,
    setup=st.sampled_from([0.0, 1.0, 2.5]),
    teardown=st.sampled_from([0.0, 1.0, 4.0]),
    grace=st.sampled_from([0.5, 3.0, math.inf]),
)


def _branches(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Branch]:
    many = st.lists(children, max_size=4).map(tuple)
    alone = st.builds(Branch, st.just("one_for_one"), st.booleans(), many)
    groups = st.sampled_from(["one_for_all", "rest_for_one"])
    return alone | st.builds(Branch, groups, st.just(False), many)


trees = _branches(st.recursive(leaves, _branches, max_leaves=8))


def _has_together(tree: Leaf | Branch) -> bool:
    return isinstance(tree, Branch) and (
        tree.together or any(_has_together(child) for child in tree.children)
    )


@given(tree=trees, random=st.random_module())
@settings(deadline=None)
def test_a_tree_starts_in_order_and_stops_in_reverse(tree: Branch, random: object) -> None:
    # S5, L4, O1: each waits for the one before, and for what is below it.
    async def main() -> None:
        async with recorded_host() as (host, record):
            expected: list[Told] = []
            up = tree.start("t", 0, expected)
            ref = await host.start(tree.declare("t"))
            assert trio.current_time() == up
            assert same(await record.since(), expected)
            expected = []
            end = tree.stop("t", up, expected)
            assert await ref.stop() == av.Stopped()
            assert trio.current_time() == end
            assert await record.since() == expected
            assert host.children() == ()

    def same(told: list[Told], expected: list[Told]) -> bool:
        if _has_together(tree):  # in any order what happens at one time
            told, expected = sorted(told, key=_by_time), sorted(expected, key=_by_time)
        return told == expected

    in_virtual_time(main)


def _by_time(told: Told) -> tuple[float, str, str]:
    return told[2], told[1], told[0]


@given(
    setups=st.lists(st.sampled_from([0.0, 1.0, 2.5]), min_size=1, max_size=5),
    teardowns=st.lists(st.sampled_from([0.0, 1.0, 4.0]), min_size=5, max_size=5),
    fails=st.integers(0, 4),
    how=st.sampled_from(["raises", "too slow", "cancelled"]),
    deep=st.booleans(),
)
@settings(deadline=None)
def test_a_start_that_does_not_succeed_stops_what_is_up(
    setups: list[float], teardowns: list[float], fails: int, how: str, deep: bool
) -> None:
    # S5, L3, I4: newest first; and it raises, or is cancelled, only when nothing is left.
    fails %= len(setups)
    moment = sum(setups[:fails]) + 0.75
    end = moment + sum(teardowns[:fails])

    async def main() -> None:
        children = [
            player(f"c{number}", setup, teardown, start_timeout=math.inf)
            for number, (setup, teardown) in enumerate(zip(setups, teardowns, strict=False))
        ]
        if how == "raises":
            children[fails] = player(f"c{fails}", 0.75, 60, (1,))
        else:
            timeout = 0.75 if how == "too slow" else math.inf
            children[fails] = player(f"c{fails}", 60, 60, start_timeout=timeout)
        tree = av.Supervisor(children, name="t")
        if deep:
            tree = av.Supervisor([tree], name="t")
        async with recorded_host() as (host, record):
            if how == "cancelled":
                with trio.move_on_at(moment) as scope:
                    await host.start(tree)
                assert scope.cancelled_caught
            else:
                with pytest.raises(Fault if how == "raises" else av.StartTimeout) as caught:
                    await host.start(tree)
                origin = "host/t/t" if deep else "host/t"
                note = f"it reached host/t from {origin}/c{fails}"
                assert caught.value.__notes__ == [note]
            assert trio.current_time() == end
            assert host.children() == ()
            told = await record.since()
            gone = [name[-1] for what, name, _ in told if what == "Exited" and "c" in name]
            assert gone == [str(number) for number in range(fails, -1, -1)]
            assert not any(f"c{fails + 1}" in name and what == "Starting" for what, name, _ in told)
            await host.start(player("t"))  # its name is free

    in_virtual_time(main)


# --- strategies ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Member:
    """One of several siblings.

    Attributes:
        before: what it was in before the crash: ``up``, ``stopped`` or ``completed``.
    """

    setup: float
    teardown: float
    restart: Literal["permanent", "transient", "temporary"]
    before: str


def after_a_crash(
    members: list[Member], failing: int, strategy: str, delay: float, now: float
) -> list[Told]:
    """S2, as it is written."""
    told: list[Told] = []
    failed = members[failing]

    def say(what: str, number: int) -> None:
        told.append((what, f"t/c{number}", now))

    say("Stopping", failing)
    now += failed.teardown
    say("Exited", failing)
    if failed.restart == "temporary":
        say("Ended", failing)
        return told
    first = {"one_for_one": failing, "one_for_all": 0, "rest_for_one": failing}[strategy]
    last = failing if strategy == "one_for_one" else len(members) - 1
    others = [
        number
        for number in range(first, last + 1)
        if number != failing and members[number].before == "up"
    ]
    for number in reversed(others):
        say("Stopping", number)
        now += members[number].teardown
        say("Exited", number)
        if members[number].restart == "temporary":
            say("Ended", number)
    say("Restarting", failing)
    now += delay
    for number in sorted([failing, *others]):
        if members[number].restart != "temporary":
            say("Starting", number)
            now += members[number].setup
            say("Started", number)
    return told


members = st.builds(
    Member,
    setup=st.sampled_from([0.0, 1.0]),
    teardown=st.sampled_from([0.0, 2.0]),
    restart=st.sampled_from(["permanent", "permanent", "transient", "temporary"]),
    before=st.sampled_from(["up", "up", "up", "stopped", "completed"]),
)


@given(
    members=st.lists(members, min_size=1, max_size=5),
    failing=st.integers(0, 4),
    strategy=st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"]),
    delay=st.sampled_from([0.0, 3.0]),
)
@settings(deadline=None)
def test_who_is_stopped_and_started_when_one_crashes(
    members: list[Member], failing: int, strategy: Any, delay: float
) -> None:
    # S2, S4, O1: with what had completed, was stopped, or is temporary among them.
    failing %= len(members)
    members[failing] = Member(1.0, 2.0, members[failing].restart, "up")
    for number, member in enumerate(members):
        if member.before == "completed" and member.restart == "permanent":
            members[number] = Member(member.setup, member.teardown, "transient", "completed")

    async def main() -> None:
        children = [
            player(
                f"c{number}", one.setup, one.teardown, restart=one.restart, backoff=av.Fixed(delay)
            )
            for number, one in enumerate(members)
        ]
        async with recorded_host() as (host, record):
            group = await host.start(
                av.Supervisor(children, strategy=strategy, within=1000, name="t")
            )
            refs = [host.find(f"t/c{number}", Player) for number in range(len(members))]
            for ref, member in zip(refs, members, strict=True):
                if member.before == "stopped":
                    await ref.stop()
                elif member.before == "completed":
                    await ref.tell(Player.end)
                    assert await ref.stopped() == av.Completed()
            await record.since()
            now = trio.current_time()
            await refs[failing].tell(Player.crash)
            await trio.sleep(100)
            expected = after_a_crash(members, failing, strategy, delay, now)
            assert await record.since() == expected
            # I5, S1: a temporary child that has ended is forgotten.
            ended = {name for what, name, _ in expected if what == "Ended"}
            for number, member in enumerate(members):
                gone = f"t/c{number}" in ended or (
                    member.restart == "temporary" and member.before != "up"
                )
                assert (refs[number] not in group.children()) == gone
                assert (refs[number].state == "running") == (member.before == "up" and not gone)

    in_virtual_time(main)


# --- restart types ------------------------------------------------------------------------


def _ends() -> dict[str, tuple[Any, av.ExitReason | type]]:
    return {
        "crash": (Player.crash, av.Crashed),
        "exit": (Player.exit, av.Crashed),
        "end": (Player.end, av.Completed()),
        "trip": (Player.trip, av.Crashed),
        "run_on": (Player.run_on, av.TimedOut("teardown")),
    }


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
@pytest.mark.parametrize("how", _ends())
async def test_restart_types(
    how: str, restart: Any, declared: bool, autojump_clock: MockClock
) -> None:
    # S1, I5, L5, M9
    method, expected = _ends()[how]
    app = player("c", restart=restart)
    async with recorded_host() as (host, record):
        group = await host.start(av.Supervisor([app] if declared else [], name="t"))
        ref = host.find("t/c", Player) if declared else await group.start(app)
        await record.since()
        await ref.tell(method)
        if how == "run_on":
            await ref.tell(Player.end)
        await trio.sleep(100)
        failed = expected != av.Completed()
        again = restart == "permanent" or (restart == "transient" and failed)
        told = [what for what, _, _ in await record.since()]
        after = ["Restarting", "Starting", "Started"] if again else ["Ended"]
        assert told == ["Stopping", "Exited", *after]
        (exited,) = (one for one in record.all if isinstance(one, av.Exited))
        assert exited.reason == expected or type(exited.reason) is expected
        assert ref.state == ("running" if again else "failed" if failed else "stopped")
        assert ref.incarnation == 1 + again
        if again:
            assert await ref.ask(Player.work, 0) == 2
            return
        assert await ref.stopped() == exited.reason
        with pytest.raises(av.ServiceStopped) as caught:
            await ref.ask(Player.work, 0)
        assert caught.value.reason == exited.reason
        kept = declared and restart != "temporary"
        assert group.children() == ((ref,) if kept else ())
        if kept:
            await ref.start()
            assert await ref.ask(Player.work, 0) == 2
        else:
            for control in (ref.start, ref.restart):
                with pytest.raises(av.ServiceStopped):
                    await control()
            # I2: a new child under the old name is a new identity.
            new = await group.start(player("c"))
            assert (new != ref, new.incarnation) == (True, 1)
            with pytest.raises(av.ServiceStopped):
                await ref.tell(Player.work, 0)


async def test_who_declines_is_not_started_and_not_restarted(autojump_clock: MockClock) -> None:
    # L7: start returns; no Started, whatever the kind.
    class Declines(av.Service):
        def setup(self) -> None:
            self.stop()

    async with recorded_host() as (host, record):
        declared = [
            av.Application(Declines, name=restart, restart=restart)
            for restart in ("permanent", "transient", "temporary")
        ]
        group = await host.start(av.Supervisor([*declared, player("c")], name="t"))
        assert [ref.state for ref in group.children()] == ["stopped", "stopped", "running"]
        ref = await group.start(av.Application(Declines))
        assert ref.state == "stopped"
        assert await ref.stopped() == av.Completed()
        told = await record.since()
        assert [name for what, name, _ in told if what == "Started"] == ["t/c", "t"]


# --- the limit ----------------------------------------------------------------------------


@given(
    gaps=st.lists(st.sampled_from([0.5, 1.0, 2.0, 3.5]), min_size=1, max_size=12),
    max_restarts=st.integers(0, 3),
    within=st.sampled_from([1.0, 2.0, 4.0]),
    strategy=st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"]),
)
@settings(deadline=None)
def test_the_limit_counts_decisions_within_a_time(
    gaps: list[float], max_restarts: int, within: float, strategy: Any
) -> None:
    # S3: restarted up to the limit, and then not; by real notes at real times.
    notes: list[float] = []
    exceeded = None
    for number, now in enumerate(itertools.accumulate(gaps)):
        notes = [note for note in notes if now - note <= within] + [now]
        if len(notes) > max_restarts:
            exceeded = number
            break

    async def main() -> None:
        tree = av.Supervisor(
            [player("a", 0, 0.25), player("b")],
            name="t",
            strategy=strategy,
            max_restarts=max_restarts,
            within=within,
            restart="temporary",
        )
        async with recorded_host() as (host, record):
            group = await host.start(tree)
            ref = host.find("t/b", Player)
            start = trio.current_time()
            for number, now in enumerate(itertools.accumulate(gaps)):
                await trio.sleep_until(start + now)
                assert (group.state, ref.incarnation) == ("running", number + 1)
                await ref.tell(Player.crash)
                if number == exceeded:
                    break
            if exceeded is None:
                await trio.sleep(0.4)
                assert ref.incarnation == len(gaps) + 1
                return
            reason = await group.stopped()
            assert isinstance(reason, av.Crashed)
            error = reason.exception
            assert isinstance(error, av.RestartLimitExceeded)
            assert error.path == "host/t"
            assert isinstance(error.last_reason, av.Crashed)
            told = [(what, name) for what, name, _ in await record.since()]
            assert told[-9:] == [
                ("Stopping", "t/b"),
                ("Exited", "t/b"),
                ("Stopping", "t/a"),
                # L1: a reason is recorded, and it is no longer running.
                ("Stopping", "t"),
                ("Exited", "t/a"),
                ("Exited", "t"),
                # M6: only now it is decided that there is no restart above.
                ("Ended", "t/a"),
                ("Ended", "t/b"),
                ("Ended", "t"),
            ]

    in_virtual_time(main)


@given(
    limits=st.lists(st.integers(0, 2), min_size=1, max_size=4),
    strategies=st.lists(
        st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"]), min_size=4, max_size=4
    ),
)
@settings(deadline=None)
def test_limits_escalate_through_nested_supervisors(
    limits: list[int], strategies: list[Any]
) -> None:
    # S3, S8: each level starts what is below it again as often as it may, with the same mail.
    lives = math.prod(limit + 1 for limit in limits)

    async def main() -> None:
        child: Any = av.Application(Player, 0, 0, (), told, name="c")
        path = "c"
        for limit, strategy in zip(limits[1:], strategies, strict=False):
            child = av.Supervisor(
                [child, player("beside")],
                name="s",
                max_restarts=limit,
                within=1e9,
                strategy=strategy,
            )
            path = f"s/{path}"
        with pytest.RaisesGroup(Fault) as caught:
            async with av.open_host([child], max_restarts=limits[0], within=1e9) as host:
                ref = host.find(path, Player)
                for number in range(lives):
                    assert await ref.ask(Player.note, number) == number + 1
                    await ref.tell(Player.crash)
                    if number < lives - 1:
                        await ref.tell(Player.note, -number)
                    await trio.sleep(1)
                await trio.sleep_forever()
        assert caught.value.exceptions[0].__notes__ == [f"it reached host from host/{path}"]
        assert ref.incarnation == lives
        expected = [[number, -number] for number in range(lives)]
        assert told == [one for pair in expected for one in pair][:-1]

    told: list[object] = []
    in_virtual_time(main)


@given(
    crashes=st.lists(st.sampled_from("abc"), max_size=12),
    max_restarts=st.integers(0, 3),
)
@settings(deadline=None)
def test_dropped_at_a_limit_of_its_own(crashes: list[str], max_restarts: int) -> None:
    # S3: GaveUp, and the siblings go on.
    async def main() -> None:
        tree = av.Supervisor(
            [player(name) for name in "abc"],
            name="t",
            max_restarts=max_restarts,
            within=1e9,
            on_limit="drop",
        )
        async with av.open_host() as host:
            group = await host.start(tree)
            for number, name in enumerate(crashes):
                ref = host.find(f"t/{name}", Player)
                before = crashes[:number].count(name)
                if before > max_restarts:
                    with pytest.raises(av.ServiceStopped):
                        await ref.tell(Player.crash)
                else:
                    await ref.tell(Player.crash)
                await trio.sleep(1)
            assert group.state == "running"
            for name in "abc":
                ref = host.find(f"t/{name}", Player)
                if crashes.count(name) <= max_restarts:
                    assert await ref.ask(Player.work, 0) == crashes.count(name) + 1
                    continue
                reason = await ref.stopped()
                assert isinstance(reason, av.GaveUp)
                assert isinstance(reason.last, av.Crashed)
                assert ref.state == "failed"
                # An explicit start clears its notes.
                await ref.start()
                if max_restarts:
                    await ref.tell(Player.crash)
                    await trio.sleep(1)
                assert ref.state == "running"

    in_virtual_time(main)


# --- backoff ------------------------------------------------------------------------------


def _fixed(attempt: int) -> float:
    return 2.0


def _linear(attempt: int) -> float:
    return min(4.0, 1.5 * (attempt + 1))


def _exponential(attempt: int) -> float:
    return min(6.0, 0.5 * math.pow(3, attempt))


BACKOFFS: dict[str, tuple[av.Backoff, Callable[[int], float]]] = {
    "fixed": (av.Fixed(2.0), _fixed),
    "linear": (av.Linear(1.5, cap=4.0), _linear),
    "exponential": (av.Exponential(base=0.5, factor=3, cap=6.0, jitter=0), _exponential),
}


@given(
    kind=st.sampled_from(list(BACKOFFS)),
    lives=st.lists(st.sampled_from([0.0, 3.0, 10.0, 20.0]), min_size=1, max_size=8),
    reset_after=st.sampled_from([None, 2.0, 15.0]),
)
@settings(deadline=None)
def test_backoff_in_time(kind: str, lives: list[float], reset_after: float | None) -> None:
    # S4: the delay that is told is the delay; it starts over after a long enough life.
    backoff, delay_of = BACKOFFS[kind]
    longest = {"fixed": 2.0, "linear": 4.0, "exponential": 6.0}[kind]
    steady = 2 * longest if reset_after is None else reset_after
    expected: list[Told] = []
    delays: list[tuple[float, int]] = []
    now, attempt = 0.0, 0
    for life in lives:
        now += life
        if life >= steady:
            attempt = 0
        delay = delay_of(attempt)
        attempt += 1
        delays.append((delay, attempt))
        expected += [(what, "c", now) for what in ("Stopping", "Exited", "Restarting")]
        now += delay
        expected += [(what, "c", now) for what in ("Starting", "Started")]

    async def main() -> None:
        async with recorded_host(max_restarts=1000, within=1000) as (host, record):
            app = player("c", backoff=backoff, reset_after=reset_after)
            ref = await host.start(app)
            await record.since()
            for life in lives:
                await trio.sleep(life)
                await ref.tell(Player.crash)
                assert await ref.ask(Player.work, 0) == ref.incarnation  # mail waits
            assert await record.since() == expected
            told = [one for one in record.all if isinstance(one, av.Restarting)]
            assert [(one.delay, one.attempt) for one in told] == delays

    in_virtual_time(main)


async def test_jitter_comes_from_the_hosts_generator(autojump_clock: MockClock) -> None:
    # S4: a seeded host's delays are the same again, within the share that was declared.
    async def delays(seed: int) -> list[float]:
        app = player("c", backoff=av.Exponential(base=1, factor=1, jitter=0.5))
        options: dict[str, Any] = {"max_restarts": 100, "random": random.Random(seed)}
        async with recorded_host(**options) as (host, record):
            ref = await host.start(app)
            for _ in range(20):
                await ref.tell(Player.crash)
                await ref.ask(Player.work, 0)
            await record.since()
        return [one.delay for one in record.all if isinstance(one, av.Restarting)]

    first = await delays(1)
    assert first == await delays(1) != await delays(2)
    assert all(0.5 <= delay <= 1.5 for delay in first)
    assert len(set(first)) == 20


async def test_siblings_go_on_while_one_backs_off(autojump_clock: MockClock) -> None:
    # S4: under one_for_one; and the supervisor's stop does not wait for it.
    children = [player("a", backoff=av.Fixed(100)), player("b")]
    async with av.open_host() as host:
        group = await host.start(av.Supervisor(children, within=1000))
        a, b = group.children()
        assert isinstance(a, av.Ref)
        assert isinstance(b, av.Ref)
        await a.tell(Player.crash)
        assert await b.ask(Player.work, 1) == 1
        assert a.state == "backing_off"
        assert await group.stop() == av.Stopped()
        assert trio.current_time() == 1
        assert (a.state, a.incarnation) == ("stopped", 1)
        await trio.sleep(200)
        assert (a.state, a.incarnation) == ("stopped", 1)
        ref = await host.start(player("c", backoff=av.Fixed(100)))
        await ref.tell(Player.crash)
        await trio.sleep(1)
        await ref.restart()
        await trio.sleep(200)
        assert ref.incarnation == 2
        assert host.statistics().stale == 0  # the timer was off, and not just late


# --- starts that fail on a restart --------------------------------------------------------


class Slow(av.Service):
    """Comes up at once, and from the second life on too slowly."""

    async def setup(self) -> None:
        if 1 < self.ref.incarnation < 4:
            await trio.sleep(60)

    def crash(self) -> None:
        raise Fault


@pytest.mark.parametrize("max_restarts", [2, 3])
@pytest.mark.parametrize("how", ["raises", "too slow"])
async def test_who_fails_to_come_up_on_a_restart_counts_again(
    how: str, max_restarts: int, autojump_clock: MockClock
) -> None:
    # S3, L3: a crash, and two starts that fail, are three decisions.
    app: Any = player("c", 0, 0, (2, 3))
    crash: Any = Player.crash
    if how == "too slow":
        app, crash = av.Application(Slow, name="c", start_timeout=2), Slow.crash
    tree = av.Supervisor([app], name="t", max_restarts=max_restarts, restart="temporary")
    async with av.open_host() as host:
        group = await host.start(tree)
        ref: Any = host.find("t/c", av.Service)
        await ref.tell(crash)
        await trio.sleep(10)
        if max_restarts == 3:
            assert (ref.state, ref.incarnation) == ("running", 4)
        else:
            reason = await group.stopped()
            assert isinstance(reason, av.Crashed)
            error = reason.exception
            assert isinstance(error, av.RestartLimitExceeded)
            if how == "too slow":
                assert error.last_reason == av.TimedOut("setup")
            assert ref.incarnation == 3


async def test_a_stop_cancels_a_setup(autojump_clock: MockClock) -> None:
    # L4, L5: at once, and there is nothing to tear down.
    async with recorded_host() as (host, record):
        group = await host.start(av.Supervisor([player("c", 5, 60)], name="t"))
        ref = host.find("t/c", Player)
        await ref.tell(Player.crash)
        await trio.sleep(3)
        assert ref.state == "stopping"  # the first life, which is torn down
        await trio.sleep(4)
        assert (ref.state, ref.incarnation) == ("starting", 2)
        await record.since()
        now = trio.current_time()
        assert await group.stop() == av.Stopped()
        assert trio.current_time() == now
        told = [(what, name) for what, name, _ in await record.since()]
        child = [(what, "t/c") for what in ("Stopping", "Exited", "Ended")]
        assert told == [("Stopping", "t"), *child, ("Exited", "t"), ("Ended", "t")]


# --- significant children -----------------------------------------------------------------


@pytest.mark.parametrize("mode", ["any", "all"])
@pytest.mark.parametrize("kind", ["temporary", "transient"])
@pytest.mark.parametrize("how", ["asked", "crash", "end"])
async def test_significant_children(
    mode: Any, kind: Any, how: str, autojump_clock: MockClock
) -> None:
    # S6: by an end of their own that is for good; not by a stop that somebody asked for.
    async def end(ref: av.Ref[Player]) -> None:
        if how == "asked":
            await ref.stop()
        else:
            await ref.tell(Player.crash if how == "crash" else Player.end)
        await trio.sleep(1)

    children = [
        player("plain", 0, 0.5),
        player("a", restart=kind, significant=True),
        player("b", restart=kind, significant=True),
    ]
    tree = av.Supervisor(children, auto_shutdown=mode, name="t", restart="transient")
    async with recorded_host() as (host, record):
        group = await host.start(tree)
        plain, a, b = (host.find(f"t/{name}", Player) for name in ("plain", "a", "b"))
        counts = how == "end" or (how == "crash" and kind == "temporary")
        await end(a)
        assert (group.state == "running") == (not counts or mode == "all")
        if group.state == "running":
            await end(b)
            assert (group.state == "running") == (not counts)
        if counts:
            # A normal end, which its own supervisor does not mend.
            assert await group.stopped() == av.Completed()
            assert (group.state, group.incarnation, plain.state) == ("stopped", 1, "stopped")
            last = [(what, name) for what, name, _ in await record.since()][-10:]
            assert ("Stopping", "t/plain") in last
            assert last[-1] == ("Ended", "t")
        else:
            assert plain.incarnation == 1
            assert a.incarnation == (2 if how == "crash" else 1)


async def test_a_significant_supervisor_ends_the_one_above(autojump_clock: MockClock) -> None:
    # S6, S8
    inner = av.Supervisor(
        [player("c", restart="transient", significant=True)],
        auto_shutdown="any",
        name="inner",
        restart="transient",
        significant=True,
    )
    outer = av.Supervisor([inner, player("x")], auto_shutdown="any", name="o", restart="transient")
    async with av.open_host() as host:
        group = await host.start(outer)
        await host.find("o/inner/c", Player).tell(Player.end)
        assert await group.stopped() == av.Completed()
        await host.wait()


# --- a supervisor that is started again ---------------------------------------------------


@pytest.mark.parametrize("asked", [True, False])
async def test_a_supervisor_that_is_started_again_starts_its_declaration(
    asked: bool, autojump_clock: MockClock
) -> None:
    # S8, S1, M6: the same identities and mail; what was started at run time is gone.
    told: list[object] = []
    declared = [
        av.Application(Player, 0, 0, (), told, name="kept"),
        player("stopped"),
        player("passing", restart="temporary"),
    ]
    tree = av.Supervisor(declared, name="t", max_restarts=0, strategy="rest_for_one")
    async with recorded_host() as (host, record):
        group = await host.start(tree)
        kept, stopped, passing = (
            host.find(f"t/{name}", Player) for name in ("kept", "stopped", "passing")
        )
        new = await group.start(player("new"))
        await stopped.stop()
        await passing.tell(Player.crash)
        assert isinstance(await passing.stopped(), av.Crashed)
        assert passing not in group.children()
        await kept.tell(Player.work, 1)
        await new.tell(Player.work, 2)
        await trio.sleep(0.5)
        if not asked:
            await kept.tell(Player.crash)
        for ref in (kept, new):
            await ref.tell(Player.note, ref.path)
        if asked:
            await group.restart()
        await trio.sleep(5)
        assert group.incarnation == 2
        assert told == ["host/t/kept"]
        names = [ref.path[7:] for ref in group.children()]
        assert names == ["kept", "stopped", "passing"]
        assert {ref.state for ref in group.children()} == {"running"}
        assert (kept.incarnation, stopped.incarnation) == (2, 2)
        assert kept in group.children()
        assert passing not in group.children()  # I2: another of its name
        with pytest.raises(av.ServiceStopped):
            await new.tell(Player.work, 0)
        await record.since()
        letters = [one for one in record.all if isinstance(one, av.DeadLetter)]
        assert [one.path for one in letters].count("host/t/new") == 1
        check_account(host)


async def test_what_a_supervisor_that_backs_off_says(autojump_clock: MockClock) -> None:
    # S7, M6: its children wait for the decision, and so does their mail.
    tree = av.Supervisor([player("c")], name="t", max_restarts=0, backoff=av.Fixed(10))
    async with av.open_host(within=1000) as host:
        group = await host.start(tree)
        ref = host.find("t/c", Player)
        await ref.tell(Player.crash)
        await trio.sleep(1)
        assert (group.state, ref.state) == ("backing_off", "exited")
        with pytest.raises(av.ControlRefused, match="supervisor restarting"):
            await group.start(player("x"))
        for call in (ref.start, ref.restart, ref.stop):
            with pytest.raises(av.ControlRefused, match="supervisor restarting"):
                await call()
        assert await ref.ask(Player.work, 0) == 2
        assert trio.current_time() == 10
        await group.stop()
        with pytest.raises(av.ServiceStopped):
            await ref.start()
