"""Bad input is refused where it is given, by an error that names the value and the remedy.

One table for declarations, one for what is done with a host or a ref, one for what a service does
inside. After each call everything still works, and nothing was lost: wrong arguments are the
caller's bug, and never a crash of the service.
"""

from __future__ import annotations

import functools
import inspect
import math
import pickle
import random
from collections.abc import Callable
from typing import Any, Protocol

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock

import actorvisor as av

THREADS = av.ThreadExecutor()
SEEDED: Any = random
App: Any = av.Application
Pool: Any = av.Pool
Sup: Any = av.Supervisor
Open: Any = av.open_host


class Good(av.Service):
    limit = 3

    def __init__(self, start: int = 0) -> None:
        self.value = start

    async def add(self, amount: int) -> int:
        return amount

    def keys(self, first: int, /, second: int = 2, *, third: int) -> int:
        return first + second + third

    def _private(self) -> None:
        pass

    def __len__(self) -> int:
        return 3

    @property
    def size(self) -> int:
        return 3

    @staticmethod
    def static() -> None:
        pass

    @classmethod
    def of_class(cls) -> None:
        pass


class Other(av.Service):
    def add(self, amount: int) -> int:
        return amount

    def other(self) -> None:
        pass


class Loop(av.Service):
    async def run(self) -> None:
        async for _ in self.mailbox:
            pass

    def method(self) -> None:
        pass


class Obedient(av.Service):
    """Does inside what a test says, and tells what came of it."""

    async def do(self, function: Callable[[Obedient], Any]) -> Any:
        try:
            result = function(self)
            return await result if inspect.isawaitable(result) else result
        except Exception as error:
            return error

    def receive(self, message: object) -> None:
        pass

    def tick(self) -> None:
        pass

    async def _later(self) -> None:
        pass


class Deaf(Obedient):
    receive = av.Service.receive


class NoService:
    pass


class SyncRun(av.Service):
    def run(self) -> None:
        pass


class AsyncRun(av.Service):
    async def run(self) -> None:
        pass


class AsyncSetup(av.Service):
    async def setup(self) -> None:
        pass


class AsyncInit(av.Service):
    async def __init__(self) -> None:  # type: ignore[misc]
        pass


class Generates(av.Service):
    def items(self) -> Any:
        yield 1


class AsyncGenerates(av.Service):
    async def items(self) -> Any:
        yield 1


class NeedsTwo(av.Service):
    def __init__(self, first: int, second: int) -> None:
        pass


async def coroutine_function() -> None:
    pass


def generator_function() -> Any:
    yield 1


async def async_generator_function() -> Any:  # noqa: ASYNC124
    yield 1


def plain(self: Any = None, amount: int = 0) -> int:
    return amount


def add(self: Any, amount: int) -> int:
    """A plain function with the name of a method."""
    return amount


class Adder(Protocol):
    async def add(self, amount: int) -> int: ...


Case = tuple[Callable[..., Any], type[Exception], tuple[str, ...]]


def refused(function: Callable[..., Any], error: type[Exception], *essentials: str) -> Case:
    """A call, what it raises, and what the message must hold."""
    return function, error, essentials


def app(target: Any = Good, *args: Any, **options: Any) -> Callable[[], Any]:
    return functools.partial(App, target, *args, **options)


def sup(children: Any = (), **options: Any) -> Callable[[], Any]:
    return functools.partial(Sup, children, **options)


def opened(children: Any = (), **options: Any) -> Callable[[], Any]:
    return functools.partial(Open, children, **options)


# --- declarations and constructors ----------------------------------------------------------

