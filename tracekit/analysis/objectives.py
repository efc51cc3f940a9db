"""Objectives: what was promised of a series, read from the text of an SLA file (docs/objectives.md)."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal

from tracekit.errors import UsageError
from tracekit.records import labels_of
from tracekit.units import parse_bytes, parse_ns, printable, split_number

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]  # a linter may run on a newer Python

if TYPE_CHECKING:
    from tracekit.records import Labels

Operator = Literal["<", "<=", ">", ">="]
LimitUnit = Literal["ns", "bytes", "share", "count"]

_PLAIN = ("mean", "max", "min", "rate", "total")
_QUANTILE = re.compile(r"p([0-9]{1,2}(?:\.[0-9]{1,6})?)")
_LIMIT = re.compile(r"(<=|>=|<|>)\s*(\S.*)", re.DOTALL)
_LARGEST = 1e18
"""Numbers above it are slips of the keyboard, and would not fit the arithmetic of units."""
_UNITS = "ns us ms s m h, B kB MB GB KiB MiB GiB, %, /s, or none for a count"
_SERIES = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_.]*)\s*(?:\{(.*)\})?\s*", re.DOTALL)
_PAIR = re.compile(
    r"""\s*([A-Za-z_][A-Za-z0-9_]*)\s*=\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')\s*(?:,|$)\s*""", re.DOTALL
)
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'"}
_SERIES_EXAMPLE = """series = 'spawn.ready{role="worker"}'"""


@dataclass(frozen=True)
class Statistic:
    """What is taken of a series: `key` as written (`p99.9`, `mean`); `q` the share of a quantile, else 0."""

    key: str
    q: float = 0.0


@dataclass(frozen=True)
class Limit:
    """A promised bound. `value` is in ns, bytes, share (0..1) or counts; `text` is as written: `< 50ms`."""

    operator: Operator
    value: float
    unit: LimitUnit
    per_second: bool
    text: str

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
class Objective:
    """
    One promise: a statistic of the series of *metric* whose labels include *where*, and its limit.

    Attributes:
        title: the name the file gives, "" if none.
        place: where it stands, for errors: file, number, title and key.
    """

    metric: str
    where: Labels
    statistic: Statistic
    limit: Limit
    title: str = ""
    place: str = field(default="", compare=False)

    @property
    def series(self) -> str:
        """The series as `parse_series` reads it."""
        return format_series(self.metric, self.where)

    @property
    def expression(self) -> str:
        """The objective in one line: `runq.wait p99 < 10ms`."""
        return f"{self.series} {self.statistic.key} {self.limit.text}"

    @property
    def name(self) -> str:
        """The title, or the expression where there is none."""
        return self.title or self.expression


def parse(text: str, source: str) -> tuple[Objective, ...]:
    """
    Read the objectives of an SLA file.

    Args:
        text: TOML.
        source: what the file is called in errors.

    Returns:
        One objective for each limit, in order of the file.

    Raises:
        UsageError: one line with the file, the objective and the key.
    """
    source = printable(source)
    tables = _tables(_document(text, source), source)
    return tuple(objective for number, table in enumerate(tables, 1) for objective in _of_table(table, source, number))


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
            raise ValueError(f'has no label="value" at {_shown(body[at:].strip())}')
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
        raise ValueError(f"has an unknown escape {_shown(match[0])}")
    return chr(int(code[1:], 16))


def _document(text: str, source: str) -> dict[str, Any]:
    try:
        document: dict[str, Any] = tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, and integers of thousands of digits
        raise _refusal(
            source, f"it is not TOML: {printable(str(error))}", "a TOML checker, or docs/objectives.md"
        ) from error
    except RecursionError as error:
        raise _refusal(source, "it is nested too deep", "[[objective]] tables, which need no nesting") from error
    return document


