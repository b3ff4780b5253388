"""What keeps a check from hanging on an executor that never ends what it began."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, final

import trio

from .._runtime._incarnation import crashed
from ._wrapping import WrappedLife, Wrapping

if TYPE_CHECKING:
    from .._runtime._incarnation import Incarnation
    from ..abc import Life, Place


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
@dataclass(frozen=True, repr=False)
class Leash(Wrapping):
    """An executor as it is, but for that its lives can be cut off.

    Attributes:
        cut: what cuts them off.
    """

    cut: Cut = field(compare=False, kw_only=True)

    def begin(self, place: Place, incarnation: Incarnation, nursery: trio.Nursery) -> Life:
        """See `Wrapping.begin`."""
        return _LeashedLife(place.begin(incarnation), self.cut)


class _LeashedLife(WrappedLife):
    def __init__(self, life: Life, cut: Cut) -> None:
        super().__init__(life)
        self._cut = cut

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        await self._cut.hold(self._life, self.incarnation)
