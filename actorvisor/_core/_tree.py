"""A tree of actors at one moment, as a value; and the difference of two.

Nothing here recurses: a tree may be deeper than Python's stack, and a supervisor may have
100,000 children. All of it is linear.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from ._describe import describe, shorten
from ._ids import is_within
from ._messages import Crashed, ExitReason, is_failure

Kind: TypeAlias = Literal["host", "supervisor", "pool", "service"]
What: TypeAlias = Literal["added", "removed", "changed"]

_DOWN: Final = frozenset({"exited", "backing_off", "failed"})
_OWN_FIELDS: Final = ("kind", "state", "incarnation", "restarts", "detail", "reason")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class TreeNode:
    """One actor and all that is below it, at one moment.

    ``str()`` of it prints the tree, one actor a line.

    Attributes:
        path: its path.
        kind: ``host``, ``supervisor``, ``pool`` or ``service``.
        state: the value of its `State`.
        incarnation: lives that began, the present one included; 0: none yet.
        restarts: restarts in all.
        detail: more about it in a few words: the executor, or the strategy.
        reason: how its present or last life ended, or None.
        children: what it supervises, oldest first.
    """

    # Invariant: each child's path is its parent's, a "/" and a name that no sibling has.
    path: str
    kind: Kind
    state: str
    incarnation: int = 0
    restarts: int = 0
    detail: str = ""
    reason: ExitReason | None = None
    children: tuple[TreeNode, ...] = ()

    def __post_init__(self) -> None:
        prefix = f"{self.path}/"
        seen: set[str] = set()
        for child in self.children:
            path = child.path
            name = path[len(prefix) :]
            if not path.startswith(prefix) or not name or "/" in name or path in seen:
                raise ValueError(f"{describe(path)} is no child of {describe(self.path)}, or twice")
            seen.add(path)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    def walk(self) -> Iterator[TreeNode]:
        """This node and all below it: each before its children, children oldest first."""
        stack: list[TreeNode] = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node.children))

    def find(self, path: str) -> TreeNode | None:
        """The node of an absolute path, or None."""
        node: TreeNode | None = self
        while node is not None and node.path != path:
            node = next((child for child in node.children if is_within(path, child.path)), None)
        return node

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TreeNode):
            return NotImplemented
        stack: list[tuple[TreeNode, TreeNode]] = [(self, other)]
        while stack:
            one, two = stack.pop()
            if one is two:
                continue
            if (
                one.path != two.path
                or len(one.children) != len(two.children)
                or _changed_fields(one, two)
            ):
                return False
            stack.extend(zip(one.children, two.children, strict=True))
        return True

    def __hash__(self) -> int:
        # Not of all fields: a reason can hold what has no hash.
        return hash((self.path, self.state, self.incarnation, len(self.children)))

    def __repr__(self) -> str:
        below = f", {len(self.children)} children" if self.children else ""
        return f"<TreeNode {shorten(self.path)} {self.kind} {self.state}{below}>"

    def __str__(self) -> str:
        lines: list[str] = []
        # The node, what stands before its own line, and what before those of its children.
        stack: list[tuple[TreeNode, str, str]] = [(self, "", "")]
        while stack:
            node, before, below = stack.pop()
            name = node.path if node is self else node.name
            lines.append(f"{before}{shorten(name)}  {_facts(node)}")
            for child in reversed(node.children):
                if child is node.children[-1]:
                    stack.append((child, f"{below}└── ", f"{below}    "))
                else:
                    stack.append((child, f"{below}├── ", f"{below}│   "))
        return "\n".join(lines)


def _facts(node: TreeNode) -> str:
    """What is worth telling of one actor, on one line."""
    facts = [node.state]
    if node.detail:
        facts.append(shorten(node.detail))
    if node.incarnation > 1:
        facts.append(f"incarnation {node.incarnation}")
    if node.restarts:
        facts.append("1 restart" if node.restarts == 1 else f"{node.restarts} restarts")
    told = ", ".join(facts)
    reason = node.reason
    if node.state in _DOWN and reason is not None and is_failure(reason):
        told += f": {describe(reason.exception if isinstance(reason, Crashed) else reason)}"
    return told


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is different about one actor in two snapshots.

    Attributes:
        what: ``added``, ``removed`` or ``changed``.
        path: whose change it is.
        fields: which attributes of its node changed, in their order; ``children`` if it still
            has some but in another order. Empty unless ``changed``.
        before: its node in the earlier snapshot, or None.
        after: its node in the later one, or None.
    """

    what: What
    path: str
    fields: tuple[str, ...] = ()
    before: TreeNode | None = None
    after: TreeNode | None = None

    def __str__(self) -> str:
        path = shorten(self.path)
        if self.before is None or self.after is None:
            return f"{path}: {self.what}"
        changes = (
            "children reordered"
            if name == "children"
            else f"{name} {_said(getattr(self.before, name))} -> {_said(getattr(self.after, name))}"
            for name in self.fields
        )
        return f"{path}: {', '.join(changes)}"


def _said(value: object) -> str:
    return shorten(value) if isinstance(value, str) else describe(value)


def difference(before: TreeNode, after: TreeNode) -> tuple[Change, ...]:
    """What changed from one snapshot to another.

    An actor is the same if its path is. What is gone comes first, children before their
    parents; then what is new or has changed, parents first. Equal trees, and only they, have no
    difference. Linear in the size of both.
    """
    old = {node.path: node for node in before.walk()}
    new = {node.path: node for node in after.walk()}
    changes = [
        Change(what="removed", path=path, before=node)
        for path, node in reversed(old.items())
        if path not in new
    ]
    for path, node in new.items():
        was = old.get(path)
        if was is None:
            changes.append(Change(what="added", path=path, after=node))
        elif was is not node:
            fields = _changed_fields(was, node)
            if was.children and _is_reordered(was, node):
                fields = (*fields, "children")
            if fields:
                changes.append(
                    Change(what="changed", path=path, fields=fields, before=was, after=node)
                )
    return tuple(changes)


def _changed_fields(before: TreeNode, after: TreeNode) -> tuple[str, ...]:
    """Which attributes of an actor's own differ."""
    return tuple(
        name for name in _OWN_FIELDS if not _is_same(getattr(before, name), getattr(after, name))
    )


def _is_reordered(before: TreeNode, after: TreeNode) -> bool:
    """Whether the children that both have stand in another order."""
    old = dict.fromkeys(child.path for child in before.children)
    new = dict.fromkeys(child.path for child in after.children)
    return [path for path in old if path in new] != [path for path in new if path in old]


def _is_same(before: object, after: object) -> bool:
    """Whether two values are equal; a reason can hold what refuses to be compared."""
    try:
        return before is after or bool(before == after)
    except Exception:
        return False
