"""From what was tried to findings: what is missing here, what that costs the user, and the line that fixes it."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tracekit.capture import nvidia
from tracekit.capture.host import extras
from tracekit.capture.host.facts import has_kernels_pids
from tracekit.records import Check

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CAPABILITIES = {"DAC_READ_SEARCH": 2, "SYS_PTRACE": 19, "SYS_ADMIN": 21, "SYSLOG": 34, "PERFMON": 38, "BPF": 39}
"""The bits of CapEff that matter to tracekit (include/uapi/linux/capability.h)."""
TIERS = ("attach", "kernel", "uprobes", "extras")
NOT_TRIED = "not tried"
"""How an answer begins that is the consequence of another."""

_REFUSED = ("Operation not permitted", "Permission denied")
_UNKNOWN = "Invalid argument"  # what the kernel says to a type of map, program or link it does not know
_CONTAINER_MARKS = (".dockerenv", "run/.containerenv")

_EVERYTHING = "attach and run; recordings made elsewhere can be read here"
_TOGETHER = "attach and run: tracekit's programs load together or not at all"
_NEWER = "a newer kernel: Debian 12's 6.1 or later"
_WITH_BTF = "a kernel with CONFIG_DEBUG_INFO_BTF=y, as those of Debian, Ubuntu and Fedora are"
_BUILD = "sudo apt install clang-19 libbpf-dev bpftool, then install tracekit again"
_REPORT = "send what `tracekit doctor --json` prints to the authors"


@dataclass(frozen=True)
class _Row:
    """A thing that the kernel was asked for: how it is called, what it is for, and how to get it."""

    name: str
    tier: Literal["attach", "kernel", "uprobes"]
    works: str
    """The fact if it does."""
    costs: str
    fix: str
    """If it is not for lack of privileges."""
    needs: tuple[str, ...] = ("BPF", "PERFMON")
    """Capabilities; none: a refusal has another cause."""
    fix_refused: str = ""
    """If it is refused although the capabilities are there; "": as everything is that is."""


def _hook(name: str) -> _Row:
    return _Row(name, "attach", "attached", _TOGETHER, f"{_NEWER} that has the tracepoint {name}")


_ROWS = {
    "machine": _Row("machine", "attach", "x86_64", _EVERYTHING, ""),
    "objects": _Row("programs", "attach", "in the package", _EVERYTHING, _BUILD),
    "btf": _Row("kernel BTF", "attach", "there", _EVERYTHING, _WITH_BTF),
    "bpf": _Row("bpf(2)", "attach", "created a map", _EVERYTHING, _NEWER),
    "map memory": _Row("map memory", "attach", "created a map of 16 MiB", _EVERYTHING, "ulimit -l unlimited", ()),
    "task storage": _Row(
        "task storage", "attach", "created a map", _EVERYTHING, "Linux 5.11 or later: Debian 12 has 6.1"
    ),
    "programs": _Row("tracekit's programs", "attach", "loaded and attached", _EVERYTHING, _REPORT),
    "socket tracepoints": _Row(
        "socket tracepoints",
        "kernel",
        "attached",
        "calls of databases are seen where system calls return: with --no-errors, a hook on every call of this host",
        "a newer kernel: Debian 13's 6.12 or later",
    ),
    "sampling": _Row(
        "CPU sampling",
        "kernel",
        "attached",
        "runq.length, and in which code threads run: waits and failed calls have stacks still",
        "Linux 5.15 or later",
        ("PERFMON",),
        "sudo sysctl kernel.perf_event_paranoid=2",  # above that Debian and Ubuntu ask for CAP_SYS_ADMIN
    ),
    "statistics": _Row(
        "BPF statistics",
        "kernel",
        "switched on and off",
        "cost.bpf: recordings cannot state what the kernel's side costs",
        "Linux 5.8 or later",
        ("SYS_ADMIN",),
    ),
    "uprobes": _Row(
        "uprobes",
        "uprobes",
        "attached",
        "--db-uprobes: calls of databases inside of their client libraries",
        "Linux 5.15 or later, with CONFIG_UPROBES=y",
        ("SYS_ADMIN",),
    ),
}


@dataclass(frozen=True)
class Privileges:
    """
    What this process may do, and how its user can get more.

    Attributes:
        uid: effective user.
        capabilities: those of CAPABILITIES that are effective.
        container: it runs in one.
        lockdown: the kernel hides its memory even from root (lockdown=confidentiality).
    """

    uid: int
    capabilities: tuple[str, ...]
    container: bool
    lockdown: bool

    def fix(self, needs: tuple[str, ...], program: str) -> str:
        """Return the line that gives *needs* to tracekit, which is started as *program*."""
        if self.container:
            return f"docker run {' '.join(f'--cap-add {name}' for name in needs)} --pid host ..."
        if self.uid:
            return f"sudo {program} attach ..."
        return f"give this root {' and '.join(f'CAP_{name}' for name in needs)}, or ask who took them away"

    def holds(self, needs: tuple[str, ...]) -> bool:
        """Tell whether *needs* are effective; CAP_SYS_ADMIN stands for those that were split off it."""
        split = {"BPF", "PERFMON"} if "SYS_ADMIN" in self.capabilities else set()
        return set(needs) <= split | set(self.capabilities)

    def fix_policy(self) -> str:
        """Return what helps if the kernel refuses in spite of capabilities."""
        if self.lockdown:
            return "boot without lockdown=confidentiality"
        if self.container:
            return "docker run --security-opt seccomp=unconfined ..."
        return "ask who set up the seccomp filter or security module that refuses it"


def privileges(root: Path = Path("/")) -> Privileges:
    """Read what this process may do from *root*."""
    status = (line.partition(":\t") for line in (root / "proc/self/status").read_text().splitlines())
    fields = {name: value.split() for name, _, value in status}
    effective = int(fields["CapEff"][0], 16)
    lockdown = root / "sys/kernel/security/lockdown"
    return Privileges(
        uid=int(fields["Uid"][1]),
        capabilities=tuple(name for name, bit in CAPABILITIES.items() if effective >> bit & 1),
        container=any((root / mark).exists() for mark in _CONTAINER_MARKS),
        lockdown=os.access(lockdown, os.R_OK) and "[confidentiality]" in lockdown.read_text(),
    )


def checks(answers: Mapping[str, str], program: str, root: Path = Path("/")) -> list[Check]:
    """
    Return everything tracekit can make use of, in the order of need.

    Args:
        answers: what the kernel said to each attempt, "" if it works (`capture.trials.run`).
        program: how tracekit is started, with its full path.
        root: where `proc` and `sys` are.
    """
    mine = privileges(root)
    kernel = [_judge(_ROWS.get(name) or _hook(name), answer, mine, program) for name, answer in answers.items()]
    files = [_processes(mine, program, root), _pid_namespace(root), _pressure(root), _timed_programs(root)]
    found = [*kernel, *files, _tracefs(mine, program, root), _kernel_names(mine, program, root), _bcc(), _nvml(root)]
    return sorted(found, key=lambda check: TIERS.index(check.tier))


def missing_for_attach(found: Iterable[Check]) -> list[str]:
    """Return why attach cannot work here, a line each: nothing if it can."""
    return [f"{check.name}: {check.fact}" for check in found if check.tier == "attach" and check.state != "ok"]


def _judge(row: _Row, answer: str, mine: Privileges, program: str) -> Check:
    """Turn the kernel's answer into a finding. What was not tried is fixed with what it was not tried for."""
    if not answer:
        return Check(row.name, row.tier, "ok", row.works, row.costs)
    if answer.startswith(NOT_TRIED):
        return Check(row.name, row.tier, "missing", answer, row.costs)
    fact = f"not in this kernel ({answer})" if answer == _UNKNOWN else answer
    return Check(row.name, row.tier, "missing", fact, row.costs, _fix(row, answer, mine, program))


