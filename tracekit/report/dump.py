"""What threads do at this moment, as text and as a document."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from tracekit.report.terminal import WIDTH, fit
from tracekit.stacks import is_python, without_interpreter
from tracekit.units import format_ns, printable

if TYPE_CHECKING:
    from tracekit.dumped import Dump, Process, Thread

_KERNEL = "_[k]"
_COLORS = {"running": "green", "runnable": "yellow"}


def shown(dump: Dump, *, native: bool) -> Dump:
    """Return *dump* without frames that only run Python code, unless *native*."""
    return dump if native else replace(dump, processes=tuple(map(_without_noise, dump.processes)))


def text(dump: Dump) -> list[str]:
    """Return lines: a head for each process and each thread, and the frames of that, innermost first."""
    lines: list[str] = []
    for process in dump.processes:
        lines += [*([""] if lines else []), *_process(process)]
    return lines


def document(dump: Dump) -> str:
    """Return JSON: `processes` with their `threads` and their `frames`, innermost first; and what is `missing`."""
    processes = [_process_document(process) for process in dump.processes]
    return json.dumps({"processes": processes, "missing": dump.missing}, indent=2)


def _without_noise(process: Process) -> Process:
    threads = (replace(thread, frames=without_interpreter(thread.frames)) for thread in process.threads)
    return replace(process, threads=tuple(threads))


def _process(process: Process) -> list[str]:
    count = len(process.threads)
    facts = [f"CPython {process.python}"] if process.python else []
    facts.append(f"{count} thread{'s' if count > 1 else ''}")
    head = fit(f"Process {process.tgid}: {process.command}", WIDTH)
    lines = [click.style(head, bold=True), ", ".join(facts)]
    for thread in process.threads:
        lines += ["", *_thread(thread)]
    return lines


def _thread(thread: Thread) -> list[str]:
    name = click.style(f"Thread {thread.pid} {printable(thread.name)}", bold=True)
    span = f", in span {printable(thread.span)}" if thread.span else ""
    head = f"{name}: {click.style(_state(thread), fg=_COLORS.get(thread.state))}{span}"
    return [head, *(f"    {_frame(frame)}" for frame in reversed(thread.frames)), *_notes(thread)]


def _state(thread: Thread) -> str:
    if thread.state == "running":
        return "running"
    least = "" if thread.exactly else "at least "
    age = f"{least}{format_ns(thread.since_ns)}" if thread.since_ns is not None else ""
    if thread.state == "runnable":
        return f"waits for a CPU, {age}" if age else "waits for a CPU"
    where = f"in {printable(thread.syscall)}" if thread.syscall else ""
    reason = f"({thread.reason})" if thread.reason else ""
    return " ".join(filter(None, ("blocked", age, where, reason)))


def _notes(thread: Thread) -> list[str]:
    if thread.sampled:
        return [_dim("    (it does not stand still: state and frames are of a moment before this one)")]
    if all(map(_is_kernel, thread.frames)):
        return [_dim("    (nothing is known of its own code at this moment)")]
    return []


def _is_kernel(frame: str) -> bool:
    return frame.endswith(_KERNEL)


def _frame(frame: str) -> str:
    safe = printable(frame)
    return safe if is_python(frame) else _dim(safe)


def _dim(text: str) -> str:
    return click.style(text, fg="bright_black")


def _process_document(process: Process) -> dict[str, Any]:
    threads = [_thread_document(thread) for thread in process.threads]
    return {"pid": process.tgid, "command": process.command, "python": process.python or None, "threads": threads}


def _thread_document(thread: Thread) -> dict[str, Any]:
    return {
        "tid": thread.pid,
        "name": thread.name,
        "state": thread.state,
        "reason": thread.reason or None,
        "syscall": thread.syscall or None,
        "since_ns": thread.since_ns,
        "since_is_exact": thread.exactly,
        "span": thread.span or None,
        "sampled": thread.sampled,
        "frames": [_frame_document(frame) for frame in reversed(thread.frames)],
    }


def _frame_document(frame: str) -> dict[str, Any]:
    """Return a frame by its parts; what has none is a name."""
    if is_python(frame):
        name, _, place = frame.removesuffix(")").partition(" (")
        file, _, line = place.rpartition(":")
        return {"kind": "python", "name": name, "file": file, "line": int(line)}
    if _is_kernel(frame):
        return {"kind": "kernel", "name": frame.removesuffix(_KERNEL)}
    name, _, library = frame.removesuffix(")").rpartition(" (")
    if name and frame.endswith(")"):
        return {"kind": "native", "name": name, "library": library}
    return {"kind": "mark", "name": frame}
