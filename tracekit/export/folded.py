r"""
Folded stacks as text, one line a stack: `frame;frame;frame weight`, root first.

The format of Brendan Gregg's stackcollapse scripts, also of bcc (`-f`), bpftrace
collapsed, py-spy (`--format raw`), inferno and async-profiler.

A frame can be called anything, but a line must parse back. So `write` changes, in a
frame: `;` to `:` (as stackcollapse-perf.pl does), control and bidirectional codes to
their `\x0a` text, and nothing at all to `-`; it drops white space around the frame. In a
stack that ends in ` 12` that space becomes `_`: flamegraph.pl would take the number
for a second weight. What these rules make equal is added up.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracekit.stacks import merge
from tracekit.units import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tracekit.stacks import Stack, Weights

_WEIGHT = re.compile(r"(?:[0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:[eE][+-]?[0-9]{1,2})?")
_SECOND_WEIGHT = re.compile(r"\s(?=[0-9]+(?:\.[0-9]*)?$)")
_CODES = {ord(";"): ":", 0xFEFF: "\\ufeff"}  # a byte order mark that begins a file is not read as text


@dataclass(frozen=True)
class Folded:
    """Folded stacks as read."""

    weights: Weights
    malformed: list[tuple[int, str]]
    """(line number from 1, line) of what is not a stack and a weight >= 0."""


def read(data: bytes) -> Folded:
    r"""
    Read folded stacks, LF or CRLF; equal stacks are added up, empty lines skipped.

    The last number of a line is its weight, so frames may hold spaces. Decimals are
    kept. Bytes that are not UTF-8 are read as `\xff` text.
    """
    weights: Weights = {}
    malformed = []
    names: dict[str, str] = {}
    known = names.setdefault  # one object a name, so that comparing stacks is comparing pointers
    for number, line in enumerate(data.decode("utf-8-sig", "backslashreplace").split("\n"), 1):
        text = line.strip()
        *head, digits = text.rsplit(None, 1) or [""]
        weight = _weight(digits)
        if head and weight is not None:
            frames = head[0].split(";")
            stack = tuple(map(known, frames, frames))
            weights[stack] = weights.get(stack, 0) + weight
        elif text:
            malformed.append((number, text))
    return Folded(weights, malformed)


def write(weights: Mapping[Stack, float]) -> str:
    """Return the stacks that have a weight as lines, in order of their frames."""
    plain = merge({foldable(stack): weight} for stack, weight in weights.items())
    return "".join(f"{';'.join(stack)} {_digits(plain[stack])}\n" for stack in sorted(plain) if plain[stack])


def as_json(found: Folded, unit: str) -> str:
    """Return `{"unit", "total", "stacks": [{"frames", "weight"}], "malformed": [{"line", "text"}]}`"""
    stacks = [{"frames": list(stack), "weight": found.weights[stack]} for stack in sorted(found.weights)]
    malformed = [{"line": number, "text": text} for number, text in found.malformed]
    total = sum(found.weights.values())
    document = {"unit": unit, "total": total, "stacks": stacks, "malformed": malformed}
    return json.dumps(document, indent=1, allow_nan=False)


def foldable(stack: Stack) -> Stack:
    """Return *stack* as it comes back from a folded line; the rules are those of the module."""
    *callers, leaf = [_frame(frame) for frame in stack] or ["-"]
    return (*callers, _SECOND_WEIGHT.sub("_", leaf))


def _frame(name: str) -> str:
    encodable = name.encode("utf-8", "backslashreplace").decode()
    return printable(encodable).translate(_CODES).strip() or "-"


def _weight(digits: str) -> float | None:
    if digits.isdecimal() and digits.isascii() and len(digits) <= 30:
        return int(digits)
    return float(digits) if _WEIGHT.fullmatch(digits) else None


def _digits(weight: float) -> str:
    return str(int(weight)) if weight == int(weight) and weight < 2**64 else repr(weight)
