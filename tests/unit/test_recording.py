"""The recording: what was written is read, whole or in part."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests import sample as truth
from tests import sample_spans
from tests.unit import committing
from tracekit import histogram
from tracekit.recording import writer as writing
from tracekit.recording.reader import Recording
from tracekit.records import (
    Clocks,
    InFlight,
    Interval,
    Loss,
    Process,
    Series,
    StackWeight,
    Tick,
    labels_of,
)

if TYPE_CHECKING:
    from pathlib import Path


def sums(recording: Recording, between: tuple[int, int] | None = None) -> dict[Series, tuple[list[int], int, int, int]]:
    found = recording.histograms(between=between)
    return {series: (h.counts.tolist(), h.total, h.low, h.high) for series, h in found.items()}


def parts(recording: Recording, between: tuple[int, int]) -> dict[Series, dict[str, object]]:
    found = recording.parts(between=between)
    return {series: {name: column.tolist() for name, column in vars(part).items()} for series, part in found.items()}


def samples(recording: Recording, between: tuple[int, int]) -> dict[Series, dict[str, list[object]]]:
    names = ("bucket", "weight", "count")
    return {
        series: {name: getattr(found, name).tolist() for name in names}
        | {"stacks": [found.frames[ident] for ident in found.stack.tolist()]}
        for series, found in recording.samples(between=between).items()
    }


def test_facts_about_the_recording_come_back(sample: Path) -> None:
    """Host, target, clocks, settings and the end are what the collector said."""
    with Recording(sample) as recording:
        assert recording.host == truth.HOST
        assert recording.target == truth.TARGET
        assert recording.clocks == Clocks(truth.START_NS, 1_790_000_000 * truth.SECOND, truth.START_NS)
        assert recording.settings == truth.SETTINGS
        assert recording.end == {"reason": "duration", "threads": 23, "events": 123_457}
        assert recording.complete
        assert recording.start_ns == truth.START_NS
        assert recording.duration_ns == truth.INTERVALS * truth.SECOND
        assert recording.intervals[7] == Interval(truth.START_NS + 7 * truth.SECOND, truth.START_NS + 8 * truth.SECOND)


def test_histograms_come_back(sample: Path) -> None:
    """Each series has the events that were written, and no other."""
    with Recording(sample) as recording:
        found = recording.histograms()

    rows = truth.HISTOGRAMS + truth.LOOPS
    expected = Counter({(m, labels_of(labels)): rate * truth.INTERVALS for m, labels, _, _, rate in rows})
    for mode in sample_spans.MODES:
        expected["span.latency", mode.series.labels] += mode.rate * truth.INTERVALS
    assert {(s.metric, s.labels): h.count for s, h in found.items()} == expected


def test_a_histogram_keeps_exact_sum_and_extremes(tmp_path: Path) -> None:
    """Intervals 1 to 99 hold the values 1 to 99 once each."""
    with Recording(committing.made(tmp_path / "x.tk", 99)) as recording:
        found = recording.histograms("runq.wait", {"role": "worker"})[committing.WAIT]

    assert (found.total, found.low, found.high, found.count) == (sum(range(1, 100)), 1, 99, 99)
    assert found.counts[1:100].tolist() == [1] * 99


def test_unknown_extremes_are_those_of_the_slots(tmp_path: Path) -> None:
    """A kernel map without minimum and maximum still gives bounds."""
    slot = int(histogram.slots_of(np.array([1_000_000], dtype=np.uint64))[0])
    with committing.begin(tmp_path / "x.tk") as writer:
        delta = truth.HistogramDelta(writer.series(committing.WAIT), [slot], [3], 3_000_000, 0, 0)
        writer.append(Tick(Interval(0, 1), histograms=[delta]))
        writer.finish([], {})

    with Recording(tmp_path / "x.tk") as recording:
        found = recording.histograms()[committing.WAIT]

    assert (found.low, found.high) == (histogram.LOWER_EDGE[slot], histogram.UPPER_EDGE[slot])


def test_values_come_back(sample: Path) -> None:
    """Counters hold each interval's increase, gauges its sample."""
    with Recording(sample) as recording:
        found = recording.values()

    assert {(s.metric, s.labels): column.tolist() for s, column in found.items()} == {
        (metric, labels_of(labels)): [value] * truth.INTERVALS for metric, labels, _, _, value in truth.VALUES
    }


