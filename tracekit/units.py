"""Nanoseconds, bytes, counts and shares, to and from human text. The only formatter."""

from __future__ import annotations

import math
import re

_NS = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": 10**9, "m": 60 * 10**9, "min": 60 * 10**9}
_NS |= {"h": 3600 * 10**9, "d": 86_400 * 10**9}
_BYTES = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BYTES |= {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_NUMBER = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([^\s0-9.]*)\s*")
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F, *range(0x80, 0xA0))}
_BIDI = {code: f"\\u{code:04x}" for code in (0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))}
_ODD = {
    code: f"\\u{code:04x}" for code in (0x200B, 0x2028, 0x2029, *range(0x2060, 0x2065), 0xFEFF, *range(0xD800, 0xE000))
}
_UNPRINTABLE = _CONTROL | _BIDI | _ODD


def split_number(text: str) -> tuple[float, str]:
    """Split `12.5ms` into (12.5, "ms"). Raises ValueError if there is no number."""
    match = _NUMBER.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not a number with a unit")
    number = float(match[1])
    if math.isinf(number):
        raise ValueError(f"{text[:20]!r}... is too large")
    return number, match[2]


def parse_ns(text: str) -> int:
    """Parse `100ms`, `10s`, `5m`, `1.5h` into ns; a bare number is seconds. Raises ValueError."""
    number, unit = split_number(text)
    if unit and unit not in _NS:
        raise ValueError(f"{text!r} has no unit of time: use ns, us, ms, s, m, h or d")
    return round(number * _NS[unit or "s"])


def parse_bytes(text: str) -> int:
    """Parse `512MB` (10^6) or `512MiB` (2^20) into bytes; a bare number is bytes. Raises ValueError."""
    number, unit = split_number(text)
    if unit and unit not in _BYTES:
        raise ValueError(f"{text!r} has no unit of size: use B, kB, MB, GB, KiB, MiB or GiB")
    return round(number * _BYTES[unit or "B"])


def _three_digits(value: float) -> str:
    """Three significant digits below 1000, no exponent, no trailing zeros after a point."""
    decimals = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _scaled(value: float, steps: tuple[tuple[float, str], ...]) -> str:
    for scale, unit in steps:
        if abs(value) >= scale * 0.9995:
            return f"{_three_digits(value / scale)} {unit}"
    scale, unit = steps[-1]
    return f"{_three_digits(value / scale)} {unit}"


def format_ns(ns: float) -> str:
    """Format ns as `0 ns`, `1.25 ms`, `12.3 s`, `2 min 5 s`, `1 h 2 min`."""
    if ns == 0:
        return "0 ns"
    if ns < 0:
        return f"-{format_ns(-ns)}"
    if ns < 119.5e9:
        return _scaled(ns, ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1, "ns")))
    seconds = round(ns / 1e9)
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    minutes = round(ns / 60e9)
    return f"{minutes // 60} h {minutes % 60} min"


def format_bytes(count: float) -> str:
    """Format bytes as `0 B`, `1.25 MB`, `12.3 GB` (powers of 1000, as disks and objectives)."""
    if count == 0:
        return "0 B"
    return _scaled(count, ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B")))


def format_count(count: float) -> str:
    """Format a count: with separators and no unit below a million, then `1.25 M`."""
    if abs(count) < 1e6:
        return f"{count:,.0f}" if float(count).is_integer() or abs(count) >= 1000 else _three_digits(count)
    return _scaled(count, ((1e12, "T"), (1e9, "G"), (1e6, "M")))


def format_share(share: float) -> str:
    """Format 0..1 as percent: `0 %`, `0.12 %`, `12.3 %`; never rounds something to `0 %`."""
    percent = share * 100
    if 0 < abs(percent) < 0.01:
        return "<0.01 %"
    return f"{_three_digits(percent)} %"


def format_value(value: float, unit: str) -> str:
    """Format *value* of a series by its unit: `ns`, `bytes`, `share`, `count`, or another word."""
    if math.isnan(value):
        return "-"
    if unit == "ns":
        return format_ns(value)
    if unit == "bytes":
        return format_bytes(value)
    if unit == "share":
        return format_share(value)
    if unit == "count":
        return format_count(value)
    return f"{format_count(value)} {unit}"


def printable(text: str) -> str:
    """Make a name that a traced program chose safe for a terminal: one line of UTF-8, no control, bidi or odd codes."""
    return text.translate(_UNPRINTABLE)
