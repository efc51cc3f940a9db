"""tracekit verdict."""

from __future__ import annotations

from contextlib import ExitStack
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tracekit.analysis import sla as files
from tracekit.analysis.verdict import Judgement, State, judge
from tracekit.commands import evidence
from tracekit.commands.output import save
from tracekit.errors import UsageError
from tracekit.export import github, junit, markdown
from tracekit.export import verdict as verdict_json
from tracekit.recording.reader import Recording
from tracekit.report import terminal
from tracekit.report import verdict as text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tracekit.analysis.evidence import Evidence
    from tracekit.analysis.objectives import Objective

    Judged = Sequence[tuple[str, Judgement]]

_ENCODERS: dict[str, Callable[[Judged], bytes]] = {
    "text": text.encode,
    "json": verdict_json.encode,
    "junit": junit.encode,
    "markdown": markdown.encode,
    "github": github.encode,
}
_PATH = click.Path(readable=False, path_type=Path)
_DEFAULTS = (Path("sla.toml"), Path("pyproject.toml"))


def _presets() -> list[str]:
    folder = resources.files("tracekit") / "presets"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def _listed(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted:
        for name in _presets():
            click.echo(f"{name:24}{_preset(name).splitlines()[0].lstrip('# ')}")
        ctx.exit()


@click.command()
@click.argument("recordings", metavar="FILE...", nargs=-1, required=True, type=_PATH)
@click.option("-s", "--sla", metavar="SLA.toml", type=_PATH, multiple=True, help="The objectives; repeatable.")
@click.option("--preset", "presets", metavar="NAME", multiple=True, help="Ready-made objectives; repeatable.")
@click.option(
    "--presets", "_list", is_flag=True, is_eager=True, expose_value=False, callback=_listed, help="List those."
)
@click.option("--baseline", metavar="FILE", type=_PATH, help="The recording that relative limits compare with.")
@click.option("--strict", is_flag=True, help="Whatever is no PASS fails: warnings, undecided, not measured.")
@click.option("--format", "form", type=click.Choice(list(_ENCODERS)), default="text", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("-o", "--output", metavar="OUT", type=_PATH, help="Write there, not to stdout.")
@click.pass_context
def command(
    ctx: click.Context,
    recordings: tuple[Path, ...],
    sla: tuple[Path, ...],
    presets: tuple[str, ...],
    baseline: Path | None,
    strict: bool,
    form: str,
    as_json: bool,
    output: Path | None,
) -> None:
    """
    Judge each recording FILE by its objectives, and say why one was missed.

    Without -s or --preset the objectives are those of ./sla.toml, or of
    [tool.tracekit] in ./pyproject.toml.

    Exit codes: 0 all passed, 1 one failed, 2 usage, 3 none failed but not all
    could be decided. No data is never a pass. A failed objective of severity
    "warning" is shown and changes nothing, but with --strict.

    \b
    Examples:
      tracekit verdict run.tk -s sla.toml
      tracekit verdict run.tk --preset evaluation --strict
      tracekit verdict run.tk -s sla.toml --baseline main.tk --json
      tracekit verdict run.tk -s sla.toml --format junit -o verdict.xml
      tracekit verdict run.tk -s sla.toml --format github

    \b
    An sla.toml, explained in docs/objectives.md:
      [[objective]]
      name = "workers start fast"
      series = 'spawn.ready{role="worker"}'
      p95 = "< 50ms"
    """  # noqa: D301 - click takes the control character, not the two letters
    sources = tuple(sla) if sla or presets else _found()
    promised = [*_of_files(sources), *_of_presets(presets)]
    with ExitStack() as stack:
        other = evidence.of(stack.enter_context(Recording(baseline))) if baseline else None
        judged = [(str(path), _judged(path, promised, other, strict)) for path in recordings]
    form = "json" if as_json else form
    if output:
        save(output, _ENCODERS[form](judged), (*recordings, *sources, *([baseline] if baseline else [])))
        for name, judgement in judged:
            click.echo(text.summary(judgement, name), err=True)
    elif form == "text":
        terminal.say(text.lines(judged))
    else:
        click.echo(_ENCODERS[form](judged), nl=False)
    ctx.exit(_exit_code(judged))


def _exit_code(judged: Judged) -> int:
    """Return 1 if any recording failed, else the code of one that could not be decided, else 0."""
    failed = [judgement.exit_code for _, judgement in judged if judgement.state is State.FAIL]
    return failed[0] if failed else max(judgement.exit_code for _, judgement in judged)


def _judged(path: Path, promised: Sequence[Objective], baseline: Evidence | None, strict: bool) -> Judgement:
    with Recording(path) as opened:
        return judge(promised, evidence.of(opened), baseline, strict=strict)


def _found() -> tuple[Path, ...]:
    """Return the file with the objectives of this folder."""
    for path in _DEFAULTS:
        if path.is_file() and (path.name == "sla.toml" or "tool.tracekit" in _read(path)):
            return (path,)
    raise UsageError("cannot judge: no objectives were given", "-s sla.toml, or --preset agents (see --presets)")


def _of_files(paths: Sequence[Path]) -> Iterator[Objective]:
    for path in paths:
        yield from files.parse(_read(path), str(path))


def _of_presets(names: Sequence[str]) -> Iterator[Objective]:
    for name in names:
        if name not in _presets():
            raise UsageError(f"cannot use preset {name!r}: there is none of this name", ", ".join(_presets()))
        yield from files.parse(_preset(name), f"preset {name}")


def _preset(name: str) -> str:
    return (resources.files("tracekit") / "presets" / f"{name}.toml").read_text(encoding="utf-8")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"cannot read {path}: it is not UTF-8 (byte {error.start})", "save it as UTF-8") from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", "docs/objectives.md shows an sla.toml") from error
