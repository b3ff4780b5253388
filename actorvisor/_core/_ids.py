"""Names and paths of actors (I1)."""

from __future__ import annotations

from collections.abc import Container, Iterable

from ._describe import describe


def check_name(name: object, what: str = "name") -> str:
    """Give back a legal name of an actor.

    Raises:
        TypeError: it is no string.
        ValueError: it is empty, holds a ``/`` or is ``.`` or ``..``.
    """
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a string, not {describe(name)}")
    if not name:
        raise ValueError(f"{what} must not be empty; leave it out to get the class's name")
    if "/" in name or name in {".", ".."}:
        raise ValueError(
            f"{what} {describe(name)} must not hold a '/', nor be '.' or '..': those are paths"
        )
    return name


def check_unique(names: Iterable[str], where: str) -> None:
    """Refuse two siblings of one name.

    Raises:
        ValueError: it names the duplicate.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(
                f"two children of {where} are named {describe(name)}; give one another name="
            )
        seen.add(name)


def join(parent: str, name: str) -> str:
    """The path of a child."""
    return f"{parent}/{name}"


def free_name(name: str, taken: Container[str], hint: int = 2) -> tuple[str, int]:
    """The first of ``name``, ``name-2``, ``name-3`` ... that is not taken.

    Args:
        name: the wanted name.
        taken: what is in use; a dict or set for speed.
        hint: where to begin to count; what this returned last time, so that 100,000
            starts of one class do not count from 2 each.

    Returns:
        The name, and the next hint.
    """
    if name not in taken:
        return name, hint
    while f"{name}-{hint}" in taken:
        hint += 1
    return f"{name}-{hint}", hint + 1


def resolve(base: str, path: str) -> str:
    """The absolute path that ``path`` means at the actor ``base``, as in a file system.

    ``host/a/b`` and ``/host/a/b`` are absolute; ``./x``, ``../x`` and ``x/..`` are relative: ``.``
    is ``base`` itself. A path whose first part is not the host's name is relative too.

    Raises:
        TypeError: it is no string.
        ValueError: it is empty, has an empty part or climbs over the host.
    """
    if not isinstance(path, str):
        raise TypeError(f"a path must be a string, not {describe(path)}")
    here = base.split("/")
    parts = path.strip("/").split("/")
    found = [] if path.startswith("/") or parts[0] == here[0] else here
    for part in parts:
        if part == "..":
            if len(found) < 2:
                raise ValueError(
                    f"{describe(path)} climbs above the host, seen from {describe(base)}"
                )
            found.pop()
        elif part == "":
            raise ValueError(f"{describe(path)} is no path: it has an empty part")
        elif part != ".":
            found.append(part)
    if not found:
        raise ValueError(f"{describe(path)} is no path: it names nothing")
    return "/".join(found)


def is_within(path: str, root: str) -> bool:
    """Whether an actor is another one or stands below it."""
    return path == root or path.startswith(root + "/")
