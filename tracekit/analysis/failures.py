"""Which system calls failed, and which of those failures are everyday noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tracekit.analysis.summary import Summary

_PATHS = """open openat openat2 stat lstat newfstatat statx access faccessat faccessat2 readlink readlinkat
    execve execveat statfs"""
_ONLY = {
    "ENOENT": _PATHS,  # the search along PATH, sys.path, library and locale folders
    "ETIMEDOUT": "futex futex_wait futex_waitv restart_syscall",  # a time limit; from connect: a failure
    "EINVAL": "readlink readlinkat",  # is this a link?
    "ENOTTY": "ioctl",  # is this a terminal?
    "ECHILD": "wait4 waitid",  # no child left to wait for
    "EINPROGRESS": "connect",  # every connect of a non-blocking socket
    "ESPIPE": "lseek",  # can this file seek?
    "ENODATA": "getxattr lgetxattr fgetxattr",  # no such attribute
}
"""Failures that are noise, but only from these calls."""
_EXCEPT = {
    "EAGAIN": """fork vfork clone clone3 execve execveat mmap mremap mlock mlock2 mlockall io_setup timer_create
    setuid setreuid setresuid""",  # not "later" but: a limit was hit
    "EINTR": "",
}
"""Failures that are noise, except from these calls."""


@dataclass(frozen=True)
class Failure:
    """
    One way a system call failed.

    Attributes:
        share: of the calls of *syscall*; None: not known.
        noise: programs do this all day and mean nothing by it.
        roles: of the processes that made these calls, most failures first.
    """

    syscall: str
    errno: str
    count: int
    share: float | None
    noise: bool
    roles: tuple[str, ...]


def is_noise(syscall: str, errno: str) -> bool:
    """Tell whether *errno* from *syscall* is how programs ask, poll and search."""
    if errno in _ONLY:
        return syscall in _ONLY[errno].split()
    return errno in _EXCEPT and syscall not in _EXCEPT[errno].split()


def failures(summary: Summary) -> list[Failure] | None:
    """Return the failures, most frequent first; None if failed calls were not measured."""
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for series, count in summary.counters.items():
        if series.metric == "syscall.errors" and count:
            roles = counts.setdefault((series.label("syscall"), series.label("errno")), {})
            roles[series.label("role")] = roles.get(series.label("role"), 0) + count
    if not counts and "errors" not in summary.tiers:
        return None
    found = [_failure(summary, *key, roles) for key, roles in counts.items()]
    return sorted(found, key=lambda failure: (-failure.count, failure.syscall, failure.errno))


def _failure(summary: Summary, syscall: str, errno: str, roles: dict[str, int]) -> Failure:
    count = sum(roles.values())
    most_first = tuple(sorted(roles, key=lambda role: (-roles[role], role)))
    return Failure(syscall, errno, count, _share(summary, syscall, count), is_noise(syscall, errno), most_first)


def _share(summary: Summary, syscall: str, count: int) -> float | None:
    """Return the share of all calls; calls are counted over all roles, so that of one role is not known."""
    calls = None if summary.role else summary.counter("syscall.calls", syscall=syscall)
    return count / calls if calls else None
