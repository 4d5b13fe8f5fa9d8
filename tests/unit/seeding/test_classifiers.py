"""Gates learned by scikit-learn give its answers without it."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier

from eesearch.exits.criteria import probabilities
from eesearch.exits.gates import DEPTH, features, gate_score
from eesearch.seeding.classifiers import CLASSIFIERS, fit_gate, tree_row


def sample(n=400, classes=4, seed=0):
    """What gates see, and a noisy gain that grows with confidence. [N, P], [N]"""
    rng = np.random.default_rng(seed)
    logits = (rng.normal(size=(n, classes)) * rng.exponential(3.0, (n, 1))).astype(np.float32)
    seen = features(probabilities(logits, np.ones(1, np.float32)))
    gain = (seen[:, 0] - 0.7 + rng.normal(size=n) * 0.2) * rng.exponential(2.0, n)
    return seen, gain.astype(np.float64)


@pytest.mark.parametrize("depth", range(1, DEPTH + 1))
def test_a_tree_gives_scikit_learn_s_answers(depth):
    seen, gain = sample()
    weight = np.abs(gain)
    tree = DecisionTreeClassifier(max_depth=depth, random_state=0).fit(seen, gain > 0, weight)
    unseen = np.concatenate([seen, sample(2000, seed=1)[0]])
    score = gate_score(unseen, tree_row(tree, 4))
    no, yes = tree.predict_proba(unseen).T
    np.testing.assert_allclose(score, yes - no, rtol=0, atol=1e-6)
    assert len(np.unique(score)) > depth


def test_a_tree_that_never_splits_is_one_value():
    seen, gain = sample(20)
    stump = DecisionTreeClassifier(min_samples_leaf=20).fit(seen, gain > 0, np.abs(gain))
    score = gate_score(sample(50, seed=1)[0], tree_row(stump, 4))
    np.testing.assert_allclose(score, gain.sum() / np.abs(gain).sum(), rtol=1e-6)


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_gains_more_than_any_constant_on_unseen_samples(classifier):
    row = fit_gate(classifier, *sample(2000), classes=4)
    seen, gain = sample(4000, seed=1)
    leaves = gate_score(seen, row) >= 0
    perfect = gain[gain > 0].sum()
    assert gain[leaves].sum() > max(gain.sum(), 0.0) + 0.5 * (perfect - max(gain.sum(), 0.0))


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_weights_decide_where_labels_disagree(classifier):
    """Nine small losses against one large gain at the same features: worth leaving; the other way round: not."""
    seen, gain = np.repeat(sample(20)[0], 10, axis=0), np.tile([20.0] + [-1.0] * 9, 20)
    assert (gate_score(seen, fit_gate(classifier, seen, gain, 4)) >= 0).all()
    assert (gate_score(seen, fit_gate(classifier, seen, -gain, 4)) < 0).all()


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_without_a_choice_there_is_nothing_to_learn(classifier):
    seen, gain = sample(50)
    gain = np.abs(gain)
    assert (gate_score(seen, fit_gate(classifier, seen, gain, 4)) >= 0).all()
    assert (gate_score(seen, fit_gate(classifier, seen, -gain, 4)) < 0).all()
    assert (gate_score(seen, fit_gate(classifier, seen[:0], gain[:0], 4)) < 0).all()


def test_only_classes_tells_classes_apart():
    """Sure answers are right for class 0 and wrong for class 1."""
    said = np.arange(400) % 2
    logits = np.eye(2, dtype=np.float32)[said] * np.linspace(2, 4, 400, dtype=np.float32)[:, None]
    seen = features(probabilities(logits, np.ones(1, np.float32)))
    gain = np.where(said == 0, 1.0, -1.0)
    assert ((gate_score(seen, fit_gate("classes", seen, gain, 2)) >= 0) == (said == 0)).all()
    assert ((gate_score(seen, fit_gate("linear", seen, gain, 2)) >= 0) == (said == 0)).mean() < 0.7


def test_a_feature_that_never_changes_does_no_harm():
    seen, gain = sample(100)
    seen[:, 1] = 0.5
    row = fit_gate("linear", seen, gain, 4)
    assert np.isfinite(row).all()
