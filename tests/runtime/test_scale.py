"""Many at once: a thousand crashes at the same moment, in virtual time (S2, S3, M4, M7, O4)."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import pytest

import actorvisor as av
from tests.runtime.account import check_account
from tests.runtime.paths import FOLLOWS

if TYPE_CHECKING:
    from trio.testing import MockClock

MANY = 1_000
CRASH = (av.Stopping, av.Exited, av.Restarting, av.Starting, av.Started)


class Fragile(av.Service):
    """Adds up what it is told, outside itself, and crashes when it is told to."""

    def __init__(self, sums: dict[int, int], number: int) -> None:
        self.sums = sums
        self.number = number

    def add(self, amount: int) -> int:
        self.sums[self.number] = self.sums.get(self.number, 0) + amount
        return self.sums[self.number]

    def crash(self) -> None:
        raise ConnectionError(self.number)


class Watcher(av.Service):
    """Takes all notifications of what it watches; it misses none (O2)."""

    def __init__(self, told: list[av.Notification]) -> None:
        self.told = told

    def watch(self, path: str) -> None:
        self.monitor(self.find(path, av.Service))

    def receive(self, message: object) -> None:
        assert isinstance(message, av.Notification)
        self.told.append(message)


@pytest.mark.parametrize("backoff", [av.Immediate(), av.Fixed(2.0)])
@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
async def test_a_thousand_crash_at_the_same_moment(
    strategy: Literal["one_for_one", "one_for_all", "rest_for_one"],
    backoff: av.Backoff,
    autojump_clock: MockClock,
) -> None:
    sums: dict[int, int] = {}
    told: list[av.Notification] = []
    children = [
        av.Application(Fragile, sums, number, name=f"n{number}", backoff=backoff)
        for number in range(MANY)
    ]
    tree = av.Supervisor(
        children, name="many", strategy=strategy, max_restarts=MANY, within=3 * MANY
    )
    async with av.open_host([tree]) as host:
        watcher = await host.start(av.Application(Watcher, told))
        refs = [host.find(f"many/n{number}", Fragile) for number in range(MANY)]
        for ref in refs:
            await watcher.ask(Watcher.watch, ref.path)
        for ref in refs:
            ref.tell_nowait(Fragile.add, 1)
            ref.tell_nowait(Fragile.crash)
            ref.tell_nowait(Fragile.add, 10)
        for ref in refs:
            assert await ref.ask(Fragile.add, 100) == 111  # M4: nothing is lost, in order
        assert {ref.state for ref in refs} == {"running"}
        account = check_account(host)
        assert account.dead_letters == MANY  # each crashing message, and no other
        restarts = host.statistics().restarts
        await watcher.stop()
    assert [one.sequence for one in told] == sorted({one.sequence for one in told})  # O1, O2
    for ref in refs:
        mine = [type(one) for one in told if one.path == ref.path]
        assert mine[0] is av.Stopping
        assert mine[-1] is av.Started
        assert all(after in FOLLOWS[before] for before, after in pairwise(mine)), mine  # O4
        if strategy == "one_for_one":
            assert tuple(mine) == CRASH
    if strategy == "one_for_one":
        assert restarts == MANY  # S3: and so many are allowed
        assert {ref.incarnation for ref in refs} == {2}
