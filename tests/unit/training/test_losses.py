import math
from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from eesearch.core.design import LossSpec
from eesearch.core.errors import InputError
from eesearch.training.losses import (
    SHARPEST_GATE,
    combined,
    combined_loss,
    companion_weights,
    distilled_loss,
    exit_losses,
    gate_loss,
    gated_loss,
    imitation,
    joint_loss,
    mixture,
    separate_loss,
)

SURE = torch.tensor([[math.log(3.0), 0.0], [0.0, math.log(3.0)]])  # probability 3/4 for the right class
BLIND = torch.zeros(2, 2)
LABELS = torch.tensor([0, 1])
SURE_LOSS, BLIND_LOSS = math.log(4 / 3), math.log(2)
GATED = LossSpec(cost_weight=0.5, costs=(0.25, 1.0))


def random_logits(exits, seed=0, samples=7, classes=3):
    drawn = torch.randn(exits, samples, classes, generator=torch.Generator().manual_seed(seed))
    return [logits.clone().requires_grad_() for logits in drawn]


def with_gate(logits, sure):
    """The same answers, their gate's logit moved to `sure`."""
    return logits - logits.mean(-1, keepdim=True) + sure


def test_exit_losses_are_means_over_the_batch():
    assert exit_losses([SURE, BLIND], LABELS).tolist() == pytest.approx([SURE_LOSS, BLIND_LOSS])


def test_separate_is_the_plain_sum():
    assert separate_loss([SURE, BLIND], LABELS).item() == pytest.approx(SURE_LOSS + BLIND_LOSS)


def test_joint_weighs_the_companions_and_adds_the_last():
    loss = joint_loss([0.5, 0.0])([BLIND, SURE, SURE], LABELS)
    assert loss.item() == pytest.approx(0.5 * BLIND_LOSS + SURE_LOSS)
    assert joint_loss(())([SURE], LABELS).item() == pytest.approx(SURE_LOSS)


WEIGHERS = [
    joint_loss,
    lambda alphas: distilled_loss(alphas, LossSpec()),
    lambda alphas: combined_loss(alphas, "average", None),
    lambda alphas: gated_loss(alphas, LossSpec(costs=(0.2, 0.5, 1.0))),
]


@pytest.mark.parametrize("make", WEIGHERS)
@pytest.mark.parametrize("alpha", [-0.1, math.nan, math.inf])
def test_impossible_weights_are_refused(make, alpha):
    with pytest.raises(InputError, match="alpha"):
        make([1.0, alpha])


class TestRamps:
    @pytest.mark.parametrize(
        ("ramp", "start", "half", "end"),
        [
            ("constant", 0.4, 0.4, 0.4),
            ("linear", 0.0, 0.2, 0.4),
            ("cosine", 0.0, 0.2, 0.4),
            ("sdn", 0.01, 0.205, 0.4),
        ],
    )
    def test_weights_at_the_start_in_the_middle_and_at_the_end(self, ramp, start, half, end):
        weights = [companion_weights([0.4, 0.0], ramp, done) for done in (0.0, 0.5, 1.0)]
        assert [first for first, _ in weights] == pytest.approx([start, half, end])

    def test_a_cosine_starts_and_ends_flat(self):
        early, late = (companion_weights([1.0], "cosine", done)[0] for done in (0.25, 0.75))
        assert early == pytest.approx(0.5 - math.sqrt(0.125))
        assert late == pytest.approx(1 - early)

    def test_sdn_rises_for_every_exit_to_its_relative_cost(self):
        """Kaya et al. 2019: from 0.01 to the cost of leaving there, linearly."""
        costs = [0.15, 0.3, 0.9]
        steps = [companion_weights(costs, "sdn", done / 10) for done in range(11)]
        assert steps[0] == [0.01] * 3
        assert steps[10] == pytest.approx(costs)
        rises = [b[2] - a[2] for a, b in pairwise(steps)]
        assert rises == pytest.approx([0.089] * 10)

    def test_the_last_exit_counts_in_full_all_the_time(self):
        for done in (0.0, 0.5):
            loss = joint_loss([1.0], ramp="linear")([BLIND, SURE], LABELS, done)
            assert loss.item() == pytest.approx(done * BLIND_LOSS + SURE_LOSS)


