"""The spans of the sample recording: what each was made of is known."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tracekit.histogram import slots_of
from tracekit.records import BUCKET_SHIFT, WAITS, Exemplar, Series, SpanParts, labels_of

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Mode:
    """
    One way in which the spans of a series go.

    Attributes:
        labels: beside the role.
        rate: spans in an interval; median ns and sigma of the logarithm of their latency.
        waits: share of the latency by kind of wait; the rest is on-CPU.
        sampled: None: synchronous; else share of the latency on-CPU, and the rest is awaiting.
    """

    role: str
    labels: dict[str, str]
    rate: int
    median_ns: int
    sigma: float
    waits: dict[str, float] = field(default_factory=dict)
    sampled: float | None = None
    metric: str = "span.latency"

    @property
    def series(self) -> Series:
        """Their span.latency, or that of calls of a database."""
        return Series(self.metric, labels_of(self.labels | {"role": self.role}), "histogram", "ns")


_KINDS = len(WAITS)
QUERY = {"span": "db.query", "system": "postgresql"}
MODES = [
    Mode("worker", {"span": "evaluation"}, 99, 11_000_000, 0.22, {"runq": 0.12, "network": 0.05, "disk": 0.02}),
    Mode("worker", {"span": "evaluation"}, 2, 118_000_000, 0.12, {"lock": 0.71, "runq": 0.09, "network": 0.02}),
    Mode("worker", QUERY, 199, 1_900_000, 0.35, {"runq": 0.03, "lock": 0.01}, 0.11),
    Mode("worker", QUERY, 12, 41_000_000, 0.3, {"disk": 0.02, "runq": 0.01}, 0.01),
    Mode("supervisor", {"span": "agent.spawn"}, 7, 22_000_000, 0.3, {"child": 0.83, "runq": 0.04, "fault": 0.03}),
]
"""Evaluations are slow when they wait for a lock, queries when the database is, as seen by those who await it."""


def latencies(rng: np.random.Generator, modes: list[Mode] = MODES) -> list[tuple[Mode, NDArray[np.uint64]]]:
    """Draw the spans of one interval."""
    return [(m, np.exp(rng.normal(np.log(m.median_ns), m.sigma, m.rate)).astype(np.uint64)) for m in modes]


def parts(ids: dict[Series, int], drawn: list[tuple[Mode, NDArray[np.uint64]]], *, first: bool) -> list[SpanParts]:
    """Sum the spans up by series and bucket; of those of the *first* interval the kernel did not see the slowest."""
    sums: dict[tuple[int, int], list[int]] = {}
    for mode, values in drawn:
        for value, slot in zip(values.tolist(), slots_of(values).tolist(), strict=True):
            entry = sums.setdefault((ids[mode.series], slot >> BUCKET_SHIFT), [0] * (5 + 2 * _KINDS))
            unseen = first and value == int(values.max())
            for number, part in enumerate(_numbers(mode, value, unseen=unseen)):
                entry[number] += part
    return [
        SpanParts(*key, n[0], n[1], tuple(n[5 : 5 + _KINDS]), tuple(n[5 + _KINDS :]), *n[2:5])
        for key, n in sums.items()
    ]


def exemplars(ids: dict[Series, int], drawn: list[tuple[Mode, NDArray[np.uint64]]], start_ns: int) -> list[Exemplar]:
    """Return two of each mode, begun as the interval did."""
    found = []
    for mode, values in drawn:
        for number, value in enumerate(sorted(values.tolist())[-2:]):
            _, _, sampled, _, errors, *waits = _numbers(mode, value, unseen=False)
            kinds = tuple(sync + other for sync, other in zip(waits[:_KINDS], waits[_KINDS:], strict=True))
            where = (ids[mode.series], 4242, 4250 + number, start_ns + number * 10**8, value)
            found.append(
                Exemplar(*where, mode.sampled is not None, number == 1 and bool(errors), True, kinds, sampled, errors)
            )
    return found


def _numbers(mode: Mode, value: int, *, unseen: bool) -> list[int]:
    """latency, awaited, sampled, unseen, errors, waits, async waits of one span."""
    if unseen:
        return [value, 0, 0, value, 0, *[0] * 2 * _KINDS]
    waits = [int(value * mode.waits.get(kind, 0)) for kind in WAITS]
    none = [0] * _KINDS
    if mode.sampled is None:
        return [value, 0, 0, 0, 1 if value > 10**8 else 0, *waits, *none]
    return [value, value, int(value * mode.sampled), 0, 0, *none, *waits]
