"""Which machine this is, and what findings follow from what it answered."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from tracekit.capture.host import checks, extras
from tracekit.capture.host.facts import clocks, facts
from tracekit.capture.trials import HOOKS

PROGRAM = "/opt/tracekit/bin/tracekit"
EVERYTHING = ("machine", "objects", "btf", "bpf", "map memory", "task storage", *HOOKS, "iter/task", "programs")
MORE = ("socket tracepoints", "sampling", "statistics", "uprobes")


# --- facts ----------------------------------------------------------------------------------------------------------


def test_facts_are_those_of_this_machine():
    """Against what the C library says."""
    host, system = facts(), os.uname()

    assert (host.hostname, host.kernel, host.machine) == (system.nodename, system.release, system.machine)
    assert host.cpus == os.sysconf("SC_NPROCESSORS_ONLN")
    assert host.memory_bytes == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert len(host.boot_id) == 36


def test_facts_of_a_bare_root_are_empty_and_no_error(tmp_path):
    """A sandbox may hide any file; a recording is made all the same."""
    host = facts(tmp_path)

    assert (host.cpus, host.cpu_model, host.memory_bytes, host.boot_id) == (0, "", 0, "")
    assert host.kernel == os.uname().release


def test_processors_are_counted_from_ranges(tmp_path):
    """CPU 1 and 4 to 5 are off line."""
    online = tmp_path / "sys/devices/system/cpu/online"
    online.parent.mkdir(parents=True)
    online.write_text("0,2-3,6\n")

    assert facts(tmp_path).cpus == 4


def test_the_clocks_are_the_same_moment():
    """They place a recording in the time of day, so they are read together."""
    before = time.monotonic_ns()
    read = clocks()
    after = time.monotonic_ns()

    assert before <= read.monotonic_ns <= after
    assert read.boottime_ns >= read.monotonic_ns
    assert abs(read.realtime_ns - time.time_ns()) < 10**9


# --- findings -------------------------------------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path):
    """A made-up host on which root has everything; tests take something away."""
    files = {
        "proc/self/status": "Name:\tpython\nUid:\t0\t0\t0\t0\nCapEff:\t000001ffffffffff\n",
        "proc/kallsyms": f"{0:016x} A fixed_percpu_data\nffffffff81000000 T _stext\n",
        "proc/pressure/cpu": "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
        "proc/sys/kernel/bpf_stats_enabled": "0\n",
        "sys/kernel/tracing/events/sched/sched_switch/id": "314\n",
    }
    for path, text in files.items():
        put(tmp_path, path, text)
    (tmp_path / "proc/self/ns").mkdir()
    (tmp_path / "proc/self/ns/pid").symlink_to("pid:[4026531836]")
    return tmp_path


def put(root, path, text):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def found(root, **answers):
    """Findings by name, where all that is not in *answers* works."""
    everything = dict.fromkeys((*EVERYTHING, *MORE), "")
    underscored = {name.replace("_", " ") if name not in HOOKS else name: said for name, said in answers.items()}
    return {check.name: check for check in checks.checks(everything | underscored, PROGRAM, root)}


def user(root, uid, bits=0):
    put(root, "proc/self/status", f"Name:\tpython\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nCapEff:\t{bits:016x}\n")


def test_a_machine_with_everything_lacks_nothing(machine):
    """What attach needs comes first, and each finding says what it is for."""
    found_here = list(found(machine).values())

    assert {check.state for check in found_here if check.tier != "extras"} == {"ok"}
    assert checks.missing_for_attach(found_here) == []
    assert [check.tier for check in found_here] == sorted((c.tier for c in found_here), key=checks.TIERS.index)
    assert all(check.costs and check.fact for check in found_here)


def test_a_refusal_is_cured_by_privileges(machine):
    """An ordinary user is told sudo with the full path, as sudo's PATH has no virtual environment."""
    user(machine, 1000)

    check = found(machine, bpf="Operation not permitted")["bpf(2)"]

    assert (check.state, check.fix) == ("missing", f"sudo {PROGRAM} attach ...")
    assert checks.missing_for_attach([check]) == ["bpf(2): Operation not permitted"]


