"""The services of a declared tree: their paths, what they are, and who supervises them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from .._core._describe import describe
from .._core._ids import join
from .._runtime._declaration import Application, Supervisor, check_children
from .._runtime._host import NAME
from .._runtime._pool import Declaration, Pool
from ._faults import FaultPlanError

if TYPE_CHECKING:
    from ._faults import Fault, FaultPlan

Above: TypeAlias = Supervisor | Pool[Any]

SHOWN: Final = 12
"""Paths that an error lists."""


@dataclass(frozen=True, slots=True)
class Declared:
    """A service, as a tree declares it.

    Attributes:
        path: where it will be.
        app: what it is.
        above: the supervisors between it and the host, the nearest last; of a pool's member, the
            pool is that.
    """

    path: str
    app: Application[Any]
    above: tuple[Above, ...]


def services(tree: Iterable[Declaration]) -> Iterator[Declared]:
    """Those of a tree, in the order of their start; the members of pools, not the pools."""
    for path, declaration, above in walk(tree):
        if isinstance(declaration, Application):
            yield Declared(path, declaration, above)


def walk(
    tree: Iterable[Declaration],
) -> Iterator[tuple[str, Declaration, tuple[Above, ...]]]:
    """All that a tree declares, in the order of its start."""
    stack: list[tuple[str, Declaration, tuple[Above, ...]]] = [
        (join(NAME, child.name), child, ()) for child in reversed(check_children(tree))
    ]
    while stack:
        path, declaration, above = one = stack.pop()
        yield one
        below: list[tuple[str, Declaration]] = []
        if isinstance(declaration, Supervisor):
            below = [(child.name, child) for child in declaration.children]
        elif isinstance(declaration, Pool):
            below = [(member.name, declaration.app) for member in declaration.members]
        if not isinstance(declaration, Application):
            above = (*above, declaration)
        stack += [(join(path, name), child, above) for name, child in reversed(below)]


def check_plan(plan: FaultPlan, tree: Iterable[Declaration], *, whole: bool) -> None:
    """Check that each fault can be injected into a tree.

    Args:
        plan: the faults.
        tree: the declarations that a host starts with.
        whole: whether there is nothing but that; else what is not in it may be started later.

    Raises:
        FaultPlanError: a fault names no service, or does not fit it.
    """
    known = {path: declaration for path, declaration, _ in walk(tree)}
    for fault in plan:
        found = known.get(fault.path)
        if isinstance(found, Application):
            check_fault(fault, found)
        elif found is not None or whole:
            paths = [path for path, one in known.items() if isinstance(one, Application)]
            raise FaultPlanError(fault, why_unknown(fault.path, paths, found))


def check_fault(fault: Fault, app: Application[Any]) -> None:
    """Check that a fault can be injected into a service.

    Raises:
        FaultPlanError: it does not fit.
    """
    why = fault.misfit(is_function=app.kind.is_function, is_remote=app.executor.is_remote)
    if why is not None:
        raise FaultPlanError(fault, f"{why} ({app!r} under {describe(app.executor)})")


def why_unknown(path: str, known: Iterable[str], found: object = None) -> str:
    """Why no service has a path, in words; what is there instead.

    Args:
        path: where a service was looked for.
        known: the paths of those that there are.
        found: what is there, or None if that is not known.
    """
    there = list(known)
    below = [one for one in there if one.startswith(path + "/")]
    if found is None and not below:
        return f"there is no {path}; there are: {_listed(there) or 'no services at all'}"
    kind = "a supervisor" if found is None else f"a {type(found).__name__}"
    return f"{path} is {kind}; faults are for services, below it: {_listed(below) or 'none'}"


def _listed(paths: list[str]) -> str:
    shown = ", ".join(describe(path) for path in paths[:SHOWN])
    return shown + (f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else "")
