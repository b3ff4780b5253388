"""Whoever connects to a worker's socket and is no worker (P1)."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
from collections.abc import Iterator

import pytest
import trio
import trio.testing

import actorvisor as av
from actorvisor.bridge import _handover as handover, _worker

pytestmark = pytest.mark.process

TOKEN = secrets.token_bytes(handover.TOKEN_SIZE)


def connect(address: handover.Address) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(address.name)
    return sock


@pytest.fixture(params=["abstract", "file"], autouse=True)
def kind_of_name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "abstract" and not handover.has_abstract_sockets:
        pytest.skip("only Linux has sockets whose name is no file")
    monkeypatch.setattr(handover, "has_abstract_sockets", request.param == "abstract")


async def refused(sock: socket.socket) -> bool:
    """Whether the other end closes it."""
    sock.setblocking(False)
    with trio.fail_after(20):
        while True:
            try:
                return sock.recv(1) == b""
            except BlockingIOError:
                await trio.lowlevel.wait_readable(sock)
            except ConnectionResetError:
                return True


@pytest.mark.parametrize(
    "said",
    [b"", b"x", TOKEN[:-1] + b"?", secrets.token_bytes(handover.TOKEN_SIZE), b"x" * 100_000],
    ids=["nothing", "too little", "nearly", "garbage", "too much"],
)
async def test_a_stranger_is_refused_and_the_worker_is_not_kept_waiting(
    said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    # P1: refused, logged, and costs nothing; the one that has the token gets in meanwhile
    caplog.set_level(logging.WARNING, "actorvisor.bridge")
    with handover.listen() as (listener, address), contextlib.ExitStack() as stack:
        right = handover.Address(address.name, TOKEN)
        stranger = stack.enter_context(connect(right))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, BlockingIOError):
            stranger.setblocking(False)
            stranger.send(said)
        if len(said) < len(TOKEN):
            stranger.shutdown(socket.SHUT_WR)
        async with trio.open_nursery() as nursery:
            accepted: list[socket.socket] = []

            async def accept() -> None:
                accepted.append(await _worker._accept(listener, TOKEN))

            nursery.start_soon(accept)
            assert await refused(stranger)
            assert not accepted
            worker = stack.enter_context(handover.connect(right))
            with trio.fail_after(20):
                while not accepted:
                    await trio.testing.wait_all_tasks_blocked()
        with accepted[0] as sock:
            sock.sendall(b"welcome")
            assert worker.recv(7) == b"welcome"
    assert "stranger" in caplog.text


def test_no_file_is_left_and_only_the_owner_may_look() -> None:
    # P1
    with handover.listen() as (_, address):
        if handover.has_abstract_sockets:
            assert address.name[0] == 0
            return
        assert os.stat(os.path.dirname(address.name)).st_mode & 0o077 == 0
        assert os.path.exists(address.name)
    assert not os.path.exists(address.name)


async def test_a_slow_drip_of_bytes_is_cut_off(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    # P1: who sends byte by byte gets no more time for it than anybody else
    with handover.listen() as (listener, address), contextlib.ExitStack() as stack:
        stranger = stack.enter_context(connect(address))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_worker._accept, listener, TOKEN)
            began = trio.current_time()
            with contextlib.suppress(BrokenPipeError):
                for _ in range(100):
                    stranger.send(b"x")
                    await trio.sleep(_worker.HANDSHAKE / 10)
            assert trio.current_time() - began <= _worker.HANDSHAKE * 1.2
            nursery.cancel_scope.cancel()
    assert "stranger" in caplog.text


async def test_a_flood_of_strangers_does_not_keep_the_worker_out() -> None:
    # P1: of very many that say nothing, the oldest are refused
    with handover.listen() as (listener, address), contextlib.ExitStack() as stack:
        right = handover.Address(address.name, TOKEN)
        before = len(os.listdir("/proc/self/fd"))
        async with trio.open_nursery() as nursery:
            accepted: list[socket.socket] = []

            async def accept() -> None:
                accepted.append(await _worker._accept(listener, TOKEN))

            nursery.start_soon(accept)
            strangers = []
            for _ in range(3 * _worker.STRANGERS):
                strangers.append(stack.enter_context(connect(right)))
                await trio.testing.wait_all_tasks_blocked()
            open_here = len(os.listdir("/proc/self/fd")) - before - len(strangers)
            assert open_here <= _worker.STRANGERS
            worker = stack.enter_context(handover.connect(right))
            with trio.fail_after(20):
                while not accepted:
                    await trio.testing.wait_all_tasks_blocked()
        with accepted[0] as sock:
            sock.sendall(b"!")
            assert worker.recv(1) == b"!"


class Echo(av.Service):
    def echo(self, text: str) -> str:
        return text


async def test_a_service_starts_though_strangers_come_first(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # P1, through the public API: every worker's socket gets a stranger before its worker
    strangers: list[socket.socket] = []
    listen = handover.listen

    @contextlib.contextmanager
    def meddle() -> Iterator[tuple[socket.socket, handover.Address]]:
        with listen() as (listener, address):
            strangers.append(connect(address))
            strangers[-1].send(secrets.token_bytes(handover.TOKEN_SIZE))
            yield listener, address

    monkeypatch.setattr(handover, "listen", meddle)
    with trio.fail_after(60):
        async with av.open_host() as host:
            app = av.Application(Echo, executor=av.ProcessExecutor(standby=0))
            echo = await host.start(app)
            assert await echo.ask(Echo.echo, "here") == "here"
    assert strangers
    for stranger in strangers:
        stranger.close()
    assert "stranger" in caplog.text
