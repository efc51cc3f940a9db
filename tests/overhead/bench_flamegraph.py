"""
How long folded lines take to an SVG, against flamegraph.pl where it is to be had.

Two files of the same million samples: 60,000 distinct stacks with their weights, as a
collapsing script writes them, and a line for each sample. Each run is a process of its own, as
a user starts it. The programs alternate on the same file, so drift of the machine reaches
both; the ratio is what to quote.

usage: python -m tests.overhead.bench_flamegraph [FLAMEGRAPH.PL]    default: the one on PATH
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


def files(folder: Path) -> dict[str, Path]:
    """Write the two files; return them by what they are called."""
    weights = stacks(STACKS, SAMPLES)
    collapsed, single = folder / "collapsed.folded", folder / "single.folded"
    collapsed.write_text("".join(f"{stack} {weight}\n" for stack, weight in weights.items()))
    lines = [f"{stack} 1\n" for stack in weights]
    with single.open("w") as file:
        file.writelines(random.Random(3).choices(lines, weights=list(weights.values()), k=SAMPLES))
    return {f"{STACKS:,} stacks": collapsed, f"{SAMPLES:,} single samples": single}


def medians(commands: dict[str, list[str]], lines: Path, picture: Path) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, command in commands.items():
            times[name].append(seconds([*command, str(lines)], picture))
    return {name: statistics.median(found) for name, found in times.items()}


def main() -> int:
    commands = {"tracekit": [sys.executable, "-m", "tracekit", "flamegraph", "--format", "svg"]}
    if perl := sys.argv[1] if len(sys.argv) > 1 else shutil.which("flamegraph.pl"):
        commands["flamegraph.pl"] = ["perl", perl]
    else:
        print("no flamegraph.pl on PATH: nothing to compare with")
    slow = False
    with tempfile.TemporaryDirectory() as folder:
        for title, lines in files(Path(folder)).items():
            found = medians(commands, lines, Path(folder, "x.svg"))
            print(f"{title}, {lines.stat().st_size / 1e6:.0f} MB; budget {BUDGET_S} s")
            for name, median in found.items():
                print(f"  {name}: {median:.2f} s, {median / found['tracekit']:.1f} of tracekit")
            slow |= found["tracekit"] > min(BUDGET_S, *found.values())
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
