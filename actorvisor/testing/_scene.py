"""A host, an executor, and what is expected of it: where each check of an executor plays."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final

import outcome
import trio

from .._core._describe import describe
from .._core._messages import (
    DeadLetter,
    Ended,
    Exited,
    Missed,
    Notification,
    Restarting,
    Started,
    Starting,
    Stopping,
)
from .._runtime._declaration import Application
from .._runtime._host import Host, open_host
from .._runtime._mailbox import MailStatistics
from ._leash import Cut, Leash
from ._players import Stage, cast_for
from ._violations import RuleBroken, Violation

if TYPE_CHECKING:
    from .._runtime._events import Events
    from .._runtime._ref import Ref
    from ..abc import Executor

PAUSE: Final = 0.002


class Answer:
    """What becomes of an ask that somebody else waits for."""

    def __init__(self) -> None:
        self._arrived = trio.Event()
        self._outcome: outcome.Outcome[Any]
        self.scope = trio.CancelScope()

    @property
    def here(self) -> bool:
        """Whether there is an answer."""
        return self._arrived.is_set()

    def _set(self, result: outcome.Outcome[Any]) -> None:
        self._outcome = result
        self._arrived.set()

    async def get(self) -> Any:
        """The answer: a value, or the error that the ask raised."""
        await self._arrived.wait()
        return self._outcome.unwrap()


class Scene:
    """A host with a stage, and the executor that is looked at.

    Attributes:
        executor: what is looked at.
        cast: the players that fit it.
        host: a host, with nothing but the stage in it.
        stage: the ref of that.
        patience: seconds that a single expectation may take to come true.
    """

    def __init__(self, executor: Executor, patience: float) -> None:
        self.executor = executor
        self.cast = cast_for(executor)
        self.patience = patience
        self.host: Host
        self.stage: Ref[Stage]
        self._rule = "E2"
        self._expected = "a host can be opened"
        self._time = trio.CancelScope()
        self._nursery: trio.Nursery
        self._events: Events

    # --- what is expected -----------------------------------------------------------------

    def expect(self, rule: str, expected: str) -> None:
        """Say what the next steps show; its time begins."""
        self._rule, self._expected = rule, expected
        self._time.deadline = trio.current_time() + self.patience

    def broken(self, found: str) -> RuleBroken:
        """The error that says that it is not so."""
        return RuleBroken(Violation(self._rule, self._expected, found))

    def check(self, is_so: bool, found: object) -> None:
        """Fail unless it is so."""
        if not is_so:
            raise self.broken(describe(found, 1000))

    def same(self, found: object, wanted: object) -> None:
        """Fail unless what was found is what is wanted."""
        if found == wanted:
            return
        where = ""
        if isinstance(found, list) and isinstance(wanted, list) and len(wanted) > 20:
            at = next(
                (
                    i
                    for i, pair in enumerate(zip(found, wanted, strict=False))
                    if pair[0] != pair[1]
                ),
                0,
            )
            where = f" (of {len(found)} and {len(wanted)}, from the {at}th on)"
            found, wanted = found[at : at + 5], wanted[at : at + 5]
        raise self.broken(f"{describe(found, 1000)} instead of {describe(wanted, 1000)}{where}")

    def kind(self, found: object, kind: type[Any] | tuple[type[Any], ...]) -> None:
        """Fail unless what was found is an instance."""
        if not isinstance(found, kind):
            raise self.broken(f"{describe(found, 1000)}")

    @contextmanager
    def raises(
        self, kind: type[BaseException], of: type[BaseException] | None = None
    ) -> Generator[list[Any], None, None]:
        """Fail unless the block raises such an error, with such a cause; gives it."""
        caught: list[Any] = []
        try:
            yield caught
        except kind as error:
            caught.append(error)
        except (Exception, SystemExit) as error:
            raise self.broken(f"{error!r} instead of a {kind.__name__}") from error
        else:
            raise self.broken(f"no {kind.__name__} was raised")
        if of is not None and not isinstance(caught[0].__cause__, of):
            raise self.broken(f"its cause is {caught[0].__cause__!r} instead of a {of.__name__}")

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait until something has come true; the patience bounds it."""
        while not is_so():  # noqa: ASYNC110 - it is no event that anybody could set
            await trio.sleep(PAUSE)

    # --- who plays ------------------------------------------------------------------------

    def player(self, setup: str = "", teardown: str = "", **options: Any) -> Application[Any]:
        """The declaration of a player."""
        options = {"name": "player", **options}
        return Application(
            self.cast.player, self.stage, setup, teardown, executor=self.executor, **options
        )

    def reader(self, **options: Any) -> Application[Any]:
        """The declaration of a loop that reads its mail."""
        options = {"name": "reader", **options}
        return Application(self.cast.reader, self.stage, executor=self.executor, **options)

    def function(self, script: str, **options: Any) -> Application[Any]:
        """The declaration of a function."""
        options = {"name": "function", **options}
        return Application(
            self.cast.function, self.stage, script, executor=self.executor, **options
        )

    async def start(self, setup: str = "", teardown: str = "", **options: Any) -> Ref[Any]:
        """Start a player."""
        return await self.host.start(self.player(setup, teardown, **options))

    # --- what they do ---------------------------------------------------------------------

    async def perform(self, ref: Ref[Any], script: str) -> Any:
        """Let a player play, and wait for that."""
        return await ref.ask(self.cast.player.perform, script)

    async def tell(self, ref: Ref[Any], script: str) -> None:
        """Let a player play."""
        await ref.tell(self.cast.player.perform, script)

    async def perform_soon(self, ref: Ref[Any], script: str) -> Answer:
        """Ask a player to play, and do not wait for the answer; it is in the mailbox."""
        before = self.mail(ref).accepted
        answer = await self.soon(self.perform, ref, script)
        await self.until(lambda: answer.here or self.mail(ref).accepted > before)
        return answer

    async def soon(self, function: Callable[..., Any], *args: Any) -> Answer:
        """Do something beside."""
        answer = Answer()

        async def wait() -> None:
            with answer.scope:
                try:
                    result: outcome.Outcome[Any] = outcome.Value(await function(*args))
                except Exception as error:
                    result = outcome.Error(error)
                answer._set(result)

        self._nursery.start_soon(wait)
        await trio.lowlevel.checkpoint()
        return answer

    async def say(self, line: str) -> None:
        """Give a cue."""
        await self.stage.ask(Stage.say, line)

    async def heard(self, line: str, times: int = 1) -> None:
        """Wait for a line."""
        await self.stage.ask(Stage.hear, line, times)

    async def lines(self, *but: str) -> list[str]:
        """What was said so far, but for some."""
        return [line for line in await self.stage.ask(Stage.lines) if line not in but]

    # --- accounts -------------------------------------------------------------------------

    def mail(self, ref: Ref[Any]) -> MailStatistics:
        """The account of a mailbox."""
        found = self.host.statistics().mailboxes.get(ref.path)
        return MailStatistics() if found is None else found

    def balance(self) -> None:
        """Every account is right (M7)."""
        statistics = self.host.statistics()
        for path, mail in {**statistics.mailboxes, "all mail": statistics.mail}.items():
            parts = mail.handled + mail.rejected + mail.withdrawn + mail.dead_letters
            if mail.accepted != parts + mail.waiting + mail.in_hand:
                expected = (
                    "accepted = handled + rejected + withdrawn + dead letters + waiting + in hand"
                )
                raise RuleBroken(Violation("M7", expected, f"{path}: {mail}"))


