"""What one interval gathers, under the ids of the recording; equal series and stacks add up."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tracekit.records import HistogramDelta, Tick

if TYPE_CHECKING:
    from tracekit.capture.readings import Slots
    from tracekit.recording.writer import Writer
    from tracekit.records import Exemplar, Interval, Loss, Process, Series, SpanParts


class Batch:
    """The open interval of a recording; `tick` takes it out and begins the next."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._clear()

    def _clear(self) -> None:
        self.processes: list[Process] = []
        self._histograms: dict[int, Slots] = {}
        self._values: dict[int, float] = {}
        self._stacks: dict[int, tuple[int, int]] = {}
        self._parts: list[SpanParts] = []
        self._exemplars: list[Exemplar] = []
        self._samples: dict[tuple[int, int, int], tuple[int, int]] = {}

    def histogram(self, series: Series, slots: Slots) -> None:
        """Add events; two kernel rows may be one series, as roles can join names."""
        ident = self._writer.series(series)
        known = self._histograms.get(ident)
        self._histograms[ident] = _add(known, slots) if known else slots

    def value(self, series: Series, value: float) -> None:
        """Add the increase of a counter, or set a gauge."""
        ident = self._writer.series(series)
        before = self._values.get(ident, 0) if series.kind == "counter" else 0
        self._values[ident] = before + value

    def stack(self, frames: tuple[str, ...], weight: int, count: int) -> None:
        """Add weight and events of a stack."""
        ident = self._writer.stack(frames)
        before = self._stacks.get(ident, (0, 0))
        self._stacks[ident] = before[0] + weight, before[1] + count

    def part(self, series: Series, parts: SpanParts) -> None:
        """Add where the time of the spans of a series went, of one latency bucket."""
        self._parts.append(replace(parts, series=self._writer.series(series)))

    def exemplar(self, series: Series, one: Exemplar) -> None:
        """Add one of the slowest spans of a series."""
        self._exemplars.append(replace(one, series=self._writer.series(series)))

    def place(self, series: Series, bucket: int, frames: tuple[str, ...]) -> tuple[int, int, int]:
        """Return where a stack of a series of kind stacks is counted, in any batch; *bucket*: of the span's latency."""
        return self._writer.series(series), bucket, self._writer.stack(frames)

    def sample(self, place: tuple[int, int, int], weight: int, count: int) -> None:
        """Add weight and events of a stack to a series of kind stacks."""
        before = self._samples.get(place, (0, 0))
        self._samples[place] = before[0] + weight, before[1] + count

    def tick(self, interval: Interval, losses: list[Loss], *, partial: bool = False) -> Tick:
        """Return all that was gathered, and forget it."""
        tick = Tick(
            interval,
            [HistogramDelta(ident, *slots) for ident, slots in self._histograms.items()],
            list(self._values.items()),
            [(ident, *weights) for ident, weights in self._stacks.items()],
            self.processes,
            losses,
            self._parts,
            self._exemplars,
            [(*row, *weights) for row, weights in self._samples.items()],
            partial=partial,
        )
        self._clear()
        return tick


def _add(left: Slots, right: Slots) -> Slots:
    counts = dict(zip(left.slots, left.counts, strict=True))
    for slot, count in zip(right.slots, right.counts, strict=True):
        counts[slot] = counts.get(slot, 0) + count
    slots = sorted(counts)
    low = min(left.low, right.low) if left.low and right.low else 0
    high = max(left.high, right.high) if left.high and right.high else 0
    return type(left)(slots, [counts[slot] for slot in slots], left.total + right.total, low, high)
