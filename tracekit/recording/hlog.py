"""
Logs of histograms (.hlog), as HdrHistogram's programs and jHiccup, YCSB or wrk write them: V0 to V1.3.

A log is text, a line for each interval: `[Tag=t,]start,length,max,histogram`, between comments. What cannot
be read is left out and named by its line: a log whose writer was killed ends in the middle of one.

Source:
    HdrHistogram (Java, HistogramLogReader, HistogramLogScanner) for the format and what is relative to what.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, unquote

import numpy as np

from tracekit.errors import RecordingError, UsageError
from tracekit.histogram import Histogram, Layout, merge, of_counts, payload
from tracekit.records import Series

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path
    from typing import IO

    from tracekit.histogram.payload import Packed

LINE_BYTES = 2 * payload.LIMIT_BYTES
"""A line longer than this is no interval."""
BATCH_BYTES = 1 << 17
"""Counts decoded at a time: the more, the cheaper each."""
YEAR_S = 365 * 86_400.0
LATEST_S = 1e11
"""No time in a log is later than this, 3000 years."""
CORRECTED = "Corrected for coordinated omission, expected interval"
"""How a log of ours says that its histograms are corrected; a number of ns follows."""

_NO_INTERVAL = b'#"\r\nS'
_COMMENTS = 100
_BAD = 1000
"""Lines that cannot be read, from which on there must be more that can."""
_SLOTS = 1 << 25
"""Slots of all sums together, 256 MiB."""
_TIME = re.compile(rb"#\[(StartTime|BaseTime):\s*([0-9.eE+-]+)")
_TAG = re.compile(r"([^{};=]+)\{([^{}]*)\}([^{};=]*)")
_CORRECTED = re.compile(rf"\[{CORRECTED} ([0-9]{{1,18}})".encode())


class Line(NamedTuple):
    """An interval of a log. Times are s: *start* since the epoch, as far as the log says; *offset* since its start."""

    number: int
    tag: str
    start: float
    offset: float
    length: float
    packed: Packed
    corrected: int


@dataclass
class Log:
    """
    A log, read anew by each call.

    Attributes:
        path: where it is.
        comments: what it says of itself, the first hundred.
        skipped: (number of a line, why it could not be read) of the last reading.
    """

    path: Path
    comments: list[str] = field(default_factory=list)
    skipped: list[tuple[int, str]] = field(default_factory=list)

    def histograms(
        self, tags: Collection[str] | None = None, between: tuple[float, float] | None = None
    ) -> dict[str, Histogram]:
        """
        Return the histogram of each tag, "" of lines without one, all intervals added up.

        Args:
            tags: only these; None is all.
            between: only intervals whose middle lies in [first, second) s since the log's start.
        """
        sums: dict[tuple[str, int, int, int, int], _Sum] = {}
        for line in self.lines(tags, between):
            layout, word, _ = line.packed
            key = (line.tag, layout.unit_bits, layout.step_bits, word, line.corrected)
            found = sums.get(key)
            if found is None:
                found = sums[key] = _Sum(line.corrected)
            if found.add(line):
                self.skipped += found.flush()
                self._bound(sums.values())
        parts: dict[str, list[Histogram]] = {}
        for (tag, *_), found in sums.items():
            self.skipped += found.flush()
            parts.setdefault(tag, []).append(found.histogram())
        self.skipped.sort()
        return {tag: merge(each) for tag, each in parts.items()}

    def intervals(
        self, tags: Collection[str] | None = None, between: tuple[float, float] | None = None
    ) -> Iterator[tuple[Line, Histogram]]:
        """Yield each line with its histogram, in the order of the file; see `histograms`."""
        for line in self.lines(tags, between):
            alone = _Sum(line.corrected)
            alone.add(line)
            broken = alone.flush()
            self.skipped += broken
            if not broken:
                yield line, alone.histogram()

    def lines(self, tags: Collection[str] | None = None, between: tuple[float, float] | None = None) -> Iterator[Line]:
        """
        Yield each interval, its counts still packed, and note those that cannot be read; see `histograms`.

        Raises:
            UsageError: no such file.
            RecordingError: the file cannot be read, or is no log.
        """
        self.comments, self.skipped = [], []
        wanted = None if tags is None else {tag.encode() for tag in tags}
        clock, corrected, good = _Clock(), 0, 0
        for number, text in self._texts():
            if text[:1] in _NO_INTERVAL or text.startswith(b"Timestamp"):
                corrected = self._comment(text, clock) or corrected
                continue
            try:
                tag, start, length, packed = _fields(text)
                offset = clock.place(start)
                if (wanted is None or tag in wanted) and _inside(offset + length / 2, between):
                    name, unpacked = tag.decode("utf-8", "replace"), payload.unpack(packed)
                    yield Line(number, name, clock.start + offset, offset, length, unpacked, corrected)
                good += 1
            except ValueError as error:
                self.skipped.append((number, str(error) if text.endswith(b"\n") else "it ends in the middle"))
                if good < len(self.skipped) > _BAD:
                    break
        if self.skipped and good < max(len(self.skipped) - _BAD, 1):
            number, why = self.skipped[0]
            raise RecordingError(f"cannot read {self.path}: not a log of histograms (line {number}: {why})")

    def _texts(self) -> Iterator[tuple[int, bytes]]:
        """Yield the lines of the file, counted from 1."""
        with _open(self.path) as file:
            for number, text in enumerate(iter(lambda: file.readline(LINE_BYTES), b""), 1):
                if len(text) == LINE_BYTES:
                    raise RecordingError(f"cannot read {self.path}: line {number} is longer than any interval")
                yield number, text

    def _comment(self, text: bytes, clock: _Clock) -> int:
        """Learn from a line that is no interval; return the interval of a correction if it speaks of one."""
        if text[:1] != b"#":
            return 0
        found = _TIME.match(text)
        if found:
            clock.set(found[1], found[2])
        if len(self.comments) < _COMMENTS:
            self.comments.append(text[1:300].decode("utf-8", "replace").strip())
        said = _CORRECTED.search(text)
        return int(said[1]) if said else 0

    def _bound(self, sums: Iterable[_Sum]) -> None:
        if sum(each.slots for each in sums) > _SLOTS:
            raise RecordingError(f"cannot read {self.path}: its histograms need more memory than any log does")


def is_log(path: Path) -> bool:
    """Tell whether *path* is meant to be a log, by its suffix or first bytes."""
    if path.suffix.lower() == ".hlog":
        return True
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(5) in {b"#[Log", b"#[His", b"#[Sta", b"#[Bas", b'"Star'}


def tag_of(series: Series) -> str:
    """Return `metric{name=value;name=value}`, and the unit if it is not ns: in a tag, no name passes for another."""
    pairs = ";".join(f"{_quoted(name)}={_quoted(value)}" for name, value in series.labels)
    return f"{_quoted(series.metric)}{{{pairs}}}{'' if series.unit == 'ns' else _quoted(series.unit)}"


def series_of(tag: str) -> Series:
    """Return what `tag_of` named; a tag of another program's becomes a label of `latency`."""
    found = _TAG.fullmatch(tag)
    pairs = [pair.partition("=") for pair in found[2].split(";") if pair] if found else []
    if not found or not all(mark for _, mark, _ in pairs):
        return Series("latency", (("tag", tag),) if tag else (), "histogram", "ns")
    labels = tuple(sorted((_plain(name), _plain(value)) for name, _, value in pairs))
    return Series(_plain(found[1]), labels, "histogram", _plain(found[3]) or "ns")


