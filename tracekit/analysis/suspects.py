"""The code in which slow spans spent more time than usual ones: where to look first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracekit.analysis import flame, gpu
from tracekit.analysis.breakdown import ON_CPU
from tracekit.stacks import innermost, without_lines

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tracekit.stacks import Stack, Weights

WORTH = 0.1
"""Share of the difference from which a stack is worth a line. Our choice."""


@dataclass(frozen=True)
class Suspect:
    """
    A stack, and how long a span was in it.

    Attributes:
        component: `on-CPU`, what was waited for (`lock`, ...), or `gpu`.
        stack: root first, of its lines those with most of the time; without the interpreter.
        slow_ns: of a slow span, mean; usual_ns: of a usual one, None if there is none to compare with.
        samples: of all slow spans on a CPU, that its time is a share of; 0 of what waited, which is no sample.
    """

    component: str
    stack: Stack
    slow_ns: float
    usual_ns: float | None
    samples: int

    @property
    def more_ns(self) -> float:
        """By how much a slow span is longer for it."""
        return self.slow_ns - (self.usual_ns or 0.0)

    @property
    def place(self) -> str:
        """The innermost line of Python code, or the frame that says most where there is none."""
        return innermost(self.stack)


def of(slow: Mapping[Stack, float], usual: Mapping[Stack, float] | None, at: int, samples: int) -> tuple[Suspect, ...]:
    """
    Return the stack on a CPU and the one off it that make the slow longer by most, that with more first.

    Args:
        slow: time of a mean slow span, ns, stacks of `spanstacks` whose component is frame *at*.
        usual: of a mean usual one; None: all of the slow one is too much.
        at: place of the component.
        samples: of all slow spans on a CPU.
    """
    found, before = _by_code(slow, at), _by_code(usual or {}, at)
    every = [
        Suspect(
            gpu.GPU if gpu.called(key[1]) else key[0].removeprefix(flame.BLOCKED),
            max(lines, key=lambda line: (lines[line], line)),
            sum(lines.values()),
            None if usual is None else sum(before.get(key, {}).values()),
            samples if key[0] == ON_CPU else 0,
        )
        for key, lines in found.items()
    ]
    kinds = [key[0] == ON_CPU for key in found]
    enough = WORTH * (sum(slow.values()) - sum((usual or {}).values()))
    best = [_most([one for one, runs in zip(every, kinds, strict=True) if runs is kind]) for kind in (True, False)]
    worth = [one for one in best if one and one.more_ns >= max(enough, 1.0)]
    return tuple(sorted(worth, key=lambda one: -one.more_ns))


def _most(found: list[Suspect]) -> Suspect | None:
    return max(found, key=lambda one: (one.more_ns, one.stack), default=None)


def _by_code(weights: Mapping[Stack, float], at: int) -> dict[tuple[str, Stack], Weights]:
    """Return the time of stacks, by component and functions and then by lines; of what has no code, nothing."""
    found: dict[tuple[str, Stack], Weights] = {}
    for stack, ns in weights.items():
        component, code = stack[at], stack[at + 1 :]
        if code and (component == ON_CPU or component.startswith(flame.BLOCKED)):
            lines = found.setdefault((component, without_lines(code)), {})
            lines[code] = lines.get(code, 0) + ns
    return found
