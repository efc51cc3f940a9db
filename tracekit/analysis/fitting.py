"""Which statistic a kind of series has and which limit fits it; anything else is a slip, and is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracekit.analysis.objectives import Objective, quoted
from tracekit.errors import UsageError

if TYPE_CHECKING:
    from tracekit.records import Kind

_HAVE = {
    "histogram": ("mean", "min", "max", "rate", "total"),
    "counter": ("rate", "total"),
    "gauge": ("mean", "min", "max", "growth"),
}
_WORDS = {
    "histogram": "a quantile, above, mean, min, max, rate or total",
    "counter": "rate or total",
    "gauge": "a quantile, above, mean, min, max or growth",
}
EXAMPLES = {
    ("ns", False): "50ms",
    ("bytes", False): "512MB",
    ("share", False): "1%",
    ("count", False): "100",
    ("count", True): "5/s",
    ("bytes", True): "10MB/s",
    ("W", False): "300W",
    ("°C", False): "80°C",
}
"""A limit by (unit, per second)."""


@dataclass(frozen=True)
class Base:
    """
    What a counter of failures is a share of.

    Attributes:
        metric: a counter, or a histogram whose events are what was tried.
        shared: label that both have, "" if they share all but *kind*: it selects the base too.
        kind: label that tells failures apart, which the base cannot have.
    """

    metric: str
    shared: str
    kind: str


BASES = {
    "syscall.errors": Base("syscall.calls", "syscall", "errno"),
    "spawn.failed": Base("spawn.count", "role", "how"),
    "span.errors": Base("span.latency", "", "type"),
    "db.errors": Base("db.latency", "", "error"),
}


def check(objective: Objective, kind: Kind, unit: str) -> None:
    """
    Refuse a statistic that the kind of series has not, and a limit in another unit.

    Raises:
        UsageError: it says which would fit.
    """
    statistic, limit, metric = objective.statistic, objective.limit, objective.metric
    of_values = bool(statistic.q) or statistic.above is not None
    if statistic.key not in _HAVE[kind] and not (of_values and kind != "counter"):
        raise refusal(objective, f"{metric} is a {kind}, which has no {statistic.key}", _WORDS[kind])
    words = {"ns": "time", "share": "shares", "count": "counts"}.get(unit, unit)
    if statistic.above is not None:
        if statistic.unit != _plain(unit):
            cause = f"{quoted(statistic.key)} does not fit {metric}, a {kind} of {words}"
            raise refusal(objective, cause, f'"above {EXAMPLES[_plain(unit), False]}" = "{limit.text}"')
    elif (
        not limit.relative
        and not objective.per
        and (limit.unit, limit.per_second) not in (fitting := _fitting(metric, statistic.key, kind, unit))
    ):
        name = statistic.key if statistic.key.isidentifier() else quoted(statistic.key)
        hint = " or ".join(f'{name} = "{limit.operator} {EXAMPLES[form]}"' for form in fitting)
        raise refusal(objective, f"{quoted(limit.text)} does not fit {metric}, a {kind} of {words}", hint)


def check_ratio(objective: Objective, units: tuple[str, str], kinds: tuple[Kind, Kind]) -> str:
    """
    Return the unit of a ratio of two series: that of its limit if both count the same, else that of the first.

    Raises:
        UsageError: they cannot be divided, or the limit does not fit the result.
    """
    assert objective.per
    limit, (mine, other) = objective.limit, units
    plain = _plain(mine)
    if kinds[0] != kinds[1] or (_plain(other) != plain and _plain(other) != "count"):
        cause = f"a {kinds[0]} of {mine} per a {kinds[1]} of {other} says nothing"
        raise refusal(objective, cause, "two series of one kind, the second a count or of the same unit")
    fits = ("share", "count") if _plain(other) == plain else (plain,)
    if limit.relative:
        return "count" if _plain(other) == plain else plain
    if limit.unit not in fits or limit.per_second:
        hint = " or ".join(f'{objective.statistic.key} = "{limit.operator} {EXAMPLES[form, False]}"' for form in fits)
        raise refusal(objective, f"{quoted(limit.text)} does not fit {mine} per {other}", hint)
    return limit.unit


def refusal(objective: Objective, cause: str, hint: str) -> UsageError:
    """Return the error that an objective that makes no sense for its series ends in."""
    return UsageError(f"cannot use {objective.place}: {cause}", hint)


def _fitting(metric: str, key: str, kind: Kind, unit: str) -> list[tuple[str, bool]]:
    """Return the forms of limit, (unit, per second), that fit."""
    plain = _plain(unit)
    if key != "rate":
        return [(plain, False)]
    if kind == "histogram":
        return [("count", True)]
    if plain == "ns":
        return [("share", False)]
    return [(plain if (plain, True) in EXAMPLES else "count", True), *([("share", False)] if metric in BASES else [])]


def _plain(unit: str) -> str:
    """Return the unit of limits on values of *unit*: tasks are plain numbers."""
    return unit if (unit, False) in EXAMPLES else "count"
