"""The command line as a whole: names, exit codes, and one line for whatever goes wrong."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import ModuleType

import click
import pytest

from tracekit import __version__, cli, errors
from tracekit.units import printable

ROOT = Path(__file__).parents[2]
READERS = ["report", "hist", "heatmap --metric=runq.wait", "flamegraph"]


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run tracekit as a user does, in a process of its own."""
    command = [sys.executable, "-m", "tracekit", *words]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch):
    """Return a function that makes `tracekit report` raise what it is given, and runs main()."""

    def main(error: BaseException) -> int:
        @click.command()
        def command() -> None:
            raise error

        module = ModuleType("tracekit.commands.report")
        module.command = command
        monkeypatch.setitem(sys.modules, "tracekit.commands.report", module)
        monkeypatch.setattr(sys, "argv", ["tracekit", "report"])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code

    return main


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.UsageError("cannot x: y", "z"), 2),
        (errors.MachineError("cannot x: y", "z"), 4),
        (errors.RecordingError("cannot x: y", "z"), 4),
        (errors.DiskFullError("cannot x: y", "z"), 4),
        (errors.EmptyHistogramError("cannot x: y", "z"), 3),
    ],
)
def test_an_error_is_one_line_a_hint_and_an_exit_code(failing, capsys, error: Exception, code: int) -> None:
    """Scripts read the code, people the line; nothing of it goes to stdout."""
    assert failing(error) == code

    assert capsys.readouterr() == ("", "tracekit: cannot x: y\n  try: z\n")


def test_an_error_without_a_hint_has_no_second_line(failing, capsys) -> None:
    """No empty `try:`."""
    failing(errors.RecordingError("cannot x: y"))

    assert capsys.readouterr().err == "tracekit: cannot x: y\n"


def test_an_error_cannot_command_the_terminal(failing, capsys) -> None:
    """A file name or the content of a damaged file is in it."""
    failing(errors.RecordingError("cannot read \x1b[2J\nroot: ok", "\x07"))

    assert capsys.readouterr().err == "tracekit: cannot read \\x1b[2J\\x0aroot: ok\n  try: \\x07\n"


def test_a_refusal_of_the_system_is_no_traceback(failing, capsys) -> None:
    """Whatever file it was."""
    assert failing(PermissionError(13, "Permission denied", "/proc/1/mem")) == 4

    assert capsys.readouterr().err == "tracekit: cannot go on: /proc/1/mem: Permission denied\n"


@pytest.mark.parametrize(
    ("number", "name", "hint"),
    [
        (errno.EMFILE, None, "ulimit -n 1024"),
        (errno.ENOSPC, "/tmp/x", "free some space"),
        (errno.ENOENT, "/proc/self/stat", "mount -t proc proc /proc"),
        (errno.ENOENT, "/sys/devices/system/cpu/possible", "mount -t sysfs sysfs /sys"),
    ],
)
def test_a_refusal_with_a_known_cure_has_it(failing, capsys, number: int, name: str | None, hint: str) -> None:
    """Limits of descriptors and disks, and what a bare chroot lacks."""
    assert failing(OSError(number, os.strerror(number), name)) == 4

    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("tracekit: cannot go on: ")
    assert second == f"  try: {hint}"


@pytest.mark.parametrize("error", [MemoryError(), ImportError("_ctypes.so: failed to map segment"), OSError(12, "No")])
def test_a_lack_of_memory_is_no_traceback(failing, capsys, error: Exception) -> None:
    """`ulimit -v` shows itself in each of these ways."""
    assert failing(error) == 4

    line, hint = capsys.readouterr().err.splitlines()
    assert line.startswith("tracekit: cannot go on: ")
    assert "ulimit -v" in hint


