"""Restarts: who is restarted, when, with whom, and how often."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from actorvisor._core import _commands as c
from actorvisor._core._backoff import Exponential, Fixed, Linear
from actorvisor._core._messages import (
    Abandoned,
    Completed,
    Crashed,
    ExitReason,
    GaveUp,
    Killed,
    Stopped,
    TimedOut,
)
from actorvisor._errors import RestartLimitExceeded
from tests.core.desk import (
    BOOM,
    DONE,
    KILLED,
    STOPPED,
    Desk,
    permanent,
    running,
    temporary,
    transient,
)

if TYPE_CHECKING:
    from actorvisor._core._spec import Verdict

GROUPS = ["one_for_all", "rest_for_one"]
FAILURES = [Crashed(OSError()), Killed(1), Killed(None), TimedOut("hang"), Abandoned()]

# --- S1: whether ------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", [*FAILURES, Completed(None), DONE])
def test_permanent_is_restarted_after_any_own_end(reason: ExitReason) -> None:
    # S1; OTP's permanent_normal, permanent_abnormal
    desk = running([permanent("a")])
    assert desk.exit("a", reason) == ["a X1", "a R1", "a S2", "life a2"]


@pytest.mark.parametrize("reason", FAILURES)
def test_transient_is_restarted_after_a_failure(reason: ExitReason) -> None:
    # S1; OTP's transient_abnormal
    desk = running([transient("a")])
    assert desk.exit("a", reason) == ["a X1", "a R1", "a S2", "life a2"]


def test_transient_stays_down_after_a_normal_end() -> None:
    # S1, I5; OTP's transient_normal
    desk = running([transient("a")])
    assert desk.exit("a", DONE) == ["a X1", "settle a", "a E1"]
    assert desk.the(c.Settle) == c.Settle("a", DONE)
    assert desk.states() == "a stopped"
    assert desk.start("a") == ["a S2", "life a2"]


@pytest.mark.parametrize("reason", [*FAILURES, DONE])
def test_temporary_is_never_restarted(reason: ExitReason) -> None:
    # S1; OTP's temporary_normal, temporary_abnormal, temporary_shutdown
    desk = running([temporary("a")])
    assert desk.exit("a", reason) == ["a X1", "settle a", "a E1", "forget a"]
    assert desk.states() == ""
    assert desk.start_new(temporary("a")) == ["adopt a", "a S1", "life a1"]  # I1, I4


def test_stop_by_somebody_else_is_an_own_end() -> None:
    # S1, L7; OTP's permanent_shutdown, transient_shutdown
    desk = running([permanent("a"), transient("b")])
    assert desk.exit("a", STOPPED) == ["a X1", "a R1", "a S2", "life a2"]
    assert desk.exit("b", STOPPED) == ["b X1", "settle b", "b E1"]


def test_teardown_is_told_of_and_changes_nothing() -> None:
    # L1, L5: ending, then exit
    desk = running("a")
    assert desk.ending("a") == ["a P1"]
    announce = desk.the(c.Announce)
    assert isinstance(announce, c.Announce)
    assert announce.reason == BOOM
    assert desk.states() == "a stopping"
    assert desk.crash("a") == ["a X1", "a R1", "a S2", "life a2"]


def test_run_time_child_is_restarted_and_forgotten_at_its_end() -> None:
    # S1, I5
    desk = running()
    desk.start_new(transient("a"))
    desk.up("a")
    assert desk.crash("a") == ["a X1", "a R1", "a S2", "life a2"]
    desk.up("a")
    assert desk.exit("a", DONE) == ["a X2", "settle a", "a E2", "forget a"]


@pytest.mark.parametrize(
    ("spec", "verdict", "words"),
    [
        (permanent("a"), "stop", ["settle a", "a E1"]),
        (transient("a"), "stop", ["settle a", "a E1"]),
        (temporary("a"), "stop", ["settle a", "a E1", "forget a"]),
        (permanent("a"), "restart", ["a R1", "a S2", "life a2"]),
        (temporary("a"), "restart", ["a R1", "a S2", "life a2"]),
        (permanent("a"), "escalate", ["finished Crashed a"]),
        (temporary("a"), "escalate", ["settle a", "a E1", "forget a", "finished Crashed a"]),
    ],
)
def test_on_crash_decides_first(spec: object, verdict: Verdict, words: list[str]) -> None:
    # S11
    desk = running([spec])  # type: ignore[list-item]
    assert desk.crash("a", verdict) == ["a X1", *words]


def test_verdict_to_stop_is_a_failure() -> None:
    # S11, L1
    desk = running("a")
    desk.crash("a", "stop")
    assert desk.states() == "a failed"


def test_escalation_stops_the_others_first() -> None:
    # S11, S5
    desk = running("abc")
    assert desk.crash("b", "escalate") == ["b X1", "c P1", "stop c1"]
    assert desk.exit("c") == ["c X1", "a P1", "stop a1"]
    assert desk.exit("a") == ["a X1", "finished Crashed b"]
    assert desk.the(c.Finished) == c.Finished(BOOM, "b")


def test_escalation_to_a_root_is_for_good() -> None:
    # S11, S8
    desk = running("ab", root=True)
    assert desk.crash("a", "escalate") == ["a X1", "settle a", "a E1", "b P1", "stop b1!"]
    assert desk.states() == "a failed, b stopping"
    assert desk.exit("b")[-1] == "finished Crashed a"


# --- S2: with whom ----------------------------------------------------------------------------


def test_one_for_one_restarts_it_alone() -> None:
    # S2; OTP's one_for_one
    desk = running("abc")
    assert desk.crash("b") == ["b X1", "b R1", "b S2", "life b2"]
    assert desk.states() == "a running, b starting, c running"
    assert desk.crash("a") == ["a X1", "a R1", "a S2", "life a2"]
    assert desk.up("b", "a") == ["b U2", "a U2"]


def test_one_for_all_stops_all_others_then_starts_all() -> None:
    # S2; OTP's one_for_all
    desk = running("abc", strategy="one_for_all")
    assert desk.crash("b") == ["b X1", "c P1", "stop c1"]
    assert desk.exit("c") == ["c X1", "a P1", "stop a1"]
    assert desk.exit("a") == ["a X1", "b R1", "a S2", "life a2"]
    assert desk.up("a") == ["a U2", "b S2", "life b2"]
    assert desk.up("b") == ["b U2", "c S2", "life c2"]
    assert desk.up("c") == ["c U2"]
    assert desk.supervision.active == 3


def test_rest_for_one_stops_those_after_it() -> None:
    # S2; OTP's rest_for_one, order_of_children
    desk = running("abcde", strategy="rest_for_one")
    assert desk.crash("c") == ["c X1", "e P1", "stop e1"]
    assert desk.exit("e") == ["e X1", "d P1", "stop d1"]
    assert desk.exit("d") == ["d X1", "c R1", "c S2", "life c2"]
    assert desk.up("c") == ["c U2", "d S2", "life d2"]
    assert desk.up("d") == ["d U2", "e S2", "life e2"]
    assert desk.up("e") == ["e U2"]
    assert desk.lives() == "a1 b1 c2 d2 e2"


@pytest.mark.parametrize("strategy", GROUPS)
def test_group_is_stopped_then_backs_off_then_starts(strategy: str) -> None:
    # S2, S4
    desk = running([permanent("a", backoff=Fixed(2.0)), permanent("b")], strategy=strategy)
    assert desk.crash("a") == ["a X1", "b P1", "stop b1"]
    assert desk.exit("b") == ["b X1", "a R1", "timer a 2"]
    assert desk.states() == "a backing_off, b exited"
    assert desk.due("a") == ["a S2", "life a2"]
    assert desk.up("a") == ["a U2", "b S2", "life b2"]


def test_one_for_all_with_the_second_failing_backs_off_before_the_first_starts() -> None:
    # S2, S4
    desk = running([permanent("a"), permanent("b", backoff=Fixed(2.0))], strategy="one_for_all")
    desk.crash("b")
    assert desk.exit("a") == ["a X1", "b R1", "timer b 2"]
    assert desk.due("b") == ["a S2", "life a2"]
    assert desk.up("a") == ["a U2", "b S2", "life b2"]


def test_one_for_all_failing_to_start_stops_all_again() -> None:
    # S2; OTP's one_for_all_other_child_fails_restart
    desk = running("ab", strategy="one_for_all")
    desk.crash("a")
    desk.exit("b")
    desk.up("a")
    assert desk.crash("b") == ["b X2", "a P2", "stop a2"]
    assert desk.exit("a") == ["a X2", "b R2", "a S3", "life a3"]
    assert desk.up("a") == ["a U3", "b S3", "life b3"]
    assert desk.up("b") == ["b U3"]


def test_rest_for_one_goes_on_from_the_failing_one() -> None:
    # S2; OTP's rest_for_one_other_child_fails_restart
    desk = running("abc", strategy="rest_for_one")
    desk.crash("a")
    desk.exit("c")
    desk.exit("b")
    desk.up("a")
    assert desk.crash("b") == ["b X2", "b R2", "b S3", "life b3"]
    assert desk.up("b") == ["b U3", "c S2", "life c2"]
    assert desk.up("c") == ["c U2"]
    assert desk.lives() == "a2 b3 c2"


@pytest.mark.parametrize("strategy", GROUPS)
def test_end_while_being_stopped_is_no_decision(strategy: str) -> None:
    # S2, S3: one note, whether or not it had been told yet
    desk = running("abc", strategy=strategy, max_restarts=1)
    assert desk.crash("a") == ["a X1", "c P1", "stop c1"]
    assert desk.crash("b") == ["b X1"]  # not told yet
    assert desk.crash("c") == ["c X1", "a R1", "a S2", "life a2"]
    desk.up("a")
    desk.up("b")
    assert desk.up("c") == ["c U2"]


@pytest.mark.parametrize("strategy", GROUPS)
def test_teardown_crash_while_the_group_stops(strategy: str) -> None:
    # S2, L1: stop and crash cross
    desk = running("abc", strategy=strategy, max_restarts=1)
    desk.ending("b")
    assert desk.crash("a") == ["a X1", "c P1", "stop c1"]
    assert desk.exit("c") == ["c X1", "stop b1"]
    assert desk.crash("b") == ["b X1", "a R1", "a S2", "life a2"]


def test_older_child_fails_while_the_rest_is_being_stopped() -> None:
    # S2: the group grows
    desk = running("abcd", strategy="rest_for_one")
    assert desk.crash("c") == ["c X1", "d P1", "stop d1"]
    assert desk.crash("a") == ["a X1"]
    assert desk.exit("d") == ["d X1", "b P1", "stop b1"]
    assert desk.exit("b") == ["b X1", "a R1", "a S2", "life a2"]
    desk.up("a")
    assert desk.up("b") == ["b U2", "c S2", "life c2"]
    assert desk.up("c") == ["c U2", "d S2", "life d2"]


def test_older_child_fails_while_the_rest_backs_off() -> None:
    # S2: hold in backing_off: the timer is off, and what it had sent already is late
    desk = running(
        [permanent("a", backoff=Fixed(5.0)), permanent("b", backoff=Fixed(1.0))],
        strategy="rest_for_one",
    )
    assert desk.crash("b") == ["b X1", "b R1", "timer b 1"]
    assert desk.crash("a") == ["a X1", "no timer b", "a R1", "timer a 5"]
    assert desk.due("b") == []
    assert desk.states() == "a backing_off, b backing_off"
    assert desk.supervision.stale == 1
    assert desk.due("a") == ["a S2", "life a2"]
    assert desk.up("a") == ["a U2", "b S2", "life b2"]


def test_older_child_fails_while_the_rest_starts() -> None:
    # S2
    desk = running("abc", strategy="rest_for_one")
    desk.crash("b")
    assert desk.exit("c") == ["c X1", "b R1", "b S2", "life b2"]
    assert desk.crash("a") == ["a X1", "b P2", "stop b2"]
    assert desk.exit("b") == ["b X2", "a R1", "a S2", "life a2"]


@pytest.mark.parametrize("strategy", GROUPS)
def test_temporary_children_are_stopped_for_good(strategy: str) -> None:
    # S2; OTP's temporary_bystander
    desk = running([permanent("a"), temporary("b"), permanent("c")], strategy=strategy)
    desk.crash("a")
    assert desk.exit("c") == ["c X1", "b P1", "stop b1!"]
    assert desk.exit("b") == [
        "b X1",
        "settle b",
        "b E1",
        "forget b",
        "a R1",
        "a S2",
        "life a2",
    ]
    assert desk.up("a") == ["a U2", "c S2", "life c2"]
    assert desk.states() == "a running, c starting"


def test_temporary_child_that_fails_while_the_group_stops() -> None:
    # S2, S11: no new decision, whatever on_crash says
    desk = running([permanent("a"), temporary("b"), permanent("c")], strategy="rest_for_one")
    desk.crash("a")
    assert desk.crash("b", "restart") == ["b X1", "settle b", "b E1", "forget b"]
    assert desk.exit("c") == ["c X1", "a R1", "a S2", "life a2"]
    assert desk.up("a") == ["a U2", "c S2", "life c2"]


@pytest.mark.parametrize("strategy", GROUPS)
def test_temporary_child_that_on_crash_restarts(strategy: str) -> None:
    # S11, S2
    desk = running([temporary("a"), permanent("b")], strategy=strategy)
    assert desk.crash("a", "restart") == ["a X1", "b P1", "stop b1"]
    assert desk.exit("b") == ["b X1", "a R1", "a S2", "life a2"]
    assert desk.up("a") == ["a U2", "b S2", "life b2"]


@pytest.mark.parametrize("strategy", GROUPS)
def test_what_was_down_stays_down(strategy: str) -> None:
    # S2, unlike OTP's tree
    desk = running([permanent("a"), transient("b"), permanent("c")], strategy=strategy)
    desk.exit("b", DONE)
    desk.stop("c")
    desk.exit("c")
    assert desk.crash("a") == ["a X1", "a R1", "a S2", "life a2"]
    assert desk.up("a") == ["a U2"]
    assert desk.states() == "a running, b stopped, c stopped"


@pytest.mark.parametrize("told", [True, False])
def test_what_completes_while_the_group_stops_stays_down(told: bool) -> None:
    # S2
    desk = running([permanent("a"), transient("b"), permanent("c")], strategy="one_for_all")
    desk.crash("a")
    if told:
        desk.exit("c")
        assert desk.exit("b", DONE)[:3] == ["b X1", "settle b", "b E1"]
    else:
        assert desk.exit("b", DONE)[:3] == ["b X1", "settle b", "b E1"]
        desk.exit("c")
    assert desk.up("a") == ["a U2", "c S2", "life c2"]
    assert desk.states() == "a running, b stopped, c starting"


def test_permanent_that_completes_while_the_group_stops_comes_back() -> None:
    # S1, S2
    desk = running("ab", strategy="one_for_all")
    desk.crash("a")
    assert desk.exit("b", DONE) == ["b X1", "a R1", "a S2", "life a2"]
    assert desk.up("a") == ["a U2", "b S2", "life b2"]


@pytest.mark.parametrize("strategy", GROUPS)
def test_being_stopped_by_request_it_is_not_in_the_group(strategy: str) -> None:
    # S2, S7, L1: stop and crash cross
    desk = running("abc", strategy=strategy)
    assert desk.stop("b", grace=9.0) == ["b P1", "stop b1!@9"]
    assert desk.crash("a") == ["a X1", "c P1", "stop c1"]
    assert desk.exit("c") == ["c X1", "a R1", "a S2", "life a2"]
    assert desk.up("a") == ["a U2", "c S2", "life c2"]
    assert desk.exit("b") == ["b X1", "settle b", "b E1", "done t Stopped"]
    assert desk.up("c") == ["c U2"]


@pytest.mark.parametrize("strategy", GROUPS)
def test_stopped_by_request_before_its_group_tells_it(strategy: str) -> None:
    # S2, S7: it is told once, with the grace of whoever asked, and stays down
    desk = running("abc", strategy=strategy)
    desk.crash("a")
    assert desk.stop("b", grace=0.0) == ["b P1", "stop b1!@0"]
    assert desk.exit("c") == ["c X1", "a R1", "a S2", "life a2"]
    assert desk.exit("b") == ["b X1", "settle b", "b E1", "done t Stopped"]
    assert desk.up("a") == ["a U2", "c S2", "life c2"]


@pytest.mark.parametrize("strategy", GROUPS)
def test_stopped_by_request_after_its_group_told_it(strategy: str) -> None:
    # S2, L1: stop wins over hold
    desk = running("abc", strategy=strategy)
    desk.crash("a")
    assert desk.stop("c") == ["stop c1!"]
    assert desk.exit("c") == ["c X1", "settle c", "c E1", "done t Stopped", "b P1", "stop b1"]
    desk.exit("b")
    assert desk.up("a") == ["a U2", "b S2", "life b2"]
    assert desk.up("b") == ["b U2"]


@pytest.mark.parametrize("by", ["stop", "remove", "cancel"])
def test_stop_of_the_failing_child_leaves_the_others_down(by: str) -> None:
    # S2; OTP's hanging_restart_loop_rest_for_one
    desk = running(
        [permanent("a"), permanent("b", backoff=Fixed(1.0)), permanent("c"), permanent("d")],
        strategy="rest_for_one",
    )
    desk.crash("b")
    desk.exit("d")
    assert desk.exit("c") == ["c X1", "b R1", "timer b 1"]
    others = ["settle c", "c E1", "settle d", "d E1"]
    if by == "stop":
        own = ["no timer b", "settle b", "b E1", "done t Stopped"]
        assert desk.stop("b") == [*own, *others]
        assert desk.states() == "a running, b stopped, c stopped, d stopped"
    elif by == "remove":
        own = ["no timer b", "settle b", "b E1", "forget b", "done t Stopped"]
        assert desk.remove("b") == [*own, *others]
    else:
        assert desk.restart("b") == ["no timer b", "b S2", "life b2"]
        assert desk.cancel("b") == ["b P2", "stop b2!", *others]
    assert all(settle.reason == Stopped() for settle in desk.last if isinstance(settle, c.Settle))


def test_stop_of_the_failing_child_while_the_others_are_being_stopped() -> None:
    # S2: who was told ends for good, and is told so, who was not stays up
    desk = running("abcd", strategy="rest_for_one")
    desk.crash("b")
    assert desk.stop("b") == ["settle b", "b E1", "done t Stopped", "stop d1!"]
    assert desk.exit("d") == ["d X1", "settle d", "d E1"]
    assert desk.states() == "a running, b stopped, c running, d stopped"
    assert desk.crash("c") == ["c X1", "c R1", "c S2", "life c2"]  # its own decision again


def test_stop_of_the_failing_child_while_it_starts() -> None:
    # S2
    desk = running("ab", strategy="one_for_all")
    desk.crash("a")
    desk.exit("b")
    assert desk.states() == "a starting, b exited"
    assert desk.stop("a") == ["a P2", "stop a2!", "settle b", "b E1"]
    assert desk.exit("a") == ["a X2", "settle a", "a E2", "done t Stopped"]


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_a_group_that_ends_takes_no_child_along_whose_first_turn_is_to_come(strategy: str) -> None:
    # S2, S8: c is down from the supervisor's life before, and is still to begin
    desk = running("abc", strategy=strategy)
    desk.hold()
    desk.exit("c")
    desk.exit("b")
    desk.exit("a")
    desk.begin()
    desk.up("a")
    assert desk.states() == "a running, b starting, c exited"
    assert desk.crash("a") == ["a X2", "b P2", "stop b2"]
    assert desk.stop("a") == ["settle a", "a E2", "done t Stopped", "stop b2!"]
    assert desk.exit("b") == ["b X2", "settle b", "b E2", "c S2", "life c2"]
    assert desk.up("c") == ["c U2", "up"]


def test_who_was_asked_for_is_started_when_its_group_ends() -> None:
    # S2, S7: b was asked for, c was not
    desk = running("abc", strategy="one_for_all")
    desk.crash("a")
    desk.exit("c")
    desk.exit("b")
    assert desk.restart("b", "r") == []
    assert desk.stop("a", "s") == ["a P2", "stop a2!", "settle c", "c E1"]
    assert desk.exit("a") == ["a X2", "settle a", "a E2", "done s Stopped", "b S2", "life b2"]
    assert desk.up("b") == ["b U2", "done r"]


def test_stop_of_one_that_the_group_has_started_ends_nothing() -> None:
    # S2
    desk = running("abc", strategy="one_for_all")
    desk.crash("a")
    desk.exit("c")
    desk.exit("b")
    desk.up("a")
    assert desk.stop("a") == ["a P2", "stop a2!"]
    assert desk.up("b") == ["b U2", "c S2", "life c2"]


def test_stop_of_one_that_is_up_while_the_line_waits_for_an_asked_start_ends_nothing() -> None:
    # S2, S7: b was taken out of the group, and keeps its place; the group waits for no child now
    desk = running("abc", strategy="one_for_all")
    desk.crash("a")
    desk.stop("b", "s")
    desk.exit("b")
    desk.start("b", "t")
    assert desk.exit("c") == ["c X1", "a R1", "a S2", "life a2"]
    assert desk.up("a") == ["a U2", "b S2", "life b2"]
    assert desk.stop("a", "u") == ["a P2", "stop a2!"]
    assert desk.up("b") == ["b U2", "done t", "c S2", "life c2"]


def test_stop_of_an_asked_start_that_the_line_waits_for_ends_no_group() -> None:
    # S2, S7: as above, but it is b that is stopped
    desk = running("abc", strategy="one_for_all")
    desk.crash("a")
    desk.stop("b", "s")
    desk.exit("b")
    desk.start("b", "t")
    desk.exit("c")
    assert desk.up("a") == ["a U2", "b S2", "life b2"]
    assert desk.stop("b", "u") == ["b P2", "stop b2!"]
    assert desk.exit("b")[-2:] == ["c S2", "life c2"]


def test_stop_of_one_that_the_group_starts_later_ends_nothing() -> None:
    # S2
    desk = running("abc", strategy="one_for_all")
    desk.crash("a")
    desk.exit("c")
    desk.exit("b")
    assert desk.stop("b") == ["settle b", "b E1", "done t Stopped"]
    assert desk.up("a") == ["a U2", "c S2", "life c2"]


def test_asked_start_of_an_older_child_is_no_part_of_the_group() -> None:
    # S2, S7: the group waits for its turn, not for that child
    desk = running("abc", strategy="rest_for_one")
    desk.stop("a", "s")
    desk.exit("a")
    assert desk.start("a", "t") == ["a S2", "life a2"]
    assert desk.crash("b") == ["b X1", "c P1", "stop c1"]
    assert desk.exit("c") == ["c X1", "b R1"]
    assert desk.stop("a", "u") == ["a P2", "stop a2!"]
    assert desk.exit("a")[-2:] == ["b S2", "life b2"]
    assert desk.up("b") == ["b U2", "c S2", "life c2"]


def test_failed_asked_start_in_a_group_leaves_the_others_down() -> None:
    # S2, L3
    desk = running("abc", strategy="one_for_all")
    desk.crash("b")
    desk.exit("c")
    desk.restart("a")
    desk.exit("a")
    assert desk.crash("a") == [
        "a X2",
        "settle a",
        "a E2",
        "failed t Crashed",
        "settle b",
        "b E1",
        "settle c",
        "c E1",
    ]


def test_declining_in_a_group_ends_nothing() -> None:
    # L7, S2
    desk = running("ab", strategy="one_for_all")
    desk.crash("a")
    desk.exit("b")
    assert desk.exit("a", DONE) == ["a X2", "settle a", "a E2", "b S2", "life b2"]


def test_group_leaves_waiting_starts_in_the_line() -> None:
    # S2, S7
    desk = running("ab", strategy="one_for_all")
    desk.stop("b", "s")
    desk.exit("b")
    desk.start_new("x", "t")
    desk.start_new("y", "u")
    desk.start("b", "v")
    assert desk.crash("a") == ["a X1", "x P1", "stop x1"]
    assert desk.exit("x") == ["x X1", "a R1", "a S2", "life a2"]
    assert desk.up("a") == ["a U2", "x S2", "life x2"]
    assert desk.up("x") == ["x U2", "done t", "y S1", "life y1"]
    assert desk.up("y") == ["y U1", "done u", "b S2", "life b2"]


def test_ended_group_leaves_alone_what_starts_and_was_not_told() -> None:
    # S2, L3: found by reading: it was stopped and started again, for nobody
    desk = running("abc", strategy="one_for_all")
    desk.restart("b", "t")
    desk.exit("b")
    assert desk.crash("a") == ["a X1", "c P1", "stop c1"]
    assert desk.states() == "a exited, b starting, c stopping"
    assert desk.stop("a", "s") == ["settle a", "a E1", "done s Stopped", "stop c1!"]
    assert desk.up("b") == ["b U2", "done t"]
    assert desk.exit("c") == ["c X1", "settle c", "c E1"]
    assert desk.states() == "a stopped, b running, c stopped"


def test_ended_group_leaves_alone_what_is_being_restarted() -> None:
    # S2, S7
    desk = running("abc", strategy="one_for_all")
    desk.restart("b", "t")
    assert desk.crash("a") == ["a X1", "c P1", "stop c1"]
    assert desk.stop("a", "s")[-2:] == ["stop b1", "stop c1!"]
    assert desk.exit("b") == ["b X1"]
    assert desk.exit("c") == ["c X1", "settle c", "c E1", "b S2", "life b2"]
    assert desk.up("b") == ["b U2", "done t"]


def test_ended_group_restarts_what_somebody_wanted_it_to_restart() -> None:
    # S2, S7: found by the model
    desk = running("abc", strategy="one_for_all")
    desk.crash("a")
    assert desk.restart("b", "t") == []  # the group will, soon
    assert desk.stop("a", "s")[-3:] == ["b P1", "stop b1", "stop c1!"]
    assert desk.exit("b") == ["b X1"]
    assert desk.exit("c") == ["c X1", "settle c", "c E1", "b S2", "life b2"]
    assert desk.up("b") == ["b U2", "done t"]


def test_ended_group_leaves_waiting_starts_in_the_line() -> None:
    # S2, S7
    desk = running("ab", strategy="one_for_all")
    desk.stop("b", "s")
    desk.exit("b")
    desk.start_new("x", "t")  # starting
    desk.start_new("y", "u")
    desk.start("b", "v")
    desk.crash("a")
    assert desk.stop("a", "w") == ["settle a", "a E1", "done w Stopped", "stop x1"]
    assert desk.exit("x") == ["x X1", "x S2", "life x2"]
    assert desk.up("x") == ["x U2", "done t", "y S1", "life y1"]
    assert desk.up("y") == ["y U1", "done u", "b S2", "life b2"]
    assert desk.up("b") == ["b U2", "done v"]


# --- S3: how often ----------------------------------------------------------------------------


def test_limit() -> None:
    # S3; OTP's one_for_one
    desk = running("abc", max_restarts=2)
    assert desk.crash("a")[-1] == "life a2"
    assert desk.crash("b")[-1] == "life b2"
    desk.up("a", "b")
    assert desk.crash("a") == ["a X2", "c P1", "stop c1"]
    assert desk.exit("c") == ["c X1", "b P2", "stop b2"]
    assert desk.exit("b") == ["b X2", "finished Crashed a"]
    finished = desk.the(c.Finished)
    assert isinstance(finished, c.Finished)
    assert isinstance(finished.reason, Crashed)
    limit = finished.reason.exception
    assert isinstance(limit, RestartLimitExceeded)
    assert (limit.path, limit.last_reason) == ("host/s", BOOM)
    assert desk.states() == "a exited, b exited, c exited"


def test_no_restarts_allowed() -> None:
    # S3: 0
    desk = running("a", max_restarts=0)
    assert desk.crash("a") == ["a X1", "finished Crashed a"]


def test_limit_of_a_permanent_child_that_completes() -> None:
    # S3; triotp's automatic_restart_permanent
    desk = running("a", max_restarts=1)
    desk.exit("a", DONE)
    desk.up("a")
    assert desk.exit("a", DONE) == ["a X2", "finished Crashed a"]
    finished = desk.the(c.Finished)
    assert isinstance(finished, c.Finished)
    assert isinstance(finished.reason, Crashed)
    assert str(finished.reason.exception).endswith("the last end: Completed(value=1)")


@pytest.mark.parametrize(("age", "ends"), [(5.0, True), (5.25, False)])
def test_window_and_its_edge(age: float, ends: bool) -> None:
    # S3: notes older than within are forgotten
    desk = running("a", max_restarts=1, within=5.0)
    desk.crash("a")
    desk.up("a")
    desk.now = age
    assert (desk.crash("a")[-1] == "finished Crashed a") is ends


def test_multiple_restarts() -> None:
    # S3; OTP's multiple_restarts
    desk = running("a", max_restarts=1, within=1.0)
    for count in range(4):
        desk.now = count * 2.1
        assert desk.crash("a")[-1] == f"life a{count + 2}"
        desk.up("a")


def test_failure_to_come_up_counts_again() -> None:
    # S3, L3; OTP's one_for_one_escalation
    desk = running("ab", max_restarts=4)
    for _ in range(4):
        assert desk.crash("a")[-2].startswith("a S")
    assert desk.crash("a") == ["a X5", "b P1", "stop b1"]
    assert desk.exit("b")[-1] == "finished Crashed a"


@pytest.mark.parametrize("strategy", GROUPS)
def test_group_is_one_decision(strategy: str) -> None:
    # S3; OTP's one_for_all_escalation, rest_for_one_escalation
    desk = running("ab", strategy=strategy, max_restarts=2)
    desk.crash("a")
    desk.crash("b")
    desk.up("a")
    assert desk.crash("b")[:1] == ["b X2"]  # the second
    if strategy == "one_for_all":
        desk.exit("a")
        desk.up("a")
    assert desk.crash("b") == ["b X3", f"a P{desk.life('a')}", f"stop a{desk.life('a')}"]
    assert desk.exit("a")[-1] == "finished Crashed b"


def test_limit_of_an_ended_temporary_child_is_not_touched() -> None:
    # S3, S1
    desk = running([temporary("a"), temporary("b"), permanent("c")], max_restarts=0)
    desk.crash("a")
    desk.crash("b")
    assert desk.states() == "c running"


@pytest.mark.parametrize("how", ["start", "restart", "restart backing off"])
def test_explicit_starts_clear_its_notes(how: str) -> None:
    # S3
    desk = running(
        [permanent("a", backoff=Fixed(1.0), reset_after=100.0), permanent("b")], max_restarts=1
    )
    desk.crash("a")
    if how == "start":
        desk.stop("a")
        desk.start("a")
    elif how == "restart":
        desk.due("a")
        desk.up("a")
        desk.restart("a")
        desk.exit("a")
    else:
        assert desk.restart("a") == ["no timer a", "a S2", "life a2"]
    desk.up("a")
    assert desk.crash("a")[-1] == "timer a 1"
    assert desk.crash("b")[-1] == "finished Crashed b"  # b's is the second note of the window


def test_explicit_starts_are_not_counted_nor_refused() -> None:
    # S3
    desk = running("a", max_restarts=0)
    for count in range(2, 6):
        assert desk.restart("a")[-1] == f"stop a{count - 1}"
        assert desk.exit("a")[-1] == f"life a{count}"
        assert desk.up("a") == [f"a U{count}", "done t"]


def test_drop_ends_the_child_that_exceeds_its_own_window() -> None:
    # S3: on_limit="drop"
    desk = running("ab", on_limit="drop", max_restarts=1)
    desk.crash("a")
    desk.up("a")
    assert desk.crash("b")[-1] == "life b2"  # a window of its own
    desk.up("b")
    assert desk.crash("a") == ["a X2", "settle a", "a E2"]
    assert desk.the(c.Settle) == c.Settle("a", GaveUp(BOOM))
    assert desk.states() == "a failed, b running"
    assert desk.start("a") == ["a S3", "life a3"]  # I5
    desk.up("a")
    assert desk.crash("a")[-1] == "life a4"  # the start has cleared its notes


def test_drop_forgets_a_run_time_child() -> None:
    # S3, I5
    desk = running(on_limit="drop", max_restarts=0)
    desk.start_new("a")
    desk.up("a")
    assert desk.crash("a") == ["a X1", "settle a", "a E1", "forget a"]


def test_root_has_a_window_for_each_child() -> None:
    # S8: exceeding it ends the host, and the path is the child's
    desk = running("abc", root=True, max_restarts=1)
    desk.crash("a")
    desk.crash("b")
    desk.up("a", "b")
    assert desk.crash("b") == ["b X2", "settle b", "b E2", "c P1", "stop c1!"]
    assert desk.states() == "a running, b failed, c stopping"
    desk.exit("c")
    assert desk.exit("a")[-1] == "finished Crashed b"
    finished = desk.the(c.Finished)
    assert isinstance(finished, c.Finished)
    assert isinstance(finished.reason, Crashed)
    assert isinstance(finished.reason.exception, RestartLimitExceeded)
    assert finished.reason.exception.path == "host/s/b"


def test_limit_by_a_run_time_child_ends_it_with_the_supervisor() -> None:
    # S3, I5: it is not started again by whatever is decided
    desk = running(max_restarts=0)
    desk.start_new("a")
    desk.up("a")
    assert desk.crash("a") == ["a X1", "settle a", "a E1", "forget a", "finished Crashed a"]
    assert desk.begin() == ["up"]


# --- S4: how soon -----------------------------------------------------------------------------


def test_backoff_grows_with_restarts_in_a_row() -> None:
    # S4
    desk = running([permanent("a", backoff=Linear(1.0), reset_after=10.0)], max_restarts=9)
    for attempt in (1, 2, 3):
        assert desk.crash("a")[2] == f"timer a {attempt}"
        (note,) = (each for each in desk.last if isinstance(each, c.Announce) and each.delay)
        assert (note.delay, note.attempt) == (float(attempt), attempt)
        assert desk.states() == "a backing_off"
        assert desk.due("a") == [f"a S{attempt + 1}", f"life a{attempt + 1}"]
    assert desk.supervision.children["a"].restarts == 3


@pytest.mark.parametrize(("ran", "delay"), [(9.75, 3), (10.0, 1)])
def test_backoff_starts_over_after_a_steady_run(ran: float, delay: int) -> None:
    # S4: reset_after
    desk = running([permanent("a", backoff=Linear(1.0), reset_after=10.0)], within=0.5)
    for _ in range(2):
        desk.crash("a")
        desk.due("a")
        desk.now += 100.0  # setup is no run
    desk.up("a")
    desk.now += ran
    assert desk.crash("a")[2] == f"timer a {delay}"


def test_backoff_starts_over_by_default_after_twice_the_longest_delay() -> None:
    # S4
    desk = running([permanent("a", backoff=Linear(1.0, cap=3.0))], within=0.5)
    for ran, delay in ((5.75, 1), (5.75, 2), (6.0, 1)):
        desk.now += ran
        assert desk.crash("a")[2] == f"timer a {delay}"
        desk.due("a")
        desk.up("a")


def test_first_failure_in_setup_does_not_start_it_over() -> None:
    # S4: only a run does; Immediate() resets after 0 seconds
    desk = running([permanent("a", backoff=Linear(1.0), reset_after=0.0)])
    desk.crash("a")
    desk.due("a")
    assert desk.crash("a")[2] == "timer a 2"


def test_jitter_comes_from_the_draw() -> None:
    # S4
    backoff = Exponential(base=1.0, jitter=0.5)
    for draw, delay in ((0.0, "0.5"), (0.5, "1"), (0.75, "1.25")):
        desk = running([permanent("a", backoff=backoff)], draw=draw)
        assert desk.crash("a")[2] == f"timer a {delay}"


def test_without_a_draw_there_is_no_jitter() -> None:
    # S4
    desk = running([permanent("a", backoff=Exponential(base=1.0, jitter=0.5))])
    assert c.SetTimer("a", 1, 1.0) in desk.supervision.decide(c.ChildExit("a", 1, BOOM), 0.0)


def test_group_takes_its_jitter_from_the_draw() -> None:
    # S4, S2
    backoff = Exponential(base=1.0, jitter=0.5)
    desk = running([permanent("a", backoff=backoff)], draw=0.75, strategy="one_for_all")
    assert desk.crash("a")[2] == "timer a 1.25"


def test_siblings_go_on_while_one_backs_off() -> None:
    # S4
    desk = running([permanent("a", backoff=Fixed(9.0)), permanent("b")])
    desk.crash("a")
    assert desk.crash("b") == ["b X1", "b R1", "b S2", "life b2"]
    assert desk.states() == "a backing_off, b starting"
    assert desk.supervision.active == 2


@pytest.mark.parametrize("by", ["stop", "remove"])
def test_stop_is_obeyed_at_once_while_backing_off(by: str) -> None:
    # S4, S7
    desk = running([permanent("a", backoff=Fixed(9.0))])
    desk.crash("a")
    if by == "stop":
        assert desk.stop("a") == ["no timer a", "settle a", "a E1", "done t Stopped"]
    else:
        assert desk.remove("a")[-2:] == ["forget a", "done t Stopped"]
    assert desk.supervision.active == 0


def test_explicit_restart_starts_the_backoff_over() -> None:
    # S3, S4
    desk = running([permanent("a", backoff=Linear(1.0), reset_after=99.0)])
    desk.crash("a")
    desk.restart("a")
    desk.up("a")
    assert desk.crash("a")[2] == "timer a 1"


def test_late_timer_of_a_stopped_child() -> None:
    # L1: it crosses with the stop
    desk = running([permanent("a", backoff=Fixed(1.0))])
    desk.crash("a")
    desk.stop("a")
    assert desk.due("a") == []
    assert desk.supervision.stale == 1
    desk.start("a")
    assert desk.send(c.Due("a", 1)) == []
    assert desk.supervision.stale == 2


# --- E1: executors ----------------------------------------------------------------------------


def test_executor_lost_under_one_for_one() -> None:
    # E1, S3: one decision restarts all that it carried
    desk = running("abcd", max_restarts=1)
    assert desk.lost("d", "b", "x") == [
        "b X1",
        "d X1",
        "b R1",
        "b S2",
        "life b2",
        "d R1",
        "d S2",
        "life d2",
    ]
    desk.up("b", "d")
    assert desk.crash("a")[:2] == ["a X1", "d P2"]  # the second decision


def test_executor_lost_with_backoff() -> None:
    # E1, S4: each backs off for itself
    desk = running([permanent("a", backoff=Fixed(1.0)), permanent("b", backoff=Fixed(2.0))])
    assert desk.lost("a", "b") == ["a X1", "b X1", "a R1", "timer a 1", "b R1", "timer b 2"]


def test_executor_lost_under_rest_for_one() -> None:
    # E1, S2: the oldest decides
    desk = running("abcd", strategy="rest_for_one", max_restarts=1)
    assert desk.lost("c", "b") == ["b X1", "c X1", "d P1", "stop d1"]
    assert desk.exit("d") == ["d X1", "b R1", "b S2", "life b2"]
    assert desk.up("b") == ["b U2", "c S2", "life c2"]


def test_executor_lost_under_one_for_all() -> None:
    # E1, S2
    desk = running("abc", strategy="one_for_all", max_restarts=1)
    assert desk.lost("b", "c") == ["b X1", "c X1", "a P1", "stop a1"]
    assert desk.exit("a") == ["a X1", "b R1", "a S2", "life a2"]


def test_executor_lost_beyond_the_limit() -> None:
    # E1, S3
    desk = running("abc", max_restarts=0)
    assert desk.lost("a", "b") == ["a X1", "b X1", "c P1", "stop c1"]
    assert desk.exit("c") == ["c X1", "finished Crashed a"]
    assert desk.states() == "a exited, b exited, c exited"


def test_executor_lost_while_the_host_starts() -> None:
    # E1, S5: the first failed start ends all, and each is told of once
    desk = Desk("ab", start="together", root=True)
    desk.begin()
    gone = ["a X1", "b X1"]
    ends = ["settle b", "b E1", "settle a", "a E1"]
    assert desk.lost("a", "b") == [*gone, *ends, "finished Crashed a"]


def test_executor_lost_with_every_kind_of_child() -> None:
    # E1, S1
    desk = running([temporary("a"), transient("b"), permanent("c")])
    assert desk.lost("a", "b", "c") == [
        "a X1",
        "b X1",
        "c X1",
        "settle a",
        "a E1",
        "forget a",
        "b R1",
        "b S2",
        "life b2",
        "c R1",
        "c S2",
        "life c2",
    ]


def test_executor_lost_with_what_was_being_stopped_or_restarted() -> None:
    # E1, L1
    desk = running("abc")
    desk.stop("a", "s")
    desk.restart("b", "r")
    assert desk.lost("a", "b", "c") == [
        "a X1",
        "b X1",
        "c X1",
        "settle a",
        "a E1",
        "done s Crashed",
        "b S2",
        "life b2",
        "c R1",
        "c S2",
        "life c2",
    ]


def test_executor_lost_with_a_start_that_was_asked_for() -> None:
    # E1, L3
    desk = running("a")
    desk.start_new("b")
    assert desk.lost("a", "b") == [
        "a X1",
        "b X1",
        "settle b",
        "b E1",
        "forget b",
        "failed t Crashed",
        "a R1",
        "a S2",
        "life a2",
    ]


def test_executor_lost_with_the_first_start() -> None:
    # E1, S5
    desk = Desk("ab")
    desk.begin()
    desk.up("a")
    assert desk.lost("a", "b") == ["a X1", "b X1", "finished Crashed b"]


def test_executor_lost_with_a_restart_that_has_not_come_up() -> None:
    # E1: it was not asked for
    desk = running("a")
    desk.crash("a")
    assert desk.lost("a") == ["a X2", "a R2", "a S3", "life a3"]


def test_executor_lost_while_its_group_is_being_stopped() -> None:
    # E1, S2
    desk = running("abc", strategy="one_for_all", max_restarts=1)
    desk.crash("a")
    assert desk.lost("b", "c") == ["b X1", "c X1", "a R1", "a S2", "life a2"]


def test_executor_lost_while_the_supervisor_ends() -> None:
    # E1, S5
    desk = running("ab")
    desk.hold()
    assert desk.lost("a", "b") == ["a X1", "b X1", "finished Stopped"]


def test_executor_lost_with_windows_of_their_own() -> None:
    # E1, S3: the oldest is dropped; the next one decides for the rest
    desk = running("abc", on_limit="drop", max_restarts=1)
    desk.crash("a")
    desk.up("a")
    assert desk.lost("a", "b", "c") == [
        "a X2",
        "b X1",
        "c X1",
        "settle a",
        "a E2",
        "b R1",
        "b S2",
        "life b2",
        "c R1",
        "c S2",
        "life c2",
    ]
    desk.up("b", "c")
    assert desk.crash("c")[-1] == "life c3"  # it was b's note
    assert desk.crash("b")[1:] == ["settle b", "b E2"]


def test_executor_lost_where_each_is_beyond_its_window() -> None:
    # E1, S3, S6
    children = [transient("a", significant=True), permanent("b")]
    desk = running(children, on_limit="drop", max_restarts=0, auto_shutdown="any")
    assert desk.lost("a", "b") == ["a X1", "b X1", "settle a", "a E1", "finished Completed a"]
    desk = running("ab", on_limit="drop", max_restarts=0)
    assert desk.lost("a", "b")[2:] == ["settle a", "a E1", "settle b", "b E1"]


def test_executor_lost_with_the_end_of_a_significant_child() -> None:
    # E1, S6: nothing is restarted then
    children = [permanent("a"), temporary("b", significant=True), permanent("c")]
    desk = running(children, auto_shutdown="any")
    assert desk.lost("a", "b")[-2:] == ["c P1", "stop c1"]
    assert desk.exit("c") == ["c X1", "finished Completed b"]


def test_lost_run_counts_for_the_backoff() -> None:
    # E1, S4
    desk = running([permanent("a", backoff=Linear(1.0), reset_after=10.0)])
    desk.crash("a")
    desk.due("a")
    desk.up("a")
    desk.now = 10.0
    assert desk.lost("a")[-1] == "timer a 1"


def test_executor_lost_with_nobody() -> None:
    # E1
    desk = running("a")
    assert desk.lost() == []
    desk.stop("a")
    desk.exit("a")
    assert desk.lost("a") == []


def test_kill_is_a_failure_of_a_transient_child_in_setup() -> None:
    # S1, L3
    desk = running([transient("a")])
    desk.crash("a")
    assert desk.exit("a", KILLED)[-1] == "life a3"
