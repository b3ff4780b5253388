"""What a pool's own decisions add to a supervisor's (W1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from actorvisor._core._messages import Completed, Crashed
from actorvisor._errors import RestartLimitExceeded

from .desk import BOOM, DONE, STOPPED, Desk, permanent, running, temporary, transient

if TYPE_CHECKING:
    from actorvisor._core._spec import ChildSpec


def pool(children: str | list[ChildSpec], max_restarts: int = 3) -> Desk:
    """A pool whose members are up."""
    return running(children, pool=True, start="together", max_restarts=max_restarts)


def test_members_start_together() -> None:
    # W1
    desk = Desk("ab", pool=True, start="together")
    assert desk.begin() == ["adopt a", "adopt b", "a S1", "life a1", "b S1", "life b1"]
    assert desk.up("b") == ["b U1"]
    assert desk.up("a") == ["a U1", "up"]


def test_one_member_that_does_not_start_is_the_pools_failed_start() -> None:
    # W1, L3, S5
    desk = Desk("abc", pool=True, start="together")
    desk.begin()
    desk.up("a")
    words = desk.crash("b")
    assert words[-4:] == ["c P1", "stop c1", "a P1", "stop a1"]
    desk.exit("a")
    assert desk.exit("c")[-1] == "finished Crashed b"


def test_members_stop_together() -> None:
    # W1: each may take its whole grace, and nobody waits for that of another.
    desk = pool("abc")
    assert desk.shut_down() == ["c P1", "stop c1!", "b P1", "stop b1!", "a P1", "stop a1!"]
    desk.exit("b")
    desk.exit("c")
    assert desk.exit("a")[-1] == "finished Stopped"


def test_a_crash_takes_one_member() -> None:
    # W1
    desk = pool("abc")
    assert desk.crash("b") == ["b X1", "b R1", "b S2", "life b2"]
    assert desk.states() == "a running, b starting, c running"


def test_the_limit_is_that_of_all_together_and_the_pools_crash() -> None:
    # W1, S3
    desk = pool("abc", max_restarts=2)
    desk.crash("a")
    desk.crash("b")
    desk.crash("c")
    desk.exit("a")
    desk.exit("b")
    finished = desk.last[-1]
    reason = getattr(finished, "reason", None)
    assert isinstance(reason, Crashed)
    assert isinstance(reason.exception, RestartLimitExceeded)
    assert reason.exception.path == "host/s"


def test_it_ends_as_its_last_member_does() -> None:
    # W1, M6: without one its mail would wait for ever.
    desk = pool([transient("a"), transient("b")])
    assert "finished" not in " ".join(desk.exit("a", DONE))
    assert desk.exit("b", DONE)[-1] == "finished Completed"
    assert desk.supervision.ending == DONE

    desk = pool([temporary("a"), temporary("b")])
    desk.crash("a")
    assert desk.crash("b")[-1] == "finished Crashed"

    desk = pool("ab")
    desk.crash("b", verdict="stop")
    assert desk.crash("a", verdict="stop")[-1] == "finished Crashed"

    desk = pool("ab")
    desk.stop("a")
    desk.exit("a")
    desk.stop("b")
    assert desk.exit("b")[-1] == "finished Stopped"


def test_who_is_down_for_a_while_still_counts() -> None:
    # W1
    from actorvisor._core._backoff import Fixed

    desk = pool([transient("a", backoff=Fixed(1)), transient("b")])
    desk.crash("a")
    assert desk.exit("b", DONE)[-1] == "b E1"
    desk.due("a")
    desk.up("a")
    desk.crash("a")
    # A stop of the last one, while it backs off, is the end too.
    assert desk.stop("a")[-1] == "finished Stopped"


def test_a_member_that_is_down_can_be_started_again() -> None:
    # S7
    desk = pool("ab")
    desk.stop("a")
    desk.exit("a")
    assert desk.start("a") == ["a S2", "life a2"]
    assert desk.up("a") == ["a U2", "done t"]


def test_a_pool_whose_members_all_decline_declines() -> None:
    # L7: nobody hears that it is up.
    desk = Desk("ab", pool=True, start="together")
    desk.begin()
    desk.exit("a", Completed())
    words = desk.exit("b", Completed())
    assert "up" not in words
    assert words[-1] == "finished Completed"


def test_it_begins_again_with_all_members() -> None:
    # S8
    desk = pool("ab", max_restarts=0)
    desk.stop("a")
    desk.exit("a")
    desk.crash("b")
    assert desk.begin() == ["a S2", "life a2", "b S2", "life b2"]
    assert desk.up("a", "b") == ["a U2", "b U2", "up"]


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
def test_its_restart_is_rolling_while_it_runs(strategy: str) -> None:
    # W1
    desk = running([permanent("a", rolling=True), permanent("b")], strategy=strategy)
    assert desk.restart("a") == ["roll a t"]
    assert desk.states() == "a running, b running"
    assert not desk.supervision.children["a"].starters
    # Down, or on its way, it is as any other.
    desk.stop("a", "s")
    desk.exit("a", STOPPED)
    assert desk.restart("a") == ["a S2", "life a2"]
    assert desk.restart("a", "u") == ["a P2", "stop a2"]


def test_a_rolling_restart_is_refused_as_any_other() -> None:
    # S5, S7
    desk = running([permanent("a", rolling=True)])
    desk.refuse_starts()
    assert desk.restart("a") == ["refused t: supervisor stopping"]
    desk = running([permanent("a", rolling=True)])
    desk.stop("a")
    assert desk.restart("a", "u") == ["refused u: stopping"]


def test_a_group_takes_it_down_as_a_whole() -> None:
    # S2: what a group is about to restart is restarted with it.
    desk = running([permanent("a", rolling=True), permanent("b")], strategy="one_for_all")
    desk.crash("b")
    desk = running(
        [permanent("a", rolling=True), permanent("b"), permanent("c")], strategy="one_for_all"
    )
    desk.crash("c")
    assert desk.states() == "a running, b stopping, c exited"
    assert desk.restart("a") == []  # its turn to stop has not come
    assert desk.exit("b")[-2:] == ["a P1", "stop a1"]


def test_a_rolling_restart_clears_the_notes() -> None:
    # S3
    desk = running([permanent("a", rolling=True)], max_restarts=1)
    desk.crash("a")
    desk.up("a")
    desk.restart("a")
    assert desk.exit("a", BOOM) == ["a X2", "a R2", "a S3", "life a3"]
