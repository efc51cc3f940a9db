"""The stacks of the sample recording: a second of them, and those that its spans were seen in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracekit.histogram import slots_of
from tracekit.records import BUCKET_SHIFT, Series, labels_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tests.sample_spans import Mode
    from tracekit.recording.writer import Writer

    Row = tuple[int, int, int, int, int]

PERIOD_NS = 10**9 // 49
EVAL = "_PyEval_EvalFrameDefault (libpython3.11.so.1.0)"
ROOT = ("_start (python3.11)", EVAL, "main (agent.py:88)", "run (agent.py:71)")
SCORE = (*ROOT, "evaluate (app/eval.py:31)", EVAL, "score (app/model.py:12)", "dot (libscore.so)")
SCORE_ON = (*ROOT, "evaluate (app/eval.py:31)", EVAL, "score (app/model.py:14)")
ACQUIRE = (*ROOT, "evaluate (app/eval.py:40)", EVAL, "acquire (app/pool.py:23)")
WAIT = (*ACQUIRE, "+0x1f2e3 (libc.so.6)", "futex_wait_[k]")
SAVE = (*ROOT, "save (app/store.py:9)", EVAL, "fsync (libc.so.6)", "ext4_sync_file_[k]")
RECEIVE = (*ROOT, "receive (app/bus.py:17)", "recv (libc.so.6)", "tcp_recvmsg_[k]")
FLUSH = ("loop (app/flush.py:5)", "wait (threading.py:327)", "futex_wait_[k]")
REAP = ("main (supervisor.py:44)", "wait (subprocess.py:1264)", "do_wait_[k]")
OPEN = (*ROOT, "find (app/path.py:3)", "openat (libc.so.6)")
DIAL = (*ROOT, "dial (app/bus.py:41)", "connect (libc.so.6)")

_WORKER = {"role": "worker", "thread": "worker"}
_INSIDE = {"span": "evaluation"}
# metric, labels, stack, weight, count: of an interval
THREADS = [
    ("stack.oncpu", _WORKER | _INSIDE, SCORE, 9 * PERIOD_NS, 9),
    ("stack.oncpu", _WORKER | _INSIDE, SCORE_ON, 5 * PERIOD_NS, 5),
    ("stack.oncpu", _WORKER, SAVE, 2 * PERIOD_NS, 2),
    ("stack.offcpu", _WORKER | {"reason": "disk", "syscall": "fsync"}, SAVE, 250_000_000, 40),
    ("stack.offcpu", _WORKER | _INSIDE | {"reason": "network", "syscall": "recvfrom"}, RECEIVE, 180_000_000, 30),
    ("stack.offcpu", _WORKER | {"thread": "bg-flush", "reason": "lock", "syscall": "futex"}, FLUSH, 990_000_000, 2),
    (
        "stack.offcpu",
        {"role": "supervisor", "thread": "supervisor", "reason": "child", "syscall": "wait4"},
        REAP,
        880_000_000,
        47,
    ),
    ("stack.errors", {"role": "worker", "syscall": "openat", "errno": "ENOENT"}, OPEN, 97, 2),
    ("stack.errors", {"role": "worker", "syscall": "connect", "errno": "ECONNREFUSED"} | _INSIDE, DIAL, 3, 1),
]


def rows(writer: Writer, spans: list[tuple[Mode, NDArray[np.uint64]]]) -> list[Row]:
    """Return the samples of an interval in which these *spans* ended."""
    found = [
        (writer.series(_series(metric, labels)), 0, writer.stack(frames), weight, count)
        for metric, labels, frames, weight, count in THREADS
    ]
    seen: dict[tuple[int, int, int], tuple[int, int]] = {}
    for mode, values in spans:
        for number, (value, slot) in enumerate(zip(values.tolist(), slots_of(values).tolist(), strict=True)):
            for state, frames, weight in _of_span(mode, value, number):
                labels = {**mode.labels, "role": mode.role, "state": state}
                row = writer.series(_series("stack.span", labels)), slot >> BUCKET_SHIFT, writer.stack(frames)
                before = seen.get(row, (0, 0))
                seen[row] = before[0] + weight, before[1] + 1
    return found + [(*row, *sums) for row, sums in seen.items()]


def _of_span(mode: Mode, value: int, number: int) -> list[tuple[str, tuple[str, ...], int]]:
    """Evaluations are hit by the clock, the slow ones wait for a lock; who spawns waits for the child."""
    if mode.labels["span"] == "evaluation":
        hit = [("on-CPU", SCORE if number % 5 else SCORE_ON, PERIOD_NS)] if number % 3 == 0 else []
        return hit + ([("lock", WAIT, int(value * mode.waits["lock"]))] if "lock" in mode.waits else [])
    return [("child", REAP, int(value * mode.waits["child"]))] if "child" in mode.waits else []


def _series(metric: str, labels: dict[str, str]) -> Series:
    return Series(metric, labels_of(labels), "stacks", "count" if metric == "stack.errors" else "ns")
