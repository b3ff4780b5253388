"""An unbounded trio memory channel whose reader takes several messages in a row."""

from __future__ import annotations

import math
from typing import Final, Generic, TypeVar

import trio

_T = TypeVar("_T")

BATCH: Final = 32
"""Messages that an actor takes in a row before it lets others run (one reschedule a message
would cost ten times what the channel itself costs). Trio runs what is ready in random order, so
that two turns of an actor may follow each other: others run at least once per 64 messages."""


class Channel(Generic[_T]):
    """An unbounded channel with one reader.

    Attributes:
        waiting: messages in it.
    """

    __slots__ = ("_budget", "_receive", "_send", "waiting")

    def __init__(self) -> None:
        self._send: trio.MemorySendChannel[_T]
        self._receive: trio.MemoryReceiveChannel[_T]
        self._send, self._receive = trio.open_memory_channel(math.inf)
        self._budget = BATCH
        self.waiting: int = 0

    @trio.lowlevel.enable_ki_protection
    def put(self, message: _T) -> None:
        """Add a message; it never waits. On the host's loop only."""
        self.waiting += 1
        self._send.send_nowait(message)

    @trio.lowlevel.enable_ki_protection
    async def take(self) -> _T:
        """The next message. A checkpoint when it waits and after every 32 messages."""
        if self.waiting:
            self._budget -= 1
            if not self._budget:
                await trio.lowlevel.checkpoint()
                self._budget = BATCH
            message = self._receive.receive_nowait()
        else:
            message = await self._receive.receive()
            self._budget = BATCH
        self.waiting -= 1
        return message
