"""The supervisor's actor: feeds the decisions, and does as they say."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from threading import get_ident
from typing import TYPE_CHECKING, Any, Literal, assert_never

import outcome
import trio

from .._core import _commands as c
from .._core._describe import describe
from .._core._ids import free_name
from .._core._lifecycle import Notice, State
from .._core._messages import ExitReason, Stopped
from .._core._supervision import SUPERVISOR_STOPPING, Phase, Supervision
from .._errors import ControlRefused
from ._cell import Cell, Ended
from ._declaration import Application, Supervisor, check_declaration
from ._drain import Drain
from ._executor import ExecutorActor
from ._inbox import Inbox
from ._incarnation import crashed, interrupt_in, is_passing
from ._logging import log_bug, traceback_text
from ._mailbox import Mailbox
from ._origin import root_error, start_error
from ._ref import ref_to
from ._requests import (
    Call,
    CancelRequest,
    Carry,
    Close,
    Control,
    Drained,
    DrainRequest,
    ExecutorGone,
    StartRequest,
    StopRequest,
)
from ._timers import Timer, Timers
from ._waits import ENDS, Edge, begin_wait

if TYPE_CHECKING:
    from .._core._spec import ChildSpec, SupervisorSpec, Verdict
    from ..abc import Executor
    from ._commons import Commons
    from ._pool import Declaration


class SupervisorActor:
    """One supervisor, over all its lives: its cells and decisions stay, its task comes and goes.

    Attributes:
        cell: its identity.
        cells: the identities of its children, oldest first.
        inbox: its mailbox.
        kind: ``supervisor``, ``host`` or ``pool``.
        supervision: its decisions.
        finished: how its last life ended, and whose end was the cause; None while it lives.
    """

    def __init__(
        self,
        cell: Cell,
        rules: SupervisorSpec,
        children: tuple[Declaration, ...],
        kind: Literal["supervisor", "host", "pool"] = "supervisor",
    ) -> None:
        self.cell = cell
        self.kind: Literal["supervisor", "host", "pool"] = kind
        self.cells: dict[str, Cell] = {}
        self.inbox: Inbox[Any] = Inbox(cell.commons.turns)
        self.supervision: Supervision = Supervision(
            rules, cell.path, [child.spec for child in children]
        )
        self.finished: c.Finished | None = None
        self.up: trio.Event | None = None
        self.idle: trio.Event | None = None
        self._commons: Commons = cell.commons
        self._declared: dict[str, Declaration] = {child.name: child for child in children}
        # What is being started that was not declared.
        self._new: StartRequest | None = None
        self._names: dict[str, int] = {}
        self._executors: dict[Executor, ExecutorActor] = {}
        self._timing: dict[str, Timer] = {}
        self._drains: set[trio.CancelScope] = set()
        self._alive = False
        self._failed = False
        # Whose end led to the end of the last life, if any did.
        self._cause: Cell | None = None
        # Of the present life: who is told of it, and which one it is.
        self._parent: Inbox[Any] | None = None
        self._number = 0
        self._nursery: trio.Nursery
        self._timers: Timers

    # --- called on the host's loop by refs ------------------------------------------------

    def request(self, cell: Cell, request: StopRequest | c.Event) -> None:
        """Put a control call into the mailbox; it is answered at once if nobody would read it."""
        message = request if isinstance(request, StopRequest) else Control(cell, request)  # type: ignore[arg-type]
        if not self._alive:
            self._answer_while_down(message)
        elif isinstance(request, c.CancelStart):
            self.inbox.put_aside(message)
        else:
            self.inbox.put(message)

    async def start(self, declaration: Declaration) -> Any:
        """Start a child that was not declared; its ref."""
        check_declaration(declaration)
        if get_ident() != self._commons.thread:
            raise RuntimeError(
                f"{self.cell.path} is asked to start {declaration!r} outside its host's loop; "
                "tell a service to start it"
            )
        self.supervision.spec.check_child(declaration.spec, self.cell.path)
        self._commons.find_executors((declaration,))
        await trio.lowlevel.checkpoint_if_cancelled()
        call = Call(self.cell.child_path(declaration.name))
        if not self._alive:
            raise ControlRefused(self.cell.path, self._why_down())
        call.wait = begin_wait(self.cell, "turn", "waits for a start under")
        self.inbox.put(StartRequest(declaration, call))
        cell: Cell = await call.answered(lambda: self.inbox.put_aside(CancelRequest(call)))
        return ref_to(cell)

    async def await_end(self, cell: Cell) -> ExitReason:
        """Wait until a child has ended for good."""
        call = Call(cell.path, cell)
        call.wait = begin_wait(cell, "end", ENDS)
        self.request(cell, c.AwaitEnd(cell.name, call))
        reason: ExitReason = await call.answered()
        return reason

    @property
    def culprit(self) -> Cell:
        """Whose end, at the bottom of all, led to the end of its last life; else its own cell."""
        cell = self.cell
        while cell.actor is not None and cell.actor._cause is not None:
            cell = cell.actor._cause
        return cell

    @property
    def declared(self) -> tuple[Declaration, ...]:
        """What it was declared to supervise."""
        return tuple(self._declared.values())

    def _why_down(self) -> str:
        if self.cell.record.state is State.BACKING_OFF:
            return "supervisor restarting"
        return "the host has ended" if self.kind == "host" else SUPERVISOR_STOPPING

    def _answer_while_down(self, message: Any) -> None:
        """Nobody reads the mailbox: say at once, in words, what can be said (S7)."""
        match message:
            case StartRequest(call=call):
                call.answer(outcome.Error(ControlRefused(self.cell.path, self._why_down())))
            case Drained(request=StopRequest() as request):
                self._answer_while_down(request)
            case (
                Control(cell=cell, event=c.AwaitEnd(token=Call() as call))
                | StopRequest(cell=cell, call=call)
            ):
                if cell.record.final or cell.forgotten:
                    call.answer(outcome.Value(cell.record.reason or Stopped()))
                else:
                    call.answer(outcome.Error(ControlRefused(cell.path, self._why_down())))
            case Control(
                cell=cell, event=c.Start(token=Call() as call) | c.Restart(token=Call() as call)
            ):
                if cell.forgotten:
                    call.answer(outcome.Error(cell.stopped_error()))
                else:
                    call.answer(outcome.Error(ControlRefused(cell.path, self._why_down())))
            case _:
                pass  # a report of a life that is over, a timer, a cancelled call: nobody waits

    def expect(self) -> None:
        """A life is about to begin: what is asked from now on is asked of that one."""
        self._alive = True

    # --- its life -------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def run(self, parent: Inbox[Any], number: int) -> None:
        """One life, as a child of another supervisor; its end is reported, never raised."""
        reason = await self.live(parent, number)
        parent.put(c.ChildExit(self.cell.name, number, reason, self._verdict(reason)))

    def _verdict(self, reason: ExitReason) -> Verdict | None:
        """What there is to say of its end before its restart type (S11)."""
        # What has failed by a bug knows no more what is below it, and cannot begin again.
        if self._failed or isinstance(root_error(reason), KeyboardInterrupt):
            return "escalate"
        return None

    @trio.lowlevel.enable_ki_protection
    async def live(self, parent: Inbox[Any] | None = None, number: int = 1) -> ExitReason:
        """From the start of the declaration until nothing is left below it; why it ended."""
        self.finished = self._cause = None
        self._parent, self._number = parent, number
        self._alive = True
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._timers = Timers(nursery)
                early = self.inbox.take_all()
                self.inbox.put(c.Begin())
                for message in early:
                    self.inbox.put(message)
                await self.inbox.serve(self._hear)
                self._close()
        except BaseException as error:  # noqa: ASYNC103
            if is_passing(error) or isinstance(error, GeneratorExit):
                raise
            cause: BaseException | None = interrupt_in(error)
            if cause is None:
                log_bug(self.cell.path, number, traceback_text(error))
                cause = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error
            self.finished = c.Finished(crashed(cause))
            self._call_off()
        finally:
            self._alive = False
            self._executors.clear()
            self._timing.clear()
            for message in self.inbox.take_all():
                self._answer_while_down(message)
        assert self.finished is not None
        return self.finished.reason

    def _call_off(self) -> None:
        """It has failed, by a bug: whoever waits for an answer of it waits no longer."""
        self._failed = True
        calls = [] if self._new is None else [self._new.call]
        self._new = None
        for child in self.supervision.children.values():
            calls += [call for call in (*child.starters, *child.stoppers) if isinstance(call, Call)]
            child.starters = child.stoppers = ()
        for call in calls:
            call.answer(outcome.Error(ControlRefused(call.path, "its supervisor has failed")))

    def _close(self) -> None:
        """Nothing lives below it any more: let the executors and the timers end."""
        for executor in self._executors.values():
            executor.inbox.put(Close())
        self._timers.close()
        for drain in self._drains:
            drain.cancel()

    def _hear(self, message: Any) -> bool:
        match message:
            case c.ChildExit(name):
                # It may be forgotten by that decision.
                cell = self.cells.get(name)
                self._decide(message)
                self._note_cause(cell)
            case (
                c.Begin()
                | c.ChildUp()
                | c.ChildEnding()
                | c.Due()
                | c.ShutDown()
                | c.RefuseStarts()
            ):
                self._decide(message)
            case Control(cell, event):
                if self._knows(cell):
                    self._decide(event)
                else:
                    self._answer_while_down(message)
            case StartRequest():
                self._start(message)
            case CancelRequest(call):
                if call.cell is not None and self._knows(call.cell):
                    self._decide(c.CancelStart(call.cell.name, call))
            case StopRequest():
                self._stop(message)
            case DrainRequest():
                self._decide(c.RefuseStarts())
                self._drain(message, self.cell, message.drain)
            case Drained(request):
                self._drained(request)
            case ExecutorGone():
                self._executor_gone(message)
            case _:
                log_bug(self.cell.path, self._number, f"an unknown message: {describe(message)}")
        return self.finished is not None

    def _knows(self, cell: Cell) -> bool:
        """Whether it is the identity that has that name now, and not one of the past."""
        return self.cells.get(cell.name) is cell

    def _note_cause(self, cell: Cell | None) -> None:
        """Remember whose end it was, if that was just decided to be the end of all."""
        if self._cause is None and self.supervision.phase in {Phase.ENDING, Phase.DOWN}:
            self._cause = cell

    def _decide(self, event: c.Event) -> None:
        now, draw = trio.current_time(), self._commons.random.random()
        was_ending = self.supervision.ending
        for command in self.supervision.decide(event, now, draw):
            self._perform(command)
        reason = self.supervision.ending
        if was_ending is None and reason is not None and self._parent is not None:
            # L1: a reason is recorded. While its children stop, it is no longer running.
            self._parent.put(c.ChildEnding(self.cell.name, self._number, reason))
        if self.idle is not None and not self.supervision.active:
            self.idle.set()

    # --- requests -------------------------------------------------------------------------

    def _start(self, request: StartRequest) -> None:
        declaration = request.declaration
        spec = declaration.spec
        if not declaration.named and spec.name in self.cells:
            name, hint = free_name(spec.name, self.cells, self._names.get(spec.name, 2))
            self._names[spec.name] = hint
            spec = _renamed(spec, name)
        self._new = request
        self._decide(c.StartNew(spec, request.call))
        self._new = None

    def _stop(self, request: StopRequest) -> None:
        cell = request.cell
        if not self._knows(cell):
            self._answer_while_down(request)
        elif request.drain > 0 and not cell.record.final and self._has_mail(cell):
            self._drain(request, cell, request.drain)
        else:
            self._drained(request)

    @staticmethod
    def _has_mail(cell: Cell) -> bool:
        return any(one.mailbox is not None for one in below(cell))

    def _drain(self, request: StopRequest | DrainRequest, root: Cell, seconds: float) -> None:
        drain = Drain(root)
        for cell in below(root):
            if cell.actor is not None and cell.actor is not self and cell.actor._alive:
                cell.actor.inbox.put(c.RefuseStarts())
        drain.close(below(root))
        if drain.idle.is_set():
            self.inbox.put(Drained(request))
        else:
            self._nursery.start_soon(self._await_drain, drain, request, seconds)

    async def _await_drain(
        self, drain: Drain, request: StopRequest | DrainRequest, seconds: float
    ) -> None:
        with trio.move_on_after(seconds) as scope:
            self._drains.add(scope)
            await drain.idle.wait()
        self._drains.discard(scope)
        self.inbox.put(Drained(request))

    def _drained(self, request: StopRequest | DrainRequest) -> None:
        if isinstance(request, DrainRequest):
            self._decide(c.ShutDown(True))
        elif self._knows(request.cell):
            event = c.Remove if request.remove else c.Stop
            self._decide(event(request.cell.name, request.call, request.grace))
        else:
            self._answer_while_down(request)

    def _executor_gone(self, message: ExecutorGone) -> None:
        names = list(message.names)
        actor = self._executors.pop(message.executor, None)
        if actor is not None:
            # What we put into its mailbox before we knew.
            left = [one for one in actor.inbox.take_all() if isinstance(one, Carry)]
            names += [carry.cell.name for carry in left]
        # The decision is that of the oldest of them (E1), which may be forgotten by it.
        oldest = next((cell for name, cell in self.cells.items() if name in names), None)
        self._decide(c.ExecutorLost(tuple(names), message.reason))
        self._note_cause(oldest)

    # --- commands -------------------------------------------------------------------------

    def _perform(self, command: c.Command) -> None:
        match command:
            case c.Announce(name):
                cell = self.cells[name]
                self._commons.events.announce(cell, command)
                if command.notice is Notice.ENDED:
                    _end_watches(cell)
            case c.StartLife(name, incarnation):
                self._start_life(self.cells[name], incarnation)
            case c.StopLife(name):
                self._stop_life(self.cells[name], command)
            case c.Roll(name, token):
                actor = self.cells[name].actor
                assert actor is not None
                assert isinstance(token, Call)
                actor.roll(token)
            case c.Adopt(name):
                self._adopt(name)
            case c.SetTimer(name, incarnation, delay):
                due = c.Due(name, incarnation)
                self._timing[name] = self._timers.set(
                    trio.current_time() + delay, lambda: self.inbox.put(due)
                )
            case c.CancelTimer(name):
                timer = self._timing.pop(name, None)
                if timer is not None:
                    timer.cancel()
            case c.Settle(name, reason):
                self._settle(self.cells[name], reason)
            case c.Forget(name):
                for cell in list(below(self.cells.pop(name))):
                    self._commons.forget(cell)
            case c.Done() | c.Refused() | c.Failed():
                self._answer(command)
            case c.Up():
                if self._parent is not None:
                    self._parent.put(c.ChildUp(self.cell.name, self._number))
                if self.up is not None:
                    self.up.set()
            case c.Finished():
                self.finished = command
            case c.Bug(name, state, event):
                log_bug(f"{self.cell.path}/{name}", 0, f"{event.value!r} came in {state.value!r}")
            case _:
                assert_never(command)

    def _adopt(self, name: str) -> None:
        """Give a new child an identity: a path, and a mailbox or a supervisor's actor."""
        declaration = self._declared[name] if self._new is None else self._new.declaration
        record = self.supervision.children[name]
        cell = Cell(declaration, record, self, self.cell.child_path(name), self._commons)
        if isinstance(declaration, Application):
            of = cell.path, declaration.mailbox, declaration.overflow, self._commons
            executor = self._commons.executor_for(declaration.executor)
            cell.mailbox = executor.mailbox(*of) or Mailbox(*of)
        elif isinstance(declaration, Supervisor):
            cell.actor = SupervisorActor(cell, declaration.rules, declaration.children)
        else:
            from ._pool_actor import PoolActor

            cell.actor = PoolActor(cell, declaration)
        if self._new is not None:
            self._new.call.cell = cell
            if self._new.call.wait is not None:
                self._new.call.wait.edge = Edge(cell, "up", "waits for the start of")
        self.cells[name] = cell
        self._commons.adopt(cell)

    def _start_life(self, cell: Cell, incarnation: int) -> None:
        mailbox = cell.mailbox
        if mailbox is not None and isinstance(mailbox.gate, Ended):
            mailbox.gate = mailbox.ordinary
        if cell.actor is not None:
            cell.actor.expect()
            self._nursery.start_soon(cell.actor.run, self.inbox, incarnation, name=cell.path)
            return
        assert isinstance(cell.declaration, Application)
        executor = self._commons.executor_for(cell.declaration.executor)
        actor = self._executors.get(executor)
        if actor is None:
            actor = self._executors[executor] = ExecutorActor(
                executor, self.inbox, self._commons.turns
            )
            self._nursery.start_soon(actor.run, name=f"{self.cell.path}:{describe(executor)}")
        actor.inbox.put(Carry(cell, incarnation))

    def _stop_life(self, cell: Cell, command: c.StopLife) -> None:
        mailbox = cell.mailbox
        if command.final and mailbox is not None and mailbox.gate is mailbox.ordinary:
            # It will handle nothing that comes from now on, and says so at once (M6).
            gate = mailbox.gate = Ended(cell)
            mailbox.refuse_senders(cell.stopped_error, keep=gate.lets_in)
        if cell.actor is not None:
            if cell.actor._alive:  # else its exit is on its way to us
                cell.actor.inbox.put(c.ShutDown(command.final, command.grace))
            return
        assert isinstance(cell.declaration, Application)
        executor = self._commons.executor_for(cell.declaration.executor)
        actor = self._executors.get(executor)
        if actor is not None:  # else it has failed, and that is on its way to us
            actor.inbox.put(command)

    def _settle(self, cell: Cell, reason: ExitReason) -> None:
        """It has ended for good: its mail, and that of all below, are dead letters (M6)."""
        if cell.actor is not None:
            cell.actor.drop()
        if cell.mailbox is not None:
            # Through the gate of a drain, if there is one: what is settled holds it up no more.
            cell.mailbox.settle("its service has ended", cell.stopped_error)
            cell.mailbox.gate = Ended(cell)
        for watched in cell.watching or ():
            if watched.watchers is not None:
                watched.watchers.pop(cell, None)
        cell.watching = None

    # What only a pool does; nobody asks another one.

    def roll(self, call: Call) -> None:
        """Restart its members one by one."""
        raise NotImplementedError

    def takers(self) -> Iterator[Cell]:
        """The members that its mail waits for."""
        raise NotImplementedError

    def drop(self) -> None:
        """Its own supervisor, which owns it while it is down, says that it is for good."""
        for command in self.supervision.decide(c.Drop(), trio.current_time()):
            self._perform(command)

    def _answer(self, command: c.Done | c.Refused | c.Failed) -> None:
        call = command.token
        assert isinstance(call, Call)
        cell, path = call.cell, call.path
        match command:
            case c.Done(reason=None):
                result: outcome.Outcome[Any] = outcome.Value(cell)
            case c.Done(reason=reason):
                result = outcome.Value(reason)
            case c.Refused(why=why):
                result = outcome.Error(ControlRefused(path, why))
            case c.Failed(reason=reason):
                result = outcome.Error(start_error(path, reason, cell and cell.culprit))
            case _:
                assert_never(command)
        call.answer(result)


def below(root: Cell) -> Iterator[Cell]:
    """An identity and all below it."""
    stack = [root]
    while stack:
        cell = stack.pop()
        yield cell
        if cell.actor is not None:
            stack.extend(cell.actor.cells.values())


def _renamed(spec: ChildSpec, name: str) -> ChildSpec:
    return dataclasses.replace(spec, name=name)


def _end_watches(cell: Cell) -> None:
    """The final notification is out: nobody watches it any more (O2)."""
    for watcher in cell.watchers or ():
        if watcher.watching is not None:
            watcher.watching.pop(cell, None)
    cell.watchers = None
