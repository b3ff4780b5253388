"""What chaos has found in the runtime: each with its plan and schedule, as they were printed."""

from __future__ import annotations

from typing import Any

import actorvisor as av
from actorvisor.testing import Schedule, simulate


class Target(av.Service):
    def hear(self) -> None:
        pass


class Teller(av.Service):
    async def tell(self, target: av.Ref[Target], times: int) -> None:
        for _ in range(times):
            await target.tell(Target.hear)


def test_a_tell_of_a_process_to_who_is_forgotten_is_counted_and_announced() -> None:
    # M7, P3. Chaos(898087).run(FaultPlan(), Schedule()): a worker holds a credit, and its tell comes
    # when the account of its target is closed: it was a dead letter that no account had.
    async def system(open_host: Any) -> tuple[av.HostStatistics, list[str]]:
        process = av.AsyncProcessExecutor(standby=0)
        async with open_host([av.Application(Teller, name="teller", executor=process)]) as host:
            events = host.events()
            target = await host.start(av.Application(Target, name="target"))
            teller = host.find("teller", Teller)
            await teller.ask(Teller.tell, target, 1)
            await target.remove()
            # Another one that has its name is not concerned.
            await host.start(av.Application(Target, name="target"))
            await teller.ask(Teller.tell, target, 2)
            statistics = host.statistics()
        letters = [one.why async for one in events if isinstance(one, av.DeadLetter)]
        return statistics, letters

    statistics, letters = simulate(system, schedule=Schedule()).value
    assert statistics.mailboxes["host/target"].accepted == 0
    assert (statistics.mail.accepted, statistics.mail.dead_letters) == (5, 2)
    assert letters == ["it came too late"] * 2
