"""What an executor has to do with incarnations: start, stop, restart and end them."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import trio

from .._core._messages import Abandoned, Completed, Crashed, Killed, Started, Stopped, TimedOut
from .._errors import ServiceCrashed, ServiceStopped, StartTimeout
from .._runtime._declaration import Application, Supervisor
from .._runtime._host import open_host
from ..abc import Service
from ._players import Failure

if TYPE_CHECKING:
    from ._scene import Scene

FORCED: Final = (TimedOut, Killed, Abandoned)
"""What ends by force can end as."""

CHECKS: Final[list[Callable[[Scene], Awaitable[None]]]] = []


def _check(play: Callable[[Scene], Awaitable[None]]) -> Callable[[Scene], Awaitable[None]]:
    CHECKS.append(play)
    return play


class _Async(Service):
    async def handle(self) -> None:
        """An async handler."""


@_check
async def fits(scene: Scene) -> None:
    """The executor is a value, and says what fits it."""
    executor = scene.executor
    scene.expect("E1", "an executor is a hashable value, equal to itself")
    scene.check(executor == executor and hash(executor) == hash(executor), executor)
    scene.expect("E3", "has_loop and has_thread are booleans")
    scene.same((type(executor.has_loop), type(executor.has_thread)), (bool, bool))
    scene.expect("E3", "async handlers are refused at declaration without a loop")
    if executor.has_loop:
        Application(_Async, executor=executor)
    else:
        with scene.raises(TypeError):
            Application(_Async, executor=executor)
    scene.expect("E3", "plain handlers run under every executor")
    ref = await scene.start()
    scene.same(await ref.ask(scene.cast.player.plain, 5, second=2), 3)


@_check
async def setup_comes_before_started(scene: Scene) -> None:
    """It is started when its setup has finished, and not before."""
    scene.expect("L3", "start() returns, and Started comes, once setup has finished")
    with scene.host.events() as events:
        starting = await scene.soon(scene.start, "say in; hear go")
        await scene.heard("in")
        await scene.tell(scene.host.find("player", Service), "say handled")
        await trio.sleep(0.05)
        scene.check(not starting.here, "start() returned while setup ran")
        scene.same(scene.host.find("player", Service).state, "starting")
        scene.expect("M6", "mail waits while it starts")
        scene.same(await scene.lines(), ["life", "in"])
        await scene.say("go")
        ref = await starting.get()
        scene.same(ref.state, "running")
        await scene.heard("handled")
        scene.same(await scene.lines("go"), ["life", "in", "set up", "handled"])
        scene.expect("O1", "one Started for one start")
        await ref.stop()
    found = [one async for one in events if isinstance(one, Started) and one.path == ref.path]
    scene.same(len(found), 1)


@_check
async def idle_stop(scene: Scene) -> None:
    """An idle service stops at once, with a teardown."""
    ref = await scene.start()
    await scene.perform(ref, "say used")
    scene.expect("L4", "an idle service stops at once, and ends as Stopped")
    scene.same(await ref.stop(drain=0), Stopped())
    scene.expect("L5", "teardown has run once, with Stopped, when stop() returns")
    scene.same(await scene.lines(), ["life", "set up", "used", "teardown Stopped"])
    scene.same(ref.state, "stopped")
    scene.expect("L4", "stop() does not return before teardown is over")
    slow = await scene.start(teardown="say tearing down; hear go")
    stopping = await scene.soon(slow.stop)
    await scene.heard("tearing down")
    await trio.sleep(0.05)
    scene.check(not stopping.here, "stop() returned while teardown ran")
    scene.same(slow.state, "stopping")
    await scene.say("go")
    scene.same(await stopping.get(), Stopped())
    scene.expect("M6", "mail for what has ended raises ServiceStopped")
    with scene.raises(ServiceStopped):
        await scene.perform(ref, "say late")


@_check
async def stop_before_the_first_message(scene: Scene) -> None:
    """A stop right after the start."""
    scene.expect("L4", "a service that has just started stops at once, and ends as Stopped")
    for grace in (5.0, 0.0, math.inf):
        ref = await scene.start()
        scene.same(await ref.stop(grace=grace, drain=0), Stopped())
    scene.expect("L5", "teardown runs, but not with grace=0")
    scene.same((await scene.lines()).count("teardown Stopped"), 2)


@_check
async def fresh_instances(scene: Scene) -> None:
    """Every life is a fresh instance."""
    ref = await scene.start()
    await scene.perform(ref, "keep old")
    scene.expect("L6", "state lasts as long as a life")
    scene.same(await scene.perform(ref, "state"), "old")
    scene.expect("L6", "a restart makes a fresh instance, after the old one's teardown")
    await ref.restart()
    scene.same(await scene.perform(ref, "state"), "fresh")
    scene.same(ref.incarnation, 2)
    scene.same(await scene.lines(), ["life", "set up", "teardown Stopped", "life", "set up"])


@_check
async def setup_fails(scene: Scene) -> None:
    """A setup that raises is a failed start."""
    scene.expect("L3", "start() raises what setup raised, and does not try again")
    with scene.raises(Failure):
        await scene.start("raise boom")
    scene.same(await scene.lines(), ["life"])
    scene.expect("L3", "SystemExit in setup is a failed start as any")
    with scene.raises(SystemExit):
        await scene.start("exit 3")
    scene.expect("I4", "the name is free when start() has raised")
    ref = await scene.start()
    scene.expect("L3", "a setup that fails on a restart is a crash, and is tried again")
    await ref.stop()
    ref = await scene.start("5,6: raise boom; say fine")
    await scene.tell(ref, "raise boom")
    await scene.heard("fine", 2)
    await scene.perform(ref, "say back")
    scene.same(ref.incarnation, 4)


@_check
async def setup_takes_too_long(scene: Scene) -> None:
    """start_timeout ends a setup."""
    scene.expect("L3", "a setup that takes longer than start_timeout raises StartTimeout at once")
    with scene.raises(StartTimeout):
        await scene.start("hear go", start_timeout=0.1)
    await scene.say("go")
    scene.expect("L3", "start_timeout ends with setup: it limits no handler")
    ref = await scene.start("say in", start_timeout=1.0)
    answer = await scene.perform_soon(ref, "hear more; return fine")
    await trio.sleep(1.1)
    await scene.say("more")
    scene.same(await answer.get(), "fine")


@_check
async def setup_declines(scene: Scene) -> None:
    """self.stop() in setup declines the start."""
    scene.expect("L7", "after self.stop() in setup start() returns, and it is stopped")
    with scene.host.events() as events:
        ref = await scene.start("stop")
        scene.same(ref.state, "stopped")
        scene.expect("L7", "it ends as Completed(None), and is not restarted")
        scene.same(await ref.stopped(), Completed())
        scene.same(await scene.lines(), ["life", "set up"])
    scene.expect("L7", "there is no Started")
    scene.same([one async for one in events if isinstance(one, Started)], [])


@_check
async def stop_during_setup(scene: Scene) -> None:
    """A stop ends a setup, or waits for it if nothing can end it."""
    scene.expect("L4", "a stop during setup ends it, as Stopped, and start() raises ServiceStopped")
    starting = await scene.soon(scene.start, "say in; hear go")
    await scene.heard("in")
    ref = scene.host.find("player", Service)
    stopping = await scene.soon(ref.stop)
    await scene.until(lambda: ref.state != "starting")
    await scene.say("go")
    scene.same(await stopping.get(), Stopped())
    with scene.raises(ServiceStopped):
        await starting.get()
    scene.expect("L3", "a cancelled start ends the half-started child")
    starting = await scene.soon(scene.start, "say in again; hear more")
    await scene.heard("in again")
    ref = scene.host.find("player", Service)
    starting.scope.cancel()
    await scene.until(lambda: ref.state != "starting")
    await scene.say("more")
    scene.kind(await ref.stopped(), (Stopped, *FORCED))


@_check
async def busy_stop(scene: Scene) -> None:
    """A busy service finishes its message."""
    ref = await scene.start()
    busy = await scene.perform_soon(ref, "say in; hear go; return done")
    await scene.heard("in")
    waiting = await scene.perform_soon(ref, "say never")
    stopping = await scene.soon(lambda: ref.stop(drain=0, grace=math.inf))
    await scene.until(lambda: ref.state == "stopping")
    scene.expect("L4", "a stop waits for the message in hand, grace=inf for ever")
    await trio.sleep(0.05)
    scene.check(not stopping.here, "stop() returned")
    await scene.say("go")
    scene.expect("L4", "the message in hand is finished, and its answer delivered")
    scene.same(await busy.get(), "done")
    scene.same(await stopping.get(), Stopped())
    scene.expect("M6", "what waits at the end is not handled, and its asker gets ServiceStopped")
    with scene.raises(ServiceStopped):
        await waiting.get()
    scene.same(await scene.lines("go"), ["life", "set up", "in", "teardown Stopped"])


@_check
async def grace_exceeded(scene: Scene) -> None:
    """After its grace, a busy service is ended by force."""
    scene.expect("L4", "a handler that outlasts its grace is ended by force at a stop")
    ref = await scene.start(grace=0.1)
    busy = await scene.perform_soon(ref, "say in; hear go")
    await scene.heard("in")
    scene.kind(await ref.stop(drain=0), FORCED)
    scene.expect("M5", "what a final stop cuts off is a dead letter, its asker gets ServiceStopped")
    with scene.raises(ServiceStopped):
        await busy.get()
    scene.same(scene.host.statistics().mail.dead_letters, 1)
    await scene.say("go")
    scene.expect("L4", "and at a restart")
    ref = await scene.start(grace=0.1)
    busy = await scene.perform_soon(ref, "say in again; hear more")
    await scene.heard("in again")
    await ref.restart()
    scene.expect("M5", "what a restart cuts off is a dead letter, its asker gets ServiceCrashed")
    with scene.raises(ServiceCrashed):
        await busy.get()
    scene.expect("L6", "the next life goes on")
    scene.same(await scene.perform(ref, "return up"), "up")
    scene.same(ref.incarnation, 2)
    await scene.say("more")


@_check
async def no_grace(scene: Scene) -> None:
    """grace=0 does not wait, and tears nothing down."""
    ref = await scene.start()
    busy = await scene.perform_soon(ref, "say in; hear go")
    await scene.heard("in")
    scene.expect("L4", "grace=0 does not wait for the message in hand")
    scene.kind(await ref.stop(grace=0), (Stopped, *FORCED))
    with scene.raises(ServiceStopped):
        await busy.get()
    await scene.say("go")
    scene.expect("L5", "with grace=0 there is no teardown")
    scene.same(await scene.lines("go"), ["life", "set up", "in"])
    scene.expect("L5", "nor at the crash of what declares grace=0")
    ref = await scene.start(grace=0, restart="temporary")
    await scene.tell(ref, "raise boom")
    scene.kind(await ref.stopped(), Crashed)
    scene.check("teardown Crashed" not in await scene.lines(), "teardown has run")
    scene.expect("L4", "less grace shortens a stop under way")
    ref = await scene.start()
    await scene.tell(ref, "say in again; hear more")
    await scene.heard("in again")
    stopping = await scene.soon(lambda: ref.stop(grace=math.inf, drain=0))
    await scene.until(lambda: ref.state == "stopping")
    await ref.stop(grace=0)
    scene.kind(await stopping.get(), (Stopped, *FORCED))
    await scene.say("more")


@_check
async def teardown_reasons(scene: Scene) -> None:
    """Teardown runs at every end, once, with the reason."""
    scene.expect("L5", "after a crash teardown runs with Crashed, before the next setup")
    ref = await scene.start()
    await scene.tell(ref, "raise boom")
    await scene.heard("set up", 2)
    scene.same(await scene.lines(), ["life", "set up", "teardown Crashed", "life", "set up"])
    scene.expect("L5", "after self.stop() with Completed")
    await scene.perform(ref, "stop")
    await scene.heard("set up", 3)
    scene.same((await scene.lines())[5:], ["teardown Completed", "life", "set up"])
    scene.expect("L5", "after a stop with Stopped")
    await ref.stop()
    scene.same((await scene.lines())[8:], ["teardown Stopped"])


@_check
async def teardown_fails(scene: Scene) -> None:
    """What teardown raises never hides the first error."""
    options = {"teardown": "raise late", "restart": "temporary"}
    scene.expect("L5", "a teardown that raises leaves an asked-for stop Stopped")
    ref = await scene.start(**options)
    scene.same(await ref.stop(), Stopped())
    scene.expect("L5", "it makes a normal end Crashed")
    ref = await scene.start(**options)
    await scene.tell(ref, "stop")
    reason = await ref.stopped()
    scene.check(isinstance(reason, Crashed) and reason.exception.args == ("late",), reason)
    scene.expect("L5", "it does not hide a crash")
    ref = await scene.start(**options)
    await scene.tell(ref, "raise first")
    reason = await ref.stopped()
    scene.check(isinstance(reason, Crashed) and reason.exception.args == ("first",), reason)


@_check
async def teardown_takes_too_long(scene: Scene) -> None:
    """Teardown is within the grace."""
    scene.expect("L4", "a teardown that outlasts the grace is ended by force")
    ref = await scene.start(teardown="hear go", grace=0.1)
    scene.kind(await ref.stop(), FORCED)
    await scene.say("go")
    scene.expect("L5", "after a crash that stays the reason")
    ref = await scene.start(teardown="hear more", grace=0.1, restart="temporary")
    await scene.tell(ref, "raise boom")
    scene.kind(await ref.stopped(), Crashed)
    await scene.say("more")


@_check
async def own_stop(scene: Scene) -> None:
    """A service may stop itself anywhere."""
    scene.expect("L7", "self.stop() in a handler ends it as Completed, after the answer")
    ref = await scene.start(restart="transient")
    scene.same(await scene.perform(ref, "stop; return answered"), "answered")
    scene.same(await ref.stopped(), Completed())
    scene.expect("L7", "self.stop() in a background task")
    ref = await scene.start(restart="transient")
    await scene.perform(ref, "background stop")
    scene.same(await ref.stopped(), Completed())
    scene.expect("S1", "a permanent service is restarted after it")
    ref = await scene.start()
    lives = len([one for one in await scene.lines() if one == "life"])
    await scene.perform(ref, "stop")
    await scene.heard("life", lives + 1)
    scene.expect("M4", "what waits behind it is handled by the next life")
    blocked = await scene.perform_soon(ref, "say in; hear go; stop")
    await scene.heard("in")
    behind = await scene.perform_soon(ref, "return behind")
    await scene.say("go")
    await blocked.get()
    scene.same(await behind.get(), "behind")
    scene.same(ref.incarnation, 3)


@_check
async def background_tasks(scene: Scene) -> None:
    """Background tasks end with their life, and their crash is its crash."""
    ref = await scene.start(restart="temporary")
    scene.expect("L8", "background tasks run beside the handlers, and end by themselves")
    await scene.perform(ref, "background say beside, hear go")
    await scene.heard("beside")
    scene.same(await scene.perform(ref, "return free"), "free")
    await scene.say("go")
    await scene.heard("background over")
    scene.same(await scene.perform(ref, "return up"), "up")
    scene.expect("L8", "what is left of them has ended when the life has, before teardown")
    await scene.perform(ref, "background say waiting, hear more")
    await scene.heard("waiting")
    stopping = await scene.soon(ref.stop)
    await scene.until(lambda: ref.state in {"stopping", "stopped"})
    await scene.say("more")
    scene.same(await stopping.get(), Stopped())
    await scene.heard("background over", 2)
    lines = await scene.lines("more")
    scene.same(lines[-2:], ["background over", "teardown Stopped"])
    scene.expect("M5", "the crash of an idle service's background task is its crash")
    ref = await scene.start(restart="temporary")
    await scene.perform(ref, "background hear idle, raise beside")
    await scene.say("idle")
    reason = await ref.stopped()
    scene.check(isinstance(reason, Crashed) and reason.exception.args == ("beside",), reason)
    scene.expect("L3", "in setup it is a failed start")
    with scene.raises(Failure):
        await scene.start("background raise early; hear start", grace=0.2)
    await scene.say("start")


@_check
async def crash_in_background(scene: Scene) -> None:
    """The message in hand is blamed even if a background task crashed."""
    scene.expect("M5", "the asker of the message in hand gets ServiceCrashed at once")
    ref = await scene.start()
    busy = await scene.perform_soon(ref, "background hear crash, raise beside; say in; hear go")
    await scene.heard("in")
    behind = await scene.perform_soon(ref, "return behind")
    await scene.say("crash")
    with scene.raises(ServiceCrashed, of=Failure):
        await busy.get()
    await scene.say("go")
    scene.expect("M4", "the next life goes on with what waits")
    scene.same(await behind.get(), "behind")
    scene.same(ref.incarnation, 2)
    scene.same(scene.mail(ref).dead_letters, 1)


@_check
async def many_services(scene: Scene) -> None:
    """One executor carries any number of services."""
    scene.expect("E1", "20 services under one supervisor start, answer, restart and stop")
    declared = [scene.player(name=f"player-{number}") for number in range(20)]
    tree = await scene.host.start(Supervisor(declared, name="many"))
    refs = [scene.host.find(f"many/player-{number}", Service) for number in range(20)]
    answers = [await scene.perform_soon(ref, f"return {ref.path}") for ref in refs]
    scene.same([await answer.get() for answer in answers], [ref.path for ref in refs])
    await refs[3].restart()
    scene.same([ref.incarnation for ref in refs], [1, 1, 1, 2, *[1] * 16])
    scene.expect("L7", "a service that ended can be started again")
    await refs[5].stop()
    await refs[5].start()
    scene.same(await scene.perform(refs[5], "return again"), "again")
    scene.expect("S5", "they are stopped in reverse order")
    with scene.host.events() as events:
        await tree.stop()
    ended = [one.path async for one in events if type(one).__name__ == "Ended"]
    scene.same(ended, [*[ref.path for ref in reversed(refs)], tree.path])


@_check
async def what_it_can_do_from_inside(scene: Scene) -> None:
    """find, monitor, timers."""
    ref = await scene.start()
    scene.expect("I2", "self.find() finds others, and says so when there is none")
    await scene.perform(ref, "find ../stage")
    with scene.raises(ServiceCrashed, of=LookupError):
        await scene.perform(ref, "find ../nobody")
    scene.expect("O2", "self.monitor() brings the notifications of others to receive()")
    other = await scene.start(name="other")
    await scene.perform(ref, "monitor ../other")
    await other.restart()
    await scene.heard("Started of host/other")
    await other.stop()
    await scene.heard("Ended of host/other")


@_check
async def timers(scene: Scene) -> None:
    """Timers are messages to itself, of one life."""
    ref = await scene.start()
    scene.expect("L8", "after() happens once, every() again and again, cancel() ends both")
    await scene.perform(ref, "after once; after never; cancel never; every often; say set")
    await scene.heard("often", 3)
    await scene.perform(ref, "cancel often; say cancelled")
    count = (await scene.lines()).count("often")
    await trio.sleep(0.1)
    lines = await scene.lines()
    scene.same((lines.count("once"), lines.count("never")), (1, 0))
    scene.check(lines.count("often") <= count + 1, lines)
    scene.expect("L8", "a timer that has not fired is dropped with its life")
    await scene.tell(ref, "after early; raise boom")
    await scene.heard("life", 2)
    await trio.sleep(0.1)
    scene.check("early" not in await scene.lines(), "it fired in the next life")
    scene.expect("L8", "a timer's message that waits at a crash is dropped by the next life")
    before = scene.mail(ref)
    await scene.tell(ref, "after stale; say in; hear go; raise boom")
    await scene.heard("in")
    await scene.until(lambda: scene.mail(ref).waiting == 1)
    await scene.say("go")
    await scene.heard("life", 3)
    await scene.perform(ref, "say after all")
    scene.check("stale" not in await scene.lines(), "it was handled")
    scene.same(scene.mail(ref).withdrawn - before.withdrawn, 1)


@_check
async def cancelled_host(scene: Scene) -> None:
    """Whatever its services do, a host that is cancelled ends."""
    scene.expect("H2", "a cancelled host ends within its cancel_grace, with teardowns")
    with trio.CancelScope() as scope:
        async with open_host([scene.player(), scene.player(name="busy", grace=0.1)]) as host:
            busy = host.find("busy", Service)
            await scene.tell(busy, "say in; hear go")
            await scene.heard("in")
            scope.cancel()
    scene.same((await scene.lines()).count("teardown Stopped") >= 1, True)
    await scene.say("go")
    scene.expect("H2", "then by force")
    with trio.CancelScope() as scope:
        async with open_host([scene.player()], cancel_grace=0.1) as host:
            await scene.tell(host.find("player", Service), "say in again; hear more")
            await scene.heard("in again")
            scope.cancel()
    await scene.say("more")


@_check
async def body_that_raises(scene: Scene) -> None:
    """The block's own exception passes through, after everything was stopped."""
    scene.expect("S8", "the block's exception passes unwrapped, after teardown")
    with scene.raises(Failure):
        async with open_host([scene.player()]):
            raise Failure("of the block")
    scene.same((await scene.lines())[-1], "teardown Stopped")
