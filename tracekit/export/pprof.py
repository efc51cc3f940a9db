"""
Stacks as a profile of pprof: gzip of a Profile message, github.com/google/pprof/proto/profile.proto.

A frame is a location without an address, with one function. Frames that name a library belong
to its mapping, all others to the first one, which bears the title. All are marked as symbolised, or pprof
would look for files of these names.
"""

from __future__ import annotations

import gzip
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from tracekit.errors import UsageError
from tracekit.export import frames
from tracekit.units import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tracekit.stacks import Stack

LARGEST = 2**63 - 1
"""The largest weight that a profile can hold."""

_TYPES = {"ns": ("time", "nanoseconds"), "bytes": ("space", "bytes")}
_LEVEL = 6  # of gzip, as pprof's own

# Numbers of fields, by message.
_SAMPLE_TYPE, _SAMPLE, _MAPPING, _LOCATION, _FUNCTION, _STRING = 1, 2, 3, 4, 5, 6
_TYPE, _UNIT = 1, 2
_LOCATION_ID, _VALUE = 1, 2
_ID, _MAPPING_ID, _LINE = 1, 2, 4
_FILENAME, _HAS_FUNCTIONS, _HAS_FILENAMES, _HAS_LINE_NUMBERS = 5, 7, 8, 9
_NAME, _SYSTEM_NAME, _SOURCE = 2, 3, 4
_FUNCTION_ID, _LINE_NUMBER = 1, 2


def write(weights: Mapping[Stack, float], title: str, unit: str) -> bytes:
    """
    Return the file; the same for the same stacks.

    Weights are integers there: decimals are rounded as a sum, so the total is off by less than 1.

    Raises:
        UsageError: a weight, or their sum, beyond 2^63 - 1.
    """
    stacks = sorted(stack for stack, weight in weights.items() if weight)
    ends = [0, *(round(end) for end in accumulate(weights[stack] for stack in stacks))]
    if ends[-1] > LARGEST:
        raise UsageError("cannot write pprof: the weights add up to more than 2^63", "another format")
    tables = _Tables(printable(title))
    samples = [_sample(tables, stack, end - begin) for stack, (begin, end) in zip(stacks, pairwise(ends), strict=True)]
    kind, what = _TYPES.get(unit, (unit, "count"))
    sample_type = _number(_TYPE, tables.string(kind)) + _number(_UNIT, tables.string(what))
    parts = [_bytes(_SAMPLE_TYPE, sample_type), *samples, *tables.messages()]
    return gzip.compress(b"".join(parts), _LEVEL, mtime=0)


class _Tables:
    """What samples refer to by number: each string, library, function and frame once."""

    def __init__(self, title: str) -> None:
        self._strings = {"": 0}
        self._libraries: dict[str, int] = {title: 1}
        self._functions: dict[tuple[str, str], int] = {}
        self._locations: dict[str, int] = {}
        self._lines: list[bytes] = []
        self._title = title

    def string(self, text: str) -> int:
        """Return the number of *text*."""
        return self._strings.setdefault(text, len(self._strings))

    def location(self, text: str) -> int:
        """Return the number of the frame *text*."""
        known = self._locations.get(text)
        if known:
            return known
        place = self._locations[text] = len(self._locations) + 1
        frame = frames.parse(text)
        library = self._libraries.setdefault(frame.library or self._title, len(self._libraries) + 1)
        function = self._functions.setdefault((frame.name, frame.file), len(self._functions) + 1)
        line = _number(_FUNCTION_ID, function) + _number(_LINE_NUMBER, frame.line)
        fields = _number(_ID, place) + _number(_MAPPING_ID, library) + _bytes(_LINE, line)
        self._lines.append(_bytes(_LOCATION, fields))
        return place

    def messages(self) -> Iterable[bytes]:
        """Yield all but the samples."""
        yield from [_bytes(_MAPPING, self._mapping(name, place)) for name, place in self._libraries.items()]
        yield from self._lines
        yield from [_bytes(_FUNCTION, self._function(*key, place)) for key, place in self._functions.items()]
        yield from (_bytes(_STRING, text.encode()) for text in self._strings)

    def _mapping(self, name: str, place: int) -> bytes:
        flags = (_HAS_FUNCTIONS, _HAS_FILENAMES, _HAS_LINE_NUMBERS)
        named = _number(_ID, place) + _number(_FILENAME, self.string(name))
        return named + b"".join(_number(flag, 1) for flag in flags)

    def _function(self, name: str, file: str, place: int) -> bytes:
        called = self.string(name)
        names = _number(_NAME, called) + _number(_SYSTEM_NAME, called)
        return _number(_ID, place) + names + _number(_SOURCE, self.string(file))


def _sample(tables: _Tables, stack: Stack, value: int) -> bytes:
    if not value:
        return b""
    leaf_first = b"".join(_varint(tables.location(frame)) for frame in reversed(stack))
    return _bytes(_SAMPLE, _bytes(_LOCATION_ID, leaf_first) + _bytes(_VALUE, _varint(value)))


# Protocol buffers: a field is a key (number and wire type) and a value; repeated numbers are packed into bytes.


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value) if value else b""


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    """Return *value* >= 0 in groups of 7 bits, low ones first; all but the last have the top bit set."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
