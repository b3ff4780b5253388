"""The folder of multiprocessing's sockets, and those of hosts that were killed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from actorvisor.bridge import _folder

PROGRAM = """
import sys
from multiprocessing import connection
from actorvisor.bridge import _folder

folder = _folder.make()
assert connection.arbitrary_address("AF_UNIX").startswith(folder)
assert _folder.make() is None
open(folder + "/listener-1", "w").close()
print(folder, flush=True)
sys.stdin.read()
"""


class Maker:
    """A process that makes its folder, and stays."""

    def __init__(self, where: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "TMPDIR": str(where)},
            text=True,
        )
        assert self.process.stdout is not None
        self.folder = Path(self.process.stdout.readline().strip())

    def end(self, killed: bool) -> None:
        if killed:
            self.process.kill()
        self.process.communicate()


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose name leaves room for those of sockets, which pytest's own does not."""
    with tempfile.TemporaryDirectory(prefix="av-", dir="/tmp") as name:
        yield Path(name)


@pytest.mark.process
def test_the_next_one_removes_those_of_the_dead_and_no_other(short_path: Path) -> None:  # H4
    others = ["pymp-abcdefgh", "pymp-av-1-2-3-abcdefgh", "pymp-av-x"]
    for other in others:
        (short_path / other).mkdir()
    killed, alive = Maker(short_path), Maker(short_path)
    killed.end(killed=True)
    assert (killed.folder / "listener-1").exists()
    last = Maker(short_path)
    assert sorted(short_path.iterdir()) == sorted(
        [alive.folder, last.folder, *(short_path / other for other in others)]
    )
    for one in (alive, last):
        one.end(killed=False)
        assert not one.folder.exists()


@pytest.mark.process
def test_who_owns_a_folder_is_told_from_who_has_its_number_later() -> None:
    mine = _folder._owner(os.getpid())
    assert mine.pid == os.getpid()
    assert _folder._is_alive(mine)
    assert not _folder._is_alive(mine._replace(began=mine.began - 1))
    # The number of another space says nothing here.
    assert _folder._is_alive(mine._replace(space=mine.space + 1, began=1))
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        # It is dead, though nobody has asked for its status.
        assert not _folder._is_alive(_folder._owner(child.pid)._replace(began=1))


def test_where_there_is_no_proc_the_number_has_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_folder, "_owner", lambda pid: _folder.Owner(0, pid, 0))
    assert _folder._is_alive(_folder.Owner(0, os.getpid(), 0))
    assert _folder._is_alive(_folder.Owner(0, 1, 0))  # not ours to signal, perhaps
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        pass
    assert not _folder._is_alive(_folder.Owner(0, child.pid, 0))
