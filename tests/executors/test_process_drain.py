"""Drains: what a worker has sent and nobody has taken in yet is on its way, too (L4, M7)."""

from __future__ import annotations

import pytest
import trio

import actorvisor as av

pytestmark = pytest.mark.process

BURST = 300


class Recorder(av.Service):
    def __init__(self) -> None:
        self.numbers: list[int] = []

    def note(self, number: int) -> None:
        self.numbers.append(number)


class Blocking(av.Service):
    def __init__(self, recorder: av.Ref[Recorder]) -> None:
        self.recorder = recorder

    def burst(self, count: int) -> None:
        for number in range(count):
            self.recorder.blocking.tell(Recorder.note, number)


class Looping(av.Service):
    def __init__(self, recorder: av.Ref[Recorder]) -> None:
        self.recorder = recorder

    async def burst(self, count: int) -> None:
        for number in range(count):
            await self.recorder.tell(Recorder.note, number)


CASES = [(Blocking, av.ProcessExecutor()), (Looping, av.AsyncProcessExecutor())]


@pytest.mark.parametrize(("kind", "executor"), CASES, ids=["sync", "async"])
async def test_what_a_worker_told_is_handled_before_the_end(
    kind: type[Blocking], executor: av.ProcessExecutor
) -> None:
    # L4, M7: nothing is lost between a worker's handler that has returned and its target
    with trio.fail_after(60):
        for _ in range(10):
            async with av.open_host() as host:
                tree = await host.start(
                    av.Supervisor([av.Application(Recorder, name="recorder")], name="tree")
                )
                recorder = host.find("tree/recorder", Recorder)
                worker = await tree.start(av.Application(kind, recorder, executor=executor))
                await worker.tell(kind.burst, BURST)
                assert await tree.stop() == av.Stopped()
                mail = host.statistics().mail
                assert (mail.handled, mail.dead_letters) == (BURST + 1, 0)
