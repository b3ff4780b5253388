"""The gate: any trio program does in it what it does in trio, one step at a time (T2)."""

from __future__ import annotations

import contextlib
import contextvars
import gc
import itertools
import random
import signal
import socket
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

import outcome
import pytest
import trio
import trio.testing

from actorvisor.testing import (
    Deadlock,
    OutsideSimulation,
    ReplayDiverged,
    Schedule,
    StepLimit,
    explore,
    simulate,
)
from actorvisor.testing._simulation._gate import Gate, current_gate


def test_the_coroutine_of_a_task_can_be_replaced() -> None:
    # T2: the one thing that the gate rests on, and that trio does not promise. If this fails, a
    # newer trio needs another way in.
    class Replacing(trio.abc.Instrument):
        def task_spawned(self, task: trio.lowlevel.Task) -> None:
            if task.name == "replaced":
                task.coro.close()
                task.coro = other()  # type: ignore[assignment]

    async def main() -> list[str]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(never, name="replaced")
        return said

    async def never() -> None:
        raise AssertionError("it ran")  # pragma: no cover

    async def other() -> None:
        said.append("other")

    said: list[str] = []
    assert trio.run(main, instruments=[Replacing()]) == ["other"]


def test_the_stack_of_a_task_is_its_own() -> None:
    # T2: who looks for where a task hangs (L9, trio's own tools) finds it, and not the gate
    async def hangs() -> None:
        await trio.sleep_forever()

    async def program() -> list[str]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hangs)
            await trio.sleep(1)
            (task,) = nursery.child_tasks
            names = [frame.f_code.co_name for frame, _ in task.iter_await_frames()]
            nursery.cancel_scope.cancel()
        return names

    assert simulate(program).value[:2] == ["hangs", "sleep_forever"]


def test_who_has_exited_is_gone_at_once() -> None:
    # T3: else the collector would decide when what it held dies, and no seed decides that
    died: list[int] = []
    held: contextvars.ContextVar[object] = contextvars.ContextVar("held")

    class Held:
        def __init__(self, number: int) -> None:
            self.number = number

        def __del__(self) -> None:
            died.append(self.number)

    async def child(number: int) -> None:
        held.set(Held(number))

    async def program() -> list[int]:
        for number in range(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child, number)
        return list(died)

    gc.disable()
    try:
        assert simulate(program).value == [0, 1, 2, 3, 4]
    finally:
        gc.enable()


def test_garbage_is_collected_at_the_same_steps() -> None:
    # T2: a finaliser may do anything, so that it must not depend on what was allocated before
    class Cycle:
        def __init__(self, number: int) -> None:
            self.itself, self.number, self.died = self, number, died

        def __del__(self) -> None:
            self.died.append((self.number, turn))

    turn = 0

    async def program() -> None:
        nonlocal turn
        for turn in range(2_500):
            Cycle(turn)
            await trio.sleep(1)

    runs = []
    for allocated in (0, 333, 500):
        kept = [[] for _ in range(allocated)]  # type: ignore[var-annotated]
        died: list[tuple[int, int]] = []
        simulate(program)
        assert len(kept) == allocated
        assert gc.isenabled()
        runs.append([one for one in died if one[1] < turn])  # not what is collected after it
    assert runs[0]
    assert runs[1:] == runs[:1] * 2


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_left_as_it_was(enabled: bool) -> None:
    # T2: also if the program fails
    async def program() -> None:
        assert not gc.isenabled()
        raise OSError("it failed")

    try:
        if not enabled:
            gc.disable()
        with pytest.raises(OSError, match="it failed"):
            simulate(program)
        assert gc.isenabled() is enabled
    finally:
        gc.enable()


