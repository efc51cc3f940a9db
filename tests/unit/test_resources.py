"""What the collector samples, against what the kernel and the processes themselves say."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

import psutil
import pytest

from tests.unit.sampled import Recorder, go_on, program, said
from tracekit.capture.resources import Resources
from tracekit.capture.resources.files import Missing
from tracekit.capture.resources.throttle import Throttle
from tracekit.units import format_ns

pytestmark = pytest.mark.usefixtures("own_proc")


METRICS = Path(__file__).parents[2] / "docs" / "metrics.md"


TARGET_GAUGES = {"rss", "threads", "fds", "processes"}


def descendants(pid):
    """What the kernel side keeps: the tgids of a tree that are alive."""
    try:
        found = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.NoSuchProcess:
        return []
    return [pid for pid in found if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]


def test_the_first_sample_has_only_gauges_and_the_second_all():
    """A counter since boot is no increase of the first interval."""
    with program("say(); wait()") as process:
        said(process)
        resources = Resources(lambda: [process.pid], os.getpid())

        first = resources.sample()
        time.sleep(0.05)
        second = resources.sample()

    assert {series.kind for series, _ in first} == {"gauge"}
    assert {"io.read", "io.write", "psi", "host.cpu", "cost.collector"} <= {series.metric for series, _ in second}
    assert not {"host.cpu", "host.steal"} & {series.metric for series, _ in first}


def test_every_series_is_one_of_the_documented_metrics():
    """docs/metrics.md is the contract: metric, kind and unit."""
    documented = METRICS.read_text()

    resources = Resources(lambda: [os.getppid()], os.getpid())
    resources.sample()
    time.sleep(0.05)

    for series, value in resources.sample():
        section = documented.split("## Counters")[1] if series.kind == "counter" else documented.split("## Gauges")[1]
        row = next(line for line in section.splitlines() if f"`{series.metric}`" in line)
        assert series.unit in row
        assert {name for name, _ in series.labels} <= set(re.findall(r"\w+", row.split("|")[2]))
        assert value >= 0


def test_io_of_a_process_is_what_its_threads_did(tmp_path):
    """Of every thread, once, an ended one's too; what was done before the attach does not count."""
    with program(f"""
        import threading
        say(write("{tmp_path}/before"))

        def work():
            say(write("{tmp_path}/thread", 3_000_000))
            wait()

        wait()
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        say(write("{tmp_path}/main", 1_000_000))
        wait()
        """) as process:
        before = int(said(process))
        recorder = Recorder(lambda: [process.pid])
        go_on(process)
        of_thread = int(said(process))
        recorder.sample()
        assert recorder.totals["io.write"] == of_thread
        go_on(process)
        of_main = int(said(process)) - before

        recorder.sample().sample()

    assert recorder.totals["io.write"] == of_thread + of_main
    assert before == 0 or of_thread >= 3_000_000 > of_main >= 1_000_000


def test_gauges_of_a_process_are_what_psutil_says():
    """Memory, threads and descriptors, against a second reader."""
    with program(
        "import threading; held = [threading.Thread(target=wait) for _ in range(3)];"
        "[t.start() for t in held]; files = [open('/dev/null') for _ in range(11)]; say(); wait()"
    ) as process:
        said(process)
        second = psutil.Process(process.pid)

        recorder = Recorder(lambda: [process.pid])

        assert recorder.last["threads"] == second.num_threads() == 4
        assert recorder.last["fds"] == second.num_fds() == 14
        assert recorder.last["rss"] == pytest.approx(second.memory_info().rss, rel=0.02)
        assert recorder.last["processes"] == 1
        go_on(process)


