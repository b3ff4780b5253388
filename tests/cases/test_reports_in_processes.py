"""Reports on systems like ours, of all three kinds, with services in processes."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import pty
import resource
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio_parallel

import actorvisor as av
from actorvisor.bridge import _handover as handover, _memory as memory
from actorvisor.bridge._child._main import main
from actorvisor.bridge._job import Setting
from tests.cases import process_services as cases
from tests.cases.reports import error_of, opened, opened_and_heard, settled, until
from tests.executors import process_services as acts
from tests.executors.process_services import AsyncWorker, Stage, Worker
from tests.executors.processes import Executor, both, caught, is_gone, worker

pytestmark = pytest.mark.process
Make = Callable[..., Executor]
ROOT = Path(__file__).parents[2]

SOON = 5.0
"""Seconds that something may take on a busy machine that takes milliseconds on a quiet one."""


async def started(
    host: av.Host, make: Make, name: str = "worker", **options: Any
) -> av.Ref[Worker]:
    ref: av.Ref[Worker] = await host.start(worker(make, name=name, **options))
    return ref


async def pid_of(ref: av.Ref[Worker]) -> int:
    return await ref.ask(Worker.pid)


async def up(ref: av.Ref[Any], life: int) -> None:
    """Wait until it is in that life."""
    await until(lambda: (ref.incarnation, ref.state) == (life, "running"))


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


# --- most likely --------------------------------------------------------------------------


@both
async def test_trusty_tools_6600_an_import_that_fails_is_not_waited_for(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    # L3, P2: raised at once, with the worker's traceback.
    monkeypatch.setenv("ACTORVISOR_CASE_OF_AN_IMPORT", str(os.getpid()))
    from tests.cases.not_importable import Unimportable

    async with opened() as host:
        app = av.Application(Unimportable, executor=make(), name="c", start_timeout=3600)
        with trio.fail_after(SOON):
            error = await caught(host.start(app))
        assert type(error) is ImportError
        assert str(error) == "no module named nothing"
        text = "".join(traceback.format_exception(error))
        assert "not_importable.py" in text
        assert "raise ImportError" in text


@both
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
async def test_burla_162_what_is_no_exception(make: Make, kind: type[BaseException]) -> None:
    # P2, M9: a crash like any other, with the worker's traceback; not a kill, nor a lost connection.
    async with opened_and_heard(worker(make)) as (host, told):
        ref = host.find("worker", Worker)
        error = await caught(ref.ask(Worker.do, acts.throw, kind, "my own"))
        assert isinstance(error, av.ServiceCrashed)
        assert type(error.__cause__) is kind
        assert isinstance(error.__cause__.__cause__, av.RemoteTraceback)
        assert await ref.ask(Worker.do, cases.life) == 2
        await settled()
        (reason,) = told.exits("host/worker")
        assert isinstance(reason, av.Crashed)
        assert type(reason.exception) is kind
        assert "in throw" in reason.traceback_text


@both
@pytest.mark.parametrize("rejects", [False, True], ids=["crash", "rejection"])
async def test_cpython_103061_an_exception_that_cannot_be_unpickled(
    make: Make, rejects: bool
) -> None:
    # P4, M9: its asker is told name, text and traceback, and the connection goes on.
    kind = cases.UnloadableRefusal if rejects else acts.UnloadableError
    async with opened_and_heard(worker(make)) as (host, told):
        ref = host.find("worker", Worker)
        with trio.fail_after(SOON):
            error = await caught(ref.ask(Worker.do, acts.throw, kind, 1, 2))
            cause = error if rejects else error.__cause__
            assert isinstance(error, av.RemoteError if rejects else av.ServiceCrashed)
            assert isinstance(cause, av.RemoteError)
            assert (cause.type_name, cause.text) == (kind.__name__, "1 and 2")
            assert "in throw" in cause.traceback_text
            assert await ref.ask(Worker.do, cases.life) == (1 if rejects else 2)
        await settled()
        assert len(told.exits("host/worker")) == (not rejects)


@both
async def test_dramatiq_707_who_holds_the_ends(make: Make) -> None:
    # P1, P2: no worker has an end of another's connection, nor its host's end of its own.
    async with opened_and_heard() as (host, told):
        supervisor = await host.start(av.Supervisor(name="s", max_restarts=99))
        refs = [await supervisor.start(worker(make, name=f"c{n}", standby=0)) for n in range(4)]
        held = [await ref.ask(Worker.do, cases.socket_names) for ref in refs]
        held.append(cases.sockets_of(os.getpid()))
        assert all(held)
        assert len(set().union(*held)) == sum(map(len, held))
        descriptors = len(os.listdir("/proc/self/fd"))
        for ref in refs:
            kill(await pid_of(ref))
            # Its siblings live, and hold nothing that would keep its end from being seen.
            with trio.fail_after(SOON):
                assert await ref.ask(Worker.do, cases.life) == 2
        await settled()
        assert [told.exits(ref.path) for ref in refs] == [[av.Killed(-9)]] * 4
        await until(lambda: len(os.listdir("/proc/self/fd")) == descriptors)


CTRL_C = """
import contextlib
import sys
import trio
import actorvisor as av
from tests.cases.process_services import Program, SlowlyDown

