"""Networks that work in place: what travels over a cut, and the user's samples, are never overwritten."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from eesearch.core.errors import SplitError
from eesearch.nets.split import split


class Works(nn.Module):
    """A convolution, something in place, another convolution, a classifier."""

    def __init__(self, work):
        super().__init__()
        self.work = work
        self.a, self.b, self.c = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1), nn.Linear(32, 3)
        self.relu, self.drop = nn.ReLU(inplace=True), nn.Dropout(0.5, inplace=True)

    def forward(self, x):
        return self.c(F.relu(self.b(self.work(self, self.a(x)))).flatten(1))


class Halved(nn.Module):
    """Kept whole: its forward looks at values."""

    def forward(self, x):
        return x.mul_(0.5) if x.numel() else x


def statement(net, h):
    h.add_(1.0)
    return h


def through_a_view(net, h):
    h[:, 0].fill_(3.0)
    return h


def shortcut(net, h):
    return net.relu(h) + h


WORK = {
    "statement": statement,
    "assigned": lambda net, h: h.mul_(2.0).add_(1.0),
    "operator": lambda net, h: h.__imul__(2.0),
    "function": lambda net, h: torch.relu_(h),
    "view": through_a_view,
    "module on a view": lambda net, h: net.relu(h.flatten(2)).unflatten(2, (4, 4)),
    "shortcut": shortcut,
}


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def overwritten(backbone, x):
    """Whether the second segment writes on what the first has made."""
    carry = backbone.run(backbone.start(x), 0, 1)
    before = [tensor.clone() for tensor in carry]
    backbone.run(carry, 1, 2)
    return not all(torch.equal(*pair) for pair in zip(carry, before, strict=True))


@pytest.mark.parametrize("work", WORK.values(), ids=WORK)
def test_what_heads_read_is_not_overwritten_and_answers_stay(work):
    model, x = Works(work).eval(), torch.randn(3, 1, 4, 4)
    backbone = split(model, x, ["a"], check_gradients=True)
    with torch.no_grad():
        assert not overwritten(backbone, x)
        torch.testing.assert_close(backbone(x), model(x))
        torch.testing.assert_close(backbone.run((x,), 0, 1)[0], model.a(x))


@pytest.mark.parametrize("work", WORK.values(), ids=WORK)
def test_a_head_and_the_network_learn_together(work):
    backbone, head = split(Works(work), torch.randn(3, 1, 4, 4), ["a"]).train(), nn.Linear(32, 3)
    carry = backbone.run((torch.randn(3, 1, 4, 4),), 0, 1)
    early = head(carry[0].flatten(1))
    late = backbone.output(backbone.run(carry, 1, 2))
    (early.square().sum() + late.sum()).backward()  # torch would say that a value it needs was overwritten
    assert head.weight.grad.abs().sum() > 0


def test_what_is_in_place_in_training_mode_alone_is_seen_too():
    model = Works(lambda net, h: net.drop(h.flatten(2)).unflatten(2, (4, 4)))
    backbone, x = split(model, torch.randn(3, 1, 4, 4), ["a"]), torch.randn(3, 1, 4, 4)
    assert not any(module.training for module in backbone.modules())
    with torch.no_grad():
        assert not overwritten(backbone.train(), x)


def test_so_is_what_a_module_that_is_kept_whole_does():
    model = nn.Sequential(nn.Linear(4, 4), Halved(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        assert not overwritten(split(model, torch.randn(3, 4), ["0"]), torch.randn(3, 4))


def test_the_user_s_samples_stay_as_they_are():
    model, x = nn.Sequential(Halved(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)), torch.randn(3, 4)
    before = x.clone()
    backbone = split(model, x, ["1"], check_gradients=True)
    with torch.no_grad():
        logits = backbone(x)
        assert torch.equal(x, before)
        assert torch.equal(logits, model(x.clone()))


def test_statistics_of_normalisations_stay_as_they_are():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(inplace=True), nn.Linear(4, 4), nn.Linear(4, 2))
    state = split(model, torch.randn(3, 4), ["0"]).original_state()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_assignment_to_a_part_of_a_tensor_is_refused_in_the_networks_own_forward():
    def blank(net, h):
        h[:, 0] = 0.0
        return h

    with pytest.raises(SplitError) as caught:
        split(Works(blank), torch.randn(3, 1, 4, 4))
    assert str(caught.value) == (
        "cannot split Works: its own forward cannot be traced; got TypeError: 'Proxy' object does not support item "
        "assignment; expected a forward without control flow that depends on values, or assignment to parts of them. "
        "Move such code into a submodule (it is kept whole then), or write the model as nn.Sequential of its blocks."
    )