def _quoted(text: str) -> str:
    return quote(text, safe="/:@()<>[]*+!~.-_", errors="surrogatepass")


def _plain(text: str) -> str:
    try:
        return unquote(text, errors="surrogatepass")
    except UnicodeDecodeError:
        return text


class _Clock:
    """
    What a log's times are relative to.

    Without a BaseTime, times more than a year before StartTime are since StartTime, others since the epoch: Java's
    rule. A second StartTime begins a second log in the same file.
    """

    def __init__(self) -> None:
        self.start, self._base = math.nan, math.nan
        self._said = False

    def set(self, what: bytes, text: bytes) -> None:
        """Take StartTime or BaseTime from a comment; nonsense is no time."""
        try:
            value = _seconds(text)
        except ValueError:
            return
        if what == b"StartTime":
            self.start = value
            self._base = self._base if self._said else math.nan
        else:
            self._base, self._said = value, True

    def place(self, time: float) -> float:
        """Return *time* of a line as s since the start of the log."""
        if math.isnan(self.start):
            self.start = time if math.isnan(self._base) else time + self._base
        if math.isnan(self._base):
            self._base = self.start if time < self.start - YEAR_S else 0.0
        return time + self._base - self.start


class _Sum:
    """Histograms whose slots are alike being added up; as large as the largest slot that has events."""

    def __init__(self, corrected: int) -> None:
        self._corrected = corrected
        self._layout = Layout(1, 2, 0)
        self._counts = np.zeros(0, dtype=np.uint64)
        self._waiting: list[Line] = []
        self._bytes = 0

    @property
    def slots(self) -> int:
        """Slots in memory."""
        return self._counts.size

    def add(self, line: Line) -> bool:
        """Take the histogram of *line*; tell whether enough wait to be flushed."""
        self._waiting.append(line)
        self._bytes += len(line.packed.body)
        return self._bytes >= BATCH_BYTES

    def flush(self) -> list[tuple[int, str]]:
        """Decode those that wait; return (line, why) of what could not be."""
        waiting, self._waiting, self._bytes = self._waiting, [], 0
        if not waiting or self._fault(waiting) is None:
            return []
        found = [(line.number, self._fault([line])) for line in waiting]
        return [(number, fault) for number, fault in found if fault is not None]

    def histogram(self) -> Histogram:
        """Return the sum of what was flushed."""
        counts = np.zeros(self._layout.slots, dtype=np.uint64)
        counts[: self._counts.size] = self._counts
        return replace(of_counts(counts, self._layout), corrected=self._corrected)

    def _fault(self, lines: list[Line]) -> str | None:
        """Add up *lines*, all or none; return why they cannot be."""
        try:
            slots, counts, _ = payload.decode([line.packed for line in lines])
        except ValueError as error:
            return str(error)
        self._layout = max([self._layout, *{line.packed.layout for line in lines}], key=lambda each: each.highest)
        if slots.size and slots.max() >= self._counts.size:
            larger = min(2 * int(slots.max()) + 1, self._layout.slots)
            self._counts = np.concatenate([self._counts, np.zeros(larger - self._counts.size, dtype=np.uint64)])
        np.add.at(self._counts, slots, counts.view(np.uint64))
        return None


