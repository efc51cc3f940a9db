"""tracekit report: one screen, and no number that was not measured."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests import golden
from tests.sample import HOST, SECOND
from tests.unit.recordings import Content, write
from tracekit.analysis import failures, saturation, spawns, use, walltime
from tracekit.analysis.summary import Samples, Summary, supported, totals
from tracekit.histogram import of_values
from tracekit.records import Host, InFlight, Loss, Process, Series, Target, labels_of
from tracekit.report import own, text
from tracekit.report.terminal import bar, columns_of, fit, fit_end, pad

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.conftest import Run

HOSTILE = "\x1b[2J\u202e名前\x07" + "x" * 90
MS = 10**6


def summary(histograms: dict[tuple[str, str], list[int]] | None = None, **more: object) -> Summary:
    """A summary of 10 s; histograms by (metric, role)."""
    parts = {
        Series(metric, labels_of({"role": role}), "histogram", "ns"): of_values(np.array(values, dtype=np.uint64))
        for (metric, role), values in (histograms or {}).items()
    }
    return Summary(10 * SECOND, histograms=parts, **more)


def counters(*rows: tuple[str, dict[str, str], int]) -> dict[Series, int]:
    return {Series(metric, labels_of(labels), "counter", "count"): value for metric, labels, value in rows}


def test_text_of_the_sample(run: Run, sample: Path) -> None:
    """The whole screen, exactly."""
    code, out, err = run("report", sample)

    golden.check("report.txt", out)
    assert (code, err) == (0, "")


def test_text_of_one_role(run: Run, sample: Path) -> None:
    """Other roles are gone; the share of calls, which are not counted by role, is not invented."""
    code, out, _ = run("report", sample, "--role", "supervisor")

    golden.check("report-role.txt", out)
    assert code == 0
    assert "fsync" not in out


def test_an_unknown_role_is_answered_with_those_there_are(run: Run, sample: Path) -> None:
    """A typo is usage, and the answer is in the message."""
    code, out, err = run("report", sample, "--role", "wroker")

    assert (code, out) == (2, "")
    assert "one of: supervisor, worker" in err


def test_all_errors_ranks_the_usual_ones_too(run: Run, sample: Path) -> None:
    """Folded is not hidden: --all-errors puts them where their counts belong."""
    _, out, _ = run("report", sample, "--all-errors")

    rows = re.findall(r"^  (\w+) +(E\w+) +([\d,]+)", out, re.MULTILINE)
    assert rows == [
        ("recvfrom", "EAGAIN", "29,910"),
        ("openat", "ENOENT", "3,030"),
        ("connect", "ECONNREFUSED", "90"),
    ]
    assert "usual" not in out


def test_what_was_not_measured_is_no_zero(run: Run, tmp_path: Path) -> None:
    """A recording without any series says `not measured` and prints no count and no percentage of its own."""
    path = write(tmp_path / "bare.tk", Content(host=Host("box", "6.1", "x86_64", 2, "", 0, "", "0.1.0")))

    code, out, _ = run("report", path)

    body = out.split("Saturation", 1)[1]
    assert code == 0
    assert not re.search(r"\b0\b", body)
    assert body.count("not measured") >= 12


def test_measured_and_nothing_there_is_said(run: Run, tmp_path: Path) -> None:
    """With the tiers on, no failure and no spawn are facts."""
    host = Host("box", "6.1", "x86_64", 2, "", 0, "", "0.1.0", ("sched", "errors"))
    path = write(tmp_path / "quiet.tk", Content(host=host))

    _, out, _ = run("report", path)

    assert "Failed system calls  none" in out
    assert "New processes  none was started" in out
    assert "Longest blocked  in no system call" in out


def test_what_is_missing_is_said_to_its_end(run: Run, tmp_path: Path) -> None:
    """What would help stands at the end of a long line, so that is wrapped and not cut."""
    why = "spans of some processes: no permission to look for them (other users' processes need CAP_SYS_PTRACE)"
    path = write(tmp_path / "poor.tk", Content(host=Host("box", "6.1", "x86_64", 2, "", 0, "", "0.1.0", (), (why,))))

    _, out, _ = run("report", path)

    assert why in " ".join(out.split())


def test_hostile_names_stay_on_the_screen(run: Run, tmp_path: Path) -> None:
    """Names chosen by traced programs neither move the cursor nor pass column 80."""
    long = {"role": HOSTILE, "syscall": HOSTILE, "errno": HOSTILE, "how": HOSTILE}
    waits = [InFlight(2**22, 2**22, HOSTILE, HOSTILE + "t", "blocked", HOSTILE, HOSTILE, 10**15)]
    hour = 3599 * SECOND
    content = Content(
        histograms=[(m, long, [hour] * 2000) for m in ("runq.wait", "oncpu", "blocked", "spawn.ready")]
        + [(m, {"role": "2" + HOSTILE}, [hour] * 2000) for m in ("oncpu", "runq.wait")],
        counters=[
            ("syscall.errors", long, 2**53),
            ("syscall.errors", long | {"errno": "EAGAIN"}, 2**53),
            ("spawn.count", long, 999_999),
            ("spawn.failed", long, 999_999),
            *[
                ("psi", {"resource": r, "kind": k}, 1_234_567)
                for r in ("cpu", "memory", "io")
                for k in ("some", "full")
            ],
            ("switches", {"kind": "voluntary"}, 10**15),
            ("switches", {"kind": "involuntary"}, 10**15),
            ("migrations", {}, 10**15),
            ("throttle.time", {"cgroup": HOSTILE}, 10**15),
            ("host.disk.read", {"disk": HOSTILE}, 10**17),
            ("host.disk.write", {"disk": HOSTILE}, 10**17),
            ("host.net.sent", {"nic": HOSTILE}, 10**17),
            ("host.net.received", {"nic": HOSTILE}, 10**17),
        ],
        gauges=[("host.cpu", {"cpu": HOSTILE}, 0.999), ("cpu", {}, 127.123), ("rss", {}, 10**14)],
        stacks={(HOSTILE, HOSTILE, "blocked", HOSTILE, HOSTILE): 10**18},
        in_flight=waits,
        losses=[Loss(HOSTILE, 10**15)],
        host=Host(HOSTILE, HOSTILE, "x86_64", 512, HOSTILE, 10**13, "", "0.1.0", (), (HOSTILE,)),
        target=Target("run", command=(HOSTILE, "a b")),
    )
    path = write(tmp_path / "hostile.tk", content)

    for words in ((), ("--role", HOSTILE)):
        code, out, _ = run("report", path, *words)

        assert code == 0
        assert [line for line in out.splitlines() if columns_of(line) > 80] == []
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", out)


def test_a_recording_that_grows_says_so(run: Run, tmp_path: Path) -> None:
    """What is only known at the end is not shown as nothing."""
    path = write(tmp_path / "open.tk", Content(finish=False))

    _, out, _ = run("report", path)

    assert "NOT COMPLETE" in out
    assert "known when the recording is complete" in out


def test_no_interval_is_no_report(run: Run, tmp_path: Path) -> None:
    """Text has nothing to say of it; JSON says how many intervals there are."""
    path = write(tmp_path / "empty.tk", Content(intervals=0))

    code, out, err = run("report", path)
    as_json = json.loads(run("report", path, "--json")[1])

    assert (code, out) == (3, "")
    assert "no interval was recorded" in err
    assert as_json["intervals"] == 0
    assert as_json["cost"]["collector_share"] is None


def test_json_is_the_contract(run: Run, sample: Path) -> None:
    """Keys, units and sums that scripts rely on."""
    document = json.loads(run("report", sample, "--json")[1])

    promised = (
        "target host intervals start_ns duration_ns complete series counters gauges processes in_flight loss cost"
    )
    assert set(promised.split()) <= set(document)
    assert (document["intervals"], document["duration_ns"]) == (30, 30 * SECOND)
    assert document["target"]["pids"] == [4242]
    waits = next(s for s in document["series"] if s["metric"] == "runq.wait" and s["labels"] == {"role": "worker"})
    assert (waits["unit"], waits["count"]) == ("ns", 30 * 397)
    assert waits["min"] <= waits["quantiles"]["0.5"] <= waits["quantiles"]["0.99"] <= waits["max"] < waits["sum"]
    refused = next(c for c in document["counters"] if c["labels"].get("errno") == "ECONNREFUSED")
    assert (refused["metric"], refused["value"], refused["unit"]) == ("syscall.errors", 90, "count")
    cpu = next(g for g in document["gauges"] if g["metric"] == "cpu")
    assert (cpu["last"], cpu["max"], cpu["unit"]) == (0.41, 0.41, "share")
    assert document["loss"] == [{"reason": "ring_full", "count": 13}]
    assert document["cost"]["collector_ns"] == 30 * 2_100_000
    assert document["in_flight"][0]["age_ns"] == 29 * SECOND
    assert len(document["processes"]) == 30


def test_output_fits_a_terminal_without_utf8(sample: Path) -> None:
    """Bars and signs have look-alikes in ASCII; nothing raises."""
    words = [sys.executable, "-m", "tracekit", "report", str(sample)]

    done = subprocess.run(words, env={"PYTHONIOENCODING": "ascii"}, capture_output=True, text=True, check=True)

    assert done.stdout.isascii()
    assert "67.1 us" in done.stdout
    assert "###" in done.stdout


def test_columns_of_wide_and_combining_characters() -> None:
    """Two columns for each ideograph, none for a combining mark, and a cut never splits one."""
    assert columns_of("名é́") == 3
    assert fit("名前名前", 5) == "名前…"
    assert fit_end("名前名前", 5) == "…名前"
    assert (fit_end("/run/a", 6), fit_end("/run/ab", 6), fit_end("/\n", 4)) == ("/run/a", "…un/ab", "…x0a")
    assert pad("名", 4, ">") == "  名"


def test_a_bar_of_something_is_never_empty() -> None:
    """Zero is told from a little, and the whole from more than that."""
    assert bar(0, 10) == ""
    assert bar(1e-9, 10) == "▏"
    assert bar(0.5, 10) == "█" * 5
    assert bar(1.7, 10) == "█" * 10


@pytest.mark.parametrize(
    ("waited", "ran", "level"),
    [(0, 100, "fine"), (1, 99, "fine"), (2, 98, "pressure"), (9, 91, "pressure"), (10, 90, "saturated")],
)
def test_cpu_is_judged_by_waiting(waited: int, ran: int, level: str) -> None:
    """Share of waiting in the time that was wanted, with its limits."""
    found = saturation.cpu(summary({("runq.wait", "a"): [waited * MS], ("oncpu", "a"): [ran * MS]}))

    assert (found.level, found.wait_share) == (level, waited / 100)


def test_throttling_saturates_without_a_queue() -> None:
    """A cgroup's limit takes CPU time away though no run queue is long."""
    found = saturation.cpu(summary({("oncpu", "a"): [SECOND]}, counters=counters(("throttle.time", {}, SECOND))))

    assert (found.level, found.throttled_share) == ("saturated", 0.5)


