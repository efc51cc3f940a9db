"""tracekit dump"""

from __future__ import annotations

import click

from tracekit.capture import dump, privileges
from tracekit.commands.attach import pids
from tracekit.errors import UsageError
from tracekit.report import dump as report
from tracekit.report.terminal import say
from tracekit.units import printable


@click.command()
@click.option("-p", "--pid", "groups", type=pids, multiple=True, help="Process to look at; repeat it, or 42,43.")
@click.option("--children", is_flag=True, help="Its descendants too.")
@click.option("--native", is_flag=True, help="Also the frames of the interpreter itself.")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON.")
def command(groups: tuple[tuple[int, ...], ...], children: bool, native: bool, as_json: bool) -> None:
    """
    Say what all threads of a process do at this moment, and where.

    Nothing is stopped, and no signal sent. For each thread: its state, how long
    it has been in it, the system call and what that waits for, the span that it
    is in; then its frames, innermost first: those of the kernel, native ones,
    and Python's where they were called.

    \b
      Thread 4242 python3: blocked at least 1.2 s in epoll_wait (poll)
          ep_poll_[k]
          epoll_wait (libc.so.6)
          select.<locals>.poll (selectors.py:468)

    A thread that stands still is walked; one that does not is sampled for up to
    a second. State and frames of a thread are always of the same moment.
    `at least`: the wait began before tracekit came, and interrupts of its CPU
    are not in the time that the scheduler tells.

    Needs root, or CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE. Without BPF there is
    what /proc and the memory of your own processes tell, and a note on stderr.

    \b
    Examples:
      sudo tracekit dump -p 4242
      sudo tracekit dump -p $(pgrep -o gunicorn) --children --native
      tracekit dump -p 4242 --json | jq '.processes[].threads[].state'

    Exit codes: 0 done, 2 usage (no such process, a zombie, a kernel thread,
    tracekit itself), 4 cannot (not allowed).
    """  # noqa: D301 - click takes the control character, not the two letters
    chosen = tuple(pid for group in groups for pid in group)
    if not chosen:
        raise UsageError("cannot dump nothing: give -p", "tracekit dump -p PID")
    found = report.shown(dump.take(chosen, children=children, attached=_limit), native=native)
    if as_json:
        click.echo(report.document(found))
    else:
        say(report.text(found))
    for line in found.missing:
        click.echo(f"note: {printable(line)}", err=True)


def _limit() -> None:
    privileges.keep(privileges.DUMPING)
