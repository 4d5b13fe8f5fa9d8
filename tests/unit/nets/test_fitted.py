"""Fitted heads answer as the scikit-learn classifiers that they were made of, sample by sample."""

import ast
import inspect

import numpy as np
import pytest
import torch
from sklearn.calibration import CalibratedClassifierCV

from eesearch.core.design import HeadSpec
from eesearch.core.errors import InputError
from eesearch.nets import estimators, fitted
from eesearch.nets.estimators import sampled
from eesearch.nets.fitted import FLOOR, FittedBody
from eesearch.nets.heads import build_head

FEATURES = 5
SPECS = (
    HeadSpec(kind="logistic"),
    HeadSpec(kind="svm"),
    HeadSpec(kind="tree", depth=3),
    HeadSpec(kind="boosting", rounds=2, depth=2),
)
by_kind = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)


def data(classes, samples=150):
    """Overlapping clusters; one feature of few values, one far from 0, one tiny."""
    rng = np.random.default_rng(0)
    y = np.arange(samples) % classes
    x = rng.normal(size=(classes, FEATURES))[y] * 1.5 + rng.normal(size=(samples, FEATURES))
    x[:, 0] = np.round(x[:, 0])
    return (x * [1, 1, 1, 1, 1e-4] + [0, 0, 0, 500, 0]).astype(np.float32), y


def body_of(spec, classes=3):
    body = build_head(spec, (FEATURES,), classes).body
    assert isinstance(body, FittedBody)
    return body.eval()


def fitted_with(spec, classes, monkeypatch):
    """A fitted body, and the classifier that it was made of."""
    made = []
    estimate = estimators.estimate
    monkeypatch.setattr(estimators, "estimate", lambda *args: made.append(estimate(*args)) or made[-1])
    x, y = data(classes)
    body = body_of(spec, classes)
    body.fit(torch.from_numpy(x), torch.from_numpy(y), 1)
    return body, made[0]


def at_thresholds(body, x):
    """Samples whose features are the thresholds of the trees, and the next numbers above and below."""
    rows = []
    for feature, threshold in zip(body.feature.flatten(), body.threshold.flatten(), strict=True):
        for value in (threshold, *(np.nextafter(np.float32(threshold), np.float32(end)) for end in (-np.inf, np.inf))):
            row = x[len(rows) % len(x)].copy()
            row[feature] = value
            rows.append(row)
    return np.array(rows)


@by_kind
@pytest.mark.parametrize("classes", [2, 3])
def test_answers_are_those_of_scikit_learn_on_every_sample(spec, classes, monkeypatch):
    body, estimator = fitted_with(spec, classes, monkeypatch)
    assert isinstance(estimator, CalibratedClassifierCV) == (spec.kind != "logistic")
    x, y = data(classes)
    unseen = [x, x * 3, x * 1e4]
    if spec.kind in ("tree", "boosting"):
        unseen.append(at_thresholds(body, x))
    seen = np.concatenate(unseen)
    expected = estimator.predict_proba(seen.astype(np.float64) if spec.kind in ("logistic", "svm") else seen)
    logits = body(torch.from_numpy(seen))
    assert logits.isfinite().all()
    np.testing.assert_allclose(logits.softmax(-1).numpy(), expected, rtol=0, atol=1e-5)
    assert (logits[: len(y)].argmax(-1).numpy() == y).mean() > 0.6


@by_kind
def test_tensors_tell_everything(spec, monkeypatch):
    body, _ = fitted_with(spec, 3, monkeypatch)
    twin, x = body_of(spec), torch.from_numpy(data(3)[0])
    assert torch.equal(twin(x), twin(x)[:1, :1].expand(len(x), 3)), "uniform before"
    twin.load_state_dict(body.state_dict())
    assert torch.equal(twin(x), body(x))
    assert not list(body.parameters())


