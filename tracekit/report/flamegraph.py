"""A flame graph: what its boxes say and what their colours tell."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracekit.analysis.flame import Look, Part
from tracekit.report import flame_page as page
from tracekit.units import format_count, format_share, format_value

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracekit.analysis.flame import Box, Flame

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
LEGEND = "ends in"


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
    flame = picture.flame
    notes = (summary(flame, picture.unit), *picture.notes)
    deepest = max(box.depth for box in flame.boxes)
    return page.svg(page.Page(picture.title, notes, LEGEND, legend(flame), list(_boxes(picture)), deepest))


def legend(flame: Flame) -> list[tuple[str, str]]:
    """Return what the colours of *flame* tell: (class, words) of each."""
    return [(look_class(look, ""), words) for look, words in _items(flame.parts)]


def summary(flame: Flame, unit: str) -> str:
    """Return how much *flame* is of, and what it does not draw."""
    whole = "means" if flame.shape == "bands" else format_value(flame.total, unit)
    text = f"{whole} in {many(flame.stacks, 'stack')}, read from the top down"
    if flame.merged:
        text += f"; {many(flame.merged, 'frame')} under {format_share(flame.min_share)} merged"
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


def _boxes(picture: Picture) -> Iterable[str]:
    """Yield the boxes, each with its share of what it is part of: of its band, if bands are compared."""
    bands = picture.flame.shape == "bands"
    root = picture.flame.boxes[0]
    for box in picture.flame.boxes:
        root = box if bands and box.depth == 1 else root
        yield _box(box, picture.unit if box.depth or not bands else "", root)


def _box(box: Box, unit: str, root: Box) -> str:
    name = merged(box.merged) if box.merged else page.safe(box.name)
    return page.frame(look_class(box.look, box.name), name, _facts(box, unit, root), box.depth, box.start, box.share)


def merged(frames: int) -> str:
    """Return what a box is called that stands for *frames*."""
    return f"{many(frames, 'frame')} too narrow to draw"


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


def look_class(look: Look, name: str) -> str:
    """Return the CSS class; frames of one kind of code differ a little by name, so that neighbours stand apart."""
    letter = _LETTER[look.kind]
    if look.kind == "blocked" and look.reason:
        return f"b-{look.reason if look.reason in _REASONS else 'other'}"
    return f"{letter}{zlib.crc32(name.encode('utf-8', 'replace')) % 4}" if letter in "pnk" else letter


def many(count: int, noun: str) -> str:
    """Return `1 frame`, `2,000 frames`."""
    return f"{format_count(count)} {noun}{'' if count == 1 else 's'}"
