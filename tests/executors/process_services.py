"""Services that tests run in processes, and what they are told to do there.

Workers import this module: it keeps to what they need.
"""

from __future__ import annotations

import ctypes
import inspect
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

import trio

import actorvisor as av

Act = Callable[..., Any]


class Fault(Exception):
    """What crashes on purpose."""


class Refused(av.Rejection):
    """What is answered on purpose."""


def nothing(self: Any, *_: object) -> None:
    pass


class Worker(av.Service):
    """Does in its process what it is told to do; a plain service."""

    def __init__(self, setup: Act = nothing, teardown: Act = nothing, *args: Any) -> None:
        self.acts = setup, teardown
        self.args = args
        self.got: list[Any] = []

    def setup(self) -> None:
        self.acts[0](self, *self.args)

    def teardown(self, reason: av.ExitReason) -> None:
        self.acts[1](self, *self.args)

    def do(self, act: Act, *args: Any) -> Any:
        return act(self, *args)

    def take(self, *values: Any) -> Any:
        return values[0] if len(values) == 1 else values

    def pid(self) -> int:
        return os.getpid()

    def receive(self, message: object) -> None:
        self.got.append(message)

    def note(self, message: object) -> None:
        self.got.append(message)

    def received(self) -> list[Any]:
        return self.got


