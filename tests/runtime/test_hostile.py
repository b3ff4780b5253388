"""User code that is odd in ways that no rule foresees: it breaks what is its own, and no more.

Supervisors decide in the step of whoever tells them something; what is of the user's and runs
there (a handler of logging, an exception's notes, an executor's hash) must not end them.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import actorvisor as av

if TYPE_CHECKING:
    from actorvisor.abc import Place


class Frozen(Exception):
    """As a frozen dataclass is: it takes no notes."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"cannot assign to {name!r}")


class Scribbled(Exception):
    """Its notes are none."""

    def __init__(self) -> None:
        self.__notes__ = 5  # type: ignore[assignment]


class Empty(Exception):
    """One that is false, as a collection of errors may be."""

    def __len__(self) -> int:
        return 0


ODD = (Frozen, Scribbled, Empty)


class Plain(av.Service):
    def crash(self, error: BaseException) -> None:
        raise error

    def one(self) -> int:
        return 1

    async def sleep(self, seconds: float, what: object = None) -> None:
        await trio.sleep(seconds)


class Stillborn(av.Service):
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def setup(self) -> None:
        raise self.error


# M9, L3
@pytest.mark.parametrize("kind", ODD)
async def test_an_odd_exception_reaches_who_started_a_tree(kind: type[Exception]) -> None:
    async with av.open_host() as host:
        tree = av.Supervisor([av.Application(Stillborn, kind())], name="tree")
        with pytest.raises(kind):
            await host.start(tree)
        assert await (await host.start(av.Application(Plain))).ask(Plain.one) == 1


# S8
@pytest.mark.parametrize("kind", ODD)
async def test_an_odd_exception_reaches_the_host(kind: type[Exception]) -> None:
    error = kind()
    with pytest.RaisesGroup(kind) as caught:
        async with av.open_host(max_restarts=0) as host:
            plain = await host.start(av.Application(Plain))
            await plain.tell(Plain.crash, error)
            await trio.sleep_forever()
    assert caught.value.exceptions[0] is error


# H7
@pytest.mark.parametrize("kind", ODD)
async def test_an_odd_exception_leaves_a_supervised_nursery(kind: type[Exception]) -> None:
    error = kind()

    async def fail() -> None:
        await trio.lowlevel.checkpoint()
        raise error

    with pytest.RaisesGroup(kind) as caught:
        async with av.open_supervised_nursery(max_restarts=0) as nursery:
            nursery.start_soon(fail)
    assert caught.value.exceptions[0] is error


class Handler(logging.Handler):
    """What is logged is handed to a function; what that raises is raised."""

    def __init__(self, hear: Callable[[logging.LogRecord], object]) -> None:
        super().__init__()
        self.hear = hear

    def emit(self, record: logging.LogRecord) -> None:
        self.hear(record)


@pytest.fixture
def listen() -> Iterator[Callable[[Callable[[logging.LogRecord], object]], None]]:
    logger = logging.getLogger("actorvisor")
    level, handlers = logger.level, []

    def add(hear: Callable[[logging.LogRecord], object]) -> None:
        handlers.append(handler := Handler(hear))
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)

    yield add
    for handler in handlers:
        logger.removeHandler(handler)
    logger.setLevel(level)


