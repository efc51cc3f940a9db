"""The target: a launched command that waits for the trace, or processes and cgroups that exist."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from tracekit.capture.host.facts import has_kernels_pids
from tracekit.capture.owner import owner
from tracekit.errors import MachineError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Command:
    """
    A child that has been forked, but runs its program only when told to.

    Args:
        argv: program and arguments; the program is looked up in PATH.
        environment: variables that it has beside ours, or with another value.

    Raises:
        UsageError: no such program.
    """

    def __init__(self, argv: tuple[str, ...], environment: Iterable[tuple[str, str]] = ()) -> None:
        import shutil  # noqa: PLC0415 - 10 ms, of which an attach has no need

        path = shutil.which(argv[0])
        if not path:
            fact = "not a program that you may run" if "/" in argv[0] and Path(argv[0]).exists() else "no such program"
            raise UsageError(f"cannot run {argv[0]}: {fact}", "a full path, or `--` before the command")
        self._argv = argv
        self._environment = dict(environment)
        go, self._go = os.pipe()
        self._failed, failed = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            self._become(path, go, failed)
        os.close(go)
        os.close(failed)
        self.status: int | None = None
        """wait(2) status, None while it runs."""

    def _become(self, path: str, go: int, failed: int) -> None:
        """In the child: wait for the word, then be the program, as the user behind sudo."""
        try:
            os.close(self._go)
            Path("/proc/self/comm").write_bytes(os.fsencode(Path(path).name)[:15])  # what runs before is no python
            if not os.read(go, 1):
                os._exit(0)  # the tracer died before it said go: nothing was asked of us
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
                signal.signal(number, signal.SIG_DFL)
            os.execve(path, self._argv, _drop_privileges() | self._environment)  # noqa: S606 - no shell is what we want
        except OSError as error:
            os.write(failed, str(error.errno or 0).encode())
        finally:
            os._exit(127)

    def go(self) -> None:
        """Let it run its program. Raises UsageError if the program cannot be."""
        os.write(self._go, b"g")
        os.close(self._go)
        self._go = -1
        failure = os.read(self._failed, 16)
        os.close(self._failed)
        if failure:
            self.poll(wait=True)
            raise UsageError(f"cannot run {self._argv[0]}: {os.strerror(int(failure))}", "an executable file")

    @property
    def ended(self) -> bool:
        """It has ended; it is not reaped yet, so that the last look at /proc still finds what it used."""
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return self.status is not None or os.waitid(os.P_PID, self.pid, options) is not None

    def poll(self, *, wait: bool = False) -> bool:
        """Return True if it has ended."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, 0 if wait else os.WNOHANG)
            if pid:
                self.status = status
        return self.status is not None

    @property
    def exit_code(self) -> int:
        """As a shell gives it: its code, or 128 + signal."""
        status = self.status or 0
        return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)

    def close(self) -> None:
        """End it if it never ran, as the trace could not begin; else leave it be."""
        if self._go >= 0:
            os.close(self._go)
            os.close(self._failed)
            self.poll(wait=True)


def _drop_privileges() -> dict[str, str]:
    """Become the user behind sudo, if there is one, and return the environment of that user."""
    environment = dict(os.environ)
    user = owner()
    if user:
        os.initgroups(user.name, user.gid)
        os.setgid(user.gid)
        os.setuid(user.uid)
        environment |= {"HOME": user.home, "USER": user.name, "LOGNAME": user.name}
    return environment


def check_pid_namespace() -> None:
    """Raise MachineError if process ids here mean others to the kernel: it would trace somebody else's process."""
    if not has_kernels_pids():
        fact = "process ids of this container are not those of the kernel"
        raise MachineError(f"cannot trace a process: {fact}", "docker run --pid host ..., or tracekit outside of it")


def check_pids(pids: Iterable[int], own_pid: int, verb: str = "attach to") -> tuple[int, ...]:
    """
    Return process ids; a thread's id becomes its process's.

    Raises:
        UsageError: one is not there, or cannot be traced; *verb* says what for.
    """
    found = []
    for pid in pids:
        if pid == own_pid:
            raise UsageError("cannot trace tracekit itself", "the process id of your program")
        try:
            status = Path(f"/proc/{pid}/status").read_bytes().decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError) as error:
            raise UsageError(f"cannot {verb} {pid}: no such process", "pgrep -af NAME") from error
        fields = dict(line.split(":", 1) for line in status.split("\n") if ":" in line)
        if fields.get("State", "").strip().startswith(("Z", "X")):
            raise UsageError(f"cannot {verb} {pid}: it has exited already (zombie)", "pgrep -af NAME")
        if "VmSize" not in fields and fields.get("Kthread", "0").strip() != "0":
            raise UsageError(f"cannot {verb} {pid}: it is a kernel thread", "the process id of your program")
        found.append(int(fields.get("Tgid", str(pid))))
    return tuple(dict.fromkeys(found))


def cgroup_id(path: str) -> int:
    """
    Return the id of a cgroup v2, given as a folder or relative to the mount.

    Raises:
        UsageError: no such cgroup; MachineError: no cgroup v2 here.
    """
    mount = _cgroup2_mount()
    folder = Path(path)
    if not folder.is_relative_to(mount):
        folder = mount / path.lstrip("/")
    if not (folder / "cgroup.procs").exists():
        fact = f"{folder} is no cgroup of version 2"
        raise UsageError(f"cannot attach to cgroup {path}: {fact}", f"a folder under {mount}")
    return folder.stat().st_ino


def _cgroup2_mount() -> Path:
    for line in Path("/proc/self/mountinfo").read_bytes().decode(errors="replace").split("\n")[:-1]:
        fields, _, kind = line.partition(" - ")
        if kind.split()[0] == "cgroup2":
            return Path(fields.split()[4])
    raise MachineError("cannot attach to a cgroup: no cgroup v2 is mounted", "mount -t cgroup2 none /sys/fs/cgroup")


def open_pidfds(pids: Iterable[int]) -> dict[int, int]:
    """Return for each process a descriptor that turns readable when it ends; none for one that has ended."""
    descriptors = {}
    for pid in pids:
        try:
            descriptors[pid] = os.pidfd_open(pid)
        except ProcessLookupError:  # noqa: PERF203 - it ended just now: the first tick will see that
            continue
    return descriptors


def ended(pids: Iterable[int], ends: Mapping[int, int]) -> list[int]:
    """Return those of *pids* that have ended, by their descriptors: their ids may be another process's by now."""
    poller = select.poll()
    for descriptor in ends.values():
        poller.register(descriptor, select.POLLIN)
    over = {descriptor for descriptor, _ in poller.poll(0)}
    return [pid for pid in pids if ends.get(pid, -1) in {-1, *over}]
