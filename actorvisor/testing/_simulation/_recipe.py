"""What a simulation is made of, as the header of its trace has it: read back, it is run again (T3)."""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from .. import _faults as f
from .._faults import FaultPlan
from .._trace import Json, Trace, TraceError
from ._choices import Choice
from ._schedule import Schedule

_NAMES: Final[Mapping[str, Callable[..., object]]] = {
    kind.__name__: kind
    for kind in (
        FaultPlan,
        Schedule,
        f.Fault,
        f.Setup,
        f.Before,
        f.After,
        f.Teardown,
        f.Time,
        f.Raise,
        f.Exit,
        f.Kill,
        f.Drop,
        f.Slow,
        f.Hang,
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All that a simulation depends on, but for the system itself.

    Attributes:
        faults: what goes wrong.
        schedule: in which order things ran.
        choices: the contested choices, one by one.
    """

    faults: FaultPlan
    schedule: Schedule
    choices: tuple[Choice, ...] = field(repr=False)

    def header(self) -> dict[str, Json]:
        """It, for the header of a trace."""
        return {
            "faults": repr(self.faults),
            "schedule": repr(self.schedule),
            "choices": [[one.ready, one.picked, one.name] for one in self.choices],
        }

    @classmethod
    def of(cls, trace: Trace, source: str = "the trace") -> Recipe:
        """What is in the header of a trace.

        Raises:
            TraceError: it is no trace of a simulation, or was tampered with.
        """
        header: Mapping[str, Any] = trace.header
        try:
            faults, schedule = read_code(header["faults"]), read_code(header["schedule"])
            choices = tuple(
                Choice(*map(_checked, one, (int, int, str))) for one in header["choices"]
            )
            if not isinstance(faults, FaultPlan) or not isinstance(schedule, Schedule):
                raise TypeError
        except KeyError as missing:
            raise TraceError(
                source, 1, f"its header has no {missing}", "name the trace of a simulation"
            ) from None
        except (TypeError, ValueError, SyntaxError) as error:
            raise TraceError(
                source, 1, f"its header cannot be read ({error})", "record it again"
            ) from None
        return cls(faults=faults, schedule=schedule, choices=choices)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Recipe:
        """What is in the header of a file.

        Raises:
            OSError: it cannot be read.
            TraceError: it is no trace of a simulation.
        """
        return cls.of(Trace.read(path), os.fspath(path))


def _checked(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


def read_code(text: str) -> object:
    """What the repr of a plan or of a schedule stands for; it runs nothing but their constructors.

    Raises:
        SyntaxError: it is no expression.
        ValueError: it is anything else than such a repr.
        TypeError: a constructor refuses its arguments.
    """
    return _value(ast.parse(text, mode="eval").body)


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant():
            return node.value
        case ast.Tuple() | ast.List():
            return tuple(map(_value, node.elts))
        case ast.Name(id="EVERY"):
            return f.EVERY
        case ast.Call(func=ast.Name(id=name)) if name in _NAMES:
            keywords = {one.arg: _value(one.value) for one in node.keywords if one.arg is not None}
            return _NAMES[name](*map(_value, node.args), **keywords)
        case _:
            raise ValueError(f"{ast.unparse(node)} is no part of a plan or a schedule")
