"""Why a recording has no such series, what would help, and when that means that nothing failed."""

from __future__ import annotations

import errno
import re
import signal
from difflib import get_close_matches
from typing import TYPE_CHECKING

import numpy as np

from tracekit.analysis.concurrency import METRIC as CONCURRENCY
from tracekit.analysis.concurrency import SPANS
from tracekit.analysis.db import UNANSWERED, hides, is_unanswered
from tracekit.analysis.fitting import BASES
from tracekit.analysis.measurement import Missing
from tracekit.analysis.objectives import format_series, quoted
from tracekit.analysis.sources import CALLS, ERRORS, METRICS
from tracekit.records import labels_of
from tracekit.units import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tracekit.analysis.evidence import Evidence
    from tracekit.analysis.objectives import Objective
    from tracekit.records import Labels, Series

_NEAR = 0.75
"""How like a word must be to be what was meant: `spawn.raedy`, but not `span.latency`, for `spawn.ready`."""
_HOW = re.compile(r"exit [1-9][0-9]{0,2}|signal [0-9]+|OOM kill")
"""How a process can fail, beside the name of a signal: the words of capture/lives.py."""
_CODE = re.compile(r"[0-9A-Z]{5}|[0-9]{4}")
"""An error of a server: SQLSTATE, or MySQL's number."""
NAMING = "docs/presets.md says how to name spans"
_TIERS = {
    "syscall.latency": ("syscalls", "record with --syscalls"),
    "syscall.errors": ("errors", "record without --no-errors"),
    "syscall.calls": ("errors", "record without --no-errors"),
    "syscall.restarts": ("errors", "record without --no-errors"),
    CALLS: ("db", "record without --no-db"),
    ERRORS: ("db", "record without --no-db"),
}
"""What must have been on for a metric to be there, and how."""
_SOURCES = (
    ("span.", "no traced process named spans", "name them with tracekit.probe: docs/presets.md"),
    ("app.", "no traced process counted it", "count it with tracekit.probe: docs/presets.md"),
    ("db.", "no call of a database was seen", "docs/databases.md says which are"),
    ("gpu.", "no GPU was measured", "tracekit doctor, which says why"),
)
"""Metrics of which a recording without any says that their source was missing."""
_SAID = {"db.": "calls of databases"}
"""What findings call a source, where it is not how its metrics begin."""


def tried(objective: Objective, evidence: Evidence) -> NDArray[np.float64]:
    """Return float64[intervals], how often that could have failed which *objective* counts the failures of."""
    base = BASES[objective.metric]
    where = shared(objective)
    if base.metric == SPANS:
        return evidence.slices(SPANS, where).events
    if base.metric == CALLS:
        unanswered = evidence.increases(filter(is_unanswered, evidence.matching(ERRORS, where)))
        answered = [evidence.slices(CALLS, each).events for each in (where, *_waits(where, evidence))]
        return np.asarray(np.sum([unanswered, *answered], axis=0), dtype=np.float64)
    return evidence.increases(evidence.matching(base.metric, where))


def _waits(where: Labels, evidence: Evidence) -> list[Labels]:
    """Return the labels of calls that exist to wait: they have no latency among others, and can fail like others."""
    found = {(each.label("system"), each.label("operation")) for each in evidence.waits(CALLS, where)}
    return [labels_of({**dict(where), "system": system, "operation": name}) for system, name in sorted(found)]


def shared(objective: Objective) -> Labels:
    """Return the labels of *objective* that its base has too."""
    base = BASES[objective.metric]
    return tuple(
        pair for pair in objective.where if pair[0] == base.shared or (not base.shared and pair[0] != base.kind)
    )


def no_base(objective: Objective) -> Missing:
    """Say that nothing was tried."""
    base = format_series(BASES[objective.metric].metric, shared(objective))
    return Missing(f"{base} counted nothing that could fail", "record while it happens")


def is_zero(objective: Objective, evidence: Evidence) -> bool:
    """
    Tell whether the absence of a counter of failures means that nothing failed.

    It does if there was something that could fail, and if no label of the objective could be a slip
    of the pen, which would pass for ever.
    """
    if objective.metric not in BASES or _is_off(objective.metric, evidence) or _is_hidden(objective, evidence):
        return False
    known = all(_is_known(objective.metric, *label, evidence) for label in objective.where)
    return known and bool(tried(objective, evidence).sum() > 0)


