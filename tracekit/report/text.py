"""The report as one screen of text: what matters first, and never a zero that was not measured."""

from __future__ import annotations

import shlex
from datetime import datetime, timezone
from textwrap import wrap
from typing import TYPE_CHECKING

import click

from tracekit.analysis import failures, saturation, shed, spawns, use, walltime
from tracekit.analysis.summary import quantile
from tracekit.report import db as db_text
from tracekit.report import own
from tracekit.report import spans as span_text
from tracekit.report.terminal import WIDTH, bar, fit, flow, heading, table
from tracekit.units import format_bytes, format_count, format_ns, format_share, format_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracekit.analysis.spans import Detail
    from tracekit.analysis.summary import Summary
    from tracekit.analysis.training import Impact
    from tracekit.histogram import Histogram
    from tracekit.recording.reader import Recording
    from tracekit.records import InFlight, Target

NOT_MEASURED = "not measured"
_GAP = 3 * WIDTH  # what is missing ends in what would help

_LEVELS = {"unknown": NOT_MEASURED, "fine": "not saturated", "pressure": "some pressure", "saturated": "SATURATED"}
_COLORS = {"unknown": None, "fine": "green", "pressure": "yellow", "saturated": "red"}
_LOSSES = {
    "task_state": "threads not seen",
    "wake": "wake-ups not seen, waits too long",
    "clock": "clocks disagreed, taken as 0 ns",
    "clamped": "too large, taken as 73 min",
    "ring": "processes not seen",
    "series": "without their labels",
    "names": "under `<other>`",
    "switch": "switches that the kernel did not report",
    "span": "spans that are not broken down",
    "connection": "connections to databases whose calls are not seen",
    "slow": "slow spans without a record of their own",
    "stack": "stacks that found no room",
    "span_stack": "spans whose stacks were given up before they ended",
    "wait_stack": "waits that went on at the end, without a stack",
    "span_read": "looks at a thread's span that failed",
    "probe": "processes whose spans could not be read",
    "probe_rows": "numbers or names of spans that make no sense",
    "probe_room": "errors or values that found no room in their process",
}
_ABSENT = "no NVIDIA device here"
"""How a line ends that tells of nothing there is to measure (capture/nvidia.py)."""
_ROWS = 6
_NOISE = 4
_GPUS = 8
_NAME = 20
_EVIDENCE = WIDTH - 25
_LEGEND = "`-`: not measured, or too few events for this quantile."


def report(
    recording: Recording, summary: Summary, impact: Impact | None = None, *, all_errors: bool = False
) -> list[str]:
    """
    Return the lines of the report, with the *impact* of evaluations on a training if it has both.

    With *all_errors* the usual failures are ranked with the others.
    """
    sections = [
        _head(recording, summary),
        _saturation(summary),
        [*span_text.section(summary), *span_text.beside(impact)],
        db_text.section(summary, recording.missing),
        own.section(summary),
        _walltime(summary),
        span_text.of_roles(summary),
        _blocked(summary),
        span_text.loops(summary),
        _failures(summary, all_errors),
        _spawns(summary),
        _use(summary, recording.host.memory_bytes),
        _in_flight(summary),
        _gaps([*filter(_is_gap, recording.missing), *_unhooked(summary)]),
        [*_loss(summary, len(recording.intervals)), *_shed(recording), _cost(summary), _LEGEND],
    ]
    return [line for section in sections if section for line in ("", *section)][1:]


def of_span(recording: Recording, summary: Summary, detail: Detail, *, all_errors: bool = False) -> list[str]:
    """Return the lines on the spans of one name: how long, what of, and what happened inside them."""
    new = spawns.spawns(detail.inside)
    sections = [
        _head(recording, summary),
        span_text.head(summary, detail),
        span_text.composition(detail.span),
        span_text.code(summary, detail),
        db_text.inside(detail),
        span_text.slowest(detail, recording.clocks, recording.start_ns),
        _failures(detail.inside, all_errors),
        _spawns(detail.inside) if new and new.count else [],
        _in_flight(detail.inside),
        [*_loss(summary, len(recording.intervals)), *_shed(recording), _LEGEND],
    ]
    return [line for section in sections if section for line in ("", *section)][1:]


