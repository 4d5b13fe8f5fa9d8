"""The exact paired test, the order of tests, and what passes."""

from __future__ import annotations

from math import comb, sqrt

import numpy as np
import pytest
from scipy.stats import beta

from eesearch.core.errors import PolicyError
from eesearch.core.paired import Paired
from eesearch.solve import trust
from eesearch.solve.trust import GAMMA, MOST_TESTED, p_value, passed, smallest_slack


def brute_force(lost: int, gained: int, samples: int, slack: float) -> float:
    """The p-value from all pairs of counts (lost', gained') of a trinomial, on a dense grid of psi."""
    differ = lost + gained
    low = beta.ppf(GAMMA / 2, differ, samples - differ + 1) if differ else 0.0
    high = beta.ppf(1 - GAMMA / 2, differ + 1, samples - differ) if differ < samples else 1.0
    psi = np.linspace(max(low, slack), max(high, slack), 1001)
    b, c, neither = (psi + slack) / 2, (psi - slack) / 2, 1 - psi
    total = np.zeros_like(psi)
    for i in range(samples + 1):
        for j in range(samples + 1 - i):
            if i - j <= lost - gained:
                ways = comb(samples, i) * comb(samples - i, j)
                total += ways * b**i * c**j * neither ** (samples - i - j)
    return float(min(1.0, GAMMA + total.max()))


@pytest.mark.parametrize("slack", [0.0, 0.01, 0.1, 0.35, 1.0])
@pytest.mark.parametrize("samples", [1, 2, 7, 13])
def test_p_value_is_that_of_all_pairs_of_counts(samples, slack):
    rng = np.random.default_rng(samples)
    seen = {(0, 0), (samples, 0), (0, samples), *map(tuple, rng.multinomial(samples, [0.2, 0.2, 0.6], 4)[:, :2])}
    for lost, gained in seen:
        found = p_value(Paired(lost=lost, gained=gained, samples=samples), slack)
        exhaustive = brute_force(lost, gained, samples, slack)
        assert exhaustive - 1e-9 <= found <= exhaustive + 1e-4, (lost, gained)


def test_p_value_of_few_differences_among_many_samples_is_that_of_a_binomial():
    # Nothing differs, and the interval of psi lies below the slack: only losses can make up a drop of 1 %.
    assert p_value(Paired(lost=0, gained=0, samples=5000), 0.01) == pytest.approx(GAMMA + 0.99**5000, rel=1e-9)
    assert p_value(Paired(lost=9, gained=9, samples=10**6), 0.5) == pytest.approx(GAMMA, abs=1e-8)


@pytest.mark.parametrize(("psi", "at_least"), [(0.02, 0.2), (0.1, 0.4), (0.3, 0.4)])
def test_at_the_boundary_it_rejects_at_most_as_often_as_it_says(psi, at_least):
    slack, samples, delta, draws = 0.02, 500, 0.1, 1000
    b, c = (psi + slack) / 2, (psi - slack) / 2
    counts = np.random.default_rng(7).multinomial(samples, [b, c, 1 - psi], draws)
    known = {}
    for lost, gained in {tuple(pair) for pair in counts[:, :2].tolist()}:
        known[lost, gained] = p_value(Paired(lost=lost, gained=gained, samples=samples), slack)
    rejected = np.mean([known[lost, gained] <= delta for lost, gained in counts[:, :2].tolist()])
    assert rejected <= delta + 4 * sqrt(delta * (1 - delta) / draws)
    assert rejected >= at_least * delta  # and it is not idle


def test_no_level_is_exceeded_at_the_boundary_counted_over_all_outcomes():
    """Exact, for every way in which 40 samples can be lost and gained."""
    samples, slack, delta = 40, 0.1, 0.1
    pairs = [(lost, gained) for lost in range(samples + 1) for gained in range(samples + 1 - lost)]
    rejected = [p for p in pairs if p_value(Paired(lost=p[0], gained=p[1], samples=samples), slack) <= delta]
    sizes = []
    for psi in np.linspace(slack, 1.0, 91):
        b, c, neither = (psi + slack) / 2, (psi - slack) / 2, 1 - psi
        ways = (comb(samples, i) * comb(samples - i, j) * b**i * c**j * neither ** (samples - i - j) for i, j in pairs)
        chance = dict(zip(pairs, ways, strict=True))
        assert sum(chance.values()) == pytest.approx(1.0)
        sizes.append(sum(chance[pair] for pair in rejected))
    assert max(sizes) <= delta
    assert max(sizes) >= 0.8 * delta  # and it is not idle