def test_host_pressure_does_not_judge_a_target_that_never_waited() -> None:
    """Others on the host may stall; the verdict is about the target, unless nothing else is known."""
    stalled = counters(("psi", {"resource": "cpu", "kind": "some"}, 9 * SECOND))

    own = saturation.cpu(summary({("oncpu", "a"): [SECOND]}, counters=stalled))
    unknown = saturation.cpu(summary(counters=stalled))

    assert (own.level, own.stalled) == ("fine", 0.9)
    assert unknown.level == "saturated"


def test_the_longest_queue_is_named() -> None:
    """One overloaded CPU hides in the mean of all."""
    parts = {
        Series("runq.length", (("cpu", cpu),), "histogram", "tasks"): of_values(np.array(values, dtype=np.uint64))
        for cpu, values in {"0": [0, 0, 0, 0], "1": [2, 4, 2, 4]}.items()
    }

    found = saturation.cpu(Summary(SECOND, histograms=parts))

    assert found.longest == saturation.Queue("1", 3.0, 4)
    assert found.length.mean == 1.5


@pytest.mark.parametrize(
    ("syscall", "errno", "noise"),
    [
        ("recvfrom", "EAGAIN", True),
        ("clone", "EAGAIN", False),  # a limit of processes
        ("read", "EINTR", True),
        ("openat", "ENOENT", True),
        ("execve", "ENOENT", True),
        ("unlink", "ENOENT", False),
        ("futex", "ETIMEDOUT", True),
        ("connect", "ETIMEDOUT", False),
        ("ioctl", "ENOTTY", True),
        ("readlink", "EINVAL", True),
        ("mmap", "EINVAL", False),
        ("wait4", "ECHILD", True),
        ("openat", "EACCES", False),
        ("write", "ENOSPC", False),
    ],
)
def test_noise_depends_on_the_call(syscall: str, errno: str, noise: bool) -> None:
    """The same errno is everyday from one call and a failure from another."""
    assert failures.is_noise(syscall, errno) is noise


