"""The services that the checks of an executor start: they do what a script says.

They live at module level, keep nothing outside of themselves, and talk to the check by messages
only, so that they work wherever an executor runs them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from .._core._messages import ExitReason, Notification
from .._errors import Rejection
from ..abc import Executor, LaterReply, Service, Timer

if TYPE_CHECKING:
    from .._runtime._ref import Ref

DELAY: Final = 0.02
"""Seconds until a timer of a script fires."""


class Failure(Exception):
    """What a script raises."""


class Refusal(Rejection):
    """What a script rejects with."""


VALUES: Final[dict[str, object]] = {"none": None, "false": False, "error": Failure("a mere value")}
"""What ``return`` in a script stands for; anything else is the word itself."""


class Stage(Service):
    """Where players say what they do, and hear what they wait for."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._waiting: list[tuple[str, int, LaterReply]] = []
        self._finished = False

    def say(self, line: str) -> int:
        """Add a line; how often it was said."""
        self._lines.append(line)
        told = [one for one in self._waiting if self._lines.count(one[0]) >= one[1]]
        for one in told:
            self._waiting.remove(one)
            one[2].send(None)
        return self._lines.count(line)

    def hear(self, line: str, times: int) -> None:
        """Answer once a line was said so often."""
        if self._lines.count(line) < times and not self._finished:
            self._waiting.append((line, times, self.reply_later()))

    def finish(self) -> None:
        """Answer all that wait, and whoever else will."""
        self._finished = True
        for _, _, later in self._waiting:
            later.send(None)
        self._waiting.clear()

    def lines(self) -> tuple[str, ...]:
        """All that was said."""
        return tuple(self._lines)


def steps(script: str, life: int) -> Iterator[tuple[str, str]]:
    """The steps of a script, such as ``say in; hear go; 1,2: raise boom``.

    Args:
        script: steps, separated by semicolons; numbers before a colon: only in these lives.
        life: which life it is, counted from 1.
    """
    for part in script.split("; "):
        lives, colon, step = part.partition(": ")
        if not colon:
            step = part
        elif str(life) not in lives.split(","):
            continue
        verb, _, what = step.partition(" ")
        if verb:
            yield verb, what


def fail(verb: str, what: str) -> None:
    """Carry out a step that raises."""
    match verb:
        case "raise":
            raise Failure(what)
        case "reject":
            raise Refusal(what)
        case "exit":
            raise SystemExit(int(what))
        case _:
            raise LookupError(f"no such step: {verb} {what}")


class Player(Service):
    """What players under all executors share."""

    def __init__(self, stage: Ref[Stage], setup: str = "", teardown: str = "") -> None:
        self._stage = stage
        self._at_setup = setup
        self._at_teardown = teardown
        self._life = 0
        self._state = "fresh"
        self._later: dict[str, LaterReply] = {}
        self._timers: dict[str, Timer] = {}

    def plain(self, first: int, *, second: int) -> int:
        """A plain method, which fits everywhere."""
        return first - second

    def _do(self, verb: str, what: str) -> None:
        """Carry out a step that waits for nothing."""
        match verb:
            case "stop":
                self.stop()
            case "keep":
                self._state = what
            case "later":
                self._later[what] = self.reply_later()
            case "answer":
                self._later[what].send(what)
            case "refuse":
                self._later[what].reject(Refusal(what))
            case "after":
                self._timers[what] = self.after(DELAY, type(self).perform, f"say {what}")  # type: ignore[attr-defined]
            case "every":
                self._timers[what] = self.every(DELAY, type(self).perform, f"say {what}")  # type: ignore[attr-defined]
            case "cancel":
                self._timers[what].cancel()
            case "find":
                self.find(what, Service)
            case "monitor":
                self.monitor(self.find(what, Service))
            case "background":
                self.start_soon(self._beside, what.replace(",", ";"))  # type: ignore[attr-defined]
            case _:
                fail(verb, what)

    def _value(self, verb: str, what: str, value: object) -> object:
        """What a script returns after a step."""
        match verb:
            case "return":
                return VALUES.get(what, what)
            case "state":
                return self._state
            case _:
                return value

    def _line(self, message: object) -> str:
        if isinstance(message, Notification):
            return f"{type(message).__name__} of {message.path}"
        return str(message)


