"""The bank: its planted bug is found and shrunk, what seems a repair is none, the repair holds."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import trio
from hypothesis import Phase, given, seed, settings

from actorvisor import testing
from actorvisor.testing import (
    FaultPlan,
    Schedule,
    check,
    inject,
    plans,
    record,
    schedules,
    simulate,
)
from examples.bank.__main__ import PLAN, main
from examples.bank.accounts import NAMES, Entry, Order, Statement, bank
from examples.bank.audit import ORDERS, Bank, BooksDiffer, OpenHost, check_books, day_and_morning
from examples.bank.repaired import CarefulAccount, repaired_bank

simulated = settings(
    deadline=None,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    report_multiple_bugs=False,
)

ONE, TWO, THREE = ORDERS


def property_of(the_bank: Bank, *, examples: int, number: int) -> None:
    """No money disappears, whatever breaks and in whichever order; `number` is hypothesis's seed."""

    async def system(open_host: OpenHost) -> None:
        await day_and_morning(open_host, the_bank)

    @seed(number)
    @settings(simulated, max_examples=examples)
    @given(plans([the_bank("today", {})]), schedules())
    def no_money_disappears(plan: FaultPlan, schedule: Schedule) -> None:
        simulate(system, faults=plan, schedule=schedule)

    no_money_disappears()


def printed(error: BaseException) -> dict[str, Any]:
    """What a failure was printed with: what to call `simulate` with to have it again."""
    (run,) = [note for note in error.__notes__ if note.startswith("simulated with ")]
    arguments = eval(f"dict({run.removeprefix('simulated with ')})", vars(testing).copy())
    assert isinstance(arguments, dict)
    return arguments


BROKEN: dict[str, Bank] = {
    "first": bank,
    "tries again": partial(bank, redeliver=3),
    "careful accounts": partial(bank, account=CarefulAccount),  # half of the repair is none
}


@pytest.mark.parametrize("number", range(2))
@pytest.mark.parametrize("name", BROKEN)
def test_the_bug_is_found_and_shrunk(name: str, number: int) -> None:
    # T1, T3
    async def system(open_host: OpenHost) -> None:
        await day_and_morning(open_host, BROKEN[name])

    with pytest.raises(BooksDiffer) as caught:
        property_of(BROKEN[name], examples=200, number=number)
    found = printed(caught.value)
    assert len(found["faults"]) <= 2  # none, where a start that times out is enough
    with pytest.raises(BooksDiffer) as again:
        simulate(system, **found)
    assert again.value.args == caught.value.args


@pytest.mark.slow
@pytest.mark.parametrize("number", range(2))
def test_the_repaired_bank_loses_nothing(number: int) -> None:
    property_of(repaired_bank, examples=150, number=number)


@pytest.mark.parametrize("the_bank", [*BROKEN.values(), repaired_bank], ids=[*BROKEN, "repaired"])
def test_in_calm_every_order_is_carried_out(the_bank: Bank) -> None:
    async def system(open_host: OpenHost) -> list[Order]:
        return await day_and_morning(open_host, the_bank)

    for number in range(20):  # not seeds: of those some let time pass early, and nobody waits then
        acknowledged = simulate(system, schedule=Schedule(demote=(number,))).value
        assert sorted(order.number for order in acknowledged) == [1, 2, 3]


def paid(order: Order) -> Entry:
    return Entry(order, -order.amount)


def got(order: Order) -> Entry:
    return Entry(order, order.amount)


@pytest.mark.parametrize(
    ("statements", "acknowledged"),
    [
        ({}, []),
        ({"alice": (paid(ONE),), "bob": (got(ONE),)}, []),
        ({"alice": (paid(ONE),), "bob": (got(ONE),)}, [ONE]),
    ],
    ids=["nothing happened", "one has happened", "one was acknowledged"],
)
def test_books_that_are_right(statements: dict[str, Statement], acknowledged: list[Order]) -> None:
    check_books({name: statements.get(name, ()) for name in NAMES}, acknowledged)


@pytest.mark.parametrize(
    ("statements", "acknowledged", "told"),
    [
        ({"alice": (paid(ONE),)}, [], "there was 300, and there is 270"),
        ({"bob": (got(ONE),)}, [], "there was 300, and there is 330"),
        ({}, [ONE], "number=1.* was carried out as {}"),
        ({"alice": (paid(ONE),), "carol": (got(ONE),)}, [], "number=1.*carol"),
        ({"alice": (paid(ONE),) * 2, "bob": (got(ONE),) * 2}, [], r"\[-30, -30\]"),
    ],
    ids=["lost", "made", "acknowledged", "to somebody else", "twice"],
)
def test_books_that_are_wrong(
    statements: dict[str, Statement], acknowledged: list[Order], told: str
) -> None:
    with pytest.raises(BooksDiffer, match=told):
        check_books({name: statements.get(name, ()) for name in NAMES}, acknowledged)


@pytest.mark.process
def test_the_same_in_real_processes(capsys: pytest.CaptureFixture[str]) -> None:
    # T6
    recorded = record(inject(PLAN))
    trio.run(day_and_morning, recorded, repaired_bank)
    check(recorded.trace())
    ends = [entry.detail["reason"] for entry in recorded.trace().kinds("exited")]
    assert "Killed" in str(ends)

    assert main([]) is None
    assert "the books are right; acknowledged: " in capsys.readouterr().out
    assert "the books differ: there was 300" in str(main(["first"]))
    assert main(["second"]) == "there is no bank 'second'; choose from first, repaired"
