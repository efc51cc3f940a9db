"""GPUs through NVIDIA's real binding, against a library that answers as NVML does."""

from __future__ import annotations

import ctypes.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tracekit.capture import nvidia
from tracekit.capture.host import checks
from tracekit.capture.resources.files import Missing
from tracekit.capture.resources.gpu import Gpus

ROOT = Path(__file__).parents[2]
SOURCE = Path(__file__).parent / "stubs" / "nvml.c"
COMPILER = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
OF_GPU_0 = {
    "gpu.utilisation": 0.37,
    "gpu.memory.used": 2e9,
    "gpu.memory.available": 78e9,
    "gpu.power": 300.5,
    "gpu.temperature": 61,
    "gpu.process.memory": 3e9,
    "gpu.process.utilisation": 0.25,
}
WHOLE = [name for name in OF_GPU_0 if ".process" not in name]

# What a session does at its ticks, until there are so many readings, GPUs fail altogether, or 5 s have passed.
PROGRAM = """
import json, sys, time
from pathlib import Path
from tracekit.capture.resources import gpu
from tracekit.capture.resources.files import Missing

gpu.PATIENCE_NS = 10**9
root, live, rounds = Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3])
missing, readings, longest_s = Missing(), [], 0
gpus = gpu.Gpus(root, missing)
end = time.monotonic() + 5

def failed():
    return any(line.startswith(("gpu:", "gpu of")) for line in missing.lines)

while time.monotonic() < end and len(readings) < rounds and not failed():
    before = time.monotonic()
    samples = gpus.sample(live)
    longest_s = max(longest_s, time.monotonic() - before)
    if samples:
        readings.append([[s.metric, dict(s.labels), s.kind, s.unit, value] for s, value in samples])
    time.sleep(0.002)
seen = {"readings": readings, "missing": missing.lines, "longest_s": longest_s, "pynvml": "pynvml" in sys.modules}
print(json.dumps(seen))
"""


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """Compiles the stub, given flags, and returns its folder."""
    if not COMPILER:
        pytest.skip("no C compiler")
    pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")

    def compiled(*flags):
        folder = tmp_path_factory.mktemp("nvml")
        output = folder / "libnvidia-ml.so.1"
        subprocess.run([COMPILER, *flags, "-Wall", "-shared", "-fPIC", "-o", output, SOURCE], check=True)
        return folder

    return compiled


@pytest.fixture(scope="session")
def nvml(library):
    """The folder of the stub."""
    return library()


