"""The mail of an incarnation in its worker: what came and is not taken up, what is in hand."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from ..._core._describe import describe
from ..._errors import Rejection, RemoteError
from ..._runtime._logging import logger, traceback_text
from .. import _ledger as ledger, _memory
from .._wire import _frames as f

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .._wire._frames import Frame
    from ._port import Port

TIMER: Final = 3
"""Where in a call that a timer makes the timer's number is."""
NO_KEYWORDS: Final[dict[str, Any]] = {}


class Taken:
    """The message that was taken up. Valid while it is in hand: the next one is the same object.

    Attributes:
        name: the method to call.
        args: its positional arguments.
        kwargs: its keyword arguments.
        number: its place.
        asked: whether an answer is to be sent when its handler returns.
    """

    __slots__ = ("args", "asked", "kwargs", "name", "number")

    def __init__(self) -> None:
        self.name: str = ""
        self.args: tuple[Any, ...] = ()
        self.kwargs: Mapping[str, Any] = NO_KEYWORDS
        self.number: int = 0
        self.asked: bool = False


class Mail:
    """What came for this incarnation. Used by one thread at a time.

    Attributes:
        waiting: messages that are not taken up.
        in_hand: the one whose handler was entered, or None.
        cancelled: numbers of timers that were cancelled.
    """

    def __init__(self, port: Port, path: str, kick: Callable[[], None]) -> None:
        self._kick = kick
        self.port: Port = port
        self.path: str = path
        self.waiting: int = 0
        self.in_hand: Taken | None = None
        self.cancelled: set[int] = set()
        self._queue: deque[Frame] = deque()
        self._words = port.ledger.words
        self._withdrawn = port.ledger.withdrawn
        self._verdicts = port.ledger.verdicts
        self._end = port.end
        self._loads = port.codec.decode
        # There is one in hand at a time, and to make another for each took a tenth of its cost.
        self._taken = Taken()
        self._reads_told = 0
        self._outbox = port.outbox
        self._before = 0

    def arrive(self, *frames: Frame) -> None:
        """Messages came."""
        self._queue.extend(frames)
        self.waiting += len(frames)

    def take_up(self) -> Taken | None:
        """Take the next message up; None when it counts no more: look again.

        Invariant: its number is stored before anything of it is looked at, so that what kills
        this process is the message in hand.
        """
        kind, number, payload, large = self._queue.popleft()
        self.waiting -= 1
        if self._withdrawn[number & ledger.MASK]:
            self._skip(number, ledger.SKIPPED)
            return None
        self._words[ledger.TAKEN] = number
        try:
            call = _memory.decode(self.port.codec, payload) if large else self._loads(payload)
            taken = self._taken
            if len(call) == 2:
                taken.name, taken.args = call
                taken.kwargs = NO_KEYWORDS
            else:
                if len(call) > TIMER and call[TIMER] in self.cancelled:
                    self.cancelled.discard(call[TIMER])
                    self._skip(number, ledger.SKIPPED)
                    return None
                taken.name, taken.args, taken.kwargs = call[:TIMER]
        except Exception as error:
            self._break(kind, number, error)
            return None
        taken.number = number
        taken.asked = kind == f.ASK
        self.in_hand = taken
        return taken

    def _break(self, kind: int, number: int, error: Exception) -> None:
        """It cannot be decoded: that concerns it alone (P4)."""
        text = traceback_text(error)
        logger.error(
            "%s: a message could not be decoded\n%s", self.path, text, extra={"path": self.path}
        )
        # Before the reply, which says that it is done.
        self._verdicts[number & ledger.MASK] = ledger.BROKEN
        if kind == f.ASK:
            self.port.frame(f.FAILURE, number, self.port.codec.encode_error(error, text))
            self._kick()
        self._skip(number, ledger.BROKEN)

    def _skip(self, number: int, verdict: int) -> None:
        self._verdicts[number & ledger.MASK] = verdict
        self._finish(number, False)

    def done(self, taken: Taken, result: Any) -> None:
        """Its handler returned: the reply is framed, then it is done (P3)."""
        number = taken.number
        if taken.asked:
            self._frame_reply(number, result)
            self.replied()
        self.in_hand = None
        self._finish(number, taken.asked)

    def _finish(self, number: int, answered: bool) -> None:
        # In this order: once it is stored, the executor may send one more.
        due = self._end.done(number, answered)
        framed = self._outbox.framed
        if framed != self._before:
            self._words[ledger.BEFORE] = self._before = framed
        self._words[ledger.DONE] = number
        if due:
            self.acknowledge()

    def replied(self) -> None:
        """A reply was framed: see to it that it is sent."""
        self._kick()

    def reply(self, number: int, result: Any) -> None:
        """Send the answer to a message that is done already."""
        self._frame_reply(number, result)
        self._kick()

    def _frame_reply(self, number: int, result: Any) -> None:
        """Frame an answer; one that cannot be pickled is an error to its asker."""
        try:
            payload = self.port.codec.encode(result, f"the reply of {self.path}")
        except Exception as error:
            failure = RemoteError(
                type(result).__qualname__, f"{error} (the reply was {describe(result)})"
            )
            self.port.frame(f.FAILURE, number, self.port.codec.encode_error(failure, ""))
        else:
            self.port.frame(f.REPLY, number, payload)

    def reject(self, taken: Taken, error: Rejection) -> None:
        """Its handler raised a `Rejection`: that is an answer (M9)."""
        self.in_hand = None
        self._verdicts[taken.number & ledger.MASK] = ledger.REJECTED
        if taken.asked:
            self.reject_reply(taken.number, error)
        self._finish(taken.number, taken.asked)

    def reject_reply(self, number: int, error: Rejection) -> None:
        """Frame an answer that is an error."""
        payload = self.port.codec.encode_error(error, traceback_text(error))
        self.port.frame(f.REJECTION, number, payload)
        self._kick()

    def acknowledge(self) -> None:
        """Tell the executor how far it is, if it does not know."""
        number = self._end.acknowledge()
        if self._words[ledger.READS] != self._reads_told:
            # A pool has to know that it reads.
            self._reads_told = self._words[ledger.READS]
            number = self._end.done_number
        if number is not None:
            self.port.frame(f.ACK, number)
            self._kick()

    def read(self) -> None:
        """A `run` of its own reads: what it read before is done."""
        self._words[ledger.READS] += 1
        if self.in_hand is not None:
            self.done(self.in_hand, None)
