"""The mail of one identity: order, room, withdrawal, and an exact account (M1-M8).

Mail belongs to the identity, not to an incarnation. Everything here happens by synchronous calls
on the host's loop; only `Mailbox.take` and `Mailbox.post` wait.
"""

from __future__ import annotations

import contextlib
import math
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import outcome
import trio

from .._errors import MailboxFull
from ._channel import BATCH
from ._envelope import Envelope

if TYPE_CHECKING:
    from .._core._messages import ExitReason
    from ._cell import Cell
    from ._waits import Wait

CAPACITY: Final = 1000
"""The default bound of mail, in messages."""


class Gate(Protocol):
    """What stands before a mailbox that does not simply take mail: a drain, or an end."""

    def admit(self, mailbox: Mailbox) -> None:
        """Let the sender's message in, or raise `ServiceStopped`."""

    def changed(self, mailbox: Mailbox) -> None:
        """Something was put in, taken out or done."""


class Feeder(Gate, Protocol):
    """Who gives a mailbox its mail one by one: a pool, to its member (W1).

    It is its gate, too, in ordinary times: so that what has none does not look for a feeder.
    """

    def freed(self, envelope: Envelope) -> None:
        """A message is done with, in whichever way: it may be time for the next one."""

    def reading(self) -> None:
        """A `run` reads."""

    def resting(self) -> None:
        """A `run` has stopped reading: it is to get nothing until it reads again."""

    def leaving(self) -> None:
        """Its life ends: it is to get nothing more."""

    def gave(self, envelope: Envelope) -> bool:
        """Whether that message came from here, and is not done with."""
        ...

    def take_back(self, envelope: Envelope) -> None:
        """One that came from here was not handled."""


