"""What stands in for a service that has faults, for one life: it does the same, and suffers them.

It builds the user's own instance and hands it what the runtime hands over, so that only that is
counted, and the service itself cannot tell the difference. Workers import this module, too.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import WeakValueDictionary

from .._runtime._incarnation import instance_of
from .._runtime._inside import current
from ._fate import CountingInside, Fate
from ._faults import Setup, Teardown
from ._sites import HostSide, site_of, worker_life

if TYPE_CHECKING:
    from .._core._messages import ExitReason
    from .._runtime._declaration import Application
    from .._runtime._kind import ServiceKind
    from ..abc import Executor, Inside, Service
    from ._faults import Fault

_hosts: Final[WeakValueDictionary[int, HostSide]] = WeakValueDictionary()
"""Lives here whose application was pickled: a simulated process finds its way back by that."""
_keys: Final = count(1)


class Injected:
    """A declaration as one life of it is given it: with its faults. Else it is as it was.

    Attributes:
        app: as it was declared.
        kind: what the runtime needs to know of it: what a fault is in is not left out.
        target: what builds it, or is called.
        args: what with.
    """

    def __init__(
        self,
        app: Application[Any],
        faults: tuple[Fault, ...],
        host: HostSide | None,
        began: float,
    ) -> None:
        self.app: Application[Any] = app
        self.kind: ServiceKind = app.kind
        self.target: Callable[..., Any]
        self.args: tuple[Any, ...]
        self._faults = faults
        self._host = host
        self._began = began
        if app.kind.is_function:
            self.target, self.args = InjectedFunction(self), app.args
            return
        moments = {type(fault.at) for fault in faults}
        if not moments.isdisjoint({Setup, Teardown}):
            self.kind = copy.copy(app.kind)
            self.kind.has_setup |= Setup in moments
            self.kind.has_teardown |= Teardown in moments
        self.target, self.args = _shell(app.target), (self,)

    def fate(self, inside: Inside | None) -> Fate:
        """How its life goes, from now on, where this runs."""
        fate = Fate(self._faults, site_of(self.app, self._host, inside), self._began)
        if inside is not None:
            fate.strike_later(inside)
        return fate

    def under(self, executor: Executor) -> Injected:
        """See `Application.under`."""
        app = self.app.under(executor)
        return Injected(app, self._faults, self._host, self._began)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.app, name)

    def __reduce__(self) -> tuple[Any, ...]:
        key = 0
        if self._host is not None:
            key = next(_keys)
            _hosts[key] = self._host
        return _restored, (self.app, self._faults, os.getpid(), key, time.monotonic())


def _restored(
    app: Application[Any],
    faults: tuple[Fault, ...],
    pid: int,
    key: int,
    began: float,
) -> Injected:
    """What was pickled for a worker: in a real one, or in a simulated one of this process."""
    if pid != os.getpid():
        return Injected(app, faults, None, began)
    host = _hosts[key]
    return Injected(app, faults, host, host.began)


def _shell(target: Any) -> type[InjectedService]:
    """A class for one declaration, which is called as the user's own is."""
    names = {"__slots__": (), "__module__": target.__module__, "__qualname__": target.__qualname__}
    made: type[InjectedService] = type(target.__name__, (InjectedService,), names)
    return made


class InjectedService:
    """What the runtime takes for the instance of a service."""

    __slots__ = ("_actorvisor_fate", "_actorvisor_inside", "_actorvisor_service")

    _actorvisor_inside: Inside

    def __init__(self, injected: Injected) -> None:
        inside = self._actorvisor_inside
        fate = self._actorvisor_fate = injected.fate(inside)
        app = injected.app
        if app.kind.has_run:
            inside = cast("Inside", CountingInside(inside, fate))
        self._actorvisor_service: Service = instance_of(app, inside)

    def setup(self) -> Any:
        """See `Service.setup`."""
        return self._actorvisor_fate.play(Setup(), self._actorvisor_service.setup)

    def teardown(self, reason: ExitReason) -> Any:
        """See `Service.teardown`."""
        call = partial(self._actorvisor_service.teardown, reason)
        return self._actorvisor_fate.play(Teardown(), call)

    def run(self) -> Any:
        """See `Service.run`."""
        return self._actorvisor_fate.run(self._actorvisor_service.run)

    def __getattr__(self, name: str) -> Any:
        # A handler; whatever else a service may have is looked up on the service.
        if name in InjectedService.__slots__:
            raise AttributeError(name)  # it was never built
        return partial(self._actorvisor_fate.handle, getattr(self._actorvisor_service, name))


class InjectedFunction:
    """What the runtime takes for a function that is an application."""

    def __init__(self, injected: Injected) -> None:
        self._injected = injected
        self.__module__ = injected.app.target.__module__
        self.__name__ = injected.app.name

    def __call__(self, *args: Any) -> Any:
        app = self._injected.app
        inside = current.get()
        if app.executor.has_loop:
            inside = worker_life() if app.executor.is_remote else None
        return self._injected.fate(inside).play(Setup(), partial(app.target, *args))
