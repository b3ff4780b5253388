"""Traces: what happened in a run, entry by entry; written as JSON lines, read back, compared (T4)."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Final, TypeAlias, final

from .._core._describe import describe, shorten
from .._errors import ActorvisorError

Json: TypeAlias = "str | int | float | bool | Sequence[Json] | Mapping[str, Json] | None"

FORMAT: Final = 1
"""The version of what is written; one that is read has to be of the same."""

BEFORE: Final = 3
"""Entries that two traces have in common, which are shown before the first that differs."""


class TraceError(ActorvisorError):
    """A file is no trace that can be read.

    Attributes:
        file: which one.
        line: the line that is wrong, counted from 1.
        what: what is wrong with it.
        remedy: what to do.
    """

    def __init__(self, file: str, line: int, what: str, remedy: str) -> None:
        super().__init__(file, line, what, remedy)
        self.file = file
        self.line = line
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.what}; {self.remedy}"


@final
@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened.

    Attributes:
        number: its place in the trace, counted from 1.
        time: by the clock of its run, in seconds.
        kind: what happened: ``starting``, ``accepted`` and so on.
        path: to which actor; of a second host that is recorded together with a first, it begins
            with ``host-2``.
        incarnation: in which of its lives, counted from 1; 0: before the first.
        detail: more about it, by name; JSON values.
    """

    number: int
    time: float
    kind: str
    path: str
    incarnation: int
    detail: Mapping[str, Json] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if type(self.number) is not int or self.number < 1:
            raise ValueError(f"an entry's number counts from 1, and is not {self.number!r}")
        if not (_is_number(self.time) and math.isfinite(self.time)):
            raise ValueError(f"an entry's time must be seconds, not {self.time!r}")
        if self.kind == "" or not isinstance(self.kind, str):
            raise ValueError(f"an entry's kind must be a word, not {self.kind!r}")
        if not isinstance(self.path, str):
            raise TypeError(f"an entry's path must be a string, not {self.path!r}")
        if type(self.incarnation) is not int or self.incarnation < 0:
            raise ValueError(f"an entry's incarnation is none: {self.incarnation!r}")
        if not isinstance(self.detail, Mapping):
            raise TypeError(f"an entry's detail must be a mapping, not {self.detail!r}")

    def __str__(self) -> str:
        return (
            f"{self.number:>5}  {self.time:>11.6f}  {self.kind:<11}  "
            f"{self.path}#{self.incarnation}  {_told(self.detail)}"
        ).rstrip()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@final
@dataclass(frozen=True, slots=True)
class TraceDifference:
    """Where two traces begin to differ.

    Attributes:
        number: of the first entry that differs.
        mine: that entry in the one trace; None: it has ended.
        other: that entry in the other one; None: it has ended.
        before: the last entries that both have.
    """

    number: int
    mine: Entry | None
    other: Entry | None
    before: tuple[Entry, ...] = ()

    def __str__(self) -> str:
        lines = [
            f"the traces differ from entry {self.number} on",
            *(f"  {one}" for one in self.before),
        ]
        lines.append(f"- {'it has ended' if self.mine is None else self.mine}")
        lines.append(f"+ {'it has ended' if self.other is None else self.other}")
        return "\n".join(lines)


@final
@dataclass(frozen=True, slots=True, repr=False)
class Trace:
    """What happened in a run; ``str()`` of it is a table to read.

    Attributes:
        header: what it is a trace of: versions, seed, schedule, faults; JSON values by name.
        entries: all that happened, in order.
    """

    header: Mapping[str, Json] = field(hash=False)
    entries: tuple[Entry, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.header, Mapping):
            raise TypeError(f"a trace's header must be a mapping, not {describe(self.header)}")
        object.__setattr__(self, "entries", tuple(self.entries))
        for number, entry in enumerate(self.entries, 1):
            if not isinstance(entry, Entry):
                raise TypeError(f"a trace is made of entries, not of {describe(entry)}")
            if entry.number != number:
                raise ValueError(f"entry {entry.number} of a trace stands in place {number}")

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __repr__(self) -> str:
        return f"<Trace of {len(self.entries)} entries>"

    def __str__(self) -> str:
        facts = ", ".join(f"{name} {_value(value)}" for name, value in self.header.items())
        kinds = max((len(one.kind) for one in self.entries), default=0)
        actors = [f"{one.path}#{one.incarnation}" for one in self.entries]
        width = max(map(len, actors), default=0)
        lines = [f"{len(self.entries)} entries" + (f"; {facts}" if facts else "")]
        for one, actor in zip(self.entries, actors, strict=True):
            told = _told(one.detail)
            line = (
                f"{one.number:>5}  {one.time:>11.6f}  {one.kind:<{kinds}}  {actor:<{width}}  {told}"
            )
            lines.append(line.rstrip())
        return "\n".join(lines)

    # --- parts of it ----------------------------------------------------------------------

    def of(self, path: str) -> tuple[Entry, ...]:
        """The entries of one actor."""
        return tuple(one for one in self.entries if one.path == path)

    def kinds(self, *kinds: str) -> tuple[Entry, ...]:
        """The entries of some kinds."""
        return tuple(one for one in self.entries if one.kind in kinds)

    def message(self, number: int) -> tuple[Entry, ...]:
        """What became of one message, from ``accepted`` on."""
        return tuple(one for one in self.entries if one.detail.get("message") == number)

    def difference(self, other: Trace) -> TraceDifference | None:
        """The first entry that another trace has not, or has otherwise; None if there is none.

        What their headers say does not count.
        """
        pairs = enumerate(zip_longest(self.entries, other.entries))
        for index, (mine, theirs) in pairs:
            if mine != theirs:
                before = self.entries[max(index - BEFORE, 0) : index]
                return TraceDifference(index + 1, mine, theirs, before)
        return None

    # --- as lines -------------------------------------------------------------------------

    def to_lines(self) -> Iterator[str]:
        """It as lines of JSON: the header, each entry, and how many there are.

        The same trace is the same lines, byte for byte. Each ends with a line end.

        Raises:
            TypeError: its header, or an entry's detail, holds what is no JSON value.
        """
        yield _line({"trace": FORMAT, "header": self.header})
        for one in self.entries:
            yield _line(
                {
                    "number": one.number,
                    "time": float(one.time),
                    "kind": one.kind,
                    "path": one.path,
                    "incarnation": one.incarnation,
                    "detail": one.detail,
                }
            )
        yield _line({"entries": len(self.entries)})

    @classmethod
    def from_lines(cls, lines: Iterable[str], file: str = "these lines") -> Trace:
        """Make a trace of the lines that one was written as.

        Args:
            lines: the lines.
            file: where they come from, for errors.

        Raises:
            TraceError: they are no trace, one of another version, or not all of it.
        """
        return _Reader(file).read(lines)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file, in UTF-8; what was in there is gone.

        Raises:
            OSError: the file cannot be written.
        """
        lines = list(self.to_lines())
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            file.writelines(lines)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Trace:
        """Read one from a file.

        Raises:
            OSError: the file cannot be read.
            TraceError: it is no trace, one of another version, or not all of it.
        """
        name = os.fspath(path)
        # What is no text is no JSON either: that is said by line.
        with open(path, encoding="utf-8", errors="replace", newline="\n") as file:
            return cls.from_lines(file, str(name))


def _line(value: Mapping[str, object]) -> str:
    return (
        json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_plain)
        + "\n"
    )


def _plain(value: object) -> object:
    """A mapping that is no dict, as one."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{describe(value)} in a trace is no JSON value")


