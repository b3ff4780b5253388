"""A worker in which its one job cannot be loaded."""

from __future__ import annotations

import sys
from types import FunctionType, ModuleType
from typing import Any

import pytest
import trio

import actorvisor as av
from actorvisor.bridge import _worker
from actorvisor.bridge._child._main import main
from tests.bridge.talkers import Listener


@pytest.mark.process
async def test_it_is_a_failed_start_and_no_failed_executor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # L3
    only_here: Any = ModuleType("only_here")
    only_here.main = FunctionType(main.__code__, {}, "main")
    only_here.main.__module__ = "only_here"
    monkeypatch.setitem(sys.modules, "only_here", only_here)
    executor = av.ProcessExecutor(standby=0)
    with trio.fail_after(30):
        async with av.open_host() as host:
            with monkeypatch.context() as broken:
                broken.setattr(_worker, "main", only_here.main)
                with pytest.raises(ModuleNotFoundError, match="only_here"):
                    await host.start(av.Application(Listener, executor=executor))
            listener = await host.start(av.Application(Listener, executor=executor))
            assert await listener.ask(Listener.count) == 0
