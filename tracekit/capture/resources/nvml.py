"""One reading of every GPU through nvidia-ml-py. Imported by the thread that makes the calls, and only there."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from tracekit.capture import nvidia
from tracekit.capture.resources.gpu import Reading
from tracekit.records import Series, labels_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

    from tracekit.capture.resources.increase import Sample

THROTTLING = {
    "power": 0x04,  # software power cap
    "thermal": 0x20 | 0x40,  # software, hardware
    "power brake": 0x80,  # an external signal: the power supply's
    "hardware": 0x08,  # heat, power brake, or a fast drop of the voltage
}
"""Bits of the clocks' event reasons that hold a busy GPU back (nvml.h); not among them: idle, and what a user set."""
_SUCCESS, _NOT_SUPPORTED, _NOT_FOUND, _NO_FUNCTION = 0, 3, 6, 13  # nvmlReturn_t
_LATE_US = 1_000_000
_PERCENT = 100


class CannotStartError(Exception):
    """NVML cannot be used; the text says why."""


class _Gpu(NamedTuple):
    label: str
    handle: object


_Refused = dict[tuple[str, str], list[str]]
"""Labels of the GPUs by what could not be read, and why."""
_Source = Callable[[_Gpu], "list[Sample]"]


class Nvml:
    """
    The library, started.

    Raises:
        CannotStartError: no binding, no driver, a driver of another version, no permission.
    """

    def __init__(self) -> None:
        self._nvml = _binding()
        try:
            self._nvml.nvmlInit()
            self._count: int = self._nvml.nvmlDeviceGetCount()
        except self._nvml.NVMLError as error:
            raise CannotStartError(_line(error)) from error
        self._seen_us: dict[str, int] = {}
        self._began_us = time.time_ns() // 1000 - _LATE_US
        if not self._count:
            raise CannotStartError("the driver shows no GPU")

    def read(self, live: frozenset[int]) -> Reading:
        """Call for every GPU; *live* are the tgids of the target."""
        refused: _Refused = {}
        gpus = [gpu for index in range(self._count) for gpu in self._open(str(index), refused)]
        sources = self._sources(live)
        samples = [
            sample for gpu in gpus for what, source in sources for sample in self._try(what, source, gpu, refused)
        ]
        return Reading(
            samples, [(f"{what} of GPU {', '.join(labels)}", why) for (what, why), labels in refused.items()]
        )

    def _open(self, label: str, refused: _Refused) -> list[_Gpu]:
        try:
            return [_Gpu(label, self._nvml.nvmlDeviceGetHandleByIndex(int(label)))]
        except self._nvml.NVMLError as error:
            refused.setdefault(("gpu", _line(error)), []).append(label)
            return []

    def _try(self, what: str, source: _Source, gpu: _Gpu, refused: _Refused) -> list[Sample]:
        try:
            return source(gpu)
        except self._nvml.NVMLError as error:
            refused.setdefault((what, self._why(error, gpu)), []).append(gpu.label)
            return []

    def _sources(self, live: frozenset[int]) -> list[tuple[str, _Source]]:
        whole: list[tuple[str, _Source]] = [
            ("gpu.utilisation", self._utilisation),
            ("gpu.memory", self._memory),
            ("gpu.power", self._power),
            ("gpu.temperature", self._temperature),
            ("gpu.throttled", self._throttled),
        ]
        if not live:
            return whole
        return [
            *whole,
            ("gpu.process.memory", lambda gpu: self._memory_of(gpu, live)),
            ("gpu.process.utilisation", lambda gpu: self._utilisation_of(gpu, live)),
        ]

    def _why(self, error: Exception, gpu: _Gpu) -> str:
        if getattr(error, "value", 0) != _NOT_SUPPORTED:
            return _line(error)
        return "NVML does not tell while MIG is on" if self._is_split(gpu) else "not supported by this GPU"

    def _is_split(self, gpu: _Gpu) -> bool:
        """Tell whether it is divided into instances (MIG), which have no utilisation that NVML tells."""
        try:
            return bool(self._nvml.nvmlDeviceGetMigMode(gpu.handle)[0])
        except self._nvml.NVMLError:  # older than MIG
            return False

    def _utilisation(self, gpu: _Gpu) -> list[Sample]:
        rates = self._nvml.nvmlDeviceGetUtilizationRates(gpu.handle)
        return [(_gauge("gpu.utilisation", "share", gpu=gpu.label), rates.gpu / _PERCENT)]

    def _memory(self, gpu: _Gpu) -> list[Sample]:
        memory = self._nvml.nvmlDeviceGetMemoryInfo(gpu.handle)
        used = _gauge("gpu.memory.used", "bytes", gpu=gpu.label)
        return [(used, memory.used), (_gauge("gpu.memory.available", "bytes", gpu=gpu.label), memory.free)]

    def _power(self, gpu: _Gpu) -> list[Sample]:
        milliwatts = self._nvml.nvmlDeviceGetPowerUsage(gpu.handle)
        return [(_gauge("gpu.power", "W", gpu=gpu.label), milliwatts / 1000)]

    def _temperature(self, gpu: _Gpu) -> list[Sample]:
        degrees = self._nvml.nvmlDeviceGetTemperature(gpu.handle, self._nvml.NVML_TEMPERATURE_GPU)
        return [(_gauge("gpu.temperature", "°C", gpu=gpu.label), degrees)]

    def _throttled(self, gpu: _Gpu) -> list[Sample]:
        try:
            reasons = self._nvml.nvmlDeviceGetCurrentClocksEventReasons(gpu.handle)
        except self._nvml.NVMLError as error:
            if error.value != _NO_FUNCTION:
                raise
            reasons = self._nvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu.handle)  # its name before driver 535
        return [
            (_gauge("gpu.throttled", "share", gpu=gpu.label, reason=reason), float(bool(reasons & bits)))
            for reason, bits in THROTTLING.items()
        ]

    def _memory_of(self, gpu: _Gpu, live: frozenset[int]) -> list[Sample]:
        """Sum up what the target's processes hold; one that computes and draws is in both lists with all it has."""
        lists = (
            self._nvml.nvmlDeviceGetComputeRunningProcesses_v3,
            self._nvml.nvmlDeviceGetGraphicsRunningProcesses_v3,
        )
        used: dict[tuple[int, int, int], int] = {}
        for process in [process for processes in lists for process in processes(gpu.handle) if process.pid in live]:
            if process.usedGpuMemory is None:
                raise self._nvml.NVMLError(_NOT_SUPPORTED)
            used[process.pid, process.gpuInstanceId, process.computeInstanceId] = process.usedGpuMemory
        return [(_gauge("gpu.process.memory", "bytes", gpu=gpu.label), sum(used.values()))]

    def _utilisation_of(self, gpu: _Gpu, live: frozenset[int]) -> list[Sample]:
        """Sum up the newest sample of each process of the target."""
        samples = self._process_samples(gpu)
        newest = {sample.pid: sample for sample in sorted(samples, key=lambda sample: sample.timeStamp)}
        busy = sum(sample.smUtil for pid, sample in newest.items() if pid in live)
        return [(_gauge("gpu.process.utilisation", "share", gpu=gpu.label), busy / _PERCENT)]

    def _process_samples(self, gpu: _Gpu) -> Iterable[Any]:
        """Return those since the last time; times are µs since 1970."""
        since_us = self._seen_us.get(gpu.label, self._began_us)
        try:
            samples = self._nvml.nvmlDeviceGetProcessUtilization(gpu.handle, since_us)
        except self._nvml.NVMLError as error:
            if error.value not in (_SUCCESS, _NOT_FOUND):  # both: no process used the GPU
                raise
            return []
        self._seen_us[gpu.label] = max([since_us, *(sample.timeStamp for sample in samples)])
        return [sample for sample in samples if sample.smUtil <= _PERCENT]  # rows that were never filled hold anything


def _binding() -> ModuleType:
    try:
        module = importlib.import_module("pynvml")
    except ImportError as error:
        raise CannotStartError(nvidia.NO_BINDING) from error
    if not hasattr(module, nvidia.NEWEST_CALL):
        raise CannotStartError(nvidia.OLD_BINDING)
    return module


def _line(error: Exception) -> str:
    return str(error).rstrip(".")


def _gauge(metric: str, unit: str, **labels: str) -> Series:
    return Series(metric, labels_of(labels), "gauge", unit)
