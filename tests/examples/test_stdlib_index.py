"""The main job over a small library: calm and chaos find the same, once each."""

from __future__ import annotations

import re
import shutil
import sqlite3
import sysconfig
from pathlib import Path

import pytest

import actorvisor as av
from examples.stdlib_index import BATCH, find_files, main, read_source

STDLIB = Path(sysconfig.get_path("stdlib"))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A part of the standard library, with some files that are no Python, and some installed."""
    root = tmp_path_factory.mktemp("library")
    for package in ("json", "collections", "concurrent", "importlib", "asyncio", "email"):
        shutil.copytree(
            STDLIB / package, root / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    (root / "no_utf8.py").write_bytes(b"name = '\xff'\n")
    (root / "no_encoding.py").write_bytes(b"# coding: nonsense\n")
    (root / "no_end.py").write_text("f(\n")
    (root / "no_indent.py").write_text("if a:\n        b\n    c\n")
    (root / "half_a_pair.py").write_bytes(b"# coding: utf-7\nname = '+2AA-'\n")
    (root / "latin1.py").write_bytes(b"# coding: latin-1\nname = '\xff'\n")
    (root / "nothing.py").touch()
    (root / "no_python.txt").write_text("text")
    (root / "site-packages").mkdir()
    (root / "site-packages" / "installed.py").write_text("installed = 1")
    return root


def index(root: Path, database: Path, capsys: pytest.CaptureFixture[str], chaos: float = 0) -> str:
    """Run the job; its report."""
    av.run(main(chaos=chaos, root=root, database=database))
    out, err = capsys.readouterr()
    assert "indexing" in err
    report: str = out
    return report


def digest(report: str) -> str:
    """What `.ci/run` compares."""
    (line,) = re.findall(r"^digest: [0-9a-f]{64}$", report, re.MULTILINE)
    return str(line)


@pytest.mark.slow
def test_calm_and_chaos_find_the_same(
    library: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    calm = index(library, tmp_path / "calm.sqlite", capsys)
    assert caplog.records == []
    # Enough for several crashes in the second or so that it takes.
    chaos = index(library, tmp_path / "chaos.sqlite", capsys, chaos=30)
    assert "Chaos" in caplog.text
    assert chaos == calm
    assert digest(calm) == digest(chaos)

    assert "rejected files: 5\n" in calm
    for path in ("half_a_pair.py", "no_encoding.py", "no_end.py", "no_indent.py", "no_utf8.py"):
        assert re.search(rf"^    {path}: \w+Error: .+$", calm, re.MULTILINE)
    files = find_files(library)
    assert f"totals: {len(files) - 5:,} files, " in calm
    assert len(re.findall(r"^ +[\d,]+  \w+$", calm, re.MULTILINE)) == 20

    # The same again, from scratch and with plain Python.
    tallies: dict[str, int] = {}
    for number, path in enumerate(files):
        for identifier in read_source(library, number, path).identifiers:
            tallies[identifier] = tallies.get(identifier, 0) + 1
    for name in ("calm", "chaos"):
        db = sqlite3.connect(tmp_path / f"{name}.sqlite")
        counted = db.execute("SELECT identifier, sum(count) FROM counts GROUP BY identifier")
        assert dict(counted) == tallies
        assert [path for (path,) in db.execute("SELECT path FROM files ORDER BY number")] == files
        ((batches,),) = db.execute("SELECT count(*) FROM batches")
        assert batches == -(-len(files) // BATCH)
        found = db.execute("SELECT rowid FROM sources WHERE source MATCH 'JSONDecodeError'")
        decoder = files.index("json/decoder.py")
        assert (decoder,) in found.fetchall()
        db.close()


def test_a_library_of_no_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # The pipeline ends before anybody could look at it.
    (tmp_path / "empty").mkdir()
    report = index(tmp_path / "empty", tmp_path / "index.sqlite", capsys)
    assert "totals: 0 files" in report


def test_a_database_of_an_earlier_run_is_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "one.py").write_text("first")
    first = index(root, tmp_path / "index.sqlite", capsys)
    (root / "one.py").write_text("second")
    second = index(root, tmp_path / "index.sqlite", capsys)
    assert "  first\n" in first
    assert "  second\n" in second
    assert "first" not in second


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"chaos": -1.0}, "--chaos must be 0 or more"),
        ({"chaos": float("nan")}, "--chaos must be 0 or more"),
        ({"chaos": float("inf")}, "--chaos must be 0 or more"),
        ({"root": Path("nowhere")}, "there is no directory nowhere"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, object], told: str) -> None:
    with pytest.raises(SystemExit, match=told):
        main(**options)  # type: ignore[arg-type]


def test_what_always_crashes_ends_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its message is redelivered until the supervisor's limit is reached: it is never lost silently.
    (tmp_path / "one.py").touch()

    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("examples.stdlib_index.Tally", fail)
    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="a bug")):
        av.run(main(root=tmp_path, database=tmp_path / "index.sqlite"))


def test_a_file_of_the_user_is_not_overwritten(tmp_path: Path) -> None:
    mine = tmp_path / "mine.sqlite"
    mine.write_text("precious")
    with pytest.raises(SystemExit, match=r"--database: .*mine\.sqlite is no index of this program"):
        main(root=tmp_path, database=mine)
    assert mine.read_text() == "precious"
