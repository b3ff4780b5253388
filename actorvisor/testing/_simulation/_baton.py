"""Threads in a simulation: real ones, but one thing runs at a time.

A thread runs while it has the baton, and the loop waits for it meanwhile. It hands the baton back
with whatever it wants of the loop next, and gets it again with the answer. A task on the loop, its
driver, stands for it at the gate: each stretch of a thread is one step. So what a thread waits for
through the runtime passes on the gate's clock, and nobody sees anything that depends on how fast
the machine is.
"""

from __future__ import annotations

import contextvars
import functools
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, TypeVarTuple, Unpack, final

import outcome
import trio

from ..._runtime._crossing import crossing
from .._failures import OutsideSimulation

if TYPE_CHECKING:
    from ..._runtime._crossing import Answers
    from ._gate import Gate

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

PATIENCE: Final = 10.0
"""Seconds, of the wall's clock, that a thread may keep the baton."""

_SHOWN: Final = 3
"""Frames of a thread that are shown when it keeps the baton."""


class SimulationOver(BaseException):
    """What a thread gets for its next request when its simulation is over."""


@dataclass(frozen=True, slots=True)
class _Call:
    """A thread wants something to begin on the loop, and waits for an answer."""

    begin: Callable[..., object]
    args: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class _Sleep:
    """A thread wants nothing for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class _End:
    """A thread has ended."""

    result: outcome.Outcome[Any]


_Request: TypeAlias = _Call | _Sleep | _End


class _Answer:
    """Where a driver waits for what its thread waits for."""

    __slots__ = ("_answer", "_task")

    def __init__(self) -> None:
        self._answer: outcome.Outcome[Any] | None = None
        self._task: trio.lowlevel.Task | None = None

    def put(self, answer: outcome.Outcome[Any], /) -> None:
        """It has come."""
        self._answer = answer
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    async def get(self) -> outcome.Outcome[Any]:
        """Wait for it; a checkpoint."""
        if self._answer is not None:
            await trio.lowlevel.checkpoint()
            return self._answer

        def abort(_: object) -> trio.lowlevel.Abort:
            self._task = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)
        assert self._answer is not None
        return self._answer


class _Thread:
    """One thread, and who has its baton.

    Attributes:
        name: what it is called.
        ident: its number, once it has begun.
        over: whether its simulation is over: it is to end.
        lost: whether it kept the baton.
        request: what it handed the baton back with; None before it has begun.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.ident = 0
        self.over = False
        self.lost = False
        self.request: _Request | None = None
        # What it has left for the loop to do, when that has the baton again.
        self.left: list[Callable[[], object]] = []
        self._answer: outcome.Outcome[Any] | None = None
        # Each is released to hand the baton over: to the thread, and back.
        self._go = threading.Lock()
        self._back = threading.Lock()
        self._go.acquire()
        self._back.acquire()

    # --- on the loop ----------------------------------------------------------------------

    def start(self, function: Callable[[], object]) -> None:
        """Make it; it waits for the baton.

        Raises:
            OSError: it cannot be made.
            RuntimeError: it cannot be made.
        """
        trio.lowlevel.start_thread_soon(lambda: self._run(function), _forget, self.name)

    def pass_to(self, answer: outcome.Outcome[Any] | None) -> bool:
        """Give it the baton, and block until it gives it back; whether it did in time."""
        self._answer = answer
        self._go.release()
        return self._back.acquire(timeout=PATIENCE)

    def where(self) -> str:
        """Where it is, in words."""
        frame = sys._current_frames().get(self.ident)
        if frame is None:
            return "nowhere"
        frames = traceback.extract_stack(frame)[-_SHOWN:]
        return " > ".join(f"{one.filename}:{one.lineno} in {one.name}" for one in frames)

    # --- in the thread --------------------------------------------------------------------

    def _run(self, function: Callable[[], object]) -> None:
        self.ident = get_ident()
        self._go.acquire()
        if self.over:
            result: outcome.Outcome[Any] = outcome.Error(SimulationOver())
        else:
            result = outcome.capture(function)
        self.request = _End(result)
        self._back.release()

    def hand_back(self, request: _Call | _Sleep) -> outcome.Outcome[Any]:
        """Give the baton back, and block until it comes again, with the answer."""
        if not self.over:
            self.request = request
            self._back.release()
            self._go.acquire()
        if self.over:
            raise SimulationOver
        assert self._answer is not None
        return self._answer


def _started(name: str, function: Callable[[], object]) -> _Thread:
    thread = _Thread(name)
    thread.start(functools.partial(contextvars.copy_context().run, function))
    return thread


def _forget(_: object) -> None:
    """Who waits for the end of a thread has heard of it from the thread itself."""


