"""Same code, plan, schedule and seed: same trace, byte for byte (T2)."""

from __future__ import annotations

import sys

import pytest

from tests.testing import determinism


@pytest.mark.slow
def test_the_same_in_two_processes_with_other_hash_seeds(capfd: pytest.CaptureFixture[str]) -> None:
    # T2: `python -m tests.testing.determinism` does it for a thousand
    assert determinism.main(["--count", "20", "--python", sys.executable]) == 0
    assert "0 of 20 differ" in capfd.readouterr().out
