"""Services in threads, where they differ from coroutines: what the conformance suite leaves open.

Real threads take real time: no virtual clock here, but events, and a deadline for each test.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NoReturn

import pytest
import trio

import actorvisor as av
from tests.runtime.account import check_account

THREADS = av.ThreadExecutor()
Work = Callable[[Any], Any]


class Fault(Exception):
    """What crashes on purpose."""


class Refused(av.Rejection):
    """What is answered on purpose."""


class Worker(av.Service):
    """Does in its thread what it is told to do."""

    def do(self, work: Work) -> Any:
        return work(self)

    def name(self) -> str:
        return threading.current_thread().name


class Signal:
    """An event that a thread and the loop can both set and wait for."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def block(self) -> None:
        """In a thread."""
        assert self._event.wait(20)

    async def heard(self) -> None:
        """On the loop."""
        await until(self._event.is_set)

    @property
    def given(self) -> bool:
        return self._event.is_set()


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110
        await trio.sleep(0.001)


@asynccontextmanager
async def opened(*children: Any, **options: Any) -> AsyncGenerator[av.Host, None]:
    """A host with a deadline; at its end the account is right, and no thread is left."""
    with trio.fail_after(20):
        async with av.open_host(children, **options) as host:
            yield host
        check_account(host)
        await until(lambda: not service_threads())


def service_threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("host/")]


def worker(**options: Any) -> av.Application[Worker]:
    declare: Any = av.Application
    app: av.Application[Worker] = declare(
        Worker, **{"executor": THREADS, "name": "worker"} | options
    )
    return app


async def call(function: Callable[..., Any], *args: Any) -> Any:
    """Call something in a thread that is no service's; cancelled, it is left to end by itself."""
    return await trio.to_thread.run_sync(function, *args, abandon_on_cancel=True)


def caught(function: Callable[..., Any], *args: Any) -> object:
    try:
        return function(*args)
    except BaseException as error:  # noqa: ASYNC103
        return error  # noqa: ASYNC104


def fail(self: object) -> NoReturn:
    raise Fault("boom")


def hold(entered: Signal, leave: Signal, value: object = "late") -> Work:
    """What a handler does that says when it was entered, and waits until it is let go."""

    def work(self: Worker) -> object:
        entered.set()
        leave.block()
        return value

    return work


def in_turn(*calls: Callable[[], object]) -> Work:
    """What a handler does that calls all of these."""

    def work(self: object) -> None:
        for one in calls:
            one()

    return work


def until_stopping() -> None:
    """In a thread."""
    while not av.stopping():
        threading.Event().wait(0.001)


@contextmanager
def two() -> Iterator[tuple[Signal, Signal]]:
    """Two signals; whatever waits for the second is let go at the end."""
    first, second = Signal(), Signal()
    try:
        yield first, second
    finally:
        second.set()


# --- threads and their limits ------------------------------------------------------------------


async def test_each_life_is_one_thread_that_has_its_name() -> None:
    # E1: a thread of its own for each incarnation, named by its path, from setup to teardown.
    seen: list[tuple[str, int]] = []

    class Named(Worker):
        def note(self) -> None:
            seen.append((threading.current_thread().name, threading.get_ident()))

        def setup(self) -> None:
            self.note()

        def teardown(self, reason: av.ExitReason) -> None:
            self.note()

    async with opened() as host:
        ref = await host.start(av.Application(Named, name="named", executor=THREADS))
        for _ in range(3):
            await ref.ask(Named.note)
        with two() as (entered, leave):
            await ref.ask(Worker.do, lambda self: self.start_soon(hold(entered, leave), self))
            await entered.heard()
            assert service_threads() == ["host/named", "host/named"]
        await ref.stop()
    assert {name for name, _ in seen} == {"host/named"}
    assert len(seen) == 5
    assert len({ident for _, ident in seen}) == 1
    assert seen[0][1] != threading.get_ident()


async def test_any_number_of_threads_whatever_trios_own_limit_is() -> None:
    # E1, issue: the limiter is the executor's own, and not trio's default of 40.
    default = trio.to_thread.current_default_thread_limiter()
    count = int(default.total_tokens) + 20
    entered = [Signal() for _ in range(count)]
    leave = Signal()
    async with opened() as host:
        refs = [await host.start(worker(name=f"w{one}")) for one in range(count)]
        for ref, signal in zip(refs, entered, strict=True):
            await ref.tell(Worker.do, hold(signal, leave))
        for signal in entered:
            await signal.heard()
        assert default.borrowed_tokens == 0
        assert len(service_threads()) == count
        leave.set()


async def test_a_limit_refuses_one_more_and_the_next_starts_when_there_is_room() -> None:
    # L3: no thread is that child's failed start. I4: its name is free when that raises.
    limited = av.ThreadExecutor(2)
    async with opened() as host:
        children = [worker(name=name, executor=limited) for name in ("first", "second")]
        tree = await host.start(av.Supervisor(children, name="tree"))
        first, second = [host.find(f"tree/{name}", Worker) for name in ("first", "second")]
        with pytest.raises(av.ThreadLimitReached) as refusal:
            await tree.start(worker(name="third", executor=limited))
        error = refusal.value
        assert (error.path, error.limit, error.what) == ("host/tree/third", 2, "running")
        assert "host/tree/third needs a thread, and there are 2 running ones" in str(error)
        with pytest.raises(LookupError):
            host.find("tree/third", Worker)
        assert tree.children() == (first, second)
        # Those that run are not disturbed, and a restart needs no third thread.
        assert await second.ask(Worker.name) == "host/tree/second"
        with pytest.raises(av.ServiceCrashed):
            await first.ask(Worker.do, fail)
        assert await first.ask(Worker.name) == "host/tree/first"
        assert first.incarnation == 2
        await first.restart()
        await second.stop()
        third = await tree.start(worker(name="third", executor=limited))
        assert await third.ask(Worker.name) == "host/tree/third"
        with pytest.raises(av.ThreadLimitReached):
            await second.start()
        await third.remove()
        await second.start()


