"""How one life with faults goes: what the runtime calls is counted, and suffers what is due.

As long as nothing has to wait, a plain handler stays a plain one; what waits in a loop comes back as
a coroutine, which the runtime awaits as it awaits any.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any

import trio

from .._errors import Rejection
from ._faults import After, Before, Drop, Exit, Hang, InjectedFault, Kill, Raise, Slow, Time

if TYPE_CHECKING:
    from .._runtime._inside import MailReader
    from ..abc import Inside, Timer
    from ._faults import Fault, When
    from ._sites import Site


class Fate:
    """How one life goes: which of its faults have come, and which are still to come."""

    def __init__(self, faults: Iterable[Fault], site: Site, began: float) -> None:
        self._site = site
        self._began = began
        self._due: dict[When, Fault] = {}
        # Those at a time: what holds up a call, in order, and what strikes by itself.
        self._holdups: list[tuple[float, Fault]] = []
        self._timed: list[tuple[float, Fault]] = []
        for fault in faults:
            match fault.at, fault.do:
                case Time(seconds), Slow() | Hang():
                    self._holdups.append((seconds, fault))
                case Time(seconds), _:
                    self._timed.append((seconds, fault))
                case _:
                    self._due[fault.at] = fault
        self._holdups.sort(key=lambda one: one[0])
        # Messages that were handed over, or read.
        self._messages = 0
        # What a `run` has read and was not given yet, because its read was held up and cancelled.
        self._kept: list[Any] = []
        # Whether it has one in hand.
        self._in_hand = False

    # --- faults ---------------------------------------------------------------------------

    def _steps(self, at: When | None) -> Iterator[float]:
        """What there is to suffer at a moment: it gives the seconds to wait, one after another."""
        while self._holdups and self._holdups[0][0] <= self._site.now() - self._began:
            yield from self._suffer(self._holdups.pop(0)[1])
        fault = None if at is None else self._due.pop(at, None)
        if fault is not None:
            yield from self._suffer(fault)

    def _suffer(self, fault: Fault) -> Iterator[float]:
        do = fault.do
        if do.after:
            yield do.after
        self._site.tell(fault)
        match do:
            case Raise(message):
                raise InjectedFault(message)
            case Exit(status):
                self._site.exit(status)
            case Kill():
                self._site.kill()
            case Drop():
                self._site.drop()
            case Slow(seconds):
                yield seconds
                return
            case Hang():
                pass
        yield math.inf

    @staticmethod
    async def _wait(steps: Iterable[float]) -> None:
        for seconds in steps:
            await trio.sleep(seconds)

    def _block(self, steps: Iterable[float]) -> None:
        for seconds in steps:
            self._site.block(seconds)

    # --- faults at a time -----------------------------------------------------------------

    def strike_later(self, inside: Inside) -> None:
        """See to the faults at a time that nobody outside of here sees to."""
        for seconds, fault in self._timed:
            if not self._site.is_apart or isinstance(fault.do, Kill):
                continue
            if self._site.has_loop:
                inside.start_soon(self._strike, (seconds, fault))
            else:
                self._site.start_thread(partial(self._strike_blocking, inside, seconds, fault))

    async def _strike(self, seconds: float, fault: Fault) -> None:
        await trio.sleep(max(0.0, self._began + seconds - self._site.now()))
        await self._wait(self._suffer(fault))

    def _strike_blocking(self, inside: Inside, seconds: float, fault: Fault) -> None:
        self._site.block(max(0.0, self._began + seconds - self._site.now()))
        if isinstance(fault.do, Raise):
            # Not before: a service ends only when its background threads have.
            self._site.block(fault.do.after)
            try:
                inside.start_soon(self._raise, (fault, fault.do.message))
            except RuntimeError:
                return  # it is ending
        else:
            self._block(self._suffer(fault))

    def _raise(self, fault: Fault, message: str) -> None:
        self._site.tell(fault)
        raise InjectedFault(message)

    # --- calls of the runtime's -----------------------------------------------------------

    def handle(self, method: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """A message is handed over."""
        self._messages += 1
        call = partial(method, *args, **kwargs)
        return self.play(Before(self._messages), call, After(self._messages))

    def play(self, before: When, call: Callable[[], Any], after: When | None = None) -> Any:
        """Call something of the service's; in a loop, what is to be awaited may come back."""
        if after not in self._due:
            after = None
        if after is None and before not in self._due and not self._holdups:
            return call()
        steps = self._steps(before)
        if not self._site.has_loop:
            self._block(steps)
            return self._play_blocking(call, after)
        # As long as nothing has to wait, a plain handler is a plain one.
        seconds = next(steps, None)
        if seconds is None:
            return self._play(call, after)
        return self._play_later(seconds, steps, call, after)

    def _play_blocking(self, call: Callable[[], Any], after: When | None) -> Any:
        try:
            result = call()
        except Rejection:
            self._block(self._after(after))
            raise
        self._block(self._after(after))
        return result

    def _after(self, after: When | None) -> Iterator[float]:
        fault = None if after is None else self._due.pop(after, None)
        return iter(()) if fault is None else self._suffer(fault)

    def _play(self, call: Callable[[], Any], after: When | None) -> Any:
        if after is None:
            return call()
        rejection: Rejection | None = None
        result: Any = None
        try:
            result = call()
        except Rejection as error:
            rejection = error
        if type(result) is CoroutineType:
            return self._finish_later(result, after)
        steps = self._after(after)
        seconds = next(steps, None)
        if seconds is not None:
            return self._answer_later(seconds, steps, result, rejection)
        if rejection is not None:
            raise rejection
        return result

    async def _play_later(
        self, seconds: float, steps: Iterator[float], call: Callable[[], Any], after: When | None
    ) -> Any:
        await trio.sleep(seconds)
        await self._wait(steps)
        result = self._play(call, after)
        return await result if type(result) is CoroutineType else result

    async def _finish_later(self, coroutine: CoroutineType[Any, Any, Any], after: When) -> Any:
        rejection: Rejection | None = None
        result: Any = None
        try:
            result = await coroutine
        except Rejection as error:
            rejection = error
        await self._wait(self._after(after))
        if rejection is not None:
            raise rejection
        return result

    async def _answer_later(
        self, seconds: float, steps: Iterator[float], result: Any, rejection: Rejection | None
    ) -> Any:
        await trio.sleep(seconds)
        await self._wait(steps)
        if rejection is not None:
            raise rejection
        return result

    # --- a run of its own -----------------------------------------------------------------

    def run(self, call: Callable[[], Any]) -> Any:
        """Call a `run`; in a loop, what is to be awaited comes back."""
        if self._site.has_loop:
            return self._run(call)
        self._block(self._steps(None))
        value = call()
        self._block(self._read_on())
        return value

    async def _run(self, call: Callable[[], Any]) -> Any:
        await self._wait(self._steps(None))
        value = await call()
        await self._wait(self._read_on())
        return value

    def _read_on(self) -> Iterator[float]:
        """What it has in hand is handled."""
        in_hand, self._in_hand = self._in_hand, False
        return self._steps(After(self._messages)) if in_hand else self._steps(None)

    def _keep(self, message: Any) -> Iterator[float]:
        self._messages += 1
        self._kept.append(message)
        return self._steps(Before(self._messages))

    def _give(self) -> Any:
        self._in_hand = True
        return self._kept.pop()

    async def read(self, receive: Callable[[], Any]) -> Any:
        """A message for a `run`.

        Raises:
            trio.EndOfChannel: the service is to stop.
        """
        if self._kept:
            await trio.lowlevel.checkpoint()
        else:
            await self._wait(self._read_on())
            await self._wait(self._keep(await receive()))
        return self._give()

    def read_blocking(self, receive: Callable[[], Any]) -> Any:
        """As `read`, in a thread."""
        if not self._kept:
            self._block(self._read_on())
            self._block(self._keep(receive()))
        return self._give()

    @property
    def has_loop(self) -> bool:
        """Whether what reads is a coroutine."""
        return self._site.has_loop


