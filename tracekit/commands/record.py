"""What attach and run share: options of a recording, the status line, the last words."""

from __future__ import annotations

import os
import re
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tracekit.capture.nvidia import NO_DEVICE
from tracekit.errors import EXIT_INTERRUPTED, UsageError
from tracekit.units import format_count, format_ns, format_share, parse_ns, printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracekit.capture.options import Options
    from tracekit.capture.session import Progress, Summary

SHORTEST_INTERVAL_NS = 100_000_000
_PORTS, _DIGITS = 1 << 16, re.compile("[0-9]{1,5}")
_REDRAW_NS = 250_000_000
_MAX_OVERHEAD = "Shed what costs too much, e.g. 1%, of the target's CPU time or of a core [no limit]."
_DB_PORT = "Where a database listens: postgresql, mysql, redis, mongodb."


def duration(text: str) -> int:
    """Parse a length of time such as `10s`, `5m`, `100ms` into ns; a usage error names the units."""
    try:
        return parse_ns(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def share(text: str) -> float:
    """Parse `1%` or `0.01`; a usage error says so."""
    try:
        number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise click.BadParameter(f"{text!r} is no share such as 1%")
    return number


def role(text: str) -> tuple[str, str]:
    """Split `NAME=GLOB`: processes whose comm matches GLOB have the role NAME."""
    name, equals, pattern = text.partition("=")
    if not (name and equals and pattern):
        raise click.BadParameter(f"{text!r} is not NAME=GLOB")
    return name, pattern


def db_port(text: str) -> tuple[int, str]:
    """Split `PORT=SYSTEM`: a database listens there."""
    from tracekit.capture.db.ports import SYSTEMS  # noqa: PLC0415 - the help needs no collector

    port, _, system = text.partition("=")
    if not (system and _DIGITS.fullmatch(port) and 0 < int(port) < _PORTS):
        raise click.BadParameter(f"{text!r} is not PORT=SYSTEM, such as 6543=postgresql")
    if system not in SYSTEMS:
        raise click.BadParameter(f"{system!r} is none of {', '.join(SYSTEMS)}")
    return int(port), system


_OPTIONS = (
    click.option("-o", "--output", type=click.Path(path_type=Path), help="Recording to write [tracekit-DATE.tk]."),
    click.option("-f", "--force", is_flag=True, help="Replace an existing recording."),
    click.option("-d", "--duration", type=duration, default="0s", help="Stop after this long, e.g. 30s, 5m."),
    click.option("-i", "--interval", type=duration, default="1s", help="Length of a tick, from 100ms [1s]."),
    click.option("--children/--no-children", default=True, help="Follow the processes that the target starts [on]."),
    click.option("--errors/--no-errors", default=True, help="Failed system calls [on]; taxes every call a little."),
    click.option("--syscalls", is_flag=True, help="Latency of every system call; taxes every call more."),
    click.option("--db/--no-db", default=True, help="Calls of databases, seen at their sockets [on]."),
    click.option("--db-port", "db_ports", type=db_port, multiple=True, metavar="PORT=SYSTEM", help=_DB_PORT),
    click.option("--db-text", is_flag=True, help="Statements too, without their literals."),
    click.option("--db-uprobes", is_flag=True, help="Calls inside libpq, libsqlite3 and libmariadb too; needs root."),
    click.option("--stacks/--no-stacks", default=True, help="In which code it runs, waits and fails [on]."),
    click.option(
        "--stack-hz", type=click.Choice(["49", "99"]), default="49", help="Samples of code a second, of each CPU [49]."
    ),
    click.option("--max-overhead", type=share, default="0%", metavar="SHARE", help=_MAX_OVERHEAD),
    click.option(
        "--role",
        "roles",
        metavar="NAME=GLOB",
        type=role,
        multiple=True,
        help="Call processes whose name matches GLOB by NAME.",
    ),
)


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that attach and run share."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def run(target: dict[str, Any], given: dict[str, Any]) -> None:
    """Record *target* with the options *given*, talking to the user on stderr; exits."""
    from tracekit.capture.options import Options  # noqa: PLC0415 - the help needs no collector

    begin_ns = _process_start_ns()
    interval = given["interval"]
    if interval < SHORTEST_INTERVAL_NS:
        raise UsageError(f"cannot tick every {format_ns(interval)}: 100 ms is the shortest", "-i 100ms")
    if not given["db"]:
        refuse_db(given, "--no-db", "no database is looked at")
    output = given["output"] or Path(time.strftime("tracekit-%Y%m%d-%H%M%S.tk"))
    chosen = Options(
        output,
        **target,
        children=given["children"],
        errors=given["errors"],
        latency=given["syscalls"],
        db=given["db"],
        db_ports=given["db_ports"],
        db_text=given["db_text"],
        db_libraries=given["db_uprobes"],
        stacks=given["stacks"],
        stack_hz=int(given["stack_hz"]),
        max_overhead=given["max_overhead"],
        interval_ns=interval,
        duration_ns=given["duration"],
        force=given["force"],
        roles=given["roles"],
    )
    status = _Status(sys.stderr.isatty())
    try:
        summary = _session(chosen)(chosen, status.attached, status.show, begin_ns)
    finally:
        status.clear()
    _say(chosen, summary)
    sys.exit(_exit_code(summary))


def refuse_db(given: dict[str, Any], option: str, why: str) -> None:
    """Raise UsageError if something is wanted of databases, of which nothing is seen with *option*."""
    asked = {"--db-port": given["db_ports"], "--db-text": given["db_text"], "--db-uprobes": given["db_uprobes"]}
    for name, value in asked.items():
        if value:
            raise UsageError(f"cannot use {name} with {option}: {why}", f"leave {option} out")


def _session(chosen: Options) -> Callable[..., Summary]:
    if chosen.probes_only:
        from tracekit.capture import probes_session  # noqa: PLC0415 - one of the two

        return probes_session.record
    from tracekit.capture import session, workload  # noqa: PLC0415

    if chosen.pids or chosen.command:
        workload.check_pid_namespace()
    return session.record


def _process_start_ns() -> int:
    """Return when this process began, on CLOCK_MONOTONIC: what a user waits for includes the interpreter."""
    fields = Path("/proc/self/stat").read_text(errors="replace").rpartition(")")[2].split()
    since_boot_ns = int(fields[19]) * 10**9 // os.sysconf("SC_CLK_TCK")
    return since_boot_ns - time.clock_gettime_ns(time.CLOCK_BOOTTIME) + time.monotonic_ns()


def _exit_code(summary: Summary) -> int:
    return EXIT_INTERRUPTED if summary.reason == "interrupted" else summary.exit_code


class _Status:
    """One live line on a terminal; silent elsewhere."""

    def __init__(self, live: bool) -> None:
        self._live = live
        self._drawn_ns = 0

    def attached(self, ms: float, costs: list[str]) -> None:
        """Say that tracing has begun, and what that costs where it is not next to nothing."""
        for line in costs:
            click.echo(f"tracekit: {printable(line)}", err=True)
        click.echo(f"tracekit: attached in {ms:.0f} ms", err=True)

    def show(self, progress: Progress) -> None:
        """Redraw, four times a second at most."""
        now = time.monotonic_ns()
        if not self._live or now - self._drawn_ns < _REDRAW_NS:
            return
        self._drawn_ns = now
        parts = (
            format_ns(round(progress.elapsed_ns, -8)),
            f"{format_count(progress.threads)} threads",
            f"{format_count(progress.events)} events",
            f"{format_count(progress.lost)} lost",
            f"cost {_cost(progress)}",
            *([f"shed {', '.join(progress.shed)}"] if progress.shed else []),
        )
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
        sys.stderr.write("\r\x1b[K" + " · ".join(parts)[: columns - 1])
        sys.stderr.flush()

    def clear(self) -> None:
        """Take the line away."""
        if self._live and self._drawn_ns:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _cost(progress: Progress) -> str:
    return f"{format_share(progress.collector_share + (progress.bpf_share or 0))} of a core"


def _say(chosen: Options, summary: Summary) -> None:
    """Tell what was recorded, what was lost, what it cost, and what to do next."""
    progress = summary.progress
    name = printable(str(chosen.output))
    word = shlex.quote(name)
    length = format_ns(round(progress.elapsed_ns, -8))
    click.echo(f"recorded  {name}: {length}, {format_count(progress.events)} events ({summary.reason})", err=True)
    lost = ", ".join(f"{format_count(loss.count)} {loss.reason}" for loss in summary.losses)
    click.echo(f"lost      {lost or 'nothing'}", err=True)
    bpf = "not measured (too short)" if progress.bpf_share is None else format_share(progress.bpf_share)
    click.echo(f"cost      collector {format_share(progress.collector_share)} of a core, BPF programs {bpf}", err=True)
    if summary.shed:
        what = ", ".join(f"{tier} {format_ns(round(ns, -8) or ns)}" for tier, ns in summary.shed)
        click.echo(f"shed      {what}, to hold --max-overhead", err=True)
    for line in summary.missing:
        if not line.endswith(NO_DEVICE):  # nobody misses a GPU that is not there; a verdict that needs one says so
            click.echo(f"missing   {printable(line)}", err=True)
    click.echo(f"next      tracekit report {word}", err=True)
    if chosen.stacks and not chosen.probes_only:
        click.echo(f"          tracekit flamegraph {word} -o flame.svg", err=True)