def test_hidden_addresses_of_the_kernel_are_no_names(machine):
    """kptr_restrict shows zeros: 2 to everybody, 1 to who lacks CAP_SYSLOG."""
    put(machine, "proc/kallsyms", f"{0:016x} A fixed_percpu_data\n{0:016x} T _stext\n")

    check = found(machine)["kernel symbols"]
    assert (check.state, check.fix) == ("missing", "sudo sysctl kernel.kptr_restrict=1")
    user(machine, 1000)
    assert found(machine)["kernel symbols"].fix == f"sudo {PROGRAM} attach ..."


def test_in_a_container_the_cure_is_a_flag(machine):
    """sudo in a container gives nothing."""
    put(machine, ".dockerenv", "")
    user(machine, 0)

    refused = found(machine, bpf="Operation not permitted", uprobes="Permission denied")

    assert refused["bpf(2)"].fix == "docker run --cap-add BPF --cap-add PERFMON --pid host ..."
    assert refused["uprobes"].fix == "docker run --cap-add SYS_ADMIN --pid host ..."


def test_root_without_capabilities_is_told_which(machine):
    """Root of a service or sandbox may have lost them."""
    user(machine, 0, 1 << 38 | 1 << 39)

    refused = found(machine, uprobes="Permission denied")

    assert refused["uprobes"].fix == "give this root CAP_SYS_ADMIN, or ask who took them away"


def test_a_refusal_in_spite_of_capabilities_is_a_policy(machine):
    """Lockdown, seccomp and Debian's perf_event_paranoid refuse what the capability allows."""
    user(machine, 1000, 1 << 38 | 1 << 39)
    refused = found(machine, bpf="Operation not permitted", sampling="Permission denied")
    put(machine, "sys/kernel/security/lockdown", "none integrity [confidentiality]\n")
    locked = found(machine, bpf="Operation not permitted")

    assert "seccomp" in refused["bpf(2)"].fix
    assert refused["CPU sampling"].fix == "sudo sysctl kernel.perf_event_paranoid=2"
    assert locked["bpf(2)"].fix == "boot without lockdown=confidentiality"


def test_without_the_tracepoints_of_sockets_attach_works(machine):
    """On Debian's 6.1 calls of databases are seen in a slower way; it costs most where failed calls are not wanted."""
    answers = {"socket tracepoints": "this kernel does not have it"}

    check = found(machine, **answers)["socket tracepoints"]

    assert (check.state, check.tier, checks.missing_for_attach([check])) == ("missing", "kernel", [])
    assert "--no-errors" in check.costs
    assert "6.12" in check.fix


def test_what_the_kernel_does_not_know_needs_another_kernel(machine):
    """EINVAL is how Linux 5.10 answers a request for task storage."""
    check = found(machine, task_storage="Invalid argument")["task storage"]

    assert check.fact == "not in this kernel (Invalid argument)"
    assert "5.11" in check.fix


def test_a_refused_big_map_is_the_limit_of_locked_memory(machine):
    """Before 5.11 maps count as locked memory, for root too."""
    assert found(machine, map_memory="Operation not permitted")["map memory"].fix == "ulimit -l unlimited"


def test_consequences_have_no_cure_of_their_own(machine):
    """What was not tried is cured with its cause."""
    check = found(machine, sched_switch="not tried: bpf(2) is refused")["sched_switch"]

    assert (check.state, check.fix) == ("missing", "")


def test_capabilities_are_read_from_the_effective_set(machine):
    """CAP_BPF is bit 39, CAP_PERFMON 38, CAP_SYS_PTRACE 19."""
    user(machine, 65534, 1 << 39 | 1 << 38 | 1 << 19 | 1)

    assert set(checks.privileges(machine).capabilities) == {"BPF", "PERFMON", "SYS_PTRACE"}
    assert checks.privileges(machine).uid == 65534


