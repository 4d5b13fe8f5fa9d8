"""Stages: a policy's network as it is deployed, and the one place where a network really stops computing."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from dataclasses import dataclass
from math import inf

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from eesearch.core.design import ABSTAINED, ExitId
from eesearch.core.policy import Criterion, Parameters
from eesearch.nets.backbone import Carry
from eesearch.nets.heads import Head


@dataclass(frozen=True, eq=False)
class Stage:
    """What runs between two decisions: one segment, then what answers. It shares all weights with its network.

    Attributes:
        segment: From the carry of the stage before (at first the raw samples) to the next carry: one module, without
            the cuts at which the policy does not stop. Where the carry came over a link that codes it, the first thing
            it does is to code and restore it.
        head: Reads the tap, the first tensor of the carry; None: that tensor is the logits of the own classifier.
        exit: The exit that answers.
        threshold: A sample leaves iff its score is at least this.
    """

    segment: nn.Module
    head: Head | None
    exit: ExitId
    threshold: float

    @property
    def is_silent(self) -> bool:
        """Whether nothing is said here, and everybody goes on."""
        return self.exit.is_none and self.threshold == inf

    def run(self, carry: Carry) -> tuple[Carry, Tensor]:
        """The next carry, and the logits [N, C] of this stage's exit."""
        carry = self.segment(*carry)
        return carry, carry[0] if self.head is None else self.head(carry[0])


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a network with exits says.

    Attributes:
        answer: Class of each sample; `ABSTAINED` for those that are handed on to a last resort. int64 [N]
        exit: Index into `policy.stops` of the stop where each sample left. int64 [N]
        score: Score with which it left, the last stop's included; NaN at a last resort. float32 [N]
    """

    answer: NDArray[np.int64]
    exit: NDArray[np.int64]
    score: NDArray[np.float32]

    @classmethod
    def join(cls, parts: Sequence[Prediction]) -> Prediction:
        """The predictions of several batches as one."""
        answer, exit_, score = (np.concatenate([getattr(p, name) for p in parts]) for name in cls.__annotations__)
        return cls(answer, exit_, score)


def route(x: Tensor, stages: Sequence[Stage], criterion: Criterion, parameters: Parameters) -> Prediction:
    """Run stage after stage until everybody has left: samples that leave a batch are not computed any further.

    Who passes the last stage's threshold too is handed on: only policies that end in a last resort have one there.

    Args:
        x: Raw samples [N, ...] on the device of the network.
        stages: Of a policy, as `ExitNet.stages` gives them; in eval mode.
        criterion: Scores the answers.
        parameters: Fitted values of each stage, by kind. Each [k, D]
    """
    if len(x) == 1:
        return _route_one(x, stages, criterion, parameters)
    return _route_batch(x, stages, criterion, parameters)


def _known(parameters: Parameters, seen: Sized, number: int) -> Parameters:
    """The rows of the stages that a criterion is shown at stage `number`."""
    return {kind: values[number + 1 - len(seen) : number + 1] for kind, values in parameters.items()}


def _route_one(x: Tensor, stages: Sequence[Stage], criterion: Criterion, parameters: Parameters) -> Prediction:
    """A single sample needs no bookkeeping: on small networks that would cost as much as a segment."""
    carry: Carry = (x,)
    seen: list[Tensor] = []
    for number, stage in enumerate(stages):
        if stage.is_silent and criterion.memory == "last":
            carry = stage.segment(*carry)
            continue
        carry, logits = stage.run(carry)
        seen = [*seen, logits] if criterion.memory == "all" else [logits]
        said, sure = criterion.function(torch.stack(seen), _known(parameters, seen, number))
        score = sure.item()
        if score >= stage.threshold or stage.threshold == -inf:  # also where the score is not a number
            chosen = (logits if criterion.own_answer else said).argmax(-1).item()
            return Prediction(np.array([chosen]), np.array([number]), np.array([score], np.float32))
    return Prediction(np.array([ABSTAINED]), np.array([len(stages)]), np.array([np.nan], np.float32))


def _route_batch(x: Tensor, stages: Sequence[Stage], criterion: Criterion, parameters: Parameters) -> Prediction:
    answer = torch.full((len(x),), ABSTAINED, dtype=torch.int64, device=x.device)
    stop, score = torch.full_like(answer, len(stages)), torch.full((len(x),), torch.nan, device=x.device)
    rows = torch.arange(len(x), device=x.device)  # the samples that are still on their way
    carry: Carry = (x,)
    seen = torch.empty(0)  # [k, n, C]
    for number, stage in enumerate(stages if len(x) else ()):
        if stage.is_silent and criterion.memory == "last":
            carry = stage.segment(*carry)
            continue
        carry, logits = stage.run(carry)
        seen = torch.cat([seen, logits[None]]) if number and criterion.memory == "all" else logits[None]
        said, sure = criterion.function(seen, _known(parameters, seen, number))
        # Where an exit speaks for itself its answer is that of its logits: probabilities may be rounded to a tie.
        chosen = (logits if criterion.own_answer else said).argmax(-1)
        leaves = sure.double() >= stage.threshold  # in double precision, as thresholds are midpoints of scores
        if stage.threshold == -inf:
            leaves = torch.ones_like(leaves)
        gone = rows[leaves]
        answer[gone], stop[gone], score[gone] = chosen[leaves], number, sure[leaves].float()
        if len(gone) == len(rows):
            break
        if len(gone):
            goes_on = ~leaves
            rows, seen = rows[goes_on], seen[:, goes_on]
            carry = tuple(tensor[goes_on] for tensor in carry)
    return Prediction(answer.cpu().numpy(), stop.cpu().numpy(), score.cpu().numpy())
