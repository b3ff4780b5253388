"""The codec: objects to bytes, and back; what is large goes beside the stream (P4, P6)."""

from __future__ import annotations

import contextlib
import functools
import importlib
import pickle
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, Final

from ..._core._describe import describe, shorten
from ..._core._messages import Crashed, text_of
from ..._errors import RemoteError, RemoteTraceback, ServiceCrashed
from ._frames import MAX_PAYLOAD

LARGE_BUFFER: Final = 1 << 20
"""Bytes from which on a buffer is not copied through the pickle."""

_ALIGNMENT: Final = 64
_COUNT: Final = struct.Struct("=?I")
_COPIED: Final = (bytes, bytearray)
_PLAIN: Final = (*_COPIED, memoryview)
_TRACEBACK: Final = 20_000
"""Characters: with text and pickle it fits a frame, even if each takes four bytes."""

_pickle: Final = pickle.dumps
_unpickle: Final = pickle.loads
_set_cause: Final[Any] = BaseException.__dict__["__cause__"].__set__


class Draft:
    """What was encoded and is too large for a frame: it has to be copied beside the stream.

    Attributes:
        table: the payload of its frame.
        sections: what is to be copied, in order.
        size: bytes that the copy takes.
    """

    def __init__(self, head: bytes, sections: list[memoryview]) -> None:
        aside = len(head) > MAX_PAYLOAD // 2
        if aside:
            sections = [memoryview(head), *sections]
            head = b""
        sizes = [section.nbytes for section in sections]
        self.sections: list[memoryview] = sections
        self.table: bytes = (
            _COUNT.pack(aside, len(sizes)) + struct.pack(f"={len(sizes)}Q", *sizes) + head
        )
        self.size: int = sum(map(_aligned, sizes))

    def offsets(self) -> list[int]:
        """Where each section begins."""
        return _offsets([section.nbytes for section in self.sections])


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _offsets(sizes: Sequence[int]) -> list[int]:
    offsets, position = [], 0
    for size in sizes:
        offsets.append(position)
        position += _aligned(size)
    return offsets


