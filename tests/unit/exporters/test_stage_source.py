"""Networks of many kinds as text: what the text computes is what the network computes."""

import copy
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

from eesearch.core.design import ExitId, HeadSpec
from eesearch.core.errors import ModelError
from eesearch.exporters.stage_source import stage_text
from eesearch.nets.exitnet import ExitNet
from eesearch.nets.heads import Head, build_head
from eesearch.nets.inputs import Normalize, Preprocessed
from eesearch.nets.split import split
from eesearch.nets.stages import Stage


class Odd(nn.Module):
    """Weights without a layer, sizes, devices, slices, in-place work."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.register_buffer("shift", torch.full((4, 1, 1), 0.5))
        self.scale = nn.Parameter(torch.full((4, 1, 1), 2.0))
        self.lambda_ = nn.Linear(64, 8)
        self.rectify = nn.ReLU(inplace=True)
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        y = self.rectify(self.one(x)) * self.scale - self.shift
        z = self.two(y)
        z += y
        z = torch.cat([z[:, :2], F.pad(z[:, 2:, ::2, :], (0, 0, 0, 4))], dim=1)
        grid = torch.arange(z.shape[-1], device=z.device, dtype=z.dtype)
        z = F.max_pool2d(z + grid, 2).view(z.size(0), -1)
        return self.last(torch.sigmoid(self.lambda_(z)))


class Overwrites(nn.Module):
    """Statements whose value nobody reads, in every way of writing them; and values that nobody needs."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = nn.Linear(64, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.rectify = nn.ReLU(inplace=True)
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        batch, channels = x.shape[0], x.shape[1]
        del channels
        x = self.one(x.view(batch, -1))
        x.clamp_(-0.3, 0.3)
        y = self.two(x)
        torch.relu_(y[:, :4])
        F.relu(y[:, 4:6], inplace=True)
        self.rectify(y[:, 6:])
        z = self.three(y)
        z.add_(y)
        torch.cos(z)
        return self.last(z)


