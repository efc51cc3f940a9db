"""Colours: more is told from less by lightness alone, one is never nothing, and the terminal decides the depth."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracekit.report import palette
from tracekit.report.palette import DARK, LIGHT, Theme, depth_of, nearest_256, oklab, sgr, thresholds

THEMES = pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])


def rgb(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def lightness(color: str) -> float:
    return oklab(rgb(color))[0]


def contrast(one: str, other: str) -> float:
    """Contrast ratio of WCAG 2.1."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(color: str) -> float:
    parts = [part / 255 for part in rgb(color)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@THEMES
def test_lightness_changes_in_even_steps(theme: Theme) -> None:
    """A ramp read in grey says the same as in colour."""
    steps = [lightness(b) - lightness(a) for a, b in pairwise(theme.cells)]

    assert len(theme.cells) == palette.STEPS
    assert len({step > 0 for step in steps}) == 1
    assert max(map(abs, steps)) < 1.3 * min(map(abs, steps))


@THEMES
def test_a_single_event_stands_out_of_the_ground(theme: Theme) -> None:
    """The first colour of the ramp is far from nothing; text and marks are farther."""
    assert contrast(theme.cells[0], theme.plot) > 1.9
    assert all(contrast(color, theme.plot) > 4 for color in (theme.p50, theme.p99, theme.limit))
    assert all(contrast(color, theme.paper) > 4.5 for color in (theme.text, theme.muted))


def test_256_colours_keep_the_order() -> None:
    """The ramp of the terminal, rounded to xterm's colours, never goes back, and its first is not the ground."""
    cube = (0, 95, 135, 175, 215, 255)

    def seen(color: str) -> float:
        number = nearest_256(color)
        if number >= 232:
            return oklab((8 + 10 * (number - 232),) * 3)[0]
        place = number - 16
        return oklab((cube[place // 36], cube[place // 6 % 6], cube[place % 6]))[0]

    ramp = [seen(color) for color in DARK.cells]
    assert ramp == sorted(ramp)
    assert len({nearest_256(color) for color in DARK.cells}) >= 8
    assert nearest_256(DARK.cells[0]) != nearest_256(DARK.plot)


@pytest.mark.parametrize(
    ("color", "number"), [("#000000", 16), ("#ffffff", 231), ("#ff0000", 196), ("#5f87af", 67), ("#808080", 244)]
)
def test_colours_of_xterm_are_their_own_nearest(color: str, number: int) -> None:
    """Colours that xterm has are found exactly."""
    assert nearest_256(color) == number


def test_sgr_parameters() -> None:
    """24-bit colours as they are, others by number."""
    assert sgr("#0a141e", "true") == "2;10;20;30"
    assert sgr("#ff0000", "256") == "5;196"


@pytest.mark.parametrize(
    ("color", "is_terminal", "encoding", "environ", "depth"),
    [
        (None, True, "utf-8", {"COLORTERM": "truecolor"}, "true"),
        (None, True, "UTF8", {"COLORTERM": "24bit", "TERM": "xterm"}, "true"),
        (None, True, "utf-8", {"TERM": "tmux-256color"}, "256"),
        (None, True, "utf-8", {"TERM": "xterm-kitty"}, "256"),
        (None, True, "utf-8", {"TERM": "vt100"}, "ascii"),
        (None, True, "utf-8", {}, "ascii"),
        (None, True, "iso-8859-1", {"COLORTERM": "truecolor"}, "ascii"),
        (None, False, "utf-8", {"COLORTERM": "truecolor"}, "ascii"),
        (False, True, "utf-8", {"COLORTERM": "truecolor"}, "ascii"),
        (True, False, "utf-8", {"COLORTERM": "truecolor"}, "true"),
    ],
)
def test_depth(color: bool | None, is_terminal: bool, encoding: str, environ: dict[str, str], depth: str) -> None:
    """What the user wants comes first, then what the terminal says it can."""
    assert depth_of(color, is_terminal, encoding, environ) == depth


@given(st.integers(1, 2**60), st.integers(1, 16))
def test_thresholds_divide_all_amounts(largest: int, steps: int) -> None:
    """One has the first colour, the largest the last, and no colour begins above the largest."""
    starts = thresholds(largest, steps)

    assert starts[0] == 1
    assert starts == sorted(starts)
    assert len(starts) == steps
    assert largest == 1 or starts.count(1) == 1 or steps == 1
    assert starts[-1] <= largest


def test_thresholds_are_even_on_a_log_scale() -> None:
    """Powers of ten, exactly, although 100000 ** (1 / 5) is a hair above 10."""
    assert thresholds(10**5, 5) == [1, 10, 100, 1000, 10_000]