def _tables(document: dict[str, Any], source: str) -> list[dict[str, Any]]:
    for key in document:
        if key != "objective":
            raise _refusal(source, f"unknown key {_shown(key)}", "[[objective]] tables only")
    tables = document.get("objective", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise _refusal(source, "objective is not a list of tables", "[[objective]], with two brackets")
    if not tables:
        raise _refusal(source, "it has no objective", f'[[objective]] with {_SERIES_EXAMPLE} and p95 = "< 50ms"')
    return tables


def _of_table(table: dict[str, Any], source: str, number: int) -> list[Objective]:
    title = table.get("name", "")
    place = f"{source}: objective {number}"
    if not isinstance(title, str) or ("name" in table and not title.strip()):
        raise _refusal(f"{place}, key name", f"{_shown(title)} is not a name", 'name = "workers start fast"')
    place += f" {_shown(title)}" if title else ""
    metric, where = _series(table, place)
    found = []
    for key, value in table.items():
        if key not in ("name", "series"):
            at = f"{place}, key {key if key.isidentifier() else _shown(key)}"
            found.append(Objective(metric, where, _statistic(key, at), _limit(key, value, at), title, at))
    if not found:
        raise _refusal(place, "it has no limit", 'p95 = "< 50ms"')
    return found


def _series(table: dict[str, Any], place: str) -> tuple[str, Labels]:
    if "series" not in table:
        raise _refusal(place, "it names no series", _SERIES_EXAMPLE)
    text = table["series"]
    if not isinstance(text, str):
        raise _refusal(f"{place}, key series", f"{_shown(text)} is not text", _SERIES_EXAMPLE)
    try:
        return parse_series(text)
    except ValueError as error:
        raise _refusal(f"{place}, key series", f"{_shown(text)} {error}", _SERIES_EXAMPLE) from error


def _statistic(key: str, place: str) -> Statistic:
    if key in _PLAIN:
        return Statistic(key)
    match = _QUANTILE.fullmatch(key)
    q = float(Decimal(match[1]) / 100) if match else 0.0  # Decimal: 99.9 / 100 of floats is not 0.999
    if q > 0:
        return Statistic(key, q)
    near = get_close_matches(key, ("name", "series", *_PLAIN), 1)
    hint = near[0] if near else f'name, series, a quantile such as p95 or "p99.9", {", ".join(_PLAIN)}'
    raise _refusal(place, "unknown key", hint)


def _limit(key: str, value: Any, place: str) -> Limit:
    if isinstance(value, dict) and _QUANTILE.fullmatch(key):
        raise _refusal(place, "TOML reads a key with a point as two", f'"{key}.9" = "< 50ms", with quotes')
    example = f'{key if key.isidentifier() else quoted(key)} = "< 50ms"'
    if not isinstance(value, str):
        raise _refusal(place, f"{_shown(value)} is not a limit", example)
    match = _LIMIT.fullmatch(value.strip())
    if not match:
        raise _refusal(place, f"{_shown(value)} does not start with <, <=, > or >= and a number", example)
    operator: Any = match[1]
    per_second = match[2].endswith("/s")
    try:
        amount, unit = _amount(match[2][:-2] if per_second else match[2])
    except ValueError as error:
        raise _refusal(place, f"{_shown(value)} {error}", f"units: {_UNITS}") from error
    return Limit(operator, amount, unit, per_second, " ".join((operator, *match[2].split())))


def _amount(text: str) -> tuple[float, LimitUnit]:
    """Return a number with a unit in ns, bytes, share or counts. Raises ValueError in words."""
    try:
        number, word = split_number(text)
    except ValueError:
        raise ValueError("is not a number with a unit") from None
    if number > _LARGEST:
        raise ValueError("is too large")
    if word in ("", "%"):
        return (number / 100, "share") if word else (number, "count")
    with suppress(ValueError):
        return float(parse_ns(text)), "ns"
    with suppress(ValueError):
        return float(parse_bytes(text)), "bytes"
    raise ValueError("has an unknown unit")


def _shown(value: object) -> str:
    """Show what a file holds in a few safe characters."""
    if isinstance(value, str):
        return quoted(value if len(value) <= 60 else value[:59] + "…")
    kinds = {dict: "a table", list: "an array", bool: "true or false", int: "a number", float: "a number"}
    return kinds.get(type(value), "a date or time")


def _refusal(place: str, cause: str, hint: str) -> UsageError:
    return UsageError(f"cannot use {place}: {cause}", hint)
