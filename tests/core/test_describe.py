"""Bounded, safe text for anything (O5)."""

from __future__ import annotations

import enum
import sys
import time
import tracemalloc
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import pytest
from hypothesis import example, given, strategies as st

from actorvisor._core._describe import LIMIT, describe, shorten, type_name

# --- what is plain ----------------------------------------------------------------------------


@dataclass
class Point:
    x: object
    y: object = 0
    secret: object = field(default="hidden", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slotted:
    one: object


@dataclass
class Empty:
    pass


class Color(enum.Enum):
    RED = 1


class OwnList(list[Any]):
    pass


class OwnDict(dict[Any, Any]):
    pass


class OwnSet(set[Any]):
    pass


class OwnFrozenSet(frozenset[Any]):
    pass


class OwnDeque(deque[Any]):
    pass


class OwnText(str):
    __slots__ = ()


class OwnNumber(int):
    pass


class OwnError(Exception):
    def __init__(self, *args: object, code: int = 0) -> None:
        super().__init__(*args)
        self.code = code


hashable = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8)
    | st.sampled_from([Color.RED, int, len, OwnText("own"), OwnNumber(7), 1j, ..., range(3)])
)


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(inner, max_size=4)
    keys = st.dictionaries(hashable, inner, max_size=4)
    sets = st.sets(hashable, max_size=4)
    return st.one_of(
        lists,
        lists.map(tuple),
        lists.map(OwnList),
        lists.map(deque),
        lists.map(lambda items: deque(items, maxlen=5)),
        lists.map(OwnDeque),
        lists.map(lambda items: OwnError(*items)),
        lists.map(lambda items: ExceptionGroup("all", [ValueError(*items)])),
        keys,
        keys.map(OwnDict),
        keys.map(OrderedDict),
        sets,
        sets.map(OwnSet),
        sets.map(frozenset),
        sets.map(OwnFrozenSet),
        st.builds(Point, inner, inner),
        st.builds(Slotted, one=inner),
        st.binary(max_size=8).map(bytearray),
    )


plain = st.recursive(hashable, containers, max_leaves=12)


@given(plain)
@example(())
@example((1,))
@example(set())
@example(frozenset())
@example(OwnSet())
@example(deque[int](maxlen=0))
@example(Empty())
@example(KeyError("a"))
@example(OSError(2, "no such file"))
@example(Counter("aab"))
@example(defaultdict(list))
@example([{1: ({2}, [Point(3)])}])
def test_what_is_short_is_what_repr_says(value: object) -> None:
    # O5
    wanted = repr(value)
    if wanted.isprintable():
        assert describe(value, 10_000) == wanted


@given(plain, st.integers(0, 60))
@example("it's", 6)
@example([1, 2, 3], 9)
@example([1, 2, 3], 8)
@example([1 << 72], 18)
@example([1 << 20], 5)
def test_what_is_long_is_its_beginning(value: object, limit: int) -> None:
    # O5
    found = describe(value, limit)
    assert len(found) <= limit
    wanted = repr(value)
    if not wanted.isprintable():
        return
    if len(wanted) <= limit:
        assert found == wanted
    elif "<" not in found:  # else it may be an integer of so many bits, which can be shorter
        assert found == "..."[:limit] or found.endswith("...")
        assert len(found) == limit
        # How a text is quoted depends on all of it.
        if not any(sign in wanted for sign in "'\""):
            assert wanted.startswith(found[:-3])


def test_examples() -> None:
    # O5
    assert describe([1, 2, 3]) == "[1, 2, 3]"
    assert describe("x" * 1_000_000, limit=10) == "'xxxxxx..."
    assert describe(Point([1], {"a": (2,)})) == "Point(x=[1], y={'a': (2,)})"
    assert describe(deque([1], maxlen=3)) == "deque([1], maxlen=3)"
    assert describe(OwnSet([1])) == "OwnSet({1})"
    assert describe(OwnFrozenSet([1])) == "OwnFrozenSet({1})"
    assert describe(OwnError("a", 1)) == "OwnError('a', 1)"
    assert describe("two\nlines") == r"'two\nlines'"
    assert LIMIT == 200


def test_the_default_limit() -> None:
    # O5
    assert describe("x" * 198) == repr("x" * 198)
    assert describe("x" * 199) == "'" + "x" * 196 + "..."
    assert shorten("x" * 200) == "x" * 200
    assert shorten("x" * 201) == "x" * 197 + "..."


