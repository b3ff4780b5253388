"""What all supervisors of a trace know, entry by entry (S1-S3, S5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ._ledger import Facts, Kid, Ledger, place_of

if TYPE_CHECKING:
    from ._trace import Entry, Json, Trace

_STATES: Mapping[str, str] = {
    "starting": "starting",
    "started": "running",
    "stopping": "stopping",
    "exited": "exited",
    "restarting": "backing_off",
    "ended": "over",
}


class Ledgers:
    """The supervisors of all hosts of a trace.

    Attributes:
        all: each, by its path.
    """

    def __init__(self) -> None:
        self.all: dict[str, Ledger] = {}

    def above(self, path: str) -> Ledger | None:
        """The supervisor of an actor, if it is known."""
        return self.all.get(path.rpartition("/")[0])

    def kid(self, path: str) -> Kid | None:
        """An actor, as its supervisor's child, if it is known."""
        above = self.above(path)
        return None if above is None else above.kids.get(path)

    def _declare(self, path: str, facts: Mapping[str, Json]) -> None:
        if facts.get("kind") != "service":
            self.all[path] = Ledger(path, facts)
        above = self.above(path)
        if above is not None:
            above.adopt(Kid(path, facts))

    def take(self, entry: Entry) -> None:
        """Change the facts as an entry says."""
        detail: Mapping[str, Any] = entry.detail
        path = entry.path
        match entry.kind:
            case "opened":
                tree = sorted(detail["tree"].items(), key=lambda one: _turn(*one))
                for one, facts in tree:
                    self._declare(one, facts)
                self.all[path].begin()
                return
            case "declared":
                self._declare(path, detail)
                return
            case "ending":
                if path in self.all:
                    self.all[path].end()
                return
            case "lost":
                if path in self.all:
                    ledger = self.all[path]
                    lost = [ledger.kids[one] for one in detail["actors"] if one in ledger.kids]
                    ledger.lose(lost, detail["reason"], _when(entry))
                return
            case _:
                pass
        above, kid = self.above(path), self.kid(path)
        if above is not None and kid is not None:
            self._take_of(above, kid, entry, detail)
        if path in self.all and entry.kind == "starting":
            self.all[path].begin()
        elif path in self.all and entry.kind == "exited":
            self.all[path].phase = "down"

    def _take_of(self, above: Ledger, kid: Kid, entry: Entry, detail: Mapping[str, Any]) -> None:
        match entry.kind:
            case "asked":
                if "refused" not in detail:
                    above.ask(kid, detail["what"], bool(detail.get("rolls")))
            case "told":
                kid.told = True
            case "bug":
                kid.bug = True
            case "starting":
                above.start(kid)
                kid.incarnation = entry.incarnation
                above.lost.discard(kid.path)
            case "started":
                above.came_up(kid)
            case "restarting":
                kid.due = None
            case "exited":
                kid.exit = entry
                if kid.path not in above.lost:
                    above.exit(kid, detail["reason"], detail.get("verdict"), _when(entry))
            case "ended":
                above.over(kid)
            case _:
                pass
        if entry.kind in _STATES:
            kid.state = _STATES[entry.kind]
            kid.last = entry


def _turn(path: str, facts: Facts) -> tuple[int, float]:
    """Who is above comes first, then who is older."""
    return path.count("/"), place_of(facts)


def _when(entry: Entry) -> float:
    """When a decision was taken: not quite when it was told, on a real clock."""
    decided: Any = entry.detail.get("decided", entry.time)
    return float(decided)


_TELLING: frozenset[str] = frozenset(
    {*_STATES, "opened", "declared", "ending", "lost", "asked", "told", "bug"}
)


def read_along(trace: Trace) -> Iterator[tuple[Entry, Ledgers]]:
    """Each entry that is about supervision, with what was known just before it."""
    ledgers = Ledgers()
    for entry in trace:
        if entry.kind in _TELLING:
            yield entry, ledgers
            ledgers.take(entry)
