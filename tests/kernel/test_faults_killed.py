"""kill -9 at any moment, of the collector and of the target: nothing stays, and what is recorded is true."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections import Counter
from typing import TYPE_CHECKING

from tests.kernel.faults import JOURNAL, KILLS, check_recording, check_target, draw, steady, tell
from tests.kernel.lab import PATIENCE_S, truths
from tests.kernel.leftovers import Inventory, descendants

if TYPE_CHECKING:
    import random

    from tests.kernel.lab import Lab, Tracer

STARTING_S, RECORDING_S, ENDING_S = 0.8, 0.5, 0.2
"""
The attach takes 0.4 s, of which the interpreter is the first 0.1; a tick comes each 0.1 s; the end takes 0.1 s. On a
machine that is busy starts take longer: as long as the last one is known to have, and half of that again.
"""
PHASES = ("starting", "recording", "ending")
OPTIONS = ((), ("--syscalls",), ("--no-stacks",), ("--no-db", "--no-errors"))


def start_s(tracer: Tracer | None) -> float:
    """Return within which time a start is to be hit, by one that was let to end."""
    found = re.search(r"attached in (\d+) ms", tracer.stderr) if tracer else None
    return 1.5 * int(found[1]) / 1000 if found else STARTING_S


def kill(tracer: Tracer, phase: str, chance: random.Random, before: Tracer | None) -> int:
    """Kill a collector in one of PHASES, and return what it ended with; *before*: one that was killed earlier."""
    if phase == "starting":
        time.sleep(chance.uniform(0, start_s(before)))
    else:
        tracer.wait_attached()
        time.sleep(chance.uniform(0, RECORDING_S))
    if phase == "ending":
        tracer.process.send_signal(signal.SIGINT)
        time.sleep(chance.uniform(0, ENDING_S))
    return tracer.stop(signal.SIGKILL)


def test_a_collector_that_is_killed(lab: Lab) -> None:
    """While it starts, records and ends: its file is as its last interval left it, and the target has not noticed."""
    seed, chance = draw("collector")
    print(f"FAULTS_SEED={seed}")
    found: Counter[str] = Counter()
    home, before = lab.folder(), None
    with steady(lab, home) as target:
        for number in range(KILLS or 6):
            folder = lab.folder()
            inventory = Inventory(folder)
            phase, options = PHASES[number % 3], chance.choice(OPTIONS)
            print(number, phase, options)

            tracer = lab.tracer(folder, "attach", "-p", str(target.pid), *options)
            code = kill(tracer, phase, chance, before)
            before = tracer if phase != "starting" else before

            inventory.check(*JOURNAL)
            state = check_recording(folder / "run.tk")
            assert code in ((-signal.SIGKILL, 130) if phase == "ending" else (-signal.SIGKILL,))
            assert code != 130 or state == "complete"
            found[f"{phase}: {state}"] += 1
        check_target(target, home)
    tell("collector killed", seed=seed, **found)


def test_a_command_whose_collector_is_killed(lab: Lab) -> None:
    """It never begins, or it goes on to its own end; it holds nothing of the collector's."""
    seed, chance = draw("command")
    print(f"FAULTS_SEED={seed}")
    found: Counter[str] = Counter()
    before = None
    for number in range(KILLS // 3 or 4):
        folder = lab.folder()
        inventory = Inventory(folder)
        phase = PHASES[number % 3]
        print(number, phase)
        command = lab.workloads / "steady", folder / "steady.json"
        tracer = lab.tracer(folder, "run", "--", *command, stdin=subprocess.PIPE)

        kill(tracer, phase, chance, before)
        before = tracer if phase != "starting" else before

        inventory.check(*JOURNAL, "steady.json.draft", processes=("steady",))
        has_begun = bool(descendants(folder))
        tracer.process.communicate()
        inventory.check(*JOURNAL)
        truth = truths(folder).get("steady", {"wrong": "it never began"})
        assert truth["wrong"] == ([0, 0, 0, 0] if has_begun else "it never began")
        assert has_begun or phase == "starting"
        found[f"{phase}: {check_recording(folder / 'run.tk')}"] += 1
    tell("collector of a command killed", seed=seed, **found)


def test_a_target_that_is_killed(lab: Lab) -> None:
    """While tracekit looks for it, attaches or records: it says that there is no such process, or all ends well."""
    seed, chance = draw("target")
    print(f"FAULTS_SEED={seed}")
    found: Counter[str] = Counter()
    before = None
    for number in range(KILLS // 3 or 4):
        folder = lab.folder()
        inventory = Inventory(folder)
        with steady(lab, folder) as target:
            tracer = lab.tracer(folder, "attach", "-p", str(target.pid))
            time.sleep(chance.uniform(0, start_s(before) + RECORDING_S))
            os.killpg(target.pid, signal.SIGKILL)
            target.wait(PATIENCE_S)
            code = tracer.wait()
        state = check_recording(tracer.file)

        inventory.check("steady.json.draft")
        assert (code, state) in ((0, "complete"), (2, "none")), tracer.stderr
        assert "Traceback" not in tracer.stderr
        print(number, state)
        if state == "complete":
            lives = tracer.result().recording.processes()
            assert not lives or (target.pid, signal.SIGKILL) in {(life.tgid, life.signal) for life in lives}
            before = tracer
        found[state] += 1
    tell("target killed", seed=seed, **found)
