"""
System calls that a process makes no more, whatever it is made to do.

A filter is a classic BPF program over struct seccomp_data (include/uapi/linux/seccomp.h) that each call of the thread
goes through which installed it, and of all that it starts. What is refused fails with EPERM.
"""

from __future__ import annotations

import ctypes
import struct
from typing import TYPE_CHECKING

from tracekit.capture.syscalls import NAMES

if TYPE_CHECKING:
    from collections.abc import Iterable

NEVER = """
    ptrace process_vm_writev pidfd_getfd kcmp open_by_handle_at mount umount2 pivot_root chroot move_mount open_tree
    open_tree_attr fsopen fsmount fsconfig fspick mount_setattr unshare setns init_module finit_module delete_module
    kexec_load kexec_file_load reboot swapon swapoff settimeofday clock_settime clock_adjtime adjtimex sethostname
    setdomainname acct quotactl quotactl_fd syslog iopl ioperm add_key request_key keyctl userfaultfd mknod mknodat
    io_uring_setup io_uring_enter io_uring_register
"""
"""What no collector has a use for once it is attached; with its capabilities most of it gives the machine away."""
READING = """
    read pread64 lseek fstat newfstatat close mmap munmap mremap mprotect madvise brk futex rt_sigaction rt_sigprocmask
    rt_sigreturn sigaltstack restart_syscall poll ppoll recvmsg sendmsg sendto recvfrom fcntl memfd_create write
    ftruncate getrandom getpid gettid clock_gettime clock_getres getrusage times sched_yield rseq exit exit_group
"""
"""All that a process needs which reads files that it is given, and hands others back."""
_NR_SECCOMP, _SET_MODE_FILTER, _NO_NEW_PRIVS = 317, 1, 38
_X86_64, _X32 = 0xC000003E, 0x40000000
_ALLOW, _EPERM = 0x7FFF0000, 0x00050001
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NR_AT, _ARCH_AT = 0, 4
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]


def refuse(names: str) -> bool:
    """Have calls refused for this thread and what it starts, for good; False: this kernel has no filters."""
    return _install(program(names, _EPERM, _ALLOW))


def allow(names: str) -> bool:
    """Have all other calls refused for this thread and what it starts, for good. As refuse()."""
    return _install(program(names, _ALLOW, _EPERM))


def program(names: str, those: int, others: int) -> bytes:
    """Return a filter that answers the calls *names* with *those*; 32-bit calls are refused."""
    numbers = {name: number for number, name in NAMES.items()}
    code = [(_LOAD, 0, 0, _ARCH_AT), (_EQUAL, 1, 0, _X86_64), (_RETURN, 0, 0, _EPERM)]
    code += [(_LOAD, 0, 0, _NR_AT), (_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _EPERM)]
    for name in names.split():
        code += [(_EQUAL, 0, 1, numbers[name]), (_RETURN, 0, 0, those)]
    return _packed([*code, (_RETURN, 0, 0, others)])


def _packed(code: Iterable[tuple[int, int, int, int]]) -> bytes:
    return b"".join(struct.pack("=HBBI", *each) for each in code)


def _install(code: bytes) -> bool:
    _LIBC.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    held = ctypes.create_string_buffer(code, len(code))
    filter_ = struct.pack("=H6xQ", len(code) // 8, ctypes.addressof(held))
    return int(_LIBC.syscall(_NR_SECCOMP, _SET_MODE_FILTER, 0, ctypes.create_string_buffer(filter_))) == 0
