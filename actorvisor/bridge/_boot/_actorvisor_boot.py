"""The first module that the fork server imports: light, so that it holds to its host at once.

It is found by a path of its own, wherever the package comes from, and then gives the fork server
the host's path.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Generator
from typing import Any


def boot(what: dict[str, Any]) -> None:
    """Import what workers need, as the host says."""
    with _held_to_life(what["host"]):
        # Workers boot with what holds here: a Ctrl-C is their host's affair.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        here = os.path.dirname(__file__)
        sys.path[:] = [entry for entry in sys.path if entry != here]
        for entry in reversed(what["path"]):
            if entry not in sys.path:
                sys.path.insert(0, entry)
        # What is started from here shall find its modules as before.
        del os.environ["PYTHONPATH"]
        if what["python_path"] is not None:
            os.environ["PYTHONPATH"] = what["python_path"]
        from actorvisor.bridge._preload import prepare

        prepare(what)


@contextlib.contextmanager
def _held_to_life(host: int) -> Generator[None, None, None]:
    """End with the host, as long as imports keep this process busy.

    Later the fork server notices that for itself. Its pipe does not tell now: the other end of it
    is in the requests that wait here.
    """
    imported = threading.Event()

    def watch() -> None:
        while os.getppid() == host:
            if imported.wait(0.05):
                return
        os._exit(1)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        # Nothing is forked from a process that has threads.
        imported.set()
        thread.join()


if "ACTORVISOR_PRELOAD" in os.environ:
    boot(json.loads(os.environ.pop("ACTORVISOR_PRELOAD")))
