"""Names and paths of actors."""

from __future__ import annotations

import re
import time
from collections import Counter

import pytest
from hypothesis import example, given, strategies as st

from actorvisor._core._ids import check_name, check_unique, free_name, is_within, join, resolve

# Few letters, so that names meet each other, and those that could be mistaken for something else.
names = st.sampled_from(["host", "a", "b", "a-2", "ab", "...", ".a", " "])
paths = st.lists(names, min_size=1, max_size=5).map("/".join)


@given(st.text().filter(lambda text: text not in {"", ".", ".."} and "/" not in text))
@example("...")
@example("-2")
@example(" ")
def test_any_other_text_is_a_name(name: str) -> None:
    # I1
    assert check_name(name) is name


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("", ValueError, ["name must not be empty", "leave it out to get the class's name"]),
        ("/", ValueError, ["name '/' must not hold a '/'"]),
        ("a/b", ValueError, ["name 'a/b' must not hold a '/'", "those are paths"]),
        ("a/", ValueError, ["name 'a/'"]),
        (".", ValueError, ["name '.'", "nor be '.' or '..'"]),
        ("..", ValueError, ["name '..'", "nor be '.' or '..'"]),
        ("/" + "x" * 10_000, ValueError, ["name '/xxx", "... must not hold"]),
        (None, TypeError, ["name must be a string, not None"]),
        (3, TypeError, ["name must be a string, not 3"]),
        (b"a", TypeError, ["name must be a string, not b'a'"]),
    ],
)
def test_bad_names(name: object, error: type[Exception], said: list[str]) -> None:
    # I1: at declaration, with the value and the remedy
    with pytest.raises(error) as caught:
        check_name(name)
    assert [text for text in said if text not in str(caught.value)] == []
    assert len(str(caught.value)) < 400


def test_what_is_named_can_be_said() -> None:
    with pytest.raises(TypeError, match=r"^service must be a string, not 3$"):
        check_name(3, "service")


@given(st.lists(names))
def test_siblings_have_different_names(siblings: list[str]) -> None:
    # I1
    twice = [name for name, count in Counter(siblings).items() if count > 1]
    if not twice:
        check_unique(siblings, "host/x")
        return
    with pytest.raises(ValueError, match="two children of host/x are named ") as caught:
        check_unique(iter(siblings), "host/x")
    assert any(f"named {name!r}; give one another name=" in str(caught.value) for name in twice)


def test_the_path_of_a_child() -> None:
    # I1
    assert join("host/ingest", "parser") == "host/ingest/parser"


@given(name=names, taken=st.sets(st.sampled_from(["a", *(f"a-{n}" for n in range(1, 8)), "b"])))
@example("a", {"a"})
@example("a", {"a", "a-2"})
@example("a", {"a", "a-2", "a-3"})
def test_a_free_name_is_the_first_that_is_not_taken(name: str, taken: set[str]) -> None:
    # I1
    candidates = [name, *(f"{name}-{n}" for n in range(2, 100))]
    wanted = next(candidate for candidate in candidates if candidate not in taken)
    assert free_name(name, taken)[0] == wanted


@given(st.lists(st.sampled_from(["start", "end"]), max_size=40), st.data())
def test_free_names_with_a_hint(steps: list[str], data: st.DataObject) -> None:
    # I1: whoever ends in between, no name is given twice, and hints never go back
    taken: dict[str, object] = {}
    hint = 2
    for step in steps:
        if step == "start":
            name, after = free_name("a", taken, hint)
            assert name not in taken
            assert name == "a" or re.fullmatch(r"a-\d+", name)
            assert after == (hint if name == "a" else int(name[2:]) + 1)
            assert after >= hint
            taken[name], hint = None, after
        elif taken:
            del taken[data.draw(st.sampled_from(sorted(taken)))]


