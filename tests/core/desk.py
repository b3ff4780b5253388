"""A supervision to talk to: events by method, decisions as short words, one child a letter.

The words: ``a S1 U1 P1 X1 R1 E1`` are notifications (section 4) of a child's n-th life, ``life
a1`` begins one, ``stop a1`` tells one to stop (``!`` for good, ``@2`` with that grace), ``roll a
t`` restarts its own children one by one, ``timer a 0.5`` and ``no timer a`` are its backoff, ``settle a`` its dead letters, ``adopt`` and ``forget``
its name. Answers: ``done t``, ``done t Stopped``, ``failed t Crashed``, ``refused t: why``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from actorvisor._core import _commands as c
from actorvisor._core._messages import Completed, Crashed, ExitReason, Killed, Stopped, TimedOut
from actorvisor._core._spec import ChildSpec, SupervisorSpec
from actorvisor._core._supervision import Supervision

if TYPE_CHECKING:
    from collections.abc import Iterable

    from actorvisor._core._spec import Verdict

BOOM = Crashed(RuntimeError("boom"))
DONE = Completed(1)
STOPPED = Stopped()
KILLED = Killed(-9)
LATE = TimedOut("handler")


def say(command: c.Command) -> str:
    """One command in a few letters."""
    match command:
        case c.Adopt(name) | c.Settle(name) | c.Forget(name):
            return f"{type(command).__name__.lower()} {name}"
        case c.StartLife(name, incarnation):
            return f"life {name}{incarnation}"
        case c.StopLife(name, incarnation, final, grace):
            at = "" if grace is None else f"@{grace:g}"
            return f"stop {name}{incarnation}{'!' * final}{at}"
        case c.Roll(name, token):
            return f"roll {name} {token}"
        case c.SetTimer(name, _, delay):
            return f"timer {name} {delay:g}"
        case c.CancelTimer(name):
            return f"no timer {name}"
        case c.Announce(name, incarnation, notice):
            return f"{name} {notice.value}{incarnation}"
        case c.Done(token, reason):
            return f"done {token}" if reason is None else f"done {token} {title(reason)}"
        case c.Refused(token, why):
            return f"refused {token}: {why}"
        case c.Failed(token, reason):
            return f"failed {token} {title(reason)}"
        case c.Up():
            return "up"
        case c.Finished(reason, child):
            return f"finished {title(reason)}" + (f" {child}" if child else "")
        case c.Bug(name, state, event):
            return f"bug {name} {state.value} {event.value}"


def title(reason: ExitReason) -> str:
    return type(reason).__name__


class Desk:
    """A supervision, its time, and what was decided last."""

    def __init__(
        self, children: str | Iterable[ChildSpec] = "", /, *, draw: float = 0.5, **options: object
    ) -> None:
        specs = [ChildSpec(name=each) if isinstance(each, str) else each for each in children]
        spec = SupervisorSpec(**options)  # type: ignore[arg-type]
        self.supervision = Supervision(spec, "host/s", specs)
        self.now = 0.0
        self.draw = draw
        self.last: list[c.Command] = []

    def send(self, event: c.Event) -> list[str]:
        self.last = self.supervision.decide(event, self.now, self.draw)
        return [say(command) for command in self.last]

    # --- looking --------------------------------------------------------------------------

    def states(self) -> str:
        """All children, in order: ``a running, b stopped``."""
        return ", ".join(
            f"{name} {child.state.value}" for name, child in self.supervision.children.items()
        )

    def lives(self) -> str:
        """Which life each child is in, or was: ``a1 b2``."""
        children = self.supervision.children.items()
        return " ".join(f"{name}{child.incarnation}" for name, child in children)

    def the(self, kind: type[c.Command]) -> c.Command:
        """The one command of a kind in the last decision."""
        (found,) = (command for command in self.last if isinstance(command, kind))
        return found

    def the_reasons(self) -> list[ExitReason]:
        """The reasons of all ends for good in the last decision."""
        return [command.reason for command in self.last if isinstance(command, c.Settle)]

    # --- reports --------------------------------------------------------------------------

    def life(self, name: str) -> int:
        return self.supervision.children[name].incarnation

    def up(self, *names: str) -> list[str]:
        return [word for name in names for word in self.send(c.ChildUp(name, self.life(name)))]

    def ending(self, name: str, reason: ExitReason = BOOM) -> list[str]:
        return self.send(c.ChildEnding(name, self.life(name), reason))

    def exit(
        self, name: str, reason: ExitReason = STOPPED, verdict: Verdict | None = None
    ) -> list[str]:
        return self.send(c.ChildExit(name, self.life(name), reason, verdict))

    def crash(self, name: str, verdict: Verdict | None = None) -> list[str]:
        return self.exit(name, BOOM, verdict)

    def due(self, name: str) -> list[str]:
        return self.send(c.Due(name, self.life(name)))

    def lost(self, *names: str) -> list[str]:
        return self.send(c.ExecutorLost(names, BOOM))

    # --- calls ----------------------------------------------------------------------------

    def begin(self) -> list[str]:
        return self.send(c.Begin())

    def start(self, name: str, token: object = "t") -> list[str]:
        return self.send(c.Start(name, token))

    def start_new(self, child: str | ChildSpec, token: object = "t") -> list[str]:
        spec = ChildSpec(name=child) if isinstance(child, str) else child
        return self.send(c.StartNew(spec, token))

    def restart(self, name: str, token: object = "t") -> list[str]:
        return self.send(c.Restart(name, token))

    def stop(self, name: str, token: object = "t", grace: float | None = None) -> list[str]:
        return self.send(c.Stop(name, token, grace))

    def remove(self, name: str, token: object = "t", grace: float | None = None) -> list[str]:
        return self.send(c.Remove(name, token, grace))

    def await_end(self, name: str, token: object = "t") -> list[str]:
        return self.send(c.AwaitEnd(name, token))

    def cancel(self, name: str, token: object = "t") -> list[str]:
        return self.send(c.CancelStart(name, token))

    def shut_down(self, grace: float | None = None) -> list[str]:
        """For good."""
        return self.send(c.ShutDown(True, grace))

    def hold(self, grace: float | None = None) -> list[str]:
        """For a restart, or a decision of its own supervisor."""
        return self.send(c.ShutDown(False, grace))

    def drop(self) -> list[str]:
        return self.send(c.Drop())

    def refuse_starts(self) -> list[str]:
        return self.send(c.RefuseStarts())


def running(
    children: str | Iterable[ChildSpec] = "", /, *, draw: float = 0.5, **options: object
) -> Desk:
    """A desk whose whole declaration is up."""
    desk = Desk(children, draw=draw, **options)
    desk.begin()
    desk.up(*list(desk.supervision.children))
    return desk


def temporary(name: str, **options: object) -> ChildSpec:
    return ChildSpec(name=name, restart="temporary", **options)  # type: ignore[arg-type]


def transient(name: str, **options: object) -> ChildSpec:
    return ChildSpec(name=name, restart="transient", **options)  # type: ignore[arg-type]


def permanent(name: str, **options: object) -> ChildSpec:
    return ChildSpec(name=name, **options)  # type: ignore[arg-type]
