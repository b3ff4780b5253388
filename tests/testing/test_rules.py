"""The rules over traces: each finds hand-made ones that break it, and leaves alone what is right (T4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias

import pytest

from actorvisor.testing._check import ALL, Rule, check
from actorvisor.testing._rules_life import rule_h1, rule_l1, rule_l8, rule_o4
from actorvisor.testing._rules_mail import (
    rule_m2,
    rule_m4,
    rule_m5,
    rule_m6,
    rule_m7,
    rule_m8,
)
from actorvisor.testing._rules_supervision import rule_s1, rule_s2, rule_s3, rule_s5
from actorvisor.testing._trace import Entry, Trace
from actorvisor.testing._violations import RuleBroken, Violation

Told: TypeAlias = "tuple[Any, ...]"
"""An entry, short: kind, path, incarnation, detail, and when; the last ones may be left out."""

STOPPED: Final = {"kind": "Stopped", "text": "Stopped()", "failure": False}
COMPLETED: Final = {"kind": "Completed", "text": "Completed()", "failure": False}
CRASHED: Final = {"kind": "Crashed", "text": "Boom()", "failure": True, "exception": "Boom"}
LIMIT: Final = {**CRASHED, "exception": "RestartLimitExceeded"}
GAVE_UP: Final = {"kind": "GaveUp", "text": "GaveUp()", "failure": True}
ABANDONED: Final = {"kind": "Abandoned", "text": "Abandoned()", "failure": True}

SERVICE: Final[dict[str, Any]] = {
    "kind": "service",
    "restart": "permanent",
    "redeliver": 0,
    "overflow": "wait",
    "remote": False,
    "declared": True,
}
RULES: Final[dict[str, Any]] = {
    "strategy": "one_for_one",
    "max_restarts": 3,
    "within": 5.0,
    "on_limit": "end",
    "windows": "one",
    "start": "in_order",
}


def opened(*children: str, **facts: Any) -> Told:
    """A host with a supervisor ``host/s`` of such facts, and services of such names below it."""
    service = {name: facts.pop(name) for name in SERVICE.keys() & facts.keys()}
    tree = {
        "host": {**RULES, "kind": "host", "windows": "each"},
        "host/s": {"kind": "supervisor", "restart": "permanent", "declared": True, "place": 0}
        | {**RULES, **facts},
    }
    for place, name in enumerate(children):
        tree[f"host/s/{name}"] = {**SERVICE, **service, "place": place}
    return ("opened", "host", 1, {"tree": tree})


def closed(**account: int) -> Told:
    names = ("accepted", "handled", "rejected", "withdrawn", "dead_letters", "waiting", "in_hand")
    counted = {name: account.get(name, 0) for name in (*names, "late_replies")}
    detail = {"account": counted, "mailboxes": {}, "running": account.get("running", 0)}
    return ("closed", "host", 1, detail)


def trace_of(*told: Told) -> Trace:
    """A hand-made trace; notifications are numbered, and all of it happens at the time told."""
    entries: list[Entry] = []
    sequence, now = 0, 0.0
    for number, one in enumerate(told, 1):
        kind, path, incarnation = one[:3]
        detail = one[3] if len(one) > 3 else {}
        now = one[4] if len(one) > 4 else now
        if kind in {"starting", "started", "stopping", "exited", "restarting", "ended"}:
            sequence += 1
            detail = {"sequence": sequence, **detail}
        entries.append(Entry(number, now, kind, path, incarnation, detail))
    return Trace({}, tuple(entries))


def up(path: str, incarnation: int = 1) -> tuple[Told, ...]:
    return ("starting", path, incarnation), ("started", path, incarnation)


def crash(path: str, incarnation: int = 1, reason: Any = CRASHED, at: float = 0.0) -> Told:
    return ("exited", path, incarnation, {"reason": reason}, at)


def ended(path: str, incarnation: int = 1, reason: Any = STOPPED) -> Told:
    return ("ended", path, incarnation, {"reason": reason})


def again(path: str, incarnation: int = 1, at: float = 0.0) -> tuple[Told, ...]:
    """A crash, a restart, and up again."""
    return (
        crash(path, incarnation, at=at),
        ("restarting", path, incarnation, {"delay": 0, "attempt": 1}),
        *up(path, incarnation + 1),
    )


def ending(path: str = "host/s", reason: Any = STOPPED) -> Told:
    return ("ending", path, 1, {"reason": reason})


def accepted(number: int, path: str = "host/s/a", **detail: Any) -> Told:
    said = {"message": number, "name": "x", "ask": False, "sender": "", "task": 1, **detail}
    return ("accepted", path, 1, said)


def mail(kind: str, number: int, path: str = "host/s/a", incarnation: int = 1, **more: Any) -> Told:
    return (kind, path, incarnation, {"message": number, "name": "x", **more})


BEGUN: Final = (opened("a"), *up("host/s"), *up("host/s/a"))
PAIR: Final = (*up("host/s"), *up("host/s/a"), *up("host/s/b"))

# What breaks each rule, and the number of the entry that shows it last.
BROKEN: dict[str, tuple[Rule, Sequence[Told], str]] = {
    # --- O4 -------------------------------------------------------------------------------
    "up before it starts": (rule_o4, [("started", "host/a", 1)], "state waiting; found: started"),
    "two exits": (rule_o4, [*up("host/a"), crash("host/a"), crash("host/a")], "state exited"),
    "a restart of what runs": (
        rule_o4,
        [*up("host/a"), ("restarting", "host/a", 1)],
        "state running; found: restarting",
    ),
    "ended while it stops": (
        rule_o4,
        [*up("host/a"), ("stopping", "host/a", 1), ended("host/a")],
        "state stopping; found: ended",
    ),
    "back in the sequence": (
        rule_o4,
        [("starting", "host/a", 1), ("started", "host/a", 1, {"sequence": 1})],
        "notification 2 or a later one; found: number 1",
    ),
    # --- L1 -------------------------------------------------------------------------------
    "an incarnation left out": (
        rule_l1,
        [*up("host/a"), crash("host/a"), ("starting", "host/a", 3)],
        "starting of incarnation 2; found: incarnation 3",
    ),
    "news of an old life": (
        rule_l1,
        [*up("host/a"), crash("host/a"), *up("host/a", 2), ("stopping", "host/a", 1)],
        "stopping of incarnation 2",
    ),
    "a bug of ours": (
        rule_l1,
        [("bug", "host/a", 0, {"state": "running", "event": "due"})],
        "due came in running",
    ),
    # --- L8 -------------------------------------------------------------------------------
    "two lives at a time": (
        rule_l8,
        [*up("host/a"), ("starting", "host/a", 2)],
        "two at a time",
    ),
    "a dead life handles": (
        rule_l8,
        [*BEGUN, accepted(1), *again("host/s/a"), mail("taken", 1)],
        "a message is taken",
    ),
    "a dead life sends": (
        rule_l8,
        [*BEGUN, *again("host/s/a"), accepted(1, sender="host/s/a", life=1)],
        "it sends a message",
    ),
    "a dead life's timer fires": (
        rule_l8,
        [*BEGUN, *again("host/s/a"), accepted(1, exempt="timer", timer=1, task=0)],
        "it sends a message",
    ),
    "a timer of another life": (
        rule_l8,
        [
            *BEGUN,
            accepted(1, exempt="timer", timer=1, task=0),
            *again("host/s/a"),
            mail("taken", 1, incarnation=2),
        ],
        "its message is taken up",
    ),
    # --- S1 -------------------------------------------------------------------------------
    "a permanent child is not restarted": (
        rule_s1,
        [*BEGUN, crash("host/s/a", reason=COMPLETED), ended("host/s/a", reason=COMPLETED)],
        "it is restarted; found: it stays down",
    ),
    "a transient child is restarted after a normal end": (
        rule_s1,
        [
            opened("a", restart="transient"),
            *PAIR[:4],
            crash("host/s/a", reason=COMPLETED),
            ("restarting", "host/s/a", 1),
        ],
        "it stays down; found: it is restarted",
    ),
    "a transient child is not restarted after a crash": (
        rule_s1,
        [opened("a", restart="transient"), *PAIR[:4], crash("host/s/a"), ended("host/s/a")],
        "it is restarted; found: it stays down",
    ),
    "a temporary child is restarted": (
        rule_s1,
        [
            opened("a", restart="temporary"),
            *PAIR[:4],
            crash("host/s/a"),
            ("restarting", "host/s/a", 1),
        ],
        "it stays down; found: it is restarted",
    ),
    "on_crash says stop": (
        rule_s1,
        [
            *BEGUN,
            ("exited", "host/s/a", 1, {"reason": CRASHED, "verdict": "stop"}),
            ("restarting", "host/s/a", 1),
        ],
        "it stays down; found: it is restarted",
    ),
    "restarted after a stop": (
        rule_s1,
        [
            *BEGUN,
            ("asked", "host/s/a", 1, {"what": "stop"}),
            ("told", "host/s/a", 1, {"final": True}),
            crash("host/s/a", reason=STOPPED),
            ("restarting", "host/s/a", 1),
        ],
        "it stays down; found: it is restarted",
    ),
    "one end, two restarts": (
        rule_s1,
        [*BEGUN, *again("host/s/a"), ("restarting", "host/s/a", 2)],
        "each restart is decided once",
    ),
    "a start for no reason": (
        rule_s1,
        [
            opened("a", restart="transient"),
            *PAIR[:4],
            crash("host/s/a", reason=COMPLETED),
            ended("host/s/a"),
            ("starting", "host/s/a", 2),
        ],
        "there is a reason for each start",
    ),
    "a start that failed is retried": (
        rule_s1,
        [
            opened("a", restart="transient"),
            *PAIR[:4],
            crash("host/s/a", reason=COMPLETED),
            ended("host/s/a"),
            ("asked", "host/s/a", 1, {"what": "start"}),
            ("starting", "host/s/a", 2),
            crash("host/s/a", 2),
            ("restarting", "host/s/a", 2),
        ],
        "it stays down, for that start was asked for",
    ),
    "a decline is restarted": (
        rule_s1,
        [
            opened("a"),
            *up("host/s"),
            ("starting", "host/s/a", 1),
            crash("host/s/a", reason=COMPLETED),
            ("restarting", "host/s/a", 1),
        ],
        "it has declined",
    ),
    "an end without a decision": (
        rule_s1,
        [*BEGUN, crash("host/s/a"), ending()],
        "it is restarted after that end, at once",
    ),
    "a restart that was asked for does not come": (
        rule_s1,
        [
            *BEGUN,
            ("asked", "host/s/a", 1, {"what": "restart"}),
            crash("host/s/a", reason=STOPPED),
            ended("host/s/a"),
        ],
        "it is started again",
    ),
    # --- S2 -------------------------------------------------------------------------------
    "one_for_one stops a sibling": (
        rule_s2,
        [opened("a", "b"), *PAIR, crash("host/s/a"), ("told", "host/s/b", 1)],
        "nothing is stopped without a reason",
    ),
    "rest_for_one stops an older one": (
        rule_s2,
        [
            opened("a", "b", strategy="rest_for_one"),
            *PAIR,
            crash("host/s/b"),
            ("told", "host/s/a", 1),
        ],
        "nothing is stopped without a reason",
    ),
    "a group is stopped oldest first": (
        rule_s2,
        [
            opened("a", "b", "c", strategy="one_for_all"),
            *PAIR,
            *up("host/s/c"),
            crash("host/s/c"),
            ("told", "host/s/a", 1),
        ],
        "a group is stopped newest first; found: host/s/b lives",
    ),
    "a group backs off before it is stopped": (
        rule_s2,
        [
            opened("a", "b", strategy="one_for_all"),
            *PAIR,
            crash("host/s/a"),
            ("restarting", "host/s/a", 1),
        ],
        "a group is stopped before it backs off; found: host/s/b lives",
    ),
    "a group starts before it is stopped": (
        rule_s2,
        [
            opened("a", "b", strategy="one_for_all"),
            *PAIR,
            crash("host/s/a"),
            ("starting", "host/s/a", 2),
        ],
        "a group is stopped before it starts; found: host/s/b lives",
    ),
    "a group starts newest first": (
        rule_s2,
        [
            opened("a", "b", strategy="one_for_all"),
            *PAIR,
            crash("host/s/a"),
            ("told", "host/s/b", 1),
            crash("host/s/b", reason=STOPPED),
            ("restarting", "host/s/a", 1),
            ("starting", "host/s/b", 2),
        ],
        "a group starts oldest first; found: host/s/a is down",
    ),
    "one of a group is left down": (
        rule_s2,
        [
            opened("a", "b", strategy="one_for_all"),
            *PAIR,
            crash("host/s/a"),
            ("told", "host/s/b", 1),
            crash("host/s/b", reason=STOPPED),
            ended("host/s/b"),
        ],
        "it is started with its group",
    ),
    # --- S3 -------------------------------------------------------------------------------
    "one restart too many": (
        rule_s3,
        [opened("a", max_restarts=1), *PAIR[:4], *again("host/s/a"), *again("host/s/a", 2)[:2]],
        "may have 1 restarts in 5.0 seconds; found: one more restart",
    ),
    "one restart too many, at the edge of the window": (
        rule_s3,
        [
            opened("a", max_restarts=1),
            *PAIR[:4],
            *again("host/s/a", at=1.0),
            *again("host/s/a", 2, at=6.0)[:2],
        ],
        "one more restart",
    ),
    "the end one restart too early": (
        rule_s3,
        [opened("a", max_restarts=1), *PAIR[:4], crash("host/s/a"), ending(reason=LIMIT)],
        "it ends with fewer restarts: 1",
    ),
    "the end because of what is forgotten": (
        rule_s3,
        [
            opened("a", max_restarts=1),
            *PAIR[:4],
            *again("host/s/a", at=1.0),
            crash("host/s/a", 2, at=6.1),
            ending(reason=LIMIT),
        ],
        "it ends with fewer restarts",
    ),
    "the end because of what a call has cleared": (
        rule_s3,
        [
            opened("a", max_restarts=1),
            *PAIR[:4],
            *again("host/s/a"),
            ("asked", "host/s/a", 2, {"what": "restart"}),
            crash("host/s/a", 2, reason=STOPPED),
            *up("host/s/a", 3),
            crash("host/s/a", 3),
            ending(reason=LIMIT),
        ],
        "it ends with fewer restarts",
    ),
    "it does not give up": (
        rule_s3,
        [
            opened("a", max_restarts=0, on_limit="drop", windows="each"),
            *PAIR[:4],
            *again("host/s/a")[:2],
        ],
        "each child of host/s may have 0 restarts",
    ),
    "it gives up too early": (
        rule_s3,
        [
            opened("a", "b", max_restarts=1, on_limit="drop", windows="each"),
            *PAIR,
            *again("host/s/b"),
            crash("host/s/a"),
            ended("host/s/a", reason=GAVE_UP),
        ],
        "it gives up with fewer restarts",
    ),
    "the limit ends nobody else": (
        rule_s3,
        [opened("a", max_restarts=0), *PAIR[:4], crash("host/s/a"), ended("host/s/a")],
        "that ends its supervisor; found: it ends alone",
    ),
    "the limit is told of another time than the entry's": (
        rule_s3,
        [
            opened("a", max_restarts=1),
            *PAIR[:4],
            *again("host/s/a", at=1.0),
            ("exited", "host/s/a", 2, {"reason": CRASHED, "decided": 5.9}, 6.1),
            ("restarting", "host/s/a", 2),
        ],
        "one more restart",
    ),
    # --- S5 -------------------------------------------------------------------------------
    "the second starts first": (
        rule_s5,
        [opened("a", "b"), *up("host/s"), ("starting", "host/s/b", 1)],
        "children start in the order in which they are declared; found: host/s/a is not up",
    ),
    "two start at a time": (
        rule_s5,
        [
            opened("a", "b", strategy="rest_for_one"),
            *up("host/s"),
            ("starting", "host/s/a", 1),
            ("starting", "host/s/b", 1),
        ],
        "one starts after the other; found: host/s/a is starting",
    ),
    "the oldest stops first": (
        rule_s5,
        [opened("a", "b"), *PAIR, ending(), ("told", "host/s/a", 1)],
        "what is newer is stopped first; found: host/s/b lives",
    ),
    "a start while all stops": (
        rule_s5,
        [*BEGUN, ending(), crash("host/s/a"), ("starting", "host/s/a", 2)],
        "nothing starts under a supervisor that ends",
    ),
    # --- M2 -------------------------------------------------------------------------------
    "out of order": (
        rule_m2,
        [*BEGUN, accepted(1), accepted(2), mail("taken", 2)],
        "message 2 before message 1",
    ),
    "out of order over a restart": (
        rule_m2,
        [
            *BEGUN,
            accepted(1),
            accepted(2),
            mail("taken", 1),
            mail("given-back", 1, place=0, entered=False),
            *again("host/s/a"),
            mail("taken", 2, incarnation=2),
        ],
        "message 2 before message 1",
    ),
    "a key's messages out of order": (
        rule_m2,
        [
            opened("a"),
            accepted(1, lane=0),
            accepted(2, lane=1),
            accepted(3, lane=1),
            mail("handed-over", 3, "host/s/a/1"),
        ],
        "message 3 before message 2",
    ),
    # --- M4 -------------------------------------------------------------------------------
    "what comes back goes behind": (
        rule_m4,
        [
            *BEGUN,
            accepted(1),
            accepted(2, task=2),
            mail("taken", 1),
            mail("given-back", 1, place=0, entered=True),
            *again("host/s/a"),
            mail("taken", 2, incarnation=2),
        ],
        "message 2 before message 1",
    ),
    "what comes back is out of order": (
        rule_m4,
        [
            *BEGUN,
            accepted(1),
            accepted(2, task=2),
            mail("given-back", 1, place=0, entered=False),
            mail("given-back", 2, place=1, entered=False),
            mail("taken", 2),
        ],
        "message 2 before message 1",
    ),
    "mail is lost at a crash": (
        rule_m4,
        [
            *BEGUN,
            accepted(1),
            ("told", "host/s/a", 1),
            mail("dead-letter", 1),
            *again("host/s/a")[:3],
        ],
        "is kept, as long as that has not ended for good",
    ),
    "mail is lost, and its receiver never ends": (
        rule_m4,
        [*BEGUN, accepted(1), accepted(2), mail("dead-letter", 1), closed()],
        "dead letters: 1",
    ),
    # --- M5 -------------------------------------------------------------------------------
    "the message in hand is forgotten": (
        rule_m5,
        [*BEGUN, accepted(1), mail("taken", 1), crash("host/s/a")],
        "message 1 is in hand still",
    ),
    "it is handled again": (
        rule_m5,
        [
            *BEGUN,
            accepted(1),
            mail("taken", 1),
            mail("given-back", 1, place=0, entered=True, reason=CRASHED, final=False),
        ],
        "at most 0 times; found: once more after 0 times",
    ),
    "it is handled once too often": (
        rule_m5,
        [
            opened("a", redeliver=1),
            accepted(1),
            mail("taken", 1),
            mail("given-back", 1, place=0, entered=True, reason=CRASHED, final=False),
            mail("taken", 1, incarnation=2),
            mail("given-back", 1, incarnation=2, entered=True, reason=CRASHED, final=False),
        ],
        "at most 1 times; found: once more after 1 times",
    ),
    "it is not handled again": (
        rule_m5,
        [
            opened("a", redeliver=1),
            accepted(1),
            mail("taken", 1),
            mail("dead-letter", 1, reason=CRASHED, final=False),
        ],
        "is handled again 1 times; found: a dead letter after 0 times",
    ),
    "what a thread may still handle is handled again": (
        rule_m5,
        [
            opened("a", redeliver=1),
            accepted(1),
            mail("taken", 1),
            mail("given-back", 1, entered=True, reason=ABANDONED, final=False),
        ],
        "is not given back",
    ),
    "cut off by a stop for good that nobody told of": (
        rule_m5,
        [
            opened("a", redeliver=1),
            accepted(1),
            mail("taken", 1),
            ("told", "host/s/a", 1, {"final": False}),
            mail("dead-letter", 1, reason=STOPPED, final=True),
        ],
        "nobody told so",
    ),
    # --- M6 -------------------------------------------------------------------------------
    "mail is left behind": (
        rule_m6,
        [*BEGUN, accepted(1), ended("host/s/a")],
        "message 1 waits",
    ),
    "the last message is left behind": (
        rule_m6,
        [*BEGUN, accepted(1), mail("taken", 1), ended("host/s/a")],
        "message 1 is in hand",
    ),
    # --- M7 -------------------------------------------------------------------------------
    "accepted twice": (rule_m7, [accepted(1), accepted(1)], "it is accepted again"),
    "handled from nowhere": (rule_m7, [mail("taken", 1)], "is accepted before"),
    "taken twice": (
        rule_m7,
        [accepted(1), mail("taken", 1), mail("taken", 1)],
        "it is taken, and was taken",
    ),
    "handled twice": (
        rule_m7,
        [accepted(1), mail("taken", 1), mail("handled", 1), mail("handled", 1)],
        "message 1 ends once; found: it is handled, and was handled",
    ),
    "handled without being taken up": (
        rule_m7,
        [accepted(1), mail("handled", 1)],
        "it is handled, and was accepted",
    ),
    "one that the host has lost": (
        rule_m7,
        [accepted(1), mail("taken", 1), mail("handled", 1), closed(accepted=1)],
        "the host has counted 1 handled, as many as there were; found: 0",
    ),
    "a sum that is wrong": (
        rule_m7,
        [accepted(1), closed(accepted=1)],
        "accepted = handled + rejected",
    ),
    # --- M8 -------------------------------------------------------------------------------
    "taken back when it was in hand": (
        rule_m8,
        [accepted(1, ask=True), mail("taken", 1), mail("withdrawn", 1)],
        "it is in hand",
    ),
    "a tell is taken back": (rule_m8, [accepted(1), mail("withdrawn", 1)], "message 1 is a tell"),
    # --- H1 -------------------------------------------------------------------------------
    "an actor outlives its host": (rule_h1, [*BEGUN, closed()], "found: started"),
    "something runs on": (rule_h1, [closed(running=1)], "no actors that run; found: 1"),
    "something waits on": (rule_h1, [closed(waiting=2)], "no messages that wait; found: 2"),
    "something is in hand": (rule_h1, [closed(in_hand=1)], "no messages in hand; found: 1"),
    "a message after the end": (rule_h1, [closed(), accepted(1)], "found: accepted"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_trace_that_breaks_a_rule_is_found(name: str) -> None:
    # T4
    rule, told, found = BROKEN[name]
    trace = trace_of(*told)
    violations = list(rule(trace))
    assert violations, name
    assert found in str(violations[0])
    assert {one.rule for one in violations} == {rule.__name__.removeprefix("rule_").upper()}
    assert violations[0].entries
    assert set(map(id, violations[0].entries)) <= set(map(id, trace))


@pytest.mark.parametrize("name", BROKEN)
def test_what_broke_a_rule_is_what_its_last_entry_tells(name: str) -> None:
    """None of them is found before: what leads to it is legal."""
    rule, told, _ = BROKEN[name]
    assert not list(rule(trace_of(*told[:-1])))


def test_each_rule_is_broken_by_something() -> None:
    assert {rule for rule, _, _ in BROKEN.values()} == set(ALL)
    assert all(rule.__doc__ and "Checked" in rule.__doc__ for rule in ALL)


# --- what is right ------------------------------------------------------------------------

RIGHT: dict[str, Sequence[Told]] = {
    "a restart": [*BEGUN, *again("host/s/a")],
    "a restart outside of the window": [
        opened("a", max_restarts=1),
        *PAIR[:4],
        *again("host/s/a", at=1.0),
        *again("host/s/a", 2, at=6.01),
    ],
    "as many restarts as there may be": [
        opened("a", max_restarts=2),
        *PAIR[:4],
        *again("host/s/a", at=1.0),
        *again("host/s/a", 2, at=6.0),
        crash("host/s/a", 3, at=6.0),
        ending(reason=LIMIT),
    ],
    "a group restart": [
        opened("a", "b", strategy="one_for_all"),
        *PAIR,
        crash("host/s/a"),
        ("told", "host/s/b", 1, {"final": False}),
        crash("host/s/b", reason=STOPPED),
        ("restarting", "host/s/a", 1),
        *up("host/s/a", 2),
        *up("host/s/b", 2),
    ],
    "what rest_for_one leaves alone": [
        opened("a", "b", strategy="rest_for_one"),
        *PAIR,
        *again("host/s/b"),
    ],
    "one is left down when a group comes to nothing": [
        opened("a", "b", strategy="one_for_all"),
        *PAIR,
        crash("host/s/a"),
        ("told", "host/s/b", 1, {"final": False}),
        ("asked", "host/s/a", 1, {"what": "stop"}),
        ended("host/s/a"),
        crash("host/s/b", reason=STOPPED),
        ended("host/s/b"),
    ],
    "an executor takes down two": [
        opened("a", "b", max_restarts=1),
        *PAIR,
        ("lost", "host/s", 0, {"actors": ["host/s/a", "host/s/b"], "reason": CRASHED}),
        crash("host/s/a"),
        crash("host/s/b"),
        ("restarting", "host/s/a", 1),
        ("starting", "host/s/a", 2),
        ("restarting", "host/s/b", 1),
        ("starting", "host/s/b", 2),
    ],
    "the limit, when an executor takes down two": [
        opened("a", "b", max_restarts=0),
        *PAIR,
        ("lost", "host/s", 0, {"actors": ["host/s/a", "host/s/b"], "reason": CRASHED}),
        crash("host/s/a"),
        crash("host/s/b"),
        ending(reason=LIMIT),
    ],
    "a call that was refused": [
        *BEGUN,
        *again("host/s/a"),
        ("asked", "host/s/a", 2, {"what": "stop", "refused": "no such child"}),
        *again("host/s/a", 2),
    ],
    "what is started at run time stops together": [
        opened(),
        *up("host/s"),
        ("declared", "host/s/x", 0, {**SERVICE, "declared": False}),
        *up("host/s/x"),
        ("declared", "host/s/y", 0, {**SERVICE, "declared": False}),
        *up("host/s/y"),
        ending(),
        ("told", "host/s/y", 1, {"final": True}),
        ("told", "host/s/x", 1, {"final": True}),
    ],
    "another identity of the same name": [
        opened("a", restart="temporary"),
        *PAIR[:4],
        crash("host/s/a"),
        ended("host/s/a", reason=CRASHED),
        ("declared", "host/s/a", 0, {**SERVICE, "declared": False}),
        *up("host/s/a"),
    ],
    "two tasks, and a second try": [
        opened("a", redeliver=1),
        *PAIR[:4],
        accepted(1),
        accepted(2, task=2),
        mail("taken", 1),
        mail("given-back", 1, place=0, entered=True, reason=CRASHED, final=False),
        *again("host/s/a"),
        mail("taken", 1, incarnation=2),
        mail("handled", 1, incarnation=2),
        mail("taken", 2, incarnation=2),
    ],
    "what is withdrawn between two tries": [
        opened("a", redeliver=1),
        *PAIR[:4],
        accepted(1, ask=True),
        mail("taken", 1),
        mail("given-back", 1, place=0, entered=True, reason=CRASHED, final=False),
        mail("withdrawn", 1),
    ],
    "what an abandoned thread waited to send": [
        *BEGUN,
        crash("host/s/a", reason=ABANDONED),
        ("restarting", "host/s/a", 1),
        accepted(1, sender="host/s/a", life=1),
    ],
    "a refused message": [*BEGUN, accepted(1), mail("dead-letter", 1), *again("host/s/a")],
    "no more than its beginning": [opened("a"), ("starting", "host/s", 1)],
    "nothing": [],
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_trace_that_keeps_the_rules_passes(name: str) -> None:
    check(trace_of(*RIGHT[name]))


# --- the call -----------------------------------------------------------------------------


def test_all_that_is_broken_is_in_one_error() -> None:
    # T4
    trace = trace_of(*BEGUN, accepted(1), crash("host/s/a"), ended("host/s/a"), closed())
    with pytest.raises(RuleBroken) as caught:
        check(trace)
    rules = [one.rule for one in caught.value.violations]
    assert set(rules) == {"S1", "M6", "M7", "H1"}
    assert caught.value.rule == rules[0]
    text = str(caught.value)
    assert text.count("is broken:") == len(rules)
    assert "host/s/a#1" in text
    assert isinstance(caught.value, AssertionError)


def test_rules_of_ones_own() -> None:
    # T4
    def at_most_one_ask(trace: Trace) -> Iterator[Violation]:
        asks = [one for one in trace.kinds("accepted") if one.detail["ask"]]
        if len(asks) > 1:
            yield Violation("asks", "at most one ask", f"{len(asks)}", tuple(asks))

    trace = trace_of(accepted(1, ask=True), accepted(2, ask=True))
    check(trace)
    with pytest.raises(RuleBroken, match="asks is broken: at most one ask; found: 2"):
        check(trace, (*ALL, at_most_one_ask))
    check(trace, ())


def test_many_violations_are_told_in_bounded_text() -> None:
    def every(trace: Trace) -> Iterator[Violation]:
        return (Violation("X", "nothing", "something", (one,)) for one in trace)

    with pytest.raises(RuleBroken) as caught:
        check(trace_of(*(accepted(number) for number in range(1, 31))), [every])
    assert len(caught.value.violations) == 30
    assert str(caught.value).endswith("and 20 more")


def test_what_is_no_trace_and_what_is_no_rule() -> None:
    wrong: Any
    for wrong in (None, [], "host"):
        with pytest.raises(TypeError, match="takes a Trace"):
            check(wrong)
    for wrong in ([None], [lambda _: [1]]):
        with pytest.raises(TypeError, match="rule"):
            check(trace_of(), wrong)
