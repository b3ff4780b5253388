"""A pool under random sends, crashes and impatience, against a model as naive as rule W1."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
import trio
from hypothesis import example, given, settings, strategies as st
from trio.testing import MockClock

import actorvisor as av
from actorvisor._core._dispatch import lane_of
from tests.runtime.account import check_account


@dataclass(frozen=True)
class Sending:
    """A message.

    Attributes:
        number: which one; it is sent at that time.
        key: its key.
        ask: whether it is an ask.
        act: what the handler does in the end.
        seconds: how long the handler takes.
        patience: how long an asker waits; None: for ever.
    """

    number: int
    key: int
    ask: bool
    act: Literal["return", "crash", "reject"]
    seconds: float
    patience: float | None


class No(av.Rejection):
    pass


@dataclass
class Naive:
    """What should happen: a list of what waits, and for each member what it has in hand."""

    size: int
    keyed: bool
    redeliver: int
    queue: list[Sending] = field(default_factory=list)
    free: list[int] = field(default_factory=list)
    in_hand: dict[int, tuple[Sending, float]] = field(default_factory=dict)
    tries: Counter[int] = field(default_factory=Counter)
    entered: list[tuple[int, int, float]] = field(default_factory=list)
    results: dict[int, Any] = field(default_factory=dict)
    count: Counter[str] = field(default_factory=Counter)

    def play(self, sendings: list[Sending]) -> None:
        self.free = list(range(self.size))
        plan: list[tuple[float, Sending, bool]] = [(one.number, one, False) for one in sendings]
        plan += [(one.number + one.patience, one, True) for one in sendings if one.patience]
        for time, sending, late in sorted(plan, key=lambda one: one[0]):
            self.advance(time)
            if late:
                self.lose_patience(sending)
            else:
                self.count["accepted"] += 1
                self.queue.append(sending)
            self.deal(time)
        self.advance(float("inf"))

    def advance(self, until: float) -> None:
        while self.in_hand:
            member = min(self.in_hand, key=lambda one: self.in_hand[one][1])
            sending, time = self.in_hand[member]
            if time >= until:
                return
            del self.in_hand[member]
            self.finish(sending)
            # One that crashed is there again when all that was free has had its chance.
            if sending.act == "crash":
                self.deal(time)
            self.free.append(member)
            self.deal(time)

    def deal(self, time: float) -> None:
        for member in list(self.free):
            fitting = [
                one for one in self.queue if not self.keyed or lane_of(one.key, self.size) == member
            ]
            if fitting:
                sending = fitting[0]
                self.queue.remove(sending)
                self.free.remove(member)
                self.entered.append((sending.number, member, time))
                self.in_hand[member] = sending, time + sending.seconds

    def answer(self, sending: Sending, result: str) -> None:
        if not sending.ask:
            return
        if sending.number in self.results:
            self.count["late_replies"] += 1
        else:
            self.results[sending.number] = result

    def finish(self, sending: Sending) -> None:
        match sending.act:
            case "return":
                self.count["handled"] += 1
                self.answer(sending, "returned")
            case "reject":
                self.count["rejected"] += 1
                self.answer(sending, "rejected")
            case "crash" if self.tries[sending.number] < self.redeliver:
                self.tries[sending.number] += 1
                self.queue.insert(0, sending)
            case "crash":
                self.count["dead_letters"] += 1
                self.answer(sending, "crashed")

    def lose_patience(self, sending: Sending) -> None:
        if not sending.ask or sending.number in self.results:
            return
        self.results[sending.number] = "cancelled"
        if sending in self.queue:
            self.queue.remove(sending)
            self.count["withdrawn"] += 1


class Worker(av.Service):
    def __init__(self, entered: list[tuple[int, int, float]]) -> None:
        self.entered = entered

    async def work(self, sending: Sending) -> str:
        # A life's task bears the path of its member.
        member = int(trio.lowlevel.current_task().name.rpartition("/")[2])
        self.entered.append((sending.number, member, trio.current_time()))
        await trio.sleep(sending.seconds)
        if sending.act == "crash":
            raise ValueError
        if sending.act == "reject":
            raise No
        return "returned"


async def really(
    size: int, keyed: bool, redeliver: int, sendings: list[Sending]
) -> tuple[list[tuple[int, int, float]], dict[int, Any], av.MailStatistics]:
    entered: list[tuple[int, int, float]] = []
    results: dict[int, Any] = {}

    async def send(ref: av.Ref[Worker], sending: Sending) -> None:
        await trio.sleep_until(sending.number)
        if not sending.ask:
            await ref.tell(Worker.work, sending)
            return
        patience = float("inf") if sending.patience is None else sending.patience
        with trio.move_on_after(patience):
            try:
                results[sending.number] = await ref.ask(Worker.work, sending)
            except av.ServiceCrashed:
                results[sending.number] = "crashed"
            except No:
                results[sending.number] = "rejected"
        results.setdefault(sending.number, "cancelled")

    async with av.open_host(drain=1000) as host:
        app = av.Application(Worker, entered, redeliver=redeliver)
        key = (lambda sending: sending.key) if keyed else None
        ref = await host.start(av.Pool(app, size=size, key=key, max_restarts=1000))
        async with trio.open_nursery() as nursery:
            for sending in sendings:
                nursery.start_soon(send, ref, sending)
            # M7 holds at every moment; look between all that can happen.
            for quarter in range(4 * (len(sendings) + 1)):
                await trio.sleep_until(quarter / 4 + 0.1)
                check_account(host)
        await trio.sleep(1000)
        return entered, results, check_account(host)


def seen(entered: list[tuple[int, int, float]], keyed: bool) -> list[tuple[float, int, int]]:
    return [(time, number, member if keyed else 0) for number, member, time in entered]


@st.composite
def sendings(draw: st.DrawFn) -> list[Sending]:
    found = []
    for number in range(draw(st.integers(1, 12))):
        # No two sums of these are equal, with up to three tries of each, so that no two handlers
        # end at one time.
        fraction = 4.0 ** -(number + 2)
        found.append(
            Sending(
                number=number,
                key=draw(st.integers(0, 5)),
                ask=draw(st.booleans()),
                act=draw(st.sampled_from(("return", "return", "crash", "reject"))),
                seconds=draw(st.integers(0, 5)) + fraction,
                patience=draw(
                    st.none() | st.integers(1, 5).map(lambda seconds: seconds + 2.0**-40)
                ),
            )
        )
    return found


@settings(deadline=None)
@given(
    size=st.integers(1, 4),
    keyed=st.booleans(),
    redeliver=st.integers(0, 2),
    sendings=sendings(),
)
@example(
    size=2,
    keyed=False,
    redeliver=1,
    sendings=[
        Sending(0, 0, True, "crash", 1.5, None),
        Sending(1, 0, True, "return", 4.25, None),
        Sending(2, 0, True, "return", 1.125, 1.0),
    ],
)
def test_against_the_rule(size: int, keyed: bool, redeliver: int, sendings: list[Sending]) -> None:
    # W1, M2, M4, M5, M7, M8
    naive = Naive(size, keyed, redeliver)
    naive.play(sendings)
    entered, results, mail = trio.run(
        really, size, keyed, redeliver, sendings, clock=MockClock(autojump_threshold=0)
    )
    # What is handed out in one step is entered in any order; and which members are free first is
    # not said, as they start together.
    assert sorted(seen(entered, keyed)) == sorted(seen(naive.entered, keyed))
    assert results == naive.results
    counted = {name: getattr(mail, name) for name in mail.__slots__ if getattr(mail, name)}
    assert counted == {name: count for name, count in naive.count.items() if count}


@pytest.mark.parametrize("keyed", [False, True])
@settings(deadline=None)
@given(data=st.data())
def test_equal_keys_keep_their_order(keyed: bool, data: st.DataObject) -> None:
    # M2, W1: for each key with one, else for taking up, whatever crashes in between.
    keys = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=20))
    crashing = data.draw(st.sets(st.integers(0, 19), max_size=4))
    size = data.draw(st.integers(1, 3))
    seen: list[int] = []

    class Orderly(av.Service):
        async def work(self, number: int) -> None:
            seen.append(number)
            await trio.sleep(number % 3)
            if number in crashing:
                raise ValueError(number)

    async def main() -> None:
        async with av.open_host(drain=1000) as host:
            key = keys.__getitem__ if keyed else None
            pool = av.Pool(av.Application(Orderly), size=size, key=key, max_restarts=1000)
            ref = await host.start(pool)
            for number in range(len(keys)):
                await ref.tell(Orderly.work, number)

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert sorted(seen) == list(range(len(keys)))
    if keyed:
        for key in set(keys):
            mine = [number for number in seen if keys[number] == key]
            assert mine == sorted(mine)
    elif size == 1:
        assert seen == sorted(seen)
