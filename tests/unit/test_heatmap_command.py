"""tracekit heatmap: what it prints and writes, and how it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.unit.ticking import Ticks, write
from tracekit.recording.reader import Recording

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.conftest import Run

RUNQ = ("--metric", "runq.wait")


def test_without_a_terminal_it_is_ascii_of_80_by_24(run: Run, sample: Path) -> None:
    """A pipe, a log and a mail get no escape sequence."""
    code, out, err = run("heatmap", sample, *RUNQ, "--limit", "1ms")

    assert (code, err) == (0, "")
    assert out.isascii()
    assert "\x1b" not in out
    assert len(out.splitlines()) < 24
    assert max(map(len, out.splitlines())) <= 80
    assert "13,500 events" in out


def test_json_has_every_interval_and_every_event(run: Run, sample: Path) -> None:
    """A column is an interval; rows and columns add up to what the recording holds."""
    found = json.loads(run("heatmap", sample, *RUNQ, "--limit", "1ms", "--json")[1])

    counts = np.array(found["counts"])
    with Recording(sample) as recording:
        parts = recording.histograms("runq.wait")
        each = [sum(p.count for p in recording.histograms("runq.wait", between=(n, n + 1)).values()) for n in range(30)]
    assert counts.shape == (len(found["row_edges"]) - 1, 30)
    assert counts.sum() == found["count"] == sum(part.count for part in parts.values())
    assert counts.sum(axis=0).tolist() == [column["count"] for column in found["columns"]] == each
    assert found["incomplete"] == [11]
    assert found["gaps"] == []
    assert found["lost"] == {"ring_full": 13}
    assert [column["start_ns"] for column in found["columns"][:2]] == [0, 10**9]
    assert all(column["p50"] <= column["p99"] for column in found["columns"])


def test_json_limits_agree_with_the_cells(run: Run, sample: Path) -> None:
    """The share above a limit is that of the rows above it."""
    found = json.loads(run("heatmap", sample, *RUNQ, "--limit", "1ms", "--limit", "80us", "--json")[1])

    assert [limit["limit"] for limit in found["limits"]] == [80_000, 1_000_000]
    rows = np.array(found["counts"]).sum(axis=1)
    for limit in found["limits"]:
        above = rows[np.array(found["row_edges"][:-1]) > limit["limit"]].sum()
        assert above / found["count"] == limit["share_above"]


def test_where_and_between_choose(run: Run, sample: Path) -> None:
    """Only the wanted series and the wanted time are drawn, at their own times."""
    words = ("--metric", "offcpu", "--where", "role=worker", "--where", "reason=disk", "--between", "10s", "20s")
    found = json.loads(run("heatmap", sample, *words, "--json")[1])

    assert found["labels"] == {"reason": "disk", "role": "worker"}
    assert found["count"] == 10 * 101
    assert (found["columns"][0]["start_ns"], found["columns"][-1]["end_ns"]) == (10 * 10**9, 20 * 10**9)
    assert found["incomplete"] == [1]


def test_svg_and_png_are_written(run: Run, sample: Path, tmp_path: Path) -> None:
    """The suffix says which, in either case; stdout stays empty, stderr names the file."""
    for name, head in (("map.svg", b"<svg"), ("map.PNG", b"\x89PNG")):
        code, out, err = run("heatmap", sample, *RUNQ, "-o", tmp_path / name)

        assert (code, out, err) == (0, "", f"wrote {tmp_path / name}\n")
        assert (tmp_path / name).read_bytes().startswith(head)
    ET.parse(tmp_path / "map.svg")


def test_without_pillow_a_png_cannot_be_drawn(
    run: Run, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line says which package brings it; nothing is written."""
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.delitem(sys.modules, "tracekit.report.heatmap_png", raising=False)
    monkeypatch.delattr("tracekit.report.heatmap_png", raising=False)

    code, out, err = run("heatmap", sample, *RUNQ, "-o", tmp_path / "map.png")

    assert (code, out) == (4, "")
    assert "without Pillow" in err
    assert "pip install 'tracekit[png]'" in err
    assert not (tmp_path / "map.png").exists()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ([], 2, "no --metric, the recording has blocked, loop.busy, offcpu, oncpu"),
        (["--metric", "runq.wiat"], 2, "the recording has blocked, loop.busy, offcpu, oncpu"),
        (["--metric", "rss"], 2, "no histogram has this metric"),
        ([*RUNQ, "--where", "rule=worker"], 2, "the recording has role"),
        ([*RUNQ, "--where", "role=postgres"], 3, "try: role=supervisor, role=worker"),
        ([*RUNQ, "--where", "worker"], 2, "not label=value"),
        ([*RUNQ, "--where", "role=worker", "--where", "role=x"], 2, "given twice"),
        ([*RUNQ, "--between", "40s", "50s"], 3, "no interval there"),
        ([*RUNQ, "--limit", "fast"], 2, "not a number"),
        ([*RUNQ, "--limit", "2h"], 2, "values go up to 1 h 13 min"),
        ([*RUNQ, "-o", "map.pdf"], 2, "a name in .svg or .png"),
        ([*RUNQ, "-o", "map.svg", "--json"], 2, "goes to stdout"),
        ([*RUNQ, "-o", "/nowhere/map.svg"], 4, "No such file or directory"),
    ],
)
def test_refusals_say_what_to_do(run: Run, sample: Path, words: list[str], code: int, says: str) -> None:
    """One line, the right exit code, no result."""
    found, out, err = run("heatmap", sample, *words)

    assert (found, out) == (code, "")
    assert says in err
    assert "Traceback" not in err


