"""What was declared, and how a life ended, as entries of a trace hold it: JSON, the same every time."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

from .._core._describe import describe
from .._core._messages import Crashed, ExitReason, is_failure
from .._runtime._declaration import Application, Supervisor
from .._runtime._pool import Declaration, Pool

if TYPE_CHECKING:
    from .._core._spec import ChildSpec, SupervisorSpec
    from ._trace import Json

_ADDRESS: Final = re.compile(r"\bat 0x[0-9a-fA-F]+")


def plain_text(text: str) -> str:
    """A text without the addresses that a `repr` may hold: they differ from run to run."""
    return _ADDRESS.sub("at 0x...", text)


def told(reason: ExitReason) -> dict[str, Json]:
    """An exit reason, as an entry holds it."""
    said: dict[str, Json] = {
        "kind": type(reason).__name__,
        "text": plain_text(describe(reason)),
        "failure": is_failure(reason),
    }
    if isinstance(reason, Crashed):
        said["exception"] = type(reason.exception).__qualname__
    return said


def seconds(value: float) -> Json:
    """A number of seconds, as an entry holds it: JSON has no infinity."""
    return value if math.isfinite(value) else "inf"


def facts_of(declaration: Declaration, spec: ChildSpec) -> dict[str, Json]:
    """What an actor was declared to be."""
    facts: dict[str, Json] = {
        "restart": spec.restart,
        "backoff": plain_text(describe(spec.backoff)),
        "reset_after": seconds(spec.steady_after),
        "significant": spec.significant,
    }
    if isinstance(declaration, Supervisor):
        return {"kind": "supervisor", **facts, **rules_of(declaration.rules)}
    if isinstance(declaration, Pool):
        return {
            "kind": "pool",
            **facts,
            **rules_of(declaration.rules),
            "size": declaration.size,
            "keyed": declaration.key is not None,
            "mailbox": declaration.app.mailbox,
            "overflow": declaration.app.overflow,
        }
    return {"kind": "service", **facts, **_service_facts(declaration)}


def _service_facts(app: Application[Any]) -> dict[str, Json]:
    executor = app.executor
    return {
        "target": app.kind.title,
        "executor": type(executor).__name__,
        "remote": executor.is_remote,
        "mailbox": app.mailbox,
        "overflow": app.overflow,
        "redeliver": app.redeliver,
        "grace": seconds(app.grace),
        "start_timeout": seconds(app.start_timeout),
        "on_crash": {kind.__qualname__: verdict for kind, verdict in app.on_crash.items()},
        "loop": app.is_loop,
    }


def rules_of(rules: SupervisorSpec) -> dict[str, Json]:
    """How a supervisor supervises."""
    return {
        "strategy": rules.strategy,
        "max_restarts": rules.max_restarts,
        "within": seconds(rules.within),
        "on_limit": rules.on_limit,
        "windows": "each" if rules.has_window_each else "one",
        "auto_shutdown": rules.auto_shutdown,
        "start": rules.start,
    }
