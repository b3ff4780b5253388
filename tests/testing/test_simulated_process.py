"""Simulated processes: what a real one does, on virtual time (T2, P1-P6)."""

from __future__ import annotations

import functools
import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.lowlevel

import actorvisor as av
from actorvisor.abc import Executor, Place
from actorvisor.testing import Fault, Kill, OutsideSimulation, Run, Teardown, simulate
from actorvisor.testing._simulation._process import SimulatedProcessExecutor, simulated
from actorvisor.testing._simulation._worker import FORK, HAND_OVER, SPAWN, SimulatedLife
from tests.testing.workers import ENDS, LINES, Looping, Stage, Sync, outer

if TYPE_CHECKING:
    from actorvisor._runtime._incarnation import Incarnation
    from actorvisor._runtime._mailbox import Mailbox, Post
    from actorvisor.abc import Life

BOTH: list[Any] = [av.ProcessExecutor, av.AsyncProcessExecutor]
LONG = 1000.0


@pytest.fixture(autouse=True)
def _lines() -> None:
    LINES.clear()


@dataclass(frozen=True)
class Watched(Executor):
    """A simulated executor whose lives a test gets hold of."""

    executor: Executor
    lives: list[Life] = field(default_factory=list, compare=False)

    def __post_init__(self) -> None:
        for name in ("has_loop", "has_thread", "is_remote"):
            object.__setattr__(self, name, getattr(self.executor, name))

    def mailbox(self, path: str, capacity: int, overflow: str, post: Post) -> Mailbox | None:
        return self.executor.mailbox(path, capacity, overflow, post)

    @asynccontextmanager
    async def open(self, nursery: trio.Nursery) -> AsyncGenerator[Place, None]:
        async with self.executor.open(nursery) as place:
            yield WatchedPlace(place, self.lives)

    @property
    def life(self) -> SimulatedLife:
        life = self.lives[-1]
        assert isinstance(life, SimulatedLife)
        return life


class WatchedPlace(Place):
    def __init__(self, place: Place, lives: list[Life]) -> None:
        self._place = place
        self._lives = lives

    def begin(self, incarnation: Incarnation) -> Life:
        life = self._place.begin(incarnation)
        self._lives.append(life)
        return life


class Scene:
    """A host with a stage, and a service in a simulated process."""

    def __init__(self, kind: Any, host: av.Host, stage: av.Ref[Stage], **executor: Any) -> None:
        self.cls: Any = Looping if kind is av.AsyncProcessExecutor else Sync
        self.host = host
        self.stage = stage
        self.watched = Watched(simulated(kind(**executor)))

    def declared(self, setup: str = "", **options: Any) -> av.Application[Any]:
        options = {"name": "worker", **options}
        return av.Application(self.cls, self.stage, setup, executor=self.watched, **options)

    async def start(self, setup: str = "", **options: Any) -> av.Ref[Any]:
        return await self.host.start(self.declared(setup, **options))

    @property
    def life(self) -> SimulatedLife:
        return self.watched.life


def play(
    kind: Any, system: Callable[[Scene], Awaitable[Any]], *, seed: int | None = None, **options: Any
) -> Run[Any]:
    """Simulate a scene."""

    async def main() -> Any:
        outer.set("mine")
        async with av.open_host(max_restarts=1000, drain=0) as host:
            stage = await host.start(av.Application(Stage))
            return await system(Scene(kind, host, stage, **options))

    return simulate(main, seed=seed)


# --- what stands for what -----------------------------------------------------------------


def test_what_is_simulated() -> None:  # T2
    for kind in BOTH:
        real = kind(standby=2)
        found = simulated(real)
        assert found == SimulatedProcessExecutor(real)
        assert hash(found) == hash(simulated(kind(standby=2)))
        assert found != simulated(kind())
        assert repr(found) == repr(real)
        assert (found.has_loop, found.has_thread, found.is_remote) == (
            real.has_loop,
            real.has_thread,
            True,
        )
    for other in (av.AsyncExecutor(), av.ThreadExecutor()):
        assert simulated(other) is other
    with pytest.raises(TypeError, match="must be a ProcessExecutor's or an AsyncProcessExecutor's"):
        SimulatedProcessExecutor(av.ThreadExecutor())  # type: ignore[arg-type]


