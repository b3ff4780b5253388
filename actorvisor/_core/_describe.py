"""Bounded, safe text for what users hand in: logs, errors, dead letters and trees all use it (O5).

A message can be a million elements long, and its ``repr`` can raise, exit or lie. Neither may
break what only wanted to mention it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import Field, fields
from typing import Any, Final, TypeAlias

LIMIT: Final = 200
"""Characters of a description, unless said otherwise."""

# A container, taken apart lazily: what opens it, its parts, each with the text before it, and
# what closes it.
_Parts: TypeAlias = tuple[str, Iterator[tuple[str, object]], str]

# Python's own descriptors: a metaclass or a subclass can override what a plain look-up finds.
_NAME: Final[Any] = type.__dict__["__name__"]
_QUALNAME: Final[Any] = type.__dict__["__qualname__"]
_ARGS: Final[Any] = BaseException.__dict__["args"]
_MEMBERS: Final[Any] = BaseExceptionGroup.__dict__["exceptions"]
_MAXLEN: Final[Any] = deque.__dict__["maxlen"]


def describe(value: object, limit: int = LIMIT) -> str:
    """What ``repr`` says, on one printable line of at most ``limit`` characters.

    What is longer ends in ``...``. Of builtin containers, exceptions and dataclasses no more is
    looked at than is shown. A ``repr`` that raises is told as such, in its place.

    Whatever a ``repr`` raises stays here, `SystemExit` and `GeneratorExit` too: they come from
    code that nobody asked to run, and cannot mean the caller. Only a `KeyboardInterrupt`, bare or
    in a group, passes: it comes from the keyboard, wherever it happened to strike.

    Example:
        >>> describe([1, 2, 3])
        '[1, 2, 3]'
        >>> describe("x" * 1_000_000, limit=10)
        "'xxxxxx..."
    """
    limit = max(limit, 0)
    text: list[str] = []
    room = limit
    # What is open, innermost last: the parts to come, what closes it, and the object itself, so
    # that nothing else gets its id.
    stack: list[tuple[Iterator[tuple[str, object]], str, object]]
    stack = [(iter([("", value)]), "", None)]
    within: set[int] = set()
    while stack and room >= 0:
        parts, closing, container = stack[-1]
        try:
            part = next(parts, None)
        except BaseException as error:  # noqa: ASYNC103
            _let_interrupts_pass(error)
            part = None
            closing = f"...<{type_name(error)} raised>{closing}"
        if part is None:
            stack.pop()
            within.discard(id(container))
            said = closing
        else:
            before, inner = part
            opened = _open(inner, limit)
            if opened is None:
                said = before + _leaf(inner, limit)
            elif id(inner) in within:
                said = f"{before}{opened[0]}...{opened[2][-1:]}"
            else:
                within.add(id(inner))
                stack.append((opened[1], opened[2], inner))
                said = before + opened[0]
        text.append(said)
        room -= len(said)
    return shorten("".join(text), limit)


def shorten(text: str, limit: int = LIMIT) -> str:
    """A text on one printable line of at most ``limit`` characters; what is longer ends in ``...``.

    Line ends, control characters, lone surrogates and the like are escaped, so that the line can
    be written to any terminal or log.
    """
    limit = max(limit, 0)
    line = text[: limit + 1]
    if not line.isprintable():
        line = "".join(map(_printable, line))
    if len(line) <= limit:
        return line
    return (line[: max(limit - 3, 0)] + "...")[:limit]


def type_name(value: object) -> str:
    """The name of a value's class; it never raises either."""
    return str.__str__(_NAME.__get__(type(value)))


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")


def _leaf(value: object, limit: int) -> str:
    try:
        # A subclass of str can override what is done with it next.
        return str.__str__(repr(value))[: limit + 1]
    except BaseException as error:  # noqa: ASYNC103
        _let_interrupts_pass(error)
        return f"<{type_name(value)}: repr raised {type_name(error)}>"  # noqa: ASYNC104


def _let_interrupts_pass(error: BaseException) -> None:
    errors = [error]
    while errors:
        one = errors.pop()
        # Not isinstance: it also asks the object, which may have its own opinion.
        if issubclass(type(one), KeyboardInterrupt):
            raise error
        if issubclass(type(one), BaseExceptionGroup):
            errors.extend(_MEMBERS.__get__(one))


