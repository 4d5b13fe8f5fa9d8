"""Laws of soft decisions: with gates in {0, 1} they are hard ones."""

from __future__ import annotations

from math import inf

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from eesearch.exits.expected import soft_cost
from eesearch.exits.routing import route
from eesearch.training.losses import SHARPEST_GATE, combined, mixture

CLASSES = 3
shapes = st.tuples(st.integers(1, 5), st.integers(1, 8))
exact = st.integers(-64, 64).map(lambda n: n / 8.0)
"""Logits whose sums and differences are exact in float32."""


@st.composite
def answered(draw):
    """Logits [k, N, C], gates in {0, 1} [k, N], and where hard routing stops. [N]"""
    exits, samples = draw(shapes)
    logits = draw(arrays(np.float32, (exits, samples, CLASSES), elements=exact))
    gates = draw(arrays(np.float32, (exits, samples), elements=st.sampled_from([0.0, 1.0])))
    stop = route(gates, [*[0.5] * (exits - 1), -inf])
    return torch.from_numpy(logits), torch.from_numpy(gates), stop


@settings(deadline=None)  # torch takes its time when it is first called
@given(answered())
def test_a_mixture_by_gates_of_0_and_1_is_the_answer_of_hard_routing_exactly(case):
    logits, gates, stop = case
    answers = torch.softmax(logits, -1)
    assert torch.equal(mixture(answers, gates), answers[torch.from_numpy(stop), torch.arange(len(stop))])


@settings(deadline=None)  # torch takes its time when it is first called
@given(answered(), st.data())
def test_saturated_gates_of_heads_cost_what_hard_routing_costs(case, data):
    """The gate of an exit is the mean of its logits: far from 0 it is 0 or 1 exactly, and so is the cost."""
    logits, gates, stop = case
    exits = len(gates)
    costs = data.draw(arrays(np.float32, exits, elements=st.integers(0, 64).map(float)).map(np.cumsum))
    centred = logits - logits.mean(-1, keepdim=True)
    said = centred + (200.0 * gates - 150.0)[..., None]  # 50 leaves, -150 goes on
    sure = torch.sigmoid(said.mean(-1) * SHARPEST_GATE)
    assert torch.equal(sure, gates)
    assert torch.equal(soft_cost(sure, torch.from_numpy(costs)), torch.from_numpy(costs[stop]))
    answers = said.softmax(-1)
    assert torch.equal(mixture(answers, sure), answers[torch.from_numpy(stop), torch.arange(len(stop))])


@settings(deadline=None)  # torch takes its time when it is first called
@given(shapes, st.data())
def test_a_mixture_is_a_distribution_within_what_the_exits_say(shape, data):
    exits, samples = shape
    logits = torch.from_numpy(data.draw(arrays(np.float64, (exits, samples, CLASSES), elements=exact)))
    gates = torch.from_numpy(data.draw(arrays(np.float64, (exits, samples), elements=st.floats(0.0, 1.0))))
    answers = logits.softmax(-1)
    mixed = mixture(answers, gates)
    np.testing.assert_allclose(mixed.sum(-1), 1.0, rtol=1e-12)
    assert (mixed >= answers.amin(0) - 1e-12).all()
    assert (mixed <= answers.amax(0) + 1e-12).all()


@settings(deadline=None)  # torch takes its time when it is first called
@given(shapes, st.sampled_from(["average", "max", "free", "softmax"]), st.data())
def test_no_combination_sees_the_gates(shape, how, data):
    """They are constants within an exit's logits, and softmax does not see those."""
    exits, samples = shape
    logits = torch.from_numpy(data.draw(arrays(np.float64, (exits, samples, CLASSES), elements=exact)))
    gates = torch.from_numpy(data.draw(arrays(np.float64, (exits, samples, 1), elements=exact)))
    weights = torch.linspace(-1.0, 1.0, exits, dtype=torch.float64)[:, None]
    np.testing.assert_allclose(
        combined(list(logits + gates), how, weights), combined(list(logits), how, weights), rtol=0.0, atol=1e-9
    )
