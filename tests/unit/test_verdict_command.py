"""tracekit verdict: what people and CI systems get, and with which exit code."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from tests import golden
from tests.sample import HOST, SECOND, write
from tests.unit import recordings
from tests.unit.evidence import evidence
from tests.unit.recordings import Content
from tracekit.analysis.sla import parse
from tracekit.analysis.verdict import judge
from tracekit.cli import main
from tracekit.export import junit
from tracekit.export import verdict as verdict_json
from tracekit.records import Host

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., tuple[int, str, str]]

SLA = """
[[objective]]
series = "runq.wait"
p99 = "< 10ms"

[[objective]]
name = "workers start fast"
series = 'spawn.ready{role="worker"}'
p95 = "< 30ms"
"p99.9" = "< 100ms"
rate = "> 6.5/s"

[[objective]]
name = "opens find their files"
series = 'syscall.errors{syscall="openat"}'
rate = "< 1%"

[[objective]]
name = "nothing is refused"
series = 'syscall.errors{errno="EACCES"}'
total = "<= 0"

[[objective]]
series = "spawn.failed"
rate = "< 20%"

[[objective]]
series = "rss"
max = "< 512MB"

[[objective]]
series = "host.cpu"
mean = "< 50%"

[[objective]]
series = 'psi{resource="cpu",kind="some"}'
rate = "< 30%"

[[objective]]
series = "io.write"
rate = "> 1MB/s"

[[objective]]
series = 'syscall.latency{syscall="openat"}'
p99 = "< 1ms"

[[objective]]
series = 'spawn.ready{role="wroker"}'
p95 = "< 50ms"