DECLARATIONS: dict[str, Case] = {
    # what is no service
    "no service class": refused(app(NoService), TypeError, "NoService", "subclass"),
    "Service itself": refused(app(av.Service), TypeError, "Service itself", "subclass"),
    "FunctionService": refused(app(av.FunctionService), TypeError, "FunctionService", "subclass"),
    "instance": refused(app(Good()), TypeError, "Good object", "instance", "pass its class"),
    "number": refused(app(3), TypeError, "3 is neither", "Service class", "function"),
    "name of a class": refused(app("Good"), TypeError, "'Good' is neither"),
    "nothing": refused(App, TypeError, "target"),
    "an Application": refused(lambda: App(App(Good)), TypeError, "Application(Good", "neither"),
    "coroutine": refused(
        lambda: App(coroutine_function()),
        TypeError,
        "called already",
        "Application(coroutine_function, ...)",
    ),
    "partial of a class": refused(
        app(functools.partial(Good, 1)), TypeError, "partial", "Application(Good, ...)"
    ),
    # arguments that do not fit
    "too many arguments": refused(app(Good, 1, 2), TypeError, "Good(start", "(1, 2)", "too many"),
    "too few arguments": refused(app(NeedsTwo, 1), TypeError, "NeedsTwo(", "(1,)", "'second'"),
    "keyword for the factory": refused(app(Good, start=3), TypeError, "start"),
    "arguments of a function": refused(
        app(coroutine_function, 1), TypeError, "coroutine_function()", "(1,)", "too many"
    ),
    # handlers that do not fit (E3)
    "generator handler": refused(
        app(Generates), TypeError, "Generates.items", "generator", "return a list"
    ),
    "async generator handler": refused(
        app(AsyncGenerates), TypeError, "AsyncGenerates.items", "generator", "return a list"
    ),
    "generator function": refused(
        app(generator_function), TypeError, "generator_function", "generator"
    ),
    "async generator function": refused(
        app(async_generator_function), TypeError, "async_generator_function", "generator"
    ),
    "partial of a generator": refused(
        app(functools.partial(generator_function)), TypeError, "generator_function"
    ),
    "async __init__": refused(app(AsyncInit), TypeError, "AsyncInit.__init__", "use setup"),
    "async handler in a thread": refused(
        app(executor=THREADS), TypeError, "Good.add", "ThreadExecutor", "AsyncExecutor"
    ),
    "async setup in a thread": refused(
        app(AsyncSetup, executor=THREADS), TypeError, "AsyncSetup.setup", "AsyncExecutor"
    ),
    "async run in a thread": refused(
        app(AsyncRun, executor=THREADS), TypeError, "AsyncRun.run", "AsyncExecutor"
    ),
    "async function in a thread": refused(
        app(coroutine_function, executor=THREADS), TypeError, "coroutine_function", "AsyncExecutor"
    ),
    "sync run on the loop": refused(app(SyncRun), TypeError, "SyncRun.run", "ThreadExecutor"),
    "sync function on the loop": refused(app(plain), TypeError, "plain", "ThreadExecutor"),
    "lambda on the loop": refused(app(lambda: 1), TypeError, "<lambda>", "ThreadExecutor"),
    # options
    "executor class": refused(
        app(executor=av.ThreadExecutor), TypeError, "executor=", "ThreadExecutor()"
    ),
    "executor name": refused(app(executor="thread"), TypeError, "'thread'", "ThreadExecutor()"),
    "no executor": refused(app(executor=None), TypeError, "None", "AsyncExecutor()"),
    "name is a number": refused(app(name=3), TypeError, "name", "3"),
    "name is empty": refused(app(name=""), ValueError, "empty", "leave it out"),
    "name is a path": refused(app(name="a/b"), ValueError, "'a/b'", "'/'"),
    "name is ..": refused(app(name=".."), ValueError, "'..'"),
    "unknown restart": refused(app(restart="always"), ValueError, "'always'", "'permanent'"),
    "backoff is a number": refused(app(backoff=3), TypeError, "backoff=", "3", "Exponential("),
    "backoff is a class": refused(app(backoff=av.Fixed), TypeError, "backoff=", "Fixed(...)"),
    "unknown overflow": refused(app(overflow="newest"), ValueError, "'newest'", "'drop_oldest'"),
    "significant permanent": refused(
        app(significant=True), ValueError, "'Good'", 'restart="transient"'
    ),
    "significant is a number": refused(app(significant=1), TypeError, "significant=", "True or"),
    "on_crash is a list": refused(app(on_crash=[ValueError]), TypeError, "on_crash=", '"stop"'),
    "on_crash says nonsense": refused(
        app(on_crash={ValueError: "ignore"}), ValueError, "on_crash[ValueError]", "'ignore'"
    ),
    "on_crash by name": refused(app(on_crash={"ValueError": "stop"}), TypeError, "'ValueError'"),
    "on_crash by instance": refused(app(on_crash={OSError(): "stop"}), TypeError, "OSError()"),
    "on_crash by a class": refused(app(on_crash={int: "stop"}), TypeError, "on_crash=", "int"),
    "on_crash against restart": refused(
        app(restart="temporary", on_crash={OSError: "restart"}), ValueError, '"temporary"'
    ),
    "unknown option": refused(app(grace_period=3), TypeError, "grace_period"),
    "start_timeout 0": refused(app(start_timeout=0), ValueError, "start_timeout=", "0", "inf"),
    "an Application is frozen": refused(
        lambda: setattr(App(Good), "grace", 3), AttributeError, "frozen", "'grace'"
    ),
    # supervisors
    "child without a list": refused(lambda: Sup(App(Good)), TypeError, "write [Application(Good"),
    "children None": refused(sup(None), TypeError, "list of declarations", "None"),
    "children text": refused(sup("ab"), TypeError, "list of declarations", "'ab'"),
    "children mapping": refused(lambda: Sup({"a": App(Good)}), TypeError, "list of declarations"),
    "child is a class": refused(sup([Good]), TypeError, "write Application(Good, ...)"),
    "child is an instance": refused(sup([Good()]), TypeError, "write Application(Good, ...)"),
    "child is a function": refused(sup([plain]), TypeError, "write Application(plain, ...)"),
    "child is a number": refused(sup([3]), TypeError, "3 is neither"),
    "children in a list of lists": refused(sup([[]]), TypeError, "[] is neither"),
    "two children of one class": refused(
        lambda: Sup([App(Good), App(Good)]), ValueError, "'Good'", "name="
    ),
    "two children of one name": refused(
        lambda: Sup([App(Good, name="x"), Sup(name="x")]), ValueError, "'x'", "name="
    ),
    "unknown strategy": refused(sup(strategy="one"), ValueError, "'one'", "'one_for_one'"),
    "unknown auto_shutdown": refused(sup(auto_shutdown="some"), ValueError, "'some'", "'any'"),
    "unknown start": refused(sup(start="later"), ValueError, "'later'", "'together'"),
    "unknown on_limit": refused(sup(on_limit="raise"), ValueError, "'raise'", "'drop'"),
    "together in an order": refused(
        sup(start="together", strategy="one_for_all"), ValueError, "'one_for_all'", "one_for_one"
    ),
    "drop of a group": refused(
        sup(on_limit="drop", strategy="rest_for_one"), ValueError, "'rest_for_one'", "one_for_one"
    ),
    "significant, but never": refused(
        lambda: Sup([App(Good, restart="transient", significant=True)]),
        ValueError,
        "'Good'",
        'auto_shutdown="any"',
    ),
    "supervisor's name": refused(sup(name="a/b"), ValueError, "'a/b'"),
    "supervisor's restart": refused(sup(restart=None), ValueError, "None", "'permanent'"),
    "supervisor's backoff": refused(sup(backoff=1), TypeError, "backoff=", "Exponential("),
    "within 0": refused(sup(within=0), ValueError, "within=", "0"),
    "a Supervisor is frozen": refused(
        lambda: setattr(Sup(), "strategy", 3), AttributeError, "frozen", "'strategy'"
    ),
    # pools
    "pool without a size": refused(lambda: Pool(App(Good)), TypeError, "size"),
    "pool of nobody": refused(lambda: Pool(App(Good), size=0), ValueError, "size=", "0"),
    "pool of a class": refused(
        lambda: Pool(Good, size=2), TypeError, "write Pool(Application(Good, ...), size=...)"
    ),
    "pool of a number": refused(lambda: Pool(3, size=2), TypeError, "3 is no Application"),
    "pool of a pool": refused(
        lambda: Pool(Pool(App(Good), size=2), size=2), TypeError, "Pool(", "members", "services"
    ),
    "pool of a supervisor": refused(
        lambda: Pool(Sup([App(Good)]), size=2), TypeError, "Supervisor(", "members", "services"
    ),
    "pool of a function": refused(
        lambda: Pool(App(coroutine_function), size=2),
        TypeError,
        "coroutine_function is a function",
        "self.mailbox",
    ),
    "pool of what is significant": refused(
        lambda: Pool(App(Good, restart="transient", significant=True), size=2),
        ValueError,
        "Application(Good",
        "write Pool(..., significant=True)",
    ),
    "significant permanent pool": refused(
        lambda: Pool(App(Good), size=2, significant=True), ValueError, "'Good'", "permanent"
    ),
    "key is no function": refused(
        lambda: Pool(App(Good), size=2, key="user"), TypeError, "key=", "'user'", "lambda"
    ),
    "async key": refused(
        lambda: Pool(App(Good), size=2, key=coroutine_function),
        TypeError,
        "key=",
        "coroutine_function is async",
    ),
    "key of a loop": refused(
        lambda: Pool(App(Loop), size=2, key=str), TypeError, "key=", "Loop", "loop of its own"
    ),
    "pool's name": refused(lambda: Pool(App(Good), size=2, name="a/b"), ValueError, "'a/b'"),
    "pool's restart": refused(
        lambda: Pool(App(Good), size=2, restart="always"), ValueError, "'always'", "'permanent'"
    ),
    "pool's backoff": refused(
        lambda: Pool(App(Good), size=2, backoff=3), TypeError, "backoff=", "Exponential("
    ),
    "a Pool is frozen": refused(
        lambda: setattr(Pool(App(Good), size=2), "size", 3), AttributeError, "frozen", "'size'"
    ),
    "host's child is a pool without a list": refused(
        lambda: Open(Pool(App(Good), size=2)), TypeError, "write [Pool("
    ),
    # backoffs and executors
    "jitter": refused(lambda: av.Exponential(jitter=2), ValueError, "jitter", "2", "0 to 1"),
    "factor": refused(lambda: av.Exponential(factor=0.5), ValueError, "factor", "0.5", "least 1"),
    "no threads": refused(lambda: av.ThreadExecutor(0), ValueError, "max_threads", "0"),
    # the host
    "host's child without a list": refused(lambda: Open(App(Good)), TypeError, "write [App"),
    "host's child is a class": refused(opened([Good]), TypeError, "write Application(Good, ...)"),
    "host's children of one name": refused(
        lambda: Open([App(Good), App(Good)]), ValueError, "'Good'", "name="
    ),
    "host's significant child": refused(
        lambda: Open([App(Good, restart="transient", significant=True)]), ValueError, "'Good'"
    ),
    "random is a number": refused(opened(random=3), TypeError, "random=", "3", "random.Random"),
    "random is the module": refused(opened(random=SEEDED), TypeError, "random=", "random.Random"),
    "host's on_limit": refused(opened(on_limit="raise"), ValueError, "'raise'", "'drop'"),
    "host's strategy": refused(opened(strategy="one_for_all"), TypeError, "strategy"),
    "run without a list": refused(lambda: av.run(App(Good)), TypeError, "write [App"),
    "run with an unknown option": refused(lambda: av.run([], color=1), TypeError, "color"),
    "run with a bad drain": refused(lambda: av.run([], drain=-1), ValueError, "drain=", "-1"),
    "run with a sync observer": refused(
        lambda: av.run([], observe=lambda host: None), TypeError, "observe=", "async function"
    ),
    # what the library makes
    "a Host by hand": refused(av.Host, TypeError, "open_host()"),
    "a Ref by hand": refused(av.Ref, TypeError, "start()", "find()"),
    "a Ref with a path": refused(lambda: av.Ref("host/x"), TypeError, "start()", "find()"),
    "a SupervisorRef by hand": refused(av.SupervisorRef, TypeError, "start()", "find()"),
    "Events by hand": refused(lambda: av.Events(3), TypeError, "host.events()"),  # type: ignore[arg-type]
    "a service outside of a host": refused(
        lambda: Good().ref, RuntimeError, "Good", "host.start(Application(Good, ...))"
    ),
    "a service outside starts": refused(
        lambda: Good().start_soon(coroutine_function), RuntimeError, "host.start(Application(Good"
    ),
}

