"""Every registered strategy keeps the contract, with each of its options."""

from functools import partial

import pytest

from eesearch.core.design import LossSpec, TrainSpec
from eesearch.core.registry import STRATEGIES
from eesearch.testing import StrategyContract
from eesearch.training import cache, strategies
from eesearch.training.cache import NO_CACHING, Caching

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
UNCACHED, ON_DISK = "layerwise, not cached", "layerwise, cached on disk"
CASES = (*sorted(STRATEGIES), *LOSSES, *GATED, *BEFORE, UNCACHED, ON_DISK)


def _cached_by(caching, embed, backbone, samples, given, *, segments):
    return embed(backbone, samples, caching, segments=segments)


class TestEveryStrategy(StrategyContract):
    @pytest.fixture(params=CASES, autouse=True)
    def _case(self, request, monkeypatch, tmp_path):
        name, _, option = request.param.partition(", ")
        self.strategy = name
        self.loss = LOSSES.get(request.param, LossSpec())
        self.before = BEFORE.get(request.param)
        if request.param in GATED or name == "gated":
            self.gate = "mlp" if "mlp" in option else "linear"
        if request.param == UNCACHED:
            monkeypatch.setattr(strategies, "embed", partial(_cached_by, NO_CACHING, strategies.embed))
        if request.param == ON_DISK:
            monkeypatch.setattr(cache, "MEMORY_GB", 0.0)
            monkeypatch.setattr(strategies, "embed", partial(_cached_by, Caching(1.0, tmp_path), strategies.embed))