def _fix(row: _Row, answer: str, mine: Privileges, program: str) -> str:
    if answer not in _REFUSED or not row.needs:
        return row.fix
    return (row.fix_refused or mine.fix_policy()) if mine.holds(row.needs) else mine.fix(row.needs, program)


def _processes(mine: Privileges, program: str, root: Path) -> Check:
    """Read the I/O of another user's process: CAP_SYS_PTRACE allows it, but the file's mode must be passed too."""
    name, costs = "other users' processes", "io.read, io.write (before Linux 6.2: fds) of processes that are not yours"
    others = [process for process in (root / "proc").glob("[0-9]*") if _owner(process) not in (mine.uid, None)]
    if any(map(_is_readable, others)):
        return Check(name, "kernel", "ok", "readable", costs)
    needs = ("SYS_PTRACE", "DAC_READ_SEARCH")
    if not others and mine.holds(needs):
        return Check(name, "kernel", "ok", "none to try, but the capabilities are here", costs)
    fact = "not readable" if others else "none to try, and the capabilities are not here"
    return Check(name, "kernel", "missing", fact, costs, mine.fix(needs, program))


def _owner(process: Path) -> int | None:
    try:
        return process.stat().st_uid
    except OSError:  # it has gone
        return None


def _is_readable(process: Path) -> bool:
    try:
        (process / "io").read_text()
    except OSError:
        return False
    return True


