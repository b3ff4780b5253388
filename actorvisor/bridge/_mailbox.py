"""The mail of a service in another process: the channel, and the link's window (P3).

While a worker is there and has credit, a message is framed where it is sent; else it waits in the
channel. What is under way counts as waiting until the worker has taken it up, which it stores in
the memory that both share.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any, TypeAlias

import trio

from .._core._describe import describe
from .._core._messages import Notification
from .._errors import RemoteError
from .._runtime._crossing import crossing
from .._runtime._envelope import Bulky, Envelope
from .._runtime._mailbox import Mailbox
from . import _ledger as ledger
from ._memory import copy
from ._wire._codec import Codec, Draft, main_is_importable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import outcome

    from .._runtime._envelope import Reply
    from .._runtime._mailbox import Post
    from .._runtime._waits import Wait
    from ._link import Link


Call: TypeAlias = "tuple[str, tuple[Any, ...], Mapping[str, Any], bytes | Draft]"
"""A tell that is under way: name, arguments, keyword arguments, and what carries it. To make an
envelope of each took a tenth of its cost."""


class LinkedMailbox(Mailbox):
    """The mail of one identity whose incarnations live in other processes.

    Attributes:
        codec: for all that goes to its processes.
    """

    __slots__ = ("_in_hand", "_link", "_queued", "_watching", "codec")

    def __init__(self, path: str, capacity: int, overflow: str, post: Post) -> None:
        self._in_hand: Envelope | None = None
        self._link: Link | None = None
        self._watching = False
        super().__init__(path, capacity, overflow, post)
        # Messages that wait in front or in the channel.
        self._queued = 0
        self.codec: Codec = Codec(by_value=not main_is_importable())

    @property
    def in_hand(self) -> Envelope | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The message whose handler was entered, as the worker has stored it."""
        self.observe()
        return self._in_hand

    @in_hand.setter
    def in_hand(self, envelope: Envelope | None) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._in_hand = envelope

    @property
    def busy(self) -> bool:
        """Whether something waits, is in hand, or is to be answered later."""
        self.observe()
        return bool(self.waiting or self._in_hand is not None or self.open_replies)

    @property
    def full(self) -> bool:
        """Whether a sender has to wait."""
        if self.waiting >= self.limit:
            self.observe()
        return self.waiting >= self.limit

    # --- senders --------------------------------------------------------------------------

    def encode(self, envelope: Envelope) -> None:
        """See `Mailbox.encode`: once, and before anything is accepted (P4)."""
        wire = envelope.wire
        if wire is None:
            wire = envelope.wire = self.codec.encode_message(
                envelope.name, envelope.args, envelope.kwargs, self.path
            )
        if type(wire) is Draft:
            raise Bulky(envelope)

    def pack_nowait(self, envelope: Envelope) -> None:
        """See `Mailbox.pack_nowait`."""
        try:
            self.encode(envelope)
        except Bulky:
            envelope.wire = copy(envelope.wire)

    async def pack(self, envelope: Envelope) -> None:
        """See `Mailbox.pack`."""
        try:
            self.encode(envelope)
        except Bulky:
            envelope.wire = await crossing.get().off_loop(copy, envelope.wire)

    @trio.lowlevel.enable_ki_protection
    def put(self, envelope: Envelope) -> None:
        """See `Mailbox.put`.

        Raises:
            TypeError: something in it cannot be pickled.
            Bulky: it is large, and nothing was accepted yet: `post` copies it off the loop.
        """
        self.encode(envelope)
        self._accepted += 1
        self.waiting += 1
        link = self._link
        if self._queued or link is None or not link.push(envelope):
            self._queued += 1
            self._send.send_nowait(envelope)

    @trio.lowlevel.enable_ki_protection
    def put_tell(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """See `put`; one that is sent at once has an envelope only when something looks at it."""
        wire = self.codec.encode_message(name, args, kwargs, self.path)
        link = self._link
        if (
            type(wire) is bytes
            and not self._queued
            and link is not None
            and link.push_tell((name, args, kwargs, wire), wire)
        ):
            self._accepted += 1
            self.waiting += 1
        else:
            self.put(_enveloped((name, args, kwargs, wire)))

    def put_exempt(self, envelope: Envelope) -> None:
        """See `Mailbox.put_exempt`; what cannot be pickled of a notification is told in words."""
        try:
            self.pack_nowait(envelope)
        except TypeError as error:
            message = envelope.args[0] if envelope.args else None
            name = type(message).__qualname__
            if isinstance(message, Notification):
                message = RemoteError(name, f"{describe(message)}: {error}")
            envelope.args = (message,)
            self.pack_nowait(envelope)
        super().put_exempt(envelope)

    def post_nowait(self, envelope: Envelope) -> bool:
        """See `Mailbox.post_nowait`."""
        if self.gate is not None:
            self.gate.admit(self)
        self.pack_nowait(envelope)
        if self.waiting >= self.limit:
            self.observe()
        return super().post_nowait(envelope)

    async def post(self, envelope: Envelope, wait: Wait | None = None) -> None:
        """See `Mailbox.post`; what is large is copied off the loop."""
        if self.gate is not None:
            self.gate.admit(self)
        await self.pack(envelope)
        if self.waiting >= self.limit:
            self.observe()
        await super().post(envelope, wait)

    @trio.lowlevel.enable_ki_protection
    def withdraw(self, envelope: Envelope) -> None:
        """See `Mailbox.withdraw`; one that is under way is withdrawn when the worker skips it."""
        self.observe()
        link = self._link
        number = None if link is None else link.number_of(envelope)
        if number is None:
            if not envelope.withdrawn:
                self._queued -= 1
                super().withdraw(envelope)
            return
        assert link is not None
        envelope.withdrawn = True
        link.ledger.withdrawn[number & ledger.MASK] = 1
        self.limit += 1  # it takes no room any more
        self._admit_sender()

    # --- the worker -----------------------------------------------------------------------

    def attach(self, link: Link) -> None:
        """A worker is there: send it what waits."""
        if self.drops:
            link.end.window = 1  # what is under way could not be dropped
        self._link = link
        self._pump()

    def _pump(self) -> None:
        """Send what waits, as far as there is credit."""
        link = self._link
        while link is not None and self._queued and link.credit > 0:
            if self._front is not None:
                envelope = self._front.popleft()
                if not self._front:
                    self._front = None
            else:
                try:
                    found = self._receive.receive_nowait()
                except trio.WouldBlock:
                    self._queued = 0
                    break
                if found is None:
                    continue
                if found.withdrawn:
                    self._garbage -= 1
                    continue
                envelope = found
            self._queued -= 1
            if envelope.timer and envelope.timer != link.incarnation:
                self._leave(envelope)
                self._withdrawn += 1
                continue
            if envelope.exempt:
                envelope.unread = True
            link.push(envelope)

    def _leave(self, envelope: Envelope) -> None:
        """It waits no more."""
        self.waiting -= 1
        if envelope.exempt:
            self.limit -= 1
            envelope.unread = False

    @trio.lowlevel.enable_ki_protection
    def observe(self, replied: int = 0) -> None:
        """Take in how far the worker is.

        Args:
            replied: the number of a message whose reply has come: it is done, though the worker
                may not have stored so yet.
        """
        link = self._link
        if link is None:
            return
        words, end = link.words, link.end
        taken, stored = words[ledger.TAKEN], words[ledger.DONE]
        done = max(link.end.acknowledged, replied)
        # What is stored counts once all that was framed before has come: what a handler has told
        # others is on its way as long as the socket has it (M7, L4).
        if stored > done and words[ledger.BEFORE] <= link.received:
            done = stored
        finished: list[Envelope | Call] = end.settle(done)
        changed = bool(finished)
        if finished:
            self._finish(link, finished)
        if self._in_hand is None and end.under_way and end.settled < taken:
            envelope = end.under_way[0] = self._in_hand = _enveloped(end.under_way[0])
            self._leave(envelope)
            changed = True
        if words[ledger.READS] != self._reads:
            self.reads = words[ledger.READS]
        if changed:
            if self._queued:
                self._pump()
            if self._senders is not None:
                self._admit_sender()
            if self.gate is not None and not self._watching:
                # It asks whether something waits, and with that comes here again.
                self._watching = True
                try:
                    self.gate.changed(self)
                finally:
                    self._watching = False
            if self.feeder is not None:
                for message in finished:
                    self.feeder.freed(_enveloped(message))

    def _finish(self, link: Link, finished: list[Envelope | Call]) -> None:
        """Account for what is done, and was the oldest under way."""
        verdicts = link.ledger.verdicts
        if self.limit == self.capacity and bytes(verdicts) == ledger.ALL_HANDLED:
            # Nearly always none of them takes no room, and all were simply handled.
            self._handled += len(finished)
            self.waiting -= len(finished)
            if finished[0] is self._in_hand:
                self._in_hand = None
                self.waiting += 1
            return
        for number, message in enumerate(finished, link.end.settled - len(finished) + 1):
            envelope = _enveloped(message)
            if envelope is self._in_hand:
                self._in_hand = None
            elif envelope.exempt:
                self._leave(envelope)
            else:
                self.waiting -= 1
            if verdicts[number & ledger.MASK]:
                self._judge(link, number, envelope)
            else:
                self._handled += 1
            if envelope.withdrawn:
                self.limit -= 1
                envelope.withdrawn = False
                link.ledger.withdrawn[number & ledger.MASK] = 0

    def _judge(self, link: Link, number: int, envelope: Envelope) -> None:
        """It was not simply handled."""
        slot = number & ledger.MASK
        verdict = link.ledger.verdicts[slot]
        link.ledger.verdicts[slot] = 0
        if verdict == ledger.REJECTED:
            self._rejected += 1
        elif verdict == ledger.SKIPPED:
            link.end.asks.pop(number, None)  # no reply will take it out
            self._withdrawn += 1
        else:
            self.dead_letter(envelope, "it could not be decoded")

    def later(self, envelope: Envelope) -> Reply | None:
        """Its handler has promised an answer for later: where that goes."""
        reply, envelope.reply = envelope.reply, None
        if reply is not None:
            reply.end_wait()  # whoever asked may be asked back before it is answered
        self.open_replies += 1
        return reply

    def kept(self, reply: Reply | None, result: outcome.Outcome[Any]) -> None:
        """A promised answer has come, or never will."""
        self.open_replies -= 1
        if reply is not None and not reply.answer(result):
            self.late()
        if self.gate is not None:
            self.gate.changed(self)

    def detach(self) -> list[Envelope]:
        """The worker is gone.

        Returns:
            What it did not take up, in order. What it had in hand stays so.
        """
        link, self._link = self._link, None
        if link is None:
            return []
        self._link = link
        self.observe(max(link.end.replied, link.words[ledger.DONE]))
        self._link = None
        left = ledger.what_is_left(
            link.end.sequence, link.words[ledger.TAKEN], link.words[ledger.DONE], link.end.replied
        )
        back = []
        for number, message in enumerate(link.end.under_way, link.end.settled + 1):
            envelope = _enveloped(message)
            if number == left.in_hand:
                if envelope.withdrawn:
                    envelope.withdrawn = False
                    self.limit -= 1
                continue
            assert number in left.back
            self.waiting -= 1
            if envelope.exempt:
                self.limit -= 1
            if envelope.withdrawn:
                self.limit -= 1
                self._withdrawn += 1
            else:
                back.append(envelope)
        return back

    def give_back(self, envelopes: Iterable[Envelope]) -> None:
        """See `Mailbox.give_back`."""
        back, before = list(envelopes), self.waiting
        for envelope in back:
            if envelope.exempt:
                envelope.unread = True
        super().give_back(back)
        self._queued += self.waiting - before

    def recall(self, envelope: Envelope) -> bool:
        """See `Mailbox.recall`; what is under way comes back when the worker has ended."""
        link = self._link
        if link is not None and envelope in link.end.under_way:
            return False
        found = super().recall(envelope)
        self._queued -= found
        return found

    def settle(self, why: str, error: Any) -> None:
        """See `Mailbox.settle`."""
        super().settle(why, error)
        self._queued = 0

    def _drop_oldest(self) -> None:
        before = self.waiting
        super()._drop_oldest()
        self._queued -= before - self.waiting


def _enveloped(message: Envelope | Call) -> Envelope:
    """A message that is under way, as an envelope."""
    if isinstance(message, Envelope):
        return message
    name, args, kwargs, wire = message
    envelope = Envelope(name, args, kwargs)
    envelope.wire = wire
    return envelope


class Forwarded(Envelope):
    """A message whose sender was another process: it goes on as it came."""

    __slots__ = ()

    def describe(self) -> str:
        """What it is, in bounded text; never raises."""
        if type(self.wire) is not bytes:
            return f"{self.name}(...)"
        try:
            name, args, *kwargs = pickle.loads(self.wire)
            return Envelope(name, args, kwargs[0] if kwargs else {}).describe()
        except Exception:
            return "a message that cannot be decoded"
