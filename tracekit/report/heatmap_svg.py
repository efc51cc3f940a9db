"""A heat map as one SVG file that needs nothing else: light, dark and printed; what a cell holds shows on hover."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from tracekit.report import palette
from tracekit.report.heatmap_picture import Box, Hatch, Label, Shape, lay_out

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracekit.analysis.heatmap import Grid, Size
    from tracekit.report.heatmap_words import Subject

_NOT_XML = {0xFFFE: "\ufffd", 0xFFFF: "\ufffd"}

_FRAME = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" \
font-size="13" role="img" aria-labelledby="heatmap-title heatmap-text">
<title id="heatmap-title">{title}</title>
<desc id="heatmap-text">{text}</desc>
<style>
svg {{ color-scheme: light dark; max-width: 100%; height: auto }}
text {{ font-family: system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif }}
rect:hover {{ stroke-width: 2 }}
{light}
@media screen and (prefers-color-scheme: dark) {{
{dark}
}}
</style>
<defs>
<pattern id="heatmap-incomplete" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">\
<path d="M0 0V7" class="hatch line" stroke-width="2.4"/></pattern>
<pattern id="heatmap-gap" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">\
<path d="M0 0V7M0 0H7" class="hatch line" stroke-width="2.4"/></pattern>
</defs>
<rect width="100%" height="100%" class="paper"/>
{shapes}
</svg>
"""


def draw(subject: Subject, build: Callable[[Size], Grid]) -> bytes:
    """Return the SVG of the grid that *build* makes of at most a given size."""
    picture = lay_out(subject, build)
    text = _FRAME.format(
        width=picture.width,
        height=picture.height,
        title=_xml(picture.title),
        text=_xml(picture.description),
        light=_rules(palette.LIGHT),
        dark=_rules(palette.DARK),
        shapes="\n".join(_element(shape) for shape in picture.shapes),
    )
    return text.encode()


def _rules(theme: palette.Theme) -> str:
    """Return the style rules of one theme: a class for each of its colours."""
    colors = {name: color for name, color in vars(theme).items() if name != "cells"}
    colors |= {f"cell{number}": color for number, color in enumerate(theme.cells, 1)}
    fills = [f".{name} {{ fill: {color} }}" for name, color in colors.items()]
    lines = [f".{name}.line {{ fill: none; stroke: {color} }}" for name, color in colors.items() if name[:4] != "cell"]
    return "\n".join([*fills, *lines, f"rect:hover {{ stroke: {theme.text} }}"])


def _element(shape: Shape) -> str:
    if isinstance(shape, Label):
        size = "" if shape.size == 13 else f' font-size="{shape.size}"'
        anchor = "" if shape.anchor == "start" else f' text-anchor="{shape.anchor}"'
        return f'<text x="{shape.x:g}" y="{shape.y:g}" class="{shape.ink}"{size}{anchor}>{_xml(shape.text)}</text>'
    if isinstance(shape, Box | Hatch):
        title = f"><title>{_xml(shape.title)}</title></rect>" if shape.title else "/>"
        fill = f'class="{shape.ink}"' if isinstance(shape, Box) else f'fill="url(#heatmap-{shape.state})"'
        place = f'x="{shape.x:g}" y="{shape.y:g}" width="{shape.width:g}" height="{shape.height:g}"'
        return f"<rect {place} {fill}{title}"
    points = " ".join(f"{round(x, 1):g},{round(y, 1):g}" for x, y in shape.points)
    dash = ' stroke-dasharray="8 5"' if shape.dashed else ""
    return f'<polyline points="{points}" class="{shape.ink} line" stroke-width="{shape.width:g}"{dash}/>'


def _xml(text: str) -> str:
    return escape(text.translate(_NOT_XML), quote=False)