def test_files_of_the_host_tell_what_series_will_be_missing(machine):
    """PSI off, another pid namespace, BPF statistics left on by somebody, no tracefs."""
    (machine / "proc/pressure/cpu").unlink()
    (machine / "proc/self/ns/pid").unlink()
    (machine / "proc/self/ns/pid").symlink_to("pid:[4026532123]")
    put(machine, "proc/sys/kernel/bpf_stats_enabled", "1\n")
    (machine / "sys/kernel/tracing/events/sched/sched_switch/id").unlink()

    lacking = found(machine)

    assert "psi=1" in lacking["pressure (PSI)"].fix
    assert "--pid host" in lacking["host's process ids"].fix
    assert lacking["BPF programs untimed"].fix == "sudo sysctl kernel.bpf_stats_enabled=0"
    assert (lacking["tracefs"].state, lacking["tracefs"].fix.split()[:2]) == ("absent", ["sudo", "mount"])


def test_processes_of_others_are_tried(machine):
    """Their I/O is readable to its owner and with CAP_SYS_PTRACE; uid 4242 owns none of these files."""
    put(machine, "proc/7/io", "rchar: 0\n")
    user(machine, 4242)
    readable = found(machine)["other users' processes"]
    (machine / "proc/7/io").unlink()

    hidden = found(machine)["other users' processes"]

    assert (readable.state, hidden.state) == ("ok", "missing")
    assert "io.read" in hidden.costs


def test_with_no_others_the_capability_answers(machine):
    """In a container of one user there is no process to try."""
    user(machine, os.getuid())
    put(machine, "proc/7/io", "rchar: 0\n")

    without = found(machine)["other users' processes"]
    user(machine, os.getuid(), 1 << 19 | 1 << 2)

    assert (without.state, found(machine)["other users' processes"].state) == ("missing", "ok")


# --- libraries ------------------------------------------------------------------------------------------------------


def test_the_lattice_package_called_bcc_is_not_taken_for_bcc(tmp_path, monkeypatch):
    """The bcc of the package index is about lattices; a pip user who wanted BPF has it."""
    put(tmp_path, "bcc/__init__.py", "lattice = 1\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    works, said = extras.bcc()

    assert not works
    assert said == f"another package of that name is installed: {tmp_path}/bcc/__init__.py"


def test_a_library_that_kills_its_process_is_an_answer(tmp_path, monkeypatch):
    """A broken libbcc can end in a crash, which must not end the doctor."""
    put(tmp_path, "bcc/__init__.py", "import os\nos.kill(os.getpid(), 11)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    works, said = extras.bcc()

    assert (works, said) == (False, "ended with status -11")


def test_bcc_is_found_where_debian_puts_it():
    """A virtual environment does not see it by itself."""
    if not Path(extras.DEBIAN, "bcc").is_dir():
        pytest.skip("python3-bpfcc is not installed")

    works, said = extras.bcc()

    assert (works, said) == (True, f"{extras.DEBIAN}/bcc/__init__.py")


def test_no_interpreter_is_not_tried(monkeypatch):
    """An interpreter in a home directory cannot be started again by another user."""
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")

    works, said = extras.nvml()

    assert (works, said) == (False, "not tried: /nonexistent/python: No such file or directory")


@pytest.mark.parametrize(
    ("module", "cure"),
    [
        ("raise ModuleNotFoundError(\"No module named 'pynvml'\")", "-m pip install --upgrade nvidia-ml-py"),
        ("def nvmlInit(): pass", "-m pip install --upgrade nvidia-ml-py"),
    ],
)
def test_a_gpu_that_cannot_be_read_has_a_cure(machine, tmp_path, monkeypatch, module, cure):
    """The binding is missing, or old, on a machine with an NVIDIA card; test_gpu.py has the driver's part."""
    put(machine, "sys/bus/pci/devices/0000:00:04.0/vendor", "0x10de\n")
    put(tmp_path, "python/pynvml.py", module + "\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "python"))

    check = found(machine)["NVIDIA GPU (NVML)"]

    assert check.state == "missing"
    assert cure in check.fix
