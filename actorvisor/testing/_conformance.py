"""The conformance suite for executors: whoever writes one runs it, and is done (E2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, final

from .._core._checks import check_seconds
from ..abc import Executor
from . import _executor_life, _executor_loops, _executor_mail
from ._scene import Scene, open_scene
from ._violations import RuleBroken as RuleBroken

PATIENCE: Final = 10.0
"""Seconds that a single expectation may take to come true."""


@final
@dataclass(frozen=True, slots=True)
class ExecutorCheck:
    """One check of an executor; call it in a trio run: ``await check()``.

    Attributes:
        executor: what is checked.
        name: what the check is about, in words.
        patience: seconds that a single expectation may take to come true.
    """

    executor: Executor
    name: str
    patience: float
    _play: Callable[[Scene], Awaitable[None]]

    async def __call__(self) -> None:
        """Run it in a host of its own.

        Raises:
            RuleBroken: the executor does not do what the contract says.
        """
        async with open_scene(self.executor, self.patience) as scene:
            await self._play(scene)

    def __str__(self) -> str:
        return self.name


def executor_checks(executor: Executor, *, patience: float = PATIENCE) -> tuple[ExecutorCheck, ...]:
    """The checks that every executor has to pass, to parametrize tests with.

    Each opens a host of its own, and uses the public API only. Executors with a loop get players
    with ``async`` handlers, the others plain ones that block; these need real time (a thread
    that is busy does not stop trio's `~trio.testing.MockClock` from jumping), or a simulation:
    ``simulate(check)``.

    Args:
        executor: what is checked; each check uses the same value.
        patience: seconds that a single expectation may take to come true.

    Returns:
        Checks to ``await``, each with a name (also its ``str``), such as for
        ``pytest.mark.parametrize("check", executor_checks(MyExecutor()), ids=str)``.

    Raises:
        TypeError: it is no executor.
    """
    if not isinstance(executor, Executor):
        raise TypeError(f"executor must be an Executor's value, not {executor!r}")
    check_seconds("patience=", patience)
    plays = (*_executor_life.CHECKS, *_executor_mail.CHECKS, *_executor_loops.CHECKS)
    return tuple(
        ExecutorCheck(executor, play.__name__.replace("_", " "), patience, play) for play in plays
    )


async def check_executor(executor: Executor, *, patience: float = PATIENCE) -> None:
    """Check that an executor keeps the contract, one check after the other.

    Args:
        executor: what is checked.
        patience: seconds that a single expectation may take to come true.

    Raises:
        RuleBroken: it does not; its ``rule`` and ``expected`` say what it should have done.
    """
    for check in executor_checks(executor, patience=patience):
        await check()
