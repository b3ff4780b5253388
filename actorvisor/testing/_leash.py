"""What keeps a check from hanging on an executor that never ends what it began."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, final

import trio

from .._runtime._incarnation import crashed
from ..abc import Executor, Life, Place

if TYPE_CHECKING:
    from .._core._messages import ExitReason
    from .._runtime._incarnation import Incarnation
    from .._runtime._mailbox import Mailbox, Post


class Cut:
    """Ends all lives on a leash.

    Attributes:
        complaints: what lives did not do that they had to, in words.
    """

    def __init__(self) -> None:
        self.complaints: list[str] = []
        self._scopes: set[trio.CancelScope] = set()

    def cut(self) -> None:
        """End what has not ended."""
        for scope in self._scopes:
            scope.cancel()

    async def hold(self, life: Life, incarnation: Incarnation) -> None:
        """Run a life, and report its end if it does not do so itself."""
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            await life.run()
        self._scopes.discard(scope)
        if not incarnation.over:
            what = (
                "never ended" if scope.cancelled_caught else "returned, and never called exited()"
            )
            self.complaints.append(f"{type(life).__name__}.run() of {incarnation.path} {what}")
            reason = crashed(RuntimeError(self.complaints[-1]))
            life.lost(reason)
            incarnation.account_for((), reason, final=True)
            incarnation.exited(reason)


@final
@dataclass(frozen=True)
class Leash(Executor):
    """An executor as it is, but for that its lives can be cut off.

    Attributes:
        executor: that one.
        cut: what cuts them off.
    """

    executor: Executor
    cut: Cut = field(compare=False)
    has_loop: bool = field(init=False, compare=False)  # type: ignore[misc]
    has_thread: bool = field(init=False, compare=False)  # type: ignore[misc]
    is_remote: bool = field(init=False, compare=False)  # type: ignore[misc]

    def __post_init__(self) -> None:
        object.__setattr__(self, "has_loop", self.executor.has_loop)
        object.__setattr__(self, "has_thread", self.executor.has_thread)
        object.__setattr__(self, "is_remote", self.executor.is_remote)

    def __repr__(self) -> str:
        return repr(self.executor)

    def mailbox(self, path: str, capacity: int, overflow: str, post: Post) -> Mailbox | None:
        """The other one's."""
        return self.executor.mailbox(path, capacity, overflow, post)

    @asynccontextmanager
    async def open(self, nursery: trio.Nursery) -> AsyncGenerator[Place, None]:
        """The other one, opened."""
        async with self.executor.open(nursery) as place:
            yield _LeashedPlace(place, self.cut)


class _LeashedPlace(Place):
    def __init__(self, place: Place, cut: Cut) -> None:
        self._place = place
        self._cut = cut

    def begin(self, incarnation: Incarnation) -> _LeashedLife:
        return _LeashedLife(self._place.begin(incarnation), incarnation, self._cut)


class _LeashedLife(Life):
    def __init__(self, life: Life, incarnation: Incarnation, cut: Cut) -> None:
        self._life = life
        self._incarnation = incarnation
        self._cut = cut

    @property
    def incarnation(self) -> Incarnation:
        return self._incarnation

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        await self._cut.hold(self._life, self._incarnation)

    def stop_life(self, final: bool, grace: float) -> None:
        self._life.stop_life(final, grace)

    def lost(self, reason: ExitReason) -> None:
        self._life.lost(reason)
