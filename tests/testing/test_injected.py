"""What stands in for a service with faults: it counts what the runtime hands over, and is not seen."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest
import trio

import actorvisor as av
from actorvisor.testing import ExecutorCheck, executor_checks, simulate
from actorvisor.testing._assignment import Assignment
from actorvisor.testing._faults import (
    EVERY,
    After,
    Before,
    Exit,
    Fault,
    FaultPlan,
    Hang,
    InjectedFault,
    Kill,
    Raise,
    Setup,
    Slow,
    Teardown,
    Time,
)
from actorvisor.testing._injection import Injecting, inject
from actorvisor.testing._simulation._process import simulated
from tests.testing.players import (
    Bare,
    Loop,
    LoopReader,
    Notes,
    Peculiar,
    Plain,
    PlainReader,
    Refused,
    look,
    loop_function,
    plain_function,
)

PATH = "host/worker"
NEVER = (Before(10**6), After(10**6), Time(10**7))

EXECUTORS: list[Any] = [
    av.AsyncExecutor(),
    av.ThreadExecutor(),
    av.ProcessExecutor(),
    av.AsyncProcessExecutor(),
]
everywhere = pytest.mark.parametrize("executor", EXECUTORS, ids=lambda one: type(one).__name__)


def never(*names: str) -> FaultPlan:
    """A plan for services of these names that changes nothing in less than 10 million seconds."""
    return FaultPlan(
        [
            *(Fault(f"host/{name}", EVERY, at, Raise()) for name in names for at in NEVER),
            *(Fault(f"host/{name}", EVERY, Time(10**8), Hang()) for name in names),
        ]
    )


def run(
    plan: Iterable[Fault],
    children: list[Any],
    block: Callable[[av.Host], Awaitable[Any]],
    **options: Any,
) -> Any:
    """Open a simulated host in which a plan is carried out; what the block gives."""

    async def system() -> Any:
        open_host = inject(plan)
        async with open_host(children, executors=simulated, **options) as host:
            return await block(host)

    return simulate(system).value


def app(executor: Any, plain: Any, loop: Any, *args: Any, **options: Any) -> Any:
    target = loop if executor.has_loop else plain
    return av.Application(target, *args, executor=executor, **{"name": "worker", **options})


async def caught(awaitable: Awaitable[Any]) -> Any:
    try:
        return await awaitable
    except (Exception, SystemExit) as error:
        return error


# --- nobody can tell --------------------------------------------------------------------------


def _checks() -> list[Any]:
    found: list[Any] = []
    for executor in EXECUTORS:
        injecting = Injecting(
            simulated(executor), assignment=Assignment(never("player", "reader", "function"))
        )
        name = type(executor).__name__
        found += [
            pytest.param(check, id=f"{name}: {check}") for check in executor_checks(injecting)
        ]
    return found


@pytest.mark.parametrize("check", _checks())
def test_an_executor_with_faults_that_never_come_keeps_its_contract(check: ExecutorCheck) -> None:
    # E2, T7
    simulate(check)


@dataclasses.dataclass(frozen=True)
class Frozen(av.Service):
    """One that lets nothing be set."""

    value: int

    def look(self) -> int:
        assert self.ref.path == PATH
        return self.value


@everywhere
def test_the_service_sees_itself_as_it_is(executor: Any) -> None:
    # T7: nothing but what the plan says
    children = [av.Application(Peculiar, 5, name="worker", executor=executor)]
    with_plan = run(never("worker"), children, look)
    assert with_plan == run((), children, look)
    first, second, later, wrong = with_plan
    assert first["is"]
    assert first["type"] == first["class"] == "Peculiar"
    assert (first["ref"], first["path"], first["secret"]) == (PATH, PATH, 7)
    assert first["args"] == ((1, 2), "3")
    assert first["family"] == ["Peculiar"]
    assert (first["ticks"], second["ticks"], second["value"]) == (0, 11, "message")
    assert "not run by a host" in first["stranger"]
    assert later == "later"
    assert "look(*args: 'Any'" in wrong


@everywhere
def test_a_frozen_service_stays_so(executor: Any) -> None:
    async def block(host: av.Host) -> Any:
        return await host.find("worker", Frozen).ask(Frozen.look)

    children = [av.Application(Frozen, 5, name="worker", executor=executor)]
    assert run(never("worker"), children, block) == 5


@everywhere
def test_a_reader_sees_itself_as_it_is(executor: Any) -> None:
    async def block(host: av.Host) -> Any:
        notes = host.find("notes", Notes)
        worker: Any = host.find("worker", av.Service)
        for i in range(3):
            await worker.send(i)
        await trio.sleep(1)
        reason = await worker.stop()
        return reason, await notes.ask(Notes.all)

    def children() -> list[Any]:
        return [av.Application(Notes, name="notes")]

    async def both(host: av.Host) -> Any:
        ref = host.find("notes", Notes)
        await host.start(app(executor, PlainReader, LoopReader, ref))
        return await block(host)

    found = run(never("worker"), children(), both)
    assert found == run((), children(), both)
    assert found == (av.Stopped(), ["read 0", "read 1", "read 2"])


class Peeking(LoopReader):
    """What a `run` must not do is told as ever."""

    async def run(self) -> str:
        try:
            self.after(1, self.peek)
        except TypeError as error:
            return str(error)
        return "not refused"

    def peek(self) -> None:
        pass


def test_what_a_reader_may_not_do_is_told_in_the_same_words() -> None:
    async def block(host: av.Host) -> Any:
        notes = host.find("notes", Notes)
        worker = await host.start(
            av.Application(Peeking, notes, name="worker", restart="temporary")
        )
        return await worker.stopped()

    children = [av.Application(Notes, name="notes")]
    found = run(never("worker"), children, block)
    assert found == run((), children, block)
    assert "takes no calls of methods" in found.value


# --- what is counted --------------------------------------------------------------------------


class Counted(av.Service):
    """Is sent messages in every way."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def setup(self) -> None:
        self.after(1, self._tick)

    def _tick(self) -> None:
        self.log.append("tick")

    def work(self, n: int = 0) -> list[str]:
        self.own()
        self.own()
        self.log.append("work")
        return list(self.log)

    def own(self) -> None:
        self.log.append("own")

    def receive(self, message: object) -> None:
        self.log.append(str(message))


