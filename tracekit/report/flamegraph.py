"""
A flame graph as one SVG file: whole as a still picture, with zoom and search in a browser.

It loads nothing. Script and style are the same in every picture and nothing runs
from attributes, so a Content-Security-Policy can name both by their hashes.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cache, lru_cache
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING

from tracekit.analysis.flame import Look, Part
from tracekit.report.terminal import columns_of, fit
from tracekit.units import format_count, format_share, format_value, printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracekit.analysis.flame import Box, Flame

WIDTH = 1200
PAD = 10
ROW = 18
CELL = 7.25  # a character of a 12 px monospace font: 0.6 em, rarely a little more
TOOLS = 480  # room for search and reset beside the title

_LETTER = {"on-CPU": "c", "run queue": "q", "blocked": "b", "python": "p", "native": "n", "kernel": "k"}
_LETTER |= {"client": "c", "server": "d", "db": "d", "awaiting": "t", "unattributed": "u"}
_LETTER |= {"who": "w", "what": "w", "merged": "m", "all": "a"}
_REASONS = {"poll", "network", "disk", "fault", "lock", "pipe", "child", "stopped", "other"}
_WORDS = {
    "python": "Python",
    "native": "other code",
    "db": "waiting for a database",
    "who": "role, thread",
    "what": "role, span, call",
    "merged": "too narrow, merged",
}
_LEGEND = "ends in"
_NOT_XML = {0xFFFE: "\\ufffe", 0xFFFF: "\\uffff"}


@dataclass(frozen=True)
class Picture:
    """
    What to draw.

    Attributes:
        unit: of the weights, as `units.format_value` knows them: `ns`, `samples`, ...
        notes: lines under the title: what the picture does not show.
    """

    flame: Flame
    title: str
    unit: str
    notes: tuple[str, ...] = ()


def svg(picture: Picture) -> str:
    """Return *picture* as an SVG document; the same for the same picture, wherever it is made."""
    notes = (_summary(picture), *picture.notes)
    items = _items(picture.flame.parts)
    legend, rows = _legend(items, top=34 + ROW * len(notes))
    top = 40 + ROW * (len(notes) + rows + 1)
    height = top + ROW * (1 + max(box.depth for box in picture.flame.boxes)) + PAD
    spoken = ". ".join((*notes, ", ".join(words for _, words in items)))
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" role="img"
 aria-label="{_xml(picture.title)}">
<desc>{_xml(spoken)}</desc>
<style>/*<![CDATA[*/
{_web("flamegraph.css")}/*]]>*/</style>
<rect class="page" width="100%" height="100%"/>
<g class="head">
<text class="name" x="{PAD}" y="26">{_xml(fit(picture.title, (WIDTH - TOOLS) // 10))}</text>
{_lines(_text(PAD, 46 + ROW * place, note) for place, note in enumerate(notes))}
{_lines(legend)}
<text class="details" x="{PAD}" y="{top - 12}"></text>
</g>
<g class="frames" transform="translate(0 {top})" data-pad="{PAD}" data-row="{ROW}" data-cell="{CELL}"
 data-width="{WIDTH}" data-height="{height}">
{_lines(_boxes(picture))}
</g>
<script>//<![CDATA[
{_web("flamegraph.js")}//]]></script>
</svg>
"""


def _summary(picture: Picture) -> str:
    flame = picture.flame
    whole = "means" if flame.shape == "bands" else format_value(flame.total, picture.unit)
    text = f"{whole} in {_many(flame.stacks, 'stack')}, read from the top down"
    if flame.merged:
        text += f"; {_many(flame.merged, 'frame')} under {format_share(flame.min_share)} merged"
    return text


def _items(parts: list[Part]) -> list[tuple[Look, str]]:
    """Return colours and their words; before the reasons of blocking comes the sum of them."""
    items = [(part.look, _words(part)) for part in parts]
    reasons = [place for place, part in enumerate(parts) if part.look.reason]
    if reasons:
        whole = Part(Look("blocked"), _sum([parts[place].share for place in reasons]))
        items.insert(reasons[0], (whole.look, f"{_words(whole)}:"))
    return items


