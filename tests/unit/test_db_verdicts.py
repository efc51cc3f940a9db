"""Objectives on calls of databases, and databases as the cause of a miss."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from tests import sample_db
from tests.sample_db import INTERVALS, MS
from tests.sample_spans import Mode
from tests.unit.evidence import evidence
from tests.unit.test_why import missed as missed_by
from tests.unit.test_why import parts_of, requests
from tracekit.analysis.sla import parse
from tracekit.analysis.verdict import State, judge
from tracekit.cli import cli

if TYPE_CHECKING:
    from pathlib import Path

import numpy as np


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of the sample recording."""
    path = tmp_path_factory.mktemp("db") / "db.tk"
    sample_db.write(path)
    return path


def verdict(recording: Path, tmp_path: Path, series: str, promise: str) -> dict[str, Any]:
    """The verdict on one promise."""
    (tmp_path / "sla.toml").write_text(f"[[objective]]\nseries = '{series}'\n{promise}\n")
    done = CliRunner().invoke(cli, ["verdict", str(recording), "-s", str(tmp_path / "sla.toml"), "--json"])
    (found,) = json.loads(done.stdout)["objectives"]
    return found


def test_calls_count_once_unless_spans_are_asked_for(recording: Path, tmp_path: Path) -> None:
    """An objective without a source is on sockets here, as the report is."""
    sockets = verdict(recording, tmp_path, 'db.latency{system="postgresql"}', 'p50 = "< 1s"')
    spans = verdict(recording, tmp_path, 'db.latency{system="postgresql",source="probe"}', 'p50 = "< 1s"')

    assert (sockets["n"], spans["n"]) == (160 * INTERVALS, 163 * INTERVALS)


@pytest.mark.parametrize(
    ("series", "promise", "state"),
    [
        ('db.errors{system="postgresql"}', 'rate = "< 1%"', "FAIL"),
        ('db.errors{system="postgresql"}', 'rate = "< 5%"', "PASS"),
        ('db.errors{system="redis",error="refused"}', 'total = "< 61"', "PASS"),
        ('db.errors{system="mysql"}', 'total = "< 1"', "NOT MEASURED"),
        ('db.errors{system="mysql",error="refused"}', 'total = "< 1"', "PASS"),
        ('db.errors{system="sqlite"}', 'total = "< 1"', "PASS"),
        ('db.errors{system="sqlite",error="refused"}', 'total = "< 1"', "NOT MEASURED"),
        ('db.errors{system="postgresql",error="40P01"}', 'total = "< 1"', "PASS"),
        ('db.errors{system="mysql",error="1213"}', 'total = "< 1"', "NOT MEASURED"),
        ('db.errors{system="postgresql",error="reset"}', 'total = "< 1"', "PASS"),
        ('db.errors{system="postgresql",error="deadlock"}', 'total = "< 1"', "NOT MEASURED"),
        ('db.errors{system="oracle"}', 'total = "< 1"', "NOT MEASURED"),
        ('db.latency{system="postgresql",operation="SELECT",span="evaluation"}', 'p50 = "< 5ms"', "PASS"),
        ("db.in_flight.age", 'max = "< 1s"', "FAIL"),
        ('db.connections{system="postgresql"}', 'max = "<= 5"', "PASS"),
    ],
)
def test_what_can_be_promised(recording: Path, tmp_path: Path, series: str, promise: str, state: str) -> None:
    """
    Failures are a share of the calls that were tried; none is zero where there were calls, and no slip passes.

    Through TLS a server's errors cannot be seen, and spans have exceptions instead: neither is zero.
    """
    assert verdict(recording, tmp_path, series, promise)["state"] == state


def test_the_share_of_failures_is_of_all_that_were_tried(recording: Path, tmp_path: Path) -> None:
    """Calls that were refused have no latency."""
    found = verdict(recording, tmp_path, 'db.errors{system="redis"}', 'rate = "< 1%"')

    assert found["n"] == 104 * INTERVALS
    assert found["value"] == pytest.approx(3 / 104)


def test_a_slow_call_says_whose_time_it_was(recording: Path, tmp_path: Path) -> None:
    """The tail of this database is its client's."""
    found = verdict(recording, tmp_path, 'db.latency{system="postgresql"}', 'p99 = "< 20ms"')

    split = found["why"]["split"]
    assert max(split, key=split.get) == "on-CPU"
    assert split["on-CPU"] > 0.9


def test_a_span_that_waited_for_a_database_names_it(recording: Path, tmp_path: Path) -> None:
    """System, peer and operation, with the latency of those in the span, and how much of that was the server's."""
    found = verdict(recording, tmp_path, 'span.latency{span="evaluation"}', 'p99 = "< 30ms"')

    (advice,) = found["why"]["advice"]
    assert advice["cause"] == "db"
    assert advice["share"] == pytest.approx(found["why"]["split"]["db"])
    assert "postgresql 127.0.0.1:5432 SELECT max" in advice["text"]
    assert "of 50 calls (the slowest 1 %: server 4 %)" in advice["text"]
    assert "tracekit hist" in found["why"]["command"]
    assert "--metric db.latency --where span=evaluation --by operation" in found["why"]["command"]