def test_a_deadline_that_has_passed_counts_before_the_next_choice() -> None:
    # T2: whoever has it is as ready as whoever takes a checkpoint
    async def program() -> str:
        said = []

        async def deadlines() -> None:
            for _ in range(3):
                with trio.CancelScope() as scope:
                    scope.deadline = trio.current_time()
                    await trio.sleep_forever()
                said.append("a")

        async def checkpoints() -> None:
            for _ in range(3):
                await trio.lowlevel.checkpoint()
                said.append("b")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(deadlines)
            nursery.start_soon(checkpoints)
        return "".join(said)

    assert simulate(program, schedule=Schedule(demote=(0, 1))).value == "aaabbb"
    orders = {simulate(program, seed=seed).value for seed in range(300)}
    assert len(orders) == 20  # all that there are: 6 over 3


async def soon_event() -> str:
    said = []
    event = trio.Event()
    token = trio.lowlevel.current_trio_token()

    async def waits() -> None:
        await event.wait()
        said.append("c")

    async def says(what: str) -> None:
        if what == "a":
            token.run_sync_soon(event.set)
        for _ in range(6):
            await trio.lowlevel.checkpoint()
            said.append(what)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(waits)
        nursery.start_soon(says, "a")
        nursery.start_soon(says, "b")
    return "".join(said)


async def soon_and_over() -> str:
    said = []
    event = trio.Event()
    token = trio.lowlevel.current_trio_token()

    async def waits() -> None:
        await event.wait()
        said.append("w")

    async def ends(what: str) -> None:
        token.run_sync_soon(event.set)
        said.append(what)
        await trio.lowlevel.checkpoint_if_cancelled()  # it wakes nobody, itself included

    async with trio.open_nursery() as nursery:
        nursery.start_soon(waits)
        await trio.sleep(1)
        for what in "abcd":
            nursery.start_soon(ends, what)
    return "".join(said)


async def soon_tasks() -> str:
    said = []
    token = trio.lowlevel.current_trio_token()

    async def says(what: str) -> None:
        await trio.lowlevel.checkpoint()
        said.append(what)
        await trio.sleep(1)
        said.append(what.upper())

    async with trio.open_nursery() as nursery:
        token.run_sync_soon(nursery.start_soon, says, "a")
        contextvars.Context().run(nursery.start_soon, says, "b")
        nursery.start_soon(says, "c")
        await trio.sleep(2)
    return "".join(said)


async def left_generators() -> str:
    said = []

    async def counts() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
            said.append("closed")

    async def leaves() -> None:
        async for _ in counts():
            break
        for _ in range(3):
            await trio.lowlevel.checkpoint()
            said.append("left")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(leaves)
        nursery.start_soon(leaves)
    return " ".join(said)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # they are left
@pytest.mark.parametrize("program", [soon_event, soon_and_over, soon_tasks, left_generators])
@pytest.mark.parametrize("seed", [None, 3])
def test_what_comes_by_way_of_trio_comes_in_its_order(
    program: Callable[[], Any], seed: int | None
) -> None:
    # T3: trio shuffles its own tasks, which are none of the simulation's
    assert len({simulate(program, seed=seed).value for _ in range(20)}) == 1


def test_a_program_may_wait_until_all_others_are_blocked() -> None:
    # T2: and no time passes by that
    async def alone() -> float:
        await trio.testing.wait_all_tasks_blocked()
        return trio.current_time()

    async def beside() -> float:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 1)
            return await alone()

    for program in (alone, beside):
        for _ in range(20):
            assert simulate(program).value == 0.0


def test_a_system_task_is_none_of_the_simulation() -> None:
    # T2: it lives as long as the loop
    async def program() -> str:
        context = contextvars.copy_context()
        trio.lowlevel.spawn_system_task(trio.sleep_forever, context=context)
        await trio.lowlevel.checkpoint()
        return "done"

    assert simulate(program).value == "done"


def test_an_interrupt_ends_a_simulation() -> None:
    # T2, M9: wherever it comes
    async def goes_on() -> None:
        for number in itertools.count():
            if number == 50:
                signal.raise_signal(signal.SIGINT)
            await trio.lowlevel.checkpoint()

    with pytest.raises(KeyboardInterrupt):
        simulate(goes_on)


