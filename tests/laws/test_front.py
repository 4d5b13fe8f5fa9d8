"""Laws of fronts."""

from __future__ import annotations

from math import inf

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from eesearch.core.design import OUTPUT, OWN, ExitId
from eesearch.core.front import CostSummary, Evaluation, Front
from eesearch.core.policy import Policy, Stop

END = Stop(exit=ExitId(network="n", cut=OUTPUT, head=OWN), threshold=-inf)
POLICY = Policy(stops=(END,), criterion="max_prob")


def evaluation(wrong, cost, design):
    return Evaluation(
        policy=POLICY,
        design=f"design{design}",
        strategy="joint",
        accuracy=1.0 - wrong / 20,
        samples=20,
        exit_rate=(1.0,),
        costs={"macs": CostSummary(mean=cost, p95=cost, worst=cost)},
    )


BACKBONE = evaluation(2, 10.0, 0)

# few distinct values, so that ties and duplicates are common
evaluations = st.lists(
    st.builds(evaluation, st.integers(0, 6), st.integers(1, 12).map(float), st.integers(0, 3)), max_size=12
)


def front(points):
    return Front(points, backbone=BACKBONE, axis="macs", device="macs")


@given(evaluations)
def test_idempotent(points):
    once = front(points)
    assert front(once.points).points == once.points


@given(evaluations, st.randoms(use_true_random=False))
def test_order_of_the_points_does_not_matter(points, random):
    shuffled = list(points)
    random.shuffle(shuffled)
    assert front(shuffled).points == front(points).points


@given(evaluations)
def test_every_given_point_is_dominated_by_a_kept_one_and_no_kept_one_by_another(points):
    kept = front(points).values
    for e in points:
        assert (kept <= [e.error + 1e-12, e.costs["macs"].mean / 10.0 + 1e-12]).all(-1).any()
    assert (np.diff(kept[:, 0]) < 0).all()
    assert (np.diff(kept[:, 1]) > 0).all()


@given(evaluations, evaluations)
def test_merging_is_the_front_of_all_points_from_either_side(left, right):
    both = front([*left, *right]).points
    assert front(left).merge(front(right)).points == both
    assert front(right).merge(front(left)).points == both


@given(evaluations, evaluations)
def test_more_points_never_lower_the_hypervolume(left, right):
    assert front([*left, *right]).hypervolume() >= front(left).hypervolume() - 1e-12


@given(evaluations)
def test_hypervolume_is_the_area_counted_on_a_grid(points):
    """Errors are multiples of 1/20 and costs of 1/10, so the area is a count of cells."""
    reached = front(points)
    columns, rows = np.meshgrid(np.arange(3), np.arange(10))  # cells of the rectangle (0.15, 1)
    covered = np.zeros(columns.shape, bool)
    for error, cost in reached.values:
        covered |= (columns >= round(error * 20)) & (rows >= round(cost * 10))
    area = reached.hypervolume()
    assert np.isclose(max(area, 0.0), covered.mean(), atol=1e-9)
