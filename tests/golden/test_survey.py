"""Figures of the survey, and what it quotes, by numbers."""

import pytest

from eesearch.training.freezing import freeze_share, freezing_rate
from eesearch.training.losses import companion_weights

LAYERS, STEPS, RATE = 3, 150, 0.1


def learning_rates():
    """Figure 4: three layers, 150 iterations, a learning rate of 0.1. [L][T + 1]"""
    times = [STEPS * freeze_share(i, LAYERS, start=1 / 3, power=1) for i in range(LAYERS)]
    return [[RATE * freezing_rate(step, time) for step in range(STEPS + 1)] for time in times]


def test_figure_4_freezes_its_layers_after_50_100_and_150_iterations():
    """freeze_share says where (eq. 10 there: t_i equispaced), freezing_rate how."""
    times = [STEPS * freeze_share(i, LAYERS, start=1 / 3, power=1) for i in range(LAYERS)]
    assert times == pytest.approx([50.0, 100.0, 150.0])
    for rates, frozen in zip(learning_rates(), (50, 100, 150), strict=True):
        assert rates[frozen - 1] > 0.0
        assert set(rates[frozen:]) == {0.0}


def test_figure_4_anneals_each_layer_by_half_a_cosine():
    for rates, frozen in zip(learning_rates(), (50, 100, 150), strict=True):
        assert rates[0] == RATE
        assert rates[frozen // 2] == pytest.approx(RATE / 2)
        assert rates == sorted(rates, reverse=True)
    first, second, third = learning_rates()
    assert [round(rates[25], 5) for rates in (first, second, third)] == [0.05, 0.08536, 0.0933]
    assert [round(rates[75], 5) for rates in (first, second, third)] == [0.0, 0.01464, 0.05]


def test_sdns_weights_rise_from_a_hundredth_to_the_relative_cost():
    """Kaya et al. 2019, section 4: tau of each internal classifier, over 100 epochs."""
    costs = [0.15, 0.30, 0.45, 0.60, 0.75, 0.90]
    assert companion_weights(costs, "sdn", 0.0) == [0.01] * 6
    assert companion_weights(costs, "sdn", 0.5) == pytest.approx([0.08, 0.155, 0.23, 0.305, 0.38, 0.455])
    assert companion_weights(costs, "sdn", 1.0) == pytest.approx(costs)
