"""The paths of a family, against a recursion."""

from __future__ import annotations

from itertools import groupby, pairwise, permutations
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
    assert all(tree.after(path) == [p[-1] for p in listed if p[:-1] == path] for path in listed)


@settings(max_examples=50, deadline=None)
@given(trees(), st.lists(st.integers(0, 5), max_size=4))
def test_allows_nothing_else(made, path):
    tree, step = made
    assert tree.allows(path) == (tuple(path) in set(by_recursion(tree, step)))


def test_paid_adds_the_steps_up():
    step = np.arange(42.0).reshape(7, 6)
    np.testing.assert_array_equal(paid(step, np.array([[0, 2, 5]])), [[0.0, 8.0, 8.0 + 23.0]])


FAMILY = tuple(
    ExitId(network=network, cut=cut, head=head)
    for network in ("a", "b", "c")
    for cut, head in ((f"{network}/1", "h"), (f"{network}/{OUTPUT}", OWN))
)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 4), st.booleans(), st.data())
def test_no_network_is_entered_twice(most, asks, data):
    exits = (*FAMILY, *([ASK] if asks else []))
    step = np.full((len(exits) + 1, len(exits)), inf)
    for i, before in enumerate((None, *exits)):
        for j, e in enumerate(exits):
            later = before is None or (before is not ASK and (before.network != e.network or before.head != OWN))
            if later and before != e and data.draw(st.integers(0, 9)):
                step[i, j] = 1.0
    tree = PathTree(exits, step, most)
    listed = [tuple(path) for block in tree.blocks() for path in block.tolist()]
    expected = set()
    for length in range(1, most + 3):
        for path in permutations(range(len(exits)), length):
            chain = [exits[row] for row in path]
            groups = [network for network, _ in groupby(e.network for e in chain)]
            known = np.isfinite(step[0, path[0]]) and all(np.isfinite(step[i + 1, j]) for i, j in pairwise(path))
            early = chain[:-1] if chain[-1].cut == ASK.cut else chain
            early = early[:-1] if early and early[-1].is_output else early
            if known and len(set(groups)) == len(groups) and len(early) <= most:
                expected.add(path)
    assert len(listed) == len(set(listed)) == tree.count()
    assert set(listed) == expected
    assert all(tree.allows(path) for path in listed)
