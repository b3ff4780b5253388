"""What cannot be brought over is an error to whom it concerns, and ends nothing (P4)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import trio

import actorvisor as av
from tests.executors import process_services as acts
from tests.executors.process_services import (
    Fault,
    Stage,
    Stubborn,
    StubbornError,
    StubbornRefusal,
    Unloadable,
    UnloadableError,
    Worker,
)
from tests.executors.processes import (
    Executor,
    both,
    caught,
    death,
    next_of,
    opened,
    stage_of,
    worker,
)

pytestmark = pytest.mark.process
Make = Callable[..., Executor]


def mail(host: av.Host) -> tuple[int, int, int, int]:
    account = host.statistics().mailboxes["host/worker"]
    assert (account.waiting, account.in_hand, account.withdrawn) == (0, 0, 0)
    return account.accepted, account.handled, account.rejected, account.dead_letters


async def send(ref: av.Ref[Any], how: str, value: object) -> Any:
    match how:
        case "ask":
            return await ref.ask(Worker.take, value)
        case "tell":
            await ref.tell(Worker.take, value)
        case "tell_nowait":
            ref.tell_nowait(Worker.take, value)
        case "keyword":
            await ref.tell(Worker.do, acts.nothing, value)
        case "if_running.ask":
            return await ref.if_running.ask(Worker.take, value)
        case "if_running.tell":
            await ref.if_running.tell(Worker.take, value)
        case "send":
            await ref.send(value)
        case "blocking":
            await trio.to_thread.run_sync(lambda: ref.blocking.ask(Worker.take, value))
        case _:
            raise LookupError(how)


WAYS = (
    "ask",
    "tell",
    "tell_nowait",
    "keyword",
    "if_running.ask",
    "if_running.tell",
    "send",
    "blocking",
)


@both
@pytest.mark.parametrize("how", WAYS)
async def test_an_argument_that_cannot_be_pickled(make: Make, how: str) -> None:
    async with opened(worker(make)) as host:
        ref = host.find("worker", Worker)
        # P4: to the sender, it is named, and nothing was accepted.
        with pytest.raises(TypeError, match="<Stubborn one> cannot be pickled: stubborn as it is"):
            await send(ref, how, Stubborn())
        with pytest.raises(TypeError, match="<Stubborn one>}] cannot be pickled: stubborn"):
            await send(ref, how, [1, {"in": Stubborn()}])
        assert mail(host) == (0, 0, 0, 0)
        assert await ref.ask(Worker.take, 1) == 1
        assert ref.incarnation == 1


@both
async def test_an_argument_that_cannot_be_pickled_when_there_is_no_room(make: Make) -> None:
    async with opened(worker(make, mailbox=1)) as host:
        ref, stage = host.find("worker", Worker), await stage_of(host)
        await ref.tell(Worker.do, acts.say_and, stage, "in", acts.wait_for, stage, "go")
        await stage.ask(Stage.heard, "in")
        await ref.tell(Worker.take, 1)
        with pytest.raises(TypeError, match="<Stubborn one> cannot be pickled"):
            await ref.tell(Worker.take, Stubborn())  # P4: at once, not when there is room
        with pytest.raises(TypeError, match="<Stubborn one> cannot be pickled"):
            ref.tell_nowait(Worker.take, Stubborn())
        await stage.tell(Stage.say, "go")


@both
async def test_a_message_that_cannot_be_unpickled(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(worker(make)) as host:
        ref = host.find("worker", Worker)
        for _ in range(20):
            error = await caught(ref.ask(Worker.take, Unloadable()))
            # P4: it concerns that message alone.
            assert isinstance(error, LookupError), error
            assert str(error) == "it does not load"
            assert isinstance(error.__cause__, av.RemoteTraceback)
        with host.events() as events:
            await ref.tell(Worker.take, Unloadable())
            assert await ref.ask(Worker.take, 1) == 1
            letter = await next_of(events, av.DeadLetter)
        assert "decoded" in letter.why
        assert mail(host) == (22, 1, 0, 21)  # M7
        assert ref.incarnation == 1
    logged = [one for one in caplog.records if "could not be decoded" in one.message]
    assert logged
    assert "it does not load" in logged[0].message  # O5


@both
async def test_a_reply_that_cannot_be_pickled(make: Make) -> None:
    async with opened(worker(make)) as host:
        ref = host.find("worker", Worker)
        error = await caught(ref.ask(Worker.do, acts.give, Stubborn))
        assert isinstance(error, av.RemoteError)  # P4
        assert error.type_name == "Stubborn"
        assert "stubborn as it is" in error.text
        await ref.tell(Worker.do, acts.give, Stubborn)  # nobody wants it
        assert await ref.ask(Worker.take, 1) == 1
        assert mail(host) == (3, 3, 0, 0)
        assert ref.incarnation == 1


@both
async def test_a_reply_that_cannot_be_unpickled(make: Make) -> None:
    async with opened(worker(make)) as host:
        ref = host.find("worker", Worker)
        error = await caught(ref.ask(Worker.do, acts.give, Unloadable))
        assert isinstance(error, av.RemoteError)  # P4
        assert error.type_name == "LookupError"
        assert "it does not load" in error.text
        assert "_cannot_load" in error.traceback_text
        assert await ref.ask(Worker.take, 1) == 1
        assert mail(host) == (2, 2, 0, 0)


@both
async def test_a_later_reply_that_cannot_be_pickled(make: Make) -> None:
    async with opened(worker(make)) as host:
        ref = host.find("worker", Worker)
        error = await caught(ref.ask(Worker.do, acts.later, Stubborn))
        assert isinstance(error, av.RemoteError)  # P4
        assert error.type_name == "Stubborn"
        error = await caught(ref.ask(Worker.do, acts.later, Unloadable))
        assert isinstance(error, av.RemoteError)
        assert await ref.ask(Worker.take, 1) == 1


@both
@pytest.mark.parametrize(("kind", "args"), [(UnloadableError, (1, 2)), (StubbornError, ("it is",))])
@pytest.mark.parametrize("how", ["handler", "background"])
async def test_an_exception_that_cannot_be_brought_over(
    make: Make, kind: type[Exception], args: tuple[Any, ...], how: str
) -> None:
    async with opened(worker(make)) as host:
        ref = host.find("worker", Worker)

        async def cause() -> None:
            if how == "handler":
                await ref.ask(Worker.do, acts.throw, kind, *args)
            else:
                await ref.ask(Worker.do, acts.beside, acts.throw, kind, *args)

        found = await death(host, ref, cause)
        assert isinstance(found.reason, av.Crashed)
        error = found.reason.exception
        assert isinstance(error, av.RemoteError)  # P4
        assert error.type_name == kind.__name__
        assert error.text == str(kind(*args))
        assert "in throw" in error.traceback_text
        assert "in throw" in found.reason.traceback_text
        if how == "handler":
            assert found.answer.__cause__ is error


@both
@pytest.mark.parametrize(("kind", "args"), [(UnloadableError, (1, 2)), (StubbornError, ("it is",))])
async def test_an_exception_of_a_setup_that_cannot_be_brought_over(
    make: Make, kind: type[Exception], args: tuple[Any, ...]
) -> None:
    async with opened() as host:
        error = await caught(host.start(worker(make, acts.throw, acts.nothing, kind, *args)))
        assert isinstance(error, av.RemoteError)  # L3, P4
        assert error.type_name == kind.__name__
        assert "in throw" in error.traceback_text


@both
async def test_a_rejection(make: Make) -> None:
    async with opened(worker(make)) as host:
        ref = host.find("worker", Worker)
        error = await caught(ref.ask(Worker.do, acts.refuse, "not so"))
        assert type(error) is acts.Refused  # M9
        assert str(error) == "not so"
        assert isinstance(error.__cause__, av.RemoteTraceback)
        assert "in refuse" in error.__cause__.traceback_text
        await ref.tell(Worker.do, acts.refuse)
        assert await ref.ask(Worker.take, 1) == 1
        assert mail(host) == (3, 1, 2, 0)
        assert ref.incarnation == 1


@both
async def test_a_rejection_that_cannot_be_pickled(make: Make) -> None:
    async with opened(worker(make)) as host:
        ref = host.find("worker", Worker)
        error = await caught(ref.ask(Worker.do, acts.throw, StubbornRefusal, "it is"))
        assert isinstance(error, av.RemoteError)  # P4
        assert error.type_name == "StubbornRefusal"
        assert error.text == "it is"
        assert "in throw" in error.traceback_text
        assert await ref.ask(Worker.take, 1) == 1
        assert mail(host) == (2, 1, 1, 0)
        assert ref.incarnation == 1


@both
async def test_a_value_at_the_end_that_cannot_be_brought_over(make: Make) -> None:
    async with opened() as host:
        executor = make()
        function = acts.just_async if executor.has_loop else acts.just
        for kind, name in ((Stubborn, "Stubborn"), (Unloadable, "LookupError")):
            app = av.Application(function, kind, executor=executor, name=name, restart="temporary")
            with host.events() as events:
                await host.start(app)
                reason = (await next_of(events, av.Ended, f"host/{name}")).reason
            assert isinstance(reason, av.Completed)  # L2
            assert isinstance(reason.value, av.RemoteError)  # P4
            assert reason.value.type_name == name


@both
async def test_a_notification_that_cannot_be_pickled(make: Make) -> None:
    async with opened(worker(make)) as host:
        ref = host.find("worker", Worker)
        other = await host.start(
            av.Application(acts.AsyncWorker, name="other", restart="temporary")
        )
        await ref.ask(Worker.do, acts.monitor, other)
        await other.tell(Worker.do, acts.throw, StubbornError, "it is")
        await other.stopped()
        last: Any = None
        while not isinstance(last, av.Ended):
            got = await ref.ask(Worker.received)
            last = got[-1] if got else None
        assert isinstance(last.reason, av.Crashed)  # O2, P4
        assert isinstance(last.reason.exception, av.RemoteError)
        assert last.reason.exception.type_name == "StubbornError"


@both
async def test_a_group_of_a_users_own(make: Make) -> None:
    async with opened(worker(make)) as host:
        ref = host.find("worker", Worker)
        found = await death(host, ref, lambda: ref.ask(Worker.do, acts.throw_group))
        assert isinstance(found.reason, av.Crashed)
        group = found.reason.exception
        assert isinstance(group, ExceptionGroup)  # M9: it is theirs, and stays one
        assert [type(one) for one in group.exceptions] == [Fault, KeyError]


@both
async def test_texts_without_end_are_bounded(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    async with opened(worker(make)) as host:
        ref = host.find("worker", Worker)
        found = await death(host, ref, lambda: ref.ask(Worker.do, acts.throw_long, 3_000_000))
        assert isinstance(found.reason, av.Crashed)  # O5
        assert len(found.reason.traceback_text) < 100_000
    assert max(len(one.message) for one in caplog.records) < 100_000
    assert logging.getLogger("actorvisor").level == logging.NOTSET
