"""The end of a supervisor: its stop, its significant children, and what waits for a decision."""

from __future__ import annotations

import pytest

from actorvisor._core import _commands as c
from actorvisor._core._backoff import Fixed
from actorvisor._core._messages import Completed, Crashed, GaveUp, Stopped
from actorvisor._core._supervision import Phase
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

STRATEGIES = ["one_for_one", "one_for_all", "rest_for_one"]
GROUPS = STRATEGIES[1:]

# --- S5: order --------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_stop_is_in_reverse_order(strategy: str) -> None:
    # S5; OTP's order_of_children
    desk = running("abc", strategy=strategy)
    assert desk.shut_down() == ["c P1", "stop c1!"]
    assert desk.exit("c") == ["c X1", "settle c", "c E1", "b P1", "stop b1!"]
    assert desk.exit("b") == ["b X1", "settle b", "b E1", "a P1", "stop a1!"]
    assert desk.exit("a") == ["a X1", "settle a", "a E1", "finished Stopped"]
    assert desk.the(c.Finished) == c.Finished(Stopped(), None)
    assert desk.supervision.active == 0


def test_stop_is_in_reverse_order_when_started_together() -> None:
    # S5
    desk = running("abc", start="together")
    assert desk.shut_down() == ["c P1", "stop c1!"]


def test_empty_supervisor_stops_at_once() -> None:
    # S5; OTP's sup_start_normal
    assert running().shut_down() == ["finished Stopped"]


def test_run_time_children_are_stopped_together() -> None:
    # S5; OTP's simple_one_for_one_shutdown
    desk = running("ab")
    for name in "xyz":
        desk.start_new(name)
        desk.up(name)
    assert desk.shut_down() == [
        "z P1",
        "stop z1!",
        "y P1",
        "stop y1!",
        "x P1",
        "stop x1!",
    ]
    desk.exit("y")
    assert desk.exit("x") == ["x X1", "settle x", "x E1", "forget x"]
    assert desk.exit("z")[-2:] == ["b P1", "stop b1!"]
    desk.exit("b")
    assert desk.exit("a")[-1] == "finished Stopped"


@pytest.mark.parametrize("strategy", GROUPS)
def test_run_time_children_that_keep_an_order_are_stopped_in_it(strategy: str) -> None:
    # S5
    desk = running("a", strategy=strategy)
    for name in "xy":
        desk.start_new(name)
        desk.up(name)
    assert desk.shut_down() == ["y P1", "stop y1!"]
    assert desk.exit("y")[-1] == "stop x1!"
    assert desk.exit("x")[-1] == "stop a1!"


def test_ends_by_themselves_while_it_stops() -> None:
    # S5, L2; OTP's sup_stop_race: each keeps its own reason, none is restarted
    desk = running([permanent("a"), transient("b"), temporary("d"), permanent("e")])
    desk.shut_down()
    assert desk.crash("a") == ["a X1", "settle a", "a E1"]
    assert desk.exit("b", DONE) == ["b X1", "settle b", "b E1"]
    assert desk.exit("d", KILLED) == ["d X1", "settle d", "d E1", "forget d"]
    assert desk.exit("e") == ["e X1", "settle e", "e E1", "finished Stopped"]
    assert desk.supervision.children["a"].reason == BOOM
    assert desk.supervision.children["b"].reason == DONE


def test_nothing_starts_after_a_stop() -> None:
    # S5: by any path
    desk = Desk([permanent("a", backoff=Fixed(1.0)), permanent("b"), permanent("d")])
    desk.begin()
    desk.up("a")
    desk.crash("a")
    desk.restart("b", "r")
    desk.start_new("x", "n")
    desk.restart("x", "m")
    assert desk.shut_down() == [
        "settle d",
        "d E0",
        "no timer a",
        "settle a",
        "a E1",
        "stop x1!",
    ]
    assert desk.due("a") == []
    assert desk.crash("x")[:5] == ["x X1", "settle x", "x E1", "forget x", "failed n Crashed"]
    assert desk.exit("b")[-2:] == ["failed r Stopped", "finished Stopped"]


