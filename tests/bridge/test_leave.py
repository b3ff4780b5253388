"""A worker that sees the end of its connection before the kernel's signal leaves nobody behind."""

from __future__ import annotations

import socket
import subprocess
import sys
import textwrap

import pytest

WAYS = {
    "before a job": "_blocking.serve(port, lambda: None)",
    "before a job, in a loop": "_loop.serve(port, lambda: None)",
    "reading": "Station(port, job).wait(lambda: False)",
    "writing": "Station(port, job).frame(f.UP, 0)",
}

PROGRAM = """
    import os, socket, subprocess, sys, tempfile

    from actorvisor.bridge import _ledger as ledger, _memory
    from actorvisor.bridge._child import _blocking, _loop
    from actorvisor.bridge._child._blocking import BlockingStation as Station
    from actorvisor.bridge._child._port import Port
    from actorvisor.bridge._job import Job
    from actorvisor.bridge._wire import _frames as f

    os.setsid()
    mine, other = socket.socketpair()
    port = Port(mine, ledger.Ledger(_memory.share(_memory.create(ledger.SIZE), ledger.SIZE)))
    job = Job(b"", "host/a", 1, 1, "host/a", 1, b"", None, 0)
    other.close()
    subprocess.Popen(["sleep", "60"])
    print("ready", flush=True)
    {}
"""


@pytest.mark.process
@pytest.mark.parametrize("way", WAYS)
def test_its_group_goes_with_it(way: str) -> None:  # H1, H4
    program = textwrap.dedent(PROGRAM).format(WAYS[way])
    # The subprocess has the pipe, too: it ends when both are gone.
    ended, end = socket.socketpair()
    with ended, end:
        worker = subprocess.Popen([sys.executable, "-c", program], stdout=end.fileno())
        end.close()
        ended.settimeout(30)
        with ended.makefile("rb") as said:
            assert said.read() == b"ready\n"
    assert worker.wait() != 0
