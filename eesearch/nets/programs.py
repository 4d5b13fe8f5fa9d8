"""One module of tensors as an ExecuTorch program (XNNPACK), for one sample."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from eesearch.core.errors import ModelError
from eesearch.core.imports import need
from eesearch.nets.lower import exporting, first_cause
from eesearch.nets.pooling import DECOMPOSED


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
            program = torch.export.export(module, one).run_decompositions(DECOMPOSED)
            edge = exir.to_edge_transform_and_lower(program, partitioner=[xnnpack.XnnpackPartitioner()])
            return bytes(edge.to_executorch().buffer)
    except Exception as error:  # a user's forward may do anything
        raise ModelError(
            f"{what} cannot be exported to ExecuTorch",
            got=first_cause(error),
            do="Use ONNX: `--to onnx`, the back end `onnxruntime`.",
        ) from error
