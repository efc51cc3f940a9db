"""What is read of a process with a CPython: line tables of any code, memory of anybody."""

from __future__ import annotations

import ctypes
import dis
import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.pythons import PYTHONS
from tracekit.capture.stacks.code import UNREADABLE, Codes
from tracekit.capture.stacks.interpreter import find
from tracekit.capture.stacks.layout import PYTHON_UNIT_BITS
from tracekit.capture.stacks.lines import lines
from tracekit.capture.stacks.memory import read

SAYS_LINES = """
import dis, glob, json, os, sys
def codes(code):
    yield code
    for each in code.co_consts:
        if hasattr(each, "co_code"):
            yield from codes(each)
found = []
library = os.path.dirname(os.__file__)
for path in sorted(glob.glob(library + "/*.py"))[:40] + glob.glob(library + "/asyncio/*.py"):
    with open(path, encoding="utf-8", errors="replace") as file:
        code = compile(file.read(), path, "exec")
    for each in codes(code):
        table = each.co_lnotab if sys.version_info < (3, 10) else each.co_linetable
        if sys.version_info < (3, 10):
            rows = [(at, line) for at, line in dis.findlinestarts(each)]
        else:
            rows = [(start // 2, line) for start, end, line in each.co_lines() if end > start]
        size = len(each.co_code) // (1 if sys.version_info < (3, 10) else 2)
        found.append((table.hex(), each.co_firstlineno, size, rows))
json.dump((sys.version_info[1], found), sys.stdout)
"""


def by_unit(rows: list[Any], size: int, first: int) -> list[int]:
    """Return the line of each unit: each row counts from where it begins."""
    truth, line, rest = [], first, list(rows)
    for unit in range(size):
        while rest and rest[0][0] <= unit:
            line = rest.pop(0)[1] or first
        truth.append(line)
    return truth


@pytest.mark.parametrize("python", PYTHONS)
def test_lines_of_the_standard_library(python: str):
    """Each unit of each function of dozens of modules, as that version of CPython says itself."""
    said = subprocess.run([python, "-c", SAYS_LINES], check=True, capture_output=True, text=True).stdout
    minor, found = json.loads(said)

    assert len(found) > 1000
    for table, first, size, rows in found:
        assert list(lines(bytes.fromhex(table), first, minor, range(size)).values()) == by_unit(rows, size, first)


def indented(text: str) -> str:
    return "\n".join(" " + line for line in text.split("\n"))


STATEMENTS = st.recursive(
    st.sampled_from(["x = 1", "f(x,\n\n y)", "return [\n z for z in x\n  if z]", "x = (\n1 +\n\n f())", "raise f"]),
    lambda inner: st.one_of(
        st.builds("if x:\n{}\nelse:\n{}".format, *(inner.map(indented),) * 2),
        st.builds("for y in x:\n{}".format, inner.map(indented)),
        st.builds("try:\n{}\nfinally:\n{}".format, *(inner.map(indented),) * 2),
        st.builds("with x as y:\n{}".format, inner.map(indented)),
        st.builds("{}\n{}{}".format, inner, st.sampled_from(["", "\n" * 70, "\n" * 200, "#\n" * 3000]), inner),
    ),
    max_leaves=12,
)


