"""Heads that scikit-learn fits: logistic regression, linear SVM, decision tree, gradient boosting.

Fitted, a head is tensors. The softmax of its logits is what scikit-learn's calibrated classifier gives, and nothing but
torch is needed for it. All tensors are buffers: no gradient changes them. Their sizes follow from features, classes and
design alone, so that a head can be built and loaded without being fitted:

    linear    s = weight (x - centre) + bias
    trees     complete, in heap order: the root is node 1, the children of node i are 2i and 2i + 1, and a sample goes
              left iff its feature <= threshold; a shallower tree repeats a leaf below it
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import prod

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from eesearch.core.design import HeadSpec
from eesearch.core.errors import InputError
from eesearch.core.registry import HEADS
from eesearch.nets.heads import refuse_full_map

FLOOR = -745.0
"""The least logit: in float64, scikit-learn's probability is 0 below it. Where all are, they are uniform in both."""


class FittedBody(nn.Module, ABC):
    """The body of a head that is fitted instead of trained; before that, its logits are uniform.

    A third party's is fitted where this class is its base.
    """

    @abstractmethod
    def fit(self, features: Tensor, labels: Tensor, seed: int) -> None:
        """Learn in place; the same arguments give the same tensors, with any number of threads.

        Args:
            features: What the head reads, of the training split. [N, *F]
            labels: int64, every class among them. [N]
            seed: Decides whatever is random.

        Raises:
            InputError: too few samples of a class, or features that are not finite.
        """


class ScikitBody(FittedBody):
    """One of scikit-learn's classifiers.

    Args:
        spec: Which, and its size.
        classes: C
    """

    def __init__(self, spec: HeadSpec, classes: int) -> None:
        super().__init__()
        self.spec, self.classes = spec, classes

    def fit(self, features: Tensor, labels: Tensor, seed: int) -> None:
        """As in `FittedBody`; as many samples as `estimators.NUMBERS` allows are used."""
        from eesearch.nets import estimators  # scikit-learn takes a second to import

        x, y = features.flatten(1).cpu().numpy(), labels.cpu().numpy()
        if not np.isfinite(x).all():
            raise InputError(f"a {self.spec.kind} head cannot be fitted", got="features that are not finite")
        if not np.array_equal(np.unique(y), np.arange(self.classes)):
            raise InputError(
                f"a {self.spec.kind} head cannot be fitted",
                got=f"samples of {len(np.unique(y))} classes",
                expected=f"samples of all {self.classes}",
            )
        x, y = estimators.sampled(x, y, self.spec.kind, seed)
        self.take(estimators.estimate(self.spec, x, y, seed), x)

    @abstractmethod
    def take(self, estimator: object, x: NDArray[np.float32]) -> None:
        """Become what scikit-learn has fitted to features [N, F]."""

    def log_probabilities(self, scores: Tensor) -> Tensor:
        """Logits [N, C] of one-against-all probabilities, sigmoid(score) each.

        Args:
            scores: [N, C]; of two classes, those of the second. [N, 1]
        """
        if self.classes == 2:
            scores = torch.cat([-scores, scores], 1)
        # log sigmoid(s) = -log(1 + exp(-s)), which exported graphs compute exactly; their sigmoids are cut off
        return (-F.softplus(-scores)).clamp_min(FLOOR)

    def fill(self, **tensors: NDArray[np.generic]) -> None:
        """Copy arrays into the buffers of these names."""
        for name, values in tensors.items():
            buffer: Tensor = getattr(self, name)
            buffer.copy_(torch.from_numpy(values))


class LinearBody(ScikitBody):
    """Logistic regression, or a linear SVM with a sigmoid fitted to each class's score (Platt 1999).

    Features are centred before the product, not in `bias`: far from 0 the difference would be lost in float32.
    """

    centre: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, features: int, classes: int, spec: HeadSpec) -> None:
        super().__init__(spec, classes)
        scores = _scores(classes)
        self.multinomial = spec.kind == "logistic" and scores > 1
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("weight", torch.zeros(scores, features))
        self.register_buffer("bias", torch.zeros(scores))

    def take(self, estimator: object, x: NDArray[np.float32]) -> None:
        """See `ScikitBody`."""
        from eesearch.nets import estimators

        centre, weight, bias = estimators.linear_arrays(estimator)
        self.fill(centre=centre, weight=weight, bias=bias)

    def forward(self, features: Tensor) -> Tensor:
        """[N, *F] to logits [N, C]."""
        scores = F.linear(features.flatten(1) - self.centre, self.weight, self.bias)
        return scores if self.multinomial else self.log_probabilities(scores)


