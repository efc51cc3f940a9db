"""What was not looked at, so that tracekit stayed within --max-overhead: what of, when, and how long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tracekit.units import format_ns, format_share

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from tracekit.records import Interval, Series

    Floats = NDArray[np.float64]
    Numbers = NDArray[np.int64]

METRIC, LIMIT = "shed", "cost.limit"
WORDS = {
    "ticks": "ticks as short as asked for",
    "syscalls": "system call latency",
    "stacks": "stacks",
    "db": "calls of databases",
    "errors": "failed system calls",
    "processes": "records of processes",
    "sched": "run queue and waits",
}
"""What users call a tier, in the order in which they are shed (docs/overhead.md)."""
_TIERS = (
    ("syscall.latency", "syscalls"),
    ("syscall.", "errors"),
    ("loop.busy", "errors"),
    ("db.", "db"),
    ("stack.", "stacks"),
    ("spawn.first_run", "sched"),
    ("spawn.ready", "sched"),
    ("spawn.", "processes"),
    ("process.", "processes"),
    ("runq.wait", "sched"),
    ("runq.wake", "sched"),
    ("oncpu", "sched"),
    ("offcpu", "sched"),
    ("blocked", "sched"),
    ("switches", "sched"),
    ("migrations", "sched"),
    ("cpu", "sched"),
)
"""How metrics begin, and the tier that they come from; the first that fits."""


@dataclass(frozen=True)
class Shed:
    """
    One tier that was shed for a part of the time.

    Attributes:
        shed_ns, of_ns: how long, of how much.
        first, last: numbers of the first and the last interval in which it was.
    """

    tier: str
    shed_ns: int
    of_ns: int
    first: int
    last: int

    @property
    def text(self) -> str:
        """What was shed and for how long: `stacks 12 s of 30 s`."""
        return f"{WORDS.get(self.tier, self.tier)} {_time(self.shed_ns)} of {_time(self.of_ns)}"


def tier_of(metric: str) -> str:
    """Return the tier that *metric* comes from, "" if it is from none that can be shed."""
    return next((tier for begin, tier in _TIERS if metric == begin or metric.startswith(begin)), "")


def found(values: Mapping[Series, Floats], intervals: Sequence[Interval]) -> list[Shed]:
    """Return what was shed, in the order of WORDS."""
    whole = sum(interval.duration_ns for interval in intervals)
    shed = {}
    for series, column in values.items():
        when = np.flatnonzero(np.nan_to_num(column) > 0) if series.metric == METRIC else np.zeros(0)
        if when.size:
            tier = series.label("tier")
            shed[tier] = Shed(tier, round(float(np.nansum(column))), whole, int(when[0]), int(when[-1]))
    return [shed[tier] for tier in sorted(shed, key=lambda tier: (*WORDS, tier).index(tier))]


def whole(metric: str, values: Mapping[Series, Floats], count: int) -> Numbers:
    """Return which of *count* intervals, ascending, saw all of *metric*."""
    tier = tier_of(metric)
    columns = [c for s, c in values.items() if tier and s.metric == METRIC and s.label("tier") == tier]
    lacks = np.sum([np.zeros(count), *map(np.nan_to_num, columns)], axis=0) > 0
    return np.flatnonzero(~lacks).astype(np.int64)


def limit(values: Mapping[Series, Floats]) -> str:
    """Return the limit that was to be held as the command line has it: `--max-overhead 1%`."""
    shares = [np.nanmax(column) for series, column in values.items() if series.metric == LIMIT]
    return f"--max-overhead {format_share(float(shares[0])).replace(' ', '')}" if shares else "--max-overhead"


def _time(ns: int) -> str:
    return format_ns(round(ns, -8) or ns)
