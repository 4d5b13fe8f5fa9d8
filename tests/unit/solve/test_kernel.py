"""Bitsets against boolean arrays, around the edges of words."""

from __future__ import annotations

import numpy as np
import pytest

from eesearch.solve.kernel import (
    count_both,
    count_each,
    intersect,
    overlaps_of_4,
    overlaps_of_5,
    overlaps_of_any,
    pack,
    part,
)

SIZES = [1, 63, 64, 65, 200]
OVERLAPS = [(4, overlaps_of_4), (5, overlaps_of_5), *((stops, overlaps_of_any) for stops in (2, 4, 5, 7))]


@pytest.fixture(params=SIZES)
def members(request):
    """Four sets of samples. [4, N]"""
    return np.random.default_rng(request.param).random((4, request.param)) < 0.6


def test_pack_puts_sample_n_at_bit_n_and_leaves_the_rest_empty():
    members = np.zeros((1, 70), np.bool_)
    members[0, [0, 63, 64, 69]] = True
    assert pack(members).tolist() == [[1 + 2**63, 1 + 2**5]]


def test_counts_are_those_of_boolean_arrays(members):
    a, b, _, _ = members
    bits = pack(members)
    assert count_both(bits[0], bits[1]) == (a & b).sum()


def test_intersect_writes_the_common_samples(members):
    bits = pack(members)
    out = np.zeros_like(bits[0])
    intersect(bits[0], bits[1], out)
    np.testing.assert_array_equal(out, pack(members[0] & members[1]))


def test_part_counts_who_leaves_and_who_leaves_wrongly(members):
    here, leaving, right, _ = members
    on = np.zeros_like(pack(here))
    assert part(*pack(members[:3]), on) == ((here & leaving).sum(), (here & leaving & ~right).sum())
    np.testing.assert_array_equal(on, pack(here & ~leaving))


def test_each_set_of_two_lists_is_counted(members):
    here, a, b, c = members
    counts = np.zeros((2, 2), np.int64)
    count_each(pack(here), pack(np.stack([a, b])), pack(np.stack([c, a])), counts)
    assert counts.tolist() == [[(here & a).sum(), (here & c).sum()], [(here & b).sum(), (here & a).sum()]]


@pytest.mark.parametrize("samples", SIZES)
@pytest.mark.parametrize(("stops", "overlaps"), OVERLAPS)
def test_overlaps_count_who_may_leave_and_who_may_leave_rightly(stops, overlaps, samples):
    rng = np.random.default_rng(stops)
    strict = rng.random((stops - 1, samples)) < 0.3
    lenient = strict | (rng.random(strict.shape) < 0.3)
    right = rng.random((stops, samples)) < 0.5

    may, seen, hit = np.ones(samples, np.bool_), [np.zeros(samples, np.bool_)], [np.zeros(samples, np.bool_)]
    for k in range(stops):
        leaves = may & lenient[k] if k < stops - 1 else may
        seen.append(seen[-1] | leaves)
        hit.append(hit[-1] | (leaves & right[k]))
        may = may & ~strict[k] if k < stops - 1 else may
    wanted = [[(seen[j] & hit[k]).sum() for k in range(j, stops + 1)] for j in range(stops + 1)]

    leaves = pack(np.stack([lenient, strict]))  # two "keys": the lenient ends, the strict ends
    words = leaves.shape[2]
    rows = np.zeros(4 * stops - 3, np.uint64)
    rows[: 2 * (stops - 1)] = np.arange(2 * (stops - 1)) * words
    rows[2 * (stops - 1) : 3 * stops - 2] = np.arange(stops) * words
    counts = np.zeros((2, stops + 2, stops + 1), np.int64)
    middle = words // 2  # the words are counted in two groups
    for group, (begin, end) in enumerate([(0, middle), (middle, words)]):
        overlaps(leaves, pack(right), rows, (group, begin, end), counts)
    both, may_leave = counts.sum(0)[:-1], counts.sum(0)[-1]
    assert [both[j, j:].tolist() for j in range(stops + 1)] == wanted
    assert may_leave[: stops - 1].tolist() == [s.sum() for s in seen[1:-1]]
    if middle:
        assert counts.any(axis=(1, 2)).all()
