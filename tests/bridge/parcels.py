"""What the tests of the codec send: at module level, so that it can be pickled."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass
from typing import Any

from actorvisor._errors import Rejection


class Array:
    """Hands its bytes to pickle as a buffer, as numpy's arrays do."""

    def __init__(self, buffer: Any) -> None:
        self.buffer = buffer

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        if protocol >= 5:
            return Array, (pickle.PickleBuffer(self.buffer),)
        return Array, (bytes(self.buffer),)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Array) and bytes(self.buffer) == bytes(other.buffer)

    def __hash__(self) -> int:
        return hash(bytes(self.buffer))


class Bad(Exception):
    """Raised while something is pickled; it has no text."""

    def __str__(self) -> str:
        raise ValueError("no text")


class Unpicklable:
    """Raises what it is given when it is pickled."""

    def __init__(self, error: BaseException, name: str = "the culprit") -> None:
        self.error = error
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        raise self.error

    def __repr__(self) -> str:
        return f"<{self.name}>"


def explode(kind: type[BaseException], *args: Any) -> Any:
    raise kind(*args)


class Unloadable:
    """Raises when it is unpickled."""

    def __init__(self, kind: type[BaseException]) -> None:
        self.kind = kind

    def __reduce__(self) -> tuple[Any, ...]:
        return explode, (self.kind, "while it was loaded")


class NeedsTwo(Exception):
    """Pickles, and does not unpickle: BaseException keeps one argument, and it takes two."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


class HasLock(Exception):
    """Has something that does not pickle."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.handle = lambda: text


class NoText(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class NoTextNorPickle(NoText):
    def __reduce__(self) -> Any:
        raise TypeError("never")


class ExitsInText(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)

    def __reduce__(self) -> Any:
        raise SystemExit(4)


class ExitsWhenLoaded(Exception):
    def __reduce__(self) -> Any:
        return explode, (SystemExit, 5)


class IsNone(Exception):
    """Unpickles as something else."""

    def __reduce__(self) -> Any:
        return os.path.basename, ("not an exception",)


@dataclass(frozen=True, slots=True)
class Frozen(Exception):
    """Lets nothing be set, its cause neither."""

    text: str


class Refused(Rejection):
    """With data of its own."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(code, why)
        self.code = code
        self.why = why


class Loud(str):
    """A text that is not what it says when it is cut."""

    def __getitem__(self, key: Any) -> str:
        raise RuntimeError("do not cut me")


class LoudText(Exception):
    def __str__(self) -> str:
        return Loud("a text")


class LoudNorPickle(LoudText):
    def __reduce__(self) -> Any:
        raise TypeError("never")
