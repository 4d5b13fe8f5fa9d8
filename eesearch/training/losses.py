"""Losses of networks with exits.

The equations are those of the survey: Scardapane et al., "Why should we add early exits to neural networks?" (2020).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite

import torch
from torch import Tensor
from torch.nn import functional as F

from eesearch.core.errors import InputError

Loss = Callable[[Sequence[Tensor], Tensor], Tensor]
"""`(logits [N, C] of each exit, labels [N]) -> scalar`."""


def exit_losses(logits: Sequence[Tensor], labels: Tensor) -> Tensor:
    """The loss L_i of each exit (eq. 7): cross-entropy, as a mean over the batch where eq. 7 has a sum.

    The mean has the same minimum, and a learning rate that does not depend on the size of the batch.

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


def separate_loss(logits: Sequence[Tensor], labels: Tensor) -> Tensor:
    """sum_i L_i: nothing couples the heads, so each learns as if it were alone."""
    return exit_losses(logits, labels).sum()


def joint_loss(alphas: Sequence[float]) -> Loss:
    """L + sum_i alpha_i L_i (eq. 6), with L the loss of the network's own classifier, whose logits come last.

    Args:
        alphas: The weight of each early exit, in the order of the logits. Empty: L alone.

    Raises:
        InputError: a weight is negative or not finite.
    """
    wrong = [alpha for alpha in alphas if not (isfinite(alpha) and alpha >= 0)]
    if wrong:
        raise InputError("a companion loss has an impossible weight", got=f"alpha {wrong}", expected="0 <= alpha < inf")
    weights = torch.tensor([*alphas, 1.0])

    def loss(logits: Sequence[Tensor], labels: Tensor) -> Tensor:
        return (exit_losses(logits, labels) * weights.to(logits[-1].device)).sum()

    return loss