async def test_limits_are_counted_for_each_executor_under_each_supervisor() -> None:
    # E1: one executor actor for each distinct value under one supervisor.
    one, same, other = av.ThreadExecutor(1), av.ThreadExecutor(1), av.ThreadExecutor(2)
    assert one == same != other
    async with opened() as host:
        left = await host.start(av.Supervisor([worker(executor=one)], name="left"))
        with pytest.raises(av.ThreadLimitReached):
            await left.start(worker(name="w2", executor=same))
        await left.start(worker(name="w3", executor=other))
        await left.start(worker(name="w4", executor=other))
        with pytest.raises(av.ThreadLimitReached):
            await left.start(worker(name="w5", executor=other))
        await left.start(worker(name="w6", executor=THREADS))
        await host.start(av.Supervisor([worker(executor=same)], name="right"))
        assert sorted(service_threads()) == [
            *(f"host/left/w{n}" for n in (3, 4, 6)),  # not 2, not 5
            "host/left/worker",
            "host/right/worker",
        ]


async def test_background_threads_count_and_a_refused_one_is_an_error_in_the_handler() -> None:
    # L3, E3: start_soon takes a thread of its own, that counts.
    limited = av.ThreadExecutor(2)
    async with opened() as host:
        ref = await host.start(worker(executor=limited))
        with two() as (entered, leave):

            def work(self: Worker) -> object:
                self.start_soon(hold(entered, leave), self)
                entered.block()
                return caught(self.start_soon, fail, self)

            error = await ref.ask(Worker.do, work)
            assert isinstance(error, av.ThreadLimitReached)
            with pytest.raises(av.ThreadLimitReached):
                await host.start(worker(name="other", executor=limited))
        # Its end gives the place back, as soon as the loop hears of it.
        other: av.Ref[Worker] | None = None
        while other is None:
            with contextlib.suppress(av.ThreadLimitReached):
                other = await host.start(worker(name="other", executor=limited))
        assert (ref.incarnation, other.incarnation) == (1, 1)


async def test_a_limit_on_a_restart_is_a_crash_that_is_tried_again() -> None:
    # L3: on a restart it counts as a crash. S3
    limited = av.ThreadExecutor(1)
    async with opened(on_limit="drop", max_restarts=2) as host:
        first = await host.start(worker(executor=limited, backoff=av.Fixed(0.3)))
        await first.tell(Worker.do, fail)
        await until(lambda: first.state == "backing_off")
        second = await host.start(worker(name="second", executor=limited))
        reason = await first.stopped()
        assert isinstance(reason, av.GaveUp)
        assert isinstance(reason.last, av.Crashed)
        assert isinstance(reason.last.exception, av.ThreadLimitReached)
        assert await second.ask(Worker.name) == "host/second"


async def test_no_thread_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    # L3: the RuntimeError of a thread that cannot be made is a failed start, and costs nothing.
    failures = 0
    real = trio.to_thread.run_sync

    async def run_sync(*args: Any, **options: Any) -> Any:
        nonlocal failures
        if failures:
            failures -= 1
            await trio.lowlevel.checkpoint()
            raise RuntimeError("can't start new thread")
        return await real(*args, **options)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)
    async with opened() as host:
        ref = await host.start(worker(executor=av.ThreadExecutor(2)))
        failures = 1
        with pytest.raises(RuntimeError, match="can't start new thread"):
            await host.start(worker(name="other", executor=av.ThreadExecutor(2)))
        # In the background it is the crash of the service: nobody is there to hear of it.
        failures = 1

        def work(self: Worker) -> None:
            self.start_soon(fail, self)
            until_stopping()

        with pytest.raises(av.ServiceCrashed) as crash:
            await ref.ask(Worker.do, work)
        assert isinstance(crash.value.__cause__, RuntimeError)
        assert await ref.ask(Worker.name) == "host/worker"
        other = await host.start(worker(name="other", executor=av.ThreadExecutor(2)))
        assert await other.ask(Worker.name) == "host/other"


# --- the end -----------------------------------------------------------------------------------


async def test_a_busy_handler_sees_that_it_is_to_stop() -> None:
    # L4, E3: `self.stopping` and `av.stopping()`, in whatever the handler calls.
    seen: list[bool] = []

    def long(entered: Signal, self: Worker) -> str:
        seen.extend((self.stopping, av.stopping()))
        entered.set()
        until_stopping()
        seen.extend((self.stopping, av.stopping()))
        return "early"

    async with opened() as host:
        ref = await host.start(worker(grace=10))
        entered = Signal()
        async with trio.open_nursery() as nursery:
            answers: list[object] = []

            async def ask() -> None:
                answers.append(await ref.ask(Worker.do, functools.partial(long, entered)))

            nursery.start_soon(ask)
            await entered.heard()
            assert await ref.stop(drain=0) == av.Stopped()
        assert answers == ["early"]
        assert seen == [False, False, True, True]
        assert not av.stopping()
        assert await call(av.stopping) is False


async def test_functions_and_background_threads_see_it_too() -> None:
    # E3: start_soon's functions see `self.stopping`, functions `av.stopping()`.
    ended: list[str] = []
    beside_runs = Signal()

    def loop() -> str:
        until_stopping()
        ended.append("function")
        return "value"

    def beside(self: Worker) -> None:
        beside_runs.set()
        while not self.stopping:
            threading.Event().wait(0.001)
        assert av.stopping()
        ended.append("background")

    async with opened() as host:
        function = await host.start(av.Application(loop, executor=THREADS))
        ref = await host.start(worker())
        await ref.ask(Worker.do, lambda self: self.start_soon(beside, self))
        await beside_runs.heard()
        assert ended == []
        assert await function.stop() == av.Stopped()
        assert ended == ["function"]
        assert await ref.stop() == av.Stopped()
        assert ended == ["function", "background"]


