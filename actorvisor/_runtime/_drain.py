"""Draining: what is on its way is handled before a stop (L4)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import trio

from .._errors import ServiceStopped
from ._cell import Ended
from ._waits import sender

if TYPE_CHECKING:
    from ._cell import Cell
    from ._mailbox import Mailbox


class Drain:
    """The gate of all mailboxes under what is being stopped.

    Mail from inside goes on; from outside it is refused.

    Attributes:
        root: what is being stopped.
        idle: set once nothing under it waits, is in hand, or is promised an answer.
    """

    def __init__(self, root: Cell) -> None:
        self.root = root
        self.idle = trio.Event()
        # Whose mail it watches, and the drain that was there before: one may begin within another.
        self._cells: dict[Mailbox, Cell] = {}
        self._before: dict[Mailbox, Drain] = {}
        self._busy: set[Mailbox] = set()
        self._closed = False

    def close(self, cells: Iterable[Cell]) -> None:
        """Put the gate before mailboxes, and begin to watch them."""
        for cell in cells:
            mailbox = cell.mailbox
            if mailbox is None:
                continue
            if isinstance(mailbox.gate, Drain):
                self._before[mailbox] = mailbox.gate
            elif isinstance(mailbox.gate, Ended):
                continue
            mailbox.gate = self
            self._cells[mailbox] = cell
            # Who waits for room from outside will not be let in.
            mailbox.refuse_senders(cell.stopped_error, keep=self.lets_in)
            self._note(mailbox)
        self._closed = True
        self._look()

    def lets_in(self, task: trio.lowlevel.Task) -> bool:
        """Whether a sender that waits for room belongs to what is drained."""
        return self._is_inside(task.context.get(sender))

    def _is_inside(self, cell: Cell | None) -> bool:
        return cell is not None and (cell is self.root or self.root.is_above(cell))

    def admit(self, mailbox: Mailbox) -> None:
        """Let in what comes from inside.

        Raises:
            ServiceStopped: the sender stands outside.
        """
        if not self._is_inside(sender.get()):
            raise ServiceStopped(mailbox.path)
        before = self._before.get(mailbox)
        if before is not None:
            before.admit(mailbox)

    def changed(self, mailbox: Mailbox) -> None:
        """Look whether that was the last one."""
        self._note(mailbox)
        self._look()
        before = self._before.get(mailbox)
        if before is not None:
            before.changed(mailbox)

    def _note(self, mailbox: Mailbox) -> None:
        # A loop that reads no mail holds nothing up.
        if mailbox.busy and not self._cells[mailbox].unread:
            self._busy.add(mailbox)
        else:
            self._busy.discard(mailbox)

    def _look(self) -> None:
        if self._closed and not self._busy:
            self.idle.set()
