"""Every preset on a recording of a program that does all they speak of."""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.lab import PATIENCE_S, ROOT, go, until
from tracekit.analysis.sla import parse
from tracekit.analysis.verdict import State, judge
from tracekit.commands import evidence

if TYPE_CHECKING:
    from tests.kernel.lab import Lab, Run

PROGRAM = Path(__file__).parent / "workloads" / "promises.py"
PRESETS = {path.name.removesuffix(".toml"): path for path in (resources.files("tracekit") / "presets").iterdir()}
LACKS = {
    "evaluation": {("gpu.utilisation", "mean"): "gpu: no NVIDIA device here"},
    "databases": {
        ("db.errors", "total"): "errors of these calls cannot be seen",
        ("db.in_flight.age", "max"): "the recording has no series db.in_flight.age",
    },
}
"""What this program (whose calls are spans alone) or a machine without a GPU has not, by preset, metric and key."""


@pytest.fixture(scope="module")
def run(lab: Lab) -> Run:
    """Return the recording of the program."""
    folder = lab.folder()
    file = folder / "file"
    with lab.started(f"exec {sys.executable} {PROGRAM} {ROOT} {file}", folder) as target:
        until(file.with_suffix(".ready").exists, "the program to be ready")
        with lab.attached("-p", str(target.pid), folder=folder) as tracer:
            go(target)
            assert target.wait(PATIENCE_S) == 0
            tracer.wait()
            return tracer.result()


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_promise_is_measured_by_a_real_series(run: Run, name: str) -> None:
    """But for what the machine has not, or the program: no data is no pass, and the reason is said."""
    found = judge(parse(PRESETS[name].read_text(), name), evidence.of(run.recording))

    missing = {
        (verdict.objective.metric, verdict.objective.statistic.key): verdict.reason
        for verdict in found.verdicts
        if verdict.state is State.NOT_MEASURED
    }
    if name == "evaluation" and Path("/dev/nvidia0").exists():
        missing.setdefault(("gpu.utilisation", "mean"), LACKS["evaluation"]["gpu.utilisation", "mean"])
    assert missing.keys() == LACKS.get(name, {}).keys()
    assert all(said in missing[lack] for lack, said in LACKS.get(name, {}).items())
    assert all(verdict.value is not None for verdict in found.verdicts if verdict.state is not State.NOT_MEASURED)


def test_the_numbers_are_those_of_the_program(run: Run) -> None:
    """Evaluations of 0.4 s one at a time, and a training that they do not slow down."""
    found = [
        verdict
        for name in ("evaluation", "evaluation-production")
        for verdict in judge(parse(PRESETS[name].read_text(), name), evidence.of(run.recording)).verdicts
    ]
    values = {(verdict.objective.metric, verdict.objective.where): verdict.value for verdict in found}

    assert values["span.latency", (("span", "evaluation"),)] == pytest.approx(0.4e9, rel=0.5)
    assert values["span.latency", (("span", "game"),)] == pytest.approx(0.4e9, rel=0.5)
    assert values["span.concurrency", (("span", "evaluation"),)] == pytest.approx(1, abs=0.01)
    (slowdown,) = (verdict for verdict in found if verdict.objective.metric == "training.slowdown")
    assert slowdown.state is not State.FAIL
