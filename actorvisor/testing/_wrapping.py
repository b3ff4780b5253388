"""An executor around another one: the same, but for what a subclass makes of its lives."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .._core._describe import describe
from ..abc import Executor, Life, Place

if TYPE_CHECKING:
    import trio

    from .._core._messages import ExitReason
    from .._runtime._incarnation import Incarnation
    from .._runtime._mailbox import Mailbox, Post


@dataclass(frozen=True)
class Wrapping(Executor):
    """An executor as it is. What subclasses add is no part of its equality.

    Attributes:
        executor: that one.
    """

    executor: Executor
    has_loop: bool = field(init=False, compare=False)  # type: ignore[misc]
    has_thread: bool = field(init=False, compare=False)  # type: ignore[misc]
    is_remote: bool = field(init=False, compare=False)  # type: ignore[misc]

    def __post_init__(self) -> None:
        for name in ("has_loop", "has_thread", "is_remote"):
            object.__setattr__(self, name, getattr(self.executor, name))

    def __repr__(self) -> str:
        return describe(self.executor)

    def mailbox(self, path: str, capacity: int, overflow: str, post: Post) -> Mailbox | None:
        """The other one's."""
        return self.executor.mailbox(path, capacity, overflow, post)

    @asynccontextmanager
    async def open(self, nursery: trio.Nursery) -> AsyncGenerator[Place, None]:
        """The other one, opened."""
        async with self.inner().open(nursery) as place:
            yield _WrappedPlace(self, place, nursery)

    def inner(self) -> Executor:
        """What is opened: the other one, or one that is the same but for some option."""
        return self.executor

    def begin(self, place: Place, incarnation: Incarnation, nursery: trio.Nursery) -> Life:
        """What stands for a life of the other one's.

        Args:
            place: the other one's, where it begins.
            incarnation: what is to be carried out.
            nursery: the executor actor's.
        """
        raise NotImplementedError


class _WrappedPlace(Place):
    def __init__(self, wrapping: Wrapping, place: Place, nursery: trio.Nursery) -> None:
        self._wrapping = wrapping
        self._place = place
        self._nursery = nursery

    def begin(self, incarnation: Incarnation) -> Life:
        return self._wrapping.begin(self._place, incarnation, self._nursery)


class WrappedLife(Life):
    """A life as it is."""

    def __init__(self, life: Life) -> None:
        self._life = life

    @property
    def incarnation(self) -> Incarnation:
        """See `Life.incarnation`."""
        return self._life.incarnation

    def stop_life(self, final: bool, grace: float) -> None:
        """See `Life.stop_life`."""
        self._life.stop_life(final, grace)

    def lost(self, reason: ExitReason) -> None:
        """See `Life.lost`."""
        self._life.lost(reason)
