"""tracekit attach"""

from __future__ import annotations

from typing import Any

import click

from tracekit.commands import record
from tracekit.errors import UsageError


def pids(text: str) -> tuple[int, ...]:
    """Parse a process id, or several with commas between."""
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        found = (0,)
    if min(found) < 1:
        raise click.BadParameter(f"{text!r} is not a process id")
    return found


@click.command()
@click.option("-p", "--pid", "groups", type=pids, multiple=True, help="Process to trace; repeat it, or 42,43.")
@click.option("--comm", default="", help="Processes of this name, also those that come later.")
@click.option("--cgroup", default="", help="Processes of this cgroup (v2) and those below it.")
@click.option("--all", "everything", is_flag=True, help="Every process of this machine.")
@click.option("--probes-only", is_flag=True, help="Only what your own processes tell of their spans; no root, no BPF.")
@record.options
def command(
    groups: tuple[tuple[int, ...], ...], comm: str, cgroup: str, everything: bool, probes_only: bool, **given: Any
) -> None:
    """
    Trace running processes and all that they start, into a recording.

    Needs root, or CAP_BPF and CAP_PERFMON; `tracekit doctor` tells. Ctrl-C ends it cleanly.
    With --probes-only it needs neither: spans, errors and counters of programs that
    use tracekit.span, and no kernel metrics.

    \b
    Examples:
      sudo tracekit attach -p 4242
      sudo tracekit attach -p $(pgrep -o gunicorn) -d 30s -o run.tk
      sudo tracekit attach --comm python3 --syscalls
      sudo tracekit attach --cgroup system.slice/agents.service -i 100ms
      sudo tracekit attach -p 4242 --db-text --db-port 6543=postgresql
      sudo tracekit attach --all --no-errors -d 5m --role 'worker=python*'
      tracekit attach --probes-only -p 4242

    Exit codes: 0 done, 2 usage, 4 cannot, 130 interrupted with the recording saved.
    """  # noqa: D301 - click takes the control character, not the two letters
    chosen = {"-p": groups, "--comm": comm, "--cgroup": cgroup, "--all": everything}
    given_ones = [name for name, value in chosen.items() if value]
    if len(given_ones) != 1:
        what = " and ".join(given_ones) or "nothing"
        raise UsageError(f"cannot attach to {what}: give one of -p, --comm, --cgroup, --all", "tracekit attach -p PID")
    if probes_only:
        _check_probes_only(given_ones[0], given)
    target = {"comm": comm, "cgroup": cgroup, "everything": everything, "probes_only": probes_only}
    record.run({"pids": tuple(pid for group in groups for pid in group), **target}, given)


def _check_probes_only(target: str, given: dict[str, Any]) -> None:
    if target != "-p":
        raise UsageError(f"cannot attach to {target} with --probes-only: it follows processes by id", "-p PID")
    if given["syscalls"]:
        raise UsageError("cannot time system calls with --probes-only: only the kernel sees them", "sudo, without it")
    if given["max_overhead"]:
        raise UsageError("cannot hold --max-overhead with --probes-only: nothing can be shed", "leave it out")
    record.refuse_db(given, "--probes-only", "only the kernel sees sockets and libraries")
