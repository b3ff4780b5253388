"""Every executor that comes with the package keeps the contract (E2)."""

from __future__ import annotations

import pytest

import actorvisor as av
from actorvisor.testing import ExecutorCheck, executor_checks


@pytest.mark.parametrize("check", executor_checks(av.AsyncExecutor()), ids=str)
async def test_async_executor(check: ExecutorCheck) -> None:
    await check()


@pytest.mark.parametrize("check", executor_checks(av.ThreadExecutor()), ids=str)
async def test_thread_executor(check: ExecutorCheck) -> None:
    await check()


@pytest.mark.process
@pytest.mark.parametrize("check", executor_checks(av.ProcessExecutor(), patience=60), ids=str)
async def test_process_executor(check: ExecutorCheck) -> None:
    await check()


@pytest.mark.process
@pytest.mark.parametrize("check", executor_checks(av.AsyncProcessExecutor(), patience=60), ids=str)
async def test_async_process_executor(check: ExecutorCheck) -> None:
    await check()
