"""A program with four services in processes, each with a subprocess of its own: to be killed."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any, cast

import trio

import actorvisor as av

NAMES = ("one", "two", "three", "holding")


class Parent(av.Service):
    """Has a subprocess, which lives in its process group."""

    def setup(self) -> None:
        self.child = subprocess.Popen(["sleep", "1000"])

    def teardown(self, reason: av.ExitReason) -> None:
        self.child.kill()
        self.child.wait()

    def hold(self) -> None:
        """A C call that keeps the GIL, for years."""
        re.match("(a+)+$", "a" * 60 + "b")


def declare(method: Any) -> list[av.Application[Any]]:
    """Four services under both executors."""
    sync = av.ProcessExecutor(start_method=method)
    loop = av.AsyncProcessExecutor(start_method=method)
    return [
        av.Application(Parent, name=name, executor=loop if name == "two" else sync)
        for name in NAMES
    ]


async def host(method: Any, once: bool) -> None:
    """Start them; stay, with one of them in its C call, or end at once."""
    async with av.open_host(declare(method)) as host:
        if once:
            return
        await cast("av.Ref[Parent]", host.find("holding", Parent)).tell(Parent.hold)
        print("up", flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(host, sys.argv[1], "once" in sys.argv[2:])
