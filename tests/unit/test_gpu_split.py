"""Time in the GPU's driver is a cause of its own, known from stacks alone; and slow spans are told with their code."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.unit.evidence import INTERVALS, MS, evidence
from tests.unit.test_why import MISSED, SPAN, parts_of, requests
from tracekit.analysis import gpu, suspects
from tracekit.analysis.breakdown import ON_CPU
from tracekit.analysis.sla import parse
from tracekit.analysis.spanstacks import Code, of_spans
from tracekit.analysis.verdict import judge
from tracekit.export import verdict as verdict_json
from tracekit.export.github import encode
from tracekit.histogram import of_values, slots_of
from tracekit.records import BUCKET_SHIFT, Series, labels_of
from tracekit.samples import StackSamples

MAIN = ("main (serve.py:9)", "infer (model.py:31)")
SPIN = (*MAIN, "ffi_call (libffi.so.8)", "cuCtxSynchronize (libcuda.so.550.54.14)", "+0x1f2e3 (libcuda.so.550.54.14)")
SLEEP = (*MAIN, "cuStreamSynchronize (libcuda.so.550.54.14)", "poll (libc.so.6)", "do_poll_[k]")
PYTHON = (*MAIN, "score (model.py:40)")
LOCK = (*MAIN, "acquire (pool.py:23)", "futex_wait_[k]")


@pytest.mark.parametrize(
    ("frame", "is_driver"),
    [
        ("cuInit (libcuda.so.1)", True),
        ("+0x10 (libcuda.so.550.54.14)", True),
        ("compile (libnvidia-ptxjitcompiler.so.550.54.14)", True),
        ("nvmlInit_v2 (libnvidia-ml.so.550.54.14)", False),
        ("cudaMemcpy (libcudart.so.12)", False),
        ("run (libcuda.so.py:3)", False),
        ("run (notlibcuda.so.1)", False),
        ("ioctl (libc.so.6)", False),
    ],
)
def test_the_driver_is_known_by_its_libraries(frame, is_driver):
    """Whatever it calls further down is its too; the runtime above and the sensors are not."""
    assert gpu.called((*MAIN, frame, "ioctl (libc.so.6)")) == (frame if is_driver else "")


def test_python_code_that_the_driver_calls_is_not_the_driver():
    """A callback: its time is its own."""
    assert not gpu.called((*SPIN, "done (app.py:3)"))


def spans(latency, components, code):
    """The spans with their stacks: by (component, stack) the share of that component in each bucket, or None."""
    parts = parts_of(latency, components)
    buckets = slots_of(latency.astype(np.uint64)) >> BUCKET_SHIFT
    labels = dict(pair.split("=") for pair in SPAN[1].split())
    series = Series("span.latency", labels_of(labels), "histogram", "ns")
    frames = dict(enumerate(dict.fromkeys(stack for _, stack, _ in code)))
    number = {stack: key for key, stack in frames.items()}
    samples = {}
    for state in dict.fromkeys(state for state, _, _ in code):
        rows = [
            (bucket, number[stack], int(ns[buckets == bucket].sum()))
            for of, stack, ns in code
            for bucket in parts.bucket.tolist()
            if of == state
        ]
        bucket, stack, weight = (
            np.array(column) for column in zip(*sorted(row for row in rows if row[2]), strict=True)
        )
        name = Series("stack.span", labels_of({**labels, "state": state}), "stacks", "ns")
        samples[name] = StackSamples(bucket, stack, weight.astype(np.uint64), weight // (20 * MS) + 1, frames)
    return of_spans({series: of_values(latency)}, {series: parts}, {}, Code(samples, lambda stack: stack))


def judged(latency, components, subject, sla=MISSED, **more):
    """The judgement on those requests."""
    rows = {SPAN: [part.tolist() for part in np.array_split(latency, INTERVALS)]}
    given = {"parts": lambda where, runs: [parts_of(latency, components)], "histograms": rows}
    return judge(parse(sla, "s"), evidence(**(given | {"code": lambda where: subject} | more)))


def bound(rng):
    """Requests of which one in ten waits for the GPU asleep, spins for it, and computes, 5 : 3 : 2."""
    latency, components = requests({"poll": 0.5, "on-CPU": 0.5}, rng)
    usual = components["disk"] / 0.3
    spun = np.maximum(0, (components["on-CPU"] - 0.65 * usual) * 0.6).astype(np.int64)
    code = [
        (ON_CPU, SPIN, spun),
        (ON_CPU, PYTHON, components["on-CPU"] - spun),
        ("poll", SLEEP, components["poll"]),
    ]
    return latency, components, code, spun


def test_the_share_of_the_gpu_is_recovered_within_a_point():
    """Asleep or spinning in the driver; against the requests themselves. The shares still add up to 1."""
    latency, components, code, spun = bound(np.random.default_rng(3))
    slow, low, high = (np.quantile(latency, q) for q in (0.99, 0.4, 0.6))
    tail, usual = latency >= slow, (latency >= low) & (latency <= high)
    gap = {
        name: part[tail].mean() - part[usual].mean()
        for name, part in {
            **components,
            "on-CPU": components["on-CPU"] - spun,
            "gpu": components["poll"] + spun,
            "poll": np.zeros_like(spun),
        }.items()
    }

    (verdict,) = judged(latency, components, spans(latency, components, code)).verdicts

    split = dict(verdict.why.split.shares)
    assert sum(split.values()) == pytest.approx(1)
    assert split["gpu"] > 0.7
    for name in {*gap, *split}:
        assert split.get(name, 0) == pytest.approx(gap.get(name, 0) / sum(gap.values()), abs=0.01), name


def test_a_miss_by_the_gpu_names_its_calls_its_use_and_the_picture():
    """What to look at, from stacks and sensors; the command draws the slow spans."""
    latency, components, code, _ = bound(np.random.default_rng(3))
    busy = {("gpu.utilisation", "gpu=0"): ("share", [0.97] * INTERVALS)}

    why = judged(latency, components, spans(latency, components, code), gauges=busy).verdicts[0].why

    share = dict(why.split.shares)["gpu"]
    assert (why.advice[0].cause, why.advice[0].share) == ("gpu", share)
    assert why.advice[0].text.startswith(
        "look at what is asked of the GPU: cuStreamSynchronize (libcuda.so.550.54.14) "
    )
    assert why.advice[0].text.endswith("GPU 0 was busy 97 %")
    assert sum(share for _, share in why.split.calls) == pytest.approx(share)
    assert why.command == (
        "flamegraph",
        "--span",
        "evaluation",
        "--tail",
        "p99",
        "-o",
        "slow.svg",
    )


def test_without_stacks_the_gpu_is_not_measured():
    """It is part of on-CPU and waits then, and the verdict says so; but not where there is no GPU."""
    latency, components, _, _ = bound(np.random.default_rng(3))

    blind = judged(latency, components, None)
    without = judged(latency, components, None, findings=["gpu: no NVIDIA device here"])

    why = blind.verdicts[0].why
    assert "gpu" not in dict(why.split.shares)
    assert why.split.gpu == "not measured: no stacks of these spans were recorded"
    assert "gpu: not measured" in encode([("run.tk", blind)]).decode()
    assert without.verdicts[0].why.split.gpu == ""


def test_without_a_sample_of_the_slow_the_gpu_is_not_measured():
    """Waits were seen, but who knows what they did on a CPU."""
    latency, components, code, _ = bound(np.random.default_rng(3))
    subject = spans(latency, components, [part for part in code if part[0] != ON_CPU])

    why = judged(latency, components, subject).verdicts[0].why

    assert "gpu" not in dict(why.split.shares)
    assert why.split.gpu == "not measured: no sample of the slow ones on a CPU"


def test_usual_ones_too_short_to_be_sampled_hide_nothing():
    """1 ms on a CPU, of which nothing is known, beside 50 and more of the slow ones."""
    latency, components, code, spun = bound(np.random.default_rng(3))
    slow = latency > 25 * MS
    short = {name: np.where(slow, part, part // 10) for name, part in components.items()}
    latency = sum(short.values())
    own = [(ON_CPU, SPIN, np.where(slow, spun, 0)), (ON_CPU, PYTHON, np.where(slow, short["on-CPU"] - spun, 0))]

    why = judged(latency, short, spans(latency, short, [*own, code[2]]), MISSED.replace("p95", "p99")).verdicts[0].why

    assert why.split.gpu == ""
    assert dict(why.split.shares)["gpu"] == pytest.approx(0.75, abs=0.08)


def test_few_samples_are_told():
    """On a CPU the share of the GPU is as rough as the samples are few."""
    latency, components, code, _ = bound(np.random.default_rng(3))
    subject = spans(latency, components, code)
    few = {
        series: StackSamples(s.bucket, s.stack, s.weight, np.minimum(s.count, 1), s.frames)
        for series, s in subject.code.samples.items()
    }
    subject = of_spans(subject.latency, subject.parts, {}, Code(few, lambda stack: stack))

    why = judged(latency, components, subject).verdicts[0].why

    assert why.split.gpu.startswith("rests on ")
    assert "gpu" in dict(why.split.shares)


def test_where_most_are_too_slow_their_whole_time_has_its_share():
    """No tail: the split is of all of the time, the code too, and the picture shows all spans."""
    latency, components, code, spun = bound(np.random.default_rng(3))
    truth = (components["poll"].sum() + spun.sum()) / latency.sum()

    sla = MISSED.replace("20ms", "2ms")
    why = judged(latency, components, spans(latency, components, code), sla).verdicts[0].why

    assert why.split.of == "their whole time"
    assert dict(why.split.shares)["gpu"] == pytest.approx(truth, abs=0.01)
    assert why.split.code[0].usual_ns is None
    assert why.command == ("flamegraph", "--span", "evaluation", "-o", "slow.svg")


def test_the_code_of_the_slow_against_the_usual():
    """On a CPU and off it, the stack that grew most; lines of a function are one; what is as long in both is none."""
    tail = {
        ("tail", "worker", "evaluation", "on-CPU", *PYTHON): 20.0 * MS,
        ("tail", "worker", "evaluation", "on-CPU", *MAIN, "score (model.py:41)"): 25.0 * MS,
        ("tail", "worker", "evaluation", "on-CPU", *MAIN, "load (model.py:8)"): 30.0 * MS,
        ("tail", "worker", "evaluation", "blocked: lock", *LOCK): 70.0 * MS,
        ("tail", "worker", "evaluation", "blocked: poll"): 90.0 * MS,
    }
    usual = {
        ("median", "worker", "evaluation", "on-CPU", *PYTHON): 2.0 * MS,
        ("median", "worker", "evaluation", "on-CPU", *MAIN, "load (model.py:8)"): 30.0 * MS,
        ("median", "worker", "evaluation", "blocked: lock", *LOCK): 1.0 * MS,
    }

    lock, score = suspects.of(tail, usual, 3, 97)

    assert (lock.component, lock.place, lock.slow_ns, lock.usual_ns) == ("lock", "acquire (pool.py:23)", 70 * MS, MS)
    assert (score.component, score.place, score.slow_ns) == ("on-CPU", "score (model.py:41)", 45 * MS)
    assert (lock.samples, score.samples) == (0, 97)
    assert suspects.of(usual, usual, 3, 97) == ()


def test_the_code_is_told_in_every_format():
    """A person, a program and a pull request read the same line; names of a hostile program stay names."""
    latency, components = requests({"lock": 1.0}, np.random.default_rng(3))
    hostile = ("main (app.py:1)", "\x1b[2J<b>\n(x) (a\u202eb.py:3)", "futex_wait_[k]")
    cpu = [(ON_CPU, PYTHON, components["on-CPU"])]
    subject = spans(latency, components, [("lock", hostile, components["lock"]), *cpu])

    found = judged(latency, components, subject)

    said = encode([("run.tk", found)]).decode()
    assert "%0Acode: " in said
    assert not {"\x1b", "\u202e"} & set(said)
    assert b'"stack": [' in verdict_json.encode([("run.tk", found)])
    assert found.verdicts[0].why.split.code[0].stack == hostile


def test_calls_that_fail_are_told_of_slow_and_usual_spans():
    """Seven in each slow one, none in the others: counted, as their time is in other components."""
    latency, components = requests({"lock": 1.0}, np.random.default_rng(3))
    parts = parts_of(latency, components)
    buckets = slots_of(latency.astype(np.uint64)) >> BUCKET_SHIFT
    slow = latency > 20 * MS
    errors = np.array([7 * slow[buckets == bucket].sum() for bucket in parts.bucket], dtype=np.uint64)
    given = {"parts": lambda where, runs: [replace(parts, errors=errors)]}

    found = judged(latency, components, None, **given)

    assert found.verdicts[0].why.split.failed == (7, 0)
    assert "%0Afailed: 7 system calls in a slow one, 0 in a usual one%0A" in encode([("run.tk", found)]).decode()
