"""What services in processes are told to do with other actors; workers import this module."""

from __future__ import annotations

import logging
import os
import pickle
import threading
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import trio

from tests.executors.process_services import Act, AsyncWorker, Fault, Refused, Stage, Worker

if TYPE_CHECKING:
    import actorvisor as av


def ask(self: Any, ref: av.Ref[Any], method: Any, *args: Any) -> Any:
    """Ask another actor, however this service can."""
    if isinstance(self, AsyncWorker):
        return ref.ask(method, *args)
    return ref.blocking.ask(method, *args)


def try_ask(self: Any, ref: av.Ref[Any], method: Any, *args: Any) -> Any:
    """What an ask gives, or the error that it raises."""
    if isinstance(self, AsyncWorker):
        return _try(ref.ask, method, *args)
    try:
        return ref.blocking.ask(method, *args)
    except Exception as error:
        return error


async def _try(function: Callable[..., Any], *args: Any) -> Any:
    try:
        return await function(*args)
    except Exception as error:
        return error


def tell_often(self: Any, ref: av.Ref[Any], method: Any, count: int) -> Any:
    """Tell numbers; gives the error that this raises, or None."""
    if isinstance(self, AsyncWorker):
        return _tell_often(ref, method, count)
    try:
        for number in range(count):
            ref.blocking.tell(method, number)
    except Exception as error:
        return error
    return None


async def _tell_often(ref: av.Ref[Any], method: Any, count: int) -> Any:
    try:
        for number in range(count):
            await ref.tell(method, number)
    except Exception as error:
        return error
    return None


def send_often(self: Any, ref: av.Ref[Any], count: int) -> Any:
    if isinstance(self, AsyncWorker):
        return _send_often(ref, count)
    for number in range(count):
        ref.blocking.send(number)
    return None


async def _send_often(ref: av.Ref[Any], count: int) -> None:
    for number in range(count):
        await ref.send(number)


def own_ref(self: Any) -> av.Ref[Any]:
    ref: av.Ref[Any] = self.ref
    return ref


def pass_on(self: Any, ref: Any) -> Any:
    return ref


def look(self: Any, ref: Any) -> tuple[Any, ...]:
    return ref.path, ref.state, ref.incarnation, repr(ref), ref == self.ref, hash(ref) == hash(ref)


def find(self: Any, path: str, kind: type[Any]) -> Any:
    try:
        return self.find(path, kind)
    except (LookupError, TypeError) as error:
        return error


def find_and_ask(self: Any, path: str, kind: type[Any], method: Any, *args: Any) -> Any:
    return ask(self, self.find(path, kind), method, *args)


def control(self: Any, ref: Any, call: str, *args: Any) -> Any:
    """Stop, start, restart ... another actor; the error where that cannot be."""
    if isinstance(self, AsyncWorker):
        return _try(getattr(ref, call), *args)
    coroutine = getattr(ref, call)(*args)
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    except Exception as error:
        return error
    finally:
        coroutine.close()
    return "it waits"


def names_of_children(self: Any, ref: Any) -> list[str]:
    return [child.path for child in ref.children()]


def put_later(self: Any, delay: float, *values: Any) -> None:
    self.after(delay, Worker.note, values)


def put_often(self: Any, period: float, value: Any) -> None:
    self.timers = {**getattr(self, "timers", {}), value: self.every(period, Worker.note, value)}


def cancel(self: Any, value: Any) -> None:
    self.timers.pop(value).cancel()


def put_and_cancel(self: Any, value: Any) -> None:
    """A timer that was due before its cancellation."""
    timer = self.after(0, Worker.note, value)
    threading.Event().wait(0.05)
    timer.cancel()


def promise(self: Any, name: str) -> None:
    self.promises = {**getattr(self, "promises", {}), name: self.reply_later()}


def keep(self: Any, name: str, value: Any, reject: bool = False) -> Any:
    """Keep a promise; the error if it cannot be."""
    try:
        if reject:
            return self.promises[name].reject(Refused(value))
        return self.promises[name].send(value)
    except RuntimeError as error:
        return error


def write(self: Any, *_: object) -> int:
    """Log something of each kind."""
    logger = logging.getLogger("of.a.worker")
    logger.warning("said %s", "this", extra={"order": 5, "thing": object()})
    logger.debug("not at this level")
    try:
        raise Fault("logged")
    except Fault:
        logger.exception("it failed")
    return os.getpid()


def write_oddly(self: Any, *_: object) -> None:
    logger = logging.getLogger("of.a.worker")
    logger.warning("x" * 1_000_000)
    logger.warning("%s", Odd())
    logger.warning("%s %s", "too few")
    logger.warning(Odd())
    logger.warning("well")


class Odd:
    def __str__(self) -> str:
        raise Fault("no text")

    __repr__ = __str__


def in_thread(self: Any, act: Act, *args: Any) -> Any:
    """Do it in a thread of this process, and wait for that."""
    if isinstance(self, AsyncWorker):
        return trio.to_thread.run_sync(act, None, *args)
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(act(None, *args)))
    thread.start()
    thread.join()
    return found[0]


def say_in_background(self: Any, stage: av.Ref[Stage], *lines: Any) -> None:
    if isinstance(self, AsyncWorker):
        self.start_soon(_say_all, stage, lines)
    else:
        self.start_soon(_say_all_blocking, stage, lines)


async def _say_all(stage: av.Ref[Stage], lines: tuple[Any, ...]) -> None:
    for line in lines:
        await stage.ask(Stage.say, line)


def _say_all_blocking(stage: av.Ref[Stage], lines: tuple[Any, ...]) -> None:
    for line in lines:
        stage.blocking.ask(Stage.say, line)


class Array:
    """An object whose data goes out of band where it can, as an array's does."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return Array, (pickle.PickleBuffer(self.data),)


def digest(self: Any, value: Any) -> tuple[str, int, int]:
    """What came: its type, its size, and a sum of its bytes."""
    if isinstance(value, dict):
        value = value["in"][0].data
    kind = type(value).__name__
    if isinstance(value, memoryview):
        assert value.nbytes == len(value) * value.itemsize
    data = bytes(value)
    return kind, len(data), zlib.crc32(data)


def digests(self: Any) -> list[tuple[str, int, int]]:
    return [digest(self, one) for one in self.got]


def make_large(self: Any, kind: str, size: int) -> Any:
    data = bytes(range(256)) * (size // 256)
    match kind:
        case "bytes":
            return data
        case "bytearray":
            return bytearray(data)
        case "memoryview":
            return memoryview(data)
        case _:
            return {"in": [Array(bytearray(data))]}


def change(self: Any, value: Any) -> int:
    """Write to what came: it is this process's own."""
    value[0] = 77
    first: int = value[0]
    return first


def ask_large(self: Any, ref: av.Ref[Any], kind: str, size: int) -> Any:
    """Send something large on to another actor, and give what that made of it."""
    return ask(self, ref, Worker.do, digest, make_large(self, kind, size))
