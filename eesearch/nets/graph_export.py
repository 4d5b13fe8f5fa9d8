"""One module of tensors as an ONNX graph, for any number of samples; shared by formats and back ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from eesearch.core.errors import InputError, ModelError
from eesearch.core.imports import need
from eesearch.nets.lower import exporting, first_cause
from eesearch.nets.pooling import UNEVEN


class _Positional(nn.Module):
    """A module whose forward takes its inputs as they come, whatever it calls them."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> Any:
        return self.module(*inputs)


def export_onnx(
    module: nn.Module, example: Sequence[Tensor], inputs: Sequence[str], outputs: Sequence[str], *, what: str
) -> Any:
    """A module as an ONNX model (`onnx.ModelProto`) whose first dimension is free everywhere.

    Args:
        module: In eval mode.
        example: Inputs; a single sample is doubled, for torch takes a size of 1 as fixed. Each [N, ...]
        inputs: Their names.
        outputs: Names of what it gives.
        what: What it is, for the message.

    Raises:
        InputError: onnx or onnxscript is not installed.
        ModelError: torch cannot export it.
    """
    need("onnx", "onnx")
    need("onnxscript", "onnx")
    given = tuple(torch.cat([tensor, tensor]) if len(tensor) == 1 else tensor for tensor in example)
    batch = {0: torch.export.Dim.DYNAMIC}
    try:
        with exporting(), torch.no_grad():
            shapes = (tuple(batch for _ in given),)
            traced = torch.export.export(_Positional(module).eval(), given, dynamic_shapes=shapes)
            program = torch.onnx.export(
                traced.run_decompositions(UNEVEN),
                given,
                dynamo=True,
                verbose=False,
                input_names=list(inputs),
                output_names=list(outputs),
            )
    except Exception as error:  # a user's forward may do anything
        raise ModelError(
            f"torch cannot export {what} to ONNX",
            got=first_cause(error),
            expected="a forward that torch.export can follow, for any number of samples",
        ) from error
    if program is None:
        raise InputError(f"torch did not export {what} to ONNX")
    return _named(program.model_proto)


def _named(model: Any) -> Any:
    """With `N` for the number of samples, whatever torch called it, and without notes on its origin."""
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
        del value.metadata_props[:]
    del model.graph.value_info[:]
    for node in model.graph.node:
        del node.metadata_props[:]
    return model
