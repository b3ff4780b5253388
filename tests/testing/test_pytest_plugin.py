"""The pytest plugin, as a user's tests see it: each is a run of pytest of its own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

HEAD = """
import threading
import pytest
import trio
import actorvisor as av
from hypothesis import Phase, given, settings
from actorvisor.testing import (
    Before, Fault, FaultPlan, InjectedFault, Kill, Probe, Raise, Schedule, plans, schedules, simulate,
)

class Counter(av.Service):
    def __init__(self):
        self.value = 0

    def add(self, amount):
        self.value += amount
        return self.value
"""


def run(pytester: pytest.Pytester, tests: str, *args: str) -> pytest.RunResult:
    pytester.makeini("[pytest]\ntrio_mode = true\nfilterwarnings = error\n")
    pytester.makepyfile(test_it=HEAD + tests)
    return pytester.runpytest_inprocess(*args)


def test_a_host_that_is_awaited_ends_with_its_test(pytester: pytest.Pytester) -> None:
    # H1, T5
    result = run(
        pytester,
        """
hosts = []

async def test_one(open_host):
    host = await open_host([av.Application(Counter, name="counter")])
    counter = host.find("counter", Counter)
    assert await counter.ask(Counter.add, 2) == 2
    hosts.append(counter)

async def test_its_end():
    assert hosts[0].state == "stopped"

async def test_a_block(open_host):
    async with open_host() as host:
        counter = await host.start(av.Application(Counter))
        await counter.ask(Counter.add, 1)
    assert counter.state == "stopped"
    assert [one.kind for one in open_host.trace()][-1] == "closed"

async def test_two_in_one_test(open_host):
    one = await open_host([av.Application(Counter, name="counter")])
    two = await open_host([av.Application(Counter, name="counter")])
    assert one.find("counter", Counter) is not two.find("counter", Counter)
""",
    )
    result.assert_outcomes(passed=4)


def test_the_trace_of_a_failed_test_is_shown(pytester: pytest.Pytester) -> None:
    # T4
    result = run(
        pytester,
        """
async def test_it(open_host):
    host = await open_host([av.Application(Counter, name="counter")])
    assert await host.find("counter", Counter).ask(Counter.add, 2) == 3
""",
    )
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert "actorvisor trace" in text
    for kind in ("starting", "started", "accepted", "taken", "handled", "ended", "closed"):
        assert re.search(rf"\d  +{kind} .*host", text), kind


def test_faults_are_injected_by_a_mark(pytester: pytest.Pytester) -> None:
    # T1, T6
    result = run(
        pytester,
        """
@pytest.mark.faults([Fault("host/counter", 1, Before(2), Raise("by the mark"))])
async def test_it(open_host):
    host = await open_host([av.Application(Counter, name="counter")])
    counter = host.find("counter", Counter)
    assert await counter.ask(Counter.add, 1) == 1
    with pytest.raises(av.ServiceCrashed) as caught:
        await counter.ask(Counter.add, 1)
    assert str(caught.value.__cause__) == "by the mark"
    assert await counter.ask(Counter.add, 1) == 1  # another life

@pytest.mark.faults([Fault("host/nobody", 1, Before(2), Raise())])
async def test_for_nobody(open_host):
    await open_host([av.Application(Counter, name="counter")])

@pytest.mark.faults()
async def test_without_a_plan(open_host):
    pass
""",
    )
    result.assert_outcomes(passed=1, failed=2)
    text = result.stdout.str()
    assert "FaultPlanError" in text
    assert "there is no host/nobody; there are: 'host/counter'" in text
    assert "@pytest.mark.faults(plan) takes one FaultPlan" in text


def test_a_rule_that_is_broken_fails_the_test(pytester: pytest.Pytester) -> None:
    # T4: a message that is handled twice, by a runtime that was broken for this
    result = run(
        pytester,
        """
from actorvisor._runtime._mailbox import Mailbox

async def test_it(open_host, monkeypatch):
    done = Mailbox.done
    def twice(self, envelope, result):
        done(self, envelope, result)
        self._handled += 1
    monkeypatch.setattr(Mailbox, "done", twice)
    host = await open_host([av.Application(Counter, name="counter")])
    await host.find("counter", Counter).ask(Counter.add, 2)
""",
    )
    result.assert_outcomes(failed=1)
    assert "M7 is broken" in result.stdout.str()


def test_what_is_left_behind_fails_the_test(pytester: pytest.Pytester) -> None:
    # H1
    result = run(
        pytester,
        """
async def test_it(open_host):
    await open_host([av.Application(Counter, name="counter")])
    trio.lowlevel.spawn_system_task(trio.sleep_forever, name="host/counter:background")
