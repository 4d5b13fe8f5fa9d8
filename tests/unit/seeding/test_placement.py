"""Placement rules on numbers."""

from __future__ import annotations

import numpy as np
import pytest

from eesearch.core.errors import PolicyError
from eesearch.seeding.placement import nested, panda_chain, panda_shared, percentile, th_paid, th_rule


def draws(count=10_000):
    """Random blocks, heads and pass ratios below 1."""
    rng = np.random.default_rng(0)
    return rng.uniform(0.1, 5.0, count), rng.uniform(0.1, 5.0, count), rng.uniform(0.0, 8.0, count), rng.random(count)


def test_percentile_takes_the_nearest_cut():
    assert percentile([10, 20, 45, 70, 100], [0.15, 0.5, 0.9]) == [0, 2, 3]


def test_percentile_places_sdn_s_six_from_15_to_90_percent():
    assert percentile(np.arange(1, 101), 6) == [14, 29, 44, 59, 74, 89]


def test_percentile_takes_each_cut_once():
    assert percentile([50, 100], 6) == [0]


def test_percentile_of_one_is_in_the_middle():
    assert percentile(np.arange(1, 101), 1) in ([51], [52])


def test_percentile_of_a_network_without_cuts_is_empty():
    assert percentile([100], 3) == []


@pytest.mark.parametrize("shares", [0, [], [1.2], [-0.1]])
def test_percentile_refuses_shares_that_are_none(shares):
    with pytest.raises(PolicyError, match="shares"):
        percentile([50, 100], shares)


def test_panda_chain_is_equation_4():
    # (100 - 40) (1 - 0.3) = 42 > 40 * 0.3 = 12
    assert panda_chain(40.0, 100.0, 1.0, 0.3) == pytest.approx(30.0)


def test_panda_chain_charges_a_stage_again():
    """gamma_2 I_1 > gamma_1 I_1 + gamma_2 I_2: as if who goes on paid for both networks from their inputs."""
    rng = np.random.default_rng(0)
    here, following, going_on = rng.random(100), 1.0 + rng.random(100), rng.random(100)
    literal = panda_chain(here, following, np.ones(100), going_on)
    np.testing.assert_allclose(literal, following - (here + following * going_on))


def test_panda_shared_weighs_what_leavers_save_against_what_all_pay():
    # half of 0.8 leave and are spared 30; 0.8 pay the head of 5
    assert panda_shared(0.8, 0.4, 30.0, 5.0) == pytest.approx(0.4 * 30 - 0.8 * 5)


def test_panda_shared_never_keeps_an_exit_that_nobody_uses():
    assert panda_shared(0.5, 0.5, 100.0, 0.0) <= 0.0


def test_th_star_is_where_equation_5_turns():
    """(TH - cm) f_next - (1 - cm) c - (1 - TH) f is 0 at TH*, and rises with TH."""
    before, following, head, cm = draws()
    th = th_rule(before, following, head, cm)
    np.testing.assert_allclose((th - cm) * following - (1 - cm) * head - (1 - th) * before, 0.0, atol=1e-12)


def test_th_of_0_keeps_nothing():
    before, following, head, cm = draws()
    assert (th_rule(before, following, head, cm) > 0.0).all()
    assert (th_paid(before, following, head, cm) > 0.0).all()


def test_no_th_keeps_a_head_that_costs_more_than_the_next_block():
    before, following, head, cm = draws()
    for rule in (th_rule, th_paid):
        kept = rule(before, following, head, cm) <= 1.0
        assert kept.any()
        assert (head[kept] <= following[kept]).all()


def test_only_the_literal_rule_keeps_an_exit_that_nobody_uses_at_th_1():
    assert th_rule(3.0, 2.0, 0.5, 1.0) <= 1.0
    assert th_paid(3.0, 2.0, 0.5, 1.0) > 1.0


def test_th_paid_charges_the_head_to_all():
    assert th_paid(3.0, 2.0, 0.5, 0.25) == (3.0 + 0.5 + 0.25 * 2.0) / 5.0
    assert th_rule(3.0, 2.0, 0.5, 0.25) == (3.0 + 0.75 * 0.5 + 0.25 * 2.0) / 5.0


def test_blocks_that_cost_nothing_save_nothing():
    assert th_rule(np.zeros(1), np.zeros(1), np.zeros(1), np.zeros(1)).tolist() == [np.inf]


def test_nested_placements_grow_one_within_the_next():
    assert nested(np.array([0.9, 0.5, 1.1, 0.7])) == [(0.5, [1]), (0.7, [1, 3]), (0.9, [0, 1, 3])]


def test_nested_placements_take_equal_exits_together_and_are_at_most_l_minus_1():
    assert nested(np.array([0.5, 0.5, 0.2])) == [(0.2, [2]), (0.5, [0, 1, 2])]
    values = np.random.default_rng(0).random(26)
    assert len(nested(values)) <= 26
