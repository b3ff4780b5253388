"""Mailboxes that tell of each message: what is accepted, taken up, and how it ends (M1-M8).

Whatever kind of mailbox an executor gives, it gets a subclass of its own class that does the same.
Of a service in another process the host's end is told of: what that knows, and when it learns it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

import trio

from .._runtime._envelope import Envelope
from .._runtime._pool_mail import PoolMailbox
from ..bridge import _ledger as ledger
from ..bridge._mailbox import LinkedMailbox
from ._letters import BROKEN, SETTLED, Letters

if TYPE_CHECKING:
    import outcome

    from .._core._messages import ExitReason
    from .._runtime._mailbox import Mailbox
    from .._runtime._waits import Wait
    from ..bridge._link import Link, Listener
    from ._chronicle import RecordedCommons
    from ._trace import Json


def record_mail(mailbox: Mailbox) -> None:
    """Have a mailbox, which is empty, tell of its messages; its commons is a recorded one."""
    kind: type = type(mailbox)
    mailbox.__class__ = _recorded(kind)


@functools.cache
def _recorded(kind: type) -> type[Mailbox]:
    mixin: type = RecordedMailbox
    if issubclass(kind, PoolMailbox):
        mixin = RecordedPoolMailbox
    elif issubclass(kind, LinkedMailbox):
        mixin = RecordedLinkedMailbox
    made: Any = type(f"Recorded{kind.__name__}", (mixin, kind), {"__slots__": ()})
    return made  # type: ignore[no-any-return]


# What stands before a mailbox's own class is no mailbox by itself: an object's class can be changed
# only to one of the same layout, and two mailboxes as bases make another one.
if TYPE_CHECKING:
    _Mail = Mailbox
    _PoolMail = PoolMailbox
    _LinkedMail = LinkedMailbox
else:
    _Mail = _PoolMail = _LinkedMail = object


class RecordedMailbox(_Mail):
    """What a mailbox that tells of its messages does otherwise."""

    __slots__ = ()

    @property
    def letters(self) -> Letters:
        """Who is told of them."""
        return cast("RecordedCommons", self._post).chronicle.letters

    # --- senders --------------------------------------------------------------------------

    def _check(self, envelope: Envelope) -> None:
        """Raise what `put` would: a message that cannot be sent is not accepted."""
        self.encode(envelope)

    @trio.lowlevel.enable_ki_protection
    def put(self, envelope: Envelope) -> None:
        """See `Mailbox.put`."""
        letters = self.letters
        if letters.find(envelope) is None:
            self._check(envelope)
            letters.accepted(self, envelope)
        else:
            letters.handed_over(self, envelope)
        super().put(envelope)

    def put_tell(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """See `Mailbox.put_tell`."""
        self.put(Envelope(name, args, kwargs))  # a letter is of an envelope

    async def _await_turn(self, envelope: Envelope | None, wait: Wait | None) -> None:
        if envelope is None:
            await super()._await_turn(None, wait)
            return
        self.letters.begin_wait(envelope)
        try:
            await super()._await_turn(envelope, wait)
        finally:
            self.letters.end_wait(envelope)

    @trio.lowlevel.enable_ki_protection
    def refuse(self, envelope: Envelope, why: str) -> None:
        """See `Mailbox.refuse`."""
        self.letters.accepted(self, envelope)
        super().refuse(envelope, why)

    def _withdraws(self, envelope: Envelope) -> bool:
        """Whether it is here that a message waits, and now that it is withdrawn."""
        return True

    @trio.lowlevel.enable_ki_protection
    def withdraw(self, envelope: Envelope) -> None:
        """See `Mailbox.withdraw`."""
        if self._withdraws(envelope):
            self.letters.ended("withdrawn", self, envelope)
        super().withdraw(envelope)

    # --- the one reader -------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    def take_nowait(self, incarnation: int) -> Envelope | None:
        """See `Mailbox.take_nowait`."""
        envelope = super().take_nowait(incarnation)
        if envelope is not None:
            self.letters.taken(self, envelope, incarnation)
        return envelope

    @trio.lowlevel.enable_ki_protection
    def found(self, found: Envelope | None, incarnation: int) -> Envelope | None:
        """See `Mailbox.found`."""
        envelope = super().found(found, incarnation)
        if envelope is not None:
            self.letters.taken(self, envelope, incarnation)
        return envelope

    def _drop_timer(self, envelope: Envelope) -> None:
        self.letters.ended("withdrawn", self, envelope, {"why": SETTLED})
        super()._drop_timer(envelope)

    @trio.lowlevel.enable_ki_protection
    def done(self, envelope: Envelope, result: Any) -> None:
        """See `Mailbox.done`."""
        self.letters.ended("handled", self, envelope)
        super().done(envelope, result)

    @trio.lowlevel.enable_ki_protection
    def reject(self, envelope: Envelope, error: BaseException) -> None:
        """See `Mailbox.reject`."""
        detail: dict[str, Json] = {"exception": type(error).__qualname__}
        self.letters.ended("rejected", self, envelope, detail)
        super().reject(envelope, error)

    @trio.lowlevel.enable_ki_protection
    def answer(self, envelope: Envelope, result: outcome.Outcome[Any]) -> None:
        """See `Mailbox.answer`."""
        before = self._late
        super().answer(envelope, result)
        if self._late > before:
            self.letters.dropped(self, envelope)
        self.letters.answered(envelope)

    def late(self) -> None:
        """See `Mailbox.late`."""
        super().late()
        self.letters.dropped(self, None)

    @trio.lowlevel.enable_ki_protection
    def give_back(self, envelopes: Iterable[Envelope]) -> None:
        """See `Mailbox.give_back`."""
        back, feeder = list(envelopes), self.feeder
        stays = [one for one in back if feeder is None or not feeder.gave(one)]
        self.letters.given_back(self, stays)
        super().give_back(back)

    # --- the end --------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    def dead_letter(self, envelope: Envelope, why: str, reason: ExitReason | None = None) -> None:
        """See `Mailbox.dead_letter`."""
        self.letters.ended("dead-letter", self, envelope, {"why": why})
        super().dead_letter(envelope, why, reason)

    @trio.lowlevel.enable_ki_protection
    def settle(self, why: str, error: Any) -> None:
        """See `Mailbox.settle`."""
        super().settle(why, error)
        self.letters.settled(self)


class RecordedPoolMailbox(RecordedMailbox, _PoolMail):
    """What the mailbox of a pool does otherwise."""

    __slots__ = ()

    def _check(self, envelope: Envelope) -> None:
        if self._crossing is not None:
            self._crossing.encode(envelope)

    def _withdraws(self, envelope: Envelope) -> bool:
        # What a member was given is told of by that one's mailbox.
        return envelope in self.dispatch._lane(self._lane(envelope))

    @trio.lowlevel.enable_ki_protection
    def take_back(self, envelope: Envelope, number: int) -> None:
        """See `PoolMailbox.take_back`."""
        self.letters.given_back(self, (envelope,))
        super().take_back(envelope, number)


class RecordedLinkedMailbox(RecordedMailbox, _LinkedMail):
    """What the mailbox of a service in another process does otherwise."""

    __slots__ = ()

    def _withdraws(self, envelope: Envelope) -> bool:
        # What is under way is withdrawn when the worker says so.
        self.observe()
        link = self._link
        return not envelope.withdrawn and (link is None or link.number_of(envelope) is None)

    def attach(self, link: Link) -> None:
        """See `LinkedMailbox.attach`."""
        assert link.listener is not None
        link.listener = _Heard(link.listener, self.letters, self, link.incarnation)
        super().attach(link)

    def _pump(self) -> None:
        with self.letters.sending():
            super()._pump()

    def _leave(self, envelope: Envelope) -> None:
        super()._leave(envelope)
        letters = self.letters
        if letters.is_sending:
            letters.ended("withdrawn", self, envelope, {"why": SETTLED})
        elif self._link is not None:
            # What is done already was told of before.
            letters.taken(self, envelope, self._link.incarnation)

    def _finish(self, link: Link, finished: list[Any]) -> None:
        letters, verdicts = self.letters, link.ledger.verdicts
        for number, envelope in enumerate(finished, link.end.settled - len(finished) + 1):
            verdict = verdicts[number & ledger.MASK]
            if verdict in {ledger.HANDLED, ledger.REJECTED}:
                letters.taken(self, envelope, link.incarnation)
            # Each in its turn, also what is a dead letter: `dead_letter` comes too late for that.
            why: dict[str, Json] | None = {"why": BROKEN} if verdict == ledger.BROKEN else None
            letters.ended(_VERDICTS[verdict], self, envelope, why)
        super()._finish(link, finished)

    def detach(self) -> list[Envelope]:
        """See `LinkedMailbox.detach`."""
        under_way = [] if self._link is None else list(self._link.end.under_way)
        back = super().detach()
        for envelope in under_way:
            letter = self.letters.find(envelope)
            if letter is not None and not letter.taken and envelope not in back:
                self.letters.ended("withdrawn", self, envelope)
        return back


_VERDICTS: Final = {
    ledger.HANDLED: "handled",
    ledger.REJECTED: "rejected",
    ledger.SKIPPED: "withdrawn",
    ledger.BROKEN: "dead-letter",
}


class _Heard:
    """What a worker sends is sent by its service, and not by the task that reads its frames."""

    def __init__(
        self, listener: Listener, letters: Letters, mailbox: Mailbox, incarnation: int
    ) -> None:
        self._listener = listener
        self._letters = letters
        self._origin = letters.worker(mailbox, incarnation, self)

    @trio.lowlevel.enable_ki_protection
    def hear(self, kind: int, number: int, payload: Any) -> None:
        """A frame came."""
        letters = self._letters
        before, letters.speaking = letters.speaking, self._origin
        try:
            self._listener.hear(kind, number, payload)
        finally:
            letters.speaking = before
