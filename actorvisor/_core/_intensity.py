"""The restart window (S3): how many restarts there were, lately."""

from __future__ import annotations

from collections import deque
from typing import ClassVar


class RestartWindow:
    """Notes of restart decisions, and whether there are too many.

    A note is forgotten when it is older than ``within`` seconds (at exactly that age it still
    counts, as in OTP's supervisor). More than ``max_restarts`` notes exceed the window.
    """

    __slots__ = ("_notes", "max_restarts", "within")

    def __init__(self, max_restarts: int, within: float) -> None:
        self.max_restarts: int = max_restarts
        self.within: float = within
        # Invariant: ordered by time, at most max_restarts notes. Most children never have any.
        self._notes: deque[tuple[float, str]] | None = None

    def note(self, name: str, now: float) -> bool:
        """Note a restart decision of a child.

        Returns:
            Whether the window is exceeded now.
        """
        notes = self._notes
        if notes is None:
            notes = self._notes = deque()
        while notes and now - notes[0][0] > self.within:
            notes.popleft()
        notes.append((now, name))
        exceeded = len(notes) > self.max_restarts
        if exceeded:
            notes.popleft()  # the next one will exceed the window without it, or not at all
        return exceeded

    def clear(self, name: str) -> None:
        """Forget the notes of one child: somebody started it by hand."""
        if self._notes is not None:
            self._notes = deque(note for note in self._notes if note[1] != name) or None

    def reset(self) -> None:
        """Forget all notes."""
        self._notes = None

    def copy(self) -> RestartWindow:
        """A window of the same notes that is changed by itself."""
        other = RestartWindow(self.max_restarts, self.within)
        other._notes = None if self._notes is None else self._notes.copy()
        return other

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RestartWindow):
            return NotImplemented
        return (self.max_restarts, self.within, self._notes) == (
            other.max_restarts,
            other.within,
            other._notes,
        )

    __hash__: ClassVar[None] = None  # type: ignore[assignment]
