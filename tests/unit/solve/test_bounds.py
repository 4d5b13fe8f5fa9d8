"""Curves against envelopes and floors, number by number."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from eesearch.solve.bounds import beaten, lower

seeds = st.integers(0, 2**32 - 1)


def curve(rng, samples):
    """A falling convex curve: where it begins, its value there, its slopes, how long they last; and all values."""
    slopes = np.sort(rng.integers(0, 6, rng.integers(1, 7)))[::-1].astype(np.float64)
    lengths = rng.multinomial(rng.integers(0, samples + 1), np.ones(len(slopes)) / len(slopes))
    begin = int(rng.integers(0, samples - lengths.sum() + 1))
    steps = np.repeat(slopes, lengths)
    cost = float(steps.sum() + rng.integers(0, 10))
    values = np.full(samples + 1, np.inf)
    values[begin : begin + len(steps) + 1] = cost - np.append(0.0, steps.cumsum())
    return (begin, cost, slopes.copy(), lengths.astype(np.int64)), values


def staircase(rng, near):
    """A falling envelope that a curve with these values is now above and now below, or just touches."""
    known = near[np.isfinite(near)]
    stairs = np.where(np.isfinite(near), near, known[-1]) + rng.integers(-3, 2, len(near))
    stairs[: rng.integers(0, len(near))] = np.inf if rng.random() < 0.3 else stairs.max()
    return np.minimum.accumulate(np.where(rng.random(len(near)) < 0.5, stairs, np.inf))


@settings(max_examples=500, deadline=None)
@given(seeds)
def test_a_curve_is_beaten_if_the_envelope_is_nowhere_above_it(seed):
    rng = np.random.default_rng(seed)
    ends, values = curve(rng, int(rng.integers(1, 40)))
    envelope = staircase(rng, values)
    where = beaten(envelope, *ends)
    below = np.flatnonzero(values < envelope)
    assert where == (below[0] if len(below) else -1)


@settings(max_examples=100, deadline=None)
@given(seeds)
def test_a_floor_comes_down_to_a_curve(seed):
    rng = np.random.default_rng(seed)
    ends, values = curve(rng, int(rng.integers(1, 40)))
    floor = staircase(rng, values)
    wanted = np.minimum(floor, values)
    lower(floor, *ends)
    np.testing.assert_array_equal(floor, wanted)
