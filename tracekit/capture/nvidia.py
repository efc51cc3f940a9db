"""What doctor and the collector must say alike of NVIDIA's GPUs: whether there is one, and why NVML does not answer."""

from __future__ import annotations

import sys
from pathlib import Path

NO_DEVICE = "no NVIDIA device here"
NO_BINDING = "nvidia-ml-py is not installed"
OLD_BINDING = "nvidia-ml-py is older than 12.535"
NEWEST_CALL = "nvmlDeviceGetCurrentClocksEventReasons"
"""What a binding has that is new enough: the newest function of NVML that the collector calls."""
_VENDOR = "0x10de"  # PCI


def has_device(root: Path = Path("/")) -> bool:
    """Tell whether the machine has an NVIDIA device, with a driver or not."""
    vendors = (root / "sys/bus/pci/devices").glob("*/vendor")
    return (root / "dev/nvidiactl").exists() or any(file.read_text().strip() == _VENDOR for file in vendors)


def cure(said: str) -> str:
    """Return what helps if starting NVML said so."""
    if said in (NO_BINDING, OLD_BINDING):
        return f"{sys.executable} -m pip install --upgrade nvidia-ml-py"
    if "mismatch" in said:  # the package was upgraded under a running kernel
        return "reboot: the driver that runs is not the one that is installed"
    if "Permission" in said:
        return "ask who keeps /dev/nvidia* from you; in a container: docker run --gpus all"
    return "install NVIDIA's driver; in a container: docker run --gpus all"
