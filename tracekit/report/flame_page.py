"""
The page of a flame graph: one SVG file, whole as a still picture, with zoom and search in a browser.

It loads nothing. Script and style are the same in every picture and nothing runs
from attributes, so a Content-Security-Policy can name both by their hashes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING

from tracekit.report.terminal import columns_of, fit
from tracekit.units import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

WIDTH = 1200
PAD = 10
ROW = 18
CELL = 7.25  # a character of a 12 px monospace font: 0.6 em, rarely a little more
TOOLS = 480  # room for search and reset beside the title

_START = "flameGraph(document.currentScript.ownerSVGElement);\n"
_NOT_XML = {0xFFFE: "\\ufffe", 0xFFFF: "\\uffff"}


@dataclass(frozen=True)
class Page:
    """
    What is on a page, from the top down.

    Attributes:
        notes: lines under the title.
        caption, legend: what the colours tell; (class, words) of each.
        boxes: elements of the frames, callers before callees, left before right.
        deepest: depth of the deepest box.
        foot: further rows under the frames, one element each, drawn in a row of height ROW.
    """

    title: str
    notes: tuple[str, ...]
    caption: str
    legend: list[tuple[str, str]]
    boxes: list[str]
    deepest: int
    foot: tuple[str, ...] = ()


def svg(page: Page) -> str:
    """Return *page* as an SVG document; the same for the same page, wherever it is made."""
    legend, rows = _legend(page, top=34 + ROW * len(page.notes))
    top = 40 + ROW * (len(page.notes) + rows + 1)
    bottom = top + ROW * (1 + page.deepest) + PAD
    height = bottom + (ROW * len(page.foot) + PAD if page.foot else 0)
    spoken = ". ".join((*page.notes, ", ".join(words for _, words in page.legend)))
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" role="img"
 aria-label="{xml(page.title)}">
<desc>{xml(spoken)}</desc>
<style>/*<![CDATA[*/
{web("flamegraph.css")}/*]]>*/</style>
<rect class="page" width="100%" height="100%"/>
<g class="head">
<text class="name" x="{PAD}" y="26">{xml(fit(page.title, (WIDTH - TOOLS) // 10))}</text>
{_lines(text(PAD, 46 + ROW * place, note) for place, note in enumerate(page.notes))}
{_lines(legend)}
<text class="details" x="{PAD}" y="{top - 12}"></text>
</g>
<g class="frames" transform="translate(0 {top})" data-pad="{PAD}" data-row="{ROW}" data-cell="{CELL}"
 data-width="{WIDTH}" data-height="{height}">
{_lines(page.boxes)}
</g>
{_foot(page.foot, bottom)}{script(_START, "flamegraph.js")}
</svg>
"""


def _foot(rows: tuple[str, ...], top: int) -> str:
    placed = (f'<g transform="translate(0 {top + ROW * place})">{row}</g>\n' for place, row in enumerate(rows))
    return f'<g class="foot">\n{"".join(placed)}</g>\n' if rows else ""


def _legend(page: Page, top: int) -> tuple[list[str], int]:
    """Return the swatches from left to right and, where the room ends, in a further row; and how many rows."""
    lines = [text(PAD, top + 12, page.caption)]
    begin = PAD + round((len(page.caption) + 1) * CELL)
    left, row = begin, 0
    for look, words in page.legend:
        safe = fit(words, 40)
        room = round(30 + columns_of(safe) * CELL)
        if left + room > WIDTH - PAD and left > begin:
            left, row = begin, row + 1
        y = top + row * ROW
        swatch = f'<rect x="{left}" y="{y + 2}" width="12" height="12"/>'
        lines.append(f'<g class="{look}">{swatch}</g>{text(left + 17, y + 12, safe)}')
        left += room
    return lines, row + 1


def frame(look: str, name: str, facts: str, depth: int, start: float, share: float) -> str:
    """
    Return the element of a box.

    Args:
        look: its class.
        name: in characters that XML allows (`safe`).
        facts: what is said of it, markup escaped.
        depth: its row.
        start: its left edge on the axis, of 1.
        share: its width, of 1.
    """
    room = WIDTH - 2 * PAD
    left, wide, y = PAD + start * room, share * room, depth * ROW
    edged = " wide" if wide > 3 else ""
    return (
        f'<g class="f {look}{edged}"><title>{escape(name)}\n{facts}</title>'
        f'<rect x="{left:.3f}" y="{y}" width="{wide:.3f}" height="{ROW - 1}"/>{_label(name, left, wide, y)}</g>'
    )


def _label(name: str, left: float, wide: float, y: int) -> str:
    cells = int((wide - 6) / CELL)
    if cells < 3:
        return ""
    return text(round(left + 3, 2), y + 13, fit(name, cells))


def text(x: float, y: float, words: str) -> str:
    """Return a line of text with its foot at *y*."""
    return f'<text x="{x:g}" y="{y:g}">{xml(words)}</text>'


@lru_cache(maxsize=10_000)  # a program has few names and many boxes
def safe(name: str) -> str:
    """Return a name that a traced program chose, in characters that XML allows and on one line."""
    return printable(name).translate(_NOT_XML).encode("utf-8", "backslashreplace").decode()


def xml(words: str) -> str:
    """Return *words* as text of an element or an attribute."""
    return escape(safe(words))


def _lines(parts: Iterable[str]) -> str:
    return "\n".join(parts)


def script(start: str, *names: str) -> str:
    """Return the element of a script: the files *names* and then *start*; several of them in a page share nothing."""
    parts = "".join(map(web, names))
    return f'<script>//<![CDATA[\n(() => {{\n"use strict";\n{parts}{start}}})();\n//]]></script>'


@cache
def web(name: str) -> str:
    """Return a file of the folder `web`."""
    return (files("tracekit.report") / "web" / name).read_text("utf-8")