class TestGatesOfHeads:
    """A gate is the mean of an exit's logits: what it says is whether the exit is right."""

    def test_the_gate_of_a_right_exit_is_to_open(self):
        sure, shut = (gate_loss([with_gate(SURE, said)], LABELS, [True]).item() for said in (4.0, -4.0))
        assert sure == pytest.approx(math.log1p(math.exp(-4.0)), rel=1e-5)
        assert shut == pytest.approx(sure + 4.0)
        wrong = gate_loss([with_gate(SURE.flip(1), -4.0)], LABELS, [True]).item()
        assert wrong == pytest.approx(sure, rel=1e-4)

    def test_exits_without_one_and_the_own_classifier_are_left_out(self):
        said = [with_gate(SURE, 1.0), with_gate(SURE, 2.0), with_gate(SURE, 3.0)]
        assert gate_loss(said, LABELS, [False, True]) == gate_loss(said[1:2], LABELS, [True])
        assert gate_loss(said, LABELS, [False, False]) == 0

    @pytest.mark.parametrize("loss", [separate_loss, joint_loss([1.0])])
    def test_classes_do_not_see_the_gate(self, loss):
        moved = [with_gate(SURE, 9.0), with_gate(SURE, -9.0)]
        assert loss(moved, LABELS).item() == pytest.approx(loss([SURE, SURE], LABELS).item())

    def test_it_is_added_whatever_weight_the_exit_has(self):
        said = [with_gate(SURE, 2.0), SURE]
        extra = joint_loss([0.0], gated=[True])(said, LABELS) - joint_loss([0.0])(said, LABELS)
        assert extra.item() == pytest.approx(gate_loss(said, LABELS, [True]).item())
        extra = separate_loss(said, LABELS, gated=[True]) - separate_loss(said, LABELS)
        assert extra.item() == pytest.approx(gate_loss(said, LABELS, [True]).item(), rel=1e-5)


class TestDistillation:
    def test_no_share_is_the_joint_loss(self):
        logits, labels = random_logits(3), torch.arange(7) % 3
        for spec, outputs in (
            (LossSpec(distill=0.0, teacher="final"), logits),
            (LossSpec(distill=0.0, teacher="backbone"), [*logits, random_logits(1, seed=9)[0]]),
        ):
            got = distilled_loss([0.5, 2.0], spec)(outputs, labels, 1.0)
            assert got.item() == pytest.approx(joint_loss([0.5, 2.0])(logits, labels).item())

    def test_imitation_is_the_divergence_from_the_teacher_times_the_squared_temperature(self):
        teacher = SURE / 2.0
        probability = torch.softmax(SURE / 4.0, -1)[0]
        divergence = (probability * (probability.log() - math.log(0.5))).sum().item()
        got = imitation([BLIND, teacher], teacher, 2.0)
        assert got.tolist() == pytest.approx([4.0 * divergence, 0.0], abs=1e-7)

    def test_the_final_exit_teaches_without_learning_from_its_pupils(self):
        logits, labels = random_logits(2), torch.arange(7) % 3
        distilled_loss([1.0], LossSpec(distill=1.0, teacher="final"))(logits, labels, 1.0).backward()
        early, last = (said.grad.clone() for said in logits)
        alone = random_logits(2)
        joint_loss([0.0])(alone, labels).backward()
        assert torch.allclose(last, alone[1].grad)
        assert early.any()

    def test_the_backbone_teaches_all_exits_and_the_own_classifier(self):
        logits, labels, teacher = random_logits(2), torch.arange(7) % 3, random_logits(1, seed=3)[0].detach()
        spec = LossSpec(distill=1.0, temperature=2.0, teacher="backbone")
        got = distilled_loss([0.5], spec)([*logits, teacher], labels, 1.0)
        first, last = imitation(logits, teacher, 2.0)
        assert got.item() == pytest.approx((0.5 * first + last).item())

    def test_it_keeps_the_ramp_and_the_gates(self):
        spec = LossSpec(distill=0.5, teacher="final", ramp="linear")
        said = [with_gate(SURE, 1.0), BLIND]
        start = distilled_loss([1.0], spec, gated=[True])(said, LABELS, 0.0)
        assert start.item() == pytest.approx(BLIND_LOSS + gate_loss(said, LABELS, [True]).item())

    @pytest.mark.parametrize("wrong", [{"distill": -0.1}, {"distill": 1.1}, {"temperature": 0.0}])
    def test_nonsense_is_refused(self, wrong):
        with pytest.raises(InputError, match="distillation"):
            distilled_loss([1.0], LossSpec().model_copy(update=wrong))


