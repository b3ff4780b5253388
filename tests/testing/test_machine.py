"""A state machine over the user's own tree (T5)."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, Verbosity, settings, strategies as st
from hypothesis.stateful import invariant, run_state_machine_as_test

import actorvisor as av
from actorvisor.testing import RuleBroken, SupervisionMachine, Violation

QUICK = settings(
    max_examples=60,
    stateful_step_count=20,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate, Phase.shrink],  # to explain takes a trace of every line
    suppress_health_check=list(HealthCheck),
)


class Counter(av.Service):
    """Counts; what it counts is lost with it."""

    def __init__(self) -> None:
        self.value = 0

    def add(self, amount: int) -> int:
        self.value += amount
        return self.value


class Careless(Counter):
    def add(self, amount: int) -> int:
        if amount == 7:
            raise ValueError("seven")
        return super().add(amount)


def adds(target: type[Counter]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.tuples(st.just(target.add), st.integers(1, 9))


class OnEveryExecutor(SupervisionMachine):
    tree = (
        av.Supervisor(
            [
                av.Application(Counter, name="loop"),
                av.Application(Counter, name="thread", executor=av.ThreadExecutor()),
                av.Application(Counter, name="process", executor=av.ProcessExecutor()),
                av.Application(Counter, name="both", executor=av.AsyncProcessExecutor()),
            ],
            name="s",
            strategy="rest_for_one",
        ),
        av.Pool(av.Application(Counter), size=2, name="pool"),
    )
    messages: ClassVar[dict[str, Any]] = {
        f"host/{path}": adds(Counter) for path in ("s/loop", "s/thread", "s/process", "pool")
    }

    @invariant()
    def answers_are_plausible(self) -> None:
        for _, _, answer in self.answers:
            assert isinstance(answer, int | av.ActorvisorError | TimeoutError | Exception)


TestOnEveryExecutor = OnEveryExecutor.TestCase
TestOnEveryExecutor.settings = QUICK


def failing(machine: type[SupervisionMachine], kind: type[BaseException]) -> str:
    """What hypothesis prints of the smallest run in which a machine fails."""
    with pytest.raises(kind) as caught:
        run_state_machine_as_test(machine, settings=QUICK)
    return "\n".join(getattr(caught.value, "__notes__", []))


class Invariant(SupervisionMachine):
    tree = (av.Application(Careless, name="counter"),)
    options: ClassVar[dict[str, Any]] = {"on_limit": "drop"}
    messages: ClassVar[dict[str, Any]] = {"host/counter": adds(Careless)}

    @invariant()
    def nothing_crashes(self) -> None:
        for _, _, answer in self.answers:
            assert not isinstance(answer, av.ServiceCrashed)


def test_an_invariant_of_ones_own_is_found_broken_and_shrunk() -> None:
    # T5
    said = failing(Invariant, AssertionError)
    assert said.count("state.ask(") == 1
    assert "7" in said
    for other in ("stop", "restart", "crash", "send", "advance"):
        assert f"state.{other}(" not in said
    assert "exited" in said  # the trace of that run


class OfOnesOwn(SupervisionMachine):
    tree = (av.Application(Counter, name="counter"),)
    checked = (
        lambda trace: (
            Violation("mine", "nobody is restarted", str(one))
            for one in trace.kinds("restarting", "exited")
            if one.incarnation > 1
        ),
    )


def test_a_rule_of_ones_own_is_checked_at_the_end() -> None:
    # T4, T5
    said = failing(OfOnesOwn, RuleBroken)
    assert said.count("state.crash(") + said.count("state.restart(") == 1


class Unknown(SupervisionMachine):
    tree = (av.Application(Counter, name="counter"),)
    messages: ClassVar[dict[str, Any]] = {"host/other": adds(Counter)}


def test_messages_for_nobody_are_refused() -> None:
    with pytest.raises(LookupError, match=r"names 'host/other', and its tree has host/counter"):
        Unknown()


class Stuck(SupervisionMachine):
    tree = (av.Application(Counter, name="counter"),)

    @invariant()
    def waits_for_ever(self) -> None:
        import trio

        self.call(trio.sleep_forever)


def test_a_call_that_never_ends_is_one_clear_error() -> None:
    # T2: and the next machine is not disturbed by it
    from actorvisor.testing import Deadlock

    with pytest.raises(Deadlock):
        run_state_machine_as_test(Stuck, settings=settings(QUICK, phases=[Phase.generate]))
    run_state_machine_as_test(
        OnEveryExecutor, settings=settings(QUICK, max_examples=2, verbosity=Verbosity.quiet)
    )
