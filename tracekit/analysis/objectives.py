"""Objectives: what is promised of a series. sla.py reads them from a file; docs/objectives.md has the schema."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from tracekit.records import labels_of

if TYPE_CHECKING:
    from tracekit.records import Labels

Operator = Literal["<", "<=", ">", ">="]
LimitUnit = Literal["ns", "bytes", "share", "count", "times", "W", "°C"]
Severity = Literal["warning", "error", "critical"]

_SERIES = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_.]*)\s*(?:\{(.*)\})?\s*", re.DOTALL)
_PAIR = re.compile(
    r"""\s*([A-Za-z_][A-Za-z0-9_.]*)\s*=\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')\s*(?:,|$)\s*""", re.DOTALL
)
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'"}


@dataclass(frozen=True)
class Statistic:
    """
    What is taken of a series.

    Attributes:
        key: as written: `p99.9`, `mean`, `above 50ms`.
        q: share of a quantile, else 0.
        above: what events are to exceed to count, in *unit*; None if it is no share above a limit.
    """

    key: str
    q: float = 0.0
    above: float | None = None
    unit: LimitUnit | None = None


@dataclass(frozen=True)
class Limit:
    """
    A promised bound.

    Attributes:
        value: in ns, bytes, share (0..1), counts, W, °C, or times (of a ratio or a budget).
        text: as written: `< 50ms`.
        relative: *value* is a share of the same statistic of the baseline.
    """

    operator: Operator
    value: float
    unit: LimitUnit
    per_second: bool
    text: str
    relative: bool = False

    @property
    def upper(self) -> bool:
        """True if the limit is not to be exceeded, False if it must be reached."""
        return self.operator in ("<", "<=")

    def met(self, value: float) -> bool:
        """Tell whether *value* keeps the promise."""
        if value == self.value:
            return self.operator in ("<=", ">=")
        return (value < self.value) is self.upper

    def margin(self, value: float) -> float:
        """Return the room that *value* leaves to the limit; negative beyond it."""
        return self.value - value if self.upper else value - self.value


@dataclass(frozen=True)
class Burn:
    """A budget (share of events that may miss) burns too fast: *factor* times as fast as it may, in both windows."""

    factor: float
    long_ns: int
    short_ns: int
    text: str


@dataclass(frozen=True)
class Objective:
    """
    One promise: a statistic of the series of *metric* whose labels include *where*, and its limit.

    Attributes:
        title: the name the file gives, "" if none.
        place: where it stands, for errors: file, line, number, title and key; line: 0 if not known.
        per: the series that the statistic is divided by.
        during: the span that must be running; "" for always.
        each: a label: the promise holds for each of its values alone.
        window_ns: it holds in every stretch of this length; 0: for the whole recording.
        burn: the limit is a budget, judged by how fast it burns.
    """

    metric: str
    where: Labels
    statistic: Statistic
    limit: Limit
    title: str = ""
    place: str = field(default="", compare=False)
    line: int = field(default=0, compare=False)
    source: str = field(default="", compare=False)
    severity: Severity = "error"
    per: tuple[str, Labels] | None = None
    during: str = ""
    each: str = ""
    window_ns: int = 0
    burn: Burn | None = None

    @property
    def series(self) -> str:
        """The series as `parse_series` reads it."""
        return format_series(self.metric, self.where)

    @property
    def scope(self) -> str:
        """What the series is seen through, in words with a blank before them: ` per spawn.count during evaluation`."""
        words = [f" per {format_series(*self.per)}"] if self.per else []
        words += [f" during {quoted(self.during)}"] if self.during else []
        words += [f" in every {self.window_ns / 1e9:g} s"] if self.window_ns else []
        words += [f" burning over {self.burn.text}"] if self.burn else []
        return "".join(words)

    @property
    def expression(self) -> str:
        """The objective in one line: `runq.wait p99 < 10ms`."""
        return f"{self.series} {self.statistic.key} {self.limit.text}{self.scope}"

    @property
    def name(self) -> str:
        """The title, or the expression where there is none."""
        return self.title or self.expression


def parse_series(text: str) -> tuple[str, Labels]:
    r"""
    Read `metric{label="value",…}`; a value is quoted by " or ' and may hold \\ \" \' \n \t \r \uXXXX.

    Raises:
        ValueError: what is wrong with it, in words.
    """
    match = _SERIES.fullmatch(text)
    if not match:
        raise ValueError("is not a metric with labels in braces")
    pairs, body, at = {}, match[2] or "", 0
    while body[at:].strip():
        pair = _PAIR.match(body, at)
        if not pair:
            raise ValueError(f'has no label="value" at {shown(body[at:].strip())}')
        if pair[1] in pairs:
            raise ValueError(f"names the label {pair[1]} twice")
        pairs[pair[1]] = _ESCAPE.sub(_unescape, pair[2][1:-1])
        at = pair.end()
    return match[1], labels_of(pairs)


def format_series(metric: str, labels: Labels) -> str:
    """Return the text that `parse_series` reads as *metric* and *labels*; safe on a terminal and in XML."""
    pairs = ",".join(f"{name}={quoted(value)}" for name, value in labels)
    return f"{metric}{{{pairs}}}" if pairs else metric


def quoted(value: str) -> str:
    """Return the value of a label in quotes, with escapes for what does not print."""
    return '"' + "".join(map(_escape, value)) + '"'


def _escape(char: str) -> str:
    if char in '"\\':
        return f"\\{char}"
    if char.isprintable():
        return char
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"


def _unescape(match: re.Match[str]) -> str:
    code = match[1]
    if code in _ESCAPES:
        return _ESCAPES[code]
    if len(code) == 1 or int(code[1:], 16) > sys.maxunicode:
        raise ValueError(f"has an unknown escape {shown(match[0])}")
    return chr(int(code[1:], 16))


def shown(value: object) -> str:
    """Show what a file holds in a few safe characters."""
    if isinstance(value, str):
        return quoted(value if len(value) <= 60 else value[:59] + "…")
    kinds = {dict: "a table", list: "an array", bool: "true or false", int: "a number", float: "a number"}
    return kinds.get(type(value), "a date or time")
