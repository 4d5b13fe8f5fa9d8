"""What every registered criterion must satisfy, third parties' included."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eesearch.core.registry import CRITERIA

HOT = 1e4
"""A logit so much larger than the others that its softmax is one-hot in float32."""


@pytest.fixture(params=sorted(CRITERIA))
def criterion(request):
    return CRITERIA[request.param]


@pytest.fixture(params=[2, 10])
def logits(request):
    """Two active exits, 64 samples, moderate to very sure. [2, 64, C]"""
    rng = np.random.default_rng(0)
    return (rng.normal(size=(2, 64, request.param)) * rng.exponential(8.0, (2, 64, 1))).astype(np.float32)


def neutral(logits):
    return np.ones((len(logits), 1), np.float32)


def sharpened(top):
    """One sample per entry of `top`: class 1 ahead of the others by so much. [1, N, 4]"""
    logits = np.zeros((1, len(top), 4), np.float32)
    logits[0, :, 1] = top
    return logits


def test_numpy_and_torch_agree(criterion, logits):
    heat = np.linspace(0.5, 3.0, 128, dtype=np.float32).reshape(2, 64)
    answer, score = criterion.function(logits, heat)
    answer_torch, score_torch = criterion.function(torch.from_numpy(logits), torch.from_numpy(heat))
    np.testing.assert_allclose(answer_torch.numpy(), answer, rtol=0.0, atol=1e-6)
    np.testing.assert_allclose(score_torch.numpy(), score, rtol=0.0, atol=1e-6)


def test_keeps_shape_dtype_and_array_type(criterion, logits):
    for array in (logits, torch.from_numpy(logits)):
        heat = array[:, :1, 0] * 0 + 1
        answer, score = criterion.function(array, heat)
        assert type(answer) is type(score) is type(array)
        assert answer.dtype == score.dtype == array.dtype
        assert (tuple(answer.shape), tuple(score.shape)) == (tuple(array.shape[1:]), tuple(array.shape[1:2]))


def test_answer_is_a_distribution_and_score_lies_in_0_1(criterion, logits):
    answer, score = criterion.function(logits, neutral(logits))
    assert (answer >= 0.0).all()
    np.testing.assert_allclose(answer.sum(-1), 1.0, rtol=0.0, atol=1e-5)
    assert ((score >= 0.0) & (score <= 1.0)).all()


def test_surer_means_larger(criterion):
    logits = sharpened([0.0, 0.5, 1.0, 2.0, 4.0, 8.0])
    score = criterion.function(logits, neutral(logits))[1]
    assert (np.diff(score) > 0.0).all()


def test_hotter_means_less_sure(criterion):
    logits = sharpened([3.0, 3.0, 3.0])
    score = criterion.function(logits, np.array([[0.5, 1.0, 2.0]], np.float32))[1]
    assert (np.diff(score) < 0.0).all()


def test_one_hot_and_uniform_are_the_ends(criterion):
    logits = sharpened([0.0, HOT, -HOT, 1e30])
    score = criterion.function(logits, neutral(logits))[1]
    assert np.isfinite(score).all()
    assert score[1] == score[3] == 1.0
    assert score.argmin() == 0


def test_order_of_classes_does_not_matter(criterion, logits):
    shuffled = logits[:, :, np.random.default_rng(1).permutation(logits.shape[-1])]
    expected = criterion.function(logits, neutral(logits))[1]
    np.testing.assert_allclose(criterion.function(shuffled, neutral(logits))[1], expected, rtol=0.0, atol=1e-6)


def test_a_sample_scores_the_same_alone_and_in_a_batch(criterion, logits):
    together = criterion.function(torch.from_numpy(logits), torch.ones(2, 1))[1]
    alone = [criterion.function(torch.from_numpy(logits[:, n : n + 1]), torch.ones(2, 1))[1] for n in range(64)]
    np.testing.assert_allclose(torch.cat(alone), together, rtol=0.0, atol=1e-6)


def test_last_only_ignores_earlier_exits(criterion, logits):
    if criterion.memory == "all":
        pytest.skip("looks at earlier exits on purpose")
    both, last = (criterion.function(x, neutral(x)) for x in (logits, logits[1:]))
    assert all(np.array_equal(a, b) for a, b in zip(both, last, strict=True))


def test_never_changes_its_arguments(criterion, logits):
    before, heat = logits.copy(), neutral(logits)
    criterion.function(logits, heat)
    assert np.array_equal(logits, before)
    assert np.array_equal(heat, neutral(logits))


def test_can_be_exported(criterion, logits):
    class Scored(torch.nn.Module):
        def forward(self, x, heat):
            return criterion.function(x, heat)

    arguments = torch.from_numpy(logits), torch.ones(2, 1)
    program = torch.export.export(Scored(), arguments).module()
    for exported, expected in zip(program(*arguments), criterion.function(*arguments), strict=True):
        torch.testing.assert_close(exported, expected)
