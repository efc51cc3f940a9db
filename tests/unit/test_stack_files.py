"""Stacks as files of other programs, each read back by the program it is for, or by its schema."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema
import pytest

from tracekit.errors import UsageError
from tracekit.export import frames, pprof, speedscope, trace_event

if TYPE_CHECKING:
    from tests.unit.conftest import Run

SCHEMA = json.loads((Path(__file__).parents[1] / "golden/speedscope/file-format-schema.json").read_text())
HOSTILE = '</script>\0\n\udcff";$(rm)\u202e (x.py:1)'
STACKS = {
    ("worker", "MainThread", "on-CPU", "main (app/run.py:12)", "encode (json/encoder.py:200)"): 1500,
    ("worker", "MainThread", "on-CPU", "main (app/run.py:12)", "dumps (_json.so)", "vfs_read_[k]"): 3000,
    ("worker", "MainThread", "blocked", "disk", "read", "main (app/run.py:13)", "+0x1f (libfoo.so.1)"): 5000,
    ("ctl", HOSTILE): 250,
}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Loop.run (asyncio/base.py:640)", ("Loop.run", "asyncio/base.py", 640, "")),
        ("<listcomp> (my app/a (b).py:3)", ("<listcomp>", "my app/a (b).py", 3, "")),
        ("_call (<frozen importlib._bootstrap>:241)", ("_call", "<frozen importlib._bootstrap>", 241, "")),
        ("run (app.py)", ("run", "app.py", 0, "")),
        ("walk (main.c:17)", ("walk", "main.c", 17, "")),
        ("read (libc.so.6)", ("read", "", 0, "libc.so.6")),
        ("operator new(unsigned long) (libstdc++.so.6)", ("operator new(unsigned long)", "", 0, "libstdc++.so.6")),
        ("clock_gettime ([vdso])", ("clock_gettime", "", 0, "[vdso]")),
        ("+0x1f2e3 (libfoo.so.1)", ("+0x1f2e3 (libfoo.so.1)", "", 0, "libfoo.so.1")),
        ("0x7f0012 (?)", ("0x7f0012 (?)", "", 0, "")),
        ("vfs_read_[k]", ("vfs_read_[k]", "", 0, "[kernel]")),
        ("evaluation (lane=heavy, try=2)", ("evaluation (lane=heavy, try=2)", "", 0, "")),
        ("foo(int)", ("foo(int)", "", 0, "")),
        ("[deeper frames cut]", ("[deeper frames cut]", "", 0, "")),
        ("a\x1b[2J\0\udcff", (r"a\x1b[2J\x00\udcff", "", 0, "")),
        ("", ("", "", 0, "")),
    ],
)
def test_what_a_frame_says(text: str, parts: tuple[str, str, int, str]) -> None:
    """Function, file and line, library; what is in none of these shapes is a name as a whole."""
    assert frames.parse(text) == parts


def test_a_file_for_speedscope_fits_its_schema() -> None:
    """Root first, weights in its own unit, every frame once."""
    document = json.loads(speedscope.write(STACKS, "t", "ns"))

    jsonschema.validate(document, SCHEMA)
    profile, named = document["profiles"][0], document["shared"]["frames"]
    stacks = [[named[frame]["name"] for frame in sample] for sample in profile["samples"]]
    assert (
        dict(zip(map(tuple, stacks), profile["weights"], strict=True))[
            "worker", "MainThread", "on-CPU", "main", "dumps (_json.so)", "vfs_read_[k]"
        ]
        == 3000
    )
    assert (profile["unit"], profile["endValue"], len(stacks)) == ("nanoseconds", 9750, 4)
    assert {"name": "encode", "file": "json/encoder.py", "line": 200} in named


@pytest.mark.parametrize(("unit", "found"), [("bytes", "bytes"), ("samples", "none")])
def test_units_of_speedscope(unit: str, found: str) -> None:
    """It knows bytes, and of samples that they are none of its units."""
    document = json.loads(speedscope.write({("a",): 1.5}, "t", unit))

    jsonschema.validate(document, SCHEMA)
    assert document["profiles"][0]["unit"] == found


def read_by_pprof(data: bytes, folder: Path, *options: str) -> str:
    (folder / "x.pb.gz").write_bytes(data)
    command = ["go", "tool", "pprof", *options, folder / "x.pb.gz"]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "GOFLAGS": "-mod=mod", "PPROF_TMPDIR": str(folder)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_pprof_reads_its_file(tmp_path: Path) -> None:
    """Exact weights, leaf first, functions with file and line, libraries, and no search for files of these names."""
    raw = read_by_pprof(pprof.write(STACKS, "run.tk", "ns"), tmp_path, "-raw")

    samples = dict(re.findall(r"^ +(\d+): ([\d ]+?) *$", raw.split("Locations")[0], re.MULTILINE))
    places = dict(re.findall(r"^ +(\d+): 0x0 M=\d+ (.*) s=0$", raw, re.MULTILINE))
    assert "time/nanoseconds" in raw
    assert sorted(map(int, samples)) == [250, 1500, 3000, 5000]
    assert [places[place] for place in samples["1500"].split()] == [
        "encode json/encoder.py:200",
        "main app/run.py:12",
        "on-CPU :0",
        "MainThread :0",
        "worker :0",
    ]
    mappings = re.findall(r"^\d+: 0x0/0x0/0x0 (\S+) +(\S+)", raw, re.MULTILINE)
    assert [name for name, _ in mappings] == ["run.tk", "libfoo.so.1", "[kernel]", "_json.so"]
    assert {flags for _, flags in mappings} == {"[FN][FL][LN]"}


def test_pprof_adds_up_what_we_wrote(tmp_path: Path) -> None:
    """Its own table of functions: 4.5 of 9.75 us pass through on-CPU."""
    table = read_by_pprof(pprof.write(STACKS, "run.tk", "ns"), tmp_path, "-top", "-unit=ns")

    assert "File: run.tk\nType: time\nShowing nodes accounting for 9750ns, 100% of 9750ns total" in table
    assert re.search(r"4500ns 46\.15%  on-CPU$", table, re.MULTILINE)


def test_pprof_of_decimals_and_of_many_names(tmp_path: Path) -> None:
    """Decimals round as a sum; ids beyond 127 take two bytes and beyond 16,383 three."""
    weights = {("root", f"f{n}"): 0.25 for n in range(20_000)}

    raw = read_by_pprof(pprof.write(weights, "", "samples"), tmp_path, "-raw")

    values = re.findall(r"^ +(\d+): [\d ]+$", raw.split("Locations")[0], re.MULTILINE)
    assert sum(map(int, values)) == 5000
    assert "samples/count" in raw


def test_what_pprof_cannot_hold_is_refused() -> None:
    """Its numbers end at 2^63 - 1."""
    pprof.write({("a",): 2**63 - 1}, "t", "ns")

    with pytest.raises(UsageError, match=r"add up to more than 2\^63"):
        pprof.write({("a",): 2**62, ("b",): 2**62}, "t", "ns")


def test_files_are_the_same_each_time() -> None:
    """No time, no order of a hash."""
    again = dict(reversed(STACKS.items()))

    for write in (pprof.write, speedscope.write, trace_event.write):
        assert write(STACKS, "t", "ns") == write(again, "t", "ns")


def slices(data: bytes) -> list[dict]:
    return [event for event in json.loads(data)["traceEvents"] if event["ph"] == "X"]


def test_events_nest_and_fill_their_tracks() -> None:
    """On each track an event lies within the one that is open, or behind it: the rule of the format."""
    weights = {("a", *(f"f{n % 7}", f"g{n % 11}", f"h{n}")[: n % 4]): n + n / 7 for n in range(500)}

    found = slices(trace_event.write(weights, "t", "ns"))

    open_until: list[int] = []
    for begin, end in ((round(e["ts"] * 1000), round((e["ts"] + e["dur"]) * 1000)) for e in found):
        while open_until and open_until[-1] <= begin:
            open_until.pop()
        assert begin < end <= min(open_until, default=end)
        open_until.append(end)
    assert found[0]["dur"] == round(sum(weights.values())) / 1000


def test_the_axis_of_samples_is_microseconds() -> None:
    """And of ns it is ns; each first frame is a track, from 0."""
    samples, ns = (slices(trace_event.write({("a", "b"): 2, ("c",): 1}, "t", unit)) for unit in ("samples", "ns"))

    assert [(event["name"], event["ts"], event["dur"]) for event in samples] == [("a", 0, 2), ("b", 0, 2), ("c", 0, 1)]
    assert [event["dur"] for event in ns] == [0.002, 0.002, 0.001]
    assert [event["tid"] for event in ns] == [2, 2, 3]


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("x.svg", b"<?xml"),
        ("x.folded", b"a;b 1\n"),
        ("X.SPEEDSCOPE.JSON", b'{"$schema"'),
        ("x.pb.gz", b"\x1f\x8b"),
        ("x.trace.json", b'{"traceEvents"'),
    ],
)
def test_the_name_of_the_file_says_what_it_becomes(run: Run, tmp_path: Path, name: str, begins: bytes) -> None:
    """No --format needed."""
    (tmp_path / "in.folded").write_text("a;b 1\n")

    code, out, err = run("flamegraph", tmp_path / "in.folded", "-o", tmp_path / name)

    assert (code, out, err) == (0, "", f"wrote {tmp_path / name}\n")
    assert (tmp_path / name).read_bytes().startswith(begins)
