"""One identity: what stays the same while incarnations come and go (I2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from .._core._ids import join
from .._core._tree import TreeNode
from .._errors import ServiceStopped
from ._waits import sender

if TYPE_CHECKING:
    import trio

    from .._core._child import Child
    from .._core._lifecycle import State
    from .._core._messages import ExitReason
    from ._commons import Commons
    from ._mailbox import Mailbox
    from ._pool import Declaration
    from ._supervisor import SupervisorActor
    from ._waits import Wait


class Ended:
    """The gate of a mailbox whose identity ends for good, has ended, or has not begun again."""

    __slots__ = ("cell",)

    def __init__(self, cell: Cell) -> None:
        self.cell = cell

    def admit(self, mailbox: Mailbox) -> None:
        """Nothing gets in, but what it tells itself until its end: that is no error of its own.

        Raises:
            ServiceStopped: anybody else sends.
        """
        if self.cell.record.final or not self._is_own(sender.get()):
            raise self.cell.stopped_error()

    def lets_in(self, task: trio.lowlevel.Task) -> bool:
        """Whether a sender that waits for room may go on waiting."""
        return self._is_own(task.context.get(sender))

    def _is_own(self, sender: Cell | None) -> bool:
        return sender is self.cell or (sender is not None and sender.face is self.cell)

    def changed(self, mailbox: Mailbox) -> None:
        """Nothing to do."""


class Cell:
    """One identity. Its supervisor owns it; refs look at it.

    Attributes:
        path: where it is.
        declaration: what it was declared to be.
        record: what its supervisor's decisions know of it; read only.
        supervisor: the actor that supervises it; None for the host.
        mailbox: its mail; None for a supervisor.
        actor: the supervisor that it is; None for a service. A pool has both.
        commons: what all actors of its host share.
        forgotten: whether its name is free for another identity.
        number: it, for refs that are sent to another process; 0 while none was.
        waits: what its handler or setup waits for, or None (M10).
        watchers: the identities that monitor it, or None.
        watching: the identities that it monitors, or None.
    """

    __slots__ = (
        "__weakref__",
        "actor",
        "commons",
        "declaration",
        "forgotten",
        "mailbox",
        "number",
        "path",
        "record",
        "supervisor",
        "waits",
        "watchers",
        "watching",
    )

    # A worker has other cells, of actors that are in its host's process.
    remote: ClassVar[bool] = False

    def __init__(
        self,
        declaration: Declaration,
        record: Child,
        supervisor: SupervisorActor | None,
        path: str,
        commons: Commons,
    ) -> None:
        self.declaration: Declaration = declaration
        self.record: Child = record
        self.supervisor: SupervisorActor | None = supervisor
        self.path: str = path
        self.commons: Commons = commons
        self.mailbox: Mailbox | None = None
        self.actor: SupervisorActor | None = None
        self.forgotten: bool = False
        self.number: int = 0
        self.waits: dict[Wait, None] | None = None
        self.watchers: dict[Cell, None] | None = None
        self.watching: dict[Cell, None] | None = None

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.record.spec.name

    @property
    def state(self) -> State:
        """Where it is in its life."""
        return self.record.state

    @property
    def reason(self) -> ExitReason | None:
        """How its present or last life ended."""
        return self.record.reason

    @property
    def root(self) -> Cell:
        """The host that it belongs to."""
        cell = self
        while cell.supervisor is not None:
            cell = cell.supervisor.cell
        return cell

    @property
    def unread(self) -> bool:
        """Whether it is a loop of its own that has never read its mail: no drain waits for it."""
        if not self.declaration.is_loop or self.mailbox is None:
            return False
        if self.actor is not None:
            return all(member.unread for member in self.actor.cells.values())
        return not self.mailbox.reads

    @property
    def face(self) -> Cell:
        """Who it is to its own service: itself, or the pool that it is a member of (W1)."""
        supervisor = self.supervisor
        return self if supervisor is None or supervisor.kind != "pool" else supervisor.cell

    @property
    def culprit(self) -> Cell:
        """Itself, or of a supervisor whose end led to its own, at the bottom of all."""
        return self if self.actor is None else self.actor.culprit

    def child_path(self, name: str) -> str:
        """The path of a child of it."""
        return join(self.path, name)

    def is_above(self, other: Cell) -> bool:
        """Whether it supervises another one, directly or not."""
        supervisor = other.supervisor
        while supervisor is not None:
            if supervisor.cell is self:
                return True
            supervisor = supervisor.cell.supervisor
        return False

    def stopped_error(self) -> ServiceStopped:
        """The error for who sends to it after its end."""
        return ServiceStopped(self.path, self.record.reason if self.record.final else None)

    def node(self) -> TreeNode:
        """A snapshot of it and all below."""
        done: dict[Cell, TreeNode] = {}
        stack: list[tuple[Cell, bool]] = [(self, False)]
        while stack:
            cell, ready = stack.pop()
            below = [] if cell.actor is None else list(cell.actor.cells.values())
            if not ready:
                stack.append((cell, True))
                stack.extend((child, False) for child in below)
                continue
            done[cell] = TreeNode(
                path=cell.path,
                kind="service" if cell.actor is None else cell.actor.kind,
                state=cell.record.state.value,
                incarnation=cell.record.incarnation,
                restarts=cell.record.restarts,
                detail=cell.declaration.detail,
                reason=cell.record.reason,
                children=tuple(done.pop(child) for child in below),
            )
        return done[self]
