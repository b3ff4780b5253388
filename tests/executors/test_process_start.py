"""What a start in a process can fail of: it is told at once, with its cause, and costs nothing (L3)."""

from __future__ import annotations

import errno
import gc
import importlib
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

import actorvisor as av
from actorvisor.bridge import _memory as memory
from tests.executors import process_services as acts
from tests.executors.process_services import BrokenService, Fault, Stubborn, Unloadable, Worker
from tests.executors.processes import Executor, both, caught, death, next_of, opened, until, worker

pytestmark = pytest.mark.process
Make = Callable[..., Executor]
LIMIT = 5.0
GOOD = "import actorvisor as av\nclass Guest(av.Service):\n    pass\n"


def has_no_child(host: av.Host) -> bool:
    return not host.children()


@both
async def test_a_large_job_that_cannot_be_copied(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    # L3, W1: told as it is; and its worker does not live on, and count
    def fail(_: object) -> Any:
        raise OSError(errno.EMFILE, "too many open files")

    app = worker(make, acts.nothing, acts.nothing, bytes(2 << 20), standby=0, max_processes=1)
    async with opened() as host:
        with monkeypatch.context() as patch:
            patch.setattr(memory, "copy", fail)
            error = await caught(host.start(app))
        assert type(error) is OSError
        assert error.errno == errno.EMFILE
        with trio.fail_after(LIMIT):
            ref = await host.start(app)
            assert await ref.ask(Worker.take, 1) == 1


@both
async def test_a_factory_that_raises(make: Make) -> None:
    async with opened() as host:
        error = await caught(host.start(av.Application(BrokenService, executor=make())))
        assert type(error) is Fault  # L3: the user's own
        assert isinstance(error.__cause__, av.RemoteTraceback)  # P2
        assert "no such instance" in error.__cause__.traceback_text
        assert has_no_child(host)


@both
async def test_a_declared_argument_that_cannot_be_pickled(make: Make) -> None:
    async with opened() as host:
        error = await caught(host.start(worker(make, acts.nothing, acts.nothing, Stubborn())))
        assert isinstance(error, TypeError)  # L3, P4: it is named
        assert "host/worker cannot start in a process" in str(error)
        assert "<Stubborn one>" in str(error)
        assert "stubborn as it is" in str(error)
        assert has_no_child(host)


@both
async def test_a_declared_argument_that_cannot_be_unpickled(make: Make) -> None:
    async with opened() as host:
        error = await caught(host.start(worker(make, acts.nothing, acts.nothing, Unloadable())))
        assert type(error) is LookupError  # L3
        assert isinstance(error.__cause__, av.RemoteTraceback)
        assert "_cannot_load" in error.__cause__.traceback_text
        assert has_no_child(host)


@both
async def test_a_large_declared_argument(make: Make) -> None:
    async with opened() as host:
        for size in (1 << 17, 1 << 18, 1 << 22):
            ref = await host.start(
                worker(make, acts.nothing, acts.nothing, b"x" * size, name=f"of-{size}")
            )
            assert await ref.ask(Worker.do, acts.sizes_of_args) == [size]  # L6, P6


@both
async def test_a_class_that_has_no_name_in_a_module(make: Make) -> None:
    pytest.importorskip("pickle")

    class Local(Worker):
        pass

    if importlib.util.find_spec("cloudpickle") is not None:
        pytest.skip("cloudpickle pickles it")
    async with opened() as host:
        error = await caught(host.start(av.Application(Local, executor=make())))
        assert isinstance(error, TypeError)  # P4
        assert "Local" in str(error)
        assert "cloudpickle" in str(error)  # the remedy
        assert has_no_child(host)


@pytest.fixture
def guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module that can be changed after it was imported here; its `Guest`, and how to change it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"guest_{os.getpid()}_{time.monotonic_ns()}"
    file = tmp_path / f"{name}.py"
    file.write_text(GOOD)
    module = importlib.import_module(name)
    yield module.Guest, file
    del sys.modules[name]


@both
@pytest.mark.parametrize(
    ("source", "kind", "text"),
    [
        ("raise ImportError('only at home')\n", ImportError, "only at home"),
        ("def wrong(:\n", SyntaxError, "invalid syntax"),
        ("import no_such_module_at_all\n", ModuleNotFoundError, "no_such_module_at_all"),
        ("# nothing is in it\n", AttributeError, "Guest"),
        ("import sys; sys.exit(5)\n", RuntimeError, "SystemExit(5)"),
        ("raise KeyboardInterrupt\n", KeyboardInterrupt, ""),
    ],
)
async def test_a_module_that_cannot_be_imported(
    make: Make, guest: Any, source: str, kind: type[BaseException], text: str
) -> None:
    cls, file = guest
    file.write_text(source)
    async with opened() as host:
        for start_method in ("forkserver", "spawn"):
            executor = make(start_method=start_method, standby=0)
            with trio.fail_after(LIMIT):
                error = await caught(host.start(av.Application(cls, executor=executor)))
            assert type(error) is kind, repr(error)  # L3
            assert text in str(error)
            assert isinstance(error.__cause__, av.RemoteTraceback)
            assert file.name in error.__cause__.traceback_text or kind is AttributeError
            assert has_no_child(host)


@both
async def test_a_module_that_kills_its_process(make: Make, guest: Any) -> None:
    cls, file = guest
    file.write_text("import os; os._exit(9)\n")
    async with opened() as host:
        executor = make(start_method="spawn", standby=0)
        with trio.fail_after(LIMIT):
            error = await caught(host.start(av.Application(cls, executor=executor)))
        assert isinstance(error, av.StartFailed)  # L3
        assert error.reason == av.Killed(9)


@both
async def test_a_module_that_takes_too_long(make: Make, guest: Any) -> None:
    cls, file = guest
    file.write_text("import time; time.sleep(600)\n")
    async with opened() as host:
        executor = make(start_method="spawn", standby=0)
        app = av.Application(cls, executor=executor, start_timeout=0.5)
        with trio.fail_after(LIMIT):
            error = await caught(host.start(app))
        assert isinstance(error, av.StartTimeout)  # L3


@both
async def test_a_start_that_is_cancelled(make: Make) -> None:
    async with opened() as host:
        for delay in (0.0, 0.002, 0.005, 0.01, 0.02, 0.04):
            with trio.move_on_after(delay):
                await host.start(worker(make, acts.block, standby=0, grace=0.1))
                pytest.fail("it blocks")
            assert has_no_child(host)  # L3, I4
        assert (await host.start(worker(make, standby=0))).state == "running"


@both
async def test_as_many_processes_as_there_may_be(make: Make) -> None:
    async with opened() as host:
        executor = make(max_processes=2)
        apps: Any = [worker(make, executor=executor, name=name) for name in ("one", "two", "three")]
        first, _ = await host.start(apps[0]), await host.start(apps[1])
        error = await caught(host.start(apps[2]))
        assert isinstance(error, av.ProcessLimitReached)
        assert (error.path, error.limit) == ("host/three", 2)
        with host.events() as events:
            await first.tell(Worker.do, acts.die)
            await next_of(events, av.Started, "host/one")  # a restart takes its own place
        await first.stop()
        assert (await host.start(apps[2])).state == "running"


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextmanager
def few_descriptors(more: int) -> Iterator[None]:
    """Let this process open that many descriptors more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = 0
    used = {int(one) for one in os.listdir("/proc/self/fd")}
    while more >= 0:  # the limit is for the number of a descriptor
        if free not in used:
            more -= 1
        free += 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (free - 1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@both
async def test_a_start_without_descriptors(make: Make) -> None:
    # Not by the fork server: to lack a descriptor there makes multiprocessing leak some, and ends
    # the server.
    app = worker(make, start_method="spawn", standby=0)
    async with opened() as host:
        await (await host.start(app)).remove()
        before = descriptors()
        more, failures, kinds = 0, 0, set()
        while True:
            with few_descriptors(more), trio.fail_after(2 * LIMIT):
                try:
                    ref = await host.start(app)
                except OSError as error:
                    kinds.add(error.errno)
                else:
                    await ref.remove()
                    break
            gc.collect()
            # L3: it costs none. A thread of trio's keeps two until it does something else.
            await until(lambda: descriptors() <= before + 2)
            assert has_no_child(host)
            failures, more = failures + 1, more + 1
        await until(lambda: descriptors() <= before + 2)
        assert failures > 5
        assert kinds == {errno.EMFILE}  # L3


@both
async def test_lives_leave_no_descriptors(make: Make) -> None:
    async with opened(worker(make, standby=0), max_restarts=99) as host:
        ref = host.find("worker", Worker)
        await ref.restart()
        gc.collect()
        gc.disable()
        try:
            before = descriptors()
            for _ in range(10):
                await ref.restart()
                await death(host, ref, lambda: ref.ask(Worker.do, acts.leave))
                await death(host, ref, lambda: ref.ask(Worker.do, acts.crash))
            await until(lambda: descriptors() <= before + 1)  # S10
        finally:
            gc.enable()