def test_a_missing_sample_is_no_zero(tmp_path: Path) -> None:
    """A counter that did not move is 0, a gauge that was not sampled is not a number."""
    counter, gauge = Series("io.read", (), "counter", "bytes"), Series("rss", (), "gauge", "bytes")
    with committing.begin(tmp_path / "x.tk") as writer:
        writer.append(Tick(Interval(0, 1), values=[(writer.series(counter), 5), (writer.series(gauge), 7.5)]))
        writer.append(Tick(Interval(1, 2)))
        writer.finish([], {})

    with Recording(tmp_path / "x.tk") as recording:
        found = recording.values()

    assert found[counter].tolist() == [5, 0]
    assert found[gauge][0] == 7.5
    assert np.isnan(found[gauge][1])


def test_stacks_come_back(sample: Path) -> None:
    """Weight and events of each stack, over all intervals."""
    with Recording(sample) as recording:
        found = recording.stacks()

    assert found == {
        frames: StackWeight(weight * truth.INTERVALS, count * truth.INTERVALS)
        for frames, (weight, count) in truth.STACKS.items()
    }


def test_processes_waits_and_losses_come_back(sample: Path) -> None:
    """The last state of each process; what had not ended; what was lost, and when."""
    with Recording(sample) as recording:
        assert recording.processes() == [truth._process(number) for number in range(truth.INTERVALS)]
        assert recording.in_flight() == [
            InFlight(4250, 4242, "worker", "bg-flush", "blocked", "lock", "futex", 29 * truth.SECOND, "evaluation")
        ]
        assert recording.losses() == [Loss("ring_full", 13)]
        assert recording.lossy == {11}
        assert recording.partial == {11}


def test_a_process_is_updated_not_repeated(tmp_path: Path) -> None:
    """The same id and start is the same process; a reused id is another one."""
    first, again = Process(7, 1, "a", "spawned", 100), Process(7, 1, "b", "spawned", 100, exit_ns=5, core=True)
    reused = Process(7, 1, "c", "found", 900)
    with committing.begin(tmp_path / "x.tk") as writer:
        writer.append(Tick(Interval(0, 1), processes=[first]))
        writer.append(Tick(Interval(1, 2), processes=[again, reused]))
        writer.finish([], {})

    with Recording(tmp_path / "x.tk") as recording:
        assert recording.processes() == [again, reused]


def test_cells_are_the_events_by_time_and_slot(sample: Path) -> None:
    """The sum of the cells of a heat map is the number of events, interval by interval."""
    with Recording(sample) as recording:
        series = recording.series("oncpu")
        cells = recording.cells(series)
        parts = [recording.histograms("oncpu", between=(n, n + 1)) for n in range(truth.INTERVALS)]

    for number, part in enumerate(parts):
        here = cells.interval == number
        dense = np.zeros(histogram.SLOTS, dtype=np.uint64)
        dense[cells.slot[here]] = cells.count[here]
        assert (dense == histogram.merge(list(part.values())).counts).all()


def test_intervals_can_be_read_in_part(tmp_path: Path) -> None:
    """`between` is half open and counts from 0: intervals 10..19 hold the numbers 11..20."""
    with Recording(committing.made(tmp_path / "x.tk", 40, checkpoints=True)) as recording:
        found = recording.histograms("runq.wait", {"role": "worker"}, (10, 20))[committing.WAIT]
        cells = recording.cells([committing.WAIT], (10, 20))
        stacks = recording.stacks((10, 20))

    assert np.flatnonzero(found.counts).tolist() == list(range(11, 21))
    assert cells.interval.tolist() == list(range(10, 20))
    assert stacks == {committing.STACK: StackWeight(sum(range(11, 21)), 10)}


def test_no_intervals_hold_nothing(sample: Path) -> None:
    """An empty range is not the whole file."""
    with Recording(sample) as recording:
        assert recording.histograms(between=(5, 5)) == {}
        assert recording.stacks((5, 5)) == {}
        assert recording.samples(between=(5, 5)) == {}
        assert len(recording.cells(recording.series(), (5, 5)).slot) == 0
        assert recording.histograms("no.such.metric") == {}
        assert len(recording.cells([]).slot) == 0


