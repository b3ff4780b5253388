"""A naive model of supervision, written from the rules and not from the code.

`Ledger` reads along: it is given every event, and the commands that were decided upon it, and
keeps a few plain facts of each child, recomputing the rest from them each time. Everything that
the rules say of those facts is asserted after every event; a rule is named where it is checked.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from actorvisor._core import _commands as c
from actorvisor._core._messages import (
    Completed,
    Crashed,
    ExitReason,
    GaveUp,
    Stopped,
)
from actorvisor._errors import RestartLimitExceeded

if TYPE_CHECKING:
    from collections.abc import Iterable

    from actorvisor._core._spec import ChildSpec, SupervisorSpec

_C = TypeVar("_C", bound="c.Command")
_Call: TypeAlias = c.StartNew | c.Start | c.Restart | c.Stop | c.Remove | c.AwaitEnd | c.CancelStart

# Section 4, as an observer sees it: what may be told of a child, and what it is then (O4).
PATHS = {
    ("waiting", "S"): "starting",
    ("waiting", "E"): "over",
    ("starting", "U"): "running",
    ("starting", "P"): "stopping",
    ("starting", "X"): "exited",
    ("running", "P"): "stopping",
    ("running", "X"): "exited",
    ("stopping", "X"): "exited",
    ("exited", "R"): "backing_off",
    ("exited", "S"): "starting",
    ("exited", "E"): "over",
    ("backing_off", "S"): "starting",
    ("backing_off", "E"): "over",
    ("over", "S"): "starting",
}

# What follows when a start has failed, and when a child is left to the end of its supervisor.
NO_START = {"stopped", "held", "interrupt", "no start", "failed start"}
ENDED = {"held", "waits", "interrupt", "escalate", "limit", "no start"}

REFUSALS = {
    "waiting": "already starting",
    "starting": "already starting",
    "running": "already running",
    "stopping": "stopping",
    "exited": "restarting",
    "backing_off": "restarting",
}


def failed(reason: ExitReason) -> bool:
    """Whether an end is a failure (S1)."""
    return not isinstance(reason, Completed | Stopped)


@dataclass
class Kid:
    """The facts of one child."""

    spec: ChildSpec
    declared: bool
    state: str = "waiting"
    incarnation: int = 0
    alive: bool = False  # an incarnation that has not reported its exit
    told: bool = False  # that incarnation was told to stop
    knows: bool = False  # and that it is for good
    came_up: bool = False
    up_at: float = 0.0
    initial: bool = False  # has not come up since the supervisor began
    wanted_down: bool = False  # by a stop, a remove or a cancelled start
    wanted_again: bool = False  # by a restart of what was alive
    removing: bool = False
    asked: bool = False  # the present start was asked for
    doomed: bool = False  # a group takes it down, or has taken it down
    was_doomed: bool = False  # the present start is a group's
    restarting: bool = False  # the decision on its end was to restart it
    timer: bool = False
    attempt: int = 0
    restarts: int = 0
    reason: ExitReason | None = None
    ended: ExitReason | None = None
    starters: set[object] = field(default_factory=set)
    stoppers: set[object] = field(default_factory=set)

    @property
    def over(self) -> bool:
        return self.state == "over"

    @property
    def kept(self) -> bool:
        """I5."""
        return self.declared and self.spec.restart != "temporary"


class Ledger:
    """What has happened, and whether it was right."""

    def __init__(self, spec: SupervisorSpec, path: str, declaration: Iterable[ChildSpec]) -> None:
        self.spec = spec
        self.path = path
        self.declaration = tuple(declaration)
        self.kids: dict[str, Kid] = {}
        self.phase = "idle"  # idle, on, ending, down, dropped
        self.final = False
        self.refusing = False
        self.up = False
        self.failing: str | None = None  # whose end the group is about
        self.waits: str | None = None  # whom the group waits for
        self.rested = False  # whether the backoff of the group is over
        self.grace: float | None = None
        self.cause: tuple[str, ExitReason | None, str | None] | None = None  # why it is ending
        self.notes: list[tuple[float, str]] = []
        self.answered: set[object] = set()
        self.open: dict[object, str] = {}
        self.stale = 0
        self.now = 0.0
        self.draw = 0.0
        self.commands: list[c.Command] = []

    # --- small questions ------------------------------------------------------------------

    def of(self, kind: type[_C]) -> list[_C]:
        """The commands of a kind."""
        return [command for command in self.commands if isinstance(command, kind)]

    def told_of(self, name: str) -> str:
        """The notices of one child in this decision, as letters."""
        return "".join(
            command.notice.value
            for command in self.commands
            if isinstance(command, c.Announce) and command.name == name
        )

    def older(self, kid: Kid) -> list[Kid]:
        every = list(self.kids.values())
        return every[: every.index(kid)]

    def newer(self, kid: Kid) -> list[Kid]:
        every = list(self.kids.values())
        return every[every.index(kid) + 1 :]

    @property
    def alive(self) -> list[Kid]:
        return [kid for kid in self.kids.values() if kid.alive]

    @property
    def ordered(self) -> bool:
        return self.spec.strategy != "one_for_one"

    def concerned(self, kid: Kid) -> list[Kid]:
        """S2: who goes down with a child, itself included."""
        if self.spec.strategy == "one_for_one":
            return [kid]
        if self.spec.strategy == "one_for_all":
            return list(self.kids.values())
        return [kid, *self.newer(kid)]

    # --- one decision ---------------------------------------------------------------------

    def feed(self, event: c.Event, now: float, draw: float, commands: Iterable[c.Command]) -> None:
        """Take one event and what was decided upon it.

        Raises:
            AssertionError: a rule is broken.
        """
        self.now, self.draw, self.commands = now, draw, list(commands)
        self.event = event
        self.before = {name: kid.state for name, kid in self.kids.items()}
        self.phase_before = self.phase
        self.verdicts: dict[str, str] = {}
        self.gone: dict[str, Kid] = {}
        self.left: list[Kid] = []  # down, because of a group that came to nothing
        assert not self.of(c.Bug), "L1: a legal history"
        self.expect(event)
        for command in self.commands:
            self.carry_out(command)
        self.judge()
        self.check_invariants()

    def expect(self, event: c.Event) -> None:
        """Change the facts as the event alone does."""
        match event:
            case c.Begin():
                self.expect_begin()
            case c.ChildUp(name, incarnation) | c.ChildEnding(name, incarnation):
                if not self.is_present(name, incarnation):
                    self.expect_nothing(stale=True)
                elif self.kids[name].state == "stopping":
                    self.expect_nothing()  # the first reason stays
            case c.ChildExit(name, incarnation, reason, verdict):
                if not self.is_present(name, incarnation):
                    self.expect_nothing(stale=True)
                else:
                    self.expect_exit(self.kids[name], reason, verdict)
            case c.Due(name, incarnation):
                self.expect_due(name, incarnation)
            case c.ExecutorLost(names, reason):
                self.expect_loss([kid for kid in self.alive if kid.spec.name in names], reason)
            case c.ShutDown(final, grace):
                if self.phase in {"on", "ending"}:
                    self.final = self.final or final
                    self.grace = self.grace if grace is None else grace
                    self.expect_end("asked", None, None)
            case c.Drop():
                assert self.phase in {"idle", "down", "dropped"}
                self.phase = "dropped"
            case c.RefuseStarts():
                self.refusing = True
            case _:
                self.expect_call(event)

    def is_present(self, name: str, incarnation: int) -> bool:
        kid = self.kids.get(name)
        return kid is not None and kid.incarnation == incarnation and kid.alive

    def expect_nothing(self, *, stale: bool = False) -> None:
        self.stale += stale
        assert not self.commands, f"nothing follows from {self.event}"

    def expect_begin(self) -> None:
        assert self.phase in {"idle", "down", "dropped"}
        self.phase = "on"
        self.final = self.refusing = self.up = False
        self.failing = self.waits = self.cause = self.grace = None
        self.notes.clear()
        for kid in self.kids.values():
            kid.initial = kid.declared
            kid.doomed = kid.wanted_down = kid.wanted_again = kid.restarting = False
            kid.attempt = 0

    def expect_end(self, why: str, reason: ExitReason | None, name: str | None) -> None:
        """The supervisor begins to end; the first cause stays, but for a Ctrl-C (M9)."""
        self.phase = "ending"
        self.final = self.final or self.spec.root
        self.failing = self.waits = None
        if self.cause is None or why == "interrupt":
            self.cause = (why, reason, name)

    # --- ends -----------------------------------------------------------------------------

    def expect_exit(self, kid: Kid, reason: ExitReason, verdict: str | None) -> None:
        kid.alive = False
        kid.reason = reason
        self.age_backoff(kid)
        what = self.what_follows(kid, reason, verdict)
        crash = reason.exception if isinstance(reason, Crashed) else None
        if verdict == "escalate" and isinstance(crash, KeyboardInterrupt):  # M9
            what = what if what in {"stopped", "held"} else "interrupt"
            self.expect_end("interrupt", reason, kid.spec.name)
        self.verdicts[kid.spec.name] = what
        if what == "restart":
            what = self.verdicts[kid.spec.name] = self.expect_restart(kid, reason)
        self.expect_consequence(kid, reason, what)

    def age_backoff(self, kid: Kid) -> None:
        """S4: it starts over once an incarnation has run for reset_after."""
        if kid.came_up:
            steady = kid.spec.reset_after
            if steady is None:
                steady = 2 * kid.spec.backoff.longest
            if self.now - kid.up_at >= steady:
                kid.attempt = 0

    def what_follows(self, kid: Kid, reason: ExitReason, verdict: str | None) -> str:
        """The decision on an end, without limits."""
        if kid.wanted_down:
            return "stopped"
        if self.phase == "ending":
            return "held"
        if kid.doomed:
            # S2: an end while being stopped is no new decision; temporary children are stopped
            # for good, and what had completed stays down.
            done = isinstance(reason, Completed) and kid.spec.restart == "transient"
            if (kid.spec.restart == "temporary" or done) and not kid.starters:
                return "stopped" if kid.told else "over"
            return "waits"
        if kid.wanted_again:
            return "again"
        if not kid.came_up and isinstance(reason, Completed):
            return "declined"  # L7
        if not kid.came_up and kid.initial:
            return "no start"  # S5
        if not kid.came_up and kid.asked:
            return "failed start"  # L3
        if verdict is not None and failed(reason):  # S11
            return {"restart": "restart", "stop": "over", "escalate": "escalate"}[verdict]
        wanted = {"permanent": True, "transient": failed(reason), "temporary": False}
        return "restart" if wanted[kid.spec.restart] else "over"  # S1

    def expect_restart(self, kid: Kid, reason: ExitReason) -> str:
        """S3: note the decision, count, and dig out who is concerned."""
        each = self.spec.root or self.spec.on_limit == "drop"
        self.notes.append((self.now, kid.spec.name))
        lately = [
            name
            for time, name in self.notes
            if self.now - time <= self.spec.within and (not each or name == kid.spec.name)
        ]
        if len(lately) > self.spec.max_restarts:
            return "gave up" if self.spec.on_limit == "drop" else "limit"
        kid.restarting = True
        if self.ordered:
            self.failing = self.waits = kid.spec.name
            self.rested = False
            for other in self.concerned(kid):
                still_to_begin = other.state == "waiting" or (other.initial and not other.alive)
                if not (other.over or other.wanted_down or still_to_begin):
                    other.doomed = True
        return "restart"

    def expect_consequence(self, kid: Kid, reason: ExitReason, what: str) -> None:
        if what in {"no start", "escalate", "limit"}:
            self.expect_end(what, reason, kid.spec.name)
        if what == "failed start":
            self.leave_down(kid)
        if kid.spec.significant and what in {"gave up", "over"}:
            others = [
                other
                for other in self.kids.values()
                if other is not kid
                and other.spec.significant
                and not other.over
                and self.verdicts.get(other.spec.name, "waits")
                in {"held", "waits", "restart", "again"}
            ]
            if self.spec.auto_shutdown == "any" or (
                self.spec.auto_shutdown == "all" and not others
            ):
                self.expect_end("significant", reason, kid.spec.name)

    def expect_loss(self, lost: list[Kid], reason: ExitReason) -> None:
        """E1: one decision, of the oldest that is to be restarted."""
        decided = False
        for kid in lost:
            kid.alive = False
            kid.reason = reason
            self.age_backoff(kid)
        follows = [(kid, self.what_follows(kid, reason, None)) for kid in lost]
        for kid, what in sorted(follows, key=lambda each: each[1] == "restart"):
            if self.phase == "ending" and what != "stopped":
                what = "held"
            elif what == "restart" and decided:
                # One decision: of the others, each backs off for itself, or is in the group.
                what = "waits" if self.ordered else "restart too"
                kid.restarting = True
            elif what == "restart":
                what = self.expect_restart(kid, reason)
                decided = what == "restart"
            self.verdicts[kid.spec.name] = what
            self.expect_consequence(kid, reason, what)

    def expect_due(self, name: str, incarnation: int) -> None:
        kid = self.kids.get(name)
        if kid is None or kid.incarnation != incarnation:
            self.expect_nothing(stale=True)
        elif not kid.timer:
            self.expect_nothing(stale=True)  # it crossed with its own cancellation
        else:
            kid.timer = False
            self.rested = True

    # --- calls ----------------------------------------------------------------------------

    def expect_call(self, event: _Call) -> None:
        token = event.token
        name = event.spec.name if isinstance(event, c.StartNew) else event.name
        kid = self.kids.get(name)
        if isinstance(event, c.CancelStart):
            self.expect_withdrawal(kid, token)
            return
        assert token not in self.open
        assert token not in self.answered
        self.open[token] = name
        why = self.refusals(event, kid)
        answers = [command for command in self.of(c.Refused) if command.token == token]
        if why:
            assert [answer.why for answer in answers] in [[word] for word in why]
            assert len(self.commands) == 1, "S7: a refused call changes nothing"
            return
        assert not answers, f"S7: refused without a reason: {answers}"
        if isinstance(event, c.StartNew | c.Start | c.Restart):
            # S3: explicit starts and restarts clear that child's notes.
            self.notes = [note for note in self.notes if note[1] != name]
        if isinstance(event, c.StartNew):
            return
        assert kid is not None
        if isinstance(event, c.Start | c.Restart):
            self.expect_wanted_up(kid, token)
        else:
            kid.stoppers.add(token)
            if not isinstance(event, c.AwaitEnd):
                self.expect_wanted_down(kid, removing=isinstance(event, c.Remove))

    def refusals(self, event: _Call, kid: Kid | None) -> list[str]:
        """S7: why a call cannot be, in words; none if it can."""
        found = []
        wants_up = isinstance(event, c.StartNew | c.Start | c.Restart)
        if wants_up and (self.phase != "on" or self.refusing):
            found.append("supervisor stopping")
        if isinstance(event, c.StartNew):
            if not found and kid is not None:
                found.append(REFUSALS.get(kid.state, "already declared; start it by its ref"))
            return found
        if kid is None:
            found.append("no such child")
        elif not found and isinstance(event, c.Start) and not kid.over:
            found.append(REFUSALS[kid.state])
        elif (not found and isinstance(event, c.Start) and (kid.starters or kid.initial)) or (
            not found and isinstance(event, c.Restart) and kid.state == "waiting"
        ):
            found.append("already starting")
        elif not found and isinstance(event, c.Restart) and kid.alive and kid.wanted_down:
            found.append("stopping")
        return found

    def expect_wanted_up(self, kid: Kid, token: object) -> None:
        kid.starters.add(token)
        kid.attempt = 0
        kid.wanted_again = kid.alive
        if kid.doomed:
            self.rested = True

    def expect_wanted_down(self, kid: Kid, *, removing: bool) -> None:
        kid.removing = kid.removing or removing
        self.leave_down(kid)
        if kid.alive:
            kid.wanted_down, kid.doomed = True, False
        else:
            kid.initial = False

    def leave_down(self, kid: Kid) -> None:
        """S2: if a group waits for this child, that ends the decision, and the others stay down.

        Those that had not been told to stop yet stay up; those that somebody has asked to start
        or restart in the meantime are started.
        """
        if kid.spec.name != self.waits or not (kid.doomed or kid.was_doomed):
            return
        if kid.state == "running" or (kid.came_up and not kid.doomed):
            return
        self.failing = self.waits = None
        for other in self.kids.values():
            if other.doomed and other is not kid:
                other.doomed = False
                if other.alive and other.told and other.starters:
                    other.wanted_again = True
                elif other.alive and other.told:
                    other.wanted_down = True
                    self.left.append(other)
                elif not other.alive and not other.starters:
                    self.verdicts[other.spec.name] = "left down"
        kid.doomed = kid.was_doomed = False

    def expect_withdrawal(self, kid: Kid | None, token: object) -> None:
        """L3: a cancelled start ends the half-started child."""
        if token not in self.open:
            self.expect_nothing()
            return
        assert kid is not None
        self.expect_wanted_down(kid, removing=False)

    # --- commands -------------------------------------------------------------------------

    def carry_out(self, command: c.Command) -> None:
        """Change the facts as a command does; assert what has to hold at that very moment."""
        assert (
            self.phase_before not in {"down", "dropped"}
            or self.phase == "on"
            or not isinstance(command, c.StartLife | c.StopLife | c.SetTimer | c.Up | c.Finished)
        ), f"S5: {command} below a supervisor that is down"
        match command:
            case c.Adopt(name):
                self.adopt(name)
            case c.StartLife(name, incarnation):
                self.check_start(self.kids[name], incarnation)
            case c.StopLife(name):
                self.check_stop(self.kids[name], command)
            case c.SetTimer(name, incarnation):
                kid = self.kids[name]
                assert kid.state == "backing_off"
                assert kid.incarnation == incarnation
                assert not kid.timer
                kid.timer = True
            case c.CancelTimer(name):
                assert self.kids[name].timer
                self.kids[name].timer = False
            case c.Announce():
                self.announced(self.kids[command.name], command)
            case c.Forget(name):
                kid = self.kids.pop(name)
                assert kid.over, "I4: a name is free once the child has ended"
                assert kid.removing or not kid.kept, "I5: what was declared stays declared"
                self.verdicts.setdefault(name, "")
                self.gone[name] = kid
            case c.Done(token) | c.Refused(token) | c.Failed(token):
                self.check_answer(command, token)
            case c.Up():
                assert not self.up
                assert self.phase == "on"
                assert not any(kid.initial for kid in self.kids.values()), "S5"
                self.up = True
            case c.Finished():
                self.check_finish(command)
            case _:
                assert isinstance(command, c.Settle)

    def adopt(self, name: str) -> None:
        assert name not in self.kids
        if isinstance(self.event, c.StartNew):
            assert self.event.spec.name == name
            self.kids[name] = Kid(self.event.spec, declared=False)
            self.kids[name].starters.add(self.event.token)
            return
        assert isinstance(self.event, c.Begin)
        (spec,) = (spec for spec in self.declaration if spec.name == name)
        self.kids[name] = Kid(spec, declared=True, initial=True)
        place = [spec.name for spec in self.declaration]
        self.kids = dict(sorted(self.kids.items(), key=lambda item: place.index(item[0])))

    def check_start(self, kid: Kid, incarnation: int) -> None:
        assert kid.state == "starting"
        assert kid.incarnation == incarnation
        assert not kid.alive, "L8: at most one incarnation is alive"
        kid.alive = True
        # An executor can take down several at once, and not the first of them ends it all.
        at_once = isinstance(self.event, c.ExecutorLost) and self.phase_before == "on"
        assert self.phase == "on" or at_once, "S5: nothing starts once a stop is accepted"
        assert kid.initial or kid.asked or kid.was_doomed or kid.restarting, "there is a reason"
        kid.restarting = False
        older = self.older(kid)
        if self.ordered:
            others = [other.spec.name for other in self.kids.values() if other.state == "starting"]
            assert others == [kid.spec.name], "S5: each waits for the one before"
            late = [other for other in older if other.doomed or other.initial]
            assert not late or not (kid.was_doomed or kid.initial), "S2, S5: oldest first"
        elif kid.initial and self.spec.start == "in_order" and not kid.starters:
            assert not any(other.initial for other in older), "S5: in declaration order"
        if kid.was_doomed:
            assert not any(other.alive and other.doomed for other in self.kids.values()), (
                "S2: a group is stopped, then it starts"
            )
            assert self.rested, "S2: a group backs off before it starts"
            self.waits = kid.spec.name

    def check_stop(self, kid: Kid, command: c.StopLife) -> None:
        assert kid.alive
        assert kid.incarnation == command.incarnation
        self.check_how(kid, command)
        kid.knows = command.final
        if kid.told or self.is_about(kid):
            kid.told = True
            return  # S7: acted upon at once, or told again, of a new grace
        kid.told = True
        assert self.phase == "ending" or kid.doomed or kid.wanted_down or kid.wanted_again
        for newer in self.newer(kid):
            if newer.alive and (self.phase == "ending" or newer.doomed):
                together = not self.ordered and not (kid.declared or newer.declared)
                assert together, "S5: newest first"

    def check_how(self, kid: Kid, command: c.StopLife) -> None:
        """What an incarnation is told of its stop is what is known by now."""
        if self.is_about(kid) and kid.wanted_down:
            assert command.final
            assert command.grace == getattr(self.event, "grace", None)
        elif self.phase == "ending":
            assert command.final == (self.final or not kid.kept or kid.wanted_down)
            assert command.grace == self.grace
        elif kid.wanted_down:
            assert command.final
            assert kid in self.left
            assert command.grace is None
        else:
            # S2: a group stops temporary children for good.
            stays_down = kid.doomed and kid.spec.restart == "temporary" and not kid.starters
            assert command.final == (stays_down and not kid.restarting)
            assert command.grace is None

    def is_about(self, kid: Kid) -> bool:
        """Whether the present event is a call for this child."""
        calls = c.Stop | c.Remove | c.Restart | c.CancelStart
        return isinstance(self.event, calls) and self.event.name == kid.spec.name

    def announced(self, kid: Kid, command: c.Announce) -> None:
        letter = command.notice.value
        assert (kid.state, letter) in PATHS, f"O4: {letter} in {kid.state}"
        kid.state = PATHS[kid.state, letter]
        if letter == "S":
            kid.incarnation += 1
            kid.asked = bool(kid.starters)
            kid.was_doomed = kid.doomed
            kid.came_up = kid.told = kid.knows = False
            kid.doomed = kid.wanted_again = kid.wanted_down = False
        elif letter == "U":
            assert isinstance(self.event, c.ChildUp)
            kid.came_up, kid.up_at, kid.initial = True, self.now, False
        elif letter == "X":
            assert isinstance(self.event, c.ChildExit | c.ExecutorLost)
            assert command.reason == self.event.reason, "L2: it keeps its own reason"
        elif letter == "R":
            self.check_backoff(kid, command)
        elif letter == "E":
            assert not kid.alive
            kid.initial = kid.doomed = kid.restarting = False
            kid.ended = command.reason
        assert command.incarnation == kid.incarnation
        assert letter == "R" or (command.delay, command.attempt) == (0, 0)

    def check_backoff(self, kid: Kid, command: c.Announce) -> None:
        assert self.phase == "on", "S5: nothing is restarted once a stop is accepted"
        assert command.delay == kid.spec.backoff.delay(kid.attempt, self.draw), "S4"
        kid.attempt += 1
        kid.restarts += 1
        assert command.attempt == kid.attempt, "S4: restarts in a row"
        self.rested = self.rested or command.delay == 0
        if self.ordered:
            assert kid.spec.name == self.failing
            assert not any(other.alive and other.doomed for other in self.kids.values()), (
                "S2: a group is stopped, then it backs off"
            )
        else:
            assert self.verdicts[kid.spec.name] in {"restart", "restart too"}, "S1"

    def check_answer(self, command: c.Command, token: object) -> None:
        assert token in self.open, "every call is answered once"
        name = self.open.pop(token)
        self.answered.add(token)
        kid = self.kids.get(name) or self.gone.get(name)
        if isinstance(command, c.Refused):
            assert command.why
            if kid is not None:
                kid.starters.discard(token)
            return
        assert kid is not None
        if token in kid.stoppers:
            assert isinstance(command, c.Done)
            assert kid.over
            assert command.reason == kid.ended, "I5: what an answer says, the state says too"
            kid.stoppers.discard(token)
        else:
            kid.starters.remove(token)
            declined = self.verdicts.get(name) == "declined"
            if isinstance(command, c.Done):
                assert kid.state == "running" or declined, "L3"
                assert command.reason is None
            else:
                assert isinstance(command, c.Failed)
                # L3: why that start failed; no end of an earlier life is told as its reason.
                its_own = self.verdicts.get(name) in NO_START and not kid.came_up
                assert command.reason == (kid.reason if its_own else Stopped())

    def check_finish(self, command: c.Finished) -> None:
        assert self.phase == "ending"
        assert not self.alive, "H1: nothing outlives it"
        assert self.cause is not None
        why, reason, name = self.cause
        assert command.child == name
        if why == "asked":
            assert command.reason == Stopped()
        elif why == "limit":
            assert isinstance(command.reason, Crashed)
            limit = command.reason.exception
            assert isinstance(limit, RestartLimitExceeded)
            each = self.spec.root or self.spec.on_limit == "drop"
            assert limit.path == (f"{self.path}/{name}" if each else self.path)
            assert limit.last_reason == reason
        elif why == "significant":
            assert command.reason == Completed()
        else:
            assert command.reason == reason
        self.phase = "down"

    # --- after a decision -----------------------------------------------------------------

    def judge(self) -> None:
        """What the event must have led to."""
        for name, what in self.verdicts.items():
            if name in self.before and what and self.before[name] != "over":
                letters = self.told_of(name)
                kid = self.gone.get(name) or self.kids[name]
                assert letters in self.allowed(kid, what), f"{name}: {what} gave {letters}"
        starts = {(command.name, command.incarnation) for command in self.of(c.StartLife)}
        told = [command for command in self.commands if isinstance(command, c.Announce)]
        assert starts == {
            (note.name, note.incarnation) for note in told if note.notice.value == "S"
        }
        ends = {note.name: note.reason for note in told if note.notice.value == "E"}
        settled = {command.name: command.reason for command in self.of(c.Settle)}
        assert settled == ends, "M6: an end for good settles"
        assert len(self.of(c.Settle)) == len(settled)
        restarts = {
            note.name: note.delay for note in told if note.notice.value == "R" and note.delay
        }
        assert restarts == {command.name: command.delay for command in self.of(c.SetTimer)}
        for name in ends:
            self.judge_end(self.gone.get(name) or self.kids[name])
        if isinstance(self.event, c.ChildUp) and self.told_of(self.event.name) == "U":
            assert not self.kids[self.event.name].starters, "L3: start returns"
        if isinstance(self.event, c.ChildEnding) and self.commands:
            assert self.told_of(self.event.name) == "P"
        for name in self.gone:
            assert name not in self.open.values(), "nobody waits for what is forgotten"
        if isinstance(self.event, c.Begin):
            names = [spec.name for spec in self.declaration]
            assert list(self.kids) == names, "S8: the declaration again, and nothing else"

    def allowed(self, kid: Kid, what: str) -> set[str]:
        """Which notices a child may give at its end, when that is what follows."""
        ending = {"XE"} if self.final or not kid.kept else {"X"}
        if self.phase in {"ending", "down"} and what in ENDED:
            return ending
        if self.phase in {"ending", "down"} and isinstance(self.event, c.ExecutorLost):
            return {
                "XE",
                "XSP",
                "XS",
                "E",
                *ending,
            }  # what ends it can come before or after the rest
        if not self.ordered:
            return {
                "again": {"XS"},
                "restart": {"XR", "XRS"},
                "restart too": {"XR", "XRS"},
            }.get(what, {"XE"})
        return {
            "again": {"XS", "X"},
            "restart": {"X", "XR", "XRS"},
            "waits": {"X", "XS"},
            "left down": {"E"},
        }.get(what, {"XE"})

    def judge_end(self, kid: Kid) -> None:
        """I4, M6: at an end for good."""
        name = kid.spec.name
        assert not kid.stoppers, "whoever waited for its end is told"
        assert not kid.starters
        if not kid.kept or kid.removing:
            assert name in self.gone, "I5: it is forgotten"
        what = self.verdicts.get(name)
        waited = kid.ended == Stopped() or (kid.ended == kid.reason and self.phase != "on")
        if what in {"over", "declined", "failed start"}:
            assert kid.ended == kid.reason, "L2: it keeps its own reason"
        elif what == "gave up":
            assert kid.reason is not None
            assert kid.ended == GaveUp(kid.reason)
        elif what == "stopped":
            assert kid.ended == kid.reason, "L2: it keeps its own reason"
        elif what == "left down" or self.is_about(kid):
            assert kid.ended == Stopped()
        else:
            assert waited
            over = self.final or not kid.kept or self.phase == "dropped"
            assert self.phase != "on", "nobody wanted its end"
            assert over, "M6: a decision that is not taken yet ends nothing"

    def check_invariants(self) -> None:
        """What holds after every event."""
        if self.phase == "ending":
            assert self.alive, "nothing is left: it must have finished"
            assert self.alive[-1].told, "S5: the newest is stopped first, at once"
        elif self.phase == "down" and self.phase_before != "down":
            late = [token for token, name in self.open.items() if self.waits_for_decision(name)]
            assert list(self.open) == late, "answered before it finished"
            if self.final:
                assert all(kid.over for kid in self.kids.values())
        elif self.phase == "dropped":
            assert all(kid.over for kid in self.kids.values())
            assert not self.open
        doomed = [kid for kid in self.kids.values() if kid.doomed and kid.alive]
        if doomed:
            # The group before it may still wait for one that was left down.
            left = any(kid.alive and kid.told for kid in self.newer(doomed[-1]))
            assert doomed[-1].told or left, "S2: newest first, at once"
        if self.phase == "on" and not self.up:
            assert any(kid.initial for kid in self.kids.values()), "it is up"
        for kid in self.kids.values():
            its_turn = self.phase == "ending" and kid is self.alive[-1]
            if kid.alive and (kid.wanted_down or (its_turn and (self.final or not kid.kept))):
                assert kid.knows, "M5: it is told once that is known"
            assert kid.timer <= (kid.state == "backing_off")
            if kid.over and not kid.initial and not kid.starters:
                assert not kid.stoppers, "L4: stopping what is stopped returns at once"
            if kid.state == "running" and not kid.told and not kid.doomed:
                assert not kid.starters, "L3: start returns"
            if kid.state == "backing_off" and not kid.timer:
                assert self.phase != "on" or kid.initial or self.ordered, "S4: waits for its timer"

    def waits_for_decision(self, name: str) -> bool:
        """Whether a call can wait for what the supervisor's own supervisor decides."""
        return not self.final and name in self.kids and not self.kids[name].over

    @property
    def active(self) -> int:
        return sum(not kid.over for kid in self.kids.values())
