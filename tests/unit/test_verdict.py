"""Verdicts: the right number for each kind of series, and no verdict where there is none."""

from __future__ import annotations

import pytest

from tests.sample import SECOND
from tests.unit.evidence import INTERVALS, MS, evidence
from tracekit.analysis.sla import parse
from tracekit.analysis.verdict import State, judge
from tracekit.errors import RecordingError, UsageError
from tracekit.records import Loss


def verdict(series: str, key: str, limit: str, **evidences):
    """The verdict on one objective."""
    (found,) = judge(
        parse(f"[[objective]]\nseries = '''{series}'''\n'{key}' = '{limit}'", "s"), evidence(**evidences)
    ).verdicts
    return found


def refusal(series: str, key: str, limit: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        verdict(series, key, limit)
    return caught.value


READY = {("spawn.ready", "role=worker"): [[5 * MS] * 100] * 9 + [[5 * MS] * 50 + [80 * MS] * 50]}


@pytest.mark.parametrize(
    ("key", "limit", "value"),
    [
        ("p50", "< 50ms", 5 * MS),
        ("p95", "< 50ms", 5 * MS),
        ("p99", "< 50ms", 80 * MS),
        ("mean", "< 50ms", 8.75 * MS),
        ("min", "> 1ms", 5 * MS),
        ("max", "< 50ms", 80 * MS),
        ("total", "< 50ms", 8750 * MS),
        ("rate", "> 5/s", 100),
    ],
)
def test_histograms(key, limit, value):
    """1000 spawns in 10 s, 950 of 5 ms and 50 of 80 ms; a quantile is at most 1/128 too high and never too low."""
    found = verdict("spawn.ready", key, limit, histograms=READY)

    assert value <= found.value <= value * 129 / 128
    assert (found.n, found.counted) == (1000, "events")
    assert found.unit == ("count" if key == "rate" else "ns")
    assert (found.above is None) == (key in ("total", "rate") or ">" in limit)


def test_a_missed_latency_says_by_how_much_how_often_and_when():
    """50 of 1000 above 50 ms, all of them in the last interval; whether the next recording has any, nobody knows."""
    found = verdict("spawn.ready", "p99", "< 50ms", histograms=READY)

    assert found.state is State.UNDECIDED
    assert found.margin == 50 * MS - found.value < 0
    assert found.margin_share == found.margin / (50 * MS)
    assert found.above == 0.05
    assert (found.worst.start_ns, found.worst.value) == (9 * SECOND, found.value)


def test_a_missed_floor_is_worst_where_it_is_lowest():
    """With `>` the smallest value is the worst."""
    slow = {("spawn.ready", "role=worker"): [[MS]] * 4 + [[]] + [[MS]] * 5}

    found = verdict("spawn.ready", "rate", "> 5/s", histograms=slow)

    assert found.state is State.FAIL
    assert found.above is None
    assert (found.worst.start_ns, found.worst.value) == (4 * SECOND, 0)


def test_several_histograms_are_judged_as_one():
    """Without labels, the events of all roles."""
    more = {("spawn.ready", "role=helper"): [[40 * MS] * 30] * INTERVALS}

    found = verdict("spawn.ready", "p50", "< 30ms", histograms=more)

    assert found.n == 400
    assert found.state is State.FAIL


@pytest.mark.parametrize(
    ("series", "key", "limit", "value", "unit"),
    [
        ("switches", "total", "< 100", 70, "count"),
        ("switches", "rate", "< 100/s", 7, "count"),
        ("syscall.calls", "rate", "< 1/s", 1000, "count"),
        ("io.read", "rate", "< 1MB/s", 4096, "bytes"),
        ("io.read", "total", "< 1MB", 40960, "bytes"),
        ('psi{resource="cpu"}', "rate", "< 10%", 0.25, "share"),
        ('psi{resource="cpu"}', "total", "< 3s", 2.5 * SECOND, "ns"),
    ],
)
def test_counters(series, key, limit, value, unit):
    """Increases add up over series and time; ns counters are a share of the time."""
    found = verdict(series, key, limit)

    assert (found.value, found.unit) == (value, unit)
    assert (found.n, found.counted) == (INTERVALS, "intervals")


FAILED = {
    ("syscall.errors", "syscall=openat errno=ENOENT role=worker"): ("count", [1.0] * 9 + [20.0]),
    ("syscall.errors", "syscall=openat errno=EACCES role=worker"): ("count", [1.0] * INTERVALS),
    ("spawn.failed", "how=exit+1 role=worker"): ("count", [1.0] * INTERVALS),
}


@pytest.mark.parametrize(
    ("series", "value", "n", "counted"),
    [
        ('syscall.errors{syscall="openat"}', 0.039, 1000, "syscall.calls"),
        ('syscall.errors{syscall="openat",errno="EACCES"}', 0.01, 1000, "syscall.calls"),
        ("syscall.errors", 0.0039, 10_000, "syscall.calls"),
        ('spawn.failed{role="worker"}', 0.1, 100, "spawn.count"),
    ],
)
def test_failures_are_a_share_of_what_was_tried(series, value, n, counted):
    """Of all calls of the same system call, whether or not another one fails too."""
    found = verdict(series, "rate", "< 0.1%", counters=FAILED)

    assert found.value == pytest.approx(value)
    assert (found.n, found.counted) == (n, counted)


def test_the_worst_share_is_that_of_its_interval():
    """21 of the 100 opens in the last second."""
    found = verdict('syscall.errors{syscall="openat"}', "rate", "< 1%", counters=FAILED)

    assert (found.worst.start_ns, found.worst.value) == (9 * SECOND, 0.21)


@pytest.mark.parametrize(
    ("series", "key", "limit", "value", "n"),
    [
        ("rss", "max", "< 512MB", 10 * MS, 10),
        ("rss", "min", "> 0.5MB", MS, 10),
        ("rss", "mean", "< 512MB", 5.5 * MS, 10),
        ("rss", "p50", "< 512MB", 5 * MS, 10),
        ("host.cpu", "max", "< 80%", 0.9, 20),
        ("host.cpu", "mean", "< 80%", 0.5, 20),
        ('host.cpu{cpu="1"}', "max", "< 80%", 0.1, 10),
    ],
)
def test_gauges(series, key, limit, value, n):
    """Samples of several series are one set."""
    found = verdict(series, key, limit)

    assert found.value == pytest.approx(value)
    assert (found.n, found.counted) == (n, "samples")


@pytest.mark.parametrize(("events", "state"), [(367, State.NOT_MEASURED), (368, State.PASS)])
def test_a_p99_needs_368_events(events, state):
    """With fewer, no event is sure to be above it in 95 % of recordings, and it has no upper end."""
    rows = {("spawn.ready", "role=worker"): [[MS] * events] + [[]] * 9}

    found = verdict("spawn.ready", "p99", "< 1s", histograms=rows)

    assert found.state is state
    assert found.reason == ("" if found.value else "p99 needs 368 events at least, there are 367")


@pytest.mark.parametrize(
    ("series", "key", "limit", "reason", "hint"),
    [
        (
            "span.latency",
            "p99",
            "< 1s",
            "the recording has no span.latency: no traced process named spans",
            "name them",
        ),
        ("nothing", "p99", "< 1s", "the recording has no series nothing", "tracekit report, which"),
        ("spawn.raedy", "p99", "< 1s", "no series spawn.raedy", "spawn.ready"),
        ('spawn.ready{role="wroker"}', "p99", "< 1s", 'no role="wroker": its role is "worker"', 'role="worker"'),
        ('spawn.ready{rule="worker"}', "p99", "< 1s", "it has no label rule", ""),
        ('psi{resource="cpu",kind="full"}', "rate", "< 1%", 'its kind is "some"', ""),
        ("syscall.latency", "p99", "< 1s", "syscall.latency was not measured", "record with --syscalls"),
        ("fds", "max", "< 100", "fds has no samples", "record for longer"),
        ("rss", "p99", "< 1GB", "p99 needs 368 samples at least, there are 10", "record for longer"),
        (
            'syscall.errors{syscall="write"}',
            "rate",
            "< 1%",
            'syscall.calls{syscall="write"} counted nothing',
            "record while",
        ),
        ('spawn.failed{role="cook"}', "rate", "< 1%", 'spawn.count{role="cook"} counted nothing', "record while"),
    ],
)
def test_no_data_is_no_pass(series, key, limit, reason, hint):
    """NOT MEASURED, with the reason and what would help."""
    found = verdict(series, key, limit)

    assert found.state is State.NOT_MEASURED
    assert found.value is None
    assert reason in found.reason
    assert found.hint.startswith(hint)


def test_what_was_never_tried_is_said_so():
    """Although other calls failed: what helps is not the list of those."""
    found = verdict('syscall.errors{syscall="fdatasync"}', "total", "<= 0", counters=FAILED)

    assert found.reason == 'syscall.calls{syscall="fdatasync"} counted nothing that could fail'


def test_no_events_is_no_pass():
    """A histogram series that never got an event."""
    found = verdict("spawn.ready", "max", "< 1s", histograms={("spawn.ready", "role=worker"): [[]] * INTERVALS})

    assert found.state is State.NOT_MEASURED
    assert found.reason == "spawn.ready has no events"


def test_no_interval_is_no_pass():
    """A recording that was killed at once."""
    found = verdict("io.read", "total", "< 1GB", intervals=[], values={}, histograms={})

    assert found.reason == "no interval was finished"


ZERO = [
    'syscall.errors{syscall="openat"}',
    'syscall.errors{syscall="openat",errno="EACCES"}',
    'syscall.errors{syscall="openat",role="worker"}',
    "spawn.failed",
    'spawn.failed{role="worker"}',
    'spawn.failed{role="worker",how="OOM kill"}',
    'spawn.failed{how="SIGKILL"}',
    'spawn.failed{how="exit 1"}',
]


@pytest.mark.parametrize("series", ZERO)
def test_nothing_failed_is_a_true_zero(series):
    """The recorder writes a counter of failures only when something fails; the attempts are there."""
    found = verdict(series, "total", "<= 0")

    assert (found.state, found.value) == (State.PASS, 0)


@pytest.mark.parametrize(
    "series",
    [
        'syscall.errors{syscall="openat",errno="EACCESS"}',
        'syscall.errors{syscall="opneat"}',
        'syscall.errors{syscall="openat",role="wroker"}',
        'syscall.errors{syscall="openat",thread="main"}',
        'spawn.failed{role="wroker"}',
        'spawn.failed{how="OOM"}',
        'spawn.failed{how="SIGKLL"}',
        'spawn.failed{how="exit 0"}',
        'syscall.errors{syscall="openat",how="SIGKILL"}',
        'spawn.failed{errno="ENOENT"}',
        "syscall.restarts",
        "migrations",
    ],
)
def test_a_name_that_nothing_knows_is_no_zero(series):
    """A slip of the pen must not pass for ever."""
    assert verdict(series, "total", "<= 0").state is State.NOT_MEASURED


def test_what_was_off_is_no_zero():
    """Without the errors tier nothing was counted, whatever else is there."""
    found = verdict("syscall.errors", "total", "<= 0", tiers=frozenset({"sched"}))

    assert (found.state, found.hint) == (State.NOT_MEASURED, "record without --no-errors")


def test_an_errno_that_another_call_had_is_a_true_zero():
    """ENOENT exists as a word, as openat had it; read never did."""
    found = verdict('syscall.errors{syscall="read",errno="ENOENT"}', "rate", "< 1%", counters=FAILED)

    assert (found.state, found.value, found.n) == (State.PASS, 0, 9000)


def test_an_errno_under_its_other_name_is_no_zero():
    """EWOULDBLOCK and EAGAIN are one number: the recording counts under one of the words."""
    rows = {("syscall.errors", "syscall=read errno=EAGAIN role=worker"): ("count", [5.0] * INTERVALS)}

    found = verdict('syscall.errors{errno="EWOULDBLOCK"}', "total", "<= 0", counters=rows)

    assert found.state is State.NOT_MEASURED


def test_another_kind_of_failure_beside_those_seen_is_a_true_zero():
    """Processes failed, but none for memory."""
    found = verdict('spawn.failed{how="OOM kill"}', "total", "<= 0", counters=FAILED)

    assert (found.state, found.value) == (State.PASS, 0)


@pytest.mark.parametrize(("lost", "state"), [(1, State.PASS), (2, State.NOT_MEASURED)])
def test_more_than_one_percent_lost_is_no_verdict(lost, state):
    """Of 100 events and the lost ones; samples are no events and none of them is lost."""
    losses = [Loss("ring", lost)]

    assert verdict("spawn.ready", "p95", "< 1s", losses=losses).state is state
    assert verdict("switches", "rate", "< 9/s", losses=losses).state is state
    assert verdict("rss", "max", "< 1GB", losses=losses).state is State.PASS
    assert verdict("io.read", "rate", "< 1GB/s", losses=losses).state is State.PASS


@pytest.mark.parametrize(
    ("series", "key", "limit"),
    [
        ("span.latency", "p95", "< 9s"),
        ("span.errors", "rate", "< 9/s"),
        ("app.games", "rate", "< 9/s"),
        ("mark", "rate", "< 9/s"),
    ],
)
def test_what_processes_count_themselves_the_kernel_cannot_lose(series, key, limit):
    """Spans, counters and marks are read from the processes: what the kernel side loses is none of them."""
    spans = {("span.latency", "span=a"): [[MS] * 10] * INTERVALS}
    counters = {(name, ""): ("count", [1.0] * INTERVALS) for name in ("span.errors", "app.games", "mark")}

    def state(reason: str, series: str = series, key: str = key, limit: str = limit) -> State:
        losses = [Loss(reason, 10**6)]
        return verdict(series, key, limit, histograms=spans, counters=counters, losses=losses).state

    assert state("ring") is State.PASS
    assert state("probe_rows") is State.NOT_MEASURED
    assert state("probe_rows", "spawn.ready", "p95", "< 1s") is State.PASS


@pytest.mark.parametrize(
    ("series", "fits", "misfit"), [("gpu.power", "< 300W", "< 300"), ("gpu.temperature", "<= 80 °C", "< 80W")]
)
def test_watts_and_degrees_have_their_units(series, fits, misfit):
    """A limit on power is in W and one on heat in °C, so that neither is taken for the other."""
    gauges = {
        ("gpu.power", "gpu=0"): ("W", [250.0] * INTERVALS),
        ("gpu.temperature", "gpu=0"): ("°C", [70.0] * INTERVALS),
    }

    found = verdict(series, "max", fits, gauges=gauges)

    assert found.state is State.PASS
    with pytest.raises(UsageError, match="does not fit"):
        verdict(series, "max", misfit, gauges=gauges)


def test_what_was_lost_is_said():
    """With its reason, which may not write to the terminal."""
    found = verdict("spawn.ready", "p95", "< 1s", losses=[Loss("ri\x1bng", 100)])

    assert found.reason == "100 events were lost, 50 % of all (ri\\x1bng)"


@pytest.mark.parametrize(
    ("series", "key", "limit", "cause", "hint"),
    [
        ("spawn.ready", "p95", "< 5MB", '"< 5MB" does not fit spawn.ready, a histogram of time', 'p95 = "< 50ms"'),
        ("spawn.ready", "p99.9", "< 5%", "does not fit", '"p99.9" = "< 50ms"'),
        ("spawn.ready", "rate", "< 5", "does not fit", 'rate = "< 5/s"'),
        ("spawn.ready", "rate", "< 5%", "does not fit", 'rate = "< 5/s"'),
        ("runq.length", "p50", "< 5ms", "a histogram of tasks", 'p50 = "< 100"'),
        ("switches", "p50", "< 5", "switches is a counter, which has no p50", "rate or total"),
        ("switches", "rate", "< 5%", "a counter of counts", 'rate = "< 5/s"'),
        ("syscall.errors", "rate", "< 5ms", "does not fit", 'rate = "< 5/s" or rate = "< 1%"'),
        ("syscall.errors", "total", "< 5%", "does not fit", 'total = "< 100"'),
        ("io.read", "rate", "< 5%", "a counter of bytes", 'rate = "< 10MB/s"'),
        ('psi{resource="cpu"}', "rate", "< 5/s", "a counter of time", 'rate = "< 1%"'),
        ("psi", "rate", "< 5%", "2 series match, and times that overlap do not add up", "one of them, such as psi{"),
        ("rss", "rate", "< 5/s", "rss is a gauge, which has no rate", "a quantile, above, mean"),
        ("rss", "max", "< 50%", "a gauge of bytes", 'max = "< 512MB"'),
        ("host.cpu", "mean", "< 2", "a gauge of shares", 'mean = "< 1%"'),
        ('syscall.errors{role="worker"}', "rate", "< 1%", "syscall.calls is not counted by role", 'rate = "< 5/s"'),
    ],
)
def test_nonsense_is_refused_with_what_would_fit(series, key, limit, cause, hint):
    """A usage error that names the objective, not a verdict."""
    error = refusal(series, key, limit)

    assert str(error).startswith("cannot use s line 3: objective 1, key ")
    assert cause in str(error)
    assert error.hint.startswith(hint)


def test_a_recording_that_contradicts_itself_is_refused():
    """Series of one metric in two units cannot be added up."""
    rows = {("io.read", "disk=vda"): ("count", [1.0] * INTERVALS)}

    with pytest.raises(RecordingError, match="different units"):
        verdict("io.read", "total", "< 1GB", counters=rows)


@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_a_recording_of_no_numbers_is_no_pass(odd):
    """A damaged or hostile file."""
    rows = {("switches", "kind=voluntary role=worker"): ("count", [odd] * INTERVALS)}
    base = FAILED | {("syscall.calls", "syscall=openat"): ("count", [odd] * INTERVALS)}
    gauge = {("rss", ""): ("bytes", [odd] * INTERVALS)}

    found = [
        verdict("switches", "total", "< 1", counters=rows),
        verdict("syscall.errors", "rate", "< 1%", counters=base),
        verdict("rss", "mean", "< 1GB", gauges=gauge),
    ]

    assert [each.state for each in found] == [State.NOT_MEASURED] * 3


def test_the_worst_interval_is_a_number():
    """One sample is none: what is shown, and what JSON can hold, is the largest that is."""
    gauge = {("rss", ""): ("bytes", [5.0] * 8 + [7.0, float("inf")])}

    found = verdict("rss", "p50", "< 5B", gauges=gauge)

    assert (found.state, found.worst.start_ns, found.worst.value) == (State.FAIL, 8 * SECOND, 7)


@pytest.mark.parametrize(
    ("limits", "state", "code"),
    [
        (["< 1s", "< 2s"], State.PASS, 0),
        (["< 1s", "< 1ns"], State.FAIL, 1),
        (["< 1s", None], State.NOT_MEASURED, 3),
        (["< 1ns", None], State.FAIL, 1),
        ([None], State.NOT_MEASURED, 3),
    ],
)
def test_the_whole_is_as_bad_as_its_worst(limits, state, code):
    """A FAIL outweighs what was not measured; that outweighs a PASS."""
    tables = [
        f"[[objective]]\nseries = '{'spawn.ready' if limit else 'x'}'\nmax = '{limit or '< 1s'}'\n" for limit in limits
    ]

    judgement = judge(parse("".join(tables), "s"), evidence())

    assert (judgement.state, judgement.exit_code) == (state, code)
