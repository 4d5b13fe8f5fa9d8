"""What each strategy does beyond what all do, which tests/contracts/test_strategies.py shows."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from eesearch.core.design import ExitSpec, HeadSpec, LossSpec, TrainSpec
from eesearch.core.errors import InputError
from eesearch.core.registry import STRATEGIES
from eesearch.core.tables import ExitTable
from eesearch.exits.criteria import probabilities
from eesearch.nets.exitnet import ExitNet
from eesearch.nets.split import split
from eesearch.training.bank import build_heads, train_bank
from eesearch.training.checkpoint import weights_hash
from eesearch.training.collect import collect
from eesearch.training.freezing import START_AND_POWER
from eesearch.training.plans import train_design
from eesearch.training.strategies import COMBINATION, soft_and_hard
from tests.unit.training.test_plans import case, samples

GATE = HeadSpec(gate="linear")


def trained(strategy, watch=None, train=None, **options):
    net, design = case(strategy, **options)
    design = design.model_copy(update={"train": train or design.train})
    return net, train_design(net, design, samples(), after_epoch=watch)


def with_heads(net, design, head):
    exits = tuple(e.model_copy(update={"head": head}) for e in design.exits)
    return ExitNet(net.backbone, build_heads(net.backbone, exits, 0)), design.model_copy(update={"exits": exits})


def test_mixed_is_joint_on_a_trained_backbone():
    joint, mixed = (trained(name)[1] for name in ("joint", "mixed"))
    assert weights_hash(mixed) == weights_hash(joint)


def test_mixed_trains_an_untrained_backbone_alone_first():
    states = []
    before = TrainSpec(epochs=1, batch_size=8, lr=0.01)
    net, _ = trained(
        "mixed", lambda n, _: states.append((weights_hash(n.heads), weights_hash(n.backbone))), before=before
    )
    (heads, backbone), *later = states
    assert len(later) == 2
    assert heads == weights_hash(net.heads)
    assert backbone != weights_hash(net.backbone)
    assert weights_hash(net.heads) not in [heads for heads, _ in later]


@pytest.mark.parametrize("gate", ["none", "linear", "mlp"])
def test_separate_gives_the_banks_heads_bit_for_bit(gate):
    net, design = with_heads(*case("separate"), HeadSpec(gate=gate))
    through = train_design(net, design, samples())
    bank = train_bank(net.backbone, design, samples())
    assert weights_hash(through.heads) == weights_hash(bank.heads) != weights_hash(net.heads)
    assert weights_hash(through.backbone) == weights_hash(net.backbone)


class TestDistill:
    def test_the_backbone_as_it_was_teaches_all_the_time(self):
        """Learning from the teacher alone, the own classifier stays near what it was."""
        train = TrainSpec(epochs=6, batch_size=8, lr=0.02)
        net, kept = trained("distill", alphas=(0.0,), train=train, teacher="backbone", distill=1.0)
        _, free = trained("joint", alphas=(0.0,), train=train)
        own, near, far = (torch.from_numpy(collect(n, samples()).logits[-1]) for n in (net, kept, free))
        assert (near - own).abs().mean() < 0.5 * (far - own).abs().mean()

    def test_the_teacher_is_no_part_of_what_comes_out(self):
        net, taught = trained("distill", teacher="backbone")
        assert taught.state_dict().keys() == net.state_dict().keys()


class TestCombined:
    @pytest.mark.parametrize("how", ["softmax", "free"])
    def test_the_weights_are_kept_as_they_are_used(self, how):
        _, net = trained("combined", combine=how)
        weights = net.learnt[COMBINATION].detach()
        assert weights.shape == (2, 1)
        assert not torch.equal(weights[0], weights[1])
        if how == "softmax":
            assert weights.sum().item() == pytest.approx(1.0)
            assert (weights > 0).all()

    def test_the_weights_survive_the_store(self):
        given, net = trained("combined")
        again = ExitNet.from_arrays(given.backbone, *net.arrays())
        assert torch.equal(again.learnt[COMBINATION], net.learnt[COMBINATION])

    @pytest.mark.parametrize("how", ["average", "max"])
    def test_pools_have_no_weights(self, how):
        _, net = trained("combined", combine=how)
        assert not net.learnt

    @pytest.mark.parametrize(
        ("how", "answer"), [("softmax", "combined"), ("free", "combined"), ("average", "average"), ("max", "max")]
    )
    def test_designs_decide_by_what_was_trained(self, how, answer):
        assert STRATEGIES["combined"].scorings(LossSpec(combine=how)) == (("max_prob", answer),)


class TestGated:
    def test_a_head_without_a_gate_is_refused(self):
        with pytest.raises(InputError, match="got the head linear-avg1 without one"):
            trained("gated", costs=(0.3, 1.0))

    def test_gates_open_where_asking_further_is_dear(self):
        sure = {}
        for cost_weight in (0.0, 5.0):
            net, design = with_heads(*case("gated", costs=(0.1, 1.0), cost_weight=cost_weight), GATE)
            design = design.model_copy(update={"train": TrainSpec(epochs=8, batch_size=8, lr=0.04)})
            logits = collect(train_design(net, design, samples()), samples()).logits[0]
            sure[cost_weight] = float((1.0 / (1.0 + np.exp(-logits.mean(-1)))).mean())
        assert sure[5.0] > 0.9
        assert sure[0.0] < 0.6

    def test_designs_decide_by_their_own_gates(self):
        assert STRATEGIES["gated"].scorings(LossSpec()) == (("own_gate", "own"),)

    def test_soft_and_hard_decisions_are_told_apart(self):
        """Two samples; the gate of the first exit is wide open for one and half shut for the other."""
        net, design = with_heads(*case("gated", costs=(0.25, 1.0)), GATE)
        early = np.array([[2.0, 0.0], [0.0, 2.0]]) - 1.0 + np.array([[8.0], [-0.1]])
        own = np.array([[2.0, 0.0], [2.0, 0.0]])
        table = ExitTable(np.stack([early, own]).astype(np.float32), np.array([0, 0]), net.exits, "cal", "s")
        notes = soft_and_hard(table, design)
        shut = 1.0 / (1.0 + math.exp(0.5))
        assert notes["hard accuracy"] == 1.0
        assert notes["hard cost"] == pytest.approx((0.25 + 1.0) / 2)
        assert notes["soft cost"] == pytest.approx((0.25 + 1.0 - 0.75 * shut) / 2, rel=1e-5)
        early_right, own_right = probabilities(early[1:], 1.0)[0, 0], probabilities(own[1:], 1.0)[0, 0]
        mixed_right = shut * early_right + (1.0 - shut) * own_right
        assert notes["soft accuracy"] == (1.0 if mixed_right > 0.5 else 0.5)
        weighed = soft_and_hard(replace(table, labels=np.array([0, 1]), weights=np.array([3, 1])), design)
        assert weighed["hard accuracy"] == 0.75


class TestLayerwise:
    @pytest.fixture
    def deep(self):
        """Two heads at one of two cuts, and nothing at the other."""
        net, design = case("layerwise", alphas=(1.0,))
        cut = design.exits[0].cut
        exits = (ExitSpec(cut=cut, head=HeadSpec()), ExitSpec(cut=cut, head=HeadSpec(kind="mlp", hidden=(4,))))
        return ExitNet(net.backbone, build_heads(net.backbone, exits, 0)), design.model_copy(update={"exits": exits})

    def test_heads_at_one_cut_learn_together(self, deep):
        phases = STRATEGIES["layerwise"].phases(*deep)
        assert [phase.learns for phase in phases] == [
            ("backbone.segments.0", "heads.0", "heads.1"),
            ("backbone.segments.1",),
        ]
        assert [phase.label for phase in phases] == ["train layer 1 of 2", "train layer 2 of 2"]

    def test_only_the_first_phase_sees_raw_images_so_only_it_transforms_them(self, deep):
        net, design = deep
        design = design.model_copy(update={"train": design.train.model_copy(update={"augment": ("flip",)})})
        assert [phase.spec.augment for phase in STRATEGIES["layerwise"].phases(net, design)] == [("flip",), ()]

    @pytest.mark.parametrize("kind", ["logistic", "tree"])
    def test_an_exit_whose_head_is_fitted_ends_no_layer(self, kind):
        net, design = with_heads(*case("layerwise"), HeadSpec(kind=kind))
        (phase,) = STRATEGIES["layerwise"].phases(net, design)
        assert phase.learns == ("backbone.segments.0", "backbone.segments.1")
        through = train_design(net, design, samples())
        assert collect(through, samples()).accuracy[0] > 0.8

    def test_phases_go_on_from_what_is_cached(self, deep, monkeypatch):
        runs = []
        net, design = deep
        forward = type(net.backbone).run

        def watched(backbone, carry, first, last):
            runs.extend((k, len(carry[0])) for k in range(first, last))
            return forward(backbone, carry, first, last)

        monkeypatch.setattr(type(net.backbone), "run", watched)
        train_design(net, design, samples())
        count = len(samples())
        first = sum(size for k, size in runs if k == 0)
        assert first == design.train.epochs * count + count + 1, "its own epochs, the cache, and one sample to look at"


class TestFreezeout:
    @pytest.mark.parametrize("freeze", START_AND_POWER)
    def test_early_parts_start_faster_and_stop_sooner(self, freeze):
        (phase,) = STRATEGIES["freezeout"].phases(*case("freezeout", freeze=freeze))
        first, last, heads = ([phase.lr(part, step, 1000) for step in range(1000)] for part in phase.learns)
        start, power = START_AND_POWER[freeze]
        assert first[0] == pytest.approx(0.01 / start**power), "every part moves as far: the area is the same"
        assert sum(first) == pytest.approx(sum(last), rel=2e-3)
        assert last == heads
        assert next(step for step, lr in enumerate(first) if lr == 0.0) == round(1000 * start**power)
        assert last[-1] > 0.0

    def test_only_the_exits_decide_when_not_where_else_the_backbone_could_be_cut(self):
        _, design = case("freezeout")
        whole = split(nn.Sequential(*(nn.Linear(4, 4) for _ in range(6))), torch.zeros(1, 4))
        rates = []
        for backbone in (whole, whole.keep([whole.cuts[1].name, whole.cuts[3].name])):
            exits = (ExitSpec(cut=whole.cuts[1].name, head=HeadSpec()),)
            placed = ExitNet(backbone, build_heads(backbone, exits, 0))
            (phase,) = STRATEGIES["freezeout"].phases(placed, design.model_copy(update={"exits": exits}))
            ends = [phase.lr(part, 0, 100) for part in phase.learns]
            rates.append((ends[0], ends[-2], ends[-1], len(set(ends))))
        assert rates[0] == rates[1]
        assert rates[0][0] > rates[0][1]

    def test_a_frozen_part_does_not_change_after_its_time(self):
        states = []
        net, design = case("freezeout", freeze="cubic")
        design = design.model_copy(update={"train": TrainSpec(epochs=6, batch_size=8, lr=0.01)})
        train_design(net, design, samples(), after_epoch=lambda n, _: states.append(_hashes(n)))
        first, last, heads = zip(*states, strict=True)
        assert len(set(first[:4])) == 4, "0.512 of 6 epochs lie in the fourth"
        assert len(set(first[3:])) == 1
        assert len(set(last)) == len(set(heads)) == 6


def _hashes(net):
    return (*(weights_hash(segment) for segment in net.backbone.segments), weights_hash(net.heads))
