"""An ask that was taken back while it was under way leaves nothing behind (M8)."""

from __future__ import annotations

import mmap
from typing import Any

from actorvisor._runtime._envelope import Envelope, Reply
from actorvisor.bridge import _ledger as ledger
from actorvisor.bridge._ledger import Ledger
from actorvisor.bridge._link import Link
from actorvisor.bridge._mailbox import LinkedMailbox
from actorvisor.bridge._wire import _frames as f
from actorvisor.bridge._wire._ends import WINDOW, HostEnd
from tests.bridge.streams import frame


class Nobody:
    def dead_letter(self, *_: Any) -> None:
        raise AssertionError("a dead letter")


def silent_link(shared: Ledger) -> Link:
    """A link whose socket takes nothing."""
    link = Link.__new__(Link)
    link.ledger, link.words, link.end = shared, shared.words, HostEnd()
    link.incarnation = 1
    link.received = 0
    link._out, link._bulks, link._tells, link._gathered = [], 0, [], 0
    link._blocked, link._writer = True, None
    link.end.receive(frame(f.HELLO, 17))
    link.end.job()
    return link


def test_an_ask_that_was_skipped_is_forgotten() -> None:
    # M8, S10: no reply comes for it, so that nothing else would take it out
    shared = Ledger(mmap.mmap(-1, ledger.SIZE))
    link = silent_link(shared)
    mailbox = LinkedMailbox("host/s", 10, "wait", Nobody())
    mailbox.attach(link)
    for number in range(1, 3 * WINDOW):
        envelope = Envelope("handle", (), {}, Reply())
        mailbox.put(envelope)
        assert list(link.end.asks) == [number]
        mailbox.withdraw(envelope)
        assert shared.withdrawn[number & ledger.MASK]
        shared.verdicts[number & ledger.MASK] = ledger.SKIPPED
        shared.words[ledger.DONE] = number
        mailbox.observe()
        assert not link.end.asks
        assert not shared.withdrawn[number & ledger.MASK]
        assert not shared.verdicts[number & ledger.MASK]
    account = mailbox.statistics()
    assert account.accepted == account.withdrawn == 3 * WINDOW - 1
    assert account.waiting == account.in_hand == 0
