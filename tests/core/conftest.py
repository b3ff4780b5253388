"""Property tests of the core: a slow machine is no failure."""

from __future__ import annotations

from hypothesis import Phase, settings

# On top of whatever profile is loaded.
settings.register_profile("core", parent=settings(), deadline=None)
settings.load_profile("core")

# `nox -s mutation`: a mutant that lives costs a whole run of the tests, and how it died is all the
# same. It takes the same examples each time, so that a verdict can be had again.
settings.register_profile(
    "mutation",
    deadline=None,
    max_examples=25,
    phases=[Phase.explicit, Phase.generate],
    derandomize=True,
    database=None,
)

# `pytest tests/core/test_supervision_model.py --hypothesis-profile=hunt -o timeout=0`: 20,000
# histories of 50 steps, and as many of up to 400.
settings.register_profile("hunt", deadline=None, max_examples=2_000)
