"""The flame graphs inside of a heat map: which cell has which, exact sums, a bounded size, names that do nothing."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.ticking import Ticks, write
from tracekit.commands import cellcode
from tracekit.recording.reader import Recording
from tracekit.report.heatmap_flames import About, Flames, Part, embed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.conftest import Run

    Draw = Callable[..., str]

SVG = "{http://www.w3.org/2000/svg}"
SPANS = ("--metric", "span.latency", "--where", "span=evaluation")
DISK = ("--metric", "offcpu", "--where", "role=worker", "--where", "reason=disk")
ABOUT = About("t", by_cell=True, bare=frozenset({1, 2}))
EVIL = "</metadata><script>top.bad = 1</script>]]>&\x1b\ufffe\ud800 <b>"


@pytest.fixture
def draw(run: Run, sample: Path, tmp_path: Path) -> Draw:
    """Return a function from options of `tracekit heatmap` to the picture."""

    def call(*words: str, recording: Path = sample) -> str:
        code, _, err = run("heatmap", recording, *words, "-o", tmp_path / "x.svg")
        assert code == 0, err
        return (tmp_path / "x.svg").read_text("utf-8")

    return call


def graphs(picture: str) -> dict[str, Any]:
    return json.loads(ET.fromstring(picture).findtext(f"{SVG}metadata") or "")


def clicked(picture: str) -> list[tuple[str, str]]:
    """Return title and graph of each cell."""
    rects = [rect for rect in ET.fromstring(picture).iter(f"{SVG}rect") if "data-graph" in rect.attrib]
    return [(rect.findtext(f"{SVG}title") or "", rect.attrib["data-graph"]) for rect in rects]


def boxes(graph: list[Any]) -> list[tuple[int, int]]:
    """Return frame and own ns of each box."""
    found, numbers = [], iter(graph[0])
    for number in numbers:
        if number < 0:
            found.append((-1 - number, 0))
        else:
            _, own, _ = (next(numbers) for _ in range(3))
            found.append((number, own))
    return found


def total(graph: list[Any]) -> int:
    return sum(own for _, own in boxes(graph))


def frames(data: dict[str, Any], graph: list[Any]) -> list[str]:
    return [data["words"][data["frames"][frame][0]] for frame, _ in boxes(graph)]


def notes(data: dict[str, Any], graph: list[Any]) -> list[str]:
    return [data["words"][word] for word in graph[2]]


def part(row: int, weights: dict[tuple[str, ...], int]) -> Part:
    return Part(((row, 0),), {("r", "s", *stack): ns for stack, ns in weights.items()}, "spans", (), code=True)


def made(parts: list[Part], limit: int = 4_000_000) -> tuple[Flames, dict[str, Any]]:
    found = embed(ABOUT, parts, len(parts), limit)
    assert found
    return found, json.loads(found.data)


def test_cells_of_spans_add_up_to_their_latencies(draw: Draw, sample: Path) -> None:
    """The graphs of a column hold what the spans that ended then took, to the nanosecond, each in one cell."""
    picture = draw(*SPANS)

    data, cells = graphs(picture), clicked(picture)
    with Recording(sample) as recording:
        for second in (0, 7, 29):
            latency = sum(
                h.total
                for h in recording.histograms("span.latency", {"span": "evaluation"}, (second, second + 1)).values()
            )
            mine = [number for title, number in cells if re.match(rf"{second} s to|{second * 1000} ms to", title)]
            assert sum(total(data["graphs"][int(number)]) for number in mine) == latency
            assert len(mine) == len(set(mine)) > 5


def test_a_slow_cell_shows_what_it_waited_for(draw: Draw, sample: Path) -> None:
    """State first, then the code of the program without its interpreter and its lines."""
    picture = draw(*SPANS)

    data = graphs(picture)
    title, number = clicked(picture)[-1]
    assert title.startswith("29 s to 30 s\n1")
    assert frames(data, data["graphs"][int(number)]) == [
        *("all", "blocked: lock", "main (agent.py)", "run (agent.py)", "evaluate (app/eval.py)"),
        *("acquire (app/pool.py)", "+0x1f2e3 (libc.so.6)", "futex_wait_[k]"),
        *("blocked: network", "on-CPU", "run queue"),
    ]


def test_rows_of_spans_are_what_stacks_are_kept_by(draw: Draw, sample: Path) -> None:
    """So a graph is of its cell alone; where a limit cuts a row it says of which spans it is."""
    exact, cut = (graphs(draw(*SPANS, *limit)) for limit in ((), ("--limit", "10.7ms")))

    of_more = [
        [n for n in notes(data, one) if n.startswith("of all spans of")]
        for data in (exact, cut)
        for one in data["graphs"]
    ]
    assert not any(of_more[: len(exact["graphs"])])
    assert "of all spans of 10.5 ms to 11.5 ms, as stacks are kept by those" in {n for some in of_more for n in some}


def test_spans_of_several_names_keep_them(draw: Draw, sample: Path) -> None:
    """Role and span come before the state where they can differ."""
    data = graphs(draw("--metric", "span.latency"))

    assert {"evaluation", "agent.spawn"} <= {name for graph in data["graphs"] for name in frames(data, graph)}


def test_cells_of_waits_share_their_column(draw: Draw, sample: Path) -> None:
    """All waits for that reason at that time, as long as the account says; and the picture says so."""
    picture = draw(*DISK)

    data, cells = graphs(picture), clicked(picture)
    first = {number for title, number in cells if title.startswith("0 s to 1 s")}
    assert first == {"0"}
    assert {number for _, number in cells} == {str(number) for number in range(30)}
    assert [total(graph) for graph in data["graphs"]] == [300_000_000] * 30
    assert frames(data, data["graphs"][0])[:5] == ["all", "blocked", "disk", "fsync", "main (agent.py)"]
    assert notes(data, data["graphs"][0])[-2:] == [
        "code is known of 83.3 % of the time",
        "stacks are not kept by latency, so it is all of this time of role worker; reason disk",
    ]


@pytest.mark.parametrize(
    ("words", "expected_ns"),
    [
        (("--metric", "blocked", "--where", "syscall=wait4"), 990_000_000),
        (("--metric", "oncpu", "--where", "role=worker"), 410_000_000),
        (("--metric", "runq.wait", "--where", "role=worker"), 1_980_000_000),
        (("--metric", "runq.wake", "--where", "role=worker"), 1_980_000_000),
    ],
)
def test_each_metric_of_threads_has_its_time(draw: Draw, words: tuple[str, ...], expected_ns: int) -> None:
    """Of the same role, reason or call; of waits for a CPU all that the role did."""
    data = graphs(draw(*words))

    assert {total(graph) for graph in data["graphs"]} == {expected_ns}
    assert not any("left out" in note for graph in data["graphs"] for note in notes(data, graph))


def test_without_stacks_the_picture_is_as_before(draw: Draw, sample: Path, tmp_path: Path) -> None:
    """No script, no data, nothing to click: of a recording without stacks, and of what has none."""
    old = write(tmp_path / "old.tk", Ticks([[5000] * 20] * 4))

    for recording, metric in ((old, "runq.wait"), (sample, "process.lifetime"), (sample, "loop.busy")):
        picture = draw("--metric", metric, recording=recording)
        assert not re.search("<script|<metadata", picture)
        assert not clicked(picture)


def test_many_cells_share_the_room() -> None:
    """The data stays below its limit: narrow boxes are merged first, and each graph still adds up."""
    many = {(f"state{number % 3}", f"frame{number} (a.py)"): 1000 + number for number in range(500)}
    parts = [part(row, many) for row in range(40)]

    whole, rich = made(parts)
    small, poor = made(parts, 60_000)
    assert len(small.data) < 61_000 < len(whole.data)
    assert not small.left_out
    assert {total(graph) for data in (rich, poor) for graph in data["graphs"]} == {sum(many.values())}
    assert any("frames too narrow to draw" in name for name in frames(poor, poor["graphs"][0]))


def test_what_does_not_fit_is_left_out_and_said(
    run: Run, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On stderr, and on a click: the cell is marked."""
    monkeypatch.setattr(cellcode, "embed", partial(embed, limit=9_000))

    _, _, err = run("heatmap", sample, *SPANS, "-o", tmp_path / "x.svg")

    picture = (tmp_path / "x.svg").read_text("utf-8")
    marked = [title for title, number in clicked(picture) if number == "-"]
    assert f"note: the flame graphs of {len(marked)} cells are left out, the file would be too large" in err
    assert 0 < len(marked) < len(clicked(picture))
    assert len(json.dumps(graphs(picture), separators=(",", ":"))) < 9_200


