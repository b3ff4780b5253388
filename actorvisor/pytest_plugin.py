"""The pytest plugin: hosts that end with their test, faults by a mark, and replays of what failed.

It is found by its entry point, and costs a test run next to nothing: what it needs is imported
when a test asks for it. It works beside pytest-trio and hypothesis, and changes nothing of them.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Generator
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    import trio

    from ._runtime._host import Host, open_host as open_host_type
    from .testing._recording import Recorder
    from .testing._simulation._simulate import Run
    from .testing._trace import Trace

OPTION: Final = "--actorvisor-replay"

TAIL: Final = 60
"""Entries of a trace that are shown of a test that failed; the file has them all."""

_recorders: pytest.StashKey[list[Recorder]] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    group = parser.getgroup("actorvisor")
    group.addoption(
        OPTION,
        metavar="FILE",
        help="replay in every simulate() what is in FILE, the trace of a failed simulation",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark; read what is to be replayed.

    Raises:
        pytest.UsageError: the file is no trace of a simulation.
    """
    config.addinivalue_line(
        "markers",
        "faults(plan): inject the faults of a FaultPlan into the hosts of the open_host fixture",
    )
    file = config.getoption(OPTION)
    if file is not None:
        from .testing._simulation._recipe import Recipe
        from .testing._simulation._simulate import replayed
        from .testing._trace import TraceError

        try:
            recipe = Recipe.read(file)
        except (OSError, TraceError) as error:
            raise pytest.UsageError(f"{OPTION}: {error}") from error
        token = replayed.set(recipe)
        config.add_cleanup(lambda: replayed.reset(token))


class HostOpener:
    """What the `open_host` fixture gives: it opens hosts that end with the test.

    ``await open_host([...])`` gives a host that is stopped when the test is over; ``async with
    open_host([...]) as host`` one that ends with the block, as everywhere else. Both take what
    `actorvisor.open_host` takes.
    """

    def __init__(self, recorder: Recorder, nursery: trio.Nursery, over: trio.Event) -> None:
        self._recorder = recorder
        self._nursery = nursery
        self._over = over

    def __call__(self, *args: Any, **options: Any) -> OpenedHost:
        """Open a host: to be awaited, or entered."""
        return OpenedHost(self._recorder(*args, **options), self._nursery, self._over)

    def trace(self) -> Trace:
        """What happened in its hosts so far."""
        return self._recorder.trace()


class OpenedHost:
    """A host that is about to be opened, for the test or for a block."""

    def __init__(self, block: open_host_type, nursery: trio.Nursery, over: trio.Event) -> None:
        self._block = block
        self._nursery = nursery
        self._over = over

    def __await__(self) -> Generator[Any, Any, Host]:
        return self._nursery.start(self._keep).__await__()  # noqa: ASYNC105

    async def _keep(self, task_status: trio.TaskStatus[Host]) -> None:  # noqa: ASYNC114
        """Hold it open until the test is over."""
        async with self._block as host:
            task_status.started(host)
            await self._over.wait()

    async def __aenter__(self) -> Host:
        return await self._block.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return await self._block.__aexit__(kind, error, traceback)  # noqa: ASYNC102


@pytest.fixture
async def open_host(request: pytest.FixtureRequest) -> AsyncGenerator[HostOpener, None]:
    """Opens hosts that end with the test; their rules are checked then.

    Faults of ``@pytest.mark.faults(plan)`` happen in them. When the test fails, their trace is
    shown. When it is over nothing of them is left: no task, no process, no thread that was not
    reported.
    """
    import trio

    from .testing._check import check
    from .testing._faults import plan_of
    from .testing._injection import inject
    from .testing._leaks import Leaks
    from .testing._recording import record

    plan = plan_of(())
    mark = request.node.get_closest_marker("faults")
    if mark is not None:
        if len(mark.args) != 1 or mark.kwargs:
            raise pytest.UsageError(
                "@pytest.mark.faults(plan) takes one FaultPlan, or a list of faults"
            )
        plan = plan_of(mark.args[0])
    recorder = record(inject(plan))
    request.node.stash.setdefault(_recorders, []).append(recorder)
    leaks = Leaks()
    async with trio.open_nursery() as nursery:
        over = trio.Event()
        yield HostOpener(recorder, nursery, over)
        over.set()
    trace = recorder.trace()
    leaks.check(trace)
    check(trace)


def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Show the trace of what failed, and how to replay it."""
    if call.excinfo is None or call.excinfo.errisinstance(pytest.skip.Exception):
        return
    run = _run_of(call.excinfo.value)
    if run is not None:
        text = _tail(run.trace)
        file = _write(item, run.trace)
        if file is not None:
            text += f"\n\nreplay it: pytest {item.nodeid!r} {OPTION} {file}"
        item.add_report_section(call.when, "actorvisor simulation", text)
    for recorder in item.stash.get(_recorders, []):
        item.add_report_section(call.when, "actorvisor trace", _tail(recorder.trace()))


def _run_of(error: BaseException) -> Run[Any] | None:
    """The simulation that an exception comes from, also one in a group."""
    run: Run[Any] | None = error.__dict__.get("actorvisor_run")
    if run is None and isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(_run_of, error.exceptions)), None)
    return run


def _tail(trace: Trace) -> str:
    lines = str(trace).splitlines()
    if len(lines) > TAIL + 1:
        lines[1:-TAIL] = [f"... {len(lines) - TAIL - 1} entries before"]
    return "\n".join(lines)


def _write(item: pytest.Item, trace: Trace) -> Path | None:
    """Keep a trace, where pytest keeps things between runs."""
    cache = getattr(item.config, "cache", None)
    if cache is None:
        return None
    name = re.sub(r"[^\w.-]+", "-", item.nodeid).strip("-")[-120:]
    file: Path = cache.mkdir("actorvisor") / f"{name}.jsonl"
    trace.write(file)
    return file