@given(STATEMENTS, st.integers(0, 300))
def test_lines_of_any_function(body: str, before: int):
    """As this CPython says by its own reader of the table."""
    module = compile("\n" * before + "def f(x):\n" + indented(body), "f.py", "exec")
    code = next(each for each in module.co_consts if isinstance(each, CodeType))
    size = len(code.co_code) // 2
    truth = by_unit([(start // 2, line) for start, _, line in code.co_lines()], size, code.co_firstlineno)

    found = lines(code.co_linetable, code.co_firstlineno, sys.version_info[1], range(size))

    assert list(found.values()) == truth
    assert set(dict(dis.findlinestarts(code)).values()) - {None} <= set(truth)


@settings(max_examples=300)
@given(
    st.binary(max_size=600),
    st.integers(-(1 << 31), (1 << 31) - 1),
    st.integers(8, 14),
    st.sets(st.integers(0, 1 << 21)),
)
def test_any_bytes_are_some_line_table(table: bytes, first: int, minor: int, units: set[int]):
    """Each unit has a line, and it is a number that fits on a screen."""
    found = lines(table, first, minor, units)

    assert set(found) == units
    assert all(abs(line) < 1 << 60 for line in found.values())


PAGES = ctypes.create_string_buffer(os.urandom(1 << 16), 1 << 16)
START = ctypes.addressof(PAGES)
GOOD = st.integers(0, 1 << 15).flatmap(lambda at: st.tuples(st.just(START + at), st.integers(0, 1 << 12)))
BAD = st.tuples(st.sampled_from([0, 1, 4096, (1 << 47) - 8, 1 << 63, (1 << 64) - 1, -8]), st.integers(1, 1 << 40))


@given(st.lists(st.one_of(GOOD, BAD), max_size=40), st.sampled_from([1, 60]))
def test_pieces_that_cannot_be_read_spoil_no_others(pieces: list[tuple[int, int]], times: int):
    """In any order, and more of them than one call takes."""
    pieces = pieces * times
    truth = [
        PAGES.raw[address - START :][:size] if START <= address < START + len(PAGES) else None
        for address, size in pieces
    ]

    assert read(os.getpid(), pieces) == truth


def test_a_piece_across_the_end_of_a_mapping():
    """What can be read of it only in part is not read; its neighbours are."""
    with Path("/proc/self/maps").open() as maps:
        end = int(next(line for line in maps if "[stack]" in line).split("-")[1].split()[0], 16)

    before, across, after = read(os.getpid(), [(end - 16, 16), (end - 8, 16), (START, 4)])

    assert (before is None, across, after) == (False, None, PAGES.raw[:4])


OWN = find(os.getpid())
FAKE = ctypes.create_string_buffer(1 << 12)
"""A code object with its strings, as a hostile process would make it."""
POINTERS = st.one_of(st.integers(0, (1 << 64) - 1), st.integers(0, 1 << 12).map(lambda at: ctypes.addressof(FAKE) + at))


@settings(max_examples=300)
@given(st.data())
def test_any_memory_is_named_or_unreadable(data: st.DataObject):
    """The type is right, nothing else need be: each frame has a text that can be written, and of bounded size."""
    assert OWN
    address = ctypes.addressof(FAKE) + 15 & ~15
    words = data.draw(st.lists(POINTERS, min_size=128, max_size=128))
    FAKE[: 8 * len(words)] = struct.pack(f"<{len(words)}Q", *words)
    struct.pack_into("<Q", FAKE, address - ctypes.addressof(FAKE) + 8, OWN.code_type)
    codes = Codes(os.getpid(), OWN)
    wanted = [address >> 4 << PYTHON_UNIT_BITS | data.draw(st.integers(2, 100)) for _ in range(4)]

    for _ in range(2):
        named = codes.names(wanted)

        assert set(named) == set(wanted)
        assert all(len(text.encode()) < 10_000 for text in named.values())


def test_a_code_object_between_two_addresses_of_words():
    """A compiler may put those that it makes itself at any multiple of 8; a word has room for multiples of 16."""
    assert OWN
    code = by_unit.__code__
    size = CodeType.__basicsize__  # from 3.11 on without the units behind it
    address = ctypes.addressof(FAKE) + 15 & ~15
    at = address - ctypes.addressof(FAKE) + 8
    ctypes.memset(FAKE, 0, len(FAKE))
    FAKE[at : at + size] = ctypes.string_at(id(code), size)

    (named,) = Codes(os.getpid(), OWN).names([address + 8 >> 4 << PYTHON_UNIT_BITS]).values()

    assert named.startswith("by_unit (")
    assert named != UNREADABLE