@everywhere
@pytest.mark.parametrize("number", range(1, 5))
def test_what_the_runtime_hands_over_is_counted_and_nothing_else(
    executor: Any, number: int
) -> None:
    # T1: the n-th message of an incarnation; a call of its own is none
    async def block(host: av.Host) -> Any:
        ref = host.find("worker", Counted)
        found = [await caught(ref.ask(Counted.work, 1))]
        await trio.sleep(2)
        await ref.send("sent")
        found.append(await caught(ref.ask(Counted.work, n=2)))
        await trio.sleep(1)
        found.append(ref.incarnation)
        return found

    children = [av.Application(Counted, name="worker", executor=executor)]
    first, second, incarnation = run([Fault(PATH, 1, Before(number), Raise())], children, block)
    assert incarnation == 2
    whole = ["own", "own", "work", "tick", "sent", "own", "own", "work"]
    if number == 1:
        assert isinstance(first.__cause__, InjectedFault)
        # The timer of the next life comes, too.
        assert second == whole[3:]
    else:
        assert first == whole[:3]
        if number == 4:
            assert isinstance(second.__cause__, InjectedFault)
        else:
            assert second == [["sent"], []][number - 2] + whole[5:]


@everywhere
def test_every_incarnation_counts_from_one(executor: Any) -> None:
    async def block(host: av.Host) -> Any:
        ref: Any = host.find("worker", Bare)
        return [await caught(ref.ask(Bare.work, i)) for i in range(5)], ref.incarnation

    children = [av.Application(Bare, name="worker", executor=executor)]
    found, incarnation = run([Fault(PATH, EVERY, Before(2), Raise())], children, block)
    assert [one if isinstance(one, int) else type(one.__cause__) for one in found] == [
        0,
        InjectedFault,
        2,
        InjectedFault,
        4,
    ]
    assert incarnation == 3


