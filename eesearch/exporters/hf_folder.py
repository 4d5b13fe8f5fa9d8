"""`hf`: the network as a model folder of Hugging Face transformers, with its code."""

from __future__ import annotations

import json
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from eesearch.core.registry import EXPORTERS
from eesearch.exporters.apart import Reloaded, answering, package_apart
from eesearch.exporters.cards import card
from eesearch.exporters.chosen import Chosen
from eesearch.exporters.formats import Exporter
from eesearch.exporters.learning import Learning, write_costs
from eesearch.exporters.torch_folder import write_torch
from eesearch.nets.vision import need_vision

CONFIGURATION, MODELING = "configuration_eesearch", "modeling_eesearch"
EESEARCH_CONFIG = "eesearch.json"
"""What is `config.json` in other folders: here that name is that of transformers."""


def write_hf(chosen: Chosen, out: Path) -> None:
    """Write a folder that `AutoModel.from_pretrained(out, trust_remote_code=True)` reads.

    Args:
        chosen: What to export.
        out: A folder that is there and empty.
    """
    from safetensors.torch import load_file, save_file

    write_torch(chosen, out)
    (out / "config.json").rename(out / EESEARCH_CONFIG)
    weights = out / "weights.safetensors"
    state = {f"network.{name}": tensor for name, tensor in load_file(weights).items()}
    save_file(state, out / "model.safetensors", {"format": "pt"})
    weights.unlink()
    task, given = task_of(chosen.example)
    for module, source in ((CONFIGURATION, "hf_configuration.py.txt"), (MODELING, "hf_modeling.py.txt")):
        text = files("eesearch.exporters").joinpath(source).read_text(encoding="utf-8")
        (out / f"{module}.py").write_text(text.replace("pixel_values", given), encoding="utf-8")
    learning = Learning.of(chosen)
    (out / "config.json").write_text(
        json.dumps(transformers_config(chosen, learning, task), indent=2) + "\n", encoding="utf-8"
    )
    write_costs(chosen, out)
    (out / "README.md").write_text(
        card("hf.md.jinja", chosen, learning=learning, task=task, given=given), encoding="utf-8"
    )


def task_of(example: torch.Tensor) -> tuple[str, str]:
    """The auto class for such samples beside AutoModel ("" if there is none), and what transformers calls its input."""
    if example.dim() == 4:
        return "AutoModelForImageClassification", "pixel_values"
    if example.dim() == 2 and not example.is_floating_point():
        return "AutoModelForSequenceClassification", "input_ids"
    return "", "inputs"


def transformers_config(chosen: Chosen, learning: Learning, task: str) -> dict[str, Any]:
    """The fields of `config.json`."""
    model, autos = f"{MODELING}.EarlyExitModel", ["AutoModel", *([task] if task else [])]
    return {
        "model_type": "eesearch-early-exit",
        "architectures": ["EarlyExitModel"],
        "auto_map": {"AutoConfig": f"{CONFIGURATION}.EarlyExitConfig"} | dict.fromkeys(autos, model),
        "dtype": "float32",
        "id2label": {str(number): name for number, name in enumerate(chosen.class_names)},
        "label2id": {name: number for number, name in enumerate(chosen.class_names)},
        "thresholds": [str(threshold) for threshold in chosen.thresholds],
        "alphas": list(learning.alphas),
        "learns": None if learning.learns is None else list(learning.learns),
    }


def reload_hf(out: Path) -> Reloaded:
    """The model of a folder, by its own code, which is not copied into the cache of transformers for that.

    Raises:
        InputError: transformers is not installed.
    """
    logging = need_vision("transformers.utils.logging", "hf")
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with package_apart(out) as package:
            modeling = import_module(f"{package}.{MODELING}")
            model = modeling.EarlyExitModel.from_pretrained(out, local_files_only=True).eval()
    finally:
        if shown:
            logging.enable_progress_bar()
    return answering(model.predict)


EXPORTERS.register("hf")(
    Exporter(write_hf, extra="hf", about="a model folder of Hugging Face transformers, with its code", reload=reload_hf)
)
