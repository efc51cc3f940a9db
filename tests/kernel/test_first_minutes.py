"""Machines that are not as a manual thinks: containers, limits, missing file systems, other users."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.lab import ROOT, TRACEKIT, go, until

if TYPE_CHECKING:
    from tests.kernel.lab import Lab

NOBODY = "setpriv --reuid=65534 --regid=65534 --clear-groups"
OTHER_PIDS = "unshare --pid --fork --mount-proc"
NO_PIDS = "tracekit: cannot trace a process: process ids of this container are not those of the kernel\n"


def shell(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of shell in which `tracekit` is ours."""
    line = f'tracekit() {{ {" ".join(TRACEKIT)} "$@"; }}; {script}'
    return subprocess.run(
        ["/bin/sh", "-c", line], cwd=ROOT, env={"T": str(folder), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip


ATTACH = "tracekit attach -d 1s -o"
REFUSED = {
    f"exec {NOBODY} {' '.join(TRACEKIT)} attach -d 1s -o /tmp/nobody.tk -p 1": (
        4,
        "cannot load BPF programs: not allowed (needs root, or CAP_BPF and CAP_PERFMON)",
        "sudo with the full path of tracekit; tracekit doctor says more",
    ),
    f"ulimit -n 32; {ATTACH} $T/x.tk -p 1": (
        4,
        "cannot load BPF programs: Too many open files",
        "ulimit -n 1024",
    ),
    f"{ATTACH} /proc/x.tk -p 1": (4, "cannot create /proc/x.tk: No such file or directory", "another -o FILE"),
    f"{ATTACH} $T/x.tk -p 2": (2, "cannot attach to 2: it is a kernel thread", "the process id of your program"),
}


@pytest.mark.parametrize("script", REFUSED, ids=["nobody", "descriptors", "folder", "kernel thread"])
def test_what_cannot_be_is_said_in_a_line(lab: Lab, script: str) -> None:
    """One line, what to try, a documented exit code, and nothing is left."""
    folder = lab.folder()
    code, error, hint = REFUSED[script]

    end = shell(script, folder)

    assert (end.returncode, end.stdout) == (code, "")
    assert end.stderr == f"tracekit: {error}\n  try: {hint}\n"
    assert not list(folder.iterdir())


@pytest.mark.parametrize("what", ["attach -o $T/x.tk -p 1 -d 1s", "run -o $T/x.tk -- true"])
def test_in_a_container_nobody_else_is_traced(lab: Lab, what: str) -> None:
    """Process 2 of a pid namespace is another one to the kernel: refused, as nobody wants a recording of that."""
    folder = lab.folder()

    end = shell(f"{OTHER_PIDS} sh -c '{' '.join(TRACEKIT)} {what}; exit $?'", folder)

    assert (end.returncode, end.stdout) == (4, "")
    assert end.stderr.startswith(NO_PIDS)
    assert not list(folder.iterdir())


def test_in_a_container_dump_tells_what_proc_does(lab: Lab) -> None:
    """It needs no ids of the kernel, and says what is missing for it."""
    end = shell(f"{OTHER_PIDS} sh -c 'sleep 100 & {' '.join(TRACEKIT)} dump -p $!; exit $?'", lab.folder())

    assert end.returncode == 0
    assert "sleep: blocked" in end.stdout
    assert "process ids of this container are not those of the kernel" in end.stderr


def test_a_process_of_another_namespace_is_traced_from_outside(lab: Lab) -> None:
    """Its id out here is what counts; in there it is 1."""
    folder = lab.folder()
    inside = f"exec {OTHER_PIDS} sh -c 'read go; {lab.workloads}/leaf 3 2 0'"
    with lab.started(inside, folder) as target:
        children = Path(f"/proc/{target.pid}/task/{target.pid}/children")
        until(children.read_text, "unshare to fork")
        with lab.attached("-p", children.read_text().strip(), folder=folder) as tracer:
            go(target)
            target.wait()
            tracer.wait()
            run = tracer.result()

    assert run.code == 0
    assert run.events("oncpu", role="leaf").count > 0


@pytest.mark.parametrize("hidden", ["/sys/kernel/btf", "/sys/kernel/tracing", "/sys/fs/cgroup"])
def test_what_a_container_hides_is_not_needed(lab: Lab, hidden: str) -> None:
    """The kernel has its types itself, and nothing of tracefs is read."""
    folder = lab.folder()

    hide = f"mount -t tmpfs none {hidden} && exec {' '.join(TRACEKIT)} run -o $T/x.tk -- true"
    end = shell(f"unshare --mount sh -c '{hide}'", folder)

    assert end.returncode == 0, end.stderr
    assert (folder / "x.tk").exists()
