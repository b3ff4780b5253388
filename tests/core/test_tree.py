"""Snapshots of a tree of actors, and the difference of two."""

from __future__ import annotations

import dataclasses
import sys
import time
from typing import Any, NoReturn

import pytest
from hypothesis import example, given, strategies as st

from actorvisor._core._lifecycle import State
from actorvisor._core._messages import (
    Abandoned,
    Completed,
    Crashed,
    ExitReason,
    GaveUp,
    Killed,
    Stopped,
    TimedOut,
)
from actorvisor._core._tree import Change, TreeNode, difference

BOOM = Crashed(RuntimeError("boom"))
DOWN = {"exited", "backing_off", "failed"}


def node(path: str, *children: TreeNode, **fields: Any) -> TreeNode:
    kind = "supervisor" if children else "service"
    return TreeNode(
        **{"path": path, "kind": kind, "state": "running", "children": children} | fields
    )


def tree() -> TreeNode:
    parser = node("host/ingest/parser", state="backing_off", incarnation=3, restarts=2, reason=BOOM)
    store = node("host/ingest/store", detail="ThreadExecutor()", incarnation=1)
    ingest = node("host/ingest", parser, store, detail="rest_for_one", incarnation=1)
    return node("host", ingest, node("host/web", incarnation=1), kind="host", incarnation=1)


# --- any tree ---------------------------------------------------------------------------------

reasons: st.SearchStrategy[ExitReason | None] = st.sampled_from(
    [None, Completed(), Completed(1), Stopped(), BOOM, Killed(-9), TimedOut("hang"), Abandoned()]
)


@st.composite
def nodes(draw: st.DrawFn, path: str = "host", depth: int = 3) -> TreeNode:
    names = draw(st.lists(st.sampled_from(["a", "b", "ab", "c "]), unique=True, max_size=depth))
    return TreeNode(
        path=path,
        kind=draw(st.sampled_from(["host", "supervisor", "service"])),
        state=draw(st.sampled_from(State)).value,
        incarnation=draw(st.integers(0, 2)),
        restarts=draw(st.integers(0, 2)),
        detail=draw(st.sampled_from(["", "AsyncExecutor()"])),
        reason=draw(reasons),
        children=tuple(draw(nodes(f"{path}/{name}", depth - 1)) for name in names),
    )


def dump(tree: TreeNode) -> dict[str, Any]:
    """All that is in it, as a plain value."""
    fields = {field.name: getattr(tree, field.name) for field in dataclasses.fields(tree)}
    return fields | {"children": [dump(child) for child in tree.children]}


def copy(tree: TreeNode) -> TreeNode:
    return dataclasses.replace(tree, children=tuple(map(copy, tree.children)))


def naive_walk(tree: TreeNode) -> list[TreeNode]:
    return [tree, *(below for child in tree.children for below in naive_walk(child))]


@given(nodes())
def test_walk(tree: TreeNode) -> None:
    # each before its children, oldest first
    assert list(map(id, tree.walk())) == list(map(id, naive_walk(tree)))


@given(nodes())
def test_find(tree: TreeNode) -> None:
    for each in tree.walk():
        assert tree.find(each.path) is each
        assert each.name == each.path.split("/")[-1]
        for other in (each.path + "/x", each.path + "x", each.path[:-1], each.path + "/"):
            if other not in [known.path for known in naive_walk(tree)]:
                assert tree.find(other) is None


@given(nodes(), nodes())
def test_equality(one: TreeNode, two: TreeNode) -> None:
    # as of the plain values
    assert (one == two) == (dump(one) == dump(two))
    assert (one != two) == (dump(one) != dump(two))
    assert one == copy(one)
    assert hash(one) == hash(copy(one))


