"""Refs for code in threads: a call blocks, while a loop carries it out."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Coroutine, Mapping
from threading import get_ident
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    ParamSpec,
    Protocol,
    TypeVar,
    final,
    overload,
)

import outcome
import trio

from .._core._describe import describe
from .._errors import ServiceAbandoned, ServiceStopped
from ._waits import fence

if TYPE_CHECKING:
    from ._crossing import Answers, Crossing
    from ._ref import Ref

_P = ParamSpec("_P")
_R = TypeVar("_R")
_T = TypeVar("_T")
S_co = TypeVar("S_co", covariant=True)


class Loop(Protocol):
    """A loop that carries out calls of threads.

    Attributes:
        thread: its thread.
        token: of its run.
        nursery: where they are carried out; None before and after.
        crossing: how threads reach it.
    """

    thread: int
    token: trio.lowlevel.TrioToken
    nursery: trio.Nursery | None
    crossing: Crossing


@final
class Blocking(Generic[S_co]):
    """``ask``, ``tell`` and ``send`` of a ref for code in threads: they block the thread."""

    __slots__ = ("_ref",)

    def __init__(self, ref: Ref[S_co]) -> None:
        from ._ref import Ref

        if not isinstance(ref, Ref):
            raise TypeError(f"it is what `ref.blocking` gives; {describe(ref)} is no ref")
        self._ref = ref

    @overload
    def ask(
        self: Blocking[_T],
        method: Callable[Concatenate[_T, _P], Coroutine[Any, Any, _R]],
        /,
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _R: ...

    @overload
    def ask(
        self: Blocking[_T],
        method: Callable[Concatenate[_T, _P], _R],
        /,
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _R: ...

    def ask(self, method: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """As `Ref.ask`.

        Raises:
            RuntimeError: it was called on the host's loop, which it would block for ever.
        """
        return self._call("ask", method, *args, **kwargs)

    def tell(
        self: Blocking[_T],
        method: Callable[Concatenate[_T, _P], object],
        /,
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> None:
        """As `Ref.tell`.

        Raises:
            RuntimeError: it was called on the host's loop.
        """
        self._call("tell", method, *args, **kwargs)

    def send(self, message: object) -> None:
        """As `Ref.send`.

        Raises:
            RuntimeError: it was called on the host's loop.
        """
        self._call("send", message)

    def _call(self, call: str, /, *args: Any, **kwargs: Any) -> Any:
        return self._ref._cell.commons.blocking(self, call, args, kwargs)


def block_on(
    commons: Loop,
    blocking: Blocking[Any],
    call: str,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> Any:
    """Carry out a call of a ref on a loop, and block this thread until it is."""
    cell = blocking._ref._cell
    function = getattr(blocking._ref, call)
    if get_ident() == commons.thread:
        raise RuntimeError(
            f"{blocking._ref!r}.blocking would block the host's loop for ever; "
            "await the ref's own method instead"
        )
    # It takes the caller's context along: who sends, and who waits (L4, M10).
    context = contextvars.copy_context()

    @trio.lowlevel.enable_ki_protection
    async def carry_out(answers: Answers) -> None:
        try:
            result: outcome.Outcome[Any] = outcome.Value(await function(*args, **kwargs))
        except trio.Cancelled:
            answers.put(
                outcome.Error(ServiceStopped(cell.path, None, "is gone: its host is ending"))
            )
            raise
        except BaseException as error:
            result = outcome.Error(error)
        answers.put(result)

    refuse = fence.get()

    def begin(answers: Answers) -> None:
        nursery = commons.nursery
        try:
            if refuse is not None:
                refuse()
        except ServiceAbandoned as error:
            answers.put(outcome.Error(error))
            return
        if nursery is None:
            answers.put(
                outcome.Error(ServiceStopped(cell.path, None, "is gone: its host has ended"))
            )
        else:
            context.run(nursery.start_soon, carry_out, answers)

    with contextlib.suppress(trio.RunFinishedError):
        return commons.crossing.call(commons.token, begin).unwrap()
    raise ServiceStopped(cell.path, None, "is gone: its host has ended")