@pytest.mark.parametrize("limit", [-1, 0, 1, 2, 3, 4])
def test_tiny_limits(limit: int) -> None:
    wanted = ["", "", ".", "..", "...", "[..."][limit + 1]
    assert describe([10, 20], limit) == wanted
    assert shorten("[10, 20]", limit) == wanted


# --- what is huge -----------------------------------------------------------------------------


class Counted:
    """How often anybody has asked what it is."""

    def __init__(self) -> None:
        self.asked = 0

    def __repr__(self) -> str:
        self.asked += 1
        return "counted"


def wrap(kind: type, one: Counted) -> object:
    many = [one] * 1_000
    if kind is dict:
        return dict.fromkeys(range(1_000), one)
    if kind is Point:
        return Point(many, many)
    if kind is OwnError:
        return OwnError(*many)
    return kind(many)


@pytest.mark.parametrize("kind", [list, tuple, deque, dict, Point, OwnError])
def test_no_more_is_looked_at_than_is_shown(kind: type) -> None:
    # O5
    one = Counted()
    assert describe(wrap(kind, one), 100).endswith("...")
    assert 0 < one.asked < 15


@pytest.mark.parametrize("kind", [set, frozenset])
def test_no_more_of_a_set_is_looked_at_than_is_shown(kind: type) -> None:
    # O5
    many = [Counted() for _ in range(1_000)]
    assert describe(kind(many), 100).endswith("...")
    assert 0 < sum(one.asked for one in many) < 15


@pytest.mark.parametrize(
    "make",
    [  # made when they are needed: together they are half a gigabyte
        lambda: [0] * 10**7,
        lambda: "x" * 10**8,
        lambda: b"x" * 10**8,
        lambda: bytearray(10**8),
        lambda: OwnText("x" * 10**8),
        lambda: 1 << 10**8,
        lambda: -(1 << 10**8),
        lambda: dict.fromkeys(range(10**6)),
        lambda: set(range(10**6)),
    ],
    ids=["list", "str", "bytes", "bytearray", "OwnText", "int", "negative", "dict", "set"],
)
def test_a_huge_value_takes_no_time(make: Callable[[], object]) -> None:
    # O5
    value = make()
    begin = time.perf_counter()
    for _ in range(10):
        assert len(describe(value)) <= LIMIT
    assert time.perf_counter() - begin < 0.2


@pytest.mark.parametrize("value", ["x" * 10**6, b"x" * 10**6, bytearray(10**6)], ids=type)
def test_a_huge_text_is_not_copied(value: object) -> None:
    # O5
    tracemalloc.start()
    try:
        describe(value)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000


def test_huge_texts() -> None:
    # O5
    assert describe("é" * 10**6, 10) == "'éééééé..."
    assert describe(b"x" * 10**6, 10) == "b'xxxxx..."
    assert describe(bytearray(b"x" * 10**6), 20) == "bytearray(b'xxxxx..."
    assert describe("\n" * 10**6, 10) == r"'\n\n\n..."
    # No digit of it is known before all of them are.
    assert describe(10**5000) == "<int of 16610 bits>"
    assert describe(OwnNumber(-(10**5000))) == "<OwnNumber of 16610 bits>"
    assert describe(2**799) == str(2**799)[:197] + "..."
    assert describe(2**800) == "<int of 801 bits>"
    assert describe(2**39, 10) == "5497558..."
    assert describe(2**40, 10) == "<int of..."
    assert describe(True, 0) == ""


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (lambda size: "x" * size, 2),
        (lambda size: b"x" * size, 3),
        (lambda size: bytearray(b"x" * size), 14),
    ],
)
def test_texts_around_the_limit(make: Callable[[int], object], size: int) -> None:
    # O5: what repr adds counts too
    for limit in range(20, 30):
        for length in range(limit - size - 2, limit + 3):
            text = repr(make(length))
            wanted = text if len(text) <= limit else text[: limit - 3] + "..."
            assert describe(make(length), limit) == wanted