async def test_it_works_in_a_simulation_only() -> None:  # T2
    async with av.open_host() as host:
        executor = simulated(av.ProcessExecutor())
        with pytest.raises(av.ExecutorFailed) as caught:
            await host.start(av.Application(Sync, executor=executor))
    assert isinstance(caught.value.__cause__, OutsideSimulation)
    assert "works in simulate() only" in str(caught.value.__cause__)


# --- time ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    ("options", "first", "second"),
    [
        ({}, FORK + HAND_OVER, HAND_OVER),
        ({"standby": 0}, FORK + HAND_OVER, FORK + HAND_OVER),
        ({"start_method": "spawn"}, SPAWN + HAND_OVER, HAND_OVER),
        ({"start_method": "spawn", "standby": 0}, SPAWN + HAND_OVER, SPAWN + HAND_OVER),
    ],
)
def test_a_start_takes_time(
    kind: Any, options: dict[str, Any], first: float, second: float
) -> None:  # P5
    async def system(scene: Scene) -> tuple[float, float]:
        begun = trio.current_time()
        ref = await scene.start()
        up = trio.current_time()
        await trio.sleep(LONG)  # the next one stands by
        killed = trio.current_time()
        scene.life.kill()
        await ref.ask(scene.cls.keep, 1)
        return up - begun, trio.current_time() - killed

    assert play(kind, system, **options).value == pytest.approx((first, second))


@pytest.mark.parametrize("kind", BOTH)
def test_what_it_waits_for_passes_on_the_clock(kind: Any) -> None:  # T2
    async def system(scene: Scene) -> Any:
        ref = await scene.start()
        return await ref.ask(scene.cls.nap, LONG)

    run = play(kind, system)
    assert run.value == "slept"
    assert run.seconds == pytest.approx(LONG + FORK + HAND_OVER)


@pytest.mark.parametrize("kind", BOTH)
def test_the_same_run_twice_gives_the_same_steps(kind: Any) -> None:  # T2
    async def system(scene: Scene) -> Any:
        ref = await scene.start(redeliver=1)
        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(functools.partial(ref.tell, scene.cls.tell_each, number))
            await trio.lowlevel.checkpoint()
            scene.life.kill()
        await ref.ask(scene.cls.keep, 1)
        return await scene.stage.ask(Stage.lines)

    values = set()
    for seed in range(20):
        first, second = (play(kind, system, seed=seed) for _ in range(2))
        assert first.lanes == second.lanes
        assert first.value == second.value
        values.add(tuple(first.value))
    assert len(values) > 1


# --- what crosses -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BOTH)
def test_all_that_crosses_is_copied(kind: Any) -> None:  # P4
    async def system(scene: Scene) -> None:
        ref = await scene.start()
        mine: list[int] = [1]
        await ref.tell(scene.cls.keep, mine)
        mine.append(2)  # what was sent is as it was
        kept = await ref.ask(scene.cls.keep, 3)
        assert kept == [[1], 3]
        kept.append("mine")
        assert await ref.ask(scene.cls.keep, 4) == [[1], 3, 4]
        large = bytes(3 << 20)
        await ref.tell(scene.cls.keep, large)
        assert await ref.ask(scene.cls.last) == large  # P6, both ways
        await ref.tell(scene.cls.fail)  # it begins anew
        await ref.ask(scene.cls.show, 1)
        assert await ref.ask(scene.cls.show, 2) == [1, 2]
        assert await scene.stage.ask(Stage.lines) == [[], [1]]  # what it sends, too

    play(kind, system)