@by_kind
def test_the_same_seed_gives_the_same_tensors_on_any_number_of_threads(spec, monkeypatch):
    first, _ = fitted_with(spec, 3, monkeypatch)
    torch.set_num_threads(2)
    try:
        again, _ = fitted_with(spec, 3, monkeypatch)
    finally:
        torch.set_num_threads(1)
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])


@by_kind
def test_can_be_traced_for_any_batch(spec, monkeypatch):
    body, _ = fitted_with(spec, 2, monkeypatch)
    x = torch.from_numpy(data(3)[0])
    traced = torch.fx.symbolic_trace(body)
    for rows in (x, x[:1], x[:0]):
        assert torch.equal(traced(rows), body(rows))


def test_a_shallow_tree_repeats_its_leaf():
    body = body_of(HeadSpec(kind="tree", depth=4), 2)
    x = np.array([[0.0] * FEATURES, [1.0] * FEATURES] * 6, np.float32)
    body.fit(torch.from_numpy(x), torch.arange(12) % 2, 0)
    assert len(body.leaf.unique(dim=0)) == 2
    assert torch.equal(body.leaf[:8], body.leaf[:1].expand(8, 2))
    assert body.threshold[0, 1:].count_nonzero() == 0


def test_a_probability_of_0_is_a_finite_logit():
    body = body_of(HeadSpec(kind="svm"), 3)
    body.fill(bias=np.array([-1e4, -2e4, 0.0]))
    logits = body(torch.zeros(1, FEATURES))
    assert logits[0, 0] == logits[0, 1] == FLOOR
    assert logits.softmax(-1).tolist() == [[0.0, 0.0, 1.0]]


@pytest.mark.parametrize(
    ("features", "labels", "said"),
    [
        (torch.zeros(4, FEATURES), torch.tensor([0, 1, 0, 1]), "samples of 2 classes; expected samples of all 3"),
        (torch.full((4, FEATURES), torch.nan), torch.tensor([0, 1, 2, 1]), "not finite"),
        (torch.zeros(5, FEATURES), torch.tensor([0, 1, 2, 1, 0]), "one sample of a class"),
    ],
)
def test_refuses_what_it_cannot_learn_from(features, labels, said):
    with pytest.raises(InputError, match=said):
        body_of(HeadSpec(kind="tree")).fit(features, labels, 0)


def test_many_samples_are_thinned_out_by_class(monkeypatch):
    x, y = data(3)
    assert sampled(x, y, "svm", 0)[0] is x
    monkeypatch.setattr(estimators, "NUMBERS_SLOW", 60 * FEATURES)
    part, labels = sampled(x, y, "svm", 0)
    assert np.bincount(labels).tolist() == [20, 20, 20]
    assert {tuple(row) for row in part} <= {tuple(row) for row in x}
    assert sampled(x, y, "logistic", 0)[0] is x
    assert not np.array_equal(part, sampled(x, y, "svm", 1)[0])


@pytest.mark.parametrize("kind", ["tree", "svm", "logistic", "boosting"])
def test_rare_classes_are_not_thinned_out(monkeypatch, kind):
    """Of 3 in 400 samples a stratified tenth keeps none, and nothing could be calibrated on it."""
    x, _ = data(3)
    x = np.concatenate([x] * 400)[:400]
    y = np.array([0] * 198 + [1] * 199 + [2] * 3)
    monkeypatch.setattr(estimators, "NUMBERS", 40 * FEATURES)
    monkeypatch.setattr(estimators, "NUMBERS_SLOW", 40 * FEATURES)
    for seed in range(5):
        _, labels = sampled(x, y, kind, seed)
        assert np.bincount(labels)[2] == 3
        assert len(labels) <= 40 + 3
    body_of(HeadSpec(kind=kind)).fit(torch.from_numpy(x), torch.from_numpy(y), 0)


def test_inference_needs_no_scikit_learn():
    top = ast.parse(inspect.getsource(fitted)).body
    imported = {name for node in top if isinstance(node, ast.ImportFrom) for name in (node.module, node.names[0].name)}
    assert not imported & {"sklearn", "estimators", "eesearch.nets.estimators"}
