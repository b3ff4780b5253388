"""Where a case is played: under every executor that fits, with services that do as a script says.

Coroutines get virtual time. Threads and processes get real time, and a deadline; what has to wait
in them waits for a gate that the test opens.
"""

from __future__ import annotations

import functools
import os
import signal
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Concatenate, Literal, ParamSpec

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import actorvisor as av
from tests.cases.process_services import (
    Actor as Actor,
    AsyncProcessActor,
    Fault as Fault,
    ProcessActor,
    Prompter,
)
from tests.executors.processes import is_gone
from tests.runtime.account import check_account
from tests.runtime.paths import check_paths

_P = ParamSpec("_P")
How = Literal["request", "normal", "abnormal", "killed"]


class Gate:
    """What services of any kind wait for; the test opens it."""

    def __init__(self) -> None:
        self._for_threads = threading.Event()
        self._for_tasks = trio.Event()

    def open(self) -> None:
        self._for_threads.set()
        self._for_tasks.set()

    async def wait(self) -> None:
        await self._for_tasks.wait()

    def block(self) -> None:
        """In a thread."""
        assert self._for_threads.wait(20)


@dataclass
class Script:
    """What a service does, in all its lives; the test changes it while it lives.

    Attributes:
        fails: whether setup raises.
        declines: whether setup declines.
        coming: what setup waits for.
        staying: what `hold` waits for.
        going: what teardown waits for.
        setups: how often setup was entered.
        held: how often `hold` was entered.
        teardowns: how often teardown was entered.
        reasons: what teardown was told, once it was through its gate.
        pids: the processes it lived in, where it has some of its own.
    """

    fails: bool = False
    declines: bool = False
    coming: Gate | None = None
    staying: Gate | None = None
    going: Gate | None = None
    setups: int = 0
    held: int = 0
    teardowns: int = 0
    reasons: list[av.ExitReason] = field(default_factory=list)
    pids: list[int] = field(default_factory=list)


class _Scripted(Actor):
    """Has its script at hand."""

    def __init__(self, script: Script, *baggage: object) -> None:
        self.script = script
        self.baggage = baggage

    def note(self) -> None:
        self.script.held += 1


class TaskActor(_Scripted):
    """In a coroutine."""

    async def setup(self) -> None:
        self.script.setups += 1
        if self.script.coming is not None:
            await self.script.coming.wait()
        self._set_up(self.script.fails, self.script.declines)

    async def hold(self, then: str = "life") -> object:
        self.script.held += 1
        assert self.script.staying is not None
        await self.script.staying.wait()
        result: object = getattr(self, then)()
        return result

    async def teardown(self, reason: av.ExitReason) -> None:
        self.script.teardowns += 1
        if self.script.going is not None:
            await self.script.going.wait()
        self.script.reasons.append(reason)


class ThreadActor(_Scripted):
    """In a thread."""

    def setup(self) -> None:
        self.script.setups += 1
        if self.script.coming is not None:
            self.script.coming.block()
        self._set_up(self.script.fails, self.script.declines)

    def hold(self, then: str = "life") -> object:
        self.script.held += 1
        assert self.script.staying is not None
        self.script.staying.block()
        result: object = getattr(self, then)()
        return result

    def teardown(self, reason: av.ExitReason) -> None:
        self.script.teardowns += 1
        if self.script.going is not None:
            self.script.going.block()
        self.script.reasons.append(reason)


