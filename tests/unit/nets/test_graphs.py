"""Pieces cut out of one ONNX graph compute what the segments compute."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from eesearch.core.design import HeadSpec
from eesearch.core.errors import ModelError
from eesearch.nets import graphs
from eesearch.nets.graphs import NetworkGraph, Piece
from eesearch.nets.heads import build_head
from eesearch.nets.split import split


class Skipping(nn.Module):
    """The second block reads what the first one read: its carry has two tensors."""

    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()
        self.c, self.out = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 3)

    def forward(self, x):
        first = self.stem(x)
        hidden = self.b(self.a(first))
        return self.out((self.c(hidden) + first).mean((2, 3)))


class Tail(nn.Module):
    """A head, as a tail of a carry."""

    def __init__(self, shape):
        super().__init__()
        self.head = build_head(HeadSpec(), shape, 3)

    def forward(self, *carry):
        logits = self.head(carry[0])
        return logits, logits.argmax(-1)


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = split(Skipping().eval(), torch.ones(1, 1, 6, 6), cuts=["stem", "b"])
        return backbone, Tail(backbone.cuts[1].shape).eval(), NetworkGraph(backbone)


def ran(model, inputs):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    made = session.run(None, {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)})
    return names, [value.name for value in session.get_outputs()], made


@pytest.mark.parametrize(("first", "last"), [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)])
@pytest.mark.parametrize("alone", [False, True])
def test_a_piece_gives_what_the_segments_give(network, first, last, alone, monkeypatch):
    backbone, tail, graph = network
    if alone:
        monkeypatch.setitem(graph.__dict__, "_whole", None)
    tail = tail if last == 2 else None
    piece = graph.piece(first, last, tail)
    for samples in (1, 5):
        x = torch.randn(samples, 1, 6, 6, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            carry = backbone.run((x,), 0, first)
            expected = Piece(backbone, first, last, tail)(*carry)
        names, outputs, made = ran(piece, carry)
        assert names == (["x"] if first == 0 else [f"carry_{i}" for i in range(len(carry))])
        following = len(expected) - (2 if tail else 0)
        assert outputs == [f"next_{i}" for i in range(following)] + (["tail_0", "tail_1"] if tail else [])
        for ours, theirs in zip(made, expected, strict=True):
            np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-5, atol=1e-5)


def test_the_network_is_exported_once(monkeypatch):
    backbone = split(Skipping().eval(), torch.ones(1, 1, 6, 6), cuts=["stem", "b"])
    exported = []
    export = graphs.export_onnx

    def counting(*given, what):
        exported.append(what)
        return export(*given, what=what)

    monkeypatch.setattr(graphs, "export_onnx", counting)
    graph, tail = NetworkGraph(backbone), Tail(backbone.cuts[1].shape).eval()
    for first, last, behind in ((0, 1, None), (0, 2, tail), (1, 2, tail), (0, 3, None)):
        graph.piece(first, last, behind)
    assert exported == ["the network", "a head"]


def test_a_network_that_cannot_be_exported_as_a_whole_is_taken_piece_by_piece(network, monkeypatch):
    backbone, tail, _ = network
    export = graphs.export_onnx

    def refusing(*given, what):
        if what == "the network":
            raise ModelError("not as a whole")
        return export(*given, what=what)

    monkeypatch.setattr(graphs, "export_onnx", refusing)
    x = torch.ones(2, 1, 6, 6)
    with torch.no_grad():
        expected = Piece(backbone, 0, 2, tail)(x)
    _, outputs, made = ran(NetworkGraph(backbone).piece(0, 2, tail), (x,))
    assert outputs == ["next_0", "next_1", "tail_0", "tail_1"]
    np.testing.assert_allclose(made[2], expected[2].numpy(), rtol=1e-5, atol=1e-5)
