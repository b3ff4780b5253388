"""What the fork server imports, once, before any worker is forked from it."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import sys
from typing import Any


def prepare(what: dict[str, Any]) -> None:
    """Import what the first message of a service needs.

    Args:
        what: what the host says; see `_forkserver`.
    """
    # What it would free leaves holes all over the memory. A worker would fill them, and every page
    # that it writes to is copied first: that is most of what its start costs.
    gc.disable()
    _tidy_later(what["host"], what["own"])
    for module in (
        "runpy",
        "multiprocessing.spawn",
        "multiprocessing.connection",
        "multiprocessing.popen_forkserver",  # pickled processes name it
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
    from ._child._main import acquaint, import_ahead
    from ._rehearsal import rehearse

    gc.enable()
    _import_main(what["main"], what["main_name"])
    acquaint(sys.modules["__main__"])
    import_ahead(what["modules"])
    rehearse()
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
