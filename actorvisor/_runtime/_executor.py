"""The executor's actor: carries out, for one supervisor, what was declared with one executor."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any, assert_never

import trio

from .._core import _commands as c
from .._core._describe import describe
from .._errors import ExecutorFailed
from ._inbox import Inbox, Turns
from ._incarnation import Incarnation, Report, clear_frames, crashed, is_passing
from ._logging import logger, traceback_text
from ._requests import Carry, Close, ExecutorGone, Overdue
from ._timers import Timers

if TYPE_CHECKING:
    from ..abc import Executor, Life, Place

LEAST_OVERDUE = 1.0
"""Seconds between two reports of a coroutine that does not end."""


class ExecutorActor:
    """One executor at work under one supervisor.

    Attributes:
        inbox: its mailbox.
    """

    def __init__(self, executor: Executor, supervisor: Inbox[Any], turns: Turns) -> None:
        self.inbox: Inbox[Carry | c.StopLife | Report | Overdue | Close] = Inbox(turns)
        self._executor = executor
        self._supervisor = supervisor
        self._running: dict[str, Life] = {}
        self._nursery: trio.Nursery
        self._place: Place
        self._timers: Timers

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Carry out lives until it is told to close; a failure is reported, never raised."""
        try:
            async with trio.open_nursery() as nursery:
                async with self._executor.open(nursery) as place:
                    self._nursery, self._place, self._timers = nursery, place, Timers(nursery)
                    await self.inbox.serve(self._hear)
                nursery.cancel_scope.cancel()
        except BaseException as error:  # noqa: ASYNC103
            if is_passing(error):
                raise
            self._fail(error)

    def _hear(self, message: Carry | c.StopLife | Report | Overdue | Close) -> bool:
        match message:
            case Carry():
                self._carry(message)
            case c.ChildUp() | c.ChildEnding():
                self._supervisor.put(message)
            case c.ChildExit():
                del self._running[message.name]
                self._supervisor.put(message)
            case c.StopLife():
                self._stop(message)
            case Overdue():
                self._tell_overdue(message)
            case Close():
                return True
            case _:
                assert_never(message)
        return False

    def _carry(self, order: Carry) -> None:
        incarnation = Incarnation(order.cell, order.number, self.inbox)
        try:
            life = self._place.begin(incarnation)
        except BaseException:
            self.inbox.put(order)  # it has to end with all others
            raise
        self._running[incarnation.cell.name] = life
        self._nursery.start_soon(life.run, name=incarnation.path)

    def _stop(self, order: c.StopLife) -> None:
        life = self._running.get(order.name)
        if life is None or life.incarnation.number != order.incarnation:
            return  # it has ended meanwhile, and its report is on its way
        declared = life.incarnation.application.grace
        grace = declared if order.grace is None else order.grace
        life.stop_life(order.final, grace)
        overdue = Overdue(order.name, order.incarnation, max(grace, LEAST_OVERDUE))
        if overdue.every != float("inf"):
            self._look_later(overdue, grace + LEAST_OVERDUE)

    def _look_later(self, overdue: Overdue, seconds: float) -> None:
        self._timers.set(trio.current_time() + seconds, lambda: self.inbox.put(overdue))

    def _tell_overdue(self, overdue: Overdue) -> None:
        """A coroutine that shields itself cannot be killed: say where it hangs (L9)."""
        life = self._running.get(overdue.name)
        if life is None or life.incarnation.number != overdue.number:
            return
        path = life.incarnation.path
        logger.error(
            "%s was told to stop and has not ended; it is waited for. It is at:\n%s",
            path,
            "".join(_stack(task) for task in self._nursery.child_tasks if task.name == path),
            extra={"path": path, "incarnation": overdue.number},
        )
        self._look_later(overdue, overdue.every)

    def _fail(self, error: BaseException) -> None:
        """Everything that it carried is gone with it (E1)."""
        logger.error("%s failed\n%s", describe(self._executor), traceback_text(error))
        failure = ExecutorFailed(describe(self._executor))
        # The nursery's group is taken off (M9); what else is in it was logged.
        failure.__cause__ = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error
        clear_frames(error)
        reason = crashed(failure)
        left = {name: life.incarnation for name, life in self._running.items()}
        for life in self._running.values():
            life.lost(reason)
        for message in self.inbox.take_all():
            if isinstance(message, c.ChildExit):
                left.pop(message.name, None)
                self._supervisor.put(message)
            elif isinstance(message, Carry):
                left[message.cell.name] = Incarnation(message.cell, message.number, self.inbox)
        for incarnation in left.values():
            incarnation.account_for((), reason, final=False)
        self._supervisor.put(ExecutorGone(self._executor, tuple(left), reason))


def _stack(task: trio.lowlevel.Task) -> str:
    frames = [(frame, line) for frame, line in task.iter_await_frames()]
    return "".join(traceback.StackSummary.extract(iter(frames)).format()).rstrip()