def _fields(text: bytes) -> tuple[bytes, float, float, bytes]:
    """Split an interval into tag, start and length in s, and histogram. Raises ValueError."""
    tag = b""
    if text.startswith(b"Tag="):
        tag, _, text = text[4:].partition(b",")
    fields = text.split(b",")
    if len(fields) != 4:
        fields = text.strip().replace(b" ", b",").split(b",")
    if len(fields) != 4:
        raise ValueError(f"it has {len(fields)} fields, not 4")
    start, length = _seconds(fields[0]), _seconds(fields[1])
    if length < 0:
        raise ValueError("its length is negative")
    return tag, start, length, fields[3]


def _seconds(text: bytes) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise ValueError(f"{text[:20]!r} is no time") from error
    if not -LATEST_S < value < LATEST_S:
        raise ValueError(f"{text[:20]!r} is no time")
    return value


def _inside(middle: float, between: tuple[float, float] | None) -> bool:
    return between is None or between[0] <= middle < between[1]


def _open(path: Path) -> IO[bytes]:
    """Open *path*, without ever waiting for a pipe or a device."""
    try:
        if not path.exists():
            raise UsageError(f"cannot read {path}: no such file")
        if not path.is_file():
            raise UsageError(f"cannot read {path}: is not a regular file")
        return path.open("rb")
    except OSError as error:
        raise RecordingError(f"cannot read {path}: {error.strerror}", "run as the file's owner") from error
