"""What the cases run in processes: workers import this module, so that it keeps to what they need.

A script that a service follows is in the test's process: there a prompter reads it to the service.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import multiprocessing.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any, Literal, TypeAlias

import trio

import actorvisor as av
from actorvisor._runtime._commons import numbers
from actorvisor.bridge._wire._frames import ACK, HEADER
from tests.executors.process_services import AsyncWorker, Stage, Worker

Moment: TypeAlias = Literal["setup", "hold", "teardown"]


class Fault(Exception):
    """What crashes on purpose."""


class Verbose(Exception):
    """Has much to say."""

    def __init__(self, state: object) -> None:
        super().__init__(state)
        self.state = state


class Large(list[int]):
    """A large argument that can be watched."""


class Prompter(av.Service):
    """In the test's process: says what the scripts say, when their gates are open."""

    def __init__(self, scripts: list[Any]) -> None:
        self.scripts = scripts

    def prompt(self, number: int, moment: Moment, said: Any) -> tuple[bool, bool] | None:
        """Whether a setup fails, or declines; the rest is only noted, and let pass."""
        script = self.scripts[number]
        match moment:
            case "setup":
                script.setups += 1
                script.pids.append(said)
                gate = script.coming
            case "hold":
                script.held += 1
                gate = script.staying
            case "teardown":
                script.teardowns += 1
                gate = script.going
        if gate is not None:
            self.start_soon(self._let_pass, gate, script, moment, said, self.reply_later())
            return None
        return self._passed(script, moment, said)

    async def _let_pass(
        self, gate: Any, script: Any, moment: Moment, said: Any, reply: av.LaterReply
    ) -> None:
        await gate.wait()
        reply.send(self._passed(script, moment, said))

    @staticmethod
    def _passed(script: Any, moment: Moment, said: Any) -> tuple[bool, bool]:
        if moment == "teardown":
            script.reasons.append(said)
        return script.fails, script.declines


class Actor(av.Service):
    """Does as its script says; there is one for each kind of place."""

    baggage: tuple[object, ...]

    def life(self) -> int:
        return self.ref.incarnation

    def pid(self) -> int:
        return os.getpid()

    def hold(self, then: str = "life") -> Any:
        """Stay in the handler until the script's gate is open, and then do something else."""
        raise NotImplementedError

    def note(self) -> Any:
        """Note in the script that it was here."""
        raise NotImplementedError

    def crash(self) -> None:
        raise Fault("boom")

    def complain(self, about: object) -> None:
        raise Verbose((about, self.baggage))

    def exit(self) -> None:
        raise SystemExit(1)

    def end(self) -> None:
        self.stop()

    def _set_up(self, fails: bool, declines: bool) -> None:
        if fails:
            raise Fault("setup")
        if declines:
            self.stop()


class _Prompted(Actor):
    """The prompter reads the script to it."""

    def __init__(self, prompter: av.Ref[Prompter], number: int, *baggage: object) -> None:
        self.prompter = prompter
        self.number = number
        self.baggage = baggage

    def note(self) -> Any:
        return self._ask("hold", None)

    def _ask(self, moment: Moment, said: Any) -> Any:
        raise NotImplementedError


class ProcessActor(_Prompted):
    """In a process."""

    def setup(self) -> None:
        self._set_up(*self._ask("setup", os.getpid()))

    def hold(self, then: str = "life") -> object:
        self._ask("hold", None)
        result: object = getattr(self, then)()
        return result

    def teardown(self, reason: av.ExitReason) -> None:
        self._ask("teardown", reason)

    def _ask(self, moment: Moment, said: Any) -> Any:
        return self.prompter.blocking.ask(Prompter.prompt, self.number, moment, said)


class AsyncProcessActor(_Prompted):
    """In a loop of a process."""

    async def setup(self) -> None:
        self._set_up(*await self._ask("setup", os.getpid()))

    async def hold(self, then: str = "life") -> object:
        await self._ask("hold", None)
        result: object = getattr(self, then)()
        return result

    async def teardown(self, reason: av.ExitReason) -> None:
        await self._ask("teardown", reason)

    async def _ask(self, moment: Moment, said: Any) -> Any:
        return await self.prompter.ask(Prompter.prompt, self.number, moment, said)