class Reader(av.Service):
    """Reads its mail in a loop of its own, one way or the other."""

    def __init__(self, how: str, seen: list[object]) -> None:
        self.how = how
        self.seen = seen

    def run(self) -> str:
        if self.how == "for":
            for message in self.mailbox:
                self.take(message)
            return "read out"
        while True:
            try:
                self.take(self.mailbox.receive())
            except trio.EndOfChannel:
                return "end of channel"

    def take(self, message: Any) -> None:
        self.seen.append(message)
        if callable(message):
            message(self)


@pytest.mark.parametrize("how", ["for", "receive"])
async def test_a_blocked_read_wakes_at_a_stop(how: str) -> None:
    # L4: an idle service stops at once, whatever its grace is.
    seen: list[object] = []
    app = av.Application(Reader, how, seen, executor=THREADS, grace=1000, restart="transient")
    async with opened(app) as host:
        ref = host.find("Reader", Reader)
        await ref.send(1)
        await until(lambda: seen == [1])
        assert await ref.stop() == av.Stopped()
        await ref.start()
        await ref.send(lambda self: self.stop())
        value = {"for": "read out", "receive": "end of channel"}[how]
        assert await ref.stopped() == av.Completed(value)


async def test_a_stop_between_two_reads_leaves_the_rest_unread() -> None:
    # L4, M6: what waits is not read any more; M7: what was read is handled at the next read.
    seen: list[object] = []
    async with opened() as host:
        ref = await host.start(av.Application(Reader, "for", seen, executor=THREADS))
        with two() as (entered, leave):
            await ref.send(in_turn(entered.set, leave.block))
            await ref.send("unread")
            await entered.heard()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(functools.partial(ref.stop, drain=0, grace=10))
                await until(lambda: ref.state == "stopping")
                leave.set()
        assert seen[1:] == []
        mail = check_account(host)
        assert (mail.accepted, mail.handled, mail.dead_letters) == (2, 1, 1)


async def test_one_reader_at_a_time_and_only_of_a_run() -> None:
    # M1: one reader. The mail of a service with handlers is theirs.
    async with opened() as host:
        ref = await host.start(worker())
        error = await ref.ask(Worker.do, lambda self: caught(lambda: self.mailbox))
        assert isinstance(error, RuntimeError)
        assert "host/worker has handlers, which get its mail" in str(error)
        errors: list[object] = []
        reader = await host.start(av.Application(Reader, "for", [], executor=THREADS))
        go = Signal()

        def beside(self: Reader) -> None:
            go.block()
            errors.append(caught(self.mailbox.receive))

        await reader.send(lambda self: self.start_soon(beside, self))
        # What was read is done at the next read, which waits.
        await until(lambda: host.statistics().mailboxes["host/Reader"].handled == 1)
        go.set()
        await until(lambda: bool(errors))
        assert isinstance(errors[0], trio.BusyResourceError)
        assert "another thread of host/Reader" in str(errors[0])
        assert reader.incarnation == 1


async def test_a_plain_for_in_a_thread_only() -> None:
    errors: list[object] = []
    async with opened() as host:
        ref = await host.start(av.Application(Reader, "for", [], executor=THREADS))
        await ref.send(lambda self: errors.append(caught(lambda: self.mailbox.__aiter__())))
        await until(lambda: bool(errors))
        assert isinstance(errors[0], TypeError)
        assert "plain `for`" in str(errors[0])


# --- threads that are left behind ----------------------------------------------------------------


