"""What every registered strategy must do."""

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
from eesearch.training.checkpoint import Checkpoint, weights_hash
from eesearch.training.collect import collect
from eesearch.training.data import Split
from eesearch.training.plans import train_design

CLASSES = 3


class Killed(Exception):
    """Stands for SIGKILL."""


def toy_data(n=120):
    """Three well separated clusters."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % CLASSES
    x = rng.normal(size=(n, 4)) * 0.3
    x[np.arange(n), y] += 2.0
    return Split("train", x.astype(np.float32), y.astype(np.int64))


def toy_case(strategy, *, epochs=15, lr=0.02, seed=0):
    """A network with normalisation, dropout and an exit at each cut, and its design."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            *(nn.Linear(4, 12), nn.BatchNorm1d(12), nn.ReLU()),
            *(nn.Linear(12, 12), nn.Dropout(0.1), nn.ReLU()),
            *(nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, CLASSES)),
        )
    backbone = split(model, torch.zeros(1, 4))
    exits = tuple(ExitSpec(cut=cut.name, head=HeadSpec(), alpha=0.5) for cut in backbone.cuts)
    train = TrainSpec(epochs=epochs, batch_size=16, lr=lr)
    design = Design(backbone=backbone.key, data="toy", strategy=strategy, exits=exits, train=train, seed=seed)
    return ExitNet(backbone, build_heads(backbone, exits, seed)), design


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
class TestStrategyContract:
    def test_is_registered_under_its_name(self, strategy):
        assert STRATEGIES[strategy].name == strategy

    def test_learns_every_exit(self, strategy):
        net, design = toy_case(strategy)
        data = toy_data()
        before = collect(net, data).accuracy
        after = collect(train_design(net, design, data), data).accuracy
        assert (after[:-1] > 0.95).all()
        assert (before[:-1] < 0.95).all()
        assert after[-1] >= before[-1]

    def test_leaves_its_input_and_what_is_frozen_bit_identical(self, strategy):
        net, design = toy_case(strategy, epochs=1)
        before = weights_hash(net)
        learning = [net.get_submodule(part) for phase in STRATEGIES[strategy].phases(design) for part in phase.learns]
        learns = {id(tensor) for module in learning for tensor in module.state_dict(keep_vars=True).values()}
        frozen = [name for name, tensor in net.state_dict(keep_vars=True).items() if id(tensor) not in learns]
        trained = train_design(net, design, toy_data())
        assert weights_hash(net) == before
        assert weights_hash(trained) != before
        old, new = net.state_dict(), trained.state_dict()
        assert all(torch.equal(old[name], new[name]) for name in frozen)
        assert not any(module.training for module in trained.modules())
        assert all(p.requires_grad and p.grad is None for p in trained.parameters())

    def test_killed_and_resumed_is_uninterrupted(self, strategy, tmp_path):
        net, design = toy_case(strategy, epochs=4)
        data, events = toy_data(), []
        whole = train_design(net, design, data, progress=lambda *event: events.append(event))
        checkpoint = Checkpoint(tmp_path / "run.pt")
        for stop in (1, len(events) // 2, len(events) - 1):
            left = [stop]

            def kill(*event, left=left):
                left[0] -= 1
                if left[0] < 0:
                    raise Killed

            with pytest.raises(Killed):
                train_design(net, design, data, checkpoint=checkpoint, progress=kill)
            resumed = train_design(net, design, data, checkpoint=checkpoint)
            assert weights_hash(resumed) == weights_hash(whole)
            assert resumed.network == whole.network
            for file in tmp_path.iterdir():
                file.unlink()

    def test_the_seed_decides(self, strategy):
        data = toy_data()
        net, design = toy_case(strategy, epochs=1)
        first, again = (weights_hash(train_design(net, design, data)) for _ in range(2))
        other = weights_hash(train_design(net, design.model_copy(update={"seed": 1}), data))
        assert first == again != other

    def test_reports_progress_to_the_end(self, strategy):
        net, design = toy_case(strategy, epochs=2)
        told = []
        train_design(net, design, toy_data(), progress=lambda *event: told.append(event))
        phases = STRATEGIES[strategy].phases(design)
        assert list(dict.fromkeys(label for label, _, _ in told)) == [phase.label for phase in phases]
        for phase in phases:
            done = [(d, total) for label, d, total in told if label == phase.label]
            assert done == [(d, len(done)) for d in range(1, len(done) + 1)]

    def test_refuses_exits_that_are_not_the_networks(self, strategy):
        net, design = toy_case(strategy)
        for exits in ((), design.exits[:1], design.exits[::-1]):
            with pytest.raises(InputError, match="does not carry the exits"):
                train_design(net, design.model_copy(update={"exits": exits}), toy_data())

    def test_refuses_impossible_weights_if_it_uses_them(self, strategy):
        net, design = toy_case(strategy, epochs=0)
        wrong = tuple(e.model_copy(update={"alpha": -1.0}) for e in design.exits)
        design = design.model_copy(update={"exits": wrong})
        if STRATEGIES[strategy].uses_alpha:
            with pytest.raises(InputError, match="alpha"):
                train_design(net, design, toy_data())
        else:
            assert weights_hash(train_design(net, design, toy_data())) == weights_hash(net)
