"""Storms of any shape: the governor never flaps, always sheds, always recovers, and pays for its tries."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as some

from tests.unit.test_governor import BUDGET, STEP_NS, World
from tracekit.capture.governor import FIRST_PAUSE_NS, LONGEST_PAUSE_NS, SECOND
from tracekit.capture.tiers import NEEDS, ORDER

costs = some.fixed_dictionaries({tier: some.sampled_from([0.0, 0.0001, 0.002, 0.02, 0.3]) for tier in ORDER})
storms = some.lists(some.tuples(costs, some.integers(1, 20)), min_size=1, max_size=4)


def in_storms(weather: list[tuple[dict[str, float], int]]) -> World:
    world = World()
    for of_tiers, seconds in weather:
        world.costs = of_tiers
        world.run(seconds)
    return world


@given(storms)
@settings(max_examples=50, deadline=None)
def test_a_tier_stays_away_for_the_shortest_pause_at_least(weather: list[tuple[dict[str, float], int]]) -> None:
    """Nothing is taken away and had back faster than that, whatever the storms do."""
    world = in_storms(weather)

    gone: dict[str, int] = {}
    for at, tier, is_there in world.log:
        if is_there:
            assert at - gone.pop(tier) >= FIRST_PAUSE_NS
        else:
            assert tier not in gone
            gone[tier] = at
    assert set(gone) == set(world.governor.away)


@given(storms)
@settings(max_examples=50, deadline=None)
def test_what_needs_a_tier_goes_with_it(weather: list[tuple[dict[str, float], int]]) -> None:
    """Latency without returns, stacks without switches: programs that run for nothing."""
    world = World()
    for of_tiers, seconds in weather:
        world.costs = of_tiers
        for _ in range(seconds * 5):
            world.run(STEP_NS / SECOND)
            away = set(world.governor.away)
            assert all(tier in away for tier, needs in NEEDS.items() if away & set(needs))


@given(costs)
@settings(max_examples=50, deadline=None)
def test_a_storm_that_lasts_is_held(of_tiers: dict[str, float]) -> None:
    """Tries included, it costs no more than the budget; a tenth more where nothing is left to pay for tries."""
    world = World(costs=of_tiers)
    world.run(20)
    world.spent = 0.0

    world.run(200)

    assert world.spent / (200 * SECOND) <= 1.1 * BUDGET


@given(storms)
@settings(max_examples=50, deadline=None)
def test_quiet_after_any_storm_brings_everything_back(weather: list[tuple[dict[str, float], int]]) -> None:
    """Within the longest pause and a reading a tier."""
    world = in_storms(weather)

    world.costs = {}
    world.run(LONGEST_PAUSE_NS / SECOND + len(ORDER))

    assert not world.governor.away
