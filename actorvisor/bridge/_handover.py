"""How a worker gets its end of the private connection (P1).

On Linux it connects to an abstract socket, of which no file is left, and proves a token that only
it has before a byte of it is looked at. Elsewhere the end of a socket pair is handed over with
the job. Everything else, the shared memory and the lifeline, follows by that connection.
"""

from __future__ import annotations

import os
import pickle
import secrets
import socket
import sys
from multiprocessing.reduction import ForkingPickler
from typing import Final, NamedTuple

from . import _folder

TOKEN_SIZE: Final = 32

has_abstract_sockets: bool = sys.platform == "linux"
"""Whether a socket can have a name that is no file."""


class Address(NamedTuple):
    """Where a worker connects to, and what it proves.

    Attributes:
        name: the name of an abstract socket.
        token: to be sent first.
    """

    name: bytes
    token: bytes


def listen() -> tuple[socket.socket, Address]:
    """A socket that one worker shall connect to; it does not block."""
    name = b"\0actorvisor-%d-%s" % (os.getpid(), secrets.token_hex(16).encode())
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(name)
        listener.listen(8)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener, Address(name, secrets.token_bytes(TOKEN_SIZE))


def pair() -> tuple[socket.socket, bytes]:
    """A connection, and its other end as it is handed over with a job."""
    _folder.make()  # an end of it waits there to be fetched
    mine, other = socket.socketpair()
    try:
        return mine, bytes(ForkingPickler.dumps(other))
    except BaseException:
        mine.close()
        raise
    finally:
        other.close()


def connect(handover: Address | bytes) -> socket.socket:
    """In the worker: the connection that was handed over."""
    if isinstance(handover, bytes):
        pair: socket.socket = pickle.loads(handover)
        return pair
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(handover.name)
        sock.sendall(handover.token)
    except BaseException:
        sock.close()
        raise
    return sock
