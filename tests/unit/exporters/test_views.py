"""A network of several views, exported: the same answers, also where a view is missing."""

from dataclasses import replace
from math import inf

import numpy as np
import pytest
import torch

from eesearch.core.design import HeadSpec
from eesearch.core.policy import Policy, Scoring, Stop
from eesearch.core.registry import EXPORTERS
from eesearch.exporters.formats import near_threshold
from eesearch.nets.exitnet import ExitNet
from eesearch.nets.heads import build_head
from eesearch.nets.inputs import NormalizeViews, Preprocessed
from eesearch.nets.split import split
from eesearch.nets.zoo import views_cnn
from tests.unit.exporters.conftest import SAMPLES, between

LIBRARIES = {"torch": "torch", "onnx": "onnxruntime", "openvino": "openvino", "executorch": "executorch.exir"}
HEADS = {"devices.0": HeadSpec(views="average", pool="mixed", size=2), "devices.1": HeadSpec(kind="mlp", hidden=(8,))}


@pytest.fixture
def chosen(make_chosen):
    """Two exits whose heads join views, and the network behind."""
    rng = np.random.default_rng(3)
    x = rng.integers(1, 17, (SAMPLES, 3, 1, 8, 8)).astype(np.uint8)
    x[rng.random(x.shape[:2]) < 0.3] = 0
    with torch.random.fork_rng():
        torch.manual_seed(0)
        cnn = views_cnn(channels=(4, 4), cloud=(8, 8), aggregate="average")
        backbone = split(Preprocessed(NormalizeViews(1 / 16, (0.3,), (0.37,)), cnn), x[:8], [*HEADS, "join"])
        heads = {(c.name, HEADS[c.name].name): build_head(HEADS[c.name], c.shape, 10) for c in backbone.cuts[:2]}
    net = ExitNet(backbone, heads).eval()
    stops = [Stop(exit=e, threshold=limit) for e, limit in zip(net.exits, (inf, inf, -inf), strict=True)]
    policy = Policy(stops=tuple(stops), criterion="max_prob")
    plain = make_chosen()
    made = replace(plain, example=torch.from_numpy(x[:2]), samples=x, scoring=Scoring(), stages=net.stages(policy))
    limits = [between(scores, 2 / 3) for scores in made.scores(x)[:2]]
    stops = [stop.model_copy(update={"threshold": t}) for stop, t in zip(stops, (*limits, -inf), strict=True)]
    policy = policy.model_copy(update={"stops": tuple(stops)})
    config = plain.config.model_copy(update={"policy": policy, "fits": {"temperature": ((1.0,),) * 3}})
    return replace(made, config=config, stages=net.stages(policy)), net


@pytest.mark.parametrize("to", LIBRARIES)
def test_formats_answer_as_the_network(chosen, tmp_path, to):
    pytest.importorskip(LIBRARIES[to])
    (chosen, net), exporter = chosen, EXPORTERS[to]
    exporter.write(chosen, tmp_path)
    answer, stop = exporter.reload(tmp_path)(chosen.samples)
    own = net.predict(chosen.samples, chosen.config.policy)
    safe = ~near_threshold(chosen, chosen.scores(chosen.samples))
    assert set(own.exit) == {0, 1, 2}
    np.testing.assert_array_equal(answer[safe], own.answer[safe])
    np.testing.assert_array_equal(stop[safe], own.exit[safe])
