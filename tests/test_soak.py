"""The soak runs: a few seconds of it here, a minute in CI, ten by `nox -s soak` (S10, M7, O4, H1)."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests import soak


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("actorvisor")
    before = logger.disabled, logger.propagate, list(logger.handlers)
    yield
    logger.disabled, logger.propagate, logger.handlers[:] = before


@pytest.mark.slow
def test_chaos(capsys: pytest.CaptureFixture[str]) -> None:
    soak.main(["chaos", "--seconds", "3"])
    assert "hosts, calls: {" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("what", ["restarts", "children"])
def test_many(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    soak.main([what, "--count", "3000"])
    assert f"3,000 {what}, " in capsys.readouterr().out


def test_growth_is_found() -> None:
    small, large = soak.Footprint(100, 5, 1), soak.Footprint(104, 5, 1)
    soak.check_flat(small, large, tolerance=0.05)
    for after in (soak.Footprint(106, 5, 1), soak.Footprint(100, 6, 1), soak.Footprint(100, 5, 2)):
        with pytest.raises(AssertionError):
            soak.check_flat(small, after, tolerance=0.05)
