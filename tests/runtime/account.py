"""M7 as a check: what was accepted is accounted for, in every mailbox and in all."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import actorvisor as av


def check_account(host: av.Host) -> av.MailStatistics:
    """Check the sum, and give back the account of the whole host."""
    statistics = host.statistics()
    for mail in (*statistics.mailboxes.values(), statistics.mail):
        parts = {name: getattr(mail, name) for name in mail.__slots__}
        assert min(parts.values()) >= 0, parts
        accepted = parts.pop("accepted")
        del parts["late_replies"]  # no part of the sum
        assert accepted == sum(parts.values()), mail
    return statistics.mail
