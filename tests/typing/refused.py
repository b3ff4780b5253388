# pyright: strict
# fmt: off
"""What must be refused: each line with a comment is an error to both checkers, and no other.

Only checked, never run. The comment: the codes of mypy | those of pyright.
"""

from __future__ import annotations

import trio

import actorvisor as av

from .samples import Adder, Counter, Log, LoudCounter, poll


def wrong_arguments_of_a_factory() -> None:
    av.Application(Counter, "ten")  # E: arg-type | reportArgumentType, reportCallIssue
    av.Application(Counter, 1, 2)  # E: arg-type, call-arg | reportArgumentType, reportCallIssue
    av.Application(Log)  # E: arg-type, call-arg | reportArgumentType, reportCallIssue
    av.Application(Log, "a")  # E: arg-type | reportArgumentType, reportCallIssue
    av.Application(Log, 3, "a")  # E: arg-type, call-arg | reportArgumentType, reportCallIssue
    av.Application(Log, "a", 3, 4)  # E: arg-type, call-arg | reportArgumentType, reportCallIssue
    av.Application(poll, "url")  # E: arg-type, type-var | reportArgumentType, reportCallIssue
    av.Application(poll, 3, 1.0)  # E: arg-type, call-arg, type-var | reportArgumentType, reportCallIssue
    av.Application(3)  # E: call-overload | reportArgumentType, reportCallIssue


def wrong_options() -> None:
    av.Application(Counter, name=3)  # E: call-arg, call-overload | reportArgumentType, reportCallIssue
    av.Application(Counter, executor=av.ThreadExecutor)  # E: call-arg, call-overload | reportArgumentType, reportCallIssue
    av.Application(Counter, restart="sometimes")  # E: call-arg, call-overload | reportArgumentType, reportCallIssue
    av.Application(Counter, backoff=3)  # E: call-arg, call-overload | reportArgumentType, reportCallIssue
    av.Application(Counter, overflow="drop_newest")  # E: call-arg, call-overload | reportArgumentType, reportCallIssue
    av.Application(Counter, mailbox="big")  # E: call-arg, call-overload | reportArgumentType, reportCallIssue
    av.Application(Counter, grace="5")  # E: call-arg, call-overload | reportArgumentType, reportCallIssue
    av.Application(Counter, on_crash={ValueError: "ignore"})  # E: call-arg, dict-item | reportArgumentType, reportCallIssue
    av.Application(Counter, on_crash={"ValueError": "stop"})  # E: call-arg, dict-item | reportArgumentType, reportCallIssue
    av.Application(Counter, unknown=1)  # E: call-overload | reportCallIssue
    av.Supervisor(av.Application(Counter))  # E: arg-type | reportArgumentType
    av.Supervisor([Counter])  # E: list-item | reportArgumentType
    av.Supervisor([], strategy="one_for_two")  # E: arg-type | reportArgumentType
    av.Supervisor([], auto_shutdown="some")  # E: arg-type | reportArgumentType
    av.Supervisor([], start="later")  # E: arg-type | reportArgumentType
    av.Supervisor([], on_limit="raise")  # E: arg-type | reportArgumentType
    av.open_host([], drain="5")  # E: arg-type | reportArgumentType
    av.open_host([], random=3)  # E: arg-type | reportArgumentType


def wrong_pools() -> None:
    av.Pool(Counter, size=2)  # E: arg-type | reportArgumentType
    av.Pool(av.Application(Counter))  # E: call-arg | reportCallIssue
    av.Pool(av.Application(Counter), 2)  # E: call-arg | reportCallIssue
    av.Pool(av.Application(Counter), size="2")  # E: arg-type | reportArgumentType
    av.Pool(av.Pool(av.Application(Counter), size=2), size=2)  # E: arg-type | reportArgumentType
    av.Pool(av.Supervisor([]), size=2)  # E: arg-type | reportArgumentType
    av.Pool(av.Application(Counter), size=2, key=3)  # E: arg-type | reportArgumentType
    av.Pool(av.Application(Counter), size=2, key=lambda: None)  # E: arg-type, return-value | reportArgumentType
    av.Pool(av.Application(Counter), size=2, strategy="one_for_all")  # E: call-arg | reportCallIssue


