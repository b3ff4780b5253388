"""The supervision and a naive model of the rules, side by side, through random histories.

`Ledger` has the rules, `World` all that happens; a failure prints the history. The bytes are the
world's choices: where they end, it chooses the first option each time.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from hypothesis import given, settings, strategies as st

from tests.core.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLES = settings().max_examples  # as the profile says
STEPS = (5, 20, 60) if EXAMPLES < 1_000 else (5, 20, 60, 150, 400)  # a hunt goes further, too


def run(pick: Callable[[int], int], steps: int, *, copies: bool = False) -> World:
    """One history, up to its end for good."""
    world = World(pick)
    world.checks_copies = copies
    try:
        world.run(steps)
        world.finish()
    except Exception as error:
        error.add_note("\n".join([str(world.spec), *map(str, world.declaration), *world.log]))
        raise
    return world


def choices(tape: bytes) -> Callable[[int], int]:
    left = iter(tape)
    return lambda options: next(left, 0) % options


@given(st.binary(min_size=100, max_size=400))
@settings(max_examples=10 * EXAMPLES)
def test_any_history(tape: bytes) -> None:
    # S1 to S7, E1, L1, L3, L7, I4, I5, M6, O4: see `Ledger`
    run(choices(tape), steps=50)


@given(st.binary(min_size=100, max_size=400))
def test_copies(tape: bytes) -> None:
    # S9: a copy decides the same, and knows nothing of its original
    run(choices(tape), steps=30, copies=True)


@given(st.integers(0, 2**32))
@settings(max_examples=EXAMPLES // 2)
def test_many_histories(seed: int) -> None:
    # The same, without shrinking, but 20 times as many in the same time.
    for number in range(20):
        dice = random.Random(seed + number)
        run(dice.randrange, steps=dice.choice(STEPS))
