"""The classifiers of scikit-learn behind fitted heads: how they are fitted, and the arrays that they come down to.

All but logistic regression, whose probabilities need none, are calibrated: a sigmoid is fitted to the score of each
class (Platt 1999), on scores of samples that the classifier had not seen, out of `FOLDS` folds.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_limits

from eesearch.core.design import HeadSpec
from eesearch.core.errors import InputError

FOLDS = 3
"""Of the calibration; fewer if a class has fewer samples."""

NUMBERS = 2**25
"""Most features of all samples together that logistic regression is fitted to: a random, stratified part of more."""

NUMBERS_SLOW = 2**23
"""The same of the others, which take ten times as long: about a minute of one core at most."""

Array = NDArray[Any]


def sampled(
    x: NDArray[np.float32], y: NDArray[np.int64], kind: str, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """All samples, or the stratified part of them that a classifier of this kind is fitted to.

    A class that is rare keeps enough of its samples to be calibrated with.

    Args:
        x: [N, F]
        y: [N]
        kind: Of the head.
        seed: Decides which.
    """
    most = (NUMBERS if kind == "logistic" else NUMBERS_SLOW) // x.shape[1]
    classes, least = np.unique(y, return_counts=True)
    most = max(most, 2 * FOLDS * len(classes))
    if len(x) <= most + len(classes) or least.min() < 2:
        return x, y
    part, rest = train_test_split(np.arange(len(y)), train_size=most, stratify=y, random_state=seed % 2**32)
    rare = [rest[y[rest] == each][: max(0, FOLDS - np.count_nonzero(y[part] == each))] for each in classes]
    rows = np.concatenate([part, *rare])
    return x[rows], y[rows]


def estimate(spec: HeadSpec, x: NDArray[np.float32], y: NDArray[np.int64], seed: int) -> Any:
    """Fit a classifier, on one thread: sums over threads would end in other last bits.

    Args:
        spec: Kind and size.
        x: [N, F]
        y: Labels 0 .. C - 1. [N]
        seed: Decides whatever is random.

    Raises:
        InputError: a class has one sample only, on which nothing can be calibrated.
    """
    state = seed % 2**32  # what scikit-learn takes
    classifier = _classifier(spec, state)
    if spec.kind != "logistic":
        least = int(np.bincount(y).min())
        if least < 2:
            raise InputError(f"a {spec.kind} head cannot be calibrated", got="one sample of a class", expected="two")
        folds = StratifiedKFold(min(FOLDS, least), shuffle=True, random_state=state)
        classifier = CalibratedClassifierCV(classifier, method="sigmoid", cv=folds, ensemble=False)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # near enough, after so many iterations
        return classifier.fit(x if spec.kind in ("tree", "boosting") else x.astype(np.float64), y)


def _classifier(spec: HeadSpec, state: int) -> Any:
    if spec.kind == "logistic":
        return make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    if spec.kind == "svm":
        return make_pipeline(StandardScaler(), LinearSVC(dual=False, random_state=state))
    if spec.kind == "tree":
        return DecisionTreeClassifier(max_depth=spec.depth, random_state=state)
    return HistGradientBoostingClassifier(
        max_iter=spec.rounds,
        max_depth=spec.depth,
        max_leaf_nodes=2**spec.depth,
        early_stopping=False,
        random_state=state,
    )


def _calibrated(estimator: Any) -> tuple[Any, Array, Array]:
    """The classifier, and with which a and b its class probabilities are sigmoid(-(a score + b)). [S]"""
    found = estimator.calibrated_classifiers_[0]
    slopes = np.array([[c.a_, c.b_] for c in found.calibrators])
    return found.estimator, slopes[:, 0], slopes[:, 1]


def linear_arrays(estimator: Any) -> tuple[Array, Array, Array]:
    """Centre [F], weight [S, F] and bias [S]: scores are weight (x - centre) + bias.

    Args:
        estimator: Of kind `logistic` or `svm`.
    """
    calibrated = isinstance(estimator, CalibratedClassifierCV)
    pipeline, a, b = _calibrated(estimator) if calibrated else (estimator, np.array([-1.0]), np.array([0.0]))
    scaler, linear = pipeline[0], pipeline[1]
    weight = -a[:, None] * linear.coef_ / scaler.scale_
    centre = scaler.mean_.astype(np.float32)
    return centre, weight, -(a * linear.intercept_ + b) + weight @ (centre - scaler.mean_)


def tree_arrays(estimator: Any, depth: int, x: NDArray[np.float32]) -> tuple[Array, Array, Array]:
    """Feature and threshold of each node [2^depth - 1], and calibrated probabilities of each leaf [2^depth, C].

    Args:
        estimator: Of kind `tree`.
        depth: Of the complete tree.
        x: What it was fitted to; every leaf has samples. [N, F]
    """
    fitted, _, _ = _calibrated(estimator)
    nodes = fitted.tree_
    leaves, sample = np.unique(fitted.apply(x), return_index=True)
    number = np.zeros(nodes.node_count, np.int64)
    number[leaves] = np.arange(len(leaves))
    columns = (nodes.children_left, nodes.children_right, nodes.feature, nodes.threshold, number)
    feature, threshold, leaf = _complete(columns, nodes.children_left < 0, depth)
    return feature, threshold, estimator.predict_proba(x[sample])[leaf]


def boosting_arrays(estimator: Any, depth: int) -> tuple[Array, Array, Array, Array]:
    """Feature and threshold [T, 2^depth - 1], value of each leaf [T, 2^depth], and bias [S], of scores that are sums.

    Trees stand in the order of the rounds, those of one round in the order of the classes: T = rounds * S.

    Args:
        estimator: Of kind `boosting`.
        depth: Of the complete trees.
    """
    fitted, a, b = _calibrated(estimator)
    features, thresholds, leaves = [], [], []
    for predictors in fitted._predictors:  # public attributes do not tell the trees
        for slope, predictor in zip(a, predictors, strict=True):
            n = predictor.nodes
            columns = (n["left"], n["right"], n["feature_idx"], n["num_threshold"], -slope * n["value"])
            feature, threshold, leaf = _complete(columns, n["is_leaf"].astype(bool), depth)
            features.append(feature)
            thresholds.append(threshold)
            leaves.append(leaf)
    bias = -(a * fitted._baseline_prediction.ravel() + b)
    return np.stack(features), np.stack(thresholds), np.stack(leaves), bias


def _complete(columns: tuple[Array, ...], is_leaf: NDArray[np.bool_], depth: int) -> tuple[Array, Array, Array]:
    """A tree as a complete one in heap order; below a leaf, its value stands in all places.

    Args:
        columns: Of each node: its left and right child, feature, threshold, value.
        is_leaf: Of each node.
        depth: No leaf is deeper.

    Returns:
        Features and thresholds [2^depth - 1]; values of the leaves [2^depth].
    """
    left, right, feature, threshold, value = columns
    at = np.zeros(1, np.int64)  # the nodes of one level
    features, thresholds = [], []
    for _ in range(depth):
        features.append(np.where(is_leaf[at], 0, feature[at]))
        thresholds.append(np.where(is_leaf[at], 0.0, threshold[at]))
        children = [np.where(is_leaf[at], at, side[at]) for side in (left, right)]
        at = np.stack(children, axis=1).reshape(-1).astype(np.int64)
    return np.concatenate(features), _rounded_down(np.concatenate(thresholds)), value[at]


def _rounded_down(threshold: NDArray[np.float64]) -> NDArray[np.float32]:
    """In float32, at most as large: every float32 feature turns as it would with the float64 threshold."""
    with np.errstate(over="ignore"):  # scikit-learn has 1e300 for infinity
        nearest = threshold.astype(np.float32)
    return np.where(nearest > threshold, np.nextafter(nearest, np.float32(-np.inf)), nearest)
