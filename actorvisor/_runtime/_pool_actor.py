"""A pool's actor: a supervisor of equal members that deals them its mail (W1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import outcome
import trio

from .._core import _commands as c
from .._core._dispatch import Rolling
from .._core._lifecycle import Notice
from .._core._messages import Crashed, ExitReason, Stopped
from .._core._supervision import SUPERVISOR_STOPPING, Supervision
from .._errors import ControlRefused, RestartLimitExceeded
from ._pool_mail import AT_WORK, Member, PoolMailbox
from ._requests import Call, Rolled, RollRequest, StopRequest
from ._supervisor import SupervisorActor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._core._spec import Verdict
    from ._cell import Cell
    from ._inbox import Inbox
    from ._pool import Pool

ENDING = "it ended before all of its members were restarted"


class Turn(Call):
    """The restart of one member, as a part of a rolling one: the pool itself waits for it."""

    __slots__ = ("_pool",)

    def __init__(self, path: str, cell: Cell | None, pool: PoolActor) -> None:
        super().__init__(path, cell)
        self._pool = pool

    def answer(self, result: outcome.Outcome[Any]) -> bool:
        """Tell the pool."""
        self._pool.rolled(result)
        return True


class PoolActor(SupervisorActor):
    """One pool, over all its lives.

    Attributes:
        mail: its mailbox, that of its cell.
    """

    def __init__(self, cell: Cell, pool: Pool[Any]) -> None:
        super().__init__(cell, pool.rules, (), "pool")
        self.supervision = Supervision(pool.rules, cell.path, pool.members)
        self._declared = {spec.name: pool.app for spec in pool.members}
        self._rolling = Rolling(tuple(self._declared))
        self._pool = pool
        self.mail = cell.mailbox = PoolMailbox(self, pool)

    @trio.lowlevel.enable_ki_protection
    async def live(self, parent: Inbox[Any] | None = None, number: int = 1) -> ExitReason:
        """See `SupervisorActor.live`."""
        try:
            return await super().live(parent, number)
        finally:
            self.mail.open()
            self._answer_all(self._rolling.call_off(), ControlRefused(self.cell.path, ENDING))

    def _verdict(self, reason: ExitReason) -> Verdict | None:
        """What its members' options say of its own end, if it ended as the last of them did."""
        verdict = super()._verdict(reason)
        if verdict is None and isinstance(reason, Stopped):
            return "stop"  # each was stopped by request; if it was asked for itself, nobody looks
        if verdict is None and isinstance(reason, Crashed):
            limit = isinstance(reason.exception, RestartLimitExceeded)
            if not limit and self._pool.app.verdict(reason.exception) == "stop":
                return "stop"
        return verdict

    def _hear(self, message: Any) -> bool:
        match message:
            case RollRequest(call):
                self._rolling.ask(call)
                self._roll_on()
            case Rolled():
                self._roll_on()
            case _:
                return super()._hear(message)
        return self.finished is not None

    def _answer_while_down(self, message: Any) -> None:
        if isinstance(message, RollRequest):
            self.roll(message.call)
        else:
            super()._answer_while_down(message)

    def _perform(self, command: c.Command) -> None:
        if isinstance(command, c.Adopt):
            super()._perform(command)
            cell = self.cells[command.name]
            assert cell.mailbox is not None
            number = int(command.name)
            member = self.mail.members[number] = Member(cell, number, self.mail)
            cell.mailbox.feed(member)
            return
        if isinstance(command, c.StartLife):
            self.mail.open(int(command.name))
            self._member(command.name).begin()
        super()._perform(command)
        if isinstance(command, c.Announce):
            if command.notice is Notice.STARTED:
                self._member(command.name).up()
            elif command.notice is not Notice.STARTING:
                self._member(command.name).leaving()

    def _member(self, name: str) -> Member:
        return self.mail.members[int(name)]

    def _settle(self, cell: Cell, reason: ExitReason) -> None:
        super()._settle(cell, reason)
        if self.supervision.phase in AT_WORK:
            self.mail.shut(int(cell.name))

    def _stop(self, request: StopRequest) -> None:
        if request.remove and self._knows(request.cell):
            why = f"a member cannot be removed from {self.cell.path}; stop it"
            request.call.answer(outcome.Error(ControlRefused(request.cell.path, why)))
            return
        if self._knows(request.cell):
            # While it drains nothing new is given to it: the others are there for that.
            self._member(request.cell.name).leaving()
        super()._stop(request)

    # --- a rolling restart ----------------------------------------------------------------

    def roll(self, call: Call) -> None:
        """Restart its members one by one; answered when all are up."""
        if self._alive:
            self.inbox.put(RollRequest(call))
        else:
            call.answer(outcome.Error(ControlRefused(self.cell.path, self._why_down())))

    def takers(self) -> Iterator[Cell]:
        """The members that its mail waits for: with a key, those for whom something waits."""
        dispatch = self.mail.dispatch
        for cell in self.cells.values():
            down = cell.record.final and not cell.record.pending
            if not down and (not dispatch.keyed or dispatch.has_mail(int(cell.name))):
                yield cell

    def _roll_on(self) -> None:
        name = self._rolling.next()
        if name is not None:
            turn = Turn(self.cell.child_path(name), self.cells.get(name), self)
            self._decide(c.Restart(name, turn))

    def rolled(self, result: outcome.Outcome[Any]) -> None:
        """The restart of one member is over."""
        error = result.error if isinstance(result, outcome.Error) else None
        if isinstance(error, ControlRefused) and error.why == SUPERVISOR_STOPPING:
            calls = self._rolling.call_off()
            error = ControlRefused(self.cell.path, SUPERVISOR_STOPPING)
        elif error is None or isinstance(error, ControlRefused):
            # Refused: it is being stopped by request, or is no more; the others go on.
            calls = self._rolling.went_on()
            error = None
        else:
            calls = self._rolling.failed()
        # At once: with that member the pool itself may have come to its end.
        self._answer_all(calls, error)
        self.inbox.put(Rolled())

    def _answer_all(self, calls: list[object], error: BaseException | None) -> None:
        for call in calls:
            assert isinstance(call, Call)
            call.answer(outcome.Value(self.cell) if error is None else outcome.Error(error))
