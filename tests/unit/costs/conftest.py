"""A small network that several tests of this folder measure."""

import pytest
import torch
from torch import nn

from eesearch.nets.split import split


def small_network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(4, 4, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(4, 6, 3, padding=1, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(6 * 16, 16),
            nn.ReLU(),
            nn.Linear(16, 5),
        )


@pytest.fixture(scope="module")
def backbone():
    return split(small_network(), torch.ones(1, 1, 8, 8), cuts=["1", "3", "5", "8"])
