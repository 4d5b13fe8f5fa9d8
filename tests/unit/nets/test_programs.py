"""Operations that ExecuTorch lacks, in those that it has."""

import pytest
import torch
import torch.nn.functional as F

from eesearch.nets.programs import _largest, _largest_1d


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_the_largest_of_slices_is_adaptive_max_pooling(size):
    x = torch.randn(2, 3, 7, 5)
    assert torch.equal(_largest(x, [size, size])[0], F.adaptive_max_pool2d(x, size))
    assert torch.equal(_largest_1d(x[:, :, 0], [size])[0], F.adaptive_max_pool1d(x[:, :, 0], size))
