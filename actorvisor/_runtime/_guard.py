"""A program without a main guard: its workers would run it again, and start workers of their own."""

from __future__ import annotations

import os
import sys
from typing import Final

UNGUARDED: Final = 70
"""The exit status of a worker that was about to run its parent's program again."""

preloading: bool = False
"""Whether this is the fork server, which tries to import the program ahead."""


class Unguarded(BaseException):
    """The program would have opened a host while it was imported."""


def check_main_guard() -> None:
    """End a worker that imports its parent's program, when that opens a host.

    Raises:
        Unguarded: this is the fork server, which goes on without it.
    """
    process = sys.modules.get("multiprocessing.process")
    if process is None or not getattr(process.current_process(), "_inheriting", False):
        return
    if preloading:
        raise Unguarded
    os._exit(UNGUARDED)
