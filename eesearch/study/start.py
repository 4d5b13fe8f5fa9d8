"""A study file for a network and data that a person has: looked at first, with comments, and running as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import indent, wrap
from typing import Any

import yaml

from eesearch.core.errors import StudyError
from eesearch.core.store import write_atomic
from eesearch.study.files import validate
from eesearch.study.inspection import InspectedNetwork, inspect_study
from eesearch.study.materials import load_study_data
from eesearch.study.preprocessing import ChosenInput, choose_preprocessing
from eesearch.study.profiling import require_devices
from eesearch.study.question import Study
from eesearch.training.data import Dataset

MOST_CUTS = 8
"""More candidates than these are thinned: every one of them carries heads."""

_CLASSES = {"timm": "num_classes", "torchvision": "num_classes"}
"""Source of a network -> its argument for the number of classes, unless it comes with weights."""


@dataclass(frozen=True)
class Begun:
    """What a person says of a study that is to be written.

    Attributes:
        model: As `BackboneSpec.model`.
        data: As `DataSpec.source`.
        devices: As `Study.devices`.
        args: Of the model.
        weights: Of the model; none: it is trained first, unless it comes with them.
        data_args: Of the data.
        tokenizer: Of texts.
    """

    model: str
    data: str
    devices: tuple[str, ...] = ("cpu:eager:t1:b1", "macs")
    args: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    data_args: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: str | None = None


@dataclass(frozen=True)
class Written:
    """What was found while a study was written.

    Attributes:
        networks: With their cuts.
        preprocessing: What is done to raw samples first, and why.
    """

    networks: tuple[InspectedNetwork, ...]
    preprocessing: ChosenInput


def write_study(begun: Begun, name: str, out: Path) -> Written:
    """Look at data and network, and write a study file that runs as it is.

    Args:
        begun: What is known.
        name: Of the study.
        out: The file; it must not be there.

    Raises:
        InputError: of the part that cannot be used; nothing is written then.
    """
    if out.exists():
        raise StudyError(f"{out} is there already", do="Pass another name with --out.")
    data: dict[str, Any] = {"source": begun.data}
    data |= {"args": dict(begun.data_args)} if begun.data_args else {}
    data |= {"tokenizer": begun.tokenizer} if begun.tokenizer else {}
    backbone: dict[str, Any] = {"model": begun.model, "args": dict(begun.args)}
    backbone |= {"weights": begun.weights} if begun.weights else {}
    fields: dict[str, Any] = {"name": name, "backbone": backbone, "data": data, "devices": list(begun.devices)}
    asked = validate(Study, fields, "the study")
    require_devices(asked)
    dataset = load_study_data(asked)
    argument = _CLASSES.get(begun.model.partition(":")[0])
    if argument is not None and not asked.backbone.is_trained:
        backbone["args"].setdefault(argument, dataset.classes)
    preprocessing = choose_preprocessing(validate(Study, fields, "the study"), dataset)
    fields["input"] = dict(preprocessing.fields)
    fields["space"] = {"cuts": {"max_cuts": MOST_CUTS}}
    study = validate(Study, fields, "the study")
    with TemporaryDirectory() as place:
        written = Written(inspect_study(study, Path(place), ()), preprocessing)
    write_atomic(out, _text(study, fields, dataset, written))
    return written


def _text(study: Study, fields: Mapping[str, Any], dataset: Dataset, written: Written) -> str:
    """The file, section by section, each with a word about it."""
    sizes = ", ".join(f"{len(split):,} {split.name}" for split in dataset.splits)
    sample = "x".join(map(str, dataset.train.x.shape[1:]))
    trained = "it comes trained" if study.backbone.is_trained else "it is trained first, as `training` says"
    (network,) = written.networks
    cuts = ", ".join(cut.name for cut in network.cuts[:-1])
    comments = {
        "name": f"Search it: eesearch search {study.name}.yaml. See the cuts: eesearch inspect {study.name}.yaml",
        "backbone": f"The network: {network.cuts[-1].macs / 1e6:,.3f} M multiply-adds; {trained}.",
        "data": f"{dataset.classes} classes, samples {sample} {dataset.train.x.dtype}; {sizes}.",
        "input": _input_comment(written.preprocessing),
        "devices": "A front for each: macs is counted; cpu:eager:t1:b1 is measured here (also cpu:onnxruntime:t1:b1).",
        "space": f"Exits may hang after: {cuts}. Heads are those that fit each cut; list others under `heads`.",
    }
    parts = [f"# {comments[key]}\n{_dump({key: fields[key]})}" for key in comments]
    if not study.backbone.is_trained:
        training = study.training
        parts.append(
            "# How the network is trained; then heads, then what the search proposes.\n"
            + _dump({"training": {"epochs": training.epochs, "batch_size": training.batch_size, "lr": training.lr}})
        )
    parts.append(
        "# How much may be spent: trials are trainings, the first is the bank of all heads.\n"
        + _dump({"budget": {"trials": study.budget.trials}})
    )
    return "\n".join(parts)


def _input_comment(choice: ChosenInput) -> str:
    """With what was compared, in lines that can be read."""
    said = [text[:1].upper() + text[1:] + "." for text in (choice.report, choice.warning) if text]
    lines = [line for text in said for line in wrap(text, 116, break_on_hyphens=False)]
    return "\n# ".join(["What is done to raw samples first; part of the network.", *lines])


def _dump(section: Mapping[str, Any]) -> str:
    """One section: its name, and its fields below it, the inner ones in one line each."""
    lines = []
    for name, value in section.items():
        text = yaml.safe_dump(value, sort_keys=False, default_flow_style=None if _is_deep(value) else False, width=110)
        inside = text.removesuffix("...\n")
        lines.append(f"{name}:\n{indent(inside, '  ')}" if isinstance(value, dict) else f"{name}: {inside}")
    return "".join(lines)


def _is_deep(value: object) -> bool:
    """Whether it holds lists or sections."""
    inner = value.values() if isinstance(value, dict) else [value]
    return any(isinstance(each, (dict, list)) for each in inner)