@final
class Baton:
    """The crossing of a simulation: see `actorvisor._runtime._crossing.Crossing`."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._token: trio.lowlevel.TrioToken | None = None
        # Who has the baton; None: the loop.
        self._holder: _Thread | None = None

    # --- in a thread ----------------------------------------------------------------------

    def call(
        self,
        token: trio.lowlevel.TrioToken,
        begin: Callable[[Unpack[_Ts], Answers], object],
        *args: *_Ts,
    ) -> outcome.Outcome[Any]:
        """See `Crossing.call`.

        Raises:
            OutsideSimulation: this thread is none of the simulation's.
        """
        return self._thread_here(token).hand_back(_Call(begin, args))

    def sleep(self, seconds: float) -> None:
        """See `Crossing.sleep`; it takes no time but the simulation's."""
        self._thread_here(None).hand_back(_Sleep(seconds))

    def _thread_here(self, token: trio.lowlevel.TrioToken | None) -> _Thread:
        thread = self._holder
        if thread is not None and thread.ident == get_ident():
            return thread
        error = OutsideSimulation(
            f"thread {threading.current_thread().name!r} is not run by the simulation; use "
            "start_soon() of a service under ThreadExecutor instead of threading.Thread"
        )
        if token is not None:
            # The thread may keep it to itself.
            token.run_sync_soon(self._gate.fail, error)
        raise error

    def on_loop(self, function: Callable[[], object]) -> None:
        """Have something called on the loop: at once there, by a thread with its next request."""
        thread = self._holder
        if thread is None:
            function()
        else:
            thread.left.append(function)

    # --- on the loop ----------------------------------------------------------------------

    async def run(
        self,
        function: Callable[[], object],
        ended: Callable[[outcome.Outcome[Any]], object],
        *,
        limiter: trio.CapacityLimiter,
        name: str,
    ) -> None:
        """See `Crossing.run`."""
        borrower = object()
        await limiter.acquire_on_behalf_of(borrower)
        over = trio.Event()

        def is_over(result: outcome.Outcome[Any]) -> None:
            limiter.release_on_behalf_of(borrower)
            ended(result)
            over.set()

        try:
            thread = _started(name, function)
        except BaseException:
            limiter.release_on_behalf_of(borrower)
            raise
        # In a task of its own: whoever runs it may leave it behind.
        self._gate.nursery.start_soon(self._drive, thread, is_over, name=f"{name} (thread)")
        await over.wait()

    async def drive(
        self,
        function: Callable[[], object],
        ended: Callable[[outcome.Outcome[Any]], object],
        *,
        name: str,
    ) -> None:
        """Run a function in a thread, for as long as it goes on: that of a simulated process.

        Args:
            function: what is run, in a copy of the context.
            ended: called with how it ended.
            name: of the thread.
        """
        await self._drive(_started(name, function), ended)

    async def off_loop(self, function: Callable[[Unpack[_Ts]], _T], *args: *_Ts) -> _T:
        """See `Crossing.off_loop`; it is computed here, and takes no time."""
        await trio.lowlevel.checkpoint()
        return function(*args)

    @trio.lowlevel.enable_ki_protection
    async def _drive(
        self, thread: _Thread, is_over: Callable[[outcome.Outcome[Any]], object]
    ) -> None:
        """Do what a thread asks for, until it has ended or its simulation has."""
        try:
            answer: outcome.Outcome[Any] | None = None
            while not isinstance(request := self._pass_to(thread, answer), _End):
                if request is None:
                    await trio.sleep_forever()  # until all is cancelled
                elif isinstance(request, _Sleep):
                    await trio.sleep(request.seconds)
                    answer = outcome.Value(None)
                else:
                    answers = _Answer()
                    request.begin(*request.args, answers)
                    answer = await answers.get()
        finally:
            is_over(self._end(thread))

    def _pass_to(self, thread: _Thread, answer: outcome.Outcome[Any] | None) -> _Request | None:
        """Give a thread the baton; what it gives it back with, or None if it keeps it."""
        self._holder = thread
        in_time = thread.pass_to(answer)
        self._holder = None
        if in_time:
            left, thread.left = thread.left, []
            for function in left:
                function()
            return thread.request
        thread.lost = thread.over = True
        self._gate.fail(
            OutsideSimulation(
                f"thread {thread.name!r} goes on for more than {PATIENCE:g} seconds: what it waits "
                f"for is not the simulation's ({thread.where()})"
            )
        )
        return None

    def _end(self, thread: _Thread) -> outcome.Outcome[Any]:
        """Have a thread end that has not; how it did."""
        while not isinstance(thread.request, _End):
            thread.over = True
            if thread.lost or self._pass_to(thread, None) is None:
                return outcome.Error(SimulationOver())
        return thread.request.result


def baton_here() -> Baton:
    """The crossing of the simulation that this runs in."""
    found = crossing.get()
    assert isinstance(found, Baton)
    return found
