"""What nodes do beside giving a value."""

import operator

import torch
import torch.nn.functional as F
from torch import fx, nn

from eesearch.nets.effects import dead_nodes


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.ReLU(inplace=True)

    def forward(self, x):
        y = x * 2
        y.view(-1).clamp_(0)
        torch.relu_(y[:1])
        F.relu(y, inplace=True)
        torch.add(y, 1, out=y)
        self.layer(y)
        y.cos().sin()
        y.__abs__()
        F.relu(y)
        return y


def test_what_overwrites_something_is_not_dead_and_neither_is_what_it_reads():
    dead = {node.name for node in dead_nodes(fx.symbolic_trace(Mixed()).graph)}
    assert dead == {"cos", "sin", "abs_1", "relu_1"}


@fx.wrap
def foreign(t):
    t.mul_(0.5)


class Foreign(nn.Module):
    def forward(self, x):
        y = x * 2
        foreign(y)
        y.__iadd__(1.0)
        y.__add__(1.0)
        operator.add(y, 1)
        return y


def test_nobody_knows_what_functions_of_others_overwrite():
    graph = fx.symbolic_trace(Foreign()).graph
    dead = {str(getattr(node.target, "__name__", node.target)) for node in dead_nodes(graph)}
    assert dead == {"add"}


def test_operations_are_known_by_their_schema():
    class Assigns(nn.Module):
        def forward(self, x):
            y = x * 2
            y[:, 0] = 1.0
            y.cos()
            return y

    graph = torch.export.export(Assigns(), (torch.zeros(2, 3),)).graph
    assert {str(node.target) for node in dead_nodes(graph)} == {"aten.cos.default"}
