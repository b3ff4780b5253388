"""The supervised nursery (H7): what trio promises of a nursery, and restarts."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import gc
import logging
import random
import signal
import weakref
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal

import pytest
import trio
from hypothesis import given, strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

import actorvisor as av
from actorvisor._core._supervision import Supervision


class Fault(Exception):
    """What crashes on purpose."""


Opens = Callable[[], AbstractAsyncContextManager[Any]]

# What trio documents of its own nursery runs against both: with no restarts, they are the same.
BOTH: list[Any] = [
    pytest.param(trio.open_nursery, id="trio"),
    pytest.param(functools.partial(av.open_supervised_nursery, max_restarts=0), id="no restarts"),
    pytest.param(
        functools.partial(av.open_supervised_nursery, restart="permanent", max_restarts=0),
        id="permanent",
    ),
]
same = pytest.mark.parametrize("opens", BOTH)


async def fail(error: BaseException) -> None:
    await trio.lowlevel.checkpoint()
    raise error


# --- what trio promises -------------------------------------------------------------------


@same
async def test_no_task_outlives_the_block(opens: Opens, autojump_clock: MockClock) -> None:
    ended = []

    async def task(seconds: float) -> None:
        try:
            await trio.sleep(seconds)
            await trio.sleep_forever()
        finally:
            ended.append(seconds)

    async with opens() as nursery:
        for seconds in (1, 2, 3):
            nursery.start_soon(task, seconds)
        await trio.sleep(5)
        assert len(nursery.child_tasks) == 3
        assert nursery.parent_task is trio.lowlevel.current_task()
        nursery.cancel_scope.cancel()
    assert sorted(ended) == [1, 2, 3]
    with pytest.raises(RuntimeError):
        nursery.start_soon(task, 1)
    with pytest.raises(RuntimeError):
        await nursery.start(task, 1)


@pytest.mark.parametrize("opens", BOTH[:2])
async def test_the_block_waits_for_its_tasks(opens: Opens, autojump_clock: MockClock) -> None:
    async with opens() as nursery:
        nursery.start_soon(trio.sleep, 7)
        nursery.start_soon(trio.sleep, 3)
    assert trio.current_time() == 7


@same
async def test_an_exception_of_the_body_cancels_all(
    opens: Opens, autojump_clock: MockClock
) -> None:
    error = Fault()
    with pytest.raises(ExceptionGroup) as caught:  # noqa: ASYNC401
        async with opens() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await trio.sleep(1)
            raise error
    assert caught.value.exceptions == (error,)
    assert trio.current_time() == 1


@same
async def test_an_exception_of_a_task_cancels_all(opens: Opens, autojump_clock: MockClock) -> None:
    error = Fault()
    with pytest.raises(ExceptionGroup) as caught:  # noqa: ASYNC401
        async with opens() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(fail, error)
            await trio.sleep_forever()
    assert caught.value.exceptions == (error,)


@same
async def test_all_that_fail_at_once_are_in_one_group(
    opens: Opens, autojump_clock: MockClock
) -> None:
    async def fail_late(error: Exception) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise error

    errors = [Fault(number) for number in range(3)]
    with pytest.raises(ExceptionGroup) as caught:  # noqa: ASYNC401
        async with opens() as nursery:
            nursery.start_soon(fail_late, errors[0])
            nursery.start_soon(fail_late, errors[1])
            await wait_all_tasks_blocked()
            raise errors[2]
    assert set(caught.value.exceptions) == set(errors)


@same
@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
async def test_what_is_no_exception(
    opens: Opens, error: BaseException, autojump_clock: MockClock
) -> None:
    with pytest.raises(BaseExceptionGroup) as caught:  # noqa: ASYNC401
        async with opens() as nursery:
            nursery.start_soon(fail, error)
    assert caught.value.exceptions == (error,)
    assert not isinstance(caught.value, ExceptionGroup)


@same
async def test_inside_move_on_after(opens: Opens, autojump_clock: MockClock) -> None:
    async def clean_up_slowly() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(2)

    with trio.move_on_after(3) as scope:
        async with opens() as nursery:
            nursery.start_soon(clean_up_slowly)
            nursery.start_soon(trio.sleep_forever)
            await nursery.start(started_and_sleep)
    assert scope.cancelled_caught
    assert not nursery.cancel_scope.cancelled_caught
    assert trio.current_time() == 5  # no grace, and no shield


async def started_and_sleep(task_status: trio.TaskStatus[str]) -> None:  # noqa: ASYNC114
    task_status.started("up")
    await trio.sleep_forever()


@same
async def test_start_gives_what_it_started_with(opens: Opens, autojump_clock: MockClock) -> None:
    async with opens() as nursery:
        assert await nursery.start(started_and_sleep) == "up"
        nursery.cancel_scope.cancel()


@same
async def test_start_of_what_fails(opens: Opens, autojump_clock: MockClock) -> None:
    # Not retried, and no failure of the nursery.
    calls = 0

    async def fails(task_status: trio.TaskStatus[None]) -> None:  # noqa: ASYNC114, ASYNC128
        nonlocal calls
        calls += 1
        await trio.sleep(1)
        raise Fault

    async with opens() as nursery:
        for _ in range(3):
            with pytest.raises(Fault):
                await nursery.start(fails)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert calls == 3


@same
async def test_start_of_what_returns(opens: Opens, autojump_clock: MockClock) -> None:
    async def returns(task_status: trio.TaskStatus[None]) -> None:  # noqa: ASYNC114, ASYNC128
        await trio.sleep(1)

    async with opens() as nursery:
        with pytest.raises(RuntimeError, match=r"without calling task_status\.started"):
            await nursery.start(returns)
        nursery.cancel_scope.cancel()


@same
async def test_start_that_is_cancelled(opens: Opens, autojump_clock: MockClock) -> None:
    cleaned = False

    async def slow(task_status: trio.TaskStatus[None]) -> None:  # noqa: ASYNC114, ASYNC128
        nonlocal cleaned
        try:
            await trio.sleep_forever()
        finally:
            cleaned = True

    async with opens() as nursery:
        with trio.move_on_after(1):
            await nursery.start(slow)
        assert cleaned
        assert not nursery.child_tasks
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("opens", BOTH[:2])
async def test_start_when_the_nursery_ends_before(opens: Opens, autojump_clock: MockClock) -> None:
    # The task is not in the nursery before it has started: the block does not cancel it.
    async def slow(task_status: trio.TaskStatus[None]) -> None:  # noqa: ASYNC114
        await trio.sleep(5)
        task_status.started()

    async def start(nursery: Any) -> None:
        await nursery.start(slow)

    async with trio.open_nursery() as outer:
        async with opens() as nursery:
            outer.start_soon(start, nursery)  # noqa: ASYNC111
            await trio.sleep(1)
        # It waited for a start that is under way.
        assert trio.current_time() == 5


@same
async def test_a_nursery_passed_to_a_task(opens: Opens, autojump_clock: MockClock) -> None:
    done = []

    async def breed(nursery: Any, depth: int) -> None:
        await trio.lowlevel.checkpoint()
        if depth:
            nursery.start_soon(breed, nursery, depth - 1)
            nursery.start_soon(breed, nursery, depth - 1)
        done.append(depth)
        await trio.sleep_forever()

    async with opens() as nursery:
        nursery.start_soon(breed, nursery, 4)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert len(done) == 31


@same
async def test_the_context_is_that_of_the_starter(opens: Opens, autojump_clock: MockClock) -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")
    seen = []

    async def look() -> None:
        seen.append(variable.get())
        await trio.sleep_forever()

    async with opens() as nursery:
        for number in range(3):
            variable.set(number)
            nursery.start_soon(look)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert sorted(seen) == [0, 1, 2]


@same
async def test_names_of_tasks(opens: Opens, autojump_clock: MockClock) -> None:
    async with opens() as nursery:
        nursery.start_soon(trio.sleep_forever, name="waits")
        (task,) = nursery.child_tasks
        assert task.name.endswith("waits")
        nursery.cancel_scope.cancel()


@same
def test_ctrl_c(opens: Opens) -> None:
    async def main() -> None:
        async with opens() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(strike)

    async def strike() -> None:
        await trio.lowlevel.checkpoint()
        signal.raise_signal(signal.SIGINT)
        await trio.sleep_forever()

    with pytest.raises(BaseExceptionGroup) as caught:  # noqa: ASYNC401
        trio.run(main)
    assert caught.value.split(KeyboardInterrupt)[1] is None


@same
async def test_what_cannot_be_started(opens: Opens, autojump_clock: MockClock) -> None:
    def blocks() -> None:
        pass

    async def fine() -> None:
        pass

    coroutine = fine()
    async with opens() as nursery:
        for wrong, args in ((blocks, ()), (coroutine, ()), (fine, (1,)), (None, ())):
            with pytest.raises(TypeError):
                nursery.start_soon(wrong, *args)
            with pytest.raises(TypeError):
                await nursery.start(wrong, *args)
        assert not nursery.child_tasks
        nursery.cancel_scope.cancel()


# --- restarts -----------------------------------------------------------------------------


class Task:
    """Counts its lives; each fails or returns after a second, as it was told to."""

    def __init__(self, *ends: BaseException | None) -> None:
        self.ends = ends
        self.times: list[float] = []

    async def __call__(self, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:  # noqa: ASYNC114
        self.times.append(trio.current_time())
        life = len(self.times)
        task_status.started(life)
        await trio.sleep(1)
        if life <= len(self.ends):
            end = self.ends[life - 1]
            if end is not None:
                raise end
            return
        await trio.sleep_forever()


async def test_what_raises_is_started_again(autojump_clock: MockClock) -> None:
    # S1: transient, the default
    task, returns = Task(Fault(), Fault()), Task(None)
    async with av.open_supervised_nursery() as nursery:
        nursery.start_soon(task)
        nursery.start_soon(returns)
        await trio.sleep(10)
        assert len(nursery.child_tasks) == 1
        nursery.cancel_scope.cancel()
    assert task.times == [0, 1, 2]
    assert returns.times == [0]


async def test_permanent(autojump_clock: MockClock) -> None:
    # S1
    task = Task(None, Fault(), None)
    async with av.open_supervised_nursery(restart="permanent") as nursery:
        nursery.start_soon(task)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert task.times == [0, 1, 2, 3]


async def test_temporary(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    # S1, O5: it is not restarted, and what it raised is logged, and cancels nothing.
    task = Task(Fault("lost"))
    async with av.open_supervised_nursery(restart="temporary", name="clients") as nursery:
        nursery.start_soon(task, name="client")
        nursery.start_soon(trio.sleep, 5)
    assert trio.current_time() == 5
    assert task.times == [0]
    assert "clients/client crashed" in caplog.text
    assert "Fault: lost" in caplog.text


@pytest.mark.parametrize("max_restarts", [0, 1, 3])
async def test_the_limit(max_restarts: int, autojump_clock: MockClock) -> None:
    # S3: then the task's own exception is raised, as from a nursery.
    errors = [Fault(number) for number in range(max_restarts + 1)]
    task = Task(*errors)
    with pytest.raises(ExceptionGroup) as caught:  # noqa: ASYNC401
        async with av.open_supervised_nursery(max_restarts=max_restarts, within=5) as nursery:
            nursery.start_soon(task, name="task")
            nursery.start_soon(trio.sleep_forever)
    assert caught.value.exceptions == (errors[-1],)
    assert errors[-1].__notes__ == [
        f"nursery/task is not restarted: more than {max_restarts} restarts within 5 s"
    ]
    assert len(task.times) == max_restarts + 1


async def test_the_limit_of_what_returns(autojump_clock: MockClock) -> None:
    with pytest.raises(ExceptionGroup) as caught:  # noqa: ASYNC401
        async with av.open_supervised_nursery(restart="permanent", max_restarts=1) as nursery:
            nursery.start_soon(Task(None, None))
    (error,) = caught.value.exceptions
    assert isinstance(error, av.RestartLimitExceeded)
    assert error.last_reason == av.Completed(None)


async def test_the_window_is_that_of_the_nursery(autojump_clock: MockClock) -> None:
    # S3: as of a supervisor, and what is older than `within` is forgotten.
    error = Fault()
    with pytest.raises(ExceptionGroup):  # noqa: ASYNC401
        async with av.open_supervised_nursery(max_restarts=1) as nursery:
            nursery.start_soon(Task(error))
            nursery.start_soon(Task(error))
    async with av.open_supervised_nursery(max_restarts=1, within=0.5) as nursery:
        nursery.start_soon(Task(error, error, error))
        await trio.sleep(10)
        nursery.cancel_scope.cancel()


async def test_backoff(autojump_clock: MockClock) -> None:
    # S4: it grows, and starts over after a long life.
    task = Task(*[Fault()] * 4)
    backoff = av.Exponential(base=1, factor=2, cap=60, jitter=0)
    async with av.open_supervised_nursery(backoff=backoff, max_restarts=9) as nursery:
        nursery.start_soon(task)
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    assert task.times == [0, 2, 5, 10, 19]

    task = Task(*[Fault()] * 3)
    async with av.open_supervised_nursery(
        backoff=backoff, reset_after=1, max_restarts=9
    ) as nursery:
        nursery.start_soon(task)
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    assert task.times == [60, 62, 64, 66]


async def test_a_cancellation_ends_a_backoff(autojump_clock: MockClock) -> None:
    task = Task(Fault())
    with trio.move_on_after(10):
        async with av.open_supervised_nursery(backoff=av.Fixed(1000)) as nursery:
            nursery.start_soon(task)
    assert trio.current_time() == 10
    assert task.times == [0]


async def test_jitter_is_drawn_from_what_was_given(autojump_clock: MockClock) -> None:
    async def run(seed: int) -> list[float]:
        task = Task(*[Fault()] * 3)
        begin = trio.current_time()
        async with av.open_supervised_nursery(
            backoff=av.Exponential(base=1, jitter=0.5), random=random.Random(seed)
        ) as nursery:
            nursery.start_soon(task)
            await trio.sleep(60)
            nursery.cancel_scope.cancel()
        return [round(time - begin, 6) for time in task.times]

    assert await run(1) == await run(1) != await run(2)


async def test_start_then_restarts(autojump_clock: MockClock) -> None:
    # H7: after `started`, it is restarted; its later calls are ignored.
    task = Task(Fault(), Fault())
    async with av.open_supervised_nursery() as nursery:
        assert await nursery.start(task) == 1
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert task.times == [0, 1, 2]


async def test_started_twice_is_once(autojump_clock: MockClock) -> None:
    async def twice(task_status: trio.TaskStatus[int]) -> None:  # noqa: ASYNC114
        task_status.started(1)
        task_status.started(2)
        await trio.sleep_forever()

    async with av.open_supervised_nursery() as nursery:
        assert await nursery.start(twice) == 1
        nursery.cancel_scope.cancel()


async def test_each_life_has_a_context_of_its_own(autojump_clock: MockClock) -> None:
    # L6
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    seen = []

    async def change(args: list[int]) -> None:
        seen.append((variable.get(), list(args)))
        variable.set("changed")
        await trio.lowlevel.checkpoint()
        if len(seen) < 3:
            raise Fault

    variable.set("outside")
    async with av.open_supervised_nursery() as nursery:
        nursery.start_soon(change, [1])
        variable.set("later")
    assert seen == [("outside", [1])] * 3


async def test_nothing_is_restarted_while_it_is_cancelled(autojump_clock: MockClock) -> None:
    calls = 0

    async def stubborn() -> None:
        nonlocal calls
        calls += 1
        try:
            await trio.sleep_forever()
        finally:
            raise Fault

    with pytest.raises(ExceptionGroup) as caught:  # noqa: ASYNC401
        async with av.open_supervised_nursery(restart="permanent") as nursery:
            nursery.start_soon(stubborn)
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
    assert calls == 1
    assert isinstance(caught.value.exceptions[0], Fault)

    async def swallows() -> None:
        nonlocal calls
        calls += 1
        with trio.CancelScope(shield=True):
            await trio.sleep(3)

    async with av.open_supervised_nursery(restart="permanent") as nursery:
        nursery.start_soon(swallows)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert calls == 2


async def test_a_group_with_a_cancellation_is_no_crash(autojump_clock: MockClock) -> None:
    # M9: what was cancelled from outside is not started again, whatever else failed with it.
    lives = 0

    async def fails_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise Fault

    async def parent() -> None:
        nonlocal lives
        lives += 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails_when_cancelled)
            nursery.start_soon(trio.sleep_forever)

    with pytest.raises(ExceptionGroup) as caught:  # noqa: ASYNC401
        async with av.open_supervised_nursery() as nursery:
            nursery.start_soon(parent)
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
    assert lives == 1
    assert caught.value.subgroup(Fault) is not None


async def test_logging(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    # O5
    caplog.set_level(logging.INFO, "actorvisor")
    async with av.open_supervised_nursery(name="jobs", backoff=av.Fixed(2)) as nursery:
        nursery.start_soon(Task(Fault("first"), None), name="job")
        nursery.start_soon(Task(None), name="job")
    lines = [(record.levelname, record.getMessage().splitlines()[0]) for record in caplog.records]
    assert sorted(lines) == sorted(
        [
            ("INFO", "jobs/job started"),
            ("INFO", "jobs/job-2 started"),
            ("ERROR", "jobs/job crashed"),
            ("INFO", "jobs/job restarts in 2 s (attempt 1)"),
            ("INFO", "jobs/job ended: Completed(value=None)"),
            ("INFO", "jobs/job-2 ended: Completed(value=None)"),
        ]
    )
    assert getattr(caplog.records[0], "path", None) in {"jobs/job", "jobs/job-2"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"restart": "always"}, "restart= must be one of 'permanent', 'transient', 'temporary'"),
        ({"backoff": 3}, "backoff= must be Immediate"),
        ({"reset_after": -1}, "reset_after= must be"),
        ({"max_restarts": -1}, "max_restarts= must be at least 0, not -1"),
        ({"within": -1}, "within= must be"),
        ({"name": "a/b"}, "must not hold a '/'"),
        ({"name": ""}, "name= must not be empty"),
        ({"random": 3}, "random= must be a random.Random, not 3"),
    ],
)
def test_wrong_options(options: dict[str, Any], told: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        av.open_supervised_nursery(**options)
    assert told in str(caught.value)


async def test_wrong_uses(autojump_clock: MockClock) -> None:
    with pytest.raises(TypeError, match="open_supervised_nursery"):
        av.SupervisedNursery()
    manager = av.open_supervised_nursery()
    async with manager as nursery:
        assert repr(nursery) == "<SupervisedNursery 'nursery', 0 tasks>"
        with pytest.raises(ValueError, match="name= 'a/b'"):
            nursery.start_soon(trio.sleep_forever, name="a/b")
    with pytest.raises(RuntimeError, match="entered before"):
        async with manager:
            pass


RESTARTS: tuple[Literal["permanent", "transient", "temporary"], ...] = (
    "permanent",
    "transient",
    "temporary",
)


@given(
    ends=st.lists(st.lists(st.booleans(), max_size=5), min_size=1, max_size=4),
    restart=st.sampled_from(RESTARTS),
    max_restarts=st.integers(0, 6),
    within=st.sampled_from([0.5, 1.0, 2.0, 100.0]),
    delay=st.sampled_from([0.0, 0.25, 3.0]),
)
def test_lives_against_a_naive_model(
    ends: list[list[bool]],
    restart: Literal["permanent", "transient", "temporary"],
    max_restarts: int,
    within: float,
    delay: float,
) -> None:
    # S1, S3, S4: one task begins 0.01 s after the other, so that nothing happens at once.
    expected: list[list[float]] = [[] for _ in ends]
    limit = False
    events = [(0.01 * number, "begins", number) for number in range(len(ends))]
    notes: list[float] = []
    while events and not limit:
        time, what, number = events.pop(events.index(min(events)))
        life = len(expected[number])
        if what == "begins":
            expected[number].append(time)
            if life < len(ends[number]):
                events.append((time + 1, "ends", number))
        elif restart == "permanent" or (restart == "transient" and ends[number][life - 1]):
            notes = [note for note in notes if time - note <= within] + [time]
            limit = len(notes) > max_restarts
            events.append((time + delay, "begins", number))

    async def main() -> None:
        tasks = [Task(*[Fault() if fails else None for fails in each]) for each in ends]
        caught = False
        try:
            async with av.open_supervised_nursery(
                restart=restart,
                max_restarts=max_restarts,
                within=within,
                backoff=av.Fixed(delay) if delay else av.Immediate(),
            ) as nursery:
                for task in tasks:
                    nursery.start_soon(task)
                    await trio.sleep(0.01)
                await trio.sleep(100)
                nursery.cancel_scope.cancel()
        except* (Fault, av.RestartLimitExceeded):
            caught = True
        assert caught == limit
        times = [[round(time, 6) for time in task.times] for task in tasks]
        assert times == [[round(time, 6) for time in each] for each in expected]

    trio.run(main, clock=MockClock(autojump_threshold=0))


# --- misuse, and what happens at once -----------------------------------------------------

EACH = pytest.mark.parametrize(
    "opens",
    [
        *BOTH[:2],
        *(
            pytest.param(functools.partial(av.open_supervised_nursery, restart=restart), id=restart)
            for restart in RESTARTS
        ),
    ],
)


@EACH
async def test_a_crash_in_a_start_that_was_cancelled(
    opens: Opens, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    # H7: trio leaves such a task in `start`, whatever it says: its failure is raised there.
    async def crashes(task_status: trio.TaskStatus[None]) -> None:  # noqa: ASYNC114, ASYNC124
        task_status.started()
        raise Fault

    async with opens() as nursery:
        with trio.CancelScope() as scope:
            scope.cancel()
            with pytest.raises(Fault):
                await nursery.start(crashes)
        assert not nursery.child_tasks
        nursery.cancel_scope.cancel()
    assert not caplog.records


@pytest.mark.parametrize("sleeps", [False, True])
async def test_a_start_that_was_cancelled_leaves_nothing(
    sleeps: bool, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    lives = 0

    async def job(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:  # noqa: ASYNC114
        nonlocal lives
        lives += 1
        task_status.started()
        if sleeps and lives == 1:
            await trio.sleep_forever()
        if lives == 2:
            raise Fault

    async with av.open_supervised_nursery() as nursery:
        with trio.CancelScope() as scope:
            scope.cancel()
            await nursery.start(job)
        nursery.start_soon(job)
    assert lives == 3
    lines = [record.getMessage().splitlines()[0] for record in caplog.records]
    assert lines == ["nursery/job crashed"]


async def test_started_after_the_end(autojump_clock: MockClock) -> None:
    kept = []

    async def leaves(task_status: trio.TaskStatus[None]) -> None:  # noqa: ASYNC114, ASYNC124, ASYNC128
        kept.append(task_status)

    async with av.open_supervised_nursery() as nursery:
        with pytest.raises(RuntimeError):
            await nursery.start(leaves)
        kept[0].started()
        assert repr(nursery) == "<SupervisedNursery 'nursery', 0 tasks>"


async def test_a_return_while_it_is_cancelled_is_an_end(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    # A nursery that is shielded late goes on, and knows who is in it.
    lives = 0

    async def task() -> None:
        nonlocal lives
        lives += 1
        if lives == 1:
            with trio.move_on_after(5):
                await trio.sleep_forever()
            try:
                await trio.sleep_forever()
            except trio.Cancelled:  # noqa: ASYNC103
                return  # noqa: ASYNC104
        if lives == 2:
            raise Fault
        await trio.sleep_forever()

    with trio.CancelScope() as outer:
        async with av.open_supervised_nursery(restart="permanent") as nursery:
            nursery.start_soon(task)
            with trio.CancelScope(shield=True):
                await trio.sleep(6)
                outer.cancel()
                await wait_all_tasks_blocked()
                assert not nursery.child_tasks
                nursery.cancel_scope.shield = True
                nursery.start_soon(task)
                await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert lives == 3
    lines = [record.getMessage().splitlines()[0] for record in caplog.records]
    assert lines == ["nursery/task crashed"]


async def test_a_new_task_does_not_clear_the_notes_of_an_old_one(autojump_clock: MockClock) -> None:
    # S3, I2: one that is over, and had the same name, was another one.
    lives = 0

    async def fails_first() -> None:  # noqa: ASYNC124
        nonlocal lives
        lives += 1
        if lives % 2:
            raise Fault

    with pytest.RaisesGroup(Fault):
        async with av.open_supervised_nursery(max_restarts=3) as nursery:
            for _ in range(4):
                nursery.start_soon(fails_first)
                await wait_all_tasks_blocked()
    assert lives == 7


class Methods:
    """What is called is no function."""

    def __init__(self) -> None:
        self.protected: list[bool] = []

    async def method(self) -> None:
        self.protected.append(trio.lowlevel.currently_ki_protected())
        await trio.sleep_forever()

    async def __call__(self) -> None:
        await self.method()

    @trio.lowlevel.enable_ki_protection
    async def careful(self) -> None:
        await self.method()


@EACH
async def test_ctrl_c_reaches_the_code_of_users(opens: Opens, autojump_clock: MockClock) -> None:
    # M9: as protected as it says itself, whatever kind of callable it is.
    async with opens() as nursery:
        for count, careful in ((3, False), (1, True)):
            user = Methods()
            each = [user.careful] if careful else [user.method, user, functools.partial(user)]
            for function in each:
                nursery.start_soon(function)
            await wait_all_tasks_blocked()
            assert user.protected == [careful] * count
        nursery.cancel_scope.cancel()


async def test_no_decision_is_interrupted(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # M9: else a Ctrl-C leaves a task that nobody knows.
    decide = Supervision.decide
    seen = []

    def look(self: Supervision, event: Any, *args: Any) -> Any:
        seen.append((type(event).__name__, trio.lowlevel.currently_ki_protected()))
        return decide(self, event, *args)

    monkeypatch.setattr(Supervision, "decide", look)
    async with av.open_supervised_nursery(backoff=av.Fixed(1)) as nursery:
        await nursery.start(Task(Fault(), None))
    assert {name for name, _ in seen} == {"Begin", "StartNew", "ChildUp", "ChildExit", "Due"}
    assert all(protected for _, protected in seen)


@EACH
async def test_coroutines_of_other_kinds(opens: Opens, autojump_clock: MockClock) -> None:
    ran = []

    async def generate() -> AsyncGenerator[None]:
        ran.append("a generator's step")
        yield
        await trio.sleep_forever()

    async with contextlib.aclosing(generate()) as generator, opens() as nursery:
        nursery.start_soon(generator.__anext__)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert ran == ["a generator's step"]


async def test_names_of_callables(autojump_clock: MockClock) -> None:
    # What has no name that will do is called after its class.
    odd = Methods()
    odd.__name__ = "a/b"  # type: ignore[attr-defined]
    wait = functools.partial(trio.sleep, 100)
    async with av.open_supervised_nursery() as nursery:
        for function in (odd, wait, functools.partial(wait), Methods().method):
            nursery.start_soon(function)
        names = {task.name for task in nursery.child_tasks}
        nursery.cancel_scope.cancel()
    assert names == {"nursery/Methods", "nursery/sleep", "nursery/sleep-2", "nursery/method"}


async def test_names_of_starts_at_once(autojump_clock: MockClock) -> None:
    async def slow(task_status: trio.TaskStatus[None]) -> None:  # noqa: ASYNC114
        await trio.sleep(1)
        task_status.started()
        await trio.sleep_forever()

    async with av.open_supervised_nursery() as nursery, trio.open_nursery() as outer:
        for _ in range(3):
            outer.start_soon(nursery.start, slow)
        await trio.sleep(2)
        names = {task.name for task in nursery.child_tasks}
        nursery.cancel_scope.cancel()
    assert names == {"nursery/slow", "nursery/slow-2", "nursery/slow-3"}


@pytest.mark.parametrize("restart", RESTARTS)
async def test_a_crash_makes_no_garbage(
    restart: Literal["permanent", "transient", "temporary"], autojump_clock: MockClock
) -> None:
    # S10: what it was, with all that its frames hold, is gone without the collector.
    class Held:
        pass

    held: list[weakref.ref[Held]] = []

    async def crashes() -> None:
        local = Held()
        held.append(weakref.ref(local))
        await trio.lowlevel.checkpoint()
        if len(held) % 4:
            raise Fault(local)
        await trio.sleep_forever()

    gc.collect()
    gc.disable()
    try:
        async with av.open_supervised_nursery(restart=restart) as nursery:
            nursery.start_soon(crashes)
            await trio.sleep(1)
            alive = [one for one in held if one() is not None]
            assert len(alive) == (restart != "temporary")
            nursery.cancel_scope.cancel()
    finally:
        gc.enable()


async def test_a_crash_with_an_error_of_somebody_else(autojump_clock: MockClock) -> None:
    # L2: the frames that are cleared are those that are done; clear() on one that waits ends it.
    passed, take = trio.open_memory_channel[Exception](1)

    async def catches() -> None:
        try:
            raise Fault
        except Fault as error:
            await passed.send(error)
        await trio.sleep(5)
        done.append("it went on")

    def generate() -> Iterator[Exception]:
        try:
            raise Fault
        except Fault as error:
            yield error
        done.append("it, too")

    async def raises() -> None:
        raise await take.receive() from next(generator)

    done: list[str] = []
    generator = generate()
    async with trio.open_nursery() as outer:
        outer.start_soon(catches)
        async with av.open_supervised_nursery(restart="temporary") as nursery:
            nursery.start_soon(raises)
        assert list(generator) == []
    assert done == ["it, too", "it went on"]
