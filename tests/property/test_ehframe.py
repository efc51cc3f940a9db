"""Unwinding tables of files that nobody trusts."""

from __future__ import annotations

import os
import struct
from array import array
from bisect import bisect_right

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tracekit.capture.elf import NotElfError
from tracekit.capture.stacks import ehframe
from tracekit.capture.stacks.cfa import ADDRESS
from tracekit.capture.stacks.layout import MAX_UNWIND_ROWS, UNWIND_NONE, UNWIND_RSP, UNWIND_UNKNOWN
from tracekit.capture.stacks.mappings import vdso

AT = 0x10000
COMMON = bytes((0x0C, 7, 8, 0x90, 1))  # def_cfa rsp 8; offset ra cfa-8
NOTHING = st.just(b"\0")
OPERAND = st.integers(0, 127).map(lambda number: bytes((number,)))
INSTRUCTIONS = st.one_of(
    NOTHING,
    st.integers(1, 63).map(lambda delta: bytes((0x40 + delta,))),
    OPERAND.map(lambda number: b"\x02" + number),
    OPERAND.map(lambda number: b"\x0e" + number),
    OPERAND.map(lambda number: b"\x0d" + number),
    OPERAND.map(lambda number: b"\x86" + number),
    OPERAND.map(lambda number: b"\x2e" + number),
    st.sampled_from([b"\x0a", b"\x0b", b"\xc6", b"\xd0", b"\x07\x10", b"\x07\x06", b"\x08\x06", b"\x0c\x06\x10"]),
)


def entry(content: bytes) -> bytes:
    padded = content.ljust(-(-len(content) // 4) * 4, b"\0")
    return struct.pack("<I", len(padded)) + padded


def frames(functions: list[tuple[int, int, bytes]], common: bytes = COMMON) -> bytes:
    """Return an .eh_frame at AT of functions: (begin, size, instructions)."""
    content = entry(struct.pack("<I", 0) + b"\1zR\0\1\x78\x10\1\x1b" + common)
    for begin, size, program in functions:
        at = len(content)
        head = struct.pack("<IiI", at + 4, begin - (AT + at + 8), size)
        content += entry(head + b"\0" + program)
    return content


def kind_at(rows: list[int], address: int) -> int:
    place = bisect_right([row & ADDRESS for row in rows], address)
    return rows[place - 1] >> 32 & 7 if place else UNWIND_NONE


def made(content: bytes) -> list[int] | None:
    try:
        return list(ehframe.rows(content, AT))
    except NotElfError as error:
        assert str(error)
        return None


FUNCTIONS = st.lists(
    st.tuples(st.integers(0x100, 0x20000), st.integers(1, 0x800), st.lists(INSTRUCTIONS, max_size=12).map(b"".join)),
    max_size=12,
)


@given(FUNCTIONS)
def test_rows_are_sorted_and_cover_functions_only(functions: list[tuple[int, int, bytes]]):
    """Whatever the programs do, and however the functions lie upon each other."""
    rows = made(frames(functions))

    if rows is None:
        return
    addresses = [row & ADDRESS for row in rows]
    assert addresses == sorted(addresses)
    pages = ehframe.pages(array("Q", rows))
    for number, address in enumerate(addresses):
        assert pages[address >> 10] <= number < pages[(address >> 10) + 1]
    for begin, _, _ in functions:
        assert kind_at(rows, begin) != UNWIND_NONE
    if functions:
        assert kind_at(rows, max(begin + size for begin, size, _ in functions) + 16) == UNWIND_NONE


@settings(max_examples=300)
@given(st.data())
def test_torn_tables_are_no_tables(data: st.DataObject):
    """Bytes changed, or missing at the end: they are read, or refused with a word; nothing else."""
    content = bytearray(frames([(0x400, 64, b"\x41\x0e\x10\x86\x02\x43\x0d\x06"), (0x500, 32, b"\x0a\x44\x0b")]))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(content)))
        size = data.draw(st.sampled_from([1, 2, 4]))
        content[at : at + size] = data.draw(st.binary(min_size=size, max_size=size))
    del content[data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content)))) :]

    made(bytes(content))


@settings(max_examples=200)
@given(st.binary(max_size=64))
@example(b"\x0e" + b"\xff" * 60)
@example(b"\x0a" * 64)
@example(b"\x0b")
@example(b"\x04\xff\xff\xff\xff" * 4)
@example(b"\x0f\xff\xff\x03")
def test_any_instructions_end(program: bytes):
    """Numbers without an end, states that were never remembered, addresses beyond any: no more than a word."""
    made(frames([(0x400, 64, program)]))
    made(frames([(0x400, 64, b"")], program))


def test_an_instruction_that_is_not_known_makes_the_rest_unknown():
    """Of its function; what came before it, and other functions, are as they were."""
    rows = made(frames([(0x400, 64, b"\x44\x3f\x44"), (0x440, 64, b"")]))

    assert rows is not None
    assert [kind_at(rows, at) for at in (0x400, 0x404, 0x43F, 0x440)] == [
        UNWIND_RSP,
        UNWIND_UNKNOWN,
        UNWIND_UNKNOWN,
        UNWIND_RSP,
    ]


@settings(max_examples=100)
@given(st.data())
def test_a_torn_file_has_no_table(data: st.DataObject):
    """The vDSO with bytes changed, in its headers mostly."""
    content = bytearray(vdso())
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.one_of(st.integers(0, 0x300), st.integers(0, len(content) - 8)))
        size = data.draw(st.sampled_from([1, 2, 4, 8]))
        content[at : at + size] = data.draw(st.binary(min_size=size, max_size=size))
    file = os.memfd_create("torn")
    os.write(file, content)

    try:
        ehframe.table(file)
    except NotElfError as error:
        assert str(error)
    finally:
        os.close(file)


def test_a_table_that_is_too_large_is_refused():
    """One that begins a row with each byte of code."""
    program = b"\x41\x0e\x10\x41\x0e\x18" * (MAX_UNWIND_ROWS // 2 + 1)

    assert made(frames([(0x400, 1 << 22, program)])) is None
