"""How a worker gets its end of the private connection (P1).

It connects to a socket made for it alone, and proves a token that only it has before a byte of it
is looked at. On Linux the socket's name is abstract, of which no file is left; elsewhere it is a
file in this process's own folder, removed with the listener. Everything else, the shared memory
and the lifeline, follows by that connection.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import sys
from multiprocessing import util
from typing import TYPE_CHECKING, Final, NamedTuple

from . import _folder

if TYPE_CHECKING:
    from collections.abc import Generator

TOKEN_SIZE: Final = 32

has_abstract_sockets: bool = sys.platform == "linux"
"""Whether a socket can have a name that is no file."""


class Address(NamedTuple):
    """Where a worker connects to, and what it proves.

    Attributes:
        name: the socket's name.
        token: to be sent first.
    """

    name: bytes
    token: bytes


@contextlib.contextmanager
def listen() -> Generator[tuple[socket.socket, Address], None, None]:
    """A socket that one worker shall connect to; it does not block, and is closed at the end.

    It may be closed before.
    """
    name = _abstract() if has_abstract_sockets else _in_folder()
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        listener.bind(name)
        if not has_abstract_sockets:
            stack.callback(_remove, name)
        listener.listen(8)
        listener.setblocking(False)
        yield listener, Address(name, secrets.token_bytes(TOKEN_SIZE))


def _abstract() -> bytes:
    return b"\0actorvisor-%d-%s" % (os.getpid(), secrets.token_hex(16).encode())


def _in_folder() -> bytes:
    _folder.make()
    return os.fsencode(os.path.join(util.get_temp_dir(), f"worker-{secrets.token_hex(4)}"))


def _remove(name: bytes) -> None:
    with contextlib.suppress(FileNotFoundError):  # somebody may have tidied up
        os.unlink(name)


def connect(address: Address) -> socket.socket:
    """In the worker: the connection."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(address.name)
        sock.sendall(address.token)
    except BaseException:
        sock.close()
        raise
    return sock
