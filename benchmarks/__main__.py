"""The command line: `python -m benchmarks [NAME ...] [--quick] [--json FILE]`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from . import lives, messages, processes, scale, simulation

if TYPE_CHECKING:
    from .measure import Ratio

BENCHMARKS: Final[dict[str, Callable[[bool], Awaitable[list[Ratio]]]]] = {
    "tell": messages.tell,
    "ask": messages.ask,
    "start": lives.start,
    "restart": lives.restart,
    "scale": scale.scale,
    "process_tell": processes.process_tell,
    "process_ask": processes.process_ask,
    "process_large": processes.process_large,
    "process_restart": processes.process_restart,
    "process_pool": processes.process_pool,
    "simulation": simulation.simulation,
    "unused": simulation.unused,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run what was named, print a table, and fail if a ratio is beyond its limit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"which ones: {', '.join(BENCHMARKS)}; all")
    parser.add_argument("--quick", action="store_true", help="small counts: rough figures")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    options = parser.parse_args(argv)
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
    machine = f"{platform.python_implementation()} {platform.python_version()}, trio "
    machine += f"{trio.__version__}, {platform.platform(terse=True)}, {platform.machine()}"
    print(machine, flush=True)
    results: list[Ratio] = []
    for name in options.names or BENCHMARKS:
        for result in trio.run(BENCHMARKS[name], options.quick):
            results.append(result)
            print_result(result)
    if options.json is not None:
        figures = [{**dataclasses.asdict(result), "holds": result.holds} for result in results]
        options.json.write_text(json.dumps({"machine": machine, "figures": figures}, indent=2))
    return 0 if all(result.holds for result in results) else 1


def print_result(result: Ratio) -> None:
    """One line of the table."""
    verdict = "" if result.holds else "  BEYOND ITS LIMIT"
    print(
        f"{result.name:46} {result.ratio:7.2f} x  ({result.wanted:>7})  "
        f"{result.ours:9.2f} {result.unit:3}  floor {result.floor:9.2f} {result.unit}{verdict}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
