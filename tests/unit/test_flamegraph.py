"""tracekit flamegraph: recordings and folded files to lines, JSON and a picture that needs nothing else."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from tests import golden
from tests.sample import write
from tracekit.analysis.flame import layout
from tracekit.report.flame_page import CELL, PAD, WIDTH
from tracekit.report.flamegraph import Picture, svg

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.conftest import Run

SVG = "{http://www.w3.org/2000/svg}"
SEEN = "note: 480 samples on CPU; code is known of 92.9 % of the time on CPU and blocked\n"
LOST = "note: lost while recording: 13 ring_full\nnote: 1 of 30 intervals lack data\n"


def picture(weights: dict[tuple[str, ...], float], unit: str = "samples") -> ET.Element:
    return ET.fromstring(svg(Picture(layout(weights), "title", unit)))


def frames(root: ET.Element) -> list[ET.Element]:
    return root.findall(f"{SVG}g[@class='frames']/{SVG}g")


def titles(root: ET.Element) -> list[str]:
    return [frame.findtext(f"{SVG}title") or "" for frame in frames(root)]


def head(root: ET.Element) -> list[str]:
    return [text.text or "" for text in root.iter(f"{SVG}text")]


def test_folded_lines_of_the_sample(run: Run, sample: Path) -> None:
    """Each thread's wall time, in ns; what is missing is said beside it."""
    code, out, err = run("flamegraph", sample)

    golden.check("flamegraph.folded", out)
    assert (code, err) == (0, SEEN + LOST)


def test_picture_of_the_sample(run: Run, sample: Path, tmp_path: Path) -> None:
    """The whole file, exactly: the same on every machine."""
    code, out, err = run("flamegraph", sample, "-o", tmp_path / "x.svg")

    golden.check("flamegraph.svg", (tmp_path / "x.svg").read_text("utf-8"))
    assert (code, out, err) == (0, "", f"wrote {tmp_path / 'x.svg'}\n{SEEN}{LOST}")


def test_picture_of_code(run: Run, tmp_path: Path) -> None:
    """Python, kernel and other code by colour, and the line that was no stack said in the picture."""
    lines = "Attaching 1 probe...\nmain;run (app.py:3);read;vfs_read_[k] 70\nmain;run (app.py:3) 20\nmain;gc 10\n"
    (tmp_path / "code.folded").write_text(lines)

    code, out, err = run("flamegraph", tmp_path / "code.folded", "--format", "svg", "--title", "code <1 & 2>")

    golden.check("flamegraph-code.svg", out)
    assert (code, err) == (0, "note: 1 line is not a folded stack and left out: line 1 is 'Attaching 1 probe...'\n")


def test_what_it_writes_it_reads(run: Run, sample: Path, tmp_path: Path) -> None:
    """The folded file of a recording gives the picture of the recording, in ns."""
    run("flamegraph", sample, "-o", tmp_path / "x.folded")

    _, direct, _ = run("flamegraph", sample, "--format", "svg", "--title", "t")
    _, around, _ = run("flamegraph", tmp_path / "x.folded", "--format", "svg", "--title", "t")
    assert titles(ET.fromstring(direct)) == titles(ET.fromstring(around))
    assert "wait4\n29.7 s · " in around


def test_part_of_a_recording(run: Run, sample: Path) -> None:
    """Two of thirty seconds of one role."""
    _, out, _ = run("flamegraph", sample, "--between", "10s", "12s", "--role", "supervisor")

    wait = "supervisor;supervisor;blocked;child;wait4"
    code = "main (supervisor.py);wait (subprocess.py);do_wait_[k]"
    cpu = "supervisor;supervisor;on-CPU"
    assert out.splitlines() == [f"{wait} 220000000", f"{wait};{code} 1760000000", f"{cpu} 12000000"]  # 2 s of each


@pytest.mark.parametrize(("cut", "intervals"), [("7.4s", 7), ("7.6s", 8)])
def test_adjacent_times_share_no_interval(run: Run, sample: Path, cut: str, intervals: int) -> None:
    """An interval belongs to where its middle lies, and what is cut adds up again."""
    parts = [run("flamegraph", sample, "--between", *times)[1] for times in (("0", cut), (cut, "1h"))]

    sums = [sum(int(line.rpartition(" ")[2]) for line in part.splitlines()) for part in parts]
    _, whole, _ = run("flamegraph", sample, "--json")
    assert sum(sums) == json.loads(whole)["total"]
    assert sums[0] * 30 == sum(sums) * intervals


