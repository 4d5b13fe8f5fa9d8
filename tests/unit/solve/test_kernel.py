"""Bitsets against boolean arrays, around the edges of words."""

from __future__ import annotations

import numpy as np
import pytest

from eesearch.solve.kernel import count_both, count_three, divide, intersect, pack


@pytest.fixture(params=[1, 63, 64, 65, 200])
def members(request):
    """Four sets of samples. [4, N]"""
    return np.random.default_rng(request.param).random((4, request.param)) < 0.6


def test_pack_puts_sample_n_at_bit_n_and_leaves_the_rest_empty():
    members = np.zeros((1, 70), np.bool_)
    members[0, [0, 63, 64, 69]] = True
    assert pack(members).tolist() == [[1 + 2**63, 1 + 2**5]]


def test_counts_are_those_of_boolean_arrays(members):
    a, b, c, _ = members
    bits = pack(members)
    assert count_both(bits[0], bits[1]) == (a & b).sum()
    assert count_three(bits[0], bits[1], bits[2]) == (a & b & c).sum()


def test_divide_counts_who_goes_on_who_is_lost_and_who_is_doomed(members):
    here, staying, wrong, hopeless = members
    assert divide(*pack(members)) == (
        (here & staying).sum(),
        (here & ~staying & wrong).sum(),
        (here & staying & hopeless).sum(),
    )


def test_intersect_writes_the_common_samples(members):
    bits = pack(members)
    out = np.zeros_like(bits[0])
    intersect(bits[0], bits[1], out)
    np.testing.assert_array_equal(out, pack(members[0] & members[1]))