async def wrong_asks(ref: av.Ref[Counter]) -> None:
    await ref.ask(Counter.add)  # E: call-overload | reportCallIssue
    await ref.ask(Counter.add, "1")  # E: call-overload | reportArgumentType, reportCallIssue
    await ref.ask(Counter.add, 1, 2)  # E: call-overload | reportCallIssue
    await ref.ask(Counter.add, number=1)  # E: call-overload | reportCallIssue
    await ref.ask(Counter.pair, 1)  # E: call-overload | reportCallIssue
    await ref.ask(Log.write, "a")  # E: call-overload | reportArgumentType, reportCallIssue
    await ref.ask(LoudCounter.shout)  # E: call-overload | reportArgumentType, reportCallIssue
    await ref.ask("add", 1)  # E: call-overload | reportArgumentType, reportCallIssue
    text: str = await ref.ask(Counter.add, 1)  # E: call-overload | reportAssignmentType
    print(text)


async def wrong_tells(ref: av.Ref[Counter]) -> None:
    await ref.tell(Counter.add)  # E: call-arg | reportCallIssue
    await ref.tell(Counter.add, "1")  # E: arg-type | reportArgumentType
    await ref.tell(Counter.reset, 1, True)  # E: call-arg | reportCallIssue
    await ref.tell(Log.write, "a")  # E: arg-type | reportArgumentType
    ref.tell_nowait(Counter.pair, 1)  # E: call-arg | reportCallIssue
    ref.tell_nowait(Log.write, "a")  # E: arg-type | reportArgumentType
    await ref.tell_nowait(Counter.add, 1)  # E: misc | reportGeneralTypeIssues
    await ref.send()  # E: call-arg | reportCallIssue


async def wrong_asks_if_running(ref: av.Ref[Counter]) -> None:
    await ref.if_running.ask(Counter.add, "1")  # E: call-overload | reportArgumentType, reportCallIssue
    await ref.if_running.ask(Log.write, "a")  # E: call-overload | reportArgumentType, reportCallIssue
    await ref.if_running.tell(Counter.add)  # E: call-arg | reportCallIssue


def wrong_asks_from_a_thread(ref: av.Ref[Counter]) -> None:
    ref.blocking.ask(Counter.add, "1")  # E: call-overload | reportArgumentType, reportCallIssue
    ref.blocking.ask(Log.write, "a")  # E: call-overload | reportArgumentType, reportCallIssue
    ref.blocking.tell(Counter.add)  # E: call-arg | reportCallIssue
    number: int = ref.blocking.ask(Counter.read)  # E: assignment | reportAssignmentType
    print(number)


async def wrong_refs(ref: av.Ref[Counter], log: av.Ref[Log], wanted: av.Ref[Adder]) -> None:
    narrower: av.Ref[LoudCounter] = ref  # E: assignment | reportAssignmentType
    other: av.Ref[Counter] = log  # E: assignment | reportAssignmentType
    adder: av.Ref[Adder] = log  # E: assignment | reportAssignmentType
    await wanted.ask(Adder.add, "1")  # E: call-overload | reportArgumentType, reportCallIssue
    await wanted.ask(Counter.read)  # E: call-overload | reportArgumentType, reportCallIssue
    await log.ask(Adder.add, 1)  # E: call-overload | reportArgumentType, reportCallIssue
    print(narrower, other, adder)


async def wrong_control(host: av.Host, tree: av.SupervisorRef, ref: av.Ref[Counter]) -> None:
    await host.start(Counter)  # E: call-overload | reportArgumentType, reportCallIssue
    await host.start([av.Application(Counter)])  # E: call-overload | reportArgumentType, reportCallIssue
    host.find("counter")  # E: call-overload | reportCallIssue
    host.find("counter", 3)  # E: call-overload | reportArgumentType, reportCallIssue
    found: av.Ref[Log] = host.find("counter", Counter)  # E: arg-type | reportAssignmentType
    await tree.start(Counter)  # E: call-overload | reportArgumentType, reportCallIssue
    await tree.ask(Counter.add, 1)  # E: attr-defined | reportAttributeAccessIssue, reportUnknownMemberType
    await ref.stop(5.0)  # E: call-arg | reportCallIssue
    await ref.stop(grace="5")  # E: arg-type | reportArgumentType
    await ref.start(av.Application(Counter))  # E: call-arg | reportCallIssue
    ref.path = "elsewhere"  # E: misc | reportAttributeAccessIssue
    print(found)


class Inside(av.Service):
    async def setup(self) -> None:
        self.start_soon(poll)  # E: arg-type | reportArgumentType
        self.start_soon(trio.sleep, "1")  # E: arg-type | reportArgumentType
        self.after("1", self.setup)  # E: arg-type | reportArgumentType
        self.monitor(Counter)  # E: arg-type | reportArgumentType
        self.stopping = True  # E: misc | reportAttributeAccessIssue
