"""Learned gates: a linear classifier and a small decision tree on what an exit says, evaluated as plain arrays.

The parameters of one exit are one row [D], so that a fit holds gates like temperatures and nothing but arrays is needed
at inference. With P = 3 + C features (see `features`), a tree of depth 4, 15 inner nodes and 16 leaves:

    row[0]                    intercept of the linear part
    row[1 : 1 + P]            its slopes
    then 15                   feature that each node looks at, nodes in heap order (the children of i are 2i + 1, 2i + 2)
    then 15                   threshold of each node: a sample goes left iff feature <= threshold
    then 16                   value of each leaf, from left to right

    score = intercept + slopes @ features + leaf(features), and a sample leaves iff score >= 0.

Zeros are nothing: a row may hold a linear part, a tree or both. A shallower tree repeats a leaf's value below it. Leaf
values are margins in [-1, 1], not signs, so that scores are an order and another threshold than 0 makes sense.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from eesearch.core.policy import Criterion, Parameters
from eesearch.core.registry import CRITERIA
from eesearch.exits.criteria import entropy_score, margin_score, max_prob_score, probabilities

DEPTH = 4
"""Depth of the tree."""

NODES, LEAVES = 2**DEPTH - 1, 2**DEPTH

FIGURES = 3
"""Features before the class probabilities: largest probability, margin, entropy score."""

NEVER = -1e6
"""A score at which nobody leaves, whatever the features are."""

Array = Any
"""A numpy array or a torch tensor."""


def features(answer: Array) -> Array:
    """What a gate sees: largest probability, margin, entropy score, then every class's probability. [N, 3 + C]

    Args:
        answer: Tempered probabilities. [N, C]
    """
    xp = array_namespace(answer)
    figures = xp.stack([max_prob_score(answer), margin_score(answer), entropy_score(answer)], axis=-1)
    return xp.concat([figures, answer], axis=-1)


def gate_width(classes: int) -> int:
    """D, the number of parameters of one gate."""
    return 1 + FIGURES + classes + 2 * NODES + LEAVES


def gate_score(seen: Array, row: Array) -> Array:
    """How sure a gate is that a sample should leave; it leaves at 0 or more. [N]

    Args:
        seen: As `features` gives them. [N, P]
        row: The parameters of one gate. [D]
    """
    xp = array_namespace(seen)
    first = 1 + seen.shape[-1]
    node, threshold, leaf = (
        row[first : first + NODES],
        row[first + NODES : first + 2 * NODES],
        row[first + 2 * NODES : first + 2 * NODES + LEAVES],
    )
    right = xp.take(seen, xp.astype(node, xp.int64), axis=-1) > threshold  # [N, 15]
    here = xp.ones_like(right[:, :1])
    for depth in range(DEPTH):
        turns = right[:, 2**depth - 1 : 2 ** (depth + 1) - 1]
        here = xp.reshape(xp.stack([here & ~turns, here & turns], axis=-1), (-1, 2 ** (depth + 1)))
    voted = xp.sum(xp.where(here, leaf, leaf * 0.0), axis=-1)  # one leaf per sample, so the sum is exact
    # Not a matrix product: BLAS sums a sample's terms in another order when the batch is larger.
    return row[0] + xp.sum(seen * row[1:first], axis=-1) + voted


def linear_gate(intercept: float, slopes: NDArray[np.floating], classes: int) -> NDArray[np.float32]:
    """The row of a linear gate. [D]

    Args:
        intercept: Of the score.
        slopes: Of the first features; the others have none. [at most 3 + C]
        classes: C.
    """
    row = np.zeros(gate_width(classes), np.float32)
    row[0] = intercept
    row[1 : 1 + len(slopes)] = slopes
    return row


def tree_gate(
    feature: NDArray[np.integer], threshold: NDArray[np.floating], leaf: NDArray[np.floating], classes: int
) -> NDArray[np.float32]:
    """The row of a tree. [D]

    Args:
        feature: What each node looks at. [15]
        threshold: Left iff feature <= threshold; rounded down to float32, so that every float32 feature turns as it
            does in float64. [15]
        leaf: Value of each leaf. [16]
        classes: C.
    """
    row = np.zeros(gate_width(classes), np.float32)
    nearest = np.asarray(threshold).astype(np.float32)
    rounded = np.where(nearest > threshold, np.nextafter(nearest, np.float32(-np.inf)), nearest)
    row[-2 * NODES - LEAVES :] = np.concatenate([feature, rounded, leaf])
    return row


def _gate(logits: Array, parameters: Parameters) -> tuple[Array, Array]:
    """The last exit's tempered answer, and its gate's score."""
    answer = probabilities(logits[-1], parameters["temperature"][-1])
    return answer, gate_score(features(answer), parameters["gate"][-1])


CRITERIA.register("gate")(Criterion(_gate, memory="last", needs=("gate",)))
