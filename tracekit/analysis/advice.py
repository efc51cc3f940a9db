"""What measured causes suggest to do; each line names the numbers it stands on, and without numbers there is none."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import filterfalse
from typing import TYPE_CHECKING

import numpy as np

from tracekit import stacks
from tracekit.analysis import spans
from tracekit.analysis.db import is_embedded
from tracekit.analysis.failures import is_noise
from tracekit.analysis.gpu import GPU
from tracekit.analysis.sources import CALLS, is_wait
from tracekit.analysis.summary import quantile
from tracekit.histogram import merge
from tracekit.records import WAITS, labels_of
from tracekit.units import format_count, format_ns, format_share, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tracekit.analysis.evidence import Evidence
    from tracekit.analysis.objectives import Objective
    from tracekit.analysis.split import Split
    from tracekit.records import Labels, Series

WORTH = 0.1
"""Share of the miss from which a cause is worth a line, and of the time of all calls from which one is. Our choice."""
_STORM = 100
"""Failed path look-ups a second from which the search is worth a line. Our choice."""
_TOP = 3
_DB = WAITS.index("db")
_CALLEE = ("system", "peer", "operation")


@dataclass(frozen=True)
class Advice:
    """
    One thing to do.

    Attributes:
        share: of the miss that its cause explains; None: the cause was counted, not timed.
        cause: a component of the latency, or what was counted.
    """

    share: float | None
    cause: str
    text: str


def advise(objective: Objective, split: Split, evidence: Evidence, first: int, last: int) -> Iterator[Advice]:
    """Yield what the causes in *split* suggest, the largest first."""
    part = evidence.pick(np.arange(first, last)) if last > first else evidence
    causes = dict(split.shares) if split.shares else {"runq": 1.0} if objective.metric == "runq.wait" else {}
    rules = _RULES | {"db": partial(_db, objective), GPU: partial(_gpu, split)}
    rules |= {"on-CPU": _client} if _is_served(objective, evidence) else {}
    for cause, share in sorted(causes.items(), key=lambda item: -item[1]):
        text = rules[cause](part) if share >= WORTH and cause in rules else ""
        if text:
            yield Advice(share, cause, text)
    yield from _storms(objective, part)


def calls_of(objective: Objective, part: Evidence) -> Labels:
    """
    Return the labels of the calls of databases that *objective* is about: those it names, or those in its spans.

    Calls are of the innermost span alone. If they are less than half of what spans waited for, the others were made
    in spans inside of them (`db.query`, around each), and all calls of the role are meant.
    """
    if objective.metric != "span.latency":
        return objective.where
    inside = tuple(pair for pair in objective.where if pair[0] in ("role", "span"))
    found = [part.histograms[series].total for series in part.every(CALLS, inside) if series in part.histograms]
    if sum(found) >= _waited(objective, part) / 2:
        return inside
    return tuple(pair for pair in inside if pair[0] == "role")


def _waited(objective: Objective, part: Evidence) -> float:
    """Return how long the spans of *objective* waited for databases, ns."""
    found = part.parts(objective.where, None)
    return sum((float(each.waits[:, _DB].sum() + each.async_waits[:, _DB].sum()) for each in found), 0.0)


def _db(objective: Objective, part: Evidence) -> str:
    """Name the operations in which most of the time was, with their latency; what exists to wait is no work."""
    calls = calls_of(objective, part)
    found = part.every(CALLS, calls)
    work, waits = (_totals(each, calls, part) for each in (filterfalse(is_wait, found), filter(is_wait, found)))
    much = _waited(objective, part) / 2 if objective.metric == "span.latency" else 1
    idle = bool(waits) and sum(work.values()) < much
    asked = sorted((waits if idle else work).items(), key=lambda item: -item[1])
    top = [labels for labels, ns in asked if ns >= WORTH * sum(ns for _, ns in asked)]
    words = [_asked(labels, part) for labels in top[:_TOP] if part.slices(CALLS, labels).whole.count]
    remedy = "look at who has to answer, these exist to wait" if idle else "ask for less, or look at the server"
    return f"{remedy}: {'; '.join(words)}" if words else ""


def _totals(found: Iterable[Series], calls: Labels, part: Evidence) -> dict[Labels, int]:
    """Return how long calls took, by *calls* and what was called."""
    sums: dict[Labels, int] = {}
    for series in filterfalse(is_embedded, found):  # for which nobody waits
        labels = dict(calls) | {name: value for name, value in series.labels if name in _CALLEE}
        key = tuple(sorted(labels.items()))
        sums[key] = sums.get(key, 0) + (part.histograms[series].total if series in part.histograms else 0)
    return sums


def _asked(labels: Labels, part: Evidence) -> str:
    known, calls = dict(labels), part.slices(CALLS, labels).whole
    name = " ".join(known[label] for label in _CALLEE if known.get(label, "-") != "-")
    p99 = quantile(calls, 0.99)
    took = f"max {format_ns(calls.high)}" if p99 is None else f"p99 {format_ns(p99)}"
    number = f"{format_count(calls.count)} call{'' if calls.count == 1 else 's'}"
    return f"{printable(name)} {took} of {number}{_by_server(labels, part)}"


def _by_server(labels: Labels, part: Evidence) -> str:
    """Say how much of the slow ones of the recording was the server's, if that is known."""
    found = [part.histograms[series] for series in part.matching(CALLS, labels) if series in part.histograms]
    anatomy = spans.anatomy(merge(found), part.call_parts(labels))
    if not anatomy or not anatomy.tail or not anatomy.whole.components["db"]:
        return ""
    share = format_share(round(anatomy.tail.share("db"), 2))
    return f" (the slowest {round(100 - 100 * anatomy.tail_q)} %: server {share})"