bad: Any
TIMES: dict[str, Callable[[Any], Any]] = {
    "grace": lambda value: App(Good, grace=value),
    "start_timeout": lambda value: App(Good, start_timeout=value),
    "reset_after": lambda value: App(Good, reset_after=value),
    "within": lambda value: Sup(within=value),
    "Fixed": av.Fixed,
    "Linear": av.Linear,
    "base": lambda value: av.Exponential(base=value),
    "cap": lambda value: av.Exponential(cap=value),
    "drain": lambda value: Open(drain=value),
    "cancel_grace": lambda value: Open(cancel_grace=value),
    "within=": lambda value: Pool(App(Good), size=2, within=value),
    "reset_after=": lambda value: Pool(App(Good), size=2, reset_after=value),
}
COUNTS: dict[str, Callable[[Any], Any]] = {
    "mailbox": lambda value: App(Good, mailbox=value),
    "redeliver": lambda value: App(Good, redeliver=value),
    "max_restarts": lambda value: Sup(max_restarts=value),
    "max_abandoned": lambda value: Open(max_abandoned=value),
    "max_threads": av.ThreadExecutor,
    "size": lambda value: Pool(App(Good), size=value),
    "max_restarts=": lambda value: Pool(App(Good), size=2, max_restarts=value),
}
for what, make in TIMES.items():
    for bad in (-1, -math.inf, math.nan):
        DECLARATIONS[f"{what} {bad}"] = refused(
            functools.partial(make, bad), ValueError, what, str(bad), "seconds"
        )
    for bad in (True, "1", b"1", [1]):
        DECLARATIONS[f"{what} {bad!r}"] = refused(
            functools.partial(make, bad), TypeError, what, repr(bad), "seconds"
        )
