"""Two cost axes at once: the Pareto set of (error, mean cost on one axis, mean cost on the other).

Policies with at most two early exits are all evaluated: how many samples leave where is a product of two matrices of
zeros and ones, a row per threshold. Beyond that, one axis is minimised under limits on the other that rise by a factor
of 1 + epsilon: whatever any policy comes to, one that is no worse in error and on the first axis, and at most 1 +
epsilon times as dear on the second, is among the points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, inf, log
from typing import Any, NamedTuple

import moocore
import numpy as np
from numpy.typing import NDArray

from eesearch.core.constraints import Limit
from eesearch.core.costs import FOLDS, StageCosts
from eesearch.core.errors import PolicyError
from eesearch.core.front import Evaluation
from eesearch.core.policy import Policy, Scoring, Stop
from eesearch.core.progress import Progress, silent
from eesearch.core.tables import ExitTable
from eesearch.core.weights import Weights
from eesearch.exits.evaluate import tally
from eesearch.solve.exact import own_classifier, solve_front
from eesearch.solve.family import Effort, Family
from eesearch.solve.keys import Outputs, outputs_of
from eesearch.solve.levels import threshold_levels
from eesearch.solve.paths import PathTree, paid
from eesearch.solve.stream import ScoreTable

MOST_EARLY = 2
"""Up to so many early exits all policies are evaluated."""

POOL = 1 << 18
"""Policies that are held before the dominated ones are dropped."""

Floats = NDArray[np.float64]


def solve_axes(
    table: ExitTable | ScoreTable,
    costs: Sequence[StageCosts],
    *,
    scoring: Scoring = Scoring(),
    family: Family = Family(),
    epsilon: float = 0.05,
    progress: Progress = silent,
) -> tuple[Evaluation, ...]:
    """The policies of a family that none beats in error and both mean costs, by rising cost on the first axis.

    Args:
        table: The split to select on (calibration); holds the network's own classifier.
        costs: Two axes.
        scoring: How policies score and answer.
        family: With at most two early exits and levels the answer is complete; else it is within `epsilon`.
        epsilon: How much dearer on the second axis a point may be than the policy that it stands for.
        progress: Told the paths or limits done.

    Raises:
        PolicyError: there are not two axes, batches share costs, or the table lacks its own classifier.
        CostError: a step is negative or not a number.
    """
    axes = [cost.axis for cost in costs]
    if len(axes) != 2 or axes[0] == axes[1] or any(FOLDS[axis] != "mean" for axis in axes):
        raise PolicyError(
            "two axes with a mean over samples are needed", got=axes, do="Limit what is deployed as a whole instead."
        )
    backbone = own_classifier(table, costs)
    if any(cost.calls is not None for cost in costs):
        raise PolicyError("two axes are searched at once for batches of one sample only", got=costs[0].batch)
    steps = [cost.select(table.exits).step for cost in costs]
    tree = PathTree(table.exits, steps[0], family.max_exits)
    if tree.longest - 1 <= MOST_EARLY and family.levels is not None:
        points = _evaluated(table, costs, scoring, family, progress)
    else:
        points = _within(table, costs, scoring, family, epsilon=epsilon, progress=progress)
    kept = [p for p in points if not family.constraints.broken(p, backbone)]
    values = np.array([(p.error, *(p.costs[cost.axis].mean for cost in costs)) for p in kept]).reshape(-1, 3)
    best = moocore.is_nondominated(values) if len(kept) else ()
    return tuple(sorted((p for p, b in zip(kept, best, strict=True) if b), key=lambda p: p.costs[costs[0].axis].mean))


def _within(
    table: ExitTable | ScoreTable,
    costs: Sequence[StageCosts],
    scoring: Scoring,
    family: Family,
    *,
    epsilon: float,
    progress: Progress,
) -> list[Evaluation]:
    """Fronts on the first axis under rising limits on the second."""
    step = costs[1].select(table.exits).step
    least = max(float(step[0].min()), 1e-9)
    most = float(np.where(np.isfinite(step), step, 0.0).max(0).sum())  # no path costs more than all its steps
    count = max(1, ceil(log(most / least) / log(1.0 + epsilon)))
    points: list[Evaluation] = []
    for done in range(count + 1):
        limit = Limit(axis=costs[1].axis, at_most=least * (1.0 + epsilon) ** done)
        limited = family.constraints.model_copy(update={"limits": (*family.constraints.limits, limit)})
        found = solve_front(
            table, costs, scoring=scoring, family=replace(family, constraints=limited), effort=Effort("exact")
        )
        points += found.points
        progress("solve under limits", done + 1, count + 1)
    return points


class Pool(NamedTuple):
    """Policies, as columns.

    Attributes:
        values: Errors, total cost on either axis. [P, 3]
        path: Number of the path. [P]
        levels: Of its early stops; 0 beyond them. [P, 2]
    """

    values: Floats
    path: NDArray[np.int64]
    levels: NDArray[np.int64]

    @classmethod
    def of(cls, parts: Sequence[Pool]) -> Pool:
        """Those of all parts that none dominates."""
        values, path, levels = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        best = np.asarray(moocore.is_nondominated(values))
        return cls(values[best], path[best], levels[best])


def _evaluated(
    table: ExitTable | ScoreTable, costs: Sequence[StageCosts], scoring: Scoring, family: Family, progress: Progress
) -> list[Evaluation]:
    """All policies with at most two early stops."""
    sets = _Sets(outputs_of(table, scoring), family.levels or 1, table.weights)
    steps = [cost.select(table.exits).step for cost in costs]
    tree = PathTree(table.exits, steps[0], family.max_exits)
    paths = [tuple(path) for block in tree.blocks() for path in block.tolist()]
    parts: list[Pool] = []
    for number, path in enumerate(paths):
        parts.append(_all_thresholds(sets, path, number, [paid(step, np.array([path]))[0] for step in steps]))
        if number == len(paths) - 1 or sum(len(part.values) for part in parts) > POOL:
            parts = [Pool.of(parts)]
            progress("solve", number + 1, len(paths))
    points = []
    for number, levels in zip(parts[0].path, parts[0].levels.tolist(), strict=True):
        path = paths[number]
        said = [sets.outputs.at(path[: k + 1]) for k in range(len(path))]
        early = [float(sets.thresholds(path[: k + 1])[levels[k]]) for k in range(len(path) - 1)]
        stops = tuple(Stop(exit=table.exits[r], threshold=t) for r, t in zip(path, [*early, -inf], strict=True))
        policy = Policy(stops=stops, criterion=scoring.criterion, answer=scoring.answer, fits=scoring.keys)
        scores, correct = (np.stack(each) for each in zip(*said, strict=True))
        points.append(tally(policy, scores, correct, costs, table=table))
    return points


@dataclass(frozen=True, eq=False)
class _Sets:
    """Who leaves and who is wrong at a stop, as matrices whose products count samples and errors."""

    outputs: Outputs
    count: int
    weights: Weights | None

    def thresholds(self, path: tuple[int, ...]) -> Floats:
        """Those tried at the last stop of a path; at the last of them nobody leaves."""
        return np.append(threshold_levels(self.outputs.at(path)[0], self.count), inf)

    def leaving(self, path: tuple[int, ...]) -> NDArray[np.float32]:
        """Who leaves at each threshold. [L, N]"""
        score = self.outputs.at(path)[0].astype(np.float64)
        return (score >= self.thresholds(path)[:, None]).astype(np.float32)

    def wrong(self, path: tuple[int, ...]) -> NDArray[np.floating[Any]]:
        """Who is answered wrongly, by their weights; of a type in which sums are exact. [N]"""
        wrong = ~self.outputs.at(path)[1]
        if self.weights is None:
            return wrong.astype(np.float32)
        return (wrong * self.weights).astype(np.float32 if self.weights.sum() < 1 << 24 else np.float64)


def _all_thresholds(sets: _Sets, path: tuple[int, ...], number: int, paid_at: Sequence[Floats]) -> Pool:
    """Errors and total costs of a path at all its thresholds. A stop that is missing is one where nobody leaves."""
    wrong_last = sets.wrong(path)
    nobody, none_wrong = np.zeros((1, len(wrong_last)), np.float32), np.zeros_like(wrong_last)
    early = [path[: k + 1] for k in range(len(path) - 1)]
    leaves = [*(sets.leaving(stop) for stop in early), nobody, nobody][:2]
    wrong = [*(sets.wrong(stop) for stop in early), none_wrong, none_wrong][:2]
    stays = 1.0 - leaves[0]
    second = stays @ leaves[1].T  # [L1, L2]
    first = np.broadcast_to(leaves[0].sum(1)[:, None], second.shape)
    counts = [*[first, second][: len(early)], len(wrong_last) - first - second]
    errors = (leaves[0] @ wrong[0])[:, None] + stays @ (leaves[1] * wrong[1] + (1.0 - leaves[1]) * wrong_last).T
    totals = [sum(n.astype(np.float64) * p for n, p in zip(counts, cost, strict=True)) for cost in paid_at]
    levels = np.indices(second.shape).reshape(2, -1).T
    values = np.column_stack([np.asarray(each, np.float64).ravel() for each in (errors, *totals)])
    best = np.asarray(moocore.is_nondominated(values))
    return Pool(values[best], np.full(int(best.sum()), number), levels[best])
