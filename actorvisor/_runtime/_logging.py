"""What is logged, where, and how often (O5). Only stdlib logging, under ``actorvisor``."""

from __future__ import annotations

import contextlib
import logging
import os
import traceback
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .._core._describe import describe, shorten
from .._core._lifecycle import Notice
from .._core._messages import (
    Crashed,
    DeadLetter,
    Ended,
    Exited,
    ExitReason,
    Notification,
    Restarting,
    Started,
    is_failure,
)

if TYPE_CHECKING:
    from types import TracebackType


_PACKAGE: Final = str(Path(__file__).parents[1]) + os.sep


class _Logger(logging.LoggerAdapter[logging.Logger]):
    """A logger whose handlers and filters may raise: they are called within decisions (O5)."""

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log, and tell on stderr what went wrong with it, as logging itself does."""
        try:
            self.logger.log(level, msg, *args, stacklevel=2, **kwargs)
        except Exception:
            if logging.raiseExceptions:
                with contextlib.suppress(Exception):
                    traceback.print_exc()


logger: Final = _Logger(logging.getLogger("actorvisor"))

REPEAT_AFTER: Final = 60.0
"""Seconds after which a repeated traceback is logged in full again."""
TRACEBACKS_KEPT: Final = 256
TRACEBACK_LIMIT: Final = 20_000
"""Characters of a traceback that are logged."""
LETTERS_LOGGED: Final = 10
"""Dead letters of one actor that are logged before it is silent on them for `REPEAT_AFTER`."""


def wanted(notice: Notice | None, reason: ExitReason | None) -> bool:
    """Whether a transition, or a dead letter (None), would be logged at the present level."""
    if notice is None:
        return logger.isEnabledFor(logging.WARNING)
    if notice in {Notice.STARTING, Notice.STOPPING}:
        return False
    level = logging.ERROR if reason is not None and is_failure(reason) else logging.INFO
    return logger.isEnabledFor(level)


def _own_part(error: BaseException) -> TracebackType | None:
    """A traceback without the runtime's calls that led to a service: those say nothing of it."""
    first = error.__traceback__
    while first is not None and first.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        first = first.tb_next
    # What the runtime itself has raised is shown with all that led there.
    return error.__traceback__ if first is None else first


def traceback_text(error: BaseException) -> str:
    """A traceback as bounded text, from the service's code on; a broken exception breaks nothing."""
    try:
        text = "".join(traceback.format_exception(type(error), error, _own_part(error)))
    except Exception:
        text = f"{type(error).__name__} (its traceback could not be formatted)"
    return shorten_end(text)


def shorten_end(text: str) -> str:
    """The beginning and the end of a text that is too long: the end tells most."""
    if len(text) <= TRACEBACK_LIMIT:
        return text
    half = TRACEBACK_LIMIT // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"


class NotificationLog:
    """Logs notifications; a crash loop logs each different traceback once a minute."""

    def __init__(self) -> None:
        # What was logged in full: when, and how often since.
        self._seen: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()
        # Dead letters by path: since when they are counted, and how many there were.
        self._letters: OrderedDict[str, tuple[float, int]] = OrderedDict()
        # How many were not logged before the one that is logged next.
        self._left_out = 0

    def admits_letter(self, path: str, time: float) -> bool:
        """Whether one more dead letter of an actor is to be logged; if so, it is logged next.

        A mailbox that drops, or the end of a long one, would write a line for each message.
        """
        begun, count = self._letters.get(path, (time, 0))
        self._left_out = 0
        if time - begun >= REPEAT_AFTER:
            self._left_out = max(count - LETTERS_LOGGED, 0)
            begun, count = time, 0
        self._letters[path] = begun, count + 1
        self._letters.move_to_end(path)
        if len(self._letters) > TRACEBACKS_KEPT:
            self._letters.popitem(last=False)
        return count < LETTERS_LOGGED

    def __call__(self, notification: Notification, restarted: bool) -> None:
        """Log one.

        Args:
            notification: what happened.
            restarted: whether the actor was restarted before: its start is no news then.
        """
        fields: dict[str, object] = {
            "path": notification.path,
            "incarnation": notification.incarnation,
        }
        match notification:
            case Started() if not restarted:
                logger.info("%s started", notification.path, extra=fields)
            case Started():
                logger.debug("%s is up again", notification.path, extra=fields)
            case Restarting(delay=delay, attempt=attempt):
                logger.info(
                    "%s restarts in %.3g s (attempt %d)",
                    notification.path,
                    delay,
                    attempt,
                    extra=fields,
                )
            case Exited(reason=reason) if is_failure(reason):
                self._failure(notification, reason, fields)
            case Ended(reason=reason):
                level = logging.ERROR if is_failure(reason) else logging.INFO
                logger.log(level, "%s ended: %s", notification.path, describe(reason), extra=fields)
            case DeadLetter(message=message, why=why):
                self._letter(notification.path, why, message, fields)
            case _:
                pass

    def _letter(self, path: str, why: str, message: str, fields: dict[str, object]) -> None:
        more = f" ({self._left_out} more in between)" if self._left_out else ""
        if self._letters.get(path, (0.0, 0))[1] == LETTERS_LOGGED:
            more += f"; for up to {REPEAT_AFTER:g} s, more of them are counted and not logged"
        logger.warning("%s: dead letter (%s): %s%s", path, why, message, more, extra=fields)

    def _failure(
        self, notification: Notification, reason: ExitReason, fields: dict[str, object]
    ) -> None:
        path = notification.path
        if not isinstance(reason, Crashed):
            # Another word than for the end for good, which may follow.
            logger.error("%s exited: %s", path, describe(reason), extra=fields)
            return
        # What the runtime itself calls a crash, such as an exceeded limit, has no traceback.
        text = shorten_end(reason.traceback_text) or describe(reason.exception)
        key = (path, text)
        logged_at, repeats = self._seen.get(key, (-REPEAT_AFTER, 0))
        if notification.time - logged_at < REPEAT_AFTER:
            self._seen[key] = (logged_at, repeats + 1)
            logger.error(
                "%s crashed again: %s (same traceback as before, %d times since)",
                path,
                describe(reason.exception),
                repeats + 1,
                extra=fields,
            )
            return
        self._seen[key] = (notification.time, 0)
        self._seen.move_to_end(key)
        if len(self._seen) > TRACEBACKS_KEPT:
            self._seen.popitem(last=False)
        again = f" ({repeats} times in between)" if repeats else ""
        logger.error("%s crashed%s\n%s", path, again, text.rstrip(), extra=fields)


def log_bug(path: str, incarnation: int, text: str) -> None:
    """Log what must not happen: a bug of actorvisor's own (L1)."""
    fields = {"path": path, "incarnation": incarnation}
    logger.error(
        "%s: a bug in actorvisor, please report it: %s", path, shorten(text, 2000), extra=fields
    )
