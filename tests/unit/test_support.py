"""docs/support.md: its tables say what the files of test runs do, and leave no test out."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs import support

KERNEL_TESTS = Path(__file__).parents[1] / "kernel"
FIRST = """<testsuites><testsuite name="6.1.0-9" timestamp="2026-01-02T03:04:05">
<testcase classname="tests.kernel.test_waits" name="test_a" />
<testcase classname="tests.kernel.test_waits" name="test_b[3.12.1-x]">
<failure message="late|by 1 s&#10;more" /></testcase>
<testcase classname="tests.kernel.test_errors" name="test_c"><skipped message="no disk" /></testcase>
</testsuite></testsuites>"""
AGAIN = """<testsuites><testsuite name="6.1.0-9" timestamp="2026-01-02T03:14:05">
<testcase classname="tests.kernel.test_waits" name="test_b[3.12.1-x]" />
</testsuite></testsuites>"""
NATIVE = FIRST.replace("6.1.0-9", "6.18.1").replace("test_c", "test_d")


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder of results."""
    monkeypatch.setattr(support, "RESULTS", tmp_path)
    (tmp_path / "kernel").mkdir()
    return tmp_path


def test_no_file_of_kernel_tests_is_in_two_rows_or_has_gone():
    """The rows are those files; a new one has a row of its own until it has a place."""
    placed = [part for parts in support.AREAS.values() for part in parts]

    assert len(placed) == len(set(placed))
    assert set(placed) <= {path.stem.removeprefix("test_") for path in KERNEL_TESTS.glob("test_*.py")}
    assert support.area("tests.kernel.test_not_placed_yet::test_x") == "not placed yet"


def test_the_last_outcome_of_a_test_counts(results: Path):
    """A second try replaces what failed, whatever the order of the files' names."""
    (results / "kernel" / "6.1-100.xml").write_text(FIRST)
    (results / "kernel" / "6.1-100.again.xml").write_text(AGAIN)

    (runs,) = support.kernels().values()

    assert support.cell(runs.ended, runs.ended) == "2 passed, 1 skipped"


def test_what_one_kernel_has_not_run_is_known_from_the_others(results: Path):
    """Not run is a state of its own, as no data is never a pass."""
    (results / "kernel" / "6.1-100.xml").write_text(FIRST)
    (results / "kernel" / "native-99.xml").write_text(NATIVE)

    text = support.text()

    assert "| tests of | Linux 6.18.1 | Linux 6.1.0-9, emulated |" in text
    assert "| scheduling | 1 passed, **1 failed** | 1 passed, **1 failed** |" in text
    assert "| failed calls | 1 skipped, 1 not run | 1 skipped, 1 not run |" in text
    assert "| CPython 3.12 | **1 failed** | **1 failed** |" in text
    assert "| Linux 6.18.1 | 1 failed | `test_waits::test_b` | late\\|by 1 s |" in text


def test_an_old_python_in_a_name_is_none_that_is_traced():
    """3.6 is refused, and a parameter of 3.1415 is no version."""
    assert support.traced("tests.kernel.test_x::test_y[/root/.pyenv/versions/3.13.0/bin/python3]") == "3.13"
    assert support.traced("tests.kernel.test_x::test_y[3.6.15]") == ""
    assert support.traced("tests.kernel.test_x::test_y[3.1-4.3027]") == ""
    assert support.traced("tests.kernel.test_x::test_y") == ""
