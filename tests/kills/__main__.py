"""What is killed at any moment loses nothing, and leaves nothing behind.

    python -m tests.kills accounting --messages 100000 --kills 200
    python -m tests.kills orphans --hosts 100
    python -m tests.kills incarnations --count 300
    python -m tests.kills interrupts --count 20

Each says what it saw, and fails when a rule is broken. `--seed` repeats the choices; how processes
interleave with them stays the machine's.
"""

from __future__ import annotations

import argparse
import logging
import random
from collections.abc import Sequence

from tests.kills.accounting import accounting
from tests.kills.incarnations import incarnations
from tests.kills.interrupts import interrupts
from tests.kills.orphans import orphans


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="python -m tests.kills",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    methods = ("forkserver", "spawn")
    parser.add_argument("what", choices=("accounting", "orphans", "incarnations", "interrupts"))
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--kind", choices=("sync", "async"), nargs="*", default=("sync", "async"))
    parser.add_argument("--redeliver", type=int, nargs="*", default=(0, 3))
    parser.add_argument("--hosts", type=int, default=100)
    parser.add_argument("--count", type=int)
    parser.add_argument("--method", choices=methods, nargs="*", default=methods)
    options = parser.parse_args(argv)
    logger = logging.getLogger("actorvisor")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    match options.what:
        case "accounting":
            for kind in options.kind:
                for redeliver in options.redeliver:
                    accounting(kind, redeliver, options.messages, options.kills, options.seed)
        case "orphans":
            for method in options.method:
                orphans(method, options.hosts, options.seed)
        case "incarnations":
            for method in options.method:
                incarnations(method, options.count or 300)
        case _:
            for method in options.method:
                interrupts(method, options.count or 20, options.seed)


if __name__ == "__main__":
    main()
