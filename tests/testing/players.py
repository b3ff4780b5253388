"""Services that note what they do, for tests of what is done to them. Workers import this module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Self

import trio

import actorvisor as av


class Refused(av.Rejection):
    """An answer."""


class Notes(av.Service):
    """Keeps what is noted."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)

    def all(self) -> list[str]:
        return self.lines


class Loop(av.Service):
    """Where there is a loop."""

    def __init__(self, notes: av.Ref[Notes]) -> None:
        self.notes = notes

    async def setup(self) -> None:
        await self.notes.tell(Notes.note, "setup")

    async def work(self, number: int, *, twice: bool = False) -> int:
        await self.notes.tell(Notes.note, f"work {number}")
        return await self.own(number) + number if twice else number

    async def own(self, number: int) -> int:
        return number

    def quick(self, number: int) -> int:
        return number

    async def refuse(self) -> None:
        raise Refused

    def refuse_quickly(self) -> None:
        raise Refused

    async def teardown(self, reason: av.ExitReason) -> None:
        await self.notes.tell(Notes.note, f"teardown {type(reason).__name__}")


class Plain(av.Service):
    """Where there is none."""

    def __init__(self, notes: av.Ref[Notes]) -> None:
        self.notes = notes

    def setup(self) -> None:
        self.notes.blocking.tell(Notes.note, "setup")

    def work(self, number: int, *, twice: bool = False) -> int:
        self.notes.blocking.tell(Notes.note, f"work {number}")
        return self.own(number) + number if twice else number

    def own(self, number: int) -> int:
        return number

    def quick(self, number: int) -> int:
        return number

    def refuse(self) -> None:
        raise Refused

    refuse_quickly = refuse

    def teardown(self, reason: av.ExitReason) -> None:
        self.notes.blocking.tell(Notes.note, f"teardown {type(reason).__name__}")


class LoopReader(av.Service):
    """A loop of its own, where there is one."""

    def __init__(self, notes: av.Ref[Notes], count: int = 100) -> None:
        self.notes = notes
        self.count = count

    async def run(self) -> str:
        async for message in self.mailbox:
            await self.notes.tell(Notes.note, f"read {message}")
            self.count -= 1
            if not self.count:
                return "enough"
        return "read out"


class PlainReader(av.Service):
    """A loop of its own, where there is none."""

    def __init__(self, notes: av.Ref[Notes], count: int = 100) -> None:
        self.notes = notes
        self.count = count

    def run(self) -> str:
        for message in self.mailbox:
            self.notes.blocking.tell(Notes.note, f"read {message}")
            self.count -= 1
            if not self.count:
                return "enough"
        return "read out"


class Bare(av.Service):
    """Has no hooks."""

    def work(self, number: int) -> int:
        return number


async def loop_function(notes: av.Ref[Notes], line: str) -> str:
    await notes.tell(Notes.note, line)
    return line


def plain_function(notes: av.Ref[Notes], line: str) -> str:
    notes.blocking.tell(Notes.note, line)
    return line


class Family:
    """What a service may be told by."""

    made: ClassVar[list[str]] = []

    def __init_subclass__(cls) -> None:
        Family.made.append(cls.__name__)


class Peculiar(Family, av.Service):
    """A service that looks at itself from all sides."""

    __slots__ = ("_ticks", "value")

    _ticks: int

    def __new__(cls, *_: Any) -> Self:
        made = super().__new__(cls)
        made._ticks = 0
        return made

    def __init__(self, value: int) -> None:
        # Its inside is there before.
        self.value = value
        self.path = self.ref.path
        self.__secret = 7

    def setup(self) -> None:
        self.after(0.5, self._tick)
        self.after(0.5, Peculiar._tick, 10)

    def _tick(self, by: int = 1) -> None:
        self._ticks += by

    def look(self, *args: Any, key: str = "") -> dict[str, Any]:
        return {
            "type": type(self).__name__,
            "is": type(self) is Peculiar and isinstance(self, Peculiar),
            "class": self.__class__.__qualname__,
            "value": self.value,
            "path": self.path,
            "ref": self.ref.path,
            "secret": self.__secret,
            "args": (args, key),
            "ticks": self._ticks,
            "attributes": sorted(name for name in dir(self) if "actorvisor" in name),
            "stopping": self.stopping,
            "family": Family.made,
            "mailbox": self._refused(lambda: self.mailbox),
            "stranger": self._refused(lambda: self.after(1, Peculiar(1).look)),
        }

    def _refused(self, function: Callable[[], Any]) -> str:
        try:
            function()
        except (RuntimeError, TypeError) as error:
            return f"{type(error).__name__}: {error}"
        return "not refused"

    def me(self) -> Any:
        return self.ref

    def later(self) -> None:
        self.reply_later().send("later")

    def receive(self, message: object) -> None:
        self.value = message  # type: ignore[assignment]


async def look(host: av.Host) -> Any:
    """What a peculiar service says of itself, and what others see of it."""
    ref = host.find("worker", Peculiar)
    first = await ref.ask(Peculiar.look, 1, 2, key="3")
    await trio.sleep(1)
    await ref.send("message")
    second = await ref.ask(Peculiar.look)
    me = await ref.ask(Peculiar.me)
    assert await me.ask(Peculiar.look) == second
    assert repr(me) == repr(ref)
    wrong = ""
    method: Any = Peculiar.look
    try:
        await ref.ask(method, keys=1)
    except TypeError as error:
        wrong = str(error)
    method = Peculiar.later
    return first, second, await ref.ask(method), wrong
