"""
The code in which spans of a name, and the slow ones of them, spent most of their time.

A frame that names a line somebody can open says more than the call in a library at its end: time
belongs to the innermost Python frame of its stack, or of its program if there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracekit.analysis import flame, profile, spanstacks
from tracekit.analysis.breakdown import ON_CPU
from tracekit.analysis.spanstacks import EVERY, Code
from tracekit.stacks import innermost, without_interpreter, without_lines

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tracekit.analysis.spans import Band, Span
    from tracekit.analysis.spanstacks import Subject
    from tracekit.analysis.summary import Summary
    from tracekit.stacks import Stack


@dataclass(frozen=True)
class Hot:
    """
    A frame, and what was done there.

    Attributes:
        component: `on-CPU`, or what was waited for: `lock`, ...
        own: share of the latency of the spans that belongs to it.
        through: share of the latency in which it was on the stack, doing the same.
    """

    frame: str
    component: str
    own: float
    through: float


@dataclass(frozen=True)
class Heat:
    """
    The frames of some spans, those with the largest share of their own first.

    Attributes:
        samples: on a CPU, that the shares of `on-CPU` rest on.
    """

    frames: tuple[Hot, ...]
    samples: int


def of_span(summary: Summary, span: Span, where: Mapping[str, str] | None = None) -> tuple[Heat | None, Heat | None]:
    """
    Return the code of *span*, chosen by the labels *where* too, and of the slow ones of it.

    The tail is that of its anatomy. None where no code was seen, or there is no tail.
    """
    subject = _subject(summary, {**(where or {}), "span": span.name})
    if not subject.latency or not subject.code.samples:
        return None, None
    whole = _heat(subject, spanstacks.whole(subject), 2, EVERY)
    found = span.anatomy
    if not found or not found.tail or not found.median or subject.unmeasured:
        return whole, None
    bands = spanstacks.compared(subject, found.tail_q)
    slow = {stack: ns for stack, ns in bands.weights.items() if stack[0] == flame.BANDS[1]}
    return whole, _heat(subject, slow, 3, bands.tail)


def of_roles(summary: Summary) -> dict[str, tuple[Hot, ...]]:
    """
    Return of each role the frames with the largest share of the time of its threads, if any were seen.

    Threads that never ran are left out, if others did: helpers of a library that sleep would be most of the time.
    """
    accounts = {stack: held for stack, held in summary.stacks.items() if len(stack) > 2}
    awake = {stack[:2] for stack, held in accounts.items() if stack[2] == ON_CPU and held.weight}
    roles = {role for role, _ in awake}
    accounts = {stack: held for stack, held in accounts.items() if stack[:2] in awake or stack[0] not in roles}
    found = profile.wall(accounts, summary.running, summary.waiting, without_interpreter)
    whole: dict[str, int] = {}
    own: dict[str, dict[tuple[str, str], int]] = {}
    for (role, *_), held in accounts.items():
        whole[role] = whole.get(role, 0) + held.weight
    for (role, _, state, *rest), ns in found.weights.items():
        component, code = (rest[0], rest[2:]) if state == profile.BLOCKED and rest else (state, rest)
        if code:
            hot = own.setdefault(role, {})
            place = component, _place(tuple(code))
            hot[place] = hot.get(place, 0) + ns
    return {role: _ranked(own[role], whole[role]) for role in sorted(own, key=lambda role: (-whole[role], role))}


def _ranked(own: Mapping[tuple[str, str], int], whole: int) -> tuple[Hot, ...]:
    ranked = sorted(own, key=lambda place: (-own[place], place))
    return tuple(Hot(frame, does, own[does, frame] / whole, own[does, frame] / whole) for does, frame in ranked)


def _subject(summary: Summary, wanted: Mapping[str, str]) -> Subject:
    def of(metric: str, labels: Mapping[str, str], name: str) -> bool:
        return name == metric and wanted.items() <= labels.items()

    latency = {s: h for s, h in summary.histograms.items() if h.count and of("span.latency", dict(s.labels), s.metric)}
    parts = {s: part for s, part in summary.parts.items() if of("span.latency", dict(s.labels), s.metric)}
    seen = {s: found for s, found in summary.samples.items() if of("stack.span", dict(s.labels), s.metric)}
    return spanstacks.of_spans(latency, parts, {}, Code(seen, without_interpreter))


def _heat(subject: Subject, weights: Mapping[Stack, float], at: int, band: Band) -> Heat | None:
    """Return the frames of *weights*, whose component is frame *at*; None if they have no code."""
    own: dict[tuple[str, str], float] = {}
    through: dict[tuple[str, str], float] = {}
    for stack, ns in weights.items():
        component, code = stack[at].removeprefix(flame.BLOCKED), stack[at + 1 :]
        if not code or not (component == ON_CPU or stack[at].startswith(flame.BLOCKED)):
            continue
        place = component, _place(code)
        own[place] = own.get(place, 0) + ns
        for frame in set(without_lines(code)):
            through[component, frame] = through.get((component, frame), 0) + ns
    whole = sum(weights.values())
    ranked = sorted(own, key=lambda place: (-own[place], place))
    hot = tuple(Hot(name, does, own[does, name] / whole, through[does, name] / whole) for does, name in ranked)
    return Heat(hot, subject.samples(band)) if hot else None


def _place(code: Stack) -> str:
    """Return the frame that says most of where *code* stands, without its line."""
    return without_lines((innermost(code),))[0]
