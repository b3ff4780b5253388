"""A fake world: it carries out what a supervision decides, with whatever delays and outcomes.

`World` plays everybody that a supervisor talks to: incarnations, executors, timers, callers and
the supervisor's own supervisor. What comes next is chosen by ``pick(n)``, a number below ``n``,
among all that could legally come next. Each decision is read along by the `Ledger`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from actorvisor._core import _commands as c
from actorvisor._core._backoff import Exponential, Fixed, Immediate, Linear
from actorvisor._core._messages import Completed, Crashed, ExitReason, Killed, Stopped, TimedOut
from actorvisor._core._spec import ChildSpec, SupervisorSpec
from actorvisor._core._supervision import Supervision
from tests.core.model import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable

    from actorvisor._core._spec import Verdict

Report: TypeAlias = c.ChildUp | c.ChildEnding | c.ChildExit | c.Due
PATH = "host/s"
BOOM = Crashed(RuntimeError("boom"))
CTRL_C = Crashed(KeyboardInterrupt())
OWN_ENDS = (BOOM, BOOM, BOOM, Killed(-9), Completed(1), TimedOut("handler"), CTRL_C)
TOLD_ENDS = (Stopped(), Stopped(), BOOM, Completed(None), Killed(-9), TimedOut("teardown"), CTRL_C)
BACKOFFS = (
    Immediate(),
    Immediate(),
    Fixed(1.0),
    Linear(0.5, 2.0),
    Exponential(0.25, 2.0, 2.0, 0.5),
)
STEPS = (0.0, 0.0, 0.25, 0.5, 1.0, 3.0)
DRAWS = (0.0, 0.5, 0.75)
VERDICTS: tuple[Verdict | None, ...] = (None, None, None, None, None, "restart", "stop", "escalate")


@dataclass
class Life:
    """An incarnation, as the world has it."""

    name: str
    incarnation: int
    executor: int
    is_up: bool = False
    told: bool = False
    reason: ExitReason | None = None  # its end has begun


class World:
    """Everything around one supervision."""

    def __init__(self, pick: Callable[[int], int]) -> None:
        self.pick = pick
        self.spec, self.declaration = self.draw_specs()
        self.supervision = Supervision(self.spec, PATH, self.declaration)
        self.ledger = Ledger(self.spec, PATH, self.declaration)
        self.lives: dict[str, Life] = {}
        self.timers: dict[str, tuple[float, int]] = {}
        self.late: list[Report] = []
        self.starts: list[tuple[str, str]] = []  # tokens of starts, and for which child
        self.calls = 0
        self.now = 0.0
        self.began = False
        self.checks_copies = False
        self.log: list[str] = []

    # --- what is supervised ---------------------------------------------------------------

    def choose(self, *options: object) -> object:
        return options[self.pick(len(options))]

    def draw_specs(self) -> tuple[SupervisorSpec, tuple[ChildSpec, ...]]:
        pick = self.pick
        strategy = ("one_for_one", "one_for_all", "rest_for_one")[pick(3)]
        alone = strategy == "one_for_one"
        self.auto = ("never", "never", "any", "all")[pick(4)]
        spec = SupervisorSpec(
            strategy=strategy,  # type: ignore[arg-type]
            max_restarts=(3, 2, 1, 0, 8)[pick(5)],
            within=(5.0, 1.0, float("inf"))[pick(3)],
            on_limit="drop" if alone and pick(3) == 2 else "end",
            root=pick(4) == 3,
            auto_shutdown=self.auto,  # type: ignore[arg-type]
            start="together" if alone and pick(3) == 2 else "in_order",
        )
        return spec, tuple(self.draw_child(f"d{index}") for index in range(pick(5)))

    def draw_child(self, name: str) -> ChildSpec:
        restart = ("permanent", "permanent", "transient", "temporary")[self.pick(4)]
        significant = self.auto != "never" and restart != "permanent" and self.pick(2) == 1
        return ChildSpec(
            name=name,
            restart=restart,  # type: ignore[arg-type]
            backoff=BACKOFFS[self.pick(len(BACKOFFS))],
            reset_after=(None, None, 0.0, 1.0)[self.pick(4)],
            significant=significant,
        )

    # --- events ---------------------------------------------------------------------------

    def send(self, event: c.Event) -> list[c.Command]:
        """Let it decide, carry out what it decided, and check all of it."""
        draw = DRAWS[self.pick(len(DRAWS))]
        self.log.append(f"{self.now:g}: {event}")
        twin = self.supervision.copy() if self.checks_copies else None
        commands = self.supervision.decide(event, self.now, draw)
        self.log.extend(f"        {command}" for command in commands)
        for command in commands:
            self.carry_out(command)
        self.ledger.feed(event, self.now, draw, commands)
        self.check_records()
        if twin is not None:
            self.check_copy(twin, event, draw, commands)
        return commands

    def check_copy(
        self, twin: Supervision, event: c.Event, draw: float, commands: list[c.Command]
    ) -> None:
        """S9: a copy decides the same, and its original knows nothing of it."""
        before = twin.copy()
        assert before == twin
        theirs = twin.decide(event, self.now, draw)
        assert before != twin or not any(isinstance(each, c.Announce) for each in theirs)
        # An exception is equal to itself only, and each of the two makes one at a limit.
        assert repr(theirs) == repr(commands)
        if self.ledger.cause is None or self.ledger.cause[0] != "limit":
            assert theirs == commands
            assert twin == self.supervision

    def check_records(self) -> None:
        """What can be looked at agrees with what was said (I4)."""
        records, kids = self.supervision.children, self.ledger.kids
        assert list(records) == list(kids), "the order, too"
        for name, kid in kids.items():
            record = records[name]
            state = "over" if record.final else record.state.value
            assert state == kid.state
            assert record.incarnation == kid.incarnation
            assert record.restarts == kid.restarts
            flags = (record.declared, record.pending, record.held, record.timing)
            assert set(map(type, flags)) == {bool}
            if kid.over:
                assert record.reason == kid.ended
            elif kid.alive:
                assert record.reason is None
        assert self.supervision.active == self.ledger.active
        assert self.supervision.stale == self.ledger.stale
        assert set(self.lives) == {kid.spec.name for kid in self.ledger.alive}

    def carry_out(self, command: c.Command) -> None:
        match command:
            case c.StartLife(name, incarnation):
                assert name not in self.lives
                self.lives[name] = Life(name, incarnation, self.pick(2))
            case c.StopLife(name, incarnation):
                assert self.lives[name].incarnation == incarnation
                self.lives[name].told = True
            case c.SetTimer(name, incarnation, delay):
                assert delay > 0
                self.timers[name] = (self.now + delay, incarnation)
            case c.CancelTimer(name):
                # It can have fired already, and be in the mail.
                _, incarnation = self.timers.pop(name)
                self.late.append(c.Due(name, incarnation))
            case c.Forget(name):
                # A mailbox is in order: what is late comes before what a new child reports.
                self.late = [event for event in self.late if event.name != name]
                self.late.append(c.ChildUp(name, 1))
            case c.Adopt(name):
                self.late = [event for event in self.late if event.name != name]
            case _:
                pass  # told, and that is all

    # --- what can come next ---------------------------------------------------------------

    def run(self, steps: int) -> None:
        """Let that many things happen."""
        for _ in range(steps):
            self.step()

    def step(self) -> None:
        self.now += STEPS[self.pick(len(STEPS))]
        phase = self.ledger.phase
        if phase in {"idle", "dropped"} and not (self.began and self.pick(2)):
            self.began = True
            self.send(c.Begin())
            return
        what = self.pick(16)
        if phase == "down" and what < 8:
            self.send(c.Drop() if what % 4 == 0 else c.Begin())
        elif what < 8 and self.lives:
            self.report()
        elif what < 10 and self.timers:
            self.fire()
        elif what == 10 and self.late:
            self.send(self.late.pop(self.pick(len(self.late))))
        elif what == 11:
            self.control()
        else:
            self.call()

    def report(self) -> None:
        """One incarnation does something."""
        life = list(self.lives.values())[self.pick(len(self.lives))]
        what = self.pick(8)
        if not life.is_up and life.reason is None and what < 5:
            life.is_up = True
            self.send(c.ChildUp(life.name, life.incarnation))
            return
        if life.reason is None:
            ends = TOLD_ENDS if life.told else OWN_ENDS
            life.reason = ends[self.pick(len(ends))]
            if what % 2:
                self.send(c.ChildEnding(life.name, life.incarnation, life.reason))
                return
        self.exit(life, life.reason)

    def exit(self, life: Life, reason: ExitReason) -> None:
        del self.lives[life.name]
        verdict = VERDICTS[self.pick(len(VERDICTS))] if isinstance(reason, Crashed) else None
        gone = c.ChildExit(life.name, life.incarnation, reason, verdict)
        past: list[Report] = [
            c.ChildUp(life.name, life.incarnation),
            c.ChildEnding(life.name, life.incarnation, reason),
            gone,
        ]
        commands = self.send(gone)
        if c.StartLife(life.name, life.incarnation + 1) in commands:
            self.late.append(past[self.pick(3)])

    def fire(self) -> None:
        name, (time, incarnation) = min(self.timers.items(), key=lambda item: item[1][0])
        del self.timers[name]
        self.now = max(self.now, time)
        self.send(c.Due(name, incarnation))

    def control(self) -> None:
        """The supervisor's own supervisor, or an executor."""
        what = self.pick(6)
        grace = (None, None, 0.0, 2.0)[self.pick(4)]
        if what < 3:
            carried = [life for life in self.lives.values() if life.executor == what % 2]
            for life in carried:
                del self.lives[life.name]
            # The shell can name those that have gone already, too.
            names = tuple(life.name for life in carried) + ("nobody",) * (what == 2)
            self.send(c.ExecutorLost(names, BOOM))
        elif what == 3:
            self.send(c.RefuseStarts())
        elif self.ledger.phase in {"on", "ending"}:
            self.send(c.ShutDown(what == 4, grace))

    def call(self) -> None:
        """Somebody calls."""
        self.calls += 1
        token = f"t{self.calls}"
        names = [*self.supervision.children, "r0", "r1", "ghost"]
        name = names[self.pick(len(names))]
        grace = (None, 0.0, 1.0)[self.pick(3)]
        what = self.pick(12)
        if what < 3:
            self.starts.append((token, name))
            self.send(c.Start(name, token))
        elif what < 5:
            self.starts.append((token, name))
            self.send(c.Restart(name, token))
        elif what < 7:
            self.send(c.Stop(name, token, grace))
        elif what == 7:
            self.send(c.Remove(name, token, grace))
        elif what == 8:
            self.send(c.AwaitEnd(name, token))
        elif what == 9 and self.starts:
            token, name = self.starts[self.pick(len(self.starts))]
            self.send(c.CancelStart(name, token))
        else:
            spec = self.draw_child(("r0", "r1", name)[self.pick(3)])
            self.starts.append((token, spec.name))
            self.send(c.StartNew(spec, token))

    # --- the end --------------------------------------------------------------------------

    def settle(self) -> None:
        """Let everybody answer, and see that it comes to rest."""
        for _ in range(1000):
            busy = [
                life for life in self.lives.values() if life.told or not life.is_up or life.reason
            ]
            if busy:
                life = busy[0]
                if life.told or life.reason:
                    self.exit(life, life.reason or Stopped())
                else:
                    life.is_up = True
                    self.send(c.ChildUp(life.name, life.incarnation))
            elif self.timers:
                self.fire()
            else:
                break
        else:
            raise AssertionError("it comes to no rest")
        self.check_rest()

    def check_rest(self) -> None:
        """The world has answered everything: nobody is stuck."""
        ledger = self.ledger
        assert ledger.phase in {"on", "down", "dropped", "idle"}
        assert self.supervision._plan.group is None, "S10: it is forgotten once it is over"
        if ledger.phase == "on":
            assert ledger.up
            for kid in ledger.kids.values():
                assert kid.state in {"running", "over"}, f"{kid} is stuck"
            waiting = [name for token, name in ledger.open.items()]
            assert all(ledger.kids[name].state == "running" for name in waiting)
            assert not any(kid.starters for kid in ledger.kids.values())

    def finish(self) -> None:
        """Stop it for good: it comes to its end, and nobody waits any more."""
        self.settle()
        if self.ledger.phase == "on":
            self.send(c.ShutDown(True))
        self.settle()
        if self.ledger.phase == "down":
            self.send(c.Drop())
        assert self.ledger.phase in {"idle", "dropped"}
        assert not self.ledger.open
        assert self.supervision.active == 0
        assert not self.lives
        assert not self.timers
