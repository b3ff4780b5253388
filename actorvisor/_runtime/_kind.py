"""What the runtime knows of a class or function that is a service: its handlers, its hooks."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, Final

import trio

from .._core._describe import describe
from ..abc import Service

# Names that a service inherits and that are no handlers.
_OWN: Final = frozenset(name for name in vars(Service) if not name.startswith("__"))

_HOOKS: Final = ("setup", "teardown", "receive", "run")
_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class FunctionService(Service):
    """What a plain function counts as: it has no handlers."""


class Method:
    """A method that may be called: what is sent of it, and which arguments fit.

    A call without keywords and with `least` to `most` arguments fits; for others ask `check`.

    Attributes:
        name: what is sent; it is looked up on the instance.
        least: positional arguments that it needs.
        most: positional arguments that it takes; -1: it needs keywords, too.
    """

    __slots__ = ("_fitting", "_signature", "_title", "least", "most", "name")

    def __init__(self, name: str, title: str, function: object) -> None:
        self.name: str = name
        self.least: int = 0
        self.most: int = sys.maxsize
        self._title = title
        self._signature: inspect.Signature | None = None
        # Numbers of positional arguments with names of others that fit.
        self._fitting: set[tuple[object, ...]] = set()
        if isinstance(function, FunctionType):
            # Of the function that is called: what a decorator does with arguments is its affair.
            signature = inspect.signature(function, follow_wrapped=False)
            parameters = list(signature.parameters.values())[1:]
            positional = [one for one in parameters if one.kind in _POSITIONAL]
            self._signature = signature.replace(parameters=parameters)
            self.least = sum(one.default is one.empty for one in positional)
            if all(one.kind is not one.VAR_POSITIONAL for one in parameters):
                self.most = len(positional)
            if any(one.kind is one.KEYWORD_ONLY and one.default is one.empty for one in parameters):
                self.most = -1

    def check(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Refuse arguments that do not fit: the caller's bug is no crash of the service.

        Raises:
            TypeError: it names the method, its parameters and the arguments.
        """
        shape = (len(args), *kwargs)
        if self._signature is None or shape in self._fitting:
            return
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as error:
            given = [describe(one, 40) for one in args]
            given += [f"{key}={describe(one, 40)}" for key, one in kwargs.items()]
            raise TypeError(
                f"{self._title}{self._signature} cannot be called with "
                f"({', '.join(given)}): {error}"
            ) from None
        if len(self._fitting) < 64:
            self._fitting.add(shape)


