"""The conformance suite can fail: executors with one defect each, and the rule that finds it (E2)."""

from __future__ import annotations

import logging
import math
import weakref
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import trio
import trio.testing

import actorvisor as av
from actorvisor._runtime._incarnation import Incarnation
from actorvisor._runtime._waits import handling, sender
from actorvisor.abc import Executor, Life, Place
from actorvisor.testing import RuleBroken, check_executor

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


class Defect:
    """No defect; what wraps an executor, an incarnation and its mailbox asks here what to do."""

    def __init__(self, incarnation: Incarnation) -> None:
        self.true = incarnation
        self.mailbox = incarnation.mailbox
        self.application = incarnation.application

    # of an incarnation

    def build(self, inside: Any) -> Any:
        return self.true.build(inside)

    def started(self) -> None:
        self.true.started()

    def ending(self, reason: av.ExitReason) -> None:
        self.true.ending(reason)

    def exited(self, reason: av.ExitReason) -> None:
        self.true.exited(reason)

    def account_for(self, envelopes: Any, reason: av.ExitReason, final: bool) -> None:
        self.true.account_for(envelopes, reason, final)

    # of its mailbox

    def take_nowait(self, number: int) -> Any:
        return self.mailbox.take_nowait(number)

    def found(self, envelope: Any, number: int) -> Any:
        return self.mailbox.found(envelope, number)

    def done(self, envelope: Any, result: Any) -> None:
        self.mailbox.done(envelope, result)

    def reject(self, envelope: Any, error: BaseException) -> None:
        self.mailbox.reject(envelope, error)

    def give_back(self, envelopes: Any) -> None:
        self.mailbox.give_back(envelopes)

    # of a life

    def stop_life(self, life: Life, final: bool, grace: float) -> None:
        life.stop_life(final, grace)


class Mail:
    """A mailbox with a defect."""

    def __init__(self, defect: Defect) -> None:
        vars(self)["_defect"] = defect

    def __getattr__(self, name: str) -> Any:
        if name in {"take_nowait", "found", "done", "reject", "give_back"}:
            return getattr(self._defect, name)
        return getattr(self._defect.mailbox, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._defect.mailbox, name, value)


class Bent(Incarnation):
    """An incarnation with a defect."""

    def __init__(self, true: Incarnation, defect: Defect) -> None:
        super().__init__(true.cell, true.number, true._reports)
        self.application = defect.application
        self.mailbox: Any = Mail(defect)
        self._defect = defect

    def build(self, inside: Any) -> Any:
        return self._defect.build(inside)

    def started(self) -> None:
        self._defect.started()

    def ending(self, reason: av.ExitReason) -> None:
        self._defect.ending(reason)

    def exited(self, reason: av.ExitReason, verdict: Any = None) -> None:
        self._defect.exited(reason)

    def account_for(self, envelopes: Any, reason: av.ExitReason, final: bool) -> None:
        self._defect.account_for(envelopes, reason, final)


@dataclass(frozen=True)
class Defective(Executor):
    executor: Executor
    defect: type[Defect]
    has_loop: bool = field(init=False)  # type: ignore[misc]
    has_thread: bool = field(init=False)  # type: ignore[misc]

    def __post_init__(self) -> None:
        object.__setattr__(self, "has_loop", self.executor.has_loop)
        object.__setattr__(self, "has_thread", self.executor.has_thread)

    @asynccontextmanager
    async def open(self, nursery: trio.Nursery) -> AsyncGenerator[Place, None]:
        async with self.executor.open(nursery) as place:
            yield DefectivePlace(place, self.defect)


class DefectivePlace(Place):
    def __init__(self, place: Place, defect: type[Defect]) -> None:
        self._place = place
        self._defect = defect

    def begin(self, incarnation: Incarnation) -> Life:
        defect = self._defect(incarnation)
        return DefectiveLife(self._place.begin(Bent(incarnation, defect)), defect)


class DefectiveLife(Life):
    def __init__(self, life: Life, defect: Defect) -> None:
        self._life = life
        self._defect = defect

    @property
    def incarnation(self) -> Incarnation:
        return self._defect.true

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        await self._life.run()

    def stop_life(self, final: bool, grace: float) -> None:
        self._defect.stop_life(self._life, final, grace)

    def lost(self, reason: av.ExitReason) -> None:
        self._life.lost(reason)


# --- the defects --------------------------------------------------------------------------

DEFECTS: dict[type[Defect], set[str]] = {}


