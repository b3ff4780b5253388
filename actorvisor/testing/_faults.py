"""What is to go wrong, where and when: data, which can be printed, pasted, shrunk and pickled (T1).

A plan injects nothing by itself: see `actorvisor.testing.simulate` and `inject`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, dataclass, field, fields
from typing import TYPE_CHECKING, Final, TypeAlias, final, get_args

from .._core._checks import check_count, check_seconds
from .._core._describe import describe
from .._core._ids import check_name
from .._errors import ActorvisorError

if TYPE_CHECKING:
    from .._runtime._pool import Declaration


class InjectedFault(Exception):
    """What `Raise` raises, in the stead of what a service could raise itself.

    Attributes:
        message: as the fault says.
    """

    def __init__(self, message: str = "injected") -> None:
        super().__init__(message)
        self.message = message


class FaultPlanError(ActorvisorError):
    """A fault that cannot be injected: there is no such service, or it does not fit that one.

    Attributes:
        fault: which one.
        why: in words.
    """

    def __init__(self, fault: Fault, why: str) -> None:
        super().__init__(fault, why)
        self.fault = fault
        self.why = why

    def __str__(self) -> str:
        return f"{self.fault!r}: {self.why}"


class _Data:
    """A value whose repr is code: what is as by default is left out."""

    __slots__ = ()

    def __repr__(self) -> str:
        said: list[str] = []
        by_name = False
        for one in fields(self):  # type: ignore[arg-type]  # whoever has it is a dataclass
            value = getattr(self, one.name)
            by_name = by_name or one.kw_only is True
            if one.default is not MISSING and value == one.default:
                by_name = True
            else:
                said.append(f"{one.name}={value!r}" if by_name else repr(value))
        return f"{type(self).__name__}({', '.join(said)})"

    def _normalise(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _check_seconds(self, name: str) -> None:
        what = f"{type(self).__name__}({name}=)"
        # A whole number or a subclass of float is another text, and the same fault.
        self._normalise(name, float(check_seconds(what, getattr(self, name))))

    def _check_count(self, name: str, least: int) -> int:
        what = f"{type(self).__name__}({name}=)"
        count = int(check_count(what, getattr(self, name), least=least))
        self._normalise(name, count)
        return count


# --- which life ---------------------------------------------------------------------------


class Every(enum.Enum):
    """Its one value, `EVERY`, stands for every incarnation that no other fault names."""

    EVERY = "every"

    def __repr__(self) -> str:
        return self.name


EVERY: Final = Every.EVERY
"""Every incarnation, but those that another fault at the same moment names by number."""


# --- when ---------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, repr=False)
class Setup(_Data):
    """In setup, before the service's own; of a function, before it is called."""


@final
@dataclass(frozen=True, slots=True, repr=False)
class Before(_Data):
    """Before a message is handled: it is in hand, and its handler was not entered.

    Attributes:
        message: which one of that incarnation, counted from 1; of a `run`, which one it reads.
    """

    message: int

    def __post_init__(self) -> None:
        self._check_count("message", least=1)


@final
@dataclass(frozen=True, slots=True, repr=False)
class After(_Data):
    """After a message was handled: its handler has returned, and nobody was told yet.

    Attributes:
        message: as for `Before`; a `run` has handled a message when it reads on, or returns.
    """

    message: int

    def __post_init__(self) -> None:
        self._check_count("message", least=1)


@final
@dataclass(frozen=True, slots=True, repr=False)
class Teardown(_Data):
    """In teardown, before the service's own."""


@final
@dataclass(frozen=True, slots=True, repr=False)
class Time(_Data):
    """At a time, whatever the service is doing then, until its teardown begins.

    `Raise` and `Exit` strike as if a background task of it had. `Hang` and `Slow` hold up what the
    runtime calls next: its setup, a handler, a read of its mailbox, its teardown.

    Attributes:
        seconds: after that incarnation began.
    """

    seconds: float

    def __post_init__(self) -> None:
        self._check_seconds("seconds")


# --- what ---------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, repr=False)
class Raise(_Data):
    """Raise an `InjectedFault`.

    Attributes:
        message: its text.
        after: seconds that pass before it happens, once its moment has come.
    """

    message: str = "injected"
    after: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.message, str):
            raise TypeError(f"Raise(message=) must be a string, not {describe(self.message)}")
        self._check_seconds("after")


@final
@dataclass(frozen=True, slots=True, repr=False)
class Exit(_Data):
    """Raise `SystemExit`; in a process, end that at once, as `os._exit` does.

    Attributes:
        status: from 0 to 255.
        after: seconds that pass before it happens, once its moment has come.
    """

    status: int = 1
    after: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        if self._check_count("status", least=0) > 255:
            raise ValueError(f"Exit(status=) must be from 0 to 255, not {self.status}")
        self._check_seconds("after")


@final
@dataclass(frozen=True, slots=True, repr=False)
class Kill(_Data):
    """Kill its process, as SIGKILL does.

    Attributes:
        after: seconds that pass before it happens, once its moment has come.
    """

    after: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        self._check_seconds("after")


@final
@dataclass(frozen=True, slots=True, repr=False)
class Drop(_Data):
    """Drop the connection of its process, which goes on to live until it is killed for that.

    Attributes:
        after: seconds that pass before it happens, once its moment has come.
    """

    after: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        self._check_seconds("after")


@final
@dataclass(frozen=True, slots=True, repr=False)
class Slow(_Data):
    """Take long, then go on.

    Attributes:
        seconds: how long.
        after: seconds that pass before it begins, once its moment has come.
    """

    seconds: float = 1.0
    after: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        self._check_seconds("seconds")
        self._check_seconds("after")


