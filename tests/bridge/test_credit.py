"""Credit between processes (P3)."""

from __future__ import annotations

from typing import Any

import pytest
import trio

import actorvisor as av
from tests.bridge.talkers import BlockingTalker, CoroutineTalker, Listener, NowaitTalker


@pytest.mark.process
@pytest.mark.parametrize(
    ("talker", "executor"),
    [
        (BlockingTalker, av.ProcessExecutor()),
        (CoroutineTalker, av.AsyncProcessExecutor()),
        (NowaitTalker, av.AsyncProcessExecutor()),
    ],
    ids=["sync", "async", "nowait"],
)
async def test_a_worker_asks_for_credit_now_and_then(
    talker: Any, executor: av.Executor
) -> None:  # P3
    with trio.fail_after(30):
        async with av.open_host() as host:
            listener = await host.start(av.Application(Listener))
            ref = await host.start(av.Application(talker, listener, executor=executor))
            requests = await ref.ask(talker.talk, 2000)
            # Each round trip brings many: credit that comes while one is under way is not lost.
            assert requests < 2000 / 16
            assert await listener.ask(Listener.count) == 2000
