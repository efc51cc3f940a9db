"""
How long 60,000 distinct stacks take from folded lines to an SVG, against flamegraph.pl.

Each run is a process of its own, as a user starts it. If flamegraph.pl is on PATH the two
alternate on the same file, so drift of the machine reaches both; the ratio is what to quote.
"""

import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

BUDGET_S = 2.0
STACKS = 60_000
SAMPLES = 1_000_000
ROUNDS = 5


def stacks(count: int, samples: int) -> dict[str, int]:
    """Return folded stacks of 8 threads, 8 to 40 frames deep, from callers with 1 to 4 callees; few are hot."""
    rng = random.Random(7)
    names = [f"function_{n} (package/module_{n % 97}.py:{n})" if n % 3 else f"native_{n}" for n in range(3000)]
    callees: dict[tuple[int, str], list[str]] = {}
    found: dict[str, None] = {}
    while len(found) < count:
        frames = [f"thread {rng.randrange(8)}"]
        for depth in range(rng.randrange(8, 40)):
            choices = [rng.choice(names) for _ in range(rng.choice((1, 1, 1, 2, 3, 4)))]
            frames.append(rng.choice(callees.setdefault((depth, frames[-1]), choices)))
        found[";".join(frames)] = None
    weights = [rng.paretovariate(1.1) for _ in found]
    scale = samples / sum(weights)
    return {stack: max(1, round(weight * scale)) for stack, weight in zip(found, weights, strict=True)}


def seconds(command: list[str], output: Path) -> float:
    start = perf_counter()
    with output.open("wb") as file:
        subprocess.run(command, stdout=file, check=True)
    return perf_counter() - start


def main() -> int:
    commands = {"tracekit": [sys.executable, "-m", "tracekit", "flamegraph", "--format", "svg"]}
    if perl := shutil.which("flamegraph.pl"):
        commands["flamegraph.pl"] = [perl]
    times: dict[str, list[float]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as folder:
        lines, picture = Path(folder, "x.folded"), Path(folder, "x.svg")
        lines.write_text("".join(f"{stack} {weight}\n" for stack, weight in stacks(STACKS, SAMPLES).items()))
        print(f"{STACKS:,} stacks, {lines.stat().st_size / 1e6:.0f} MB")
        for _ in range(ROUNDS):
            for name, command in commands.items():
                times[name].append(seconds([*command, str(lines)], picture))
    medians = {name: statistics.median(found) for name, found in times.items()}
    for name, median in medians.items():
        print(f"{name}: {median:.2f} s, {median / medians['tracekit']:.1f} of tracekit")
    print(f"budget: {BUDGET_S} s")
    return 0 if medians["tracekit"] <= BUDGET_S else 1


if __name__ == "__main__":
    sys.exit(main())