def test_late_timer_after_a_stop_for_a_decision() -> None:
    # S5, L1: found by reading: it is still backing_off, but its timer is off
    desk = running([permanent("a", backoff=Fixed(1.0)), permanent("b")])
    desk.crash("a")
    assert desk.hold() == ["no timer a", "b P1", "stop b1"]
    assert desk.due("a") == []
    assert desk.exit("b") == ["b X1", "finished Stopped"]
    assert desk.due("a") == []
    assert desk.states() == "a backing_off, b exited"
    assert desk.supervision.stale == 2


def test_stop_while_the_declaration_starts() -> None:
    # S5, L4: a stop cancels a running setup
    desk = Desk("abc")
    desk.begin()
    desk.up("a")
    assert desk.shut_down() == ["settle c", "c E0", "b P1", "stop b1!"]
    assert desk.up("b") == []
    assert desk.exit("b") == ["b X1", "settle b", "b E1", "a P1", "stop a1!"]
    assert desk.exit("a")[-1] == "finished Stopped"


def test_first_start_that_fails_while_it_stops() -> None:
    # S5: it ends as it was asked to
    desk = Desk("ab")
    desk.begin()
    desk.up("a")
    desk.shut_down()
    desk.crash("b")
    assert desk.exit("a")[-1] == "finished Stopped"


@pytest.mark.parametrize("strategy", GROUPS)
def test_stop_while_a_group_is_being_stopped(strategy: str) -> None:
    # S5, S2
    desk = running("abc", strategy=strategy)
    desk.crash("a")
    assert desk.shut_down() == ["settle a", "a E1", "stop c1!"]  # now it is for good
    assert desk.exit("c") == ["c X1", "settle c", "c E1", "b P1", "stop b1!"]
    assert desk.exit("b")[-1] == "finished Stopped"


@pytest.mark.parametrize("strategy", GROUPS)
def test_stop_while_a_group_backs_off_or_starts(strategy: str) -> None:
    # S5, S2
    desk = running([permanent("a", backoff=Fixed(1.0)), permanent("b")], strategy=strategy)
    desk.crash("a")
    desk.exit("b")
    twin = desk.supervision.copy()
    assert desk.hold() == ["no timer a", "finished Stopped"]
    desk.supervision = twin
    desk.due("a")
    assert desk.hold() == ["a P2", "stop a2"]
    assert desk.exit("a") == ["a X2", "finished Stopped"]


@pytest.mark.parametrize("strategy", GROUPS)
def test_stop_answers_starts_that_wait_for_their_turn(strategy: str) -> None:
    # S5, S7: nobody is left unanswered
    desk = running("ab", strategy=strategy)
    desk.stop("b", "s")
    desk.exit("b")
    desk.start_new("x", "n")
    desk.start_new("y", "m")
    desk.start("b", "r")
    desk.await_end("b", "w")
    assert desk.hold() == [
        "settle y",
        "y E0",
        "forget y",
        "failed m Stopped",
        "failed r Stopped",
        "done w Stopped",
        "x P1",
        "stop x1!",
    ]
    assert desk.exit("x")[-3:] == ["failed n Stopped", "a P1", "stop a1"]
    assert desk.states() == "a stopping, b stopped"


# --- grace ------------------------------------------------------------------------------------


def test_grace_is_for_each_child() -> None:
    # H2, S5
    desk = running("ab")
    assert desk.shut_down(grace=2.0) == ["b P1", "stop b1!@2"]
    assert desk.exit("b")[-1] == "stop a1!@2"


def test_a_second_stop_can_be_shorter() -> None:
    # S5, H2
    desk = running("ab")
    desk.shut_down(grace=2.0)
    assert desk.shut_down() == []
    assert desk.shut_down(grace=0.0) == ["stop b1!@0"]
    assert desk.exit("b")[-1] == "stop a1!@0"


