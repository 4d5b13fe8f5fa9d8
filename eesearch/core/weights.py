"""Class weights: some answers count more than others.

Quality is then the weighted mean of who is answered rightly; costs stay plain means, as whoever pays for a sample pays
whatever its class is. Weights are whole numbers: the solver counts errors, and what it finds is exact for the weights
that everything else is told with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from eesearch.core.errors import DataError

ClassWeights = dict[str, float] | Literal["balanced"]
"""Class -> weight, 1 where nothing is said; or `balanced`: every class counts the same, whatever its size."""

Weights = NDArray[np.int64]
"""Of every sample, at least 1. [N]"""

CLOSE, FINEST = 0.005, 64
"""How near whole numbers should come to the weights asked for, and the most that the smallest one may be."""

MOST, MOST_EACH = 1 << 18, 16
"""What all samples may count together, or each on average: the solver keeps something for each unit of error."""


def class_units(weights: ClassWeights, names: Sequence[str], labels: NDArray[np.int64]) -> Weights:
    """Whole numbers in the ratio of the weights, as nearly as there is room for. [C]

    Args:
        weights: As the study gives them.
        names: Of the classes. [C]
        labels: Of the samples that are to be weighed; they tell the sizes of the classes. [N]

    Raises:
        DataError: a class is not known, a weight is not a number above 0, or there is no room for weights so far apart.
    """
    sizes = np.bincount(labels, minlength=len(names))
    wanted = 1.0 / np.maximum(sizes, 1) if weights == "balanced" else _given(dict(weights), names)
    wanted = wanted / wanted.min()
    room, off = max(MOST, MOST_EACH * len(labels)), np.inf
    best: Weights | None = None
    for smallest in range(1, FINEST + 1):
        units = np.rint(smallest * wanted)
        now = float(np.abs(units / (smallest * wanted) - 1.0).max())
        if sizes @ units <= room and now < off:
            best, off = units.astype(np.int64), now
        if off <= CLOSE:
            break
    if best is None:
        raise DataError(
            "the weights of classes are too far apart for so many samples",
            got=f"1 to {wanted.max():g}, together {sizes @ np.rint(wanted):,.0f} for {len(labels):,} samples",
            expected=f"at most {room:,} together",
            do="Bring the largest closer to the smallest one under data.class_weights.",
        )
    return best


def _given(weights: Mapping[str, float], names: Sequence[str]) -> NDArray[np.float64]:
    unknown = [name for name in weights if name not in names]
    if unknown:
        raise DataError(
            "class_weights names classes that the data do not have",
            got=", ".join(unknown[:20]),
            expected=", ".join(names[:20]) + (", ..." if len(names) > 20 else ""),
        )
    for name, weight in weights.items():
        if not (isfinite(weight) and weight > 0.0):
            raise DataError(f"the weight of class {name} is not a number above 0", got=weight)
    return np.array([weights.get(name, 1.0) for name in names], np.float64)


def mean_right(right: NDArray[np.bool_], weights: Weights | None) -> NDArray[np.float64]:
    """Weighted share of right answers. [..., N] -> [...]

    Args:
        right: Whether each sample is answered rightly. [..., N]
        weights: None: all count the same. [N]
    """
    if weights is None:
        return np.asarray(right.mean(-1, dtype=np.float64))
    return np.asarray((right @ weights) / weights.sum())


def effective_samples(chosen: NDArray[np.bool_], weights: Weights) -> float:
    """How many samples that count the same would tell the weighted share of some as surely.

    The variance of a weighted share p is about p sum(w^2) / sum(w)^2, the first sum over the chosen ones or, where that
    is worse, p's share of all (the effective sample size of Kish, Survey Sampling, 1965).

    Args:
        chosen: Whose share it is. [N]
        weights: [N]
    """
    total = weights.sum(dtype=np.float64)
    of_all = total**2 / (weights.astype(np.float64) ** 2).sum()
    mine = weights[chosen].astype(np.float64)
    return float(min(of_all, total * mine.sum() / (mine**2).sum())) if len(mine) else float(of_all)
