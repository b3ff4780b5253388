"""Random trees under random calls, crashes and cancellations, on virtual time."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings, strategies as st
from trio.testing import MockClock

import actorvisor as av
from tests.runtime.account import check_account
from tests.runtime.paths import check_paths

RESTARTS = ["permanent", "permanent", "transient", "temporary"]
TIMES = st.sampled_from([0.0, 0.0, 0.5, 1.0, 2.0, 7.0])


class Fault(Exception):
    """What crashes on purpose."""


class Chaotic(av.Service):
    """Does as it is told in its plan, incarnation by incarnation."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self.told: list[tuple[object, ...]] | None = None

    async def setup(self) -> None:
        await trio.sleep(self.plan["setup"])
        if self.ref.incarnation in self.plan["fails"]:
            raise Fault("setup")
        if self.ref.incarnation in self.plan["declines"]:
            self.stop()

    async def work(self, seconds: float) -> float:
        await trio.sleep(seconds)
        return seconds

    def crash(self, seconds: float) -> None:
        raise Fault("crash")

    def reject(self, seconds: float) -> None:
        raise av.Rejection("no")

    def end(self, seconds: float) -> None:
        self.stop()

    async def crash_beside(self, seconds: float) -> None:
        async def crash() -> None:
            await trio.sleep(seconds)
            raise Fault("beside")

        self.start_soon(crash)
        await trio.sleep(1)

    def later(self, seconds: float, asked: bool = False) -> None:
        if not asked:
            return  # nobody waits for an answer
        reply = self.reply_later()
        if seconds:

            async def answer() -> None:
                await trio.sleep(seconds)
                reply.send(seconds)

            self.start_soon(answer)

    def timers(self, seconds: float) -> None:
        self.after(seconds, Chaotic.work, 0.5)
        self.every(seconds + 1, Chaotic.work, 0.0)

    def watch(self, other: av.Ref[Any], told: list[tuple[object, ...]]) -> None:
        self.told = told
        self.monitor(other)

    def receive(self, message: object) -> None:
        if isinstance(message, av.Notification):
            if self.told is not None:
                self.told.append((self.ref, message))
        elif message == "crash":
            raise Fault("receive")

    async def teardown(self, reason: av.ExitReason) -> None:
        await trio.sleep(self.plan["teardown"])
        if self.ref.incarnation in self.plan["tears"]:
            raise Fault("teardown")


CALLS = [
    Chaotic.work,
    Chaotic.crash,
    Chaotic.crash,
    Chaotic.crash,
    Chaotic.reject,
    Chaotic.end,
    Chaotic.crash_beside,
    Chaotic.later,
    Chaotic.timers,
]

backoffs = st.sampled_from([av.Immediate(), av.Immediate(), av.Fixed(1), av.Exponential(base=0.5)])
lives = st.sets(st.integers(1, 4), max_size=2)


@st.composite
def applications(
    draw: st.DrawFn, name: str | None = None, shuts: bool = False, risky: bool = False
) -> Any:
    """One service; a risky one may fail its first start, too."""
    restart: Any = draw(st.sampled_from(RESTARTS))
    overflow: Any = draw(st.sampled_from(["wait", "wait", "drop_oldest"]))
    on_crash: Any = draw(
        st.sampled_from([None, None, None, None, {Fault: "stop"}, {Fault: "escalate"}])
    )
    plan: dict[str, Any] = {
        "setup": draw(TIMES if risky else st.sampled_from([0.0, 0.0, 0.5, 1.0])),
        "teardown": draw(TIMES),
        "fails": {one + 1 - risky for one in draw(lives)},
        "declines": draw(st.sampled_from([set(), set(), set(), {1}, {2}])),
        "tears": draw(lives),
    }
    return av.Application(
        Chaotic,
        plan,
        name=name,
        restart=restart,
        backoff=draw(backoffs),
        mailbox=draw(st.sampled_from([1, 2, 1000])),
        overflow=overflow,
        redeliver=draw(st.integers(0, 2)),
        grace=draw(st.sampled_from([0.0, 1.0, 5.0, math.inf])),
        start_timeout=draw(st.sampled_from([1.5, 30.0, math.inf])),
        significant=shuts and restart != "permanent" and draw(st.booleans()),
        on_crash=on_crash,
    )


