"""What the process services under one supervisor share: the workers that stand by."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import trio

from .._core._backoff import Exponential
from .._errors import ProcessLimitReached
from .._runtime._pool import applications
from .._runtime._timers import Timers
from ..abc import Place
from . import _forkserver
from ._job import Setting
from ._life import ProcessLife
from ._worker import HEAD_START, Worker

if TYPE_CHECKING:
    from .._runtime._cell import Cell
    from .._runtime._incarnation import Incarnation
    from ..executors._process import AsyncProcessExecutor, ProcessExecutor

MAX_STANDBYS: Final = 8
"""Standby workers that all executors of one host have, in all."""

_BACKOFF: Final = Exponential(base=0.05, factor=2, cap=30)


class ProcessPlace(Place):
    """The processes of one supervisor's services.

    Attributes:
        executor: what was declared.
        timers: of all lives here.
    """

    def __init__(
        self, executor: ProcessExecutor | AsyncProcessExecutor, nursery: trio.Nursery
    ) -> None:
        self.executor: ProcessExecutor | AsyncProcessExecutor = executor
        self.timers: Timers = Timers(nursery)
        self._nursery = nursery
        # What is started here must not inherit the context of the life that happened to need it:
        # a standby outlives that, and would hold it.
        self._context = contextvars.copy_context()
        self._root: Cell | None = None
        self._modules: tuple[str, ...] = ()
        self._standbys: list[Worker] = []
        self._running: set[Worker] = set()
        self._wanted = trio.Event()
        self._refilling = False
        # Standbys that died since one was of use.
        self._failures = 0

    def begin(self, incarnation: Incarnation) -> ProcessLife:
        """A life in a process."""
        if self._root is None:
            self._root = incarnation.cell.root
            self._modules = tuple(
                dict.fromkeys((*self.executor.preload, *_modules_of(incarnation)))
            )
        return self._make_life(incarnation)

    def _make_life(self, incarnation: Incarnation) -> ProcessLife:
        return ProcessLife(incarnation, self)

    def take(self, incarnation: Incarnation) -> Worker:
        """A worker for an incarnation: one that stands by, or a new one.

        Raises:
            ProcessLimitReached: there are as many as there may be.
        """
        limit = self.executor.max_processes
        if limit is not None and sum(not one.gone.is_set() for one in self._running) >= limit:
            raise ProcessLimitReached(incarnation.path, limit)
        module = getattr(incarnation.application.target, "__module__", None)
        if isinstance(module, str) and module not in self._modules and module != "__main__":
            self._modules = (*self._modules, module)
        ready = next((one for one in self._standbys if not one.doomed), None)
        if ready is None:
            worker = self._start()
        else:
            worker = ready
            self._forget(worker)
            self._failures = 0
        self._running.add(worker)
        if self.executor.standby:
            if not self._refilling:
                self._refilling = True
                self._start_soon(self._refill, name="actorvisor standby")
            self._wanted.set()
        return worker

    def _start(self) -> Worker:
        setting = Setting(self._modules, self.executor.max_memory_bytes, self.executor.has_loop)
        worker = self._make_worker(setting)
        self._start_soon(self._run, worker, name="actorvisor worker")
        return worker

    def _make_worker(self, setting: Setting) -> Worker:
        return Worker(setting, self.executor.method)

    async def _prepare(self) -> None:
        """See to what the start of a worker needs; a checkpoint if it takes time."""
        if self.executor.method == "forkserver":
            await _forkserver.ensure(self._modules)

    def _start_soon(self, function: Callable[..., Any], *args: Any, name: str) -> None:
        self._context.copy().run(partial(self._nursery.start_soon, function, *args, name=name))

    @trio.lowlevel.enable_ki_protection
    async def _run(self, worker: Worker) -> None:
        try:
            await self._prepare()
        except OSError as error:
            worker.failure = error
            worker.ready.set()
            worker.gone.set()
        else:
            await worker.run()
        finally:
            self._running.discard(worker)
            if worker in self._standbys:
                # Nobody's death; but there is to be another, though not at once for ever.
                self._forget(worker)
                self._failures += 1
                self._wanted.set()

    def _forget(self, worker: Worker) -> None:
        assert self._root is not None
        self._standbys.remove(worker)
        self._root.commons.standbys -= 1

    @trio.lowlevel.enable_ki_protection
    async def _refill(self) -> None:
        """Keep as many standing by as there are to be; never in the way of a start."""
        root = self._root
        assert root is not None
        assert root.actor is not None
        host, commons = root.actor.supervision, root.commons
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            while len(self._standbys) < self.executor.standby and commons.standbys < MAX_STANDBYS:
                # First whatever it was that took the last one.
                await trio.sleep(
                    _BACKOFF.delay(self._failures, 0.5) if self._failures else HEAD_START
                )
                if host.ending is not None:
                    return  # nothing is started any more while the host stops
                worker = self._start()
                commons.standbys += 1
                self._standbys.append(worker)
                await worker.ready.wait()

    def close(self) -> None:
        """The last life has ended: what stands by is not needed any more."""
        for worker in list(self._standbys):
            worker.kill()
            self._forget(worker)


def _modules_of(incarnation: Incarnation) -> Iterator[str]:
    """The modules of all process services of the static tree, known before any of them runs."""
    host = incarnation.cell.root.actor
    assert host is not None
    for app in applications((*host.declared, incarnation.application)):
        if app.executor.is_remote:
            module = getattr(app.target, "__module__", None)
            if isinstance(module, str) and module != "__main__":
                yield module