class Post(Protocol):
    """Who is told of dead letters."""

    def dead_letter(
        self, mailbox: Mailbox, envelope: Envelope, why: str, reason: ExitReason | None
    ) -> None:
        """A message will not be handled, and perhaps because of a life's end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailStatistics:
    """The account of a mailbox, in messages (M7).

    ``accepted == handled + rejected + withdrawn + dead_letters + waiting + in_hand``, always.

    Attributes:
        accepted: taken in since the identity began.
        handled: their handler returned.
        rejected: their handler raised a `Rejection`.
        withdrawn: taken back by their asker, or a timer's of an earlier incarnation.
        dead_letters: will never be handled.
        waiting: not taken up yet.
        in_hand: being handled now.
        late_replies: answers that nobody waited for any more; no part of the sum.
    """

    accepted: int = 0
    handled: int = 0
    rejected: int = 0
    withdrawn: int = 0
    dead_letters: int = 0
    waiting: int = 0
    in_hand: int = 0
    late_replies: int = 0

    def __add__(self, other: MailStatistics) -> MailStatistics:
        return MailStatistics(
            **{name: getattr(self, name) + getattr(other, name) for name in self.__slots__}
        )


class Mailbox:
    """The mail of one identity.

    Attributes:
        batch: messages that a reader takes in a row before it lets others run.
        path: whose it is.
        waiting: messages not taken up yet.
        limit: how many may wait: the capacity, and those that take no room.
        gate: None in ordinary times.
        in_hand: the message whose handler was entered, or None.
        open_replies: asks that were promised an answer later.
        feeder: who gives it its mail one by one, or None.
    """

    __slots__ = (
        "_accepted",
        "_budget",
        "_dead_letters",
        "_front",
        "_garbage",
        "_handled",
        "_late",
        "_overflow",
        "_post",
        "_reads",
        "_receive",
        "_rejected",
        "_send",
        "_senders",
        "_withdrawn",
        "capacity",
        "feeder",
        "gate",
        "in_hand",
        "limit",
        "open_replies",
        "path",
        "waiting",
    )

    batch: Final = BATCH

    def __init__(self, path: str, capacity: int, overflow: str, post: Post) -> None:
        self.path: str = path
        self.capacity: int = capacity
        self.limit: int = capacity
        self.waiting: int = 0
        self.in_hand: Envelope | None = None
        self.open_replies: int = 0
        # Invariant: what has a feeder has a gate.
        self.feeder: Feeder | None = None
        self.gate: Gate | None = self.ordinary
        self._reads = 0
        self._overflow = overflow
        self._post = post
        # None stands for a mere wake-up.
        self._send: trio.MemorySendChannel[Envelope | None]
        self._receive: trio.MemoryReceiveChannel[Envelope | None]
        self._send, self._receive = trio.open_memory_channel(math.inf)
        # What was given back is read before mail; both are made when they are needed.
        self._front: deque[Envelope] | None = None
        self._senders: (
            OrderedDict[trio.lowlevel.Task, tuple[Envelope | None, Wait | None]] | None
        ) = None
        # Withdrawn messages that are still in the channel.
        self._garbage = 0
        self._budget = BATCH
        self._accepted = 0
        self._handled = 0
        self._rejected = 0
        self._withdrawn = 0
        self._dead_letters = 0
        self._late = 0

    @property
    def ordinary(self) -> Gate | None:
        """The gate of ordinary times."""
        return self.feeder

    def feed(self, feeder: Feeder) -> None:
        """It is a pool's member from now on."""
        self.feeder = self.gate = feeder

    @property
    def reads(self) -> int:
        """How often a `run` loop has read, 0 while it never did; executors count it up."""
        return self._reads

    @reads.setter
    def reads(self, reads: int) -> None:
        self._reads = reads
        if reads and self.feeder is not None:
            self.feeder.reading()

    # --- senders --------------------------------------------------------------------------

    def encode(self, envelope: Envelope) -> None:
        """Encode what is to cross a process: here nothing is.

        Raises:
            TypeError: it cannot be.
            Bulky: it is so large that it is better copied off the loop, by `pack`.
        """

    def pack_nowait(self, envelope: Envelope) -> None:
        """As `encode`, with a copy of what is large."""

    async def pack(self, envelope: Envelope) -> None:
        """As `pack_nowait`, off the loop; a checkpoint if there is something to copy."""

    def sort(self, envelope: Envelope) -> Cell | None:
        """See for whom in particular a message is, before anybody waits for anything.

        Returns:
            The member of a pool with a key, else None.

        Raises:
            Exception: the key function did.
        """
        return None

    @trio.lowlevel.enable_ki_protection
    def put(self, envelope: Envelope) -> None:
        """Accept a message; the caller has seen that there is room and no gate."""
        self._accepted += 1
        self.waiting += 1
        self._send.send_nowait(envelope)

    @trio.lowlevel.enable_ki_protection
    def put_tell(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Accept a tell, as `put` does; not all mailboxes make an envelope for it."""
        self._accepted += 1
        self.waiting += 1
        self._send.send_nowait(Envelope(name, args, kwargs))

    @trio.lowlevel.enable_ki_protection
    def put_exempt(self, envelope: Envelope) -> None:
        """Accept a notification or a timer's message: it takes no room."""
        self.limit += 1
        self.put(envelope)
        if self.gate is not None:
            self.gate.changed(self)

    @trio.lowlevel.enable_ki_protection
    def post_nowait(self, envelope: Envelope) -> bool:
        """Accept a message if there is room.

        Returns:
            Whether it was accepted.

        Raises:
            ServiceStopped: the gate says so.
        """
        if self.gate is not None:
            self.gate.admit(self)
        if self.waiting >= self.limit:
            if not self.drops:
                return False
            self._drop_oldest()
        self.put(envelope)
        if self.gate is not None:
            self.gate.changed(self)
        return True

    @trio.lowlevel.enable_ki_protection
    async def post(self, envelope: Envelope, wait: Wait | None = None) -> None:
        """Accept a message, and wait for room if there is none; a checkpoint when it waits.

        Args:
            envelope: the message.
            wait: the wait of an actor that ends when there is room, or None (M10).

        Raises:
            ServiceStopped: the gate says so, before or during the wait.
        """
        if self.post_nowait(envelope):
            return
        await self._await_turn(envelope, wait)

    async def await_room(self, wait: Wait | None = None) -> None:
        """Wait in turn until there is room, for somebody who sends later; a checkpoint.

        Raises:
            ServiceStopped: the gate says so, before or during the wait.
        """
        if self.gate is not None:
            self.gate.admit(self)
        if self.waiting < self.limit or self.drops:
            await trio.lowlevel.checkpoint()
        else:
            await self._await_turn(None, wait)

    async def _await_turn(self, envelope: Envelope | None, wait: Wait | None) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        senders = self._senders
        if senders is None:
            senders = self._senders = OrderedDict()
        task = trio.lowlevel.current_task()
        senders[task] = envelope, wait

        def abort(_: object) -> trio.lowlevel.Abort:
            _, ended = senders.pop(task)
            if ended is not None:
                ended.end()
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def _drop_oldest(self) -> None:
        """Make room. What takes none (M1) is passed over: it moves to the front, in order."""
        oldest = self._take_oldest()
        if oldest is None:
            return  # the only one is on its way to the reader already: there is room
        self.waiting -= 1
        if oldest.reply is not None:
            self.answer(oldest, outcome.Error(MailboxFull(self.path, self.capacity)))
        self.dead_letter(oldest, "mailbox full, the oldest is dropped")

    def _take_oldest(self) -> Envelope | None:
        oldest = next((one for one in self._front or () if not one.exempt), None)
        if oldest is not None:
            self._take_from_front(oldest)
        while oldest is None:
            try:
                found = self._receive.receive_nowait()
            except trio.WouldBlock:
                return None
            if found is None:
                continue
            if found.withdrawn:
                self._garbage -= 1
            elif found.exempt:
                if self._front is None:
                    self._front = deque()
                self._front.append(found)
            else:
                oldest = found
        return oldest

    def _take_from_front(self, envelope: Envelope) -> None:
        # Invariant: an empty front is None.
        assert self._front is not None
        self._front.remove(envelope)
        if not self._front:
            self._front = None

    def _admit_sender(self) -> None:
        """There is room: the sender that has waited longest gets it."""
        senders = self._senders
        while senders and self.waiting < self.limit:
            task, (envelope, wait) = senders.popitem(last=False)
            if wait is not None:
                wait.end()
            if envelope is not None:
                self.put(envelope)
            trio.lowlevel.reschedule(task)
        if senders is not None and not senders:
            self._senders = None

    @trio.lowlevel.enable_ki_protection
    def refuse_senders(
        self,
        error: Callable[[], BaseException],
        keep: Callable[[trio.lowlevel.Task], bool] | None = None,
    ) -> None:
        """Tell those that wait for room that there will be none.

        Args:
            error: makes what is raised to each.
            keep: says which may go on waiting.
        """
        for task in list(self._senders or ()):
            if keep is None or not keep(task):
                assert self._senders is not None
                _, wait = self._senders.pop(task)
                if wait is not None:
                    wait.end()
                trio.lowlevel.reschedule(task, outcome.Error(error()))
        if not self._senders:
            self._senders = None

    @trio.lowlevel.enable_ki_protection
    def withdraw(self, envelope: Envelope) -> None:
        """Its asker is gone: it will not be handled, and takes no room any more (M8)."""
        envelope.withdrawn = True
        envelope.reply = None
        self._withdrawn += 1
        self.waiting -= 1
        if self._front is not None and envelope in self._front:
            self._take_from_front(envelope)
        else:
            self._garbage += 1
            if self._garbage > self.waiting:
                self._sweep()
        self._admit_sender()
        if self.gate is not None:
            self._tell_gate(self.gate, envelope)

    def _sweep(self) -> None:
        kept: list[Envelope | None] = []
        with contextlib.suppress(trio.WouldBlock):
            while True:
                envelope = self._receive.receive_nowait()
                if envelope is None or not envelope.withdrawn:
                    kept.append(envelope)
                else:
                    self._garbage -= 1
        for envelope in kept:
            self._send.send_nowait(envelope)

    # --- the one reader -------------------------------------------------------------------

    def _next(self) -> Envelope | None:
        """Take the next message out; None if it was one that counts no more."""
        if self._front is not None:
            envelope = self._front.popleft()
            if not self._front:
                self._front = None
        else:
            found = self._receive.receive_nowait()
            if found is None:
                return None
            envelope = found
            if envelope.withdrawn:
                self._garbage -= 1
                return None
        self.waiting -= 1
        if envelope.exempt:
            self.limit -= 1
            envelope.unread = False
        if self._senders is not None:
            self._admit_sender()
        return envelope

    @trio.lowlevel.enable_ki_protection
    def take_nowait(self, incarnation: int) -> Envelope | None:
        """Take the next message up: it is in hand from now on.

        Returns:
            It, or None when what came next counts no more: look again.
        """
        envelope = self._next()
        if envelope is None:
            return None
        if envelope.timer and envelope.timer != incarnation:
            # It was set by a life that is over, and means nothing to this one (L8).
            self._drop_timer(envelope)
            return None
        self.in_hand = envelope
        return envelope

    def _drop_timer(self, envelope: Envelope) -> None:
        self._withdrawn += 1
        if self.gate is not None:
            self._tell_gate(self.gate, envelope)

    @trio.lowlevel.enable_ki_protection
    async def take(self, incarnation: int) -> Envelope | None:
        """Wait for the next message; a checkpoint when it waits and after every 32 messages.

        Returns:
            It, or None when it was only woken up.
        """
        if self.waiting:
            self._budget -= 1
            if not self._budget:
                await trio.lowlevel.checkpoint()
                self._budget = BATCH
            return self.take_nowait(incarnation) if self.waiting else None
        self._budget = BATCH
        return self.found(await self.find(), incarnation)

    def find(self) -> Awaitable[Envelope | None]:
        """What an idle reader waits for, to hand it to `found`; one coroutine less than `take`."""
        return self._receive.receive()

    @trio.lowlevel.enable_ki_protection
    def found(self, found: Envelope | None, incarnation: int) -> Envelope | None:
        """Take up what came, as `take_nowait` does."""
        if found is None:
            return None
        if found.withdrawn:
            self._garbage -= 1
            return None
        if self._front is not None:
            # While it was on its way to us, younger ones that take no room were passed over.
            self._front.appendleft(found)
            return self.take_nowait(incarnation)
        self.waiting -= 1
        if found.exempt:
            self.limit -= 1
            found.unread = False
            if found.timer and found.timer != incarnation:
                self._drop_timer(found)
                return None
        if self._senders is not None:
            self._admit_sender()
        self.in_hand = found
        return found

    @trio.lowlevel.enable_ki_protection
    def wake(self) -> None:
        """Make a reader that waits look up: its control channel has something.

        What it has is always an end.
        """
        if self.feeder is not None:
            self.feeder.leaving()
        self._send.send_nowait(None)

    @trio.lowlevel.enable_ki_protection
    def done(self, envelope: Envelope, result: Any) -> None:
        """The handler returned."""
        self.in_hand = None
        self._handled += 1
        if envelope.reply is not None:
            self.answer(envelope, outcome.Value(result))
        if self.gate is not None:
            self._tell_gate(self.gate, envelope)

    def _tell_gate(self, gate: Gate, envelope: Envelope) -> None:
        gate.changed(self)
        if self.feeder is not None:
            self.feeder.freed(envelope)

    @trio.lowlevel.enable_ki_protection
    def reject(self, envelope: Envelope, error: BaseException) -> None:
        """The handler raised a `Rejection`."""
        self.in_hand = None
        self._rejected += 1
        if envelope.reply is not None:
            self.answer(envelope, outcome.Error(error))
        if self.gate is not None:
            self._tell_gate(self.gate, envelope)

    def answer(self, envelope: Envelope, result: outcome.Outcome[Any]) -> None:
        """Answer an ask; an answer that nobody waits for is dropped and counted (M8)."""
        reply, envelope.reply = envelope.reply, None
        if reply is not None and not reply.answer(result):
            self._late += 1

    def fail(self, envelope: Envelope, error: BaseException) -> None:
        """Answer an ask with an error; nothing for a tell."""
        self.answer(envelope, outcome.Error(error))

    def late(self) -> None:
        """Count an answer that nobody waited for."""
        self._late += 1

    @trio.lowlevel.enable_ki_protection
    def give_back(self, envelopes: Iterable[Envelope]) -> None:
        """Put back what was taken out and is not handled, in order, before all other mail (M4)."""
        front = deque(envelopes if self.feeder is None else self._return(envelopes, self.feeder))
        if self._front is not None:
            front.extend(self._front)
        for envelope in front:
            if envelope is self.in_hand:
                self.in_hand = None
        self.waiting += len(front) - len(self._front or ())
        self.limit += sum(envelope.exempt for envelope in front) - sum(
            envelope.exempt for envelope in self._front or ()
        )
        self._front = front or None

    def _return(self, envelopes: Iterable[Envelope], feeder: Feeder) -> list[Envelope]:
        """Let a pool have back what came from it: another member may be free. What is left."""
        left: list[Envelope] = []
        back: list[Envelope] = []
        for envelope in envelopes:
            (back if feeder.gave(envelope) else left).append(envelope)
        for envelope in back:
            if envelope is self.in_hand:
                self.in_hand = None
            self._accepted -= 1
            feeder.take_back(envelope)
        return left

    @trio.lowlevel.enable_ki_protection
    def recall(self, envelope: Envelope) -> bool:
        """Take a message out again that waits, as if it had never been accepted.

        Returns:
            Whether it did; not what is on its way to the reader, in hand, or done with.
        """
        if self._front is not None and envelope in self._front:
            self._take_from_front(envelope)
        else:
            kept: list[Envelope | None] = []
            with contextlib.suppress(trio.WouldBlock):
                while True:
                    kept.append(self._receive.receive_nowait())
            found = envelope in kept
            for one in kept:
                if one is not envelope:
                    self._send.send_nowait(one)
            if not found:
                return False
        self.waiting -= 1
        self._accepted -= 1
        return True

    # --- the end --------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    def dead_letter(self, envelope: Envelope, why: str, reason: ExitReason | None = None) -> None:
        """A message that was accepted will not be handled.

        Its asker is told before: who is told of the letter may cancel the ask, and it would be
        taken for one that waits.
        """
        if envelope is self.in_hand:
            self.in_hand = None
        self._dead_letters += 1
        self._post.dead_letter(self, envelope, why, reason)
        if self.feeder is not None:
            self.feeder.freed(envelope)

    @trio.lowlevel.enable_ki_protection
    def settle(self, why: str, error: Callable[[], BaseException]) -> None:
        """Make all that waits dead letters, and tell each asker (M6)."""
        self.refuse_senders(error)
        with contextlib.suppress(trio.WouldBlock):
            while True:
                envelope = self._next()
                if envelope is None:
                    continue
                if envelope.timer:
                    self._withdrawn += 1
                    continue
                if envelope.reply is not None:
                    self.answer(envelope, outcome.Error(error()))
                self.dead_letter(envelope, why)
        if self.gate is not None:
            self.gate.changed(self)

    def refuse(self, envelope: Envelope, why: str) -> None:
        """Accept a message and drop it at once: it can never be handled."""
        self._accepted += 1
        self.dead_letter(envelope, why)

    @property
    def full(self) -> bool:
        """Whether a sender has to wait."""
        return self.waiting >= self.limit

    @property
    def drops(self) -> bool:
        """Whether a full mailbox drops its oldest message instead of letting senders wait."""
        return self._overflow == "drop_oldest"

    @property
    def busy(self) -> bool:
        """Whether something waits, is in hand, or is to be answered later."""
        return bool(self.waiting or self.in_hand is not None or self.open_replies)

    def statistics(self) -> MailStatistics:
        """The account so far."""
        # First of all: with a worker, it is taken in here how far that is, for the whole sum.
        in_hand = self.in_hand is not None
        return MailStatistics(
            accepted=self._accepted,
            handled=self._handled,
            rejected=self._rejected,
            withdrawn=self._withdrawn,
            dead_letters=self._dead_letters,
            waiting=self.waiting,
            in_hand=int(in_hand),
            late_replies=self._late,
        )
