"""Memory that two processes share: a file that has no name."""

from __future__ import annotations

import mmap
import os
import tempfile
from typing import TYPE_CHECKING, Any, TypeAlias, final

if TYPE_CHECKING:
    from ._wire._codec import Codec, Draft
    from ._wire._frames import Frame


def create(size: int) -> int:
    """A descriptor of that many bytes of zeros; nobody else can find it, and nothing is left."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("actorvisor", os.MFD_CLOEXEC)
    else:
        fd, path = tempfile.mkstemp(prefix="actorvisor-")
        os.unlink(path)
    try:
        os.ftruncate(fd, size)
    except BaseException:
        os.close(fd)
        raise
    return fd


@final
class Bulk:
    """What goes beside the stream: a table for its frame, and a descriptor of the bytes.

    The descriptor is closed with it, when the message it belongs to is forgotten.

    Attributes:
        table: the payload of its frame.
        fd: where the bytes are; -1 if they did not come.
    """

    __slots__ = ("fd", "table")

    def __init__(self, table: bytes, fd: int) -> None:
        self.table: bytes = table
        self.fd: int = fd

    def open(self) -> memoryview:
        """Its bytes; what is written to them stays in this process.

        Raises:
            OSError: they did not come.
        """
        if self.fd < 0:
            raise OSError("what belongs to a frame did not come with it")
        flags, access = mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE
        return memoryview(mmap.mmap(self.fd, 0, flags=flags, prot=access))

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


def copy(draft: Draft) -> Bulk:
    """Copy what was encoded, which may take a while: off the loop."""
    bulk = Bulk(draft.table, create(draft.size))
    for section, offset in zip(draft.sections, draft.offsets(), strict=True):
        os.lseek(bulk.fd, offset, os.SEEK_SET)
        part = section.cast("B") if section.nbytes else section
        while part.nbytes:
            part = part[os.write(bulk.fd, part) :]
    return bulk


Payload: TypeAlias = bytes | Bulk


def attach(frames: list[Frame], fds: list[int]) -> list[Frame]:
    """Give each large frame what came beside it, which is taken out of the list."""
    return [
        (kind, number, Bulk(payload, fds.pop(0) if fds else -1), True)
        if large
        else (kind, number, payload, False)
        for kind, number, payload, large in frames
    ]


def decode(codec: Codec, payload: Payload) -> Any:
    """Decode a value.

    Raises:
        Exception: whatever unpickling raises.
    """
    if isinstance(payload, bytes):
        return codec.decode(payload)
    return codec.decode(payload.table, payload.open())


def share(fd: int, size: int) -> mmap.mmap:
    """Map a descriptor so that both sides see what is stored; the descriptor is closed."""
    try:
        return mmap.mmap(fd, size)
    finally:
        os.close(fd)