# --- what triotp's cases run --------------------------------------------------------------


class Server(Actor):
    """Answers late, or not at all, and takes any message."""

    def delayed(self) -> None:
        """Hand the reply over to a background task."""
        self.start_soon(self.later, self.reply_later())

    def later(self, reply: av.LaterReply) -> Any:
        raise NotImplementedError

    def stop_unanswered(self) -> None:
        self.reply_later()
        self.stop()

    def receive(self, message: object) -> Any:
        match message:
            case "stop":
                self.stop()
            case "fail":
                raise Fault("info")
            case "matched":
                return self.note()
            case _:
                pass  # unknown: kept going
        return None


class LoopServer(Server):
    """With a loop."""

    async def later(self, reply: av.LaterReply) -> None:
        await self.hold()
        reply.send("done")


class PlainServer(Server):
    """Without one."""

    def later(self, reply: av.LaterReply) -> None:
        self.hold()
        reply.send("done")


class ProcessServer(PlainServer, ProcessActor):
    """In a process."""


class AsyncProcessServer(LoopServer, AsyncProcessActor):
    """In a loop of a process."""


class Store(av.Service):
    """A key-value store."""

    def __init__(self) -> None:
        self.values: dict[str, object] = {}

    def put(self, key: str, value: object) -> object:
        before = self.values.get(key)
        self.values[key] = value
        return before

    def get(self, key: str) -> object:
        return self.values.get(key)


class Reader(av.Service):
    """A loop that reads one message, and knows what to do when none comes."""

    def __init__(self, timeout: float, instead: object) -> None:
        self.timeout = timeout
        self.instead = instead

    async def run(self) -> object:
        if self.instead is None:
            with trio.fail_after(self.timeout):
                return await self.mailbox.receive()
        with trio.move_on_after(self.timeout):
            return await self.mailbox.receive()
        return self.instead


class PlainReader(av.Service):
    """The same without a loop; it waits for as long as it takes."""

    def run(self) -> object:
        return self.mailbox.receive()


def once(prompter: av.Ref[Prompter], number: int) -> None:
    """A function that returns, or raises, at once."""
    prompted = prompter.blocking.ask(Prompter.prompt, number, "setup", os.getpid())
    if prompted is not None and prompted[0]:
        raise Fault("task")


async def once_in_a_loop(prompter: av.Ref[Prompter], number: int) -> None:
    """The same in a loop."""
    prompted = await prompter.ask(Prompter.prompt, number, "setup", os.getpid())
    if prompted is not None and prompted[0]:
        raise Fault("task")


# --- what the reports' cases do in a worker -----------------------------------------------
#
# Acts for the workers of tests/executors/process_services.py: functions of the service.


def tell_all(self: Any, ref: av.Ref[Any], sender: int, count: int) -> Any:
    """Tell a note-taker numbers, as fast as it lets."""
    if isinstance(self, AsyncWorker):
        return _tell_all(ref, sender, count)
    for number in range(count):
        ref.blocking.tell(Notes.note, sender, number)
    return None


async def _tell_all(ref: av.Ref[Any], sender: int, count: int) -> None:
    for number in range(count):
        await ref.tell(Notes.note, sender, number)


class Notes(av.Service):
    """Takes notes; it can be held up, by the prompter's host, wherever it runs."""

    def __init__(self) -> None:
        self.notes: list[tuple[int, int]] = []

    def note(self, sender: int, number: int) -> None:
        self.notes.append((sender, number))

    def all(self) -> list[tuple[int, int]]:
        return self.notes


class PlainNotes(Notes):
    """Without a loop."""

    def hold(self, stage: av.Ref[Stage]) -> None:
        stage.blocking.ask(Stage.heard, "go on")


class LoopNotes(Notes):
    """With a loop."""

    async def hold(self, stage: av.Ref[Stage]) -> None:
        await stage.ask(Stage.heard, "go on")


def life_of(self: Any, ref: av.Ref[Any]) -> Any:
    """Ask another service which life it is in."""
    if isinstance(self, AsyncWorker):
        return ref.ask(AsyncWorker.do, life)
    return ref.blocking.ask(Worker.do, life)


