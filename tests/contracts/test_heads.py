"""Every registered head keeps the contract."""

import torch

from eesearch.core.design import HeadSpec
from eesearch.core.registry import HEADS
from eesearch.nets.heads import build_head
from eesearch.testing import FittedHeadContract, HeadContract


class TestLinear(HeadContract):
    spec = HeadSpec(kind="linear")
    cut_shape = (6, 5, 5)
    refused = (
        (HeadSpec(kind="linear", pool="none"), (6, 5, 5)),
        (HeadSpec(kind="linear", size=4), (6, 3, 5)),
        (HeadSpec(kind="linear", pool="none"), (7, 6)),
        (HeadSpec(kind="linear", size=4), (3, 6)),
        (HeadSpec(kind="linear"), (7, 6, 5, 4, 3)),
    )


class TestLinearMixed(HeadContract):
    spec = HeadSpec(kind="linear", pool="mixed", size=2)
    cut_shape = (6, 5, 5)
    refused = ((HeadSpec(kind="linear", pool="mixed", size=2), (6, 1, 5)),)


class TestLinearOnVector(HeadContract):
    spec = HeadSpec(kind="linear", pool="none")
    cut_shape = (12,)
    refused = ((HeadSpec(kind="linear"), ()),)


class TestLinearOnSequence(HeadContract):
    spec = HeadSpec(kind="linear", pool="mixed", size=2)
    cut_shape = (7, 6)
    refused = ((HeadSpec(kind="linear", pool="mixed", size=2), (1, 6)),)


class TestLinearOnViews(HeadContract):
    spec = HeadSpec(kind="linear", pool="mixed", size=2, views="average")
    cut_shape = (3, 4, 5, 5)
    refused = (
        (HeadSpec(kind="linear", pool="mixed", size=2), (3, 4, 1, 5)),
        (HeadSpec(kind="linear", pool="none"), (3, 4, 5, 5)),
    )


class TestMlp(HeadContract):
    spec = HeadSpec(kind="mlp", pool="mixed", size=2, hidden=(16,))
    cut_shape = (4, 6, 6)
    refused = (
        (HeadSpec(kind="mlp"), (4, 6, 6)),
        (HeadSpec(kind="mlp", hidden=(8, 8, 8)), (4, 6, 6)),
        (HeadSpec(kind="mlp", hidden=(0,)), (4, 6, 6)),
        (HeadSpec(kind="mlp", hidden=(8,), pool="none"), (4, 6, 6)),
    )


class TestMlpTwoLayers(HeadContract):
    spec = HeadSpec(kind="mlp", hidden=(16, 12))
    cut_shape = (12,)
    refused = ((HeadSpec(kind="mlp"), (12,)),)


class TestConv(HeadContract):
    spec = HeadSpec(kind="conv", pool="none", channels=8)
    cut_shape = (4, 10, 10)
    refused = (
        (HeadSpec(kind="conv", pool="none"), (12,)),
        (HeadSpec(kind="conv", pool="none"), (7, 6)),
        (HeadSpec(kind="conv", size=2), (7, 6)),
        (HeadSpec(kind="conv"), (4, 10, 10)),
        (HeadSpec(kind="conv", pool="none"), (4, 1, 1)),
    )


class TestConvOnViews(HeadContract):
    spec = HeadSpec(kind="conv", pool="none", channels=8)
    cut_shape = (3, 4, 5, 5)
    refused = ((HeadSpec(kind="conv"), (3, 4, 5, 5)),)


class TestConvPooled(HeadContract):
    spec = HeadSpec(kind="conv", pool="mixed", size=4, channels=8)
    cut_shape = (4, 7, 7)
    refused = ((HeadSpec(kind="conv", size=4), (4, 3, 3)),)


class TestDsconv(HeadContract):
    spec = HeadSpec(kind="dsconv", pool="none", channels=8)
    cut_shape = (4, 10, 10)
    refused = ((HeadSpec(kind="dsconv"), (4, 10, 10)), (HeadSpec(kind="dsconv", pool="none"), (12,)))


class TestGated(HeadContract):
    spec = HeadSpec(kind="linear", pool="mixed", size=2, gate="linear")
    cut_shape = (6, 5, 5)
    refused = ((HeadSpec(kind="tree", gate="linear"), (6, 5, 5)), (HeadSpec(size=4, gate="linear"), (6, 3, 5)))


class TestGatedOnVector(HeadContract):
    spec = HeadSpec(kind="mlp", hidden=(16,), gate="mlp")
    cut_shape = (12,)
    refused = ((HeadSpec(kind="logistic", gate="mlp"), (12,)),)


class TestGatedOnFullMap(HeadContract):
    spec = HeadSpec(kind="conv", pool="none", channels=8, gate="mlp")
    cut_shape = (4, 10, 10)
    refused = ((HeadSpec(kind="conv", pool="none", gate="mlp"), (12,)),)


class TestGatedOnSequence(HeadContract):
    spec = HeadSpec(kind="linear", pool="mixed", size=2, gate="linear")
    cut_shape = (7, 6)
    refused = ((HeadSpec(kind="linear", pool="mixed", size=2, gate="linear"), (1, 6)),)


class TestLogistic(FittedHeadContract):
    spec = HeadSpec(kind="logistic", pool="mixed")
    cut_shape = (6, 5, 5)
    refused = ((HeadSpec(kind="logistic", pool="none"), (6, 5, 5)), (HeadSpec(kind="logistic", gate="mlp"), (12,)))


class TestSvm(FittedHeadContract):
    spec = HeadSpec(kind="svm", size=2)
    cut_shape = (7, 6)
    refused = ((HeadSpec(kind="svm", pool="none"), (7, 6)), (HeadSpec(kind="svm", gate="linear"), (12,)))


class TestTreeOnViews(FittedHeadContract):
    spec = HeadSpec(kind="tree", depth=3, views="concat")
    cut_shape = (2, 3, 5, 5)
    refused = ((HeadSpec(kind="tree", depth=3), (2, 3, 5, 5)),)


class TestTree(FittedHeadContract):
    spec = HeadSpec(kind="tree", depth=3)
    cut_shape = (12,)
    refused = ((HeadSpec(kind="tree", pool="none"), (7, 6)), (HeadSpec(kind="tree", size=4), (6, 3, 5)))


class TestBoosting(FittedHeadContract):
    spec = HeadSpec(kind="boosting", depth=2, rounds=5, size=2)
    cut_shape = (6, 5, 5)
    refused = ((HeadSpec(kind="boosting", pool="none"), (6, 5, 5)), (HeadSpec(kind="boosting", gate="mlp"), (6, 5, 5)))


class TestNone(HeadContract):
    """The one head that learns nothing: nobody is surer of a class than of others, so nobody leaves there."""

    spec = HeadSpec(kind="none", pool="none")
    cut_shape = (6, 5, 5)
    refused = ((HeadSpec(kind="none", gate="linear"), (6, 5, 5)),)

    def test_gradients_reach_every_parameter(self) -> None:
        assert not build_head(self.spec, self.cut_shape, 3).state_dict(), "there are none, and no buffers either"

    def test_learns_separable_data(self) -> None:
        assert not build_head(self.spec, self.cut_shape, 3)(torch.randn(5, *self.cut_shape)).any(), "uniform"


def test_every_built_in_head_is_here():
    contracts = {*HeadContract.__subclasses__(), *FittedHeadContract.__subclasses__()} - {FittedHeadContract}
    assert set(HEADS) == {contract.spec.kind for contract in contracts}
