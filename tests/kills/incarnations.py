"""Incarnations killed, stopped and crashed in turn: the host holds no more than before (S10, H1)."""

from __future__ import annotations

import gc
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from typing import Any, Final

import trio

import actorvisor as av
from tests.kills.family import VARIABLE, environment, files_in, members, watch_end, zombies

EXPIRY: Final = 11.0
"""Seconds after which trio has let go of threads that it kept for the next call."""
FIRST: Final = 6
"""Incarnations that fill all caches."""
SETTLING: Final = 30.0
"""Seconds for what is on its way: a standby that starts, a process that is reaped."""


class Fault(Exception):
    """What crashes on purpose."""


class Fragile(av.Service):
    def process(self) -> int:
        return os.getpid()

    def crash(self) -> None:
        raise Fault


@dataclass(frozen=True)
class Held:
    """What this process and its family hold.

    Attributes:
        descriptors: open ones of this process.
        threads: live ones.
        processes: of the family.
        zombies: of the family.
        files: in the temporary folder.
    """

    descriptors: int
    threads: int
    processes: int
    zombies: int
    files: int

    @classmethod
    def now(cls, token: str, kept: bool) -> Held:
        """As it is now.

        Args:
            token: of the family.
            kept: whether to count threads that trio keeps for the next call.
        """
        gc.collect()
        names = [thread.name for thread in threading.enumerate()]
        family = members(token)
        return cls(
            descriptors=len(os.listdir("/proc/self/fd")),
            threads=sum(kept or not name.startswith("Trio thread") for name in names),
            processes=len(family),
            zombies=zombies({os.getpid(), *family}),
            files=len(files_in(tempfile.gettempdir())),
        )

    def __str__(self) -> str:
        return (
            f"{self.descriptors} descriptors, {self.threads} threads, {self.processes} processes, "
            f"{self.zombies} zombies, {self.files} files"
        )


async def one_life(ref: av.Ref[Any], ups: av.Events, way: int) -> None:
    """End an incarnation, and wait until the next one is up."""
    if way == 0:
        os.kill(await ref.ask(Fragile.process), signal.SIGKILL)
    elif way == 1:
        await ref.stop()
        await ref.start()
    else:
        await ref.tell(Fragile.crash)
    async for one in ups:
        if isinstance(one, av.Started) and one.path == ref.path:
            return


async def settled(token: str, kept: bool, wanted: Held | None) -> Held:
    """What is held once it is what is wanted (None: once it stays the same), or after a while."""
    if kept:
        await trio.sleep(EXPIRY)
    held = Held.now(token, kept)
    with trio.move_on_after(SETTLING):
        while True:
            await trio.sleep(0.5)
            before, held = held, Held.now(token, kept)
            if held == (wanted or before):
                break
    return held


async def many(method: Any, count: int, token: str, kept: bool) -> tuple[Held, Held, float]:
    """That many incarnations of two services; what was held before and after, and seconds each."""
    executors = {
        "sync": av.ProcessExecutor(start_method=method),
        "async": av.AsyncProcessExecutor(start_method=method),
    }
    declared = [av.Application(Fragile, name=name, executor=one) for name, one in executors.items()]
    async with av.open_host(declared, max_restarts=10**6) as host:
        refs = [host.find(name, Fragile) for name in executors]
        ups = host.events()
        for number in range(FIRST):
            await one_life(refs[number % 2], ups, number % 3)
        before = await settled(token, kept, None)
        begin = time.monotonic()
        for number in range(count):
            await one_life(refs[number % 2], ups, number % 3)
        took = (time.monotonic() - begin) / count
        after = await settled(token, kept, before)
        assert sum(ref.incarnation for ref in refs) == 2 + FIRST + count
    return before, after, took


def incarnations(method: str, count: int, kept: bool = True) -> None:
    """That many of them by one start method, in a process of their own.

    Args:
        method: that.
        count: how many.
        kept: whether to count threads that trio keeps, which takes some seconds.
    """
    token = f"{os.getpid()}-incarnations-{method}"
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        subprocess.run(
            [sys.executable, "-m", __spec__.name, method, str(count), str(int(kept))],
            env=environment(token, folder),
            check=True,
        )
        _, left = watch_end(token, SETTLING)
        files = files_in(folder)
    assert not left, left
    assert not files, files


def run(method: str, count: int, kept: bool) -> None:
    """What `incarnations` does, in this process."""
    logger = logging.getLogger("actorvisor")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    before, after, took = trio.run(many, method, count, os.environ[VARIABLE], kept)
    print(f"{method}: {count} incarnations, {took * 1000:.1f} ms each")
    print(f"before: {before}\nafter:  {after}", flush=True)
    assert before == after


if __name__ == "__main__":
    run(sys.argv[1], int(sys.argv[2]), sys.argv[3] == "1")
