"""What a recorded host tells of its actors: who comes to be, what they do, what is decided (T4).

Production code has no hooks for this (T7). A recorded host shares a `Commons` of another class with
its actors; when an identity comes to be, its mailbox and its supervisor's actor get subclasses that
do the same and tell of it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

import trio

from .._core import _commands as c
from .._core._ids import join
from .._core._lifecycle import Notice
from .._core._supervision import Supervision
from .._runtime._commons import Commons
from .._runtime._events import EventStream
from .._runtime._host import NAME, Host
from .._runtime._supervisor import SupervisorActor
from ._letters import Letters
from ._recorded_facts import facts_of, rules_of, seconds, told
from ._recorded_lives import Recording
from ._recorded_mail import record_mail
from ._tree import walk

if TYPE_CHECKING:
    import random

    from .._core._messages import ExitReason
    from .._core._spec import Verdict
    from .._runtime._cell import Cell
    from .._runtime._mailbox import MailStatistics
    from ..abc import Executor
    from ._recording import Recorder
    from ._trace import Json

_KINDS: Final[Mapping[Notice, str]] = {
    Notice.STARTING: "starting",
    Notice.STARTED: "started",
    Notice.STOPPING: "stopping",
    Notice.EXITED: "exited",
    Notice.RESTARTING: "restarting",
    Notice.ENDED: "ended",
}

_ASKED: Final[Mapping[type[c.Event], str]] = {
    c.Start: "start",
    c.Restart: "restart",
    c.Stop: "stop",
    c.Remove: "remove",
    c.CancelStart: "cancel-start",
}


class RecordedCommons(Commons):
    """What all actors of a recorded host share.

    Attributes:
        chronicle: who is told of what happens.
    """

    def __init__(
        self,
        recorder: Recorder,
        generator: random.Random | None,
        max_abandoned: int,
        executors: Callable[[Executor], Executor] | None,
    ) -> None:
        super().__init__(generator, max_abandoned, executors)
        self.chronicle: Chronicle = Chronicle(recorder, self)
        self.events: EventStream = RecordedEvents(self.events, self.chronicle, recorder.logs)

    def adopt(self, cell: Cell) -> None:
        """See `Commons.adopt`."""
        self.chronicle.adopted(cell)
        super().adopt(cell)

    def forget(self, cell: Cell) -> None:
        """See `Commons.forget`."""
        super().forget(cell)
        if cell.mailbox is not None:
            self.chronicle.letters.forgotten(cell.mailbox)

    def executor_for(self, declared: Executor) -> Executor:
        """See `Commons.executor_for`; its lives are recorded."""
        return Recording(super().executor_for(declared))


class RecordedEvents(EventStream):
    """The event stream of a recorded host."""

    def __init__(self, plain: EventStream, chronicle: Chronicle, logs: bool) -> None:
        super().__init__(plain._log, plain._wanted if logs else _none)
        self._chronicle = chronicle

    def announce(self, cell: Cell, said: c.Announce) -> None:
        """See `EventStream.announce`."""
        self._chronicle.announced(cell, said, self.sequence + 1)
        super().announce(cell, said)

    def close(self) -> None:
        """See `EventStream.close`: all that lived has ended."""
        super().close()
        self._chronicle.closed()


def _none(notice: Notice | None, reason: ExitReason | None) -> bool:
    """No notification is logged."""
    return False


class RecordedSupervision(Supervision):
    """The decisions of one supervisor of a recorded host.

    Attributes:
        verdict: what ``on_crash`` said of the end that it decided upon last, if it was an end.
    """

    # Not the event itself: that may be all that keeps its data alive.
    verdict: Verdict | None = None
    _chronicle: Chronicle

    def decide(self, event: c.Event, now: float, draw: float = 0.5) -> list[c.Command]:
        """See `Supervision.decide`."""
        self.verdict = event.verdict if isinstance(event, c.ChildExit) else None
        asked: tuple[str, int] | None = None
        if isinstance(event, c.Start | c.Restart | c.Stop | c.Remove | c.CancelStart):
            child = self.children.get(event.name)
            if not isinstance(event, c.CancelStart) or (
                child is not None and event.token in child.starters
            ):
                asked = event.name, 0 if child is None else child.incarnation
        commands = super().decide(event, now, draw)
        if asked is not None:
            self._chronicle.asked(join(self.path, asked[0]), asked[1], event, commands)
        elif isinstance(event, c.ExecutorLost):
            self._chronicle.lost(self.path, event, commands)
        return commands


class RecordedActor(SupervisorActor):
    """A supervisor's actor, of a recorded host."""

    _told_ending: bool = False

    @property
    def _chronicle(self) -> Chronicle:
        commons = self._commons
        assert isinstance(commons, RecordedCommons)
        return commons.chronicle

    def _decide(self, event: c.Event) -> None:
        super()._decide(event)
        self._tell_ending()

    def _perform(self, command: c.Command) -> None:
        if not (isinstance(command, c.Announce) and command.notice is Notice.EXITED):
            # What ends it is told before what follows from that, and after what led to it.
            self._tell_ending()
        self._chronicle.performing(self.cell, command)
        super()._perform(command)

    def _tell_ending(self) -> None:
        ending = self.supervision.ending
        if ending is not None and not self._told_ending:
            self._chronicle.ending(self.cell, ending)
        self._told_ending = ending is not None