class _Reader:
    """Reads the lines of one file.

    Attributes:
        file: where they come from.
    """

    def __init__(self, file: str) -> None:
        self.file = file

    def read(self, lines: Iterable[str]) -> Trace:
        """The whole trace."""
        rest = enumerate(lines, 1)
        header = self._header(next(rest, (1, ""))[1])
        entries: list[Entry] = []
        number = 1
        for number, line in rest:
            data = self._json(number, line)
            if "entries" in data:
                self._end(number, data, len(entries))
                for after, _ in rest:
                    raise self._error(after, "something follows the end of the trace", _AGAIN)
                return Trace(header, tuple(entries))
            entries.append(self._entry(number, data, len(entries) + 1))
        raise self._error(number, f"it is cut short, after {len(entries)} entries", _AGAIN)

    def _error(self, line: int, what: str, remedy: str) -> TraceError:
        return TraceError(self.file, line, what, remedy)

    def _json(self, number: int, line: str) -> dict[str, Any]:
        try:
            data = json.loads(line)
        except ValueError:
            if not line.endswith("\n"):
                raise self._error(number, "it is cut short, within this line", _AGAIN) from None
            raise self._error(number, f"{describe(line, 60)} is no JSON", _AGAIN) from None
        if not isinstance(data, dict):
            raise self._error(number, f"{describe(data, 60)} is no entry of a trace", _AGAIN)
        return data

    def _header(self, line: str) -> Mapping[str, Json]:
        try:
            data = json.loads(line)
        except ValueError:
            data = None
        if not isinstance(data, dict) or "trace" not in data:
            raise self._error(1, "it is no trace", "name a file that Trace.write() has written")
        header = data.get("header")
        if data["trace"] != FORMAT or not isinstance(header, dict):
            made_by = header.get("actorvisor") if isinstance(header, dict) else None
            by = f", written by actorvisor {made_by}" if made_by else ""
            raise self._error(
                1,
                f"it is of version {describe(data['trace'], 20)}{by}, and this actorvisor reads "
                f"version {FORMAT}",
                "read it with the actorvisor that wrote it, or record it again",
            )
        return header

    def _entry(self, number: int, data: dict[str, Any], place: int) -> Entry:
        try:
            entry = Entry(**data)
        except (TypeError, ValueError) as error:
            raise self._error(number, f"it is no entry of a trace: {error}", _AGAIN) from None
        if entry.number != place:
            raise self._error(number, f"entry {place} is missing", _AGAIN)
        return entry

    def _end(self, number: int, data: dict[str, Any], count: int) -> None:
        if data["entries"] != count:
            what = f"it says that there are {data['entries']} entries, and there are {count}"
            raise self._error(number, what, _AGAIN)


_AGAIN: Final = "record it again: nothing can be said of a part of it"


# --- for people ---------------------------------------------------------------------------


def _told(detail: Mapping[str, Json]) -> str:
    """An entry's detail, on one line; what is not so is left out."""
    shown: list[str] = []
    for name, value in detail.items():
        if value is True:
            shown.append(name)
        elif value is not None and value is not False and value != "":
            shown.append(f"{name}={_value(value)}")
    return " ".join(shown)


def _value(value: Json) -> str:
    if isinstance(value, str):
        return shorten(value, 120)
    if isinstance(value, Mapping):
        # Of a reason, its text; of a tree, how big it is.
        text = value.get("text")
        if isinstance(text, str):
            return shorten(text, 120)
        if any(isinstance(one, Mapping) for one in value.values()):
            return f"<{len(value)}>"
        return "{" + ", ".join(f"{name} {_value(one)}" for name, one in value.items()) + "}"
    return describe(value, 120)
