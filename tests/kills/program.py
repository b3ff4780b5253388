"""A program as a user has it, with services in processes: to be interrupted."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import actorvisor as av


class Announcer(av.Service):
    """Says that the program is about to start the others."""

    def setup(self) -> None:
        print("begin", flush=True)


class Worker(av.Service):
    """Has something to do all the time, a subprocess, and something to do at its end."""

    def __init__(self, last: bool) -> None:
        self.last = last

    def setup(self) -> None:
        self.child = subprocess.Popen(["sleep", "1000"])
        self.every(0.01, Worker.work)
        if self.last:
            print("up", flush=True)

    def work(self) -> None:
        time.sleep(0.01)

    def teardown(self, reason: av.ExitReason) -> None:
        if self.last:
            print("down", flush=True)
        time.sleep(0.2)


def declare(method: Any) -> list[av.Application[Any]]:
    """One under each of the two executors, after the announcer."""
    sync = av.ProcessExecutor(start_method=method)
    loop = av.AsyncProcessExecutor(start_method=method)
    return [
        av.Application(Announcer),
        av.Application(Worker, False, name="one", executor=sync),
        av.Application(Worker, True, name="two", executor=loop),
    ]


if __name__ == "__main__":
    av.run(declare(sys.argv[1]))
