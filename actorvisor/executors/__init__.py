"""Places where services run, besides the host's own loop."""

from __future__ import annotations

from ._process import (
    AsyncProcessExecutor as AsyncProcessExecutor,
    ProcessExecutor as ProcessExecutor,
)
from ._thread import ThreadExecutor as ThreadExecutor
