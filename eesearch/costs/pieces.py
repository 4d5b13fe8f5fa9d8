"""The parts of a network with exits whose cost is taken, as they are deployed; each starts from the raw sample."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from eesearch.core.design import ExitId
from eesearch.core.policy import Criterion, Parameters, decision_named
from eesearch.exits.learned import parameter_widths
from eesearch.nets.backbone import Backbone, Carry
from eesearch.nets.heads import Head
from eesearch.nets.stages import Stage, route


class InPlace(nn.Module):
    """A prefix and a head on it, without any decision.

    Args:
        backbone: The network.
        cut: Index of the cut.
        head: What reads there.
    """

    def __init__(self, backbone: Backbone, cut: int, head: Head) -> None:
        super().__init__()
        self.cut, self.classes = cut, backbone.classes
        self.prefix = backbone.span(0, cut + 1)
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Raw sample to the head's logits."""
        logits: Tensor = self.head(self.prefix(x)[0])
        return logits


class Decided(nn.Module):
    """A prefix, its head, and all that the network with exits does to leave there: score, compare, keep the answer.

    Args:
        place: The prefix and its head.
        decision: What decides, as `decision_name` names it. One that looks at all active exits is shown two.
    """

    def __init__(self, place: InPlace, decision: str) -> None:
        super().__init__()
        self.place = place
        self.decision = _shown_two(decision_named(decision))
        here = ExitId(network="", cut=str(place.cut), head=place.head.spec.name)
        self.stages = (Stage(place.prefix, place.head, here, -inf),)
        self.fitted = {kind: torch.ones(1, width) for kind, width in parameter_widths(place.classes).items()}

    def forward(self, x: Tensor) -> Any:
        """Raw sample to its answer."""
        return route(x, self.stages, self.decision, self.fitted)


def _shown_two(decision: Criterion) -> Criterion:
    """A decision that looks at all active exits costs the more the more there are: two are typical."""
    if decision.memory == "last":
        return decision

    def function(logits: Tensor, parameters: Parameters) -> tuple[Tensor, Tensor]:
        twice = {kind: torch.cat([values, values]) for kind, values in parameters.items()}
        return decision.function(torch.cat([logits, logits]), twice)

    return replace(decision, function=function)


class Resumed(nn.Module):
    """A prefix as two stages, with a stop at a cut in between.

    Args:
        backbone: The network.
        stop: Index of the cut in between.
        cut: Index of the cut where the prefix ends; the number of cuts for the output.
    """

    def __init__(self, backbone: Backbone, stop: int, cut: int) -> None:
        super().__init__()
        self.stop = stop
        self.before = backbone.span(0, stop + 1)
        self.after = backbone.span(stop + 1, cut + 1)

    def forward(self, x: Tensor) -> Carry:
        """Raw sample to the carry at the cut; to the logits, as a tuple of one, at the output."""
        carry: Carry = self.after(*self.before(x))
        return carry
