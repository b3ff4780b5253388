"""What the samples talk about."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol

import trio

import actorvisor as av


class Counter(av.Service):
    def __init__(self, start: int = 0, *, step: int = 1) -> None:
        self.value = start
        self.step = step

    async def add(self, amount: int) -> int:
        self.value += amount
        return self.value

    def read(self) -> str:
        return str(self.value)

    def reset(self, value: int = 0, *, quietly: bool = False) -> None:
        self.value = value

    def pair(self, first: int, second: str) -> tuple[int, str]:
        return first, second

    def promise(self) -> Awaitable[int]:
        raise NotImplementedError


class LoudCounter(Counter):
    """Overrides a handler, and has one more."""

    async def add(self, amount: int) -> int:
        return await super().add(amount)

    def shout(self) -> bytes:
        return b"!"


class Log(av.Service):
    def __init__(self, name: str, lines: int) -> None:
        self.name = name
        self.lines = lines

    def write(self, line: str) -> None:
        self.lines += 1

    def receive(self, message: Any) -> None:
        self.write(repr(message))


class Adder(Protocol):
    """Anything that adds: a ref may be of a protocol."""

    async def add(self, amount: int) -> int: ...


async def poll(url: str, every: float) -> None:
    await trio.sleep(every)


def crunch(size: int) -> int:
    return size


def nothing() -> None:
    pass
