"""What runs in a simulated process: the product's own worker, in tasks and threads at the gate."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import outcome
import trio

from ..._core import _commands as c
from ..._runtime._commons import apart
from ..._runtime._envelope import Reply
from ...bridge import _memory
from ...bridge._child._blocking import BlockingLife, BlockingStation
from ...bridge._child._loop import LoopStation
from ...bridge._job import Job
from ._baton import baton_here

if TYPE_CHECKING:
    from ..._runtime._crossing import Answers
    from ..._runtime._declaration import Application
    from ...bridge._child._refs import RemoteCell
    from ...bridge._wire._codec import Draft
    from ._gate import Process
    from ._pipe import SimulatedPort


class ProcessOver(BaseException):
    """What runs in a simulated process has no process any more; it ends in the outermost frame."""


class SimulatedProcess:
    """A simulated process: how it ends.

    Who ends it from inside is gone at its next checkpoint, a thread at its next request.

    Attributes:
        port: its connection.
        ask_host: has the host take in what was sent, at once.
        tasks: what runs in it.
    """

    def __init__(
        self,
        process: Process,
        port: SimulatedPort,
        ask_host: Callable[[], None],
        ended: Callable[[int], None],
    ) -> None:
        self.port: SimulatedPort = port
        self.ask_host: Callable[[], None] = ask_host
        self.tasks: Process = process
        self._ended = ended
        self._on_loop = baton_here().on_loop

    @property
    def dead(self) -> bool:
        """Whether it has ended."""
        return self.port.over

    def exit(self, status: int) -> None:
        """It ends now, as by ``os._exit(status)``; negative: as by that signal."""
        if not self.port.over:
            # At once: what unwinds says nothing.
            self.port.over = True
            self._on_loop(functools.partial(self._end, status))

    def _end(self, status: int) -> None:
        self.tasks.kill()
        self._ended(status)

    def kill(self) -> None:
        """It is killed, as by SIGKILL."""
        self.exit(-9)

    def drop(self) -> None:
        """Its connection is closed; what it has sent arrives, and nothing more."""
        self.port.drop()


async def carry_out(process: SimulatedProcess, has_loop: bool, hand_over: float) -> None:
    """Be a process that waits for a job, and carries it out.

    Args:
        process: which it is.
        has_loop: whether it runs a loop.
        hand_over: seconds that it takes to begin.
    """
    port = process.port
    try:
        await trio.sleep(hand_over)
        if not port.came.ready:
            await port.came.await_ready()
        job, *early = port.receive(block=False)
        declared = Job(*_memory.decode(port.codec, job[2]))
        station: SimulatedLoopStation | SimulatedBlockingStation
        if has_loop:
            station = SimulatedLoopStation(process, declared)
        else:
            station = SimulatedBlockingStation(process, declared)
        application = station.open()
        if application is not None:
            station.dispatch(early)
            await station.carry_out(application)
    except* EOFError:
        process.kill()  # as a worker does that has lost its host
    process.exit(0)


class SimulatedLoopStation(LoopStation):
    """The hub of a simulated process with a loop; that is the simulation's own.

    Attributes:
        process: which it is the hub of.
    """

    def __init__(self, process: SimulatedProcess, job: Job) -> None:
        super().__init__(process.port, job)
        self.process: SimulatedProcess = process
        self.crossing = baton_here()

    def settle_in(self) -> None:
        """See `Station.settle_in`."""
        apart.set(self)

    async def carry_out(self, application: Application[Any]) -> None:
        """Carry an incarnation out."""
        async with trio.open_nursery() as nursery:
            await self._live(application, nursery)

    def kick(self) -> None:
        """See `LoopStation.kick`; a pipe takes all at once."""
        self.port.flush()

    def flush(self) -> None:
        """See `LoopStation.flush`."""
        self.port.flush()

    async def _receive(self) -> None:
        port = self.process.port
        while True:
            await port.came.await_ready()
            try:
                frames = port.receive(block=False)
            except BlockingIOError:
                continue  # a call of the service's has taken it in
            self.dispatch(frames)
            self.mail.arrived()

    def put(self, report: c.ChildUp | c.ChildEnding | c.ChildExit) -> None:
        """See `Station.put`; who has no process any more goes no further."""
        if self.process.dead:
            raise ProcessOver
        super().put(report)
        if isinstance(report, c.ChildExit):
            self.process.exit(0)  # what is left is nothing of the user's

    def sync_call(self, call: str, cell: RemoteCell, *args: Any) -> Any:
        """See `Station.sync_call`; the host answers at once, for nothing else may run meanwhile."""
        reply = Reply()
        self.request(call, cell, args, reply)
        self.port.flush()
        self.process.ask_host()
        while reply.result is None:
            try:
                self.dispatch(self.port.receive(block=False))
            except (BlockingIOError, EOFError):
                self.process.kill()  # it would wait until it is
                raise ProcessOver from None
        self.mail.arrived()
        return reply.result.unwrap()


class SimulatedBlockingStation(BlockingStation):
    """The hub of a simulated process without a loop: its threads run by baton.

    Attributes:
        process: which it is the hub of.
    """

    def __init__(self, process: SimulatedProcess, job: Job) -> None:
        super().__init__(process.port, job)
        self.process: SimulatedProcess = process
        self._baton = baton_here()
        self._token = trio.lowlevel.current_trio_token()

    def settle_in(self) -> None:
        """See `Station.settle_in`."""
        apart.set(self)

    async def carry_out(self, application: Application[Any]) -> None:
        """Carry an incarnation out in a thread."""
        await self._run(BlockingLife(self, application).run, _Ended())

    async def _run(self, function: Callable[[], object], ended: _Ended) -> None:
        await self._baton.drive(function, ended.set, name=self.job.path)

    def frame(
        self, kind: int, number: int, payload: bytes | Draft = b"", urgent: bool = False
    ) -> None:
        """See `Station.frame`; who has no process any more goes no further."""
        if self.process.dead:
            raise ProcessOver
        super().frame(kind, number, payload, urgent)

    def put(self, report: c.ChildUp | c.ChildEnding | c.ChildExit) -> None:
        """See `Station.put`."""
        super().put(report)
        if isinstance(report, c.ChildExit):
            self.process.exit(0)

    def wait(self, ready: Callable[[], object]) -> None:
        """See `BlockingStation.wait`: each waits for itself, by baton."""
        while not ready():
            try:
                frames = self.port.receive(block=False)
            except BlockingIOError:
                self._baton.call(self._token, self._await_news)
            except EOFError:
                self.process.kill()
                raise ProcessOver from None
            else:
                self.dispatch(frames)

    def _await_news(self, answers: Answers) -> None:
        self.process.port.came.when_ready(lambda: answers.put(outcome.Value(None)))

    def start_thread(self, function: Callable[[], object]) -> Callable[[], object]:
        """See `BlockingStation.start_thread`."""
        ended = _Ended()
        self._baton.call(self._token, self._start, function, ended)
        return lambda: self._baton.call(self._token, ended.when)

    def _start(self, function: Callable[[], object], ended: _Ended, answers: Answers) -> None:
        name = f"{self.job.path}:background"
        self.process.tasks.start_soon(self._run, function, ended, name=name)
        answers.put(outcome.Value(None))


class _Ended:
    """Whether a thread has ended, for who wants to wait for that."""

    def __init__(self) -> None:
        self._over = False
        self._waiting: list[Answers] = []

    def set(self, _: outcome.Outcome[Any]) -> None:
        """It has."""
        self._over = True
        for answers in self._waiting:
            answers.put(outcome.Value(None))

    def when(self, answers: Answers) -> None:
        """Answer once it has."""
        if self._over:
            answers.put(outcome.Value(None))
        else:
            self._waiting.append(answers)
