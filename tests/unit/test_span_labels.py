"""A span is a label like any other: what is shown by series is shown by span."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from tests import sample_spans
from tests.sample import INTERVALS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.conftest import Run

EVALUATIONS = INTERVALS * sum(mode.rate for mode in sample_spans.MODES if mode.labels["span"] == "evaluation")
SPAN = ["--metric", "span.latency", "--where", "span=evaluation"]


def test_hist_of_a_span(run: Run, sample: Path) -> None:
    """Its latencies, by themselves and beside those of others; and what the kernel measured inside."""
    _, every, _ = run("hist", sample)
    _, by_span, _ = run("hist", sample, "--metric", "span.latency", "--by", "span")
    document = json.loads(run("hist", sample, *SPAN, "--json")[1])
    inside = json.loads(run("hist", sample, "--where", "span=agent.spawn", "--json")[1])

    assert re.search(r"^span\.latency  role=worker\n  evaluation +3,030 ", every, re.MULTILINE)
    assert re.findall(r"^  (\S+) +[\d,]+  ", by_span, re.MULTILINE)[:4] == [
        "all",
        "evaluation",
        "db.query",
        "agent.spawn",
    ]
    assert [(one["labels"]["span"], one["count"]) for one in document["series"]] == [("evaluation", EVALUATIONS)]
    assert {one["metric"] for one in inside["series"]} == {
        "span.latency",
        "spawn.first_run",
        "spawn.exec",
        "spawn.ready",
    }


def test_heatmap_of_a_span(run: Run, sample: Path) -> None:
    """Every event of it is in a cell."""
    document = json.loads(run("heatmap", sample, *SPAN, "--json")[1])

    assert document["labels"] == {"role": "worker", "span": "evaluation"}
    assert document["count"] == EVALUATIONS


@pytest.mark.parametrize("command", ["hist", "heatmap"])
def test_an_unknown_span_has_no_events(run: Run, sample: Path, command: str) -> None:
    """The names there are come with the refusal."""
    code, out, err = run(command, sample, "--metric", "span.latency", "--where", "span=evalution")

    assert (code, out) == (3, "")
    assert "span=agent.spawn, span=db.query, span=evaluation" in err


def test_objectives_of_spans(run: Run, sample: Path, tmp_path: Path) -> None:
    """Latency, rate and failures of a span, with labels of its own; and the turns of an event loop."""
    (tmp_path / "sla.toml").write_text("""
        [[objective]]
        series = 'span.latency{span="evaluation"}'
        p50 = "< 5s"
        rate = "> 50/s"
        [[objective]]
        series = 'span.latency{span="db.query",system="postgresql"}'
        p95 = "< 2ms"
        [[objective]]
        series = 'span.errors{span="evaluation",type="TimeoutError"}'
        rate = "< 10/s"
        [[objective]]
        series = 'span.errors{span="evaluation"}'
        rate = "< 1/s"
        [[objective]]
        series = 'loop.busy{thread="worker"}'
        p50 = "< 100ms"
        [[objective]]
        series = 'span.latency{span="no.such.span"}'
        p50 = "< 5s"
    """)

    code, out, _ = run("verdict", sample, "-s", tmp_path / "sla.toml", "--json")

    found = json.loads(out)["objectives"]
    assert [one["state"] for one in found] == ["PASS", "PASS", "FAIL", "PASS", "FAIL", "PASS", "NOT MEASURED"]
    assert found[1]["value"] == pytest.approx(EVALUATIONS / INTERVALS)
    assert found[4]["value"] == pytest.approx(3)
    assert "evaluation" in found[6]["reason"]
    assert code == 1