async def test_an_abandoned_thread_is_reported_and_its_place_is_free(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # L2, L4: after grace a thread is abandoned. L8: it is released from the executor's own count.
    caplog.set_level(logging.INFO, "actorvisor")
    limited = av.ThreadExecutor(1)
    async with opened(worker(executor=limited, grace=0.05)) as host:
        ref = host.find("worker", Worker)
        with two() as (entered, leave):
            await ref.tell(Worker.do, hold(entered, leave))
            await entered.heard()
            assert await ref.stop(drain=0) == av.Abandoned("handler")
            assert host.statistics().abandoned == 1
            assert service_threads() == ["host/worker"]
            assert any(
                record.levelno == logging.ERROR
                and "host/worker: a thread did not end in time (in its handler)" in record.message
                and getattr(record, "path", None) == "host/worker"
                for record in caplog.records
            )
            other = await host.start(worker(name="other", executor=limited))
            await other.stop()
            await ref.start()
            assert await ref.ask(Worker.name) == "host/worker"
            assert len(service_threads()) == 2
        await until(lambda: host.statistics().abandoned == 0)
        assert any("an abandoned thread of host/worker has ended" in one for one in caplog.messages)
        with pytest.raises(av.ThreadLimitReached):  # its end has freed nothing twice
            await host.start(worker(name="other", executor=limited))


async def test_an_abandoned_thread_is_fenced() -> None:
    # L8: everything through its `self` raises ServiceAbandoned.
    class Zombie(Worker):
        def receive(self, message: object) -> None:
            pass

    errors: dict[str, object] = {}
    done = Signal()
    seen: list[object] = []
    async with opened() as host:
        witness = await host.start(av.Application(Reader, "for", seen, executor=THREADS))
        with two() as (entered, leave):

            def work(self: Worker) -> str:
                ref, timer, later = self.ref, self.after(60, Worker.name), self.reply_later()
                sibling = self.find("../Reader", Reader)
                entered.set()
                leave.block()
                for name, late in {
                    "ref": lambda: self.ref,
                    "find": lambda: self.find("../Reader", Reader),
                    "stop": self.stop,
                    "after": lambda: self.after(0, Worker.name),
                    "every": lambda: self.every(1, Worker.name),
                    "monitor": lambda: self.monitor(sibling),
                    "start_soon": lambda: self.start_soon(fail, self),
                    "reply_later": self.reply_later,
                    "timer": timer.cancel,
                    "send a reply": lambda: later.send("late"),
                    "reject": lambda: later.reject(Refused()),
                    "its own ref": lambda: ref.blocking.tell(Worker.name),
                    "tell": lambda: sibling.blocking.send("late"),
                    "ask": lambda: ref.blocking.ask(Worker.name),
                }.items():
                    errors[name] = caught(late)
                assert self.stopping
                assert av.stopping()
                done.set()
                return "late"

            zombie = await host.start(
                av.Application(Zombie, name="zombie", executor=THREADS, grace=0.05)
            )
            async with trio.open_nursery() as nursery:
                nursery.start_soon(expect_crash, zombie, work)
                await entered.heard()
                await zombie.restart()
            leave.set()
            await done.heard()
        await until(lambda: host.statistics().abandoned == 0)
        await witness.send("on time")
        await until(lambda: bool(seen))
        assert seen == ["on time"]
        wrong = {name: one for name, one in errors.items() if type(one) is not av.ServiceAbandoned}
        assert not wrong
        assert len(errors) == 14
        assert "this thread of host/zombie did not stop in time" in str(errors["stop"])
        # Its successor has noticed nothing.
        assert await zombie.ask(Worker.name) == "host/zombie"
        assert zombie.incarnation == 2
        mail = host.statistics().mailboxes["host/zombie"]
        assert (mail.accepted, mail.handled, mail.dead_letters) == (2, 1, 1)


async def expect_crash(ref: av.Ref[Any], work: Work) -> None:
    with pytest.raises(av.ServiceCrashed):
        await ref.ask(Worker.do, work)


@pytest.mark.parametrize("end", ["returns", "raises", "rejects"])
async def test_what_an_abandoned_handler_returns_or_raises_disturbs_nobody(end: str) -> None:
    # L8: its message is a dead letter, also with redeliver. M5: its asker is told at once.
    answers: list[object] = []
    async with opened(worker(grace=0.05, redeliver=3)) as host:
        ref = host.find("worker", Worker)
        with two() as (entered, leave), two() as (inside, go):

            def work(self: Worker) -> str:
                entered.set()
                leave.block()
                if end == "raises":
                    raise Fault("late")
                if end == "rejects":
                    raise Refused("late")
                return "late"

            async def ask() -> None:
                answers.append(await ref.ask(Worker.do, hold(inside, go, "new")))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(expect_crash, ref, work)
                await entered.heard()
                await ref.restart()
            # The next life has a message in hand while the old thread comes to its end.
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                await inside.heard()
                leave.set()
                await until(lambda: host.statistics().abandoned == 0)
                assert check_account(host).in_hand == 1
                go.set()
        assert answers == ["new"]
        assert ref.incarnation == 2
        mail = check_account(host)
        assert (mail.handled, mail.rejected, mail.dead_letters, mail.late_replies) == (1, 0, 1, 0)


async def test_a_final_stop_tells_the_asker_of_an_abandoned_handler() -> None:
    # M5: in a final stop it is a dead letter whose asker gets ServiceStopped.
    async with opened() as host:
        ref = await host.start(worker(grace=0.05))
        with two() as (entered, leave):

            async def ask() -> None:
                with pytest.raises(av.ServiceStopped) as stopped:
                    await ref.ask(Worker.do, hold(entered, leave))
                assert stopped.value.reason == av.Abandoned("handler")

            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                await entered.heard()
                await ref.stop(drain=0)
        assert check_account(host).dead_letters == 1


async def test_too_many_abandoned_threads_fail_starts_until_they_end() -> None:
    # L8: beyond `max_abandoned` thread starts fail.
    async with opened(max_abandoned=1) as host:
        with two() as (entered, leave):
            for number in range(2):
                ref = await host.start(worker(name=f"stuck-{number}", grace=0.02))
                await ref.tell(Worker.do, hold(entered := Signal(), leave))
                await entered.heard()
                await ref.stop(drain=0)
            assert host.statistics().abandoned == 2
            with pytest.raises(av.ThreadLimitReached) as refusal:
                await host.start(worker())
            assert (refusal.value.limit, refusal.value.what) == (1, "abandoned")

            async def fine() -> str:
                await trio.lowlevel.checkpoint()
                return "fine"

            coroutine = await host.start(av.Application(fine))
            assert await coroutine.stopped() == av.Completed("fine")
        await until(lambda: host.statistics().abandoned == 0)
        ref = await host.start(worker())
        assert await ref.ask(Worker.name) == "host/worker"


async def test_setup_teardown_and_background_threads_can_be_abandoned() -> None:
    # L3, L4: start_timeout and grace end each phase. L5: a crash stays the reason.
    class Stuck(Worker):
        def __init__(self, where: str, entered: Signal, leave: Signal) -> None:
            self.where, self.entered, self.leave = where, entered, leave

        def setup(self) -> None:
            if self.where == "setup":
                hold(self.entered, self.leave)(self)

        def teardown(self, reason: av.ExitReason) -> None:
            if self.where == "teardown":
                hold(self.entered, self.leave)(self)

    def stuck(where: str, entered: Signal, leave: Signal) -> av.Application[Stuck]:
        return av.Application(
            Stuck,
            where,
            entered,
            leave,
            name=where,
            executor=THREADS,
            grace=0.05,
            start_timeout=0.05 if where == "setup" else 20,
            restart="temporary",
        )

    async with opened() as host:
        with two() as (entered, leave):
            with pytest.raises(av.StartTimeout) as late:
                await host.start(stuck("setup", entered, leave))
            assert late.value.path == "host/setup"
            assert host.statistics().abandoned == 1

            ref = await host.start(stuck("teardown", entered, leave))
            assert await ref.stop() == av.Abandoned("teardown")
            ref = await host.start(stuck("teardown", entered, leave))
            await ref.tell(Worker.do, fail)
            reason = await ref.stopped()
            assert isinstance(reason, av.Crashed)
            assert isinstance(reason.exception, Fault)

            ref = await host.start(stuck("background", entered, leave))
            inside = Signal()
            beside = functools.partial(hold(inside, leave), None)
            await ref.ask(Worker.do, lambda self: self.start_soon(beside))
            await inside.heard()
            assert isinstance(await ref.stop(), av.Abandoned)
            # Of its two threads one is told so at once, and ends.
            await until(lambda: host.statistics().abandoned == 4)
        await until(lambda: host.statistics().abandoned == 0)


async def test_a_restart_policy_sees_an_abandoned_thread_as_a_failure() -> None:
    # S1: transient restarts after Abandoned. L8: only then two lives overlap.
    async with opened() as host:
        tries: list[int] = []
        with two() as (_, leave):  # it is not let go before the end

            class SlowToSetUp(Worker):
                def setup(self) -> None:
                    tries.append(1)
                    if len(tries) == 2:
                        leave.block()

            ref = await host.start(
                av.Application(
                    SlowToSetUp, executor=THREADS, restart="transient", start_timeout=0.2
                )
            )
            with host.events() as events:
                await ref.tell(Worker.do, fail)
                await ref.ask(Worker.name)
            exits = [one.reason async for one in events if isinstance(one, av.Exited)]
            assert exits[1] == av.Abandoned("setup")
            assert ref.incarnation == 3
            assert len(tries) == 3
            assert host.statistics().abandoned == 1


def test_a_thread_that_outlives_its_trio_run_is_told_so_and_ends() -> None:
    # H1: it is joined or reported abandoned. What it does then raises in it, and nobody waits.
    errors: list[object] = []
    done = Signal()
    with two() as (entered, leave):

        def work(self: Worker) -> None:
            ref = self.ref
            entered.set()
            leave.block()
            errors.append(caught(self.stop))
            errors.append(caught(ref.blocking.ask, Worker.name))
            errors.append(caught(lambda: self.ref))
            done.set()

        async def main() -> tuple[av.Host, av.ExitReason]:
            with trio.fail_after(20):
                async with av.open_host([worker(grace=0.05)]) as host:
                    ref = host.find("worker", Worker)
                    await ref.tell(Worker.do, work)
                    await entered.heard()
                    reason = await ref.stop(drain=0)
            return host, reason

        host, reason = trio.run(main)
        assert reason == av.Abandoned("handler")
        assert host.statistics().abandoned == 1
        leave.set()
        done.block()
    assert [type(one).__name__ for one in errors] == [
        "ServiceAbandoned",
        "ServiceStopped",  # its target has ended, too
        "ServiceAbandoned",
    ]


async def test_a_cancelled_host_leaves_what_cannot_be_ended() -> None:
    # H2: one deadline for the whole host, then by force. H1: reported abandoned.
    with trio.fail_after(20), two() as (entered, leave):
        with trio.CancelScope() as scope:
            async with av.open_host([worker(grace=1000)], cancel_grace=0.05) as host:
                ref = host.find("worker", Worker)
                await ref.tell(Worker.do, hold(entered, leave))
                await entered.heard()
                scope.cancel()
        assert scope.cancelled_caught
        assert host.statistics().abandoned == 1
        assert ref.state == "failed" or ref.state == "stopped"
        check_account(host)
        leave.set()
        await until(lambda: host.statistics().abandoned == 0)


async def test_what_has_ended_in_peace_can_do_nothing_either() -> None:
    # L8: nothing outlives its life; here a thread of the user's own has kept its `self`.
    kept: list[Worker] = []
    async with opened(worker()) as host:
        ref = host.find("worker", Worker)
        await ref.ask(Worker.do, kept.append)
        await ref.stop()
        await ref.start()
        for late in (
            kept[0].stop,
            functools.partial(kept[0].after, 0, Worker.name),
            functools.partial(kept[0].start_soon, fail, kept[0]),
            kept[0].reply_later,
        ):
            error = await call(caught, late)
            assert isinstance(error, RuntimeError)
            assert "this life of host/worker has ended" in str(error)
        assert await ref.ask(Worker.name) == "host/worker"
        assert ref.incarnation == 2


async def test_inside_is_not_for_the_loop() -> None:
    # A call through the loop, made on the loop, would wait for itself.
    kept: list[Worker] = []
    async with opened() as host:
        ref = await host.start(worker())
        await ref.ask(Worker.do, kept.append)
        for late in (kept[0].stop, kept[0].reply_later):
            with pytest.raises(RuntimeError, match="not for the host's loop"):
                late()
        assert kept[0].ref == ref  # needs no loop
        assert not kept[0].stopping


# --- ref.blocking ----------------------------------------------------------------------------


class Coroutine(av.Service):
    """A service on the loop."""

    def __init__(self, gate: trio.Event) -> None:
        self.gate = gate
        self.seen: list[object] = []

    async def wait(self) -> str:
        await self.gate.wait()
        return "waited"

    async def add(self, first: int, *, second: int = 0) -> int:
        self.seen.append(first)
        return first + second

    def fail(self) -> None:
        raise Fault("boom")

    def refuse(self) -> None:
        raise Refused("no")

    def get(self) -> list[object]:
        return self.seen

    def receive(self, message: object) -> None:
        self.seen.append(message)


async def test_blocking_from_any_thread() -> None:
    # I3: a ref used outside the loop goes through it. The same signatures, answers, errors.
    async with opened() as host:
        ref = await host.start(av.Application(Coroutine, trio.Event()))

        def use() -> None:
            assert ref.blocking.ask(Coroutine.add, 1, second=2) == 3
            for number in range(200):
                ref.blocking.tell(Coroutine.add, number)
            ref.blocking.send("sent")
            assert ref.blocking.ask(Coroutine.get) == [1, *range(200), "sent"]  # M2
            with pytest.raises(Refused, match="no"):
                ref.blocking.ask(Coroutine.refuse)
            with pytest.raises(av.ServiceCrashed) as crash:
                ref.blocking.ask(Coroutine.fail)
            assert isinstance(crash.value.__cause__, Fault)
            with pytest.raises(TypeError):
                ref.blocking.ask(Worker.do, 1)  # type: ignore[call-overload]
            assert ref.blocking.ask(Coroutine.get) == []

        await call(use)
        await ref.stop()
        for way in (
            functools.partial(ref.blocking.ask, Coroutine.get),
            functools.partial(ref.blocking.tell, Coroutine.get),
            functools.partial(ref.blocking.send, 1),
        ):
            assert isinstance(await call(caught, way), av.ServiceStopped)


async def test_blocking_on_the_loop_is_refused_at_once() -> None:
    # E3
    async with opened() as host:
        ref = await host.start(av.Application(Coroutine, trio.Event()))
        for way in (
            lambda: ref.blocking.ask(Coroutine.get),
            lambda: ref.blocking.tell(Coroutine.get),
            lambda: ref.blocking.send(1),
        ):
            with pytest.raises(RuntimeError, match="would block the host's loop for ever"):
                way()
        assert check_account(host).accepted == 0


async def test_a_blocking_tell_waits_for_room() -> None:
    # M3
    gate = trio.Event()
    async with opened() as host:
        ref = await host.start(av.Application(Coroutine, gate, mailbox=1))
        await ref.tell(Coroutine.wait)
        await ref.tell(Coroutine.add, 0)
        told: list[int] = []

        def tell() -> None:
            for number in range(1, 4):
                ref.blocking.tell(Coroutine.add, number)
                told.append(number)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, tell)
            await trio.sleep(0.02)
            assert told == []
            gate.set()
        assert await ref.ask(Coroutine.get) == [0, 1, 2, 3]


