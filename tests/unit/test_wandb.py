"""Rows for Weights & Biases: what is in them, and that the real package takes them, without a network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tracekit import probe
from tracekit.errors import TracekitError
from tracekit.recording.reader import Recording
from tracekit.wandb import SECONDS, Live, _key, log_recording

ROOT = Path(__file__).parents[2]


class Rows(list):
    """Takes what a run takes."""

    def __init__(self):
        super().__init__()
        self.commits = []
        self.axes = {}

    def log(self, data, *, commit=None):
        self.append(data)
        self.commits.append(commit)

    def define_metric(self, name, *, step_metric):
        self.axes[name] = step_metric


# --- a recording ----------------------------------------------------------------------------------------------------


def test_a_recording_becomes_one_row_a_window(sample):
    """30 intervals of a second are four windows of 8; the last one is shorter."""
    rows = Rows()

    count = log_recording(sample, rows, window="8s")

    assert count == len(rows) == 4
    assert [row[SECONDS] for row in rows] == [8, 16, 24, 30]
    assert rows.axes == {"tracekit/*": SECONDS}
    assert set(rows.commits) == {True}


def test_a_row_says_what_the_recording_says(sample):
    """Histograms of the window in ms, counters per second, time per time, gauges as their mean."""
    rows = Rows()
    log_recording(sample, rows, window=8)

    with Recording(sample) as recording:
        ((series, part),) = recording.histograms("spawn.ready", between=(8, 16)).items()

    spawns = "/".join(["tracekit/spawn.ready", *map("=".join, series.labels)])
    assert rows[1][f"{spawns}/n"] == part.count
    assert rows[1][f"{spawns}/p95_ms"] == part.quantile(0.95) / 1e6
    assert rows[1][f"{spawns}/max_ms"] == part.high / 1e6
    assert f"{spawns}/p99_ms" not in rows[1]  # of 56 events it would be the largest
    assert rows[3]["tracekit/migrations/role=worker/per_s"] == pytest.approx(17)
    assert rows[3]["tracekit/psi/kind=some/resource=cpu/share"] == pytest.approx(0.21)
    assert rows[0]["tracekit/rss"] == 150_000_000


def test_metrics_can_be_chosen(sample):
    """By the beginnings of their names."""
    rows = Rows()

    log_recording(sample, rows, window=60, metrics=["host.cpu", "runq.wait"])

    (row,) = rows
    assert {key.split("/")[1] for key in row} == {"seconds", "host.cpu", "runq.wait"}


def test_what_is_no_recording_is_refused(tmp_path):
    """With the words of every other command."""
    with pytest.raises(TracekitError):
        log_recording(tmp_path / "none.tk", Rows())


def test_no_name_breaks_a_key():
    """Traced programs choose names; two of them never share a key."""
    assert _key("runq.wait", {"role": "a/b"}, "n") == "tracekit/runq.wait/role=a%2Fb/n"
    assert _key("x", {"role": "\x1b[2J\n"}, "n") == "tracekit/x/role=%1B%5B2J%0A/n"
    assert _key("x", {"role": "a%2Fb"}, "n") != _key("x", {"role": "a/b"}, "n")


# --- live -----------------------------------------------------------------------------------------------------------


def test_live_logs_what_each_window_added():
    """Increases, not sums since the start; what happened before it began is not in it; the end has a row."""
    rows = Rows()
    evaluation, games = probe.Kind("wandb.evaluation", lane="a"), probe.counter("wandb.games")
    with evaluation():
        games.add(1000)

    with Live(rows, every=0.3):
        with evaluation():
            time.sleep(0.02)
        games.add(5)
        probe.gauge("wandb.level").set(7)
        time.sleep(0.5)
        with pytest.raises(OSError), evaluation():
            raise OSError

    base = "tracekit/wandb.evaluation/lane=a"
    assert [(row[f"{base}/n"], row[f"{base}/failed"]) for row in rows] == [(1, 0), (1, 1)]
    assert 20 <= rows[0][f"{base}/mean_ms"] < 300
    seconds = rows[0][SECONDS]
    assert rows[0]["tracekit/app.wandb.games/per_s"] == pytest.approx(5 / seconds, rel=0.01)
    assert rows[1]["tracekit/app.wandb.games/per_s"] == 0
    assert rows[1]["tracekit/app.wandb.level"] == 7


def test_live_can_leave_the_rows_to_the_program():
    """One that numbers its steps would lose those below ours."""
    rows = Rows()

    with Live(rows, every=60, commit=False):
        pass

    assert rows.commits == [False]


# --- the real package -----------------------------------------------------------------------------------------------


OFFLINE = """
import sys, time
import wandb
from tracekit import probe
from tracekit.wandb import Live, log_recording

with wandb.init(mode="offline", project="agents", dir=sys.argv[1], settings=wandb.Settings(silent=True)) as run:
    with Live(run, every=0.2):
        for _ in range(3):
            with probe.span("evaluation"):
                time.sleep(0.1)
    log_recording(sys.argv[2], run, window="10s")
"""


def test_the_real_package_takes_the_rows(tmp_path, sample):
    """Offline, into its own file: each row is a history record with its numbers, in its order."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "WANDB_MODE": "offline"}
    command = [sys.executable, "-c", OFFLINE, str(tmp_path), str(sample)]
    subprocess.run(command, env=environment, check=True, timeout=120)

    history = list(histories(next(tmp_path.glob("wandb/offline-run-*/*.wandb"))))

    live = [row for row in history if "tracekit/evaluation/n" in row]
    recorded = [row for row in history if "tracekit/rss" in row]
    assert sum(row["tracekit/evaluation/n"] for row in live) == 3
    assert [row[SECONDS] for row in recorded] == [10, 20, 30]
    assert recorded[0]["tracekit/rss"] == 150_000_000


def histories(path):
    """Yield the rows in a file of wandb: records in the format of LevelDB's log, after 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, parts = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # no room for a header at the end of a block
            at += 32768 - at % 32768
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        parts += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in {1, 4}:  # whole, or the last part
            record, parts = Record.FromString(parts), b""
            if record.HasField("history"):
                items = record.history.item
                yield {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
