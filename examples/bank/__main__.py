"""A day at the bank in real processes, while each account crashes once and the teller is killed.

python -m examples.bank          the bank as it was repaired
python -m examples.bank first    the bank as it was written first
"""

from __future__ import annotations

import sys

import trio

from actorvisor.testing import After, Before, Fault, FaultPlan, Kill, Raise, inject

from .accounts import NAMES, bank
from .audit import Bank, BooksDiffer, day_and_morning
from .repaired import repaired_bank

PLAN = FaultPlan(
    [
        *(Fault(f"host/today/{name}", 1, Before(2), Raise()) for name in NAMES),
        Fault("host/today/teller", 4, After(1), Kill()),
    ]
)


def main(arguments: list[str]) -> str | None:
    """What is wrong; None if nothing."""
    banks: dict[str, Bank] = {"first": bank, "repaired": repaired_bank}
    name = arguments[0] if arguments else "repaired"
    if name not in banks:
        return f"there is no bank {name!r}; choose from {', '.join(banks)}"
    try:
        acknowledged = trio.run(day_and_morning, inject(PLAN), banks[name])
    except BooksDiffer as error:
        return f"the books differ: {error}"
    print("the books are right; acknowledged:", *(order.number for order in acknowledged))
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
