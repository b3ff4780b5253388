"""Cases of OTP's supervisor_SUITE that take several rules at once, as CASES.md tells them."""

from __future__ import annotations

from typing import Any

import pytest

from actorvisor._core import _commands as c
from actorvisor._core._backoff import Fixed
from actorvisor._core._messages import Completed, Crashed, ExitReason, Killed, TimedOut
from tests.core.desk import BOOM, DONE, STOPPED, Desk, permanent, running, temporary, transient


def with_run_time_children(names: str, **options: Any) -> Desk:
    """As OTP's template supervisor: nothing is declared."""
    desk = running(**options)
    for name in names:
        desk.start_new(name)
        desk.up(name)
    return desk


def test_sup_start_ignore_permanent_child_start_child_simple() -> None:
    # L7, S1, S5: the supervisor then stops without an error
    desk = with_run_time_children("a")
    desk.start_new("b")
    assert desk.exit("b", DONE)[-2:] == ["forget b", "done t"]
    desk.shut_down()
    assert desk.exit("a")[-1] == "finished Stopped"


@pytest.mark.parametrize("reason", [STOPPED, DONE, BOOM, Killed(-9), TimedOut("teardown")])
def test_sup_stop_non_shutdown_exit_dynamic(reason: ExitReason) -> None:
    # L2, L5: it ends normally, reasons kept
    desk = with_run_time_children("ab")
    desk.shut_down()
    desk.exit("a", reason)
    assert desk.the_reasons() == [reason]
    assert desk.exit("b", reason)[-1] == "finished Stopped"


def test_sup_stop_race() -> None:
    # S5, L2, L1
    kinds = [permanent, transient, temporary]
    ends: list[ExitReason] = [DONE, STOPPED, BOOM, Killed(1)]
    pairs = {
        f"{kind.__name__}{index}": (kind, end) for kind in kinds for index, end in enumerate(ends)
    }
    children = [kind(name) for name, (kind, _) in pairs.items()]
    desk = running([permanent("first"), *children, permanent("last")])
    assert desk.shut_down() == ["last P1", "stop last1!"]
    for name, (_, end) in pairs.items():
        words = desk.exit(name, end)
        assert words[:3] == [f"{name} X1", f"settle {name}", f"{name} E1"]
        assert desk.the_reasons() == [end]
    desk.exit("last")
    assert desk.exit("first")[-1] == "finished Stopped"


def test_simple_one_for_one() -> None:
    # S2, S3
    desk = with_run_time_children("ab", max_restarts=2)
    for life in (1, 2):
        assert desk.crash("a")[-1] == f"life a{life + 1}"
        desk.up("a")
    assert desk.states() == "a running, b running"
    assert desk.crash("b") == ["b X1", "settle b", "b E1", "forget b", "a P3", "stop a3!"]
    assert desk.exit("a")[-1] == "finished Crashed b"


def test_simple_one_for_one_escalation() -> None:
    # S3
    desk = with_run_time_children("ab", max_restarts=4)
    for _ in range(4):
        desk.crash("a")
    assert desk.crash("a") == [
        "a X5",
        "settle a",
        "a E5",
        "forget a",
        "b P1",
        "stop b1!",
    ]
    assert desk.exit("b")[-1] == "finished Crashed a"


def test_rest_for_one() -> None:
    # S2, S3
    desk = running("abc", strategy="rest_for_one", max_restarts=2)
    desk.crash("b")
    desk.exit("c")
    desk.up("b")
    desk.up("c")
    assert desk.lives() == "a1 b2 c2"
    desk.crash("c")
    desk.up("c")
    assert desk.lives() == "a1 b2 c3"
    assert desk.crash("b") == ["b X2", "c P3", "stop c3"]
    assert desk.exit("c")[-1] == "stop a1"
    assert desk.exit("a")[-1] == "finished Crashed b"


def test_tree() -> None:
    # S2, S8: the second supervisor's children were started at run time; the third was stopped
    inner = with_run_time_children("xy", max_restarts=1)
    outer = running([permanent("a"), permanent("b"), transient("d")], strategy="one_for_all")
    outer.stop("d")
    outer.exit("d")
    assert inner.crash("x")[-1] == "life x2"
    inner.up("x")
    assert inner.states() == "x running, y running"
    inner.crash("x")
    inner.exit("y")
    finished = inner.the(c.Finished)
    assert isinstance(finished, c.Finished)
    assert isinstance(finished.reason, Crashed)
    outer.exit("b", finished.reason)
    assert outer.exit("a")[-2:] == ["a S2", "life a2"]
    assert outer.up("a") == ["a U2", "b S2", "life b2"]
    assert inner.begin() == ["up"]  # its run-time children are gone
    assert outer.up("b") == ["b U2"]
    assert outer.states() == "a running, b running, d stopped"  # unlike OTP


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
@pytest.mark.parametrize("end", ["kill", "normal", "abnormal", "request"])
def test_do_not_save_child_specs_for_temporary_children(strategy: str, end: str) -> None:
    # S1, S7, I2, I4
    ends: dict[str, ExitReason] = {
        "kill": Killed(-9),
        "normal": Completed(None),
        "abnormal": BOOM,
    }
    desk = running([temporary("a"), transient("b")], strategy=strategy)
    for name in "ab":
        if end == "request":
            desk.stop(name)
            desk.exit(name)
        else:
            desk.exit(name, ends[end])
    assert desk.start_new(temporary("a"), "t")[0] == "adopt a"
    (again,) = desk.start_new("b", "u")
    assert again.startswith("refused u: already ")


def test_hanging_restart_loop_rest_for_one() -> None:
    # S4, S2, S7
    desk = running(
        [permanent("a"), permanent("b", backoff=Fixed(1.0)), permanent("d")],
        strategy="rest_for_one",
        max_restarts=9,
    )
    desk.crash("b")
    desk.exit("d")
    desk.due("b")
    desk.crash("b")
    assert desk.states() == "a running, b backing_off, d exited"
    assert desk.start_new("b") == ["refused t: restarting"]
    assert desk.start("b") == ["refused t: restarting"]
    assert desk.start("d") == ["refused t: restarting"]
    assert desk.stop("b", "s")[:4] == ["no timer b", "settle b", "b E2", "done s Stopped"]
    assert desk.states() == "a running, b stopped, d stopped"
    desk.start("b", "t")
    assert desk.up("b") == ["b U3", "done t"]
    assert desk.states() == "a running, b running, d stopped"
    desk.crash("b")
    desk.due("b")
    assert desk.shut_down() == ["b P4", "stop b4!"]
    desk.exit("b")
    assert desk.exit("a")[-1] == "finished Stopped"


def test_hanging_restart_loop_simple() -> None:
    # S4, S7
    desk = running()
    desk.start_new(permanent("a", backoff=Fixed(1.0)))
    desk.up("a")
    desk.crash("a")
    assert desk.states() == "a backing_off"
    assert desk.stop("a") == ["no timer a", "settle a", "a E1", "forget a", "done t Stopped"]


def test_count_restarting_children() -> None:
    # S7, S4
    desk = running([permanent(name, backoff=Fixed(1.0)) for name in "abc"], max_restarts=9)
    desk.crash("a")
    desk.crash("b")
    assert desk.states() == "a backing_off, b backing_off, c running"
    assert desk.stop("b")[-1] == "done t Stopped"
    desk.due("a")
    desk.up("a")
    assert desk.states() == "a running, b stopped, c running"
    assert desk.supervision.active == 2
