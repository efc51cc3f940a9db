"""
The governor: what to take away when tracekit costs more than it may, and when to try to have it back.

It is fed with what was measured and says what to do; it looks at no clock and at no kernel. One tier goes at a time,
in the order it is given, and one that costs next to nothing is passed over. Nobody can say what a tier that is
away would cost now, so it is tried: for as long as a reading takes, and again after a pause that doubles, or is longer
where what is left of the budget takes longer to pay for a try. The last of the order is not given up like that: it is
tried as often as the budget pays for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SECOND = 10**9
READINGS = 2
"""So many in a row over the budget, and something goes: one alone may be a checkpoint, or another's burst."""
FIRST_PAUSE_NS, LONGEST_PAUSE_NS = 2 * SECOND, 60 * SECOND
CALM_NS = 60 * SECOND
"""A tier that was there for so long begins anew with the shortest pause."""
WORTH = 0.1
"""A tier that costs less than this share of the budget is passed over."""
MUCH = 0.25
"""Where no shedding leads into the budget, what costs less than this share of the excess stays."""
ROOM = 0.9
"""Tries are paid for by what is left below this share of the budget."""


@dataclass(frozen=True)
class Reading:
    """
    What was measured.

    Attributes:
        at_ns: end of what was measured, CLOCK_MONOTONIC.
        cost, budget: CPU time of all of tracekit, and what it may be, per wall time: 1 is one core.
        tiers: the same of each tier that is there: at most so much would be saved without it.
        trial_ns: how long a tier is there before the reading that judges it.
        slow_ns: the same of tiers that take longer: what the collector does for them shows late.
    """

    at_ns: int
    cost: float
    budget: float
    tiers: Mapping[str, float]
    trial_ns: int = SECOND // 5
    slow_ns: Mapping[str, int] = field(default_factory=dict)


@dataclass
class _Away:
    """A tier that was taken away."""

    since_ns: int
    saved: float
    """By its last reading, until the next one shows the difference."""


@dataclass
class Governor:
    """
    What was taken away, and how often it came back in vain.

    Args:
        order: of the tiers that were asked for, which goes first.
        needs: tier → those without which it is nothing; they go together.
    """

    order: Sequence[str]
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    _away: dict[str, _Away] = field(default_factory=dict)
    _back_ns: dict[str, int] = field(default_factory=dict)
    """When a tier was last had back."""
    _failures: dict[str, int] = field(default_factory=dict)
    """How often in a row it could not stay."""
    _tried: str = ""
    _before: Reading | None = None
    """The reading on which the last tier went."""
    _over: int = 0

    @property
    def away(self) -> list[str]:
        """The tiers that are not there, in order."""
        return [tier for tier in self.order if tier in self._away]

    def judge(self, reading: Reading) -> list[tuple[str, bool]]:
        """Return what is to be done now: (tier, whether it is to be there), in this order."""
        self._learn(reading)
        over = reading.cost > reading.budget
        tried, self._tried = self._tried, ""
        self._over = self._over + 1 if over else 0
        if over and reading.tiers.get(tried, 0.0) >= WORTH * reading.budget:
            return self._take(tried, reading)
        if self._over >= READINGS:
            worst = self._worst(reading)
            return self._take(worst, reading) if worst else []
        return [] if over else self._try(reading)

    def failed(self, tier: str, at_ns: int) -> None:
        """Note that *tier* could not be had back."""
        self._note(tier, _Away(at_ns, 0.0))
        self._tried = ""

    def _learn(self, reading: Reading) -> None:
        """See what the last tier that went has saved."""
        before, self._before = self._before, None
        gone = [tier for tier in self.order if before and tier in self._away and tier in before.tiers]
        for tier in gone:
            if before and self._away[tier].since_ns == before.at_ns:
                most = before.tiers[tier]
                self._away[tier].saved = min(most, max(0.0, before.cost - reading.cost))

    def _worst(self, reading: Reading) -> str:
        """Return the first tier that is worth to go, "" if none is."""
        excess = reading.cost - reading.budget
        least = min(WORTH * reading.budget, excess)
        costs = {tier: reading.tiers.get(tier, 0.0) for tier in self.order if tier not in self._away}
        worth = [tier for tier, cost in costs.items() if cost >= least]
        if sum(costs[tier] for tier in worth) < excess:  # it will be too much anyway: not for a little less
            worth = [tier for tier in worth if costs[tier] >= MUCH * excess]
        return worth[0] if worth else ""

    def _take(self, tier: str, reading: Reading) -> list[tuple[str, bool]]:
        """Take *tier* away, and what is nothing without it first."""
        goes = [each for each in self.order if each not in self._away and (each == tier or tier in self._needs(each))]
        goes.sort(key=lambda each: each == tier)
        for each in goes:
            self._note(each, _Away(reading.at_ns, reading.tiers.get(each, 0.0)))
        self._before = reading
        self._over = READINGS - 1
        return [(each, False) for each in goes]

    def _note(self, tier: str, away: _Away) -> None:
        back_ns = self._back_ns.get(tier)
        again = back_ns is not None and away.since_ns - back_ns < CALM_NS
        self._failures[tier] = self._failures.get(tier, 0) + 1 if again else 0
        self._away[tier] = away

    def _try(self, reading: Reading) -> list[tuple[str, bool]]:
        """Have one tier back if one is due: the one that is missed most."""
        for tier in reversed(self.away):
            is_whole = not any(need in self._away for need in self._needs(tier))
            if is_whole and reading.at_ns - self._away[tier].since_ns >= self._pause_ns(tier, reading):
                del self._away[tier]
                self._back_ns[tier] = reading.at_ns
                self._tried = tier
                return [(tier, True)]
        return []

    def _pause_ns(self, tier: str, reading: Reading) -> int:
        """Return for how long *tier* stays away: longer each time it could not stay, and until a try is paid for."""
        doublings = 0 if tier == self.order[-1] else min(self._failures.get(tier, 0), 16)
        left = (ROOM * reading.budget - reading.cost) / len(self._away)  # the others want to be tried as well
        saved = self._away[tier].saved
        trial_ns = reading.slow_ns.get(tier, reading.trial_ns)
        paid_ns = trial_ns * saved / left if left > 0 else LONGEST_PAUSE_NS
        return min(LONGEST_PAUSE_NS, max(FIRST_PAUSE_NS << doublings, round(paid_ns)))

    def _needs(self, tier: str) -> tuple[str, ...]:
        return self.needs.get(tier, ())
