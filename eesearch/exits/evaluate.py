"""Evaluate a policy on a table: accuracy and cost per sample, without touching the network."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy as np
from numpy.typing import NDArray

from eesearch.core.costs import StageCosts
from eesearch.core.design import ExitId
from eesearch.core.front import CostSummary, Evaluation
from eesearch.core.policy import Fit, Policy, Stop
from eesearch.core.tables import ExitTable
from eesearch.exits.expected import expected_cost
from eesearch.exits.routing import exit_rate, route, score_table


def evaluate(policy: Policy, table: ExitTable, costs: Sequence[StageCosts], fit: Fit | None = None) -> Evaluation:
    """What a policy does on a split, and what it costs.

    Args:
        policy: Its exits must be rows of the table.
        table: One split; the accuracy is of this split.
        costs: One per axis; may know more exits than the policy uses.
        fit: The one that the policy's thresholds were chosen with, if any.

    Raises:
        PolicyError: an exit is not in the table, or fit and policy do not belong together.
        CostError: an exit has no cost, or a sample cannot meet the exits in this order.
    """
    policy.require(fit)
    active = table.select(policy.exits)
    scores = score_table(active, policy.criterion, fit)
    return tally(policy, scores, active.correct, costs)


def tally(
    policy: Policy,
    scores: NDArray[np.float32],
    correct: NDArray[np.bool_],
    costs: Sequence[StageCosts],
) -> Evaluation:
    """The same from scores that are known already, for those who evaluate many policies on one table.

    Args:
        policy: The policy.
        scores: Of its exits. [k, N]
        correct: Whether its exits are right. [k, N]
        costs: As for `evaluate`.

    Raises:
        CostError: an exit has no cost, or a sample cannot meet the exits in this order.
    """
    stop = route(scores, policy.thresholds)
    return Evaluation(
        policy=policy,
        accuracy=float(correct[stop, np.arange(len(stop))].mean()),
        samples=len(stop),
        exit_rate=tuple(exit_rate(stop, len(policy.stops)).tolist()),
        costs={cost.axis: _summary(stop, cost.cumulative(policy.exits)) for cost in costs},
    )


def _summary(stop: NDArray[np.int64], cumulative: NDArray[np.float64]) -> CostSummary:
    """Cost over the samples; the worst is what any sample may cost, whether one got that far here or not."""
    mean = expected_cost(exit_rate(stop, len(cumulative)), cumulative)
    p95 = np.quantile(cumulative[stop], 0.95, method="inverted_cdf")
    return CostSummary(mean=mean, p95=float(p95), worst=float(cumulative[-1]))


def backbone_evaluation(table: ExitTable, costs: Sequence[StageCosts], output: ExitId) -> Evaluation:
    """The unmodified backbone on a split: its own classifier for everyone, at the cost without head or decision.

    Args:
        table: One split; holds the row `output`.
        costs: One per axis.
        output: The network's own classifier.

    Raises:
        PolicyError: the table does not hold it.
    """
    accuracy = float(table.accuracy[table.row(output)])
    return Evaluation(
        policy=Policy(stops=(Stop(exit=output, threshold=-inf),), criterion="max_prob"),
        strategy="backbone",
        accuracy=accuracy,
        samples=len(table.labels),
        exit_rate=(1.0,),
        costs={c.axis: CostSummary(mean=c.backbone, p95=c.backbone, worst=c.backbone) for c in costs},
    )
