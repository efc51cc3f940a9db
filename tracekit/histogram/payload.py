"""
Histograms as HdrHistogram's programs exchange them: base64 of a header and deflated counts, V0, V1 and V2.

V2 writes counts as varints of seven bits a byte, zigzag, a negative one for a run of empty slots; V1 and V0 write
words of 2, 4 or 8 bytes. Everything is checked before it is believed, and nothing unpacks to more than LIMIT_BYTES.

Source:
    HdrHistogram (Java, AbstractHistogram.encodeIntoCompressedByteBuffer, fillCountsArrayFromSourceBuffer;
    ZigZagEncoding).
"""

from __future__ import annotations

import binascii
import struct
import zlib
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tracekit.histogram.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tracekit.histogram.algebra import Histogram

LIMIT_BYTES = 1 << 24
"""A payload that unpacks to more is refused: real ones are a thousand times smaller, a hostile one is not."""
LIMIT_COUNT = 1 << 48
"""More events in one slot than this are refused: sums stay far from overflow."""

_V0, _V1, _V2 = 0x1C849309, 0x1C849302, 0x1C849304
_INNER = {_V0: 0x1C849308, _V1: 0x1C849301, _V2: 0x1C849303}
_DOUBLES = (0x0C72124E, 0x0C72124F)
_BASE, _WORD = ~0xF0 & 0xFFFFFFFF, 0xE0
_OUTER = struct.Struct(">II")
_HEAD = struct.Struct(">IIiiqqd")
_HEAD_V0 = struct.Struct(">Iiqqq")
_VARINT = 9


class Packed(NamedTuple):
    """A histogram whose counts are still bytes: words of *word* bytes, 9 for varints."""

    layout: Layout
    word: int
    body: bytes


Cells = tuple["NDArray[np.int64]", "NDArray[np.int64]", "NDArray[np.int64]"]
"""Slots, in order but some of them twice; what to add there, also 0; and where each histogram's cells end."""


def unpack(text: bytes) -> Packed:
    """
    Undo base64 and deflate, and read the header.

    Raises:
        ValueError: why this is no histogram: torn, too large, of floating-point values...
    """
    try:
        raw = binascii.a2b_base64(text)
        cookie, size = _OUTER.unpack_from(raw)
        data = _inflate(raw, cookie, size)
        if cookie & _BASE == _V0:
            inner, digits, lowest, highest, _ = _HEAD_V0.unpack_from(data)
            start, end = _HEAD_V0.size, len(data)
        else:
            inner, length, _, digits, lowest, highest, _ = _HEAD.unpack_from(data)
            start, end = _HEAD.size, _HEAD.size + length
    except (binascii.Error, struct.error, zlib.error) as error:
        raise ValueError(f"its histogram is torn ({error})") from error
    if inner & _BASE != _INNER[cookie & _BASE] or end > len(data):
        raise ValueError("its histogram is torn")
    word = _VARINT if cookie & _BASE == _V2 else (inner & _WORD) >> 4
    if word not in (2, 4, 8, _VARINT):
        raise ValueError(f"its histogram has counts of {word} bytes")
    return Packed(_layout(lowest, highest, digits), word, data[start:end] or bytes(word))


def decode(packed: Sequence[Packed]) -> Cells:
    """
    Read the counts of histograms of one word at once, which is what makes small ones cheap.

    Their layouts may differ in their highest values, but not in their slots.

    Raises:
        ValueError: one of them is torn or hostile; alone, each says whether it is that one.
    """
    word, room = packed[0].word, max(each.layout.slots for each in packed)
    read = _varints if word == _VARINT else _words
    return read([each.body for each in packed], word, room)


def encode(histogram: Histogram) -> bytes:
    """Return *histogram* as V2, in base64. Raises ValueError if a count is LIMIT_COUNT or more."""
    filled = np.flatnonzero(histogram.counts)
    counts = histogram.counts[filled].astype(np.int64)
    if filled.size and not 0 < counts.min() <= counts.max() < LIMIT_COUNT:
        raise ValueError("a histogram has too many events")
    layout = histogram.layout
    body = _to_varints(filled, counts) if filled.size else b"\0"
    head = _HEAD.pack(_INNER[_V2] | 0x10, len(body), 0, layout.digits, layout.lowest, layout.highest, 1.0)
    packed = zlib.compress(head + body, 9)
    return binascii.b2a_base64(_OUTER.pack(_V2 | 0x10, len(packed)) + packed, newline=False)


