"""Learned gates: a linear classifier and a small decision tree on what an exit says, evaluated as plain arrays.

The parameters of one exit are one row [D], so that a fit holds gates as it holds temperatures and nothing but arrays is
needed at inference. With P = 3 + C features (see `features`), a tree of depth 4, 15 inner nodes and 16 leaves:

    row[0]            intercept of the linear part
    row[1 : 1 + P]    its slopes
    then 15           feature that each node looks at, in heap order: the children of node i are 2i + 1 and 2i + 2
    then 15           threshold of each node: a sample goes left iff feature <= threshold
    the last 16       value of each leaf, from left to right

    score = intercept + slopes @ features + leaf(features), and a sample leaves iff score >= 0.

Zeros are nothing: a row may hold a linear part, a tree or both. A shallower tree repeats a leaf's value below it. Leaf
values are margins in [-1, 1], not signs, so that scores are an order and other thresholds than 0 make sense too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import ArrayLike, NDArray

from eesearch.core.policy import Criterion, Parameters
from eesearch.core.registry import CRITERIA
from eesearch.exits.criteria import entropy_score, margin_score, max_prob_score, probabilities

DEPTH = 4
"""Depth of the tree that a row has room for."""

LEAVES = 1 << DEPTH
NODES = LEAVES - 1
_NODE = slice(-2 * NODES - LEAVES, -NODES - LEAVES)
_THRESHOLD, _LEAF = slice(-NODES - LEAVES, -LEAVES), slice(-LEAVES, None)

FIGURES = 3
"""Features that do not tell the classes apart: largest probability, margin, entropy score."""

NEVER = -1e6
"""An intercept at which nobody leaves, whatever the features are."""

Array = Any
"""A numpy array or a torch tensor."""


def figures(answer: Array) -> Array:
    """Largest probability, margin and entropy score. [N, 3]

    Args:
        answer: Tempered probabilities. [N, C]
    """
    scores = [max_prob_score(answer), margin_score(answer), entropy_score(answer)]
    return array_namespace(answer).stack(scores, axis=-1)


def features(answer: Array) -> Array:
    """What a gate sees: the figures, then the probability of every class. [N, 3 + C]

    Args:
        answer: Tempered probabilities. [N, C]
    """
    return array_namespace(answer).concat([figures(answer), answer], axis=-1)


def gate_width(classes: int) -> int:
    """D, the number of parameters of one gate."""
    return 1 + FIGURES + classes + 2 * NODES + LEAVES


def gate_score(seen: Array, row: Array) -> Array:
    """How much a gate wants a sample to leave, which it does at 0 or more. [N]

    Args:
        seen: As `features` gives them; or their first columns only, if the gate looks at no other. [N, P]
        row: The parameters of one gate. [D]
    """
    xp = array_namespace(seen)
    looked_at = xp.take(seen, xp.astype(row[_NODE], xp.int64), axis=-1)
    right = looked_at > row[_THRESHOLD]  # [N, 15]
    here = xp.ones_like(right[:, :1])
    for depth in range(DEPTH):
        turns = right[:, 2**depth - 1 : 2 ** (depth + 1) - 1]
        here = xp.reshape(xp.stack([here & ~turns, here & turns], axis=-1), (-1, 2 ** (depth + 1)))
    leaf = row[_LEAF]
    voted = xp.sum(xp.where(here, leaf, xp.zeros_like(leaf)), axis=-1)  # one leaf per sample, so the sum is exact
    # Not a matrix product: with it a sample's score could depend on the size of its batch.
    return row[0] + xp.sum(seen * row[1 : 1 + seen.shape[-1]], axis=-1) + voted


def linear_gate(intercept: float, slopes: ArrayLike, classes: int) -> NDArray[np.float32]:
    """The row of a linear gate. [D]

    Args:
        intercept: Of the score.
        slopes: Of the first features; the others get none. [at most 3 + C]
        classes: C
    """
    row = np.zeros(gate_width(classes), np.float32)
    row[0] = intercept
    row[1 : 1 + np.size(slopes)] = slopes
    return row


def tree_gate(feature: ArrayLike, threshold: ArrayLike, leaf: ArrayLike, classes: int) -> NDArray[np.float32]:
    """The row of a tree. [D]

    Args:
        feature: What each node looks at. [15]
        threshold: Left iff feature <= threshold; rounded down to float32, so that every float32 feature turns as it
            would with the float64 threshold. [15]
        leaf: Value of each leaf. [16]
        classes: C
    """
    row = np.zeros(gate_width(classes), np.float32)
    nearest = np.asarray(threshold, np.float32)
    below = np.nextafter(nearest, np.float32(-np.inf))
    row[_NODE] = feature
    row[_THRESHOLD] = np.where(nearest > np.asarray(threshold, np.float64), below, nearest)
    row[_LEAF] = leaf
    return row


def _gate(logits: Array, parameters: Parameters) -> tuple[Array, Array]:
    """The last exit's tempered answer, and what its gate says about it."""
    answer = probabilities(logits[-1], parameters["temperature"][-1])
    return answer, gate_score(features(answer), parameters["gate"][-1])


CRITERIA.register("gate")(Criterion(_gate, memory="last", needs=("gate",), answers=("own",)))