for what in ("reset_after", "Fixed", "Linear", "base", "cap"):
    DECLARATIONS[f"{what} inf"] = refused(
        functools.partial(TIMES[what], math.inf), ValueError, what, "inf", "finite"
    )
for what, make in COUNTS.items():
    DECLARATIONS[f"{what} -1"] = refused(functools.partial(make, -1), ValueError, what, "-1")
    for bad in (1.0, math.inf, True, "1"):
        DECLARATIONS[f"{what} {bad!r}"] = refused(
            functools.partial(make, bad), TypeError, what, repr(bad), "whole number"
        )


def check(error: object, kind: type[Exception], essentials: tuple[str, ...]) -> None:
    assert type(error) is kind, repr(error)
    missing = [one for one in essentials if one not in str(error)]
    assert not missing, f"{missing} not in: {error}"


@pytest.mark.parametrize(
    ("function", "kind", "essentials"), DECLARATIONS.values(), ids=DECLARATIONS
)
def test_declaration(
    function: Callable[[], Any], kind: type[Exception], essentials: tuple[str, ...]
) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - check() is more precise
        function()
    check(caught.value, kind, essentials)


def test_a_limit_that_cannot_be_reached_is_warned_about() -> None:
    # S3
    with pytest.warns(UserWarning, match=r"Fixed\(seconds=10\).*'Good'.*raise within="):
        av.Supervisor([av.Application(Good, backoff=av.Fixed(10))])


