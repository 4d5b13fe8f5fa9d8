"""Samples of equal weight lie together, each weight from a new word on."""

from __future__ import annotations

import numpy as np
import pytest

from eesearch.solve.kernel import pack
from eesearch.solve.weighing import Weighing


@pytest.mark.parametrize("samples", [1, 64, 65, 200])
def test_every_word_has_one_weight(samples):
    rng = np.random.default_rng(samples)
    weights = rng.choice([1, 3, 8], samples)
    weighing, chosen = Weighing(samples, weights), rng.random((2, samples)) < 0.5
    packed = weighing.pack(chosen)
    assert packed.shape == (2, weighing.words)
    words = np.repeat(weighing.units, -(-weighing.sizes // 64))
    for row, bits in zip(chosen, packed, strict=True):
        assert np.bitwise_count(bits) @ words == weights[row].sum() == weighing.count(row)
    assert np.bitwise_count(weighing.pack(np.ones(samples, np.bool_))).sum() == samples
    assert (weighing.pack(chosen[0] & chosen[1]) == packed[0] & packed[1]).all()


def test_without_weights_nothing_is_moved():
    chosen = np.random.default_rng(0).random((3, 100)) < 0.5
    weighing = Weighing(100)
    assert (weighing.pack(chosen) == pack(chosen)).all()
    assert (weighing.total, weighing.words, weighing.units.tolist(), weighing.sizes.tolist()) == (100, 2, [1], [100])
