"""The parts of a network with exits whose cost is taken, each as a module that starts from the raw sample."""

from __future__ import annotations

from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from eesearch.core.policy import Criterion
from eesearch.core.registry import CRITERIA
from eesearch.nets.exitnet import ExitNet, Stage
from eesearch.nets.heads import Head
from eesearch.nets.split import Backbone, Carry


class Span(nn.Module):
    """One segment, from carry to carry; the first one starts from the raw sample, the last one gives the logits.

    Args:
        backbone: Whose segment.
        segment: Its index.
    """

    def __init__(self, backbone: Backbone, segment: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.segment = segment

    def forward(self, *carry: Tensor) -> Carry:
        """Run the segment; the logits come as a tuple of one."""
        if self.segment == 0:
            carry = self.backbone.start(*carry)
        carry = self.backbone.run(carry, self.segment, self.segment + 1)
        if self.segment == len(self.backbone.segments) - 1:
            return (self.backbone.output(carry),)
        return carry


class Prefix(nn.Module):
    """From the input to a cut, or to the output, in one call.

    Args:
        backbone: The network.
        cut: Index of the cut; the number of cuts for the output.
    """

    def __init__(self, backbone: Backbone, cut: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.cut = cut

    def forward(self, x: Tensor) -> Any:
        """Raw sample to the carry at the cut, or to the logits."""
        carry = self.backbone.run(self.backbone.start(x), 0, self.cut + 1)
        return carry if self.cut < len(self.backbone.cuts) else self.backbone.output(carry)


class InPlace(nn.Module):
    """A prefix and a head on it, without any decision.

    Args:
        backbone: The network.
        cut: Index of the cut.
        head: What reads there.
    """

    def __init__(self, backbone: Backbone, cut: int, head: Head) -> None:
        super().__init__()
        self.backbone = backbone
        self.cut = cut
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Raw sample to the head's logits."""
        carry = self.backbone.run(self.backbone.start(x), 0, self.cut + 1)
        logits: Tensor = self.head(self.backbone.tap(self.cut, carry))
        return logits


class Decided(nn.Module):
    """A prefix, its head, and all that the network with exits does to leave there: score, compare, keep the answer.

    Args:
        place: The prefix and its head.
        criterion: Name of the criterion that decides.
    """

    temperature: Tensor

    def __init__(self, place: InPlace, criterion: str) -> None:
        super().__init__()
        cut = place.backbone.cuts[place.cut].name
        self.net = ExitNet(place.backbone, {(cut, place.head.spec.name): place.head})
        self.criterion: Criterion = CRITERIA[criterion]
        self.stages = (Stage(0, place.cut + 1, self.net.exits[0], place.head, place.cut, -inf),)
        self.register_buffer("temperature", torch.ones(1, 1))

    def forward(self, x: Tensor) -> Any:
        """Raw sample to its answer."""
        return self.net.route(x, self.stages, self.criterion, self.temperature)


class Resumed(nn.Module):
    """A prefix in two calls with a stop at a cut in between, as stages are run.

    Args:
        backbone: The network.
        stop: Index of the cut in between.
        cut: Index of the cut where the prefix ends; the number of cuts for the output.
    """

    def __init__(self, backbone: Backbone, stop: int, cut: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.stop = stop
        self.cut = cut

    def forward(self, x: Tensor) -> Any:
        """Raw sample to the carry at the cut, or to the logits."""
        carry = self.backbone.run(self.backbone.start(x), 0, self.stop + 1)
        carry = self.backbone.run(carry, self.stop + 1, self.cut + 1)
        return carry if self.cut < len(self.backbone.cuts) else self.backbone.output(carry)
