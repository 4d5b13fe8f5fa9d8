"""What every registered criterion must satisfy, third parties' included, with every answer that it goes with."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eesearch.core.policy import decision_name, decision_named
from eesearch.core.registry import ANSWERS, CRITERIA
from eesearch.exits.answers import goes_with
from eesearch.exits.learned import parameter_widths

HOT = 1e4
"""A logit so much larger than the others that its softmax is one-hot in float32."""


DECISIONS = [decision_name(c, a) for c in sorted(CRITERIA) for a in sorted(ANSWERS) if goes_with(c, a)]
CONFIDENCES = [n for n in DECISIONS if n.partition("/")[0] in ("entropy", "margin", "max_prob")]
TEMPERED = [n for n in CONFIDENCES if not n.endswith("/combined")]
"""Eq. 8 weighs logits as they are."""


@pytest.fixture(params=DECISIONS)
def decision(request):
    return decision_named(request.param)


@pytest.fixture(params=CONFIDENCES)
def confidence(request):
    """Those whose score tells how sure the answer is, in [0, 1]."""
    return decision_named(request.param)


@pytest.fixture(params=[2, 10])
def logits(request):
    """Two active exits, 64 samples, moderate to very sure. [2, 64, C]"""
    rng = np.random.default_rng(0)
    return (rng.normal(size=(2, 64, request.param)) * rng.exponential(8.0, (2, 64, 1))).astype(np.float32)


def fitted(logits, heat=1.0):
    """Parameters of every kind; gates have random ones. Each [k, D]"""
    k, classes = len(logits), logits.shape[-1]
    rng = np.random.default_rng(2)
    values = {kind: rng.normal(size=(k, width)) for kind, width in parameter_widths(classes).items()}
    values["gate"][:, 1 + 3 + classes :][:, :15] = np.arange(15) % 3  # features that the nodes look at
    values["learned"][0, 0] += 2.0  # else the last one might always be the surest
    weights = np.linspace(0.5, 1.5, k)[:, None]
    values |= {"temperature": np.full((k, 1), heat), "ensemble": weights, "combination": weights[::-1]}
    return {kind: v.astype(np.float32) for kind, v in values.items()}


def tensors(parameters):
    return {kind: torch.from_numpy(values) for kind, values in parameters.items()}


def sharpened(top):
    """One sample per entry of `top`: class 1 ahead of the others by so much. [1, N, 4]"""
    logits = np.zeros((1, len(top), 4), np.float32)
    logits[0, :, 1] = top
    return logits


def test_numpy_and_torch_agree(decision, logits):
    answer, score = decision.function(logits, fitted(logits, 2.0))
    answer_torch, score_torch = decision.function(torch.from_numpy(logits), tensors(fitted(logits, 2.0)))
    np.testing.assert_allclose(answer_torch.numpy(), answer, rtol=0.0, atol=1e-6)
    np.testing.assert_allclose(score_torch.numpy(), score, rtol=1e-5, atol=2e-6)


def test_keeps_shape_dtype_and_array_type(decision, logits):
    for array, parameters in ((logits, fitted(logits)), (torch.from_numpy(logits), tensors(fitted(logits)))):
        answer, score = decision.function(array, parameters)
        assert type(answer) is type(score) is type(array)
        assert answer.dtype == score.dtype == array.dtype
        assert (tuple(answer.shape), tuple(score.shape)) == (tuple(array.shape[1:]), tuple(array.shape[1:2]))


def test_answer_is_a_distribution(decision, logits):
    answer, _ = decision.function(logits, fitted(logits))
    assert (answer >= 0.0).all()
    np.testing.assert_allclose(answer.sum(-1), 1.0, rtol=0.0, atol=1e-5)


def test_confidence_lies_in_0_1(confidence, logits):
    score = confidence.function(logits, fitted(logits))[1]
    assert ((score >= 0.0) & (score <= 1.0)).all()


def test_surer_means_larger(confidence):
    logits = sharpened([0.0, 0.5, 1.0, 2.0, 4.0, 8.0])
    assert (np.diff(confidence.function(logits, fitted(logits))[1]) > 0.0).all()


@pytest.mark.parametrize("name", TEMPERED)
def test_hotter_means_less_sure(name):
    confidence, logits = decision_named(name), sharpened([3.0])
    score = [confidence.function(logits, fitted(logits, heat))[1] for heat in (0.5, 1.0, 2.0)]
    assert (np.diff(np.concatenate(score)) < 0.0).all()


def test_one_hot_and_uniform_are_the_ends(confidence):
    logits = sharpened([0.0, HOT, -HOT, 1e30])
    score = confidence.function(logits, fitted(logits))[1]
    assert np.isfinite(score).all()
    assert score[1] == score[3] == 1.0
    assert score.argmin() == 0


def test_order_of_classes_does_not_matter(confidence, logits):
    shuffled = logits[:, :, np.random.default_rng(1).permutation(logits.shape[-1])]
    expected = confidence.function(logits, fitted(logits))[1]
    np.testing.assert_allclose(confidence.function(shuffled, fitted(logits))[1], expected, rtol=0.0, atol=1e-6)


def test_a_sample_scores_the_same_alone_and_in_a_batch(decision, logits):
    batch, parameters = torch.from_numpy(logits), tensors(fitted(logits))
    together = decision.function(batch, parameters)[1]
    alone = [decision.function(batch[:, n : n + 1], parameters)[1] for n in range(64)]
    np.testing.assert_allclose(torch.cat(alone), together, rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("name", [n for n in DECISIONS if decision_named(n).memory == "last"])
def test_last_only_ignores_earlier_exits(name, logits):
    decision = decision_named(name)
    both = decision.function(logits, fitted(logits))
    last = decision.function(logits[1:], {kind: values[1:] for kind, values in fitted(logits).items()})
    assert all(np.array_equal(a, b) for a, b in zip(both, last, strict=True))


@pytest.mark.parametrize("name", [n for n in DECISIONS if decision_named(n).memory == "all"])
def test_memory_all_looks_at_earlier_exits(name, logits):
    turned = np.concatenate([logits[:1, :, ::-1], logits[1:]])
    said, turned_said = (decision_named(name).function(x, fitted(x)) for x in (logits, turned))
    assert any(not np.array_equal(a, b) for a, b in zip(said, turned_said, strict=True))


@pytest.mark.parametrize("name", [n for n in DECISIONS if decision_named(n).own_answer])
def test_own_answers_are_those_of_the_last_exit(name, logits):
    answer, _ = decision_named(name).function(logits, fitted(logits))
    np.testing.assert_array_equal(answer.argmax(-1), logits[-1].argmax(-1))


def test_never_changes_its_arguments(decision, logits):
    before, parameters = logits.copy(), fitted(logits)
    decision.function(logits, parameters)
    assert np.array_equal(logits, before)
    assert all(np.array_equal(parameters[kind], values) for kind, values in fitted(logits).items())


def test_can_be_exported(decision, logits):
    class Scored(torch.nn.Module):
        def forward(self, x, parameters):
            return decision.function(x, parameters)

    arguments = torch.from_numpy(logits), tensors(fitted(logits))
    program = torch.export.export(Scored(), arguments).module()
    for exported, expected in zip(program(*arguments), decision.function(*arguments), strict=True):
        torch.testing.assert_close(exported, expected)
