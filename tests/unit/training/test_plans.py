from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from eesearch.core.design import Design, ExitSpec, HeadSpec, LossSpec, TrainSpec
from eesearch.core.errors import InputError
from eesearch.core.registry import STRATEGIES
from eesearch.nets.exitnet import ExitNet
from eesearch.nets.split import split
from eesearch.training.bank import build_heads
from eesearch.training.checkpoint import weights_hash
from eesearch.training.collect import collect
from eesearch.training.data import Split
from eesearch.training.plans import Strategy, Work, count_work, train_design


def backbone():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.2), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2)
        )
    return split(model, torch.zeros(1, 4))


def case(strategy="joint", alphas=(1.0,), seed=0, before=None, **loss):
    network = backbone()
    exits = tuple(
        ExitSpec(cut=cut.name, head=HeadSpec(), alpha=a) for cut, a in zip(network.cuts, alphas, strict=False)
    )
    design = Design(
        backbone="b",
        data="d",
        strategy=strategy,
        exits=exits,
        train=TrainSpec(epochs=2, batch_size=8, lr=0.01),
        seed=seed,
        loss=LossSpec(**loss),
        before=before,
    )
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
    work = count_work(net, design, 40)
    assert [epochs for epochs, _ in tables] == [1, 2] == list(range(1, work.epochs + 1))
    assert np.array_equal(tables[-1][1], collect(watched, samples()).logits)
    assert not np.array_equal(tables[0][1], tables[1][1])


@pytest.fixture
def registered(monkeypatch):
    """Makes strategies that only this test knows."""

    def register(strategy):
        monkeypatch.setitem(STRATEGIES._entries, strategy.name, strategy)
        return strategy

    return register


def test_epochs_are_counted_over_all_phases(registered):
    registered(Strategy("twice", lambda net, asked: 2 * STRATEGIES["joint"].phases(net, asked)))
    net, design = case("twice")
    told = []
    train_design(net, design, samples(), after_epoch=lambda network, epochs: told.append(epochs))
    assert told == [1, 2, 3, 4]
    assert count_work(net, design, 40).epochs == 4


def test_a_phase_learns_from_what_the_phase_before_learnt_from(registered):
    seen = []

    def shifted(given, caching):
        seen.append(given.inputs[0, 0].item())
        return replace(given, inputs=given.inputs + 1.0)

    def phases(net, asked):
        (phase,) = STRATEGIES["joint"].phases(net, asked)
        return [replace(phase, inputs=shifted), replace(phase, inputs=shifted), phase]

    registered(Strategy("shifting", phases))
    train_design(*case("shifting"), samples())
    first = samples().x[0, 0]
    assert seen == pytest.approx([first, first + 1.0])


def test_a_strategy_may_finish_what_its_phases_leave(registered):
    def finish(net, asked):
        with torch.no_grad():
            net.heads[0].body[1].bias.fill_(asked.seed + 7.0)

    registered(Strategy("finishing", STRATEGIES["joint"].phases, finish=finish))
    trained = train_design(*case("finishing"), samples())
    assert (trained.heads[0].body[1].bias == 7.0).all()


class TestWork:
    """Segments that samples go through, forward and backward; the toy has two, and one exit."""

    @pytest.mark.parametrize(
        ("strategy", "options", "work"),
        [
            ("separate", {}, Work(epochs=2, last=2, samples=80, forward=160, backward=0)),
            ("joint", {}, Work(epochs=2, last=2, samples=80, forward=160, backward=160)),
            ("mixed", {}, Work(epochs=2, last=2, samples=80, forward=160, backward=160)),
            ("mixed", {"before": TrainSpec(epochs=3)}, Work(epochs=5, last=2, samples=200, forward=400, backward=400)),
            ("combined", {}, Work(epochs=2, last=2, samples=80, forward=160, backward=160)),
            ("distill", {"teacher": "final"}, Work(epochs=2, last=2, samples=80, forward=160, backward=160)),
            ("distill", {"teacher": "backbone"}, Work(epochs=2, last=2, samples=160, forward=320, backward=160)),
            ("layerwise", {}, Work(epochs=4, last=2, samples=100, forward=200, backward=160)),
            ("freezeout", {}, Work(epochs=2, last=2, samples=80, forward=160, backward=round(80 * 1.512))),
        ],
    )
    def test_is_what_the_phases_say(self, strategy, options, work):
        net, design = case(strategy, **options)
        before = weights_hash(net)
        assert count_work(net, design, 40) == work
        assert weights_hash(net) == before

    def test_is_shared_among_the_epochs(self):
        work = Work(epochs=4, last=2, samples=80, forward=160, backward=100)
        assert work.upto(1) == Work(epochs=1, last=2, samples=20, forward=40, backward=25)
        assert work.upto(4) == work
        assert Work(0, 0, 0, 0, 0).upto(0) == Work(0, 0, 0, 0, 0)


def test_refuses_a_network_with_other_exits():
    net, design = case()
    other = design.model_copy(update={"exits": (ExitSpec(cut="elsewhere", head=HeadSpec()),)})
    with pytest.raises(InputError, match=r"in their order; got .*linear-avg1; expected elsewhere:linear-avg1"):
        train_design(net, other, samples())
    with pytest.raises(InputError, match="at least one exit"):
        train_design(net, design.model_copy(update={"exits": ()}), samples())