def test_parts_come_back_with_their_sums(tmp_path: Path) -> None:
    """Of the intervals asked for, each kind of wait in its column; not of series that were not asked for."""
    with Recording(committing.made(tmp_path / "x.tk", 40)) as recording:
        found = recording.parts({"span": "evaluation"}, (10, 20))
        other = recording.parts({"span": "other"})

    sum_of = sum(range(11, 21))
    parts = found[committing.SPAN]
    assert other == {}
    assert parts.bucket.tolist() == [committing.BUCKET]
    assert parts.latency_ns.tolist() == [100 * sum_of]
    assert [parts.awaited_ns[0], parts.sampled_ns[0], parts.unseen_ns[0], parts.errors[0]] == [
        sum_of,
        sum_of,
        0,
        sum_of,
    ]
    assert parts.waits.tolist() == [[sum_of * kind for kind in range(11)]]
    assert parts.async_waits.tolist() == [[sum_of * kind for kind in range(10, -1, -1)]]


def test_frames_are_read_once(tmp_path: Path) -> None:
    """Who asks for a hundred parts of a recording gets the same stacks, not a hundred copies of them."""
    with Recording(committing.made(tmp_path / "x.tk", 4)) as recording:
        early, late = (recording.samples("stack.span", between=part)[committing.SEEN] for part in ((0, 2), (2, 4)))

    same = set(early.stack.tolist()) & set(late.stack.tolist())
    assert same
    assert all(early.frames[ident] is late.frames[ident] for ident in same)


def test_samples_come_back_with_their_sums(tmp_path: Path) -> None:
    """Of the intervals asked for, each stack by bucket; not of series that were not asked for."""
    with Recording(committing.made(tmp_path / "x.tk", 40)) as recording:
        found = recording.samples("stack.span", {"span": "evaluation"}, (10, 20))
        other = recording.samples("stack.span", {"span": "other"})

    sum_of = sum(range(11, 21))
    assert other == {}
    assert list(found) == [committing.SEEN]
    seen = found[committing.SEEN]
    assert seen.bucket.tolist() == [committing.BUCKET - 1, committing.BUCKET]
    assert [seen.frames[ident] for ident in seen.stack.tolist()] == [committing.CODE[:1], committing.CODE]
    assert (seen.weight.tolist(), seen.count.tolist()) == ([2 * sum_of, sum_of], [30, 10])
    assert seen.samples == 40
    assert seen.within(committing.BUCKET, 99).weights(lambda stack: stack[:1]) == {committing.CODE[:1]: sum_of}
    assert seen.weights(lambda stack: stack[:1]) == {committing.CODE[:1]: 3 * sum_of}


def test_samples_are_no_counters(tmp_path: Path) -> None:
    """Who asks for values of everything gets none of them."""
    with Recording(committing.made(tmp_path / "x.tk", 2)) as recording:
        assert {series.kind for series in recording.values()} == {"counter"}
        assert recording.samples("syscall.calls") == {}


