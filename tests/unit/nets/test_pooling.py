"""Adaptive pooling in operations that every graph has."""

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F

from eesearch.core.design import HeadSpec
from eesearch.core.errors import ModelError
from eesearch.nets.graph_export import export_onnx
from eesearch.nets.heads import build_head
from eesearch.nets.pooling import Grid, grid_of, largest_1d, largest_2d, mean_1d, mean_2d


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("height", [5, 7, 8, 10, 15])
def test_what_is_pooled_is_that_of_adaptive_pooling(height, size):
    x = torch.randn(2, 3, height, 7)
    assert torch.equal(largest_2d(x, [size, size])[0], F.adaptive_max_pool2d(x, size))
    assert torch.equal(largest_1d(x[..., 0], [size])[0], F.adaptive_max_pool1d(x[..., 0], size))
    torch.testing.assert_close(mean_2d(x, [size, size]), F.adaptive_avg_pool2d(x, size))
    torch.testing.assert_close(mean_1d(x[..., 0], [size]), F.adaptive_avg_pool1d(x[..., 0], size))


@pytest.mark.parametrize(
    ("side", "size", "grid"),
    [
        (8, 4, Grid(2, 2, 0, 0)),
        (7, 2, Grid(4, 3, 0, 0)),
        (15, 4, Grid(5, 4, 1, 1)),
        (5, 1, Grid(5, 5, 0, 0)),
        (10, 4, None),
    ],
)
def test_windows_that_lie_on_a_grid(side, size, grid):
    assert grid_of(side, size) == grid


@pytest.mark.parametrize(
    ("shape", "size", "pools"),
    [
        ((4, 7, 7), 2, {"MatMul", "MaxPool"}),
        ((4, 8, 8), 2, {"AveragePool", "MaxPool"}),
        ((4, 5, 6), 3, {"MatMul", "Pad", "MaxPool"}),
        ((4, 10, 10), 4, {"MatMul", "Slice", "ReduceMax", "Unsqueeze"}),
        ((7, 8), 3, {"MatMul", "MaxPool"}),
    ],
)
def test_heads_that_pool_in_uneven_windows_are_exported_in_a_few_operations(shape, size, pools):
    head = build_head(HeadSpec(pool="mixed", size=size), shape, 3).eval()
    x = torch.randn(5, *shape)
    model = export_onnx(head, (x,), ["x"], ["logits"], what="a head")
    used = {node.op_type for node in model.graph.node}
    assert pools <= used, "even windows stay one operation"
    assert not used & {"Gather", "GatherND"}, "torch gathers every pixel of uneven windows"
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for samples in (1, 5):
        (said,) = session.run(None, {"x": x[:samples].numpy()})
        np.testing.assert_allclose(said, head(x[:samples]).detach().numpy(), rtol=1e-5, atol=1e-5)


def test_what_cannot_be_exported_is_told_in_one_line_with_its_cause():
    class Spectrum(torch.nn.Module):
        def forward(self, x):
            return torch.linalg.eigvals(x).abs()

    with pytest.raises(ModelError, match=r"torch cannot export a part to ONNX; got \w+: .*linalg_eig") as told:
        export_onnx(Spectrum().eval(), (torch.rand(2, 3, 3),), ["x"], ["y"], what="a part")
    assert "\n" not in str(told.value)
    assert "\x1b" not in str(told.value)
