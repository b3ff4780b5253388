"""Services in processes that talk to a coroutine service of the parent."""

from __future__ import annotations

from typing import Any

import actorvisor as av


class Listener(av.Service):
    """Counts what it is told."""

    def __init__(self) -> None:
        self.heard = 0

    def hear(self, number: int) -> None:
        self.heard += 1

    def count(self) -> int:
        return self.heard


def requests_of(ref: av.Ref[Any]) -> int:
    """How often this worker has asked its host for something."""
    count: int = ref._cell.commons.port.end._request  # type: ignore[attr-defined]
    return count


class BlockingTalker(av.Service):
    def __init__(self, listener: av.Ref[Listener]) -> None:
        self.listener = listener

    def talk(self, count: int) -> int:
        for number in range(count):
            self.listener.blocking.tell(Listener.hear, number)
        return requests_of(self.listener)


class CoroutineTalker(av.Service):
    def __init__(self, listener: av.Ref[Listener]) -> None:
        self.listener = listener

    async def talk(self, count: int) -> int:
        for number in range(count):
            await self.listener.tell(Listener.hear, number)
        return requests_of(self.listener)


class NowaitTalker(CoroutineTalker):
    async def talk(self, count: int) -> int:
        for number in range(count):
            while True:
                try:
                    self.listener.tell_nowait(Listener.hear, number)
                except av.MailboxFull:
                    continue
                break
        return requests_of(self.listener)
