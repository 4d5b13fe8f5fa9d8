"""How the literature chooses policies, on the tables and costs that the solver reads; thresholds from calibration only.

Every baseline is one function `(calibration table, costs, fits) -> candidates`. It sees neither another split nor
another method's exits. Where a paper gives its exits a head, the most accurate head on calibration stands for the cut.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from math import inf

import numpy as np

from eesearch.core.costs import StageCosts
from eesearch.core.policy import Fit, Policy, Scoring
from eesearch.core.tables import ExitTable
from eesearch.solve.baccarelli import baccarelli
from eesearch.solve.cascades import idk, streeter
from eesearch.solve.levels import threshold_levels
from eesearch.solve.placed import SDN_SHARES, Floats, Placed, cuts_of, near_shares, one_per_cut, thresholded
from eesearch.solve.shared import shared_policies

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


def placements(table: ExitTable, costs: StageCosts) -> list[tuple[int, ...]]:
    """Rows of SDN's exits, and of an exit on every cut; the own classifier last. The same ones once."""
    return list(dict.fromkeys((tuple(near_shares(table, costs, SDN_SHARES)), tuple(one_per_cut(table)))))


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
