"""The cases are counted: each is a test, or says why it is none."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

from tests.cases.not_here import CASES, NOT_HERE, PARTLY

HERE = Path(__file__).parent


def names_in(file: str) -> list[str]:
    """The names of the tests in a file, without ``test_``."""
    module = ast.parse((HERE / file).read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    names = [one.name for one in ast.walk(module) if isinstance(one, functions)]
    return [name.removeprefix("test_") for name in names if name.startswith("test_")]


@pytest.mark.parametrize("file", CASES)
def test_each_case_is_a_test_or_says_why_it_is_none(file: str) -> None:
    expected = [name for name in CASES[file] if name not in NOT_HERE]
    assert sorted(names_in(file)) == sorted(expected)


def test_no_case_is_counted_twice() -> None:
    counted = Counter(name for names in CASES.values() for name in names)
    assert [name for name, times in counted.items() if times > 1] == []
    assert (sum(len(CASES[file]) for file in CASES if "otp_" in file), len(CASES)) == (78, 8)


def test_what_is_not_here_is_a_case_and_says_why() -> None:
    known = {name for names in CASES.values() for name in names}
    for listed in (NOT_HERE, PARTLY):
        assert set(listed) <= known
        for why, issue in listed.values():
            assert len(why) > 20
            assert issue is None or issue > 8
    assert not set(NOT_HERE) & set(PARTLY)


def test_each_file_of_cases_is_counted() -> None:
    files = {path.name for path in HERE.glob("test_*.py")}
    assert {one for one in files if "otp" in one} == set(CASES)