def _is_served(objective: Objective, part: Evidence) -> bool:
    """Tell whether *objective* is on calls of which it is known when a server answered."""
    if objective.metric != CALLS or all(map(is_embedded, part.matching(CALLS, objective.where))):
        return False
    return any(parts.waits[:, _DB].any() for parts in part.call_parts(objective.where))


def _client(part: Evidence) -> str:
    """Say that the calls of a database are slow in their client."""
    for metric, words in (("loop.busy", "its event loop was busy"), ("oncpu", "its threads ran")):
        found = part.slices(metric, ()).whole
        if found.count:
            return f"look at the client, which had the answer: {words} for up to {format_ns(found.high)} at a time"
    return ""


def _runq(part: Evidence) -> str:
    waits = part.slices("runq.wait", ()).total.sum()
    if not waits or not part.duration_s:
        return ""
    waiting = float(waits) / part.duration_s / 1e9
    throttled = float(np.nan_to_num(part.increases(part.matching("throttle.time", ()))).sum())
    users = _users(part)
    took = f"; CPU time went to {users}" if users else ""
    if throttled > 0.01 * part.duration_s * 1e9:
        held = format_ns(throttled / part.duration_s)
        return f"raise the cgroup's CPU limit: it held threads back {held} a second{took}"
    fact = f"{format_count(waiting)} threads at a time waited for a CPU"
    return f"run less at once, or give as many CPUs more: {fact}{took}"


def _users(part: Evidence) -> str:
    """Return the roles that used the CPUs, with their share of the target's CPU time."""
    roles = sorted({series.label("role") for series in part.matching("oncpu", ())} - {""})
    times = {role: float(part.slices("oncpu", (("role", role),)).total.sum()) for role in roles}
    whole = sum(times.values())
    top = sorted(times.items(), key=lambda item: -item[1])[:_TOP]
    return ", ".join(f"{printable(role)} {format_share(ns / whole)}" for role, ns in top if ns) if whole else ""


def _blocked(reason: str, remedy: str) -> Callable[[Evidence], str]:
    """Return what names the system calls of a *reason*, with the time that threads were in them."""

    def text(part: Evidence) -> str:
        first, last = part.place
        sums: dict[str, int] = {}
        for frames, weight in part.stacks(first, last).items():
            if "blocked" in frames and reason in frames:
                name = f"{frames[-1] if frames[-1] != '-' else reason} in {frames[0]}"
                sums[name] = sums.get(name, 0) + weight.weight
        top = sorted(sums.items(), key=lambda item: -item[1])[:_TOP]
        return f"{remedy}: {', '.join(f'{printable(name)} {format_ns(ns)}' for name, ns in top)}" if top else ""

    return text


