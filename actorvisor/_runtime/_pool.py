"""`Pool`: the declaration of several members of one service behind one ref (W1)."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeAlias, final

from .._core._backoff import Backoff, Immediate
from .._core._checks import check_count
from .._core._describe import describe
from .._core._spec import MAX_RESTARTS, WITHIN, ChildSpec, Restart, SupervisorSpec
from ._declaration import Application, S_co, Supervisor, remade, spec_options
from ._kind import ServiceKind, is_async, name_of, unprotect

Key: TypeAlias = Callable[..., str | bytes | int]


@final
class Pool(Generic[S_co]):
    """The declaration of a pool: several members of one service, with one ref and one mailbox.

    A frozen value; use it any number of times, wherever an `Application` can stand. A message goes
    to the member that has been free longest, and waits in the pool's mailbox while none is. The
    pool is up when all of its members are; they start together. It restarts its members itself,
    each for itself, and crashes when they crash too often.

    Args:
        app: what each member is; ``mailbox=`` and ``overflow=`` are the pool's, all other options
            are each member's.
        size: how many members there are, at least 1; their names are ``0``, ``1`` and so on.
        key: called with what the handler is called with (by `Ref.send`: with the message). It gives
            a str, bytes or an int; messages of equal keys go to one member, in order. What it
            raises is raised at the sender.
        max_restarts: restarts of its members, of all together, that are allowed within ``within``
            seconds; exceeding it is the pool's crash.
        within: seconds.
        name: unique among its siblings; default: the app's.
        restart: as for `Application`, when the supervisor above decides; default: the app's.
        backoff: the wait before a restart of the whole pool; default: none.
        reset_after: as for `Application`.
        significant: as for `Application`.

    Raises:
        TypeError: a value is of the wrong kind, or a service of that kind cannot be pooled.
        ValueError: a value is out of range.
    """

    app: Application[Any]
    kind: ServiceKind
    size: int
    key: Key | None
    named: bool
    spec: ChildSpec
    members: tuple[ChildSpec, ...]
    rules: SupervisorSpec

    __slots__ = ("app", "key", "kind", "members", "named", "rules", "size", "spec")

    def __init__(
        self,
        app: Application[S_co],
        *,
        size: int,
        key: Key | None = None,
        max_restarts: int = MAX_RESTARTS,
        within: float = WITHIN,
        name: str | None = None,
        restart: Restart | None = None,
        backoff: Backoff = Immediate(),  # noqa: B008 - a frozen value
        reset_after: float | None = None,
        significant: bool = False,
    ) -> None:
        _check_app(app)
        _check_key(app, key)
        set_ = functools.partial(object.__setattr__, self)
        set_("app", app)
        set_("kind", app.kind)
        set_("size", check_count("size=", size, least=1))
        set_("key", key)
        set_("named", app.named or name is not None)
        set_(
            "spec",
            ChildSpec(
                name=app.name if name is None else name,
                restart=app.spec.restart if restart is None else restart,
                backoff=backoff,
                reset_after=reset_after,
                significant=significant,
                rolling=True,
            ),
        )
        set_(
            "rules",
            SupervisorSpec(max_restarts=max_restarts, within=within, start="together", pool=True),
        )
        first = dataclasses.replace(app.spec, name="0")
        # They are all alike: one is enough to warn of.
        self.rules.check_children((first,), self.name)
        set_(
            "members",
            (first, *(dataclasses.replace(first, name=str(i)) for i in range(1, size))),
        )

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Pool is frozen; make another one to change {name!r}")

    @property
    def name(self) -> str:
        """The name it will have, unless it is taken and was not given."""
        return self.spec.name

    @property
    def is_loop(self) -> bool:
        """Whether its members are loops of their own."""
        return self.app.is_loop

    @property
    def detail(self) -> str:
        """What it is, for trees."""
        return f"pool of {self.size}"

    def __reduce__(self) -> tuple[Any, ...]:
        options = {
            **spec_options(self),
            "size": self.size,
            "key": self.key,
            "max_restarts": self.rules.max_restarts,
            "within": self.rules.within,
        }
        return remade, (Pool, self.app, (), options)

    def __repr__(self) -> str:
        return f"Pool({self.app!r}, size={self.size}, name={self.name!r})"


Declaration: TypeAlias = Application[Any] | Supervisor | Pool[Any]
"""What can be started."""


def _check_app(app: object) -> None:
    """Refuse what cannot be pooled.

    Raises:
        TypeError: it is no service that takes mail; it names the remedy.
        ValueError: it is to be significant itself.
    """
    if isinstance(app, Pool | Supervisor):
        raise TypeError(
            f"{describe(app)} cannot be pooled: the members of a Pool are services; "
            "write Pool(Application(...), size=...)"
        )
    if not isinstance(app, Application):
        remedy = (
            f"; write Pool(Application({name_of(app)}, ...), size=...)" if callable(app) else ""
        )
        raise TypeError(f"{describe(app)} is no Application{remedy}")
    if app.kind.is_function:
        raise TypeError(
            f"{app.name} is a function, which reads no mail: a Pool has nothing to give it; declare "
            "it several times, or make it a Service with a run() that reads self.mailbox"
        )
    if app.spec.significant:
        raise ValueError(
            f"{app!r} is significant, but its supervisor will be the pool; "
            "write Pool(..., significant=True)"
        )


def _check_key(app: Application[Any], key: object) -> None:
    """Refuse what is no key function.

    Raises:
        TypeError: it names the remedy.
    """
    if key is None:
        return
    if not callable(key):
        raise TypeError(
            "key= must be a function of what the handler is called with, such as "
            f"lambda url, **_: url, not {describe(key)}"
        )
    if is_async(key):
        raise TypeError(f"key= must be a plain function, and {name_of(key)} is async")
    if app.is_loop:
        raise TypeError(
            f"key= needs handlers, and {app.name} is a loop of its own: each of its members takes "
            "what it reads next"
        )
    unprotect(key)


def applications(declarations: Iterable[Declaration]) -> Iterator[Application[Any]]:
    """All services that are declared, at whatever depth; of a pool, what its members are."""
    stack = [*declarations]
    while stack:
        declaration = stack.pop()
        if isinstance(declaration, Supervisor):
            stack.extend(declaration.children)
        else:
            yield declaration.app if isinstance(declaration, Pool) else declaration
