"""A policy as it is deployed on a back end: compiled stages, and the loop on the host that really stops.

The twin of `nets.stages.route`, for stages that were lowered and compiled (`nets.lower`): same answers, same stops.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, nan
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eesearch.core.design import ABSTAINED
from eesearch.core.policy import Fit, Policy, Scoring
from eesearch.nets.lower import Lowered, lower_stages
from eesearch.nets.stages import Prediction, Stage

Call = Callable[..., tuple[Any, ...]]
"""A compiled stage: native inputs `(carry..., earlier logits...)` to native outputs `(next carry..., logits, answer,
score)`, see `nets.lower.LoweredStage`."""

Native = Callable[[Tensor], Any]
"""A CPU tensor as the back end takes it."""


def lower_policy(stages: Sequence[Stage], policy: Policy, fits: Sequence[Fit], example: Tensor) -> tuple[Lowered, ...]:
    """The stages of a policy with their decisions, ready for a back end.

    Args:
        stages: As `ExitNet.stages` gives them; in eval mode.
        policy: Theirs.
        fits: Those that its thresholds were chosen with.
        example: Raw samples, as many as one call gets. [N, ...]

    Raises:
        PolicyError: policy and fits do not belong together.
    """
    scoring = Scoring.of(policy, fits)
    fitted = scoring.parameters([stage.exit for stage in stages])
    parameters = {kind: torch.from_numpy(values) for kind, values in fitted.items()}
    return lower_stages(stages, scoring.decision, parameters, example)


@dataclass(frozen=True, eq=False)
class StageRunner:
    """Runs compiled stages one after the other until everybody has left.

    Attributes:
        calls: The stages. [k]
        thresholds: A sample leaves iff its score is at least this, per stage; -inf: everybody leaves. Who passes the
            last one too is handed on: only policies that end in a last resort have a number there. [k]
        remembers: Whether stages are shown the logits of all earlier ones (criteria of memory `all`).
        native: Puts a mask of the samples that go on where the outputs are.
    """

    calls: tuple[Call, ...]
    thresholds: tuple[float, ...]
    remembers: bool
    native: Native

    def one(self, x: Any) -> tuple[int, int, float]:
        """Answer, stop and score of a single raw sample [1, ...], without any bookkeeping."""
        inputs: Sequence[Any] = (x,)
        earlier: tuple[Any, ...] = ()
        number = 0
        for call, threshold in zip(self.calls, self.thresholds, strict=True):
            *inputs, logits, answer, sure = call(*inputs, *earlier)
            score = sure.item()
            if score >= threshold or threshold == -inf:  # also where the score is not a number
                return answer.item(), number, score
            if self.remembers:
                earlier = (*earlier, logits)
            number += 1
        return ABSTAINED, number, nan

    def batch(self, x: Any) -> Prediction:
        """Raw samples [N, ...]; those that leave are not computed any further."""
        count = len(x)
        answers = np.full(count, ABSTAINED, np.int64)
        stops, scores = np.full(count, len(self.calls), np.int64), np.full(count, np.nan, np.float32)
        rows = np.arange(count)  # the samples that are still on their way
        inputs: Sequence[Any] = (x,)
        earlier: tuple[Any, ...] = ()
        for number, (call, threshold) in enumerate(zip(self.calls, self.thresholds, strict=True)):
            *inputs, logits, answer, sure = call(*inputs, *earlier)
            score = on_host(sure)
            leaves = score.astype(np.float64) >= threshold if threshold > -inf else np.ones(len(rows), np.bool_)
            gone = rows[leaves]
            answers[gone], stops[gone], scores[gone] = on_host(answer)[leaves], number, score[leaves]
            if len(gone) == len(rows):
                break
            if self.remembers:
                earlier = (*earlier, logits)
            if len(gone):
                rows = rows[~leaves]
                goes_on = self.native(torch.from_numpy(~leaves))
                inputs, earlier = [t[goes_on] for t in inputs], tuple(t[goes_on] for t in earlier)
        return Prediction(answers, stops, scores)


def on_host(output: Any) -> NDArray[Any]:
    """A native output as an array."""
    return np.asarray(output.cpu() if isinstance(output, Tensor) else output)
