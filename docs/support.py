"""Write the tables of docs/support.md from JUnit files of test runs, which scripts/support leaves in build/support."""

from __future__ import annotations

import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET  # our own tests wrote these files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

PAGE = Path(__file__).with_suffix(".md")
RESULTS = PAGE.parents[1] / "build" / "support"
BEGIN, END = "<!-- written by scripts/support -->\n", "<!-- end -->\n"
AREAS = {
    "scheduling": ("waits", "switches", "in_flight", "sleepers"),
    "failed calls": ("errors",),
    "latency of calls": ("latency",),
    "processes": ("processes", "names"),
    "spans": ("span_truth", "span_parts", "span_programs", "span_hostile"),
    "stacks: Python": ("stacks_python", "stacks_short", "stacks_processes"),
    "stacks: native, kernel": ("stacks_native", "stacks_kernels"),
    "stacks: off-CPU, of spans": ("stacks_off", "stacks_spans"),
    "stacks: corrupted memory": ("stacks_hostile",),
    "databases: sockets": ("db_sockets", "db_redis", "db_postgresql", "db_parts", "db_faults"),
    "databases: libraries": ("db_libraries",),
    "resources": ("resources",),
    "GPUs": ("gpu_split",),
    "recording": ("session", "batches", "scope", "queries", "abi"),
    "`dump`": ("dump",),
    "`doctor`": ("doctor",),
    "examples, presets, tutorial": ("help", "presets", "tutorial"),
    "containers, limits, other users": ("first_minutes", "privileges", "filtered"),
    "faults": ("faults_collector", "faults_disk", "faults_killed", "faults_machine", "faults_targets"),
    "budget (`--max-overhead`)": ("governor",),
    "wheels": ("wheels",),
}
"""Rows of the table of kernels, and the tests/kernel/test_*.py behind each."""
OLDEST = 8
"""Minor version of the oldest CPython whose frames are read."""
KERNELS = ("native", "6.12", "6.1")
_PYTHON = re.compile(r"\[(?:[^\]]*/)?(3\.\d+)[.\w-]*")
_EMULATED = ", emulated"


@dataclass(frozen=True)
class Outcome:
    """How a test ended (passed, failed, skipped), and why."""

    state: str
    why: str = ""


@dataclass
class Runs:
    """What ran at one place: its name, the days, and how each test ended."""

    name: str
    days: set[str]
    ended: dict[str, Outcome]


def read(paths: Iterable[Path]) -> Runs:
    """Read files of one place, the oldest first: the last outcome of a test counts."""
    runs = Runs("", set(), {})
    for path in paths:
        for suite in ET.parse(path).iter("testsuite"):  # noqa: S314 - see above
            runs.name = suite.get("name", "")
            runs.days.add(suite.get("timestamp", "")[:10])
            runs.ended |= {_ident(case): _outcome(case) for case in suite.iter("testcase") if case.get("classname")}
    return runs


def _ident(case: ET.Element) -> str:
    return f"{case.get('classname')}::{case.get('name')}"


def _outcome(case: ET.Element) -> Outcome:
    for kind, state in (("failure", "failed"), ("error", "failed"), ("skipped", "skipped")):
        found = case.find(kind)
        if found is not None:
            return Outcome(state, found.get("message", "").partition("\n")[0])
    return Outcome("passed")


def cell(tests: Iterable[str], ended: Mapping[str, Outcome]) -> str:
    """Say how *tests* ended: `12 passed, 1 skipped, 2 not run`."""
    states = Counter(ended[test].state if test in ended else "not run" for test in tests)
    if set(states) <= {"not run"}:
        return "not run"
    words = {"passed": "{} passed", "failed": "**{} failed**", "skipped": "{} skipped", "not run": "{} not run"}
    return ", ".join(text.format(states[state]) for state, text in words.items() if states[state])


def area(test: str) -> str:
    """Return the row that a test of the kernel is in: one of its own if nobody has placed its file."""
    part = test.split("::", maxsplit=1)[0].rpartition(".test_")[2]
    return next((name for name, parts in AREAS.items() if part in parts), part.replace("_", " "))


def traced(test: str) -> str:
    """Return the CPython that a test looks at, `3.12`; "" if it is about none that can be walked."""
    found = _PYTHON.search(test)
    return found[1] if found and _minor(found[1]) >= OLDEST else ""


