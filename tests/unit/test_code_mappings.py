"""Which code a process has mapped, and the files behind it."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from tracekit.capture.libraries.mapped import UnfitError
from tracekit.capture.stacks import ehframe
from tracekit.capture.stacks.layout import MAX_CODE
from tracekit.capture.stacks.mappings import VDSO, Mapping, bias_of, identity, mappings, opened, served, vdso_file

MAPS = b"""\
55d0c0000000-55d0c0001000 r--p 00000000 fe:01 17                         /usr/bin/a
55d0c0001000-55d0c0003000 r-xp 00001000 fe:01 17                         /usr/bin/a
7f0000000000-7f0000001000 rwxp 00000000 00:00 0
7f0000002000-7f0000004000 r-xp 00002000 00:31 18                         /lib/b c\\012d.so (deleted)
7f0000008000-7f0000009000 r-xp 00000000 00:00 0                          [anon: /lib/e.so]
7fff00000000-7fff00002000 r-xp 00000000 00:00 0                          [vdso]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
"""
MOUNTS = b"""\
22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
30 22 0:49 / /remote rw,nosuid shared:9 - fuse.sshfs host:/ rw
31 22 0:50 / /disk rw,nosuid - fuseblk /dev/sda1 rw
"""


def process(directory: Path, maps: bytes) -> Path:
    (directory / "maps").write_bytes(maps)
    (directory / "mountinfo").write_bytes(MOUNTS)
    return directory


def test_code_of_files_and_of_the_kernel(tmp_path: Path):
    """No data, nothing anonymous whatever it calls itself; a path with a newline is one path."""
    found, left_out = mappings(process(tmp_path, MAPS))

    assert [(each.range, each.offset, each.device, each.inode, each.path) for each in found] == [
        ("55d0c0001000-55d0c0003000", 0x1000, b"fe:01", 17, b"/usr/bin/a"),
        ("7f0000002000-7f0000004000", 0x2000, b"00:31", 18, b"/lib/b c\\012d.so (deleted)"),
        ("7fff00000000-7fff00002000", 0, b"00:00", 0, VDSO),
    ]
    assert left_out == 0


def test_the_largest_ones_if_there_are_too_many(tmp_path: Path):
    """By address still; the others are counted."""
    lines = [
        f"{start:x}-{start + (0x2000 if start & 0x10000 else 0x1000):x} r-xp 00000000 fe:01 17 /a"
        for start in range(0x10000, 0x10000 * 601, 0x10000)
    ]

    found, left_out = mappings(process(tmp_path, "\n".join([*lines, ""]).encode()))

    assert (len(found), left_out) == (MAX_CODE, 600 - MAX_CODE)
    assert all(each.end - each.start == 0x2000 for each in found)
    assert found == sorted(found)


def test_what_another_process_serves_is_not_touched(tmp_path: Path):
    """It may never answer. Devices are named as maps names them."""
    avoided = served(process(tmp_path, MAPS))

    assert avoided == {b"00:31", b"00:32"}
    with pytest.raises(UnfitError, match="may never answer"):
        identity(tmp_path, mappings(tmp_path)[0][1], avoided)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root to open what is mapped")
def test_a_file_that_was_replaced_is_another_one(tmp_path: Path):
    """The mapped one is opened, under whatever name; that it was written to makes it another."""
    path = tmp_path / "library.so"
    path.write_bytes(b"old".ljust(4096, b"\0"))
    with path.open("rb") as file:
        memory = mmap.mmap(file.fileno(), 4096, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)
    own = Path("/proc/self")
    (mapping,) = [each for each in mappings(own)[0] if each.path == bytes(path)]
    before = identity(own, mapping, served(own))
    path.unlink()
    path.write_bytes(b"new".ljust(4096, b"\0"))

    file, after = opened(own, mapping)

    assert os.read(file, 3) == b"old"
    assert (after.inode, after.size) == (before.inode, before.size)
    os.close(file)
    memory.close()


def test_a_mapping_that_is_gone():
    """Nobody is told that it has a file."""
    mapping = Mapping(0x1000, 0x2000, 0, b"fe:01", 17, b"/nowhere")

    with pytest.raises(FileNotFoundError):
        identity(Path("/proc/self"), mapping, frozenset())


def test_the_vdso_has_rows():
    """It is an ELF file in memory, the same in each process."""
    file = vdso_file()

    table = ehframe.table(file)

    os.close(file)
    (own,) = [each for each in mappings(Path("/proc/self"))[0] if each.path == VDSO]
    assert len(table.rows) > 10
    assert bias_of(own, table.segments) == own.start