class Assigns(nn.Module):
    """Writes into a part of a value, which torch.fx cannot follow."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x):
        y = self.layer(x)
        y[:, :4] = x[:, 4:]
        y[:, 5].mul_(2.0)
        return y


class Peeks(nn.Module):
    """Reads a layer's weight before it calls the layer, as transformers do for its type."""

    def __init__(self):
        super().__init__()
        self.stem, self.middle, self.last = nn.Linear(64, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = self.stem(x.flatten(1).to(self.stem.weight.dtype))
        return self.last(self.middle(x + self.middle.weight[0]).relu())


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(8, 16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.rest = nn.LSTM(16, 8, batch_first=True)
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        x = self.embed(x.squeeze(1))
        x = x + self.attention(x, x, x, need_weights=False)[0]
        x, _ = self.rest(self.layer(x))
        return self.last(x.mean(1))


class Tied(nn.Module):
    """A layer that is called twice, and a weight that two layers share."""

    def __init__(self):
        super().__init__()
        self.flat, self.first = nn.Flatten(), nn.Linear(64, 8)
        self.twice, self.other, self.last = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.other.weight = self.twice.weight

    def forward(self, x):
        x = self.twice(self.twice(self.first(self.flat(x))).relu())
        return self.last(self.other(x).relu())


class Loops(nn.Module):
    """A forward that torch.fx cannot follow, but torch.export can; it makes a constant, and looks at the mode."""

    def __init__(self):
        super().__init__()
        self.parts = nn.Linear(8, 16)

    def forward(self, x):
        total = sum(
            part * weight for part, weight in zip(self.parts(x).chunk(2, -1), torch.tensor([1.0, 2.0]), strict=True)
        )
        return F.dropout(total, 0.5, self.training)


class Chooses(nn.Module):
    """A forward that depends on values: nobody can write it down."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x):
        return self.layer(x) if x.sum() > 0 else x


def perceptron(middle):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), middle, nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))


MODELS = {
    "odd": (Odd, ["one", "two"]),
    "attending": (Attending, ["embed", "layer"]),
    "overwrites": (Overwrites, ["one", "three"]),
    "assigns": (lambda: perceptron(Assigns()), ["1", "4"]),
    "peeks": (Peeks, ["stem", "middle"]),
    "tied": (Tied, ["first", "other"]),
    "loops": (lambda: perceptron(Loops()), ["1", "4"]),
    "normed": (lambda: perceptron(parametrizations.weight_norm(nn.Linear(8, 8))), ["1", "4"]),
}


@pytest.fixture(scope="module")
def x():
    return torch.randint(0, 17, (9, 1, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def network(model, cuts, x):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = split(Preprocessed(Normalize(1 / 16, (0.3,), (0.4,)), model()), x, cuts)
        spec = HeadSpec(kind="linear", pool="mixed", size=2)
        heads = {(cut.name, spec.name): build_head(spec, cut.shape, 3) for cut in backbone.cuts}
        return ExitNet(backbone, heads).eval()


def stages_of(net):
    """All exits, one stage each."""
    ends = [0, *(tap + 1 for tap in net.taps), len(net.backbone.segments)]
    return [
        Stage(net.backbone.span(a, b), head, e, 0.0)
        for a, b, head, e in zip(ends[:-1], ends[1:], [*net.heads, None], net.exits, strict=True)
    ]


def rebuilt(stages, x):
    """The stages from their text, with the network's tensors."""
    made, carry = [], (x[:2],)
    for number, stage in enumerate(stages):
        text = stage_text(stage, carry, number, is_last=number == len(stages) - 1)
        scope = {"torch": torch, "nn": nn, "F": F}
        exec("\n".join(text.lines), scope)
        module = scope[f"Stage{number}"]().eval()
        module.load_state_dict(text.tensors)
        made.append((module, "\n".join(text.lines)))
        carry = stage.run(carry)[0]
    return made


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_text_computes_what_the_network_computes(name, x):
    net = network(*MODELS[name], x)
    made = rebuilt(stages_of(net), x)
    for samples in (x, x[:1]):
        carry = (samples,)
        with torch.no_grad():
            for (module, _), expected in zip(made, net(samples), strict=True):
                carry, logits = module(*carry)
                torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-6)
        assert carry == ()


def test_it_reads_as_a_person_writes(x):
    net = network(*MODELS["tied"], x)
    (_, text), *_ = rebuilt(stages_of(net), x)
    assert "self.first = nn.Linear(64, 8)" in text
    assert "x = self.first(x)  # [N, 8]" in text
    assert "# the head linear-mixed2" in text
    assert "torch.ops" not in text


def test_statements_stand_alone_and_what_nobody_needs_is_left_out(x):
    text = "\n".join(text for _, text in rebuilt(stages_of(network(*MODELS["overwrites"], x)), x))
    assert re.search(r"^ +\w\.clamp_\(-0\.3, 0\.3\)$", text, re.M)
    assert "cos" not in text
    assert "shape[1]" not in text


def test_it_tells_what_was_written_out(x):
    made = rebuilt(stages_of(network(*MODELS["loops"], x)), x)
    assert ["# written out as in eval mode, without dropout: 3" in text for _, text in made] == [False, True, False]


def test_a_tied_weight_is_one_tensor(x):
    stages = stages_of(network(*MODELS["tied"], x))
    text = stage_text(stages[1], stages[0].run((x[:2],))[0], 1, is_last=False)
    assert text.tensors["twice.weight"] is text.tensors["other.weight"]
    assert "\n".join(text.lines).count("self.twice = ") == 1


def test_the_network_stays_as_it_is(x):
    net = network(*MODELS["loops"], x)
    before = copy.deepcopy(net.state_dict())
    modules = [str(module) for module in net.modules()]
    rebuilt(stages_of(net), x)
    assert [str(module) for module in net.modules()] == modules
    assert net.state_dict().keys() == before.keys()


def test_what_nobody_can_follow_is_refused_by_name(x):
    with pytest.raises(ModelError, match=r"'3' cannot be written as plain PyTorch.*Chooses.*--to onnx"):
        rebuilt(stages_of(network(lambda: perceptron(Chooses()), ["1", "4"], x)), x)


@pytest.mark.parametrize("kind", ["logistic", "svm", "tree", "boosting"])
def test_fitted_heads(kind, x):
    net = network(*MODELS["tied"], x)
    head = build_head(HeadSpec(kind=kind, depth=2, rounds=2), net.backbone.cuts[0].shape, 3).eval()
    stage = Stage(net.backbone.span(0, 1), head, net.exits[0], 0.0)
    samples = torch.randint(0, 17, (60, 1, 8, 8), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    with torch.no_grad():
        hidden = stage.segment(samples)[0]
        head.body.fit(hidden, (hidden[:, 0] > hidden[:, 0].median()).long() + (hidden[:, 1] > 0), 0)
        ((module, text),) = rebuilt([stage], x)
        assert torch.equal(module(samples)[1], head(hidden))
    assert "torch.ops" not in text


class Picky(nn.Module):
    """A body that torch.fx cannot follow."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 6)

    def forward(self, hidden):
        return sum(self.layer(hidden).chunk(2, -1))


def test_heads_of_others(x):
    hidden = torch.randn(9, 8)
    net = network(lambda: perceptron(nn.Identity()), ["1"], x)
    head = Head(HeadSpec(kind="linear"), (8,), Picky()).eval()
    stage = Stage(net.backbone.span(0, 1), head, ExitId(network="", cut="1", head="picky"), 0.0)
    ((module, text),) = rebuilt([stage], x)
    with torch.no_grad():
        torch.testing.assert_close(module(x)[1], stage.run((x,))[1])
    assert "self.head_layer_weight" in text
    assert hidden.shape == (9, 8)