def _sum(shares: list[float | None]) -> float | None:
    """Return the sum of the shares that are known; None if none is."""
    known = [share for share in shares if share is not None]
    return sum(known) if known else None


def _words(part: Part) -> str:
    name = part.look.reason or _WORDS.get(part.look.kind, part.look.kind)
    return f"{name} {format_share(part.share)}" if part.share is not None else name


def _legend(items: list[tuple[Look, str]], top: int) -> tuple[list[str], int]:
    """Return the swatches from left to right and, where the room ends, in a further row; and how many rows."""
    lines = [_text(PAD, top + 12, _LEGEND)]
    begin = PAD + round((len(_LEGEND) + 1) * CELL)
    left, row = begin, 0
    for look, words in items:
        safe = fit(words, 40)
        room = round(30 + columns_of(safe) * CELL)
        if left + room > WIDTH - PAD and left > begin:
            left, row = begin, row + 1
        y = top + row * ROW
        swatch = f'<rect x="{left}" y="{y + 2}" width="12" height="12"/>'
        lines.append(f'<g class="{_class(look, "")}">{swatch}</g>{_text(left + 17, y + 12, safe)}')
        left += room
    return lines, row + 1


def _lines(parts: Iterable[str]) -> str:
    return "\n".join(parts)


def _text(x: float, y: float, text: str) -> str:
    return f'<text x="{x:g}" y="{y:g}">{_xml(text)}</text>'


def _boxes(picture: Picture) -> Iterable[str]:
    """Yield the boxes, each with its share of what it is part of: of its band, if bands are compared."""
    bands = picture.flame.shape == "bands"
    root = picture.flame.boxes[0]
    for box in picture.flame.boxes:
        root = box if bands and box.depth == 1 else root
        yield _box(box, picture.unit if box.depth or not bands else "", root)


def _box(box: Box, unit: str, root: Box) -> str:
    room = WIDTH - 2 * PAD
    left, wide = PAD + box.start * room, box.share * room
    y = box.depth * ROW
    name = f"{_many(box.merged, 'frame')} too narrow to draw" if box.merged else _safe(box.name)
    edged = " wide" if wide > 3 else ""
    return (
        f'<g class="f {_class(box.look, box.name)}{edged}"><title>{escape(name)}\n{_facts(box, unit, root)}</title>'
        f'<rect x="{left:.3f}" y="{y}" width="{wide:.3f}" height="{ROW - 1}"/>{_label(name, left, wide, y)}</g>'
    )


def _facts(box: Box, unit: str, root: Box) -> str:
    """Return weight and shares; of the sum of means, which has no unit, that it is none."""
    if not unit:
        return "means, side by side"
    facts = format_value(box.weight, unit)
    if box.depth > root.depth:
        facts += f" · {format_share(box.share / root.share)} of {root.name if root.depth else 'all'}"
    if box.depth > root.depth + 1:
        facts += f" · {format_share(box.of_parent)} of the box above"
    return facts


def _label(name: str, left: float, wide: float, y: int) -> str:
    cells = int((wide - 6) / CELL)
    if cells < 3:
        return ""
    return _text(round(left + 3, 2), y + 13, fit(name, cells))


def _class(look: Look, name: str) -> str:
    """Return the CSS class; frames of one kind of code differ a little by name, so that neighbours stand apart."""
    letter = _LETTER[look.kind]
    if look.kind == "blocked" and look.reason:
        return f"b-{look.reason if look.reason in _REASONS else 'other'}"
    return f"{letter}{zlib.crc32(name.encode('utf-8', 'replace')) % 4}" if letter in "pnk" else letter


def _many(count: int, noun: str) -> str:
    return f"{format_count(count)} {noun}{'' if count == 1 else 's'}"


@lru_cache(maxsize=10_000)  # a program has few names and many boxes
def _safe(name: str) -> str:
    """Return a name that a traced program chose, in characters that XML allows and on one line."""
    return printable(name).translate(_NOT_XML).encode("utf-8", "backslashreplace").decode()


def _xml(text: str) -> str:
    return escape(_safe(text))


@cache
def _web(name: str) -> str:
    return (files("tracekit.report") / "web" / name).read_text("utf-8")
