"""Evaluate a policy on a table: accuracy and cost per sample, without touching the network."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, inf
from typing import Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray

from eesearch.core.costs import StageCosts
from eesearch.core.design import ExitId
from eesearch.core.front import CostSummary, Evaluation
from eesearch.core.policy import Fit, Policy, Scoring, Stop
from eesearch.core.tables import ExitTable
from eesearch.core.weights import Weights, effective_samples, mean_right
from eesearch.exits.routing import exit_rate, path_outputs, route, stop_answer


class Answered(Protocol):
    """A table, whether its logits are there or only who is right."""

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each exit is right about each sample. [E, N]"""
        ...

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """[N]"""
        ...

    @property
    def weights(self) -> Weights | None:
        """[N]"""
        ...

    def row(self, exit_id: ExitId) -> int:
        """Index of an exit's row."""
        ...


def evaluate(policy: Policy, table: ExitTable, costs: Sequence[StageCosts], fits: Sequence[Fit] = ()) -> Evaluation:
    """What a policy does on a split, and what it costs.

    Args:
        policy: Its exits must be rows of the table.
        table: One split; the accuracy is of this split.
        costs: One per axis; may know more exits than the policy uses.
        fits: Those that the policy's thresholds were chosen with.

    Raises:
        PolicyError: an exit is not in the table, or fits and policy do not belong together.
        CostError: an exit has no cost, or a sample cannot meet the exits in this order.
    """
    rows = [table.row(e) for e in policy.exits]
    scores, correct = path_outputs(table, rows, Scoring.of(policy, fits))
    return tally(policy, scores, correct, costs, table=table)


def replay(policy: Policy, table: ExitTable, fits: Sequence[Fit] = ()) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each sample leaves, and what it is answered: what the deployed network does, sample by sample.

    Args:
        policy: Its exits must be rows of the table.
        table: One split.
        fits: Those that the policy's thresholds were chosen with.

    Returns:
        Index of the stop [N]; class, or `ABSTAINED` at a last resort [N].

    Raises:
        PolicyError: an exit is not in the table, or fits and policy do not belong together.
    """
    rows, scoring = [table.row(e) for e in policy.exits], Scoring.of(policy, fits)
    scores, _ = path_outputs(table, rows, scoring)
    stop = route(scores, policy.thresholds)
    answers = np.stack([stop_answer(table, rows[: k + 1], scoring) for k in range(len(rows))])
    return stop, answers[stop, np.arange(len(stop))]


def outcomes(policy: Policy, table: ExitTable, fits: Sequence[Fit] = ()) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where each sample leaves, and whether it is answered rightly; who is handed to a last resort is.

    Args:
        policy: Its exits must be rows of the table.
        table: One split.
        fits: Those that the policy's thresholds were chosen with.

    Returns:
        Index of the stop [N]; right or wrong [N].

    Raises:
        PolicyError: an exit is not in the table, or fits and policy do not belong together.
    """
    scores, correct = path_outputs(table, [table.row(e) for e in policy.exits], Scoring.of(policy, fits))
    stop = route(scores, policy.thresholds)
    return stop, correct[stop, np.arange(len(stop))]


def tally(
    policy: Policy,
    scores: NDArray[np.float32],
    correct: NDArray[np.bool_],
    costs: Sequence[StageCosts],
    *,
    table: Answered | None = None,
) -> Evaluation:
    """The same from scores that are known already, for those who evaluate many policies on one table.

    Args:
        policy: The policy.
        scores: Of its exits. [k, N]
        correct: Whether what is answered at each is right. [k, N]
        costs: As for `evaluate`.
        table: Knows the labels and weights of the samples; None: no recalls, all samples count the same.

    Raises:
        CostError: an exit has no cost, or a sample cannot meet the exits in this order.
    """
    stop = route(scores, policy.thresholds)
    right = correct[stop, np.arange(len(stop))]
    rate = exit_rate(stop, len(policy.stops))
    return Evaluation(
        policy=policy,
        exit_rate=tuple(rate.tolist()),
        costs={cost.axis: _summary(stop, cost, policy.exits, rate) for cost in costs},
        **_quality(right, table),
    )


class _Quality(TypedDict):
    accuracy: float
    samples: int
    effective_samples: float | None
    worst_recall: float | None


def _quality(right: NDArray[np.bool_], table: Answered | None) -> _Quality:
    """How good answers are, and how surely that is known. [N]"""
    labels, weights = (None, None) if table is None else (table.labels, table.weights)
    return {
        "accuracy": float(mean_right(right, weights)),
        "samples": len(right),
        "effective_samples": None if weights is None else effective_samples(~right, weights),
        "worst_recall": None if labels is None else _worst_recall(right, labels),
    }


def _worst_recall(right: NDArray[np.bool_], labels: NDArray[np.int64]) -> float:
    """Share of right answers in the class that has the smallest, of those that occur."""
    members = np.bincount(labels)
    recall = np.bincount(labels, weights=right)[members > 0] / members[members > 0]
    return float(recall.min())


def _summary(
    stop: NDArray[np.int64], cost: StageCosts, exits: Sequence[ExitId], rate: NDArray[np.float64]
) -> CostSummary:
    """Cost over the samples; the worst is what any sample may cost, whether one got that far here or not."""
    cumulative = cost.cumulative(exits)
    arrived = np.bincount(
        stop, minlength=len(cumulative)
    ).cumsum()  # who left here or before; costs rise along the path
    p95 = cumulative[np.searchsorted(arrived, ceil(0.95 * len(stop) - 1e-9))]
    return CostSummary(mean=cost.mean(exits, rate), p95=float(p95), worst=float(cumulative[-1]))


def backbone_evaluation(table: Answered, costs: Sequence[StageCosts], output: ExitId) -> Evaluation:
    """The unmodified backbone on a split: its own classifier for everyone, at the cost without head or decision.

    Args:
        table: One split; holds the row `output`.
        costs: One per axis.
        output: The network's own classifier.

    Raises:
        PolicyError: the table does not hold it.
    """
    right = table.correct[table.row(output)]
    return Evaluation(
        policy=Policy(stops=(Stop(exit=output, threshold=-inf),), criterion="max_prob"),
        strategy="backbone",
        exit_rate=(1.0,),
        costs={c.axis: CostSummary(mean=c.backbone, p95=c.backbone, worst=c.backbone) for c in costs},
        **_quality(right, table),
    )
