"""What the fork server imports, once, before any worker is forked from it."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
from typing import Any


def prepare(what: dict[str, Any]) -> None:
    """Import what the first message of a service needs.

    Args:
        what: what the host says; see `_forkserver`.
    """
    _tidy_later(what["host"], what["own"])
    for module in (
        "runpy",
        "multiprocessing.spawn",
        "multiprocessing.connection",
        "multiprocessing.popen_fork",
        "multiprocessing.resource_sharer",
        "cloudpickle",
        "_trio_parallel_workers",
        "trio_parallel",
        "actorvisor.bridge._child._main",
        "actorvisor.bridge._child._loop",
        "actorvisor.bridge._child._blocking",
    ):
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    _import_main(what["main"], what["main_name"])
    from ._child._main import acquaint

    for module in what["modules"]:
        # What fails here fails in the worker too, and is told from there.
        with contextlib.suppress(BaseException):
            acquaint(importlib.import_module(module))
    import trio

    async def turn() -> None:
        async with trio.open_nursery() as nursery:  # noqa: ASYNC112
            nursery.start_soon(trio.sleep, 0)

    trio.run(turn)
    gc.collect()
    gc.freeze()


def _import_main(path: str | None, name: str | None) -> None:
    """Import the host's program as its workers will, so that they need not."""
    from multiprocessing import process, spawn

    from .._runtime import _guard

    current: Any = process.current_process()
    current._inheriting = True
    _guard.preloading = True
    try:
        # What fails here fails in the worker too, and is told from there.
        with contextlib.suppress(BaseException):
            if name is not None:
                spawn._fixup_main_from_name(name)  # type: ignore[attr-defined]
            elif path is not None:
                spawn._fixup_main_from_path(path)  # type: ignore[attr-defined]
    finally:
        _guard.preloading = False
        del current._inheriting


def _tidy_later(host: int, is_own: bool) -> None:
    """Remove the fork server's socket, if its host could not do so itself.

    Args:
        host: its process.
        is_own: whether the folder is that host's own, and no parent's of it.
    """
    import atexit

    def tidy() -> None:
        from multiprocessing import forkserver

        address = getattr(forkserver._forkserver, "_forkserver_address", None)
        if os.getppid() != host and isinstance(address, str) and address.startswith("/"):
            with contextlib.suppress(OSError):
                os.unlink(address)
                if is_own:
                    os.rmdir(os.path.dirname(address))

    atexit.register(tidy)