@dataclass(frozen=True)
class Stage:
    """One kind of place where services run.

    Attributes:
        name: for test ids.
        executor: what runs them.
        actor: the class that fits it.
        virtual: whether time is virtual.
    """

    name: str
    executor: av.Executor
    actor: type[Actor]
    virtual: bool

    @property
    def remote(self) -> bool:
        """Whether services run in processes of their own."""
        return self.executor.is_remote

    @property
    def overdue(self) -> type[av.TimedOut | av.Abandoned]:
        """How a life ends that outstays its grace (L4)."""
        return av.Abandoned if self.executor == THREADS.executor else av.TimedOut

    def is_kill(self, reason: av.ExitReason) -> bool:
        """Whether it is the end of what was killed."""
        if self.remote:
            return reason == av.Killed(-signal.SIGKILL)
        return isinstance(fault_of(reason), SystemExit)

    def app(
        self,
        name: str | None = None,
        script: Script | None = None,
        *baggage: object,
        target: Any = None,
        **options: Any,
    ) -> av.Application[Any]:
        """A child that does as a script says; of another class or function by choice."""
        options.setdefault("executor", self.executor)
        script = Script() if script is None else script
        given: tuple[object, ...] = (script,)
        if self.remote:
            ref, scripts = _prompter.get()
            given = (ref, len(scripts))
            scripts.append(script)
        declare: Any = av.Application
        declared: av.Application[Any] = declare(
            self.actor if target is None else target, *given, *baggage, name=name, **options
        )
        return declared

    def apps(self, names: Iterable[str], **options: Any) -> list[av.Application[Actor]]:
        return [self.app(name, **options) for name in names]

    def run(self, function: Callable[..., Awaitable[object]], *args: Any) -> None:
        clock = MockClock(autojump_threshold=0) if self.virtual else None
        trio.run(self._with_deadline, function, *args, clock=clock)

    async def _with_deadline(
        self, function: Callable[..., Awaitable[object]], *args: object
    ) -> None:
        with trio.fail_after(600 if self.virtual else 30):
            if not self.remote:
                await function(*args)
                return
            # In a host of its own, so that the one that is looked at has nothing but the case's.
            async with av.open_host(drain=0) as wings:
                scripts: list[Script] = []
                app = av.Application(Prompter, scripts, name="prompter", mailbox=100_000)
                _prompter.set((await wings.start(app), scripts))
                await function(*args)

    async def until(self, true: Callable[[], object]) -> None:
        """Wait for something that comes soon."""
        while not true():  # noqa: ASYNC110
            await trio.sleep(0.01 if self.virtual else 0.001)

    async def quiet(self) -> None:
        """Give what must not happen the time to happen."""
        await trio.sleep(10 if self.virtual else 0.02)

    @asynccontextmanager
    async def play(
        self, *children: Any, watched: bool = True, **options: Any
    ) -> AsyncGenerator[Scene, None]:
        """A host; at its end account and notifications are checked, and nothing is left.

        Args:
            *children: what it starts first.
            watched: whether notifications are kept.
            **options: those of `av.open_host`; without drain, unless they say otherwise.
        """
        record: list[av.Notification] = []
        try:
            async with trio.open_nursery() as nursery:
                async with av.open_host(**{"drain": 0} | options) as host:
                    if watched:
                        nursery.start_soon(_listen, host.events(), record)  # noqa: ASYNC111
                    for child in children:
                        await host.start(child)
                    yield Scene(self, host, record)
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None  # noqa: ASYNC123 - ours is taken off
        if self.remote:
            pids = [pid for script in _prompter.get()[1] for pid in script.pids]
            assert [pid for pid in pids if not is_gone(pid)] == []  # H1
        check_account(host)
        check_paths(record, late=True)
        await self.until(lambda: not _threads())


async def _listen(events: av.Events, record: list[av.Notification]) -> None:
    async for one in events:
        record.append(one)  # noqa: PERF401 - it is looked at meanwhile


def _threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("host/")]


