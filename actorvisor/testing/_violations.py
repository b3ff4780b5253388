"""What a check finds: which rule is broken, and by what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from ._trace import Entry

SHOWN: Final = 10
"""Violations that an error shows in full."""


@final
@dataclass(frozen=True, slots=True)
class Violation:
    """One place where a rule is broken.

    Attributes:
        rule: the rule's number or name, such as ``M5``.
        expected: what it says, in words.
        found: what was found instead.
        entries: where that is to be seen, of a trace.
    """

    rule: str
    expected: str
    found: str
    entries: tuple[Entry, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.rule} is broken: {self.expected}; found: {self.found}"]
        lines += [f"    {entry}" for entry in self.entries]
        return "\n".join(lines)


class RuleBroken(AssertionError):
    """What was checked does not do what the contract says.

    Args:
        *violations: at least one.

    Attributes:
        violations: all that was found.
    """

    def __init__(self, *violations: Violation) -> None:
        super().__init__(*violations)
        self.violations = violations

    @property
    def rule(self) -> str:
        """The rule that is broken first."""
        return self.violations[0].rule

    @property
    def expected(self) -> str:
        """What it says, in words."""
        return self.violations[0].expected

    @property
    def found(self) -> str:
        """What was found instead."""
        return self.violations[0].found

    def __str__(self) -> str:
        text = "\n".join(map(str, self.violations[:SHOWN]))
        left_out = len(self.violations) - SHOWN
        return f"{text}\nand {left_out} more" if left_out > 0 else text
