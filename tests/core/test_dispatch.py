"""Who in a pool gets what next, and how a rolling restart goes on (W1), against naive models."""

from __future__ import annotations

import zlib
from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from actorvisor._core._dispatch import Dispatch, Rolling, lane_of

KEYS = st.one_of(st.text(), st.binary(), st.integers())


class Naive:
    """W1 as it is written: a list of all that waits, and a list of who is free."""

    def __init__(self, size: int, keyed: bool) -> None:
        self.keyed = keyed
        # What waits, its member, and its number: in the order of these.
        self.queue: list[tuple[str, int, int]] = []
        self.free: list[int] = []

    def fits(self, item: tuple[str, int, int], member: int) -> bool:
        return not self.keyed or item[1] == member

    def put(self, item: tuple[str, int, int]) -> None:
        self.queue.append(item)
        self.queue.sort(key=lambda one: one[2])

    def deal(self) -> tuple[int, str, int] | None:
        """Who has been free longest of those for whom something waits gets the oldest of that."""
        for member in self.free:
            for item in self.queue:
                if self.fits(item, member):
                    self.queue.remove(item)
                    self.free.remove(member)
                    return member, item[0], item[2]
        return None


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "free", "busy", "deal", "back", "remove", "oldest", "lane"]),
        st.integers(0, 3),
    ),
    max_size=60,
)


@given(size=st.integers(1, 4), keyed=st.booleans(), steps=STEPS)
@example(size=2, keyed=True, steps=[("free", 0), ("free", 1), ("add", 1), ("add", 0), ("deal", 0)])
@example(
    size=2,
    keyed=False,
    steps=[
        *[("add", 0), ("add", 0), ("free", 0), ("free", 1), ("deal", 0), ("deal", 0)],
        *[("back", 0), ("back", 0), ("oldest", 0)],
    ],
)
@example(size=1, keyed=False, steps=[("add", 0), ("free", 0), ("deal", 0), ("back", 0)] * 2)
def test_against_the_rule(size: int, keyed: bool, steps: list[tuple[str, int]]) -> None:
    # W1, M4: first free member; equal keys in order; what comes back waits before all that came
    # after it, whatever the order in which several come back.
    # With a key a member is only counted as free for its own mail, so that the order in which
    # members got free is compared only without one.
    dispatch: Dispatch[str] = Dispatch(size, keyed=keyed)
    naive = Naive(size, keyed)
    given: list[tuple[str, int, int]] = []
    ranks: dict[str, int] = {}
    for number, (step, choice) in enumerate(steps):
        member = choice % size
        if step == "add":
            item = f"message {number}"
            dispatch.add(item, member)
            naive.put((item, member, number))
        elif step == "free" and all(member != one for _, one, _ in given):
            dispatch.free(member)
            if member not in naive.free:
                naive.free.append(member)
        elif step == "busy":
            dispatch.busy(member)
            if member in naive.free:
                naive.free.remove(member)
        elif step == "deal":
            who = dispatch.who()
            if keyed and who is not None:
                # Any of those that can is right.
                naive.free.remove(who)
                naive.free.insert(0, who)
            wanted = naive.deal()
            assert (who is None) == (wanted is None)
            if who is not None and wanted is not None:
                item, rank = dispatch.hand_out(who)
                ranks[item] = rank
                assert (who, item) == wanted[:2]
                given.append((item, who, wanted[2]))
        elif step == "back" and given:
            item, member, place = given.pop(choice % len(given))
            dispatch.put_back(item, ranks[item], member)
            naive.put((item, member, place))
        elif step == "remove" and naive.queue:
            item, lane, _ = naive.queue.pop(choice % len(naive.queue))
            assert dispatch.remove(item, lane)
            assert not dispatch.remove(item, lane)
        elif step == "oldest":
            wanted_oldest = naive.queue.pop(0)[0] if naive.queue else None
            assert dispatch.pop_oldest() == wanted_oldest
        elif step == "lane":
            mine = [item for item in naive.queue if keyed and item[1] == member]
            assert dispatch.pop_lane(member) == [item for item, _, _ in mine]
            naive.queue = [item for item in naive.queue if item not in mine]
        assert len(dispatch) == len(naive.queue)
        for one in range(size):
            assert dispatch.has_mail(one) == any(naive.fits(item, one) for item in naive.queue)
        can = any(naive.fits(item, one) for item in naive.queue for one in naive.free)
        assert (dispatch.who() is not None) == can


