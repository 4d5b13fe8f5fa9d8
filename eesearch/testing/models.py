"""What every network that can be split does; and the families of networks that are known to."""

from __future__ import annotations

from functools import cached_property
from math import inf

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eesearch.core.design import HeadSpec
from eesearch.core.policy import Policy, Scoring, Stop
from eesearch.costs.macs import count_macs
from eesearch.exits.routing import path_outputs, route
from eesearch.nets.adapters import speaking
from eesearch.nets.exitnet import ExitNet
from eesearch.nets.heads import build_head
from eesearch.nets.split import Backbone, split
from eesearch.testing.seeds import seeded
from eesearch.training.collect import collect
from eesearch.training.data import Split

_HEADS = {"map": HeadSpec(), "views": HeadSpec(), "vector": HeadSpec(), "tokens": HeadSpec()}
_LAST = HeadSpec(pool="last")


class ModelContract:
    """What `split` and all behind it promise of a network.

    A test class gives the network and a batch:

        class TestMine(ModelContract):
            def build(self):
                return MyNetwork(classes=10), torch.rand(4, 3, 64, 64)

    Attributes:
        fewest: Cuts that it must have.
    """

    fewest: int = 3

    def build(self) -> tuple[nn.Module, Tensor]:
        """The network, with any weights, and at least three raw samples [N, ...]."""
        raise NotImplementedError

    @cached_property
    def _built(self) -> tuple[nn.Module, Tensor, Backbone]:
        with seeded(0):
            model, x = self.build()
            return model.eval(), x, split(model, x, check_gradients=True)

    def test_the_chain_is_the_model(self) -> None:
        """Logits and gradients are proved by `split`; there are cuts enough."""
        model, x, backbone = self._built
        assert len(backbone.cuts) >= self.fewest
        with torch.no_grad():
            torch.testing.assert_close(backbone(x), speaking(model)(x), rtol=1e-4, atol=1e-5)

    def test_multiply_adds_of_the_segments_are_those_of_the_model(self) -> None:
        """Nothing is counted twice, and nothing is lost."""
        model, x, backbone = self._built
        carry, total = backbone.start(x[:1]), 0.0
        for segment in backbone.segments:
            total += count_macs(segment, carry)
            with torch.no_grad():
                carry = segment(*carry)
        assert total == count_macs(speaking(model), (x[:1],)) > 0

    def test_heads_learn_and_conditional_execution_equals_the_table(self) -> None:
        """Each of three heads takes a step; the network that stops is what its table says."""
        _, x, backbone = self._built
        net = self._with_heads(backbone)
        labels = torch.arange(len(x)) % backbone.classes
        before = [parameter.detach().clone() for parameter in net.heads.parameters()]
        optimizer = torch.optim.SGD(net.heads.parameters(), lr=0.1)
        loss = sum((F.cross_entropy(logits, labels) for logits in net(x)[:-1]), torch.zeros(()))
        loss.backward()
        optimizer.step()
        moved = [not torch.equal(a, b) for a, b in zip(before, net.heads.parameters(), strict=True)]
        assert torch.isfinite(loss)
        assert all(moved)
        self._compare(net.eval(), x, labels)

    def _with_heads(self, backbone: Backbone) -> ExitNet:
        """A head at three cuts, evenly spread."""
        chosen = np.linspace(0, len(backbone.cuts) - 1, min(3, len(backbone.cuts))).round().astype(int)
        heads = {}
        with seeded(1):
            for cut in (backbone.cuts[k] for k in chosen):
                spec = _LAST if cut.kind == "sequence" else _HEADS[cut.kind]
                heads[cut.name, spec.name] = build_head(spec, cut.shape, backbone.classes)
        return ExitNet(backbone, heads)

    def _compare(self, net: ExitNet, x: Tensor, labels: Tensor) -> None:
        table = collect(net, Split("test", x.numpy(), labels.numpy()))
        scoring, rows = Scoring("max_prob"), list(range(len(table.exits)))
        scores, _ = path_outputs(table, rows, scoring)
        middle = [(float(np.sort(row)[len(x) // 2 - 1]) + float(np.sort(row)[len(x) // 2])) / 2 for row in scores]
        thresholds = [*middle[:-1], -inf]
        stops = tuple(Stop(exit=e, threshold=t) for e, t in zip(table.exits, thresholds, strict=True))
        left = route(scores, thresholds)
        assert len(set(left.tolist())) > 1, "some leave early and some do not"
        predicted = net.predict(x, Policy(stops=stops, criterion="max_prob"))
        sure = (np.abs(scores - np.array(thresholds)[:, None]) > 1e-5).all(0)
        np.testing.assert_array_equal(predicted.exit[sure], left[sure])
        first, second = np.moveaxis(-np.partition(-table.logits, 1, axis=-1)[..., :2], -1, 0)  # [E, N]
        sure &= first[left, np.arange(len(x))] - second[left, np.arange(len(x))] > 1e-5
        answers = table.logits.argmax(-1)[left, np.arange(len(x))]
        np.testing.assert_array_equal(predicted.answer[sure], answers[sure])
