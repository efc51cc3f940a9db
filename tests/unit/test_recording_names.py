"""Names in a recording: those that programs chose come back as they were."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests import sample as truth
from tests.unit import committing
from tracekit.recording.reader import Recording
from tracekit.recording.writer import Writer
from tracekit.records import (
    Clocks,
    Host,
    InFlight,
    Interval,
    Loss,
    Process,
    Series,
    StackWeight,
    Target,
    Tick,
)

if TYPE_CHECKING:
    from pathlib import Path


HOSTILE = [
    "",
    "a\nb",
    "tab\tand\rreturn",
    "\"quotes\" and 'quotes' and `ticks`",
    "nul\0inside",
    "\x1b[2J\x07",
    "'); DROP TABLE interval; --",
    '{x="1"}\\',
    "\u202eright to left",
    "労働者 🐍",
    "x" * 70_000,
]


def sums(recording: Recording, between: tuple[int, int] | None = None) -> dict[Series, tuple[list[int], int, int, int]]:
    found = recording.histograms(between=between)
    return {series: (h.counts.tolist(), h.total, h.low, h.high) for series, h in found.items()}


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_names_that_programs_chose_come_back_as_they_were(tmp_path: Path, name: str) -> None:
    """In labels, stacks, processes, waits, the host and the command."""
    series = Series("oncpu", (("role", name),), "histogram", "ns")
    process = Process(7, 1, name, "spawned", 100, span=name)
    wait = InFlight(1, 1, name, name, "blocked", "lock", "futex", 5, name)
    host, target = Host(name, name, name, 1, name, 1, name, name), Target("run", command=(name, name))
    with Writer(tmp_path / "x.tk", host, target, Clocks(1, 2, 3), {}) as writer:
        delta = truth.HistogramDelta(writer.series(series), [1], [1], 1, 1, 1)
        stacks = [(writer.stack((name, "on-CPU")), 7, 1)]
        writer.append(Tick(Interval(0, 1), [delta], [], stacks, [process], [Loss(name, 1)]))
        writer.finish([wait], {"reason": name})

    with Recording(tmp_path / "x.tk") as recording:
        assert list(recording.histograms(where={"role": name})) == [series]
        assert list(recording.stacks()) == [(name, "on-CPU")]
        assert (recording.processes(), recording.in_flight()) == ([process], [wait])
        assert (recording.host, recording.target, recording.end) == (host, target, {"reason": name})
        assert recording.losses() == [Loss(name, 1)]


def test_bytes_that_are_no_text_are_spelled_out_everywhere_alike(tmp_path: Path) -> None:
    """A process may call itself b"\\xff": labels, stacks and processes still join, and all of it can be encoded."""
    raw = os.fsdecode(b"caf\xe9")
    series = Series("oncpu", (("role", raw),), "histogram", "ns")
    with committing.begin(tmp_path / "x.tk") as writer:
        ident = writer.series(series)
        again = writer.series(Series("oncpu", (("role", "caf\\udce9"),), "histogram", "ns"))
        delta = truth.HistogramDelta(ident, [1], [1], 1, 1, 1)
        stacks = [(writer.stack((raw,)), 7, 1), (writer.stack((raw,)), 7, 1)]
        process = Process(7, 1, raw, "found", 1, span=raw)
        writer.append(Tick(Interval(0, 1), [delta], [], stacks, [process], [Loss(raw, 1)]))
        writer.finish([InFlight(1, 1, raw, raw, "blocked", "lock", "futex", 5, raw)], {})

    with Recording(tmp_path / "x.tk") as recording:
        roles = {s.label("role") for s in recording.series()}
        names = roles | {p.role for p in recording.processes()} | {w.thread for w in recording.in_flight()}
        names |= {p.span for p in recording.processes()} | {w.span for w in recording.in_flight()}
        assert names | {frames[0] for frames in recording.stacks()} == {"caf\\udce9"}
        assert recording.stacks() == {("caf\\udce9",): StackWeight(14, 2)}
        assert recording.losses() == [Loss("caf\\udce9", 1)]
    assert again == ident
