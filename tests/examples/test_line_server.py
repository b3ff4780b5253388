"""The line server, from a client's side: real sockets and real time, and deadlines that fail."""

from __future__ import annotations

import functools
import logging
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio

import actorvisor as av
from examples.line_server import LONGEST_LINE, Store, serve

DEADLINE = 20.0

serve_quickly = functools.partial(serve, interval=0.001, backoff=av.Fixed(0.001))


class Client:
    """Sends requests, and reads answers."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.received = b""

    async def answer(self) -> str | None:
        """The next line, or None when the server has closed the connection."""
        while b"\n" not in self.received:
            try:
                chunk = await self.stream.receive_some()
            except trio.BrokenResourceError:
                chunk = b""  # it closed the connection before it had read all
            if not chunk:
                return None
            self.received += chunk
        line, _, self.received = self.received.partition(b"\n")
        return line.decode()

    async def ask(self, *requests: str) -> list[str | None]:
        await self.stream.send_all("".join(f"{request}\n" for request in requests).encode())
        return [await self.answer() for _ in requests]


Connect = Callable[[int], Awaitable[Client]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Makes clients, and closes them at the end of the test."""
    async with AsyncExitStack() as opened:

        async def connect(port: int) -> Client:
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            opened.push_async_callback(trio.aclose_forcefully, stream)
            return Client(stream)

        yield connect


@asynccontextmanager
async def running(store: Store, port: int = 0) -> AsyncIterator[int]:
    """A server, and its port; it is cancelled at the end, and nothing of it may be left."""
    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as nursery:
            port = await nursery.start(serve_quickly, store, port)
            yield port
            nursery.cancel_scope.cancel()
        with pytest.raises(OSError, match=f"connect to 127.0.0.1:{port} failed"):
            await trio.open_tcp_stream("127.0.0.1", port)


class WatchedStore(Store):
    """Tells when it has failed twice, and when it has been saved."""

    def __init__(self, file: Path) -> None:
        super().__init__(file)
        self.failures = 0
        self.has_failed = trio.Event()
        self.is_saved = trio.Event()

    async def save(self) -> None:
        changed = self.changed
        try:
            await super().save()
        except OSError:
            self.failures += 1
            if self.failures == 2:
                self.has_failed.set()
            raise
        if changed:
            self.is_saved.set()


async def test_requests_and_answers(connect: Connect, tmp_path: Path) -> None:
    async with running(Store(tmp_path / "store.json")) as port:
        one, other = await connect(port), await connect(port)
        assert await one.ask("SET key some words", "GET key", "COUNT") == [
            "OK",
            "VALUE some words",
            "VALUE 1",
        ]
        assert await other.ask("GET key", "DELETE key", "DELETE key") == [
            "VALUE some words",
            "OK",
            "NONE",
        ]
        assert await one.ask("GET key\r") == ["NONE"]
        for nonsense in ("", "GET", "SET key", "get key", "COUNT all"):
            (answer,) = await one.ask(nonsense)
            assert answer is not None
            assert answer.startswith("ERROR use ")
        assert await one.ask("QUIT") == [None]
        assert await other.ask("COUNT") == ["VALUE 0"]


async def test_what_has_expired_is_gone(connect: Connect, tmp_path: Path) -> None:
    store = Store(tmp_path / "store.json")
    async with running(store) as port:
        client = await connect(port)
        assert await client.ask("SET a 1 EX 0", "GET a", "SET b 2 EX 1000", "GET b") == [
            "OK",
            "NONE",
            "OK",
            "VALUE 2",
        ]
        # By its own task, too: nobody reads this one.
        gone = trio.Event()

        class Watched(dict[str, tuple[str, float | None]]):
            def __delitem__(self, key: str) -> None:
                super().__delitem__(key)
                gone.set()

        store.entries = Watched(store.entries)
        await client.ask("SET c 3 EX 0")
        await gone.wait()
        assert await client.ask("COUNT") == ["VALUE 1"]


