"""Events that come late, and events that must not come (L1)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, strategies as st

from actorvisor._core import _commands as c
from actorvisor._core._backoff import Fixed
from actorvisor._core._child import Child, Intent
from actorvisor._core._lifecycle import Event as On, Notice, State
from actorvisor._core._roster import Roster
from actorvisor._core._spec import SupervisorSpec
from actorvisor._core._supervision import Phase, Supervision
from tests.core.desk import BOOM, DONE, STOPPED, Desk, permanent, running, temporary

# --- late ones --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "event",
    [
        c.ChildUp("a", 1),
        c.ChildEnding("a", 1, BOOM),
        c.ChildExit("a", 1, BOOM),
        c.Due("a", 1),
        c.ChildUp("ghost", 1),
        c.ChildExit("ghost", 1, BOOM),
    ],
)
def test_report_of_an_earlier_incarnation_is_dropped_and_counted(event: c.Event) -> None:
    # L1
    desk = running("a")
    desk.crash("a")
    before = desk.supervision.copy()
    assert desk.send(event) == []
    assert desk.supervision.stale == 1
    before.stale += 1
    assert desk.supervision == before


def test_up_that_crosses_with_a_stop() -> None:
    # L1: start and stop
    desk = running()
    desk.start_new("a", "t")
    desk.stop("a", "s")
    assert desk.up("a") == []
    assert desk.exit("a")[-2:] == ["failed t Stopped", "done s Stopped"]


def test_timer_that_crosses_with_a_restart() -> None:
    # L1
    desk = running([permanent("a", backoff=Fixed(1.0))])
    desk.crash("a")
    assert desk.restart("a") == ["no timer a", "a S2", "life a2"]
    assert desk.send(c.Due("a", 1)) == []
    assert desk.supervision.stale == 1


def test_timer_of_a_group_that_crosses_with_an_explicit_restart() -> None:
    # L1, S2: the stage is starting already; nothing more follows
    desk = running([permanent("a"), permanent("b", backoff=Fixed(1.0))], strategy="one_for_all")
    desk.crash("b")
    desk.exit("a")
    assert desk.restart("a") == ["no timer b", "a S2", "life a2"]
    assert desk.send(c.Due("b", 1)) == []
    assert desk.supervision.stale == 1
    assert desk.up("a") == ["a U2", "done t", "b S2", "life b2"]


def test_call_that_was_answered_is_not_answered_again() -> None:
    # L1
    desk = running("a")
    desk.restart("a")
    desk.exit("a")
    assert desk.up("a") == ["a U2", "done t"]
    assert desk.cancel("a") == []
    desk.stop("a", "s")
    assert desk.exit("a")[-1] == "done s Stopped"
    assert desk.cancel("a") == []


# --- bugs of ours -----------------------------------------------------------------------------


def test_bug_ends_that_one_living_child() -> None:
    # L1: never the supervisor
    desk = running("ab")
    assert desk.up("a") == ["bug a running up", "stop a1!@0"]
    assert desk.last[0] == c.Bug("a", State.RUNNING, On.UP)
    assert desk.restart("a") == ["refused t: already running"]
    assert desk.crash("a") == ["a X1", "settle a", "a E1"]
    assert desk.the_reasons() == [BOOM]
    assert desk.states() == "a failed, b running"
    assert desk.supervision.phase is Phase.UP


def test_bug_ends_that_one_child_without_a_life() -> None:
    # L1
    desk = running([permanent("a", backoff=Fixed(1.0)), permanent("b")])
    desk.await_end("a", "w")
    desk.crash("a")
    assert desk.crash("a") == [
        "bug a backing_off exit",
        "no timer a",
        "settle a",
        "a E1",
        "done w Crashed",
    ]
    assert desk.states() == "a failed, b running"
    assert desk.supervision.active == 1
    assert desk.start("a") == ["a S2", "life a2"]


def test_bug_forgets_a_run_time_child() -> None:
    # L1, I5
    desk = running()
    desk.start_new(permanent("a", backoff=Fixed(1.0)))
    desk.up("a")
    desk.crash("a")
    assert desk.ending("a")[-1] == "forget a"
    assert desk.supervision.active == 0


def test_bug_before_the_first_life() -> None:
    # L1
    desk = Desk("ab")
    desk.begin()
    assert desk.up("b") == ["bug b waiting up", "settle b", "b E0"]
    assert desk.the_reasons() == [desk.supervision.children["b"].reason] == [STOPPED]
    assert desk.last[-1] == c.Announce("b", 0, Notice.ENDED, STOPPED)
    assert desk.up("a") == ["a U1", "up"]


def test_bug_before_a_life_that_somebody_asked_for() -> None:
    # L1, L3: no start is granted by it
    desk = running(strategy="rest_for_one")
    desk.start_new("x", "n")
    desk.start_new("y", "m")
    assert desk.up("y") == ["bug y waiting up", "settle y", "y E0", "forget y", "failed m Stopped"]
    assert desk.up("x") == ["x U1", "done n"]


def test_bug_of_what_is_over_changes_nothing() -> None:
    # L1
    desk = running("a")
    desk.stop("a")
    desk.exit("a")
    assert desk.exit("a") == ["bug a stopped exit"]
    assert desk.states() == "a stopped"
    assert desk.supervision.active == 0


def test_bug_of_what_is_over_leaves_a_group_alone() -> None:
    # L1, S2
    desk = running("abc", strategy="one_for_all")
    desk.stop("c")
    desk.exit("c")
    desk.crash("a")
    assert desk.exit("c") == ["bug c stopped exit"]
    assert desk.exit("b") == ["b X1", "a R1", "a S2", "life a2"]
    assert desk.up("a") == ["a U2", "b S2", "life b2"]


def test_bug_of_the_child_that_a_group_waits_for() -> None:
    # L1, S2: the others stay down
    desk = running([permanent("a", backoff=Fixed(1.0)), permanent("b")], strategy="one_for_all")
    desk.crash("a")
    desk.exit("b")
    assert desk.up("a") == [
        "bug a backing_off up",
        "no timer a",
        "settle a",
        "a E1",
        "settle b",
        "b E1",
    ]


def test_bug_of_the_child_that_a_group_starts() -> None:
    # L1, S2
    desk = running("ab", strategy="one_for_all")
    desk.crash("a")
    desk.exit("b")
    desk.up("a")
    assert desk.states() == "a running, b starting"
    assert desk.up("a") == ["bug a running up", "stop a2!@0"]
    assert desk.up("b") == ["b U2"]
    assert desk.exit("a") == ["a X2", "settle a", "a E2"]


def test_bug_of_a_child_that_a_group_is_to_stop() -> None:
    # L1, S2: it does not come back
    desk = running("abc", strategy="one_for_all")
    desk.crash("a")
    assert desk.up("b") == ["bug b running up", "stop b1!@0"]
    assert desk.exit("c") == ["c X1", "a R1", "a S2", "life a2"]
    assert desk.exit("b") == ["b X1", "settle b", "b E1"]
    assert desk.up("a") == ["a U2", "c S2", "life c2"]


def test_bug_of_a_child_that_is_not_gone_when_its_turn_comes() -> None:
    # L1, L8: no second life beside the first
    desk = running("abc", strategy="one_for_all")
    desk.crash("a")
    desk.up("b")
    desk.exit("c")
    assert desk.up("a") == ["a U2", "c S2", "life c2"]
    assert desk.up("c") == ["c U2"]
    assert desk.exit("b") == ["b X1", "settle b", "b E1"]


def test_condemned_child_while_the_supervisor_ends() -> None:
    # L1, S5: it is over, whatever is decided
    desk = running("ab")
    desk.up("a")
    desk.hold()
    assert desk.exit("b") == ["b X1"]  # a was told already, with no grace at all
    assert desk.exit("a") == ["a X1", "settle a", "a E1", "finished Stopped"]


# --- the record -------------------------------------------------------------------------------


def test_intents_are_in_order_of_strength() -> None:
    # L1: stop wins over restart, restart over hold
    assert list(Intent) == sorted(Intent)
    assert [intent.name for intent in Intent] == ["NONE", "HOLD", "RESTART", "STOP"]


def test_record() -> None:
    child = Child(temporary("a"), declared=True, window=None)
    assert repr(child) == "<Child 'a' waiting #0>"
    assert not child.live
    assert not child.final
    assert not child.kept
    assert child == child.copy()
    assert child != Child(permanent("a"), declared=True, window=None)
    known = {"spec": child.spec, "declared": True, "state": State.WAITING, "intent": Intent.NONE}
    flags = dict.fromkeys(["condemned", "held", "pending", "removing", "timing"], False)
    counts = dict.fromkeys(["attempt", "incarnation", "restarts"], 0)
    nothing = dict.fromkeys(["reason", "up_at", "window"], None)
    waiting = {"starters": (), "stoppers": ()}
    record = {slot: getattr(child, slot) for slot in Child.__slots__}
    assert record == known | flags | counts | nothing | waiting
    assert all(type(record[flag]) is bool for flag in flags)
    assert child != "a"


def test_when_it_was_asked_is_no_state() -> None:
    # S9
    one, two = Supervision(SupervisorSpec(), "host/s"), Supervision(SupervisorSpec(), "host/s")
    one.decide(c.Begin(), 1.0, 0.25)
    two.decide(c.Begin(), 2.0, 0.25)
    assert one == two
    two.decide(c.AwaitEnd("ghost", "t"), 1.0, 0.75)
    assert one == two
    assert one != Supervision(SupervisorSpec(), "host/s")
    assert one != "host/s"


# --- anything ---------------------------------------------------------------------------------

REPORTS: list[Callable[[str, int], c.Event]] = [
    lambda name, life: c.ChildUp(name, life),
    lambda name, life: c.ChildEnding(name, life, BOOM),
    lambda name, life: c.ChildExit(name, life, BOOM),
    lambda name, life: c.ChildExit(name, life, DONE),
    lambda name, life: c.Due(name, life),
    lambda name, life: c.ExecutorLost((name,), BOOM),
]


@given(
    events=st.lists(st.tuples(st.integers(0, 15), st.sampled_from("abxy"), st.integers(0, 1))),
    strategy=st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"]),
)
def test_no_report_whatsoever_breaks_the_supervisor(
    events: list[tuple[int, str, int]], strategy: str
) -> None:
    # L1: what is a bug of ours ends that one child; nobody is left unanswered
    children = [permanent("a", backoff=Fixed(1.0)), permanent("b")]
    desk = Desk(children, strategy=strategy, max_restarts=9)
    desk.begin()
    open_calls: set[object] = set()
    for count, (what, name, age) in enumerate(events):
        child = desk.supervision.children.get(name)
        life = 1 if child is None else child.incarnation - age
        if what < len(REPORTS) * 2:
            desk.send(REPORTS[what % len(REPORTS)](name, life))
        else:
            open_calls.add(count)
            call: c.Event = (
                c.StartNew(permanent(name), count),
                c.Stop(name, count),
                c.Restart(name, count),
                c.AwaitEnd(name, count),
            )[what % 4]
            desk.send(call)
        open_calls -= answered(desk.last)
    desk.shut_down()
    open_calls -= answered(desk.last)
    while desk.supervision.phase is Phase.ENDING:
        for name, child in list(desk.supervision.children.items()):
            if child.live:
                desk.exit(name)
                open_calls -= answered(desk.last)
    desk.drop()
    open_calls -= answered(desk.last)
    assert not open_calls
    assert desk.supervision.active == 0


def answered(commands: list[c.Command]) -> set[object]:
    return {each.token for each in commands if isinstance(each, c.Done | c.Refused | c.Failed)}


def test_equality() -> None:
    # S9
    assert Roster() == Roster()
    assert Roster() != "roster"
    one, two = running("ab").supervision, running("ab").supervision
    assert one == two
    assert one != "supervision"
    assert one != Supervision(one.spec, one.path, one.declaration)
    two.decide(c.ChildExit("a", 1, BOOM), 0.0)
    assert one != two
