"""Host processes killed at random moments, their starts included: nothing of them is left (P1, H4)."""

from __future__ import annotations

import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from typing import Final

from tests.kills.family import environment, files_in, members, watch_end

LIMITS: Final = {"forkserver": 1.0, "spawn": 2.0}
"""Seconds after which nothing may be left (H4)."""
LATEST: Final = 1.5
"""Seconds after its start that a host is killed at the latest."""
ROOT: Final = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@dataclass(frozen=True)
class Kill:
    """One host that was killed.

    Attributes:
        after: seconds after its start.
        processes: that it consisted of.
        gone: seconds until nothing was left; inf: something was at the limit.
        left: what that was.
        files: left in its temporary folder.
    """

    after: float
    processes: int
    gone: float
    left: dict[int, str]
    files: list[str]


def launch(method: str, token: str, folder: str, *options: str) -> subprocess.Popen[bytes]:
    """Start a host process."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.kills.hosting", method, *options],
        cwd=ROOT,
        env=environment(token, folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def kill_one(method: str, token: str, folder: str, after: float | None, limit: float) -> Kill:
    """Start a host, kill it, and look.

    Args:
        method: by which its workers are started.
        token: of its family.
        folder: for its temporary files.
        after: seconds after its start that it is killed; None: once all is up.
        limit: seconds after which nothing may be left.
    """
    begin = time.monotonic()
    with launch(method, token, folder) as host:
        assert host.stdout is not None
        if after is None:
            assert host.stdout.readline() == b"up\n"
        else:
            time.sleep(after)
        processes = len(members(token))
        took = time.monotonic() - begin
        os.kill(host.pid, signal.SIGKILL)
        host.wait()
    gone, left = watch_end(token, limit)
    for process in left:
        os.kill(process, signal.SIGKILL)
    return Kill(took, processes, gone, left, files_in(folder))


def orphans(method: str, hosts: int, seed: int, patience: float = 1.0) -> None:
    """Kill that many hosts, one after the other.

    Args:
        method: by which their workers are started.
        hosts: how many.
        seed: of when they are killed.
        patience: times the limit that the rule has, for machines that do more than this.
    """
    limit = LIMITS[method] * patience
    choices = random.Random(f"{seed} {method}")
    token = f"{os.getpid()}-{seed}-{method}"
    kills = []
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        for number in range(hosts):
            # Some are killed once all is up, so that one is in its C call for sure.
            after = choices.random() * LATEST if choices.random() < 0.8 else None
            kills.append(kill_one(method, f"{token}-{number}", folder, after, limit))
        left = [kill for kill in kills if kill.left]
        with launch(method, f"{token}-last", folder, "once") as last:
            assert last.wait() == 0
        assert not watch_end(f"{token}-last", limit)[1]
        files = files_in(folder)
    sizes = Counter(min(kill.processes, 9) for kill in kills)
    times = [kill.gone for kill in kills if not kill.left] or [0.0]
    print(
        f"{method}, seed {seed}: {hosts} hosts killed after {min(k.after for k in kills):.2f} to "
        f"{max(k.after for k in kills):.2f} s, with 1 to {max(k.processes for k in kills)} "
        f"processes ({', '.join(f'{sizes[n]}x{n}' for n in sorted(sizes))}); {len(left)} left "
        f"something after {limit:.0f} s; gone after {statistics.median(times) * 1000:.0f} "
        f"ms (median), {max(times) * 1000:.0f} ms (the longest); "
        f"{sum(bool(k.files) for k in kills)} times there was a file, in the end {len(files)}",
        flush=True,
    )
    for kill in left:
        print(f"after {kill.after:.3f} s, of {kill.processes}: {kill.left}")
    assert not left
    assert not files, files
