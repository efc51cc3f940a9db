"""What an objective can ask beyond one limit of one series: windows, budgets, ratios, baselines, severities."""

from __future__ import annotations

import pytest

from tests.sample import SECOND
from tests.unit.evidence import INTERVALS, MS, evidence
from tracekit.analysis.sla import parse
from tracekit.analysis.verdict import State, judge
from tracekit.analysis.wording import grounds, outcome
from tracekit.errors import UsageError

READY = "series = 'spawn.ready{role=\"worker\"}'\n"


def verdicts(*lines: str, baseline=None, strict: bool = False, **evidences):
    text = "[[objective]]\n" + "\n".join(lines)
    return judge(parse(text, "s"), evidence(**evidences), baseline, strict=strict)


def verdict(*lines: str, **more):
    (found,) = verdicts(*lines, **more).verdicts
    return found


def rows(*values: list[int]) -> dict:
    return {("spawn.ready", "role=worker"): list(values)}


BAD_MINUTE = rows(*[[5 * MS] * 100] * 6, *[[80 * MS] * 100] * 2, *[[5 * MS] * 100] * 2)


def test_a_share_above_a_limit():
    """20 of 100 in each interval take longer."""
    mixed = rows(*[[5 * MS] * 80 + [80 * MS] * 20] * INTERVALS)

    found = verdict(READY, '"above 50ms" = "< 1%"', histograms=mixed)

    assert (found.state, found.value, found.unit, found.n) == (State.FAIL, 0.2, "share", 1000)
    assert 0.17 < found.confidence.low < 0.2 < found.confidence.high < 0.23
    assert outcome(found) == "above 50ms 20 %, limit < 1%"


def test_a_share_of_samples_above_a_limit():
    """Gauges too: rss is 1 to 10 MB."""
    found = verdict("series = 'rss'", '"above 7MB" = "< 50%"')

    assert (found.value, found.n) == (0.3, 10)


def test_a_limit_inside_the_interval_decides_nothing():
    """1 % are allowed, 11 of 1000 were: neither kept nor broken."""
    mixed = rows(*[[5 * MS] * 99 + [80 * MS]] * 9, [5 * MS] * 98 + [80 * MS] * 2)

    found = verdicts(READY, '"above 50ms" = "< 1%"', histograms=mixed)

    assert (found.state, found.exit_code) == (State.UNDECIDED, 3)


def test_a_window_is_judged_by_the_worst():
    """Two bad seconds hide in ten, and not in windows of two."""
    whole = verdict(READY, 'p50 = "< 50ms"', histograms=BAD_MINUTE)
    worst = verdict(READY, 'p50 = "< 50ms"', 'window = "2s"', histograms=BAD_MINUTE)

    assert whole.value < 6 * MS
    assert worst.value == 80 * MS
    assert (worst.worst.start_ns, worst.worst.end_ns) == (6 * SECOND, 8 * SECOND)
    assert worst.counted == "events in the worst of 5 windows"


def test_a_window_without_enough_events_is_said():
    """A p99 of 200 events is none: no window can be judged."""
    found = verdict(READY, 'p99 = "< 50ms"', 'window = "2s"', histograms=BAD_MINUTE)
    quiet = rows(*[[5 * MS] * 100] * 6, *[[]] * 4)
    some = verdict(READY, 'p50 = "< 50ms"', 'window = "2s"', histograms=quiet)

    assert (found.state, found.reason) == (State.NOT_MEASURED, "p99 needs 368 events at least, there are 200")
    assert (some.state, some.facts) == (State.PASS, ("2 of 5 windows had too little to judge",))


def test_a_window_longer_than_the_recording_is_not_measured():
    """Ten seconds are no minute."""
    found = verdict(READY, 'p50 = "< 50ms"', 'window = "1m"')

    assert found.reason == "there are 10 s to look at, a window is 60 s"


@pytest.mark.parametrize(
    ("burn", "value", "state"),
    [
        ("14 over 2s and 1s", 100, State.FAIL),
        ("14 over 10s and 5s", 20, State.FAIL),
        ("30 over 10s and 5s", 20, State.PASS),
        ("14 over 4s and 1s", 50, State.FAIL),
    ],
)
def test_a_budget_burns_too_fast_if_both_windows_say_so(burn, value, state):
    """1 % may be slow; in two of ten seconds all were. The slower of both windows counts."""
    found = verdict(READY, '"above 50ms" = "< 1%"', f'burn = "{burn}"', histograms=BAD_MINUTE)

    assert found.value == pytest.approx(value)
    assert (found.state, found.unit) == (state, "times")
    assert "30 days' budget would last" in found.facts[0]


def test_an_old_miss_does_not_burn_any_more():
    """Two bad seconds at the start: the short window forgets them before the long one is full."""
    early = rows(*[[80 * MS] * 100] * 2, *[[5 * MS] * 100] * 8)

    found = verdict(READY, '"above 50ms" = "< 1%"', 'burn = "14 over 6s and 2s"', histograms=early)

    assert (found.state, found.value) == (State.PASS, 0)


