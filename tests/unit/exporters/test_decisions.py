from math import inf

import numpy as np
import pytest
import torch

from eesearch.core.errors import ModelError
from eesearch.core.policy import Criterion, decision_name, decision_named
from eesearch.core.registry import ANSWERS, CRITERIA
from eesearch.exits.answers import goes_with
from eesearch.exits.learned import parameter_widths
from eesearch.exporters.decisions import decision_graph, decision_source

DECISIONS = [decision_name(c, a) for c in sorted(CRITERIA) for a in sorted(ANSWERS) if goes_with(c, a)]
CLASSES = 4


def fitted(kinds, stops):
    rng = np.random.default_rng(1)
    made = {kind: rng.normal(size=(stops, width)) for kind, width in parameter_widths(CLASSES).items()}
    made |= {"temperature": rng.uniform(0.5, 2.0, (stops, 1)), "ensemble": rng.uniform(0.0, 1.0, (stops, 1))}
    made["gate"][:, 1 + 3 + CLASSES :][:, :15] = np.arange(15) % (3 + CLASSES)
    return {kind: torch.from_numpy(made[kind].astype(np.float32)) for kind in kinds}


def function_of(criterion, parameters, stops):
    graph = decision_graph(criterion, parameters, CLASSES, stops)
    text = "\n".join(decision_source("decide", graph, tuple(parameters)))
    scope = {"torch": torch, "F": torch.nn.functional}
    exec(text, scope)
    return scope["decide"], text


@pytest.mark.parametrize("name", DECISIONS)
def test_the_text_decides_bit_by_bit_as_the_criterion(name):
    criterion = decision_named(name)
    stops = 3 if criterion.memory == "all" else 1
    parameters = fitted(("temperature", *criterion.needs), stops)
    decide, text = function_of(criterion, parameters, stops)
    assert "torch.ops" not in text, "a person can read it"
    logits = 4.0 * torch.randn(stops, 50, CLASSES, generator=torch.Generator().manual_seed(0))
    logits[:, 0] = torch.tensor([inf, -inf, 0.0, 1.0])  # nobody knows
    for samples in (1, 2, 50):
        shown = logits[:, -samples:] if samples < 50 else logits
        expected = criterion.function(shown, parameters)
        for got, wanted in zip(decide(shown, *parameters.values()), expected, strict=True):
            assert torch.equal(got.nan_to_num(9.0), wanted.nan_to_num(9.0))


def test_somebody_s_own_criterion():
    def function(logits, parameters):
        answer = (logits[-1] / parameters["temperature"][-1]).softmax(-1)
        top = answer.topk(2, -1).values
        return answer, (top[:, 0] / (top[:, 1] + 1e-3)).log1p()

    criterion, parameters = Criterion(function), fitted(("temperature",), 1)
    decide, _ = function_of(criterion, parameters, 1)
    logits = torch.randn(1, 7, CLASSES)
    assert torch.equal(decide(logits, *parameters.values())[1], function(logits, parameters)[1])


def test_a_criterion_with_control_flow_is_refused():
    def function(logits, parameters):
        answer = logits[-1].softmax(-1)
        return answer, answer.amax(-1) if answer.sum() > 1 else answer.amin(-1)

    with pytest.raises(ModelError, match="the criterion cannot be exported"):
        decision_graph(Criterion(function), fitted(("temperature",), 1), CLASSES, 1)
