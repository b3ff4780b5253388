"""One message on its way, and where its answer goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import outcome
import trio

from .._core._describe import describe, shorten

if TYPE_CHECKING:
    from ._waits import Wait


class Reply:
    """Where the answer to a call goes: a task that waits for it, once.

    Attributes:
        task: who waits; None: nobody yet, or nobody any more.
        early: whether nobody waits yet: an answer that comes now is kept.
        result: the answer that was kept.
        wait: the wait of an actor that ends with the answer, or None (M10).
    """

    __slots__ = ("_raise_cancel", "early", "result", "task", "wait")

    def __init__(self, task: trio.lowlevel.Task | None = None) -> None:
        self.task: trio.lowlevel.Task | None = task
        self.early: bool = task is None
        self.result: outcome.Outcome[Any] | None = None
        self.wait: Wait | None = None
        self._raise_cancel: Callable[[], Any] | None = None

    @trio.lowlevel.enable_ki_protection
    def answer(self, result: outcome.Outcome[Any]) -> bool:
        """Wake the task; whether it still waited."""
        self.end_wait()
        task = self.task
        if task is None:
            if self.early:
                # It runs now, or will soon: to reschedule it would be once too often.
                self.early = False
                self.result = result
                return True
            return False
        self.task = None
        if self._raise_cancel is not None and isinstance(result, outcome.Error):
            # It was cancelled meanwhile, and what it waited for has failed just as well.
            result = outcome.capture(self._raise_cancel)
        trio.lowlevel.reschedule(task, result)
        return True

    def end_wait(self) -> None:
        """It has its answer, or it comes by another way: no actor waits for it any more."""
        if self.wait is not None:
            self.wait.end()
            self.wait = None

    @trio.lowlevel.enable_ki_protection
    async def answered(self, cancelled: Callable[[], None] | None = None) -> Any:
        """Wait for the answer; a checkpoint.

        Args:
            cancelled: called when the wait is cancelled; the task then goes on waiting until
                it is answered. Without it, it is gone at once.
        """

        def abort(raise_cancel: Callable[[], Any]) -> trio.lowlevel.Abort:
            if cancelled is None:
                self.end_wait()
                self.task = None
                return trio.lowlevel.Abort.SUCCEEDED
            self._raise_cancel = raise_cancel
            cancelled()
            return trio.lowlevel.Abort.FAILED

        if self.result is not None:
            await trio.lowlevel.checkpoint()
            return self.result.unwrap()
        self.task = trio.lowlevel.current_task()
        self.early = False
        return await trio.lowlevel.wait_task_rescheduled(abort)


class Envelope:
    """One message on its way.

    Attributes:
        name: the method to call; ``receive`` for a plain message.
        args: its positional arguments.
        kwargs: its keyword arguments.
        reply: where its answer goes, or None for a tell.
        exempt: whether it takes no room: a notification or a timer.
        timer: the incarnation that set the timer, or 0.
        tries: how often a handler was entered and did not come back.
        withdrawn: whether its asker has taken it back.
        unread: whether it has not been taken up; kept for what takes no room.
        headers: reserved for what travels with a message, or None (H6).
        wire: what carries it to another process, or its number there; None in one process.
        number: of an ask, its place among the messages to a worker, once it was sent to one.
        lane: which member of a pool with a key it is for; not set otherwise.
    """

    __slots__ = (
        "args",
        "exempt",
        "headers",
        "kwargs",
        "lane",
        "name",
        "number",
        "reply",
        "timer",
        "tries",
        "unread",
        "wire",
        "withdrawn",
    )

    number: int
    lane: int

    def __init__(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        reply: Reply | None = None,
        exempt: bool = False,
        timer: int = 0,
    ) -> None:
        self.name: str = name
        self.args: tuple[Any, ...] = args
        self.kwargs: Mapping[str, Any] = kwargs
        self.reply: Reply | None = reply
        self.exempt: bool = exempt
        self.timer: int = timer
        self.tries: int = 0
        self.withdrawn: bool = False
        self.unread: bool = True
        self.headers: Mapping[str, Any] | None = None
        self.wire: Any = None

    def describe(self) -> str:
        """What it is, in bounded text; never raises."""
        if self.name == "receive" and len(self.args) == 1 and not self.kwargs:
            return describe(self.args[0])
        args = [describe(arg, 60) for arg in self.args[:8]]
        args += [f"{key}={describe(value, 60)}" for key, value in list(self.kwargs.items())[:8]]
        return shorten(f"{self.name}({', '.join(args)})")


class Bulky(Exception):
    """A message is too large to be put into a mailbox at once: `Mailbox.post` it instead.

    Attributes:
        envelope: the message.
    """

    def __init__(self, envelope: Envelope) -> None:
        super().__init__(envelope)
        self.envelope = envelope
