"""Takes long to be imported."""

from __future__ import annotations

import time

print("importing", flush=True)
time.sleep(1000)
