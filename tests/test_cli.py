"""`actorvisor run`: what it finds, what it refuses, how it ends, and what it prints meanwhile."""

from __future__ import annotations

import contextlib
import logging
import os
import pty
import re
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

import actorvisor as av
from actorvisor import _cli

Written = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Written:
    """Writes a file into a directory that is the current one."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(textwrap.dedent(text))
        return path

    return write


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Callable[..., tuple[Any, str, str]]]:
    """Carries out a command line in this process."""
    monkeypatch.setattr(sys, "path", list(sys.path))

    def cli(*words: str) -> tuple[Any, str, str]:
        monkeypatch.setattr(sys, "argv", ["actorvisor", *words])
        with pytest.raises(SystemExit) as exited:
            _cli.main()
        out, err = capsys.readouterr()
        return exited.value.code or 0, out, err

    yield cli
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


COMMAND = (sys.executable, "-c", "from actorvisor._cli import main; main()")


def begin(*words: str, **options: Any) -> subprocess.Popen[str]:
    """Start a command line in a process of its own."""
    return subprocess.Popen(
        [*COMMAND, *words],
        text=True,
        stdout=options.pop("stdout", subprocess.PIPE),
        stderr=options.pop("stderr", subprocess.PIPE),
        **options,
    )


def carry_out(*words: str) -> tuple[int, str, str]:
    """Carry out a command line in a process of its own."""
    process = begin(*words)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


# ------------------------------------------------------------------- what is refused, in one line

MODULE = """
    import actorvisor as av

    class Some(av.Service):
        pass

    class Other:
        pass

    number = 3
    one = av.Application(Some)
    mixed = [one, number]
    twice = [one, one]

    async def asynchronous():
        return one

    def nothing():
        pass

    def returns_mixed():
        return [one, Some]

    def with_option(*, count: int = 1):
        return []

    def with_argument(count: int):
        return []

    def unreadable(count: "Absent"):
        return []
