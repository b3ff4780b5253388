"""Property tests of the bridge: a slow machine is no failure."""

from __future__ import annotations

from hypothesis import settings

# On top of whatever profile is loaded.
settings.register_profile("bridge", parent=settings(), deadline=None)
settings.load_profile("bridge")
