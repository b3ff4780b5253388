"""Lives that tell a trace of what they leave, and whose senders are known (L8, M5)."""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast, final

import trio

from .._runtime._incarnation import Incarnation
from ._wrapping import WrappedLife, Wrapping

if TYPE_CHECKING:
    from .._core._messages import ExitReason
    from .._runtime._envelope import Envelope
    from ..abc import Life, Place
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
@dataclass(frozen=True, repr=False)
class Recording(Wrapping):
    """An executor as it is, but for that a trace is told of what its lives leave."""

    def begin(self, place: Place, incarnation: Incarnation, nursery: trio.Nursery) -> Life:
        """See `Wrapping.begin`."""
        incarnation.__class__ = RecordedIncarnation
        return _RecordedLife(place.begin(incarnation))


class _RecordedLife(WrappedLife):
    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        incarnation = self.incarnation
        life.set(Mark(incarnation.path, incarnation.number))
        await self._life.run()


class RecordedIncarnation(Incarnation):
    """A life that tells how it accounts for the message in hand."""

    __slots__ = ()

    # Invariant: no attributes of its own. What is an incarnation already becomes one of these.

    def account_for(self, envelopes: Iterable[Envelope], reason: ExitReason, final: bool) -> None:
        """See `Incarnation.account_for`."""
        mailbox = cast("RecordedMailbox", self.mailbox)
        with mailbox.letters.accounting(mailbox.in_hand, reason, final):
            super().account_for(envelopes, reason, final)
