"""Cost-weighted classifiers that tell which samples should leave an exit, learned by scikit-learn, kept as gate rows.

`linear` is a logistic regression and `tree` a decision tree on the three confidence figures; `classes` is a logistic
regression on these and on the probability of every class, for exits that are surer of some classes than they should be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eesearch.exits import gates

if TYPE_CHECKING:
    from sklearn.tree import DecisionTreeClassifier

# scikit-learn takes a second to import: it is imported when something is learned.

CLASSIFIERS = ("linear", "tree", "classes")

TREE_DEPTH, TREE_LEAF = 3, 0.05
"""Depth of a learned tree, and the least share of the samples in a leaf. Deeper ones with finer leaves fit noise: an
exit that is right more often than not errs on few samples, and those are dear."""

SHRINKAGE = 0.1
"""Weight of the squared slopes (of scaled features) in the logistic loss, against the sum over samples."""

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Rows = NDArray[np.float32]


def fit_gate(classifier: str, seen: NDArray[np.float32], gain: Floats, classes: int, *, seed: int = 0) -> Rows:
    """Learn to tell the samples that should leave from those that should not. [D]

    Args:
        classifier: `linear`, `tree` or `classes`.
        seen: As `gates.figures` or `gates.features` gives them. [N, P]
        gain: What is gained if a sample leaves: its sign is the label, its size the weight; not 0. [N]
        classes: C
        seed: Decides between equally good splits of a tree.
    """
    from sklearn.tree import DecisionTreeClassifier

    wanted = gain > 0.0
    if not wanted.any():
        return gates.linear_gate(gates.NEVER, [], classes)
    if wanted.all():
        return gates.linear_gate(1.0, [], classes)
    weight = np.abs(gain) / np.abs(gain).mean()
    if classifier == "tree":
        tree = DecisionTreeClassifier(max_depth=TREE_DEPTH, min_samples_leaf=TREE_LEAF, random_state=seed)
        return tree_row(tree.fit(seen[:, : gates.FIGURES], wanted, weight), classes)
    return _linear(seen if classifier == "classes" else seen[:, : gates.FIGURES], wanted, weight, classes)


def _linear(seen: NDArray[np.float32], wanted: Bools, weight: Floats, classes: int) -> Rows:
    from sklearn.linear_model import LogisticRegression

    mean, scale = seen.mean(0, dtype=np.float64), seen.std(0, dtype=np.float64)
    scale[scale < 1e-12] = 1.0  # a feature that never changes
    model = LogisticRegression(C=1.0 / SHRINKAGE, solver="newton-cholesky", max_iter=100)
    model.fit((seen - mean) / scale, wanted, weight)
    slopes = model.coef_[0] / scale
    return gates.linear_gate(float(model.intercept_[0] - slopes @ mean), slopes, classes)


def tree_row(model: DecisionTreeClassifier, classes: int) -> Rows:
    """A fitted tree of two classes as the row of a gate; a leaf's value is the weighted mean of -1 and 1 in it. [D]

    Args:
        model: At most `gates.DEPTH` deep.
        classes: C
    """
    tree = model.tree_
    feature, threshold, leaf = np.zeros(gates.NODES), np.zeros(gates.NODES), np.zeros(gates.LEAVES)
    todo = [(0, 0, gates.LEAVES)]  # node of the tree, its place in the heap, leaves of the heap below it
    while todo:
        node, place, width = todo.pop()
        if tree.children_left[node] < 0:
            first = (place + 1) * width - gates.LEAVES
            no, yes = tree.value[node, 0]
            leaf[first : first + width] = (yes - no) / (yes + no)
            continue
        feature[place], threshold[place] = tree.feature[node], tree.threshold[node]
        todo += [
            (tree.children_left[node], 2 * place + 1, width // 2),
            (tree.children_right[node], 2 * place + 2, width // 2),
        ]
    return gates.tree_gate(feature, threshold, leaf, classes)
