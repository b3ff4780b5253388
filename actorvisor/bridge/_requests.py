"""What a service in a worker asks of others, carried out in the host's process (I3)."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, Final

import outcome
import trio

from .._core._messages import Completed
from .._errors import MailboxFull, RemoteError, ServiceStopped
from .._runtime._commons import numbers
from .._runtime._crossing import crossing
from .._runtime._envelope import Envelope, Reply
from .._runtime._logging import logger, traceback_text
from .._runtime._ref import ref_to
from .._runtime._waits import ASKS, ROOM, begin_wait, handling, sender
from . import _memory
from ._mailbox import Forwarded, LinkedMailbox
from ._wire import _frames as f
from ._wire._codec import Codec, Draft

if TYPE_CHECKING:
    from .._core._messages import ExitReason
    from .._runtime._cell import Cell
    from ._life import ProcessLife
    from ._link import Link

GRANT: Final = 64
"""Messages that a worker may send to one target without waiting for its room."""

_CONTROL: Final = frozenset(("stop", "remove", "stopped", "start", "restart", "start_child"))


class Lane:
    """What a worker may send to one target.

    Attributes:
        cell: the target.
        credit: messages that it may still send.
    """

    __slots__ = ("cell", "credit")

    def __init__(self, cell: Cell) -> None:
        self.cell: Cell = cell
        self.credit: int = 0

    @property
    def most(self) -> int:
        """The credit that it should have, while there is room."""
        mailbox = self.cell.mailbox
        return 1 if mailbox is None else max(1, min(GRANT, mailbox.capacity // 4))


class LinkReply(Reply):
    """Where the answer to a worker's ask goes: over its link."""

    __slots__ = ("_number", "_requests", "envelope", "over", "target")

    def __init__(self, requests: Requests, number: int, target: Cell) -> None:
        super().__init__()
        self._requests = requests
        self._number = number
        self.target = target
        self.envelope: Envelope | None = None
        self.over = False

    def answer(self, result: outcome.Outcome[Any]) -> bool:
        """Send it; whether somebody still waits."""
        self.end_wait()
        return not self.over and self._requests.answer(self._number, result)


