"""What evaluating costs a training, in a report: steps of a known length beside evaluations of known times."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.sample import HOST, SECOND, START_NS, TARGET
from tracekit.histogram import of_values
from tracekit.recording.writer import Writer
from tracekit.records import WAITS, Clocks, Exemplar, HistogramDelta, Interval, Series, Tick, labels_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.conftest import Run

MS = 10**6
INTERVALS = 24
BUSY = range(8, 16)
"""Intervals through which an evaluation runs; it ends with the last of them."""


def span(role: str, name: str) -> Series:
    return Series("span.latency", labels_of({"role": role, "span": name}), "histogram", "ns")


def write(path: Path, step: str, busy_ns: int, idle_ns: int = 10 * MS, other: str = "evaluation") -> Path:
    """Write steps of 10 ms, or of *busy_ns* while another process evaluates, 50 a second."""
    rng = np.random.default_rng(5)
    with Writer(path, HOST, TARGET, Clocks(START_NS, 0, START_NS), {}) as writer:
        for number in range(INTERVALS):
            start = START_NS + number * SECOND
            values = np.full(50, busy_ns if number in BUSY else idle_ns) * rng.uniform(0.9, 1.1, 50)
            deltas, exemplars = [delta(writer, span("trainer", step), values)], []
            if number == BUSY[-1]:
                length = len(BUSY) * SECOND
                deltas.append(delta(writer, span("worker", other), np.array([length])))
                ident = writer.series(span("worker", other))
                began, none = START_NS + BUSY[0] * SECOND, (0,) * len(WAITS)
                exemplars = [Exemplar(ident, 1, 1, began, length, False, False, True, none, 0, 0)]
            writer.append(Tick(Interval(start, start + SECOND), histograms=deltas, exemplars=exemplars))
        writer.finish([], {"reason": "duration"})
    return path


def delta(writer: Writer, series: Series, values: np.ndarray) -> HistogramDelta:
    part = of_values(values.astype(np.uint64))
    slots = np.flatnonzero(part.counts)
    counts = part.counts[slots].tolist()
    return HistogramDelta(writer.series(series), slots.tolist(), counts, part.total, part.low, part.high)


@pytest.mark.parametrize("step", ["training.step", "train.step", "training"])
def test_a_training_that_is_slowed_down(run: Run, tmp_path: Path, step: str) -> None:
    """How much, how sure, of how many, and what the steps took: by the names that are usual."""
    path = write(tmp_path / "x.tk", step, busy_ns=15 * MS)

    _, out, _ = run("report", path)
    found = json.loads(run("report", path, "--json")[1])["training_impact"]

    text = " ".join(out.split())
    assert f"{step} takes 49.4 % longer while evaluation runs (95 %: " in text
    assert "400 steps inside, 800 outside inside: mean 14.9 ms, p50 14.9 ms, p99 16.5 ms" in text
    assert "outside: mean 9.99 ms, " in text
    assert (found["span"], found["during"]) == (step, "evaluation")
    assert found["slowdown"] == pytest.approx(0.5, abs=0.02)
    assert found["confidence"][0] < found["slowdown"] < found["confidence"][1]
    assert found["steps_inside"] == 400


def test_a_training_that_is_not(run: Run, tmp_path: Path) -> None:
    """A difference that the interval holds to be none is said to be that."""
    text = " ".join(run("report", write(tmp_path / "x.tk", "train.step", busy_ns=10 * MS))[1].split())

    assert "while evaluation runs (95 %: -" in text
    assert "within chance" in text


def test_too_few_steps_of_a_kind(run: Run, tmp_path: Path) -> None:
    """Said, not guessed."""
    path = write(tmp_path / "x.tk", "train.step", busy_ns=30 * SECOND, idle_ns=30 * SECOND)

    _, out, _ = run("report", path)
    found = json.loads(run("report", path, "--json")[1])["training_impact"]

    assert "train.step while evaluation runs: not compared, " in " ".join(out.split())
    assert found["slowdown"] is None
    assert found["reason"]


@pytest.mark.parametrize(("step", "other"), [("train.step", "validation"), ("step", "evaluation")])
def test_other_names_are_no_training(run: Run, tmp_path: Path, step: str, other: str) -> None:
    """Nothing is said of what nobody named so."""
    path = write(tmp_path / "x.tk", step, busy_ns=15 * MS, other=other)

    assert " while " not in run("report", path)[1]
    assert json.loads(run("report", path, "--json")[1])["training_impact"] is None


def test_not_of_one_role(run: Run, tmp_path: Path) -> None:
    """Trainer and evaluator are two processes: of one of them alone there is nothing to compare."""
    path = write(tmp_path / "x.tk", "train.step", busy_ns=15 * MS)

    assert " takes " not in run("report", path, "--role", "trainer")[1]
