"""Reads objectives from the text of an SLA file or of a pyproject.toml; every slip is named with line and key."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, get_args

from tracekit.analysis.objectives import (
    Burn,
    Limit,
    LimitUnit,
    Objective,
    Severity,
    Statistic,
    parse_series,
    quoted,
    shown,
)
from tracekit.errors import UsageError
from tracekit.units import parse_bytes, parse_ns, printable, split_number

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]  # a linter may run on a newer Python

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tracekit.records import Labels

_PLAIN = ("mean", "max", "min", "rate", "total", "growth")
_OPTIONS = ("name", "series", "severity", "per", "during", "each", "window", "burn")
_SEVERITIES = get_args(Severity)
_QUANTILE = re.compile(r"p([0-9]{1,2}(?:\.[0-9]{1,6})?)")
_ABOVE = re.compile(r"above\s+(\S.*)", re.DOTALL)
_LIMIT = re.compile(r"(<=|>=|<|>)\s*(\S.*)", re.DOTALL)
_RELATIVE = re.compile(r"(.*\S)\s*of\s+baseline", re.DOTALL)
_BURN = re.compile(r"\s*([0-9.]+)\s*x?\s+over\s+(\S+)\s+and\s+(\S+)\s*", re.DOTALL)
_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_HEADER = re.compile(r"\s*\[\[\s*(?:[\"']?tool[\"']?\s*\.\s*[\"']?tracekit[\"']?\s*\.\s*)?[\"']?objective[\"']?\s*\]\]")
_LARGEST = 1e18
"""Numbers above it are slips of the keyboard, and would not fit the arithmetic of units."""
_UNITS = "ns us ms s m h, B kB MB GB KiB MiB GiB, W °C, %, /s, or none for a count"
_SERIES_EXAMPLE = """series = 'spawn.ready{role="worker"}'"""
_BURN_EXAMPLE = 'burn = "14.4 over 1h and 5m", the long window first'


@dataclass(frozen=True)
class _Table:
    """A table of the file, with what its errors say: where it is, and the line of each key; 0: not known."""

    content: Mapping[str, Any]
    source: str
    number: int
    lines: Mapping[str, int]
    title: str = ""

    def line(self, key: str = "") -> int:
        """Return the line of *key*, or of the head of the table."""
        return self.lines.get(key) or self.lines.get("", 0)

    def place(self, key: str = "") -> str:
        """Return `sla.toml line 7: objective 2 "title", key p95`."""
        line = f" line {self.line(key)}" if self.line(key) else ""
        title = f" {shown(self.title)}" if self.title else ""
        words = f", key {key if key.isidentifier() else shown(key)}" if key else ""
        return f"{self.source}{line}: objective {self.number}{title}{words}"

    def refusal(self, key: str, cause: str, hint: str) -> UsageError:
        """Return the error to raise."""
        return _refusal(self.place(key), cause, hint)


def parse(text: str, source: str) -> tuple[Objective, ...]:
    """
    Read the objectives of an SLA file, or of `[tool.tracekit]` in a pyproject.toml.

    Args:
        text: TOML.
        source: what the file is called in errors.

    Returns:
        One objective for each limit (and each burn rate of it), in order of the file.

    Raises:
        UsageError: one line with the file, the line, the objective and the key.
    """
    source = printable(source)
    tables = _tables(_document(text, source), source)
    lines = _lines(text, len(tables))
    parts = [_Table(table, source, number, at) for number, (table, at) in enumerate(zip(tables, lines, strict=True), 1)]
    return tuple(objective for part in parts for objective in _of_table(part))


def _document(text: str, source: str) -> dict[str, Any]:
    try:
        document: dict[str, Any] = tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, and integers of thousands of digits
        hint = "a TOML checker, or docs/objectives.md"
        raise _refusal(source, f"it is not TOML: {printable(str(error))}", hint) from error
    except RecursionError as error:
        raise _refusal(source, "it is nested too deep", "[[objective]] tables, which need no nesting") from error
    return document


def _tables(document: dict[str, Any], source: str) -> list[dict[str, Any]]:
    if "tool" in document or "project" in document or "build-system" in document:
        tool = document.get("tool", {})
        document = tool.get("tracekit", {}) if isinstance(tool, dict) else {}
        source += ", tool.tracekit"
    if not isinstance(document, dict):
        raise _refusal(source, "it is not a table", "[[tool.tracekit.objective]]")
    for key in document:
        if key != "objective":
            raise _refusal(source, f"unknown key {shown(key)}", "[[objective]] tables only")
    tables = document.get("objective", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise _refusal(source, "objective is not a list of tables", "[[objective]], with two brackets")
    if not tables:
        raise _refusal(source, "it has no objective", f'[[objective]] with {_SERIES_EXAMPLE} and p95 = "< 50ms"')
    return tables


def _lines(text: str, tables: int) -> list[dict[str, int]]:
    """
    Return for each table the line of its head (key "") and of each key, from 1; empty where they cannot be told.

    TOML parsers keep no lines: a key is on the line with which the table first parses to have it.
    """
    rows = text.split("\n")
    heads = [number for number, row in enumerate(rows) if _HEADER.match(row)]
    if len(heads) != tables:  # inline tables, or a head inside of a text
        return [{} for _ in range(tables)]
    return [_keys(rows[first:last], first) for first, last in zip(heads, [*heads[1:], len(rows)], strict=True)]


def _keys(rows: list[str], first: int) -> dict[str, int]:
    found, begun = {"": first + 1}, 1
    for end in range(2, len(rows) + 1):
        if not rows[begun].strip() or rows[begun].lstrip().startswith("#"):
            begun = end
            continue
        with suppress(ValueError, RecursionError, LookupError, TypeError, AttributeError):
            part: Any = tomllib.loads("[[objective]]\n" + "\n".join(rows[1:end]))
            new = [key for key in part["objective"][-1] if key not in found]
            found |= dict.fromkeys(new, first + begun + 1)
            begun = end
    return found


def _of_table(table: _Table) -> list[Objective]:
    title = table.content.get("name", "")
    if not isinstance(title, str) or ("name" in table.content and not title.strip()):
        raise table.refusal("name", f"{shown(title)} is not a name", 'name = "workers start fast"')
    table = _Table(table.content, table.source, table.number, table.lines, title)
    if "series" not in table.content:
        raise table.refusal("", "it names no series", _SERIES_EXAMPLE)
    shared = _shared(table)
    burns = _burns(table)
    found = []
    for key, value in table.content.items():
        if key not in _OPTIONS:
            statistic = _statistic(key, table)
            limit = _limit(key, value, table)
            _check(key, statistic, limit, table)
            where: dict[str, Any] = {"place": table.place(key), "line": table.line(key), "source": table.source}
            found += [Objective(statistic=statistic, limit=limit, burn=burn, **where, **shared) for burn in burns]
    if not found:
        raise table.refusal("", "it has no limit", 'p95 = "< 50ms"')
    return found


def _shared(table: _Table) -> dict[str, Any]:
    """Return what the limits of a table have in common."""
    metric, where = _series("series", table)
    severity = table.content.get("severity", "error")
    if severity not in _SEVERITIES:
        raise table.refusal("severity", f"{shown(severity)} is no severity", " or ".join(_SEVERITIES))
    return {
        "metric": metric,
        "where": where,
        "title": table.title,
        "severity": severity,
        "per": _series("per", table) if "per" in table.content else None,
        "during": _word("during", table, 'during = "evaluation", the name of a span'),
        "each": _label(table),
        "window_ns": _window(table),
    }


def _series(key: str, table: _Table) -> tuple[str, Labels]:
    text = table.content[key]
    if not isinstance(text, str):
        raise table.refusal(key, f"{shown(text)} is not text", _SERIES_EXAMPLE)
    try:
        return parse_series(text)
    except ValueError as error:
        raise table.refusal(key, f"{shown(text)} {error}", _SERIES_EXAMPLE) from error


def _word(key: str, table: _Table, example: str) -> str:
    text = table.content.get(key, "")
    if not isinstance(text, str) or (key in table.content and not text.strip()):
        raise table.refusal(key, f"{shown(text)} is not a name", example)
    return text


def _label(table: _Table) -> str:
    label = _word("each", table, 'each = "role"')
    if label and not _LABEL.fullmatch(label):
        raise table.refusal("each", f"{shown(label)} is not a label", 'each = "role"')
    return label


def _window(table: _Table) -> int:
    if "window" not in table.content:
        return 0
    if "burn" in table.content:
        raise table.refusal("window", "burn has its own windows", "one of the two")
    value = table.content["window"]
    length = _length(value) if isinstance(value, str) else 0
    if not length:
        raise table.refusal("window", f"{shown(value)} is not a length of time", 'window = "10s"')
    return length


def _burns(table: _Table) -> list[Burn | None]:
    if "burn" not in table.content:
        return [None]
    values = table.content["burn"]
    found: list[Burn | None] = [_burn(value, table) for value in (values if isinstance(values, list) else [values])]
    if not found:
        raise table.refusal("burn", "it is empty", _BURN_EXAMPLE)
    return found


def _burn(value: Any, table: _Table) -> Burn:
    match = _BURN.fullmatch(value) if isinstance(value, str) else None
    factor = 0.0
    with suppress(ValueError):
        factor = float(match[1]) if match else 0.0
    windows = [_length(match[2]), _length(match[3])] if match else [0, 0]
    if not match or not 0 < factor < _LARGEST or not windows[0] >= windows[1] > 0:
        raise table.refusal("burn", f"{shown(value)} is no burn rate", _BURN_EXAMPLE)
    return Burn(factor, windows[0], windows[1], f"{match[2]} and {match[3]}")


def _length(text: str) -> int:
    """Return a length of time with a unit in ns; 0 if it is none."""
    with suppress(ValueError):
        number, unit = split_number(text)
        if unit and number < _LARGEST:
            return parse_ns(text)
    return 0


def _statistic(key: str, table: _Table) -> Statistic:
    if key in _PLAIN:
        return Statistic(key)
    match = _QUANTILE.fullmatch(key)
    q = float(Decimal(match[1]) / 100) if match else 0.0  # Decimal: 99.9 / 100 of floats is not 0.999
    if q > 0:
        return Statistic(key, q)
    above = _ABOVE.fullmatch(key)
    if above:
        try:
            amount, unit = _amount(above[1])
        except ValueError as error:
            raise table.refusal(key, f"{shown(above[1])} {error}", '"above 50ms" = "< 1%"') from error
        return Statistic(f"above {' '.join(above[1].split())}", above=amount, unit=unit)
    near = get_close_matches(key, (*_OPTIONS, *_PLAIN), 1)
    known = ", ".join((*_PLAIN, *_OPTIONS))
    raise table.refusal(key, "unknown key", near[0] if near else f'p95, "p99.9", "above 50ms", {known}')


def _limit(key: str, value: Any, table: _Table) -> Limit:
    if isinstance(value, dict) and _QUANTILE.fullmatch(key):
        raise table.refusal(key, "TOML reads a key with a point as two", f'"{key}.9" = "< 50ms", with quotes')
    example = f'{key if key.isidentifier() else quoted(key)} = "< {"1%" if _ABOVE.fullmatch(key) else "50ms"}"'
    if not isinstance(value, str):
        raise table.refusal(key, f"{shown(value)} is not a limit", example)
    match = _LIMIT.fullmatch(value.strip())
    if not match:
        raise table.refusal(key, f"{shown(value)} does not start with <, <=, > or >= and a number", example)
    operator: Any = match[1]
    relative = _RELATIVE.fullmatch(match[2])
    amount = relative[1] if relative else match[2]
    per_second = amount.endswith("/s")
    try:
        number, unit = _amount(amount[:-2] if per_second else amount)
    except ValueError as error:
        raise table.refusal(key, f"{shown(value)} {error}", f"units: {_UNITS}") from error
    if relative and (unit != "share" or per_second):
        raise table.refusal(key, f"{shown(value)} is not a share", f'{key} = "{operator} 110% of baseline"')
    return Limit(operator, number, unit, per_second, " ".join((operator, *match[2].split())), bool(relative))


def _check(key: str, statistic: Statistic, limit: Limit, table: _Table) -> None:
    """Refuse what no recording could make sense of."""
    budget = (statistic.above is not None or statistic.key == "rate") and limit.unit == "share" and limit.upper
    if "burn" in table.content and (not budget or limit.relative or not 0 < limit.value <= 1):
        raise table.refusal(key, "only a share that may miss can burn", '"above 50ms" = "< 1%", or rate = "< 1%"')
    if statistic.above is not None and "per" in table.content:
        raise table.refusal("per", f"{shown(key)} is a share already", "leave per out")
    if statistic.above is not None and limit.unit != "share":
        raise table.refusal(key, f"{quoted(limit.text)} is not a share", f'{quoted(key)} = "{limit.operator} 1%"')


def _amount(text: str) -> tuple[float, LimitUnit]:
    """Return a number with a unit in ns, bytes, share, counts, W or °C. Raises ValueError in words."""
    try:
        number, word = split_number(text)
    except ValueError:
        raise ValueError("is not a number with a unit") from None
    if number > _LARGEST:
        raise ValueError("is too large")
    if word == "W":
        return number, "W"
    if word == "°C":
        return number, "°C"
    if word in ("", "%"):
        return (number / 100, "share") if word else (number, "count")
    with suppress(ValueError):
        return float(parse_ns(text)), "ns"
    with suppress(ValueError):
        return float(parse_bytes(text)), "bytes"
    raise ValueError("has an unknown unit")


def _refusal(place: str, cause: str, hint: str) -> UsageError:
    return UsageError(f"cannot use {place}: {cause}", hint)