@pytest.mark.parametrize("end", ["stop", "restart", "host", "cancelled host"])
async def test_a_thread_that_waits_for_an_answer_is_told_of_the_end(end: str) -> None:
    # M6: every waiting asker gets ServiceStopped at once; M5: or ServiceCrashed.
    errors: list[object] = []
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:
                async with av.open_host(drain=0) as host:
                    ref = await host.start(av.Application(Coroutine, trio.Event(), grace=0.01))

                    async def ask() -> None:
                        errors.append(await call(caught, lambda: ref.blocking.ask(Coroutine.wait)))

                    nursery.start_soon(ask)
                    await until(lambda: host.statistics().mail.in_hand == 1)
                    if end == "stop":
                        await ref.stop(drain=0)
                    elif end == "restart":
                        await ref.restart()
                    elif end == "cancelled host":
                        scope.cancel()
        check_account(host)
    (error,) = errors
    assert isinstance(error, av.ServiceCrashed if end == "restart" else av.ServiceStopped)


async def test_after_the_hosts_end_a_blocking_call_raises_at_once() -> None:
    # S7: after the host's end every call raises at once.
    async with opened() as host:
        ref = await host.start(av.Application(Coroutine, trio.Event()))
    for way in (
        functools.partial(ref.blocking.ask, Coroutine.get),
        functools.partial(ref.blocking.tell, Coroutine.get),
        functools.partial(ref.blocking.send, 1),
    ):
        error = await call(caught, way)
        assert isinstance(error, av.ServiceStopped)
        assert ref.path in str(error)