"""


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("run nothing.py", "there is no file nothing.py"),
        ("run nonsense", "TARGET is FILE.py or MODULE:ATTRIBUTE, not 'nonsense'"),
        ("run :main", "TARGET is FILE.py or MODULE:ATTRIBUTE, not ':main'"),
        ("run module:", "TARGET is FILE.py or MODULE:ATTRIBUTE, not 'module:'"),
        ("run module.py:main", "TARGET is FILE.py or MODULE:ATTRIBUTE, not 'module.py:main'"),
        ("run nowhere:main", "cannot be imported: ModuleNotFoundError: No module named 'nowhere'"),
        ("run module:absent", "module:absent has no 'absent'"),
        ("run module.py", "module.py has no 'main': define it, to return a Supervisor, an"),
        ("run module:number", "module:number is 3, which is not a Supervisor, an Application, a"),
        (
            "run module:Other",
            "Other'>, which is not a Supervisor, an Application, a Pool, a list of",
        ),
        ("run module:Some", "is a Service class; declare it: Application(Some, ...)"),
        ("run module:mixed", "module:mixed: 3 is neither an Application, a Pool nor a Supervisor"),
        ("run module:twice", "module:twice: "),
        ("run module:asynchronous", "is an async function; a target is a plain one that returns"),
        ("run module:nothing", "module:nothing returned None, which is not a Supervisor, an"),
        ("run module:returns_mixed", "write Application(Some, ...)"),
        ("run module:with_option --count x", "Invalid value for --count"),
        ("run module:with_option --other 1", "Unknown option: --other"),
        ("run module:with_option 1", "Unused Tokens: ['1']"),
        ("run module:with_argument", "Parameter --count requires an argument"),
        (
            "run module:unreadable",
            "options cannot be made of its signature: NameError: name 'Absent'",
        ),
        ("run module:one --count 1", "is no function: it takes no options such as --count"),
        ("run module:one --tree", "options such as --tree; --tree goes before TARGET"),
        ("run module:with_option --log-level=info", "(see --help); --log-level=info goes before"),
        ("run", "TARGET requires an argument"),
        ("run --log-level", "--log-level requires an argument"),
        ("run --log-level loud module:one", 'Invalid value "loud" for --log-level'),
        ("run --count 1 module:one", "Unknown option: --count"),
        ("fly", 'Unknown command "fly"'),
    ],
)
def test_what_cannot_be_run_is_one_line_and_exit_code_2(
    words: str, told: str, write: Written, cli: Callable[..., tuple[Any, str, str]]
) -> None:
    write("module.py", MODULE)
    code, out, err = cli(*words.split())
    assert (code, out) == (2, "")
    assert re.fullmatch(r"actorvisor: [^\n]*\n", err)
    assert told in err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import nowhere", r"ModuleNotFoundError: No module named 'nowhere' \(.*user.py, line 1\)"),
        ("from beside import it", r"ImportError: cannot import name 'it' .* \(.*user.py, line 1\)"),
        ("import json.nowhere", r"No module named 'json.nowhere' \(.*user.py, line 1\)"),
        ("\nraise ValueError('two\\nlines')", r"ValueError: two lines \(.*user.py, line 2\)"),
        ("def main(:", r"SyntaxError: invalid syntax \(user.py, line 1\)"),
    ],
)
@pytest.mark.parametrize("target", ["user.py", "user:main"])
def test_an_import_that_fails_names_the_cause(
    text: str, told: str, target: str, write: Written, cli: Callable[..., tuple[Any, str, str]]
) -> None:
    write("user.py", text)
    write("beside.py", "")
    code, _, err = cli("run", target)
    assert code == 2
    assert re.fullmatch(rf"actorvisor: {target} cannot be imported: .*\n", err)
    assert re.search(told, err)


@pytest.mark.process
def test_without_the_extra_the_command_names_it() -> None:
    code = "import sys; sys.modules['cyclopts'] = None; from actorvisor._cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "pip install 'actorvisor[cli]'" in done.stderr


# -------------------------------------------------------------------------------- what is found

DECLARED = """
    import actorvisor as av

    class Says(av.Service):
        def __init__(self, what):
            self.what = what

        async def run(self):
            print(self.what)

    def says(what):
        return av.Application(Says, what, restart="transient", name=what)

    one = says("one")
    tree = av.Supervisor(
        [av.Application(Says, "tree", restart="transient", significant=True)],
        auto_shutdown="any", restart="transient",
    )
    several = [says("first"), says("second")]
    pair = (says("first"), says("second"))

    class Within:
        one = one

    def main(*, what: str = "main", times: int = 1):
        '''Say something.

        Args:
            what: It is said.
            times: How often.
        '''
        return [says(f"{what}{n}") for n in range(times)]
"""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("declared:one", "one"),
        ("declared:Within.one", "one"),
        ("declared:tree", "tree"),
        ("declared:several", "first second"),
        ("declared:pair", "first second"),
        ("declared:main", "main0"),
        ("declared.py", "main0"),
        ("declared.py --what so --times 2", "so0 so1"),
        ("declared.py --times=0", ""),
        ("--log-level error declared.py --what log", "log0"),
        ("--log-level=error declared.py", "main0"),
    ],
)
def test_every_kind_of_target_runs_until_it_has_ended(
    words: str, said: str, write: Written, cli: Callable[..., tuple[Any, str, str]]
) -> None:
    write("declared.py", DECLARED)
    code, out, err = cli("run", *words.split())
    assert (code, out.split(), err) == (0, said.split(), "")


def test_a_file_finds_what_stands_beside_it_and_hides_no_other_module(
    write: Written, cli: Callable[..., tuple[Any, str, str]], tmp_path: Path
) -> None:
    (tmp_path / "sub").mkdir()
    write("sub/declared.py", DECLARED)
    write("sub/json.py", "from declared import main")
    code, out, _ = cli("run", "sub/json.py")
    assert (code, out) == (0, "main0\n")
    assert "sub" not in str(sys.modules["json"].__file__)


@pytest.mark.process
def test_the_help_of_a_target_is_made_from_its_signature(write: Written) -> None:
    write("declared.py", DECLARED)
    code, out, err = carry_out("run", "declared.py", "--help")
    assert (code, err) == (0, "")
    assert "actorvisor run declared.py" in out
    assert "Say something." in out
    assert re.search(r"--what .*It is said\. \[default: main\]", out)
    assert re.search(r"--times INT .*How often\. \[default: 1\]", out)


@pytest.mark.process
@pytest.mark.parametrize("words", [("--help",), ("run", "--help"), ()])
def test_the_help_of_the_command(words: tuple[str, ...]) -> None:
    code, out, err = carry_out(*words)
    assert (code, err) == (0, "")
    assert "Usage: actorvisor" in out
    assert ("--tree" in out) == ("run" in words)


# ------------------------------------------------------------------------------------- exit codes

ENDS = """
    import sys
    import actorvisor as av

    async def crashes():
        raise ValueError("it is broken")

    async def leaves(code):
        sys.exit(code)

    def main(*, how: str):
        if how == "crash":
            return av.Application(crashes)
        if how == "setup":
            raise KeyError("main itself")
        return av.Application(leaves, int(how) if how.isdecimal() else how)