@pytest.mark.parametrize("strategy", GROUPS)
def test_a_stop_by_force_reaches_whom_a_group_has_told(strategy: str) -> None:
    # S5, H2
    desk = running("abc", strategy=strategy)
    desk.crash("a")
    assert desk.shut_down(grace=0.0)[-1] == "stop c1!@0"
    assert desk.exit("c")[-1] == "stop b1!@0"


def test_a_stop_by_force_reaches_whom_somebody_has_stopped() -> None:
    # S5, L4
    desk = running("ab")
    desk.stop("b", "s", grace=9.0)
    assert desk.shut_down(grace=0.0) == ["stop b1!@0"]
    assert desk.exit("b")[-3:] == ["done s Stopped", "a P1", "stop a1!@0"]


def test_a_second_stop_without_a_grace_keeps_the_first_one() -> None:
    # L4: stop by several callers is one stop
    desk = running("ab")
    desk.shut_down(grace=2.0)
    assert desk.shut_down() == []
    assert desk.exit("b")[-1] == "stop a1!@2"


def test_a_grace_reaches_whom_a_group_stops_already() -> None:
    # S5, L4; without one there is nothing new to tell
    for grace, told in ((None, []), (0.0, ["stop b1@0"])):
        desk = running("ab", strategy="one_for_all")
        desk.crash("a")
        assert desk.hold(grace) == told


def test_a_stop_keeps_the_grace_of_whom_somebody_has_stopped() -> None:
    # S5, L4
    desk = running("ab")
    desk.stop("b", "s", grace=9.0)
    assert desk.shut_down() == []
    assert desk.exit("b")[-2:] == ["a P1", "stop a1!"]


def test_why_it_ends_is_known_as_soon_as_that_is_decided() -> None:
    # O1, S3
    desk = running("ab", max_restarts=0)
    assert desk.supervision.ending is None
    desk.crash("a")
    ending = desk.supervision.ending
    assert isinstance(ending, Crashed)
    assert isinstance(ending.exception, RestartLimitExceeded)
    desk.shut_down()
    desk.exit("b")
    assert desk.supervision.phase is Phase.DOWN
    assert desk.supervision.ending is ending
    desk.begin()
    assert desk.supervision.ending is None


# --- a Ctrl-C ---------------------------------------------------------------------------------

CTRL_C = Crashed(KeyboardInterrupt())


def test_ctrl_c_while_it_ends_is_how_it_ends() -> None:
    # M9
    desk = running("ab")
    desk.shut_down()
    desk.exit("b", CTRL_C, "escalate")
    desk.exit("a")
    assert desk.last[-1] == c.Finished(CTRL_C, "b")


def test_ctrl_c_in_one_that_somebody_stops_ends_the_supervisor() -> None:
    # M9: the stop is answered, too
    desk = running("ab")
    desk.stop("a", "s")
    gone = ["a X1", "settle a", "a E1", "done s Crashed"]
    assert desk.exit("a", CTRL_C, "escalate") == [*gone, "b P1", "stop b1"]
    desk.exit("b")
    assert desk.last[-1] == c.Finished(CTRL_C, "a")


def test_ctrl_c_in_one_that_is_restarted_ends_the_supervisor() -> None:
    # M9
    desk = running("ab")
    desk.restart("a", "r")
    told = ["a X1", "failed r Stopped", "b P1", "stop b1"]
    assert desk.exit("a", CTRL_C, "escalate") == told
    desk.exit("b")
    assert desk.last[-1] == c.Finished(CTRL_C, "a")


def test_ctrl_c_in_one_that_a_group_stops_ends_the_supervisor() -> None:
    # M9, S2
    desk = running("ab", strategy="one_for_all")
    desk.crash("a")
    assert desk.exit("b", CTRL_C, "escalate") == ["b X1", "finished Crashed b"]
    assert desk.last[-1] == c.Finished(CTRL_C, "b")


