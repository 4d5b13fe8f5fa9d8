"""Which preprocessing a network wants: as its library says, or as a trained one answers best on calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from eesearch.core.errors import ModelError
from eesearch.nets.adapters import speaking
from eesearch.nets.inputs import Preprocessed
from eesearch.nets.modes import evaluating
from eesearch.nets.proof import run_model
from eesearch.nets.sources import IMAGENET, SOURCES, Normalization, normalization_of
from eesearch.study.materials import first_module, study_model
from eesearch.study.networks import InputSpec
from eesearch.study.question import Study
from eesearch.training.data import Dataset, Split

SAMPLES = 400
"""Of calibration, that a trained network answers under every preprocessing."""

_BATCH = 50
_OWN = "mean and std of the data"


class Tried(NamedTuple):
    """A preprocessing, and how well a trained network answers with it.

    Attributes:
        name: As people call it.
        fields: Of the section `input`.
        accuracy: Share of the calibration samples that are answered right.
    """

    name: str
    fields: Mapping[str, Any]
    accuracy: float


@dataclass(frozen=True)
class ChosenInput:
    """The preprocessing that is written into a study.

    Attributes:
        fields: Of the section `input`.
        tried: All that were compared, the best first; none: the network is not trained, or its library says it.
        samples: Number of calibration samples that were answered.
        doubt: Why a person should look at it; "": no reason was found.
    """

    fields: Mapping[str, Any]
    tried: tuple[Tried, ...] = ()
    samples: int = 0
    doubt: str = ""

    @property
    def report(self) -> str:
        """What was compared, in one line; "": nothing was."""
        if not self.tried:
            return ""
        best, *others = (f"{each.name} {each.accuracy:.1%}" for each in self.tried)
        found = f"best of {len(self.tried)} on {self.samples} calibration samples: {best} right"
        return ", ".join([found, *others])

    @property
    def warning(self) -> str:
        """What a person is told to do about a doubt; "": there is none."""
        return f"CHECK THIS: {self.doubt}" if self.doubt else ""


def choose_preprocessing(study: Study, dataset: Dataset) -> ChosenInput:
    """What is done to raw samples before the network of a study that is to be written.

    A library's own preprocessing is taken with its own weights, where it says one. A network that is still to be
    trained gets the mean and deviation of the training samples. Any other was trained with a preprocessing that nobody
    tells: the usual ones are compared by its answers on calibration samples, never on test.

    Args:
        study: Names one network; its `input` does not matter.
        dataset: Its data.

    Raises:
        ModelError: the network cannot be loaded, does not run on the samples, or gives no logits.
    """
    x = dataset.train.x
    if x.dtype == np.int64:
        return ChosenInput({"tokens": True})
    photos = x.dtype == np.uint8 and x.ndim == 4 and x.shape[1] == 3
    of_library = photos and study.backbone.model.partition(":")[0] in SOURCES
    if not study.backbone.is_trained:
        return ChosenInput({"normalize": "model"} if of_library else _own(x))
    model, usual = study_model(study), candidates(x)
    said = _said(model) if of_library else None
    if said is not None:
        if study.backbone.weights is None:
            return ChosenInput({"normalize": "model"})
        usual = {name: fields for name, fields in usual.items() if _normalization(fields) != said}
        usual["as the library says"] = {"normalize": "model"}
    return _compared(model, usual, dataset.cal)


def _said(model: nn.Module) -> Normalization | None:
    try:
        return normalization_of(model)
    except ModelError:
        return None


def _normalization(fields: Mapping[str, Any]) -> Normalization:
    mean, std = (tuple(fields.get(name, ())) for name in ("mean", "std"))
    return mean, std


def candidates(x: NDArray[Any]) -> dict[str, dict[str, Any]]:
    """The usual preprocessings of such samples by name, each as fields of the section `input`.

    Args:
        x: Training samples. [N, ...]
    """
    part = _some(x)
    most = float(part.max())
    if (x.dtype == np.uint8 or x.ndim == 4) and 16.0 < most <= 255.0:
        most = 255.0  # 8-bit images, even if none of them is white
    usual: dict[str, dict[str, Any]] = {"raw values": {"scale": 1.0}}
    if part.min() >= 0 and most > 0.0:
        scale = 1.0 / most
        usual["0 to 1"] = {"scale": scale}
        usual["-1 to 1"] = {"scale": scale, "mean": [0.5], "std": [0.5]}
        if x.ndim == 4 and x.shape[1] == 3:
            mean, std = map(list, IMAGENET)
            usual["mean and std of ImageNet"] = {"scale": scale, "mean": mean, "std": std}
    usual[_OWN] = _own(x)
    distinct: dict[InputSpec, str] = {}
    for name, fields in usual.items():
        distinct.setdefault(InputSpec.model_validate(fields), name)
    return {name: usual[name] for name in distinct.values()}


def _some(x: NDArray[Any]) -> NDArray[Any]:
    """Some 4,096 of the samples, spread over all."""
    return x[:: max(1, len(x) // 4096)]


def _own(x: NDArray[Any]) -> dict[str, Any]:
    """Mean and deviation of the samples by axis 1 (channels, features, or steps of a series), to four digits."""
    part = _some(x)
    scale = 1.0 / 255.0 if x.dtype == np.uint8 and part.max() > 16 else 1.0
    part = part.astype(np.float64) * scale
    others = tuple(axis for axis in range(part.ndim) if axis != 1)
    deviation = part.std(others)
    deviation = np.where(deviation > 0.0, deviation, 1.0)
    mean, std = ([float(f"{value:.4g}") for value in values] for values in (part.mean(others), deviation))
    return {"scale": scale, "mean": mean, "std": std}


def _compared(model: nn.Module, usual: Mapping[str, Mapping[str, Any]], cal: Split) -> ChosenInput:
    by_class = np.argsort(cal.y, kind="stable")
    rows = by_class[np.linspace(0, len(cal) - 1, min(SAMPLES, len(cal))).astype(int)]  # each class by its share
    x, y = cal.x[rows], cal.y[rows]
    network = speaking(model)
    right = {}
    for name, fields in usual.items():
        first = first_module(InputSpec.model_validate(fields), network)
        right[name] = _answers(Preprocessed(first, network), x) == y
    tried = [Tried(name, fields, float(right[name].mean())) for name, fields in usual.items()]
    tried.sort(key=lambda each: -each.accuracy)
    best = tried[0]
    equal = [each.name for each in tried[1:] if not _is_better(right[best.name], right[each.name])]
    chance = float(np.bincount(y).max() / len(y))
    doubt = ""
    if best.accuracy < min(2.0 * chance, 0.5 + 0.5 * chance):
        doubt = f"none suits the network; always giving the most frequent class is right in {chance:.1%}"
    elif equal:
        doubt = f"{' and '.join(equal)} may do as well"
    return ChosenInput(best.fields, tuple(tried), len(y), doubt)


def _answers(network: nn.Module, x: NDArray[Any]) -> NDArray[np.int64]:
    """The class that the network gives each sample. [N]"""
    with evaluating(network):
        parts = [run_model(network, torch.from_numpy(np.array(x[i : i + _BATCH]))) for i in range(0, len(x), _BATCH)]
    answers: NDArray[np.int64] = torch.cat(parts).argmax(1).numpy()
    return answers


def _is_better(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> bool:
    """Whether answers are right more often by two standard errors of the paired difference."""
    won, lost = int((one & ~other).sum()), int((other & ~one).sum())
    return won - lost > 2.0 * float(np.sqrt(won + lost))
