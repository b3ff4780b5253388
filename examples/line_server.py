"""A key-value server for the network, one line a request, whose parts may fail one by one.

    python examples/line_server.py --port 7777 --file store.json

    $ nc localhost 7777
    SET greeting hello world
    OK
    SET visit 42 EX 10
    OK
    GET greeting
    VALUE hello world

It is a plain trio program but for its two nurseries, and shows what `open_supervised_nursery` is for:

    clients  temporary   one task for each connection. One that sends rubbish, or is gone in the middle
                         of an answer, crashes its own task: logged, and nobody else notices.
    jobs     transient   the listener, the saver and the expirer. One that crashes is started again after
                         a while, which doubles each time; connections stay open meanwhile. After too
                         many crashes the server ends with the last one's exception.

What has to survive a crash, the store, belongs to none of the tasks: they are given it.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from pathlib import Path
from typing import cast

import trio

import actorvisor as av

LONGEST_LINE = 65_536


class ProtocolError(Exception):
    """A client does not keep to the protocol; its connection is closed."""


class Store:
    """The values, in memory and in a file: what the tasks share."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.changed = False
        # key: its value, and the time of day when it expires
        self.entries: dict[str, tuple[str, float | None]] = {}
        if file.exists():
            saved = json.loads(file.read_text("utf-8"))
            self.entries = {key: (value, expires) for key, (value, expires) in saved.items()}

    def answer(self, request: str) -> str:
        """What a client is told. A request that makes no sense is an answer, too, and no crash."""
        match request.split(" "):
            case ["GET", key]:
                self.expire()
                return f"VALUE {self.entries[key][0]}" if key in self.entries else "NONE"
            case ["SET", key, *words, "EX", seconds] if words and seconds.isdecimal():
                return self._set(key, " ".join(words), time.time() + int(seconds))
            case ["SET", key, *words] if words:
                return self._set(key, " ".join(words), None)
            case ["DELETE", key]:
                self.changed = self.changed or key in self.entries
                return "NONE" if self.entries.pop(key, None) is None else "OK"
            case ["COUNT"]:
                return f"VALUE {len(self.entries)}"
            case _:
                return "ERROR use GET key, SET key value [EX seconds], DELETE key, COUNT or QUIT"

    def _set(self, key: str, value: str, expires: float | None) -> str:
        self.entries[key] = (value, expires)
        self.changed = True
        return "OK"

    def expire(self) -> None:
        now = time.time()
        for key, (_, expires) in list(self.entries.items()):
            if expires is not None and expires <= now:
                del self.entries[key]
                self.changed = True

    async def save(self) -> None:
        if not self.changed:
            return
        text = json.dumps(self.entries)
        self.changed = False
        try:
            await trio.to_thread.run_sync(self._write, text)
        except BaseException:
            self.changed = True  # the next life of the saver has it to do
            raise

    def _write(self, text: str) -> None:
        draft = self.file.with_suffix(".new")
        draft.write_text(text, "utf-8")
        draft.replace(self.file)  # the old content or the new, and nothing in between


# ------------------------------------------------------------------------------------------ the jobs


async def save_often(store: Store, interval: float) -> None:
    while True:
        await store.save()
        await trio.sleep(interval)


async def expire_often(store: Store, interval: float) -> None:
    while True:
        store.expire()
        await trio.sleep(interval)


async def listen(  # noqa: ASYNC114 - that list is for libraries
    store: Store,
    clients: av.SupervisedNursery,
    port: int,
    *,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accept connections; each is a task of `clients`, so that they outlive a crash of this one.

    With port 0 the system chooses one, and for the next life another one: that is for tests only.
    """

    async def handler(stream: trio.SocketStream) -> None:
        await serve_client(store, stream)

    listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
    task_status.started(listeners[0].socket.getsockname()[1])
    # It wants a nursery to call `start_soon` of.
    await trio.serve_listeners(handler, listeners, handler_nursery=cast("trio.Nursery", clients))


# ----------------------------------------------------------------------------------------- a client


async def serve_client(store: Store, stream: trio.abc.Stream) -> None:
    """Answer one client until it leaves. What goes wrong is raised: it concerns this task only."""
    received = bytearray()
    async for chunk in stream:
        received += chunk
        *lines, rest = received.split(b"\n")
        for line in lines:
            request = line.decode("utf-8").rstrip("\r")
            if request == "QUIT":
                return
            await stream.send_all(store.answer(request).encode("utf-8") + b"\n")
        received = rest
        if len(received) > LONGEST_LINE:
            raise ProtocolError(f"a line of more than {LONGEST_LINE} bytes")


# ----------------------------------------------------------------------------------------- together


async def serve(
    store: Store,
    port: int,
    *,
    interval: float = 1.0,
    backoff: av.Backoff = av.Exponential(base=0.1, factor=2, cap=30),  # noqa: B008 - frozen
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; `task_status` is given the port."""
    try:
        async with (
            av.open_supervised_nursery(restart="temporary", name="clients") as clients,
            av.open_supervised_nursery(
                backoff=backoff, max_restarts=5, within=60, name="jobs"
            ) as jobs,
        ):
            # A port that is taken is raised here, at once: this is no restart, but the first start.
            task_status.started(await jobs.start(listen, store, clients, port))
            jobs.start_soon(save_often, store, interval)
            jobs.start_soon(expire_often, store, interval)
    finally:
        with trio.fail_after(5, shield=True):
            await store.save()


async def main() -> None:
    parser = argparse.ArgumentParser(description="A key-value server, one line a request.")
    parser.add_argument("--port", type=int, default=7777, help="default: %(default)s")
    parser.add_argument(
        "--file", type=Path, default=Path("store.json"), help="default: %(default)s"
    )
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    async with trio.open_nursery() as nursery:
        port = await nursery.start(serve, Store(options.file), options.port)
        print(f"listening on 127.0.0.1:{port}; Ctrl-C ends it", flush=True)


if __name__ == "__main__":
    try:
        trio.run(main)
    except* KeyboardInterrupt:
        pass