@given(nodes(), st.data())
def test_a_change_anywhere_is_seen(tree: TreeNode, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from([each.path for each in tree.walk()]))
    field = data.draw(
        st.sampled_from(["kind", "state", "incarnation", "restarts", "detail", "reason"])
    )
    value: object = "other" if field in {"kind", "state", "detail"} else 7
    if field == "reason":
        value = GaveUp(BOOM)
    other = change(tree, path, field, value)
    assert tree != other
    (found,) = difference(tree, other)
    assert found == Change(
        what="changed", path=path, fields=(field,), before=tree.find(path), after=other.find(path)
    )


def change(tree: TreeNode, path: str, field: str, value: object) -> TreeNode:
    if tree.path == path:
        return dataclasses.replace(tree, **{field: value})  # type: ignore[arg-type]
    children = tuple(change(child, path, field, value) for child in tree.children)
    return dataclasses.replace(tree, children=children)


class Sealed(tuple[TreeNode, ...]):
    """Children that nobody may compare."""

    def __len__(self) -> NoReturn:
        raise AssertionError("looked into")


def test_what_two_trees_share_is_not_compared() -> None:
    # S10: between two snapshots, what has not changed costs nothing
    shared = dataclasses.replace(node("host/a"), children=Sealed([node("host/a/b")]))
    assert node("host", shared) == node("host", shared)
    with pytest.raises(AssertionError, match="looked into"):
        assert node("host", shared) == node("host", dataclasses.replace(shared))


def test_what_differs_beside_what_is_shared() -> None:
    shared = node("host/b")
    one, two = (
        node("host", node("host/a", state=state), shared) for state in ("running", "failed")
    )
    assert one != two
    assert [change.path for change in difference(one, two)] == ["host/a"]


def test_equal_reasons_of_two_lives_are_no_difference() -> None:
    one, two = (node("host", reason=Completed([1])) for _ in range(2))
    assert one == two
    assert difference(one, two) == ()


def test_it_differs_from_what_is_no_tree() -> None:
    assert tree() != "host"
    assert tree() != dump(tree())
    assert tree() is not tree()
    assert tree() == tree()


def test_it_is_a_value() -> None:
    assert len({tree(), tree(), node("host")}) == 2
    assert len({hash(node("host", incarnation=life)) for life in range(100)}) > 90
    with pytest.raises(AttributeError):
        tree().state = "running"  # type: ignore[misc]
    with pytest.raises(TypeError):
        TreeNode("host", "host", "running")  # type: ignore[call-arg]
    alone = TreeNode(path="host", kind="host", state="running")
    assert (alone.incarnation, alone.restarts, alone.detail) == (0, 0, "")
    assert (alone.reason, alone.children, alone.name) == (None, (), "host")
    assert not hasattr(alone, "__dict__")


@pytest.mark.parametrize(
    "paths",
    [
        ["host/a", "host/a"],
        ["host"],
        ["hosta"],
        ["host/"],
        ["host/a/b"],
        ["host/a/"],
        ["host//a"],
        ["other/a"],
        ["a"],
        [""],
        ["/host/a"],
        ["host/a", "host/b", "host/a"],
    ],
)
def test_what_is_no_child_is_refused(paths: list[str]) -> None:
    # I1
    with pytest.raises(ValueError, match=r"' is no child of 'host', or twice$") as caught:
        node("host", *map(node, paths))
    assert str(caught.value).startswith(repr(paths[-1]))
    node("host", node("host/b"), node("host/a"))


# --- how it prints ----------------------------------------------------------------------------


