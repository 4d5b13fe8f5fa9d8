from math import inf

import numpy as np
import pytest
import torch
import yaml

from eesearch.core.design import TrainSpec
from eesearch.exporters.apart import modules_apart
from eesearch.exporters.hydra_groups import optimizer_fields, reload_hydra, write_hydra
from eesearch.training.losses import joint_loss
from eesearch.training.optimizers import make_optimizer

hydra = pytest.importorskip("hydra")


@pytest.fixture
def exported(make_chosen, tmp_path):
    """`(options of make_chosen) -> (chosen, folder)`."""

    def export(*args, **options):
        chosen, out = make_chosen(*args, **options), tmp_path / "out"
        out.mkdir()
        write_hydra(chosen, out)
        return chosen, out

    return export


def instantiated(out, *overrides):
    """The composed configuration, and what its parts are instantiated to: network, loss, optimizer, scheduler."""
    from hydra.utils import instantiate

    with hydra.initialize_config_dir(str(out / "conf"), version_base=None), modules_apart(out):
        cfg = hydra.compose("config", overrides=list(overrides))
        training = cfg.training
        return cfg, instantiate(cfg.model), *map(instantiate, (training.loss, training.optimizer, training.scheduler))


class TestModel:
    @pytest.mark.parametrize(
        "options", [{}, {"criterion": "patience"}, {"answer": "mean"}, {"asks": True}, {"strategy": "separate"}]
    )
    def test_answers_and_exits_are_those_of_the_table(self, exported, options):
        chosen, out = exported(**options)
        own = chosen.answers(chosen.samples)
        answers, exits = reload_hydra(out)(chosen.samples)
        assert answers.tolist() == own.answer.tolist()
        assert exits.tolist() == own.exit.tolist()
        assert len(set(exits)) >= 2

    def test_the_policy_group_decides_where_samples_leave(self, exported):
        chosen, out = exported()
        _, network, *_ = instantiated(out, "policy.thresholds=[inf,-inf,-inf]")
        assert network.thresholds == [inf, -inf, -inf]
        assert set(network.predict(chosen.samples).exit.tolist()) == {1}

    def test_the_policy_group_decides_what_was_fitted(self, exported):
        chosen, out = exported()
        _, network, *_ = instantiated(out, "policy.fits.temperature=[[1.0],[2.0],[4.0]]")
        assert network.temperature.flatten().tolist() == [1.0, 2.0, 4.0]
        _, plain, *_ = instantiated(out)
        assert plain.temperature.flatten().tolist() == list(np.ravel(chosen.config.fits["temperature"]))

    def test_thresholds_are_one_per_stop(self, exported):
        _, out = exported()
        with pytest.raises(Exception, match="thresholds: got 1, expected one per stop: 3"):
            instantiated(out, "policy.thresholds=[0.5]")

    def test_the_groups_tell_the_policy(self, exported):
        chosen, out = exported(asks=True)
        policy = yaml.safe_load((out / "conf" / "policy" / "tiny.yaml").read_text())
        assert policy["stops"] == [*chosen.exits]
        assert policy["thresholds"] == list(chosen.thresholds)
        assert (policy["criterion"], policy["answer"]) == ("max_prob", "own")


class TestTraining:
    @pytest.mark.parametrize("strategy", ["joint", "separate"])
    def test_it_trains_as_the_loop_does(self, exported, loop_trained, strategy):
        chosen, out = exported(strategy)
        batches, expected = loop_trained(chosen)
        cfg, network, loss, optimizer, scheduler = instantiated(out)
        with modules_apart(out):
            from network.parts import train_mode
        train_mode(network, cfg.training.learns)
        optimizer = optimizer([p for p in network.parameters() if p.requires_grad])
        scheduler = scheduler(optimizer, len(batches))
        for x, labels in batches:
            optimizer.zero_grad()
            loss(network(x), labels).backward()
            optimizer.step()
            scheduler.step()
        with torch.no_grad():
            logits = network.eval()(torch.from_numpy(chosen.samples))
        for own, theirs in zip(logits, expected, strict=True):
            assert torch.allclose(own, theirs, rtol=1e-3, atol=1e-4)

    def test_the_loss_is_that_of_the_loop(self, exported, small_net):
        chosen, out = exported()
        net, x = small_net
        _, _, loss, *_ = instantiated(out)
        labels = torch.arange(len(x)) % 10
        with torch.no_grad():
            logits = net(torch.from_numpy(x))
        expected = joint_loss(chosen.losses[:-1])(logits, labels)
        assert loss(logits, labels).item() == pytest.approx(expected.item(), rel=1e-6)

    @pytest.mark.parametrize("kind", ["adam", "adamw", "sgd"])
    def test_the_optimizer_is_that_of_the_section(self, kind):
        from hydra.utils import instantiate

        spec = TrainSpec(optimizer=kind, lr=0.02, weight_decay=0.01)
        weight = torch.nn.Parameter(torch.ones(2))
        own, theirs = instantiate(optimizer_fields(spec))([weight]), make_optimizer({"all": [weight]}, spec)
        assert type(own) is type(theirs)
        differing = {name for name, value in theirs.defaults.items() if own.defaults[name] != value}
        assert differing <= {"fused"}
