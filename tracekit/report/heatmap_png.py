"""A heat map as PNG, for what takes no SVG: chats, slides, old wikis. Needs the extra `png`."""

from __future__ import annotations

import io
from itertools import pairwise
from math import dist
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from tracekit.report import palette
from tracekit.report.heatmap_picture import INSIDE, Box, Hatch, Label, Stroke, lay_out
from tracekit.report.terminal import in_encoding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tracekit.analysis.heatmap import Grid, Size
    from tracekit.report.heatmap_picture import Point
    from tracekit.report.heatmap_words import Subject

_SCALE = 2
"""Pixels of the file for one of the picture: sharp on dense screens."""
_DASH, _BLANK, _HATCH = 8, 5, 8
_ANCHORS = {"start": "ls", "middle": "ms", "end": "rs"}


def draw(subject: Subject, build: Callable[[Size], Grid]) -> bytes:
    """Return the PNG of the grid that *build* makes of at most a given size."""
    picture = lay_out(subject, build(INSIDE))
    image = Image.new("RGB", (picture.width * _SCALE, picture.height * _SCALE), palette.LIGHT.paper)
    canvas = ImageDraw.Draw(image)
    for shape in picture.shapes:
        if isinstance(shape, Box):
            canvas.rectangle(_corners(shape), fill=_color(shape.ink))
        elif isinstance(shape, Hatch):
            _hatch(image, shape)
        elif isinstance(shape, Stroke):
            _stroke(canvas, shape)
        else:
            _write(canvas, shape)
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def _color(ink: str) -> str:
    return palette.LIGHT.cells[int(ink[4:]) - 1] if ink.startswith("cell") else str(getattr(palette.LIGHT, ink))


def _corners(shape: Box | Hatch) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom in pixels of the file; Pillow draws the last two as well."""
    left, top = round(shape.x * _SCALE), round(shape.y * _SCALE)
    return left, top, left + round(shape.width * _SCALE) - 1, top + round(shape.height * _SCALE) - 1


def _hatch(image: Image.Image, hatch: Hatch) -> None:
    """Draw slanted lines, crossed for a gap, on a tile of their own: nothing runs over its edge."""
    left, top, right, bottom = _corners(hatch)
    width, height = right - left + 1, bottom - top + 1
    tile = Image.new("RGB", (width, height), palette.LIGHT.plot)
    canvas = ImageDraw.Draw(tile)
    for x in range(-height, width + height, _HATCH * _SCALE):
        canvas.line([(x, height), (x + height, 0)], fill=palette.LIGHT.hatch, width=_SCALE)
        if hatch.state == "gap":
            canvas.line([(x, 0), (x + height, height)], fill=palette.LIGHT.hatch, width=_SCALE)
    image.paste(tile, (left, top))


def _stroke(canvas: ImageDraw.ImageDraw, stroke: Stroke) -> None:
    points = [(x * _SCALE, y * _SCALE) for x, y in stroke.points]
    for part in _dashes(points) if stroke.dashed else [points]:
        canvas.line(part, fill=_color(stroke.ink), width=round(stroke.width * _SCALE), joint="curve")


def _dashes(points: list[Point]) -> Iterator[list[Point]]:
    """Yield the drawn pieces of a dashed line."""
    for (x0, y0), (x1, y1) in pairwise(points):
        length = dist((x0, y0), (x1, y1))
        for start in range(0, int(length), (_DASH + _BLANK) * _SCALE):
            ends = start / length, min(1.0, (start + _DASH * _SCALE) / length)
            yield [(x0 + (x1 - x0) * share, y0 + (y1 - y0) * share) for share in ends]


def _write(canvas: ImageDraw.ImageDraw, label: Label) -> None:
    """Write in the font that Pillow brings, which has ASCII only."""
    font = ImageFont.load_default(label.size * _SCALE)
    place = label.x * _SCALE, label.y * _SCALE
    canvas.text(
        place, in_encoding(label.text, "ascii"), fill=_color(label.ink), font=font, anchor=_ANCHORS[label.anchor]
    )