"""


@pytest.mark.process
@pytest.mark.parametrize(
    ("how", "code", "told"),
    [
        ("crash", 1, r"ValueError: it is broken\n(.*\n)*"  # the log, and at last:
         r"actorvisor: the host ended: ValueError\('it is broken'\) .* host/crashes\)\n\Z"),
        ("7", 7, ""),
        ("0", 0, ""),
        ("words", 1, r"\nwords\n\Z"),
        ("setup", 1, r"KeyError: 'main itself'"),
    ],
)  # fmt: skip
def test_what_reaches_the_host_is_the_exit_code(
    how: str, code: int, told: str, write: Written
) -> None:
    # H4
    write("ends.py", ENDS)
    found, out, err = carry_out("run", "ends.py", "--how", how)
    assert (found, out) == (code, "")
    assert re.search(told, err)


SLOW = """
    import sys
    import time
    import trio
    import actorvisor as av

    def say(*words):
        print(*words, flush=True)

    class Slow(av.Service):
        def __init__(self, starts, ends):
            self.starts, self.ends = starts, ends

        async def setup(self):
            say("setup")
            await trio.sleep(self.starts)

        async def teardown(self, reason):
            say("teardown", type(reason).__name__)
            await trio.sleep(self.ends)
            say("torn down")

    class Blocking(Slow):
        def setup(self):
            say("setup")
            time.sleep(self.starts)

        def teardown(self, reason):
            say("teardown", type(reason).__name__)
            time.sleep(self.ends)

    def main(*, starts: float = 0, ends: float = 0, thread: bool = False):
        say("main")
        kind, executor = (Blocking, av.ThreadExecutor()) if thread else (Slow, av.AsyncExecutor())
        return av.Application(kind, starts, ends, executor=executor, grace=300)

    say("imported")
    time.sleep(float("--import" in sys.argv and 300))
