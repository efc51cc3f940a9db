"""
Colours of pictures: a ramp for amounts whose lightness alone tells more from less, and marks that stand out of it.

The ramp is blue and the marks are yellow to red, which people with the usual colour blindnesses
tell apart; its lightness changes in equal steps, so it survives a printer.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

STEPS = 16
"""Colours in a ramp, few to many."""
ASCII_RAMP = ".:-=+*#%@"
"""What stands for a ramp where there is no colour; a blank is nothing."""

Depth = Literal["true", "256", "ascii"]
"""What a terminal can show: 24-bit colour, the 256 colours of xterm, or neither."""

_WITH_256 = ("256color", "alacritty", "foot", "ghostty", "kitty", "wezterm")
"""Words in TERM of terminals with 256 colours; without COLORTERM (ssh, sudo) it is all that is known."""
_CUBE = (0, 95, 135, 175, 215, 255)


@dataclass(frozen=True)
class Theme:
    """Colours of one background, `#rrggbb`. `cells` is the ramp, from the fewest to the most."""

    paper: str
    plot: str
    text: str
    muted: str
    hatch: str
    rule: str
    p50: str
    p99: str
    limit: str
    cells: tuple[str, ...]


# The ramps are even steps in OKLCH: lightness .78 to .30, hue 228° to 268°, and .46 to .97, 262° to 215°.
LIGHT = Theme(
    paper="#ffffff",
    plot="#ffffff",
    text="#1b1f24",
    muted="#57606a",
    hatch="#a8b0b9",
    rule="#e2e6ea",
    p50="#000000",
    p99="#d9480f",
    limit="#a61e8c",
    cells=(
        *("#7bc3e2", "#6eb8dc", "#63add5", "#57a3ce", "#4c98c8", "#428ec1", "#3883bb", "#2e78b4"),
        *("#2a6dab", "#29639f", "#285994", "#264f88", "#24457d", "#213c71", "#1e3266", "#1b295a"),
    ),
)
DARK = Theme(
    paper="#0d1117",
    plot="#10151c",
    text="#e6edf3",
    muted="#9aa4af",
    hatch="#59636e",
    rule="#242b34",
    p50="#ffe14d",
    p99="#ff7a45",
    limit="#ff6ad5",
    cells=(
        *("#2f559d", "#3260a7", "#356cb2", "#3877bc", "#3c83c6", "#408fd0", "#449bda", "#49a7e3"),
        *("#55b3e9", "#69beec", "#7dc9ee", "#91d3f1", "#a5ddf4", "#bae7f7", "#cef1fb", "#e3faff"),
    ),
)


def depth_of(color: bool | None, is_terminal: bool, encoding: str, environ: Mapping[str, str]) -> Depth:
    """
    Return what standard output can show.

    Args:
        color: what the user wants: no, yes, or (None) only on a terminal.
        is_terminal: whether standard output is one.
        encoding: of standard output; half blocks need UTF-8.
        environ: COLORTERM and TERM are read.
    """
    wanted = is_terminal if color is None else color
    if not wanted or encoding.lower().replace("-", "") != "utf8":
        return "ascii"
    if environ.get("COLORTERM", "").lower() in ("truecolor", "24bit"):
        return "true"
    return "256" if any(word in environ.get("TERM", "") for word in _WITH_256) else "ascii"


def sgr(color: str, depth: Depth) -> str:
    """Return *color* (`#rrggbb`) as SGR parameters, to come after `38;` (foreground) or `48;` (background)."""
    return f"5;{nearest_256(color)}" if depth == "256" else ";".join(map(str, (2, *_rgb(color))))


def thresholds(largest: int, steps: int) -> list[int]:
    """
    Return the smallest amount of each of *steps* colours for amounts 1 to *largest*, even on a log scale.

    An amount has the colour of the last threshold that it reaches: 1 has the first one
    (unless 1 is the largest too), *largest* the last one.
    """
    return [math.ceil(round(largest ** (step / steps), 9)) for step in range(steps)]


@functools.cache
def nearest_256(color: str) -> int:
    """Return the number (16 to 255) of the colour of xterm's cube or greys that looks most like *color*."""
    wanted, colors = oklab(_rgb(color)), _xterm()
    return min(colors, key=lambda number: math.dist(wanted, colors[number]))


@functools.cache
def _xterm() -> dict[int, tuple[float, float, float]]:
    cube = [(red, green, blue) for red in _CUBE for green in _CUBE for blue in _CUBE]
    greys = [(level, level, level) for level in range(8, 239, 10)]
    return {number: oklab(rgb) for number, rgb in enumerate(cube + greys, 16)}


def _rgb(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def oklab(rgb: tuple[int, int, int]) -> tuple[float, float, float]:
    """
    Return lightness (0..1) and the two axes of hue of an sRGB colour (0..255 each).

    Source:
        Björn Ottosson, "A perceptual color space for image processing" (2020).
    """
    r, g, b = (_linear(part / 255) for part in rgb)
    long = (0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b) ** (1 / 3)
    medium = (0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b) ** (1 / 3)
    short = (0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b) ** (1 / 3)
    return (
        0.2104542553 * long + 0.7936177850 * medium - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * medium + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * medium - 0.8086757660 * short,
    )


def _linear(part: float) -> float:
    return part / 12.92 if part <= 0.04045 else float(((part + 0.055) / 1.055) ** 2.4)
