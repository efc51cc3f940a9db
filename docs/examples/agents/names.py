"""What tools call a process."""

from pathlib import Path


def be_called(name: str) -> None:
    """Set the kernel's name (comm) of this process, which tracekit shows as its role; at most 15 bytes."""
    Path("/proc/self/comm").write_text(name)
