"""The mailboxes of the runtime's own actors, and who gives these their turns.

A start crosses the four actors six times. If each crossing cost a reschedule, as it does between
two tasks, they would take more time than all decisions together. So an actor handles its messages
in the step of whatever task has sent one: at once if no actor is at it, else when its turn comes.
"""

from __future__ import annotations

import contextvars
import math
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import trio

from ._channel import BATCH

_T = TypeVar("_T")


class Turns:
    """Lets the actors of one host handle their messages, one after the other, oldest first.

    Nothing that a handler sends is handled before it has returned. After 32 messages in a row a
    task of the host goes on, so that whoever sent the first is not held up by what followed.

    Attributes:
        due: whose turns are to come: an inbox once for each of its messages.
    """

    def __init__(self) -> None:
        self.due: deque[Inbox[Any]] = deque()
        self._busy = False
        self._more = trio.Event()
        # What a handler starts must not inherit the context of who happened to send a message.
        self._context = contextvars.copy_context()

    def take(self) -> None:
        """Let the task that runs give turns, unless it is within one."""
        if self._busy:
            return
        self._busy = True
        try:
            self._context.run(self._take_some)
        finally:
            self._busy = False
        if self.due:
            self._more.set()

    def later(self) -> None:
        """Let the host's task give turns."""
        if not self._busy:
            self._more.set()

    def _take_some(self) -> None:
        due = self.due
        for _ in range(BATCH):
            due.popleft().turn()
            if not due:
                return

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Handle what was left for later, until it is cancelled."""
        while True:
            await self._more.wait()
            self._more = trio.Event()
            if self.due:
                self.take()


class Inbox(Generic[_T]):
    """The mailbox of one actor: an unbounded trio memory channel.

    Attributes:
        waiting: messages in it.
    """

    __slots__ = ("_done", "_error", "_handle", "_receive", "_send", "_turns", "waiting")

    def __init__(self, turns: Turns) -> None:
        self._send: trio.MemorySendChannel[_T]
        self._receive: trio.MemoryReceiveChannel[_T]
        self._send, self._receive = trio.open_memory_channel(math.inf)
        self._turns = turns
        self._handle: Callable[[_T], bool] | None = None
        self._done: trio.Event
        self._error: BaseException | None = None
        self.waiting: int = 0

    @trio.lowlevel.enable_ki_protection
    def put(self, message: _T) -> None:
        """Add a message; it never waits. On the host's loop only."""
        self.waiting += 1
        self._send.send_nowait(message)
        if self._handle is not None:
            self._turns.due.append(self)
            self._turns.take()

    @trio.lowlevel.enable_ki_protection
    def put_aside(self, message: _T) -> None:
        """Add a message from where trio calls back, and nothing may be started or woken."""
        self.waiting += 1
        self._send.send_nowait(message)
        if self._handle is not None:
            self._turns.due.append(self)
            self._turns.later()

    @trio.lowlevel.enable_ki_protection
    def take_all(self) -> list[_T]:
        """All that is in it, oldest first."""
        messages = [self._receive.receive_nowait() for _ in range(self.waiting)]
        self.waiting = 0
        return messages

    @trio.lowlevel.enable_ki_protection
    async def serve(self, handle: Callable[[_T], bool]) -> None:
        """Handle what is in it and what comes, until that says that it was the last one.

        Args:
            handle: it gets a message, never waits, and returns whether that was the last one.

        Raises:
            BaseException: what it raised.
        """
        self._done = trio.Event()
        self._error = None
        self._handle = handle
        if self.waiting:
            self._turns.due.extend((self,) * self.waiting)
            self._turns.take()
        try:
            await self._done.wait()
        finally:
            self._handle = None
        if self._error is not None:
            raise self._error

    def turn(self) -> None:
        """Handle one message, if somebody serves and there is one."""
        if self._handle is None or not self.waiting:
            return
        self.waiting -= 1
        try:
            done = self._handle(self._receive.receive_nowait())
        except BaseException as error:  # noqa: ASYNC103 - `serve` raises it
            done, self._error = True, error
        if done:
            self._handle = None
            self._done.set()
