"""A small network and data that it can learn, for the bank and for heads that are fitted."""

import numpy as np
import pytest
import torch

from eesearch.nets.split import split
from eesearch.nets.zoo import residual_cnn
from eesearch.training.data import Split


@pytest.fixture(scope="module")
def backbone():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = residual_cnn(channels=(4, 6), blocks=1, classes=3, in_channels=1)
    return split(model.eval(), torch.zeros(1, 1, 8, 8))


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = np.arange(65) % 3
    x = rng.normal(size=(65, 1, 8, 8)).astype(np.float32)
    x[:, 0, 0] += y[:, None] * 2.0
    return Split("train", x, y.astype(np.int64))
