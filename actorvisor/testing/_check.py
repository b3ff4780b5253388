"""`check`: the rules that hold for every host, over a trace of a run (T4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

from .._core._describe import describe
from ._rules_life import rule_h1, rule_l1, rule_l8, rule_o4
from ._rules_mail import rule_m2, rule_m4, rule_m5, rule_m6, rule_m7, rule_m8
from ._rules_supervision import rule_s1, rule_s2, rule_s3, rule_s5
from ._trace import Trace
from ._violations import RuleBroken, Violation

Rule: TypeAlias = Callable[[Trace], Iterable[Violation]]
"""A rule: it is given a trace, and gives each place where the rule is broken."""

ALL: Final[tuple[Rule, ...]] = (
    rule_o4,
    rule_l1,
    rule_l8,
    rule_s1,
    rule_s2,
    rule_s3,
    rule_s5,
    rule_m7,
    rule_m2,
    rule_m4,
    rule_m5,
    rule_m6,
    rule_m8,
    rule_h1,
)
"""The rules that hold for every host; each one's docstring says what exactly is checked."""


def check(trace: Trace, rules: Iterable[Rule] = ALL) -> None:
    """Check that a run kept the rules: simulated or real, to its end or not.

    Example:
        ::

            def nothing_is_lost(trace):
                for entry in trace.kinds("dead-letter"):
                    yield Violation("no loss", "no dead letters", entry.path, (entry,))

            check(trace, (*ALL, nothing_is_lost))

    Args:
        trace: what happened, as `record` or `simulate` gives it.
        rules: which ones; functions that are given the trace, and give each `Violation`.

    Raises:
        RuleBroken: it did not; its ``violations`` are all that was found.
    """
    if not isinstance(trace, Trace):
        raise TypeError(f"check() takes a Trace, not {describe(trace)}")
    violations: list[Violation] = []
    for rule in rules:
        if not callable(rule):
            raise TypeError(f"a rule is a function of a trace, and {describe(rule)} is none")
        for one in rule(trace):
            if not isinstance(one, Violation):
                raise TypeError(f"the rule {describe(rule)} gave {describe(one)}, no Violation")
            violations.append(one)
    if violations:
        raise RuleBroken(*violations)