@pytest.fixture
def machine(tmp_path):
    """A made-up host with an NVIDIA driver."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidiactl").touch()
    (tmp_path / "proc/self/ns").mkdir(parents=True)
    (tmp_path / "proc/self/ns/pid").symlink_to("pid:[4026531836]")
    return tmp_path


def observe(root, folder=None, stub="", live=(4711,), rounds=1, python=""):
    """Return what a collector on the machine *root* measured in a process of its own."""
    path = os.pathsep.join(filter(None, [python, str(ROOT)]))
    environment = {**os.environ, "NVML_STUB": stub, "PYTHONPATH": path}
    if folder:
        environment["LD_LIBRARY_PATH"] = str(folder)
    command = [sys.executable, "-c", PROGRAM, str(root), json.dumps(live), str(rounds)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    return json.loads(done.stdout)


def of_gpu(seen, gpu="0"):
    samples = seen["readings"][-1]
    return {metric: value for metric, labels, _, _, value in samples if labels == {"gpu": gpu}}


def throttled(seen, gpu="0"):
    samples = seen["readings"][-1]
    return {
        labels["reason"]: value
        for metric, labels, *_, value in samples
        if (metric, labels["gpu"]) == ("gpu.throttled", gpu)
    }


# --- what is measured -----------------------------------------------------------------------------------------------


def test_each_gpu_is_measured_and_the_targets_part_of_it(machine, nvml):
    """Of the target: of two processes one, whose memory is in both lists, and its newest sample of use."""
    seen = observe(machine, nvml, "pid=4711")

    assert of_gpu(seen) == OF_GPU_0
    assert of_gpu(seen, "1") == {
        "gpu.utilisation": 0.38,
        "gpu.memory.used": 3e9,
        "gpu.memory.available": 77e9,
        "gpu.power": 301.5,
        "gpu.temperature": 62,
        "gpu.process.memory": 0,
        "gpu.process.utilisation": 0,
    }
    assert seen["missing"] == []


def test_every_series_is_as_documented(machine, nvml):
    """docs/metrics.md is the contract: metric, labels and unit."""
    documented = (ROOT / "docs/metrics.md").read_text().splitlines()

    for metric, labels, kind, unit, _ in observe(machine, nvml, "pid=4711")["readings"][0]:
        rows = [line.split("|") for line in documented if f"`{metric}`" in line and line.startswith("|")]
        assert kind == "gauge"
        assert [set(labels) == {name.split(" = ")[0].strip() for name in row[2].split(";")} for row in rows] == [True]
        assert unit in rows[0][3]


@pytest.mark.parametrize(
    ("bits", "reasons"),
    [
        (0x01, set()),  # idle
        (0x02 | 0x100, set()),  # what a user set
        (0x04, {"power"}),
        (0x20, {"thermal"}),
        (0x48, {"thermal", "hardware"}),
        (0x88, {"power brake", "hardware"}),
    ],
)
def test_throttling_has_reasons(machine, nvml, bits, reasons):
    """One that does not hold is measured too, as 0; being idle is not throttling."""
    found = throttled(observe(machine, nvml, f"reasons={bits}"))

    assert set(found) == {"power", "thermal", "power brake", "hardware"}
    assert {reason for reason, value in found.items() if value} == reasons


def test_a_driver_before_535_names_the_reasons_otherwise(machine, library):
    """It has no event reasons, but throttle reasons, with the same bits."""
    seen = observe(machine, library("-DBEFORE_535"), "reasons=4")

    assert throttled(seen)["power"] == 1
    assert seen["missing"] == []


def test_a_target_without_a_process_has_no_part(machine, nvml):
    """A zero would be the least of every recording that outlives its target."""
    assert set(of_gpu(observe(machine, nvml, live=()))) == set(WHOLE)


# --- what cannot be measured ----------------------------------------------------------------------------------------


def test_without_a_gpu_nothing_is_imported_and_one_line_says_so(tmp_path):
    """Most machines have none: the collector stays small there."""
    seen = observe(tmp_path, rounds=1)

    assert seen["missing"] == ["gpu: no NVIDIA device here"]
    assert seen["pynvml"] is False


def test_without_a_driver(machine):
    """A card is here, NVIDIA's library is not."""
    if ctypes.util.find_library("nvidia-ml"):
        pytest.skip("this machine has the driver")
    pytest.importorskip("pynvml")

    assert observe(machine)["missing"] == ["gpu: NVML Shared Library Not Found"]


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("raise ModuleNotFoundError('pynvml')", "gpu: nvidia-ml-py is not installed"),
        ("def nvmlInit(): pass", "gpu: nvidia-ml-py is older than 12.535"),
    ],
)
def test_without_a_binding(machine, nvml, tmp_path, module, line):
    """It is an extra of the package; old ones lack functions."""
    (tmp_path / "python").mkdir()
    (tmp_path / "python/pynvml.py").write_text(module + "\n")

    assert observe(machine, nvml, python=str(tmp_path / "python"))["missing"] == [line]


@pytest.mark.parametrize(
    ("stub", "line"),
    [
        ("nvmlInitWithFlags=9", "gpu: Driver Not Loaded"),
        ("nvmlInitWithFlags=18", "gpu: RM has detected an NVML/RM version mismatch"),
        ("nvmlInitWithFlags=4", "gpu: Insufficient Permissions"),
        ("nvmlInitWithFlags=28", "gpu: GPU not found"),  # a code that the binding has no words for
        ("nvmlDeviceGetCount_v2=999", "gpu: Unknown Error"),
        ("gpus=0", "gpu: the driver shows no GPU"),
    ],
)
def test_nvml_that_does_not_start_is_one_line(machine, nvml, stub, line):
    """No GPU series, no exception, and no further try."""
    seen = observe(machine, nvml, stub)

    assert (seen["missing"], seen["readings"]) == ([line], [])


def test_what_a_gpu_refuses_is_left_out_and_the_rest_is_measured(machine, nvml):
    """Lines name the GPUs together; each once, however often it is tried."""
    stub = "pid=4711 nvmlDeviceGetPowerUsage=3 nvmlDeviceGetComputeRunningProcesses_v3=4"

    seen = observe(machine, nvml, stub, rounds=2)

    assert set(of_gpu(seen)) == set(OF_GPU_0) - {"gpu.power", "gpu.process.memory"}
    assert seen["missing"] == [
        "gpu.power of GPU 0, 1: not supported by this GPU",
        "gpu.process.memory of GPU 0, 1: Insufficient Permissions",
    ]


