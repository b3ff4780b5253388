"""Threads in a simulation: one thing at a time, and what they wait for passes on its clock (T2)."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

import actorvisor as av
from actorvisor._runtime._crossing import THREADS, crossing
from actorvisor.testing._failures import Deadlock, OutsideSimulation
from actorvisor.testing._simulation import _baton
from actorvisor.testing._simulation._baton import SimulationOver
from actorvisor.testing._simulation._simulate import simulate

HOUR = 3600.0


class Register(av.Service):
    """Keeps a number, in a coroutine."""

    def __init__(self) -> None:
        self.number = 0

    def read(self) -> int:
        return self.number

    def write(self, number: int) -> None:
        self.number = number

    async def read_late(self) -> int:
        await trio.sleep(HOUR)
        return self.number


class Blocking(av.Service):
    """Does what it is told, in a thread."""

    def add(self, register: av.Ref[Register], amount: int) -> None:
        """Lose an update, if another one does so meanwhile."""
        number = register.blocking.ask(Register.read)
        register.blocking.tell(Register.write, number + amount)

    def wait(self, register: av.Ref[Register]) -> int:
        return register.blocking.ask(Register.read_late)

    def call(self, function: Callable[[], Any]) -> Any:
        return function()

    def beside(self, function: Callable[[], Any]) -> None:
        self.start_soon(function)


def blocking(name: str = "blocking", **options: Any) -> av.Application[Blocking]:
    return av.Application(Blocking, name=name, executor=av.ThreadExecutor(), **options)


async def two_adders() -> int:
    async with av.open_host([blocking("a"), blocking("b")]) as host:
        register = await host.start(av.Application(Register))

        async def add(name: str) -> None:
            await host.find(name, Blocking).ask(Blocking.add, register, 1)

        async with trio.open_nursery() as nursery:
            for name in "ab":
                nursery.start_soon(add, name)
        return await register.ask(Register.read)


@pytest.mark.parametrize("seed", range(20))
def test_the_same_seed_gives_the_same_steps(seed: int) -> None:  # T2
    first, second = (simulate(two_adders, seed=seed) for _ in range(2))
    assert first.lanes == second.lanes
    assert first.value == second.value


def test_all_orders_of_threads_can_be_had() -> None:  # T2
    assert {simulate(two_adders, seed=seed).value for seed in range(30)} == {1, 2}


def test_a_thread_waits_in_virtual_time() -> None:  # T2
    async def system() -> int:
        async with av.open_host([blocking()]) as host:
            register = await host.start(av.Application(Register))
            return await host.find("blocking", Blocking).ask(Blocking.wait, register)

    run = simulate(system)
    assert (run.value, run.seconds) == (0, HOUR)


def test_a_thread_sleeps_in_virtual_time() -> None:  # T2
    async def system() -> None:
        async with av.open_host([blocking()]) as host:
            ref = host.find("blocking", Blocking)
            await ref.ask(Blocking.call, lambda: crossing.get().sleep(HOUR))
            with trio.move_on_after(HOUR):
                await ref.ask(Blocking.call, lambda: crossing.get().sleep(float("inf")))
            await ref.stop(drain=0, grace=HOUR)

    assert simulate(system).seconds == 3 * HOUR


def test_without_a_simulation_a_thread_sleeps_really() -> None:  # T6
    assert crossing.get() is THREADS
    begun = time.monotonic()
    THREADS.sleep(0.002)
    assert time.monotonic() - begun >= 0.002


@pytest.mark.parametrize("beside", [False, True])
def test_a_thread_that_waits_for_what_is_outside_is_named(
    monkeypatch: pytest.MonkeyPatch, beside: bool
) -> None:  # T2
    monkeypatch.setattr(_baton, "PATIENCE", 0.05)
    outside = threading.Event()

    async def system() -> None:
        async with av.open_host([blocking("stuck")]) as host:
            ref = host.find("stuck", Blocking)
            await ref.ask(Blocking.beside if beside else Blocking.call, outside.wait)

    try:
        with pytest.raises(OutsideSimulation) as caught:
            simulate(system)
    finally:
        outside.set()
    assert "'host/stuck' goes on for more than 0.05 seconds" in str(caught.value)
    assert "threading.py" in str(caught.value)


def test_a_thread_of_the_users_own_is_refused() -> None:  # T2
    errors: list[BaseException] = []

    async def system() -> None:
        async with av.open_host([blocking()]) as host:
            register = await host.start(av.Application(Register))

            def ask() -> None:
                try:
                    register.blocking.ask(Register.read)
                except BaseException as error:
                    errors.append(error)

            def start() -> None:
                thread = threading.Thread(target=ask, name="mine")
                thread.start()
                thread.join()

            await host.find("blocking", Blocking).ask(Blocking.call, start)

    with pytest.raises(OutsideSimulation, match="thread 'mine' is not run by the simulation"):
        simulate(system)
    assert [type(error) for error in errors] == [OutsideSimulation]


def test_a_thread_that_is_left_behind_goes_on_and_ends_with_the_simulation() -> None:  # L8, T2
    lines: list[object] = []

    async def system() -> None:
        async with av.open_host() as host:
            ref = await host.start(blocking(grace=1.0))
            register = await host.start(av.Application(Register))

            def linger() -> None:
                try:
                    crossing.get().sleep(10)
                    lines.append("goes on")
                    try:
                        register.blocking.ask(Register.read)
                    except av.ServiceAbandoned:
                        lines.append("is fenced off")
                    while True:
                        crossing.get().sleep(HOUR)
                except BaseException as error:
                    lines.append(type(error))
                    with pytest.raises(SimulationOver):  # and never anything else again
                        crossing.get().sleep(0)
                    raise

            await ref.tell(Blocking.call, linger)
            await trio.sleep(1)
            reason = await ref.stop(drain=0)
            lines.append(reason)
            await trio.sleep(20)
            assert host.statistics().abandoned == 1
            lines.append("the end")

    run = simulate(system)
    assert lines == [
        av.Abandoned("handler"),
        "goes on",
        "is fenced off",
        "the end",
        SimulationOver,
    ]
    assert run.seconds == 22


def test_an_abandoned_thread_that_ends_is_released() -> None:  # L8
    async def system() -> list[int]:
        async with av.open_host() as host:
            ref = await host.start(blocking(grace=0.5))
            await ref.tell(Blocking.call, lambda: crossing.get().sleep(10))
            await trio.sleep(1)
            await ref.stop(drain=0)
            counts = [host.statistics().abandoned]
            await trio.sleep(20)
            return [*counts, host.statistics().abandoned]

    assert simulate(system).value == [1, 0]


def test_threads_end_when_a_simulation_cannot_go_on() -> None:  # T2
    ended: list[str] = []

    async def system() -> None:
        async with av.open_host([blocking("a"), blocking("b")], drain=0) as host:

            def wait(name: str) -> Callable[[], None]:
                def function() -> None:
                    try:
                        crossing.get().sleep(float("inf"))
                    finally:
                        ended.append(name)

                return function

            for name in "ab":
                await host.find(name, Blocking).tell(Blocking.call, wait(name))
            await trio.sleep(1)
            await trio.sleep_forever()

    with pytest.raises(Deadlock):
        simulate(system)
    assert sorted(ended) == ["a", "b"]


def test_a_thread_that_cannot_be_made_is_a_failed_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # L3
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    async def system() -> None:
        async with av.open_host() as host:
            with monkeypatch.context() as patch:
                patch.setattr(trio.lowlevel, "start_thread_soon", refuse)
                with pytest.raises(RuntimeError, match="can't start new thread"):
                    await host.start(blocking())
            await host.start(blocking("another"))

    simulate(system)


def test_what_would_hold_up_the_loop_is_computed_at_once() -> None:  # T2
    async def system() -> int:
        return await crossing.get().off_loop(max, 1, 2)

    run = simulate(system)
    assert (run.value, run.seconds) == (2, 0)


async def test_outside_of_a_simulation_it_is_computed_in_a_thread() -> None:
    ident = await crossing.get().off_loop(threading.get_ident)
    assert ident != threading.get_ident()


def simulated(system: Callable[[], Awaitable[Any]]) -> Any:
    return simulate(system).value


def test_background_threads_and_loops() -> None:  # T2, L8
    class Reader(av.Service):
        def run(self) -> list[object]:
            return list(self.mailbox)

    async def system() -> tuple[object, list[str]]:
        lines: list[str] = []

        def beside() -> None:
            while not av.stopping():
                lines.append("beat")
                crossing.get().sleep(1)

        async with av.open_host([blocking()]) as host:
            await host.find("blocking", Blocking).ask(Blocking.beside, beside)
            reader = await host.start(
                av.Application(Reader, executor=av.ThreadExecutor(), restart="transient")
            )
            await reader.send(1)
            await trio.sleep(2.5)
            await reader.send(2)
            return await reader.stop(), lines

    assert simulated(system) == (av.Stopped(), ["beat"] * 3)