@pytest.mark.parametrize("kind", BOTH)
def test_what_cannot_be_pickled_is_an_error_of_its_sender(kind: Any) -> None:  # P4
    async def system(scene: Scene) -> None:
        ref = await scene.start()
        for call in (ref.ask, ref.tell):
            with pytest.raises(TypeError, match="cannot be pickled"):
                await call(scene.cls.keep, lambda: 0)
        assert scene.host.statistics().mailboxes[ref.path].accepted == 0
        with pytest.raises(av.RemoteError, match="cannot be pickled"):
            await ref.ask(scene.cls.unpicklable)
        assert "cannot be pickled" in await ref.ask(scene.cls.show_what_cannot_be_sent)
        assert await scene.stage.ask(Stage.lines) == []
        assert await ref.ask(scene.cls.keep, 1) == [1]
        assert ref.incarnation == 1
        with pytest.raises(TypeError, match="cannot be pickled"):
            await scene.host.start(
                av.Application(scene.cls, lambda: 0, executor=scene.watched, name="other")
            )

    play(kind, system)


@pytest.mark.parametrize("kind", BOTH)
def test_a_crash_comes_as_from_a_real_process(kind: Any) -> None:  # P2, M9
    async def system(scene: Scene) -> None:
        ref = await scene.start()
        with pytest.raises(av.ServiceCrashed) as caught:
            await ref.ask(scene.cls.fail)
        cause = caught.value.__cause__
        assert isinstance(cause, ValueError)
        assert isinstance(cause.__cause__, av.RemoteTraceback)
        assert "in fail" in str(cause.__cause__)
        assert await ref.ask(scene.cls.keep, 1) == [1]
        with pytest.raises(ValueError, match="of the setup"):
            await scene.start("raise", name="other")

    play(kind, system)


@pytest.mark.parametrize("kind", BOTH)
def test_nothing_of_the_context_crosses(kind: Any) -> None:  # H6
    async def system(scene: Scene) -> Any:
        assert outer.get() == "mine"
        ref = await scene.start()
        return await ref.ask(scene.cls.context)

    assert play(kind, system).value == "nothing"


@pytest.mark.parametrize("kind", BOTH)
def test_refs_work_in_there(kind: Any) -> None:  # I3
    async def system(scene: Scene) -> None:
        one = await scene.start(name="one")
        two = await scene.start(name="two")
        [back] = await one.ask(scene.cls.pass_on, two)
        assert back == one
        assert await back.ask(scene.cls.keep, 1) == [1]
        assert await one.ask(scene.cls.state_of, "../two") == "running"
        await two.stop()
        with pytest.raises(av.ServiceCrashed) as caught:
            await one.ask(scene.cls.pass_on, two)
        assert isinstance(caught.value.__cause__, av.ServiceStopped)
        with pytest.raises(av.ServiceCrashed) as caught:
            await one.ask(scene.cls.state_of, "../two")
        assert isinstance(caught.value.__cause__, LookupError)

    play(kind, system)


@pytest.mark.parametrize("kind", BOTH)
def test_it_sends_with_credit(kind: Any) -> None:  # P3, M3
    async def system(scene: Scene) -> Any:
        stage = await scene.host.start(av.Application(Stage, name="small", mailbox=3))
        await stage.tell(Stage.busy, 10)
        scene.stage = stage
        ref = await scene.start()
        telling = trio.Event()

        async def tell() -> None:
            await ref.ask(scene.cls.tell_each, 50)
            telling.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell)
            await trio.sleep(5)
            assert not telling.is_set()  # it waits for room
        return await stage.ask(Stage.lines)

    assert play(kind, system).value == [*range(50)]


