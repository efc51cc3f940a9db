"""
Holding a recording to its budget: measures what tracekit costs, asks the governor, and does what it says.

What may be spent is a share of the CPU time of the target, or of one core where that is more. Ticks are not shed but
moved apart, so that they take half of the budget at most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracekit.capture import tiers
from tracekit.capture.governor import Governor, Reading
from tracekit.capture.naming import counter
from tracekit.records import Series

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tracekit.capture.batch import Batch
    from tracekit.capture.cost import Meter
    from tracekit.capture.kernel import Kernel
    from tracekit.capture.options import Options
    from tracekit.capture.readings import Task
    from tracekit.capture.spent import Spent

PERIOD_NS, WINDOW_NS = 10**9, 50_000_000
"""From one reading to the next while nothing changes; how long the programs are measured for it."""
TICKS = "ticks"
LONGEST_TICK_NS = 60 * 10**9
_SOON_NS, _LATER_NS = 150_000_000, 950_000_000
"""When a change is looked at: by what programs take at once, by what the collector takes when it has caught up."""
_LEAST_NS = 500_000_000
"""What the collector does comes in bursts: it is looked at over so long at least."""
_BEGIN_NS = 4 * 10**9
"""What the collector does at first - to load, to read what runs - is not what it will cost."""
_SLOW_NS = dict.fromkeys((tiers.STACKS, tiers.PROCESSES), 2 * (_LATER_NS + WINDOW_NS))
"""Mostly the collector's work, of which one reading alone says little."""
_SHARE_OF_TICKS = 0.5
_OVERHEAD, _LIMIT = Series("cost.overhead", (), "gauge", "share"), Series("cost.limit", (), "gauge", "share")


