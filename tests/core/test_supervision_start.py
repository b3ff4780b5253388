"""Starts: the whole declaration, children one by one, and starts that fail, decline or are cancelled."""

from __future__ import annotations

import pytest

from actorvisor._core import _commands as c
from actorvisor._core._backoff import Linear
from actorvisor._core._messages import Crashed
from actorvisor._core._supervision import Phase
from tests.core.desk import BOOM, DONE, KILLED, Desk, permanent, running, temporary, transient

STRATEGIES = ["one_for_one", "one_for_all", "rest_for_one"]


def test_nothing_is_there_before_it_begins() -> None:
    # S7
    desk = Desk("a")
    assert desk.supervision.phase is Phase.IDLE
    assert not desk.supervision.children
    assert desk.start("a") == desk.start_new("x") == ["refused t: supervisor stopping"]


def test_empty_declaration_is_up_at_once() -> None:
    # S5; OTP's sup_start_normal
    desk = Desk()
    assert desk.begin() == ["up"]
    assert desk.supervision.active == 0


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_declaration_order(strategy: str) -> None:
    # S5: each waits for the one before
    desk = Desk("abc", strategy=strategy)
    assert desk.begin() == ["adopt a", "adopt b", "adopt c", "a S1", "life a1"]
    assert desk.states() == "a starting, b waiting, c waiting"
    assert desk.supervision.active == 3
    assert desk.up("a") == ["a U1", "b S1", "life b1"]
    assert desk.up("b") == ["b U1", "c S1", "life c1"]
    assert desk.up("c") == ["c U1", "up"]


