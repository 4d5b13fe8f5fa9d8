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

MOST = 1 << 18
"""Weights of all samples together, but for `MOST_EACH` a sample: the solver keeps something for each error."""

MOST_EACH = 16


def class_units(weights: ClassWeights, names: Sequence[str], labels: NDArray[np.int64]) -> Weights:
    """Whole numbers in the ratio of the weights, as nearly as there is room for. [C]

    Args:
        weights: As the study gives them.
        names: Of the classes. [C]
        labels: Of the samples that are to be weighed; they tell the sizes of the classes. [N]

    Raises:
        DataError: a class is not known, or a weight is not a number above 0.
    """
    sizes = np.bincount(labels, minlength=len(names))
    wanted = 1.0 / np.maximum(sizes, 1) if weights == "balanced" else _given(dict(weights), names)
    wanted = wanted / wanted.min()
    room, best, off = max(MOST, MOST_EACH * len(labels)), np.ones(len(names), np.int64), np.inf
    for smallest in range(1, FINEST + 1):
        units = np.rint(smallest * wanted)
        now = float(np.abs(units / (smallest * wanted) - 1.0).max())
        if (smallest == 1 or sizes @ units <= room) and now < off:
            best, off = units.astype(np.int64), now
        if off <= CLOSE:
            break
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
    found = np.array([weights.get(name, 1.0) for name in names], np.float64)
    if found.max() / found.min() > MOST:
        raise DataError("weights of classes are too far apart", got=f"{found.min():g} and {found.max():g}")
    return found


def mean_right(right: NDArray[np.bool_], weights: Weights | None) -> NDArray[np.float64]:
    """Weighted share of right answers. [..., N] -> [...]

    Args:
        right: Whether each sample is answered rightly. [..., N]
        weights: None: all count the same. [N]
    """
    if weights is None:
        return np.asarray(right.mean(-1, dtype=np.float64))
    return np.asarray((right @ weights) / weights.sum())


def as_sure_as(chosen: NDArray[np.bool_], weights: Weights) -> float:
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
