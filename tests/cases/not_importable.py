"""A service that only its host can import: in a worker the import fails, after a while."""

from __future__ import annotations

import os
import time

import actorvisor as av

HOST = "ACTORVISOR_CASE_OF_AN_IMPORT"

if os.environ.get(HOST) != str(os.getpid()):
    time.sleep(0.1)
    raise ImportError("no module named nothing")


class Unimportable(av.Service):
    """Is never seen."""
