"""The bank as it was written first. In calm it works; when something crashes, money disappears.

alice, bob, carol    coroutines   the accounts; their statements are on disk
teller               a process    moves money from one account to another
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import actorvisor as av


class NoMoney(av.Rejection):
    """There is less in the account than was ordered."""


@dataclass(frozen=True)
class Order:
    """What a customer wants to be done, once; each has a number of its own."""

    number: int
    source: str
    target: str
    amount: int


@dataclass(frozen=True)
class Entry:
    """A line of an account's statement: which order, and how much came or went."""

    order: Order
    amount: int


Statement: TypeAlias = tuple[Entry, ...]

Disk: TypeAlias = dict[str, Statement]
"""What survives every crash: a write is there as a whole, or not at all. A dict stands for it."""

NAMES = ("alice", "bob", "carol")

OPENING = 100
"""What each account begins with."""


class Account(av.Service):
    """One customer's money: what it began with, and what came and went."""

    def __init__(self, name: str, disk: Disk) -> None:
        self.name = name
        self.disk = disk

    def statement(self) -> Statement:
        return self.disk.get(self.name, ())

    def balance(self) -> int:
        return OPENING + sum(entry.amount for entry in self.statement())

    def withdraw(self, order: Order) -> None:
        if order.amount > self.balance():
            raise NoMoney(f"{self.name} has less than {order.amount}")
        self.write(Entry(order, -order.amount))

    def deposit(self, order: Order) -> None:
        self.write(Entry(order, order.amount))

    def write(self, entry: Entry) -> None:
        self.disk[self.name] = (*self.statement(), entry)


class Teller(av.Service):
    """Carries out orders. It knows nothing that is not in an order or in an account."""

    def account(self, name: str) -> av.Ref[Account]:
        return self.find(f"../{name}", Account)

    async def transfer(self, order: Order) -> None:
        await self.account(order.source).ask(Account.withdraw, order)
        await self.account(order.target).ask(Account.deposit, order)


def bank(
    day: str,
    disk: Disk,
    account: type[Account] = Account,
    teller: type[Teller] = Teller,
    redeliver: int = 0,
) -> av.Supervisor:
    """A bank that is open for a day. Too many crashes close it early."""
    accounts = [
        av.Application(account, name, disk, name=name, redeliver=redeliver) for name in NAMES
    ]
    clerk = av.Application(
        teller, name="teller", executor=av.AsyncProcessExecutor(), redeliver=redeliver
    )
    return av.Supervisor([*accounts, clerk], name=day, restart="temporary", max_restarts=10)