# --- ends ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BOTH)
def test_a_killed_process_loses_all_but_its_mail(kind: Any) -> None:  # M4, M5, P3, L6
    async def system(scene: Scene) -> None:
        ref = await scene.start(mailbox=3000)
        await ref.ask(scene.cls.keep, 0)
        errors: list[BaseException] = []

        async def ask() -> None:
            try:
                await ref.ask(scene.cls.nap, LONG)
            except av.ServiceCrashed as error:
                errors.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(1)
            for number in range(2000):  # more than a window
                await ref.tell(scene.cls.keep, number)
            await trio.sleep(1)
            scene.life.kill()
        [error] = errors
        assert isinstance(error, av.ServiceCrashed)
        assert error.reason == av.Killed(-9)
        assert await ref.ask(scene.cls.keep, "last") == [*range(2000), "last"]
        mail = scene.host.statistics().mailboxes[ref.path]
        assert (mail.accepted, mail.handled, mail.dead_letters) == (2003, 2002, 1)
        assert (ref.incarnation, LINES) == (2, [])  # no teardown

    play(kind, system)


@pytest.mark.parametrize("kind", BOTH)
def test_what_a_kill_cut_off_is_handled_again(kind: Any) -> None:  # M5
    async def system(scene: Scene) -> None:
        ref = await scene.start(redeliver=1)
        answers = []

        async def ask() -> None:
            answers.append(await ref.ask(scene.cls.nap, 10))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(1)
            scene.life.kill()
        assert (answers, ref.incarnation) == (["slept"], 2)

    play(kind, system)


@pytest.mark.parametrize("kind", BOTH)
def test_nobody_waits_in_the_name_of_a_killed_process(kind: Any) -> None:  # M8, L5
    async def system(scene: Scene) -> None:
        await scene.stage.tell(Stage.busy, LONG)
        ref = await scene.start(restart="temporary")
        await ref.tell(scene.cls.ask_busy)
        await trio.sleep(1)
        assert scene.host.statistics().mailboxes[scene.stage.path].waiting == 1
        scene.life.kill()
        assert await ref.stopped() == av.Killed(-9)
        mail = scene.host.statistics().mailboxes[scene.stage.path]
        assert (mail.waiting, mail.withdrawn) == (0, 1)

    play(kind, system)


@pytest.mark.parametrize("kind", BOTH)
def test_nothing_of_a_killed_process_goes_on_before_the_end(kind: Any) -> None:  # T2
    async def system(scene: Scene) -> list[str]:
        ref = await scene.start(restart="temporary")
        await ref.tell(scene.cls.wait)
        await ref.tell(scene.cls.beside, 5, False)
        await trio.sleep(1)
        scene.life.kill()
        await ref.stopped()
        await trio.sleep(LONG)
        return [*LINES]

    run = play(kind, system)
    assert run.value == []
    assert LINES == ["unwound"]  # its tasks and threads have ended


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("status", [0, 3, -11])
def test_a_process_can_exit(kind: Any, status: int) -> None:  # P2
    async def system(scene: Scene) -> av.ExitReason:
        ref = await scene.start(restart="temporary")
        await ref.tell(scene.cls.nap, LONG)
        await trio.sleep(1)
        scene.life.exit(status)
        scene.life.exit(77)  # it has ended
        return await ref.stopped()

    assert play(kind, system).value == av.Killed(status)
    assert LINES == []


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    ("how", "reason"), [("kill", av.Killed(-9)), ("exit", av.Killed(3)), ("drop", None)]
)
def test_what_ends_itself_says_nothing_more(
    kind: Any, how: str, reason: av.ExitReason | None
) -> None:  # P2
    async def system(scene: Scene) -> tuple[av.ExitReason, object]:
        ref = await scene.start(restart="temporary")
        await ref.ask(scene.cls.show, 1)  # it has credit
        life = scene.life
        ENDS.update(kill=life.kill, exit=functools.partial(life.exit, 3), drop=life.drop)
        await ref.tell(scene.cls.leave, how)
        return await ref.stopped(), await scene.stage.ask(Stage.lines)

    found, lines = play(kind, system).value
    if reason is None:
        assert isinstance(found, av.Crashed)
        assert isinstance(found.exception, av.ConnectionLost)
    else:
        assert found == reason
    assert (lines, LINES) == ([[]], [])