@final
@dataclass(frozen=True, slots=True, repr=False)
class Hang(_Data):
    """Never go on: until it is cancelled, its thread abandoned, its process killed.

    Attributes:
        after: seconds that pass before it happens, once its moment has come.
    """

    after: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        self._check_seconds("after")


When: TypeAlias = Setup | Before | After | Teardown | Time
What: TypeAlias = Raise | Exit | Kill | Drop | Slow | Hang

_MESSAGES: Final = (Before, After)
_OF_PROCESSES: Final = (Kill, Drop)
_HOLDUPS: Final = (Slow, Hang)


# --- the plan -----------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, repr=False)
class Fault(_Data):
    """One thing that goes wrong.

    Attributes:
        path: in which service, such as ``host/ingest/parser``; a pool's member, not the pool.
        incarnation: in which of its lives, counted from 1, or `EVERY`.
        at: when in that life.
        do: what goes wrong.
    """

    path: str
    incarnation: int | Every
    at: When
    do: What

    def __post_init__(self) -> None:
        self._normalise("path", _checked_path(self.path))
        if self.incarnation is not EVERY:
            if not isinstance(self.incarnation, int):
                raise TypeError(
                    "Fault(incarnation=) must be a number, counted from 1, or EVERY, "
                    f"not {describe(self.incarnation)}"
                )
            self._check_count("incarnation", least=1)
        self._check_kind("at", get_args(When))
        self._check_kind("do", get_args(What))

    def _check_kind(self, name: str, kinds: tuple[type[object], ...]) -> None:
        value = getattr(self, name)
        if isinstance(value, kinds):
            return
        known = ", ".join(kind.__name__ for kind in kinds)
        remedy = f"; write {value.__name__}(...)" if value in kinds else ""
        raise TypeError(f"Fault({name}=) must be one of {known}, not {describe(value)}{remedy}")

    def misfit(self, *, is_function: bool, is_remote: bool) -> str | None:
        """Why it cannot be injected into such a service, in words; None: it can.

        Args:
            is_function: whether that is a plain function.
            is_remote: whether it runs in a process of its own.
        """
        at, do = type(self.at).__name__, type(self.do).__name__
        if isinstance(self.do, _OF_PROCESSES) and not is_remote:
            return f"{do} is for a service in a process of its own, and this one has none"
        if not is_function:
            return None
        if isinstance(self.at, _MESSAGES):
            return f"{at} is for a service that takes messages, and this one is a function"
        if isinstance(self.at, Teardown):
            return "Teardown is for a Service, and this one is a function"
        if isinstance(self.at, Time) and isinstance(self.do, _HOLDUPS):
            return f"{do} at a Time is for a service that is called again; a function is not"
        return None


def _checked_path(path: object) -> str:
    if not isinstance(path, str):
        raise TypeError(f"Fault(path=) must be a string, not {describe(path)}")
    root, *names = path.split("/")
    if root != "host" or not names:
        raise ValueError(
            f"Fault(path=) must be the whole path of a service, such as 'host/parser', "
            f"not {describe(path)}"
        )
    for name in names:
        check_name(name, "a name in Fault(path=)")
    return str.__str__(path)


@final
@dataclass(frozen=True, slots=True, init=False, repr=False)
class FaultPlan(_Data):
    """All that goes wrong in one run. Its repr is code that gives it again.

    Args:
        faults: any number of `Fault`, no two at the same moment of the same life.

    Attributes:
        faults: those.

    Raises:
        TypeError: one of them is no `Fault`.
        ValueError: two of them are for the same moment of the same life.
    """

    faults: tuple[Fault, ...] = ()

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        if isinstance(faults, Fault):
            raise TypeError(f"FaultPlan takes a list of faults; write FaultPlan([{faults!r}])")
        if not isinstance(faults, Iterable):
            raise TypeError(f"FaultPlan takes a list of faults, not {describe(faults)}")
        found = tuple(faults)
        seen: set[tuple[object, ...]] = set()
        for fault in found:
            if not isinstance(fault, Fault):
                raise TypeError(f"FaultPlan takes faults, and {describe(fault)} is none")
            moment = fault.path, fault.incarnation, fault.at
            if moment in seen:
                raise ValueError(
                    f"two faults are for the same moment: {fault.at!r} in incarnation "
                    f"{fault.incarnation!r} of {fault.path}"
                )
            seen.add(moment)
        self._normalise("faults", found)

    def __iter__(self) -> Iterator[Fault]:
        return iter(self.faults)

    def __len__(self) -> int:
        return len(self.faults)

    def of(self, path: str, incarnation: int) -> tuple[Fault, ...]:
        """The faults of one life, in the order of the plan, at most one for each moment."""
        found: dict[object, Fault] = {}
        for fault in self.faults:
            if fault.path != path:
                continue
            if fault.incarnation == incarnation or (
                fault.incarnation is EVERY and fault.at not in found
            ):
                found[fault.at] = fault
        return tuple(found.values())

    def check(self, tree: Iterable[Declaration]) -> None:
        """Check that each fault can be injected into a tree.

        Args:
            tree: what `open_host` is given. What is started later is not in it: leave this out
                where a fault is for that. The end of a run tells then.

        Raises:
            FaultPlanError: a fault names no service in there, or does not fit it.
        """
        from ._tree import check_plan

        check_plan(self, tree, whole=True)


def plan_of(faults: FaultPlan | Iterable[Fault]) -> FaultPlan:
    """A plan, of what stands for one."""
    return faults if isinstance(faults, FaultPlan) else FaultPlan(faults)