def test_failures_of_all_roles_add_up() -> None:
    """Ranked by count over roles, with the share of all calls of that system call."""
    table = counters(
        ("syscall.errors", {"syscall": "openat", "errno": "EACCES", "role": "a"}, 3),
        ("syscall.errors", {"syscall": "openat", "errno": "EACCES", "role": "b"}, 4),
        ("syscall.errors", {"syscall": "read", "errno": "EIO", "role": "a"}, 5),
        ("syscall.calls", {"syscall": "openat"}, 70),
    )

    found = failures.failures(summary(counters=table))

    assert found == [
        failures.Failure("openat", "EACCES", 7, 0.1, False, ("b", "a")),
        failures.Failure("read", "EIO", 5, None, False, ("a",)),
    ]


def test_spawns_count_those_that_are_not_ready_yet() -> None:
    """The counter waits for readiness, the process table does not: the larger one is nearer to the truth."""
    young = [Process(number, 1, "a", "spawned", number) for number in range(1, 4)]
    killed = Process(9, 1, "a", "found", 0, signal=9, oom=True)

    found = spawns.spawns(summary(counters=counters(("spawn.count", {"role": "a"}, 2)), processes=[*young, killed]))

    assert found
    assert (found.count, found.oom) == (3, 1)


def test_wall_time_is_whole() -> None:
    """Every nanosecond of the stacks is in one part; on-CPU and run queue lead."""
    stacks = {
        ("a", "t", "blocked", "disk", "read"): 50,
        ("b", "t", "blocked", "disk", "-"): 5,
        ("a", "t", "blocked", "lock", "futex"): 25,
        ("a", "t", "run queue"): 1,
        ("a", "t", "on-CPU"): 19,
        ("a", "t", "blocked", "other", "-"): 0,
    }
    weights = {frames: type("W", (), {"weight": weight})() for frames, weight in stacks.items()}

    found = [(part.name, part.weight_ns, part.share) for part in walltime.parts(summary(stacks=weights))]

    assert found == [("on-CPU", 19, 0.19), ("run queue", 1, 0.01), ("disk", 55, 0.55), ("lock", 25, 0.25)]