def test_each_burn_rate_is_judged_alone():
    """Two lines of the workbook's table are two verdicts; what is not long enough is said."""
    burns = 'burn = ["14.4 over 5s and 1s", "6 over 6h and 30m"]'

    first, second = verdicts(READY, '"above 50ms" = "< 1%"', burns, histograms=BAD_MINUTE).verdicts

    assert first.state is State.FAIL
    assert second.reason == "10 s were recorded, the long window is 6 h 0 min"


FAILED = {("syscall.errors", "syscall=openat errno=ENOENT role=worker"): ("count", [0.0] * 8 + [50.0] * 2)}


def test_a_share_of_failures_burns_too():
    """Half of the opens fail in the last two seconds."""
    found = verdict(
        "series = 'syscall.errors{syscall=\"openat\"}'", 'rate = "< 1%"', 'burn = "14 over 4s and 2s"', counters=FAILED
    )

    assert found.value == pytest.approx(25)


@pytest.mark.parametrize(
    ("lines", "value", "unit"),
    [
        (("series = 'rss'", "per = 'threads'", 'max = "< 1MB"'), 2.5 * MS, "bytes"),
        (("series = 'cpu'", "per = 'threads'", 'mean = "< 50%"'), 0.05, "share"),
        (("series = 'switches'", "per = 'syscall.calls'", 'rate = "< 1"'), 0.007, "count"),
        (("series = 'switches'", "per = 'syscall.calls'", 'total = "< 1%"'), 0.007, "share"),
        (("series = 'io.read'", "per = 'spawn.count'", 'total = "< 1kB"'), 409.6, "bytes"),
    ],
)
def test_ratios(lines, value, unit):
    """Gauges sample by sample, counters over the whole; in the unit of the first if the second is a count."""
    gauges = {("threads", ""): ("count", [4.0] * INTERVALS), ("cpu", ""): ("share", [0.2] * INTERVALS)}

    found = verdict(*lines, gauges=gauges)

    assert (found.value, found.unit) == (pytest.approx(value), unit)
    assert "per" in outcome(found)


def test_a_ratio_of_quantiles():
    """Ready takes four times as long as the exec."""
    more = {("spawn.exec", "role=worker"): [[5 * MS] * 10] * INTERVALS}

    found = verdict("series = 'spawn.ready'", "per = 'spawn.exec'", 'p50 = "< 5"', histograms=more)

    assert found.value == pytest.approx(4, rel=0.01)
    assert (found.state, found.unit) == (State.PASS, "count")


@pytest.mark.parametrize(
    ("lines", "cause"),
    [
        (("series = 'rss'", "per = 'switches'", 'max = "< 1MB"'), "a gauge of bytes per a counter of count"),
        (("series = 'switches'", "per = 'io.read'", 'rate = "< 1"'), "count per a counter of bytes"),
        (("series = 'rss'", "per = 'fds'", 'max = "< 1ms"'), "does not fit bytes per count"),
        (("series = 'rss'", "per = 'fds'", 'rate = "< 1MB"'), "which has no rate"),
    ],
)
def test_ratios_that_say_nothing_are_refused(lines, cause):
    """With what would fit."""
    with pytest.raises(UsageError, match=cause):
        verdict(*lines)


def test_a_ratio_without_its_other_half_is_not_measured():
    """No series to divide by, or one that is always 0."""
    missing = verdict("series = 'rss'", "per = 'nothing'", 'max = "< 1MB"')
    zero = verdict(
        "series = 'rss'", "per = 'threads'", 'max = "< 1MB"', gauges={("threads", ""): ("count", [0.0] * INTERVALS)}
    )

    assert missing.reason == "the recording has no series nothing"
    assert (zero.state, zero.value) == (State.NOT_MEASURED, None)


def test_each_value_of_a_label_is_judged_alone():
    """One CPU is busy, the other is not."""
    judgement = verdicts('name = "CPUs"', "series = 'host.cpu'", 'each = "cpu"', 'mean = "< 50%"')

    assert [(v.objective.name, v.state) for v in judgement.verdicts] == [
        ("CPUs (0)", State.FAIL),
        ("CPUs (1)", State.PASS),
    ]


def test_each_of_none_is_not_measured():
    """No GPU: one verdict, and it is no pass."""
    found = verdict("series = 'gpu.utilisation'", 'each = "gpu"', 'mean = "< 80%"')

    assert (found.state, found.reason) == (
        State.NOT_MEASURED,
        "the recording has no gpu.utilisation: no GPU was measured",
    )


def test_why_there_is_no_gpu_is_what_the_collector_said():
    """Its finding, not a guess."""
    found = verdict("series = 'gpu.utilisation'", 'mean = "< 80%"', findings=["GPU: no driver (libnvidia-ml.so.1)"])

    assert found.reason == "GPU: no driver (libnvidia-ml.so.1)"


