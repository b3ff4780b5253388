"""SIGKILLs at random moments of a process service under a steady stream of messages (P3, M2-M7).

Each handler tells a coroutine service of the parent which message it handles. What that has heard,
the answers, the dead letters and the mailbox's own account have to agree at the end.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import re
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import trio

import actorvisor as av
from tests.runtime.account import check_account

Message: TypeAlias = tuple[int, int]
"""Which stream it is of, and its number in there; what one stream sends keeps its order (M2)."""

ASKERS: Final = 20
"""Streams of asks, each waiting for its answer, beside stream 0, which only tells."""
LAST: Final = ASKERS + 1
"""The stream of the one message that is sent when all others were."""
BEFORE_UP: Final = 0.2
"""How many of the kills may hit a process that has not begun its work."""


class Recorder(av.Service):
    """A coroutine service of the parent: what was handled, in order, and by which process."""

    def __init__(self, seen: Run) -> None:
        self.seen = seen

    def begin(self, process: int) -> None:
        self.seen.processes.append(process)
        self.seen.begun.set()
        self.seen.begun = trio.Event()

    def note(self, stream: int, number: int) -> None:
        self.seen.heard.append((stream, number))


class Blocking(av.Service):
    """What is killed, without a loop."""

    def __init__(self, recorder: av.Ref[Recorder]) -> None:
        self.recorder = recorder

    def setup(self) -> None:
        self.recorder.blocking.tell(Recorder.begin, os.getpid())

    def handle(self, stream: int, number: int) -> Message:
        self.recorder.blocking.tell(Recorder.note, stream, number)
        return stream, number


class Coroutine(av.Service):
    """What is killed, with a loop."""

    def __init__(self, recorder: av.Ref[Recorder]) -> None:
        self.recorder = recorder

    async def setup(self) -> None:
        await self.recorder.tell(Recorder.begin, os.getpid())

    async def handle(self, stream: int, number: int) -> Message:
        await self.recorder.tell(Recorder.note, stream, number)
        return stream, number


Kind: TypeAlias = Literal["sync", "async"]


@dataclass
class Run:
    """What was sent, and what became of it.

    Attributes:
        sent: numbers sent, by stream.
        answered: asks that were answered.
        crashed: asks that ended with `ServiceCrashed`.
        heard: what the recorder was told, in order.
        processes: that began their work, in order.
        begun: set when one more has.
        killed: processes that were killed.
        early: how many of them had not begun their work.
        dead: dead letters.
        checks: how often the account was checked.
    """

    sent: Counter[int] = field(default_factory=Counter)
    answered: set[Message] = field(default_factory=set)
    crashed: set[Message] = field(default_factory=set)
    heard: list[Message] = field(default_factory=list)
    processes: list[int] = field(default_factory=list)
    begun: trio.Event = field(default_factory=trio.Event)
    killed: set[int] = field(default_factory=set)
    early: int = 0
    dead: list[Message] = field(default_factory=list)
    checks: int = 0


class Stream:
    """One run against one host."""

    def __init__(
        self, host: av.Host, kind: Kind, messages: int, kills: int, choices: random.Random
    ) -> None:
        self.host = host
        self.messages = messages
        self.choices = choices
        self.run = Run()
        # What others have left in this process's list.
        self.strangers = {process.pid for process in multiprocessing.active_children()}
        # How far the stream is when each kill is due.
        self.due = sorted(choices.randrange(messages) for _ in range(kills))
        self.next_due = messages
        self.is_due = trio.Event()
        self.left = messages
        self.target: av.Ref[Any]
        sync = kind == "sync"
        self.service: Any = Blocking if sync else Coroutine
        self.executor = av.ProcessExecutor() if sync else av.AsyncProcessExecutor()

    async def start(self, redeliver: int) -> None:
        """Start the recorder, and what is killed."""
        recorder = await self.host.start(av.Application(Recorder, self.run, name="recorder"))
        self.target = await self.host.start(
            av.Application(
                self.service,
                recorder,
                name="target",
                executor=self.executor,
                redeliver=redeliver,
            )
        )

    def take(self, stream: int) -> int | None:
        """The next number of a stream, unless all was sent."""
        if not self.left:
            return None
        self.left -= 1
        if self.messages - self.left > self.next_due:
            self.is_due.set()
        self.run.sent[stream] += 1
        return self.run.sent[stream]

    async def tells(self) -> None:
        """Stream 0: one tell after the other."""
        while (number := self.take(0)) is not None:
            await self.target.tell(self.service.handle, 0, number)

    async def asks(self, stream: int) -> None:
        """Another stream: one ask after the other."""
        while (number := self.take(stream)) is not None:
            await self.ask(stream, number)

    async def ask(self, stream: int, number: int) -> None:
        """One ask: it is answered, or its asker is told of a crash."""
        try:
            answer = await self.target.ask(self.service.handle, stream, number)
        except av.ServiceCrashed:
            self.run.crashed.add((stream, number))
        else:
            assert answer == (stream, number)
            self.run.answered.add(answer)

    async def kills(self) -> None:
        """Kill what works, or what is about to, each time the stream is as far as it should be."""
        for due in self.due:
            self.next_due, self.is_due = due, trio.Event()
            if self.messages - self.left <= due:
                await self.is_due.wait()
            await trio.sleep(self.choices.random() * 0.01)
            begun = self.run.begun
            while not self.kill():
                await begun.wait()
                begun = self.run.begun

    def kill(self) -> bool:
        """Kill one process that was not killed before, if there is one."""
        run = self.run
        fresh = [
            process.pid
            for process in multiprocessing.active_children()
            if process.pid is not None and process.pid not in {*run.killed, *self.strangers}
        ]
        if not fresh:
            return False
        working = run.processes[-1]
        pid = self.choices.choice(fresh) if self.choices.random() < BEFORE_UP else working
        if pid not in fresh:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            run.killed.add(pid)
            run.early += pid not in run.processes
        return True

    async def read(self, events: av.Events) -> None:
        """Collect dead letters."""
        async for one in events:
            assert not isinstance(one, av.Missed)
            if isinstance(one, av.DeadLetter) and one.path == "host/target":
                found = re.fullmatch(r"handle\((\d+), (\d+)\)", one.message)
                assert found, one
                self.run.dead.append((int(found[1]), int(found[2])))

    async def check(self) -> None:
        """M7: the sum is exact at every moment."""
        while True:
            check_account(self.host)
            self.run.checks += 1
            await trio.sleep(self.choices.random() * 0.01)


async def one_run(
    kind: Kind, redeliver: int, messages: int, kills: int, choices: random.Random
) -> tuple[Run, av.MailStatistics]:
    """A stream with kills, until all that was sent is accounted for."""
    async with trio.open_nursery() as outside:
        async with av.open_host(max_restarts=10**6, drain=60.0) as host:
            stream = Stream(host, kind, messages, kills, choices)
            outside.start_soon(stream.read, host.events())  # noqa: ASYNC111
            await stream.start(redeliver)
            async with trio.open_nursery() as checks:
                checks.start_soon(stream.check)
                async with trio.open_nursery() as work:
                    work.start_soon(stream.kills)
                    work.start_soon(stream.tells)
                    for number in range(1, ASKERS + 1):
                        work.start_soon(stream.asks, number)
                # M2: when it is answered, all before it is accounted for.
                stream.run.sent[LAST] = 1
                await stream.ask(LAST, 1)
                checks.cancel_scope.cancel()
            check_account(host)
            mail = host.statistics().mailboxes["host/target"]
            assert mail.waiting == mail.in_hand == 0
    return stream.run, mail


def check(run: Run, mail: av.MailStatistics, redeliver: int, messages: int, kills: int) -> None:
    """Compare what was sent with what was heard, answered and accounted for."""
    sent = {(stream, number) for stream, most in run.sent.items() for number in range(1, most + 1)}
    asked = {message for message in sent if message[0]}
    heard, dead = set(run.heard), set(run.dead)
    assert len(sent) == messages + 1 == mail.accepted
    assert len(run.killed) == kills
    # P3, M7: handled and dead letters are all that was sent.
    assert len(dead) == len(run.dead) == mail.dead_letters
    assert mail.handled + mail.dead_letters == messages + 1
    assert len(run.dead) <= kills
    # No tell of a handled message was lost, and no answer.
    assert heard <= sent
    assert not (sent - dead) - heard, f"lost: {sorted((sent - dead) - heard)[:10]}"
    assert run.answered == asked - dead
    # M5: whoever asked what was in hand is told so.
    assert run.crashed == asked & dead
    # M2: in order of the first time, within each stream.
    last: Counter[int] = Counter()
    again = 0
    seen: set[Message] = set()
    for message in run.heard:
        stream, number = message
        if message in seen:
            again += 1
        else:
            assert number > last[stream], f"{message} came after {last[stream]}"
            seen.add(message)
            last[stream] = number
    if redeliver:
        assert not dead
        assert again <= kills
    else:
        assert not again


def accounting(kind: Kind, redeliver: int, messages: int, kills: int, seed: int) -> None:
    """One run, and what it saw."""
    begin = time.monotonic()
    run, mail = trio.run(
        one_run, kind, redeliver, messages, kills, random.Random(f"{seed} {kind} {redeliver}")
    )
    took = time.monotonic() - begin
    effect = len(set(run.dead) & set(run.heard))
    print(
        f"{kind}, redeliver={redeliver}, seed {seed}: {messages:,} messages, of which "
        f"{mail.accepted - run.sent[0]:,} asks; {len(run.killed)} kills, {run.early} of them before "
        f"setup; {len(run.processes)} lives; {mail.handled:,} handled, {mail.dead_letters} dead "
        f"letters, of which {effect} had their effect; "
        f"{len(run.heard) - len(set(run.heard))} handled twice; "
        f"{run.checks:,} sums checked; {took:.1f} s",
        flush=True,
    )
    check(run, mail, redeliver, messages, kills)
