"""Format `openvino`: one model (IR) per stage with its decision inside, and a runner that really stops."""

from __future__ import annotations

import tempfile
from pathlib import Path

from eesearch.core.imports import need
from eesearch.core.registry import EXPORTERS
from eesearch.exporters.apart import Reloaded, in_batches
from eesearch.exporters.chosen import Chosen
from eesearch.exporters.formats import Exporter
from eesearch.exporters.onnx_stages import RUNNER, lowered_stages, runner_source, stage_model, write_thresholds
from eesearch.exporters.torch_folder import load_module


def write_openvino(chosen: Chosen, path: Path) -> None:
    """Write `stage_<i>.xml` and `.bin`, `thresholds.json`, `runner.py` and `config.json`.

    Args:
        chosen: What to write.
        path: A folder that is there.

    Raises:
        InputError: openvino, onnx or onnxscript is not installed.
        ModelError: torch cannot export a stage.
    """
    openvino, onnx = need("openvino", "openvino"), need("onnx", "openvino")
    for number, stage in enumerate(lowered_stages(chosen)):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "stage.onnx"
            onnx.save(stage_model(stage, number), file)
            model = openvino.convert_model(file)
        for ports, names in ((model.inputs, stage.inputs), (model.outputs, stage.outputs)):
            for port, name in zip(ports, names, strict=True):
                port.get_tensor().set_names({name})
        openvino.save_model(model, path / f"stage_{number}.xml", compress_to_fp16=False)
    write_thresholds(chosen, path)
    (path / RUNNER).write_text(runner_source("openvino_runner"), encoding="utf-8")
    (path / "config.json").write_text(chosen.config.to_text("json"), encoding="utf-8")


def reload_openvino(path: Path) -> Reloaded:
    """Load the runner of a folder.

    Raises:
        InputError: openvino is not installed.
    """
    need("openvino", "openvino")
    return in_batches(load_module(path / RUNNER).Runner(path).predict)


EXPORTERS.register("openvino")(
    Exporter(
        write_openvino, extra="openvino", about="an OpenVINO model per stage with a runner that stops",
        reload=reload_openvino,
    )
)  # fmt: skip
