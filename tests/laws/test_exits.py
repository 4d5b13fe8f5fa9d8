"""Laws of routing and expected cost."""

from __future__ import annotations

from math import inf

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from eesearch.core.costs import StageCosts
from eesearch.core.design import OUTPUT, OWN, ExitId
from eesearch.core.policy import Policy, Stop
from eesearch.core.tables import ExitTable
from eesearch.exits.evaluate import evaluate
from eesearch.exits.expected import expected_cost, incremental, soft_cost, stop_probabilities
from eesearch.exits.routing import exit_rate, reach, route

unit = st.floats(0.0, 1.0, width=32)
shapes = st.tuples(st.integers(1, 6), st.integers(1, 20))


@st.composite
def routed(draw):
    """Scores [k, N] and thresholds [k]."""
    scores = draw(shapes.flatmap(lambda shape: arrays(np.float32, shape, elements=unit)))
    early = draw(st.lists(unit, min_size=len(scores) - 1, max_size=len(scores) - 1))
    return scores, [*early, -inf]


def cumulative_costs(k):
    return arrays(np.float64, k, elements=st.floats(0.0, 1e6)).map(np.cumsum)


@given(routed(), st.data())
def test_reach_times_incremental_is_exit_rate_times_cumulative(case, data):
    scores, thresholds = case
    k = len(scores)
    cumulative = data.draw(cumulative_costs(k))
    stop = route(scores, thresholds)
    np.testing.assert_allclose(
        reach(stop, k) @ incremental(cumulative), expected_cost(exit_rate(stop, k), cumulative), rtol=1e-9, atol=1e-9
    )


@given(routed())
def test_everyone_arrives_first_and_leaves_somewhere(case):
    scores, thresholds = case
    stop, k = route(scores, thresholds), len(scores)
    assert reach(stop, k)[0] == 1.0
    assert (np.diff(reach(stop, k)) <= 0.0).all()
    assert np.isclose(exit_rate(stop, k).sum(), 1.0)
    np.testing.assert_allclose(np.append(-np.diff(reach(stop, k)), reach(stop, k)[-1]), exit_rate(stop, k), atol=1e-12)


@given(routed(), st.data())
def test_raising_a_threshold_never_lowers_reach(case, data):
    scores, thresholds = case
    k = len(scores)
    raised = [t + data.draw(st.floats(0.0, 1.0)) for t in thresholds[:-1]] + [-inf]
    assert (reach(route(scores, raised), k) >= reach(route(scores, thresholds), k)).all()


@given(routed())
def test_all_thresholds_infinite_is_the_last_stop(case):
    scores, _ = case
    stop = route(scores, [*[inf] * (len(scores) - 1), -inf])
    assert (stop == len(scores) - 1).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 20))
def test_a_policy_at_infinity_is_the_final_exit_exactly_and_pays_every_head(seed, k, samples):
    rng = np.random.default_rng(seed)
    exits = (*(ExitId(network="n", cut=f"c{i}", head="h") for i in range(k)), ExitId(network="n", cut=OUTPUT, head=OWN))
    table = ExitTable(
        rng.normal(size=(k + 1, samples, 3)).astype(np.float32), rng.integers(0, 3, samples), exits, "cal", "s"
    )
    step = np.triu(rng.uniform(1.0, 2.0, (k + 2, k + 1)))
    step[step == 0.0] = inf
    costs = StageCosts(step, exits, "macs", 1.0)
    stops = tuple(Stop(exit=e, threshold=-inf if e.is_output else inf) for e in exits)
    got = evaluate(Policy(stops=stops, criterion="entropy"), table, [costs])
    assert got.accuracy == table.accuracy[-1]
    assert got.costs["macs"].mean == costs.cumulative(exits)[-1]


gates = shapes.flatmap(lambda shape: arrays(np.float64, shape, elements=st.floats(0.0, 1.0)))


@given(gates)
def test_stop_probabilities_sum_to_1(gate):
    probabilities = stop_probabilities(gate)
    assert (probabilities >= 0.0).all()
    np.testing.assert_allclose(probabilities.sum(0), 1.0, rtol=0.0, atol=1e-12)


@given(routed(), st.data())
def test_gates_of_0_and_1_are_hard_routing_exactly(case, data):
    scores, thresholds = case
    cumulative = data.draw(cumulative_costs(len(scores)))
    gate = (scores >= np.array(thresholds)[:, None]).astype(np.float64)
    np.testing.assert_array_equal(soft_cost(gate, cumulative), cumulative[route(scores, thresholds)])
