"""Colours of the flame graph: the hue says the kind of a frame, to everyone, on white and on black."""

from __future__ import annotations

import itertools
import math
import re
from importlib.resources import files

import pytest

from tracekit.report.palette import oklab

CSS = (files("tracekit.report") / "web" / "flamegraph.css").read_text()
LIGHT, DARK = CSS.split("@media (prefers-color-scheme: dark)")

# Machado, Oliveira, Fernandes, "A Physiologically-based Model for Simulation of Color
# Vision Deficiency" (2009), severity 1.0; rows give linear red, green, blue.
VISION = {
    "normal": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritanopia": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}
APART = 0.05  # in OKLab; 0.02 is the least that people see


def fills(css, what):
    """Return the fill of each one-class selector `.x what`."""
    found = {}
    for selectors, color in re.findall(r"^\s*([^{}]+) \{[^}]*?fill: (#\w{6})", css, re.MULTILINE):
        for selector in selectors.split(", "):
            if match := re.fullmatch(rf"\.([\w-]+) {what}", selector):
                found[match[1]] = color
    return found


def boxes(mode):
    """Return the fills of boxes as they apply in *mode*."""
    return fills(LIGHT, "rect") | (fills(DARK, "rect") if mode == "dark" else {})


def linear(color):
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    return [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]


def seen(color, vision):
    """Return where someone sees *color* in OKLab."""
    mixed = [sum(map(math.prod, zip(row, linear(color), strict=True))) for row in VISION[vision]]
    clipped = [min(1, max(0, part)) for part in mixed]
    return oklab(tuple(round(255 * (12.92 * p if p <= 0.0031308 else 1.055 * p ** (1 / 2.4) - 0.055)) for p in clipped))


def luminance(color):
    return sum(map(math.prod, zip((0.2126, 0.7152, 0.0722), linear(color), strict=True)))


def contrast(one, other):
    """WCAG 2.2, contrast ratio."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("vision", VISION)
def test_kinds_stand_apart(mode, vision):
    """Two frames of different kinds never look alike; shades of one kind may."""
    code = {name: color for name, color in boxes(mode).items() if name[0] in "cqbdtupnk"}

    pairs = [(a, b) for a, b in itertools.combinations(code, 2) if a[0] != b[0]]
    distances = {(a, b): math.dist(seen(code[a], vision), seen(code[b], vision)) for a, b in pairs}
    assert len(distances) > 100
    assert {pair: round(apart, 3) for pair, apart in distances.items() if apart < APART} == {}


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_names_are_readable_on_their_boxes(mode):
    """WCAG AA: 4.5 to 1 for small text."""
    texts = fills(LIGHT, "text") | (fills(DARK, "text") if mode == "dark" else {})
    ground = {name: color for name, color in boxes(mode).items() if name != "m"}

    low = {name: round(contrast(color, texts.get(name, "#111111")), 2) for name, color in ground.items()}

    assert {name: value for name, value in low.items() if value < 4.5} == {}


@pytest.mark.parametrize(("mode", "page"), [("light", "#ffffff"), ("dark", "#0d1117")])
def test_boxes_stand_out_of_the_page(mode, page):
    """No kind of frame has the colour of the paper."""
    assert all(math.dist(seen(color, "normal"), seen(page, "normal")) > APART for color in boxes(mode).values())


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("vision", VISION)
def test_less_and_more_stand_apart(mode, vision):
    """In a comparison no blue looks like an orange or like no change, and the steps of each differ."""
    found = boxes(mode)
    less, more = (["z", *(f"{side}{step}" for step in range(1, 5))] for side in "lg")

    pairs = [*itertools.product(less[1:], more[1:]), *itertools.pairwise(less), *itertools.pairwise(more)]
    distances = {(a, b): math.dist(seen(found[a], vision), seen(found[b], vision)) for a, b in pairs}
    assert len(distances) == 24
    assert {pair: round(apart, 3) for pair, apart in distances.items() if apart < APART} == {}
