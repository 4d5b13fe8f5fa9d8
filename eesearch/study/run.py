"""A run that is there: its answers, its picks, and the network behind a pick."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from eesearch.core.design import Cascade, with_reference
from eesearch.core.errors import DataError, PickError, RunError
from eesearch.core.front import Front
from eesearch.core.policy import Fit
from eesearch.nets.cascade import CascadeNet
from eesearch.nets.exitnet import ExitNet, Prediction
from eesearch.nets.split import Backbone
from eesearch.study.answers import Answers, DeviceAnswer
from eesearch.study.certificates import certified_point
from eesearch.study.deployed import Deployed
from eesearch.study.materials import backbone_key, load_backbone, load_study_data, thinned
from eesearch.study.members import stored_cascade
from eesearch.study.named import check_named, named_paths
from eesearch.study.picks import Pick, Picked, find_device
from eesearch.study.points import Point
from eesearch.study.question import Study
from eesearch.study.rundir import RunDir
from eesearch.training.checks import read_samples
from eesearch.training.data import Split
from eesearch.training.texts import token_ids


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """What a search left in its run directory.

    Attributes:
        directory: Where it lies.
        answers: As last written.
        backbone: The live network, where the search was given one; otherwise rebuilt from the study when needed.
        test: Raw samples of the test split, where the search was given arrays; otherwise loaded when needed.
        cert: The certification share, where the search was given arrays and reserved one; otherwise loaded when needed.
        trusted: Whether the code that its study names may run, whoever named it.
    """

    directory: RunDir
    answers: Answers
    backbone: Backbone | None = None
    test: NDArray[Any] | None = None
    cert: Split | None = None
    trusted: bool = False

    @classmethod
    def load(cls, path: Path | str, *, trust: bool = False) -> Self:
        """Open a run directory.

        Args:
            path: Of the run.
            trust: Whether the code that its study names may run, though no study of yours has run it.

        Raises:
            RunError: it holds no run, or no answers yet.
        """
        directory = RunDir(Path(path))
        return cls(directory, directory.answers(), trusted=trust)

    def question(self) -> Study:
        """The study, whose model and data may be imported.

        Raises:
            InputError: the user has never named them, and trusts nobody who did.
        """
        study = self.directory.study()
        if not self.trusted:
            check_named(named_paths(study), self.directory.study_file)
        return study

    def __repr__(self) -> str:
        devices = "\n".join(f"  {each}" for each in self.answers.verdicts())
        return f"Run({str(self.directory.path)!r}, {len(self.answers.trials)} trials)\n{devices}"

    def device(self, name: str | None = None) -> DeviceAnswer:
        """The answers for one device; the study's first if none is named."""
        return find_device(self.answers.devices, name)

    def front(self, device: str | None = None) -> Front:
        """The calibration front of one device."""
        return self.device(device).front()

    def pick(
        self,
        selection: str | None = None,
        *,
        max_drop: float | str | None = None,
        budget_ms: float | None = None,
        knee: bool = False,
        point: int | None = None,
        device: str | None = None,
        naive: bool = False,
    ) -> Picked:
        """The point that a selection means; never reads test.

        Args:
            selection: As on the command line, such as `max-drop=0.5%` or `knee@macs`; or else one of the following.
            max_drop: The cheapest point that is expected to lose at most so much on new samples: 0.005, or `"0.5%"`.
            budget_ms: The most accurate point that needs at most so long on average.
            knee: The point farthest below the line between the cheapest and the best.
            point: Its number on the front.
            device: On whose front; the study's first if none is named.
            naive: Believe the drops on calibration.

        Raises:
            PickError: nothing, several things or a point that does not exist is meant.
        """
        if selection is None:
            return Pick.by_rule(max_drop=max_drop, budget_ms=budget_ms, knee=knee, point=point, device=device).choose(
                self.answers.devices, naive=naive
            )
        rules = {"max_drop": max_drop, "budget_ms": budget_ms, "knee": knee or None, "point": point}
        given = [name for name, value in rules.items() if value is not None]
        chosen = Pick.parse(selection)
        if given or (device is not None and chosen.device is not None):
            raise PickError(
                "a pick is a selection or a keyword", got=f"'{selection}' and {', '.join(given) or 'device'}"
            )
        chosen = replace(chosen, device=chosen.device or device)
        if chosen.rule == "certified":
            found = self.device(chosen.device)
            return Picked(found, certified_point(self.directory, self.answers, chosen.amount, found.device))
        return chosen.choose(self.answers.devices, naive=naive)

    def model(
        self, selection: str | Picked | Point = "max-drop=0.5%", example: NDArray[np.generic] | None = None
    ) -> Deployed:
        """The trained network behind a point, which really stops early: `model.predict(x)`.

        Args:
            selection: A selection such as `max-drop=0.5%`, or what `pick` returned.
            example: At least one raw sample, by which the network is split again [N, ...]; from the study's data
                if there is none.

        Raises:
            PickError: the selection means no point.
            RunError: the store lacks the weights.
            InputError: the study's model or data cannot be loaded any more.
        """
        picked = self.pick(selection) if isinstance(selection, str) else selection
        point = picked.point if isinstance(picked, Picked) else picked
        if example is None:
            example = np.empty(0) if self.backbone else load_study_data(self.question()).test.x[:2]
        net, fits = self.network(point, example)
        return Deployed(net, point.cal.policy, fits)

    def network(self, point: Point, example: NDArray[np.generic]) -> tuple[ExitNet | CascadeNet, tuple[Fit, ...]]:
        """The trained network behind a point, and the fits that its policy uses.

        Args:
            point: Of this run.
            example: At least one raw sample, by which the network is split again. [N, ...]

        Raises:
            RunError: the store lacks the weights.
            ModelError: the study's model cannot be built any more.
        """
        if len(self.directory.study().backbones) > 1:
            return self._cascade(point, example)
        store, study = self.directory.store, self.directory.study() if self.backbone else self.question()
        design = point.cal.design
        if design:  # the store holds all weights: the file that the study names need not be there any more
            plain = study.backbone.bare
            study = study.model_copy(update={"backbones": (plain,)})
        untrained = self.backbone or load_backbone(study, example)
        if not design:  # the unmodified backbone
            if self.backbone is None and not study.backbone.is_trained:
                kept = store.get("weights", backbone_key(study, untrained, self.answers.data["hashes"]["train"]))
                if kept is None:
                    raise self._missing("the backbone")
                untrained.load_any({name: torch.from_numpy(array) for name, array in kept[0].items()})
            return ExitNet(untrained, {}), ()
        kept = store.get("weights", design)
        fits = [store.get("fit", key) for key in point.cal.policy.fits]
        if kept is None or None in fits:
            raise self._missing(f"design {design}")
        backbone = untrained if self.backbone else thinned(untrained, study.space.cuts.max_cuts)
        return ExitNet.from_arrays(backbone, *kept), tuple(Fit.from_arrays(*fit) for fit in fits if fit is not None)

    def _cascade(self, point: Point, example: NDArray[np.generic]) -> tuple[CascadeNet, tuple[Fit, ...]]:
        """As `network`, of a study of several; the unmodified reference comes with all others beside it."""
        store, known = self.directory.store, self.answers.designs
        on_fronts = [known[p.cal.design] for d in self.answers.devices for p in d.points if p.cal.design in known]
        design = known.get(point.cal.design) or with_reference([*on_fronts, *known.values()])
        net = stored_cascade(store, self.question(), design, example) if isinstance(design, Cascade) else None
        fits = [store.get("fit", key) for key in point.cal.policy.fits]
        if net is None or None in fits:
            raise self._missing(f"design {point.cal.design}")
        return net, tuple(Fit.from_arrays(*fit) for fit in fits if fit is not None)

    def _missing(self, what: str) -> RunError:
        return RunError(
            f"the store of {self.directory.path} lacks the network of {what}",
            do="Run `eesearch search` with the same study and --run again: it trains what is missing.",
        )

    def samples(self, given: Any) -> NDArray[Any]:
        """Samples [N, ...] as the networks of this run take them; of texts [N], their token ids.

        Raises:
            DataError: no numbers, or values that are not finite; texts, and the study has no tokenizer.
        """
        shape, data = self.answers.data["sample_shape"], self.directory.study().data
        ids = token_ids("x", given, data.tokenizing, shape[0])
        return read_samples("x", given) if ids is None else ids

    def predict(self, point: Point | Picked, x: Any) -> Prediction:
        """Answer raw samples [N, ...] or texts [N] with real early stopping; `model` is for those who answer often.

        Raises:
            DataError: the samples differ in shape or kind from those of the study.
        """
        x = self.samples(x)
        made_on = self.answers.data["sample_dtype"], self.answers.data["sample_shape"]
        if (str(x.dtype), list(x.shape[1:])) != made_on:
            raise DataError(
                "the samples are not like those that the run was made on",
                got=f"{x.dtype} {list(x.shape[1:])}",
                expected=f"{made_on[0]} {made_on[1]}",
                do="Give raw samples, of the kind and range that the study's data have.",
            )
        return self.model(point, x).predict(x)
