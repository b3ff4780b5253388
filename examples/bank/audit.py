"""What must be true of a bank, whatever breaks: no money appears or disappears."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping
from typing import TypeAlias

import trio

import actorvisor as av
from actorvisor.testing import InjectedFault

from .accounts import NAMES, OPENING, Account, Disk, NoMoney, Order, Statement, Teller

ORDERS = (
    Order(1, "alice", "bob", 30),
    Order(2, "bob", "carol", 20),
    Order(3, "carol", "alice", 10),
)

OpenHost: TypeAlias = Callable[..., av.open_host]
"""`actorvisor.open_host`, or what a simulation has in its stead."""

Bank: TypeAlias = Callable[[str, Disk], av.Supervisor]
"""A bank of today or of tomorrow, with what is on disk."""

PATIENCE = 60.0
"""Seconds that a customer waits for an answer."""


class BooksDiffer(Exception):
    """The accounts do not say what they should."""


def check_books(statements: Mapping[str, Statement], acknowledged: Collection[Order]) -> None:
    """The one invariant: an order was carried out once or not at all; if it was acknowledged, once.

    Raises:
        BooksDiffer: it is not so.
    """
    there_was = OPENING * len(statements)
    changes = sum(entry.amount for statement in statements.values() for entry in statement)
    if changes:
        raise BooksDiffer(f"there was {there_was}, and there is {there_was + changes}")
    for order in ORDERS:
        found = {
            name: amounts
            for name, statement in statements.items()
            if (amounts := [entry.amount for entry in statement if entry.order == order])
        }
        once = {order.source: [-order.amount], order.target: [order.amount]}
        if found != once and (found or order in acknowledged):
            raise BooksDiffer(f"{order} was carried out as {found}")


async def place_orders(host: av.Host, acknowledged: list[Order]) -> None:
    """All customers order at once; what is acknowledged is added to the list."""
    teller = host.find("today/teller", Teller)

    async def place(order: Order) -> None:
        with trio.move_on_after(PATIENCE):
            try:
                await teller.ask(Teller.transfer, order)
            except (NoMoney, av.ServiceCrashed, av.ServiceStopped):
                return  # refused; or, if something broke, carried out or not
            acknowledged.append(order)

    async with trio.open_nursery() as nursery:
        for order in ORDERS:
            nursery.start_soon(place, order)


async def open_bank(host: av.Host, bank: av.Supervisor) -> None:
    """Open a bank in which nothing breaks any more; a slow machine may need several attempts."""
    while True:
        with contextlib.suppress(av.StartTimeout):
            await host.start(bank)
            return


async def day_and_morning(open_host: OpenHost, bank: Bank) -> list[Order]:
    """A day at the bank, on which anything may break; the next morning the books are checked.

    Returns:
        The orders that were acknowledged.

    Raises:
        BooksDiffer: money has appeared or disappeared.
    """
    disk: Disk = {}
    acknowledged: list[Order] = []
    async with open_host() as host:
        with contextlib.suppress(InjectedFault, SystemExit, av.ActorvisorError):
            today = await host.start(bank("today", disk))
            await place_orders(host, acknowledged)
            await today.stop()
        await open_bank(host, bank("tomorrow", disk))
        statements = {
            name: await host.find(f"tomorrow/{name}", Account).ask(Account.statement)
            for name in NAMES
        }
    check_books(statements, acknowledged)
    return acknowledged
