"""Hosts of services in processes, as tests open them: with a deadline, and checked at the end."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

import actorvisor as av
from tests.executors.process_services import AsyncWorker, Stage, Worker
from tests.runtime.account import check_account

Executor = av.ProcessExecutor | av.AsyncProcessExecutor
DEADLINE = 30

EXECUTORS: dict[str, Callable[..., Executor]] = {
    "plain": av.ProcessExecutor,
    "async": av.AsyncProcessExecutor,
}
both = pytest.mark.parametrize("make", EXECUTORS.values(), ids=EXECUTORS)
"""For a test that fits both executors; ``make`` makes one."""


def worker(make: Callable[..., Executor], *args: Any, **options: Any) -> av.Application[Any]:
    """A worker, under an executor that ``make`` makes with options that are its own."""
    executor = make(**{key: options.pop(key) for key in _OPTIONS & options.keys()})
    declare: Any = av.Application
    target = AsyncWorker if executor.has_loop else Worker
    app: av.Application[Any] = declare(
        target, *args, **{"executor": executor, "name": "worker"} | options
    )
    return app


_OPTIONS = set(av.ProcessExecutor.__dataclass_fields__)


@asynccontextmanager
async def opened(*children: Any, **options: Any) -> AsyncGenerator[av.Host, None]:
    """A host with a deadline; at its end the account is right."""
    with trio.fail_after(DEADLINE):
        async with av.open_host(children, **options) as host:
            yield host
        check_account(host)


async def stage_of(host: av.Host) -> av.Ref[Stage]:
    return await host.start(av.Application(Stage, name="stage"))


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110
        await trio.sleep(0.001)


async def caught(awaitable: Awaitable[Any]) -> Any:
    """What it raises."""
    try:
        value = await awaitable
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        return error
    pytest.fail(f"nothing was raised, but {value!r} came")


async def next_of(events: Any, kind: type[Any], path: str = "host/worker") -> Any:
    async for one in events:
        if isinstance(one, kind) and one.path == path:
            return one
    pytest.fail(f"no {kind.__name__} of {path}")


def is_gone(pid: int) -> bool:
    """Whether a process is gone; one that nobody has waited for yet is."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


class Death:
    """What a death was to observers.

    Attributes:
        reason: of the one `Exited`.
        answer: what became of the ask that led to it.
        kinds: the notifications up to the next life, in order.
    """

    def __init__(self, reason: av.ExitReason, answer: Any, kinds: list[str]) -> None:
        self.reason = reason
        self.answer = answer
        self.kinds = kinds


async def death(
    host: av.Host, ref: av.Ref[Any], cause: Callable[[], Awaitable[Any]] | None = None
) -> Death:
    """Bring a worker to its death; it is one restart decision, and the next life works."""
    life = ref.incarnation
    kinds, reasons, answer = [], [], None
    with host.events() as events:
        if cause is not None:
            try:
                answer = await cause()
            except Exception as error:
                answer = error
        async for one in events:
            if one.path != ref.path or isinstance(one, av.DeadLetter):
                continue
            kinds.append(type(one).__name__)
            if isinstance(one, av.Exited):
                reasons.append(one.reason)
            elif isinstance(one, av.Started):
                break
    assert kinds.count("Started") == kinds.count("Starting") == 1, kinds
    assert len(reasons) == 1, kinds
    assert ref.incarnation == life + 1
    pid = await ref.ask(Worker.pid)
    assert pid != os.getpid()
    return Death(reasons[0], answer, kinds)
