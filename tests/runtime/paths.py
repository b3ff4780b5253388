"""O4 as a check: what was told of each actor is a path through the lifecycle table."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import actorvisor as av

# Written from DESIGN's table, not from the code: what may follow what, with silent steps left out.
FOLLOWS: dict[type[av.Notification] | None, tuple[type[av.Notification], ...]] = {
    None: (av.Starting, av.Ended),
    av.Starting: (av.Started, av.Stopping, av.Exited),
    av.Started: (av.Stopping, av.Exited),
    av.Stopping: (av.Exited,),
    av.Exited: (av.Restarting, av.Starting, av.Ended),
    av.Restarting: (av.Starting, av.Ended),
    # It is started again, or another one has its name.
    av.Ended: (av.Starting, av.Ended),
}
LIVE = (av.Starting, av.Started, av.Stopping)


def check_paths(
    notifications: Iterable[av.Notification], *, late: bool = False
) -> dict[str, list[av.Notification]]:
    """Check the order, each actor's path, and that nothing outlives what supervises it.

    Args:
        notifications: what a reader got.
        late: whether it came after the host's own start, and did not see all.

    Returns:
        The notifications by path.
    """
    notifications = list(notifications)
    told: dict[str, list[av.Notification]] = {}
    live: dict[str, av.Notification] = {}
    for one in notifications if late else ():
        if not isinstance(one, av.DeadLetter) and one.path not in told and one.incarnation:
            told[one.path] = [_before(one)]
            if isinstance(one, (*LIVE[1:], av.Exited)):
                live[one.path] = one
    sequence, time = None, float("-inf")
    for one in notifications:
        assert not isinstance(one, av.Missed), one
        assert sequence is None or one.sequence == sequence + 1, one  # O1
        assert one.time >= time, one
        sequence, time = one.sequence, one.time
        if isinstance(one, av.DeadLetter):
            continue
        before = told.setdefault(one.path, [])
        last = before[-1] if before else None
        allowed = FOLLOWS[None if last is None else type(last)]
        assert isinstance(one, allowed), (last, one)  # O4
        _check_incarnation(last, one)
        before.append(one)
        parent = one.path.rpartition("/")[0]
        if isinstance(one, av.Starting):
            # S5: nothing starts under what is not up, or no longer.
            assert parent == "host" or parent in live, one
            live[one.path] = one
        elif isinstance(one, av.Exited):
            del live[one.path]
            # S8: a supervisor has ended only when its last child has.
            assert not any(path.startswith(f"{one.path}/") for path in live), (one, live)
    return told


def _check_incarnation(last: av.Notification | None, one: av.Notification) -> None:
    before = 0 if last is None else last.incarnation
    if isinstance(one, av.Starting):
        anew = last is None or isinstance(last, av.Ended)
        assert one.incarnation == before + 1 or (anew and one.incarnation == 1), (last, one)
    elif isinstance(last, av.Ended) or last is None:
        assert one.incarnation == 0, (last, one)  # one that never lived
    else:
        assert one.incarnation == before, (last, one)


def _before(one: av.Notification) -> av.Notification:
    """What a late reader has missed just before."""
    same: Any = {"path": one.path, "sequence": 0, "time": -math.inf}
    number = one.incarnation
    if isinstance(one, av.Restarting | av.Ended):
        return av.Exited(incarnation=number, reason=av.Stopped(), **same)
    if isinstance(one, av.Starting):
        return av.Ended(incarnation=number - 1, reason=av.Stopped(), **same)
    return av.Starting(incarnation=number, **same)
