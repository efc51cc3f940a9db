"""The BPF programs on stock Debian kernels, each booted in an emulated machine."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NO_MACHINE = 125
COUNTS = [f"tests/kernel/test_{part}.py" for part in ("errors", "in_flight", "processes", "waits")]
COUNTS += [
    "tests/kernel/test_span_truth.py::test_nested_spans_and_what_is_outside",
    "tests/kernel/test_span_truth.py::test_tasks_of_asyncio_interleave",
    "tests/kernel/test_span_parts.py::test_sleeping_and_working_add_up",
    "tests/kernel/test_db_redis.py::test_ways_to_read_and_write",
    "tests/kernel/test_db_redis.py::test_a_connection_shared_with_a_child",
    "tests/kernel/test_db_faults.py::test_backends_that_are_ended",
]
"""Tests that count and order. `scripts/vm-test` runs all; the rest takes half an hour more on an emulated CPU."""


def vm_test(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run scripts/vm-test to its end."""
    command = [ROOT / "scripts" / "vm-test", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("series", ["6.1", "6.12"])
def test_this_kernel_loads_the_programs_and_counts_right(series: str):
    """Its verifier accepts every program, and what they count is true there too."""
    done = vm_test("-k", series, "-q", *COUNTS)

    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


def test_a_kernel_without_task_storage_is_refused():
    """Linux 5.10: the cause in one line, and what helps."""
    done = vm_test("-k", "5.10")

    if done.returncode == NO_MACHINE and "Debian" in done.stderr:
        pytest.skip(f"Debian has no Linux 5.10 any more: {done.stderr}")
    assert (done.returncode, done.stdout) == (4, "")
    error, hint = done.stderr.splitlines()[-2:]
    assert error.startswith("tracekit: cannot load BPF programs: this kernel (5.10.")
    assert error.endswith(" lacks BPF task storage, which came with 5.11")
    assert hint.startswith("  try: ")
