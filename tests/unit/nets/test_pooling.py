"""Adaptive max pooling in operations that every graph has."""

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F

from eesearch.core.design import HeadSpec
from eesearch.core.errors import ModelError
from eesearch.nets.graph_export import export_onnx
from eesearch.nets.heads import build_head
from eesearch.nets.pooling import largest_1d, largest_2d


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_the_largest_of_slices_is_adaptive_max_pooling(size):
    x = torch.randn(2, 3, 7, 5)
    assert torch.equal(largest_2d(x, [size, size])[0], F.adaptive_max_pool2d(x, size))
    assert torch.equal(largest_1d(x[:, :, 0], [size])[0], F.adaptive_max_pool1d(x[:, :, 0], size))


@pytest.mark.parametrize(
    ("shape", "size", "plain"), [((4, 7, 7), 2, False), ((4, 8, 8), 2, True), ((4, 5, 6), 3, False), ((7, 8), 3, False)]
)
def test_heads_that_pool_in_uneven_windows_can_be_exported(shape, size, plain):
    head = build_head(HeadSpec(pool="mixed", size=size), shape, 3).eval()
    x = torch.randn(5, *shape)
    model = export_onnx(head, (x,), ["x"], ["logits"], what="a head")
    assert plain == any(node.op_type == "MaxPool" for node in model.graph.node), "even windows stay one operation"
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
