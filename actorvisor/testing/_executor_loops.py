"""What an executor has to do with services that are loops of their own: `run`, functions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import trio

from .._core._messages import Completed, Crashed, ExitReason, Stopped
from .._errors import ServiceStopped
from ..abc import Service
from ._players import Failure

if TYPE_CHECKING:
    from .._runtime._declaration import Application
    from .._runtime._ref import Ref
    from ._scene import Scene

CHECKS: Final[list[Callable[[Scene], Awaitable[None]]]] = []


def _check(play: Callable[[Scene], Awaitable[None]]) -> Callable[[Scene], Awaitable[None]]:
    CHECKS.append(play)
    return play


async def _run_to_its_end(scene: Scene, declared: Application[Any]) -> ExitReason:
    """How it ends by itself; it may have ended before its start has returned."""
    ref = await scene.host.start(declared)
    return await ref.stopped()


@_check
async def readers(scene: Scene) -> None:
    """A run reads its mail; what was read is in hand until the next read."""
    ref: Ref[Any] = await scene.host.start(scene.reader())
    scene.expect("M2", "a run reads its mail in order")
    for number in range(70):
        await ref.send(f"say {number}")
    await scene.heard("69")
    scene.same((await scene.lines())[2:], [*map(str, range(70))])
    scene.expect("M7", "what was read is in hand until the next read, then handled")
    await ref.send("say in; hear go")
    await scene.heard("in")
    scene.same((scene.mail(ref).in_hand, scene.mail(ref).handled), (1, 70))
    await scene.say("go")
    await scene.until(lambda: scene.mail(ref).handled == 71)
    scene.expect("L4", "a stop ends the loop that waits for mail, with teardown")
    scene.same(await ref.stop(), Stopped())
    scene.same((await scene.lines())[-1], "teardown Stopped")
    scene.same(scene.host.statistics().mail.dead_letters, 0)


@_check
async def readers_that_leave(scene: Scene) -> None:
    """What run returns is the value of its Completed."""
    scene.expect("L2", "what run returns is the value of Completed; its message is handled")
    ref: Ref[Any] = await scene.host.start(scene.reader(restart="transient"))
    await ref.send("return leave")
    scene.same(await ref.stopped(), Completed("left"))
    mail = scene.host.statistics().mail
    scene.expect("M7", "the message that it left with is handled")
    scene.same(mail.dead_letters, 0)
    scene.expect("L7", "self.stop() ends the loop")
    ref = await scene.host.start(scene.reader(restart="transient"))
    await ref.send("stop")
    scene.same(await ref.stopped(), Completed("read out"))
    scene.expect("M4", "what waits behind it is handled by the next life")
    ref = await scene.host.start(scene.reader())
    await ref.send("say in; hear go; return leave")
    await scene.heard("in")
    await ref.send("say behind")
    await scene.say("go")
    await scene.heard("behind")
    scene.same(ref.incarnation, 2)


@_check
async def readers_that_leave_at_a_stop(scene: Scene) -> None:
    """A run that returns while it is told to stop was not cut off."""
    scene.expect("M7", "the message that a run has in hand when it returns is handled")
    ref: Ref[Any] = await scene.host.start(scene.reader())
    await ref.send("say in; hear go; return leave")
    await scene.heard("in")
    stopping = await scene.soon(lambda: ref.stop(drain=0))
    await scene.until(lambda: ref.state == "stopping")
    await scene.say("go")
    scene.same(await stopping.get(), Stopped())
    scene.same(scene.host.statistics().mail.dead_letters, 0)


@_check
async def readers_that_crash(scene: Scene) -> None:
    """The message in hand of a run is blamed."""
    scene.expect("M5", "the message in hand at the crash of a run is a dead letter, the rest waits")
    ref: Ref[Any] = await scene.host.start(scene.reader())
    await ref.send("say in; hear go; raise boom")
    await scene.heard("in")
    await ref.send("say behind")
    await scene.say("go")
    await scene.heard("behind")
    scene.same(scene.mail(ref).dead_letters, 1)
    scene.same((await scene.lines()).count("in"), 1)
    scene.same(ref.incarnation, 2)
    scene.expect("M5", "with redeliver it is read again, first")
    ref = await scene.host.start(scene.reader(name="again", redeliver=1))
    lives = len([one for one in await scene.lines() if one == "life"])
    await ref.send(f"say try; {lives}: raise boom")
    await scene.heard("try", 2)
    await scene.until(lambda: scene.mail(ref).handled == 1 or scene.mail(ref).in_hand == 1)
    scene.same(scene.mail(ref).dead_letters, 0)


@_check
async def functions(scene: Scene) -> None:
    """What a function returns is the value of its Completed."""
    scene.expect("L2", "what a function returns is the value of Completed: any value")
    scene.same(await _run_to_its_end(scene, scene.function("return fine")), Completed("fine"))
    scene.same(await _run_to_its_end(scene, scene.function("return none")), Completed())
    scene.same(await _run_to_its_end(scene, scene.function("return false")), Completed(False))
    reason = await _run_to_its_end(scene, scene.function("return error"))
    scene.check(isinstance(reason, Completed) and isinstance(reason.value, Failure), reason)
    scene.expect("M9", "what it raises is its crash, SystemExit too")
    crashing = scene.function("raise boom", restart="temporary")
    scene.kind(await _run_to_its_end(scene, crashing), Crashed)
    leaving = scene.function("exit 0", restart="temporary")
    scene.kind(await _run_to_its_end(scene, leaving), Crashed)
    scene.expect("S1", "it is restarted after a crash, and not after a normal end")
    ref = await scene.host.start(scene.function("say run; 7: raise boom; hear go", name="again"))
    await scene.heard("run", 2)
    scene.same(ref.incarnation, 2)
    await scene.say("go")
    scene.same(await ref.stopped(), Completed())


@_check
async def functions_that_are_stopped(scene: Scene) -> None:
    """A stop ends a function, and waits for its grace if it has to."""
    scene.expect("L4", "a stopped function ends as Stopped once it has returned or unwound")
    ref = await scene.host.start(scene.function("say in; hear go"))
    await scene.heard("in")
    stopping = await scene.soon(ref.stop)
    await scene.until(lambda: ref.state in {"stopping", "stopped"})
    await scene.say("go")
    scene.same(await stopping.get(), Stopped())
    scene.expect("L4", "it is restarted by restart()")
    ref = await scene.host.start(scene.function("say in again; hear more", grace=0.2))
    await scene.heard("in again")
    await ref.restart()
    await scene.heard("in again", 2)
    await scene.say("more")
    scene.same(await ref.stopped(), Completed())


@_check
async def many_lives(scene: Scene) -> None:
    """Restarts leave nothing behind."""
    scene.expect("S10", "50 crashes in a row leave nothing behind, and the mail in order")
    ref = await scene.start()
    for number in range(50):
        await scene.tell(ref, f"say {number}; raise boom")
        if number % 10 == 0:
            await trio.lowlevel.checkpoint()
    scene.same(await scene.perform(ref, "return up"), "up")
    said = [line for line in await scene.lines() if line.isdigit()]
    scene.same(said, [*map(str, range(50))])
    scene.same(ref.incarnation, 51)
    lines = await scene.lines()
    scene.expect("L5", "each life has one setup and one teardown")
    scene.same((lines.count("set up"), lines.count("teardown Crashed")), (51, 50))
    scene.expect("S8", "mail for a name that is forgotten raises ServiceStopped")
    await ref.remove()
    with scene.raises(ServiceStopped):
        await ref.send("late")
    with scene.raises(LookupError):
        scene.host.find("player", Service)