""",
    )
    result.assert_outcomes(failed=1)
    assert "H1 is broken" in result.stdout.str()
    assert "task host/counter:background" in result.stdout.str()


def test_a_probe_keeps_what_it_is_sent(pytester: pytest.Pytester) -> None:
    # T5
    result = run(
        pytester,
        """
async def test_it(open_host):
    host = await open_host([av.Application(Counter, name="counter")])
    probe = await host.start(av.Application(Probe))
    counter = host.find("counter", Counter)
    await probe.send("one")
    await probe.send("two")
    assert await probe.ask(Probe.await_messages, 2) == ("one", "two")
    assert await probe.ask(Probe.forget) == ("one", "two")
    await probe.ask(Probe.watch, counter)
    await counter.stop()
    told = await probe.ask(Probe.await_messages, 3)
    assert [type(one).__name__ for one in told] == ["Stopping", "Exited", "Ended"]
    assert await probe.ask(Probe.messages) == told
""",
    )
    result.assert_outcomes(passed=1)


SIMULATED = """
async def system(open_host):
    said = []
    async with open_host([av.Application(Counter, name="counter")]) as host:
        counter = host.find("counter", Counter)
        async def add(amount):
            with trio.move_on_after(5):
                said.append(await counter.ask(Counter.add, amount))
        async with trio.open_nursery() as nursery:
            for amount in (1, 10, 100):
                nursery.start_soon(add, amount)
    assert said[0] != 10, said

def test_it():
    for seed in range(50):
        simulate(system, seed=seed)
"""


def test_a_failed_simulation_is_kept_and_replayed(pytester: pytest.Pytester) -> None:
    # T3: from its file
    result = run(pytester, SIMULATED)
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert "actorvisor simulation" in text
    assert "simulated with faults=FaultPlan(), schedule=Schedule(" in text
    found = re.search(r"replay it: pytest (\S+) --actorvisor-replay (\S+)", text)
    assert found is not None
    assert Path(found[2]).is_file()
    again = pytester.runpytest_inprocess(found[1].strip("'"), "--actorvisor-replay", found[2])
    again.assert_outcomes(failed=1)
    assert "[10," in again.stdout.str()


def test_a_replay_that_no_longer_fits_is_one_clear_error(pytester: pytest.Pytester) -> None:
    # T3
    text = run(pytester, SIMULATED).stdout.str()
    found = re.search(r"--actorvisor-replay (\S+)", text)
    assert found is not None
    pytester.makepyfile(test_it=HEAD + SIMULATED.replace("(1, 10, 100)", "(1, 10, 100, 1000)"))
    again = pytester.runpytest_inprocess("--actorvisor-replay", found[1])
    again.assert_outcomes(failed=1)
    assert "the replay no longer fits, at choice" in again.stdout.str()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "No such file"),
        ("hello\n", "it is no trace"),
        ('{"trace":1,"header":{}}\n{"entries":0}\n', "its header has no 'faults'"),
        ('{"trace":99,"header":{}}\n{"entries":0}\n', "it is of version 99"),
        ('{"trace":1,"header":{}}\n', "it is cut short"),
    ],
    ids=["none", "no trace", "no simulation", "another version", "cut short"],
)
def test_a_file_that_cannot_be_replayed_is_one_clear_error(
    pytester: pytest.Pytester, content: str | None, what: str
) -> None:
    # T4
    file = pytester.path / "trace.jsonl"
    if content is not None:
        file.write_text(content)
    result = run(pytester, "def test_it():\n    pass\n", "--actorvisor-replay", str(file))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    text = result.stderr.str()
    assert "--actorvisor-replay" in text
    assert what in text
    assert "Traceback" not in text


def test_beside_hypothesis(pytester: pytest.Pytester) -> None:
    # T5: neither is patched, and each example has hosts of its own
    result = run(
        pytester,
        """
PHASES = [Phase.generate, Phase.shrink]
TREE = [av.Application(Counter, name="counter", redeliver=1)]

async def system(open_host):
    said = []
    try:
        async with open_host(TREE, on_limit="drop") as host:
            counter = host.find("counter", Counter)
            for _ in range(3):
                try:
                    with trio.move_on_after(60):
                        await counter.ask(Counter.add, 1)
                except (av.ServiceCrashed, av.ServiceStopped) as error:
                    said.append(type(error).__name__)
    except* (InjectedFault, SystemExit, av.ActorvisorError):
        pass  # it did not come up
    return said

@settings(max_examples=200, deadline=None, database=None, derandomize=True, phases=PHASES)
@given(plans(TREE, per_child=1, incarnations=1, messages=3), schedules())
def test_it(plan, schedule):
    assert "ServiceCrashed" not in simulate(system, faults=plan, schedule=schedule).value
""",
    )
    text = result.stdout.str()
    result.assert_outcomes(failed=1)
    assert "EVERY, Before(1), Raise()" in text
