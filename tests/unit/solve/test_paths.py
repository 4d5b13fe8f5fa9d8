"""The paths of a family, against a recursion."""

from __future__ import annotations

from math import inf

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from eesearch.core.design import ASK, OUTPUT, OWN, ExitId
from eesearch.solve.paths import PathTree, paid

EXITS = (
    *(ExitId(network="n", cut=f"c{i // 2}", head=f"h{i % 2}") for i in range(4)),
    ExitId(network="n", cut=OUTPUT, head=OWN),
    ASK,
)


@st.composite
def trees(draw):
    """Any step may be forbidden, as long as rows only rise."""
    step = np.full((7, 6), inf)
    for i in range(7):
        for j in range(6):
            if j >= i and draw(st.booleans()):
                step[i, j] = draw(st.integers(0, 9))
    return PathTree(EXITS, step, draw(st.integers(0, 3))), step


def by_recursion(tree, step, path=()):
    row = path[-1] + 1 if path else 0
    for j in np.flatnonzero(np.isfinite(step[row])).tolist():
        longer = (*path, j)
        if sum(e < 4 for e in longer) <= tree.max_exits:
            yield longer
            yield from by_recursion(tree, step, longer)


@settings(max_examples=200, deadline=None)
@given(trees(), st.sampled_from([1, 3, 1000]))
def test_lists_every_path_once_the_shorter_ones_first(made, size):
    tree, step = made
    listed = [tuple(path) for block in tree.blocks(size) for path in block.tolist()]
    assert listed == sorted(by_recursion(tree, step), key=lambda path: (len(path), path))
    assert tree.count() == len(listed)
    assert all(len(block) <= size for block in tree.blocks(size))
    assert all(tree.allows(path) for path in listed)


@settings(max_examples=50, deadline=None)
@given(trees(), st.lists(st.integers(0, 5), max_size=4))
def test_allows_nothing_else(made, path):
    tree, step = made
    assert tree.allows(path) == (tuple(path) in set(by_recursion(tree, step)))


def test_paid_adds_the_steps_up():
    step = np.arange(42.0).reshape(7, 6)
    np.testing.assert_array_equal(paid(step, np.array([[0, 2, 5]])), [[0.0, 8.0, 8.0 + 23.0]])