how, kind = sys.argv[1:]
executor = getattr(av, kind)()

class Booting(av.Service):
    def setup(self):
        print("booting", flush=True)

async def use(host):
    if how == "stop":
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.find("c0", Program).stop)
            await trio.sleep_forever()
    if how == "ask":
        with contextlib.suppress(av.ServiceStopped):
            await host.find("c0", Program).ask(Program.wait)
    print("idle", flush=True)

if __name__ == "__main__":
    kinds = [SlowlyDown if how == "stop" else Program, Program, Program]
    apps = [av.Application(one, name=f"c{n}", executor=executor, grace=0.5)
            for n, one in enumerate(kinds)]
    av.run([av.Application(Booting), *apps], observe=use, drain=0)
"""

MOMENTS = {"start": "booting", "second": "up", "idle": "idle", "ask": "asked", "stop": "stopping"}
"""When Ctrl-C is pressed: once this is seen."""


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("start", "ProcessExecutor"),
        ("second", "AsyncProcessExecutor"),
        ("idle", "ProcessExecutor"),
        ("ask", "ProcessExecutor"),
        ("ask", "AsyncProcessExecutor"),
        ("stop", "AsyncProcessExecutor"),
    ],
)
def test_trio_parallel_34_ctrl_c_in_a_terminal(how: str, kind: str) -> None:
    # H4, H1, P2: workers say nothing, the program ends with 130, and nothing is left.
    ours, theirs = pty.openpty()
    program = subprocess.Popen(
        [sys.executable, "-c", PTY + CTRL_C, how, kind],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=ROOT,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        text = _read_until(ours, MOMENTS[how])
        os.write(ours, b"\x03")
        text += _read_until(ours, None)
        assert program.wait(30) == 130, text
    finally:
        program.kill()
        program.wait()
        os.close(ours)
    assert "Traceback" not in text
    assert "Error" not in text
    pids = [int(line.split()[1]) for line in text.splitlines() if line.startswith("up ")]
    assert len(pids) == 3 or how in {"start", "second"}
    assert [pid for pid in pids if not is_gone(pid)] == []


PTY = """
import fcntl, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
"""
"""The terminal is the program's own, so that its Ctrl-C is too."""


def _read_until(terminal: int, line: str | None) -> str:
    """Read until a line begins with that; without one, to the end."""
    text = ""
    deadline = time.monotonic() + 30
    while line is None or not any(one.startswith(line) for one in text.splitlines()):
        ready, _, _ = select.select([terminal], [], [], deadline - time.monotonic())
        assert ready, text
        try:
            data = os.read(terminal, 65536)
        except OSError:  # a terminal that nobody has any more
            data = b""
        if not data:
            break
        text += data.decode()
    return text