@everywhere
def test_a_message_that_is_handled_again_counts_again(executor: Any) -> None:
    # M5: a try counts when the handler is entered
    async def block(host: av.Host) -> Any:
        ref: Any = host.find("worker", Bare)
        found = await caught(ref.ask(Bare.work, 7))
        await trio.sleep(1)
        return found, ref.incarnation

    children = [av.Application(Bare, name="worker", executor=executor, redeliver=2)]
    plan = [Fault(PATH, EVERY, After(1), Raise("again"))]
    found, incarnation = run(plan, children, block)
    assert isinstance(found.__cause__, InjectedFault)
    assert incarnation == 4
    plan = [Fault(PATH, 1, Before(1), Raise()), Fault(PATH, 2, After(1), Exit())]
    assert run(plan, children, block) == (7, 3)


@everywhere
def test_a_fault_that_names_the_life_comes_in_the_stead_of_one_for_every(executor: Any) -> None:
    async def block(host: av.Host) -> Any:
        ref: Any = host.find("worker", Bare)
        return [await caught(ref.ask(Bare.work, i)) for i in range(4)]

    children = [av.Application(Bare, name="worker", executor=executor)]
    plan = [Fault(PATH, EVERY, Before(1), Raise()), Fault(PATH, 2, Before(1), Slow(1))]
    first, second, third, fourth = run(plan, children, block)
    assert isinstance(first.__cause__, InjectedFault)
    assert (second, third, fourth) == (1, 2, 3)


# --- answers that are errors ------------------------------------------------------------------


@everywhere
@pytest.mark.parametrize("name", ["refuse", "refuse_quickly"])
def test_a_rejection_is_an_answer_before_and_after_a_fault(executor: Any, name: str) -> None:
    # M9
    async def block(host: av.Host) -> Any:
        notes = host.find("notes", Notes)
        target: Any = Loop if executor.has_loop else Plain
        ref = await host.start(app(executor, Plain, Loop, notes, mailbox=9))
        begun = trio.current_time()
        found = [await caught(ref.ask(getattr(target, name))) for _ in range(3)]
        took = trio.current_time() - begun
        await trio.sleep(1)
        return found, ref.incarnation, took

    plan = [
        Fault(PATH, 1, Before(1), Slow(1)),
        Fault(PATH, 1, After(1), Slow(2)),
        Fault(PATH, 1, After(2), Slow(4)),
        Fault(PATH, 1, After(3), Raise()),
    ]
    found, incarnation, took = run(plan, [av.Application(Notes, name="notes")], block)
    assert [type(one) for one in found[:2]] == [Refused, Refused]
    assert isinstance(found[2], av.ServiceCrashed)
    assert isinstance(found[2].__cause__, InjectedFault)
    assert incarnation == 2
    assert 7 <= took < 7.1


@everywhere
def test_a_plain_handler_waits_too(executor: Any) -> None:
    async def block(host: av.Host) -> Any:
        notes = host.find("notes", Notes)
        target: Any = Loop if executor.has_loop else Plain
        ref = await host.start(app(executor, Plain, Loop, notes))
        begun = trio.current_time()
        found = [await ref.ask(target.quick, i) for i in range(3)]
        return found, round(trio.current_time() - begun, 6)

    plan = [
        Fault(PATH, 1, Before(1), Slow(1)),
        Fault(PATH, 1, After(2), Slow(2, after=4)),
        Fault(PATH, 1, Time(6.5), Slow(8)),
    ]
    found, took = run(plan, [av.Application(Notes, name="notes")], block)
    assert found == [0, 1, 2]
    assert 15 <= took < 15.1