# --- calls of a host or a ref -----------------------------------------------------------------

NO_METHODS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "lambda": (lambda self: 1, ("<lambda>", "Good.add")),
    "property": (Good.size, ("property", "Good.add")),
    "bound method": (Good().add, ("bound to an instance", "Good.add")),
    "plain function": (plain, ("'plain'", "add, keys")),
    "function of a method's name": (add, ("plain function", "Good.add")),
    "method of another class": (Other.other, ("'other'", "add, keys")),
    "same method of another class": (Other.add, ("Other.add", "Other", "Good.add")),
    "dunder method": (Good.__len__, ("'__len__'", "add, keys")),
    "hook": (av.Service.setup, ("'setup'", "add, keys")),
    "inherited from Service": (av.Service.stop, ("'stop'", "add, keys")),
    "static method": (Good.static, ("'static'", "add, keys")),
    "class method": (Good.of_class, ("'of_class'", "add, keys")),
    "class attribute": (Good.limit, ("3", "Good.add")),
    "name": ("add", ("'add'", "Good.add")),
    "nothing": (None, ("None", "Good.add")),
    "class": (Good, ("'Good'", "add, keys")),
    "partial": (functools.partial(Good.add), ("partial", "Good.add")),
}
Do = Callable[[av.Host, av.Ref[Good]], Any]
CALLS: dict[str, tuple[Do, type[Exception], tuple[str, ...]]] = {
    "private method": (
        lambda _, ref: ref.ask(Good._private),
        TypeError,
        ("Good._private", "private"),
    ),
    # arguments
    "ask, too few": (lambda _, ref: ref.ask(Good.add), TypeError, ("Good.add(amount", "'amount'")),  # type: ignore[call-overload]
    "ask, too many": (lambda _, ref: ref.ask(Good.add, 1, 2), TypeError, ("(1, 2)", "too many")),  # type: ignore[call-overload]
    "ask, keyword": (lambda _, ref: ref.ask(Good.add, by=1), TypeError, ("Good.add", "(by=1)")),  # type: ignore[call-overload]
    "ask, keyword-only": (lambda _, ref: ref.ask(Good.keys, 1, 2, 3), TypeError, ("third",)),  # type: ignore[call-overload]
    "ask, positional-only": (
        lambda _, ref: ref.ask(Good.keys, first=1, third=3),  # type: ignore[call-overload]
        TypeError,
        ("first",),
    ),
    "tell, too few": (lambda _, ref: ref.tell(Good.add), TypeError, ("'amount'",)),  # type: ignore[call-arg]
    "tell, too many": (lambda _, ref: ref.tell(Good.add, 1, 2), TypeError, ("too many",)),  # type: ignore[call-arg]
    "tell_nowait": (lambda _, ref: ref.tell_nowait(Good.add), TypeError, ("'amount'",)),  # type: ignore[call-arg]
    "ask nothing": (lambda _, ref: ref.ask(), TypeError, ("method",)),  # type: ignore[call-overload]
    "send nothing": (lambda _, ref: ref.send(), TypeError, ("message",)),  # type: ignore[call-arg]
    # control
    "stop with a time": (lambda _, ref: ref.stop(5), TypeError, ("positional",)),  # type: ignore[call-arg]
    "start what runs": (lambda _, ref: ref.start(), av.ControlRefused, ("host/good", "running")),
    "start with a declaration": (lambda _, ref: ref.start(App(Good)), TypeError, ("positional",)),  # type: ignore[call-arg]
    "block the loop": (
        lambda _, ref: ref.blocking.ask(Good.add, 1),
        RuntimeError,
        ("host/good", "await"),
    ),
    "block the loop by a tell": (
        lambda _, ref: ref.blocking.tell(Good.add, 1),
        RuntimeError,
        ("host/good", "await"),
    ),
    "block the loop by a send": (
        lambda _, ref: ref.blocking.send(1),
        RuntimeError,
        ("host/good", "await"),
    ),
    "pickle a host": (lambda host, _: pickle.dumps(host), TypeError, ("Host", "inside its own")),
    # the host
    "start a class": (
        lambda host, _: host.start(Good),  # type: ignore[call-overload]
        TypeError,
        ("write Application(Good, ...)",),
    ),
    "start an instance": (
        lambda host, _: host.start(Good()),  # type: ignore[call-overload]
        TypeError,
        ("write Application(Good, ...)",),
    ),
    "start a function": (
        lambda host, _: host.start(plain),  # type: ignore[call-overload]
        TypeError,
        ("write Application(plain, ...)",),
    ),
    "start nothing": (lambda host, _: host.start(None), TypeError, ("None is neither",)),  # type: ignore[call-overload]
    "start a list": (lambda host, _: host.start([]), TypeError, ("[] is neither",)),  # type: ignore[call-overload]
    "start a taken name": (
        lambda host, _: host.start(App(Good, name="good")),
        av.ControlRefused,
        ("host/good",),
    ),
    "start a significant one": (
        lambda host, _: host.start(App(Good, restart="transient", significant=True)),
        ValueError,
        ("'Good'", "auto_shutdown"),
    ),
    "find nothing there": (
        lambda host, _: host.find("bad", Good),
        LookupError,
        ("'host/bad'", "host has: good"),
    ),
    "find below nothing": (
        lambda host, _: host.find("x/y", Good),
        LookupError,
        ("'host/x/y'", "'host/x'"),
    ),
    "find below a service": (
        lambda host, _: host.find("good/x", Good),
        LookupError,
        ("'host/good/x'", "no children"),
    ),
    "find above the host": (lambda host, _: host.find("../x", Good), ValueError, ("'../x'",)),
    "find an empty path": (lambda host, _: host.find("", Good), ValueError, ("''",)),
    "find a number": (lambda host, _: host.find(3, Good), TypeError, ("3", "string")),  # type: ignore[call-overload]
    "find another class": (
        lambda host, _: host.find("good", Other),
        TypeError,
        ("host/good", "Good", "Other"),
    ),
    "find by a name of a class": (
        lambda host, _: host.find("good", "Good"),  # type: ignore[call-overload]
        TypeError,
        ("'Good'", "find('host/good', MyService)"),
    ),
    "find no class": (lambda host, _: host.find("good", None), TypeError, ("None",)),  # type: ignore[call-overload]
    "find a service as a supervisor": (
        lambda host, _: host.find("good", av.Supervisor),
        TypeError,
        ("host/good", "Good", "Supervisor"),
    ),
    "find the host as a service": (
        lambda host, _: host.find(".", Good),
        TypeError,
        ("host", "supervisor", "Good"),
    ),
}
for name, (method, essentials) in NO_METHODS.items():
    CALLS[f"ask {name}"] = (
        functools.partial(lambda method, _, ref: ref.ask(method), method),
        TypeError,
        essentials,
    )