def test_after_the_trio_run_a_blocking_call_raises_at_once() -> None:
    # S7
    async def main() -> av.Ref[Coroutine]:
        async with av.open_host() as host:
            ref = await host.start(av.Application(Coroutine, trio.Event()))
        return ref

    ref = trio.run(main)
    errors: list[object] = []
    thread = threading.Thread(
        target=lambda: errors.append(caught(functools.partial(ref.blocking.ask, Coroutine.get)))
    )
    thread.start()
    thread.join(20)
    assert isinstance(errors[0], av.ServiceStopped)


async def test_a_service_in_a_thread_that_waits_for_itself() -> None:
    # M10: a handler that asks itself, or waits for room at itself, would wait for ever.
    async with opened() as host:
        ref = await host.start(worker(mailbox=1))
        with two() as (entered, leave):
            errors: list[object] = []

            def work(self: Worker) -> None:
                entered.set()
                leave.block()
                errors.append(caught(functools.partial(self.ref.blocking.tell, Worker.name)))

            await ref.tell(Worker.do, work)
            await entered.heard()
            await ref.tell(Worker.name)
            leave.set()
        await until(lambda: bool(errors))
        assert isinstance(errors[0], av.WaitCycle)
        with pytest.raises(av.ServiceCrashed) as crash:
            await ref.ask(Worker.do, lambda self: self.ref.blocking.ask(Worker.name))
        assert isinstance(crash.value.__cause__, av.WaitCycle)

        # A background thread is not what the service waits for.
        answers: list[object] = []

        def beside(self: Worker) -> None:
            answers.append(self.ref.blocking.ask(Worker.name))

        await ref.ask(Worker.do, lambda self: self.start_soon(beside, self))
        await until(lambda: bool(answers))
        assert answers == ["host/worker"]


async def test_a_thread_of_one_host_and_a_service_of_another() -> None:
    # H5, I3: hosts in two threads, each with a loop of its own.
    async with opened() as host:
        ref = await host.start(av.Application(Coroutine, trio.Event()))
        answers: list[object] = []

        class Far(Worker):
            def setup(self) -> None:
                answers.append(ref.blocking.ask(Coroutine.add, 1, second=1))

        async def other() -> None:
            async with av.open_host([av.Application(Far, executor=THREADS)]) as inner:
                far = inner.find("Far", Far)
                await far.ask(
                    Worker.do,
                    lambda self: answers.append(ref.blocking.ask(Coroutine.add, 2, second=2)),
                )

        await call(trio.run, other)
        assert answers == [2, 4]


