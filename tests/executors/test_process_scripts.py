"""Programs of one file: their main guard, their `__main__`, no file at all, and the fork server."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import trio

pytestmark = pytest.mark.process
methods = pytest.mark.parametrize("method", ["forkserver", "spawn"])
has_cloudpickle = importlib.util.find_spec("cloudpickle") is not None

SERVICE = """
import os
import signal

import trio
import actorvisor as av

class Fault(Exception):
    pass

class Guest(av.Service):
    def greet(self, name):
        return f"hello {name}"

    def crash(self):
        raise Fault("boom")

    def give(self):
        return Fault("a value")

def work():
    return 5

EXECUTOR = av.ProcessExecutor(start_method=METHOD)
"""

PROGRAM = """
async def main():
    async with av.open_host() as host:
        ref = await host.start(av.Application(Guest, executor=EXECUTOR))
        print(await ref.ask(Guest.greet, "you"), flush=True)
"""

GUARD = """
if __name__ == "__main__":
    trio.run(main)
"""


async def run(*command: str, text: str = "") -> CompletedProcess[bytes]:
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    env = {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": ""}
    with trio.fail_after(30):
        return await trio.run_process(
            [sys.executable, *command],
            stdin=text.encode(),
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env=env,
        )


async def run_file(folder: Path, method: str, *parts: str) -> CompletedProcess[bytes]:
    file = folder / "program.py"
    file.write_text("\n".join([SERVICE.replace("METHOD", repr(method)), *parts]))
    return await run(str(file))


@methods
@pytest.mark.parametrize(
    "body",
    [
        "trio.run(main)",
        "av.run([av.Application(Guest, executor=EXECUTOR)])",
    ],
)
async def test_no_main_guard(tmp_path: Path, method: str, body: str) -> None:
    begun = trio.current_time()
    done = await run_file(tmp_path, method, PROGRAM, body)
    assert trio.current_time() - begun < 15  # L3: at once, and no hang
    assert done.returncode == 1
    error = done.stderr.decode()
    assert 'under `if __name__ == "__main__":`' in error  # the remedy
    assert "hello" not in done.stdout.decode()
    assert error.count("Traceback") < 8, error  # no tracebacks of workers


@methods
async def test_a_service_of_the_main_program(tmp_path: Path, method: str) -> None:
    done = await run_file(tmp_path, method, PROGRAM, GUARD)
    assert done.stderr.decode() == ""
    assert done.stdout.decode() == "hello you\n"
    assert done.returncode == 0


@methods
async def test_what_it_raises_and_gives(tmp_path: Path, method: str) -> None:
    program = """
async def main():
    async with av.open_host() as host:
        ref = await host.start(av.Application(Guest, executor=EXECUTOR))
        found = await ref.ask(Guest.give)
        assert type(found) is Fault, type(found)
        try:
            await ref.ask(Guest.crash)
        except av.ServiceCrashed as error:
            assert type(error.__cause__) is Fault, repr(error.__cause__)
        print(await ref.ask(Guest.greet, "again"), flush=True)
        function = av.Application(work, executor=EXECUTOR)
        with host.events() as events:
            await host.start(function)
            async for one in events:
                if isinstance(one, av.Ended):
                    print(one.reason, flush=True)
                    break
"""
    done = await run_file(tmp_path, method, program, GUARD)
    assert done.stdout.decode() == "hello again\nCompleted(value=5)\n", done.stderr.decode()
    assert done.returncode == 0


@methods
@pytest.mark.parametrize("how", ["-c", "stdin"])
async def test_a_program_that_has_no_file(method: str, how: str) -> None:
    program = "\n".join([SERVICE.replace("METHOD", repr(method)), PROGRAM, GUARD])
    if how == "-c":
        done = await run("-c", program)
    else:
        done = await run("-", text=program)
    if has_cloudpickle:
        assert done.stdout.decode() == "hello you\n", done.stderr.decode()
        return
    assert done.returncode == 1
    error = done.stderr.decode()
    assert "cloudpickle" in error  # the remedy
    assert "Guest" in error
    assert "hello" not in done.stdout.decode()


async def test_a_fork_server_of_the_users_own(tmp_path: Path) -> None:
    program = """
import multiprocessing

def of_users():
    print("theirs", flush=True)

def start():
    process = multiprocessing.get_context("forkserver").Process(target=of_users)
    process.start()
    process.join()
    assert process.exitcode == 0

if __name__ == "__main__":
    start()
    trio.run(main)
    start()
"""
    done = await run_file(tmp_path, "forkserver", PROGRAM, program)  # P5
    assert done.stdout.decode() == "theirs\nhello you\ntheirs\n", done.stderr.decode()
    assert done.returncode == 0


@pytest.mark.parametrize("kind", ["ProcessExecutor", "AsyncProcessExecutor"])
async def test_nothing_is_imported_in_a_worker(tmp_path: Path, kind: str) -> None:
    (tmp_path / "forked.py").write_text("""
import os
import sys

modules = set()
os.register_at_fork(after_in_child=lambda: modules.update(sys.modules))
""")
    program = f"""
class Watch(av.Service):
    def imported(self):
        import gc, forked
        assert gc.isenabled() and gc.get_freeze_count()
        return sorted(set(sys.modules) - forked.modules)

async def main():
    executor = av.{kind}(preload=("forked",), standby=0)
    async with av.open_host() as host:
        ref = await host.start(av.Application(Watch, executor=executor))
        print(await ref.ask(Watch.imported))
"""
    done = await run_file(tmp_path, "forkserver", "import sys", program, GUARD)  # P5
    assert done.stderr.decode() == ""
    assert done.stdout.decode() == "[]\n"


async def test_a_fork_server_that_was_killed(tmp_path: Path) -> None:
    program = """
from multiprocessing import forkserver

async def main():
    async with av.open_host() as host:
        ref = await host.start(av.Application(Guest, executor=EXECUTOR))
        pid = forkserver._forkserver._forkserver_pid
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        # What runs lives on.
        print(await ref.ask(Guest.greet, "first"), flush=True)
        for _ in range(3):
            try:
                await ref.ask(Guest.crash)
            except av.ServiceCrashed as error:
                assert type(error.__cause__) is Fault
            print(await ref.ask(Guest.greet, "next"), flush=True)
        await ref.restart()
        print(await ref.ask(Guest.greet, "last"), flush=True)
"""
    done = await run_file(tmp_path, "forkserver", program, GUARD)  # P5
    assert done.stdout.decode() == "hello first\n" + "hello next\n" * 3 + "hello last\n", (
        done.stderr.decode()
    )
    assert done.returncode == 0


@methods
async def test_a_host_in_a_worker(tmp_path: Path, method: str) -> None:
    """A service in a process may have a host of its own, with processes of its own."""
    program = """
class Inner(av.Service):
    def greet(self, name):
        return f"inner {name}"

class Outer(av.Service):
    async def greet(self, name):
        async with av.open_host() as host:
            app = av.Application(Inner, executor=EXECUTOR)
            ref = await host.start(app)
            return await ref.ask(Inner.greet, name)

async def main():
    async with av.open_host() as host:
        executor = av.AsyncProcessExecutor(start_method=METHOD)
        ref = await host.start(av.Application(Outer, executor=executor))
        try:
            print(await ref.ask(Outer.greet, "you"), flush=True)
        except av.ServiceCrashed as error:
            print(repr(error.__cause__), flush=True)
"""
    done = await run_file(tmp_path, method, program.replace("METHOD", repr(method)), GUARD)
    assert done.stdout.decode() == "inner you\n", done.stderr.decode()
    assert done.returncode == 0
