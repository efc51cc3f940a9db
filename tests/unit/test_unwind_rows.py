"""Unwinding rows of the libraries of this machine, against what binutils reads in the same tables."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from bisect import bisect, bisect_left
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tracekit.capture.stacks import ehframe
from tracekit.capture.stacks.cfa import ADDRESS
from tracekit.capture.stacks.layout import UNWIND_DEREF as DEREF
from tracekit.capture.stacks.layout import UNWIND_END as END
from tracekit.capture.stacks.layout import UNWIND_NONE as NONE
from tracekit.capture.stacks.layout import UNWIND_PLT as PLT
from tracekit.capture.stacks.layout import UNWIND_RBP_LOST as LOST
from tracekit.capture.stacks.layout import UNWIND_RSP as RSP
from tracekit.capture.stacks.layout import UNWIND_SIGNAL as SIGNAL
from tracekit.capture.stacks.layout import UNWIND_UNKNOWN as UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterator

FUNCTION = re.compile(r"FDE cie=([0-9a-f]+) pc=([0-9a-f]+)\.\.([0-9a-f]+)$")


class Rule(NamedTuple):
    """What binutils says about the addresses [first, last]: "rsp+8", "c-16" (at CFA - 16), "u", "exp"..."""

    first: int
    last: int
    cfa: str
    rbp: str
    back: str


def rules(path: str) -> Iterator[Rule]:
    """Yield what `readelf` reads in the .eh_frame of a file."""
    words = ["readelf", "--debug-dump=frames-interp,no-follow-links", path]
    text = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    commons: dict[str, dict[str, str]] = {}
    for entry in text.split("\n\n"):
        head, _, rest = entry.strip().partition("\n")
        lines = [re.sub(r"r\d+ \((\w+)\)", r"\1", line).split() for line in rest.splitlines()]
        rows = [dict(zip(lines[0], cells, strict=True)) for cells in lines[1:] if cells]
        if " CIE " in head:
            commons[head.split()[0]] = rows[0] if rows else {"CFA": "exp", "ra": "exp"}
        elif function := FUNCTION.search(head):
            begin, end = int(function[2], 16), int(function[3], 16)
            rows = rows or [{**commons[function[1]], "LOC": function[2]}]
            begins = [int(row["LOC"], 16) for row in rows]
            for first, after, row in zip(begins, [*begins[1:], end], rows, strict=True):
                if begin <= first < after <= end:
                    yield Rule(first, after - 1, row["CFA"], row.get("rbp", "u"), row["ra"])


def says_the_same(rule: Rule, row: int) -> bool:
    """Tell whether a row says the same as binutils; what no row can say is UNKNOWN."""
    kind, offset, rbp = row >> 32 & 7, (row >> 35 & 0xFFFF) * 8, row >> 51
    if kind == UNKNOWN:
        return True
    if kind in {SIGNAL, END, NONE}:
        return (kind == END) == (rule.back == "u") and kind != NONE
    if kind in {PLT, DEREF}:
        return rule.cfa == "exp" and rule.back == "c-8"
    saved = {0: {"u", "s"}, LOST: {"u", "exp", "vexp"}}.get(rbp, {f"c-{rbp * 8}"})
    return rule.cfa == f"{'rsp' if kind == RSP else 'rbp'}+{offset}" and rule.back == "c-8" and rule.rbp in saved


def table(path: str) -> ehframe.Table:
    file = os.open(path, os.O_RDONLY)
    try:
        return ehframe.table(file)
    finally:
        os.close(file)


def interpreter() -> str:
    """Return the path of the file that the interpreter is in."""
    maps = Path("/proc/self/maps").read_text(encoding="ascii", errors="replace")
    shared = re.search(r"/\S+/libpython3\.\d+\.so\S*", maps)
    return shared[0] if shared else str(Path(sys.executable).resolve())


DIRECTORY = "/lib/x86_64-linux-gnu"
LIBRARIES = {f"{DIRECTORY}/libc.so.6": 10, f"{DIRECTORY}/ld-linux-x86-64.so.2": 10, interpreter(): 10}
"""And how many rows of binutils no row of ours can say, at most."""


@pytest.mark.parametrize("path", LIBRARIES)
def test_rows_are_those_of_binutils(path: str):
    """At every address where binutils begins a row, and at the last one before the next."""
    made = table(path)
    addresses = [made.base + (row & ADDRESS) for row in made.rows]

    wrong, unknown, count = [], 0, 0
    for rule in rules(path):
        count += 1
        for address in (rule.first, rule.last):
            row = made.rows[bisect(addresses, address) - 1]
            unknown += (row >> 32 & 7) == UNKNOWN
            if not says_the_same(rule, row):
                wrong.append((rule, hex(row)))

    assert not wrong
    assert count > 500
    assert unknown <= 2 * LIBRARIES[path]


def test_a_page_is_the_first_row_at_or_behind_it():
    """And behind the last page stands the number of all rows."""
    made = table("/lib/x86_64-linux-gnu/libc.so.6")
    addresses = [row & ADDRESS for row in made.rows]

    assert addresses == sorted(addresses)
    assert list(made.pages[:-1]) == [bisect_left(addresses, page << 10) for page in range(len(made.pages) - 1)]
    assert made.pages[-1] == len(made.rows)
    assert addresses[-1] >> 10 == len(made.pages) - 2
    assert made.pages[0] == 0
    assert addresses[0] < 1 << 10