def table(first: str, columns: Mapping[str, Runs], rows: Mapping[str, Callable[[str], bool]]) -> Iterator[str]:
    """Yield the lines of a table: a row for each kind of test, a column for each place."""
    tests = {test for runs in columns.values() for test in runs.ended}
    yield f"| {first} | {' | '.join(columns)} |"
    yield "| --- |" + " --- |" * len(columns)
    for name, belongs in rows.items():
        those = [test for test in tests if belongs(test)]
        yield f"| {name} | {' | '.join(cell(those, runs.ended) for runs in columns.values())} |"


def exceptions(columns: Mapping[str, Runs]) -> Iterator[str]:
    """Yield a line for each reason for which tests failed or were skipped, and where."""
    found = Counter(
        (where, outcome.state, _name(test), outcome.why)
        for where, runs in columns.items()
        for test, outcome in runs.ended.items()
        if outcome.state != "passed"
    )
    if found:
        yield from ("| where | tests | of | why |", "| --- | --- | --- | --- |")
    for (where, state, test, why), count in sorted(found.items()):
        yield f"| {where} | {count} {state} | {test} | {why.replace('|', chr(92) + '|')[:160]} |"


def _name(test: str) -> str:
    """Return file and function of a test, without parameters."""
    file, _, function = test.partition("::")
    return f"`{file.rpartition('.')[2]}::{function.partition('[')[0]}`"


def _days(columns: Mapping[str, Runs]) -> str:
    days = sorted({day for runs in columns.values() for day in runs.days})
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def kernels() -> dict[str, Runs]:
    """Return the runs of tests/kernel, by what the column is called."""
    found = {}
    for series in KERNELS:
        paths = sorted(RESULTS.glob(f"kernel/{series}-*.xml"), key=_time)
        if paths:
            runs = read(paths)
            found[f"Linux {runs.name}{'' if series == 'native' else _EMULATED}"] = runs
    return found


def pythons() -> dict[str, Runs]:
    """Return the runs of the other tests, by CPython."""
    versions = {path.stem.partition("-")[0] for path in RESULTS.glob("python/*.xml")}
    found = {}
    for version in sorted(versions, key=_minor):
        paths = sorted(RESULTS.glob(f"python/{version}-*.xml"), key=_time)
        found[f"CPython {version}"] = read(paths)
    return found


def text() -> str:
    """Return all tables."""
    on_kernels, on_pythons = kernels(), pythons()
    for runs in on_kernels.values():
        runs.ended = {test: outcome for test, outcome in runs.ended.items() if test.startswith("tests.kernel.")}
    every = on_kernels | on_pythons
    versions = sorted({traced(test) for runs in every.values() for test in runs.ended} - {""}, key=_minor)
    found = {area(test) for runs in on_kernels.values() for test in runs.ended}
    areas = {name: (lambda test, name=name: area(test) == name) for name in (*AREAS, *sorted(found - set(AREAS)))}
    targets = {f"CPython {version}": (lambda test, version=version: traced(test) == version) for version in versions}
    folders = {
        "`tests/unit`": lambda test: test.startswith("tests.unit."),
        "`tests/property`": lambda test: test.startswith("tests.property."),
    }
    parts = (
        ("## Kernels", table("tests of", on_kernels, areas)),
        ("## Pythons that are traced", table("target", on_kernels, targets)),
        ("## Pythons that tracekit runs on", table("tests in", on_pythons, folders)),
        ("## What did not pass, and why", exceptions(every)),
    )
    return f"Run on {_days(every)}.\n\n" + "\n".join(f"{title}\n\n" + "\n".join(lines) + "\n" for title, lines in parts)


def _time(path: Path) -> tuple[int, bool]:
    """Return when a run began, and whether it is its second try, from `6.1-1795314813.again.xml`."""
    began, *again = path.name.partition("-")[2].split(".")[:-1]
    return int(began), bool(again)


def _minor(version: str) -> int:
    return int(version.split(".")[1])


def main() -> None:
    """Write the tables between the marks of the page."""
    if not any(RESULTS.glob("*/*.xml")):
        sys.exit(f"support: no results in {RESULTS}: see scripts/support -h")
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{text()}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
