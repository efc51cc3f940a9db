"""Text on a terminal: columns that line up, bars, and characters the terminal has."""

from __future__ import annotations

import sys
import unicodedata
from itertools import zip_longest
from typing import TYPE_CHECKING

import click

from tracekit.units import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WIDTH = 80

_EIGHTHS = " ▏▎▍▌▋▊▉"
_ASCII = str.maketrans(
    {"µ": "u", "×": "x", "·": "-", "–": "-", "…": "~", "◂": "<", "█": "#", "▉": "#", "▊": "#", "▋": "#", "▌": "#"}
    | {"▍": ".", "▎": ".", "▏": "."}
)


def say(lines: Iterable[str]) -> None:
    """Write *lines* to stdout, in characters its encoding has; colour goes only where it is wanted."""
    encoding = sys.stdout.encoding or "ascii"
    click.echo("\n".join(in_encoding(line, encoding) for line in lines))


def in_encoding(text: str, encoding: str) -> str:
    """Return *text* in characters of *encoding*: ASCII for our own marks, escapes for names."""
    if not encoding.lower().replace("-", "").startswith("utf"):
        text = text.translate(_ASCII)
    return text.encode(encoding, "backslashreplace").decode(encoding)


def columns_of(text: str) -> int:
    """Return how many columns of a terminal *text* takes; colour takes none."""
    return sum(_columns(char) for char in click.unstyle(text))


def fit(name: str, columns: int) -> str:
    """Return a name that a traced program chose on one safe line of at most *columns*; `…` where it was cut."""
    safe = printable(name)
    if columns_of(safe) <= columns:
        return safe
    kept, room = "", columns - 1
    for char in safe:
        room -= _columns(char)
        if room < 0:
            break
        kept += char
    return kept + "…"


def fit_end(name: str, columns: int) -> str:
    """Return the same, cut at its beginning: of a path or an address the end tells most."""
    safe = printable(name)
    if columns_of(safe) <= columns:
        return safe
    at, room = len(safe), columns - 1
    while at and columns_of(safe[at - 1 :]) <= room:
        at -= 1
    return "…" + safe[at:]


def pad(text: str, columns: int, align: str = "<") -> str:
    """Return *text* filled up with blanks to *columns*, to the left (`<`) or right (`>`) of them."""
    blanks = " " * (columns - columns_of(text))
    return text + blanks if align == "<" else blanks + text


def table(rows: Sequence[Sequence[str]], align: str) -> list[str]:
    """
    Line up *rows* in columns as wide as their widest cell, two blanks before each.

    A table wider than the screen loses the excess from its widest left-aligned column.

    Args:
        rows: cells; missing last cells are blank.
        align: `<` or `>` for each column.
    """
    widths = [max(map(columns_of, column)) for column in zip_longest(*rows, fillvalue="")]
    excess = sum(widths) + 2 * len(widths) - WIDTH
    if excess > 0:
        widest = max((i for i, way in enumerate(align) if way == "<"), key=lambda i: widths[i])
        widths[widest] -= excess
        rows = [[fit(cell, widths[i]) if i == widest else cell for i, cell in enumerate(row)] for row in rows]
    return ["".join("  " + pad(*cell) for cell in zip(row, widths, align, strict=False)).rstrip() for row in rows]


def flow(items: Sequence[str], indent: int, width: int = WIDTH) -> list[str]:
    """Return *items* with commas between them, on lines of at most *width*; all but the first are indented."""
    lines: list[str] = []
    line = items[0]
    for item in items[1:]:
        if columns_of(line) + columns_of(item) + 3 > width - (indent if lines else 0):
            lines.append(line + ",")
            line = item
        else:
            line += ", " + item
    return [text if not number else " " * indent + text for number, text in enumerate([*lines, line])]


def bar(share: float, columns: int) -> str:
    """Return a bar for *share* (0..1) of *columns*, to an eighth of one; something is never nothing."""
    eighths = round(min(share, 1.0) * columns * 8)
    if share > 0:
        eighths = max(eighths, 1)
    full, rest = divmod(eighths, 8)
    return "█" * full + (_EIGHTHS[rest] if rest else "")


def heading(text: str, note: str = "") -> str:
    """Return the first line of a section, its *note* not bold."""
    return click.style(text, bold=True) + (f"  {note}" if note else "")


def _columns(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
