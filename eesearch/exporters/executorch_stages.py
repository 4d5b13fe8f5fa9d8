"""Format `executorch`: one program per stage with its decision inside (XNNPACK), and a runner that really stops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eesearch.core.errors import ModelError
from eesearch.core.registry import EXPORTERS
from eesearch.exporters.apart import Reloaded, need
from eesearch.exporters.chosen import Chosen
from eesearch.exporters.formats import Exporter
from eesearch.exporters.onnx_stages import RUNNER, lowered_stages, runner_source, write_thresholds
from eesearch.exporters.torch_folder import load_module
from eesearch.nets.lower import Lowered, exporting


def write_executorch(chosen: Chosen, path: Path) -> None:
    """Write `stage_<i>.pte`, `thresholds.json`, `runner.py` and `config.json`.

    Args:
        chosen: What to write.
        path: A folder that is there.

    Raises:
        InputError: executorch is not installed.
        ModelError: a stage cannot be exported.
    """
    need("executorch.exir", "executorch")
    lowered = lowered_stages(chosen)
    for number, stage in enumerate(lowered):
        (path / f"stage_{number}.pte").write_bytes(stage_program(stage, number))
    write_thresholds(chosen, path, inputs=[s.inputs for s in lowered], outputs=[s.outputs for s in lowered])
    (path / RUNNER).write_text(runner_source("executorch_runner"))
    (path / "config.json").write_text(chosen.config.to_text("json"))


def stage_program(stage: Lowered, number: int) -> bytes:
    """One stage as an ExecuTorch program for one sample: its memory is planned ahead, and devices have one at a time.

    Raises:
        ModelError: it cannot be exported.
    """
    exir = need("executorch.exir", "executorch")
    xnnpack = need("executorch.backends.xnnpack.partition.xnnpack_partitioner", "executorch")
    example = tuple(tensor[:1].contiguous() for tensor in stage.example)
    try:
        with exporting(), torch.no_grad():
            program = torch.export.export(stage.module, example).run_decompositions(_DECOMPOSED)
            edge = exir.to_edge_transform_and_lower(program, partitioner=[xnnpack.XnnpackPartitioner()])
            return bytes(edge.to_executorch().buffer)
    except Exception as error:  # a user's forward may do anything
        raise ModelError(
            f"stage {number} cannot be exported to ExecuTorch",
            got=f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}",
            do="Export with `--to onnx`.",
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


def reload_executorch(path: Path) -> Reloaded:
    """Load the runner of a folder.

    Raises:
        InputError: executorch is not installed.
    """
    need("executorch.runtime", "executorch")
    runner = load_module(path / RUNNER).Runner(path)

    def reloaded(samples: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        answers, exits, _ = runner.predict(torch.from_numpy(samples))
        return answers.numpy(), exits.numpy()

    return reloaded


EXPORTERS.register("executorch")(
    Exporter(
        write_executorch,
        extra="executorch",
        about="an ExecuTorch program per stage (XNNPACK) with a runner that stops",
        reload=reload_executorch,
    )
)