# --- for good or not --------------------------------------------------------------------------


def test_stop_for_a_decision_ends_nothing_yet() -> None:
    # M6: mail waits; L1: hold
    desk = running([permanent("a"), transient("b"), temporary("d")])
    assert desk.hold() == ["d P1", "stop d1!"]
    assert desk.exit("d") == ["d X1", "settle d", "d E1", "forget d", "b P1", "stop b1"]
    assert desk.exit("b") == ["b X1", "a P1", "stop a1"]
    assert desk.exit("a") == ["a X1", "finished Stopped"]
    assert desk.states() == "a exited, b exited"
    assert desk.supervision.active == 2


def test_drop() -> None:
    # M6, L1: what waited for the decision is over
    desk = Desk([permanent("a"), permanent("b", backoff=Fixed(1.0)), permanent("d")])
    desk.begin()
    desk.up("a", "b")
    desk.await_end("d", "w")
    desk.crash("b")
    desk.hold()
    desk.exit("d", KILLED)
    desk.exit("a")
    assert desk.last[-1] == c.Finished(Stopped())
    assert desk.states() == "a exited, b backing_off, d exited"
    assert desk.drop() == [
        "settle a",
        "a E1",
        "settle b",
        "b E1",
        "settle d",
        "d E1",
        "done w Killed",
    ]
    assert desk.the_reasons() == [STOPPED, BOOM, KILLED]
    assert desk.states() == "a stopped, b stopped, d stopped"
    assert desk.supervision.active == 0
    assert desk.drop() == []


def test_drop_of_what_never_started() -> None:
    # M6
    desk = Desk("ab")
    desk.begin()
    desk.crash("a")
    assert desk.drop() == ["settle a", "a E1", "settle b", "b E0"]
    assert desk.the_reasons() == [BOOM, Stopped()]


def test_drop_before_the_first_start() -> None:
    # M6
    desk = Desk("ab")
    assert desk.drop() == []
    assert desk.begin()[:2] == ["adopt a", "adopt b"]


def test_drop_leaves_what_is_over() -> None:
    # M6
    desk = running([permanent("a"), transient("b")])
    desk.exit("b", DONE)
    desk.hold()
    desk.exit("a")
    assert desk.drop() == ["settle a", "a E1"]


def test_begin_after_a_drop() -> None:
    # I5
    desk = running("a")
    desk.hold()
    desk.exit("a")
    desk.drop()
    assert desk.begin() == ["a S2", "life a2"]
    assert desk.up("a") == ["a U2", "up"]
    assert desk.supervision.active == 1


def test_calls_while_the_decision_is_open() -> None:
    # S7, M6
    desk = running([permanent("a"), permanent("b"), permanent("d")])
    desk.hold()
    desk.exit("d")
    desk.exit("b")
    desk.exit("a")
    assert desk.await_end("a", "w") == []
    assert desk.stop("a", "s") == ["settle a", "a E1", "done w Stopped", "done s Stopped"]
    assert desk.remove("b", "r") == ["settle b", "b E1", "forget b", "done r Stopped"]
    assert desk.await_end("d", "v") == []
    assert desk.begin() == ["adopt b", "a S2", "life a2"]
    desk.up("a", "b", "d")
    desk.stop("d", "u")
    assert desk.exit("d")[-2:] == ["done v Stopped", "done u Stopped"]


def test_stop_that_becomes_final() -> None:
    # L1: stop wins over hold
    desk = running("abc")
    desk.hold()
    desk.exit("c")
    assert desk.shut_down() == ["stop b1!", "settle c", "c E1"]
    assert desk.hold() == []  # it stays final
    assert desk.exit("b") == ["b X1", "settle b", "b E1", "a P1", "stop a1!"]
    assert desk.exit("a")[-1] == "finished Stopped"


