"""The bank, repaired: whatever crashes, an order is carried out once, or not at all.

Three things make that so, and all three are needed:

1. Every write can be repeated. An account looks into its statement, and does an order once.
2. What is half done can be seen: it was withdrawn in one statement, and not deposited in the other.
3. A new life of the teller finishes what an earlier one has begun, before it takes a new order.

Nothing is caught, and nothing is tried again: what crashes, crashes.
"""

from __future__ import annotations

from functools import partial

from .accounts import NAMES, Account, Order, Teller, bank


class CarefulAccount(Account):
    """Does an order once, however often it is told to."""

    def withdraw(self, order: Order) -> None:
        if not self.has(order):
            super().withdraw(order)

    def deposit(self, order: Order) -> None:
        if not self.has(order):
            super().deposit(order)

    def has(self, order: Order) -> bool:
        return any(entry.order == order for entry in self.statement())


class CarefulTeller(Teller):
    """Finishes what was begun."""

    async def setup(self) -> None:
        for name in NAMES:
            for entry in await self.account(name).ask(Account.statement):
                if entry.amount < 0:
                    await self.account(entry.order.target).ask(Account.deposit, entry.order)


repaired_bank = partial(bank, account=CarefulAccount, teller=CarefulTeller)