@pytest.mark.parametrize("overflow", ["wait", "drop_oldest"])
@pytest.mark.parametrize("where", ["coroutine", "process"])
@both
async def test_ergo_96_senders_in_processes(make: Make, where: str, overflow: Any) -> None:
    # M3, M7, P3: they wait for room; by choice the oldest is dropped, and an asker told at once.
    executor = make() if where == "process" else av.AsyncExecutor()
    notes = cases.LoopNotes if executor.has_loop else cases.PlainNotes
    reader: Any = av.Application(notes, name="c", executor=executor, mailbox=3, overflow=overflow)
    async with opened_and_heard(reader) as (host, told):
        ref: av.Ref[Any] = host.find("c", notes)
        stage = await host.start(av.Application(Stage, name="stage"))
        senders = [await started(host, make, f"s{n}") for n in range(3)]
        await ref.tell(notes.hold, stage)
        await until(lambda: host.statistics().mailboxes["host/c"].in_hand)
        async with trio.open_nursery() as nursery:
            asked: list[Any] = []
            nursery.start_soon(error_of(ref.ask, asked), cases.Notes.all)
            await settled()
            for number, sender in enumerate(senders):
                nursery.start_soon(sender.ask, Worker.do, cases.tell_all, ref, number, 20)
            if overflow == "wait":
                await until(lambda: host.statistics().mailboxes["host/c"].waiting >= 3)
                await settled()
                # One more of each, at most, had its credit already.
                assert host.statistics().mailboxes["host/c"].waiting <= 3 + 3
                assert asked == []
            else:
                await until(lambda: len(told.dead_letters) == 58)
                assert [type(one) for one in asked] == [av.MailboxFull]
            await stage.tell(Stage.say, "go on")
        await until(lambda: not host.statistics().mailboxes["host/c"].waiting)
        taken = await ref.ask(cases.Notes.all)
        assert len(taken) == (60 if overflow == "wait" else 3)
        for number in range(3):
            numbers = [n for s, n in taken if s == number]
            assert numbers == sorted(numbers)  # M2
        if overflow == "wait":
            assert (len(asked), told.dead_letters) == (1, [])


@both
async def test_otp_11245_a_timed_out_ask_in_the_workers_buffer(make: Make) -> None:
    # M8, M6: its frame is with the worker already; it is not handled, and counted.
    async with opened(worker(make)) as host:
        ref = host.find("worker", Worker)
        stage = await host.start(av.Application(Stage, name="stage"))
        await ref.tell(Worker.do, acts.wait_for, stage, "go on")
        await until(lambda: host.statistics().mailboxes["host/worker"].in_hand)
        with pytest.raises(trio.TooSlowError):
            with trio.fail_after(0.05):
                await ref.ask(Worker.do, cases.note, 100)
        await stage.tell(Stage.say, "go on")
        await ref.ask(Worker.do, cases.note, 7)
        assert await ref.ask(Worker.received) == [(7, 0)]
        mail = host.statistics().mailboxes["host/worker"]
        assert (mail.withdrawn, mail.handled) == (1, 3)


def crash_it(ref: av.Ref[Worker], pid: int) -> Any:
    return error_of(ref.ask, [])(Worker.do, acts.crash)


SUBPROCESS_ENDS: dict[str, Callable[[av.Ref[Worker], int], Any]] = {
    "stop": lambda ref, pid: ref.stop(),
    "no grace": lambda ref, pid: ref.stop(grace=0),
    "killed": lambda ref, pid: trio.to_thread.run_sync(kill, pid),
    "crash": crash_it,
    "left": lambda ref, pid: error_of(ref.ask, [])(Worker.do, acts.leave, 0),
}


@both
@pytest.mark.parametrize("end", SUBPROCESS_ENDS.values(), ids=SUBPROCESS_ENDS)
async def test_supervisor_1101_subprocesses_end_with_their_worker(make: Make, end: Any) -> None:
    # H1, P2: at each end, and nobody waits for the pipes that they hold.
    async with opened() as host:
        ref = await started(host, make, restart="temporary")
        pid = await pid_of(ref)
        children = [await ref.ask(Worker.do, cases.start_subprocess) for _ in range(2)]
        assert not any(map(is_gone, children))
        with trio.fail_after(SOON):
            await end(ref, pid)
            await ref.stopped()
            assert is_gone(pid)
            await until(lambda: all(map(is_gone, children)))


# --- likely -------------------------------------------------------------------------------


@both
async def test_bastion_287_a_ref_of_before_the_crash_in_a_worker(make: Make) -> None:
    # I2, I3: it reaches each later life, of a coroutine and of another worker.
    places: list[Any] = [make(), av.AsyncExecutor()]
    async with opened(max_restarts=99) as host:
        friend = await started(host, make, "friend")
        for number, place in enumerate(places):
            target: Any = AsyncWorker if place.has_loop else Worker
            held = await host.start(av.Application(target, name=f"c{number}", executor=place))
            for life in range(2, 5):
                if place.is_remote:
                    kill(await held.ask(Worker.pid))
                else:
                    await held.tell(Worker.do, acts.crash)
                await up(held, life)
                assert await friend.ask(Worker.do, cases.life_of, held) == life


