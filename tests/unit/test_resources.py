"""What the collector samples, against what the kernel and the processes themselves say."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

import psutil
import pytest

from tracekit.capture.resources import Resources
from tracekit.capture.resources.files import Missing
from tracekit.capture.resources.throttle import Throttle
from tracekit.units import format_ns

METRICS = Path(__file__).parents[2] / "docs" / "metrics.md"


@pytest.fixture(autouse=True)
def own_proc(monkeypatch):
    """psutil keeps the path of /proc for the whole process; tests give it others."""
    monkeypatch.setattr(psutil, "PROCFS_PATH", "/proc")


class Recorder:
    """Samples a tree and adds up what it is given, as a recording would."""

    def __init__(self, tree, root=Path("/"), budget_ns=10**10):
        self.resources = Resources(tree, os.getpid(), root, budget_ns)
        self.totals = {}
        self.last = {}
        self.sample()

    def sample(self):
        self.last = {}
        for series, value in self.resources.sample():
            self.last[series.metric] = value
            if series.kind == "counter":
                self.totals[series.metric] = self.totals.get(series.metric, 0) + value
        return self


@contextmanager
def program(text):
    """Run a Python program that is told to go on by a line, and tells where it is by one."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    process = subprocess.Popen([sys.executable, "-S", "-c", PRELUDE + dedent(text)], **pipes)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def said(process):
    return process.stdout.readline().strip()


def go_on(process):
    process.stdin.write("\n")


TARGET_GAUGES = {"rss", "threads", "fds", "processes"}
PRELUDE = """
import os, signal, sys, time

def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass

def write(path, size=5_000_000):
    # to the disk; tells how much of it the kernel counted: nothing, where the folder is in memory
    with open(path, "wb") as file:
        file.write(b"x" * size)
        file.flush()
        os.fsync(file.fileno())
    return int(open("/proc/thread-self/io").read().split("write_bytes: ")[1].split()[0])

def say(text=""):
    print(text, flush=True)

def wait():
    sys.stdin.readline()
"""


def descendants(pid):
    """What the kernel side keeps: the tgids of a tree that are alive."""
    try:
        found = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.NoSuchProcess:
        return []
    return [pid for pid in found if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]


# --- the target -----------------------------------------------------------------------------------------------------


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


# --- the target, on a made-up /proc ---------------------------------------------------------------------------------


def put(root, tgid, *, start=1, io=(0, 0), threads=1):
    """Write the files of a process into *root*; all its I/O is that of its first thread."""
    directory = root / "proc" / str(tgid)
    (directory / "fd").mkdir(parents=True, exist_ok=True)
    thread = directory / "task" / str(tgid)
    thread.mkdir(parents=True, exist_ok=True)
    fields = ["S", 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 20, 0, threads, 0, start, 0, 0]
    (directory / "stat").write_text(f"{tgid} (a) {' '.join(map(str, fields))}\n")
    (directory / "statm").write_text("9 3 0 0 0 0 0\n")
    names = ("rchar", "wchar", "syscr", "syscw", "read_bytes", "write_bytes", "cancelled_write_bytes")
    values = (0, 0, 0, 0, *io, 0)
    (thread / "io").write_text("".join(f"{name}: {value}\n" for name, value in zip(names, values, strict=True)))
    return directory


def machine(root):
    """A root with the files of the collector and nothing else."""
    put(root, os.getpid())
    return root


def test_an_id_used_again_is_another_process(tmp_path):
    """pid 7 dies at 1,000,000 bytes, another pid 7 starts: its bytes count from zero, and never below."""
    root = machine(tmp_path)
    put(root, 7, io=(0, 1_000_000), start=1)
    recorder = Recorder(lambda: [7], root=root)

    put(root, 7, io=(0, 3_000), start=10**12)
    recorder.sample()

    assert recorder.totals["io.write"] == 3_000


def test_a_thread_id_used_again_takes_nothing_away(tmp_path):
    """What it did less than the one before it is no increase; what comes then is."""
    root = machine(tmp_path)
    put(root, 7, io=(0, 1000))
    recorder = Recorder(lambda: [7], root=root)
    put(root, 7, io=(0, 10))
    assert recorder.sample().totals["io.write"] == 0

    put(root, 7, io=(0, 33))
    recorder.sample()

    assert recorder.totals["io.write"] == 23


