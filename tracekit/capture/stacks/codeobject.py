"""Code objects of CPython, as they lie in the memory of a process, and what one is told from another by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tracekit.capture.stacks.memory import Piece

ENCODINGS = {1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}
"""By bytes of a character."""
_COMPARED_TABLE = 1 << 10


class Head(NamedTuple):
    """Of a code object: addresses of its type, function, file and line table; and its first line."""

    kind: int
    name: int
    file: int
    table: int
    first: int

    @property
    def is_made_up(self) -> bool:
        """It is the code that calls an `__init__` and drops its result (_Py_InitCleanup, from 3.12 on)."""
        return self.name == self.file and not self.first


class Text(NamedTuple):
    """Where the characters of a str are, with one more behind them; width: bytes of each."""

    piece: Piece
    width: int
    is_cut: bool

    def decoded(self, content: bytes) -> str:
        """Return the characters. Those that are no text become U+FFFD: the result can be written to any file."""
        text = content[: -self.width].decode(ENCODINGS[self.width], "replace")
        return text + "…" if self.is_cut else text


class Parts(NamedTuple):
    """Where the parts of a code object are; texts: name and file, none of one that nobody wrote."""

    texts: tuple[Text, ...]
    table: Piece

    def compared(self) -> list[Piece]:
        """Return what another code object would not have the same, together with its head."""
        address, size = self.table
        return [*(text.piece for text in self.texts), (address, min(size, _COMPARED_TABLE))]


@dataclass(slots=True)
class Code:
    """
    A code object.

    Attributes:
        compared: pieces of memory: its head, and what parts.compared() says.
        vectors, size: the same, for memory.whole().
        made_of: hash of its head and of what is compared.
        bytes_seen: hash of all bytes that were compared last, but for the count of references; where they are the same
            they mean the same.
        lines: by code unit.
    """

    parts: Parts
    compared: list[Piece]
    vectors: bytes
    size: int
    made_of: int
    bytes_seen: int
    name: str
    file: str
    first: int
    lines: dict[int, int]
