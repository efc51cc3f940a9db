"""Calls of databases that exist to wait: seen, and in no number that says how quick a database is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from tests import golden, sample_db
from tests.sample_db import INSIDE, INTERVALS, MS, Values
from tests.sample_spans import Mode
from tracekit.cli import cli

if TYPE_CHECKING:
    from pathlib import Path

REDIS = {"system": "redis", "peer": "127.0.0.1:6379", "source": "socket"}
S = 1000 * MS


def calls(operation: str, rate: int, median_ns: int, **labels: str) -> Mode:
    """Calls of which the server takes 90 %."""
    named = REDIS | {"operation": operation} | labels
    return Mode("worker", named, rate, median_ns, 0.2, {"db": 0.9}, None, "db.latency")


GET, BLPOP, XREAD = calls("GET", 97, MS), calls("BLPOP", 11, S), calls("XREAD", 3, 5 * S)
VALUES = Values(
    counters=[
        ("db.errors", REDIS | {"operation": "BLPOP", "error": "closed"}, 1),
        ("db.errors", REDIS | {"operation": "XREAD", "error": "NOGROUP"}, 2),
    ],
    gauges=[
        ("db.in_flight", {"system": "redis"}, "count", 0),
        ("db.in_flight.age", {"system": "redis"}, "ns", 0),
        ("db.in_flight", {"system": "redis", "operation": "BLPOP"}, "count", 3),
        ("db.in_flight.age", {"system": "redis", "operation": "BLPOP"}, "ns", 300 * S),
    ],
    calls=[{"role": "worker", **REDIS, "operation": "BLPOP", "calls": 3, "age_ns": 300 * S}],
)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of a recording of a worker that gets, and waits for work."""
    path = tmp_path_factory.mktemp("db") / "db.tk"
    sample_db.write(path, modes=[GET, BLPOP, XREAD], values=VALUES)
    return path


def run(*words: object) -> tuple[str, str]:
    """Return what a command wrote to stdout and stderr."""
    done = CliRunner().invoke(cli, [*map(str, words)], catch_exceptions=False)
    return done.stdout, done.stderr


def document(*words: object) -> Any:
    """Return the JSON that a command wrote."""
    return json.loads(run(*words, "--json")[0])


def verdicts(recording: Path, tmp_path: Path, series: str, promise: str) -> list[dict[str, Any]]:
    """The verdicts on one promise."""
    (tmp_path / "sla.toml").write_text(f"[[objective]]\nseries = '{series}'\n{promise}\n")
    return document("verdict", recording, "-s", tmp_path / "sla.toml")["objectives"]


def test_the_report_marks_them(recording: Path) -> None:
    """Their lines say what they took, the line of their database what the others did."""
    golden.check("report-db-waiting.txt", run("report", recording)[0])


def test_a_database_has_the_count_of_all_and_the_times_of_the_others(recording: Path) -> None:
    """Of the same events: what was tried is answered, answered after a wait, or not answered."""
    (found,) = document("report", recording)["databases"]

    assert (found["count"], found["waits"], found["unanswered"]) == (97 * INTERVALS, 14 * INTERVALS, INTERVALS)
    assert found["calls"] == 112 * INTERVALS
    assert found["errors"] == {"NOGROUP": 2 * INTERVALS, "closed": INTERVALS}
    assert found["max"] < 10 * MS
    assert found["tail"]["latency_ns"] < 10 * MS * found["tail"]["count"]
    named = {one["name"]: (one["exists_to_wait"], one["count"]) for one in found["operations"]}
    assert named == {"GET": (False, 97 * INTERVALS), "XREAD": (True, 3 * INTERVALS), "BLPOP": (True, 11 * INTERVALS)}


@pytest.mark.parametrize("command", ["hist", "heatmap"])
def test_they_are_left_out_unless_they_are_asked_for(recording: Path, command: str) -> None:
    """One line says so, and how to see them."""
    where = ("--where", "operation=BLPOP")
    all_of, said = run(command, recording, "--metric", "db.latency", "--json")
    asked, nothing_said = run(command, recording, "--metric", "db.latency", *where, "--json")

    def count(text: str) -> int:
        found = json.loads(text)
        return found["count"] if command == "heatmap" else sum(row["count"] for row in found["series"])

    assert (count(all_of), count(asked)) == (97 * INTERVALS, 11 * INTERVALS)
    assert said == "note: calls that exist to wait are left out (BLPOP, XREAD): --where operation=BLPOP\n"
    assert nothing_said == ""


def test_by_operation_is_asking_for_them(recording: Path) -> None:
    """Nothing is added up there."""
    found = document("hist", recording, "--metric", "db.latency", "--by", "operation")["series"]

    assert {row["labels"]["operation"] for row in found} == {"GET", "BLPOP", "XREAD"}


def test_a_picture_of_calls_is_of_what_took_time(recording: Path, tmp_path: Path) -> None:
    """And of those that wait if asked for."""
    _, said = run("flamegraph", recording, "--db", "-o", tmp_path / "calls.folded")
    run("flamegraph", recording, "--db", "--where", "operation=BLPOP", "-o", tmp_path / "blpop.folded")

    assert "BLPOP" not in (tmp_path / "calls.folded").read_text()
    assert ";BLPOP;" in (tmp_path / "blpop.folded").read_text()
    assert "left out (BLPOP, XREAD)" in said