class _Plain:
    """A large bytes-like object on its way: pickle would copy it."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes | bytearray | memoryview) -> None:
        self._value = value

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        value = self._value
        if type(value) is memoryview:
            # Its shape and format are for it alone to know. What the other end cannot give it
            # again is refused here.
            memoryview(bytes(value.itemsize)).cast(value.format)  # type: ignore[call-overload]
            flat: Any
            if value.c_contiguous:
                flat = value.cast("B")
            else:
                flat = bytes(value) if value.readonly else bytearray(value)
            return _view, (pickle.PickleBuffer(flat), value.format, value.shape)
        return type(value), (pickle.PickleBuffer(value),)


def _view(buffer: Any, format_: str, shape: tuple[int, ...]) -> memoryview:
    view: Any = memoryview(buffer)
    found: memoryview = view.cast(format_) if len(shape) == 1 else view.cast(format_, shape)
    return found


@functools.cache
def cloudpickle() -> ModuleType | None:
    """The library that pickles what pickle refuses, if it is installed."""
    try:
        return importlib.import_module("cloudpickle")
    except ImportError:
        return None


def main_is_importable() -> bool:
    """Whether another process can import this one's ``__main__``; not a notebook's."""
    main = sys.modules.get("__main__")
    if getattr(main, "__spec__", None) is not None:
        return True
    path = getattr(main, "__file__", None)
    return isinstance(path, str) and not path.startswith("<")


def check_reach(target: object, what: str) -> None:
    """Refuse what another process could not find.

    Raises:
        TypeError: it is defined in a program that has no file, and nothing pickles it by value.
    """
    if (
        getattr(target, "__module__", None) == "__main__"
        and not main_is_importable()
        and cloudpickle() is None
    ):
        raise TypeError(
            f"{what}: {describe(target)} is defined in a program that has no file, which another "
            "process cannot import; put it into a module, or install cloudpickle"
        )


def _refuse(what: str, value: object, error: BaseException) -> TypeError:
    remedy = "" if cloudpickle() else "; installing cloudpickle helps with functions and classes"
    return TypeError(
        f"{what}: {describe(value)} cannot be pickled: {shorten(text_of(error), 300)}{remedy}"
    )


def show_cause(error: BaseException, cause: BaseException) -> None:
    """Set the cause of an exception, also of one that lets nothing be set (a frozen dataclass)."""
    _set_cause(error, cause)


def _dumps(value: object, what: str, first: bool, kept: list[memoryview] | None) -> bytes:
    """Pickle, by cloudpickle what pickle refuses.

    Args:
        value: what is pickled.
        what: what it is, for errors.
        first: whether to try cloudpickle first.
        kept: where large buffers go; None: they are pickled like the rest.
    """

    def stays(buffer: pickle.PickleBuffer) -> bool:
        """Whether it is pickled like the rest."""
        try:
            raw = buffer.raw()
        except BufferError:  # it is not in one piece
            return True
        if kept is None or raw.nbytes < LARGE_BUFFER:
            return True
        kept.append(raw)
        return False

    packed, keep = value, None
    if kept is not None:
        keep = stays
        if type(value) in _PLAIN and _is_large(value):  # type: ignore[arg-type]
            packed = _Plain(value)  # type: ignore[arg-type]
    by_value = cloudpickle()
    try:
        if first and by_value is not None:
            return by_value.dumps(packed, 5, keep)  # type: ignore[no-any-return]
        return pickle.dumps(packed, 5, buffer_callback=keep)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a `__reduce__` can raise SystemExit, too
        if by_value is not None and not first:
            if kept:
                kept.clear()  # those of the first try
            with contextlib.suppress(Exception):  # what pickle itself says of it tells more
                return by_value.dumps(packed, 5, keep)  # type: ignore[no-any-return]  # noqa: ASYNC104
        raise _refuse(what, value, error) from error  # noqa: ASYNC104


def _no_buffer(buffer: pickle.PickleBuffer) -> bool:
    """In the stead of what looks at buffers: there hardly are any."""
    raise BufferError


def _quick(value: object) -> bytes | None:
    """The pickle of what is small and has no buffers; None: `_dumps` knows more.

    That is nearly all there is: no look at buffers takes half the time. What goes wrong here goes
    wrong there again, and is told there.
    """
    try:
        head = _pickle(value, 5, buffer_callback=_no_buffer)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: ASYNC103
        return None  # noqa: ASYNC104
    return head if len(head) <= MAX_PAYLOAD else None


def _not_exit(error: BaseException) -> RuntimeError:
    """What stands for a `SystemExit` and the like: it concerns what is decoded alone (P4)."""
    return RuntimeError(f"{describe(error)} was raised while it was unpickled")


class Codec:
    """Encodes what a process sends, decodes what it gets.

    Args:
        by_value: whether to pickle by cloudpickle at once, since the other end could not import
            what is defined in this one's ``__main__``.
    """

    def __init__(self, by_value: bool = False) -> None:
        self._by_value = by_value

    def encode(self, value: object, what: str) -> bytes | Draft:
        """Encode a value.

        Args:
            value: what is sent.
            what: what it is, for errors.

        Raises:
            TypeError: it cannot be pickled.
        """
        if type(value) not in _PLAIN and not self._by_value:
            quick = _quick(value)
            if quick is not None:
                return quick
        return self._encode(value, what)

    def _encode(self, value: object, what: str) -> bytes | Draft:
        buffers: list[memoryview] = []
        head = _dumps(value, what, self._by_value, buffers)
        if buffers or len(head) > MAX_PAYLOAD:
            return Draft(head, buffers)
        return head

    def encode_whole(self, value: object, what: str) -> bytes:
        """Encode a value, whatever its size.

        Raises:
            TypeError: it cannot be pickled.
        """
        return _dumps(value, what, self._by_value, None)

    def encode_message(
        self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], path: str
    ) -> bytes | Draft:
        """Encode a call.

        Args:
            name: of the method.
            args: what it is called with.
            kwargs: what it is called with.
            path: who gets it, for errors.

        Raises:
            TypeError: something in it cannot be pickled; it is named.
        """
        message: tuple[Any, ...] = (name, args, kwargs) if kwargs else (name, args)
        if not self._by_value:
            for arg in (*args, *kwargs.values()) if kwargs else args:
                if type(arg) in _COPIED and len(arg) >= LARGE_BUFFER:
                    break
            else:
                try:  # as `_quick`, without another call: it is on the way of every message
                    head = _pickle(message, 5, buffer_callback=_no_buffer)
                    if len(head) <= MAX_PAYLOAD:
                        return head
                except KeyboardInterrupt:
                    raise
                except BaseException:  # it is told below  # noqa: ASYNC103
                    pass
        message = (name, tuple(map(_aside, args)))
        if kwargs:
            message += ({key: _aside(one) for key, one in kwargs.items()},)
        what = f"{name} for {path}"
        try:
            return self._encode(message, what)
        except TypeError:
            for value in (*args, *kwargs.values()):
                self.encode(value, what)  # the one that cannot be pickled is named
            raise

    def decode(self, payload: bytes, memory: memoryview | None = None) -> Any:
        """Decode a value.

        Args:
            payload: of its frame.
            memory: what came beside the stream, or None.

        Raises:
            Exception: whatever unpickling raises.
        """
        try:
            if memory is None:
                return _unpickle(payload)
            head, buffers = split(payload, memory)
            return pickle.loads(head, buffers=buffers)
        except (Exception, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise _not_exit(error) from error  # noqa: ASYNC104

    def encode_error(self, error: BaseException, traceback_text: str) -> bytes:
        """Encode an exception so that it can be read, whatever it is."""
        try:
            pickled = _dumps(error, "", self._by_value, None)
            if len(pickled) > MAX_PAYLOAD // 2:
                pickled = b""
        except TypeError:
            pickled = b""
        name, text = shorten(type(error).__qualname__), text_of(error)
        return pickle.dumps((pickled, name, text, traceback_text[-_TRACEBACK:]), 5)

    def decode_error(self, payload: bytes) -> BaseException:
        """The exception that was encoded, its traceback as its cause, or a `RemoteError`."""
        pickled, name, text, traceback_text = self.decode(payload)
        try:
            error: object = self.decode(pickled)
        except Exception:
            error = None
        if not isinstance(error, BaseException):
            return RemoteError(name, text, traceback_text)
        if isinstance(error, ServiceCrashed) and isinstance(error.reason, Crashed):
            show_cause(error, error.reason.exception)
        elif traceback_text:
            show_cause(error, RemoteTraceback(traceback_text))
        return error


def _aside(value: object) -> object:
    """The same, or what has it go beside the stream."""
    return _Plain(value) if type(value) in _PLAIN and _is_large(value) else value  # type: ignore[arg-type]


def _is_large(value: bytes | bytearray | memoryview) -> bool:
    """Whether it is not to be copied through the pickle; a view cannot be, however small."""
    return type(value) is memoryview or len(value) >= LARGE_BUFFER


def split(table: bytes, memory: memoryview) -> tuple[memoryview, list[memoryview]]:
    """The pickle and the buffers of what came beside the stream.

    Raises:
        ValueError: the table does not fit the memory.
    """
    begin = _COUNT.size
    if len(table) < begin:
        raise ValueError(f"a table of {len(table)} bytes")
    aside, count = _COUNT.unpack_from(table)
    end = begin + 8 * count
    if end > len(table) or aside > count:
        raise ValueError(f"a table of {len(table)} bytes says that it has {count} sections")
    sizes = struct.unpack(f"={count}Q", table[begin:end])
    if sum(map(_aligned, sizes)) > memory.nbytes:
        raise ValueError(f"sections of {sum(sizes)} bytes in {memory.nbytes} bytes of memory")
    sections = [
        memory[offset : offset + size] for offset, size in zip(_offsets(sizes), sizes, strict=True)
    ]
    if aside:
        return sections[0], sections[1:]
    return memoryview(table)[end:], sections
