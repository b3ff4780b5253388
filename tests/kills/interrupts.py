"""Ctrl-C at a real terminal, and SIGTERM: no traceback, the right exit code, nothing left (H4)."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from tests.kills.family import environment, files_in, watch_end
from tests.kills.orphans import ROOT

When: TypeAlias = Literal["starting", "working", "stopping", "terminated"]
WHEN: Final[tuple[When, ...]] = get_args(When)
EXIT: Final = {"terminated": 128 + signal.SIGTERM}
"""Exit codes, where they are not those of a Ctrl-C."""
CTRL_C: Final = b"\x03"
PATIENCE: Final = 10.0
"""Seconds for what the fork server has left to do."""

# Its standard input becomes its controlling terminal, as a shell does it.
_AT_TERMINAL: Final = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)


@dataclass(frozen=True)
class Interrupted:
    """One program that was interrupted.

    Attributes:
        when: what it was about.
        delay: seconds after that had begun.
        code: its exit code.
        output: all that came to the terminal.
        took: seconds from there to its end.
        left: processes that are left.
        files: files that are left.
    """

    when: When
    delay: float
    code: int
    output: str
    took: float
    left: dict[int, str]
    files: list[str]

    @property
    def is_clean(self) -> bool:
        """Whether it ended as it should."""
        code = EXIT.get(self.when, 128 + signal.SIGINT)
        noise = "Traceback" in self.output or "Error" in self.output
        return self.code == code and not (noise or self.left or self.files)


class Terminal:
    """A program at a pseudo-terminal of its own."""

    def __init__(self, method: str, token: str, folder: str) -> None:
        self._master, slave = os.openpty()
        self.output = ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", _AT_TERMINAL, "-m", "tests.kills.program", method],
            cwd=ROOT,
            env=environment(token, folder),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)

    def type(self, what: bytes) -> None:
        """Type something."""
        os.write(self._master, what)

    def read_until(self, word: str) -> None:
        """Read what it says until a word has come; to its end, if that comes first."""
        while word not in self.output:
            if not self._read():
                break

    def read_all(self) -> None:
        """Read until nobody has the terminal any more."""
        while self._read():
            pass

    def _read(self) -> bool:
        # Linux: its other end is closed.
        with contextlib.suppress(OSError):
            data = os.read(self._master, 4096)
            self.output += data.decode(errors="replace")
            return bool(data)
        return False

    def close(self) -> None:
        """Nobody types any more."""
        os.close(self._master)


def interrupt(method: str, when: When, delay: float, token: str) -> Interrupted:
    """Start a program, and interrupt it that long after something of it has begun."""
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        terminal = Terminal(method, token, folder)
        terminal.read_until("begin" if when == "starting" else "up")
        if when == "stopping":
            terminal.type(CTRL_C)
            terminal.read_until("down")
        time.sleep(delay)
        begin = time.monotonic()
        if when == "terminated":
            terminal.process.terminate()
        else:
            # What has ended meanwhile has closed its end.
            with contextlib.suppress(OSError):
                terminal.type(CTRL_C)
        terminal.read_all()
        code = terminal.process.wait()
        took = time.monotonic() - begin
        _, left = watch_end(token, PATIENCE)
        terminal.close()
        for process in left:
            os.kill(process, signal.SIGKILL)
        return Interrupted(when, delay, code, terminal.output, took, left, files_in(folder))


def interrupts(method: str, count: int, seed: int) -> None:
    """That many programs of each kind."""
    choices = random.Random(f"{seed} {method}")
    found: list[Interrupted] = []
    for when in WHEN:
        for number in range(count):
            token = f"{os.getpid()}-{seed}-{method}-{when}-{number}"
            most = 0.5 if when == "starting" else 0.2
            found.append(interrupt(method, when, choices.random() * most, token))
    for when in WHEN:
        ends = [one for one in found if one.when == when]
        codes = Counter(one.code for one in ends)
        print(
            f"{method}, seed {seed}, {when}: {sum(one.is_clean for one in ends)} of {len(ends)} "
            f"clean, exit codes {dict(codes)}, "
            f"{sum('up' not in one.output for one in ends)} before all was up, "
            f"{max(one.took for one in ends):.2f} s at most",
            flush=True,
        )
    bad = [one for one in found if not one.is_clean]
    for one in bad[:5]:
        print(one, one.output, sep="\n")
    assert not bad