"""


@contextlib.contextmanager
def slow(write: Written, *words: str, until: str, **options: Any) -> Iterator[Any]:
    """A slow program that has come as far as a line; nothing of it is left in the end."""
    write("slow.py", SLOW)
    with begin("run", "slow.py", *words, **options) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.strip() == until:
                    break
            yield process
        finally:
            process.kill()


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("words", [(), ("--thread",)])
def test_a_signal_stops_gracefully(
    number: signal.Signals, words: tuple[str, ...], write: Written
) -> None:
    # H4
    with slow(write, *words, until="setup") as process:
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert out.startswith("teardown Stopped\n")
    assert err == ""


@pytest.mark.process
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("words", [(), ("--thread",)])
def test_a_second_signal_stops_by_force(
    second: signal.Signals, words: tuple[str, ...], write: Written
) -> None:
    # H4: the exit code is the first one's
    with slow(write, "--ends", "300", *words, until="setup") as process:
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "teardown Stopped\n"
        process.send_signal(second)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (143, "")
    assert "Traceback" not in err


@pytest.mark.process
def test_a_signal_stops_what_is_starting(write: Written) -> None:
    # H4, L4: a stop cancels a setup
    with slow(write, "--starts", "300", until="setup") as process:
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (143, "")
    assert "Traceback" not in err


@pytest.mark.process
def test_a_second_signal_leaves_a_thread_behind_that_is_starting(write: Written) -> None:
    # H4, L8
    with slow(write, "--starts", "300", "--thread", until="setup") as process:
        process.send_signal(signal.SIGTERM)
        # Nothing tells that the first one has come; two that are alike could be taken for one.
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode in {143, 130}
    assert out == ""
    assert "Traceback" not in err


@pytest.mark.process
def test_ctrl_c_before_the_program_runs(write: Written) -> None:
    with slow(write, "--import", until="imported") as process:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "")


@pytest.mark.process
@pytest.mark.parametrize("force", [False, True])
def test_ctrl_c_in_a_terminal(force: bool, write: Written) -> None:
    # H4
    write("slow.py", SLOW)
    # The process gets the terminal as its own: a key then is a signal to it.
    as_own = (
        "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    terminal, end = pty.openpty()
    with (
        open(terminal, "rb+", buffering=0) as keys,
        subprocess.Popen(
            [sys.executable, "-c", as_own, *COMMAND, "run", "slow.py"]
            + (["--ends", "300"] if force else []),
            stdin=end,
            stdout=end,
            stderr=end,
            start_new_session=True,
        ) as process,
    ):
        os.close(end)
        try:
            seen = b""

            def read_until(text: bytes) -> None:
                nonlocal seen
                while text not in seen:
                    seen += keys.read(1000)

            read_until(b"setup")
            keys.write(b"\x03")
            read_until(b"teardown")
            if force:
                keys.write(b"\x03")
            with contextlib.suppress(OSError):  # Linux's way to say that the other end is closed
                read_until(b"no such text")
            assert process.wait(60) == 130
        finally:
            process.kill()
    assert (b"torn down" in seen) == (not force)
    assert b"Traceback" not in seen


# -------------------------------------------------------------------------- what happens meanwhile

CRASHES_ONCE = """
    import logging
    import trio
    import actorvisor as av

    tries = []

    async def twice():
        tries.append(None)
        if len(tries) == 1:
            raise ValueError("the first time")

    main = av.Supervisor(
        [av.Application(twice, significant=True)], name="above",
        auto_shutdown="any", restart="transient",
    )
"""


def test_the_tree_at_the_start_and_at_every_change(
    write: Written, cli: Callable[..., tuple[Any, str, str]]
) -> None:
    write("once.py", CRASHES_ONCE)
    code, out, _ = cli("run", "--tree", "once:main")
    trees = out.split("\n\n")
    assert code == 0
    assert trees[0].startswith("host  running, one_for_one\n└── above  ")
    for tree in trees[1:]:
        changes, top, _ = tree.partition("host  ")
        assert changes.startswith(("host/above", "host: "))
        assert top
    # What comes so fast is shown together; the last state is shown in any case.
    last = trees[-1]
    assert "above  stopped" in last
    assert "twice  stopped, AsyncExecutor, incarnation 2, 1 restart" in last


@pytest.mark.process
def test_nobody_reads_the_tree_any_more(write: Written) -> None:
    write(
        "quiet.py", "import actorvisor as av\nmain = av.Application(av.Service.__subclasses__()[0])"
    )
    write(
        "quiet.py",
        """
        import actorvisor as av

        class Quiet(av.Service):
            pass

        def main():
            return av.Application(Quiet)
        """,
    )
    with begin("run", "--tree", "quiet.py") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "host  running, one_for_one\n"
        process.stdout.close()
        process.send_signal(signal.SIGTERM)
        assert process.stderr.read() == ""
    assert process.returncode == 143


@pytest.mark.process
@pytest.mark.parametrize(
    ("level", "told", "untold"),
    [
        ((), ["ERROR host/above/twice crashed", "ValueError: the first"], ["above started"]),
        (("--log-level", "info"), ["INFO host/above started", "twice crashed"], ["is up again"]),
        (("--log-level", "debug"), ["DEBUG host/above/twice is up again"], []),
        (("--log-level", "critical"), [], ["twice"]),
    ],
)
def test_the_log_level(
    level: tuple[str, ...], told: list[str], untold: list[str], write: Written
) -> None:
    write("once.py", CRASHES_ONCE)
    code, out, err = carry_out("run", *level, "once:main")
    assert (code, out) == (0, "")
    assert all(text in err for text in told)
    assert not any(text in err for text in untold)


def test_a_record_goes_to_what_is_stderr_now(capsys: pytest.CaptureFixture[str]) -> None:
    handler = _cli.StderrHandler()
    handler.handle(logging.makeLogRecord({"msg": "hello"}))
    assert capsys.readouterr().err == "hello\n"


def test_a_record_that_cannot_be_shown_breaks_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    handler = _cli.StderrHandler()
    handler.handle(logging.makeLogRecord({"msg": "%d", "args": ("no number",)}))
    assert "--- Logging error ---" in capsys.readouterr().err


# --------------------------------------------------------------------------------------- av.run


async def end() -> None:
    pass


@pytest.fixture
def handlers() -> Iterator[list[Any]]:
    """Signal handlers, and whether they are the same in the end."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.usefixtures("handlers")