def _pid_namespace(root: Path) -> Check:
    name, costs = "host's process ids", "attach -p, run, and rss, fds, io: process ids here are not those of the kernel"
    try:
        the_same = has_kernels_pids(root)
    except OSError as error:
        return Check(name, "kernel", "missing", _cause(error), costs)
    if the_same:
        return Check(name, "kernel", "ok", "the same here", costs)
    return Check(name, "kernel", "missing", "in a process id namespace", costs, "docker run --pid host ...")


def _pressure(root: Path) -> Check:
    name, costs = "pressure (PSI)", "psi: how long tasks stalled for CPU, memory and I/O"
    try:
        (root / "proc/pressure/cpu").read_text()
    except OSError as error:
        fix = "add psi=1 to the kernel's command line, and reboot"
        return Check(name, "kernel", "missing", _cause(error), costs, fix)
    return Check(name, "kernel", "ok", "readable", costs)


def _timed_programs(root: Path) -> Check:
    name, costs = "BPF programs untimed", "some 90 ns more for each run of any BPF program on this host"
    switch = root / "proc/sys/kernel/bpf_stats_enabled"
    if switch.exists() and switch.read_text().strip() != "0":
        fix = "sudo sysctl kernel.bpf_stats_enabled=0"
        return Check(name, "kernel", "missing", "kernel.bpf_stats_enabled is on", costs, fix)
    return Check(name, "kernel", "ok", "kernel.bpf_stats_enabled is off", costs)


def _kernel_names(mine: Privileges, program: str, root: Path) -> Check:
    """Ask for the address of one function: zeros are what the kernel shows those who may not know."""
    name, costs = "kernel symbols", "names of kernel frames in stacks: each of them prints as [unnamed]_[k]"
    try:
        with (root / "proc/kallsyms").open("rb") as lines:
            first = next((line for line in lines if line[17:18] in (b"t", b"T")), b"")
    except OSError as error:
        return Check(name, "kernel", "missing", _cause(error), costs)
    if first[:16].strip(b"0"):
        return Check(name, "kernel", "ok", "readable", costs)
    needs = ("SYSLOG",)
    fix = "sudo sysctl kernel.kptr_restrict=1" if mine.holds(needs) else mine.fix(needs, program)
    return Check(name, "kernel", "missing", "addresses are hidden", costs, fix)


def _tracefs(mine: Privileges, program: str, root: Path) -> Check:
    name, costs = "tracefs", "nothing of tracekit's; other tools (perf, bpftrace) read tracepoints there"
    try:
        (root / "sys/kernel/tracing/events/sched/sched_switch/id").read_text()
    except OSError as error:
        mount = "sudo mount -t tracefs tracefs /sys/kernel/tracing"
        fix = mine.fix(("DAC_READ_SEARCH",), program) if isinstance(error, PermissionError) else mount
        return Check(name, "uprobes", "absent", _cause(error), costs, fix)
    return Check(name, "uprobes", "ok", "readable", costs)


def _cause(error: OSError) -> str:
    return error.strerror or str(error)


def _bcc() -> Check:
    name, costs = "bcc", "names of native functions from debug files: such frames print as lib.so+0x1234"
    works, said = extras.bcc()
    if works:
        return Check(name, "extras", "ok", said, costs)
    if said.startswith(NOT_TRIED):
        return Check(name, "extras", "missing", said, costs)
    fix = "sudo apt install python3-bpfcc"
    if "another package" in said:
        fix = f"{sys.executable} -m pip uninstall bcc && {fix}"
    return Check(name, "extras", "missing", said, costs, fix)


def _nvml(root: Path) -> Check:
    name, costs = "NVIDIA GPU (NVML)", "gpu.*: use, memory, power and throttling of GPUs"
    if not nvidia.has_device(root):
        return Check(name, "extras", "absent", nvidia.NO_DEVICE, costs)
    works, said = extras.nvml()
    if works:
        return Check(name, "extras", "ok", said, costs)
    return Check(name, "extras", "missing", said, costs, nvidia.cure(said))
