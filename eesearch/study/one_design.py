"""`mode: design`: one design is trained, and its front solved; what `eesearch train` runs."""

from __future__ import annotations

from collections.abc import Sequence

from eesearch.core.design import Design
from eesearch.core.errors import StudyError
from eesearch.core.progress import Progress, silent
from eesearch.study.front_problem import FrontProblem
from eesearch.study.materials import Materials
from eesearch.study.space import Parameter
from eesearch.study.trial import Outcome, Params, Report


class OneDesign(FrontProblem):
    """Trial 0 trains the study's design; there is no other.

    Args:
        materials: As in `Problem`.
        progress: As in `Problem`.

    Raises:
        StudyError: the design has an exit that the space does not offer.
    """

    origin = "design"
    parameters: tuple[Parameter, ...] = ()

    def __init__(self, materials: Materials, progress: Progress = silent) -> None:
        super().__init__(materials, progress)
        for asked in self.study.design.exits if self.study.design else ():
            offered = materials.heads.get(asked.cut, ())
            if asked.head not in offered:
                raise StudyError(
                    f"the design has a head '{asked.head.name}' at '{asked.cut}' that the space does not offer there",
                    expected=f"one of {', '.join(h.name for h in offered)}" if offered else f"a cut of {self.cuts}",
                )

    def first(self) -> Outcome:
        """Train the design from the study's backbone, or from random weights."""
        asked = self.study.design
        assert asked is not None  # the study was checked
        start = self.materials.fresh if asked.scratch else self.materials.backbone
        assert start is not None
        design = Design(
            backbone=start.key,
            data=self.materials.dataset.train.key,
            strategy=asked.strategy,
            exits=asked.exits,
            train=asked.train,
            seed=self.study.seed,
            loss=asked.loss,
            before=self.study.training.backbone if asked.scratch else None,
        )
        return self.outcome(self.weighed(design))

    def run(self, params: Params, report: Report | None = None) -> Outcome:
        """There is nothing to propose."""
        raise NotImplementedError("a study of one design has one trial")

    def proposed(self, params: Params) -> Design | None:
        """There is nothing to propose."""
        return None

    def seeds(self) -> Sequence[tuple[str, Params]]:
        """There is nothing to propose."""
        return []