@st.composite
def supervisors(draw: st.DrawFn, name: str | None = None, depth: int = 2) -> Any:
    strategy: Any = draw(st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"]))
    shuts: Any = draw(st.sampled_from(["never", "never", "any", "all"]))
    children = []
    for number in range(draw(st.integers(0, 3))):
        if depth > 1 and draw(st.integers(0, 2)) == 0:
            children.append(draw(supervisors(f"s{number}", depth - 1)))
        else:
            children.append(draw(applications(f"c{number}", shuts != "never")))
    alone = strategy == "one_for_one"
    return av.Supervisor(
        children,
        name=name,
        strategy=strategy,
        max_restarts=draw(st.sampled_from([0, 1, 3, 100])),
        on_limit=draw(st.sampled_from(["end", "drop"])) if alone else "end",
        auto_shutdown=shuts,
        start=draw(st.sampled_from(["in_order", "together"])) if alone else "in_order",
        restart=draw(st.sampled_from(RESTARTS)),
        backoff=draw(backoffs),
    )


@st.composite
def roots(draw: st.DrawFn) -> list[Any]:
    count = draw(st.sampled_from([0, 1, 2, 2, 3]))
    kinds: list[Any] = [draw(st.sampled_from([applications, supervisors])) for _ in range(count)]
    return [draw(kind(f"r{number}")) for number, kind in enumerate(kinds)]


steps = st.tuples(
    TIMES,
    st.sampled_from(
        [
            "tell",
            "tell",
            "tell",
            "ask",
            "ask",
            "send",
            "stop",
            "restart",
            "start",
            "remove",
            "stopped",
            "new",
            "new",
            "look",
            "if_running",
            "burst",
            "watch",
        ]
    ),
    st.integers(0, 100),
    st.integers(0, 100),
    TIMES,
    st.sampled_from([math.inf, math.inf, 0.0, 0.5, 1.0]),
)
news = st.one_of(
    applications(risky=True), applications("x", risky=True), supervisors(), supervisors("y")
)


class Driver:
    """Plays steps against a host, and keeps what happens."""

    def __init__(self, news: list[Any]) -> None:
        self.news = itertools.cycle(news) if news else iter(())
        self.host: av.Host | None = None
        self.scope = trio.CancelScope()
        self.told: list[av.Notification] = []
        self.refs: list[Any] = []
        self.watches: list[tuple[object, av.Notification]] = []

    def check_watches(self) -> None:
        """O2: each watcher gets notifications of whom it watches, in order."""
        numbers: dict[tuple[object, str], int] = {}
        for watcher, one in self.watches:
            key = watcher, one.path
            assert one.sequence >= numbers.get(key, 0), one
            numbers[key] = one.sequence

    async def listen(self, events: av.Events) -> None:
        async for one in events:
            self.told.append(one)

    def known(self) -> Iterator[Any]:
        assert self.host is not None
        stack = list(self.host.children())
        while stack:
            ref = stack.pop()
            yield ref
            if isinstance(ref, av.SupervisorRef):
                stack.extend(ref.children())

    async def play(self, steps: list[tuple[Any, ...]]) -> None:
        assert self.host is not None
        for delay, what, who, how, seconds, timeout in steps:
            await trio.sleep(delay)
            self.refs.extend(ref for ref in self.known() if ref not in self.refs)
            check_account(self.host)  # M7, at every moment
            if not self.refs and what != "new":
                continue
            ref = self.refs[who % len(self.refs)] if self.refs else None
            with suppress(av.ActorvisorError, Fault):
                with trio.move_on_after(timeout):
                    await self.call(ref, what, how, seconds)

    async def call(self, ref: Any, what: str, how: int, seconds: float) -> None:
        method = CALLS[how % len(CALLS)]
        service = isinstance(ref, av.Ref)
        asked = (True,) if method is Chaotic.later else ()
        match what:
            case "tell" if service:
                await ref.tell(method, seconds)
            case "burst" if service:
                for _ in range(5):
                    await ref.tell(Chaotic.work, 0.0)
                await ref.tell(method, seconds)
            case "ask" if service:
                await ref.ask(method, seconds, *asked)
            case "if_running" if service:
                await ref.if_running.ask(method, seconds, *asked)
            case "send" if service:
                await ref.send("crash" if how % 3 == 0 else "fine")
            case "stop" | "remove":
                end = ref.stop if what == "stop" else ref.remove
                drain = 0.0 if how % 2 else seconds
                reason = await end(drain=drain, grace=None if how % 3 else seconds)
                assert reason is not None
            case "restart":
                await ref.restart()
            case "start":
                await ref.start()
            case "stopped":
                with trio.move_on_after(30):
                    assert await ref.stopped() is not None
            case "new":
                assert self.host is not None
                parent = ref if isinstance(ref, av.SupervisorRef) else self.host
                new = next(self.news, None)
                if new is not None:
                    self.refs.append(await parent.start(new))
            case "watch" if service:
                await ref.tell(Chaotic.watch, self.refs[how % len(self.refs)], self.watches)
            case _:
                assert self.host is not None
                assert repr(ref).startswith("<")
                assert str(self.host.tree()).startswith("host ")
                self.host.statistics()


@dataclass(frozen=True, kw_only=True)
class Drama:
    """What is put on the stage, and how it ends.

    Attributes:
        children: what the host begins with.
        at_run_time: whether these are started in its block instead.
        news: what is started later.
        scripts: calls, each list by a task of its own.
        end: how the block ends.
        seconds: when, at the latest.
        on_limit: the host's.
    """

    children: list[Any]
    at_run_time: bool
    news: list[Any]
    scripts: list[list[tuple[Any, ...]]]
    end: str
    seconds: float
    on_limit: Any


dramas = st.builds(
    Drama,
    children=roots(),
    at_run_time=st.booleans(),
    news=st.lists(news, max_size=3),
    scripts=st.lists(st.lists(steps, min_size=2, max_size=12), min_size=1, max_size=3),
    end=st.sampled_from(["leave", "leave", "raise", "cancel", "wait", "cancel now"]),
    seconds=st.sampled_from([1000.0, 1000.0, 30.0, 5.0, 1.0, 0.0]),
    on_limit=st.sampled_from(["end", "drop"]),
)


async def stage(drama: Drama, driver: Driver, outer: trio.Nursery) -> None:
    static = [] if drama.at_run_time else drama.children
    async with av.open_host(static, on_limit=drama.on_limit) as host:
        driver.host = host
        outer.start_soon(driver.listen, host.events())  # noqa: ASYNC111
        for child in drama.children if drama.at_run_time else ():
            with suppress(av.ActorvisorError, Fault):
                driver.refs.append(await host.start(child))
        with trio.move_on_after(drama.seconds):
            async with trio.open_nursery() as inner:
                for number, script in enumerate(drama.scripts):
                    # The block need not wait for who calls.
                    nursery = outer if number else inner
                    nursery.start_soon(driver.play, script)
            if drama.end == "wait":
                await host.wait()
        if drama.end == "raise":
            raise KeyError("own")
        if drama.end == "cancel":
            driver.scope.cancel()
        await trio.lowlevel.checkpoint()


def tasks_beside(nursery: trio.Nursery) -> int:
    """Tasks of this run that are not in a nursery."""
    return trio.lowlevel.current_statistics().tasks_living - len(nursery.child_tasks)


async def play(drama: Drama) -> None:
    driver = Driver(drama.news)
    if drama.end == "cancel now":
        driver.scope.deadline = trio.current_time() + min(drama.seconds, 30)
    with trio.fail_after(100_000):  # virtual: whatever hangs fails loudly
        async with trio.open_nursery() as outer:
            before = tasks_beside(outer)
            with ExpectedEnds(drama), driver.scope:
                await stage(drama, driver, outer)
            assert tasks_beside(outer) == before  # H1
    if driver.host is not None:
        check_end(driver, driver.host, late=not drama.at_run_time)


class ExpectedEnds:
    """Lets pass what may come out of a host's block, and nothing else."""

    def __init__(self, drama: Drama) -> None:
        self.drama = drama

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> bool:
        if isinstance(error, ExceptionGroup):
            # S8: one level; the block's own stands beside what reached the host.
            expected = (Fault, KeyError, av.RestartLimitExceeded, av.StartTimeout, av.StartFailed)
            return all(isinstance(one, expected) for one in error.exceptions)
        return isinstance(error, KeyError) and self.drama.end == "raise"


def check_end(driver: Driver, host: av.Host, *, late: bool) -> None:
    """Everything is over, everybody was answered, and every message is accounted for."""
    assert host.statistics().running == 0
    mail = check_account(host)
    assert mail.waiting == mail.in_hand == 0
    assert all(ref.state in {"stopped", "failed"} for ref in driver.refs), driver.refs
    assert not any(state in str(host.tree()) for state in ("running", "starting", "backing"))
    told = check_paths(driver.told, late=late)
    assert all(isinstance(one[-1], av.Ended) for one in told.values())
    driver.check_watches()


class _Bugs(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if "a bug in actorvisor" in text:
            self.found.append(text)


@pytest.mark.filterwarnings("ignore:the backoff")
@given(drama=dramas, random=st.random_module())
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_happens_it_is_accounted_for(drama: Drama, random: object) -> None:
    # H1, L1, M7, O2, O4, S5, S7, S8: nobody waits for ever, and nothing is lost or left over.
    bugs = _Bugs()
    logger = logging.getLogger("actorvisor")
    logger.addHandler(bugs)
    logger.propagate = False
    try:
        trio.run(play, drama, clock=MockClock(autojump_threshold=0))
    finally:
        logger.removeHandler(bugs)
        logger.propagate = True
    assert not bugs.found
