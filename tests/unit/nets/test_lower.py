import pytest
import torch

from eesearch.core.design import HeadSpec
from eesearch.core.policy import Policy, Stop, decision_named
from eesearch.nets.exitnet import ExitNet
from eesearch.nets.heads import build_head
from eesearch.nets.lower import exporting, lower_stages
from eesearch.nets.split import split
from eesearch.nets.stages import route
from eesearch.nets.zoo import residual_cnn

CUTS = ["stem.2", "stages.1.0.bn1"]  # behind the second two tensors travel on


@pytest.fixture(scope="module")
def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        x = torch.randn(40, 1, 8, 8)
        backbone = split(residual_cnn(channels=(4, 8), classes=3), x, CUTS)
        heads = {(c.name, "linear-avg1"): build_head(HeadSpec(kind="linear"), c.shape, 3) for c in backbone.cuts}
        return ExitNet(backbone, heads).eval(), x


def policy(net, thresholds, criterion="max_prob"):
    stops = [Stop(exit=e, threshold=t) for e, t in zip(net.exits, thresholds, strict=True)]
    return Policy(stops=tuple(stops), criterion=criterion)


def by_tensors(lowered, x):
    """Run whole batches through all stages by name, and take what the first sure one says."""
    held = {"x": x}
    answer = torch.full((len(x),), -1)
    stop = torch.full((len(x),), len(lowered))
    for number, stage in enumerate(lowered):
        held |= dict(zip(stage.outputs, stage.module(*(held[name] for name in stage.inputs)), strict=True))
        leaves = (held["score"].double() >= stage.threshold) & (stop == len(lowered))
        answer[leaves], stop[leaves] = held["answer"][leaves], number
    return answer, stop


@pytest.mark.parametrize("decision", ["max_prob", "patience", "margin/most_confident"])
def test_lowered_stages_do_what_routing_does(net, decision):
    net, x = net
    criterion = decision_named(decision)
    parameters = {"temperature": torch.tensor([[0.1], [0.2], [0.3]])}
    thresholds = (1.5, 1.5, float("-inf")) if decision == "patience" else (0.9, 0.8, float("-inf"))
    stages = net.stages(policy(net, thresholds))
    lowered = lower_stages(stages, criterion, parameters, x[:2])
    with torch.no_grad():
        answer, stop = by_tensors(lowered, x)
        expected = route(x, stages, criterion, parameters)
    assert answer.tolist() == expected.answer.tolist()
    assert stop.tolist() == expected.exit.tolist()
    assert len(set(stop.tolist())) > 1


def test_names_tell_what_travels(net):
    net, x = net
    stages = net.stages(policy(net, (0.5, 0.5, float("-inf"))))
    parameters = {"temperature": torch.ones(3, 1)}
    last, remembering = (
        lower_stages(stages, decision_named(name), parameters, x[:2]) for name in ("max_prob", "patience")
    )
    assert [stage.inputs for stage in last] == [("x",), ("carry_0_0",), ("carry_1_0", "carry_1_1")]
    assert [stage.outputs for stage in last] == [
        ("carry_0_0", "logits_0", "answer", "score"),
        ("carry_1_0", "carry_1_1", "logits_1", "answer", "score"),
        ("logits_2", "answer", "score"),
    ]
    assert remembering[2].inputs == ("carry_1_0", "carry_1_1", "logits_0", "logits_1")
    assert all(len(stage.inputs) == len(stage.example) for stage in (*last, *remembering))


def test_exporting_keeps_the_settings():
    before = torch.backends.mha.get_fastpath_enabled()
    with exporting():
        assert not torch.backends.mha.get_fastpath_enabled()
    assert torch.backends.mha.get_fastpath_enabled() == before
