"""Numbers to and from people's text."""

from __future__ import annotations

import math

import pytest

from tracekit import units

SECOND = 10**9


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("100ms", 100_000_000),
        ("10s", 10 * SECOND),
        ("10", 10 * SECOND),
        ("5m", 300 * SECOND),
        ("5min", 300 * SECOND),
        ("1.5h", 5400 * SECOND),
        ("1d", 86_400 * SECOND),
        ("250us", 250_000),
        ("250µs", 250_000),
        (".5 s", SECOND // 2),
        (" 7 ns ", 7),
        ("0s", 0),
    ],
)
def test_times_are_read_in_every_unit(text: str, ns: int) -> None:
    """A bare number is seconds; blanks around and before the unit do not matter."""
    assert units.parse_ns(text) == ns


@pytest.mark.parametrize("text", ["", "s", "-5s", "1e3s", "5 parsecs", "5s6", "1..5s", "nan", "inf", "٣s", "9" * 400])
def test_what_is_no_time_is_refused(text: str) -> None:
    """Only ValueError, whatever was typed: commands turn it into a usage error."""
    with pytest.raises(ValueError, match=r"not a number|no unit of time|too large"):
        units.parse_ns(text)


@pytest.mark.parametrize(
    ("text", "count"), [("512", 512), ("512B", 512), ("1.5kB", 1500), ("512MB", 512 * 10**6), ("512MiB", 512 * 2**20)]
)
def test_sizes_tell_powers_of_1000_from_powers_of_1024(text: str, count: int) -> None:
    """MB is 10^6 and MiB is 2^20."""
    assert units.parse_bytes(text) == count


def test_a_size_in_seconds_is_refused() -> None:
    """An objective `rss max < 5s` is a mistake, not 5 bytes."""
    with pytest.raises(ValueError, match="no unit of size"):
        units.parse_bytes("5s")


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0 ns"),
        (1, "1 ns"),
        (999, "999 ns"),
        (999.7, "1 µs"),
        (1_000, "1 µs"),
        (1_250_000, "1.25 ms"),
        (12_340_000, "12.3 ms"),
        (999_499_999, "999 ms"),
        (999_500_000, "1 s"),
        (12.3 * SECOND, "12.3 s"),
        (119.4 * SECOND, "119 s"),
        (119.5 * SECOND, "2 min 0 s"),
        (125 * SECOND, "2 min 5 s"),
        (3599.6 * SECOND, "1 h 0 min"),
        (3725 * SECOND, "1 h 2 min"),
        (-1_250_000, "-1.25 ms"),
        (-125 * SECOND, "-2 min 5 s"),
    ],
)
def test_times_are_written_with_three_digits(ns: float, text: str) -> None:
    """No unit ever shows 1000 of itself, and a difference may be negative."""
    assert units.format_ns(ns) == text


def test_a_written_time_is_read_back_within_its_digits() -> None:
    """What a report prints can be pasted into an objective."""
    for exponent in range(60):
        ns = round(1.5**exponent)
        text = units.format_ns(ns)

        if "min" not in text:
            assert units.parse_ns(text) == pytest.approx(ns, rel=0.006)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (1, "1"),
        (999_999, "999,999"),
        (12_345.6, "12,346"),
        (2.5, "2.5"),
        (1_000_000, "1 M"),
        (1_250_000, "1.25 M"),
        (999_960_000, "1 G"),
        (-12_345, "-12,345"),
    ],
)
def test_counts_are_exact_below_a_million(count: float, text: str) -> None:
    """A count that fits is not rounded."""
    assert units.format_count(count) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0 %"), (1e-9, "<0.01 %"), (0.0012, "0.12 %"), (0.123, "12.3 %"), (1, "100 %"), (4.2, "420 %")],
)
def test_a_small_share_is_never_written_as_none(share: float, text: str) -> None:
    """Zero and nearly zero are different answers."""
    assert units.format_share(share) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1500.0, "ns", "1.5 µs"),
        (1500.0, "bytes", "1.5 kB"),
        (0, "bytes", "0 B"),
        (0.5, "share", "50 %"),
        (1500.0, "count", "1,500"),
        (2.0, "tasks", "2 tasks"),
        (math.nan, "ns", "-"),
    ],
)
def test_values_are_written_by_their_unit(value: float, unit: str, text: str) -> None:
    """One formatter serves every series; a missing sample is a dash."""
    assert units.format_value(value, unit) == text


def test_printable_text_cannot_command_a_terminal() -> None:
    """A traced program chooses its name: no escape, line break, bidi override or lone surrogate comes through."""
    hostile = "".join(map(chr, [*range(0x110000)]))

    safe = units.printable(hostile)

    bad = {*range(0x20), *range(0x7F, 0xA0), 0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)}
    assert not bad & set(map(ord, safe))
    assert len(safe.splitlines()) == 1
    assert safe.encode()


def test_printable_text_is_left_alone() -> None:
    """Names in any script stay as they are."""
    assert units.printable("worker-7 naïve 労働者 🐍") == "worker-7 naïve 労働者 🐍"


def test_what_was_hidden_can_be_read() -> None:
    """The reader sees which bytes the program sent."""
    assert units.printable("a\x1b[2J\n\u202eb\udcff") == r"a\x1b[2J\x0a\u202eb\udcff"