def found_by(*rules: str) -> Any:
    """Which rules the suite says that such an executor breaks."""

    def note(defect: type[Defect]) -> type[Defect]:
        DEFECTS[defect] = set(rules)
        return defect

    return note


@found_by("M5", "M7")
class ForgetsTheMessageInHand(Defect):
    def account_for(self, envelopes: Any, reason: av.ExitReason, final: bool) -> None:
        self.mailbox.in_hand = None


@found_by("M5", "M7")
class LeavesTheMessageInHand(Defect):
    def account_for(self, envelopes: Any, reason: av.ExitReason, final: bool) -> None:
        pass


@found_by("M5")
class AnswersInsteadOfBlaming(Defect):
    def account_for(self, envelopes: Any, reason: av.ExitReason, final: bool) -> None:
        if self.mailbox.in_hand is not None:
            self.mailbox.done(self.mailbox.in_hand, None)


@found_by("M5")
class BlamesNobodyAfterACrash(Defect):
    def account_for(self, envelopes: Any, reason: av.ExitReason, final: bool) -> None:
        if isinstance(reason, av.Crashed):
            reason = av.Completed()
        super().account_for(envelopes, reason, final)


@found_by("M5")
class RedeliversForEver(Defect):
    def account_for(self, envelopes: Any, reason: av.ExitReason, final: bool) -> None:
        entered = self.mailbox.in_hand
        if (
            isinstance(reason, av.Crashed)
            and entered is not None
            and self.true.application.redeliver
        ):
            self.mailbox.give_back([entered])
        else:
            super().account_for(envelopes, reason, final)


@found_by("M5")
class NeverRedelivers(Defect):
    def account_for(self, envelopes: Any, reason: av.ExitReason, final: bool) -> None:
        if self.mailbox.in_hand is not None:
            self.mailbox.in_hand.tries = 1000
        super().account_for(envelopes, reason, final)


@found_by("M5")
class RedeliversLast(Defect):
    def account_for(self, envelopes: Any, reason: av.ExitReason, final: bool) -> None:
        entered = self.mailbox.in_hand
        if (
            isinstance(reason, av.Crashed)
            and entered is not None
            and self.true.application.redeliver
        ):
            self.mailbox.in_hand = None
            self.mailbox.put(entered)
        else:
            super().account_for(envelopes, reason, final)


@found_by("M2", "M4", "M7", "L3", "O2")
class LosesEveryThirdMessage(Defect):
    taken = 0

    def take_nowait(self, number: int) -> Any:
        envelope = super().take_nowait(number)
        self.taken += envelope is not None
        if self.taken % 3:
            return envelope
        self.mailbox.in_hand = None
        return None


@found_by("M2")
class HandlesTheSecondFirst(Defect):
    swapped = False

    def take_nowait(self, number: int) -> Any:
        first = super().take_nowait(number)
        if first is None or self.swapped or not self.mailbox.waiting:
            return first
        self.swapped = True
        second = super().take_nowait(number)
        self.mailbox.give_back([first])
        return second


@found_by("M4", "L7")
class LosesWhatWaitsAtACrash(Defect):
    def account_for(self, envelopes: Any, reason: av.ExitReason, final: bool) -> None:
        super().account_for(envelopes, reason, final)
        self.mailbox.settle("lost", lambda: av.ServiceStopped("lost"))


@found_by("M7", "M2", "L4", "M5")
class IsDoneAtOnce(Defect):
    def take_nowait(self, number: int) -> Any:
        return self.done_at_once(super().take_nowait(number))

    def found(self, envelope: Any, number: int) -> Any:
        return self.done_at_once(super().found(envelope, number))

    def done_at_once(self, envelope: Any) -> Any:
        if envelope is not None and envelope.reply is None:
            self.mailbox.done(envelope, None)
        return envelope

    def done(self, envelope: Any, result: Any) -> None:
        if self.mailbox.in_hand is not None:
            super().done(envelope, result)


@found_by("L2", "E3")
class AnswersNothing(Defect):
    def done(self, envelope: Any, result: Any) -> None:
        super().done(envelope, result or None)


@found_by("M9")
class CrashesAtARejection(Defect):
    def reject(self, envelope: Any, error: BaseException) -> None:
        raise error


@found_by("L3")
class IsUpBeforeSetup(Defect):
    def build(self, inside: Any) -> Any:
        self.true.started()
        return super().build(inside)

    def started(self) -> None:
        pass


@found_by("L3", "E3")
class IsNeverUp(Defect):
    def started(self) -> None:
        pass