# --- after= -----------------------------------------------------------------------------------


@everywhere
@pytest.mark.parametrize("at", [Before(1), After(1), Time(3)], ids=repr)
@pytest.mark.parametrize("do", [Raise(after=2), Exit(after=2), Kill(after=2)], ids=repr)
def test_what_happens_later_waits_first(executor: Any, at: Any, do: Any) -> None:
    # T1
    if isinstance(do, Kill) and not executor.is_remote:
        return

    async def block(host: av.Host) -> Any:
        ref: Any = host.find("worker", Bare)
        if isinstance(at, Time):
            await trio.sleep_until(opened + 4.9)
            assert ref.incarnation == 1
            await trio.sleep(0.2)
        else:
            begun = trio.current_time()
            assert isinstance(await caught(ref.ask(Bare.work, 1)), av.ServiceCrashed)
            assert 2 <= trio.current_time() - begun < 2.2
        assert await ref.ask(Bare.work, 2) == 2
        return ref.incarnation

    opened = 0.0
    children = [av.Application(Bare, name="worker", executor=executor)]
    assert run([Fault(PATH, 1, at, do)], children, block) == 2


# --- hooks that a service does not have -------------------------------------------------------


@everywhere
def test_a_service_without_hooks_can_fail_in_them(executor: Any) -> None:
    async def block(host: av.Host) -> Any:
        ref: Any = host.find("worker", Bare)
        assert await ref.ask(Bare.work, 1) == 1
        up = trio.current_time()
        # L3: a restart that somebody asked for raises what its setup does.
        error = await caught(ref.restart())
        await ref.start()
        assert await ref.ask(Bare.work, 2) == 2
        assert await ref.stop() == av.Stopped()
        return up, str(error), ref.incarnation, trio.current_time()

    children = [av.Application(Bare, name="worker", executor=executor)]
    plan = [
        Fault(PATH, 1, Setup(), Slow(3)),
        Fault(PATH, 1, Teardown(), Raise()),
        Fault(PATH, 2, Setup(), Raise("no")),
        Fault(PATH, 3, Teardown(), Slow(2)),
    ]
    up, error, incarnation, now = run(plan, children, block)
    assert 3 <= up < 3.1
    assert error == "no"
    assert incarnation == 3
    assert 5 <= now < 5.2


# --- loops of their own -----------------------------------------------------------------------


async def read(host: av.Host, executor: Any, count: int = 100) -> tuple[Any, list[str]]:
    notes = host.find("notes", Notes)
    ref = await host.start(
        app(executor, PlainReader, LoopReader, notes, count, restart="temporary")
    )
    for i in range(4):
        await caught(ref.send(i))
    with trio.move_on_after(50):
        reason = await ref.stopped()
        return reason, await notes.ask(Notes.all)
    return await ref.stop(drain=0), await notes.ask(Notes.all)


@everywhere
@pytest.mark.parametrize("at", [Before(2), After(2)], ids=repr)
def test_the_reads_of_a_run_are_its_messages(executor: Any, at: Any) -> None:
    # T1
    plan = [Fault(PATH, 1, at, Raise("here"))]
    children = [av.Application(Notes, name="notes")]
    reason, lines = run(plan, children, lambda host: read(host, executor))
    assert isinstance(reason.exception, InjectedFault)
    assert lines == ["read 0", "read 1"][: 1 + isinstance(at, After)]


@everywhere
def test_a_run_that_returns_has_handled_what_it_read(executor: Any) -> None:
    children = [av.Application(Notes, name="notes")]
    reason, lines = run(
        [Fault(PATH, 1, After(2), Exit(5))], children, lambda host: read(host, executor, 2)
    )
    assert lines == ["read 0", "read 1"]
    if executor.is_remote:
        assert reason == av.Killed(5)
    else:
        assert isinstance(reason.exception, SystemExit)
    reason, _ = run(
        [Fault(PATH, 1, After(3), Exit(5))], children, lambda host: read(host, executor, 2)
    )
    assert reason == av.Completed("enough")


