"""The folder of this process's multiprocessing sockets: its name says whose it is.

What is killed cannot remove its folder. Another process that makes one removes those of the dead.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import threading
from multiprocessing import process, util
from typing import Any, Final, NamedTuple

_NAME: Final = re.compile(r"pymp-av-([0-9a-f]+)-([0-9a-f]+)-([0-9a-f]+)-\w+")

_LONGEST: Final = 103
"""Bytes that the name of a socket can have on any platform."""

_lock = threading.Lock()


class Owner(NamedTuple):
    """A process.

    Attributes:
        space: in which its number counts; 0 where there is one only.
        pid: its number.
        began: when it began, since numbers are used again; 0 if that is not known, or it is dead.
    """

    space: int
    pid: int
    began: int


def make() -> str | None:
    """Make the folder, and remove those of the dead; it blocks for a moment.

    Returns:
        It, or None: this process has one already, which may be its parent's.
    """
    with _lock:
        config: dict[str, Any] = process.current_process()._config  # type: ignore[attr-defined]
        if config.get("tempdir") is not None:
            return None
        # As short as can be: the name of a socket in there has to fit some 100 bytes.
        name = "pymp-av-{:x}-{:x}-{:x}-".format(*_owner(os.getpid()))
        folder = tempfile.mkdtemp(prefix=name, dir=_place_for(name))
        # As multiprocessing does it.
        remove: Any = vars(util)["_remove_temp_dir"]
        util.Finalize(None, remove, (shutil.rmtree, folder), exitpriority=-100)
        config["tempdir"] = folder
    _tidy(os.path.dirname(folder))
    return folder


def _place_for(name: str) -> str:
    """Where temporary files go, unless the names of sockets would be too long there (P1)."""
    usual = tempfile.gettempdir()
    room = _LONGEST - len(f"/{name}12345678/listener-12345678")
    for where in (usual, "/tmp", "/var/tmp"):
        if len(os.fsencode(where)) <= room and os.access(where, os.W_OK | os.X_OK):
            return where
    return usual


def _owner(pid: int) -> Owner:
    """A process as a folder's name has it."""
    space = began = 0
    with contextlib.suppress(OSError):  # where there is no /proc
        space = os.stat("/proc/self/ns/pid").st_ino
        with open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        began = 0 if fields[0] in "ZX" else int(fields[19])
    return Owner(space, pid, began)


def _is_alive(owner: Owner) -> bool:
    """Whether it may be alive: what another space's number means is not known here."""
    now = _owner(owner.pid)
    if now.space != owner.space:
        return True
    if now.space:
        return now == owner
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _tidy(where: str) -> None:
    names: list[str] = []
    with contextlib.suppress(OSError):  # it may not be for everybody to list
        names = os.listdir(where)
    for name in names:
        found = _NAME.fullmatch(name)
        if found is not None and not _is_alive(Owner(*(int(part, 16) for part in found.groups()))):
            shutil.rmtree(os.path.join(where, name), ignore_errors=True)