# --- crashes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, Fault])
@pytest.mark.parametrize("where", ["handler", "background", "run", "function", "setup", "init"])
async def test_whatever_is_raised_in_a_thread_is_a_crash(
    where: str, kind: type[BaseException]
) -> None:
    # M9: in a thread KeyboardInterrupt and SystemExit are crashes, and do not reach the host.
    lives: list[int] = []

    def crash(*_: object) -> NoReturn:
        raise kind("once")

    def maybe(at: str) -> None:
        if at != where:
            return
        lives.append(1)
        if len(lives) == 1 + (where in {"setup", "init"}):
            crash()

    class Frail(Worker):
        def __init__(self) -> None:
            maybe("init")

        def setup(self) -> None:
            maybe("setup")

    class FrailLoop(av.Service):
        def run(self) -> None:
            maybe("run")
            for _ in self.mailbox:
                pass

    def function() -> None:
        maybe("function")
        until_stopping()

    async with opened() as host:
        with host.events() as events:
            if where in {"run", "function"}:
                target: Any = FrailLoop if where == "run" else function
                await host.start(av.Application(target, name="frail", executor=THREADS))
            else:
                ref = await host.start(av.Application(Frail, name="frail", executor=THREADS))
                if where == "background":
                    await ref.tell(Worker.do, lambda self: self.start_soon(crash))
                else:
                    await ref.tell(Worker.do, crash)
                lives += [1]
            async for one in events:
                if isinstance(one, av.Exited):
                    assert isinstance(one.reason, av.Crashed)
                    assert type(one.reason.exception) is kind
                    assert "once" in one.reason.traceback_text
                if isinstance(one, av.Started) and one.incarnation > 1:
                    break


async def test_a_handler_that_gives_a_coroutine_is_a_crash_that_says_so() -> None:
    # E3: nothing awaits in a thread.
    async def nothing() -> None:
        await trio.lowlevel.checkpoint()

    async with opened() as host:
        ref = await host.start(worker())
        with pytest.raises(av.ServiceCrashed) as crash:
            await ref.ask(Worker.do, lambda self: nothing())
        assert isinstance(crash.value.__cause__, TypeError)
        assert "Worker.do returned a coroutine" in str(crash.value.__cause__)
        error = await ref.ask(Worker.do, lambda self: caught(self.start_soon, nothing))
        assert isinstance(error, TypeError)
        assert "plain function under ThreadExecutor" in str(error)


@pytest.mark.parametrize("redeliver", [0, 1])
async def test_a_background_crash_waits_for_the_handler_before_the_next_life(
    redeliver: int,
) -> None:
    # M5: the message in hand is blamed, its asker told at once, or, with redeliver, it is handled
    # again. L8: the next life begins after the last thread of this one.
    busy: list[int] = []
    most: list[int] = []
    answers: list[object] = []
    async with opened(worker(redeliver=redeliver, grace=10)) as host:
        ref = host.find("worker", Worker)
        with two() as (entered, leave), two() as (beside, crash):

            def work(self: Worker) -> str:
                busy.append(1)
                most.append(len(busy))
                if len(most) == 1:
                    entered.set()
                    leave.block()
                busy.pop()
                return "second try"

            async def ask() -> None:
                try:
                    answers.append(await ref.ask(Worker.do, work))
                except av.ServiceCrashed as error:
                    answers.append(error.__cause__)

            crashing = in_turn(beside.set, crash.block, functools.partial(fail, None))
            await ref.ask(Worker.do, lambda self: self.start_soon(crashing, self))
            await beside.heard()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                await entered.heard()
                crash.set()
                await until(lambda: ref.state == "stopping")
                if not redeliver:
                    await until(lambda: bool(answers))
                    assert isinstance(answers[0], Fault)
                await trio.sleep(0.02)
                assert ref.incarnation == 1
                leave.set()
        await until(lambda: ref.incarnation == 2)
        if redeliver:
            assert answers == ["second try"]
        assert set(most) == {1}
        assert len(most) == 1 + redeliver


async def test_a_second_error_is_logged_and_hides_nothing(caplog: pytest.LogCaptureFixture) -> None:
    # M9: several at once: the first, the others are logged.
    async with opened() as host:
        ref = await host.start(worker(restart="temporary", grace=10))
        with two() as (entered, leave):

            def work(self: Worker) -> None:
                self.start_soon(fail, self)
                entered.set()
                leave.block()
                raise KeyError("second")

            await ref.tell(Worker.do, work)
            await entered.heard()
            await until(lambda: ref.state == "stopping")
            leave.set()
        reason = await ref.stopped()
        assert isinstance(reason, av.Crashed)
        assert isinstance(reason.exception, Fault)
    assert any("another error" in one and "KeyError" in one for one in caplog.messages)


async def test_a_thread_redelivers_in_order() -> None:
    # M4, M5: the one that crashed first, then what waited.
    seen: list[int] = []

    def work(number: int, self: Worker) -> None:
        seen.append(number)
        if number % 3 == 0 and seen.count(number) < 3:
            raise Fault(number)

    async with opened() as host:
        ref = await host.start(worker(redeliver=2))
        for number in range(1, 5):
            await ref.tell(Worker.do, functools.partial(work, number))
        await ref.ask(Worker.name)
        assert seen == [1, 2, 3, 3, 3, 4]
        assert ref.incarnation == 3
        mail = check_account(host)
        assert (mail.accepted, mail.handled, mail.dead_letters) == (5, 5, 0)


# --- timers, monitors, contexts --------------------------------------------------------------------


