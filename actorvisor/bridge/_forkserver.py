"""The fork server, started with everything imported that the first message of a service needs."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import threading
from multiprocessing import forkserver, spawn
from typing import Any, Final

import trio

from . import _boot, _folder
from ._quiet import interrupts_held

PRELOAD: Final = "_actorvisor_boot"
# By its full name where the interpreter ignores its environment.
_OTHERWISE: Final = "actorvisor.bridge._boot._actorvisor_boot"
VARIABLE: Final = "ACTORVISOR_PRELOAD"

_lock = threading.Lock()
_started_for: set[int] = set()


async def ensure(modules: tuple[str, ...]) -> None:
    """Start the fork server of this process, if nobody has; a checkpoint.

    There is one for each process. If the user's own code has started it, it stays as it is, and
    restarts take longer.

    Raises:
        OSError: it could not be started.
    """
    if os.getpid() in _started_for:
        await trio.lowlevel.checkpoint()
        return
    await trio.to_thread.run_sync(_start, modules)


def _start(modules: tuple[str, ...]) -> None:
    with _lock:
        if os.getpid() in _started_for:
            return
        server: Any = forkserver._forkserver
        if getattr(server, "_forkserver_pid", None) is None:
            is_own = _folder.make() is not None or multiprocessing.parent_process() is None
            python_path = os.environ.get("PYTHONPATH")
            data = spawn.get_preparation_data("actorvisor")
            what = {
                "host": os.getpid(),
                "own": is_own,
                "python_path": python_path,
                "path": [entry or os.getcwd() for entry in sys.path],
                "modules": list(modules),
                "main": data.get("init_main_from_path"),
                "main_name": data.get("init_main_from_name"),
            }
            others = [one for one in getattr(server, "_preload_modules", []) if one != "__main__"]
            first = _OTHERWISE if sys.flags.ignore_environment else PRELOAD
            multiprocessing.set_forkserver_preload([first, *others])
            os.environ[VARIABLE] = json.dumps(what)
            path = [os.path.dirname(_boot.__file__), python_path]
            os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, path))
            try:
                with interrupts_held():  # lifted in there
                    forkserver.ensure_running()
            finally:
                _restore(VARIABLE, None)
                _restore("PYTHONPATH", python_path)
        _started_for.add(os.getpid())


def _restore(name: str, value: str | None) -> None:
    """Set a variable of the environment to what it was."""
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
