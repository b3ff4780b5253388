"""What a child and a supervisor are declared to be; every option is checked here, once."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from ._backoff import MANY, Backoff, Immediate, shortest_time
from ._checks import check_choice, check_count, check_flag, check_seconds
from ._describe import describe
from ._ids import check_name, check_unique
from ._messages import ExitReason, is_failure
from ._strategy import STRATEGIES, Strategy

Restart: TypeAlias = Literal["permanent", "transient", "temporary"]
AutoShutdown: TypeAlias = Literal["never", "any", "all"]
StartOrder: TypeAlias = Literal["in_order", "together"]
OnLimit: TypeAlias = Literal["end", "drop"]
Verdict: TypeAlias = Literal["restart", "escalate", "stop"]

RESTARTS: Final[tuple[Restart, ...]] = get_args(Restart)

MAX_RESTARTS: Final = 3
WITHIN: Final = 5.0
IMMEDIATE: Final = Immediate()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """A child, as the decisions need to know it.

    Attributes:
        name: unique among its siblings.
        restart: ``permanent`` (after any end that was not asked for), ``transient`` (after
            failures) or ``temporary`` (never).
        backoff: the wait before a restart.
        reset_after: seconds of running after which the backoff starts over; None: twice the
            longest delay.
        significant: whether its end can end the supervisor (OTP's significant children).
        rolling: whether a restart of it that somebody asks for is one of its own children, one
            by one (a pool).
    """

    name: str
    restart: Restart = "permanent"
    backoff: Backoff = IMMEDIATE
    reset_after: float | None = None
    significant: bool = False
    rolling: bool = False

    def __post_init__(self) -> None:
        check_name(self.name)
        check_choice("restart=", self.restart, RESTARTS)
        if not isinstance(self.backoff, Backoff):
            raise TypeError(
                "backoff= must be Immediate(), Fixed(...), Linear(...) or Exponential(...), "
                f"not {describe(self.backoff)}"
            )
        if self.reset_after is not None:
            check_seconds("reset_after=", self.reset_after)
        check_flag("significant=", self.significant)
        if self.significant and self.restart == "permanent":
            raise ValueError(
                f"child {self.name!r} is significant and permanent: it never ends for good; "
                'use restart="transient" or "temporary"'
            )

    @property
    def steady_after(self) -> float:
        """Seconds of running after which the backoff starts over."""
        return 2 * self.backoff.longest if self.reset_after is None else self.reset_after

    def wants_restart(self, reason: ExitReason) -> bool:
        """Whether it is restarted after an end that nobody asked for (S1)."""
        if self.restart == "transient":
            return is_failure(reason)
        return self.restart == "permanent"


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorSpec:
    """A supervisor, as the decisions need to know it.

    Attributes:
        strategy: ``one_for_one``, ``one_for_all`` or ``rest_for_one``.
        max_restarts: restart decisions allowed within ``within`` seconds.
        within: seconds.
        on_limit: ``end``: the supervisor ends with `RestartLimitExceeded`; ``drop``
            (one_for_one): the child that exceeds a window of its own ends as `GaveUp`.
        root: whether nobody stands above it (the host): every child has a window of its own,
            and its end is for good.
        auto_shutdown: whether significant children end it: ``never``, ``any``, ``all``.
        start: ``in_order`` or ``together`` (one_for_one).
        pool: whether its children are the members of a pool: they stop together, and when none
            of them is left that is, or will be, up, it ends as the last one did.
    """

    strategy: Strategy = "one_for_one"
    max_restarts: int = MAX_RESTARTS
    within: float = WITHIN
    on_limit: OnLimit = "end"
    root: bool = False
    auto_shutdown: AutoShutdown = "never"
    start: StartOrder = "in_order"
    pool: bool = False

    def __post_init__(self) -> None:
        check_choice("strategy=", self.strategy, STRATEGIES)
        check_count("max_restarts=", self.max_restarts, least=0)
        if check_seconds("within=", self.within, infinite=True) == 0:
            raise ValueError(f"within= must be more than 0 seconds, not {self.within!r}")
        check_choice("on_limit=", self.on_limit, get_args(OnLimit))
        check_flag("root=", self.root)
        check_choice("auto_shutdown=", self.auto_shutdown, get_args(AutoShutdown))
        check_choice("start=", self.start, get_args(StartOrder))
        if self.on_limit == "drop" and self.strategy != "one_for_one":
            raise ValueError(
                f'on_limit="drop" needs strategy="one_for_one", not {self.strategy!r}: '
                "the others restart children together"
            )
        if self.start == "together" and self.strategy != "one_for_one":
            raise ValueError(
                f'start="together" needs strategy="one_for_one", not {self.strategy!r}: '
                "the others keep an order"
            )

    @property
    def has_window_each(self) -> bool:
        """Whether every child has a window of its own."""
        return self.root or self.on_limit == "drop"

    @property
    def ordered(self) -> bool:
        """Whether children that are started at run time wait for their turn."""
        return self.strategy != "one_for_one"

    def check_child(self, child: ChildSpec, path: str) -> None:
        """Refuse a child that does not fit.

        Raises:
            ValueError: it is significant, and the supervisor never shuts down by itself.
        """
        if child.significant and self.auto_shutdown == "never":
            raise ValueError(
                f"child {child.name!r} of {path} is significant, but the supervisor's "
                'auto_shutdown is "never"; use auto_shutdown="any" or "all"'
            )

    def check_children(self, children: tuple[ChildSpec, ...], path: str) -> None:
        """Check a whole declaration; warn of a limit that a backoff makes unreachable (S3).

        Raises:
            ValueError: two children have one name, or one does not fit.
        """
        check_unique((child.name for child in children), path)
        for child in children:
            self.check_child(child, path)
            self.warn_of_unreachable_limit(child, path)

    def warn_of_unreachable_limit(self, child: ChildSpec, path: str) -> None:
        """Warn if the child's own restarts can never exceed the window (S3)."""
        restarts = min(self.max_restarts, MANY)
        if child.restart == "temporary" or restarts * child.backoff.longest <= self.within:
            return
        if shortest_time(child.backoff, restarts, child.steady_after) > self.within:
            warnings.warn(
                f"the backoff {describe(child.backoff)} of child {child.name!r} makes the limit of "
                f"{path} unreachable: {self.max_restarts} restarts take longer than "
                f"{self.within:g} seconds, so it may fail for ever; raise within= or lower "
                "max_restarts=",
                UserWarning,
                stacklevel=4,
            )