def _open(value: object, limit: int) -> _Parts | None:
    """Take a container apart, if how it prints is known; None: it is a leaf."""
    try:
        printer = type(value).__repr__
        opener = _OPENERS.get(printer)
        if opener is not None:
            return opener(value, limit)
        if _is_generated(printer):
            return _dataclass(value, printer)
    except BaseException as error:  # noqa: ASYNC103
        _let_interrupts_pass(error)
    return None


# Every opener reads by the base class's own methods, whatever a subclass makes of them.


def _listed(items: Iterable[object]) -> Iterator[tuple[str, object]]:
    before = ""
    for item in items:
        yield before, item
        before = ", "


def _list(value: list[object], limit: int) -> _Parts:
    return "[", _listed(list.__iter__(value)), "]"


def _tuple(value: tuple[object, ...], limit: int) -> _Parts:
    return "(", _listed(tuple.__iter__(value)), ",)" if tuple.__len__(value) == 1 else ")"


def _set(value: set[object], limit: int) -> _Parts | None:
    if not set.__len__(value):
        return None
    if type(value) is set:
        return "{", _listed(set.__iter__(value)), "}"
    return type_name(value) + "({", _listed(set.__iter__(value)), "})"


def _frozenset(value: frozenset[object], limit: int) -> _Parts | None:
    if not frozenset.__len__(value):
        return None
    return type_name(value) + "({", _listed(frozenset.__iter__(value)), "})"


def _dict(value: dict[object, object], limit: int) -> _Parts:
    return "{", _pairs(value), "}"


def _pairs(value: dict[object, object]) -> Iterator[tuple[str, object]]:
    before = ""
    for key, item in dict.items(value):
        yield before, key
        yield ": ", item
        before = ", "


def _deque(value: deque[object], limit: int) -> _Parts:
    longest = _MAXLEN.__get__(value)
    closing = "])" if longest is None else f"], maxlen={longest})"
    return type_name(value) + "([", _listed(deque.__iter__(value)), closing


def _exception(value: BaseException, limit: int) -> _Parts:
    return type_name(value) + "(", _listed(_ARGS.__get__(value)), ")"


def _text(value: str, limit: int) -> _Parts | None:
    if str.__len__(value) <= limit:
        return None
    return repr(str.__getitem__(value, slice(limit))), iter(()), ""


def _bytes(value: bytes, limit: int) -> _Parts | None:
    if bytes.__len__(value) <= limit:
        return None
    return repr(bytes.__getitem__(value, slice(limit))), iter(()), ""


def _bytearray(value: bytearray, limit: int) -> _Parts | None:
    if bytearray.__len__(value) <= limit:
        return None
    start = bytes(bytearray.__getitem__(value, slice(limit)))
    return f"{type_name(value)}({start!r}", iter(()), ""


def _int(value: int, limit: int) -> _Parts | None:
    bits = int.bit_length(value)
    # Digits take time that grows with the square, and from 4,300 on Python refuses them.
    if bits <= 4 * limit:
        return None
    return f"<{type_name(value)} of {bits} bits>", iter(()), ""


def _is_generated(printer: object) -> bool:
    """Whether it is the `__repr__` that `dataclass` makes: a wrapped function without a file."""
    made: Any = getattr(printer, "__wrapped__", None)
    code: Any = getattr(made, "__code__", None)
    return getattr(code, "co_filename", None) == "<string>"


def _dataclass(value: object, printer: object) -> _Parts:
    # It prints the fields of the class that it was made for, and none that a subclass hides.
    owner: Any = next(base for base in type(value).__mro__ if vars(base).get("__repr__") is printer)
    opening = str.__str__(_QUALNAME.__get__(type(value))) + "("
    return opening, _fields(value, fields(owner)), ")"


def _fields(value: object, those: Iterable[Field[Any]]) -> Iterator[tuple[str, object]]:
    before = ""
    for field in those:
        if field.repr:
            yield f"{before}{field.name}=", getattr(value, field.name)
            before = ", "


_OPENERS: Final[dict[object, Callable[[Any, int], _Parts | None]]] = {
    list.__repr__: _list,
    tuple.__repr__: _tuple,
    set.__repr__: _set,
    frozenset.__repr__: _frozenset,
    dict.__repr__: _dict,
    deque.__repr__: _deque,
    BaseException.__repr__: _exception,
    str.__repr__: _text,
    bytes.__repr__: _bytes,
    bytearray.__repr__: _bytearray,
    int.__repr__: _int,
}
