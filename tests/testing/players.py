"""Services that note what they do, for tests of what is done to them. Workers import this module."""

from __future__ import annotations

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