def test_calls_in_spans_inside_of_a_span_are_meant_too(tmp_path: Path) -> None:
    """A span around each call (db.query) leaves none to the outer one; its advice is not of the few that are."""
    inner = [
        replace(mode, labels=mode.labels | {"span": "db.query"}) if mode.labels.get("operation") == "SELECT" else mode
        for mode in sample_db.MODES
    ]
    few = Mode("worker", sample_db.REDIS | sample_db.INSIDE | {"operation": "GET"}, 2, MS, 0.1, {}, None, "db.latency")
    sample_db.write(tmp_path / "x.tk", modes=[*inner, few])

    found = verdict(tmp_path / "x.tk", tmp_path, 'span.latency{span="evaluation"}', 'p99 = "< 30ms"')

    (advice,) = found["why"]["advice"]
    assert "look at the server: postgresql 127.0.0.1:5432 SELECT p99" in advice["text"]
    assert "--metric db.latency --by operation" in found["why"]["command"]


def test_only_what_took_much_of_the_time_is_named(tmp_path: Path) -> None:
    """A commit that takes a hundredth of it is no place to look; one call is no calls."""
    spans = [
        Mode("worker", sample_db.INSIDE, 50, 10 * MS, 0.15, {"db": 0.2}),
        Mode("worker", sample_db.INSIDE, 3, 90 * MS, 0.1, {"db": 0.75}),
    ]
    named = [
        Mode("worker", sample_db.POSTGRESQL | sample_db.INSIDE | {"operation": name}, 1, ns, 0, {}, None, "db.latency")
        for name, ns in (("UPDATE", 300 * MS), ("SELECT", 40 * MS), ("COMMIT", MS))
    ]
    sample_db.write(tmp_path / "x.tk", modes=[*spans, *named])

    found = verdict(tmp_path / "x.tk", tmp_path, 'span.latency{span="evaluation"}', 'p99 = "< 30ms"')

    (advice,) = found["why"]["advice"]
    assert advice["text"].count("of 1 call") == 2
    assert "UPDATE max 300 ms of 1 call; " in advice["text"]
    assert "COMMIT" not in advice["text"]


def test_without_calls_a_wait_for_databases_gets_no_advice() -> None:
    """No numbers, no line."""
    latency, components = requests({"db": 1.0}, np.random.default_rng(3))

    why = missed_by(latency, components).why

    assert dict(why.split.shares)["db"] == pytest.approx(1, abs=0.01)
    assert why.advice == ()


def test_a_busy_client_is_told_with_its_event_loop() -> None:
    """Of db.latency alone: a span that computes is not a client that is late."""
    latency, components = requests({"on-CPU": 1.0}, np.random.default_rng(3))
    components["db"] = components.pop("disk")
    slow = [part.tolist() for part in np.array_split(latency, 10)]
    rows = {
        ("db.latency", "role=worker source=socket system=redis"): slow,
        ("loop.busy", "role=worker thread=worker"): [[31 * MS]] * 10,
    }
    given = evidence(rows, call_parts=lambda where: [parts_of(latency, components)])
    promise = '[[objective]]\nseries = \'db.latency{system="redis"}\'\np95 = "< 20ms"\n'

    (found,) = judge(parse(promise, "s"), given).verdicts

    assert found.state is State.FAIL
    text = "look at the client, which had the answer: its event loop was busy for up to 31 ms at a time"
    assert [advice.text for advice in found.why.advice] == [text]


@pytest.mark.parametrize(("system", "server"), [("sqlite", "db"), ("redis", "disk")], ids=["embedded", "not seen"])
def test_a_call_whose_server_was_not_seen_has_no_client(system: str, server: str) -> None:
    """SQLite works in the program, and spans do not tell when the answer came."""
    latency, components = requests({"on-CPU": 1.0}, np.random.default_rng(3))
    components[server] = components.pop("disk")
    slow = [part.tolist() for part in np.array_split(latency, 10)]
    rows = {
        ("db.latency", f"role=worker source=probe system={system}"): slow,
        ("loop.busy", "role=worker thread=worker"): [[31 * MS]] * 10,
    }
    given = evidence(rows, call_parts=lambda where: [parts_of(latency, components)])

    (found,) = judge(parse("[[objective]]\nseries = 'db.latency'\np95 = \"< 20ms\"\n", "s"), given).verdicts

    assert max(dict(found.why.split.shares), key=dict(found.why.split.shares).get) == "on-CPU"
    assert found.why.advice == ()


@pytest.mark.parametrize(
    ("tiers", "findings", "reason"),
    [
        ({"sched"}, [], "db.latency was not measured"),
        ({"sched", "db"}, [], "the recording has no db.latency: no call of a database was seen"),
        ({"sched", "db"}, ["feedback: no", "calls of databases: tp_btf: denied"], "calls of databases: tp_btf: denied"),
    ],
    ids=["off", "none", "could not"],
)
def test_no_calls_are_never_a_pass(tiers: set[str], findings: list[str], reason: str) -> None:
    """It says whether it was off, could not be, or nothing was called."""
    given = evidence(tiers=frozenset(tiers), findings=findings)

    (found,) = judge(parse("[[objective]]\nseries = 'db.latency'\np95 = \"< 20ms\"\n", "s"), given).verdicts

    assert (found.state, found.reason) == (State.NOT_MEASURED, reason)