def test_a_child_is_counted_once_though_its_parent_is_given_its_use_again(tmp_path):
    """Reaping adds a child's I/O to its parent: it was counted as the child's."""
    with program(f"""
        wait()
        if os.fork() == 0:
            say(write("{tmp_path}/file"))
            wait()
            os._exit(0)
        os.wait()
        say(open("/proc/self/io").read().split("write_bytes: ")[1].split()[0])
        wait()
        """) as process:
        recorder = Recorder(lambda: descendants(process.pid))
        go_on(process)
        written = int(said(process))
        recorder.sample()
        assert recorder.totals["io.write"] == written
        go_on(process)
        assert int(said(process)) == written, "the parent has it too"

        recorder.sample().sample()

    assert recorder.totals["io.write"] == written


def test_what_was_done_before_the_attach_comes_in_by_no_reaping(tmp_path):
    """A child that lived before the attach and was never read leaves its I/O to its parent: not of this recording."""
    with program(f"""
        if os.fork() == 0:
            say(write("{tmp_path}/file"))
            wait()
            os._exit(0)
        os.wait()
        say(open("/proc/self/io").read().split("write_bytes: ")[1].split()[0])
        wait()
        """) as process:
        written = said(process)
        recorder = Recorder(lambda: [process.pid])  # as if the budget had not been enough for the child
        go_on(process)
        assert said(process) == written, "the parent has it now"

        recorder.sample()

    assert recorder.totals["io.write"] == 0


def test_a_zombie_keeps_its_use_and_is_no_process(tmp_path):
    """A dead child that nobody reaped yet: its last moments count, its place in the gauges is gone."""
    with program(f"""
        say()
        wait()
        say(write("{tmp_path}/file"))
        """) as process:
        said(process)
        recorder = Recorder(lambda: [process.pid])
        go_on(process)
        written = int(said(process))
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

        recorder.sample()

    assert recorder.totals["io.write"] == written
    assert not TARGET_GAUGES & recorder.last.keys()


def test_what_dead_processes_did_stays_counted(tmp_path):
    """A process that has gone between two calls is no error, and takes nothing away."""
    with program(f"""
        say()
        wait()
        say(write("{tmp_path}/file"))
        wait()
        """) as process:
        said(process)
        recorder = Recorder(lambda: [process.pid])
        go_on(process)
        written = int(said(process))
        recorder.sample()

    recorder.sample()

    assert recorder.totals["io.write"] == written
    assert not [line for line in recorder.resources.missing if "io" in line.partition(":")[0]]


def test_a_target_without_a_process_has_no_gauges():
    """Nothing was measured: a zero would be the least of every recording that outlives its target."""
    with program("say(); wait()") as process:
        said(process)
        recorder = Recorder(lambda: descendants(process.pid))
        assert recorder.last.keys() >= TARGET_GAUGES

    recorder.sample()

    assert not TARGET_GAUGES & recorder.last.keys()


def test_a_name_cannot_forge_the_fields_after_it():
    """A process may call itself `) Z 1 1`; its numbers are still its own."""
    with program("open('/proc/self/comm', 'w').write(') Z 1 (a b) 7'); say(); wait()") as process:
        said(process)

        recorder = Recorder(lambda: [process.pid])

    assert (recorder.last["processes"], recorder.last["threads"]) == (1, 1)


def test_tracekit_is_cost_and_never_target():
    """With `--all` the collector is in the tree; its own time must not count twice."""
    recorder = Recorder(lambda: [os.getpid()])
    started = time.process_time()
    while time.process_time() < started + 0.1:
        pass

    recorder.sample()

    assert not TARGET_GAUGES & recorder.last.keys()
    assert recorder.totals["cost.collector"] >= 0.1e9
    assert recorder.last["cost.rss"] == pytest.approx(psutil.Process().memory_info().rss, rel=0.05)


