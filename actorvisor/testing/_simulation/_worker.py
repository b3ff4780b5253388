"""Simulated processes, as their host sees them: workers, and what the services in them share."""

from __future__ import annotations

import contextvars
import functools
import mmap
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

from ..._runtime._crossing import crossing
from ...bridge import _ledger as ledger
from ...bridge._life import ProcessLife
from ...bridge._place import ProcessPlace
from ...bridge._wire import _frames as f
from ...bridge._worker import Worker
from ._baton import baton_here
from ._pipe import Pipe, SimulatedLink, SimulatedPort
from ._station import SimulatedProcess, carry_out

if TYPE_CHECKING:
    from ..._runtime._incarnation import Incarnation
    from ...bridge._job import Setting
    from ...executors._process import AsyncProcessExecutor, ProcessExecutor
    from ._gate import Gate

HAND_OVER: Final = 0.005
"""Seconds from the job to the first message, in a worker that stood by.

From SIGKILL to the first message handled it was at most 5 ms with a worker that stood by, 12 to 15 ms
by the fork server and 190 to 230 ms by spawn when the bridge was designed (Linux, 2 processors, CPython
3.11); ``python -m benchmarks process_restart`` says what it is elsewhere.
"""

FORK: Final = 0.012 - HAND_OVER
"""Seconds until a worker of the fork server can be given a job."""

SPAWN: Final = 0.190 - HAND_OVER
"""Seconds until a worker that is a fresh interpreter can be given a job."""

PID: Final = 1 << 40
"""What a simulated process says that its number is: no real one's."""


class SimulatedWorker(Worker):
    """One simulated process, from its start until nothing of it is left.

    Attributes:
        process: what runs in it; None before it has a job.
    """

    def __init__(self, gate: Gate, setting: Setting, start_method: str) -> None:
        super().__init__(setting, start_method)
        self.process: SimulatedProcess | None = None
        self._gate = gate
        self._cost = SPAWN if start_method == "spawn" else FORK
        self._boot = trio.CancelScope()
        self._died = trio.Event()
        self._path: str | None = None
        self._port: SimulatedPort | None = None
        self._ask_host: Callable[[], None]

    def assign(self, path: str) -> None:
        """It gets a job: it is known whose process it is."""
        self._path = path
        if self._port is not None:
            self._begin(path, self._port)

    def _begin(self, path: str, port: SimulatedPort) -> None:
        tasks = self._gate.process(path)
        process = SimulatedProcess(tasks, port, self._ask_host, self._has_ended)
        self.process = process
        # Nothing of the host's context crosses.
        context = self._gate.bare_context()
        context.run(crossing.set, crossing.get())
        name = f"{path} (process)"
        has_loop = self._setting.has_loop
        context.run(lambda: tasks.start_soon(carry_out, process, has_loop, HAND_OVER, name=name))

    def kill(self) -> None:
        """See `Worker.kill`."""
        self.exit(-9)

    def exit(self, status: int) -> None:
        """It ends now, with that status; nothing if it has ended."""
        if self.process is not None:
            self.process.exit(status)
        elif not self._died.is_set():
            if self._port is not None:
                self._port.over = True
            self._boot.cancel()
            self._has_ended(status)

    def _has_ended(self, status: int) -> None:
        self._killed = True
        self.status = status
        self._died.set()
        if self._port is not None:
            self._port.close()

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """See `Worker.run`."""
        try:
            self._boot.deadline = trio.current_time() + self._cost
            with self._boot:
                await trio.sleep_forever()
            if not self._died.is_set():
                await self._serve()
        finally:
            self.kill()
            self.ready.set()
            self.gone.set()

    async def _serve(self) -> None:
        shared = ledger.Ledger(mmap.mmap(-1, ledger.SIZE))
        on_loop = baton_here().on_loop
        there, here = Pipe(on_loop), Pipe(on_loop)
        link = self.link = SimulatedLink(shared, there, here)
        port = self._port = SimulatedPort(shared, there, here)
        context = contextvars.copy_context()
        self._ask_host = functools.partial(context.run, link.take_in)
        port.frame(f.HELLO, PID)
        port.flush()
        link.take_in()
        if self._path is not None:
            self._begin(self._path, port)
        self.ready.set()
        try:
            await link.take_all()
            if not self._died.is_set():
                link.take_end()
                await self._died.wait()
        finally:
            self.kill()
            link.finish()


class SimulatedPlace(ProcessPlace):
    """The simulated processes of one supervisor's services."""

    def __init__(
        self, executor: ProcessExecutor | AsyncProcessExecutor, nursery: trio.Nursery, gate: Gate
    ) -> None:
        super().__init__(executor, nursery)
        self._gate = gate

    def _make_life(self, incarnation: Incarnation) -> SimulatedLife:
        return SimulatedLife(incarnation, self)

    def _make_worker(self, setting: Setting) -> SimulatedWorker:
        return SimulatedWorker(self._gate, setting, self.executor.method)

    async def _prepare(self) -> None:
        """Nothing is needed."""

    def take(self, incarnation: Incarnation) -> SimulatedWorker:
        """See `ProcessPlace.take`."""
        worker = super().take(incarnation)
        assert isinstance(worker, SimulatedWorker)
        worker.assign(incarnation.path)
        return worker


class SimulatedLife(ProcessLife):
    """One incarnation in a simulated process, as its executor sees it."""

    @property
    def process(self) -> SimulatedProcess | None:
        """Its process; None while that boots, and before."""
        worker = self._simulated
        return None if worker is None else worker.process

    @property
    def _simulated(self) -> SimulatedWorker | None:
        worker = self._worker
        assert worker is None or isinstance(worker, SimulatedWorker)
        return worker

    def kill(self) -> None:
        """Its process is killed, as by SIGKILL from outside; nothing if there is none."""
        self.exit(-9)

    def exit(self, status: int) -> None:
        """Its process ends now, as by ``os._exit(status)``; nothing if there is none."""
        worker = self._simulated
        if worker is not None:
            worker.exit(status)

    def drop(self) -> None:
        """The connection to its process is closed, under it; nothing if there is none."""
        if self.process is not None:
            self.process.drop()