class Chronicle:
    """Tells of what happens in one host.

    Attributes:
        recorder: whom it tells.
        letters: tells of messages.
    """

    def __init__(self, recorder: Recorder, commons: RecordedCommons) -> None:
        self.recorder: Recorder = recorder
        self.letters: Letters = Letters(self, commons)
        self._commons = commons
        self._name = recorder.new_host()
        self._root: Cell
        # What is declared statically and has not come to be yet.
        self._expected: set[str] = set()

    def path(self, path: str) -> str:
        """A path of this host, as the trace has it."""
        return self._name + path[len(NAME) :]

    def add(self, kind: str, path: str, incarnation: int, detail: Mapping[str, Json]) -> None:
        """Tell of something."""
        self.recorder.add(kind, self.path(path), incarnation, detail)

    # --- identities -----------------------------------------------------------------------

    def adopted(self, cell: Cell) -> None:
        """An identity comes to be: from now on it tells, too."""
        if cell.mailbox is not None:
            record_mail(cell.mailbox)
            self.letters.adopted(cell.mailbox, cell)
        actor = cell.actor
        if actor is not None:
            kind: type = type(actor)
            actor.__class__ = _recorded_actor(kind)
            supervision = actor.supervision
            supervision.__class__ = RecordedSupervision
            assert isinstance(supervision, RecordedSupervision)
            supervision._chronicle = self
        if cell.supervisor is None:
            self._open(cell)
        elif cell.path in self._expected:
            self._expected.discard(cell.path)
        else:
            # Nor is what is below it what was declared there at first.
            below = f"{cell.path}/"
            self._expected = {one for one in self._expected if not one.startswith(below)}
            facts = facts_of(cell.declaration, cell.record.spec)
            facts["declared"] = cell.record.declared
            if cell.record.declared:
                siblings = [spec.name for spec in cell.supervisor.supervision.declaration]
                facts["place"] = siblings.index(cell.name)
            self.add("declared", cell.path, 0, facts)

    def _open(self, root: Cell) -> None:
        self._root = root
        assert root.actor is not None
        tree: dict[str, Json] = {
            self.path(NAME): {"kind": "host", **rules_of(root.actor.supervision.spec)}
        }
        places: dict[str, int] = {}
        for path, declaration, _ in walk(root.actor.declared):
            above = path.rpartition("/")[0]
            place = places[above] = places.get(above, -1) + 1
            self._expected.add(path)
            facts = facts_of(declaration, declaration.spec)
            tree[self.path(path)] = {**facts, "declared": True, "place": place}
        self.add("opened", NAME, 1, {"tree": tree})

    def closed(self) -> None:
        """The host has ended."""
        host: Host = object.__new__(Host)
        assert self._root.actor is not None
        host._root, host._commons = self._root.actor, self._commons
        found = host.statistics()
        mailboxes = {
            self.path(path): _account(mail)
            for path, mail in found.mailboxes.items()
            if mail.accepted or mail.late_replies
        }
        self.add(
            "closed",
            NAME,
            1,
            {
                "account": _account(found.mail),
                "mailboxes": mailboxes,
                "actors": found.actors,
                "running": found.running,
                "abandoned": found.abandoned,
                "events": found.events,
                "stale": found.stale,
            },
        )

    # --- supervision ----------------------------------------------------------------------

    def announced(self, cell: Cell, said: c.Announce, sequence: int) -> None:
        """A notification goes out."""
        detail: dict[str, Json] = {"sequence": sequence}
        if said.reason is not None:
            detail["reason"] = told(said.reason)
        if said.notice is Notice.RESTARTING:
            detail |= {"delay": said.delay, "attempt": said.attempt}
        assert cell.supervisor is not None
        supervision = cell.supervisor.supervision
        if supervision._now != trio.current_time():
            # On a real clock; the window of restarts is one of decisions (S3).
            detail["decided"] = supervision._now
        if said.notice is Notice.EXITED:
            assert isinstance(supervision, RecordedSupervision)
            if supervision.verdict is not None:
                detail["verdict"] = supervision.verdict
        self.add(_KINDS[said.notice], cell.path, said.incarnation, detail)

    def asked(self, path: str, incarnation: int, event: c.Event, commands: list[c.Command]) -> None:
        """Somebody asked for a start or an end, and it was decided what becomes of that."""
        refused = [one.why for one in commands if isinstance(one, c.Refused)]
        detail: dict[str, Json] = {"what": _ASKED[type(event)]}
        if refused:
            detail["refused"] = refused[0]
        if any(isinstance(one, c.Roll) for one in commands):
            detail["rolls"] = True
        self.add("asked", path, incarnation, detail)

    def lost(self, path: str, event: c.ExecutorLost, commands: list[c.Command]) -> None:
        """An executor has failed, with some incarnations."""
        gone: list[Json] = [
            self.path(join(path, one.name))
            for one in commands
            if isinstance(one, c.Announce) and one.notice is Notice.EXITED
        ]
        self.add("lost", path, 0, {"actors": gone, "reason": told(event.reason)})

    def performing(self, cell: Cell, command: c.Command) -> None:
        """A supervisor carries out what was decided."""
        match command:
            case c.StopLife(name, incarnation, final, grace):
                detail: dict[str, Json] = {"final": final}
                if grace is not None:
                    detail["grace"] = seconds(grace)
                self.add("told", join(cell.path, name), incarnation, detail)
            case c.Bug(name, state, event):
                detail = {"state": state.value, "event": event.value}
                self.add("bug", join(cell.path, name), 0, detail)
            case _:
                pass

    def ending(self, cell: Cell, reason: ExitReason) -> None:
        """A supervisor has begun to end."""
        self.add("ending", cell.path, cell.record.incarnation, {"reason": told(reason)})


@functools.cache
def _recorded_actor(kind: type) -> type[SupervisorActor]:
    return type(f"Recorded{kind.__name__}", (RecordedActor, kind), {})


def _account(mail: MailStatistics) -> dict[str, Json]:
    return {name: getattr(mail, name) for name in mail.__slots__}
