"""Figures from made-up blocks."""

import numpy as np
import pytest

from eesearch.core.costs import StageCosts
from eesearch.core.design import ExitId
from eesearch.costs.pairing import Blocks, agreement, compare_blocks, predict_calls, predicted_spent

TOOK = np.array([1.0, 3.0])


def process(stop, *, backbone=4.0, slower=1.0, wall=2.0, cpu=2.0):
    """Who leaves at stop 0 takes 1 ms, at stop 1 3 ms."""
    stop = np.array(stop)
    exits = TOOK[stop] * slower
    return Blocks(exits, np.full(exits.shape, backbone * slower), stop, wall, cpu)


def test_blocks_with_other_samples_are_brought_to_the_same_mix():
    compared = compare_blocks([process([[0, 0, 0, 1], [0, 0, 1, 1], [0, 0, 0, 0]])])
    mean = (9 * 1.0 + 3 * 3.0) / 12
    assert compared.exits.mean == compared.exits.raw_mean == pytest.approx(mean)
    assert compared.ratio == pytest.approx(mean / 4.0)
    assert compared.interval == pytest.approx((mean / 4.0, mean / 4.0))
    assert compared.spread == pytest.approx(0.0, abs=1e-12)
    assert (compared.exits.p50, compared.backbone.p95) == (1.0, 4.0)


def test_what_happens_now_and_then_does_not_count_but_is_told():
    quiet = process([[0, 0, 1, 1]] * 5)
    exits = quiet.exits.copy()
    exits[0, 0], exits[3, :] = 100.0, 50.0  # a hiccup, and a block that was disturbed
    compared = compare_blocks([Blocks(exits, quiet.backbone, quiet.stop, 3.0, 2.0)])
    assert compared.exits.mean == pytest.approx(2.0, rel=0.01)
    assert compared.exits.raw_mean > 10.0
    assert compared.contention == pytest.approx(1.5)


def test_a_drift_meets_both():
    blocks = process([[0, 1]] * 6)
    drift = np.linspace(1.0, 2.0, 6)[:, None]
    compared = compare_blocks([Blocks(blocks.exits * drift, blocks.backbone * drift, blocks.stop, 1.0, 1.0)])
    assert compared.ratio == pytest.approx(0.5)
    assert compared.interval == pytest.approx((0.5, 0.5))
    assert compared.spread > 0.2


def test_the_interval_contains_what_every_process_says():
    ratios = [0.5, 0.52, 0.58]
    compared = compare_blocks([process([[0, 1]] * 5, backbone=2.0 / ratio) for ratio in ratios])
    assert compared.ratio == pytest.approx(0.52)
    assert compared.interval == pytest.approx((0.5, 0.58))
    slower = compare_blocks([process([[0, 1]] * 5, slower=s) for s in (1.0, 1.1, 1.05)])
    assert slower.processes_spread == pytest.approx(0.1 / 1.05)
    assert slower.exits.mean == pytest.approx(2.1)


def test_the_interval_is_the_same_for_the_same_seed():
    rng = np.random.default_rng(0)
    blocks = process(rng.integers(0, 2, (12, 20)))
    noisy = Blocks(blocks.exits * rng.lognormal(0, 0.1, (12, 20)), blocks.backbone, blocks.stop, 1.0, 1.0)
    first, again = (compare_blocks([noisy], seed=3) for _ in range(2))
    assert first.interval == again.interval
    low, high = first.interval
    assert low < first.ratio < high


def test_batches_are_taken_as_they_are():
    exits = np.array([[1.0, 3.0], [2.0, 2.0]])
    compared = compare_blocks([Blocks(exits, np.full((2, 2), 4.0), None, 1.0, 0.0)])
    assert compared.exits.mean == pytest.approx(2.0)
    assert compared.contention == 1.0


EXITS = tuple(ExitId(network="n", cut=f"c{i}", head="h") for i in range(2))
STEP = np.array([[1.0, 3.0], [np.inf, 2.5], [np.inf, np.inf]])


def test_predicted_calls_of_one_sample_are_cumulative_costs():
    costs = StageCosts(STEP, EXITS, "latency_ms", 4.0)
    assert predict_calls(costs, np.array([[0], [1], [2]])).tolist() == [1.0, 3.5, 3.5]  # 2: handed on
    assert predicted_spent(np.array([1.0, 3.0])).model_dump() == {"mean": 2.0, "raw_mean": 2.0, "p50": 2.0, "p95": 2.9}


def test_predicted_batches_shrink():
    sizes, factor = (1, 2, 4), np.array([1.0, 1.5, 2.0])
    calls = STEP[None] * factor[:, None, None]
    costs = StageCosts(calls[-1] / 4, EXITS, "latency_ms", 1.0, 4, sizes, calls)
    stop = np.array([[0, 0, 0, 0], [0, 1, 1, 1], [1, 1, 1, 1]])
    three = 2.5 * 1.75  # between calls of two and of four
    assert predict_calls(costs, stop) == pytest.approx([2.0 / 4, (2.0 + three) / 4, (2.0 + 5.0) / 4])


def test_agreement_is_the_median_error_and_the_order():
    found = agreement([1.0, 2.0, 3.0, 4.4], [1.0, 2.1, 3.0, 4.0], [0.02, 0.05, 0.01, 0.02])
    assert found.error == pytest.approx((0.0 + 0.1 / 2.1) / 2)
    assert found.worst == pytest.approx(0.1)
    assert (found.spearman, found.noise, found.networks) == (pytest.approx(1.0), 0.05, 4)
    assert agreement([1, 2, 3, 4], [2, 1, 3, 4], [0.0] * 4).spearman == pytest.approx(0.8)
    assert agreement([1, 2, 3], [1, 2, 3], [0.0] * 3).spearman is None
    assert agreement([1, 1, 1, 1], [1, 2, 3, 4], [0.0] * 4).spearman is None
    assert agreement([1, 1, 2, 3], [5, 5, 6, 7], [0.0] * 4).spearman == pytest.approx(1.0)