@found_by("L6")
class KeepsTheOldInstance(Defect):
    instances: ClassVar[weakref.WeakKeyDictionary[Any, Any]] = weakref.WeakKeyDictionary()

    def build(self, inside: Any) -> Any:
        kept = self.instances.get(self.true.cell) or super().build(inside)
        kept._actorvisor_inside = inside
        self.instances[self.true.cell] = kept
        return kept


@found_by("L5")
class TearsDownTwice(Defect):
    def exited(self, reason: av.ExitReason) -> None:
        super().exited(reason)

    def build(self, inside: Any) -> Any:
        service = super().build(inside)
        teardown = service.teardown

        async def twice(reason: av.ExitReason) -> None:
            await teardown(reason)
            await teardown(reason)

        service.teardown = twice
        return service


@found_by("L5")
class TearsNothingDown(Defect):
    def build(self, inside: Any) -> Any:
        service = super().build(inside)
        service.teardown = lambda reason: None
        return service


@found_by("L5")
class TearsDownForNoReason(Defect):
    def build(self, inside: Any) -> Any:
        service = super().build(inside)
        teardown = service.teardown
        service.teardown = lambda reason: teardown(av.Stopped())
        return service


@found_by("L5", "L4")
class TearsDownWithoutGraceToo(Defect):
    def stop_life(self, life: Life, final: bool, grace: float) -> None:
        super().stop_life(life, final, grace or 0.01)


@found_by("L4", "L5")
class HasGoneBeforeTeardown(Defect):
    def ending(self, reason: av.ExitReason) -> None:
        super().ending(reason)
        super().exited(reason)

    def exited(self, reason: av.ExitReason) -> None:
        pass


@found_by("H1", "L4")
class NeverSaysThatItHasGone(Defect):
    def exited(self, reason: av.ExitReason) -> None:
        pass


@found_by("L3", "M9", "L5")
class HidesCrashes(Defect):
    def exited(self, reason: av.ExitReason) -> None:
        super().exited(av.Completed() if isinstance(reason, av.Crashed) else reason)


@found_by("L7")
class CallsItsOwnEndStopped(Defect):
    def exited(self, reason: av.ExitReason) -> None:
        super().exited(av.Stopped() if isinstance(reason, av.Completed) else reason)


@found_by("H1", "L4")
class IgnoresAStop(Defect):
    def stop_life(self, life: Life, final: bool, grace: float) -> None:
        pass


@found_by("L4", "L5")
class IgnoresItsGrace(Defect):
    def stop_life(self, life: Life, final: bool, grace: float) -> None:
        super().stop_life(life, final, math.inf)


@found_by("L4", "L5")
class HasNoPatience(Defect):
    def stop_life(self, life: Life, final: bool, grace: float) -> None:
        super().stop_life(life, final, 0)


@found_by("M5")
class TakesEveryStopForFinal(Defect):
    def stop_life(self, life: Life, final: bool, grace: float) -> None:
        super().stop_life(life, True, grace)


@found_by("L3")
class WaitsForSetupForEver(Defect):
    def __init__(self, incarnation: Incarnation) -> None:
        super().__init__(incarnation)
        true = incarnation.application
        self.application = object.__new__(type(true))
        for name in type(true).__slots__:
            object.__setattr__(self.application, name, getattr(true, name))
        object.__setattr__(self.application, "start_timeout", math.inf)


@found_by("M10")
class DoesNotSayWhoHandles(Defect):
    def build(self, inside: Any) -> Any:
        handling.set(None)
        return super().build(inside)


@found_by("L4")
class DoesNotSayWhoSends(Defect):
    def build(self, inside: Any) -> Any:
        sender.set(None)
        return super().build(inside)


@found_by("E3")
class CannotBegin(Defect):
    def __init__(self, incarnation: Incarnation) -> None:
        raise OSError("no place left")


class Sound(Defect):
    """The wrapping itself breaks nothing."""


# --- the tests ----------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def quiet() -> Any:
    logger = logging.getLogger("actorvisor")
    logger.disabled = True
    yield
    logger.disabled = False


async def test_sound_executor(autojump_clock: trio.testing.MockClock) -> None:
    await check_executor(Defective(av.AsyncExecutor(), Sound))


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.__name__)
async def test_defect_is_found(
    defect: type[Defect], autojump_clock: trio.testing.MockClock
) -> None:
    with trio.fail_after(500), pytest.raises(RuleBroken) as caught:
        await check_executor(Defective(av.AsyncExecutor(), defect), patience=5)
    assert caught.value.rule in DEFECTS[defect], caught.value
    assert caught.value.expected in str(caught.value)
    assert caught.value.found in str(caught.value)
