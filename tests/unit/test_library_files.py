"""Which files of a process are client libraries: by name only to look closer, never to open."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tracekit.capture.libraries.functions import kinds_of
from tracekit.capture.libraries.mapped import UnfitError, code_size, libraries, opened

if TYPE_CHECKING:
    from pathlib import Path

MAPS = r"""
00400000-00452000 r-xp 00000000 08:02 173521     /usr/bin/python3.11
7f0000000000-7f0000100000 r--p 00000000 08:02 11         /usr/lib/libpq.so.5.15
7f0000100000-7f0000200000 r-xp 00100000 08:02 11         /usr/lib/libpq.so.5.15
7f0000200000-7f0000300000 rw-p 00200000 08:02 11         /usr/lib/libpq.so.5.15
7f0000300000-7f0000400000 r-xp 00000000 00:2f 12         /srv/a b\012/libpq-a17e3caa.so.5.17 (deleted)
7f0000400000-7f0000500000 r-xp 00000000 00:31 11         /usr/lib/x86_64-linux-gnu/libsqlite3.so.0.8.6
7f0000500000-7f0000600000 r-xp 00000000 08:02 13         /lib-dynload/_sqlite3.cpython-311-x86_64-linux-gnu.so
7f0000600000-7f0000700000 rw-p 00000000 00:00 0
7f0000700000-7f0000800000 r-xp 00000000 00:00 0          [vdso]
"""


@pytest.fixture
def process(tmp_path: Path) -> Path:
    """Return what /proc says of a process."""
    (tmp_path / "maps").write_text(MAPS)
    (tmp_path / "status").write_text("Name:\tpython3\nVmExe:\t    2772 kB\nVmLib:\t    3860 kB\n")
    (tmp_path / "mountinfo").write_text(
        "24 1 8:2 / / rw - ext4 /dev/sda2 rw\n36 24 0:47 / /srv rw shared:1 - fuse.sshfs box:/ rw,user_id=0\n"
    )
    return tmp_path


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/usr/lib/x86_64-linux-gnu/libpq.so.5.15", "libpq"),
        ("/site-packages/psycopg2_binary.libs/libpq-a17e3caa.so.5.17", "libpq"),
        ("/usr/lib/libpq.so.5 (deleted)", "libpq"),
        ("/usr/lib/x86_64-linux-gnu/libsqlite3.so.0.8.6", "libsqlite3"),
        ("/pysqlite3/_sqlite3.cpython-311-x86_64-linux-gnu.so", "libsqlite3"),
        ("/usr/lib/x86_64-linux-gnu/libmariadb.so.3", "libmariadb"),
        ("/usr/lib/x86_64-linux-gnu/libmysqlclient.so.21.2.39", "libmariadb"),
        ("/site-packages/_mysql_connector.cpython-311-x86_64-linux-gnu.so", "libmariadb"),
        ("/usr/lib/libpqxx-6.4.so", ""),
        ("/usr/lib/mylibpq.so.5", ""),
        ("/usr/lib/libpq.so.5/plugin.so", ""),
        ("/tmp/libsqlite3.so.0.log", ""),
    ],
)
def test_kinds_by_name(path: str, kind: str):
    """As distributions, wheels and extension modules name them."""
    assert [library.name for library in kinds_of(path.encode())] == ([kind] if kind else [])


def test_libraries_of_a_process(process: Path):
    """Each file once, by its code; equal inodes of two file systems are two."""
    found = libraries(process)

    assert [(each.kind.name, each.range, each.device, each.inode) for each in found] == [
        ("libpq", "7f0000100000-7f0000200000", b"08:02", 11),
        ("libpq", "7f0000300000-7f0000400000", b"00:2f", 12),
        ("libsqlite3", "7f0000400000-7f0000500000", b"00:31", 11),
        ("libsqlite3", "7f0000500000-7f0000600000", b"08:02", 13),
    ]
    assert [each.by_client for each in found] == [False, False, True, True]


def test_code_that_is_mapped(process: Path):
    """What grows when a library is loaded; a process that has gone has none."""
    assert code_size(process) == 3860
    assert code_size(process / "gone") == -1


def test_file_systems_that_may_never_answer_are_not_touched(process: Path):
    """A process can serve a file system itself, and keep whoever reads from it waiting for ever."""
    served = libraries(process)[1]

    with pytest.raises(UnfitError, match="FUSE"):
        opened(process, served)


def test_only_files_are_opened(process: Path):
    """A mapping may be of a device, or of nothing that can be read in order."""
    mapped = libraries(process)[0]
    (process / "map_files").mkdir()
    os.mkfifo(process / "map_files" / mapped.range)

    with pytest.raises(UnfitError, match="no file"):
        opened(process, mapped)


def test_the_file_behind_a_mapping(process: Path):
    """Who it is stays the same under another name."""
    mapped = libraries(process)[0]
    (process / "map_files").mkdir()
    place = process / "map_files" / mapped.range
    place.write_bytes(b"\x7fELF")
    file, identity = opened(process, mapped)
    content = os.pread(file, 4, 0)
    os.close(file)

    file, again = opened(process, mapped)

    os.close(file)
    assert content == b"\x7fELF"
    assert identity == again
