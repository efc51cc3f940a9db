"""Use of the host and throttling of control groups, against files whose change is known and the kernel's own counts."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import psutil
import pytest

from tests.unit.sampled import Recorder, go_on, machine, program, put, said
from tracekit.capture.resources import Resources
from tracekit.units import format_ns

pytestmark = pytest.mark.usefixtures("own_proc")


@pytest.fixture
def host(tmp_path):
    """A made-up machine whose files a test rewrites."""
    for path, text in HOST_FILES.items():
        file = machine(tmp_path) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    for disk in ("sda", "loop0"):
        (tmp_path / "sys/block" / disk).mkdir(parents=True)
    return tmp_path


HOST_FILES = {
    "proc/stat": "cpu  100 0 0 100 0 0 0 0 0 0\ncpu0 50 0 0 50 0 0 0 0 0 0\ncpu2 50 0 0 50 0 0 0 0 0 0\nintr 1\n",
    "proc/meminfo": "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 400 kB\nBuffers: 0 kB\nCached: 200 kB\n"
    "Shmem: 0 kB\nActive: 0 kB\nInactive: 0 kB\n"
    "SwapTotal: 50 kB\nSwapFree: 20 kB\n",
    "proc/diskstats": "8 0 sda 1 0 10 1 1 0 20 1 0 5 2\n8 1 sda1 1 0 10 1 1 0 20 1 0 5 2\n"
    "7 0 loop0 0 0 0 0 0 0 0 0 0 0 0\n",
    "proc/net/dev": "Inter-| Receive\n face |bytes\n  eth0: 100 1 2 3 0 0 0 0 200 1 4 5 0 0 0 0\n",
    "proc/pressure/cpu": "some avg10=0 avg60=0 avg300=0 total=1000\nfull avg10=0 avg60=0 avg300=0 total=0\n",
    "proc/pressure/memory": "some avg10=0 avg60=0 avg300=0 total=1\nfull avg10=0 avg60=0 avg300=0 total=1\n",
    "proc/pressure/io": "some avg10=0 avg60=0 avg300=0 total=7\nfull avg10=0 avg60=0 avg300=0 total=3\n",
}


def values(resources):
    return {(series.metric, *(value for _, value in series.labels)): value for series, value in resources.sample()}


def test_host_use_is_the_difference_of_two_readings(host):
    """Each number of the host, from files whose change is known; a CPU that is off line keeps the others' numbers."""
    resources = Resources(list, os.getpid(), root=host)
    first = values(resources)
    change = {
        "proc/stat": "cpu  170 0 0 120 0 0 0 10 0 0\n"
        "cpu0 110 0 0 80 0 0 0 10 0 0\ncpu2 60 0 0 50 40 0 0 0 0 0\nintr 1\n",
        "proc/diskstats": "8 0 sda 1 0 12 1 1 0 25 1 0 9 2\n8 1 sda1 1 0 12 1 1 0 25 1 0 9 2\n",
        "proc/net/dev": "Inter-| Receive\n face |bytes\n  eth0: 107 1 3 5 0 0 0 0 211 1 5 6 0 0 0 0\n"
        "  veth1: 13 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n",
        "proc/pressure/cpu": "some avg10=0 avg60=0 avg300=0 total=1023\nfull avg10=0 avg60=0 avg300=0 total=0\n",
    }
    for path, text in change.items():
        (host / path).write_text(text)

    second = values(resources)

    assert {metric: value for (metric, *_), value in first.items() if metric.startswith("host.")} == {
        "host.memory.used": 600 * 1024,
        "host.memory.available": 400 * 1024,
        "host.swap.used": 30 * 1024,
    }
    assert second["host.steal",] == pytest.approx(0.1)
    assert second["host.cpu", "0"] == pytest.approx(70 / 100)
    assert second["host.cpu", "2"] == pytest.approx(10 / 50)
    assert {key: value for key, value in second.items() if key[0].startswith("host.disk")} == {
        ("host.disk.read", "sda"): 1024,
        ("host.disk.write", "sda"): 2560,
        ("host.disk.busy", "sda"): 4_000_000,
    }
    assert second["host.net.received", "eth0"] == 7
    assert second["host.net.sent", "eth0"] == 11
    assert second["host.net.errors", "eth0"] == 2
    assert second["host.net.dropped", "eth0"] == 3
    assert second["host.net.received", "veth1"] == 13
    assert second["psi", "some", "cpu"] == 23_000
    assert ("psi", "full", "cpu") not in second
    assert second["psi", "full", "io"] == 0


def test_a_counter_that_fell_counts_from_zero(host):
    """A disk that was pulled and plugged in again."""
    resources = Resources(list, os.getpid(), root=host)
    resources.sample()
    (host / "proc/diskstats").write_text("8 0 sda 1 0 4 1 1 0 20 1 0 5 2\n")

    second = values(resources)

    assert (second["host.disk.read", "sda"], second["host.disk.write", "sda"]) == (2048, 0)


