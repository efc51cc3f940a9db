"""
How much of the time of spans was in calls of the GPU's driver, as their stacks say.

A thread is in the driver while code of one of its libraries is on its stack and no Python code is deeper: it hands
over work or waits for the GPU, asleep or spinning. That is what a GPU costs the latency of a span; work that the
GPU does meanwhile costs it nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracekit.analysis import flame
from tracekit.analysis.breakdown import ON_CPU
from tracekit.stacks import is_python

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tracekit.stacks import Stack

GPU = "gpu"
"""A component beside those of breakdown.COMPONENTS, taken out of on-CPU and waits where stacks are known."""
_DRIVER = re.compile(r" \((?:libcuda|libnvidia-(?!ml\.so)[\w-]+)\.so[.\w]*\)$")
"""
How a native frame of the compute part of NVIDIA's driver ends; NVML only reads sensors and is none of it. Source:
https://download.nvidia.com/XFree86/Linux-x86_64/550.54.14/README/installedcomponents.html
"""
_BLIND = 0.1
"""Share of the miss on a CPU from which one sample at least is needed to say that it was not the GPU. Our choice."""


@dataclass(frozen=True)
class Driver:
    """
    The time of some spans in the driver.

    Attributes:
        ns: by the component that it is part of.
        calls: the same by the function of the driver that was called.
        blind: too little is known of what they did on a CPU.
    """

    ns: Mapping[str, float]
    calls: Mapping[str, float]
    blind: bool


def called(code: Stack) -> str:
    """Return the frame of the driver that was called, `cuCtxSynchronize (libcuda.so.550.54.14)`; "" if none was."""
    last = max((place for place, frame in enumerate(code) if is_python(frame)), default=-1)
    return next((frame for frame in code[last + 1 :] if _DRIVER.search(frame)), "")


def of(weights: Mapping[Stack, float], at: int, miss: float) -> Driver:
    """
    Return the time in the driver of *weights*, stacks of `spanstacks` whose component is frame *at*.

    On a CPU it is the share that the samples have of it, where they are of all of it. *miss* is the time that is to
    be explained: too little is known if there is no sample of what could be much of it.
    """
    ns: dict[str, float] = {}
    calls: dict[tuple[str, str], float] = {}
    running = sampled = 0.0
    for stack, weight in weights.items():
        component, code = stack[at].removeprefix(flame.BLOCKED), stack[at + 1 :]
        running += weight if component == ON_CPU else 0
        sampled += weight if component == ON_CPU and code else 0
        call = called(code)
        if call:
            ns[component] = ns.get(component, 0) + weight
            calls[component, call] = calls.get((component, call), 0) + weight
    grown = {ON_CPU: running / sampled if sampled else 1.0}
    by_call: dict[str, float] = {}
    for (component, call), weight in calls.items():
        by_call[call] = by_call.get(call, 0) + weight * grown.get(component, 1.0)
    blind = not sampled and running > _BLIND * miss
    return Driver({name: weight * grown.get(name, 1.0) for name, weight in ns.items()}, by_call, blind)


def moved(amounts: Mapping[str, float], driver: Mapping[str, float]) -> dict[str, float]:
    """Return *amounts* (ns by component) with what of each was in the *driver* as a component of its own."""
    rest = {name: amount - driver.get(name, 0.0) for name, amount in amounts.items()}
    return {**rest, GPU: sum(driver.values())}
