"""What is shed, in which order, and when it comes back: the governor, fed with numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from tracekit.capture.governor import FIRST_PAUSE_NS, LONGEST_PAUSE_NS, SECOND, Governor, Reading
from tracekit.capture.tiers import NEEDS, ORDER

STEP_NS = SECOND // 5
BUDGET = 0.01


@dataclass
class World:
    """A machine that costs what it is told, for as long as the tiers are there."""

    governor: Governor = field(default_factory=lambda: Governor(ORDER, NEEDS))
    costs: dict[str, float] = field(default_factory=dict)
    base: float = 0.002
    now_ns: int = 0
    log: list[tuple[int, str, bool]] = field(default_factory=list)
    spent: float = 0.0

    @property
    def cost(self) -> float:
        return self.base + sum(cost for tier, cost in self.costs.items() if tier not in self.governor.away)

    def run(self, seconds: float) -> None:
        """Go on for a while, a reading at each step."""
        for _ in range(round(seconds * SECOND / STEP_NS)):
            self.now_ns += STEP_NS
            self.spent += self.cost * STEP_NS
            there = {tier: self.costs.get(tier, 0.0) for tier in ORDER if tier not in self.governor.away}
            changes = self.governor.judge(Reading(self.now_ns, self.cost, BUDGET, there, STEP_NS))
            self.log += [(self.now_ns, tier, is_there) for tier, is_there in changes]

    @property
    def gone(self) -> list[str]:
        """What went, in order."""
        return [tier for _, tier, is_there in self.log if not is_there]


def test_a_quiet_target_loses_nothing() -> None:
    """Below the budget nothing is done, however long it lasts."""
    world = World(costs=dict.fromkeys(ORDER, 0.001))

    world.run(600)

    assert not world.log


def test_one_reading_over_the_budget_sheds_nothing() -> None:
    """A checkpoint or a burst is no storm."""
    world = World(costs={"errors": 0.5})

    world.run(STEP_NS / SECOND)
    world.costs["errors"] = 0.0
    world.run(10)

    assert not world.log


def test_tiers_go_in_the_documented_order_until_it_fits() -> None:
    """Each costs half of the budget: the first of them go, the last stay."""
    world = World(costs=dict.fromkeys(ORDER, 0.005))

    world.run(1.9)

    assert world.gone == list(ORDER[: len(ORDER) - 1])
    assert world.cost <= BUDGET


def test_what_costs_next_to_nothing_is_passed_over() -> None:
    """A storm of system calls is no reason to be blind for databases."""
    world = World(costs={"syscalls": 0.00001, "stacks": 0.0, "db": 0.00001, "errors": 0.3})

    world.run(1.5)

    assert world.gone == ["syscalls", "errors"]  # without errors nobody can say when a call ended


def test_where_shedding_does_not_help_nothing_is_shed() -> None:
    """What the collector takes anyway is no reason to lose the scheduler for a tenth of it."""
    world = World(costs={"sched": 0.0015}, base=0.05)

    world.run(60)

    assert not world.log


def test_after_the_storm_everything_comes_back() -> None:
    """Within the longest pause, in the reverse order of what it is missed for."""
    world = World(costs=dict.fromkeys(ORDER, 0.1))
    world.run(30)
    assert world.gone

    world.costs = {}
    world.run(LONGEST_PAUSE_NS / SECOND + len(ORDER))

    assert not world.governor.away


@pytest.mark.parametrize("tier", ORDER)
def test_tries_of_a_tier_become_rarer(tier: str) -> None:
    """Each pause is twice the last one, to a minute; the last tier is tried as often as the budget pays for."""
    world = World(costs={tier: 0.02})

    world.run(300)

    tries = [at for at, what, is_there in world.log if what == tier and is_there]
    pauses = [after - before for before, after in pairwise(tries)]
    assert tries[0] >= FIRST_PAUSE_NS
    if tier == ORDER[-1]:
        assert max(pauses) - min(pauses) <= 2 * STEP_NS
    else:
        assert all(after >= 1.5 * before or after >= LONGEST_PAUSE_NS for before, after in pairwise(pauses))


def test_a_tier_that_cannot_be_attached_again_is_tried_later() -> None:
    """Not at each reading: the kernel would be asked five times a second."""
    world = World(costs={"errors": 0.3})
    world.run(1)
    world.costs["errors"] = 0.0
    tries = 0
    for _ in range(100):
        before = len(world.log)
        world.run(0.2)
        if len(world.log) > before:
            tries += 1
            world.governor.failed("errors", world.now_ns)

    assert 1 <= tries <= 4
