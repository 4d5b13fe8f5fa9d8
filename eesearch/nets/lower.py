"""Lowering: one stage with its decision as a module of tensors only, for compilers and exporters of graphs."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from eesearch.core.policy import Criterion
from eesearch.nets.backbone import Carry
from eesearch.nets.stages import Stage


class LoweredStage(nn.Module):
    """A stage and its decision: `(carry..., earlier logits...) -> (next carry..., logits, answer, score)`.

    Every tensor has the batch first, so that whoever runs the stages can drop the samples that left from all of them.
    A threshold is no part of it.

    Args:
        stage: In eval mode.
        criterion: What decides.
        parameters: Fitted values of the stops that the criterion looks at, this one last. Each [k, D]
        carried: Number of tensors in the carry that it is given.
        is_last: Then there is no next carry.
    """

    def __init__(
        self, stage: Stage, criterion: Criterion, parameters: Mapping[str, Tensor], *, carried: int, is_last: bool
    ) -> None:
        super().__init__()
        self.segment, self.head = stage.segment, stage.head
        self.criterion = criterion
        self.kinds = tuple(parameters)
        for kind, values in parameters.items():
            self.register_buffer(f"fitted_{kind}", values)
        self.carried, self.is_last = carried, is_last

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """See the class; answer int64 [N], score float32 [N]."""
        carry: Carry = self.segment(*inputs[: self.carried])
        logits = carry[0] if self.head is None else self.head(carry[0])
        seen = torch.stack([*inputs[self.carried :], logits])  # [k, N, C]
        said, score = self.criterion.function(seen, {kind: getattr(self, f"fitted_{kind}") for kind in self.kinds})
        answer = (logits if self.criterion.own_answer else said).argmax(-1)
        return *(() if self.is_last else carry), logits, answer, score


@dataclass(frozen=True, eq=False)
class Lowered:
    """A lowered stage with what it takes and gives.

    Attributes:
        module: In eval mode.
        example: Its inputs, for as many samples as the example has.
        inputs: Their names: `x`; then `carry_<stage>_<i>` of the stage before and `logits_<stage>` of earlier ones.
        outputs: Names of what it gives: `carry_<stage>_<i>`, `logits_<stage>`, `answer`, `score`.
        threshold: A sample leaves iff its score is at least this.
    """

    module: LoweredStage
    example: tuple[Tensor, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    threshold: float


def lower_stages(
    stages: Sequence[Stage], criterion: Criterion, parameters: Mapping[str, Tensor], example: Tensor
) -> tuple[Lowered, ...]:
    """Lower all stages of a policy, in order.

    Args:
        stages: As `ExitNet.stages` gives them; in eval mode.
        criterion: What decides at each.
        parameters: Fitted values, a row per stage. Each [k, D]
        example: Raw samples. [N, ...]
    """
    lowered: list[Lowered] = []
    carry: tuple[Tensor, ...] = (example,)
    names: tuple[str, ...] = ("x",)
    seen: dict[str, Tensor] = {}
    for number, stage in enumerate(stages):
        is_last = number == len(stages) - 1
        first = 0 if criterion.memory == "all" else number
        rows = {kind: values[first : number + 1] for kind, values in parameters.items()}
        module = LoweredStage(stage, criterion, rows, carried=len(carry), is_last=is_last).eval()
        earlier = seen if criterion.memory == "all" else {}
        inputs = (*carry, *earlier.values())
        with torch.no_grad():
            *following, logits, _, _ = module(*inputs)
        onward = tuple(f"carry_{number}_{i}" for i in range(len(following)))
        outputs = (*onward, f"logits_{number}", "answer", "score")
        lowered.append(Lowered(module, inputs, (*names, *earlier), outputs, stage.threshold))
        carry, names = tuple(following), onward
        seen[f"logits_{number}"] = logits
    return tuple(lowered)


@contextmanager
def exporting() -> Iterator[None]:
    """Quiet, and without attention's fused fast path: a graph of it runs nowhere else."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    logger = logging.getLogger("torch")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        torch.backends.mha.set_fastpath_enabled(fast)


def first_cause(error: BaseException) -> str:
    """What torch stumbled over, in one line: its own error is a page of advice about itself."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
