"""Where each sample leaves: scores, thresholds, reach and exit rate, all replayed on a table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eesearch.core.errors import PolicyError
from eesearch.core.policy import Criterion, Fit
from eesearch.core.registry import CRITERIA
from eesearch.core.tables import ExitTable


def temperatures(fit: Fit | None, table: ExitTable) -> NDArray[np.float32]:
    """The temperature of each exit of a table: out-of-fold on calibration, deployed elsewhere, 1 without a fit.

    Returns:
        [E, N] on the split `cal`, else [E, 1].

    Raises:
        PolicyError: the fit does not know an exit, or was made on other samples.
    """
    if fit is None:
        return np.ones((len(table.exits), 1), np.float32)
    rows = fit.rows(table.exits)
    if table.split != "cal":
        return np.asarray(fit.deployed[rows, None], np.float32)
    if fit.calibration.shape[-1] != len(table.labels):
        raise PolicyError(
            f"the {fit.kind} fit was made on another calibration split",
            got=f"{fit.calibration.shape[-1]} samples",
            expected=f"{len(table.labels)}",
        )
    return np.asarray(fit.calibration[rows], np.float32)


def score_table(table: ExitTable, criterion: str, fit: Fit | None = None) -> NDArray[np.float32]:
    """How sure each exit is of each sample. [E, N]

    Args:
        table: One split.
        criterion: A name in the CRITERIA registry, of memory `last`: with it a score belongs to an exit, not to a path.
        fit: Temperatures; None: 1.

    Raises:
        InputError: there is no such criterion.
        PolicyError: the criterion also looks at earlier exits, or the fit does not match the table.
    """
    entry: Criterion = CRITERIA[criterion]
    if entry.memory != "last":
        raise PolicyError(
            f"the criterion '{criterion}' has no score per exit",
            got=f"memory '{entry.memory}'",
            expected="memory 'last'",
        )
    heat = temperatures(fit, table)
    scores = np.empty(table.logits.shape[:2], np.float32)
    for row in range(len(scores)):  # one exit at a time: [E, N, C] probabilities may not fit in memory
        scores[row] = entry.function(table.logits[row : row + 1], heat[row : row + 1])[1]
    return scores


def route(scores: NDArray[np.float32], thresholds: Sequence[float] | NDArray[np.float64]) -> NDArray[np.int64]:
    """The stop at which each sample leaves: the first whose score reaches its threshold, the last for all others.

    Scores are compared in float64, so that a threshold between two neighbouring float32 scores keeps them apart. A
    score that is not a number never leaves early.

    Args:
        scores: Of the active exits, in their order. [k, N]
        thresholds: One per active exit; the last is -inf. [k]

    Returns:
        Index of the stop. [N]

    Raises:
        PolicyError: the thresholds do not match the scores or do not end with -inf.
    """
    limits = np.asarray(thresholds, np.float64)
    if limits.shape != scores.shape[:1] or limits[-1] != -np.inf:
        raise PolicyError(
            "the thresholds do not fit the exits",
            got=limits.tolist(),
            expected=f"{len(scores)} numbers, the last -inf",
        )
    leaves = scores.astype(np.float64) >= limits[:, None]  # [k, N]
    leaves[-1] = True
    return np.asarray(leaves.argmax(0))


def exit_rate(stop: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Share of the samples that leaves at each of k stops; sums to 1. [k]

    Args:
        stop: Where each sample leaves, as `route` tells. [N]
        k: Number of stops.
    """
    return np.bincount(stop, minlength=k) / len(stop)


def reach(stop: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Share of the samples that arrives at each of k stops (I_i of the survey, as settled); the first is 1. [k]

    Args:
        stop: Where each sample leaves, as `route` tells. [N]
        k: Number of stops.
    """
    counts = np.bincount(stop, minlength=k)
    return np.asarray(counts[::-1].cumsum()[::-1] / len(stop))
