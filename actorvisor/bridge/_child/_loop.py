"""A worker with a loop of its own: a service as coroutines in `trio.run`."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final

import trio

from ..._runtime._blocking import Blocking, block_on
from ..._runtime._coroutine import CoroutineLife
from ..._runtime._crossing import THREADS, Crossing
from ..._runtime._envelope import Reply
from ..._runtime._inside import check_monitor, checked_timer, refuse_promise
from .. import _ledger as ledger
from .._wire import _frames as f
from ._mail import Mail, Taken
from ._port import HIGH, leave
from ._station import (
    IDLE,
    LogHandler,
    RemotePromise,
    RemoteTimer,
    Station,
    WorkerIncarnation,
    job_in,
)

if TYPE_CHECKING:
    from ..._core._messages import ExitReason
    from ..._runtime._declaration import Application
    from ..._runtime._ref import Ref, SupervisorRef
    from .._job import Job
    from .._wire._codec import Draft
    from .._wire._frames import Frame
    from ._port import Port
    from ._refs import RemoteCell


class LoopMail(Mail):
    """The mail, as a `CoroutineLife` reads a mailbox.

    Attributes:
        gate: none: the host's end has it.
        feeder: none: neither.
        batch: messages that are taken in a row: little else runs in this process.
    """

    gate: None = None
    feeder: None = None
    batch: Final = 64

    def __init__(self, station: LoopStation) -> None:
        super().__init__(station.port, station.job.path, station.kick)
        self._station = station
        self._parked: trio.lowlevel.Task | None = None
        self._woken = False

    @property
    def reads(self) -> int:
        """How often a `run` has read."""
        count: int = self._words[ledger.READS]
        return count

    @reads.setter
    def reads(self, count: int) -> None:
        self._words[ledger.READS] = count

    def take_nowait(self, _: int) -> Taken | None:
        """Take the next message up, unless the service is told to stop."""
        if self._words[ledger.STOPPING] and self._station.look():
            return None
        return self.take_up()

    async def find(self) -> None:
        """Wait until something is there; a checkpoint."""
        self.acknowledge()
        self._station.flush()
        if self._woken or self.waiting:
            self._woken = False
            await trio.lowlevel.checkpoint()
            return
        self._parked = trio.lowlevel.current_task()

        def abort(_: object) -> trio.lowlevel.Abort:
            self._parked = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
        self._woken = False

    def found(self, _: None, incarnation: int) -> Taken | None:
        """Take up what came, unless the service has told itself to stop, or crashed, meanwhile."""
        life = self._station.life
        if not self.waiting or (life is not None and life.stopping):
            return None
        return self.take_nowait(incarnation)

    async def take(self, incarnation: int) -> Taken | None:
        """Wait for the next message; a checkpoint when it waits."""
        if not self.waiting:
            await self.find()
        return self.found(None, incarnation)

    def wake(self) -> None:
        """Make a reader that waits look up."""
        self._woken = True
        if self._parked is not None:
            trio.lowlevel.reschedule(self._parked)
            self._parked = None

    def replied(self) -> None:
        """A reply was framed: it is sent when the next message is looked for, if that is now."""
        if self.waiting:
            self._kick()

    def arrived(self) -> None:
        """Something came in: wake the reader, if it waits."""
        if self._parked is not None and self.waiting:
            trio.lowlevel.reschedule(self._parked)
            self._parked = None


class LoopStation(Station):
    """The hub of a worker with a loop."""

    def __init__(self, port: Port, job: Job) -> None:
        super().__init__(port, job)
        self.thread = get_ident()
        self.token: trio.lowlevel.TrioToken
        self.nursery: trio.Nursery | None = None
        self.crossing: Crossing = THREADS
        self.mail: LoopMail = LoopMail(self)  # pyright: ignore[reportIncompatibleVariableOverride]
        self.life: LoopLife | None = None
        self._flusher: trio.lowlevel.Task | None = None
        self._stalled = False

    # --- frames ---------------------------------------------------------------------------

    def frame(
        self, kind: int, number: int, payload: bytes | Draft = b"", urgent: bool = False
    ) -> None:
        """See `Station.frame`."""
        idle = urgent and not self.port.pending
        self.port.frame(kind, number, payload)
        if idle or self.port.pending > HIGH:
            self.flush()
        else:
            self.kick()

    def kick(self) -> None:
        """What is framed is sent at the next turn of the loop."""
        if self._flusher is not None:
            trio.lowlevel.reschedule(self._flusher)
            self._flusher = None

    def flush(self) -> None:
        """Send what the socket takes; the rest when it takes more."""
        # After a full socket, only the one task that waits for it tries again.
        if not self._stalled and not self.port.flush():
            self._stalled = True
            self.kick()

    async def _flush(self) -> None:
        while True:
            self._stalled = not self.port.flush()
            if self._stalled:
                await trio.lowlevel.wait_writable(self.port.sock)
            else:
                self._flusher = trio.lowlevel.current_task()

                def abort(_: object) -> trio.lowlevel.Abort:
                    self._flusher = None
                    return trio.lowlevel.Abort.SUCCEEDED

                await trio.lowlevel.wait_task_rescheduled(abort)

    async def _receive(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self.port.sock)
            self.dispatch(_received(self.port))
            self.mail.arrived()

    def stop_seen(self, final: bool, grace: float) -> None:
        """See `Station.stop_seen`."""
        if self.life is not None:  # else it looks when it begins
            self.life.stop_life(final, grace)

    # --- calls ----------------------------------------------------------------------------

    def sync_call(self, call: str, cell: RemoteCell, *args: Any) -> Any:
        """See `Station.sync_call`."""
        if get_ident() != self.thread:
            return trio.from_thread.run_sync(
                self.sync_call, call, cell, *args, trio_token=self.token
            )
        reply = Reply()
        self.request(call, cell, args, reply)
        self.port.flush_all()
        while reply.result is None:
            self.dispatch(self.port.receive(block=True))
        self.mail.arrived()
        return reply.result.unwrap()

    async def call(self, call: str, cell: RemoteCell, *args: Any) -> Any:
        """See `Station.call`."""
        reply = Reply()
        number = self.request(call, cell, args, reply)
        return await reply.answered(lambda: self.frame(f.WITHDRAW, number, b"", True))

    def blocking(
        self, ref: Blocking[Any], call: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """See `Station.blocking`."""
        return block_on(self, ref, call, args, kwargs)

    # --- its life -------------------------------------------------------------------------

    async def carry_out(self, application: Application[Any]) -> None:
        """Carry an incarnation out."""
        logging.getLogger().handlers[:] = [LogHandler(self, self._log)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._flush)
            await self._live(application, nursery)

    async def _live(self, application: Application[Any], nursery: trio.Nursery) -> None:
        """Carry an incarnation out; what serves it meanwhile runs in the nursery."""
        self.token = trio.lowlevel.current_trio_token()
        self.port.ledger.words[ledger.BUSY] = 1  # its loop has to turn, whatever it does
        nursery.start_soon(self._receive)
        if self.job.beat is not None:
            nursery.start_soon(self._beat, self.job.beat)
        async with trio.open_nursery() as calls:
            self.nursery = calls
            incarnation = WorkerIncarnation(self, application, self.mail)
            self.life = LoopLife(incarnation, calls, self)
            self.look()
            await self.life.run()
            calls.cancel_scope.cancel()
        nursery.cancel_scope.cancel()

    async def _beat(self, period: float) -> None:
        words = self.port.ledger.words
        while True:
            words[ledger.BEATS] += 1
            await trio.sleep(period)

    def _log(self, payload: bytes) -> None:
        if get_ident() == self.thread:
            self.frame(f.LOG, 0, payload)
        else:
            self.token.run_sync_soon(self.frame, f.LOG, 0, payload)


def serve(port: Port, stand_by: Callable[[], None]) -> None:
    """Wait for a job, and carry it out: in one loop, whose own start is then behind it.

    Args:
        port: the connection.
        stand_by: called, outside of that loop, if no job comes for a while.
    """
    try:
        if not trio.run(_serve, port, IDLE):
            stand_by()
            trio.run(_serve, port, math.inf)
    except* EOFError:
        leave()


def _received(port: Port) -> list[Frame]:
    """What came; nothing if somebody else has taken it in.

    Raises:
        EOFError: the connection is of no use any more.
    """
    try:
        return port.receive(block=False)
    except BlockingIOError:
        return []
    except OSError as error:
        raise EOFError(str(error)) from error


async def _serve(port: Port, patience: float) -> bool:
    frames: list[Frame] = []
    with trio.move_on_after(patience):
        while not frames:
            await trio.lowlevel.wait_readable(port.sock)
            frames = _received(port)
    if not frames:
        return False
    station = LoopStation(port, job_in(port, frames[0]))
    application = station.open()
    if application is not None:
        station.dispatch(frames[1:])
        await station.carry_out(application)
    return True


class LoopLife(CoroutineLife):
    """One incarnation in a worker's loop: what it does beside its mail goes by the connection."""

    __slots__ = ("_station",)

    def __init__(
        self, incarnation: WorkerIncarnation, nursery: trio.Nursery, station: LoopStation
    ) -> None:
        super().__init__(incarnation, nursery, None)  # type: ignore[arg-type]
        self._station = station

    @property
    def ref(self) -> Ref[Any]:
        """The service's own."""
        return self._station.face

    def find(self, path: str, kind: type[Any]) -> Ref[Any] | SupervisorRef:
        """See `Service.find`."""
        self.check_life()
        found: Ref[Any] = self._station.sync_call("find", self._station.own, path, kind)
        return found

    def after(  # type: ignore[override]
        self, delay: float, period: float | None, method: Any, args: Any, kwargs: Any
    ) -> RemoteTimer:
        """See `Service.after` and `Service.every`."""
        self.check_life()
        kind = self._incarnation.application.kind
        name = checked_timer(self, kind, delay, period, method, args, kwargs)
        return self._station.timer(delay, period, name, args, kwargs)

    def monitor(self, ref: Any) -> None:
        """See `Service.monitor`."""
        self.check_life()
        check_monitor(self._incarnation.application.kind, ref)
        self._station.sync_call("monitor", ref._cell)

    def reply_later(self) -> RemotePromise:  # type: ignore[override]
        """See `Service.reply_later`."""
        self.check_life()
        taken: Taken | None = self._station.mail.in_hand
        if taken is None or not taken.asked:
            refuse_promise()
        taken.asked = False
        return self._station.promise(taken.number)

    def heartbeat(self) -> None:
        """Its loop turns: that is its sign of life."""

    def close(self, error: Callable[[], BaseException]) -> None:
        """The host's end drops its timers and breaks its promises."""

    def lost(self, reason: ExitReason) -> None:
        """Nothing is left to do: the process ends."""
