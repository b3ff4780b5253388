"""The rules of supervision, as functions over a trace (S1, S2, S3, S5)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from ._ledgers import read_along
from ._violations import Violation

if TYPE_CHECKING:
    from ._ledger import Due, Kid, Ledger
    from ._trace import Entry, Trace

LIMIT: Final = "RestartLimitExceeded"

# What an observer may see after an end, in words.
_FOLLOWS: Final[dict[Due, str]] = {
    "restart": "it is restarted",
    "restart too": "it is restarted",
    "over": "it stays down",
    "declined": "it stays down, for it has declined",
    "failed start": "it stays down, for that start was asked for",
    "no start": "it stays down, for its supervisor's own start has failed",
    "stopped": "it stays down",
    "left down": "it stays down",
    "gave up": "it gives up",
}
_STAYS_DOWN: Final = frozenset(
    {"over", "declined", "failed start", "no start", "stopped", "left down", "gave up"}
)


def rule_s1(trace: Trace) -> Iterator[Violation]:
    """S1: whether a child is restarted follows from its restart type, and from an end of its own.

    Checked: after an end that nobody asked for, the next notification of that child is
    ``restarting`` if its restart type, the end's reason and ``on_crash`` say so, else ``ended``;
    and every ``restarting``, and every ``starting``, has a reason: the supervisor's own start, a
    call, a group restart, or one such end of the incarnation before, which counts once.
    """
    for entry, ledgers in read_along(trace):
        if entry.kind == "ending" and entry.path in ledgers.all:
            ledger = ledgers.all[entry.path]
            if not ledger.ordered:
                for kid in ledger.kids.values():
                    if kid.due == "restart" and kid.exit is not None:
                        expected = f"{_FOLLOWS[kid.due]} after that end, at once"
                        yield _violation("S1", expected, "its supervisor ends", kid, entry)
        ledger_above, kid_found = ledgers.above(entry.path), ledgers.kid(entry.path)
        if ledger_above is None or kid_found is None:
            continue
        yield from _judge_next(ledger_above, kid_found, entry)


def _judge_next(ledger: Ledger, kid: Kid, entry: Entry) -> Iterator[Violation]:
    due = kid.due
    match entry.kind:
        case "restarting":
            if due is None:
                expected = "each restart is decided once, after an end of that incarnation"
                yield _violation("S1", expected, "one more decision", kid, entry)
            elif due in _STAYS_DOWN and due != "gave up":
                yield _violation("S1", _FOLLOWS[due], "it is restarted", kid, entry)
            elif due in {"waits", "again"} and not ledger.ordered:
                yield _violation("S1", f"it {due}", "a restart decision", kid, entry)
        case "starting":
            if due in _STAYS_DOWN and not kid.starters and due != "gave up":
                yield _violation("S1", _FOLLOWS[due], "it is started", kid, entry)
            elif due == "restart" and not (ledger.ordered or kid.starters):
                yield _violation("S1", "a restart is told before", "it is started", kid, entry)
            elif not (
                kid.initial or kid.starters or kid.doomed or kid.restarting or due is not None
            ):
                expected = "there is a reason for each start"
                yield _violation("S1", expected, "it is started", kid, entry)
        case "ended":
            if due in {"restart", "restart too"}:
                yield _violation("S1", _FOLLOWS[due], "it stays down", kid, entry)
            elif due == "again":
                expected = "it is started again, for somebody asked for that"
                yield _violation("S1", expected, "it stays down", kid, entry)
        case _:
            pass


def rule_s2(trace: Trace) -> Iterator[Violation]:
    """S2: the strategy says who is stopped and started with a child that is restarted.

    Checked: an incarnation is told to stop only for a reason (a call, its supervisor's end, a
    group restart that concerns it); of a group, newest first, each after the newer ones have
    exited; the group backs off and starts only when none of it is left; it starts oldest first;
    and none of it ends for good, but for temporary children, those that had completed, and those
    that were stopped by request.
    """
    for entry, ledgers in read_along(trace):
        ledger, kid = ledgers.above(entry.path), ledgers.kid(entry.path)
        if ledger is None or kid is None:
            continue
        match entry.kind:
            case "told" if not kid.told:
                yield from _judge_told(ledger, kid, entry)
            case "restarting" if ledger.ordered and kid.due == "restart":
                for left in ledger.doomed():
                    expected = "a group is stopped before it backs off"
                    yield _violation("S2", expected, f"{left.path} lives", kid, entry)
            case "starting" if kid.doomed:
                for left in ledger.doomed():
                    expected = "a group is stopped before it starts"
                    yield _violation("S2", expected, f"{left.path} lives", kid, entry)
                for late in ledger.older(kid):
                    if late.doomed or late.initial:
                        expected = "a group starts oldest first"
                        yield _violation("S2", expected, f"{late.path} is down", kid, entry)
            case "ended" if kid.due == "waits" and ledger.phase == "on":
                expected = "it is started with its group"
                yield _violation("S2", expected, "it stays down", kid, entry)
            case _:
                pass


def _judge_told(ledger: Ledger, kid: Kid, entry: Entry) -> Iterator[Violation]:
    wanted = kid.wanted_down or kid.wanted_again or kid.bug
    if not (wanted or kid.doomed or ledger.phase == "ending"):
        expected = "nothing is stopped without a reason"
        yield _violation("S2", expected, "it is told to stop", kid, entry)
    elif kid.doomed and not wanted and ledger.phase == "on":
        for newer in ledger.newer(kid):
            if newer.alive and newer.doomed:
                expected = "a group is stopped newest first"
                yield _violation("S2", expected, f"{newer.path} lives", kid, entry)


def rule_s3(trace: Trace) -> Iterator[Violation]:
    """S3: more than ``max_restarts`` restart decisions within ``within`` seconds are too many.

    Checked: decisions are counted by their time; those older than ``within`` are forgotten, those
    of a child with a call that starts it; a group's is one; of a host, and with
    ``on_limit="drop"``, each child has a window of its own. With one too many the supervisor ends
    with `RestartLimitExceeded`, or the child gives up; and neither happens before.
    """
    for entry, ledgers in read_along(trace):
        if entry.kind == "ending" and entry.path in ledgers.all:
            ledger = ledgers.all[entry.path]
            causes = [kid for kid in ledger.kids.values() if kid.due is not None]
            if _exception(entry) == LIMIT and not any(
                kid.due in {"limit", "no start", "escalate"} for kid in causes
            ):
                expected = _window_of(ledger)
                found = f"it ends with fewer restarts: {len(ledger.notes)}"
                yield Violation("S3", expected, found, (*_exits(causes), entry))
            continue
        ledger_above, kid = ledgers.above(entry.path), ledgers.kid(entry.path)
        if ledger_above is None or kid is None:
            continue
        if entry.kind in {"restarting", "starting"} and kid.due in {"limit", "gave up"}:
            if kid.starters and entry.kind == "starting":
                continue
            yield _violation("S3", _window_of(ledger_above), "one more restart", kid, entry)
        elif entry.kind == "ended" and ledger_above.phase == "on":
            gave_up = _reason(entry).get("kind") == "GaveUp"
            if gave_up and kid.due != "gave up":
                found = "it gives up with fewer restarts"
                yield _violation("S3", _window_of(ledger_above), found, kid, entry)
            elif kid.due == "gave up" and not gave_up:
                yield _violation("S3", "it gives up", "another end", kid, entry)
            elif kid.due == "limit":
                expected = f"{_window_of(ledger_above)}, and that ends its supervisor"
                yield _violation("S3", expected, "it ends alone", kid, entry)


def rule_s5(trace: Trace) -> Iterator[Violation]:
    """S5: starts are in the order of declaration, stops in the reverse order.

    Checked: a declared child begins when those before it are up (but with ``start="together"``);
    under one_for_all and rest_for_one no two start at a time; what stops with its supervisor is
    told newest first, each after the newer ones have exited (but children that were started at
    run time under one_for_one, and a pool's members, which stop together); and once a supervisor
    ends, nothing under it starts.
    """
    for entry, ledgers in read_along(trace):
        ledger, kid = ledgers.above(entry.path), ledgers.kid(entry.path)
        if ledger is None or kid is None:
            continue
        if entry.kind == "starting":
            yield from _judge_start(ledger, kid, entry)
        elif entry.kind == "told" and ledger.phase == "ending" and not kid.told:
            if kid.wanted_down or ledger.is_pool:
                continue
            for newer in ledger.newer(kid):
                together = not (ledger.ordered or kid.declared or newer.declared)
                if newer.alive and not together:
                    expected = "what is newer is stopped first"
                    yield _violation("S5", expected, f"{newer.path} lives", kid, entry)


def _judge_start(ledger: Ledger, kid: Kid, entry: Entry) -> Iterator[Violation]:
    if ledger.phase != "on" and kid.path not in ledger.lost:
        expected = "nothing starts under a supervisor that ends"
        yield _violation("S5", expected, "it is started", kid, entry)
    elif ledger.ordered:
        for other in ledger.kids.values():
            if other.state == "starting" and other is not kid:
                expected = "one starts after the other"
                yield _violation("S5", expected, f"{other.path} is starting", kid, entry)
    elif kid.initial and ledger.facts.get("start") == "in_order" and not kid.starters:
        for older in ledger.older(kid):
            if older.initial:
                expected = "children start in the order in which they are declared"
                yield _violation("S5", expected, f"{older.path} is not up", kid, entry)


# --- in words -----------------------------------------------------------------------------


def _violation(rule: str, expected: str, found: str, kid: Kid, entry: Entry) -> Violation:
    entries = (entry,) if kid.exit is None else (kid.exit, entry)
    return Violation(rule, f"{kid.path}: {expected}", found, entries)


def _exits(kids: list[Kid]) -> tuple[Entry, ...]:
    return tuple(kid.exit for kid in kids if kid.exit is not None)


def _window_of(ledger: Ledger) -> str:
    facts: Any = ledger.facts
    whose = "each child of " if facts.get("windows") == "each" else ""
    return (
        f"{whose}{ledger.path} may have {facts.get('max_restarts')} restarts "
        f"in {facts.get('within')} seconds"
    )


def _reason(entry: Entry) -> dict[str, Any]:
    reason: Any = entry.detail.get("reason")
    return dict(reason or {})


def _exception(entry: Entry) -> str | None:
    exception: str | None = _reason(entry).get("exception")
    return exception
