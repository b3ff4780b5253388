"""The codec: what is sent is what arrives, or an error to the sender that names it (P4, P6)."""

from __future__ import annotations

import array
import contextlib
import ctypes
import math
import pickle
import struct
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from actorvisor._core._messages import Completed, Crashed, Killed
from actorvisor._errors import RemoteError, RemoteTraceback, ServiceCrashed, ServiceStopped
from actorvisor.bridge import _memory
from actorvisor.bridge._wire import _codec
from actorvisor.bridge._wire._codec import LARGE_BUFFER, Codec, Draft, split
from actorvisor.bridge._wire._frames import MAX_PAYLOAD
from tests.bridge.parcels import (
    Array,
    Bad,
    ExitsInText,
    ExitsWhenLoaded,
    Frozen,
    HasLock,
    IsNone,
    LoudNorPickle,
    LoudText,
    NeedsTwo,
    NoText,
    NoTextNorPickle,
    Refused,
    Unloadable,
    Unpicklable,
)

CODEC = Codec()


def arrive(sent: bytes | Draft, codec: Codec = CODEC) -> Any:
    """What the other end makes of it: by the memory beside the stream, if it goes there."""
    if isinstance(sent, bytes):
        assert len(sent) <= MAX_PAYLOAD
        return codec.decode(sent)
    assert len(sent.table) <= MAX_PAYLOAD
    return _memory.decode(codec, _memory.copy(sent))


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal, also in what they are and where nan is."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, dict):
        pairs = zip(one.items(), other.items(), strict=True)
        return len(one) == len(other) and all(same(a, b) for a, b in pairs)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, memoryview):
        faces = [(view.format, view.shape, view.readonly, view.tobytes()) for view in (one, other)]
        return faces[0] == faces[1]
    equal: bool = one == other
    return equal


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.binary().map(bytearray)
    | st.binary().map(Array)
    | st.sampled_from([int, ValueError, math.sin, Killed(-9), Completed(None)]),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.frozensets(st.integers())
    ),
    max_leaves=20,
)


# --- with cloudpickle, and without --------------------------------------------------------

CALLS: list[str] = []


def by_value(function: bytes) -> Callable[..., Any]:
    import marshal

    return types.FunctionType(marshal.loads(function), {"__builtins__": __builtins__})


class Pickler(pickle.Pickler):
    """What is left of cloudpickle for a test: functions are pickled by what they are made of."""

    def reducer_override(self, value: Any) -> Any:
        import marshal

        if isinstance(value, types.FunctionType) and "<lambda>" in value.__qualname__:
            return by_value, (marshal.dumps(value.__code__),)
        return NotImplemented


