"""Logs of histograms, as other programs wrote them, and as they are when something went wrong."""

from __future__ import annotations

import base64
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from tracekit.errors import RecordingError, UsageError
from tracekit.export import hlog as writer
from tracekit.histogram import Layout, merge, of_values, payload
from tracekit.recording.hlog import Log, is_log, series_of, tag_of
from tracekit.records import Series

LOGS = Path(__file__).parents[1] / "golden" / "hlog"
JAVA = LOGS / "java.logV13.hlog"
COARSE = Layout(1, 1 << 62, 3)
"""What Java's tests add up in."""
END = 1e9


def by_start(path: Path, first: float, last: float) -> tuple[int, int, int, int]:
    """Return intervals, events, p99.9 and maximum of intervals that start in [first, last], Java's rule."""
    found = [histogram for line, histogram in Log(path).intervals() if first <= line.offset <= last]
    whole = merge(found).to(COARSE)
    top = int(COARSE.upper[np.flatnonzero(whole.counts)[-1]])
    return len(found), whole.count, min(whole.quantiles([0.999])[0], top), top


@pytest.mark.parametrize(
    ("name", "first", "last", "wanted"),
    [
        ("jHiccup-2.0.1.logV0", -END, END, (81, 61256, 1510998015, 1569718271)),
        ("jHiccup-2.0.1.logV0", 20, 45, (25, 18492, 459007, 623103)),
        ("jHiccup-2.0.1.logV0", 46, 80, (34, 25439, 1209008127, 1234173951)),
        ("jHiccup-2.0.6.logV1", -END, END, (88, 65964, 1829765119, 1888485375)),
        ("jHiccup-2.0.6.logV1", 5, 20, (15, 11213, 1019740159, 1032323071)),
        ("jHiccup-2.0.6.logV1", 50, 80, (29, 22630, 1871708159, 1888485375)),
        ("jHiccup-2.0.7S.logV2", -END, END, (62, 48761, 1745879039, 1796210687)),
        ("jHiccup-2.0.7S.logV2", 5, 20, (15, 11664, 1536163839, 1544552447)),
        ("jHiccup-2.0.7S.logV2", 40, 60, (20, 15830, 1779433471, 1796210687)),
    ],
)
def test_versions_0_to_2_are_read_as_java_does(
    name: str, first: float, last: float, wanted: tuple[int, int, int, int]
) -> None:
    """The numbers that HdrHistogram's own tests state for its logs."""
    assert by_start(LOGS / f"{name}.hlog", first, last) == wanted


def test_adding_up_as_one_is_adding_up_the_intervals() -> None:
    """The fast way and the slow way to the same histogram."""
    log = Log(LOGS / "jHiccup-2.0.7S.logV2.hlog")

    whole = log.histograms()[""]

    apart = merge([histogram for _, histogram in log.intervals()])
    assert (whole.counts == apart.counts).all()
    assert whole.count == 48761
    assert not whole.exact


def test_tags_are_apart() -> None:
    """The log holds everything twice, once with a tag: who adds that up is wrong by two."""
    log = Log(LOGS / "tagged-Log.logV2.hlog")

    found = log.histograms()

    assert set(found) == {"", "A"}
    assert (found[""].counts == found["A"].counts).all()
    assert list(log.histograms(tags=["A"])) == ["A"]


def test_what_is_no_interval_is_named_and_the_rest_is_read() -> None:
    """A histogram of floating-point values has no slots of ours; its line is left out, not the log."""
    log = Log(JAVA)

    found = log.histograms()

    assert [found[""].count, found["A"].count] == [0 + 80 + 160, 40 + 120 + 200]
    assert log.skipped == [(11, "its payload is a histogram of floating-point values")]
    assert log.comments[0] == "[Logged by Java]"
    assert [line.offset for line in log.lines()][:3] == pytest.approx([0, 1, 2])
    assert next(log.lines()).start == pytest.approx(1441812279.474)


def test_a_log_torn_anywhere_keeps_its_whole_lines(tmp_path: Path) -> None:
    """The writer was killed in the middle of a line: what it had written is worth reading, the line is named."""
    whole = JAVA.read_bytes()
    ends = [number for number, byte in enumerate(whole) if byte == ord("\n")]
    path = tmp_path / "torn.hlog"
    for cut in range(ends[5] + 1, ends[9], 7):
        path.write_bytes(whole[:cut])
        log = Log(path)

        lines = [line.number for line in log.lines()]

        complete = sum(end < cut for end in ends)
        assert lines == list(range(5, 1 + complete)) or lines == list(range(5, 2 + complete))
        assert [number for number, _ in log.skipped] in ([], [complete + 1])


def test_a_damaged_payload_is_left_out(tmp_path: Path) -> None:
    """Bits rot in the middle as well; the checksum of deflate finds that."""
    lines = JAVA.read_bytes().splitlines(keepends=True)
    fields = lines[6].split(b",")
    lines[6] = b",".join([*fields[:-1], fields[-1][:40] + b"AAAA" + fields[-1][44:]])
    path = tmp_path / "rotten.hlog"
    path.write_bytes(b"".join(lines[:-1]))
    log = Log(path)

    found = log.histograms()

    assert found[""].count == 160
    assert [number for number, _ in log.skipped] == [7]
    assert "torn" in log.skipped[0][1]


