"""tracekit hist of logs and of several files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.unit.recordings import Content, write
from tracekit.recording.hlog import Log

if TYPE_CHECKING:
    from tests.unit.conftest import Run

LOGS = Path(__file__).parents[1] / "golden" / "hlog"
JHICCUP = LOGS / "jHiccup-2.0.7S.logV2.hlog"
TAGGED = LOGS / "tagged-Log.logV2.hlog"
JAVA = LOGS / "java.logV13.hlog"


def series(run: Run, *words: object) -> list[dict[str, object]]:
    found, out, err = run("hist", *words, "--json")
    assert found == 0, err
    rows: list[dict[str, object]] = json.loads(out)["series"]
    return rows


def test_a_log_is_a_table_as_a_recording_is(run: Run) -> None:
    """A row for each tag, in ns."""
    code, out, err = run("hist", TAGGED)

    assert (code, err) == (0, "")
    assert [line.split()[:4] for line in out.splitlines()] == [
        ["n", "p50", "p90", "p99"],
        ["latency"],
        ["-", "16,145", "360µs", "426µs"],
        ["A", "16,145", "360µs", "426µs"],
    ]


def test_json_says_what_a_log_does_not_know(run: Run) -> None:
    """Sum and extremes are those of slots."""
    (row,) = series(run, JHICCUP)

    assert (row["count"], row["exact"], row["labels"]) == (48761, False, {})


def test_a_recording_comes_back_from_its_log(run: Run, sample: Path, tmp_path: Path) -> None:
    """Nothing but the exact sum and extremes is lost on the way through a log."""
    out = tmp_path / "sample.hlog"

    code, said, err = run("hist", sample, "-o", out)

    assert (code, said, err) == (0, "", f"wrote {out}\n")
    before, after = series(run, sample), series(run, out)
    keys = ("metric", "unit", "count", "labels")
    by_name = {str(row["metric"]) + str(row["labels"]): row for row in after}
    assert len(before) == len(after)
    for row in before:
        same = by_name[str(row["metric"]) + str(row["labels"])]
        assert [same[key] for key in keys] == [row[key] for key in keys]
        assert abs(same["sum"] - row["sum"]) <= row["sum"] / 128  # type: ignore[operator]
        assert {q: v for q, v in same["quantiles"].items() if q != "0.999"} == {  # type: ignore[attr-defined]
            q: v
            for q, v in row["quantiles"].items()
            if q != "0.999"  # type: ignore[attr-defined]
        }
    first = next(Log(out).lines())
    assert first.start == pytest.approx(1_790_000_000, abs=1)


def test_merging_files_adds_their_series_up(run: Run, sample: Path, tmp_path: Path) -> None:
    """A recording and its log are twice the events; apart, each says which file it is of."""
    log = tmp_path / "sample.hlog"
    run("hist", sample, "-o", log)

    (merged,) = series(run, sample, log, "--merge", "--metric", "spawn.exec")
    apart = series(run, sample, log, "--metric", "spawn.exec")
    (one,) = series(run, sample, log, "--metric", "spawn.exec", "--where", "file=sample.hlog")

    assert merged["count"] == 2 * 30 * 7
    assert [row["labels"]["file"] for row in apart] == [sample.name, "sample.hlog"]  # type: ignore[index]
    assert one["count"] == 30 * 7


def test_between_is_since_the_start_of_each_file(run: Run, sample: Path, tmp_path: Path) -> None:
    """Ten seconds of a recording are ten seconds of its log."""
    log = tmp_path / "sample.hlog"
    run("hist", sample, "-o", log)
    words = ("--metric", "spawn.exec", "--between", "10s", "20s")

    rows = series(run, sample, log, *words)

    assert [row["count"] for row in rows] == [70, 70]


def test_a_distribution_is_of_one_metric_and_tag(run: Run, sample: Path) -> None:
    """Several of them would be added up to what nobody measured."""
    code, out, _ = run("hist", TAGGED, "--tag", "A", "--format", "hgrm")

    assert code == 0
    assert out.splitlines()[0].split() == ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]
    assert "Total count    =        16145]" in out
    assert run("hist", sample, "--format", "hgrm")[0] == 2
    code, _, err = run("hist", TAGGED, "--format", "hgrm")
    assert code == 2
    assert "may be of the same events (none, A)" in err


def test_a_correction_is_made_once(run: Run, tmp_path: Path) -> None:
    """Twice, the tail doubles: it is refused, also where the first one was made into a log."""
    log = tmp_path / "corrected.hlog"

    (plain,) = series(run, JHICCUP)
    (row,) = series(run, JHICCUP, "--corrected", "1ms")
    run("hist", JHICCUP, "--corrected", "1ms", "-o", log)

    assert row["count"] > plain["count"]  # type: ignore[operator]
    assert row["corrected_ns"] == 1_000_000
    (same,) = series(run, log)
    assert (same["count"], same["corrected_ns"]) == (row["count"], 1_000_000)
    code, out, err = run("hist", log, "--corrected", "1ms")
    assert (code, out) == (2, "")
    assert "that was done already" in err


def test_a_distribution_says_that_it_is_corrected(run: Run) -> None:
    """Added calls are not to be taken for measured ones."""
    _, out, _ = run("hist", JHICCUP, "--metric", "latency", "--corrected", "1ms")

    assert "corrected for coordinated omission, a call each 1 ms" in out


def test_what_a_log_lost_is_said(run: Run, tmp_path: Path) -> None:
    """By line, beside a result of the rest."""
    torn = tmp_path / "torn.hlog"
    torn.write_bytes(JHICCUP.read_bytes()[:-30])

    code, out, err = run("hist", torn)

    assert code == 0
    assert "47,977" in out
    assert err == f"note: {torn}: line 66 left out: it ends in the middle\n"


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ([TAGGED, "--tag", "B"], 2, "has lines without one, A"),
        ([TAGGED, "--between", "1h", "2h"], 3, "no interval there"),
        ([TAGGED, "--between", "2s", "1s"], 2, "ends before it begins"),
        ([TAGGED, "--metric", "runq.wait"], 2, "the recording has latency"),
        ([TAGGED, "--json", "-o", "x.hgrm"], 2, "it goes to stdout"),
        ([TAGGED, "--corrected", "0"], 2, "not positive"),
        ([TAGGED, "--corrected", "soon"], 2, "not a number"),
        ([TAGGED, JHICCUP, "--format", "hlog"], 2, "--merge"),
        ([TAGGED, JHICCUP, "--confidence"], 2, "--merge"),
        ([TAGGED, "--confidence", "--tag", "A", "--format", "hgrm"], 2, "no place for intervals"),
        ([TAGGED, "-o", TAGGED], 2, "it is a file that is read"),
        ([JAVA, "-o", "/nowhere/x.hgrm", "--tag", "A"], 4, "cannot write /nowhere/x.hgrm"),
        (["/nowhere.hlog"], 2, "no such file"),
    ],
)
def test_refusals_say_what_there_is(run: Run, words: list[object], code: int, says: str) -> None:
    """No result is printed, and no file is written over."""
    before = TAGGED.read_bytes()

    found, out, err = run("hist", *words)

    assert (found, out) == (code, "")
    assert says in err
    assert TAGGED.read_bytes() == before


def test_tags_are_of_logs_and_corrections_of_times(run: Run, sample: Path, tmp_path: Path) -> None:
    """Options that cannot mean anything are not passed over in silence."""
    lengths = write(tmp_path / "n.tk", Content(histograms=[("runq.length", {"cpu": "0"}, [1, 2])], unit="tasks"))

    assert "its series have labels" in run("hist", sample, "--tag", "A")[2]
    code, _, err = run("hist", lengths, "--corrected", "1ms")
    assert (code, "counts tasks, not time" in err) == (2, True)


def test_units_survive_a_log(run: Run, tmp_path: Path) -> None:
    """Queue lengths do not become nanoseconds."""
    path = write(tmp_path / "n.tk", Content(histograms=[("runq.length", {"cpu": "0"}, [1, 2])], unit="tasks"))

    run("hist", path, "-o", tmp_path / "n.hlog")

    (row,) = series(run, tmp_path / "n.hlog")
    assert (row["unit"], row["metric"]) == ("tasks", "runq.length")


def test_confidence_is_of_the_events_by_time(run: Run, sample: Path) -> None:
    """The same intervals in text and JSON; a quantile lies in its own."""
    words = (sample, "--metric", "spawn.exec", "--confidence")
    (row,) = series(run, *words)

    code, out, _ = run("hist", *words)

    bounds: dict[str, dict[str, float]] = row["confidence"]  # type: ignore[assignment]
    quantiles: dict[str, float] = row["quantiles"]  # type: ignore[assignment]
    assert list(bounds) == ["0.5", "0.9", "0.95", "0.99"]
    for q in ("0.5", "0.9", "0.95"):
        assert bounds[q]["low"] <= quantiles[q] <= bounds[q]["high"]
    assert bounds["0.99"]["high"] is None
    assert (bounds["0.5"]["count"], bounds["0.5"]["level"]) == (210, 0.95)
    assert code == 0
    p99 = next(line.split() for line in out.splitlines() if line.split()[:1] == ["p99"])
    assert p99[3] == "?"
