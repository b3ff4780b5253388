"""What a worker does from its job to its end, done ahead in the fork server.

What the interpreter has found out about code that ran, a worker has with it when it is forked.
Else it would find it out again, at every start, in memory that has to be copied first.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import mmap
import socket
from collections.abc import Generator, Iterable
from typing import Final

from .._runtime._commons import numbers
from .._runtime._declaration import Application
from ..abc import Service
from . import _ledger as ledger
from ._child import _main
from ._child._port import Port
from ._job import Job, Setting
from ._wire import _frames as f
from ._wire._codec import Codec

ROUNDS: Final = 12
"""Often enough for the interpreter to have made up its mind."""


class Player(Service):
    """Answers once, and ends."""

    def play(self) -> int:
        """The only message."""
        self.stop()
        return 0


def rehearse(kinds: Iterable[bool] = (True, False), rounds: int = ROUNDS) -> None:
    """Carry out lives of a service; no trace is left of them.

    Where there is no socket or memory for it, it is left out: all that it does is to save time.

    Args:
        kinds: with a loop or without: whether each has one.
        rounds: how often.
    """
    with contextlib.suppress(OSError, MemoryError), _nothing_changed():
        for _ in range(rounds):
            for has_loop in kinds:
                contextvars.copy_context().run(_play, has_loop)


@contextlib.contextmanager
def _nothing_changed() -> Generator[None, None, None]:
    """Put back what a worker sets for its whole process."""
    root = logging.getLogger()
    handlers, level, station = root.handlers[:], root.level, numbers.station
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        numbers.station = station


def _play(has_loop: bool) -> None:
    host, sock = socket.socketpair()
    with host, sock, contextlib.closing(ledger.Ledger(mmap.mmap(-1, ledger.SIZE))) as memory:
        host.sendall(whole_life())
        _main.work(Port(sock, memory), Setting((), None, has_loop))


def whole_life() -> bytes:
    """What a host sends for a life of one message."""
    codec, path = Codec(), "rehearsal"
    job = Job(
        application=codec.encode_whole(Application(Player), path),
        path=path,
        identity=1,
        face=1,
        face_path=path,
        incarnation=1,
        host=b"",
        beat=None,
        log_level=logging.getLogger().level,
    )
    return f.encode(f.JOB, 0, codec.encode_whole(tuple(job), path)) + f.encode(
        f.ASK, 1, codec.encode_whole(("play", ()), path)
    )
