"""
Where in the code threads ran, waited and failed: stacks held to what was measured exactly.

Accounts know to the nanosecond how long each thread ran and waited, and counters how often calls
failed; stacks are known of some of it. Samples are scaled to the exact number, in integers that add
up to it; waits are as long as they were, and what has no stack stays the state itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from tracekit.analysis.walltime import ON_CPU, RUN_QUEUE
from tracekit.stacks import scaled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tracekit.records import Series, StackWeight
    from tracekit.samples import StackSamples
    from tracekit.stacks import Stack

    Shown = Callable[[Stack], Stack]
    """From a stack as it was recorded to that which is shown."""
    Samples = Mapping[Series, StackSamples]
    Groups = dict[Stack, dict[Stack, int]]
    """By what is known exactly: the weight of stacks below it."""

BLOCKED = "blocked"


@dataclass(frozen=True, eq=False)
class Profile:
    """
    Stacks, and how much is behind them.

    Attributes:
        weights: integers, ns or calls; they add up to what was measured exactly.
        samples: on a CPU, or of failed calls.
        placed: as much of the weight has a stack of code.
        strange: samples and waits of what has no exact number: left out.
    """

    weights: Mapping[Stack, int]
    samples: int
    placed: int
    strange: int

    @property
    def known(self) -> float:
        """Share of the weight that has a stack of code, of as much as can have one: waiting for a CPU cannot."""
        whole = sum(weight for stack, weight in self.weights.items() if stack[2:] != (RUN_QUEUE,))
        return self.placed / whole if whole else 0.0


def wall(accounts: Mapping[Stack, StackWeight], cpu: Samples, waits: Samples, shown: Shown) -> Profile:
    """
    Return all time of threads: `role;thread;on-CPU;frames`, `role;thread;blocked;reason;syscall;frames`, in ns.

    Args:
        accounts: wall time without code, as `Recording.stacks` has it.
        cpu: series of `stack.oncpu`.
        waits: series of `stack.offcpu`.
        shown: drops or joins frames.
    """
    exact = {stack: held.weight for stack, held in accounts.items()}
    weights, ran = _held(exact, _grouped(cpu, shown, _run), sampled=True)
    weights, waited = _held(weights, _grouped(waits, shown, _wait), sampled=False)
    strange = _strange(cpu, exact, _run)
    samples = sum(found.samples for found in cpu.values()) - strange
    return Profile(weights, samples, ran + waited, strange + _strange(waits, exact, _wait))


def on_cpu(accounts: Mapping[Stack, StackWeight], cpu: Samples, shown: Shown) -> Profile:
    """Return the time on CPUs: `role;thread;frames`, in ns."""
    return _only(wall(accounts, cpu, {}, shown), ON_CPU)


def off_cpu(accounts: Mapping[Stack, StackWeight], waits: Samples, shown: Shown) -> Profile:
    """Return the time blocked: `role;thread;reason;syscall;frames`, in ns. Waiting for a CPU is none of it."""
    return _only(wall(accounts, {}, waits, shown), BLOCKED)


def errors(counted: Mapping[Series, int], failed: Samples, shown: Shown) -> Profile:
    """
    Return the system calls that failed: `role;syscall;errno;frames`, in calls.

    Args:
        counted: series of `syscall.errors`, how often.
        failed: series of `stack.errors`, of some of them.
        shown: drops or joins frames.
    """
    exact: dict[Stack, int] = {}
    for series, count in counted.items():
        exact[_call(series)] = exact.get(_call(series), 0) + count
    exact = {call: count for call, count in exact.items() if count}
    weights, placed = _held(exact, _grouped(failed, shown, _call), sampled=True)
    strange = _strange(failed, exact, _call)
    return Profile(weights, sum(found.samples for found in failed.values()) - strange, placed, strange)


def fitted(weights: Mapping[Stack, int], exact: int, *, sampled: bool) -> dict[Stack, int]:
    """Return *weights* as a part of *exact*: samples stand for all of it, waits are only cut if they are more."""
    if sampled or sum(weights.values()) > exact:
        return scaled(weights, exact)
    return dict(weights)


def _held(exact: Mapping[Stack, int], groups: Groups, *, sampled: bool) -> tuple[dict[Stack, int], int]:
    """Return *exact* with the frames of *groups* below what they are part of, and how much of it they are."""
    weights = dict(exact)
    placed = 0
    for key, group in groups.items():
        for frames, weight in fitted(group, exact.get(key, 0), sampled=sampled).items():
            if frames and weight:
                whole = (*key, *frames)
                weights[whole] = weights.get(whole, 0) + weight
                weights[key] -= weight
                placed += weight
        if not weights.get(key, 1):
            del weights[key]
    return weights, placed


def _grouped(samples: Samples, shown: Shown, key: Callable[[Series], Stack]) -> Groups:
    groups: Groups = {}
    shown = cache(shown)  # many series have the same stacks
    for series, found in samples.items():
        group = groups.setdefault(key(series), {})
        for frames, weight in found.weights(shown).items():
            group[frames] = group.get(frames, 0) + weight
    return groups


def _strange(samples: Samples, exact: Mapping[Stack, int], key: Callable[[Series], Stack]) -> int:
    return sum(found.samples for series, found in samples.items() if not exact.get(key(series)))


def _only(profile: Profile, state: str) -> Profile:
    weights = {(*s[:2], *s[3:]): weight for s, weight in profile.weights.items() if s[2:3] == (state,)}
    return Profile(weights, profile.samples, profile.placed, profile.strange)


def _run(one: Series) -> Stack:
    return one.label("role"), one.label("thread"), ON_CPU


def _wait(one: Series) -> Stack:
    return one.label("role"), one.label("thread"), BLOCKED, one.label("reason"), one.label("syscall")


def _call(one: Series) -> Stack:
    return one.label("role"), one.label("syscall"), one.label("errno")
