"""A network of three exits and six samples, routed and paid for with pencil and paper."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest

from eesearch.core.costs import DeviceProfile, stage_costs
from eesearch.core.design import OUTPUT, OWN, ExitId
from eesearch.core.policy import Policy, Scoring, Stop
from eesearch.core.tables import ExitTable
from eesearch.exits.evaluate import evaluate
from eesearch.exits.expected import incremental
from eesearch.exits.routing import exit_rate, reach, route, score_table

EXITS = (
    ExitId(network="n", cut="early", head="linear-avg1"),
    ExitId(network="n", cut="late", head="linear-avg1"),
    ExitId(network="n", cut=OUTPUT, head=OWN),
)

# Probability of class 1; all labels are 1. The score is the larger of p and 1 - p.
#              sample     0     1     2     3     4     5
EARLY = np.array([0.90, 0.80, 0.05, 0.60, 0.55, 0.70])
LATE_ = np.array([0.40, 0.99, 0.99, 0.85, 0.10, 0.60])
FINAL = np.array([0.20, 0.90, 0.90, 0.90, 0.90, 0.30])
# thresholds        0.75: 0, 1, 2 leave (2 is wrong)
#                   0.80: of 3, 4, 5 samples 3 and 4 leave (4 is wrong)
#                   -inf: 5 leaves (wrong)
STOPS = [0, 0, 0, 1, 1, 2]

PROFILE = DeviceProfile(
    device="macs",
    fingerprint={},
    content="",
    cuts=("early", "late"),
    macs_prefix=(100.0, 250.0, 400.0),
    macs_head={"early": {"linear-avg1": 10.0}, "late": {"linear-avg1": 20.0}},
)


@pytest.fixture
def table():
    right = np.stack([EARLY, LATE_, FINAL])
    logits = np.log(np.stack([1.0 - right, right], -1)).astype(np.float32)
    return ExitTable(logits, np.ones(6, np.int64), EXITS, "cal", "s")


def test_each_sample_leaves_where_it_should(table):
    stop = route(score_table(table, Scoring()), [0.75, 0.8, -inf])
    assert stop.tolist() == STOPS
    assert exit_rate(stop, 3).tolist() == [3 / 6, 2 / 6, 1 / 6]
    assert reach(stop, 3).tolist() == [6 / 6, 3 / 6, 1 / 6]


def test_accuracy_and_cost(table):
    stops = tuple(Stop(exit=e, threshold=t) for e, t in zip(EXITS, (0.75, 0.8, -inf), strict=True))
    costs = stage_costs(PROFILE, EXITS, "max_prob", "macs")
    got = evaluate(Policy(stops=stops, criterion="max_prob"), table, [costs])
    assert got.accuracy == 3 / 6  # 0, 1, 3
    # 110 at the early exit; 250 + 10 + 20 = 280 at the late one; 400 + 10 + 20 = 430 at the end
    assert costs.cumulative(EXITS).tolist() == [110.0, 280.0, 430.0]
    assert incremental(costs.cumulative(EXITS)).tolist() == [110.0, 170.0, 150.0]
    assert got.costs["macs"].mean == pytest.approx((3 * 110 + 2 * 280 + 1 * 430) / 6)
    assert got.costs["macs"].p95 == got.costs["macs"].worst == 430.0


def test_without_the_early_exit_its_samples_go_on(table):
    stops = tuple(Stop(exit=e, threshold=t) for e, t in zip(EXITS[1:], (0.8, -inf), strict=True))
    got = evaluate(Policy(stops=stops, criterion="max_prob"), table, [stage_costs(PROFILE, EXITS, "max_prob", "macs")])
    # late exit: 1, 2, 3 right, 4 wrong leave at 270; 0 and 5 go on and are wrong at 420
    assert got.exit_rate == (4 / 6, 2 / 6)
    assert got.accuracy == 3 / 6
    assert got.costs["macs"].mean == pytest.approx((4 * 270 + 2 * 420) / 6)