[[objective]]
name = "evaluations are quick"
series = 'span.latency{span="evaluation"}'
severity = "critical"
p99 = "< 50ms"
"""
PASSING = '[[objective]]\nseries = "rss"\nmax = "< 512MB"\n'
UNMEASURED = PASSING + '[[objective]]\nseries = "gpu.busy"\nmax = "< 90%"\n'
HOSTILE = '\x1b[2J\x00\u202e<&"]]>\ufffe名前'


@pytest.fixture
def run(sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command in a folder with run.tk and an sla.toml; return exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.tk").write_bytes(sample.read_bytes())

    def call(sla: str, *words: str, recording: str = "run.tk") -> tuple[int, str, str]:
        (tmp_path / "sla.toml").write_text(sla, encoding="utf-8")
        monkeypatch.setattr(sys, "argv", ["tracekit", "verdict", recording, "-s", "sla.toml", *words])
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return call


def test_text(run):
    """What a person reads: fits 80 columns, plain where it is no terminal."""
    code, out, err = run(SLA)

    assert (code, err) == (1, "")
    assert max(map(len, out.splitlines())) <= 80
    golden.check("verdict.txt", out)


def test_only_state_words_have_colour(run, monkeypatch):
    """Without their colour the lines are the same; NO_COLOR takes it away."""
    _, plain, _ = run(SLA)
    monkeypatch.setenv("FORCE_COLOR", "1")
    _, coloured, _ = run(SLA)
    monkeypatch.setenv("NO_COLOR", "1")
    _, without, _ = run(SLA)

    words = {"PASS": 32, "FAIL": 31, "NOT MEASURED": 33, "UNDECIDED": 33}
    for word, colour in words.items():
        coloured = coloured.replace(f"\x1b[{colour}m\x1b[1m{word}\x1b[0m", word)
    assert coloured == plain == without


def test_json(run):
    """What a program reads, the same with either option."""
    code, out, _ = run(SLA, "--json")

    assert code == 1
    assert run(SLA, "--format", "json") == (1, out, "")
    assert json.loads(out)["state"] == "FAIL"
    golden.check("verdict.json", out)


def test_junit(run):
    """What a CI system reads."""
    code, out, _ = run(SLA, "--format", "junit")

    assert code == 1
    golden.check("verdict.xml", out)


def test_markdown(run):
    """What a pull request shows."""
    code, out, _ = run(SLA, "--format", "markdown")

    assert code == 1
    golden.check("verdict.md", out)


def test_github(run):
    """Annotations at the lines of sla.toml."""
    code, out, _ = run(SLA, "--format", "github")

    assert code == 1
    assert all(line.startswith(("::error ", "::warning ", "::notice ")) for line in out.splitlines())
    golden.check("verdict.github", out)


def test_the_annotation_is_at_the_line_of_the_limit(run):
    """Whatever stands before it."""
    sla = '# one\n\n[[objective]]\nname = """two\nlines"""\nseries = "rss"\n# six\nmax = "< 1MB"\n'

    line = run(sla, "--format", "github")[1].splitlines()[0]

    assert line.startswith("::error file=sla.toml,line=8,title=FAIL%3A two\\x0alines::max 150 MB, limit < 1MB%0A")


def test_several_recordings_are_judged_alone(run, tmp_path):
    """The exit code is that of the worst; a FAIL outweighs what was not measured."""
    recordings.write(tmp_path / "empty.tk", Content(intervals=0))

    text = run(PASSING, "empty.tk")[1]
    code, out, _ = run(PASSING, "--json", "empty.tk")
    both, failed, _ = run(PASSING.replace("512MB", "1MB"), "--format", "junit", "empty.tk")

    assert [line for line in text.splitlines() if line.endswith(".tk")] == [
        "PASS: 1 passed, 30 s of run.tk",
        "NOT MEASURED: 1 not measured, 0 ns of empty.tk",
    ]
    assert code == 3
    assert [part["state"] for part in json.loads(out)] == ["PASS", "NOT MEASURED"]
    assert both == 1
    assert [suite.get("name") for suite in ET.fromstring(failed.encode())] == ["run.tk", "empty.tk"]


def test_strict(run):
    """What is no PASS is 1, and a failure in JUnit."""
    code, out, _ = run(UNMEASURED, "--strict", "--format", "junit")

    assert code == 1
    assert ET.fromstring(out.encode()).get("failures") == "1"


def test_a_warning_fails_no_build(run):
    """Exit 0, a skipped test, a warning at the line; and said in the text."""
    sla = PASSING.replace("512MB", "1MB") + 'severity = "warning"\n'

    code, out, _ = run(sla)
    junit_code, xml, _ = run(sla, "--format", "junit")

    assert (code, junit_code) == (0, 0)
    assert "[warning]" in out
    assert "PASS: 1 failed (1 only a warning), 30 s of run.tk" in out
    assert [ET.fromstring(xml.encode())[0].get(name) for name in ("failures", "skipped")] == ["0", "1"]
    assert run(sla, "--format", "github")[1].startswith("::warning file=sla.toml,line=3,")


def plain(capsys, monkeypatch, *words: str) -> tuple[int, str, str]:
    """Run the command without -s."""
    monkeypatch.setattr(sys, "argv", ["tracekit", "verdict", *words])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0), *capsys.readouterr()


def test_objectives_of_a_project(run, tmp_path, capsys, monkeypatch):
    """[tool.tracekit] of a pyproject.toml, and ./sla.toml before it; errors say where."""
    project = '[project]\nname = "x"\n\n[[tool.tracekit.objective]]\nseries = "rss"\nmax = "< 1MB"\n'
    (tmp_path / "pyproject.toml").write_text(project, encoding="utf-8")

    found = plain(capsys, monkeypatch, "run.tk")[0]
    given = plain(capsys, monkeypatch, "run.tk", "-s", "pyproject.toml", "--format", "github")
    (tmp_path / "sla.toml").write_text(PASSING, encoding="utf-8")
    first = plain(capsys, monkeypatch, "run.tk")[0]

    assert (found, given[0], first) == (1, 1, 0)
    assert "::error file=pyproject.toml,line=6," in given[1]


def test_a_project_without_objectives(tmp_path, capsys, monkeypatch):
    """Nothing to judge by is a usage error that says what to give."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n', encoding="utf-8")

    code, out, err = plain(capsys, monkeypatch, "run.tk")
    given, _, words = plain(capsys, monkeypatch, "run.tk", "-s", "pyproject.toml")

    assert (code, out, given) == (2, "", 2)
    assert err.startswith("tracekit: cannot judge: no objectives were given\n  try: -s sla.toml, or --preset")
    assert words.startswith("tracekit: cannot use pyproject.toml, tool.tracekit: it has no objective")


PRESETS = ["agents", "databases", "evaluation", "evaluation-production", "lanes-docs", "lanes-heavy", "lanes-standard"]


@pytest.mark.parametrize("name", PRESETS)
def test_presets_judge_any_recording(run, capsys, monkeypatch, name):
    """Each can be used as it is: on a recording that has only some of it, what is missing is named."""
    run(PASSING)

    code, out, err = plain(capsys, monkeypatch, "run.tk", "--preset", name)

    assert (code in (0, 1, 3), err) == (True, "")
    assert max(map(len, out.splitlines())) <= 80


def test_the_list_of_presets(capsys, monkeypatch):
    """All of them, a line each."""
    code, out, _ = plain(capsys, monkeypatch, "--presets")

    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == PRESETS


