"""The mail of a worker with a loop of its own."""

from __future__ import annotations

import mmap
from types import SimpleNamespace
from typing import Any

import pytest

from actorvisor.bridge import _ledger as ledger
from actorvisor.bridge._child._loop import LoopMail
from actorvisor.bridge._child._port import Port
from actorvisor.bridge._ledger import Ledger
from actorvisor.bridge._wire import _frames as f
from actorvisor.bridge._wire._codec import Codec
from tests.bridge.streams import frame


@pytest.mark.parametrize("stopping", [True, False])
async def test_what_comes_as_it_stops_is_not_taken_up(stopping: bool) -> None:
    # M4: it has stopped itself, or crashed, while it waited for mail: what came then goes back,
    # which is decided by what is stored
    shared = Ledger(mmap.mmap(-1, ledger.SIZE))
    port = Port(None, shared)  # type: ignore[arg-type]
    station: Any = SimpleNamespace(
        port=port,
        job=SimpleNamespace(path="host/s"),
        kick=lambda: None,
        flush=lambda: None,
        look=lambda: False,
        life=SimpleNamespace(stopping=stopping),
    )
    mail = LoopMail(station)
    call = Codec().encode_message("handle", (1,), {}, "a call")
    assert isinstance(call, bytes)
    mail.arrive(*port.end.receive(frame(f.JOB, 0) + frame(f.TELL, 1, call))[1:])
    await mail.find()
    first = mail.found(None, 1)
    mail.wake()
    second = await mail.take(1) if stopping else None
    assert second is None
    if stopping:
        assert first is None
        assert shared.words[ledger.TAKEN] == 0
        assert mail.waiting == 1
    else:
        assert first is not None
        assert first.args == (1,)
        assert shared.words[ledger.TAKEN] == 1
