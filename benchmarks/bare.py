"""The floors of what crosses processes: bare sockets with trio, and nothing of a runtime.

The child is a process of the fork server, as a worker is. Both sides use the pickles and the
batches that a worker's connection uses.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import socket
import struct
from collections.abc import Callable, Generator
from time import perf_counter
from typing import Any, Final

import trio

HEADER: Final = struct.Struct("=IBQ")
SIZE: Final = HEADER.size
BATCH: Final = 1 << 16
READ: Final = 1 << 16


@contextlib.contextmanager
def child(main: Callable[..., None], *args: Any) -> Generator[socket.socket, None, None]:
    """A socket to a process of the fork server, which runs a function with the other end."""
    mine, other = socket.socketpair()
    process = multiprocessing.get_context("forkserver").Process(target=main, args=(other, *args))
    process.start()
    other.close()
    mine.setblocking(False)
    try:
        yield mine
    finally:
        mine.close()
        process.join()


async def send_all(sock: socket.socket, data: bytes) -> None:
    """Send bytes on a socket that does not block."""
    sent = 0
    while sent < len(data):
        try:
            sent += sock.send(memoryview(data)[sent:])
        except BlockingIOError:
            await trio.lowlevel.wait_writable(sock)


async def receive(sock: socket.socket) -> bytes:
    """What a socket has that does not block; waits for something."""
    while True:
        try:
            return sock.recv(READ)
        except BlockingIOError:
            await trio.lowlevel.wait_readable(sock)


# --- one way ----------------------------------------------------------------------------


class Sink:
    """What the child calls; no service."""

    def __init__(self) -> None:
        self.count = 0

    def plain(self, data: bytes) -> None:
        self.count += 1

    async def coroutine(self, data: bytes) -> None:
        self.count += 1


def consume_blocking(sock: socket.socket, count: int) -> None:
    """Take messages from a socket that blocks, and say when that many have come."""
    sink = Sink()
    tail = b""
    while sink.count < count:
        data = tail + sock.recv(READ)
        position, size = 0, len(data)
        while size - position >= SIZE:
            length, _, _ = HEADER.unpack_from(data, position)
            end = position + SIZE + length
            if end > size:
                break
            name, args = pickle.loads(data[position + SIZE : end])
            getattr(sink, name)(*args)
            position = end
        tail = data[position:]
    sock.sendall(b"!")
    sock.recv(1)


def consume_in_loop(sock: socket.socket, count: int) -> None:
    """The same with trio, and functions that are awaited."""
    sock.setblocking(False)

    async def consume() -> None:
        sink = Sink()
        tail = b""
        while sink.count < count:
            data = tail + await receive(sock)
            position, size = 0, len(data)
            while size - position >= SIZE:
                length, _, _ = HEADER.unpack_from(data, position)
                end = position + SIZE + length
                if end > size:
                    break
                name, args = pickle.loads(data[position + SIZE : end])
                await getattr(sink, name)(*args)
                position = end
            tail = data[position:]
        await send_all(sock, b"!")
        await receive(sock)

    trio.run(consume)


async def flood(count: int, message: bytes, in_loop: bool) -> float:
    """Send that many messages to a child in batches; seconds for each."""
    main, name = (consume_in_loop, "coroutine") if in_loop else (consume_blocking, "plain")
    with child(main, count) as sock:
        await trio.sleep(0.1)  # it starts
        begin = perf_counter()
        parts: list[bytes] = []
        waiting = 0
        for number in range(count):
            payload = pickle.dumps((name, (message,)), 5)
            parts.append(HEADER.pack(len(payload), 2, number))
            parts.append(payload)
            waiting += len(payload)
            if waiting > BATCH:
                await send_all(sock, b"".join(parts))
                parts.clear()
                waiting = 0
        await send_all(sock, b"".join(parts))
        await receive(sock)
        return (perf_counter() - begin) / count


# --- there and back ---------------------------------------------------------------------


def echo_blocking(sock: socket.socket) -> None:
    """Answer each message with what it carries, on a socket that blocks."""
    tail = b""
    while data := sock.recv(READ):
        tail += data
        while (payload := cut(tail)) is not None:
            tail = tail[SIZE + len(payload) :]
            sock.sendall(frame(pickle.loads(payload)[1][0]))


def echo_in_loop(sock: socket.socket) -> None:
    """The same with a stream of trio."""

    async def echo() -> None:
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        tail = b""
        while data := await stream.receive_some():
            tail += data
            while (payload := cut(tail)) is not None:
                tail = tail[SIZE + len(payload) :]
                await stream.send_all(frame(pickle.loads(payload)[1][0]))

    trio.run(echo)


def frame(value: object) -> bytes:
    """A value, pickled behind its length."""
    payload = pickle.dumps(value, 5)
    return HEADER.pack(len(payload), 3, 0) + payload


def cut(data: bytes) -> bytes | None:
    """The payload of the first frame, if all of it has come."""
    if len(data) < SIZE:
        return None
    length, _, _ = HEADER.unpack_from(data)
    end = SIZE + length
    return None if len(data) < end else data[SIZE:end]


async def round_trips(count: int, message: bytes, in_loop: bool) -> list[float]:
    """Ask a child one thing after the other; the seconds of each."""
    took = []
    with child(echo_in_loop if in_loop else echo_blocking) as sock:
        async with trio.SocketStream(trio.socket.from_stdlib_socket(sock)) as stream:
            for _ in range(count):
                begin = perf_counter()
                await stream.send_all(frame(("echo", (message,))))
                data = b""
                while (payload := cut(data)) is None:
                    data += await stream.receive_some()
                assert pickle.loads(payload) == message
                took.append(perf_counter() - begin)
    return took
