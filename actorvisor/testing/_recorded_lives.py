"""Lives that tell a trace of what they leave, and whose senders are known (L8, M5)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast, final

import trio

from .._core._describe import describe
from .._runtime._incarnation import Incarnation
from ..abc import Executor, Life, Place

if TYPE_CHECKING:
    from .._core._messages import ExitReason
    from .._runtime._mailbox import Envelope, Mailbox, Post
    from ._recorded_mail import RecordedMailbox


class Mark:
    """One life; its tasks and threads have it in their context.

    Attributes:
        path: the actor.
        number: which of its lives.
    """

    __slots__ = ("__weakref__", "number", "path")

    def __init__(self, path: str, number: int) -> None:
        self.path = path
        self.number = number


life: Final[ContextVar[Mark | None]] = ContextVar("actorvisor.life", default=None)
"""The life whose code runs here; None: none that is recorded."""


@final
@dataclass(frozen=True)
class Recording(Executor):
    """An executor as it is, but for that a trace is told of what its lives leave.

    Attributes:
        executor: that one.
    """

    executor: Executor
    has_loop: bool = field(init=False, compare=False, repr=False)  # type: ignore[misc]
    has_thread: bool = field(init=False, compare=False, repr=False)  # type: ignore[misc]
    is_remote: bool = field(init=False, compare=False, repr=False)  # type: ignore[misc]

    def __post_init__(self) -> None:
        object.__setattr__(self, "has_loop", self.executor.has_loop)
        object.__setattr__(self, "has_thread", self.executor.has_thread)
        object.__setattr__(self, "is_remote", self.executor.is_remote)

    def __repr__(self) -> str:
        return describe(self.executor)

    def mailbox(self, path: str, capacity: int, overflow: str, post: Post) -> Mailbox | None:
        """The other one's; when its identity comes to be, it is recorded as all are."""
        return self.executor.mailbox(path, capacity, overflow, post)

    @asynccontextmanager
    async def open(self, nursery: trio.Nursery) -> AsyncGenerator[Place, None]:
        """The other one, opened."""
        async with self.executor.open(nursery) as place:
            yield _RecordedPlace(place)


class _RecordedPlace(Place):
    def __init__(self, place: Place) -> None:
        self._place = place

    def begin(self, incarnation: Incarnation) -> _RecordedLife:
        incarnation.__class__ = RecordedIncarnation
        return _RecordedLife(self._place.begin(incarnation))


class _RecordedLife(Life):
    def __init__(self, lived: Life) -> None:
        self._life = lived

    @property
    def incarnation(self) -> Incarnation:
        return self._life.incarnation

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        incarnation = self.incarnation
        life.set(Mark(incarnation.path, incarnation.number))
        await self._life.run()

    def stop_life(self, final: bool, grace: float) -> None:
        self._life.stop_life(final, grace)

    def lost(self, reason: ExitReason) -> None:
        self._life.lost(reason)


class RecordedIncarnation(Incarnation):
    """A life that tells how it accounts for the message in hand."""

    __slots__ = ()

    # Invariant: no attributes of its own. What is an incarnation already becomes one of these.

    def account_for(self, envelopes: Iterable[Envelope], reason: ExitReason, final: bool) -> None:
        """See `Incarnation.account_for`."""
        mailbox = cast("RecordedMailbox", self.mailbox)
        with mailbox.letters.accounting(mailbox.in_hand, reason, final):
            super().account_for(envelopes, reason, final)
