from math import inf, nan

import numpy as np
import pytest
import torch

from eesearch.core.design import HeadSpec
from eesearch.core.errors import PolicyError
from eesearch.core.policy import Policy, Stop
from eesearch.nets.exitnet import ExitNet
from eesearch.nets.heads import build_head
from eesearch.nets.split import split
from eesearch.nets.zoo import mlp
from eesearch.study.deployed import Deployed


@pytest.fixture
def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = split(mlp(features=6, hidden=[8, 8, 8], classes=3), torch.randn(2, 6))
        cuts = backbone.cuts[:2]
        heads = {(cut.name, "linear-avg1"): build_head(HeadSpec(), cut.shape, 3) for cut in cuts}
    return ExitNet(backbone, heads).train()


@pytest.fixture
def x():
    return torch.randn(64, 6, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def model(net):
    stops = [Stop(exit=e, threshold=t) for e, t in zip(net.exits, (0.45, 0.45, -inf), strict=True)]
    return Deployed(net, Policy(stops=tuple(stops), criterion="max_prob"))


def test_it_is_a_module_in_eval_mode_that_gives_the_logits_of_every_stage(model, net, x):
    assert isinstance(model, torch.nn.Module)
    assert not any(module.training for module in model.modules())
    for said, own in zip(model(x), net(x), strict=True):
        torch.testing.assert_close(said, own)
    model(x)[0].sum().backward()
    assert next(net.heads[0].parameters()).grad is not None


def test_it_answers_as_the_network_does_and_later_stages_see_only_who_goes_on(model, net, x):
    seen = []
    last = [m for m in model.stages[-1].segment.modules() if isinstance(m, torch.nn.Linear)][-1]
    last.register_forward_hook(lambda module, args, out: seen.append(len(args[0])))
    prediction = model.predict(x)
    assert 0 < (prediction.exit == 2).sum() < 64
    assert seen == [(prediction.exit == 2).sum()]
    expected = net.predict(x, model.policy)
    np.testing.assert_array_equal(prediction.answer, expected.answer)
    np.testing.assert_array_equal(model.predict(x.numpy()).answer, expected.answer)


def test_thresholds_may_be_changed(model, x):
    assert model.thresholds == (0.45, 0.45, -inf)
    model.thresholds = [inf, 0.0, -inf]
    assert set(model.predict(x).exit) == {1}
    assert [stage.threshold for stage in model.stages] == [inf, 0.0, -inf]


@pytest.mark.parametrize("wrong", [[0.5, -inf], [0.5, 0.5, 0.5], [0.5, nan, -inf], []])
def test_thresholds_that_do_not_fit_are_refused(model, wrong):
    with pytest.raises(PolicyError, match="do not fit the policy"):
        model.thresholds = wrong
    assert model.thresholds == (0.45, 0.45, -inf)


def test_it_says_where_it_stops(model):
    assert "at 0.45" in model.extra_repr()
    assert "output at -inf" in model.extra_repr()