def packed(body: bytes, length: int | None = None, digits: int = 2, highest: int = 3600 * 10**9) -> bytes:
    """Return a payload of *body*, that says what it likes."""
    head = struct.pack(">IIiiqqd", 0x1C849313, len(body) if length is None else length, 0, digits, 1, highest, 1.0)
    inner = zlib.compress(head + body, 9)
    return base64.b64encode(struct.pack(">II", 0x1C849314, len(inner)) + inner)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (packed(bytes(payload.LIMIT_BYTES)), "larger than any"),
        (packed(b"\x02" * 5000), "no slot"),
        (packed(b"\x02\x80"), "no end"),
        (packed(b"\xff" * 12 + b"\x02"), "no end"),
        (packed(b"\xff" * 8 + b"\x7f"), "more events"),
        (packed(b"\x02", length=99), "torn"),
        (packed(b"\x02", digits=9), "no histogram"),
        (packed(b"\x02", highest=1), "no histogram"),
        (packed(b"\x02", highest=-5), "no histogram"),
        (base64.b64encode(b"hello, world"), "no histogram"),
        (b"", "torn"),
        (b"AAA", "torn"),
    ],
)
def test_hostile_payloads_are_refused(text: bytes, says: str) -> None:
    """Bombs, counts without an end, slots that are not, headers that lie."""
    with pytest.raises(ValueError, match=says):
        payload.decode([payload.unpack(text)])


def log_of(path: Path, *lines: str) -> Log:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return Log(path)


ONE = payload.encode(of_values(np.array([1000, 2000], dtype=np.uint64))).decode()


@pytest.mark.parametrize(
    ("head", "start", "offset"),
    [
        (["#[StartTime: 1700000000.0 (seconds since epoch), ...]"], 1700000005, 5),
        (["#[StartTime: 1700000000.0 (s)]", "#[BaseTime: 1700000000.0 (s)]"], 1700000005, 5),
        (["#[StartTime: 1700000000.0 (s)]", "#[BaseTime: 1600000000.0 (s)]"], 1600000005, -99999995),
        ([], 5, 0),
        (["#[BaseTime: 1600000000.0 (s)]"], 1600000005, 0),
        (["#[StartTime: nonsense]", "#[StartTime: 1e99]"], 5, 0),
    ],
)
def test_times_are_relative_to_what_the_log_says(tmp_path: Path, head: list[str], start: float, offset: float) -> None:
    """Java's rule for logs without a BaseTime, and both of them when they are there."""
    line = next(log_of(tmp_path / "a.hlog", *head, f"5.000,1.000,0.002,{ONE}").lines())

    assert (line.start, line.offset) == pytest.approx((start, offset))


def test_an_interval_before_the_start_is_not_lost(tmp_path: Path) -> None:
    """Logs of Cassandra have one a minute early: hdrhistogram finds nothing in them, Java's tool crashes."""
    log = log_of(tmp_path / "a.hlog", "#[StartTime: 1629447481.658 (s)]", f"1629447418.475,63.182,189.7,{ONE}")

    assert log.histograms()[""].count == 2


def test_two_logs_in_one_file_have_two_starts(tmp_path: Path) -> None:
    """`cat a.hlog b.hlog` is how logs are joined."""
    line = f"1.000,1.000,0.002,{ONE}"
    log = log_of(tmp_path / "a.hlog", "#[StartTime: 1700000000 (s)]", line, "#[StartTime: 1700009000 (s)]", line)

    assert [each.start for each in log.lines()] == [1700000001, 1700009001]


def test_between_takes_intervals_by_their_middle(tmp_path: Path) -> None:
    """As for recordings, so that adjacent times share none."""
    log = log_of(tmp_path / "a.hlog", *(f"{n}.0,1.0,0.002,{ONE}" for n in range(10)))

    first, rest = (log.histograms(between=times)[""].count for times in ((0, 4), (4, 10)))

    assert (first, rest) == (8, 12)


@pytest.mark.parametrize("text", ["hello\n", "1,2,3\n4,5\n", "\x00\x01\x02\n" * 3000, "1,nan,3,4\n"])
def test_what_is_no_log_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    """Not a table without rows."""
    path = tmp_path / "a.hlog"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(RecordingError, match="not a log of histograms"):
        Log(path).histograms()


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A folder, and nothing at all."""
    with pytest.raises(UsageError, match="not a regular file"):
        Log(tmp_path).histograms()
    with pytest.raises(UsageError, match="no such file"):
        Log(tmp_path / "none.hlog").histograms()


def test_logs_are_known_by_name_or_by_what_they_hold(tmp_path: Path) -> None:
    """jHiccup's own suffix is .hlog, YCSB's is .hdr."""
    path = tmp_path / "READ.hdr"
    path.write_bytes(b"#[Logging for: READ]\n")
    other = tmp_path / "run.tk"
    other.write_bytes(b"SQLite format 3\0")

    assert is_log(path)
    assert is_log(tmp_path / "absent.hlog")
    assert not is_log(other)


def test_a_tag_names_its_series_whatever_that_is_called() -> None:
    """Labels are chosen by traced programs; a tag must not hold a comma, a blank or a line break."""
    for value in ("worker", "a,b c\n=;{}%", "\udcff", "ä", ""):
        for unit in ("ns", "tasks"):
            series = Series("span.latency", (("role", value), ("span", "x")), "histogram", unit)
            tag = tag_of(series)

            assert series_of(tag) == series
            assert not set(tag) & set(", \n\r")
    assert series_of("READ") == Series("latency", (("tag", "READ"),), "histogram", "ns")
    assert series_of("").labels == ()


def test_a_log_says_that_it_is_corrected(tmp_path: Path) -> None:
    """Read back, it is refused a second correction."""
    entries = [writer.Entry(0.0, 1.0, "", of_values(np.array([5], dtype=np.uint64)))]
    log = log_of(tmp_path / "a.hlog", *writer.log(1.7e9, "x.tk", entries, 10_000_000))

    assert log.histograms()[""].corrected == 10_000_000
