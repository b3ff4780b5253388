"""What is killed at any moment loses nothing, and leaves nothing behind.

A few of what `python -m tests.kills` does a hundred times.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from typing import Literal

import pytest

from tests.kills.accounting import accounting
from tests.kills.family import environment, watch_end
from tests.kills.incarnations import incarnations
from tests.kills.interrupts import WHEN, When, interrupt
from tests.kills.orphans import orphans

pytestmark = [pytest.mark.process, pytest.mark.slow]

PATIENCE = 10
"""Times the limits of the rules, for a machine that does more than this."""


@pytest.mark.parametrize("redeliver", [0, 3])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_no_message_is_lost(
    kind: Literal["sync", "async"], redeliver: int, capsys: pytest.CaptureFixture[str]
) -> None:  # P3, M2, M4, M5, M7
    accounting(kind, redeliver, messages=5000, kills=10, seed=1)
    assert "5,000 messages" in capsys.readouterr().out


@pytest.mark.parametrize(("method", "hosts"), [("forkserver", 5), ("spawn", 3)])
def test_nothing_outlives_a_host_that_is_killed(
    method: str, hosts: int, capsys: pytest.CaptureFixture[str]
) -> None:  # P1, H4
    orphans(method, hosts, seed=3, patience=PATIENCE)
    assert "; 0 left something" in capsys.readouterr().out


SLOW_TO_IMPORT = """
import trio
import actorvisor as av
from tests.kills.hosting import Parent

executor = av.ProcessExecutor(start_method="forkserver", preload=["tests.kills.slow_import"])

async def main():
    async with av.open_host([av.Application(Parent, executor=executor)]):
        pass

trio.run(main)
"""


def test_a_fork_server_that_still_imports_ends_with_its_host() -> None:  # H4
    token = f"{os.getpid()}-imports"
    with tempfile.TemporaryDirectory() as folder:
        with subprocess.Popen(
            [sys.executable, "-c", SLOW_TO_IMPORT],
            env=environment(token, folder),
            stdout=subprocess.PIPE,
        ) as host:
            assert host.stdout is not None
            assert host.stdout.readline() == b"importing\n"
            os.kill(host.pid, signal.SIGKILL)
        _, left = watch_end(token, PATIENCE)
    for process in left:
        os.kill(process, signal.SIGKILL)
    assert not left


@pytest.mark.parametrize(("method", "count"), [("forkserver", 12), ("spawn", 6)])
def test_incarnations_leave_nothing(
    method: str, count: int, capfd: pytest.CaptureFixture[str]
) -> None:  # S10, H1
    incarnations(method, count, kept=False)
    assert f"{count} incarnations" in capfd.readouterr().out


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
@pytest.mark.parametrize("when", WHEN)
def test_a_ctrl_c_at_a_terminal_is_quiet_and_leaves_nothing(
    when: When, method: str
) -> None:  # H4, H1
    ended = interrupt(method, when, 0.15, f"{os.getpid()}-{method}-{when}")
    assert ended.is_clean, ended