def test_idle_waits_do_not_hide_the_others() -> None:
    """A thread pool parked in poll is older than the lock that matters."""
    poll = [InFlight(n, 1, "a", "t", "blocked", "poll", "epoll_wait", n) for n in (80, 90)]
    lock = [InFlight(n, 1, "a", "t", "blocked", "lock", "futex", n) for n in (10, 20)]
    runs = InFlight(7, 1, "a", "t", "running", "", "", 99)

    waits, idle = walltime.open_waits([*poll, *lock, runs])

    assert [wait.age_ns for wait in waits] == [20, 10]
    assert [wait.age_ns for wait in idle] == [90, 80]


def test_gauges_skip_intervals_without_a_sample() -> None:
    """A missing sample is neither zero nor the last one."""
    gauge, blank = (Series(name, (), "gauge", "bytes") for name in ("rss", "none"))
    values = {gauge: np.array([1.0, 3.0, np.nan]), blank: np.array([np.nan] * 3)}

    _, gauges = totals(values)

    assert list(gauges) == [gauge]
    assert (gauges[gauge].last, gauges[gauge].mean, gauges[gauge].min, gauges[gauge].max) == (3, 2, 1, 3)


@pytest.mark.parametrize(("q", "enough"), [(0.5, 2), (0.9, 10), (0.99, 100), (0.999, 1000)])
def test_quantiles_need_events(q: float, enough: int) -> None:
    """n >= 1 / (1 - q), exactly, though 1 - 0.9 is not a tenth in floating point."""
    assert supported(q, enough)
    assert not supported(q, enough - 1)


def test_the_sample_host_is_the_one_shown(run: Run, sample: Path) -> None:
    """The head names the machine."""
    _, out, _ = run("report", sample)

    assert HOST.hostname in out.splitlines()[2]


def test_an_idle_disk_is_not_an_unmeasured_one() -> None:
    """Nothing moved, and nothing was looked at, are two answers."""
    still = counters(("host.disk.read", {"disk": "vda"}, 0), ("host.net.sent", {"nic": "lo"}, 0))

    assert (use.disks(summary(counters=still)), use.nics(summary(counters=still))) == ([], [])
    assert (use.disks(summary()), use.nics(summary())) == (None, None)


def test_the_busiest_disk_is_first() -> None:
    """Rates are per second of the recording, shares of its length."""
    table = counters(
        ("host.disk.read", {"disk": "a"}, 50),
        ("host.disk.busy", {"disk": "a"}, SECOND),
        ("host.disk.read", {"disk": "b"}, 0),
        ("host.disk.busy", {"disk": "b"}, 5 * SECOND),
    )

    assert use.disks(summary(counters=table)) == [use.Disk("b", 0.5, 0, None), use.Disk("a", 0.1, 5, None)]


