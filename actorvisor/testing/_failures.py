"""What is wrong with a simulation, and not with the system that is simulated."""

from __future__ import annotations

from .._errors import ActorvisorError


class SimulationError(ActorvisorError):
    """A simulation cannot go on, or would not be one."""


class Deadlock(SimulationError):
    """All tasks wait, and for no deadline.

    Attributes:
        tasks: the names of those that wait.
    """

    def __init__(self, tasks: tuple[str, ...]) -> None:
        super().__init__(tasks)
        self.tasks = tasks

    def __str__(self) -> str:
        return f"all tasks wait for each other, and for no deadline: {', '.join(self.tasks)}"


class StepLimit(SimulationError):
    """It has taken more steps than it may: it never ends, or ``max_steps`` is too low.

    Attributes:
        steps: how many it may take.
        tasks: the names of the tasks that took the last ones.
    """

    def __init__(self, steps: int, tasks: tuple[str, ...]) -> None:
        super().__init__(steps, tasks)
        self.steps = steps
        self.tasks = tasks

    def __str__(self) -> str:
        return (
            f"no end after {self.steps} steps; it goes round in {', '.join(self.tasks)}; "
            "if it only takes long, raise max_steps="
        )


class OutsideSimulation(SimulationError):
    """It uses something that cannot be simulated.

    Attributes:
        what: what that is, and what to do.
    """

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    def __str__(self) -> str:
        return self.what


class ReplayDiverged(SimulationError):
    """What is replayed does not do what was recorded: it, or its plan, has changed.

    Attributes:
        choice: the number of the choice, counted from 0.
        recorded: what was recorded there.
        found: what there is now.
    """

    def __init__(self, choice: int, recorded: str, found: str) -> None:
        super().__init__(choice, recorded, found)
        self.choice = choice
        self.recorded = recorded
        self.found = found

    def __str__(self) -> str:
        return (
            f"the replay no longer fits, at choice {self.choice}: when it was recorded, "
            f"{self.recorded}; now {self.found}. The system, its faults or a library have changed"
        )
