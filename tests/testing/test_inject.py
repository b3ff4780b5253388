"""Plans on real hosts: what they are for, what they are not, and what is told of that (T1, T6)."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import trio

import actorvisor as av
from actorvisor._runtime._coroutine import CoroutineLife, CoroutinePlace
from actorvisor.abc import Executor, Life, Place
from actorvisor.testing._faults import (
    EVERY,
    Before,
    Fault,
    FaultPlan,
    FaultPlanError,
    InjectedFault,
    Kill,
    Raise,
    Setup,
    Slow,
    Time,
)
from actorvisor.testing._injection import Injecting, inject
from tests.testing.players import Bare, loop_function


def worker(name: str = "worker", **options: Any) -> Any:
    return av.Application(Bare, name=name, **options)


# --- who is untouched -------------------------------------------------------------------------


class Watching(Executor):
    """An executor that keeps what its lives were given."""

    has_loop: ClassVar[bool] = True
    has_thread: ClassVar[bool] = False

    def __init__(self) -> None:
        self.lives: dict[tuple[str, int], Life] = {}

    @asynccontextmanager
    async def open(self, nursery: trio.Nursery) -> AsyncGenerator[Place, None]:
        yield _WatchingPlace(nursery, self.lives)


class _WatchingPlace(CoroutinePlace):
    def __init__(self, nursery: trio.Nursery, lives: Any) -> None:
        super().__init__(nursery)
        self._lives = lives

    def begin(self, incarnation: Any) -> CoroutineLife:
        life = super().begin(incarnation)
        self._lives[incarnation.path, incarnation.number] = life
        return life


async def test_what_no_fault_names_is_untouched() -> None:
    # T7
    executor = Watching()
    plan = [Fault("host/a", 2, Before(1), Raise())]
    children = [worker("a", executor=executor), worker("b", executor=executor)]
    async with inject(plan)(children) as host:
        await host.find("a", Bare).restart()
        await host.find("a", Bare).restart()
        found = {
            key: life.incarnation.application in children for key, life in executor.lives.items()
        }
    assert found == {
        ("host/a", 1): True,
        ("host/b", 1): True,
        ("host/a", 2): False,
        ("host/a", 3): True,
    }


async def test_an_empty_plan_changes_nothing() -> None:
    # T7
    children = [worker()]
    async with inject(())(children) as host:
        (actor,) = host._root._executors
        assert type(actor) is av.AsyncExecutor


def test_it_is_equal_by_what_it_stands_for() -> None:
    plan = FaultPlan([Fault("host/a", 1, Setup(), Raise())])
    one, other = inject(plan)._assignment, inject(plan)._assignment
    assert Injecting(av.AsyncExecutor(), assignment=one) == Injecting(
        av.AsyncExecutor(), assignment=other
    )
    assert Injecting(av.AsyncExecutor(), assignment=one) != Injecting(
        av.ThreadExecutor(), assignment=one
    )
    assert (
        len(
            {
                Injecting(av.AsyncExecutor(), assignment=one),
                Injecting(av.AsyncExecutor(), assignment=other),
            }
        )
        == 1
    )
    assert repr(Injecting(av.ThreadExecutor(max_threads=3), assignment=one)) == (
        "ThreadExecutor(max_threads=3)"
    )


# --- errors -----------------------------------------------------------------------------------


def test_what_does_not_fit_the_tree_is_told_before_it_begins() -> None:
    plan = [Fault("host/worker", 1, Setup(), Kill())]
    with pytest.raises(FaultPlanError, match="Kill is for a service in a process"):
        inject(plan)([worker()])
    plan = [Fault("host/pool", 1, Setup(), Raise())]
    with pytest.raises(FaultPlanError, match="host/pool is a Pool"):
        inject(plan)([av.Pool(worker("pool"), size=2)])
    with pytest.raises(TypeError, match=r"write \[Application"):
        inject(plan)(worker())


async def test_a_path_that_never_was_is_told_at_the_end() -> None:
    # T1
    plan = [Fault("host/other", 1, Setup(), Raise())]
    with pytest.raises(FaultPlanError) as caught:
        async with inject(plan)([worker()]) as host:
            await host.start(av.Supervisor([worker("deep")], name="sup"))
    assert caught.value.fault == plan[0]
    assert "there is no host/other; there are: 'host/sup/deep', 'host/worker'" in str(caught.value)


async def test_what_is_started_later_can_be_named() -> None:
    plan = [Fault("host/sup/deep", 2, Before(1), Raise())]
    async with inject(plan)([worker()]) as host:
        await host.start(av.Supervisor([worker("deep")], name="sup"))


async def test_a_misfit_that_is_started_later_is_told_at_the_end() -> None:
    # Of a life that never came, too.
    for path, what, at in [
        ("host/late", "is for a service in a process of its own", Setup()),
        ("host/late/0", "is for a service in a process of its own", Setup()),
    ]:
        plan = [Fault(path, 3, at, Kill())]
        with pytest.raises(FaultPlanError, match=what):
            async with inject(plan)() as host:
                app = worker("late")
                ref: Any = await host.start(av.Pool(app, size=1) if path[-1] == "0" else app)
                assert await ref.ask(Bare.work, 3) == 3
    plan = [Fault("host/late", EVERY, Before(1), Raise())]
    with pytest.raises(FaultPlanError, match="this one is a function"):
        async with inject(plan)() as host:
            ref = await host.start(worker("other"))
            await host.start(av.Application(loop_function, ref, "line", name="late"))


async def test_a_pool_that_is_started_later_is_no_service() -> None:
    plan = [Fault("host/pool", 1, Before(1), Slow())]
    with pytest.raises(FaultPlanError, match="below it: 'host/pool/0', 'host/pool/1'"):
        async with inject(plan)() as host:
            await host.start(av.Pool(worker("pool"), size=2))


async def test_the_members_of_a_pool_have_faults_of_their_own() -> None:
    # W1
    plan = [Fault("host/pool/1", 1, Before(1), Raise())]
    async with inject(plan)([av.Pool(worker("pool"), size=2)]) as host:
        ref: Any = host.find("pool", Bare)
        found: list[Any] = []
        for i in range(2):  # they are up in any order
            try:
                found.append(await ref.ask(Bare.work, i))
            except av.ServiceCrashed as crash:
                found.append(crash)
    (error,) = [one for one in found if not isinstance(one, int)]
    assert isinstance(error.__cause__, InjectedFault)
    assert error.path == "host/pool/1"


async def test_what_the_block_raises_comes_first_and_says_which_plan_it_was() -> None:
    # T3
    plan = FaultPlan([Fault("host/nobody", 1, Setup(), Raise())])
    with pytest.raises(KeyError) as caught:
        async with inject(plan)():
            raise KeyError("mine")
    assert caught.value.__notes__ == [f"with faults={plan!r}"]
    plan = FaultPlan([Fault("host/worker", EVERY, Setup(), Raise("no"))])
    with pytest.raises(ExceptionGroup) as group:
        async with inject(plan)([worker()]):
            pass
    assert group.value.__notes__ == [f"with faults={plan!r}"]


async def test_a_plan_is_for_each_host_and_is_looked_at_when_the_last_has_closed() -> None:
    # H5
    plan = [Fault("host/inner", 1, Before(1), Raise()), Fault("host/outer", 1, Before(1), Raise())]
    opener = inject(plan)
    async with opener([worker("outer")]) as outer:
        for _ in range(2):
            async with opener([worker("inner")]) as inner:
                with pytest.raises(av.ServiceCrashed):
                    await inner.find("inner", Bare).ask(Bare.work, 1)
        with pytest.raises(av.ServiceCrashed):
            await outer.find("outer", Bare).ask(Bare.work, 1)


@dataclass(frozen=True)
class Foreign(Executor):
    """Another executor, whose lives nobody here knows."""

    has_loop: ClassVar[bool] = True
    has_thread: ClassVar[bool] = False

    @asynccontextmanager
    async def open(self, nursery: trio.Nursery) -> AsyncGenerator[Place, None]:
        yield _ForeignPlace(CoroutinePlace(nursery))


class _ForeignPlace(Place):
    def __init__(self, place: Place) -> None:
        self._place = place

    def begin(self, incarnation: Any) -> Life:
        return _ForeignLife(self._place.begin(incarnation))


class _ForeignLife(Life):
    def __init__(self, life: Life) -> None:
        self._life = life

    @property
    def incarnation(self) -> Any:
        return self._life.incarnation

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        await self._life.run()

    def stop_life(self, final: bool, grace: float) -> None:
        self._life.stop_life(final, grace)


async def test_faults_are_for_our_own_executors() -> None:
    plan = [Fault("host/worker", 1, Before(1), Raise())]
    with pytest.raises(FaultPlanError, match="own executors, and _ForeignLife is of another"):
        async with inject(plan)([worker(executor=Foreign())]) as host:
            assert await host.find("worker", Bare).ask(Bare.work, 1) == 1


# --- what goes with it ------------------------------------------------------------------------


async def test_the_host_takes_its_options_as_ever() -> None:
    asked: list[Any] = []

    def stand_in(executor: Any) -> Any:
        asked.append(executor)
        return executor

    plan = [Fault("host/worker", EVERY, Before(1), Raise())]
    with pytest.raises(ExceptionGroup) as caught:
        async with inject(plan)([worker()], executors=stand_in, max_restarts=1) as host:
            for i in range(3):
                with pytest.raises(av.ServiceCrashed):
                    await host.find("worker", Bare).ask(Bare.work, i)
            await trio.sleep_forever()
    # S8: what crashed is raised as it was
    assert caught.group_contains(InjectedFault)
    assert asked == [av.AsyncExecutor()]


async def test_who_wants_to_know_is_told_of_each_fault(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Any] = []
    plan = [
        Fault("host/worker", EVERY, Before(1), Raise()),
        Fault("host/worker", 2, Time(0), Raise("early")),
    ]
    caplog.set_level(logging.CRITICAL)
    opener = inject(plan, lambda *what: told.append(what))
    async with opener([worker()], max_restarts=9) as host:
        events = host.events()
        with pytest.raises(av.ServiceCrashed):
            await host.find("worker", Bare).ask(Bare.work, 1)
        async for event in events:
            if isinstance(event, av.Started) and event.incarnation == 3:
                break
    assert told == [("host/worker", 1, plan[0]), ("host/worker", 2, plan[1])]
