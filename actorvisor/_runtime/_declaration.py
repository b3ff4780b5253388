"""Declarations: what a user says of a service or a supervisor; frozen values, checked at once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import CoroutineType, MappingProxyType
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Generic,
    Literal,
    TypeAlias,
    TypeVar,
    TypeVarTuple,
    Unpack,
    final,
    get_args,
    get_origin,
    overload,
)

from .._core._backoff import Backoff, Immediate
from .._core._checks import check_choice, check_count, check_seconds
from .._core._describe import describe
from .._core._ids import check_name
from .._core._spec import (
    MAX_RESTARTS,
    WITHIN,
    AutoShutdown,
    ChildSpec,
    OnLimit,
    Restart,
    StartOrder,
    SupervisorSpec,
    Verdict,
)
from ..abc import Executor, Service
from ._coroutine import AsyncExecutor
from ._kind import FunctionService, ServiceKind, is_async, kind_of, name_of
from ._mailbox import CAPACITY

if TYPE_CHECKING:
    from .._core._strategy import Strategy
    from ._pool import Declaration, Pool

GRACE: Final = 5.0
START_TIMEOUT: Final = 30.0
DRAIN: Final = 5.0
Overflow: TypeAlias = Literal["wait", "drop_oldest"]
_OVERFLOWS: Final[tuple[Overflow, ...]] = get_args(Overflow)

S_co = TypeVar("S_co", covariant=True)
_S = TypeVar("_S", bound=Service)
_Ts = TypeVarTuple("_Ts")

_NO_VERDICTS: Final[Mapping[type[BaseException], Verdict]] = MappingProxyType({})


@final
class Application(Generic[S_co]):
    """The declaration of a service: which one, where it runs, and when it is restarted.

    A frozen value; use it any number of times.

    Args:
        target: a subclass of `Service`, or a plain function, sync or async.
        *args: what it is called with, for each incarnation.
        name: unique among its siblings; default: the name of the class or function.
        executor: where it runs; default: `AsyncExecutor`, a coroutine on the host's loop.
        restart: ``permanent`` (default for services), ``transient`` (default for functions) or
            ``temporary``.
        backoff: the wait before a restart; default: none.
        reset_after: seconds of running after which the backoff starts over; default: twice its
            longest delay.
        mailbox: messages that may wait.
        overflow: ``wait``: senders wait for room; ``drop_oldest``.
        redeliver: how often the message in hand at a crash is handled again.
        grace: seconds to stop in; `math.inf` waits, 0 does not.
        start_timeout: seconds that `setup` may take.
        significant: whether its own end can end its supervisor (OTP's significant children).
        on_crash: what to do by the type of the exception, most specific first: ``restart``,
            ``escalate`` or ``stop``.

    Raises:
        TypeError: a value is of the wrong kind, or the executor does not fit.
        ValueError: a value is out of range.
    """

    @overload
    def __init__(
        self: Application[_S],
        target: Callable[[Unpack[_Ts]], _S],
        *args: *_Ts,
        name: str | None = ...,
        executor: Executor = ...,
        restart: Restart | None = ...,
        backoff: Backoff = ...,
        reset_after: float | None = ...,
        mailbox: int = ...,
        overflow: Overflow = ...,
        redeliver: int = ...,
        grace: float = ...,
        start_timeout: float = ...,
        significant: bool = ...,
        on_crash: Mapping[type[BaseException], Verdict] | None = ...,
    ) -> None: ...

    @overload
    def __init__(
        self: Application[FunctionService],
        target: Callable[[Unpack[_Ts]], Awaitable[object] | object],
        *args: *_Ts,
        name: str | None = ...,
        executor: Executor = ...,
        restart: Restart | None = ...,
        backoff: Backoff = ...,
        reset_after: float | None = ...,
        mailbox: int = ...,
        overflow: Overflow = ...,
        redeliver: int = ...,
        grace: float = ...,
        start_timeout: float = ...,
        significant: bool = ...,
        on_crash: Mapping[type[BaseException], Verdict] | None = ...,
    ) -> None: ...

    # mypy takes `*args: Any` for too few of what `*args: *_Ts` may be.
    def __init__(  # type: ignore[misc]
        self,
        target: Callable[..., Any],
        *args: Any,
        name: str | None = None,
        executor: Executor = AsyncExecutor(),  # noqa: B008 - a frozen value
        restart: Restart | None = None,
        backoff: Backoff = Immediate(),  # noqa: B008 - a frozen value
        reset_after: float | None = None,
        mailbox: int = CAPACITY,
        overflow: Overflow = "wait",
        redeliver: int = 0,
        grace: float = GRACE,
        start_timeout: float = START_TIMEOUT,
        significant: bool = False,
        on_crash: Mapping[type[BaseException], Verdict] | None = None,
    ) -> None:
        kind = _check_target(target, args)
        if not isinstance(executor, Executor):
            raise TypeError(
                f"executor= must be a value such as AsyncExecutor() or ThreadExecutor(), "
                f"not {describe(executor)}"
            )
        if type(executor).__hash__ is None:
            raise TypeError(
                f"executor= must be hashable, and {describe(executor)} is not: services that are "
                "declared with equal ones share one"
            )
        _check_fit(kind, executor)
        set_ = functools.partial(object.__setattr__, self)
        set_("target", target)
        set_("args", args)
        set_("named", name is not None)
        set_("kind", kind)
        set_("executor", executor)
        set_(
            "spec",
            ChildSpec(
                name=name_of(target) if name is None else name,
                restart=("transient" if kind.is_function else "permanent")
                if restart is None
                else restart,
                backoff=backoff,
                reset_after=reset_after,
                significant=significant,
            ),
        )
        set_("mailbox", check_count("mailbox=", mailbox, least=1))
        set_("overflow", check_choice("overflow=", overflow, _OVERFLOWS))
        set_("redeliver", check_count("redeliver=", redeliver, least=0))
        set_("grace", check_seconds("grace=", grace, infinite=True))
        set_("start_timeout", check_seconds("start_timeout=", start_timeout, infinite=True))
        if start_timeout == 0:
            raise ValueError(
                f"start_timeout= must be more than 0 seconds, not {start_timeout!r}; "
                "inf waits for ever"
            )
        set_("on_crash", _check_on_crash(on_crash, self.spec.restart))

    target: Callable[..., Any]
    args: tuple[Any, ...]
    named: bool
    kind: ServiceKind
    executor: Executor
    spec: ChildSpec
    mailbox: int
    overflow: Overflow
    redeliver: int
    grace: float
    start_timeout: float
    on_crash: Mapping[type[BaseException], Verdict]

    __slots__ = (
        "args",
        "executor",
        "grace",
        "kind",
        "mailbox",
        "named",
        "on_crash",
        "overflow",
        "redeliver",
        "spec",
        "start_timeout",
        "target",
    )

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"an Application is frozen; make another one to change {name!r}")

    @property
    def name(self) -> str:
        """The name it will have, unless it is taken and was not given."""
        return self.spec.name

    @property
    def is_loop(self) -> bool:
        """Whether it is a loop of its own."""
        return self.kind.is_loop

    @property
    def detail(self) -> str:
        """Where it runs, for trees."""
        return type(self.executor).__name__

    def verdict(self, error: BaseException) -> Verdict | None:
        """What ``on_crash`` says of an exception, the most specific type first (S11)."""
        for kind in type(error).__mro__:
            if kind in self.on_crash:
                return self.on_crash[kind]
        return None

    def under(self, executor: Executor) -> Application[S_co]:
        """The same declaration, for another executor that fits it."""
        declaration, target, args, options = self.__reduce__()[1]
        moved: Application[S_co] = remade(
            declaration, target, args, {**options, "executor": executor}
        )
        return moved

    def __reduce__(self) -> tuple[Any, ...]:
        options = {
            **spec_options(self),
            "executor": self.executor,
            "mailbox": self.mailbox,
            "overflow": self.overflow,
            "redeliver": self.redeliver,
            "grace": self.grace,
            "start_timeout": self.start_timeout,
            "on_crash": dict(self.on_crash) or None,
        }
        return remade, (Application, self.target, self.args, options)

    def __repr__(self) -> str:
        args = "".join(f", {describe(arg, 40)}" for arg in self.args)
        return f"Application({name_of(self.target)}{args}, name={self.name!r})"


@functools.lru_cache(maxsize=4096)
def _check_class(target: type) -> ServiceKind:
    """What is known of a class that is a service; the same for every declaration of it."""
    if not issubclass(target, Service):
        raise TypeError(
            f"{target.__name__} is no Service; subclass actorvisor.Service, or pass a function"
        )
    if target in {Service, FunctionService}:
        raise TypeError(f"{target.__name__} itself does nothing; subclass Service")
    if is_async(target.__init__):
        raise TypeError(
            f"{target.__name__}.__init__ is async, and nobody would await it; use setup"
        )
    kind = kind_of(target)
    if generators := kind.generators:
        raise TypeError(
            f"{target.__name__}.{generators[0]} is a generator, which nobody would iterate; "
            "return a list, or send the items"
        )
    return kind


def _check_target(target: Any, args: tuple[Any, ...]) -> ServiceKind:
    if isinstance(target, type):
        kind = _check_class(target)
        _check_args(kind, args)
        return kind
    if isinstance(target, Service):
        raise TypeError(
            f"{describe(target)} is an instance; pass its class and the arguments, so that "
            "every incarnation is a fresh one"
        )
    elif isinstance(target, CoroutineType):
        target.close()  # nobody will await it, and nobody needs to be told twice
        raise TypeError(
            f"{describe(target)} was called already; pass the function itself, and its "
            f"arguments: Application({target.__name__}, ...)"
        )
    elif not callable(target):
        raise TypeError(f"{describe(target)} is neither a Service class nor a function")
    elif isinstance(origin := get_origin(target), type):
        raise TypeError(
            f"{describe(target)} is a class with parameters, which are for type checkers; pass "
            f"the class itself: Application({origin.__name__}, ...)"
        )
    elif isinstance(target, functools.partial) and isinstance(target.func, type):
        raise TypeError(
            f"{describe(target)} is a partial of a class; pass the class itself, and its "
            f"arguments: Application({target.func.__name__}, ...)"
        )
    elif inspect.isasyncgenfunction(target) or inspect.isgeneratorfunction(target):
        raise TypeError(f"{name_of(target)} is a generator, which nobody would iterate")
    kind = kind_of(target)
    _check_args(kind, args)
    return kind


def _check_args(kind: ServiceKind, args: tuple[Any, ...]) -> None:
    """Refuse arguments that the target cannot be called with."""
    # They are positional, so that their number tells all; a signature costs 50 us to make.
    if len(args) in kind.fitting:
        return
    try:
        signature = inspect.signature(kind.target)
    except (TypeError, ValueError):
        return  # some builtins have none; calling them will tell
    try:
        signature.bind(*args)
    except TypeError as error:
        raise TypeError(
            f"{name_of(kind.target)}{signature} cannot be called with {describe(args)}: {error}"
            "; what follows it in Application(...) are its positional arguments"
        ) from None
    kind.fitting.add(len(args))


def _check_fit(kind: ServiceKind, executor: Executor) -> None:
    """Refuse handlers that the executor cannot run (E3)."""
    if (executor.has_loop, executor.has_thread) in kind.fits:
        return
    asynchronous = kind.asynchronous
    where = type(executor).__name__
    name = name_of(kind.target)
    if asynchronous and not executor.has_loop:
        what = name if kind.is_function else f"{name}.{asynchronous[0]}"
        raise TypeError(
            f"{what} is async and does not fit {where}; use AsyncExecutor or "
            "AsyncProcessExecutor, or make it a plain function"
        )
    blocking = (kind.is_function or kind.has_run) and not (
        asynchronous if kind.is_function else "run" in asynchronous
    )
    if blocking and not executor.has_thread:
        what = name if kind.is_function else f"{name}.run"
        raise TypeError(
            f"{what} is a plain function that would block the loop of {where}; "
            "use ThreadExecutor or ProcessExecutor, or make it async"
        )
    kind.fits.add((executor.has_loop, executor.has_thread))


def _check_on_crash(on_crash: object, restart: Restart) -> Mapping[type[BaseException], Verdict]:
    if on_crash is None:
        return _NO_VERDICTS
    if not isinstance(on_crash, Mapping):
        raise TypeError(
            "on_crash= must map exception types to decisions, such as "
            f'{{ValueError: "stop"}}, not {describe(on_crash)}'
        )
    for kind, verdict in on_crash.items():
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise TypeError(f"on_crash= maps exception types, and {describe(kind)} is none")
        check_choice(f"on_crash[{kind.__name__}]", verdict, get_args(Verdict))
        if verdict == "restart" and restart == "temporary":
            raise ValueError('on_crash= "restart" contradicts restart="temporary"')
    return MappingProxyType(dict(on_crash))


@final
class Supervisor:
    """The declaration of a supervisor: what it supervises, and how. A frozen value.

    Args:
        children: applications, pools and supervisors, in the order of their start.
        strategy: ``one_for_one``, ``one_for_all`` or ``rest_for_one`` (as in OTP).
        max_restarts: restart decisions allowed within ``within`` seconds.
        within: seconds.
        on_limit: ``end``, or ``drop`` (one_for_one): only the child that exceeds a limit of its
            own ends.
        auto_shutdown: ``never``, ``any`` or ``all``: whether significant children end it.
        start: ``in_order``, or ``together`` (one_for_one).
        name: unique among its siblings.
        restart: as for `Application`, when a supervisor above it decides.
        backoff: as for `Application`.
        reset_after: as for `Application`.
        significant: as for `Application`.

    Raises:
        TypeError: a value is of the wrong kind.
        ValueError: a value is out of range, or two children have one name.
    """

    children: tuple[Declaration, ...]
    spec: ChildSpec
    rules: SupervisorSpec
    named: bool

    __slots__ = ("children", "named", "rules", "spec")

    def __init__(
        self,
        children: Iterable[Application[Any] | Supervisor | Pool[Any]] = (),
        *,
        strategy: Strategy = "one_for_one",
        max_restarts: int = MAX_RESTARTS,
        within: float = WITHIN,
        on_limit: OnLimit = "end",
        auto_shutdown: AutoShutdown = "never",
        start: StartOrder = "in_order",
        name: str | None = None,
        restart: Restart = "permanent",
        backoff: Backoff = Immediate(),  # noqa: B008 - a frozen value
        reset_after: float | None = None,
        significant: bool = False,
    ) -> None:
        set_ = functools.partial(object.__setattr__, self)
        set_("children", check_children(children))
        set_("named", name is not None)
        set_(
            "spec",
            ChildSpec(
                name=check_name("Supervisor" if name is None else name),
                restart=restart,
                backoff=backoff,
                reset_after=reset_after,
                significant=significant,
            ),
        )
        set_(
            "rules",
            SupervisorSpec(
                strategy=strategy,
                max_restarts=max_restarts,
                within=within,
                on_limit=on_limit,
                auto_shutdown=auto_shutdown,
                start=start,
            ),
        )
        self.rules.check_children(tuple(child.spec for child in self.children), self.name)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Supervisor is frozen; make another one to change {name!r}")

    @property
    def name(self) -> str:
        """The name it will have, unless it is taken and was not given."""
        return self.spec.name

    @property
    def is_loop(self) -> bool:
        """A supervisor has no mail."""
        return True

    @property
    def detail(self) -> str:
        """How it supervises, for trees."""
        return self.rules.strategy

    def __reduce__(self) -> tuple[Any, ...]:
        options = {
            **spec_options(self),
            "strategy": self.rules.strategy,
            "max_restarts": self.rules.max_restarts,
            "within": self.rules.within,
            "on_limit": self.rules.on_limit,
            "auto_shutdown": self.rules.auto_shutdown,
            "start": self.rules.start,
        }
        return remade, (Supervisor, self.children, (), options)

    def __repr__(self) -> str:
        return f"Supervisor({len(self.children)} children, name={self.name!r})"


def spec_options(declaration: Declaration) -> dict[str, Any]:
    """The options that all declarations have, as they were given."""
    spec = declaration.spec
    options = {
        "restart": spec.restart,
        "backoff": spec.backoff,
        "reset_after": spec.reset_after,
        "significant": spec.significant,
    }
    return {**options, "name": spec.name} if declaration.named else options


def remade(
    declaration: Callable[..., Any], first: Any, args: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    """A declaration that was copied, or pickled for another process."""
    if declaration is Application:
        # Where it was declared, they were checked: here that would take half of a start.
        kind_of(first).fitting.add(len(args))
    return declaration(first, *args, **options)


def check_children(children: object) -> tuple[Declaration, ...]:
    """Give back declarations as a tuple.

    Raises:
        TypeError: it is no iterable, or holds something else.
    """
    if is_declaration(children):
        raise TypeError(f"children must be a list; write [{children!r}]")
    if not isinstance(children, Iterable) or isinstance(children, str | bytes | Mapping):
        raise TypeError(f"children must be a list of declarations, not {describe(children)}")
    found = tuple(children)
    for child in found:
        check_declaration(child)
    return found


def is_declaration(value: object) -> bool:
    """Whether it is something that can be started."""
    if isinstance(value, Application | Supervisor):
        return True
    from ._pool import Pool

    return isinstance(value, Pool)


def check_declaration(child: object) -> None:
    """Refuse what is no declaration.

    Raises:
        TypeError: it names the remedy.
    """
    if is_declaration(child):
        return
    remedy = ""
    if isinstance(child, type) and issubclass(child, Service):
        remedy = f"; write Application({child.__name__}, ...)"
    elif isinstance(child, Service):
        remedy = f"; write Application({type(child).__name__}, ...)"
    elif callable(child):
        remedy = f"; write Application({name_of(child)}, ...)"
    raise TypeError(f"{describe(child)} is neither an Application, a Pool nor a Supervisor{remedy}")


def check_drain(drain: object) -> float:
    """Give back the seconds that a drain may take; 0 skips it."""
    return check_seconds("drain=", drain, infinite=True)


def check_grace(grace: object) -> float | None:
    """Give back the seconds of grace, or None for what each service declares."""
    return None if grace is None else check_seconds("grace=", grace, infinite=True)