def test_host_cpu_is_what_psutil_says():
    """The same second, measured by psutil."""
    resources = Resources(list, os.getpid())
    resources.sample()
    psutil.cpu_percent(percpu=True)
    time.sleep(1)
    expected = psutil.cpu_percent(percpu=True)

    second = values(resources)

    shares = [100 * value for (metric, *_), value in second.items() if metric == "host.cpu"]
    assert shares == pytest.approx(expected, abs=10)


# --- control groups -------------------------------------------------------------------------------------------------


def groups(root, cgroup, mountinfo, stats):
    """A target, pid 7, in the groups of *cgroup*."""
    machine(root)
    (put(root, 7) / "cgroup").write_text(cgroup)
    (root / "proc/self").mkdir()
    (root / "proc/self/mountinfo").write_text(mountinfo)
    for path, text in stats.items():
        file = root / path / "cpu.stat"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


V2 = "29 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
QUIET = "usage_usec 9\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\n"
HELD = "usage_usec 9\nnr_periods 50\nnr_throttled 20\nthrottled_usec 3000\n"


def throttled(root, resources=None):
    resources = resources or Resources(lambda: [7], os.getpid(), root=root)
    return resources, {key: value for key, value in values(resources).items() if key[0].startswith("throttle")}


def test_version_2_gives_the_group_and_those_above_that_have_a_quota(tmp_path):
    """A quota set on the slice throttles the target and is counted there only."""
    stats = {
        "sys/fs/cgroup": "usage_usec 9\n",
        "sys/fs/cgroup/slice": HELD,
        "sys/fs/cgroup/slice/app": QUIET,
        "sys/fs/cgroup/slice/app/no-controller": "usage_usec 9\n",
    }
    root = groups(tmp_path, "0::/slice/app/no-controller\n", V2, stats)
    resources, first = throttled(root)
    (root / "sys/fs/cgroup/slice/cpu.stat").write_text(HELD.replace("3000", "3007").replace("20", "23"))

    _, second = throttled(root, resources)

    assert first == {}
    assert second == {
        ("throttle.time", "/slice/app"): 0,
        ("throttle.periods", "/slice/app"): 0,
        ("throttle.time", "/slice"): 7_000,
        ("throttle.periods", "/slice"): 3,
    }


def test_version_1_is_found_by_its_controller_and_mount(tmp_path):
    """The CPU controller of version 1, in a container that sees its own group mounted as the top."""
    mountinfo = (
        "30 23 0:26 /docker/ab\\040c /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n"
        "31 23 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    )
    held = "nr_periods 50\nnr_throttled {}\nthrottled_time {}\n"
    cgroup = "4:cpu,cpuacct:/docker/ab c\n0::/other\n"
    root = groups(tmp_path, cgroup, mountinfo, {"sys/fs/cgroup/cpu,cpuacct": held.format(20, 3000)})
    resources, _ = throttled(root)
    (root / "sys/fs/cgroup/cpu,cpuacct/cpu.stat").write_text(held.format(21, 3011))

    _, second = throttled(root, resources)

    assert second == {("throttle.time", "/"): 11, ("throttle.periods", "/"): 1}


def test_a_group_that_is_removed_is_no_error(tmp_path):
    """The last process of a group has gone, and the group with it."""
    root = groups(tmp_path, "0::/app\n", V2, {"sys/fs/cgroup/app": HELD})
    resources, _ = throttled(root)
    shutil.rmtree(root / "sys/fs/cgroup/app")

    _, second = throttled(root, resources)

    assert second == {}


def test_real_throttling_is_what_the_kernel_counted():
    """A real group with a quota of a tenth of a CPU and a process that wants all of it."""
    group = _real_group()
    with program("wait(); burn(0.2); say(); wait()") as process:
        try:
            (group / "cgroup.procs").write_text(str(process.pid))
            recorder = Recorder(lambda: [process.pid])
            go_on(process)
            said(process)

            recorder.sample()

            stat = dict(line.split() for line in (group / "cpu.stat").read_text().splitlines())
        finally:
            process.kill()
            process.wait()
            group.rmdir()
    periods, time_ns = recorder.totals["throttle.periods"], recorder.totals["throttle.time"]
    assert 0 < periods <= int(stat["nr_throttled"]) < periods + 3
    assert time_ns > 10_000_000, f"throttled for {format_ns(time_ns)}"


def _real_group():
    for top, quota in (("/sys/fs/cgroup/cpu", "cpu.cfs_quota_us"), ("/sys/fs/cgroup", "cpu.max")):
        group = Path(top) / f"tracekit-test-{os.getpid()}"
        try:
            group.mkdir()
            (group / quota).write_text("10000" if quota == "cpu.cfs_quota_us" else "10000 100000")
        except OSError:
            if group.is_dir():
                group.rmdir()
            continue
        return group
    pytest.skip("no writable CPU control group here")
