"""`Chosen`: a point of a run with its network, all that an exporter reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eesearch.core.design import LAST_RESORT, ExitId
from eesearch.core.policy import Criterion, Scoring
from eesearch.exporters.apart import batches
from eesearch.nets.inputs import as_tensor
from eesearch.nets.stages import Prediction, Stage, route
from eesearch.study.config import ExportedConfig, config_of, stop_alphas
from eesearch.study.materials import load_study_data
from eesearch.study.picks import Picked
from eesearch.study.run import Run

Fits = dict[str, tuple[tuple[float, ...], ...]]


@dataclass(frozen=True, eq=False)
class Chosen:
    """All that an exporter reads.

    Attributes:
        config: The point, as it is written down.
        stages: What is deployed, in order, in eval mode.
        scoring: How stops score and answer.
        example: Raw samples. [2, ...]
        class_names: As the data have them. [C]
        losses: Weight of each stage's loss in further training (eq. 6); 1.0 for the own classifier.
        samples: Raw samples that an export is checked on, as many as were asked for. [N, ...]
    """

    config: ExportedConfig
    stages: tuple[Stage, ...]
    scoring: Scoring
    example: Tensor
    class_names: tuple[str, ...]
    losses: tuple[float, ...]
    samples: NDArray[Any]

    @property
    def criterion(self) -> Criterion:
        """The decision that is taken at every stop."""
        return self.scoring.decision

    @property
    def thresholds(self) -> tuple[float, ...]:
        """One per stage; the last is -inf unless a last resort follows."""
        return tuple(stage.threshold for stage in self.stages)

    @property
    def asks(self) -> bool:
        """Whether samples that no stage is sure about are handed on."""
        return self.config.policy.exits[-1].is_last_resort

    @property
    def tiers(self) -> tuple[str, ...]:
        """The tiers that stops lie on, in order; empty where there is one device."""
        return tuple(dict.fromkeys(stage.exit.tier for stage in self.stages if stage.exit.tier))

    @property
    def exits(self) -> tuple[str, ...]:
        """What each number among the exits of a prediction means; a last resort is the last."""
        return (*(stop_name(stage.exit) for stage in self.stages), *((LAST_RESORT,) if self.asks else ()))

    @cached_property
    def parameters(self) -> dict[str, Tensor]:
        """Deployed values of each kind of fit, a row per stage; there is always a temperature. Each [k, D]"""
        return {kind: torch.tensor(rows) for kind, rows in self.config.fits.items()}

    def answers(self, samples: NDArray[Any]) -> Prediction:
        """What the network itself says: the truth that an export is compared with."""
        return self._routed(samples, self.stages)

    def scores(self, samples: NDArray[Any]) -> NDArray[np.float64]:
        """The score of every sample at every stage, as if nobody had left before. [k, N]"""
        never = tuple(Stage(s.segment, s.head, s.exit, float("inf")) for s in self.stages)
        scores = []
        for number in range(len(never)):
            last = Stage(never[number].segment, never[number].head, never[number].exit, float("-inf"))
            scores.append(self._routed(samples, (*never[:number], last)).score.astype(np.float64))
        return np.stack(scores)

    def _routed(self, samples: NDArray[Any], stages: Sequence[Stage]) -> Prediction:
        with torch.inference_mode():
            parts = [route(as_tensor(x), stages, self.criterion, self.parameters) for x in batches(samples)]
        return Prediction.join(parts)


def stop_name(exit_id: ExitId) -> str:
    """An exit in one word, as `cut:head`; `cut:head@tier` on a system, with the link if that codes the carry."""
    placed = f"@{exit_id.tier}" if exit_id.tier else ""
    return f"{exit_id.cut}:{exit_id.head}{placed}" + (f" ({exit_id.link})" if exit_id.link else "")


def choose(run: Run, selection: str | Picked, *, check: int = 256, naive: bool = False) -> Chosen:
    """The point that a selection means, with its network.

    Args:
        run: A finished run.
        selection: Such as `max-drop=0.5%`; or what `Run.pick` or `by_hand` returned.
        check: How many samples of the test split to keep for checks.
        naive: Whether the selection believes losses on calibration, see `Run.pick`.

    Raises:
        PickError: the selection names no point.
        RunError: the run lacks the network, or does not tell how it was trained.
        DataError: the study's data cannot be read any more.
    """
    device, point = run.pick(selection, naive=naive) if isinstance(selection, str) else selection
    samples = _samples(run, check)
    net, fits = run.network(point, samples[:2])
    policy = point.cal.policy
    stages, scoring = net.eval().stages(policy), Scoring.of(policy, fits)
    values: Fits = {
        kind: tuple(tuple(row) for row in rows.tolist())
        for kind, rows in scoring.parameters([stage.exit for stage in stages]).items()
    }
    config = config_of(run, device, point, values)
    return Chosen(
        config=config,
        stages=stages,
        scoring=scoring,
        example=torch.from_numpy(samples[:2].copy()),
        class_names=run.answers.class_names,
        losses=stop_alphas(config),
        samples=samples,
    )


def _samples(run: Run, count: int) -> NDArray[Any]:
    """Raw samples of the test split, at least two."""
    test = load_study_data(run.question()).test.x if run.test is None else run.test
    return test[: max(count, 2)]