def test_an_interrupt_of_the_scheduler_ends_a_simulation(monkeypatch: pytest.MonkeyPatch) -> None:
    # T2, M9
    def interrupted(gate: Gate, schedules: Any = Gate._take_fresh) -> None:
        schedules(gate)
        if gate.steps == 20:
            signal.raise_signal(signal.SIGINT)

    async def goes_on() -> None:
        while True:
            await trio.lowlevel.checkpoint()

    monkeypatch.setattr(Gate, "_take_fresh", interrupted)
    with pytest.raises(KeyboardInterrupt):
        simulate(goes_on)


def test_what_nobody_can_end_does_not_hang() -> None:
    # T2: one clear error, and never a hang
    async def program() -> None:
        await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)

    with pytest.raises(Deadlock):
        simulate(program)


async def ticks() -> list[str]:
    said: list[str] = []

    async def sleeps(number: int) -> None:
        await trio.sleep(number)
        said.append(f"{number} at {trio.current_time()}")

    async def steps(name: str) -> None:
        for _ in range(30):
            await trio.lowlevel.checkpoint()
            said.append(name)

    async with trio.open_nursery() as nursery:
        for number in range(1, 6):
            nursery.start_soon(sleeps, number)
        nursery.start_soon(steps, "a")
        nursery.start_soon(steps, "b")
    return said


def test_time_that_passed_early_is_replayed() -> None:
    # T3: at most one deadline before a step, however it came to that
    early = 0
    for seed in range(60):
        run = simulate(ticks, seed=seed)
        early += bool(run.schedule.skip_time)
        for again in (simulate(ticks, replay=run), simulate(ticks, schedule=run.schedule)):
            assert (again.value, again.lanes) == (run.value, run.lanes)
    assert early > 10


# --- programs that do the same with and without the gate ------------------------------------


async def nested_nurseries() -> list[str]:
    said = []
    async with trio.open_nursery() as outer:
        async with trio.open_nursery() as inner:
            inner.start_soon(trio.sleep, 3)
            outer.start_soon(trio.sleep, 5)
        said.append(f"inner over at {trio.current_time()}")
    said.append(f"outer over at {trio.current_time()}")
    return said


async def started_values() -> Any:
    async def child(task_status: trio.TaskStatus[str]) -> None:
        await trio.sleep(1)
        task_status.started("up")
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        value = await nursery.start(child)
        nursery.cancel_scope.cancel()
    return value, trio.current_time()


async def shielded_cleanup() -> list[float]:
    times = []
    with trio.move_on_after(2):
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(3)
                times.append(trio.current_time())
    return times


async def timeouts() -> list[str]:
    said = []
    with trio.move_on_after(1) as scope:
        await trio.sleep(2)
    said.append(f"{scope.cancelled_caught}")
    with pytest.raises(trio.TooSlowError):
        with trio.fail_after(1):
            await trio.sleep_forever()
    said.append(f"{trio.current_time()}")
    return said


async def generators() -> list[int]:
    async def numbers() -> AsyncGenerator[int, None]:
        try:
            for number in range(5):
                await trio.sleep(1)
                yield number
        finally:
            closed.append(1)

    closed: list[int] = []
    got = []
    async with contextlib.aclosing(numbers()) as source:
        async for number in source:
            got.append(number)
            if number == 2:
                break
    return got + closed


async def groups() -> list[str]:
    async def fail(delay: float, text: str) -> None:
        await trio.sleep(delay)
        raise ValueError(text)

    with pytest.RaisesGroup(pytest.RaisesExc(ValueError, match="first")):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail, 1, "first")
            nursery.start_soon(fail, 2, "second")
    return [str(trio.current_time())]


async def streams() -> bytes:
    one, other = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.send_all, b"x" * 1000)
        got = b""
        while len(got) < 1000:
            got += await other.receive_some(7)
    return got


