"""Cascades that know costs: IDK cascades (Wang et al. 2018) and Streeter's greedy cascades (2018)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

import numpy as np
from numpy.typing import NDArray

from eesearch.core.costs import StageCosts
from eesearch.core.policy import Fit, Policy, Scoring
from eesearch.core.tables import ExitTable
from eesearch.solve.placed import SDN_SHARES, Floats, Placed, cuts_of, near_shares, one_per_cut, thresholded

IDK_TRADE_OFFS = tuple(np.geomspace(0.01, 1.0, 49).tolist())
"""Prices mu of the network's whole cost, in units of error."""

STREETER_TARGETS = tuple((1.0 - np.concatenate([[0.0], np.geomspace(1e-4, 0.3, 59)])).tolist())
"""Accuracies alpha relative to the reference network's."""


def idk(table: ExitTable, costs: StageCosts, fits: Sequence[Fit] = ()) -> list[Policy]:
    """IDK cascades (Wang et al., UAI 2018) with cost-aware thresholds: error + mu * cost is minimised for each mu.

    Thresholds by coordinate descent, each over all its values; then the exit whose removal helps most is removed, as
    long as one helps. It starts from SDN's six exits. A sample is answered as the surest exit so far says, and leaves
    where that one is sure enough. As all scalarisations do, it finds convex parts of the front only.

    Args:
        table: Calibration.
        costs: Knows every exit of the table.
        fits: That the scores use.
    """
    return _idk(table, costs, fits, tuple(near_shares(table, costs, SDN_SHARES)))


def idk_whole(table: ExitTable, costs: StageCosts, fits: Sequence[Fit] = ()) -> list[Policy]:
    """IDK cascades as they were meant: of whole networks, the cheapest first; otherwise as `idk`.

    Args:
        table: Calibration; the own classifiers of several networks.
        costs: Knows every exit of the table.
        fits: That the scores use.
    """
    rows = costs.select(table.exits).step[0].argsort(kind="stable").tolist()
    return _idk(table, costs, fits, tuple(rows))


def _idk(table: ExitTable, costs: StageCosts, fits: Sequence[Fit], start: tuple[int, ...]) -> list[Policy]:
    scoring, known = Scoring(answer="most_confident", fits=tuple(fits)), dict[tuple[int, ...], Placed]()

    def place(rows: tuple[int, ...]) -> Placed:
        if rows not in known:
            known[rows] = Placed.of(table, costs, rows, scoring)
        return known[rows]

    return list(dict.fromkeys(_thinned(place, start, mu / costs.backbone) for mu in IDK_TRADE_OFFS))


def _thinned(place: Callable[[tuple[int, ...]], Placed], rows: tuple[int, ...], price: float) -> Policy:
    """The policy after backwards elimination: drop the exit whose removal lowers the objective most, while one does."""
    thresholds, best = descend(place(rows), price)
    while len(rows) > 1:
        fewer = [rows[:i] + rows[i + 1 :] for i in range(len(rows) - 1)]
        found = [descend(place(left), price) for left in fewer]
        at = int(np.argmin([objective for _, objective in found]))
        if found[at][1] >= best:
            break
        rows, (thresholds, best) = fewer[at], found[at]
    return place(rows).policy(thresholds)


def descend(placed: Placed, price: float) -> tuple[list[float], float]:
    """Thresholds that no change of a single one improves, and mean error + price * mean cost with them.

    Starts where nobody leaves early, and sweeps from the last exit to the first until nothing changes.

    Args:
        placed: The exits.
        price: Of a unit of cost, in units of error.

    Returns:
        Thresholds [k - 1], objective.
    """
    error = ~placed.correct * (placed.weight / placed.weight.mean())
    loss = error + price * placed.cumulative[:, None]  # of leaving at each stop [k, N]
    thresholds, best = np.full(placed.early, inf), float(loss[-1].mean())
    while True:
        for k in range(placed.early)[::-1]:
            later = loss[-1]
            for j in range(k + 1, placed.early)[::-1]:
                later = np.where(placed.scores[j] >= thresholds[j], loss[j], later)
            arrives = np.all(placed.scores[:k] < thresholds[:k, None], axis=0)
            surest = placed.order[k][arrives[placed.order[k]]]
            counts, candidates = cuts_of(placed.scores[k, surest])
            change = np.concatenate([[0.0], (loss[k] - later)[surest].cumsum()])[counts]
            thresholds[k] = candidates[change.argmin()]  # the first: of equals, that with the fewest leaving
        objective = _objective(placed, thresholds, loss)
        if objective >= best - 1e-12:
            return thresholds.tolist(), objective
        best = objective


