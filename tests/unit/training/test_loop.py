import math

import pytest
import torch
from torch import nn

from eesearch.core.design import TrainSpec
from eesearch.core.errors import EesearchError, InputError
from eesearch.training.checkpoint import Checkpoint, weights_hash
from eesearch.training.loop import Phase, train, train_backbone
from eesearch.training.losses import joint_loss, separate_loss
from eesearch.training.samples import Samples


class TwoExits(nn.Module):
    """A trunk with normalisation and dropout, an early head, and a last one."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.trunk = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2))
            self.heads = nn.ModuleList([nn.Linear(8, 2), nn.Linear(8, 2)])

    def forward(self, x):
        hidden = self.trunk(x)
        return [head(hidden) for head in self.heads]


def samples(seed=0, count=33):
    x = torch.randn(count, 3, generator=torch.Generator().manual_seed(0))
    return Samples(x, (x[:, 0] > 0).long(), seed)


def phase(learns=("trunk", "heads"), loss=separate_loss, rate=None, **spec):
    return Phase("learn", learns, loss, TrainSpec(**{"epochs": 3, "batch_size": 8, "lr": 0.01, **spec}), rate)


def trained(given=None, **options):
    model = TwoExits()
    train(model, given or phase(), samples(), **options)
    return model


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear"])
def test_learns_with_every_optimizer_and_schedule(optimizer, schedule):
    model = trained(phase(epochs=20, lr=0.03, optimizer=optimizer, schedule=schedule))
    data = samples()
    for logits in model(data.inputs):
        assert (logits.argmax(1) == data.labels).float().mean() > 0.9


def test_weight_decay_shrinks_what_has_no_gradient():
    alone = phase(loss=joint_loss([0.0]), optimizer="sgd", weight_decay=0.1)
    assert trained(alone).heads[0].weight.norm() < TwoExits().heads[0].weight.norm()


def test_the_seed_decides_everything():
    model = trained()
    torch.manual_seed(123)
    assert weights_hash(trained()) == weights_hash(model)
    other = TwoExits()
    train(other, phase(), samples(seed=1))
    assert weights_hash(other) != weights_hash(model)


def test_the_global_generator_is_left_alone():
    before = torch.random.get_rng_state()
    trained()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_frozen_parts_stay_bit_identical_and_flags_come_back():
    model = TwoExits()
    model.heads[0].bias.requires_grad_(False)
    flags = [p.requires_grad for p in model.parameters()]
    seen = []
    model.trunk.register_forward_hook(lambda module, *_: seen.append((module.training, model.heads.training)))
    trunk, bias = weights_hash(model.trunk), model.heads[0].bias.clone()
    train(model, phase(("heads",)), samples())
    assert weights_hash(model.trunk) == trunk
    assert torch.equal(model.heads[0].bias, bias)
    assert not torch.equal(model.heads[1].bias, TwoExits().heads[1].bias)
    assert set(seen) == {(False, True)}
    assert [p.requires_grad for p in model.parameters()] == flags
    assert not any(module.training for module in model.modules())
    assert all(p.grad is None for p in model.parameters())


def test_what_came_frozen_keeps_its_statistics_too():
    model = TwoExits()
    model.trunk[1].requires_grad_(False)
    seen = []
    model.trunk.register_forward_hook(lambda module, *_: seen.append([part.training for part in module]))
    given = weights_hash(model.trunk[1])
    train(model, phase(), samples())
    assert weights_hash(model.trunk[1]) == given
    assert not torch.equal(model.trunk[0].weight, TwoExits().trunk[0].weight)
    assert seen[0] == [True, False, True, True]
    model = TwoExits()
    model.trunk.requires_grad_(False)
    given = weights_hash(model.trunk)
    train(model, phase(), samples())
    assert weights_hash(model.trunk) == given, "statistics included"


class Sharing(nn.Module):
    """Two layers that share one dropout, as those do which call `self.drop` several times."""

    def __init__(self):
        super().__init__()
        drop = nn.Dropout(0.2)
        self.first, self.last = (nn.Sequential(nn.Linear(3, 3), drop) for _ in range(2))
        self.bare = nn.Sequential(nn.Dropout(0.2))

    def forward(self, x):
        return [self.last(self.bare(self.first(x)))]


def test_a_part_that_is_frozen_on_the_way_leaves_on_what_it_shares():
    model, seen = Sharing(), []
    model.last.register_forward_hook(lambda module, *_: seen.append((module.training, module[1].training)))
    train(model, phase(("first", "last"), rate=lambda part, step, _: float(part != "first" or step < 6)), samples())
    assert len(seen) > 6
    assert set(seen) == {(True, True)}, "dropout goes on where something learns"


def test_a_part_without_parameters_is_frozen_too():
    model, seen = Sharing(), []
    model.bare.register_forward_hook(lambda module, *_: seen.append((module.training, module[0].training)))
    parts = ("first", "bare", "last")
    train(model, phase(parts, rate=lambda part, step, _: float(part != "bare" or step < 6)), samples())
    assert len(seen) > 6
    assert seen == [(True, True)] * 6 + [(False, False)] * (len(seen) - 6)


def test_a_failing_training_restores_flags_too():
    model = TwoExits()

    def fail(logits, labels, done):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(model, phase(("heads",), loss=fail), samples())
    assert all(p.requires_grad for p in model.parameters())
    assert not model.heads.training


def test_each_part_has_a_rate_of_its_own():
    asked = []

    def rate(part, step, steps):
        asked.append((part, step, steps))
        return 0.0 if part == "trunk" else 1.0

    model = trained(phase(rate=rate, epochs=1, batch_size=16))
    fresh = TwoExits()
    assert weights_hash(model.trunk) == weights_hash(fresh.trunk), "statistics included"
    assert not torch.equal(model.heads[0].weight, fresh.heads[0].weight)
    assert asked == [("trunk", 0, 2), ("heads", 0, 2), ("trunk", 1, 2), ("heads", 1, 2)]


def rest_after(frozen_at):
    """A rate of the trunk that comes to 0 at some step."""
    return lambda part, step, steps: float(part != "trunk" or step < frozen_at)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_a_part_whose_rate_comes_to_0_is_frozen_in_the_middle_of_an_epoch(optimizer):
    """Momentum, weight decay and statistics of normalisations move it no more; dropout in it ends, too."""
    seen, model = [], TwoExits()
    given = phase(rate=rest_after(6), optimizer=optimizer, weight_decay=0.1)
    model.trunk.register_forward_hook(lambda module, *_: seen.append((module.training, weights_hash(module))))
    train(model, given, samples())
    modes, states = zip(*seen, strict=True)
    assert modes == (True,) * 6 + (False,) * 6
    assert len(set(states[:7])) == 7
    assert set(states[6:]) == {weights_hash(model.trunk)}
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("at", [4, 6, 9, 11])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_what_is_frozen_on_the_way_stays_so_after_a_kill(tmp_path, at, optimizer):
    given, checkpoint = phase(rate=rest_after(6), optimizer=optimizer), Checkpoint(tmp_path / "run.pt")
    with pytest.raises(Interrupted):
        trained(given, checkpoint=checkpoint, progress=interrupt(at))
    assert weights_hash(trained(given, checkpoint=checkpoint)) == weights_hash(trained(given))


def test_losses_are_told_which_share_of_the_steps_is_done():
    told = []

    def loss(logits, labels, done):
        told.append(done)
        return separate_loss(logits, labels, done)

    trained(phase(loss=loss, epochs=2))
    assert told == [step / 8 for step in range(8)]


def test_no_epochs_change_nothing():
    assert weights_hash(trained(phase(epochs=0))) == weights_hash(TwoExits())


def test_progress_counts_batches():
    told = []
    trained(phase(epochs=2), progress=lambda *event: told.append(event))
    assert told == [("learn", done, 8) for done in range(1, 9)]  # 33 samples: 8, 8, 8, 9


class Interrupted(Exception):
    """Stands for SIGKILL."""


def interrupt(at):
    def progress(label, done, total):
        if done == at:
            raise Interrupted

    return progress


@pytest.mark.parametrize("at", [1, 4, 6, 11])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_resumed_is_the_same_as_uninterrupted(tmp_path, at, optimizer):
    checkpoint = Checkpoint(tmp_path / "run.pt")
    given = phase(optimizer=optimizer)
    with pytest.raises(Interrupted):
        trained(given, checkpoint=checkpoint, progress=interrupt(at))
    told = []
    resumed = trained(given, checkpoint=checkpoint, progress=lambda *event: told.append(event))
    assert weights_hash(resumed) == weights_hash(trained(given))
    assert told[0] == ("learn", (at - 1) // 4 * 4 + 1, 12)


def test_a_finished_training_is_read_not_repeated(tmp_path):
    checkpoint = Checkpoint(tmp_path / "run.pt")
    first = trained(checkpoint=checkpoint)
    told = []
    again = trained(checkpoint=checkpoint, progress=lambda *event: told.append(event))
    assert told == []
    assert weights_hash(again) == weights_hash(first)


def test_the_checkpoint_of_another_training_is_ignored(tmp_path):
    checkpoint = Checkpoint(tmp_path / "run.pt")
    trained(phase(loss=joint_loss([0.0])), checkpoint=Checkpoint(checkpoint.path, "alpha 0"))
    assert weights_hash(trained(checkpoint=checkpoint)) == weights_hash(trained())
    trained(phase(lr=0.5), checkpoint=checkpoint)
    assert weights_hash(trained(checkpoint=checkpoint)) == weights_hash(trained())
    other = samples()
    changed = Samples(other.inputs + 1, other.labels)
    model, alone = TwoExits(), TwoExits()
    train(model, phase(), changed, checkpoint=checkpoint)
    train(alone, phase(), changed)
    assert weights_hash(model) == weights_hash(alone)


def test_who_looks_after_each_epoch_changes_nothing():
    seen = []

    def look(epochs):
        torch.rand(7)
        model.eval()
        seen.append((epochs, model(samples().inputs)[1].sum().item()))
        model.train()

    model = TwoExits()
    train(model, phase(), samples(), after_epoch=look)
    assert [epochs for epochs, _ in seen] == [1, 2, 3]
    assert len({value for _, value in seen}) == 3, "the model as it is, not a copy"
    assert weights_hash(model) == weights_hash(trained())


def test_a_listener_stops_the_training_and_flags_come_back(tmp_path):
    def stop(epochs):
        if epochs == 2:
            raise Interrupted

    model, checkpoint = TwoExits(), Checkpoint(tmp_path / "run.pt")
    with pytest.raises(Interrupted):
        train(model, phase(("heads",)), samples(), checkpoint=checkpoint, after_epoch=stop)
    assert all(p.requires_grad for p in model.parameters())
    told = []
    trained(phase(("heads",)), checkpoint=checkpoint, after_epoch=told.append)
    assert told == [2, 3], "an epoch is told before the checkpoint holds it, and those in the checkpoint are not told"


@pytest.mark.parametrize(("scale", "match"), [(math.nan, "a loss of nan"), (math.inf, "a loss of (nan|inf)")])
def test_divergence_is_said_clearly(scale, match):
    data = samples()
    with pytest.raises(EesearchError, match=match + r".*Lower the learning rate \(lr is 0.01\)"):
        train(TwoExits(), phase(), Samples(data.inputs * scale, data.labels))


def test_weights_that_overflow_in_the_last_step_are_noticed():
    model = TwoExits()
    with pytest.raises(EesearchError, match="weights that are not finite"):
        train(model, phase(("heads",), optimizer="sgd", epochs=1, lr=1e39, batch_size=64), samples())


def test_refuses_what_cannot_learn():
    model = TwoExits()
    with pytest.raises(InputError, match="nothing can learn"):
        train(model.requires_grad_(False), phase(), samples())
    with pytest.raises(InputError, match="one sample"):
        trained(phase(batch_size=1))
    trained(phase(("heads",), batch_size=1, epochs=1))  # the normalisation is frozen


def test_a_backbone_is_trained_as_a_copy(tmp_path):
    data, told = samples(), []
    given = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    before = weights_hash(given)
    backbone = train_backbone(
        given,
        data,
        TrainSpec(epochs=20, batch_size=8, lr=0.03),
        checkpoint=Checkpoint(tmp_path / "backbone.pt"),
        progress=lambda *event: told.append(event),
    )
    assert weights_hash(given) == before
    assert given.training
    assert not backbone.training
    assert (backbone(data.inputs).argmax(1) == data.labels).float().mean() > 0.9
    assert told[-1] == ("train backbone", 80, 80)
    assert (tmp_path / "backbone.pt").exists()
