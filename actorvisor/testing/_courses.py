"""What has become of each message, read from a trace alone (M2-M8)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from ._trace import Entry, Trace

ENDS: Final = frozenset({"handled", "rejected", "withdrawn", "dead-letter"})
"""How a message ends."""


@dataclass(eq=False)
class Course:
    """What has become of one message.

    Attributes:
        accepted: when it was.
        where: the mailbox that has it.
        state: whether it waits, is in hand, or has ended.
        taken: when it was taken up last, or None.
        entered: how often a handler was entered and did not come back.
        last: what happened last.
    """

    accepted: Entry
    where: str
    state: Literal["waiting", "in hand", "over"] = "waiting"
    taken: Entry | None = None
    entered: int = 0
    last: Entry | None = None

    @property
    def number(self) -> int:
        """Its number."""
        number: Any = self.accepted.detail["message"]
        return int(number)

    @property
    def lane(self) -> int | None:
        """The member that it is for, of a pool with a key."""
        lane: Any = self.accepted.detail.get("lane")
        return None if lane is None else int(lane)


@dataclass
class Courses:
    """The messages of a trace, and the actors that they are sent to.

    Attributes:
        all: each message, by its number.
        waiting: those that wait, by mailbox, and in each by number.
        in_hand: those that are in hand, by mailbox.
        front: those that were given back and wait before all others, by mailbox, in order.
        facts: what each actor was declared to be, by path.
    """

    all: dict[int, Course] = field(default_factory=dict)
    waiting: dict[str, dict[int, Course]] = field(default_factory=dict)
    in_hand: dict[str, dict[int, Course]] = field(default_factory=dict)
    front: dict[str, list[Course]] = field(default_factory=dict)
    facts: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def of(self, entry: Entry) -> Course | None:
        """The message that an entry is about, if it was accepted before."""
        number: Any = entry.detail.get("message")
        return self.all.get(number)

    def fact(self, path: str, name: str, default: Any) -> Any:
        """Something that an actor was declared to be."""
        return self.facts.get(path, {}).get(name, default)

    def take(self, entry: Entry) -> None:
        """Change the facts as an entry says."""
        if entry.kind == "opened":
            tree: Any = entry.detail["tree"]
            self.facts |= tree
        elif entry.kind == "declared":
            self.facts[entry.path] = entry.detail
        elif entry.kind == "accepted":
            course = Course(entry, entry.path, last=entry)
            self.all[course.number] = course
            self.waiting.setdefault(entry.path, {})[course.number] = course
        else:
            found = self.of(entry)
            if found is not None:
                self._move(found, entry)

    def _move(self, course: Course, entry: Entry) -> None:
        self.waiting.get(course.where, {}).pop(course.number, None)
        self.in_hand.get(course.where, {}).pop(course.number, None)
        front = self.front.get(course.where)
        if front and course in front:
            front.remove(course)
        match entry.kind:
            case "taken":
                course.state, course.taken = "in hand", entry
                self.in_hand.setdefault(entry.path, {})[course.number] = course
            case "handed-over" | "given-back":
                course.state = "waiting"
                self.waiting.setdefault(entry.path, {})[course.number] = course
                if entry.kind == "given-back":
                    place: Any = entry.detail.get("place", 0)
                    self.front.setdefault(entry.path, []).insert(place, course)
                    course.entered += bool(entry.detail.get("entered"))
            case kind if kind in ENDS:
                course.state = "over"
            case _:
                pass
        course.where, course.last = entry.path, entry


def follow(trace: Trace) -> Iterator[tuple[Entry, Courses]]:
    """Each entry, with what was known just before it."""
    courses = Courses()
    for entry in trace:
        yield entry, courses
        courses.take(entry)
