"""Optimism: how much more a policy loses on new samples than on those that it was chosen on.

Whoever picks the cheapest policy within a drop picks one that these samples flatter. How much is found by doing the
same without some of them: with calibration in V folds, j_v the cheapest policy within the drop on all folds but v,

    w = sqrt((V - 1) / V) * [ drop of the j_v in their folds v  -  drop of the j_v where they were chosen ],

both over all folds together, the backbone's answers to the same samples taken off. The root turns what happens when one
chooses on a share (V - 1) / V of the samples into what happens with all of them, as noise falls with their root. For a
policy that does not depend on the samples w is exactly 0, which is why it varies little. It is averaged over drops near
by. (Cross-validation of a selection: Varma and Simon, "Bias in error estimation when using cross-validation for model
selection", BMC Bioinformatics 2006.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from eesearch.core.costs import StageCosts
from eesearch.core.front import MAX_DROP, Evaluation
from eesearch.core.policy import Fit, Policy, Scoring
from eesearch.core.tables import ExitTable
from eesearch.exits.evaluate import outcomes
from eesearch.exits.routing import exit_rate, route
from eesearch.solve.exact import own_classifier, solve_front
from eesearch.solve.family import Effort, Family

STEP = 0.0005
"""Between the drops at which optimism is estimated, a share."""

NEAR = 0.0025
"""Drops that differ by no more are near: their estimates are averaged; or by as much as one sample and a half is."""


@dataclass(frozen=True, eq=False)
class FoldPoints:
    """What policies that were found without a fold do: where they were found, and in the fold. P policies.

    Attributes:
        cost: Mean on the axis, on the other folds. [P]
        lost: Errors beyond the backbone's on the other folds; below 0: fewer. [P]
        lost_in: The same, in the fold. [P]
        samples: Numbers of samples: of the other folds, and of the fold. [2]

    Where samples have weights, all numbers of samples are weights over the mean weight of all folds together.
    """

    cost: NDArray[np.float64]
    lost: NDArray[np.float64]
    lost_in: NDArray[np.float64]
    samples: NDArray[np.float64]

    def merge(self, others: Sequence[FoldPoints]) -> FoldPoints:
        """With the policies that were found on other tables without the same fold; only the best of them."""
        every = (self, *others)
        cost, lost, lost_in = (
            np.concatenate([getattr(each, name) for each in every]) for name in ("cost", "lost", "lost_in")
        )
        if not len(cost):
            return self
        order = np.lexsort((lost, cost))
        best = np.minimum.accumulate(lost[order])
        kept = order[np.flatnonzero(np.diff(best, prepend=best[0] + 1) < 0)]
        return FoldPoints(cost[kept], lost[kept], lost_in[kept], self.samples)

    def cheapest(self, drops: NDArray[np.float64]) -> NDArray[np.intp]:
        """Of a merged front, the cheapest policy within each drop on the other folds; if none is, the best one. [T]"""
        reached = self.lost / self.samples[0] - 1e-12  # falls from policy to policy
        return np.minimum(np.searchsorted(-reached, -drops), len(reached) - 1)

    def arrays(self, fold: int) -> dict[str, NDArray[np.generic]]:
        """As the store keeps those of one fold."""
        return {f"{fold}.{field.name}": getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[np.generic]], fold: int) -> FoldPoints:
        """Inverse of `arrays`."""
        cost, lost, lost_in, samples = (arrays[f"{fold}.{field.name}"] for field in fields(cls))
        return cls(*(each.astype(np.float64) for each in (cost, lost, lost_in, samples)))


def fold_points(
    table: ExitTable,
    costs: Sequence[StageCosts],
    scoring: Scoring,
    backbone: NDArray[np.bool_],
    *,
    fold: NDArray[np.int16],
    family: Family = Family(),
    effort: Effort = Effort(),
) -> tuple[FoldPoints, ...]:
    """Solve without each fold in turn, and see what the front does in the fold.

    Args:
        table: Calibration.
        costs: As for `solve_front`.
        scoring: How policies score and answer. Where its fits have folds, a sample is scored with the values that were
            fitted without it, so these had better be the same folds.
        backbone: Whether the unmodified backbone is right about each sample. [N]
        fold: Of each sample, 0 .. V - 1. [N]
        family: Which policies.
        effort: How they are searched, for each fold.

    Returns:
        One per fold. [V]

    Raises:
        PolicyError: as `solve_front`.
        CostError: as `solve_front`.
        InputError: as `solve_front`.
    """
    found, effort = [], replace(effort, least=False)  # who breaks constraints least is no pick
    unit = 1.0 / table.weight.mean()
    for v in range(int(fold.max()) + 1):
        inside = fold == v
        others, how = _part(table, scoring, ~inside)
        front, own = (
            solve_front(others, costs, scoring=how, family=family, effort=effort),
            own_classifier(others, costs),
        )
        points = [p for p in front.points if not family.constraints.broken(p, own)]
        within = _part(table, scoring, inside)
        right = np.array([round(p.accuracy * others.weight.sum()) for p in points], np.int64)
        found.append(
            FoldPoints(
                cost=np.array([p.costs[costs[0].axis].mean for p in points], np.float64),
                lost=unit * (backbone[~inside] @ others.weight - right),
                lost_in=unit * (backbone[inside] @ within[0].weight - _right(points, *within)),
                samples=unit * np.array([others.weight.sum(), within[0].weight.sum()]),
            )
        )
    return tuple(found)


def _right(points: Sequence[Evaluation], table: ExitTable, scoring: Scoring) -> NDArray[np.int64]:
    """What the samples that each policy answers rightly count; every exit is scored once. [P]"""
    from eesearch.solve.keys import outputs_of  # loads numba

    outputs, right = outputs_of(table, scoring), np.empty(len(points), np.int64)
    for p, point in enumerate(points):
        rows = tuple(table.row(e) for e in point.policy.exits)
        said = [outputs.at(rows[: k + 1]) for k in range(len(rows))]
        scores, correct = (np.stack(each) for each in zip(*said, strict=True))
        stop = route(scores, point.policy.thresholds)
        right[p] = correct[stop, np.arange(len(stop))] @ table.weight
    return right


def _part(table: ExitTable, scoring: Scoring, chosen: NDArray[np.bool_]) -> tuple[ExitTable, Scoring]:
    """Some samples of a table, and how they are scored."""
    fits = tuple(replace(fit, fold=fit.fold[chosen]) if len(fit.fold) else fit for fit in scoring.fits)
    weights = None if table.weights is None else table.weights[chosen]
    part = replace(table, logits=table.logits[:, chosen], labels=table.labels[chosen], weights=weights)
    return part, replace(scoring, fits=fits)


def fixed_points(
    policy: Policy,
    table: ExitTable,
    costs: StageCosts,
    fits: Sequence[Fit],
    backbone: NDArray[np.bool_],
    *,
    fold: NDArray[np.int16],
) -> tuple[FoldPoints, ...]:
    """The same of a policy that is there anyway: nothing about it was chosen by the solver.

    Args:
        policy: Its exits are rows of the table.
        table: Calibration.
        costs: Of the axis that is minimised.
        fits: Those of the policy.
        backbone: Whether the unmodified backbone is right about each sample. [N]
        fold: Of each sample, 0 .. V - 1. [N]

    Returns:
        One per fold. [V]

    Raises:
        PolicyError: an exit is not in the table, or fits and policy do not belong together.
        CostError: an exit has no cost.
    """
    stop, right = outcomes(policy, table, fits)
    weight, exits = table.weight / table.weight.mean(), policy.exits
    lost = (backbone.astype(np.int64) - right) * weight
    found = []
    for v in range(int(fold.max()) + 1):
        inside = fold == v
        beyond, beyond_in = (lost[part].sum(keepdims=True) for part in (~inside, inside))
        samples = np.array([weight[~inside].sum(), weight[inside].sum()])
        cost = np.array([costs.mean(exits, exit_rate(stop[~inside], len(exits)))])
        found.append(FoldPoints(cost, beyond, beyond_in, samples))
    return tuple(found)


def optimism(tables: Sequence[Sequence[FoldPoints]]) -> tuple[tuple[float, float], ...]:
    """How much more than on calibration is lost by the cheapest policy within each drop, chosen from all tables.

    Args:
        tables: What was found on each table, per fold; the folds are the same. [tables, V]

    Returns:
        (drop on calibration, further drop to expect on new samples), both shares, by rising drop; empty if nothing was
        found.
    """
    folds = [each[0].merge(each[1:]) for each in zip(*tables, strict=True)]
    if not folds or any(not len(front.cost) for front in folds):
        return ()
    least = max(float(front.lost[-1] / front.samples[0]) for front in folds)
    drops = np.arange(np.floor(least / STEP), np.ceil(max(MAX_DROP, least) / STEP) + 1) * STEP
    picked = [front.cheapest(drops) for front in folds]
    inside = sum(front.lost_in[at] for front, at in zip(folds, picked, strict=True))
    outside = sum(front.lost[at] for front, at in zip(folds, picked, strict=True))
    numbers = np.sum([front.samples for front in folds], axis=0)
    gap = np.sqrt((len(folds) - 1) / len(folds)) * (inside / numbers[1] - outside / numbers[0])
    reach = max(1, round(max(NEAR, 1.5 / numbers[1]) / STEP))
    padded = np.pad(gap, reach, mode="edge")
    smooth = np.convolve(padded, np.full(2 * reach + 1, 1.0 / (2 * reach + 1)), mode="valid")
    return tuple(zip(drops.tolist(), smooth.tolist(), strict=True))
