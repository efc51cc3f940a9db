"""tracekit flamegraph --span, --db, --tail: what spans and calls were made of, adding up to their latencies."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from tests import golden, sample, sample_db
from tests.sample_spans import Mode
from tests.unit.recordings import Content, write
from tracekit.histogram import slots_of
from tracekit.recording.reader import Recording
from tracekit.records import BUCKET_SHIFT, WAITS, SpanParts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.conftest import Run
    from tracekit.records import Series

    Stacks = Callable[..., dict[tuple[str, ...], int]]

MS = 10**6
SVG = "{http://www.w3.org/2000/svg}"
QUERY = {"role": "worker", "span": "db.query"}
HOSTILE = "e;v\x1b[31mil\u202e <script>\n"


@pytest.fixture
def databases(tmp_path: Path) -> Path:
    sample_db.write(tmp_path / "db.tk")
    return tmp_path / "db.tk"


@pytest.fixture
def stacks(run: Run) -> Stacks:
    """Return a function from words to the stacks that they give, with frames as they were recorded."""

    def call(*words: object) -> dict[tuple[str, ...], int]:
        code, out, err = run("flamegraph", *words, "--json")
        assert code == 0, err
        return {tuple(stack["frames"]): stack["weight"] for stack in json.loads(out)["stacks"]}

    return call


def parts(latency: int, *, count: int = 1, unseen: int = 0, **waits: int) -> SpanParts:
    """Return the parts of spans that were not suspended."""
    none, bucket = (0,) * len(WAITS), int(slots_of(np.array([latency // count], dtype=np.uint64))[0]) >> BUCKET_SHIFT
    return SpanParts(0, bucket, latency, 0, tuple(waits.get(kind, 0) for kind in WAITS), none, 0, unseen, 0)


def spans(labels: dict[str, str], latency: int, part: SpanParts | None) -> Content:
    """Return a recording of one span."""
    content = Content(histograms=[("span.latency", labels, [latency])])
    content.parts = [(labels, part)] if part else []
    return content


def latencies(path: Path, metric: str, wanted: Callable[[Series], bool]) -> int:
    with Recording(path) as recording:
        return sum(each.total for series, each in recording.histograms(metric).items() if wanted(series))


@pytest.mark.parametrize("name", ["evaluation", "db.query", "agent.spawn"])
def test_widths_add_up_to_the_latencies(stacks: Stacks, sample: Path, name: str) -> None:
    """To the nanosecond, whatever the spans were made of."""
    found = stacks(sample, "--span", name)

    assert sum(found.values()) == latencies(sample, "span.latency", lambda series: series.label("span") == name)


def test_components_of_a_span(stacks: Stacks, tmp_path: Path) -> None:
    """In the words of the report, under role and span; labels that all have are not repeated."""
    path = write(tmp_path / "x.tk", spans(QUERY | {"system": "x"}, 100, parts(100, unseen=7, runq=20, disk=30, db=11)))

    assert stacks(path, "--span", "db.query") == {
        ("worker", "db.query", "run queue"): 20,
        ("worker", "db.query", "blocked: disk"): 30,
        ("worker", "db.query", "db"): 11,
        ("worker", "db.query", "on-CPU"): 32,
        ("worker", "db.query", "unattributed"): 7,
    }


def test_labels_that_differ_tell_spans_apart(stacks: Stacks, tmp_path: Path) -> None:
    """A label that one lacks differs too; --where takes away what there is to tell apart."""
    kinds = ({"system": "redis", "app": "a"}, {"app": "a"}, {"system": "mysql", "app": "a"})
    content = Content(histograms=[("span.latency", QUERY | kind, [10]) for kind in kinds])
    path = write(tmp_path / "x.tk", content)

    names = {stack[1] for stack in stacks(path, "--span", "db.query")}
    assert names == {"db.query", "db.query (system=redis)", "db.query (system=mysql)"}
    assert {s[1] for s in stacks(path, "--span", "db.query", "--where", "system=redis")} == {"db.query"}


def test_what_the_kernel_did_not_see_is_unattributed(run: Run, tmp_path: Path) -> None:
    """Spans recorded without it have a latency and no parts: the width is right, and it is said why."""
    path = write(tmp_path / "x.tk", spans(QUERY, 100, None))

    found = run("flamegraph", path, "--span", "db.query")
    tail = run("flamegraph", path, "--span", "db.query", "--tail", "p90")

    note = "note: what they were made of was not measured: recorded without the kernel\n"
    assert found == (0, "worker;db.query;unattributed 100\n", note)
    assert (tail[0], "recorded without the kernel" in tail[2]) == (3, True)


def test_calls_seen_in_libraries_have_no_parts(run: Run, tmp_path: Path) -> None:
    """That is not for want of a kernel."""
    call = {"role": "worker", "system": "sqlite", "peer": "/lib/x.so", "operation": "SELECT", "source": "library"}
    path = write(tmp_path / "x.tk", Content(histograms=[("db.latency", call, [10] * 300)]))

    found = run("flamegraph", path, "--db")
    tail = run("flamegraph", path, "--db", "--tail", "p90")

    note = "note: what they were made of was not measured: seen in client libraries alone\n"
    assert found == (0, "worker;db.query;sqlite /lib/x.so;SELECT;unattributed 3000\n", note)
    assert (tail[0], tail[2].count("seen in client libraries alone"), "sudo" in tail[2]) == (3, 1, False)


def test_what_was_waited_for_at_databases(stacks: Stacks, databases: Path) -> None:
    """The calls inside share the wait as their servers took it, and what they do not explain is `-`."""
    found = stacks(databases, "--span", "evaluation")

    inside = {stack[3:]: ns for stack, ns in found.items() if stack[2] == "db"}
    ours = latencies(databases, "span.latency", lambda series: series.label("span") == "evaluation")
    assert set(inside) == {("postgresql 127.0.0.1:5432", "SELECT"), ("-",)}
    assert inside["postgresql 127.0.0.1:5432", "SELECT"] == pytest.approx(20 * (47 * 1.83 + 3 * 2.44) * MS, rel=0.1)
    assert sum(found.values()) == ours


def test_servers_that_took_longer_than_the_span_waited(stacks: Stacks, tmp_path: Path) -> None:
    """Calls of a pool overlap: the wait is shared in proportion."""
    inside = {"role": "worker", "span": "evaluation"}
    call = inside | {"source": "socket", "system": "redis", "peer": "p"}
    modes = [
        Mode("worker", {"span": "evaluation"}, 7, 10 * MS, 0, {"db": 0.5}),
        Mode("worker", call | {"operation": "GET"}, 7, 30 * MS, 0, {"db": 1}, None, "db.latency"),
        Mode("worker", call | {"operation": "SET"}, 7, 10 * MS, 0, {"db": 1}, None, "db.latency"),
    ]
    sample_db.write(tmp_path / "x.tk", modes=modes)

    found = {
        stack[4]: ns for stack, ns in stacks(tmp_path / "x.tk", "--span", "evaluation").items() if stack[2] == "db"
    }

    assert found["GET"] / found["SET"] == pytest.approx(3)
    assert sum(found.values()) == pytest.approx(20 * 7 * 5 * MS)


def test_calls_of_other_spans_are_not_inside(stacks: Stacks, tmp_path: Path) -> None:
    """Neither those of another role, nor of the same name with other labels, nor of another system."""
    call = {"source": "socket", "peer": "p", "operation": "GET", "span": "db.query"}
    kinds = [{"lane": "1", "system": "redis"}, {"lane": "2", "system": "redis"}, {"lane": "1", "system": "mysql"}]
    modes = [Mode("worker", {"span": "db.query"} | kinds[0], 7, 10 * MS, 0, {"db": 0.5})]
    modes += [Mode(role, call | kind, 7, MS, 0, {"db": 1}, None, "db.latency") for role in "ab" for kind in kinds]
    modes += [
        Mode("worker", call | kind | {"operation": "SET"}, 7, MS, 0, {"db": 1}, None, "db.latency") for kind in kinds
    ]
    sample_db.write(tmp_path / "x.tk", modes=modes)

    found = {stack[3:] for stack in stacks(tmp_path / "x.tk", "--span", "db.query") if stack[2] == "db"}

    assert found == {("redis p", "SET"), ("-",)}


def test_calls_add_up_to_their_latencies(stacks: Stacks, databases: Path) -> None:
    """Each call once: those that spans saw of a system seen at its sockets too are not in it."""
    found = stacks(databases, "--db")

    once = [("postgresql", "socket"), ("redis", "socket"), ("mysql", "socket"), ("sqlite", "probe")]
    whole = latencies(databases, "db.latency", lambda series: (series.label("system"), series.label("source")) in once)
    assert sum(found.values()) == whole
    assert {stack[:2] for stack in found} == {("worker", "db.query")}
    assert {stack[4] for stack in found if stack[2:4] == ("postgresql 127.0.0.1:5432", "SELECT")} == {
        "server",
        "run queue",
        "client",
    }
    assert {stack[4] for stack in found if stack[2] == "sqlite"} == {"blocked: disk", "blocked: lock", "on-CPU"}


def test_calls_are_what_db_query_means_where_no_span_has_the_name(stacks: Stacks, databases: Path) -> None:
    """Who asks for queries gets them, however they were seen."""
    assert stacks(databases, "--span", "db.query") == stacks(databases, "--db")


def test_spans_come_first_and_say_that_sockets_saw_more(run: Run, tmp_path: Path) -> None:
    """A program that names its queries asked for those."""
    modes = [*sample_db.MODES, Mode("worker", {"span": "db.query"}, 7, MS, 0, {"runq": 0.5})]
    sample_db.write(tmp_path / "x.tk", modes=modes)

    _, out, err = run("flamegraph", tmp_path / "x.tk", "--span", "db.query")

    assert [line.rpartition(" ")[0] for line in out.splitlines()] == [
        "worker;db.query;on-CPU",
        "worker;db.query;run queue",
    ]
    assert "note: these are spans; calls as they were seen at sockets: --db\n" in err


def test_who_asks_for_a_source_has_it(stacks: Stacks, databases: Path) -> None:
    """As `hist` and `heatmap`."""
    found = stacks(databases, "--db", "--where", "source=probe", "--where", "system=postgresql")

    assert {stack[2:4] for stack in found} == {("postgresql", "-")}


@pytest.mark.parametrize(("name", "tail"), [("evaluation", "p99"), ("db.query", "p95"), ("db.query", "p99")])
def test_a_tail_beside_the_median(run: Run, stacks: Stacks, sample: Path, name: str, tail: str) -> None:
    """Means of a span in whole ns, so that widths compare; they are those of the report where it has this tail."""
    found = stacks(sample, "--span", name, "--tail", tail)

    report = json.loads(run("report", sample, "--span", name, "--json")[1])
    for root in ("median", "tail") if f"p{100 * report['tail_quantile']:g}" == tail else ("median",):
        mean = report[root]["latency_ns"] / report[root]["count"]
        assert sum(ns for stack, ns in found.items() if stack[0] == root) == round(mean)
    assert {stack[0] for stack in found} == {"median", "tail"}
    assert all(isinstance(ns, int) for ns in found.values())


def test_the_tail_shows_its_cause(stacks: Stacks, sample: Path) -> None:
    """The evaluations of the sample are slow when they wait for a lock."""
    found = stacks(sample, "--span", "evaluation", "--tail", "p99")

    tail = {stack[3]: ns for stack, ns in found.items() if stack[0] == "tail"}
    assert max(tail, key=tail.__getitem__) == "blocked: lock"
    assert ("median", "worker", "evaluation", "blocked: lock") not in found


def test_a_tail_of_calls(stacks: Stacks, databases: Path) -> None:
    """PostgreSQL is slow when its client is."""
    found = stacks(databases, "--db", "--where", "system=postgresql", "--where", "span=evaluation", "--tail", "p95")

    tail = {stack[-1]: ns for stack, ns in found.items() if stack[0] == "tail"}
    assert set(tail) == {"server", "run queue", "client"}
    assert tail["client"] > 0.9 * sum(tail.values())


def test_a_picture_of_bands(run: Run, sample: Path) -> None:
    """Shares are of the band, as the sum of two means is nothing; what they are means of is said in it."""
    code, out, err = run("flamegraph", sample, "--span", "evaluation", "--tail", "p99", "--format", "svg")

    golden.check("flamegraph-tail.svg", out)
    root = ET.fromstring(out)
    titles = [title.text or "" for title in root.iter(f"{SVG}title")]
    assert titles[0] == "all\nmeans, side by side"
    assert next(title for title in titles if title.startswith("tail\n")) == "tail\n131 ms"
    lock = next(title for title in titles if title.startswith("blocked: lock"))
    assert lock == "blocked: lock\n90.6 ms · 69 % of tail · 69 % of the box above"
    assert (code, "tail from p99 on 131 ms, mean of 33 spans; median 11 ms, mean of 1,496 spans" in err) == (0, True)


def test_a_picture_of_spans(run: Run, databases: Path) -> None:
    """Components have colours, and the legend the shares of the whole."""
    _, out, _ = run("flamegraph", databases, "--span", "evaluation", "--format", "svg")

    words = [text.text or "" for text in ET.fromstring(out).iter(f"{SVG}text")]
    assert words[0] == "db.tk: spans evaluation, 20 s"
    assert [word.rpartition(" ")[0].rpartition(" ")[0] for word in words[4:9]] == [
        "on-CPU",
        "run queue",
        "waiting for a database",
        "blocked",
        "disk",
    ]


def test_only_a_part_of_the_time(stacks: Stacks, sample: Path) -> None:
    """The spans that ended in it; both parts are the whole."""
    halves = [stacks(sample, "--span", "evaluation", "--between", *each) for each in (("0s", "10s"), ("10s", "30s"))]
    whole = stacks(sample, "--span", "evaluation")

    assert sum(map(sum, (half.values() for half in halves))) == sum(whole.values())


def test_only_a_role(stacks: Stacks, tmp_path: Path) -> None:
    """As for threads; also for the bands of a tail, which are then of that role."""
    content = Content(
        histograms=[("span.latency", {"role": role, "span": "x"}, [ns]) for role, ns in (("a", 1), ("b", 3))]
    )
    path = write(tmp_path / "x.tk", content)

    assert stacks(path, "--span", "x", "--role", "b") == {("b", "x", "unattributed"): 3}


def test_names_that_would_be_something_else(run: Run, tmp_path: Path) -> None:
    """Roles, names and labels are chosen by the program: each stays one frame, on one line, escaped in a picture."""
    labels = {"role": HOSTILE, "span": HOSTILE}
    content = Content(histograms=[("span.latency", labels | {"a": value}, [7]) for value in (HOSTILE, "2")])
    path = write(tmp_path / "x.tk", content)

    _, out, _ = run("flamegraph", path, "--span", HOSTILE)
    _, drawn, _ = run("flamegraph", path, "--span", HOSTILE, "--format", "svg")

    frame = r"e:v\x1b[31mil\u202e <script>\x0a"
    assert out.splitlines() == [f"{frame};{frame} (a={value});unattributed 7" for value in ("2", frame)]
    assert len(ET.fromstring(drawn).findall(f"{SVG}script")) == 1
    assert "\x1b" not in drawn


def test_a_folded_file_of_spans_is_drawn_as_they_are(run: Run, sample: Path, tmp_path: Path) -> None:
    """Colours and unit are in the stacks."""
    run("flamegraph", sample, "--span", "evaluation", "-o", tmp_path / "x.folded")

    _, out, _ = run("flamegraph", tmp_path / "x.folded", "--format", "svg")

    assert " s in 8 stacks, read from" in out
    assert 'class="f b-lock' in out


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (
            ["run.tk", "--span", "nope"],
            2,
            "cannot show span nope: none of this name has ended\n  try: one of: agent.spawn,",
        ),
        (["none.tk", "--span", "x"], 3, "cannot show spans: none ended while recorded\n  try: docs/probe.md"),
        (["bare.tk", "--span", "evaluation"], 3, "cannot show evaluation: none ended in that time\n  try: record for"),
        (["run.tk", "--db"], 3, "cannot show calls of databases: the recording has none"),
        (["run.tk", "--db", "--span", "evaluation"], 2, "cannot use --span with --db"),
        (["run.tk", "--tail", "p99"], 2, "cannot use --tail without --span or --db"),
        (["run.tk", "--where", "a=b"], 2, "cannot use --where without --span or --db"),
        (["run.tk", "--span", "evaluation", "--tail", "p98"], 2, "'p98' is not one of"),
        (["run.tk", "--span", "evaluation", "--where", "lane=1"], 2, "cannot show lane: no histogram has this label"),
        (
            ["run.tk", "--span", "db.query", "--where", "system=x"],
            3,
            "no events where system=x\n  try: system=postgresql",
        ),
        (["run.tk", "--span", "evaluation", "--role", "x"], 3, "no events where role=x\n  try: role="),
        (["run.tk", "--span", "x", "--role", "a", "--where", "role=b"], 2, "cannot use --role with another role"),
        (
            ["run.tk", "--span", "agent.spawn", "--tail", "p99"],
            3,
            "of 210 it would be fewer than 10\n  try: --tail p95",
        ),
        (
            ["few.tk", "--span", "db.query", "--tail", "p90"],
            3,
            "of 7 it would be fewer than 10\n  try: record for longer",
        ),
        (["even.tk", "--span", "x", "--tail", "p90"], 3, "there is none, it is near the median"),
        (["text", "--span", "x"], 2, "cannot use --span: text holds folded stacks, which have no spans"),
        (["text", "--db"], 2, "cannot use --db: text holds folded stacks, which have no spans"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, error: str
) -> None:
    """Every wrong input has its own words and exit code, and no traceback."""
    monkeypatch.chdir(tmp_path)
    sample.write(tmp_path / "run.tk")
    sample.write(tmp_path / "bare.tk", intervals=0)
    write(tmp_path / "none.tk", Content())
    few = Content(histograms=[("span.latency", QUERY, [MS] * 7)], parts=[(QUERY, parts(7 * MS, count=7))])
    write(tmp_path / "few.tk", few)
    even = {"role": "a", "span": "x"}
    content = replace(few, histograms=[("span.latency", even, [MS] * 200)], parts=[(even, parts(200 * MS, count=200))])
    write(tmp_path / "even.tk", content)
    (tmp_path / "text").write_text("a;b 1\n")

    found, _, err = run("flamegraph", *words)

    assert found == code
    assert error in err
    assert "Traceback" not in err
