"""How a chosen network goes on learning, and how its thresholds are chosen again: for other people's training code."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from eesearch.core.costs import Axis
from eesearch.core.design import Cascade, Design, TrainSpec
from eesearch.exporters.chosen import Chosen, stop_name
from eesearch.exporters.torch_folder import stage_texts
from eesearch.study.materials import calibration_of
from eesearch.training.data import Calibration
from eesearch.training.fitting import is_fitted


@dataclass(frozen=True)
class Learning:
    """The training of a chosen network.

    Attributes:
        spec: Epochs, batches, optimizer.
        alphas: Weight of the loss of each stage, in order.
        learns: Layers of the exported network that learn, by name; None: all of it.
        fitted: Stops whose heads scikit-learn fitted: no training changes them.
        seed: Of the order of the samples and their transformations.
        calibration: Where the calibration split comes from, for data that have none.
        certification: Share of the calibration samples that the study has set aside; None: none.
        split_seed: Decides which samples calibrate, and which were set aside.
        source: The `.npz` file that the network was trained on; "" if the data came from elsewhere.
    """

    spec: TrainSpec
    alphas: tuple[float, ...]
    learns: tuple[str, ...] | None
    fitted: tuple[str, ...]
    seed: int
    calibration: Calibration
    certification: float | None
    split_seed: int
    source: str

    @classmethod
    def of(cls, chosen: Chosen) -> Learning:
        """The training of the chosen design; that of the backbone where no design was trained."""
        study = chosen.config.question()
        design, source = chosen.config.design, study.data.source
        return cls(
            spec=design.train if design else study.training.backbone,
            alphas=tuple(chosen.losses),
            learns=None if design is None or _learnt_backbone(chosen, design) else head_layers(chosen) or None,
            fitted=tuple(stop_name(s.exit) for s in chosen.stages if s.head is not None and is_fitted(s.head)),
            seed=design.seed if design else study.seed,
            calibration=calibration_of(study),
            certification=study.data.certification,
            split_seed=study.seed,
            source=source if source.endswith(".npz") else "",
        )


def _learnt_backbone(chosen: Chosen, design: Design) -> bool:
    """Whether training changed the backbone: a network is known by its weights."""
    if isinstance(design, Cascade):
        return design.strategy != "separate"
    return any(stage.exit.network != design.backbone for stage in chosen.stages)


def head_layers(chosen: Chosen) -> tuple[str, ...]:
    """Names of the layers of all heads in the exported network, those without weights included."""
    names = []
    for number, (stage, text) in enumerate(zip(chosen.stages, stage_texts(chosen), strict=True)):
        segment = {id(tensor) for tensor in chain(stage.segment.parameters(), stage.segment.buffers())}
        before = {name.partition(".")[0] for name, tensor in text.tensors.items() if id(tensor) in segment}
        called = re.findall(r"self\.(head\w*) = ", "\n".join(text.lines)) if stage.head else []
        names += [f"stages.{number}.{name}" for name in called if name not in before]
    return tuple(names)


def write_costs(chosen: Chosen, out: Path) -> None:
    """Write `costs.json`, what the stops cost, as `eesearch solve` reads it.

    A stop that a sample passes is paid even where nobody leaves: with threshold inf it stays in the network.

    Args:
        chosen: Nothing is written of a point of an old run, which does not tell its stops' costs.
        out: A folder.
    """
    axis: Axis = chosen.config.axis
    paid = [0.0, *(stop.costs[axis] for stop in chosen.config.stops)]
    stops = range(len(paid) - 1)
    step = [[paid[to + 1] - before if to >= start else None for to in stops] for start, before in enumerate(paid)]
    if stops:
        (out / "costs.json").write_text(json.dumps({"axis": axis, "step": step}) + "\n", encoding="utf-8")