@both
async def test_thespian_85_killed_from_outside(make: Make) -> None:
    # P2, P5: an idle worker, which is told at once; and one that stands by, which is nobody's
    # death, and is replaced.
    def others(pid: int) -> list[int]:
        found = [one.pid for one in multiprocessing.active_children() if one.pid != pid]
        return [one for one in found if one is not None]

    async def replaced(standby: int) -> None:
        await until(lambda: is_gone(standby) and standby not in others(pid))

    async with opened_and_heard() as (host, told):
        ref = await started(host, make)
        pid = await pid_of(ref)
        with trio.fail_after(SOON):
            for _ in range(2):
                await until(lambda: others(pid))
                (standby,) = others(pid)
                kill(standby)
                await replaced(standby)
            for life in (2, 3):
                kill(await pid_of(ref))
                await up(ref, life)
                assert await ref.ask(Worker.do, cases.life) == life
        await settled()
        assert told.exits("host/worker") == [av.Killed(-9)] * 2


SIGNALS = ["HUP", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "USR1", "SEGV", "ALRM", "TERM"]


@both
async def test_circus_274_every_way_out(make: Make) -> None:
    # P2, L1: each signal and each status is one Killed, and is restarted (S1).
    statuses = [0, 1, 2, *range(64, 79), 126, 127, 128, 130, 137, 143, 254, 255]
    signals = [getattr(signal, f"SIG{name}") for name in SIGNALS]
    async with opened_and_heard(worker(make), max_restarts=999) as (host, told):
        ref = host.find("worker", Worker)
        ways: list[tuple[Any, int]] = [(acts.leave, status) for status in statuses]
        ways += [(acts.die, one) for one in signals]
        for life, (act, arg) in enumerate(ways, 2):
            error = await caught(ref.ask(Worker.do, act, arg))
            assert isinstance(error, av.ServiceCrashed)
            assert error.reason == av.Killed(arg if act is acts.leave else -arg)
            assert await ref.ask(Worker.do, cases.life) == life
        await settled()
        assert told.kinds("host/worker").count(av.Exited) == len(ways)


@both
async def test_celery_2011_killed_at_any_byte_of_a_large_reply(make: Make) -> None:
    # P2, M4, M5: half a frame is a kill, of which one message at most is the victim.
    async with opened_and_heard(worker(make), max_restarts=99, within=3600) as (host, told):
        ref = host.find("worker", Worker)
        for turn in range(10):
            life = await ref.ask(Worker.do, cases.life)
            answers: dict[int, Any] = {}

            async def ask(number: int, answers: dict[int, Any] = answers) -> None:
                try:
                    answers[number] = await ref.ask(
                        Worker.do, cases.large_reply, number, 700_000 + number
                    )
                except av.ServiceCrashed as error:
                    answers[number] = error

            async with trio.open_nursery() as nursery:
                await ref.tell(Worker.do, cases.kill_soon, turn * 0.002)
                for number in range(12):
                    nursery.start_soon(ask, number)
            await up(ref, life + 1)
            broken = [one for one in answers.values() if isinstance(one, av.ServiceCrashed)]
            assert len(broken) <= 1
            assert all(one.reason == av.Killed(-9) for one in broken)
            for number, answer in answers.items():
                if answer not in broken:
                    assert answer == (number, bytes([number]) * (700_000 + number))
        await settled()
        assert told.exits("host/worker") == [av.Killed(-9)] * 10
        assert len(told.dead_letters) <= 10


@pytest.mark.parametrize(
    ("make", "how"),
    [(av.ProcessExecutor, "thread"), (av.AsyncProcessExecutor, "exit function")],
)
async def test_cpython_91776_a_worker_that_hangs_in_its_exit(make: Make, how: str) -> None:
    # L4, P2: it is killed in the end; its service had ended as it was told to.
    async with opened() as host:
        ref = await started(host, make)
        pid = await pid_of(ref)
        await ref.ask(Worker.do, cases.linger, how)
        with trio.fail_after(10):
            assert await ref.stop() == av.Stopped()
        assert is_gone(pid)