for how in ("tell", "tell_nowait"):
    CALLS[f"{how} a lambda"] = (
        functools.partial(lambda how, _, ref: getattr(ref, how)(lambda self: 1), how),
        TypeError,
        ("<lambda>", "Good.add"),
    )
for how in ("ask", "tell"):
    CALLS[f"if_running.{how} a name"] = (
        functools.partial(lambda how, _, ref: getattr(ref.if_running, how)("add"), how),
        TypeError,
        ("'add'", "Good.add"),
    )
for control in ("stop", "remove"):
    for option in ("drain", "grace"):
        for wrong, of in ((-1, ValueError), (math.nan, ValueError), (True, TypeError)):
            CALLS[f"{control} {option}={wrong}"] = (
                functools.partial(
                    lambda control, options, _, ref: getattr(ref, control)(**options),
                    control,
                    {option: wrong},
                ),
                of,
                (f"{option}=", str(wrong), "seconds"),
            )


def on_virtual_time(function: Callable[..., Any], *args: Any) -> None:
    trio.run(function, *args, clock=MockClock(autojump_threshold=0))


async def outcome_of(call: Callable[..., Any], *args: Any) -> object:
    try:
        result = call(*args)
        return await result if inspect.isawaitable(result) else result
    except Exception as error:
        return error


@pytest.mark.parametrize(("call", "kind", "essentials"), CALLS.values(), ids=CALLS)
def test_call(call: Do, kind: type[Exception], essentials: tuple[str, ...]) -> None:
    async def main() -> None:
        with trio.fail_after(100):
            async with av.open_host() as host:
                ref = await host.start(av.Application(Good, name="good"))
                check(await outcome_of(call, host, ref), kind, essentials)
                # It lives on, in the same life, and nothing is lost.
                assert await ref.ask(Good.add, 7) == 7
                assert ref.incarnation == 1
                mail = host.statistics().mail
                assert (mail.accepted, mail.handled, mail.dead_letters) == (1, 1, 0)

    on_virtual_time(main)


# --- what a service does inside ---------------------------------------------------------------

