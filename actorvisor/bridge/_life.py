"""One incarnation in a worker process, as its executor sees it."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, Final

import outcome
import trio

from .._core._messages import Completed, Crashed, ExitReason, Killed, Stopped, TimedOut
from .._errors import ConnectionLost, RemoteError, RemoteTraceback
from .._runtime._crossing import crossing
from .._runtime._guard import UNGUARDED
from .._runtime._incarnation import crashed, is_passing
from .._runtime._inside import Bench
from .._runtime._logging import logger, traceback_text
from .._runtime._waits import handling, sender
from ..abc import Life
from . import _ledger as ledger, _memory
from ._job import Job
from ._mailbox import Forwarded, LinkedMailbox
from ._requests import Requests
from ._wire import _frames as f
from ._wire._codec import Codec, Draft, check_reach, show_cause
from ._worker import LEAVING

if TYPE_CHECKING:
    from .._core._spec import Verdict
    from .._runtime._envelope import Envelope, Reply
    from .._runtime._incarnation import Incarnation
    from .._runtime._timers import Timer
    from ._link import Link
    from ._place import ProcessPlace
    from ._worker import Worker

PARTING: Final = 0.1
"""Seconds that a process may live on when its connection is closed, before it is killed."""

MARGIN: Final = 0.25
"""Seconds that a worker's own loop has to end what is late, before its process is killed."""

_PHASES: Final = {ledger.SETUP: "setup", ledger.WORK: "handler", ledger.TEARDOWN: "teardown"}