@both
async def test_cpython_91776_many_that_print_and_end(
    make: Make,
) -> None:
    # L4, P2: each one ends, whatever its output is at.
    async with opened() as host:
        refs = [await started(host, make, f"c{n}", restart="temporary") for n in range(8)]
        pids = [await pid_of(ref) for ref in refs]
        with trio.fail_after(10):
            for ref in refs:
                await ref.tell(Worker.do, cases.say_much)
                await ref.tell(Worker.do, acts.stop)
            assert [await ref.stopped() for ref in refs] == [av.Completed()] * 8
        assert all(map(is_gone, pids))


@both
@pytest.mark.parametrize("how", ["closed", "garbage", "half a header", "half a frame"])
async def test_tractor_346_a_broken_connection(make: Make, how: str) -> None:
    # P2, M4, H1: it is an end, the worker is gone, and what waited is the next life's.
    async with opened_and_heard() as (host, told):
        ref = await started(host, make)
        pid = await pid_of(ref)
        async with trio.open_nursery() as nursery:
            before: list[Any] = []
            broken: list[Any] = []
            answers: list[Any] = []
            for _ in range(3):
                nursery.start_soon(error_of(ref.ask, before), Worker.do, cases.life)
            await trio.lowlevel.checkpoint()
            nursery.start_soon(error_of(ref.ask, broken), Worker.do, cases.spoil_link, how)
            await trio.lowlevel.checkpoint()
            for _ in range(5):
                nursery.start_soon(error_of(ref.ask, answers), Worker.do, cases.life)
        assert answers == [2] * 5
        assert len(before) == 3  # whose replies may be what is lost
        assert all(one == 1 or isinstance(one, av.ServiceCrashed) for one in before)
        (error,) = broken
        assert isinstance(error, av.ServiceCrashed)
        assert is_gone(pid)
        await settled()
        (reason,) = told.exits("host/worker")
        assert isinstance(reason, av.Crashed), reason
        assert isinstance(reason.exception, av.ConnectionLost)


SETTING = Setting((), None, False)


def _leaves_early(address: handover.Address) -> None:
    main(address, SETTING)
    os._exit(99)  # it came back


@pytest.mark.parametrize("step", ["nobody listens", "closed", "no descriptors", "host gone"])
def test_simpler_1396_a_worker_never_returns_into_other_code(step: str) -> None:
    # P2: whatever fails in its first lines, it ends there.
    spawn = multiprocessing.get_context("spawn")
    with handover.listen() as (listener, address):
        process = spawn.Process(target=_leaves_early, args=[address])
        if step == "nobody listens":
            listener.close()
        process.start()
        if step != "nobody listens":
            listener.settimeout(30)
            sock, _ = listener.accept()
            with sock:
                if step == "no descriptors":
                    sock.send(b"\0")
                elif step == "host gone":
                    one, other = socket.socketpair()
                    fd = memory.create(1 << 20)
                    with one, other:
                        socket.send_fds(sock, [b"\0"], [other.fileno(), fd])
                    os.close(fd)
    process.join(30)
    assert process.exitcode in ({1, -signal.SIGKILL} if step == "host gone" else {1})
    process.close()


@both
async def test_trio_parallel_15_a_cancelled_ask_of_many_bytes(make: Make) -> None:
    # P3, M2: a frame is written whole, or not at all, whenever its asker goes.
    async with opened(worker(make)) as host:
        ref = host.find("worker", Worker)
        stage = await host.start(av.Application(Stage, name="stage"))
        await ref.tell(Worker.do, acts.wait_for, stage, "go on")  # nobody reads meanwhile
        for number in range(40):  # every fourth is cancelled before it is accepted (M3)
            with trio.move_on_after(0.0005 * (number % 4)):
                await ref.ask(Worker.do, cases.note, -number, bytes(300_000))
            await ref.tell(Worker.do, cases.note, number, bytes(number))
        await stage.tell(Stage.say, "go on")
        got = await ref.ask(Worker.received)
        assert got == [(number, number) for number in range(40)]
        assert ref.incarnation == 1
        assert host.statistics().mailboxes["host/worker"].withdrawn == 30


