"""What tests of services and of executors need; it imports neither pytest nor hypothesis."""

from __future__ import annotations

from ._conformance import (
    ExecutorCheck as ExecutorCheck,
    RuleBroken as RuleBroken,
    check_executor as check_executor,
    executor_checks as executor_checks,
)
