"""tracekit hist: percentiles and distributions, from the one quantile."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import golden
from tests.unit.recordings import Content, write
from tracekit.analysis.octaves import octaves
from tracekit.histogram import HIGHEST, of_values
from tracekit.recording.reader import Recording
from tracekit.report.terminal import columns_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.conftest import Run


def test_table_of_the_sample(run: Run, sample: Path) -> None:
    """Every series, a row each, exactly."""
    code, out, err = run("hist", sample)

    golden.check("hist.txt", out)
    assert (code, err) == (0, "")


def test_distribution_of_the_sample(run: Run, sample: Path) -> None:
    """One metric: all of it, each series, and its octaves, exactly."""
    code, out, _ = run("hist", sample, "--metric", "blocked")

    golden.check("hist-metric.txt", out)
    assert code == 0


def test_json_has_the_numbers_of_the_recording(run: Run, sample: Path) -> None:
    """What a script reads is what the one quantile says, unrounded."""
    rows = json.loads(run("hist", sample, "--json")[1])["series"]

    with Recording(sample) as recording:
        parts = recording.histograms()
    assert len(rows) == len(parts)
    for row, (series, part) in zip(rows, parts.items(), strict=True):
        assert (row["metric"], row["labels"], row["unit"]) == (series.metric, dict(series.labels), "ns")
        assert (row["count"], row["sum"], row["min"], row["max"]) == (part.count, part.total, part.low, part.high)
        assert row["quantiles"]["0.99"] == part.quantile(0.99)


def test_where_keeps_only_what_matches(run: Run, sample: Path) -> None:
    """Every --where must hold."""
    words = ("--metric", "offcpu", "--where", "role=worker", "--where", "reason=disk")
    rows = json.loads(run("hist", sample, *words, "--json")[1])["series"]

    assert [row["labels"] for row in rows] == [{"reason": "disk", "role": "worker"}]


def test_by_adds_up(run: Run, sample: Path) -> None:
    """--by loses labels, never events."""
    rows = json.loads(run("hist", sample, "--metric", "offcpu", "--by", "role", "--json")[1])["series"]

    counts = {row["labels"]["role"]: row["count"] for row in rows}
    assert counts == {"worker": 30 * (101 + 211 + 89), "supervisor": 30 * 53}


def test_by_names_what_has_no_such_label(run: Run, tmp_path: Path) -> None:
    """It is a part, and not once more all of them."""
    content = Content(histograms=[("db.latency", labels, [10]) for labels in ({}, {"operation": "GET"})])

    _, out, _ = run("hist", write(tmp_path / "x.tk", content), "--metric", "db.latency", "--by", "operation")

    names = [line[:14].strip() for line in out.splitlines()[2:5]]
    assert sorted(names) == ["GET", "all", "no operation"]


def test_between_takes_intervals_by_their_middle(run: Run, sample: Path) -> None:
    """Ticks are never exactly on time, so an interval belongs where most of it is."""

    def count(*between: str) -> int:
        words = ("--metric", "spawn.exec", "--between", *between, "--json")
        return sum(row["count"] for row in json.loads(run("hist", sample, *words)[1])["series"])

    assert count("10s", "20s") == 10 * 7
    assert count("9.9s", "20.1s") == 10 * 7
    assert count("0", "10s") + count("10s", "1h") == 30 * 7


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--metric", "runq.wiat"], 2, "the recording has blocked, loop.busy, offcpu, oncpu"),
        (["--metric", "syscall.errors"], 2, "no histogram has this metric"),
        (["--where", "rule=worker"], 2, "the recording has reason, role, span, syscall, system, thread"),
        (["--by", "errno"], 2, "no histogram has this label"),
        (["--where", "worker"], 2, "not label=value"),
        (["--where", "role=worker", "--where", "role=supervisor"], 2, "given twice"),
        (["--between", "20s", "10s"], 2, "ends before it begins"),
        (["--between", "x", "10s"], 2, "not a number"),
        (["--between", "40s", "50s"], 3, "no interval there"),
        (["--metric", "blocked", "--where", "syscall=poll"], 3, "no events where syscall=poll"),
    ],
)
def test_refusals_say_what_there_is(run: Run, sample: Path, words: list[str], code: int, says: str) -> None:
    """A typo is usage (2), the absence of events is no answer (3); neither prints a result."""
    found, out, err = run("hist", sample, *words)

    assert (found, out) == (code, "")
    assert says in err


def test_no_events_is_no_table(run: Run, tmp_path: Path) -> None:
    """A recording without a histogram has nothing to show."""
    code, out, err = run("hist", write(tmp_path / "bare.tk", Content()))

    assert (code, out) == (3, "")
    assert "no events" in err


def test_values_that_are_not_times_keep_their_unit(run: Run, tmp_path: Path) -> None:
    """Queue lengths are tasks, in whole numbers."""
    lengths = [0] * 60 + [1] * 30 + [2] * 6 + [5] * 4
    content = Content(histograms=[("runq.length", {"cpu": "0"}, lengths)], unit="tasks")
    path = write(tmp_path / "lengths.tk", content)

    _, out, _ = run("hist", path, "--metric", "runq.length")

    rows = [line.split() for line in out.splitlines()]
    assert ["0", "tasks", "60", "60", "%"] in [row[:5] for row in rows]
    assert ["4", "7", "tasks", "4", "4", "%"] in [row[:6] for row in rows]
    assert "µs" not in out
    assert "ns" not in out


def test_quantiles_without_support_are_not_shown(run: Run, tmp_path: Path) -> None:
    """The p99 of 99 events is their maximum under another name."""
    content = Content(histograms=[("oncpu", {"role": str(n)}, [1000] * n) for n in (1, 99, 100)])
    _, out, _ = run("hist", write(tmp_path / "few.tk", content))

    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.startswith("  ") and "p50" not in line}
    assert rows["1"][1:6] == ["1", "-", "-", "-", "-"]
    assert rows["99"][4:6] == ["-", "-"]
    assert rows["100"][4:6] == ["1µs", "-"]


def test_long_names_are_whole_and_inside_the_screen(run: Run, tmp_path: Path) -> None:
    """Two names that differ at their end stay two names, and no name moves the cursor."""
    names = ["\x1b[31mclock_nanosleep_of_" + end for end in ("one", "two")]
    content = Content(histograms=[("blocked", {"role": "r", "syscall": name}, [10**12] * 200_000) for name in names])
    path = write(tmp_path / "long.tk", content)

    for words in ((), ("--metric", "blocked"), ("--metric", "blocked", "--by", "syscall")):
        _, out, _ = run("hist", path, *words)

        assert "\x1b" not in out
        assert out.count("of_one") == out.count("of_two") == 1
        assert [line for line in out.splitlines() if columns_of(line) > 80] == []


def test_distribution_without_utf8(sample: Path) -> None:
    """Bars have look-alikes in ASCII."""
    words = [sys.executable, "-m", "tracekit", "hist", str(sample), "--metric", "oncpu"]

    done = subprocess.run(words, env={"PYTHONIOENCODING": "ascii"}, capture_output=True, text=True, check=True)

    assert done.stdout.isascii()
    assert "####" in done.stdout


@given(st.lists(st.integers(0, HIGHEST), min_size=1))
def test_octaves_hold_every_event_in_its_range(values: list[int]) -> None:
    """Rows are powers of two without a gap, and add up to the events."""
    rows = octaves(of_values(np.array(values, dtype=np.uint64)).counts)

    assert [row.low for row in rows[1:]] == [row.high for row in rows[:-1]]
    assert [row.count for row in rows] == [sum(row.low <= value < row.high for value in values) for row in rows]
    assert sum(row.count for row in rows) == len(values)
    assert rows[0].count > 0
    assert rows[-1].count > 0
