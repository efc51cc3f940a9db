"""Processes whose memory lies about their stacks: nobody suffers, and what cannot be read is marked."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from tests.kernel.lab import ROOT, TRACEKIT
from tests.kernel.stacked import CUT, UNREADABLE, count, record, rows
from tests.unit.pythons import PYTHONS

if TYPE_CHECKING:
    from tests.kernel.lab import Lab, Run
    from tests.kernel.stacked import Row

WORKLOADS = Path(__file__).parent / "workloads"
FORMS = ["folded", "svg", "speedscope"]
NAMED = """
import select, sys, time
from pathlib import Path
def plain(seconds):
    time.sleep(seconds)
def named(function, name, file):
    return type(function)(function.__code__.replace(co_name=name, co_qualname=name, co_filename=file), globals())
def outer(seconds):
    inner(seconds)
def main():
    outer(0.05)
inner = named(plain, "x" * 10000, "evil\\n;.py")
outer = named(outer, "evil;\\n\\x1b[31m<b>&\\ud800 1 2", "<evil> (a:1)")
Path("/proc/self/comm").write_text(sys.argv[1])
Path(sys.argv[2] + ".ready").touch()
while not select.select([sys.stdin], [], [], 0.02)[0]:
    pass
main()
Path(sys.argv[2]).write_text("{}")
time.sleep(0.15)
"""
WAYS = ["cycle", "wild", "odd", "garbage", "code", "threads"]
VERSIONS = {path.split("/")[-3]: path for path in PYTHONS if any(f"/3.{minor}." in path for minor in (8, 11, 13))}


@pytest.fixture(scope="module")
def run(lab: Lab) -> Run:
    """Return the recording of processes that corrupt themselves: each version of CPython in each way."""
    program = WORKLOADS / "corrupted.py"
    names = {f"{way}-{version}": [path, program, way] for version, path in VERSIONS.items() for way in WAYS}
    return record(lab, names, at_a_time=6)


def inside(run: Run, name: str) -> list[Row]:
    """Return what was seen while something was corrupted."""
    seen = [row for metric in ("stack.oncpu", "stack.offcpu", "stack.errors") for row in rows(run, metric, role=name)]
    return [row for row in seen if any(frame.startswith(("crc32", "usleep", "rmdir")) for frame in row.frames)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_corrupted_is_marked(run: Run, version: str, way: str) -> None:
    """The process ends as it wants to; frames up to the wrong one are there, then a mark; later all is well."""
    name = f"{way}-{version}"
    mark = CUT if way == "cycle" else UNREADABLE

    found = inside(run, name)
    healthy = [row for row in rows(run, "stack.offcpu", role=name) if row.has("healthy")]

    assert run.truth[name] == {"rounds": 8}
    assert count(found) >= 8
    if way == "threads":
        assert not any(row.python for row in found)
    else:
        assert {row.python[-1].name for row in found} == {"corrupted"}
        assert all(mark in row.frames for row in found)
    assert [[frame.name for frame in row.python] for row in healthy] == [["<module>", "healthy"]]


def test_names_of_any_kind(lab: Lab) -> None:
    """Newlines, semicolons, escapes, and 10,000 characters: one frame each, and the flame graph can be drawn."""
    folder = lab.folder()
    (folder / "names.py").write_text(NAMED)
    run = record(lab, {"names": [PYTHONS[0], folder / "names.py"]})
    found = [row for row in rows(run, "stack.offcpu", role="names") if row.weight > 20_000_000 and row.has("main")]
    command = [*TRACEKIT, "flamegraph", str(run.recording.path), "--off-cpu"]

    drawn = {
        form: subprocess.run([*command, "--format", form], capture_output=True, cwd=ROOT, check=False) for form in FORMS
    }

    texts = [frame for row in found for frame in row.frames if "evil" in frame]
    lines = [line for line in drawn["folded"].stdout.decode().splitlines() if "evil" in line]
    assert len(found) == 1
    assert [text[:12] for text in texts] == ["evil;\n\x1b[31m<", "xxxxxxxxxxxx"]
    assert len(texts[1]) < 1200
    assert [done.returncode for done in drawn.values()] == [0] * len(FORMS)
    assert len(lines) == 1
    assert not any(b"\x1b" in done.stdout for done in drawn.values())
    ET.fromstring(drawn["svg"].stdout)
    json.loads(drawn["speedscope"].stdout)