class TreesBody(ScikitBody):
    """Some trees; every sample walks down all of them side by side."""

    feature: Tensor
    threshold: Tensor
    before: Tensor

    def __init__(self, trees: int, classes: int, spec: HeadSpec) -> None:
        super().__init__(spec, classes)
        nodes = 2**spec.depth - 1
        self.register_buffer("feature", torch.zeros(trees, nodes, dtype=torch.int64))
        self.register_buffer("threshold", torch.zeros(trees, nodes))
        self.register_buffer("before", nodes * torch.arange(trees) - 1, persistent=False)

    def walk(self, x: Tensor) -> Tensor:
        """The number of the leaf that each sample ends in, 2^depth for the leftmost. [N, trees]

        Args:
            x: [N, F]
        """
        node = torch.ones_like(x.narrow(1, 0, 1), dtype=torch.int64)
        for _ in range(self.spec.depth):
            place = node + self.before  # among the nodes of all trees
            looked_up = x.gather(1, torch.take(self.feature, place))
            node = 2 * node + (looked_up > torch.take(self.threshold, place))
        return node


class TreeBody(TreesBody):
    """One decision tree, whose leaves hold calibrated log-probabilities."""

    leaf: Tensor

    def __init__(self, classes: int, spec: HeadSpec) -> None:
        super().__init__(1, classes, spec)
        self.register_buffer("leaf", torch.zeros(2**spec.depth, classes))

    def take(self, estimator: object, x: NDArray[np.float32]) -> None:
        """See `ScikitBody`."""
        from eesearch.nets import estimators

        feature, threshold, probability = estimators.tree_arrays(estimator, self.spec.depth, x)
        with np.errstate(divide="ignore"):
            leaf = np.maximum(np.log(probability), FLOOR)
        self.fill(feature=feature[None], threshold=threshold[None], leaf=leaf)

    def forward(self, features: Tensor) -> Tensor:
        """[N, *F] to logits [N, C]."""
        leaf = self.walk(features.flatten(1)).flatten() - len(self.leaf)
        return torch.index_select(self.leaf, 0, leaf)


class BoostingBody(TreesBody):
    """Gradient boosting: scores are sums over trees, each class's with a sigmoid fitted to it."""

    leaf: Tensor
    leaves_before: Tensor
    bias: Tensor

    def __init__(self, classes: int, spec: HeadSpec) -> None:
        scores, leaves = _scores(classes), 2**spec.depth
        trees = spec.rounds * scores
        super().__init__(trees, classes, spec)
        self.register_buffer("leaf", torch.zeros(trees, leaves))
        self.register_buffer("bias", torch.zeros(scores))
        self.register_buffer("leaves_before", leaves * torch.arange(trees) - leaves, persistent=False)

    def take(self, estimator: object, x: NDArray[np.float32]) -> None:
        """See `ScikitBody`."""
        from eesearch.nets import estimators

        feature, threshold, leaf, bias = estimators.boosting_arrays(estimator, self.spec.depth)
        self.fill(feature=feature, threshold=threshold, leaf=leaf, bias=bias)

    def forward(self, features: Tensor) -> Tensor:
        """[N, *F] to logits [N, C]."""
        said = torch.take(self.leaf, self.walk(features.flatten(1)) + self.leaves_before)  # [N, rounds * scores]
        said = said.reshape(-1, self.spec.rounds, len(self.bias))
        return self.log_probabilities(said.sum(1) + self.bias)


def _scores(classes: int) -> int:
    """Scores that tell so many classes apart."""
    return classes if classes > 2 else 1


@HEADS.register("logistic")
@HEADS.register("svm")
def fitted_linear(features: tuple[int, ...], classes: int, spec: HeadSpec) -> nn.Module:
    """Logistic regression or a calibrated linear SVM, on a vector, or a pooled map or sequence.

    Raises:
        HeadError: it is to read a full map or sequence.
    """
    refuse_full_map(features, spec)
    return LinearBody(prod(features), classes, spec)


@HEADS.register("tree")
@HEADS.register("boosting")
def fitted_trees(features: tuple[int, ...], classes: int, spec: HeadSpec) -> nn.Module:
    """A calibrated decision tree of `spec.depth`, or `spec.rounds` of them per class; on what linear heads read.

    Raises:
        HeadError: it is to read a full map or sequence.
    """
    refuse_full_map(features, spec)
    return TreeBody(classes, spec) if spec.kind == "tree" else BoostingBody(classes, spec)