def absence(objective: Objective, evidence: Evidence) -> Missing:
    """Say why there is no such series."""
    metric = SPANS if objective.metric == CONCURRENCY else objective.metric
    if _is_off(metric, evidence):
        return Missing(f"{metric} was not measured", _TIERS[metric][1])
    if _is_hidden(objective, evidence):
        return Missing("such errors of these calls cannot be seen", "docs/databases.md says which can")
    if evidence.waits(metric, objective.where):
        return _only_waits(objective, evidence)
    same = evidence.matching(metric, ())
    missing = _other_labels(objective, metric, same) if same else None
    if metric in BASES and not (missing and missing.hint) and not tried(objective, evidence).any():
        return no_base(objective)
    return missing or _no_metric(metric, evidence)


def _only_waits(objective: Objective, evidence: Evidence) -> Missing:
    """Say that there are no other calls than those that exist to wait."""
    name = min(each.label("operation") for each in evidence.waits(objective.metric, objective.where))
    return Missing("all these calls exist to wait: long is usual", f"operation={quoted(name)}, to judge them")


def _is_hidden(objective: Objective, evidence: Evidence) -> bool:
    """Tell whether calls of a database could fail as *objective* counts, and nobody would know."""
    error = dict(objective.where).get("error", "")
    return objective.metric == ERRORS and hides(evidence.every(CALLS, shared(objective)), error)


def _no_metric(metric: str, evidence: Evidence) -> Missing:
    for prefix, reason, hint in _SOURCES:
        if metric.startswith(prefix) and not any(series.metric.startswith(prefix) for series in evidence.series):
            word = re.compile(rf"\b{_SAID.get(prefix, prefix.removesuffix('.'))}", re.IGNORECASE)
            said = [printable(line) for line in evidence.findings if word.search(line)]
            return Missing(said[0] if said else f"the recording has no {metric}: {reason}", hint)
    metrics = sorted({series.metric for series in evidence.series})
    near = get_close_matches(metric, metrics, 1, _NEAR)
    of_source = next((hint for prefix, _, hint in _SOURCES if metric.startswith(prefix)), "")
    hint = printable(near[0]) if near else of_source or "tracekit report, which shows what was measured"
    return Missing(f"the recording has no series {metric}", hint)


def _other_labels(objective: Objective, metric: str, same: Sequence[Series]) -> Missing:
    """Say which label sets *objective* apart from the series of its metric."""
    for name, value in objective.where:
        values = sorted({series.label(name) for series in same} - {""})
        if value not in values:
            shown = ", ".join(map(quoted, values[:5])) + (f" and {len(values) - 5} more" if len(values) > 5 else "")
            known = f"its {name} is {shown}" if values else f"it has no label {name}"
            near = get_close_matches(value, values, 1, _NEAR)
            hint = f"{name}={quoted(near[0])}" if near else NAMING if metric == SPANS and name != "role" else ""
            return Missing(f"{metric} has no {name}={quoted(value)}: {known}", hint)
    return Missing(f"{metric} has no series with all of these labels together", "fewer labels")


def _is_off(metric: str, evidence: Evidence) -> bool:
    known = metric in METRICS and any(series.metric in METRICS for series in evidence.series)  # by spans, at least
    return metric in _TIERS and _TIERS[metric][0] not in evidence.tiers and not known


def _is_known(metric: str, name: str, value: str, evidence: Evidence) -> bool:
    """Tell whether a label without a series of *metric* is a word that the recording could have used."""
    if name == "role":
        return any(series.label("role") == value for series in evidence.series)
    base = BASES[metric]
    if name != base.kind:
        return name == base.shared or bool(not base.shared and evidence.every(base.metric, ((name, value),)))
    if name == "how":
        return bool(value in signal.Signals.__members__ or _HOW.fullmatch(value))
    seen = {series.label(name) for series in evidence.matching(metric, ())}
    if name == "error":
        return value in seen or value in UNANSWERED or bool(_CODE.fullmatch(value))
    if name == "type":
        return value in seen
    number = getattr(errno, value, None)
    aliases = {other for other in seen if getattr(errno, other, None) == number}  # EWOULDBLOCK is EAGAIN
    return value in seen or (isinstance(number, int) and not aliases)