def test_who_cannot_be_told_gets_the_exit_code(failing, monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard error is on the disk that is full."""
    monkeypatch.setattr("click.echo", partial(failing_echo, OSError(28, "No space left on device")))

    assert failing(errors.RecordingError("cannot write run.tk: the disk is full")) == 4


def failing_echo(error: OSError, *_: object, **__: object) -> None:
    """Stand in for click.echo."""
    raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_ctrl_c_has_its_exit_code(failing, capsys, error: BaseException) -> None:
    """130, as a shell expects."""
    assert failing(error) == 130

    assert capsys.readouterr().err.lstrip("\n") == "tracekit: interrupted\n"  # click ends the line of the ^C


def test_a_bug_is_not_hidden(failing) -> None:
    """What nobody expected keeps its traceback: it is for us, not for the user to act on."""
    with pytest.raises(ZeroDivisionError):
        failing(ZeroDivisionError())


@pytest.mark.parametrize(
    ("line", "error", "hint"),
    [
        ("attch", "cannot attch: no such command", "tracekit attach"),
        ("bogus", "cannot bogus: no such command", "tracekit --help"),
        ("--hlp", "cannot begin: no such option --hlp", "--help"),
        ("report", "cannot report: missing argument 'FILE'", "tracekit report --help"),
        ("report --jsn x", "cannot report: no such option --jsn", "--json or --span"),
        ("report a b", "cannot report: got unexpected extra argument (b)", "tracekit report --help"),
        ("attach 42", "cannot attach: got unexpected extra argument (42)", "tracekit attach -p PID"),
        (
            "attach -p x",
            "cannot attach: invalid value for '-p' / '--pid': 'x' is not a process id",
            "tracekit attach --help",
        ),
        ("attach -p", "cannot begin: option '-p' requires an argument", "tracekit --help"),
        ("run", "cannot run: missing argument '[--] COMMAND...'", "tracekit run --help"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(capsys, monkeypatch, line: str, error: str, hint: str) -> None:
    """Exit code 2, what is wrong, and what was perhaps meant."""
    monkeypatch.setattr(sys, "argv", ["tracekit", *line.split()])
    with pytest.raises(SystemExit) as end:
        cli.main()

    assert end.value.code == 2
    assert capsys.readouterr() == ("", f"tracekit: {error}\n  try: {hint}\n")


def test_no_command_is_a_usage_error_with_the_help() -> None:
    """Who types `tracekit` alone sees what there is, not on stdout."""
    end = run()

    assert (end.returncode, end.stdout) == (2, "")
    assert all(f"\n  {name} " in end.stderr for name in cli.COMMANDS)


def test_the_version_is_said() -> None:
    """For bug reports."""
    assert run("--version").stdout == f"tracekit, version {__version__}\n"


def test_help_names_all_commands_and_keeps_its_examples_apart() -> None:
    """Within 80 columns of a terminal."""
    text = run("--help", COLUMNS="80").stdout

    assert all(f"\n  {name} " in text for name in cli.COMMANDS)
    assert "\n    tracekit report run.tk\n" in text
    assert max(map(len, text.splitlines())) <= 80


def test_help_loads_no_command() -> None:
    """`tracekit --help` and completion are quick: numpy is for those who read a recording."""
    code = (
        "import sys, tracekit.cli as c; c.cli.main(['--help'], standalone_mode=False); sys.exit('numpy' in sys.modules)"
    )

    assert (
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL, check=False).returncode == 0
    )


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_reads(reader: str, sample: Path) -> None:
    """The same commands that are refused below."""
    end = run(*reader.split(), str(sample))

    assert end.returncode == 0
    assert "cannot" not in end.stderr
    assert "worker" in end.stdout or "events in a cell" in end.stdout


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("content", "code"),
    [(None, 2), (b"", 4), (b"SQLite format 3\0" + bytes(4080), 4), ("torn", 4)],
    ids=["missing", "empty", "damaged", "torn"],
)
def test_a_bad_file_is_two_lines_at_most(
    tmp_path: Path, sample: Path, reader: str, content: bytes | str | None, code: int
) -> None:
    """One that says what, and one that says what to try."""
    path = tmp_path / "a\nb.tk"
    if content is not None:
        path.write_bytes(sample.read_bytes()[:9999] if isinstance(content, str) else content)

    end = run(*reader.split(), str(path))

    first, *rest = end.stderr.splitlines()
    assert (end.returncode, end.stdout) == (code, "")
    assert first.startswith(f"tracekit: cannot read {printable(str(path))}: ")
    assert len(rest) <= 1
    assert all(line.startswith("  try: ") for line in rest)


def test_a_reader_of_our_output_that_goes_away_is_no_error(sample: Path) -> None:
    """`tracekit report x.tk | head -1`."""
    command = f"{sys.executable} -m tracekit report {sample} | head -c 1; exit ${{PIPESTATUS[0]}}"

    end = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, check=False)

    assert end.stderr == b""
    assert end.returncode in {0, 141}


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, None),
        ({"NO_COLOR": "1"}, False),
        ({"NO_COLOR": ""}, None),
        ({"TERM": "dumb"}, False),
        ({"FORCE_COLOR": "1"}, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_colour_is_the_users_choice(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], wanted: bool) -> None:
    """NO_COLOR wins; without a word it depends on the stream."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert cli._wants_color() is wanted
