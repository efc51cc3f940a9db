"""
What crosses from the kernel: bpf/abi/wire.h, as struct formats.

tests/kernel/test_abi.py compares every format and constant with the BTF of the built object.
"""

from __future__ import annotations

import struct

WIRE_VERSION = 6
STEP_BITS = 7
GROUP = 1 << STEP_BITS
"""Slots of one power of two; `head.groups` says which groups were touched."""
SLOTS = 4608
COMM_LEN = 16
MAX_SYSCALLS = 512
MAX_CPUS = 512
MAX_NAMES = 4096
MAX_HISTOGRAMS = 768
MAX_ACCOUNTS = 8192
MAX_PARTS = 4096
MAX_SPANS = 512
SPAN_NONE, SPAN_OTHER = 0, 1
MAX_PEERS = 512
MAX_DB_NAMES = 1024
MAX_CONNECTIONS = 8192
DB_NAME_LEN = 16
DB_TEXT_LEN = 512
SAMPLE_HZ = 99
NR_NONE = 0xFFFF
NR_COMPAT = 0x8000
NR_UNKNOWN = MAX_SYSCALLS - 1

H_RUNQ_WAIT, H_RUNQ_WAKE, H_RUNQ_LENGTH, H_ONCPU, H_OFFCPU, H_BLOCKED, H_SYSCALL, H_LOOP, H_DB = range(9)
HISTOGRAM_KINDS = 9
A_THREAD, A_BLOCKED, A_ERROR, A_DB_ERROR, P_SPAN, P_DB = range(9, 15)

REASONS = ("other", "disk", "network", "lock", "poll", "pipe", "child", "fault", "stopped", "preempted")
"""Words of enum reason, by value."""
R_OTHER, R_DISK, R_NETWORK, R_LOCK, R_POLL, R_PIPE, R_CHILD, R_FAULT, R_STOPPED, R_PREEMPTED, R_FILE = range(11)

LOSSES = (
    "task_state",
    "wake",
    "clock",
    "clamped",
    "ring",
    "series",
    "names",
    "switch",
    "span",
    "span_read",
    "connection",
    "slow",
    "stack",
)
"""Words of enum loss_reason, by value."""

TASK_STATES = ("running", "runnable", "blocked")
ITERATE_MARK, ITERATE_REPORT = 0, 1
LIFE_FORK, LIFE_READY, LIFE_EXIT, LIFE_BOARD = 1, 2, 3, 4
LIFE_OOM = 1
TARGET_PIDS, TARGET_COMM, TARGET_CGROUP, TARGET_ALL = range(4)

KEY = struct.Struct("=IIHHBBH")
"""role, thread, nr, err, kind, reason, span."""
HEAD = struct.Struct("=5Q24x")
"""count, total, low, high, groups."""
SLOTS_BYTES = 8 * SLOTS
ACCOUNT = struct.Struct("=6Q16x")
"""ns, count, queued_ns, queued, involuntary, migrations."""
CPU = struct.Struct(f"=9Q{len(LOSSES)}Q3IHBBH6x")
"""task, waking, running, regs, since_ns, call_ns, switches, restarts, samples, loss[13], then what it runs."""
SHARED = struct.Struct("=5Ii6I4Q2I")
"""
histograms, accounts, names, epoch, iterate, threads, adopted, parts, spans, peers, db_names, pause, since_ns[4],
quiet, silent.
"""
PAUSE_AT, SINCE_AT, QUIET_AT = 44, 48, 80
RING_BYTES = 1 << 22
LIFE = struct.Struct("=5Q4I4x4B16s")
"""at, start, first_run, exec, ready (ns), tgid, ppid, exit_code, span, what, flags, found, unused, comm."""
TASK = struct.Struct("=3Q6IHBB16s4x")
"""since, start, waited (ns), pid, tgid, ppid, role, thread, span, nr, state, reason, comm."""
CONFIG = struct.Struct("=QIIIBBBBBBB5x16s512s")
"""
cgroup_id, self_tgid, shards, histograms, mode, children, latency, atomic, returns, db_text, stacks, comm,
reason_of.
"""
WAITS = len(REASONS) + 1
"""Waits of a span: those of REASONS, with the wait for a CPU in the place of `preempted`, and for a DB after that."""
WAIT_RUNQ, WAIT_DB = R_PREEMPTED, R_PREEMPTED + 1
PARTS = struct.Struct(f"={WAITS + 5}Q")
"""wait_ns[11], sampled_ns, errors, unseen_ns, latency_ns, count."""
SLOW = struct.Struct("=2Q")
"""floor_ns, records."""
SPAN = struct.Struct(f"=2Q{WAITS + 2}Q3IHBB")
"""start, duration (ns), wait_ns[11], sampled_ns, errors, tgid, pid, role, span, awaited, flags."""
SPAN_FAILED, SPAN_SEEN, SPAN_SLOW, SPAN_STACKS = 1, 2, 4, 8
SLOW_RING_BYTES = 1 << 19
MAX_SUSPENDED = 8192
OPEN_KEY = struct.Struct("=3Q")
"""node, start (ns), tgid: struct open_key of parts.bpf.h."""
BOARD = struct.Struct("=qII")
"""offset, module, mode."""
DB_SYSTEMS = ("", "postgresql", "mysql", "redis", "mongodb", "sqlite")
"""Words of enum db_system, by value."""
DB_SYSTEM, DB_LIBRARY, DB_TLS = 0x0F, 0x40, 0x80
PEER = struct.Struct("=HH108s")
"""family, port, address."""
CONNECTION = struct.Struct("=16Q2I3HBBII36s4I3HB5x")
"""
start, ready, last, delay (ns), pid_tgid, inode, polled, waited (ns), node and start of 4 spans, role, peer,
operation, span, error, about, phase, rest, partial, begun, asked, row, parts_row, role, operation, span, bucket
and about of the row.
"""
DB_TEXTS_BYTES = 1 << 20
DB_TEXT = struct.Struct("=3QIIHHHBx512s")
"""connection, start, latency (ns), role, peer, operation, span, length, about, text."""