def test_a_thread_that_ends_while_it_is_read_is_no_error(tmp_path):
    """Its process goes on, and so do the other threads."""
    root = machine(tmp_path)
    (put(root, 7, threads=2) / "task/8").mkdir()
    recorder = Recorder(lambda: [7], root=root)

    put(root, 7, threads=2, io=(0, 23))
    recorder.sample()

    assert (recorder.totals["io.write"], recorder.last["processes"], recorder.last["threads"]) == (23, 1, 2)


def test_a_process_found_late_counts_from_when_it_was_found(tmp_path):
    """One that is older than the attach and joins the target later (a move into its cgroup) has a past."""
    root = machine(tmp_path)
    tree = []
    recorder = Recorder(lambda: tree, root=root)
    put(root, 7, io=(0, 1_000_000), start=1)
    tree.append(7)
    recorder.sample()

    put(root, 7, io=(0, 1_000_023), start=1)
    recorder.sample()

    assert recorder.totals["io.write"] == 23


def test_a_big_tree_is_visited_in_turns_and_adds_up(tmp_path):
    """A budget for one process a call: every one is visited in its turn, and nothing is lost or counted twice."""
    root = machine(tmp_path)
    for tgid in range(101, 112):
        put(root, tgid, io=(0, 1000), start=1)
    recorder = Recorder(lambda: range(101, 112), root=root, budget_ns=0)
    for _ in range(11):
        recorder.sample()
    assert recorder.last["rss"] == 11 * 3 * os.sysconf("SC_PAGE_SIZE")

    for tgid in range(101, 112):
        put(root, tgid, io=(0, 1007), start=1)
    sums = [recorder.sample().totals["io.write"] for _ in range(12)]

    assert sums == [*(7 * visited for visited in range(1, 12)), 77]
    assert recorder.last["processes"] == 11


def test_a_dead_process_has_no_turn(tmp_path):
    """Or it would be the one not visited for longest for ever, and the living would never be read again."""
    root = machine(tmp_path)
    put(root, 101)
    put(root, 102)
    tree = [101, 102]
    recorder = Recorder(lambda: tree, root=root, budget_ns=0).sample()
    shutil.rmtree(root / "proc/101")
    tree.remove(101)
    put(root, 102, io=(0, 23))

    recorder.sample().sample()

    assert recorder.totals["io.write"] == 23


def test_new_processes_come_first(tmp_path):
    """One that may be gone soon is read before those that are known."""
    root = machine(tmp_path)
    put(root, 101)
    tree = [101]
    recorder = Recorder(lambda: tree, root=root, budget_ns=0)

    put(root, 102, start=10**12, io=(0, 4096))
    tree.append(102)
    recorder.sample()

    assert recorder.totals["io.write"] == 4096


def test_hidden_processes_are_named_and_a_death_is_not(tmp_path):
    """Processes that live but are not in /proc, call after call, are hidden; gone once is gone."""
    root = machine(tmp_path)
    recorder = Recorder(lambda: [7], root=root)
    assert not [line for line in recorder.resources.missing if "hidepid" in line]

    recorder.sample()

    assert len([line for line in recorder.resources.missing if "hidepid" in line]) == 1
    assert not {"io.read", "io.write"} & recorder.last.keys()


def test_a_bare_machine_names_what_it_lacks_once(tmp_path):
    """No PSI, no cgroups, no host files: series are left out, each with one line."""
    recorder = Recorder(lambda: [os.getpid(), 7], root=machine(tmp_path))
    put(tmp_path, 7)
    recorder.sample()

    lines = recorder.sample().resources.missing

    assert len(lines) == len(set(lines))
    assert [line.partition(":")[0] for line in lines] == [
        "throttle.time, throttle.periods",
        *(f"psi ({name})" for name in ("cpu", "memory", "io")),
        "host.cpu, host.steal",
        "host.memory",
        "host.swap",
        "host.disk",
        "host.net",
        "gpu",
    ]
    assert set(recorder.last) == {
        "rss", "threads", "fds", "processes", "io.read", "io.write", "cost.rss", "cost.collector"
    }  # fmt: skip


# --- cost -----------------------------------------------------------------------------------------------------------


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