@everywhere
def test_a_slow_run_reads_all_the_same(executor: Any) -> None:
    plan = [
        Fault(PATH, 1, Before(1), Slow(1)),
        Fault(PATH, 1, After(2), Slow(2)),
        Fault(PATH, 1, Time(2), Slow(3)),
    ]

    async def block(host: av.Host) -> Any:
        begun = trio.current_time()
        found = await read(host, executor, 4)
        return found, trio.current_time() - begun

    (reason, lines), took = run(plan, [av.Application(Notes, name="notes")], block)
    assert (reason, lines) == (av.Completed("enough"), [f"read {i}" for i in range(4)])
    assert 6 <= took < 6.1


class Impatient(av.Service):
    """Does not wait for its mail for long."""

    def __init__(self, notes: av.Ref[Notes]) -> None:
        self.notes = notes

    async def run(self) -> None:
        while True:
            line = "nothing"
            try:
                with trio.move_on_after(1):
                    line = await self.mailbox.receive()
            except InjectedFault:
                line = "a fault"
            except trio.EndOfChannel:
                return
            await self.notes.tell(Notes.note, line)


@pytest.mark.parametrize("do", [Slow(3), Raise()], ids=repr)
def test_a_read_that_is_given_up_loses_no_message(do: Any) -> None:
    # M7: what was taken up is in hand, and is given to the next read
    async def block(host: av.Host) -> Any:
        notes = host.find("notes", Notes)
        ref = await host.start(av.Application(Impatient, notes, name="worker"))
        for i in range(3):
            await ref.send(str(i))
        await trio.sleep(0.5)
        await trio.sleep(0.7)
        return [line for line in await notes.ask(Notes.all) if line != "nothing"]

    found = run([Fault(PATH, 1, Before(2), do)], [av.Application(Notes, name="notes")], block)
    assert found == (["0", "1", "2"] if isinstance(do, Slow) else ["0", "a fault", "1", "2"])


# --- functions --------------------------------------------------------------------------------


@everywhere
@pytest.mark.parametrize("do", [Raise(), Exit(2), Slow(4), Hang()], ids=repr)
def test_a_fault_before_a_function_is_called(executor: Any, do: Any) -> None:
    async def block(host: av.Host) -> Any:
        notes = host.find("notes", Notes)
        args = (notes, "called")
        ref = await host.start(
            app(executor, plain_function, loop_function, *args, restart="temporary", grace=1)
        )
        with trio.move_on_after(30):
            await ref.stopped()
        reason = await ref.stop(drain=0)
        return reason, await notes.ask(Notes.all)

    reason, lines = run([Fault(PATH, 1, Setup(), do)], [av.Application(Notes, name="notes")], block)
    assert lines == (["called"] if isinstance(do, Slow) else [])
    match do:
        case Raise():
            assert isinstance(reason.exception, InjectedFault)
        case Exit() if executor.is_remote:
            assert reason == av.Killed(2)
        case Exit():
            assert isinstance(reason.exception, SystemExit)
        case Slow():
            assert reason == av.Completed("called")
        case _ if executor.has_loop:
            assert reason == av.Stopped()
        case _ if executor.is_remote:
            assert reason == av.TimedOut("handler")
        case _:
            assert reason == av.Abandoned("handler")


async def idle() -> None:
    await trio.sleep_forever()


def wait(seconds: float) -> None:
    while not av.stopping():
        seconds -= 1