def test_nothing_waits_behind_another_key() -> None:
    # W1: that a key's member is busy holds up nobody else.
    dispatch: Dispatch[str] = Dispatch(2, keyed=True)
    dispatch.free(1)
    for item, lane in (("a", 0), ("b", 0), ("c", 1)):
        dispatch.add(item, lane)
    assert dispatch.who() == 1
    assert dispatch.hand_out(1)[0] == "c"
    assert dispatch.who() is None


@given(key=KEYS, size=st.integers(1, 100))
def test_a_key_has_one_member(key: str | bytes | int, size: int) -> None:
    # W1
    assert 0 <= lane_of(key, size) < size
    assert lane_of(key, size) == lane_of(key, size)


@given(key=st.one_of(st.text(alphabet=st.characters(codec="utf-8")), st.binary()))
def test_the_hash_is_what_the_rule_says(key: str | bytes) -> None:
    # W1: CRC-32 modulo n, so that every process and every version agrees.
    data = key.encode() if isinstance(key, str) else key
    assert lane_of(key, 7) == zlib.crc32(data) % 7


def test_keys_that_are_equal_are_one() -> None:
    # W1
    class Number(int):
        pass

    assert lane_of(True, 1000) == lane_of(1, 1000) == lane_of(Number(1), 1000)
    assert lane_of("\udcff", 1000) == lane_of("\udcff", 1000)
    assert 0 <= lane_of(-(10**6000), 3) < 3  # more digits than Python makes text of


@given(size=st.integers(2, 8))
def test_keys_are_spread(size: int) -> None:
    # W1
    for keys in (range(1000), [f"user {i}" for i in range(1000)]):
        counts = [0] * size
        for key in keys:
            counts[lane_of(key, size)] += 1
        assert min(counts) > 1000 / size / 2


@pytest.mark.parametrize("key", [None, 1.5, ("a",), [], object(), bytearray(b"a")])
def test_other_keys_are_refused(key: Any) -> None:
    # W1
    with pytest.raises(TypeError, match="must be a str, bytes or an int, not"):
        lane_of(key, 3)


@given(
    size=st.integers(1, 4),
    steps=st.lists(st.sampled_from(["ask", "up", "fail", "off"]), max_size=40),
)
def test_a_rolling_restart(size: int, steps: list[str]) -> None:
    # W1: one member at a time, each waiting for the one before; who asks in between gets another.
    names = tuple(map(str, range(size)))
    rolling = Rolling(names)
    rolls: list[list[int]] = []  # the callers of each that is under way or to come
    left: list[str] = []
    for number, step in enumerate(steps):
        if step == "ask":
            rolling.ask(number)
            if len(rolls) < 2:  # one under way, one to come
                rolls.append([])
                left = left or list(names)
            rolls[-1].append(number)
        elif step == "off":
            assert rolling.call_off() == [token for roll in rolls for token in roll]
            rolls, left = [], []
        elif left:
            fails = step == "fail"
            answered = rolling.failed() if fails else rolling.went_on()
            left = [] if fails else left[1:]
            assert answered == ([] if left else rolls.pop(0))
            if not left and rolls:
                left = list(names)
        waited_for = rolling.current
        assert rolling.next() == (None if waited_for is not None else rolling.current)
        assert rolling.active == bool(left)
        assert rolling.current == (left[0] if left else None)
