"""The parts of a network with exits whose cost is taken, as they are deployed; each starts from the raw sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from eesearch.core.design import ExitId
from eesearch.core.policy import Criterion, Parameters, decision_named
from eesearch.costs.backends import Backend
from eesearch.exits.learned import parameter_widths
from eesearch.nets.backbone import Backbone, Carry
from eesearch.nets.graphs import NetworkGraph, Piece, as_tuple
from eesearch.nets.heads import Head
from eesearch.nets.lower import LoweredStage
from eesearch.nets.modes import evaluating
from eesearch.nets.stages import Stage


@dataclass(frozen=True, eq=False)
class Part:
    """Segments and what reads the carry behind them; what a back end gets as one module.

    Attributes:
        first: The first segment; 0 reads the raw sample.
        last: The segment before which it ends.
        tail: Takes the carry's tensors one by one: a `HeadTail`, a `DecidedTail`; None: nothing reads it.
    """

    first: int
    last: int
    tail: nn.Module | None = None


class HeadTail(nn.Module):
    """A head behind a carry.

    Args:
        head: Reads the tap, the first tensor.
    """

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head

    def forward(self, *carry: Tensor) -> Tensor:
        """The head's logits. [N, C]"""
        logits: Tensor = self.head(carry[0])
        return logits


class _Tap(nn.Module):
    """The end of a carry, where no segment is left to run."""

    def forward(self, tap: Tensor) -> Carry:
        return (tap,)


class DecidedTail(nn.Module):
    """A head behind a carry, with the decision: `(carry...) -> (logits, answer, score)`, as a stage ends.

    Args:
        head: Reads the tap, the first tensor.
        decision: What decides, as `decision_name` names it. One that looks at all active exits is shown two.
        classes: Number of classes C.
    """

    def __init__(self, head: Head, decision: str, classes: int) -> None:
        super().__init__()
        here = ExitId(network="", cut="", head=head.spec.name)
        criterion = _shown_two(decision_named(decision))
        fitted = {kind: torch.ones(1, width) for kind, width in parameter_widths(classes).items()}
        self.stage = LoweredStage(Stage(_Tap(), head, here, -inf), criterion, fitted, carried=1, is_last=True)

    def forward(self, *carry: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        made: tuple[Tensor, ...] = self.stage(carry[0])
        return made


def _shown_two(decision: Criterion) -> Criterion:
    """A decision that looks at all active exits costs the more the more there are: two are typical."""
    if decision.memory == "last":
        return decision

    def function(logits: Tensor, parameters: Parameters) -> tuple[Tensor, Tensor]:
        twice = {kind: torch.cat([values, values]) for kind, values in parameters.items()}
        return decision.function(torch.cat([logits, logits]), twice)

    return replace(decision, function=function)


@dataclass(frozen=True, eq=False)
class Figure:
    """One figure to measure: what running some parts in a row takes, beyond what running `minus` takes.

    Attributes:
        name: Unique among the figures measured together.
        parts: Each reads the carry that the one before it gives; the first reads the raw sample.
        minus: If given, the figure is a difference (`timer.time_call`).
        decides: Whether the host then looks at the score, the last part's last output, and keeps the answer before it.
    """

    name: str
    parts: tuple[Part, ...]
    minus: tuple[Part, ...] = ()
    decides: bool = False


@dataclass(frozen=True, eq=False)
class Prepared:
    """A part as a back end wants it.

    Attributes:
        form: What the back end's `prepare` makes.
        args: Example inputs.
    """

    form: Any
    args: tuple[Tensor, ...]


Prepare = Callable[[Part, int], Prepared]
"""A part, for calls with so many samples."""


def preparing(backbone: Backbone, backend: Backend) -> Prepare:
    """How parts are prepared for a back end; each part once, and a network that becomes a graph is exported once.

    Args:
        backbone: On the CPU; it is in eval mode meanwhile.
        backend: What will run them.

    Raises:
        ModelError: (by the function) the back end cannot take a part.
    """
    graph = NetworkGraph(backbone)
    forms: dict[Any, Any] = {}
    carries: dict[int, Sequence[Carry]] = {}

    def prepared(part: Part, samples: int) -> Prepared:
        piece = Piece(backbone, part.first, part.last, part.tail)
        with evaluating(backbone), evaluating(piece):
            if samples not in carries:
                carries[samples] = _carries(backbone, samples)
            args = carries[samples][part.first]
            key = part.first, part.last, part.tail, 0 if backend.batches else samples
            if key not in forms and backend.form == "onnx":
                forms[key] = graph.piece(part.first, part.last, part.tail)
            elif key not in forms:
                forms[key] = backend.prepare(piece, args)
        return Prepared(forms[key], args)

    return prepared


def _carries(backbone: Backbone, samples: int) -> Sequence[Carry]:
    """Before every segment, and behind the last."""
    carries: list[Carry] = [(torch.cat([backbone.example] * samples),)]
    with torch.no_grad():
        for segment in backbone.segments:
            carries.append(as_tuple(segment(*carries[-1])))
    return carries