def test_names_are_text() -> None:
    """What programs call their functions is neither markup nor a control code."""
    found, data = made([part(0, {("on-CPU", EVIL): 7})])

    assert frames(data, data["graphs"][0])[-1] == ("</metadata><script>top.bad = 1</script>]]>&\\x1b\\ufffe\\ud800 <b>")
    assert found.of == {(0, 0): 0}


def test_no_code_is_no_graph() -> None:
    """States alone are in the report."""
    states = Part(((0, 0),), {("r", "s", "on-CPU"): 7}, "spans", (), code=False)

    assert embed(ABOUT, [states], 1) is None


def test_scripts_and_styles_never_change(draw: Draw, sample: Path) -> None:
    """So that a Content-Security-Policy can allow them by hash; nothing is loaded, nothing runs from attributes."""
    pictures = [draw(*words) for words in (SPANS, DISK)]

    parts = [re.findall(r"<(style|script)>(.*?)</\1>", picture, re.DOTALL) for picture in pictures]
    addresses = {address for picture in pictures for address in re.findall(r"\w+://[^\s\"'`)]+", picture)}
    assert parts[0] == parts[1]
    assert [name for name, _ in parts[0]] == ["style", "style", "script"]
    assert addresses == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xhtml"}
    assert not re.search(r"\beval\b|innerHTML|fetch\(|@import|\son\w+=|\sstyle=", parts[0][2][1])
