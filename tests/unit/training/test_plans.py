import numpy as np
import pytest
import torch
from torch import nn

from eesearch.core.design import Design, ExitSpec, HeadSpec, TrainSpec
from eesearch.core.errors import InputError
from eesearch.core.registry import STRATEGIES
from eesearch.nets.exitnet import ExitNet
from eesearch.nets.split import split
from eesearch.training.bank import build_heads
from eesearch.training.checkpoint import weights_hash
from eesearch.training.collect import collect
from eesearch.training.data import Split
from eesearch.training.plans import Strategy, count_epochs, train_design


def backbone():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.2), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2)
        )
    return split(model, torch.zeros(1, 4))


def case(strategy="joint", alphas=(1.0,), seed=0):
    network = backbone()
    exits = tuple(
        ExitSpec(cut=cut.name, head=HeadSpec(), alpha=a) for cut, a in zip(network.cuts, alphas, strict=False)
    )
    train = TrainSpec(epochs=2, batch_size=8, lr=0.01)
    design = Design(backbone="b", data="d", strategy=strategy, exits=exits, train=train, seed=seed)
    return ExitNet(network, build_heads(network, exits, 0)), design


def samples():
    x = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    return Split("train", x, (x[:, 0] > 0).astype(np.int64))


def test_joint_follows_its_alphas():
    net, design = case(alphas=(0.0,))
    alone = train_design(net, design, samples())
    assert weights_hash(alone.heads) == weights_hash(net.heads)  # its loss has no weight
    assert weights_hash(alone.backbone) != weights_hash(net.backbone)
    other = train_design(*case(alphas=(5.0,)), samples())
    assert weights_hash(other.backbone) != weights_hash(alone.backbone)


def test_the_network_is_named_after_what_it_became():
    net, design = case()
    trained = train_design(net, design, samples())
    assert trained.network == trained.backbone.key != net.network
    frozen = train_design(*case("separate"), samples())
    assert frozen.network == net.network


def test_epochs_are_told_with_the_network_as_it_is_and_looking_changes_nothing():
    net, design = case()
    tables = []

    def look(network, epochs):
        tables.append((epochs, collect(network, samples()).logits))
        assert network.backbone.training, "the modes are those of the training again"

    watched = train_design(net, design, samples(), after_epoch=look)
    assert weights_hash(watched) == weights_hash(train_design(net, design, samples()))
    assert [epochs for epochs, _ in tables] == [1, 2] == list(range(1, count_epochs(design) + 1))
    assert np.array_equal(tables[-1][1], collect(watched, samples()).logits)
    assert not np.array_equal(tables[0][1], tables[1][1])


def test_epochs_are_counted_over_all_phases(monkeypatch):
    net, design = case()
    twice = Strategy("twice", True, lambda asked: 2 * STRATEGIES["joint"].phases(asked))
    monkeypatch.setattr("eesearch.training.plans.STRATEGIES", {"joint": twice})
    told = []
    train_design(net, design, samples(), after_epoch=lambda network, epochs: told.append(epochs))
    assert told == [1, 2, 3, 4]
    assert count_epochs(design) == 4


def test_alpha_counts_where_it_matters():
    assert [STRATEGIES[name].uses_alpha for name in ("separate", "joint")] == [False, True]


def test_refuses_a_network_with_other_exits():
    net, design = case()
    other = design.model_copy(update={"exits": (ExitSpec(cut="elsewhere", head=HeadSpec()),)})
    with pytest.raises(InputError, match=r"in their order; got .*linear-avg1; expected elsewhere:linear-avg1"):
        train_design(net, other, samples())
    with pytest.raises(InputError, match="at least one exit"):
        train_design(net, design.model_copy(update={"exits": ()}), samples())
