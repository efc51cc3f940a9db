"""What the doctor says is what happens: each capability tried on the kernel that runs this test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tracekit.capture import trials

ROOT = Path(__file__).parents[2]
NOBODY = ["setpriv", "--reuid=65534", "--clear-groups"]


def doctor(*before):
    """Run the doctor behind *before*; return its exit code and checks by name."""
    done = subprocess.run(
        [*before, sys.executable, "-m", "tracekit", "doctor", "--json"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not done.stderr
    document = json.loads(done.stdout)
    assert document["works"] is (done.returncode == 0)
    return done.returncode, {check["name"]: check for check in document["checks"]}


def with_capabilities(*names):
    kept = ",".join(f"+{name}" for name in names)
    return [*NOBODY, "--inh-caps", kept, "--ambient-caps", kept]


def states(checks):
    return {name: check["state"] for name, check in checks.items() if check["tier"] in {"attach", "kernel", "uprobes"}}


def test_root_can_attach():
    """Kernel tests run here, so all that attach needs is here."""
    code, checks = doctor()

    assert code == 0
    assert {check["state"] for check in checks.values() if check["tier"] == "attach"} == {"ok"}
    assert (states(checks)["CPU sampling"], states(checks)["BPF statistics"]) == ("ok", "ok")


def test_two_capabilities_are_enough_to_attach():
    """
    CAP_BPF and CAP_PERFMON load and attach; statistics need CAP_SYS_ADMIN, and so may uprobes.

    They sample too, unless kernel.perf_event_paranoid is above 2, which Debian and Ubuntu added.
    """
    paranoid = int(Path("/proc/sys/kernel/perf_event_paranoid").read_text()) > 2

    code, checks = doctor(*with_capabilities("bpf", "perfmon"))

    assert code == 0
    assert states(checks)["CPU sampling"] == ("missing" if paranoid else "ok")
    assert ("sysctl" in checks["CPU sampling"]["fix"]) is paranoid
    assert (checks["BPF statistics"]["state"], checks["BPF statistics"]["fact"]) == (
        "missing",
        "Operation not permitted",
    )
    assert checks["other users' processes"]["state"] == "missing"


@pytest.mark.parametrize(("capabilities", "refused"), [([], "bpf(2)"), (["bpf"], "sched_switch")])
def test_without_them_it_names_what_is_refused(capabilities, refused):
    """No capability: no bpf(2). CAP_BPF alone: maps, but no programs on tracepoints."""
    before = with_capabilities(*capabilities) if capabilities else NOBODY

    code, checks = doctor(*before)

    assert code == 4
    assert checks[refused]["fact"] == "Operation not permitted"
    assert "BPF" in checks[refused]["fix"] or "sudo" in checks[refused]["fix"]
    assert checks["tracekit's programs"]["fact"].startswith("not tried")


def test_types_that_only_the_kernel_has_are_enough():
    """Its BTF is a file that a container may hide, and nothing that an attach reads."""
    code, checks = doctor("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /sys/kernel/btf && exec "$@"', "sh")

    assert code == 0
    assert {check["state"] for check in checks.values() if check["tier"] == "attach"} == {"ok"}
    assert checks["socket tracepoints"]["fact"] == "not tried: BTF is hidden"


def test_trying_leaves_nothing_open():
    """Programs, maps and links live as long as their descriptors do."""
    before = len(list(Path("/proc/self/fd").iterdir()))

    answers = trials.run()

    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert answers["programs"] == ""