_NEXT: Final[dict[type[Notification] | None, tuple[type[Notification], ...]]] = {
    None: (Starting, Ended),
    Starting: (Started, Stopping, Exited),
    Started: (Stopping, Exited),
    Stopping: (Exited,),
    Exited: (Restarting, Starting, Ended),
    Restarting: (Starting, Ended),
    Ended: (Starting,),
}


async def check_events(events: Events, stage: str) -> None:
    """The notifications of each actor are a path through the lifecycle's table (O4).

    But for the stage, which was up before.
    """
    last: dict[str, Notification] = {}
    async for notification in events:
        if isinstance(notification, DeadLetter | Missed) or notification.path == stage:
            continue
        before = last.get(notification.path)
        last[notification.path] = notification
        kind = None if before is None else type(before)
        if not isinstance(notification, _NEXT[kind]):
            expected = (
                f"after {'nothing' if kind is None else kind.__name__} comes one of "
                f"{[one.__name__ for one in _NEXT[kind]]}"
            )
            raise RuleBroken(Violation("O4", expected, repr(notification)))
    for path, notification in last.items():
        if not isinstance(notification, Ended):
            expected = f"{path} has ended when its host has"
            raise RuleBroken(Violation("H1", expected, repr(notification)))


@asynccontextmanager
async def open_scene(executor: Executor, patience: float) -> AsyncGenerator[Scene, None]:
    """A scene; whatever goes wrong in it is a `RuleBroken`."""
    cut = Cut()
    scene = Scene(Leash(executor, cut=cut), patience)
    over = trio.Event()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cut_later, over, cut, patience)
            with scene._time:
                async with _open_host(scene, over):
                    yield scene
                await check_events(scene._events, scene.stage.path)
            nursery.cancel_scope.cancel()
    except BaseException as error:
        found = _first(error)
        if isinstance(found, RuleBroken):
            raise found from found.__cause__  # noqa: ASYNC104 - it says what was cancelled, too
        if isinstance(found, Exception):
            raise scene.broken(f"{found!r}") from found  # noqa: ASYNC104
        raise
    if cut.complaints:
        raise scene.broken(cut.complaints[0])
    if scene._time.cancelled_caught:
        raise scene.broken(f"not within {patience:g} seconds")


@asynccontextmanager
async def _open_host(scene: Scene, over: trio.Event) -> AsyncGenerator[None, None]:
    apps = [Application(Stage, name="stage")]
    async with open_host(apps, max_restarts=1000, drain=0, cancel_grace=1) as host:
        scene.host = host
        scene.stage = host.find("stage", Stage)
        scene._events = host.events()
        try:
            async with trio.open_nursery() as nursery:
                scene._nursery = nursery
                yield
                nursery.cancel_scope.cancel()
            scene.balance()
            scene.expect("H1", "all that a host started has ended when its block has")
        finally:
            over.set()
            # Nobody waits for a cue any more that will not come.
            scene.stage.tell_nowait(Stage.finish)


async def _cut_later(over: trio.Event, cut: Cut, patience: float) -> None:
    await over.wait()
    await trio.sleep(patience)
    cut.cut()


def _first(error: BaseException) -> BaseException:
    """The one error in groups that matters most: a broken rule, else the first."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    found = [_first(one) for one in error.exceptions]
    broken = [one for one in found if isinstance(one, RuleBroken)]
    return (broken or found)[0]
