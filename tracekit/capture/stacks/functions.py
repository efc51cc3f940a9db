"""
Which function of a library an address is in, by the library's tables of symbols.

Nothing is sorted: that would stop the whole collector for as long as a library of a million functions takes.
Functions are put on the pages of code that they reach, and names stay in the file until one is wanted. A library
without a table of its own may have one in /usr/lib/debug, where it is found by its build id.

The file belongs to a traced process. All that is wrong with it is a NotElfError, and what is kept is bounded.
"""

from __future__ import annotations

import contextlib
import os
from array import array
from pathlib import Path

from tracekit.capture import elf
from tracekit.capture.stacks.kallsyms import plainness
from tracekit.capture.stacks.mangled import plain

DEBUG = Path("/usr/lib/debug")
MOST_NAME = 512
"""Characters of a name."""

_MOST_BYTES = 96 << 20  # of a table: four million symbols
_MOST_MANGLED = 4096
_MOST_PLACE = 1 << 62  # in a file
_WORDS = 3  # of Elf64_Sym: name, info, section in the first; value; size
_FUNCTIONS = (2, 10)  # STT_FUNC, STT_GNU_IFUNC
_PAGE_SHIFT = 14
_MOST_SIZE = 4 << 20  # of a function
_MOST_REACHED = 8 << 20  # pages that functions reach, together
_BUILD_ID = b".note.gnu.build-id"
_NOTE = 16  # bytes before the id: three sizes and "GNU"


class Functions:
    """
    The functions of a library; addresses are those of the file.

    Keeps the file, and closes it by close().
    """

    def __init__(self, file: int) -> None:
        """
        Take over the ELF file with descriptor *file*.

        Raises:
            NotElfError: it is none for x86_64, or is torn.
            OSError: it cannot be read.
        """
        self._file = file
        self._starts, self._sizes, self._names = array("Q"), array("I"), array("Q")
        self._pages: dict[int, array[int]] = {}
        self._reached = 0
        for rows, names, size in elf.tables(file, _MOST_BYTES):
            self._add(rows, names, size)

    def name(self, address: int) -> str:
        """
        Return the name of the function that *address* is in, "" if it is in none.

        A function without a size (some that are written in assembler) reaches to the next one.

        Raises:
            OSError: the file cannot be read.
        """
        return plain(min(map(self._name, self._around(address)), key=plainness, default=b""))[:MOST_NAME]

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)

    def _add(self, rows: bytes, names: int, size: int) -> None:
        words = array("Q", rows)
        if names + size >= _MOST_PLACE:
            raise elf.NotElfError("its names are beyond any file")
        for at in range(0, len(words), _WORDS):
            head = words[at]
            if head >> 32 & 0xF in _FUNCTIONS and head >> 48 and head & 0xFFFFFFFF < size:
                self._put(words[at + 1], min(words[at + 2], _MOST_SIZE), names + (head & 0xFFFFFFFF))

    def _put(self, start: int, size: int, name: int) -> None:
        number = len(self._starts)
        self._starts.append(start)
        self._sizes.append(size)
        self._names.append(name)
        pages = range(start >> _PAGE_SHIFT, (start + max(size, 1) - 1 >> _PAGE_SHIFT) + 1)
        self._reached += len(pages)
        if self._reached > _MOST_REACHED:
            raise elf.NotElfError("its functions are larger than any library")
        for page in pages:
            self._pages.setdefault(page, array("I")).append(number)

    def _around(self, address: int) -> list[int]:
        """Return the functions that *address* is in: several, if one function has several names."""
        before = [each for each in self._pages.get(address >> _PAGE_SHIFT, ()) if self._starts[each] <= address]
        around = [each for each in before if address < self._starts[each] + self._sizes[each]]
        start = max((self._starts[each] for each in around or before), default=0)
        return [each for each in around or before if self._starts[each] == start and (around or not self._sizes[each])]

    def _name(self, number: int) -> bytes:
        name = os.pread(self._file, _MOST_MANGLED, self._names[number]).partition(b"\0")[0]
        return name.partition(b"@")[0]  # versions stand behind it in .symtab: `read@@GLIBC_2.2.5`


def functions(file: int, debug: Path = DEBUG) -> Functions:
    """
    Return the functions of a library, of the file in *debug* that belongs to it if there is one.

    Takes *file* over. Raises as Functions().
    """
    try:
        beside = _beside(file, debug)
        if beside is None:
            return Functions(file)
    except BaseException:
        os.close(file)
        raise
    os.close(file)
    return beside


def _beside(file: int, debug: Path) -> Functions | None:
    found = elf.section(file, _BUILD_ID)
    name = found[1][_NOTE:].hex() if found else ""
    if len(name) < 8:
        return None
    with contextlib.suppress(OSError, elf.NotElfError):
        other = os.open(debug / ".build-id" / name[:2] / f"{name[2:]}.debug", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return Functions(other)
        except BaseException:
            os.close(other)
            raise
    return None
