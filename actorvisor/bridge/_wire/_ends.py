"""The two ends of a connection as state machines: what was sent, what may come, what it means.

Messages for the service go one way, numbered from 1 without a gap, at most a window of them
beyond what is done. What comes back says how far that is: an `ACK`, or the reply to a message,
which is sent when all before it is done. Requests of the service go the other way, numbered too,
and each is answered once, in any order.
"""

from __future__ import annotations

from typing import Any, Final

from . import _frames as f
from ._frames import Frame, FrameReader, ProtocolError

WINDOW: Final = 1024
"""Messages that may be on their way to a worker, or wait there."""

_MESSAGES: Final = f.MESSAGES | {f.TELLS}
_ANSWERS: Final = frozenset((f.REPLY, f.REJECTION, f.FAILURE))
_ANSWERS_TO_REQUESTS: Final = frozenset((f.ANSWER, f.ERROR))


class HostEnd:
    """The executor's end.

    Attributes:
        window: messages that may be under way.
        settled: the number of the message that was taken out last, as done.
        under_way: the messages that were sent after it, in order: their places are their numbers,
            so that to send a tell is to append it.
        asks: messages that are to be answered, by number.
        promised: the same, whose handler has promised an answer for later.
        replied: the highest number of a reply that came; all up to it is done.
        acknowledged: the highest number that is known to be done by what came.
        phase: ``new``, ``greeted``, ``working``, ``ending`` or ``over``.
        up: whether its setup has finished.
        large: whether anything has come that something goes with beside the stream.
        broken: what came that must not come; None while all is well.
    """

    def __init__(self, window: int = WINDOW) -> None:
        self.window: int = window
        self.settled: int = 0
        self.under_way: list[Any] = []
        self.asks: dict[int, Any] = {}
        self.promised: dict[int, Any] = {}
        self.replied: int = 0
        self.phase: str = "new"
        self.up: bool = False
        self._reader = FrameReader(f.FROM_WORKER)
        self.acknowledged: int = 0
        self._request = 0
        # Promised, and not answered yet by what came.
        self._open: set[int] = set()
        self.large: bool = False
        self.broken: ProtocolError | None = None

    @property
    def sequence(self) -> int:
        """The number of the message that was sent last."""
        return self.settled + len(self.under_way)

    @property
    def credit(self) -> int:
        """Messages that may still be sent."""
        return self.window - len(self.under_way)

    def job(self) -> None:
        """The job is sent.

        Raises:
            ProtocolError: it was sent before, or nobody is there yet.
        """
        if self.phase != "greeted":
            raise ProtocolError(f"a job in phase {self.phase!r}")
        self.phase = "working"

    def next(self, message: Any, answered: bool) -> int:
        """Number a message that is sent now.

        Raises:
            ProtocolError: the window is full.
        """
        if len(self.under_way) >= self.window:
            raise ProtocolError(f"the window of {self.window} messages is full")
        self.under_way.append(message)
        number = self.sequence
        if answered:
            self.asks[number] = message
        return number

    def settle(self, number: int) -> list[Any]:
        """Take out what is done up to a number, in order."""
        count = max(0, number - self.settled)
        done = self.under_way[:count]
        del self.under_way[:count]
        self.settled += len(done)
        return done

    def unanswered(self) -> list[Any]:
        """Take out what is done, and whose answer is not in what came."""
        done = sorted(number for number in self.asks if number <= self.settled)
        return [self.asks.pop(number) for number in done]

    def receive(self, data: bytes) -> list[Frame]:
        """Take bytes in; the frames that are complete now, up to what must not come."""
        if self.broken is not None:
            return []
        reader = self._reader
        frames = reader.feed(data)
        for index, (kind, number, _, _) in enumerate(frames):
            if kind == f.SEND and self.phase == "working":
                continue
            wrong = self._wrong(kind, number)
            if wrong is not None:
                self.broken = ProtocolError(f"a {f.name_of(kind)} of number {number}: {wrong}")
                frames = frames[:index]
                break
        else:
            self.broken = reader.broken
        self.large = reader.large
        return frames

    def _wrong(self, kind: int, number: int) -> str | None:
        """What is wrong with a frame, or None; then it has had its effect."""
        if self.phase == "new":
            if kind != f.HELLO:
                return "nobody has said hello"
            self.phase = "greeted"
        elif kind == f.LOG:
            pass
        elif kind == f.HELLO:
            return "it was said before"
        elif self.phase == "over":
            return "it has said that it is over"
        elif self.phase == "greeted":
            return "it has no job yet"
        elif kind == f.ACK:
            if not self.acknowledged <= number <= self.sequence:
                return f"between {self.acknowledged} and {self.sequence} was to be acknowledged"
            self.acknowledged = number
        elif kind in _ANSWERS:
            return self._answered(number)
        elif kind == f.LATER:
            if number <= self.acknowledged or number not in self.asks:
                return "nothing that was asked so is open"
            self.promised[number] = self.asks.pop(number)
            self._open.add(number)
        elif kind in (f.REQUEST, f.CALL):
            request = number >> f.REQUEST_SHIFT
            if request <= self._request:
                return f"requests after {self._request} were to come"
            self._request = request
        elif kind == f.UP:
            if self.up:
                return "it was up before"
            if self.phase != "working":
                return "it has said that it ends"
            self.up = True
        elif kind == f.ENDING:
            if self.phase != "working":
                return "it has said so before"
            self.phase = "ending"
        elif kind == f.EXIT:
            if self.phase != "ending":
                return "it has not said why it ends"
            self.phase = "over"
        return None

    def _answered(self, number: int) -> str | None:
        # Its entry stays for whoever is told of it: what came twice in one piece is seen here.
        if number in self._open:
            self._open.discard(number)
        elif number <= self.acknowledged:
            return "it was done before"
        elif number not in self.asks:
            return "nothing that was asked so is open"
        elif self.phase != "working":
            return "it has said that it ends"
        else:
            self.replied = self.acknowledged = number
        return None