def test_many_free_names_take_linear_time() -> None:
    # S10: 100,000 starts of one class
    taken: dict[str, object] = {}
    hint = 2
    begin = time.perf_counter()
    for _ in range(100_000):
        name, hint = free_name("worker", taken, hint)
        taken[name] = None
    assert time.perf_counter() - begin < 5
    assert list(taken)[:3] == ["worker", "worker-2", "worker-3"]
    assert list(taken)[-1] == "worker-100000"


# --- resolve ------------------------------------------------------------------------------


def normal(path: str) -> str:
    """Rewritten until nothing is left to rewrite: /x/.. and /. go."""
    while True:
        shorter = re.sub(r"/(?!\.\.?(/|$))[^/]+/\.\.(?=/|$)", "", path, count=1)
        shorter = re.sub(r"/\.(?=/|$)", "", shorter)
        if shorter == path:
            return path
        path = shorter


def naive_resolve(base: str, path: str) -> str | None:
    """What a path means, or None if it means nothing."""
    inner = path.strip("/")
    if not inner or "//" in inner:
        return None
    if path.startswith("/") or inner.split("/")[0] == base.split("/")[0]:
        whole = "/" + inner
    else:
        whole = f"/{base}/{inner}"
    steps = whole.split("/")[1:]
    for count in range(1, len(steps) + 1):
        so_far = normal("/" + "/".join(steps[:count]))
        if steps[count - 1] == ".." and (so_far == "" or ".." in so_far.split("/")):
            return None
    return normal(whole)[1:] or None


parts = st.sampled_from(["host", "a", "b", ".", "..", "", "..a"])


@given(
    base=st.lists(st.sampled_from(["a", "b"]), max_size=3).map(lambda p: "/".join(["host", *p])),
    path=st.lists(parts, max_size=6).map("/".join),
)
@example("host/a", "../parser")
@example("host/a/b", "../../..")
@example("host", "..")
@example("host/a", "host/..")
@example("host/a", "host/../host")
@example("host/a", "/.")
@example("host/a", "/./host/b")
@example("host/a", "//host/b/")
@example("host/a", "./host")
@example("host/a", "X")
@example("host/a", ".")
def test_resolve(base: str, path: str) -> None:
    # section 2: self.find("../parser"); I1
    wanted = naive_resolve(base, path)
    if wanted is None:
        with pytest.raises(ValueError, match=r"climbs above the host|is no path"):
            resolve(base, path)
    else:
        assert resolve(base, path) == wanted


@given(base=paths, path=paths)
def test_an_absolute_path_is_the_same_everywhere(base: str, path: str) -> None:
    # I1
    assert resolve(f"host/{base}", f"host/{path}") == f"host/{path}"
    assert resolve(f"host/{base}", f"/host/{path}") == f"host/{path}"
    assert resolve(f"host/{base}", f"./{path}") == f"host/{base}/{path}"


@pytest.mark.parametrize(
    ("path", "error", "said"),
    [
        ("", ValueError, "'' is no path: it has an empty part"),
        ("/", ValueError, "'/' is no path: it has an empty part"),
        ("a//b", ValueError, "'a//b' is no path: it has an empty part"),
        ("/.", ValueError, "'/.' is no path: it names nothing"),
        ("../../b", ValueError, "'../../b' climbs above the host, seen from 'host/a'"),
        ("/..", ValueError, "'/..' climbs above the host, seen from 'host/a'"),
        (None, TypeError, "a path must be a string, not None"),
        (7, TypeError, "a path must be a string, not 7"),
    ],
)
def test_bad_paths(path: str, error: type[Exception], said: str) -> None:
    # I1
    with pytest.raises(error) as caught:
        resolve("host/a", path)
    assert str(caught.value) == said


def test_a_long_path_takes_linear_time() -> None:
    begin = time.perf_counter()
    assert resolve("host", "/".join(["a"] * 300_000 + [".."] * 300_000)) == "host"
    assert time.perf_counter() - begin < 5


@given(path=paths, root=paths)
@example("a/b", "a")
@example("ab", "a")
@example("a", "a/b")
def test_is_within(path: str, root: str) -> None:
    # I1
    assert is_within(path, root) == (path.split("/")[: root.count("/") + 1] == root.split("/"))
