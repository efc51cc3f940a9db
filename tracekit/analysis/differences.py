"""What was different while an objective was missed by most: rates in the worst stretch against all other times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tracekit.analysis.sources import ERRORS
from tracekit.units import format_count, format_ns, format_share, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracekit.analysis.evidence import Evidence
    from tracekit.analysis.objectives import Objective

MOST = 5
"""Lines that are shown; more is a report."""
_LARGER = 1.5
"""How many times the usual rate is worth a line. Our choice."""


@dataclass(frozen=True)
class Difference:
    """One line, and how many times the usual it is."""

    factor: float
    text: str


def differences(objective: Objective, evidence: Evidence, first: int, last: int) -> list[str]:
    """Return what happened more often or for longer in the intervals [first, last) than in all others, most first."""
    if last <= first or last - first >= len(evidence.intervals):
        return []
    worst, rest = evidence.pick(np.arange(first, last)), evidence.but(first, last)
    if not worst.duration_s or not rest.duration_s:
        return []
    errors = [*_of_errors(objective, worst, rest), *_of_databases(objective, worst, rest)]
    stacks = _of_stacks(evidence, worst, rest, first, last)
    found = [*_of_pressure(worst, rest), *errors, *_of_counts(worst, rest), *stacks]
    if objective.metric != "runq.wait":
        found += _of_queue(worst, rest)
    return [each.text for each in sorted(found, key=lambda each: -each.factor)[:MOST]]


def _compared(now: float, usual: float, floor: float, words: str) -> Iterator[Difference]:
    """Yield a line if *now* is more than *floor* and much more than *usual*; *words* has a place for each."""
    if now > floor and now > usual * _LARGER:
        yield Difference(now / max(usual, floor / 10), words)


def _of_pressure(worst: Evidence, rest: Evidence) -> Iterator[Difference]:
    for series in worst.matching("psi", ()):
        now, usual = (_per_second(part, series.metric, series.labels) / 1e9 for part in (worst, rest))
        name = printable(f"pressure {series.label('resource')} {series.label('kind')}")
        shares = [format_share(min(share, 1.0)) for share in (now, usual)]  # read a little after an interval's end
        yield from _compared(now, usual, 0.02, f"{name} {shares[0]} (else {shares[1]})")
    now, usual = (_per_second(part, "throttle.time", ()) for part in (worst, rest))
    text = f"throttled {format_ns(now)} a second (else {format_ns(usual)})"
    yield from _compared(now, usual, 1e6, text)
    for metric, name in (("host.cpu", "host CPU"), ("host.steal", "stolen CPU")):
        now, usual = (_mean(part, metric) for part in (worst, rest))
        yield from _compared(now, usual, 0.05, f"{name} {format_share(now)} (else {format_share(usual)})")


def _of_errors(objective: Objective, worst: Evidence, rest: Evidence) -> Iterator[Difference]:
    """Compare failed calls, of the objective's role and span if it has them."""
    wanted = tuple(pair for pair in objective.where if pair[0] in ("role", "span"))
    kinds = {(s.label("syscall"), s.label("errno")) for s in worst.matching("syscall.errors", wanted)}
    for syscall, errno in sorted(kinds):
        labels = tuple(sorted((*wanted, ("syscall", syscall), ("errno", errno))))
        now, usual = (_per_second(part, "syscall.errors", labels) for part in (worst, rest))
        text = f"{printable(syscall)} {printable(errno)} {format_count(now)}/s (else {format_count(usual)}/s)"
        yield from _compared(now, usual, 1.0, text)


def _of_databases(objective: Objective, worst: Evidence, rest: Evidence) -> Iterator[Difference]:
    """Compare failed calls of databases, by system and error."""
    wanted = tuple(pair for pair in objective.where if pair[0] in ("role", "span", "system"))
    for system, error in sorted({(s.label("system"), s.label("error")) for s in worst.matching(ERRORS, wanted)}):
        labels = tuple(sorted({*wanted, ("system", system), ("error", error)}))
        now, usual = (_per_second(part, ERRORS, labels) for part in (worst, rest))
        text = f"{printable(system)} error {printable(error)} {format_count(now)}/s (else {format_count(usual)}/s)"
        yield from _compared(now, usual, 0.5, text)


def _of_counts(worst: Evidence, rest: Evidence) -> Iterator[Difference]:
    for metric, name in (("spawn.count", "spawns"), ("spawn.failed", "failed processes")):
        now, usual = (_per_second(part, metric, ()) for part in (worst, rest))
        yield from _compared(now, usual, 0.5, f"{name} {format_count(now)}/s (else {format_count(usual)}/s)")


def _of_queue(worst: Evidence, rest: Evidence) -> Iterator[Difference]:
    if worst.matching("runq.wait", ()):
        now, usual = (float(part.slices("runq.wait", ()).total.sum()) / part.duration_s / 1e9 for part in (worst, rest))
        text = f"threads that wait for a CPU {format_count(now)} (else {format_count(usual)})"
        yield from _compared(now, usual, 0.2, text)


def _of_stacks(evidence: Evidence, worst: Evidence, rest: Evidence, first: int, last: int) -> Iterator[Difference]:
    """Compare blocked wall time by reason and call; the one that rose most."""
    inside, whole = (_blocked(evidence, *span) for span in ((first, last), (0, len(evidence.intervals))))
    found = []
    for frames, ns in inside.items():
        now = ns / worst.duration_s / 1e9
        usual = (whole.get(frames, ns) - ns) / rest.duration_s / 1e9
        name = printable(" ".join(frame for frame in frames if frame != "-"))
        text = f"{name} {format_count(now)} s a second (else {format_count(usual)} s)"
        found += [(now - usual, each) for each in _compared(now, usual, 0.1, text)]
    yield from (each for _, each in sorted(found, key=lambda item: -item[0])[:1])


def _blocked(evidence: Evidence, first: int, last: int) -> dict[tuple[str, ...], int]:
    """Return blocked ns by (role, "blocked", reason, call); waits that exist to wait are none."""
    sums: dict[tuple[str, ...], int] = {}
    for frames, weight in evidence.stacks(first, last).items():
        if "blocked" in frames:
            at = frames.index("blocked")
            key = (frames[0], *frames[at : at + 3])
            if "poll" not in key:
                sums[key] = sums.get(key, 0) + weight.weight
    return sums


def _per_second(part: Evidence, metric: str, labels: tuple[tuple[str, str], ...]) -> float:
    return float(np.nan_to_num(part.increases(part.matching(metric, labels))).sum()) / part.duration_s


def _mean(part: Evidence, metric: str) -> float:
    samples = part.samples(part.matching(metric, ()))
    known = samples[np.isfinite(samples)]
    return float(known.mean()) if known.size else 0.0