@dataclass(frozen=True)
class Scene:
    """A host at work.

    Attributes:
        stage: where its services run.
        host: the host.
        record: what it told.
    """

    stage: Stage
    host: av.Host
    record: list[av.Notification]

    def actor(self, path: str) -> av.Ref[Actor]:
        return self.host.find(path, Actor)

    def actors(self, paths: Iterable[str], under: str = "t") -> list[av.Ref[Actor]]:
        return [self.actor(f"{under}/{path}") for path in paths]

    def supervisor(self, path: str = "t") -> av.SupervisorRef:
        return self.host.find(path, av.Supervisor)

    async def heard(self) -> None:
        """Wait until what was told is in the record."""
        await wait_all_tasks_blocked()

    async def up(self, ref: av.Ref[Actor], incarnation: int) -> None:
        """Wait until it is in that life."""
        await self.stage.until(lambda: (ref.state, ref.incarnation) == ("running", incarnation))

    async def end(self, ref: av.Ref[Actor], how: How) -> None:
        """Let a life end in one of the four ways.

        A kill is one of the process by a signal; elsewhere an end by SystemExit stands for it.
        """
        match how:
            case "request":
                await ref.stop(drain=0)
            case "normal":
                await ref.tell(Actor.end)
            case "abnormal":
                await ref.tell(Actor.crash)
            case "killed" if self.stage.remote:
                os.kill(await ref.ask(Actor.pid), signal.SIGKILL)
            case "killed":
                await ref.tell(Actor.exit)

    def told(self, kind: type[av.Notification], under: str = "") -> list[str]:
        """Whose notifications of one kind came, in order, by name."""
        prefix = f"host/{under}/" if under else "host/"
        return [
            one.path.removeprefix(prefix)
            for one in self.record
            if isinstance(one, kind) and one.path.startswith(prefix)
        ]

    def reasons(self, path: str) -> list[av.ExitReason]:
        """How its lives ended."""
        return [
            one.reason
            for one in self.record
            if isinstance(one, av.Exited) and one.path == f"host/{path}"
        ]


def tree(children: Iterable[Any] = (), **options: Any) -> av.Supervisor:
    """The supervisor of a case: its end is for good, and no business of the host's."""
    given: dict[str, Any] = {"name": "t", "restart": "temporary"}
    return av.Supervisor(children, **given | options)


def names(supervisor: av.SupervisorRef) -> list[str]:
    """Whom it lists."""
    return [child.path.rpartition("/")[2] for child in supervisor.children()]


def counts(supervisor: av.SupervisorRef) -> tuple[int, int]:
    """How many children it has, and how many of them are running."""
    children = supervisor.children()
    return len(children), sum(child.state == "running" for child in children)


def limit_of(reason: av.ExitReason) -> av.RestartLimitExceeded:
    """The limit that a supervisor ended by (S3)."""
    assert isinstance(reason, av.Crashed), reason
    assert isinstance(reason.exception, av.RestartLimitExceeded), reason
    return reason.exception


def fault_of(reason: av.ExitReason) -> BaseException:
    """The exception of a crash."""
    assert isinstance(reason, av.Crashed), reason
    return reason.exception


TASKS = Stage("tasks", av.AsyncExecutor(), TaskActor, virtual=True)
THREADS = Stage("threads", av.ThreadExecutor(), ThreadActor, virtual=False)
PROCESSES = Stage("processes", av.ProcessExecutor(), ProcessActor, virtual=False)
LOOPS = Stage("loops in processes", av.AsyncProcessExecutor(), AsyncProcessActor, virtual=False)
_prompter: ContextVar[tuple[av.Ref[Prompter], list[Script]]] = ContextVar("_prompter")


def _on(stage: Stage) -> Any:
    marks = [pytest.mark.process] if stage.remote else []
    return pytest.param(stage, id=stage.name, marks=marks)


def play(
    *stages: Stage,
) -> Callable[[Callable[Concatenate[Stage, _P], Awaitable[None]]], Callable[..., None]]:
    """Play a case on some stages."""

    def decorate(case: Callable[Concatenate[Stage, _P], Awaitable[None]]) -> Callable[..., None]:
        @functools.wraps(case)
        def played(*, stage: Stage, **kwargs: Any) -> None:
            stage.run(functools.partial(case, stage, **kwargs))

        on_stages = pytest.mark.parametrize("stage", [_on(stage) for stage in stages])
        marked: Callable[..., None] = on_stages(played)
        return marked

    return decorate


everywhere = play(TASKS, THREADS, PROCESSES, LOOPS)
"""Play a case under every executor."""
at_most_places = play(TASKS, THREADS, PROCESSES)
"""Play a case that has many starts, in processes without a loop only."""