def test_gpus_have_rows_that_fit() -> None:
    """In the order of their numbers; what was not measured is left out of the row."""
    rows = [
        ("gpu.utilisation", {"gpu": "0"}, 0.999),
        ("gpu.process.utilisation", {"gpu": "0"}, 0.876),
        ("gpu.memory.used", {"gpu": "0"}, 79.9e9),
        ("gpu.memory.available", {"gpu": "0"}, 5.1e9),
        ("gpu.power", {"gpu": "0"}, 699.4),
        ("gpu.throttled", {"gpu": "0", "reason": "power brake"}, 0.123),
        ("gpu.throttled", {"gpu": "0", "reason": "thermal"}, 0),
        ("gpu.throttled", {"gpu": "10", "reason": "thermal"}, 0),
        ("gpu.power", {"gpu": "2"}, 70),
    ]
    _, table = totals({Series(name, labels_of(of), "gauge", ""): np.array([value]) for name, of, value in rows})

    lines = [line for line in text._use(summary(gauges=table), 0) if "GPU" in line]

    assert max(map(len, lines)) <= 80
    assert [" ".join(line.split()) for line in lines] == [
        "GPU 0 99.9 %, target 87.6 %, memory 94 %, 699 W power brake 12.3 % -",
        "GPU 2 70 W - -",
        "GPU 10 not throttled -",
    ]
    assert use.gpus(summary()) == []


def test_memory_is_judged_at_its_fullest() -> None:
    """The mean hides the minute in which it was full."""
    free = Series("host.memory.available", (), "gauge", "bytes")
    _, gauges = totals({free: np.array([900.0, 100.0, 800.0])})

    assert use.memory(summary(gauges=gauges), 1000) == use.Memory(900, 0.9, None)
    assert use.memory(summary(), 1000) is None


def test_the_program_s_own_numbers_have_a_table_that_fits() -> None:
    """Counters and marks by role, gauges with their labels; what tracekit counts of itself is not the program's."""
    counted = counters(
        ("app.hits", {"role": "worker", "cache": HOSTILE}, 1230),
        ("mark", {"role": "agent", "mark": "ready"}, 40),
        ("app.tracekit.hook_failed", {"role": "agent", "hook": "x", "why": "y"}, 3),
        *((f"app.c{number}", {"role": "worker"}, 7) for number in range(9)),
    )
    depth = Series("app.queue.depth", labels_of({"role": "worker", "lane": "slow"}), "gauge", "count")
    of = {depth: Samples(2.0, 0.5, 0.0, 9.0)}

    lines = own.section(summary(counters=counted, gauges=of))

    assert own.section(summary()) == []
    assert not any("hook_failed" in line for line in lines)
    assert all(columns_of(line) <= 80 and "\x1b[2J" not in line for line in lines)
    assert [line.split() for line in lines if "ready" in line or "depth" in line or "more" in line] == [
        ["mark", "ready", "40", "4", "agent"],
        ["and", "3", "more:", "--json", "has", "all"],
        ["queue.depth", "lane=slow", "0.5", "9", "2", "worker"],
    ]


def test_loss_is_loud_and_says_what_it_means(run: Run, tmp_path: Path) -> None:
    """A report that is not whole says so, with the consequence where it is known."""
    path = write(tmp_path / "lossy.tk", Content(losses=[Loss("ring", 3), Loss("new_reason", 2)]))

    _, out, _ = run("report", path)

    assert "LOST 5 events in 1 of 1 intervals ring 3 (processes not seen), new_reason 2" in " ".join(out.split())
    assert "nothing was lost" not in out


def test_the_report_has_a_line_for_a_hook_that_failed(run: Run, tmp_path: Path) -> None:
    """One for each, however many roles met it; its text is the program's, and made harmless."""
    why = {"hook": "redis.client", "why": "LookupError: \x1b[31m"}
    failed = [("app.tracekit.hook_failed", {"role": role, **why}, 3.0) for role in ("a", "b")]
    many = [("app.tracekit.hook_failed", {"hook": f"z:{n}", "why": "no"}, 1.0) for n in range(7)]
    file = write(tmp_path / "x.tk", Content(counters=failed + many))

    _, out, _ = run("report", file)

    lines = out.splitlines()
    assert [line for line in lines if "redis" in line] == [r"  spans of redis.client: LookupError: \x1b[31m"]
    assert "  spans of 2 more" in lines
