"""Deliberately broken variants of the runtime, which `actorvisor.testing` has to find.

    python -m tests.testing.bugs --seeds 5        what it takes to find each, by hypothesis
    python -m tests.testing.bugs --only "leaked"  of those whose names begin so

Each is one slip in one function: the source of its module is compiled with the slip in it, and the
function gets that code, so that whoever has imported it is concerned, too.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import logging
import statistics
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings

from actorvisor._core._intensity import RestartWindow
from actorvisor._core._plan import Plan
from actorvisor._core._roster import Roster
from actorvisor._core._supervision import Supervision
from actorvisor._runtime._coroutine import CoroutineLife
from actorvisor._runtime._envelope import Reply
from actorvisor._runtime._incarnation import Incarnation
from actorvisor._runtime._mailbox import Mailbox
from actorvisor._runtime._waits import blockers
from actorvisor.bridge._life import ProcessLife
from actorvisor.bridge._mailbox import LinkedMailbox
from actorvisor.bridge._place import ProcessPlace
from actorvisor.testing._strategies import plans
from tests.testing import trials

if TYPE_CHECKING:
    from actorvisor.testing import FaultPlan, Schedule
    from tests.testing.trials import Trial

MOST: Final = 2_000
"""Examples within which each is found."""


@dataclass(frozen=True, kw_only=True)
class Bug:
    """One slip.

    Attributes:
        name: what it is called.
        what: what goes wrong, and by which rule that is wrong.
        function: where it is.
        line: what stands there.
        slip: what would stand there by mistake.
        trial: the system in which it is to be found.
    """

    name: str
    what: str
    function: Callable[..., Any]
    line: str
    slip: str
    trial: Trial

    @contextmanager
    def planted(self) -> Iterator[None]:
        """Let the runtime have it, for a while."""
        function: Any = self.function
        before = function.__code__
        function.__code__ = self._broken()
        try:
            yield
        finally:
            function.__code__ = before

    def _broken(self) -> types.CodeType:
        function: Any = self.function
        module = sys.modules[function.__module__]
        lines, _ = inspect.getsourcelines(module)
        own, first = inspect.getsourcelines(function)
        text = "".join(own)
        if text.count(self.line) != 1:
            raise ValueError(f"{function.__qualname__} has not once the line {self.line!r}")
        broken = text.replace(self.line, self.slip)
        whole = "".join([*lines[: first - 1], broken, *lines[first - 1 + len(own) :]])
        code = compile(whole, inspect.getfile(module), "exec", dont_inherit=True)
        return _code_of(code, function.__qualname__)


def _code_of(code: types.CodeType, name: str) -> types.CodeType:
    stack = [code]
    while stack:
        found = stack.pop()
        if found.co_qualname == name:
            return found
        stack += [one for one in found.co_consts if isinstance(one, types.CodeType)]
    raise LookupError(name)


BUGS: Final = (
    Bug(
        name="mail lost at a crash",
        what="what a dead process had not taken up is given back to nobody (M4)",
        function=ProcessLife._settle,
        line="account_for(back, reason",
        slip="account_for((), reason",
        trial=trials.REMOTE,
    ),
    Bug(
        name="mail left behind at a restart",
        what="what waits is not sent to the next process, only what comes after it (M4)",
        function=LinkedMailbox.attach,
        line="self._pump()",
        slip="pass",
        trial=trials.REMOTE,
    ),
    Bug(
        name="wrong stop order",
        what="a group is stopped oldest first (S2)",
        function=Plan.begin_group,
        line="self.stops = stops[::-1]",
        slip="self.stops = stops",
        trial=trials.GROUP,
    ),
    Bug(
        name="stops not one by one",
        what="a group is told to stop all at once (S2)",
        function=Plan.stop_next,
        line="while self.stops and not self.told:",
        slip="while self.stops:",
        trial=trials.GROUP,
    ),
    Bug(
        name="window off by one",
        what="the last restart that is allowed is one too many (S3)",
        function=RestartWindow.note,
        line="len(notes) > self.max_restarts",
        slip="len(notes) >= self.max_restarts",
        trial=trials.WINDOW,
    ),
    Bug(
        name="window too short",
        what="a restart is forgotten when it is exactly as old as the window is long (S3)",
        function=RestartWindow.note,
        line="now - notes[0][0] > self.within",
        slip="now - notes[0][0] >= self.within",
        trial=trials.WINDOW,
    ),
    Bug(
        name="double restart",
        what="the crash of a child that a group restarts already is one more decision (S2)",
        function=Supervision._after_exit,
        line="elif child.held:",
        slip="elif child.held and child.intent is not Intent.NONE:",
        trial=trials.GROUP,
    ),
    Bug(
        name="restart after stop",
        what="a stop that does not go well is taken for a crash (S1)",
        function=Supervision._after_exit,
        line="if child.intent is Intent.STOP:",
        slip="if child.intent is Intent.STOP and not is_failure(reason):",
        trial=trials.STOPPED,
    ),
    Bug(
        name="restart after a stop in the backoff",
        what="the timer of a backoff goes on when its child is stopped (S4)",
        function=Roster.end,
        line="self.cancel_timer(child)",
        slip="pass",
        trial=trials.STOPPED,
    ),
    Bug(
        name="late reply delivered",
        what="an answer that nobody waits for any more is taken for delivered (M8)",
        function=Reply.answer,
        line="if self.early:",
        slip="if not self.result:",
        trial=trials.IMPATIENT,
    ),
    Bug(
        name="withdrawn message handled",
        what="an ask that was given up while it waited is handled all the same (M8)",
        function=Mailbox._next,
        line="if envelope.withdrawn:",
        slip="if envelope.withdrawn and envelope.exempt:",
        trial=trials.IMPATIENT,
    ),
    Bug(
        name="notification out of order",
        what="an end is told before the mail is settled (I4, M6)",
        function=Roster.end,
        line=(
            "        self.out.append(c.Settle(child.name, reason))\n"
            "        self.move(child, event, reason)\n"
        ),
        slip=(
            "        self.move(child, event, reason)\n"
            "        self.out.append(c.Settle(child.name, reason))\n"
        ),
        trial=trials.STOPPED,
    ),
    Bug(
        name="leaked task",
        what="a life is over before its background tasks are (L8)",
        function=CoroutineLife._end,
        line="await self._alone.wait()",
        slip="await trio.lowlevel.checkpoint()",
        trial=trials.BUSY_BESIDE,
    ),
    Bug(
        name="wait cycle not found",
        what="who waits in its setup is looked at, and not who waits in a handler (M10)",
        function=blockers,
        line='elif goal in {"answer", "up"} or',
        slip='elif goal in {"up"} or',
        trial=trials.CYCLE,
    ),
    Bug(
        name="credit not returned",
        what="what waits for credit is sent on only when a reply comes (P3)",
        function=LinkedMailbox.observe,
        line="if self._queued:",
        slip="if self._queued and replied:",
        trial=trials.ONE_AT_A_TIME,
    ),
    Bug(
        name="standby reused",
        what="a standby that gets a job stands by for the next one, too (L6)",
        function=ProcessPlace.take,
        line="self._forget(worker)",
        slip="pass",
        trial=trials.STANDBYS,
    ),
    Bug(
        name="teardown skipped",
        what="what was cut off in a handler is not torn down (L5)",
        function=CoroutineLife._end,
        line="and not self._forced:",
        slip="and not self._is_cut():",
        trial=trials.TORN_DOWN,
    ),
    Bug(
        name="handled once too often",
        what="a message is handled again once more than declared (M5)",
        function=Incarnation.account_for,
        line="entered.tries < self",
        slip="entered.tries <= self",
        trial=trials.GROUP,
    ),
    Bug(
        name="timer of an earlier life",
        what="the message of a timer reaches a life that has not set it (L8)",
        function=Mailbox.take_nowait,
        line="if envelope.timer and envelope.timer != incarnation:",
        slip="if envelope.timer > incarnation:",
        trial=trials.BUSY_BESIDE,
    ),
)


@dataclass(frozen=True)
class Find:
    """How a bug was found.

    Attributes:
        example: at which example.
        examples: how many there were with the shrinking.
        plan: the smallest one.
        schedule: the smallest one.
        error: what that led to.
    """

    example: int
    examples: int
    plan: FaultPlan
    schedule: Schedule
    error: BaseException

    @property
    def points(self) -> int:
        """How much there is in the schedule."""
        return len(self.schedule.demote) + len(self.schedule.skip_time)


class Found(Exception):
    """Something is wrong."""


def hunt(trial: Trial, *, seed: int | None = None, most: int = MOST) -> Find | None:
    """Let hypothesis look for something wrong in a system, and shrink it.

    Args:
        trial: which system.
        seed: hypothesis's; None: always the same.
        most: examples.
    """
    tries = first = 0
    last: tuple[FaultPlan, Schedule, BaseException] | None = None

    @settings(
        max_examples=most,
        database=None,
        deadline=None,
        derandomize=seed is None,
        phases=[Phase.generate, Phase.shrink],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(plans(trial.tree([])), trial.schedules())
    def search(plan: FaultPlan, schedule: Schedule) -> None:
        nonlocal tries, first, last
        tries += 1
        try:
            trial.run(plan, schedule)
        except Exception as error:
            first = first or tries
            last = plan, schedule, error
        else:
            return
        raise Found  # one and the same, for one bug is seen in several ways

    with contextlib.suppress(Found):
        (search if seed is None else hypothesis.seed(seed)(search))()
    return None if last is None else Find(first, tries, *last)


def main() -> int:
    """Hunt for each, and print what it took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5, help="hypothesis seeds for each")
    parser.add_argument("--only", default="", help="those whose names begin so")
    parser.add_argument("--most", type=int, default=MOST, help="examples for each")
    parser.add_argument("--unbroken", action="store_true", help="plant nothing: nothing is found")
    parser.add_argument("--show", action="store_true", help="print plans and errors, too")
    options = parser.parse_args()
    logging.disable()
    warnings.simplefilter("ignore")
    finds: list[Find] = []
    missed = 0
    for bug in BUGS:
        if not bug.name.startswith(options.only):
            continue
        for seed in range(options.seeds):
            began = time.perf_counter()
            if options.unbroken:
                find = hunt(bug.trial, seed=seed, most=options.most)
            else:
                with bug.planted():
                    find = hunt(bug.trial, seed=seed, most=options.most)
            took = time.perf_counter() - began
            missed += find is None
            print(f"{bug.name:35} seed {seed}: {_told(find)} ({took:.1f} s)", flush=True)
            if find is not None:
                finds.append(find)
                if options.show:
                    print(f"    {find.plan!r}\n    {find.schedule!r}")
                    print(f"    {type(find.error).__name__}: {find.error}")
    if finds:
        faults = statistics.median(len(find.plan.faults) for find in finds)
        points = statistics.median(find.points for find in finds)
        example = statistics.median(find.example for find in finds)
        print(
            f"{len(finds)} found, {missed} not; medians: example {example:g}, "
            f"{faults:g} faults, {points:g} points of the schedule"
        )
    else:
        print(f"nothing found in {missed} hunts")
    return bool(finds) if options.unbroken else bool(missed)


def _told(find: Find | None) -> str:
    if find is None:
        return "not found"
    return (
        f"example {find.example:4}, shrunk to {len(find.plan.faults)} faults and "
        f"{find.points} points after {find.examples}"
    )


if __name__ == "__main__":
    sys.exit(main())
