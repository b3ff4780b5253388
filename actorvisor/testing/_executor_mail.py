"""What an executor has to do with messages: take, done, give back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import trio

from .._core._backoff import Fixed
from .._core._messages import Crashed, Stopped
from .._errors import ServiceCrashed, ServiceStopped, WaitCycle
from ._players import Failure, Refusal

if TYPE_CHECKING:
    from ._scene import Scene

CHECKS: Final[list[Callable[[Scene], Awaitable[None]]]] = []


def _check(play: Callable[[Scene], Awaitable[None]]) -> Callable[[Scene], Awaitable[None]]:
    CHECKS.append(play)
    return play


@_check
async def order(scene: Scene) -> None:
    """Messages of one sender are handled in order, one at a time."""
    ref = await scene.start()
    scene.expect("M2", "200 messages from one task are handled in order")
    for number in range(200):
        await scene.tell(ref, f"say {number}")
    await scene.perform(ref, "say last")
    scene.same((await scene.lines())[2:], [*map(str, range(200)), "last"])
    scene.expect("M7", "each is counted as handled")
    scene.same((scene.mail(ref).accepted, scene.mail(ref).handled), (201, 201))
    scene.expect("M2", "one message at a time is handled")
    slow = await scene.perform_soon(ref, "say in; hear go")
    await scene.heard("in")
    behind = await scene.perform_soon(ref, "say behind")
    await trio.sleep(0.05)
    scene.check("behind" not in await scene.lines(), "the next one was handled meanwhile")
    scene.same((scene.mail(ref).in_hand, scene.mail(ref).waiting), (1, 1))
    await scene.say("go")
    await slow.get()
    await behind.get()


@_check
async def answers(scene: Scene) -> None:
    """Any value is a value."""
    ref = await scene.start()
    scene.expect("L2", "None, False, an exception object: any value is an answer")
    scene.same(await scene.perform(ref, "return none"), None)
    scene.same(await scene.perform(ref, "return false"), False)
    scene.kind(await scene.perform(ref, "return error"), Failure)
    scene.expect("M2", "a plain message is handled by receive()")
    await ref.send("a plain message")
    await scene.heard("a plain message")


@_check
async def rejections(scene: Scene) -> None:
    """A Rejection is an answer, and no crash."""
    ref = await scene.start()
    scene.expect("M9", "a Rejection reaches the asker as it is, and the service goes on")
    with scene.raises(Refusal) as caught:
        await scene.perform(ref, "keep mine; reject no")
    scene.same(caught[0].args, ("no",))
    await scene.tell(ref, "reject nobody hears it")
    scene.same(await scene.perform(ref, "state"), "mine")
    scene.expect("M7", "each is counted as rejected")
    scene.same((scene.mail(ref).rejected, scene.mail(ref).handled), (2, 1))


@_check
async def crash(scene: Scene) -> None:
    """The message in hand at a crash is a dead letter; what waits is handled."""
    ref = await scene.start()
    scene.expect("M5", "its asker gets ServiceCrashed at once, with the user's own exception")
    broken = await scene.perform_soon(ref, "say in; hear go; raise boom")
    await scene.heard("in")
    waiting = [await scene.perform_soon(ref, f"say {number}; return {number}") for number in "abc"]
    await scene.say("go")
    with scene.raises(ServiceCrashed, of=Failure) as caught:
        await broken.get()
    scene.same(caught[0].__cause__.args, ("boom",))
    scene.expect("M4", "what waited is handled by the next life, in order")
    scene.same([await answer.get() for answer in waiting], ["a", "b", "c"])
    scene.same((await scene.lines("go"))[-3:], ["a", "b", "c"])
    scene.same(ref.incarnation, 2)
    scene.expect("M5", "it is a dead letter, and is not handled again")
    mail = scene.mail(ref)
    scene.same((mail.accepted, mail.handled, mail.dead_letters), (4, 3, 1))
    scene.same((await scene.lines()).count("in"), 1)


@_check
async def crashes_in_a_row(scene: Scene) -> None:
    """Mail outlives any number of crashes."""
    ref = await scene.start()
    scene.expect("M4", "after any number of crashes in a row the rest is handled, in order")
    first = await scene.perform_soon(ref, "say in; hear go")
    await scene.heard("in")
    script = ["say 0", "raise a", "raise b", "say 1", "exit 0", "say 2", "raise c", "raise d"]
    asked = [await scene.perform_soon(ref, step) for step in script]
    last = await scene.perform_soon(ref, "say 3")
    await scene.say("go")
    await first.get()
    await last.get()
    said = [line for line in await scene.lines() if line in {"0", "1", "2", "3"}]
    scene.same(said, ["0", "1", "2", "3"])
    scene.same(ref.incarnation, 6)
    scene.expect("M5", "each asker is answered for its own message")
    for step, answer in zip(script, asked, strict=True):
        if step.startswith("say"):
            await answer.get()
        else:
            with scene.raises(ServiceCrashed):
                await answer.get()
    scene.same(scene.mail(ref).dead_letters, 5)


@_check
async def exits(scene: Scene) -> None:
    """SystemExit is a crash, whatever its code."""
    for code in (0, 3):
        scene.expect("M9", f"SystemExit({code}) in a handler is a crash")
        ref = await scene.start(restart="temporary")
        with scene.raises(ServiceCrashed, of=SystemExit):
            await scene.perform(ref, f"exit {code}")
        scene.kind(await ref.stopped(), Crashed)


@_check
async def redelivery(scene: Scene) -> None:
    """With redeliver=n the message in hand is handled again, first, up to n times."""
    scene.expect("M5", "with redeliver=2 it is handled again, first, while its asker waits")
    ref = await scene.start(redeliver=2)
    asked = await scene.perform_soon(ref, "say try; 1: hear go; 1,2: raise boom; return third")
    await scene.heard("try")
    behind = await scene.perform_soon(ref, "say behind; return behind")
    await scene.say("go")
    scene.same(await asked.get(), "third")
    scene.same(await behind.get(), "behind")
    said = [line for line in await scene.lines() if line in {"try", "behind"}]
    scene.same(said, ["try", "try", "try", "behind"])
    scene.expect("M7", "a redelivery is not accepted again")
    mail = scene.mail(ref)
    scene.same((mail.accepted, mail.handled, mail.dead_letters), (2, 2, 0))
    scene.expect("M5", "after n redeliveries it is a dead letter, its asker gets ServiceCrashed")
    with scene.raises(ServiceCrashed, of=Failure):
        await scene.perform(ref, "say again; raise boom")
    scene.same((await scene.lines()).count("again"), 3)
    scene.same(scene.mail(ref).dead_letters, 1)
    scene.expect("M5", "each message has its own count")
    with scene.raises(ServiceCrashed, of=Failure):
        await scene.perform(ref, "say other; raise boom")
    scene.same((await scene.lines()).count("other"), 3)


@_check
async def withdrawal(scene: Scene) -> None:
    """What its asker took back before it was entered is not handled."""
    ref = await scene.start()
    scene.expect("M8", "an ask that is cancelled while it waits is withdrawn, and not handled")
    busy = await scene.perform_soon(ref, "say in; hear go")
    await scene.heard("in")
    gone = await scene.perform_soon(ref, "say withdrawn")
    behind = await scene.perform_soon(ref, "return behind")
    gone.scope.cancel()
    await trio.sleep(0.02)
    await scene.say("go")
    await busy.get()
    scene.same(await behind.get(), "behind")
    # In another process it is withdrawn when its turn comes.
    await scene.until(lambda: scene.mail(ref).withdrawn == 1)
    scene.check("withdrawn" not in await scene.lines(), "it was handled")
    scene.same(scene.mail(ref).handled, 2)
    scene.expect("M8", "also while it is down")
    await ref.stop()
    ref = await scene.start(backoff=Fixed(0.2), redeliver=5)
    await scene.tell(ref, "3: raise boom")
    gone = await scene.perform_soon(ref, "3,2: raise boom; say between")
    await scene.until(lambda: ref.state == "backing_off")
    gone.scope.cancel()
    await scene.until(lambda: scene.mail(ref).withdrawn == 1)
    scene.expect("M8", "and between two tries")
    scene.same(await scene.perform(ref, "return back"), "back")
    scene.check("between" not in await scene.lines(), "it was handled")


@_check
async def late_answers(scene: Scene) -> None:
    """A message that was entered is handled to its end, whether somebody waits or not."""
    ref = await scene.start()
    scene.expect("M8", "an ask that is cancelled when its handler was entered goes on")
    gone = await scene.perform_soon(ref, "say in; hear go; say finished")
    await scene.heard("in")
    gone.scope.cancel()
    await trio.sleep(0.02)
    await scene.say("go")
    await scene.heard("finished")
    scene.expect("M8", "its answer is dropped and counted")
    await scene.until(lambda: scene.mail(ref).late_replies == 1)
    scene.same((scene.mail(ref).handled, scene.mail(ref).withdrawn), (1, 0))


@_check
async def the_end(scene: Scene) -> None:
    """What is left at an end for good is dead letters."""
    scene.expect("M6", "at an end for good all that waits is dead letters, askers are told at once")
    ref = await scene.start(restart="temporary")
    broken = await scene.perform_soon(ref, "say in; hear go; raise boom")
    await scene.heard("in")
    waiting = [await scene.perform_soon(ref, f"say {number}") for number in "ab"]
    await scene.say("go")
    with scene.raises(ServiceCrashed, of=Failure):
        await broken.get()
    for answer in waiting:
        with scene.raises(ServiceStopped):
            await answer.get()
    await ref.stopped()
    scene.same(scene.host.statistics().mail.dead_letters, 3)
    scene.same(await scene.lines("go"), ["life", "set up", "in", "teardown Crashed"])


@_check
async def restart_keeps_mail(scene: Scene) -> None:
    """A restart that was asked for loses nothing."""
    ref = await scene.start()
    scene.expect("M4", "restart() lets the message in hand finish, and keeps what waits, in order")
    busy = await scene.perform_soon(ref, "say in; hear go; return done")
    await scene.heard("in")
    waiting = [await scene.perform_soon(ref, f"say {number}; return {number}") for number in "abc"]
    restarting = await scene.soon(ref.restart)
    await scene.until(lambda: ref.state == "stopping")
    await scene.say("go")
    scene.same(await busy.get(), "done")
    await restarting.get()
    scene.same([await answer.get() for answer in waiting], ["a", "b", "c"])
    scene.same((await scene.lines("go"))[-4:], ["set up", "a", "b", "c"])
    scene.expect("M4", "restarts while messages stream in lose and reorder nothing")
    asked = []
    for number in range(60):
        asked.append(await scene.perform_soon(ref, f"return {number}"))
        if number % 20 == 10:
            await ref.restart()
    scene.same([await answer.get() for answer in asked], [*map(str, range(60))])


@_check
async def draining(scene: Scene) -> None:
    """A stop with a drain handles what is on its way."""
    ref = await scene.start()
    scene.expect("L4", "a drain handles what waits, and what it sends to itself, then stops")
    script = "say in; hear go; background tell say beside, say sent; hear sent"
    busy = await scene.perform_soon(ref, f"{script}; tell say inner, tell say innermost")
    await scene.heard("in")
    waiting = await scene.perform_soon(ref, "return drained")
    stopping = await scene.soon(lambda: ref.stop(drain=5))
    await trio.sleep(0.02)
    scene.expect("L4", "mail from outside is refused meanwhile")
    with scene.raises(ServiceStopped):
        await scene.tell(ref, "say outside")
    scene.expect("L4", "a drain handles what waits, and what it sends to itself, then stops")
    await scene.say("go")
    await busy.get()
    scene.same(await waiting.get(), "drained")
    scene.same(await stopping.get(), Stopped())
    lines = await scene.lines()
    scene.check({"inner", "innermost", "beside"} <= set(lines), lines)
    scene.same(scene.host.statistics().mail.dead_letters, 0)


@_check
async def promised_answers(scene: Scene) -> None:
    """reply_later() answers after the handler has returned."""
    ref = await scene.start()
    scene.expect("M5", "reply_later() answers later, with a value or a Rejection")
    first = await scene.perform_soon(ref, "later one")
    second = await scene.perform_soon(ref, "later two")
    await scene.perform(ref, "return next")
    scene.check(not (first.here or second.here), "it was answered when the handler returned")
    await scene.perform(ref, "answer one; refuse two")
    scene.same(await first.get(), "one")
    with scene.raises(Refusal):
        await second.get()
    scene.expect("M5", "a promise is for the ask in hand, once: else it is a RuntimeError")
    with scene.raises(ServiceCrashed, of=RuntimeError):
        await scene.perform(ref, "later three; later three")
    scene.expect("M5", "unanswered at a crash: ServiceCrashed")
    open_one = await scene.perform_soon(ref, "later four")
    await scene.perform(ref, "return next")
    await scene.tell(ref, "raise boom")
    with scene.raises(ServiceCrashed):
        await open_one.get()
    scene.expect("M5", "unanswered at a stop: ServiceStopped")
    open_one = await scene.perform_soon(ref, "later five")
    await scene.perform(ref, "return next")
    await ref.stop(drain=0)
    with scene.raises(ServiceStopped):
        await open_one.get()


@_check
async def waits_for_itself(scene: Scene) -> None:
    """A handler that asks its own service would wait for ever."""
    ref = await scene.start()
    scene.expect("M10", "a handler that asks itself gets WaitCycle at once")
    with scene.raises(ServiceCrashed, of=WaitCycle):
        await scene.perform(ref, "ask return never")
    scene.expect("M10", "a background task may")
    await scene.perform(ref, "background ask say asked")
    await scene.heard("asked")


@_check
async def overflow(scene: Scene) -> None:
    """A full mailbox is bounded, and drops the oldest by choice."""
    ref = await scene.start(mailbox=2)
    scene.expect("M3", "a sender waits while the mailbox is full, and goes on when there is room")
    await scene.tell(ref, "say in; hear go")
    await scene.heard("in")
    await scene.tell(ref, "say a")
    await scene.tell(ref, "say b")
    third = await scene.soon(scene.tell, ref, "say c")
    await trio.sleep(0.02)
    scene.check(not third.here, "tell() returned")
    await scene.say("go")
    await third.get()
    await scene.heard("c")
    scene.same((await scene.lines("go"))[-3:], ["a", "b", "c"])
    scene.same(await ref.stop(), Stopped())
