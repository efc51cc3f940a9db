"""Stacks of programs without Python: compiled without frame pointers, with the C library between and threads."""

from __future__ import annotations

import subprocess
from math import sqrt
from typing import TYPE_CHECKING

import pytest

from tests.kernel.conftest import SOURCES
from tests.kernel.stacked import CUT, PERIOD_NS, record, rows, weight

if TYPE_CHECKING:
    from tests.kernel.lab import Lab, Run

CHAINS = {
    "outer_a": ["main", "outer_a", "middle_b", "inner_c"],
    "sized": ["main", "sized", "middle_b", "inner_c"],
    "sorted": ["main", "sorted", "compared", "inner_c"],
    "of_thread": ["begin_thread", "of_thread", "middle_b", "inner_c"],
}
BUILDS = {"static": ["-static", "-no-pie"], "shared": ["-pie", "-fPIE"], "contained": ["-pie", "-fPIE"]}
CONTAIN = 'mount -t tmpfs none /mnt && cp "$0" /mnt && exec /mnt/contained "$@"'
"""Where the file of the program is one that only its own mount namespace has."""


@pytest.fixture(scope="module")
def run(lab: Lab) -> Run:
    """Return the recording of the program as it is built in two ways."""
    folder = lab.folder()
    for name, options in BUILDS.items():
        command = ["gcc", "-O2", "-g0", "-fomit-frame-pointer", "-D_GNU_SOURCE", "-pthread", *options]
        subprocess.run([*command, "-o", folder / name, SOURCES / "native.c"], check=True)
    contained = ["unshare", "--mount", "sh", "-c", CONTAIN, folder / "contained"]
    return record(lab, {name: contained if name == "contained" else [folder / name] for name in BUILDS})


@pytest.mark.parametrize("function", CHAINS)
@pytest.mark.parametrize("build", BUILDS)
def test_chains_of_callers(run: Run, build: str, function: str) -> None:
    """From main, or where a thread begins, down to who works, and as often as it worked."""
    found = [row for row in rows(run, "stack.oncpu", role=build) if f"{function} ({build})" in row.frames]
    own = [[frame.rpartition(" (")[0] for frame in row.frames if frame.endswith(f" ({build})")] for row in found]
    expected = run.truth[build][function] / PERIOD_NS

    chains = [[name for name in names if name in {*CHAINS[function], "main"}] for names in own]

    assert abs(sum(row.count for row in found) - expected) <= 1 + 4.5 * sqrt(expected)
    assert [names for names in chains if names != CHAINS[function][: len(names)] or len(names) < 3] == []
    assert {row.frames[0].rpartition(" (")[0] for row in found} <= {"_start", "clone", "clone3", "__clone", "__clone3"}
    assert not any(CUT in row.frames or "(?)" in "".join(row.frames) for row in found)


@pytest.mark.parametrize("build", BUILDS)
def test_a_deep_chain_is_cut(run: Run, build: str) -> None:
    """At 64 frames, with a mark."""
    found = [row for row in rows(run, "stack.oncpu", role=build) if f"recursive ({build})" in row.frames]

    assert weight(found) > 0.5 * run.truth[build]["recursive"]
    assert {row.frames[0] for row in found} == {CUT}
    assert {len(row.frames) - len(row.kernel) for row in found} == {65}
