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
from codecs import BOM_UTF8
from collections import Counter
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO

from tracekit.stacks import merge
from tracekit.units import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tracekit.stacks import Stack, Weights

_WEIGHT = re.compile(r"(?:[0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:[eE][+-]?[0-9]{1,2})?")
_SECOND_WEIGHT = re.compile(r"\s(?=[0-9]+(?:\.[0-9]*)?$)")
_BATCH_BYTES = 1 << 18
"""Read at a time: few enough to stay in a cache of the CPU, which halves the time that counting takes."""
_EMPTY: tuple[Stack, float] = (), 0
_MALFORMED: tuple[Stack, float] = (), -1
_CODES = {ord(";"): ":"}


@dataclass(frozen=True)
class Folded:
    """Folded stacks as read."""

    weights: Weights
    malformed: list[tuple[int, str]]
    """(line number from 1, line) of what is not a stack and a weight >= 0."""


def read(stream: BinaryIO, begun: bytes = b"") -> Folded:
    r"""
    Read folded stacks, LF or CRLF; equal stacks are added up, empty lines skipped.

    The last number of a line is its weight, so frames may hold spaces. Decimals are
    kept. Bytes that are not UTF-8 are read as `\xff` text.

    Args:
        stream: read once, to its end.
        begun: what was read of it before.

    Raises:
        ValueError: there is a NUL, so it is no text.
    """
    lines = _Lines(Counter(), {}, set(), [], {}, 0)
    batch = BytesIO(begun + stream.readline()).readlines()
    batch[:1] = [line.removeprefix(BOM_UTF8) for line in batch[:1]]
    while batch:
        lines.add(batch)
        batch = stream.readlines(_BATCH_BYTES)
    return Folded(lines.weights(), lines.malformed)


@dataclass
class _Lines:
    """What was read so far. Files of single samples repeat their lines, so each is parsed once and else counted."""

    counts: Counter[bytes]
    parsed: dict[bytes, tuple[Stack, float]]
    """Stack and weight of each distinct line; no stack: it is empty, or malformed."""
    wrong: set[bytes]
    """The malformed ones."""
    malformed: list[tuple[int, str]]
    names: dict[str, str]
    """One object a name, so that comparing stacks is comparing pointers."""
    number: int
    """Of the last line."""

    def add(self, lines: list[bytes]) -> None:
        """Take in *lines*, the next ones."""
        before = len(self.counts)
        self.counts.update(lines)
        for line in islice(reversed(self.counts), len(self.counts) - before):  # what is new comes last
            self.parsed[line] = found = self._parse(line)
            if found == _MALFORMED:
                self.wrong.add(line)
        if self.wrong:
            numbered = enumerate(lines, self.number + 1)
            self.malformed += [(number, _text(line)) for number, line in numbered if line in self.wrong]
        self.number += len(lines)

    def weights(self) -> Weights:
        """Return the sum of each stack."""
        found: Weights = {}
        for line, count in self.counts.items():
            stack, weight = self.parsed[line]
            if stack:
                found[stack] = found.get(stack, 0) + weight * count
        return found

    def _parse(self, line: bytes) -> tuple[Stack, float]:
        if b"\0" in line:
            raise ValueError("a NUL is no text")
        *head, digits = _text(line).rsplit(None, 1) or [""]
        weight = _weight(digits)
        if not head or weight is None:
            return _MALFORMED if digits else _EMPTY
        frames = head[0].split(";")
        return tuple(map(self.names.setdefault, frames, frames)), weight


def _text(line: bytes) -> str:
    return line.decode("utf-8", "backslashreplace").strip()


def write(weights: Mapping[Stack, float]) -> str:
    """Return the stacks that have a weight as lines, in order of their frames."""
    plain = merge({foldable(stack): weight} for stack, weight in weights.items())
    return "".join(f"{';'.join(stack)} {_digits(plain[stack])}\n" for stack in sorted(plain) if plain[stack])


def write_difference(shares: Mapping[Stack, tuple[float, float]]) -> str:
    """
    Return `frame;frame 0.125 0.25`: of each stack its share of the total before and after.

    The columns of difffolded.pl, which has counts there; twelve decimals, no exponents.
    """
    sums: dict[Stack, tuple[float, float]] = {}
    for stack, (before, after) in shares.items():
        known = sums.get(foldable(stack), (0.0, 0.0))
        sums[foldable(stack)] = known[0] + before, known[1] + after
    return "".join(f"{';'.join(stack)} {_share(sums[stack][0])} {_share(sums[stack][1])}\n" for stack in sorted(sums))


def difference_as_json(shares: Mapping[Stack, tuple[float, float]]) -> str:
    """Return `{"unit": "share", "stacks": [{"frames", "before", "after"}]}`"""
    stacks = [
        {"frames": list(stack), "before": shares[stack][0], "after": shares[stack][1]} for stack in sorted(shares)
    ]
    return json.dumps({"unit": "share", "stacks": stacks}, indent=1, allow_nan=False)


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


def _share(share: float) -> str:
    return f"{share:.12f}".rstrip("0").rstrip(".")
