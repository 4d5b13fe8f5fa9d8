"""One module of tensors as an ExecuTorch program (XNNPACK), for one sample."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from eesearch.core.errors import ModelError
from eesearch.core.imports import need
from eesearch.nets.lower import exporting


def export_program(module: nn.Module, example: Sequence[Tensor], *, what: str) -> bytes:
    """A module as a program whose memory is planned for one sample.

    Args:
        module: In eval mode.
        example: Inputs; the first sample of each is used. Each [N, ...]
        what: What it is, for the message.

    Raises:
        InputError: executorch is not installed.
        ModelError: it cannot be exported.
    """
    exir = need("executorch.exir", "executorch")
    xnnpack = need("executorch.backends.xnnpack.partition.xnnpack_partitioner", "executorch")
    one = tuple(tensor[:1].contiguous() for tensor in example)
    try:
        with exporting(), torch.no_grad():
            program = torch.export.export(module, one).run_decompositions(_DECOMPOSED)
            edge = exir.to_edge_transform_and_lower(program, partitioner=[xnnpack.XnnpackPartitioner()])
            return bytes(edge.to_executorch().buffer)
    except Exception as error:  # a user's forward may do anything
        raise ModelError(
            f"{what} cannot be exported to ExecuTorch",
            got=f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}",
            do="Use ONNX: `--to onnx`, the back end `onnxruntime`.",
        ) from error


def _largest(x: Tensor, size: list[int]) -> tuple[Tensor, Tensor]:
    """Adaptive max pooling as slices, which ExecuTorch has no operation for; nobody reads the indices."""
    height, width = x.shape[-2:]
    rows = []
    for i in range(size[0]):
        top, bottom = i * height // size[0], -(-(i + 1) * height // size[0])
        spans = [(j * width // size[1], -(-(j + 1) * width // size[1])) for j in range(size[1])]
        rows.append(torch.stack([x[..., top:bottom, a:b].amax((-2, -1)) for a, b in spans], -1))
    largest = torch.stack(rows, -2)
    return largest, torch.zeros_like(largest, dtype=torch.int64)


def _largest_1d(x: Tensor, size: list[int]) -> tuple[Tensor, Tensor]:
    largest, index = _largest(x.unsqueeze(-2), [1, *size])
    return largest.squeeze(-2), index.squeeze(-2)


_DECOMPOSED = {
    torch.ops.aten.adaptive_max_pool1d.default: _largest_1d,
    torch.ops.aten.adaptive_max_pool2d.default: _largest,
}