def life(self: Any) -> int:
    number: int = self.ref.incarnation
    return number


def start_subprocess(self: Any) -> int:
    """Start one that holds what this process holds: its pipes too."""
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid


def socket_names(self: Any) -> set[str]:
    return sockets_of(os.getpid())


def sockets_of(pid: int) -> set[str]:
    """The sockets that a process has."""
    found = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return {one for one in found if one.startswith("socket:")}


def large_reply(self: Any, number: int, size: int) -> tuple[int, bytes]:
    return number, bytes([number % 256]) * size


def kill_soon(self: Any, delay: float) -> None:
    """Die by a signal after a while, whatever it is at then."""
    timer = threading.Timer(delay, os.kill, [os.getpid(), signal.SIGKILL])
    timer.daemon = True
    timer.start()


def linger(self: Any, how: str) -> None:
    """Hang in the interpreter's own exit."""
    if how == "thread":
        threading.Thread(target=time.sleep, args=[600]).start()
    else:
        multiprocessing.util.Finalize(None, time.sleep, [600], exitpriority=0)


def say_much(self: Any) -> None:
    """Print, up to the very end."""
    for number in range(200):
        print("so much to say", number)


def spoil_link(self: Any, how: str) -> None:
    """Break this worker's connection while it is busy."""
    sock = numbers.station.port.sock  # type: ignore[union-attr]
    if how in {"garbage", "half a header", "half a frame"}:
        sock.setblocking(True)
        header = HEADER.pack(1000, ACK, 0)
        sock.sendall(
            {
                "garbage": b"\xff" * 64,
                "half a header": header[:5],
                "half a frame": header + b"\0" * 500,
            }[how]
        )
    if how != "garbage":
        sock.shutdown(socket.SHUT_RDWR)
    time.sleep(600)


def note(self: Any, number: int, payload: bytes = b"") -> None:
    self.got.append((number, len(payload)))


def log_without_end(self: Any) -> None:
    for number in range(1_000_000):
        logging.getLogger("of.a.case").warning("record %d", number)


def log_lines(self: Any, letter: str, count: int, size: int) -> None:
    for _ in range(count):
        logging.getLogger("of.a.case").warning(letter * size)


def sleep_holding_the_gil(self: Any, *_: object) -> None:
    ctypes.PyDLL(None).sleep(600)


def fail_in(self: Any, what: str) -> None:
    raise OSError(f"{what} not writable")


def fail_beside(self: Any, what: str) -> Any:
    """In the background, while it waits in its setup."""
    if isinstance(self, AsyncWorker):
        return _fail_beside(self, what)
    self.start_soon(fail_in, self, what)
    while not self.stopping:
        time.sleep(0.001)
    return None


async def _fail_beside(self: Any, what: str) -> None:
    self.start_soon(_fail_soon, self, what)
    await trio.sleep_forever()


async def _fail_soon(self: Any, what: str) -> None:
    await trio.lowlevel.checkpoint()
    fail_in(self, what)


class UnloadableRefusal(av.Rejection):
    """Pickles, and does not unpickle: its constructor takes other arguments."""

    def __init__(self, one: object, two: object) -> None:
        super().__init__(f"{one} and {two}")


class Factory(Worker):
    """Its factory raises."""

    def __init__(self) -> None:
        raise OSError("log file not writable")


class AsyncFactory(Factory, AsyncWorker):
    """The same with a loop."""


class Program(av.Service):
    """Of a program that is run by itself: says what becomes of it."""

    def setup(self) -> None:
        print("up", os.getpid(), flush=True)

    def teardown(self, reason: av.ExitReason) -> None:
        print("torn down", reason, flush=True)

    def sleep(self) -> None:
        """In C code that holds the GIL, with a subprocess."""
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        print("child", child.pid, flush=True)
        ctypes.PyDLL(None).sleep(600)

    def wait(self) -> None:
        print("asked", flush=True)
        time.sleep(600)


class SlowlyDown(Program):
    """Takes a while to stop."""

    def teardown(self, reason: av.ExitReason) -> None:
        print("stopping", flush=True)
        time.sleep(0.3)
