"""sla.toml: what it may say, and that each slip is named where it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tracekit.analysis.objectives import Limit, format_series, parse_series
from tracekit.analysis.sla import parse
from tracekit.errors import UsageError

DOCS = Path(__file__).parents[2] / "docs"


def one(limit: str, key: str = "p95") -> Limit:
    (objective,) = parse(f"[[objective]]\nseries = 'x'\n\"{key}\" = '{limit}'", "sla.toml")
    return objective.limit


def refusal(text: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        parse(text, "sla.toml")
    return caught.value


def test_a_table_of_two_limits_is_two_objectives():
    """Each limit is judged alone, in the order of the file, under the same name."""
    text = """
    [[objective]]
    name = "workers start fast"
    series = 'spawn.ready{role="worker"}'
    p95 = "< 50ms"
    "p99.9" = "<=1s"
    [[objective]]
    series = "rss"
    max = "< 512MB"
    """

    objectives = parse(text, "sla.toml")

    assert [objective.name for objective in objectives] == ["workers start fast"] * 2 + ["rss max < 512MB"]
    assert [objective.expression for objective in objectives] == [
        'spawn.ready{role="worker"} p95 < 50ms',
        'spawn.ready{role="worker"} p99.9 <= 1s',
        "rss max < 512MB",
    ]
    assert [objective.statistic.q for objective in objectives] == [0.95, 0.999, 0]
    assert objectives[0].where == (("role", "worker"),)


@pytest.mark.parametrize(
    ("limit", "wanted"),
    [
        ("< 50ms", Limit("<", 50e6, "ns", False, "< 50ms")),
        ("<=1.5 h", Limit("<=", 5400e9, "ns", False, "<= 1.5 h")),
        (" >  7 us ", Limit(">", 7000, "ns", False, "> 7 us")),
        ("< 512MB", Limit("<", 512e6, "bytes", False, "< 512MB")),
        ("< 512MiB", Limit("<", 2**29, "bytes", False, "< 512MiB")),
        ("< 10kB/s", Limit("<", 10_000, "bytes", True, "< 10kB/s")),
        (">= 5/s", Limit(">=", 5, "count", True, ">= 5/s")),
        ("< 100", Limit("<", 100, "count", False, "< 100")),
        ("< 0.1%", Limit("<", 0.001, "share", False, "< 0.1%")),
        ("< 80 %", Limit("<", 0.8, "share", False, "< 80 %")),
        ("< 3 m", Limit("<", 180e9, "ns", False, "< 3 m")),
    ],
)
def test_a_limit_is_an_operator_a_number_and_a_unit(limit, wanted):
    """Values are in SI base units, whatever was written."""
    assert one(limit) == wanted


@pytest.mark.parametrize(
    ("operator", "met"),
    [
        ("<", (True, False, False)),
        ("<=", (True, True, False)),
        (">", (False, False, True)),
        (">=", (False, True, True)),
    ],
)
def test_the_limit_itself_belongs_to_the_operators_that_say_so(operator, met):
    """49, 50 and 51 against a limit of 50."""
    limit = one(f"{operator} 50")

    assert tuple(limit.met(value) for value in (49, 50, 51)) == met


def test_the_margin_is_room_on_the_right_side():
    """An upper limit leaves room below it, a lower one above."""
    assert one("< 50").margin(40) == 10
    assert one("> 50").margin(40) == -10


@pytest.mark.parametrize(
    ("text", "metric", "labels"),
    [
        ("runq.wait", "runq.wait", {}),
        ("runq.wait{}", "runq.wait", {}),
        ('a{b="c"}', "a", {"b": "c"}),
        (" a { b = 'c' , d = \"e,}\" , } ", "a", {"b": "c", "d": "e,}"}),
        (r'a{b="say \"hi\" \\ it\'s"}', "a", {"b": 'say "hi" \\ it\'s'}),
        (r'a{b="\u00b5\n\U0001f600"}', "a", {"b": "µ\n😀"}),
        ("a{b='say \"hi\"'}", "a", {"b": 'say "hi"'}),
    ],
)
def test_series_are_a_metric_and_quoted_labels(text, metric, labels):
    """Either quote, escapes, blanks and a last comma; what is in quotes is never syntax."""
    assert parse_series(text) == (metric, tuple(sorted(labels.items())))


def test_a_series_is_shown_so_that_it_does_nothing_to_a_terminal():
    """Names are chosen by traced programs: control and bidi codes are escapes that read back."""
    shown = format_series("a", (("b", '\x1b[2J\u202e\udcff\U000e0001"\\'),))

    assert shown == r'a{b="\u001b[2J\u202e\udcff\U000e0001\"\\"}'
    assert parse_series(shown) == ("a", (("b", '\x1b[2J\u202e\udcff\U000e0001"\\'),))


GOOD = "[[objective]]\nseries = 'x'\n"


@pytest.mark.parametrize(
    ("text", "place", "cause"),
    [
        ("", "sla.toml", "it has no objective"),
        ("[[objective]\n", "sla.toml", "it is not TOML: .*line 1"),
        ("x = " + "[" * 100_000, "sla.toml", "nested too deep|not TOML"),
        ("x = " + "9" * 10_000, "sla.toml", "it is not TOML"),
        ("[objective]\np95 = '< 1s'", "sla.toml", "not a list of tables"),
        ("objective = [1]", "sla.toml", "not a list of tables"),
        ("[[objectives]]\n", "sla.toml", 'unknown key "objectives"'),
        ("[[objective]]\np95 = '< 1s'", "sla.toml: objective 1", "it names no series"),
        (GOOD, "sla.toml: objective 1", "it has no limit"),
        (GOOD + "name = 7\np95 = '< 1s'", "sla.toml: objective 1, key name", "a number is not a name"),
        (GOOD + "name = ' '\np95 = '< 1s'", "sla.toml: objective 1, key name", '" " is not a name'),
        ("[[objective]]\nseries = ['x']", "sla.toml: objective 1, key series", "an array is not text"),
        (GOOD + "p95 = '< 1s'\n" + GOOD + "name = 'b'\np95 = 50", 'sla.toml: objective 2 "b", key p95', "not a limit"),
        (GOOD + "p95 = '50ms'", "sla.toml: objective 1, key p95", '"50ms" does not start with <'),
        (GOOD + "p95 = '= 50ms'", "sla.toml: objective 1, key p95", "does not start with <"),
        (GOOD + "p95 = '<'", "sla.toml: objective 1, key p95", "does not start with <"),
        (GOOD + "p95 = '< -50ms'", "sla.toml: objective 1, key p95", "is not a number with a unit"),
        (GOOD + "p95 = '< 5 parsecs'", "sla.toml: objective 1, key p95", "has an unknown unit"),
        (GOOD + "p95 = '< 5/min'", "sla.toml: objective 1, key p95", "has an unknown unit"),
        (GOOD + f"p95 = '< 1{'0' * 30}s'", "sla.toml: objective 1, key p95", "is too large"),
        (GOOD + f"p95 = '< 1{'0' * 400}s'", "sla.toml: objective 1, key p95", "is not a number|too large"),
        (GOOD + "p95 = 2026-01-01", "sla.toml: objective 1, key p95", "a date or time is not a limit"),
        (GOOD + "p99.9 = '< 1s'", "sla.toml: objective 1, key p99", "a key with a point as two"),
        (GOOD + "p0 = '< 1s'", "sla.toml: objective 1, key p0", "unknown key"),
        (GOOD + "p100 = '< 1s'", "sla.toml: objective 1, key p100", "unknown key"),
        (GOOD + '"p9\\u001b" = "< 1s"', r'sla.toml: objective 1, key "p9\\u001b"', "unknown key"),
        (GOOD + "p95.a = {}", "sla.toml: objective 1, key p95", "a key with a point"),
    ],
)
def test_a_slip_is_named_with_file_objective_and_key(text, place, cause):
    """One line says where and what, and there is something to try."""
    error = refusal(text)

    place = place.replace(": objective", r" line \d+: objective")
    assert re.fullmatch(f"cannot use {place}: .*({cause}).*", str(error))
    assert error.hint


@pytest.mark.parametrize(
    ("series", "cause"),
    [
        ("", "is not a metric"),
        ("runq wait", "is not a metric"),
        ("a{b='c'", "is not a metric"),
        ("a{b=c}", 'has no label="value" at "b=c"'),
        ("a{b='c' d='e'}", "has no label"),
        ("a{b=~'c'}", "has no label"),
        ("a{b='c',b='d'}", "names the label b twice"),
        (r"a{b='\x41'}", r'has an unknown escape "\\x"'),
        (r"a{b='\U00110000'}", "has an unknown escape"),
    ],
)
def test_a_slip_in_a_series_is_named(series, cause):
    """The words follow the text of the series, as in `"a{b=c}" has no label="value"`."""
    text = f"[[objective]]\nseries = '''{series}'''\np95 = '< 1s'"

    error = refusal(text)

    assert cause in str(error)
    assert "objective 1, key series" in str(error)


def test_a_slip_of_the_pen_gets_the_right_word():
    """`rat` is `rate`."""
    assert refusal(GOOD + "rat = '< 1/s'").hint == "rate"


def test_hostile_text_cannot_write_to_the_terminal():
    """Whatever the file holds, an error is one printable line."""
    error = refusal("[[objective]]\nname = '''\u202e\nx\u2028'''\nseries = '\u0085'\np95 = 1")

    assert (str(error) + error.hint).isprintable()


def test_every_toml_in_the_docs_is_an_sla_file():
    """The documentation stays true."""
    blocks = re.findall(r"```toml\n(.*?)```", (DOCS / "objectives.md").read_text(encoding="utf-8"), re.DOTALL)

    objectives = [parse(block, "docs/objectives.md") for block in blocks]

    assert sum(map(len, objectives)) >= 10
