"""Spans: what the usual and the slow ones were made of, and how that is said."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests import golden, sample_spans
from tests.sample import INTERVALS, SECOND, START_NS
from tests.unit.recordings import Content, write
from tracekit.analysis import breakdown, spans
from tracekit.analysis.breakdown import COMPONENTS
from tracekit.analysis.summary import Summary
from tracekit.histogram import of_values, slots_of
from tracekit.histogram.parts import Parts
from tracekit.recording.reader import Recording
from tracekit.records import BUCKET_SHIFT, WAITS, Exemplar, InFlight, Process, Series, SpanParts, labels_of
from tracekit.report.terminal import columns_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.conftest import Run

MS = 10**6
HOSTILE = "\x1b[2J\u202e名前\x07" + "x" * 90
NONE = (0,) * len(WAITS)


def waits(**ns: int) -> tuple[int, ...]:
    return tuple(ns.get(kind, 0) for kind in WAITS)


def parts_of(value: int, count: int, **ns: int) -> SpanParts:
    """*count* synchronous spans of *value* ns that waited *ns* each."""
    sums = tuple(count * each for each in waits(**ns))
    return SpanParts(0, bucket_of(value), value * count, 0, sums, NONE, 0, 0, 0)


def bucket_of(value: int) -> int:
    return int(slots_of(np.array([value], dtype=np.uint64))[0]) >> BUCKET_SHIFT


def table(*rows: SpanParts) -> Parts:
    """The parts of a series as a recording gives them."""
    ordered = sorted(rows, key=lambda row: row.bucket)
    sums = [[r.latency_ns, r.awaited_ns, r.sampled_ns, r.unseen_ns, r.errors] for r in ordered]
    columns = np.array(sums, dtype=np.uint64).T
    kinds = (np.array([getattr(r, name) for r in ordered], dtype=np.uint64) for name in ("waits", "async_waits"))
    return Parts(np.array([row.bucket for row in ordered], dtype=np.int64), *columns, *kinds)


def components(part: breakdown.Breakdown) -> dict[str, int]:
    return {name: ns for name, ns in part.components.items() if ns}


def test_on_cpu_is_what_remains() -> None:
    """A synchronous span: the kernel saw every wait, so the rest ran."""
    found = breakdown.of_parts(SpanParts(1, 1, 100, 0, waits(runq=10, lock=30), NONE, 0, 15, 2), 4)

    assert components(found) == {"runq": 10, "lock": 30, "on-CPU": 45, "unattributed": 15}
    assert (found.count, found.mean_ns, found.errors) == (4, 25, 2)
    assert found.ranked()[:2] == [("on-CPU", 0.45), ("lock", 0.3)]


def test_the_rest_of_a_suspended_span_is_awaiting() -> None:
    """Samples say how much of it ran; they may say more than there was."""
    usual = SpanParts(1, 1, 100, 100, NONE, waits(runq=5, network=15), 20, 0, 0)

    assert components(breakdown.of_parts(usual, 1)) == {"runq": 5, "network": 15, "on-CPU": 20, "awaiting": 60}
    assert components(breakdown.of_parts(replace(usual, sampled_ns=999), 1)) == {
        "runq": 5,
        "network": 15,
        "on-CPU": 80,
    }


def test_spans_of_both_kinds_share_a_bucket() -> None:
    """60 ns of them suspended, with 10 ns on-CPU by samples; 40 ns not, of which 25 ns waited."""
    both = SpanParts(1, 1, 100, 60, waits(disk=25), waits(runq=20), 10, 0, 0)

    assert components(breakdown.of_parts(both, 1)) == {"runq": 20, "disk": 25, "on-CPU": 25, "awaiting": 30}


def test_waits_longer_than_the_latency_are_scaled_down() -> None:
    """Two clocks disagree: proportions stay, and the sum is the latency."""
    found = breakdown.of_parts(SpanParts(1, 1, 100, 0, waits(disk=90, lock=30), NONE, 0, 0, 0), 1)

    assert components(found) == {"disk": 75, "lock": 25}


@pytest.mark.parametrize(("n", "median", "q"), [(49, 0, 0), (99, 1, 0), (100, 1, 0.9), (200, 1, 0.95), (1000, 1, 0.99)])
def test_a_band_needs_ten_spans(n: int, median: int, q: float) -> None:
    """Which tail is shown depends on n, and is said."""
    values = [MS + number * 10_000 for number in range(n)]
    rows: dict[int, SpanParts] = {}
    for value in values:
        one = parts_of(value, 1)
        before = rows.get(one.bucket, replace(one, latency_ns=0))
        rows[one.bucket] = replace(before, latency_ns=before.latency_ns + value)

    found = spans.anatomy(of_values(np.array(values, dtype=np.uint64)), [table(*rows.values())])

    assert found
    assert (found.whole.count, found.whole.latency_ns) == (n, sum(values))
    assert (found.median is not None, found.tail_q) == (bool(median), q)
    assert found.tail is None or found.tail.count >= 10


def test_the_gap_names_the_cause() -> None:
    """980 spans of 10 ms on a CPU, 20 of 110 ms that also waited for a lock: the lock makes the difference."""
    shape = of_values(np.array([10 * MS] * 980 + [110 * MS] * 20, dtype=np.uint64))
    usual = parts_of(10 * MS, 980, runq=MS)
    slow = parts_of(110 * MS, 20, runq=2 * MS, lock=99 * MS)

    found = spans.anatomy(shape, [table(usual, slow)])

    assert found
    assert found.median
    assert found.tail
    assert (found.median.count, found.tail.count, found.tail_q) == (980, 20, 0.99)
    assert {name: ns for name, ns in found.gap.items() if ns} == {"runq": MS, "lock": 99 * MS}
    assert tuple(found.gap) == COMPONENTS


def test_roles_and_labels_of_a_name_add_up() -> None:
    """Half of the spans are of another series: bands are those of all of them."""
    shape = of_values(np.array([10 * MS] * 980 + [110 * MS] * 20, dtype=np.uint64))
    one = [parts_of(10 * MS, 490, disk=MS), parts_of(110 * MS, 10, disk=MS)]
    two = [parts_of(10 * MS, 490, lock=MS), parts_of(110 * MS, 10, lock=101 * MS)]

    found = spans.anatomy(shape, [table(*one), table(*two)])

    assert found
    assert components(found.whole) == {
        "disk": 500 * MS,
        "lock": 1500 * MS,
        "on-CPU": 10 * MS * 980 + 110 * MS * 20 - 2000 * MS,
    }
    assert found.gap["lock"] == 50 * MS


def test_spans_of_one_length_have_no_tail() -> None:
    """The bucket of p99 is that of the median: a difference would be noise."""
    found = spans.anatomy(of_values(np.array([MS] * 2000, dtype=np.uint64)), [table(parts_of(MS, 2000))])

    assert found
    assert (found.tail, found.tail_q, found.gap) == (None, 0.99, {})


def test_nothing_is_known_without_the_kernel() -> None:
    """Latencies alone say nothing of causes."""
    shape = of_values(np.array([MS], dtype=np.uint64))

    assert spans.anatomy(shape, []) is None
    assert spans.anatomy(of_values(np.array([], dtype=np.uint64)), [table(parts_of(MS, 1))]) is None


def test_the_parts_of_the_sample_are_its_latencies(sample: Path) -> None:
    """Sums by bucket are those of the histogram, exactly, for each series."""
    with Recording(sample) as recording:
        shapes, parts = recording.histograms("span.latency"), recording.parts()

    assert {series: int(part.latency_ns.sum()) for series, part in parts.items()} == {
        series: shape.total for series, shape in shapes.items()
    }


def test_what_is_inside_a_span() -> None:
    """Series, waits and new processes that carry its name; the role of a new process is its own."""

    def series(metric: str, **labels: str) -> Series:
        return Series(metric, labels_of(labels), "counter", "count")

    mine = series("syscall.errors", role="a", span="s", errno="EIO")
    child = series("spawn.count", role="child", span="s")
    others = [
        series("syscall.errors", role="b", span="s"),
        series("syscall.errors", role="a"),
        series("mark", span="t"),
    ]
    waits = [InFlight(1, 1, role, "t", "blocked", "lock", "futex", 1, span) for role, span in ("as", "at", "bs")]
    born = [Process(number, 1, "child", "spawned", 1, span=span) for number, span in enumerate(["", "s", "t"])]
    whole = Summary(1, counters=dict.fromkeys([mine, child, *others], 1), processes=born, in_flight=waits)

    found = spans.inside(whole, "s", {"role": "a"})

    assert set(found.counters) == {mine, child}
    assert list(found.processes) == [born[1]]
    assert list(found.in_flight) == [waits[0]]
    assert spans.names(whole) == ["s", "t"]


@pytest.mark.parametrize("name", ["evaluation", "db.query", "agent.spawn"])
def test_text_of_the_sample(run: Run, sample: Path, name: str) -> None:
    """The whole screen, exactly."""
    code, out, err = run("report", sample, "--span", name)

    golden.check(f"report-span-{name}.txt", out)
    assert (code, err) == (0, "")


def test_an_unknown_span_is_answered_with_those_there_are(run: Run, sample: Path) -> None:
    """So is a label that it does not have, and one that belongs to nothing."""
    code, out, err = run("report", sample, "--span", "evalution")
    labels = run("report", sample, "--span", "db.query", "--where", "system=mysql")
    nothing = run("report", sample, "--where", "system=mysql")
    role = run("report", sample, "--span", "evaluation", "--role", "supervisor")

    assert (code, out) == (2, "")
    assert "one of: agent.spawn, db.query, evaluation" in err
    assert labels[0] == 2
    assert "none has system=mysql" in labels[2]
    assert "one of: role=worker, system=postgresql" in labels[2]
    assert (nothing[0], "--span" in nothing[2]) == (2, True)
    assert (role[0], "in this role" in role[2]) == (2, True)


def test_spans_can_be_chosen_by_label(run: Run, tmp_path: Path) -> None:
    """Counts, errors and the slowest are those of the label alone."""
    one, two = {"span": "q", "role": "a", "db": "x"}, {"span": "q", "role": "b", "db": "y"}
    slow = Exemplar(0, 7, 7, START_NS, 5 * MS, False, True, True, waits(disk=4 * MS), 0, 0)
    content = Content(
        histograms=[("span.latency", one, [MS] * 30), ("span.latency", two, [2 * MS] * 50)],
        counters=[("span.errors", one | {"type": "E"}, 3), ("span.errors", two | {"type": "F"}, 4)],
        parts=[(one, parts_of(MS, 30)), (two, parts_of(2 * MS, 50))],
        exemplars=[(one, slow), (two, replace(slow, duration_ns=9 * MS))],
    )
    path = write(tmp_path / "x.tk", content)

    both = json.loads(run("report", path, "--span", "q", "--json")[1])
    first = json.loads(run("report", path, "--span", "q", "--where", "db=x", "--json")[1])
    role = json.loads(run("report", path, "--span", "q", "--role", "b", "--json")[1])

    assert (both["count"], both["errors"], both["all"]["count"]) == (80, {"F": 4, "E": 3}, 80)
    assert (first["count"], first["errors"], first["all"]["latency_ns"]) == (30, {"E": 3}, 30 * MS)
    assert (role["count"], role["errors"]) == (50, {"F": 4})
    assert [[one["duration_ns"] for one in found["slowest"]] for found in (both, first, role)] == [
        [9 * MS, 5 * MS],
        [5 * MS],
        [9 * MS],
    ]


def test_json_is_the_contract(run: Run, sample: Path) -> None:
    """Keys, units and sums that scripts rely on."""
    whole = json.loads(run("report", sample, "--json")[1])
    document = json.loads(run("report", sample, "--span", "evaluation", "--json")[1])

    assert [one["span"] for one in whole["spans"]] == ["evaluation", "db.query", "agent.spawn"]
    promised = "span where rate count sum min max quantiles errors all median tail tail_quantile gap_ns slowest "
    promised += "databases series counters processes in_flight clocks start_ns duration_ns complete role loss"
    promised += " code tail_code"
    assert set(document) == set(promised.split())
    rates = [mode.rate for mode in sample_spans.MODES if mode.labels["span"] == "evaluation"]
    assert document["count"] == INTERVALS * sum(rates)
    assert document["errors"] == {"TimeoutError": 60, "ValueError": 30}
    assert document["tail_quantile"] == 0.99
    for band in ("all", "median", "tail"):
        assert list(document[band]["components_ns"]) == list(COMPONENTS)
        assert sum(document[band]["components_ns"].values()) == document[band]["latency_ns"]
    assert max(document["gap_ns"], key=document["gap_ns"].get) == "lock"
    assert sum(document["slowest"][0]["components_ns"].values()) == document["slowest"][0]["duration_ns"]
    assert {one["labels"]["span"] for one in document["series"] + document["counters"]} == {"evaluation"}


def test_without_the_kernel_there_are_latencies_and_no_causes(run: Run, tmp_path: Path) -> None:
    """--probes-only: what was not measured is named."""
    labels = {"span": "evaluation", "role": "a"}
    path = write(tmp_path / "x.tk", Content(histograms=[("span.latency", labels, [MS] * 2000)]))

    _, whole, _ = run("report", path)
    code, out, _ = run("report", path, "--span", "evaluation")
    document = json.loads(run("report", path, "--span", "evaluation", "--json")[1])

    assert "what they waited for: not measured: recorded without the kernel" in whole
    assert "Where the time went  not measured: recorded without the kernel" in out
    assert (code, document["all"], document["tail"], document["gap_ns"]) == (0, None, None, None)
    assert "p99 1 ms" in out


def test_too_few_spans_are_said_to_be_too_few(run: Run, tmp_path: Path) -> None:
    """Of twelve slow evaluations the whole is known, neither a median nor a tail."""
    labels = {"span": "evaluation", "role": "a"}
    content = Content(
        histograms=[("span.latency", labels, [SECOND] * 12)], parts=[(labels, parts_of(SECOND, 12, lock=SECOND // 2))]
    )
    path = write(tmp_path / "x.tk", content)

    _, out, _ = run("report", path, "--span", "evaluation")

    assert re.search(r"^  all +1 s +12  lock 50 %, on-CPU 50 %$", out, re.MULTILINE)
    assert "the median needs 50 spans, the tail 100, there are 12" in out
    assert "p50 1 s, p90 1 s, p99 -, p99.9 -, max 1 s" in out


def test_a_span_that_has_not_ended_is_shown(run: Run, tmp_path: Path) -> None:
    """An evaluation that hangs has no latency, and is what one looks for."""
    wait = InFlight(11, 7, "a", "main", "blocked", "lock", "futex", 9 * SECOND, "evaluation")
    path = write(tmp_path / "x.tk", Content(in_flight=[wait]))

    _, whole, _ = run("report", path)
    code, out, _ = run("report", path, "--span", "evaluation")

    assert re.search(r"^  evaluation +0 .*none has ended", whole, re.MULTILINE)
    assert code == 0
    assert "Span evaluation  none has ended" in out
    assert "pid 11  main of a  blocked: lock in futex" in out


def test_no_spans_no_section(run: Run, tmp_path: Path) -> None:
    """A recording of programs without probes says nothing of them."""
    path = write(tmp_path / "x.tk", Content(histograms=[("oncpu", {"role": "a"}, [MS])]))

    _, out, _ = run("report", path)

    assert not re.search("^(Spans|Event loops)", out, re.MULTILINE)
    assert run("report", path, "--span", "x")[2].endswith("try: one of: none\n")


def test_many_spans_are_folded(run: Run, tmp_path: Path) -> None:
    """Ten by their sum of time, and how much the others are."""
    rows = [("span.latency", {"span": f"s{number:02}", "role": "a"}, [number * MS]) for number in range(1, 14)]
    path = write(tmp_path / "x.tk", Content(histograms=rows))

    _, out, _ = run("report", path)

    assert re.findall(r"^  (s\d\d)", out, re.MULTILINE) == [f"s{number:02}" for number in range(13, 3, -1)]
    assert "  and 3 more: 6 ms" in out


def test_event_loops_are_told_apart(run: Run, tmp_path: Path) -> None:
    """By thread and role, the busiest first."""
    rows = [("loop.busy", {"role": "web", "thread": thread}, [ms * MS] * 200) for thread, ms in (("io", 1), ("web", 3))]
    path = write(tmp_path / "x.tk", Content(histograms=rows))

    _, out, _ = run("report", path)

    assert re.findall(r"^  (web|io of web) +200 +(\S+) ms", out, re.MULTILINE) == [("web", "3"), ("io of web", "1")]


def test_hostile_names_stay_on_the_screen(run: Run, tmp_path: Path) -> None:
    """Names and times chosen by traced programs neither move the cursor nor pass column 80."""
    labels = {"span": HOSTILE, "role": HOSTILE, "system": HOSTILE}
    hour = 3599 * SECOND
    slow = Exemplar(0, 2**22, 2**22, 2**63 - 1, 2**63 - 1, True, True, True, waits(fault=2**62), 0, 10**15)
    loop = ("loop.busy", {"role": HOSTILE, "thread": HOSTILE + "t"}, [hour] * 2000)
    content = Content(
        histograms=[("span.latency", labels, [hour] * 1980 + [MS] * 3000), loop],
        counters=[("span.errors", labels | {"type": HOSTILE + str(number)}, 10**15) for number in range(9)],
        parts=[(labels, parts_of(MS, 3000)), (labels, parts_of(hour, 1980, **dict.fromkeys(WAITS, hour // 12)))],
        exemplars=[(labels, slow), (labels, replace(slow, start_ns=0, seen=False))],
        processes=[Process(7, 1, HOSTILE, "spawned", 1, span=HOSTILE)],
        in_flight=[InFlight(2**22, 2**22, HOSTILE, HOSTILE + "t", "blocked", HOSTILE, HOSTILE, 10**15, HOSTILE)],
    )
    path = write(tmp_path / "hostile.tk", content)

    for words in ((), ("--span", HOSTILE), ("--span", HOSTILE, "--where", f"system={HOSTILE}"), ("--span", "no")):
        _, out, err = run("report", path, *words)

        assert [line for line in out.splitlines() if columns_of(line) > 80] == []
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", out + err)
