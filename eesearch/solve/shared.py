"""Policies with one threshold for all of their exits: one number is chosen, so what it promises is nearly kept."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np
from numpy.typing import NDArray

from eesearch.core.costs import StageCosts
from eesearch.core.errors import PolicyError
from eesearch.core.front import Evaluation
from eesearch.core.policy import Policy, Scoring
from eesearch.core.tables import ExitTable
from eesearch.core.weights import Weights
from eesearch.solve.placed import Floats, Placed, evaluations, near_shares, one_per_cut
from eesearch.solve.stream import ScoreTable


def shared_points(
    table: ExitTable | ScoreTable, axes: Sequence[StageCosts], scoring: Scoring, known: Sequence[Evaluation]
) -> list[Evaluation]:
    """The best policies with one threshold for many exits, as far as none that is known is better.

    There is an exit on every cut, then on every second one, every fourth one, and so on, evenly by cost; of each cut
    the most accurate head. So policies of any number of exits are looked at, where the complete search knows those with
    few.

    Args:
        table: Calibration, of one network.
        axes: Costs; policies are compared on the first, and evaluated on all.
        scoring: How they score and answer.
        known: Points that were found already.

    Raises:
        PolicyError: the table holds scores and no logits, or not exactly one own classifier.
    """
    if isinstance(table, ScoreTable):
        raise PolicyError("shared thresholds need logits", got="a table of scores", do="Leave `shared_threshold` out.")
    best = np.array(sorted((p.costs[axes[0].axis].mean, p.error) for p in known), np.float64).reshape(-1, 2)
    least = np.append(np.inf, np.minimum.accumulate(best[:, 1]))  # the least error of the cheapest few
    found: list[Policy] = []
    for rows in spread_placements(table, axes[0]):
        placed = Placed.of(table, axes[0], rows, scoring)
        thresholds = placed.shared_thresholds()
        errors, cost = shared_sweep(placed, thresholds)
        as_cheap = np.searchsorted(best[:, 0], cost / len(table.labels), side="right")
        better = errors / table.weight.sum() < least[as_cheap] - 1e-12
        found += [placed.policy([thresholds[t]] * placed.early) for t in non_dominated(errors, cost) if better[t]]
    return evaluations([(policy, scoring.fits) for policy in dict.fromkeys(found)], table, axes)


def spread_placements(table: ExitTable, costs: StageCosts) -> list[tuple[int, ...]]:
    """Rows of an exit on every cut, every second cut, every fourth, ..., evenly by cost; the own classifier last."""
    whole, found = one_per_cut(table), list[tuple[int, ...]]()
    count = len(whole) - 1
    found.append(tuple(whole))
    while count > 2:
        count = ceil(count / 2)
        found.append(tuple(near_shares(table, costs, np.linspace(0.0, 1.0, count + 2)[1:-1].tolist())))
    return list(dict.fromkeys(found))


def shared_policies(placed: Placed) -> list[Policy]:
    """The non-dominated policies with one threshold at all early exits, by rising cost.

    Args:
        placed: The exits.
    """
    thresholds = placed.shared_thresholds()
    errors, cost = shared_sweep(placed, thresholds)
    return [placed.policy([thresholds[t]] * placed.early) for t in non_dominated(errors, cost)]


def shared_sweep(placed: Placed, thresholds: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Errors and summed cost for every shared threshold, in one pass over the samples.

    Args:
        placed: Exits of memory `last` or other.
        thresholds: As `Placed.shared_thresholds` gives them. [T]

    Returns:
        Errors, by the weights of samples [T], cost summed over samples [T].
    """
    samples = placed.scores.shape[1]
    sure = np.maximum.accumulate(placed.scores[:-1], axis=0)
    above = np.searchsorted(thresholds, sure, side="right")  # a sample leaves by stop k at the first so many thresholds
    begins = np.concatenate([np.zeros((1, samples), np.intp), above])
    ends = np.concatenate([above, np.full((1, samples), len(thresholds))])
    errors, cost = np.zeros(len(thresholds) + 1, np.int64), np.zeros(len(thresholds))
    for begin, end, right, paid in zip(begins, ends, placed.correct, placed.cumulative, strict=True):
        cost += paid * _cover(begin, end, np.ones_like(placed.weight), len(thresholds))[:-1]
        errors += _cover(begin, end, placed.weight * ~right, len(thresholds))
    return errors[:-1], cost


def _cover(begin: NDArray[np.intp], end: NDArray[np.intp], weight: Weights, length: int) -> NDArray[np.int64]:
    """What the half-open intervals begin .. end that hold each of 0 .. length count together. [length + 1]"""
    opened, closed = (np.bincount(edge, weights=weight, minlength=length + 1) for edge in (begin, end))
    return np.asarray(np.rint((opened - closed).cumsum()), np.int64)


def non_dominated(errors: NDArray[np.int64], cost: Floats) -> list[int]:
    """Indices of the points that no other beats in errors and cost, by rising cost; the first of equals."""
    kept: list[int] = []
    for i in np.lexsort((np.arange(len(cost)), errors, cost)):
        if not kept or errors[i] < errors[kept[-1]]:
            kept.append(int(i))
    return kept
