"""How the literature chooses policies, on the tables and costs that the solver reads; thresholds from calibration only.

Every baseline is one function `(calibration table, costs, fits) -> candidates`. It sees neither another split nor
another method's exits. Where a paper gives its exits a head, the most accurate head on calibration stands for the cut.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from math import inf

import numpy as np
from numpy.typing import NDArray

from eesearch.core.costs import StageCosts
from eesearch.core.front import Evaluation
from eesearch.core.policy import Fit, Policy, Scoring
from eesearch.core.tables import ExitTable
from eesearch.core.weights import Weights
from eesearch.exits.evaluate import tally
from eesearch.exits.routing import path_outputs
from eesearch.solve.baccarelli import baccarelli
from eesearch.solve.cascades import idk, streeter
from eesearch.solve.levels import threshold_levels
from eesearch.solve.placed import SDN_SHARES, Floats, Placed, cuts_of, near_shares, one_per_cut, thresholded

Baseline = Callable[[ExitTable, StageCosts, Sequence[Fit]], list[Policy]]
"""`(calibration table, costs on one axis, fits that scores use) -> candidate policies`."""

BRANCHY_SHARES = ((2 / 110, 37 / 110), (1 / 3, 2 / 3))
"""Where two branches go: as in B-ResNet (behind the 2nd and the 37th of 110 layers), and evenly."""

BRANCHY_LEVELS = 24
"""Entropy thresholds tried at each branch, beside "nobody leaves"."""

MSDNET_RATIOS = tuple(p / 20 for p in range(1, 40))
"""The ratios q that the authors of MSDNet sweep; above 1 most samples leave late."""


def branchynet(table: ExitTable, costs: StageCosts, fits: Sequence[Fit] = ()) -> list[Policy]:
    """BranchyNet (Teerapittayanon et al. 2016): two branches, a grid of entropy thresholds screened at each.

    The paper says where its branches are and not how to place them, so both its own places and even ones are tried. It
    screened thresholds on test; here calibration chooses.

    Args:
        table: Calibration.
        costs: Knows every exit of the table.
        fits: That the scores use.
    """
    scoring = Scoring("entropy", fits=tuple(fits))
    paths = dict.fromkeys(tuple(near_shares(table, costs, shares)) for shares in BRANCHY_SHARES)
    candidates = []
    for rows in paths:
        candidates += screened(Placed.of(table, costs, rows, scoring))
    return candidates


def screened(branches: Placed) -> list[Policy]:
    """BranchyNet's thresholds for branches that are placed: a grid at quantiles of each one's own scores.

    Args:
        branches: Placed on calibration.
    """
    levels = [[*threshold_levels(row, BRANCHY_LEVELS), inf] for row in branches.scores[:-1]]
    return [branches.policy(thresholds) for thresholds in product(*levels)]


def sdn(table: ExitTable, costs: StageCosts, fits: Sequence[Fit] = ()) -> list[Policy]:
    """Shallow-deep networks (Kaya et al. 2019): six exits at 15 to 90 % of the cost, one max-probability threshold.

    The threshold is swept over all values that differ in effect; the non-dominated ones are the candidates.

    Args:
        table: Calibration.
        costs: Knows every exit of the table.
        fits: That the scores use.
    """
    return shared_policies(Placed.of(table, costs, near_shares(table, costs, SDN_SHARES), Scoring(fits=tuple(fits))))


def deebert(table: ExitTable, costs: StageCosts, fits: Sequence[Fit] = ()) -> list[Policy]:
    """DeeBERT (Xin et al. 2020): one entropy threshold for all exits, of which there is one behind every block.

    Exits are placed, as in the paper, behind every cut, and as SDN's: where there are many cuts, fewer heads pay.

    Args:
        table: Calibration.
        costs: Knows every exit of the table.
        fits: That the scores use.
    """
    scoring, candidates = Scoring("entropy", fits=tuple(fits)), list[Policy]()
    for rows in placements(table, costs):
        candidates += shared_policies(Placed.of(table, costs, rows, scoring))
    return list(dict.fromkeys(candidates))


def placements(table: ExitTable, costs: StageCosts) -> list[tuple[int, ...]]:
    """Rows of SDN's exits, and of an exit on every cut; the own classifier last. The same ones once."""
    return list(dict.fromkeys((tuple(near_shares(table, costs, SDN_SHARES)), tuple(one_per_cut(table)))))


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


def msdnet(table: ExitTable, costs: StageCosts, fits: Sequence[Fit] = ()) -> list[Policy]:
    """MSDNet's budgeted batches (Huang et al. 2018): the shares that leave at the exits form a geometric sequence.

    Args:
        table: Calibration.
        costs: Knows every exit of the table.
        fits: That the scores use.
    """
    six = Placed.of(table, costs, near_shares(table, costs, SDN_SHARES), Scoring(fits=tuple(fits)))
    return list(dict.fromkeys(six.policy(geometric_thresholds(six, ratio)) for ratio in MSDNET_RATIOS))


def geometric_thresholds(placed: Placed, ratio: float) -> list[float]:
    """Thresholds at which the share that leaves at stop k is proportional to ratio ** k, as nearly as ties allow.

    Args:
        placed: As for `share_thresholds`.
        ratio: Above 0.

    Returns:
        [k - 1]
    """
    return share_thresholds(placed, ratio ** np.arange(1.0, len(placed.exits) + 1.0))


def share_thresholds(placed: Placed, shares: Floats) -> list[float]:
    """Thresholds at which given shares of the samples leave at the stops, as nearly as ties allow.

    What an exit lets go too many or too few, for equal scores, the next one makes good.

    Args:
        placed: The exits; their most confident samples leave.
        shares: Up to a factor. [k]

    Returns:
        [k - 1]
    """
    wanted = placed.scores.shape[1] * shares.cumsum() / shares.sum()
    here, thresholds = np.ones(placed.scores.shape[1], np.bool_), []
    for scores, order, goal in zip(placed.scores[:-1], placed.order[:-1], wanted[:-1], strict=True):
        counts, candidates = cuts_of(scores[order[here[order]]])
        gone = len(here) - here.sum()
        thresholds.append(float(candidates[np.abs(gone + counts - goal).argmin()]))
        here &= scores < thresholds[-1]
    return thresholds


def patience(table: ExitTable, costs: StageCosts, fits: Sequence[Fit] = ()) -> list[Policy]:
    """PABEE (Zhou et al. 2020): leave where p exits in a row agree with the one before them; p = 1, 2, ...

    Exits are placed as SDN's and, as in the paper, behind every cut.

    Args:
        table: Calibration.
        costs: Knows every exit of the table.
        fits: Not used: what agrees does so at any temperature.
    """
    scoring, candidates = Scoring("patience"), []
    for rows in placements(table, costs):
        exits, early = [table.exits[row] for row in rows], len(rows) - 1
        # The run of equal answers counts the first one too; thresholds lie midway between two counts.
        candidates += [thresholded(exits, [p + 0.5] * early, scoring) for p in range(1, early)]
    return candidates


BASELINES: Mapping[str, Baseline] = {
    "branchynet": branchynet,
    "sdn": sdn,
    "deebert": deebert,
    "msdnet": msdnet,
    "idk": idk,
    "streeter": streeter,
    "patience": patience,
    "baccarelli reconstruction": baccarelli,
}
"""The named baselines that use temperatures at most; those that learn more are in `learned_schedules`."""


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