class Killer(logging.Handler):
    """Kills a worker when it has said so much."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[int, int] = {}

    def emit(self, record: logging.LogRecord) -> None:
        assert record.process is not None
        self.seen[record.process] = self.seen.get(record.process, 0) + 1
        if self.seen[record.process] == 50:
            kill(record.process)


@both
async def test_multiprocessing_logging_60_killed_while_its_records_come(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    # O5: its connection is all that is lost, and the records of the next one come.
    killer = Killer()
    logger = logging.getLogger("of.a.case")
    logger.addHandler(killer)
    try:
        async with opened_and_heard() as (host, told):
            ref = await started(host, make)
            pids = []
            for life in (2, 3, 4):
                pids.append(await pid_of(ref))
                error = await caught(ref.ask(Worker.do, cases.log_without_end))
                assert isinstance(error, av.ServiceCrashed)
                assert error.reason == av.Killed(-9)
                assert await ref.ask(Worker.do, cases.life) == life
            assert list(killer.seen) == pids
            assert min(killer.seen.values()) >= 50
            await settled()
            assert told.exits("host/worker") == [av.Killed(-9)] * 3
    finally:
        logger.removeHandler(killer)
    for pid in pids:
        texts = [one.getMessage() for one in caplog.records if one.process == pid]
        assert texts == [f"record {number}" for number in range(len(texts))]


PROCESS_STEPS = ["factory", "setup", "background", "socket", "memory", "worker"]


@both
@pytest.mark.parametrize("declared", [False, True], ids=["run time", "declared"])
@pytest.mark.parametrize("step", PROCESS_STEPS)
async def test_supervisor_445_a_process_that_starts_half_way(
    make: Make, step: str, declared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # L3: a clean failed start, whichever step fails, that costs nothing.
    def fail(*_: object, **options: object) -> Any:
        raise OSError(f"{step} not writable")

    setup = {"setup": cases.fail_in, "background": cases.fail_beside}.get(step)
    failing = worker(make, *([setup, acts.nothing, step] if setup else []), name="c", standby=0)
    if step == "factory":
        kind = cases.AsyncFactory if failing.executor.has_loop else cases.Factory
        failing = av.Application(kind, executor=failing.executor, name="c")
    good = worker(make, name="c", standby=0)
    async with opened_and_heard() as (host, told):
        # What is started once is started.
        await (await started(host, make, standby=0)).remove()
        group = None if declared else await host.start(av.Supervisor(name="s"))
        descriptors = len(os.listdir("/proc/self/fd"))
        for attempt in range(3):
            with monkeypatch.context() as patch:
                if attempt < 2:
                    match step:
                        case "socket":
                            patch.setattr(handover, "listen", fail)
                        case "memory":
                            patch.setattr(memory, "create", fail)
                        case "worker":
                            patch.setattr(trio_parallel, "open_worker_context", fail)
                        case _:
                            pass
                app = failing if attempt < 2 else good
                raised: list[Any] = []
                if declared:
                    await error_of(host.start, raised)(av.Supervisor([app], name="s"))
                else:
                    assert group is not None
                    await error_of(group.start, raised)(app)
            if attempt == 2:
                break
            assert [type(one) for one in raised] == [OSError]
            assert "not writable" in str(raised[0])
            with pytest.raises(LookupError):
                host.find("s/c", Worker)
            assert multiprocessing.active_children() == []
            await until(lambda: len(os.listdir("/proc/self/fd")) == descriptors)
        ref = host.find("s/c", Worker)
        assert await ref.ask(Worker.do, cases.life) == 1
        assert await ref.stop() == av.Stopped()
        assert await ref.remove() == av.Stopped()
        await settled()
        assert told.kinds("host/s/c").count(av.Started) == 1


@contextlib.contextmanager
def few_descriptors(more: int) -> Iterator[None]:
    """So many more than there are now can be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    fillers = []
    while True:  # no gaps below
        fd = os.dup(0)
        if fd > highest:
            os.close(fd)
            break
        fillers.append(fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in fillers:
            os.close(fd)


@pytest.mark.parametrize("limit", ["processes", "descriptors"])
@pytest.mark.parametrize("again", [True, False], ids=["room again", "never"])
@both
async def test_thespian_38_mail_at_the_limit(make: Make, again: bool, limit: str) -> None:
    # M7, L3: nothing vanishes: it is handled when there is room, or senders are told.
    options: dict[str, Any] = {"max_processes": 1} if limit == "processes" else {}
    executor = make(standby=0, **options)
    kind = AsyncWorker if executor.has_loop else Worker

    def app(name: str, **more: Any) -> Any:
        return av.Application(kind, name=name, executor=executor, **more)

    failure = av.ProcessLimitReached if limit == "processes" else OSError
    c = app("c", backoff=av.Fixed(0.05))
    group = av.Supervisor([c], name="s", max_restarts=3, within=3600, on_limit="drop")
    async with opened_and_heard(group) as (host, told), contextlib.AsyncExitStack() as stack:
        supervisor, ref = host.find("s", av.Supervisor), host.find("s/c", Worker)
        await ref.tell(Worker.do, acts.crash)
        await until(lambda: ref.state == "backing_off")
        if limit == "processes":
            other = await supervisor.start(app("other"))
        else:
            room = stack.enter_context(contextlib.ExitStack())
            room.enter_context(few_descriptors(3))
        async with trio.open_nursery() as nursery:
            answers: list[Any] = []
            for _ in range(5):
                await ref.tell(Worker.take, 1)
                nursery.start_soon(error_of(ref.ask, answers), Worker.do, cases.life)
            await until(
                lambda: any(
                    isinstance(one, av.Crashed) and isinstance(one.exception, failure)
                    for one in told.exits("host/s/c")
                )
            )
            if again and limit == "processes":
                await other.remove()
            elif again:
                room.close()
        await settled()
        if again:
            assert len(set(answers)) == 1
            assert isinstance(answers[0], int)
            assert len(told.dead_letters) == 1
        else:
            assert [type(one) for one in answers] == [av.ServiceStopped] * 5
            assert len(told.dead_letters) == 1 + 10
            with pytest.raises(av.ServiceStopped):
                await ref.tell(Worker.take, 1)
            (reason,) = told.ends("host/s/c")
            assert isinstance(reason, av.GaveUp)


TERMINATED = """
import sys
import actorvisor as av
from tests.cases.process_services import Program

async def ready(host):
    print("ready", flush=True)

if __name__ == "__main__":
    executor = getattr(av, sys.argv[1])()
    children = [av.Application(Program, name=name, executor=executor) for name in "ab"]
    av.run([av.Supervisor(children, name="s")], observe=ready)
"""


def run_program(text: str, *args: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", text, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        **options,
    )


kinds = pytest.mark.parametrize("kind", ["ProcessExecutor", "AsyncProcessExecutor"])


@kinds
def test_uvicorn_852_sigterm_to_the_parent_of_workers(kind: str) -> None:
    # H4: a graceful stop of all, and 143.
    with run_program(TERMINATED, kind) as program:
        assert program.stdout is not None
        lines = list(iter(program.stdout.readline, "ready\n"))
        program.terminate()
        out, errors = program.communicate(timeout=30)
    assert program.returncode == 143, errors
    assert out.splitlines() == ["torn down Stopped()"] * 2
    assert errors == ""
    pids = [int(line.split()[1]) for line in lines]
    assert len(pids) == 2
    assert all(map(is_gone, pids))


# --- less likely --------------------------------------------------------------------------


LONG_NAMES = """
import sys
import trio
import actorvisor as av
from actorvisor.bridge import _handover
from tests.executors.process_services import AsyncWorker, Worker

async def main():
    kind = sys.argv[1]
    _handover.has_abstract_sockets = sys.argv[2] == "abstract"
    executor = getattr(av, kind)()
    target = AsyncWorker if executor.has_loop else Worker
    async with av.open_host([av.Application(target, name="c", executor=executor)]) as host:
        print(await host.find("c", Worker).ask(Worker.take, "fine"), flush=True)

if __name__ == "__main__":
    trio.run(main)
"""


@pytest.mark.parametrize(
    ("kind", "how"), [("ProcessExecutor", "abstract"), ("AsyncProcessExecutor", "file")]
)
def test_tractor_473_names_over_the_limit(kind: str, how: str, tmp_path: Path) -> None:
    # P1: no name of a socket has the temporary folder's in it.
    folder = tmp_path / ("long" * 50)
    folder.mkdir()
    environment = os.environ | {"TMPDIR": str(folder)}
    with run_program(LONG_NAMES, kind, how, env=environment) as program:
        out, errors = program.communicate(timeout=30)
    assert (out, errors, program.returncode) == ("fine\n", "", 0)
    assert list(folder.iterdir()) == []


@both
async def test_cpython_143900_long_lines_of_many(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    # O5: each record comes as a whole, through its worker's connection.
    async with opened() as host:
        refs = {letter: await started(host, make, letter) for letter in "abcdefgh"}
        async with trio.open_nursery() as nursery:
            for letter, ref in refs.items():
                nursery.start_soon(ref.ask, Worker.do, cases.log_lines, letter, 20, 5_000)
        await until(lambda: len(_said(caplog)) >= 160)
        pids = {letter: await pid_of(ref) for letter, ref in refs.items()}
    said = _said(caplog)
    assert len(said) == 160
    for record in said:
        text = record.getMessage()
        assert text == text[0] * 5_000
        assert (record.process, record.__dict__["path"]) == (pids[text[0]], f"host/{text[0]}")


def _said(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [one for one in caplog.records if one.name == "of.a.case"]


@both
async def test_distributed_3955_checks_end_with_the_life(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    # P2: what watched a worker that is replaced, or stopped, does nothing any more.
    hang = 0.2
    async with opened_and_heard(worker(make, hang_timeout=hang), max_restarts=99) as (host, told):
        ref = host.find("worker", Worker)
        for life in range(2, 7):
            # It is busy at its death, in its handler or in its background.
            await ref.tell(Worker.do, acts.beside, acts.leave)
            await up(ref, life)
        await trio.sleep(2 * hang)  # any check of a life before has had its turn
        assert await ref.ask(Worker.do, cases.life) == 6
        await ref.stop()
        await settled()
        before = host.statistics()
        await trio.sleep(2 * hang)
        assert host.statistics().events == before.events
        assert told.exits("host/worker") == [av.Killed(7)] * 5 + [av.Stopped()]
    assert not [one for one in caplog.records if "Traceback" in one.getMessage()]


ORPHANED = """
import sys
import trio
import actorvisor as av
from tests.cases.process_services import Program

async def use(host):
    await host.find("busy", Program).ask(Program.sleep)

if __name__ == "__main__":
    executor = getattr(av, sys.argv[1])(start_method=sys.argv[2])
    av.run([av.Application(Program, name=n, executor=executor) for n in ("idle", "busy")],
           observe=use)
"""


@pytest.mark.parametrize(
    ("kind", "method", "limit"),
    [
        ("ProcessExecutor", "forkserver", 1),
        ("AsyncProcessExecutor", "forkserver", 1),
        ("ProcessExecutor", "spawn", 2),
    ],
)
def test_supervisor_925_the_hosts_process_is_killed(kind: str, method: str, limit: float) -> None:
    # H4: all are gone within a second, in C code that holds the GIL too, subprocesses included.
    with run_program(ORPHANED, kind, method) as program:
        assert program.stdout is not None
        pids = [int(program.stdout.readline().split()[1]) for _ in range(3)]
        assert not any(map(is_gone, pids))
        program.kill()
        program.wait(10)
        deadline = time.monotonic() + limit
        while not all(map(is_gone, pids)):
            assert time.monotonic() < deadline


@both
async def test_langwatch_6203_who_was_killed_and_not_restarted_is_seen(make: Make) -> None:
    # S1, S3: restarted, with a bounded backoff; and who gave up is seen.
    backoff = av.Exponential(base=0.001, cap=0.004, jitter=0)
    c = worker(make, backoff=backoff, reset_after=60)
    beside = worker(make, name="beside")
    group = av.Supervisor([c, beside], name="s", on_limit="drop", max_restarts=3, within=3600)
    async with opened_and_heard(group) as (host, told):
        ref = host.find("s/worker", Worker)
        for life in (2, 3, 4):
            kill(await pid_of(ref))
            with trio.fail_after(SOON):
                assert await ref.ask(Worker.do, cases.life) == life
        statistics = host.statistics()
        assert (statistics.running, statistics.failed, statistics.restarts) == (3, 0, 3)
        kill(await pid_of(ref))
        reason = await ref.stopped()
        assert isinstance(reason, av.GaveUp)
        statistics = host.statistics()
        assert (statistics.actors, statistics.running, statistics.failed) == (3, 2, 1)
        (seen,) = [one for one in host.tree().children[0].children if one.state == "failed"]
        assert (seen.path, seen.reason) == ("host/s/worker", reason)
        await settled()
        delays = [one.delay for one in told.of("host/s/worker") if isinstance(one, av.Restarting)]
        assert delays == [0.001, 0.002, 0.004]
        assert told.exits("host/s/worker") == [av.Killed(-9)] * 4
