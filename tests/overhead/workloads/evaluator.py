"""
An evaluator that computes: answers are parsed, normalised and scored against a reference, no waits at all.

usage: evaluator.py ANSWERS ROUNDS CPU
"""

from __future__ import annotations

import difflib
import json
import re
from statistics import fmean

from rounds import main

REFERENCE = "the kernel accounts for the time of each thread in nanoseconds"
ANSWER = json.dumps({"role": "assistant", "content": f"  The Kernel: {REFERENCE[4:]}!  ", "tokens": list(range(50))})
WORD = re.compile(r"\w+")


def score(answer: str) -> float:
    words = WORD.findall(json.loads(answer)["content"].lower())
    return difflib.SequenceMatcher(None, words, REFERENCE.split()).ratio()


if __name__ == "__main__":
    main(lambda count: fmean(score(ANSWER) for _ in range(count)))
