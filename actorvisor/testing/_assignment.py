"""Whose the faults of a plan are in one run, and which of them were nobody's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeAlias, final

from .._runtime._declaration import check_children
from ._faults import Fault, FaultPlan, FaultPlanError, plan_of
from ._tree import check_fault, check_plan, services, why_unknown

if TYPE_CHECKING:
    from .._runtime._incarnation import Incarnation
    from .._runtime._pool import Declaration

Told: TypeAlias = Callable[[str, int, Fault], object]
"""Who is told of a fault when it happens: in which path, which incarnation, and which one."""


@final
class Assignment:
    """The faults of one run, and what becomes of them.

    Args:
        plan: the faults.
        told: who is told of each where it happens, on the host's loop. What happens inside of a
            real worker process is not told.
    """

    def __init__(self, plan: FaultPlan | Iterable[Fault], told: Told | None = None) -> None:
        self.plan: FaultPlan = plan_of(plan)
        self._told = told
        self._seen: set[str] = set()
        self._misfits: dict[Fault, FaultPlanError] = {}

    def check_tree(self, tree: Iterable[Declaration]) -> None:
        """Check what can be seen of a plan before the run: others may be started in it.

        Raises:
            FaultPlanError: a fault does not fit what is declared.
        """
        declared = check_children(tree)
        check_plan(self.plan, declared, whole=False)
        # Also if its supervisor never comes to start it.
        self._seen.update(one.path for one in services(declared))

    def finish(self) -> None:
        """Check, when the run is over, what could not be seen before.

        A life that never began, and a message that never came, are no errors.

        Raises:
            FaultPlanError: a fault is for a path that no service ever had, or did not fit it.
        """
        for error in self._misfits.values():
            raise error
        # A pool has a mailbox, too; what has something below it is no service.
        above = {path.rpartition("/")[0] for path in self._seen}
        for fault in self.plan:
            if fault.path not in self._seen or fault.path in above:
                raise FaultPlanError(fault, why_unknown(fault.path, sorted(self._seen - above)))

    def see(self, path: str) -> None:
        """A service, or a pool, has come to be."""
        self._seen.add(path)

    def of(self, incarnation: Incarnation) -> tuple[Fault, ...]:
        """The faults of a life that fit it; those that do not are told in the end."""
        path = incarnation.path
        for fault in self.plan:
            # Of its other lives, too: they may never come.
            if fault.path == path:
                try:
                    check_fault(fault, incarnation.application)
                except FaultPlanError as error:
                    self._misfits.setdefault(fault, error)
        faults = self.plan.of(path, incarnation.number)
        return tuple(fault for fault in faults if fault not in self._misfits)

    def refuse(self, faults: Iterable[Fault], why: str) -> None:
        """Faults cannot be injected; that is told in the end."""
        for fault in faults:
            self._misfits.setdefault(fault, FaultPlanError(fault, why))

    def tell(self, incarnation: Incarnation, fault: Fault) -> None:
        """A fault happens now."""
        if self._told is not None:
            self._told(incarnation.path, incarnation.number, fault)
