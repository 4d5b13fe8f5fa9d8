"""Every registered strategy keeps the contract, with each of its options."""

from functools import partial

import pytest

from eesearch.core.design import LossSpec, TrainSpec
from eesearch.core.registry import STRATEGIES
from eesearch.testing import StrategyContract
from eesearch.training import strategies

LOSSES = {
    "joint, linear ramp": LossSpec(ramp="linear"),
    "joint, cosine ramp": LossSpec(ramp="cosine"),
    "joint, sdn ramp": LossSpec(ramp="sdn"),
    "combined, free": LossSpec(combine="free"),
    "combined, average": LossSpec(combine="average"),
    "combined, max": LossSpec(combine="max"),
    "distill, final": LossSpec(teacher="final"),
    "distill, sdn ramp": LossSpec(ramp="sdn", teacher="final"),
    "freezeout, linear": LossSpec(freeze="linear"),
}
GATED = ("separate, gates", "joint, gates", "distill, gates", "combined, gates", "layerwise, gates", "gated, mlp gates")
BEFORE = {"mixed, untrained": TrainSpec(epochs=2, batch_size=16, lr=0.02)}
UNCACHED = "layerwise, not cached"
CASES = (*sorted(STRATEGIES), *LOSSES, *GATED, *BEFORE, UNCACHED)


def _never_cached(embed, backbone, samples, max_cache_gb, *, segments):
    return embed(backbone, samples, 0.0, segments=segments)


class TestEveryStrategy(StrategyContract):
    @pytest.fixture(params=CASES, autouse=True)
    def _case(self, request, monkeypatch):
        name, _, option = request.param.partition(", ")
        self.strategy = name
        self.loss = LOSSES.get(request.param, LossSpec())
        self.before = BEFORE.get(request.param)
        if request.param in GATED or name == "gated":
            self.gate = "mlp" if "mlp" in option else "linear"
        if request.param == UNCACHED:
            monkeypatch.setattr(strategies, "embed", partial(_never_cached, strategies.embed))