@pytest.mark.parametrize(
    "wrap",
    [lambda value: [value], lambda value: (value,), lambda value: {1: value}, Point, OwnError],
)
def test_it_can_be_deeper_than_the_stack(wrap: Callable[[object], object]) -> None:
    # O5
    value: object = 1
    for _ in range(50_000):
        value = wrap(value)
    assert describe(value).endswith("...")
    assert len(describe(value, 3_000)) == 3_000
    while value != 1:  # not all at once: its own end recurses
        value = next(iter(value.values())) if isinstance(value, dict) else peel(value)


def peel(value: Any) -> object:
    if isinstance(value, Point):
        return value.x
    return value.args[0] if isinstance(value, OwnError) else value[0]


def test_what_holds_itself() -> None:
    # O5
    items: list[object] = [1]
    items.append(items)
    assert describe(items) == repr(items) == "[1, [...]]"
    table: dict[str, object] = {}
    table["me"] = (table,)
    assert describe(table) == repr(table) == "{'me': ({...},)}"
    error = OwnError("a")
    error.args = (error, [error])
    assert describe(error) == "OwnError(OwnError(...), [OwnError(...)])"
    point = Point(1)
    point.x = point
    assert describe(point) == "Point(x=Point(...), y=0)"
    ring = deque[object](maxlen=2)
    ring.append(ring)
    assert describe(ring) == "deque([deque([...)], maxlen=2)"


def test_what_is_there_twice_does_not_hold_itself() -> None:
    # O5
    one = [1]
    assert describe([one, one, (one, one)]) == "[[1], [1], ([1], [1])]"


def test_what_is_made_while_it_is_shown_does_not_hold_itself() -> None:
    # A new object can get the id of one that is gone.
    class Matryoshka(Exception):
        args = property(lambda self: None)

    @dataclass
    class Fresh:
        depth: int

        def __getattribute__(self, name: str) -> Any:
            depth = object.__getattribute__(self, name)
            return Fresh(depth + 1) if name == "depth" and depth < 50 else depth

    assert describe(Fresh(0), 10_000).count("Fresh(depth=") == 51
    assert "..." not in describe(Fresh(0), 10_000)
    assert describe(Matryoshka("a")) == "Matryoshka('a')"


# --- what is evil -----------------------------------------------------------------------------

RAISED = [ValueError("no"), SystemExit("no"), GeneratorExit(), MemoryError(), RecursionError()]


def refuse(error: BaseException) -> Callable[..., NoReturn]:
    def refusing(*args: object, **kwargs: object) -> NoReturn:
        raise error

    return refusing


def evil(error: BaseException, *names: str, base: type = object) -> Any:
    return type("Evil", (base,), {name: refuse(error) for name in names})


@pytest.mark.parametrize("error", RAISED, ids=repr)
def test_a_repr_that_raises_is_told_in_its_place(error: BaseException) -> None:
    # O5
    one = evil(error, "__repr__")()
    said = f"<Evil: repr raised {type(error).__name__}>"
    assert describe(one) == said
    assert describe([1, one, {2: one}]) == f"[1, {said}, {{2: {said}}}]"
    assert describe(Point(one)) == f"Point(x={said}, y=0)"
    assert describe(OwnError(one)) == f"OwnError({said})"


@pytest.mark.parametrize("nonsense", [None, 3, b"text", ["text"]])
def test_a_repr_that_is_no_text(nonsense: object) -> None:
    # O5
    one = type("Odd", (), {"__repr__": lambda self: nonsense})()
    assert describe(one) == "<Odd: repr raised TypeError>"


def test_a_repr_that_is_huge() -> None:
    # O5
    assert describe(type("Huge", (), {"__repr__": lambda self: "x" * 10**6})(), 10) == "xxxxxxx..."


def test_a_repr_that_recurses() -> None:
    # O5
    assert describe(type("Deep", (), {"__repr__": lambda self: repr(self)})()) == (
        "<Deep: repr raised RecursionError>"
    )


@pytest.mark.parametrize(
    "wrap", [lambda error: error, lambda error: BaseExceptionGroup("", [error])]
)
@pytest.mark.parametrize("where", ["repr", "field", "class"])
def test_an_interrupt_passes(wrap: Callable[[BaseException], BaseException], where: str) -> None:
    # It comes from the keyboard, and means everybody.
    error = wrap(wrap(KeyboardInterrupt()))
    if where == "repr":
        one = evil(error, "__repr__")()
    elif where == "field":
        one = Point(1)
        one.__class__ = dataclass(evil(error, "__getattribute__", base=Point))
    else:
        one = type("Meta", (type,), {"__getattribute__": refuse(error)})("Evil", (), {})()
    with pytest.raises(type(error)) as caught:
        describe([one])
    assert caught.value is error


