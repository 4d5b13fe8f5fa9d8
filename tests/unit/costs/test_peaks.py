"""Bytes of activations, against counts by hand; a float takes 4."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from eesearch.core.design import HeadSpec
from eesearch.costs.counting import count_parts
from eesearch.costs.peaks import peak_bytes, tensor_bytes
from eesearch.nets.split import split

X = torch.ones(1, 10)


class Chain(nn.Module):
    def __init__(self, *widths, inplace=False):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.inplace = inplace

    def forward(self, x):
        for layer in self.layers:
            x = F.relu(layer(x), inplace=self.inplace)
        return x


def test_what_is_alive_at_once_counts():
    assert peak_bytes(Chain(10, 100, 20), (X,)) == 4 * (10 + 100 + 100)  # both sides of a ReLU
    assert peak_bytes(Chain(10, 100, 20, inplace=True), (X,)) == 4 * (10 + 100 + 20)
    assert peak_bytes(Chain(10, 10, 10, 10, 10, inplace=True), (X,)) == 4 * (10 + 10 + 10)


def test_views_count_once_and_weights_not_at_all():
    class Views(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.ones(1000))

        def forward(self, x):
            return x.view(5, 2), x.t(), self.bias[:10], x[:, :3]

    assert peak_bytes(Views(), (X,)) == 4 * 10


def test_the_inputs_stay_alive():
    class First(nn.Module):
        def forward(self, x, *others):
            return x

    assert peak_bytes(First(), (X, X, torch.ones(2, 10))) == 4 * 30


def test_nothing_is_left_behind():
    module = Chain(10, 100, 20)
    assert peak_bytes(module, (X,)) == peak_bytes(module, (X,))
    assert all(p.grad is None for p in module.parameters())


def test_tensors_count_their_own_elements():
    assert tensor_bytes([torch.ones(3, 100)[:, :5], torch.ones(2, dtype=torch.int64)]) == 3 * 5 * 4 + 16


class Skipping(nn.Module):
    """What the stem gives is read again at the end: the carry at `b` has two tensors."""

    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b, self.out = nn.Linear(10, 30), nn.Linear(30, 50), nn.ReLU(), nn.Linear(50, 30)
        self.last = nn.Linear(30, 3)

    def forward(self, x):
        first = self.stem(x)
        return self.last(self.out(self.b(self.a(first))) + first)


def test_segments_heads_and_carries_of_a_network():
    backbone = split(Skipping().eval(), X, cuts=["stem", "b"])
    spec = HeadSpec(kind="mlp", hidden=(7,))
    counted = count_parts(backbone, {"stem": [spec], "b": [spec]})
    assert counted.carry_bytes == (40.0, 120.0, 320.0)
    assert counted.peak_segment == (160.0, 4 * (30 + 50 + 50), 4 * (50 + 30 + 30 + 30))
    head = counted.peak_head["b"][spec.name] - 320
    assert head == counted.peak_head["stem"][spec.name] - 120
    assert 4 * (7 + 3) <= head <= 4 * (7 + 7 + 3)