def test_too_many_samples_have_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a payload cannot hold is added up from the intervals."""
    monkeypatch.setattr(writing, "MOST_SAMPLES", 1)

    with Recording(committing.made(tmp_path / "x.tk", 20, checkpoints=True)) as recording:
        assert recording.samples()[committing.SEEN].weight.tolist() == [2 * sum(range(1, 21)), sum(range(1, 21))]
        assert recording.stacks() == {committing.STACK: StackWeight(sum(range(1, 21)), 20)}


def test_the_slowest_spans_of_each_interval_are_kept(tmp_path: Path) -> None:
    """Eight of the nine that were given; the slowest of all come first, as they were."""
    with committing.begin(tmp_path / "x.tk") as writer:
        for number in range(1, 4):
            writer.append(committing.tick(writer, number))
        expected = [committing.slow(writer, 2, rank) for rank in range(8, 0, -1)]
        writer.finish([], {})

    with Recording(tmp_path / "x.tk") as recording:
        of_second = recording.exemplars({"span": "evaluation"}, (1, 2), 99)
        slowest = recording.exemplars(most=2)
        other = recording.exemplars({"span": "other"})

    assert of_second == [(committing.SPAN, one) for one in expected]
    assert [one.duration_ns for _, one in slowest] == [3008, 3007]
    assert other == []


def test_a_span_of_all_time_is_kept(tmp_path: Path) -> None:
    """What a process says of its own times may be larger than a number of SQLite."""
    with committing.begin(tmp_path / "x.tk") as writer:
        endless = replace(committing.slow(writer, 1, 1), start_ns=2**64 - 1, duration_ns=2**64 - 1)
        writer.append(Tick(Interval(0, 1), exemplars=[endless]))
        writer.finish([], {})

    with Recording(tmp_path / "x.tk") as recording:
        assert [one.duration_ns for _, one in recording.exemplars()] == [2**63 - 1]


@pytest.mark.parametrize("last", [0, 1, 12, 13, 14, 26, 39, 40])
def test_checkpoints_change_nothing_but_speed(tmp_path: Path, last: int) -> None:
    """Before, at, between and after checkpoints (13, 26, 39) the sums are those of the intervals."""
    plain, short = committing.made(tmp_path / "a.tk", 40), committing.made(tmp_path / "b.tk", 40, checkpoints=True)

    with Recording(plain) as left, Recording(short) as right:
        assert sums(left, (0, last)) == sums(right, (0, last))
        assert left.stacks((0, last)) == right.stacks((0, last))
        assert parts(left, (0, last)) == parts(right, (0, last))
        assert samples(left, (0, last)) == samples(right, (0, last))
        assert sums(left) == sums(right)


def test_a_checkpoint_is_used(tmp_path: Path) -> None:
    """Proof that the comparison above compares something: a checkpoint that lies is believed."""
    with committing.begin(tmp_path / "x.tk") as writer:
        writer.append(committing.tick(writer, 1))
        writer.checkpoint([], [])
        writer.finish([], {})

    with Recording(tmp_path / "x.tk") as recording:
        assert (recording.histograms(), recording.parts(), recording.samples()) == ({}, {}, {})
        assert recording.cells(recording.series()).count.sum() == 2


def test_series_are_known_by_name_not_by_number(tmp_path: Path) -> None:
    """Two writers number the same series differently; readers see metric and labels."""
    one, two = (Series("oncpu", (("role", role),), "histogram", "ns") for role in ("a", "b"))
    for name, order in (("x.tk", [one, two]), ("y.tk", [two, one])):
        with committing.begin(tmp_path / name) as writer:
            ids = {series: writer.series(series) for series in order}
            deltas = [
                truth.HistogramDelta(ids[one], [1], [3], 3, 1, 1),
                truth.HistogramDelta(ids[two], [2], [5], 10, 2, 2),
            ]
            writer.append(Tick(Interval(0, 1), histograms=deltas))
            writer.finish([], {})
            assert writer.series(one) == ids[one]

    with Recording(tmp_path / "x.tk") as left, Recording(tmp_path / "y.tk") as right:
        assert sums(left) == sums(right)
        assert {series.label("role") for series in left.series("oncpu")} == {"a", "b"}
        assert right.series("oncpu", {"role": "b"}) == [two]


def test_rows_are_the_histograms_of_each_interval(sample: Path):
    """One pass over the file says the same as a look at each interval."""
    with Recording(sample) as recording:
        rows = recording.rows("offcpu")
        wanted = {
            (number, series): part
            for number in range(len(recording.intervals))
            for series, part in recording.histograms("offcpu", {}, (number, number + 1)).items()
        }

    found = {}
    for row, key in enumerate(zip(rows.interval.tolist(), (rows.names[i] for i in rows.series), strict=True)):
        counts = np.bincount(rows.slot[rows.row == row], rows.count[rows.row == row], histogram.SLOTS)
        found[key] = (counts.tolist(), int(rows.total[row]), int(rows.low[row]), int(rows.high[row]))
    assert found == {key: (h.counts.tolist(), h.total, h.low, h.high) for key, h in wanted.items()}


def test_rows_of_nothing(sample: Path):
    """A metric that nobody recorded has none."""
    with Recording(sample) as recording:
        assert recording.rows("nothing").names == []
        assert len(recording.rows("nothing").row) == 0
