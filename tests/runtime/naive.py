"""One service and its mail, as DESIGN's rules say and not as the code does (M1-M8): naive on purpose."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass
class Sending:
    """What one task sends, at one time, and how long it waits.

    Attributes:
        number: which one.
        at: when, in seconds.
        ask: whether it asks.
        act: what the handler does in the end.
        seconds: how long the handler takes.
        patience: how long an asker, or a sender that waits for room, waits; None: for ever.
        burst: how many messages are sent, one after the other.
    """

    number: int
    at: float
    ask: bool
    act: Literal["return", "crash", "reject"]
    seconds: float
    patience: float | None
    burst: int = 1


@dataclass(eq=False)
class Message:
    sending: Sending
    index: int
    tries: int = 0
    gone: bool = False  # whether its asker waits no more

    @property
    def name(self) -> tuple[int, int]:
        return self.sending.number, self.index


@dataclass
class Naive:
    """What should happen."""

    capacity: int
    redeliver: int
    delay: float
    queue: list[Message] = field(default_factory=list)
    room: list[Message] = field(default_factory=list)
    in_hand: Message | None = None
    busy_until: float = 0
    down_until: float | None = None
    stopping: bool = False
    lives: int = 1
    entered: list[tuple[tuple[int, int], float]] = field(default_factory=list)
    results: dict[tuple[int, int], Any] = field(default_factory=dict)
    count: Counter[str] = field(default_factory=Counter)

    def play(self, sendings: list[Sending], stop_at: float) -> None:
        plan: list[tuple[float, Any]] = [(one.at, one) for one in sendings]
        plan += [
            (one.at + one.patience, one.number) for one in sendings if one.patience is not None
        ]
        plan.append((stop_at, "stop"))
        for time, what in sorted(plan, key=lambda one: one[0]):
            self.advance(time)
            if isinstance(what, Sending):
                self.post(Message(what, 0), time)
            elif what == "stop":
                self.stop()
            else:
                self.lose_patience(what)
            self.take(time)
        self.advance(float("inf"))

    def advance(self, until: float) -> None:
        """What happens by itself before a time."""
        while True:
            if self.in_hand is not None and self.busy_until < until:
                time = self.busy_until
                self.finish(time)
            elif self.down_until is not None and self.down_until < until:
                time, self.down_until = self.down_until, None
                self.lives += 1
            else:
                return
            self.take(time)

    def post(self, message: Message, time: float) -> None:
        if self.stopping:
            self.results[message.name] = "stopped"
        elif len(self.queue) < self.capacity:
            self.accept(message, time)
        else:
            self.room.append(message)

    def accept(self, message: Message, time: float) -> None:
        self.queue.append(message)
        self.count["accepted"] += 1
        if not message.sending.ask:
            self.results[message.name] = "told"
            if message.index + 1 < message.sending.burst:
                self.post(Message(message.sending, message.index + 1), time)

    def admit(self, time: float) -> None:
        """Waiting senders in turn; what they send next comes behind those that wait."""
        let_in = []
        while self.room and len(self.queue) < self.capacity:
            message = self.room.pop(0)
            let_in.append(message)
            self.queue.append(message)
            self.count["accepted"] += 1
            if not message.sending.ask:
                self.results[message.name] = "told"
        for message in let_in:
            if not message.sending.ask and message.index + 1 < message.sending.burst:
                self.post(Message(message.sending, message.index + 1), time)

    def take(self, time: float) -> None:
        up = self.down_until is None and not self.stopping
        if up and self.in_hand is None and self.queue:
            self.in_hand = self.queue.pop(0)
            self.entered.append((self.in_hand.name, time))
            self.busy_until = time + self.in_hand.sending.seconds
            self.admit(time)

    def answer(self, message: Message, result: str) -> None:
        if message.sending.ask:
            if message.gone:
                self.count["late_replies"] += 1
            else:
                self.results[message.name] = result

    def finish(self, time: float) -> None:
        message, self.in_hand = self.in_hand, None
        assert message is not None
        match message.sending.act:
            case "return":
                self.count["handled"] += 1
                self.answer(message, "returned")
            case "reject":
                self.count["rejected"] += 1
                self.answer(message, "rejected")
            case "crash":
                if message.tries < self.redeliver:
                    message.tries += 1
                    self.queue.insert(0, message)
                else:
                    self.count["dead_letters"] += 1
                    self.answer(message, "crashed")
                if not self.stopping:
                    self.down_until = time + self.delay
        if self.stopping:
            self.end()

    def stop(self) -> None:
        self.stopping = True
        for message in self.room:
            self.results[message.name] = "stopped"
        self.room.clear()
        if self.in_hand is None:
            self.end()

    def end(self) -> None:
        self.down_until = None
        for message in self.queue:
            self.count["dead_letters"] += 1
            self.answer(message, "stopped")
        self.queue.clear()

    def lose_patience(self, number: int) -> None:
        for message in [one for one in self.room if one.sending.number == number]:
            self.room.remove(message)
            self.results[message.name] = "cancelled"
        for message in [one for one in self.queue if one.sending.number == number]:
            if message.sending.ask and message.name not in self.results:
                self.results[message.name] = "cancelled"
                message.gone = True
                self.queue.remove(message)
                self.count["withdrawn"] += 1
                self.admit(0)
        busy = self.in_hand
        if busy is not None and busy.sending.number == number and busy.sending.ask:
            self.results[busy.name] = "cancelled"
            busy.gone = True
