"""Format `onnx`: one graph per stage with its decision inside, a runner that really stops, and one graph with `If`s."""

from __future__ import annotations

import inspect
import json
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eesearch.core.imports import need
from eesearch.core.registry import EXPORTERS
from eesearch.exporters.apart import Reloaded, in_batches
from eesearch.exporters.chosen import Chosen
from eesearch.exporters.formats import Exporter
from eesearch.exporters.onnx_single import single_graph
from eesearch.exporters.torch_folder import load_module
from eesearch.nets.graph_export import export_onnx
from eesearch.nets.lower import Lowered, lower_stages

RUNNER, THRESHOLDS, NETWORK = "runner.py", "thresholds.json", "network.onnx"

SINGLES = 32
"""Samples on which the single graph is compared with the stages: it takes one at a time."""


def write_onnx(chosen: Chosen, path: Path) -> None:
    """Write `stage_<i>.onnx`, `thresholds.json`, `runner.py`, `network.onnx` (batch 1) and `config.json`.

    Args:
        chosen: What to write.
        path: A folder that is there.

    Raises:
        InputError: onnx or onnxscript is not installed.
        ModelError: torch cannot export a stage.
    """
    onnx = need("onnx", "onnx")
    lowered = lowered_stages(chosen)
    models = [stage_model(stage, number) for number, stage in enumerate(lowered)]
    for number, model in enumerate(models):
        onnx.save(model, path / f"stage_{number}.onnx")
    onnx.save(single_graph(models, chosen.thresholds, asks=chosen.asks), path / NETWORK)
    write_thresholds(chosen, path)
    (path / RUNNER).write_text(runner_source("onnx_runner"), encoding="utf-8")
    (path / "config.json").write_text(chosen.config.to_text("json"), encoding="utf-8")


def lowered_stages(chosen: Chosen) -> tuple[Lowered, ...]:
    """The stages with their decisions, as tensors in and out."""
    return lower_stages(chosen.stages, chosen.criterion, chosen.parameters, chosen.example)


def stage_model(stage: Lowered, number: int) -> Any:
    """One stage as an ONNX model, for any number of samples.

    Raises:
        InputError: onnx or onnxscript is not installed.
        ModelError: torch cannot export it.
    """
    return export_onnx(stage.module, stage.example, stage.inputs, stage.outputs, what=f"stage {number}")


NEVER = 1e308
"""A threshold that no score reaches, as JSON can say it."""


def write_thresholds(chosen: Chosen, path: Path, **more: Any) -> None:
    """Write `thresholds.json`, and `more` beside them; null is where everybody leaves, 1e308 where nobody does."""
    facts = {
        "thresholds": [None if threshold == -inf else min(threshold, NEVER) for threshold in chosen.thresholds],
        "exits": list(chosen.exits),
        "class_names": list(chosen.class_names),
        **more,
    }
    (path / THRESHOLDS).write_text(
        json.dumps(facts, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
    )


def runner_source(module: str) -> str:
    """The text of a module of this package, which is a file of the folder as it is."""
    return Path(inspect.getfile(Chosen)).with_name(f"{module}.py").read_text(encoding="utf-8")


def reload_onnx(path: Path) -> Reloaded:
    """Load the runner of a folder, and its single graph, with which it has to agree.

    Raises:
        InputError: onnxruntime is not installed.
    """
    runtime = need("onnxruntime", "onnx")
    stages = in_batches(load_module(path / RUNNER).Runner(path).predict)
    single = runtime.InferenceSession(path / NETWORK, providers=["CPUExecutionProvider"])

    def reloaded(samples: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        answer, stop = stages(samples)
        for n in range(min(SINGLES, len(samples))):
            said, left, _ = single.run(["answer", "exit", "score"], {"x": samples[n : n + 1]})
            if (said[0], left[0]) != (answer[n], stop[n]):
                stop[n] = -1  # at no stop that there is: counted as differing
        return answer, stop

    return reloaded


EXPORTERS.register("onnx")(
    Exporter(
        write_onnx,
        extra="onnx",
        about="a graph per stage with a runner that stops, and one graph with If nodes",
        reload=reload_onnx,
    )
)
