"""The board of bpf/abi/probe.h as struct formats: tests/unit/test_probe_abi.py compares the two."""

from __future__ import annotations

from struct import Struct

MAGIC = b"TRACEKIT"
VERSION = 1
SLOTS = 4608
BUCKETS = 288
BUCKET_SHIFT = 4
KINDS = 256
ERRORS = 512
VALUES = 256
THREADS = 1024
THREAD_PROBES = 16
"""A thread's slot is at most this far from its hash: readers look no further."""

NOTHING, STATIC, DYNAMIC, TABLE = range(4)
COUNTER, GAUGE, MARK = range(1, 4)

NAME_BYTES = 64
LABELS_BYTES = 184
VALUE_LABELS_BYTES = 160
TYPE_BYTES = 52

HEADER = Struct("<8s4IqQQ4I5Q408x")
"""magic, version, size, pid, mode, tls_offset, tls_module, threads_at, kinds, errors, values, python, then
lost_kinds, lost_errors, lost_values, lost_threads, start_ns."""
KIND = Struct(f"<Q{NAME_BYTES}s{LABELS_BYTES}s")
ERROR = Struct(f"<QI{TYPE_BYTES}s")
VALUE = Struct(f"<dQQI4x{NAME_BYTES}s{VALUE_LABELS_BYTES}s")
THREAD = Struct("<QQ")
LATENCY_HEAD = Struct("<4Q")
"""errors, low, high, unused; then BUCKETS totals, BUCKETS awaited, SLOTS counts."""
LATENCY_SIZE = LATENCY_HEAD.size + 8 * (2 * BUCKETS + SLOTS)

KINDS_AT = HEADER.size
ERRORS_AT = KINDS_AT + KINDS * KIND.size
VALUES_AT = ERRORS_AT + ERRORS * ERROR.size
THREADS_AT = VALUES_AT + VALUES * VALUE.size
LATENCY_AT = THREADS_AT + THREADS * THREAD.size
SIZE = LATENCY_AT + KINDS * LATENCY_SIZE

KINDS_USED_AT = 48
ERRORS_USED_AT = 52
VALUES_USED_AT = 56
LOST_KINDS_AT = 64
LOST_ERRORS_AT = 72
LOST_VALUES_AT = 80
LOST_THREADS_AT = 88


def slot_of(duration_ns: int) -> int:
    """Return the slot of a latency in ns: HdrHistogram's, 1 ns to 1 h, two digits."""
    octave = (duration_ns | 255).bit_length() - 8
    return min((octave << 7) + (duration_ns >> octave), SLOTS - 1)


def upper_edge(slot: int) -> int:
    """Return the largest latency of a slot, ns."""
    octave = max(slot >> 7, 1) - 1
    return ((slot - (octave << 7) + 1) << octave) - 1
