"""Names of kernel frames: the right ones, without those of the tracing itself, and never by waiting."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

import pytest

from tracekit.capture.stacks.kallsyms import HIDDEN, UNREADABLE, Kernel, read

KERNEL = Path("/proc/kallsyms")
LINES = """\
ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff81000100 T do_syscall_64
ffffffff81000200 t __pfx_vfs_read
ffffffff81000210 T vfs_read
ffffffff81000300 T __x64_sys_read
ffffffff81000400 t __schedule
ffffffff81000500 T schedule
ffffffff81000600 T bpf_trace_run4
ffffffff81000700 T __traceiter_sched_switch
ffffffff81000800 T syscall_exit_work
ffffffff82000000 D jiffies
ffffffffc0a00000 t ext4_read\t[ext4]
ffffffffc0100000 t nft_do_chain\t[nf_tables]
ffffffffc0200000 t bpf_prog_6deef7357e7b4530_on_switch\t[bpf]
"""
READ, SYSCALL, SCHEDULE, INNER = 0xFFFFFFFF81000215, 0xFFFFFFFF81000140, 0xFFFFFFFF81000510, 0xFFFFFFFF81000450
RUN, ITERATE, PROGRAM = 0xFFFFFFFF81000620, 0xFFFFFFFF81000710, 0xFFFFFFFFC0200040


def _named(path: Path, words: list[int], kernel: Kernel | None = None) -> tuple[str, ...]:
    kernel = kernel or Kernel(path)
    for _ in range(1000):
        frames = kernel.frames(words)
        if frames is not None:
            return frames
        time.sleep(0.01)
    raise AssertionError("the table was not read")


@pytest.fixture
def symbols(tmp_path: Path) -> Path:
    path = tmp_path / "kallsyms"
    path.write_text(LINES)
    return path


@pytest.mark.parametrize(
    ("words", "frames"),
    [
        ([READ, SYSCALL], ("vfs_read_[k]", "do_syscall_64_[k]")),
        ([0xFFFFFFFFC0100010, READ], ("nft_do_chain_[k]", "vfs_read_[k]")),
        ([0xFFFFFFFFC0A00010], ("ext4_read_[k]",)),
        ([0xFFFFFFFF81000000], ("_text_[k]",)),
        ([PROGRAM, READ], ("bpf_prog_6deef7357e7b4530_on_switch_[k]", "vfs_read_[k]")),
        ([0x1000], ("[unnamed]_[k]",)),
        ([], ()),
    ],
)
def test_frames(symbols, words, frames):
    """Of the kernel, its modules, and others' BPF programs; one before all has no name."""
    assert _named(symbols, words) == frames


def test_a_call_at_the_end_of_a_function(symbols):
    """What returns to the first word of the next function was called by the one before; where the CPU is, is exact."""
    assert _named(symbols, [0xFFFFFFFF81000210, 0xFFFFFFFF81000300]) == ("vfs_read_[k]", "vfs_read_[k]")


@pytest.mark.parametrize(
    "ours",
    [
        [PROGRAM, RUN, INNER],
        [0xFFFFFFFFC0300000, PROGRAM, RUN, ITERATE, INNER],
        [READ, PROGRAM, RUN, INNER],
        [RUN, INNER],
        [INNER],
        [],
    ],
)
def test_frames_of_the_tracing_are_left_out(symbols, ours):
    """A wait begins with `schedule`, whatever took its stack and however deep, also programs without a name."""
    assert _named(symbols, [*ours, SCHEDULE, READ, SYSCALL]) == ("schedule_[k]", "vfs_read_[k]", "do_syscall_64_[k]")


def test_nobody_waits_for_the_table(symbols):
    """The first who asks is told to ask again, unless somebody wants to wait."""
    kernel = Kernel(symbols)

    assert kernel.frames([READ]) is None
    assert kernel.settle(10)
    assert kernel.frames([READ]) == ("vfs_read_[k]",)


@pytest.mark.parametrize(
    ("text", "problem"),
    [("\n".join(f"{'0' * 16}{line[16:]}" for line in LINES.splitlines()), HIDDEN), ("", "")],
)
def test_addresses_that_are_hidden(symbols, text, problem):
    """kernel.kptr_restrict: the user is told what helps, and no address is kept: it would tell where the kernel is."""
    symbols.write_text(text)
    kernel = Kernel(symbols)

    assert _named(symbols, [READ, SYSCALL], kernel) == ("[unnamed]_[k]", "[unnamed]_[k]")
    assert kernel.problem == problem


def test_a_table_that_cannot_be_read(tmp_path):
    """As without /proc."""
    kernel = Kernel(tmp_path / "missing")

    assert _named(tmp_path, [READ], kernel) == ("[unnamed]_[k]",)
    assert kernel.problem == UNREADABLE


def test_programs_that_were_loaded_later(symbols):
    """The table is read again for a new address, but not more often than every few seconds."""
    now = [100.0]
    kernel = Kernel(symbols, lambda: now[0])
    later = [0xFFFFFFFFC0B00010, SYSCALL]
    _named(symbols, [READ], kernel)
    symbols.write_text(LINES + "ffffffffc0b00000 t bpf_prog_1111111111111111_theirs\t[bpf]\n")

    assert kernel.frames(later) == ("ext4_read_[k]", "do_syscall_64_[k]")
    now[0] += 10
    later[0] += 4
    assert kernel.frames(later) is None
    assert _named(symbols, later, kernel)[0] == "bpf_prog_1111111111111111_theirs_[k]"


def test_against_the_kernel():
    """Every function of this kernel has one of the names that the kernel gives it."""
    symbols = KERNEL.read_bytes()  # once: others load and unload BPF programs
    names: dict[int, set[bytes]] = {}
    for line in symbols.splitlines():
        address, kind, name = line.split()[:3]
        if kind in b"tTwW" and not name.startswith(b"__pfx_"):
            names.setdefault(int(address, 16), set()).add(name)
    if os.geteuid() and len(names) < 1000:
        pytest.skip("addresses are hidden from who is not root")
    assert len(names) >= 1000

    table = read(io.BytesIO(symbols))

    sample = sorted(names)[:: len(names) // 5000 or 1]
    wrong = [each for each in sample if (table.program(each) or table.function(each)) not in names[each]]
    assert wrong == []
    assert len(table.starts) + len(table.programs) >= len(names)