@pytest.mark.parametrize("executor", [av.AsyncExecutor(), av.AsyncProcessExecutor()], ids=repr)
@pytest.mark.parametrize("do", [Raise(), Exit(2)], ids=repr)
def test_a_function_can_fail_at_a_time(executor: Any, do: Any) -> None:
    async def block(host: av.Host) -> Any:
        ref = await host.start(
            av.Application(idle, name="worker", executor=executor, restart="temporary")
        )
        reason = await ref.stopped()
        return reason, trio.current_time()

    reason, now = run([Fault(PATH, 1, Time(7), do)], [], block)
    assert 7 <= now < 7.1
    if isinstance(do, Exit) and executor.is_remote:
        assert reason == av.Killed(2)
    else:
        assert isinstance(reason.exception, InjectedFault | SystemExit)


# --- faults at a time -------------------------------------------------------------------------


@everywhere
def test_a_fault_at_a_time_is_not_for_the_next_life(executor: Any) -> None:
    async def block(host: av.Host) -> Any:
        ref: Any = host.find("worker", Bare)
        await ref.restart()
        await trio.sleep(20)
        return ref.incarnation, await ref.ask(Bare.work, 1)

    children = [av.Application(Bare, name="worker", executor=executor)]
    assert run([Fault(PATH, 1, Time(5), Raise())], children, block) == (2, 1)


@everywhere
@pytest.mark.parametrize("do", [Raise(), Exit(), Kill()], ids=repr)
def test_a_fault_at_a_time_strikes_a_busy_service(executor: Any, do: Any) -> None:
    # M5: the message in hand is blamed, whatever it is that crashed
    if isinstance(do, Kill) and not executor.is_remote:
        return

    async def block(host: av.Host) -> Any:
        ref: Any = host.find("worker", Bare)
        begun = trio.current_time()
        error = await caught(ref.ask(Bare.work, 1))
        return error, trio.current_time() - begun, ref.incarnation

    children = [av.Application(Bare, name="worker", executor=executor, grace=1)]
    plan = [Fault(PATH, 1, Before(1), Hang()), Fault(PATH, 1, Time(3), do)]
    error, took, _ = run(plan, children, block)
    assert isinstance(error, av.ServiceCrashed)
    assert 2.9 <= took < 3.1


@everywhere
def test_a_fault_at_a_time_strikes_during_setup(executor: Any) -> None:
    async def system() -> Any:
        children = [av.Application(Bare, name="worker", executor=executor, grace=1)]
        plan = [Fault(PATH, 1, Setup(), Slow(10)), Fault(PATH, 1, Time(3), Raise("early"))]
        error = await caught(inject(plan)(children, executors=simulated).__aenter__())
        return error, trio.current_time()

    error, now = simulate(system).value
    assert isinstance(error, ExceptionGroup)
    assert isinstance(error.exceptions[0], InjectedFault)
    assert 3 <= now < 15


# --- what becomes of what hangs ---------------------------------------------------------------


def test_a_coroutine_that_hangs_can_be_cancelled() -> None:
    # L3: a cancelled start ends the half-started child
    async def block(host: av.Host) -> Any:
        with trio.move_on_after(3) as scope:
            await host.start(av.Application(Bare, name="worker"))
        return scope.cancelled_caught, trio.current_time(), len(host.children())

    assert run([Fault(PATH, 1, Setup(), Hang())], [], block) == (True, 3, 0)


async def test_a_thread_that_hangs_is_left_behind_and_ends_with_its_host() -> None:
    # L8, H1
    plan = [Fault(PATH, 1, Before(1), Hang())]
    children = [av.Application(Bare, name="worker", executor=av.ThreadExecutor(), grace=0.05)]
    hung = trio.Event()
    with trio.fail_after(10):
        async with inject(plan, lambda *_: hung.set())(children, drain=0) as host:
            ref: Any = host.find("worker", Bare)
            await ref.tell(Bare.work, 1)
            await hung.wait()
            await ref.restart()
            assert host.statistics().abandoned == 1
            assert await ref.ask(Bare.work, 2) == 2
        while any(thread.name == PATH for thread in threading.enumerate()):  # noqa: ASYNC110
            await trio.sleep(0.01)
