"""The reports are counted: each is a test, or says why it is none; none twice, none missing."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

from tests.cases.not_here_reports import CASES, IN_PROCESSES, NOT_HERE, PARTLY

HERE = Path(__file__).parent


def names_in(file: str) -> list[str]:
    module = ast.parse((HERE / file).read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    names = [one.name for one in module.body if isinstance(one, functions)]
    return [name for name in names if name.startswith("test_")]


@pytest.mark.parametrize("file", CASES)
def test_each_report_is_a_test_or_says_why_it_is_none(file: str) -> None:
    elsewhere = names_in(IN_PROCESSES)
    tests = names_in(file) + [
        one for one in elsewhere if one.startswith(tuple(f"test_{name}_" for name in CASES[file]))
    ]
    of_case = {
        name: [one for one in tests if one.startswith(f"test_{name}_")] for name in CASES[file]
    }
    assert [name for name, found in of_case.items() if not found] == [
        name for name in CASES[file] if name in NOT_HERE
    ]
    # And no test is of none, or of two.
    assert sorted(one for found in of_case.values() for one in found) == sorted(tests)


def test_each_test_in_processes_is_of_a_report() -> None:
    names = [f"test_{name}_" for names in CASES.values() for name in names]
    assert [one for one in names_in(IN_PROCESSES) if not one.startswith(tuple(names))] == []


def test_all_reports_are_counted_once() -> None:
    assert [len(names) for names in CASES.values()] == [30, 30, 7]
    counted = Counter(name for names in CASES.values() for name in names)
    assert set(counted.values()) == {1}
    assert {path.name for path in HERE.glob("test_reports_*.py")} == {*CASES, IN_PROCESSES}


def test_what_is_not_here_is_a_report_and_says_why() -> None:
    known = {name for names in CASES.values() for name in names}
    for listed in (NOT_HERE, PARTLY):
        assert set(listed) <= known
        for why, issue in listed.values():
            assert len(why) > 20
            assert issue in {None, 8, 9, 10}
    assert not set(NOT_HERE) & set(PARTLY)
