"""Nothing waits for itself (M10): each kind of wait, no cycle missed, no false alarm."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, Literal

import pytest
import trio
from hypothesis import example, given, strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

import actorvisor as av
from tests.runtime.account import check_account

START_ORDERS: tuple[Literal["one_for_one", "one_for_all", "rest_for_one"], ...] = (
    "one_for_one",
    "one_for_all",
    "rest_for_one",
)


class Node(av.Service):
    """Does what it is told to, by the name of one of its own methods."""

    def ping(self) -> str:
        return "pong"

    async def ask(self, *paths: str) -> str:
        """Ask the first to ask the others, the last one for a pong."""
        if not paths:
            return "pong"
        ref = self.find(f"host/{paths[0]}", Node)
        return await ref.ask(Node.ask, *paths[1:])

    async def ask_soon(self, done: trio.Event, *paths: str) -> None:
        async def ask() -> None:
            assert await self.ask(*paths) == "pong"
            done.set()

        self.start_soon(ask)

    async def both(self, first: str, second: str) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.ask, first)
            nursery.start_soon(self.ask, second)

    async def control(self, call: str, path: str) -> object:
        actor: Any = self.find(f"host/{path}", av.Service)
        return await getattr(actor, call)()

    async def stop_supervisor(self, path: str, grace: float | None) -> object:
        return await self.find(f"host/{path}", av.Supervisor).stop(grace=grace)

    async def start_under(self, path: str, app: av.Application[Any]) -> None:
        await self.find(f"host/{path}", av.Supervisor).start(app)

    async def fill(self, path: str) -> None:
        ref = self.find(f"host/{path}", Node)
        while True:
            await ref.tell(Node.ping)

    async def sleep(self, seconds: float) -> str:
        await trio.sleep(seconds)
        return "slept"


class Asker(Node):
    """Asks in its setup."""

    def __init__(self, *paths: str) -> None:
        self.paths = paths

    async def setup(self) -> None:
        await self.ask(*self.paths)


def nodes(*names: str, **options: Any) -> list[av.Application[Node]]:
    return [av.Application(Node, name=name, **options) for name in names]


# --- what waits for itself ----------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 3, 10])
async def test_asks_in_a_circle(length: int, autojump_clock: MockClock) -> None:
    # A asks B asks C asks A; a service that asks itself
    names = [f"n{number}" for number in range(length)]
    async with av.open_host(nodes(*names)) as host:
        with pytest.raises(av.ServiceCrashed) as caught:
            await host.find("n0", Node).ask(Node.ask, *names[1:], "n0")
        found: BaseException | None = caught.value
        while isinstance(found, av.ServiceCrashed):
            found = found.__cause__
        assert isinstance(found, av.WaitCycle)
        last = names[-1]
        assert found.chain == tuple(f"host/{name}" for name in [last, *names])
        assert found.verbs == ("asks",) * length
        assert str(found).startswith(
            "this would wait for itself for ever: "
            f"host/{last} asks host/n0" + "".join(f" asks host/{name}" for name in names[1:])
        )
        # It is over for all of them: nobody is left waiting.
        for name in names:
            assert await host.find(name, Node).ask(Node.ask) == "pong"
        check_account(host)


@pytest.mark.parametrize("strategy", START_ORDERS)
async def test_a_setup_that_asks_a_later_sibling(
    strategy: Literal["one_for_one", "one_for_all", "rest_for_one"], autojump_clock: MockClock
) -> None:
    children = [av.Application(Asker, "s/last", name="first"), *nodes("middle", "last")]
    tree = av.Supervisor(children, name="s", strategy=strategy)
    async with av.open_host() as host:
        with pytest.raises(av.WaitCycle) as caught:
            await host.start(tree)
        assert caught.value.chain == ("host/s/first", "host/s/last", "host/s/first")
        assert caught.value.verbs == ("asks", "waits for a turn behind")
        if strategy == "one_for_one":
            # Nobody waits for a turn.
            await host.start(av.Supervisor(children, name="s", start="together"))


async def test_a_setup_that_asks_behind_its_supervisor(autojump_clock: MockClock) -> None:
    # Through two levels: `inner` has to come up before `later` gets its turn.
    inner = av.Supervisor([av.Application(Asker, "s/later/x", name="a")], name="inner")
    later = av.Supervisor(nodes("x"), name="later")
    async with av.open_host() as host:
        with pytest.raises(LookupError):  # what is below a supervisor that never began has no path
            await host.start(av.Supervisor([inner, later], name="s", strategy="rest_for_one"))
        inner = av.Supervisor([av.Application(Asker, "s/x", name="a")], name="inner")
        with pytest.raises(av.WaitCycle) as caught:
            await host.start(av.Supervisor([inner, *nodes("x")], name="s", strategy="rest_for_one"))
        assert caught.value.chain == (
            "host/s/inner/a",
            "host/s/x",
            "host/s/inner",
            "host/s/inner/a",
        )


@pytest.mark.parametrize("call", ["stop", "remove", "stopped", "restart"])
async def test_a_service_that_waits_for_its_own_end(call: str, autojump_clock: MockClock) -> None:
    async with av.open_host(nodes("a")) as host:
        with pytest.raises(av.ServiceCrashed) as caught:
            await host.find("a", Node).ask(Node.control, call, "a")
        assert isinstance(caught.value.__cause__, av.WaitCycle)
        assert caught.value.__cause__.chain == ("host/a", "host/a")


async def test_a_service_that_stops_what_is_above_it(autojump_clock: MockClock) -> None:
    tree = av.Supervisor([av.Supervisor(nodes("a"), name="t")], name="s")
    async with av.open_host([tree]) as host:
        for grace in (None, 0.0):
            with pytest.raises(av.ServiceCrashed) as caught:
                await host.find("s/t/a", Node).ask(Node.stop_supervisor, "s", grace)
            cycle = caught.value.__cause__
            assert isinstance(cycle, av.WaitCycle)
            assert cycle.chain == ("host/s/t/a", "host/s", "host/s/t", "host/s/t/a")
            assert set(cycle.verbs) == {"waits for the end of"}


async def test_a_stop_of_who_asks(autojump_clock: MockClock) -> None:
    # `b` has been asked by `a` in a handler, and would wait for the end of that handler.
    async with av.open_host(nodes("a", "b")) as host:

        class Stopper(Node):
            async def ask(self, *paths: str) -> str:
                await self.find("host/a", Node).stop()
                return "stopped"

        await host.start(av.Application(Stopper, name="c"))
        with pytest.raises(av.ServiceCrashed) as caught:
            await host.find("a", Node).ask(Node.ask, "c")
        inner = caught.value.__cause__
        assert isinstance(inner, av.ServiceCrashed)
        assert isinstance(inner.__cause__, av.WaitCycle)
        assert inner.__cause__.verbs == ("waits for the end of", "asks")


async def test_a_start_whose_setup_asks_who_starts_it(autojump_clock: MockClock) -> None:
    tree = av.Supervisor(name="s", strategy="rest_for_one")
    async with av.open_host([*nodes("a"), tree]) as host:
        with pytest.raises(av.ServiceCrashed) as caught:
            await host.find("a", Node).ask(
                Node.start_under, "s", av.Application(Asker, "a", name="x")
            )
        cycle = caught.value.__cause__
        assert isinstance(cycle, av.WaitCycle)  # raised in the setup, which fails the start
        assert cycle.chain == ("host/s/x", "host/a", "host/s/x")
        assert cycle.verbs == ("asks", "waits for the start of")


async def test_a_start_from_a_setup_that_it_has_to_wait_for(autojump_clock: MockClock) -> None:
    class Starter(Node):
        async def setup(self) -> None:
            await self.start_under("s", av.Application(Node, name="x"))

    for strategy in START_ORDERS:
        tree = av.Supervisor([av.Application(Starter, name="a")], name="s", strategy=strategy)
        async with av.open_host() as host:
            if strategy == "one_for_one":
                await host.start(tree)
                continue
            with pytest.raises(av.WaitCycle) as caught:
                await host.start(tree)
            assert caught.value.chain == ("host/s/a", "host/s", "host/s/a")


async def test_two_full_mailboxes(autojump_clock: MockClock) -> None:
    async with av.open_host(nodes("a", "b", mailbox=3, restart="temporary")) as host:
        a, b = (host.find(name, Node) for name in "ab")
        await a.tell(Node.fill, "b")
        await b.tell(Node.fill, "a")
        with trio.fail_after(1):
            reasons = [await ref.stopped() for ref in (a, b)]
        (cycle,) = (
            reason.exception
            for reason in reasons
            if isinstance(reason, av.Crashed) and isinstance(reason.exception, av.WaitCycle)
        )
        assert cycle.verbs == ("waits for room in", "waits for room in")
        check_account(host)


async def test_its_own_full_mailbox(autojump_clock: MockClock) -> None:
    async with av.open_host(nodes("a", mailbox=3)) as host:
        with pytest.raises(av.ServiceCrashed) as caught:
            await host.find("a", Node).ask(Node.fill, "a")
        assert isinstance(caught.value.__cause__, av.WaitCycle)
        assert caught.value.__cause__.verbs == ("waits for room in",)


async def test_one_of_several_waits_closes_it(autojump_clock: MockClock) -> None:
    # The child tasks of a handler wait for it, too.
    async with av.open_host(nodes("a", "b", "c")) as host:
        with pytest.raises(av.ServiceCrashed):
            await host.find("a", Node).ask(Node.both, "b", "a")
        await host.find("a", Node).ask(Node.both, "b", "c")


async def test_a_deadline_does_not_count(autojump_clock: MockClock) -> None:
    class Patient(Node):
        async def ask(self, *paths: str) -> str:
            with trio.move_on_after(1):
                return await super().ask(*paths)
            return "late"

    async with av.open_host([av.Application(Patient, name="a"), *nodes("b")]) as host:
        with pytest.raises(av.ServiceCrashed):
            await host.find("b", Node).ask(Node.ask, "a", "b")
        assert trio.current_time() == 0


class ThreadNode(av.Service):
    """A node in a thread."""

    def ask(self, *paths: str) -> str:
        if not paths:
            return "pong"
        return self.find(f"host/{paths[0]}", ThreadNode).blocking.ask(ThreadNode.ask, *paths[1:])


async def test_threads() -> None:
    executor = av.ThreadExecutor()
    apps = [av.Application(ThreadNode, name=name, executor=executor) for name in "abc"]
    with trio.fail_after(30):
        async with av.open_host(apps) as host:
            a = host.find("a", ThreadNode)
            for _ in range(3):
                with pytest.raises(av.ServiceCrashed) as caught:
                    await a.ask(ThreadNode.ask, "b", "c", "a")
                found: BaseException | None = caught.value
                while isinstance(found, av.ServiceCrashed):
                    found = found.__cause__
                assert isinstance(found, av.WaitCycle)
                assert found.chain == ("host/c", "host/a", "host/b", "host/c")
                assert await a.ask(ThreadNode.ask, "b", "c") == "pong"
                await host.find("c", ThreadNode).restart()  # its window is fresh again
                await host.find("b", ThreadNode).restart()
                await a.restart()


# --- what does not ------------------------------------------------------------------------


async def test_background_tasks_and_timers_wait_for_themselves_only(
    autojump_clock: MockClock,
) -> None:
    async with av.open_host(nodes("a", "b")) as host:
        done = trio.Event()
        await host.find("a", Node).ask(Node.ask_soon, done, "b", "a")
        await done.wait()


async def test_a_promised_answer_is_no_wait(autojump_clock: MockClock) -> None:
    class Promises(Node):
        async def ask(self, *paths: str) -> str:
            promise = self.reply_later()

            async def keep() -> None:
                promise.send(await Node.ask(self, *paths))

            self.start_soon(keep)
            return ""

        async def ask_back(self, path: str) -> str:
            return await Node.ask(self, path)

    async with av.open_host([*nodes("a"), av.Application(Promises, name="p")]) as host:
        promises = host.find("p", Promises)

        class Busy(Node):
            async def ask(self, *paths: str) -> str:
                # Asked by `a`, whose own ask is promised an answer: nothing waits for itself.
                return await promises.ask(Promises.ask, "b")

        await host.start(av.Application(Busy, name="c"))
        await host.start(av.Application(Node, name="b"))
        assert await host.find("a", Node).ask(Node.ask, "c") == "pong"


async def test_an_answer_that_is_given_is_no_wait(autojump_clock: MockClock) -> None:
    # `b` answers `a` and asks it in its next message, before `a` has run again.
    async with av.open_host(nodes("a", "b")) as host:
        a, b = (host.find(name, Node) for name in "ab")
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(a.ask, Node.ask, "b")
                await b.tell(Node.ping)
                nursery.start_soon(b.ask, Node.ping)


async def test_a_wait_ends_with_cancellation_and_crash(autojump_clock: MockClock) -> None:
    class Impatient(Node):
        async def ask(self, *paths: str) -> str:
            with trio.move_on_after(1):
                await super().ask(*paths)
            await trio.sleep(5)
            return "late"

        async def ask_and_crash(self, path: str) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(super().ask, path)
                await trio.sleep(1)
                raise RuntimeError

    async with av.open_host([av.Application(Impatient, name="a"), *nodes("b")]) as host:
        a, b = host.find("a", Impatient), host.find("b", Node)
        for method in (Impatient.ask, Impatient.ask_and_crash):
            await b.tell(Node.sleep, 2)
            await a.tell(method, "b")
            await trio.sleep(1.5)
            assert await b.ask(Node.ask, "a") in {"late", "pong"}


async def test_a_stop_by_force_waits_for_nobody(autojump_clock: MockClock) -> None:
    async with av.open_host(nodes("a", "b", restart="temporary")) as host:

        class Killer(Node):
            async def ask(self, *paths: str) -> str:
                assert await self.find("host/a", Node).stop(grace=0) == av.Stopped()
                return "killed"

        await host.start(av.Application(Killer, name="k"))
        with pytest.raises(av.ServiceStopped):
            await host.find("a", Node).ask(Node.ask, "k")
        await wait_all_tasks_blocked()
        assert await host.find("k", Node).ask(Node.ping) == "pong"


async def test_a_stop_cancels_a_setup_that_asks(autojump_clock: MockClock) -> None:
    class Canceller(Node):
        async def ask(self, *paths: str) -> str:
            with trio.move_on_after(1):
                await trio.sleep_forever()
            assert await self.find("host/x", Node).stop() == av.Stopped()
            return "stopped"

    async with av.open_host([av.Application(Canceller, name="c")]) as host:
        with pytest.raises(av.ServiceStopped):
            await host.start(av.Application(Asker, "c", name="x"))
        assert await host.find("c", Node).ask(Node.ping) == "pong"


async def test_room_that_is_given_is_no_wait(autojump_clock: MockClock) -> None:
    # `b` takes a message, which lets `a` go on, and asks it before it has.
    class Curious(Node):
        async def ask_back(self) -> None:
            assert await self.find("host/a", Node).ask(Node.ping) == "pong"

    class Fills(Node):
        async def ask(self, *paths: str) -> str:
            for _ in range(5):
                await self.find("host/b", Curious).tell(Curious.ask_back)
            return "filled"

    async with av.open_host(
        [av.Application(Fills, name="a"), av.Application(Curious, name="b", mailbox=4)]
    ) as host:
        assert await host.find("a", Fills).ask(Fills.ask) == "filled"
    assert check_account(host).handled == 11


async def test_a_thread_that_was_left_behind_does_not_wait_for_its_successor() -> None:
    class Holder(av.Service):
        async def hold(self) -> str:
            held.set()
            await gate.wait()
            return await self.find("host/a", ThreadNode).ask(ThreadNode.ask)

    class Blocked(ThreadNode):
        def wait(self) -> None:
            self.find("host/b", Holder).blocking.ask(Holder.hold)

    held, gate = trio.Event(), trio.Event()
    stuck = av.Application(Blocked, name="a", executor=av.ThreadExecutor(), grace=0.05)
    with trio.fail_after(30):
        async with av.open_host([stuck, av.Application(Holder, name="b")]) as host:
            a, b = host.find("a", Blocked), host.find("b", Holder)
            await a.tell(Blocked.wait)
            await held.wait()
            await a.restart()
            assert host.statistics().abandoned == 1
            answer: list[str] = []

            async def ask() -> None:
                answer.append(await b.ask(Holder.hold))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                gate.set()
            assert answer == ["pong"]
            assert (a.incarnation, b.incarnation) == (2, 1)


# --- random waits against a naive model ---------------------------------------------------


class Graph:
    """Who waits for whom, written down by the services themselves."""

    def __init__(self, size: int) -> None:
        self.refs: list[av.Ref[Random]] = []
        self.waits: list[list[int]] = [[] for _ in range(size)]
        self.gates = [trio.Event() for _ in range(size)]
        self.promises: list[list[av.LaterReply]] = [[] for _ in range(size)]
        self.cycles = 0

    def answered(self, asker: int, asked: int) -> None:
        """One of them has what it waits for; it may have given up."""
        if asked in self.waits[asker]:
            self.waits[asker].remove(asked)

    def release(self, number: int) -> None:
        """End what one of them holds up."""
        self.gates[number].set()
        self.gates[number] = trio.Event()

    def keep(self, number: int) -> None:
        """Keep its promises."""
        for promise in self.promises[number]:
            promise.send(None)
        self.promises[number].clear()

    def leads(self, start: int, end: int) -> bool:
        """Whether waits lead from one to another."""
        reached, last = {start}, set[int]()
        while reached != last:
            last = reached
            reached = reached | {to for one in reached for to in self.waits[one]}
        return end in reached


class Random(av.Service):
    """Asks others, holds up, promises; says before each ask whether it would close a cycle."""

    def __init__(self, graph: Graph, number: int) -> None:
        self.graph = graph
        self.number = number

    async def hold(self) -> None:
        await self.graph.gates[self.number].wait()

    async def ask(self, *others: int) -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                for other in others:
                    nursery.start_soon(self._ask, other, scope)

    async def _ask(self, other: int, scope: trio.CancelScope) -> None:
        if scope.cancel_called:
            return  # it would not get to ask
        graph = self.graph
        closes = graph.leads(other, self.number)
        mine = graph.waits[self.number]
        mine.append(other)
        try:
            await graph.refs[other].ask(Random.promise if other % 2 else Random.answer, self.number)
        except av.WaitCycle as error:
            mine.remove(other)
            assert closes
            numbers = [int(path.rpartition("n")[2]) for path in error.chain]
            assert numbers[0] == numbers[-1] == self.number
            assert numbers[1] == other
            for waiter, waited in pairwise(numbers[1:]):
                assert waited in graph.waits[waiter]
            graph.cycles += 1
            scope.cancel()
            mine.clear()
        except trio.Cancelled:
            if other in mine:
                mine.remove(other)
            raise
        else:
            assert not closes

    def answer(self, asker: int) -> None:
        self.graph.answered(asker, self.number)

    def promise(self, asker: int) -> None:
        self.graph.promises[self.number].append(self.reply_later())
        self.graph.answered(asker, self.number)


SIZE = 4
NUMBERS = st.integers(0, SIZE - 1)
STEPS = st.one_of(
    st.tuples(st.just("hold"), NUMBERS),
    st.tuples(st.just("release"), NUMBERS),
    st.tuples(st.just("keep"), NUMBERS),
    st.tuples(st.just("ask"), NUMBERS, st.lists(NUMBERS, min_size=1, max_size=2, unique=True)),
)


async def run_steps(steps: list[Any]) -> int:
    graph = Graph(SIZE)
    apps = [av.Application(Random, graph, number, name=f"n{number}") for number in range(SIZE)]
    async with av.open_host(apps, drain=math.inf) as host:
        graph.refs = [host.find(f"n{number}", Random) for number in range(SIZE)]
        for kind, number, *others in steps:
            ref = graph.refs[number]
            match kind:
                case "hold":
                    await ref.tell(Random.hold)
                case "release":
                    graph.release(number)
                case "keep":
                    graph.keep(number)
                case _:
                    await ref.tell(Random.ask, *others[0])
            await wait_all_tasks_blocked()
            for one in range(SIZE):  # no cycle was missed
                assert not any(graph.leads(other, one) for other in graph.waits[one])
        # Nothing is stuck: with all gates open and all promises kept, everything is handled.
        while any(mail.waiting or mail.in_hand for mail in host.statistics().mailboxes.values()):
            for number in range(SIZE):
                graph.release(number)
                graph.keep(number)
            await wait_all_tasks_blocked()
            assert trio.current_time() < 60
            await trio.sleep(1)
        for ref in graph.refs:
            assert ref.incarnation == 1
        check_account(host)
    return graph.cycles


@given(steps=st.lists(STEPS, max_size=20))
@example(steps=[("hold", 1), ("ask", 0, [1]), ("ask", 1, [0]), ("release", 1)])
@example(steps=[("ask", 0, [0])])
def test_random_waits(steps: list[Any]) -> None:
    trio.run(run_steps, steps, clock=MockClock(autojump_threshold=0))


def test_random_waits_do_close_cycles() -> None:
    steps: list[Any] = [("hold", 0), ("hold", 2), ("ask", 0, [2]), ("ask", 2, [0])]
    steps += [("release", 0), ("release", 2)]
    assert trio.run(run_steps, steps, clock=MockClock(autojump_threshold=0)) == 1
