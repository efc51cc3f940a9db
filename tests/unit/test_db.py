"""Calls of databases: each once, whatever saw it; whose time it was; what the report says of them."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import pytest
from click.testing import CliRunner

from tests import golden, sample_db
from tests.sample_db import INTERVALS, MODES, MS
from tests.sample_spans import Mode
from tests.unit.recordings import Content, write
from tracekit.analysis import db, sources
from tracekit.analysis.summary import Summary
from tracekit.cli import cli
from tracekit.errors import RecordingError
from tracekit.histogram import of_values
from tracekit.records import Series, labels_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of the sample recording."""
    path = tmp_path_factory.mktemp("db") / "db.tk"
    sample_db.write(path)
    return path


def tracekit(*words: object) -> str:
    """Run a command that succeeds, and return what it wrote to stdout."""
    done = CliRunner().invoke(cli, [*map(str, words)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def calls(source: str, system: str = "postgresql", metric: str = "db.latency", **labels: str) -> Series:
    kind = "counter" if metric == "db.errors" else "histogram"
    unit = "count" if metric == "db.errors" else "ns"
    return Series(metric, labels_of({"source": source, "system": system, **labels}), kind, unit)


def rate(**labels: str) -> int:
    """How many calls with *labels* the sample has in an interval."""
    return sum(m.rate for m in MODES if m.metric == "db.latency" and labels.items() <= m.labels.items())


SOCKET, LIBRARY, PROBE = (calls(source) for source in ("socket", "library", "probe"))


@pytest.mark.parametrize(
    ("known", "kept"),
    [
        ([SOCKET, LIBRARY, PROBE], [SOCKET]),
        ([LIBRARY, PROBE], [LIBRARY]),
        ([PROBE], [PROBE]),
        ([PROBE, calls("probe", operation="SELECT"), SOCKET], [SOCKET]),
        ([SOCKET, calls("probe", "sqlite")], [SOCKET, calls("probe", "sqlite")]),
        ([PROBE, calls("socket", metric="db.errors", error="refused")], [PROBE]),
        ([calls("socket", metric="db.errors", error="refused")],) * 2,
        ([SOCKET, calls("made up")], [SOCKET]),
    ],
    ids=["all", "no socket", "spans", "two of spans", "by system", "only failed", "nothing else", "strange"],
)
def test_a_call_that_several_saw_is_that_of_the_best(known: list[Series], kept: list[Series]) -> None:
    """Sockets before libraries before spans, by system; a source that saw only failures after all that saw calls."""
    assert sources.once(known, known) == kept


def test_who_asks_for_a_source_has_it() -> None:
    """And what is no call of a database is never left out."""
    other = Series("db.in_flight", labels_of({"system": "postgresql"}), "gauge", "count")

    assert sources.once([SOCKET, PROBE], [SOCKET, PROBE], ["source"]) == [SOCKET, PROBE]
    assert sources.once([PROBE, other], [SOCKET, PROBE, other]) == [other]


def test_the_choice_is_that_of_the_whole_recording() -> None:
    """A part in which only spans saw something is not counted by them."""
    assert sources.once([PROBE], [SOCKET, PROBE]) == []


def test_every_command_counts_each_call_once(recording: Path) -> None:
    """Report, percentiles, heat map and verdict agree on how many calls there were."""
    true = rate(system="postgresql", source="socket") * INTERVALS

    by_system = json.loads(tracekit("hist", recording, "--metric", "db.latency", "--by", "system", "--json"))
    report = json.loads(tracekit("report", recording, "--json"))
    where = ("--metric", "db.latency", "--where", "system=postgresql")
    heatmap = json.loads(tracekit("heatmap", recording, *where, "--json"))
    log = tracekit("hist", recording, *where, "--format", "hgrm")

    assert {row["labels"]["system"]: row["count"] for row in by_system["series"]}["postgresql"] == true
    assert {one["system"]: one["count"] for one in report["databases"]}["postgresql"] == true
    rows = [row for row in report["series"] if row["labels"].get("system") == "postgresql"]
    assert sum(row["count"] for row in rows if row["metric"] == "db.latency") == true
    assert heatmap["count"] == true
    assert f"Total count    = {true:12d}" in log
    also = {"system": "postgresql", "source": "probe", "calls": rate(system="postgresql", source="probe") * INTERVALS}
    assert report["databases_also_seen"] == [also]


def test_spans_can_be_asked_for(recording: Path) -> None:
    """What was left out is said, with how to see it."""
    done = CliRunner().invoke(cli, ["hist", str(recording), "--metric", "db.latency", "--json"])
    asked = json.loads(tracekit("hist", recording, "--metric", "db.latency", "--where", "source=probe", "--json"))

    assert "calls of postgresql that probe saw too are left out: --where source=probe" in done.stderr
    found = {row["labels"]["system"]: row["count"] for row in asked["series"]}
    assert found == {"postgresql": 163 * INTERVALS, "sqlite": 11 * INTERVALS}


def test_errors_have_their_share_of_the_calls(recording: Path) -> None:
    """A server's error is an answer and in the latencies; who was refused or cut off is not, and still tried."""
    report = json.loads(tracekit("report", recording, "--json"))

    found = {one["system"]: one for one in report["databases"]}
    answered = rate(system="postgresql", source="socket") * INTERVALS
    assert found["postgresql"]["errors"] == {"42P01": 40, "57014": 20, "closed": 20}
    assert (found["postgresql"]["count"], found["postgresql"]["calls"]) == (answered, answered + 20)
    assert (found["redis"]["calls"], found["redis"]["unanswered"]) == (101 * INTERVALS + 60, 60)
    connect = next(one for one in found["redis"]["operations"] if one["name"] == "CONNECT")
    assert (connect["count"], connect["calls"], connect["quantiles"]["0.5"]) == (0, 60, None)


def test_the_time_of_a_call_is_the_servers_or_the_clients(recording: Path) -> None:
    """Within a point of what the sample was made of: the tail is the client's, the rest the server's."""
    report = json.loads(tracekit("report", recording, "--json"))

    one = next(each for each in report["databases"] if each["system"] == "postgresql")
    shares = {
        band: {name: ns / one[band]["latency_ns"] for name, ns in one[band]["components_ns"].items()}
        for band in ("median", "tail")
    }
    assert shares["median"]["db"] == pytest.approx(0.9, abs=0.01)
    assert shares["median"]["on-CPU"] == pytest.approx(0.07, abs=0.01)
    assert shares["tail"]["db"] == pytest.approx(0.04, abs=0.01)
    assert shares["tail"]["on-CPU"] == pytest.approx(0.94, abs=0.01)
    insert = next(each for each in one["operations"] if each["name"] == "INSERT")
    assert insert["tail"]["components_ns"]["db"] / insert["tail"]["latency_ns"] == pytest.approx(0.95, abs=0.01)


def made(values: list[int], *, system: str = "redis", **waits: float) -> db.Calls:
    """Calls of these latencies, all of one share of waits."""
    mode = Mode("worker", {"system": system, "source": "socket"}, len(values), 0, 0, waits, None, "db.latency")
    from tests import sample_spans
    from tracekit.recording.parts import PartSums
    from tracekit.recording.writer import _pack_parts

    latencies = np.array(values, dtype=np.uint64)
    sums = PartSums([1])
    sums.add(_pack_parts(sample_spans.parts({mode.series: 1}, [(mode, latencies)], first=False)))
    summary = Summary(10**9, histograms={mode.series: of_values(latencies)}, parts={mode.series: sums.parts()[1]})
    return db.calls(summary, [mode.series])


FAST_AND_SLOW = [2 * MS] * 900 + [80 * MS] * 60


@pytest.mark.parametrize(
    ("waits", "blamed"),
    [
        ({"db": 0.9}, None),
        ({"db": 0.51, "runq": 0.2}, None),
        ({"db": 0.3, "runq": 0.1}, (db.CLIENT, 0.6)),
        ({"db": 0.3, "runq": 0.6}, (db.QUEUE, 0.6)),
        ({"disk": 0.3}, None),
        ({"disk": 0.3, "runq": 0.4}, None),
        ({"disk": 0.3, "runq": 0.6}, (db.QUEUE, 0.6)),
    ],
    ids=["server", "mostly the server", "client", "run queue", "not known", "a part", "run queue, not known"],
)
def test_the_client_is_named_where_the_tail_is_its_own(
    waits: dict[str, float], blamed: tuple[str, float] | None
) -> None:
    """And never its own work where the answer was not seen, as of SQLite or of spans alone: that is the database."""
    found = made(FAST_AND_SLOW, **waits).blames

    assert (found and found[0]) == (blamed and blamed[0])
    if found and blamed:
        assert found[1] == pytest.approx(blamed[1], abs=0.01)


def test_a_database_in_the_program_has_no_server() -> None:
    """Whatever its spans waited for."""
    found = made(FAST_AND_SLOW, system="sqlite", db=0.1, runq=0.1)

    assert (found.served, found.blames) == (False, None)


def test_without_a_tail_nobody_is_blamed() -> None:
    """Calls that are all alike, or too few."""
    assert made([2 * MS] * 2000, db=0.1).blames is None
    assert made([2 * MS] * 60 + [80 * MS], db=0.1).blames is None


def test_report(recording: Path) -> None:
    """The whole section, as people read it."""
    golden.check("report-db.txt", tracekit("report", recording))


def test_report_of_a_span_has_its_calls(recording: Path) -> None:
    """Those made inside of it alone."""
    golden.check("report-db-span.txt", tracekit("report", recording, "--span", "evaluation"))


def test_json_of_a_span_has_its_calls(recording: Path) -> None:
    """Of the one peer that was called there."""
    document = json.loads(tracekit("report", recording, "--span", "evaluation", "--json"))

    assert [(one["system"], one["count"]) for one in document["databases"]] == [("postgresql", 50 * INTERVALS)]


def test_statements_that_came_without_their_text_are_not_forgotten(tmp_path: Path) -> None:
    """A prepared SELECT stands beside those that were seen; BEGIN and SUBSCRIBE have no more text than that."""
    texts = {
        "postgresql": ["SELECT ? FROM runs", "SELECT", "BEGIN"],
        "redis": ["SUBSCRIBE"],
    }
    base = {"role": "worker", "source": "socket"}
    operations = [(system, text.split()[0]) for system, of in texts.items() for text in of]
    content = Content(
        histograms=[
            *(("db.latency", base | {"system": system, "operation": name}, [MS]) for system, name in operations),
            *(("db.statement", {"system": s, "statement": text}, [MS]) for s, of in texts.items() for text in of),
        ]
    )

    text = tracekit("report", write(tmp_path / "x.tk", content))

    _, _, rows = text.partition("statements, without their values")
    assert [line.split("  ")[1] for line in rows.splitlines()[1:3]] == [
        "SELECT (prepared, text not seen)",
        "SELECT ? FROM runs",
    ]
    assert "  BEGIN  " not in rows
    assert "SUBSCRIBE" not in rows


def test_a_role_has_its_own_calls(tmp_path: Path) -> None:
    """Calls, connections and those under way of others are not its own."""
    other = [Mode("cron", sample_db.REDIS, 5, MS, 0.1, {"db": 0.5}, None, "db.latency")]
    sample_db.write(tmp_path / "x.tk", modes=[*MODES[:1], *other])

    found = json.loads(tracekit("report", tmp_path / "x.tk", "--role", "cron", "--json"))

    assert [(one["system"], one["count"]) for one in found["databases"]] == [("redis", 5 * INTERVALS)]


def test_no_database_no_section(tmp_path: Path) -> None:
    """Nothing was seen, so nothing is said; unless it could not be seen."""
    spans = [mode for mode in MODES if mode.metric == "span.latency"]
    sample_db.write(tmp_path / "none.tk", modes=spans)
    sample_db.write(tmp_path / "blind.tk", modes=spans, missing=("calls of databases: tp_btf: no such tracepoint",))

    none, blind = tracekit("report", tmp_path / "none.tk"), tracekit("report", tmp_path / "blind.tk")

    assert "Databases" not in none
    assert "Databases  not measured\n  calls of databases: tp_btf: no such tracepoint\n" in blind
    assert blind.count("tp_btf") == 1


def test_what_programs_call_things_is_harmless(tmp_path: Path) -> None:
    """A peer, an operation and an error that carry escapes and line breaks stay on their line."""
    evil = {"system": "redis", "peer": "\x1b]0;x\x07\n", "source": "socket", "operation": "GET\r\x1b[2J"}
    sample_db.write(tmp_path / "x.tk", modes=[Mode("worker", evil, 200, MS, 0.1, {"db": 0.5}, None, "db.latency")])

    text = tracekit("report", tmp_path / "x.tk")

    assert not {"\x1b", "\x07", "\r"} & set(text)
    assert max(len(line) for line in text.splitlines()) <= 80


def test_calls_that_were_never_answered_are_told(recording: Path) -> None:
    """The oldest first, with whose they are; a role has its own."""
    whole = json.loads(tracekit("report", recording, "--json"))["databases_not_answered"]
    mine = json.loads(tracekit("report", recording, "--role", "worker", "--json"))["databases_not_answered"]

    assert [(one["role"], one["calls"], one["age_ns"]) for one in whole] == [
        ("worker", 1, 2_100 * MS),
        ("cron", 3, 7 * MS),
    ]
    assert mine == whole[:1]


@pytest.mark.parametrize(
    "calls",
    ["5", '["x"]', '[{"role": 5}]', '[{"calls": "many"}]', '[{"age_ns": -1}]', '[{"calls": true}]', '{"a": 1}'],
)
def test_a_made_up_end_is_refused(recording: Path, tmp_path: Path, calls: str) -> None:
    """One line, whatever a file says of calls that are under way."""
    path = tmp_path / "x.tk"
    path.write_bytes(recording.read_bytes())
    with closing(sqlite3.connect(path)) as changed:
        changed.execute("UPDATE meta SET value = ? WHERE key = 'end'", [f'{{"calls": {calls}}}'])
        changed.commit()

    done = CliRunner().invoke(cli, ["report", str(path)])

    assert isinstance(done.exception, RecordingError)
    assert "the file is damaged" in str(done.exception)


def test_waits_that_are_of_spans_inside_are_said_to_be(tmp_path: Path) -> None:
    """Where each call has a span of its own, the outer one has none: nothing must look as if it was free."""
    outer = [mode for mode in MODES if mode.metric == "span.latency"]
    sample_db.write(tmp_path / "x.tk", modes=[*outer, *MODES[:1]])

    text = tracekit("report", tmp_path / "x.tk", "--span", "evaluation")

    assert "Calls of databases inside\n  all its waits for them are in calls of the spans inside of it\n" in text
