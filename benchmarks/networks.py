"""Whole networks as rivals of exits: what each of them says about the samples of a run, and what it costs.

They are the reference networks of other runs on the same samples, or the pretrained ResNets of the study
cifar10_cascade. A cascade of them pays each network from its input.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from eesearch.core.costs import Axis, StageCosts, stage_costs
from eesearch.core.design import OUTPUT, OWN, ExitId
from eesearch.core.tables import ExitTable
from eesearch.costs.macs import count_macs
from eesearch.costs.profile import load_any_profile
from eesearch.nets.modes import evaluating
from eesearch.study.files import load_study
from eesearch.study.materials import load_study_data
from eesearch.study.members import load_member
from eesearch.study.run import Run

BATCH = 200


class Network(NamedTuple):
    """A network that has no exits.

    Attributes:
        logits: Of calibration and test samples. [N, C]
        cost: Of a sample.
    """

    name: str
    logits: NDArray[np.float32]
    cost: float


def bank_of(run: Run) -> str:
    """Key of the design that carries every head, on the network as it was."""
    return next(t.design for t in run.answers.trials if t.origin == "bank" and t.design)


def tables_of(run: Run, design: str) -> tuple[ExitTable, ExitTable]:
    """What a trained design says about calibration and test."""
    kept = [run.directory.store.get("table", f"{design}-{split}") for split in ("cal", "test")]
    if None in kept:
        raise SystemExit(f"the store of {run.directory.path} lacks the tables of design {design}: search again")
    cal, test = (ExitTable.from_arrays(*each) for each in kept if each is not None)
    return cal, test


def of_run(run: Run, device: str, samples: tuple[str, str]) -> Network:
    """The reference network of another run.

    Args:
        run: Finished.
        device: Whose cost counts.
        samples: Content hashes of calibration and test that it must share.
    """
    cal, test = tables_of(run, bank_of(run))
    if (cal.samples, test.samples) != samples:
        raise SystemExit(f"{run.directory.path} is not of the same samples")
    profile = load_any_profile(run.directory.profile_file(device))
    cost = stage_costs(profile, cal.exits[-1:], "max_prob", profile.axis).backbone
    return Network(run.directory.path.name, np.concatenate([cal.logits[-1], test.logits[-1]]), cost)


def of_models(run: Run, models: Path, kept: Path) -> list[Network]:
    """The pretrained ResNet-8, 20, 32 and 44 on the samples of a run of CIFAR-10, for counted multiply-adds.

    Args:
        run: Its samples are loaded.
        models: Folder of the weights.
        kept: File where logits are kept, so that networks run once.
    """
    if not kept.exists():
        data = load_study_data(run.question())
        _run_models(models, np.concatenate([data.cal.x, data.test.x]), kept)
    with np.load(kept) as arrays:
        told = zip(arrays["names"], arrays["logits"], arrays["macs"], strict=True)
        return [Network(str(name), logits, float(macs)) for name, logits, macs in told]


def _run_models(models: Path, samples: NDArray[np.uint8], kept: Path) -> None:
    study, found = load_study("cifar10_cascade"), []
    for spec in study.backbones:
        if spec.name == study.reference:
            continue
        weights = str(models / Path(spec.weights or "").name)
        network = load_member(study, spec.model_copy(update={"weights": weights}), samples[:2])
        with evaluating(network), torch.inference_mode():
            said = [network(torch.from_numpy(samples[i : i + BATCH])) for i in range(0, len(samples), BATCH)]
        found.append((spec.name, torch.cat(said).numpy(), count_macs(network, (torch.from_numpy(samples[:1]),))))
        print(f"{spec.name}: {found[-1][2] / 1e6:.1f} million MACs", flush=True)
    names, logits, macs = zip(*found, strict=True)
    kept.parent.mkdir(parents=True, exist_ok=True)
    np.savez(kept, names=np.array(names), logits=np.stack(logits), macs=np.array(macs))


def side_by_side(networks: Sequence[Network], own: ExitTable, cost: float, axis: Axis) -> tuple[ExitTable, StageCosts]:
    """One table of all networks by rising cost, the reference last; and what going from one to the next costs.

    Args:
        networks: Without the reference.
        own: What the reference says. [1, N, C]
        cost: Of the reference.
        axis: What costs are.
    """
    ordered = sorted(networks, key=lambda n: n.cost)
    names = [*(n.name for n in ordered), own.exits[0].network]
    exits = tuple(ExitId(network=n, cut=OUTPUT if n == names[-1] else n, head=OWN) for n in names)
    logits = np.concatenate([np.stack([n.logits for n in ordered]), own.logits])
    forbidden = np.tri(len(names) + 1, len(names), -1, dtype=bool)  # back, or to the same
    step = np.where(forbidden, np.inf, [*(n.cost for n in ordered), cost])
    return ExitTable(logits, own.labels, exits, "cal", own.samples), StageCosts(step, exits, axis, cost)
