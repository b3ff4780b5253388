"""What the types promise (DESIGN, section 2): mypy and pyright over the samples beside this file.

`accepted.py` must be without errors. In `refused.py` each line that ends in a comment `# E:` must
be an error to both checkers, with those codes, and no other line may be.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
ACCEPTED = HERE / "accepted.py"
REFUSED = HERE / "refused.py"

Errors = dict[tuple[str, int], set[str]]


def expected(part: int) -> Errors:
    """What the comments of `refused.py` say: of mypy (0), or of pyright (1)."""
    found: Errors = {}
    for number, line in enumerate(REFUSED.read_text("utf-8").splitlines(), 1):
        code, mark, comment = line.partition("  # E: ")
        if mark and code.strip():
            codes = comment.split(" | ")[part]
            found[REFUSED.name, number] = {one.strip() for one in codes.split(",")}
    return found


def run(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command, str(ACCEPTED), str(REFUSED)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    return done.stdout


def mypy() -> Errors:
    found: Errors = defaultdict(set)
    output = run("mypy", "--strict", "--no-error-summary", "--hide-error-context")
    for line in output.splitlines():
        match = re.fullmatch(r"(.+?):(\d+): error: .*  \[([\w-]+)\]", line)
        if match is not None:
            found[Path(match[1]).name, int(match[2])].add(match[3])
        else:
            assert ": note: " in line, output
    return dict(found)


def pyright() -> Errors:
    found: Errors = defaultdict(set)
    output = run("pyright", "--outputjson", "--pythonpath", sys.executable)
    for one in json.loads(output)["generalDiagnostics"]:
        line = one["range"]["start"]["line"] + 1
        found[Path(one["file"]).name, line].add(one.get("rule", one["message"]))
    return dict(found)


def test_there_is_a_comment_on_every_wrong_line() -> None:
    assert len(expected(0)) == len(expected(1)) > 70


@pytest.mark.slow
def test_mypy() -> None:
    pytest.importorskip("mypy")
    assert mypy() == expected(0)


@pytest.mark.slow
def test_pyright() -> None:
    pytest.importorskip("pyright")
    assert pyright() == expected(1)
