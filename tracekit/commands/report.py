"""tracekit report"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tracekit.analysis import db, spans, training
from tracekit.analysis.summary import Summary, of_role, totals
from tracekit.commands import evidence
from tracekit.commands import where as chosen
from tracekit.errors import EmptyHistogramError, UsageError
from tracekit.export import json_
from tracekit.recording.reader import Recording
from tracekit.report import text
from tracekit.report.terminal import say
from tracekit.units import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tracekit.records import Series
    from tracekit.samples import StackSamples


@click.command()
@click.argument("file", type=click.Path(readable=False, path_type=Path))
@click.option("--role", default="", help="Only this role (see `CPU time by role`).")
@click.option(
    "--span", default="", metavar="NAME", help="Only spans NAME: what the usual and the slow ones are made of."
)
@chosen.option
@click.option("--all-errors", is_flag=True, help="Rank the usual failures (EAGAIN, path search) with the others.")
@click.option("--json", "as_json", is_flag=True, help="All numbers as JSON, in ns and bytes.")
def command(file: Path, role: str, span: str, where: dict[str, str], all_errors: bool, as_json: bool) -> None:
    """
    Say in one screen where the time went, what failed and what it cost.

    Quantiles that the number of events cannot support are shown as `-`; what
    was not measured is named, never shown as zero.

    \b
    Examples:
      tracekit report run.tk
      tracekit report run.tk --role worker
      tracekit report run.tk --span db.query --where system=postgresql
      tracekit report run.tk --json | jq '.series[] | select(.metric=="runq.wait")'
    """  # noqa: D301 - click takes the control character, not the two letters
    if where and not span:
        raise UsageError("cannot use --where without --span", "--span NAME, or tracekit hist, for one label")
    with Recording(file) as recording:
        summary = _read(recording)
        if role:
            summary = _cut(summary, role)
        detail = _detail(recording, summary, span, where) if span else None
        step = "" if role or detail else training.step_of(summary.histograms)
        impact = training.impact(step, evidence.of(recording)) if step else None
        if as_json:
            click.echo(json_.span(recording, summary, detail) if detail else json_.report(recording, summary, impact))
        elif not recording.intervals:
            raise EmptyHistogramError(f"cannot report {file}: no interval was recorded", "record for longer")
        elif detail:
            say(text.of_span(recording, summary, detail, all_errors=all_errors))
        else:
            say(text.report(recording, summary, impact, all_errors=all_errors))


def _read(recording: Recording) -> Summary:
    counters, gauges = totals(recording.values())
    samples = recording.samples()
    summary = Summary(
        duration_ns=recording.duration_ns,
        tiers=recording.host.tiers,
        histograms=recording.histograms(),
        counters=counters,
        gauges=gauges,
        stacks=recording.stacks(),
        parts=recording.parts(metric=""),
        samples=_of(samples, "stack.span"),
        running=_of(samples, "stack.oncpu"),
        waiting=_of(samples, "stack.offcpu"),
        processes=recording.processes(),
        in_flight=recording.in_flight(),
        open_calls=recording.open_calls(),
        losses=recording.losses(),
        lossy=len(recording.lossy),
        partial=len(recording.partial),
        complete=recording.complete,
    )
    return db.once(summary)


def _of(samples: Mapping[Series, StackSamples], metric: str) -> dict[Series, StackSamples]:
    return {series: found for series, found in samples.items() if series.metric == metric}


def _cut(summary: Summary, role: str) -> Summary:
    if role not in summary.roles:
        known = ", ".join(map(printable, summary.roles)) or "none"
        raise UsageError(f"cannot report role {printable(role)}: the recording does not have it", f"one of: {known}")
    return of_role(summary, role)


def _detail(recording: Recording, summary: Summary, name: str, where: dict[str, str]) -> spans.Detail:
    names = spans.names(summary)
    if name not in names:
        known = ", ".join(map(printable, names)) or "none"
        fact = f"the recording does not have it{' in this role' if summary.role else ''}"
        raise UsageError(f"cannot report span {printable(name)}: {fact}", f"one of: {known}")
    labels = spans.labels(summary, name)
    found = spans.labels(summary, name, where)
    if where and not found:
        pairs = " and ".join(f"{label}={printable(value)}" for label, value in where.items())
        fact = f"none has {pairs}"
        raise UsageError(
            f"cannot report span {printable(name)}: {fact}", f"one of: {', '.join(map(printable, labels))}"
        )
    role = {"role": summary.role} if summary.role else {}
    slow = recording.exemplars({**role, **where, "span": name})
    inside = spans.inside(summary, name, where)
    return spans.Detail(spans.of_name(summary, name, where), where, found, inside, slow)