def _objective(placed: Placed, thresholds: Floats, loss: Floats) -> float:
    stays, total = np.ones(loss.shape[1], np.bool_), loss[-1].copy()
    for scores, threshold, here in zip(placed.scores[:-1], thresholds, loss[:-1], strict=True):
        leaves = stays & (scores >= threshold)
        total[leaves] = here[leaves]
        stays &= ~leaves
    return float(total.mean())


def streeter(table: ExitTable, costs: StageCosts, fits: Sequence[Fit] = ()) -> list[Policy]:
    """Greedy cascades (Streeter, "Approximation algorithms for cascading prediction models", ICML 2018).

    One cascade per relative accuracy alpha; exits of all cuts may become stages, scored by max probability.

    Args:
        table: Calibration.
        costs: Knows every exit of the table.
        fits: That the scores use.
    """
    rows = one_per_cut(table)
    stages = Placed.of(table, costs, rows, Scoring(fits=tuple(fits)))
    step = costs.select(stages.exits).step
    candidates = []
    for alpha in STREETER_TARGETS:
        chosen, thresholds = greedy(stages, step, alpha)
        exits = [stages.exits[stage] for stage in chosen]
        candidates.append(thresholded(exits, thresholds[:-1], stages.scoring))
    return list(dict.fromkeys(candidates))


def greedy(stages: Placed, step: Floats, alpha: float) -> tuple[list[int], list[float]]:
    """Add the stage with the largest ratio of newly answered samples to marginal cost, until all are answered.

    Of each stage's thresholds that keep the constraint the lowest answers most, at the same cost. The constraint adds
    up: the whole cascade is right at least alpha times as often as the reference network, the last stage.

    Args:
        stages: What may become a stage, of memory `last`.
        step: As StageCosts; the prefix that two stages share is paid once. [k + 1, k]
        alpha: At most 1.

    Returns:
        Stages and their thresholds; the last is -inf.
    """
    here, at = np.ones(stages.scores.shape[1], np.bool_), 0
    chosen: list[int] = []
    thresholds: list[float] = []
    while not thresholds or thresholds[-1] > -inf:
        ways = np.flatnonzero(np.isfinite(step[at])).tolist()
        offers = [_most(stages, stage, here, alpha) for stage in ways]
        answered = np.array([count for count, _ in offers], np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):  # a step may cost nothing
            ratio = np.where(answered > 0.0, answered / step[at, ways], -1.0)
        best = int(ratio.argmax())
        chosen.append(ways[best])
        thresholds.append(offers[best][1])
        here &= stages.scores[chosen[-1]] < thresholds[-1]
        at = chosen[-1] + 1
    return chosen, thresholds


def _most(stages: Placed, stage: int, here: NDArray[np.bool_], alpha: float) -> tuple[int, float]:
    """How many of those here a stage can answer under the constraint, and the threshold for it."""
    if stage == stages.early:
        return int(here.sum()), -inf
    surest = stages.order[stage][here[stages.order[stage]]]
    counts, thresholds = cuts_of(stages.scores[stage, surest])
    margin = (stages.correct[stage, surest] - alpha * stages.correct[-1, surest]) * stages.weight[surest]
    kept = np.concatenate([[0.0], margin.cumsum()])[counts] >= -1e-9
    most = int(np.flatnonzero(kept)[-1])
    return int(counts[most]), float(thresholds[most])
