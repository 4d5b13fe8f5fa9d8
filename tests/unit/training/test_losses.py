import math

import pytest
import torch

from eesearch.core.errors import InputError
from eesearch.training.losses import exit_losses, joint_loss, separate_loss

SURE = torch.tensor([[math.log(3.0), 0.0], [0.0, math.log(3.0)]])  # probability 3/4 for the right class
BLIND = torch.zeros(2, 2)
LABELS = torch.tensor([0, 1])
SURE_LOSS, BLIND_LOSS = math.log(4 / 3), math.log(2)


def test_exit_losses_are_means_over_the_batch():
    assert exit_losses([SURE, BLIND], LABELS).tolist() == pytest.approx([SURE_LOSS, BLIND_LOSS])


def test_separate_is_the_plain_sum():
    assert separate_loss([SURE, BLIND], LABELS).item() == pytest.approx(SURE_LOSS + BLIND_LOSS)


def test_joint_weighs_the_companions_and_adds_the_last():
    loss = joint_loss([0.5, 0.0])([BLIND, SURE, SURE], LABELS)
    assert loss.item() == pytest.approx(0.5 * BLIND_LOSS + SURE_LOSS)
    assert joint_loss(())([SURE], LABELS).item() == pytest.approx(SURE_LOSS)


@pytest.mark.parametrize("alpha", [-0.1, math.nan, math.inf])
def test_joint_refuses_impossible_weights(alpha):
    with pytest.raises(InputError, match="alpha"):
        joint_loss([1.0, alpha])
