"""How many calls with how many samples a batch makes, against counting."""

from itertools import product
from math import comb

import numpy as np
import pytest

from eesearch.core.batches import calls_expected, survivors


@pytest.mark.parametrize("share", [0.0, 0.25, 0.9, 1.0])
def test_survivors_are_binomial(share):
    counted = np.zeros(5)
    for goes_on in product((0, 1), repeat=4):
        n = sum(goes_on)
        counted[n] += share**n * (1 - share) ** (4 - n)
    np.testing.assert_allclose(survivors(np.array(share), 4), counted, atol=1e-12)


def test_a_call_between_two_sizes_is_shared_by_them_and_no_call_by_none():
    expected = calls_expected(np.array([0.0, 0.5, 1.0]), 4, (1, 2, 4))
    odds = [comb(4, n) / 16 for n in range(5)]
    np.testing.assert_allclose(expected[0], [0, 0, 0])
    np.testing.assert_allclose(expected[1], [odds[1], odds[2] + odds[3] / 2, odds[4] + odds[3] / 2])
    np.testing.assert_allclose(expected[2], [0, 0, 1])


def test_shares_may_have_any_shape():
    shares = np.linspace(0, 1, 6).reshape(2, 3)
    found = calls_expected(shares, 8, (1, 4, 8))
    assert found.shape == (2, 3, 3)
    np.testing.assert_array_equal(found[1, 2], calls_expected(shares[1, 2], 8, (1, 4, 8)))


def test_cost_in_proportion_to_samples_is_the_cost_of_one():
    """Where batches save nothing, the expected cost per sample of a batch is share x cost."""
    sizes = (1, 2, 5)
    shares = np.array([0.1, 0.7, 1.0])
    np.testing.assert_allclose(calls_expected(shares, 5, sizes) @ (3.0 * np.array(sizes)) / 5, 3.0 * shares)
