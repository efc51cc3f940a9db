"""Every output of every command, of a recording whose names are an attacker's, read by what it is made for."""

from __future__ import annotations

import gzip
import io
import json
import re
import shlex
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import click
import pytest
from click.testing import CliRunner
from hdrh.log import HistogramLogReader
from PIL import Image

from tests import hostile, sample
from tracekit.cli import COMMANDS, cli
from tracekit.commands import heatmap, record, stackforms
from tracekit.commands.output import save
from tracekit.dumped import Dump, Process, Thread
from tracekit.export.folded import read
from tracekit.records import Check
from tracekit.report import doctor
from tracekit.report import dump as dumped

if TYPE_CHECKING:
    from collections.abc import Callable

LIVE = {"attach", "run", "dump", "doctor"}
"""Commands that read no recording; what they say is tried below."""
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
FORBIDDEN = {"Cc", "Cs", "Bidi"}
BIDI = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
SLA = Path(__file__).parents[2] / "docs/examples/agents/sla.toml"
ALWAYS = '[[objective]]\nseries = "runq.wait"\neach = "role"\np50 = "< 1ns"\n'
ALWAYS += '[[objective]]\nseries = "span.latency"\neach = "span"\np50 = "< 1ns"\n'


def plain(text: str) -> None:
    """Text for people: lines, colours of ours, and nothing that moves a cursor, reorders or hides."""
    for character in COLOUR.sub("", text).replace("\n", ""):
        kind = "Bidi" if unicodedata.bidirectional(character) in BIDI else unicodedata.category(character)
        assert kind not in FORBIDDEN, f"U+{ord(character):04X} in {text[max(0, text.find(character) - 60) :][:120]!r}"
        assert character not in "\u2028\u2029\ufeff", f"U+{ord(character):04X}"
    for line in text.replace("\\\n", "").splitlines():
        command = re.search(r"(?:run:|next|draws it) (tracekit .*)", line)
        if command and not line.endswith("…"):
            assert not set(shlex.shlex(command[1], posix=True, punctuation_chars=";|&<>()")) & {";", "|", "&", "<", ">"}


def document(text: str) -> None:
    """JSON, without a character that somebody would print."""
    json.loads(text)
    plain(text)


def lines_of_json(text: str) -> None:
    for line in text.splitlines():
        document(line)


@dataclass
class Shape:
    """What an XML document is made of: names that no data may add to."""

    tags: set[str]
    attributes: set[str]
    scripts: int


def shape(text: str) -> Shape:
    """Parse XML, and tell what is in it."""
    root = ET.fromstring(text)
    found = list(root.iter())
    for each in found:
        assert not any(
            value.strip().lower().startswith(("javascript:", "http://evil")) for value in each.attrib.values()
        )
    names = {name for each in found for name in each.attrib}
    return Shape({each.tag for each in found}, names, sum(each.tag.endswith("script") for each in found))