def test_a_divided_gpu_says_that_it_is(machine, nvml):
    """With MIG on, NVML tells memory and power, but no utilisation."""
    stub = "gpus=1 mig=1 nvmlDeviceGetUtilizationRates=3 nvmlDeviceGetProcessUtilization=3"

    seen = observe(machine, nvml, stub)

    assert of_gpu(seen)["gpu.memory.used"] == 2e9
    assert seen["missing"] == [
        "gpu.utilisation of GPU 0: NVML does not tell while MIG is on",
        "gpu.process.utilisation of GPU 0: NVML does not tell while MIG is on",
    ]


def test_a_gpu_that_is_lost_is_one_line_a_call(machine, nvml):
    """Its handle is refused; there is nothing else to say of it."""
    seen = observe(machine, nvml, "nvmlDeviceGetHandleByIndex_v2=15")

    assert seen["missing"] == ["gpu of GPU 0, 1: GPU is lost"]


def test_processes_of_another_pid_namespace_are_not_joined(machine, nvml):
    """NVML tells the ids of its own namespace: in a container, process 7 is somebody else."""
    (machine / "proc/self/ns/pid").unlink()
    (machine / "proc/self/ns/pid").symlink_to("pid:[4026532000]")

    seen = observe(machine, nvml, "pid=4711")

    assert set(of_gpu(seen)) == set(WHOLE)
    assert [line.partition(":")[0] for line in seen["missing"]] == ["gpu.process.memory, gpu.process.utilisation"]


# --- what it costs --------------------------------------------------------------------------------------------------


def test_a_library_that_hangs_does_not_hold_up_ticks_nor_the_end(machine, nvml):
    """A GPU that fell off the bus: the collector goes on, says so, and ends."""
    for function in ("nvmlInitWithFlags", "nvmlDeviceGetPowerUsage"):
        seen = observe(machine, nvml, f"sleep={function}")

        assert seen["missing"] == ["gpu: NVML did not answer for 1 s"]
        assert seen["longest_s"] < 0.2
        assert seen["readings"] == []


def test_readings_that_take_long_become_rare(machine, nvml):
    """40 ms of CPU a reading, at most a 200th of a CPU: none sooner than 8 s after another, so 5 s have one."""
    seen = observe(machine, nvml, "spin_ms=20", rounds=2)

    assert len(seen["readings"]) == 1
    assert seen["longest_s"] < 0.2


def test_a_tick_costs_microseconds_where_there_is_no_gpu(tmp_path):
    """After the first call nothing is looked at."""
    gpus = Gpus(tmp_path, Missing())
    gpus.sample([1])
    before = time.thread_time_ns()
    for _ in range(1000):
        gpus.sample([1])

    assert (time.thread_time_ns() - before) / 1000 < 20_000


# --- doctor ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stub", "state", "fact", "fix"),
    [
        ("gpus=2", "ok", "2 GPU(s), driver 570.00", ""),
        ("nvmlInitWithFlags=18", "missing", "version mismatch", "reboot"),
        ("nvmlInitWithFlags=4", "missing", "Insufficient Permissions", "/dev/nvidia*"),
        ("nvmlInitWithFlags=9", "missing", "Driver Not Loaded", "install NVIDIA's driver"),
    ],
)
def test_doctor_says_the_same(machine, nvml, monkeypatch, stub, state, fact, fix):
    """What it calls ok is what the collector can read."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(nvml))
    monkeypatch.setenv("NVML_STUB", stub)

    check = checks._nvml(machine)

    assert check.state == state
    assert fact in check.fact
    assert fix in check.fix


def test_a_gpu_is_known_by_its_vendor(tmp_path):
    """A machine with an NVIDIA card and no driver lacks something; one without a card does not."""
    vendors = [tmp_path / f"sys/bus/pci/devices/0000:00:0{slot}.0/vendor" for slot in (3, 4)]
    for vendor in vendors:
        vendor.parent.mkdir(parents=True)
    vendors[0].write_text("0x1af4\n")
    without = nvidia.has_device(tmp_path)
    vendors[1].write_text("0x10de\n")

    assert (without, nvidia.has_device(tmp_path)) == (False, True)
