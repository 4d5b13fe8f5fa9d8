"""Losses of networks with exits.

The equations are those of the survey: Scardapane et al., "Why should we add early exits to neural networks?" (2020).
Where it sums over samples, these are means: they have the same minimum, and a learning rate that does not depend on the
size of the batch.

The gate g_i of an exit is `sigmoid(mean of its logits)` (see `nets.heads.GatedBody`); softmax does not see that mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import cos, isfinite, log, pi

import torch
from torch import Tensor
from torch.nn import functional as F

from eesearch.core.design import LossSpec
from eesearch.core.errors import InputError
from eesearch.exits.expected import soft_cost

Loss = Callable[[Sequence[Tensor], Tensor, float], Tensor]
"""`(what the model gives: logits [N, C] of each exit, labels [N], share of the steps that are done) -> scalar`."""

FIRST_SDN_WEIGHT = 0.01
"""What SDN's weights rise from."""

SHARPEST_GATE = 5.0
"""Gates are annealed: at the end of a training with eq. 9 their logits count this many times as much."""


def exit_losses(logits: Sequence[Tensor], labels: Tensor) -> Tensor:
    """The loss L_i of each exit (eq. 7): cross-entropy.

    Args:
        logits: E tensors [N, C].
        labels: [N]

    Returns:
        [E]
    """
    stacked = torch.stack(tuple(logits))  # [E, N, C]
    exits, samples, _ = stacked.shape
    each = F.cross_entropy(stacked.flatten(0, 1), labels.repeat(exits), reduction="none")  # [E * N]
    return each.view(exits, samples).mean(1)


def gate_loss(logits: Sequence[Tensor], labels: Tensor, gated: Sequence[bool]) -> Tensor | float:
    """Sum over the exits that have a gate of its cross-entropy with whether the exit is right.

    Args:
        logits: E tensors [N, C].
        labels: [N]
        gated: Which of the first exits have a gate.
    """
    return sum(
        F.binary_cross_entropy_with_logits(said.mean(-1), (said.argmax(-1) == labels).to(said.dtype))
        for said, has_gate in zip(logits, gated, strict=False)
        if has_gate
    )


def separate_loss(logits: Sequence[Tensor], labels: Tensor, done: float = 1.0, *, gated: Sequence[bool] = ()) -> Tensor:
    """sum_i L_i: nothing couples the heads, so each learns as if it were alone, and its gate with it."""
    return exit_losses(logits, labels).sum() + gate_loss(logits, labels, gated)


def companion_weights(alphas: Sequence[float], ramp: str = "constant", done: float = 1.0) -> list[float]:
    """alpha_i at some point of the training, see `LossSpec.ramp`.

    Args:
        alphas: At the end of the ramp. [E]
        ramp: As in `LossSpec`.
        done: Share of the steps that are done.
    """
    if ramp == "sdn":
        return [FIRST_SDN_WEIGHT + (alpha - FIRST_SDN_WEIGHT) * done for alpha in alphas]
    grown = {"constant": 1.0, "linear": done, "cosine": 0.5 * (1.0 - cos(pi * done))}[ramp]
    return [alpha * grown for alpha in alphas]


def joint_loss(alphas: Sequence[float], *, ramp: str = "constant", gated: Sequence[bool] = ()) -> Loss:
    """L + sum_i alpha_i L_i (eq. 6), with L the loss of the network's own classifier, whose logits come last.

    Args:
        alphas: The weight of each early exit, in the order of the logits. Empty: L alone.
        ramp: How the weights move, as in `LossSpec`.
        gated: Which early exits have a gate.

    Raises:
        InputError: a weight is negative or not finite.
    """
    check_weights(alphas)

    def loss(logits: Sequence[Tensor], labels: Tensor, done: float = 1.0) -> Tensor:
        losses = exit_losses(logits, labels)
        weights = losses.new_tensor([*companion_weights(alphas, ramp, done), 1.0])
        return (losses * weights).sum() + gate_loss(logits, labels, gated)

    return loss


def check_weights(alphas: Sequence[float]) -> None:
    """Refuse weights of companion losses that make no sense.

    Raises:
        InputError: one is negative or not finite.
    """
    wrong = [alpha for alpha in alphas if not (isfinite(alpha) and alpha >= 0)]
    if wrong:
        raise InputError("a companion loss has an impossible weight", got=f"alpha {wrong}", expected="0 <= alpha < inf")


def distilled_loss(alphas: Sequence[float], spec: LossSpec, *, gated: Sequence[bool] = ()) -> Loss:
    """Eq. 6 where each exit also learns from a teacher q: (1 - w) L_i + w T^2 KL(q_T || p_T) (Hinton et al. 2015).

    The teacher `backbone` gives the last logits, behind those of the own classifier, which learns from it, too: so the
    final exit does not drift away from what it was. The teacher `final` is the own classifier as it is.

    Raises:
        InputError: a weight is negative or not finite, or the temperature is not above 0.
    """
    check_weights(alphas)
    if not (0.0 <= spec.distill <= 1.0 and spec.temperature > 0.0):
        got = f"weight {spec.distill}, temperature {spec.temperature}"
        raise InputError("impossible distillation", got=got, expected="a weight in [0, 1], a temperature above 0")

    def loss(outputs: Sequence[Tensor], labels: Tensor, done: float = 1.0) -> Tensor:
        logits, teacher = (outputs[:-1], outputs[-1]) if spec.teacher == "backbone" else (outputs, outputs[-1].detach())
        taught = logits if spec.teacher == "backbone" else logits[:-1]
        losses = exit_losses(logits, labels)
        told = (1.0 - spec.distill) * losses[: len(taught)]
        told = told + spec.distill * imitation(taught, teacher, spec.temperature)
        losses = torch.cat([told, losses[len(taught) :]])
        weights = losses.new_tensor([*companion_weights(alphas, spec.ramp, done), 1.0])
        return (losses * weights).sum() + gate_loss(logits, labels, gated)

    return loss


