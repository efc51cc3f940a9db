"""tracekit verdict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tracekit.analysis import objectives
from tracekit.analysis.measure import Evidence
from tracekit.analysis.verdict import Judgement, judge
from tracekit.errors import TracekitError, UsageError
from tracekit.export import junit
from tracekit.export import verdict as verdict_json
from tracekit.histogram import merge
from tracekit.recording.reader import Recording
from tracekit.report import terminal
from tracekit.report import verdict as text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tracekit.histogram import Histogram
    from tracekit.records import Labels

_ENCODERS: dict[str, Callable[[Judgement, str], bytes]] = {
    "text": text.encode,
    "json": verdict_json.encode,
    "junit": junit.encode,
}
_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("recording", metavar="FILE", type=_PATH)
@click.option("-s", "--sla", metavar="SLA.toml", type=_PATH, required=True, help="The objectives.")
@click.option("--format", "form", type=click.Choice(list(_ENCODERS)), default="text", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("-o", "--output", metavar="OUT", type=_PATH, help="Write there, not to stdout.")
@click.pass_context
def command(ctx: click.Context, recording: Path, sla: Path, form: str, as_json: bool, output: Path | None) -> None:
    """
    Judge the recording FILE by its objectives.

    Exit codes: 0 all passed, 1 one failed, 2 usage, 3 none failed but not all
    could be measured. No data is never a pass.

    \b
    Examples:
      tracekit verdict run.tk -s sla.toml
      tracekit verdict run.tk -s sla.toml --json
      tracekit verdict run.tk -s sla.toml --format junit -o verdict.xml

    \b
    An sla.toml, explained in docs/objectives.md:
      [[objective]]
      name = "workers start fast"
      series = 'spawn.ready{role="worker"}'
      p95 = "< 50ms"
    """  # noqa: D301 - click takes the control character, not the two letters
    promised = objectives.parse(_read(sla), str(sla))
    with Recording(recording) as opened:
        judgement = judge(promised, _evidence(opened))
    form, name = "json" if as_json else form, str(recording)
    if output:
        _write(output, _ENCODERS[form](judgement, name), (recording, sla))
        click.echo(text.summary(judgement, name), err=True)
    elif form == "text":
        terminal.say(text.lines(judgement, name))
    else:
        click.echo(_ENCODERS[form](judgement, name), nl=False)
    ctx.exit(judgement.exit_code)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"cannot read {path}: it is not UTF-8 (byte {error.start})", "save it as UTF-8") from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", "docs/objectives.md shows an sla.toml") from error


def _write(path: Path, content: bytes, sources: tuple[Path, ...]) -> None:
    if path.exists() and any(path.samefile(source) for source in sources):
        raise UsageError(f"cannot write {path}: it is what was read", "another -o OUT")
    try:
        path.write_bytes(content)
    except OSError as error:
        raise TracekitError(f"cannot write {path}: {error.strerror}", "another -o OUT") from error


def _evidence(recording: Recording) -> Evidence:
    def slices(metric: str, where: Labels) -> Iterator[Histogram]:
        for number in range(len(recording.intervals)):
            yield merge(list(recording.histograms(metric, dict(where), (number, number + 1)).values()))

    return Evidence(
        series=recording.series(),
        histograms=recording.histograms(),
        values=recording.values(),
        intervals=recording.intervals,
        partial=len(recording.partial),
        tiers=frozenset(recording.host.tiers),
        losses=recording.losses(),
        complete=recording.complete,
        slices=slices,
    )