class Requests:
    """What one worker has asked for and is not answered yet."""

    def __init__(self, life: ProcessLife, link: Link, nursery: trio.Nursery) -> None:
        self._life = life
        self._cell = life.incarnation.cell
        self._link = link
        self._nursery = nursery
        self._codec: Codec = life.codec
        self._lanes: dict[int, Lane] = {}
        self._asks: dict[int, LinkReply] = {}
        self._calls: dict[int, trio.CancelScope] = {}
        self._gone: set[int] = set()
        self._closed = False
        self._handling, self._beside = _contexts(self._cell)

    # --- answers --------------------------------------------------------------------------

    def answer(self, number: int, result: outcome.Outcome[Any]) -> bool:
        """Send the answer to a request; whether somebody still waits for it."""
        self._asks.pop(number, None)
        waits = not self._closed and number not in self._gone
        self._gone.discard(number)
        if self._closed:
            return False
        if isinstance(result, outcome.Error):
            error = result.error
            self._link.send(f.ERROR, number, self._codec.encode_error(error, _text_of(error)))
            return waits
        try:
            payload = self._codec.encode(result.unwrap(), "an answer")
        except TypeError as error:
            failure = RemoteError("TypeError", str(error))
            self._link.send(f.ERROR, number, self._codec.encode_error(failure, ""))
            return waits
        if isinstance(payload, Draft):
            self._nursery.start_soon(self._send_large, number, payload)
        else:
            self._link.send(f.ANSWER, number, payload)
        return waits

    async def _send_large(self, number: int, draft: Draft) -> None:
        bulk = await crossing.get().off_loop(_memory.copy, draft)
        if not self._closed:
            self._link.send(f.ANSWER, number, bulk)

    def close(self) -> None:
        """The worker is gone: what it asked and is not taken up is taken back (M8)."""
        if self._closed:
            return
        self._closed = True
        for reply in list(self._asks.values()):
            reply.over = True
            reply.end_wait()
            self._take_back(reply)
        self._asks.clear()
        for scope in self._calls.values():
            scope.cancel()

    def withdrawn(self, number: int) -> None:
        """Whoever asked does not wait any more."""
        scope = self._calls.get(number)
        if scope is not None:
            scope.cancel()
            return
        reply = self._asks.get(number)
        if reply is None:
            return  # its answer is on its way
        reply.end_wait()
        if self._take_back(reply):
            reply.over = True
            del self._asks[number]
            self._link.send(f.ERROR, number, self._codec.encode_error(RemoteError("", ""), ""))
        else:
            self._gone.add(number)

    def _take_back(self, reply: LinkReply) -> bool:
        envelope, mailbox = reply.envelope, reply.target.mailbox
        if envelope is None or mailbox is None or envelope.reply is not reply:
            return False
        if envelope is mailbox.in_hand:
            return False
        mailbox.withdraw(envelope)
        return True

    def _cell_of(self, target: int) -> Cell | None:
        """The identity of that number, if it is on this loop."""
        cell = numbers.cells.get(target)
        if cell is not None and cell.commons.thread != self._cell.commons.thread:
            raise RuntimeError(f"{cell.path} is of a host in another thread than {self._cell.path}")
        return cell

    # --- messages -------------------------------------------------------------------------

    def sent(self, target: int, payload: _memory.Payload) -> None:
        """A message that nobody waits for."""
        cell = self._cell_of(target)
        if cell is None or cell.mailbox is None:
            logger.warning("%s sent a message to an actor that is gone", self._cell.path)
            return
        try:
            self._deliver(cell, payload, None)
        except ServiceStopped:
            # It had credit when it was sent.
            late = _envelope(cell, payload, None, self._codec)
            cell.commons.refuse(cell, late, "it came too late")
            self._revoke(target)
            return
        except Exception as error:
            # P4: that concerns this message, and not the connection.
            text = traceback_text(error)
            logger.error("%s: a message could not be delivered\n%s", cell.path, text)
            broken = Forwarded("message", (), {})
            cell.commons.refuse(cell, broken, f"it could not be delivered: {error}")
        self._credit(target, cell)

    def asked(self, number: int, payload: _memory.Payload) -> None:
        """A message that is to be answered."""
        request, target, handled = f.parts(number)
        cell = self._cell_of(target)
        if cell is None or cell.mailbox is None:
            error = ServiceStopped(f"actor {target}", None, "has ended for good")
            self.answer(request, outcome.Error(error))
            return
        reply = LinkReply(self, request, cell)
        self._asks[request] = reply
        try:
            self._deliver(cell, payload, reply, handled)
        except Exception as error:
            if isinstance(error, ServiceStopped):
                self._revoke(target)
            reply.answer(outcome.Error(error))
            return
        self._credit(target, cell)

    def _deliver(
        self,
        cell: Cell,
        payload: _memory.Payload,
        reply: LinkReply | None,
        handled: bool = False,
    ) -> None:
        mailbox = cell.mailbox
        assert mailbox is not None
        if mailbox.gate is not None:
            self._beside.run(mailbox.gate.admit, mailbox)
        envelope = _envelope(cell, payload, reply, self._codec)
        member = mailbox.sort(envelope)
        if reply is not None:
            reply.envelope = envelope
            if handled:
                waits_for = cell if member is None else member
                reply.wait = self._handling.run(begin_wait, waits_for, "answer", ASKS)
        kind: Any = cell.declaration.kind  # type: ignore[union-attr]
        if envelope.name == "receive" and not (kind.has_receive or kind.has_run):
            mailbox.refuse(envelope, f"{kind.title} has no receive()")
            return
        if mailbox.drops:
            mailbox.post_nowait(envelope)
            return
        mailbox.put(envelope)
        if mailbox.gate is not None:
            mailbox.gate.changed(mailbox)

    def _credit(self, target: int, cell: Cell) -> None:
        """It has used one; give more while there is room."""
        lane = self._lanes.get(target)
        if lane is None:
            lane = self._lanes[target] = Lane(cell)
            lane.credit = 1
        lane.credit -= 1
        mailbox = cell.mailbox
        assert mailbox is not None
        if not mailbox.full or mailbox.drops:
            more = lane.most - lane.credit
            if more * 4 >= lane.most:
                lane.credit += more
                self._link.send(f.CREDIT, target, more.to_bytes(4, "little"))

    def _revoke(self, target: int) -> None:
        lane = self._lanes.get(target)
        if lane is not None and not self._closed:
            lane.credit = 0
            self._link.send(f.CLOSED, target)

    # --- calls ----------------------------------------------------------------------------

    def called(self, number: int, payload: _memory.Payload) -> None:
        """Something else is to be done for the service."""
        request, target, handled = f.parts(number)
        context = self._handling if handled else self._beside
        try:
            call, args = _memory.decode(self._codec, payload)
            cell = self._cell_of(target)
            if cell is None:
                raise ServiceStopped(f"actor {target}", None, "has ended for good")
            if call == "room":
                self._room(request, target, cell, context)
                return
            if call in _CONTROL:
                context.copy().run(
                    self._nursery.start_soon, self._control, request, ref_to(cell), call, args
                )
                return
            result: outcome.Outcome[Any] = outcome.Value(self._do(cell, call, args))
        except Exception as error:
            result = outcome.Error(error)
        self.answer(request, result)

    def _do(self, cell: Cell, call: str, args: tuple[Any, ...]) -> Any:
        match call:
            case "record":
                record = cell.record
                return (record.state, record.incarnation, record.final, self._told(record.reason))
            case "find":
                return self._life.find(*args)
            case "monitor":
                return self._life.monitor(ref_to(cell))
            case "children":
                return ref_to(cell).children()
            case "room_nowait":
                mailbox = cell.mailbox
                assert mailbox is not None
                if mailbox.gate is not None:
                    self._beside.run(mailbox.gate.admit, mailbox)
                if mailbox.full and not mailbox.drops:
                    raise MailboxFull(cell.path, mailbox.capacity)
                return self._grant(cell.number, cell)
            case _:
                raise RuntimeError(f"no such call: {call!r}")

    def _told(self, reason: ExitReason | None) -> ExitReason | None:
        """A reason that can be brought over: a look at an actor never fails (I2)."""
        if isinstance(reason, Completed) and reason.value is not None:
            try:
                self._codec.encode(reason, "its end")
            except TypeError as error:
                return Completed(RemoteError(type(reason.value).__qualname__, str(error)))
        return reason

    def _grant(self, target: int, cell: Cell) -> int:
        lane = self._lanes.get(target)
        if lane is None:
            lane = self._lanes[target] = Lane(cell)
        more = max(1, lane.most - lane.credit)
        lane.credit += more
        return more

    def _room(self, request: int, target: int, cell: Cell, context: Context) -> None:
        """Give credit, now or when there is room."""
        mailbox = cell.mailbox
        assert mailbox is not None
        if mailbox.gate is not None:
            self._beside.run(mailbox.gate.admit, mailbox)
        if not mailbox.full or mailbox.drops:
            self.answer(request, outcome.Value(self._grant(target, cell)))
            return
        wait = context.run(begin_wait, cell, "answer", ROOM)

        async def wait_for_room() -> None:
            try:
                await mailbox.await_room(wait)
            finally:
                if wait is not None:
                    wait.end()
            self.answer(request, outcome.Value(self._grant(target, cell)))

        context.copy().run(self._nursery.start_soon, self._carry, request, wait_for_room)

    async def _control(self, request: int, ref: Any, call: str, args: tuple[Any, ...]) -> None:
        async def carry_out() -> None:
            match call:
                case "stop" | "remove":
                    drain, grace = args
                    value: Any = await getattr(ref, call)(drain=drain, grace=grace)
                case "start_child":
                    value = await ref.start(*args)
                case _:
                    value = await getattr(ref, call)()
            self.answer(request, outcome.Value(value))

        await self._carry(request, carry_out)

    @trio.lowlevel.enable_ki_protection
    async def _carry(self, request: int, function: Callable[[], Any]) -> None:
        """Carry out something that may take its time; its end is told in any case."""
        with trio.CancelScope() as scope:
            self._calls[request] = scope
            try:
                await function()
            except Exception as error:
                self.answer(request, outcome.Error(error))
        del self._calls[request]
        if scope.cancelled_caught:
            gone = ServiceStopped(self._cell.path, None, "asked for something, and took it back")
            self.answer(request, outcome.Error(gone))


def _contexts(cell: Cell) -> tuple[Context, Context]:
    """Contexts for what a service asks for: from a handler, and from beside it."""
    inside, beside = copy_context(), copy_context()
    inside.run(sender.set, cell)
    inside.run(handling.set, cell)
    beside.run(sender.set, cell)
    beside.run(handling.set, None)
    return inside, beside


def _envelope(cell: Cell, payload: _memory.Payload, reply: Reply | None, codec: Codec) -> Envelope:
    """A message that came, for its target: decoded, unless that is in another process too."""
    if isinstance(cell.mailbox, LinkedMailbox):
        kind: Any = cell.declaration.kind  # type: ignore[union-attr]
        name = "message"
        if not (kind.has_receive or kind.has_run):
            name = _memory.decode(codec, payload)[0]
        envelope: Envelope = Forwarded(name, (), {}, reply)
        envelope.wire = payload
        return envelope
    name, args, *kwargs = _memory.decode(codec, payload)
    envelope = Envelope(name, args, kwargs[0] if kwargs else {}, reply)
    if cell.actor is not None:
        envelope.wire = payload  # a pool may hand it on to a member in another process
    return envelope


def _text_of(error: BaseException) -> str:
    return "" if error.__traceback__ is None else traceback_text(error)