def test_together() -> None:
    # S5: start="together": all at once
    desk = Desk("abc", start="together")
    assert desk.begin()[3:] == ["a S1", "life a1", "b S1", "life b1", "c S1", "life c1"]
    assert desk.up("c", "a") == ["c U1", "a U1"]
    assert desk.up("b") == ["b U1", "up"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_first_failure_stops_those_before_it_newest_first(strategy: str) -> None:
    # S5: the start of the whole raises
    desk = Desk("abcd", strategy=strategy)
    desk.begin()
    desk.up("a", "b")
    assert desk.crash("c") == ["c X1", "b P1", "stop b1"]
    assert desk.exit("b") == ["b X1", "a P1", "stop a1"]
    assert desk.exit("a") == ["a X1", "finished Crashed c"]
    assert desk.the(c.Finished) == c.Finished(BOOM, "c")
    # M6: what waits for a decision is not over yet
    assert desk.states() == "a exited, b exited, c exited, d waiting"


def test_failed_start_of_a_root_is_for_good() -> None:
    # S5, S8
    desk = Desk("ab", root=True)
    desk.begin()
    assert desk.crash("a") == [
        "a X1",
        "settle b",
        "b E0",
        "settle a",
        "a E1",
        "finished Crashed a",
    ]
    assert desk.states() == "a failed, b stopped"
    assert desk.supervision.active == 0


@pytest.mark.parametrize("kind", [temporary, transient])
def test_failed_start_counts_for_every_kind(kind: object) -> None:
    # S5
    desk = Desk([kind("a")])  # type: ignore[operator]
    desk.begin()
    assert desk.exit("a", KILLED)[-1] == "finished Killed a"


def test_together_failure_stops_those_that_still_start() -> None:
    # S5
    desk = Desk("abc", start="together")
    desk.begin()
    assert desk.crash("b") == ["b X1", "c P1", "stop c1"]
    assert desk.up("c") == []  # it crossed with the stop
    assert desk.exit("c") == ["c X1", "a P1", "stop a1"]
    assert desk.exit("a")[-1] == "finished Crashed b"


def test_sibling_comes_up_before_it_is_told_to_stop() -> None:
    # S5, L1
    desk = Desk("abc", start="together")
    desk.begin()
    desk.crash("b")
    assert desk.up("a") == ["a U1"]  # c is told first


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_declining_is_no_failure(strategy: str) -> None:
    # L7; OTP's sup_start_ignore_child
    desk = Desk("ab", strategy=strategy)
    desk.begin()
    assert desk.exit("a", DONE) == ["a X1", "settle a", "a E1", "b S1", "life b1"]
    assert desk.up("b") == ["b U1", "up"]
    assert desk.states() == "a stopped, b running"
    assert desk.supervision.active == 1


def test_declining_temporary_is_not_kept() -> None:
    # L7, S1; OTP's sup_start_ignore_temporary_child
    desk = Desk([temporary("a"), permanent("b")])
    desk.begin()
    assert desk.exit("a", DONE)[:4] == ["a X1", "settle a", "a E1", "forget a"]
    assert desk.states() == "b starting"


def test_declining_at_run_time() -> None:
    # L7: start returns; OTP's sup_start_ignore_temporary_child_start_child
    desk = running()
    assert desk.start_new("a") == ["adopt a", "a S1", "life a1"]
    assert desk.exit("a", DONE) == ["a X1", "settle a", "a E1", "forget a", "done t"]


def test_declining_on_a_restart() -> None:
    # L7: not restarted whatever the kind; OTP's simple_one_for_one_restart_ignore
    desk = running("a")
    assert desk.crash("a") == ["a X1", "a R1", "a S2", "life a2"]
    assert desk.exit("a", DONE) == ["a X2", "settle a", "a E2"]


def test_declining_is_no_significant_end() -> None:
    # L7, S6
    desk = running([permanent("a")], auto_shutdown="any")
    desk.start_new(temporary("b", significant=True))
    assert desk.exit("b", DONE) == ["b X1", "settle b", "b E1", "forget b", "done t"]


def test_declining_is_not_noted() -> None:
    # L7, S3
    desk = running("ab", max_restarts=2)
    desk.crash("a")
    desk.exit("a", DONE)
    assert desk.crash("b") == ["b X1", "b R1", "b S2", "life b2"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_failed_start_at_run_time(strategy: str) -> None:
    # L3: raised to the starter, not retried; I5: it is forgotten; OTP's sup_start_child_returns_error
    desk = running("a", strategy=strategy)
    assert desk.start_new("b") == ["adopt b", "b S1", "life b1"]
    assert desk.crash("b") == [
        "b X1",
        "settle b",
        "b E1",
        "forget b",
        "failed t Crashed",
    ]
    assert desk.the(c.Failed) == c.Failed("t", BOOM)
    assert desk.states() == "a running"
    assert desk.supervision.active == 1


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_failed_explicit_restart(strategy: str) -> None:
    # S7, S3, S4; OTP's sup_start_restart_child_returns_error
    desk = running("a", strategy=strategy, max_restarts=0)
    desk.stop("a")
    desk.exit("a")
    assert desk.restart("a") == ["a S2", "life a2"]
    assert desk.crash("a") == ["a X2", "settle a", "a E2", "failed t Crashed"]
    assert desk.states() == "a failed"  # still declared, not running, not retried


def test_failed_start_of_a_declared_child_can_be_tried_again() -> None:
    # I5
    desk = running("a")
    desk.stop("a")
    desk.exit("a")
    desk.start("a")
    desk.crash("a")
    assert desk.start("a", "u") == ["a S3", "life a3"]
    assert desk.up("a") == ["a U3", "done u"]
    assert desk.supervision.active == 1


def test_start_returns_at_up() -> None:
    # L3
    desk = running()
    desk.start_new("a")
    assert desk.up("a") == ["a U1", "done t"]
    assert desk.supervision.children["a"].up_at == 0.0


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_cancelled_start_ends_the_half_started_child(strategy: str) -> None:
    # L3, I4: the name is free when it raises
    desk = running(strategy=strategy)
    desk.start_new("a")
    assert desk.cancel("a") == ["a P1", "stop a1!"]
    assert desk.up("a") == []
    assert desk.exit("a") == [
        "a X1",
        "settle a",
        "a E1",
        "forget a",
        "failed t Stopped",
    ]
    assert desk.start_new("a", "u") == ["adopt a", "a S1", "life a1"]


def test_cancelled_start_that_waits_for_its_turn() -> None:
    # L3, S7
    desk = Desk("a", strategy="rest_for_one")
    desk.begin()
    desk.start_new("b")
    assert desk.cancel("b") == ["settle b", "b E0", "forget b", "failed t Stopped"]
    assert desk.up("a") == ["a U1", "up"]


def test_cancelled_start_of_what_is_down_leaves_it_down() -> None:
    # L3, S7: the last reason is not what the caller is told
    desk = running("ab", strategy="rest_for_one")
    desk.crash("b", "stop")
    desk.start("b", "u")
    desk.crash("b")
    desk.restart("a", "v")  # a is in the line before b
    desk.exit("a")
    desk.start("b", "w")
    assert desk.cancel("b", "w") == ["failed w Stopped"]
    assert desk.states() == "a starting, b failed"


@pytest.mark.parametrize("when", ["answered", "gone", "never asked"])
def test_cancelled_start_crosses_with_its_answer(when: str) -> None:
    # L3, L1: one answer
    desk = running()
    desk.start_new("a")
    if when == "gone":
        desk.crash("a")
    elif when == "answered":
        desk.up("a")
    token = "never" if when == "never asked" else "t"
    assert desk.cancel("a", token) == []


def test_cancelled_restart_of_what_still_runs() -> None:
    # L3
    desk = running("a")
    desk.restart("a")
    assert desk.cancel("a") == ["stop a1!"]
    assert desk.exit("a")[-2:] == ["a E1", "failed t Stopped"]


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_run_time_starts_wait_for_their_turn(strategy: str) -> None:
    # S7
    desk = running("a", strategy=strategy)
    assert desk.start_new("b", "t") == ["adopt b", "b S1", "life b1"]
    assert desk.start_new("c", "u") == ["adopt c"]
    assert desk.start_new("d", "v") == ["adopt d"]
    assert desk.states() == "a running, b starting, c waiting, d waiting"
    assert desk.up("b") == ["b U1", "done t", "c S1", "life c1"]
    assert desk.crash("c") == [
        "c X1",
        "settle c",
        "c E1",
        "forget c",
        "failed u Crashed",
        "d S1",
        "life d1",
    ]


def test_run_time_starts_under_one_for_one_wait_for_nobody() -> None:
    # S7
    desk = Desk("ab")
    desk.begin()
    assert desk.start_new("c", "t") == ["adopt c", "c S1", "life c1"]
    assert desk.start_new("d", "u") == ["adopt d", "d S1", "life d1"]
    assert desk.up("d", "c") == ["d U1", "done u", "c U1", "done t"]
    assert desk.up("a") == ["a U1", "b S1", "life b1"]


def test_up_does_not_wait_for_what_was_not_declared() -> None:
    # S5
    desk = Desk("a", strategy="rest_for_one")
    desk.begin()
    desk.start_new("b")
    assert desk.up("a") == ["a U1", "up", "b S1", "life b1"]


def test_stop_of_a_child_that_waits_in_the_declaration() -> None:
    # S7, S5
    desk = Desk("abc")
    desk.begin()
    assert desk.stop("b") == ["settle b", "b E0", "done t Stopped"]
    assert desk.up("a") == ["a U1", "c S1", "life c1"]
    assert desk.up("c") == ["c U1", "up"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_stop_of_the_last_one_that_starts(strategy: str) -> None:
    # S7, S5: it is up without it
    desk = Desk("ab", strategy=strategy)
    desk.begin()
    desk.up("a")
    assert desk.stop("b") == ["b P1", "stop b1!"]
    assert desk.exit("b") == ["b X1", "settle b", "b E1", "done t Stopped", "up"]


def test_child_that_was_stopped_while_it_waited_can_fail_later_without_harm() -> None:
    # S5: its start is not the supervisor's any more
    desk = running("ab")
    desk.hold()
    desk.exit("b")
    desk.stop("a")
    desk.exit("a")
    desk.begin()
    assert desk.states() == "a starting, b exited"
    assert desk.stop("b", "u") == ["settle b", "b E1", "done u Stopped"]
    desk.start("b", "v")
    assert desk.crash("b")[-1] == "failed v Crashed"


def test_begun_again_child_that_is_over_is_stopped_before_its_turn() -> None:
    # S5, S7
    desk = running("ab")
    desk.stop("b")
    desk.exit("b")
    desk.hold()
    desk.exit("a")
    assert desk.begin() == ["a S2", "life a2"]
    assert desk.stop("b", "u") == ["done u Stopped"]
    assert desk.up("a") == ["a U2", "up"]
    assert desk.start("b", "v") == ["b S2", "life b2"]
    assert desk.crash("b") == ["b X2", "settle b", "b E2", "failed v Crashed"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_restart_of_one_that_starts_keeps_the_order(strategy: str) -> None:
    # S5, S7
    desk = Desk("abc", strategy=strategy)
    desk.begin()
    desk.up("a")
    assert desk.restart("b") == ["b P1", "stop b1"]
    assert desk.exit("b") == ["b X1", "b S2", "life b2"]
    assert desk.up("b") == ["b U2", "done t", "c S1", "life c1"]
    assert desk.up("c") == ["c U1", "up"]


def test_sibling_crashes_while_the_declaration_starts() -> None:
    # S5, S7, S2
    desk = Desk("abc")
    desk.begin()
    desk.up("a")
    assert desk.crash("a") == ["a X1", "a R1", "a S2", "life a2"]
    assert desk.up("b") == ["b U1", "c S1", "life c1"]
    assert desk.up("c") == ["c U1", "up"]


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_group_while_the_declaration_starts(strategy: str) -> None:
    # S5, S2: the rest of the declaration comes after the group
    desk = Desk("abc", strategy=strategy)
    desk.begin()
    desk.up("a")
    assert desk.crash("a") == ["a X1", "b P1", "stop b1"]
    assert desk.exit("b") == ["b X1", "a R1", "a S2", "life a2"]
    assert desk.up("a") == ["a U2", "b S2", "life b2"]
    assert desk.up("b") == ["b U2", "c S1", "life c1"]
    assert desk.up("c") == ["c U1", "up"]


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_first_start_that_fails_in_a_group(strategy: str) -> None:
    # S5, L3: b has not come up since the supervisor began
    desk = Desk("abc", strategy=strategy)
    desk.begin()
    desk.up("a")
    desk.crash("a")
    desk.exit("b")
    desk.up("a")
    assert desk.crash("b") == ["b X2", "a P2", "stop a2"]
    assert desk.exit("a")[-1] == "finished Crashed b"


def test_begin_again_starts_what_was_left() -> None:
    # S8: the same identities; what was stopped by request, too
    desk = running([permanent("a"), temporary("b"), transient("c"), permanent("d")])
    desk.exit("b", DONE)
    desk.exit("c", DONE)
    desk.stop("d")
    desk.exit("d")
    desk.start_new("x")
    desk.up("x")
    desk.hold()
    assert desk.exit("x") == [
        "x X1",
        "settle x",
        "x E1",
        "forget x",
        "a P1",
        "stop a1",
    ]
    assert desk.exit("a") == ["a X1", "finished Stopped"]
    assert desk.begin() == ["adopt b", "a S2", "life a2"]
    assert desk.states() == "a starting, b waiting, c stopped, d stopped"
    assert desk.up("a") == ["a U2", "b S1", "life b1"]
    assert desk.up("b") == ["b U1", "c S2", "life c2"]
    assert desk.supervision.active == 3  # d is still down
    assert desk.up("c") == ["c U2", "d S2", "life d2"]
    assert desk.up("d") == ["d U2", "up"]
    assert desk.supervision.active == 4


def test_begin_again_forgets_limits_and_refusals() -> None:
    # S3, S8
    desk = running("a", max_restarts=1)
    desk.crash("a")
    desk.up("a")
    desk.refuse_starts()
    desk.hold(grace=0.0)
    desk.exit("a")
    desk.begin()
    desk.up("a")
    assert desk.crash("a") == ["a X3", "a R3", "a S4", "life a4"]
    assert desk.start_new("x")[0] == "adopt x"
    assert desk.hold() == ["x P1", "stop x1!"]  # without the grace of the first time


def test_begin_again_forgets_windows_of_their_own_and_backoff() -> None:
    # S3, S4, S8
    desk = running([permanent("a", backoff=Linear(1.0))], max_restarts=1, on_limit="drop")
    assert "timer a 1" in desk.crash("a")
    desk.hold()
    desk.begin()
    desk.up("a")
    assert "timer a 1" in desk.crash("a")


def test_crashed_reason_is_handed_on() -> None:
    # L2
    reason = Crashed(ValueError("x"))
    desk = running()
    desk.start_new("a")
    desk.exit("a", reason)
    failed = desk.the(c.Failed)
    assert isinstance(failed, c.Failed)
    assert failed.reason is reason