class Shedding:
    """
    The budget of a recording; without one (`options.max_overhead` is 0) it does nothing.

    Args:
        meter: of the programs; it gives a reading a period.
        spent: of the collector.
        found: told of the traced tasks when their processes may not be known.
    """

    def __init__(
        self,
        options: Options,
        kernel: Kernel,
        meter: Meter,
        spent: Spent,
        found: Callable[[Sequence[Task]], None],
        start_ns: int,
    ) -> None:
        self._limit = options.max_overhead
        self._asked_ns = self._interval_ns = options.interval_ns
        self._kernel, self._meter, self._spent, self._found = kernel, meter, spent, found
        chosen = {*options.tiers, tiers.PROCESSES}
        self._governor = Governor([tier for tier in tiers.ORDER if tier in chosen], tiers.NEEDS)
        self._start_ns = self._read_ns = self._told_ns = self._judged_ns = start_ns
        self._away_ns: dict[str, int] = {}
        self._shed: dict[str, int] = {}
        self._whole: dict[str, int] = {}
        self._target = 1.0
        self._overheads: list[tuple[float, int]] = []
        """Shares, each times how long it was so, and that."""
        self._was_blind = False
        self._silent = 0
        self._beside_ticks, self._of_tiers = 0.0, dict[str, float]()
        self.missing: list[str] = []
        """What could not be had back, a line each."""

    @property
    def interval_ns(self) -> int:
        """Length of a tick: what was asked for, or more where a tick takes too much of the budget."""
        return self._interval_ns

    @property
    def away(self) -> list[str]:
        """What is shed now."""
        return [*([TICKS] if self._interval_ns > self._asked_ns else []), *self._governor.away] if self._limit else []

    @property
    def shed(self) -> tuple[tuple[str, int], ...]:
        """What was shed so far, and for how long, as of the last `collect`."""
        return tuple(self._whole.items())

    @property
    def is_blind(self) -> bool:
        """Tell whether the scheduler was out of sight since the last `collect`, or in the interval before that."""
        return self._was_blind or tiers.SCHED in self._away_ns or tiers.SCHED in self._shed

    def used(self, on_cpu_ns: int, elapsed_ns: int) -> None:
        """Take what the target used, of a time in which it was seen whole."""
        if not self.is_blind and elapsed_ns:
            self._target = on_cpu_ns / elapsed_ns

    def step(self, now_ns: int) -> None:
        """Judge what the meter has found."""
        if not self._limit:
            return
        reading, programs = self._read(now_ns)
        share, elapsed, self._judged_ns = reading.cost / reading.budget * self._limit, now_ns - self._judged_ns, now_ns
        self._overheads.append((share * elapsed, elapsed))
        changes = self._governor.judge(reading)
        for tier, there in changes:
            self._restore(tier, now_ns) if there else self._take(tier, now_ns)
        if changes:
            by_programs = changes[-1][1] or programs > reading.budget
            self._meter.again(now_ns, _SOON_NS if by_programs else _LATER_NS)
        elif reading.cost > reading.budget:
            self._meter.again(now_ns, _SOON_NS if programs > reading.budget else _LATER_NS)

    def collect(self, batch: Batch, now_ns: int) -> None:
        """Add to *batch* what was shed since the last call, and what all costs; and set the length of the next tick."""
        if not self._limit:
            return
        self._was_blind = tiers.SCHED in self._away_ns or tiers.SCHED in self._shed
        for tier, since_ns in self._away_ns.items():
            self._count(tier, now_ns - since_ns)
            self._away_ns[tier] = now_ns
        if self._interval_ns > self._asked_ns:
            self._count(TICKS, now_ns - self._told_ns)
        self._told_ns = now_ns
        for tier, ns in self._shed.items():
            batch.value(counter("shed", "ns", tier=tier), ns)
            self._whole[tier] = self._whole.get(tier, 0) + ns
        self._shed.clear()
        silent, self._silent = self._kernel.silent - self._silent, self._kernel.silent
        if silent:
            batch.value(counter("shed.processes"), silent)
        batch.value(_LIMIT, self._limit)
        if self._overheads:
            weighed, times = map(sum, zip(*self._overheads, strict=True))
            batch.value(_OVERHEAD, weighed / max(1, times))
            self._overheads.clear()
        self._interval_ns = self._next_interval_ns()

    def _next_interval_ns(self) -> int:
        """Return how far apart ticks are; closer again only where it may be half of what it is."""
        least_ns = min(LONGEST_TICK_NS, round(self._spent.tick_ns / (_SHARE_OF_TICKS * self._budget)))
        if self._interval_ns // 2 < least_ns < self._interval_ns:
            return self._interval_ns
        return max(self._asked_ns, least_ns)

    @property
    def _budget(self) -> float:
        return self._limit * max(1.0, self._target)

    def _read(self, now_ns: int) -> tuple[Reading, float]:
        """Return what all costs now, and what of it the programs do."""
        if now_ns - self._read_ns >= _LEAST_NS:
            self._read_collector(now_ns)
        shares = self._meter.shares
        programs = sum(shares.values())
        cost = programs + self._beside_ticks + sum(self._of_tiers.values())
        if now_ns - self._start_ns > _BEGIN_NS:
            cost += self._spent.tick_ns / self._interval_ns
        found = {
            tier: sum(shares.get(name, 0.0) for name in tiers.PROGRAMS.get(tier, ())) + self._of_tiers.get(tier, 0.0)
            for tier in self._kernel.attached
        }
        return Reading(now_ns, cost, self._budget, found, _SOON_NS + WINDOW_NS, _SLOW_NS), programs

    def _read_collector(self, now_ns: int) -> None:
        """See what the collector takes; at first that is not what it will."""
        elapsed, self._read_ns = now_ns - self._read_ns, now_ns
        spent_ns, of_tiers = self._spent.take()
        if now_ns - self._start_ns > _BEGIN_NS:
            self._of_tiers = {tier: ns / elapsed for tier, ns in of_tiers.items()}
            self._beside_ticks = max(0.0, spent_ns / elapsed - sum(self._of_tiers.values()))

    def _take(self, tier: str, now_ns: int) -> None:
        self._kernel.shed(tier)
        self._of_tiers.pop(tier, None)
        self._away_ns[tier] = now_ns
        self._meter.drop(tiers.OWN.get(tier, ()), now_ns)

    def _restore(self, tier: str, now_ns: int) -> None:
        try:
            tasks = self._kernel.restore(tier)
        except OSError as error:
            self._governor.failed(tier, now_ns)
            line = f"{tier}: shed, and could not be attached again: {error.strerror}"
            self.missing += [line] if line not in self.missing else []
            return
        self._count(tier, now_ns - self._away_ns.pop(tier))
        if tier == tiers.PROCESSES:
            self._found(tasks)

    def _count(self, tier: str, ns: int) -> None:
        self._shed[tier] = self._shed.get(tier, 0) + ns