@pytest.mark.parametrize(("now", "state"), [(20, State.PASS), (30, State.FAIL)])
def test_a_limit_relative_to_a_baseline(now, state):
    """20 ms before: 10 % more are allowed."""
    wide = rows(*[[value * MS for value in (now - 1, now, now + 1)] * 40] * INTERVALS)
    before = evidence(rows(*[[value * MS for value in (19, 20, 21)] * 40] * INTERVALS))

    found = verdict(READY, 'p50 = "< 110% of baseline"', histograms=wide, baseline=before)

    assert found.state is state
    assert found.limit.value == pytest.approx(1.1 * 20 * MS, rel=0.01)
    assert found.baseline == pytest.approx(20 * MS, rel=0.01)
    assert outcome(found).endswith("limit < 110% of baseline, which was 20.1 ms")


def test_a_rate_relative_to_a_baseline():
    """Not less than 90 % as many a second."""
    found = verdict("series = 'switches'", 'rate = "> 90% of baseline"', baseline=evidence())

    assert (found.value, found.limit.value, found.limit.per_second) == (7, pytest.approx(6.3), True)


@pytest.mark.parametrize(
    ("baseline", "reason"),
    [
        (None, "no baseline was given"),
        (evidence(rows(*[[]] * INTERVALS)), "in the baseline: spawn.ready{"),
        (evidence(rows(*[[0] * 10] * INTERVALS)), "it is 0 in the baseline"),
    ],
    ids=["none", "empty", "zero"],
)
def test_without_a_baseline_nothing_is_relative(baseline, reason):
    """Not measured, never a pass."""
    found = verdict(READY, 'p50 = "< 110% of baseline"', baseline=baseline)

    assert found.state is State.NOT_MEASURED
    assert found.reason.startswith(reason)


def test_growth_is_the_largest_rise():
    """From the lowest so far: 2 to 9, although it ends at 4."""
    samples = [5.0, 2.0, float("nan"), 9.0, 1.0, 4.0, 4.0, 4.0, 4.0, 4.0]

    found = verdict("series = 'rss'", 'growth = "< 5B"', gauges={("rss", ""): ("bytes", samples)})

    assert (found.value, found.state, found.worst.start_ns) == (7, State.FAIL, 3 * SECOND)


SPANS = {("span.latency", "role=worker span=evaluation"): [[5 * MS] * 100] * INTERVALS}


def test_spans_that_failed_are_a_share_of_those_that_ended():
    """3 of 100 in each second, by any error or by one."""
    errors = {("span.errors", "role=worker span=evaluation type=ValueError"): ("count", [3.0] * INTERVALS)}

    found = verdict("series = 'span.errors{span=\"evaluation\"}'", 'rate = "< 1%"', counters=errors, histograms=SPANS)
    none = verdict("series = 'span.errors{span=\"evaluation\"}'", 'rate = "< 1%"', histograms=SPANS)
    unknown = verdict("series = 'span.errors{span=\"evaluatoin\"}'", 'rate = "< 1%"', histograms=SPANS)

    assert (found.state, found.value, found.n) == (State.FAIL, pytest.approx(0.03), 1000)
    assert (none.state, none.value) == (State.PASS, 0)
    assert unknown.state is State.NOT_MEASURED


WARNING = 'severity = "warning"'


@pytest.mark.parametrize(
    ("severity", "limit", "strict", "state", "code"),
    [
        ("warning", "< 1ms", False, State.PASS, 0),
        ("warning", "< 1ms", True, State.FAIL, 1),
        ("error", "< 1ms", False, State.FAIL, 1),
        ("critical", "< 1ms", False, State.FAIL, 1),
        ("critical", "< 1s", True, State.PASS, 0),
    ],
)
def test_a_warning_changes_nothing_unless_strict(severity, limit, strict, state, code):
    """Its verdict is FAIL all the same."""
    judgement = verdicts(READY, f'severity = "{severity}"', f'max = "{limit}"', strict=strict)

    assert (judgement.state, judgement.exit_code) == (state, code)
    assert (judgement.verdicts[0].state is State.FAIL) == (limit == "< 1ms")


@pytest.mark.parametrize("series", ["nothing", "spawn.ready"])
def test_warnings_that_measured_nothing_are_no_pass(series):
    """No data never passes, not even if it is only a warning."""
    judgement = verdicts(f"series = '{series}'", WARNING, 'max = "< 1s"')

    assert judgement.exit_code == (0 if series == "spawn.ready" else 3)


def test_strict_fails_what_could_not_be_decided():
    """NOT MEASURED and UNDECIDED end with 1."""
    assert verdicts("series = 'nothing'", 'max = "< 1s"', strict=True).exit_code == 1


def test_grounds_say_what_a_value_stands_on():
    """Margin, events, what they are worth, the interval and its method."""
    words = grounds(verdict(READY, '"above 50ms" = "< 50%"', histograms=BAD_MINUTE))

    assert words[0] == "margin 30 points (60 %)"
    assert words[1].startswith("n 1,000, worth ")
    assert words[2].startswith("95 %: ")
    assert words[2].endswith("(autocorrelation)")
