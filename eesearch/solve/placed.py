"""Exits that a method of the literature has placed, one per cut: what they say, what they cost, when they are left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf

import numpy as np
from numpy.typing import NDArray

from eesearch.core.costs import StageCosts
from eesearch.core.design import ExitId
from eesearch.core.errors import PolicyError
from eesearch.core.front import Evaluation
from eesearch.core.policy import Fit, Policy, Scoring, Stop
from eesearch.core.steps import own_decision
from eesearch.core.tables import ExitTable, best_per_cut
from eesearch.core.weights import Weights
from eesearch.exits.evaluate import tally
from eesearch.exits.routing import path_outputs
from eesearch.solve.levels import threshold_levels

Floats = NDArray[np.float64]

SDN_SHARES = tuple(np.linspace(0.15, 0.90, 6).tolist())
"""Shares of the network's cost at which shallow-deep networks have their six internal classifiers."""


def one_per_cut(table: ExitTable) -> list[int]:
    """Row of the most accurate head at each cut (the first of equals), then of the own classifier. [K + 1]

    Args:
        table: Calibration.

    Raises:
        PolicyError: there is no exit on a cut, or not exactly one own classifier.
    """
    rows = best_per_cut(table.exits, table.accuracy)
    best = [row for row in rows if not (table.exits[row].is_output or table.exits[row].is_last_resort)]
    outputs = [row for row, e in enumerate(table.exits) if e.is_output]
    if not best or len(outputs) != 1:
        raise PolicyError(
            f"the {table.split} table does not suit the methods of the literature",
            got=f"exits on {len(best)} cuts, {len(outputs)} own classifiers",
            expected="exits on at least one cut, and one own classifier",
        )
    return [*best, *outputs]


def near_shares(table: ExitTable, costs: StageCosts, shares: Sequence[float]) -> list[int]:
    """Rows of the exits nearest to given shares of the network's cost, each once, then of the own classifier.

    Where an exit lies is told by what remains to be paid behind it, so its own head does not move it.

    Args:
        table: Calibration; the most accurate head stands for its cut.
        costs: Knows every exit of the table.
        shares: In [0, 1].

    Raises:
        PolicyError: there is no exit on a cut, or not exactly one own classifier.
    """
    rows = one_per_cut(table)
    exits = [table.exits[row] for row in rows]
    step = costs.select(exits).step
    passed = 1.0 - (step[1:-1, -1] - own_decision(step)) / step[0, -1]  # [K]
    nearest = np.unique([np.abs(passed - share).argmin() for share in shares])
    return [*(rows[i] for i in nearest), rows[-1]]


@dataclass(frozen=True, eq=False)
class Placed:
    """Active exits, the own classifier last, and what they do on calibration. k stops, k - 1 of them early.

    Attributes:
        exits: [k]
        scoring: How all of them score and answer.
        scores: Below all others where a score is not a number: such a sample never leaves early. [k, N]
        correct: Whether what is answered there is right. [k, N]
        cumulative: Cost of leaving at each, rejected heads included. [k]
        weight: How much each sample counts. [N]
    """

    exits: tuple[ExitId, ...]
    scoring: Scoring
    scores: Floats
    correct: NDArray[np.bool_]
    cumulative: Floats
    weight: Weights

    @classmethod
    def of(cls, table: ExitTable, costs: StageCosts, rows: Sequence[int], scoring: Scoring) -> Placed:
        """Look the exits up.

        Args:
            table: Calibration.
            costs: Knows these exits.
            rows: Of the table, in the order of the cuts; the own classifier last. [k]
            scoring: Of any memory.

        Raises:
            PolicyError: a fit does not match the table, or is missing.
            CostError: a sample cannot meet the exits in this order.
        """
        exits = tuple(table.exits[row] for row in rows)
        scores, correct = path_outputs(table, rows, scoring)
        sure = scores.astype(np.float64)
        sure[np.isnan(sure)] = np.fmin.reduce(sure, axis=None, initial=0.0) - 1.0
        return cls(exits, scoring, sure, correct, costs.cumulative(exits), table.weight)

    @property
    def early(self) -> int:
        """Number of early exits."""
        return len(self.exits) - 1

    @cached_property
    def order(self) -> NDArray[np.intp]:
        """Samples by falling score at each stop. [k, N]"""
        return np.asarray(np.argsort(-self.scores, axis=-1, kind="stable"))

    def policy(self, thresholds: Sequence[float]) -> Policy:
        """The policy with these thresholds at the early exits; it ends where everybody leaves.

        Args:
            thresholds: [k - 1]
        """
        return thresholded(self.exits, thresholds, self.scoring)

    def shared_thresholds(self) -> Floats:
        """All thresholds that differ in effect if every early exit has the same, rising: -inf, midpoints, inf. [T]

        A sample leaves at the first exit where the largest score so far reaches the threshold, so only those matter.
        """
        sure = np.maximum.accumulate(self.scores[:-1], axis=0)
        return np.concatenate([[-inf], threshold_levels(sure.ravel(), sure.size), [inf]])


def thresholded(exits: Sequence[ExitId], thresholds: Sequence[float], scoring: Scoring) -> Policy:
    """A policy on these exits, the last of which takes all who get there; cut off where everybody leaves.

    Args:
        exits: [k]
        thresholds: Of the early ones. [k - 1]
        scoring: How they score and answer.
    """
    stops: list[Stop] = []
    for e, threshold in zip(exits, [*thresholds, -inf], strict=True):
        stops.append(Stop(exit=e, threshold=float(threshold)))
        if threshold == -inf:
            break
    return Policy(stops=tuple(stops), criterion=scoring.criterion, answer=scoring.answer, fits=scoring.keys)


def cuts_of(falling: Floats) -> tuple[NDArray[np.intp], Floats]:
    """All ways to let the surest leave: how many that are, and the threshold; from nobody (inf) to everybody (-inf).

    Equal scores are never split, and the threshold lies midway between two distinct ones.

    Args:
        falling: Scores, falling. [M]

    Returns:
        Counts, rising [L], and thresholds [L]; only "nobody" if there are no samples.
    """
    if not len(falling):
        return np.zeros(1, np.intp), np.array([inf])
    ends = np.flatnonzero(falling[:-1] > falling[1:])  # index of the last of equals
    between = (falling[ends] + falling[ends + 1]) / 2.0
    return np.concatenate([[0], ends + 1, [len(falling)]]), np.concatenate([[inf], between, [-inf]])


def evaluations(
    candidates: Sequence[tuple[Policy, tuple[Fit, ...]]], table: ExitTable, costs: Sequence[StageCosts]
) -> list[Evaluation]:
    """What many policies do on a split; scores of the same exits are computed once.

    Args:
        candidates: Policies, each with the fits that its thresholds were chosen with.
        table: One split.
        costs: One per axis.

    Raises:
        PolicyError: an exit is not in the table, or fits and policy do not belong together.
        CostError: an exit has no cost, or a sample cannot meet the exits in this order.
    """
    known: dict[object, tuple[NDArray[np.float32], NDArray[np.bool_], list[StageCosts]]] = {}
    found = []
    for policy, fits in candidates:
        key = (policy.exits, policy.criterion, policy.answer, policy.fits)
        if key not in known:
            rows = [table.row(e) for e in policy.exits]
            outputs = path_outputs(table, rows, Scoring.of(policy, fits))
            known[key] = (*outputs, [cost.select(policy.exits) for cost in costs])
        found.append(tally(policy, *known[key], table=table))
    return found
