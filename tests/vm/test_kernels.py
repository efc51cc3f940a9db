"""The BPF programs on stock Debian kernels, each booted in an emulated machine."""

from __future__ import annotations

import subprocess
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NO_MACHINE = 125
COUNTS = [f"tests/kernel/test_{part}.py" for part in ("errors", "in_flight", "processes", "stacks_kernels", "waits")]
COUNTS += [
    "tests/kernel/test_span_truth.py::test_nested_spans_and_what_is_outside",
    "tests/kernel/test_db_redis.py::test_ways_to_read_and_write",
]
"""Tests that count and order. `scripts/vm-test` runs all; the rest takes half an hour more on an emulated CPU."""
SAME_EVERYWHERE = [
    "tests/kernel/test_errors.py::test_no_errors_means_none",
    "tests/kernel/test_in_flight.py::test_a_wait_that_began_while_recorded_has_its_age",
    "tests/kernel/test_in_flight.py::test_a_thread_that_was_woken_waits_for_a_cpu_and_nothing_else",
    "tests/kernel/test_in_flight.py::test_the_wall_time_of_a_starved_thread_adds_up",
    "tests/kernel/test_processes.py::test_a_process_id_used_again_is_another_process",
    "tests/kernel/test_processes.py::test_children_of_python",
    "tests/kernel/test_processes.py::test_how_a_process_ended",
    "tests/kernel/test_processes.py::test_the_oom_killer_is_told_from_other_kills",
    "tests/kernel/test_processes.py::test_found_processes_are_not_counted_as_spawned",
    "tests/kernel/test_waits.py::test_a_stopped_process_waits_for_nothing_else",
    "tests/kernel/test_waits.py::test_reads_and_writes_around_the_page_cache_wait_for_the_disk",
    "tests/kernel/test_waits.py::test_page_faults_on_a_file_are_faults",
]
"""Of these, what has a recording of its own, up to a minute there, and asks no more of the kernel than the others."""


def vm_test(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run scripts/vm-test to its end."""
    command = [ROOT / "scripts" / "vm-test", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("series", ["6.1", "6.12"])
def test_this_kernel_loads_the_programs_and_counts_right(series: str):
    """Its verifier accepts every program, and what they count is true there too."""
    done = vm_test("-k", series, "-q", *COUNTS, *(f"--deselect={test}" for test in SAME_EVERYWHERE))

    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    for line in done.stderr.splitlines():
        if line.startswith("again: passed"):  # in the summary, as nobody reads what a test that passes has printed
            warnings.warn(f"on Linux {series}: {line}", stacklevel=1)
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