class LoopPlayer(Player):
    """A player for executors with a loop."""

    async def setup(self) -> None:
        """Count the life, then play."""
        self._life = await self._stage.ask(Stage.say, "life")
        await self._play(self._at_setup)
        await self._stage.ask(Stage.say, "set up")

    async def teardown(self, reason: ExitReason) -> None:
        """Say why, then play."""
        await self._stage.ask(Stage.say, f"teardown {type(reason).__name__}")
        await self._play(self._at_teardown)

    async def perform(self, script: str) -> object:
        """Play a script; what it returns."""
        return await self._play(script)

    async def receive(self, message: object) -> None:
        """Say what came."""
        await self._stage.ask(Stage.say, self._line(message))

    async def _beside(self, script: str) -> None:
        try:
            await self._play(script)
        finally:
            self._stage.tell_nowait(Stage.say, "background over")

    async def _play(self, script: str) -> object:
        value: object = None
        for verb, what in steps(script, self._life):
            value = self._value(verb, what, value)
            match verb:
                case "say":
                    await self._stage.ask(Stage.say, what)
                case "hear":
                    await self._stage.ask(Stage.hear, what, 1)
                case "tell":
                    await self.ref.tell(type(self).perform, what.replace(",", ";"))
                case "ask":
                    await self.ref.ask(type(self).perform, what)
                case "return" | "state":
                    pass
                case _:
                    self._do(verb, what)
        return value


class ThreadPlayer(Player):
    """A player for executors without a loop: it blocks."""

    def setup(self) -> None:
        """Count the life, then play."""
        self._life = self._stage.blocking.ask(Stage.say, "life")
        self._play(self._at_setup)
        self._stage.blocking.ask(Stage.say, "set up")

    def teardown(self, reason: ExitReason) -> None:
        """Say why, then play."""
        self._stage.blocking.ask(Stage.say, f"teardown {type(reason).__name__}")
        self._play(self._at_teardown)

    def perform(self, script: str) -> object:
        """Play a script; what it returns."""
        return self._play(script)

    def receive(self, message: object) -> None:
        """Say what came."""
        self._stage.blocking.ask(Stage.say, self._line(message))

    def _beside(self, script: str) -> None:
        try:
            self._play(script)
        finally:
            self._stage.blocking.ask(Stage.say, "background over")

    def _play(self, script: str) -> object:
        value: object = None
        for verb, what in steps(script, self._life):
            value = self._value(verb, what, value)
            match verb:
                case "say":
                    self._stage.blocking.ask(Stage.say, what)
                case "hear":
                    self._stage.blocking.ask(Stage.hear, what, 1)
                case "tell":
                    self.ref.blocking.tell(type(self).perform, what.replace(",", ";"))
                case "ask":
                    self.ref.blocking.ask(type(self).perform, what)
                case "return" | "state":
                    pass
                case _:
                    self._do(verb, what)
        return value


class LoopReader(LoopPlayer):
    """A loop that reads its mail; ``leave`` ends it."""

    async def run(self) -> object:
        """Play what comes."""
        async for script in self.mailbox:
            if await self._play(script) == "leave":
                return "left"
        return "read out"


class ThreadReader(ThreadPlayer):
    """A loop that reads its mail; ``leave`` ends it."""

    def run(self) -> object:
        """Play what comes."""
        for script in self.mailbox:
            if self._play(script) == "leave":
                return "left"
        return "read out"


async def loop_function(stage: Ref[Stage], script: str) -> object:
    """A function as a service, for executors with a loop."""
    value: object = None
    life = await stage.ask(Stage.say, "life")
    for verb, what in steps(script, life):
        match verb:
            case "say":
                await stage.ask(Stage.say, what)
            case "hear":
                await stage.ask(Stage.hear, what, 1)
            case "return":
                value = VALUES.get(what, what)
            case _:
                fail(verb, what)
    return value


def thread_function(stage: Ref[Stage], script: str) -> object:
    """A function as a service, for executors without a loop."""
    value: object = None
    life = stage.blocking.ask(Stage.say, "life")
    for verb, what in steps(script, life):
        match verb:
            case "say":
                stage.blocking.ask(Stage.say, what)
            case "hear":
                stage.blocking.ask(Stage.hear, what, 1)
            case "return":
                value = VALUES.get(what, what)
            case _:
                fail(verb, what)
    return value


@dataclass(frozen=True, slots=True)
class Cast:
    """Who plays under an executor.

    Attributes:
        player: has handlers.
        reader: is a loop that reads its mail.
        function: a function.
    """

    player: Any
    reader: Any
    function: Any


def cast_for(executor: Executor) -> Cast:
    """The players that fit an executor (E3)."""
    if executor.has_loop:
        return Cast(LoopPlayer, LoopReader, loop_function)
    return Cast(ThreadPlayer, ThreadReader, thread_function)
