"""Baselines that learn more of calibration than thresholds: ensembles of exits (ZTW), scores and shares (EENet).

Both need fits that are made of the calibration table, in `eesearch.training`; `LEARNED_BASELINES` says which. Both have
their exits where shallow-deep networks have them, so that methods differ by their policies and not by their places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import softmax

from eesearch.core.costs import StageCosts
from eesearch.core.policy import Fit, Policy, Scoring
from eesearch.core.tables import ExitTable
from eesearch.solve.baselines import Baseline, share_thresholds
from eesearch.solve.placed import SDN_SHARES, Floats, Placed, near_shares
from eesearch.solve.shared import shared_policies

EENET_BUDGETS = 40
"""Mean costs that a schedule is made for, evenly spaced between leaving at the first exit and going to the end."""

STEEPEST = 1e3
"""Largest price of the smallest step in cost, in units of a log-probability, at which shares are looked for."""

LEAST_CHANCE = 1e-12
"""Of being right, so that it has a logarithm."""


class LearnedBaseline(NamedTuple):
    """A baseline, and what has to be fitted for it.

    Attributes:
        criterion: A name in the CRITERIA registry.
        answer: A name in the ANSWERS registry; `propose` is given the fits that the two need, temperatures first.
        propose: The baseline.
    """

    criterion: str
    answer: str
    propose: Baseline


def ztw(table: ExitTable, costs: StageCosts, fits: Sequence[Fit]) -> list[Policy]:
    """Zero Time Waste (Wolczyk et al. 2021): geometric ensembles of the exits so far, one threshold for all of them.

    The ensembling half of the paper. Its cascade connections, by which a head reads what the head before it said, need
    training and are left out; so is the bias that it gives every class. An exit has one weight in all ensembles, fitted
    over random paths (`fit_ensemble`), where the paper fits each ensemble for itself; and who gets to the end is
    answered by all exits together, where the paper leaves that to the network's own classifier.

    Args:
        table: Calibration.
        costs: Knows every exit of the table.
        fits: Temperatures and ensemble weights.

    Raises:
        PolicyError: there are no ensemble weights.
    """
    scoring = Scoring("max_prob", "mean", tuple(fits))
    return shared_policies(Placed.of(table, costs, near_shares(table, costs, SDN_SHARES), scoring))


def eenet(table: ExitTable, costs: StageCosts, fits: Sequence[Fit]) -> list[Policy]:
    """EENet (Ilhan et al. 2024): learnt scores, and thresholds by the shares that leave at each exit in a schedule.

    Both halves of the paper, refitted to what tables hold. Scores: a logistic regression of being right on
    probabilities, largest probability, margin, entropy and what earlier exits say (the criterion `learned_path`), where
    the paper has a linear score of the same without the margin, and of earlier scores. Shares: for every budget,
    `scheduled_shares`, where the paper trains a small network per budget by the same two aims; only the mean of what
    that network says enters its thresholds either. The thresholds are then set from the first exit to the last, the
    surest of those that arrive leaving.

    Args:
        table: Calibration.
        costs: Knows every exit of the table.
        fits: Temperatures and the parameters of `learned_path`.

    Raises:
        PolicyError: there are no such parameters.
    """
    scoring = Scoring("learned_path", fits=tuple(fits))
    placed = Placed.of(table, costs, near_shares(table, costs, SDN_SHARES), scoring)
    budgets = np.linspace(placed.cumulative.min(), placed.cumulative.max(), EENET_BUDGETS + 2)[1:-1]
    schedules = [share_thresholds(placed, scheduled_shares(placed.scores, placed.cumulative, b)) for b in budgets]
    everybody, nobody = ([threshold] * placed.early for threshold in (-inf, inf))
    return list(dict.fromkeys(map(placed.policy, (everybody, *schedules, nobody))))


def scheduled_shares(chance: Floats, cost: Floats, budget: float) -> Floats:
    """Shares of the samples that are to leave at each stop, so that the mean cost is a budget.

    Each sample is assigned to the stops in proportion to how likely each is right about it; of all assignments that
    meet the budget this is the one with the least relative entropy to that: weights chance * exp(-price * cost), with
    one price for all samples. The shares are its mean.

    Args:
        chance: How likely each stop is right about each sample; at most 1. [k, N]
        cost: Of leaving at each stop. [k]
        budget: Between the least and the largest cost, exclusive.

    Returns:
        They sum to 1. [k]
    """
    log_chance = np.log(np.maximum(chance, LEAST_CHANCE))

    def shares(price: float) -> Floats:
        return np.asarray(softmax(log_chance - price * cost[:, None], axis=0).mean(axis=1))

    steepest = STEEPEST / np.diff(np.unique(cost)).min()
    return shares(brentq(lambda price: float(shares(price) @ cost) - budget, -steepest, steepest))


LEARNED_BASELINES: Mapping[str, LearnedBaseline] = {
    "ztw": LearnedBaseline("max_prob", "mean", ztw),
    "eenet": LearnedBaseline("learned_path", "own", eenet),
}
"""By name."""