IN: dict[str, tuple[Callable[[Any], Any], type[Exception], tuple[str, ...]]] = {
    "monitor a number": (lambda self: self.monitor(3), TypeError, ("3 is no ref",)),
    "monitor a path": (lambda self: self.monitor("host"), TypeError, ("'host' is no ref",)),
    "monitor a class": (lambda self: self.monitor(Good), TypeError, ("is no ref",)),
    "start_soon a plain function": (
        lambda self: self.start_soon(plain),
        TypeError,
        ("async function", "plain", "to_thread"),
    ),
    "start_soon a lambda": (
        lambda self: self.start_soon(lambda: 1),
        TypeError,
        ("async function", "<lambda>"),
    ),
    "start_soon a coroutine": (
        lambda self: self.start_soon(coroutine_function()),
        TypeError,
        ("async function and its arguments", "coroutine object"),
    ),
    "start_soon a number": (lambda self: self.start_soon(3), TypeError, ("async function", "3")),
    "start_soon, too many arguments": (
        lambda self: self.start_soon(coroutine_function, 1),
        TypeError,
        ("coroutine_function", "(1,)", "too many"),
    ),
    "every 0": (lambda self: self.every(0, Obedient.tick), ValueError, ("period", "0")),
    "after, another's method": (
        lambda self: self.after(1, Good().add, 1),
        TypeError,
        ("Good.add", "another service"),
    ),
    "after, another class": (
        lambda self: self.after(1, Good.add, 1),
        TypeError,
        ("'add'", "do, tick"),
    ),
    "after, a lambda": (
        lambda self: self.after(1, lambda: 1),
        TypeError,
        ("<lambda>", "Obedient.do"),
    ),
    "after, too many arguments": (
        lambda self: self.after(1, self.tick, 1),
        TypeError,
        ("Obedient.tick()", "(1)", "too many"),
    ),
    "find nothing there": (
        lambda self: self.find("../bad", Good),
        LookupError,
        ("'host/bad'", "host has: it"),
    ),
    "find above the host": (
        lambda self: self.find("../../../x", Good),
        ValueError,
        ("'../../../x'", "'host/it'"),
    ),
    "find another class": (
        lambda self: self.find("../it", Good),
        TypeError,
        ("host/it", "Obedient", "Good"),
    ),
    "ask itself": (lambda self: self.ref.ask(Obedient.tick), av.WaitCycle, ("host/it", "tell")),
    "stop itself and wait": (lambda self: self.ref.stop(), av.WaitCycle, ("self.stop()",)),
    "wait for its own end": (lambda self: self.ref.stopped(), av.WaitCycle, ("host/it",)),
    "restart itself and wait": (lambda self: self.ref.restart(), av.WaitCycle, ("host/it",)),
    "read mail by a plain for": (lambda self: list(self.mailbox), TypeError, ("async for",)),
    "set its ref": (lambda self: setattr(self, "ref", 3), AttributeError, ("ref",)),
}
for how in ("after", "every"):
    of_what = {"after": "delay", "every": "period"}[how]
    for value, of in (
        (-1, ValueError),
        (math.nan, ValueError),
        (math.inf, ValueError),
        (True, TypeError),
        ("1", TypeError),
    ):
        IN[f"{how} {value!r}"] = (
            functools.partial(
                lambda how, value, self: getattr(self, how)(value, Obedient.tick), how, value
            ),
            of,
            (of_what, repr(value), "seconds"),
        )


@pytest.mark.parametrize(("do", "kind", "essentials"), IN.values(), ids=IN)
def test_inside(
    do: Callable[[Any], Any], kind: type[Exception], essentials: tuple[str, ...]
) -> None:
    async def main() -> None:
        with trio.fail_after(100):
            async with av.open_host() as host:
                ref = await host.start(av.Application(Obedient, name="it"))
                error = await ref.ask(Obedient.do, do)
                check(error, kind, essentials)
                await ref.ask(Obedient.tick)
                assert ref.incarnation == 1
                mail = host.statistics().mail
                assert (mail.accepted, mail.handled, mail.dead_letters) == (2, 2, 0)

    on_virtual_time(main)


@pytest.mark.parametrize(
    ("how", "do", "kind", "essentials"),
    [
        ("tell", lambda self: self.reply_later(), RuntimeError, ("ask", "told")),
        (
            "ask",
            lambda self: (self.reply_later(), self.reply_later()),
            RuntimeError,
            ("once", "promised already"),
        ),
        (
            "ask",
            lambda self: self.reply_later().reject(ValueError("x")),
            TypeError,
            ("Rejection", "ValueError('x')"),
        ),
        (
            "ask",
            lambda self: [promise := self.reply_later(), promise.send(1), promise.send(2)],
            RuntimeError,
            ("answered already",),
        ),
    ],
    ids=["of a tell", "twice", "rejected with any error", "answered twice"],
)
def test_promise(
    how: str,
    do: Callable[[Any], Any],
    kind: type[Exception],
    essentials: tuple[str, ...],
) -> None:
    errors: list[object] = []

    async def note(service: Obedient) -> None:
        errors.append(await outcome_of(do, service))

    async def main() -> None:
        with trio.fail_after(100):
            async with av.open_host() as host:
                ref = await host.start(av.Application(Obedient, name="it"))
                with trio.move_on_after(1):
                    await getattr(ref, how)(Obedient.do, note)
                await ref.ask(Obedient.tick)
                assert ref.incarnation == 1
        check(errors[0], kind, essentials)

    on_virtual_time(main)