async def _may_wait(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


class AsyncWorker(Worker):
    """The same with a loop."""

    async def setup(self) -> None:  # type: ignore[override]
        await _may_wait(self.acts[0](self, *self.args))

    async def teardown(self, reason: av.ExitReason) -> None:  # type: ignore[override]
        await _may_wait(self.acts[1](self, *self.args))

    async def do(self, act: Act, *args: Any) -> Any:
        return await _may_wait(act(self, *args))


# --- deaths ------------------------------------------------------------------------------------


def crash(self: Any, text: str = "boom", *_: object) -> NoReturn:
    raise Fault(text)


def refuse(self: Any, text: str = "no", *_: object) -> NoReturn:
    raise Refused(text)


def leave(self: Any, status: int = 7, *_: object) -> NoReturn:
    os._exit(status)


def die(self: Any, signum: int = signal.SIGKILL, *_: object) -> NoReturn:
    """Of a signal, without a core dump."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.kill(os.getpid(), signum)
    while True:
        time.sleep(10)


def segfault(self: Any, *_: object) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.string_at(0)


def give_up(self: Any, code: object = 3, *_: object) -> NoReturn:
    sys.exit(code)  # type: ignore[arg-type]


def block(self: Any, seconds: float = 600, *_: object) -> None:
    """A handler, or a whole loop, that hangs."""
    time.sleep(seconds)


def eat(self: Any, size: int, *_: object) -> int:
    return len(bytearray(size))


def stop(self: Any, *_: object) -> None:
    self.stop()


def in_life(self: Any, life: int, act: Act, *args: Any) -> Any:
    """Only in one of its lives."""
    if self.ref.incarnation == life:
        return act(self, *args)
    return None


def beside(self: Any, act: Act, *args: Any) -> None:
    """In the background, of whichever kind fits."""
    if isinstance(self, AsyncWorker):
        self.start_soon(_beside, act, self, args)
    else:
        self.start_soon(act, self, *args)


async def _beside(act: Act, self: Any, args: tuple[Any, ...]) -> None:
    await trio.lowlevel.checkpoint()
    await _may_wait(act(self, *args))


# --- what is busy ------------------------------------------------------------------------------


def say(self: Any, stage: av.Ref[Any], line: object, *_: object) -> None:
    """Tell a stage of the parent, however this service can."""
    if isinstance(self, AsyncWorker):
        stage.tell_nowait(Stage.say, line)
    else:
        stage.blocking.tell(Stage.say, line)


def say_and(self: Any, stage: av.Ref[Any], line: object, act: Act, *args: Any) -> Any:
    """Say that it is about to do something, and do it."""
    if isinstance(self, AsyncWorker):
        return _say_and(self, stage, line, act, args)
    stage.blocking.ask(Stage.say, line)
    return act(self, *args)


async def _say_and(
    self: Any, stage: av.Ref[Any], line: object, act: Act, args: tuple[Any, ...]
) -> Any:
    await stage.ask(Stage.say, line)  # not a tell: that would wait for the loop
    return await _may_wait(act(self, *args))


class Stage(av.Service):
    """In the parent: what services in processes say."""

    def __init__(self) -> None:
        self.lines: list[Any] = []
        self._waiting: list[tuple[Any, av.LaterReply]] = []

    async def say(self, line: object) -> None:
        self.lines.append(line)
        for one in [one for one in self._waiting if one[0] == line]:
            self._waiting.remove(one)
            one[1].send(None)

    async def heard(self, line: object) -> None:
        """Answer when it has been said."""
        if line not in self.lines:
            self._waiting.append((line, self.reply_later()))

    async def all(self) -> list[Any]:
        return self.lines

    def receive(self, message: object) -> None:
        self.lines.append(message)


# --- what cannot be brought over ---------------------------------------------------------------


class Stubborn:
    """Cannot be pickled."""

    def __reduce__(self) -> NoReturn:
        raise TypeError("stubborn as it is")

    def __repr__(self) -> str:
        return "<Stubborn one>"


def _cannot_load(where: int) -> NoReturn:
    raise LookupError("it does not load")


class Unloadable:
    """Pickles, and does not unpickle."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _cannot_load, (1,)


class UnloadableError(Exception):
    """Pickles, and does not unpickle: its constructor takes other arguments."""

    def __init__(self, one: object, two: object) -> None:
        super().__init__(f"{one} and {two}")


class StubbornError(Exception):
    """Cannot be pickled."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class StubbornRefusal(av.Rejection):
    """Cannot be pickled."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class BrokenService(Worker):
    """Its factory raises."""

    def __init__(self) -> None:
        raise Fault("no such instance")


def give(self: Any, kind: Callable[[], Any], *_: object) -> Any:
    return kind()


def throw(self: Any, kind: Callable[..., BaseException], *args: Any) -> NoReturn:
    raise kind(*args)


def log(self: Any, text: str, *_: object) -> int:
    logging.getLogger("of.a.worker").warning("said %s", text, extra={"order": 5})
    return os.getpid()


def just(kind: Callable[[], Any]) -> Any:
    """A function that is a service of its own."""
    return kind()


async def just_async(kind: Callable[[], Any]) -> Any:  # noqa: ASYNC124
    return kind()


def throw_group(self: Any, *_: object) -> NoReturn:
    raise ExceptionGroup("both", [Fault("one"), KeyError("two")])


def throw_long(self: Any, size: int, *_: object) -> NoReturn:
    raise Fault("x" * size)


def wait_for(self: Any, stage: av.Ref[Any], line: object, *_: object) -> Any:
    """Wait until something was said."""
    if isinstance(self, AsyncWorker):
        return stage.ask(Stage.heard, line)
    return stage.blocking.ask(Stage.heard, line)


def monitor(self: Any, ref: av.Ref[Any], *_: object) -> None:
    self.monitor(ref)


def later(self: Any, kind: Callable[[], Any], *_: object) -> None:
    """Answer when the handler has returned."""
    reply = self.reply_later()
    beside(self, lambda _: reply.send(kind()))


# --- what is left behind -----------------------------------------------------------------------


def leave_subprocess(self: Any, *_: object) -> int:
    """Start a process and forget it; which."""
    return subprocess.Popen(["sleep", "600"]).pid


def leave_daemon(self: Any, *_: object) -> int:
    """Fork a process that goes on, in a session of its own, with all that this one has open."""
    begun, tell = os.pipe()
    pid = os.fork()
    if not pid:
        os.setsid()
        os.write(tell, b".")
        time.sleep(600)
        os._exit(0)
    os.read(begun, 1)
    return pid


def leave_fork(self: Any, *_: object) -> int:
    """The same, in this session."""
    pid = os.fork()
    if not pid:
        time.sleep(600)
        os._exit(0)
    return pid


def leave_thread(self: Any, *_: object) -> None:
    threading.Thread(target=time.sleep, args=(600,)).start()


def beat(self: Any, seconds: float, *_: object) -> str:
    """A long handler that says that it is well."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        self.heartbeat()
        time.sleep(0.01)
    return "done"


async def wait(self: Any, seconds: float, *_: object) -> str:
    await trio.sleep(seconds)
    return "done"


def beat_alone(stage: av.Ref[Stage], seconds: float) -> None:
    """A function that says that it is well."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        av.heartbeat()
        time.sleep(0.01)
    stage.blocking.tell(Stage.say, "done")
    while not av.stopping():
        av.heartbeat()
        time.sleep(0.01)


def spoil(self: Any, data: bytes, *_: object) -> None:
    """Write to the connection what must not be there."""
    _connection().send(data)


def spoil_and_block(self: Any, data: bytes, *_: object) -> None:
    spoil(self, data)
    time.sleep(600)


def hang_up(self: Any, *_: object) -> None:
    """Close the connection, and live on."""
    _connection().shutdown(socket.SHUT_RDWR)
    time.sleep(600)


def _connection() -> socket.socket:
    from actorvisor._runtime._commons import numbers

    station: Any = numbers.station
    sock: socket.socket = station.port.sock
    return sock


def sizes_of_args(self: Any, *_: object) -> list[int]:
    return [len(arg) for arg in self.args]


def log_and_leave(self: Any, text: str) -> NoReturn:
    log(self, text)
    os._exit(7)
