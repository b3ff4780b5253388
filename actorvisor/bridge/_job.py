"""What a worker is told to do, as it crosses the connection."""

from __future__ import annotations

from typing import NamedTuple


class Job(NamedTuple):
    """One incarnation to be carried out in a worker.

    Attributes:
        application: its declaration, pickled.
        path: whose it is.
        identity: the number of that identity, for refs.
        face: the number of the identity that others see in its stead: of a pool's member, the pool.
        face_path: where that is.
        incarnation: which of its lives.
        host: the host that it belongs to, for refs.
        beat: seconds between two signs of life, or None for none.
        log_level: of the parent's root logger.
    """

    application: bytes
    path: str
    identity: int
    face: int
    face_path: str
    incarnation: int
    host: bytes
    beat: float | None
    log_level: int


class Setting(NamedTuple):
    """What a worker is told when it starts, before it has a job.

    Attributes:
        modules: to be imported ahead.
        max_memory: bytes of data that it may have, or None.
        has_loop: whether it will run a loop.
    """

    modules: tuple[str, ...]
    max_memory: int | None
    has_loop: bool