def test_no_such_preset(run, capsys, monkeypatch):
    """Named with those there are."""
    run(PASSING)

    code, _, err = plain(capsys, monkeypatch, "run.tk", "--preset", "agent")

    assert code == 2
    assert "there is none of this name" in err
    assert "agents, databases, evaluation" in err


def test_a_baseline(run):
    """The same recording is no larger than itself."""
    sla = '[[objective]]\nseries = "rss"\nmax = "<= 100% of baseline"\n'

    assert run(sla, "--baseline", "run.tk")[0] == 0
    assert run(sla)[0] == 3
    assert run(sla, "--baseline", "none.tk")[0] == 2


ATTRIBUTES = {
    "testsuites": {"name", "time", "tests", "failures", "errors"},
    "testsuite": {"name", "time", "tests", "failures", "errors", "skipped"},
    "testcase": {"name", "classname"},
    "failure": {"message", "type"},
    "skipped": {"message"},
}
"""Those of Jenkins' junit-10.xsd that we write."""


def test_junit_keeps_to_the_common_schema(run):
    """Elements, attributes and sums that every parser expects."""
    _, out, _ = run(SLA, "--format", "junit")

    root = ET.fromstring(out.encode())
    (suite,) = root
    cases = list(suite)
    assert (root.tag, suite.tag, {case.tag for case in cases}) == ("testsuites", "testsuite", {"testcase"})
    assert all(set(element.attrib) == ATTRIBUTES[element.tag] for element in root.iter())
    assert int(suite.get("tests")) == len(cases) == len({case.get("name") for case in cases})
    assert int(suite.get("failures")) == len(suite.findall("testcase/failure"))
    assert int(suite.get("skipped")) == len(suite.findall("testcase/skipped"))
    assert float(suite.get("time")) == 30


@pytest.mark.parametrize("content", ["text", "json", "junit", "markdown", "github"])
@pytest.mark.parametrize(("sla", "code"), [(PASSING, 0), (SLA, 1), (UNMEASURED, 3)])
def test_the_exit_code_is_the_verdict(run, sla, code, content):
    """0 all passed, 1 one failed, 3 none failed but not all were measured; in every format."""
    assert run(sla, "--format", content)[0] == code


@pytest.mark.parametrize("content", ["text", "json", "junit", "markdown", "github"])
def test_a_file_gets_the_same_without_colour(run, tmp_path, monkeypatch, content):
    """-o writes what stdout would get; the last line goes to stderr."""
    _, out, _ = run(SLA, "--format", content)
    monkeypatch.setenv("FORCE_COLOR", "1")

    code, nothing, err = run(SLA, "--format", content, "-o", "out")

    assert (code, nothing) == (1, "")
    assert (tmp_path / "out").read_text(encoding="utf-8") == out
    assert "5 passed, 5 failed, 1 undecided, 3 not measured" in err


@pytest.mark.parametrize("name", ["run.tk", "sla.toml", "./run.tk"])
def test_what_was_read_is_not_overwritten(run, tmp_path, sample, name):
    """-o with the wrong name must not cost the recording."""
    code, _, err = run(SLA, "-o", name)

    assert code == 2
    assert err == f"tracekit: cannot write {name.removeprefix('./')}: it is a file that is read\n  try: another -o\n"
    assert (tmp_path / "run.tk").read_bytes() == sample.read_bytes()


def test_a_file_that_cannot_be_written(run):
    """One line, and not the exit code of a verdict."""
    code, _, err = run(SLA, "-o", "no/such/folder")

    assert code == 4
    assert err.startswith("tracekit: cannot write no/such/folder: No such file")


def test_a_slip_in_the_file(run):
    """File, objective, key, and what to try: two lines, exit 2, nothing on stdout."""
    code, out, err = run('[[objective]]\nname = "x"\nseries = "rss"\nmax = "512MB"\n')

    assert (code, out) == (2, "")
    assert err == (
        'tracekit: cannot use sla.toml line 4: objective 1 "x", key max: '
        '"512MB" does not start with <, <=, > or >= and a number\n'
        '  try: max = "< 50ms"\n'
    )


def test_a_limit_that_does_not_fit_the_recording(run):
    """The same for what only the recording can tell."""
    code, out, err = run('[[objective]]\nseries = "rss"\nmax = "< 50ms"\n')

    assert (code, out) == (2, "")
    assert err == (
        'tracekit: cannot use sla.toml line 3: objective 1, key max: "< 50ms" does not fit rss, a gauge of bytes\n'
        '  try: max = "< 512MB"\n'
    )


