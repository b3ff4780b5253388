"""Services in processes: `ProcessExecutor`, and `AsyncProcessExecutor` with a loop in there."""

from __future__ import annotations

import importlib.util
import multiprocessing
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias, final, get_args

from .._core._checks import check_choice, check_count, check_seconds
from .._core._describe import describe
from ..abc import Executor, Place
from ..bridge._mailbox import LinkedMailbox

if TYPE_CHECKING:
    import trio

    from .._runtime._mailbox import Mailbox, Post

StartMethod: TypeAlias = Literal["forkserver", "spawn"]


@dataclass(frozen=True, slots=True)
class _Processes(Executor):
    start_method: StartMethod | None = None
    preload: Iterable[str] = ()
    standby: int = 1
    max_processes: int | None = None
    hang_timeout: float | None = None
    max_memory_bytes: int | None = None

    is_remote: ClassVar[bool] = True

    def __post_init__(self) -> None:
        name = type(self).__name__
        if self.start_method is not None:
            check_choice(f"{name}(start_method=)", self.start_method, get_args(StartMethod))
            if self.start_method not in multiprocessing.get_all_start_methods():
                raise ValueError(
                    f"{name}(start_method={self.start_method!r}): this platform has "
                    f"{', '.join(multiprocessing.get_all_start_methods())} only"
                )
        if isinstance(self.preload, str) or not isinstance(self.preload, Iterable):
            raise TypeError(
                f"{name}(preload=) must be names of modules, such as ('numpy',), "
                f"not {describe(self.preload)}"
            )
        modules = tuple(self.preload)
        for module in modules:
            if not isinstance(module, str):
                raise TypeError(f"{name}(preload=): {describe(module)} is no module's name")
            if not all(part.isidentifier() for part in module.split(".")):
                raise ValueError(f"{name}(preload=): {describe(module)} is no module's name")
        object.__setattr__(self, "preload", modules)
        check_count(f"{name}(standby=)", self.standby, least=0)
        if self.max_processes is not None:
            check_count(f"{name}(max_processes=)", self.max_processes, least=1)
        if self.hang_timeout is not None:
            check_seconds(f"{name}(hang_timeout=)", self.hang_timeout)
            if self.hang_timeout == 0:
                raise ValueError(f"{name}(hang_timeout=) must be more than 0 seconds")
        if self.max_memory_bytes is not None:
            check_count(f"{name}(max_memory_bytes=)", self.max_memory_bytes, least=1)
            if importlib.util.find_spec("resource") is None:
                raise ValueError(
                    f"{name}(max_memory_bytes=): this platform has no limits for a process's memory"
                )

    @property
    def method(self) -> StartMethod:
        """How a worker is started: as declared, else by the fork server where there is one."""
        if self.start_method is not None:
            return self.start_method
        return "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"

    def mailbox(self, path: str, capacity: int, overflow: str, post: Post) -> Mailbox:
        """See `Executor.mailbox`."""
        return LinkedMailbox(path, capacity, overflow, post)

    @asynccontextmanager
    async def open(self, nursery: trio.Nursery) -> AsyncGenerator[Place, None]:
        """See `Executor.open`; no checkpoint before the end."""
        # What runs workers is imported when the first is needed: it is not light.
        from ..bridge._place import ProcessPlace

        place = ProcessPlace(self, nursery)  # type: ignore[arg-type]
        try:
            yield place
        finally:
            place.close()


@final
@dataclass(frozen=True, slots=True)
class ProcessExecutor(_Processes):
    """Runs each service in a process of its own; handlers are plain methods and may block.

    A crash, a segfault or a kill ends the process and nothing else. What it had not taken up is
    handled by the next incarnation, which begins in a process that nothing ran in before.

    Attributes:
        start_method: ``forkserver``, or ``spawn``; None: the first where the platform has it.
        preload: modules that the fork server imports ahead, besides those of the services.
        standby: workers that wait, started and connected, for the next start; 0: none.
        max_processes: that the services under one supervisor may have at a time; None: any
            number. One more is a failed start.
        hang_timeout: seconds that a busy service may give no sign of life before it is killed;
            None: any number. A sign is the next message, or `Service.heartbeat`.
        max_memory_bytes: data that its process may have; more is a `MemoryError` in there. None:
            any amount.
    """

    has_loop: ClassVar[bool] = False
    has_thread: ClassVar[bool] = True


@final
@dataclass(frozen=True, slots=True)
class AsyncProcessExecutor(_Processes):
    """Runs each service in a process of its own, with a loop of its own.

    As `ProcessExecutor`, but handlers may be ``async``; plain ones run inline in its loop.

    Attributes:
        start_method: as for `ProcessExecutor`.
        preload: as for `ProcessExecutor`.
        standby: as for `ProcessExecutor`.
        max_processes: as for `ProcessExecutor`.
        hang_timeout: as for `ProcessExecutor`; the sign of life comes from its loop.
        max_memory_bytes: as for `ProcessExecutor`.
    """

    has_loop: ClassVar[bool] = True
    has_thread: ClassVar[bool] = False