def test_end_that_becomes_final() -> None:
    # S3, S5: the first reason stays
    desk = running("ab", max_restarts=0)
    desk.crash("a")
    assert desk.shut_down(grace=1.0) == ["stop b1!@1", "settle a", "a E1"]
    assert desk.exit("b")[-1] == "finished Crashed a"


def test_stop_that_crosses_with_the_end() -> None:
    # L1, M6: it finishes once
    desk = running("a")
    desk.hold()
    desk.exit("a")
    assert desk.hold(grace=0.0) == []
    assert desk.shut_down() == ["settle a", "a E1"]
    assert desk.shut_down() == []


def test_root_ends_for_good_in_any_case() -> None:
    # S8
    desk = running("a", root=True)
    assert desk.hold() == ["a P1", "stop a1!"]
    assert desk.exit("a")[1:] == ["settle a", "a E1", "finished Stopped"]


@pytest.mark.parametrize("final", [True, False])
def test_asked_stop_while_the_supervisor_stops(final: bool) -> None:
    # S7, L1: stop wins: it is over in any case, and its caller is answered
    desk = running("ab")
    desk.stop("b", "s")
    if final:
        desk.shut_down()
    else:
        desk.hold()
    desk.stop("a", "t")
    assert desk.exit("b")[:4] == ["b X1", "settle b", "b E1", "done s Stopped"]
    assert desk.exit("a") == ["a X1", "settle a", "a E1", "done t Stopped", "finished Stopped"]


def test_restart_that_the_supervisor_stops() -> None:
    # S5: it is answered, and left to the decision
    desk = running("a")
    desk.restart("a", "r")
    desk.await_end("a", "w")
    assert desk.hold() == ["stop a1"]
    assert desk.exit("a") == ["a X1", "failed r Stopped", "finished Stopped"]
    assert desk.states() == "a exited"
    assert desk.drop() == ["settle a", "a E1", "done w Stopped"]


def test_run_time_child_that_waits_for_a_restart_ends_with_its_supervisor() -> None:
    # S8: with dead letters, whatever is decided
    desk = running()
    desk.start_new(permanent("x", backoff=Fixed(1.0)))
    desk.up("x")
    desk.crash("x")
    assert desk.hold() == ["no timer x", "settle x", "x E1", "forget x", "finished Stopped"]


# --- S6: significant children -----------------------------------------------------------------


@pytest.mark.parametrize("reason", [DONE, BOOM, KILLED])
def test_significant_temporary_child(reason: object) -> None:
    # S6: in any way; OTP's significant_temporary
    desk = running([permanent("a"), temporary("b", significant=True)], auto_shutdown="any")
    assert desk.exit("b", reason) == [  # type: ignore[arg-type]
        "b X1",
        "settle b",
        "b E1",
        "forget b",
        "a P1",
        "stop a1",
    ]
    assert desk.exit("a") == ["a X1", "finished Completed b"]
    assert desk.the(c.Finished) == c.Finished(Completed(), "b")


def test_significant_transient_child() -> None:
    # S6: normally; OTP's significant_transient
    desk = running([permanent("a"), transient("b", significant=True)], auto_shutdown="any")
    assert desk.crash("b")[-1] == "life b2"
    desk.up("b")
    assert desk.exit("b", DONE) == ["b X2", "settle b", "b E2", "a P1", "stop a1"]
    assert desk.exit("a")[-1] == "finished Completed b"


def test_significant_child_that_gave_up() -> None:
    # S6
    desk = running(
        [permanent("a"), transient("b", significant=True)],
        auto_shutdown="any",
        on_limit="drop",
        max_restarts=0,
    )
    assert desk.crash("b") == ["b X1", "settle b", "b E1", "a P1", "stop a1"]
    assert desk.supervision.children["b"].reason == GaveUp(BOOM)