def markdown(text: str) -> None:
    """Tables keep their columns, and nothing is a link, an image or markup."""
    plain(text)
    assert not re.search(r"(?<!\\)<(?!br>)|(?<!\\)\]\(|!\[", re.sub(r"`[^`]*`", "", text))
    for line in text.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", re.sub(r"`[^`]*`", "", line))) == 5, line


def github(text: str) -> None:
    """Each line is an annotation of ours: no name begins one of its own."""
    plain(text)
    for line in text.splitlines():
        assert re.match(r"::(error|warning|notice) (file=[^,]*,line=\d+,)?title=(tracekit%3A )?[A-Z ]+", line), line


def folded(text: str) -> None:
    """As many frames as there were, in each line."""
    plain(text)
    assert not read(io.BytesIO(text.encode())).malformed


def hgrm(text: str) -> None:
    plain(text)


def hlog(data: bytes, folder: Path) -> None:
    """HdrHistogram reads the log to its end."""
    plain(data.decode())
    (folder / "x.hlog").write_bytes(data)
    reader, count = HistogramLogReader(str(folder / "x.hlog"), None), 0
    while reader.get_next_interval_histogram():
        count += 1
    assert count


def pprof(data: bytes) -> None:
    """Strings of protocol buffers are UTF-8."""
    gzip.decompress(data)


def png(data: bytes) -> None:
    Image.open(io.BytesIO(data)).verify()


TEXT: dict[str, Callable[[str], None]] = {
    "text": plain,
    "json": document,
    "markdown": markdown,
    "github": github,
    "folded": folded,
    "hgrm": hgrm,
    "speedscope": document,
    "trace-event": document,
}
XML = {"svg", "junit"}
BYTES = {"pprof": pprof, "png": png}
WORDS = {
    "report": [[], ["--role", "worker"], ["--span", "evaluation"], ["--all-errors"]],
    "hist": [["--by", "role"], ["--metric", "runq.wait"], ["--confidence"]],
    "heatmap": [["--metric", "runq.wait"], ["--metric", "span.latency", "--where", "span=evaluation"]],
    "flamegraph": [[], ["--native", "--lines"], ["--span", "evaluation", "--tail", "p90"], ["--diff", "other.tk"]],
    "verdict": [["-s", "sla.toml"]],
}
ONE = {"hgrm": ["--metric", "runq.wait", "--by", "reason"]}
"""Words of formats that hold one histogram."""


def formats(name: str) -> set[str]:
    """Return all that a command writes, as its options say."""
    command = cli.get_command(click.Context(cli), name)
    assert command
    options = {option.name: option for option in command.params if isinstance(option, click.Option)}
    found = {"json"} if "as_json" in options else set()
    for option in options.values():
        if option.name in {"form", "format"} and isinstance(option.type, click.Choice):
            found |= set(option.type.choices)
    if name == "heatmap":
        found |= {ending.removeprefix(".") for ending in heatmap._PICTURES} | {"text"}
    return found | ({"text"} if name == "report" else set())


READ = sorted((name, form) for name in COMMANDS if name not in LIVE for form in formats(name))


def test_every_format_has_a_consumer():
    """A new command or format is tried here, or this fails."""
    assert {form for _, form in READ} <= {*TEXT, *XML, *BYTES, "hlog"}
    assert {name for name, _ in READ} == WORDS.keys() == COMMANDS.keys() - LIVE
    assert set(stackforms.FORMS) <= formats("flamegraph")


@pytest.fixture(scope="module", params=["names", "forged", "plain"])
def folder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Callable[[str], str]]:
    """Return a folder with two recordings, and what is called how in them."""
    path, names = tmp_path_factory.mktemp("hostile"), hostile.Names()
    for file in ("run.tk", "other.tk"):
        if request.param == "plain":
            sample.write(path / file, intervals=2)
        else:
            hostile.write(path / file, names, everything=request.param == "forged")
    (path / "sla.toml").write_text(ALWAYS)
    return path, (lambda name: name) if request.param == "plain" else names.of


SHAPES: dict[tuple[str, str, str], Shape] = {}


@pytest.mark.parametrize(("name", "form"), READ)
def test_what_comes_out_is_for_its_reader(
    name: str, form: str, folder: tuple[Path, Callable[[str], str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No name is a command to a terminal, markup in a picture, a field of a table or a line of its own."""
    path, called = folder
    monkeypatch.chdir(path)
    for words in [ONE[form]] if form in ONE else WORDS[name]:
        if "--diff" in words and form not in stackforms.OF_DIFFERENCES:
            continue
        data, said, code = outcome(name, form, [renamed(word, called) for word in words])
        plain(said)
        assert code in {0, 1, 2, 3, 4}, said
        if not data:
            assert code in {2, 3, 4}, f"nothing came out, and nothing was said: {said}"
        elif form in XML:
            plain_shape(name, form, str(words), shape(data.decode()), is_plain=called("x") == "x")
        elif form == "hlog":
            hlog(data, tmp_path)
        elif form in BYTES:
            BYTES[form](data)
        else:
            TEXT[form](data.decode())


def plain_shape(name: str, form: str, words: str, found: Shape, *, is_plain: bool) -> None:
    """Compare the elements of a picture with those of the same of a recording without hostile names, which is last."""
    key = name, form, words
    if not is_plain:
        before = SHAPES.setdefault(key, found)
        SHAPES[key] = Shape(
            before.tags | found.tags, before.attributes | found.attributes, max(before.scripts, found.scripts)
        )
        return
    hostile_one = SHAPES.get(key, found)
    assert hostile_one.tags <= found.tags
    assert hostile_one.attributes <= found.attributes
    assert hostile_one.scripts <= found.scripts


def renamed(word: str, called: Callable[[str], str]) -> str:
    """Return an option's value as the recording has it."""
    label, equals, value = word.partition("=")
    if word in {"worker", "evaluation"}:
        return hostile.storable(called(word))
    return f"{label}={hostile.storable(called(value))}" if equals else word


def outcome(name: str, form: str, words: list[str]) -> tuple[bytes, str, int]:
    """Run a command; return what came out, what was said beside it, and the exit code."""
    runner = CliRunner()
    out: list[str] = []
    if form == "json":
        out = ["--json"]
    elif form in {"svg", "png"}:
        out = ["-o", f"x.{form}"]
    elif form != "text" or name in {"hist", "verdict"}:
        out = ["--format", form]
    Path(f"x.{form}").unlink(missing_ok=True)
    done = runner.invoke(cli, [name, "run.tk", *words, *out], color=True)
    error = done.exception
    said = done.stderr + ("" if error is None or isinstance(error, SystemExit) else f"{shown(error)}\n")
    code = getattr(error, "exit_code", 4) if error and not isinstance(error, SystemExit) else done.exit_code
    data = Path(f"x.{form}").read_bytes() if out[:1] == ["-o"] and Path(f"x.{form}").exists() else done.stdout_bytes
    return data, said, code


def shown(error: BaseException) -> str:
    """Return what main() would say of an error. Raises what no user should see."""
    from tracekit.errors import TracekitError
    from tracekit.units import printable

    if not isinstance(error, TracekitError):
        raise error
    return printable(f"{error} {error.hint}")


def test_a_dump_of_hostile_processes():
    """As text and as JSON."""
    threads = tuple(
        Thread(number, nasty, "blocked", "poll", "read", 5, True, nasty, (nasty, f"{nasty} (x.py:1)"))
        for number, nasty in enumerate(hostile.NASTY)
    )
    found = dumped.shown(Dump((Process(1, "".join(hostile.NASTY), "3.11", threads),)), native=True)

    plain("\n".join(dumped.text(found)))
    document(dumped.document(found))


@pytest.mark.parametrize("is_plain", [True, False])
def test_a_doctor_of_a_hostile_machine(is_plain: bool):
    """Facts are what files and errors say."""
    checks = [Check("check", "extras", "missing", nasty, "it", nasty) for nasty in hostile.NASTY]
    machine: dict[str, Any] = {"kernel": "".join(hostile.NASTY)}

    plain("\n".join(doctor.text(machine, checks, plain=is_plain)))
    document(doctor.document(machine, checks))


def test_last_words_of_a_recording(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """What was missing has names of files and processes in it."""
    from tracekit.capture.options import Options
    from tracekit.capture.session import Progress, Summary
    from tracekit.records import Loss

    for nasty in hostile.NASTY:
        summary = Summary("duration", Progress(10**9, 1, 1, 1, 0.1, None), 1, (Loss("switch", 1),), (nasty,), 0)
        record._say(Options(Path(hostile.storable(nasty).replace("\0", ""))), summary)
        record._Status(live=False).attached(1, [nasty])

    plain(capsys.readouterr().err)


def test_a_file_can_have_any_name(tmp_path: Path):
    """Names of files are their users'; they are written to all the same."""
    save(tmp_path / "=cmd\x1b[2J;.svg", b"picture")

    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"picture"]
