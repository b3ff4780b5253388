"""What is raised of an end, and where it came from (M9, S8)."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from .._core._child import Intent
from .._core._messages import Abandoned, Crashed, ExitReason, Stopped, TimedOut
from .._errors import RestartLimitExceeded, ServiceStopped, StartFailed, StartTimeout

if TYPE_CHECKING:
    from ._cell import Cell


def start_error(path: str, reason: ExitReason, culprit: Cell | None) -> BaseException:
    """What a start raises that ended so: the user's own exception where there is one (M9).

    Args:
        path: what was to be started.
        reason: how it ended.
        culprit: whose end led to that: itself, or something below it.
    """
    from ._declaration import Application

    # A thread in its setup may have outstayed the grace of a stop, and not `start_timeout`.
    stopped = culprit is not None and culprit.record.intent is Intent.STOP
    if isinstance(reason, Stopped) or (isinstance(reason, Abandoned) and stopped):
        return ServiceStopped(path, reason, "was stopped while it started")
    error = root_error(reason)
    if error is None:
        limit = root_limit(reason)
        if limit is not None:
            error = limit
        elif (
            isinstance(reason, TimedOut | Abandoned)
            and reason.phase == "setup"
            and culprit is not None
            and isinstance(culprit.declaration, Application)
        ):
            error = StartTimeout(culprit.path, culprit.declaration.start_timeout)
        else:
            error = StartFailed(path, reason)
    if culprit is not None and culprit.path != path:
        note_origin(error, culprit.path, path)
    return error


def root_error(reason: ExitReason) -> BaseException | None:
    """The user's own exception behind an end, under any number of restart limits (S8)."""
    while isinstance(reason, Crashed):
        error = reason.exception
        if not isinstance(error, RestartLimitExceeded):
            return error
        reason = error.last_reason
    return None


def root_limit(reason: ExitReason) -> RestartLimitExceeded | None:
    """The innermost of the restart limits behind an end (S8)."""
    limit = None
    while isinstance(reason, Crashed) and isinstance(reason.exception, RestartLimitExceeded):
        limit = reason.exception
        reason = limit.last_reason
    return limit


def note_origin(error: BaseException, origin: str, path: str) -> None:
    """Note on an exception where it came from; once, however often it passes."""
    add_note(error, f"it reached {path} from {origin}")


def add_note(error: BaseException, note: str) -> None:
    """Note something on an exception, once; one that takes no notes, as if frozen, goes without."""
    with contextlib.suppress(Exception):
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