class ProcessLife(Bench, Life):
    """One incarnation: a task on the host's loop that holds its worker, and hears what that says.

    Attributes:
        codec: for all that goes to its process.
    """

    def __init__(self, incarnation: Incarnation, place: ProcessPlace) -> None:
        super().__init__(incarnation, place.timers)
        assert isinstance(incarnation.mailbox, LinkedMailbox)
        self._place = place
        self._linked: LinkedMailbox = incarnation.mailbox
        self.codec: Codec = incarnation.mailbox.codec
        self._worker: Worker | None = None
        self._link: Link | None = None
        self._told = False
        self._final = False
        self._forced = False
        # When the process is killed, by trio's clock, and the wait that this ends.
        self._deadline = math.inf
        self._wait = trio.CancelScope()
        # Why it was killed by us; the reason it gave when it began to end, and at its end.
        self._why: ExitReason | None = None
        self._reason: ExitReason | None = None
        self._last: ExitReason | None = None
        self._verdict: Verdict | None = None
        self._requests: Requests
        self._replies: dict[int, Reply | None] = {}
        self._clocks: dict[int, Timer] = {}
        # What the link said was wrong while nobody waited.
        self._lost: str | None = None

    # --- from the executor ----------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    def stop_life(self, final: bool, grace: float) -> None:
        """See `Life.stop_life`."""
        self._told = True
        self._final |= final
        self._forced |= grace == 0
        link = self._link
        if self._forced or link is None or self._worker is None:
            self._kill(Stopped())
            return
        words = link.words
        words[ledger.GRACE] = (
            ledger.FOREVER if math.isinf(grace) else min(int(grace * 1e6), 1 << 62)
        )
        words[ledger.STOPPING] = 2 if self._final else 1
        link.send(f.STOP, 0)
        self._limit(trio.current_time() + grace + self._margin)

    @property
    def _margin(self) -> float:
        return MARGIN if self._incarnation.application.executor.has_loop else 0.0

    def _limit(self, deadline: float) -> None:
        """Kill it then, if not before."""
        self._deadline = self._wait.deadline = min(self._deadline, deadline)

    def _kill(self, why: ExitReason) -> None:
        if self._why is None:
            self._why = why
        self._deadline = math.inf
        if self._worker is not None:
            self._worker.kill()
        self._wait.cancel()

    def lost(self, reason: ExitReason) -> None:
        """See `Life.lost`."""
        if self._worker is not None:
            self._worker.kill()
        back = self._linked.detach()
        if back:
            self._linked.give_back(back)
        self._break_promises(reason)

    # --- the life -------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """See `Life.run`."""
        incarnation = self._incarnation
        sender.set(incarnation.cell)
        handling.set(incarnation.cell)
        try:
            if not self._told:
                await self._carry_out()
        except BaseException as error:  # noqa: ASYNC103
            if is_passing(error):
                if self._worker is not None:
                    self._worker.kill()
                raise
            self._kill(crashed(error))
        if self._worker is not None:
            await self._until(self._worker.gone)  # else it would live on, and count
        if self._reason is None:
            self._settle(self._judge())
        reason = self._final_reason()
        self._break_promises(reason)
        incarnation.exited(reason, self._verdict)
        link, self._link = self._link, None
        if link is not None:
            link.release()

    async def _carry_out(self) -> None:
        incarnation, app = self._incarnation, self._incarnation.application
        self._deadline = trio.current_time() + app.start_timeout + self._margin
        what = f"{incarnation.path} cannot start in a process"
        check_reach(app.target, what)
        if app.executor is not self._place.executor:  # that may be one around this one's
            app = app.under(self._place.executor)
        application = self.codec.encode_whole(app, what)
        worker = self._worker = self._place.take(incarnation)
        await self._until(worker.ready)
        link = worker.link
        if link is None or not link.pid or self._why is not None:
            worker.kill()
            await worker.gone.wait()
            return
        self._link = link
        link.incarnation = incarnation.number
        async with trio.open_nursery() as nursery:
            self._requests = Requests(self, link, nursery)
            link.listener = self
            identity, number = incarnation.cell.commons.name_of(incarnation.cell)
            face = incarnation.cell.face
            _, face_number = incarnation.cell.commons.name_of(face)
            hang = self._place.executor.hang_timeout
            job = Job(
                application,
                incarnation.path,
                number,
                face_number,
                face.path,
                incarnation.number,
                identity,
                None if hang is None else hang / 4,
                logging.getLogger().getEffectiveLevel(),
            )
            await self._hand_over(job, link)
            if hang is not None:
                nursery.start_soon(self._watch, link, hang)
            if link.broken is not None:
                self._lose(link.broken)
            await self._until(worker.gone)
            nursery.cancel_scope.cancel()

    async def _hand_over(self, job: Job, link: Link) -> None:
        """Send the job, and what waits for the service: a large job is copied off the loop."""
        link.end.job()
        payload: bytes | Draft | _memory.Bulk = self.codec.encode(tuple(job), "a job")
        if isinstance(payload, Draft):
            try:
                payload = await crossing.get().off_loop(_memory.copy, payload)
            except (OSError, MemoryError) as error:
                self._kill(crashed(error))
                return
        link.send(f.JOB, 0, payload, more=True)
        self._linked.attach(link)
        link.flush()

    async def _until(self, event: trio.Event) -> None:
        """Wait for something of the worker; when its time is up, kill it, and wait on."""
        while not event.is_set():
            with trio.CancelScope(deadline=self._deadline) as self._wait:
                await event.wait()
            if not event.is_set() and self._deadline <= trio.current_time():
                self._kill(self._overdue())
            if self._why is not None and self._worker is not None:
                event = self._worker.gone
                self._worker.kill()

    def _overdue(self) -> ExitReason:
        if self._lost is not None:
            return crashed(ConnectionLost(self._incarnation.path, self._lost))
        phase = "setup" if self._link is None else _PHASES[self._link.words[ledger.PHASE]]
        if phase == "setup" and self._told:
            return Stopped()
        return TimedOut(phase)

    async def _watch(self, link: Link, limit: float) -> None:
        """Kill it when it gives no sign of life for too long while it is busy (P2)."""
        words = link.words
        signs, since = (-1, -1), trio.current_time()
        while True:
            await trio.sleep(limit / 4)
            now = trio.current_time()
            # A loop that handles many messages at a stretch is well, too.
            seen = words[ledger.BEATS], words[ledger.TAKEN]
            if seen != signs or not words[ledger.BUSY]:
                signs, since = seen, now
            elif now - since >= limit:
                self._kill(TimedOut("hang"))
                return

    # --- what the worker says -------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    def hear(self, kind: int, number: int, payload: Any) -> None:
        """A frame came; what is wrong with it ends the worker, and never the host."""
        try:
            self._hear(kind, number, payload)
        except Exception as error:
            logger.error(
                "%s: what its process sent could not be used\n%s",
                self._incarnation.path,
                traceback_text(error),
                extra={"path": self._incarnation.path, "incarnation": self._incarnation.number},
            )
            self._lose(f"{type(error).__name__}: {error}")

    def _hear(self, kind: int, number: int, payload: Any) -> None:
        assert self._link is not None
        match kind:
            case f.SEND:
                self._requests.sent(number, payload)
            case f.REPLY | f.REJECTION | f.FAILURE:
                self._answered(kind, number, payload)
            case f.ACK:
                self._linked.observe()
            case f.REQUEST:
                self._requests.asked(number, payload)
            case f.CALL:
                self._requests.called(number, payload)
            case f.WITHDRAW:
                self._requests.withdrawn(number)
            case f.LATER:
                self._replies[number] = self._linked.later(self._link.end.promised[number])
            case f.UP:
                if not self._told:  # else its time runs already
                    self._deadline = self._wait.deadline = math.inf
                self._incarnation.started()
            case f.TIMER:
                self._set_clock(number, payload)
            case f.CANCEL:
                self._cancel_clock(number)
            case f.LOG:
                self._log(payload)
            case f.ECHO:
                self._link.send(f.WAKE, number)
            case f.ENDING:
                reason, _ = self._decode_end(payload)
                self._settle(self._caused(reason))
            case f.EXIT:
                reason, self._verdict = self._decode_end(payload)
                if isinstance(reason, Crashed) and isinstance(self._reason, Crashed):
                    reason = self._reason  # it is one exception, that was brought over twice
                self._last = self._caused(reason)
                self._limit(trio.current_time() + LEAVING)
            case _:
                self._lose(payload)

    def _lose(self, what: str) -> None:
        """The connection is of no use any more; what has ended has a right to close it."""
        if self._last is None and self._lost is None:
            self._lost = what
            if self._link is not None and self._link.end.broken is not None:
                self._kill(crashed(ConnectionLost(self._incarnation.path, what)))
            else:
                # Its process may be about to end, which tells more.
                self._limit(trio.current_time() + PARTING)

    def _answered(self, kind: int, number: int, payload: Any) -> None:
        assert self._link is not None
        end = self._link.end
        try:
            if kind == f.REPLY:
                result: outcome.Outcome[Any] = outcome.Value(_memory.decode(self.codec, payload))
            else:
                result = outcome.Error(self.codec.decode_error(payload))
        except Exception as error:
            text = f"the reply of {self._incarnation.path} could not be decoded: {error}"
            result = outcome.Error(
                RemoteError(type(error).__qualname__, text, traceback_text(error))
            )
        if number in end.asks:
            envelope: Envelope = end.asks.pop(number)
            self._linked.observe(number)
            self._linked.answer(envelope, result)
        else:
            del end.promised[number]
            self._linked.kept(self._replies.pop(number), result)

    def _decode_end(self, payload: Any) -> tuple[ExitReason, Verdict | None]:
        try:
            end: tuple[ExitReason, Verdict | None] = _memory.decode(self.codec, payload)
        except Exception as error:
            # Only a value can be at fault: what crashed is brought over in any case (P4).
            text = f"what {self._incarnation.path} ended with could not be decoded: {error}"
            value = RemoteError(type(error).__qualname__, text, traceback_text(error))
            return Completed(value), None
        return end

    def _log(self, payload: Any) -> None:
        fields = _memory.decode(self.codec, payload)
        record = logging.makeLogRecord(fields)
        target = logging.getLogger(record.name)
        if target.isEnabledFor(record.levelno):
            target.handle(record)

    def _set_clock(self, number: int, payload: Any) -> None:
        delay, period, name, call = _memory.decode(self.codec, payload)
        life = self._incarnation.number

        def make() -> Envelope:
            if period is None:
                self._clocks.pop(number, None)
            envelope = Forwarded(name, (), {}, exempt=True, timer=life)
            envelope.wire = call
            return envelope

        self._clocks[number] = self.set_timer(delay, period, make)

    def _cancel_clock(self, number: int) -> None:
        assert self._link is not None
        timer = self._clocks.pop(number, None)
        if timer is not None:
            timer.cancel()
            # Nothing of it is on its way, so that the worker need not look out for it.
            self._link.send(f.WAKE, number)

    # --- the end --------------------------------------------------------------------------

    def _caused(self, reason: ExitReason) -> ExitReason:
        """A crash shows the worker's traceback as its cause (P2)."""
        if isinstance(reason, Crashed) and not isinstance(reason.exception, RemoteError):
            show_cause(reason.exception, RemoteTraceback(reason.traceback_text))
        return reason

    def _judge(self) -> ExitReason:
        """It did not say why it ended."""
        if self._why is not None:
            return self._why
        worker = self._worker
        if worker is None:
            return Stopped()
        if worker.failure is not None:
            return crashed(worker.failure)
        if self._told and self._forced:
            return Stopped()
        if worker.status == UNGUARDED and self._link is None:
            return crashed(
                RuntimeError(
                    "a worker process imports the main program, and that began to open a host "
                    'there: put what it does under `if __name__ == "__main__":`'
                )
            )
        link = worker.link
        if link is not None and link.end.broken is not None:
            return crashed(ConnectionLost(self._incarnation.path, str(link.end.broken)))
        return Killed(worker.status)

    def _final_reason(self) -> ExitReason:
        """How it ended, after all that came after the reason to end."""
        assert self._reason is not None
        if self._last is not None:
            return self._last
        if isinstance(self._reason, Completed | Stopped) and self._link is not None:
            # It did not come to the end of its teardown.
            late = self._judge()
            return self._reason if isinstance(late, Stopped) else late
        return self._reason

    def _settle(self, reason: ExitReason) -> None:
        """The reason is known: account for what it had, by what is stored (P3)."""
        back = self._linked.detach()
        self._reason = reason
        self._incarnation.account_for(back, reason, self._final)
        if self._link is not None:
            # Handled, and its reply was lost with a connection that is of no use any more.
            for envelope in self._link.end.unanswered():
                self._linked.fail(envelope, self.broken_promise(reason, self._final))
        self._incarnation.ending(reason)
        if not isinstance(reason, Stopped):
            # A stop's time runs already; an own end has the declared grace to tear down.
            grace = self._incarnation.application.grace
            self._limit(trio.current_time() + grace + self._margin)

    def _break_promises(self, reason: ExitReason) -> None:
        if self._link is not None:
            self._requests.close()
        for reply in self._replies.values():
            self._linked.kept(reply, outcome.Error(self.broken_promise(reason, self._final)))
        self._replies.clear()
        self.close(lambda: self.broken_promise(reason, self._final))