class TestCombination:
    @pytest.mark.parametrize("how", ["softmax", "free", "average", "max"])
    def test_it_gives_log_probabilities(self, how):
        weights = torch.tensor([[0.3], [-0.2], [0.5]]) if how in ("softmax", "free") else None
        assert torch.allclose(combined(random_logits(3), how, weights).exp().sum(-1), torch.ones(7))

    def test_pools_take_probabilities(self):
        both = [SURE, BLIND]
        assert torch.allclose(combined(both, "average").exp()[0], torch.tensor([0.625, 0.375]))
        assert torch.allclose(combined(both, "max").exp()[0], torch.tensor([0.75, 0.5]) / 1.25)

    def test_weights_are_of_logits(self):
        weights = torch.tensor([[2.0], [-1.0]])
        assert torch.allclose(combined([SURE, BLIND], "free", weights), F.log_softmax(2.0 * SURE, -1))
        even = combined([SURE, BLIND], "softmax", torch.zeros(2, 1))
        assert torch.allclose(even, F.log_softmax(0.5 * SURE, -1))

    @pytest.mark.parametrize("how", ["average", "max"])
    def test_what_all_exits_exclude_has_a_finite_loss(self, how):
        certain = torch.tensor([[400.0, 0.0, 0.0]]).requires_grad_()
        loss = combined_loss([1.0], how, None)([certain, certain], torch.tensor([1]), 1.0)
        loss.backward()
        assert math.isfinite(loss.item())
        assert certain.grad.isfinite().all()
        assert certain.grad.any()

    @pytest.mark.parametrize("how", ["softmax", "free"])
    def test_the_weights_learn_beside_the_exits(self, how):
        weights = torch.full((2, 1), 0.5, requires_grad=True)
        logits, labels = random_logits(2), torch.arange(7) % 3
        loss = combined_loss([0.5], how, weights)(logits, labels, 1.0)
        expected = F.nll_loss(combined(logits, how, weights), labels) + joint_loss([0.5])(logits, labels)
        assert loss.item() == pytest.approx(expected.item())
        loss.backward()
        assert weights.grad.any()
        assert all(said.grad.any() for said in logits)


class TestGating:
    """Eqs. 9, 13, 14."""

    def test_the_mixture_asks_the_next_exit_as_far_as_the_gate_is_shut(self):
        answers = torch.eye(3)[:, None]  # each exit is sure of a class of its own
        mixed = mixture(answers, torch.tensor([[0.25], [0.5], [0.0]]))
        assert mixed.tolist() == [[0.25, 0.375, 0.375]], "the last gate counts as 1"

    def test_the_loss_is_that_of_the_mixture_and_its_cost_and_as_joint(self):
        logits = [with_gate(SURE, 0.0), BLIND]
        loss = gated_loss([0.5], GATED)(logits, LABELS, 0.0)
        right = 0.5 * 0.75 + 0.5 * 0.5  # a gate at 0 is half open
        expected = -math.log(right) + 0.5 * (0.5 * 0.25 + 0.5 * 1.0) + 0.5 * SURE_LOSS + BLIND_LOSS
        assert loss.item() == pytest.approx(expected)

    def test_gates_are_annealed_towards_0_and_1(self):
        spec = GATED.model_copy(update={"cost_weight": 1.0})
        logits = [with_gate(SURE, 0.2), SURE]  # both exits say the same: only the cost moves
        start, end = (gated_loss([0.0], spec)(logits, LABELS, done).item() for done in (0.0, 1.0))
        cost = [1.0 - 0.75 / (1.0 + math.exp(-0.2 * sharp)) for sharp in (1.0, SHARPEST_GATE)]
        assert start - end == pytest.approx(cost[0] - cost[1], rel=1e-4)

    @pytest.mark.parametrize(("cost_weight", "opens"), [(0.0, False), (3.0, True)])
    def test_what_a_gate_learns_depends_on_lambda(self, cost_weight, opens):
        """A blind exit before a sure one: ask further, unless that is too dear."""
        gate = torch.zeros(2, 1, requires_grad=True)
        logits = [BLIND + gate, 4.0 * SURE]
        gated_loss([0.0], GATED.model_copy(update={"cost_weight": cost_weight}))(logits, LABELS, 0.0).backward()
        assert (gate.grad < 0).all() == opens

    @pytest.mark.parametrize("cost_weight", [-1.0, math.nan, math.inf])
    def test_an_impossible_lambda_is_refused(self, cost_weight):
        with pytest.raises(InputError, match="lambda"):
            gated_loss([1.0], GATED.model_copy(update={"cost_weight": cost_weight}))

    @pytest.mark.parametrize("costs", [(), (1.0,), (0.2, 0.5, 1.0)])
    def test_one_cost_per_exit_is_needed(self, costs):
        with pytest.raises(InputError, match="expected 2: one per early exit"):
            gated_loss([1.0], GATED.model_copy(update={"costs": costs}))
