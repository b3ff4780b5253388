"""The lifecycle table (L1), against the text of the design."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given, strategies as st

from actorvisor._core._lifecycle import (
    FINAL,
    LIVE,
    REFUSALS,
    TABLE,
    Event,
    IllegalTransition,
    Notice,
    State,
    Step,
    step,
)

# DESIGN section 4, word for word.
DESIGN = """
    waiting:         begin -> starting S | stop, drop -> stopped E | hold - | start, restart refused
    starting:        up -> running U | ending, stop, hold, restart -> stopping P | exit -> exited X | start refused
    running:         ending, stop, hold, restart -> stopping P | exit -> exited X | start refused
    stopping:        exit -> exited X | up, ending - (the first reason stays) | hold, grace -
                     stop - (wins) | restart - (wins over ending and hold; refused after stop) | start refused
    exited:          again -> backing_off R | begin, restart -> starting S | over -> stopped or failed E
                     stop, drop -> stopped E | hold - | start refused
    backing_off:     due, begin, restart -> starting S | stop, drop -> stopped E | hold - (timer off) | start refused
    stopped, failed: begin, start, restart -> starting S | stop - (returns the reason) | hold, drop -
"""


def read(text: str) -> dict[tuple[str, str], tuple[str, str | None, bool]]:
    """The rows of the design: next state, notification and whether a caller is refused."""
    rows: dict[tuple[str, str], tuple[str, str | None, bool]] = {}
    states: list[str] = []
    for line in text.strip().splitlines():
        head, colon, rest = line.partition(":")
        if colon and re.fullmatch(r"[a-z_, ]+", head):
            states = [state.strip() for state in head.split(",")]
        else:
            rest = line
        for entry in re.sub(r"\([^)]*\)", "", rest).split("|"):
            match = re.fullmatch(r"(?P<events>[a-z, ]+?) (?P<then>-> .*|-|refused)", entry.strip())
            assert match is not None, entry
            for event, state in itertools.product(match["events"].split(", "), states):
                # How long a stop may take is the executor's business: it changes no state.
                if event == "grace":
                    continue
                if match["then"] == "-":
                    add(rows, state, event, (state, None, False))
                elif match["then"] == "refused":
                    add(rows, state, event, (state, None, True))
                else:
                    after, notice = match["then"].removeprefix("-> ").rsplit(" ", 1)
                    if event == "over":  # to `failed` if the reason is a failure
                        normal, failure = after.split(" or ")
                        add(rows, state, "over", (normal, notice, False))
                        add(rows, state, "fail", (failure, notice, False))
                    else:
                        add(rows, state, event, (after, notice, False))
    return rows


def add(
    rows: dict[tuple[str, str], tuple[str, str | None, bool]],
    state: str,
    event: str,
    row: tuple[str, str | None, bool],
) -> None:
    assert (state, event) not in rows
    rows[state, event] = row


ROWS = read(DESIGN)


def plain(found: Step) -> tuple[str, str | None, bool]:
    return found.state.value, found.notice and found.notice.value, found.refused


def test_the_text_was_read() -> None:
    assert len(ROWS) == 54
    assert ROWS["waiting", "begin"] == ("starting", "S", False)
    assert ROWS["stopping", "stop"] == ("stopping", None, False)
    assert ROWS["exited", "stop"] == ("stopped", "E", False)
    assert ROWS["failed", "drop"] == ("failed", None, False)
    assert ROWS["backing_off", "start"] == ("backing_off", None, True)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_pair_by_pair(state: State, event: Event) -> None:
    # L1, section 4
    wanted = ROWS.get((state.value, event.value))
    if wanted is None:
        assert (state, event) not in TABLE
        with pytest.raises(IllegalTransition) as caught:
            step(state, event)
        assert (caught.value.state, caught.value.event) == (state, event)
        assert str(caught.value) == f"no row for {event.value!r} in state {state.value!r}"
        assert caught.value.args == (state, event)
    else:
        assert plain(TABLE[state, event]) == wanted
        assert step(state, event) is TABLE[state, event]


def test_the_states_and_events_are_those_of_the_design() -> None:
    # L1
    assert [state.value for state in State] == [
        "waiting",
        "starting",
        "running",
        "stopping",
        "exited",
        "backing_off",
        "stopped",
        "failed",
    ]
    assert {event.value for event in Event} == {event for _, event in ROWS}
    assert [notice.value for notice in Notice] == ["S", "U", "P", "X", "R", "E"]
    assert [notice.name for notice in Notice] == [
        "STARTING",
        "STARTED",
        "STOPPING",
        "EXITED",
        "RESTARTING",
        "ENDED",
    ]


def test_pairs_that_can_cross_have_rows() -> None:
    # L1: stop and exit, stop and crash, restart and exit, start and stop; whatever comes in
    # from outside has a row wherever it can arrive
    for state, event in itertools.product(
        State, (Event.STOP, Event.HOLD, Event.START, Event.RESTART)
    ):
        assert (state, event) in TABLE
    # A whole tree can be dropped wherever nothing runs.
    for state in State:
        assert ((state, Event.DROP) in TABLE) == (state not in LIVE)


def test_live_states() -> None:
    # L1: there is an incarnation from its begin until its exit
    assert {state for state in State if (state, Event.EXIT) in TABLE} == LIVE


def test_final_states() -> None:
    # L1, I5: only a start leaves them
    assert {State.STOPPED, State.FAILED} == FINAL
    for (state, event), found in TABLE.items():
        if state in FINAL and found.state is not state:
            assert event in {Event.BEGIN, Event.START, Event.RESTART}
            assert found.state is State.STARTING


def test_refusals_say_why() -> None:
    # S7: each such call says at once, in words, why it cannot
    refused = {state for (state, event), found in TABLE.items() if found.refused}
    assert set(REFUSALS) == refused
    assert REFUSALS[State.WAITING] == REFUSALS[State.STARTING] == "already starting"
    assert REFUSALS[State.RUNNING] == "already running"
    assert REFUSALS[State.STOPPING] == "stopping"
    assert REFUSALS[State.EXITED] == REFUSALS[State.BACKING_OFF] == "restarting"


def test_what_is_refused_changes_nothing() -> None:
    # S7
    for (state, _), found in TABLE.items():
        if found.refused or found.notice is None:
            assert found.state is state
        assert not (found.refused and found.notice)


def test_a_notification_belongs_to_one_state() -> None:
    # O1: every state change is a notification, and says which state it is now
    told = {
        "S": {"starting"},
        "U": {"running"},
        "P": {"stopping"},
        "X": {"exited"},
        "R": {"backing_off"},
        "E": {"stopped", "failed"},
    }
    for (state, _), found in TABLE.items():
        if found.state is not state:
            assert found.notice is not None
        if found.notice is not None:
            assert found.state.value in told[found.notice.value]


@given(st.lists(st.sampled_from(Event), max_size=60))
def test_every_life_is_told_in_order(events: list[Event]) -> None:
    # O4, L8: begun, up, stopping, gone; and no life begins before the last is gone
    state, told = State.WAITING, ""
    for event in events:
        try:
            found = step(state, event)
        except IllegalTransition:
            continue
        if found.notice is not None:
            told += found.notice.value
        state = found.state
    assert re.fullmatch(r"E?(SU?P?X(E|R(?=S|E|$)E?|(?=S|$)))*(SU?P?)?", told), told


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        TABLE[State.WAITING, Event.UP] = Step(State.RUNNING)  # type: ignore[index]
    with pytest.raises(TypeError):
        REFUSALS[State.STOPPED] = ""  # type: ignore[index]
    assert Step(State.RUNNING) == (State.RUNNING, None, False)