def test_how_it_prints() -> None:
    assert str(tree()) == (
        "host  running\n"
        "├── ingest  running, rest_for_one\n"
        "│   ├── parser  backing_off, incarnation 3, 2 restarts: RuntimeError('boom')\n"
        "│   └── store  running, ThreadExecutor()\n"
        "└── web  running"
    )
    assert str(tree().children[0]).splitlines()[0] == "host/ingest  running, rest_for_one"
    assert repr(tree()) == "<TreeNode host host running, 2 children>"
    assert repr(node("host/a")) == "<TreeNode host/a service running>"


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (None, ""),
        (Completed(3), ""),
        (Stopped(), ""),
        (BOOM, ": RuntimeError('boom')"),
        (Killed(-9), ": Killed(status=-9)"),
        (TimedOut("hang"), ": TimedOut(phase='hang')"),
        (GaveUp(Killed(1)), ": GaveUp(last=Killed(status=1))"),
    ],
)
def test_a_failure_is_told_while_it_is_down(
    state: State, reason: ExitReason | None, said: str
) -> None:
    one = node("host", state=state.value, reason=reason)
    assert str(one) == f"host  {state.value}{said if state.value in DOWN else ''}"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "running"),
        ({"incarnation": 1}, "running"),
        ({"incarnation": 2}, "running, incarnation 2"),
        ({"restarts": 1}, "running, 1 restart"),
        ({"restarts": 2}, "running, 2 restarts"),
        (
            {"incarnation": 4, "restarts": 3, "detail": "x"},
            "running, x, incarnation 4, 3 restarts",
        ),
    ],
)
def test_what_is_worth_telling(fields: dict[str, Any], said: str) -> None:
    assert str(node("host", **fields)) == f"host  {said}"


@given(nodes())
def test_a_line_for_each(tree: TreeNode) -> None:
    lines = str(tree).splitlines()
    every = naive_walk(tree)
    assert len(lines) == len(every)
    for line, each in zip(lines, every, strict=True):
        depth = each.path.count("/")
        assert len(line) > 4 * depth
        name = each.path if not depth else each.name
        assert line[4 * depth :].startswith(f"{name}  {each.state}")
        assert set(line[: 4 * depth]) <= set("├└─│ ")
        if depth:
            parent = next(other for other in every if each in other.children)
            corner = "└── " if each is parent.children[-1] else "├── "
            assert line[4 * depth - 4 : 4 * depth] == corner


class EvilError(Exception):
    def __repr__(self) -> NoReturn:
        raise SystemExit

    def __eq__(self, other: object) -> NoReturn:
        raise ValueError

    __hash__ = None  # type: ignore[assignment]


def test_what_is_huge_or_raises_breaks_no_text() -> None:
    # O5
    huge = node(
        "host",
        node(f"host/{'x' * 10**6}\n"),
        state="failed",
        detail="\n" * 10**6,
        reason=Crashed(EvilError()),
    )
    first, second = str(huge).splitlines()
    assert first.endswith(": <EvilError: repr raised SystemExit>")
    assert max(len(first), len(second)) < 500
    assert len(repr(huge.children[0])) < 300
    for changed in difference(huge, node("host\n")):
        assert len(str(changed)) < 1_000
        assert str(changed).isprintable()


# --- difference -------------------------------------------------------------------------------


@given(nodes(), nodes())
def test_difference(before: TreeNode, after: TreeNode) -> None:
    old = {each.path: each for each in naive_walk(before)}
    new = {each.path: each for each in naive_walk(after)}
    changes = difference(before, after)
    assert (changes == ()) == (before == after)
    assert [change.path for change in changes if change.what == "removed"] == [
        path for path in reversed(old) if path not in new
    ]
    assert [change.path for change in changes if change.what == "added"] == [
        path for path in new if path not in old
    ]
    order = [change.what for change in changes]
    assert order == sorted(order, key=lambda what: what != "removed"), "what is gone comes first"
    later = [change.path for change in changes if change.what != "removed"]
    assert later == [path for path in new if path in later], "parents first"
    for change in changes:
        assert change.before is old.get(change.path)
        assert change.after is new.get(change.path)
        assert change.fields == naive_fields(change.before, change.after)
        assert (change.what == "changed") == bool(change.fields)
    told = {change.path for change in changes}
    for path in old.keys() & new.keys():
        assert (path in told) == bool(naive_fields(old[path], new[path]))


