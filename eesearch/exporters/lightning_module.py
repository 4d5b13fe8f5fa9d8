"""`lightning`: the network as a LightningModule with its data module and a command line, to train it further."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from eesearch.core.registry import EXPORTERS
from eesearch.exporters.apart import Reloaded, answering, modules_apart
from eesearch.exporters.cards import card
from eesearch.exporters.chosen import Chosen
from eesearch.exporters.formats import Exporter
from eesearch.exporters.learning import Learning, write_costs
from eesearch.exporters.torch_folder import write_torch
from eesearch.nets.vision import need_vision

CODE = {"lit.py": "lightning_lit.py.txt", "data.py": "lightning_data.py.txt", "main.py": "lightning_main.py.txt"}
"""Files of the folder, and the texts beside this module that they are copies of."""


def write_lightning(chosen: Chosen, out: Path) -> None:
    """Write the torch format's files and what Lightning needs around them.

    Args:
        chosen: What to export.
        out: A folder that is there and empty.
    """
    write_torch(chosen, out)
    learning = Learning.of(chosen)
    for name, source in CODE.items():
        (out / name).write_text(files("eesearch.exporters").joinpath(source).read_text(encoding="utf-8"))
    (out / "config.yaml").write_text(yaml.safe_dump(cli_config(chosen, learning), sort_keys=False), encoding="utf-8")
    write_costs(chosen, out)
    (out / "README.md").write_text(card("lightning.md.jinja", chosen, learning=learning), encoding="utf-8")


def cli_config(chosen: Chosen, learning: Learning) -> dict[str, Any]:
    """The fields of `config.yaml`, as LightningCLI reads them."""
    spec = learning.spec
    data: dict[str, Any] = {"path": learning.source} if learning.source else {}
    return {
        "seed_everything": learning.seed,
        "trainer": {"max_epochs": spec.epochs, "callbacks": [{"class_path": "lit.TableWriter"}]},
        "model": {
            "alphas": list(learning.alphas),
            "learns": None if learning.learns is None else list(learning.learns),
            "optimizer": spec.optimizer,
            "lr": spec.lr,
            "weight_decay": spec.weight_decay,
            "schedule": spec.schedule,
            "thresholds": None,
        },
        "data": data
        | {
            "batch_size": spec.batch_size,
            "augment": list(spec.augment),
            "calibration_from": learning.calibration.origin,
            "calibration_share": learning.calibration.share,
            "certification_share": learning.certification,
            "seed": learning.split_seed,
        },
    }


def reload_lightning(out: Path) -> Reloaded:
    """The LightningModule of a folder, as its `config.yaml` makes it.

    Raises:
        InputError: Lightning is not installed.
    """
    need_vision("lightning", "lightning")
    fields = yaml.safe_load((out / "config.yaml").read_text(encoding="utf-8"))
    with modules_apart(out):
        import lit

        module = lit.EarlyExits(**fields["model"]).eval()
    return answering(module.network.predict)


EXPORTERS.register("lightning")(
    Exporter(
        write_lightning,
        extra="lightning",
        about="the torch folder with a LightningModule, a data module and a LightningCLI configuration",
        reload=reload_lightning,
    )
)
