"""A flame graph of what changed: boxes as wide as they are now, orange where that is more than before, blue if less."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from tracekit.report import flame_page as page
from tracekit.report.flamegraph import many, merged
from tracekit.report.terminal import fit_end
from tracekit.units import format_share, format_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracekit.analysis.flame import Box
    from tracekit.analysis.stackdiff import Difference, Gone

STEPS = (0.001, 0.005, 0.02, 0.08)
"""Changes of share from which on a colour is deeper, the same in every picture. Our choice, four times each."""
MOST_GONE = 20
"""Frames that are gone and listed; more is a report."""

_CAPTION = "share of all, changed by"
_LEGEND = [
    *((f"l{step + 1}", f"-{STEPS[step] * 100:g}") for step in reversed(range(len(STEPS)))),
    ("z", "less than 0.1"),
    *((f"g{step + 1}", f"+{STEPS[step] * 100:g}") for step in range(len(STEPS))),
]
_POINTS = "points or more"


@dataclass(frozen=True)
class Picture:
    """What to draw. `units` are those of the weights before and after; `notes` are lines under the title."""

    found: Difference
    title: str
    units: tuple[str, str]
    notes: tuple[str, ...] = ()


def svg(picture: Picture) -> str:
    """Return *picture* as an SVG document; the same for the same picture, wherever it is made."""
    found = picture.found
    boxes = found.flame.boxes
    elements = [_box(box, before) for box, before in zip(boxes, found.before, strict=True)]
    legend = [*_LEGEND[:-1], (_LEGEND[-1][0], f"{_LEGEND[-1][1]} {_POINTS}")]
    notes = (_summary(picture), *picture.notes)
    foot = tuple(_foot(found.gone))
    deepest = max(box.depth for box in boxes)
    return page.svg(page.Page(picture.title, notes, _CAPTION, legend, elements, deepest, foot))


def changed(before: float, after: float) -> str:
    """Return the change of a share in percentage points, `+2.5 points`."""
    change = after - before
    if abs(change) < 0.00005:
        return "no change"
    return f"{'+' if change > 0 else '-'}{format_share(abs(change)).removesuffix(' %')} points"


def _summary(picture: Picture) -> str:
    found = picture.found
    before, now = map(format_value, (found.total, found.flame.total), picture.units)
    text = f"{now} in {many(found.flame.stacks, 'stack')}, before {before} in {many(found.stacks, 'stack')}"
    text += "; compared are shares of each, read from the top down"
    if found.flame.merged:
        text += f"; {many(found.flame.merged, 'frame')} under {format_share(found.flame.min_share)} merged"
    return text


def _box(box: Box, before: float | None) -> str:
    name = merged(box.merged) if box.merged else page.safe(box.name)
    place = (box.depth, box.start, box.share)
    if before is None:
        return page.frame("m", name, f"{format_share(box.share)} of all", *place)
    return page.frame(_look(box, before), name, _facts(before, box.share), *place)


def _look(box: Box, before: float) -> str:
    if not box.depth:
        return "a"
    step = bisect_right(STEPS, abs(box.share - before) * (1 + 1e-9))
    return f"{'g' if box.share > before else 'l'}{step}" if step else "z"


def _facts(before: float, after: float) -> str:
    was = f"before {format_share(before)}" if before else "new"
    return f"{format_share(after)} of all · {was} · {changed(before, after)}"


def _foot(gone: list[Gone]) -> Iterator[str]:
    """Yield rows of what no box shows: bars on the scale of the boxes, with the frames from the root."""
    if not gone:
        return
    share = format_share(sum(part.share for part in gone))
    shown = "" if len(gone) <= MOST_GONE else f", the largest {MOST_GONE}"
    yield page.text(page.PAD, 13, f"gone: {share} of before, in {many(len(gone), 'frame')} with their callees{shown}")
    for part in gone[:MOST_GONE]:
        yield _row(part)


def _row(part: Gone) -> str:
    wide = part.share * (page.WIDTH - 2 * page.PAD)
    share = format_share(part.share)
    room = int((page.WIDTH - 2 * page.PAD) / page.CELL) - len(share) - 3
    path = page.safe(";".join(part.path))
    bar = f'<rect x="{page.PAD}" y="0" width="{wide:.3f}" height="{page.ROW - 1}"/>'
    words = page.text(page.PAD + 3, 13, f"{share}  {fit_end(path, room)}")
    return f'<g class="gone"><title>{escape(path)}\n{share} of before</title>{bar}{words}</g>'
