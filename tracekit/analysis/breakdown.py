"""What a latency was made of: components that always add up to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracekit.records import WAITS, SpanParts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tracekit.records import Exemplar

ON_CPU, AWAITING, UNATTRIBUTED = "on-CPU", "awaiting", "unattributed"
COMPONENTS = (*WAITS, ON_CPU, AWAITING, UNATTRIBUTED)
"""
What the time of a span can be: waiting for a CPU (`runq`), blocked by reason, on a CPU; suspended
until something else on its thread, or another process, has answered (`awaiting`, async only); and
what the kernel did not see.
"""


@dataclass(frozen=True)
class Breakdown:
    """
    Where the time of some spans went.

    Attributes:
        count: how many spans.
        latency_ns: sum of their latencies.
        components: ns by COMPONENTS, in that order, each >= 0; they add up to latency_ns exactly.
        errors: system calls that failed inside.
    """

    count: int
    latency_ns: int
    components: Mapping[str, int]
    errors: int = 0

    @property
    def mean_ns(self) -> float:
        """Latency of a span, mean."""
        return self.latency_ns / self.count if self.count else 0.0

    def share(self, component: str) -> float:
        """Return a component as a share of the latency; 0 of no latency."""
        return self.components[component] / self.latency_ns if self.latency_ns else 0.0

    def ranked(self) -> list[tuple[str, float]]:
        """Return (component, share of the latency), largest first, without those of nothing."""
        shares = [(name, self.share(name)) for name in COMPONENTS if self.components[name]]
        return sorted(shares, key=lambda item: -item[1])


def of_parts(parts: SpanParts, count: int) -> Breakdown:
    """
    Break the latency of *count* spans down.

    On-CPU is what remains of spans that were not suspended. Of those that were, the samples say
    what was on-CPU, and the rest is awaiting. Two clocks measure, so that waits can come out
    a little longer than the latency they are part of; then they are scaled down to it.
    """
    unseen = min(parts.unseen_ns, parts.latency_ns)
    seen = parts.latency_ns - unseen
    waits = fit([sync + other for sync, other in zip(parts.waits, parts.async_waits, strict=True)], seen)
    rest = seen - sum(waits)
    sync_ns = max(0, seen - parts.awaited_ns)
    sync_on_cpu = rest if not parts.awaited_ns else min(rest, max(0, sync_ns - sum(parts.waits)))
    on_cpu = sync_on_cpu + min(parts.sampled_ns, rest - sync_on_cpu)
    amounts = [*waits, on_cpu, rest - on_cpu, unseen]
    return Breakdown(count, parts.latency_ns, dict(zip(COMPONENTS, amounts, strict=True)), parts.errors)


def of_exemplar(one: Exemplar) -> Breakdown:
    """Break the latency of one slow span down."""
    took, none = one.duration_ns, (0,) * len(WAITS)
    waits, async_waits = (none, one.waits) if one.awaited else (one.waits, none)
    awaited, unseen = took if one.awaited else 0, 0 if one.seen else took
    parts = SpanParts(one.series, 0, took, awaited, waits, async_waits, one.sampled_ns, unseen, one.errors)
    return of_parts(parts, 1)


def add(breakdowns: Iterable[Breakdown], count: int) -> Breakdown:
    """Return the breakdown of all the spans of *breakdowns*, which are *count*."""
    every = list(breakdowns)
    components = {name: sum(one.components[name] for one in every) for name in COMPONENTS}
    return Breakdown(count, sum(one.latency_ns for one in every), components, sum(one.errors for one in every))


def gap(slow: Breakdown, usual: Breakdown) -> dict[str, float]:
    """Return by how much a span of *slow* is longer than one of *usual*: means, ns by COMPONENTS, some negative."""
    return {
        name: slow.components[name] / slow.count - usual.components[name] / usual.count
        for name in COMPONENTS
        if slow.count and usual.count
    }


def fit(amounts: Sequence[int], room: int) -> list[int]:
    """Return *amounts*, scaled down in proportion if they are more than *room*; then they sum to it exactly."""
    whole = sum(amounts)
    if whole <= room:
        return list(amounts)
    scaled = [amount * room // whole for amount in amounts]
    scaled[max(range(len(amounts)), key=lambda i: amounts[i])] += room - sum(scaled)
    return scaled