def test_a_group_without_an_interrupt_stays() -> None:
    # O5
    inner = BaseExceptionGroup("", [SystemExit(), BaseExceptionGroup("", [GeneratorExit()])])
    assert describe(evil(inner, "__repr__")()) == "<Evil: repr raised BaseExceptionGroup>"


def test_what_only_says_that_it_is_an_interrupt_stays() -> None:
    # O5
    class Liar(Exception):
        @property  # type: ignore[misc]
        def __class__(self) -> type:
            return KeyboardInterrupt

        @property
        def exceptions(self) -> NoReturn:
            raise RuntimeError

    assert isinstance(Liar(), KeyboardInterrupt)
    assert describe(evil(Liar(), "__repr__")()) == "<Evil: repr raised Liar>"


def test_a_group_cannot_hide_an_interrupt() -> None:
    class Hider(BaseExceptionGroup[BaseException]):  # noqa: ASYNC126
        @property
        def exceptions(self) -> tuple[BaseException, ...]:
            return ()

    with pytest.raises(Hider):
        describe(evil(Hider("", [KeyboardInterrupt()]), "__repr__")())


OVERRIDES = ["__iter__", "__len__", "__getitem__", "__str__", "__format__", "__bool__", "__eq__"]


@pytest.mark.parametrize(
    "value",
    [
        [1, 2],
        (1, 2),
        {1, 2},
        frozenset([1, 2]),
        {1: 2},
        deque([1, 2]),
        "ab",
        b"ab",
        bytearray(b"ab"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_subclass_that_overrides_everything_prints_as_its_base(value: Any) -> None:
    # O5: as the base's repr does
    names = [*OVERRIDES, "items", "keys", "values", "__add__", "__radd__"]
    one = evil(ValueError("no"), *names, base=type(value))(value)
    said = repr(value)
    for name in ("deque", "frozenset", "bytearray"):
        said = said.replace(name, "Evil")
    assert describe(one) == (f"Evil({said})" if isinstance(value, set) else said)
    many = dict.fromkeys(range(1_000)) if isinstance(value, dict) else range(1_000)
    long = value * 1_000 if isinstance(value, str | bytes | bytearray) else many
    one = evil(ValueError("no"), *names, base=type(value))(long)
    assert len(describe(one, 30)) == 30


def test_a_number_that_overrides_everything() -> None:
    # O5
    number = evil(ValueError("no"), "bit_length", "__str__", "__index__", "__abs__", base=int)
    assert describe(number(7)) == "7"
    assert describe(number(10**5000)) == "<Evil of 16610 bits>"


def test_a_text_of_a_repr_that_overrides_everything() -> None:
    # O5
    text = evil(ValueError("no"), "__getitem__", "__len__", "isprintable", "__str__", base=str)
    one = type("One", (), {"__repr__": lambda self: text("said")})()
    assert describe([one]) == "[said]"


def test_what_changes_while_it_is_shown() -> None:
    # O5
    table: dict[object, object] = {}
    growing = type("Growing", (), {"__repr__": lambda self: str(table.setdefault(len(table), 1))})()
    table[0] = growing
    assert describe(table) == "{0: 1...<RuntimeError raised>}"
    items: list[object] = []

    class Endless:
        def __repr__(self) -> str:
            items.append(self)
            return ""

    items.append(Endless())
    assert describe(items, 20) == "[, , , , , , , , ..."


def test_fields_that_raise() -> None:
    # O5
    point = Point(1, [2])
    del point.y
    del type(point).y
    try:
        assert describe([point]) == "[Point(x=1...<AttributeError raised>)]"
    finally:
        Point.y = 0


@pytest.mark.parametrize("error", RAISED, ids=repr)
def test_a_property_that_raises(error: BaseException) -> None:
    # O5
    @dataclass
    class Owner:
        a: int
        b: int

    one = Owner(1, 2)
    Owner.b = property(refuse(error))  # type: ignore[assignment]
    assert describe(one).endswith(f"Owner(a=1...<{type(error).__name__} raised>)")


def test_a_field_that_a_subclass_hides_stays_hidden() -> None:
    # O5: found by reading: as its repr does
    @dataclass
    class Base:
        name: str

    @dataclass(repr=False)
    class Login(Base):
        password: str

    assert describe(Login("joe", "1234")) == repr(Login("joe", "1234"))
    assert "1234" not in describe(Login("joe", "1234"))


def test_a_dataclass_with_a_repr_of_its_own() -> None:
    # O5
    @dataclass
    class Own:
        x: int

        def __repr__(self) -> str:
            return f"own {self.x}"

    assert describe(Own(3)) == "own 3"


def test_what_only_looks_like_a_dataclass() -> None:
    # O5: found by reading: `python -c` and doctests have no file either
    spot: dict[str, Any] = {}
    exec(
        "import functools\n"
        "class Spot:\n"
        "    @functools.wraps(object.__repr__)\n"
        "    def plain(self): return 'plain'\n"
        "    @functools.wraps(plain)\n"
        "    def __repr__(self): return 'spot'\n",
        spot,
    )
    assert describe(spot["Spot"]()) == "spot"


def test_an_evil_metaclass() -> None:
    # O5
    class Meta(type):
        """Nothing can be asked of its classes."""

        def __getattribute__(cls, name: str) -> NoReturn:
            raise SystemExit

        def __repr__(cls) -> str:
            return "the class"

    class Untouchable(metaclass=Meta):
        def __getattribute__(self, name: str) -> NoReturn:
            raise SystemExit

        def __repr__(self) -> str:
            return "untouchable"

    assert type_name(Untouchable()) == "Untouchable"
    assert describe(Untouchable()) == "untouchable"
    assert describe(Untouchable) == "the class"
    assert describe([Untouchable()]) == "[untouchable]"


def test_type_names() -> None:
    # O5
    assert type_name(3) == "int"
    assert type_name(OwnError()) == "OwnError"
    assert type_name(int) == "type"
    text = evil(ValueError("no"), "__str__", "__add__", "__format__", base=str)
    named = type("Named", (Exception,), {})
    named.__name__ = text("Other")
    assert type(type_name(named())) is str
    assert describe(named(1)) == "Other(1)"
    point: Any = dataclass(type("Named", (), {}))
    point.__qualname__ = text("Another")
    assert describe(point()) == "Another()"


class Strange:
    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


class Failing:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __repr__(self) -> NoReturn:
        raise self.error


strange = st.builds(Strange, st.text(max_size=300)) | st.builds(Failing, st.sampled_from(RAISED))
anything = st.recursive(hashable | strange, containers, max_leaves=20)


@given(anything, st.integers(-1, 250))
@example(Strange("\r\n\t\x00\x1b[31m\u2028\ud800\xa0"), 200)
@example(Strange("\n" * 300), 200)
def test_whatever_it_is_it_is_one_short_printable_line(value: object, limit: int) -> None:
    # O5
    found = describe(value, limit)
    assert type(found) is str
    assert len(found) <= max(limit, 0)
    assert found.isprintable()
    found.encode()


# --- shorten ----------------------------------------------------------------------------------


@given(st.text(st.characters(), max_size=60), st.integers(-1, 60))
@example("\n", 2)
@example("\n", 1)
@example("a\ud800", 60)
def test_shorten(text: str, limit: int) -> None:
    # O5
    found = shorten(text, limit)
    escaped = "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )
    if len(escaped) <= limit:
        assert found == escaped
    else:
        assert len(found) == max(limit, 0)
        assert found == "..."[: max(limit, 0)] or found == escaped[: limit - 3] + "..."


def test_a_huge_text_takes_no_time() -> None:
    # O5
    text = "\x00" * 10**8
    begin = time.perf_counter()
    assert shorten(text, 9) == r"\x00\x..."
    assert time.perf_counter() - begin < 0.2


def test_no_recursion_at_all() -> None:
    # O5: it must work where the stack is almost used up
    value: object = 1
    for _ in range(100):
        value = [value]

    def at_the_brink(depth: int) -> str:
        return describe(value) if not depth else at_the_brink(depth - 1)

    limit = sys.getrecursionlimit()
    here = len(list(frames()))
    assert at_the_brink(limit - here - 30).startswith("[[[[")


def frames() -> Iterator[object]:
    frame = sys._getframe(1)
    found: Any = frame
    while found is not None:
        yield found
        found = found.f_back
