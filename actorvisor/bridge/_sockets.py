"""Bytes and descriptors through a socket."""

from __future__ import annotations

import array
import os
import socket
from typing import Final

CHUNK: Final = 1 << 16
_FDS: Final = 16
_SPACE: Final = socket.CMSG_SPACE(_FDS * array.array("i").itemsize)


def receive(sock: socket.socket, fds: list[int], flags: int = 0) -> bytes:
    """What the socket has; ``b""`` at its end.

    Args:
        sock: where from.
        fds: descriptors that came along are added to it; they are close-on-exec.
        flags: as for `socket.socket.recvmsg`.
    """
    data, ancillary, _, _ = sock.recvmsg(CHUNK, _SPACE, flags)
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found = array.array("i")
            found.frombytes(content[: len(content) - len(content) % found.itemsize])
            for fd in found:
                os.set_inheritable(fd, False)
                fds.append(fd)
    return data


def send_with(sock: socket.socket, data: bytes | memoryview, fd: int) -> int:
    """Send bytes with a descriptor; how many bytes it took. It may raise `BlockingIOError`."""
    return socket.send_fds(sock, [data], [fd])
