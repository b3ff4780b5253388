"""Who is running: the actor that a task belongs to, and what waits for itself (L4, M10)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from .._core._lifecycle import State
from .._core._supervision import Phase
from .._errors import WaitCycle

if TYPE_CHECKING:
    from ._cell import Cell
    from ._supervisor import SupervisorActor

sender: ContextVar[Cell | None] = ContextVar("actorvisor.sender", default=None)
"""The actor whose code runs here; kept by background tasks, timers and threads. None: outside."""

handling: ContextVar[Cell | None] = ContextVar("actorvisor.handling", default=None)
"""The actor whose own task runs here: while it waits, the actor waits. Cleared in background
tasks."""

fence: ContextVar[Callable[[], None] | None] = ContextVar("actorvisor.fence", default=None)
"""What refuses the sends of a thread that was left behind; called on the loop of
their target's host (L8)."""

Goal: TypeAlias = Literal["answer", "up", "turn", "end", "kill"]
"""What is waited for: that an actor handles its mail, that it has started, that a supervisor
starts one more, that an actor has ended by itself or by force."""

ASKS: Final = "asks"
ROOM: Final = "waits for room in"
ENDS: Final = "waits for the end of"
EACH: Final = "where each member waits, as"
TURN: Final = "waits for a turn behind"


class Edge(NamedTuple):
    """What an actor waits for.

    Attributes:
        target: another actor.
        goal: what of it.
        verb: the same in words.
    """

    target: Cell
    goal: Goal
    verb: str

    @property
    def node(self) -> Node:
        """What of whom is waited for."""
        return self.target, self.goal


Node: TypeAlias = "tuple[Cell, Goal]"


class Wait:
    """An actor waits, from a handler or its `setup`, until this is ended.

    Attributes:
        waiter: who waits.
        edge: for what; it may change while it waits.
    """

    __slots__ = ("edge", "waiter")

    def __init__(self, waiter: Cell, edge: Edge) -> None:
        self.waiter: Cell = waiter
        self.edge: Edge = edge

    def end(self) -> None:
        """It has what it waited for, or waits no more."""
        if self.waiter.waits is not None:
            self.waiter.waits.pop(self, None)


def begin_wait(target: Cell, goal: Goal, verb: str) -> Wait | None:
    """Note that whoever runs here waits for another actor, unless it would be for itself.

    Args:
        target: for whom.
        goal: for what of it.
        verb: the same in words.

    Returns:
        What is to be ended with the wait; None if it is no actor that waits.

    Raises:
        WaitCycle: it names the chain.
    """
    waiter = handling.get()
    if waiter is not None and waiter.remote:
        # Who waits for whom is known to the host's process; only this is seen from here.
        if target is waiter:
            raise WaitCycle((waiter.path, waiter.path), (verb,))
        return None
    # What happens on the loop of another host's thread cannot be looked at from here.
    if waiter is None or waiter.commons.thread != target.commons.thread:
        return None
    edge = Edge(target, goal, verb)
    chain = find_cycle(waiter, edge)
    if chain is not None:
        raise WaitCycle(
            (waiter.path, *(one.target.path for one in chain)), tuple(one.verb for one in chain)
        )
    wait = Wait(waiter, edge)
    if waiter.waits is None:
        waiter.waits = {}
    waiter.waits[wait] = None
    return wait


def find_cycle(waiter: Cell, edge: Edge) -> list[Edge] | None:
    """The chain that such a wait would close, or None.

    Every actor does one thing at a time, so that it waits as long as any of its waits lasts. A
    chain of waits that comes back to the waiter never ends.
    """
    chain, pools = _search(waiter, edge, None)
    if chain is None and pools:
        chain, _ = _search(waiter, edge, _stuck(waiter, edge))
    return chain


def _search(waiter: Cell, edge: Edge, within: set[Node] | None) -> tuple[list[Edge] | None, bool]:
    """The chain from an edge to the waiter, and whether there was a pool on the way.

    Args:
        waiter: who waits.
        edge: for what.
        within: what a chain may lead over; None: over everything but pools that any one of several
            members can answer for.
    """
    pools = False
    came_by = {edge.node: edge}
    parents: dict[Node, Node] = {}
    stack = [edge]
    while stack:
        here = stack.pop()
        at = here.node
        if here.target is waiter:
            chain = [here]
            while at in parents:
                at = parents[at]
                chain.append(came_by[at])
            return chain[::-1], pools
        if within is None and is_choice(*at):
            pools = True
            continue
        for onward in blockers(*at):
            there = onward.node
            if there not in came_by and (within is None or there in within):
                came_by[there] = onward
                parents[there] = at
                stack.append(onward)
    return None, pools