@pytest.mark.parametrize("kind", BOTH)
def test_a_connection_can_be_lost(kind: Any) -> None:  # P2
    async def system(scene: Scene) -> av.ExitReason:
        ref = await scene.start(restart="temporary")
        await ref.tell(scene.cls.nap, LONG)
        await trio.sleep(1)
        scene.life.drop()
        return await ref.stopped()

    reason = play(kind, system).value
    assert isinstance(reason, av.Crashed)
    assert isinstance(reason.exception, av.ConnectionLost)
    assert LINES == []


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("end", [SimulatedLife.kill, SimulatedLife.drop])
def test_whatever_is_under_way_at_an_end_is_accounted_for(
    kind: Any, end: Callable[[SimulatedLife], None]
) -> None:  # M7, P3
    async def system(scene: Scene) -> None:
        ref = await scene.start()
        answered = []

        async def ask(number: int) -> None:
            try:
                await ref.ask(scene.cls.keep, number)
            except av.ServiceCrashed:
                answered.append("crashed")
            else:
                answered.append("kept")

        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(ask, number)
            await trio.lowlevel.checkpoint()
            end(scene.life)
        assert len(answered) == 10
        assert answered.count("crashed") <= 10
        mail = scene.host.statistics().mailboxes[ref.path]
        assert mail.accepted == 10
        assert mail.accepted == mail.handled + mail.dead_letters

    for seed in range(30):
        play(kind, system, seed=seed)


@pytest.mark.parametrize("kind", BOTH)
def test_a_process_can_be_killed_while_it_boots(kind: Any) -> None:  # L3, P2
    async def system(scene: Scene) -> None:
        async def kill() -> None:
            await trio.sleep(FORK / 2)
            assert scene.life.process is None
            scene.life.drop()  # there is no connection
            scene.life.kill()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(kill)
            with pytest.raises(av.StartFailed) as caught:
                await scene.start()
        assert caught.value.reason == av.Killed(-9)
        await scene.start()

    play(kind, system)


@pytest.mark.parametrize("kind", BOTH)
def test_a_start_has_its_time(kind: Any) -> None:  # L3
    async def system(scene: Scene) -> None:
        with pytest.raises(av.StartTimeout):
            await scene.start(str(LONG), start_timeout=5)
        await scene.start("4", start_timeout=5)
        if kind is av.ProcessExecutor:
            with pytest.raises(av.StartTimeout):
                await scene.start(name="other", start_timeout=0.1)  # it was not even there

    run = play(kind, system, standby=0, start_method="spawn")
    assert run.seconds < 11


@pytest.mark.parametrize("kind", BOTH)
def test_after_its_grace_it_is_killed(kind: Any) -> None:  # L4
    async def system(scene: Scene) -> tuple[av.ExitReason, float]:
        ref = await scene.start(grace=2)
        await ref.tell(scene.cls.nap, LONG)
        await trio.sleep(1)
        begun = trio.current_time()
        return await ref.stop(drain=0), trio.current_time() - begun

    reason, seconds = play(kind, system).value
    assert reason == av.TimedOut("handler")
    assert 2 <= seconds < 2.5


@pytest.mark.parametrize("beside", [False, True])
def test_one_that_hangs_is_killed(beside: bool) -> None:  # P2
    async def system(scene: Scene) -> av.ExitReason:
        ref = await scene.start(restart="temporary")
        assert await ref.ask(Sync.beat, 3, 5) == "beaten"
        await trio.sleep(LONG)  # idle is not hanging
        if beside:
            await ref.ask(Sync.beside, 6, False)
        await ref.tell(Sync.nap, 5)
        return await ref.stopped()

    assert play(av.ProcessExecutor, system, hang_timeout=4).value == av.TimedOut("hang")


