"""A run that is there: its answers, its picks, and the network behind a pick."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from eesearch.core.errors import DataError, RunError
from eesearch.core.front import Front
from eesearch.core.policy import Fit
from eesearch.nets.exitnet import ExitNet, Prediction
from eesearch.nets.split import Backbone
from eesearch.study.answers import Answers, DeviceAnswer, Point
from eesearch.study.materials import backbone_key, load_backbone, thinned
from eesearch.study.picks import Pick, find_device
from eesearch.study.rundir import RunDir


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """What a search left in its run directory.

    Attributes:
        directory: Where it lies.
        answers: As last written.
        backbone: The live network, where the search was given one; otherwise rebuilt from the study when needed.
    """

    directory: RunDir
    answers: Answers
    backbone: Backbone | None = None

    @classmethod
    def load(cls, path: Path | str) -> Run:
        """Open a run directory.

        Raises:
            RunError: it holds no run, or no answers yet.
        """
        directory = RunDir(Path(path))
        return cls(directory, directory.answers())

    def __repr__(self) -> str:
        devices = "\n".join(f"  {device.verdict()}" for device in self.answers.devices)
        return f"Run({str(self.directory.path)!r}, {len(self.answers.trials)} trials)\n{devices}"

    def device(self, name: str | None = None) -> DeviceAnswer:
        """The answers for one device; the study's first if none is named."""
        return find_device(self.answers.devices, name)

    def front(self, device: str | None = None) -> Front:
        """The calibration front of one device."""
        return self.device(device).front()

    def pick(self, selection: str) -> tuple[DeviceAnswer, Point]:
        """The point that a selection such as `max-drop=0.5%` means; never reads test."""
        return Pick.parse(selection).choose(self.answers.devices)

    def network(self, point: Point, example: NDArray[np.generic]) -> tuple[ExitNet, tuple[Fit, ...]]:
        """The trained network behind a point, and the fits that its policy uses.

        Args:
            point: Of this run.
            example: At least one raw sample, by which the network is split again. [N, ...]

        Raises:
            RunError: the store lacks the weights.
            ModelError: the study's model cannot be built any more.
        """
        study, store = self.directory.study(), self.directory.store
        design = point.cal.design
        if design:  # the store holds all weights: the file that the study names need not be there any more
            plain = study.backbone.model_copy(update={"weights": None})
            study = study.model_copy(update={"backbones": (plain,)})
        untrained = self.backbone or load_backbone(study, example)
        if not design:  # the unmodified backbone
            if self.backbone is None and study.backbone.weights is None:
                kept = store.get("weights", backbone_key(study, untrained, self.answers.data["hashes"]["train"]))
                if kept is None:
                    raise self._missing("the backbone")
                untrained.load_state_dict({name: torch.from_numpy(array) for name, array in kept[0].items()})
            return ExitNet(untrained, {}), ()
        kept = store.get("weights", design)
        fits = [store.get("fit", key) for key in point.cal.policy.fits]
        if kept is None or None in fits:
            raise self._missing(f"design {design}")
        backbone = untrained if self.backbone else thinned(untrained, study.space.cuts.max_cuts)
        return ExitNet.from_arrays(backbone, *kept), tuple(Fit.from_arrays(*fit) for fit in fits if fit is not None)

    def _missing(self, what: str) -> RunError:
        return RunError(
            f"the store of {self.directory.path} lacks the network of {what}",
            do="Run `eesearch search` with the same study and --run again: it trains what is missing.",
        )

    def predict(self, point: Point, x: NDArray[np.generic]) -> Prediction:
        """Answer raw samples [N, ...] with real early stopping.

        Raises:
            DataError: the samples differ in shape or kind from those of the study.
        """
        made_on = self.answers.data["sample_dtype"], self.answers.data["sample_shape"]
        if (str(x.dtype), list(x.shape[1:])) != made_on:
            raise DataError(
                "the samples are not like those that the run was made on",
                got=f"{x.dtype} {list(x.shape[1:])}",
                expected=f"{made_on[0]} {made_on[1]}",
                do="Give raw samples, of the kind and range that the study's data have.",
            )
        net, fits = self.network(point, x)
        return net.predict(x, point.cal.policy, fits)