async def test_monitor_without_receive(autojump_clock: MockClock) -> None:
    # O2
    async with av.open_host() as host:
        ref = await host.start(av.Application(Deaf))
        error = await ref.ask(Obedient.do, lambda self: self.monitor(self.ref))
        check(error, TypeError, ("Deaf", "receive()", "run()"))


async def test_send_without_receive(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    # M11: a dead letter and a warning, never a crash
    async with av.open_host() as host:
        ref = await host.start(av.Application(Good, name="good"))
        await ref.send("hello")
        assert ref.incarnation == 1
        assert host.statistics().mail.dead_letters == 1
    (record,) = (one for one in caplog.records if one.levelname == "WARNING")
    assert "host/good" in record.getMessage()
    assert "'hello'" in record.getMessage()
    assert "Good has no receive()" in record.getMessage()


@pytest.mark.parametrize("declaration", [av.Application(Loop), av.Application(trio.sleep_forever)])
async def test_call_of_a_loop(declaration: Any, autojump_clock: MockClock) -> None:
    # A service that is its own loop takes `send` only.
    async with av.open_host() as host:
        ref = await host.start(declaration)
        with pytest.raises(TypeError, match=r"loop of its own .* use send\(\)"):
            await ref.ask(Loop.method)


async def test_find_a_supervisor_as_a_service(autojump_clock: MockClock) -> None:
    async with av.open_host([av.Supervisor(name="tree")]) as host:
        with pytest.raises(TypeError, match="host/tree is a supervisor, not a Good"):
            host.find("tree", Good)
        tree = host.find("tree", av.Supervisor)
        with pytest.raises(TypeError, match=r"write Application\(Good, \.\.\.\)"):
            await tree.start(Good)  # type: ignore[call-overload]
        assert tree.children() == ()


async def test_a_host_is_entered_once() -> None:
    opener = av.open_host()
    async with opener:
        with pytest.raises(RuntimeError, match=r"call open_host\(\) again"):
            await opener.__aenter__()
    with pytest.raises(RuntimeError, match=r"call open_host\(\) again"):
        async with opener:
            pass


OUTSIDE: dict[str, Do] = {
    "ask": lambda _, ref: ref.ask(Good.add, 1),
    "tell": lambda _, ref: ref.tell(Good.add, 1),
    "send": lambda _, ref: ref.send(1),
    "stop": lambda _, ref: ref.stop(),
    "remove": lambda _, ref: ref.remove(),
    "stopped": lambda _, ref: ref.stopped(),
    "restart": lambda _, ref: ref.restart(),
    "start": lambda _, ref: ref.start(),
    "start a new one": lambda host, _: host.start(av.Application(Good)),
}


@pytest.mark.parametrize("call", OUTSIDE.values(), ids=OUTSIDE)
async def test_outside_of_the_loop(call: Do) -> None:
    # I3: never straight to a channel. Refused at once: nobody waits for ever in the other loop.
    with trio.fail_after(30):
        async with av.open_host() as host:
            ref = await host.start(av.Application(Good, name="good"))
            error = await trio.to_thread.run_sync(trio.run, outcome_of, call, host, ref)
            check(error, RuntimeError, ("host", "outside its host's loop"))
            assert await ref.ask(Good.add, 7) == 7


async def test_in_a_thread() -> None:
    with trio.fail_after(30):
        async with av.open_host() as host:
            ref: Any = await host.start(av.Application(Good, name="good"))
            for call, kind, essentials in (
                (lambda: ref.tell_nowait(Good.add, 1), RuntimeError, ("use ref.blocking",)),
                (lambda: ref.blocking.ask("add"), TypeError, ("'add'", "Good.add")),
                (lambda: ref.blocking.ask(Good.add), TypeError, ("'amount'",)),
                (lambda: ref.blocking.tell(Good.add), TypeError, ("'amount'",)),
            ):
                error = await trio.to_thread.run_sync(caught, call)
                check(error, kind, essentials)
            assert await ref.ask(Good.add, 7) == 7


def caught(call: Callable[[], Any]) -> object:
    try:
        return call()
    except Exception as error:
        return error


async def test_own_private_methods_by_timer(autojump_clock: MockClock) -> None:
    """What is refused from outside is a service's own business."""
    async with av.open_host() as host:
        ref = await host.start(av.Application(Obedient, name="it"))
        handle = await ref.ask(Obedient.do, lambda self: self.after(1, Obedient._later))
        assert not isinstance(handle, Exception)
        await trio.sleep(2)
        assert host.statistics().mail.handled == 2


async def test_a_method_of_a_protocol_is_the_services_own(autojump_clock: MockClock) -> None:
    async with av.open_host() as host:
        ref: av.Ref[Adder] = await host.start(av.Application(Good))
        assert await ref.ask(Adder.add, 3) == 3