class CountingInside:
    """The inside of a service that reads its mail itself: what it reads is counted."""

    def __init__(self, inside: Inside, fate: Fate) -> None:
        self._inside = inside
        self._fate = fate

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inside, name)

    @property
    def mailbox(self) -> MailReader:
        """See `Service.mailbox`."""
        return CountingMail(self._inside.mailbox, self._fate)

    def after(
        self, delay: float, period: float | None, method: Any, args: Any, kwargs: Any
    ) -> Timer:
        """See `Service.after`; the service is bound to this, and not to its inside."""
        if getattr(getattr(method, "__self__", None), "_actorvisor_inside", None) is self:
            method = method.__func__
        return self._inside.after(delay, period, method, args, kwargs)


class CountingMail:
    """The mail of a `run` that is counted."""

    def __init__(self, mail: MailReader, fate: Fate) -> None:
        self._mail = mail
        self._fate = fate

    def __aiter__(self) -> AsyncIterator[Any]:
        # Where there is no loop, the mail says so.
        return self if self._fate.has_loop else self._mail.__aiter__()

    async def __anext__(self) -> Any:
        try:
            return await self.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    def __iter__(self) -> Iterator[Any]:
        return iter(self._mail) if self._fate.has_loop else self._read_all()

    def _read_all(self) -> Iterator[Any]:
        while True:
            try:
                message = self.receive()
            except trio.EndOfChannel:
                return
            yield message

    def receive(self) -> Any:
        """See `MailReader.receive`."""
        if self._fate.has_loop:
            return self._fate.read(self._mail.receive)
        return self._fate.read_blocking(self._mail.receive)
