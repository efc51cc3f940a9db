"""Pictures of heat maps: the same events in each, nothing invisible, nothing that a hostile name can do."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from tests import golden
from tests.sample import SECOND, START_NS
from tracekit.analysis.heatmap import Events, build
from tracekit.histogram import of_values, slots_of
from tracekit.records import Clocks, Interval, Loss, labels_of
from tracekit.report import heatmap_png, heatmap_svg, heatmap_terminal, palette
from tracekit.report.heatmap_terminal import Screen
from tracekit.report.heatmap_words import Subject
from tracekit.report.terminal import columns_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from tracekit.analysis.heatmap import Grid, Size

    Map = tuple[Subject, Callable[[Size], Grid]]

SVG = "{http://www.w3.org/2000/svg}"
ESCAPE = re.compile(r"\x1b\[([0-9;]*)m")
ASCII = Screen(80, 24, "ascii")
COLOR = Screen(80, 24, "true")


def heat(
    values: dict[int, list[int]],
    starts: list[int],
    *,
    lacking: Collection[int] = (),
    limits: tuple[int, ...] = (),
    role: str = "worker",
    unit: str = "ns",
) -> Map:
    """Return a map of *values* by interval; intervals of a second begin at *starts*."""
    flat = np.array([value for some in values.values() for value in some], dtype=np.uint64)
    numbers = np.array([number for number, some in values.items() for _ in some], dtype=np.int64)
    events = Events(numbers, slots_of(flat), np.ones(len(flat), dtype=np.uint64))
    intervals = {n: Interval(START_NS + s * SECOND, START_NS + (s + 1) * SECOND) for n, s in enumerate(starts)}
    subject = Subject(
        metric="runq.wait",
        unit=unit,
        labels=labels_of({"role": role}),
        series=1,
        histogram=of_values(flat),
        limits=limits,
        origin_ns=START_NS,
        clocks=Clocks(START_NS, 1_790_000_000 * SECOND, START_NS),
        losses=(Loss("ring_full", 13),) if lacking else (),
    )
    return subject, partial(build, events, intervals, lacking, limits=limits)


@pytest.fixture
def busy() -> Map:
    """12 s with a burst above the limit, a gap of 3 s, one incomplete second and one outlier."""
    rng = np.random.default_rng(23)
    values = {number: rng.lognormal(np.log(60_000), 0.6, 67).astype(int).tolist() for number in range(12)}
    values[4] += [13_000_000, 17_000_000]
    values[9] += [900_000_000]
    return heat(values, [*range(7), *range(10, 15)], lacking={2}, limits=(10_000_000,))


def quiet() -> Map:
    """Two seconds, one event."""
    return heat({1: [50_000]}, [0, 1])


def titles(svg: bytes) -> list[str]:
    """Return the hover titles of the cells of the map."""
    root = ET.fromstring(svg)
    return [rect.findtext(f"{SVG}title") or "" for rect in root.iter(f"{SVG}rect") if "cell" in rect.get("class", "")]


def events_in(title: str) -> int:
    found = re.search(r"^([\d,]+) events?, ", title, re.MULTILINE)
    return int(found[1].replace(",", "")) if found else 0


def test_ascii_picture(busy: Map) -> None:
    """80 columns by 24 lines of ASCII, exactly."""
    text = "\n".join(heatmap_terminal.draw(*busy, ASCII)) + "\n"

    assert text.isascii()
    golden.check("heatmap.txt", text)


def test_svg_picture(busy: Map) -> None:
    """The whole file, exactly."""
    golden.check("heatmap.svg", heatmap_svg.draw(*busy).decode())


def test_svg_holds_every_event(busy: Map) -> None:
    """The numbers of all cells add up to the number of events: nothing falls off an edge."""
    cells = titles(heatmap_svg.draw(*busy))

    assert sum(events_in(title) for title in cells) == busy[0].histogram.count == 12 * 67 + 3


def test_svg_cells_lie_inside_and_apart(busy: Map) -> None:
    """No cell covers another or leaves the picture."""
    root = ET.fromstring(heatmap_svg.draw(*busy))
    cells = [
        rect for rect in root.iter(f"{SVG}rect") if rect.findtext(f"{SVG}title") and "cell" in rect.get("class", "")
    ]
    places = [tuple(float(rect.get(name, "nan")) for name in ("x", "y", "width", "height")) for rect in cells]

    covered: set[tuple[int, int]] = set()
    for x, y, width, height in places:
        dots = {(a, b) for a in range(int(x), int(x + width)) for b in range(int(y), int(y + height))}
        assert not covered & dots
        covered |= dots
    assert min(x for x, _ in covered) >= 0
    assert max(x for x, _ in covered) < 1200


def test_svg_needs_nothing_else(busy: Map) -> None:
    """No script, no font, no image, no address but the name of the language."""
    svg = heatmap_svg.draw(*busy).decode()

    assert re.findall(r"https?://[^\"]*", svg) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"<script|<image|<foreignObject|@import|@font-face|href|onload", svg)
    assert set(re.findall(r"url\(([^)]*)\)", svg)) == {"#heatmap-incomplete", "#heatmap-gap"}


def test_svg_follows_the_theme_but_prints_light(busy: Map) -> None:
    """Both ramps are in the file, the dark one on dark screens only."""
    light, dark = heatmap_svg.draw(*busy).decode().split("@media screen and (prefers-color-scheme: dark)")

    assert all(color in light for color in palette.LIGHT.cells)
    assert all(color in dark for color in palette.DARK.cells)


def test_svg_says_in_words_what_it_shows(busy: Map) -> None:
    """A screen reader gets the title, the numbers, the share above the limit and the loss."""
    root = ET.fromstring(heatmap_svg.draw(*busy))

    assert root.get("role") == "img"
    assert root.findtext(f"{SVG}title") == 'Heat map of runq.wait{role="worker"}'
    text = root.findtext(f"{SVG}desc") or ""
    assert "807 events, p50" in text
    assert "0.37 % of the events (3) are above the limit of 10 ms" in text
    assert "ring_full 13" in text


HOSTILE = ['"><script>alert(1)</script>', "a&b<c>'", "\x1b[31mred\x00\n", "\ufffe\uffff", "]]>", "x" * 500]


@pytest.mark.parametrize("role", HOSTILE)
def test_names_are_only_names(role: str) -> None:
    """Whatever a process calls itself, the SVG parses and holds no element of it, and the terminal gets no code."""
    drawing = heat({0: [50_000]}, [0], role=role)
    root = ET.fromstring(heatmap_svg.draw(*drawing))

    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
        *("svg", "title", "desc", "style", "defs", "pattern", "path", "rect", "text", "polyline")
    }
    assert "\x1b" not in "".join(heatmap_terminal.draw(*drawing, ASCII))
    lines = heatmap_terminal.draw(*drawing, COLOR)
    assert not re.search(r"[\x00-\x1f]", ESCAPE.sub("", "".join(lines)))


def colors(line: str) -> list[tuple[str, str, str]]:
    """Return (foreground, background, character) of each column of a line in 24-bit colour."""
    shown, front, back = [], "", ""
    for part in re.split(r"(\x1b\[[0-9;]*m)", line):
        if found := ESCAPE.fullmatch(part):
            codes = re.findall(r"([34])8;2;(\d+);(\d+);(\d+)", found[1])
            front, back = (
                {kind: "#" + "".join(f"{int(c):02x}" for c in rgb) for kind, *rgb in codes}.get(k, "") for k in "34"
            )
        else:
            shown += [(front, back, char) for char in part]
    return shown


def dots(lines: list[str]) -> list[str]:
    """Return the colours of all dots of the half blocks in *lines*."""
    cells = [cell for line in lines for cell in colors(line) if cell[1]]
    return [color for front, back, char in cells for color in ((front, back) if char == "▀" else (back, back))]


def test_one_event_is_not_nothing() -> None:
    """A single outlier has a colour of its own in the terminal, and a character in ASCII."""
    values = {number: [50_000] * 1000 for number in range(10)}
    drawing = heat({**values, 7: [*values[7], 900_000_000]}, list(range(10)))
    colored, plain = (heatmap_terminal.draw(*drawing, screen) for screen in (COLOR, ASCII))

    assert palette.DARK.cells[0] in dots(colored[1:3])
    assert "." in plain[1]
    assert palette.DARK.cells[0] not in dots(colored[5:10])


def test_every_column_shows_its_quantiles_and_the_limit_has_a_line(busy: Map) -> None:
    """p50, p99 and the limit are there in colour and in ASCII."""
    colored, plain = (heatmap_terminal.draw(*busy, screen) for screen in (COLOR, ASCII))

    assert {palette.DARK.p50, palette.DARK.p99} <= set(dots(colored))
    assert any(palette.DARK.limit in {front for front, *_ in colors(line)} for line in colored)
    assert any("limit 10 ms" in line for line in colored)
    body = "\n".join(line.split("|", 1)[-1] for line in plain if "|" in line)
    assert {"o", "x", "~"} <= set(body)
    assert "limit 10 ms" in body


@pytest.mark.parametrize("screen", [ASCII, COLOR], ids=["ascii", "color"])
def test_lacking_data_is_hatched_and_said(busy: Map, screen: Screen) -> None:
    """An incomplete second and a gap look like neither zero nor each other, and the legend has both."""
    text = ESCAPE.sub("", "\n".join(heatmap_terminal.draw(*busy, screen)))
    body = text[: text.index("events in a cell")]

    assert ("/" if screen is ASCII else "╱") in body
    assert ("\\" if screen is ASCII else "╳") in body
    assert "incomplete: 1 of 12 columns" in text
    assert "not recorded: 3 s" in text
    assert "ring_full 13" in text


def test_a_quiet_picture_has_no_legend_of_loss() -> None:
    """What did not happen is not explained."""
    text = "\n".join(heatmap_terminal.draw(*quiet(), ASCII))

    assert "incomplete" not in text
    assert "not recorded" not in text
    assert "lost" not in text
    assert "1 event," in text


@pytest.mark.parametrize("depth", ["true", "256", "ascii"])
@pytest.mark.parametrize("size", [(60, 20), (80, 24), (100, 33), (211, 60)])
def test_the_picture_fits_the_screen(busy: Map, size: tuple[int, int], depth: palette.Depth) -> None:
    """No line is wider than the screen, and there is one left for the prompt."""
    rng = np.random.default_rng(3)
    hour = heat(
        {n: rng.lognormal(11, 1, 11).astype(int).tolist() for n in range(900)}, list(range(900)), limits=(10**6,)
    )
    queue = heat({n: [0, 1, 2, 5] for n in range(60)}, list(range(60)), unit="tasks", limits=(1, 2, 3))
    for drawing in (busy, quiet(), hour, queue):
        lines = heatmap_terminal.draw(*drawing, Screen(*size, depth))

        assert len(lines) < size[1]
        assert max(columns_of(ESCAPE.sub("", line)) for line in lines) <= size[0]


def test_more_intervals_than_columns_fill_the_screen() -> None:
    """70 s on 68 columns is not half a picture."""
    drawing = heat({n: [50_000] for n in range(70)}, list(range(70)))
    lines = heatmap_terminal.draw(*drawing, ASCII)

    assert max(len(line) for line in lines) > 70


def test_png_shows_the_same_cells(busy: Map) -> None:
    """Each rectangle of the SVG is in the PNG, in its colour, unless a line crosses it."""
    image = Image.open(io.BytesIO(heatmap_png.draw(*busy))).convert("RGB")
    root = ET.fromstring(heatmap_svg.draw(*busy))
    same = total = 0
    for rect in root.iter(f"{SVG}rect"):
        cell = re.fullmatch(r"cell(\d+)", rect.get("class", ""))
        if cell:
            x, y, width, height = (float(rect.get(name, "nan")) for name in ("x", "y", "width", "height"))
            wanted = palette.LIGHT.cells[int(cell[1]) - 1]
            left, right, bottom = round(2 * x) + 5, round(2 * (x + width)) - 6, round(2 * (y + height)) - 2
            found = {"#" + bytes(image.getpixel((place, bottom))).hex() for place in (left, right)}
            same, total = same + (found == {wanted}), total + 1

    assert image.size == (2 * int(root.get("width", "0")), 2 * int(root.get("height", "0")))
    assert same > 0.9 * total > 0


def test_absurd_clocks_leave_the_time_of_day_out() -> None:
    """A damaged clock is no reason to draw nothing."""
    subject, build_grid = quiet()
    broken = Subject(**{**vars(subject), "clocks": Clocks(0, 2**70, 0)})

    assert b"UTC" in heatmap_svg.draw(subject, build_grid)
    assert b"UTC" not in heatmap_svg.draw(broken, build_grid)
