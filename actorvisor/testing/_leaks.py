"""What outlives its host, which nothing must (H1)."""

from __future__ import annotations

import multiprocessing.process
import threading
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import trio

from .._runtime._host import NAME
from ._violations import RuleBroken, Violation

if TYPE_CHECKING:
    from ._trace import Trace

_OWN: Final = (f"{NAME}/", f"{NAME}:")


class Leaks:
    """What hosts have in this process and below, when it is made: more must not be there later."""

    def __init__(self) -> None:
        self._tasks = Counter(_tasks())
        self._threads = set(_threads())
        self._processes = set(_processes())

    def check(self, trace: Trace) -> None:
        """Check that nothing was left by the hosts of a trace, which have ended.

        Raises:
            RuleBroken: something was, which was not reported.
        """
        abandoned = sum(_number(one.detail.get("abandoned")) for one in trace.kinds("closed"))
        threads = sorted(one.name for one in set(_threads()) - self._threads)
        left = [f"task {name}" for name in (Counter(_tasks()) - self._tasks).elements()]
        left += [f"thread {name}" for name in threads[abandoned:]]
        left += [f"process {pid}" for pid in sorted(set(_processes()) - self._processes)]
        if left:
            raise RuleBroken(Violation("H1", "nothing outlives its host", ", ".join(left)))


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _tasks() -> Iterator[str]:
    """The names of the tasks that are of a host."""
    root = trio.lowlevel.current_root_task()
    stack = [] if root is None else [root]
    while stack:
        task = stack.pop()
        if task.name.startswith(_OWN):
            yield task.name
        for nursery in task.child_nurseries:
            stack.extend(nursery.child_tasks)


def _threads() -> Iterator[threading.Thread]:
    """The threads in which services run: such a one has the path for its name."""
    return (one for one in threading.enumerate() if one.name.startswith(_OWN))


def _processes() -> Iterator[int]:
    """The processes that are workers; not ``active_children()``, which forgets what has ended."""
    children: set[multiprocessing.process.BaseProcess] = vars(multiprocessing.process)["_children"]
    return (one.pid for one in tuple(children) if one.pid is not None and one.exitcode is None)
