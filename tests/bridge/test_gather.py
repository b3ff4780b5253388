"""When what is sent to a worker goes out: at once, together, or soon (P3)."""

from __future__ import annotations

import inspect
import pickle
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio
import trio.testing

import actorvisor as av
from actorvisor._runtime import _kind
from actorvisor._runtime._envelope import Envelope, Reply
from actorvisor.bridge import _ledger as ledger, _memory
from actorvisor.bridge._child._main import acquaint
from actorvisor.bridge._link import LINGER, Link
from actorvisor.bridge._wire import _frames as f
from tests.bridge import talkers

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import pytest


@asynccontextmanager
async def working_link() -> AsyncGenerator[tuple[Link, socket.socket], None]:
    """A link whose worker has a job, and the worker's end of its socket."""
    mine, other = socket.socketpair()
    mine.setblocking(False)
    other.setblocking(False)
    with mine, other:
        async with trio.open_nursery() as nursery:
            shared = ledger.Ledger(_memory.share(_memory.create(ledger.SIZE), ledger.SIZE))
            link = Link(mine, shared, nursery)
            other.send(f.encode(f.HELLO, 1))
            await link.greeted.wait()
            link.end.job()
            link.send(f.JOB, 0)
            await trio.testing.wait_all_tasks_blocked()
            other.recv(100)
            yield link, other
            nursery.cancel_scope.cancel()


def message(asked: bool = False) -> Envelope:
    envelope = Envelope("note", (), {}, Reply() if asked else None)
    envelope.wire = b"call"
    return envelope


def arrived(sock: socket.socket) -> list[int]:
    """The kinds of what has arrived since."""
    try:
        frames = f.FrameReader(f.FROM_HOST).feed(sock.recv(1 << 16))
    except BlockingIOError:
        return []
    kinds = []
    for kind, number, payload, _ in frames:
        kinds += [f.TELL] * len(f.cut_tells(number, payload)) if kind == f.TELLS else [kind]
    return kinds


async def test_a_tell_that_comes_alone_does_not_wait_for_others() -> None:  # P3
    async with working_link() as (link, worker):
        for _ in range(3):
            link.push(message())
            turns = 0
            while not arrived(worker):
                turns += 1
                assert turns < 4, "it waits for others, of which none come"
                await trio.lowlevel.checkpoint()


async def test_tells_gather_while_they_come_at_every_turn() -> None:  # P3
    async with working_link() as (link, worker):
        begun, sent, pieces = trio.current_time(), 0, []
        while trio.current_time() < begun + 20 * LINGER and sent < link.end.window:
            link.push(message())
            sent += 1
            await trio.lowlevel.checkpoint()
            pieces.append(len(arrived(worker)))
        with trio.fail_after(5):
            while sum(pieces) < sent:
                await trio.lowlevel.checkpoint()
                pieces.append(len(arrived(worker)))
    assert sent > 2 * sum(map(bool, pieces))  # one by one, some two still go together
    assert sum(pieces) == sent


async def test_an_ask_does_not_wait_while_tells_gather() -> None:  # P3
    async with working_link() as (link, worker):
        for _ in range(50):
            link.push(message())
            await trio.lowlevel.checkpoint()
            arrived(worker)
            link.push(message(asked=True))
            turns = 0
            while f.ASK not in arrived(worker):
                turns += 1
                assert turns < 4, "an ask waits for more tells"
                link.push(message())
                await trio.lowlevel.checkpoint()
            link.end.asks.clear()


def test_what_was_declared_is_not_checked_again_in_a_worker(  # P5
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pickled = pickle.dumps(av.Application(talkers.Listener, executor=av.AsyncProcessExecutor()))
    acquaint(talkers)
    _kind.kind_of(talkers.Listener).fitting.clear()

    def signature(*_: object) -> None:
        raise AssertionError("it was checked where it was declared, and takes half of a start")

    monkeypatch.setattr(inspect, "signature", signature)
    assert pickle.loads(pickled).target is talkers.Listener