def test_objectives_are_on_the_others(recording: Path, tmp_path: Path) -> None:
    """With a fact that says so; of its operation one is judged."""
    (usual,) = verdicts(recording, tmp_path, "db.latency", 'p99 = "< 10ms"')
    (asked,) = verdicts(recording, tmp_path, 'db.latency{operation="BLPOP"}', 'p50 = "< 10ms"')

    assert (usual["state"], usual["n"]) == ("PASS", 97 * INTERVALS)
    assert usual["facts"] == ["without calls that exist to wait (BLPOP, XREAD)"]
    assert (asked["state"], asked["n"], asked["facts"]) == ("FAIL", 11 * INTERVALS, [])
    (advice,) = asked["why"]["advice"]
    assert advice["text"].startswith("look at who has to answer, these exist to wait: redis 127.0.0.1:6379 BLPOP max")


def test_of_each_operation_only_the_others_are_judged(recording: Path, tmp_path: Path) -> None:
    """What holds for a call that works does not for one that waits."""
    found = verdicts(recording, tmp_path, "db.latency", 'each = "operation"\np50 = "< 10ms"')

    assert [(one["labels"], one["state"]) for one in found] == [({"operation": "GET"}, "PASS")]


def test_their_failures_are_of_all_calls(recording: Path, tmp_path: Path) -> None:
    """3 of 112 in each interval."""
    (found,) = verdicts(recording, tmp_path, 'db.errors{system="redis"}', 'rate = "< 10%"')
    (own,) = verdicts(recording, tmp_path, 'db.errors{operation="BLPOP"}', 'rate = "< 10%"')

    assert (found["n"], found["value"]) == (112 * INTERVALS, pytest.approx(3 / 112))
    assert (own["n"], own["value"]) == (12 * INTERVALS, pytest.approx(1 / 12))


def test_who_waits_for_work_does_not_hang(recording: Path, tmp_path: Path) -> None:
    """Five minutes in BLPOP are usual; by its name they can be limited."""
    (usual,) = verdicts(recording, tmp_path, "db.in_flight.age", 'max = "< 30s"')
    (asked,) = verdicts(recording, tmp_path, 'db.in_flight.age{operation="BLPOP"}', 'max = "< 30s"')

    assert (usual["state"], usual["value"]) == ("PASS", 0)
    assert (asked["state"], asked["value"]) == ("FAIL", 300 * S)


def test_a_worker_that_only_waits(tmp_path: Path) -> None:
    """Nothing else is measured, and it says why; that no such call failed is known."""
    sample_db.write(tmp_path / "x.tk", modes=[BLPOP])

    (latency,) = verdicts(tmp_path / "x.tk", tmp_path, "db.latency", 'each = "system"\np99 = "< 10ms"')
    (errors,) = verdicts(tmp_path / "x.tk", tmp_path, 'db.errors{system="redis"}', 'total = "<= 0"')
    text, _ = run("report", tmp_path / "x.tk")

    assert (latency["state"], latency["reason"]) == ("NOT MEASURED", "all these calls exist to wait: long is usual")
    assert latency["hint"] == 'operation="BLPOP", to judge them'
    assert errors["state"] == "PASS"
    assert "    BLPOP *             220        11       0  1.01 s" in text


def test_spans_that_wait_for_work_are_not_told_to_ask_for_less(tmp_path: Path) -> None:
    """Nor where they make a few other calls; the wait is in the span all the same."""
    spans = [
        Mode("worker", INSIDE, 50, 100 * MS, 0.15, {"db": 0.2}),
        Mode("worker", INSIDE, 3, 900 * MS, 0.1, {"db": 0.95}),
    ]
    few, many = calls("GET", 20, MS, **INSIDE), calls("BLPOP", 20, 190 * MS, **INSIDE)
    sample_db.write(tmp_path / "x.tk", modes=[*spans, few, many])

    (found,) = verdicts(tmp_path / "x.tk", tmp_path, 'span.latency{span="evaluation"}', 'p99 = "< 200ms"')

    (advice,) = found["why"]["advice"]
    assert advice["cause"] == "db"
    assert advice["text"].startswith("look at who has to answer, these exist to wait: redis 127.0.0.1:6379 BLPOP max")
    assert "GET" not in advice["text"]


def test_waiters_of_the_same_role_are_no_excuse(tmp_path: Path) -> None:
    """Where calls have spans of their own, those that work are named, whoever waits for work beside them."""
    spans = [
        Mode("worker", INSIDE, 50, 100 * MS, 0.15, {"db": 0.2}),
        Mode("worker", INSIDE, 3, 900 * MS, 0.1, {"db": 0.95}),
    ]
    query = calls("GET", 53, 70 * MS, span="db.query")
    sample_db.write(tmp_path / "x.tk", modes=[*spans, query, calls("BLPOP", 20, S)])

    (found,) = verdicts(tmp_path / "x.tk", tmp_path, 'span.latency{span="evaluation"}', 'p99 = "< 200ms"')

    (advice,) = found["why"]["advice"]
    assert advice["text"].startswith("ask for less, or look at the server: redis 127.0.0.1:6379 GET p99")
    assert "BLPOP" not in advice["text"]
