"""Timers of an actor: one task that sleeps until the next is due."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from itertools import count
from threading import get_ident

import trio


class Timer:
    """Something that will happen once.

    Attributes:
        deadline: when, by trio's clock.
        fire: what happens; None once it has fired or was cancelled.
        owner: whose timers it is among until it is cancelled, or None.
    """

    __slots__ = ("_number", "_timers", "deadline", "fire", "owner")

    def __init__(
        self, timers: Timers, deadline: float, number: int, fire: Callable[[], None]
    ) -> None:
        self._timers = timers
        self._number = number
        self.deadline: float = deadline
        self.fire: Callable[[], None] | None = fire
        self.owner: dict[Timer, None] | None = None

    def cancel(self) -> None:
        """It will not happen; nothing if it has already.

        Raises:
            RuntimeError: it is called outside the host's loop.
        """
        self._timers.check_thread()
        if self.fire is not None:
            self.fire = None
            if self.owner is not None:
                self.owner.pop(self, None)
            self._timers.dropped()

    def again(self, period: float) -> None:
        """Let it happen once more; called while it happens. What is past by now is left out."""
        now, deadline = trio.current_time(), self.deadline + period
        if deadline <= now:
            # After a long while there may be any number of those, and the loop would do no more.
            deadline = max(now - (now - deadline) % period + period, math.nextafter(now, math.inf))
        self._timers.again(self, deadline)

    def __lt__(self, other: Timer) -> bool:
        return (self.deadline, self._number) < (other.deadline, other._number)


class Timers:
    """The timers of one actor; their task is started when the first is set."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._heap: list[Timer] = []
        self._numbers = count()
        self._dropped = 0
        self._running = False
        self._closed = False
        self._sleep = trio.CancelScope()
        self._firing: Callable[[], None] | None = None
        self._thread = get_ident()

    def check_thread(self) -> None:
        """Refuse another thread.

        Raises:
            RuntimeError: this is one.
        """
        if get_ident() != self._thread:
            raise RuntimeError(
                "a timer is cancelled on its host's loop; in a thread, "
                "use trio.from_thread.run_sync(timer.cancel)"
            )

    @trio.lowlevel.enable_ki_protection
    def set(self, deadline: float, fire: Callable[[], None]) -> Timer:
        """Let something happen at a time of trio's clock; what it does must not wait or raise."""
        timer = Timer(self, deadline, next(self._numbers), fire)
        self._push(timer)
        return timer

    def again(self, timer: Timer, deadline: float) -> None:
        """Let the timer that fires now fire once more."""
        timer.deadline = deadline
        timer.fire = self._firing
        self._push(timer)

    def _push(self, timer: Timer) -> None:
        heapq.heappush(self._heap, timer)
        if not self._running:
            self._running = True
            self._nursery.start_soon(self._run)
        elif self._heap[0] is timer:
            self._sleep.deadline = timer.deadline

    def close(self) -> None:
        """Nothing more happens; the task ends."""
        self._closed = True
        self._heap.clear()
        self._sleep.cancel()

    def dropped(self) -> None:
        """One was cancelled; when they outnumber the rest they are swept out."""
        self._dropped += 1
        if self._dropped * 2 > len(self._heap) + 64:
            self._heap = [timer for timer in self._heap if timer.fire is not None]
            heapq.heapify(self._heap)
            self._dropped = 0

    @trio.lowlevel.enable_ki_protection
    async def _run(self) -> None:
        while not self._closed:
            deadline = self._heap[0].deadline if self._heap else math.inf
            self._sleep = trio.CancelScope(deadline=deadline)
            with self._sleep:
                await trio.sleep_forever()
            now = trio.current_time()
            while self._heap and self._heap[0].deadline <= now:
                timer = heapq.heappop(self._heap)
                fire, timer.fire = timer.fire, None
                if fire is None:
                    self._dropped = max(0, self._dropped - 1)
                else:
                    self._firing = fire
                    fire()
