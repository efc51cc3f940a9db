"""
Memories of processes that were kept: one file for each CPython, and the walkers of stacks run on all of them.

A CPython that is not here is added by `python -m tests.corpus.capture PYTHON tests/corpus/NAME.xz`, nothing else.
"""