def test_the_last_significant_child() -> None:
    # S6: auto_shutdown="all"
    children = [
        transient("a", significant=True),
        temporary("b", significant=True),
        permanent("d"),
    ]
    desk = running(children, auto_shutdown="all")
    assert desk.exit("b", DONE) == ["b X1", "settle b", "b E1", "forget b"]
    assert desk.exit("a", DONE) == ["a X1", "settle a", "a E1", "d P1", "stop d1"]


def test_significant_child_that_was_restarted_counts_as_there() -> None:
    # S6
    desk = running(
        [transient("a", significant=True), transient("b", significant=True)], auto_shutdown="all"
    )
    desk.exit("a", DONE)
    desk.start("a")
    assert desk.exit("b", DONE) == ["b X1", "settle b", "b E1"]


@pytest.mark.parametrize("mode", ["any", "all"])
def test_significant_child_stopped_by_request(mode: str) -> None:
    # S6
    desk = running([permanent("a"), temporary("b", significant=True)], auto_shutdown=mode)
    desk.stop("b")
    assert desk.exit("b") == ["b X1", "settle b", "b E1", "forget b", "done t Stopped"]


@pytest.mark.parametrize("mode", ["any", "all"])
@pytest.mark.parametrize("kind", [temporary, transient])
def test_other_children_never_end_it(mode: str, kind: object) -> None:
    # S6; OTP's nonsignificant_temporary, nonsignificant_transient
    desk = running([permanent("a"), kind("b")], auto_shutdown=mode)  # type: ignore[operator]
    assert "a P1" not in desk.exit("b", DONE)


@pytest.mark.parametrize("strategy", GROUPS)
@pytest.mark.parametrize("mode", ["any", "all"])
@pytest.mark.parametrize("kind", [temporary, transient])
def test_significant_bystander(strategy: str, mode: str, kind: object) -> None:
    # S6; OTP's significant_bystander: stopped by the strategy is not ended by itself
    children = [permanent("a"), kind("b", significant=True)]  # type: ignore[operator]
    desk = running(children, strategy=strategy, auto_shutdown=mode)
    desk.crash("a")
    assert desk.exit("b")[-2:] == ["a S2", "life a2"]


@pytest.mark.parametrize(("told", "ends"), [(True, False), (False, True)])
def test_significant_child_that_completes_while_its_group_stops(told: bool, ends: bool) -> None:
    # S6, S2: by itself only if it was not told
    children = [permanent("a"), transient("b", significant=True), permanent("d")]
    desk = running(children, strategy="one_for_all", auto_shutdown="any")
    desk.crash("a")
    if told:
        desk.exit("d")
    desk.exit("b", DONE)
    assert (desk.supervision.phase.value == "ending") is ends


def test_significant_children_of_a_root() -> None:
    # S6, S8: it is over already when the root ends
    children = [transient("a", significant=True), permanent("b")]
    desk = running(children, root=True, auto_shutdown="any")
    assert desk.exit("a", DONE) == ["a X1", "settle a", "a E1", "b P1", "stop b1!"]
    assert desk.exit("b")[-1] == "finished Completed a"


def test_run_time_significant_child() -> None:
    # S6
    desk = running("a", auto_shutdown="all")
    desk.start_new(temporary("x", significant=True))
    desk.up("x")
    assert desk.exit("x", DONE)[-2:] == ["a P1", "stop a1"]


def test_verdict_to_stop_ends_a_significant_child() -> None:
    # S6, S11: it ended by itself, for good
    desk = running([transient("a", significant=True)], auto_shutdown="any")
    assert desk.crash("a", "stop") == ["a X1", "settle a", "a E1", "finished Completed a"]


def test_significant_escalation() -> None:
    # S6, S8; OTP's significant_escalation: for its own supervisor it is a normal end
    inner = running([temporary("x", significant=True)], auto_shutdown="any")
    inner.exit("x", DONE)
    finished = inner.the(c.Finished)
    assert isinstance(finished, c.Finished)
    outer = running([permanent("a"), transient("b", significant=True)], auto_shutdown="any")
    assert outer.exit("b", finished.reason)[-1] == "stop a1"