def _inflate(raw: bytes, cookie: int, size: int) -> bytes:
    if cookie & _BASE not in _INNER:
        what = "a histogram of floating-point values" if cookie in _DOUBLES else "no histogram"
        raise ValueError(f"its payload is {what}")
    if len(raw) < _OUTER.size + size:
        raise ValueError("its histogram is torn")
    unzip = zlib.decompressobj()
    data = unzip.decompress(raw[_OUTER.size : _OUTER.size + size], LIMIT_BYTES)
    if not unzip.eof:
        large = len(data) == LIMIT_BYTES
        raise ValueError("its histogram is larger than any" if large else "its histogram is torn")
    return data


@lru_cache(maxsize=64)
def _layout(lowest: int, highest: int, digits: int) -> Layout:
    return Layout(lowest, highest, digits)


def _varints(bodies: list[bytes], _word: int, room: int) -> Cells:
    """
    Read varints: slots are a running sum of steps, of one for a count and of as many as there are for a run.

    Words of one byte are nearly all there are, so each byte is taken for one; of a longer word, the first byte
    gets the bits of the others, which then stand for nothing.
    """
    if any(body[-1] > 0x7F for body in bodies):
        raise ValueError("its histogram is torn: the last count has no end")
    text = np.frombuffer(b"".join(bodies), dtype=np.uint8)
    low = text & np.uint8(0x7F)
    steps = np.ones(text.size, dtype=np.int64)
    more = (text > 0x7F).nonzero()[0]
    low[more + 1] = steps[more + 1] = 0
    counts = (low >> 1).astype(np.int64)
    if more.size:
        _widen(counts, text, more)
    runs = (low & 1).view(np.bool_).nonzero()[0]
    lengths = counts[runs]
    counts[runs] = 0
    if lengths.size and lengths.max() > room:
        raise ValueError("its histogram has counts where there is no slot")
    steps[runs] += lengths
    ends = np.cumsum([len(body) for body in bodies])
    starts = np.concatenate([[0], ends[:-1]])
    sums = np.add.reduceat(steps, starts)
    if sums.max() > room:
        raise ValueError("its histogram has counts where there is no slot")
    steps[0] -= 1
    steps[starts[1:]] -= sums[:-1]
    return np.cumsum(steps, out=steps), counts, ends


def _widen(counts: NDArray[np.int64], text: NDArray[np.uint8], more: NDArray[np.int64]) -> None:
    """Add to *counts*, at the first byte of each longer word, the bits of the bytes that follow those at *more*."""
    order = np.arange(more.size)
    first = np.diff(more - order, prepend=-1).nonzero()[0]
    times = np.diff(first, append=more.size)
    if times.max() >= _VARINT:
        raise ValueError("its histogram is torn: a count has no end")
    place = order + 1 - np.repeat(first, times)
    bits = (text[more + 1] & 0x7F).astype(np.int64) << (7 * place - 1)
    wide = counts[more[first]] + np.add.reduceat(bits, first)
    if not 0 <= wide.min() <= wide.max() < LIMIT_COUNT:
        raise ValueError("its histogram has more events than there can be")
    counts[more[first]] = wide


def _words(bodies: list[bytes], word: int, room: int) -> Cells:
    sizes = np.array([len(body) // word for body in bodies])
    if any(len(body) % word for body in bodies):
        raise ValueError("its histogram is torn: the last count has no end")
    counts = np.frombuffer(b"".join(bodies), dtype=f">i{word}").astype(np.int64)
    if counts.size and not 0 <= counts.min() <= counts.max() < LIMIT_COUNT:
        raise ValueError("its histogram has more events than there can be, or less than none")
    filled, ends = np.flatnonzero(counts), np.cumsum(sizes)
    cells = np.searchsorted(filled, ends)
    slots = filled - np.repeat(ends - sizes, np.diff(cells, prepend=0))
    if slots.size and slots.max() >= room:
        raise ValueError("its histogram has counts where there is no slot")
    return slots, counts[filled], cells


def _to_varints(slots: NDArray[np.int64], counts: NDArray[np.int64]) -> bytes:
    """Write counts at ascending *slots*, and before each a run of empty slots if there are any."""
    gaps = np.diff(slots, prepend=-1) - 1
    words = np.stack([np.where(gaps > 1, 2 * gaps - 1, 0), 2 * counts], axis=1).ravel()
    words = words[np.stack([gaps > 0, counts > 0], axis=1).ravel()]
    bits = np.arange(0, 7 * _VARINT, 7)
    septets = words[:, None] >> bits & 0x7F
    used = (words[:, None] >> bits > 0) | (bits == 0)
    more = np.concatenate([used[:, 1:], np.zeros((len(words), 1), dtype=bool)], axis=1)
    octets: NDArray[np.uint8] = (septets | more * 0x80)[used].astype(np.uint8)
    return octets.tobytes()