def naive_fields(before: TreeNode | None, after: TreeNode | None) -> tuple[str, ...]:
    if before is None or after is None:
        return ()
    names = ["kind", "state", "incarnation", "restarts", "detail", "reason"]
    fields = [name for name in names if getattr(before, name) != getattr(after, name)]
    old, new = ([child.path for child in each.children] for each in (before, after))
    if [path for path in old if path in new] != [path for path in new if path in old]:
        fields.append("children")
    return tuple(fields)


@given(nodes())
def test_no_difference(tree: TreeNode) -> None:
    assert difference(tree, tree) == difference(tree, copy(tree)) == ()


@given(nodes(), nodes())
@example(node("host", node("host/a"), node("host/b")), node("host", node("host/b"), node("host/a")))
def test_what_was_added_is_removed_on_the_way_back(one: TreeNode, two: TreeNode) -> None:
    there, back = difference(one, two), difference(two, one)
    opposite = {"added": "removed", "removed": "added", "changed": "changed"}
    assert {(change.path, change.what, change.fields) for change in there} == {
        (change.path, opposite[change.what], change.fields) for change in back
    }


def test_how_a_difference_prints() -> None:
    before = tree()
    ingest, web = before.children
    parser, store = ingest.children
    now = dataclasses.replace(parser, state="running", incarnation=4, reason=None)
    after = node(
        "host",
        node("host/new"),
        dataclasses.replace(ingest, children=(store, now)),
        kind="host",
        incarnation=1,
    )
    assert [str(change) for change in difference(before, after)] == [
        "host/web: removed",
        "host/new: added",
        "host/ingest: children reordered",
        "host/ingest/parser: state backing_off -> running, incarnation 3 -> 4, "
        "reason Crashed(exception=RuntimeError('boom')) -> None",
    ]
    (gone, *_) = difference(before, after)
    assert gone == Change(what="removed", path="host/web", before=web)


def test_another_root() -> None:
    one, two = node("host", node("host/a")), node("other")
    assert [(each.what, each.path) for each in difference(one, two)] == [
        ("removed", "host/a"),
        ("removed", "host"),
        ("added", "other"),
    ]


def test_a_reason_that_refuses_to_be_compared() -> None:
    # it has changed, for all we know
    class Evil:
        def __eq__(self, other: object) -> NoReturn:
            raise ValueError

        __hash__ = None  # type: ignore[assignment]

    one, two = (node("host", reason=Completed(Evil())) for _ in range(2))
    assert one != two
    assert hash(one) == hash(two)
    (change,) = difference(one, two)
    assert change.fields == ("reason",)
    assert one == dataclasses.replace(one)
    assert difference(one, dataclasses.replace(one)) == ()


# --- size -------------------------------------------------------------------------------------


def test_a_tree_can_be_deeper_than_the_stack() -> None:
    depth = sys.getrecursionlimit() + 500

    def chain(state: str) -> TreeNode:
        below: tuple[TreeNode, ...] = ()
        for length in range(depth, 0, -1):
            below = (node("/".join("a" * length), *below, state=state),)
        return below[0]

    one, two, other = chain("running"), chain("running"), chain("stopping")
    assert one == two
    assert one != other
    assert sum(1 for _ in one.walk()) == depth
    deepest = one.find("/".join("a" * depth))
    assert deepest is not None
    assert deepest.children == ()
    assert str(one).count("\n") == depth - 1
    assert len(difference(one, other)) == depth
    assert difference(one, two) == ()


@pytest.mark.slow
def test_a_wide_tree_takes_linear_time() -> None:
    # S10: list stays linear to 100,000 children
    begin = time.perf_counter()
    one, two = (
        node("host", *(node(f"host/c{index}", restarts=kind) for index in range(100_000)))
        for kind in (0, 1)
    )
    assert len(difference(one, two)) == 100_000
    assert one != two
    assert str(one).count("\n") == 100_000
    assert one.find("host/c99999") is one.children[-1]
    assert time.perf_counter() - begin < 20