async def test_timers_fire_in_the_services_own_thread_between_handlers() -> None:
    # L8, O2: a timer's call is a message: never beside a handler.
    class Ticking(Worker):
        def __init__(self) -> None:
            self.ticks: list[int] = []
            self.inside = False

        def tick(self) -> None:
            assert not self.inside
            self.ticks.append(threading.get_ident())
            if len(self.ticks) == 3:
                self.timer.cancel()
                self.timer.cancel()  # nothing if it has already

        def setup(self) -> None:
            self.timer = self.every(0.005, self.tick)

        def busy(self, leave: Signal) -> int:
            self.inside = True
            leave.block()
            self.inside = False
            return threading.get_ident()

    async with opened() as host:
        ref = await host.start(av.Application(Ticking, executor=THREADS))
        leave = Signal()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ref.ask, Ticking.busy, leave)
            await until(lambda: host.statistics().mail.waiting == 1)
            await trio.sleep(0.03)
            # A slow service is not flooded: one call waits, the others are left out.
            assert host.statistics().mail.waiting == 1
            leave.set()
        await until(lambda: host.statistics().mail.handled == 4)
        await trio.sleep(0.03)
        ticks = await ref.ask(Worker.do, lambda self: self.ticks)
        assert len(ticks) == 3
        assert set(ticks) == {await ref.ask(Worker.do, lambda self: threading.get_ident())}


async def test_a_thread_monitors_and_promises() -> None:
    # O2: in `receive` and from `self.mailbox`. M5: reply_later answers from any of its threads.
    seen: list[object] = []

    class Watcher(Worker):
        def receive(self, message: object) -> None:
            seen.append(type(message).__name__)

        def later(self) -> int:
            reply = self.reply_later()
            self.start_soon(reply.send, 7)
            return 0

        def later_no(self) -> int:
            self.start_soon(self.reply_later().reject, Refused("later"))
            return 0

    async with opened() as host:
        watched = await host.start(worker())
        watcher = await host.start(av.Application(Watcher, executor=THREADS))
        read: list[object] = []
        reader = await host.start(av.Application(Reader, "for", read, executor=THREADS))
        await watcher.ask(Worker.do, lambda self: self.monitor(watched))
        await reader.send(lambda self: self.monitor(watched))
        await until(lambda: len(read) == 1)
        await watched.restart()
        expected = ["Stopping", "Exited", "Starting", "Started"]
        await until(lambda: len(seen) == 4 and len(read) == 5)
        assert seen == expected
        assert [type(one).__name__ for one in read[1:]] == expected
        assert await watcher.ask(Watcher.later) == 7
        with pytest.raises(Refused):
            await watcher.ask(Watcher.later_no)


mark: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="none")


async def test_the_context_is_that_of_open_host_and_lasts_as_long_as_a_life() -> None:
    # H6: incarnations run in copies of the context at open_host, never the starter's.
    seen: list[str] = []

    def note(self: object) -> str:
        seen.append(mark.get())
        return mark.get()

    mark.set("host")
    async with opened() as host:
        mark.set("starter")
        ref = await host.start(worker())
        assert await ref.ask(Worker.do, note) == "host"
        await ref.ask(Worker.do, lambda self: mark.set("life"))
        assert await ref.ask(Worker.do, note) == "life"
        seen.clear()
        await ref.ask(Worker.do, lambda self: self.start_soon(note, self))
        await until(lambda: seen == ["life"])  # a background thread has a copy of its starter's
        await ref.restart()
        assert await ref.ask(Worker.do, note) == "host"
        assert mark.get() == "starter"


async def test_trio_can_be_called_from_the_thread() -> None:
    """The thread is trio's: what trio has for threads works in it."""
    async with opened() as host:
        ref = await host.start(worker())
        now = await ref.ask(Worker.do, lambda self: trio.from_thread.run_sync(trio.current_time))
        assert abs(now - trio.current_time()) < 10

        async def wait() -> str:
            await trio.sleep(0.001)
            return "waited"

        assert await ref.ask(Worker.do, lambda self: trio.from_thread.run(wait)) == "waited"


# --- many at once ----------------------------------------------------------------------------


async def test_threads_that_send_while_their_target_crashes() -> None:
    # M2: in the order sent, restarts included. M4, M7: nothing is lost but what was in hand.
    per_thread, threads = 150, 4
    taken: list[tuple[int, int]] = []

    class Target(av.Service):
        def take(self, thread: int, number: int) -> None:
            taken.append((thread, number))
            if number % 37 == 36:
                raise Fault("boom")

    def send(ref: av.Ref[Target], thread: int) -> None:
        for number in range(per_thread):
            ref.blocking.tell(Target.take, thread, number)

    async with opened(max_restarts=1000) as host:
        app = av.Application(Target, executor=THREADS, mailbox=5)
        ref = await host.start(app)
        async with trio.open_nursery() as nursery:
            for thread in range(threads):
                nursery.start_soon(call, send, ref, thread)
        await until(lambda: host.statistics().mail.waiting + host.statistics().mail.in_hand == 0)
        await until(lambda: ref.state == "running")
        for thread in range(threads):
            assert [number for one, number in taken if one == thread] == [*range(per_thread)]
        mail = check_account(host)
        crashes = threads * (per_thread // 37)
        assert mail.accepted == threads * per_thread
        assert mail.dead_letters == crashes == ref.incarnation - 1


async def test_starting_and_stopping_at_random_leaves_no_thread() -> None:
    # H1, L8, S10
    names = [f"w{one}" for one in range(6)]
    async with opened(*[worker(name=name) for name in names], max_restarts=1000) as host:
        refs = [host.find(name, Worker) for name in names]

        async def torment(ref: av.Ref[Worker], turns: int) -> None:
            for turn in range(turns):
                match turn % 4:
                    case 0:
                        await ref.tell(Worker.do, fail)
                    case 1:
                        with trio.move_on_after(0.001):
                            await ref.restart()
                    case 2:
                        assert await ref.ask(Worker.name) == ref.path
                    case _:
                        await ref.stop(drain=0)
                        await ref.start()

        async with trio.open_nursery() as nursery:
            for ref in refs:
                nursery.start_soon(torment, ref, 24)
        assert sorted(service_threads()) == sorted(ref.path for ref in refs)
        assert host.statistics().abandoned == 0