def _child(part: Evidence) -> str:
    spawns = float(np.nan_to_num(part.increases(part.matching("spawn.count", ()))).sum())
    ready = part.slices("spawn.ready", ()).whole
    if not spawns or not ready.count:
        return ""
    rate = format_count(spawns / part.duration_s)
    return f"start fewer processes, or keep them: {rate} spawns a second, ready after {format_ns(ready.quantile(0.5))}"


def _gpu(split: Split, part: Evidence) -> str:
    """Name the calls of the GPU's driver, and how busy each GPU was; without a call there is nothing to name."""
    calls = [f"{printable(call)} {format_share(round(share, 3))} of the miss" for call, share in split.calls[:_TOP]]
    busy = []
    for series in part.matching("gpu.utilisation", ()):
        samples = part.samples([series])
        if np.isfinite(samples).any():
            busy.append(f"GPU {printable(series.label('gpu'))} was busy {format_share(round(np.nanmean(samples), 3))}")
    return f"look at what is asked of the GPU: {'; '.join((*calls, *busy))}" if calls else ""


def _fault(part: Evidence) -> str:
    series = part.matching("psi", (("kind", "some"), ("resource", "memory")))
    if not series:
        return ""
    stalled = float(np.nan_to_num(part.increases(series)).sum()) / part.duration_s / 1e9
    return f"touch less memory, or give more: page faults, memory pressure {format_share(stalled)}"


def _awaiting(part: Evidence) -> str:
    busy = part.slices("loop.busy", ()).whole
    if not busy.count:
        return ""
    return f"the event loop was busy for up to {format_ns(busy.high)} at a time: move such work off the loop"


_RULES: dict[str, Callable[[Evidence], str]] = {
    "runq": _runq,
    "disk": _blocked("disk", "wait less for the disk"),
    "network": _blocked("network", "look at the peer"),
    "lock": _blocked("lock", "hold the lock for less"),
    "pipe": _blocked("pipe", "look at the other end of the pipe"),
    "child": _child,
    "fault": _fault,
    "awaiting": _awaiting,
}


def _storms(objective: Objective, part: Evidence) -> Iterator[Advice]:
    """Yield the search along a path of folders, which fails with ENOENT in all but one."""
    if objective.metric not in ("syscall.errors", "span.latency"):
        return
    wanted = tuple(pair for pair in objective.where if pair[0] in ("role", "span"))
    lookups = part.matching("syscall.errors", labels_of({**dict(wanted), "errno": "ENOENT"}))
    lookups = [series for series in lookups if is_noise(series.label("syscall"), "ENOENT")]
    if not lookups or not part.duration_s:
        return
    rate = float(np.nan_to_num(part.increases(lookups)).sum()) / part.duration_s
    if rate >= _STORM:
        names = sorted({series.label("syscall") for series in lookups})
        calls = ", ".join(map(printable, names[:_TOP]))
        where = _failing([labels_of({**dict(wanted), "errno": "ENOENT", "syscall": name}) for name in names], part)
        text = f"shorten sys.path, PATH or the library path: {format_count(rate)} look-ups a second failed ({calls})"
        yield Advice(None, "ENOENT", f"{text}{where}")


def _failing(wanted: Iterable[Labels], part: Evidence) -> str:
    """Name the code that made most of the failed calls, where it was seen."""
    places: dict[str, float] = {}
    for stack, calls in stacks.merge(map(part.failures, wanted)).items():
        if stack:
            place = stacks.innermost(stack)
            places[place] = places.get(place, 0) + calls
    if not places:
        return ""
    place, calls = max(places.items(), key=lambda item: (item[1], item[0]))
    return f", {format_share(round(calls / sum(places.values()), 3))} of those seen in {printable(place)}"
