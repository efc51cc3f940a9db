"""
Unwinding rows of an ELF file, from its .eh_frame.

    from tracekit.capture.stacks import ehframe

    table = ehframe.table(descriptor)
    table.rows, table.pages

A row (bpf/abi/stacks.h) holds from its address on until that of the next one, and each function begins with one of its
own: by its row walkers tell in which function an address is. The functions of a file often share
their programs of instructions but for where they begin, so each program is run once. Nothing of the file is believed:
sizes are bounded, all that is wrong is a NotElfError, and the time grows with the size alone.

Source:
    LSB 5 §10.6.1 (.eh_frame, pointer encodings, augmentations).
"""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tracekit.capture import elf
from tracekit.capture.elf import NotElfError
from tracekit.capture.stacks.cfa import ADDRESS, Reader, State, run
from tracekit.capture.stacks.layout import MAX_UNWIND_PAGES, MAX_UNWIND_ROWS, UNWIND_PAGE_SHIFT
from tracekit.capture.stacks.layout import UNWIND_NONE as NONE
from tracekit.capture.stacks.layout import UNWIND_SIGNAL as SIGNAL
from tracekit.capture.stacks.layout import UNWIND_UNKNOWN as UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_BYTES = 32 << 20
"""Of .eh_frame: 3 times what fills the rows."""
_FUNCTION = struct.Struct("<IIiI")
_RELATIVE = 0x1B  # DW_EH_PE_pcrel | sdata4
_NUMBERS = {0x00: "<Q", 0x02: "<H", 0x03: "<I", 0x04: "<Q", 0x0A: "<h", 0x0B: "<i", 0x0C: "<q"}
_ULEB, _SLEB, _FORMAT, _BASE, _TO_HERE, _OMITTED = 0x01, 0x09, 0x0F, 0x70, 0x10, 0xFF
_BEFORE = State(end=UNKNOWN)
_END = NONE << 32
_LAST = 1 << 32
_PADDING = 16
"""Bytes between functions that need no row: nothing runs there."""


@dataclass(frozen=True)
class Table:
    """
    How to unwind from the code of a file.

    Attributes:
        segments: of code.
        base: address, of the file, from which on rows and pages count: data may stand before the code.
        rows: u64, sorted by address.
        pages: u64: for each KiB of addresses the number of the first row at or behind it, and one more for the end.
    """

    segments: list[elf.Segment]
    base: int
    rows: array[int]
    pages: array[int]


def table(file: int) -> Table:
    """
    Return the table of the ELF file with descriptor *file*; it has no rows if the file has no .eh_frame.

    Raises:
        NotElfError: it is none for x86_64, is torn, or has more rows than anybody has room for.
        OSError: it cannot be read.
    """
    segments = elf.code(file)
    found = elf.section(file, b".eh_frame", MOST_BYTES)
    made = rows(found[1], found[0]) if found else array("Q")
    base = (made[0] & ADDRESS) >> UNWIND_PAGE_SHIFT << UNWIND_PAGE_SHIFT if made else 0
    result = array("Q", [row - base for row in made])
    return Table(segments, base, result, pages(result))


def rows(content: bytes, address: int) -> array[int]:
    """
    Return the rows of an .eh_frame with *content* that is loaded at *address*.

    Raises:
        NotElfError: it is torn, or has too many rows.
    """
    try:
        functions = sorted(_functions(content, address), key=_begin)
    except (IndexError, ValueError, struct.error):
        raise NotElfError("its unwinding tables are torn") from None
    result: list[int] = []
    following = iter(functions[1:])
    for begin, size, program in functions:
        after = next(following, (_LAST, 0, program))[0]
        upto = min(size, after - begin)
        if upto <= 0:
            continue
        result += [begin + row for row in program] if program[-1] & ADDRESS < upto else _cut(program, begin, upto)
        if begin + upto + _PADDING <= after:
            result.append(_END | begin + upto)
        if len(result) > MAX_UNWIND_ROWS:
            raise NotElfError("it has more unwinding rows than there is room for")
    return array("Q", result)


def pages(table_rows: array[int]) -> array[int]:
    """
    Return the index of *table_rows* by KiB of addresses.

    Raises:
        NotElfError: their addresses reach too far.
    """
    if table_rows and (table_rows[-1] & ADDRESS) >> UNWIND_PAGE_SHIFT >= MAX_UNWIND_PAGES - 1:
        raise NotElfError("it has more code than there is room for")
    index: list[int] = []
    for number, row in enumerate(table_rows):
        page = (row & ADDRESS) >> UNWIND_PAGE_SHIFT
        if page >= len(index):
            index += [number] * (page + 1 - len(index))
    return array("Q", [*index, len(table_rows)])


def _begin(function: tuple[int, int, list[int]]) -> int:
    return function[0]


def _cut(program: list[int], begin: int, size: int) -> list[int]:
    """Return the rows of a function that are inside of it."""
    return [begin + row for row in program if row & ADDRESS < size]


