"""Which member of a pool gets what next, and whose turn a rolling restart has: decisions only (W1).

`Dispatch` holds what waits in a pool. It knows which members could take one more, and nothing of
mailboxes; a pool's shell tells it, and hands out what it says.
"""

from __future__ import annotations

import itertools
import zlib
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from ._describe import describe

_T = TypeVar("_T", bound=Hashable)


def lane_of(key: object, size: int) -> int:
    """Which member a key belongs to: the same in every process, whatever the hash seed.

    Args:
        key: what the user's function gave.
        size: how many members there are.

    Raises:
        TypeError: it is neither a string nor bytes nor an integer.
    """
    if isinstance(key, str):
        data = key.encode("utf-8", "surrogatepass")
    elif isinstance(key, bytes):
        data = key
    elif isinstance(key, int):
        # Not its digits: Python makes no text of very long numbers.
        data = int(key).to_bytes((key.bit_length() + 8) // 8, "little", signed=True)
    else:
        raise TypeError(f"must be a str, bytes or an int, not {describe(key)}")
    return zlib.crc32(data) % size


class Dispatch(Generic[_T]):
    """What waits in a pool, in order, and which of its members is free.

    Without a key there is one lane, for all members; with one, each member has its own.

    Attributes:
        size: how many members there are.
        keyed: whether each has a lane of its own.
    """

    def __init__(self, size: int, *, keyed: bool) -> None:
        self.size = size
        self.keyed = keyed
        # Each message has a rank: its place among all that ever came. By that the oldest of several
        # lanes is found, and the place of what comes back.
        self._lanes: list[OrderedDict[_T, int]] = [
            OrderedDict() for _ in range(size if keyed else 1)
        ]
        self._last = 0
        # (A dict is a set that keeps its order.) Who has been free longest comes first.
        self._free: dict[int, None] = {}
        # With a key: the free ones for whom something waits.
        self._matched: dict[int, None] = {}

    def __len__(self) -> int:
        return sum(map(len, self._lanes))

    def _lane(self, lane: int) -> OrderedDict[_T, int]:
        return self._lanes[lane if self.keyed else 0]

    # --- what waits -----------------------------------------------------------------------

    def add(self, item: _T, lane: int = 0) -> None:
        """One more waits, behind all others.

        Args:
            item: the message; it must not wait already.
            lane: which member it is for; without a key that means nothing.
        """
        self._last += 1
        self._lane(lane)[item] = self._last
        self._match(lane)

    def put_back(self, item: _T, rank: int, lane: int = 0) -> None:
        """One was handed out and comes back: it waits before all that came after it (M4).

        Args:
            item: the message.
            rank: as `hand_out` gave it.
            lane: which member it is for; without a key that means nothing.
        """
        waiting = self._lane(lane)
        # Of those before it, all have come back, too: they are few.
        before = [*itertools.takewhile(lambda one: one[1] < rank, waiting.items())]
        waiting[item] = rank
        waiting.move_to_end(item, last=False)
        for one, _ in reversed(before):
            waiting.move_to_end(one, last=False)
        self._match(lane)

    def remove(self, item: _T, lane: int = 0) -> bool:
        """One waits no more; whether it did."""
        if self._lane(lane).pop(item, None) is None:
            return False
        self._unmatch(lane)
        return True

    def pop_oldest(self) -> _T | None:
        """Take out what has waited longest, in whichever lane; None if nothing waits."""
        ranks = [(next(iter(lane.values())), i) for i, lane in enumerate(self._lanes) if lane]
        return self._pop(min(ranks)[1])[0] if ranks else None

    def pop_lane(self, lane: int) -> list[_T]:
        """Take out all that waits for one member; nothing without a key."""
        if not self.keyed:
            return []
        return [self._pop(lane)[0] for _ in range(len(self._lane(lane)))]

    def has_mail(self, member: int) -> bool:
        """Whether something waits that this member could get."""
        return bool(self._lane(member))

    def _pop(self, lane: int) -> tuple[_T, int]:
        found = self._lane(lane).popitem(last=False)
        self._unmatch(lane)
        return found

    # --- who is free ----------------------------------------------------------------------

    def free(self, member: int) -> None:
        """A member could take one more."""
        self._free.setdefault(member)
        self._match(member)

    def busy(self, member: int) -> None:
        """A member can take nothing."""
        self._free.pop(member, None)
        self._matched.pop(member, None)

    def _match(self, lane: int) -> None:
        if self.keyed and lane in self._free and self._lanes[lane]:
            self._matched.setdefault(lane)

    def _unmatch(self, lane: int) -> None:
        if self.keyed and not self._lanes[lane]:
            self._matched.pop(lane, None)

    # --- who gets what --------------------------------------------------------------------

    def who(self) -> int | None:
        """Which member gets something next: of those that can, who has been free longest."""
        if self.keyed:
            return next(iter(self._matched), None)
        return next(iter(self._free), None) if self._lanes[0] else None

    def hand_out(self, member: int) -> tuple[_T, int]:
        """Take out what a member gets, which `who` has named; it is busy from now on.

        Returns:
            The message, and its rank, for `put_back`.
        """
        found = self._pop(member)
        self.busy(member)
        return found


class Rolling:
    """A rolling restart: one member at a time, each waiting for the one before.

    Who asks while one is under way gets one of its own after it, together with all others who do.

    Attributes:
        members: all names, in order.
        current: whose restart is waited for, or None.
    """

    def __init__(self, members: tuple[str, ...]) -> None:
        self.members = members
        self.current: str | None = None
        self._left: list[str] = []
        self._tokens: list[object] = []
        self._later: list[object] = []

    @property
    def active(self) -> bool:
        """Whether one is under way."""
        return bool(self._tokens)

    def ask(self, token: object) -> None:
        """Somebody wants all members restarted."""
        self._later.append(token)

    def next(self) -> str | None:
        """Whom to restart now; None if nobody is to be, or one is under way still."""
        if self.current is not None:
            return None
        if not self._tokens:
            self._tokens, self._later = self._later, []
            self._left = list(reversed(self.members)) if self._tokens else []
        if self._left:
            self.current = self._left.pop()
        return self.current

    def went_on(self) -> list[object]:
        """The one that was waited for is up, or stays down; who has been served with it."""
        self.current = None
        if self._left:
            return []
        tokens, self._tokens = self._tokens, []
        return tokens

    def failed(self) -> list[object]:
        """The one that was waited for has not come up: the rest is left alone; who is told so."""
        self._left.clear()
        return self.went_on()

    def call_off(self) -> list[object]:
        """The pool ends; who is told so."""
        tokens = [*self._tokens, *self._later]
        self.current = None
        self._left, self._tokens, self._later = [], [], []
        return tokens
