"""What runs in simulated processes, and whom it talks to."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Any

import trio

import actorvisor as av
from actorvisor._runtime._crossing import crossing

outer: contextvars.ContextVar[str] = contextvars.ContextVar("outer", default="nothing")

# What happened in simulated processes, and what ends them: there are no real ones that would not
# see these.
LINES: list[str] = []
ENDS: dict[str, Callable[[], object]] = {}


class Stage(av.Service):
    """In the host's process: hears, and answers late or never."""

    def __init__(self) -> None:
        self.promised: list[av.LaterReply] = []
        self.told: list[object] = []

    def hear(self) -> None:
        self.promised.append(self.reply_later())

    async def busy(self, seconds: float) -> None:
        await trio.sleep(seconds)

    def say(self, what: object) -> None:
        self.told.append(what)

    def lines(self) -> list[object]:
        return self.told


class Worker(av.Service):
    """What both kinds of them share."""

    def __init__(self, stage: Any = None, setup: str = "") -> None:
        self.stage = stage
        self.at_setup = setup
        self.kept: list[object] = []

    def teardown(self, reason: av.ExitReason) -> None:
        LINES.append(f"teardown {type(reason).__name__}")

    def keep(self, value: object) -> list[object]:
        self.kept.append(value)
        return self.kept

    def last(self) -> object:
        return self.kept[-1]

    def fail(self) -> None:
        raise ValueError("boom")

    def unpicklable(self) -> Any:
        return lambda: 0

    def context(self) -> str:
        return outer.get()

    def state_of(self, path: str) -> str:
        return self.find(path, av.Service).state


class Sync(Worker):
    """In a thread."""

    def setup(self) -> None:
        if self.at_setup == "raise":
            raise ValueError("of the setup")
        if self.at_setup:
            crossing.get().sleep(float(self.at_setup))

    def wait(self) -> None:
        try:
            self.stage.blocking.ask(Stage.hear)
        finally:
            LINES.append("unwound")

    def ask_busy(self) -> None:
        self.stage.blocking.ask(Stage.say, "never")

    def nap(self, seconds: float) -> str:
        crossing.get().sleep(seconds)
        return "slept"

    def beat(self, seconds: float, times: int) -> str:
        for _ in range(times):
            crossing.get().sleep(seconds)
            self.heartbeat()
        return "beaten"

    def tell_each(self, numbers: int) -> None:
        for number in range(numbers):
            self.stage.blocking.tell(Stage.say, number)

    def pass_on(self, ref: Any) -> Any:
        return ref.blocking.ask(Sync.keep, self.ref)

    def show(self, value: object) -> list[object]:
        self.stage.blocking.tell(Stage.say, self.kept)
        self.kept.append(value)
        return self.kept

    def show_what_cannot_be_sent(self) -> str:
        try:
            self.stage.blocking.tell(Stage.say, lambda: 0)
        except TypeError as error:
            return str(error)
        return ""

    def leave(self, how: str) -> None:
        ENDS[how]()
        self.stage.blocking.tell(Stage.say, "from the grave")

    def beside(self, seconds: float, failing: bool) -> None:
        self.start_soon(self._beside, seconds, failing)

    def _beside(self, seconds: float, failing: bool) -> None:
        crossing.get().sleep(seconds)
        self.stage.blocking.ask(Stage.say, "beside")
        if failing:
            raise ValueError("beside")


class Looping(Worker):
    """In a loop."""

    async def setup(self) -> None:
        if self.at_setup == "raise":
            raise ValueError("of the setup")
        if self.at_setup:
            await trio.sleep(float(self.at_setup))

    async def wait(self) -> None:
        try:
            await self.stage.ask(Stage.hear)
        finally:
            LINES.append("unwound")

    async def ask_busy(self) -> None:
        await self.stage.ask(Stage.say, "never")

    async def nap(self, seconds: float) -> str:
        await trio.sleep(seconds)
        return "slept"

    async def tell_each(self, numbers: int) -> None:
        for number in range(numbers):
            await self.stage.tell(Stage.say, number)

    async def pass_on(self, ref: Any) -> Any:
        return await ref.ask(Looping.keep, self.ref)

    async def show(self, value: object) -> list[object]:
        await self.stage.tell(Stage.say, self.kept)
        self.kept.append(value)
        return self.kept

    async def show_what_cannot_be_sent(self) -> str:
        try:
            await self.stage.tell(Stage.say, lambda: 0)
        except TypeError as error:
            return str(error)
        return ""

    async def leave(self, how: str) -> None:
        ENDS[how]()
        await self.stage.tell(Stage.say, "from the grave")

    async def block_elsewhere(self) -> None:
        await trio.to_thread.run_sync(lambda: self.stage.blocking.ask(Stage.lines))

    async def hold_a_thread(self) -> None:
        def hold() -> None:
            threading.Event().wait(0.05)
            LINES.append("let go")

        await trio.to_thread.run_sync(hold)

    def beside(self, seconds: float, failing: bool) -> None:
        self.start_soon(self._beside, seconds, failing)

    async def _beside(self, seconds: float, failing: bool) -> None:
        await trio.sleep(seconds)
        await self.stage.ask(Stage.say, "beside")
        if failing:
            raise ValueError("beside")
