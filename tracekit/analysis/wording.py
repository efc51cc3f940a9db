"""Verdicts in words: what text, Markdown, JUnit and annotations say alike."""

from __future__ import annotations

import math
import shlex
from typing import TYPE_CHECKING

from tracekit.samples import ROUGH
from tracekit.units import format_count, format_ns, format_share, format_value, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracekit.analysis.advice import Advice
    from tracekit.analysis.split import Split
    from tracekit.analysis.suspects import Suspect
    from tracekit.analysis.verdict import Judgement, Verdict
    from tracekit.analysis.why import Why

NAMES = {"runq": "run queue", "db": "waiting for a database"}
"""People's words for components."""
_SMALLEST = 0.005
"""Shares of the gap below it are shown together."""
_PATH = 5
"""Names of a stack that are shown, beside the root."""


def outcome(verdict: Verdict) -> str:
    """Return value and limit in words: `p95 33.1 ms, limit < 20ms`; the limit alone if there is no value."""
    objective = verdict.objective
    value = "" if verdict.value is None else f" {_text(verdict, verdict.value)}"
    limit = verdict.limit.text
    if verdict.baseline is not None:
        limit += f", which was {_text(verdict, verdict.baseline)}"
    return f"{objective.statistic.key}{objective.scope}{value}, limit {limit}"


def grounds(verdict: Verdict) -> list[str]:
    """Return what a measured verdict stands on, a few words each: margin, n, interval, share above, worst stretch."""
    if verdict.value is None or verdict.margin is None:
        return []
    share = "" if verdict.margin_share is None else f" ({format_share(abs(verdict.margin_share))})"
    word = "margin" if verdict.margin >= 0 else "over" if verdict.limit.upper else "short"
    words = [f"{word} {_distance(verdict, abs(verdict.margin))}{share}", *_sample(verdict)]
    if verdict.above is not None:
        words.append(f"{format_share(verdict.above)} above")
    if verdict.worst:
        at = format_ns(verdict.worst.start_ns) if verdict.worst.start_ns else "0 s"
        words.append(f"worst {_text(verdict, verdict.worst.value)} at {at}")
    return words


def reasons(verdict: Verdict, name: str) -> Iterator[tuple[str, str]]:
    """Yield (what it is, words) for why an objective was missed; *name* is that of the recording."""
    for fact in verdict.facts:
        yield "", fact
    why = verdict.why
    if why is None:
        return
    if why.split.shares:
        yield "why", f"{', '.join(split(why.split))} of {why.split.of}"
    if why.split.gpu:
        yield "gpu", why.split.gpu
    if _is_failing(*why.split.failed):
        yield "failed", _failing(*why.split.failed)
    for suspect in why.split.code:
        yield "code", _suspected(suspect)
    if why.differences:
        at = f"{_moment(why.start_ns)} to {_moment(why.end_ns)}"
        yield "when", f"{at}, against the rest: {'; '.join(why.differences)}"
    for advice in why.advice:
        yield "do", _advised(advice)
    yield "run", command(why, name)


def split(parts: Split) -> list[str]:
    """Return the shares in words, `run queue 61 %`, largest first; the smallest together."""
    large = [(name, share) for name, share in parts.shares if abs(share) >= _SMALLEST]
    rest = sum(share for name, share in parts.shares if abs(share) < _SMALLEST)
    words = [f"{NAMES.get(name, name)} {format_share(share)}" for name, share in large]
    return [*words, f"the rest {format_share(rest)}"] if abs(rest) >= _SMALLEST / 2 else words


def command(why: Why, name: str) -> str:
    """Return the command to run next, as a shell takes it."""
    return printable(shlex.join(["tracekit", why.command[0], name, *why.command[1:]]))


def notes(judgement: Judgement) -> Iterator[str]:
    """Yield what the recording lacks, a line each."""
    if not judgement.complete:
        yield "the recording is not finished: it still grows, or its collector was killed"
    if judgement.partial:
        yield f"{judgement.partial} of {judgement.intervals} intervals are known to lack data"
    if judgement.lost:
        reasons = ", ".join(f"{printable(loss.reason)} {format_count(loss.count)}" for loss in judgement.losses)
        share = format_share(judgement.lost / (judgement.events + judgement.lost))
        yield f"{format_count(judgement.lost)} events were lost, {share} of all ({reasons})"


def _sample(verdict: Verdict) -> list[str]:
    known = verdict.confidence
    counted = "" if verdict.counted == "events" else f" {verdict.counted}"
    worth = f", worth {format_count(round(known.effective))}" if known and known.effective < 0.95 * verdict.n else ""
    words = [f"n {format_count(verdict.n)}{counted}{worth}"]
    if known:
        high = "no upper end" if math.isinf(known.high) else _text(verdict, known.high)
        words.append(f"95 %: {_text(verdict, known.low)} to {high} ({known.method})")
    return words


def _advised(advice: Advice) -> str:
    share = f"{NAMES.get(advice.cause, advice.cause)}" + ("" if advice.share is None else f", {_percent(advice.share)}")
    return f"({share}) {advice.text}"


def _is_failing(slow: float, usual: float | None) -> bool:
    """Tell whether a slow one has a failed call more."""
    return slow - (usual or 0.0) >= 1


def _failing(slow: float, usual: float | None) -> str:
    if usual is None:
        return f"{format_count(slow)} system calls in each"
    return f"{format_count(slow)} system calls in a slow one, {format_count(usual)} in a usual one"


def _suspected(suspect: Suspect) -> str:
    """Return `acquire (pool.py:23), lock: 70 ms of a slow one, 0 ns of a usual one (main > run > acquire > futex)`."""
    usual = " of each" if suspect.usual_ns is None else f" of a slow one, {format_ns(suspect.usual_ns)} of a usual one"
    rough = f", rough: {format_count(suspect.samples)} samples" if 0 < suspect.samples < ROUGH else ""
    code = [frame for frame in suspect.stack if not frame.endswith("_[k]")] or suspect.stack
    names = [printable(frame.rpartition(" (")[0] or frame) for frame in code]
    path = [*names[:1], "...", *names[-_PATH:]] if len(names) > _PATH + 1 else names
    name = NAMES.get(suspect.component, suspect.component)
    return f"{printable(suspect.place)}, {name}: {format_ns(suspect.slow_ns)}{usual}{rough} ({' > '.join(path)})"


def _percent(share: float) -> str:
    return format_share(round(share, 3))


def _text(verdict: Verdict, value: float) -> str:
    return format_value(value, verdict.unit) + ("/s" if verdict.limit.per_second else "")


def _moment(ns: int) -> str:
    return format_ns(ns) if ns else "0 s"


def _distance(verdict: Verdict, value: float) -> str:
    """Return a difference in words; that of two shares is in points, as % of what would be unclear."""
    if verdict.unit == "share":
        points = format_share(value).removesuffix(" %")
        return f"{points} point{'' if points == '1' else 's'}"
    return _text(verdict, value)
