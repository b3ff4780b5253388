"""What a trace is told of messages: who sends them, and what becomes of them (M1-M8)."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Final

import trio

from .._runtime._waits import fence, sender
from ._recorded_facts import told
from ._recorded_lives import life

if TYPE_CHECKING:
    from .._core._messages import ExitReason
    from .._runtime._cell import Cell
    from .._runtime._envelope import Envelope
    from .._runtime._mailbox import Mailbox
    from ._chronicle import Chronicle, RecordedCommons
    from ._trace import Json

BROKEN: Final = "it could not be decoded"
SETTLED: Final = "set by a life that is over"


class Letter:
    """A message, as far as it is recorded.

    Attributes:
        number: its number in the trace.
        name: the method that it calls.
        taken: the incarnation that has it in hand, or 0.
        over: whether it has ended; kept only until its asker is answered.
    """

    __slots__ = ("name", "number", "over", "taken")

    def __init__(self, number: int, name: str) -> None:
        self.number = number
        self.name = name
        self.taken = 0
        self.over = False


class Origin:
    """Who sends a message.

    Attributes:
        sender: the path of the actor, or empty: none.
        task: the number of the sending task; 0: none, the runtime itself.
        life: which incarnation of the actor sends, if it is known.
    """

    __slots__ = ("life", "sender", "task")

    def __init__(self, sender: str = "", task: int = 0, life: int | None = None) -> None:
        self.sender = sender
        self.task = task
        self.life = life


class Letters:
    """Tells of the messages of one host."""

    def __init__(self, chronicle: Chronicle, commons: RecordedCommons) -> None:
        self._chronicle = chronicle
        self._commons = commons
        self._cells: dict[Mailbox, Cell] = {}
        self._letters: dict[Envelope, Letter] = {}
        # Timers' messages that wait, which go without a word when a mailbox is settled.
        self._timers: dict[Mailbox, dict[Envelope, None]] = {}
        # Who waits for room, and will not be the task that is at work when there is some.
        self._waiting: dict[Envelope, Origin] = {}
        # Whose frame is being heard: a worker's, which is no task of ours.
        self.speaking: Origin | None = None
        self.is_sending: bool = False
        # What a life leaves, while it is accounted for: the message in hand, and more to say.
        self.entered: Envelope | None = None
        self.left: dict[str, Json] = {}

    def adopted(self, mailbox: Mailbox, cell: Cell) -> None:
        """A mailbox comes to be."""
        self._cells[mailbox] = cell

    def forgotten(self, mailbox: Mailbox) -> None:
        """Its identity is no more, and what that was declared with is not to be kept alive."""
        self._cells.pop(mailbox, None)
        self._timers.pop(mailbox, None)

    # --- who sends ------------------------------------------------------------------------

    def origin(self) -> Origin:
        """Who sends something now."""
        if self.speaking is not None:
            return self.speaking
        task = trio.lowlevel.current_task()
        of, mine = sender.get(), life.get()
        key: object = task
        if fence.get() is not None and task.parent_nursery is self._commons.nursery:
            # A thread has each of its calls carried out in a task of its own.
            key = mine or task
        number = self._chronicle.recorder.task(key)
        if of is None:
            return Origin("", number)
        known = mine is not None and mine.path == of.path and self._is_inside(task)
        return Origin(self._path_of(of), number, mine.number if known and mine else None)

    def _path_of(self, cell: Cell) -> str:
        """Its path in the trace; it may be another host's."""
        chronicle: Chronicle | None = getattr(cell.commons, "chronicle", None)
        return cell.path if chronicle is None else chronicle.path(cell.path)

    def _is_inside(self, task: trio.lowlevel.Task) -> bool:
        """Whether a task belongs to the host: a service may start one in a nursery of others."""
        calls = self._commons.nursery
        host = None if calls is None else calls.parent_task
        found: trio.lowlevel.Task | None = task
        while found is not None and found is not host:
            nursery = found.parent_nursery
            found = None if nursery is None else nursery.parent_task
        return found is not None

    def begin_wait(self, envelope: Envelope) -> None:
        """Its sender waits for room."""
        self._waiting[envelope] = self.origin()

    def end_wait(self, envelope: Envelope) -> None:
        """It waits no more."""
        self._waiting.pop(envelope, None)

    # --- what becomes of a message --------------------------------------------------------

    def find(self, envelope: Envelope) -> Letter | None:
        """What is recorded of a message that has not ended; None of others."""
        letter = self._letters.get(envelope)
        return None if letter is None or letter.over else letter

    def _tell(
        self, kind: str, mailbox: Mailbox, letter: Letter, detail: dict[str, Json] | None = None
    ) -> None:
        incarnation = letter.taken or self._incarnation(mailbox)
        said: dict[str, Json] = {"message": letter.number, "name": letter.name}
        if detail:
            said |= detail
        self._chronicle.add(kind, mailbox.path, incarnation, said)

    def _incarnation(self, mailbox: Mailbox) -> int:
        cell = self._cells.get(mailbox)
        return 0 if cell is None else cell.record.incarnation

    def accepted(self, mailbox: Mailbox, envelope: Envelope) -> None:
        """A message is accepted."""
        number = self._chronicle.recorder.new_message()
        letter = self._letters[envelope] = Letter(number, envelope.name)
        detail: dict[str, Json] = {"ask": envelope.reply is not None}
        if envelope.exempt:
            detail["exempt"] = "timer" if envelope.timer else "notification"
            origin = Origin()
            if envelope.timer:
                detail["timer"] = envelope.timer
                self._timers.setdefault(mailbox, {})[envelope] = None
        else:
            waited = self._waiting.pop(envelope, None)
            origin = self.origin() if waited is None else waited
            if waited is not None:
                detail["waited"] = True
        detail |= {"sender": origin.sender, "task": origin.task}
        if origin.life is not None:
            detail["life"] = origin.life
        lane: int | None = getattr(envelope, "lane", None)
        if lane is not None:
            detail["lane"] = lane
        self._tell("accepted", mailbox, letter, detail)

    def handed_over(self, mailbox: Mailbox, envelope: Envelope) -> None:
        """A pool gives a message to a member."""
        letter = self.find(envelope)
        if letter is not None:
            self._tell("handed-over", mailbox, letter)

    def taken(self, mailbox: Mailbox, envelope: Envelope, incarnation: int) -> None:
        """A message is in hand; told once."""
        letter = self.find(envelope)
        if letter is not None and not letter.taken:
            letter.taken = incarnation
            self._tell("taken", mailbox, letter)

    def given_back(self, mailbox: Mailbox, envelopes: Iterable[Envelope]) -> None:
        """Messages go back in front of a mailbox, in order."""
        for place, envelope in enumerate(envelopes):
            letter = self.find(envelope)
            if letter is not None:
                entered = envelope is self.entered
                detail: dict[str, Json] = {"place": place, "entered": entered}
                if entered:
                    detail |= self.left
                self._tell("given-back", mailbox, letter, detail)
                letter.taken = 0

    def ended(
        self, kind: str, mailbox: Mailbox, envelope: Envelope, detail: dict[str, Json] | None = None
    ) -> None:
        """A message is handled, rejected, withdrawn or a dead letter."""
        letter = self.find(envelope)
        if letter is None:
            return
        if envelope is self.entered:
            detail = {**(detail or {}), **self.left}
        self._tell(kind, mailbox, letter, detail)
        letter.over = True
        if envelope.reply is None:
            del self._letters[envelope]
        if envelope.timer:
            self._timers.get(mailbox, {}).pop(envelope, None)

    def answered(self, envelope: Envelope) -> None:
        """Nothing more is to come of a message that has ended."""
        letter = self._letters.get(envelope)
        if letter is not None and letter.over:
            del self._letters[envelope]

    def dropped(self, mailbox: Mailbox, envelope: Envelope | None) -> None:
        """An answer has come that nobody waits for."""
        letter = None if envelope is None else self._letters.get(envelope)
        if letter is not None:
            self._tell("dropped-reply", mailbox, letter)
        else:
            self._chronicle.add("dropped-reply", mailbox.path, self._incarnation(mailbox), {})

    def settled(self, mailbox: Mailbox) -> None:
        """Nothing waits any more: what timers had put in is gone."""
        for envelope in list(self._timers.pop(mailbox, ())):
            self.ended("withdrawn", mailbox, envelope, {"why": SETTLED})

    # --- moments --------------------------------------------------------------------------

    def worker(self, mailbox: Mailbox, incarnation: int, key: object) -> Origin:
        """Who sends what a worker sends: whichever of its tasks that is, it comes in order."""
        path = self._path_of(self._cells[mailbox])
        return Origin(path, self._chronicle.recorder.task(key), incarnation)

    @contextlib.contextmanager
    def sending(self) -> Generator[None, None, None]:
        """A mailbox sends its worker what waits: what is left out of that is not taken up."""
        before, self.is_sending = self.is_sending, True
        try:
            yield
        finally:
            self.is_sending = before

    @contextlib.contextmanager
    def accounting(
        self, entered: Envelope | None, reason: ExitReason, final: bool
    ) -> Generator[None, None, None]:
        """A life's end is accounted for.

        Args:
            entered: the message in hand.
            reason: how the life ended.
            final: whether it was told to stop for good.
        """
        before = self.entered, self.left
        self.entered = entered
        if entered is not None:
            self.left = {"reason": told(reason), "final": final}
        try:
            yield
        finally:
            self.entered, self.left = before
