"""Tells that are under way to a worker: numbered, accounted for, and given back (P3, M4, M7)."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Any

from hypothesis import given, strategies as st

from actorvisor._runtime._envelope import Envelope
from actorvisor.bridge import _ledger as ledger
from actorvisor.bridge._ledger import Ledger
from actorvisor.bridge._mailbox import LinkedMailbox
from actorvisor.bridge._wire import _frames as f
from tests.bridge.test_withdrawn import silent_link

if TYPE_CHECKING:
    from actorvisor.bridge._link import Link


class Office:
    def __init__(self) -> None:
        self.letters: list[str] = []

    def dead_letter(self, mailbox: Any, envelope: Envelope, why: str, reason: Any) -> None:
        self.letters.append(f"{envelope.describe()}: {why}")


def sent(link: Link) -> list[f.Frame]:
    """The messages in what waits to be written."""
    link._seal()
    frames: list[f.Frame] = []
    for kind, number, payload, large in f.FrameReader(f.FROM_HOST).feed(
        b"".join(part for part in link._out if isinstance(part, bytes))
    ):
        if kind == f.TELLS:
            frames += f.cut_tells(number, payload)
        else:
            frames.append((kind, number, payload, large))
    return frames


STEPS = st.lists(
    st.sampled_from(
        ["tell", "tell", "tell", "exempt", "take", "handle", "reject", "garbage", "look"]
    ),
    max_size=40,
)


@given(STEPS)
def test_what_is_under_way_is_accounted_for(steps: list[str]) -> None:
    shared, office = Ledger(mmap.mmap(-1, ledger.SIZE)), Office()
    link = silent_link(shared)
    mailbox = LinkedMailbox("host/s", 1000, "wait", office)
    mailbox.attach(link)
    words = shared.words
    count = taken = done = 0
    fates = {"handled": 0, "rejected": 0}
    letters: list[str] = []
    exempt: list[int] = []
    for step in [*steps, "look"]:
        match step:
            case "tell":
                count += 1
                mailbox.put_tell("note", (count,), {})
            case "exempt":
                count += 1
                exempt.append(count)
                mailbox.put_exempt(Envelope("note", (count,), {}, exempt=True))
            case "take" if taken == done < count:
                taken += 1
                words[ledger.TAKEN] = taken
            case "handle" if done < count:
                taken = done = done + 1
                words[ledger.TAKEN] = taken
                words[ledger.DONE] = done
                fates["handled"] += 1
            case "reject" if done < count:
                taken = done = done + 1
                words[ledger.TAKEN] = taken
                shared.verdicts[done & ledger.MASK] = ledger.REJECTED
                words[ledger.DONE] = done
                fates["rejected"] += 1
            case "garbage" if taken == done < count:
                taken = done = done + 1
                words[ledger.TAKEN] = taken
                shared.verdicts[done & ledger.MASK] = ledger.BROKEN
                words[ledger.DONE] = done
                letters.append(f"note({done}): it could not be decoded")
            case "look":
                pass
            case _:
                continue
        account = mailbox.statistics()
        assert account.accepted == count  # M7
        assert account.in_hand == taken - done
        assert account.waiting == count - taken
        assert mailbox.limit - 1000 == sum(number > taken for number in exempt)  # M1
        assert {"handled": account.handled, "rejected": account.rejected} == fates
        assert office.letters == letters
        in_hand = mailbox.in_hand
        assert (None if in_hand is None else in_hand.args) == ((taken,) if taken > done else None)
        assert in_hand is mailbox.in_hand
    # M2: in order, numbered without a gap
    assert [number for _, number, _, _ in sent(link)] == list(range(1, count + 1))
    # M4, M5: what was not taken up comes back in order, what is in hand stays so
    back = mailbox.detach()
    assert [one.args for one in back] == [(number,) for number in range(taken + 1, count + 1)]
    assert all(isinstance(one, Envelope) for one in back)
    mailbox.give_back(back)
    assert mailbox.statistics().waiting == count - taken
    assert mailbox.statistics().in_hand == taken - done
    second = silent_link(Ledger(mmap.mmap(-1, ledger.SIZE)))
    mailbox.attach(second)
    assert [frame[2] for frame in sent(second)] == [one.wire for one in back]