def test_a_loop_that_turns_does_not_hang() -> None:  # P2
    async def system(scene: Scene) -> Any:
        ref = await scene.start()
        return await ref.ask(Looping.nap, LONG)

    assert play(av.AsyncProcessExecutor, system, hang_timeout=4).value == "slept"


@pytest.mark.parametrize("kind", BOTH)
def test_there_is_a_limit(kind: Any) -> None:  # P1
    async def system(scene: Scene) -> None:
        await scene.start(name="one")
        two = await scene.start(name="two")
        with pytest.raises(av.ProcessLimitReached):
            await scene.start(name="three")
        await two.stop()
        await scene.start(name="three")

    play(kind, system, max_processes=2)


@pytest.mark.parametrize("kind", BOTH)
def test_what_runs_beside(kind: Any) -> None:  # L8, M5
    async def system(scene: Scene) -> None:
        ref = await scene.start()
        await ref.ask(scene.cls.beside, 5, False)
        await trio.sleep(10)
        assert await scene.stage.ask(Stage.lines) == ["beside"]
        await ref.ask(scene.cls.beside, 5, True)
        await trio.sleep(10)
        assert (ref.incarnation, LINES) == (2, ["teardown Crashed"])
        # Its end is waited for, and is before that of its life.
        await ref.ask(scene.cls.beside, 3, False)
        begun = trio.current_time()
        assert await ref.stop() == av.Stopped()
        expected = 3 if kind is av.ProcessExecutor else 0
        assert trio.current_time() - begun == pytest.approx(expected)

    play(kind, system)


@pytest.mark.parametrize("kind", BOTH)
def test_a_pool_of_them(kind: Any) -> None:  # W1
    async def system(scene: Scene) -> float:
        pool: Any = await scene.host.start(av.Pool(scene.declared(), size=4))
        begun = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(functools.partial(pool.ask, scene.cls.nap, 10))
        return trio.current_time() - begun

    assert play(kind, system).value == pytest.approx(20)


def test_a_real_thread_in_there_is_refused() -> None:  # T2
    async def system(scene: Scene) -> None:
        ref = await scene.start()
        await ref.ask(Looping.block_elsewhere)

    with pytest.raises(OutsideSimulation):
        play(av.AsyncProcessExecutor, system)


def test_a_real_thread_in_there_is_waited_for() -> None:
    # T2: as trio does; what it answers to is no more else, an internal error of trio's
    async def system(scene: Scene) -> None:
        ref = await scene.start()
        await ref.ask(Looping.hold_a_thread)

    with pytest.raises(OutsideSimulation, match=r"trio\.to_thread"):
        play(av.AsyncProcessExecutor, system)
    assert LINES == ["let go"]


@pytest.mark.parametrize("kind", BOTH)
def test_what_is_killed_says_nothing_while_it_unwinds(  # T2: a real one could not
    kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def system(open_host: Any) -> None:
        cls: Any = Looping if kind is av.AsyncProcessExecutor else Sync
        async with open_host([av.Application(cls, name="worker", executor=kind())]):
            pass

    run = simulate(system, faults=[Fault("host/worker", 1, Teardown(), Kill())])
    assert len(run.trace.kinds("fault")) == 1
    assert "teardown" not in caplog.text


@pytest.mark.parametrize("kind", BOTH)
def test_an_hour_of_crashes(kind: Any) -> None:  # P5, S4
    async def system(scene: Scene) -> int:
        ref = await scene.start(backoff=av.Fixed(10))
        for _ in range(50):
            with pytest.raises(av.ServiceCrashed):
                await ref.ask(scene.cls.fail)
        await ref.ask(scene.cls.keep, 1)
        return ref.incarnation

    run = play(kind, system)
    assert run.value == 51
    assert run.seconds == pytest.approx(500, rel=0.01)
    assert math.isfinite(run.seconds)