@pytest.mark.parametrize(
    ("name", "cause"), [("none.toml", "No such file"), (".", "Is a directory"), ("run.tk", "not UTF-8")]
)
def test_an_sla_file_that_cannot_be_read(run, name, cause):
    """A usage error, as click gives the later -s the last word."""
    code, out, err = run(SLA, "-s", name)

    assert (code, out) == (2, "")
    assert err.startswith(f"tracekit: cannot read {name}: ")
    assert cause in err


def test_an_sla_file_of_windows(run):
    """A byte order mark and \\r\\n are what some editors write."""
    assert run("\ufeff" + PASSING.replace("\n", "\r\n"))[0] == 0


def test_no_recording(run):
    """The recording's own errors pass through."""
    assert run(SLA, recording="none.tk")[0] == 2


def test_a_recording_that_is_not_finished(run, tmp_path):
    """It is judged, and said."""
    write(tmp_path / "growing.tk", intervals=5, losses=False, finish=False)

    code, out, _ = run(PASSING, recording="growing.tk")

    assert code == 0
    assert "note: the recording is not finished" in out
    assert json.loads(run(PASSING, "--json", recording="growing.tk")[1])["complete"] is False


def test_an_empty_recording_has_no_verdict(run, tmp_path):
    """No interval: nothing passes."""
    recordings.write(tmp_path / "empty.tk", Content(intervals=0))

    code, out, _ = run(SLA, recording="empty.tk")

    assert code == 3
    assert "PASS" not in out


def test_several_series_of_a_recording_are_judged_interval_by_interval(run, tmp_path):
    """The worst interval is that of the merged series, as the value is."""
    rows = [("runq.wait", {"role": role}, [value] * 10) for role, value in (("a", 10**6), ("b", 5 * 10**6))]
    recordings.write(tmp_path / "two.tk", Content(histograms=rows, intervals=3))

    _, out, _ = run('[[objective]]\nseries = "runq.wait"\nmean = "< 1ms"\n', "--json", recording="two.tk")

    (objective,) = json.loads(out)["objectives"]
    assert (objective["n"], objective["value"], objective["worst"]) == (
        60,
        3 * 10**6,
        {"start_ns": 0, "end_ns": 10 * SECOND, "value": 3 * 10**6},
    )


@pytest.mark.parametrize(("tiers", "code"), [(("sched", "errors"), 0), (("sched",), 3)])
def test_the_tiers_of_the_recording_decide_what_absence_means(run, tmp_path, tiers, code):
    """No failed open is a zero only if failed calls were recorded."""
    host = Host(**(vars(HOST) | {"tiers": tiers}))
    recordings.write(tmp_path / "t.tk", Content(counters=[("syscall.calls", {"syscall": "openat"}, 9)], host=host))

    sla = "[[objective]]\nseries = 'syscall.errors{syscall=\"openat\"}'\ntotal = '<= 0'\n"

    assert run(sla, recording="t.tk")[0] == code


def test_hostile_names_do_nothing(run, tmp_path):
    """A role that a traced program chose, and a title from a pull request, in all formats."""
    rows = [("runq.wait", {"role": HOSTILE}, [SECOND])]
    recordings.write(tmp_path / "h.tk", Content(histograms=rows))
    title = json.dumps(HOSTILE)
    sla = f"[[objective]]\nname = {title}\nseries = 'runq.wait{{role=\"me\"}}'\nmax = '< 1ms'\nmin = '< 1ms'\n"

    text = run(sla, recording="h.tk")[1]
    document = json.loads(run(sla, "--json", recording="h.tk")[1])
    root = ET.fromstring(run(sla, "--format", "junit", recording="h.tk")[1].encode())

    marked, noted = (run(sla, "--format", form, recording="h.tk")[1] for form in ("markdown", "github"))

    for shown in (text, marked, noted):
        assert "\x1b" not in shown
        assert "\u202e" not in shown
    assert "<&" not in marked
    assert len(noted.splitlines()) == 3
    assert document["objectives"][0]["name"] == HOSTILE
    assert root[0][0].get("name").startswith('\\u001b[2J\\u0000\u202e<&"]]>\\ufffe名前: runq.wait')


def test_junit_of_any_file_name_is_xml():
    """A path may hold bytes that are no UTF-8."""
    judgement = judge(parse(PASSING, "s"), evidence())

    assert ET.fromstring(junit.encode([("a\udcff\x01.tk", judgement)]))[0].get("name") == "a\\udcff\\u0001.tk"
    assert json.loads(verdict_json.encode([("a\udcff.tk", judgement)]))["recording"] == "a\udcff.tk"
