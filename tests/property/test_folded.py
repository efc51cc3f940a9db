"""Folded stacks come back as they were written, whatever the frames are called."""

from __future__ import annotations

import math
from io import BytesIO

from hypothesis import given
from hypothesis import strategies as st

from tracekit.export import folded
from tracekit.stacks import merge, starting, tree

names = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=8),
    st.text("a; 12.\n\t\r\0-_:\ufeff\u2028\udcff", max_size=6),
)
stacks = st.lists(names, max_size=5).map(tuple)
whole = st.integers(0, 2**63)
weighted = st.dictionaries(stacks, whole, max_size=8)
decimal = st.dictionaries(stacks, st.floats(1e-9, 1e18), max_size=8)


def read(data):
    return folded.read(BytesIO(data))


def total(weights):
    return sum(weights.values())


@given(weighted)
def test_written_stacks_read_back(weights):
    """Every line parses, and gives the stack that `foldable` promises with its exact weight."""
    wanted = merge({folded.foldable(stack): weight} for stack, weight in weights.items() if weight)

    back = read(folded.write(weights).encode())

    assert back.malformed == []
    assert back.weights == wanted


@given(weighted)
def test_no_weight_is_lost_in_text(weights):
    """Names that become equal are added, never overwritten."""
    assert total(read(folded.write(weights).encode()).weights) == total(weights)


@given(decimal)
def test_decimal_weights_read_back(weights):
    """py-spy and bcc may write decimals: to the last bit."""
    plain = merge({folded.foldable(stack): weight} for stack, weight in weights.items())

    back = read(folded.write(weights).encode())

    assert back.weights == plain


@given(weighted)
def test_writing_settles(weights):
    """What was read back is written the same: the rules apply once."""
    once = folded.write(weights)

    assert folded.write(read(once.encode()).weights) == once


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_counted(data):
    """Foreign data never raises; each line is a stack, malformed or empty."""
    found = read(data.replace(b"\0", b""))

    lines = [line for line in data.decode("utf-8-sig", "backslashreplace").split("\n") if line.strip()]
    assert len(found.malformed) + len(found.weights) <= len(lines)
    assert all(math.isfinite(weight) and weight >= 0 for weight in found.weights.values())


def nodes_of(grown):
    """Return all nodes of a tree, parents before children."""
    found = [grown.root]
    for node in found:
        found.extend(grown.children(node))
    return found


@given(weighted)
def test_the_tree_holds_what_the_stacks_hold(weights):
    """Each node weighs what the stacks through it weigh, and its own what the stack that ends there does."""
    grown = tree(weights)
    nodes = nodes_of(grown)

    paths = [grown.path(node) for node in nodes]
    assert len(set(paths)) == len(paths)
    assert {stack[:end] for stack in weights for end in range(len(stack) + 1)} | {()} == set(paths)
    assert [grown.weight(node) for node in nodes] == [total(starting(weights, path)) for path in paths]
    assert [grown.own(node) for node in nodes] == [weights.get(path, 0) for path in paths]


@given(weighted)
def test_the_tree_counts_what_it_does_not_make(weights):
    """`below` is the number of nodes that walking down would find."""
    grown = tree(weights)

    def walked(node):
        return sum(1 + walked(child) for child in grown.children(node))

    assert [grown.below(node) for node in nodes_of(grown)] == [walked(node) for node in nodes_of(grown)]