async def foreign_outcomes() -> list[str]:
    said = []
    task = trio.lowlevel.current_task()

    async def wake() -> None:
        trio.lowlevel.reschedule(task, outcome.Error(KeyError("thrown in")))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wake)
        try:
            await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        except KeyError as error:
            said.append(str(error))
    return said


PROGRAMS = [
    nested_nurseries,
    started_values,
    shielded_cleanup,
    timeouts,
    generators,
    groups,
    streams,
    foreign_outcomes,
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_a_program_does_the_same(program: Callable[[], Any]) -> None:
    # T2
    plain = trio.run(program, clock=trio.testing.MockClock(autojump_threshold=0))
    assert simulate(program).value == plain
    for seed in range(5):
        assert simulate(program, seed=seed).value == plain


# --- one thing at a time, and the same every time -------------------------------------------


async def crowd() -> list[int]:
    """Ten tasks that say their number three times each."""
    said: list[int] = []

    async def say(number: int) -> None:
        for _ in range(3):
            said.append(number)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(say, number)
    return said


def test_first_in_first_out_is_the_plain_order() -> None:
    # T3: what Schedule() means
    assert simulate(crowd).value == [*range(10)] * 3
    assert simulate(crowd).schedule == Schedule()


def test_the_same_seed_gives_the_same_run() -> None:
    # T2
    runs = [simulate(crowd, seed=7) for _ in range(3)]
    assert runs[0] == runs[1] == runs[2]
    assert len({tuple(simulate(crowd, seed=seed).value) for seed in range(20)}) > 15


def test_a_seed_is_a_schedule_too() -> None:
    # T3
    for seed in range(20):
        run = simulate(crowd, seed=seed)
        again = simulate(crowd, schedule=run.schedule)
        assert (again.value, again.lanes) == (run.value, run.lanes)


def test_a_run_is_replayed() -> None:
    # T3
    run = simulate(crowd, seed=3)
    again = simulate(crowd, replay=run)
    assert (again.value, again.lanes) == (run.value, run.lanes)


def test_a_replay_that_does_not_fit_is_one_clear_error() -> None:
    # T3
    async def smaller() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(9):
                nursery.start_soon(trio.lowlevel.checkpoint)

    async def longer() -> None:
        for _ in range(2):
            await crowd()

    run = simulate(crowd, seed=3)
    with pytest.raises(ReplayDiverged, match="at choice 0: when it was recorded, 10 tasks were"):
        simulate(smaller, replay=run)
    with pytest.raises(ReplayDiverged, match="there were no more choices") as caught:
        simulate(longer, replay=run)
    choices = run.trace.header["choices"]
    assert isinstance(choices, list)
    assert caught.value.choice == len(choices)


def test_a_replay_that_does_not_fit_after_a_step_that_wakes_nobody() -> None:
    # T3: it was told as a simulation without an end
    async def ends() -> None:
        await trio.lowlevel.checkpoint_if_cancelled()

    def program(last: str) -> Callable[[], Any]:
        async def main() -> None:
            async with trio.open_nursery() as nursery:
                for name in ("a", "b", last):
                    nursery.start_soon(ends, name=name)

        return main

    run = simulate(program("c"), schedule=Schedule(demote=(1,)))
    with pytest.raises(ReplayDiverged, match="at choice 1: when it was recorded, c ran"):
        simulate(program("d"), replay=run)


def test_a_demotion_puts_a_task_behind_all_others_for_good() -> None:
    # T3: the change points of PCT
    said = simulate(crowd, schedule=Schedule(demote=(0,))).value
    assert said == [*[*range(1, 10)] * 3, 0, 0, 0]


def test_a_deadline_can_fire_before_what_is_ready() -> None:
    # T3
    async def program() -> bool:
        with trio.move_on_after(10) as scope:
            for _ in range(5):
                await trio.lowlevel.checkpoint()
        return scope.cancelled_caught

    assert not simulate(program).value
    assert simulate(program, schedule=Schedule(skip_time=(3,))).value
    assert any(simulate(program, seed=seed).value for seed in range(200))


def test_an_hour_passes_at_once() -> None:
    # T2
    async def program() -> None:
        for _ in range(60):
            await trio.sleep(60)

    began = time.monotonic()
    assert simulate(program).seconds == 3600
    assert time.monotonic() - began < 30


# --- races ----------------------------------------------------------------------------------


async def lost_update() -> None:
    count = 0

    async def add() -> None:
        nonlocal count
        seen = count
        if seen:
            await trio.lowlevel.checkpoint()
        count = seen + 1

    async def first() -> None:
        await add()

    async def others() -> None:
        for _ in range(2):
            await add()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        await trio.lowlevel.checkpoint()
        nursery.start_soon(first)
    assert count == 3


def test_a_race_is_found_and_expressed_as_a_small_schedule() -> None:
    # T3: a failing seed is re-expressed as a schedule, which gives the failure again
    for seed in range(100):
        with contextlib.suppress(AssertionError):
            simulate(lost_update, seed=seed)
            continue
        break
    with pytest.raises(AssertionError) as caught:
        simulate(lost_update, seed=seed)
    (note,) = (one for one in caught.value.__notes__ if "simulated with" in one)
    schedule = eval(note.partition("schedule=")[2], {"Schedule": Schedule})
    assert len(schedule.picks) + len(schedule.skip_time) <= 2
    with pytest.raises(AssertionError):
        simulate(lost_update, schedule=schedule)


def test_every_schedule_of_some_demotions_is_run_once() -> None:
    # T8
    exploration = explore(lost_update, demotions=2)
    runs = list(exploration)
    assert len({run.schedule for run in runs}) == len(runs) == exploration.runs
    assert all(len(run.schedule.demote) <= 2 for run in runs)
    assert 1 < exploration.distinct <= exploration.runs
    assert any(isinstance(run.error, AssertionError) for run in runs)
    assert any(run.error is None for run in runs)


# --- what cannot be simulated ---------------------------------------------------------------


async def waits_for_nothing() -> None:
    await trio.sleep_forever()


async def goes_round() -> None:
    while True:
        await trio.lowlevel.checkpoint()


async def uses_a_thread() -> None:
    await trio.to_thread.run_sync(time.sleep, 0.05)


async def uses_a_thread_of_its_own_limiter() -> None:
    await trio.to_thread.run_sync(time.sleep, 0.05, limiter=trio.CapacityLimiter(1))


async def uses_a_quick_thread() -> None:
    for _ in range(20):
        await trio.to_thread.run_sync(int)


async def uses_a_socket() -> None:
    one, other = socket.socketpair()
    with one, other:
        await trio.lowlevel.wait_readable(one)


async def draws() -> float:
    return random.random()


@pytest.mark.parametrize(
    ("program", "kind", "text"),
    [
        (waits_for_nothing, Deadlock, "all tasks wait"),
        (goes_round, StepLimit, "no end after 500 steps.*max_steps="),
        (uses_a_thread, OutsideSimulation, "trio.to_thread"),
        (uses_a_thread_of_its_own_limiter, OutsideSimulation, "trio.to_thread"),
        (uses_a_quick_thread, OutsideSimulation, "trio.to_thread"),
        (uses_a_socket, OutsideSimulation, "memory_stream_pair"),
        (draws, OutsideSimulation, "global random generator"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_cannot_be_simulated_is_one_clear_error(
    program: Callable[[], Any], kind: type[Exception], text: str
) -> None:
    # T2: documented, and raised where it can be noticed; never a hang
    with pytest.raises(kind, match=text):
        simulate(program, max_steps=500)


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        ({"seed": 1, "schedule": Schedule()}, TypeError, "one of seed="),
        ({"max_steps": 0}, ValueError, "max_steps="),
        ({"seed": "x"}, TypeError, "seed="),
        ({"schedule": (1, 2)}, TypeError, "schedule="),
        ({"replay": 5}, TypeError, "replay="),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_bad_arguments_are_refused_before_anything_runs(
    arguments: dict[str, Any], kind: type[Exception], text: str
) -> None:
    async def program() -> None:
        raise AssertionError("it ran")  # pragma: no cover

    with pytest.raises(kind, match=text):
        simulate(program, **arguments)


def test_what_is_no_async_function_is_refused() -> None:
    for system in (5, lambda: None, crowd()):
        with pytest.raises(TypeError, match="async function"):
            simulate(system)  # type: ignore[arg-type]
        if hasattr(system, "close"):
            system.close()


# --- processes ------------------------------------------------------------------------------


def test_what_is_killed_is_never_stepped_again() -> None:
    # T2, P2: as SIGKILL does it; not even its `finally` runs while the simulation lasts
    last: list[str] = []

    async def program() -> tuple[str, ...]:
        said: list[str] = []
        last[:] = ()

        async def work(where: str) -> None:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(trio.sleep, 100)
                    while True:
                        said.append(where)
                        await trio.sleep(1)
            finally:
                last.append(where)

        gate = current_gate()
        assert gate is not None
        process = gate.process("worker")
        process.start_soon(work, "one")
        other = gate.process("other")
        other.start_soon(work, "two")
        await trio.sleep(2.5)
        process.kill()
        del said[:]
        await trio.sleep(5)
        assert not last
        return tuple(said)

    for seed in (None, 1, 2):
        run = simulate(program, seed=seed)
        assert "one" not in run.value
        assert seed is not None or set(run.value) == {"two"}  # time may pass early at random
        assert sorted(last) == ["one", "two"]  # after the simulation


def test_whoever_is_killed_waits_for_nothing_any_more() -> None:
    # T2, M8: a pending receive of the dead takes nothing from the living
    async def program() -> str:
        gate = current_gate()
        assert gate is not None
        send, receive = trio.open_memory_channel[str](10)
        process = gate.process("worker")
        process.start_soon(receive.receive)
        await trio.sleep(1)
        process.kill()
        await send.send("for the living")
        return await receive.receive()

    assert simulate(program).value == "for the living"


def test_a_process_can_kill_itself() -> None:
    # T2
    async def program() -> list[str]:
        gate = current_gate()
        assert gate is not None
        process = gate.process("worker")
        said: list[str] = []

        async def work() -> None:
            process.kill()
            await trio.lowlevel.checkpoint()
            said.append("it went on")  # pragma: no cover

        process.start_soon(work)
        await trio.sleep(1)
        return said

    assert simulate(program).value == []


# --- the end ------------------------------------------------------------------------------


async def sleep_for_ever() -> None:
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()


async def wake_up_for_ever() -> None:
    with trio.CancelScope(shield=True):
        while True:  # noqa: ASYNC110
            await trio.sleep(1)


async def leave_one_behind() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sleep_for_ever)
        await trio.sleep(1)


@pytest.mark.parametrize(
    ("program", "error"),
    [(sleep_for_ever, Deadlock), (wake_up_for_ever, StepLimit), (leave_one_behind, Deadlock)],
)
def test_what_shields_itself_for_ever_does_not_keep_a_simulation_from_its_end(
    program: Callable[[], Any], error: type[Exception]
) -> None:
    # T2, L9
    with pytest.raises(error):
        simulate(program, max_steps=1_000)


def test_shielded_clean_up_has_its_time_when_a_simulation_cannot_go_on() -> None:
    # T2
    said = []

    async def program() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(60)
            said.append("cleaned up")

    with pytest.raises(Deadlock):
        simulate(program)
    assert said == ["cleaned up"]


def test_what_a_dead_process_waits_for_does_not_keep_the_simulation() -> None:
    # T2: a wait that cannot be aborted, whose answer nobody is left to give
    async def program() -> str:
        gate = current_gate()
        assert gate is not None
        process = gate.process("worker")

        async def wait() -> None:
            await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)

        process.start_soon(wait)
        await trio.sleep(1)
        process.kill()
        await trio.sleep(1)
        return "over"

    assert simulate(program).value == "over"
