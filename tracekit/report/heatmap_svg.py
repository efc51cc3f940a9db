"""
A heat map as one SVG file that needs nothing else: light, dark and printed; what a cell holds shows on hover.

With flame graphs of its cells they show on a click. Scripts and styles are the same in every picture, so that a
Content-Security-Policy can name them by their hashes: what differs is data.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from tracekit.report import flame_page as page
from tracekit.report import palette
from tracekit.report.heatmap_picture import INSIDE, Box, Hatch, Label, Shape, lay_out

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracekit.analysis.heatmap import Grid, Size
    from tracekit.report.heatmap_flames import Flames
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


_START = "heatMap(document.currentScript.ownerSVGElement);\n"
_WITH_FLAMES = f"""\
<style>/*<![CDATA[*/
{{css}}/*]]>*/</style>
<g class="heat" data-pad="{page.PAD}" data-row="{page.ROW}" data-cell="{page.CELL}" data-width="{page.WIDTH}">
{{shapes}}
</g>
<metadata class="graphs">{{data}}</metadata>
{{script}}"""


def draw(subject: Subject, build: Callable[[Size], Grid]) -> bytes:
    """Return the SVG of the grid that *build* makes of at most a given size."""
    return of_grid(subject, build(INSIDE))


def of_grid(subject: Subject, grid: Grid, flames: Flames | None = None) -> bytes:
    """Return the SVG of *grid*, which is not larger than heatmap_picture.INSIDE, with the flame graphs of its cells."""
    picture = lay_out(subject, grid)
    shapes = "\n".join(_element(shape, flames) for shape in picture.shapes)
    text = _FRAME.format(
        width=picture.width,
        height=picture.height,
        title=_xml(picture.title),
        text=_xml(picture.description),
        light=_rules(palette.LIGHT),
        dark=_rules(palette.DARK),
        shapes=_clickable(shapes, flames) if flames else shapes,
    )
    return text.encode()


def _clickable(shapes: str, flames: Flames) -> str:
    css = page.web("flamegraph.css") + page.web("heatmap.css")
    script = page.script(_START, "flamegraph.js", "heatmap.js")
    return _WITH_FLAMES.format(css=css, shapes=shapes, data=_xml(flames.data), script=script)


def _rules(theme: palette.Theme) -> str:
    """Return the style rules of one theme: a class for each of its colours."""
    colors = {name: color for name, color in vars(theme).items() if name != "cells"}
    colors |= {f"cell{number}": color for number, color in enumerate(theme.cells, 1)}
    fills = [f".{name} {{ fill: {color} }}" for name, color in colors.items()]
    lines = [f".{name}.line {{ fill: none; stroke: {color} }}" for name, color in colors.items() if name[:4] != "cell"]
    return "\n".join([*fills, *lines, f"rect:hover {{ stroke: {theme.text} }}"])


def _element(shape: Shape, flames: Flames | None) -> str:
    if isinstance(shape, Label):
        size = "" if shape.size == 13 else f' font-size="{shape.size}"'
        anchor = "" if shape.anchor == "start" else f' text-anchor="{shape.anchor}"'
        return f'<text x="{shape.x:g}" y="{shape.y:g}" class="{shape.ink}"{size}{anchor}>{_xml(shape.text)}</text>'
    if isinstance(shape, Box | Hatch):
        title = f"><title>{_xml(shape.title)}</title></rect>" if shape.title else "/>"
        fill = f'class="{shape.ink}"' if isinstance(shape, Box) else f'fill="url(#heatmap-{shape.state})"'
        place = f'x="{shape.x:g}" y="{shape.y:g}" width="{shape.width:g}" height="{shape.height:g}"'
        graph = _graph(shape, flames) if flames and isinstance(shape, Box) else ""
        return f"<rect {place} {fill}{graph}{title}"
    points = " ".join(f"{round(x, 1):g},{round(y, 1):g}" for x, y in shape.points)
    dash = ' stroke-dasharray="8 5"' if shape.dashed else ""
    return f'<polyline points="{points}" class="{shape.ink} line" stroke-width="{shape.width:g}"{dash}/>'


def _graph(box: Box, flames: Flames) -> str:
    """Return which graph the cell has, `-`: it has one that is left out, or that there is none."""
    if not box.cell:
        return ""
    return f' data-graph="{"-" if box.cell in flames.left_out else flames.of.get(box.cell, "")}"'


def _xml(text: str) -> str:
    return escape(text.translate(_NOT_XML), quote=False)