def test_run_puts_signal_handlers_back() -> None:
    # H4
    during: list[Any] = []

    async def look() -> None:
        await trio.lowlevel.checkpoint()
        during.append(signal.getsignal(signal.SIGTERM))

    async def crash() -> None:
        await trio.lowlevel.checkpoint()
        raise ValueError("a crash")

    av.run([av.Application(look)])
    assert during[0] not in {signal.SIG_DFL, signal.SIG_IGN, None}
    with pytest.RaisesGroup(pytest.RaisesExc(ValueError, match="a crash")):
        av.run([av.Application(crash)])


@pytest.mark.usefixtures("handlers")
def test_a_signal_that_comes_before_the_host_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    # H4
    original = trio.open_signal_receiver

    @contextlib.contextmanager
    def early(*numbers: int) -> Iterator[Any]:
        with original(*numbers) as received:
            signal.raise_signal(signal.SIGTERM)
            yield received

    monkeypatch.setattr(trio, "open_signal_receiver", early)
    with pytest.raises(SystemExit) as exited:
        av.run([av.Application(trio.sleep_forever)])
    assert exited.value.code == 143


def test_run_in_another_thread_leaves_signals_alone(handlers: list[Any]) -> None:
    # H4, H5
    during: list[Any] = []

    async def look() -> None:
        await trio.lowlevel.checkpoint()
        during.extend(signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM))

    thread = threading.Thread(target=av.run, args=([av.Application(look)],))
    thread.start()
    thread.join(60)
    assert during == handlers


def test_with_nothing_to_wait_for_run_returns() -> None:
    # H3
    av.run([])


def test_an_observer_sees_the_host_and_is_gone_at_the_end() -> None:
    seen: list[str] = []

    async def observe(host: av.Host) -> None:
        seen.append(host.path)
        try:
            await trio.sleep_forever()
        finally:
            seen.append("gone")

    av.run([av.Application(end)], observe=observe)
    assert seen == ["host", "gone"]


def test_an_observer_that_crashes_ends_the_program() -> None:
    async def observe(host: av.Host) -> None:
        await trio.lowlevel.checkpoint()
        raise KeyError(host.path)

    with pytest.RaisesGroup(KeyError):
        av.run([av.Application(trio.sleep_forever)], observe=observe)


def test_a_keyboard_interrupt_of_a_service_is_raised_bare(
    write: Written, cli: Callable[..., tuple[Any, str, str]]
) -> None:
    # M9
    write(
        "interrupts.py",
        """
        import actorvisor as av

        async def interrupts():
            raise KeyboardInterrupt

        main = av.Application(interrupts)
        """,
    )
    code, _, err = cli("run", "interrupts.py")
    assert (code, err) == (130, "")
