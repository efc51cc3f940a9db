"""tracekit flamegraph --diff: what changed, as shares of each side, and what is gone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import golden
from tests.sample import write
from tracekit.analysis import stackdiff
from tracekit.analysis.stackdiff import Gone
from tracekit.errors import EmptyHistogramError
from tracekit.report.flamediff import Picture, changed, svg

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.conftest import Run

BEFORE = {("a", "b"): 50, ("a", "c", "x"): 20, ("a", "c", "y"): 10, ("d",): 20}
AFTER = {("a", "b"): 700, ("d",): 199, ("e <i>",): 101}

stacks = st.dictionaries(st.lists(st.sampled_from("abc"), max_size=4).map(tuple), st.integers(1, 99), min_size=1)


def titles(text: str) -> list[str]:
    root = ET.fromstring(text)
    return [title.text or "" for title in root.iter("{http://www.w3.org/2000/svg}title")]


def test_boxes_say_both_shares() -> None:
    """Ten times the weight is no change; what is new says so, what is gone stands below with all upon it."""
    text = svg(Picture(stackdiff.compare(BEFORE, AFTER), "t", ("samples", "samples")))

    assert titles(text) == [
        "all\n100 % of all · before 100 % · no change",
        "a\n70 % of all · before 80 % · -10 points",
        "b\n70 % of all · before 50 % · +20 points",
        "d\n19.9 % of all · before 20 % · -0.1 points",
        "e <i>\n10.1 % of all · new · +10.1 points",
        "a;c\n30 % of before",
    ]
    assert "gone: 30 % of before, in 1 frame with their callees" in text


def test_colours_tell_how_much() -> None:
    """Steps of share at 0.1, 0.5, 2 and 8 points, each reached by its own number."""
    before = {("same",): 9000, ("l1",): 110, ("g1",): 90, ("l4",): 800, ("g3",): 0}
    after = {("same",): 9495, ("l1",): 100, ("g1",): 100, ("g3",): 205, ("g2",): 100}

    root = ET.fromstring(svg(Picture(stackdiff.compare(before, after), "t", ("samples", "samples"))))

    boxes = root.findall(".//*[@class='frames']/*")
    classes = {box[0].text.partition("\n")[0]: box.get("class").split()[1] for box in boxes}
    assert classes == {"all": "a", "g1": "g1", "g2": "g2", "g3": "g3", "l1": "l1", "same": "g3"}


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [(0.5, 0.525, "+2.5 points"), (0.5, 0.25, "-25 points"), (0.5, 0.50004, "no change"), (0, 0.0001, "+0.01 points")],
)
def test_changes_in_words(before: float, after: float, words: str) -> None:
    """In percentage points, with a sign."""
    assert changed(before, after) == words


@given(stacks, stacks)
def test_every_share_is_shown_or_gone(before: dict, after: dict) -> None:
    """Stacks that are there before are in boxes up to where they are gone; shares add up to 1 on both sides."""
    found = stackdiff.compare(before, after)
    shares = stackdiff.shares(before, after)

    for side in (0, 1):
        assert sum(share[side] for share in shares.values()) == pytest.approx(1)
    prefixes = {stack[:depth] for stack in after for depth in range(len(stack) + 1)}
    gone = sum(weight for stack, weight in before.items() if stack not in prefixes) / sum(before.values())
    assert sum(part.share for part in found.gone) == pytest.approx(gone)
    assert found.before[0] == 1


def test_only_the_largest_that_are_gone_are_listed() -> None:
    """Twenty, and how many there were."""
    before = {("a",): 1000} | {(f"gone {n}",): n for n in range(1, 26)}

    found = stackdiff.compare(before, {("a",): 1})

    text = svg(Picture(found, "t", ("ns", "ns")))
    assert "in 25 frames with their callees, the largest 20" in text
    assert found.gone[0] == Gone(("gone 25",), 25 / 1325)
    assert sum(title.startswith("gone ") for title in titles(text)) == 20


def test_nothing_is_no_side() -> None:
    """No weight is not the same as no change."""
    for compare in (stackdiff.compare, stackdiff.shares):
        with pytest.raises(EmptyHistogramError, match="cannot compare stacks"):
            compare({("a",): 0}, {("a",): 1})


def test_folded_files_and_their_picture(run: Run, tmp_path: Path) -> None:
    """The whole picture, exactly; lines and JSON have both shares of every stack."""
    (tmp_path / "a.folded").write_text("main;run (app.py);read_[k] 30\nmain;run (app.py);old (x.py) 10\nmain;log 60\n")
    (tmp_path / "b.folded").write_text("main;run (app.py);read_[k] 20\nmain;log 10\nmain;new 10\nno stack\n")
    files = (tmp_path / "a.folded", "--diff", tmp_path / "b.folded")

    code, picture, err = run("flamegraph", *files, "--format", "svg")
    _, lines, _ = run("flamegraph", *files)
    _, document, _ = run("flamegraph", *files, "--json")

    golden.check("flamegraph-diff.svg", picture)
    assert (code, err) == (0, "note: 1 line is not a folded stack and left out: line 4 is 'no stack'\n")
    assert lines.splitlines() == [
        "main;log 0.6 0.25",
        "main;new 0 0.25",
        "main;run (app.py);old (x.py) 0.1 0",
        "main;run (app.py);read_[k] 0.3 0.5",
    ]
    assert json.loads(document)["stacks"][1] == {"frames": ["main", "new"], "before": 0, "after": 0.25}


def test_recordings_and_folded_files_alike(run: Run, tmp_path: Path) -> None:
    """A recording against its own folded file changed in nothing; the notes of both sides are there."""
    write(tmp_path / "run.tk")
    run("flamegraph", tmp_path / "run.tk", "-o", tmp_path / "run.folded")

    code, out, err = run("flamegraph", tmp_path / "run.tk", "--diff", tmp_path / "run.folded", "--format", "svg")

    shown = titles(out)
    assert code == 0
    assert len(shown) > 10
    assert all(title.endswith("no change") for title in shown)
    assert "note: before: lost while recording" in err


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (["--diff", "b", "--format", "pprof"], 2, "cannot write pprof of --diff: it has one weight a stack"),
        (["--diff", "missing"], 2, "cannot read missing: no such file"),
        (["--diff", "zero"], 3, "cannot compare stacks: none of one side has a weight"),
        (["--diff", "b", "--role", "x"], 2, "cannot show role x: no stack begins with it"),
        (["--diff", "b", "--tail", "p99", "--span", "s"], 2, "cannot use --diff with --tail"),
    ],
)
def test_what_cannot_be_compared(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, error: str
) -> None:
    """One line each."""
    monkeypatch.chdir(tmp_path)
    for name, text in {"a": "m;f 1\n", "b": "m;g 1\n", "zero": "m;f 0\n"}.items():
        (tmp_path / name).write_text(text)

    found, _, err = run("flamegraph", "a", *words)

    assert found == code
    assert error in err
