"""Recordings: a host that tells a trace of all that happens in it, simulated or real (T4)."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from typing import TYPE_CHECKING, Any, TypeAlias, final
from weakref import WeakKeyDictionary

import trio

from .._core._describe import describe
from .._runtime._host import NAME, open_host
from ._chronicle import RecordedCommons
from ._recorded_facts import plain_text
from ._trace import Entry, Json, Trace

if TYPE_CHECKING:
    from .._runtime._pool import Declaration

OpenHost: TypeAlias = Callable[..., open_host]


@final
class Recorder:
    """Records hosts: what `record` gives. Call it as you call `actorvisor.open_host`.

    Hosts that are opened by it tell one trace. The paths of the second one begin with ``host-2``,
    and so on.

    Attributes:
        logs: whether notifications are logged besides; of a simulation they are not.
    """

    def __init__(self, open_host: OpenHost = open_host, **facts: Json) -> None:
        self.logs: bool = True
        self._open = open_host
        self._facts = facts
        self._entries: list[Entry] = []
        self._muted = False
        self._hosts = 0
        self._tasks: WeakKeyDictionary[object, int] = WeakKeyDictionary()
        self._task_count = 0
        self._numbers = count(1)

    def __repr__(self) -> str:
        return f"<Recorder of {self._hosts} hosts, {len(self._entries)} entries>"

    def __call__(self, children: Iterable[Declaration] = (), **options: Any) -> open_host:
        """Open a host that is recorded; the arguments are those of `actorvisor.open_host`."""
        block = self._open(children, **options)
        if not isinstance(block, open_host):
            raise TypeError(f"record() needs what opens a host, and that gave {describe(block)}")
        block._commons = functools.partial(RecordedCommons, self)
        return block

    def trace(self, **facts: Json) -> Trace:
        """What happened so far.

        Args:
            **facts: more to say in its header.
        """
        header: dict[str, Json] = {
            "actorvisor": importlib.metadata.version("actorvisor"),
            "python": platform.python_version(),
            "trio": trio.__version__,
            **self._facts,
            **facts,
        }
        return Trace(header, tuple(self._entries))

    def mute(self) -> None:
        """Record nothing from now on."""
        self._muted = True

    def fault(self, path: str, incarnation: int, what: str) -> None:
        """Tell of a fault that is injected now."""
        self.add("fault", path, incarnation, {"what": plain_text(what)})

    def add(self, kind: str, path: str, incarnation: int, detail: Mapping[str, Json]) -> None:
        """Tell of something that happens now."""
        if not self._muted:
            number, now = len(self._entries) + 1, trio.current_time()
            self._entries.append(Entry(number, now, kind, path, incarnation, detail))

    def new_host(self) -> str:
        """A name for one more host."""
        self._hosts += 1
        return NAME if self._hosts == 1 else f"{NAME}-{self._hosts}"

    def new_message(self) -> int:
        """A number for one more message."""
        return next(self._numbers)

    def task(self, task: object) -> int:
        """The number of a sending task."""
        number = self._tasks.get(task)
        if number is None:
            # Not how many are left: when those that have ended are forgotten is the collector's.
            self._task_count += 1
            number = self._tasks[task] = self._task_count
        return number


def record(open_host: OpenHost = open_host, **facts: Json) -> Recorder:
    """Record what happens in hosts, for `check`, to compare, or to keep.

    Example:
        ::

            recorded = record()
            async with recorded([...]) as host:
                ...
            check(recorded.trace())

    Args:
        open_host: what opens them: `actorvisor.open_host`, or what gives one, such as `inject`.
        **facts: what the trace's header is to say besides; JSON values.

    Returns:
        What opens hosts as that does. Its ``trace()`` is what happened in them so far.
    """
    return Recorder(open_host, **facts)