def test_another_user_is_told_what_permission_lacks():
    """Without CAP_SYS_PTRACE the I/O of others is left out, not given as zero; descriptors are before Linux 6.2."""
    if os.geteuid():
        pytest.skip("needs root to become another user")
    script = dedent(f"""
        import os
        from tracekit.capture.resources import Resources
        resources = Resources(lambda: [{os.getppid()}], os.getpid())
        resources.sample()
        print(*sorted({{series.metric for series, _ in resources.sample()}}))
        print(*resources.missing, sep="\\n")
        """)
    fds_need_permission = not Path("/proc/self/fd").stat().st_size

    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-c", script],
        cwd=METRICS.parents[1], capture_output=True, text=True, check=True,
    )  # fmt: skip

    metrics, *missing = [line for line in done.stdout.splitlines() if not line.startswith("gpu:")]
    assert {"rss", "threads", "processes"} <= set(metrics.split())
    assert not {"io.read", "io.write"} & set(metrics.split())
    assert ("fds" in metrics.split()) is not fds_need_permission
    assert [line.partition(":")[0] for line in missing] == ["io.read, io.write", "fds"][: 1 + fds_need_permission]
    assert all("CAP_SYS_PTRACE" in line for line in missing)


def test_a_process_that_ends_denies_nothing_of_the_others():
    """A zombie belongs to root, whoever started it: its I/O cannot be read, that of the others still can."""
    if os.geteuid():
        pytest.skip("needs root to become another user")
    script = dedent("""
        import os, subprocess
        from tracekit.capture.resources import Resources
        child = subprocess.Popen(["true"])
        sleeper = subprocess.Popen(["sleep", "60"])
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        resources = Resources(lambda: [child.pid, sleeper.pid], os.getpid())
        resources.sample()
        print(*sorted({series.metric for series, _ in resources.sample()}))
        print(*resources.missing, sep="\\n")
        sleeper.kill()
        """)

    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-c", script],
        cwd=METRICS.parents[1], capture_output=True, text=True, check=True,
    )  # fmt: skip

    metrics, *missing = [line for line in done.stdout.splitlines() if not line.startswith("gpu:")]
    assert {"io.read", "io.write", "fds"} <= set(metrics.split())
    assert missing == []


def test_importing_is_cheap():
    """The collector is attached before psutil is imported, and never imports numpy."""
    script = "import sys, tracekit.capture.resources; print({'psutil', 'numpy'} & set(sys.modules))"

    done = subprocess.run(
        [sys.executable, "-c", script], cwd=METRICS.parents[1], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "set()"


def test_a_tick_with_five_processes_costs_under_two_milliseconds():
    """The budget of one tick; CPU time, the least of 20 as other work disturbs caches."""
    sleepers = [subprocess.Popen(["sleep", "60"]) for _ in range(5)]
    resources = Resources(lambda: [sleeper.pid for sleeper in sleepers], os.getpid())
    resources.sample()
    costs = []
    try:
        for _ in range(20):
            before = time.thread_time_ns()
            resources.sample()
            costs.append(time.thread_time_ns() - before)
    finally:
        for sleeper in sleepers:
            sleeper.send_signal(signal.SIGKILL)
            sleeper.wait()

    assert min(costs) < 2_000_000, f"a tick took {format_ns(min(costs))}"


@pytest.mark.parametrize("odd", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2003", "\r", ":", " - "])
def test_a_group_may_have_any_name(tmp_path: Path, odd: str) -> None:
    """Who has a group of their own names those below it: Python knows more ends of lines than the kernel."""
    name = f"a{odd}b"
    group = tmp_path / "cgroup" / name
    group.mkdir(parents=True)
    (group / "cpu.stat").write_text("nr_periods 3\nnr_throttled 2\nthrottled_usec 5\n")
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/7").mkdir()
    mounts = f"9 1 0:2 / /x{odd.replace(' ', '_')} rw - ext4 a rw\n9 1 0:3 / /cgroup rw - cgroup2 c rw\n"
    (tmp_path / "proc/self/mountinfo").write_bytes(mounts.encode())
    (tmp_path / "proc/7/cgroup").write_bytes(f"0::/{name}\n".encode())
    throttle = Throttle(tmp_path, Missing())

    throttle.sample([7])
    (group / "cpu.stat").write_text("nr_periods 4\nnr_throttled 3\nthrottled_usec 9\n")

    assert {series.metric: value for series, value in throttle.sample([7])} == {
        "throttle.time": 4000,
        "throttle.periods": 1,
    }
