"""Plans and schedules for hypothesis, drawn from the user's own tree (T1).

This alone imports hypothesis, and only when one of its names is asked for.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

try:
    from hypothesis import strategies as st
except ImportError as error:
    raise ImportError(
        "plans() and schedules() are strategies for hypothesis, which is not installed: "
        "pip install 'actorvisor[testing]'"
    ) from error

from .._core._checks import check_count
from .._core._spec import WITHIN
from .._runtime._declaration import DRAIN
from ._faults import (
    EVERY,
    After,
    Before,
    Drop,
    Every,
    Exit,
    Fault,
    FaultPlan,
    Hang,
    Kill,
    Raise,
    Setup,
    Slow,
    Teardown,
    Time,
    What,
    When,
)
from ._simulation._schedule import Schedule
from ._tree import Declared, services

if TYPE_CHECKING:
    from .._core._backoff import Backoff
    from .._runtime._pool import Declaration

EDGE: Final = 0.001
"""Seconds that are just before and just after a time of the tree's own."""

DELAYS: Final = 4
"""Restarts in a row whose backoffs are times of the tree's own."""

DIGITS: Final = 6
"""Decimals of a time: what is added up prints like what was declared."""


def plans(
    tree: Iterable[Declaration],
    *,
    per_child: int = 2,
    messages: int = 5,
    incarnations: int = 3,
) -> st.SearchStrategy[FaultPlan]:
    """Plans of what can go wrong in a tree; they shrink to fewer, earlier and simpler faults.

    Times are the tree's own: its graces, timeouts, windows and backoffs, their sums, and what is
    just before and after them.

    Args:
        tree: what `open_host` is given.
        per_child: faults that each service has at most.
        messages: how far into a life's messages they reach.
        incarnations: how far into a service's lives they reach, but for those of every life.

    Returns:
        A strategy; its simplest plan is empty, its simplest fault
        ``Fault(path, 1, Before(1), Raise())``.

    Example:
        >>> @given(plans(TREE), schedules())
        ... def test_it(plan, schedule):
        ...     simulate(system, faults=plan, schedule=schedule)
    """
    check_count("per_child=", per_child, least=0)
    check_count("messages=", messages, least=1)
    check_count("incarnations=", incarnations, least=1)
    # A short list for each child: of one long list, what is left of copies does not shrink away.
    lists = [
        st.lists(
            _faults(one, messages, incarnations),
            max_size=per_child,
            unique_by=lambda fault: (fault.path, fault.incarnation, fault.at),
        )
        for one in services(tree)
    ]
    return st.tuples(*lists).map(lambda found: FaultPlan(itertools.chain.from_iterable(found)))


def schedules(points: int = 4, upto: int = 100) -> st.SearchStrategy[Schedule]:
    """Schedules; they shrink to ``Schedule()``, which is first in, first out.

    Args:
        points: demotions that they have at most, and as many deadlines that fire early.
        upto: the last choice, and the last step, at which there may be one.
    """
    check_count("points=", points, least=0)
    check_count("upto=", upto, least=0)
    some = st.lists(st.integers(0, upto), max_size=points, unique=True)
    return st.builds(Schedule, demote=some, skip_time=some)


def _faults(one: Declared, messages: int, incarnations: int) -> st.SearchStrategy[Fault]:
    """Those of one service. What is drawn first of a list is what it shrinks to.

    A fault is drawn by few choices: hypothesis drops one of a list only if its choices are at most
    five, and then drops each that is not needed.
    """
    remote = one.app.executor.is_remote
    times = times_of(one)
    lives: list[int | Every] = [*range(1, incarnations + 1), EVERY]
    numbers = range(1, messages + 1)
    moments: list[When] = [at(n) for n in numbers for at in (Before, After)]
    moments += [Setup(), Teardown()]

    # As often at once as not.
    waits = st.sampled_from([*(0.0 for _ in times), *times])
    actions: dict[type[What], st.SearchStrategy[What]] = {
        Raise: st.builds(Raise, after=waits),
        Kill: st.builds(Kill, after=waits),
        Exit: st.builds(Exit, after=waits),
        Slow: st.builds(Slow, st.sampled_from(times), after=waits),
        Hang: st.builds(Hang, after=waits),
        Drop: st.builds(Drop, after=waits),
    }

    def fits(at: When, do: What) -> bool:
        fault = Fault(one.path, 1, at, do)
        return fault.misfit(is_function=one.app.kind.is_function, is_remote=remote) is None

    moments = [moment for moment in moments if fits(moment, Raise())]
    # As often at a moment as at a time; moments are simpler.
    often = max(1, len(times) // len(moments))
    whens: list[When] = [*moments * often, *(Time(time) for time in times)]
    does = {
        kind: st.one_of([some for do, some in actions.items() if fits(example, do())])
        for kind, example in {type(when): when for when in whens}.items()
    }

    @st.composite
    def fault(draw: st.DrawFn) -> Fault:
        life, when = draw(st.sampled_from(lives)), draw(st.sampled_from(whens))
        return Fault(one.path, life, when, draw(does[type(when)]))

    return fault()


def times_of(one: Declared) -> list[float]:
    """The times at which something of a service's own may happen, ascending.

    Those that it and its supervisors declare, what is just before and after each, and the sums of
    two of them.
    """
    own = {time for time in _declared(one) if 0 < time < math.inf}
    edges = [near for time in (0.0, *own) for near in (time - EDGE, time + EDGE)]
    sums = map(sum, itertools.combinations_with_replacement(own, 2))
    found = {round(time, DIGITS) for time in (*own, *edges, *sums)}
    return sorted(time for time in found if time > 0)


def _declared(one: Declared) -> Iterator[float]:
    app = one.app
    yield from (app.grace, app.start_timeout, app.spec.steady_after, DRAIN)
    yield from _delays(app.spec.backoff)
    hang_timeout: float | None = getattr(app.executor, "hang_timeout", None)
    if hang_timeout is not None:
        yield hang_timeout
    yield WITHIN  # the host's, unless `open_host` is told otherwise
    for above in one.above:
        yield above.rules.within
        yield from _delays(above.spec.backoff)


def _delays(backoff: Backoff) -> Iterator[float]:
    for attempt in range(DELAYS):
        yield backoff.delay(attempt, 0.5)
