"""Same seed, same trace, byte for byte, in any process: `python -m tests.testing.determinism`.

Random systems of coroutines, threads and processes are simulated in one process for each of some
interpreters and hash seeds; the digests of their traces must be the same.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from actorvisor.testing import simulate
from tests.testing.systems import draw_system

ROOT: Final = Path(__file__).parents[2]


def digests(count: int) -> Iterator[str]:
    """The digest of the trace of each system, the header left out: it names the interpreter."""
    for number in range(count):
        trace = simulate(draw_system(number), seed=number).trace
        _, *lines = trace.to_lines()
        yield f"{len(lines)} {hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def main(argv: Sequence[str] | None = None) -> int:
    """Compare, and say how many differ."""
    parser = argparse.ArgumentParser(prog="python -m tests.testing.determinism")
    parser.add_argument("--count", type=int, default=1_000, help="systems")
    parser.add_argument("--python", action="append", help="an interpreter; any number of times")
    parser.add_argument("--print", action="store_true", help="print the digests of this process")
    options = parser.parse_args(argv)
    if options.print:
        warnings.simplefilter("ignore")  # of limits that a backoff makes unreachable
        logging.disable()
        for line in digests(options.count):
            print(line, flush=True)
        return 0
    runs = []
    for python in options.python or [sys.executable]:
        for seed in ("1", "2"):
            command = [python, "-m", "tests.testing.determinism", "--print"]
            process = subprocess.Popen(
                [*command, "--count", str(options.count)],
                cwd=ROOT,
                env=os.environ | {"PYTHONHASHSEED": seed},
                stdout=subprocess.PIPE,
                text=True,
            )
            runs.append((f"{python}, PYTHONHASHSEED={seed}", process))
    found = [(name, process.communicate()[0].splitlines()) for name, process in runs]
    differing = 0
    for number in range(options.count):
        seen = {lines[number] if number < len(lines) else "nothing" for _, lines in found}
        if len(seen) > 1:
            differing += 1
            print(f"system {number} differs")
    entries = sum(int(line.split()[0]) for line in found[0][1])
    for name, lines in found:
        print(f"{name}: {len(lines)} systems")
    print(f"{differing} of {options.count} differ; {entries:,} lines of trace in each")
    return 1 if differing or any(len(lines) != options.count for _, lines in found) else 0


if __name__ == "__main__":
    sys.exit(main())
