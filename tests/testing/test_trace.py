"""Traces as data: lines and back, what is no trace, what differs, and what people read (T4)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from actorvisor.testing._trace import Entry, Trace, TraceError

SCALARS: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
DETAILS = st.dictionaries(st.text(), VALUES, max_size=4)


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    """Any trace: what its entries say need not make sense."""
    entries = [
        Entry(
            number,
            draw(st.floats(allow_nan=False, allow_infinity=False)),
            draw(st.text(min_size=1)),
            draw(st.text()),
            draw(st.integers(min_value=0)),
            draw(DETAILS),
        )
        for number in range(1, draw(st.integers(0, 5)) + 1)
    ]
    return Trace(draw(DETAILS), tuple(entries))


def _backwards(values: Mapping[str, Any]) -> dict[str, Any]:
    return dict(reversed(list(values.items())))


def small() -> Trace:
    return Trace(
        {"actorvisor": "0.1.0", "seed": 7},
        (
            Entry(1, 0.0, "starting", "host/a", 1, {"sequence": 1}),
            Entry(2, 0.1, "accepted", "host/a", 1, {"message": 1, "ask": True, "sender": ""}),
            Entry(3, 0.1, "taken", "host/b", 1, {"message": 1}),
            Entry(4, 1e-9, "exited", "host/a", 1, {"reason": {"kind": "Stopped", "text": "Stop"}}),
        ),
    )


# --- lines --------------------------------------------------------------------------------


@given(traces())
def test_what_is_written_is_read_back(trace: Trace) -> None:
    # T4
    lines = list(trace.to_lines())
    assert Trace.from_lines(lines) == trace
    assert all(line.endswith("\n") and line.count("\n") == 1 and line.isascii() for line in lines)


@given(traces())
def test_the_same_trace_is_the_same_lines(trace: Trace) -> None:
    # T2: byte for byte, in whatever order its details were put together
    again = Trace(
        _backwards(trace.header),
        tuple(
            Entry(
                one.number,
                one.time,
                one.kind,
                one.path,
                one.incarnation,
                _backwards(one.detail),
            )
            for one in trace
        ),
    )
    assert list(again.to_lines()) == list(trace.to_lines())


def test_a_file_holds_what_the_lines_say(tmp_path: Path) -> None:
    # T4
    file = tmp_path / "run.jsonl"
    file.write_text("something longer that was there before\n" * 100)
    small().write(file)
    assert file.read_bytes().decode() == "".join(small().to_lines())
    assert Trace.read(file) == small()
    assert Trace.read(str(file)) == small()


def test_times_are_exact(tmp_path: Path) -> None:
    # T2
    times = [0.1 + 0.2, 1e300, 5e-324, 3, 1 / 3]
    entries = tuple(Entry(n, time, "x", "host", 0) for n, time in enumerate(times, 1))
    trace = Trace({}, entries)
    assert [one.time for one in Trace.from_lines(trace.to_lines())] == times


# --- what is no trace ---------------------------------------------------------------------


def _without(index: int) -> Callable[[list[str]], list[str]]:
    return lambda lines: [line for place, line in enumerate(lines) if place != index]


def _with(index: int, line: str) -> Callable[[list[str]], list[str]]:
    return lambda lines: [line if place == index else one for place, one in enumerate(lines)]


WRONG: dict[str, tuple[Callable[[list[str]], list[str]], int, str, str]] = {
    "empty": (lambda lines: [], 1, "it is no trace", "Trace.write"),
    "another file": (lambda lines: ["import trio\n", *lines], 1, "it is no trace", "Trace.write"),
    "other JSON": (_with(0, '{"a": 1}\n'), 1, "it is no trace", "Trace.write"),
    "a number": (_with(0, "12\n"), 1, "it is no trace", "Trace.write"),
    "another version": (
        _with(0, '{"trace": 99, "header": {"actorvisor": "7.0"}}\n'),
        1,
        "it is of version 99, written by actorvisor 7.0, and this actorvisor reads version 1",
        "record it again",
    ),
    "no header": (_with(0, '{"trace": 1}\n'), 1, "it is of version 1", "record it again"),
    "only the header": (lambda lines: lines[:1], 1, "cut short, after 0 entries", "again"),
    "no end": (lambda lines: lines[:-1], 5, "cut short, after 4 entries", "again"),
    "within a line": (
        lambda lines: [*lines[:3], lines[3][:20]],
        4,
        "cut short, within this line",
        "again",
    ),
    "no JSON": (_with(2, "{oops\n"), 3, "'{oops\\n' is no JSON", "again"),
    "no entry": (_with(2, "[1, 2]\n"), 3, "is no entry of a trace", "again"),
    "half an entry": (_with(2, '{"number": 2}\n'), 3, "it is no entry of a trace", "again"),
    "a wrong entry": (
        lambda lines: _with(2, lines[2].replace('"time":0.1', '"time":"now"'))(lines),
        3,
        "an entry's time must be seconds, not 'now'",
        "again",
    ),
    "an entry missing": (_without(2), 3, "entry 2 is missing", "again"),
    "another count": (
        _with(5, '{"entries": 3}\n'),
        6,
        "it says that there are 3 entries, and there are 4",
        "again",
    ),
    "more behind": (lambda lines: [*lines, lines[1]], 7, "something follows the end", "again"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_trace_is_one_clear_error(name: str, tmp_path: Path) -> None:
    # T4
    change, line, what, remedy = WRONG[name]
    file = tmp_path / "run.jsonl"
    file.write_text("".join(change(list(small().to_lines()))))
    with pytest.raises(TraceError) as caught:
        Trace.read(file)
    error = caught.value
    assert (error.file, error.line) == (str(file), line)
    assert what in error.what
    assert remedy in error.remedy
    assert str(error) == f"{file}, line {line}: {error.what}; {error.remedy}"


def test_a_file_that_is_no_text_is_no_trace(tmp_path: Path) -> None:
    file = tmp_path / "core"
    file.write_bytes(bytes(range(256)) * 10)
    with pytest.raises(TraceError, match="line 1: it is no trace"):
        Trace.read(file)


def test_a_file_that_is_not_there_is_that(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Trace.read(tmp_path / "nowhere")


def test_what_is_no_json_is_refused_before_a_file_is_touched(tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    trace = Trace({}, (Entry(1, 0, "x", "host", 0, {"what": object()}),))  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="is no JSON value"):
        trace.write(file)
    assert not file.exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"number": 0},
        {"number": "1"},
        {"number": True},
        {"time": float("nan")},
        {"time": float("inf")},
        {"time": "0"},
        {"kind": ""},
        {"kind": None},
        {"path": None},
        {"incarnation": -1},
        {"incarnation": 1.0},
        {"detail": [1]},
    ],
    ids=str,
)
def test_an_entry_is_checked_when_it_is_made(wrong: dict[str, Any]) -> None:
    right: dict[str, Any] = {
        "number": 1,
        "time": 0.0,
        "kind": "x",
        "path": "host",
        "incarnation": 0,
        "detail": {},
    }
    assert Entry(**right).detail == {}
    with pytest.raises((TypeError, ValueError), match="an entry's"):
        Entry(**{**right, **wrong})


def test_a_trace_is_checked_when_it_is_made() -> None:
    one = Entry(1, 0, "x", "host", 0)
    wrong: list[tuple[Any, Any]] = [(None, ()), ({}, (one, one)), ({}, ("x",))]
    for header, entries in wrong:
        with pytest.raises((TypeError, ValueError)):
            Trace(header, entries)


# --- parts, and differences ---------------------------------------------------------------


def test_parts_of_a_trace() -> None:
    trace = small()
    assert [one.number for one in trace.of("host/a")] == [1, 2, 4]
    assert [one.number for one in trace.kinds("taken", "exited")] == [3, 4]
    assert [one.number for one in trace.message(1)] == [2, 3]
    assert list(trace) == list(trace.entries)
    assert len(trace) == 4


def test_equal_traces_do_not_differ_whatever_their_headers_say() -> None:
    other = Trace({"python": "3.13"}, small().entries)
    assert small().difference(other) is None
    assert small() != other


def test_the_first_entry_that_differs_is_told() -> None:
    # T4
    entries = list(small().entries)
    entries[2] = Entry(3, 0.1, "taken", "host/c", 1, {"message": 1})
    found = small().difference(Trace({}, tuple(entries)))
    assert found is not None
    assert found.number == 3
    assert found.mine == small().entries[2]
    assert found.other == entries[2]
    lines = str(found).splitlines()
    assert lines[0] == "the traces differ from entry 3 on"
    assert len(lines) == 5
    assert lines[-2].startswith("- ")
    assert "host/b#1" in lines[-2]
    assert lines[-1].startswith("+ ")
    assert "host/c#1" in lines[-1]


@pytest.mark.parametrize("length", range(4))
def test_a_trace_that_ends_before_another_differs_there(length: int) -> None:
    short = Trace({}, small().entries[:length])
    one, two = small().difference(short), short.difference(small())
    assert one is not None
    assert two is not None
    assert one.number == two.number == length + 1
    assert one.other is None
    assert two.mine is None
    assert "+ it has ended" in str(one)
    assert "- it has ended" in str(two)


# --- for people ---------------------------------------------------------------------------


def test_a_trace_is_a_table_to_read() -> None:
    assert str(small()).splitlines() == [
        "4 entries; actorvisor 0.1.0, seed 7",
        "    1     0.000000  starting  host/a#1  sequence=1",
        "    2     0.100000  accepted  host/a#1  message=1 ask",
        "    3     0.100000  taken     host/b#1  message=1",
        "    4     0.000000  exited    host/a#1  reason=Stop",
    ]
    assert repr(small()) == "<Trace of 4 entries>"


def test_what_an_entry_holds_is_told_in_bounded_text() -> None:
    detail: dict[str, Any] = {
        "long": "x" * 10_000,
        "odd": "a\nb",
        "no": False,
        "none": None,
        "many": list(range(1000)),
        "tree": {f"host/{n}": {"kind": "service"} for n in range(1000)},
        "counts": {"accepted": 1, "handled": 2},
    }
    line = str(Entry(1, 0, "x", "host", 0, detail))
    assert len(line) < 500
    assert "\n" not in line
    assert "odd=a\\nb" in line
    assert "tree=<1000>" in line
    assert "counts={accepted 1, handled 2}" in line
    assert "no=" not in line
    assert "none" not in line


def test_the_first_line_names_the_version_and_the_last_one_the_number_of_entries() -> None:
    # T4
    lines = [json.loads(line) for line in small().to_lines()]
    assert lines[0] == {"trace": 1, "header": {"actorvisor": "0.1.0", "seed": 7}}
    assert lines[-1] == {"entries": 4}
