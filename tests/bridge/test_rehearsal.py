"""What the fork server does ahead, so that its workers need not."""

from __future__ import annotations

import contextlib
import contextvars
import importlib
import logging
import mmap
import os
import signal
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from actorvisor._runtime._commons import numbers
from actorvisor._runtime._inside import current
from actorvisor._runtime._waits import handling, sender
from actorvisor.bridge import _ledger as ledger, _rehearsal
from actorvisor.bridge._child import _blocking, _loop, _main
from actorvisor.bridge._child._port import Port
from actorvisor.bridge._wire import _frames as f


@pytest.fixture
def framed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The kinds of all frames that workers frame."""
    kinds: list[int] = []
    frame = Port.frame

    def note(port: Port, kind: int, *args: Any) -> None:
        kinds.append(kind)
        frame(port, kind, *args)

    monkeypatch.setattr(Port, "frame", note)
    return kinds


def test_whole_lives_are_carried_out(framed: list[int]) -> None:  # P5
    _rehearsal.rehearse()
    lives = 2 * _rehearsal.ROUNDS
    assert Counter(framed) == dict.fromkeys((f.UP, f.REPLY, f.ENDING, f.EXIT), lives)
    for first in range(0, len(framed), 4):
        assert framed[first] == f.UP
        assert framed[first + 3] == f.EXIT


def test_no_trace_is_left() -> None:  # P5: workers, and others that are forked, begin as before
    root = logging.getLogger()

    def state() -> list[object]:
        return [
            root.handlers[:],
            root.level,
            numbers.station,
            [var in contextvars.copy_context() for var in (current, handling, sender)],
            signal.getsignal(signal.SIGINT),
            signal.pthread_sigmask(signal.SIG_BLOCK, ()),
            threading.enumerate(),
            sorted(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None,
            os.getpgrp(),
        ]

    before = state()
    _rehearsal.rehearse()
    assert state() == before


@pytest.mark.parametrize("serve", [_blocking.serve, _loop.serve])
def test_who_waits_for_a_job_stands_by(  # P5
    serve: Callable[[Port, Callable[[], None]], None], framed: list[int]
) -> None:
    host, sock = socket.socketpair()
    stood_by = []

    def stand_by() -> None:
        stood_by.append(sock)
        _rehearsal.rehearse((serve is _loop.serve,), 1)
        framed.clear()
        host.sendall(_rehearsal.whole_life())

    with host, sock, contextlib.closing(ledger.Ledger(mmap.mmap(-1, ledger.SIZE))) as memory:
        with _rehearsal._nothing_changed():
            contextvars.copy_context().run(serve, Port(sock, memory), stand_by)
    assert stood_by == [sock]
    assert framed == [f.UP, f.REPLY, f.ENDING, f.EXIT]


@pytest.mark.parametrize("serve", [_blocking.serve, _loop.serve])
def test_who_has_a_job_does_not(  # P5
    serve: Callable[[Port, Callable[[], None]], None], framed: list[int]
) -> None:
    def stand_by() -> None:
        raise AssertionError("it has something to do")  # pragma: no cover

    host, sock = socket.socketpair()
    with host, sock, contextlib.closing(ledger.Ledger(mmap.mmap(-1, ledger.SIZE))) as memory:
        host.sendall(_rehearsal.whole_life())
        with _rehearsal._nothing_changed():
            contextvars.copy_context().run(serve, Port(sock, memory), stand_by)
    assert framed == [f.UP, f.REPLY, f.ENDING, f.EXIT]


@pytest.mark.parametrize("kind", [OSError, MemoryError])
def test_where_there_is_nothing_for_it_it_is_left_out(  # P5: it only saves time
    kind: type[Exception], framed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise kind

    monkeypatch.setattr(socket, "socketpair", refuse)
    _rehearsal.rehearse()
    assert framed == []


def test_a_module_is_looked_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:  # P5
    name = "looked_at_once"
    seen: list[ModuleType] = []
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(_main, "_acquainted", set())
    monkeypatch.setattr(_main, "acquaint", seen.append)
    _main.import_ahead([name])  # it fails here, and is tried again where it is needed
    assert seen == []
    (tmp_path / f"{name}.py").touch()
    importlib.invalidate_caches()
    for _ in range(2):
        _main.import_ahead([name])
    assert seen == [sys.modules.pop(name)]