def test_no_events_in_this_time_is_no_picture(run: Run, tmp_path: Path) -> None:
    """A known metric without events is exit 3, never an empty map."""
    path = write(tmp_path / "late.tk", Ticks([[5000], [], [], []]))

    code, out, err = run("heatmap", path, *RUNQ, "--between", "2s", "4s")

    assert (code, out) == (3, "")
    assert "no events in this time" in err


def test_lengths_are_tasks(run: Run, tmp_path: Path) -> None:
    """Queue lengths are read as numbers, and so is their limit."""
    ticks = Ticks([[0, 0, 1, 3]] * 20, metric="runq.length", labels={"cpu": "0"}, unit="tasks")
    path = write(tmp_path / "lengths.tk", ticks)
    words = ("heatmap", path, "--metric", "runq.length", "--limit")

    assert "25 % of the events (20) are above the limit of 2 tasks" in run(*words, "2")[1].replace("\n", " ")
    assert run(*words, "2ms")[0] == 2


def test_gaps_and_loss_come_from_the_recording(run: Run, tmp_path: Path) -> None:
    """What the recording knows to lack is in the numbers."""
    path = write(tmp_path / "gap.tk", Ticks([[5000]] * 6, starts=[0, 1, 2, 7, 8, 9], lossy={4}))

    found = json.loads(run("heatmap", path, *RUNQ, "--json")[1])

    assert found["gaps"] == [3]
    assert found["incomplete"] == [5]
    assert found["columns"][3] == {"start_ns": 3 * 10**9, "end_ns": 7 * 10**9, "count": 0, "p50": None, "p99": None}


def test_the_recording_is_not_overwritten(run: Run, tmp_path: Path) -> None:
    """A recording may be called anything, even map.svg."""
    path = write(tmp_path / "map.svg", Ticks([[5000]]))

    code, _, err = run("heatmap", path, *RUNQ, "-o", path)

    assert code == 2
    assert "a file that is read" in err
    assert path.read_bytes().startswith(b"SQLite")


def test_a_tiny_terminal_gets_a_picture_too(run: Run, sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A screen that is too small for the words scrolls; it does not break."""
    monkeypatch.setenv("COLUMNS", "1")
    monkeypatch.setenv("LINES", "1")

    code, out, _ = run("heatmap", sample, *RUNQ)

    assert code == 0
    assert "13,500" in out


@pytest.mark.parametrize(
    ("environ", "codes"),
    [
        ({"FORCE_COLOR": "1", "COLORTERM": "truecolor"}, "\x1b[38;2;"),
        ({"FORCE_COLOR": "1", "TERM": "xterm-256color"}, "\x1b[38;5;"),
        ({"FORCE_COLOR": "1", "COLORTERM": "truecolor", "NO_COLOR": "1"}, ""),
        ({"FORCE_COLOR": "1", "COLORTERM": "truecolor", "TERM": "dumb"}, ""),
        ({"FORCE_COLOR": "1", "COLORTERM": "truecolor", "PYTHONIOENCODING": "latin-1"}, ""),
        ({"COLORTERM": "truecolor"}, ""),
    ],
)
def test_colour_as_the_terminal_has_it(sample: Path, environ: dict[str, str], codes: str) -> None:
    """24 bits, 256 colours, or plain ASCII; NO_COLOR and TERM=dumb win."""
    words = [sys.executable, "-m", "tracekit", "heatmap", str(sample), *RUNQ]
    done = subprocess.run(words, env={"PYTHONUTF8": "1", **environ}, capture_output=True, check=True)

    text = done.stdout.decode()
    assert (codes in text) if codes else ("\x1b" not in text and text.isascii())