def _stuck(waiter: Cell, edge: Edge) -> set[Node]:
    """Of all that such a wait leads to: what would never go on.

    A pool goes on if one of its members does; everybody else if nothing that it waits for is stuck.
    It is the greatest such set, for two members that wait for the rest of their own pool are stuck
    by nothing but each other.
    """
    first: Node = edge.target, edge.goal
    onward: dict[Node, list[Node]] = {}
    stack = [first]
    while stack:
        at = stack.pop()
        if at not in onward:
            onward[at] = [first] if at[0] is waiter else [one.node for one in blockers(*at)]
            stack += onward[at]
    stuck = set(onward)
    while going := {at for at in stuck if not _is_stuck(waiter, at, onward[at], stuck)}:
        stuck -= going
    return stuck


def _is_stuck(waiter: Cell, at: Node, onward: list[Node], stuck: set[Node]) -> bool:
    if at[0] is not waiter and is_choice(*at):
        return bool(onward) and stuck.issuperset(onward)
    return not stuck.isdisjoint(onward)


def is_choice(cell: Cell, goal: Goal) -> bool:
    """Whether it is a pool at work, any one of whose members can do what is waited for."""
    if goal != "answer" or cell.mailbox is None or cell.actor is None:
        return False
    record = cell.record
    return record.live and not record.held and record.state is not State.STOPPING


def blockers(cell: Cell, goal: Goal) -> Iterator[Edge]:
    """What stands between an actor and what is waited for of it."""
    if cell.actor is not None:
        if is_choice(cell, goal):
            yield from _members(cell.actor)
            return
        yield from _blockers_of_supervisor(cell, cell.actor, goal)
    elif goal in {"answer", "up"} or (goal == "end" and not _is_cut_by_stop(cell)):
        for wait in cell.waits or ():
            yield wait.edge
    if goal in {"answer", "up"} and (cell.record.held or not cell.record.live):
        yield from _turn(cell)


def _is_cut_by_stop(cell: Cell) -> bool:
    """Whether a stop cancels what it waits for (L4)."""
    from ._declaration import Application

    app = cell.declaration
    assert isinstance(app, Application)
    deaf = app.is_loop and cell.unread
    return app.executor.has_loop and (deaf or cell.record.state is State.STARTING)


def _members(pool: SupervisorActor) -> Iterator[Edge]:
    """The members of a pool that could do what is waited for."""
    for member in pool.takers():
        yield Edge(member, "answer", EACH)


def _blockers_of_supervisor(cell: Cell, actor: SupervisorActor, goal: Goal) -> Iterator[Edge]:
    if goal in {"end", "kill"} or cell.record.state is State.STOPPING:
        for child in actor.cells.values():
            if child.record.live:
                yield Edge(child, "kill" if goal == "kill" else "end", ENDS)
    elif goal == "turn" and not cell.record.live:
        yield from _turn(cell)
    elif actor.supervision.spec.ordered if goal == "turn" else cell.record.state is State.STARTING:
        yield from _ahead(actor)


def _turn(cell: Cell) -> Iterator[Edge]:
    """Whom an actor that is down waits for before it can start."""
    supervisor = cell.supervisor
    if supervisor is None:
        return
    if not supervisor.cell.record.live:
        yield from _turn(supervisor.cell)
    elif (
        cell.record.pending
        or cell.record.held
        or cell.record.state is State.WAITING
        or supervisor.supervision.phase is Phase.ENDING
    ):
        yield from _ahead(supervisor)


def _ahead(supervisor: SupervisorActor) -> Iterator[Edge]:
    """Who has to start, or to stop, before a supervisor starts one more."""
    starting, stopping = supervisor.supervision.ahead
    for name in starting:
        yield Edge(supervisor.cells[name], "up", TURN)
    for name in stopping:
        yield Edge(supervisor.cells[name], "end", ENDS)
