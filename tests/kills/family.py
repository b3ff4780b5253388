"""All processes that descend from one, found by a variable of their environment."""

from __future__ import annotations

import contextlib
import math
import os
import time
from typing import Final

VARIABLE: Final = "ACTORVISOR_KILLS"


def environment(token: str, folder: str) -> dict[str, str]:
    """What a process is started with, so that it and its descendants are found.

    Args:
        token: which family it is.
        folder: for its temporary files.
    """
    return {**os.environ, VARIABLE: token, "TMPDIR": folder}


def members(token: str) -> dict[int, str]:
    """The command of each process of a family that is no zombie, by its number."""
    wanted = f"{VARIABLE}={token}".encode()
    found: dict[int, str] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        # It may be gone meanwhile.
        with contextlib.suppress(OSError):
            with open(f"/proc/{entry}/environ", "rb") as environ:
                if wanted not in environ.read().split(b"\0"):
                    continue
            with open(f"/proc/{entry}/stat") as stat:
                if stat.read().rpartition(")")[2].split()[0] in "ZX":
                    continue
            with open(f"/proc/{entry}/cmdline", "rb") as cmdline:
                found[int(entry)] = cmdline.read().replace(b"\0", b" ").decode()[:120]
    return found


def watch_end(token: str, limit: float) -> tuple[float, dict[int, str]]:
    """Watch a family end.

    Returns:
        Seconds until all were gone (inf: never), and what is left after ``limit`` seconds.
    """
    begin = time.monotonic()
    empty, gone = 0, math.inf
    while (now := time.monotonic() - begin) < limit:
        if members(token):
            empty, gone = 0, math.inf
        else:
            # One that is in exec has no environment for a moment: once is not enough.
            empty, gone = empty + 1, min(gone, now)
            if empty == 5:
                return gone, {}
        time.sleep(0.02)
    left = members(token)
    return math.inf if left else min(gone, limit), left


def zombies(parents: set[int]) -> int:
    """How many children of some processes are zombies."""
    count = 0
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/stat") as stat:
                state, parent = stat.read().rpartition(")")[2].split()[:2]
                count += state == "Z" and int(parent) in parents
    return count


def files_in(folder: str) -> list[str]:
    """All that is left in a folder."""
    return [
        os.path.relpath(os.path.join(where, name), folder)
        for where, folders, files in os.walk(folder)
        for name in (*folders, *files)
    ]
