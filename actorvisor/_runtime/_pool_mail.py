"""The mail of a pool: what waits is handed to members that are free, by synchronous calls (W1).

A message counts where it is: once it is handed over it was accepted by the member, and by the pool
again if it comes back, so that the account is exact at every moment (M7).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import outcome
import trio

from .._core._dispatch import Dispatch, lane_of
from .._core._supervision import Phase
from ._envelope import Envelope
from ._mailbox import Gate, Mailbox
from ._origin import add_note

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ._cell import Cell
    from ._pool import Pool
    from ._pool_actor import PoolActor
    from ._waits import Wait

AT_WORK: Final = frozenset({Phase.STARTING, Phase.UP})


class Open:
    """A gate that lets all in. Of a pool with a key: so that none gets in past `Mailbox.sort`."""

    __slots__ = ()

    def admit(self, mailbox: Mailbox) -> None:
        """Let it in."""

    def changed(self, mailbox: Mailbox) -> None:
        """Nothing to do."""


class Member(Open):
    """One member of a pool, as what feeds its mailbox (`Feeder`).

    Attributes:
        cell: its identity.
        number: which one it is.
    """

    __slots__ = ("_given", "_leaving", "_mail", "_pool", "_ready", "cell", "number")

    def __init__(self, cell: Cell, number: int, pool: PoolMailbox) -> None:
        assert cell.mailbox is not None
        self.cell = cell
        self.number = number
        self._mail: Mailbox = cell.mailbox
        self._pool = pool
        # Whether it takes mail now, and whether its life is ending.
        self._ready = False
        self._leaving = False
        # What it was given and has not done with: one at a time.
        self._given: Envelope | None = None

    @property
    def idle(self) -> bool:
        """Whether it could take up a message at once."""
        # In this order: to ask what is in hand is to look how far a worker is.
        return self._ready and self._mail.in_hand is None and not self._mail.waiting

    # --- from the pool --------------------------------------------------------------------

    def begin(self) -> None:
        """A life begins; it takes no mail yet."""
        self._leaving = False

    def up(self) -> None:
        """Its setup has finished. A `run` takes mail only when it reads."""
        if not self.cell.declaration.is_loop:
            self.reading()

    def give(self, envelope: Envelope) -> None:
        """Hand a message over."""
        self._given = envelope
        move_wait(envelope, self.cell)
        self._mail.put(envelope)
        if self._mail.gate is not None:
            self._mail.gate.changed(self._mail)

    def withdraw(self, envelope: Envelope) -> None:
        """The asker of what was handed over is gone: as `Ref.ask` does without a pool (M8)."""
        if envelope is not self._mail.in_hand:
            self._mail.withdraw(envelope)

    # --- from its mailbox -----------------------------------------------------------------

    def freed(self, envelope: Envelope) -> None:
        """See `Feeder.freed`."""
        if envelope is self._given:
            self._given = None
            self._pool.forget(envelope)
        self._look()

    def reading(self) -> None:
        """See `Feeder.reading`."""
        self._ready = not self._leaving
        self._look()

    def resting(self) -> None:
        """See `Feeder.resting`."""
        self._ready = False
        self._pool.dispatch.busy(self.number)
        given = self._given
        if given is not None and given is not self._mail.in_hand and self._mail.recall(given):
            self.take_back(given)

    def leaving(self) -> None:
        """See `Feeder.leaving`."""
        self._leaving = True
        self.resting()

    def gave(self, envelope: Envelope) -> bool:
        """See `Feeder.gave`."""
        return envelope is self._given

    def take_back(self, envelope: Envelope) -> None:
        """See `Feeder.take_back`."""
        self._given = None
        self._pool.take_back(envelope, self.number)

    def _look(self) -> None:
        if self.idle:
            self._pool.dispatch.free(self.number)
            self._pool.deal()


class PoolMailbox(Mailbox):
    """The mail of one pool. Nobody reads it: it is dealt.

    Attributes:
        dispatch: what waits, and who is free.
        members: its members, by number.
    """

    __slots__ = (
        "_actor",
        "_crossing",
        "_dealing",
        "_given",
        "_key",
        "_ordinary",
        "_shut",
        "dispatch",
        "members",
    )

    def __init__(self, actor: PoolActor, pool: Pool[object]) -> None:
        keyed = pool.key is not None
        self._ordinary: Gate | None = Open() if keyed else None
        cell = actor.cell
        super().__init__(cell.path, pool.app.mailbox, pool.app.overflow, cell.commons)
        self.dispatch: Dispatch[Envelope] = Dispatch(pool.size, keyed=keyed)
        self.members: dict[int, Member] = {}
        # Its members' mail is of that kind, and knows how to encode what crosses a process.
        executor = cell.commons.executor_for(pool.app.executor)
        kind = executor.mailbox(cell.path, 1, "wait", cell.commons)
        self._crossing: Mailbox | None = kind
        self._actor = actor
        self._key: Callable[..., object] | None = pool.key
        self._dealing = False
        # What members were given and have not done with, and its rank.
        self._given: dict[Envelope, tuple[Member, int]] = {}
        # With a key: the members that are down for good, as long as the pool is not.
        self._shut: set[int] = set()

    @property
    def ordinary(self) -> Gate | None:
        """See `Mailbox.ordinary`."""
        return self._ordinary

    # --- senders --------------------------------------------------------------------------

    def sort(self, envelope: Envelope) -> Cell | None:
        """See `Mailbox.sort`.

        Raises:
            TypeError: what the key function gave is no key.
            ServiceStopped: the key's member is down for good.
        """
        if self._key is None:
            return None
        try:
            key = self._key(*envelope.args, **envelope.kwargs)
        except Exception as error:
            add_note(error, f"raised by the key= of {self.path} for {envelope.describe()}")
            raise
        try:
            lane = envelope.lane = lane_of(key, self.dispatch.size)
        except TypeError as error:
            raise TypeError(
                f"the key= of {self.path}, for {envelope.describe()}, {error}"
            ) from None
        if lane in self._shut:
            raise self.members[lane].cell.stopped_error()
        member = self.members.get(lane)
        return None if member is None else member.cell

    @trio.lowlevel.enable_ki_protection
    def put(self, envelope: Envelope) -> None:
        """See `Mailbox.put`.

        Raises:
            TypeError: it cannot be encoded for another process; nothing was accepted.
            Bulky: it is large; nothing was accepted.
        """
        if self._crossing is not None:
            self._crossing.encode(envelope)
        self._accepted += 1
        lane = self._lane(envelope)
        if lane in self._shut:  # since it began to wait for room
            self._drop(envelope, lane)
            return
        self.waiting += 1
        self.dispatch.add(envelope, lane)
        self.deal()

    def put_tell(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """See `Mailbox.put_tell`."""
        self.put(Envelope(name, args, kwargs))

    def post_nowait(self, envelope: Envelope) -> bool:
        """See `Mailbox.post_nowait`."""
        if self._crossing is not None:
            if self.gate is not None:
                self.gate.admit(self)
            self._crossing.pack_nowait(envelope)
        return super().post_nowait(envelope)

    async def post(self, envelope: Envelope, wait: Wait | None = None) -> None:
        """See `Mailbox.post`."""
        if self._crossing is not None:
            if self.gate is not None:
                self.gate.admit(self)
            await self._crossing.pack(envelope)
        await super().post(envelope, wait)

    def _lane(self, envelope: Envelope) -> int:
        return envelope.lane if self.dispatch.keyed else 0

    def _take_oldest(self) -> Envelope | None:
        return self.dispatch.pop_oldest()

    @trio.lowlevel.enable_ki_protection
    def withdraw(self, envelope: Envelope) -> None:
        """See `Mailbox.withdraw`; it may be a member's already."""
        given = self._given.get(envelope)
        if given is not None:
            given[0].withdraw(envelope)
        elif self.dispatch.remove(envelope, self._lane(envelope)):
            envelope.withdrawn = True
            envelope.reply = None
            self._withdrawn += 1
            self.waiting -= 1
            self._admit_sender()
            if self.gate is not None:
                self.gate.changed(self)

    # --- members --------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    def deal(self) -> None:
        """Hand out what waits, as long as somebody is free for it."""
        # What is dealt makes room, and who waited for that deals again: once is enough.
        if self._dealing or self._actor.supervision.phase not in AT_WORK:
            return
        self._dealing = True
        try:
            while (number := self.dispatch.who()) is not None:
                member = self.members[number]
                if member.idle:
                    self._hand_over(member)
                else:  # a timer or a message of its own came in between
                    self.dispatch.busy(number)
        finally:
            self._dealing = False

    def _hand_over(self, member: Member) -> None:
        envelope, rank = self.dispatch.hand_out(member.number)
        self.waiting -= 1
        self._accepted -= 1
        self._given[envelope] = member, rank
        member.give(envelope)
        if self._senders is not None:
            self._admit_sender()
        # After the member's: a drain that watches both must not see it in neither.
        if self.gate is not None:
            self.gate.changed(self)

    def forget(self, envelope: Envelope) -> None:
        """A member is done with a message."""
        self._given.pop(envelope, None)

    @trio.lowlevel.enable_ki_protection
    def take_back(self, envelope: Envelope, number: int) -> None:
        """What a member gives back waits before all that came after it (M4)."""
        _, rank = self._given.pop(envelope)
        self._accepted += 1
        self.waiting += 1
        move_wait(envelope, self.members[number].cell if self.dispatch.keyed else self._actor.cell)
        self.dispatch.put_back(envelope, rank, number)
        if self.gate is not None:
            self.gate.changed(self)
        self.deal()

    def shut(self, number: int) -> None:
        """A member is down for good, and the pool is not: nobody else gets its keys' mail (M6)."""
        if not self.dispatch.keyed:
            return
        self._shut.add(number)
        for envelope in self.dispatch.pop_lane(number):
            self.waiting -= 1
            self._drop(envelope, number)
        self._admit_sender()
        if self.gate is not None:
            self.gate.changed(self)

    def open(self, number: int | None = None) -> None:
        """A member is not down for good any more; None: none is, for the pool itself is down."""
        self._shut.discard(number) if number is not None else self._shut.clear()

    def _drop(self, envelope: Envelope, number: int) -> None:
        cell = self.members[number].cell
        if envelope.reply is not None:
            self.answer(envelope, outcome.Error(cell.stopped_error()))
        self.dead_letter(envelope, f"{cell.path} has ended")

    def _next(self) -> Envelope:
        """What is settled next."""
        envelope = self.dispatch.pop_oldest()
        if envelope is None:
            raise trio.WouldBlock
        self.waiting -= 1
        return envelope


def move_wait(envelope: Envelope, cell: Cell) -> None:
    """Whoever asked waits for somebody else now (M10)."""
    wait = None if envelope.reply is None else envelope.reply.wait
    if wait is not None:
        wait.edge = wait.edge._replace(target=cell)