def fake_dumps(value: Any, protocol: int | None = None, buffer_callback: Any = None) -> bytes:
    import io

    CALLS.append(type(value).__name__)
    file = io.BytesIO()
    Pickler(file, protocol, buffer_callback=buffer_callback).dump(value)
    return file.getvalue()


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if cloudpickle were not installed."""
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    _codec.cloudpickle.cache_clear()
    yield
    _codec.cloudpickle.cache_clear()


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """As if it were."""
    module: Any = types.ModuleType("cloudpickle")
    module.dumps = fake_dumps
    monkeypatch.setitem(sys.modules, "cloudpickle", module)
    _codec.cloudpickle.cache_clear()
    CALLS.clear()
    yield CALLS
    _codec.cloudpickle.cache_clear()


# --- values -------------------------------------------------------------------------------


@given(VALUES)
def test_any_value(value: Any) -> None:
    # P4
    assert same(arrive(CODEC.encode(value, "a value")), value)
    assert same(CODEC.decode(CODEC.encode_whole(value, "a value")), value)


@given(st.text(), st.lists(VALUES, max_size=4), st.dictionaries(st.text(), VALUES, max_size=3))
def test_any_call(name: str, args: list[Any], kwargs: dict[str, Any]) -> None:
    # P4
    call = arrive(CODEC.encode_message(name, tuple(args), kwargs, "a call"))
    assert same(call, (name, tuple(args), kwargs) if kwargs else (name, tuple(args)))


def around(limit: int) -> list[int]:
    return [limit - 40, limit - 1, limit, limit + 1]


SIZES = [0, 1, 7, 64, 65, *around(MAX_PAYLOAD // 2), *around(MAX_PAYLOAD), *around(LARGE_BUFFER)]
PLAIN: list[Callable[[bytes], Any]] = [
    bytes,
    bytearray,
    memoryview,
    lambda data: memoryview(bytearray(data)),
    Array,
    lambda data: Array(bytearray(data)),
]


def content(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


@pytest.mark.parametrize("size", [*SIZES, 3 * LARGE_BUFFER + 5])
@pytest.mark.parametrize("kind", PLAIN)
def test_buffers_of_every_size(size: int, kind: Callable[[bytes], Any]) -> None:
    # P6: as a reply, an argument, a keyword, beside others and inside a list where that can be
    value, other = kind(content(size)), kind(content(5))
    sent = CODEC.encode(value, "a reply")
    assert same(arrive(sent), value)
    assert isinstance(sent, Draft) == (size >= LARGE_BUFFER or size > MAX_PAYLOAD - 200) or (
        abs(size - MAX_PAYLOAD) < 200
    )
    if size >= LARGE_BUFFER:
        # It is not copied through the pickle.
        assert isinstance(sent, Draft)
        assert len(sent.table) < 300
        assert size <= sent.size < size + 64
    for args, kwargs in (
        ((value, other, 1), {}),
        ((other,), {"key": value}),
        ((value,), {"key": value, "other": other}),
    ):
        call = arrive(CODEC.encode_message("m", args, kwargs, "a call"))
        assert same(call, ("m", args, kwargs) if kwargs else ("m", args))
    if not isinstance(value, memoryview):
        inside = [value, {"a": (other, value)}]
        assert same(arrive(CODEC.encode(inside, "a list")), inside)


@pytest.mark.parametrize("count", [1, 200_000])
@pytest.mark.parametrize("code", "bHqfd")
@pytest.mark.parametrize("shape", ["flat", "square", "point", "cut", "reversed", "columns"])
def test_the_shape_of_a_view(count: int, code: str, shape: str) -> None:
    # P6: type, format and shape; of one that is not in one piece, what it shows
    items = array.array(code, [number % 100 for number in range(count * 4)])
    view = memoryview(items)
    match shape:
        case "flat":
            pass
        case "square":
            view = view.cast("B").cast(code, (2, count * 2))  # type: ignore[call-overload]
        case "point":
            view = view[:1].cast("B").cast(code, ())  # type: ignore[call-overload]
        case "cut":
            view = view[::3]
        case "reversed":
            view = view[::-1]
        case _:
            view = view.cast("B").cast(code, (4, count))[1:3]  # type: ignore[call-overload]
    for got in (
        arrive(CODEC.encode(view, "a view")),
        arrive(CODEC.encode_message("m", (view,), {}, "a view"))[1][0],
        arrive(CODEC.encode_message("m", (), {"key": view}, "a view"))[2]["key"],
    ):
        assert type(got) is memoryview
        assert (got.format, got.shape, got.readonly) == (view.format, view.shape, view.readonly)
        assert got.tobytes() == view.tobytes()
        assert got.tolist() == view.tolist()


def test_a_read_only_view_stays_so() -> None:
    # P6: small and large
    for size in (10, LARGE_BUFFER):
        view = memoryview(content(size))
        got = arrive(CODEC.encode(view, "a view"))
        assert got.readonly
        assert same(got, view)
        writable = arrive(CODEC.encode(memoryview(bytearray(content(size))), "a view"))
        writable[0] = 7
        assert writable[0] == 7


def test_a_view_that_no_other_process_can_make() -> None:
    # P4: a format that a plain memoryview cannot have is an error to the sender
    view = memoryview((ctypes.c_int * 4)())
    assert view.format == "<i"
    with pytest.raises(TypeError, match=r"a call: <memory at .*> cannot be pickled: .*format"):
        CODEC.encode_message("m", (1, view), {}, "a call")
    view = memoryview(b"abc")
    view.release()
    with pytest.raises(TypeError, match=r"a view: .* cannot be pickled: .*released"):
        CODEC.encode(view, "a view")


@given(
    st.lists(
        st.tuples(st.sampled_from(PLAIN), st.sampled_from([3, 70, LARGE_BUFFER, LARGE_BUFFER + 1])),
        max_size=4,
    ),
    st.integers(0, 2),
)
def test_many_buffers_in_one_call(
    parts: list[tuple[Callable[[bytes], Any], int]], named: int
) -> None:
    # P6: each arrives as itself
    values = [kind(bytes([index + 1]) * size) for index, (kind, size) in enumerate(parts)]
    args, kwargs = tuple(values[named:]), {f"k{i}": v for i, v in enumerate(values[:named])}
    call = arrive(CODEC.encode_message("m", args, kwargs, "a call"))
    assert same(call, ("m", args, kwargs) if kwargs else ("m", args))


def test_a_pickle_that_is_too_large_for_a_frame() -> None:
    # P3: it goes beside the stream, and so does what is between a frame's half and a frame, if
    # it has large buffers
    for size in (MAX_PAYLOAD // 2, MAX_PAYLOAD - 60, MAX_PAYLOAD + 1, 5 * MAX_PAYLOAD):
        for value in ("x" * size, ["x" * size, Array(bytearray(LARGE_BUFFER))]):
            sent = CODEC.encode(value, "a text")
            assert arrive(sent) == value
            assert isinstance(sent, Draft) == (len(value) == 2 or size > MAX_PAYLOAD)
            if isinstance(sent, Draft):
                assert len(sent.table) <= MAX_PAYLOAD // 2 + 100


# --- what cannot be pickled ---------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [ValueError("not me"), SystemExit(3), GeneratorExit(), Bad(), LoudText(), Frozen("no")]
)
@pytest.mark.usefixtures("without")
def test_what_cannot_be_pickled_is_named(error: BaseException) -> None:
    # P4: to the sender, as a TypeError, whatever pickling raises
    culprit = Unpicklable(error)
    for encode in (CODEC.encode, CODEC.encode_whole):
        with pytest.raises(
            TypeError, match=r"a reply: <the culprit> cannot be pickled: "
        ) as caught:
            encode(culprit, "a reply")
        assert caught.value.__cause__ is error
    other = Unpicklable(error, "another")
    for args, kwargs in (((1, culprit, other), {}), ((1,), {"a": 2, "b": culprit})):
        with pytest.raises(TypeError, match=r"a call: <the culprit> cannot be pickled: ") as caught:
            CODEC.encode_message("m", args, kwargs, "a call")
    with pytest.raises(TypeError, match=r"a call: <the culprit> cannot be pickled: "):
        CODEC.encode_message("m", (bytes(LARGE_BUFFER), culprit), {"a": bytearray(5)}, "a call")
    with pytest.raises(TypeError, match=r"a call: \[1, <the culprit>\] cannot be pickled: "):
        CODEC.encode_message("m", ([1, culprit],), {}, "a call")


def test_a_ctrl_c_while_it_is_pickled() -> None:
    # M9: it is the user's, and no matter of what is pickled
    with pytest.raises(KeyboardInterrupt):
        CODEC.encode(Unpicklable(KeyboardInterrupt()), "a value")
    with pytest.raises(KeyboardInterrupt):
        arrive(CODEC.encode(Unloadable(KeyboardInterrupt), "a value"))


def test_bounded_words() -> None:
    # O5
    big = Unpicklable(ValueError("y" * 100_000), "x" * 100_000)
    with pytest.raises(TypeError) as caught:
        CODEC.encode(big, "a value")
    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize("kind", [ValueError, SystemExit, GeneratorExit, NeedsTwo])
def test_what_does_not_load(kind: type[BaseException]) -> None:
    # P4: that is an Exception, which concerns the message alone
    sent = CODEC.encode(Unloadable(kind), "a value")
    assert isinstance(sent, bytes)
    with pytest.raises(Exception, match=r"while it was loaded|missing 1 required") as caught:
        CODEC.decode(sent)
    assert isinstance(caught.value, Exception)
    large = CODEC.encode([Unloadable(kind), bytearray(LARGE_BUFFER)], "a value")
    with pytest.raises(Exception, match=r"while it was loaded|missing 1 required"):
        arrive(large)


@given(st.binary(max_size=100))
@example(b"")
@example(pickle.dumps([1, 2])[:-1])
def test_garbage_does_not_load(data: bytes) -> None:
    # P4: an Exception at most
    for decode in (CODEC.decode, CODEC.decode_error):
        with contextlib.suppress(Exception):
            decode(data)


def test_an_array_that_is_not_in_one_piece() -> None:
    # P4: pickle does not take it, nor do we
    view = memoryview(bytearray(4 * LARGE_BUFFER))[::2]
    with pytest.raises(TypeError, match=r"an array: .*Array object.* cannot be pickled"):
        CODEC.encode(Array(view), "an array")


# --- cloudpickle --------------------------------------------------------------------------


@pytest.mark.usefixtures("without")
def test_without_cloudpickle() -> None:
    # P4: the error says what would help
    assert _codec.cloudpickle() is None
    for codec in (CODEC, Codec(by_value=True)):
        with pytest.raises(TypeError, match=r"<lambda>.*; installing cloudpickle helps"):
            codec.encode_message("m", (lambda: 1,), {}, "a call")
        assert arrive(codec.encode(5, "a value")) == 5


def test_with_cloudpickle(installed: list[str]) -> None:
    # P4: it pickles what pickle refuses, and is not asked about anything else
    assert arrive(CODEC.encode([1, b"x"], "a value")) == [1, b"x"]
    assert installed == []
    found = arrive(CODEC.encode_message("m", (2, lambda x: x + 1), {}, "a call"))
    assert found[1][1](5) == 6
    assert installed == ["tuple"]
    with pytest.raises(TypeError, match="<the culprit> cannot be pickled: no") as caught:
        CODEC.encode(Unpicklable(ValueError("no")), "a value")
    assert "installing" not in str(caught.value)


def test_cloudpickle_first(installed: list[str]) -> None:
    # P4: where the other end could not import what is defined here
    codec = Codec(by_value=True)
    assert arrive(codec.encode([1], "a value")) == [1]
    assert installed == ["list"]
    assert arrive(codec.encode(bytearray(LARGE_BUFFER), "a value")) == bytearray(LARGE_BUFFER)
    assert codec.decode(codec.encode_whole((1,), "a value")) == (1,)
    with pytest.raises(TypeError, match="<the culprit> cannot be pickled: no"):
        codec.encode(Unpicklable(ValueError("no")), "a value")
    assert str(codec.decode_error(codec.encode_error(ValueError("x"), ""))) == "x"
    assert installed == ["list", "_Plain", "tuple", "Unpicklable", "ValueError"]


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.usefixtures("installed")
def test_large_buffers_with_cloudpickle(first: bool) -> None:
    # P6: the buffers of what pickle gave up are not taken for those of what cloudpickle made
    codec = Codec(by_value=first)
    one, two = bytearray(b"1" * LARGE_BUFFER), Array(bytearray(b"2" * LARGE_BUFFER))
    sent = codec.encode_message("m", (one, two, lambda: 3), {"k": two}, "a call")
    _, args, kwargs = arrive(sent, codec)
    assert args[:2] == (one, two)
    assert args[2]() == 3
    assert kwargs == {"k": two}
    assert isinstance(sent, Draft)
    assert sent.size == 2 * LARGE_BUFFER  # the same object twice is one


# --- tables that lie ----------------------------------------------------------------------


@given(
    st.booleans(),
    st.integers(0, 2**32 - 1) | st.integers(0, 4),
    st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 300), max_size=4),
    st.binary(max_size=20),
    st.integers(0, 500),
    st.integers(0, 60),
)
def test_tables_that_lie(
    aside: bool, count: int, sizes: list[int], head: bytes, memory: int, cut: int
) -> None:
    # P2: what a table says is believed only where it fits
    table = struct.pack("=?I", aside, count) + struct.pack(f"={len(sizes)}Q", *sizes) + head
    table = table[: len(table) - cut] if cut < len(table) else b""
    space = memoryview(content(memory))
    with contextlib.ExitStack() as stack:
        fits = len(table) >= 5 + 8 * count and count >= aside
        if fits:
            claimed = struct.unpack_from(f"={count}Q", table, 5)
            fits = sum(-(-size // 64) * 64 for size in claimed) <= memory
        if not fits:
            stack.enter_context(pytest.raises(ValueError, match=r"table of|sections of"))
        found, sections = split(table, space)
    if not fits:
        return
    everything = [found, *sections] if aside else sections
    assert [section.nbytes for section in everything] == list(claimed)
    position = 0
    for section in everything:
        assert section == space[position : position + section.nbytes]
        position += -(-section.nbytes // 64) * 64
    assert position <= memory
    if not aside:
        assert bytes(found) == table[5 + 8 * count :]


@pytest.mark.parametrize(
    ("table", "text"),
    [
        (b"", "a table of 0 bytes"),
        (b"\0\0\0", "a table of 3 bytes"),
        (struct.pack("=?I", True, 0), "says that it has 0 sections"),
        (struct.pack("=?IQ", False, 2, 1), "says that it has 2 sections"),
        (struct.pack("=?I", False, 2**32 - 1), "says that it has 4294967295 sections"),
        (struct.pack("=?IQ", False, 1, 65), "sections of 65 bytes in 64 bytes of memory"),
        (struct.pack("=?IQ", True, 1, 2**64 - 1), "in 64 bytes of memory"),
        (struct.pack("=?IQQ", False, 2, 2**64 - 1, 2**64 - 1), "in 64 bytes of memory"),
    ],
)
def test_a_table_that_does_not_fit(table: bytes, text: str) -> None:
    # P2
    with pytest.raises(ValueError, match=text):
        CODEC.decode(table, memoryview(bytes(64)))


def test_what_did_not_come_along() -> None:
    # P2: a frame whose descriptor is missing concerns its message
    with pytest.raises(OSError, match="did not come with it"):
        _memory.decode(CODEC, _memory.Bulk(b"\0\0\0\0\0", -1))


# --- exceptions ---------------------------------------------------------------------------


def over(error: BaseException, traceback_text: str = "", codec: Codec = CODEC) -> BaseException:
    payload = codec.encode_error(error, traceback_text)
    assert len(payload) <= MAX_PAYLOAD
    return codec.decode_error(payload)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a", 1),
        KeyError("k"),
        Refused(7, "closed"),
        ServiceStopped("host/s", Killed(-9)),
        SystemExit(3),
        KeyboardInterrupt(),
        ExceptionGroup("several", [ValueError("a")]),
        Frozen("x"),
        NoText("a"),
        LoudText("a"),
    ],
)
def test_an_exception_that_can_be_brought_over(error: BaseException) -> None:
    # P2, P4, M9: as itself, the traceback of its process as its cause
    found = over(error, "Traceback ...")
    assert type(found) is type(error)
    assert repr(found.args) == repr(error.args)
    assert isinstance(found.__cause__, RemoteTraceback)
    assert found.__cause__.traceback_text == "Traceback ..."
    assert over(error).__cause__ is None
    if isinstance(error, Refused):
        assert isinstance(found, Refused)
        assert (found.code, found.why) == (7, "closed")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (HasLock("locked"), "HasLock: locked"),
        (NeedsTwo("a", "b"), "NeedsTwo: a and b"),
        (NoTextNorPickle("a"), "NoTextNorPickle: NoTextNorPickle('a')"),
        (ExitsInText("a"), "ExitsInText: ExitsInText('a')"),
        (ExitsWhenLoaded("a"), "ExitsWhenLoaded: a"),
        (IsNone("a"), "IsNone: a"),
        (LoudNorPickle("a"), "LoudNorPickle: a text"),
        (
            ExceptionGroup("several", [HasLock("locked")]),
            "ExceptionGroup: several (1 sub-exception)",
        ),
    ],
)
def test_an_exception_that_cannot(error: BaseException, text: str) -> None:
    # P4: as the name of its type, its text, and the text of its traceback
    for found in (over(error, "Traceback ..."), over(error, "Traceback ...", Codec(True))):
        assert type(found) is RemoteError
        assert str(found) == text
        assert found.type_name == type(error).__qualname__
        assert found.traceback_text == "Traceback ..."


@pytest.mark.parametrize("letter", ["x", "\N{SNOWMAN}", "\N{PILE OF POO}", "\ud800"])
@pytest.mark.parametrize("size", [100, MAX_PAYLOAD // 2 - 60, MAX_PAYLOAD])
def test_an_exception_of_any_size_fits_a_frame(letter: str, size: int) -> None:
    # P3, P4: none may break the connection
    width = len(letter.encode(errors="surrogatepass"))
    error = ValueError(letter * (size // width))
    traceback_text = "first" + letter * 300_000 + "last"
    found = over(error, traceback_text)
    cause: Any = found if isinstance(found, RemoteError) else found.__cause__
    assert cause.traceback_text.endswith("last")
    assert len(cause.traceback_text) >= 10_000
    assert isinstance(found, RemoteError) == (size == MAX_PAYLOAD)
    if isinstance(found, RemoteError):
        assert found.text == letter * 10_000
    else:
        assert found.args == error.args
    wide = type("Wide" * 100_000, (ValueError,), {})
    assert len(str(over(wide("x"), traceback_text))) < 1_000


@pytest.mark.parametrize("inner", [ValueError("a"), HasLock("locked"), NeedsTwo("a", "b")])
def test_what_an_asker_gets_of_a_crash(inner: Exception) -> None:
    # M5, P4: the user's own exception is the cause, or what stands for it
    crash = ServiceCrashed("host/s", Crashed(inner, "Traceback of the crash"))
    found = over(crash, "Traceback of the raise")
    assert isinstance(found, ServiceCrashed)
    assert found.path == "host/s"
    assert isinstance(found.reason, Crashed)
    assert found.reason.traceback_text == "Traceback of the crash"
    assert found.__cause__ is found.reason.exception
    if type(inner) is ValueError:
        assert type(found.__cause__) is ValueError
        assert found.__cause__.args == ("a",)
    else:
        assert type(found.__cause__) is RemoteError
        assert str(found.__cause__) == f"{type(inner).__qualname__}: {inner}"
    killed = over(ServiceCrashed("host/s", Killed(-9)), "Traceback")
    assert isinstance(killed, ServiceCrashed)
    assert killed.reason == Killed(-9)
    assert isinstance(killed.__cause__, RemoteTraceback)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a"),
        HasLock("locked"),
        NeedsTwo("a", "b"),
        NoText(),
        NoTextNorPickle(),
        ExitsInText(),
        ExitsWhenLoaded("a"),
        IsNone("a"),
        LoudText(),
        Frozen("a"),
    ],
)
def test_a_reason_arrives_whatever_it_was(error: BaseException) -> None:
    # P4, L2: what cannot be brought over does not keep the rest of a message from it
    made: list[str] = []

    def text() -> str:
        made.append("made")
        return "Traceback ..."

    for sent in (Crashed(error, text), Crashed(error, "Traceback ...")):
        before, found, after = arrive(CODEC.encode((1, sent, 2), "a notification"))
        assert (before, after) == (1, 2)
        assert isinstance(found, Crashed)
        assert found.traceback_text == "Traceback ..."
        if type(found.exception) is RemoteError:
            assert found.exception.type_name == type(error).__qualname__
            assert found.exception.traceback_text == "Traceback ..."
        else:
            assert type(found.exception) is type(error)
        assert repr(arrive(CODEC.encode(found, "on its way again"))) == repr(found)
    assert made == ["made"]