def _head(recording: Recording, summary: Summary) -> list[str]:
    host = recording.host
    began_ns = recording.clocks.realtime_ns + recording.start_ns - recording.clocks.monotonic_ns
    began = datetime.fromtimestamp(began_ns // 10**9, tz=timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    machine = f"{host.hostname}: Linux {host.kernel}, {format_bytes(host.memory_bytes)}, {host.cpus} CPUs"
    lines = [
        heading(fit(_target(recording.target), WIDTH - 24), f"for {format_ns(recording.duration_ns)}"),
        f"{began}, {_ending(recording)}",
        fit(f"{machine} ({host.cpu_model or host.machine})", WIDTH),
    ]
    if summary.role:
        lines.append(f"only role {fit(summary.role, 24)}; resources, loss and cost are of everything")
    return lines


def _target(target: Target) -> str:
    if target.command:
        return f"ran {shlex.join(target.command)}"
    named = f"pid {', '.join(map(str, target.pids))}" if target.pids else ""
    name = named or target.comm or target.cgroup or "the whole system"
    return f"traced {name}" + (" and its children" if target.children and not target.everything else "")


def _ending(recording: Recording) -> str:
    number = len(recording.intervals)
    count = f"{number} interval{'' if number == 1 else 's'}"
    if recording.complete:
        return f"{count}, complete (ended by: {fit(str(recording.end.get('reason', 'unknown')), 24)})"
    return f"{count}, {click.style('NOT COMPLETE', fg='yellow')}: still growing, or the collector was killed"


def _saturation(summary: Summary) -> list[str]:
    lines = [heading("Saturation")]
    cpu = saturation.cpu(summary)
    lines += _judged("CPU", cpu.level, _cpu_evidence(cpu))
    for resource, name in (("memory", "memory"), ("io", "I/O")):
        found = saturation.pressure(summary, resource)
        lines += _judged(name, found.level, _stalls(found.some, found.full))
    return lines


def _judged(name: str, level: saturation.Level, evidence: list[str]) -> list[str]:
    word = click.style(f"{_LEVELS[level]:<15}", fg=_COLORS[level], bold=level == "saturated")
    first, *rest = evidence or [""]
    return [f"  {name:<8}{word}{first}".rstrip(), *(f"{'':25}{line}" for line in rest)]


def _stalls(some: float | None, full: float | None = None) -> list[str]:
    known = [f"{who} {format_share(share)}" for who, share in (("some", some), ("all", full)) if share is not None]
    return [f"host's tasks stalled: {', '.join(known)} of time"] if known else []


def _cpu_evidence(cpu: saturation.Cpu) -> list[str]:
    lines = []
    if cpu.wait_share is not None:
        lines.append(f"threads waited {format_share(cpu.wait_share)} of the time they wanted to run")
    if cpu.waits.count:
        marks = _spread(cpu.waits)
        lines += flow(["each wait " + marks[0], *marks[1:]], 0, _EVIDENCE)
    if cpu.longest:
        mean = f"mean {cpu.length.mean:.2f}, p99 {cpu.length.quantile(0.99)} tasks"
        lines.append(f"queue per CPU: {mean}; cpu {fit(cpu.longest.cpu, 4)}: {cpu.longest.mean:.2f}")
    if cpu.throttled_ns:
        periods = "" if cpu.periods is None else f" in {format_count(cpu.periods)} periods"
        lines.append(f"throttled by its cgroup: {format_ns(cpu.throttled_ns)}{periods}")
    return lines + _stalls(cpu.stalled)


def _walltime(summary: Summary) -> list[str]:
    parts = walltime.parts(summary)
    if not parts:
        return [heading("Where the time went", NOT_MEASURED)]
    whole = format_ns(sum(part.weight_ns for part in parts))
    lines = [heading("Where the time went", f"{whole} of threads' time, idle waits included")]
    rows = [["", "sum", "share", "", "p50 each", "p99"]]
    for part in parts:
        name = part.name if part.name in {walltime.ON_CPU, walltime.RUN_QUEUE} else f"blocked: {part.name}"
        share = format_share(part.share)
        rows.append([fit(name, _NAME), format_ns(part.weight_ns), share, bar(part.share, 20), *_marks(part.slices)])
    lines += table(rows, "<>><>>")
    return lines + _by_role(summary) + _switches(summary)


def _by_role(summary: Summary) -> list[str]:
    roles = walltime.roles(summary)
    if len(roles) < 2:
        return []
    items = [f"{fit(name, 16)} {format_share(share)}" for name, share in roles[:4]]
    items += [f"{len(roles) - 4} more"] if len(roles) > 4 else []
    return flow(["  CPU time by role: " + items[0], *items[1:]], 4)


def _switches(summary: Summary) -> list[str]:
    kinds = [(kind, summary.counter("switches", kind=kind)) for kind in ("voluntary", "involuntary")]
    kinds.append(("to another CPU", summary.counter("migrations")))
    found = [f"{kind} {format_count(summary.rate(count))}" for kind, count in kinds if count is not None]
    return flow(["  switches a second: " + found[0], *found[1:]], 4) if found else []


def _blocked(summary: Summary) -> list[str]:
    calls = walltime.calls(summary)
    if not calls:
        return [heading("Longest blocked", "in no system call" if "sched" in summary.tiers else NOT_MEASURED)]
    rows = [["", "sum", "n", "p50", "p99", "max"]]
    for call in calls[:_ROWS]:
        part = call.waits
        name = fit(call.syscall, _NAME) + (" *" if call.usual else "")
        numbers = [format_ns(part.total), format_count(part.count), *_marks(part), format_ns(part.high)]
        rows.append([name, *numbers])
    lines = [heading("Longest blocked", "finished waits inside each system call"), *table(rows, "<>>>>>")]
    rest = calls[_ROWS:]
    if rest:
        lines.append(f"  and {len(rest)} more: {format_ns(sum(call.waits.total for call in rest))}")
    if any(call.usual for call in calls[:_ROWS]):
        lines.append("  * exists to wait: long is usual")
    return lines


def _failures(summary: Summary, all_errors: bool) -> list[str]:
    found = failures.failures(summary)
    if found is None:
        return [heading("Failed system calls", NOT_MEASURED)]
    if not found:
        return [heading("Failed system calls", "none")]
    ranked = [failure for failure in found if all_errors or not failure.noise]
    noise = [] if all_errors else [failure for failure in found if failure.noise]
    shown = ranked if all_errors else ranked[:_ROWS]
    rows = [["", "", "n", "a second", "of its calls", "role"]] if shown else []
    for failure in shown:
        share = "-" if failure.share is None else format_share(failure.share)
        rate = format_count(summary.rate(failure.count))
        names = [fit(failure.syscall, _NAME), fit(failure.errno, 16)]
        rows.append([*names, format_count(failure.count), rate, share, _who_failed(failure.roles)])
    lines = [heading("Failed system calls", "" if ranked else "only the usual ones"), *table(rows, "<<>>><")]
    rest = ranked[len(shown) :]
    if rest:
        lines.append(
            f"  and {format_count(sum(f.count for f in rest))} failures of {len(rest)} more kinds (--all-errors)"
        )
    return lines + _noise(noise)


def _who_failed(roles: tuple[str, ...]) -> str:
    return fit(roles[0], 16) + (f" +{len(roles) - 1}" if len(roles) > 1 else "")


def _noise(noise: list[failures.Failure]) -> list[str]:
    if not noise:
        return []
    total = format_count(sum(failure.count for failure in noise))
    items = [f"{fit(f.syscall, _NAME)} {fit(f.errno, 16)} {format_count(f.count)}" for f in noise[:_NOISE]]
    items += [f"{len(noise) - _NOISE} more kinds"] if len(noise) > _NOISE else []
    return flow([f"  usual, {total} in all (--all-errors): {items[0]}", *items[1:]], 4)


def _spawns(summary: Summary) -> list[str]:
    found = spawns.spawns(summary)
    if found is None:
        return [heading("New processes", NOT_MEASURED)]
    if not found.count:
        return [heading("New processes", "none was started")]
    rate = format_count(summary.rate(found.count))
    lines = flow([heading("New processes", f"{format_count(found.count)}, {rate} a second"), *_ends(found)], 2)
    rows = [["from the fork", "n", "p50", "p99", "max"]]
    for words, part in found.stages:
        rows.append([words, format_count(part.count), *_marks(part), format_ns(part.high)])
    return lines + table(rows if found.stages else [], "<>>>>")


def _ends(found: spawns.Spawns) -> list[str]:
    deaths = [(found.oom, "killed for memory"), (found.cores, "dumped core")]
    words = [f"{format_count(count)} {what}" for count, what in deaths if count]
    if found.failed:
        kinds = [f"{fit(how, 16)}: {format_count(count)}" for how, count in found.failed[:2]]
        kinds += [f"{len(found.failed) - 2} more"] if len(found.failed) > 2 else []
        words.insert(0, f"{format_count(sum(count for _, count in found.failed))} failed ({', '.join(kinds)})")
    return [click.style(word, fg="red") for word in words] or ["none failed"]


def _use(summary: Summary, memory_bytes: int) -> list[str]:
    rows = [["", "used", "saturation", "errors"]]
    rows += [_use_cpu(summary), _use_memory(summary, memory_bytes), *_use_disks(summary), *_use_nics(summary)]
    rows += _use_gpus(summary)
    return [
        heading("Resources", "means; PSI: share of time in which some task stalled"),
        *table(rows, "<<<<"),
        *_used(summary),
    ]


def _use_cpu(summary: Summary) -> list[str]:
    found = use.cpus(summary)
    if not found:
        return ["CPU", NOT_MEASURED]
    busy = [format_share(found.mean), f"cpu {fit(found.busiest, 6)} {format_share(found.busiest_mean)}"]
    stolen = [] if found.steal is None else [f"stolen {format_share(found.steal)}"]
    return ["CPU", ", ".join(busy + stolen), _stalled(summary, "cpu"), "-"]


def _use_memory(summary: Summary, memory_bytes: int) -> list[str]:
    found = use.memory(summary, memory_bytes)
    if not found:
        return ["memory", NOT_MEASURED]
    swap = "" if found.swap_bytes is None else f", swap {format_bytes(found.swap_bytes)}"
    spawned = spawns.spawns(summary)
    oom = "-" if spawned is None else f"{format_count(spawned.oom)} OOM kills"
    taken = f"{format_share(found.share)} at most, {format_bytes(found.taken_bytes)}"
    return ["memory", taken, _stalled(summary, "memory") + swap, oom]


def _use_disks(summary: Summary) -> list[list[str]]:
    found = use.disks(summary)
    if not found:
        return [["disk", NOT_MEASURED if found is None else "idle"]]
    rows = []
    for disk in found[:2]:
        busy = [] if disk.busy is None else [format_share(disk.busy)]
        ways = _ways(("r", disk.read_rate), ("w", disk.write_rate))
        rows.append([f"disk {fit(disk.name, 10)}", ", ".join(busy + ways), _stalled(summary, "io"), "-"])
    return rows


def _use_nics(summary: Summary) -> list[list[str]]:
    found = use.nics(summary)
    if not found:
        return [["network", NOT_MEASURED if found is None else "idle"]]
    rows = []
    for nic in found[:2]:
        ways = _ways(("in", nic.received_rate), ("out", nic.sent_rate))
        dropped = "-" if nic.dropped is None else f"{format_count(nic.dropped)} dropped"
        errors = "-" if nic.errors is None else f"{format_count(nic.errors)} errors"
        rows.append([f"net {fit(nic.name, 11)}", ", ".join(ways), dropped, errors])
    return rows


def _use_gpus(summary: Summary) -> list[list[str]]:
    rows = []
    for gpu in use.gpus(summary)[:_GPUS]:
        shares = (("", gpu.busy), ("target ", gpu.target), ("memory ", gpu.memory))
        known = [f"{name}{format_share(share)}" for name, share in shares if share is not None]
        known += [] if gpu.watts is None else [format_value(gpu.watts, "W")]
        rows.append([f"GPU {fit(gpu.name, 2)}", ", ".join(known), _throttled(gpu), "-"])
    return rows


def _throttled(gpu: use.Gpu) -> str:
    if gpu.throttled is None:
        return "-"
    worst = sorted(gpu.throttled.items(), key=lambda item: -item[1])[:1]
    return " ".join(f"{fit(reason, 11)} {format_share(share)}" for reason, share in worst) or "not throttled"


def _ways(*ways: tuple[str, float | None]) -> list[str]:
    return [f"{name} {format_bytes(rate)}/s" for name, rate in ways if rate]


def _stalled(summary: Summary, resource: str) -> str:
    share = summary.share(summary.counter("psi", resource=resource, kind="some"))
    return "PSI -" if share is None else f"PSI {format_share(share)}"


def _used(summary: Summary) -> list[str]:
    found = use.used(summary)
    cpu = [f"{found.cpu.mean:.2f} CPUs (at most {found.cpu.max:.2f})"] if found.cpu else []
    moves = [("read", found.read), ("written", found.written)]
    moved = [f"{format_bytes(count)} {name}" for name, count in moves if count is not None]
    rss = [f"RSS {format_bytes(found.rss.max)}"] if found.rss else []
    gauges = [("processes", found.processes), ("threads", found.threads), ("open files", found.fds)]
    most = rss + [f"{name} {format_count(samples.max)}" for name, samples in gauges if samples]
    lines = [", ".join(cpu + moved)] if cpu + moved else []
    lines += [f"at most {', '.join(most)}"] if most else []
    return [
        f"  {'the target:' if not number else '':<11} {line}" for number, line in enumerate(lines or [NOT_MEASURED])
    ]


def _in_flight(summary: Summary) -> list[str]:
    if not summary.complete:
        return [heading("Still waiting at the end", "known when the recording is complete")]
    waits, idle = walltime.open_waits(summary.in_flight)
    if not waits and not idle:
        return []
    rows = [[format_ns(w.age_ns), f"pid {w.pid}", _who(w), _what(w)] for w in waits[:5]]
    lines = [heading("Still waiting at the end", "for how long so far"), *table(rows, "><<<")]
    if len(waits) > 5:
        lines.append(f"  and {len(waits) - 5} more waits")
    if idle:
        lines.append(f"  and {len(idle)} idle in poll or sleep, up to {format_ns(idle[0].age_ns)}")
    return lines


def _who(wait: InFlight) -> str:
    return f"{fit(wait.thread, 16)} of {fit(wait.role, 16)}" if wait.thread != wait.role else fit(wait.role, 16)


def _what(wait: InFlight) -> str:
    if wait.state == "runnable":
        return "wants to run, waits for a CPU"
    where = "" if wait.syscall in ("", "-") else f" in {fit(wait.syscall, 16)}"
    return f"blocked: {fit(wait.reason, 12)}{where}"


def _gaps(findings: Sequence[str]) -> list[str]:
    if not findings:
        return []
    lines = [line for finding in findings for line in wrap(fit(finding, _GAP), WIDTH - 2, subsequent_indent="  ")]
    return [heading("Not measured here"), *(f"  {fit(line, WIDTH - 2)}" for line in lines)]


def _is_gap(line: str) -> bool:
    """Tell whether *line*, on what was not measured, belongs here: databases have their section."""
    return not line.endswith(_ABSENT) and not db_text.is_of_databases(line)


def _unhooked(summary: Summary) -> list[str]:
    """Say what of an unchanged program has no spans, and why (tracekit/auto/failures.py)."""
    failed = [s for s, count in summary.counters.items() if s.metric == "app.tracekit.hook_failed" and count]
    lines = sorted({f"spans of {series.label('hook')}: {series.label('why')}" for series in failed})
    more = len(lines) - _ROWS
    return [*lines[:_ROWS], f"spans of {more} more"] if more > 0 else lines


def _loss(summary: Summary, intervals: int) -> list[str]:
    partial = [f"{summary.partial} of {intervals} intervals incomplete"] if summary.partial else []
    lost = [loss for loss in summary.losses if loss.count]
    if not lost:
        return flow([heading("Loss", "nothing was lost"), *partial], 2)
    total = format_count(sum(loss.count for loss in lost))
    reasons = [fit(loss.reason, 20) + f" {format_count(loss.count)}" + _meaning(loss.reason) for loss in lost]
    lines = [f"LOST {total} events in {summary.lossy} of {intervals} intervals"]
    lines += flow([f"  {reasons[0]}", *reasons[1:], *partial], 2)
    return [click.style(line, fg="red", bold=True) for line in lines]


def _shed(recording: Recording) -> list[str]:
    """Say what was not looked at to stay within --max-overhead, and when."""
    values, intervals = recording.values(), recording.intervals
    lines = []
    for one in shed.found(values, intervals):
        begin, end = intervals[one.first].start_ns - recording.start_ns, intervals[one.last].end_ns - recording.start_ns
        lines.append(f"  {one.text} (from {_clock(begin)} to {_clock(end)})")
    return [heading("Shed", f"to hold {shed.limit(values)}"), *lines] if lines else []


def _clock(ns: int) -> str:
    minutes, seconds = divmod(round(ns / 1e9), 60)
    return f"{minutes:02}:{seconds:02}"


def _meaning(reason: str) -> str:
    return f" ({_LOSSES[reason]})" if reason in _LOSSES else ""


def _cost(summary: Summary) -> str:
    shares = {name: summary.share(summary.counter(f"cost.{name}")) for name in ("collector", "bpf")}
    rss = summary.gauge("cost.rss")
    words = {"collector": "the collector", "bpf": "BPF programs"}
    parts = [f"{words[name]} {NOT_MEASURED if s is None else format_share(s)}" for name, s in shares.items()]
    memory = [f"{format_bytes(rss.max)} of memory"] if rss else []
    return heading("Cost", f"of one CPU: {', '.join(parts + memory)}")


def _spread(part: Histogram) -> list[str]:
    named = [(name, quantile(part, q)) for name, q in (("p50", 0.5), ("p99", 0.99))]
    found = [f"{name} {format_ns(value)}" for name, value in named if value is not None]
    return [*found, f"max {format_ns(part.high)}"]


def _marks(part: Histogram) -> list[str]:
    """p50 and p99 as cells; `-` where the events do not support one."""
    return ["-" if value is None else format_ns(value) for value in (quantile(part, q) for q in (0.5, 0.99))]