def test_p_value_rises_with_losses_and_falls_with_gains_and_slack():
    def p(lost: int, gained: int, slack: float = 0.01) -> float:
        return p_value(Paired(lost=lost, gained=gained, samples=1000), slack)

    by_lost = [p(lost, 30) for lost in range(10, 60, 5)]
    by_gained = [p(30, gained) for gained in range(10, 60, 5)]
    by_slack = [p(40, 30, slack) for slack in (0.0, 0.005, 0.01, 0.02, 0.04, 0.08)]
    assert (np.diff(by_lost) > 0).all()
    assert (np.diff(by_gained) < 0).all()
    assert (np.diff(by_slack) < 0).all()
    assert GAMMA <= min(by_lost + by_gained + by_slack) <= max(by_lost + by_gained + by_slack) <= 1.0


def test_the_smallest_slack_is_the_smallest_that_passes():
    slack = smallest_slack(0.08, 2500, 0.1)
    even = Paired(lost=100, gained=100, samples=2500)
    assert p_value(even, slack) <= 0.1 < p_value(even, slack - 2e-5)
    highest = beta.ppf(1 - GAMMA / 2, 201, 2300)  # of the share that differs
    assert slack == pytest.approx(1.2816 * sqrt(highest / 2500), rel=0.04)
    assert smallest_slack(0.08, 10_000, 0.1) < slack < smallest_slack(0.08, 2500, 0.01)
    assert smallest_slack(0.08, 2500, GAMMA / 2) == 1.0  # no p-value is that small


def test_p_value_and_slack_refuse_what_is_no_share():
    with pytest.raises(PolicyError, match="without samples"):
        p_value(Paired(lost=0, gained=0, samples=0), 0.01)
    for slack in (-0.01, float("nan")):
        with pytest.raises(PolicyError, match="below 0 or not a number"):
            p_value(Paired(lost=0, gained=0, samples=10), slack)
    with pytest.raises(PolicyError, match="error probability"):
        smallest_slack(0.1, 100, 1.0)


def test_the_order_holds_what_nothing_beats_from_the_safest_to_the_cheapest():
    p = np.array([0.5, 0.001, 0.2, 0.2, 0.001, 0.9, 0.3])
    cost = np.array([2.0, 9.0, 5.0, 4.0, 8.0, 1.0, 6.0])
    np.testing.assert_array_equal(trust.order_of_tests(p, cost), [4, 3, 0, 5])
    np.testing.assert_array_equal(trust.order_of_tests(np.array([0.1, 0.1]), np.array([2.0, 2.0])), [0])
    assert trust.order_of_tests(np.array([]), np.array([])).shape == (0,)


def test_the_order_is_thinned_evenly_and_keeps_both_ends():
    p, cost = np.linspace(0.0, 1.0, 101), np.linspace(5.0, 1.0, 101)
    np.testing.assert_array_equal(trust.order_of_tests(p, cost, 5), [0, 25, 50, 75, 100])
    np.testing.assert_array_equal(trust.order_of_tests(p, cost, 1), [0])
    order = trust.order_of_tests(p, cost)
    assert (len(order), order[0], order[-1]) == (MOST_TESTED, 0, 100)
    assert (np.diff(order) >= 4).all()
    assert len(trust.order_of_tests(p[:26], cost[:26], 25)) == 25
    assert len(np.unique(trust.order_of_tests(p[:26], cost[:26], 25))) == 25


def test_the_order_refuses_what_cannot_be_ordered():
    with pytest.raises(PolicyError, match="room for one"):
        trust.order_of_tests(np.array([0.1]), np.array([1.0]), 0)
    with pytest.raises(PolicyError, match="finite values"):
        trust.order_of_tests(np.array([np.nan]), np.array([1.0]))


def test_testing_stops_at_the_first_failure():
    assert passed([0.01, 0.1, 0.2, 0.01], 0.1) == 2
    assert passed([0.2, 0.01], 0.1) == 0
    assert passed([], 0.1) == 0
    assert passed([0.01, 0.02], 0.1) == 2
