"""Threshold levels: which cuts of an exit's calibration scores the solver may choose from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eesearch.core.errors import PolicyError


def threshold_levels(scores: NDArray[np.floating], count: int) -> NDArray[np.float64]:
    """At most `count` thresholds that split an exit's scores at evenly spaced quantiles, rising.

    A threshold is the midpoint between two adjacent distinct scores: on a sample's own score it would flip with the
    last bit, and equal scores are never split. Where ties bring several quantiles to the same gap, it is kept once.
    Midpoints are float64, in which even two neighbouring float32 scores have one strictly between them.

    Args:
        scores: Of one exit on calibration; those that are not numbers never leave and are ignored. [N]
        count: At least 1.

    Returns:
        [L] with L <= count; empty if fewer than two scores differ (then only "all leave" and "none leaves" remain, and
        neither is a level: the one is a last stop, the other leaves the exit out).

    Raises:
        PolicyError: count is below 1.
    """
    if count < 1:
        raise PolicyError("a solver needs threshold levels", got=count, expected="at least 1")
    distinct, sizes = np.unique(scores[~np.isnan(scores)].astype(np.float64), return_counts=True)
    gaps = np.maximum((distinct[:-1] + distinct[1:]) / 2.0, np.nextafter(distinct[:-1], np.inf))
    if len(gaps) <= count:
        return np.asarray(gaps)
    below = sizes.cumsum()[:-1]  # samples below each gap
    wanted = np.arange(1, count + 1) * (sizes.sum() / (count + 1))
    after = np.searchsorted(below, wanted).clip(1, len(gaps) - 1)
    nearer_before = wanted - below[after - 1] <= below[after] - wanted
    return np.asarray(gaps[np.unique(after - nearer_before)])
