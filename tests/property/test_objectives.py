"""Whatever an sla.toml says, it is understood or refused in one line; and limits keep their laws."""

from __future__ import annotations

from click import unstyle
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.evidence import evidence
from tracekit.analysis.objectives import format_series, parse_series
from tracekit.analysis.sla import parse
from tracekit.analysis.verdict import State, judge
from tracekit.errors import UsageError
from tracekit.records import labels_of
from tracekit.report.verdict import lines

VALID = """
[[objective]]
name = "workers start fast"
series = 'spawn.ready{role="worker"}'
p95 = "< 50ms"
"p99.9" = "<= 1.5 s"

[[objective]]
series = 'syscall.errors{syscall="openat"}'
rate = "< 1%"
"""

DERIVED = ["span.concurrency", "training.slowdown", "span.latency"]
OPTIONS = ["name", '"above 5ms"', '"above 1"', '"above x"', "severity", "per", "during", "each", "window", "burn"]
anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
metrics = st.sampled_from(
    [
        "spawn.ready",
        "runq.length",
        "syscall.errors",
        "spawn.failed",
        "switches",
        "io.read",
        "psi",
        "rss",
        "cpu",
        "nope",
        *DERIVED,
    ]
)
names = st.sampled_from(["role", "syscall", "errno", "how", "kind", "resource", "x"])
values = st.one_of(st.sampled_from(["worker", "openat", "ENOENT", "cpu", "exit 1"]), st.text(max_size=8))
series = st.builds(format_series, metrics, st.dictionaries(names, values, max_size=2).map(labels_of))
keys = st.sampled_from(
    [
        "p50",
        "p95",
        '"p99.9"',
        "p99.9",
        "mean",
        "max",
        "min",
        "rate",
        "total",
        "growth",
        "name",
        "p0",
        "series",
        *OPTIONS,
    ]
)
limits = st.builds(
    "{}{} {}{}".format,
    st.sampled_from(["<", "<=", ">", ">=", "=", ""]),
    st.sampled_from(["0", "1", "0.5", "1000000", "-1", "x", "9" * 400]),
    st.sampled_from(["ns", "ms", "h", "B", "GiB", "%", "", "x"]),
    st.sampled_from(["", "/s"]),
)
literals = st.one_of(
    limits.map(lambda text: f"'{text}'"),
    limits.map(lambda text: f"'{text} of baseline'"),
    st.sampled_from(["1", "true", "[]", "{}", "1979-05-27", "'warning'", "'rss'", "'spawn.ready'", "'evaluation'"]),
    st.sampled_from(["'role'", "'2s'", "'1h'", "'2 over 4s and 2s'", "['2 over 4s and 2s']", "'9 over 1s and 2s'"]),
)
tables = st.builds(
    lambda text, pairs: f"[[objective]]\nseries = '''{text}'''\n" + "".join(f"{k} = {v}\n" for k, v in pairs),
    series,
    st.lists(st.tuples(keys, literals), min_size=1, max_size=3),
)


def understood(text):
    """The objectives of *text*, or none if it was refused as it should be."""
    try:
        return parse(text, "sla.toml")
    except UsageError as error:
        assert str(error).startswith("cannot use sla.toml")
        assert (str(error) + error.hint).isprintable()
        assert error.hint
        return ()


def judged(objective):
    """The verdict, or none if the objective was refused as it should be."""
    try:
        return judge([objective], evidence(), evidence()).verdicts[0]
    except UsageError as error:
        assert (str(error) + error.hint).isprintable()
        return None


@given(anything)
def test_any_text_is_understood_or_refused(text):
    """Only UsageError, in one printable line."""
    understood(text)


@given(st.integers(0, len(VALID)), st.integers(0, len(VALID)), anything)
def test_a_file_with_a_slip_is_understood_or_refused(first, last, text):
    """A good file of which some part was typed over."""
    understood(VALID[:first] + text + VALID[last:])


@given(st.lists(tables, min_size=1, max_size=3))
def test_what_is_understood_can_be_judged(parts):
    """Whatever an objective asks of any kind of series: a verdict with its reason, or a refusal."""
    for objective in understood("\n".join(parts)):
        verdict = judged(objective)
        if verdict:
            assert (verdict.value is None) == (verdict.state is State.NOT_MEASURED) == bool(verdict.reason)
            shown = lines([("run.tk", judge([objective], evidence(), evidence()))])
            assert all(unstyle(line).isprintable() for line in shown)


@given(st.from_regex(r"[a-z_]+(\.[a-z]+)?", fullmatch=True), st.dictionaries(names, st.text(), max_size=4))
def test_a_series_reads_back(metric, labels):
    """Any value of a label survives being written as a series."""
    assert parse_series(format_series(metric, labels_of(labels))) == (metric, labels_of(labels))


@given(st.sampled_from(["<", "<=", ">", ">="]), st.integers(0, 10**15), st.floats(0, 1e15))
def test_room_is_a_pass_and_no_room_is_none(operator, number, value):
    """The sign of the margin and the verdict agree, but for the limit itself."""
    (objective,) = parse(f"[[objective]]\nseries = 'x'\np95 = '{operator} {number}'", "sla.toml")
    limit = objective.limit

    margin = limit.margin(value)

    assert limit.met(value) == (margin > 0 or (margin == 0 and "=" in operator))