class WorkerEnd:
    """The worker's end.

    Attributes:
        requests: who waits for an answer of the host, by number.
        answered: the same, whose answer has come: to be taken out by who hands it on.
        large: whether anything has come that something goes with beside the stream.
        broken: what came that must not come; None while all is well.
    """

    def __init__(self, window: int = WINDOW) -> None:
        self.requests: dict[int, Any] = {}
        self.answered: dict[int, Any] = {}
        self._reader = FrameReader(f.FROM_HOST)
        self._window = window
        self._has_job = False
        self._received = 0
        self._request = 0
        self._done = 0
        self._told = 0
        self.large: bool = False
        self.broken: ProtocolError | None = None

    def receive(self, data: bytes) -> list[Frame]:
        """Take bytes in; the frames that are complete now, up to what must not come.

        The payload of many tells in one frame is a list of theirs.
        """
        if self.broken is not None:
            return []
        reader = self._reader
        frames = reader.feed(data)
        for index, (kind, number, payload, _) in enumerate(frames):
            count = 1
            wrong = None
            if kind == f.TELLS:
                try:
                    tells = f.cut_tells(number, payload)
                except ValueError as error:
                    wrong = str(error)
                else:
                    frames[index] = kind, number, tells, False
                    count = len(tells)
            wrong = wrong or self._wrong(kind, number, count)
            if wrong is not None:
                self.broken = ProtocolError(f"a {f.name_of(kind)} of number {number}: {wrong}")
                frames = frames[:index]
                break
        else:
            self.broken = reader.broken
        self.large = reader.large
        return frames

    def _wrong(self, kind: int, number: int, count: int) -> str | None:
        """What is wrong with a frame, or with so many messages in one, or None."""
        if kind == f.JOB:
            if self._has_job:
                return "there is a job already"
            self._has_job = True
        elif not self._has_job:
            return "there is no job yet"
        elif kind in _MESSAGES:
            if number != self._received + 1:
                return f"number {self._received + 1} was to come"
            self._received += count
            if self._received > self._done + self._window:
                return f"more than the window of {self._window}"
        elif kind in _ANSWERS_TO_REQUESTS:
            if number not in self.requests:
                return "nothing was asked so"
            self.answered[number] = self.requests.pop(number)
        return None

    def request(self, waiter: Any) -> int:
        """Number a request that is sent now."""
        self._request = number = self._request + 1
        self.requests[number] = waiter
        return number

    def done(self, number: int, answered: bool) -> bool:
        """A message is done.

        Args:
            number: which; all before it is done, too.
            answered: whether its reply, which says so, was sent.

        Returns:
            Whether it is time to acknowledge, with `acknowledge`.
        """
        self._done = number
        if answered:
            self._told = number
            return False
        return number - self._told >= self._window >> 2

    @property
    def done_number(self) -> int:
        """The number of the message that is done last."""
        return self._done

    def acknowledge(self) -> int | None:
        """The number to be acknowledged now, or None if the host knows already."""
        if self._told == self._done:
            return None
        self._told = self._done
        return self._done