def imitation(logits: Sequence[Tensor], teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher || exit) of each exit, both softened with temperature T. [E]"""
    wanted = F.log_softmax(teacher / temperature, dim=-1)
    losses = [
        F.kl_div(F.log_softmax(said / temperature, dim=-1), wanted, reduction="batchmean", log_target=True)
        for said in logits
    ]
    return torch.stack(losses) * temperature**2


def combined(logits: Sequence[Tensor], how: str, weights: Tensor | None = None) -> Tensor:
    """Log-probabilities of the combined prediction of all exits (eq. 8). [N, C]

    Args:
        logits: E tensors [N, C].
        how: As `LossSpec.combine`; probabilities are pooled, logits are weighed.
        weights: alpha_i of `softmax` (before the softmax) and `free`. [E, 1]
    """
    stacked = torch.stack(tuple(logits))  # [E, N, C]
    if how == "average":
        return F.log_softmax(stacked, -1).logsumexp(0) - log(len(stacked))  # finite where all probabilities round to 0
    if how == "max":
        return F.log_softmax(stacked, -1).amax(0).log_softmax(-1)
    assert weights is not None
    weighed = F.softmax(weights, 0) if how == "softmax" else weights
    return F.log_softmax((stacked * weighed[:, :, None]).sum(0), -1)


def combined_loss(alphas: Sequence[float], how: str, weights: Tensor | None, *, gated: Sequence[bool] = ()) -> Loss:
    """l(y, y^) + L + sum_i alpha_i L_i, with y^ the combined prediction (eq. 8); without L_i no exit is of use alone.

    Args:
        alphas: As for `joint_loss`.
        how: As `LossSpec.combine`.
        weights: Of the combination; they learn. [E + 1, 1]
        gated: As for `joint_loss`.

    Raises:
        InputError: a weight is negative or not finite.
    """
    companions = joint_loss(alphas, gated=gated)

    def loss(logits: Sequence[Tensor], labels: Tensor, done: float = 1.0) -> Tensor:
        return F.nll_loss(combined(logits, how, weights), labels) + companions(logits, labels, done)

    return loss


def mixture(answers: Tensor, gates: Tensor) -> Tensor:
    """c^_1 of eq. 9: c^_i = g_i c_i + (1 - g_i) c^_{i+1}, from the last exit to the first. [N, C]

    Probabilities are mixed, not logits. The last gate counts as 1. Gates in {0, 1} give hard routing exactly.

    Args:
        answers: Probabilities. [E, N, C]
        gates: In [0, 1]. [E, N]
    """
    mixed = answers[-1]
    for answer, gate in zip(answers.flip(0)[1:], gates.flip(0)[1:], strict=True):
        mixed = gate[:, None] * answer + (1.0 - gate[:, None]) * mixed
    return mixed


def gated_loss(alphas: Sequence[float], spec: LossSpec) -> Loss:
    """l(y, c^_1) + lambda E[cost] + L + sum_i alpha_i L_i (eqs. 9, 13, 14), the gates annealed towards 0 and 1.

    The survey has the first two terms; without the others an exit whose gate is shut learns nothing.

    Args:
        alphas: As for `joint_loss`.
        spec: Gives lambda and the cumulative costs.

    Raises:
        InputError: a weight is negative or not finite, or there is not one cost per exit.
    """
    if not (isfinite(spec.cost_weight) and spec.cost_weight >= 0):
        raise InputError(
            "the expected cost has an impossible weight", got=f"lambda {spec.cost_weight}", expected="0 <= lambda < inf"
        )
    if len(spec.costs) != len(alphas) + 1:
        raise InputError(
            "gates learn what leaving costs at each exit",
            got=f"{len(spec.costs)} costs",
            expected=f"{len(alphas) + 1}: one per early exit, and the own classifier's",
        )
    companions = joint_loss(alphas)

    def loss(logits: Sequence[Tensor], labels: Tensor, done: float = 1.0) -> Tensor:
        stacked = torch.stack(tuple(logits))  # [E, N, C]
        gates = torch.sigmoid(stacked.mean(-1) * (1.0 + (SHARPEST_GATE - 1.0) * done))  # [E, N]
        mixed = mixture(F.softmax(stacked, -1), gates)
        of_label = mixed.gather(1, labels[:, None]).clamp_min(torch.finfo(mixed.dtype).tiny)
        cost = soft_cost(gates, gates.new_tensor(spec.costs)).mean()
        return spec.cost_weight * cost - of_label.log().mean() + companions(logits, labels, done)

    return loss