def test_json_of_the_sample(run: Run, sample: Path) -> None:
    """All stacks with their exact weight."""
    code, out, _ = run("flamegraph", sample, "--json")

    document = json.loads(out)
    assert (code, document["unit"], document["malformed"]) == (0, "ns", [])
    assert {"frames": ["worker", "worker", "run queue"], "weight": 1_800_000_000} in document["stacks"]
    assert document["total"] == sum(stack["weight"] for stack in document["stacks"])


def test_folded_from_a_pipe(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """`perf script | stackcollapse-perf.pl | tracekit flamegraph -`."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a;b 2.5\r\na;b 1\r\n\r\n")))

    assert run("flamegraph", "-") == (0, "a;b 3.5\n", "")


def test_a_named_pipe_is_read_once(run: Run) -> None:
    """`tracekit flamegraph <(bcc's profile -f)`."""
    read, write_end = os.pipe()
    os.write(write_end, b"a;b 2\n")
    os.close(write_end)

    assert run("flamegraph", f"/dev/fd/{read}") == (0, "a;b 2\n", "")
    os.close(read)


def test_units_of_a_folded_file(run: Run, tmp_path: Path) -> None:
    """Samples unless it is said otherwise."""
    (tmp_path / "x.folded").write_text("malloc;grow 2500000\n")

    shown = [
        run("flamegraph", tmp_path / "x.folded", "--format", "svg", *more)[1] for more in ((), ("--unit", "bytes"))
    ]
    assert "2.5 M samples in 1 stack" in shown[0]
    assert "2.5 MB in 1 stack" in shown[1]


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (["run.tk", "--role", "nobody"], 2, "no stack begins with it\n  try: one of: supervisor, worker"),
        (["run.tk", "-o", "x.png"], 2, "cannot write x.png: its name does not say what"),
        (["run.tk", "--json", "-o", "x.svg"], 2, "cannot use --json with -o or --format"),
        (["run.tk", "--format", "svg", "-o", "run.tk"], 2, "cannot write run.tk: it is a file that is read"),
        (["run.tk", "-o", "no/x.svg"], 4, "cannot write no/x.svg: No such file or directory"),
        (["run.tk", "--unit", "samples"], 2, "cannot use --unit: the weights of a recording are ns"),
        (["run.tk", "--between", "5s", "5s"], 2, "cannot use --between: 5 s to 5 s ends before it begins"),
        (["run.tk", "--between", "99s", "100s"], 3, "the recording has no interval there\n  try: 0s to 30 s"),
        (["run.tk", "--between", "soon", "5s"], 2, "'soon' is not a number with a unit"),
        (["text", "--between", "1s", "2s"], 2, "text holds folded stacks, which have no times"),
        (["zero"], 0, ""),
        (["zero", "--format", "svg"], 3, "cannot draw a flame graph: no stack has a weight"),
        (["prose"], 4, "cannot read prose: no folded stacks (line 2 is 'Dear reader,')"),
        (["empty"], 4, "cannot read empty: no folded stacks (it is empty)"),
        (["binary"], 4, "cannot read binary: neither a recording nor folded stacks (binary)"),
        (["sqlite"], 4, "cannot read sqlite: "),
        (["missing"], 2, "cannot read missing: no such file"),
        (["."], 4, "cannot read .: Is a directory"),
        (["bare.tk"], 3, "cannot show bare.tk: no wall time was recorded"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, error: str
) -> None:
    """Every wrong input has its own words and exit code, and no traceback."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "run.tk")
    write(tmp_path / "bare.tk", intervals=0)
    files = {"text": b"a;b 1\n", "zero": b"a;b 0\n", "prose": b"\nDear reader,\n", "empty": b"", "binary": b"a\0 1\n"}
    for name, data in {**files, "sqlite": b"SQLite format 3\0" + bytes(100)}.items():
        (tmp_path / name).write_bytes(data)

    found, _, err = run("flamegraph", *words)

    assert found == code
    assert error in err
    assert "Traceback" not in err


def test_a_recording_that_is_not_complete_says_so(run: Run, tmp_path: Path) -> None:
    """A killed collector leaves less than it seems."""
    write(tmp_path / "cut.tk", losses=False, finish=False)

    _, _, err = run("flamegraph", tmp_path / "cut.tk")

    assert err == SEEN + "note: the recording is not complete: still growing, or its collector was killed\n"


def test_boxes_say_name_weight_and_shares() -> None:
    """Read without the script too, as the tooltip of each box."""
    root = picture({("a", "b <x>"): 2_500_000, ("a",): 7_500_000}, "ns")

    assert titles(root) == [
        "all\n10 ms",
        "a\n10 ms · 100 % of all",
        "b <x>\n2.5 ms · 25 % of all · 25 % of the box above",
    ]


def test_names_that_xml_has_no_letters_for() -> None:
    """Codes that XML forbids, and the end of the script's section, are text that anyone can read."""
    root = picture({("\0\uffff\ufffe\udcff", "]]></script><script>"): 1})

    assert [title.partition("\n")[0] for title in titles(root)] == [
        "all",
        r"\x00\uffff\ufffe\udcff",
        "]]></script><script>",
    ]


def test_text_stays_in_its_box() -> None:
    """Long, wide and tiny: a name is cut with …, and a box of less than three characters has none."""
    wide, narrow = ("名" * 300,), ("x" * 80, "y" * 80)
    root = picture({wide: 600, narrow: 396, ("tiny",): 4})

    rooms = {f.findtext(f"{SVG}title").partition("\n")[0][0]: f for f in frames(root)}
    for frame in frames(root):
        text, rect = frame.find(f"{SVG}text"), frame.find(f"{SVG}rect")
        cells = sum(2 if letter == "名" else 1 for letter in text.text) if text is not None else 0
        assert cells * CELL <= float(rect.get("width"))
    assert rooms["名"].findtext(f"{SVG}text").endswith("名…")
    assert rooms["t"].find(f"{SVG}text") is None


def test_boxes_fill_the_width() -> None:
    """The root reaches from margin to margin, and all else lies between."""
    root = picture({("a",): 1, ("b",): 2, ("c", "d"): 3})

    spans = [(float(r.get("x")), float(r.get("width"))) for r in (f.find(f"{SVG}rect") for f in frames(root))]
    assert spans[0] == (PAD, WIDTH - 2 * PAD)
    assert all(left >= PAD and left + wide <= WIDTH - PAD + 0.01 for left, wide in spans)


def test_merged_boxes_are_said() -> None:
    """How many frames are not drawn, and below which share."""
    weights = {("a", f"f{n}"): 1.0 for n in range(30_000)} | {("a", "hot"): 70_000.0}

    root = picture(weights)

    assert "30,000 frames under 0.01 % merged" in head(root)[1]
    assert titles(root)[-1].startswith("30,000 frames too narrow to draw\n30,000 samples · 30 % of all")


def test_legend_names_what_is_there() -> None:
    """Each colour with the share of what ends in it; blocking as a whole before its reasons, unknown ones too."""
    root = picture(
        {("w", "t", "blocked", "disk", "fsync"): 3, ("w", "t", "blocked", "magic", "-"): 1, ("w", "t", "on-CPU"): 6}
    )

    words = ["on-CPU 60 %", "blocked 40 %:", "disk 30 %", "magic 10 %", "role, thread"]
    assert head(root)[3:8] == words
    swatches = [g.get("class") for g in root.findall(f"{SVG}g[@class='head']/{SVG}g")]
    assert swatches == ["c", "b", "b-disk", "b-other", "w"]


def test_picture_is_self_contained_and_strict() -> None:
    """No address but the name spaces', no code outside the one script, nothing that a strict policy refuses."""
    text = svg(Picture(layout({("a", "b"): 1}), "t", "samples"))

    assert set(re.findall(r"\w+://[^\s\"'`)]+", text)) == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xhtml"}
    assert not re.search(
        r"\beval\b|innerHTML|outerHTML|new Function|fetch\(|import\(|@import|url\(|\son\w+=|\sstyle=", text
    )
    assert text.count("]]>") == 2


def test_script_and_style_never_change() -> None:
    """So that a Content-Security-Policy can allow them by hash."""
    texts = [svg(Picture(layout({(name,): 1}), name, "ns")) for name in ("a", "b")]

    parts = [re.findall(r"<(style|script)>(.*?)</\1>", text, re.DOTALL) for text in texts]
    assert parts[0] == parts[1]
    assert [name for name, _ in parts[0]] == ["style", "script"]
