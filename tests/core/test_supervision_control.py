"""Calls: start, stop, restart, remove and await, in every state of a child."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from actorvisor._core import _commands as c
from actorvisor._core._backoff import Fixed, Linear
from actorvisor._core._messages import Stopped
from actorvisor._core._supervision import Phase
from tests.core.desk import BOOM, DONE, Desk, permanent, running, temporary, transient

if TYPE_CHECKING:
    from collections.abc import Callable

GROUPS = ["one_for_all", "rest_for_one"]


def waiting() -> Desk:
    desk = Desk("xa")
    desk.begin()
    return desk


def starting() -> Desk:
    desk = running()
    desk.start_new(permanent("a"), "first")
    return desk


def stopping() -> Desk:
    desk = running("a")
    desk.stop("a", "first")
    return desk


def crashing() -> Desk:
    desk = running("a")
    desk.ending("a")
    return desk


def exited() -> Desk:
    """Its group is still being stopped."""
    desk = running("ab", strategy="one_for_all")
    desk.crash("a")
    return desk


def backing_off() -> Desk:
    desk = running([permanent("a", backoff=Fixed(1.0))])
    desk.crash("a")
    return desk


def stopped() -> Desk:
    desk = running("a")
    desk.stop("a", "first")
    desk.exit("a")
    return desk


def failed() -> Desk:
    desk = running("a")
    desk.crash("a", "stop")
    return desk


def running_one() -> Desk:
    return running("a")


def ending() -> Desk:
    desk = running("a")
    desk.shut_down()
    return desk


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (waiting, ["refused t: already starting"]),
        (starting, ["refused t: already starting"]),
        (running_one, ["refused t: already running"]),
        (stopping, ["refused t: stopping"]),
        (crashing, ["refused t: stopping"]),
        (exited, ["refused t: restarting"]),
        (backing_off, ["refused t: restarting"]),
        (stopped, ["a S2", "life a2"]),
        (failed, ["a S2", "life a2"]),
        (ending, ["refused t: supervisor stopping"]),
    ],
)
def test_start_in_every_state(make: Callable[[], Desk], words: list[str]) -> None:
    # S7
    desk = make()
    assert desk.start("a") == words


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (waiting, ["refused t: already starting"]),
        (starting, ["a P1", "stop a1"]),
        (running_one, ["a P1", "stop a1"]),
        (stopping, ["refused t: stopping"]),
        (crashing, ["stop a1"]),
        (exited, []),
        (backing_off, ["no timer a", "a S2", "life a2"]),
        (stopped, ["a S2", "life a2"]),
        (failed, ["a S2", "life a2"]),
        (ending, ["refused t: supervisor stopping"]),
    ],
)
def test_restart_in_every_state(make: Callable[[], Desk], words: list[str]) -> None:
    # S7, L1
    desk = make()
    assert desk.restart("a") == words


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (waiting, ["settle a", "a E0", "done t Stopped"]),
        (starting, ["a P1", "stop a1!"]),
        (running_one, ["a P1", "stop a1!"]),
        (stopping, ["stop a1!"]),
        (crashing, ["stop a1!"]),
        (exited, ["settle a", "a E1", "done t Stopped", "stop b1!"]),
        (backing_off, ["no timer a", "settle a", "a E1", "done t Stopped"]),
        (stopped, ["done t Stopped"]),
        (failed, ["done t Crashed"]),
        (ending, ["stop a1!"]),
    ],
)
@pytest.mark.parametrize("removing", [False, True])
def test_stop_and_remove_in_every_state(
    make: Callable[[], Desk], words: list[str], removing: bool
) -> None:
    # S7: they work in every state; S4; L4: stopping what is stopped returns its reason
    desk = make()
    if not removing:
        assert desk.stop("a") == words
        return
    found = desk.remove("a")
    over = "done" in "".join(words)
    assert [word for word in found if word != "forget a"] == words
    assert ("forget a" in found) is over
    if not over:
        assert "forget a" in desk.exit("a")
    assert "a" not in desk.supervision.children


@pytest.mark.parametrize("make", [waiting, starting, running_one, stopping, crashing, backing_off])
def test_await_end_waits(make: Callable[[], Desk]) -> None:
    # I4, L4
    desk = make()
    assert desk.await_end("a", "w") == []
    desk.stop("a", "s")
    if desk.supervision.children.get("a") is not None and not desk.supervision.children["a"].final:
        desk.exit("a")
    answers = [each for each in desk.last if isinstance(each, c.Done)]
    assert c.Done("w", Stopped()) in answers
    assert c.Done("s", Stopped()) in answers


@pytest.mark.parametrize(("make", "reason"), [(stopped, Stopped()), (failed, BOOM)])
def test_await_end_of_what_is_over(make: Callable[[], Desk], reason: object) -> None:
    # I4, I5
    desk = make()
    desk.await_end("a", "w")
    assert desk.last == [c.Done("w", reason)]  # type: ignore[arg-type]


def test_await_end_is_not_answered_by_a_restart() -> None:
    # I4: ended for good only
    desk = running("a")
    desk.await_end("a", "w")
    assert desk.crash("a") == ["a X1", "a R1", "a S2", "life a2"]
    desk.up("a")
    desk.stop("a", "s")
    assert desk.exit("a")[-2:] == ["done w Stopped", "done s Stopped"]


@pytest.mark.parametrize("call", ["start", "restart", "stop", "remove", "await_end"])
def test_no_such_child(call: str) -> None:
    # S7; OTP's child_adm
    desk = running("a")
    assert getattr(desk, call)("b") == ["refused t: no such child"]
    assert desk.cancel("b") == []


@pytest.mark.parametrize("call", ["start", "restart", "start_new"])
def test_nothing_starts_while_it_drains(call: str) -> None:
    # L4, S5
    desk = running("ab")
    desk.stop("a")
    desk.exit("a")
    assert desk.refuse_starts() == []
    name = "c" if call == "start_new" else "a"
    assert getattr(desk, call)(name, "u") == ["refused u: supervisor stopping"]
    assert desk.crash("b")[-1] == "life b2"  # supervision goes on
    assert desk.stop("b", "v") == ["b P2", "stop b2!"]


@pytest.mark.parametrize("call", ["start", "restart", "start_new"])
@pytest.mark.parametrize("phase", ["idle", "ending", "down", "dropped"])
def test_nothing_starts_while_it_is_not_up(call: str, phase: str) -> None:
    # S5, S7: after the host's end every call raises at once
    desk = Desk("a")
    if phase != "idle":
        desk.begin()
        desk.up("a")
        desk.hold()
    if phase in {"down", "dropped"}:
        desk.exit("a")
    if phase == "dropped":
        desk.drop()
    assert getattr(desk, call)("b") == ["refused t: supervisor stopping"]


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (waiting, "already starting"),
        (running_one, "already running"),
        (stopping, "stopping"),
        (backing_off, "restarting"),
        (stopped, "already declared; start it by its ref"),
        (failed, "already declared; start it by its ref"),
    ],
)
def test_new_child_under_a_taken_name(make: Callable[[], Desk], why: str) -> None:
    # I1, S7; OTP's do_not_save_child_specs_for_temporary_children
    desk = make()
    before = desk.states()
    assert desk.start_new("a") == [f"refused t: {why}"]
    assert desk.states() == before


def test_stop_by_several_callers_is_one_stop() -> None:
    # L4
    desk = running("a")
    assert desk.stop("a", "s") == ["a P1", "stop a1!"]
    assert desk.stop("a", "t", grace=0.5) == ["stop a1!@0.5"]  # the newer grace
    assert desk.await_end("a", "u") == []
    assert desk.exit("a") == [
        "a X1",
        "settle a",
        "a E1",
        "done s Stopped",
        "done t Stopped",
        "done u Stopped",
    ]
    assert desk.stop("a", "v") == ["done v Stopped"]


def test_stop_hands_on_its_grace() -> None:
    # L4
    desk = running("abc")
    assert desk.stop("a", grace=0.0) == ["a P1", "stop a1!@0"]
    assert desk.stop("b", grace=float("inf")) == ["b P1", "stop b1!@inf"]
    assert desk.remove("c", grace=2.0) == ["c P1", "stop c1!@2"]


def test_asked_stop_keeps_what_really_ended_it() -> None:
    # L2, L1: stop and crash cross: it keeps its own reason, and is no failure
    desk = running("a")
    desk.stop("a")
    assert desk.crash("a") == ["a X1", "settle a", "a E1", "done t Crashed"]
    assert desk.states() == "a stopped"


def test_crash_then_stop_is_no_restart() -> None:
    # L1: stop wins over ending
    desk = running("a", max_restarts=0)
    desk.ending("a")
    desk.stop("a")
    assert desk.crash("a") == ["a X1", "settle a", "a E1", "done t Crashed"]


def ahead(desk: Desk) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return desk.supervision.ahead


def test_who_comes_before_a_child_that_waits_for_its_turn() -> None:
    # M10
    desk = Desk("abcd", strategy="one_for_all")
    assert ahead(desk) == ((), ())
    desk.begin()
    assert ahead(desk) == (("a",), ())
    desk.up("a", "b")
    assert ahead(desk) == (("c",), ())
    desk.up("c", "d")
    assert ahead(desk) == ((), ())
    desk.crash("b")
    assert ahead(desk) == ((), ("d", "c", "a"))
    desk.exit("d")
    assert ahead(desk) == ((), ("c", "a"))
    desk.exit("c")
    desk.exit("a")
    assert ahead(desk) == (("a",), ())


def test_who_is_taken_out_meanwhile_is_waited_for_by_nobody() -> None:
    # M10: its turn to be stopped had not come.
    desk = running("abc", strategy="one_for_all")
    desk.crash("a")
    desk.remove("b")
    desk.exit("b")
    assert "b" not in desk.supervision.children
    assert ahead(desk) == ((), ("c",))


def test_who_starts_together_is_named_in_order() -> None:
    # M10, T2: whatever the hashes of their names are
    names = [f"child {number}" for number in range(20)]
    desk = Desk(map(permanent, names), start="together")
    desk.begin()
    assert ahead(desk) == (tuple(names), ())
    desk.up("child 3")
    desk.exit("child 5")
    assert desk.supervision.phase is Phase.ENDING
    names.remove("child 3")
    names.remove("child 5")
    assert ahead(desk)[0] == tuple(names)


def test_first_reason_stays() -> None:
    # L1
    desk = running("a")
    desk.stop("a")
    assert desk.ending("a") == []


def test_restart_that_crosses_with_a_crash() -> None:
    # L1, S3: restart wins over ending: it is no decision
    desk = running("a", max_restarts=0)
    assert desk.restart("a", "r") == ["a P1", "stop a1"]
    assert desk.restart("a", "s") == []
    assert desk.crash("a") == ["a X1", "a S2", "life a2"]
    assert desk.up("a") == ["a U2", "done r", "done s"]


def test_stop_after_restart() -> None:
    # L1: stop wins
    desk = running("a")
    desk.restart("a", "r")
    assert desk.stop("a", "s") == ["stop a1!"]
    assert desk.restart("a", "q") == ["refused q: stopping"]
    assert desk.exit("a") == ["a X1", "settle a", "a E1", "failed r Stopped", "done s Stopped"]


def test_restart_of_one_that_starts() -> None:
    # L1, S7
    desk = running()
    desk.start_new("a", "s")
    assert desk.restart("a", "r") == ["a P1", "stop a1"]
    assert desk.up("a") == []
    assert desk.exit("a") == ["a X1", "a S2", "life a2"]
    assert desk.up("a") == ["a U2", "done s", "done r"]


def test_remove_forgets_a_declared_child() -> None:
    # S7; OTP's child_adm, which_children
    desk = running("abc")
    desk.remove("b")
    assert desk.exit("b") == ["b X1", "settle b", "b E1", "forget b", "done t Stopped"]
    assert desk.states() == "a running, c running"
    assert desk.remove("b", "u") == ["refused u: no such child"]
    assert desk.start("b", "v") == ["refused v: no such child"]
    assert desk.start_new("b", "w") == ["adopt b", "b S1", "life b1"]
    assert desk.states() == "a running, c running, b starting"


def test_remove_of_what_somebody_stops_already() -> None:
    # S7, L4
    desk = running("a")
    desk.stop("a", "s")
    desk.remove("a", "t")
    assert desk.exit("a")[3:] == ["forget a", "done s Stopped", "done t Stopped"]


def test_stop_then_start_is_a_new_life_of_the_same_identity() -> None:
    # I5
    desk = stopped()
    assert desk.supervision.active == 0
    assert desk.start("a") == ["a S2", "life a2"]
    assert desk.supervision.active == 1
    assert desk.up("a") == ["a U2", "done t"]


@pytest.mark.parametrize("kind", [permanent, temporary, transient])
def test_run_time_child_is_forgotten_when_it_is_stopped(kind: object) -> None:
    # I5, I4
    desk = running()
    desk.start_new(kind("a"))  # type: ignore[operator]
    desk.up("a")
    desk.stop("a")
    assert desk.exit("a")[-2:] == ["forget a", "done t Stopped"]


@pytest.mark.parametrize("strategy", GROUPS)
def test_explicit_restart_stops_nobody_else(strategy: str) -> None:
    # S7
    desk = running("abc", strategy=strategy)
    assert desk.restart("a") == ["a P1", "stop a1"]
    assert desk.exit("a") == ["a X1", "a S2", "life a2"]
    assert desk.up("a") == ["a U2", "done t"]


@pytest.mark.parametrize("strategy", GROUPS)
def test_explicit_restart_waits_for_its_turn(strategy: str) -> None:
    # S7
    desk = running("ab", strategy=strategy)
    desk.start_new("c")
    desk.restart("a", "r")
    assert desk.exit("a") == ["a X1"]
    assert desk.states() == "a exited, b running, c starting"
    assert desk.start("a", "s") == ["refused s: restarting"]
    assert desk.restart("a", "q") == []
    assert desk.up("c") == ["c U1", "done t", "a S2", "life a2"]
    assert desk.up("a") == ["a U2", "done r", "done q"]


def test_stop_of_what_waits_for_its_turn_again() -> None:
    # S7
    desk = running("ab", strategy="rest_for_one")
    desk.start_new("c")
    desk.restart("a", "r")
    desk.exit("a")
    assert desk.stop("a", "s") == ["settle a", "a E1", "failed r Stopped", "done s Stopped"]
    assert desk.up("c") == ["c U1", "done t"]


def test_start_of_what_waits_for_its_turn() -> None:
    # S7
    desk = running("ab", strategy="rest_for_one")
    desk.stop("a", "s")
    desk.exit("a")
    desk.start_new("c")
    assert desk.start("a", "t") == []
    assert desk.start("a", "u") == ["refused u: already starting"]
    assert desk.restart("a", "v") == []
    assert desk.await_end("a", "w") == []  # it is on its way up
    assert desk.up("c") == ["c U1", "done t", "a S2", "life a2"]
    assert desk.up("a") == ["a U2", "done t", "done v"]


def test_stop_calls_off_a_start_that_waits_for_its_turn() -> None:
    # S7, L4
    desk = running([permanent("a"), transient("b")], strategy="rest_for_one")
    desk.exit("b", DONE)
    desk.start_new("c", "n")
    desk.start("b", "t")
    desk.await_end("b", "w")
    assert desk.stop("b", "s") == ["failed t Stopped", "done w Completed", "done s Completed"]
    assert desk.up("c") == ["c U1", "done n"]
    assert desk.states() == "a running, b stopped, c running"


def test_remove_calls_off_a_start_that_waits_for_its_turn() -> None:
    # S7
    desk = running([permanent("a"), transient("b")], strategy="rest_for_one")
    desk.exit("b", DONE)
    desk.start_new("c", "n")
    desk.start("b", "t")
    assert desk.remove("b", "s") == ["forget b", "failed t Stopped", "done s Completed"]
    assert desk.up("c") == ["c U1", "done n"]


@pytest.mark.parametrize("strategy", GROUPS)
@pytest.mark.parametrize("who", ["a", "b"])
def test_explicit_restart_skips_the_backoff_of_its_group(strategy: str, who: str) -> None:
    # S7, S2: restart starts at once
    desk = running([permanent("a", backoff=Fixed(9.0)), permanent("b")], strategy=strategy)
    desk.crash("a")
    assert desk.exit("b") == ["b X1", "a R1", "timer a 9"]
    assert desk.restart(who) == ["no timer a", "a S2", "life a2"]
    first, second = desk.up("a"), desk.up("b")
    answered = first if who == "a" else second
    assert "done t" in answered
    assert desk.states() == "a running, b running"


@pytest.mark.parametrize("strategy", GROUPS)
@pytest.mark.parametrize("who", ["a", "b", "c"])
def test_explicit_restart_while_its_group_is_being_stopped(strategy: str, who: str) -> None:
    # S7, S2
    desk = running(
        [permanent("a", backoff=Fixed(9.0)), permanent("b"), permanent("c")], strategy=strategy
    )
    desk.crash("a")
    assert desk.restart(who) == []
    assert desk.exit("c") == ["c X1", "b P1", "stop b1"]
    assert desk.exit("b") == ["b X1", "a S2", "life a2"]
    desk.up("a")
    desk.up("b")
    desk.up("c")
    assert desk.lives() == "a2 b2 c2"
    assert desk.states() == "a running, b running, c running"


def test_group_takes_along_what_somebody_restarts() -> None:
    # S2, L1: restart wins over hold, and it comes back in its turn
    desk = running([permanent("a"), temporary("b"), permanent("c")], strategy="rest_for_one")
    desk.restart("b", "r")
    assert desk.crash("a") == ["a X1", "c P1", "stop c1"]
    assert desk.exit("c") == ["c X1", "stop b1"]
    assert desk.exit("b") == ["b X1", "a R1", "a S2", "life a2"]
    assert desk.up("a") == ["a U2", "b S2", "life b2"]
    assert desk.up("b") == ["b U2", "done r", "c S2", "life c2"]


def test_temporary_child_that_a_group_stops_can_be_restarted() -> None:
    # L1, S2: restart wins over hold
    desk = running([permanent("a"), temporary("b")], strategy="rest_for_one")
    assert desk.crash("a") == ["a X1", "b P1", "stop b1!"]
    assert desk.restart("b", "r") == []
    assert desk.exit("b") == ["b X1", "a S2", "life a2"]
    assert desk.up("a") == ["a U2", "b S2", "life b2"]
    assert desk.up("b") == ["b U2", "done r"]


def test_temporary_child_whose_start_a_group_takes_over() -> None:
    # S2: once it has come up, the group stops it for good
    desk = running([permanent("a"), permanent("b")], strategy="one_for_all")
    desk.start_new(temporary("c"), "t")
    desk.start_new(temporary("d"), "u")
    assert desk.crash("a") == ["a X1", "c P1", "stop c1"]  # somebody waits for it
    desk.exit("c")
    desk.exit("b")
    desk.up("a")
    desk.up("b")
    assert desk.up("c") == ["c U2", "done t", "d S1", "life d1"]
    assert desk.crash("b") == ["b X2", "d P1", "stop d1"]
    assert desk.exit("d") == ["d X1", "c P2", "stop c2!"]
    assert desk.exit("c") == ["c X2", "settle c", "c E2", "forget c", "a P2", "stop a2"]


def test_temporary_child_that_came_up_before_its_group_told_it() -> None:
    # S2, found by the model
    desk = running([permanent("a"), permanent("b")], strategy="one_for_all")
    desk.start_new(temporary("c"), "t")
    desk.start_new(permanent("d"), "u")
    desk.up("c")
    assert desk.states() == "a running, b running, c running, d starting"
    desk.restart("c", "r")
    desk.exit("c")
    desk.up("d")
    assert desk.states() == "a running, b running, c starting, d running"
    assert desk.crash("a") == ["a X1", "d P1", "stop d1"]
    assert desk.up("c") == ["c U2", "done r"]
    assert desk.exit("d") == ["d X1", "c P2", "stop c2!"]
    assert desk.exit("c")[:4] == ["c X2", "settle c", "c E2", "forget c"]


def test_late_answers_of_several_starters() -> None:
    # L3: each is answered once
    desk = running("a")
    desk.stop("a", "s")
    desk.exit("a")
    desk.start("a", "t")
    desk.restart("a", "u")
    desk.exit("a")
    assert desk.crash("a") == ["a X3", "settle a", "a E3", "failed t Crashed", "failed u Crashed"]


def test_child_adm() -> None:
    # S7, I4; OTP's child_adm, step by step
    desk = running("a")
    assert desk.start("a") == ["refused t: already running"]
    desk.stop("a")
    assert desk.exit("a")[-1] == "done t Stopped"
    assert desk.stop("a") == ["done t Stopped"]
    assert desk.start_new("a") == ["refused t: already declared; start it by its ref"]
    desk.restart("a")
    assert desk.up("a")[-1] == "done t"
    assert desk.start("a") == ["refused t: already running"]
    desk.remove("a")
    assert desk.exit("a")[-1] == "done t Stopped"
    assert desk.restart("a") == ["refused t: no such child"]
    desk.start_new("a")
    assert desk.up("a")[-1] == "done t"
    assert desk.states() == "a running"
    assert desk.supervision.active == 1


def test_hanging_restart_loop() -> None:
    # S4, S7; OTP's hanging_restart_loop
    desk = running([permanent("a", backoff=Linear(1.0))], max_restarts=9)
    desk.crash("a")
    desk.due("a")
    desk.crash("a")
    assert desk.start_new("a") == ["refused t: restarting"]
    assert desk.start("a") == ["refused t: restarting"]
    assert desk.stop("a")[-1] == "done t Stopped"
    desk.start("a")
    desk.up("a")
    desk.crash("a")
    assert desk.shut_down() == ["no timer a", "settle a", "a E3", "finished Stopped"]
