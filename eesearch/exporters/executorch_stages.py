"""Format `executorch`: one program per stage with its decision inside (XNNPACK), and a runner that really stops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eesearch.core.imports import need
from eesearch.core.registry import EXPORTERS
from eesearch.exporters.apart import Reloaded
from eesearch.exporters.chosen import Chosen
from eesearch.exporters.formats import Exporter
from eesearch.exporters.onnx_stages import RUNNER, lowered_stages, runner_source, write_thresholds
from eesearch.exporters.torch_folder import load_module
from eesearch.nets.lower import Lowered
from eesearch.nets.programs import export_program


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
    (path / RUNNER).write_text(runner_source("executorch_runner"), encoding="utf-8")
    (path / "config.json").write_text(chosen.config.to_text("json"), encoding="utf-8")


def stage_program(stage: Lowered, number: int) -> bytes:
    """One stage as an ExecuTorch program for one sample: its memory is planned ahead, and devices have one at a time.

    Raises:
        InputError: executorch is not installed.
        ModelError: it cannot be exported.
    """
    return export_program(stage.module, stage.example, what=f"stage {number}")


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