# O5
async def test_a_handler_of_logging_that_raises_breaks_nothing(
    listen: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def hear(record: logging.LogRecord) -> None:
        raise OSError("no space left")

    listen(hear)
    async with av.open_host([av.Supervisor([av.Application(Plain)], name="tree")]) as host:
        plain = host.find("tree/Plain", Plain)
        with pytest.raises(av.ServiceCrashed):
            await plain.ask(Plain.crash, ValueError())
        assert await plain.ask(Plain.one) == 1
        assert plain.incarnation == 2
    assert "OSError: no space left" in capsys.readouterr().err


async def test_a_record_says_who_logged_it(listen: Any) -> None:
    records: list[logging.LogRecord] = []
    listen(records.append)
    async with av.open_host() as host:
        plain = await host.start(av.Application(Plain))
        with pytest.raises(av.ServiceCrashed):
            await plain.ask(Plain.crash, ValueError())
    assert {one.funcName for one in records} == {"__call__", "_letter", "_failure"}


class Interrupting:
    def __repr__(self) -> str:
        raise KeyboardInterrupt


# M9, H1
def test_a_ctrl_c_in_the_midst_of_a_decision_ends_the_host() -> None:
    async def main() -> None:
        async with av.open_host(drain=0) as host:
            plain = await host.start(av.Application(Plain))
            await plain.tell(Plain.sleep, 50)
            await plain.tell(Plain.sleep, 50, Interrupting())
            await plain.stop(drain=0, grace=0)

    with pytest.raises(KeyboardInterrupt):
        trio.run(main, clock=MockClock(autojump_threshold=0))


class Wrapping(av.Executor):
    has_loop = True
    has_thread = False

    def open(self, nursery: trio.Nursery) -> AbstractAsyncContextManager[Place]:
        return av.AsyncExecutor().open(nursery)


class Unequal(Wrapping):
    """An executor that cannot be looked up."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("eq")

    def __hash__(self) -> int:
        return 1


# H1, S7: nothing hangs, whatever a supervisor fails of.
async def test_who_waits_for_a_supervisor_that_fails_is_told() -> None:
    told: list[str] = []
    with pytest.RaisesGroup(ValueError):
        async with av.open_host() as host:
            declared = av.Application(Plain, name="declared", executor=Unequal())
            tree = await host.start(av.Supervisor([declared], name="tree"))
            child = host.find("tree/declared", Plain)

            async def wait() -> None:
                try:
                    await child.stopped()
                except av.ControlRefused as error:
                    told.append(str(error))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await trio.sleep(0.1)
                try:
                    await tree.start(av.Application(Plain, name="b", executor=Unequal()))
                except av.ControlRefused as error:
                    told.append(str(error))
            await trio.sleep_forever()
    assert sorted(told) == [
        "host/tree/b: its supervisor has failed",
        "host/tree/declared: its supervisor has failed",
    ]


@dataclass
class Unhashable(Wrapping):
    size: int = 1


# E1
def test_an_executor_that_has_no_hash_is_refused() -> None:
    with pytest.raises(TypeError, match=r"executor= must be hashable, and Unhashable\(size=1\)"):
        av.Application(Plain, executor=Unhashable())


class Unprintable(Wrapping):
    def __repr__(self) -> str:
        raise ValueError("repr")


class Failing(Unprintable):
    @asynccontextmanager
    async def open(self, nursery: trio.Nursery) -> AsyncGenerator[Place, None]:
        raise OSError("no place")
        yield


# O5, E1
async def test_an_executor_that_cannot_be_printed() -> None:
    async with av.open_host() as host:
        plain = await host.start(av.Application(Plain, executor=Unprintable()))
        assert await plain.ask(Plain.one) == 1
        with pytest.raises(av.ExecutorFailed, match="Failing: repr raised ValueError"):
            await host.start(av.Application(Plain, executor=Failing()))


class Every(av.Service):
    def __init__(self, period: float) -> None:
        self.period = period
        self.calls = 0

    def setup(self) -> None:
        self.every(self.period, self.tick)

    def tick(self) -> None:
        self.calls += 1

    def count(self) -> int:
        return self.calls


# M1: what is late is left out, and the loop goes on.
@pytest.mark.parametrize("period", [1e-9, 1e-20, 5e-324])
def test_a_period_that_no_clock_resolves_does_not_hold_up_the_loop(period: float) -> None:
    async def main() -> None:
        async with av.open_host() as host:
            every = await host.start(av.Application(Every, period))
            await trio.sleep(0.01)
            assert await every.ask(Every.count) > 1

    trio.run(main)


async def test_a_long_time_without_a_turn_is_not_made_up_for(autojump_clock: MockClock) -> None:
    async with av.open_host() as host:
        every = await host.start(av.Application(Every, 0.01))
        autojump_clock.jump(1e7 + 0.005)
        await trio.sleep(0.001)
        assert await every.ask(Every.count) == 1
        # In step with when it began, too.
        await trio.sleep(0.0035)
        assert await every.ask(Every.count) == 1
        await trio.sleep(0.001)
        assert await every.ask(Every.count) == 2


class Exposed(av.Service):
    """Hands itself out: what is called on it comes from elsewhere."""

    lives: list[Exposed]

    def __init__(self) -> None:
        self.promise: av.LaterReply | None = None

    def setup(self) -> None:
        self.lives.append(self)
        self.timer = self.after(1000, self.nothing)

    def nothing(self) -> None:
        pass

    def crash(self) -> None:
        raise ValueError

    def later(self) -> object:
        self.promise = self.reply_later()
        return None

    def promised(self) -> av.LaterReply:
        assert self.promise is not None
        return self.promise

    async def sleep(self, seconds: float) -> str:
        await trio.sleep(seconds)
        return "slept"

    def receive(self, message: object) -> None:
        pass


@pytest.fixture
async def exposed() -> AsyncGenerator[tuple[av.Ref[Exposed], Exposed]]:
    Exposed.lives = []
    async with av.open_host(drain=0) as host:
        ref = await host.start(av.Application(Exposed))
        yield ref, Exposed.lives[0]


THINGS: dict[str, Callable[[Exposed], object]] = {
    "after": lambda one: one.after(1, one.nothing),
    "every": lambda one: one.every(1, one.nothing),
    "monitor": lambda one: one.monitor(one.ref),
    "reply_later": lambda one: one.reply_later(),
    "start_soon": lambda one: one.start_soon(trio.sleep, 1),
}
IN_THREADS: dict[str, Callable[[Exposed], object]] = {
    **THINGS,
    "stop": lambda one: one.stop(),
    "cancel": lambda one: one.timer.cancel(),
    "send": lambda one: one.promised().send(1),
    "reject": lambda one: one.promised().reject(av.Rejection()),
}


# E3, M5: it was a hang, whoever idled or had asked.
@pytest.mark.parametrize("what", IN_THREADS)
async def test_a_service_on_the_loop_is_used_in_a_thread(
    exposed: tuple[av.Ref[Exposed], Exposed], what: str
) -> None:
    ref, service = exposed
    answers: list[object] = []

    async def ask() -> None:
        answers.append(await ref.ask(Exposed.later))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        with pytest.raises(RuntimeError, match=r"use trio\.from_thread\.run_sync"):
            await trio.to_thread.run_sync(IN_THREADS[what], service)
        service.promised().send(2)
    assert answers == [2]
    await ref.ask(Exposed.nothing)


# L8: a life that is over does nothing to the next one.
@pytest.mark.parametrize("what", THINGS)
async def test_a_service_is_used_after_its_life(
    exposed: tuple[av.Ref[Exposed], Exposed], what: str
) -> None:
    ref, service = exposed
    await ref.tell(Exposed.crash)
    answers: list[str] = []

    async def ask() -> None:
        answers.append(await ref.ask(Exposed.sleep, 0.01))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        with pytest.raises(RuntimeError, match=r"life of host/Exposed has ended|is ending"):
            THINGS[what](service)
        service.stop()
    assert answers == ["slept"]
    assert ref.incarnation == 2


# M7: a handler cannot take the mail of its own service, under no executor.
async def test_a_handler_that_reads_the_mailbox() -> None:
    class Reading(av.Service):
        async def read(self) -> object:
            return await self.mailbox.receive()

    async with av.open_host() as host:
        reading = await host.start(av.Application(Reading))
        with pytest.raises(av.ServiceCrashed) as caught:
            await reading.ask(Reading.read)
        assert isinstance(caught.value.__cause__, RuntimeError)
        assert "has handlers, which get its mail" in str(caught.value.__cause__)


# M7
async def test_two_tasks_read_one_mailbox() -> None:
    errors: list[Exception] = []

    class Both(av.Service):
        async def run(self) -> None:
            async with trio.open_nursery() as nursery:
                for _ in range(2):
                    nursery.start_soon(self.read)

        async def read(self) -> None:
            try:
                async for _ in self.mailbox:
                    await trio.lowlevel.checkpoint()
            except trio.BusyResourceError as error:
                errors.append(error)

    async with av.open_host() as host:
        both = await host.start(av.Application(Both, restart="temporary"))
        for number in range(5):
            await both.send(number)
        await wait_all_tasks_blocked()
        mail = host.statistics().mail
        assert (mail.accepted, mail.handled, mail.in_hand) == (5, 5, 0)
    assert [str(error) for error in errors] == ["another task of host/Both reads its mailbox"]


# M7: who is told of a dead letter can cancel the ask that it was.
@pytest.mark.parametrize("how", ["crash", "stop", "left", "drop"])
async def test_a_dead_letter_makes_somebody_cancel_its_ask(listen: Any, how: str) -> None:
    scope = trio.CancelScope()
    its_own = "crash(" if how == "crash" else "sleep(10)"

    def hear(record: logging.LogRecord) -> None:
        if record.getMessage().partition("): ")[2].startswith(its_own):
            scope.cancel()

    listen(hear)
    drops = how == "drop"
    app = av.Application(Plain, mailbox=1, overflow="drop_oldest" if drops else "wait")
    async with av.open_host(drain=0) as host:
        plain = await host.start(app)

        async def ask() -> None:
            with scope:
                with contextlib.suppress(av.ActorvisorError):
                    if how == "crash":
                        await plain.ask(Plain.crash, ValueError())
                    else:
                        await plain.ask(Plain.sleep, 10)

        async with trio.open_nursery() as nursery:
            if how in {"left", "drop"}:
                await plain.tell(Plain.sleep, 1)
                await wait_all_tasks_blocked()
            nursery.start_soon(ask)
            await wait_all_tasks_blocked()
            if drops:
                plain.tell_nowait(Plain.one)
            elif how != "crash":
                await plain.stop(drain=0, grace=0)
            await plain.stopped() if how in {"stop", "left"} else await trio.sleep(2)
        assert scope.cancel_called
        mail = host.statistics().mail
        assert (mail.withdrawn, mail.waiting, mail.in_hand) == (0, 0, 0)
        assert mail.accepted == mail.handled + mail.dead_letters


@dataclass(frozen=True)
class FrozenService(av.Service):
    value: int

    def get(self) -> int:
        return self.value


class Guarded(av.Service):
    """Keeps its attributes elsewhere, once it has a place for them."""

    def __init__(self) -> None:
        object.__setattr__(self, "kept", {})

    def __setattr__(self, name: str, value: object) -> None:
        self.kept[name] = value

    def __getattr__(self, name: str) -> Any:
        return self.kept[name]

    def get(self) -> str:
        self.path = self.ref.path
        return str(self.path)


# L6
@pytest.mark.parametrize("executor", [av.AsyncExecutor(), av.ThreadExecutor()])
async def test_a_service_that_refuses_attributes(executor: av.Executor) -> None:
    async with av.open_host() as host:
        frozen = await host.start(av.Application(FrozenService, 3, executor=executor))
        assert await frozen.ask(FrozenService.get) == 3
        guarded = await host.start(av.Application(Guarded, executor=executor))
        assert await guarded.ask(Guarded.get) == "host/Guarded"


async def test_a_class_that_makes_something_else() -> None:
    class Other(av.Service):
        def __new__(cls) -> Any:
            return 5

    async with av.open_host() as host:
        with pytest.raises(TypeError, match=r"Other\.__new__ gave 5, which is none"):
            await host.start(av.Application(Other))


_T = TypeVar("_T")


class Box(av.Service, Generic[_T]):
    def get(self) -> None:
        pass


async def test_what_is_given_instead_of_a_class_or_a_method_is_named() -> None:
    app: Any = av.Application
    with pytest.raises(
        TypeError, match=r"parameters, .* pass the class itself: Application\(Box, "
    ):
        app(Box[int])
    async with av.open_host() as host:
        box: Any = await host.start(av.Application(Box))
        for call in (box.ask, box.tell, box.if_running.ask):
            with pytest.raises(TypeError, match=r"\[1\] is no method; name one of Box's own"):
                await call([1])
        with pytest.raises(TypeError, match=r"\{'a': 1\} is no method; name one of Box's own"):
            box.tell_nowait({"a": 1})


# M9: bare, if it is the only cause.
def test_a_ctrl_c_in_a_setup_that_was_asked_for_is_one() -> None:
    async def main() -> None:
        async with av.open_host() as host:
            await host.start(av.Application(Stillborn, KeyboardInterrupt()))

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)


# H5
def test_a_thread_is_told_that_a_host_has_ended_in_words() -> None:
    async def main() -> av.Ref[Plain]:
        async with av.open_host() as host:
            return await host.start(av.Application(Plain))

    with ThreadPoolExecutor() as pool:
        plain = pool.submit(trio.run, main).result()
    with pytest.raises(av.ServiceStopped, match=r"^host/Plain is gone: its host has ended$"):
        plain.blocking.ask(Plain.one)
