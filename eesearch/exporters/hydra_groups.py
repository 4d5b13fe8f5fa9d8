"""`hydra`: the network, its policy and its training as config groups, for a training repository that uses Hydra."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from eesearch.core.design import TrainSpec
from eesearch.core.imports import need
from eesearch.core.registry import EXPORTERS
from eesearch.exporters.apart import Reloaded, answering, modules_apart
from eesearch.exporters.cards import card
from eesearch.exporters.chosen import Chosen
from eesearch.exporters.formats import Exporter
from eesearch.exporters.learning import Learning, write_costs
from eesearch.exporters.torch_folder import write_torch

PACKAGE = "network"
"""The folder with the torch format's files; the groups import from it."""

_OPTIMIZERS = {"adam": "torch.optim.Adam", "adamw": "torch.optim.AdamW", "sgd": "torch.optim.SGD"}


def write_hydra(chosen: Chosen, out: Path) -> None:
    """Write `conf/` with a group each for model, policy and training, and the network beside it.

    Args:
        chosen: What to export.
        out: A folder that is there and empty.
    """
    network = out / PACKAGE
    network.mkdir()
    write_torch(chosen, network)
    parts = files("eesearch.exporters").joinpath("hydra_parts.py.txt").read_text(encoding="utf-8")
    (network / "parts.py").write_text(parts, encoding="utf-8")
    learning = Learning.of(chosen)
    name = re.sub(r"\W", "_", str(chosen.config.study["name"]))
    groups = {"model": model_group(), "policy": policy_group(chosen), "training": training_group(learning)}
    for group, fields in groups.items():
        _write_yaml(out / "conf" / group / f"{name}.yaml", fields)
    _write_yaml(out / "conf" / "config.yaml", {"defaults": [*({group: name} for group in groups), "_self_"]})
    write_costs(chosen, out)
    (out / "README.md").write_text(card("hydra.md.jinja", chosen, learning=learning, name=name), encoding="utf-8")


def _write_yaml(path: Path, fields: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(fields, sort_keys=False, allow_unicode=True), encoding="utf-8")


def model_group() -> dict[str, Any]:
    """What `hydra.utils.instantiate` makes the network of; the policy and what learns come from their own groups."""
    return {
        "_target_": f"{PACKAGE}.parts.build_network",
        "thresholds": "${policy.thresholds}",
        "fits": "${policy.fits}",
        "learns": "${training.learns}",
    }


def policy_group(chosen: Chosen) -> dict[str, Any]:
    """Where samples leave, and when."""
    policy = chosen.config.policy
    return {
        "stops": [*chosen.exits],
        "thresholds": list(chosen.thresholds),
        "criterion": policy.criterion,
        "answer": policy.answer,
        "fits": {kind: [list(row) for row in rows] for kind, rows in chosen.config.fits.items()},
    }


def training_group(learning: Learning) -> dict[str, Any]:
    """How the network was trained."""
    spec = learning.spec
    return {
        "seed": learning.seed,
        "epochs": spec.epochs,
        "batch_size": spec.batch_size,
        "augment": list(spec.augment),
        "learns": None if learning.learns is None else list(learning.learns),
        "loss": {"_target_": f"{PACKAGE}.parts.JointLoss", "alphas": list(learning.alphas)},
        "optimizer": optimizer_fields(spec),
        "scheduler": {"_target_": f"{PACKAGE}.parts.annealing", "_partial_": True, "schedule": spec.schedule},
    }


def optimizer_fields(spec: TrainSpec) -> dict[str, Any]:
    """The optimizer of a training section, to be called with the parameters."""
    fields = {"_target_": _OPTIMIZERS[spec.optimizer], "_partial_": True, "lr": spec.lr}
    momentum = {"momentum": 0.9, "nesterov": True} if spec.optimizer == "sgd" else {}
    return fields | {"weight_decay": spec.weight_decay} | momentum


def reload_hydra(out: Path) -> Reloaded:
    """The network of a folder, composed and instantiated by Hydra.

    Raises:
        InputError: Hydra is not installed.
    """
    hydra = need("hydra", "hydra")
    with hydra.initialize_config_dir(str((out / "conf").resolve()), version_base=None), modules_apart(out):
        network = need("hydra.utils", "hydra").instantiate(hydra.compose("config").model)
    return answering(network.predict)


EXPORTERS.register("hydra")(
    Exporter(
        write_hydra,
        extra="hydra",
        about="Hydra config groups for model, policy and training, with the torch folder",
        reload=reload_hydra,
    )
)
