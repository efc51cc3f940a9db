"""
Logs of histograms (.hlog, V1.3), for HdrHistogram's own programs and those that read its logs.

A line is an interval of one series; its tag names the series, so that tracekit finds it again.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from tracekit.histogram import payload
from tracekit.recording.hlog import CORRECTED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tracekit.histogram import Histogram

_MS = 1e6


class Entry(NamedTuple):
    """An interval: seconds since the start of the log, how long, and of what."""

    offset: float
    length: float
    tag: str
    histogram: Histogram


def log(start: float, source: str, entries: Iterable[Entry], corrected: int = 0) -> Iterator[str]:
    """
    Yield the lines of a log.

    Args:
        start: of the log, s since the epoch.
        source: what it was made of, for a comment.
        entries: its intervals, in order of time.
        corrected: expected interval of a correction for coordinated omission, 0: not corrected.
    """
    yield f"#[Logged with tracekit from {_word(source)}]"
    yield "#[Histogram log format version 1.3]"
    if corrected:
        yield f"#[{CORRECTED} {corrected} ns]"
    yield f"#[StartTime: {start:.3f} (seconds since epoch), {_date(start)}]"
    yield f"#[BaseTime: {start:.3f} (seconds since epoch)]"
    yield '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"'
    for offset, length, tag, histogram in entries:
        label = f"Tag={_word(tag)}," if tag else ""
        text = payload.encode(histogram).decode("ascii")
        yield f"{label}{offset:.3f},{length:.3f},{histogram.high / _MS:.3f},{text}"


def _word(text: str) -> str:
    """Take from *text* what would end a field or a line of the log."""
    return quote(text, safe="/:@()<>[]*+!~.-_{}=;%", errors="surrogatepass")


def _date(start: float) -> str:
    """Format as Java's Date, in UTC: `Thu Aug 06 14:06:01 UTC 2015`."""
    words = datetime.fromtimestamp(start, timezone.utc).ctime().split()
    return f"{words[0]} {words[1]} {int(words[2]):02d} {words[3]} UTC {words[4]}"