@pytest.mark.parametrize(
    ("rubbish", "told"),
    [
        (b"\xff\xfe\n", "UnicodeDecodeError"),
        (b"x" * (2 * LONGEST_LINE), "ProtocolError"),
        (b"SET key value EX " + b"9" * 400 + b"\n", "OverflowError"),
    ],
)
async def test_a_client_that_sends_rubbish(
    rubbish: bytes, told: str, connect: Connect, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(Store(tmp_path / "store.json")) as port:
        good = await connect(port)
        await good.ask("SET key value")
        for _ in range(10):  # as often as it likes: no limit is reached
            bad = await connect(port)
            await bad.stream.send_all(rubbish)
            assert await bad.answer() is None
            assert await good.ask("GET key") == ["VALUE value"]
        assert await (await connect(port)).ask("GET key") == ["VALUE value"]
    assert told in caplog.text
    assert {record.levelno for record in caplog.records} == {logging.ERROR}


async def test_a_client_that_is_gone_before_its_answers(connect: Connect, tmp_path: Path) -> None:
    async with running(Store(tmp_path / "store.json")) as port:
        good = await connect(port)
        assert await good.ask(f"SET key {'x' * 60_000}") == ["OK"]
        for _ in range(5):
            bad = await connect(port)
            await bad.stream.send_all(b"GET key\n" * 100)
            await bad.answer()
            # A reset, while the server cannot get rid of what it has to say.
            bad.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            await bad.stream.aclose()
        assert await good.ask("COUNT") == ["VALUE 1"]


async def test_the_saver_comes_back(
    connect: Connect, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = WatchedStore(tmp_path / "missing" / "store.json")
    async with running(store) as port:
        client = await connect(port)
        assert await client.ask("SET key value") == ["OK"]
        await store.has_failed.wait()
        assert await client.ask("GET key") == ["VALUE value"]  # the same connection
        store.file.parent.mkdir()
        await store.is_saved.wait()
        assert Store(store.file).answer("GET key") == "VALUE value"
    assert "jobs/save_often crashed" in caplog.text


async def test_too_many_crashes_end_the_server(connect: Connect, tmp_path: Path) -> None:
    store = WatchedStore(tmp_path / "missing" / "store.json")
    with pytest.RaisesGroup(FileNotFoundError):
        async with running(store) as port:
            client = await connect(port)
            await client.ask("SET key value")
            assert await client.answer() is None
    assert store.failures == 7  # six lives, and one more try at the end


async def test_the_listener_comes_back(
    connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept, open_listeners = trio.SocketListener.accept, trio.open_tcp_listeners
    broken, opened = trio.Event(), trio.Event()

    async def break_once(self: trio.SocketListener) -> trio.SocketStream:
        stream = await accept(self)
        if broken.is_set():
            return stream
        broken.set()
        await stream.aclose()
        raise OSError("the network is down")

    async def tell(port: int, *, host: str) -> list[trio.SocketListener]:
        listeners = await open_listeners(port, host=host)
        opened.set()
        return listeners

    (free,) = await open_listeners(0, host="127.0.0.1")
    port = free.socket.getsockname()[1]
    await free.aclose()
    async with running(Store(tmp_path / "store.json"), port):
        early = await connect(port)
        await early.ask("SET key value")
        monkeypatch.setattr(trio.SocketListener, "accept", break_once)
        monkeypatch.setattr(trio, "open_tcp_listeners", tell)
        # The accept that is under way is still the old one.
        await (await connect(port)).ask("COUNT")
        unlucky = await connect(port)
        assert await unlucky.answer() is None
        await opened.wait()
        assert await early.ask("GET key") == ["VALUE value"]
        assert await (await connect(port)).ask("GET key") == ["VALUE value"]


async def test_a_port_that_is_taken(tmp_path: Path) -> None:
    async with running(Store(tmp_path / "store.json")) as port:
        with pytest.RaisesGroup(pytest.RaisesExc(OSError, match="in use"), flatten_subgroups=True):
            async with running(Store(tmp_path / "other.json"), port):
                pytest.fail("it started")


async def test_a_stop_closes_and_saves(connect: Connect, tmp_path: Path) -> None:
    store = Store(tmp_path / "store.json")
    async with running(store) as port:
        clients = [await connect(port) for _ in range(3)]
        await clients[0].ask("SET key value")
    for client in clients:
        assert await client.answer() is None
    assert Store(store.file).answer("GET key") == "VALUE value"


@pytest.mark.process
async def test_as_a_program(connect: Connect, tmp_path: Path) -> None:
    program = Path(__file__).parents[2] / "examples" / "line_server.py"
    command = [sys.executable, str(program), "--port", "0", "--file", str(tmp_path / "store.json")]
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
    try:
        with trio.fail_after(DEADLINE):
            assert process.stdout is not None
            line = b""
            while not line.endswith(b"\n"):
                chunk = await process.stdout.receive_some()
                assert chunk, f"it ended: {line!r}"
                line += chunk
            client = await connect(int(line.split(b";")[0].rpartition(b":")[2]))
            assert await client.ask("SET key value") == ["OK"]
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 0
            assert await client.answer() is None
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            if process.stdout is not None:
                await process.stdout.aclose()
    assert Store(tmp_path / "store.json").answer("GET key") == "VALUE value"