class ServiceKind:
    """What the runtime needs to know of a service's class, found out once.

    Attributes:
        target: the class, or the function.
        is_function: whether it is a function.
        has_setup: whether `setup` is overridden.
        has_teardown: whether `teardown` is.
        has_receive: whether `receive` is.
        has_run: whether `run` is.
        methods: what refs may call, by the function that they name; filled as they do.
        own_methods: the same for the service itself, which may call private ones, too.
        names: the names that may be called.
        fitting: the numbers of arguments that it is known to take.
        fits: by `has_loop` and `has_thread`, the executors that are known to run it.
    """

    def __init__(self, target: Callable[..., Any]) -> None:
        self.target: Callable[..., Any] = target
        self.is_function: bool = not isinstance(target, type)
        self.methods: dict[Any, Method] = {}
        self.own_methods: dict[Any, Method] = {}
        self.names: frozenset[str] = frozenset()
        self.fitting: set[int] = set()
        self.fits: set[tuple[bool, bool]] = set()
        overridden = {
            name
            for name in _HOOKS
            if isinstance(target, type) and getattr(target, name) is not getattr(Service, name)
        }
        self.has_setup: bool = "setup" in overridden
        self.has_teardown: bool = "teardown" in overridden
        self.has_receive: bool = "receive" in overridden
        self.has_run: bool = "run" in overridden
        if isinstance(target, type):
            self.names = frozenset(
                name
                for name in dir(target)
                if not name.startswith("__") and name not in _OWN and self._handler(name)
            )
            for name in (*self.names, *_HOOKS):
                unprotect(self._handler(name))
        else:
            unprotect(target)

    def _handler(self, name: str) -> FunctionType | None:
        """The function behind a method, or None if the name is something else."""
        found = inspect.getattr_static(self.target, name)
        if isinstance(found, staticmethod | classmethod | property | type):
            return None
        return found if callable(found) else None

    @property
    def title(self) -> str:
        """The name of the class or function."""
        return name_of(self.target)

    @property
    def is_loop(self) -> bool:
        """Whether it is a loop of its own and takes no calls."""
        return self.is_function or self.has_run

    @functools.cached_property
    def asynchronous(self) -> list[str]:
        """The public handlers and hooks that are ``async``."""
        if self.is_function:
            return [name_of(self.target)] if is_async(self.target) else []
        names = [name for name in (*self.names, *_HOOKS) if not name.startswith("_")]
        return sorted(name for name in names if is_async(self._handler(name)))

    @functools.cached_property
    def generators(self) -> list[str]:
        """The public handlers that are generators: nobody would iterate over what they return."""
        return sorted(
            name
            for name in (*self.names, *_HOOKS)
            if not name.startswith("_")
            and (
                inspect.isgeneratorfunction(self._handler(name))
                or inspect.isasyncgenfunction(self._handler(name))
            )
        )

    def method(self, method: object, *, own: bool = False) -> Method:
        """What is sent of a method; it is looked up on the instance.

        Args:
            method: a function that was found on the class, a base of it or a protocol.
            own: whether the service itself calls it: it may be private then.

        Raises:
            TypeError: it is no method that this service has.
        """
        known = self.own_methods if own else self.methods
        try:
            found = known.get(method)
        except TypeError:  # it has no hash, and is no method
            found = None
        return self._resolve(method, own) if found is None else found

    def _resolve(self, method: object, own: bool) -> Method:
        name = self._check_method(method, own)
        found = Method(name, f"{self.title}.{name}", self._handler(name))
        (self.own_methods if own else self.methods)[method] = found
        return found

    def _check_method(self, method: object, own: bool) -> str:
        where = name_of(self.target)
        if self.is_loop:
            raise TypeError(
                f"{where} is a loop of its own and takes no calls of methods; use send()"
            )
        name = getattr(method, "__name__", None)
        if not callable(method) or not isinstance(name, str) or name == "<lambda>":
            raise TypeError(
                f"{describe(method)} is no method; name one of {where}'s own, such as {where}."
                f"{min((n for n in self.names if not n.startswith('_')), default='some_method')}"
            )
        if isinstance(getattr(method, "__self__", None), Service):
            raise TypeError(
                f"{describe(method)} is bound to an instance; name the method on its class: "
                f"{where}.{name}"
            )
        if name.startswith("_") and not own and name in self.names:
            raise TypeError(f"{where}.{name} is private; only the service itself may call it")
        if name not in self.names:
            known = ", ".join(sorted(n for n in self.names if not n.startswith("_"))) or "none"
            raise TypeError(f"{where} has no method {name!r} to call; it has: {known}")
        qualified = getattr(method, "__qualname__", name)
        if "." not in qualified or qualified.rpartition(".")[0].endswith("<locals>"):
            raise TypeError(
                f"{describe(method)} is a plain function, not a method of {where}; "
                f"write {where}.{name}"
            )
        if (owner := self._stranger(method, name, qualified)) is not None:
            raise TypeError(
                f"{qualified} is a method of {owner.__name__}, which {where} is not; "
                f"write {where}.{name}"
            )
        return name

    def _stranger(self, method: object, name: str, qualified: str) -> type | None:
        """The class that a method belongs to, if that is neither a base nor a protocol."""
        assert isinstance(self.target, type)
        if any(vars(base).get(name) is method for base in self.target.__mro__):
            return None
        owner: Any = sys.modules.get(getattr(method, "__module__", ""))
        for part in qualified.split(".")[:-1]:
            owner = getattr(owner, part, None)
        if not isinstance(owner, type) or vars(owner).get(name) is not method:
            return None  # it was made in a function, or by a decorator: the name has to do
        if getattr(owner, "_is_protocol", False) or issubclass(self.target, owner):
            return None
        return owner


_kinds: Final = functools.lru_cache(maxsize=4096)(ServiceKind)


def kind_of(target: Callable[..., Any]) -> ServiceKind:
    """What the runtime needs to know of a class or function."""
    return _kinds(target)


def unprotect(function: object) -> None:
    """Let Ctrl-C interrupt a user's function, though the task that calls it is protected."""
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function) if callable(function) else function
    if isinstance(function, FunctionType):
        trio.lowlevel.disable_ki_protection(function)


def is_async(function: object) -> bool:
    """Whether calling it gives a coroutine."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.iscoroutinefunction(function):
        return True
    call = getattr(type(function), "__call__", None)  # noqa: B004 - not whether, but which
    return not isinstance(function, FunctionType | type) and inspect.iscoroutinefunction(call)


def name_of(target: object) -> str:
    while isinstance(target, functools.partial):
        target = target.func
    name = getattr(target, "__name__", None)
    return name if isinstance(name, str) else type(target).__name__