@dataclass
class _Common:
    """
    What functions share (CIE).

    Attributes:
        encoding: of addresses. sized: their entries have augmentation data.
        initial: the state where they begin; None: it is not understood.
        programs: instructions → rows from address 0 on.
    """

    encoding: int = 0
    sized: bool = False
    initial: State | None = None
    programs: dict[bytes, list[int]] = field(default_factory=dict)

    def rows(self, program: bytes) -> list[int]:
        """Return the rows of a function, from address 0 on."""
        known = self.programs.get(program)
        if known is None:
            known = self.programs[program] = self._run(program)
        return known

    def _run(self, program: bytes) -> list[int]:
        if self.initial is None or self.initial.end == SIGNAL:
            return [(SIGNAL if self.initial else UNKNOWN) << 32]
        return run(program, self.initial, self.initial)[0]


def _functions(content: bytes, address: int) -> Iterator[tuple[int, int, list[int]]]:
    """Yield (begin, size, rows from address 0 on) of the functions. Raises IndexError, struct.error: it is torn."""
    commons: dict[int, _Common] = {}
    at, end = 0, len(content)
    while at + 4 <= end:
        size = int.from_bytes(content[at : at + 4], "little")
        after = at + 4 + size
        if not size:  # an end that the linker left inside
            at = after
            continue
        if after > end or size < 4:
            raise NotElfError("its unwinding tables are torn")
        back = int.from_bytes(content[at + 4 : at + 8], "little")
        if not back:
            commons[at] = _common(content[at:after])
        elif common := commons.get(at + 4 - back):
            found = _function(content, at, after, common, address)
            if found:
                yield found
        at = after


def _function(content: bytes, at: int, after: int, common: _Common, address: int) -> tuple[int, int, list[int]] | None:
    """Return (begin, size, rows) of the function whose entry is content[at:after]; None: it was left out."""
    if common.encoding == _RELATIVE:
        _, _, begin, size = _FUNCTION.unpack_from(content, at)
        begin, where = begin and begin + address + at + 8, at + 16
    else:
        reader = Reader(content, at + 8)
        begin = _pointer(reader, common.encoding, address)
        size = _pointer(reader, common.encoding & _FORMAT, 0)
        where = reader.at
    if common.sized:
        skipped = content[where]
        where += 1 + skipped
        if skipped > 0x7F:
            reader = Reader(content, where - 1 - skipped)
            skipped = reader.unsigned()
            where = reader.at + skipped
    if not begin or size <= 0:  # the linker left the function out
        return None
    if not 0 < begin <= begin + size <= ADDRESS:
        raise NotElfError("its unwinding tables are of code that is too far away")
    return begin, size, common.rows(content[where:after])


def _common(entry: bytes) -> _Common:
    """Return what stands in a CIE."""
    version, name_end = entry[8], entry.index(0, 9)
    augmentation = entry[9:name_end]
    reader = Reader(entry, name_end + 1)
    common = _Common(sized=augmentation[:1] == b"z")
    units = reader.unsigned(), reader.signed()
    if version == 1:
        reader.at += 1
    else:
        reader.unsigned()
    data = reader.block() if common.sized else b""
    if units != (1, -8) or version not in (1, 3) or augmentation[:1] not in (b"", b"z"):
        raise NotElfError("its unwinding tables are of a kind that is not known")
    signal = _augment(common, augmentation[1:], Reader(data, 0))
    state = run(entry[reader.at :], None, _BEFORE)[1]
    common.initial = state._replace(end=SIGNAL) if signal else state
    return common


def _augment(common: _Common, letters: bytes, data: Reader) -> bool:
    """Read the augmentation of a CIE and tell whether it is of signal frames."""
    for letter in letters:
        if letter == ord("R"):
            common.encoding = data.content[data.at]
            data.at += 1
        elif letter == ord("L"):
            data.at += 1
        elif letter == ord("P"):
            data.at += 1
            _pointer(data, data.content[data.at - 1], 0)
        elif letter not in b"SB":
            raise NotElfError("its unwinding tables are of a kind that is not known")
    return ord("S") in letters


def _pointer(reader: Reader, encoding: int, address: int) -> int:
    """Return the next pointer; 0: it points nowhere. *address* is where the content begins in memory."""
    if encoding == _OMITTED:
        return 0
    at, form = reader.at, encoding & _FORMAT
    if form in _NUMBERS:
        value: int = struct.unpack_from(_NUMBERS[form], reader.content, at)[0]
        reader.at += struct.calcsize(_NUMBERS[form])
    elif form in {_ULEB, _SLEB}:
        value = reader.unsigned() if form == _ULEB else reader.signed()
    else:
        raise NotElfError("its unwinding tables are of a kind that is not known")
    if encoding & _BASE not in (0, _TO_HERE):
        raise NotElfError("its unwinding tables are of a kind that is not known")
    return value and value + (address + at if encoding & _BASE else 0)
